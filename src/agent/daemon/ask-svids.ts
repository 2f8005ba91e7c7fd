import { createPublicKey, type KeyObject } from 'node:crypto';
import { join } from 'node:path';
import type { Clock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import type { BundleJson } from '../../wire/enrollment.ts';
import { buildCsr } from '../../x509/csr.ts';
import { describeSkew, withSkew } from '../clock-skew.ts';
import { replaceFile } from '../deliver/durable-file.ts';
import { earlyWindow } from '../held.ts';
import { newWorkloadKey } from '../key-type.ts';
import type { AgentParts } from '../obtain.ts';
import { requireState } from '../renew.ts';
import { type AgentState, formatState, newestOf, stateFile } from '../state.ts';
import type { AgentServer } from './server-calls.ts';
import { type VerifiedSvid, verifySvids } from './svid-answer.ts';
import type { HeldSvid } from './svid-slot.ts';
import type { SvidAsk } from './svids.ts';

/** What certificates are asked for with. */
export interface AskingParts {
  /** With agent.json: the server's address, its root, and what was seen. */
  dir: string;
  server: AgentServer;
  clock: Clock;
  notice: (line: string) => void;
  exclusively: AgentParts['exclusively'];
  /** The verified bundle that an answer brought. */
  bundle: (bundle: BundleJson) => void;
}

/**
 * Asks for certificates in one call, with a fresh key for each, and verifies what comes: each has its own outcome. What was
 * seen is in agent.json before anything is used; where that could not be written, it is before the server is asked again: what
 * it issues for nothing stays in the log and counts against this agent. Must not run beside another that moves what was seen.
 * Rejects where the call as a whole failed, or the answer does not hold.
 */
export function svidAsker(
  parts: AskingParts,
): (asks: readonly SvidAsk[]) => Promise<(HeldSvid | VouchError)[]> {
  const { dir, clock, notice, exclusively } = parts;
  let saidSkew: string | undefined;
  let unwritten: { shown: Pick<AgentState, 'seen' | 'bundle'>; over: string } | undefined;
  const write = (shown: Pick<AgentState, 'seen' | 'bundle'>): Promise<void> =>
    exclusively(async () => {
      const state = requireState(dir);
      unwritten = { shown, over: formatState(state) };
      const newest = formatState({ ...state, ...newestOf(shown, state) });
      await replaceFile(join(dir, stateFile), newest, 0o600);
      unwritten = undefined;
    });
  return async (asks) => {
    // Where it is another by now, somebody could write it, who may have seen newer things, or another server.
    if (unwritten?.over === formatState(requireState(dir))) await write(unwritten.shown);
    const keys = await Promise.all(asks.map(() => newWorkloadKey('ec-p256')));
    const requests = asks.map(({ entry, predecessor }, at) => ({
      entryId: entry.entryId,
      csr: buildCsr(keyAt(keys, at)).toString('base64'),
      ...(predecessor !== undefined && { predecessor }),
    }));
    const state = requireState(dir);
    const { head } = state.seen;
    const shown = head === undefined ? {} : { treeSize: head.treeSize, checkpoint: head.note };
    const { answer, skewMs } = await parts.server.svids({ requests, ...shown });
    const skew = describeSkew(skewMs);
    if (skew !== undefined && skew !== saidSkew) notice(`this machine's clock is ${skew} the server's`);
    saidSkew = skew;
    try {
      const nowMs = clock.now();
      const asked = asks.map(({ entry }, at) => ({ entry, spki: spkiOf(keyAt(keys, at)) }));
      const expected = { address: state, root: state.root, seen: state.seen, nowMs };
      const { outcomes, seen } = await verifySvids(answer, asked, expected);
      await write({ seen, bundle: answer.bundle });
      parts.bundle(answer.bundle);
      return outcomes.map((outcome, at) =>
        outcome instanceof VouchError
          ? (withSkew(outcome, skewMs) as VouchError)
          : heldOf(outcome, asks[at]?.entry.version ?? 0, keyAt(keys, at), nowMs),
      );
    } catch (error) {
      throw withSkew(error, skewMs);
    }
  };
}

function keyAt(keys: readonly KeyObject[], at: number): KeyObject {
  const key = keys[at];
  if (key === undefined) throw new VouchError('denied-server', 'the answer has more than was asked for');
  return key;
}

function spkiOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ format: 'der', type: 'spki' });
}

function heldOf(
  { leaf, chain, issuerKeyId, proof, renewal }: VerifiedSvid,
  entryVersion: number,
  key: KeyObject,
  nowMs: number,
): HeldSvid {
  const { earliestSeconds, latestSeconds } = renewal;
  return {
    entryVersion,
    ...{ chain, issuerKeyId, proof },
    spiffeId: leaf.uris[0] as HeldSvid['spiffeId'],
    keyPkcs8: key.export({ format: 'der', type: 'pkcs8' }),
    serial: leaf.serial,
    notBeforeMs: leaf.notBeforeMs,
    notAfterMs: leaf.notAfterMs,
    renewal: earlyWindow(
      {
        earliestMs: nowMs + earliestSeconds * 1000,
        latestMs: nowMs + Math.max(earliestSeconds, latestSeconds) * 1000,
      },
      leaf,
    ),
  };
}
