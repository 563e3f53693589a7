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

static long long number(const struct json *object, const char *name)
{
    int64_t value = 0;
    json_get_integer(object, name, &value);
    return (long long)value;
}

static void print_words(const struct json *status)
{
    bool read_only = false;
    json_get_bool(status, "read_only", &read_only);
    const struct json *unsent = json_get(status, "unsent");
    words_line(stdout, "%s on %s (pid %lld, version %s)", json_get_string(status, "source"),
               json_get_string(status, "mount_point"), number(status, "pid"),
               json_get_string(status, "version"));
    words_line(stdout, "  server      %s", json_get_string(status, "server"));
    words_line(stdout, "  mode        %s, durability=%s", read_only ? "read-only" : "writable",
               json_get_string(status, "durability"));
    words_line(stdout, "  up          %lld s", number(status, "uptime_s"));
    words_line(stdout, "  memory      %lld of %lld MiB",
               (number(status, "memory_used") + number(status, "memory_idle")) >> 20,
               number(status, "memory_limit") >> 20);
    words_line(stdout, "  traffic     %lld MiB in, %lld MiB out, %lld retries, %lld failures",
               number(status, "bytes_in") >> 20, number(status, "bytes_out") >> 20, number(status, "retries"),
               number(status, "failures"));
    words_line(stdout, "  cache_dir   %s", json_get_string(status, "cache_dir"));
    if (number(status, "hidden_keys"))
        words_line(stdout, "  hidden      %lld keys are no file names, such as %s",
                   number(status, "hidden_keys"), json_get_string(status, "hidden_example"));
    if (json_count(unsent) == 0)
        words_line(stdout, "  unsent      nothing: all that was closed is in the bucket");
    for (size_t i = 0; i < json_count(unsent); i++) {
        const struct json *file = json_at(unsent, i);
        const char *why = json_get_string(file, "why"), *path = json_get_string(file, "path");
        words_line(stdout, "  unsent      %s (%lld bytes)%s%s%s%s", json_get_string(file, "key"),
                   number(file, "bytes"), why && *why ? ": " : "", why ? why : "",
                   path && *path ? "; kept in " : "", path ? path : "");
    }
}

static int read_words(int count, char **words, const char **ret_directory, bool *ret_json)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--json") == 0)
            *ret_json = true;
        else if (words[i][0] == '-')
            return command_usage("status", "there is no flag '%s'", words[i]);
        else if (*ret_directory)
            return command_usage("status", "one directory is wanted");
        else
            *ret_directory = words[i];
    }
    return *ret_directory ? 0 : command_usage("status", "the directory is missing");
}

static int ask(const char *path, struct json **ret_status)
{
    struct place_mount mount;
    int socket;
    pid_t pid;
    if (place_look(path, &mount) == PLACE_DEAD) {
        words_say(
            "the daemon of %s has died; take the mount away with: skyvol umount %s (or mount there again)",
            path, path);
        place_mount_release(&mount);
        return -ENOTCONN;
    }
    int rc = command_connect(path, &mount, &socket, &pid);
    place_mount_release(&mount);
    if (rc < 0)
        return rc;
    rc = control_send(socket, "status");
    if (rc == 0)
        rc = control_receive(socket, CONTROL_TIMEOUT_MS, ret_status);
    close(socket);
    if (rc < 0)
        words_say(
            "the daemon of %s (pid %d) does not answer (%s); see its log; if it is stopped: kill -CONT %d",
            path, (int)pid, err_text(rc), (int)pid);
    return rc;
}

int command_status(int count, char **words)
{
    const char *directory = NULL;
    bool as_json = false;
    int usage = read_words(count, words, &directory, &as_json);
    if (usage)
        return usage;
    BUF_SCOPED why = BUF_INIT;
    STRING_SCOPED *path = NULL;
    struct json *status = NULL;
    if (place_resolve(directory, &path, &why) < 0)
        words_complain(why.bytes);
    else if (ask(path, &status) == 0 && as_json) {
        BUF_SCOPED pretty = BUF_INIT;
        json_print(status, &pretty, true);
        puts(pretty.bytes);
    } else if (status)
        print_words(status);
    int code = status ? 0 : 1;
    json_free(status);
    return code;
}
