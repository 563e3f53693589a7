#include "cache/deleter.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/asking.h"
#include "cache/deleting.h"
#include "cache/keepsake.h"
#include "cache/marker.h"
#include "cache/recording.h"
#include "cache/server.h"
#include "cache/settling.h"
#include "cache/veil.h"

#define BATCH_MAX       STORE_LIST_MAX
#define END_PATIENCE_MS 5000

struct deleter {
    /* Set at birth. */
    struct cache *cache;
    pthread_t thread;
    struct waiter waiter;

    /* Under the lock of names. */
    struct gate wake, changed;
    struct list queue, resting; /* inodes */
    struct list busy;           /* ... whose names are being worked on: looked at again at names->turn */
    size_t count;               /* in all of them, and at work */
    bool stopping;
};

/* ---- The queues. ---- */

/* After an error: nothing but its time, or somebody who waits for it, brings it back. */
static bool backs_off(const struct inode *inode)
{
    bool timed = inode->delete_due_ms != CLOCK_NEVER && inode->delete_due_ms > clock_ms();
    return !list_empty(&inode->leaving) && inode->delete_attempts && timed;
}

void deleter_add_locked(struct inode *inode)
{
    struct deleter *deleter = inode->cache->deleter;
    LOCK_SCOPED(&inode->lock);

    if (inode->opens || inode->leaving_now || backs_off(inode))
        return; /* its last close comes; it is at work; it rests */
    if (list_empty(&inode->leaving)) {
        deleter->count++;
        inode->leaving_since_ms = clock_ms();
    }
    list_remove(&inode->leaving);
    list_append(&deleter->queue, &inode->leaving);
    gate_open(&deleter->wake);
    gate_open(&inode->cache->names.turn); /* where it waits while names are being worked on */
}

void deleter_drop_locked(struct inode *inode)
{
    struct deleter *deleter = inode->cache->deleter;

    if (list_empty(&inode->leaving) && !inode->leaving_now)
        return;
    list_remove(&inode->leaving);
    inode->deleting = inode->leaving_now = false;
    deleter->count--;
    gate_open(&deleter->changed);
}

static void rest_locked(struct deleter *deleter, struct inode *inode, struct list *where)
{
    inode->deleting = inode->leaving_now = false;
    if (list_empty(&inode->doomed))
        return;
    list_append(where, &inode->leaving);
    gate_open(&deleter->changed);
}

/* An upload that still runs brings it back when it ends (names_delete_behind). */
static bool may_go(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->opens == 0 && !inode->upload;
}

static int64_t wake_resting_locked(struct deleter *deleter)
{
    int64_t now = clock_ms(), next = CLOCK_NEVER;

    list_for_each_safe (at, after, &deleter->resting) {
        struct inode *inode = container_of(at, struct inode, leaving);
        if (inode->delete_due_ms > now) {
            next = inode->delete_due_ms < next ? inode->delete_due_ms : next;
            continue;
        }
        list_remove(at);
        list_append(&deleter->queue, at);
    }
    return next;
}

/* ---- One batch. ---- */

struct item {
    struct inode *inode; /* a reference */
    struct names_deleting deleting;
    struct identity identity;
    char *id; /* its skyvol-id; NULL: not known */
    int rc;
    bool begun;     /* its object is to go now */
    bool postponed; /* somebody works on its name */
    bool refused;   /* rc is the server's last word */
    char code[64];
    char *veiled[2]; /* keys that it veiled */
};

static size_t take_batch_locked(struct deleter *deleter, struct item *items)
{
    size_t count = 0;
    struct list held = LIST_INIT(held);

    while (count < BATCH_MAX && !list_empty(&deleter->queue)) {
        struct inode *inode = container_of(deleter->queue.next, struct inode, leaving);
        list_remove(&inode->leaving);
        if (!may_go(inode)) {
            inode->delete_due_ms = CLOCK_NEVER;
            list_append(&held, &inode->leaving);
            continue;
        }
        items[count] = (struct item){.inode = inode_ref(inode)};
        list_init(&items[count].deleting.link);
        inode->leaving_now = true;
        count++;
    }
    list_splice(&deleter->resting, &held);
    return count;
}

