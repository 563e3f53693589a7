#include "cache/deleting.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/batch.h"
#include "cache/server.h"

#define AT_ONCE ((size_t)64) /* looked at, then deleted: little time passes in between */

struct run {
    struct cache *cache;
    int64_t patience_ms;
    struct waiter *waiter;
};

static struct store_call make_call(const struct run *run, enum store_op op, const char *key)
{
    struct store_call call = server_call(run->cache, op, key);
    call.patience_ms = run->patience_ms;
    return call;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct deleting *)a)->key, ((const struct deleting *)b)->key);
}

static void settle(struct deleting *one, int rc, const struct store_error *error)
{
    one->done = true;
    one->rc = rc == -ECANCELED ? -EINTR : rc;
    one->refused = error && error->refused;
    snprintf(one->code, sizeof one->code, "%s", error ? error->code : "");
}

/* ---- Many of one directory. ---- */

static size_t directory_length(const char *key)
{
    const char *slash = strrchr(key, '/');
    return slash ? (size_t)(slash - key) + 1 : 0;
}

/* How many from `first` on stand in the same directory. */
static size_t count_together(const struct deleting *first, size_t count)
{
    size_t length = directory_length(first->key), i = 1;

    while (i < count && strncmp(first[i].key, first->key, length) == 0 &&
           directory_length(first[i].key) == length)
        i++;
    return i;
}

/* A place in the order of keys just before this one: its last character is missing. */
static char *cut(const char *key, size_t least)
{
    size_t length = strlen(key);

    while (length > least && ((unsigned char)key[length - 1] & 0xc0) == 0x80)
        length--;
    return length > least + 1 ? xstrndup(key, length - 1) : NULL;
}

/* Of the first keys of the group those that this page shows as they are known. How many keys it speaks of. */
static size_t read_page(const struct store_call *list, const struct deleting *group, size_t count,
                        const char **ret_keys, size_t *ret_found)
{
    const char *last = list->object_count ? list->objects[list->object_count - 1].key : NULL;
    size_t i = 0;

    *ret_found = 0;
    for (size_t at = 0; i < count && (!list->next_token || (last && strcmp(group[i].key, last) <= 0)); i++) {
        while (at < list->object_count && strcmp(list->objects[at].key, group[i].key) < 0)
            at++;
        if (at == list->object_count || strcmp(list->objects[at].key, group[i].key) != 0)
            continue;
        if (group[i].any || server_is_version(&list->objects[at], &group[i].identity, group[i].id))
            ret_keys[(*ret_found)++] = group[i].key;
    }
    return i;
}

static void hear_many(struct deleting *group, size_t count, const char *const *keys, size_t key_count,
                      const struct store_call *call)
{
    size_t at = 0;

    for (size_t i = 0; i < count && at < key_count; i++) {
        if (group[i].key != keys[at])
            continue;
        at++;
        settle(&group[i], call->rc, &call->error);
        for (size_t f = 0; f < call->failure_count; f++)
            if (call->rc == 0 && call->failures[f].rc != -ENOENT &&
                strcmp(call->failures[f].key, group[i].key) == 0) {
                group[i].rc = call->failures[f].rc;
                group[i].refused = call->failures[f].rc != -EIO; /* those that pass were asked for again */
                snprintf(group[i].code, sizeof group[i].code, "%s", call->failures[f].code);
            }
    }
}

static int delete_many(const struct run *run, struct deleting *group, size_t count, const char **keys,
                       size_t key_count)
{
    struct store_call call = make_call(run, STORE_DELETE_MANY, NULL);
    int rc;

    call.keys = keys;
    call.key_count = key_count;
    rc = call.rc = store_wait(run->cache->config.store, &call, run->waiter);
    hear_many(group, count, keys, key_count, &call);
    store_call_release(&call);
    return rc;
}

