import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { onTestFinished } from 'vitest';
import { DeliverTargets, type TargetStatus } from '../../../src/agent/deliver/targets.ts';
import type { Served, Svid, Trust, Withheld } from '../../../src/agent/workloads.ts';
import { deliverSchema } from '../../../src/config/deliver-config.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { parseSpiffeId, parseTrustDomain } from '../../../src/core/spiffe-id.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { keyIdOf } from '../../../src/x509/public-key.ts';
import { ecKey, trustDomain, workloadId } from '../../x509/authority.ts';
import { CurrentAuthority } from '../../x509/oracle-tools.ts';
import { eventually } from '../../support/running.ts';

/** What an agent serves, made with software keys and valid now. */
export class FakeServed {
  readonly authority: CurrentAuthority;
  #crlNumber = BigInt(Date.now());

  constructor(authority = new CurrentAuthority()) {
    this.authority = authority;
  }

  /** One more certificate, with a key of its own. */
  svid(over: Partial<Svid> = {}): Svid {
    const key = ecKey();
    const spiffeId = over.spiffeId ?? parseSpiffeId(workloadId);
    const { issuer } = this.authority;
    const names = { uris: [spiffeId], dnsNames: ['localhost'] };
    const leaf = this.authority.leaf({ spki: key.info.spki, subjectKeyId: key.info.keyId, ...names });
    const { serial, notBeforeMs, notAfterMs } = parseCertificate(leaf);
    return {
      entryId: 'e_0000000000000001',
      entryVersion: 1,
      spiffeId,
      hint: '',
      chain: [leaf, issuer.der],
      keyPkcs8: key.privateKey.export({ format: 'der', type: 'pkcs8' }),
      serial,
      notBeforeMs,
      notAfterMs,
      issuerKeyId: keyIdOf(issuer.key.info.spki),
      proof: { index: 7, treeSize: 8, time: 0, context: '00'.repeat(32), path: [], checkpoint: 'x' },
      selectors: ['unix:uid:1'],
      allowedClients: ['spiffe://example.org/gateway'],
      ...over,
    };
  }

  /** CRLs of issuer and root, newer than the last ones. */
  crls(): Buffer[] {
    this.#crlNumber += 1n;
    const { root } = this.authority;
    return [
      this.authority.crl({ crlNumber: this.#crlNumber }),
      this.authority.crl({ crlNumber: this.#crlNumber }, root),
    ];
  }

  served(svids: readonly Svid[] = [this.svid()], trust: Partial<Trust> = {}): Served {
    const { root, issuer } = this.authority;
    return {
      svids,
      trust: {
        trustDomain: parseTrustDomain(trustDomain),
        sequence: 1,
        roots: [root.der],
        issuers: [issuer.der],
        crls: this.crls(),
        jwtKeys: [],
        ...trust,
      },
    };
  }
}

/** Targets as a configuration has them, closed with the test, and what they say. */
export function deliverTo(...targets: readonly object[]) {
  const notices: string[] = [];
  const withheld: Withheld[] = [];
  /** What `status()` was each time that it changed. */
  const told: (readonly TargetStatus[])[] = [];
  const config = z.parse(
    deliverSchema,
    targets.map((target) => ({ id: workloadId, ...target })),
  );
  const deliver = new DeliverTargets(config, {
    clock: systemClock,
    notice: (line) => void notices.push(line),
    withheld: () => withheld,
    statusChanged: () => void told.push(deliver.status()),
  });
  onTestFinished(() => deliver.close());
  const status = (index = 0): TargetStatus => {
    const found = deliver.status()[index];
    if (found === undefined) throw new Error(`there is no target ${index}`);
    return found;
  };
  /** Until nothing waits; a failure ends the wait, too. */
  const settled = async (index = 0): Promise<TargetStatus> =>
    eventually(() => {
      const now = status(index);
      const tasks = [now.files, now.crls, ...(now.reload ? [now.reload] : [])];
      return tasks.every(({ waitingSince }) => waitingSince === undefined) && now;
    });
  const failed = (what: 'files' | 'reload' = 'files', index = 0): Promise<string> =>
    eventually(() => status(index)[what]?.lastFailure?.problem);
  return { deliver, notices, withheld, told, status, settled, failed };
}

/** A file of the current generation. */
export function current(dir: string, name: string): string {
  return readFileSync(join(dir, 'current', name), 'utf8');
}

/** Its mode, owner and group. */
export function access(dir: string, name: string): { mode: string; uid: number; gid: number } {
  const { mode, uid, gid } = statSync(join(dir, 'current', name));
  return { mode: (mode & 0o7777).toString(8), uid, gid };
}
