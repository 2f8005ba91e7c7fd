import 'reflect-metadata';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { assert, type Bed, type Check, Skipped } from './check.ts';
import type { X509BundlesResponse, X509Svid, X509SvidResponse } from './client.ts';
import { quiet } from './endpoint-checks.ts';

const spiffeId = /^spiffe:\/\/[a-z0-9._-]{1,255}(\/[A-Za-z0-9._-]+)+$/;
const trustDomain = /^spiffe:\/\/[a-z0-9._-]{1,255}$/;
const serverAuth = '1.3.6.1.5.5.7.3.1';
const clientAuth = '1.3.6.1.5.5.7.3.2';

const fetched = ({ client }: Bed) => client.first<X509SvidResponse>('FetchX509SVID');

/** Runs for each SVID, so that the message says which one fails. */
async function eachSvid(bed: Bed, check: (svid: X509Svid) => void): Promise<void> {
  for (const svid of (await fetched(bed)).svids) check(svid);
}

/** Certificates one after the other in DER. */
function certificates(der: Buffer): X509Certificate[] {
  const found: X509Certificate[] = [];
  for (let rest = der; rest.length > 0; rest = rest.subarray(found.at(-1)?.raw.length)) {
    // Asks only for the length of the first element.
    assert.equal(rest[0], 0x30, 'not a SEQUENCE');
    const long = (rest[1] ?? 0) & 0x7f;
    const length = (rest[1] ?? 0) < 0x80 ? long + 2 : rest.readUIntBE(2, long) + 2 + long;
    found.push(new X509Certificate(rest.subarray(0, length)));
  }
  assert.ok(found.length > 0, 'no certificate');
  return found;
}

function first<T>(of: readonly T[]): T {
  const [one] = of;
  assert.ok(one !== undefined, 'nothing there');
  return one;
}

function urisOf(certificate: X509Certificate): string[] {
  return (certificate.subjectAltName ?? '')
    .split(', ')
    .flatMap((name) => (name.startsWith('URI:') ? [name.slice(4)] : []));
}

function keyUsageOf(certificate: X509Certificate): { flags: number; critical: boolean } {
  const found = new x509.X509Certificate(certificate.raw).getExtension(x509.KeyUsagesExtension);
  assert.ok(found, 'no key usage');
  return { flags: found.usages, critical: found.critical };
}

function domainOf(id: string): string {
  return id.split('/').slice(0, 3).join('/');
}

/** False also for a key of another kind than the signature's. */
function isSignedBy(list: x509.X509Crl, ca: X509Certificate): Promise<boolean> {
  const publicKey = new x509.PublicKey(ca.publicKey.export({ type: 'spki', format: 'der' }));
  return list.verify({ publicKey }).catch(() => false);
}

