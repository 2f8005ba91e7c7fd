import { canonicalJson } from '../core/canonical-json.ts';
import { VouchError } from '../core/errors.ts';
import { verifyDetachedJws } from '../log/root-jws.ts';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import { type Transcript, transcriptSchema } from '../wire/ceremony.ts';

/** `typ` of the JWS that signs a transcript. */
export const transcriptTyp = 'vouch-transcript+jwt';

/** Room for the certificates of 16 issuers and everybody's name; a leaf of the log, which holds one, has 65,535. */
const transcriptMaxBytes = 40_000;

/** The bytes of transcript.json: canonical JSON in UTF-8, no line end. Throws `config-invalid` where it is too long for a leaf. */
export function encodeTranscript(transcript: Transcript): Buffer {
  const bytes = Buffer.from(canonicalJson(transcript), 'utf8');
  if (bytes.length > transcriptMaxBytes)
    throw new VouchError(
      'config-invalid',
      `the transcript would be larger than ${transcriptMaxBytes} bytes: shorten the names`,
    );
  return bytes;
}

/** Reads transcript.json: one encoding only, unknown members refused. Verifies nothing. Throws `integrity-signature`. */
function parseTranscript(bytes: Buffer): Transcript {
  const refuse = (cause?: unknown): never => {
    throw new VouchError('integrity-signature', 'the transcript is not one that a ceremony writes', {
      cause,
    });
  };
  if (bytes.length > transcriptMaxBytes) refuse();
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    return refuse(cause);
  }
  const parsed = transcriptSchema.safeParse(value);
  if (!parsed.success) return refuse(parsed.error);
  if (!Buffer.from(canonicalJson(parsed.data), 'utf8').equals(bytes)) refuse();
  return parsed.data;
}

/** Reads a transcript and checks the root's signature over it. Throws `integrity-signature`. */
export function openTranscript(
  bytes: Buffer,
  jws: string,
  root: { spki: Buffer; algorithm: SignatureAlgorithm },
): Transcript {
  const transcript = parseTranscript(bytes);
  verifyDetachedJws(jws, bytes, { ...root, typ: transcriptTyp }, 'the transcript');
  return transcript;
}
