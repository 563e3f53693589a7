#include "mount/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "mount/control.h"
#include "mount/option.h"
#include "mount/words.h"

static const struct command {
    const char *name;
    int (*run)(int count, char **words);
    const char *usage;
    const char *summary;
    const char *more;
} commands[] = {
    {"mount", command_mount, "skyvol mount SOURCE DIR [-f] [-o OPTION[=VALUE],...]",
     "show a bucket as a directory",
     "SOURCE is bucket, bucket:prefix or s3://bucket/prefix. Returns when DIR is usable; -f stays in the "
     "foreground.\n"
     "Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from ~/.aws/credentials.\n"
     "kill -USR2 PID (see skyvol status) toggles its log between log_level and debug.\n"
     "An option is taken from -o, else from the environment (SKYVOL_NAME), else from the [mount] table of "
     "the file\n"
     "that config= or SKYVOL_CONFIG names, else of ~/.config/skyvol/config.toml and /etc/skyvol.toml.\n"},
    {"umount", command_umount, "skyvol umount DIR", "send what is unsent and take the directory away",
     "Exits 1 when something could not be sent, and prints where it is kept.\n"},
    {"status", command_status, "skyvol status DIR [--json]", "what a mount does, holds and could not send",
     ""},
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
    printf("usage: %s\n\n%s%s", command->usage, command->more, *command->more ? "\n" : "");
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

int command_connect(const char *path, const struct place_mount *mount, int *ret_socket, pid_t *ret_pid)
{
    int rc = control_connect(path, mount->owner, ret_socket, ret_pid);
    if (rc == 0)
        return 0;
    if (!mount->found)
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
    return rc;
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
