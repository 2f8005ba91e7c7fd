import { type Command, Option } from 'commander';
import { parseDuration } from '../config/duration.ts';
import { allowedClient, registrableAddress, registrableDnsName } from '../registration/names.ts';
import { duration, each, valueOf } from './values.ts';

/** What `vouch token create` and `vouch entry create` both take. */
export interface IdentityOptions {
  dns?: string[];
  ip?: string[];
  allow?: string[];
  allowedClient?: string[];
  lifetime?: string;
}

/** The flags that say what stands in the certificates of an identity, and who may call it. */
export function addIdentityFlags(command: Command): Command {
  return command
    .option(
      '--dns <name>',
      'DNS name in the certificate (repeatable)',
      each(valueOf('--dns', registrableDnsName)),
    )
    .option(
      '--ip <address>',
      'IP address in the certificate (repeatable)',
      each(valueOf('--ip', registrableAddress)),
    )
    .option(
      '--allow <spiffe-id>',
      'who may call it, an ID or a prefix ending in /* (repeatable; none: nobody)',
      each(valueOf('--allow', allowedClient)),
    )
    .addOption(
      new Option('--allowed-client <spiffe-id>', 'the same as --allow')
        .argParser(each(valueOf('--allowed-client', allowedClient)))
        .hideHelp(),
    )
    .option(
      '--lifetime <duration>',
      "lifetime of its certificates, 2m to 24h (default: the profile's 1h)",
      duration('--lifetime', '2m', '24h'),
    );
}

/** As the admin socket takes them. */
export function identityOf({
  dns,
  ip,
  allow = [],
  allowedClient: alsoAllow = [],
  lifetime,
}: IdentityOptions) {
  return {
    dnsNames: dns,
    ipAddresses: ip,
    allowedClients: [...allow, ...alsoAllow],
    ...(lifetime === undefined ? {} : { lifetimeSeconds: parseDuration(lifetime) }),
  };
}
