#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
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

/* What stands in the place: 1: the link itself; 0: nothing, or what gives way to it. */
static int clear_place(const char *place, const char *target)
{
    struct stat status;
    char found[4096];
    if (lstat(place, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISLNK(status.st_mode)) {
        ssize_t length = readlink(place, found, sizeof found - 1);
        found[length > 0 ? length : 0] = 0;
        return length > 0 && strcmp(found, target) == 0;
    }
    if (!S_ISDIR(status.st_mode)) {
        words_say("%s is there already, and is no link: move it away", place);
        return -EEXIST;
    }
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

int raised_link(struct raised *raised, const char *place, const char *target)
{
    struct state_thing *thing;
    STRING_SCOPED *parent = xstrndup(place, (size_t)(strrchr(place, '/') - place));
    STRING_SCOPED *fresh = xprintf("%s" FRESH, place);
    int rc = *parent ? raised_directories(raised, parent) : 0;
    int there = rc == 0 ? clear_place(place, target) : rc;
    if (there != 0) {
        if (there > 0)
            words_line(stdout, "%s -> %s (it was there)", place, target);
        return there < 0 ? there : 0;
    }
    rc = raised_intend(raised, "link", place, target, NULL, &thing);
    if (rc < 0)
        return rc;
    thing->fresh = true;
    raised_drop_fresh(place);
    if (symlink(target, fresh) < 0 || rename(fresh, place) < 0) {
        rc = -errno;
        raised_drop_fresh(place);
        words_say("the link %s cannot be made: %s", place, err_text(rc));
        return rc;
    }
    words_line(stdout, "%s -> %s", place, target);
    return raised_made(raised, thing);
}