/* The directory that the object of the item is the last of gets its marker, if it still stands here. Nobody moves it meanwhile. */
static int keep_directory(struct cache *cache, const char *key, struct waiter *waiter)
{
    struct names *names = &cache->names;
    STRING_SCOPED *name = NULL;
    struct asking *asking = NULL;
    AFTERMATH_SCOPED(aftermath, cache);
    int rc = 0;

    lock_take(&names->lock);
    struct inode *directory = names_place_locked(names, key, &name);
    if (directory) {
        aftermath_unref(&aftermath, inode_ref(directory));
        rc = asking_take_one_locked(names, directory, "/deleter", waiter, &asking);
    }
    lock_drop(&names->lock);
    if (asking)
        rc = marker_keep(directory, NULL, waiter);
    lock_take(&names->lock);
    asking_drop_locked(names, asking, &aftermath);
    lock_drop(&names->lock);
    return rc == -ENOENT ? 0 : rc;
}

static bool same_directory(const char *a, const char *b)
{
    const char *slash = strrchr(a, '/');
    size_t length = slash ? (size_t)(slash - a) + 1 : 0;
    return b && strncmp(a, b, length) == 0 && !strchr(b + length, '/');
}

/* What there is of it is found out; one error ends the asking for all that follow. */
static void prepare(struct cache *cache, struct item *items, size_t count, struct waiter *waiter)
{
    STRING_SCOPED *last = NULL;
    int rc = 0;

    for (size_t i = 0; i < count; i++) {
        struct inode *inode = items[i].inode;
        if (rc == 0)
            rc = settling_ask(inode, "before a delete", waiter);
        lock_take(&inode->lock);
        char *key = inode->remote.exists ? xstrdup(inode->remote.key) : NULL;
        lock_drop(&inode->lock);
        if (rc == 0 && key && !same_directory(key, last)) {
            rc = keep_directory(cache, key, waiter);
            if (rc == 0) {
                free(last);
                last = xstrdup(key);
            }
        }
        free(key);
        items[i].rc = rc;
        rc = rc == -EINTR || rc == -EIO ? rc : 0;
    }
}

/* True while somebody works on that very name, or renames or removes a directory above it. */
static bool name_busy_locked(struct names *names, const char *key)
{
    list_for_each (at, &names->asking) {
        struct asking *asking = container_of(at, struct asking, link);
        BUF_SCOPED other = BUF_INIT;
        if (!*asking->name || *asking->name == '/' ||
            names_child_key_locked(asking->parent, asking->name, &other) < 0)
            continue;
        if (strncmp(key, other.bytes, other.length) != 0)
            continue;
        if (!key[other.length] || (key[other.length] == '/' && !asking->lookup))
            return true;
    }
    return false;
}

/* Who has the name of this key now. */
static struct inode *find_user_locked(struct names *names, const struct inode *inode, const char *key)
{
    struct inode *user = names_find_path_locked(names, key + strlen(inode->cache->prefix));
    bool directory = key[strlen(key) - 1] == '/';

    return user && (user->type == S_IFDIR) == directory ? user : NULL;
}

/* It is what somebody saw there before ours came, and has nothing of its own to send: what stands there is not its object. */
static bool is_outdated(struct inode *user, const struct identity *ours)
{
    LOCK_SCOPED(&user->lock);
    return user->type != S_IFDIR && user->remote.exists && !inode_overlays_locked(user) &&
           !identity_equal(&user->remote.identity, ours);
}

/* ... and takes the object along that it has elsewhere: that will come over this one. */
static bool is_awaited_locked(struct names *names, const struct inode *inode, const char *key)
{
    struct inode *user = find_user_locked(names, inode, key);

    if (!user)
        return false;
    LOCK_SCOPED(&user->lock);
    return user->displaced;
}

static bool is_busy_locked(struct names *names, const struct inode *inode, const char *key)
{
    return name_busy_locked(names, key) || veil_held_locked(names, key, inode) ||
           is_awaited_locked(names, inode, key);
}

