import { assert, VouchError } from '../core/errors.ts';

/** A CRL of a million entries, as PEM. */
const pemMaxLength = 128 * 1024 * 1024;

const begin = '-----BEGIN ';

/** Whole lines, of 48 bytes each. */
const partBytes = 48 * 512;

/** One PEM block (RFC 7468): label, base64 in lines of 64 characters, a final newline. */
export function encodePem(label: string, der: Uint8Array): string {
  return [...encodePemParts(label, der)].join('');
}

/** The same in parts of a millisecond or less each, for what is large. */
export function* encodePemParts(label: string, der: Uint8Array): Generator<string> {
  assert(/^[A-Z0-9]+(?: [A-Z0-9]+)*$/.test(label), 'PEM label');
  const bytes = Buffer.isBuffer(der) ? der : Buffer.from(der.buffer, der.byteOffset, der.byteLength);
  yield `-----BEGIN ${label}-----\n`;
  for (let at = 0; at < bytes.length; at += partBytes)
    yield bytes.toString('base64', at, at + partBytes).replace(/.{1,64}/g, '$&\n');
  yield `${bytes.length === 0 ? '\n' : ''}-----END ${label}-----\n`;
}

/**
 * DER of each block with this label, in order; blocks of other labels are passed over. Strict: each block must be
 * exactly what `encodePem` writes (CRLF and a missing last newline allowed), only blank lines and lines that begin
 * with `#` may stand between blocks. Linear in the text. Throws `request-malformed`, also where there is no such block.
 */
export function decodePem(text: string, label: string): Buffer[] {
  if (text.length > pemMaxLength) refuse(`larger than ${pemMaxLength} bytes`);
  const lf = text.includes('\r') ? text.replaceAll('\r\n', '\n') : text;
  const found: Buffer[] = [];
  let at = 0;
  for (;;) {
    const start = lf.indexOf(begin, at);
    checkBetween(start < 0 ? lf.slice(at) : lf.slice(at, start));
    if (start < 0) break;
    if (start > 0 && lf[start - 1] !== '\n') refuse('a BEGIN line does not begin its line');
    const block = readBlock(lf, start);
    if (block.label === label) found.push(block.der);
    at = block.end;
  }
  if (found.length === 0) refuse(`it has no ${label} block`);
  return found;
}

function readBlock(text: string, start: number): { label: string; der: Buffer; end: number } {
  const lineEnd = text.indexOf('\n', start);
  const firstLine = text.slice(start, lineEnd < 0 ? start : Math.min(lineEnd, start + 100));
  const label =
    /^-----BEGIN ([A-Z0-9]+(?: [A-Z0-9]+)*)-----$/.exec(firstLine)?.[1] ?? refuse('a BEGIN line is damaged');
  const endLine = `\n-----END ${label}-----`;
  const bodyEnd = text.indexOf(endLine, lineEnd);
  if (bodyEnd < 0) refuse(`the ${label} block has no END line`);
  const end = bodyEnd + endLine.length;
  const der = Buffer.from(text.slice(lineEnd + 1, bodyEnd), 'base64');
  if (end < text.length && text[end] !== '\n') refuse(`the ${label} block's END line goes on`);
  if (der.length === 0 || encodePem(label, der) !== `${text.slice(start, end)}\n`)
    refuse(`the ${label} block is not base64 in lines of 64 characters`);
  return { label, der, end };
}

function checkBetween(text: string): void {
  for (const line of text.split('\n'))
    if (line.trim() !== '' && !line.startsWith('#')) refuse('there is text outside of its blocks');
}

function refuse(why: string): never {
  throw new VouchError('request-malformed', `not valid PEM: ${why}`);
}
