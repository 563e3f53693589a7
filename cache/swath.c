#include "cache/swath.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ---- Birth and end. ---- */

static bool begins_with(const char *key, const char *prefix)
{
    return strncmp(key, prefix, strlen(prefix)) == 0;
}

/* Some servers list in no order, or know no StartAfter. */
static bool is_in_order(const struct store_call *list)
{
    const char *before = list->start_after;

    for (size_t i = 0; i < list->object_count; i++) {
        const char *key = list->objects[i].key;
        if (strcmp(key, before) <= 0 || !begins_with(key, list->prefix))
            return false;
        before = key;
    }
    return list->object_count || !list->next_token;
}

static size_t count_bytes(const struct store_call *list)
{
    size_t bytes = sizeof(struct swath) + list->object_count * sizeof *list->objects;

    for (size_t i = 0; i < list->object_count; i++) {
        const struct store_object *object = &list->objects[i];
        bytes += strlen(object->key) + 1;
        for (size_t j = 0; j < object->meta.count; j++) {
            const struct store_field *field = &object->meta.all[j];
            bytes += sizeof *field + strlen(field->name) + strlen(field->value) + 2;
        }
    }
    return bytes;
}

/* "p/a/" of "p/a/b"; a marker lies in its own. */
static size_t directory_length(const char *key)
{
    const char *slash = strrchr(key, '/');
    return slash ? (size_t)(slash - key) + 1 : 0;
}

/* Each directory begins once; where the keys go back up, none does. The last one may go on. */
static size_t count_whole(const struct swath *swath)
{
    const char *before = "";
    size_t before_length = 0, begun = 0;

    for (size_t i = 0; i < swath->count; i++) {
        const char *key = swath->objects[i].key;
        size_t length = directory_length(key);
        bool above = length <= before_length && strncmp(key, before, length) == 0;
        begun += i == 0 || !above;
        before = key;
        before_length = length;
    }
    return begun && !swath->last ? begun - 1 : begun;
}

struct swath *swath_new(struct memory *memory, struct store_call *list)
{
    size_t bytes = count_bytes(list);
    WAITER_SCOPED(hasty);

    /* Clean blocks take all the memory that there is, and give way to who asks as one who would wait. */
    if (!is_in_order(list) || memory_take(memory, bytes, SHARE_DEMAND, &hasty, clock_ms()) < 0)
        return NULL;
    struct swath *swath = xcalloc(1, sizeof *swath);
    atomic_init(&swath->references, 1);
    swath->memory = memory;
    swath->charged = bytes;
    swath->prefix = xstrdup(list->prefix);
    swath->after = xstrdup(list->start_after);
    swath->objects = list->objects;
    swath->count = list->object_count;
    swath->last = !list->next_token;
    list->objects = NULL;
    list->object_count = 0;
    swath->whole = count_whole(swath);
    return swath;
}

struct swath *swath_ref(struct swath *swath)
{
    atomic_fetch_add(&swath->references, 1);
    return swath;
}

void swath_unref(struct swath *swath)
{
    if (!swath || atomic_fetch_sub(&swath->references, 1) > 1)
        return;
    for (size_t i = 0; i < swath->count; i++)
        store_object_release(&swath->objects[i]);
    free(swath->objects);
    free(swath->prefix);
    free(swath->after);
    memory_give(swath->memory, swath->charged, SHARE_DEMAND);
    free(swath);
}

/* ---- What it tells. ---- */

/* The range begins before this key, or with it. */
static bool begins_before(const struct swath *swath, const char *key)
{
    return begins_with(key, swath->prefix) && strcmp(key, swath->after) > 0;
}

bool swath_ends_before(const struct swath *swath, const char *key)
{
    return swath->count && strcmp(swath->objects[swath->count - 1].key, key) < 0;
}

/* Its range does, whether there are any or not. */
static bool spans(const struct swath *swath, const char *key)
{
    if (!begins_before(swath, key))
        return false;
    if (swath->last)
        return true;
    const char *last = swath->objects[swath->count - 1].key;
    return strcmp(last, key) > 0 && !begins_with(last, key);
}

/* The first object whose key is not before this one; swath->count: none. */
static size_t find_place(const struct swath *swath, const char *key)
{
    size_t low = 0, high = swath->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(swath->objects[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct store_object *swath_first(const struct swath *swath, const char *key)
{
    size_t place = begins_before(swath, key) ? find_place(swath, key) : swath->count;
    bool found = place < swath->count && begins_with(swath->objects[place].key, key);
    return found ? &swath->objects[place] : NULL;
}

bool swath_holds(const struct swath *swath, const char *key)
{
    return spans(swath, key) && swath_first(swath, key);
}

bool swath_lacks(const struct swath *swath, const char *key)
{
    return spans(swath, key) && !swath_first(swath, key);
}

static void copy_object(struct store_object *to, const struct store_object *from)
{
    *to = *from;
    to->key = xstrdup(from->key);
    to->meta = to->headers = (struct store_fields){0};
    store_fields_copy(&to->meta, &from->meta);
    store_fields_copy(&to->headers, &from->headers);
}

/* The prefix "p/a/b/" of the key "p/a/b/c/d" in "p/a/"; it may have been told. */
static void add_prefix(struct store_call *call, const char *key, size_t length)
{
    const char *before = call->prefix_count ? call->prefixes[call->prefix_count - 1] : "";

    if (strncmp(before, key, length) != 0 || before[length])
        call->prefixes[call->prefix_count++] = xstrndup(key, length);
}

void swath_answer(const struct swath *swath, struct store_call *call)
{
    size_t skip = strlen(call->prefix), begin = find_place(swath, call->prefix), end = begin;

    while (end < swath->count && begins_with(swath->objects[end].key, call->prefix))
        end++;
    call->objects = xcalloc(end - begin + 1, sizeof *call->objects);
    call->prefixes = xcalloc(end - begin + 1, sizeof *call->prefixes);
    for (size_t i = begin; i < end; i++) {
        const struct store_object *object = &swath->objects[i];
        const char *slash = strchr(object->key + skip, '/');
        if (slash)
            add_prefix(call, object->key, (size_t)(slash - object->key) + 1);
        else
            copy_object(&call->objects[call->object_count++], object);
    }
}
