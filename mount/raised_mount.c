#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/err.h"
#include "mount/place.h"
#include "mount/raised.h"
#include "mount/words.h"

extern char **environ;

static int spawn(const char *const *words, pid_t *ret_pid)
{
    int rc = -posix_spawn(ret_pid, "/proc/self/exe", NULL, NULL, (char *const *)words, environ);
    if (rc < 0)
        words_say("skyvol cannot be started once more: %s", err_text(rc));
    return rc;
}

/* Its exit status, 1 for a signal. What it had to say it has said itself. */
static int await(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* 1: it stands already; 0: it may be mounted there. */
static int look(struct raised *raised, const struct plan_mount *mount)
{
    struct place_mount there;
    enum place_state state = place_look(mount->dir, &there);
    const struct state_thing *known = raised_find(raised->state, "mount", mount->dir);
    int rc = 0;
    if (state == PLACE_ALIVE && known && there.source && strcmp(there.source, mount->bucket) == 0) {
        words_line(stdout, "%s at %s (it was there)", mount->bucket, mount->dir);
        rc = 1;
    } else if (state == PLACE_ALIVE || state == PLACE_FOREIGN) {
        words_say("%s is a mount of %s that up did not make: unmount it, or choose another --base",
                  mount->dir, there.source ? there.source : "something");
        rc = -EBUSY;
    }
    place_mount_release(&there);
    return rc;
}

static int start(struct raised *raised, const struct plan_mount *mount, pid_t *ret_pid)
{
    struct state_thing *thing;
    const char *words[] = {"skyvol", "mount", "-o", mount->options, "--", mount->bucket, mount->dir, NULL};
    int rc = look(raised, mount);
    if (rc != 0)
        return rc;
    rc = raised_directories(raised, mount->dir);
    if (rc == 0)
        rc = raised_intend(raised, "mount", mount->dir, mount->bucket, &thing);
    return rc < 0 ? rc : spawn(words, ret_pid);
}

static int finish(struct raised *raised, const struct plan_mount *mount, pid_t pid)
{
    if (await(pid) != 0)
        return -EIO;
    words_line(stdout, "%s at %s", mount->bucket, mount->dir);
    return raised_made(raised, raised_find(raised->state, "mount", mount->dir));
}

int raised_mounts(struct raised *raised)
{
    const struct plan *plan = raised->plan;
    pid_t *pids = xcalloc(plan->mount_count + 1, sizeof *pids);
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < plan->mount_count; i++)
        rc = start(raised, &plan->mounts[i], &pids[i]);
    rc = rc > 0 ? 0 : rc;
    for (size_t i = 0; i < plan->mount_count; i++) {
        int one_rc = pids[i] > 0 ? finish(raised, &plan->mounts[i], pids[i]) : 0;
        rc = rc < 0 ? rc : one_rc;
    }
    free(pids);
    return rc;
}

int raised_unmount(const char *dir)
{
    struct place_mount there;
    const char *words[] = {"skyvol", "umount", "--wait", "--", dir, NULL};
    enum place_state state = place_look(dir, &there);
    bool ours = there.type && strcmp(there.type, "fuse.skyvol") == 0;
    place_mount_release(&there);
    if (state == PLACE_FREE || !ours)
        return 0;
    pid_t pid = 0;
    int rc = spawn(words, &pid);
    if (rc < 0 || await(pid) != 0)
        return -EBUSY;
    words_line(stdout, "unmounted %s", dir);
    return 0;
}
