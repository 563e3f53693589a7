/* Renaming a directory with all below it (rename.h). */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/batch.h"
#include "cache/copying.h"
#include "cache/forest.h"
#include "cache/lookup.h"
#include "cache/marker.h"
#include "cache/observed.h"
#include "cache/recording.h"
#include "cache/rename.h"
#include "cache/server.h"
#include "cache/settling.h"
#include "cache/veil.h"

struct moved_key {
    char *key; /* the old one */
    struct identity from, to;
    bool tried;  /* a copy may stand under the new key */
    bool copied; /* it does, and `to` is what it is */
};

struct tree {
    struct rename *rename;
    struct buf from, to;    /* "p/a/", "p/b/" */
    struct moved_key *keys; /* in the order of keys */
    size_t count, room;
    struct inode **held; /* references; their uploads rest */
    size_t held_count, held_room;
    bool target_marker; /* "p/b/" stood there before */
    int64_t started_ms;
};

static char *new_key(const struct tree *tree, const char *key)
{
    return xprintf("%s%s", tree->to.bytes, key + tree->from.length);
}

static void release_tree(struct tree *tree)
{
    for (size_t i = 0; i < tree->count; i++)
        free(tree->keys[i].key);
    for (size_t i = 0; i < tree->held_count; i++)
        inode_unref(tree->held[i]);
    free(tree->keys);
    free(tree->held);
    buf_release(&tree->from);
    buf_release(&tree->to);
}

/* ---- Holding what is below. ---- */

static void add_held(struct tree *tree, struct inode *inode)
{
    if (tree->held_count == tree->held_room) {
        tree->held_room = tree->held_room ? tree->held_room * 2 : 16;
        tree->held = xrealloc(tree->held, tree->held_room * sizeof(*tree->held));
    }
    tree->held[tree->held_count++] = inode_ref(inode);
}

static void collect_locked(struct tree *tree, struct inode *inode)
{
    if (inode->type != S_IFDIR) {
        lock_take(&inode->lock);
        bool live = inode_dirty_locked(inode) || inode->opens || inode->upload;
        lock_drop(&inode->lock);
        if (live)
            add_held(tree, inode);
    }
    list_for_each (at, &inode->children)
        collect_locked(tree, container_of(at, struct inode, sibling));
}

static void unhold_all(struct tree *tree, size_t count)
{
    for (size_t i = 0; i < count; i++)
        upload_unhold(tree->held[i]);
}

static int hold_all(struct tree *tree, struct waiter *waiter)
{
    struct names *names = &tree->rename->cache->names;

    lock_take(&names->lock);
    collect_locked(tree, tree->rename->inode);
    lock_drop(&names->lock);
    for (size_t i = 0; i < tree->held_count; i++) {
        int rc = settling_hold(tree->held[i], "rename", waiter);
        if (rc < 0) {
            unhold_all(tree, i);
            return rc;
        }
    }
    return 0;
}

/* ---- The copies. ---- */

static int add_keys(struct tree *tree, const struct store_call *list)
{
    if (tree->count + list->object_count > RENAME_KEYS_MAX) {
        log_warn("rename: more than %zu objects below %s: returned EXDEV", RENAME_KEYS_MAX, tree->from.bytes);
        return -EXDEV;
    }
    if (tree->count + list->object_count > tree->room) {
        tree->room = (tree->count + list->object_count) * 2;
        tree->keys = xrealloc(tree->keys, tree->room * sizeof(*tree->keys));
    }
    for (size_t i = 0; i < list->object_count; i++) {
        const struct store_object *object = &list->objects[i];
        struct moved_key *moved = &tree->keys[tree->count];
        if (strlen(object->key) - tree->from.length + tree->to.length > STORE_KEY_MAX)
            return -ENAMETOOLONG;
        *moved = (struct moved_key){.key = xstrdup(object->key)};
        server_identity(object, &moved->from);
        tree->count++;
    }
    return 0;
}

