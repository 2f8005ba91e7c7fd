import * as z from 'zod/mini';

/** Standard base64 with padding, as JSON carries DER; `maxBytes` bounds the decoded size. */
export function base64Bytes(maxBytes: number) {
  return z.pipe(
    z
      .string()
      .check(
        z.maxLength(Math.ceil(maxBytes / 3) * 4),
        z.regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/),
      ),
    z.transform((text: string) => Buffer.from(text, 'base64')),
  );
}
