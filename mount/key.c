#include "mount/key.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mount/words.h"

#define TRIES_MAX 3
/* A list may lag behind what was just made. */
#define SETTLE_S 5
#define LOOK_MS  1000

static void tell(const struct key_service *service, const char *what, const char *id)
{
    if (service->tell)
        service->tell(service->context, what, service->kind, id);
}

static bool is_listed(const struct leftover_keys *keys, const char *id)
{
    for (size_t i = 0; i < keys->count; i++)
        if (strcmp(keys->all[i].id, id) == 0)
            return true;
    return false;
}

/* ---- One whose reply was lost. ---- */

/* 1: *ret_id (malloc'ed); 0: none was made. */
static int look_for_it(const struct key_service *service, const struct state_thing *thing, char **ret_id,
                       struct buf *why)
{
    for (;;) {
        struct leftover_keys keys = {0};
        const char *found = NULL;
        int64_t now_ns = 0, since = 0;
        int rc = service->list(service->context, &keys, &now_ns, why);
        if (rc == 0)
            rc = leftover_find(thing->facts, &keys, &found, why);
        if (rc == 1)
            *ret_id = xstrdup(found);
        leftover_release(&keys);
        json_get_integer(thing->facts, "since", &since);
        int64_t age = now_ns / 1000000000 - since;
        if (rc != 0 || age < 0 || age >= SETTLE_S)
            return rc;
        rc = service->pause(service->context, LOOK_MS);
        if (rc < 0)
            return rc;
    }
}

/* What an intent stands for is gone afterwards, and the intent too. */
static int settle(const struct key_service *service, struct state *state, struct state_thing *thing,
                  struct buf *why)
{
    STRING_SCOPED *id = NULL;
    int rc = look_for_it(service, thing, &id, why);
    if (rc < 0)
        return rc;
    if (rc == 1) {
        rc = service->remove(service->context, id, why);
        if (rc < 0)
            return rc;
        tell(service, "deleted", id);
    }
    return state_forget(state, thing, why);
}

static int remove_made(const struct key_service *service, struct state *state, struct state_thing *thing,
                       struct buf *why)
{
    int rc = service->remove(service->context, thing->id, why);
    if (rc < 0)
        return rc;
    tell(service, "deleted", thing->id);
    return state_forget(state, thing, why);
}

/* ---- Making. ---- */

static struct json *make_facts(const struct json *facts, const struct leftover_keys *before, int64_t now_ns)
{
    struct json *all = facts ? json_clone(facts) : json_object_new();
    leftover_remember(before, now_ns, all);
    return all;
}

/* It exists, and nobody could find it again without its id: away with it. */
static int give_back(const struct key_service *service, struct state *state, struct state_thing *thing,
                     const char *id, int rc, struct buf *why)
{
    BUF_SCOPED more = BUF_INIT;
    if (service->remove(service->context, id, &more) == 0 && state_forget(state, thing, &more) == 0)
        return rc;
    buf_printf(why, "; %s %s is still there", service->kind, id);
    return rc;
}

static int ask_for_one(const struct key_service *service, struct state *state, struct state_thing *thing,
                       bool *ret_unknown, struct buf *why)
{
    STRING_SCOPED *id = NULL;
    struct secret *secret = NULL;
    int rc = service->make(service->context, &id, &secret, thing->facts, ret_unknown, why);
    if (rc == 0) {
        rc = state_made(state, thing, id, secret_reveal(secret), why);
        if (rc < 0)
            rc = give_back(service, state, thing, id, rc, why);
        else
            tell(service, "made", id);
    } else if (!*ret_unknown) {
        BUF_SCOPED more = BUF_INIT;
        state_forget(state, thing, &more);
    }
    secret_unref(secret);
    return rc;
}

static int make_one(const struct key_service *service, struct state *state, const struct json *facts,
                    struct state_thing **ret_thing, bool *ret_unknown, struct buf *why)
{
    struct leftover_keys before = {0};
    int64_t now_ns = 0;
    *ret_unknown = false;
    int rc = service->list(service->context, &before, &now_ns, why);
    if (rc == 0) {
        struct json *all = make_facts(facts, &before, now_ns);
        rc = state_intend(state, service->kind, &all, ret_thing, why);
        json_free(all);
    }
    leftover_release(&before);
    return rc < 0 ? rc : ask_for_one(service, state, *ret_thing, ret_unknown, why);
}

static int make_new(const struct key_service *service, struct state *state, const struct json *facts,
                    struct state_thing **ret_thing, struct buf *why)
{
    for (int tries = 1;; tries++) {
        bool unknown;
        int rc = make_one(service, state, facts, ret_thing, &unknown, why);
        if (rc == 0 || !unknown || rc == -EINTR)
            return rc;
        BUF_SCOPED words = BUF_INIT;
        int settled = settle(service, state, *ret_thing, &words);
        if (settled < 0 || tries == TRIES_MAX) {
            if (settled < 0)
                buf_printf(why, "; what it made was not found again (%s): run skyvol teardown", words.bytes);
            return rc;
        }
        buf_reset(why);
    }
}

/* ---- Those that are remembered. ---- */

/* 1: *ret_thing can be used. */
static int look_at_known(const struct key_service *service, struct state *state,
                         struct state_thing **ret_thing, struct buf *why)
{
    struct leftover_keys keys = {0};
    int64_t now_ns;
    int rc = state_find(state, service->kind) ? service->list(service->context, &keys, &now_ns, why) : 0;
    for (size_t i = state_count(state); i-- > 0 && rc == 0;) {
        struct state_thing *thing = state_at(state, i);
        if (strcmp(thing->kind, service->kind) != 0)
            continue;
        if (!thing->made)
            rc = settle(service, state, thing, why);
        else if (!is_listed(&keys, thing->id))
            rc = state_forget(state, thing, why);
        else if (!thing->secret)
            rc = remove_made(service, state, thing, why);
        else
            *ret_thing = thing;
    }
    leftover_release(&keys);
    return rc < 0 ? rc : *ret_thing != NULL;
}

int key_ensure(const struct key_service *service, struct state *state, const struct json *facts,
               struct state_thing **ret_thing, struct buf *why)
{
    *ret_thing = NULL;
    int rc = look_at_known(service, state, ret_thing, why);
    if (rc == 1)
        tell(service, "kept", (*ret_thing)->id);
    return rc ? (rc < 0 ? rc : 0) : make_new(service, state, facts, ret_thing, why);
}

int key_remove_all(const struct key_service *service, struct state *state, struct buf *why)
{
    int first = 0;
    for (size_t i = state_count(state); i-- > 0;) {
        struct state_thing *thing = state_at(state, i);
        BUF_SCOPED words = BUF_INIT;
        if (strcmp(thing->kind, service->kind) != 0)
            continue;
        int rc =
            thing->made ? remove_made(service, state, thing, &words) : settle(service, state, thing, &words);
        if (rc == 0)
            continue;
        words_next(why);
        buf_printf(why, "%s was not deleted: %s", service->kind, words.bytes);
        first = first ? first : rc;
    }
    return first;
}
