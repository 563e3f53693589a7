#include "cache/veil.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/content.h"
#include "cache/keepsake.h"
#include "cache/server.h"
#include "cache/uploader.h"

/* ---- The table. ---- */

static struct veil_key *find(struct names *names, const char *key)
{
    struct veil_key *found;
    assert(lock_held(&names->lock));
    HASH_FIND(by_key, names->veils, key, strlen(key), found);
    return found;
}

static void add(struct names *names, const char *key, struct inode *inode, bool any)
{
    struct veil_key *place = find(names, key);
    struct veil *veil = xcalloc(1, sizeof *veil);
    size_t length = strlen(key);

    if (!place) {
        place = xcalloc(1, sizeof *place + length + 1);
        memcpy(place->key, key, length + 1);
        HASH_ADD_KEYPTR(by_key, names->veils, place->key, length, place);
    }
    *veil = (struct veil){.inode = inode, .any = any};
    struct veil **at = &place->first;
    while (*at)
        at = &(*at)->next;
    *at = veil;
    inode->veiled[inode->veiled[0] != NULL] = place->key;
}

static void drop(struct names *names, const char *key, const struct inode *inode)
{
    struct veil_key *place = find(names, key);

    for (struct veil **at = &place->first; *at;) {
        struct veil *veil = *at;
        if (veil->inode != inode) {
            at = &veil->next;
            continue;
        }
        *at = veil->next;
        free(veil);
    }
    if (place->first)
        return;
    HASH_DELETE(by_key, names->veils, place);
    free(place);
}

/* ---- One inode. ---- */

/* The key at which an upload of it is at work, or may have been; NULL. */
static const char *doubtful_key_locked(const struct inode *inode)
{
    return inode->busy_key ? inode->busy_key : inode->maybe_key;
}

static bool differs(const char *key, const struct buf *wanted)
{
    return key && strcmp(key, wanted->bytes) != 0;
}

/* The key may be free: the upload that awaits it tries again. Who it is; NULL. */
static struct inode *wake_locked(struct names *names, const char *key)
{
    struct inode *user = names_find_path_locked(names, key + strlen(names->root->cache->prefix));

    gate_open(&names->turn);
    if (!user || !user->cache->uploader)
        return NULL;
    lock_take(&user->lock);
    bool waits = user->awaits_key;
    user->awaits_key = false;
    lock_drop(&user->lock);
    if (waits)
        uploader_poke(user);
    return waits ? user : NULL;
}

static void update_locked(struct inode *inode, char **ret_keys)
{
    struct names *names = &inode->cache->names;
    BUF_SCOPED wanted = BUF_INIT;
    bool doomed = !list_empty(&inode->doomed);
    bool named = !doomed && names_key_locked(inode, &wanted) == 0;
    LOCK_SCOPED(&inode->lock);
    const char *doubt = doubtful_key_locked(inode);
    if (!doomed && !(named && differs(doubt, &wanted)))
        doubt = NULL;
    inode->displaced = named && inode->remote.exists && differs(inode->remote.key, &wanted);
    if (named)
        content_arrived_locked(inode); /* renamed back, say */

    for (int i = 1; i >= 0; i--) {
        ret_keys[i] = inode->veiled[i] ? xstrdup(inode->veiled[i]) : NULL;
        if (inode->veiled[i])
            drop(names, inode->veiled[i], inode);
        inode->veiled[i] = NULL;
    }
    if (doubt)
        add(names, doubt, inode, true);
    bool away = (doomed && inode->remote.exists) || inode->displaced;
    if (away && (!doubt || strcmp(doubt, inode->remote.key) != 0))
        add(names, inode->remote.key, inode, false);
}

void veil_update_locked(struct inode *inode)
{
    char *keys[2];

    update_locked(inode, keys);
    for (int i = 0; i < 2; i++) {
        if (keys[i])
            wake_locked(&inode->cache->names, keys[i]);
        free(keys[i]);
    }
}

/* ---- Questions. ---- */

static bool is_version(struct inode *inode, const struct store_object *seen)
{
    LOCK_SCOPED(&inode->lock);
    const struct remote *remote = &inode->remote;

    return remote->exists && strcmp(remote->key, seen->key) == 0 &&
           server_is_version(seen, &remote->identity, store_fields_get(&remote->meta, SERVER_ID_FIELD));
}

