/* The control file as it stands, the counters that all its processes share, and when a rule fires. */
#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { file_max_bytes = 1 << 16, generation_shift = 48 };

static struct shared unshared;
static struct rules calm;
struct shared *shared = &unshared;
static char path[PATH_MAX];
static int state_fd = -1;
static _Atomic(struct rules *) current = &calm;
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* Called again at each C_Initialize: a process may turn to another token. */
void control_open(void) {
  const char *wanted = getenv("HSM_SIM_CONTROL");
  if (!wanted || strcmp(wanted, path) == 0) return;
  pthread_mutex_lock(&changing);
  char state[PATH_MAX + 8];
  snprintf(path, sizeof path, "%s", wanted);
  snprintf(state, sizeof state, "%s.state", path);
  int fd = open(state, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct stat found;
  void *mapped = MAP_FAILED;
  if (fd >= 0 && flock(fd, LOCK_EX) == 0) {
    if (fstat(fd, &found) == 0 && (found.st_size == sizeof(struct shared) || ftruncate(fd, sizeof(struct shared)) == 0))
      mapped = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    flock(fd, LOCK_UN);
  }
  if (mapped == MAP_FAILED) {
    module_say("cannot use %s: %m", state);
    abort();
  }
  if (state_fd >= 0) close(state_fd);
  state_fd = fd;
  shared = mapped;
  atomic_store(&current, &calm);
  pthread_mutex_unlock(&changing);
}

static uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

static bool is_same(const struct rules *rules, const struct stat *file) {
  return rules->file.inode == file->st_ino && rules->file.device == file->st_dev &&
         rules->file.size == (uint64_t)file->st_size &&
         rules->file.mtime_ns == (uint64_t)file->st_mtim.tv_sec * 1000000000u + (uint64_t)file->st_mtim.tv_nsec;
}

static struct rules *read_rules(void) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return &calm;
  struct rules *rules = calloc(1, sizeof *rules);
  char *text = calloc(1, file_max_bytes + 1);
  struct stat file;
  ssize_t length = rules && text && fstat(fd, &file) == 0 ? read(fd, text, file_max_bytes) : -1;
  close(fd);
  if (length < 0) abort();
  rules->file.inode = file.st_ino;
  rules->file.device = file.st_dev;
  rules->file.size = (uint64_t)file.st_size;
  rules->file.mtime_ns = (uint64_t)file.st_mtim.tv_sec * 1000000000u + (uint64_t)file.st_mtim.tv_nsec;
  uint64_t hash = mix(rules->file.inode) ^ mix(rules->file.mtime_ns + 1);
  for (ssize_t at = 0; at < length; at++) hash = (hash ^ (unsigned char)text[at]) * 0x100000001b3;
  rules->generation = mix(hash) | 1; /* never that of calm, 0 */
  parse_rules(text, rules);
  if (rules->problem[0]) module_say("%s: %s; every call fails", path, rules->problem);
  free(text);
  struct rules *fitting = realloc(rules, offsetof(struct rules, rule) + (rules->count + 1) * sizeof(struct rule));
  return fitting ? fitting : rules;
}

/* The first process that reads a new file resets what is counted. */
static void start_generation(const struct rules *rules) {
  flock(state_fd, LOCK_EX);
  if (atomic_load(&shared->generation) != rules->generation) {
    uint64_t zero = rules->generation << generation_shift;
    for (unsigned at = 0; at < max_rules; at++) {
      atomic_store(&shared->rule[at].calls, zero);
      atomic_store(&shared->rule[at].fired, zero);
      atomic_store(&shared->rule[at].next_start_ns, 0);
      for (unsigned server = 0; server < max_servers; server++)
        atomic_store(&shared->rule[at].free_at_ns[server], 0);
    }
    atomic_store(&shared->since_ns, now_ns());
    atomic_store(&shared->inode, rules->file.inode);
    atomic_store(&shared->mtime_ns, rules->file.mtime_ns);
    atomic_store(&shared->generation, rules->generation);
  }
  flock(state_fd, LOCK_UN);
}

