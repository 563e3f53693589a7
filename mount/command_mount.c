#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mount/command.h"
#include "mount/daemon.h"
#include "mount/option.h"
#include "mount/place.h"
#include "mount/session.h"
#include "mount/source.h"
#include "mount/words.h"

struct words {
    const char *source, *directory;
    struct buf options; /* all -o, joined by commas */
    bool foreground;
};

static void join_option(struct words *said, const char *list)
{
    if (said->options.length)
        buf_add_char(&said->options, ',');
    buf_add_string(&said->options, list);
}

static int read_words(int count, char **words, struct words *ret_said)
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
            join_option(ret_said, words[i]);
        } else if (!plain && strncmp(word, "-o", 2) == 0)
            join_option(ret_said, word + 2);
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

/* Options by rising weight, so that a later one overwrites an earlier one. -o is read twice: its config= names the file,
 * else SKYVOL_CONFIG does. */
static int read_settings(struct settings *settings, const struct words *said, struct buf *why)
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
        return -1;
    rc = option_parse_list(settings, said->options.bytes, why);
    settings->foreground = said->foreground;
    return rc < 0 ? rc : option_check(settings, why);
}

static int prepare(struct settings *settings, const struct words *said, struct buf *why)
{
    int rc = read_settings(settings, said, why);
    if (rc < 0)
        return rc;
    settings->source = xstrdup(said->source);
    rc = source_parse(said->source, &settings->bucket, &settings->prefix, why);
    if (rc < 0)
        return rc;
    rc = place_resolve(said->directory, &settings->mount_point, why);
    return rc < 0 ? rc : place_prepare(settings->mount_point, settings->nonempty, why);
}

int command_mount(int count, char **words)
{
    struct words said = {.options = BUF_INIT};
    int status = read_words(count, words, &said);
    if (status == 0) {
        struct settings settings = {0};
        BUF_SCOPED why = BUF_INIT;
        struct daemon daemon;
        if (prepare(&settings, &said, &why) < 0) {
            words_complain(why.bytes);
            status = 1;
        } else if (daemon_start(&daemon, &settings) < 0) {
            words_complain("no process can be started: out of memory, or too many processes");
            status = 1;
        } else {
            status = session_run(&settings, &daemon);
        }
        settings_release(&settings);
    }
    buf_release(&said.options);
    return status;
}
