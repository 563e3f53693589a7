#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mount/deferred.h"

static char home[64];
static char where[] = "skyward.toml:7", variable[] = "SKYVOL_TEST_KEY";

static void begin(void)
{
    strcpy(home, "/tmp/skyvol-deferred-XXXXXX");
    cr_assert(mkdtemp(home));
}

static void end(void)
{
    STRING_SCOPED *command = xprintf("rm -rf %s", home);
    cr_assert_eq(system(command), 0);
}

TestSuite(deferred, .init = begin, .fini = end);

static char *write_file(mode_t mode, const char *text)
{
    char *path = xprintf("%s/file", home);
    unlink(path);
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    cr_assert_eq(chmod(path, mode), 0);
    return path;
}

static int resolve(struct deferred deferred, const char *field, struct buf *out)
{
    struct secret *secret = NULL;
    deferred.where = where;
    int rc = deferred_resolve(&deferred, field, &secret, out);
    if (rc == 0)
        buf_add_string(out, secret_reveal(secret));
    secret_unref(secret);
    return rc;
}

static void expect(struct deferred deferred, const char *field, int rc, const char *words)
{
    BUF_SCOPED out = BUF_INIT;
    cr_expect_eq(resolve(deferred, field, &out), rc, "%s", out.bytes);
    if (rc == 0)
        cr_expect_str_eq(out.bytes, words);
    else
        cr_expect_not_null(strstr(out.bytes, words), "%s", out.bytes);
    cr_expect(rc == 0 || strncmp(out.bytes, "skyward.toml:7: ", 16) == 0, "%s", out.bytes);
    cr_expect(rc == 0 || !strstr(out.bytes, "SECRET"), "%s", out.bytes);
}

Test(deferred, a_variable)
{
    struct deferred deferred = {.kind = DEFERRED_ENV, .name = variable};
    expect(deferred, "access_key", -ENOKEY, "SKYVOL_TEST_KEY is not set");
    setenv("SKYVOL_TEST_KEY", "", 1);
    expect(deferred, "access_key", -ENOKEY, "is empty");
    setenv("SKYVOL_TEST_KEY", "key", 1);
    expect(deferred, "access_key", 0, "key");
}

Test(deferred, a_file_that_is_nobody_elses)
{
    STRING_SCOPED *path = write_file(0600, "  key \n");
    struct deferred deferred = {.kind = DEFERRED_FILE, .name = path};
    expect(deferred, "secret_key", 0, "key");
    free(write_file(0644, "SECRET"));
    expect(deferred, "secret_key", -EPERM, "chmod 600");
    free(write_file(0600, "\n"));
    expect(deferred, "secret_key", -ENOKEY, "is empty");
    free(write_file(0600, "SECRET\nSECRET\n"));
    expect(deferred, "secret_key", -EBADMSG, "more than one line");
    unlink(path);
    expect(deferred, "secret_key", -ENOENT, "cannot be read");
    cr_assert_eq(symlink("/etc/passwd", path), 0);
    expect(deferred, "secret_key", -ELOOP, "symlink");
}

#define COMMAND(...)                                                                                         \
    ((struct deferred){.kind = DEFERRED_COMMAND, .words = (char **)(const char *[]){__VA_ARGS__, NULL}})

Test(deferred, a_command_without_a_shell)
{
    expect(COMMAND("/bin/echo", "a;b $HOME"), "access_key", 0, "a;b $HOME");
    expect(COMMAND("echo", "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"B\"}"), "access_key", 0, "A");
    expect(COMMAND("echo", "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"B\"}"), "secret_key", 0, "B");
    expect(COMMAND("echo", "{\"AccessKeyId\": \"SECRET\"}"), "session_token", -ENOKEY,
           "printed no session_token");
    expect(COMMAND("false"), "access_key", -EIO, "ended with status 1");
    expect(COMMAND("true"), "access_key", -ENOKEY, "printed no access_key");
    expect(COMMAND("yes", "SECRET"), "access_key", -EFBIG, "printed more than 65536 bytes");
    expect(COMMAND("printf", "SECRET\\nSECRET"), "access_key", -EBADMSG, "neither one line nor");
    expect(COMMAND("/does/not/exist"), "access_key", -ENOENT, "was not found");
    expect(COMMAND("sh", "-c", "kill -9 $$"), "access_key", -EIO, "signal 9");
    expect(COMMAND("printf", "\\n {\"api_key\": \"K\"}\\n"), "api_key", 0, "K");
}

Test(deferred, what_would_become_two_lines_is_refused_wherever_it_comes_from)
{
    struct deferred named = {.kind = DEFERRED_ENV, .name = variable};
    setenv(variable, "SECRET\n[other]", 1);
    expect(named, "access_key", -EBADMSG, "control character");
    setenv(variable, "SECRET\033[2J", 1);
    expect(named, "access_key", -EBADMSG, "control character");
    expect((struct deferred){.kind = DEFERRED_FILE, .name = home}, "access_key", -EINVAL, "no regular file");
    STRING_SCOPED *path = write_file(0600, "SECRET\rSECRET\n");
    expect((struct deferred){.kind = DEFERRED_FILE, .name = path}, "access_key", -EBADMSG,
           "control character");
    expect(COMMAND("printf", "SECRET\\tSECRET"), "access_key", -EBADMSG, "control character");
    expect(COMMAND("printf", "{\"api_key\": \"SECRET\\\\nSECRET\"}"), "api_key", -EBADMSG,
           "control character");
}

Test(deferred, equal_means_the_same_place_to_look)
{
    struct deferred a = COMMAND("x", "y"), b = COMMAND("x", "y"), c = COMMAND("x"), copy;
    cr_expect(deferred_equal(&a, &b));
    cr_expect(!deferred_equal(&a, &c));
    deferred_copy(&copy, &a);
    cr_expect(deferred_equal(&a, &copy));
    deferred_release(&copy);
    struct deferred one = {.kind = DEFERRED_LITERAL, .literal = secret_new("k", 1)};
    struct deferred other = {.kind = DEFERRED_LITERAL, .literal = secret_new("l", 1)};
    cr_expect(!deferred_equal(&one, &other));
    cr_expect(!deferred_equal(&one, &a));
    deferred_release(&one);
    deferred_release(&other);
}
