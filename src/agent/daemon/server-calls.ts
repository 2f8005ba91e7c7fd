import { VouchError } from '../../core/errors.ts';
import {
  agentPaths,
  type EntriesAnswer,
  entriesAnswerMaxBytes,
  entriesAnswerSchema,
  type SvidsAnswer,
  svidsAnswerMaxBytes,
  svidsAnswerSchema,
  type SvidsRequest,
} from '../../wire/agent.ts';
import { type JwtSvidAnswer, jwtSvidAnswerSchema, jwtSvidsPath } from '../../wire/jwt.ts';
import { skewOf } from '../clock-skew.ts';
import { type ExchangeParts, exchangeVia, type ServerRequest } from '../exchange.ts';
import type { Held } from '../held.ts';
import { ServerLink } from './server-link.ts';

/** What an agent asks the server, in its own name. Rejects as `connectServer` and `exchange` do. */
export interface AgentServer {
  /** Undefined where the sequence is still `known`. */
  entries(known: number | undefined): Promise<EntriesAnswer | undefined>;
  /** The answer has the right form, nothing more; with our clock less the server's. */
  svids(request: SvidsRequest): Promise<{ answer: SvidsAnswer; skewMs: number }>;
  jwtSvid(entryId: string, audience: readonly string[]): Promise<JwtSvidAnswer>;
}

/** The server over mTLS, by the identity that `held` gives at each call. */
export function agentServer(held: () => Held, parts: ExchangeParts): AgentServer {
  let link: ServerLink | undefined;
  const send = async (request: ServerRequest): Promise<unknown> => {
    const now = held();
    if (link?.held !== now) {
      link?.retire();
      link = new ServerLink(now, parts);
    }
    return exchangeVia({ agent: link }, now.state.server, request, parts);
  };
  return {
    entries: async (known) => {
      const headers = known === undefined ? {} : { 'if-none-match': `"${known}"` };
      const { entries: path } = agentPaths;
      const json = await send({ method: 'GET', path, headers, answerMaxBytes: entriesAnswerMaxBytes });
      return json === undefined ? undefined : read(json, entriesAnswerSchema);
    },
    svids: async (body) => {
      const sentMs = parts.clock.now();
      const { svids: path } = agentPaths;
      // A key gets one certificate.
      const request = {
        method: 'POST',
        path,
        body,
        isOnce: true,
        answerMaxBytes: svidsAnswerMaxBytes,
      } as const;
      const json = await send(request);
      const answer = read(json, svidsAnswerSchema);
      return { answer, skewMs: skewOf(answer.time, sentMs, parts.clock.now()) };
    },
    jwtSvid: async (entryId, audience) =>
      read(
        await send({ method: 'POST', path: jwtSvidsPath, body: { entryId, audience } }),
        jwtSvidAnswerSchema,
      ),
  };
}

/** The same calls; `heard` is told how each ended. */
export function heardServer(server: AgentServer, heard: (error?: unknown) => void): AgentServer {
  const told = async <T>(call: Promise<T>): Promise<T> => {
    try {
      const answer = await call;
      heard();
      return answer;
    } catch (error) {
      heard(error);
      throw error;
    }
  };
  return {
    entries: (known) => told(server.entries(known)),
    svids: (request) => told(server.svids(request)),
    jwtSvid: (entryId, audience) => told(server.jwtSvid(entryId, audience)),
  };
}

interface Schema<T> {
  safeParse(json: unknown): { success: true; data: T } | { success: false; error: unknown };
}

function read<T>(json: unknown, schema: Schema<T>): T {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new VouchError('denied-server', 'the answer of the server is not one that this version understands', {
    cause: parsed.error,
  });
}
