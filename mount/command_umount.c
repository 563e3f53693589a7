#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "mount/command.h"
#include "mount/control.h"
#include "mount/place.h"
#include "mount/words.h"

#define QUIET_MS 2000  /* then it is said what is waited for */
#define MORE_MS  10000 /* beyond stop_timeout: what is not sending, and the last words */

static int print_unsent(const struct json *last)
{
    const struct json *unsent = json_get(last, "unsent");
    size_t count = json_count(unsent);
    for (size_t i = 0; i < count; i++) {
        const struct json *file = json_at(unsent, i);
        int64_t bytes = 0;
        json_get_integer(file, "bytes", &bytes);
        words_say("%s was not sent (%s): its %lld bytes are kept in %s", json_get_string(file, "key"),
                  json_get_string(file, "why"), (long long)bytes, json_get_string(file, "path"));
    }
    return count ? 1 : 0;
}

struct farewell {
    const char *path;
    int socket;
    pid_t pid;
    int64_t stop_timeout_ms;
};

/* Waits for what the daemon sends and says at its end, and until it has let everything go. */
static int read_last_words(const struct farewell *farewell)
{
    struct json *last = NULL;
    int rc = control_receive(farewell->socket, QUIET_MS, &last);
    if (rc == -ETIMEDOUT) {
        int64_t left = farewell->stop_timeout_ms + MORE_MS;
        words_say(
            "%s is unmounted; waiting until its daemon (pid %d) has sent what is unsent, at most %lld s",
            farewell->path, (int)farewell->pid, (long long)left / 1000);
        rc = control_receive(farewell->socket, left, &last);
    }
    if (rc == -ETIMEDOUT) {
        words_say("the daemon of %s (pid %d) does not end: it is stopped or hangs, and may hold unsent data; "
                  "see its log, "
                  "or let it go on with: kill -CONT %d",
                  farewell->path, (int)farewell->pid, (int)farewell->pid);
        return 1;
    }
    if (rc < 0) {
        words_say("the daemon of %s ended without a word (%s); see its log", farewell->path, err_text(rc));
        return 1;
    }
    int status = print_unsent(last);
    json_free(last);
    control_await_end(farewell->socket, MORE_MS);
    return status;
}

/* The daemon listens for us from here on, so that its last words are not lost. */
static int announce(struct farewell *farewell, struct buf *why)
{
    struct json *answer = NULL;
    int rc = control_send(farewell->socket, "umount");
    if (rc == 0)
        rc = control_receive(farewell->socket, CONTROL_TIMEOUT_MS, &answer);
    if (rc < 0)
        buf_printf(why,
                   "the daemon of %s (pid %d) does not answer (%s), so nothing was unmounted; if it is "
                   "stopped, let it go "
                   "on with: kill -CONT %d",
                   farewell->path, (int)farewell->pid, err_text(rc), (int)farewell->pid);
    else
        json_get_integer(answer, "stop_timeout_ms", &farewell->stop_timeout_ms);
    json_free(answer);
    return rc;
}

/* Somebody else may have unmounted meanwhile: then only the last words are missing. */
static int unmount(const char *path, struct buf *why)
{
    struct place_mount mount;
    int rc = place_find(path, &mount);
    if (rc == 0 && mount.found)
        rc = place_unmount(path, false, why);
    place_mount_release(&mount);
    return rc == -EINVAL ? 0 : rc;
}

static int say_farewell(struct farewell *farewell)
{
    BUF_SCOPED why = BUF_INIT;
    if (announce(farewell, &why) == 0 && unmount(farewell->path, &why) == 0)
        return read_last_words(farewell);
    words_complain(why.bytes);
    return 1;
}

/* A dead mount has no daemon to ask: it is only taken away. */
static int unmount_dead(const char *path)
{
    BUF_SCOPED why = BUF_INIT;
    if (place_unmount(path, true, &why) < 0) {
        words_complain(why.bytes);
        return 1;
    }
    words_say("the daemon of %s had died; the mount is taken away", path);
    return 0;
}

int command_umount(int count, char **words)
{
    if (count != 2)
        return command_usage("umount", count < 2 ? "the directory is missing" : "one directory is wanted");
    BUF_SCOPED why = BUF_INIT;
    STRING_SCOPED *path = NULL;
    if (place_resolve(words[1], &path, &why) < 0) {
        words_complain(why.bytes);
        return 1;
    }
    struct place_mount mount;
    struct farewell farewell = {.path = path, .socket = -1};
    int status = 1;
    if (place_look(path, &mount) == PLACE_DEAD)
        status = unmount_dead(path);
    else if (command_connect(path, &mount, &farewell.socket, &farewell.pid) == 0)
        status = say_farewell(&farewell);
    if (farewell.socket >= 0)
        close(farewell.socket);
    place_mount_release(&mount);
    return status;
}
