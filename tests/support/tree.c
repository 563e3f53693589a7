#include "tests/support/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int walk(struct room *room, const char *path, struct inode **ret_parent, char name[256])
{
    struct inode *parent = inode_ref(room->root);

    for (;;) {
        size_t length = strcspn(path, "/");
        struct entry entry;
        snprintf(name, 256, "%.*s", (int)length, path);
        if (!path[length]) {
            *ret_parent = parent;
            return 0;
        }
        int rc = cache_lookup(room->cache, &room->waiter, parent, name, &entry);
        inode_unref(parent);
        if (rc < 0)
            return rc;
        parent = entry.inode;
        path += length + 1;
    }
}

int tree_lookup(struct room *room, const char *path, struct entry *ret_entry)
{
    struct inode *parent;
    char name[256];
    int rc = walk(room, path, &parent, name);

    if (rc < 0)
        return rc;
    rc = cache_lookup(room->cache, &room->waiter, parent, name, ret_entry);
    inode_unref(parent);
    return rc;
}

int tree_stat(struct room *room, const char *path, struct attributes *ret_attributes)
{
    struct entry entry;
    int rc = tree_lookup(room, path, &entry);

    if (rc < 0)
        return rc;
    *ret_attributes = entry.attributes;
    inode_unref(entry.inode);
    return 0;
}

int tree_write(struct room *room, const char *path, const char *text)
{
    struct maker maker = {.mode = 0644, .process = ROOM_PROCESS};
    struct handle *handle;
    struct entry entry;
    struct inode *parent;
    char name[256];
    int rc = walk(room, path, &parent, name);

    if (rc < 0)
        return rc;
    rc = cache_create(room->cache, &room->waiter, parent, name, O_RDWR | O_TRUNC, &maker, &entry, &handle);
    inode_unref(parent);
    if (rc < 0)
        return rc;
    rc = cache_write(room->cache, &room->waiter, handle, text, strlen(text), 0);
    int closed = room_close(room, handle);
    inode_unref(entry.inode);
    return rc < 0 ? rc : closed;
}

int tree_open(struct room *room, const char *path, int flags, struct handle **ret_handle)
{
    struct opened opened;
    struct entry entry;
    int rc = tree_lookup(room, path, &entry);

    if (rc < 0)
        return rc;
    rc = cache_open(room->cache, &room->waiter, entry.inode, flags, ROOM_PROCESS, ret_handle, &opened);
    inode_unref(entry.inode);
    return rc;
}

int tree_mkdir(struct room *room, const char *path)
{
    struct maker maker = {.mode = 0755, .process = ROOM_PROCESS};
    struct inode *parent;
    struct entry entry;
    char name[256];
    int rc = walk(room, path, &parent, name);

    if (rc < 0)
        return rc;
    rc = cache_mkdir(room->cache, &room->waiter, parent, name, &maker, &entry);
    inode_unref(entry.inode);
    inode_unref(parent);
    return rc;
}

int tree_symlink(struct room *room, const char *path, const char *target)
{
    struct maker maker = {.mode = 0777, .process = ROOM_PROCESS};
    struct inode *parent;
    struct entry entry;
    char name[256];
    int rc = walk(room, path, &parent, name);

    if (rc < 0)
        return rc;
    rc = cache_symlink(room->cache, &room->waiter, parent, name, target, &maker, &entry);
    inode_unref(entry.inode);
    inode_unref(parent);
    return rc;
}

int tree_mknod(struct room *room, const char *path, uint32_t type, uint64_t device)
{
    struct maker maker = {.uid = 1, .gid = 2, .mode = 0640, .process = ROOM_PROCESS};
    struct inode *parent;
    struct entry entry;
    char name[256];
    int rc = walk(room, path, &parent, name);

    if (rc < 0)
        return rc;
    rc = cache_mknod(room->cache, &room->waiter, parent, name, type, device, &maker, &entry);
    inode_unref(entry.inode);
    inode_unref(parent);
    return rc;
}

