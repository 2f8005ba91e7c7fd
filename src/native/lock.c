/* A lock on an open file or folder (flock(2)): it goes with the descriptor, so however its process ends, it is free. */
#include "addon.h"

#include <errno.h>
#include <sys/file.h>

/* tryLock(fd) -> whether it is ours now; false where another descriptor has it. Throws with the errno's name. */
napi_value try_lock(napi_env env, napi_callback_info info) {
  int fd = -1;
  napi_value result = NULL;
  if (!get_descriptor(env, info, &fd, "tryLock takes a file descriptor")) return NULL;
  int failed = flock(fd, LOCK_EX | LOCK_NB);
  if (failed != 0 && errno != EWOULDBLOCK) return fail_errno(env, errno);
  return napi_get_boolean(env, failed == 0, &result) == napi_ok ? result : NULL;
}
