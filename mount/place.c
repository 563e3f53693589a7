#include "mount/place.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

extern char **environ;

static int resolve_by_parent(const char *text, char **ret_path)
{
    STRING_SCOPED *copy = xstrdup(text);
    size_t length = strlen(copy);
    while (length > 1 && copy[length - 1] == '/')
        copy[--length] = '\0';
    char *slash = strrchr(copy, '/');
    const char *name = slash ? slash + 1 : copy;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    STRING_SCOPED *parent = slash ? xstrndup(copy, slash == copy ? 1 : (size_t)(slash - copy)) : xstrdup(".");
    STRING_SCOPED *real = realpath(parent, NULL);
    if (!real)
        return -errno;
    *ret_path = xprintf("%s/%s", strcmp(real, "/") == 0 ? "" : real, name);
    return 0;
}

int place_resolve(const char *text, char **ret_path, struct buf *why)
{
    if (!*text) {
        buf_printf(why, "the mount point is empty: name a directory");
        return -EINVAL;
    }
    /* The last component is left to the mount table when it cannot be looked at: a dead or hanging mount. */
    STRING_SCOPED *path = NULL;
    int rc = resolve_by_parent(text, &path);
    struct place_mount mount;
    if (rc == 0 && place_find(path, &mount) == 0 && mount.found) {
        place_mount_release(&mount);
        *ret_path = path;
        path = NULL;
        return 0;
    }
    char *real = realpath(text, NULL);
    if (real) {
        *ret_path = real;
        return 0;
    }
    rc = -errno;
    if (rc == -ENOENT)
        buf_printf(why, "%s does not exist; make it with: mkdir -p %s", text, text);
    else
        buf_printf(why, "%s: %s", text, err_text(rc));
    return rc;
}

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
    char *out = text;
    for (char *in = text; *in; out++) {
        if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] && in[3]) {
            *out = (char)((in[1] - '0') * 64 + (in[2] - '0') * 8 + (in[3] - '0'));
            in += 4;
        } else {
            *out = *in++;
        }
    }
    *out = '\0';
}

/* "36 35 98:0 / /mnt rw,nosuid shared:1 - fuse.skyvol bucket rw,user_id=0,..." */
static bool read_mount_line(char *line, const char *path, struct place_mount *ret_mount)
{
    char *fields[6] = {0};
    char *rest = line;
    for (int i = 0; i < 5; i++)
        if (!(fields[i] = strsep(&rest, " ")))
            return false;
    unescape(fields[4]);
    if (strcmp(fields[4], path) != 0 || !rest)
        return false;
    char *tail = strstr(rest, " - ");
    if (!tail)
        return false;
    tail += 3;
    char *type = strsep(&tail, " ");
    char *source = strsep(&tail, " ");
    if (!source)
        return false;
    unescape(source);
    place_mount_release(ret_mount);
    const char *owner = tail ? strstr(tail, "user_id=") : NULL;
    *ret_mount = (struct place_mount){xstrdup(source), xstrdup(type),
                                      owner ? (uid_t)strtoul(owner + strlen("user_id="), NULL, 10) : 0, true};
    return true;
}

int place_find(const char *path, struct place_mount *ret_mount)
{
    *ret_mount = (struct place_mount){0};
    FILE *table = fopen("/proc/self/mountinfo", "re");
    if (!table)
        return -errno;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, table) > 0) {
        line[strcspn(line, "\n")] = '\0';
        read_mount_line(line, path, ret_mount);
    }
    free(line);
    fclose(table);
    return 0;
}

void place_mount_release(struct place_mount *mount)
{
    free(mount->source);
    free(mount->type);
    *mount = (struct place_mount){0};
}