export const x509Checks: Check[] = [
  {
    id: 'x509-first-message',
    cites: 'WA §4.3',
    title: 'the first message comes without delay (1 s)',
    run: async ({ client }) => {
      const stream = client.stream('FetchX509SVID');
      await stream.next(1000);
      stream.cancel();
    },
  },
  {
    id: 'x509-mandatory-fields',
    cites: 'WA §5.2.1',
    title: 'at least one SVID; spiffe_id, x509_svid, x509_svid_key and bundle are not empty',
    run: async (bed) => {
      assert.ok((await fetched(bed)).svids.length > 0, 'no SVID');
      await eachSvid(bed, (svid) => {
        for (const field of ['spiffe_id', 'x509_svid', 'x509_svid_key', 'bundle'] as const)
          assert.ok(svid[field].length > 0, `${field} is empty`);
      });
    },
  },
  {
    id: 'x509-spiffe-id',
    cites: 'I §2; X §2, §3.1',
    title:
      'spiffe_id is a SPIFFE ID with a path, and the only URI of the leaf; critical where the subject is empty',
    run: (bed) =>
      eachSvid(bed, (svid) => {
        assert.match(svid.spiffe_id, spiffeId);
        assert.ok(svid.spiffe_id.length <= 2048);
        const leaf = first(certificates(svid.x509_svid));
        assert.deepEqual(urisOf(leaf), [svid.spiffe_id]);
        const names = new x509.X509Certificate(leaf.raw).getExtension(x509.SubjectAlternativeNameExtension);
        assert.ok(leaf.subject || names?.critical, 'names of an empty subject are not critical');
      }),
  },
  {
    id: 'x509-chain',
    cites: 'WA §5.1 (x509_svid); X §5.1',
    title: 'the leaf is first, each certificate is issued by the next, and the last by one of the bundle',
    run: (bed) =>
      eachSvid(bed, (svid) => {
        const chain = certificates(svid.x509_svid);
        const bundle = certificates(svid.bundle);
        for (const [index, one] of chain.entries()) {
          const above = chain[index + 1] === undefined ? bundle : [chain[index + 1] as X509Certificate];
          const isIssued = above.some((ca) => one.checkIssued(ca) && one.verify(ca.publicKey));
          assert.ok(
            isIssued || bundle.some((root) => root.raw.equals(one.raw)),
            `certificate ${index} is not`,
          );
        }
      }),
  },
  {
    id: 'x509-key',
    cites: 'WA §5.1 (x509_svid_key)',
    title: 'the key is PKCS#8, not encrypted, and the key of the leaf',
    run: (bed) =>
      eachSvid(bed, (svid) => {
        const key = createPrivateKey({ key: svid.x509_svid_key, format: 'der', type: 'pkcs8' });
        const own = createPublicKey(key).export({ type: 'spki', format: 'der' });
        const leaf = first(certificates(svid.x509_svid)).publicKey.export({ type: 'spki', format: 'der' });
        assert.deepEqual(own, leaf);
      }),
  },
  {
    id: 'x509-leaf-profile',
    cites: 'X §4.1, §4.3, §4.4, App. A',
    title:
      'the leaf is no CA; key usage is critical, with digitalSignature, without keyCertSign and cRLSign; both EKUs or none',
    run: (bed) =>
      eachSvid(bed, (svid) => {
        const leaf = first(certificates(svid.x509_svid));
        const { flags, critical } = keyUsageOf(leaf);
        assert.equal(leaf.ca, false);
        assert.ok(critical, 'key usage is not critical');
        assert.ok(flags & x509.KeyUsageFlags.digitalSignature, 'no digitalSignature');
        assert.equal(flags & (x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign), 0);
        const usages = leaf.keyUsage ?? [];
        assert.ok(
          usages.length === 0 || [serverAuth, clientAuth].every((one) => usages.includes(one)),
          usages.join(),
        );
      }),
  },
  {
    id: 'x509-signing-profile',
    cites: 'X §3.2, §4.1, §4.3',
    title: 'signing certificates are CAs with keyCertSign, and their SPIFFE ID, if any, has no path',
    run: (bed) =>
      eachSvid(bed, (svid) => {
        const [, ...issuers] = certificates(svid.x509_svid);
        for (const one of [...issuers, ...certificates(svid.bundle)]) {
          assert.equal(one.ca, true, 'not a CA');
          assert.ok(keyUsageOf(one).flags & x509.KeyUsageFlags.keyCertSign, 'no keyCertSign');
          assert.ok(
            urisOf(one).every((uri) => trustDomain.test(uri)),
            urisOf(one).join(),
          );
        }
      }),
  },
  {
    id: 'x509-valid-now',
    cites: 'X §5.1',
    title: 'every certificate is valid now',
    run: (bed) =>
      eachSvid(bed, (svid) => {
        for (const one of [...certificates(svid.x509_svid), ...certificates(svid.bundle)]) {
          assert.ok(
            one.validFromDate.getTime() <= Date.now() && Date.now() <= one.validToDate.getTime(),
            one.validTo,
          );
        }
      }),
  },
  {
    id: 'x509-hints',
    cites: 'WA §5.2.1',
    title: 'hints are unique in a response and have at most 1024 bytes',
    differs: 'in SPIRE the oldest entry wins; Vouch serves those after it without the hint',
    run: async (bed) => {
      const hints = (await fetched(bed)).svids.map(({ hint }) => hint).filter((hint) => hint !== '');
      assert.equal(new Set(hints).size, hints.length, hints.join());
      assert.ok(hints.every((hint) => Buffer.byteLength(hint) <= 1024));
    },
  },
  {
    id: 'x509-crl',
    cites: 'WA §5.1 (crl)',
    title: 'each CRL is one, current, and signed by an authority of the response',
    differs: 'SPIRE has no CRLs and leaves the field empty',
    run: async (bed) => {
      const { crl, svids } = await fetched(bed);
      if (crl.length === 0) throw new Skipped('the optional field is empty');
      const cas = svids.flatMap((svid) => [
        ...certificates(svid.x509_svid).slice(1),
        ...certificates(svid.bundle),
      ]);
      for (const der of crl) {
        const list = new x509.X509Crl(der);
        assert.ok(list.nextUpdate === undefined || list.nextUpdate.getTime() > Date.now(), 'out of date');
        const signed = await Promise.all(cas.map((ca) => isSignedBy(list, ca)));
        assert.ok(signed.includes(true), `${list.issuer} signed none of it`);
      }
    },
  },
  {
    id: 'x509-federated',
    cites: 'WA §4.6, §5.1',
    title: 'federated bundles are of other trust domains, by their SPIFFE IDs',
    run: async (bed) => {
      const { federated_bundles: foreign, svids } = await fetched(bed);
      if (Object.keys(foreign).length === 0) throw new Skipped('there are none');
      for (const [id, der] of Object.entries(foreign)) {
        assert.match(id, trustDomain);
        assert.ok(
          svids.every((svid) => domainOf(svid.spiffe_id) !== id),
          `${id} is its own`,
        );
        certificates(der);
      }
    },
  },
  {
    id: 'x509-default-identity',
    cites: 'WA §8 (Default Identity)',
    title: 'the first identity is the same each time',
    run: async (bed) => {
      const [one, other] = [await fetched(bed), await fetched(bed)];
      assert.equal(first(one.svids).spiffe_id, first(other.svids).spiffe_id);
    },
  },
  {
    id: 'x509-no-bursts',
    cites: 'WA §4.3',
    title: 'without an event the stream stays open and says nothing (2 s)',
    run: async ({ client }) => {
      const streams = [client.stream('FetchX509SVID'), client.stream('FetchX509Bundles')];
      await Promise.all(streams.map((one) => one.next()));
      await Promise.all(streams.map((one) => quiet(one, 2000)));
      for (const one of streams) one.cancel();
    },
  },
  {
    id: 'x509-bundles',
    cites: 'WA §5.2.2',
    title: 'FetchX509Bundles has the bundle of our own trust domain, the same as with the SVID',
    run: async (bed) => {
      const { bundles } = await bed.client.first<X509BundlesResponse>('FetchX509Bundles');
      for (const id of Object.keys(bundles)) assert.match(id, trustDomain);
      await eachSvid(bed, (svid) => assert.deepEqual(bundles[domainOf(svid.spiffe_id)], svid.bundle));
    },
  },
  {
    id: 'x509-bundles-crl',
    cites: 'WA §5.1 (crl)',
    title: 'FetchX509Bundles has the same CRLs as FetchX509SVID',
    differs: 'SPIRE leaves both empty',
    run: async (bed) => {
      const { crl } = await bed.client.first<X509BundlesResponse>('FetchX509Bundles');
      assert.deepEqual(crl, (await fetched(bed)).crl);
    },
  },
  {
    id: 'x509-rotation',
    cites: 'WA §4.3, §5.2.1',
    title: 'after a rotation every open stream is told the full state again, once',
    run: async ({ client, rotate }) => {
      if (rotate === undefined) throw new Skipped('needs --rotate COMMAND');
      const streams = Array.from({ length: 5 }, () => client.stream<X509SvidResponse>('FetchX509SVID'));
      const before = await Promise.all(streams.map((one) => one.next()));
      await rotate();
      const after = await Promise.all(streams.map((one) => one.next(60_000)));
      for (const [index, message] of after.entries()) {
        const old = before[index];
        assert.deepEqual(
          message.svids.map((svid) => svid.spiffe_id),
          old?.svids.map((svid) => svid.spiffe_id),
        );
        assert.notDeepEqual(message.svids, old?.svids);
        assert.ok(message.svids.every((svid) => svid.bundle.length > 0 && svid.x509_svid_key.length > 0));
        assert.deepEqual(message, after[0]);
      }
      for (const one of streams) {
        await quiet(one, 300);
        one.cancel();
      }
    },
  },
];