/* The next page that tells of them. How many it speaks of; 0: too few to go on so. */
static size_t run_page(const struct run *run, struct deleting *group, size_t count)
{
    struct store_call list = make_call(run, STORE_LIST, NULL);
    const char *keys[STORE_LIST_MAX];
    size_t length = directory_length(group->key), found = 0, spoken = 0;
    STRING_SCOPED *directory = xstrndup(group->key, length);
    STRING_SCOPED *before = cut(group->key, length);
    int rc;

    count = count < STORE_LIST_MAX ? count : STORE_LIST_MAX;
    list.prefix = directory;
    list.delimiter = "/";
    list.start_after = before;
    rc = list.rc = store_wait(run->cache->config.store, &list, run->waiter);
    server_count(run->cache, &list);
    if (rc == 0)
        spoken = read_page(&list, group, count, keys, &found);
    if (found)
        rc = delete_many(run, group, spoken, keys, found);
    store_call_release(&list);
    return rc == 0 && found >= DELETING_MANY_MIN ? spoken : 0;
}

static void run_together(const struct run *run, struct deleting *group, size_t count)
{
    for (size_t at = 0, spoken; count - at >= DELETING_MANY_MIN; at += spoken) {
        spoken = run_page(run, &group[at], count - at);
        if (!spoken)
            return;
    }
}

/* ---- One by one. ---- */

static bool by_condition(const struct run *run)
{
    struct store_abilities abilities;
    store_abilities(run->cache->config.store, &abilities);
    return abilities.conditional_delete == ABILITY_YES;
}

static void hear_head(struct deleting *one, const struct store_call *call)
{
    if (call->rc < 0) {
        settle(one, call->rc == -ENOENT ? 0 : call->rc, &call->error);
        return;
    }
    if (!one->any && !server_is_version(&call->object, &one->identity, one->id))
        settle(one, -ESTALE, NULL);
}

static void hear_delete(struct deleting *one, const struct store_call *call)
{
    settle(one, call->rc == -ENOENT ? 0 : call->rc, &call->error);
}

/* A call for each that is not done. */
static int run_each(const struct run *run, enum store_op op, struct deleting *all, size_t count)
{
    struct store_call *calls = xcalloc(count, sizeof *calls);
    struct deleting **which = xcalloc(count, sizeof *which);
    bool conditional = op == STORE_DELETE && by_condition(run);
    size_t asked = 0;
    int rc = 0;

    for (size_t i = 0; i < count; i++) {
        if (all[i].done)
            continue;
        calls[asked] = make_call(run, op, all[i].key);
        if (conditional && !all[i].any)
            calls[asked].if_match = all[i].identity.etag;
        which[asked++] = &all[i];
    }
    if (asked)
        rc = batch_run(run->cache->config.store, calls, asked, NULL, run->waiter);
    for (size_t i = 0; i < asked; i++) {
        server_count(run->cache, &calls[i]);
        if (op == STORE_HEAD)
            hear_head(which[i], &calls[i]);
        else
            hear_delete(which[i], &calls[i]);
    }
    batch_release(calls, asked);
    free(calls);
    free(which);
    return rc;
}

int deleting_run(struct cache *cache, struct deleting *all, size_t count, int64_t patience_ms,
                 struct waiter *waiter)
{
    const struct run run = {cache, patience_ms, waiter};
    int rc = 0;

    if (count)
        qsort(all, count, sizeof *all, compare);
    for (size_t at = 0, together; at < count; at += together) {
        together = count_together(&all[at], count - at);
        if (together >= DELETING_MANY_MIN)
            run_together(&run, &all[at], together);
    }
    for (size_t at = 0; rc == 0 && at < count; at += AT_ONCE) {
        size_t some = count - at < AT_ONCE ? count - at : AT_ONCE;
        if (!by_condition(&run))
            rc = run_each(&run, STORE_HEAD, &all[at], some);
        if (rc == 0)
            rc = run_each(&run, STORE_DELETE, &all[at], some);
    }
    for (size_t i = 0; i < count; i++)
        if (!all[i].done)
            settle(&all[i], -EINTR, NULL);
    return rc;
}
