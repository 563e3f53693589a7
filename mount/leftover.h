/* leftover: which key of an account is the one that we asked for and were never told of. Keys that a service names itself carry no mark of
 * ours, so before each call that makes one the state remembers which were there (`before`) and when it was (`since`, the service's clock):
 *
 *      a key that was not there before, and was made between `since` and LEFTOVER_WINDOW_S later      none: it was never made
 *                                                                                                     one: it is ours
 *                                                                                                     more: nobody can tell; named
 *
 * A key whose time is not told may be anybody's: it counts as more than one. Pure.
 */
#ifndef MOUNT_LEFTOVER_H
#define MOUNT_LEFTOVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"

#define LEFTOVER_WINDOW_S 120
#define LEFTOVER_EARLY_S  5 /* the service's clocks differ a little */
#define LEFTOVER_KEYS_MAX 10000

struct leftover_key {
    char *id;
    int64_t made_ns; /* INT64_MIN: not told */
};

struct leftover_keys {
    struct leftover_key *all;
    size_t count;
};

void leftover_add(struct leftover_keys *keys, const char *id, const char *made);
void leftover_release(struct leftover_keys *keys);
/* Into the facts of an intent. */
void leftover_remember(const struct leftover_keys *before, int64_t now_ns, struct json *facts);
/* 1: *ret_id (borrowed from `now`); 0: there is none; -EEXIST: more than one, named in `why`. */
int leftover_find(const struct json *facts, const struct leftover_keys *now, const char **ret_id,
                  struct buf *why);

#endif
