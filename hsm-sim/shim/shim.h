/* What the files of the module share. Structures first, then each file's functions. */
#ifndef HSM_SIM_SHIM_H
#define HSM_SIM_SHIM_H

#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { max_rules = 64, max_servers = 32, max_processes = 64, max_id = 64, max_hidden = 16 };

enum function {
#define PLAIN(name, ...) F_##name,
#define SPECIAL(name, ...) F_##name,
#include "functions.def"
#undef PLAIN
#undef SPECIAL
  function_count
};

enum action {
  no_action,
  /* Of a function. */
  act_error,
  act_delay,
  act_hang,
  act_crash,
  act_lose_sessions,
  act_lose_login,
  act_flip,
  act_other_key,
  /* Of the token. */
  act_removed,
  act_sessions,
  act_idle,
  act_shuffle_slots,
  act_bare_points,
  act_hide,
};

/* One line of the control file. */
struct rule {
  enum action action;
  bool functions[function_count];
  CK_RV error;
  int signal;
  double delay_ms, jitter_ms, rate;
  unsigned parallel;
  uint64_t nth, first, after, every, times, seed; /* 0: not given */
  double probability;
  int64_t from_ns, for_ns; /* for_ns 0: without end */
  bool afterwards;
  bool has_id;
  char id[2 * max_id + 1]; /* CKA_ID, lower-case hex */
  uint64_t limit;          /* sessions, or ns of idleness */
  CK_MECHANISM_TYPE hidden[max_hidden];
  unsigned hidden_count;
};

/* A version of the control file, never changed once it is read. */
struct rules {
  uint64_t generation; /* of the file's content and of when it was written: the same rules written anew start anew */
  struct {
    uint64_t device, inode, size, mtime_ns;
  } file;
  unsigned count;
  char problem[200]; /* not empty: the file cannot be understood, and every call fails */
  struct rule rule[max_rules];
};

/*
 * What all processes of one control file share: a mapped file beside it, laid out as ../README.md says. A counter carries 16 bits of the generation it
 * counts for, so that a process that has not seen the new file yet cannot disturb it. No process holds anything here
 * that its death would leave held.
 */
struct shared {
  _Atomic uint64_t generation;
  _Atomic int64_t since_ns; /* CLOCK_MONOTONIC when this generation was first read */
  _Atomic uint64_t inode, mtime_ns; /* of the control file of this generation */
  _Atomic uint32_t session_epoch, login_epoch;
  struct {
    _Atomic int64_t pid;
    _Atomic uint64_t sessions; /* epoch << 32 | number open */
  } process[max_processes];
  struct {
    _Atomic uint64_t calls, fired; /* generation << 48 | count */
    _Atomic int64_t next_start_ns;
    _Atomic int64_t free_at_ns[max_servers];
  } rule[max_rules];
};

/* A signature under way, from C_SignInit on. */
struct operation {
  CK_MECHANISM mechanism;
  CK_OBJECT_HANDLE key;
  char id[2 * max_id + 1];
  CK_BYTE *data; /* of C_SignUpdate */
  size_t length;
};

struct session {
  struct session *next;
  CK_SESSION_HANDLE handle;
  CK_SLOT_ID slot;
  uint32_t epoch;
  bool lost;
  int64_t used_ns;
  struct operation *operation;
};

enum { with_session = 1, with_login = 2 };

/* One call of a function on its way through the module. */
struct call {
  enum function function;
  unsigned flags;
  CK_SESSION_HANDLE session;
  CK_MECHANISM *mechanism;
  CK_RV rv;
  bool flip, other_key;
  struct rules *rules;
  struct {
    unsigned rule;
    double random;
  } afterwards[4];
  unsigned afterwards_count;
};

/* module.c */
extern CK_FUNCTION_LIST *real;
extern const char *const function_names[function_count];
bool module_load(void);
void module_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Value of a CKR_ or CKM_ name, or of a number. */
bool module_value(const char *name, const char *prefix, CK_ULONG *value);
const char *module_name(CK_ULONG value, const char *prefix);

/* parse.c */
void parse_rules(char *text, struct rules *rules);

/* control.c */
extern struct shared *shared;
void control_open(void);
/* The rules as the file says them now. They stay valid for ever: a few hundred bytes for each rule ever read. */
struct rules *control_rules(void);
/* Counts a call for a rule; true if it fires. `random` is as seeded, 0 to 1. */
bool control_fires(const struct rules *rules, unsigned index, bool may_fire, double *random);
bool control_in_window(const struct rules *rules, const struct rule *rule);
/* True once for each generation, over all processes. */
bool control_once(const struct rules *rules, unsigned index);
/* When a call that comes now is done, by the rule's rate, parallelism and latency. */
int64_t control_schedule(const struct rule *rule, unsigned index, int64_t latency_ns);
int64_t now_ns(void);

/* faults.c */
extern _Thread_local struct call *current_call;
bool call_begin(struct call *call);
CK_RV call_end(struct call *call);

/* token.c: sessions, login, slots, mechanisms, attributes */
const struct rule *token_rule(enum action action);
bool token_removed(void);
CK_RV token_check(struct call *call);
void token_touch(CK_SESSION_HANDLE handle);
CK_SLOT_ID token_slot(CK_SLOT_ID shown);
CK_SLOT_ID token_slot_of(CK_SESSION_HANDLE session);
bool token_hides(CK_MECHANISM_TYPE mechanism);
/* Takes the session's signature under way, leaving none; `put` gives it back or replaces it. */
struct operation *session_take_operation(CK_SESSION_HANDLE handle);
void session_put_operation(CK_SESSION_HANDLE handle, struct operation *operation);

/* signing.c */
void signing_cancel(CK_SESSION_HANDLE session);
void signing_forget_keys(void);
/* CKA_ID of a key in hex, "" where it has none. */
void key_id(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, char id[2 * max_id + 1]);
void signing_operation_id(CK_SESSION_HANDLE session, char id[2 * max_id + 1]);
void operation_free(struct operation *operation);

/* other-key.c: a signature by another key of the same kind; the rv of the last call into the real module. */
CK_RV other_key_sign(CK_SESSION_HANDLE session, const struct operation *operation, CK_BYTE *data, CK_ULONG length,
                     CK_BYTE *signature, CK_ULONG *signature_length);

/* witness.c: the log of all that was signed; false where it could not be written */
void witness_open(void);
bool witness_write(const char *function, const struct operation *operation, const CK_BYTE *data, CK_ULONG length,
                   CK_RV rv, const CK_BYTE *signature, CK_ULONG signature_length, const char *fault);
void hex_of(char *out, const CK_BYTE *bytes, size_t length);

/* Twisted functions, each in the file of its topic. */
#define PLAIN(...)
#define SPECIAL(name, flags, session, mechanism, parameters, arguments) CK_RV special_##name parameters;
#include "functions.def"
#undef PLAIN
#undef SPECIAL

#endif
