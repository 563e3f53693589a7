#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "mount/claim.h"
#include "mount/command.h"
#include "mount/control.h"
#include "mount/home.h"
#include "mount/option.h"
#include "mount/unsent.h"
#include "mount/words.h"

/* ---- Words. ---- */

static void print_time(const char *name, const char *what, long long ms)
{
    if (ms >= 120000)
        words_line(stdout, "  %-11s %lld min: %s", name, ms / 60000, what);
    else if (ms > 0)
        words_line(stdout, "  %-11s %.1f s: %s", name, (double)ms / 1000, what);
}

/* As overlay.h does it. most 0: not mounted. */
static void print_slowed(long long files, long long most)
{
    if (most && files > most - most / 4)
        words_line(stdout,
                   "  slowed      who makes files waits for those that go up: %lld may be unsent (half of "
                   "memory= holds no "
                   "more)",
                   most);
}

static void print_unsent(const struct json *status)
{
    const struct json *unsent = json_get(status, "unsent");
    long long files = command_number(status, "unsent_files");
    if (files == 0) {
        words_line(stdout, "  unsent      nothing: all that was closed is in the bucket");
        return;
    }
    words_line(stdout,
               "  backlog     %lld files, %lld bytes; %lld failed, of these %lld for good, %lld conflicts",
               files, command_number(status, "unsent_bytes"), command_number(status, "parked"),
               command_number(status, "lasting"), command_number(status, "conflicts"));
    print_time("oldest", "the oldest unsent change", command_number(status, "oldest_unsent_ms"));
    print_slowed(files, command_number(status, "unsent_files_max"));
    if (command_number(status, "in_flight_max"))
        words_line(
            stdout,
            "  in flight   %lld files go up, with %lld requests at once at most, as the server takes them",
            command_number(status, "uploading"), command_number(status, "in_flight_max"));
    for (size_t i = 0; i < json_count(unsent); i++) {
        const struct json *file = json_at(unsent, i);
        const char *why = json_get_string(file, "why");
        const char *key = json_get_string(file, "key");
        BUF_SCOPED place = BUF_INIT;
        command_print_place(file, &place);
        words_line(stdout, "  unsent      %s (%lld bytes)%s%s%s%s",
                   key && *key ? key : json_get_string(file, "file"), /* unmounted, the prefix is not known */
                   command_number(file, "bytes"), why && *why ? ": " : "", why ? why : "",
                   place.length ? "; kept in " : "", place.bytes);
    }
    if (files > (long long)json_count(unsent))
        words_line(stdout, "  unsent      and %lld more", files - (long long)json_count(unsent));
}

static void print_traffic(const struct json *status)
{
    words_line(stdout, "  server      %s", json_get_string(status, "server"));
    words_line(stdout, "  up          %lld s", command_number(status, "uptime_s"));
    words_line(stdout, "  memory      %lld of %lld MiB",
               (command_number(status, "memory_used") + command_number(status, "memory_idle")) >> 20,
               command_number(status, "memory_limit") >> 20);
    words_line(stdout, "  traffic     %lld MiB in, %lld MiB out, %lld retries, %lld failures",
               command_number(status, "bytes_in") >> 20, command_number(status, "bytes_out") >> 20,
               command_number(status, "retries"), command_number(status, "failures"));
    if (command_number(status, "hidden_keys"))
        words_line(stdout, "  hidden      %lld keys are no file names, such as %s",
                   command_number(status, "hidden_keys"), json_get_string(status, "hidden_example"));
    print_time("unflushed", "the oldest change that is not on the disk",
               command_number(status, "oldest_unflushed_ms"));
}

