#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "mount/claim.h"
#include "mount/home.h"
#include "mount/place.h"
#include "mount/raised.h"
#include "mount/words.h"

#define ENDING_MS 2000 /* for a daemon that has said its last words, or somebody who looks */
#define LOOK_US   20000

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

/* As the mount table has it: the base may be reached through a symlink. What cannot be resolved is not there. */
static char *resolve(const char *dir)
{
    BUF_SCOPED why = BUF_INIT;
    char *path = NULL;
    return place_resolve(dir, &path, &why) == 0 ? path : xstrdup(dir);
}

/* ---- What waits unsent. ---- */

struct waiting {
    const char *mount_point, *bucket;
    const char *endpoint; /* what waits for this one does not count; NULL: all does */
    bool found;
};

/* -EBUSY: its daemon is about to end, or somebody looks at it. */
static int look_patiently(const char *path, size_t *ret_unsent, struct buf *why)
{
    int64_t deadline = clock_ms() + ENDING_MS;
    for (;;) {
        STRING_SCOPED *source = NULL;
        buf_reset(why);
        int rc = home_look(path, ret_unsent, &source, why);
        if (rc != -EBUSY || clock_ms() >= deadline)
            return rc;
        usleep(LOOK_US);
    }
}

/* A cache directory: of this mount, with something unsent in it? */
static void look_at_home(void *context, const char *path)
{
    struct waiting *waiting = context;
    struct settings settings;
    BUF_SCOPED why = BUF_INIT;
    size_t unsent = 0;
    bool ours =
        home_recall(path, &settings, &why) == 0 && strcmp(settings.mount_point, waiting->mount_point) == 0 &&
        (!waiting->bucket || strcmp(settings.bucket, waiting->bucket) == 0) &&
        !(waiting->endpoint && settings.endpoint && strcmp(settings.endpoint, waiting->endpoint) == 0);
    settings_release(&settings);
    int rc = ours ? look_patiently(path, &unsent, &why) : 0;
    if (rc == -ENOENT || (rc == 0 && unsent == 0))
        return;
    waiting->found = true;
    if (rc < 0)
        words_say("whether unsent files of %s wait in %s cannot be told: %s; their keys stay",
                  waiting->mount_point, path, why.length ? why.bytes : err_text(rc));
    else
        words_say("%zu unsent files of %s wait in %s: send them with skyvol flush %s (or by skyvol up), or "
                  "give them up with skyvol discard %s FILE; their keys stay until then",
                  unsent, waiting->mount_point, path, path, path);
}

static bool waits_unsent(const char *mount_point, const char *bucket, const char *endpoint)
{
    struct waiting waiting = {.mount_point = mount_point, .bucket = bucket, .endpoint = endpoint};
    home_each_default(look_at_home, &waiting);
    home_each_elsewhere(look_at_home, &waiting);
    return waiting.found;
}

/* ---- Up. ---- */

/* 1: it stands already; 0: it may be mounted there. */
static int look(const struct raised *raised, const struct plan_mount *mount)
{
    struct place_mount there;
    STRING_SCOPED *path = resolve(mount->dir);
    enum place_state state = place_look(path, &there);
    const struct state_thing *known = raised_find(raised->state, "mount", mount->dir);
    const char *options = known ? state_fact(known, "options") : NULL;
    bool alive = state == PLACE_ALIVE;
    int rc = 0;
    if (alive && known && there.source && strcmp(there.source, mount->bucket) == 0) {
        rc = options && strcmp(options, mount->options) == 0 ? 1 : -EBUSY;
        if (rc < 0)
            words_say(
                "%s is mounted with other options than are wanted now (endpoint, keys, mode ...): run skyvol "
                "down, then skyvol up again",
                mount->dir);
    } else if (alive || state == PLACE_FOREIGN) {
        words_say("%s is a mount of %s that up did not make: unmount it, or choose another --base",
                  mount->dir, there.source ? there.source : "something");
        rc = -EBUSY;
    } else if (options && strcmp(options, mount->options) != 0 &&
               waits_unsent(path, mount->bucket, mount->endpoint)) {
        words_say("%s is to be mounted from %s now, which would be the end of these keys", mount->dir,
                  mount->endpoint);
        rc = -EBUSY;
    }
    place_mount_release(&there);
    return rc;
}

int raised_look(const struct raised *raised)
{
    int rc = 0;
    for (size_t i = 0; i < raised->plan->mount_count; i++)
        if (look(raised, &raised->plan->mounts[i]) < 0)
            rc = -EBUSY;
    return rc;
}

static int start(struct raised *raised, const struct plan_mount *mount, pid_t *ret_pid)
{
    struct state_thing *thing;
    const char *words[] = {"skyvol", "mount", "-o", mount->options, "--", mount->bucket, mount->dir, NULL};
    int rc = look(raised, mount);
    if (rc > 0)
        words_line(stdout, "%s at %s (it was there)", mount->bucket, mount->dir);
    if (rc != 0)
        return rc;
    rc = raised_directories(raised, mount->dir);
    if (rc == 0)
        rc = raised_intend(raised, "mount", mount->dir, mount->bucket, mount->options, &thing);
    if (rc == 0)
        thing->fresh = true;
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

/* ---- Down. ---- */

/* Somebody serves it: mounted, or unmounted and still sending, or about to mount. */
static bool is_served(const char *path, const struct place_mount *there)
{
    pid_t pid;
    bool ours = there->type && strcmp(there->type, "fuse.skyvol") == 0;
    return ours || claim_held(path, geteuid(), &pid);
}

int raised_unmount(const char *dir, const char *bucket)
{
    struct place_mount there;
    STRING_SCOPED *path = resolve(dir);
    const char *words[] = {"skyvol", "umount", "--wait", "--", path, NULL};
    enum place_state state = place_look(path, &there);
    bool served = is_served(path, &there);
    place_mount_release(&there);
    pid_t pid = 0;
    if (served && state == PLACE_FOREIGN) {
        words_say("%s is hidden by a mount of something else: unmount that first", dir);
        return -EBUSY;
    }
    if (served && (spawn(words, &pid) < 0 || await(pid) != 0))
        return -EBUSY;
    if (waits_unsent(path, bucket, NULL))
        return -EBUSY;
    if (served)
        words_line(stdout, "unmounted %s", dir);
    return 0;
}
