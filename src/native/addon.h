/* What the functions of this addon share: all of them are calls of Linux that Node does not offer. */
#ifndef VOUCH_ADDON_H
#define VOUCH_ADDON_H

#include <stdbool.h>

#define NAPI_VERSION 8
#include <node_api.h>

/* Throws an Error with `code`, unless one is thrown already; returns NULL, for `return fail(…)`. */
napi_value fail(napi_env env, const char *code, const char *message);

/* Throws an Error whose code is the name of `error` (such as EACCES) and whose text is the system's. */
napi_value fail_errno(napi_env env, int error);

/* Reads the first `count` arguments, all of which must be there; otherwise false, with an Error thrown. */
bool get_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *arguments, const char *usage);

/* Reads the only argument, a file descriptor; otherwise false, with an Error thrown. */
bool get_descriptor(napi_env env, napi_callback_info info, int *fd, const char *usage);

/* peer.c */
napi_value peer_credentials(napi_env env, napi_callback_info info);
napi_value peer_pidfd(napi_env env, napi_callback_info info);
napi_value pidfd_is_alive(napi_env env, napi_callback_info info);

/* keyring.c */
napi_value keyring_read(napi_env env, napi_callback_info info);
napi_value keyring_write(napi_env env, napi_callback_info info);

/* lock.c */
napi_value try_lock(napi_env env, napi_callback_info info);

/* process.c */
napi_value hide_memory(napi_env env, napi_callback_info info);

/* memory.c */
napi_value trim_heap(napi_env env, napi_callback_info info);

#endif
