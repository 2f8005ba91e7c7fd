import { generateKeyPairSync, sign } from 'node:crypto';
import { learnRoot, connectServer } from '../../../src/agent/connection.ts';
import { callAdmin } from '../../../src/cli/admin-client.ts';
import { systemClock } from '../../../src/core/clock.ts';
import type { Serial } from '../../../src/core/serial.ts';
import { adminPaths } from '../../../src/wire/admin.ts';
import {
  bindingBytes,
  bindingInput,
  certificateAnswerSchema,
  channelBindingLabel,
  enrollmentPaths,
  evidenceBytes,
} from '../../../src/wire/enrollment.ts';
import { parseJoinFile } from '../../../src/wire/join-file.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { buildCsr } from '../../../src/x509/csr.ts';
import { encodePem } from '../../../src/x509/pem.ts';
import { exchange } from '../../kills/exchange.ts';
import type { PeerIdentity } from '../../support/tls-peer.ts';

/** An enrolled identity in memory, without the CRLs that an agent would fetch. */
export interface Identity extends PeerIdentity {
  serial: Serial;
}

const atOnce = 8;
const ttlSeconds = 3600;

/** A join file for a name; `allowed`: whom its peers.json lets in. */
export async function joinFile(
  adminSocket: string,
  spiffeId: string,
  allowed: string[] = [],
): Promise<string> {
  const asked = { spiffeId, ttlSeconds, allowedClients: allowed, dnsNames: ['localhost'] };
  return (await callAdmin<{ joinFile: string }>(adminSocket, 'POST', adminPaths.tokens, asked)).joinFile;
}

/** Enrolls one identity for each SPIFFE ID, a few at once. */
export async function enrollAll(adminSocket: string, spiffeIds: readonly string[]): Promise<Identity[]> {
  const enrolled: Identity[] = [];
  const waiting = spiffeIds.entries();
  let root: Buffer | undefined;
  const work = async (): Promise<void> => {
    for (const [index, spiffeId] of waiting) {
      const join = parseJoinFile(await joinFile(adminSocket, spiffeId));
      const connecting = { clock: systemClock, signal: AbortSignal.timeout(30_000) };
      root ??= await learnRoot(join, connecting);
      enrolled[index] = await enroll(join, root, connecting);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return enrolled;
}

async function enroll(
  join: ReturnType<typeof parseJoinFile>,
  root: Buffer,
  connecting: Parameters<typeof connectServer>[2],
): Promise<Identity> {
  const socket = await connectServer(join, root, connecting);
  const key = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
  const evidence = { type: 'join_token', data: join.token };
  const exporter = socket.exportKeyingMaterial(bindingBytes, channelBindingLabel, Buffer.alloc(0));
  const answer = await exchange(socket, new URL(join.server).host, enrollmentPaths.enroll, {
    evidence,
    csr: buildCsr(key).toString('base64'),
    binding: {
      signature: sign('sha256', bindingInput(exporter, evidenceBytes(evidence)), key).toString('base64'),
    },
  });
  if (answer.status !== 200) throw new Error(`not enrolled: ${answer.body.toString('utf8')}`);
  const { chain } = certificateAnswerSchema.parse(JSON.parse(answer.body.toString('utf8')));
  const [leaf = Buffer.alloc(0)] = chain;
  const pem = (ders: readonly Buffer[]): string => ders.map((der) => encodePem('CERTIFICATE', der)).join('');
  return {
    serial: parseCertificate(leaf).serial,
    cert: pem(chain.slice(0, -1)),
    ca: pem(chain.slice(-1)),
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}
