#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/disk.h"
#include "base/err.h"
#include "cache/cache.h"
#include "mount/courier.h"
#include "mount/words.h"

/* Beside the file while it comes: its bytes, and which of its ranges are there.
 *
 *      NAME.skyvol-download           the bytes
 *      NAME.skyvol-download.ranges    first line: size, ETag, the object's checksum where it tells one; then one number of a range in each
 *                                     line, with the range's checksum, after its bytes are on the disk
 *
 * A run that finds them goes on where they end if the object is still that one; both go when the file stands. What comes is summed up
 * while it is in memory, by the checksum that the object tells of itself; the CRCs of S3 join, so that nothing is read twice. */
#define SUFFIX      ".skyvol-download"
#define FLUSH_EVERY 8 /* ranges */

struct object {
    char *key, *path;
    uint64_t size;
    char etag[STORE_ETAG_MAX];
};

struct objects {
    struct object *all;
    size_t count;
    uint64_t alone_max; /* courier_alone() */
    const char *prefix, *directory;
    char *made; /* below `directory`: where the last object lies */
    struct courier *courier;
};

struct download {
    const struct object *object;
    char *fresh, *ranges; /* paths */
    int fd;
    FILE *log;
    uint64_t part;
    size_t count;
    bool *landed;
    uint64_t *sums;        /* of the ranges that have landed */
    struct store_sum told; /* by the server, of the whole */
    char etag[STORE_ETAG_MAX];
    uint64_t size;
    struct attributes attributes;
    struct lock lock;
    size_t unflushed[FLUSH_EVERY], unflushed_count;
    atomic_int rc;
};

/* ---- What is there from an earlier run. ---- */

/* What makes it the same download. */
static void name_object(const struct download *download, char out[STORE_ETAG_MAX + 64])
{
    int length =
        snprintf(out, STORE_ETAG_MAX + 64, "%llu %s", (unsigned long long)download->size, download->etag);
    if (download->told.kind)
        length += snprintf(out + length, STORE_ETAG_MAX + 64 - (size_t)length, " %d:%llx",
                           (int)download->told.kind, (unsigned long long)download->told.value);
    snprintf(out + length, STORE_ETAG_MAX + 64 - (size_t)length, "\n");
}

/* "7", or "7 9ae4c3f2". */
static void read_range(struct download *download, const char *line)
{
    char *end, *sum;
    unsigned long index = strtoul(line, &end, 10);
    uint64_t value = strtoull(sum = end, &end, 16);
    if (*end != '\n' || sum == line || index >= download->count || (sum == end) != !download->told.kind)
        return;
    download->landed[index] = true;
    download->sums[index] = value;
}

/* found: the bytes are there; without them the log is worth nothing. */
static void read_ranges(struct download *download, bool found)
{
    char line[STORE_ETAG_MAX + 64], want[STORE_ETAG_MAX + 64];
    FILE *log = fopen(download->ranges, "re");
    name_object(download, want);
    bool same = found && log && fgets(line, sizeof line, log) && strcmp(line, want) == 0;
    while (same && fgets(line, sizeof line, log))
        read_range(download, line);
    if (log)
        fclose(log);
    if (!same)
        unlink(download->ranges);
}

