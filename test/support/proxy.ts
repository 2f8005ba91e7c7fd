import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const project = resolve(import.meta.dirname, '../..');

/** Servers of others that a delivered configuration exists for, in `deploy/` and `docs/integrations/`. */
export type ProxyName = 'nginx' | 'haproxy';

/** Where Debian has both, which is not on everybody's path. */
export const sbin = { PATH: `${process.env.PATH}:/usr/sbin` };

/** What stands in the place of what the delivered files say. */
export interface ProxyPlace {
  /** Takes the place of /etc/vouch; there already. */
  etc: string;
  /** Takes the place of /run/vouch. */
  run: string;
  joinFile: string;
  /** 127.0.0.1 and these take the place of 8443 and of the service behind. */
  port: number;
  servicePort: number;
  /** The command line of `vouch`. */
  vouch: readonly string[];
}

/** Puts the delivered files of a proxy to a place. */
export function placeFiles(name: ProxyName, place: Omit<ProxyPlace, 'joinFile' | 'vouch'>): void {
  const from = join(project, 'deploy', name);
  for (const file of readdirSync(from).filter((one) => /^(?:mtls|on-change)/.test(one))) {
    const to = join(place.etc, file);
    // With its mode: hooks are run.
    copyFileSync(join(from, file), to);
    const text = readFileSync(to, 'utf8')
      .replaceAll('/run/vouch', place.run)
      .replace(/(listen|bind) :?8443/, `$1 127.0.0.1:${place.port}`)
      .replace('127.0.0.1:8080', `127.0.0.1:${place.servicePort}`);
    writeFileSync(to, text);
  }
}

/** The same, and the command of its document for there, for `sh -c`, which needs `sbin`. */
export function placeProxy(name: ProxyName, place: ProxyPlace): string {
  placeFiles(name, place);
  const [, block = ''] =
    /^```sh\n([^`]+)\n```$/m.exec(readFileSync(join(project, `docs/integrations/${name}.md`), 'utf8')) ?? [];
  return block
    .replaceAll('/etc/vouch', place.etc)
    .replaceAll('/run/vouch', place.run)
    .replace(`${name}.join`, place.joinFile)
    .replace(/^vouch exec/, `exec ${place.vouch.map((word) => `'${word}'`).join(' ')} exec`);
}
