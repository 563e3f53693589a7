#include "cache/slab.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/lock.h"

#define CLASSES   2
#define WORD_BITS 64

/* The large one is as large as what rides in the log; the small one is the page that most small files fit in. */
static const struct class
{
    const char *prefix;
    uint64_t slot_bytes;
} classes[CLASSES] = {{"4k", (uint64_t)4 << 10}, {"32k", SLAB_SLOT_MAX}};

struct slab {
    /* Set at birth. */
    char name[SLAB_NAME_MAX];
    size_t class;
    struct disk_file *file;
    bool inherited; /* of an earlier process: which slots are free nobody has said */

    /* Growing numbers of what was written; a slot that was written at or before `flushed` is on the disk. */
    atomic_uint_fast64_t written, flushed;
    atomic_bool broken;

    /* Under the lock of slabs. */
    UT_hash_handle by_name;
    struct list link;  /* in `open` of its class: it has free slots */
    size_t references; /* open slots, and 1 until it is removed */
    size_t used_count;
    uint64_t used[SLAB_SLOTS / WORD_BITS];
    size_t fresh; /* slots from here on were never used */
    uint16_t free[SLAB_SLOTS];
    size_t free_count;
};

struct slot {
    struct disk_file file;
    struct slab *slab;
    uint64_t offset;
    atomic_uint_fast64_t written; /* of slab->written; 0: nothing here waits for a flush */
};

struct slabs {
    struct disk disk;
    struct disk *below;
    struct lock lock;
    struct slab *table; /* by_name */
    struct list open[CLASSES];
    uint64_t
        number; /* of the last slab that was made; it begins anew at no mount: a journal may name a slab that is lost */
};

static const struct disk_ops slab_ops;

static struct slabs *slabs_of(struct disk *disk)
{
    return container_of(disk, struct slabs, disk);
}

static struct slot *slot_of(struct disk_file *file)
{
    return container_of(file, struct slot, file);
}

static uint64_t slot_bytes(const struct slab *slab)
{
    return classes[slab->class].slot_bytes;
}

/* ---- Names. ---- */

static void print_slab(char out[SLAB_NAME_MAX], size_t class, uint64_t number)
{
    snprintf(out, SLAB_NAME_MAX, "%s-%016" PRIx64, classes[class].prefix, number);
}

static void add_slot(char slab[SLAB_NAME_MAX], size_t index)
{
    size_t length = strlen(slab);
    snprintf(slab + length, SLAB_NAME_MAX - length, ".%03x", (unsigned)index);
}

/* *ret_index is SLAB_SLOTS for the name of a slab. */
static bool parse(const char *name, size_t *ret_class, uint64_t *ret_number, size_t *ret_index)
{
    char again[SLAB_NAME_MAX];
    unsigned index = SLAB_SLOTS;
    for (size_t i = 0; i < CLASSES; i++) {
        size_t length = strlen(classes[i].prefix);
        if (strncmp(name, classes[i].prefix, length) != 0 || name[length] != '-')
            continue;
        int count = sscanf(name + length, "-%16" SCNx64 ".%3x", ret_number, &index);
        if (count < 1)
            return false;
        print_slab(again, i, *ret_number);
        if (count == 2)
            add_slot(again, index);
        *ret_class = i;
        *ret_index = index;
        return strcmp(again, name) == 0 && (count == 1 || index < SLAB_SLOTS);
    }
    return false;
}

bool slab_parse(const char *name, char ret_slab[SLAB_NAME_MAX])
{
    size_t class, index;
    uint64_t number;
    if (!parse(name, &class, &number, &index))
        return false;
    print_slab(ret_slab, class, number);
    return true;
}

/* The name of a slot, and of its slab. */
static bool parse_slot(const char *name, char ret_slab[SLAB_NAME_MAX], size_t *ret_class, size_t *ret_index)
{
    uint64_t number;
    return parse(name, ret_class, &number, ret_index) && *ret_index < SLAB_SLOTS &&
           slab_parse(name, ret_slab);
}

char *slab_path(struct disk *disk, const char *name, uint64_t *ret_offset)
{
    char slab[SLAB_NAME_MAX];
    size_t class, index;
    struct disk *below = disk->ops == &slab_ops ? slabs_of(disk)->below : disk;
    bool slot = parse_slot(name, slab, &class, &index);
    *ret_offset = slot ? index * classes[class].slot_bytes : 0;
    return disk_path(below, slot ? slab : name);
}

