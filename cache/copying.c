#include "cache/copying.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/batch.h"
#include "cache/server.h"

#define PART_BYTES    ((uint64_t)512 << 20) /* few requests, and each well inside any server's patience */
#define PARTS_AT_ONCE 8

struct copying {
    struct cache *cache;
    const char *what, *source_key, *key;
    const struct identity *source;
    char *upload_id;
    uint64_t part_bytes;
    size_t count;
    struct store_part *parts;
};

static int create_upload(struct copying *copying, struct waiter *waiter)
{
    struct store_call head = server_call(copying->cache, STORE_HEAD, copying->source_key);
    struct store_call create = server_call(copying->cache, STORE_CREATE, copying->key);
    int rc = server_wait(copying->cache, copying->what, &head, -ENOENT, waiter);

    if (rc == 0) {
        create.meta = &head.object.meta;
        create.headers = &head.object.headers;
        rc = server_wait(copying->cache, copying->what, &create, 0, waiter);
    }
    if (rc == 0) {
        copying->upload_id = create.new_upload_id;
        create.new_upload_id = NULL;
    }
    store_call_release(&head);
    store_call_release(&create);
    return rc;
}

static int copy_parts(struct copying *copying, struct waiter *waiter)
{
    struct batch_options options = {.in_flight_max = PARTS_AT_ONCE, .stop_on_error = true};
    struct store_call *calls = xcalloc(copying->count, sizeof(*calls));
    int rc;

    for (size_t i = 0; i < copying->count; i++) {
        struct store_call *call = &calls[i];
        uint64_t offset = i * copying->part_bytes, left = copying->source->size - offset;
        *call = server_call(copying->cache, STORE_PART_COPY, copying->key);
        call->upload_id = copying->upload_id;
        call->part_number = (int)i + 1;
        call->source_key = copying->source_key;
        call->source_if_match = copying->source->etag;
        call->offset = offset;
        call->length = left < copying->part_bytes ? left : copying->part_bytes;
    }
    rc = batch_run(copying->cache->config.store, calls, copying->count, &options, waiter);
    for (size_t i = 0; i < copying->count; i++) {
        struct store_part *part = &copying->parts[i];
        int one =
            calls[i].rc == -ECANCELED ? 0 : server_settle(copying->cache, copying->what, &calls[i], -ESTALE);
        if (one < 0)
            rc = one;
        part->number = (int)i + 1;
        part->size = calls[i].length;
        memcpy(part->etag, calls[i].object.etag, sizeof(part->etag));
    }
    batch_release(calls, copying->count);
    free(calls);
    return rc;
}

static int complete(struct copying *copying, struct identity *ret_identity, struct waiter *waiter)
{
    struct store_call call = server_call(copying->cache, STORE_COMPLETE, copying->key);
    int rc;

    call.upload_id = copying->upload_id;
    call.parts = copying->parts;
    call.part_count = copying->count;
    rc = server_wait(copying->cache, copying->what, &call, 0, waiter);
    if (rc == 0) {
        server_identity(&call.object, ret_identity);
        ret_identity->size = copying->source->size;
    }
    store_call_release(&call);
    return rc;
}

static void abort_upload(struct copying *copying)
{
    struct store_call call = server_call(copying->cache, STORE_ABORT, copying->key);
    WAITER_SCOPED(waiter); /* the user may be gone: parts that nobody names cost money */

    call.upload_id = copying->upload_id;
    server_wait(copying->cache, copying->what, &call, -ENOENT, &waiter);
    store_call_release(&call);
}

int copying_by_parts(struct cache *cache, const char *what, const char *source_key,
                     const struct identity *source, const char *key, struct identity *ret_identity,
                     struct waiter *waiter)
{
    struct copying copying = {.cache = cache,
                              .what = what,
                              .source_key = source_key,
                              .key = key,
                              .source = source,
                              .part_bytes = PART_BYTES};
    int rc;

    while (source->size / copying.part_bytes >= STORE_PARTS_MAX)
        copying.part_bytes *= 2;
    copying.count = (source->size + copying.part_bytes - 1) / copying.part_bytes;
    if (!copying.count)
        return -EINVAL;
    copying.parts = xcalloc(copying.count, sizeof(*copying.parts));
    rc = create_upload(&copying, waiter);
    if (rc == 0) {
        rc = copy_parts(&copying, waiter);
        if (rc == 0)
            rc = complete(&copying, ret_identity, waiter);
        if (rc < 0)
            abort_upload(&copying);
    }
    free(copying.upload_id);
    free(copying.parts);
    return rc;
}

int copying_run(struct cache *cache, const char *what, const char *source_key, const struct identity *source,
                const char *key, struct identity *ret_identity, struct waiter *waiter)
{
    struct store_call call = server_call(cache, STORE_COPY, key);
    int rc;

    call.source_key = source_key;
    call.source_if_match = source->etag;
    rc = store_wait(cache->config.store, &call, waiter);
    if (rc == -EFBIG) {
        store_call_release(&call);
        return copying_by_parts(cache, what, source_key, source, key, ret_identity, waiter);
    }
    if (rc == -EAGAIN)
        return rc;
    call.rc = rc;
    rc = server_settle(cache, what, &call, rc == -ENOENT ? -ENOENT : -ESTALE);
    if (rc == 0) {
        server_identity(&call.object, ret_identity);
        ret_identity->size = source->size;
    }
    store_call_release(&call);
    return rc;
}
