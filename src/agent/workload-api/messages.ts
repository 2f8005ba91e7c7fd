// Messages of the SPIFFE Workload API, by the names and numbers of the standard's workloadapi.proto.
import { trustDomainId } from '../../core/spiffe-id.ts';
import {
  allTexts,
  bytesField,
  doubleField,
  fieldParts,
  lastText,
  mapField,
  optionalField,
  readFields,
  varintField,
} from '../grpc/protobuf.ts';
import type { Svid, Trust } from '../workloads.ts';

/** All CRLs together, bytes. */
export const crlsMaxBytes = 2 * 1024 * 1024;
/** What SDKs take is 4 MiB, as gRPC libraries have it by default; less what the framing of fields takes. */
const messageMaxBytes = 4 * 1024 * 1024 - 4096;
/** Of a claim that is an object or list in an object or list, and so on. */
const claimDepthMax = 16;

/** X509SVIDResponse, in parts. */
export function x509SvidResponse(svids: readonly Svid[], trust: Trust): Uint8Array[] {
  const bundle = Buffer.concat(trust.roots);
  const hints = uniqueHints(svids);
  const own = Buffer.concat(
    svids.map((svid, index) =>
      bytesField(
        1,
        Buffer.concat([
          bytesField(1, svid.spiffeId),
          bytesField(2, Buffer.concat(svid.chain)),
          bytesField(3, svid.keyPkcs8),
          bytesField(4, bundle),
          optionalField(5, hints[index] ?? ''),
        ]),
      ),
    ),
  );
  return [own, ...servedCrls(trust, own.length).flatMap((crl) => fieldParts(2, [crl]))];
}

/** X509BundlesResponse, in parts. */
export function x509BundlesResponse(trust: Trust): Uint8Array[] {
  return [
    ...servedCrls(trust, 0).flatMap((crl) => fieldParts(1, [crl])),
    mapField(2, trustDomainId(trust.trustDomain), Buffer.concat(trust.roots)),
  ];
}

/** JWTBundlesResponse: a JWK Set with nothing but the keys of JWT-SVIDs. */
export function jwtBundlesResponse(trust: Trust): Uint8Array[] {
  const keys = trust.jwtKeys.filter((key) => key.use === 'jwt-svid');
  return [mapField(1, trustDomainId(trust.trustDomain), Buffer.from(JSON.stringify({ keys })))];
}

/** JWTSVIDResponse. */
export function jwtSvidResponse(tokens: readonly { svid: Svid; token: string }[]): Buffer {
  const hints = uniqueHints(tokens.map(({ svid }) => svid));
  return Buffer.concat(
    tokens.map(({ svid, token }, index) =>
      bytesField(
        1,
        Buffer.concat([
          bytesField(1, svid.spiffeId),
          bytesField(2, token),
          optionalField(3, hints[index] ?? ''),
        ]),
      ),
    ),
  );
}

/** ValidateJWTSVIDResponse. */
export function validateResponse(spiffeId: string, claims: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.concat([bytesField(1, spiffeId), bytesField(2, structOf(claims, 0))]);
}

/** JWTSVIDRequest; `spiffeId` is '' where none is asked for. */
export function readJwtSvidRequest(request: Buffer): { audience: string[]; spiffeId: string } {
  const fields = readFields(request);
  return { audience: allTexts(fields, 1), spiffeId: lastText(fields, 2) };
}

/** ValidateJWTSVIDRequest. */
export function readValidateRequest(request: Buffer): { audience: string; token: string } {
  const fields = readFields(request);
  return { audience: lastText(fields, 1), token: lastText(fields, 2) };
}

/** All or none: a CRL that is missing looks like one that lists nobody, an empty field says that there are none here. */
function servedCrls(trust: Trust, beside: number): readonly Buffer[] {
  const bytes = trust.crls.reduce((sum, crl) => sum + crl.length, 0);
  return bytes <= Math.min(crlsMaxBytes, messageMaxBytes - beside) ? trust.crls : [];
}

/** A hint is unique in a response (Workload API §5.2.1): of those alike the first keeps it, the others have none. */
function uniqueHints(svids: readonly Svid[]): string[] {
  const seen = new Set<string>();
  return svids.map(({ hint }) => {
    if (seen.has(hint)) return '';
    seen.add(hint);
    return hint;
  });
}

/** google.protobuf.Struct. */
function structOf(members: Readonly<Record<string, unknown>>, depth: number): Buffer {
  return Buffer.concat(
    Object.entries(members).map(([name, value]) => mapField(1, name, valueOf(value, depth + 1))),
  );
}

/** google.protobuf.Value. */
function valueOf(value: unknown, depth: number): Buffer {
  if (depth > claimDepthMax) throw new RangeError('claims are nested too deep');
  if (typeof value === 'number') return doubleField(2, value);
  if (typeof value === 'string') return bytesField(3, value);
  if (typeof value === 'boolean') return varintField(4, value ? 1 : 0);
  if (Array.isArray(value))
    return bytesField(6, Buffer.concat(value.map((one) => bytesField(1, valueOf(one, depth + 1)))));
  if (typeof value === 'object' && value !== null)
    return bytesField(5, structOf(value as Readonly<Record<string, unknown>>, depth + 1));
  return varintField(1, 0);
}
