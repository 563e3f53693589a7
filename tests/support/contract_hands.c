#include "tests/support/contract_hands.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/err.h"

void contract_fail(struct contract *contract, const char *file, int line, const char *claim,
                   const char *format, ...)
{
    contract->failed = true;
    buf_printf(contract->why, "%s:%d: not so: %s: ", file, line, claim);
    va_list list;
    va_start(list, format);
    buf_vprintf(contract->why, format, list);
    va_end(list);
}

void contract_fail_call(struct contract *contract, const char *file, int line, const struct store_call *call,
                        const char *wanted)
{
    contract->failed = true;
    buf_printf(contract->why, "%s:%d: %s %s: wanted rc %s, got %s: ", file, line, store_op_name(call->op),
               call->key      ? call->key
               : call->prefix ? call->prefix
                              : "",
               wanted, call->rc ? err_name(call->rc) : "0");
    store_error_print(&call->error, call->rc, contract->why);
}

char *contract_key(struct contract *contract, const char *name)
{
    return xprintf("%s%s", contract->folder, name);
}

int contract_call(struct contract *contract, struct store_call *call)
{
    return store_wait(contract->store, call, &contract->waiter);
}

void contract_probe(struct contract *contract)
{
    int rc = store_probe(contract->store, contract->folder, &contract->waiter);
    store_abilities(contract->store, &contract->abilities);
    CLAIM(contract, rc == 0, "store_probe gave %s", err_name(rc));
}

void contract_put(struct contract *contract, const char *key, const void *bytes, size_t length,
                  char *ret_etag)
{
    struct iovec from = {(void *)(uintptr_t)bytes, length};
    CALL_SCOPED call = {.op = STORE_PUT, .key = key, .from = &from, .from_count = 1};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    CLAIM(contract, call.object.etag[0] == '"', "the ETag of a PUT is %s", call.object.etag);
    if (ret_etag)
        memcpy(ret_etag, call.object.etag, STORE_ETAG_MAX);
}

void contract_put_text(struct contract *contract, const char *key, const char *text)
{
    contract_put(contract, key, text, strlen(text), NULL);
}

/* The whole object must be these bytes. */
void contract_expect(struct contract *contract, const char *key, const void *bytes, size_t length)
{
    char *into = xmalloc(length + 64);
    struct iovec piece = {into, length + 64};
    CALL_SCOPED call = {.op = STORE_GET, .key = key, .length = length + 64, .into = &piece, .into_count = 1};
    contract_call(contract, &call);
    bool same = call.rc == 0 && call.received == length && memcmp(into, bytes, length) == 0;
    free(into);
    CLAIM_RC(contract, &call, 0);
    CLAIM(contract, same, "%s: %llu bytes came, or not those that were sent", key,
          (unsigned long long)call.received);
}

void contract_expect_text(struct contract *contract, const char *key, const char *text)
{
    contract_expect(contract, key, text, strlen(text));
}

void contract_expect_missing(struct contract *contract, const char *key)
{
    CALL_SCOPED call = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, -ENOENT);
    CLAIM(contract, !call.unknown, "a HEAD changes nothing");
}

char *contract_noise(size_t length, unsigned seed)
{
    char *bytes = xmalloc(length + 1);
    uint32_t state = seed * 2654435761u + 1;
    for (size_t i = 0; i < length; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (char)(state >> 24);
    }
    return bytes;
}

void contract_md5(const void *bytes, size_t length, struct buf *out)
{
    uint8_t md5[MD5_BYTES];
    struct iovec piece = {(void *)(uintptr_t)bytes, length};
    digest_md5_pieces(&piece, 1, md5);
    buf_add_char(out, '"');
    buf_add_hex(out, md5, MD5_BYTES);
    buf_add_char(out, '"');
}
