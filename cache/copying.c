#include "cache/copying.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/batch.h"
#include "cache/keepsake.h"
#include "cache/server.h"
#include "cache/tagging.h"

#define PARTS_AT_ONCE     8
#define HURRY_PATIENCE_MS 2000

/* ---- By parts. ---- */

struct parts {
    struct copying *copying;
    char *upload_id;
    struct buf id; /* ours, in the copy's metadata */
    uint64_t bytes;
    size_t count;
    struct store_part *all;
};

static int create_upload(struct parts *parts, struct waiter *waiter)
{
    struct copying *copying = parts->copying;
    struct store_call head = server_call(copying->cache, STORE_HEAD, copying->source_key);
    struct store_call create = server_call(copying->cache, STORE_CREATE, copying->key);
    struct store_fields tags = {0};
    int rc = server_wait(copying->cache, copying->what, &head, -ENOENT, waiter);

    if (rc == 0 && !keepsake_is_key(copying->cache, copying->key))
        rc = tagging_ask(copying->cache, copying->what, copying->source_key, &head.object.headers, &tags,
                         waiter);
    if (rc == 0) {
        server_add_id(&head.object.meta, &parts->id);
        create.meta = &head.object.meta;
        create.headers = &head.object.headers;
        create.tags = &tags;
        rc = tagging_wait(copying->cache, copying->what, &create, 0, waiter);
    }
    if (rc == 0) {
        parts->upload_id = create.new_upload_id;
        create.new_upload_id = NULL;
    }
    store_call_release(&head);
    store_call_release(&create);
    store_fields_release(&tags);
    return rc;
}

static int copy_parts(struct parts *parts, struct waiter *waiter)
{
    struct copying *copying = parts->copying;
    struct batch_options options = {.in_flight_max = PARTS_AT_ONCE, .stop_on_error = true};
    struct store_call *calls = xcalloc(parts->count, sizeof(*calls));
    int rc;

    for (size_t i = 0; i < parts->count; i++) {
        struct store_call *call = &calls[i];
        uint64_t offset = i * parts->bytes, left = copying->source->size - offset;
        *call = server_call(copying->cache, STORE_PART_COPY, copying->key);
        call->upload_id = parts->upload_id;
        call->part_number = (int)i + 1;
        call->source_key = copying->source_key;
        call->source_if_match = copying->source->etag;
        call->offset = offset;
        call->length = left < parts->bytes ? left : parts->bytes;
    }
    rc = batch_run(copying->cache->config.store, calls, parts->count, &options, waiter);
    for (size_t i = 0; i < parts->count; i++) {
        struct store_part *part = &parts->all[i];
        int one =
            calls[i].rc == -ECANCELED ? 0 : server_settle(copying->cache, copying->what, &calls[i], -ESTALE);
        if (one < 0)
            rc = one;
        part->number = (int)i + 1;
        part->size = calls[i].length;
        memcpy(part->etag, calls[i].object.etag, sizeof(part->etag));
    }
    batch_release(calls, parts->count);
    free(calls);
    return rc;
}

static int complete(struct parts *parts, struct waiter *waiter)
{
    struct copying *copying = parts->copying;
    struct store_call call = server_call(copying->cache, STORE_COMPLETE, copying->key);

    call.upload_id = parts->upload_id;
    call.parts = parts->all;
    call.part_count = parts->count;
    int rc = server_wait(copying->cache, copying->what, &call, 0, waiter);
    if (rc == 0) {
        server_identity(&call.object, &copying->to);
        copying->to.size = copying->source->size;
    } else if (call.unknown ||
               rc == -ENOENT) { /* "no such upload": the echo of a first attempt that did it? */
        int found = server_find_id(copying->cache, copying->key, parts->id.bytes, &copying->to, waiter);
        copying->maybe = found < 0;
        rc = found == 1 ? 0 : rc;
    }
    store_call_release(&call);
    return rc;
}

/* `hurry`: somebody has interrupted it, and waits. */
static void abort_upload(struct parts *parts, bool hurry)
{
    struct copying *copying = parts->copying;
    struct store_call call = server_call(copying->cache, STORE_ABORT, copying->key);
    WAITER_SCOPED(waiter); /* the user may be gone: parts that nobody names cost money */

    call.upload_id = parts->upload_id;
    if (hurry && call.patience_ms > HURRY_PATIENCE_MS)
        call.patience_ms = HURRY_PATIENCE_MS;
    server_wait(copying->cache, copying->what, &call, -ENOENT, &waiter);
    store_call_release(&call);
}

