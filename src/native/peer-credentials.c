/*
 * peerCredentials(fd) -> { pid, uid, gid }: who connected the unix socket `fd`, as the kernel recorded it at connect().
 * Reads with getsockopt(SO_PEERCRED, see unix(7)) and opens nothing, so there is nothing to close. Throws an Error
 * (code ERR_PEER_CREDENTIALS, the system's text) for anything that is not a connected unix socket.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#define NAPI_VERSION 8
#include <node_api.h>

static napi_value fail(napi_env env, const char *code, const char *message) {
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) napi_throw_error(env, code, message);
  return NULL;
}

/* 0, or an errno. On a TCP socket Linux answers SO_PEERCRED with uid -1 instead of an error: asked for its domain first. */
static int read_peer(int fd, struct ucred *peer) {
  int domain = 0;
  socklen_t size = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return errno;
  if (size != sizeof domain || domain != AF_UNIX) return EAFNOSUPPORT;
  size = sizeof *peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &size) != 0) return errno;
  if (size != sizeof *peer) return EINVAL;
  if (peer->uid == (uid_t)-1 || peer->gid == (gid_t)-1) return ENOTCONN;
  return 0;
}

static bool set_number(napi_env env, napi_value object, const char *name, int64_t value) {
  napi_value number;
  return napi_create_int64(env, value, &number) == napi_ok &&
         napi_set_named_property(env, object, name, number) == napi_ok;
}

static napi_value peer_credentials(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument = NULL;
  double fd = -1;
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) != napi_ok || count < 1 ||
      napi_get_value_double(env, argument, &fd) != napi_ok)
    return fail(env, "ERR_INVALID_ARG_TYPE", "peerCredentials takes a file descriptor");
  /* Written so that NaN fails, too: converting what an int cannot hold is undefined. */
  if (!(fd >= 0 && fd <= INT32_MAX) || fd != (double)(int)fd)
    return fail(env, "ERR_OUT_OF_RANGE", "peerCredentials takes a file descriptor");

  struct ucred peer = {.pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1};
  int error = read_peer((int)fd, &peer);
  if (error != 0) return fail(env, "ERR_PEER_CREDENTIALS", strerror(error));

  napi_value result;
  if (napi_create_object(env, &result) != napi_ok || !set_number(env, result, "pid", peer.pid) ||
      !set_number(env, result, "uid", peer.uid) || !set_number(env, result, "gid", peer.gid))
    return fail(env, "ERR_PEER_CREDENTIALS", "out of memory");
  return result;
}

NAPI_MODULE_INIT() {
  napi_value function;
  if (napi_create_function(env, "peerCredentials", NAPI_AUTO_LENGTH, peer_credentials, NULL, &function) != napi_ok ||
      napi_set_named_property(env, exports, "peerCredentials", function) != napi_ok)
    return fail(env, "ERR_PEER_CREDENTIALS", "the peer credentials addon cannot be set up");
  return exports;
}
