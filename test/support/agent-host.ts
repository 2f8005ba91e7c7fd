import { chmodSync } from 'node:fs';
import { type Authority, startVouch } from './daemon.ts';
import type { Running, StartOptions } from './running.ts';

/** A host with a `vouch agent`, whose socket everybody can reach. */
export class AgentHost {
  readonly socket: string;
  readonly #authority: Authority;
  readonly #name: string;
  readonly #flags: readonly string[];
  #agent: Running | undefined;

  private constructor(authority: Authority, name: string, joinFile: string) {
    const dir = authority.path('agent');
    chmodSync(authority.folder, 0o711);
    this.socket = authority.path('a.sock');
    this.#authority = authority;
    this.#name = name;
    this.#flags = ['--join-file', joinFile, '--dir', dir, '--socket', this.socket, '--json'];
  }

  /** With a join file of its own; nothing runs yet. */
  static async of(authority: Authority, name: string): Promise<AgentHost> {
    return new AgentHost(authority, name, (await authority.join(name)).path);
  }

  /** Starts the agent without waiting for anything. */
  launch(options?: StartOptions): Running {
    this.#agent = startVouch(['agent', ...this.#flags], options);
    return this.#agent;
  }

  /** Starts the agent and waits until it serves. */
  async start(options?: StartOptions): Promise<Running> {
    const agent = this.launch(options);
    await agent.until(({ stdout }) => stdout.includes('\n'));
    return agent;
  }

  /** The agent that was started last. */
  get agent(): Running {
    if (this.#agent === undefined) throw new Error('no agent was started');
    return this.#agent;
  }

  /** What a workload is started with to find the agent. */
  get env(): NodeJS.ProcessEnv {
    return { SPIFFE_ENDPOINT_SOCKET: `unix://${this.socket}` };
  }

  /** SPIFFE ID of this agent. */
  get id(): string {
    return this.#authority.id(this.#name);
  }

  /** Makes a registration entry of this agent and resolves to its id. */
  async entry(name: string, selector: string, ...flags: readonly string[]): Promise<string> {
    const ids = ['--id', this.#authority.id(name), '--parent', this.id, '--selector', selector];
    return (await this.#authority.vouch('entry', 'create', ...ids, ...flags)).json<{ entryId: string }>()
      .entryId;
  }
}
