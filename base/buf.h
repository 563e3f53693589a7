/* buf: a growing run of bytes that is always terminated by NUL, so that it can be read as a string.
 *
 * Owns: the bytes, until buf_release() or buf_take(). Start with `struct buf b = BUF_INIT;`.
 * Errors: out of memory ends the process (buf_add on a path is small; big data lives in pages, see memory.h).
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *bytes; /* never NULL after the first add; BUF_INIT points at a static empty string */
    size_t length;
    size_t room;
};

extern char buf_empty[1];
#define BUF_INIT                                                                                             \
    {                                                                                                        \
        buf_empty, 0, 0                                                                                      \
    }
#define BUF_SCOPED __attribute__((cleanup(buf_release))) struct buf

void buf_release(struct buf *buf);
void buf_reset(struct buf *buf);
void buf_add(struct buf *buf, const void *bytes, size_t length);
void buf_add_string(struct buf *buf, const char *text);
void buf_add_char(struct buf *buf, char c);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *buf, const char *format, va_list list) __attribute__((format(printf, 2, 0)));
/* Percent-encodes as SigV4 wants: all but A-Z a-z 0-9 - . _ ~ becomes %XX; `/` stays when keep_slash. */
void buf_add_encoded(struct buf *buf, const char *text, size_t length, bool keep_slash);
/* Gives the bytes (malloc'ed, terminated) to the caller and leaves the buf empty. */
char *buf_take(struct buf *buf);

/* xmalloc, xcalloc, xstrdup ...: end the process with a message when memory is gone. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t length);
char *xprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

void free_string(char **text); /* for __attribute__((cleanup)) */
#define STRING_SCOPED __attribute__((cleanup(free_string))) char

#endif
