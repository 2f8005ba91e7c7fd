#include "addon.h"

#include <malloc.h>

/* trimHeap(): gives the pages of the C heap in which nothing lies back to the system; where the C library cannot, nothing. */
napi_value trim_heap(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  return NULL;
}
