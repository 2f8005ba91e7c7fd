/*
 * Keys of type "user" in the user keyring of the caller's real uid (user-keyring(7)): kept in kernel memory, never on
 * disk, readable by processes of that uid alone. Where a container forbids these calls they fail with EPERM or ENOSYS.
 */
#define _GNU_SOURCE
#include "addon.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NAME_BYTES = 255, VALUE_BYTES = 4096 };

/*
 * KEY_POS_ALL, and for the uid VIEW, READ, WRITE and SEARCH: a service has a session keyring of its own (systemd's
 * KeyringMode=private), from which it does not possess what hangs in the user keyring.
 */
static const uint32_t permissions = 0x3f0f0000;

static bool get_name(napi_env env, napi_value argument, char *name, const char *usage) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, argument, name, NAME_BYTES + 1, &length) == napi_ok && length > 0 &&
      length < NAME_BYTES && strlen(name) == length)
    return true;
  fail(env, "ERR_INVALID_ARG_TYPE", usage);
  return false;
}

/* keyringRead(name) -> Buffer, or undefined where there is no such key. Throws with the errno's name. */
napi_value keyring_read(napi_env env, napi_callback_info info) {
  static const char usage[] = "keyringRead takes a name of 1 to 254 bytes";
  napi_value argument = NULL;
  char name[NAME_BYTES + 1];
  if (!get_arguments(env, info, 1, &argument, usage) || !get_name(env, argument, name, usage)) return NULL;

  long key = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", name, 0);
  if (key < 0) return errno == ENOKEY || errno == EKEYEXPIRED || errno == EKEYREVOKED ? NULL : fail_errno(env, errno);

  char value[VALUE_BYTES];
  long length = syscall(SYS_keyctl, KEYCTL_READ, key, value, sizeof value);
  if (length < 0) return fail_errno(env, errno);
  /* A longer key is copied not at all, or in part: it is none of ours. */
  napi_value result = NULL;
  bool whole = (size_t)length <= sizeof value;
  bool copied = whole && napi_create_buffer_copy(env, (size_t)length, value, NULL, &result) == napi_ok;
  explicit_bzero(value, sizeof value);
  if (!whole) return fail_errno(env, EINVAL);
  return copied ? result : fail_errno(env, ENOMEM);
}

/* keyringWrite(name, Buffer of 1 to 4096 bytes): makes the key, or replaces its value. Throws with the errno's name. */
napi_value keyring_write(napi_env env, napi_callback_info info) {
  static const char usage[] = "keyringWrite takes a name of 1 to 254 bytes and a Buffer of 1 to 4096";
  napi_value arguments[2] = {NULL, NULL};
  char name[NAME_BYTES + 1];
  void *value = NULL;
  size_t length = 0;
  bool is_buffer = false;
  if (!get_arguments(env, info, 2, arguments, usage) || !get_name(env, arguments[0], name, usage)) return NULL;
  if (napi_is_buffer(env, arguments[1], &is_buffer) != napi_ok || !is_buffer ||
      napi_get_buffer_info(env, arguments[1], &value, &length) != napi_ok || length < 1 || length > VALUE_BYTES)
    return fail(env, "ERR_INVALID_ARG_TYPE", usage);

  long key = syscall(SYS_add_key, "user", name, value, length, KEY_SPEC_USER_KEYRING);
  if (key < 0) return fail_errno(env, errno);
  if (syscall(SYS_keyctl, KEYCTL_SETPERM, key, permissions) != 0) return fail_errno(env, errno);
  return NULL;
}
