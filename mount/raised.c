#include "mount/raised.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "mount/place.h"
#include "mount/words.h"

/* ---- What is remembered. ---- */

struct state_thing *raised_find(const struct state *state, const char *kind, const char *path)
{
    for (size_t i = 0; i < state_count(state); i++) {
        struct state_thing *thing = state_at(state, i);
        const char *known = state_fact(thing, "path");
        if (strcmp(thing->kind, kind) == 0 && known && strcmp(known, path) == 0)
            return thing;
    }
    return NULL;
}

static bool has_fact(const struct state_thing *thing, const char *name, const char *value)
{
    const char *known = state_fact(thing, name);
    return !value || (known && strcmp(known, value) == 0);
}

int raised_intend(struct raised *raised, const char *kind, const char *path, const char *target,
                  const char *options, struct state_thing **ret_thing)
{
    struct state_thing *known = raised_find(raised->state, kind, path);
    BUF_SCOPED why = BUF_INIT;
    *ret_thing = known;
    if (known && has_fact(known, "target", target) && has_fact(known, "options", options))
        return 0;
    struct json *facts = json_object_new();
    json_set_string(facts, "path", path);
    if (target)
        json_set_string(facts, "target", target);
    if (options)
        json_set_string(facts, "options", options);
    if (known) /* a link that leads elsewhere from here on: until it does, either is ours */
        json_set_string(facts, "before", state_fact(known, "target"));
    int rc = known ? state_intend_again(raised->state, known, &facts, &why)
                   : state_intend(raised->state, kind, &facts, ret_thing, &why);
    json_free(facts);
    words_complain(why.bytes);
    if (rc == 0 && !known)
        (*ret_thing)->fresh = true;
    return rc;
}

int raised_made(struct raised *raised, struct state_thing *thing)
{
    BUF_SCOPED why = BUF_INIT;
    /* An id is a plain word, and a path need not be one: it stands in the facts. */
    int rc = thing->made ? 0 : state_made(raised->state, thing, thing->kind, NULL, &why);
    words_complain(why.bytes);
    return rc;
}

/* ---- Secrets. ---- */

static int write_secret(const char *path, const struct secret *content)
{
    STRING_SCOPED *fresh = xprintf("%s.new", path);
    unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    const char *at = secret_reveal(content);
    size_t left = secret_length(content);
    int rc = 0;
    while (rc == 0 && left > 0) {
        ssize_t some = write(fd, at, left);
        if (some < 0 && errno != EINTR)
            rc = -errno;
        at += some > 0 ? some : 0;
        left -= some > 0 ? (size_t)some : 0;
    }
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    close(fd);
    if (rc == 0 && rename(fresh, path) < 0)
        rc = -errno;
    if (rc < 0)
        unlink(fresh);
    return rc;
}