/* All keys below, also hidden ones; before the first copy, so that a name too long for its new place is found early. */
static int list_keys(struct tree *tree, struct waiter *waiter)
{
    STRING_SCOPED *token = NULL;
    int rc = 0;

    do {
        struct store_call list = server_call(tree->rename->cache, STORE_LIST, NULL);
        list.prefix = tree->from.bytes;
        list.token = token;
        rc = server_wait(tree->rename->cache, "rename", &list, 0, waiter);
        if (rc == 0)
            rc = add_keys(tree, &list);
        free(token);
        token = list.next_token;
        list.next_token = NULL;
        store_call_release(&list);
    } while (rc == 0 && token);
    return rc;
}

static int note_copy(struct moved_key *moved, const struct copying *copying, int rc)
{
    moved->copied = rc == 0;
    moved->tried = rc == 0 || copying->maybe;
    moved->to = copying->to;
    return rc == -ENOENT ? -ESTALE : rc; /* gone since it was listed */
}

/* The small ones at once, the large ones one after the other; each only of the version that was listed. */
static int run_copies(struct tree *tree, struct moved_key *keys, struct copying *copyings, size_t count,
                      struct waiter *waiter)
{
    struct store_call *calls = xcalloc(count, sizeof(*calls));
    size_t *which = xcalloc(count, sizeof(*which)), small = 0;
    int rc;

    for (size_t i = 0; i < count; i++)
        if (!copying_is_large(&copyings[i])) {
            copying_prepare(&copyings[i], &calls[small]);
            which[small++] = i;
        }
    rc = batch_run(tree->rename->cache->config.store, calls, small, NULL, waiter);
    for (size_t i = 0; i < small; i++) {
        bool begun = calls[i].rc != -ECANCELED || calls[i].unknown;
        bool silent =
            rc == -EIO && calls[i].unknown; /* who did not answer for one is not asked for the next */
        if (silent)
            copyings[which[i]].maybe = true;
        int one = silent ? -EIO : begun ? copying_heard(&copyings[which[i]], &calls[i], waiter) : -EINTR;
        one = note_copy(&keys[which[i]], &copyings[which[i]], one);
        rc = rc < 0 ? rc : one;
    }
    for (size_t i = 0; rc == 0 && i < count; i++)
        if (copying_is_large(&copyings[i]))
            rc = note_copy(&keys[i], &copyings[i], copying_run(&copyings[i], waiter));
    batch_release(calls, small);
    free(calls);
    free(which);
    return rc;
}

static int copy_some(struct tree *tree, struct moved_key *keys, size_t count, struct waiter *waiter)
{
    struct copying *copyings = xcalloc(count, sizeof(*copyings));
    char **targets = xcalloc(count, sizeof(*targets));

    for (size_t i = 0; i < count; i++) {
        targets[i] = new_key(tree, keys[i].key);
        copyings[i] = (struct copying){.cache = tree->rename->cache,
                                       .what = "rename",
                                       .source_key = keys[i].key,
                                       .source = &keys[i].from,
                                       .key = targets[i]};
    }
    int rc = run_copies(tree, keys, copyings, count, waiter);
    for (size_t i = 0; i < count; i++)
        free(targets[i]);
    free(targets);
    free(copyings);
    return rc;
}

#define COPIES_AT_ONCE ((size_t)64) /* keys of one batch; after each one a failure is seen */

static int copy_all(struct tree *tree, struct waiter *waiter)
{
    int rc = 0;

    for (size_t at = 0; rc == 0 && at < tree->count; at += COPIES_AT_ONCE) {
        size_t left = tree->count - at;
        rc = copy_some(tree, &tree->keys[at], left < COPIES_AT_ONCE ? left : COPIES_AT_ONCE, waiter);
    }
    return rc;
}

