#include "mount/deferred.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "base/program.h"
#include "mount/shell.h"
#include "mount/words.h"

#define PROCESS_WORDS_MAX 64 /* who reads such a line takes no more */

static void free_words(char **words)
{
    for (size_t i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
}

void deferred_release(struct deferred *deferred)
{
    secret_unref(deferred->literal);
    free(deferred->name);
    free_words(deferred->words);
    free(deferred->where);
    *deferred = (struct deferred){0};
}

static size_t count_words(char **words)
{
    size_t count = 0;
    while (words && words[count])
        count++;
    return count;
}

void deferred_copy(struct deferred *to, const struct deferred *from)
{
    size_t count = count_words(from->words);
    *to = (struct deferred){.kind = from->kind};
    to->literal = from->literal ? secret_ref(from->literal) : NULL;
    to->name = from->name ? xstrdup(from->name) : NULL;
    to->where = from->where ? xstrdup(from->where) : NULL;
    if (from->words)
        to->words = xcalloc(count + 1, sizeof *to->words);
    for (size_t i = 0; i < count; i++)
        to->words[i] = xstrdup(from->words[i]);
}

static bool equal_words(char **a, char **b)
{
    size_t count = count_words(a);
    if (count != count_words(b))
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(a[i], b[i]) != 0)
            return false;
    return true;
}

bool deferred_equal(const struct deferred *a, const struct deferred *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case DEFERRED_NONE:
        return true;
    case DEFERRED_LITERAL:
        return secret_length(a->literal) == secret_length(b->literal) &&
               strcmp(secret_reveal(a->literal), secret_reveal(b->literal)) == 0;
    case DEFERRED_COMMAND:
        return equal_words(a->words, b->words);
    default:
        return strcmp(a->name, b->name) == 0;
    }
}

/* ---- What stands there. ---- */

static void begin_words(const struct deferred *deferred, const char *field, struct buf *why)
{
    words_next(why);
    buf_printf(why, "%s%s%s: ", deferred->where ? deferred->where : "", deferred->where ? ": " : "", field);
}

static int resolve_env(const struct deferred *deferred, const char *field, struct secret **ret_secret,
                       struct buf *why)
{
    const char *value = getenv(deferred->name);
    if (value && *value) {
        *ret_secret = secret_new(value, strlen(value));
        return 0;
    }
    begin_words(deferred, field, why);
    buf_printf(why, "the environment variable %s is %s; set it, or name another source", deferred->name,
               value ? "empty" : "not set");
    return -ENOKEY;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One line, without the space around it. */
static int take_line(const char *text, size_t length, struct secret **ret_secret)
{
    while (length > 0 && is_space(text[length - 1]))
        length--;
    while (length > 0 && is_space(*text)) {
        text++;
        length--;
    }
    if (length == 0)
        return -ENOKEY;
    if (memchr(text, '\n', length) || memchr(text, 0, length))
        return -EBADMSG;
    *ret_secret = secret_new(text, length);
    return 0;
}

/* Ours, or root's, and open to nobody else. */
static int open_private(const char *path, int *ret_fd)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int rc = fstat(fd, &status) < 0 ? -errno : 0;
    if (rc == 0 && !S_ISREG(status.st_mode))
        rc = -EINVAL;
    else if (rc == 0 && ((status.st_mode & 077) || (status.st_uid != geteuid() && status.st_uid != 0)))
        rc = -EPERM;
    if (rc < 0)
        close(fd);
    else
        *ret_fd = fd;
    return rc;
}

/* The whole of a regular file; -EFBIG: it has more than DEFERRED_BYTES_MAX. */
static int read_all(int fd, char *room, size_t *ret_length)
{
    size_t length = 0;
    for (;;) {
        ssize_t some = read(fd, room + length, DEFERRED_BYTES_MAX + 1 - length);
        if (some < 0 && errno == EINTR)
            continue;
        if (some < 0)
            return -errno;
        length += (size_t)some;
        if (length > DEFERRED_BYTES_MAX)
            return -EFBIG;
        *ret_length = length;
        if (some == 0)
            return 0;
    }
}

