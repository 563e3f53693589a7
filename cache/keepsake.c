#include "cache/keepsake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/recording.h"
#include "cache/server.h"
#include "cache/veil.h"

#define RANDOM_BYTES 16
#define PROBE_NAME   ".skyvol-probe-" /* of store_probe(): one whose process died stays */

bool keepsake_is_name(const char *name)
{
    return strncmp(name, KEEPSAKE_NAME, sizeof(KEEPSAKE_NAME) - 1) == 0 ||
           strncmp(name, PROBE_NAME, sizeof(PROBE_NAME) - 1) == 0;
}

bool keepsake_is_key(const struct cache *cache, const char *key)
{
    size_t length = strlen(cache->prefix);

    return strncmp(key, cache->prefix, length) == 0 && keepsake_is_name(key + length);
}

/* ---- The hidden object. ---- */

static char *make_key(const struct cache *cache)
{
    uint8_t random[RANDOM_BYTES];
    BUF_SCOPED hex = BUF_INIT;

    digest_random(random, sizeof(random));
    buf_add_hex(&hex, random, sizeof(random));
    return xprintf("%s" KEEPSAKE_NAME "%s", cache->prefix, hex.bytes);
}

/* Journaled before it can stand in the bucket. */
static int make(struct cache *cache, const struct identity *source, struct keepsake **ret_keepsake)
{
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&cache->names.lock);
    struct inode *inode = inode_new(cache, S_IFREG, 0);
    STRING_SCOPED *key = make_key(cache);

    lock_take(&inode->lock);
    inode->orphan = inode->delete_at_release = true;
    inode->remote.exists = true;
    inode->remote.key = xstrdup(key);
    inode->remote.identity = *source;
    int rc = recording_doomed_locked(inode);
    lock_drop(&inode->lock);
    if (rc < 0) {
        log_warn("an open version cannot be kept: the journal: %s", err_name(rc));
        aftermath_unref(&aftermath, inode);
        return rc;
    }
    names_doom_locked(inode);
    struct keepsake *keepsake = *ret_keepsake = xcalloc(1, sizeof(*keepsake));
    *keepsake = (struct keepsake){.inode = inode, .key = key};
    key = NULL;
    return 0;
}

/* A copy that failed may stand there all the same. */
void keepsake_drop(struct keepsake *keepsake)
{
    if (!keepsake)
        return;
    names_delete_behind(keepsake->inode);
    inode_unref(keepsake->inode);
    free(keepsake->key);
    free(keepsake);
}

int keepsake_copy(struct copying *copying, struct waiter *waiter, struct keepsake **ret_keepsake)
{
    struct keepsake *keepsake;
    int rc = make(copying->cache, copying->source, &keepsake);

    if (rc < 0)
        return rc;
    copying->key = keepsake->key;
    rc = copying_run(copying, waiter);
    keepsake->identity = copying->to;
    if (rc < 0)
        keepsake_drop(keepsake);
    else
        *ret_keepsake = keepsake;
    return rc;
}

void keepsake_give_locked(struct keepsake *keepsake, struct aftermath *aftermath)
{
    struct inode *inode = keepsake->inode;

    lock_take(&inode->lock);
    inode->delete_at_release = false;
    recording_forget_locked(inode);
    lock_drop(&inode->lock);
    names_acquit_locked(inode, aftermath);
    aftermath_unref(aftermath, inode);
    free(keepsake->key);
    free(keepsake);
}

/* ---- Whose it is. ---- */

/* There are bytes that only its object has. */
static bool needs_one_locked(const struct inode *inode)
{
    return inode->type == S_IFREG && inode->opens && inode->remote.exists && !inode->keepsake &&
           content_gaps_locked(inode);
}

static bool give(struct inode *inode, struct keepsake *keepsake, const char *source_key)
{
    LOCK_SCOPED(&inode->lock);

    if (!needs_one_locked(inode) || strcmp(inode->remote.key, source_key) != 0)
        return false; /* closed meanwhile */
    inode->keepsake = keepsake;
    return true;
}

