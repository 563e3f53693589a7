#include "mount/target.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "mount/claim.h"
#include "mount/control.h"
#include "mount/home.h"

#define LINKS_MAX 40
#define HELD_MS   2000 /* for who only looks at a cache directory, or has just opened it */
#define LOOK_MS   50

struct walk {
    struct buf path; /* absolute, without links; "" is the root */
    char *rest;      /* malloc'ed: what is still to be walked */
    int links;
    bool found; /* path is a mount of ours, and rest is below it */
};

static bool is_ours(const char *path)
{
    struct place_mount mount;
    bool ours = place_find(path, &mount) == 0 && mount.found && strcmp(mount.type, "fuse.skyvol") == 0;
    place_mount_release(&mount);
    return ours;
}

static void drop_last(struct buf *path)
{
    char *slash = path->length ? strrchr(path->bytes, '/') : NULL;
    if (!slash)
        return;
    path->length = (size_t)(slash - path->bytes);
    *slash = '\0';
}

/* Its target is walked before the rest. */
static int follow(struct walk *walk, const char *link)
{
    char target[PATH_MAX];
    ssize_t length = readlink(link, target, sizeof(target) - 1);
    if (length < 0)
        return -errno;
    target[length] = '\0';
    if (++walk->links > LINKS_MAX)
        return -ELOOP;
    char *rest = xprintf("%s/%s", target, walk->rest);
    free(walk->rest);
    walk->rest = rest;
    if (target[0] == '/')
        buf_reset(&walk->path);
    return 0;
}

static int enter(struct walk *walk, const char *name)
{
    STRING_SCOPED *path = xprintf("%s/%s", walk->path.bytes, name);
    struct stat facts;
    walk->found = is_ours(path);
    if (!walk->found && lstat(path, &facts) < 0)
        return -errno;
    if (!walk->found && S_ISLNK(facts.st_mode))
        return follow(walk, path);
    buf_add_char(&walk->path, '/');
    buf_add_string(&walk->path, name);
    return 0;
}

/* The next name of the rest, malloc'ed; NULL at its end. */
static char *take_name(struct walk *walk)
{
    const char *start = walk->rest + strspn(walk->rest, "/");
    size_t length = strcspn(start, "/");
    if (length == 0)
        return NULL;
    char *name = xstrndup(start, length), *rest = xstrdup(start + length);
    free(walk->rest);
    walk->rest = rest;
    return name;
}

static int walk_all(struct walk *walk)
{
    int rc = 0;
    while (rc == 0 && !walk->found) {
        STRING_SCOPED *name = take_name(walk);
        if (!name)
            return 0;
        if (strcmp(name, "..") == 0)
            drop_last(&walk->path);
        else if (strcmp(name, ".") != 0)
            rc = enter(walk, name);
    }
    return rc;
}

/* "a//./b/../c" is "a/c"; -EINVAL: it leads out. */
static int tidy_below(const char *rest, char **ret_below)
{
    struct walk walk = {.path = BUF_INIT, .rest = xstrdup(rest)};
    int rc = 0;
    for (char *name; rc == 0 && (name = take_name(&walk)); free(name)) {
        bool up = strcmp(name, "..") == 0;
        if (up && walk.path.length == 0)
            rc = -EINVAL;
        else if (up)
            drop_last(&walk.path);
        else if (strcmp(name, ".") != 0)
            buf_printf(&walk.path, "/%s", name);
    }
    if (rc == 0)
        *ret_below = xstrdup(walk.path.length ? walk.path.bytes + 1 : "");
    buf_release(&walk.path);
    free(walk.rest);
    return rc;
}

static char *make_absolute(const char *text)
{
    char here[PATH_MAX];
    if (text[0] == '/')
        return xstrdup(text);
    return getcwd(here, sizeof(here)) ? xprintf("%s/%s", here, text) : NULL;
}

/* ---- What stands there? ---- */

void target_look(const char *mount_point, struct target *ret_target)
{
    *ret_target = (struct target){.path = xstrdup(mount_point), .door = xstrdup(mount_point)};
    ret_target->kind = TARGET_DAEMON;
    ret_target->state = place_look(mount_point, &ret_target->mount);
}

