import { hash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { checkCrossChain, type CrossChain } from '../cross-certificate.ts';
import type { Recorder } from './record.ts';
import { intoStopped } from './stopped.ts';
import type { Config } from '../../config/config.ts';
import { rfc3339 } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import { refusePending } from '../../init/pending-state.ts';
import { recordLeaf } from '../../sequencer/record.ts';
import { adminPaths } from '../../wire/admin.ts';
import { chainMaxChars } from '../../wire/ceremony.ts';
import { nameText } from '../../x509/name.ts';

/** A chain that was taken in. */
export interface TakenChain {
  /** The CA that certified our root, for people to read. */
  issuer: string;
  notAfter: string;
  warnings: string[];
  /** Path under the publication URL. */
  path: string;
  /** False where no server runs: it serves the chain when it starts. */
  served: boolean;
}

/**
 * Takes the chain that a CA above made of `root.csr` into a state: through the server where one runs, otherwise into the
 * database itself. Throws `denied-certificate` where it does not hold, `config-invalid` where it is no file.
 */
export async function importChain(
  file: string,
  config: Config,
  admin: <T>(method: 'POST', path: string, body: object) => Promise<T>,
): Promise<TakenChain> {
  refusePending(config.state);
  const chain = readChain(file);
  try {
    return await admin<TakenChain>('POST', adminPaths.ceremonyChain, { chain });
  } catch (error) {
    if (!(error instanceof VouchError) || error.code !== 'unavailable-server') throw error;
    return intoStopped(config, (recorder) => takeChain(chain, recorder, false));
  }
}

/** Checks a chain against root and issuers that the store has, and records it; it replaces the one before. */
export async function takeChain(pem: string, recorder: Recorder, served: boolean): Promise<TakenChain> {
  const { store, nowMs, operator } = recorder;
  const records = store.authorities();
  const root = records.find(({ kind }) => kind === 'root');
  const issuer = records.find(({ kind, state }) => kind === 'issuer' && state === 'active');
  if (!root || !issuer)
    throw new VouchError(
      'integrity-state',
      'the state has no root or no issuer; restore it with `vouch restore`',
    );
  const { trustDomain } = store.identity();
  const ours = { rootDer: root.certificateDer, issuerDer: issuer.certificateDer, trustDomain, nowMs };
  const chain = checkCrossChain(pem, ours);
  const leaf = recordLeaf('authority', nowMs, leafOf(chain, root.keyId, operator));
  await recorder.commit([{ kind: 'cross-certificate', leaf, chainPem: chain.chainPem }]);
  return {
    issuer: nameText(chain.certificate.issuerName),
    notAfter: rfc3339(chain.certificate.notAfterMs),
    warnings: chain.warnings,
    path: `/ca/${root.keyId}.chain.pem`,
    served,
  };
}

function leafOf({ certificate, chainPem }: CrossChain, keyId: string, operator: string) {
  return {
    ...{ event: 'cross-certified', keyId, operator },
    certificateSha256: hash('sha256', certificate.der, 'hex'),
    chainSha256: hash('sha256', chainPem, 'hex'),
  };
}

function readChain(file: string): string {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (!stat?.isFile() || stat.size > chainMaxChars)
    throw new VouchError(
      'config-invalid',
      `${file} is no file, or larger than ${chainMaxChars} bytes: it holds our root's certificate by the CA above and that CA's chain, in PEM`,
    );
  return readFileSync(file, 'latin1');
}
