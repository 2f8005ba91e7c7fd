import { hash } from 'node:crypto';
import type { LogKey } from '../log/note.ts';
import type { Head } from './log-head.ts';
import type { FloorFile } from './state-files.ts';
import type { Problems } from './verification.ts';

/** A signer's floor as a head that the log must reach, where it is of this log. */
export function floorHead(
  { what, text }: FloorFile,
  logKeys: readonly LogKey[] | undefined,
  problems: Problems,
): Head | undefined {
  if (text === undefined) {
    problems.add(`${what} is missing: the signer cannot know that this state is the newest`);
    return undefined;
  }
  const floor = problems.attempt(`${what} is malformed`, () => JSON.parse(text) as Partial<FloorJson>);
  if (!floor) return undefined;
  const { origin, logKeySha256, treeSize, rootHash } = floor;
  if (typeof treeSize !== 'number' || typeof rootHash !== 'string') {
    problems.add(`${what} is malformed`);
    return undefined;
  }
  const isKnown = ({ name, publicKeySpki }: LogKey): boolean =>
    origin === name && logKeySha256 === hash('sha256', publicKeySpki, 'hex');
  if (logKeys && !logKeys.some(isKnown)) {
    problems.add(`${what} is of another log than the one that the root's statement names`);
    return undefined;
  }
  return { what, treeSize, rootHash: Buffer.from(rootHash, 'hex') };
}

/** What the signer writes of the tree that it signed last. */
interface FloorJson {
  origin: string;
  logKeySha256: string;
  treeSize: number;
  /** Hex. */
  rootHash: string;
}
