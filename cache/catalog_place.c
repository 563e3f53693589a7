#include "cache/catalog_place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

#define DATA_NAME "data.mdb"
#define LOCK_NAME "lock.mdb"

#define LOCK_BYTES 16384 /* more than LMDB_READS_MAX readers take */

enum worth {
    WORTH_ALL,
    WORTH_NAMES, /* no listings */
    WORTH_NOTHING,
    WORTH_LESS, /* it is damaged */
};

static int refuse(const struct catalog_place *place, const char *what, int rc, struct buf *why)
{
    buf_printf(why, "%s: %s: %s", place->path, what, err_text(rc));
    return rc;
}

/* ---- Throwing away. ---- */

static int remove_one(void *context, const char *name)
{
    struct disk *disk = context;
    int rc = disk->ops->remove(disk, name);
    return rc == -ENOENT ? 0 : rc;
}

static int empty(struct disk *disk)
{
    int rc = remove_one(disk, CATALOG_HEAD_NAME); /* first: without it nothing else counts */

    if (rc == 0)
        rc = disk->ops->list(disk, remove_one, disk);
    return rc;
}

static int remove_directory(const char *path)
{
    struct disk *disk;
    int rc = access(path, F_OK) < 0 ? -errno : disk_open_directory(path, &disk);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    rc = empty(disk);
    disk_free(disk);
    return rc < 0 ? rc : rmdir(path) < 0 ? -errno : 0;
}

static int move_aside(struct catalog_place *place)
{
    STRING_SCOPED *aside = xprintf("%s.damaged", place->path);
    int rc = remove_directory(aside);

    if (rc == 0 && rename(place->path, aside) < 0)
        rc = -errno;
    if (rc < 0) /* what cannot be kept is no reason to keep on stumbling over it */
        return empty(place->disk);
    disk_free(place->disk);
    place->disk = NULL;
    log_warn("catalog: %s was damaged: it is kept as %s, and a new one made", place->path, aside);
    return disk_open_directory(place->path, &place->disk);
}

/* ---- What it is worth. ---- */

static int find_size(struct disk *disk, const char *name, uint64_t *ret_size)
{
    struct disk_file *file;
    int rc = disk_open(disk, name, DISK_READ_ONLY, &file);

    if (rc < 0)
        return rc;
    rc = disk_size(file, ret_size);
    disk_close(file);
    return rc;
}

static bool is_same_boot(const struct catalog_head *head, const char *boot)
{
    return boot && *boot && strcmp(head->boot, boot) == 0;
}

/* The size is looked at here: LMDB would find out by SIGBUS. */
static enum worth judge_map(struct catalog_place *place, const struct catalog_config *config)
{
    const struct catalog_head *head = &place->head;
    uint64_t size, locks = 0;
    int rc = find_size(place->disk, DATA_NAME, &size);

    if (rc < 0 || size < head->bytes)
        return WORTH_LESS;
    rc = find_size(place->disk, LOCK_NAME, &locks);
    if (rc < 0 && rc != -ENOENT)
        return WORTH_LESS;
    if (size > config->bytes_max)
        return WORTH_NOTHING;
    return head->state == CATALOG_CLOSED ? WORTH_ALL : WORTH_NAMES;
}

static enum worth judge(struct catalog_place *place, const struct catalog_config *config)
{
    struct catalog_head *head = &place->head;
    int rc = catalog_head_read(place->disk, head);

    bool died = access(place->mark, F_OK) == 0;
    if (died)
        log_warn("catalog: a process died inside %s: it is begun anew", place->path);
    if (died || rc == -ENOENT || rc == -EPROTO)
        return WORTH_NOTHING;
    if (rc < 0)
        return WORTH_LESS;
    if (strcmp(head->source, config->source) != 0 || head->state == CATALOG_FULL)
        return WORTH_NOTHING;
    if (head->state == CATALOG_BROKEN)
        return WORTH_LESS;
    if (head->state != CATALOG_CLOSED && !is_same_boot(head, config->boot))
        return WORTH_NOTHING;
    return judge_map(place, config);
}

/* ---- Opening. ---- */

/* LMDB maps it and writes to the map: where the disk has no room for it, that is told here and not by SIGBUS. */
static int reserve_locks(struct disk *disk)
{
    static const char zeros[LOCK_BYTES];
    struct disk_file *file;
    uint64_t size;

    if (find_size(disk, LOCK_NAME, &size) == 0 && size >= sizeof zeros)
        return 0;
    int rc = disk_open(disk, LOCK_NAME, DISK_CREATE, &file);
    if (rc < 0)
        return rc;
    rc = disk_write(file, zeros, sizeof zeros, 0); /* LMDB begins it anew */
    disk_close(file);
    return rc;
}

static int note_in_use(struct catalog_place *place, const struct catalog_config *config, enum worth worth)
{
    struct catalog_head *head = &place->head;

    if (worth >= WORTH_NOTHING)
        head->generation = 0;
    head->generation++;
    if (worth != WORTH_ALL)
        head->trusted = head->generation;
    free(head->boot);
    free(head->source);
    head->boot = xstrdup(config->boot ? config->boot : "");
    head->source = xstrdup(config->source);
    return catalog_place_note(place, CATALOG_IN_USE);
}

static int make(struct catalog_place *place, const struct catalog_config *config, enum worth worth)
{
    int rc = worth == WORTH_LESS ? move_aside(place) : worth == WORTH_NOTHING ? empty(place->disk) : 0;

    if (rc == 0 && unlink(place->mark) < 0 &&
        errno != ENOENT) /* after: who dies meanwhile makes it empty again */
        rc = -errno;
    if (rc == 0)
        rc = reserve_locks(place->disk);
    return rc < 0 ? rc : note_in_use(place, config, worth);
}

int catalog_place_open(struct catalog_place *place, const struct catalog_config *config, struct buf *why)
{
    size_t length = strlen(config->path);

    while (length > 1 && config->path[length - 1] == '/')
        length--;
    *place = (struct catalog_place){.path = xstrndup(config->path, length)};
    place->mark = xprintf("%s.mark", place->path);
    int rc = disk_open_directory(place->path, &place->disk);

    if (rc < 0)
        return refuse(place, "open", rc, why);
    enum worth worth = judge(place, config);
    log_debug(
        "catalog: %s is worth %s", place->path,
        (const char *[]){"all of it", "its names, not its listings", "nothing", "less than nothing"}[worth]);
    rc = make(place, config, worth);
    return rc < 0 ? refuse(place, "make", rc, why) : 0;
}

int catalog_place_move_aside(struct catalog_place *place, const struct catalog_config *config,
                             struct buf *why)
{
    int rc = make(place, config, WORTH_LESS);
    return rc < 0 ? refuse(place, "make again", rc, why) : 0;
}

int catalog_place_note(struct catalog_place *place, enum catalog_state state)
{
    struct catalog_head *head = &place->head;

    head->state = state;
    head->bytes = 0;
    if (state == CATALOG_CLOSED) {
        int rc = find_size(place->disk, DATA_NAME, &head->bytes);
        if (rc < 0)
            return rc;
    }
    return catalog_head_write(place->disk, head);
}

void catalog_place_release(struct catalog_place *place)
{
    free(place->path);
    free(place->mark);
    disk_free(place->disk);
    catalog_head_release(&place->head);
    *place = (struct catalog_place){0};
}
