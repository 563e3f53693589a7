#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "mount/command.h"
#include "mount/control.h"
#include "mount/place.h"
#include "mount/progress.h"
#include "mount/words.h"

#define QUIET_MS 2000  /* then it is said what is waited for */
#define MORE_MS  10000 /* for a daemon to say that the mount has ended */
#define LOOK_MS  500   /* between two looks at how far it is */

static int print_unsent(const struct json *last)
{
    bool yielded = false;
    command_name_unsent(last, true);
    json_get_bool(last, "yielded", &yielded);
    if (yielded)
        words_say("a new mount has taken over, and goes on with them");
    return json_count(json_get(last, "unsent")) ? 1 : 0;
}

struct farewell {
    const char *path;
    int socket;
    uid_t owner;
    pid_t pid;
    bool waits;
    int64_t stop_timeout_ms;
    struct json *lingering; /* what is still on its way, once the daemon said so */
    int flush;              /* a connection; -1: none */
    struct json *refused;   /* what is left, and does not go up */
};

static int refuse_silence(const struct farewell *farewell, int rc)
{
    if (rc == -ETIMEDOUT)
        words_say("the daemon of %s (pid %d) does not end: it is stopped or hangs, and may hold unsent data; "
                  "see its log, or let it go on with: kill -CONT %d",
                  farewell->path, (int)farewell->pid, (int)farewell->pid);
    else
        words_say("the daemon of %s ended without a word (%s); see its log", farewell->path, err_text(rc));
    return 1;
}

/* Files that cannot go up as things stand are named now: nobody comes back to say it. */
static int leave(const struct farewell *farewell)
{
    const struct json *lingering = farewell->lingering;
    long long lasting = command_number(lingering, "lasting");
    words_say(
        "%lld files (%lld bytes) are still being uploaded by pid %d; `skyvol umount %s --wait` waits; they "
        "survive a reboot",
        command_number(lingering, "unsent_files") - lasting, command_number(lingering, "unsent_bytes"),
        (int)farewell->pid, farewell->path);
    command_name_unsent(lingering, false);
    return lasting || command_number(lingering, "refused") ? 1 : 0;
}

/* The daemon's next line, with a word to who waits when it takes long. */
static int hear(const struct farewell *farewell, struct json **ret_line)
{
    int rc = control_receive(farewell->socket, QUIET_MS, ret_line);
    if (rc != -ETIMEDOUT)
        return rc;
    int64_t left = farewell->stop_timeout_ms + MORE_MS;
    words_say("%s is unmounted; waiting until its daemon (pid %d) has sent what is unsent, at most %lld s",
              farewell->path, (int)farewell->pid, (long long)left / 1000);
    return control_receive(farewell->socket, left, ret_line);
}

/* A wait of flush, beside the last words: it ends when all that is left is refused. -1: none. */
static int begin_flush(const struct farewell *farewell)
{
    struct json *answer = NULL;
    BUF_SCOPED why = BUF_INIT;
    int socket = -1;
    pid_t pid;
    if (control_ask(farewell->path, farewell->owner, "flush", "", CONTROL_TIMEOUT_MS, &answer, &why) == 0 &&
        control_connect(farewell->path, farewell->owner, &socket, &pid) == 0 &&
        control_send(socket, "await", "") < 0) {
        close(socket);
        socket = -1;
    }
    json_free(answer);
    return socket;
}

/* True: what is left is refused. Else the last words come, whatever it said. */
static bool is_refused(struct farewell *farewell)
{
    struct json *answer = NULL;
    if (farewell->flush < 0 || control_await(farewell->flush, 1) == -ETIMEDOUT)
        return false;
    control_receive(farewell->flush, CONTROL_TIMEOUT_MS, &answer);
    close(farewell->flush);
    farewell->flush = -1;
    bool refused = command_number(answer, "unsent_files") > 0;
    if (refused)
        farewell->refused = answer;
    else
        json_free(answer);
    return refused;
}

/* Until the last words, showing how far it is. Ends also when the daemon does not answer any more, and with farewell->refused. */
static int watch(struct farewell *farewell, struct json **ret_last)
{
    struct progress progress;
    int rc, silent = 0;
    progress_init(&progress, farewell->path, isatty(STDERR_FILENO));
    progress_show(&progress, farewell->lingering);
    if (farewell->flush < 0)
        farewell->flush = begin_flush(farewell);
    while ((rc = control_receive(farewell->socket, LOOK_MS, ret_last)) == -ETIMEDOUT && silent < 2 &&
           !is_refused(farewell)) {
        struct json *status = NULL;
        BUF_SCOPED why = BUF_INIT;
        int asked =
            control_ask(farewell->path, farewell->owner, "status", "", CONTROL_TIMEOUT_MS, &status, &why);
        silent = asked == -ETIMEDOUT ? silent + 1 : 0;
        if (status)
            progress_show(&progress, status);
        json_free(status);
    }
    progress_end(&progress);
    return rc;
}

