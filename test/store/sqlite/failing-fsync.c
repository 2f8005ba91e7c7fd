/* Preloaded by a test: while the file $VOUCH_TEST_FAIL_FLAG exists, fsync fails on files that end in $VOUCH_TEST_FAIL_SUFFIX. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
  const char *flag = getenv("VOUCH_TEST_FAIL_FLAG"), *suffix = getenv("VOUCH_TEST_FAIL_SUFFIX");
  char link[64], path[4096];
  if (!flag || !suffix || access(flag, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < (ssize_t)strlen(suffix)) return 0;
  path[size] = 0;
  return strcmp(path + size - strlen(suffix), suffix) == 0;
}

static int run(const char *name, int fd) {
  if (fails(fd)) return errno = EIO, -1;
  return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd) { return run("fsync", fd); }
int fdatasync(int fd) { return run("fdatasync", fd); }