/* Ours alone until it is closed. 1: it was there; 0: it is new; -EBUSY: another process downloads to it, or has just put it into its place. */
static int claim_file(struct download *download)
{
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    struct stat mine, there;
    download->fd = open(download->fresh, flags | O_EXCL, 0600);
    bool found = download->fd < 0 && errno == EEXIST;
    if (found)
        download->fd = open(download->fresh, flags, 0600);
    if (download->fd < 0 || fstat(download->fd, &mine) < 0)
        return -errno;
    if (!S_ISREG(mine.st_mode))
        return -EEXIST;
    if (flock(download->fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    if (stat(download->fresh, &there) < 0 || there.st_ino != mine.st_ino || there.st_dev != mine.st_dev)
        return -EBUSY;
    return found;
}

static int open_log(struct download *download, bool fresh)
{
    download->log = fopen(download->ranges, "ae");
    if (!download->log)
        return -errno;
    char line[STORE_ETAG_MAX + 64];
    name_object(download, line);
    if (fresh)
        fputs(line, download->log);
    return fflush(download->log) == 0 ? 0 : -errno;
}

/* An object of one range is fetched whole again: it has no log. */
static int open_files(struct download *download)
{
    int found = claim_file(download);
    if (found < 0)
        return found;
    if (!found && download->count <= 1)
        return 0;
    read_ranges(download, found);
    bool fresh = access(download->ranges, F_OK) < 0;
    if ((fresh && ftruncate(download->fd, 0) < 0) || ftruncate(download->fd, (off_t)download->size) < 0)
        return -errno;
    return download->count > 1 ? open_log(download, fresh) : 0;
}

/* Bytes first, then the lines that say so. The lock is not held while the disk works: others go on. */
static int flush_landed(struct download *download, const size_t *landed, size_t count)
{
    if (!count)
        return 0;
    if (fdatasync(download->fd) < 0)
        return -errno;
    LOCK_SCOPED(&download->lock);
    for (size_t i = 0; i < count; i++) {
        fprintf(download->log, "%zu", landed[i]);
        if (download->told.kind)
            fprintf(download->log, " %llx", (unsigned long long)download->sums[landed[i]]);
        fputc('\n', download->log);
    }
    return fflush(download->log) == 0 ? 0 : -errno;
}

static int note_landed(struct download *download, size_t index)
{
    size_t landed[FLUSH_EVERY], count = 0;
    if (!download->log)
        return 0;
    lock_take(&download->lock);
    download->unflushed[download->unflushed_count++] = index;
    if (download->unflushed_count == FLUSH_EVERY) {
        memcpy(landed, download->unflushed, sizeof landed);
        count = FLUSH_EVERY;
        download->unflushed_count = 0;
    }
    lock_drop(&download->lock);
    return flush_landed(download, landed, count);
}

/* ---- One object. ---- */

static void learn(struct download *download, const struct store_object *object)
{
    download->size = object->size;
    memcpy(download->etag, object->etag, sizeof download->etag);
    download->told = object->sum;
    cache_attributes_of(object, &download->attributes);
}

static void head(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct download *download = context;
    struct store_call call = {.op = STORE_HEAD, .key = download->object->key, .tell_sum = true};
    (void)index;
    int rc = courier_call(courier, &call, waiter);
    if (rc < 0 && call.error.http_status == 400) { /* it may be the question: a HEAD has no words */
        store_call_release(&call);
        call = (struct store_call){.op = STORE_HEAD, .key = download->object->key};
        rc = courier_call(courier, &call, waiter);
    }
    if (rc < 0) {
        courier_fail_call(courier, download->object->key,
                          rc == -ENOENT ? "there is no such object" : "it cannot be read", &call, rc);
    } else {
        learn(download, &call.object);
    }
    atomic_store(&download->rc, rc);
    store_call_release(&call);
}

static uint64_t sum_up(enum store_checksum kind, const char *bytes, uint64_t length)
{
    switch (kind) {
    case CHECKSUM_CRC32C:
        return crc32c(0, bytes, length);
    case CHECKSUM_CRC64NVME:
        return crc64nvme(0, bytes, length);
    case CHECKSUM_CRC32:
        return crc32_ieee(0, bytes, length);
    default:
        return 0;
    }
}

/* Of what is before, and a range of so many bytes behind it. */
static uint64_t join_sums(enum store_checksum kind, uint64_t sum, uint64_t next, uint64_t length)
{
    switch (kind) {
    case CHECKSUM_CRC32C:
        return crc32c_join((uint32_t)sum, (uint32_t)next, length);
    case CHECKSUM_CRC64NVME:
        return crc64nvme_join(sum, next, length);
    case CHECKSUM_CRC32:
        return crc32_ieee_join((uint32_t)sum, (uint32_t)next, length);
    default:
        return 0;
    }
}

/* -EIO: what has come is not what was stored. Nothing of it is kept. */
static int prove_whole(struct courier *courier, struct download *download)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < download->count; i++) {
        uint64_t rest = download->size - download->part * i;
        uint64_t length = rest < download->part ? rest : download->part;
        sum = join_sums(download->told.kind, sum, download->sums[i], length);
    }
    if (!download->told.kind || sum == download->told.value)
        return 0;
    unlink(download->fresh);
    unlink(download->ranges);
    courier_fail(courier, download->object->key,
                 "what came has another checksum than what was stored: nothing is kept; download it again");
    return -EIO;
}

