/* utf8: one character of UTF-8 at a time, strict as RFC 3629 (no overlong forms, no surrogates, up to U+10FFFF). */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes that the first character of `text` takes (1 to 4), its code in *ret_code; 0 when it is no UTF-8. */
size_t utf8_decode(const char *text, size_t length, uint32_t *ret_code);
/* All of it is UTF-8. */
bool utf8_valid(const char *text);

#endif
