/* What is unsent: told, hurried (cache.h); given up: discard.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/core.h"
#include "cache/deleter.h"
#include "cache/journal.h"
#include "cache/replay.h"
#include "cache/slab.h"

#define WAITS  "it waits for what stood under its name before, and has to leave first"
#define PARTLY "; only what was changed is in the local file, the rest in the object"

int cache_drain(struct cache *cache, struct waiter *waiter, int64_t deadline_ms, size_t *ret_unsent)
{
    struct deleter_report left;
    int rc = uploader_drain(cache->uploader, waiter, deadline_ms, ret_unsent);
    if (rc == 0)
        rc = deleter_await(cache->deleter, "", waiter, deadline_ms);
    deleter_report(cache->deleter, &left);
    *ret_unsent += left.count;
    return *ret_unsent == 0 ? 0 : rc;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void cache_backlog(struct cache *cache, struct cache_backlog *ret_backlog)
{
    struct uploader_report report;
    struct deleter_report leaving;
    struct journal_report journal = {0};
    if (cache->journal)
        journal_report(cache->journal, &journal);
    uploader_report(cache->uploader, &report);
    deleter_report(cache->deleter, &leaving);
    *ret_backlog = (struct cache_backlog){
        .files = report.unsent_files + leaving.count,
        .bytes = report.unsent_bytes,
        .parked = report.parked + leaving.failing,
        .conflicts = report.conflicts,
        .sent_files = report.sent_files,
        .sent_bytes = report.sent_bytes,
        .oldest_unsent_ms = larger(report.oldest_unsent_ms, leaving.oldest_ms),
        .unflushed_bytes = journal.unflushed_bytes,
        .oldest_unflushed_ms = journal.oldest_unflushed_ms,
    };
}

/* ---- Each. ---- */

static const char *path_of(const struct cache *cache, const char *key)
{
    size_t length = strlen(cache->prefix);
    return strncmp(key, cache->prefix, length) == 0 ? key + length : "";
}

static bool is_refused_locked(const struct inode *inode)
{
    bool settled = !inode->upload_busy && !inode->publish && inode->parked_rc;
    return settled && (inode->parked_refused || uploader_stuck(inode->parked_rc));
}

static void tell(struct inode *inode, cache_unsent_each *each, void *context)
{
    struct cache *cache = inode->cache;
    BUF_SCOPED key = BUF_INIT;
    char why[sizeof inode->parked_why + sizeof PARTLY];
    names_key(inode, &key);
    lock_take(&inode->lock);
    bool unsent = inode_dirty_locked(inode) && !inode->orphan;
    bool partly = inode->type == S_IFREG && content_gaps_locked(inode);
    uint64_t offset = 0;
    STRING_SCOPED *local = inode->local ? slab_path(cache->config.disk, inode->local_name, &offset) : NULL;
    bool waits = inode->awaits_key && !inode->upload_busy;
    const char *state = inode->parked_why[0] ? inode->parked_why : waits ? WAITS : "not sent yet";
    snprintf(why, sizeof why, "%s%s", state, partly ? PARTLY : "");
    uint64_t bytes = inode->type == S_IFREG ? extents_bytes(&inode->dirty) : 0;
    uint64_t taken = atomic_load(&inode->taken_bytes);
    struct cache_unsent told = {.path = path_of(cache, key.bytes),
                                .key = key.bytes,
                                .local = local ? local : "",
                                .local_offset = offset,
                                .bytes = bytes,
                                .taken = taken < bytes ? taken : bytes,
                                .parked = inode->parked_rc != 0,
                                .conflict = inode->parked_rc == -ESTALE,
                                .rc = inode->parked_rc,
                                .refused = is_refused_locked(inode),
                                .waits = waits,
                                .lasting = !inode->upload_busy && !inode->publish &&
                                           uploader_stuck(inode->parked_rc),
                                .why = why};
    lock_drop(&inode->lock);
    if (unsent)
        each(context, &told);
}

static void tell_leaving(struct inode *inode, cache_unsent_each *each, void *context)
{
    struct cache *cache = inode->cache;
    char why[80] = "to be deleted";
    lock_take(&cache->names.lock);
    STRING_SCOPED *key = xstrdup(inode->veiled[0] ? inode->veiled[0] : "");
    int failed = inode->delete_attempts ? inode->delete_rc : 0;
    bool refused = failed && deleter_refused_locked(inode);
    lock_drop(&cache->names.lock);
    if (failed)
        snprintf(why, sizeof why, "to be deleted, tried in vain: %s", err_name(failed));
    struct cache_unsent told = {.path = path_of(cache, key),
                                .key = key,
                                .local = "",
                                .leaving = true,
                                .rc = failed,
                                .parked = failed != 0,
                                .refused = refused,
                                .why = why};
    each(context, &told);
}

