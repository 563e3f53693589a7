/* A real mount over the real cache and a bucket in memory. The daemon is this process; users that may have to wait for the
 * daemon's end are forked and do not hold the connection. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "cache/core.h"
#include "fs/session.h"
#include "tests/support/memory_store.h"

static char directory[] = "/tmp/skyvol-mount-XXXXXX";
static char local[] = "/tmp/skyvol-local-XXXXXX";
static struct memory_store *bucket;
static struct store *store;
static struct memory *memory;
static struct disk *disk;
static struct cache *cache;
static struct fs *fs;
static pthread_t runner;
static atomic_bool ready, ended;

static void hear_ready(void *context)
{
    (void)context;
    ready = true;
}

static void *run(void *context)
{
    (void)context;
    fs_run(fs, hear_ready, NULL);
    ended = true;
    return NULL;
}

static bool await(atomic_bool *what)
{
    for (int i = 0; i < 20000 && !*what; i++)
        usleep(1000);
    return *what;
}

static void begin(void)
{
    if (access("/dev/fuse", R_OK | W_OK) != 0)
        cr_skip_test("no /dev/fuse here");
    cr_assert(mkdtemp(directory) && mkdtemp(local));
    BUF_SCOPED why = BUF_INIT;
    struct fs_config mounting = {.mount_point = directory, .source = "bucket:p/"};
    int rc = fs_new(&mounting, &fs, &why);
    if (rc == -EPERM || rc == -ENODEV)
        cr_skip_test("may not mount here");
    cr_assert_eq(rc, 0, "%s", why.bytes);
    bucket = memory_store_new(NULL);
    store = memory_store_door(bucket);
    memory = memory_new((size_t)64 << 20);
    cr_assert_eq(disk_open_directory(local, &disk), 0);
    struct cache_config caching = {
        .store = store,
        .memory = memory,
        .disk = disk,
        .prefix = "p/",
        .attr_ttl_ms = 1000,
        .negative_ttl_ms = 1000,
        .io_timeout_ms = 60000,
        .uid = getuid(),
        .gid = getgid(),
        .file_mode = 0644,
        .dir_mode = 0755,
        .notify = fs_notify(fs),
    };
    cr_assert_eq(cache_new(&caching, &cache, &why), 0, "%s", why.bytes);
    fs_attach(fs, cache);
    pthread_create(&runner, NULL, run, NULL);
    cr_assert(await(&ready));
}

static int remove_name(void *context, const char *name)
{
    struct disk *from = context;
    return from->ops->remove(from, name);
}

static void end(void)
{
    memory_store_faults_end(bucket);
    memory_store_unhang(bucket, 0, NULL);
    fs_stop(fs);
    cr_expect(await(&ended), "fs_run does not return");
    pthread_join(runner, NULL);
    fs_free(fs);
    cache_free(cache);
    store_free(store);
    memory_free(memory);
    disk->ops->list(disk, remove_name, disk);
    disk_free(disk);
    cr_expect_eq(rmdir(directory), 0, "still mounted");
    rmdir(local);
}

TestSuite(session, .init = begin, .fini = end);

/* ---- Users. ---- */

/* Of the last four calls. */
static const char *path_of(const char *name)
{
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static void put_file(const char *name, const void *bytes, size_t length)
{
    int fd = open(path_of(name), O_CREAT | O_TRUNC | O_WRONLY, 0644);
    cr_assert_geq(fd, 0, "%s: %s", name, strerror(errno));
    cr_assert_eq(write(fd, bytes, length), (ssize_t)length);
    cr_assert_eq(close(fd), 0, "%s: %s", name, strerror(errno));
}

static void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

static bool file_holds(const char *name, const char *text)
{
    char bytes[256] = "";
    int fd = open(path_of(name), O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, bytes, sizeof bytes - 1);
    close(fd);
    return length == (ssize_t)strlen(text) && memcmp(bytes, text, strlen(text)) == 0;
}

static bool object_holds(const char *key, const char *text)
{
    BUF_SCOPED bytes = BUF_INIT;
    return memory_store_peek(bucket, key, NULL, &bytes) && bytes.length == strlen(text) &&
           memcmp(bytes.bytes, text, bytes.length) == 0;
}

static pid_t fork_user(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        close(fuse_session_fd(fs->session));
        signal(SIGINT, SIG_DFL);
    }
    return pid;
}

