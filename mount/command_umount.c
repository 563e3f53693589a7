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

static int read_last_words(int socket, const char *path)
{
    BUF_SCOPED answer = BUF_INIT;
    int rc = control_receive(socket, -1, &answer);
    struct json *last = NULL;
    if (rc == 0)
        rc = json_parse(answer.bytes, answer.length, &last, NULL);
    if (rc < 0) {
        words_say("the daemon of %s ended without a word (%s); see its log", path, err_text(rc));
        return 1;
    }
    int status = print_unsent(last);
    json_free(last);
    return status;
}

/* A dead mount has no daemon to ask: it is only taken away. */
static int unmount_dead(const char *path, const struct place_mount *mount, const char *words)
{
    BUF_SCOPED why = BUF_INIT;
    bool dead = access(path, F_OK) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
    if (!mount->found || strncmp(mount->type, "fuse.skyvol", 11) != 0 || !dead) {
        words_complain(words);
        return 1;
    }
    if (place_unmount(path, false, &why) < 0) {
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
    place_find(path, &mount);
    int socket = -1;
    int status;
    if (control_connect(path, &socket, &why) < 0) {
        status = unmount_dead(path, &mount, why.bytes);
    } else if (control_send(socket, "umount") < 0 || place_unmount(path, false, &why) < 0) {
        words_complain(why.length ? why.bytes : "the daemon went away");
        status = 1;
    } else {
        status = read_last_words(socket, path);
    }
    if (socket >= 0)
        close(socket);
    place_mount_release(&mount);
    return status;
}
