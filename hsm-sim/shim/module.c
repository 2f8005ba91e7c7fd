/* Loads the real module and hands out a list of functions that all go through call_begin and call_end. */
#include "shim.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char default_module[] = "/usr/lib/softhsm/libsofthsm2.so";

CK_FUNCTION_LIST *real;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

const char *const function_names[function_count] = {
#define PLAIN(name, ...) #name,
#define SPECIAL(name, ...) #name,
#include "functions.def"
#undef PLAIN
#undef SPECIAL
};

static const struct {
  const char *name;
  CK_ULONG value;
} names[] = {
#define NAME(name) {#name, name},
#include "names.inc"
#undef NAME
};
enum { name_count = sizeof names / sizeof names[0] };

#define PLAIN(name, needs, session_, mechanism_, parameters, arguments)                                                \
  static CK_RV wrapped_##name parameters {                                                                             \
    struct call call = {.function = F_##name, .flags = needs, .session = session_, .mechanism = mechanism_};           \
    if (call_begin(&call)) call.rv = real->name arguments;                                                             \
    return call_end(&call);                                                                                            \
  }
#define SPECIAL(name, needs, session_, mechanism_, parameters, arguments)                                              \
  static CK_RV wrapped_##name parameters {                                                                             \
    struct call call = {.function = F_##name, .flags = needs, .session = session_, .mechanism = mechanism_};           \
    if (call_begin(&call)) call.rv = special_##name arguments;                                                         \
    return call_end(&call);                                                                                            \
  }
#include "functions.def"
#undef PLAIN
#undef SPECIAL

static CK_FUNCTION_LIST list = {
  .version = {2, 40},
#define PLAIN(name, ...) .name = wrapped_##name,
#define SPECIAL(name, ...) .name = wrapped_##name,
#include "functions.def"
#undef PLAIN
#undef SPECIAL
};

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR out) {
  if (!out) return CKR_ARGUMENTS_BAD;
  if (!module_load()) return CKR_GENERAL_ERROR;
  return wrapped_C_GetFunctionList(out);
}

CK_RV special_C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR out) {
  *out = &list;
  return CKR_OK;
}

bool module_load(void) {
  pthread_mutex_lock(&loading);
  if (!real) {
    const char *path = getenv("HSM_SIM_MODULE");
    if (!path || !*path) path = default_module;
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = NULL;
    if (module) *(void **)&get = dlsym(module, "C_GetFunctionList");
    CK_FUNCTION_LIST *found = NULL;
    if (!get || get(&found) != CKR_OK) module_say("%s is no PKCS#11 module: %s", path, module ? "no functions" : dlerror());
    else {
      control_open();
      witness_open();
      real = found;
    }
  }
  pthread_mutex_unlock(&loading);
  return real != NULL;
}

void module_say(const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fprintf(stderr, "hsm-sim: %s\n", text);
}

bool module_value(const char *name, const char *prefix, CK_ULONG *value) {
  char *end;
  if (*name >= '0' && *name <= '9') {
    *value = strtoul(name, &end, 0);
    return *end == 0;
  }
  if (strncmp(name, prefix, strlen(prefix)) != 0) return false;
  for (unsigned at = 0; at < name_count; at++)
    if (strcmp(names[at].name, name) == 0) {
      *value = names[at].value;
      return true;
    }
  return false;
}

const char *module_name(CK_ULONG value, const char *prefix) {
  for (unsigned at = 0; at < name_count; at++)
    if (names[at].value == value && strncmp(names[at].name, prefix, strlen(prefix)) == 0) return names[at].name;
  return NULL;
}
