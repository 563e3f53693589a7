#include "cache/conflict.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/asking.h"
#include "cache/content.h"
#include "cache/discard.h"
#include "cache/keepsake.h"
#include "cache/lookup.h"
#include "cache/marker.h"
#include "cache/recording.h"
#include "cache/salvage.h"
#include "cache/settling.h"
#include "cache/veil.h"

#define SECOND_NS INT64_C(1000000000)
#define CHANGED   "another client changed or removed it since it was opened here"

/* ---- Its name. ---- */

void conflict_host(const char *hostname, struct buf *ret_host)
{
    buf_reset(ret_host);
    for (const char *at = hostname; *at && *at != '.' && ret_host->length < CONFLICT_HOST_MAX; at++) {
        bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');
        bool plain = letter || (*at >= '0' && *at <= '9') || *at == '-';
        buf_add_char(ret_host, plain ? *at : '_');
    }
    if (!ret_host->length)
        buf_add_string(ret_host, "host");
}

int conflict_name(const char *name, const char *host, int64_t wall_ns, unsigned nth, size_t room,
                  struct buf *ret_name)
{
    BUF_SCOPED suffix = BUF_INIT;
    time_t seconds = wall_ns / SECOND_NS;
    size_t length = strlen(name);
    char when[32];
    struct tm utc;

    gmtime_r(&seconds, &utc);
    strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &utc);
    buf_printf(&suffix, ".skyvol-conflict-%s-%s", host, when);
    if (nth > 1)
        buf_printf(&suffix, "-%u", nth);
    if (suffix.length >= room)
        return -ENAMETOOLONG;
    if (length > room - suffix.length)
        length = room - suffix.length;
    while (length && ((unsigned char)name[length] & 0xC0) == 0x80)
        length--;
    if (!length)
        return -ENAMETOOLONG;
    buf_reset(ret_name);
    buf_printf(ret_name, "%.*s%s", (int)length, name, suffix.bytes);
    return 0;
}

/* ---- Aside. ---- */

struct aside {
    struct inode *inode;
    struct inode *parent; /* a reference */
    char *name;           /* that it has */
    struct buf key, fresh, fresh_key;
    struct asking *marks[2];
};

static void release_place(struct aside *aside, struct aftermath *aftermath)
{
    for (int i = 0; i < 2; i++) {
        asking_drop_locked(&aside->inode->cache->names, aside->marks[i], aftermath);
        aside->marks[i] = NULL;
    }
    aftermath_unref(aftermath, aside->parent);
    aside->parent = NULL;
    free(aside->name);
    aside->name = NULL;
}

/* The place as it is, and a name beside it. */
static int find_place_locked(struct aside *aside, int64_t wall_ns, unsigned nth)
{
    BUF_SCOPED host = BUF_INIT;
    char hostname[256] = "";
    struct inode *inode = aside->inode;

    if (!inode->parent)
        return -ENOENT;
    aside->parent = inode_ref(inode->parent);
    aside->name = xstrdup(inode->name);
    int rc = names_child_key_locked(aside->parent, aside->name, &aside->key);
    if (rc < 0)
        return rc;
    gethostname(hostname, sizeof(hostname) - 1);
    conflict_host(hostname, &host);
    size_t room = STORE_KEY_MAX - (aside->key.length - strlen(aside->name));
    rc = conflict_name(aside->name, host.bytes, wall_ns, nth, room < NAMES_NAME_MAX ? room : NAMES_NAME_MAX,
                       &aside->fresh);
    return rc < 0 ? rc : names_child_key_locked(aside->parent, aside->fresh.bytes, &aside->fresh_key);
}

/* Both markers are held afterwards, of the name that the inode has and of the nth one beside it. */
static int take_place(struct aside *aside, int64_t wall_ns, unsigned nth, struct waiter *waiter)
{
    struct inode *inode = aside->inode;
    struct names *names = &inode->cache->names;
    AFTERMATH_SCOPED(aftermath, inode->cache);
    LOCK_SCOPED(&names->lock);

    for (;;) {
        int rc = find_place_locked(aside, wall_ns, nth);
        if (rc == 0) {
            struct asking_place places[2] = {{aside->parent, aside->name, false},
                                             {aside->parent, aside->fresh.bytes, false}};
            rc = asking_take_locked(names, places, 2, waiter, aside->marks);
        }
        if (rc == 0 && inode->parent == aside->parent && strcmp(inode->name, aside->name) == 0)
            return 0;
        release_place(aside, &aftermath); /* or it moved while we waited */
        if (rc < 0)
            return rc;
    }
}