/* ---- Slots of a slab. ---- */

static bool is_used(const struct slab *slab, size_t index)
{
    return slab->used[index / WORD_BITS] >> (index % WORD_BITS) & 1;
}

static void use_slot_locked(struct slab *slab, size_t index)
{
    assert(!is_used(slab, index));
    slab->used[index / WORD_BITS] |= (uint64_t)1 << (index % WORD_BITS);
    slab->used_count++;
}

static bool has_room(const struct slab *slab)
{
    return !slab->inherited && (slab->free_count || slab->fresh < SLAB_SLOTS);
}

/* The one that was freed last: its pages are in memory. */
static size_t take_slot_locked(struct slab *slab)
{
    assert(has_room(slab));
    size_t index = slab->free_count ? slab->free[--slab->free_count] : slab->fresh++;
    use_slot_locked(slab, index);
    if (!has_room(slab))
        list_remove(&slab->link);
    return index;
}

static struct disk_file *open_slot_locked(struct slabs *slabs, struct slab *slab, size_t index, bool found)
{
    struct slot *slot = xcalloc(1, sizeof *slot);
    slot->file.disk = &slabs->disk;
    slot->slab = slab;
    slot->offset = index * slot_bytes(slab);
    atomic_init(&slot->written, found); /* what was found there may not be flushed */
    slab->references++;
    return &slot->file;
}

static void unref_locked(struct slab *slab)
{
    if (--slab->references)
        return;
    disk_close(slab->file);
    free(slab);
}

/* ---- Slabs. ---- */

static struct slab *find_locked(const struct slabs *slabs, const char *name)
{
    struct slab *slab;
    HASH_FIND(by_name, slabs->table, name, strlen(name), slab);
    return slab;
}

static struct slab *add_locked(struct slabs *slabs, size_t class, const char *name, struct disk_file *file)
{
    struct slab *slab = xcalloc(1, sizeof *slab);
    snprintf(slab->name, sizeof slab->name, "%s", name);
    slab->class = class;
    slab->file = file;
    slab->references = 1;
    atomic_init(&slab->written, 1); /* 0 is what was never written, 1 what was found */
    list_init(&slab->link);
    HASH_ADD(by_name, slabs->table, name, strlen(slab->name), slab);
    return slab;
}

static int make_slab_locked(struct slabs *slabs, size_t class, struct slab **ret_slab)
{
    char name[SLAB_NAME_MAX];
    struct disk_file *file;
    int rc;
    do {
        print_slab(name, class, ++slabs->number);
        rc = disk_open(slabs->below, name, DISK_CREATE | DISK_EXCLUSIVE, &file);
    } while (rc == -EEXIST); /* unsent bytes of an earlier mount */
    if (rc < 0)
        return rc;
    *ret_slab = add_locked(slabs, class, name, file);
    list_append(&slabs->open[class], &(*ret_slab)->link);
    return 0;
}

/* The one that was filled last: so that older ones become empty, and go. */
static int find_room_locked(struct slabs *slabs, size_t class, struct slab **ret_slab)
{
    struct list *last = slabs->open[class].prev;
    if (last == &slabs->open[class])
        return make_slab_locked(slabs, class, ret_slab);
    *ret_slab = container_of(last, struct slab, link);
    return 0;
}

static size_t class_of(uint64_t bytes)
{
    size_t class = 0;
    while (class < CLASSES && classes[class].slot_bytes < bytes)
        class ++;
    return class;
}

int slabs_claim(struct slabs *slabs, uint64_t bytes, struct disk_file **ret_file,
                char ret_name[SLAB_NAME_MAX])
{
    size_t class = class_of(bytes);
    struct slab *slab;
    if (class == CLASSES)
        return -EFBIG;
    LOCK_SCOPED(&slabs->lock);
    int rc = find_room_locked(slabs, class, &slab);
    if (rc < 0)
        return rc;
    size_t index = take_slot_locked(slab);
    snprintf(ret_name, SLAB_NAME_MAX, "%s", slab->name);
    add_slot(ret_name, index);
    *ret_file = open_slot_locked(slabs, slab, index, false);
    return 0;
}

