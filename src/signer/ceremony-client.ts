import { VouchError } from '../core/errors.ts';
import {
  type CeremonyStep,
  type CeremonySteps,
  codeOfStep,
  decodeStep,
  encodeStep,
} from './ceremony-protocol.ts';
import { Connection, ConnectionLost } from './connection.ts';
import type { HsmConfig } from './hsm.ts';
import { launch } from './launch.ts';
import type { SignerLog } from './signer-log.ts';

/** A child that holds one token, for the time of a ceremony. */
export class CeremonyClient {
  readonly #connection: Connection;
  readonly #kill: () => void;
  #hasEd25519 = false;

  private constructor(connection: Connection, kill: () => void) {
    this.#connection = connection;
    this.#kill = kill;
  }

  /** Starts the child and logs into the token. Rejects with `config-hsm`, `config-pin`, `config-secret-readable`. */
  static async open(options: {
    entry: string;
    hsm: HsmConfig;
    refusedFile: string;
    log: SignerLog;
  }): Promise<CeremonyClient> {
    const { entry, hsm, refusedFile, log } = options;
    const program = { entry, args: ['signer', '--ceremony'], environment: hsm.environment };
    const launched = launch(program, log);
    const client = new CeremonyClient(new Connection(launched.stream), launched.kill);
    try {
      client.#hasEd25519 = (await client.ask('open', { hsm, refusedFile })).hasEd25519;
      return client;
    } catch (error) {
      client.end();
      throw error;
    }
  }

  /** Whether the token makes and uses Ed25519 keys. */
  get hasEd25519(): boolean {
    return this.#hasEd25519;
  }

  /** Asks for one step. Rejects with what the child refused. */
  async ask<Step extends CeremonyStep>(
    step: Step,
    request: CeremonySteps[Step]['request'],
  ): Promise<CeremonySteps[Step]['answer']> {
    try {
      const answer = await this.#connection.request(codeOfStep(step), encodeStep(request));
      return decodeStep<CeremonySteps[Step]['answer']>(answer);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      throw new VouchError('config-hsm', 'the process with the token ended; its log says why', {
        cause: error,
      });
    }
  }

  /** Ends the child. */
  end(): void {
    this.#connection.destroy();
    this.#kill();
  }
}