static int read_file(const char *path, struct secret **ret_secret)
{
    char *room = xmalloc(DEFERRED_BYTES_MAX + 1);
    size_t length = 0;
    int fd = -1;
    int rc = open_private(path, &fd);
    if (rc == 0) {
        rc = read_all(fd, room, &length);
        close(fd);
    }
    if (rc == 0)
        rc = take_line(room, length, ret_secret);
    secret_wipe(room, DEFERRED_BYTES_MAX + 1);
    free(room);
    return rc;
}

static int resolve_file(const struct deferred *deferred, const char *field, struct secret **ret_secret,
                        struct buf *why)
{
    int rc = read_file(deferred->name, ret_secret);
    if (rc == 0)
        return 0;
    begin_words(deferred, field, why);
    if (rc == -EPERM)
        buf_printf(why, "%s is open to others, or another user's; chmod 600, and chown it to who runs this",
                   deferred->name);
    else if (rc == -ENOKEY)
        buf_printf(why, "%s is empty", deferred->name);
    else if (rc == -EBADMSG)
        buf_printf(why, "%s holds more than one line", deferred->name);
    else if (rc == -ELOOP)
        buf_printf(why, "%s is a symlink; name the file itself", deferred->name);
    else if (rc == -EINVAL)
        buf_printf(why, "%s is no regular file", deferred->name);
    else
        buf_printf(why, "%s cannot be read: %s", deferred->name, err_text(rc));
    return rc;
}

/* ---- A command. ---- */