static int tell_refused(const struct farewell *farewell)
{
    command_name_unsent(farewell->refused, true);
    words_say(
        "pid %d goes on trying now and then; wait for it with: skyvol umount %s --wait; end it with: kill "
        "%d, which loses nothing: the next mount goes on",
        (int)farewell->pid, farewell->path, (int)farewell->pid);
    return 1;
}

static bool is_last(const struct json *line)
{
    bool ended = false;
    return json_get_bool(line, "ended", &ended) && ended;
}

/* What the daemon says at the end of its mount: that it still sends, or that it has ended. */
static int read_last_words(struct farewell *farewell)
{
    struct json *last = NULL;
    int rc = farewell->lingering ? 0 : hear(farewell, &last);
    if (rc == 0 && last && !is_last(last)) {
        farewell->lingering = last;
        last = NULL;
    }
    if (rc == 0 && !last && !farewell->waits)
        return leave(farewell);
    while (rc == 0 && !farewell->refused && (!last || !is_last(last))) {
        json_free(last);
        last = NULL;
        rc = watch(farewell, &last);
    }
    if (farewell->refused)
        return tell_refused(farewell);
    if (rc < 0)
        return refuse_silence(farewell, rc);
    int status = print_unsent(last);
    json_free(last);
    control_await_end(farewell->socket, MORE_MS);
    return status;
}

/* The daemon listens for us from here on, so that its last words are not lost. */
static int announce(struct farewell *farewell, struct buf *why)
{
    struct json *answer = NULL;
    int rc = control_send(farewell->socket, "umount", NULL);
    if (rc == 0)
        rc = control_receive(farewell->socket, CONTROL_TIMEOUT_MS, &answer);
    if (rc < 0)
        buf_printf(why,
                   "the daemon of %s (pid %d) does not answer (%s), so nothing was unmounted; if it is "
                   "stopped, let it go "
                   "on with: kill -CONT %d",
                   farewell->path, (int)farewell->pid, err_text(rc), (int)farewell->pid);
    json_get_integer(answer, "stop_timeout_ms", &farewell->stop_timeout_ms);
    if (command_number(answer, "unsent_files")) {
        farewell->lingering = answer;
        answer = NULL;
    }
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

static int read_words(int count, char **words, const char **ret_directory, bool *ret_waits)
{
    bool plain = false;
    for (int i = 1; i < count; i++) {
        if (!plain && strcmp(words[i], "--") == 0)
            plain = true;
        else if (!plain && strcmp(words[i], "--wait") == 0)
            *ret_waits = true;
        else if (!plain && words[i][0] == '-')
            return command_usage("umount", "there is no flag '%s'", words[i]);
        else if (*ret_directory)
            return command_usage("umount", "one directory is wanted");
        else
            *ret_directory = words[i];
    }
    return *ret_directory ? 0 : command_usage("umount", "the directory is missing");
}

/* What is not mounted any more may still be sent by who served it. */
static int end_mount(struct farewell *farewell)
{
    struct target target;
    int status = 1;
    target_look(farewell->path, &target);
    if (target.state == PLACE_DEAD)
        status = unmount_dead(farewell->path);
    else if (command_connect(&target, &farewell->socket, &farewell->pid) == 0) {
        farewell->owner = target.mount.owner;
        status = say_farewell(farewell);
    }
    target_release(&target);
    return status;
}

int command_umount(int count, char **words)
{
    const char *directory = NULL;
    bool waits = false;
    int usage = read_words(count, words, &directory, &waits);
    if (usage)
        return usage;
    BUF_SCOPED why = BUF_INIT;
    STRING_SCOPED *path = NULL;
    if (place_resolve(directory, &path, &why) < 0) {
        words_complain(why.bytes);
        return 1;
    }
    struct farewell farewell = {.path = path, .socket = -1, .flush = -1, .waits = waits};
    int status = end_mount(&farewell);
    json_free(farewell.lingering);
    json_free(farewell.refused);
    if (farewell.flush >= 0)
        close(farewell.flush);
    if (farewell.socket >= 0)
        close(farewell.socket);
    return status;
}
