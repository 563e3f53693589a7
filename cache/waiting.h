/* waiting: what was put and does not stand in LMDB yet. Newer over older; nothing is written here.
 *
 *      names         (directory, name) -> facts, or removed      the last that was said of each
 *      directories   id -> its names here, listed?, removed?     removed: all that was said before `removed` is none, here and below it
 *
 * Each thing that is said has a sequence number; a name counts where it came after its directory was removed.
 *
 * Owns: copies all, in chunks that go as a whole: facts that were read under the lock stay as they are until the last
 *       waiting_unref(), also where newer ones come.
 * Threads: the caller's lock.
 */
#ifndef CACHE_WAITING_H
#define CACHE_WAITING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#define NAME_BYTES_MAX 255
#define WAITING_KEY_ID                                                                                       \
    8 /* bytes of the directory in front of a key, big-endian, so that keys sort as (directory, name) */

struct waiting_directory;

struct waiting_name {
    UT_hash_handle hh; /* in the order of the first put */
    struct waiting_directory *directory;
    struct waiting_name *next; /* of its directory */
    uint64_t sequence;
    const void *facts; /* NULL: removed */
    size_t length;
    size_t key_length;
    char key[]; /* directory, name, NUL */
};

struct waiting_directory {
    UT_hash_handle hh;
    uint64_t id;
    char key[WAITING_KEY_ID];
    struct waiting_name *names;
    uint64_t removed; /* the sequence number then; 0: it was not */
    bool listing_said;
    int64_t listed;
};

struct waiting_chunk;

struct waiting {
    struct waiting_name *names;
    struct waiting_directory *directories;
    struct waiting_chunk *chunks;
    size_t bytes; /* that it takes */
    int refs;
};

struct waiting *waiting_new(void);
struct waiting *waiting_ref(struct waiting *waiting);
void waiting_unref(struct waiting *waiting);

/* facts NULL: it was removed. */
void waiting_put(struct waiting *waiting, uint64_t sequence, uint64_t directory, const char *name,
                 const void *facts, size_t length);
void waiting_set_listed(struct waiting *waiting, uint64_t directory, int64_t listed);
void waiting_remove_below(struct waiting *waiting, uint64_t sequence, uint64_t directory);
/* It is not known whole, if that was said here. */
void waiting_doubt(struct waiting *waiting, uint64_t directory);

/* NULL: nothing is said of it here. */
struct waiting_directory *waiting_find_directory(const struct waiting *waiting, uint64_t directory);
/* NULL: nothing that counts. */
struct waiting_name *waiting_find_name(const struct waiting *waiting, const char *key, size_t key_length);
bool waiting_counts(const struct waiting_name *name);

/* Writes directory and name; returns the length. `key` has room for WAITING_KEY_ID + strlen(name) + 1. */
size_t waiting_key(uint64_t directory, const char *name, char *key);
/* As the map sorts them: by bytes, the shorter first. */
int waiting_compare_keys(const void *one, size_t one_length, const void *other, size_t other_length);

#endif