int keepsake_take(struct inode *inode, struct waiter *waiter)
{
    struct keepsake *keepsake = NULL;
    STRING_SCOPED *key = NULL;
    struct identity source;

    lock_take(&inode->lock);
    if (needs_one_locked(inode))
        key = xstrdup(inode->remote.key);
    source = inode->remote.identity;
    lock_drop(&inode->lock);
    if (!key)
        return 0;
    struct copying copying = {
        .cache = inode->cache, .what = "keep a version that is open", .source_key = key, .source = &source};
    int rc = keepsake_copy(&copying, waiter, &keepsake);
    if (rc == 0 && !give(inode, keepsake, key))
        keepsake_drop(keepsake);
    return rc;
}

bool keepsake_follow_locked(struct inode *inode)
{
    const struct keepsake *keepsake = inode->keepsake;

    if (!keepsake || strcmp(inode->remote.key, keepsake->key) == 0)
        return false;
    free(inode->remote.key);
    inode->remote.key = xstrdup(keepsake->key);
    if (identity_equal(&inode->cached_identity, &inode->remote.identity))
        inode->cached_identity = keepsake->identity; /* the kernel's pages are of the same content */
    inode->remote.identity = keepsake->identity;
    inode->remote.confirmed_ms = 0;
    return true;
}

static void take_back(struct inode *inode, bool closed)
{
    struct keepsake *keepsake = NULL;

    lock_take(&inode->lock);
    bool followed = inode->keepsake && strcmp(inode->remote.key, inode->keepsake->key) == 0;
    if (closed ? !inode->opens : !followed) {
        keepsake = inode->keepsake;
        inode->keepsake = NULL;
    }
    lock_drop(&inode->lock);
    keepsake_drop(keepsake);
}

void keepsake_forgo(struct inode *inode)
{
    take_back(inode, false);
}

void keepsake_closed(struct inode *inode)
{
    take_back(inode, true);
}

/* ---- Of files that were unlinked while open. ---- */

static struct inode *find_due_locked(struct cache *cache, const char *key)
{
    struct inode *inode = veil_doomed_locked(&cache->names, key, NULL);

    if (!inode)
        return NULL;
    LOCK_SCOPED(&inode->lock);
    return needs_one_locked(inode) && strcmp(inode->remote.key, key) == 0 ? inode : NULL;
}

bool keepsake_is_due(struct cache *cache, const char *key)
{
    LOCK_SCOPED(&cache->names.lock);
    return find_due_locked(cache, key) != NULL;
}

int keepsake_take_unlinked(struct cache *cache, const char *key, struct waiter *waiter)
{
    for (;;) {
        lock_take(&cache->names.lock);
        struct inode *inode = find_due_locked(cache, key);
        if (inode)
            inode_ref(inode);
        lock_drop(&cache->names.lock);
        if (!inode)
            return 0;
        int rc = keepsake_take(inode, waiter);
        inode_unref(inode);
        if (rc < 0)
            return rc == -EINTR ? rc : 0;
    }
}

/* The unlink is on the disk first, as the deleter has it. */
int keepsake_make_way(struct cache *cache, const char *key, struct waiter *waiter)
{
    struct names *names = &cache->names;
    struct identity identity;

    lock_take(&names->lock);
    bool stands = names_doomed_version_locked(names, key, &identity);
    lock_drop(&names->lock);
    if (!stands || !waiter)
        return stands ? -EAGAIN : 0;
    int rc = keepsake_take_unlinked(cache, key, waiter);
    if (rc == 0 && cache->journal)
        rc = journal_flush(cache->journal, waiter);
    if (rc == 0)
        rc = server_delete(cache, "make way for a directory", key, &identity, waiter);
    if (rc < 0 && rc != -ESTALE) /* -ESTALE: it is another client's by now */
        return rc;
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&names->lock);
    names_undoom_locked(names, key, NULL, &aftermath);
    names_touched_key_locked(names, key); /* lists told of it until here, and it is hidden no more */
    return 0;
}
