/* Renaming a directory at once (rename.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/batch.h"
#include "cache/keepsake.h"
#include "cache/marker.h"
#include "cache/observed.h"
#include "cache/overlay.h"
#include "cache/recording.h"
#include "cache/rename.h"
#include "cache/server.h"
#include "cache/uploader.h"
#include "cache/veil.h"

#define LOOKS_MAX 5 /* at one page that changes under the eyes */

/* ---- All that stands below comes into the tree. ---- */

struct look {
    struct cache *cache;
    struct inode *directory;
    const char *from; /* "p/a/" */
    size_t count;
    int64_t started_ms;
    struct store_call list;
    struct store_call *heads; /* of objects that were listed without their metadata */
    struct aftermath *aftermath;
};

/* A key that is no name here: nobody takes it along but the copies of rename_tree.c. */
#define NO_NAME (-EXDEV)

/* The directory of this name: as good as known when its marker did not come before what is in it. */
static struct inode *take_directory_locked(struct look *look, struct inode *parent, const char *name,
                                           const struct store_object *marker)
{
    struct names *names = &look->cache->names;
    struct inode *inode = names_find_locked(names, parent, name);
    struct observed observed = {
        .type = S_IFDIR, .object = marker, .attributes_known = true, .started_ms = look->started_ms};

    if (inode && inode->type != S_IFDIR)
        return NULL;
    if (inode && !marker) {
        LOCK_SCOPED(&inode->lock);
        if (inode->attributes_known)
            return inode;
    }
    inode = observed_apply_locked(look->cache, parent, name, &observed, look->aftermath);
    return inode && inode->type == S_IFDIR ? inode : NULL;
}

/* What stands there is not what it was made over: it was to be made over nothing. */
static bool is_exclusive(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->exclusive;
}

static int take_file_locked(struct look *look, struct inode *parent, const char *name,
                            const struct store_object *object)
{
    struct inode *inode = names_find_locked(&look->cache->names, parent, name);
    struct observed observed = observed_file(look->cache, object, look->started_ms);
    struct identity identity;

    if (inode && inode->type == S_IFDIR)
        return NO_NAME;
    inode = observed_apply_locked(look->cache, parent, name, &observed, look->aftermath);
    server_identity(object, &identity);
    if (inode && inode->type == observed.type && !is_exclusive(inode))
        names_take_object_locked(inode, object->key, &identity); /* made here over one that nobody knew */
    return inode ? 0 : NO_NAME;
}

static int take_object_locked(struct look *look, const struct store_object *object)
{
    struct inode *parent = look->directory;
    const char *rest = object->key + strlen(look->from), *slash;

    if (names_doomed_locked(&look->cache->names, object))
        return 0; /* gone, or gone on: it follows its own way */
    if (!*rest)
        return take_directory_locked(look, parent->parent, parent->name, object) == parent ? 0 : NO_NAME;
    for (; (slash = strchr(rest, '/')); rest = slash + 1) {
        STRING_SCOPED *name = xstrndup(rest, (size_t)(slash - rest));
        if (names_check(name) < 0)
            return NO_NAME;
        parent = take_directory_locked(look, parent, name, slash[1] ? NULL : object);
        if (!parent)
            return NO_NAME;
        if (!slash[1])
            return 0;
    }
    if (names_check(rest) < 0)
        return NO_NAME;
    return take_file_locked(look, parent, rest, object);
}

static int ask_heads(struct look *look, struct waiter *waiter)
{
    struct store_call *list = &look->list;
    size_t count = 0;

    look->heads = xcalloc(list->object_count + 1, sizeof *look->heads);
    for (size_t i = 0; i < list->object_count; i++)
        if (!list->objects[i].meta_known && !look->cache->config.list_attributes_only)
            look->heads[count++] = server_call(look->cache, STORE_HEAD, list->objects[i].key);
    int rc = count ? batch_run(look->cache->config.store, look->heads, count, NULL, waiter) : 0;
    for (size_t i = 0; i < count; i++) {
        int one = rc == 0 ? server_settle(look->cache, "rename", &look->heads[i], -ENOENT) : rc;
        rc = one < 0 && one != -ENOENT ? one : rc;
    }
    return rc;
}

static void release_heads(struct look *look)
{
    for (size_t i = 0; look->heads && look->heads[i].op; i++)
        store_call_release(&look->heads[i]);
    free(look->heads);
    look->heads = NULL;
}

static int take_page_locked(struct look *look)
{
    const struct store_call *list = &look->list, *head = look->heads;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < list->object_count; i++) {
        const struct store_object *object = &list->objects[i];
        if (head->op && strcmp(head->key, object->key) == 0) {
            object = head->rc == 0 ? &head->object : NULL; /* gone meanwhile */
            head++;
        }
        if (object)
            rc = take_object_locked(look, object);
    }
    return rc;
}

/* One page; 1: something changed below while it was on its way. */
static int look_once(struct look *look, const char *token, struct waiter *waiter)
{
    struct names *names = &look->cache->names;
    struct names_watch watch;
    AFTERMATH_SCOPED(aftermath, look->cache);

    look->aftermath = &aftermath;
    look->started_ms = clock_ms();
    look->list = server_call(look->cache, STORE_LIST, NULL);
    look->list.prefix = look->from;
    look->list.token = token;
    lock_take(&names->lock);
    names_watch_below_locked(names, &watch, look->directory);
    lock_drop(&names->lock);
    int rc = server_wait(look->cache, "rename", &look->list, 0, waiter);
    if (rc == 0)
        rc = ask_heads(look, waiter);
    lock_take(&names->lock);
    if (rc == 0)
        rc = watch.all ? 1 : take_page_locked(look);
    names_unwatch_locked(&watch);
    lock_drop(&names->lock);
    release_heads(look);
    return rc;
}