uint64_t slab_room(const struct slabs *slabs, const struct disk_file *file)
{
    if (file->disk != &slabs->disk)
        return UINT64_MAX;
    return slot_bytes(container_of(file, const struct slot, file)->slab);
}

/* ---- The disk: names. ---- */

static int find_or_open_locked(struct slabs *slabs, const char *name, size_t class, int flags,
                               struct slab **ret_slab)
{
    struct disk_file *file;
    *ret_slab = find_locked(slabs, name);
    if (*ret_slab)
        return 0;
    int rc = disk_open(slabs->below, name, flags, &file);
    if (rc < 0)
        return rc;
    *ret_slab = add_locked(slabs, class, name, file);
    (*ret_slab)->inherited = true;
    return 0;
}

static int open_name(struct disk *disk, const char *name, int flags, struct disk_file **ret_file)
{
    struct slabs *slabs = slabs_of(disk);
    char slab_name[SLAB_NAME_MAX];
    struct slab *slab;
    size_t class, index;
    if (!parse_slot(name, slab_name, &class, &index))
        return disk_open(slabs->below, name, flags, ret_file);
    LOCK_SCOPED(&slabs->lock);
    int rc = find_or_open_locked(slabs, slab_name, class, flags & DISK_CREATE, &slab);
    if (rc < 0)
        return rc;
    if (!is_used(slab, index)) {
        if (!slab->inherited)
            return -ENOENT;
        use_slot_locked(slab, index);
    }
    *ret_file = open_slot_locked(slabs, slab, index, true);
    return 0;
}

/* False: the slab is empty, and its name with it. */
static bool free_slot_locked(struct slabs *slabs, struct slab *slab, size_t index)
{
    bool full = !has_room(slab);
    slab->used[index / WORD_BITS] &= ~((uint64_t)1 << (index % WORD_BITS));
    slab->used_count--;
    slab->free[slab->free_count++] = (uint16_t)index;
    if (slab->used_count == 0) {
        list_remove(&slab->link);
        HASH_DELETE(by_name, slabs->table, slab);
        unref_locked(slab);
        return false;
    }
    if (full && !slab->inherited)
        list_prepend(&slabs->open[slab->class], &slab->link);
    return true;
}

static int remove_name(struct disk *disk, const char *name)
{
    struct slabs *slabs = slabs_of(disk);
    char slab_name[SLAB_NAME_MAX];
    size_t class, index;
    if (!parse_slot(name, slab_name, &class, &index))
        return slabs->below->ops->remove(slabs->below, name);
    {
        LOCK_SCOPED(&slabs->lock);
        struct slab *slab = find_locked(slabs, slab_name);
        if (!slab || !is_used(slab, index))
            return -ENOENT;
        if (free_slot_locked(slabs, slab, index))
            return 0;
    }
    return slabs->below->ops->remove(slabs->below, slab_name);
}

static int rename_name(struct disk *disk, const char *from, const char *to)
{
    struct disk *below = slabs_of(disk)->below;
    return below->ops->rename(below, from, to);
}

static int flush_names(struct disk *disk)
{
    struct disk *below = slabs_of(disk)->below;
    return below->ops->flush_names(below);
}

static int list_names(struct disk *disk, int (*each)(void *context, const char *name), void *context)
{
    struct disk *below = slabs_of(disk)->below;
    return below->ops->list(below, each, context);
}

static int measure_space(struct disk *disk, uint64_t *ret_total, uint64_t *ret_free)
{
    struct disk *below = slabs_of(disk)->below;
    return below->ops->space(below, ret_total, ret_free);
}

static int open_subdisk(struct disk *disk, const char *name, struct disk **ret_disk)
{
    struct disk *below = slabs_of(disk)->below;
    return below->ops->subdisk(below, name, ret_disk);
}

/* ---- The disk: a slot as a file. ---- */

static void close_slot(struct disk_file *file)
{
    struct slabs *slabs = slabs_of(file->disk);
    struct slot *slot = slot_of(file);
    lock_take(&slabs->lock);
    unref_locked(slot->slab);
    lock_drop(&slabs->lock);
    free(slot);
}

