#include "base/disk.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/list.h"

/* Those that linux/magic.h lacks. */
#define CIFS_MAGIC 0xFF534D42u
#define SMB2_MAGIC 0xFE534D42u
#define CEPH_MAGIC 0x00C36400u
#define AFS_MAGIC  0x5346414Fu

#define RESERVE_SHARE 16 /* of what is free, at most one such part is reserved at a time */

/* A directory of the real file system; everything in it is reached through its descriptor. */
struct directory {
    struct disk disk;
    int fd;
    char *path;    /* as it was when opened; for messages */
    bool reserves; /* see reserve_space() */
};

struct directory_file {
    struct disk_file file;
    int fd;
};

static const struct disk_ops directory_ops;

static struct directory *directory_of(struct disk *disk)
{
    return container_of(disk, struct directory, disk);
}

static int fd_of(struct disk_file *file)
{
    return container_of(file, struct directory_file, file)->fd;
}

static bool is_component(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* ---- files ---- */

static int open_file(struct disk *disk, const char *name, int flags, struct disk_file **ret_file)
{
    if (!is_component(name))
        return -EINVAL;
    int mode = flags & DISK_READ_ONLY ? O_RDONLY : O_RDWR;
    mode |= (flags & DISK_CREATE ? O_CREAT : 0) | (flags & DISK_EXCLUSIVE ? O_EXCL : 0);
    int fd = openat(directory_of(disk)->fd, name, mode | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (fd < 0)
        return -errno;
    struct directory_file *file = xcalloc(1, sizeof(*file));
    file->file.disk = disk;
    file->fd = fd;
    *ret_file = &file->file;
    return 0;
}

static void close_file(struct disk_file *file)
{
    close(fd_of(file)); /* what must last was flushed: close has nothing to say */
    free(container_of(file, struct directory_file, file));
}

static ssize_t read_file(struct disk_file *file, void *bytes, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(fd_of(file), (char *)bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static int write_file(struct disk_file *file, const void *bytes, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        size_t step = size - done < DISK_WRITE_BYTES ? size - done : DISK_WRITE_BYTES;
        ssize_t put = pwrite(fd_of(file), (const char *)bytes + done, step, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        if (put == 0)
            return -EIO;
        done += (size_t)put;
    }
    return 0;
}

static int truncate_file(struct disk_file *file, uint64_t size)
{
    return ftruncate(fd_of(file), (off_t)size) < 0 ? -errno : 0;
}

/* Where the file system knows no holes, zeros are written: they read the same. */
static int write_zeros(struct disk_file *file, uint64_t offset, uint64_t size)
{
    static const char zeros[64 * 1024];
    while (size) {
        size_t step = size < sizeof(zeros) ? (size_t)size : sizeof(zeros);
        int rc = write_file(file, zeros, step, offset);
        if (rc < 0)
            return rc;
        offset += step;
        size -= step;
    }
    return 0;
}

static int measure_file(struct disk_file *file, uint64_t *ret_size)
{
    struct stat st;
    if (fstat(fd_of(file), &st) < 0)
        return -errno;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int punch_file(struct disk_file *file, uint64_t offset, uint64_t size)
{
    if (size == 0)
        return 0;
    int rc;
    do {
        rc = fallocate(fd_of(file), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
    } while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno != EOPNOTSUPP)
        return -errno;
    uint64_t end;
    rc = measure_file(file, &end);
    if (rc < 0 || offset >= end)
        return rc;
    return write_zeros(file, offset, size < end - offset ? size : end - offset);
}

static int flush_fd(int fd, int (*flush)(int fd))
{
    int rc;
    do {
        rc = flush(fd);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int flush_file(struct disk_file *file)
{
    return flush_fd(fd_of(file), fdatasync);
}

/* ext4 looks for blocks when it writes back, and lets the file's writers wait meanwhile, for 50 ms and more at a time. XFS
 * reserves by itself; tmpfs would fill memory. */
static void reserve_space(struct disk_file *file, uint64_t offset, uint64_t size)
{
    struct statvfs st;
    if (!directory_of(file->disk)->reserves || fstatvfs(fd_of(file), &st) < 0)
        return;
    uint64_t share = (uint64_t)st.f_bavail * st.f_frsize / RESERVE_SHARE;
    fallocate(fd_of(file), FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)(size < share ? size : share));
}

static void trim_file(struct disk_file *file)
{
    uint64_t size;
    if (directory_of(file->disk)->reserves && measure_file(file, &size) == 0)
        truncate_file(file, size);
}

static int allocate_file(struct disk_file *file, uint64_t offset, uint64_t size)
{
    int rc;
    do {
        rc = fallocate(fd_of(file), FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

/* ---- names ---- */

static int rename_name(struct disk *disk, const char *from, const char *to)
{
    if (!is_component(from) || !is_component(to))
        return -EINVAL;
    int fd = directory_of(disk)->fd;
    return renameat(fd, from, fd, to) < 0 ? -errno : 0;
}

static int remove_name(struct disk *disk, const char *name)
{
    if (!is_component(name))
        return -EINVAL;
    int fd = directory_of(disk)->fd;
    if (unlinkat(fd, name, 0) == 0)
        return 0;
    if (errno != EISDIR)
        return -errno;
    return unlinkat(fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int flush_names(struct disk *disk)
{
    return flush_fd(directory_of(disk)->fd, fsync);
}

static int list_names(struct disk *disk, int (*each)(void *context, const char *name), void *context)
{
    int fd = openat(directory_of(disk)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *stream = fdopendir(fd);
    if (!stream) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    int rc = 0;
    struct dirent *entry;
    while (rc == 0 && (errno = 0, entry = readdir(stream)))
        if (is_component(entry->d_name))
            rc = each(context, entry->d_name);
    if (rc == 0 && !entry && errno)
        rc = -errno;
    closedir(stream);
    return rc;
}

static int measure_space(struct disk *disk, uint64_t *ret_total, uint64_t *ret_free)
{
    struct statvfs st;
    if (fstatvfs(directory_of(disk)->fd, &st) < 0)
        return -errno;
    *ret_total = (uint64_t)st.f_blocks * st.f_frsize;
    *ret_free = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

/* ---- directories ---- */

/* In no header of the kernel's: */
#define LUSTRE_MAGIC 0x0BD00BD0
#define GPFS_MAGIC   0x47504653
#define BEEGFS_MAGIC 0x19830326

bool disk_is_network(uint32_t magic)
{
    static const uint32_t magics[] = {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, CIFS_MAGIC,   SMB2_MAGIC,
                                      CEPH_MAGIC,      V9FS_MAGIC,      AFS_MAGIC,    AFS_FS_MAGIC,
                                      LUSTRE_MAGIC,    GPFS_MAGIC,      BEEGFS_MAGIC, CODA_SUPER_MAGIC};
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
        if (magic == magics[i])
            return true;
    return false;
}

/* Is this a directory that we may keep user data in? */
static int check_directory(int fd)
{
    struct stat st;
    struct statfs fs;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISLNK(st.st_mode))
        return -ELOOP;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if (st.st_uid != geteuid() || (st.st_mode & 077))
        return -EPERM;
    if (fstatfs(fd, &fs) < 0)
        return -errno;
    return disk_is_network((uint32_t)fs.f_type) ? -EREMOTE : 0;
}

/* The directory `name` below `parent`. O_PATH first, so that nothing but a good directory is ever really opened. */
static int open_directory(int parent, const char *name, int *ret_fd)
{
    int place = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (place < 0)
        return -errno;
    int rc = check_directory(place);
    if (rc == 0) {
        *ret_fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = *ret_fd < 0 ? -errno : 0;
    }
    close(place);
    return rc;
}

/* Takes the path. */
static struct disk *wrap_directory(int fd, char *path)
{
    struct directory *directory = xcalloc(1, sizeof(*directory));
    struct statfs st;
    directory->disk.ops = &directory_ops;
    directory->fd = fd;
    directory->path = path;
    directory->reserves = fstatfs(fd, &st) == 0 && (uint32_t)st.f_type == EXT4_SUPER_MAGIC;
    return &directory->disk;
}

static int open_subdisk(struct disk *disk, const char *name, struct disk **ret_disk)
{
    if (!is_component(name))
        return -EINVAL;
    int parent = directory_of(disk)->fd;
    if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd;
    int rc = open_directory(parent, name, &fd);
    if (rc == 0)
        *ret_disk = wrap_directory(fd, disk_path(disk, name));
    return rc;
}

static void free_directory(struct disk *disk)
{
    struct directory *directory = directory_of(disk);
    close(directory->fd);
    free(directory->path);
    free(directory);
}

static const struct disk_ops directory_ops = {
    .open = open_file,
    .close = close_file,
    .read = read_file,
    .write = write_file,
    .truncate = truncate_file,
    .punch = punch_file,
    .flush = flush_file,
    .reserve = reserve_space,
    .trim = trim_file,
    .allocate = allocate_file,
    .size = measure_file,
    .rename = rename_name,
    .remove = remove_name,
    .flush_names = flush_names,
    .list = list_names,
    .space = measure_space,
    .subdisk = open_subdisk,
    .free = free_directory,
};

/* 0700; 0 when it exists. A new name survives a power cut only when its parent is flushed. */
static int make_directory(const char *path)
{
    if (mkdir(path, 0700) < 0)
        return errno == EEXIST ? 0 : -errno;
    const char *slash = strrchr(path, '/');
    STRING_SCOPED *parent = slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? 0 : -errno; /* a parent that we may write, not read */
    int rc = flush_fd(fd, fsync);
    close(fd);
    return rc;
}

/* mkdir -p. */
static int make_directories(char *path)
{
    for (char *at = path + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        int rc = make_directory(path);
        *at = '/';
        if (rc < 0 && rc != -EROFS && rc != -EACCES &&
            rc != -EPERM) /* it may exist all the same: the last one tells */
            return rc;
    }
    return make_directory(path);
}

int disk_open_directory(const char *path, struct disk **ret_disk)
{
    STRING_SCOPED *clean = xstrdup(path);
    size_t length = strlen(clean);
    while (length > 1 && clean[length - 1] == '/') /* else a symlink as last component would be followed */
        clean[--length] = '\0';
    if (length == 0)
        return -ENOENT;
    int fd;
    int rc = open_directory(AT_FDCWD, clean, &fd);
    if (rc == -ENOENT) {
        rc = make_directories(clean);
        if (rc == 0)
            rc = open_directory(AT_FDCWD, clean, &fd);
    }
    if (rc < 0)
        return rc;
    *ret_disk = wrap_directory(fd, xstrdup(clean));
    return 0;
}

char *disk_path(struct disk *disk, const char *name)
{
    if (disk->ops != &directory_ops)
        return xstrdup(name);
    return xprintf("%s/%s", directory_of(disk)->path, name);
}

bool disk_is_tmpfs(struct disk *disk)
{
    struct statfs st;
    if (disk->ops != &directory_ops || fstatfs(directory_of(disk)->fd, &st) < 0)
        return false;
    return (uint32_t)st.f_type == TMPFS_MAGIC || (uint32_t)st.f_type == RAMFS_MAGIC;
}
