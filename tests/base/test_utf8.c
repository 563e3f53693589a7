#include "base/utf8.h"

#include <criterion/criterion.h>
#include <string.h>

static size_t encode(uint32_t code, char out[4])
{
    if (code < 0x80)
        return out[0] = (char)code, 1;
    if (code < 0x800)
        return out[0] = (char)(0xc0 | code >> 6), out[1] = (char)(0x80 | (code & 63)), 2;
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 63));
        out[2] = (char)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 63));
    out[2] = (char)(0x80 | (code >> 6 & 63));
    out[3] = (char)(0x80 | (code & 63));
    return 4;
}

Test(utf8, decodes_every_code_point_but_surrogates)
{
    for (uint32_t code = 0; code <= 0x110fff; code++) {
        char text[4];
        uint32_t got = 0;
        size_t size = encode(code, text);
        bool good = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        cr_assert(utf8_decode(text, size, &got) == (good ? size : 0), "U+%04X", code);
        if (good)
            cr_assert_eq(got, code);
        cr_assert_eq(utf8_decode(text, size - 1, &got), 0, "cut: U+%04X", code);
    }
}

Test(utf8, refuses_overlong_and_stray_bytes)
{
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xe0\x9f\xbf",
                                      "\xf0\x80\x80\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xff",
                                      "\xc3(",
                                      "\xe2\x28\xa1",
                                      "\xe2\x82("};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint32_t code;
        cr_assert_eq(utf8_decode(bad[i], strlen(bad[i]), &code), 0, "row %zu", i);
    }
}

Test(utf8, text_is_valid_to_its_end_or_not_at_all)
{
    static const char *const good[] = {"", "a", "\xc3\xa4", "a\xf0\x9f\x98\x80z"};
    static const char *const bad[] = {"\xff", "a\xc3", "\xc3\xa4\x80", "a\xff z", "\xed\xa0\x80"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_assert(utf8_valid(good[i]), "%zu", i);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(utf8_valid(bad[i]), "%zu", i);
}
