/** A tree head signed by the log key: C2SP tlog-checkpoint in a C2SP signed note. */
export interface Checkpoint {
  origin: string;
  treeSize: number;
  /** 32 bytes. */
  rootHash: Buffer;
  /** The whole signed note, text. */
  note: string;
}