/* The key follows the renames of directories until here. */
static void begin_locked(struct names *names, struct item *item)
{
    struct inode *inode = item->inode;

    if (item->rc < 0 || list_empty(&inode->doomed))
        return;
    lock_take(&inode->lock);
    char *key = inode->remote.exists ? xstrdup(inode->remote.key) : NULL;
    const char *id = store_fields_get(&inode->remote.meta, SERVER_ID_FIELD);
    item->identity = inode->remote.identity;
    item->id = id ? xstrdup(id) : NULL;
    lock_drop(&inode->lock);
    item->deleting.key = key;
    if (!key)
        return; /* nothing of it ever arrived */
    if (is_busy_locked(names, inode, key)) {
        item->postponed = true;
        return;
    }
    /* The name is in use again: what stands under the key is, or soon will be, the new file's. */
    struct inode *user = find_user_locked(names, inode, key);
    if (user && !is_outdated(user, &item->identity)) {
        names_inherit_locked(user, inode);
        return;
    }
    if (user)
        names_doubt_locked(names, user->parent, user->name);
    item->begun = inode->deleting = true;
    list_append(&names->deleting, &item->deleting.link);
}

/* What the journal says of these names is on the disk first: no power cut brings a name back whose object is gone. */
static void delete_all(struct cache *cache, struct item *items, size_t count, int64_t patience_ms,
                       struct waiter *waiter)
{
    struct deleting *all = xcalloc(count + 1, sizeof *all);
    size_t some = 0;

    for (size_t i = 0; i < count; i++)
        if (items[i].begun)
            /* What a keepsake's copy is like nobody may have heard. */
            all[some++] = (struct deleting){.key = items[i].deleting.key,
                                            .identity = items[i].identity,
                                            .id = items[i].id,
                                            .any = items[i].inode->type == S_IFDIR ||
                                                   keepsake_is_key(cache, items[i].deleting.key),
                                            .owner = &items[i]};
    int rc = some && cache->journal ? journal_flush(cache->journal, waiter) : 0;
    for (size_t i = 0; rc < 0 && i < some; i++)
        all[i].rc = rc;
    if (rc == 0)
        deleting_run(cache, all, some, patience_ms, waiter);
    for (size_t i = 0; i < some; i++) {
        struct item *item = all[i].owner;
        item->rc = all[i].rc;
        item->refused = all[i].refused;
        memcpy(item->code, all[i].code, sizeof item->code);
    }
    free(all);
}

/* ---- Its end. ---- */

/* Looks that are in flight may have seen the object: they look again. */
static void touch_locked(struct names *names, const struct item *item)
{
    STRING_SCOPED *name = NULL;
    struct inode *directory = names_place_locked(names, item->deleting.key, &name);

    names_touched_key_locked(names, item->deleting.key);
    if (!directory)
        return;
    if (item->rc == -ESTALE)
        names_doubt_locked(names, directory, name);
    if (item->rc == 0 && !names_find_locked(names, directory, name))
        names_set_absent_locked(names, directory, name, clock_ms());
}

static void fail_locked(struct deleter *deleter, struct item *item)
{
    struct inode *inode = item->inode;

    if (item->rc != -EINTR) {
        inode->delete_attempts++;
        inode->delete_rc = item->rc;
        inode->delete_refused = item->refused || item->rc == -EACCES;
    }
    inode->delete_due_ms = clock_ms() + server_backoff_ms(inode->delete_attempts);
    rest_locked(deleter, inode, &deleter->resting);
}

static void acquit_locked(struct item *item, struct aftermath *aftermath)
{
    struct inode *inode = item->inode;

    if (list_empty(&inode->doomed))
        return; /* overwritten meanwhile */
    lock_take(&inode->lock);
    inode->delete_at_release = false;
    recording_forget_locked(inode);
    lock_drop(&inode->lock);
    names_acquit_locked(inode, aftermath);
}

static void end_locked(struct deleter *deleter, struct item *item, struct aftermath *aftermath)
{
    struct names *names = &deleter->cache->names;

    list_remove(&item->deleting.link);
    if (item->begun)
        touch_locked(names, item);
    for (int i = 0; i < 2; i++) /* who waits for one of them looks again, whatever came of it */
        item->veiled[i] = item->inode->veiled[i] ? xstrdup(item->inode->veiled[i]) : NULL;
    veil_update_locked(item->inode); /* what was in doubt is not any more */
    if (item->postponed)
        rest_locked(deleter, item->inode, &deleter->busy);
    else if (item->rc == 0 || item->rc == -ESTALE)
        acquit_locked(item, aftermath);
    else
        fail_locked(deleter, item);
    aftermath_unref(aftermath, item->inode);
}

