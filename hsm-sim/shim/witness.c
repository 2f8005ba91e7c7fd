/* The log of all that was signed: one JSON object a line, each one write to a file opened for appending. */
#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char path[PATH_MAX];
static _Atomic int log_fd = -1;

void hex_of(char *out, const CK_BYTE *bytes, size_t length) {
  static const char digits[] = "0123456789abcdef";
  for (size_t at = 0; at < length; at++) {
    out[2 * at] = digits[bytes[at] >> 4];
    out[2 * at + 1] = digits[bytes[at] & 15];
  }
  out[2 * length] = 0;
}

void witness_open(void) {
  const char *wanted = getenv("HSM_SIM_LOG");
  if (!wanted || strcmp(wanted, path) == 0) return;
  int fd = open(wanted, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    module_say("cannot write %s: %m", wanted);
    abort();
  }
  snprintf(path, sizeof path, "%s", wanted);
  int old = atomic_exchange(&log_fd, fd);
  if (old >= 0) close(old);
}

static char *hex_copy(const CK_BYTE *bytes, size_t length) {
  char *text = malloc(2 * length + 1);
  if (text) hex_of(text, bytes, length);
  return text;
}

bool witness_write(const char *function, const struct operation *operation, const CK_BYTE *data, CK_ULONG length,
                   CK_RV rv, const CK_BYTE *signature, CK_ULONG signature_length, const char *fault) {
  int fd = atomic_load(&log_fd);
  if (fd < 0) return true;
  struct timespec now;
  struct tm utc;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &utc);
  char time[32], mechanism[32], result[32];
  strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc);
  const char *name = module_name(operation->mechanism.mechanism, "CKM_"), *rv_name = module_name(rv, "CKR_");
  snprintf(mechanism, sizeof mechanism, "0x%lx", operation->mechanism.mechanism);
  snprintf(result, sizeof result, "0x%lx", rv);
  char *data_hex = hex_copy(data, length), *signature_hex = hex_copy(signature, rv == CKR_OK ? signature_length : 0);
  char *line = NULL;
  int size = -1;
  if (data_hex && signature_hex)
    size = asprintf(&line,
                    "{\"time\":\"%s.%03ldZ\",\"pid\":%d,\"function\":\"%s\",\"ckaId\":\"%s\",\"mechanism\":\"%s\","
                    "\"data\":\"%s\",\"rv\":\"%s\",\"signature\":\"%s\"%s%s%s}\n",
                    time, now.tv_nsec / 1000000, getpid(), function, operation->id, name ? name : mechanism, data_hex,
                    rv_name ? rv_name : result, signature_hex, fault ? ",\"fault\":\"" : "", fault ? fault : "",
                    fault ? "\"" : "");
  bool written = size > 0 && write(fd, line, (size_t)size) == size;
  if (!written) module_say("cannot write the log of signatures: %m; the signature is withheld");
  free(data_hex);
  free(signature_hex);
  if (size > 0) free(line);
  return written;
}