static pid_t fork_lookup(const char *name)
{
    pid_t pid = fork_user();
    if (pid == 0) {
        struct stat at;
        _exit(stat(path_of(name), &at) == 0 ? 0 : errno);
    }
    return pid;
}

/* The exit code, or 1000 + the signal; -1: it does not end. */
static int end_of(pid_t pid)
{
    int status;
    for (int i = 0; i < 20000; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
        usleep(1000);
    }
    return -1;
}

/* ---- Files. ---- */

Test(session, a_closed_file_is_an_object)
{
    put_text("a", "hello");
    cr_expect(object_holds("p/a", "hello"));
    cr_expect(file_holds("a", "hello"));
}

Test(session, an_object_of_others_is_a_file)
{
    memory_store_put_text(bucket, "p/d/e/f", "theirs");
    cr_expect(file_holds("d/e/f", "theirs"));
    struct stat at;
    cr_assert_eq(stat(path_of("d/e/f"), &at), 0);
    cr_expect_eq(at.st_mode, S_IFREG | 0644);
    cr_expect_eq(at.st_size, 6);
    cr_assert_eq(stat(path_of("d"), &at), 0);
    cr_expect(S_ISDIR(at.st_mode));
}

Test(session, twenty_mebibytes_come_back_as_they_were)
{
    size_t length = (size_t)20 << 20;
    unsigned char *bytes = xmalloc(length), *back = xmalloc(length);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)((i * 2654435761u) >> 13);
    memory_store_put(bucket, "p/theirs", bytes, length, NULL, NULL);
    put_file("ours", bytes, length);
    static const char *const names[] = {"theirs", "ours"};
    for (int n = 0; n < 2; n++) {
        int fd = open(path_of(names[n]), O_RDONLY);
        cr_assert_geq(fd, 0);
        size_t at = 0;
        for (ssize_t got; (got = read(fd, back + at, length - at)) > 0;)
            at += (size_t)got;
        close(fd);
        cr_expect_eq(at, length);
        cr_expect_eq(memcmp(bytes, back, length), 0, "%s", names[n]);
    }
    free(bytes);
    free(back);
}

Test(session, overwrite_append_and_truncate)
{
    put_text("a", "0123456789");
    int fd = open(path_of("a"), O_RDWR);
    cr_expect_eq(pwrite(fd, "abc", 3, 4), 3);
    cr_expect_eq(close(fd), 0);
    cr_expect(object_holds("p/a", "0123abc789"));
    fd = open(path_of("a"), O_WRONLY | O_APPEND);
    cr_expect_eq(write(fd, "X", 1), 1);
    cr_expect_eq(close(fd), 0);
    cr_expect(object_holds("p/a", "0123abc789X"));
    cr_expect_eq(truncate(path_of("a"), 3), 0);
    fd = open(path_of("a"), O_RDWR);
    cr_expect_eq(fsync(fd), 0);
    cr_expect(object_holds("p/a", "012"));
    cr_expect_eq(ftruncate(fd, 5), 0);
    cr_expect_eq(close(fd), 0);
    BUF_SCOPED bytes = BUF_INIT;
    cr_expect(memory_store_peek(bucket, "p/a", NULL, &bytes));
    cr_expect_eq(bytes.length, 5);
    cr_expect_eq(memcmp(bytes.bytes, "012\0\0", 5), 0);
    put_text("a", "new");
    cr_expect(object_holds("p/a", "new"));
}

Test(session, a_shared_mapping_is_written_back)
{
    put_text("a", "0123456789");
    int fd = open(path_of("a"), O_RDWR);
    char *map = mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq(map, MAP_FAILED);
    map[5] = 'x';
    cr_expect_eq(msync(map, 10, MS_SYNC), 0);
    cr_expect_eq(munmap(map, 10), 0);
    cr_expect_eq(close(fd), 0);
    cr_expect(object_holds("p/a", "01234x6789"));
}

Test(session, an_unlinked_open_file_stays_readable)
{
    put_text("a", "still here");
    int fd = open(path_of("a"), O_RDONLY);
    cr_expect_eq(unlink(path_of("a")), 0);
    char bytes[16] = "";
    cr_expect_eq(pread(fd, bytes, sizeof bytes, 0), 10);
    cr_expect_str_eq(bytes, "still here");
    cr_expect_eq(access(path_of("a"), F_OK), -1);
    close(fd);
}

