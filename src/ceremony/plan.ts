import type { CeremonyFile } from '../config/ceremony-file.ts';
import { rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { Serial } from '../core/serial.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { Statement } from '../log/statement.ts';
import type { TranscriptItem } from '../wire/ceremony.ts';
import type { ParsedCrl } from '../x509/crl.ts';
import { encodeRevoked } from '../x509/crl-tbs.ts';
import { rdnName } from '../x509/name.ts';
import { keyIdOf } from '../x509/public-key.ts';
import { type Artefact, defaultRootName, type RootKey, type Validity } from './artefacts.ts';
import { type IssuerRevocations, revokedWith } from './issuer-revocations.ts';
import type { CeremonyRequest } from './request.ts';

/** A root's certificate as far as a ceremony goes on with it. */
export interface ExistingRoot {
  /** DER Name. */
  subjectName: Buffer;
  notAfterMs: number;
}

/** All that decides what a ceremony signs, but for a key that it has yet to make. */
export interface PlanInputs {
  ceremony: CeremonyFile;
  /** What was asked for; undefined in a renewal. */
  request: CeremonyRequest | undefined;
  /** The statement that is renewed; undefined in a first ceremony. */
  lastStatement: Statement | undefined;
  /** The certificate whose name and, without `reissue`, whose life goes on; undefined where one is made. */
  existing: ExistingRoot | undefined;
  lastCrl: ParsedCrl | undefined;
  /** Issuers that the CRL is to list from now on. */
  revocations: IssuerRevocations | undefined;
  /** Unix milliseconds of a whole second: that of the dry run. */
  timeMs: number;
  /** One for each certificate, the root's first. */
  serials: readonly Serial[];
}

/** One thing that will be signed. */
export interface PlannedItem extends Omit<TranscriptItem, 'at' | 'tbsSha256'> {
  /** In words, for the table. */
  what: string;
  artefact: (root: RootKey) => Artefact;
}

/** Clocks of relying parties may be behind the one in the ceremony's room by so much. */
const backdateSeconds = 60;

/** Serials that a plan needs. */
export function serialsNeeded({ ceremony, request }: Pick<PlanInputs, 'ceremony' | 'request'>): number {
  return (makesCertificate(ceremony) ? 1 : 0) + (request?.issuers.length ?? 0);
}

/** True where the ceremony signs a root certificate. */
function makesCertificate({ root, renew }: CeremonyFile): boolean {
  return renew === undefined && (root.certificate === undefined || root.reissue);
}

/** Everything that will be signed, in order. Throws `config-invalid` where something would outlive the root. */
export function planOf(inputs: PlanInputs): PlannedItem[] {
  const items = [
    ...rootItem(inputs),
    crlItem(inputs),
    ...issuerItems(inputs),
    ...csrItem(inputs),
    statementItem(inputs),
  ];
  const endMs = rootEndMs(inputs);
  for (const { what, notAfter } of items)
    if (notAfter !== undefined && Date.parse(notAfter) > endMs)
      throw new VouchError(
        'config-invalid',
        `the ${what} would end at ${notAfter}, after the root (${rfc3339(endMs)}): shorten its lifetime`,
      );
  return items;
}

function rootItem(inputs: PlanInputs): PlannedItem[] {
  if (!makesCertificate(inputs.ceremony)) return [];
  const serial = serialAt(inputs, 0);
  const validity = validityFrom(inputs.timeMs, inputs.ceremony.root.lifetime);
  return [
    {
      ...{ kind: 'root-certificate', file: 'root.cer', what: 'root certificate', serial, ...times(validity) },
      artefact: (root) => ({
        ...{ kind: 'root-certificate', serial, validity },
        trustDomain: trustDomainOf(inputs),
        rootName: rootNameOf(inputs, root),
      }),
    },
  ];
}

function crlItem(inputs: PlanInputs): PlannedItem {
  const { lastCrl, timeMs, ceremony } = inputs;
  const nowSeconds = timeMs / 1000;
  const last = lastCrl?.crlNumber ?? -1n;
  // max(last + 1, Unix ms), and thisUpdate rises (DESIGN I5).
  const crlNumber = last >= BigInt(timeMs) ? last + 1n : BigInt(timeMs);
  const thisUpdateSeconds = Math.max(nowSeconds, (lastCrl?.thisUpdateSeconds ?? 0) + 1);
  // Whoever has the last one keeps it until then (DESIGN I5).
  const nextUpdateSeconds = Math.max(nowSeconds + ceremony.crl.lifetime, lastCrl?.nextUpdateSeconds ?? 0);
  const listed = lastCrl ? [...lastCrl.revoked()] : [];
  const { all, added } = revokedWith(listed, inputs.revocations?.issuers ?? [], nowSeconds);
  const revoked = all.map(encodeRevoked);
  return {
    ...{ kind: 'root-crl', file: 'root.crl', number: String(crlNumber) },
    ...(added.length > 0 ? { revoked: added.map(revokedIssuer) } : {}),
    what: `root CRL, ${revoked.length} revoked${added.length > 0 ? `, ${added.length} by this ceremony` : ''}`,
    notBefore: rfc3339(thisUpdateSeconds * 1000),
    notAfter: rfc3339(nextUpdateSeconds * 1000),
    artefact: (root) => ({
      ...{ kind: 'root-crl', crlNumber, thisUpdateSeconds, nextUpdateSeconds, revoked },
      rootName: rootNameOf(inputs, root),
    }),
  };
}

function revokedIssuer(
  revoked: ReturnType<typeof revokedWith>['added'][number],
): NonNullable<TranscriptItem['revoked']>[number] {
  const { keyId, serial, reason, dateSeconds, invalidityDateSeconds: since } = revoked;
  const invalidityDate = since === undefined ? {} : { invalidityDate: rfc3339(since * 1000) };
  return { keyId, serial, reason, revokedAt: rfc3339(dateSeconds * 1000), ...invalidityDate };
}

/** Each begins its overlap before the one before it ends. */
function issuerItems(inputs: PlanInputs): PlannedItem[] {
  const { request, ceremony, timeMs } = inputs;
  if (!request) return [];
  const { lifetime, overlap } = ceremony.issuers;
  const first = makesCertificate(ceremony) ? 1 : 0;
  return request.issuers.map(({ spki, keyId }, index) => {
    const validity = validityFrom(timeMs + index * (lifetime - overlap) * 1000, lifetime);
    const serial = serialAt(inputs, first + index);
    return {
      ...{ kind: 'issuer-certificate', file: `issuer-${keyId}.cer`, keyId, serial, ...times(validity) },
      what: index === 0 ? 'issuer certificate' : `issuer certificate, next ${index}`,
      artefact: (root) => ({
        ...{ kind: 'issuer-certificate', serial, validity, spki },
        trustDomain: request.trustDomain,
        rootName: rootNameOf(inputs, root),
        publicationUrl: request.publicationUrl,
        nameConstraints: request.nameConstraints,
      }),
    };
  });
}

function csrItem(inputs: PlanInputs): PlannedItem[] {
  if (!inputs.ceremony.rootCsr) return [];
  return [
    {
      ...{ kind: 'root-csr', file: 'root.csr', what: 'CSR of the root, for a CA above' },
      artefact: (root) => ({
        kind: 'root-csr',
        trustDomain: trustDomainOf(inputs),
        rootName: rootNameOf(inputs, root),
      }),
    },
  ];
}

function statementItem(inputs: PlanInputs): PlannedItem {
  const statement = statementOf(inputs);
  return {
    ...{ kind: 'statement', file: 'statement.jws', number: String(statement.sequence) },
    what: `statement, ${statement.logKeys.length} log key(s)`,
    notAfter: rfc3339(statement.notAfterMs),
    artefact: () => ({ kind: 'statement', statement }),
  };
}

function statementOf(inputs: PlanInputs): Statement {
  const { ceremony, request, lastStatement, timeMs } = inputs;
  const notAfterMs = timeMs + ceremony.statement.lifetime * 1000;
  const urls = ceremony.statement.publicationUrls;
  if (lastStatement)
    return {
      ...lastStatement,
      sequence: lastStatement.sequence + 1,
      notAfterMs,
      publicationUrls: urls ?? lastStatement.publicationUrls,
    };
  if (!request) throw new VouchError('config-invalid', 'a ceremony has a request or something to renew');
  const publicationUrls = urls ?? [request.publicationUrl];
  if (!publicationUrls.includes(request.publicationUrl))
    throw new VouchError(
      'config-invalid',
      `statement.publicationUrls must hold the request's ${request.publicationUrl}, which stands in every certificate`,
    );
  return {
    trustDomain: request.trustDomain,
    sequence: 1,
    notAfterMs,
    logKeys: request.logKeys.map((key) => ({ ...key, name: request.logOrigin })),
    publicationUrls,
  };
}

function rootNameOf(inputs: PlanInputs, root: RootKey): Buffer {
  if (inputs.existing) return inputs.existing.subjectName;
  const { subject } = inputs.ceremony.root;
  return subject ? rdnName(subject) : defaultRootName(trustDomainOf(inputs), keyIdOf(root.publicKeySpki));
}

function trustDomainOf({ request, lastStatement }: PlanInputs): TrustDomain {
  const trustDomain = request?.trustDomain ?? lastStatement?.trustDomain;
  if (!trustDomain) throw new VouchError('config-invalid', 'a ceremony has a request or something to renew');
  return trustDomain;
}

function rootEndMs(inputs: PlanInputs): number {
  if (makesCertificate(inputs.ceremony) || !inputs.existing)
    return validityFrom(inputs.timeMs, inputs.ceremony.root.lifetime).notAfterSeconds * 1000;
  return inputs.existing.notAfterMs;
}

function serialAt({ serials }: PlanInputs, index: number): Serial {
  const serial = serials[index];
  if (serial === undefined)
    throw new VouchError('config-invalid', 'the plan of the dry run has too few serials');
  return serial;
}

function validityFrom(startMs: number, seconds: number): Validity {
  const start = startMs / 1000;
  return { notBeforeSeconds: start - backdateSeconds, notAfterSeconds: start + seconds - 1 };
}

function times({ notBeforeSeconds, notAfterSeconds }: Validity): { notBefore: string; notAfter: string } {
  return { notBefore: rfc3339(notBeforeSeconds * 1000), notAfter: rfc3339(notAfterSeconds * 1000) };
}