static void print_words(const struct json *status)
{
    bool read_only = false, mounted = true;
    json_get_bool(status, "read_only", &read_only);
    json_get_bool(status, "mounted", &mounted);
    long long pid = command_number(status, "pid");
    const char *source = json_get_string(status, "source"), *place = json_get_string(status, "mount_point");
    if (mounted)
        words_line(stdout, "%s on %s (pid %lld, version %s)", source, place, pid,
                   json_get_string(status, "version"));
    else if (pid)
        words_line(stdout, "%s, unmounted from %s; pid %lld still uploads", source, place, pid);
    else
        words_line(stdout, "%s, last mounted on %s; nobody uploads: mount it again, or skyvol flush %s",
                   source, place, json_get_string(status, "cache_dir"));
    words_line(stdout, "  mode        %s, durability=%s", read_only ? "read-only" : "writable",
               json_get_string(status, "durability"));
    words_line(stdout, "  cache_dir   %s", json_get_string(status, "cache_dir"));
    if (pid)
        print_traffic(status);
    print_unsent(status);
}

static void print_json(const struct json *status)
{
    BUF_SCOPED pretty = BUF_INIT;
    json_print(status, &pretty, true);
    puts(pretty.bytes);
}

/* ---- One. ---- */

/* The same facts of a cache directory that nobody mounts, as far as they are of a journal. */
static int look_at_home(const char *path, struct json **ret_status, struct buf *why)
{
    struct settings settings;
    struct unsent unsent;
    struct json *status = json_object_new();
    unsent_init(&unsent, "");
    int rc = home_recall(path, &settings, why);
    if (rc == 0)
        rc = home_look_each(path, unsent_add, &unsent, why);
    if (rc == 0) {
        json_set_bool(status, "mounted", false);
        json_set_string(status, "source", settings.source);
        json_set_string(status, "mount_point", settings.mount_point);
        json_set_bool(status, "read_only", settings.read_only);
        json_set_string(status, "durability", option_durability(&settings));
        json_set_string(status, "cache_dir", path);
        unsent_print(&unsent, status);
        *ret_status = status;
    } else {
        if (!why->length)
            buf_printf(why, "%s: %s", path, err_text(rc));
        json_free(status);
    }
    unsent_release(&unsent);
    settings_release(&settings);
    return rc;
}

static struct json *look_at(const char *word)
{
    struct target target = TARGET_NONE;
    struct json *status = NULL;
    BUF_SCOPED why = BUF_INIT;
    if (target_find(word, &target, &why) == 0) {
        if (target.kind == TARGET_DAEMON)
            command_ask(&target, "status", NULL, CONTROL_TIMEOUT_MS, &status);
        else
            look_at_home(target.path, &status, &why);
    }
    words_complain(why.bytes);
    target_release(&target);
    return status;
}

/* ---- All. ---- */

struct all {
    struct json *mounts, *unmounted;
    bool broken; /* something did not answer, and it was said */
};

/* Also daemons that still send though they are unmounted, which no table of mounts shows. */
static void ask_daemon(void *context, const char *socket_path)
{
    struct all *all = context;
    struct json *status = NULL;
    int socket;
    pid_t pid;
    if (control_connect_at(socket_path, &socket, &pid) < 0)
        return; /* left by one that was killed: its mount, if there is one, is looked at below */
    int rc = control_send(socket, "status", NULL);
    if (rc == 0)
        rc = control_receive(socket, CONTROL_TIMEOUT_MS, &status);
    close(socket);
    if (json_get_string(status, "mount_point"))
        json_append(all->mounts, &status);
    json_free(status);
}

static bool has_answered(const struct all *all, const char *path)
{
    for (size_t i = 0; i < json_count(all->mounts); i++) {
        const char *place = json_get_string(json_at(all->mounts, i), "mount_point");
        if (place && strcmp(place, path) == 0)
            return true;
    }
    return false;
}

/* A mount of ours of which nobody spoke: what is wrong with it is said by who asks it. */
static void ask_mount(void *context, const char *path, const struct place_mount *mount)
{
    struct all *all = context;
    struct target target = TARGET_NONE;
    struct json *status = NULL;
    if (mount->owner == geteuid() && !has_answered(all, path)) {
        target_look(path, &target);
        if (command_ask(&target, "status", NULL, CONTROL_TIMEOUT_MS, &status) == 0)
            json_append(all->mounts, &status);
        else
            all->broken = true;
    }
    target_release(&target);
}

