#include "mount/claim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"

#define LOOK_MS 20

static char *directory_of(uid_t owner, int place)
{
    if (place > 0)
        return xprintf("/tmp/skyvol-%u", (unsigned)owner);
    return owner == 0 ? xstrdup("/run/skyvol") : xprintf("/run/user/%u/skyvol", (unsigned)owner);
}

/* Somebody else could put a file there otherwise, or a directory under that name in /tmp. */
static bool belongs_to(const char *directory, uid_t owner)
{
    struct stat facts;
    return lstat(directory, &facts) == 0 && S_ISDIR(facts.st_mode) && facts.st_uid == owner &&
           !(facts.st_mode & 022);
}

static char *path_below(const char *directory, const char *mount_point, const char *ending)
{
    uint8_t hash[SHA256_BYTES];
    digest_sha256(mount_point, strlen(mount_point), hash);
    BUF_SCOPED name = BUF_INIT;
    buf_add_hex(&name, hash, 10);
    return xprintf("%s/%s.%s", directory, name.bytes, ending);
}

static char *make_directory(struct buf *why)
{
    uid_t own = geteuid();
    for (int place = 0; place < CLAIM_PLACES; place++) {
        char *directory = directory_of(own, place);
        if (mkdir(directory, 0700) == 0 || errno == EEXIST)
            if (belongs_to(directory, own))
                return directory;
        free(directory);
    }
    STRING_SCOPED *first = directory_of(own, 0);
    STRING_SCOPED *second = directory_of(own, 1);
    buf_printf(
        why, "neither %s nor %s can be made or is yours alone; one of them is needed for the control socket",
        first, second);
    return NULL;
}

static bool is_still_at(int file, const char *path)
{
    struct stat mine, there;
    return fstat(file, &mine) == 0 && lstat(path, &there) == 0 && mine.st_ino == there.st_ino &&
           mine.st_dev == there.st_dev;
}

/* 0, or -EAGAIN while another has it; the file may be gone when it is locked at last: then it counts for nothing. */
static int try_lock(const char *path, int *ret_file)
{
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return -errno;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc = fcntl(file, F_OFD_SETLK, &whole) < 0 ? -errno : 0;
    if (rc == 0 && !is_still_at(file, path))
        rc = -EAGAIN;
    if (rc < 0) {
        close(file);
        return rc == -EACCES ? -EAGAIN : rc;
    }
    *ret_file = file;
    return 0;
}

static pid_t read_pid(int file)
{
    char text[32] = "";
    return pread(file, text, sizeof(text) - 1, 0) > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

int claim_take(const char *mount_point, int64_t patience_ms, struct claim *ret_claim, struct buf *why)
{
    STRING_SCOPED *directory = make_directory(why);
    if (!directory)
        return -ENOENT;
    struct claim claim = {path_below(directory, mount_point, "sock"),
                          path_below(directory, mount_point, "lock"), -1};
    int64_t deadline = clock_ms() + patience_ms;
    int rc;
    while ((rc = try_lock(claim.lock_path, &claim.lock)) == -EAGAIN && clock_ms() < deadline)
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
    if (rc < 0) {
        pid_t pid = 0;
        claim_held(mount_point, geteuid(), &pid);
        if (rc == -EAGAIN)
            buf_printf(why,
                       "%s is busy: another skyvol (pid %d) is mounting there, or is in use though it was "
                       "unmounted (umount -l); wait for it, or end it with: kill %d",
                       mount_point, (int)pid, (int)pid);
        else
            buf_printf(why, "%s: %s", claim.lock_path, err_text(rc));
        claim_release(&claim);
        return rc == -EAGAIN ? -EBUSY : rc;
    }
    if (ftruncate(claim.lock, 0) == 0)
        dprintf(claim.lock, "%d\n", (int)getpid());
    *ret_claim = claim;
    return 0;
}

void claim_release(struct claim *claim)
{
    if (claim->lock >= 0) {
        if (is_still_at(claim->lock, claim->lock_path))
            unlink(claim->lock_path);
        close(claim->lock);
    }
    free(claim->socket_path);
    free(claim->lock_path);
    *claim = CLAIM_NONE;
}

static bool is_locked(const char *path, pid_t *ret_pid)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0)
        return false;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    bool locked = fcntl(file, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
    if (locked)
        *ret_pid = read_pid(file);
    close(file);
    return locked;
}

bool claim_held(const char *mount_point, uid_t owner, pid_t *ret_pid)
{
    bool held = false;
    *ret_pid = 0;
    for (int place = 0; place < CLAIM_PLACES && !held; place++) {
        STRING_SCOPED *directory = directory_of(owner, place);
        STRING_SCOPED *path = path_below(directory, mount_point, "lock");
        held = belongs_to(directory, owner) && is_locked(path, ret_pid);
    }
    return held;
}

void claim_find_sockets(const char *mount_point, uid_t owner, char *ret_paths[CLAIM_PLACES])
{
    for (int place = 0; place < CLAIM_PLACES; place++) {
        STRING_SCOPED *directory = directory_of(owner, place);
        ret_paths[place] = belongs_to(directory, owner) ? path_below(directory, mount_point, "sock") : NULL;
    }
}

static bool is_socket_name(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".sock") == 0;
}

void claim_each_socket(void (*each)(void *context, const char *path), void *context)
{
    for (int place = 0; place < CLAIM_PLACES; place++) {
        STRING_SCOPED *path = directory_of(geteuid(), place);
        DIR *directory = belongs_to(path, geteuid()) ? opendir(path) : NULL;
        for (struct dirent *entry; directory && (entry = readdir(directory));) {
            STRING_SCOPED *socket = xprintf("%s/%s", path, entry->d_name);
            if (is_socket_name(entry->d_name))
                each(context, socket);
        }
        if (directory)
            closedir(directory);
    }
}
