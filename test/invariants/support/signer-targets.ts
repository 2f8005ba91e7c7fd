import { hash } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Connection } from '../../../src/signer/connection.ts';
import { readAuthority, type SignerAuthority } from '../../../src/signer/authority-file.ts';
import { Floor } from '../../../src/signer/floor.ts';
import { launch, type Launched } from '../../../src/signer/launch.ts';
import { decodeRequest, encodeRequest, type Request } from '../../../src/signer/protocol.ts';
import { SignerService } from '../../../src/signer/service.ts';
import { issuerOf } from '../../../src/issuance/issuer.ts';
import { openSqliteStore } from '../../../src/store/sqlite/store.ts';
import { FakeClock } from '../../fakes/clock.ts';
import { nowMs, type SoftwareHsm, testAuthority } from '../../signer/fixture.ts';
import { initAuthority, vouchEntry } from '../../support/daemon.ts';
import { newFolder } from '../../support/running.ts';
import type { SignerTarget } from './hostile-server.ts';

/** The signer's own code in this process, with keys in memory instead of a token and a clock that can be moved. */
export async function softwareSigner(
  over: Partial<SignerAuthority> = {},
): Promise<SignerTarget & { hsm: SoftwareHsm; clock: FakeClock }> {
  const { authority, hsm } = testAuthority(over);
  const [issuer] = authority.issuers;
  if (!issuer) throw new Error('an issuer');
  const clock = new FakeClock(nowMs);
  const file = join(newFolder(), 'floor.json');
  const logKeySha256 = hash('sha256', authority.logKey.publicKeySpki, 'hex');
  const log = { origin: authority.logOrigin, logKeySha256 };
  const openFloor = () => Floor.open({ file, log, guards: hsm.guards, clock, onFailure: () => undefined });
  const openLog = () => Promise.reject(new Error('no new log here'));
  let floor = await openFloor();
  let service = new SignerService({ authority, hsm, floor, openLog }, clock);
  const ask = (request: Request) => {
    const { kind, payload } = encodeRequest(request);
    return service.handle(decodeRequest(kind, payload));
  };
  const startAgain = async () => {
    floor.stop();
    floor = await openFloor();
    service = new SignerService({ authority, hsm, floor, openLog }, clock);
  };
  return {
    hsm,
    clock,
    trustDomain: authority.trustDomain,
    issuer: issuerOf(issuer),
    logKey: { name: authority.logOrigin, ...authority.logKey },
    leaves: [],
    checkpoint: undefined,
    nowSeconds: () => Math.floor(clock.now() / 1000),
    ask,
    restart: async () => {
      await ask({ op: 'stop' }).catch(() => undefined);
      await startAgain();
    },
    crash: () => startAgain(),
    readFloor: () => readFile(file, 'utf8'),
    writeFloor: (text) => replaced(file, text),
    close: () => Promise.resolve(floor.stop()),
  };
}

/** The signer as it is delivered: the program from `dist/` in a process of its own, with its keys in SoftHSM. */
export async function softHsmSigner(): Promise<SignerTarget> {
  const { state, config, tokens } = await initAuthority();
  const authority = readAuthority(join(state, 'signer/authority.json'));
  const [issuer] = authority.issuers;
  if (!issuer) throw new Error('an issuer');
  const store = openSqliteStore(join(state, 'vouch.db'), { readonly: true });
  const leaves = store.leaves(0, store.treeSize());
  const checkpoint = store.checkpointNote();
  await store.close();
  const floorFile = join(state, 'signer/floor.json');
  const start = (): { launched: Launched; connection: Connection } => {
    const args = ['signer', '--config', config];
    const launched = launch(
      { entry: vouchEntry, args, environment: tokens.online.environment },
      () => undefined,
    );
    return { launched, connection: new Connection(launched.stream) };
  };
  let running = start();
  const ask = (request: Request) => {
    const { kind, payload } = encodeRequest(request);
    return running.connection.request(kind, payload);
  };
  const end = async () => {
    await ask({ op: 'stop' }).catch(() => undefined);
    running.connection.destroy();
    await running.launched.exited;
  };
  const startAgain = async () => {
    running = start();
    // Refused, since it was not greeted; but only once it has opened its token and read its marks.
    await ask({ op: 'ping' }).catch(() => undefined);
  };
  return {
    trustDomain: authority.trustDomain,
    issuer: issuerOf(issuer),
    logKey: { name: authority.logOrigin, ...authority.logKey },
    leaves,
    checkpoint,
    nowSeconds: () => Math.floor(Date.now() / 1000),
    ask,
    restart: async () => {
      await end();
      await startAgain();
    },
    crash: async () => {
      running.launched.kill();
      await running.launched.exited;
      await startAgain();
    },
    readFloor: () => readFile(floorFile, 'utf8'),
    writeFloor: (text) => replaced(floorFile, text),
    close: end,
  };
}

async function replaced(file: string, text: string | undefined): Promise<void> {
  if (text === undefined) await rm(file, { force: true });
  else await writeFile(file, text, { mode: 0o600 });
}
