/*
 * Who is at the other end of a unix socket. peerCredentials and pidfdIsAlive open nothing; the descriptor that
 * peerPidfd returns belongs to the caller, who closes it.
 */
#define _GNU_SOURCE
#include "addon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* asm-generic/socket.h, since Linux 6.5 */
#endif

/* 0, or an errno. TCP sockets answer SO_PEERCRED with uid -1 instead of an error: the domain is asked for first. */
static int check_unix(int fd) {
  int domain = 0;
  socklen_t size = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return errno;
  return size == sizeof domain && domain == AF_UNIX ? 0 : EAFNOSUPPORT;
}

/* 0, or an errno. */
static int read_peer(int fd, struct ucred *peer) {
  int error = check_unix(fd);
  if (error != 0) return error;
  socklen_t size = sizeof *peer;
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

/*
 * peerCredentials(fd) -> { pid, uid, gid }: who connected the unix socket `fd`, as the kernel recorded it at connect()
 * (SO_PEERCRED, unix(7)). Throws ERR_PEER_CREDENTIALS for anything that is not a connected unix socket.
 */
napi_value peer_credentials(napi_env env, napi_callback_info info) {
  int fd = -1;
  if (!get_descriptor(env, info, &fd, "peerCredentials takes a file descriptor")) return NULL;

  struct ucred peer = {.pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1};
  int error = read_peer(fd, &peer);
  if (error != 0) return fail(env, "ERR_PEER_CREDENTIALS", strerror(error));

  napi_value result;
  if (napi_create_object(env, &result) != napi_ok || !set_number(env, result, "pid", peer.pid) ||
      !set_number(env, result, "uid", peer.uid) || !set_number(env, result, "gid", peer.gid))
    return fail(env, "ERR_PEER_CREDENTIALS", "out of memory");
  return result;
}

/*
 * peerPidfd(fd) -> a pidfd of the process that connected the unix socket `fd`, close-on-exec; undefined where the kernel
 * has no SO_PEERPIDFD (before 6.5). Throws with the errno's name: ESRCH or EINVAL when that process is gone.
 */
napi_value peer_pidfd(napi_env env, napi_callback_info info) {
  int fd = -1;
  if (!get_descriptor(env, info, &fd, "peerPidfd takes a file descriptor")) return NULL;
  int error = check_unix(fd);
  if (error != 0) return fail_errno(env, error);

  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) != 0)
    return errno == ENOPROTOOPT ? NULL : fail_errno(env, errno);
  if (size != sizeof pidfd || pidfd < 0) return fail_errno(env, EINVAL);

  napi_value result;
  int flags = fcntl(pidfd, F_GETFD);
  if (flags < 0 || fcntl(pidfd, F_SETFD, flags | FD_CLOEXEC) != 0 ||
      napi_create_int32(env, pidfd, &result) != napi_ok) {
    close(pidfd);
    return fail_errno(env, ENOMEM);
  }
  return result;
}

/* pidfdIsAlive(pidfd) -> whether that process has not ended: a pidfd is readable from then on (pidfd_open(2)). */
napi_value pidfd_is_alive(napi_env env, napi_callback_info info) {
  struct pollfd one = {.fd = -1, .events = POLLIN, .revents = 0};
  if (!get_descriptor(env, info, &one.fd, "pidfdIsAlive takes a file descriptor")) return NULL;

  int ready = -1;
  do ready = poll(&one, 1, 0);
  while (ready < 0 && errno == EINTR);
  if (ready < 0) return fail_errno(env, errno);

  napi_value result;
  if (napi_get_boolean(env, ready == 0, &result) != napi_ok) return fail_errno(env, ENOMEM);
  return result;
}
