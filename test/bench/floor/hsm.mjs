// What the token's signatures cost through PKCS#11, in a process of its own: keys in the token, one session, one thread.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import pkcs11 from 'pkcs11js';
import { timeOf, serveParts } from './repeat.mjs';

/** PKCS#11 3.0, by number where pkcs11js has no name. */
const ckkEcEdwards = 0x40;
const ckmEcEdwardsKeyPairGen = 0x1055;
const ckmEddsa = 0x1057;
/** DER OBJECT IDENTIFIER of P-256 and Ed25519. */
const p256 = Buffer.from('06082a8648ce3d030107', 'hex');
const ed25519 = Buffer.from('06032b6570', 'hex');

const {
  module: path,
  tokenLabel,
  tokenSerial,
  pinFile,
  environment,
} = JSON.parse(readFileSync(process.argv[2], 'utf8'));
Object.assign(process.env, environment);
const module = new pkcs11.PKCS11();
module.load(path);
module.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
const slot = module.C_GetSlotList(true).find((one) => {
  const { label, serialNumber } = module.C_GetTokenInfo(one);
  return label.trim() === tokenLabel && serialNumber.trim() === tokenSerial;
});
const session = module.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
module.C_Login(session, pkcs11.CKU_USER, readFileSync(pinFile, 'utf8').trim());

const issuerKey = newKey(pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, p256);
const logKey = newKey(ckkEcEdwards, ckmEcEdwardsKeyPairGen, ed25519);
const digests = Array.from({ length: 64 }, () => randomBytes(32));
const checkpoints = Array.from({ length: 64 }, () => randomBytes(96));

serveParts({
  sign: ({ ms }) => timeOf((n) => sign(issuerKey, pkcs11.CKM_ECDSA, digests[n % 64]), ms),
  'checkpoint-sign': ({ ms }) => timeOf((n) => sign(logKey, ckmEddsa, checkpoints[n % 64]), ms),
});

function sign(key, mechanism, input) {
  module.C_SignInit(session, { mechanism }, key);
  return module.C_Sign(session, input, Buffer.alloc(64));
}

function newKey(type, mechanism, parameters) {
  const common = [
    { type: pkcs11.CKA_KEY_TYPE, value: type },
    { type: pkcs11.CKA_TOKEN, value: true },
  ];
  const publicTemplate = [
    ...common,
    { type: pkcs11.CKA_EC_PARAMS, value: parameters },
    { type: pkcs11.CKA_VERIFY, value: true },
  ];
  const privateTemplate = [
    ...common,
    { type: pkcs11.CKA_PRIVATE, value: true },
    { type: pkcs11.CKA_SENSITIVE, value: true },
    { type: pkcs11.CKA_EXTRACTABLE, value: false },
    { type: pkcs11.CKA_SIGN, value: true },
  ];
  return module.C_GenerateKeyPair(session, { mechanism }, publicTemplate, privateTemplate).privateKey;
}
