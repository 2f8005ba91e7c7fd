import type { CertificateRule } from './context.ts';

/** `/vouch/server` for the server's own certificate, and nothing else under `/vouch` for anybody (I9). */
export const reservedNames: CertificateRule = {
  name: 'reserved-names',
  citation: 'invariant I9',
  check({ uris }, { isServer, trustDomain }) {
    if (__VOUCH_WITHOUT__ === 'I9') return [];
    const root = `spiffe://${trustDomain}/vouch`;
    const reserved = uris.filter((uri) => uri === root || uri.startsWith(`${root}/`));
    if (isServer)
      return uris.every((uri) => uri === `${root}/server`) ? [] : ["the server's own name is /vouch/server"];
    return reserved.length > 0 ? ['names under /vouch are reserved'] : [];
  },
};
