/* contract_hands: what the cases of the store contract have in common: claims, and small calls that must succeed.
 *
 * A case ends at its first failed claim. A hand that fails marks the case as failed, so STILL_GOOD() stands behind it.
 * Not here: the table and the door (store_contract.h).
 */
#ifndef TESTS_SUPPORT_CONTRACT_HANDS_H
#define TESTS_SUPPORT_CONTRACT_HANDS_H

#include "tests/support/store_contract.h"

#define MIB ((size_t)1 << 20)

/* One running case. */
struct contract {
    const struct store_contract *setup;
    struct store *store;
    const char *folder; /* PREFIX/NAME/ */
    struct buf *why;
    bool failed;
    struct waiter waiter;
    struct store_abilities abilities; /* after contract_probe() */
};

struct contract_case {
    const char *name;
    void (*run)(struct contract *contract);
};

/* Ended by an entry without name. */
extern const struct contract_case contract_objects[], contract_listings[], contract_parts[], contract_calls[];

#define CALL_SCOPED __attribute__((cleanup(store_call_release))) struct store_call

/* A failed claim ends its case; what it holds goes by the scope. */
#define CLAIM(contract, condition, ...)                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            contract_fail(contract, __FILE_NAME__, __LINE__, #condition, __VA_ARGS__);                       \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)
#define CLAIM_RC(contract, call, wanted)                                                                     \
    do {                                                                                                     \
        if ((call)->rc != (wanted)) {                                                                        \
            contract_fail_call(contract, __FILE_NAME__, __LINE__, call, #wanted);                            \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)
/* After a helper that may have failed the case itself. */
#define STILL_GOOD(contract)                                                                                 \
    do {                                                                                                     \
        if ((contract)->failed)                                                                              \
            return;                                                                                          \
    } while (0)

void contract_fail(struct contract *contract, const char *file, int line, const char *claim,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));
void contract_fail_call(struct contract *contract, const char *file, int line, const struct store_call *call,
                        const char *wanted);

/* The whole key of a name in the case's folder; malloc'ed. */
char *contract_key(struct contract *contract, const char *name);
int contract_call(struct contract *contract, struct store_call *call);
void contract_probe(struct contract *contract);
void contract_put(struct contract *contract, const char *key, const void *bytes, size_t length,
                  char *ret_etag);
void contract_put_text(struct contract *contract, const char *key, const char *text);
/* The whole object must be these bytes. */
void contract_expect(struct contract *contract, const char *key, const void *bytes, size_t length);
void contract_expect_text(struct contract *contract, const char *key, const char *text);
void contract_expect_missing(struct contract *contract, const char *key);
/* Reproducible bytes; malloc'ed. */
char *contract_noise(size_t length, unsigned seed);
/* Appends the MD5 as a plain PUT's ETag has it. */
void contract_md5(const void *bytes, size_t length, struct buf *out);

#endif
