/* words: what is said to a person: foreign text escaped as in the log, each message one line with one newline at its end.
 *
 * A `why` that is handed up holds no newline at its end; where several things are wrong at once, each has a line of its own.
 */
#ifndef MOUNT_WORDS_H
#define MOUNT_WORDS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/buf.h"

/* Control characters (newlines too) and what is no UTF-8 become \xNN, so that no name can command the terminal. */
void words_escape(struct buf *out, const char *text, size_t length);
/* A control character stands in it. */
bool words_have_control(const char *text);
/* One line, escaped as a whole. */
void words_line(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "skyvol: LINE" on stderr for each line of `why`. */
void words_complain(const char *why);
/* The same for one sentence that is made on the spot. */
void words_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A new line of `why` begins here. */
void words_next(struct buf *why);

#endif
