/**
 * Operator of the revocation that ends a certificate whose signature never came, so that another issuer can answer the
 * same request: nobody on the admin socket has this name.
 */
export const takeOverOperator = 'vouch:takeover';
