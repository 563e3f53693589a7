/* Doomed objects (names.h): of files without a name. Hidden until the deleter has removed them, not before the last close. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "cache/aftermath.h"
#include "cache/deleter.h"
#include "cache/keepsake.h"
#include "cache/recording.h"
#include "cache/veil.h"

void names_doom_locked(struct inode *inode)
{
    assert(!inode->parent && list_empty(&inode->doomed));
    list_append(&inode->cache->names.doomed, &inode_ref(inode)->doomed);
    veil_update_locked(inode);
}

bool names_doomed_locked(struct names *names, const struct store_object *object)
{
    return veil_hides_locked(names, object);
}

bool names_doomed_version_locked(struct names *names, const char *key, struct identity *ret_identity)
{
    struct inode *inode = veil_doomed_locked(names, key, NULL);

    if (!inode)
        return false;
    LOCK_SCOPED(&inode->lock);
    *ret_identity = inode->remote.identity;
    return true;
}

size_t names_doomed_below_locked(struct names *names, const char *prefix)
{
    return veil_count_locked(names, prefix, STORE_LIST_MAX);
}

/* An upload of it runs, or may have ended, under another key: what that leaves is still to go. */
static bool is_sent_elsewhere_locked(const struct inode *inode, const char *key)
{
    const char *doubt = inode->busy_key ? inode->busy_key : inode->maybe_key;
    return doubt && strcmp(doubt, key) != 0;
}

static void forget_object_locked(struct inode *inode)
{
    free(inode->remote.key);
    inode->remote.key = NULL;
    inode->remote.exists = false;
    inode->remote.identity = (struct identity){0};
    recording_remote_locked(inode);
}

static void acquit_locked(struct inode *inode)
{
    inode->delete_at_release = false;
    recording_forget_locked(inode);
}

void names_undoom_locked(struct names *names, const char *key, const struct inode *but,
                         struct aftermath *aftermath)
{
    for (;;) {
        struct inode *inode = veil_doomed_locked(names, key, but);
        if (!inode)
            return;
        lock_take(&inode->lock);
        bool followed = keepsake_follow_locked(inode), more = is_sent_elsewhere_locked(inode, key);
        if (!more)
            acquit_locked(inode);
        else if (!followed)
            forget_object_locked(inode);
        lock_drop(&inode->lock);
        if (more)
            veil_update_locked(inode);
        else
            names_acquit_locked(inode, aftermath);
    }
}

void names_acquit_locked(struct inode *inode, struct aftermath *aftermath)
{
    deleter_drop_locked(inode);
    list_remove(&inode->doomed);
    veil_update_locked(inode);
    aftermath_unref(aftermath, inode);
}

/* In the journal before the inode says that it has another one: a crash in between leaves a delete that waits for the copy. */
struct inode *names_leave_locked(struct inode *inode, struct aftermath *aftermath)
{
    struct inode *left = inode_new(inode->cache, inode->type, 0);

    lock_take(&inode->lock);
    STRING_SCOPED *key = xstrdup(inode->remote.key);
    struct identity identity = inode->remote.identity;
    struct store_fields meta = {0};
    store_fields_copy(&meta, &inode->remote.meta);
    lock_drop(&inode->lock);

    lock_take(&left->lock);
    left->orphan = left->delete_at_release = left->remote.exists = true;
    left->remote.key = key;
    key = NULL;
    left->remote.identity = identity;
    left->remote.meta = meta;
    int rc = recording_doomed_locked(left);
    lock_drop(&left->lock);
    if (rc < 0)
        log_warn("%s is left under its old name by a crash that comes soon: the journal: %s",
                 left->remote.key, err_name(rc));
    names_doom_locked(left);
    deleter_add_locked(left);
    aftermath_unref(aftermath, left);
    return left;
}

void names_take_back_locked(struct inode *left, struct aftermath *aftermath)
{
    lock_take(&left->lock);
    acquit_locked(left);
    lock_drop(&left->lock);
    names_acquit_locked(left, aftermath);
}

/* Metadata of the object that stands there is kept, but for what is ours to say: of another file that had the name, no extended
 * attribute is. */
static void want_own_xattrs_locked(struct inode *inode)
{
    bool sent = inode->wanted.attribute_version == inode->remote.attribute_version;

    if (inode->type != S_IFREG || inode->wanted.xattrs || sent)
        return;
    inode->wanted.xattrs = xstrdup("");
    inode->record_debt = inode->record_debt || inode->recorded;
}

void names_take_object_locked(struct inode *inode, const char *key, const struct identity *identity)
{
    LOCK_SCOPED(&inode->lock);
    if (inode->remote.exists)
        return;
    inode->remote.exists = true;
    inode->remote.key = xstrdup(key);
    inode->remote.identity = *identity;
    inode->remote.headers_known = false;
    want_own_xattrs_locked(inode);
    recording_remote_locked(inode);
}

void names_inherit_locked(struct inode *inode, struct inode *old)
{
    struct identity identity;
    STRING_SCOPED *key = NULL;

    lock_take(&old->lock);
    if (old->remote.exists) {
        key = xstrdup(old->remote.key);
        identity = old->remote.identity;
    }
    lock_drop(&old->lock);
    if (key)
        names_take_object_locked(inode, key, &identity);
}

void names_delete_behind(struct inode *inode)
{
    struct names *names = &inode->cache->names;
    char *keys[2] = {NULL, NULL};

    lock_take(&names->lock);
    if (!list_empty(&inode->doomed)) {
        for (int i = 0; i < 2; i++)
            keys[i] = inode->veiled[i] ? xstrdup(inode->veiled[i]) : NULL;
        veil_update_locked(inode);
        deleter_add_locked(inode);
    }
    lock_drop(&names->lock);
    for (int i = 0; i < 2 && keys[i]; i++) {
        veil_release(inode->cache, keys[i], 0);
        free(keys[i]);
    }
}
