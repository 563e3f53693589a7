#include "mount/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "mount/control.h"
#include "mount/geesefs.h"
#include "mount/helper.h"
#include "mount/option.h"
#include "mount/pool_words.h"
#include "mount/storage_words.h"
#include "mount/words.h"

static const struct command {
    const char *name;
    int (*run)(int count, char **words);
    const char *usage;
    const char *summary;
    const char *more;
    const char *shared; /* more, that several commands have in common; NULL: none */
} commands[] = {
    {"mount", command_mount, "skyvol mount SOURCE DIR [-f] [-o OPTION[=VALUE],...]",
     "show a bucket as a directory",
     "SOURCE is bucket, bucket:prefix or s3://bucket/prefix. Returns when DIR is usable; -f stays in the "
     "foreground.\n"
     "Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from ~/.aws/credentials.\n"
     "kill -USR2 PID (see skyvol status) toggles its log between log_level and debug.\n"
     "An option is taken from -o, else from the environment (SKYVOL_NAME), else from the [mount] table of "
     "the file\n"
     "that config= or SKYVOL_CONFIG names, else of ~/.config/skyvol/config.toml and /etc/skyvol.toml.\n",
     NULL},
    {"umount", command_umount, "skyvol umount DIR [--wait]",
     "take the directory away; its daemon sends what is unsent",
     "Returns when DIR is free; what is still unsent goes on being uploaded, also after a reboot at the next "
     "mount.\n"
     "--wait waits for that too, also when DIR was unmounted before. Exits 1 when the server refuses "
     "something, and\n"
     "prints why, where it is kept, and what can be done: with --wait as soon as nothing else is on its "
     "way.\n",
     NULL},
    {"status", command_status, "skyvol status DIR|--all [--json]",
     "what a mount does, holds and could not send",
     "DIR is a mount, or a cache directory, also one that is being flushed. --all: all mounts of this user, "
     "daemons that "
     "still send,\n"
     "and the cache directories with unsent changes that nobody mounts, wherever cache_dir= put them.\n",
     NULL},
    {"flush", command_flush, "skyvol flush DIR|FILE...",
     "send what is unsent and wait until it is in the bucket",
     "Of a mount, of anything below one, or of a cache directory without a mount: one that is mounted "
     "meanwhile is "
     "left to its mount. "
     "What was\n"
     "refused before is tried once more at once. Exits 1 as soon as all that is left is refused (403, no "
     "such "
     "bucket, too\n"
     "large, a conflict), and prints each such file, why, and what can be done. A server that is away or "
     "busy "
     "is waited\n"
     "for; for scripts: timeout 300 skyvol flush DIR. Ctrl-C ends the waiting, not the sending of a "
     "mount.\n",
     NULL},
    {"refresh", command_refresh, "skyvol refresh DIR [PATH]", "forget what is remembered of the bucket",
     "All that the mount and the kernel know of PATH and below (without it: of all) is forgotten, also on "
     "the "
     "disk; who\n"
     "looks next sees what is in the bucket. Without it that takes attr_ttl at most. What is unsent "
     "stays.\n",
     NULL},
    {"discard", command_discard, "skyvol discard DIR FILE [--yes]", "give up the unsent changes of one file",
     "FILE is a path below DIR, a mount or a cache directory. It is again what the bucket "
     "holds, or\n"
     "nothing: what was written here is lost. Asks before it does so; --yes: without asking.\n",
     NULL},
    {"up", command_up, "skyvol up [-c FILE] [--pool NAME]",
     "mount and link all volumes of a configuration here",
     "All of them stand when it returns 0; when it fails it has undone what it made. It may be run again: "
     "what stands "
     "stays.\n",
     pool_words_help},
    {"down", command_down, "skyvol down [-c FILE] [--pool NAME]",
     "undo up: unlink, send what is unsent, unmount",
     "Touches nothing that up did not make. A mount that is busy, or whose data is not all sent, stays, and "
     "so do its keys, also after a crash; "
     "and the exit "
     "status is 1.\n",
     pool_words_help},
    {"upload", command_upload, "skyvol upload BUCKET LOCAL... [--key K] [--json]",
     "files and directories into a bucket",
     "A file's key is its name, or K; with K/ it is K/ and its name. The keys of a directory begin with its "
     "own "
     "name, or with K/.\n"
     "Links are followed; what is no file is named, and the exit status is 1. Large files go up by parts, "
     "several at once; Ctrl-C\n"
     "aborts them, a second one ends at once.\n",
     storage_words_help},
    {"download", command_download, "skyvol download BUCKET KEY LOCAL [--recursive] [--json]",
     "objects into files",
     "The file appears whole, under its name, when all of it is here; what has come of it stays when it is "
     "stopped, and the next "
     "run goes\n"
     "on. What came is compared with the CRC that the object tells of itself, if it does. --recursive: "
     "all below KEY/ into\n"
     "the directory LOCAL; keys that would lead out of it are named and left.\n",
     storage_words_help},
    {"ls", command_ls, "skyvol ls BUCKET [--prefix P] [-l] [--json]", "the keys of a bucket",
     "-l: size, time and ETag with each. --json: an object in each line.\n", storage_words_help},
    {"exists", command_exists, "skyvol exists BUCKET KEY [--json]", "is there such an object?",
     "Exit status 0: yes; 1: no; 2: it could not be told, and why is said.\n", storage_words_help},
    {"rm", command_rm, "skyvol rm BUCKET KEY... [--recursive] [--dry-run]", "remove objects",
     "--recursive: all below KEY/, nothing that only begins alike. --dry-run: only says what would go.\n"
     "skyvol rm BUCKET --uploads [--older-than 7d] [--prefix P] aborts multipart uploads that nobody "
     "completed; without\n"
     "--older-than also those that are just on their way.\n",
     storage_words_help},
    {"whoami", command_whoami, "skyvol whoami [SOURCE] [-o OPTION[=VALUE],...] [--verify] [--json]",
     "which keys a mount would use, and why",
     "Says which source won, and of each one before it why it had none. Options as of `skyvol mount`: "
     "profile=, "
     "credentials_file=, role_arn=.\n"
     "--verify: STS is asked whose keys they are. Of a key its last 4 characters are printed, of a secret "
     "nothing.\n",
     NULL},
    {"check", command_check, "skyvol check [-c FILE] [--pool NAME] [--read-only] [--json]",
     "try all volumes of a configuration",
     "Each endpoint is reached and listed; where a volume is writable an object is written and removed (not "
     "with "
     "--read-only), and it is\n"
     "said whether a lifecycle rule removes abandoned uploads. Exit status 1 when something does not work.\n",
     pool_words_help},
    {"plan", command_plan, "skyvol plan [-c FILE] [--pool NAME] [--format json|sh]",
     "what up would do, for another machine",
     "json: mounts, links, secrets apart, and a bootstrap script without them. sh: one script that does all "
     "of it on a "
     "worker, with\n"
     "its secrets: pipe it into `sh`, keep it out of logs. The same input gives the same bytes. --package "
     "PATH|URL "
     "--sha256 HASH:\n"
     "the script installs skyvol where it is missing. --explain: only the network calls that the plan needs "
     "are said.\n",
     pool_words_help},
    {"prepare", command_prepare, "skyvol prepare [-c FILE] [--pool NAME] [--json]",
     "make what machines need to reach the volumes of a pool",
     "At the provider of the pool (aws, gcp, hyperstack, runpod), for the volumes that have no storage of "
     "their own: a role with its "
     "policy and\n"
     "instance profile (aws, instance_profile_arn = \"auto\"), an HMAC key (gcp), an access key and missing "
     "writable buckets "
     "(hyperstack).\n"
     "What is made is remembered in a file of this user (--state FILE puts it elsewhere) before it is used; "
     "run again it is used again.\n",
     pool_words_help},
    {"teardown", command_teardown, "skyvol teardown [-c FILE] [--pool NAME] [--json]",
     "delete what skyvol prepare made",
     "Also what a prepare made that was killed. Can be repeated; what could not be deleted is named, stays "
     "remembered, and the exit "
     "status is 1.\n"
     "Buckets stay: they hold your data. Take the volumes away first (skyvol down): keys that are deleted "
     "end every mount that uses "
     "them.\n",
     pool_words_help},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_overview(FILE *out)
{
    fputs("skyvol: an S3 bucket as a directory\n\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-54s %s\n", commands[i].usage, commands[i].summary);
    fputs("\n`skyvol COMMAND --help` says more; `skyvol --version` prints the version.\n", out);
}

static void print_help(const struct command *command)
{
    printf("usage: %s\n\n%s%s%s", command->usage, command->more, command->shared ? command->shared : "",
           *command->more ? "\n" : "");
    if (command->run != command_mount)
        return;
    BUF_SCOPED options = BUF_INIT;
    option_help(&options);
    printf("Options (-o):\n%s", options.bytes);
}

int command_usage(const char *name, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    BUF_SCOPED message = BUF_INIT;
    buf_vprintf(&message, format, list);
    va_end(list);
    words_line(stderr, "skyvol %s: %s", name, message.bytes);
    words_line(stderr, "Try: skyvol %s --help", name);
    return 2;
}

static void say_unreachable(const struct target *target, int rc)
{
    const char *path = target->path;
    const struct place_mount *mount = &target->mount;
    if (!mount->found && target->cache_dir)
        words_say("%s: who had it open is just ending; try again", target->cache_dir);
    else if (!mount->found)
        words_say("%s is not mounted", path);
    else if (strcmp(mount->type, "fuse.skyvol") != 0)
        words_say("%s is a mount of %s (%s), not of skyvol", path, mount->source, mount->type);
    else if (rc == -EACCES || (mount->owner != geteuid() && geteuid() != 0))
        words_say("%s is another user's mount (uid %u); ask as that user or as root", path,
                  (unsigned)mount->owner);
    else if (rc == -EAGAIN)
        words_say("the daemon of %s does not answer: too many wait for it already; see its log", path);
    else
        words_say(
            "the daemon of %s cannot be reached (%s): it is just starting or ending, or belongs to another "
            "container; try again, or there",
            path, err_text(rc));
}

int command_connect(const struct target *target, int *ret_socket, pid_t *ret_pid)
{
    int rc = control_connect(target->door, target->mount.owner, ret_socket, ret_pid);
    if (rc < 0)
        say_unreachable(target, rc);
    return rc;
}

static void say_silent(const char *path, pid_t pid, int rc)
{
    words_say("the daemon of %s (pid %d) does not answer (%s); see its log; if it is stopped: kill -CONT %d",
              path, (int)pid, err_text(rc), (int)pid);
}

/* Takes an answer that is an error. */
static int hear_error(const struct target *target, const char *request, struct json **answer)
{
    const char *error = json_get_string(*answer, "error");
    if (!error)
        return 0;
    bool unknown = strcmp(error, "unknown request") == 0, missing = strcmp(error, CONTROL_NO_FILE) == 0;
    if (unknown)
        words_say("the daemon of %s is of a version that knows no %s; unmount and mount again to use it",
                  target->path, request);
    else if (!missing)
        words_say("%s: %s", target->path, error);
    json_free(*answer);
    *answer = NULL;
    return missing ? -ENOENT : -EPROTO;
}

int command_ask(const struct target *target, const char *request, const char *path, int64_t timeout_ms,
                struct json **ret_answer)
{
    int socket;
    pid_t pid;
    if (target->state == PLACE_DEAD) {
        words_say(
            "the daemon of %s has died; take the mount away with: skyvol umount %s (or mount there again)",
            target->path, target->path);
        return -ENOTCONN;
    }
    int rc = command_connect(target, &socket, &pid);
    if (rc < 0)
        return rc;
    struct json *answer = NULL;
    rc = control_send(socket, request, path);
    if (rc == 0)
        rc = control_receive(socket, timeout_ms, &answer);
    close(socket);
    if (rc == -EILSEQ)
        words_say("%s: no file has a name that is not UTF-8", path);
    else if (rc < 0)
        say_silent(target->path, pid, rc);
    else
        rc = hear_error(target, request, &answer);
    if (rc == 0)
        *ret_answer = answer;
    return rc;
}

void command_print_place(const struct json *file, struct buf *ret_place)
{
    const char *path = json_get_string(file, "path");
    long long offset = command_number(file, "offset");
    buf_reset(ret_place);
    if (path && *path)
        buf_add_string(ret_place, path);
    if (offset)
        buf_printf(ret_place, ", from byte %lld on", offset);
}

static void name_one(const struct json *file, bool refused)
{
    const char *key = json_get_string(file, "key"), *why = json_get_string(file, "why");
    const char *remedy = json_get_string(file, "remedy");
    bool leaving = false;
    BUF_SCOPED place = BUF_INIT;
    BUF_SCOPED line = BUF_INIT;
    json_get_bool(file, "leaving", &leaving);
    command_print_place(file, &place);
    buf_printf(&line, "%s %s (%s)", key,
               leaving   ? "was removed here, and still stands in the bucket"
               : refused ? "cannot go up"
                         : "was not sent",
               why);
    if (!leaving)
        buf_printf(&line, ": its %lld bytes are kept in %s", command_number(file, "bytes"),
                   place.length ? place.bytes : "the journal");
    if (remedy)
        buf_printf(&line, "; %s", remedy);
    words_say("%s", line.bytes);
}

void command_name_unsent(const struct json *answer, bool all)
{
    const struct json *unsent = json_get(answer, "unsent");
    for (size_t i = 0; i < json_count(unsent); i++) {
        const struct json *file = json_at(unsent, i);
        bool lasting = false, refused = false;
        json_get_bool(file, "lasting", &lasting);
        json_get_bool(file, "refused", &refused);
        if (all || lasting || refused)
            name_one(file, lasting || refused);
    }
    long long more = command_number(answer, "unsent_files") - (long long)json_count(unsent);
    if (all && more > 0)
        words_say("and %lld more", more);
}

long long command_number(const struct json *object, const char *name)
{
    int64_t value = 0;
    json_get_integer(object, name, &value);
    return (long long)value;
}

static int refuse_command(const char *word)
{
    const char *names[COMMAND_COUNT];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i].name;
    const char *nearest = option_nearest(word, names, COMMAND_COUNT);
    words_say("there is no command '%s'%s%s%s", word, nearest ? "; did you mean '" : "",
              nearest ? nearest : "", nearest ? "'?" : "");
    words_line(stderr, "Try: skyvol --help");
    return 2;
}

int command_main(int count, char **words)
{
    const char *name = count > 0 ? words[0] : "skyvol", *slash = strrchr(name, '/');
    name = slash ? slash + 1 : name;
    if (strcmp(name, "mount.skyvol") == 0 || strcmp(name, "mount.fuse.skyvol") == 0)
        return helper_main(count, words);
    if (strcmp(name, "geesefs") == 0)
        return geesefs_main(count, words);
    if (count < 2) {
        print_overview(stderr);
        return 2;
    }
    if (strcmp(words[1], "--version") == 0 || strcmp(words[1], "-V") == 0) {
        puts("skyvol " SKYVOL_VERSION);
        return 0;
    }
    if (strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0 || strcmp(words[1], "help") == 0) {
        print_overview(stdout);
        return 0;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(words[1], commands[i].name) != 0)
            continue;
        for (int j = 2; j < count && strcmp(words[j], "--") != 0; j++) {
            if (strcmp(words[j], "--help") == 0 || strcmp(words[j], "-h") == 0) {
                print_help(&commands[i]);
                return 0;
            }
        }
        return commands[i].run(count - 1, words + 1);
    }
    return refuse_command(words[1]);
}
