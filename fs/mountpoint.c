#include "fs/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U /* Linux 6.8; headers may be older */
#endif

/* Device numbers are used again as soon as a mount is gone, and so are the mount ids of old kernels; those that
 * STATX_MNT_ID_UNIQUE gives never are. */
struct identity {
    uint64_t mount;
    dev_t device;
};

struct mountpoint {
    char *path;
    struct identity identity;
    bool by_helper; /* fusermount3 mounted it and must unmount it */
};

/* Before Linux 5.8 statx knows no mount ids. O_PATH sends no request. */
static uint64_t read_mount_id(const char *path)
{
    unsigned long long id = 0;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return 0;
    char name[48], line[128];
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
    FILE *facts = fopen(name, "re");
    while (facts && fgets(line, sizeof line, facts))
        if (sscanf(line, "mnt_id: %llu", &id) == 1)
            break;
    if (facts)
        fclose(facts);
    close(fd);
    return id;
}

/* What is mounted at path, without a request into a file system that may not answer. */
static int identify(const char *path, struct identity *ret_identity)
{
    struct statx at;
    int flags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
    if (statx(AT_FDCWD, path, flags, STATX_MNT_ID | STATX_MNT_ID_UNIQUE, &at) != 0)
        return -errno;
    bool told = at.stx_mask & (STATX_MNT_ID | STATX_MNT_ID_UNIQUE);
    *ret_identity = (struct identity){
        .mount = told ? at.stx_mnt_id : read_mount_id(path),
        .device = makedev(at.stx_dev_major, at.stx_dev_minor),
    };
    return 0;
}

#define IN_A_CONTAINER "in a container: docker run --device /dev/fuse --cap-add SYS_ADMIN"

static int open_device(struct buf *why)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    int rc = -errno;
    if (rc == -ENOENT || rc == -ENODEV || rc == -ENXIO) {
        buf_add_string(why, "/dev/fuse is missing; load it with: modprobe fuse (" IN_A_CONTAINER ")");
        return -ENODEV;
    }
    buf_printf(why, "/dev/fuse: %s", err_text(rc));
    if (rc == -EPERM || rc == -EACCES)
        buf_add_string(why, "; this root may not use it (" IN_A_CONTAINER ")");
    return rc;
}

static void explain_mount(const char *path, int rc, struct buf *why)
{
    if (rc == -ENOENT)
        buf_printf(why, "%s does not exist; make it with: mkdir -p %s", path, path);
    else if (rc == -ENOTDIR)
        buf_printf(why, "%s is not a directory; name an empty directory", path);
    else if (rc == -EPERM || rc == -EACCES)
        buf_printf(why,
                   "%s cannot be mounted: %s; this root lacks CAP_SYS_ADMIN, or a profile forbids it "
                   "(" IN_A_CONTAINER " --security-opt apparmor=unconfined)",
                   path, err_text(rc));
    else
        buf_printf(why, "%s cannot be mounted: %s", path, err_text(rc));
}