static bool is_cache_directory(const char *path)
{
    STRING_SCOPED *memo = xprintf("%s/mount.json", path);
    return access(memo, F_OK) == 0;
}

static bool is_claimed_by(const char *claimed, uid_t owner, pid_t holder)
{
    pid_t pid;
    return claim_held(claimed, owner, &pid) && pid == holder;
}

/* Whoever holds it, by his pid: its mount point may be another daemon's by now. False: he cannot be reached, or only looks. */
static bool take_holder(struct target *target, const char *path, const char *mount_point, pid_t holder)
{
    STRING_SCOPED *door = home_door(path);
    struct stat facts;
    uid_t owner = stat(path, &facts) == 0 ? facts.st_uid : geteuid();
    bool flushes = is_claimed_by(door, owner, holder);
    if (flushes) {
        *target = (struct target){.kind = TARGET_DAEMON, .state = PLACE_FREE, .path = xstrdup(path)};
        target->door = xstrdup(door);
    } else if (is_claimed_by(mount_point, owner, holder)) {
        target_look(mount_point, target);
    } else {
        return false;
    }
    if (!target->mount.found)
        target->mount.owner = owner;
    target->cache_dir = xstrdup(path);
    return true;
}

/* Who only looks at it lets it go in a moment; who has just opened it is reached in a moment. */
static int await_holder(struct target *target, const char *path, const char *mount_point, struct buf *why)
{
    int64_t deadline = clock_ms() + HELD_MS;
    pid_t holder;
    while (home_held(path, &holder)) {
        if (take_holder(target, path, mount_point, holder))
            return 0;
        if (clock_ms() >= deadline) {
            buf_printf(
                why, "%s is in use by another skyvol (pid %d), which cannot be reached from here; try again",
                path, (int)holder);
            return -EBUSY;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
    }
    *target = (struct target){.kind = TARGET_CACHE, .path = xstrdup(path), .cache_dir = xstrdup(path)};
    return 0;
}

static int take_cache(struct target *target, const char *path, struct buf *why)
{
    struct settings settings;
    int rc = home_recall(path, &settings, why);
    if (rc == 0)
        rc = await_holder(target, path, settings.mount_point, why);
    settings_release(&settings);
    return rc;
}

static bool has_daemon(const char *path)
{
    int socket;
    pid_t pid;
    if (control_connect(path, geteuid(), &socket, &pid) < 0)
        return false;
    close(socket);
    return true;
}

static int take_other(struct target *target, const char *path, struct buf *why)
{
    if (is_cache_directory(path))
        return take_cache(target, path, why);
    if (has_daemon(path)) {
        target_look(path, target);
        return 0;
    }
    buf_printf(
        why,
        "%s is not mounted by skyvol, nor is it below such a mount or a cache directory; see what there "
        "is with: skyvol status --all",
        path);
    return -ENOENT;
}

int target_enter(struct target *target, const char *path, struct buf *why)
{
    STRING_SCOPED *rest = xprintf("%s/%s", target->below ? target->below : "", path);
    free_string(&target->below);
    int rc = tidy_below(rest, &target->below);
    if (rc < 0)
        buf_printf(why, "%s leads out of %s by `..`", path, target->path);
    return rc;
}

static int take(struct target *target, const struct walk *walk, struct buf *why)
{
    const char *path = walk->path.length ? walk->path.bytes : "/";
    int rc = 0;
    if (walk->found)
        target_look(path, target);
    else
        rc = take_other(target, path, why);
    return rc < 0 ? rc : target_enter(target, walk->found ? walk->rest : "", why);
}

int target_find(const char *text, struct target *ret_target, struct buf *why)
{
    struct target target = TARGET_NONE;
    struct walk walk = {.path = BUF_INIT, .rest = make_absolute(text)};
    int rc = walk.rest ? walk_all(&walk) : -errno;
    if (rc < 0)
        buf_printf(why, "%s: %s", text, err_text(rc));
    else
        rc = take(&target, &walk, why);
    buf_release(&walk.path);
    free(walk.rest);
    if (rc < 0)
        target_release(&target);
    else
        *ret_target = target;
    return rc;
}

void target_release(struct target *target)
{
    place_mount_release(&target->mount);
    free(target->path);
    free(target->door);
    free(target->cache_dir);
    free(target->below);
    *target = TARGET_NONE;
}