Test(session, attributes_stay)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = 1000000000, .tv_nsec = 123000000}};
    struct stat at;
    put_text("a", "x");
    cr_expect_eq(chmod(path_of("a"), 0600), 0);
    cr_expect_eq(utimensat(AT_FDCWD, path_of("a"), times, 0), 0);
    if (geteuid() == 0)
        cr_expect_eq(chown(path_of("a"), 1234, 5678), 0);
    cr_assert_eq(stat(path_of("a"), &at), 0);
    cr_expect_eq(at.st_mode, S_IFREG | 0600);
    cr_expect_eq(at.st_mtim.tv_sec, 1000000000);
    cr_expect_eq(at.st_mtim.tv_nsec, 123000000);
    if (geteuid() == 0)
        cr_expect_eq(at.st_uid, 1234);
    struct store_object object;
    cr_assert(memory_store_peek(bucket, "p/a", &object, NULL));
    cr_expect_str_eq(store_fields_get(&object.meta, "mode"), "33152");
    store_object_release(&object);
}

/* ---- Names. ---- */

Test(session, names_are_made_moved_and_removed)
{
    struct stat at;
    char target[64] = "";
    cr_expect_eq(mkdir(path_of("d"), 0755), 0);
    cr_expect(memory_store_has(bucket, "p/d/"));
    put_text("d/a", "text");
    cr_expect_eq(rename(path_of("d/a"), path_of("b")), 0);
    cr_expect(object_holds("p/b", "text"));
    cr_expect_not(memory_store_has(bucket, "p/d/a"));
    cr_expect_eq(rename(path_of("b"), path_of("d/c")), 0);
    cr_expect_eq(rename(path_of("d"), path_of("e")), 0);
    cr_expect(file_holds("e/c", "text"));
    cr_expect_eq(stat(path_of("d"), &at), -1);
    cr_expect_eq(symlink("e/c", path_of("link")), 0);
    cr_expect_eq(readlink(path_of("link"), target, sizeof target), 3);
    cr_expect_str_eq(target, "e/c");
    cr_expect(file_holds("link", "text"));
    cr_expect_eq(rmdir(path_of("e")), -1);
    cr_expect_eq(errno, ENOTEMPTY);
    cr_expect_eq(unlink(path_of("e/c")), 0);
    cr_expect_eq(rmdir(path_of("e")), 0);
    cr_expect_eq(unlink(path_of("link")), 0);
    cr_expect_eq(memory_store_object_count(bucket), 0);
}

