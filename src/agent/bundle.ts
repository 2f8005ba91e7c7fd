import { VouchError } from '../core/errors.ts';
import { parseTrustDomain, type TrustDomain } from '../core/spiffe-id.ts';
import { type BundleJson, bundleSchema, enrollmentPaths } from '../wire/enrollment.ts';
import { parseServerUrl, pinGrammar } from '../wire/join-file.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { encodePem } from '../x509/pem.ts';
import { verifyBundle } from './answer.ts';
import { type ConnectionParts, connectServer, learnRoot } from './connection.ts';
import { replaceFile } from './deliver/durable-file.ts';
import { exchange } from './exchange.ts';
import { bootBackoff, withRetries } from './retry.ts';

/** What `vouch bundle fetch` prints. */
export interface FetchedBundle {
  trustDomain: TrustDomain;
  sequence: number;
  roots: number;
  out: string;
}

/**
 * Fetches the trust bundle for a mere verifier, which has no certificate: over two connections as in an enrollment,
 * checked by the pin and by the root's statement. `out` gets PEM, or the SPIFFE bundle where it ends in `.json`.
 */
export async function fetchBundle(
  options: { url: string; pin: string; out: string; timeoutMs: number },
  parts: ConnectionParts & { notice: (line: string) => void },
): Promise<FetchedBundle> {
  const { pin, out } = options;
  if (!pinGrammar.test(pin))
    throw new VouchError(
      'usage-invalid',
      '--pin takes sha256: and 64 hex digits, as `vouch status` shows it',
    );
  const server = serverOf(options.url);
  const { bundle, trustDomain, roots } = await withRetries(() => fetchOnce(server, pin, parts), {
    backoff: bootBackoff,
    deadlineMs: parts.clock.monotonicMs() + options.timeoutMs,
    monotonicMs: () => parts.clock.monotonicMs(),
    signal: parts.signal,
    failed: (error, pause) => parts.notice(`${error.detail}; trying again in ${(pause / 1000).toFixed(1)} s`),
  });
  const content = out.endsWith('.json')
    ? `${JSON.stringify(bundle, undefined, 2)}\n`
    : roots.map((der) => encodePem('CERTIFICATE', der)).join('');
  await replaceFile(out, content, 0o644);
  return { trustDomain, sequence: bundle.spiffe_sequence, roots: roots.length, out };
}

async function fetchOnce(
  server: string,
  pin: string,
  parts: ConnectionParts,
): Promise<{ bundle: BundleJson; trustDomain: TrustDomain; roots: Buffer[] }> {
  const root = await learnRoot({ server, pin }, parts);
  const address = { server, pin, trustDomain: trustDomainOfRoot(root) };
  const socket = await connectServer(address, root, parts);
  const json = await exchange(socket, server, { method: 'GET', path: enrollmentPaths.bundle }, parts);
  const parsed = bundleSchema.safeParse(json);
  if (!parsed.success) throw new VouchError('denied-server', `what ${server} serves is no trust bundle`);
  const seen = { statement: 0, bundle: 0 };
  const { roots } = verifyBundle(parsed.data, { address, root, seen, nowMs: parts.clock.now() });
  return { bundle: parsed.data, trustDomain: address.trustDomain, roots };
}

/** The pin names the root, and the root's own certificate the trust domain. */
function trustDomainOfRoot(root: Buffer): TrustDomain {
  const [uri = ''] = parseCertificate(root).uris;
  if (!uri.startsWith('spiffe://'))
    throw new VouchError('denied-server', 'the root does not say its trust domain');
  return parseTrustDomain(uri.slice('spiffe://'.length));
}

/** The enrollment URL, also as the bundle's own; the publication URL is plain HTTP and proves nothing. */
function serverOf(url: string): string {
  try {
    return parseServerUrl(url.replace(/\/v1\/bundle\/?$/, '').replace(/\/+$/, ''));
  } catch (cause) {
    throw new VouchError('usage-invalid', '--url takes the enrollment URL, https://host:port', { cause });
  }
}
