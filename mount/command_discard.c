#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "mount/cold.h"
#include "mount/command.h"
#include "mount/control.h"
#include "mount/unsent.h"
#include "mount/words.h"

#define DISCARD_MS 120000 /* the upload of it that runs is ended first */

struct said {
    const char *directory, *file;
    bool yes;
};

static int read_words(int count, char **words, struct said *said)
{
    bool plain = false;
    for (int i = 1; i < count; i++) {
        if (!plain && strcmp(words[i], "--") == 0)
            plain = true;
        else if (!plain && strcmp(words[i], "--yes") == 0)
            said->yes = true;
        else if (!plain && words[i][0] == '-')
            return command_usage("discard", "there is no flag '%s'", words[i]);
        else if (!said->directory)
            said->directory = words[i];
        else if (!said->file)
            said->file = words[i];
        else
            return command_usage("discard", "one directory and one file are wanted");
    }
    return said->file ? 0
                      : command_usage("discard", "the %s is missing", said->directory ? "file" : "directory");
}

/* ---- What would be lost. ---- */

static int look(const struct target *target, const char *path, struct json **ret_status)
{
    if (target->kind == TARGET_DAEMON)
        return command_ask(target, "status", path, CONTROL_TIMEOUT_MS, ret_status);
    struct unsent unsent;
    struct json *status = json_object_new();
    BUF_SCOPED why = BUF_INIT;
    unsent_init(&unsent, path);
    int rc = home_look_each(target->path, unsent_add, &unsent, &why);
    unsent_print(&unsent, status);
    unsent_release(&unsent);
    if (rc < 0) {
        words_complain(why.length ? why.bytes : err_text(rc));
        json_free(status);
        return rc;
    }
    *ret_status = status;
    return 0;
}

static const struct json *find_file(const struct json *status, const char *path)
{
    const struct json *unsent = json_get(status, "unsent");
    for (size_t i = 0; i < json_count(unsent); i++)
        if (strcmp(json_get_string(json_at(unsent, i), "file"), path) == 0)
            return json_at(unsent, i);
    return NULL;
}

static bool ask_user(const struct said *said, const char *path, const struct json *file)
{
    char answer[16] = "";
    words_line(stderr, "%s: %lld bytes that are only on this host will be lost (%s).", path,
               command_number(file, "bytes"), json_get_string(file, "why"));
    if (said->yes)
        return true;
    if (!isatty(STDIN_FILENO)) {
        words_say("nothing was discarded: there is nobody to ask; say --yes if that is meant");
        return false;
    }
    fputs("Discard them? [y/N] ", stderr);
    fflush(stderr);
    if (fgets(answer, sizeof answer, stdin) && (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0))
        return true;
    words_say("nothing was discarded");
    return false;
}

/* ---- Doing it. ---- */

/* -EBUSY: somebody else has just opened it. */
static int discard_cold(const char *cache_dir, const char *path)
{
    struct cold cold;
    BUF_SCOPED why = BUF_INIT;
    int rc = cold_open(cache_dir, COLD_MUTE, &cold, &why);
    bool taken = rc == -EBUSY;
    if (rc == 0)
        rc = cache_discard(cold.rooms.cache, &cold.waiter, path, &why);
    if (rc < 0 && !taken)
        words_complain(why.length ? why.bytes : err_text(rc));
    cold_close(&cold);
    return rc;
}

static int discard(const struct target *target, const char *path);

static int discard_of_holder(const char *cache_dir, const char *path)
{
    struct target holder = TARGET_NONE;
    BUF_SCOPED why = BUF_INIT;
    int rc = target_find(cache_dir, &holder, &why);
    words_complain(why.bytes);
    if (rc == 0)
        rc = discard(&holder, path);
    target_release(&holder);
    return rc;
}

static int discard(const struct target *target, const char *path)
{
    struct json *answer = NULL;
    if (target->kind == TARGET_CACHE) {
        int rc = discard_cold(target->path, path);
        return rc == -EBUSY ? discard_of_holder(target->path, path) : rc;
    }
    int rc = command_ask(target, "discard", path, DISCARD_MS, &answer);
    if (rc == -ENOENT)
        words_say("%s: %s", path, CONTROL_NO_FILE);
    json_free(answer);
    return rc;
}

static int discard_asking(const struct said *said, const struct target *target, const char *path)
{
    struct json *status = NULL;
    if (look(target, path, &status) < 0)
        return 1;
    const struct json *file = find_file(status, path);
    int rc = -ENOENT;
    if (file)
        rc = ask_user(said, path, file) ? discard(target, path) : -ECANCELED;
    else if (json_count(json_get(status, "unsent")))
        words_say("%s is a directory: name one of the files below it (see: skyvol status %s)", path,
                  target->path);
    else
        words_say("%s: nothing of that name is unsent (see: skyvol status %s)", path, target->path);
    json_free(status);
    return rc < 0 ? 1 : 0;
}

/* Absolute, it stands for itself, and must be below the directory's mount. */
static int enter_absolute(struct target *target, const char *file, struct buf *why)
{
    struct target other = TARGET_NONE;
    int rc = target_find(file, &other, why);
    bool same = rc == 0 && strcmp(other.path, target->path) == 0;
    if (rc == 0 && !same) {
        buf_printf(why, "%s is not below %s", file, target->path);
        rc = -EINVAL;
    }
    if (same) {
        target_release(target);
        *target = other;
    } else {
        target_release(&other);
    }
    return rc;
}

static int find(const struct said *said, struct target *target, struct buf *why)
{
    int rc = target_find(said->directory, target, why);
    if (rc < 0)
        return rc;
    bool absolute = said->file[0] == '/' && target->kind == TARGET_DAEMON && target->mount.found;
    return absolute ? enter_absolute(target, said->file, why) : target_enter(target, said->file, why);
}

int command_discard(int count, char **words)
{
    struct said said = {0};
    struct target target = TARGET_NONE;
    BUF_SCOPED why = BUF_INIT;
    int code = read_words(count, words, &said);
    if (code)
        return code;
    if (find(&said, &target, &why) < 0) {
        words_complain(why.bytes);
        code = 1;
    } else {
        code = discard_asking(&said, &target, target.below);
    }
    target_release(&target);
    return code;
}
