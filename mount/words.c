#include "mount/words.h"

#include <string.h>

#include "base/utf8.h"

void words_escape(struct buf *out, const char *text, size_t length)
{
    while (length) {
        uint32_t code;
        size_t size = utf8_decode(text, length, &code);
        bool plain =
            size > 0 && code >= 0x20 && !(code >= 0x7f && code < 0xa0); /* C1 too: terminals obey it */
        if (plain)
            buf_add(out, text, size);
        else
            buf_printf(out, "\\x%02x", (unsigned char)*text);
        text += plain ? size : 1;
        length -= plain ? size : 1;
    }
}

void words_line(FILE *out, const char *format, ...)
{
    BUF_SCOPED raw = BUF_INIT;
    BUF_SCOPED line = BUF_INIT;
    va_list list;
    va_start(list, format);
    buf_vprintf(&raw, format, list);
    va_end(list);
    words_escape(&line, raw.bytes, raw.length);
    fprintf(out, "%s\n", line.bytes);
}

void words_complain(const char *why)
{
    while (*why) {
        size_t length = strcspn(why, "\n");
        if (length)
            words_line(stderr, "skyvol: %.*s", (int)length, why);
        why += length + (why[length] == '\n');
    }
}

void words_say(const char *format, ...)
{
    BUF_SCOPED text = BUF_INIT;
    va_list list;
    va_start(list, format);
    buf_vprintf(&text, format, list);
    va_end(list);
    words_line(stderr, "skyvol: %s", text.bytes);
}

void words_next(struct buf *why)
{
    if (why->length)
        buf_add_char(why, '\n');
}

bool words_have_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}
