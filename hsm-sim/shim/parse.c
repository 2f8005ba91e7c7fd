/* Reads the control file: one rule a line, `FUNCTIONS ACTION [WHEN…]` or `token ACTION [WHEN…]`. */
#include "shim.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool number(const char *text, double low, double high, double *value) {
  char *end;
  if (!isdigit((unsigned char)*text) && *text != '.') return false;
  *value = strtod(text, &end);
  return *end == 0 && *value >= low && *value <= high;
}

static bool whole(const char *text, double low, uint64_t *value) {
  double parsed;
  if (!number(text, low, 1e15, &parsed)) return false;
  *value = (uint64_t)parsed;
  return (double)*value == parsed;
}

/* `C_Sign`, `C_Sign,C_SignInit` or `*`. */
static bool functions(char *text, struct rule *rule) {
  if (strcmp(text, "*") == 0) {
    for (int at = 0; at < function_count; at++) rule->functions[at] = true;
    return true;
  }
  char *rest;
  for (char *name = strtok_r(text, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
    int at = 0;
    while (at < function_count && strcmp(function_names[at], name) != 0) at++;
    if (at == function_count) return false;
    rule->functions[at] = true;
  }
  return true;
}

static bool hidden(char *text, struct rule *rule) {
  char *rest;
  for (char *name = strtok_r(text, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
    if (rule->hidden_count == max_hidden || !module_value(name, "CKM_", &rule->hidden[rule->hidden_count++])) return false;
  return rule->hidden_count > 0;
}

static bool function_action(const char *word, char *value, struct rule *rule) {
  static const struct {
    const char *word;
    enum action action;
  } bare[] = {{"hang", act_hang},
              {"lose-sessions", act_lose_sessions},
              {"lose-login", act_lose_login},
              {"flip", act_flip},
              {"other-key", act_other_key}};
  if (!value) {
    for (unsigned at = 0; at < sizeof bare / sizeof bare[0]; at++)
      if (strcmp(word, bare[at].word) == 0) return rule->action = bare[at].action, true;
    return false;
  }
  if (strcmp(word, "error") == 0) return rule->action = act_error, module_value(value, "CKR_", &rule->error);
  if (strcmp(word, "delay") == 0) return rule->action = act_delay, number(value, 0, 1e9, &rule->delay_ms);
  if (strcmp(word, "crash") == 0) {
    rule->action = act_crash;
    rule->signal = strcmp(value, "segv") == 0 ? SIGSEGV : strcmp(value, "abort") == 0 ? SIGABRT : 0;
    return rule->signal != 0;
  }
  return false;
}

static bool token_action(const char *word, char *value, struct rule *rule) {
  double ms;
  if (!value) {
    rule->action = strcmp(word, "removed") == 0         ? act_removed
                   : strcmp(word, "shuffle-slots") == 0 ? act_shuffle_slots
                   : strcmp(word, "bare-points") == 0   ? act_bare_points
                                                        : no_action;
    return rule->action != no_action;
  }
  if (strcmp(word, "sessions") == 0) return rule->action = act_sessions, whole(value, 0, &rule->limit);
  if (strcmp(word, "hide") == 0) return rule->action = act_hide, hidden(value, rule);
  if (strcmp(word, "idle") != 0 || !number(value, 0, 1e9, &ms)) return false;
  rule->action = act_idle;
  rule->limit = (uint64_t)(ms * 1e6);
  return true;
}

static bool id(const char *text, struct rule *rule) {
  size_t length = strspn(text, "0123456789abcdef");
  if (length == 0 || text[length] != 0 || length % 2 != 0 || length >= sizeof rule->id) return false;
  memcpy(rule->id, text, length + 1);
  return rule->has_id = true;
}

/* What says when a rule fires, and what refines a delay. */
static bool parameter(const char *word, const char *value, struct rule *rule) {
  double ms;
  uint64_t count;
  bool window = strcmp(word, "from") == 0 || strcmp(word, "for") == 0;
  if (window) {
    if (!number(value, 0, 1e9, &ms)) return false;
    *(word[1] == 'r' ? &rule->from_ns : &rule->for_ns) = (int64_t)(ms * 1e6);
    return strcmp(word, "for") != 0 || rule->for_ns > 0;
  }
  if (rule->action >= act_removed) return false;
  if (strcmp(word, "nth") == 0) return whole(value, 1, &rule->nth);
  if (strcmp(word, "first") == 0) return whole(value, 1, &rule->first);
  if (strcmp(word, "after") == 0) return whole(value, 0, &rule->after);
  if (strcmp(word, "every") == 0) return whole(value, 1, &rule->every);
  if (strcmp(word, "times") == 0) return whole(value, 1, &rule->times);
  if (strcmp(word, "seed") == 0) return whole(value, 0, &rule->seed);
  if (strcmp(word, "p") == 0) return number(value, 0, 1, &rule->probability);
  if (strcmp(word, "id") == 0) return id(value, rule);
  if (strcmp(word, "when") == 0 && rule->action != act_flip && rule->action != act_other_key)
    return rule->afterwards = true, strcmp(value, "after") == 0;
  if (rule->action != act_delay) return false;
  if (strcmp(word, "jitter") == 0) return number(value, 0, 1e9, &rule->jitter_ms);
  if (strcmp(word, "rate") == 0) return number(value, 1e-3, 1e9, &rule->rate);
  if (strcmp(word, "parallel") != 0 || !whole(value, 1, &count) || count > max_servers) return false;
  rule->parallel = (unsigned)count;
  return true;
}

static char *after_equals(char *word) {
  char *equals = strchr(word, '=');
  if (equals) *equals++ = 0;
  return equals;
}

static const char *whole_word(const char *word, char *value) {
  if (value) value[-1] = '=';
  return word;
}

/* The word that cannot be understood, or NULL. */
static const char *parse_rule(char *line, struct rule *rule) {
  char *rest;
  char *subject = strtok_r(line, " \t\r", &rest);
  char *action = strtok_r(NULL, " \t\r", &rest);
  if (!action) return subject;
  rule->probability = 1;
  char *value = after_equals(action);
  bool understood = strcmp(subject, "token") == 0 ? token_action(action, value, rule)
                                                  : function_action(action, value, rule);
  if (!understood) return whole_word(action, value);
  if (rule->action < act_removed && !functions(subject, rule)) return subject;
  for (char *word = strtok_r(NULL, " \t\r", &rest); word; word = strtok_r(NULL, " \t\r", &rest)) {
    char *of = after_equals(word);
    if (!of || !parameter(word, of, rule)) return whole_word(word, of);
  }
  return NULL;
}

void parse_rules(char *text, struct rules *rules) {
  unsigned number_of_line = 0;
  for (char *line = text; line && !rules->problem[0];) {
    char *next = strchr(line, '\n');
    if (next) *next++ = 0;
    number_of_line++;
    char *comment = strchr(line, '#');
    if (comment) *comment = 0;
    if (line[strspn(line, " \t\r")] != 0) {
      const char *wrong = rules->count == max_rules ? "one rule too many" : parse_rule(line, &rules->rule[rules->count]);
      if (wrong) snprintf(rules->problem, sizeof rules->problem, "line %u: cannot understand %s", number_of_line, wrong);
      else rules->count++;
    }
    line = next;
  }
}
