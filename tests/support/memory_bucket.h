/* memory_bucket: the objects and unfinished uploads of a memory_store, and S3's rules over them.
 *
 *      all[]      sorted by key in bytes -> version (counted, never changed but for its tags: a GET in delivery keeps the old one)
 *      history[]  the last changes {key, version before}: undone over a copy of all[], they give a stale listing
 *
 * Threads: the caller holds the memory_store's lock. Not here: faults, order and time of calls (memory_store.c).
 */
#ifndef TESTS_SUPPORT_MEMORY_BUCKET_H
#define TESTS_SUPPORT_MEMORY_BUCKET_H

#include "base/digest.h"
#include "tests/support/memory_store.h"

struct version {
    size_t references;
    char *key;
    char *bytes;
    size_t length;
    int64_t modified_ns;
    char etag[STORE_ETAG_MAX];
    struct store_fields meta, headers, tags;
};

struct memory_change {
    char *key;
    struct version *before; /* NULL: there was none */
};

struct memory_part {
    int number;
    char *bytes;
    size_t length;
    uint8_t md5[MD5_BYTES];
    char etag[STORE_ETAG_MAX];
};

struct memory_upload {
    char *key;
    char *id;
    int64_t initiated_ns;
    struct store_fields meta, headers, tags;
    struct memory_part *parts; /* ascending numbers */
    size_t part_count;
};

struct memory_bucket {
    struct version **all;
    size_t count, room;
    struct memory_change
        history[MEMORY_STORE_HISTORY]; /* a ring: change n stands at n % MEMORY_STORE_HISTORY */
    size_t changes;
    struct memory_upload *uploads;
    size_t upload_count;
    uint64_t uploads_ever;
};

void memory_bucket_release(struct memory_bucket *bucket);

/* NULL: no such key. Borrowed. */
struct version *memory_bucket_find(const struct memory_bucket *bucket, const char *key);
/* Takes `bytes` (malloc'ed). The ETag is the MD5 of the bytes unless one is given. Borrowed; it has no tags yet. */
struct version *memory_bucket_put(struct memory_bucket *bucket, const char *key, char *bytes, size_t length,
                                  const struct store_fields *meta, const struct store_fields *headers,
                                  const char *etag);
bool memory_bucket_remove(struct memory_bucket *bucket, const char *key);
/* The listing as it was `changes` ago: malloc'ed, counted references in key order, to be ended by memory_past_free(). */
struct version **memory_bucket_past(const struct memory_bucket *bucket, size_t changes, size_t *ret_count);
void memory_past_free(struct version **past, size_t count);

struct memory_upload *memory_bucket_create(struct memory_bucket *bucket, const char *key,
                                           const struct store_fields *meta,
                                           const struct store_fields *headers);
struct memory_upload *memory_bucket_upload(const struct memory_bucket *bucket, const char *key,
                                           const char *id);
/* Takes `bytes`. Replaces a part of that number. Borrowed. */
struct memory_part *memory_upload_part(struct memory_upload *upload, int number, char *bytes, size_t length);
/* "hex" of the digest, with -parts behind it unless that is 0. */
void memory_print_etag(const uint8_t md5[MD5_BYTES], size_t parts, char out[STORE_ETAG_MAX]);
void memory_bucket_forget(struct memory_bucket *bucket, struct memory_upload *upload);

/* Does what the call asks, now and whole, and fills its outputs and rc. `stale`: see FAULT_STALE_LIST. */
void memory_answer(struct memory_bucket *bucket, const struct memory_store_config *rules,
                   struct store_call *call, unsigned stale);
/* Ends a call as a refusal by the server would. */
void memory_refuse(struct store_call *call, int rc, int http_status, const char *code, const char *message);
/* An object as HEAD tells it. */
void memory_describe(const struct version *version, struct store_object *ret_object);
uint64_t memory_body_length(const struct iovec *pieces, size_t count);

#endif