static int raise_secrets(struct raised *raised)
{
    for (size_t i = 0; i < raised->plan->secret_count; i++) {
        const struct plan_secret *secret = &raised->plan->secrets[i];
        struct state_thing *thing;
        STRING_SCOPED *directory =
            xstrndup(secret->path, (size_t)(strrchr(secret->path, '/') - secret->path));
        mode_t mask = umask(077);
        int rc = raised_directories(raised, directory);
        umask(mask);
        if (rc == 0)
            rc = raised_intend(raised, "secret", secret->path, NULL, NULL, &thing);
        if (rc == 0 && (rc = write_secret(secret->path, secret->content)) < 0)
            words_say("%s cannot be written: %s", secret->path, err_text(rc));
        if (rc == 0)
            rc = raised_made(raised, thing);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- Links, and what they lead through. ---- */

/* False: the host cannot; nothing is left of it. */
static bool bind_read_only(const char *from, const char *to)
{
    if (mount(from, to, NULL, MS_BIND, NULL) < 0)
        return false;
    if (mount(NULL, to, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0)
        return true;
    umount2(to, MNT_DETACH);
    return false;
}

/* By the mount table: one whose daemon is gone cannot be looked at. */
static bool is_mount_point(const char *path)
{
    struct place_mount mount;
    BUF_SCOPED why = BUF_INIT;
    STRING_SCOPED *real = NULL;
    bool found = place_resolve(path, &real, &why) == 0 && place_find(real, &mount) == 0 && mount.found;
    if (real)
        place_mount_release(&mount);
    return found;
}

static bool is_same_directory(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

/* All that is bound there; one whose daemon is gone holds nobody. */
static int lower_bind(const char *path)
{
    struct stat status;
    while (is_mount_point(path)) {
        bool dead = stat(path, &status) < 0 && errno == ENOTCONN;
        if (umount2(path, UMOUNT_NOFOLLOW | (dead ? MNT_DETACH : 0)) == 0 || errno == EINVAL ||
            errno == ENOENT)
            continue;
        words_say("%s cannot be unmounted: %s; find who uses it with: fuser -vm %s", path, err_text(-errno),
                  path);
        return -EBUSY;
    }
    return 0;
}

/* What is bound there from an earlier time is the same, or gives way. 1: the same. */
static int clear_bind(const struct raised *raised, const struct plan_link *link)
{
    const struct state_thing *known = raised_find(raised->state, "bind", link->bind);
    if (!is_mount_point(link->bind))
        return 0;
    if (!known) {
        words_say("%s is a mount that up did not make: unmount it, or choose another --base", link->bind);
        return -EBUSY;
    }
    return known->made && is_same_directory(link->target, link->bind) ? 1 : lower_bind(link->bind);
}

/* 1: bound; 0: it cannot be. */
static int raise_bind(struct raised *raised, const struct plan_link *link)
{
    struct state_thing *thing;
    int rc = clear_bind(raised, link);
    if (rc != 0)
        return rc;
    rc = geteuid() == 0 ? raised_directories(raised, link->bind) : -EPERM;
    if (rc == -EPERM)
        return 0;
    if (rc == 0)
        rc = raised_intend(raised, "bind", link->bind, link->target, NULL, &thing);
    if (rc < 0)
        return rc;
    if (!bind_read_only(link->target, link->bind))
        return 0; /* the thing stays remembered: undoing it finds nothing to undo */
    thing->fresh = true;
    rc = raised_made(raised, thing);
    return rc < 0 ? rc : 1;
}

/* The directory of the prefix, on a writable mount. */
static int raise_prefix(const struct plan *plan, const struct plan_link *link)
{
    struct stat status;
    bool writable = link->mount_index == SIZE_MAX || !plan->mounts[link->mount_index].read_only;
    int rc = *link->prefix && stat(link->target, &status) < 0 ? -errno : 0;
    if (!*link->prefix || (rc == 0 && S_ISDIR(status.st_mode)))
        return 0;
    if (rc != -ENOENT) {
        words_say("%s, which %s leads to, %s%s: look at the volume's prefix", link->target, link->mount,
                  rc == 0 || rc == -ENOTDIR ? "is no directory" : "cannot be looked at: ",
                  rc == 0 || rc == -ENOTDIR ? "" : err_text(rc));
        return rc < 0 ? rc : -ENOTDIR;
    }
    if (!writable) {
        words_line(stdout, "%s is not there yet: %s dangles until it is", link->target, link->mount);
        return 0;
    }
    STRING_SCOPED *path = xstrdup(link->target);
    for (char *slash = path + strlen(link->target) - strlen(link->prefix) + 1;; slash++) {
        slash = strchr(slash, '/');
        if (slash)
            *slash = 0;
        if (mkdir(path, 0777) < 0 && errno != EEXIST) {
            words_say("%s cannot be made in the bucket: %s", path, err_text(-errno));
            return -EIO;
        }
        if (!slash)
            return 0;
        *slash = '/';
    }
}

static int raise_link(struct raised *raised, const struct plan_link *link)
{
    int rc = raise_prefix(raised->plan, link);
    const char *target = link->target;
    if (rc == 0 && link->bind) {
        rc = raise_bind(raised, link);
        if (rc == 0)
            words_line(stdout, "%s: read_only cannot be enforced here: it needs root and bind mounts",
                       link->mount);
        target = rc > 0 ? link->bind : target;
    }
    return rc < 0 ? rc : raised_link(raised, link->mount, target);
}

/* ---- Up. ---- */

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    stopped = signal_number;
}

static void hear_signals(void)
{
    struct sigaction action = {.sa_handler = stop};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static int raise_native(const struct plan *plan)
{
    if (!plan->native_base || is_mount_point(plan->native_base))
        return 0;
    words_say("%s is no mount point: the volume was not attached to this machine, and what is written there "
              "would be lost "
              "with it",
              plan->native_base);
    return -ENOENT;
}

static int raise_all(struct raised *raised)
{
    int rc = raise_native(raised->plan);
    if (rc == 0)
        rc = raised_look(raised);
    if (rc == 0)
        rc = raise_secrets(raised);
    if (rc == 0)
        rc = raised_mounts(raised);
    for (size_t i = 0; rc == 0 && !stopped && i < raised->plan->link_count; i++)
        rc = raise_link(raised, &raised->plan->links[i]);
    if (rc == 0 && stopped) {
        words_say("stopped by a signal");
        rc = -EINTR;
    }
    return rc;
}

static bool made_something(const struct state *state)
{
    for (size_t i = 0; i < state_count(state); i++)
        if (state_at(state, i)->fresh)
            return true;
    return false;
}

int raised_up(struct raised *raised)
{
    hear_signals();
    int rc = raise_all(raised);
    if (rc == 0)
        return 0;
    if (made_something(raised->state))
        words_say("undoing what this run made");
    raised_down(raised->state, true);
    return 1;
}

/* ---- Down. ---- */

static int lower_secret(const char *path)
{
    STRING_SCOPED *fresh = xprintf("%s.new", path); /* of one that was killed while it wrote */
    unlink(fresh);
    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    words_say("%s holds keys and cannot be removed: %s; remove it by hand", path, err_text(-errno));
    return -EIO;
}

/* Others may have put something there: then it is theirs. */
static int lower_directory(const char *path)
{
    (void)!rmdir(path);
    return 0;
}

/* Somebody uses a bind of it: its daemon has to stay. */
static bool is_bound(const struct state *state, const char *dir)
{
    size_t length = strlen(dir);
    for (size_t i = 0; i < state_count(state); i++) {
        const struct state_thing *thing = state_at(state, i);
        const char *target = state_fact(thing, "target");
        if (strcmp(thing->kind, "bind") == 0 && target && strncmp(target, dir, length) == 0 &&
            (!target[length] || target[length] == '/') && is_mount_point(state_fact(thing, "path")))
            return true;
    }
    return false;
}

/* 1: something is there again that stays remembered. */
static int lower(struct state *state, struct state_thing *thing)
{
    const char *path = state_fact(thing, "path");
    if (!path)
        return 0;
    if (strcmp(thing->kind, "link") == 0)
        return raised_unlink(state, thing);
    if (strcmp(thing->kind, "bind") == 0)
        return lower_bind(path);
    if (strcmp(thing->kind, "mount") == 0)
        return is_bound(state, path) ? -EBUSY : raised_unmount(path, state_fact(thing, "target"));
    if (strcmp(thing->kind, "secret") == 0)
        return lower_secret(path);
    return lower_directory(path);
}

static int lower_kind(struct state *state, const char *kind, bool fresh_only)
{
    bool kept = false;
    BUF_SCOPED why = BUF_INIT;
    for (size_t i = state_count(state); i-- > 0;) {
        struct state_thing *thing = state_at(state, i);
        if (strcmp(thing->kind, kind) != 0 || (fresh_only && !thing->fresh))
            continue;
        int rc = lower(state, thing);
        if (rc < 0 || (rc == 0 && state_forget(state, thing, &why) < 0))
            kept = true;
    }
    words_complain(why.bytes);
    return kept;
}

int raised_down(struct state *state, bool fresh_only)
{
    static const char *const kinds[] = {"link", "bind", "mount", "secret", "directory"};
    int kept = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!kept || i < 3) /* a mount that stays needs its secret, and the directories that it stands on */
            kept |= lower_kind(state, kinds[i], fresh_only);
    return kept;
}
