#include "mount/place.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "mount/claim.h"
#include "mount/dying.h"

#define ANSWER_MS  2000
#define DYING_MS   200 /* most die by themselves */
#define MOUNTS_MAX 16

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

static unsigned read_number(const char *options, const char *name)
{
    const char *found = options ? strstr(options, name) : NULL;
    return found ? (unsigned)strtoul(found + strlen(name), NULL, 10) : 0;
}

/* "36 35 98:0 / /mnt rw,nosuid shared:1 - fuse.skyvol bucket rw,user_id=0,..."; the path is within the line. */
static bool read_mount_line(char *line, const char **ret_path, struct place_mount *ret_mount)
{
    char *fields[5] = {0};
    char *rest = line;
    for (int i = 0; i < 5; i++)
        if (!(fields[i] = strsep(&rest, " ")))
            return false;
    unescape(fields[4]);
    const char *end = rest ? strchr(rest, ' ') : NULL, *no_exec = rest ? strstr(rest, "noexec") : NULL;
    char *tail = rest ? strstr(rest, " - ") : NULL;
    if (!tail)
        return false;
    tail += 3;
    char *type = strsep(&tail, " ");
    char *source = strsep(&tail, " ");
    if (!source)
        return false;
    unescape(source);
    *ret_path = fields[4];
    *ret_mount = (struct place_mount){
        .source = source,
        .type = type,
        .owner = read_number(tail, "user_id="),
        .group = read_number(tail, "group_id="),
        .device_minor = read_number(fields[2], ":"),
        .read_only = tail && (strncmp(tail, "ro,", 3) == 0 || strcmp(tail, "ro") == 0),
        .no_exec = no_exec && no_exec < end,
        .found = true,
    };
    return true;
}

static int read_table(void (*each)(void *context, const char *path, const struct place_mount *mount),
                      void *context)
{
    FILE *table = fopen("/proc/self/mountinfo", "re");
    if (!table)
        return -errno;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, table) > 0) {
        const char *path;
        struct place_mount mount;
        line[strcspn(line, "\n")] = '\0';
        if (read_mount_line(line, &path, &mount))
            each(context, path, &mount);
    }
    free(line);
    fclose(table);
    return 0;
}

struct finding {
    const char *path;
    struct place_mount *mount;
};

static void keep_topmost(void *context, const char *path, const struct place_mount *mount)
{
    const struct finding *finding = context;
    if (strcmp(path, finding->path) != 0)
        return;
    place_mount_release(finding->mount);
    *finding->mount = *mount;
    finding->mount->source = xstrdup(mount->source);
    finding->mount->type = xstrdup(mount->type);
}

int place_find(const char *path, struct place_mount *ret_mount)
{
    struct finding finding = {path, ret_mount};
    *ret_mount = (struct place_mount){0};
    return read_table(keep_topmost, &finding);
}

struct passing {
    void (*each)(void *context, const char *path, const struct place_mount *mount);
    void *context;
};

static void pass_ours(void *context, const char *path, const struct place_mount *mount)
{
    const struct passing *passing = context;
    if (strcmp(mount->type, "fuse.skyvol") == 0)
        passing->each(passing->context, path, mount);
}

int place_each(void (*each)(void *context, const char *path, const struct place_mount *mount), void *context)
{
    struct passing passing = {each, context};
    return read_table(pass_ours, &passing);
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

/* ---- What is it? ---- */

/* statfs, which no kernel caches; exits with the errno. As the owner: others are answered by the kernel itself. */
static _Noreturn void ask_in_child(const char *path, const struct place_mount *mount)
{
    if (geteuid() == 0 && mount->owner != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(mount->group, mount->group, mount->group) < 0 ||
         setresuid(mount->owner, mount->owner, mount->owner) < 0))
        _exit(0);
    struct statfs facts;
    _exit(statfs(path, &facts) < 0 ? errno : 0);
}

/* True when the kernel says that nobody serves the mount any more. A daemon that we cannot see (of another container) may
 * hang: a child asks, and is given up. */
static bool is_dead(const char *path, const struct place_mount *mount)
{
    pid_t child = fork();
    if (child < 0)
        return false;
    if (child == 0)
        ask_in_child(path, mount);
    int status = 0;
    int64_t deadline = clock_ms() + ANSWER_MS;
    pid_t ended;
    while ((ended = waitpid(child, &status, WNOHANG)) == 0 && clock_ms() < deadline)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    if (ended == 0) {
        kill(child, SIGKILL);
        waitpid(child, &status, WNOHANG); /* it may be held by the kernel: nobody waits for that */
        return false;
    }
    return ended == child && WIFEXITED(status) &&
           (WEXITSTATUS(status) == ENOTCONN || WEXITSTATUS(status) == ECONNABORTED);
}

