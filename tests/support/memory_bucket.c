#include "tests/support/memory_bucket.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"

void memory_print_etag(const uint8_t md5[MD5_BYTES], size_t parts, char out[STORE_ETAG_MAX])
{
    BUF_SCOPED text = BUF_INIT;
    buf_add_char(&text, '"');
    buf_add_hex(&text, md5, MD5_BYTES);
    if (parts)
        buf_printf(&text, "-%zu", parts);
    buf_add_char(&text, '"');
    memcpy(out, text.bytes, text.length + 1);
}

static void digest_etag(const void *bytes, size_t length, uint8_t ret_md5[MD5_BYTES],
                        char out[STORE_ETAG_MAX])
{
    struct iovec piece = {(void *)(uintptr_t)bytes, length};
    digest_md5_pieces(&piece, 1, ret_md5);
    memory_print_etag(ret_md5, 0, out);
}

static struct version *ref_version(struct version *version)
{
    if (version)
        version->references++;
    return version;
}

static void unref_version(struct version *version)
{
    if (!version || --version->references)
        return;
    free(version->key);
    free(version->bytes);
    store_fields_release(&version->meta);
    store_fields_release(&version->headers);
    store_fields_release(&version->tags);
    free(version);
}

static void release_upload(struct memory_upload *upload)
{
    for (size_t i = 0; i < upload->part_count; i++)
        free(upload->parts[i].bytes);
    free(upload->parts);
    free(upload->key);
    free(upload->id);
    store_fields_release(&upload->meta);
    store_fields_release(&upload->headers);
    store_fields_release(&upload->tags);
}

void memory_bucket_release(struct memory_bucket *bucket)
{
    for (size_t i = 0; i < bucket->count; i++)
        unref_version(bucket->all[i]);
    free(bucket->all);
    for (size_t i = 0; i < MEMORY_STORE_HISTORY; i++) {
        free(bucket->history[i].key);
        unref_version(bucket->history[i].before);
    }
    for (size_t i = 0; i < bucket->upload_count; i++)
        release_upload(&bucket->uploads[i]);
    free(bucket->uploads);
    *bucket = (struct memory_bucket){0};
}

