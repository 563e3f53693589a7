#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/utf8.h"
#include "mount/raised.h"
#include "mount/words.h"

#define FRESH ".skyvol-new"

static int raise_directory(struct raised *raised, const char *path)
{
    struct stat status;
    struct state_thing *thing;
    if (stat(path, &status) == 0) {
        if (S_ISDIR(status.st_mode))
            return 0;
        words_say("%s is no directory: move it away", path);
        return -ENOTDIR;
    }
    int rc = raised_intend(raised, "directory", path, NULL, NULL, &thing);
    if (rc < 0)
        return rc;
    if (mkdir(path, 0755) < 0 && errno != EEXIST) {
        words_say("the directory %s cannot be made: %s", path, err_text(-errno));
        return -EACCES;
    }
    return raised_made(raised, thing);
}

int raised_directories(struct raised *raised, const char *path)
{
    STRING_SCOPED *part = xstrdup(path);
    for (char *slash = part + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        int rc = raise_directory(raised, part);
        *slash = '/';
        if (rc < 0)
            return rc;
    }
    return raise_directory(raised, part);
}

/* ---- What gives way to a link, and comes back when the run fails. ---- */

/* Facts of a link. */
#define WAS_LINK      "was_link"      /* where the symlink led that stood there */
#define WAS_DIRECTORY "was_directory" /* "MODE UID GID" of the empty directory that stood there */

struct replaced {
    char *link, *directory; /* as the facts; both NULL: nothing stood there */
};

static void replaced_release(struct replaced *replaced)
{
    free(replaced->link);
    free(replaced->directory);
}

static int look_at_link(const char *place, const char *target, struct replaced *ret_replaced)
{
    char found[4096];
    ssize_t length = readlink(place, found, sizeof found - 1);
    if (length < 0)
        return -errno;
    found[length] = 0;
    if (strcmp(found, target) == 0)
        return 1;
    if (!utf8_valid(found)) {
        words_say("%s leads to a name that is no UTF-8, which could not be put back: move it away", place);
        return -EILSEQ;
    }
    ret_replaced->link = xstrdup(found);
    return 0;
}

