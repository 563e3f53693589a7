#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

#include "mount/command.h"
#include "mount/daemon.h"
#include "mount/mount_words.h"
#include "mount/option.h"
#include "mount/place.h"
#include "mount/session.h"
#include "mount/source.h"
#include "mount/words.h"

void mount_words_join(struct mount_words *said, const char *list)
{
    if (said->options.length)
        buf_add_char(&said->options, ',');
    buf_add_string(&said->options, list);
}

static int read_words(int count, char **words, struct mount_words *ret_said)
{
    bool plain = false;
    for (int i = 1; i < count; i++) {
        const char *word = words[i];
        if (!plain && strcmp(word, "--") == 0)
            plain = true;
        else if (!plain && strcmp(word, "-f") == 0)
            ret_said->foreground = true;
        else if (!plain && strcmp(word, "-o") == 0) {
            if (++i == count)
                return command_usage("mount", "-o needs options after it");
            mount_words_join(ret_said, words[i]);
        } else if (!plain && strncmp(word, "-o", 2) == 0)
            mount_words_join(ret_said, word + 2);
        else if (!plain && word[0] == '-' && word[1])
            return command_usage("mount", "there is no flag '%s'; options are given with -o", word);
        else if (!ret_said->source)
            ret_said->source = word;
        else if (!ret_said->directory)
            ret_said->directory = word;
        else
            return command_usage("mount", "'%s' is one word too many: a source and a directory are wanted",
                                 word);
    }
    if (!ret_said->directory)
        return command_usage("mount",
                             ret_said->source ? "the directory is missing" : "the source is missing");
    return 0;
}

/* By rising weight, so that a later one overwrites an earlier one. -o is read twice: its config= names the file, else SKYVOL_CONFIG does. */
int mount_words_settings(const struct mount_words *said, struct settings *settings, struct buf *why)
{
    option_defaults(settings);
    int rc = option_parse_list(settings, said->options.bytes, why);
    if (rc < 0)
        return rc;
    const char *named = getenv("SKYVOL_CONFIG");
    if (!settings->config && named && *named)
        rc = option_set(settings, "config", named, "SKYVOL_CONFIG", why);
    if (rc < 0)
        return rc;
    STRING_SCOPED *config = settings->config ? xstrdup(settings->config) : NULL;
    rc = option_from_file(settings, config, why);
    int environment_rc = option_from_environment(settings, why);
    if (rc < 0 || environment_rc < 0)
        return -EINVAL;
    rc = option_parse_list(settings, said->options.bytes, why);
    settings->foreground = said->foreground;
    return rc < 0 ? rc : option_check(settings, why);
}

static int prepare(struct settings *settings, const struct mount_words *said, struct buf *why)
{
    int rc = mount_words_settings(said, settings, why);
    if (rc < 0)
        return rc;
    settings->source = xstrdup(said->source);
    rc = source_parse(said->source, &settings->bucket, &settings->prefix, why);
    if (rc < 0)
        return rc;
    rc = place_resolve(said->directory, &settings->mount_point, why);
    return rc < 0 ? rc : place_prepare(settings->mount_point, settings->nonempty, why);
}

/* What the daemon's parent does. */
static int start(struct settings *settings)
{
    struct daemon daemon;
    if (daemon_start(&daemon, settings) < 0) {
        words_complain("no process can be started: out of memory, or too many processes");
        return 1;
    }
    return session_run(settings, &daemon);
}

int command_mount_said(const struct mount_words *said)
{
    struct settings settings = {0};
    BUF_SCOPED why = BUF_INIT;
    int status = 1;
    if (prepare(&settings, said, &why) < 0)
        words_complain(why.bytes);
    else
        status = said->check_only ? 0 : start(&settings);
    settings_release(&settings);
    return status;
}

int command_mount_apart(const struct mount_words *said)
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        exit(command_mount_said(said));
    if (child < 0) {
        words_say("no process can be started: %s", err_text(-errno));
        return 1;
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

int command_mount(int count, char **words)
{
    struct mount_words said = {.options = BUF_INIT};
    int status = read_words(count, words, &said);
    if (status == 0)
        status = command_mount_said(&said);
    buf_release(&said.options);
    return status;
}