static void leave_place(struct aside *aside)
{
    AFTERMATH_SCOPED(aftermath, aside->inode->cache);
    LOCK_SCOPED(&aside->inode->cache->names.lock);

    release_place(aside, &aftermath);
}

/* NODE before RESTATED: under its old name without a base it would go up over theirs. */
static int record_move_locked(struct aside *aside)
{
    struct inode *inode = aside->inode;
    LOCK_SCOPED(&inode->lock);
    int rc = recording_moved_locked(inode, aside->parent, aside->fresh.bytes, NULL);

    if (rc < 0)
        return rc;
    inode->exclusive = false;
    content_forget_base_locked(inode);
    snprintf(inode->parked_why, sizeof(inode->parked_why), "a conflict copy of %.80s, not sent yet",
             aside->name);
    return 0;
}

static int move(struct aside *aside)
{
    struct cache *cache = aside->inode->cache;
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&cache->names.lock);
    int rc = record_move_locked(aside);

    if (rc < 0)
        return rc;
    names_move_locked(aside->inode, aside->parent, aside->fresh.bytes, &aftermath);
    names_touched_locked(&cache->names, aside->parent, aside->fresh.bytes);
    names_doubt_locked(&cache->names, aside->parent, aside->name);
    marker_bump_locked(aside->parent);
    aftermath_notify(&aftermath, aside->parent->id, aside->name);
    aftermath_notify(&aftermath, aside->parent->id, aside->fresh.bytes);
    atomic_fetch_add(&cache->conflict_copies, 1);
    log_warn("%s: " CHANGED ": what was written here is kept as %s: compare both, and remove one",
             aside->key.bytes, aside->fresh_key.bytes);
    return 0;
}

/* 1: it moved; 0: the name is taken. */
static int try_place(struct aside *aside, struct waiter *waiter)
{
    struct inode *there;
    int rc = lookup_ask(aside->inode->cache, aside->parent, aside->fresh.bytes, waiter, &there);

    if (rc == 0)
        inode_unref(there);
    if (rc != -ENOENT)
        return rc;
    rc = move(aside);
    return rc < 0 ? rc : 1;
}

static int step_aside(struct inode *inode, struct waiter *waiter)
{
    struct aside aside = {.inode = inode, .key = BUF_INIT, .fresh = BUF_INIT, .fresh_key = BUF_INIT};
    int64_t wall_ns = clock_wall_ns();
    int rc = 0;

    for (unsigned nth = 1; rc == 0 && nth <= CONFLICT_NAMES_MAX; nth++) {
        rc = take_place(&aside, wall_ns, nth, waiter);
        if (rc < 0)
            break;
        rc = try_place(&aside, waiter);
        leave_place(&aside);
    }
    if (rc == -ENAMETOOLONG) {
        log_warn("%s: there is no room for the name of a conflict copy", aside.key.bytes);
        rc = -ESTALE;
    }
    buf_release(&aside.key);
    buf_release(&aside.fresh);
    buf_release(&aside.fresh_key);
    return rc == 0 ? -EEXIST : rc;
}

/* ---- One of them. ---- */

static int give_up(struct inode *inode, struct waiter *waiter)
{
    struct names *names = &inode->cache->names;
    struct asking *asking = NULL;
    BUF_SCOPED key = BUF_INIT;
    AFTERMATH_SCOPED(aftermath, inode->cache);
    LOCK_SCOPED(&names->lock);
    int rc = asking_take_own_locked(names, inode, waiter, &aftermath, &asking);

    if (rc < 0)
        return rc;
    names_key_locked(inode, &key);
    discard_locked(inode, &aftermath);
    asking_drop_locked(names, asking, &aftermath);
    log_warn("%s: " CHANGED ": what was written here is given up (conflict=remote-wins)", key.bytes);
    return 1;
}

