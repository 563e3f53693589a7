#include "base/secret.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct secret {
    atomic_uint refs;
    size_t length;
    char bytes[]; /* and a NUL */
};

struct secret *secret_new(const char *bytes, size_t length)
{
    struct secret *secret = xmalloc(sizeof(*secret) + length + 1);
    atomic_init(&secret->refs, 1);
    secret->length = length;
    if (length)
        memcpy(secret->bytes, bytes, length);
    secret->bytes[length] = '\0';
    return secret;
}

struct secret *secret_ref(struct secret *secret)
{
    if (secret) {
        unsigned before = atomic_fetch_add_explicit(&secret->refs, 1, memory_order_relaxed);
        assert(before > 0);
        (void)before;
    }
    return secret;
}

void secret_unref(struct secret *secret)
{
    if (!secret)
        return;
    unsigned before = atomic_fetch_sub_explicit(&secret->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    secret_wipe(secret->bytes, secret->length);
    free(secret);
}

const char *secret_reveal(const struct secret *secret)
{
    return secret->bytes;
}

size_t secret_length(const struct secret *secret)
{
    return secret->length;
}

void secret_wipe(void *bytes, size_t length)
{
    explicit_bzero(bytes, length);
}
