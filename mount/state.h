/* state: what prepare made at a provider, remembered on this host so that teardown finds it whatever happens in between. One file for each
 * pool and provider, 0600, ours, no symlink; there while something is remembered.
 *
 *      state_intend --> INTENT: it may be there, under what `facts` tell --state_made--> MADE: it is there, `id`
 *                          `----------------- state_forget: it is not there -----------------'
 *
 * Each change is on the disk (temporary file, fsync, rename, fsync of the directory) when its call returns 0: an intent stands before the
 * call that makes the thing, its id before the thing is used. An adapter writes into `facts` what lets it find a thing whose reply was lost.
 *
 *      {"version": 1, "program": "skyvol", "provider": "gcp", "pool": "train", "origin": "/home/me/skyward.toml",
 *       "things": [{"kind": "hmac-key", "made": true, "id": "GOOG1E...", "secret": "...", "facts": {...}}]}
 *
 * `origin` is the configuration that it is of: another one of the same name is told so (state_belong) before it changes anything.
 *
 * A lock beside it (PATH.lock) keeps a second prepare or teardown out; state_look() needs none.
 * Errors: -EBUSY: somebody else has it open; -ENOENT: nothing is remembered (state_look); -EPERM, -ELOOP: not ours, open to others, a symlink,
 * no file; -EBADMSG: not what we wrote, and what is wrong where; -EXDEV: of another provider. A line with the remedy in `why`.
 * Threads: one.
 */
#ifndef MOUNT_STATE_H
#define MOUNT_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/secret.h"

#define STATE_BYTES_MAX  ((size_t)1 << 20)
#define STATE_THINGS_MAX 1000
#define STATE_TEXT_MAX   2048

struct state_thing {
    char *kind; /* "role", "hmac-key" ...: the adapter's word */
    bool made;
    char *id;              /* NULL: an intent */
    struct secret *secret; /* NULL: none */
    struct json *facts;    /* an object */
    bool fresh;            /* the opener's own mark; not on the disk */
};

struct state;

/* To change it: makes directories that are missing. The file appears with the first thing. */
int state_open(const char *path, const char *provider, const char *pool, struct state **ret_state,
               struct buf *why);
/* To read it. */
int state_look(const char *path, const char *provider, struct state **ret_state, struct buf *why);
void state_close(struct state *state);
const char *state_path(const struct state *state);
/* -EXDEV: it is of another origin; `said` is what --state would have to name. NULL, or a state of none: 0. */
int state_belong(const struct state *state, const char *origin, const char *said, struct buf *why);
/* From the next change on it is of this origin; NULL leaves it as it is. */
void state_set_origin(struct state *state, const char *origin);

size_t state_count(const struct state *state);
/* In the order of making. Borrowed until the next change. */
struct state_thing *state_at(const struct state *state, size_t index);
/* The first of a kind, NULL: none. */
struct state_thing *state_find(const struct state *state, const char *kind);

/* Takes the facts (NULL: none). */
int state_intend(struct state *state, const char *kind, struct json **facts, struct state_thing **ret_thing,
                 struct buf *why);
/* It is an intent again, under other facts; takes them. */
int state_intend_again(struct state *state, struct state_thing *thing, struct json **facts, struct buf *why);
int state_made(struct state *state, struct state_thing *thing, const char *id, const char *secret,
               struct buf *why);
/* The facts of a thing have changed. */
int state_save(struct state *state, struct buf *why);
int state_forget(struct state *state, struct state_thing *thing, struct buf *why);
const char *state_fact(const struct state_thing *thing, const char *name);

#endif
