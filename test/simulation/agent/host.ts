import { createPrivateKey, createPublicKey } from 'node:crypto';
import { Budget } from '../../../src/agent/grpc/budget.ts';
import type { Frame } from '../../../src/agent/grpc/frame.ts';
import { allBytes, lastText, readFields } from '../../../src/agent/grpc/protobuf.ts';
import type { Out } from '../../../src/agent/grpc/server.ts';
import { createWorkloadApi, type WorkloadApi } from '../../../src/agent/workload-api/service.ts';
import type { Workloads } from '../../../src/agent/workloads.ts';
import { createAttest, type WorkloadAttestor } from '../../../src/attestation/workload/attest.ts';
import { unknownWorkload, type WorkloadPeer } from '../../../src/attestation/workload/peer.ts';
import { type ParsedCertificate, parseCertificate } from '../../../src/x509/certificate.ts';

/** A process of the host: what it is does not change while it lives. */
export interface Process {
  pid: number;
  uid: number;
  path: string;
  bornMs: number;
  isAlive: boolean;
  /** What it shows. */
  selectors: ReadonlySet<string>;
  /** By entry: the newest certificate that it was given. */
  held: Map<string, Given>;
}

/** What one X509SVID of a message is. */
export interface Given {
  spiffeId: string;
  leaf: ParsedCertificate;
  isKeyRight: boolean;
}

/** A connection to the agent's socket with its one stream. */
export class Stream implements WorkloadPeer {
  readonly process: Process;
  readonly uid: number;
  readonly gid: number;
  last: readonly Given[] = [];
  isOver = false;
  #end: (() => void) | undefined;
  readonly #given: (stream: Stream, given: readonly Given[]) => void;

  constructor(process: Process, given: (stream: Stream, given: readonly Given[]) => void) {
    this.process = process;
    this.uid = process.uid;
    this.gid = process.uid;
    this.#given = given;
  }

  get pid(): number {
    return this.process.pid;
  }

  isAlive(): boolean {
    return this.process.isAlive && !this.isOver;
  }

  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#end?.();
  }

  /** Asks for X.509-SVIDs, and goes on listening. */
  async open(api: WorkloadApi): Promise<void> {
    const method = api.methods.get('/SpiffeWorkloadAPI/FetchX509SVID');
    if (method?.kind !== 'stream') throw new Error('no such method');
    const out: Out = {
      unread: 0,
      send: (frame) => {
        if (this.isOver) return;
        this.last = givenBy(frame);
        this.#given(this, this.last);
      },
      end: () => this.close(),
    };
    try {
      const opened = await method.open(
        Buffer.alloc(0),
        { peer: this, headers: { 'workload.spiffe.io': 'true' }, budget: new Budget() },
        out,
      );
      if (this.isOver) opened.closed();
      else this.#end = () => opened.closed();
    } catch {
      this.close();
    }
  }
}

const decoded = new WeakMap<Buffer | Frame, readonly Given[]>();

/** Reads an X509SVIDResponse behind its gRPC prefix. */
function givenBy(frame: Buffer | Frame): readonly Given[] {
  const known = decoded.get(frame);
  if (known !== undefined) return known;
  const bytes = Buffer.isBuffer(frame) ? frame : Buffer.concat(frame);
  const given = allBytes(readFields(bytes.subarray(5)), 1).map((message): Given => {
    const fields = readFields(message);
    const [chain = Buffer.alloc(0)] = allBytes(fields, 2);
    const [key = Buffer.alloc(0)] = allBytes(fields, 3);
    const leaf = parseCertificate(firstOf(chain));
    const own = createPublicKey(createPrivateKey({ key, format: 'der', type: 'pkcs8' }));
    return {
      spiffeId: lastText(fields, 1),
      leaf,
      isKeyRight: own.export({ format: 'der', type: 'spki' }).equals(leaf.spki),
    };
  });
  decoded.set(frame, given);
  return given;
}

/** The first of DER values in a row, each a SEQUENCE of 128 bytes or more. */
function firstOf(der: Buffer): Buffer {
  const lengthBytes = (der[1] ?? 0) & 0x7f;
  return der.subarray(0, 2 + lengthBytes + der.readUIntBE(2, lengthBytes));
}

/** Processes by their number, each number given again, and the Workload API that serves them. */
export class Host {
  readonly processes = new Map<number, Process>();
  readonly #wait: () => Promise<void>;

  /** `wait`: how long a look into /proc takes. */
  constructor(wait: () => Promise<void>) {
    this.#wait = wait;
  }

  start(who: Pick<Process, 'pid' | 'uid' | 'path' | 'bornMs'>): Process {
    const selectors = new Set([`unix:uid:${who.uid}`, `unix:path:${who.path}`]);
    const process = { ...who, selectors, isAlive: true, held: new Map<string, Given>() };
    this.end(who.pid);
    this.processes.set(who.pid, process);
    return process;
  }

  end(pid: number): void {
    const process = this.processes.get(pid);
    if (process !== undefined) process.isAlive = false;
    this.processes.delete(pid);
  }

  /** The Workload API over what an agent holds. What it sees of a process it reads by its number, as of /proc. */
  serve(workloads: Workloads): WorkloadApi {
    const attestor: WorkloadAttestor = {
      look: async ({ pid }) => {
        await this.#wait();
        return [`unix:uid:${this.#find(pid).uid}`];
      },
      dear: new Map([
        [
          'unix:path:',
          async ({ pid }) => {
            await this.#wait();
            return `unix:path:${this.#find(pid).path}`;
          },
        ],
      ]),
    };
    return createWorkloadApi({
      workloads,
      attest: createAttest([attestor], () => workloads.now?.svids ?? []),
      validate: () => {
        throw new Error('no JWT is shown here');
      },
      notice: () => undefined,
    });
  }

  #find(pid: number): Process {
    const process = this.processes.get(pid);
    if (process === undefined) throw unknownWorkload('/proc does not tell of it');
    return process;
  }
}
