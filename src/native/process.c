/* What this process allows others. */
#include "addon.h"

#include <errno.h>
#include <sys/prctl.h>

/*
 * hideMemory(): no core file of this process from now on, whatever its limits and core_pattern(5) say, and nobody of its
 * own user traces it or reads its memory (ptrace(2), PR_SET_DUMPABLE), save with CAP_SYS_PTRACE. A program that it
 * executes is as before. Throws with the errno's name.
 */
napi_value hide_memory(napi_env env, napi_callback_info info) {
  (void)info;
  return prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L) == 0 ? NULL : fail_errno(env, errno);
}