static int overwrite(struct inode *inode)
{
    BUF_SCOPED key = BUF_INIT;
    int rc = names_key(inode, &key);

    if (rc < 0)
        return rc;
    LOCK_SCOPED(&inode->lock);
    inode->exclusive = false;
    content_forget_base_locked(inode);
    log_warn("%s: " CHANGED ": it is overwritten by what was written here (conflict=local-wins)", key.bytes);
    return 0;
}

static bool needs_base(struct inode *inode)
{
    bool goes = inode->cache->config.conflict == CONFLICT_REMOTE_WINS;
    LOCK_SCOPED(&inode->lock);
    bool differs = inode->wanted.content_version != inode->remote.content_version;
    return inode->type == S_IFREG && inode->base_size && (inode->displaced || (differs && !goes));
}

/* Its base is hidden, and our own (clone.h): all of it can be had. */
static int fetch_hidden(struct inode *inode, struct waiter *waiter)
{
    lock_take(&inode->lock);
    bool hidden = inode->displaced && keepsake_is_key(inode->cache, inode->remote.key);
    lock_drop(&inode->lock);
    int rc = hidden ? content_fill(inode, NULL, waiter) : 0;
    return rc == -ESTALE ? 0 : rc; /* somebody removed it */
}

/* Nobody else may have the bytes of its base any more: what of them is in memory stays, and so does what is in the local file. */
static int own_base(struct inode *inode)
{
    if (!needs_base(inode))
        return 0;
    int rc = salvage_blocks(inode, NULL);
    LOCK_SCOPED(&inode->lock);
    int owned = content_own_base_locked(inode);
    return rc < 0 ? rc : owned;
}

/* 1: it replaces whatever stands there. 0: all of it is here. -ESTALE: parts of it are nowhere any more. */
static int judge(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);

    if (inode->whole_replacement && !inode->exclusive)
        return 1;
    return content_gaps_locked(inode) ? -ESTALE : 0;
}

static bool is_displaced(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->displaced;
}

static bool is_exclusive(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->exclusive;
}

/* It has another name by now: theirs keeps the old one, ours goes up whole under its own. */
static int part(struct inode *inode)
{
    AFTERMATH_SCOPED(aftermath, inode->cache);
    LOCK_SCOPED(&inode->cache->names.lock);

    if (is_displaced(inode) && is_exclusive(inode)) /* that is of one that was removed here, and goes */
        names_leave_locked(inode, &aftermath);

    lock_take(&inode->lock);
    bool whole = !content_gaps_locked(inode);
    if (whole) {
        log_warn("%s: " CHANGED ", under its old name: what is here goes up under its new one",
                 inode->remote.key);
        content_part_locked(inode);
    }
    lock_drop(&inode->lock);
    if (whole)
        veil_update_locked(inode);
    return whole ? 0 : -ESTALE;
}

static bool is_content(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->wanted.content_version != inode->remote.content_version;
}

/* What was met stands where its upload went, and its name does not any more: a directory above it was renamed. */
static bool has_moved(struct inode *inode)
{
    BUF_SCOPED key = BUF_INIT;
    LOCK_SCOPED(&inode->cache->names.lock);
    int rc = names_key_locked(inode, &key);
    LOCK_SCOPED(&inode->lock);
    return rc == 0 && inode->busy_key && strcmp(inode->busy_key, key.bytes) != 0;
}

int conflict_settle(struct inode *inode, struct waiter *waiter)
{
    enum conflict_rule rule = inode->cache->config.conflict;
    int rc = fetch_hidden(inode, waiter);

    if (rc == 0)
        rc = own_base(inode);
    if (rc == 0)
        rc = settling_take_late(inode, "conflict", waiter);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (is_displaced(inode))
        return part(inode);
    if (is_exclusive(inode) && has_moved(inode))
        return 0;
    if (!is_content(inode))
        return -ESTALE;
    rc = judge(inode);
    if (rc == 1)
        return 0;
    if (rule == CONFLICT_REMOTE_WINS)
        return give_up(inode, waiter);
    if (rc < 0)
        return rc;
    return rule == CONFLICT_LOCAL_WINS ? overwrite(inode) : step_aside(inode, waiter);
}