static ssize_t read_slot(struct disk_file *file, void *bytes, size_t size, uint64_t offset)
{
    struct slot *slot = slot_of(file);
    uint64_t room = slot_bytes(slot->slab), rest = offset < room ? room - offset : 0;
    return disk_read(slot->slab->file, bytes, size < rest ? size : (size_t)rest, slot->offset + offset);
}

static bool fits(const struct slot *slot, uint64_t offset, uint64_t size)
{
    uint64_t room = slot_bytes(slot->slab);
    return offset <= room && size <= room - offset;
}

/* In this order: who flushes sees the number only when the bytes are there. Also what was written by half needs a flush. */
static void note_written(struct slot *slot)
{
    atomic_store(&slot->written, atomic_fetch_add(&slot->slab->written, 1) + 1);
}

static int write_slot(struct disk_file *file, const void *bytes, size_t size, uint64_t offset)
{
    struct slot *slot = slot_of(file);
    if (!fits(slot, offset, size))
        return -EFBIG;
    int rc = disk_write(slot->slab->file, bytes, size, slot->offset + offset);
    note_written(slot);
    return rc;
}

/* There is no size to be kept: what is behind the end nobody reads. */
static int truncate_slot(struct disk_file *file, uint64_t size)
{
    return fits(slot_of(file), 0, size) ? 0 : -EFBIG;
}

static int punch_slot(struct disk_file *file, uint64_t offset, uint64_t size)
{
    struct slot *slot = slot_of(file);
    if (!fits(slot, offset, size))
        return -EFBIG;
    int rc = disk_punch(slot->slab->file, slot->offset + offset, size);
    note_written(slot);
    return rc;
}

static int allocate_slot(struct disk_file *file, uint64_t offset, uint64_t size)
{
    struct slot *slot = slot_of(file);
    return fits(slot, offset, size) ? disk_allocate(slot->slab->file, slot->offset + offset, size) : -EFBIG;
}

static void raise_flushed(struct slab *slab, uint64_t to)
{
    uint_fast64_t flushed = atomic_load(&slab->flushed);
    while (flushed < to && !atomic_compare_exchange_weak(&slab->flushed, &flushed, to))
        continue;
}

static int flush_slot(struct disk_file *file)
{
    struct slot *slot = slot_of(file);
    struct slab *slab = slot->slab;
    uint64_t written = atomic_load(&slab->written);
    if (atomic_load(&slab->broken))
        return -EIO;
    if (atomic_load(&slot->written) <= atomic_load(&slab->flushed))
        return 0;
    int rc = disk_flush(slab->file);
    if (rc < 0)
        atomic_store(&slab->broken, true);
    else
        raise_flushed(slab, written);
    return rc;
}

static int measure_slot(struct disk_file *file, uint64_t *ret_size)
{
    *ret_size = slot_bytes(slot_of(file)->slab);
    return 0;
}

/* ---- Life. ---- */

static void free_disk(struct disk *disk)
{
    slabs_free(slabs_of(disk));
}

static const struct disk_ops slab_ops = {
    .open = open_name,
    .close = close_slot,
    .read = read_slot,
    .write = write_slot,
    .truncate = truncate_slot,
    .punch = punch_slot,
    .allocate = allocate_slot,
    .flush = flush_slot,
    .size = measure_slot,
    .rename = rename_name,
    .remove = remove_name,
    .flush_names = flush_names,
    .list = list_names,
    .space = measure_space,
    .subdisk = open_subdisk,
    .free = free_disk,
};

struct slabs *slabs_new(struct disk *below)
{
    struct slabs *slabs = xcalloc(1, sizeof *slabs);
    slabs->disk.ops = &slab_ops;
    slabs->below = below;
    slabs->number = (uint64_t)clock_wall_ns();
    lock_init(&slabs->lock, LOCK_BLOCKS, "slabs");
    for (size_t i = 0; i < CLASSES; i++)
        list_init(&slabs->open[i]);
    return slabs;
}

void slabs_free(struct slabs *slabs)
{
    struct slab *slab, *after;
    if (!slabs)
        return;
    HASH_ITER (by_name, slabs->table, slab, after) {
        assert(slab->references == 1);
        HASH_DELETE(by_name, slabs->table, slab);
        unref_locked(slab);
    }
    lock_release(&slabs->lock);
    free(slabs);
}

struct disk *slabs_disk(struct slabs *slabs)
{
    return &slabs->disk;
}
