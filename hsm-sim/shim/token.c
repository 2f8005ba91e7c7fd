/* The token as a whole: its sessions, login, slots, mechanisms and public keys. */
#include "shim.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { bucket_count = 256, point_max_bytes = 512 };

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct session *table[bucket_count];
static unsigned opening;
/* Epoch + 1 of the login of this process; 0 without one. */
static _Atomic uint64_t login_seen;
/* What the slot numbers shown differ by from the real ones (exclusive or). */
static _Atomic CK_SLOT_ID slot_salt;

const struct rule *token_rule(enum action action) {
  const struct rules *rules = current_call->rules;
  for (unsigned at = 0; at < rules->count; at++)
    if (rules->rule[at].action == action && control_in_window(rules, &rules->rule[at])) return &rules->rule[at];
  return NULL;
}

bool token_removed(void) { return token_rule(act_removed) != NULL; }

/* Who takes the token out ends every session and the login, whether or not anyone called meanwhile. */
static void notice_removal(const struct rules *rules) {
  for (unsigned at = 0; at < rules->count; at++) {
    struct rule since = {.from_ns = rules->rule[at].from_ns};
    if (rules->rule[at].action != act_removed || !control_in_window(rules, &since) || !control_once(rules, at)) continue;
    atomic_fetch_add(&shared->session_epoch, 1);
    atomic_fetch_add(&shared->login_epoch, 1);
  }
}

static struct session **find(CK_SESSION_HANDLE handle) {
  struct session **at = &table[handle % bucket_count];
  while (*at && (*at)->handle != handle) at = &(*at)->next;
  return at;
}

static void drop(struct session **at) {
  struct session *session = *at;
  *at = session->next;
  operation_free(session->operation);
  free(session);
}

static bool is_lost(struct session *session, const struct rule *idle) {
  if (session->epoch != atomic_load(&shared->session_epoch)) session->lost = true;
  if (idle && now_ns() - session->used_ns > (int64_t)idle->limit) session->lost = true;
  return session->lost;
}

/* Sessions of this process that live, and those being opened; with table_lock. */
static unsigned count_live(void) {
  unsigned live = opening;
  const struct rule *idle = token_rule(act_idle);
  for (unsigned bucket = 0; bucket < bucket_count; bucket++)
    for (struct session *session = table[bucket]; session; session = session->next) live += !is_lost(session, idle);
  return live;
}

static bool is_alive(int64_t pid) { return pid != 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM); }

static void publish_count(unsigned live) {
  uint64_t value = (uint64_t)atomic_load(&shared->session_epoch) << 32 | live;
  int64_t own = getpid();
  for (int claim = 0; claim < 2; claim++)
    for (unsigned at = 0; at < max_processes; at++) {
      int64_t pid = atomic_load(&shared->process[at].pid);
      bool mine = pid == own;
      if (!mine && claim && !is_alive(pid)) mine = atomic_compare_exchange_strong(&shared->process[at].pid, &pid, own);
      if (!mine) continue;
      atomic_store(&shared->process[at].sessions, value);
      return;
    }
}

static unsigned count_others(void) {
  unsigned count = 0;
  for (unsigned at = 0; at < max_processes; at++) {
    int64_t pid = atomic_load(&shared->process[at].pid);
    uint64_t value = atomic_load(&shared->process[at].sessions);
    bool now = value >> 32 == atomic_load(&shared->session_epoch);
    if (now && pid != getpid() && is_alive(pid)) count += (uint32_t)value;
  }
  return count;
}

static CK_RV check_session(struct call *call) {
  pthread_mutex_lock(&table_lock);
  struct session **at = find(call->session);
  bool lost = *at && is_lost(*at, token_rule(act_idle));
  bool given_up = lost && call->function == F_C_CloseSession;
  if (given_up) drop(at);
  if (lost) publish_count(count_live());
  pthread_mutex_unlock(&table_lock);
  /* Not before its owner closes it, too: another thread might be inside the real module with it. */
  if (given_up) real->C_CloseSession(call->session);
  return lost ? CKR_SESSION_HANDLE_INVALID : CKR_OK;
}

