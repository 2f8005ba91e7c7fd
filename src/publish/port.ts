/** What is published at a path. */
export interface PublishedDocument {
  /** All of it, in order; never changed. */
  chunks: readonly Buffer[];
  contentType: string;
  /**
   * Rises with each newer one of the same path: the number of a CRL, the sequence of a bundle. Where it is, a target never
   * goes back to a lower one. Undefined for what has no order: the last one that is put stays.
   */
  version?: bigint | undefined;
}

/** A place that others serve from: it holds under each path what our own listener serves there. */
export interface PublishTarget {
  /** As an operator knows it; no secrets. */
  readonly name: string;
  /** How many documents may be put at once. */
  readonly atOnce: number;
  /**
   * Puts a document in the place of the one that is there: whole or not at all, durable once this resolves, and never in the
   * place of one with a higher version, whoever put that; then it resolves, too. `path` begins with a slash. Rejects with
   * `unavailable-server` where it may work later, `config-…` where an operator must act.
   */
  put(path: string, document: PublishedDocument, signal: AbortSignal): Promise<void>;
}
