// `npm run test:conformance -- --socket PATH`: what the SPIFFE standards demand of a Workload API, asked of any agent.
import { parseArgs } from 'node:util';
import { count, runTypeScript } from '../../support/runner.mjs';

const usage = `usage: npm run test:conformance -- --socket PATH [--rotate COMMAND] [--without-identity-uid N] [--json]
  --socket                the agent's socket, or unix:///…; the caller must be a workload with an identity
  --rotate                a shell command that makes the agent renew what it serves to this caller
  --without-identity-uid  a user to whom the agent gives nothing; needs root
  --json                  one JSON object in place of lines`;

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  return runTypeScript('conformance', async () => {
    const { runConformance } = await import('./command.ts');
    return runConformance(options);
  });
}

function readOptions() {
  const text = { type: 'string' };
  try {
    const { values } = parseArgs({
      options: {
        socket: text,
        rotate: text,
        'without-identity-uid': text,
        json: { type: 'boolean', default: false },
      },
    });
    if (values.socket === undefined) throw new Error('--socket is missing');
    const uid = values['without-identity-uid'];
    return {
      socket: values.socket.replace(/^unix:(\/\/)?(?=\/)/, ''),
      rotate: values.rotate,
      withoutIdentityUid: uid === undefined ? undefined : count(uid, 'without-identity-uid', 1),
      json: values.json,
    };
  } catch (error) {
    console.error(`conformance: ${error.message}\n${usage}`);
    return undefined;
  }
}

process.exitCode = await main();
