/*
 * A right signature of a wrong key: another private key of the token of the same type and size signs; where it has none,
 * a key pair made for that, which ends with its session.
 */
#include "shim.h"

#include <string.h>

enum { most_keys = 64, parameter_bytes = 1024 };

/* Key type, and what two keys must share for their signatures to have the same form: the curve, or the modulus's length. */
struct kind {
  CK_KEY_TYPE type;
  CK_BYTE curve[parameter_bytes];
  CK_ULONG curve_length, modulus_length;
};

static bool kind_of(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, struct kind *kind) {
  memset(kind, 0, sizeof *kind);
  CK_ATTRIBUTE type = {CKA_KEY_TYPE, &kind->type, sizeof kind->type};
  CK_ATTRIBUTE modulus = {CKA_MODULUS, NULL, 0};
  CK_ATTRIBUTE curve = {CKA_EC_PARAMS, kind->curve, sizeof kind->curve};
  if (real->C_GetAttributeValue(session, key, &type, 1) != CKR_OK) return false;
  if (kind->type == CKK_RSA) {
    bool read = real->C_GetAttributeValue(session, key, &modulus, 1) == CKR_OK;
    kind->modulus_length = modulus.ulValueLen;
    return read;
  }
  bool read = real->C_GetAttributeValue(session, key, &curve, 1) == CKR_OK;
  kind->curve_length = curve.ulValueLen;
  return read;
}

static bool find_other(CK_SESSION_HANDLE session, const struct operation *operation, const struct kind *kind,
                       CK_OBJECT_HANDLE *other) {
  CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
  CK_KEY_TYPE type = kind->type;
  CK_BBOOL yes = CK_TRUE;
  CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type}, {CKA_SIGN, &yes, 1}};
  CK_OBJECT_HANDLE found[most_keys];
  CK_ULONG count = 0;
  if (real->C_FindObjectsInit(session, template, 3) != CKR_OK) return false;
  if (real->C_FindObjects(session, found, most_keys, &count) != CKR_OK) count = 0;
  real->C_FindObjectsFinal(session);
  for (CK_ULONG at = 0; at < count; at++) {
    struct kind same;
    char id[2 * max_id + 1];
    key_id(session, found[at], id);
    if (strcmp(id, operation->id) == 0 || !kind_of(session, found[at], &same)) continue;
    if (memcmp(&same, kind, sizeof same) != 0) continue;
    *other = found[at];
    return true;
  }
  return false;
}

static CK_RV make_other(CK_SESSION_HANDLE session, const struct kind *kind, CK_OBJECT_HANDLE *other) {
  CK_MECHANISM mechanism = {kind->type == CKK_RSA  ? CKM_RSA_PKCS_KEY_PAIR_GEN
                            : kind->type == CKK_EC ? CKM_EC_KEY_PAIR_GEN
                                                   : CKM_EC_EDWARDS_KEY_PAIR_GEN,
                            NULL, 0};
  CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
  CK_ULONG bits = kind->modulus_length * 8;
  CK_BYTE exponent[] = {1, 0, 1};
  struct kind own = *kind;
  CK_ATTRIBUTE rsa[] = {{CKA_TOKEN, &no, 1}, {CKA_MODULUS_BITS, &bits, sizeof bits}, {CKA_PUBLIC_EXPONENT, exponent, 3}};
  CK_ATTRIBUTE curve[] = {{CKA_TOKEN, &no, 1}, {CKA_EC_PARAMS, own.curve, own.curve_length}};
  CK_ATTRIBUTE private[] = {{CKA_TOKEN, &no, 1}, {CKA_SIGN, &yes, 1}, {CKA_SENSITIVE, &yes, 1}, {CKA_EXTRACTABLE, &no, 1}};
  CK_OBJECT_HANDLE public;
  bool is_rsa = kind->type == CKK_RSA;
  return real->C_GenerateKeyPair(session, &mechanism, is_rsa ? rsa : curve, is_rsa ? 3 : 2, private, 4, &public, other);
}

CK_RV other_key_sign(CK_SESSION_HANDLE session, const struct operation *operation, CK_BYTE *data, CK_ULONG length,
                     CK_BYTE *signature, CK_ULONG *signature_length) {
  struct kind kind;
  CK_SESSION_HANDLE own;
  if (!kind_of(session, operation->key, &kind)) return CKR_GENERAL_ERROR;
  CK_RV rv = real->C_OpenSession(token_slot_of(session), CKF_SERIAL_SESSION, NULL, NULL, &own);
  if (rv != CKR_OK) return rv;
  struct operation other = {.mechanism = operation->mechanism};
  if (!find_other(own, operation, &kind, &other.key)) rv = make_other(own, &kind, &other.key);
  if (rv == CKR_OK) key_id(own, other.key, other.id);
  if (rv == CKR_OK) rv = real->C_SignInit(own, &other.mechanism, other.key);
  if (rv == CKR_OK) rv = real->C_Sign(own, data, length, signature, signature_length);
  if (rv == CKR_OK && !witness_write("C_Sign", &other, data, length, rv, signature, *signature_length, "other-key"))
    rv = CKR_DEVICE_ERROR;
  real->C_CloseSession(own);
  return rv;
}
