import * as z from 'zod/mini';
import { agentSettings } from './agent-settings.ts';
import { deliverSchema } from './deliver-config.ts';
import { proxyConfig } from './proxy-config.ts';

/** All that a configuration file may have. */
export const agentFileSchema = z.strictObject({
  ...agentSettings,
  /** Files for software that knows nothing of SPIFFE. */
  deliver: z._default(deliverSchema, []),
  /** mTLS in front of plain local ports, and out of them. */
  proxy: z._default(z.array(proxyConfig).check(z.maxLength(256)), []),
});

/** The validated configuration of `vouch agent`; `crlRefresh` in seconds. */
export type AgentConfig = Readonly<z.output<typeof agentFileSchema>>;