/* Whatever stands there may be its own: not before an upload at its birth key has tried to complete it. */
static bool may_be_own(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return !inode->busy_at_birth || inode->replacing;
}

bool veil_hides_locked(struct names *names, const struct store_object *object)
{
    struct veil_key *place = find(names, object->key);

    for (struct veil *veil = place ? place->first : NULL; veil; veil = veil->next)
        if ((veil->any && may_be_own(veil->inode)) || is_version(veil->inode, object))
            return true;
    return false;
}

size_t veil_count_locked(struct names *names, const char *prefix, size_t max)
{
    size_t found = 0, length = strlen(prefix);

    for (struct veil_key *at = names->veils; at && found < max; at = at->by_key.next)
        found += strncmp(at->key, prefix, length) == 0;
    return found;
}

struct inode *veil_doomed_locked(struct names *names, const char *key, const struct inode *but)
{
    struct veil_key *place = find(names, key);
    struct inode *found = NULL;

    for (struct veil *veil = place ? place->first : NULL; veil; veil = veil->next)
        if (veil->inode != but && !veil->any && !list_empty(&veil->inode->doomed))
            found = veil->inode;
    return found;
}

int veil_look_below(struct cache *cache, const char *prefix, const char *token, const char *what,
                    struct waiter *waiter, bool *ret_shows)
{
    struct names *names = &cache->names;
    STRING_SCOPED *next = token ? xstrdup(token) : NULL;
    int rc;

    *ret_shows = false;
    do {
        struct store_call list = server_call(cache, STORE_LIST, NULL);
        lock_take(&names->lock);
        size_t hidden = veil_count_locked(names, prefix, STORE_LIST_MAX);
        lock_drop(&names->lock);
        list.prefix = prefix;
        list.token = next;
        list.max_keys = (int)(hidden < STORE_LIST_MAX ? hidden + 1 : STORE_LIST_MAX);
        rc = server_wait(cache, what, &list, 0, waiter);
        lock_take(&names->lock);
        for (size_t i = 0; rc == 0 && i < list.object_count && !*ret_shows; i++)
            *ret_shows = !veil_hides_locked(names, &list.objects[i]);
        lock_drop(&names->lock);
        free(next);
        next = rc == 0 ? list.next_token : NULL;
        if (next)
            list.next_token = NULL;
        store_call_release(&list);
    } while (rc == 0 && next && !*ret_shows);
    return rc;
}

/* It is named, and what it is to take along still stands there. */
static bool follows(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->displaced && !inode_conflicts_locked(inode);
}

struct inode *veil_displaced_locked(struct names *names, const char *key, const struct inode *but)
{
    struct veil_key *place = find(names, key);

    for (struct veil *veil = place ? place->first : NULL; veil; veil = veil->next)
        if (veil->inode != but && (veil->any ? veil->inode->parent != NULL : follows(veil->inode)))
            return veil->inode;
    return NULL;
}

static bool is_within(const char *key, const char *of, enum veil_scope scope)
{
    size_t length = strlen(of);

    if (strncmp(key, of, length) != 0)
        return false;
    return scope == VEIL_BELOW || (scope == VEIL_ENTRIES ? !strchr(key + length, '/') : !key[length]);
}

/* The first, or the next one. */
static struct veil_key *next_within(struct names *names, struct veil_key *after, const char *of,
                                    enum veil_scope scope)
{
    if (scope == VEIL_AT)
        return after ? NULL : find(names, of);
    struct veil_key *place = after ? after->by_key.next : names->veils;
    while (place && !is_within(place->key, of, scope))
        place = place->by_key.next;
    return place;
}

bool veil_displaced_within_locked(struct names *names, const char *of, enum veil_scope scope)
{
    for (struct veil_key *at = NULL; (at = next_within(names, at, of, scope));)
        if (!keepsake_is_key(names->root->cache, at->key) && veil_displaced_locked(names, at->key, NULL))
            return true;
    return false;
}

int veil_await_displaced(struct cache *cache, const char *of, enum veil_scope scope, struct waiter *waiter)
{
    struct names *names = &cache->names;
    int64_t deadline_ms = clock_ms() + cache->config.io_timeout_ms;
    LOCK_SCOPED(&names->lock);
    int rc = 0;

    while (rc == 0 && veil_displaced_within_locked(names, of, scope)) {
        if (!waiter)
            return -EAGAIN;
        veil_ask_back_locked(names, of, scope);
        rc = gate_wait_locked(&names->turn, &names->lock, waiter, deadline_ms);
    }
    return rc == -ETIMEDOUT ? -EIO : rc;
}

