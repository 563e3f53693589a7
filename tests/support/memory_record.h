/* memory_record: the log of a memory_store: what was sent, call by call.
 *
 * Threads: the caller holds the memory_store's lock. Entries do not move while the record grows.
 */
#ifndef TESTS_SUPPORT_MEMORY_RECORD_H
#define TESTS_SUPPORT_MEMORY_RECORD_H

#include "tests/support/memory_store.h"

struct memory_record {
    struct memory_store_entry **all;
    size_t count;
    uint64_t cleared; /* how often: an entry's index is of use in the same generation only */
};

/* Key, else prefix, else first of many keys; "" for none. */
const char *memory_call_key(const struct store_call *call);
/* Op 0 and key NULL match any. */
bool memory_call_matches(const struct store_call *call, enum store_op op, const char *key);

size_t memory_record_add(struct memory_record *record, const struct store_call *call);
void memory_record_clear(struct memory_record *record);
void memory_record_print(const struct memory_record *record, struct buf *out);
size_t memory_record_find(const struct memory_record *record, enum store_op op, const char *key);

#endif
