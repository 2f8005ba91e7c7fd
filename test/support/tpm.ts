import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Token } from './daemon.ts';
import { eventually, start } from './running.ts';

const module = '/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1';

/** A TPM 2.0 in software with a resource manager before it, as the kernel's is before a chip; ends with the test file. */
export interface Tpm {
  /** A new token of the PKCS#11 module in that TPM; `hsm.json` as `vouch init` takes it lies in `folder`. */
  newToken(label: string): Promise<Token>;
}

/** Starts one whose files lie in `folder`. */
export async function startTpm(folder: string): Promise<Tpm> {
  const at = (name: string): string => join(folder, name);
  for (const name of ['tpm', 'store']) mkdirSync(at(name), { mode: 0o700 });
  const bus = start(['dbus-daemon', '--session', '--nofork', '--nosyslog', '--print-address=1']);
  const address = await bus.until(({ stdout }) => /^\S+/.exec(stdout)?.[0]);
  const server = `type=unixio,path=${at('t')}`;
  // The TCTI looks for the control channel at the server's path and this ending.
  const control = `type=unixio,path=${at('t')}.ctrl`;
  const swtpm = ['swtpm', 'socket', '--tpm2', '--flags', 'not-need-init,startup-clear'];
  start([...swtpm, '--tpmstate', `dir=${at('tpm')}`, '--server', server, '--ctrl', control]);
  const environment = {
    TPM2_PKCS11_STORE: at('store'),
    TPM2_PKCS11_TCTI: 'tabrmd:bus_type=session',
    DBUS_SESSION_BUS_ADDRESS: address,
  };
  await eventually(() => existsSync(at('t')) && existsSync(`${at('t')}.ctrl`));
  start(['/usr/sbin/tpm2-abrmd', '--session', '--allow-root', `--tcti=swtpm:path=${at('t')}`], {
    env: environment,
  });
  const listsSlots = () =>
    start(['pkcs11-tool', '--module', module, '--list-slots'], { env: environment }).ended();
  await eventually(async () => (await listsSlots()).code === 0);
  const tool = async (...args: readonly string[]): Promise<void> => {
    const ran = await start(['pkcs11-tool', '--module', module, ...args], { env: environment }).ended();
    if (ran.code !== 0) throw new Error(ran.stderr);
  };
  let tokens = 0;
  return {
    newToken: async (label) => {
      const pinFile = at(`${label}.pin`);
      writeFileSync(pinFile, `${label}-pin`, { mode: 0o600 });
      const officer = ['--so-pin', 'officer-pin'];
      await tool('--init-token', '--slot-index', String(tokens), '--label', label, ...officer);
      tokens += 1;
      await tool('--init-pin', '--token-label', label, ...officer, '--pin', `${label}-pin`);
      // Every token of this module has this serial.
      const token = { module, tokenLabel: label, tokenSerial: '0'.repeat(16), pinFile, environment };
      writeFileSync(at(`${label}.json`), JSON.stringify(token), { mode: 0o600 });
      return token;
    },
  };
}
