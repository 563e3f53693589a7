#include "cache/names.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "cache/aftermath.h"
#include "cache/content.h"
#include "cache/forest.h"
#include "cache/keepsake.h"
#include "cache/recall.h"
#include "cache/recording.h"
#include "cache/veil.h"

#define ROOT_NUMBER 1
#define NAME_COST                                                                                            \
    704 /* of the hash tables, the key and the metadata of its object, and malloc's part, about */
#define FORGET_MAX  8  /* inodes forgotten to make room for one */
#define FORGET_LOOK 16 /* inodes looked at for that: the newest is not among them for a while */
#define FORGET_ASK  4  /* ... and names that the kernel is asked to forget */
#define TOUCHED_MAX 4096

/* ---- Numbers. ---- */

static uint64_t hash_bytes(uint64_t seed, const char *bytes, size_t length)
{
    uint64_t hash = seed ^ UINT64_C(0xcbf29ce484222325); /* FNV-1a, then a finish that spreads short names */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    hash ^= hash >> 32;
    hash *= UINT64_C(0xd6e8feb86659fd93);
    return hash ^ hash >> 32;
}

uint64_t names_number(const struct inode *parent, const char *name)
{
    uint64_t number = hash_bytes(parent->number * UINT64_C(0x9e3779b97f4a7c15), name, strlen(name));
    return number > ROOT_NUMBER ? number : number + 2;
}

static struct inode *find_number_locked(struct names *names, uint64_t number)
{
    struct inode *inode;
    HASH_FIND(by_number, names->numbers, &number, sizeof(number), inode);
    return inode;
}

bool names_number_free_locked(struct names *names, uint64_t number)
{
    return number > ROOT_NUMBER && !find_number_locked(names, number);
}

static void add_number_locked(struct names *names, struct inode *inode)
{
    HASH_ADD(by_number, names->numbers, number, sizeof(inode->number), inode);
    inode->numbered = true;
}

void names_forget_number_locked(struct names *names, struct inode *inode)
{
    if (!inode->numbered)
        return;
    HASH_DELETE(by_number, names->numbers, inode);
    inode->numbered = false;
}

/* The number of a name; another one while a live inode (renamed away, or unlinked and still open) has it. */
static uint64_t choose_number_locked(struct names *names, const struct inode *parent, const char *name,
                                     bool *ret_other)
{
    uint64_t number = names_number(parent, name);

    *ret_other = false;
    while (find_number_locked(names, number)) {
        number = hash_bytes(number, name, strlen(name)) | 2;
        *ret_other = true;
    }
    return number;
}

/* ---- Begin and end. ---- */

int names_init(struct cache *cache)
{
    struct names *names = &cache->names;
    struct inode *root;

    lock_init(&names->lock, LOCK_NAMES, "names");
    gate_init(&names->turn);
    list_init(&names->asking);
    list_init(&names->watches);
    list_init(&names->idle);
    list_init(&names->refreshes);
    list_init(&names->doomed);
    list_init(&names->deleting);
    names->next_id = 1;
    LOCK_SCOPED(&names->lock);
    root = names->root = inode_new(cache, S_IFDIR, ROOT_NUMBER);
    root->catalogued = cache->catalog ? CATALOG_ROOT : 0;
    add_number_locked(names, root);
    root->wanted.attributes.mode = S_IFDIR | (cache->config.dir_mode & 07777);
    root->wanted.attributes.uid = cache->config.uid;
    root->wanted.attributes.gid = cache->config.gid;
    root->wanted.attributes.size = 4096;
    root->wanted.attributes.atime_ns = root->wanted.attributes.mtime_ns = root->wanted.attributes.ctime_ns =
        cache->started_ns;
    return 0;
}

void names_release(struct cache *cache)
{
    struct names *names = &cache->names;
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&names->lock);

    assert(list_empty(&names->asking) && list_empty(&names->watches));
    if (cache->catalog)
        recall_note_all_locked(cache);
    while (!list_empty(&names->root->children))
        names_detach_locked(container_of(names->root->children.next, struct inode, sibling), &aftermath);
    for (struct list *at; (at = list_pop(&names->doomed));) {
        struct inode *inode = container_of(at, struct inode, doomed);
        list_remove(&inode->leaving);
        veil_update_locked(inode);
        aftermath_unref(&aftermath, inode);
    }
    aftermath_unref(&aftermath, names->root);
    names->root = NULL;
}