static bool directory_is_empty(const char *path)
{
    DIR *directory = opendir(path);
    if (!directory)
        return true; /* mount(2) will tell what is wrong with it */
    bool empty = true;
    for (struct dirent *entry; empty && (entry = readdir(directory));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(directory);
    return empty;
}

static int take_away_dead(const char *path, struct buf *why)
{
    struct place_mount mount;
    int rc = place_find(path, &mount);
    bool ours = rc == 0 && mount.found && strncmp(mount.type, "fuse.skyvol", 11) == 0;
    if (!ours) {
        buf_printf(why, "%s is a dead mount of %s; take it away with: umount -l %s", path,
                   mount.found ? mount.type : "something else", path);
        place_mount_release(&mount);
        return -ENOTCONN;
    }
    place_mount_release(&mount);
    return place_unmount(path, true, why);
}

static int check_free(const char *path, bool nonempty, struct buf *why)
{
    struct place_mount mount;
    int rc = place_find(path, &mount);
    if (rc == 0 && mount.found) {
        buf_printf(why, "%s is busy: %s (%s) is mounted there; take it away first with: %s %s", path,
                   mount.source, mount.type,
                   strncmp(mount.type, "fuse.skyvol", 11) == 0 ? "skyvol umount" : "umount", path);
        place_mount_release(&mount);
        return -EBUSY;
    }
    if (!nonempty && !directory_is_empty(path)) {
        buf_printf(why, "%s is not empty; its files would be hidden: use another directory, or -o nonempty",
                   path);
        return -ENOTEMPTY;
    }
    return rc;
}

int place_prepare(const char *path, bool nonempty, struct buf *why)
{
    struct stat facts;
    int rc = stat(path, &facts) < 0 ? -errno : 0;
    if (rc == -ENOTCONN || rc == -ECONNABORTED) {
        rc = take_away_dead(path, why);
        if (rc < 0)
            return rc;
        rc = stat(path, &facts) < 0 ? -errno : 0;
    }
    if (rc == -ENOENT)
        buf_printf(why, "%s does not exist; make it with: mkdir -p %s", path, path);
    else if (rc < 0)
        buf_printf(why, "%s: %s", path, err_text(rc));
    else if (!S_ISDIR(facts.st_mode)) {
        buf_printf(why, "%s is not a directory; name an empty directory", path);
        rc = -ENOTDIR;
    }
    return rc < 0 ? rc : check_free(path, nonempty, why);
}

static int run_fusermount(const char *path, bool lazy, struct buf *why)
{
    const char *arguments[] = {"fusermount3",      "-u", "-q", lazy ? "-z" : "--", lazy ? "--" : path,
                               lazy ? path : NULL, NULL};
    pid_t pid;
    int rc = posix_spawnp(&pid, "fusermount3", NULL, NULL, (char *const *)(uintptr_t)arguments, environ);
    if (rc) {
        buf_printf(why, "fusermount3 cannot be started (%s); install it with: apt-get install fuse3",
                   err_text(rc));
        return -rc;
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    buf_printf(why, "%s cannot be unmounted: it is in use, or not yours (see: fuser -vm %s)", path, path);
    return -EBUSY;
}

int place_unmount(const char *path, bool lazy, struct buf *why)
{
    if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
        return 0;
    int rc = -errno;
    if (rc == -EPERM)
        return run_fusermount(path, lazy, why);
    if (rc == -EBUSY)
        buf_printf(why, "%s is in use; end what uses it (see: fuser -vm %s) and try again", path, path);
    else if (rc == -EINVAL)
        buf_printf(why, "%s is not mounted", path);
    else
        buf_printf(why, "%s cannot be unmounted: %s", path, err_text(rc));
    return rc;
}

char *place_runtime_directory(uid_t uid)
{
    const char *own = getenv("XDG_RUNTIME_DIR");
    STRING_SCOPED *path = NULL;
    if (uid == 0)
        path = xstrdup("/run/skyvol");
    else if (uid == getuid() && own && own[0] == '/')
        path = xprintf("%s/skyvol", own);
    else {
        STRING_SCOPED *base = xprintf("/run/user/%u", (unsigned)uid);
        path =
            access(base, X_OK) == 0 ? xprintf("%s/skyvol", base) : xprintf("/tmp/skyvol-%u", (unsigned)uid);
    }
    if (uid == getuid() && mkdir(path, uid == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
        return NULL;
    struct stat facts;
    if (lstat(path, &facts) < 0 || !S_ISDIR(facts.st_mode) || facts.st_uid != uid || (facts.st_mode & 022))
        return NULL; /* somebody else's directory under our name */
    char *result = path;
    path = NULL;
    return result;
}
