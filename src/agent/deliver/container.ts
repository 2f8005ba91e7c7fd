import { oneLine } from './command.ts';

const answerMaxBytes = 4096;

/**
 * Has a container engine send a signal to a container's first process, by Docker's API over the engine's socket
 * (`POST /containers/<name>/kill`). Resolves to why it did not, or to undefined.
 */
export async function signalContainer(
  { container, signal, engine }: { container: string; signal: NodeJS.Signals; engine: string },
  over: AbortSignal,
): Promise<string | undefined> {
  const { request } = await import('node:http');
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const failed = (error: NodeJS.ErrnoException): void =>
    resolve(
      `${engine} does not answer: ${over.aborted ? 'it takes too long' : (error.code ?? error.message)}`,
    );
  const path = `/containers/${container}/kill?signal=${signal}`;
  const asked = request(
    { socketPath: engine, path, method: 'POST', agent: false, signal: over },
    (answer) => {
      let text = '';
      answer
        .setEncoding('utf8')
        .on('data', (chunk: string) => (text = (text + chunk).slice(0, answerMaxBytes)));
      answer.once('error', failed);
      answer.once('end', () => {
        const { statusCode = 0 } = answer;
        if (statusCode >= 200 && statusCode < 300) resolve(undefined);
        else resolve(`the container engine answers ${statusCode}: ${oneLine(messageIn(text))}`);
      });
    },
  );
  asked.once('error', failed);
  asked.end();
  return promise;
}

/** Of `{"message":"…"}`, or the text itself. */
function messageIn(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === 'string' ? message : text;
  } catch {
    return text;
  }
}
