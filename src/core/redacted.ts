/** What an operator pasted in the wrong place: a join token reads `vjt_…`, the line of a join file `vouch1.…`. */
const secretForms = /\b(vjt_|vouch1\.)[\w-]+/g;

/** Text without the join tokens and join lines in it, for logs and messages (I8). */
export function redacted(text: string): string {
  return text.replaceAll(secretForms, '$1[redacted]');
}