static int mount_directly(const struct fs_config *config, int *ret_fd, struct buf *why)
{
    int fd = open_device(why);
    if (fd < 0)
        return fd;
    BUF_SCOPED options = BUF_INIT;
    buf_printf(&options, "fd=%d,rootmode=%o,user_id=%u,group_id=%u,default_permissions", fd, S_IFDIR,
               getuid(), getgid());
    if (config->allow_other || config->allow_root)
        buf_add_string(&options, ",allow_other");
    unsigned long flags =
        MS_NOSUID | MS_NODEV | (config->read_only ? MS_RDONLY : 0) | (config->no_exec ? MS_NOEXEC : 0);
    if (mount(config->source, config->mount_point, "fuse.skyvol", flags, options.bytes) != 0) {
        int rc = -errno;
        close(fd);
        explain_mount(config->mount_point, rc, why);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

/* ---- fusermount3. ---- */

/* Commas and backslashes of a value need a backslash before them. */
static void add_option_value(struct buf *options, const char *value)
{
    for (; *value; value++) {
        if (*value == ',' || *value == '\\')
            buf_add_char(options, '\\');
        buf_add_char(options, *value);
    }
}

static int receive_descriptor(int socket)
{
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t length;
    do
        length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return -errno;
    struct cmsghdr *header = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
        return -EPERM;
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

/* Runs fusermount3 with its messages going to `said`; comm_fd -1: none. Returns its pid or -errno. */
static pid_t spawn_helper(char *const arguments[], int comm_fd, int said)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, said, 1);
    posix_spawn_file_actions_adddup2(&actions, said, 2);
    char comm[32] = "_FUSE_COMMFD=3";
    char path[] = "PATH=/usr/local/bin:/usr/bin:/bin:/run/wrappers/bin";
    char *environment[] = {path, comm_fd >= 0 ? comm : NULL, NULL};
    if (comm_fd >= 0)
        posix_spawn_file_actions_adddup2(&actions, comm_fd, 3);
    /* The signal mask must not be ours: a blocked SIGCHLD or SIGTERM would stay blocked in the helper. */
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t pid = -1;
    int rc = posix_spawnp(&pid, "fusermount3", &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return rc == 0 ? pid : -rc;
}

static void read_all(int fd, struct buf *out)
{
    char bytes[512];
    ssize_t length;
    while ((length = read(fd, bytes, sizeof bytes)) > 0 || (length < 0 && errno == EINTR))
        if (length > 0 && out->length < 4096)
            buf_add(out, bytes, (size_t)length);
    while (out->length > 0 && out->bytes[out->length - 1] == '\n')
        out->bytes[--out->length] = '\0';
}

/* Waits for the helper's end and its words: its exit status, or -errno. */
static int end_helper(pid_t pid, int said, struct buf *words)
{
    int status;
    read_all(said, words);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno; /* ECHILD: somebody else waits for our children */
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void add_helper_options(const struct fs_config *config, struct buf *options)
{
    buf_add_string(options, config->read_only ? "ro" : "rw");
    buf_add_string(options, ",nosuid,nodev,default_permissions,subtype=skyvol,fsname=");
    add_option_value(options, config->source);
    if (config->no_exec)
        buf_add_string(options, ",noexec");
    if (config->allow_other || config->allow_root)
        buf_add_string(options, ",allow_other");
}

static int explain_helper(const struct fs_config *config, const struct buf *words, struct buf *why)
{
    if (strstr(words->bytes, "user_allow_other")) {
        buf_add_string(why, "allow_other needs the line user_allow_other in /etc/fuse.conf, or root");
        return -EPERM;
    }
    buf_printf(why, "fusermount3 could not mount %s: %s", config->mount_point,
               words->length ? words->bytes : "it gave no reason");
    bool device = strstr(words->bytes, "device not found") || strstr(words->bytes, "/dev/fuse");
    if (device)
        buf_add_string(
            why,
            "; /dev/fuse must be there and open to you: modprobe fuse, chmod 666 /dev/fuse (" IN_A_CONTAINER
            ")");
    return device ? -ENODEV : -EPERM;
}

static int mount_by_helper(const struct fs_config *config, int *ret_fd, struct buf *why)
{
    int sockets[2], said[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
        return -errno;
    if (pipe2(said, O_CLOEXEC) != 0) {
        int rc = -errno;
        close(sockets[0]);
        close(sockets[1]);
        return rc;
    }
    BUF_SCOPED options = BUF_INIT;
    add_helper_options(config, &options);
    char name[] = "fusermount3", dash_o[] = "-o", dashes[] = "--";
    char *arguments[] = {name, dash_o, options.bytes, dashes, (char *)(uintptr_t)config->mount_point, NULL};
    pid_t pid = spawn_helper(arguments, sockets[0], said[1]);
    close(sockets[0]);
    close(said[1]);
    int fd = pid > 0 ? receive_descriptor(sockets[1]) : -ENOENT;
    BUF_SCOPED words = BUF_INIT;
    if (pid > 0)
        end_helper(pid, said[0], &words);
    close(sockets[1]);
    close(said[0]);
    if (pid < 0) {
        buf_add_string(why, "fusermount3 is missing: apt-get install fuse3 (or mount as root)");
        return -EPERM;
    }
    if (fd < 0)
        return explain_helper(config, &words, why);
    *ret_fd = fd;
    return 0;
}

static int unmount_by_helper(const char *path)
{
    int said[2];
    if (pipe2(said, O_CLOEXEC) != 0)
        return -errno;
    char name[] = "fusermount3", dash_u[] = "-u", dash_z[] = "-z", dashes[] = "--";
    char *arguments[] = {name, dash_u, dash_z, dashes, (char *)(uintptr_t)path, NULL};
    pid_t pid = spawn_helper(arguments, -1, said[1]);
    close(said[1]);
    BUF_SCOPED words = BUF_INIT;
    int rc = pid > 0 ? end_helper(pid, said[0], &words) : (int)pid;
    close(said[0]);
    if (words.length > 0)
        log_warn("umount %s: fusermount3 says: %s", path, words.bytes);
    return rc > 0 ? -EPERM : rc;
}

/* ---- The door. ---- */

int mountpoint_mount(const struct fs_config *config, struct mountpoint **ret_mountpoint, int *ret_fd,
                     struct buf *why)
{
    int fd = -1;
    bool by_helper = geteuid() != 0;
    int rc = by_helper ? mount_by_helper(config, &fd, why) : mount_directly(config, &fd, why);
    if (rc < 0) {
        if (why->length == 0)
            buf_printf(why, "%s cannot be mounted: %s", config->mount_point, err_text(rc));
        return rc;
    }
    struct mountpoint *mountpoint = xcalloc(1, sizeof *mountpoint);
    mountpoint->path = xstrdup(config->mount_point);
    mountpoint->by_helper = by_helper;
    rc = identify(mountpoint->path, &mountpoint->identity);
    if (rc < 0) { /* then the mount could not be told from others later: do not begin */
        buf_printf(why, "statx %s: %s", mountpoint->path, err_text(rc));
        umount2(mountpoint->path, MNT_DETACH);
        close(fd);
        mountpoint_free(mountpoint);
        return rc;
    }
    *ret_mountpoint = mountpoint;
    *ret_fd = fd;
    return 0;
}

bool mountpoint_mounted(const struct mountpoint *mountpoint)
{
    struct identity seen;
    return identify(mountpoint->path, &seen) == 0 && seen.mount == mountpoint->identity.mount &&
           seen.device == mountpoint->identity.device;
}

void mountpoint_unmount(struct mountpoint *mountpoint)
{
    if (!mountpoint_mounted(mountpoint))
        return;
    int rc = 0;
    if (mountpoint->by_helper)
        rc = unmount_by_helper(mountpoint->path);
    else if (umount2(mountpoint->path, MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
        rc = -errno;
    if (rc < 0)
        log_warn("umount %s: %s; it stays as a dead mount", mountpoint->path, err_name(rc));
}

void mountpoint_free(struct mountpoint *mountpoint)
{
    if (!mountpoint)
        return;
    free(mountpoint->path);
    free(mountpoint);
}

dev_t mountpoint_device(const struct mountpoint *mountpoint)
{
    return mountpoint->identity.device;
}
