/* credential_process: a program that prints keys as JSON. No shell reads its line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/err.h"
#include "base/json.h"
#include "base/program.h"
#include "base/secret.h"
#include "s3/source.h"

#define PROCESS_MS    60000 /* some open a browser */
#define OUTPUT_MAX    ((size_t)64 << 10)
#define ARGUMENTS_MAX 64

/* Words as a shell would cut them, quotes and backslashes understood, nothing else. False: a quote is open, or there are too many. */
static bool split(const char *line, char **words)
{
    size_t count = 0;
    for (;;) {
        BUF_SCOPED word = BUF_INIT;
        char quote = 0;
        while (*line == ' ' || *line == '\t')
            line++;
        if (!*line || count == ARGUMENTS_MAX)
            break;
        for (; *line && (quote || (*line != ' ' && *line != '\t')); line++) {
            if (quote ? *line == quote : *line == '\'' || *line == '"')
                quote = quote ? 0 : *line;
            else if (*line == '\\' && quote != '\'' && line[1])
                buf_add_char(&word, *++line);
            else
                buf_add_char(&word, *line);
        }
        words[count++] = buf_take(&word);
        if (quote)
            return false;
    }
    return count > 0 && !*line;
}

static int read_keys(const char *text, size_t length, struct found *ret_found, struct buf *why)
{
    struct json *json = NULL;
    int64_t version = 0;
    if (json_parse(text, length, &json, NULL) == 0)
        json_get_integer(json, "Version", &version);
    json_free(json);
    if (version != 1) {
        buf_printf(why, "%s: it printed no JSON of Version 1", ret_found->source);
        return -EBADMSG;
    }
    return source_json(text, length, "SessionToken", ret_found, why);
}

static int run(char **words, struct found *ret_found, struct buf *why)
{
    char *room = xmalloc(OUTPUT_MAX);
    size_t length;
    int status;
    int rc = program_run((const char *const *)words, PROCESS_MS, room, OUTPUT_MAX, &length, &status);
    if (rc < 0) {
        buf_printf(why, "%s: %s: %s", ret_found->source, words[0],
                   rc == -ETIMEDOUT ? "it did not end within a minute" : err_text(rc));
    } else if (status != 0) {
        buf_printf(why, "%s: %s failed with status %d; run it by hand to see why", ret_found->source,
                   words[0], WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        rc = -ENOKEY;
    } else {
        rc = read_keys(room, length, ret_found, why);
    }
    secret_wipe(room, OUTPUT_MAX);
    free(room);
    return rc;
}

int source_process(const struct source_view *view, struct found *ret_found, struct buf *why)
{
    const char *line = source_setting(view, view->profile, "credential_process");
    char *words[ARGUMENTS_MAX + 1] = {0};
    int rc = -EINVAL;
    if (!line) {
        buf_printf(why, "process: profile %s has no credential_process", view->profile);
        return 0;
    }
    free(ret_found->source);
    ret_found->source = xprintf("credential_process of profile %s", view->profile);
    ret_found->slow = true;
    if (split(line, words))
        rc = run(words, ret_found, why);
    else
        buf_printf(why, "%s: its line cannot be cut into words", ret_found->source);
    for (size_t i = 0; words[i]; i++)
        free(words[i]);
    return rc;
}