/* Into the tree comes all that is below; -EXDEV: it is too much, or of a kind, that it must be copied while the caller waits. */
static int look_at_all(struct look *look, struct waiter *waiter)
{
    STRING_SCOPED *token = NULL;
    int rc, tries = 0;

    do {
        rc = look_once(look, token, waiter);
        if (rc == 0) {
            free(token);
            token = look->list.next_token;
            look->list.next_token = NULL;
            look->count += look->list.object_count;
            tries = 0;
        }
        store_call_release(&look->list);
        if (rc == 1 && ++tries < LOOKS_MAX)
            rc = 0;
        else if (rc == 0 && !token)
            return 0;
    } while (rc == 0 && look->count <= overlay_room(look->cache->overlay));
    return rc < 0 ? rc : -EXDEV;
}

/* ---- The edge. ---- */

/* What it has in the bucket, or may have: that is all that a crash must not forget. */
static bool has_object_locked(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->remote.exists || inode->upload_busy || inode->maybe_key;
}

static int open_accounts_locked(struct inode *inode)
{
    int rc = has_object_locked(inode) ? rename_open_account_locked(inode) : 0;

    list_for_each (at, &inode->children) {
        if (rc < 0)
            break;
        rc = open_accounts_locked(container_of(at, struct inode, sibling));
    }
    return rc;
}

static bool fits_locked(const struct inode *inode, ssize_t growth)
{
    BUF_SCOPED key = BUF_INIT;

    if (names_key_locked(inode, &key) < 0 || (ssize_t)key.length + growth > STORE_KEY_MAX)
        return false;
    list_for_each (at, &inode->children) {
        if (!fits_locked(container_of(at, struct inode, sibling), growth))
            return false;
    }
    return true;
}

void rename_displace_below_locked(struct inode *inode)
{
    rename_displace_locked(inode);
    uploader_poke(inode);
    list_for_each (at, &inode->children)
        rename_displace_below_locked(container_of(at, struct inode, sibling));
}

static int record_locked(struct rename *rename, struct inode *target, bool empty)
{
    struct inode *inode = rename->inode;
    int rc = 0;

    if (empty)
        rc = marker_want_locked(inode); /* it has nothing that would let it stand */
    if (rc == 0)
        rc = open_accounts_locked(inode);
    if (rc == 0)
        rc = rename_open_account_locked(target);
    if (rc == 0)
        rc = recording_moved_locked(inode, rename->to_parent, rename->to_name, target);
    return rc;
}

static bool is_empty_locked(struct inode *inode)
{
    return list_empty(&inode->children) && !has_object_locked(inode);
}

static int check_locked(const struct rename *rename, struct inode *target)
{
    struct names *names = &rename->cache->names;
    BUF_SCOPED from = BUF_INIT;
    int rc = names_key_locked(rename->inode, &from);

    if (rc < 0)
        return rc;
    if (target && (rename_unsent_in_locked(target) || asking_below_locked(names, target)))
        return -ENOTEMPTY;
    ssize_t growth = (ssize_t)rename->to_key.length + 1 - (ssize_t)from.length;
    return fits_locked(rename->inode, growth) ? 0 : -ENAMETOOLONG;
}

/* Nobody is to need what stands where ours goes: no circle comes to be. */
static int await_keys_locked(struct rename *rename, const char *to, struct waiter *waiter)
{
    struct names *names = &rename->cache->names;
    int64_t deadline_ms = clock_ms() + rename->cache->config.io_timeout_ms;
    int rc = 0;

    while (rc == 0 && veil_displaced_within_locked(names, to, VEIL_BELOW)) {
        veil_ask_back_locked(names, to, VEIL_BELOW);
        rc = gate_wait_locked(&names->turn, &names->lock, waiter, deadline_ms);
    }
    return rc == -ETIMEDOUT ? -EIO : rc;
}

static int move_tree(struct rename *rename, const char *to, struct waiter *waiter)
{
    struct names *names = &rename->cache->names;
    struct inode *inode = rename->inode;
    AFTERMATH_SCOPED(aftermath, rename->cache);
    LOCK_SCOPED(&names->lock);
    int rc = await_keys_locked(rename, to, waiter);
    struct inode *target = names_find_locked(names, rename->to_parent, rename->to_name);

    if (rc == 0)
        rc = check_locked(rename, target);
    if (rc == 0)
        rc = record_locked(rename, target, is_empty_locked(inode));
    if (rc < 0)
        return rc;
    if (rename->from_parent != rename->to_parent)
        marker_keep_behind_locked(rename->from_parent, inode);
    if (target && change_doom_locked(target, true, &aftermath) < 0)
        names_orphan_locked(target, false, &aftermath); /* the journal has said it already */
    names_move_locked(inode, rename->to_parent, rename->to_name, &aftermath);
    rename_displace_below_locked(inode);
    rename_touch_locked(rename);
    names_set_absent_locked(names, rename->from_parent, rename->from_name, clock_ms());
    return 0;
}

int rename_tree_behind(struct rename *rename, const char *from, const char *to, struct waiter *waiter)
{
    struct look look = {.cache = rename->cache, .directory = rename->inode, .from = from};
    int rc = look_at_all(&look, waiter);

    if (rc == 0)
        rc = move_tree(rename, to, waiter);
    if (rc == 0 && rename->target)
        uploader_poke(rename->target);
    return rc;
}
