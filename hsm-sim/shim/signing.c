/* Signatures: who signs what is remembered from C_SignInit on, and written down before the caller gets it. */
#include "shim.h"

#include <stdlib.h>
#include <string.h>

enum { cache_size = 64, scratch_bytes = 4096 };

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
  CK_OBJECT_HANDLE key;
  char id[2 * max_id + 1];
} cache[cache_size];

void signing_forget_keys(void) {
  pthread_mutex_lock(&cache_lock);
  memset(cache, 0, sizeof cache);
  pthread_mutex_unlock(&cache_lock);
}

void key_id(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, char id[2 * max_id + 1]) {
  unsigned slot = key % cache_size;
  pthread_mutex_lock(&cache_lock);
  bool known = key != 0 && cache[slot].key == key;
  if (known) memcpy(id, cache[slot].id, sizeof cache[slot].id);
  pthread_mutex_unlock(&cache_lock);
  if (known) return;
  CK_BYTE bytes[max_id];
  CK_ATTRIBUTE attribute = {CKA_ID, bytes, sizeof bytes};
  bool found = real->C_GetAttributeValue(session, key, &attribute, 1) == CKR_OK && attribute.ulValueLen <= sizeof bytes;
  hex_of(id, bytes, found ? attribute.ulValueLen : 0);
  if (!found) return;
  pthread_mutex_lock(&cache_lock);
  cache[slot].key = key;
  memcpy(cache[slot].id, id, sizeof cache[slot].id);
  pthread_mutex_unlock(&cache_lock);
}

void operation_free(struct operation *operation) {
  if (!operation) return;
  free(operation->mechanism.pParameter);
  free(operation->data);
  free(operation);
}

static struct operation *operation_new(CK_SESSION_HANDLE session, const CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key) {
  struct operation *operation = calloc(1, sizeof *operation);
  if (!operation) abort();
  operation->key = key;
  operation->mechanism = (CK_MECHANISM){mechanism->mechanism, NULL, 0};
  if (mechanism->pParameter && mechanism->ulParameterLen) {
    operation->mechanism.pParameter = malloc(mechanism->ulParameterLen);
    if (!operation->mechanism.pParameter) abort();
    memcpy(operation->mechanism.pParameter, mechanism->pParameter, mechanism->ulParameterLen);
    operation->mechanism.ulParameterLen = mechanism->ulParameterLen;
  }
  key_id(session, key, operation->id);
  return operation;
}

void signing_operation_id(CK_SESSION_HANDLE session, char id[2 * max_id + 1]) {
  struct operation *operation = session_take_operation(session);
  if (!operation) return;
  memcpy(id, operation->id, sizeof operation->id);
  session_put_operation(session, operation);
}

/*
 * Ends a signature under way without one. PKCS#11 2.40 has no call for that; a part and then C_Sign, which no operation
 * in parts may end with, makes the module drop it. Should it sign instead, the log says so.
 */
void signing_cancel(CK_SESSION_HANDLE session) {
  struct operation *operation = session_take_operation(session);
  if (!operation) return;
  CK_BYTE scratch[scratch_bytes], part[1] = {0};
  CK_ULONG length = sizeof scratch;
  real->C_SignUpdate(session, part, sizeof part);
  CK_RV rv = real->C_Sign(session, part, sizeof part, scratch, &length);
  if (rv == CKR_OK) witness_write("C_Sign", operation, part, sizeof part, rv, scratch, length, "cancelled");
  operation_free(operation);
}

CK_RV special_C_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key) {
  CK_RV rv = real->C_SignInit(session, mechanism, key);
  if (rv == CKR_OK) session_put_operation(session, operation_new(session, mechanism, key));
  return rv;
}

CK_RV special_C_SignRecoverInit(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key) {
  CK_RV rv = real->C_SignRecoverInit(session, mechanism, key);
  if (rv == CKR_OK) session_put_operation(session, operation_new(session, mechanism, key));
  return rv;
}