/* Opening is the kernel's: it asks us nothing. */
Test(session, fifos_sockets_and_devices_are_what_they_are)
{
    struct stat at;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char byte = 0;
    cr_assert_eq(mknod(path_of("fifo"), S_IFIFO | 0640, 0), 0);
    cr_expect_eq(mkfifo(path_of("fifo"), 0600), -1);
    cr_expect_eq(errno, EEXIST);
    int fd = open(path_of("fifo"), O_RDWR | O_NONBLOCK);
    cr_assert_geq(fd, 0);
    cr_expect_eq(write(fd, "x", 1), 1);
    cr_expect_eq(read(fd, &byte, 1), 1);
    cr_expect_eq(byte, 'x');
    close(fd);
    cr_expect(memory_store_has(bucket, "p/fifo"));
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path_of("socket"));
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(bind(server, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(server, 1), 0);
    cr_expect_eq(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    close(client);
    close(server);
    cr_assert_eq(lstat(path_of("socket"), &at), 0);
    cr_expect(S_ISSOCK(at.st_mode));
    char fifo[256];
    snprintf(fifo, sizeof fifo, "%s", path_of("fifo"));
    cr_expect_eq(link(fifo, path_of("hard")), -1);
    cr_expect_eq(errno, EPERM);
    if (geteuid() != 0)
        return; /* devices are root's */
    cr_assert_eq(mknod(path_of("null"), S_IFCHR | 0666, makedev(1, 3)), 0);
    cr_assert_eq(mknod(path_of("disk"), S_IFBLK | 0600, makedev(4095, 1048575)), 0);
    cr_assert_eq(stat(path_of("null"), &at), 0);
    cr_expect(S_ISCHR(at.st_mode) && at.st_rdev == makedev(1, 3));
    cr_assert_eq(stat(path_of("disk"), &at), 0);
    cr_expect(S_ISBLK(at.st_mode) && at.st_rdev == makedev(4095, 1048575));
    cr_expect_eq(open(path_of("null"), O_RDWR), -1);
    cr_expect_eq(errno, EACCES, "mounts are nodev");
}

Test(session, a_rename_that_must_not_replace_does_not)
{
    put_text("a", "a");
    put_text("b", "b");
    cr_expect_eq(renameat2(AT_FDCWD, path_of("a"), AT_FDCWD, path_of("b"), RENAME_NOREPLACE), -1);
    cr_expect_eq(errno, EEXIST);
    cr_expect_eq(rename(path_of("a"), path_of("b")), 0);
    cr_expect(file_holds("b", "a"));
}

/* Entries seen per name in one pass, while names come and go. */
Test(session, a_listing_shows_each_name_that_stays_exactly_once)
{
    char name[32];
    int seen[600] = {0}, dots = 0, count = 0;
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof name, "p/f%03d", i);
        memory_store_put_text(bucket, name, "x");
    }
    DIR *listing = opendir(directory);
    cr_assert_not_null(listing);
    for (struct dirent *line; (line = readdir(listing)); count++) {
        if (line->d_name[0] == '.')
            dots++;
        else if (line->d_name[0] == 'f')
            seen[atoi(line->d_name + 1)]++;
        cr_expect_eq(line->d_type == DT_DIR, line->d_name[0] == '.');
        if (count == 20) { /* before and behind the place that was reached */
            cr_expect_eq(unlink(path_of("f000")), 0);
            cr_expect_eq(unlink(path_of("f599")), 0);
            put_text("a-new", "x");
            put_text("z-new", "x");
        }
    }
    closedir(listing);
    cr_expect_eq(dots, 2);
    for (int i = 1; i < 599; i++)
        cr_expect_eq(seen[i], 1, "f%03d: %d times", i, seen[i]);
}

Test(session, numbers_of_files_stay_the_same)
{
    struct stat first, again;
    memory_store_put_text(bucket, "p/d/a", "x");
    cr_assert_eq(stat(path_of("d/a"), &first), 0);
    DIR *listing = opendir(path_of("d"));
    for (struct dirent *line; (line = readdir(listing));)
        if (strcmp(line->d_name, "a") == 0)
            cr_expect_eq(line->d_ino, first.st_ino);
    closedir(listing);
    cr_expect_eq(rename(path_of("d/a"), path_of("d/b")), 0);
    cr_assert_eq(stat(path_of("d/b"), &again), 0);
    cr_expect_eq(again.st_ino, first.st_ino);
}

Test(session, what_there_is_no_xattr_lock_or_space_for)
{
    struct statvfs space;
    cr_expect_eq(statvfs(directory, &space), 0);
    cr_expect_gt(space.f_blocks, 0);
    cr_expect_eq(space.f_namemax, 255);
    cr_expect(space.f_files > 0 && space.f_favail > 0);
    cr_expect_lt(space.f_blocks, (fsblkcnt_t)1 << 31);
}

/* ---- Whose close publishes. ---- */

Test(session, a_forked_child_that_exits_publishes_nothing)
{
    int fd = open(path_of("a"), O_CREAT | O_WRONLY, 0644);
    cr_assert_geq(fd, 0);
    cr_expect_eq(write(fd, "x", 1), 1);
    pid_t pid = fork_user();
    if (pid == 0)
        _exit(0);
    cr_expect_eq(end_of(pid), 0);
    cr_expect_eq(memory_store_logged(bucket, STORE_PUT, "p/a"), 0);
    cr_expect_eq(close(fd), 0);
    cr_expect(object_holds("p/a", "x"));
}

static void *close_here(void *context)
{
    return close(*(int *)context) == 0 ? context : NULL;
}

Test(session, a_close_by_another_thread_of_the_opener_publishes)
{
    int fd = open(path_of("a"), O_CREAT | O_WRONLY, 0644);
    void *closed = NULL;
    pthread_t thread;
    cr_expect_eq(write(fd, "x", 1), 1);
    pthread_create(&thread, NULL, close_here, &fd);
    pthread_join(thread, &closed);
    cr_expect_not_null(closed);
    cr_expect(object_holds("p/a", "x"));
}

