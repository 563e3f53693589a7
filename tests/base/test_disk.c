#include "base/disk.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/buf.h"

static char root[64];
static struct disk *disk;

static void begin(void)
{
    snprintf(root, sizeof(root), "/tmp/skyvol-test-disk.XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    cr_assert_eq(disk_open_directory(root, &disk), 0);
}

static int remove_one(void *context, const char *name)
{
    struct disk *from = context;
    struct disk *inner;
    if (from->ops->remove(from, name) != -ENOTEMPTY)
        return 0;
    cr_assert_eq(from->ops->subdisk(from, name, &inner), 0);
    inner->ops->list(inner, remove_one, inner);
    disk_free(inner);
    return from->ops->remove(from, name);
}

static void end(void)
{
    disk->ops->list(disk, remove_one, disk);
    disk_free(disk);
    cr_assert_eq(rmdir(root), 0);
}

TestSuite(disk, .init = begin, .fini = end);

static struct disk_file *open_file(const char *name, int flags)
{
    struct disk_file *file = NULL;
    cr_assert_eq(disk_open(disk, name, flags, &file), 0, "%s", name);
    return file;
}

Test(disk, file_systems_of_other_hosts_are_told_from_local_ones)
{
    static const uint32_t others[] = {NFS_SUPER_MAGIC, CIFS_SUPER_MAGIC, V9FS_MAGIC,
                                      0x0BD00BD0,      0x47504653,       0x19830326};
    static const uint32_t local[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC,
                                     OVERLAYFS_SUPER_MAGIC};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_assert(disk_is_network(others[i]), "%08x", others[i]);
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        cr_assert_not(disk_is_network(local[i]), "%08x", local[i]);
}

Test(disk, what_was_written_is_read)
{
    struct disk_file *file = open_file("f", DISK_CREATE);
    char bytes[16];
    uint64_t size;
    cr_assert_eq(disk_write(file, "hello", 5, 3), 0);
    cr_assert_eq(disk->ops->size(file, &size), 0);
    cr_assert_eq(size, 8);
    cr_assert_eq(disk_read(file, bytes, 16, 0), 8, "short at the end");
    cr_assert_eq(memcmp(bytes, "\0\0\0hello", 8), 0);
    cr_assert_eq(disk_read(file, bytes, 16, 8), 0);
    cr_assert_eq(disk_truncate(file, 4), 0);
    cr_assert_eq(disk_read(file, bytes, 16, 0), 4);
    cr_assert_eq(disk_flush(file), 0);
    disk_close(file);
    disk_close(NULL);
    struct stat st;
    STRING_SCOPED *path = disk_path(disk, "f");
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
}

Test(disk, flags_create_and_exclude)
{
    struct disk_file *file;
    cr_assert_eq(disk_open(disk, "f", 0, &file), -ENOENT);
    disk_close(open_file("f", DISK_CREATE | DISK_EXCLUSIVE));
    cr_assert_eq(disk_open(disk, "f", DISK_CREATE | DISK_EXCLUSIVE, &file), -EEXIST);
    file = open_file("f", DISK_READ_ONLY);
    cr_assert_eq(disk_write(file, "x", 1, 0), -EBADF);
    disk_close(file);
}

Test(disk, a_hole_reads_as_zeros_and_keeps_the_size)
{
    struct disk_file *file = open_file("f", DISK_CREATE);
    char bytes[64 * 1024], zeros[sizeof(bytes)] = {0};
    uint64_t size;
    memset(bytes, 'x', sizeof(bytes));
    for (uint64_t at = 0; at < 4; at++)
        cr_assert_eq(disk_write(file, bytes, sizeof(bytes), at * sizeof(bytes)), 0);
    cr_assert_eq(disk_punch(file, sizeof(bytes), 2 * sizeof(bytes)), 0);
    cr_assert_eq(disk_punch(file, 4 * sizeof(bytes), sizeof(bytes)), 0, "behind the end");
    cr_assert_eq(disk->ops->size(file, &size), 0);
    cr_assert_eq(size, 4 * sizeof(bytes));
    for (uint64_t at = 0; at < 4; at++) {
        char got[sizeof(bytes)];
        cr_assert_eq(disk_read(file, got, sizeof(got), at * sizeof(bytes)), (ssize_t)sizeof(got));
        cr_assert_eq(memcmp(got, at == 1 || at == 2 ? zeros : bytes, sizeof(got)), 0);
    }
    disk_close(file);
}

static uint64_t blocks_of(const char *name)
{
    struct stat st;
    STRING_SCOPED *path = disk_path(disk, name);
    cr_assert_eq(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

Test(disk, what_is_allocated_takes_blocks_and_leaves_the_size_and_the_bytes)
{
    struct disk_file *file = open_file("f", DISK_CREATE);
    uint64_t total, space, size;
    char bytes[8];
    cr_assert_eq(disk_write(file, "hello", 5, 0), 0);
    int rc = disk_allocate(file, 2, 8 << 20);
    cr_assert(rc == 0 || rc == -EOPNOTSUPP);
    if (rc == 0)
        cr_assert_geq(blocks_of("f"), 8 << 20);
    cr_assert_eq(disk->ops->space(disk, &total, &space), 0);
    rc = disk_allocate(file, 0, 2 * total);
    cr_assert(rc == -ENOSPC || rc == -EFBIG || rc == -EOPNOTSUPP);
    cr_assert_eq(disk->ops->size(file, &size), 0);
    cr_assert_eq(size, 5);
    cr_assert_eq(disk_read(file, bytes, 8, 0), 5);
    cr_assert_eq(memcmp(bytes, "hello", 5), 0);
    disk_close(file);
}

/* Where reserving is worth nothing it does nothing, and the rest holds all the same. */
Test(disk, what_is_reserved_behind_the_end_goes_back_and_the_size_and_the_bytes_stay)
{
    struct statfs st;
    struct disk_file *file = open_file("f", DISK_CREATE);
    char bytes[16];
    uint64_t size;
    cr_assert_eq(disk_write(file, "hello", 5, 0), 0);
    disk_reserve(file, 5, 8 << 20);
    cr_assert_eq(statfs(root, &st), 0);
    if (st.f_type == EXT4_SUPER_MAGIC)
        cr_assert_geq(blocks_of("f"), 8 << 20);
    cr_assert_eq(disk->ops->size(file, &size), 0);
    cr_assert_eq(size, 5);
    cr_assert_eq(disk_write(file, "world", 5, 5000), 0);
    disk_trim(file);
    cr_assert_leq(blocks_of("f"), 64 << 10);
    cr_assert_eq(disk->ops->size(file, &size), 0);
    cr_assert_eq(size, 5005);
    cr_assert_eq(disk_read(file, bytes, 16, 5000), 5);
    cr_assert_eq(memcmp(bytes, "world", 5), 0);
    cr_assert_eq(disk_read(file, bytes, 6, 0), 6);
    cr_assert_eq(memcmp(bytes, "hello", 6), 0);
    disk_close(file);
}

Test(disk, a_write_that_meets_a_limit_fails_and_is_not_short)
{
    struct disk_file *file = open_file("f", DISK_CREATE);
    struct rlimit limit = {.rlim_cur = 6, .rlim_max = RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(disk_write(file, "0123456789", 10, 0), -EFBIG);
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    disk_close(file);
}

Test(disk, names_are_single_components)
{
    static const char *const bad[] = {"", ".", "..", "a/b", "/etc/passwd", "../x"};
    struct disk_file *file;
    struct disk *inner;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(disk_open(disk, bad[i], DISK_CREATE, &file), -EINVAL, "row %zu", i);
        cr_assert_eq(disk->ops->remove(disk, bad[i]), -EINVAL);
        cr_assert_eq(disk->ops->rename(disk, bad[i], "x"), -EINVAL);
        cr_assert_eq(disk->ops->rename(disk, "x", bad[i]), -EINVAL);
        cr_assert_eq(disk->ops->subdisk(disk, bad[i], &inner), -EINVAL);
    }
}

Test(disk, a_symlink_in_it_is_never_followed)
{
    STRING_SCOPED *path = disk_path(disk, "link");
    cr_assert_eq(symlink("/etc/passwd", path), 0);
    struct disk_file *file;
    struct disk *inner;
    cr_assert_eq(disk_open(disk, "link", 0, &file), -ELOOP);
    cr_assert_eq(disk->ops->subdisk(disk, "link", &inner), -ELOOP);
}

static int count_name(void *context, const char *name)
{
    (void)name;
    ++*(int *)context;
    return 0;
}

static int stop_at_once(void *context, const char *name)
{
    (void)name;
    ++*(int *)context;
    return -ECANCELED;
}

Test(disk, names_are_listed_renamed_and_removed)
{
    int count = 0;
    for (int i = 0; i < 20; i++) {
        char name[8];
        snprintf(name, sizeof(name), "f%d", i);
        disk_close(open_file(name, DISK_CREATE));
    }
    cr_assert_eq(disk->ops->list(disk, count_name, &count), 0);
    cr_assert_eq(count, 20);
    cr_assert_eq(disk->ops->rename(disk, "f0", "f1"), 0);
    cr_assert_eq(disk->ops->rename(disk, "f0", "f1"), -ENOENT);
    cr_assert_eq(disk->ops->remove(disk, "f2"), 0);
    cr_assert_eq(disk->ops->flush_names(disk), 0);
    count = 0;
    cr_assert_eq(disk->ops->list(disk, count_name, &count), 0);
    cr_assert_eq(count, 18, "and it can be listed twice");
    count = 0;
    cr_assert_eq(disk->ops->list(disk, stop_at_once, &count), -ECANCELED);
    cr_assert_eq(count, 1);
}

Test(disk, subdirectories_are_disks)
{
    struct disk *inner, *again;
    cr_assert_eq(disk->ops->subdisk(disk, "inner", &inner), 0);
    cr_assert_eq(disk->ops->subdisk(disk, "inner", &again), 0, "exists already");
    disk_free(again);
    struct disk_file *file;
    cr_assert_eq(disk_open(inner, "f", DISK_CREATE, &file), 0);
    disk_close(file);
    STRING_SCOPED *path = disk_path(inner, "f");
    STRING_SCOPED *wanted = xprintf("%s/inner/f", root);
    cr_assert_str_eq(path, wanted);
    cr_assert_eq(access(path, F_OK), 0);
    cr_assert_eq(disk->ops->remove(disk, "inner"), -ENOTEMPTY);
    cr_assert_eq(inner->ops->remove(inner, "f"), 0);
    disk_free(inner);
    cr_assert_eq(disk->ops->remove(disk, "inner"), 0);
}

Test(disk, space_is_known)
{
    uint64_t total = 0, unused = 0;
    cr_assert_eq(disk->ops->space(disk, &total, &unused), 0);
    cr_assert_gt(total, 0);
    cr_assert_leq(unused, total);
}

Test(disk, missing_directories_are_made_ours_alone)
{
    STRING_SCOPED *path = xprintf("%s/a/b/c///", root);
    struct disk *deep;
    struct stat st;
    cr_assert_eq(disk_open_directory(path, &deep), 0);
    disk_free(deep);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700);
}

Test(disk, a_directory_that_is_not_safe_is_refused)
{
    struct disk *refused;
    STRING_SCOPED *file = xprintf("%s/file", root);
    STRING_SCOPED *link = xprintf("%s/link", root);
    STRING_SCOPED *link_slash = xprintf("%s/link/", root);
    STRING_SCOPED *open_to_all = xprintf("%s/open", root);
    STRING_SCOPED *below_file = xprintf("%s/file/x", root);
    disk_close(open_file("file", DISK_CREATE));
    cr_assert_eq(mkdir(open_to_all, 0700), 0);
    cr_assert_eq(symlink(open_to_all, link), 0);
    cr_assert_eq(disk_open_directory(file, &refused), -ENOTDIR);
    cr_assert_eq(disk_open_directory(below_file, &refused), -ENOTDIR);
    cr_assert_eq(disk_open_directory(link, &refused), -ELOOP);
    cr_assert_eq(disk_open_directory(link_slash, &refused), -ELOOP);
    cr_assert_eq(disk_open_directory("", &refused), -ENOENT);
    for (int mode = 0701; mode <= 0777; mode++) {
        if (!(mode & 077))
            continue;
        cr_assert_eq(chmod(open_to_all, (mode_t)mode), 0);
        cr_assert_eq(disk_open_directory(open_to_all, &refused), -EPERM, "%o", mode);
    }
    if (geteuid() == 0) {
        cr_assert_eq(chmod(open_to_all, 0700), 0);
        cr_assert_eq(chown(open_to_all, 12345, 12345), 0);
        cr_assert_eq(disk_open_directory(open_to_all, &refused), -EPERM);
    }
}

Test(disk, tmpfs_is_known_as_such)
{
    char path[64];
    struct disk *shm;
    snprintf(path, sizeof(path), "/dev/shm/skyvol-test-disk.%d", getpid());
    if (disk_open_directory(path, &shm) < 0)
        cr_skip_test("no /dev/shm");
    cr_assert(disk_is_tmpfs(shm));
    disk_free(shm);
    rmdir(path);
}
