import { hash, randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { signingInput } from '../artefacts.ts';
import { type PlannedItem, type PlanInputs, planOf, serialsNeeded } from '../plan.ts';
import {
  type CeremonyInputs,
  findRootKey,
  openRootToken,
  readCeremonyInputs,
  surroundings,
} from './inputs.ts';
import { type CeremonyOutcome, holdCeremony } from './hold.ts';
import { canonicalJson } from '../../core/canonical-json.ts';
import { type CeremonyPlanJson, planSchema } from '../../wire/ceremony.ts';
import { rfc3339, systemClock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import { newSerial, parseSerial, type Serial } from '../../core/serial.ts';
import type { HsmKey } from '../../signer/hsm.ts';
import type { SignerLog } from '../../signer/signer-log.ts';
import { keyIdOf } from '../../x509/public-key.ts';

/** One thing that a ceremony will sign. */
export interface PreviewItem {
  what: string;
  file: string;
  notBefore: string | undefined;
  /** Undefined of a CSR. */
  notAfter: string | undefined;
  serial: string | undefined;
  /** Of a CRL, or the sequence of a statement. */
  number: string | undefined;
  /** Null where the root's key is yet to be made. */
  tbsSha256: string | null;
}

/** An issuer that the root's CRL will list. */
export interface PreviewRevocation {
  keyId: string;
  reason: string;
  invalidityDate: string | null;
  /** Of the issuer. */
  notAfter: string;
  /** How many certificates of it end, as the authority counted at that time. */
  unexpired: number;
  asOf: string;
}

/** What a ceremony would do. */
export interface Preview {
  trustDomain: string;
  operators: readonly string[];
  out: string;
  /** SHA-256 of the request; null in a renewal. */
  requestSha256: string | null;
  root: { tokenLabel: string; tokenSerial: string; key: string; keyId: string | null; pin: string | null };
  items: PreviewItem[];
  /** Issuers that end with it. */
  revocations: PreviewRevocation[];
  warnings: string[];
}

/** A ceremony that was read and checked; `run` holds it. */
export interface PreparedCeremony {
  preview: Preview;
  /** Keeps what was shown, so that a later run signs that and nothing else. Returns the file. */
  savePlan(): string;
  run(): Promise<CeremonyOutcome>;
}

/** How long what a dry run has shown may be signed. */
const planMaxAgeMs = 24 * 3600 * 1000;

/**
 * Reads everything, checks it, finds the key in the token and proves it; makes no key and signs nothing of the root's.
 * With `shown`, plans what the last dry run has shown and refuses where that has changed. Throws `config-…`,
 * `usage-confirm` where there was no dry run.
 */
export async function prepareCeremony(
  file: string,
  { shown, log }: { shown: boolean; log: SignerLog },
): Promise<PreparedCeremony> {
  const inputs = readCeremonyInputs(file, systemClock.now());
  const planFile = `${inputs.ceremony.out}.plan.json`;
  const plan = shown ? readPlan(planFile, inputs) : undefined;
  const timeMs = plan ? Date.parse(plan.time) : Math.floor(systemClock.now() / 1000) * 1000;
  const fresh = (): Serial[] =>
    Array.from({ length: serialsNeeded(inputs) }, () => newSerial(prefixOf(inputs), randomBytes));
  const serials = plan ? plan.serials.map(parseSerial) : fresh();
  const planInputs: PlanInputs = { ...inputs, timeMs, serials };
  const items = planOf(planInputs);
  const rootKey = await keyInToken(inputs, log);
  const hashes = items.map((item) => (rootKey ? tbsHash(item, rootKey) : null));
  if (plan && plan.tbsSha256.join() !== hashes.join())
    throw new VouchError(
      'integrity-signature',
      'what would be signed is not what the dry run has shown; run it again without --yes',
    );
  return {
    preview: previewOf(inputs, items, hashes, rootKey),
    savePlan: () => {
      const text = {
        version: 1,
        time: rfc3339(timeMs),
        inputs: inputs.files,
        serials: [...planInputs.serials],
        tbsSha256: hashes,
      };
      writeFileSync(planFile, `${canonicalJson(text)}\n`, { mode: 0o600 });
      return planFile;
    },
    run: async () => {
      const outcome = await holdCeremony(inputs, items, { hashes, log });
      rmSync(planFile, { force: true });
      return outcome;
    },
  };
}

async function keyInToken(inputs: CeremonyInputs, log: SignerLog): Promise<HsmKey | undefined> {
  const client = await openRootToken(inputs, log);
  try {
    return await findRootKey(inputs, client);
  } finally {
    client.end();
  }
}

function tbsHash({ artefact }: PlannedItem, rootKey: HsmKey): string {
  return hash('sha256', signingInput(artefact(rootKey), rootKey), 'hex');
}

function previewOf(
  inputs: CeremonyInputs,
  items: readonly PlannedItem[],
  hashes: readonly (string | null)[],
  rootKey: HsmKey | undefined,
): Preview {
  const { ceremony, trustDomain, request } = inputs;
  const { hsm, key } = ceremony.root;
  return {
    ...{
      trustDomain,
      operators: ceremony.operators,
      out: ceremony.out,
      requestSha256: request?.sha256 ?? null,
    },
    root: {
      ...{ tokenLabel: hsm.tokenLabel, tokenSerial: hsm.tokenSerial },
      key:
        'create' in key
          ? `a new ${key.create} key, label ${key.label}`
          : `the key with CKA_ID ${rootKey?.ckaId}`,
      keyId: rootKey ? keyIdOf(rootKey.publicKeySpki) : null,
      pin: rootKey ? `sha256:${hash('sha256', rootKey.publicKeySpki, 'hex')}` : null,
    },
    items: items.map(({ what, file, notBefore, notAfter, serial, number }, index) => ({
      ...{ what, file, notBefore, notAfter, serial, number },
      tbsSha256: hashes[index] ?? null,
    })),
    revocations: revocationsOf(inputs),
    warnings: surroundings(inputs, systemClock.now()),
  };
}

function revocationsOf({ revocations }: CeremonyInputs): PreviewRevocation[] {
  if (!revocations) return [];
  const asOf = rfc3339(revocations.createdAtMs);
  return revocations.issuers.map(
    ({ keyId, reason, notAfterMs, invalidityDateSeconds: since, unexpired }) => ({
      ...{ keyId, reason, unexpired, asOf },
      invalidityDate: since === undefined ? null : rfc3339(since * 1000),
      notAfter: rfc3339(notAfterMs),
    }),
  );
}

/** A renewal makes no certificate. */
function prefixOf({ request }: CeremonyInputs): number {
  return request?.serialPrefix ?? 1;
}

function readPlan(file: string, inputs: CeremonyInputs): CeremonyPlanJson {
  const again = 'run it without --yes first: that shows what will be signed, and --yes signs what was shown';
  let plan: CeremonyPlanJson;
  try {
    plan = planSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (cause) {
    throw new VouchError('usage-confirm', `there is no dry run of this ceremony (${file}); ${again}`, {
      cause,
    });
  }
  const ageMs = systemClock.now() - Date.parse(plan.time);
  if (!(ageMs >= 0 && ageMs <= planMaxAgeMs))
    throw new VouchError('usage-confirm', `the last dry run is not of the last 24 hours; ${again}`);
  const isOwn = plan.serials.every((serial) => Number.parseInt(serial.slice(0, 2), 16) === prefixOf(inputs));
  if (!isOwn || new Set(plan.serials).size !== serialsNeeded(inputs))
    throw new VouchError('usage-confirm', `the serials in ${file} are not those of a dry run; ${again}`);
  if (canonicalJson(plan.inputs) !== canonicalJson(inputs.files))
    throw new VouchError(
      'usage-confirm',
      `the ceremony's file or one that it names has changed since the dry run; ${again}`,
    );
  return plan;
}
