import { hash } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { PlannedItem } from '../plan.ts';
import { resultFileNames } from '../result.ts';
import { encodeTranscript } from '../transcript.ts';
import { type CeremonyInputs, findRootKey, openRootToken } from './inputs.ts';
import { canonicalJson, type Json } from '../../core/canonical-json.ts';
import { rfc3339, systemClock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import type { CeremonyClient } from '../../signer/ceremony-client.ts';
import type { HsmKey } from '../../signer/hsm.ts';
import { signByRoot } from '../../signer/root-signer.ts';
import type { SignerLog } from '../../signer/signer-log.ts';
import { syncPath } from '../../store/sqlite/backup.ts';
import type { Transcript, TranscriptItem } from '../../wire/ceremony.ts';
import { encodePem } from '../../x509/pem.ts';
import { keyIdOf } from '../../x509/public-key.ts';

/** What a ceremony made. */
export interface CeremonyOutcome {
  out: string;
  rootPin: string;
  rootKeyId: string;
  transcriptSha256: string;
  files: string[];
}

/** What the dry run has shown; a hash is null where the key was yet to be made. */
interface Shown {
  hashes: readonly (string | null)[];
  log: SignerLog;
}

/**
 * Holds the ceremony: makes or takes the root's key and has it sign what was shown, each only when its hash is on disk
 * in write-ahead.jsonl, and at the end the transcript of all that. A crash leaves the folder with what was announced.
 */
export async function holdCeremony(
  inputs: CeremonyInputs,
  items: readonly PlannedItem[],
  { hashes, log }: Shown,
): Promise<CeremonyOutcome> {
  const startedAt = rfc3339(systemClock.now());
  const { out, root } = inputs.ceremony;
  const client = await openRootToken(inputs, log);
  try {
    const known = await findRootKey(inputs, client);
    const result = new ResultFolder(out);
    try {
      const rootKey = known ?? (await makeKey(client, root.key));
      const signed = await signAll(client, rootKey, items, { result, hashes });
      if (!result.has(resultFileNames.root)) result.write(resultFileNames.root, certificateOf(inputs));
      const transcript = transcriptOf(inputs, { rootKey, startedAt, signed, result, keyMade: !known });
      return await signTranscript(client, rootKey, transcript, result);
    } finally {
      result.close();
    }
  } finally {
    client.end();
  }
}

function makeKey(client: CeremonyClient, key: CeremonyInputs['ceremony']['root']['key']): Promise<HsmKey> {
  if ('use' in key) throw new VouchError('config-hsm', 'the key that is to be used is gone from the token');
  return client.ask('createKey', { type: key.create, label: key.label });
}

async function signAll(
  client: CeremonyClient,
  rootKey: HsmKey,
  items: readonly PlannedItem[],
  { result, hashes }: { result: ResultFolder; hashes: readonly (string | null)[] },
): Promise<TranscriptItem[]> {
  const signed: TranscriptItem[] = [];
  const rootKeyId = keyIdOf(rootKey.publicKeySpki);
  for (const [index, { artefact, what: _what, ...item }] of items.entries()) {
    const bytes = await signByRoot(client, rootKey, artefact(rootKey), async (tbs) => {
      const tbsSha256 = hash('sha256', tbs, 'hex');
      const shown = hashes[index] ?? tbsSha256;
      if (shown !== tbsSha256)
        throw new VouchError(
          'integrity-signature',
          `the ${item.kind} is not the one that was shown; nothing more is signed`,
        );
      const keyId = item.kind === 'root-certificate' ? { keyId: rootKeyId } : {};
      const record = { ...item, ...keyId, at: rfc3339(systemClock.now()), tbsSha256 };
      result.announce(record);
      signed.push(record);
    });
    // CAs take requests in PEM.
    const isCsr = item.kind === 'root-csr';
    result.write(item.file, isCsr ? Buffer.from(encodePem('CERTIFICATE REQUEST', bytes)) : bytes);
  }
  return signed;
}

function certificateOf({ certificate }: CeremonyInputs): Buffer {
  if (!certificate) throw new VouchError('config-invalid', 'the ceremony has no root certificate');
  return certificate.der;
}

function transcriptOf(
  { ceremony, trustDomain, files }: CeremonyInputs,
  parts: {
    rootKey: HsmKey;
    startedAt: string;
    signed: TranscriptItem[];
    result: ResultFolder;
    keyMade: boolean;
  },
): Transcript {
  const { rootKey, startedAt, signed, result, keyMade } = parts;
  const { tokenLabel: label, tokenSerial: serial } = ceremony.root.hsm;
  return {
    version: 1,
    kind: ceremony.renew ? 'renewal' : 'ceremony',
    ...{ trustDomain, startedAt, signed },
    software: `vouch ${__VOUCH_VERSION__}`,
    operators: [...ceremony.operators],
    finishedAt: rfc3339(systemClock.now()),
    root: {
      keyId: keyIdOf(rootKey.publicKeySpki),
      pin: pinOf(rootKey),
      ckaId: rootKey.ckaId,
      keyMade,
      certificateMade: signed.some(({ kind }) => kind === 'root-certificate'),
      token: { label, serial },
    },
    inputs: files,
    outputs: result.written(),
  };
}

async function signTranscript(
  client: CeremonyClient,
  rootKey: HsmKey,
  transcript: Transcript,
  result: ResultFolder,
): Promise<CeremonyOutcome> {
  const payload = encodeTranscript(transcript);
  result.write(resultFileNames.transcript, payload);
  const jws = await signByRoot(client, rootKey, { kind: 'transcript', payload }, async (input) =>
    result.announce({
      at: rfc3339(systemClock.now()),
      kind: 'transcript',
      file: resultFileNames.signature,
      tbsSha256: hash('sha256', input, 'hex'),
    }),
  );
  result.write(resultFileNames.signature, Buffer.concat([jws, Buffer.from('\n')]));
  return {
    out: result.folder,
    rootPin: transcript.root.pin,
    rootKeyId: transcript.root.keyId,
    transcriptSha256: hash('sha256', payload, 'hex'),
    files: result.written().map(({ name }) => name),
  };
}

function pinOf({ publicKeySpki }: HsmKey): string {
  return `sha256:${hash('sha256', publicKeySpki, 'hex')}`;
}

/** The folder of a result: everything in it is on disk before the next signature. */
class ResultFolder {
  readonly folder: string;
  readonly #ahead: number;
  readonly #written: { name: string; sha256: string }[] = [];

  /** Makes the folder. Throws `config-state` where it is there or cannot be made. */
  constructor(folder: string) {
    this.folder = folder;
    try {
      mkdirSync(folder, { mode: 0o755 });
      this.#ahead = openSync(path.join(folder, resultFileNames.ahead), 'ax', 0o644);
      syncPath(path.dirname(folder));
    } catch (cause) {
      throw new VouchError(
        'config-state',
        `cannot make ${folder}: the folder above must exist, and it must be new`,
        { cause },
      );
    }
  }

  /** Write-ahead (I1): what is to be signed is on disk when this returns. */
  announce(record: { readonly [name: string]: Json | undefined }): void {
    this.#durably(resultFileNames.ahead, () => {
      writeFileSync(this.#ahead, `${canonicalJson(record)}\n`); // all of it: a full disk takes a part of a write
      fsyncSync(this.#ahead);
    });
  }

  write(name: string, bytes: Buffer): void {
    this.#durably(name, () => {
      const file = openSync(path.join(this.folder, name), 'wx', 0o644);
      try {
        writeFileSync(file, bytes);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
    });
    this.#written.push({ name, sha256: hash('sha256', bytes, 'hex') });
  }

  #durably(name: string, write: () => void): void {
    try {
      write();
      syncPath(this.folder);
    } catch (cause) {
      throw new VouchError(
        'config-state',
        `cannot write ${path.join(this.folder, name)}: is the disk full? Nothing more is signed; ${resultFileNames.ahead} says what may have been`,
        { cause },
      );
    }
  }

  has(name: string): boolean {
    return this.#written.some((file) => file.name === name);
  }

  written(): { name: string; sha256: string }[] {
    return [...this.#written];
  }

  close(): void {
    closeSync(this.#ahead);
  }
}
