#include "tests/support/power_disk.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/list.h"

#define PAGE ((size_t)4096)

struct content {
    char *bytes;
    size_t size, room;
};

struct node { /* a file; names and handles hold references */
    int references;
    struct content now, kept;
    size_t from, to; /* all that may differ, but for the sizes, lies between them */
};

struct name {
    char *name;
    struct node *now, *kept; /* NULL: none */
};

struct power_disk {
    struct disk disk;
    pthread_mutex_t mutex;
    struct name *names;
    size_t count;
    atomic_long calls;
    void (*before)(void *context, long nth);
    void *context;
    uint64_t room;
};

struct power_file {
    struct disk_file file;
    struct node *node;
};

static struct power_disk *power_of(struct disk *disk)
{
    return container_of(disk, struct power_disk, disk);
}

static struct node *node_of(struct disk_file *file)
{
    return container_of(file, struct power_file, file)->node;
}

static struct node *node_ref(struct node *node)
{
    if (node)
        node->references++;
    return node;
}

static void node_unref(struct node *node)
{
    if (!node || --node->references > 0)
        return;
    free(node->now.bytes);
    free(node->kept.bytes);
    free(node);
}

static void set_node(struct node **place, struct node *node)
{
    node_ref(node);
    node_unref(*place);
    *place = node;
}

static void set_size(struct content *content, size_t size)
{
    if (size > content->room) {
        content->room = size < content->room * 2 ? content->room * 2 : size;
        content->bytes = xrealloc(content->bytes, content->room);
    }
    if (size > content->size)
        memset(content->bytes + content->size, 0, size - content->size);
    content->size = size;
}

static void copy_content(struct content *to, const struct content *from)
{
    set_size(to, from->size);
    if (from->size)
        memcpy(to->bytes, from->bytes, from->size);
}

static void touch(struct node *node, size_t from, size_t to)
{
    bool clean = node->from == node->to;
    node->from = clean || from < node->from ? from : node->from;
    node->to = clean || to > node->to ? to : node->to;
}

static void keep(struct node *node)
{
    set_size(&node->kept, node->now.size);
    size_t to = node->to < node->now.size ? node->to : node->now.size;
    if (node->from < to)
        memcpy(node->kept.bytes + node->from, node->now.bytes + node->from, to - node->from);
    node->from = node->to = 0;
}

static struct name *find_name(struct power_disk *power, const char *name, bool make)
{
    for (size_t i = 0; i < power->count; i++)
        if (strcmp(power->names[i].name, name) == 0)
            return &power->names[i];
    if (!make)
        return NULL;
    power->names = xrealloc(power->names, (power->count + 1) * sizeof power->names[0]);
    power->names[power->count] = (struct name){.name = xstrdup(name)};
    return &power->names[power->count++];
}

/* Names that neither are nor were. */
static void drop_names(struct power_disk *power)
{
    for (size_t i = power->count; i-- > 0;)
        if (!power->names[i].now && !power->names[i].kept) {
            free(power->names[i].name);
            power->names[i] = power->names[--power->count];
        }
}

/* ---- Calls. ---- */

static void begin(struct disk *disk)
{
    struct power_disk *power = power_of(disk);
    long nth = atomic_fetch_add(&power->calls, 1) + 1;
    if (power->before)
        power->before(power->context, nth);
    pthread_mutex_lock(&power->mutex);
}

static int end(struct disk *disk, int rc)
{
    pthread_mutex_unlock(&power_of(disk)->mutex);
    return rc;
}

static int open_file(struct disk *disk, const char *name, int flags, struct disk_file **ret_file)
{
    begin(disk);
    struct name *found = find_name(power_of(disk), name, true);
    if (!found->now && !(flags & DISK_CREATE))
        return end(disk, -ENOENT);
    if (found->now && (flags & DISK_EXCLUSIVE))
        return end(disk, -EEXIST);
    if (!found->now)
        set_node(&found->now, xcalloc(1, sizeof(struct node)));
    struct power_file *file = xcalloc(1, sizeof *file);
    file->file.disk = disk;
    file->node = node_ref(found->now);
    *ret_file = &file->file;
    return end(disk, 0);
}

static void close_file(struct disk_file *file)
{
    struct power_disk *power = power_of(file->disk);
    pthread_mutex_lock(&power->mutex);
    node_unref(node_of(file));
    pthread_mutex_unlock(&power->mutex);
    free(container_of(file, struct power_file, file));
}

static ssize_t read_file(struct disk_file *file, void *bytes, size_t size, uint64_t offset)
{
    struct power_disk *power = power_of(file->disk);
    struct content *now = &node_of(file)->now;
    pthread_mutex_lock(&power->mutex);
    size_t left = offset < now->size ? now->size - offset : 0;
    size_t got = left < size ? left : size;
    if (got)
        memcpy(bytes, now->bytes + offset, got);
    pthread_mutex_unlock(&power->mutex);
    return (ssize_t)got;
}

