import type { Json } from '../core/canonical-json.ts';

/** Where the signer and its supervisor say what happens; never a secret among the fields. */
export type SignerLog = (
  level: 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, Json>>,
) => void;

/** The signer process's own log: one JSON object a line on stderr, which the supervisor hands on. */
export const stderrLog: SignerLog = (level, message, fields) => {
  process.stderr.write(`${JSON.stringify({ level, message, ...fields })}\n`);
};
