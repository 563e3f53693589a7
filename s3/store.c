#include "s3/store.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

/* ---- Fields. ---- */

static struct store_field *find_field(const struct store_fields *fields, const char *name)
{
    for (size_t i = 0; fields && i < fields->count; i++)
        if (!strcmp(fields->all[i].name, name))
            return &fields->all[i];
    return NULL;
}

void store_fields_add(struct store_fields *fields, const char *name, const char *value)
{
    /* Room grows in powers of two, seen from the count alone. */
    if (!(fields->count & (fields->count - 1)))
        fields->all = xrealloc(fields->all, (fields->count ? fields->count * 2 : 1) * sizeof(*fields->all));
    fields->all[fields->count++] = (struct store_field){.name = xstrdup(name), .value = xstrdup(value)};
}

void store_fields_set(struct store_fields *fields, const char *name, const char *value)
{
    struct store_field *field = find_field(fields, name);
    if (!field) {
        store_fields_add(fields, name, value);
        return;
    }
    char *copy = xstrdup(value); /* first: `value` may be the old one */
    free(field->value);
    field->value = copy;
}

const char *store_fields_get(const struct store_fields *fields, const char *name)
{
    const struct store_field *field = find_field(fields, name);
    return field ? field->value : NULL;
}

void store_fields_remove(struct store_fields *fields, const char *name)
{
    size_t kept = 0;
    for (size_t i = 0; i < fields->count; i++) {
        if (strcmp(fields->all[i].name, name)) {
            fields->all[kept++] = fields->all[i];
            continue;
        }
        free(fields->all[i].name);
        free(fields->all[i].value);
    }
    if (kept == fields->count)
        return;
    fields->count = kept;
    size_t room = 1; /* what store_fields_add() believes to be there */
    while (room < kept)
        room *= 2;
    fields->all = xrealloc(fields->all, room * sizeof(*fields->all));
}

void store_fields_copy(struct store_fields *to, const struct store_fields *from)
{
    struct store_fields copy = {0};
    for (size_t i = 0; from && i < from->count; i++)
        store_fields_add(&copy, from->all[i].name, from->all[i].value);
    store_fields_release(to);
    *to = copy;
}

void store_fields_release(struct store_fields *fields)
{
    if (!fields)
        return;
    for (size_t i = 0; i < fields->count; i++) {
        free(fields->all[i].name);
        free(fields->all[i].value);
    }
    free(fields->all);
    *fields = (struct store_fields){0};
}

/* ---- What a call owns. ---- */

void store_object_release(struct store_object *object)
{
    if (!object)
        return;
    free(object->key);
    store_fields_release(&object->meta);
    store_fields_release(&object->headers);
    *object = (struct store_object){0};
}

static void release_list(struct store_call *call)
{
    for (size_t i = 0; i < call->object_count; i++)
        store_object_release(&call->objects[i]);
    for (size_t i = 0; i < call->prefix_count; i++)
        free(call->prefixes[i]);
    for (size_t i = 0; i < call->upload_count; i++) {
        free(call->uploads[i].key);
        free(call->uploads[i].upload_id);
    }
    free(call->objects);
    free(call->prefixes);
    free(call->uploads);
    call->objects = NULL;
    call->prefixes = NULL;
    call->uploads = NULL;
    call->object_count = call->prefix_count = call->upload_count = 0;
}

void store_call_release(struct store_call *call)
{
    if (!call)
        return;
    release_list(call);
    store_object_release(&call->object);
    free(call->next_token);
    free(call->new_upload_id);
    free(call->found_parts);
    store_fields_release(&call->found_tags);
    free(call->failures);
    call->next_token = call->new_upload_id = NULL;
    call->found_parts = NULL;
    call->failures = NULL;
    call->found_part_count = call->failure_count = 0;
    call->error = (struct store_error){0};
    call->rc = 0;
    call->unknown = false;
    call->received = 0;
}

/* ---- The blocking wait. ---- */

struct waiting {
    struct lock lock;
    struct gate gate;
    bool done;
};

static void end_waiting(struct store_call *call)
{
    struct waiting *waiting = call->waiting;
    LOCK_SCOPED(&waiting->lock);
    waiting->done = true;
    gate_open(&waiting->gate);
}

