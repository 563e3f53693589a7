/* ceiling: an empty in-memory libfuse filesystem: what no FUSE filesystem on this machine can beat. bench/run divides by it.
 *
 * One flat directory of files in anonymous memory; every reply comes from memory, without a lock that matters. It stands on
 * skyvol's own compat, mountpoint and bdi, and as many threads that receive and process: so INIT, mount options, read-ahead and
 * threads are the same by construction, and what is left between the two is ours to lose.
 *
 *      ceiling [-d] [-t THREADS] DIR        serves in the foreground until unmounted
 *
 * -d: write-only opens use direct I/O, as those of who is measured do.
 * Memory is plain 4 KiB pages, as a page cache's are; with huge pages a large file would be written 1.2 to 1.8 times as fast.
 * FLUSH is answered, not refused: a filesystem that publishes at close has to hear of it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "fs/compat.h"
#include "fs/libfuse.h"
#include "fs/mountpoint.h"

#define TIMEOUT_S      3600.0
#define NODES_MAX      (1 << 20)
#define READ_AHEAD_KIB 4096
#define THREADS        4
#define MAPPED_MIN     ((size_t)2 << 20) /* files from this size on are mapped */

struct node {
    fuse_ino_t id;
    char name[256];
    char *bytes;
    size_t size, room;
    bool gone;
    UT_hash_handle by_name;
};

static struct node *nodes[NODES_MAX]; /* by id - 2 */
static fuse_ino_t next_id = 2;
static struct node *names;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static bool direct_writes;
static struct compat compat;
static struct mountpoint *mountpoint;

struct compat *compat_of(void *userdata)
{
    return userdata;
}

static struct node *find_node(fuse_ino_t id)
{
    return id >= 2 && id < next_id ? nodes[id - 2] : NULL;
}

static void fill_stat(const struct node *node, struct stat *facts)
{
    *facts = (struct stat){.st_ino = node ? node->id : 1,
                           .st_mode = node ? S_IFREG | 0644 : S_IFDIR | 0755,
                           .st_nlink = 1,
                           .st_size = node ? (off_t)node->size : 0,
                           .st_uid = getuid(),
                           .st_gid = getgid()};
}

static void fill_entry(const struct node *node, struct fuse_entry_param *entry)
{
    *entry =
        (struct fuse_entry_param){.ino = node->id, .attr_timeout = TIMEOUT_S, .entry_timeout = TIMEOUT_S};
    fill_stat(node, &entry->attr);
}

static void start(void *context, struct fuse_conn_info *connection)
{
    compat_init(context, connection, false);
}

static void lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    (void)parent;
    pthread_rwlock_rdlock(&lock);
    struct node *node;
    HASH_FIND(by_name, names, name, strlen(name), node);
    struct fuse_entry_param entry = {.entry_timeout = TIMEOUT_S};
    if (node)
        fill_entry(node, &entry);
    pthread_rwlock_unlock(&lock);
    fuse_reply_entry(request, &entry);
}

static void get_attributes(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *file)
{
    (void)file;
    struct stat facts;
    pthread_rwlock_rdlock(&lock);
    fill_stat(find_node(id), &facts);
    pthread_rwlock_unlock(&lock);
    fuse_reply_attr(request, &facts, TIMEOUT_S);
}

/* Small files from the heap; large ones move by mremap. */
static bool make_room(struct node *node, size_t size)
{
    if (size <= node->room)
        return true;
    size_t room = size < MAPPED_MIN ? size : MAPPED_MIN;
    while (room < size)
        room *= 2;
    bool was_mapped = node->room >= MAPPED_MIN;
    void *bytes = room < MAPPED_MIN ? realloc(node->bytes, room)
                  : was_mapped      ? mremap(node->bytes, node->room, room, MREMAP_MAYMOVE)
                               : mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!bytes || bytes == MAP_FAILED)
        return false;
    if (room < MAPPED_MIN) {
        memset((char *)bytes + node->room, 0, room - node->room);
    } else {
        if (!was_mapped && node->room > 0)
            memcpy(bytes, node->bytes, node->room);
        if (!was_mapped)
            free(node->bytes);
    }
    node->bytes = bytes;
    node->room = room;
    return true;
}

static void drop_bytes(struct node *node)
{
    if (node->room >= MAPPED_MIN)
        munmap(node->bytes, node->room);
    else
        free(node->bytes);
    node->bytes = NULL;
    node->size = node->room = 0;
}

static void set_attributes(fuse_req_t request, fuse_ino_t id, struct stat *wanted, int mask,
                           struct fuse_file_info *file)
{
    pthread_rwlock_wrlock(&lock);
    struct node *node = find_node(id);
    if (node && (mask & FUSE_SET_ATTR_SIZE) && make_room(node, (size_t)wanted->st_size))
        node->size = (size_t)wanted->st_size;
    pthread_rwlock_unlock(&lock);
    get_attributes(request, id, file);
}

static struct node *make_node(const char *name)
{
    if (next_id - 2 >= NODES_MAX || strlen(name) >= sizeof(((struct node *)0)->name))
        return NULL;
    struct node *node = calloc(1, sizeof(*node));
    if (!node)
        return NULL;
    node->id = next_id;
    strcpy(node->name, name);
    nodes[next_id++ - 2] = node;
    HASH_ADD(by_name, names, name, strlen(node->name), node);
    return node;
}

static void set_open_flags(struct fuse_file_info *file)
{
    file->keep_cache = 1;
    file->direct_io = direct_writes && (file->flags & O_ACCMODE) == O_WRONLY;
}