static struct moved_key *find_moved(const struct tree *tree, const char *key)
{
    size_t low = 0, high = tree->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(key, tree->keys[middle].key);
        if (order == 0)
            return &tree->keys[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- Many deletes. ---- */

static int delete_keys(struct cache *cache, const char *what, char **keys, size_t count, int64_t patience_ms,
                       struct waiter *waiter)
{
    int rc = 0;

    for (size_t at = 0; rc == 0 && at < count; at += STORE_LIST_MAX) {
        struct store_call call = server_call(cache, STORE_DELETE_MANY, NULL);
        call.keys = (const char *const *)&keys[at];
        call.patience_ms = patience_ms;
        call.key_count = count - at < STORE_LIST_MAX ? count - at : STORE_LIST_MAX;
        rc = server_wait(cache, what, &call, 0, waiter);
        for (size_t i = 0; rc == 0 && i < call.failure_count; i++)
            if (call.failures[i].rc != -ENOENT) {
                log_error("%s: DELETE_MANY: %zu keys failed, the first one is %s: %s %s", what,
                          call.failure_count, call.failures[i].key, err_name(call.failures[i].rc),
                          call.failures[i].code);
                rc = call.failures[i].rc;
            }
        store_call_release(&call);
    }
    return rc;
}

/* One page of what stands under the old name, from `*place` on: what was copied goes; what another client wrote there
 * since is left out. *place is NULL after the last page. */
static int delete_page(struct tree *tree, char **place, size_t *ret_left, struct waiter *waiter)
{
    struct cache *cache = tree->rename->cache;
    struct store_call list = server_call(cache, STORE_LIST, NULL);
    char *keys[STORE_LIST_MAX], *last = NULL;
    size_t count = 0;

    list.prefix = tree->from.bytes;
    list.start_after = *place;
    int rc = server_wait(cache, "rename", &list, 0, waiter);
    for (size_t i = 0; rc == 0 && i < list.object_count; i++) {
        struct moved_key *moved = find_moved(tree, list.objects[i].key);
        struct identity now;
        server_identity(&list.objects[i], &now);
        if (moved && identity_equal(&moved->from, &now))
            keys[count++] = moved->key;
        else
            ++*ret_left;
    }
    if (rc == 0 && list.next_token && list.object_count)
        last = xstrdup(list.objects[list.object_count - 1].key);
    store_call_release(&list);
    if (rc == 0)
        rc = delete_keys(cache, "rename: remove the old names", keys, count, cache->config.io_timeout_ms,
                         waiter);
    free(*place);
    *place = last;
    return rc;
}

/* `ret_left`: keys of other clients that stay under the old name. */
static int delete_old(struct tree *tree, size_t *ret_left, struct waiter *waiter)
{
    STRING_SCOPED *place = NULL;
    int rc;

    *ret_left = 0;
    do {
        rc = delete_page(tree, &place, ret_left, waiter);
    } while (rc == 0 && place);
    lock_take(&tree->rename->cache->names.lock);
    forest_clear_locked(tree->rename->cache); /* what was asked for until here tells of it */
    lock_drop(&tree->rename->cache->names.lock);
    if (*ret_left)
        log_warn(
            "rename of %s to %s: %zu keys were written there by another client meanwhile: kept under the "
            "old name",
            tree->from.bytes, tree->to.bytes, *ret_left);
    return rc;
}

#define UNDO_PATIENCE_MS                                                                                     \
    1000 /* after an interrupt, or for a server that was silent: nobody waits long once more */

/* The copies go, and the old tree stays as it was. Not the marker of an empty directory that stood there before. */
static void remove_copies(struct tree *tree, bool soon)
{
    struct rename *rename = tree->rename;
    struct cache *cache = rename->cache;
    char **keys = xcalloc(tree->count + 1, sizeof(*keys));
    size_t count = 0;
    WAITER_SCOPED(waiter);
    int rc;

    for (size_t i = 0; i < tree->count; i++) {
        bool marker = tree->keys[i].key[tree->from.length] == '\0';
        if (tree->keys[i].tried && !(marker && tree->target_marker))
            keys[count++] = new_key(tree, tree->keys[i].key);
    }
    rc = delete_keys(cache, "rename: remove the copies of a failed one", keys, count,
                     soon ? UNDO_PATIENCE_MS : cache->config.io_timeout_ms, &waiter);
    lock_take(&cache->names.lock);
    names_touched_locked(&cache->names, rename->to_parent,
                         rename->to_name); /* lists told of them until here */
    if (rc < 0)
        names_doubt_locked(&cache->names, rename->to_parent, rename->to_name);
    lock_drop(&cache->names.lock);
    if (count)
        log_warn("rename of %s to %s failed: %zu copies %s; the old directory is whole", tree->from.bytes,
                 tree->to.bytes, count, rc < 0 ? "are left under the new name" : "were removed again");
    for (size_t i = 0; i < count; i++)
        free(keys[i]);
    free(keys);
}

/* ---- The tree. ---- */

static bool is_held(const struct tree *tree, const struct inode *inode)
{
    for (size_t i = 0; i < tree->held_count; i++)
        if (tree->held[i] == inode)
            return true;
    return false;
}

/* Sent since we began, or being sent: a file that was opened and written while its directory moved. */
static bool sent_meanwhile_locked(const struct tree *tree, const struct inode *inode)
{
    const struct moved_key *moved = inode->remote.exists ? find_moved(tree, inode->remote.key) : NULL;

    if (inode->type == S_IFDIR)
        return false;
    if (inode->upload_busy || inode->maybe_key)
        return !is_held(tree, inode);
    return moved && inode->remote.confirmed_ms >= tree->started_ms &&
           !identity_equal(&moved->from, &inode->remote.identity);
}

static bool changed_below_locked(const struct tree *tree, struct inode *inode)
{
    lock_take(&inode->lock);
    bool changed = sent_meanwhile_locked(tree, inode);
    lock_drop(&inode->lock);
    if (changed)
        return true;
    list_for_each (at, &inode->children) {
        if (changed_below_locked(tree, container_of(at, struct inode, sibling)))
            return true;
    }
    return false;
}

/* The object of this inode has another key now; where it was not copied, whoever asks next asks the server. */
static void follow(const struct tree *tree, struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    struct remote *remote = &inode->remote;

    if (!remote->key || strncmp(remote->key, tree->from.bytes, tree->from.length) != 0)
        return;
    const struct moved_key *moved = find_moved(tree, remote->key);
    char *key = new_key(tree, remote->key);
    free(remote->key);
    remote->key = key;
    if (moved && moved->copied && identity_equal(&moved->from, &remote->identity)) {
        if (identity_equal(&inode->cached_identity, &remote->identity))
            inode->cached_identity = moved->to;
        remote->identity = moved->to;
        remote->confirmed_ms = clock_ms();
    } else {
        remote->confirmed_ms = 0;
    }
    recording_remote_locked(inode);
}

static void follow_below_locked(const struct tree *tree, struct inode *inode)
{
    follow(tree, inode);
    list_for_each (at, &inode->children)
        follow_below_locked(tree, container_of(at, struct inode, sibling));
}

/* Copies went over objects that were doomed under the new name. */
static void undoom_copied_locked(struct tree *tree, struct aftermath *aftermath)
{
    struct names *names = &tree->rename->cache->names;

    if (!names_doomed_below_locked(names, tree->to.bytes))
        return;
    for (size_t i = 0; i < tree->count; i++) {
        STRING_SCOPED *key = new_key(tree, tree->keys[i].key);
        names_undoom_locked(names, key, NULL, aftermath);
    }
}

static int change_tree(struct tree *tree)
{
    struct rename *rename = tree->rename;
    struct names *names = &rename->cache->names;
    AFTERMATH_SCOPED(aftermath, rename->cache);
    LOCK_SCOPED(&names->lock);
    struct inode *target = names_find_locked(names, rename->to_parent, rename->to_name);

    if (target && (rename_unsent_in_locked(target) || asking_below_locked(names, target)))
        return -ENOTEMPTY;
    if (changed_below_locked(tree, rename->inode)) {
        log_warn("rename of %s: a file below was sent meanwhile: returned EBUSY", tree->from.bytes);
        return -EBUSY;
    }
    int rc = rename_edge_locked(rename, &aftermath);
    if (rc < 0)
        return rc;
    undoom_copied_locked(tree, &aftermath);
    follow_below_locked(tree, rename->inode);
    list_for_each (at, &names->doomed) {
        struct inode *doomed = container_of(at, struct inode, doomed);
        follow(tree, doomed);
        veil_update_locked(doomed);
    }
    return 0;
}

/* ---- All of it. ---- */

bool rename_unsent_in_locked(struct inode *directory)
{
    list_for_each (at, &directory->children) {
        if (observed_unsent_below_locked(container_of(at, struct inode, sibling)))
            return true;
    }
    return false;
}

static int check_target(struct tree *tree, struct waiter *waiter)
{
    struct inode *target = tree->rename->target;

    return target ? change_check_empty(target, "rename", tree->to.bytes, &tree->target_marker, waiter) : 0;
}

/* An empty directory without a marker has no key to copy. */
static int keep_empty(struct tree *tree, struct waiter *waiter)
{
    return tree->count ? 0 : marker_write(tree->rename->inode, "rename", waiter);
}

static int move_all(struct tree *tree, struct waiter *waiter)
{
    struct rename *rename = tree->rename;
    size_t left;
    int rc;

    tree->started_ms = clock_ms();
    rc = list_keys(tree, waiter);

    if (rc == 0 && !tree->count) {
        rc = keep_empty(tree, waiter);
        if (rc == 0)
            rc = list_keys(tree, waiter);
    }
    if (rc == 0 && rename->from_parent != rename->to_parent)
        rc = marker_keep(rename->from_parent, rename->inode, waiter);
    if (rc == 0)
        rc = copy_all(tree, waiter);
    if (rc == 0)
        rc = change_tree(tree);
    if (rc < 0) {
        remove_copies(tree, rc == -EINTR || rc == -EIO);
        return rc;
    }
    rc = delete_old(tree, &left, waiter);
    if (rc < 0 || left) { /* what is left stands under the old name, whole; the new one has all that we had */
        LOCK_SCOPED(&rename->cache->names.lock);
        names_doubt_locked(&rename->cache->names, rename->from_parent, rename->from_name);
    }
    return rc;
}

/* Nothing that is still to be deleted, or to follow its name, is below either of them. */
static int await_others(const struct tree *tree, struct waiter *waiter)
{
    const struct rename *rename = tree->rename;
    struct cache *cache = rename->cache;
    int rc = change_await_deletes(cache, rename->from_parent, rename->from_name, true, waiter);

    if (rc == 0)
        rc = change_await_deletes(cache, rename->to_parent, rename->to_name, true, waiter);
    if (rc == 0)
        rc = veil_await_displaced(cache, tree->from.bytes, VEIL_BELOW, waiter);
    if (rc == 0)
        rc = veil_await_displaced(cache, tree->to.bytes, VEIL_BELOW, waiter);
    return rc;
}

static int rename_now(struct tree *tree, struct waiter *waiter)
{
    struct names *names = &tree->rename->cache->names;
    int rc = await_others(tree, waiter);

    if (rc == 0)
        rc = hold_all(tree, waiter);
    if (rc < 0)
        return rc;
    rc = move_all(tree, waiter);
    unhold_all(tree, tree->held_count);
    if (rc == 0 && change_goes_behind(tree->rename->cache)) {
        LOCK_SCOPED(&names->lock);
        rename_displace_below_locked(tree->rename->inode);
    }
    return rc;
}

int rename_directory(struct rename *rename, struct waiter *waiter)
{
    struct names *names = &rename->cache->names;
    struct tree tree = {.rename = rename, .from = BUF_INIT, .to = BUF_INIT};
    int rc;

    lock_take(&names->lock);
    rc = asking_wait_below_locked(names, rename->inode, rename->marks, 2, waiter);
    if (rc == 0 && rename->frozen)
        rc = asking_wait_below_locked(names, rename->frozen, rename->marks, 2, waiter);
    if (rc == 0)
        rc = names_key_locked(rename->inode, &tree.from);
    lock_drop(&names->lock);
    buf_printf(&tree.to, "%s/", rename->to_key.bytes);
    if (rc == 0 && tree.to.length > STORE_KEY_MAX)
        rc = -ENAMETOOLONG;
    if (rc == 0)
        rc = check_target(&tree, waiter);
    if (rc == 0)
        rc = change_goes_behind(rename->cache)
                 ? rename_tree_behind(rename, tree.from.bytes, tree.to.bytes, waiter)
                 : -EXDEV;
    if (rc == -EXDEV)
        rc = rename_now(&tree, waiter);
    release_tree(&tree);
    return rc;
}
