import { open, realpath, stat } from 'node:fs/promises';
import { nameFile } from './names.ts';

/**
 * Why no process of this host can show a selector as the host is now; undefined where one can, or where the agent may
 * not see. For what only the host knows: names of users and groups, and paths of programs.
 */
export function createLacks(
  options: { passwd?: string; group?: string } = {},
): (selector: string) => Promise<string | undefined> {
  const { passwd = '/etc/passwd', group = '/etc/group' } = options;
  const [users, groups] = [nameFile(passwd), nameFile(group)];
  const nameLack = async (names: typeof users, file: string, name: string) =>
    [...(await names()).values()].includes(name) ? undefined : `no number goes by this name in ${file}`;
  const lacks: Record<string, (value: string) => Promise<string | undefined>> = {
    'unix:user': (name) => nameLack(users, passwd, name),
    'unix:group': (name) => nameLack(groups, group, name),
    'unix:supplementary_group': (name) => nameLack(groups, group, name),
    'unix:path': pathLack,
  };
  return async (selector) => {
    const [, type = '', value = ''] = /^(unix:[a-z_]+):(.*)$/s.exec(selector) ?? [];
    return lacks[type]?.(value);
  };
}

/** As proc_pid_exe(5) shows programs: where the links end, and for a script its interpreter. */
async function pathLack(path: string): Promise<string | undefined> {
  try {
    if ((await realpath(path)) !== path) return 'a link: name where it ends, as `readlink -f` says';
    // Opening another kind could wait for ever.
    if (!(await stat(path)).isFile()) return 'no program';
    return (await beginning(path)) === '#!' ? 'a script: its process shows the interpreter' : undefined;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    return ['ENOENT', 'ENOTDIR'].includes(code) ? 'no such file' : undefined;
  }
}

async function beginning(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(2), 0, 2, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await file.close();
  }
}
