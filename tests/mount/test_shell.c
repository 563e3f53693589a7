/* What is quoted comes back as it was, through every shell that is here. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount/shell.h"

static const char *const hostile[] = {
    "",
    "plain",
    "it's",
    "'",
    "''",
    "'; touch /tmp/skyvol-was-here; '",
    "$(touch /tmp/skyvol-was-here)",
    "`touch /tmp/skyvol-was-here`",
    "$HOME ${HOME} $$ $1",
    "a\nb\n",
    "\n",
    " \t a  b \t ",
    "\\",
    "\\n \\' \\\" \\\\",
    "\"double\" 'single'",
    "* ? [a-z] ~ ~root {a,b}",
    "-n",
    "-e \\c",
    "# no comment",
    "a;b&c|d>e<f(g)h!i^j%k",
    "\x01\x1b[31m\x7f",
    "\xff\xfe bytes that are no text",
    "\xc3\xa9\xe2\x82\xac",
};

static void through(const char *const *shell, const char *text)
{
    int ends[2];
    BUF_SCOPED script = BUF_INIT;
    BUF_SCOPED out = BUF_INIT;
    buf_add_string(&script, "printf '%s.' ");
    shell_quote(&script, text);
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execlp(shell[0], shell[0], shell[1], shell[2] ? shell[2] : script.bytes,
               shell[2] ? script.bytes : NULL, NULL);
        _exit(127);
    }
    close(ends[1]);
    char room[512];
    ssize_t length;
    while ((length = read(ends[0], room, sizeof room)) > 0)
        buf_add(&out, room, (size_t)length);
    close(ends[0]);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0, "%s is missing, or failed: run ./test, which installs it", shell[0]);
    cr_expect_eq(out.length, strlen(text) + 1, "%s: %s", shell[0], script.bytes);
    cr_expect_eq(memcmp(out.bytes, text, strlen(text)), 0, "%s: %s", shell[0], script.bytes);
}

Test(shell, what_is_quoted_comes_back_as_it_was)
{
    static const char *const shells[][3] = {
        {"dash", "-c", NULL}, {"bash", "-c", NULL}, {"busybox", "sh", "-c"}};
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        for (size_t j = 0; j < sizeof hostile / sizeof *hostile; j++)
            through(shells[i], hostile[j]);
    cr_expect_neq(access("/tmp/skyvol-was-here", F_OK), 0);
}
