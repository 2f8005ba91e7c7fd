/**
 * Decodes standard base64 with padding, refusing every other spelling of the same bytes (white space, missing
 * padding, stray bits), which `Buffer.from` lets pass. Undefined where refused.
 */
export function decodeBase64(text: string): Buffer | undefined {
  return decodeExactly(text, 'base64');
}

/** The same for base64url without padding (RFC 7515 §2). */
export function decodeBase64Url(text: string): Buffer | undefined {
  return decodeExactly(text, 'base64url');
}

function decodeExactly(text: string, encoding: 'base64' | 'base64url'): Buffer | undefined {
  const bytes = Buffer.from(text, encoding);
  return bytes.toString(encoding) === text ? bytes : undefined;
}
