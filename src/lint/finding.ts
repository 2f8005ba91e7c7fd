/** One rule that an artefact breaks. */
export interface Finding {
  /** The rule's name, as its file's. */
  rule: string;
  /** What is wrong, safe to show. */
  detail: string;
  /** The standard or invariant that demands it. */
  citation: string;
}

/** One rule: its name, where it comes from, and what in an artefact breaks it (nothing: empty). */
export interface Rule<Artefact, Context> {
  name: string;
  citation: string;
  check: (artefact: Artefact, context: Context) => readonly string[];
}

/** Every finding of every rule. */
export function runRules<Artefact, Context>(
  rules: readonly Rule<Artefact, Context>[],
  artefact: Artefact,
  context: Context,
): Finding[] {
  return rules.flatMap(({ name, citation, check }) =>
    check(artefact, context).map((detail) => ({ rule: name, detail, citation })),
  );
}
