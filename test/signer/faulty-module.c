/*
 * A PKCS#11 module for tests: SoftHSM, save that C_Sign does once what the file $FAULTY_CONTROL says:
 * "hang", "crash", "flip" (one bit of the signature), or a CKR value in hex.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CK_PTR *
#define CK_DECLARE_FUNCTION(returnType, name) returnType name
#define CK_DEFINE_FUNCTION(returnType, name) returnType name
#define CK_DECLARE_FUNCTION_POINTER(returnType, name) returnType(*name)
#define CK_CALLBACK_FUNCTION(returnType, name) returnType(*name)
#define NULL_PTR 0
#include "pkcs11.h"

static CK_FUNCTION_LIST_PTR real;
static CK_FUNCTION_LIST faulty;

static CK_RV faulty_sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
                         CK_ULONG_PTR signature_length) {
  char what[32] = "";
  const char *path = getenv("FAULTY_CONTROL");
  FILE *control = path ? fopen(path, "r") : NULL;
  if (control) {
    if (!fgets(what, sizeof what, control)) what[0] = 0;
    fclose(control);
    if (strncmp(what, "always ", 7) != 0) unlink(path);
    else memmove(what, what + 7, sizeof what - 7);
  }
  if (strcmp(what, "hang") == 0) for (;;) pause();
  if (strcmp(what, "crash") == 0) abort();
  if (what[0] != 0 && strcmp(what, "flip") != 0) return strtoul(what, NULL, 16);
  CK_RV result = real->C_Sign(session, data, length, signature, signature_length);
  if (strcmp(what, "flip") == 0 && signature) signature[7] ^= 1;
  return result;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
  void *module = dlopen(getenv("FAULTY_MODULE"), RTLD_NOW | RTLD_LOCAL);
  if (!module) return CKR_GENERAL_ERROR;
  CK_C_GetFunctionList get;
  *(void **)&get = dlsym(module, "C_GetFunctionList");
  if (!get || get(&real) != CKR_OK) return CKR_GENERAL_ERROR;
  faulty = *real;
  faulty.C_Sign = faulty_sign;
  *list = &faulty;
  return CKR_OK;
}