static bool login_is_lost(void) {
  uint64_t seen = atomic_load(&login_seen);
  return seen != 0 && seen != (uint64_t)atomic_load(&shared->login_epoch) + 1;
}

CK_RV token_check(struct call *call) {
  notice_removal(call->rules);
  switch (call->function) {
    case F_C_GetTokenInfo:
    case F_C_GetMechanismList:
    case F_C_GetMechanismInfo:
    case F_C_InitToken:
    case F_C_OpenSession:
      return token_removed() ? CKR_TOKEN_NOT_PRESENT : CKR_OK;
    default:
      break;
  }
  CK_RV rv = call->flags & with_session ? check_session(call) : CKR_OK;
  if (rv != CKR_OK) return rv;
  if ((call->flags & with_login) && login_is_lost()) return CKR_USER_NOT_LOGGED_IN;
  return call->mechanism && token_hides(call->mechanism->mechanism) ? CKR_MECHANISM_INVALID : CKR_OK;
}

void token_touch(CK_SESSION_HANDLE handle) {
  pthread_mutex_lock(&table_lock);
  struct session *session = *find(handle);
  if (session) session->used_ns = now_ns();
  pthread_mutex_unlock(&table_lock);
}

struct operation *session_take_operation(CK_SESSION_HANDLE handle) {
  pthread_mutex_lock(&table_lock);
  struct session *session = *find(handle);
  struct operation *operation = session ? session->operation : NULL;
  if (session) session->operation = NULL;
  pthread_mutex_unlock(&table_lock);
  return operation;
}

void session_put_operation(CK_SESSION_HANDLE handle, struct operation *operation) {
  pthread_mutex_lock(&table_lock);
  struct session *session = *find(handle);
  struct operation *old = session ? session->operation : operation;
  if (session) session->operation = operation;
  pthread_mutex_unlock(&table_lock);
  operation_free(old);
}

CK_SLOT_ID token_slot(CK_SLOT_ID shown) { return shown ^ atomic_load(&slot_salt); }

CK_SLOT_ID token_slot_of(CK_SESSION_HANDLE handle) {
  pthread_mutex_lock(&table_lock);
  struct session *session = *find(handle);
  CK_SLOT_ID slot = session ? session->slot : 0;
  pthread_mutex_unlock(&table_lock);
  return slot;
}

static void drop_sessions(bool all, CK_SLOT_ID slot) {
  pthread_mutex_lock(&table_lock);
  for (unsigned bucket = 0; bucket < bucket_count; bucket++)
    for (struct session **at = &table[bucket]; *at;)
      if (all || (*at)->slot == slot) drop(at);
      else at = &(*at)->next;
  publish_count(count_live());
  pthread_mutex_unlock(&table_lock);
}

CK_RV special_C_Initialize(CK_VOID_PTR arguments) {
  CK_RV rv = real->C_Initialize(arguments);
  if (rv != CKR_OK) return rv;
  drop_sessions(true, 0);
  atomic_store(&login_seen, 0);
  uint32_t salt = 0;
  while (token_rule(act_shuffle_slots) && (salt & 0x7fffffff) == 0)
    if (getrandom(&salt, sizeof salt, 0) < 0) break;
  atomic_store(&slot_salt, salt & 0x7fffffff);
  return rv;
}

CK_RV special_C_Finalize(CK_VOID_PTR reserved) {
  CK_RV rv = real->C_Finalize(reserved);
  if (rv != CKR_OK) return rv;
  drop_sessions(true, 0);
  atomic_store(&login_seen, 0);
  signing_forget_keys();
  return rv;
}

CK_RV special_C_GetSlotList(CK_BBOOL present, CK_SLOT_ID_PTR slots, CK_ULONG_PTR count) {
  if (present && token_removed() && count) {
    *count = 0;
    return CKR_OK;
  }
  CK_RV rv = real->C_GetSlotList(present, slots, count);
  if (rv != CKR_OK || !slots || !atomic_load(&slot_salt)) return rv;
  /* In the order of the numbers shown, which is another at each C_Initialize. */
  for (CK_ULONG at = 0; at < *count; at++) {
    CK_SLOT_ID slot = token_slot(slots[at]);
    CK_ULONG to = at;
    for (; to > 0 && slots[to - 1] > slot; to--) slots[to] = slots[to - 1];
    slots[to] = slot;
  }
  return rv;
}

