import { normalize } from 'node:path';
import * as z from 'zod/mini';
import { asVouchError } from '../core/errors.ts';
import { parseSpiffeId, type SpiffeId } from '../core/spiffe-id.ts';

/** How software is told that its files are others, and after which changes. */
export type Reload = { on: readonly ('certificate' | 'crl')[] } & (
  | { type: 'signal'; signal: NodeJS.Signals; pidFile: string }
  | { type: 'command'; command: readonly string[] }
  | { type: 'systemd'; unit: string }
  | { type: 'container'; container: string; signal: NodeJS.Signals; engine: string }
);

const signals = ['HUP', 'USR1', 'USR2', 'WINCH', 'TERM', 'INT', 'QUIT'] as const;
const dockerSocket = '/run/docker.sock';

const path = z.string().check(
  z.maxLength(4000, 'must be 4000 characters at most'),
  z.refine(
    (text) => text.startsWith('/') && text !== '/' && normalize(text) === text && !text.endsWith('/'),
    {
      error: 'must be an absolute path without . or .. and without / at its end, as /etc/nginx/vouch',
    },
  ),
);

const spiffeId = z.pipe(
  z.string(),
  z.transform((text: string, context): SpiffeId => {
    try {
      return parseSpiffeId(text);
    } catch (error) {
      context.issues.push({ code: 'custom', message: asVouchError(error).detail, input: text });
      return z.NEVER;
    }
  }),
);

/** A name of /etc/passwd or /etc/group, or a number; 4294967295 means "leave it" to the kernel. */
const account = z
  .union([z.string(), z.int()])
  .check(
    z.refine(
      (value) =>
        typeof value === 'string'
          ? /^[A-Za-z_][A-Za-z0-9._-]{0,31}$/.test(value)
          : value >= 0 && value < 4_294_967_295,
      { error: 'must be a name as www-data, or a number' },
    ),
  );

const reload = z.pipe(
  z.strictObject({
    /** HUP where it is left out. */
    signal: z.optional(z.enum(signals)),
    /** Holds the number of the process that gets the signal, in its first line; read anew each time. */
    pidFile: z.optional(path),
    /** Program and arguments; no shell. It has 30 s, VOUCH_DIR and VOUCH_CHANGE (`certificate` or `crl`). */
    command: z.optional(
      z
        .array(z.string().check(z.maxLength(4096)))
        .check(
          z.minLength(1, 'must be a program and its arguments, as [nginx, -s, reload]'),
          z.maxLength(64, 'must have 64 members at most'),
        ),
    ),
    /** Unit that `systemctl reload` is called for. */
    systemd: z.optional(
      z
        .string()
        .check(z.regex(/^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,250}$/, 'must be a unit, as nginx.service')),
    ),
    /** Container whose first process gets the signal. */
    container: z.optional(
      z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/, "must be a container's name or id")),
    ),
    /** Socket of the engine; what speaks Docker's API. */
    engine: z.optional(path),
    /** Changes that it is told of; `[certificate]` for what does not read crl.pem. */
    on: z._default(z.array(z.enum(['certificate', 'crl'])).check(z.minLength(1, 'must name a change')), [
      'certificate',
      'crl',
    ]),
  }),
  z.transform((given, context): Reload => {
    const refuse = (message: string): Reload => {
      context.issues.push({ code: 'custom', message, input: given });
      return z.NEVER;
    };
    const { signal, pidFile, command, systemd, container, engine, on } = given;
    if ([pidFile, command, systemd, container].filter((one) => one !== undefined).length !== 1)
      return refuse('must have one of `pidFile`, `command`, `systemd` and `container`');
    if (signal !== undefined && pidFile === undefined && container === undefined)
      return refuse('has a `signal`, which goes with `pidFile` or `container`');
    if (engine !== undefined && container === undefined)
      return refuse('has an `engine`, which goes with `container`');
    const sent: NodeJS.Signals = `SIG${signal ?? 'HUP'}`;
    if (pidFile !== undefined) return { on, type: 'signal', signal: sent, pidFile };
    if (command !== undefined) return { on, type: 'command', command };
    if (systemd !== undefined) return { on, type: 'systemd', unit: systemd };
    return {
      on,
      type: 'container',
      container: container ?? '',
      signal: sent,
      engine: engine ?? dockerSocket,
    };
  }),
);

const target = z
  .strictObject({
    /** SPIFFE ID of what is delivered; of several entries with it the oldest. */
    id: z.optional(spiffeId),
    /** Registration entry, instead of `id`. */
    entry: z.optional(
      z
        .string()
        .check(z.regex(/^e_[0-9a-f]{16}$/, 'must be an id of `vouch entry list`, as e_0123456789abcdef')),
    ),
    /** Folder; it is made where it is missing. Neither it nor what leads to it may be in the hands of others than root and the agent. */
    dir: path,
    /** Whose the files are; the agent's own where it is left out. */
    owner: z.optional(account),
    group: z.optional(account),
    /** Of files that hold a key. */
    mode: z._default(
      z.enum(['0600', '0640', '0400', '0440'], {
        error: "must be '0600', '0640', '0400' or '0440', in quotes: nobody else reads a key",
      }),
      '0600',
    ),
    /** What is written; `pem` always is. */
    formats: z._default(z.array(z.enum(['pem', 'combined', 'pkcs12'])), ['pem']),
    pkcs12: z.optional(
      z.strictObject({
        /** One line of 6 to 128 printable ASCII characters, readable by its owner only. */
        passwordFile: path,
      }),
    ),
    reload: z.optional(reload),
  })
  .check(
    z.refine(({ id, entry }) => (id === undefined) !== (entry === undefined), {
      error: 'must have either `id` or `entry`',
    }),
    z.refine(({ formats, pkcs12 }) => formats.includes('pkcs12') === (pkcs12 !== undefined), {
      error: 'must have `pkcs12: { passwordFile: … }` where `formats` has pkcs12, and only there',
    }),
  );

/** One folder that software reads its certificate from. */
export type DeliverTarget = z.output<typeof target>;

/** `deliver:` of the agent's configuration. */
export const deliverSchema = z.array(target).check(
  z.maxLength(256, 'must have 256 targets at most'),
  z.check(({ value, issues }) => {
    const seen = new Set<string>();
    value.forEach(({ dir }, index) => {
      if (seen.has(dir))
        issues.push({
          code: 'custom',
          path: [index, 'dir'],
          message: 'is the folder of another target; each needs its own',
          input: dir,
        });
      seen.add(dir);
    });
  }),
);