static void create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
                   struct fuse_file_info *file)
{
    (void)parent, (void)mode;
    pthread_rwlock_wrlock(&lock);
    struct node *node = make_node(name);
    struct fuse_entry_param entry;
    if (node)
        fill_entry(node, &entry);
    pthread_rwlock_unlock(&lock);
    set_open_flags(file);
    if (node)
        fuse_reply_create(request, &entry, file);
    else
        fuse_reply_err(request, ENOSPC);
}

static void open_file(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *file)
{
    struct node *node = find_node(id);
    if (node && (file->flags & O_TRUNC))
        node->size = 0;
    set_open_flags(file);
    fuse_reply_open(request, file);
}

static void read_file(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
                      struct fuse_file_info *file)
{
    (void)file;
    pthread_rwlock_rdlock(&lock);
    struct node *node = find_node(id);
    size_t at = (size_t)offset;
    size_t length = !node || at >= node->size ? 0 : node->size - at < size ? node->size - at : size;
    fuse_reply_buf(request, length ? node->bytes + at : NULL, length);
    pthread_rwlock_unlock(&lock);
}

static void write_file(fuse_req_t request, fuse_ino_t id, const char *bytes, size_t size, off_t offset,
                       struct fuse_file_info *file)
{
    (void)file;
    pthread_rwlock_wrlock(&lock);
    struct node *node = find_node(id);
    bool room = node && make_room(node, (size_t)offset + size);
    if (room) {
        memcpy(node->bytes + offset, bytes, size);
        if (node->size < (size_t)offset + size)
            node->size = (size_t)offset + size;
    }
    pthread_rwlock_unlock(&lock);
    if (room)
        fuse_reply_write(request, size);
    else
        fuse_reply_err(request, ENOSPC);
}

static void done_with_handle(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *file)
{
    (void)id, (void)file;
    fuse_reply_err(request, 0);
}

static void sync_file(fuse_req_t request, fuse_ino_t id, int data_only, struct fuse_file_info *file)
{
    (void)data_only;
    done_with_handle(request, id, file);
}

static void unlink_file(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    (void)parent;
    pthread_rwlock_wrlock(&lock);
    struct node *node;
    HASH_FIND(by_name, names, name, strlen(name), node);
    if (node) {
        HASH_DELETE(by_name, names, node);
        drop_bytes(node);
        node->gone = true;
    }
    pthread_rwlock_unlock(&lock);
    fuse_reply_err(request, node ? 0 : ENOENT);
}

static void read_directory(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
                           struct fuse_file_info *file)
{
    (void)id, (void)file;
    char *answer = malloc(size);
    size_t used = 0;
    pthread_rwlock_rdlock(&lock);
    for (fuse_ino_t at = (fuse_ino_t)offset + 2; answer && at < next_id; at++) {
        struct node *node = nodes[at - 2];
        if (node->gone)
            continue;
        struct fuse_entry_param entry;
        fill_entry(node, &entry);
        size_t need =
            fuse_add_direntry_plus(request, answer + used, size - used, node->name, &entry, (off_t)at - 1);
        if (need > size - used)
            break;
        used += need;
    }
    pthread_rwlock_unlock(&lock);
    fuse_reply_buf(request, answer, used);
    free(answer);
}

static const struct fuse_lowlevel_ops operations = {
    .init = start,
    .lookup = lookup,
    .getattr = get_attributes,
    .setattr = set_attributes,
    .create = create,
    .open = open_file,
    .read = read_file,
    .write = write_file,
    .flush = done_with_handle,
    .release = done_with_handle,
    .fsync = sync_file,
    .unlink = unlink_file,
    .readdirplus = read_directory,
};

static void raise_read_ahead(void *context)
{
    (void)context;
    bdi_set_read_ahead(mountpoint_device(mountpoint), READ_AHEAD_KIB);
}

static void *serve(void *context)
{
    struct fuse_session *session = context;
    struct fuse_buf buffer = {0};
    int rc;
    while ((rc = fuse_session_receive_buf(session, &buffer)) > 0 || rc == -EINTR)
        if (rc > 0)
            fuse_session_process_buf(session, &buffer);
    free(buffer.mem);
    return NULL;
}

static void run(struct fuse_session *session, size_t threads)
{
    pthread_t others[64];
    size_t count = 0;
    while (count + 1 < threads && count < 64 && pthread_create(&others[count], NULL, serve, session) == 0)
        count++;
    serve(session);
    for (size_t i = 0; i < count; i++)
        pthread_join(others[i], NULL);
}

int main(int count, char **words)
{
    size_t threads = THREADS;
    for (int option; (option = getopt(count, words, "dt:")) != -1;) {
        if (option == 'd')
            direct_writes = true;
        else if (option == 't')
            threads = strtoull(optarg, NULL, 10);
        else
            return 2;
    }
    if (count - optind != 1) {
        fprintf(stderr, "usage: ceiling [-d] [-t THREADS] DIR\n");
        return 2;
    }
    struct fs_config config = {.mount_point = words[optind], .source = "ceiling"};
    BUF_SCOPED why = BUF_INIT;
    char *arguments[] = {words[0], NULL};
    struct fuse_args given = FUSE_ARGS_INIT(1, arguments);
    int fd;
    compat.answered = raise_read_ahead;
    struct fuse_session *session = fuse_session_new(&given, &operations, sizeof(operations), &compat);
    if (!session || mountpoint_mount(&config, &mountpoint, &fd, &why) < 0 || compat_attach(session, fd) < 0) {
        fprintf(stderr, "ceiling: %s\n", why.length ? why.bytes : "libfuse refused the session");
        return 1;
    }
    run(session, threads);
    fuse_session_destroy(session);
    mountpoint_free(mountpoint);
    return 0;
}