static void tell_each_leaving(struct cache *cache, cache_unsent_each *each, void *context)
{
    struct inode **inodes;
    size_t count;
    deleter_list(cache->deleter, &inodes, &count);
    for (size_t i = 0; i < count; i++) {
        tell_leaving(inodes[i], each, context);
        inode_unref(inodes[i]);
    }
    free(inodes);
}

struct waiting {
    cache_unsent_each *each;
    void *context;
};

static void tell_waiting(void *context, const struct cache_unsent *unsent)
{
    const struct waiting *waiting = context;
    struct cache_unsent told = *unsent;
    told.parked = told.refused = told.lasting = true;
    told.rc = -EROFS;
    told.why = "it waits until this is mounted for writing: this mount is read-only";
    waiting->each(waiting->context, &told);
}

/* What an earlier mount left, and a read-only one does not touch. */
static void tell_each_waiting(struct cache *cache, cache_unsent_each *each, void *context)
{
    struct waiting waiting = {each, context};
    STRING_SCOPED *source = NULL;
    BUF_SCOPED why = BUF_INIT;
    if (cache_look(cache->config.disk, tell_waiting, &waiting, &source, &why) < 0)
        log_warn("what is unsent cannot be told: %s", why.bytes);
}

void cache_unsent(struct cache *cache, cache_unsent_each *each, void *context)
{
    struct inode **inodes;
    size_t count;
    if (cache->config.read_only) {
        tell_each_waiting(cache, each, context);
        return;
    }
    tell_each_leaving(cache, each, context);
    uploader_list_unsent(cache->uploader, &inodes, &count);
    for (size_t i = 0; i < count; i++) {
        tell(inodes[i], each, context);
        inode_unref(inodes[i]);
    }
    free(inodes);
}

/* ---- Hurried. ---- */

/* "a/b" is at or below "a" and "a/b", not below "a/bc"; all is below "". */
static bool is_below(const char *path, const char *above)
{
    size_t length = strlen(above);
    while (length && above[length - 1] == '/')
        length--;
    return strncmp(path, above, length) == 0 && (!length || !path[length] || path[length] == '/');
}

static bool is_known(struct cache *cache, const char *path)
{
    LOCK_SCOPED(&cache->names.lock);
    return names_find_path_locked(&cache->names, path) != NULL;
}

int cache_publish(struct cache *cache, const char *path)
{
    struct inode **inodes;
    size_t count, found = 0;
    uploader_list_unsent(cache->uploader, &inodes, &count);
    for (size_t i = 0; i < count; i++) {
        BUF_SCOPED key = BUF_INIT;
        if (names_key(inodes[i], &key) == 0 && is_below(path_of(cache, key.bytes), path)) {
            uploader_publish_open(inodes[i]);
            found++;
        }
        inode_unref(inodes[i]);
    }
    free(inodes);
    STRING_SCOPED *key = xprintf("%s%s", cache->prefix, path);
    deleter_hurry(cache->deleter, *path ? key : "");
    return found || is_known(cache, path) ? 0 : -ENOENT;
}

/* ---- A journal that nobody has open. ---- */

static void tell_account(struct disk *disk, const struct account *account, cache_unsent_each *each,
                         void *context)
{
    BUF_SCOPED path = BUF_INIT;
    account_path(account, &path);
    uint64_t offset = 0;
    STRING_SCOPED *local = account->local[0] ? slab_path(disk, account->local, &offset) : NULL;
    struct cache_unsent told = {.path = path.bytes,
                                .key = account->key ? account->key : "",
                                .local = local ? local : "",
                                .local_offset = offset,
                                .bytes = extents_bytes(&account->dirty),
                                .why = "not sent yet"};
    each(context, &told);
}

int cache_look(struct disk *disk, cache_unsent_each *each, void *context, char **ret_source, struct buf *why)
{
    struct ledger ledger;
    struct replay replay;
    ledger_init(&ledger);
    int rc = replay_run(&replay, disk, NULL, "", &ledger, why);
    *ret_source = rc == 0 && ledger.source ? xstrdup(ledger.source) : NULL;
    struct account *account, *after;
    HASH_ITER (by_id, ledger.accounts, account, after)
        if (rc == 0 && account_unsent(account, NULL))
            tell_account(disk, account, each, context);
    replay_release(&replay);
    ledger_release(&ledger);
    return rc;
}