struct rules *control_rules(void) {
  struct rules *rules = atomic_load(&current);
  if (!path[0]) return rules;
  struct stat file;
  bool exists = stat(path, &file) == 0;
  if (exists ? is_same(rules, &file) : rules == &calm) return rules;
  pthread_mutex_lock(&changing);
  rules = atomic_load(&current);
  exists = stat(path, &file) == 0;
  if (!(exists ? is_same(rules, &file) : rules == &calm)) {
    rules = exists ? read_rules() : &calm;
    if (rules != &calm) start_generation(rules);
    atomic_store(&current, rules);
  }
  pthread_mutex_unlock(&changing);
  return rules;
}

bool control_in_window(const struct rules *rules, const struct rule *rule) {
  if (rule->from_ns == 0 && rule->for_ns == 0) return true;
  if (atomic_load(&shared->generation) != rules->generation) return false;
  int64_t age = now_ns() - atomic_load(&shared->since_ns);
  return age >= rule->from_ns && (rule->for_ns == 0 || age < rule->from_ns + rule->for_ns);
}

/* The count after this one, or 0 where the counter is of another generation or would pass `limit`. */
static uint64_t count_up(_Atomic uint64_t *counter, const struct rules *rules, uint64_t limit) {
  const uint64_t zero = rules->generation << generation_shift;
  uint64_t seen = atomic_load(counter);
  do {
    if ((seen >> generation_shift) != (zero >> generation_shift) || (limit && seen - zero >= limit)) return 0;
  } while (!atomic_compare_exchange_weak(counter, &seen, seen + 1));
  return seen + 1 - zero;
}

bool control_once(const struct rules *rules, unsigned index) {
  return count_up(&shared->rule[index].fired, rules, 1) != 0;
}

bool control_fires(const struct rules *rules, unsigned index, bool may_fire, double *random) {
  const struct rule *rule = &rules->rule[index];
  if (!control_in_window(rules, rule)) return false;
  uint64_t count = count_up(&shared->rule[index].calls, rules, 0);
  uint64_t drawn = mix(mix(rule->seed ? rule->seed : rules->generation) + count);
  *random = (double)(mix(drawn) >> 11) * 0x1p-53;
  if (count == 0 || !may_fire || (rule->nth && count != rule->nth) || (rule->first && count > rule->first) ||
      count <= rule->after || (rule->every && count % rule->every != 0))
    return false;
  if (rule->probability < 1 && (double)(drawn >> 11) * 0x1p-53 >= rule->probability) return false;
  return count_up(&shared->rule[index].fired, rules, rule->times) != 0;
}

/*
 * A queue in virtual time: nothing is held while a call waits, so a process that is killed leaves no place taken.
 * `rate` spaces the starts, each of `parallel` servers does one call after the other.
 */
int64_t control_schedule(const struct rule *rule, unsigned index, int64_t latency_ns) {
  int64_t start = now_ns();
  const int64_t now = start;
  if (rule->rate > 0) {
    int64_t next = atomic_load(&shared->rule[index].next_start_ns);
    do start = next > now ? next : now;
    while (!atomic_compare_exchange_weak(&shared->rule[index].next_start_ns, &next, start + (int64_t)(1e9 / rule->rate)));
  }
  if (!rule->parallel) return start + latency_ns;
  for (;;) {
    _Atomic int64_t *free_at = shared->rule[index].free_at_ns;
    unsigned first = 0;
    for (unsigned at = 1; at < rule->parallel; at++)
      if (atomic_load(&free_at[at]) < atomic_load(&free_at[first])) first = at;
    int64_t seen = atomic_load(&free_at[first]);
    int64_t end = (seen > start ? seen : start) + latency_ns;
    if (atomic_compare_exchange_strong(&free_at[first], &seen, end)) return end;
  }
}