/* The first place whose key is not below `key`; *ret_same: it is this key. */
static size_t find_place(struct version *const *all, size_t count, const char *key, bool *ret_same)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(all[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_same = low < count && strcmp(all[low]->key, key) == 0;
    return low;
}

struct version *memory_bucket_find(const struct memory_bucket *bucket, const char *key)
{
    bool same;
    size_t place = find_place(bucket->all, bucket->count, key, &same);
    return same ? bucket->all[place] : NULL;
}

/* Gives `key` the version (a reference is taken over; NULL: none) in a sorted array that has room for one more.
 * Returns what stood there before, with its reference. */
static struct version *exchange_version(struct version **all, size_t *count, const char *key,
                                        struct version *version)
{
    bool same;
    size_t place = find_place(all, *count, key, &same);
    struct version *before = same ? all[place] : NULL;
    if (version && !same) {
        memmove(all + place + 1, all + place, (*count - place) * sizeof(*all));
        (*count)++;
    } else if (!version && same) {
        (*count)--;
        memmove(all + place, all + place + 1, (*count - place) * sizeof(*all));
    }
    if (version)
        all[place] = version;
    return before;
}

static void change_key(struct memory_bucket *bucket, const char *key, struct version *version)
{
    if (bucket->count == bucket->room) {
        bucket->room = bucket->room ? 2 * bucket->room : 16;
        bucket->all = xrealloc(bucket->all, bucket->room * sizeof(*bucket->all));
    }
    struct memory_change *change = &bucket->history[bucket->changes++ % MEMORY_STORE_HISTORY];
    char *changed = xstrdup(key); /* `key` may belong to the version that goes */
    unref_version(change->before);
    free(change->key);
    change->key = changed;
    change->before = exchange_version(bucket->all, &bucket->count, changed, version);
}

struct version *memory_bucket_put(struct memory_bucket *bucket, const char *key, char *bytes, size_t length,
                                  const struct store_fields *meta, const struct store_fields *headers,
                                  const char *etag)
{
    struct version *version = xcalloc(1, sizeof(*version));
    version->references = 1;
    version->key = xstrdup(key);
    version->bytes = bytes;
    version->length = length;
    version->modified_ns = clock_wall_ns();
    uint8_t md5[MD5_BYTES];
    if (etag)
        memcpy(version->etag, etag, strlen(etag) + 1);
    else
        digest_etag(bytes, length, md5, version->etag);
    if (meta)
        store_fields_copy(&version->meta, meta);
    if (headers)
        store_fields_copy(&version->headers, headers);
    store_fields_remove(&version->headers, STORE_TAG_COUNT_FIELD); /* that tells, and sets nothing */
    if (!store_fields_get(&version->headers, "content-type"))
        store_fields_add(&version->headers, "content-type", "binary/octet-stream");
    change_key(bucket, key, version);
    return version;
}

bool memory_bucket_remove(struct memory_bucket *bucket, const char *key)
{
    if (!memory_bucket_find(bucket, key))
        return false;
    change_key(bucket, key, NULL);
    return true;
}

struct version **memory_bucket_past(const struct memory_bucket *bucket, size_t changes, size_t *ret_count)
{
    assert(changes <= MEMORY_STORE_HISTORY);
    if (changes > bucket->changes)
        changes = bucket->changes;
    size_t count = bucket->count;
    struct version **past = xcalloc(count + changes + 1, sizeof(*past));
    for (size_t i = 0; i < count; i++)
        past[i] = ref_version(bucket->all[i]);
    for (size_t n = 1; n <= changes; n++) {
        const struct memory_change *change = &bucket->history[(bucket->changes - n) % MEMORY_STORE_HISTORY];
        unref_version(exchange_version(past, &count, change->key, ref_version(change->before)));
    }
    *ret_count = count;
    return past;
}

void memory_past_free(struct version **past, size_t count)
{
    for (size_t i = 0; i < count; i++)
        unref_version(past[i]);
    free(past);
}

struct memory_upload *memory_bucket_create(struct memory_bucket *bucket, const char *key,
                                           const struct store_fields *meta,
                                           const struct store_fields *headers)
{
    bucket->uploads = xrealloc(bucket->uploads, (bucket->upload_count + 1) * sizeof(*bucket->uploads));
    struct memory_upload *upload = &bucket->uploads[bucket->upload_count++];
    *upload = (struct memory_upload){0};
    upload->key = xstrdup(key);
    upload->id = xprintf("upload-%llu", (unsigned long long)++bucket->uploads_ever);
    upload->initiated_ns = clock_wall_ns();
    if (meta)
        store_fields_copy(&upload->meta, meta);
    if (headers)
        store_fields_copy(&upload->headers, headers);
    return upload;
}

struct memory_upload *memory_bucket_upload(const struct memory_bucket *bucket, const char *key,
                                           const char *id)
{
    for (size_t i = 0; i < bucket->upload_count; i++) {
        struct memory_upload *upload = &bucket->uploads[i];
        if (strcmp(upload->id, id) == 0 && strcmp(upload->key, key) == 0)
            return upload;
    }
    return NULL;
}

struct memory_part *memory_upload_part(struct memory_upload *upload, int number, char *bytes, size_t length)
{
    size_t place = 0;
    while (place < upload->part_count && upload->parts[place].number < number)
        place++;
    if (place == upload->part_count || upload->parts[place].number != number) {
        upload->parts = xrealloc(upload->parts, (upload->part_count + 1) * sizeof(*upload->parts));
        memmove(upload->parts + place + 1, upload->parts + place,
                (upload->part_count - place) * sizeof(*upload->parts));
        upload->parts[place] = (struct memory_part){.number = number};
        upload->part_count++;
    }
    struct memory_part *part = &upload->parts[place];
    free(part->bytes);
    part->bytes = bytes;
    part->length = length;
    digest_etag(bytes, length, part->md5, part->etag);
    return part;
}

void memory_bucket_forget(struct memory_bucket *bucket, struct memory_upload *upload)
{
    release_upload(upload);
    *upload = bucket->uploads[--bucket->upload_count];
}
