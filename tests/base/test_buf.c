#include "base/buf.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(buf, an_empty_one_reads_as_an_empty_string)
{
    struct buf buf = BUF_INIT;
    cr_assert_str_eq(buf.bytes, "");
    buf_reset(&buf);
    buf_release(&buf);
    buf_release(&buf);
    buf_release(NULL);
    cr_assert_eq(buf_empty[0], '\0');
}

Test(buf, is_terminated_after_every_growth)
{
    BUF_SCOPED buf = BUF_INIT;
    for (size_t i = 0; i < 5000; i++) {
        buf_add_char(&buf, (char)('a' + i % 26));
        cr_assert_eq(buf.length, i + 1);
        cr_assert_eq(buf.bytes[i + 1], '\0');
    }
    for (size_t i = 0; i < 5000; i++)
        cr_assert_eq(buf.bytes[i], (char)('a' + i % 26));
}

Test(buf, holds_bytes_with_nul)
{
    BUF_SCOPED buf = BUF_INIT;
    buf_add(&buf, "a\0b", 3);
    buf_add(&buf, NULL, 0);
    cr_assert_eq(buf.length, 3);
    cr_assert_eq(memcmp(buf.bytes, "a\0b", 4), 0);
}

Test(buf, printf_appends_text_of_every_length)
{
    for (int length = 0; length < 300; length++) {
        BUF_SCOPED buf = BUF_INIT;
        buf_printf(&buf, "%s", "x");
        buf_printf(&buf, "%*s", length, "");
        buf_printf(&buf, "|%d", 42);
        cr_assert_eq(buf.length, (size_t)length + 4);
        cr_assert_str_eq(buf.bytes + buf.length - 3, "|42");
    }
}

Test(buf, encodes_every_byte_as_sigv4_wants)
{
    for (int byte = 0; byte < 256; byte++) {
        BUF_SCOPED buf = BUF_INIT;
        char c = (char)byte;
        buf_add_encoded(&buf, &c, 1, false);
        char wanted[4] = {c, 0};
        if (byte == 0 || byte >= 128 ||
            !strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", byte))
            snprintf(wanted, sizeof(wanted), "%%%02X", byte);
        cr_assert_str_eq(buf.bytes, wanted);
    }
}

Test(buf, keeps_the_slash_only_when_told)
{
    BUF_SCOPED buf = BUF_INIT;
    buf_add_encoded(&buf, "a/b c", 5, true);
    buf_add_char(&buf, ' ');
    buf_add_encoded(&buf, "a/b", 3, false);
    cr_assert_str_eq(buf.bytes, "a/b%20c a%2Fb");
}

Test(buf, take_gives_the_bytes_and_leaves_an_empty_one)
{
    struct buf buf = BUF_INIT;
    char *nothing = buf_take(&buf);
    cr_assert_str_eq(nothing, "");
    free(nothing);
    buf_add_string(&buf, "text");
    char *text = buf_take(&buf);
    cr_assert_str_eq(text, "text");
    cr_assert_eq(buf.length, 0);
    cr_assert_str_eq(buf.bytes, "");
    free(text);
}

Test(buf, reset_keeps_the_room_and_empties_the_text)
{
    BUF_SCOPED buf = BUF_INIT;
    buf_add_string(&buf, "text");
    size_t room = buf.room;
    buf_reset(&buf);
    cr_assert_str_eq(buf.bytes, "");
    cr_assert_eq(buf.room, room);
}

Test(buf, xstrndup_stops_at_nul_and_at_length)
{
    STRING_SCOPED *a = xstrndup("abcdef", 3);
    STRING_SCOPED *b = xstrndup("ab", 30);
    STRING_SCOPED *c = xprintf("%s-%d", "n", 7);
    cr_assert_str_eq(a, "abc");
    cr_assert_str_eq(b, "ab");
    cr_assert_str_eq(c, "n-7");
}