/* One line for all that failed. */
static void tell_failures(const struct item *items, size_t count)
{
    const struct item *first = NULL;
    size_t failed = 0;

    for (size_t i = 0; i < count; i++) {
        if (items[i].rc == -ESTALE && items[i].begun)
            log_warn("delete of %s: another client's object stands there by now: it stays",
                     items[i].deleting.key);
        if (items[i].rc == 0 || items[i].rc == -ESTALE || items[i].rc == -EINTR)
            continue;
        first = first ? first : &items[i];
        failed++;
    }
    if (first)
        log_warn("%zu objects of removed files cannot be deleted yet: %s: %s %s, tried again behind", failed,
                 first->deleting.key ? first->deleting.key : "what one may have left", err_name(first->rc),
                 first->code);
}

static void release_keys(struct cache *cache, struct item *item)
{
    int rc = item->rc == -ESTALE || item->rc == -EINTR ? 0 : item->rc;

    if (item->begun)
        veil_release(cache, item->deleting.key, rc);
    for (int i = 0; i < 2; i++) {
        if (item->veiled[i])
            veil_release(cache, item->veiled[i], rc);
        free(item->veiled[i]);
    }
    free(item->deleting.key);
    free(item->id);
}

static void work(struct deleter *deleter, struct item *items, size_t count, int64_t patience_ms,
                 struct waiter *waiter)
{
    struct cache *cache = deleter->cache;
    struct names *names = &cache->names;

    prepare(cache, items, count, waiter);
    lock_take(&names->lock);
    for (size_t i = 0; i < count; i++)
        begin_locked(names, &items[i]);
    lock_drop(&names->lock);
    delete_all(cache, items, count, patience_ms, waiter);
    tell_failures(items, count);
    {
        AFTERMATH_SCOPED(aftermath, cache);
        LOCK_SCOPED(&names->lock);
        for (size_t i = 0; i < count; i++)
            end_locked(deleter, &items[i], &aftermath);
        gate_open(&names->turn);
    }
    for (size_t i = 0; i < count; i++)
        release_keys(cache, &items[i]);
}

/* ---- The thread. ---- */

static bool is_blocked_locked(struct names *names, struct inode *inode)
{
    lock_take(&inode->lock);
    STRING_SCOPED *key = inode->remote.exists ? xstrdup(inode->remote.key) : NULL;
    lock_drop(&inode->lock);
    return key && is_busy_locked(names, inode, key);
}

/* Those at whose names nobody works any more may begin; false: there are none. */
static bool unblock_locked(struct deleter *deleter)
{
    bool some = false;

    list_for_each_safe (at, after, &deleter->busy) {
        if (is_blocked_locked(&deleter->cache->names, container_of(at, struct inode, leaving)))
            continue;
        list_remove(at);
        list_append(&deleter->queue, at);
        some = true;
    }
    return some;
}

static void wait_locked(struct deleter *deleter, int64_t next_ms)
{
    struct names *names = &deleter->cache->names;

    if (list_empty(&deleter->busy))
        gate_wait_locked(&deleter->wake, &names->lock, &deleter->waiter, next_ms);
    else if (!unblock_locked(deleter))
        gate_wait_locked(&names->turn, &names->lock, &deleter->waiter, next_ms);
}

static void *run(void *argument)
{
    struct deleter *deleter = argument;
    struct cache *cache = deleter->cache;
    struct item *items = xcalloc(BATCH_MAX, sizeof *items);

    lock_take(&cache->names.lock);
    while (!deleter->stopping) {
        int64_t next_ms = wake_resting_locked(deleter);
        size_t count = take_batch_locked(deleter, items);
        if (!count) {
            wait_locked(deleter, next_ms);
            continue;
        }
        lock_drop(&cache->names.lock);
        work(deleter, items, count, cache->config.io_timeout_ms, &deleter->waiter);
        lock_take(&cache->names.lock);
    }
    lock_drop(&cache->names.lock);
    free(items);
    return NULL;
}

