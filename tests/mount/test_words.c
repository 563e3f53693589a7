#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "mount/words.h"

static void expect(const char *text, size_t length, const char *wanted)
{
    BUF_SCOPED out = BUF_INIT;
    words_escape(&out, text, length);
    cr_assert_str_eq(out.bytes, wanted);
}

Test(words, what_commands_a_terminal_is_written_in_hexadecimal)
{
    expect("caf\xc3\xa9 \xe2\x82\xac", 9, "caf\xc3\xa9 \xe2\x82\xac");
    expect("a\x1b[2Jb", 6, "a\\x1b[2Jb");
    expect("a\nb\x7f", 4, "a\\x0ab\\x7f");
    expect("\xc2\x9b", 2, "\\xc2\\x9b"); /* CSI in C1 */
    expect("\xff\xc3", 2, "\\xff\\xc3");
}

/* What words_complain prints, from a file in the place of stderr. */
static void expect_complaint(const char *why, const char *wanted)
{
    char got[256] = "";
    FILE *file = tmpfile();
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    words_complain(why);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    got[fread(got, 1, sizeof(got) - 1, file)] = '\0';
    fclose(file);
    cr_assert_str_eq(got, wanted);
}

Test(words, each_line_has_one_newline_and_says_who_speaks)
{
    expect_complaint("one", "skyvol: one\n");
    expect_complaint("one\n", "skyvol: one\n");
    expect_complaint("one\ntwo", "skyvol: one\nskyvol: two\n");
    expect_complaint("", "");
}
