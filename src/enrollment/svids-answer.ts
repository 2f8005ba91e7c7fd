import { problemOf } from '../core/problem.ts';
import type { VouchError } from '../core/errors.ts';
import type { IssuedCertificate } from '../issuance/issue.ts';
import { Slice } from '../jobs/slice.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { inclusionPath, rangeHasher } from '../log/merkle.ts';
import type { TileTree } from '../log/tiles.ts';
import type { SvidIssuedJson, SvidRefusedJson, SvidsAnswerJson } from '../wire/agent.ts';
import { type CommonParts, commonAnswer, proofJson, renewalWindow } from './answer.ts';

/** What became of one item: its certificate, or why there is none. */
export type SvidOutcome = { entryId: string } & ({ issued: IssuedCertificate } | { refused: VouchError });

/** What an answer is made of besides. */
export interface SvidsAnswerParts extends CommonParts {
  outcomes: readonly SvidOutcome[];
  tree: TileTree;
  /** Over everything issued; undefined where nothing was. */
  checkpoint: Checkpoint | undefined;
}

/**
 * The answer to `POST /v1/svids` as JSON text, made in slices. All proofs are over one checkpoint: an agent verifies it
 * once, and once that what it saw before is a beginning of it.
 */
export async function svidsAnswer(parts: SvidsAnswerParts): Promise<string> {
  const slice = new Slice();
  const results: string[] = [];
  const issuers = new Set<string>();
  for (const outcome of parts.outcomes) {
    if ('issued' in outcome) issuers.add(outcome.issued.record.issuerKeyId);
    results.push(JSON.stringify(resultJson(outcome, parts)));
    if (slice.isOver) await slice.turn();
  }
  const authorities = [...issuers].map((keyId) => {
    return [keyId, parts.authoritiesOf(keyId).map((der) => der.toString('base64'))] as const;
  });
  const rest: Omit<SvidsAnswerJson, 'results'> = {
    authorities: Object.fromEntries(authorities),
    ...commonAnswer(parts),
  };
  return `{"results":[${results.join()}],${JSON.stringify(rest).slice(1)}`;
}

function resultJson(outcome: SvidOutcome, parts: SvidsAnswerParts): SvidIssuedJson | SvidRefusedJson {
  const { entryId } = outcome;
  if ('refused' in outcome) return { entryId, problem: problemJson(outcome.refused) };
  const { issued } = outcome;
  const { leafIndex, issuerKeyId } = issued.record;
  const checkpoint = parts.checkpoint ?? issued.proof.checkpoint;
  const path = inclusionPath(leafIndex, checkpoint.treeSize, rangeHasher(parts.tree));
  return {
    entryId,
    certificate: issued.der.toString('base64'),
    issuerKeyId,
    proof: proofJson(issued, { leafIndex, path, checkpoint }),
    renewal: renewalWindow(issued.record, parts.nowMs),
  };
}

function problemJson(error: VouchError): SvidRefusedJson['problem'] {
  const { code, detail } = problemOf(error, 'peer');
  const { retryAfterSeconds } = error;
  return {
    ...{ code, detail },
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds: Math.ceil(retryAfterSeconds) }),
  };
}