bool veil_held_locked(struct names *names, const char *key, const struct inode *inode)
{
    struct veil_key *place = find(names, key);

    for (struct veil *veil = place ? place->first : NULL; veil; veil = veil->next)
        if (veil->inode != inode && (veil->any || veil->inode->deleting || follows(veil->inode)))
            return true;
    return false;
}

static void ask_back(struct inode *inode)
{
    lock_take(&inode->lock);
    bool told = inode->busy_at_birth && !inode->birth_denied;
    if (told)
        inode->birth_denied = inode->rekeyed = true;
    lock_drop(&inode->lock);
    if (told)
        uploader_poke(inode);
}

void veil_ask_back_locked(struct names *names, const char *of, enum veil_scope scope)
{
    for (struct veil_key *at = NULL; (at = next_within(names, at, of, scope));)
        for (struct veil *veil = at->first; veil; veil = veil->next)
            if (veil->any)
                ask_back(veil->inode);
}

/* No name here, nor a file where one of its directories was: what is not known is the server's to say, by the conditions of Complete. */
static bool is_unused_locked(struct names *names, const char *key)
{
    struct inode *inode = names->root;
    const char *rest = key + strlen(names->root->cache->prefix), *slash;

    for (; (slash = strchr(rest, '/')); rest = slash + 1) {
        STRING_SCOPED *name = xstrndup(rest, (size_t)(slash - rest));
        inode = names_find_locked(names, inode, name);
        if (!inode || inode->type != S_IFDIR)
            return !inode;
    }
    return !names_find_locked(names, inode, rest);
}

/* Nobody else has, or had, anything to do with that key: not another file of this name, nor what is hidden there. */
static bool is_free_locked(struct names *names, const struct inode *inode, const char *key)
{
    struct veil_key *place = find(names, key);

    for (struct veil *veil = place ? place->first : NULL; veil; veil = veil->next)
        if (veil->inode != inode)
            return false;
    return is_unused_locked(names, key);
}

int veil_claim(struct inode *inode, const char *birth, struct buf *ret_key)
{
    struct names *names = &inode->cache->names;
    LOCK_SCOPED(&names->lock);
    int rc = names_key_locked(inode, ret_key);

    if (rc < 0)
        return rc;
    bool renamed = birth && strcmp(birth, ret_key->bytes) != 0;
    bool stays = renamed && is_free_locked(names, inode, birth);
    lock_take(&inode->lock);
    inode->birth_denied = inode->birth_denied && renamed;
    stays = stays && !inode->birth_denied && !inode->maybe_key;
    const char *key = inode->maybe_key ? inode->maybe_key : stays ? birth : NULL;
    if (key) {
        buf_reset(ret_key);
        buf_add_string(ret_key, key);
    }
    lock_drop(&inode->lock);
    bool held = veil_held_locked(names, ret_key->bytes, inode);
    if (held)
        veil_ask_back_locked(names, ret_key->bytes, VEIL_AT);
    lock_take(&inode->lock);
    inode->awaits_key = held;
    assert(held || (inode->upload_busy && !inode->busy_key));
    inode->busy_key = held ? NULL : xstrdup(ret_key->bytes);
    inode->busy_at_birth = stays && !held;
    lock_drop(&inode->lock);
    if (stays)
        veil_update_locked(inode);
    return held ? -EAGAIN : 0;
}

void veil_rest(struct inode *inode)
{
    LOCK_SCOPED(&inode->cache->names.lock);

    if (inode->parent && inode->veiled[0])
        veil_update_locked(inode);
}

void veil_release(struct cache *cache, const char *key, int rc)
{
    struct names *names = &cache->names;
    AFTERMATH_SCOPED(aftermath, cache);

    lock_take(&names->lock);
    struct inode *user = wake_locked(names, key);
    if (user)
        inode_ref(user);
    lock_drop(&names->lock);
    if (user && rc < 0)
        uploader_answer(user, -EIO);
    if (user)
        aftermath_unref(&aftermath, user);
}