/* What stands in the place: 1: the link itself; 0: nothing, or what gives way to it. Changes nothing. */
static int look_at(const char *place, const char *target, struct replaced *ret_replaced)
{
    struct stat status;
    if (lstat(place, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISLNK(status.st_mode))
        return look_at_link(place, target, ret_replaced);
    if (!S_ISDIR(status.st_mode)) {
        words_say("%s is there already, and is no link: move it away", place);
        return -EEXIST;
    }
    ret_replaced->directory =
        xprintf("%o %u %u", (unsigned)(status.st_mode & 07777), status.st_uid, status.st_gid);
    return 0;
}

static int remember_replaced(struct raised *raised, struct state_thing *thing,
                             const struct replaced *replaced)
{
    BUF_SCOPED why = BUF_INIT;
    if (!replaced->link && !replaced->directory && !thing->made)
        return 0; /* after a run that was killed: what that one took away is remembered already */
    json_set_string(thing->facts, WAS_LINK, replaced->link);
    json_set_string(thing->facts, WAS_DIRECTORY, replaced->directory);
    int rc = state_save(raised->state, &why);
    words_complain(why.bytes);
    return rc;
}

static int clear_directory(const char *place)
{
    if (rmdir(place) == 0)
        return 0;
    words_say("%s is a directory that %s: move it away", place,
              errno == ENOTEMPTY ? "is not empty" : "cannot be replaced");
    return -ENOTEMPTY;
}

void raised_drop_fresh(const char *place)
{
    struct stat status;
    STRING_SCOPED *fresh = xprintf("%s" FRESH, place);
    if (lstat(fresh, &status) == 0 && S_ISLNK(status.st_mode))
        unlink(fresh);
}

/* In one step, also over a link that stands there. */
static int put_link(const char *place, const char *target)
{
    STRING_SCOPED *fresh = xprintf("%s" FRESH, place);
    raised_drop_fresh(place);
    if (symlink(target, fresh) == 0 && rename(fresh, place) == 0)
        return 0;
    int rc = -errno;
    raised_drop_fresh(place);
    return rc;
}

/* What gives way is remembered before it is touched. */
static int replace(struct raised *raised, const char *place, const char *target,
                   const struct replaced *replaced)
{
    struct state_thing *thing;
    int rc = raised_intend(raised, "link", place, target, NULL, &thing);
    if (rc == 0)
        rc = remember_replaced(raised, thing, replaced);
    if (rc == 0 && replaced->directory)
        rc = clear_directory(place);
    if (rc < 0)
        return rc;
    thing->fresh = true;
    rc = put_link(place, target);
    if (rc < 0) {
        words_say("the link %s cannot be made: %s", place, err_text(rc));
        return rc;
    }
    words_line(stdout, "%s -> %s", place, target);
    return raised_made(raised, thing);
}

/* Of an earlier run, perhaps of one that was killed before it could say so; or somebody's own, which is no business of ours. */
static int find_own(struct raised *raised, const char *place, const char *target)
{
    struct state_thing *thing = raised_find(raised->state, "link", place);
    words_line(stdout, "%s -> %s (it was there)", place, target);
    const char *known = state_fact(thing, "target");
    return known && strcmp(known, target) == 0 ? raised_made(raised, thing) : 0;
}

int raised_link(struct raised *raised, const char *place, const char *target)
{
    struct replaced replaced = {NULL, NULL};
    STRING_SCOPED *parent = xstrndup(place, (size_t)(strrchr(place, '/') - place));
    int rc = *parent ? raised_directories(raised, parent) : 0;
    if (rc == 0)
        rc = look_at(place, target, &replaced);
    if (rc > 0)
        rc = find_own(raised, place, target);
    else if (rc == 0)
        rc = replace(raised, place, target, &replaced);
    replaced_release(&replaced);
    return rc < 0 ? rc : 0;
}

/* ---- Down. ---- */

static int put_directory_back(const char *place, const char *fact)
{
    unsigned mode, uid, gid;
    if (sscanf(fact, "%o %u %u", &mode, &uid, &gid) != 3)
        return -EBADMSG;
    if (mkdir(place, 0700) < 0 || lchown(place, uid, gid) < 0 || chmod(place, mode & 07777) < 0)
        return -errno;
    return 0;
}

/* What cannot be put back is said, and holds nobody up: keys are still to be removed. */
static void put_back(const char *place, const char *link, const char *directory)
{
    int rc = link ? put_link(place, link) : directory ? put_directory_back(place, directory) : 0;
    if (rc < 0)
        words_say("%s was %s%s before, and cannot be put back: %s", place,
                  link ? "a link to " : "an empty directory", link ? link : "", err_text(rc));
    else if (link)
        words_line(stdout, "%s -> %s, as before", place, link);
    else if (directory)
        words_line(stdout, "%s is an empty directory, as before", place);
}

static int remember_earlier(struct state *state, struct state_thing *thing, const char *place,
                            const char *target)
{
    BUF_SCOPED why = BUF_INIT;
    struct json *facts = json_object_new();
    json_set_string(facts, "path", place);
    json_set_string(facts, "target", target);
    int rc = state_intend_again(state, thing, &facts, &why);
    if (rc == 0)
        rc = state_made(state, thing, thing->kind, NULL, &why);
    words_complain(why.bytes);
    return rc < 0 ? rc : 1;
}

/* Our link is gone. What had given way to it comes back if the run failed; the link of an earlier one only if it is that run that ends here:
 * `down` is of all of them. */
static int restore(struct state *state, struct state_thing *thing, const char *place)
{
    const char *link = state_fact(thing, WAS_LINK), *before = state_fact(thing, "before");
    bool earlier = link && before && strcmp(link, before) == 0;
    if (earlier ? !thing->fresh : !thing->fresh && thing->made)
        return 0;
    put_back(place, link, state_fact(thing, WAS_DIRECTORY));
    STRING_SCOPED *target = earlier ? xstrdup(before) : NULL;
    return earlier ? remember_earlier(state, thing, place, target) : 0;
}

int raised_unlink(struct state *state, struct state_thing *thing)
{
    char found[4096];
    const char *path = state_fact(thing, "path");
    const char *target = state_fact(thing, "target"), *before = state_fact(thing, "before");
    raised_drop_fresh(path);
    ssize_t length = readlink(path, found, sizeof found - 1);
    if (length < 0 && (errno == ENOENT || errno == ENOTDIR))
        return restore(state, thing, path);
    found[length > 0 ? length : 0] = 0;
    bool ours =
        length >= 0 && ((target && strcmp(found, target) == 0) || (before && strcmp(found, before) == 0));
    if (!ours) {
        if (thing->made) /* else it had not got as far as to replace it */
            words_line(stdout, "%s is not the link that up made any more: it stays as it is", path);
        return 0;
    }
    if (unlink(path) < 0) {
        words_say("%s cannot be removed: %s", path, err_text(-errno));
        return -EIO;
    }
    words_line(stdout, "removed %s", path);
    return restore(state, thing, path);
}