static int write_range(int fd, const char *bytes, uint64_t offset, uint64_t length)
{
    while (length > 0) {
        ssize_t some =
            pwrite(fd, bytes, length < DISK_WRITE_BYTES ? length : DISK_WRITE_BYTES, (off_t)offset);
        if (some < 0 && errno == EINTR)
            continue;
        if (some <= 0)
            return some < 0 ? -errno : -ENOSPC;
        bytes += some;
        offset += (uint64_t)some;
        length -= (uint64_t)some;
    }
    return 0;
}

static void get_range(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct download *download = context;
    uint64_t offset = download->part * index;
    uint64_t length = download->size - offset < download->part ? download->size - offset : download->part;
    if (download->landed[index]) {
        atomic_fetch_add(&courier->bytes_done, length);
        return;
    }
    if (atomic_load(&download->rc) < 0)
        return;
    char *room = courier_room(courier, waiter, length);
    struct iovec into = {room, length};
    struct store_call call = {.op = STORE_GET,
                              .key = download->object->key,
                              .offset = offset,
                              .length = length,
                              .if_match = download->etag,
                              .into = &into,
                              .into_count = 1};
    int rc = courier_call(courier, &call, waiter);
    if (rc == 0 && call.received != length)
        rc = -EIO;
    if (rc == -ESTALE)
        courier_fail(courier, download->object->key, "it was replaced while it was read: download it again");
    else if (rc < 0)
        courier_fail_call(courier, download->object->key, "it cannot be read", &call, rc);
    else {
        download->sums[index] = sum_up(download->told.kind, room, length);
        if ((rc = write_range(download->fd, room, offset, length)) < 0 ||
            (rc = note_landed(download, index)) < 0)
            courier_fail(courier, download->fresh, "%s", err_text(rc));
    }
    if (rc < 0)
        atomic_store(&download->rc, rc);
    else
        atomic_fetch_add(&courier->bytes_done, length);
    store_call_release(&call);
}

static int flush_directory(const char *path)
{
    STRING_SCOPED *directory = xstrdup(path);
    char *slash = strrchr(directory, '/');
    if (slash)
        slash[slash == directory] = 0;
    int fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

/* The whole file appears at once. */
static int take_place(struct download *download)
{
    const struct attributes *attributes = &download->attributes;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {attributes->mtime_ns / 1000000000, attributes->mtime_ns % 1000000000}};
    if (fchmod(download->fd, attributes->mode & 0777) < 0 || futimens(download->fd, times) < 0 ||
        fsync(download->fd) < 0 || rename(download->fresh, download->object->path) < 0)
        return -errno;
    if (download->log)
        unlink(download->ranges);
    return 0;
}

/* Names that have no room for the suffix stand there as a number. */
static char *name_fresh(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (strlen(name) + strlen(SUFFIX ".ranges") <= NAME_MAX)
        return xprintf("%s" SUFFIX, path);
    return xprintf("%.*s%016llx" SUFFIX, (int)(name - path), path,
                   (unsigned long long)crc64nvme(0, name, strlen(name)));
}

