/* tree: names by whole paths, over a room, as a user's system calls would go: each component looked up, then the call.
 *
 * Paths: "a/b"; "" is the root. All calls block with the room's waiter and return what the door returned.
 */
#ifndef TESTS_SUPPORT_TREE_H
#define TESTS_SUPPORT_TREE_H

#include "base/buf.h"
#include "tests/support/room.h"

int tree_lookup(struct room *room, const char *path, struct entry *ret_entry);
/* The attributes as stat sees them: lookup, then the entry's. */
int tree_stat(struct room *room, const char *path, struct attributes *ret_attributes);
/* Creates or replaces, writes, closes. */
int tree_write(struct room *room, const char *path, const char *text);
int tree_open(struct room *room, const char *path, int flags, struct handle **ret_handle);
int tree_mkdir(struct room *room, const char *path);
int tree_symlink(struct room *room, const char *path, const char *target);
/* type: S_IFIFO ... */
int tree_mknod(struct room *room, const char *path, uint32_t type, uint64_t device);
/* Malloc'ed. */
int tree_readlink(struct room *room, const char *path, char **ret_target);
int tree_unlink(struct room *room, const char *path);
int tree_rmdir(struct room *room, const char *path);
int tree_rename(struct room *room, const char *from, const char *to, unsigned flags);
/* "a b/ c@ d| " in the order of the listing, "|" behind a special file, "?" behind a name whose type is not known; without the dots. */
int tree_list(struct room *room, const char *path, bool with_entries, struct buf *out);
/* All keys of the bucket, "p/a p/b/ ", in order. */
void tree_keys(struct room *room, struct buf *out);
/* Puts an object as another client does, with metadata "name=value" pairs ended by NULL. */
void tree_put(struct room *room, const char *key, const char *text, ...) __attribute__((sentinel));
/* True when the object's bytes are this text. */
bool tree_holds(struct room *room, const char *key, const char *text);

/* For tests with criterion. */
#define assert_keys(room, expected)                                                                          \
    do {                                                                                                     \
        BUF_SCOPED keys_now = BUF_INIT;                                                                      \
        tree_keys(room, &keys_now);                                                                          \
        cr_assert_str_eq(keys_now.bytes, expected);                                                          \
    } while (0)
#define assert_list(room, path, with_entries, expected)                                                      \
    do {                                                                                                     \
        BUF_SCOPED list_now = BUF_INIT;                                                                      \
        cr_assert_eq(tree_list(room, path, with_entries, &list_now), 0);                                     \
        cr_assert_str_eq(list_now.bytes, expected);                                                          \
    } while (0)

#endif