void names_end(struct cache *cache)
{
    struct names *names = &cache->names;

    assert(!names->table && !names->veils);
    gate_release(&names->turn);
    lock_release(&names->lock);
}

struct inode *cache_root(struct cache *cache)
{
    return inode_ref(cache->names.root);
}

/* ---- Names and keys. ---- */

int names_check(const char *name)
{
    size_t length = strlen(name);
    uint32_t code;

    if (!length || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/'))
        return -EINVAL;
    if (length > NAMES_NAME_MAX)
        return -ENAMETOOLONG;
    for (size_t at = 0, taken; at < length; at += taken)
        if (!(taken = utf8_decode(name + at, length - at, &code)))
            return -EILSEQ;
    return keepsake_is_name(name) ? -EPERM : 0;
}

void names_hide_locked(struct names *names, const char *key)
{
    if (!names->hidden++) {
        strncpy(names->hidden_example, key, sizeof(names->hidden_example) - 1);
        log_warn("key %s is no file name here: hidden (more are only counted, see status)", key);
    }
}

/* -ENOENT: the inode, or a directory above it, has no name any more. */
static int add_path_locked(const struct inode *inode, struct buf *ret_key)
{
    if (inode == inode->cache->names.root)
        return 0;
    int rc = inode->parent ? add_path_locked(inode->parent, ret_key) : -ENOENT;
    if (rc < 0)
        return rc;
    buf_add_string(ret_key, inode->name);
    if (inode->type == S_IFDIR)
        buf_add_char(ret_key, '/');
    return 0;
}

int names_key_locked(const struct inode *inode, struct buf *ret_key)
{
    buf_reset(ret_key);
    buf_add_string(ret_key, inode->cache->prefix);
    int rc = add_path_locked(inode, ret_key);
    if (rc < 0)
        buf_reset(ret_key);
    return rc == 0 && ret_key->length > STORE_KEY_MAX ? -ENAMETOOLONG : rc;
}

int names_child_key_locked(const struct inode *parent, const char *name, struct buf *ret_key)
{
    int rc = names_key_locked(parent, ret_key);
    if (rc < 0)
        return rc;
    buf_add_string(ret_key, name);
    return ret_key->length > STORE_KEY_MAX ? -ENAMETOOLONG : 0;
}

int names_key(struct inode *inode, struct buf *ret_key)
{
    LOCK_SCOPED(&inode->cache->names.lock);
    return names_key_locked(inode, ret_key);
}

bool names_below_locked(const struct inode *inode, const struct inode *directory)
{
    for (; inode; inode = inode->parent)
        if (inode == directory)
            return true;
    return false;
}

/* ---- The tree. ---- */

static char *make_name_key(const struct inode *parent, const char *name, size_t *ret_length)
{
    size_t length = strlen(name);
    char *key = xmalloc(sizeof(parent->id) + length + 1);

    memcpy(key, &parent->id, sizeof(parent->id));
    memcpy(key + sizeof(parent->id), name, length + 1);
    *ret_length = sizeof(parent->id) + length;
    return key;
}

struct inode *names_find_locked(struct names *names, const struct inode *parent, const char *name)
{
    size_t length;
    char *key = make_name_key(parent, name, &length);
    struct inode *inode;

    assert(lock_held(&names->lock));
    HASH_FIND(by_name, names->table, key, length, inode);
    free(key);
    return inode;
}

struct inode *names_find_path_locked(struct names *names, const char *path)
{
    struct inode *inode = names->root;

    while (inode && *path) {
        size_t length = strcspn(path, "/");
        STRING_SCOPED *name = xstrndup(path, length);
        inode = names_find_locked(names, inode, name);
        path += length;
        path += *path == '/';
    }
    return inode;
}

static struct names_absent *absent_slot(struct names *names, const struct inode *parent, const char *name,
                                        uint64_t *ret_hash)
{
    *ret_hash = hash_bytes(parent->id, name, strlen(name));
    return &names->absent[*ret_hash % NAMES_ABSENT];
}

static void clear_absent_locked(struct names *names, const struct inode *parent, const char *name)
{
    uint64_t hash;
    struct names_absent *slot = absent_slot(names, parent, name, &hash);

    if (slot->parent_id == parent->id && slot->hash == hash)
        slot->parent_id = 0;
}

static void link_locked(struct names *names, struct inode *inode, struct inode *parent, const char *name)
{
    size_t length;

    inode->name_key = make_name_key(parent, name, &length);
    inode->name = inode->name_key + sizeof(parent->id);
    inode->parent = inode_ref(parent);
    inode->noted = false;
    HASH_ADD_KEYPTR(by_name, names->table, inode->name_key, length, inode);
    list_append(&parent->children, &inode->sibling);
    parent->child_count++;
    list_append(&names->idle, &inode->idle);
    names->count++;
    clear_absent_locked(names, parent, name);
}

static void unlink_locked(struct names *names, struct inode *inode, struct aftermath *aftermath)
{
    HASH_DELETE(by_name, names->table, inode);
    list_remove(&inode->sibling);
    inode->parent->child_count--;
    list_remove(&inode->idle);
    names->count--;
    aftermath_unref(aftermath, inode->parent);
    inode->parent = NULL;
    inode->name = NULL;
    free(inode->name_key);
    inode->name_key = NULL;
}

void names_detach_locked(struct inode *inode, struct aftermath *aftermath)
{
    struct names *names = &inode->cache->names;

    while (!list_empty(&inode->children))
        names_detach_locked(container_of(inode->children.next, struct inode, sibling), aftermath);
    unlink_locked(names, inode, aftermath);
    if (inode->veiled[0])
        veil_update_locked(inode);
    aftermath_unref(aftermath, inode);
}

static void mark_orphans_locked(struct inode *inode, bool lost)
{
    lock_take(&inode->lock);
    inode->orphan = true;
    inode->lost = inode->lost || lost;
    recording_forget_locked(inode);
    lock_drop(&inode->lock);
    list_for_each (at, &inode->children)
        mark_orphans_locked(container_of(at, struct inode, sibling), lost);
}

void names_orphan_locked(struct inode *inode, bool lost, struct aftermath *aftermath)
{
    mark_orphans_locked(inode, lost);
    recall_moved_locked(inode);
    names_detach_locked(inode, aftermath);
}

void names_move_locked(struct inode *inode, struct inode *to_parent, const char *to_name,
                       struct aftermath *aftermath)
{
    struct names *names = &inode->cache->names;

    assert(!names_find_locked(names, to_parent, to_name));
    assert(!names_below_locked(to_parent, inode));
    recall_moved_locked(inode);
    if (inode->type == S_IFDIR)
        forest_clear_locked(inode->cache);
    unlink_locked(names, inode, aftermath);
    link_locked(names, inode, to_parent, to_name);
    inode->renamed = true;
}

/* ---- Room. ---- */

static bool below_moving_locked(const struct inode *inode)
{
    for (; inode; inode = inode->parent)
        if (inode->moving)
            return true;
    return false;
}

static bool forgettable_locked(struct inode *inode, bool also_renamed)
{
    if (atomic_load(&inode->references) > 1 || !list_empty(&inode->children) || below_moving_locked(inode))
        return false; /* who moves a directory has looked at all that is in it */
    if (inode->renamed && !also_renamed)
        return false;
    if (inode->account && inode->type == S_IFDIR && journal_knows(inode->cache->journal, inode->account))
        return false; /* its number there is its own */
    LOCK_SCOPED(&inode->lock);
    return !inode_dirty_locked(inode) && !inode->opens && !inode->upload && list_empty(&inode->syncs);
}

static void forget_locked(struct inode *inode, struct aftermath *aftermath)
{
    if (recall_note_locked(inode)) {
        inode->parent->beyond = true;
    } else {
        recall_doubt_locked(inode->parent);
        inode->parent->listed_ms = 0;
        inode->parent->forgotten++;
    }
    names_detach_locked(inode, aftermath);
}

/* Forgets those used longest ago, at most FORGET_MAX. Those that cannot be are looked at again when their turn comes anew; what only the
 * kernel still remembers it is asked to forget, a few names at a time: its answer (FORGET) drops the reference. */
static int forget_some_locked(struct names *names, bool also_renamed, int asks, struct aftermath *aftermath)
{
    int forgotten = 0;

    for (int looked = 0; looked < FORGET_LOOK && forgotten < FORGET_MAX && !list_empty(&names->idle);
         looked++) {
        struct inode *inode = container_of(names->idle.next, struct inode, idle);
        if (forgettable_locked(inode, also_renamed)) {
            forget_locked(inode, aftermath);
            forgotten++;
            continue;
        }
        if (asks-- > 0)
            aftermath_notify(aftermath, inode->parent->id, inode->name);
        list_remove(&inode->idle);
        list_append(&names->idle, &inode->idle);
    }
    return forgotten;
}

/* The number of a renamed one is kept where the catalog can. */
static void make_room_locked(struct names *names, struct aftermath *aftermath)
{
    bool kept = names->root->cache->catalog != NULL;

    if (!forget_some_locked(names, kept, FORGET_ASK, aftermath) && !kept)
        forget_some_locked(names, true, 0, aftermath);
}

static size_t cost_of_locked(const struct inode *inode)
{
    return sizeof(*inode) + (inode->name ? strlen(inode->name) : 0) + NAME_COST;
}

static bool charge_locked(struct inode *inode)
{
    size_t cost = cost_of_locked(inode);

    if (!inode->charged && memory_try(inode->cache->config.memory, cost, SHARE_NAMES))
        inode->charged = cost;
    return inode->charged != 0;
}

/* Its share has room: clean blocks take all the memory, and give way to who asks as one who would wait, without the lock. */
static bool is_short_locked(const struct inode *inode, struct aftermath *aftermath)
{
    size_t bytes = aftermath->short_bytes + cost_of_locked(inode);

    if (memory_left(inode->cache->config.memory, SHARE_NAMES) < bytes)
        return false;
    aftermath->names_short++;
    aftermath->short_bytes = bytes;
    return true;
}

/* Those made last are the last of the idle ones, with others that were used since. Returns how many find no room. */
static size_t charge_newest_locked(struct names *names, size_t count, size_t *bytes)
{
    size_t looks = 2 * count + FORGET_LOOK, missed = 0;

    for (struct list *at = names->idle.prev; at != &names->idle && count && looks--; at = at->prev) {
        struct inode *inode = container_of(at, struct inode, idle);
        size_t cost = cost_of_locked(inode);
        if (inode->charged)
            continue;
        count--;
        if (cost <= *bytes) {
            inode->charged = cost;
            *bytes -= cost;
        } else if (!charge_locked(inode)) {
            missed++;
        }
    }
    return missed;
}

void names_find_room(struct cache *cache, size_t count, size_t bytes)
{
    struct memory *memory = cache->config.memory;
    struct names *names = &cache->names;
    WAITER_SCOPED(hasty);

    if (memory_take(memory, bytes, SHARE_NAMES, &hasty, clock_ms()) < 0)
        bytes = 0;
    {
        AFTERMATH_SCOPED(aftermath, cache);
        LOCK_SCOPED(&names->lock);
        size_t missed = charge_newest_locked(names, count, &bytes);
        while (missed--)
            make_room_locked(names, &aftermath);
    }
    memory_give(memory, bytes, SHARE_NAMES);
}

void names_set_target_locked(struct inode *inode, const char *target)
{
    size_t cost = target ? strlen(target) + 1 : 0;

    free(inode->target);
    inode->target = target ? xstrdup(target) : NULL;
    if (inode->charged && cost && memory_try(inode->cache->config.memory, cost, SHARE_NAMES))
        inode->charged += cost; /* until it is forgotten: memory is not given back under a lock */
}

bool names_used_locked(struct inode *inode)
{
    if (!inode->parent)
        return true;
    bool has_room = charge_locked(inode); /* where there was none when it was made */
    list_remove(&inode->idle);
    list_append(&inode->cache->names.idle, &inode->idle);
    return has_room;
}

struct inode *names_make_locked(struct cache *cache, struct inode *parent, const char *name, uint32_t type,
                                uint64_t number, struct aftermath *aftermath)
{
    struct names *names = &cache->names;
    bool other = false;
    struct inode *inode;

    assert(lock_held(&names->lock) && !names_find_locked(names, parent, name));
    if (!number)
        number = choose_number_locked(names, parent, name, &other);
    inode = inode_new(cache, type, number);
    inode->renamed = other; /* a number that does not follow from the name cannot be found again */
    add_number_locked(names, inode);
    link_locked(names, inode, parent, name);
    if (!charge_locked(inode) && !is_short_locked(inode, aftermath)) {
        inode_ref(inode);
        make_room_locked(names, aftermath);
        aftermath_unref(aftermath, inode);
    }
    return inode;
}

/* ---- Looks at the server in flight. ---- */

void names_watch_locked(struct names *names, struct names_watch *watch, const struct inode *parent,
                        const char *only)
{
    *watch = (struct names_watch){.parent_id = parent->id, .only = only};
    list_append(&names->watches, &watch->link);
}

void names_watch_below_locked(struct names *names, struct names_watch *watch, const struct inode *directory)
{
    *watch = (struct names_watch){.below = directory};
    list_append(&names->watches, &watch->link);
}

void names_unwatch_locked(struct names_watch *watch)
{
    list_remove(&watch->link);
    for (size_t i = 0; i < watch->count; i++)
        free(watch->touched[i]);
    free(watch->touched);
    watch->touched = NULL;
    watch->count = watch->room = 0;
}

bool names_watch_touched(const struct names_watch *watch, const char *name)
{
    if (watch->all)
        return true;
    for (size_t i = 0; i < watch->count; i++)
        if (strcmp(watch->touched[i], name) == 0)
            return true;
    return false;
}

static void note_touched(struct names_watch *watch, const char *name)
{
    if ((watch->only && strcmp(watch->only, name) != 0) || names_watch_touched(watch, name))
        return;
    if (watch->count == TOUCHED_MAX) {
        watch->all = true;
        return;
    }
    if (watch->count == watch->room) {
        watch->room = watch->room ? watch->room * 2 : 4;
        watch->touched = xrealloc(watch->touched, watch->room * sizeof(*watch->touched));
    }
    watch->touched[watch->count++] = xstrdup(name);
}

bool names_absent_locked(struct names *names, const struct inode *parent, const char *name,
                         int64_t *ret_valid_ms)
{
    uint64_t hash;
    struct names_absent *slot = absent_slot(names, parent, name, &hash);
    int64_t left_ms = slot->seen_ms + parent->cache->config.negative_ttl_ms - clock_ms();

    if (slot->parent_id != parent->id || slot->hash != hash || left_ms <= 0)
        return false;
    *ret_valid_ms = left_ms;
    return true;
}

bool names_absent_since_locked(struct names *names, const struct inode *parent, const char *name,
                               int64_t asked_ms)
{
    uint64_t hash;
    const struct names_absent *slot = absent_slot(names, parent, name, &hash);

    return slot->parent_id == parent->id && slot->hash == hash && slot->seen_ms > asked_ms;
}

void names_set_absent_locked(struct names *names, const struct inode *parent, const char *name,
                             int64_t seen_ms)
{
    uint64_t hash;
    struct names_absent *slot = absent_slot(names, parent, name, &hash);

    *slot = (struct names_absent){parent->id, hash, seen_ms};
}

static void tell_watches_locked(struct names *names, const struct inode *parent, const char *name)
{
    clear_absent_locked(names, parent, name);
    forest_touched_locked(parent, name);
    list_for_each (at, &names->watches) {
        struct names_watch *watch = container_of(at, struct names_watch, link);
        if (watch->below)
            watch->all = watch->all || names_below_locked(parent, watch->below);
        else if (watch->parent_id == parent->id)
            note_touched(watch, name);
    }
}

void names_touched_locked(struct names *names, const struct inode *parent, const char *name)
{
    tell_watches_locked(names, parent, name);
    if (!names_find_locked(names, parent, name))
        recall_gone_locked(parent, name);
}

/* The last slash before its name, also of a marker's. */
static const char *find_slash(const char *path)
{
    size_t length = strlen(path);

    if (length && path[length - 1] == '/')
        length--;
    while (length && path[length - 1] != '/')
        length--;
    return length ? path + length - 1 : NULL;
}

struct inode *names_place_locked(struct names *names, const char *key, char **ret_name)
{
    const char *path = key + strlen(names->root->cache->prefix), *slash = find_slash(path);
    STRING_SCOPED *above = xstrndup(path, slash ? (size_t)(slash - path) : 0);
    struct inode *directory = names_find_path_locked(names, above);
    const char *rest = slash ? slash + 1 : path;

    *ret_name = xstrndup(rest, strcspn(rest, "/"));
    return directory && directory->type == S_IFDIR ? directory : NULL;
}

void names_touched_key_locked(struct names *names, const char *key)
{
    struct inode *inode = names->root;
    const char *path = key + strlen(names->root->cache->prefix);

    while (inode && inode->type == S_IFDIR && *path) {
        size_t length = strcspn(path, "/");
        STRING_SCOPED *name = xstrndup(path, length);
        struct inode *child = names_find_locked(names, inode, name);
        path += length;
        path += *path == '/';
        if (!child && *path)
            tell_watches_locked(names, inode, name); /* a directory above it, which may well be there */
        else
            names_touched_locked(names, inode, name);
        inode = child;
    }
}

void names_doubt_locked(struct names *names, struct inode *parent, const char *name)
{
    names_touched_locked(names, parent, name);
    recall_doubt_locked(parent);
    parent->listed_ms = 0;
    parent->forgotten++;
}

/* ---- The uploader's word. ---- */

static void take_confirmed_locked(struct inode *inode, const struct confirmed *confirmed, bool elsewhere)
{
    struct remote *remote = &inode->remote;

    if (!remote->key || strcmp(remote->key, confirmed->key) != 0) {
        free(remote->key);
        remote->key = xstrdup(confirmed->key);
    }
    remote->exists = true;
    inode->exclusive = false;
    remote->identity = confirmed->identity;
    remote->confirmed_ms = remote->marker_ms = clock_ms();
    inode_attributes_sent_locked(inode, confirmed->attribute_version);
    store_fields_copy(&remote->meta, confirmed->meta);
    store_fields_copy(&remote->headers, confirmed->headers);
    remote->headers_known = true;
    if (confirmed->copied)
        inode->cached_identity = (struct identity){0}; /* the same content: no pages went stale */
    else
        content_confirmed_locked(inode, confirmed->content_version, confirmed->identity.size, elsewhere);
    remote->content_version = confirmed->content_version;
    inode->displaced = elsewhere; /* in the same hold: an fsync waits for its name */
    inode->noted = false;
    content_arrived_locked(inode);
    inode->attributes_known = true;
    inode->late_id[0] = '\0';
    recording_settled_locked(inode);
}

void names_confirmed(struct inode *inode, const struct confirmed *confirmed)
{
    struct names *names = &inode->cache->names;
    BUF_SCOPED wanted = BUF_INIT;
    AFTERMATH_SCOPED(aftermath, inode->cache);
    LOCK_SCOPED(&names->lock);
    bool elsewhere = names_key_locked(inode, &wanted) == 0 && strcmp(wanted.bytes, confirmed->key) != 0;

    names_undoom_locked(names, confirmed->key, inode, &aftermath);
    lock_take(&inode->lock);
    bool moved = inode->remote.exists && strcmp(inode->remote.key, confirmed->key) != 0;
    lock_drop(&inode->lock);
    if (moved)
        names_leave_locked(inode, &aftermath);
    lock_take(&inode->lock);
    take_confirmed_locked(inode, confirmed, elsewhere);
    lock_drop(&inode->lock);
    veil_update_locked(inode);
    recall_note_locked(inode);
    names_touched_key_locked(names, confirmed->key); /* it may have no name any more, or another one */
    /* Looks that began before do not know it, nor that there is a directory above it. */
    for (; inode->parent; inode = inode->parent)
        names_touched_locked(names, inode->parent, inode->name);
}