static int write_file(struct disk_file *file, const void *bytes, size_t size, uint64_t offset)
{
    struct power_disk *power = power_of(file->disk);
    struct content *now = &node_of(file)->now;
    int rc = 0;
    begin(file->disk);
    if (offset + size > now->size && power->room != UINT64_MAX) {
        uint64_t more = offset + size - now->size;
        if (more > power->room) {
            rc = -ENOSPC;
            size /= 2;
        } else {
            power->room -= more;
        }
    }
    if (offset + size > now->size) {
        touch(node_of(file), now->size, offset);
        set_size(now, offset + size);
    }
    if (size)
        memcpy(now->bytes + offset, bytes, size);
    touch(node_of(file), offset, offset + size);
    return end(file->disk, rc);
}

static int truncate_file(struct disk_file *file, uint64_t size)
{
    struct node *node = node_of(file);
    begin(file->disk);
    touch(node, size < node->now.size ? size : node->now.size, size < node->now.size ? node->now.size : size);
    set_size(&node->now, size);
    return end(file->disk, 0);
}

static int punch_file(struct disk_file *file, uint64_t offset, uint64_t size)
{
    struct content *now = &node_of(file)->now;
    begin(file->disk);
    touch(node_of(file), offset, offset + size);
    if (offset < now->size)
        memset(now->bytes + offset, 0, size < now->size - offset ? size : now->size - offset);
    return end(file->disk, 0);
}

static int flush_file(struct disk_file *file)
{
    struct node *node = node_of(file);
    begin(file->disk);
    keep(node);
    return end(file->disk, 0);
}

static int tell_size(struct disk_file *file, uint64_t *ret_size)
{
    struct power_disk *power = power_of(file->disk);
    pthread_mutex_lock(&power->mutex);
    *ret_size = node_of(file)->now.size;
    return end(file->disk, 0);
}

static int rename_name(struct disk *disk, const char *from, const char *to)
{
    begin(disk);
    find_name(power_of(disk), to, true); /* first: it may move the others */
    struct name *source = find_name(power_of(disk), from, true),
                *target = find_name(power_of(disk), to, true);
    if (!source->now)
        return end(disk, -ENOENT);
    set_node(&target->now, source->now);
    set_node(&source->now, NULL);
    return end(disk, 0);
}

static int remove_name(struct disk *disk, const char *name)
{
    begin(disk);
    struct name *found = find_name(power_of(disk), name, false);
    if (!found || !found->now)
        return end(disk, -ENOENT);
    set_node(&found->now, NULL);
    return end(disk, 0);
}

static int flush_names(struct disk *disk)
{
    struct power_disk *power = power_of(disk);
    begin(disk);
    for (size_t i = 0; i < power->count; i++)
        set_node(&power->names[i].kept, power->names[i].now);
    drop_names(power);
    return end(disk, 0);
}

static int list_names(struct disk *disk, int (*each)(void *context, const char *name), void *context)
{
    struct power_disk *power = power_of(disk);
    int rc = 0;
    pthread_mutex_lock(&power->mutex);
    size_t count = 0, most = power->count;
    char **names = xcalloc(most + 1, sizeof names[0]);
    for (size_t i = 0; i < most; i++)
        if (power->names[i].now)
            names[count++] = xstrdup(power->names[i].name);
    pthread_mutex_unlock(&power->mutex);
    for (size_t i = 0; i < count; i++) {
        rc = rc == 0 ? each(context, names[i]) : rc;
        free(names[i]);
    }
    free(names);
    return rc;
}

static int tell_space(struct disk *disk, uint64_t *ret_total, uint64_t *ret_free)
{
    *ret_total = UINT64_MAX;
    *ret_free = power_of(disk)->room;
    return 0;
}

static int refuse_subdisk(struct disk *disk, const char *name, struct disk **ret_disk)
{
    (void)disk, (void)name, (void)ret_disk;
    return -EOPNOTSUPP;
}

static void free_nothing(struct disk *disk)
{
    (void)disk;
}

struct power_disk *power_disk_new(void)
{
    static const struct disk_ops ops = {
        .open = open_file,
        .close = close_file,
        .read = read_file,
        .write = write_file,
        .truncate = truncate_file,
        .punch = punch_file,
        .flush = flush_file,
        .size = tell_size,
        .rename = rename_name,
        .remove = remove_name,
        .flush_names = flush_names,
        .list = list_names,
        .space = tell_space,
        .subdisk = refuse_subdisk,
        .free = free_nothing,
    };
    struct power_disk *power = xcalloc(1, sizeof *power);
    power->disk.ops = &ops;
    power->room = UINT64_MAX;
    pthread_mutex_init(&power->mutex, NULL);
    return power;
}

