/* program: another program run for what it prints: without a shell, its stdin is /dev/null, its stderr is ours.
 *
 * It has a process group of its own: when its time is over, all that it started ends with it. What it prints may be a secret: it
 * is read into the caller's room and nowhere else.
 * Errors: -ETIMEDOUT: it has not closed its output, or not ended, in time; -EFBIG: it prints more than fits; -ENOENT, -EACCES ...: it
 * cannot be started. An exit status is no error. Threads: any; blocks.
 */
#ifndef BASE_PROGRAM_H
#define BASE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

/* `words` end with NULL; the first is looked for in PATH. At most `size` - 1 bytes, and a NUL behind them. *ret_status as waitpid() has it. */
int program_run(const char *const *words, int64_t timeout_ms, char *room, size_t size, size_t *ret_length,
                int *ret_status);

#endif