uint64_t copying_part_bytes(const struct cache *cache, uint64_t size)
{
    uint64_t bytes = cache->config.copy_bytes_max / 4;

    while (size / bytes >= STORE_PARTS_MAX)
        bytes *= 2;
    return bytes;
}

static int run_by_parts(struct copying *copying, struct waiter *waiter)
{
    uint64_t size = copying->source->size;
    struct parts parts = {
        .copying = copying, .id = BUF_INIT, .bytes = copying_part_bytes(copying->cache, size)};
    int rc;

    parts.count = (size + parts.bytes - 1) / parts.bytes;
    if (!parts.count)
        return -EINVAL;
    parts.all = xcalloc(parts.count, sizeof(*parts.all));
    rc = create_upload(&parts, waiter);
    if (rc == 0) {
        rc = copy_parts(&parts, waiter);
        if (rc == 0)
            rc = complete(&parts, waiter);
        if (rc < 0)
            abort_upload(&parts, rc == -EINTR);
    }
    buf_release(&parts.id);
    free(parts.upload_id);
    free(parts.all);
    return rc;
}

/* ---- At once. ---- */

void copying_prepare(const struct copying *copying, struct store_call *ret_call)
{
    *ret_call = server_call(copying->cache, STORE_COPY, copying->key);
    ret_call->source_key = copying->source_key;
    ret_call->source_if_match = copying->source->etag;
}

/* 1: it is, 0: it is not, -EIO: cannot be told. */
static int compare(const struct store_object *there, const struct store_object *source)
{
    bool same = there->size == source->size && there->meta.count == source->meta.count;

    for (size_t i = 0; same && i < source->meta.count; i++) {
        const char *value = store_fields_get(&there->meta, source->meta.all[i].name);
        same = value && strcmp(value, source->meta.all[i].value) == 0;
    }
    if (!same)
        return 0;
    bool told = strcmp(there->etag, source->etag) == 0 || store_fields_get(&source->meta, SERVER_ID_FIELD);
    return told ? 1 : -EIO;
}

static int head(struct copying *copying, const char *key, struct store_call *call, struct waiter *waiter)
{
    *call = server_call(copying->cache, STORE_HEAD, key);
    return server_wait(copying->cache, "settle an unknown outcome", call, -ENOENT, waiter);
}

/* 1: it was done, 0: it was not, -errno: nobody can tell. */
static int settle(struct copying *copying, struct waiter *waiter)
{
    struct store_call there, source;
    struct identity now;
    int rc = head(copying, copying->key, &there, waiter);
    bool absent = rc == -ENOENT;

    source = (struct store_call){0};
    if (rc == 0)
        rc = head(copying, copying->source_key, &source, waiter);
    if (rc == 0) {
        server_identity(&source.object, &now);
        rc = identity_equal(&now, copying->source) ? compare(&there.object, &source.object)
                                                   : -ESTALE; /* what would the copy look like? */
    }
    if (rc == 1)
        server_identity(&there.object, &copying->to);
    store_call_release(&there);
    store_call_release(&source);
    return absent ? 0 : rc;
}

int copying_heard(struct copying *copying, struct store_call *call, struct waiter *waiter)
{
    if (call->rc == -EFBIG)
        return run_by_parts(copying, waiter);
    copying->maybe = call->rc < 0 && call->unknown;
    if (copying->maybe && call->rc != -ECANCELED && call->rc != -EINTR) {
        int done = settle(copying, waiter);
        copying->maybe = done < 0;
        if (done == 1)
            return 0;
    }
    int rc = server_settle(copying->cache, copying->what, call, 0);
    if (rc == 0) {
        server_identity(&call->object, &copying->to);
        copying->to.size = copying->source->size;
    }
    return rc;
}

bool copying_is_large(const struct copying *copying)
{
    struct store_abilities abilities;

    store_abilities(copying->cache->config.store, &abilities);
    return copying->source->size > copying->cache->config.copy_bytes_max && abilities.part_copy != ABILITY_NO;
}

int copying_run(struct copying *copying, struct waiter *waiter)
{
    struct store_call call;
    int rc;

    if (copying->by_parts || copying_is_large(copying)) {
        rc = run_by_parts(copying, waiter);
        if (rc != -EOPNOTSUPP || copying->by_parts)
            return rc;
    }
    copying_prepare(copying, &call);
    rc = store_wait(copying->cache->config.store, &call, waiter);
    call.rc = rc;
    rc = rc == -EAGAIN && !waiter ? rc : copying_heard(copying, &call, waiter);
    store_call_release(&call);
    return rc;
}