/* Once the connection of one that is dying was cut, it goes, and its claim with it. */
static bool is_held(const char *path, uid_t owner)
{
    int64_t deadline = clock_ms() + ANSWER_MS;
    bool cut = false;
    pid_t pid;
    while (claim_held(path, owner, &pid)) {
        if (!dying_is(pid) || clock_ms() >= deadline)
            return true;
        if (!cut && clock_ms() >= deadline - ANSWER_MS + DYING_MS)
            cut = dying_cut(path) == 0;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return false;
}

enum place_state place_look(const char *path, struct place_mount *ret_mount)
{
    if (place_find(path, ret_mount) < 0 || !ret_mount->found)
        return PLACE_FREE;
    if (strcmp(ret_mount->type, "fuse.skyvol") != 0)
        return PLACE_FOREIGN;
    if (is_held(path, ret_mount->owner))
        return PLACE_ALIVE;
    return is_dead(path, ret_mount) ? PLACE_DEAD : PLACE_ALIVE;
}

/* ---- Is it usable? ---- */

static int refuse_busy(const char *path, const struct place_mount *mount, enum place_state state,
                       struct buf *why)
{
    buf_printf(why, "%s is busy: %s (%s) is mounted there; take it away first with: %s %s", path,
               mount->source, mount->type, state == PLACE_ALIVE ? "skyvol umount" : "umount", path);
    return -EBUSY;
}

static int clear(const char *path, struct buf *why)
{
    for (int below = 0; below < MOUNTS_MAX; below++) {
        struct place_mount mount;
        enum place_state state = place_look(path, &mount);
        int rc = state == PLACE_FREE   ? 0
                 : state == PLACE_DEAD ? place_unmount(path, true, why)
                                       : refuse_busy(path, &mount, state, why);
        place_mount_release(&mount);
        if (rc < 0 || state == PLACE_FREE)
            return rc;
    }
    buf_printf(why, "%s is covered by more than %d dead mounts; take them away with: umount -l %s", path,
               MOUNTS_MAX, path);
    return -EBUSY;
}

static int check_directory(const char *path, bool nonempty, struct buf *why)
{
    struct stat facts;
    int rc = stat(path, &facts) < 0 ? -errno : 0;
    if (rc == 0 && !S_ISDIR(facts.st_mode))
        rc = -ENOTDIR;
    if (rc == 0 && !nonempty && !directory_is_empty(path))
        rc = -ENOTEMPTY;
    if (rc == -ENOENT)
        buf_printf(why, "%s does not exist; make it with: mkdir -p %s", path, path);
    else if (rc == -ENOTDIR)
        buf_printf(why, "%s is not a directory; name an empty directory", path);
    else if (rc == -ENOTEMPTY)
        buf_printf(why, "%s is not empty; its files would be hidden: use another directory, or -o nonempty",
                   path);
    else if (rc < 0)
        buf_printf(why, "%s: %s", path, err_text(rc));
    return rc;
}

int place_prepare(const char *path, bool nonempty, struct buf *why)
{
    int rc = clear(path, why);
    return rc < 0 ? rc : check_directory(path, nonempty, why);
}

int place_clear_dead(const char *path, struct buf *why)
{
    int rc = 0;
    bool dead = true;
    for (int below = 0; rc == 0 && dead && below < MOUNTS_MAX; below++) {
        struct place_mount mount;
        dead = place_find(path, &mount) == 0 && mount.found && strcmp(mount.type, "fuse.skyvol") == 0 &&
               is_dead(path, &mount);
        place_mount_release(&mount);
        if (dead)
            rc = place_unmount(path, true, why);
    }
    return rc;
}

int place_check_free(const char *path, struct buf *why)
{
    struct place_mount mount;
    int rc = place_find(path, &mount);
    if (rc == 0 && mount.found)
        rc = refuse_busy(path, &mount, strcmp(mount.type, "fuse.skyvol") == 0 ? PLACE_ALIVE : PLACE_FOREIGN,
                         why);
    place_mount_release(&mount);
    return rc;
}

/* ---- Taking it away. ---- */

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
    int status = -1;
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
