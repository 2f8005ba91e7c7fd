import { VouchError } from '../core/errors.ts';
import type { SigningKeyType } from '../x509/signing-key-type.ts';
import {
  type CeremonyStep,
  type CeremonySteps,
  codeOfStep,
  decodeStep,
  encodeStep,
} from './ceremony-protocol.ts';
import { Connection, ConnectionLost } from './connection.ts';
import type { HsmConfig } from './hsm.ts';
import { type KeyTypeProblems, requireKeyType } from './key-types.ts';
import { launch } from './launch.ts';
import type { SignerLog } from './signer-log.ts';

/** A child that holds one token, for the time of a ceremony. */
export class CeremonyClient {
  readonly #connection: Connection;
  readonly #kill: () => void;
  readonly #tokenLabel: string;
  #keyTypeProblems: KeyTypeProblems = {};

  private constructor(connection: Connection, kill: () => void, tokenLabel: string) {
    this.#connection = connection;
    this.#kill = kill;
    this.#tokenLabel = tokenLabel;
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
    const client = new CeremonyClient(new Connection(launched.stream), launched.kill, hsm.tokenLabel);
    try {
      const { keyTypeProblems } = await client.ask('open', { hsm, refusedFile });
      client.#keyTypeProblems = keyTypeProblems;
      return client;
    } catch (error) {
      client.end();
      throw error;
    }
  }

  /** Whether the token makes keys of this type and signs with them. */
  makes(type: SigningKeyType): boolean {
    return this.#keyTypeProblems[type] === undefined;
  }

  /** Refuses a type before a key is made. Throws `config-hsm` with those that the token makes. */
  require(type: SigningKeyType): void {
    requireKeyType(this.#keyTypeProblems, type, this.#tokenLabel);
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
