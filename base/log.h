/* log: one line per event, to stderr, syslog or journald; the level can change while running.
 *
 * One failure is one line, written where it is decided what to do about it:
 *     operation, inode, key, errno name, S3 code and request id, attempt, milliseconds, outcome.
 * Control characters of foreign text (keys, server messages) are written as \xNN, so that no key forges a line.
 * Threads: any. Never call it with data that may hold a secret: secrets are a type of their own (secret.h).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_TRACE };
enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_JOURNAL, LOG_TO_FILE };

/* path: only for LOG_TO_FILE (appended, 0600). 0 or -errno; on an error the old target stays. */
int log_open(enum log_target target, const char *path);
void log_set_level(enum log_level level);
enum log_level log_level(void);
/* "error" ... "trace"; -EINVAL. */
int log_parse_level(const char *text, enum log_level *ret_level);
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A copy of each line, for tests and for mount's start-up message. NULL ends it. */
void log_tap(void (*heard)(void *context, enum log_level level, const char *line), void *context);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
/* Debug and trace cost one load when off. */
#define log_debug(...)                                                                                       \
    do {                                                                                                     \
        if (log_enabled(LOG_LEVEL_DEBUG))                                                                    \
            log_line(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                          \
    } while (0)
#define log_trace(...)                                                                                       \
    do {                                                                                                     \
        if (log_enabled(LOG_LEVEL_TRACE))                                                                    \
            log_line(LOG_LEVEL_TRACE, __VA_ARGS__);                                                          \
    } while (0)

#endif