int tree_readlink(struct room *room, const char *path, char **ret_target)
{
    struct entry entry;
    int rc = tree_lookup(room, path, &entry);

    *ret_target = NULL;
    if (rc == 0)
        rc = cache_readlink(room->cache, &room->waiter, entry.inode, ret_target);
    inode_unref(entry.inode);
    return rc;
}

static int remove_by(struct room *room, const char *path,
                     int (*remove)(struct cache *, struct waiter *, struct inode *, const char *))
{
    struct inode *parent;
    char name[256];
    int rc = walk(room, path, &parent, name);

    if (rc < 0)
        return rc;
    rc = remove(room->cache, &room->waiter, parent, name);
    inode_unref(parent);
    return rc;
}

int tree_unlink(struct room *room, const char *path)
{
    return remove_by(room, path, cache_unlink);
}

int tree_rmdir(struct room *room, const char *path)
{
    return remove_by(room, path, cache_rmdir);
}

int tree_rename(struct room *room, const char *from, const char *to, unsigned flags)
{
    struct inode *from_parent, *to_parent;
    char from_name[256], to_name[256];
    int rc = walk(room, from, &from_parent, from_name);

    if (rc < 0)
        return rc;
    rc = walk(room, to, &to_parent, to_name);
    if (rc == 0) {
        rc = cache_rename(room->cache, &room->waiter, from_parent, from_name, to_parent, to_name, flags);
        inode_unref(to_parent);
    }
    inode_unref(from_parent);
    return rc;
}

static bool print_name(void *context, struct listed *listed)
{
    struct buf *out = context;

    if (strcmp(listed->name, ".") == 0 || strcmp(listed->name, "..") == 0)
        return true;
    buf_printf(out, "%s%s ", listed->name,
               listed->type == S_IFDIR   ? "/"
               : listed->type == S_IFLNK ? "@"
               : listed->type == S_IFREG ? ""
               : listed->type            ? "|"
                                         : "?");
    inode_unref(listed->entry.inode);
    return true;
}

int tree_list(struct room *room, const char *path, bool with_entries, struct buf *out)
{
    struct entry entry = {.inode = NULL};
    struct listing *listing;
    int rc;

    buf_reset(out);
    if (*path) {
        rc = tree_lookup(room, path, &entry);
        if (rc < 0)
            return rc;
    }
    rc = cache_list_open(room->cache, *path ? entry.inode : room->root, &listing);
    if (rc == 0) {
        rc = cache_list(room->cache, &room->waiter, listing, 0, with_entries, print_name, out);
        cache_list_release(listing);
    }
    inode_unref(entry.inode);
    return rc;
}

void tree_keys(struct room *room, struct buf *out)
{
    buf_reset(out);
    memory_store_keys(room->bucket, out);
    for (size_t i = 0; i < out->length; i++)
        if (out->bytes[i] == '\n')
            out->bytes[i] = ' ';
}

void tree_put(struct room *room, const char *key, const char *text, ...)
{
    struct store_fields meta = {0};
    va_list list;
    const char *pair;

    va_start(list, text);
    while ((pair = va_arg(list, const char *))) {
        size_t length = strcspn(pair, "=");
        STRING_SCOPED *name = xstrndup(pair, length);
        store_fields_add(&meta, name, pair + length + 1);
    }
    va_end(list);
    memory_store_put(room->bucket, key, text, strlen(text), &meta, NULL);
    store_fields_release(&meta);
}

bool tree_holds(struct room *room, const char *key, const char *text)
{
    BUF_SCOPED bytes = BUF_INIT;

    if (!memory_store_peek(room->bucket, key, NULL, &bytes)) {
        fprintf(stderr, "no object %s\n", key);
        return false;
    }
    if (strcmp(bytes.bytes, text) != 0)
        fprintf(stderr, "%s holds \"%s\"\n", key, bytes.bytes);
    return strcmp(bytes.bytes, text) == 0;
}