CK_RV special_C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO_PTR info) {
  CK_RV rv = real->C_GetSlotInfo(token_slot(slot), info);
  if (rv == CKR_OK && token_removed()) info->flags &= ~CKF_TOKEN_PRESENT;
  return rv;
}

CK_RV special_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info) {
  CK_RV rv = real->C_GetTokenInfo(token_slot(slot), info);
  const struct rule *limit = token_rule(act_sessions);
  if (rv == CKR_OK && limit) info->ulMaxSessionCount = info->ulMaxRwSessionCount = limit->limit;
  return rv;
}

CK_RV special_C_WaitForSlotEvent(CK_FLAGS flags, CK_SLOT_ID_PTR slot, CK_VOID_PTR reserved) {
  CK_RV rv = real->C_WaitForSlotEvent(flags, slot, reserved);
  if (rv == CKR_OK) *slot = token_slot(*slot);
  return rv;
}

bool token_hides(CK_MECHANISM_TYPE mechanism) {
  const struct rules *rules = current_call->rules;
  for (unsigned at = 0; at < rules->count; at++)
    for (unsigned one = 0; one < rules->rule[at].hidden_count; one++)
      if (rules->rule[at].hidden[one] == mechanism && control_in_window(rules, &rules->rule[at])) return true;
  return false;
}

CK_RV special_C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE_PTR list, CK_ULONG_PTR count) {
  if (!count) return CKR_ARGUMENTS_BAD;
  CK_ULONG all = 0, shown = 0;
  CK_RV rv = real->C_GetMechanismList(token_slot(slot), NULL, &all);
  CK_MECHANISM_TYPE *found = rv == CKR_OK ? calloc(all + 1, sizeof *found) : NULL;
  if (!found) return rv == CKR_OK ? CKR_HOST_MEMORY : rv;
  rv = real->C_GetMechanismList(token_slot(slot), found, &all);
  for (CK_ULONG at = 0; rv == CKR_OK && at < all; at++)
    if (!token_hides(found[at])) found[shown++] = found[at];
  if (rv == CKR_OK && list && *count < shown) rv = CKR_BUFFER_TOO_SMALL;
  if (rv == CKR_OK && list) memcpy(list, found, shown * sizeof *found);
  *count = shown;
  free(found);
  return rv;
}

CK_RV special_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info) {
  return token_hides(type) ? CKR_MECHANISM_INVALID : real->C_GetMechanismInfo(token_slot(slot), type, info);
}

CK_RV special_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR application, CK_NOTIFY notify,
                            CK_SESSION_HANDLE_PTR handle) {
  const struct rule *limit = token_rule(act_sessions);
  pthread_mutex_lock(&table_lock);
  bool full = limit && count_live() + count_others() >= limit->limit;
  if (!full) opening++;
  pthread_mutex_unlock(&table_lock);
  if (full) return CKR_SESSION_COUNT;
  uint32_t epoch = atomic_load(&shared->session_epoch);
  CK_RV rv = real->C_OpenSession(token_slot(slot), flags, application, notify, handle);
  struct session *session = rv == CKR_OK ? calloc(1, sizeof *session) : NULL;
  pthread_mutex_lock(&table_lock);
  opening--;
  if (session) {
    *session = (struct session){.handle = *handle, .slot = token_slot(slot), .epoch = epoch, .used_ns = now_ns()};
    struct session **at = find(*handle);
    if (*at) drop(at);
    session->next = table[*handle % bucket_count];
    table[*handle % bucket_count] = session;
  }
  publish_count(count_live());
  pthread_mutex_unlock(&table_lock);
  return rv;
}

CK_RV special_C_CloseSession(CK_SESSION_HANDLE handle) {
  CK_RV rv = real->C_CloseSession(handle);
  pthread_mutex_lock(&table_lock);
  struct session **at = find(handle);
  if (rv == CKR_OK && *at) drop(at);
  publish_count(count_live());
  pthread_mutex_unlock(&table_lock);
  return rv;
}