static void begin(struct download *download, const struct object *object)
{
    *download = (struct download){.object = object, .fd = -1};
    download->fresh = name_fresh(object->path);
    download->ranges = xprintf("%s.ranges", download->fresh);
    lock_init(&download->lock, LOCK_LEAF, "download");
    atomic_store(&download->rc, -EINTR);
}

static void end(struct download *download)
{
    if (download->log && atomic_load(&download->rc) < 0)
        flush_landed(
            download, download->unflushed,
            download
                ->unflushed_count); /* the next run goes on there; what cannot be noted is fetched again */
    if (download->fd >= 0)
        close(download->fd);
    if (download->log)
        fclose(download->log);
    lock_release(&download->lock);
    free(download->fresh);
    free(download->ranges);
    free(download->landed);
    free(download->sums);
}

static bool prepare(struct courier *courier, struct download *download)
{
    download->part = courier_part(download->size);
    download->count = (size_t)((download->size + download->part - 1) / download->part);
    download->landed = xcalloc(download->count + 1, sizeof *download->landed);
    download->sums = xcalloc(download->count + 1, sizeof *download->sums);
    struct stat status;
    bool taken = lstat(download->object->path, &status) == 0 && S_ISDIR(status.st_mode);
    int rc = taken ? -EISDIR : open_files(download);
    if (taken)
        courier_fail(courier, download->object->key, "%s is a directory: the object is not downloaded",
                     download->object->path);
    else if (rc == -EBUSY)
        courier_fail(courier, download->fresh, "another skyvol download writes it: wait for its end");
    else if (rc < 0)
        courier_fail(courier, download->fresh, "%s", err_text(rc));
    if (rc < 0)
        atomic_store(&download->rc, rc);
    return rc == 0;
}

static void finish(struct courier *courier, struct download *download)
{
    int rc = prove_whole(courier, download);
    if (rc < 0) {
        atomic_store(&download->rc, rc);
        return;
    }
    rc = take_place(download);
    if (rc < 0) {
        courier_fail(courier, download->object->path, "%s", err_text(rc));
        return;
    }
    atomic_fetch_add(&courier->files_done, 1);
    courier_tell(courier, "downloaded", download->object->key, download->object->path, download->size);
}

/* A large one: its ranges side by side. */
static void download_large(struct courier *courier, const struct object *object)
{
    struct download download;
    begin(&download, object);
    courier_each(courier, 1, 1, head, &download);
    if (atomic_load(&download.rc) == 0 && prepare(courier, &download)) {
        courier_each(courier, download.count, courier_crew(download.part), get_range, &download);
        if (atomic_load(&courier->stopped))
            atomic_store(&download.rc, -EINTR);
        if (atomic_load(&download.rc) == 0)
            finish(courier, &download);
    }
    end(&download);
}

/* Of one range: its bytes and its attributes come by one call. -ESTALE: it is another one than it was when it was looked at. */
static int get_whole(struct courier *courier, struct waiter *waiter, struct download *download)
{
    const struct object *object = download->object;
    char *room = courier_room(courier, waiter, object->size);
    struct iovec into = {room, object->size};
    struct store_call call = {.op = STORE_GET,
                              .key = object->key,
                              .length = object->size,
                              .if_match = object->etag,
                              .into = &into,
                              .into_count = 1,
                              .tell_sum = true};
    int rc = courier_call(courier, &call, waiter);
    if (rc == 0 && (call.received != object->size || call.object.size != object->size))
        rc = -ESTALE;
    if (rc < 0 && rc != -ESTALE)
        courier_fail_call(courier, object->key, "it cannot be read", &call, rc);
    if (rc == 0)
        learn(download, &call.object);
    atomic_store(&download->rc, rc);
    bool ready = rc == 0 && prepare(courier, download);
    if (ready)
        download->sums[0] = sum_up(download->told.kind, room, download->size);
    if (ready && (rc = write_range(download->fd, room, 0, download->size)) < 0) {
        courier_fail(courier, download->fresh, "%s", err_text(rc));
        atomic_store(&download->rc, rc);
    }
    store_call_release(&call);
    if (atomic_load(&download->rc) == 0) {
        atomic_fetch_add(&courier->bytes_done, download->size);
        finish(courier, download);
    }
    return atomic_load(&download->rc);
}