/* Hands out the true signature, a false one, or none if the witness cannot write. */
static CK_RV hand_out(CK_SESSION_HANDLE session, const struct operation *operation, CK_BYTE *data, CK_ULONG length,
                      CK_RV rv, CK_BYTE *signature, CK_ULONG *signature_length, CK_ULONG room) {
  const struct call *call = current_call;
  const char *fault = call->other_key ? "other-key" : call->flip ? "flip" : NULL;
  CK_ULONG made = rv == CKR_OK ? *signature_length : 0;
  if (!witness_write(function_names[call->function], operation, data, length, rv, signature, made, fault)) {
    memset(signature, 0, made);
    return CKR_DEVICE_ERROR;
  }
  if (rv == CKR_OK && call->other_key) {
    *signature_length = room;
    rv = other_key_sign(session, operation, data, length, signature, signature_length);
  }
  if (rv == CKR_OK && call->flip) signature[*signature_length / 2] ^= 1;
  return rv;
}

/*
 * What stands between the real function's answer and the caller. What is known of the operation is kept until a signature
 * is made: not every error ends it. Where nothing is known, the signature is written down all the same.
 */
static CK_RV finish(CK_SESSION_HANDLE session, struct operation *operation, CK_BYTE *data, CK_ULONG length, CK_RV rv,
                    CK_BYTE *signature, CK_ULONG *signature_length, CK_ULONG room) {
  static const struct operation unknown;
  bool signed_now = rv == CKR_OK && signature;
  bool asks_only = rv == CKR_BUFFER_TOO_SMALL || (rv == CKR_OK && !signature);
  if (!asks_only && (signed_now || operation))
    rv = hand_out(session, operation ? operation : &unknown, data, length, rv, signature, signature_length, room);
  if (signed_now) operation_free(operation);
  else session_put_operation(session, operation);
  return rv;
}

static CK_RV sign(CK_C_Sign function, CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG length, CK_BYTE *signature,
                  CK_ULONG *signature_length) {
  struct operation *operation = session_take_operation(session);
  CK_ULONG room = signature_length ? *signature_length : 0;
  CK_RV rv = function(session, data, length, signature, signature_length);
  return finish(session, operation, data, length, rv, signature, signature_length, room);
}

CK_RV special_C_Sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
                     CK_ULONG_PTR signature_length) {
  return sign(real->C_Sign, session, data, length, signature, signature_length);
}

CK_RV special_C_SignRecover(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
                            CK_ULONG_PTR signature_length) {
  return sign(real->C_SignRecover, session, data, length, signature, signature_length);
}

static void add_part(CK_SESSION_HANDLE session, const CK_BYTE *part, CK_ULONG length) {
  struct operation *operation = session_take_operation(session);
  if (!operation) return;
  CK_BYTE *data = realloc(operation->data, operation->length + length + 1);
  if (!data) abort();
  memcpy(data + operation->length, part, length);
  operation->data = data;
  operation->length += length;
  session_put_operation(session, operation);
}

CK_RV special_C_SignUpdate(CK_SESSION_HANDLE session, CK_BYTE_PTR part, CK_ULONG length) {
  CK_RV rv = real->C_SignUpdate(session, part, length);
  if (rv == CKR_OK) add_part(session, part, length);
  return rv;
}

CK_RV special_C_SignEncryptUpdate(CK_SESSION_HANDLE session, CK_BYTE_PTR part, CK_ULONG length, CK_BYTE_PTR encrypted,
                                  CK_ULONG_PTR encrypted_length) {
  CK_RV rv = real->C_SignEncryptUpdate(session, part, length, encrypted, encrypted_length);
  if (rv == CKR_OK && encrypted) add_part(session, part, length);
  return rv;
}

CK_RV special_C_SignFinal(CK_SESSION_HANDLE session, CK_BYTE_PTR signature, CK_ULONG_PTR signature_length) {
  struct operation *operation = session_take_operation(session);
  CK_ULONG room = signature_length ? *signature_length : 0;
  CK_RV rv = real->C_SignFinal(session, signature, signature_length);
  CK_BYTE *data = operation ? operation->data : NULL;
  return finish(session, operation, data, operation ? operation->length : 0, rv, signature, signature_length, room);
}
