import { type Answer, post } from '../edge/client.ts';
import type { Authority, Workload } from './daemon.ts';

/** An entry of this agent for a workload of its host; its id. */
export async function createEntry(authority: Authority, name: string, agent: string): Promise<string> {
  const names = ['--id', authority.id(name), '--parent', authority.id(agent)];
  const created = await authority.vouch('entry', 'create', ...names, '--selector', 'unix:uid:1000');
  return created.json<{ entryId: string }>().entryId;
}

/** Asks for a JWT-SVID with the certificate of `agent`; without one where there is none. */
export function askJwtSvid(
  authority: Authority,
  agent: Workload | undefined,
  body: unknown,
): Promise<Answer> {
  const shown = agent && { cert: agent.read('svid.pem'), key: agent.read('svid.key') };
  return post(authority.server.ready.enrollmentUrl, '/v1/jwt-svids', body, shown);
}

/** A JWT-SVID; throws with what the server said instead. */
export async function jwtSvid(
  authority: Authority,
  agent: Workload,
  entryId: string,
  ...audience: readonly string[]
): Promise<string> {
  const answer = await askJwtSvid(authority, agent, { entryId, audience });
  if (answer.status !== 200) throw new Error(answer.text);
  return (JSON.parse(answer.text) as { token: string }).token;
}

/** A member of a bundle or of a JWK set. */
export interface Jwk {
  kty: string;
  use: string;
  kid?: string;
  alg?: string;
}

/** A JSON document of the publication listener. */
export async function published<T>(authority: Authority, path: string): Promise<T> {
  const response = await fetch(`${authority.server.ready.publicationUrl}${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return (await response.json()) as T;
}