struct disk *power_disk_disk(struct power_disk *power)
{
    return &power->disk;
}

void power_disk_free(struct power_disk *power)
{
    for (size_t i = 0; i < power->count; i++) {
        set_node(&power->names[i].now, NULL);
        set_node(&power->names[i].kept, NULL);
        free(power->names[i].name);
    }
    free(power->names);
    pthread_mutex_destroy(&power->mutex);
    free(power);
}

void power_disk_watch(struct power_disk *power, void (*before)(void *context, long nth), void *context)
{
    power->context = context;
    power->before = before;
}

void power_disk_set_room(struct power_disk *power, uint64_t bytes)
{
    pthread_mutex_lock(&power->mutex);
    power->room = bytes;
    pthread_mutex_unlock(&power->mutex);
}

/* ---- The cut. ---- */

static bool keeps_new(unsigned seed, unsigned *random)
{
    *random = *random * 1664525u + 1013904223u;
    return seed > 0 && ((*random >> 16) & 1);
}

static size_t choose_size(const struct node *node, unsigned seed, unsigned *random)
{
    size_t now = node->now.size, kept = node->kept.size;
    size_t low = now < kept ? now : kept, high = now < kept ? kept : now;
    bool newer = keeps_new(seed, random);
    if (seed > 0 && high > low && keeps_new(seed, random))
        return low + (*random >> 8) % (high - low + 1);
    return newer ? now : kept;
}

static void page_from(struct content *to, const struct content *from, size_t at)
{
    size_t length = to->size - at < PAGE ? to->size - at : PAGE;
    size_t there = from->size > at ? from->size - at : 0;
    memcpy(to->bytes + at, from->bytes + at, there < length ? there : length);
}

static void find_content(const struct node *node, unsigned seed, unsigned *random,
                         struct content *ret_content)
{
    *ret_content = (struct content){0};
    set_size(ret_content, choose_size(node, seed, random));
    for (size_t at = 0; at < ret_content->size; at += PAGE) {
        const struct content *from = keeps_new(seed, random) ? &node->now : &node->kept;
        if (from->size > at)
            page_from(ret_content, from, at);
    }
}

static struct node *find_node(const struct node *node, unsigned seed, unsigned *random)
{
    struct node *found = xcalloc(1, sizeof *found);
    find_content(node, seed, random, &found->now);
    copy_content(&found->kept, &found->now);
    return found;
}

struct power_disk *power_disk_cut(struct power_disk *power, unsigned seed)
{
    struct power_disk *found = power_disk_new();
    unsigned random = seed;
    pthread_mutex_lock(&power->mutex);
    for (size_t i = 0; i < power->count; i++) {
        const struct name *name = &power->names[i];
        struct node *node = name->now == name->kept || keeps_new(seed, &random) ? name->now : name->kept;
        if (!node)
            continue;
        struct name *place = find_name(found, name->name, true);
        set_node(&place->now, find_node(node, seed, &random));
        set_node(&place->kept, place->now);
    }
    pthread_mutex_unlock(&power->mutex);
    return found;
}

static struct node *copy_node(const struct node *node)
{
    struct node *copy = xcalloc(1, sizeof *copy);
    copy_content(&copy->now, &node->now);
    copy_content(&copy->kept, &node->kept);
    copy->from = node->from;
    copy->to = node->to;
    return copy;
}

struct power_disk *power_disk_kill(struct power_disk *power)
{
    struct power_disk *found = power_disk_new();
    pthread_mutex_lock(&power->mutex);
    for (size_t i = 0; i < power->count; i++) {
        const struct name *name = &power->names[i];
        struct name *place = find_name(found, name->name, true);
        if (name->now)
            set_node(&place->now, copy_node(name->now));
        if (name->kept)
            set_node(&place->kept, name->kept == name->now ? place->now : copy_node(name->kept));
    }
    pthread_mutex_unlock(&power->mutex);
    return found;
}

bool power_disk_flip(struct power_disk *power, const char *name, uint64_t bit)
{
    struct name *found = find_name(power, name, false);
    if (!found || !found->now || bit / 8 >= found->now->now.size)
        return false;
    found->now->now.bytes[bit / 8] ^= (char)(1 << bit % 8);
    return true;
}

char *power_disk_bytes(struct power_disk *power, const char *name, size_t *ret_size)
{
    struct name *found = find_name(power, name, false);
    if (!found || !found->now)
        return NULL;
    char *bytes = xmalloc(found->now->now.size);
    memcpy(bytes, found->now->now.bytes, found->now->now.size);
    *ret_size = found->now->now.size;
    return bytes;
}