static int wait_for_done(struct waiting *waiting, struct waiter *waiter)
{
    int rc = 0;
    LOCK_SCOPED(&waiting->lock);
    while (!waiting->done && !rc)
        rc = gate_wait_locked(&waiting->gate, &waiting->lock, waiter, CLOCK_NEVER);
    return waiting->done ? 0 : rc;
}

/* The call's memory is the store's until done(), so the interrupted one waits for that, too; it comes soon. */
static void cancel_and_wait(struct store *store, struct store_call *call, struct waiting *waiting)
{
    store_cancel(store, call);
    WAITER_SCOPED(patient);
    int rc = wait_for_done(waiting, &patient);
    assert(!rc);
    if (call->rc == -ECANCELED)
        call->rc = -EINTR;
}

int store_wait(struct store *store, struct store_call *call, struct waiter *waiter)
{
    if (!waiter)
        return call->rc = -EAGAIN;
    if (waiter_interrupted(waiter))
        return call->rc = -EINTR;
    struct waiting waiting = {0};
    lock_init(&waiting.lock, LOCK_LEAF, "store wait");
    gate_init(&waiting.gate);
    call->waiting = &waiting; /* not `owner`: landed() may look at that */
    call->done = end_waiting;
    store_start(store, call);
    if (wait_for_done(&waiting, waiter) < 0)
        cancel_and_wait(store, call, &waiting);
    call->waiting = NULL;
    gate_release(&waiting.gate);
    lock_release(&waiting.lock);
    return call->rc;
}

/* ---- To the implementation. ---- */

void store_start(struct store *store, struct store_call *call)
{
    assert(call->done && call->op >= STORE_GET && call->op <= STORE_LIST_UPLOADS);
    store->ops->start(store, call);
}

void store_cancel(struct store *store, struct store_call *call)
{
    store->ops->cancel(store, call);
}

int store_probe(struct store *store, const char *prefix, struct waiter *waiter)
{
    return store->ops->probe(store, prefix, waiter);
}

void store_abilities(struct store *store, struct store_abilities *ret_abilities)
{
    store->ops->abilities(store, ret_abilities);
}

void store_counters(struct store *store, struct store_counters *ret_counters)
{
    store->ops->counters(store, ret_counters);
}

void store_describe(struct store *store, struct buf *out)
{
    store->ops->describe(store, out);
}

void store_free(struct store *store)
{
    if (store)
        store->ops->free(store);
}

/* ---- In words. ---- */

const char *store_op_name(enum store_op op)
{
    static const char *const names[] = {
        [STORE_GET] = "GET",
        [STORE_HEAD] = "HEAD",
        [STORE_GET_TAGS] = "GET_TAGS",
        [STORE_LIST] = "LIST",
        [STORE_PUT] = "PUT",
        [STORE_COPY] = "COPY",
        [STORE_DELETE] = "DELETE",
        [STORE_DELETE_MANY] = "DELETE_MANY",
        [STORE_CREATE] = "CREATE",
        [STORE_PART] = "PART",
        [STORE_PART_COPY] = "PART_COPY",
        [STORE_COMPLETE] = "COMPLETE",
        [STORE_ABORT] = "ABORT",
        [STORE_LIST_PARTS] = "LIST_PARTS",
        [STORE_LIST_UPLOADS] = "LIST_UPLOADS",
    };
    if (op < STORE_GET || op > STORE_LIST_UPLOADS)
        return "?";
    return names[op];
}

void store_error_print(const struct store_error *error, int rc, struct buf *out)
{
    buf_add_string(out, error->code[0] ? error->code : err_name(rc));
    if (error->http_status)
        buf_printf(out, " (%d)", error->http_status);
    if (error->request_id[0])
        buf_printf(out, ", request %s", error->request_id);
    if (error->attempts)
        buf_printf(out, ", %d attempt%s in %" PRId64 " ms", error->attempts, error->attempts == 1 ? "" : "s",
                   error->took_ms);
    buf_printf(out, ": %s", error->message[0] ? error->message : err_text(rc));
}