Test(session, an_error_of_the_upload_reaches_close)
{
    memory_store_fault(bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .rc = -EACCES});
    int fd = open(path_of("a"), O_CREAT | O_WRONLY, 0644);
    cr_expect_eq(write(fd, "x", 1), 1);
    cr_expect_eq(close(fd), -1);
    cr_expect_eq(errno, EACCES);
}

/* ---- Waiting. ---- */

static void hang(enum store_op op, const char *key)
{
    memory_store_fault(bucket, &(struct fault){.kind = FAULT_HANG, .op = op, .key = key});
}

Test(session, a_cached_read_is_served_while_200_lookups_hang_and_all_end_by_sigint)
{
    pid_t pids[200];
    char name[32];
    cache->config.attr_ttl_ms =
        600000; /* else the kernel asks for attributes before it reads, and that hangs as well */
    put_text("cached", "here");
    cr_expect(file_holds("cached", "here"));
    int fd = open(path_of("cached"), O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* the kernel's pages go, the cache's stay */
    hang(0, NULL);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "x%d", i);
        pids[i] = fork_lookup(name);
    }
    for (int i = 0; i < 20000; i++) {
        lock_take(&fs->requests.lock);
        size_t waiting = fs->requests.count;
        lock_drop(&fs->requests.lock);
        if (waiting == 200)
            break;
        usleep(1000);
    }
    char bytes[8] = "";
    cr_expect_eq(pread(fd, bytes, sizeof bytes, 0), 4);
    cr_expect_str_eq(bytes, "here");
    close(fd);
    for (int i = 0; i < 200; i++)
        kill(pids[i], SIGINT);
    for (int i = 0; i < 200; i++)
        cr_expect_eq(end_of(pids[i]), 1000 + SIGINT);
}

Test(session, a_read_that_hangs_ends_by_sigint)
{
    memory_store_put_text(bucket, "p/a", "text");
    hang(STORE_GET, "p/a");
    pid_t pid = fork_user();
    if (pid == 0) {
        char byte;
        int fd = open(path_of("a"), O_RDONLY | O_DIRECT);
        _exit(pread(fd, &byte, 1, 0) == 1 ? 0 : errno);
    }
    cr_expect(memory_store_await(bucket, STORE_GET, "p/a", 1));
    kill(pid, SIGINT);
    cr_expect_eq(end_of(pid), 1000 + SIGINT);
}

Test(session, a_close_that_hangs_ends_by_sigint_and_the_upload_goes_on)
{
    hang(STORE_PUT, "p/a");
    pid_t pid = fork_user();
    if (pid == 0) {
        int fd = open(path_of("a"), O_CREAT | O_WRONLY, 0644);
        if (write(fd, "x", 1) != 1)
            _exit(1);
        _exit(close(fd) == 0 ? 0 : errno);
    }
    cr_expect(memory_store_await(bucket, STORE_PUT, "p/a", 1));
    kill(pid, SIGINT);
    cr_expect_eq(end_of(pid), 1000 + SIGINT);
    memory_store_faults_end(bucket);
    memory_store_unhang(bucket, 0, NULL);
    for (int i = 0; i < 10000 && !memory_store_has(bucket, "p/a"); i++)
        usleep(1000);
    cr_expect(object_holds("p/a", "x"));
}

Test(session, stopping_while_everything_hangs_ends)
{
    memory_store_put_text(bucket, "p/a", "text");
    hang(0, NULL);
    pid_t pid = fork_lookup("a");
    cr_expect(memory_store_await(bucket, 0, NULL, 1));
    fs_stop(fs);
    cr_expect(await(&ended));
    cr_expect_neq(end_of(pid), -1);
}

/* ---- Other clients. ---- */

Test(session, a_foreign_version_is_seen_after_its_time)
{
    memory_store_put_text(bucket, "p/a", "first");
    cr_expect(file_holds("a", "first"));
    memory_store_put_text(bucket, "p/a", "second one");
    usleep(1200000); /* attr_ttl_ms; the fake clock would not move the kernel's */
    cr_expect(file_holds("a", "second one"));
}