/* AWS's credential_process has names of its own. */
static const char *name_in_json(const char *field)
{
    static const char *const names[][2] = {
        {"access_key", "AccessKeyId"}, {"secret_key", "SecretAccessKey"}, {"session_token", "SessionToken"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(field, names[i][0]) == 0)
            return names[i][1];
    return field;
}

static int take_json(const char *text, size_t length, const char *field, struct secret **ret_secret)
{
    struct json *json = NULL;
    int rc = json_parse(text, length, &json, NULL);
    const char *value = rc == 0 ? json_get_string(json, name_in_json(field)) : NULL;
    if (rc == 0 && (!value || !*value))
        rc = -ENOKEY;
    if (rc == 0)
        *ret_secret = secret_new(value, strlen(value));
    json_free(json);
    return rc;
}

static void say_of_command(const struct deferred *deferred, const char *field, int rc, int status,
                           struct buf *why)
{
    begin_words(deferred, field, why);
    buf_printf(why, "the command '%s' ", deferred->words[0]);
    if (rc == -ETIMEDOUT)
        buf_printf(why, "did not end within %d s", DEFERRED_COMMAND_MS / 1000);
    else if (rc == -EFBIG) /* and was ended for it */
        buf_printf(why, "printed more than %d bytes", DEFERRED_BYTES_MAX);
    else if (rc == -ENOENT)
        buf_add_string(why, "was not found; name it with its whole path");
    else if (status && WIFEXITED(status))
        buf_printf(why, "ended with status %d", WEXITSTATUS(status));
    else if (status && WIFSIGNALED(status))
        buf_printf(why, "was ended by signal %d", WTERMSIG(status));
    else if (rc == -ENOKEY)
        buf_printf(why, "printed no %s", field);
    else if (rc == -EBADMSG)
        buf_add_string(why, "printed neither one line nor the JSON of credential_process");
    else
        buf_printf(why, "cannot be used: %s", err_text(rc));
}

void deferred_answer_release(struct deferred_answer *answer)
{
    if (answer->text)
        secret_wipe(answer->text, DEFERRED_BYTES_MAX + 1);
    free(answer->text);
    *answer = (struct deferred_answer){0};
}

static bool answers(const struct deferred_answer *answer, const struct deferred *deferred)
{
    return answer->of && deferred->kind == DEFERRED_COMMAND && deferred_equal(answer->of, deferred);
}

/* It has ended well, or -EIO with its status. */
static int run_command(const struct deferred *deferred, struct deferred_answer *answer, int *ret_status)
{
    const char *const *words = (const char *const *)deferred->words;
    deferred_answer_release(answer);
    answer->text = xmalloc(DEFERRED_BYTES_MAX + 1);
    int rc = program_run(words, DEFERRED_COMMAND_MS, answer->text, DEFERRED_BYTES_MAX + 1, &answer->length,
                         ret_status);
    if (rc == 0 && *ret_status != 0)
        rc = -EIO;
    if (rc == 0)
        answer->of = deferred;
    return rc;
}

static bool is_json(const struct deferred_answer *answer)
{
    size_t at = 0;
    while (at < answer->length && is_space(answer->text[at]))
        at++;
    return at < answer->length && answer->text[at] == '{';
}

static int resolve_command(const struct deferred *deferred, const char *field, struct deferred_answer *answer,
                           struct secret **ret_secret, struct buf *why)
{
    int status = 0;
    int rc = answers(answer, deferred) ? 0 : run_command(deferred, answer, &status);
    if (rc == 0)
        rc = is_json(answer) ? take_json(answer->text, answer->length, field, ret_secret)
                             : take_line(answer->text, answer->length, ret_secret);
    if (rc < 0)
        say_of_command(deferred, field, rc, status, why);
    return rc;
}

struct secret *deferred_told(const struct deferred_answer *answer, const struct deferred *deferred,
                             const char *field)
{
    struct secret *secret = NULL;
    bool told = answers(answer, deferred) && is_json(answer) &&
                take_json(answer->text, answer->length, field, &secret) == 0;
    if (told && words_have_control(secret_reveal(secret))) {
        secret_unref(secret);
        told = false;
    }
    return told ? secret : NULL;
}

static bool is_process(const struct deferred_answer *answer)
{
    struct json *json = NULL;
    int64_t version = 0;
    if (json_parse(answer->text, answer->length, &json, NULL) == 0)
        json_get_integer(json, "Version", &version);
    json_free(json);
    return version == 1;
}

/* Of a line of a credentials file: no second line, no comment. */
static bool stands_in_line(const char *word)
{
    return !words_have_control(word) && !strpbrk(word, "#;");
}

bool deferred_process(const struct deferred_answer *answer, const struct deferred *deferred,
                      struct buf *ret_line)
{
    if (!answers(answer, deferred) || !is_process(answer) ||
        count_words(deferred->words) > PROCESS_WORDS_MAX ||
        (*deferred->words[0] != '/' && strchr(deferred->words[0], '/')))
        return false;
    for (size_t i = 0; deferred->words[i]; i++) {
        if (!stands_in_line(deferred->words[i]))
            return false;
        buf_add_string(ret_line, i ? " " : "");
        shell_quote(ret_line, deferred->words[i]);
    }
    return true;
}

static int resolve(const struct deferred *deferred, const char *field, struct deferred_answer *answer,
                   struct secret **ret_secret, struct buf *why)
{
    switch (deferred->kind) {
    case DEFERRED_LITERAL:
        *ret_secret = secret_ref(deferred->literal);
        return 0;
    case DEFERRED_ENV:
        return resolve_env(deferred, field, ret_secret, why);
    case DEFERRED_FILE:
        return resolve_file(deferred, field, ret_secret, why);
    case DEFERRED_COMMAND:
        return resolve_command(deferred, field, answer, ret_secret, why);
    default:
        begin_words(deferred, field, why);
        buf_add_string(why, "it is not given");
        return -ENOKEY;
    }
}

int deferred_resolve_with(const struct deferred *deferred, const char *field, struct deferred_answer *answer,
                          struct secret **ret_secret, struct buf *why)
{
    struct secret *secret = NULL;
    int rc = resolve(deferred, field, answer, &secret, why);
    if (rc == 0 && words_have_control(secret_reveal(secret))) {
        begin_words(deferred, field, why);
        buf_add_string(why, "what stands there has a control character; look at where it comes from");
        secret_unref(secret);
        rc = -EBADMSG;
    }
    if (rc == 0)
        *ret_secret = secret;
    return rc;
}

int deferred_resolve(const struct deferred *deferred, const char *field, struct secret **ret_secret,
                     struct buf *why)
{
    struct deferred_answer answer = {0};
    int rc = deferred_resolve_with(deferred, field, &answer, ret_secret, why);
    deferred_answer_release(&answer);
    return rc;
}
