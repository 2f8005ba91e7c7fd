#include "addon.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

napi_value fail(napi_env env, const char *code, const char *message) {
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) napi_throw_error(env, code, message);
  return NULL;
}

static const char *error_name(int error) {
  switch (error) {
    case EACCES: return "EACCES";
    case EBADF: return "EBADF";
    case EDQUOT: return "EDQUOT";
    case EINVAL: return "EINVAL";
    case EMFILE: return "EMFILE";
    case ENFILE: return "ENFILE";
    case ENOMEM: return "ENOMEM";
    case ENOSYS: return "ENOSYS";
    case ENOTCONN: return "ENOTCONN";
    case EPERM: return "EPERM";
    case ESRCH: return "ESRCH";
    default: return "EUNKNOWN";
  }
}

napi_value fail_errno(napi_env env, int error) { return fail(env, error_name(error), strerror(error)); }

bool get_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *arguments, const char *usage) {
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, arguments, NULL, NULL) == napi_ok && given >= count) return true;
  fail(env, "ERR_INVALID_ARG_TYPE", usage);
  return false;
}

bool get_descriptor(napi_env env, napi_callback_info info, int *fd, const char *usage) {
  napi_value argument = NULL;
  double number = -1;
  if (!get_arguments(env, info, 1, &argument, usage)) return false;
  if (napi_get_value_double(env, argument, &number) != napi_ok) {
    fail(env, "ERR_INVALID_ARG_TYPE", usage);
    return false;
  }
  /* Written so that NaN fails, too: converting what an int cannot hold is undefined. */
  if (!(number >= 0 && number <= INT32_MAX) || number != (double)(int)number) {
    fail(env, "ERR_OUT_OF_RANGE", usage);
    return false;
  }
  *fd = (int)number;
  return true;
}

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"peerCredentials", NULL, peer_credentials, NULL, NULL, NULL, napi_enumerable, NULL},
      {"peerPidfd", NULL, peer_pidfd, NULL, NULL, NULL, napi_enumerable, NULL},
      {"pidfdIsAlive", NULL, pidfd_is_alive, NULL, NULL, NULL, napi_enumerable, NULL},
      {"keyringRead", NULL, keyring_read, NULL, NULL, NULL, napi_enumerable, NULL},
      {"keyringWrite", NULL, keyring_write, NULL, NULL, NULL, napi_enumerable, NULL},
      {"tryLock", NULL, try_lock, NULL, NULL, NULL, napi_enumerable, NULL},
      {"hideMemory", NULL, hide_memory, NULL, NULL, NULL, napi_enumerable, NULL},
      {"trimHeap", NULL, trim_heap, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  if (napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions) != napi_ok)
    return fail(env, "ERR_ADDON", "the addon cannot be set up");
  return exports;
}
