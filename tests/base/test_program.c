#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/program.h"

static char out[1000];

static int run(const char *const *words, int64_t timeout_ms, int *ret_status)
{
    size_t length;
    int64_t begun_ms = clock_ms();
    int rc = program_run(words, timeout_ms, out, sizeof out, &length, ret_status);
    cr_expect_lt(clock_ms() - begun_ms, timeout_ms + 10000);
    cr_expect(rc < 0 || length == strlen(out));
    return rc;
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

Test(program, what_it_prints_and_how_it_ends_is_told)
{
    int status;
    cr_expect_eq(run(WORDS("printf", "%s", "a;b $HOME"), 10000, &status), 0);
    cr_expect_str_eq(out, "a;b $HOME");
    cr_expect_eq(status, 0);
    cr_expect_eq(run(WORDS("sh", "-c", "exit 7"), 10000, &status), 0);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    cr_expect_eq(run(WORDS("sh", "-c", "kill -9 $$"), 10000, &status), 0);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == 9);
    cr_expect_eq(run(WORDS("/does/not/exist"), 10000, &status), -ENOENT);
}

Test(program, nothing_of_it_outlives_its_time)
{
    int status;
    cr_expect_eq(run(WORDS("sleep", "60"), 200, &status), -ETIMEDOUT);
    cr_expect_eq(run(WORDS("sh", "-c", "exec >&-; sleep 60"), 200, &status), -ETIMEDOUT,
                 "its output alone was closed");
    cr_expect_eq(run(WORDS("sh", "-c", "sleep 60 & exit 0"), 200, &status), -ETIMEDOUT,
                 "a child holds its output");
}

Test(program, more_than_is_wanted_ends_it)
{
    int status;
    cr_expect_eq(run(WORDS("yes"), 10000, &status), -EFBIG);
    cr_expect_eq(run(WORDS("sh", "-c", "printf %1000s x"), 10000, &status), -EFBIG);
    cr_expect_eq(run(WORDS("sh", "-c", "printf %999s x"), 10000, &status), 0);
}