/* As it is when it is looked at: its ranges one after another. */
static void get_ranges(struct courier *courier, struct waiter *waiter, struct download *download)
{
    head(courier, waiter, download, 0);
    if (atomic_load(&download->rc) < 0 || !prepare(courier, download))
        return;
    for (size_t i = 0; i < download->count && atomic_load(&download->rc) == 0; i++)
        get_range(courier, waiter, download, i);
    if (atomic_load(&download->rc) == 0)
        finish(courier, download);
}

/* Many beside one another, each by itself. */
static void download_one(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    const struct objects *objects = context;
    const struct object *object = &objects->all[index];
    struct download download;
    if (object->size > objects->alone_max)
        return;
    begin(&download, object);
    bool whole = object->size > 0 && object->size <= COURIER_PART;
    if (!whole || get_whole(courier, waiter, &download) == -ESTALE)
        get_ranges(courier, waiter, &download);
    end(&download);
}

/* The names too, once for each directory: neighbours in a listing share theirs. */
static void flush_directories(struct courier *courier, const struct objects *objects)
{
    size_t last = 0;
    for (size_t i = 0; i < objects->count; i++) {
        const char *path = objects->all[i].path, *slash = strrchr(path, '/');
        size_t length = slash ? (size_t)(slash - path) + 1 : 0;
        bool same = i > 0 && length == last && strncmp(path, objects->all[i - 1].path, length) == 0;
        int rc = same ? 0 : flush_directory(path);
        last = length;
        if (rc < 0 && rc != -ENOENT && rc != -ENOTDIR) /* it is not there: that has been said */
            courier_fail(courier, path, "its directory could not be flushed: %s", err_text(rc));
    }
}

static void download_all(struct courier *courier, struct objects *objects)
{
    objects->alone_max = courier_alone(objects->count);
    courier_each(courier, objects->count, 0, download_one, objects);
    for (size_t i = 0; i < objects->count && !atomic_load(&courier->stopped); i++)
        if (objects->all[i].size > objects->alone_max)
            download_large(courier, &objects->all[i]);
    flush_directories(courier, objects);
    for (size_t i = 0; i < objects->count; i++) {
        free(objects->all[i].key);
        free(objects->all[i].path);
    }
    free(objects->all);
    free(objects->made);
}

static void add_object(struct objects *objects, const char *key, char *path, uint64_t size, const char *etag)
{
    objects->all = xrealloc(objects->all, (objects->count + 1) * sizeof *objects->all);
    objects->all[objects->count++] = (struct object){xstrdup(key), path, size, ""};
    memcpy(objects->all[objects->count - 1].etag, etag, STORE_ETAG_MAX);
    atomic_fetch_add(&objects->courier->files, 1);
    atomic_fetch_add(&objects->courier->bytes, size);
}

/* ---- Names. ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

/* It would be written into the bytes of another one that comes. */
static bool is_our_own(const char *name)
{
    return ends_with(name, SUFFIX) || ends_with(name, SUFFIX ".ranges");
}

/* "a/b/c": no part is empty, "." or "..", and none ends as our own files do. */
static bool is_below(const char *name)
{
    size_t whole = strlen(name);
    if (whole == 0 || whole > 3000)
        return false;
    for (;;) {
        size_t length = strcspn(name, "/");
        bool dots = (length == 1 && name[0] == '.') || (length == 2 && name[0] == '.' && name[1] == '.');
        if (length == 0 || length > 255 || dots)
            return false;
        if (!name[length])
            return !is_our_own(name);
        name += length + 1;
    }
}

/* ---- One, by its name. ---- */

struct sizing {
    const char *key;
    uint64_t size;
    char etag[STORE_ETAG_MAX];
    int rc;
};

