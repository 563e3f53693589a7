/* store_contract: what every implementation of s3/store.h must do, as a table of small cases.
 *
 * Each case works below its own folder PREFIX/NAME/ of a bucket that it may share with others, needs nothing
 * that was there, and says what went wrong in words:
 *
 *      for (size_t i = 0; i < store_contract_count(); i++) {
 *          BUF_SCOPED why = BUF_INIT;
 *          cr_expect(store_contract_run(i, &setup, &why), "%s: %s", store_contract_name(i), why.bytes);
 *      }
 *
 * Cases whose ability the endpoint lacks (store_abilities after store_probe says ABILITY_NO) pass by checking
 * that the lack is told as the header says. The caller needs no probe: each case that leans on an ability
 * probes.
 */
#ifndef TESTS_SUPPORT_STORE_CONTRACT_H
#define TESTS_SUPPORT_STORE_CONTRACT_H

#include "s3/store.h"

struct store_contract {
    struct store *store;
    const char *prefix; /* "contract/": with its slash; "" is the whole bucket */
    bool any_key;       /* the endpoint holds keys that MinIO refuses: `//`, `.`, `..`, `a` beside `a/b` */
    bool lists_uploads; /* LIST_UPLOADS finds by any prefix (MinIO: by the whole key only) */
};

size_t store_contract_count(void);
const char *store_contract_name(size_t index);
/* True: the case holds. False: `why` says what does not, with the line of the case. */
bool store_contract_run(size_t index, const struct store_contract *setup, struct buf *why);

#endif
