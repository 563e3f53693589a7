#include "mount/logging.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/skyvol-logging.XXXXXX";
static char *path;

static void begin(void)
{
    cr_assert_not_null(mkdtemp(root));
    path = xprintf("%s/log", root);
}

static void end(void)
{
    STRING_SCOPED *command = xprintf("rm -rf %s", root);
    cr_assert_eq(system(command), 0);
    free(path);
}

TestSuite(logging, .init = begin, .fini = end);

static void write_file(const char *bytes, size_t length)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, length, file), length);
    cr_assert_eq(fclose(file), 0);
}

static void expect_end(const char *target, int64_t from, const char *wanted)
{
    struct settings settings = {.log_target = (char *)target};
    BUF_SCOPED told = BUF_INIT;
    logging_end(&settings, from, &told);
    cr_expect_str_eq(told.bytes, wanted);
}

Test(logging, the_end_is_the_last_lines_of_what_came_since)
{
    static const struct {
        char bytes[64];
        int64_t from;
        char wanted[64];
    } rows[] = {
        {"", 0, ""},
        {"a\n", 0, "\na"},
        {"a\nb\nc\n", 0, "\na\nb\nc"},
        {"a\nb\nc", 0, "\na\nb\nc"}, /* it died while it wrote */
        {"1\n2\n3\n4\n5\n", 0, "\n1\n2\n3\n4\n5"},
        {"1\n2\n3\n4\n5\n6\n7\n", 0, "\n3\n4\n5\n6\n7"},
        {"1\n2\n3\n4\n5\n6\n7", 0, "\n3\n4\n5\n6\n7"},
        {"old\nnew\n", 4, "\nnew"},
        {"old\n", 4, ""},
        {"new\n", 400, ""}, /* the file was replaced */
        {"\n\n", 0, "\n\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_file(rows[i].bytes, strlen(rows[i].bytes));
        expect_end(path, rows[i].from, rows[i].wanted);
    }
}

Test(logging, nothing_in_it_commands_a_terminal)
{
    static const char bytes[] = "a\x1b[2Jb\0c\r\xc2\x9b\xff\nd\n";
    write_file(bytes, sizeof bytes - 1);
    expect_end(path, 0, "\na\\x1b[2Jb\\x00c\\x0d\\xc2\\x9b\\xff\nd");
}

Test(logging, the_end_is_bounded_and_begins_with_a_whole_line)
{
    BUF_SCOPED all = BUF_INIT;
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 3000; j++)
            buf_add_char(&all, (char)('a' + i));
        buf_add_char(&all, '\n');
    }
    write_file(all.bytes, all.length);
    STRING_SCOPED *wanted = xprintf("\n%.3000s\n%.3000s", all.bytes + 6002, all.bytes + 9003);
    expect_end(path, 0, wanted);
    struct settings settings = {.log_target = path};
    cr_expect_eq(logging_length(&settings), 12004);
}

Test(logging, what_is_no_file_has_no_end)
{
    static const char *const targets[] = {"stderr", "journal", "syslog", "/nowhere/log", "/dev/zero", "/tmp"};
    expect_end(NULL, 0, "");
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct settings settings = {.log_target = (char *)targets[i]};
        expect_end(targets[i], 0, "");
        cr_expect_eq(logging_length(&settings), 0);
    }
    STRING_SCOPED *real = xprintf("%s/real", root);
    STRING_SCOPED *pipe = xprintf("%s/pipe", root);
    write_file("a\n", 2);
    cr_assert_eq(rename(path, real), 0);
    cr_assert_eq(symlink(real, path), 0);
    expect_end(path, 0, "");
    cr_assert_eq(mkfifo(pipe, 0600), 0);
    expect_end(pipe, 0, ""); /* and nobody waits */
}