static void size_up(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct sizing *sizing = context;
    struct store_call call = {.op = STORE_HEAD, .key = sizing->key};
    (void)index;
    sizing->rc = courier_call(courier, &call, waiter);
    if (sizing->rc < 0)
        courier_fail_call(courier, sizing->key,
                          sizing->rc == -ENOENT ? "there is no such object" : "it cannot be read", &call,
                          sizing->rc);
    sizing->size = call.object.size;
    memcpy(sizing->etag, call.object.etag, sizeof sizing->etag);
    store_call_release(&call);
}

void courier_down(struct courier *courier, const char *key, const char *local)
{
    struct objects objects = {.courier = courier};
    struct sizing sizing = {.key = key, .rc = -EINTR};
    struct stat status;
    const char *slash = strrchr(key, '/'), *name = slash ? slash + 1 : key;
    bool into = stat(local, &status) == 0 && S_ISDIR(status.st_mode);
    if (!into && local[strlen(local) - 1] == '/') {
        courier_fail(courier, local, "there is no such directory");
        return;
    }
    if (into && !is_below(name)) {
        courier_fail(courier, key, "no file in %s can have its name: give the file's whole path", local);
        return;
    }
    courier_each(courier, 1, 1, size_up, &sizing);
    if (sizing.rc < 0)
        return;
    add_object(&objects, key, into ? xprintf("%s/%s", local, name) : xstrdup(local), sizing.size,
               sizing.etag);
    download_all(courier, &objects);
}

/* ---- All below a prefix. ---- */

/* Its parents are made, and none of them is a link that leads away. */
static int make_parents(const char *directory, const char *name)
{
    BUF_SCOPED path = BUF_INIT;
    struct stat status;
    buf_add_string(&path, directory);
    for (;;) {
        if (mkdir(path.bytes, 0777) < 0 && errno != EEXIST)
            return -errno;
        bool first = path.length == strlen(directory);
        if ((first ? stat(path.bytes, &status) : lstat(path.bytes, &status)) < 0)
            return -errno;
        if (!S_ISDIR(status.st_mode))
            return -ENOTDIR;
        size_t length = strcspn(name, "/");
        if (!name[length])
            return 0;
        buf_add_char(&path, '/');
        buf_add(&path, name, length);
        name += length + 1;
    }
}

/* Neighbours in a listing share their directory. */
static int make_parents_once(struct objects *objects, const char *name)
{
    const char *slash = strrchr(name, '/');
    size_t length = slash ? (size_t)(slash - name) : 0;
    if (objects->made && strlen(objects->made) == length && strncmp(objects->made, name, length) == 0)
        return 0;
    int rc = make_parents(objects->directory, name);
    free(objects->made);
    objects->made = rc == 0 ? xstrndup(name, length) : NULL;
    return rc;
}

static bool take_object(void *context, const struct store_object *object)
{
    struct objects *objects = context;
    const char *name = object->key + strlen(objects->prefix);
    size_t length = strlen(name);
    if (length == 0 || (name[length - 1] == '/' && object->size == 0))
        return true; /* a directory's marker */
    if (!is_below(name)) {
        courier_fail(objects->courier, object->key, "no file below %s can have this name: not downloaded",
                     objects->directory);
        return true;
    }
    int rc = make_parents_once(objects, name);
    if (rc < 0) {
        courier_fail(objects->courier, object->key, "a directory of its name cannot be made below %s: %s",
                     objects->directory, err_text(rc));
        return true;
    }
    add_object(objects, object->key, xprintf("%s/%s", objects->directory, name), object->size, object->etag);
    return true;
}

void courier_down_all(struct courier *courier, const char *prefix, const char *directory)
{
    struct objects objects = {.courier = courier, .prefix = prefix, .directory = directory};
    int rc = courier_list(courier, prefix, take_object, &objects);
    if (rc == 0 && !objects.count && !atomic_load(&courier->failures))
        courier_fail(courier, prefix, "there is nothing below it");
    download_all(courier, &objects);
}
