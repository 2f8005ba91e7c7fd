import { expect, test } from 'vitest';
import { DeliveredHost, expectSmooth } from '../support/delivered-software.ts';
import { eventually, type Ran } from '../support/running.ts';
import { exchanges } from '../support/tls-caller.ts';

const main = '/var/lib/postgresql/15/main';

/** A cluster with the document's configuration. */
async function makeCluster(host: DeliveredHost): Promise<void> {
  host.giveFolder('/var/lib/postgresql/15', 'postgres');
  const data = host.path(main);
  const made = await host.start(['initdb', '-D', data, '-A', 'peer', '-N'], 'postgres').ended();
  expect(made.code, made.stderr).toBe(0);
  const own = `port = ${host.port}\nunix_socket_directories = '${data}'\nfsync = off\n`;
  host.write(`${main}/postgresql.conf`, `${own}${host.block(/^ssl = on/)}`);
  host.write(`${main}/pg_hba.conf`, `local all all peer\n${host.block(/^hostssl/)}`);
  host.write(`${main}/pg_ident.conf`, host.block(/^vouch .*\\1/));
}

test('postgresql takes each rotation and each CRL by SIGHUP, and knows clients by their certificate', async () => {
  const host = await DeliveredHost.boot('postgresql', [
    ['prod.example/host-2', 'prod.example/host-1'],
    ['owner: orders', 'owner: root'],
    ['"host=db.prod.example ', '"host=db.prod.example hostaddr=127.0.0.1 port=$PORT '],
  ]);
  await Promise.all([makeCluster(host), host.startAgent()]);
  const postgres = host.start(['postgres', '-D', host.path(main)], 'postgres');
  await postgres.until(({ stderr }) => stderr.includes('ready to accept connections'));
  const administrator = async (...statements: string[]): Promise<string> => {
    const flags = ['-h', host.path(main), '-p', `${host.port}`, ...statements.flatMap((one) => ['-c', one])];
    return stdoutOf(await host.start(['psql', '-At', ...flags, 'postgres'], 'postgres').ended());
  };
  const roles = ['good', 'victim', 'orders'].map((role) => `create role ${role} login`);
  await administrator(...roles, 'create database orders owner orders');

  const proof = await host.prove('db.prod.example', (name) => exchanges.postgres(name, 'orders'));
  expectSmooth(proof);
  expect(proof).toMatchObject({ refusalMs: expect.any(Number), isServedOnOpen: true });

  const psql = (sql: string, user = 'orders'): string[] => {
    const command = host.block(/^psql/).trimEnd().replace('user=orders', `user=${user}`);
    return ['sh', '-c', `${command} -At -c '${sql}'`];
  };
  expect(stdoutOf(await host.start(psql('select current_user')).ended())).toBe('orders\n');
  const other = await host.start(psql('select 1', 'postgres')).ended();
  expect(other.stderr).toContain('authentication failed for user "postgres"');
  const open = host.start(psql('select pg_sleep(60)'));
  await eventually(async () => (await administrator(host.block(/^select pg_terminate/))) === 't\n');
  expect((await open.ended()).stderr).toContain('terminating connection due to administrator command');
}, 60_000);

function stdoutOf({ code, stdout, stderr }: Ran): string {
  expect(code, stderr).toBe(0);
  return stdout;
}
