/* credential_process: a program that prints keys as JSON. No shell reads its line. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/secret.h"
#include "s3/source.h"

#define PROCESS_MS    60000 /* some open a browser */
#define OUTPUT_MAX    ((size_t)64 << 10)
#define ARGUMENTS_MAX 64

extern char **environ;

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

static int start(char **words, int output, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    int rc = -posix_spawnp(ret_pid, words[0], &actions, &attributes, words, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static int read_output(int fd, int64_t deadline_ms, struct buf *ret_text)
{
    char room[4096];
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_ms();
        int ready = left_ms > 0 ? poll(&poll_fd, 1, (int)left_ms) : 0;
        ssize_t some = ready > 0 ? read(fd, room, sizeof room) : -1;
        if (ready == 0)
            return -ETIMEDOUT;
        if (some < 0 && errno == EINTR)
            continue;
        if (some > 0)
            buf_add(ret_text, room, (size_t)some);
        secret_wipe(room, sizeof room);
        if (some <= 0 || ret_text->length > OUTPUT_MAX)
            return some < 0 ? -EIO : ret_text->length > OUTPUT_MAX ? -EFBIG : 0;
    }
}

static int run(char **words, struct buf *ret_text, int *ret_status)
{
    int ends[2];
    pid_t pid;
    int64_t deadline_ms = clock_ms() + PROCESS_MS;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int rc = start(words, ends[1], &pid);
    close(ends[1]);
    if (rc == 0) {
        rc = read_output(ends[0], deadline_ms, ret_text);
        if (rc < 0)
            kill(-pid, SIGKILL);
        while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
            ;
    }
    close(ends[0]);
    return rc;
}

static int read_keys(const struct buf *text, struct found *ret_found, struct buf *why)
{
    struct json *json = NULL;
    int64_t version = 0;
    if (json_parse(text->bytes, text->length, &json, NULL) == 0)
        json_get_integer(json, "Version", &version);
    json_free(json);
    if (version != 1) {
        buf_printf(why, "%s: it printed no JSON of Version 1", ret_found->source);
        return -EBADMSG;
    }
    return source_json(text->bytes, text->length, "SessionToken", ret_found, why);
}

int source_process(const struct source_view *view, struct found *ret_found, struct buf *why)
{
    const char *line = source_setting(view, view->profile, "credential_process");
    char *words[ARGUMENTS_MAX + 1] = {0};
    BUF_SCOPED text = BUF_INIT;
    int status = 0, rc = -EINVAL;
    if (!line) {
        buf_printf(why, "process: profile %s has no credential_process", view->profile);
        return 0;
    }
    free(ret_found->source);
    ret_found->source = xprintf("credential_process of profile %s", view->profile);
    ret_found->slow = true;
    if (!split(line, words))
        buf_printf(why, "%s: its line cannot be cut into words", ret_found->source);
    else if ((rc = run(words, &text, &status)) < 0)
        buf_printf(why, "%s: %s: %s", ret_found->source, words[0],
                   rc == -ETIMEDOUT ? "it did not end within a minute" : err_text(rc));
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        buf_printf(why, "%s: %s failed with status %d; run it by hand to see why", ret_found->source,
                   words[0], WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        rc = -ENOKEY;
    } else {
        rc = read_keys(&text, ret_found, why);
    }
    for (size_t i = 0; words[i]; i++)
        free(words[i]);
    secret_wipe(text.bytes, text.length);
    return rc;
}