/* False: nothing unsent waits there that could be told. */
static bool ask_home(struct all *all, const char *path)
{
    struct json *status = NULL;
    BUF_SCOPED why = BUF_INIT;
    int rc = look_at_home(path, &status, &why);
    bool unsent = command_number(status, "unsent_files") > 0;
    if (rc < 0 && rc != -EBUSY && rc != -ENOENT) {
        words_complain(why.bytes);
        all->broken = true;
    }
    if (unsent)
        json_append(all->unmounted, &status);
    json_free(status);
    return unsent;
}

static bool is_home(const char *path)
{
    STRING_SCOPED *memo = xprintf("%s/mount.json", path);
    return access(memo, F_OK) == 0;
}

static void ask_default(void *context, const char *path)
{
    if (is_home(path) && !home_held(path, NULL))
        ask_home(context, path);
}

/* One that cannot be seen now is told of each time; one that has gone, once. */
static void ask_elsewhere(void *context, const char *path)
{
    int rc = access(path, X_OK) < 0 ? -errno : 0;
    bool gone = rc == -ENOENT || rc == -ENOTDIR;
    if (gone)
        words_say(
            "%s, which a mount left with unsent changes, is not there any more, and is forgotten; if it is "
            "on a disk that is not mounted now: later, skyvol flush %s",
            path, path);
    else if (rc < 0)
        words_say("%s, where unsent changes of a mount may wait, cannot be looked at: %s", path,
                  err_text(rc));
    if (gone || (rc == 0 && !home_held(path, NULL) && !(is_home(path) && ask_home(context, path))))
        home_forget(path);
}

static void print_all(const struct all *all)
{
    const struct json *const lists[] = {all->mounts, all->unmounted};
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < json_count(lists[i]); j++)
            print_words(json_at(lists[i], j));
    if (json_count(all->mounts) + json_count(all->unmounted) == 0 && !all->broken)
        words_line(stdout, "nothing is mounted by this user, and nothing waits unsent");
}

static int show_all(bool as_json)
{
    struct all all = {json_array_new(), json_array_new(), false};
    claim_each_socket(ask_daemon, &all);
    place_each(ask_mount, &all);
    home_each_default(ask_default, &all);
    home_each_elsewhere(ask_elsewhere, &all);
    if (as_json) {
        struct json *object = json_object_new();
        json_set(object, "mounts", &all.mounts);
        json_set(object, "unmounted", &all.unmounted);
        print_json(object);
        json_free(object);
    } else {
        print_all(&all);
    }
    json_free(all.mounts);
    json_free(all.unmounted);
    return all.broken ? 1 : 0;
}

/* ---- The command. ---- */

struct said {
    const char *directory;
    bool as_json, all;
};

static int read_words(int count, char **words, struct said *said)
{
    bool plain = false;
    for (int i = 1; i < count; i++) {
        if (!plain && strcmp(words[i], "--") == 0)
            plain = true;
        else if (!plain && strcmp(words[i], "--json") == 0)
            said->as_json = true;
        else if (!plain && strcmp(words[i], "--all") == 0)
            said->all = true;
        else if (!plain && words[i][0] == '-')
            return command_usage("status", "there is no flag '%s'", words[i]);
        else if (said->directory)
            return command_usage("status", "one directory is wanted");
        else
            said->directory = words[i];
    }
    if (said->all && said->directory)
        return command_usage("status", "a directory or --all is wanted, not both");
    return said->directory || said->all ? 0
                                        : command_usage("status", "the directory is missing; or say --all");
}

int command_status(int count, char **words)
{
    struct said said = {0};
    int usage = read_words(count, words, &said);
    if (usage)
        return usage;
    if (said.all)
        return show_all(said.as_json);
    struct json *status = look_at(said.directory);
    if (status && said.as_json)
        print_json(status);
    else if (status)
        print_words(status);
    int code = status ? 0 : 1;
    json_free(status);
    return code;
}
