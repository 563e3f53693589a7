#include "cache/waiting.h"

#include <assert.h>
#include <endian.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define CHUNK_BYTES ((size_t)64 << 10)

struct waiting_chunk {
    struct waiting_chunk *next;
    size_t used, room;
    alignas(max_align_t) char bytes[];
};

/* ---- Memory. ---- */

struct waiting *waiting_new(void)
{
    struct waiting *waiting = xcalloc(1, sizeof *waiting);
    waiting->refs = 1;
    return waiting;
}

struct waiting *waiting_ref(struct waiting *waiting)
{
    if (waiting)
        waiting->refs++;
    return waiting;
}

void waiting_unref(struct waiting *waiting)
{
    if (!waiting || --waiting->refs)
        return;
    HASH_CLEAR(hh, waiting->names);
    HASH_CLEAR(hh, waiting->directories);
    while (waiting->chunks) {
        struct waiting_chunk *chunk = waiting->chunks;
        waiting->chunks = chunk->next;
        free(chunk);
    }
    free(waiting);
}

static void *allocate(struct waiting *waiting, size_t size)
{
    struct waiting_chunk *chunk = waiting->chunks;

    size = (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
    if (!chunk || chunk->room - chunk->used < size) {
        size_t room = size > CHUNK_BYTES - sizeof *chunk ? size : CHUNK_BYTES - sizeof *chunk;
        chunk = xmalloc(sizeof *chunk + room);
        *chunk = (struct waiting_chunk){.next = waiting->chunks, .room = room};
        waiting->chunks = chunk;
    }
    void *bytes = chunk->bytes + chunk->used;
    chunk->used += size;
    waiting->bytes += size;
    return bytes;
}

/* ---- Keys. ---- */

size_t waiting_key(uint64_t directory, const char *name, char *key)
{
    uint64_t id = htobe64(directory);
    size_t length = strlen(name);

    memcpy(key, &id, sizeof id);
    memcpy(key + sizeof id, name, length + 1);
    return sizeof id + length;
}

int waiting_compare_keys(const void *one, size_t one_length, const void *other, size_t other_length)
{
    int order = memcmp(one, other, one_length < other_length ? one_length : other_length);
    return order ? order : (one_length > other_length) - (one_length < other_length);
}

/* ---- What is said. ---- */

struct waiting_directory *waiting_find_directory(const struct waiting *waiting, uint64_t directory)
{
    struct waiting_directory *found = NULL;

    if (waiting)
        HASH_FIND(hh, waiting->directories, &directory, sizeof directory, found);
    return found;
}

static struct waiting_directory *take_directory(struct waiting *waiting, uint64_t id)
{
    struct waiting_directory *directory = waiting_find_directory(waiting, id);

    if (directory)
        return directory;
    uint64_t key = htobe64(id);
    directory = allocate(waiting, sizeof *directory);
    *directory = (struct waiting_directory){.id = id};
    memcpy(directory->key, &key, sizeof directory->key);
    HASH_ADD(hh, waiting->directories, id, sizeof directory->id, directory);
    return directory;
}

bool waiting_counts(const struct waiting_name *name)
{
    return name->sequence > name->directory->removed;
}

static struct waiting_name *find_name(const struct waiting *waiting, const char *key, size_t key_length)
{
    struct waiting_name *found = NULL;

    if (waiting)
        HASH_FIND(hh, waiting->names, key, key_length, found);
    return found;
}

struct waiting_name *waiting_find_name(const struct waiting *waiting, const char *key, size_t key_length)
{
    struct waiting_name *found = find_name(waiting, key, key_length);
    return found && waiting_counts(found) ? found : NULL;
}

static struct waiting_name *take_name(struct waiting *waiting, uint64_t directory, const char *text)
{
    char key[WAITING_KEY_ID + NAME_BYTES_MAX + 1];
    size_t length = waiting_key(directory, text, key);
    struct waiting_name *name = find_name(waiting, key, length);

    if (name)
        return name;
    name = allocate(waiting, sizeof *name + length + 1);
    *name = (struct waiting_name){.directory = take_directory(waiting, directory), .key_length = length};
    memcpy(name->key, key, length + 1);
    name->next = name->directory->names;
    name->directory->names = name;
    HASH_ADD_KEYPTR(hh, waiting->names, name->key, length, name);
    return name;
}

void waiting_put(struct waiting *waiting, uint64_t sequence, uint64_t directory, const char *name,
                 const void *facts, size_t length)
{
    struct waiting_name *put = take_name(waiting, directory, name);
    void *copy = NULL;

    if (facts) {
        copy = allocate(waiting, length);
        memcpy(copy, facts, length);
    }
    put->sequence = sequence;
    put->facts = copy;
    put->length = length;
}

void waiting_set_listed(struct waiting *waiting, uint64_t directory, int64_t listed)
{
    struct waiting_directory *said = take_directory(waiting, directory);

    said->listing_said = true;
    said->listed = listed;
}

void waiting_remove_below(struct waiting *waiting, uint64_t sequence, uint64_t directory)
{
    waiting_set_listed(waiting, directory, 0);
    take_directory(waiting, directory)->removed = sequence;
}

void waiting_doubt(struct waiting *waiting, uint64_t directory)
{
    struct waiting_directory *said = waiting_find_directory(waiting, directory);

    if (said)
        said->listed = 0;
}
