/* What happens to a call before and after the real function: waits, crashes, errors. */
#include "shim.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { look_again_ns = 20 * 1000 * 1000 };

_Thread_local struct call *current_call;

static void sleep_until(int64_t when_ns) {
  struct timespec when = {.tv_sec = when_ns / 1000000000, .tv_nsec = when_ns % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) != 0) continue;
}

/* Sleeps until then, for ever if that is 0, or until the rule is gone. */
static void wait_while(const struct rules *rules, const struct rule *rule, int64_t until_ns) {
  for (;;) {
    int64_t now = now_ns(), next = now + look_again_ns;
    if (until_ns && now >= until_ns) return;
    sleep_until(until_ns && until_ns < next ? until_ns : next);
    if (control_rules() != rules || (!until_ns && !control_in_window(rules, rule))) return;
  }
}

static void crash(int number) {
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  signal(number, SIG_DFL);
  raise(number);
  abort();
}

/* False where the call ends with call->rv. */
static bool apply(struct call *call, unsigned index, double random) {
  const struct rule *rule = &call->rules->rule[index];
  switch (rule->action) {
    case act_error:
      call->rv = rule->error;
      return false;
    case act_delay: {
      int64_t latency = (int64_t)((rule->delay_ms + rule->jitter_ms * random) * 1e6);
      wait_while(call->rules, rule, control_schedule(rule, index, latency));
      return true;
    }
    case act_hang:
      wait_while(call->rules, rule, 0);
      return true;
    case act_crash:
      crash(rule->signal);
      return false;
    case act_lose_sessions:
      atomic_fetch_add(&shared->session_epoch, 1);
      return true;
    case act_lose_login:
      atomic_fetch_add(&shared->login_epoch, 1);
      return true;
    case act_flip:
      return call->flip = true;
    case act_other_key:
      return call->other_key = true;
    default:
      return true;
  }
}

static bool is_signing(enum function function) {
  return function == F_C_Sign || function == F_C_SignUpdate || function == F_C_SignFinal || function == F_C_SignRecover;
}

static bool concerns(const struct call *call, const struct rule *rule, char *id) {
  if (rule->action >= act_removed || !rule->functions[call->function]) return false;
  if (!rule->has_id) return true;
  if (!is_signing(call->function)) return false;
  if (!id[0]) signing_operation_id(call->session, id);
  for (unsigned at = 0; rule->id[at] || id[at]; at++)
    if (rule->id[at] != id[at]) return false;
  return true;
}

/* Applies what concerns the call; false where that ended it. A rule counts its calls whatever those above it did. */
static bool apply_rules(struct call *call) {
  char id[2 * max_id + 1] = "";
  bool goes_on = true;
  for (unsigned index = 0; index < call->rules->count; index++) {
    const struct rule *rule = &call->rules->rule[index];
    double random;
    if (!concerns(call, rule, id) || !control_fires(call->rules, index, goes_on, &random)) continue;
    if (!rule->afterwards) goes_on = apply(call, index, random);
    else if (call->afterwards_count < sizeof call->afterwards / sizeof call->afterwards[0]) {
      call->afterwards[call->afterwards_count].rule = index;
      call->afterwards[call->afterwards_count++].random = random;
    }
  }
  return goes_on;
}

bool call_begin(struct call *call) {
  current_call = call;
  if (call->function == F_C_Initialize) {
    control_open();
    witness_open();
  }
  call->rules = control_rules();
  if (call->rules->problem[0]) return call->rv = CKR_GENERAL_ERROR, false;
  if (!apply_rules(call)) {
    /* An operation ends with its error; the real module has to hear of it. */
    if (is_signing(call->function)) signing_cancel(call->session);
    else if (call->function == F_C_FindObjectsFinal) real->C_FindObjectsFinal(call->session);
    call->afterwards_count = 0;
    return false;
  }
  call->rv = token_check(call);
  return call->rv == CKR_OK;
}

CK_RV call_end(struct call *call) {
  for (unsigned at = 0; at < call->afterwards_count; at++)
    if (!apply(call, call->afterwards[at].rule, call->afterwards[at].random)) break;
  if (call->flags & with_session) token_touch(call->session);
  return call->rv;
}
