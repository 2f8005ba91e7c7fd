/* Attaches to a process as a debugger does, and says what came of it: `attached`, or why not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  if (ptrace(PTRACE_ATTACH, (pid_t)atol(argv[1]), 0, 0) == 0) {
    puts("attached");
    return 0;
  }
  puts(strerror(errno));
  return 1;
}
