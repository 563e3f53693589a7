#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char buf_empty[1];

static void die_of_memory(void)
{
    static const char text[] = "skyvol: out of memory\n";
    ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)written;
    abort();
}

void *xmalloc(size_t size)
{
    void *bytes = malloc(size ? size : 1);
    if (!bytes)
        die_of_memory();
    return bytes;
}

void *xcalloc(size_t count, size_t size)
{
    void *bytes = calloc(count ? count : 1, size ? size : 1);
    if (!bytes)
        die_of_memory();
    return bytes;
}

void *xrealloc(void *old, size_t size)
{
    void *bytes = realloc(old, size ? size : 1);
    if (!bytes)
        die_of_memory();
    return bytes;
}

char *xstrdup(const char *text)
{
    return xstrndup(text, strlen(text));
}

char *xstrndup(const char *text, size_t length)
{
    size_t size = strnlen(text, length);
    char *copy = xmalloc(size + 1);
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

char *xprintf(const char *format, ...)
{
    struct buf buf = BUF_INIT;
    va_list list;
    va_start(list, format);
    buf_vprintf(&buf, format, list);
    va_end(list);
    return buf_take(&buf);
}

void free_string(char **text)
{
    free(*text);
    *text = NULL;
}

/* Room for `more` bytes and the NUL. */
static void grow(struct buf *buf, size_t more)
{
    if (more >= SIZE_MAX / 2 - buf->length)
        die_of_memory();
    size_t needed = buf->length + more + 1;
    if (needed <= buf->room)
        return;
    size_t room = buf->room ? buf->room * 2 : 64;
    if (room < needed)
        room = needed;
    buf->bytes = xrealloc(buf->room ? buf->bytes : NULL, room);
    buf->room = room;
}

void buf_release(struct buf *buf)
{
    if (!buf)
        return;
    if (buf->room)
        free(buf->bytes);
    *buf = (struct buf)BUF_INIT;
}

void buf_reset(struct buf *buf)
{
    buf->length = 0;
    if (buf->room)
        buf->bytes[0] = '\0';
}

void buf_add(struct buf *buf, const void *bytes, size_t length)
{
    grow(buf, length);
    if (length)
        memcpy(buf->bytes + buf->length, bytes, length);
    buf->length += length;
    buf->bytes[buf->length] = '\0';
}

void buf_add_string(struct buf *buf, const char *text)
{
    buf_add(buf, text, strlen(text));
}

void buf_add_char(struct buf *buf, char c)
{
    buf_add(buf, &c, 1);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    buf_vprintf(buf, format, list);
    va_end(list);
}

void buf_vprintf(struct buf *buf, const char *format, va_list list)
{
    va_list again;
    va_copy(again, list);
    grow(buf, 0);
    int size = vsnprintf(buf->bytes + buf->length, buf->room - buf->length, format, list);
    if (size >= 0 && (size_t)size >= buf->room - buf->length) {
        grow(buf, (size_t)size);
        size = vsnprintf(buf->bytes + buf->length, buf->room - buf->length, format, again);
    }
    va_end(again);
    if (size < 0)
        die_of_memory(); /* the only other failure is a text over 2 GiB */
    buf->length += (size_t)size;
}

static bool is_unreserved(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void buf_add_encoded(struct buf *buf, const char *text, size_t length, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (is_unreserved(text[i]) || (keep_slash && text[i] == '/'))
            buf_add_char(buf, text[i]);
        else
            buf_add(buf, (char[]){'%', digits[byte >> 4], digits[byte & 15]}, 3);
    }
}

char *buf_take(struct buf *buf)
{
    char *bytes = buf->room ? buf->bytes : xstrdup("");
    *buf = (struct buf)BUF_INIT;
    return bytes;
}
