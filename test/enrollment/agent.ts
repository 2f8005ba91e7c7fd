import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { RegistrationEntry } from '../../src/core/registration.ts';
import { answerRoom, type Svids } from '../../src/enrollment/svids.ts';
import type { IssuedCertificate } from '../../src/issuance/issue.ts';
import { type EntryRequest, WorkloadEntries } from '../../src/registration/workload-entries.ts';
import type { CertificateStanding } from '../../src/store/records.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import {
  registered,
  requestFor,
  type SoftwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';

/** An agent that enrolled itself with a join token, in the server's own process. */
export class Agent {
  readonly #authority: SoftwareAuthority;
  readonly entry: RegistrationEntry;
  readonly issued: IssuedCertificate;

  private constructor(authority: SoftwareAuthority, entry: RegistrationEntry, issued: IssuedCertificate) {
    this.#authority = authority;
    this.entry = entry;
    this.issued = issued;
  }

  static async enrolled(authority: SoftwareAuthority, name = 'agent-1'): Promise<Agent> {
    const { entry, tokenId } = await registered(authority, name);
    return new Agent(authority, entry, await authority.issuance.issue(requestFor(entry, tokenId)));
  }

  /** Its certificate as the server looks it up for a request. */
  get standing(): CertificateStanding {
    const { issuerKeyId, serial } = this.issued.record;
    const found = this.#authority.store.certificate(issuerKeyId, serial);
    if (!found) throw new Error('an enrolled agent has a certificate');
    return found;
  }

  /** Registers a workload of its host. */
  workload(name: string, over: Partial<EntryRequest> = {}): Promise<RegistrationEntry> {
    const request = {
      ...{ spiffeId: `spiffe://${trustDomain}/${name}`, parentId: this.entry.spiffeId },
      ...{ selectors: ['unix:uid:1000'], dnsNames: [`${name}.test.example`], ipAddresses: [] },
      ...{ allowedClients: [], hint: '', profile: 'default' },
      ...over,
    };
    return new WorkloadEntries(this.#authority, trustDomain)
      .create(request, 'uid:0')
      .then(({ entry }) => entry);
  }

  /** Asks for one certificate in a call of its own. */
  ask(
    svids: Svids,
    { entryId }: Pick<RegistrationEntry, 'entryId'>,
    { csr = buildCsr(newKey()), predecessor }: { csr?: Buffer; predecessor?: string | undefined } = {},
  ): Promise<IssuedCertificate> {
    const request = { entryId, csr: csr.toString('base64'), ...(predecessor ? { predecessor } : {}) };
    const channel = { peerAddress: '192.0.2.7', requestId: 'test' };
    return svids.issue(request, { agent: this.standing, channel, room: answerRoom });
  }
}

/** A fresh key. */
export function newKey(namedCurve = 'P-256'): KeyObject {
  return generateKeyPairSync('ec', { namedCurve }).privateKey;
}
