/* secret: text that must not be printed: keys, tokens. The type is opaque, is no char *, and has no printf form.
 *
 * secret_reveal() is the only way to the bytes; its callers are few and can be found by grep (the signer, the
 * header writer, the credential readers). The bytes are zeroed when the last reference goes.
 */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <stddef.h>

struct secret;

struct secret *secret_new(const char *bytes, size_t length);
struct secret *secret_ref(struct secret *secret);
void secret_unref(struct secret *secret);
/* Terminated by NUL; valid while a reference is held. Never log it, never put it into an error. */
const char *secret_reveal(const struct secret *secret);
size_t secret_length(const struct secret *secret);
/* Zeroes memory in a way that the compiler keeps. */
void secret_wipe(void *bytes, size_t length);

#endif
