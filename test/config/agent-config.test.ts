import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { loadAgentConfig } from '../../src/config/agent-config.ts';
import { temporaryFolder } from '../agent/support/harness.ts';

const file = (content: string): string => {
  const path = join(temporaryFolder(), 'agent.yaml');
  writeFileSync(path, content);
  return path;
};

it('a path on the command line is of the shell, and wins over the file', async () => {
  const config = await loadAgentConfig(file('joinFile: /etc/other.join\ndir: /srv/agent\n'), {
    'join-file': 'agent.join',
  });
  expect(config).toMatchObject({ joinFile: resolve('agent.join'), dir: '/srv/agent', crl: 'require' });
});

it('what is wrong with a flag is a wrong command line, by the name of the flag', async () => {
  await expect(loadAgentConfig(file(''), { crl: 'maybe', 'crl-refresh': '1x' })).rejects.toThrow(
    expect.objectContaining({
      code: 'usage-invalid',
      detail: expect.stringMatching(
        /^--crl: must be one of .*; --crl-refresh: must be a duration/,
      ) as unknown,
    }) as Error,
  );
});

it('in the file a path is absolute', async () => {
  await expect(loadAgentConfig(file('joinFile: agent.join\n'), {})).rejects.toThrow(
    expect.objectContaining({
      code: 'config-invalid',
      detail: expect.stringMatching(/agent\.yaml: joinFile: must be an absolute path$/) as unknown,
    }) as Error,
  );
});
