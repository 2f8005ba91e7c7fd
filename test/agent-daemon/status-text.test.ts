import { expect, it } from 'vitest';
import { type AgentStatus, isWell, statusText } from '../../src/agent/daemon/status.ts';

const at = '2026-11-26T08:00:00Z';
const status: AgentStatus = {
  pid: process.pid,
  startedAt: at,
  writtenAt: at,
  identity: null,
  identityFailure: null,
  server: { url: null, reachable: false, since: null, failure: null },
  stream: false,
  cache: { keyIn: 'file', savedAt: null },
  entries: [],
  parts: {
    deliver: [
      {
        ...{ of: 'spiffe://prod.example/web', dir: '/etc/nginx/vouch', isServed: false },
        ...{ serial: '2a', notAfter: at, files: { lastSuccess: at }, crls: { lastSuccess: at } },
        reload: {
          waitingSince: at,
          lastFailure: { at, problem: '/run/nginx.pid is not there' },
          failures: 3,
        },
      },
    ],
    proxy: [
      {
        ...{ listen: '0.0.0.0:8443', to: '127.0.0.1:8080', passed: 7, refused: 3, handshakesFailed: 0 },
        ...{ of: 'spiffe://prod.example/web', isServed: true },
        ...{ overLimit: 0, unreachable: 1, cut: 0, idle: 0, open: 2 },
      },
    ],
  },
};

it('says how deliveries and proxies are, and of a delivery what is due and why', () => {
  expect(statusText(status)).toContain(
    `/etc/nginx/vouch: spiffe://prod.example/web: serial 2a, until ${at}; NO ENTRY GIVES IT NOW
  reload due since ${at}; failures: 3, the last at ${at}: /run/nginx.pid is not there
proxy 0.0.0.0:8443 to 127.0.0.1:8080: 2 open, 7 let through, 3 refused, 1 times nobody there
`,
  );
  const [proxy] = status.parts.proxy as { of: string }[];
  const waiting = { ...status, parts: { proxy: [{ ...proxy, isServed: false }] } };
  expect(statusText(waiting)).toContain('; WAITS FOR A CERTIFICATE OF spiffe://prod.example/web\n');
});

it('says that what a process wrote that is gone is not how things are', () => {
  // Above the kernel's highest process id.
  expect(statusText({ ...status, pid: 2 ** 30 })).toContain(
    `NOT RUNNING: what follows is what pid ${2 ** 30} wrote at ${at}`,
  );
});

it('is not well with an identity that is revoked', () => {
  const identity = { spiffeId: 'spiffe://prod.example/host/a', serial: '2a', notAfter: at, isExpired: false };
  const failed = (code: string) => ({ ...{ code, detail: 'no', at }, waitsFor: 'the server' });
  expect(isWell({ ...status, identity })).toBe(true);
  expect(isWell({ ...status, identity, identityFailure: failed('unavailable-server') })).toBe(true);
  expect(isWell({ ...status, identity, identityFailure: failed('denied-revoked') })).toBe(false);
});

it('is not well where workloads cannot connect, and says why', () => {
  const identity = { spiffeId: 'spiffe://prod.example/host/a', serial: '2a', notAfter: at, isExpired: false };
  const withSocket = (problem: string | null) => ({ ...status, identity, parts: { socket: { problem } } });
  expect(isWell(withSocket(null))).toBe(true);
  expect(statusText(withSocket(null))).not.toContain('CONNECT');
  const gone = withSocket('the socket is gone');
  expect(isWell(gone)).toBe(false);
  expect(statusText(gone)).toContain('\nWORKLOADS CANNOT CONNECT: the socket is gone\n');
});