struct deleter *deleter_new(struct cache *cache)
{
    struct deleter *deleter = xcalloc(1, sizeof *deleter);

    deleter->cache = cache;
    waiter_init(&deleter->waiter);
    gate_init(&deleter->wake);
    gate_init(&deleter->changed);
    list_init(&deleter->queue);
    list_init(&deleter->resting);
    list_init(&deleter->busy);
    int error = pthread_create(&deleter->thread, NULL, run, deleter);
    if (error) {
        log_error("the deleter's thread: %s", err_name(error));
        abort();
    }
    return deleter;
}

static void try_once_more(struct deleter *deleter)
{
    struct item *items = xcalloc(BATCH_MAX, sizeof *items);
    struct list tried = LIST_INIT(tried);
    WAITER_SCOPED(waiter);

    lock_take(&deleter->cache->names.lock);
    list_splice(&deleter->queue, &deleter->busy);
    list_splice(&deleter->queue, &deleter->resting);
    list_for_each_safe (at, after, &deleter->queue) {
        if (container_of(at, struct inode, leaving)->delete_attempts == 0)
            continue;
        list_remove(at);
        list_append(&tried, at);
    }
    size_t count = take_batch_locked(deleter, items);
    list_splice(&deleter->resting, &tried);
    lock_drop(&deleter->cache->names.lock);
    if (count)
        work(deleter, items, count, END_PATIENCE_MS, &waiter);
    free(items);
}

/* What an upload still has in hand is left alone: those that end of themselves, since their file is gone, are waited for. */
static void await_uploads(struct deleter *deleter)
{
    WAITER_SCOPED(waiter);
    int64_t deadline_ms = clock_ms() + END_PATIENCE_MS;
    struct inode **inodes;
    size_t count;

    deleter_list(deleter, &inodes, &count);
    for (size_t i = 0; i < count; i++) {
        struct inode *inode = inodes[i];
        int rc = 0;
        lock_take(&inode->lock);
        while (rc == 0 && inode->upload && inode->opens == 0)
            rc = gate_wait_locked(&inode->changed, &inode->lock, &waiter, deadline_ms);
        lock_drop(&inode->lock);
        inode_unref(inode);
    }
    free(inodes);
}

void deleter_stop(struct deleter *deleter)
{
    await_uploads(deleter);
    lock_take(&deleter->cache->names.lock);
    deleter->stopping = true;
    gate_open(&deleter->wake);
    gate_open(&deleter->cache->names.turn);
    lock_drop(&deleter->cache->names.lock);
    waiter_interrupt(&deleter->waiter);
    pthread_join(deleter->thread, NULL);
    try_once_more(deleter);
}

void deleter_free(struct deleter *deleter)
{
    if (!deleter)
        return;
    lock_take(&deleter->cache->names.lock);
    struct list *lists[] = {&deleter->queue, &deleter->resting, &deleter->busy};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        while (list_pop(lists[i]))
            ;
    lock_drop(&deleter->cache->names.lock);
    gate_release(&deleter->wake);
    gate_release(&deleter->changed);
    waiter_release(&deleter->waiter);
    free(deleter);
}

/* ---- Those who wait, or ask. ---- */

int deleter_throttle(struct deleter *deleter, struct waiter *waiter)
{
    struct names *names = &deleter->cache->names;
    LOCK_SCOPED(&names->lock);
    int rc = 0;

    while (rc == 0 && deleter->count >= DELETER_WAIT_MAX)
        rc = waiter ? gate_wait_locked(&deleter->changed, &names->lock, waiter, CLOCK_NEVER) : -EAGAIN;
    return rc;
}

static bool is_at(const char *key, const char *prefix, bool entries)
{
    size_t length = strlen(prefix);
    if (!length)
        return !entries || !strchr(key, '/');
    if (strncmp(key, prefix, length) != 0)
        return false;
    return entries ? !strchr(key + length, '/') : !key[length] || prefix[length - 1] == '/';
}