CK_RV special_C_CloseAllSessions(CK_SLOT_ID slot) {
  CK_RV rv = real->C_CloseAllSessions(token_slot(slot));
  if (rv == CKR_OK) drop_sessions(false, token_slot(slot));
  return rv;
}

CK_RV special_C_GetSessionInfo(CK_SESSION_HANDLE session, CK_SESSION_INFO_PTR info) {
  CK_RV rv = real->C_GetSessionInfo(session, info);
  if (rv != CKR_OK) return rv;
  info->slotID = token_slot(info->slotID);
  if (login_is_lost() && info->state == CKS_RW_USER_FUNCTIONS) info->state = CKS_RW_PUBLIC_SESSION;
  if (login_is_lost() && info->state == CKS_RO_USER_FUNCTIONS) info->state = CKS_RO_PUBLIC_SESSION;
  return rv;
}

/* After a lost login the real module still knows the old one: it is ended first, so that the PIN is truly checked. */
CK_RV special_C_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE_PTR pin, CK_ULONG pin_length) {
  if (user != CKU_USER) return real->C_Login(session, user, pin, pin_length);
  uint64_t seen = atomic_load(&login_seen), now = (uint64_t)atomic_load(&shared->login_epoch) + 1;
  bool again = seen != 0 && seen != now && atomic_compare_exchange_strong(&login_seen, &seen, now);
  if (again) {
    real->C_Logout(session);
    signing_forget_keys();
  }
  CK_RV rv = real->C_Login(session, user, pin, pin_length);
  if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) atomic_store(&login_seen, now);
  else if (again) atomic_store(&login_seen, 0);
  return rv;
}

CK_RV special_C_Logout(CK_SESSION_HANDLE session) {
  CK_RV rv = real->C_Logout(session);
  if (rv == CKR_OK) atomic_store(&login_seen, 0);
  signing_forget_keys();
  return rv;
}

CK_RV special_C_DestroyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object) {
  signing_forget_keys();
  return real->C_DestroyObject(session, object);
}

/* Bytes before the content of an OCTET STRING that fills `length` bytes. */
static CK_ULONG header_bytes(CK_ULONG length) { return length - 2 < 128 ? 2 : length - 3 < 256 ? 3 : 4; }

static CK_RV bare_point(CK_ATTRIBUTE *asked, const CK_ATTRIBUTE *found) {
  if (found->ulValueLen == (CK_ULONG)-1 || found->ulValueLen < 2) return asked->ulValueLen = found->ulValueLen, CKR_OK;
  CK_ULONG header = header_bytes(found->ulValueLen), length = found->ulValueLen - header;
  bool fits = !asked->pValue || asked->ulValueLen >= length;
  if (fits && asked->pValue) memcpy(asked->pValue, (CK_BYTE *)found->pValue + header, length);
  asked->ulValueLen = fits ? length : (CK_ULONG)-1;
  return fits ? CKR_OK : CKR_BUFFER_TOO_SMALL;
}

CK_RV special_C_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR template,
                                  CK_ULONG count) {
  if (!token_rule(act_bare_points) || !template || count == 0) return real->C_GetAttributeValue(session, object, template, count);
  CK_ATTRIBUTE *own = calloc(count, sizeof *own);
  CK_BYTE point[point_max_bytes];
  if (!own) return CKR_HOST_MEMORY;
  for (CK_ULONG at = 0; at < count; at++) {
    own[at] = template[at];
    if (own[at].type != CKA_EC_POINT) continue;
    own[at].pValue = point;
    own[at].ulValueLen = sizeof point;
  }
  CK_RV rv = real->C_GetAttributeValue(session, object, own, count);
  for (CK_ULONG at = 0; at < count; at++) {
    CK_RV bare = CKR_OK;
    if (own[at].type == CKA_EC_POINT) bare = bare_point(&template[at], &own[at]);
    else template[at].ulValueLen = own[at].ulValueLen;
    if (rv == CKR_OK) rv = bare;
  }
  free(own);
  return rv;
}