/* What may not have left anything (an upload ended) stands under no key, but is looked at all the same. */
static bool is_left_at(const struct inode *inode, const char *prefix, bool entries)
{
    bool there = !*prefix && !entries;
    for (int i = 0; i < 2; i++)
        there = there || (inode->veiled[i] && is_at(inode->veiled[i], prefix, entries));
    return there;
}

/* It goes when a copy (clone.h) comes over it, that is when somebody closes that: nobody waits so long for a delete. */
static bool waits_for_copy_locked(struct names *names, const struct inode *inode)
{
    struct inode *user = inode->veiled[0] ? find_user_locked(names, inode, inode->veiled[0]) : NULL;

    if (!user)
        return false;
    LOCK_SCOPED(&user->lock);
    return user->displaced && keepsake_is_key(user->cache, user->remote.key);
}

/* Something at such a key is left; what rests begins again. */
static bool left_locked(struct deleter *deleter, const char *prefix, bool entries, bool hurry)
{
    struct names *names = &deleter->cache->names;
    bool left = false;

    if (!deleter->count)
        return false;
    list_for_each (at, &names->doomed) {
        struct inode *inode = container_of(at, struct inode, doomed);
        if (list_empty(&inode->leaving) && !inode->leaving_now)
            continue; /* somebody has it open */
        bool there = is_left_at(inode, prefix, entries) && !waits_for_copy_locked(names, inode);
        if (there && hurry && !inode->leaving_now) {
            inode->delete_due_ms = 0;
            deleter_add_locked(inode);
        }
        left = left || there;
    }
    return left;
}

static int await(struct deleter *deleter, const char *prefix, bool entries, struct waiter *waiter,
                 int64_t deadline_ms)
{
    struct names *names = &deleter->cache->names;
    LOCK_SCOPED(&names->lock);
    bool hurry = true;
    int rc = 0;

    while (left_locked(deleter, prefix, entries, hurry) && rc == 0) {
        hurry = false;
        rc = waiter ? gate_wait_locked(&deleter->changed, &names->lock, waiter, deadline_ms) : -EAGAIN;
    }
    return rc;
}

void deleter_hurry(struct deleter *deleter, const char *path)
{
    STRING_SCOPED *below = xprintf("%s%s", path, *path ? "/" : "");
    LOCK_SCOPED(&deleter->cache->names.lock);
    left_locked(deleter, below, false, true);
    if (*path)
        left_locked(deleter, path, false, true);
}

bool deleter_refused_locked(const struct inode *inode)
{
    return inode->delete_refused && !inode->leaving_now && backs_off(inode);
}

int deleter_await(struct deleter *deleter, const char *prefix, struct waiter *waiter, int64_t deadline_ms)
{
    return await(deleter, prefix, false, waiter, deadline_ms);
}

int deleter_await_entries(struct deleter *deleter, const char *directory, struct waiter *waiter,
                          int64_t deadline_ms)
{
    return await(deleter, directory, true, waiter, deadline_ms);
}

void deleter_report(struct deleter *deleter, struct deleter_report *ret_report)
{
    LOCK_SCOPED(&deleter->cache->names.lock);
    int64_t now = clock_ms();

    *ret_report = (struct deleter_report){.count = deleter->count};
    list_for_each (at, &deleter->cache->names.doomed) {
        const struct inode *inode = container_of(at, struct inode, doomed);
        if (list_empty(&inode->leaving) && !inode->leaving_now)
            continue;
        ret_report->failing += inode->delete_attempts > 0;
        if (now - inode->leaving_since_ms > ret_report->oldest_ms)
            ret_report->oldest_ms = now - inode->leaving_since_ms;
    }
}

void deleter_list(struct deleter *deleter, struct inode ***ret_inodes, size_t *ret_count)
{
    LOCK_SCOPED(&deleter->cache->names.lock);
    struct inode **inodes = xcalloc(deleter->count + 1, sizeof inodes[0]);
    size_t count = 0;

    list_for_each (at, &deleter->cache->names.doomed) {
        struct inode *inode = container_of(at, struct inode, doomed);
        if (!list_empty(&inode->leaving) || inode->leaving_now)
            inodes[count++] = inode_ref(inode);
    }
    assert(count <= deleter->count);
    *ret_inodes = inodes;
    *ret_count = count;
}
