#include "base/log.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/lock.h"

static char last_line[8192];
static enum log_level last_level;
static int heard;

static void keep_line(void *context, enum log_level level, const char *line)
{
    (void)context;
    snprintf(last_line, sizeof(last_line), "%s", line);
    last_level = level;
    heard++;
}

static void begin(void)
{
    log_tap(keep_line, NULL);
    cr_assert_eq(log_open(LOG_TO_FILE, "/dev/null"), 0);
}

TestSuite(log, .init = begin);

Test(log, levels_hide_what_is_finer)
{
    cr_assert_eq(log_level(), LOG_LEVEL_INFO);
    log_debug("no");
    cr_assert_eq(heard, 0);
    log_info("yes");
    cr_assert_eq(heard, 1);
    log_set_level(LOG_LEVEL_ERROR);
    log_warn("no");
    cr_assert_eq(heard, 1);
    log_set_level(LOG_LEVEL_TRACE);
    log_trace("%d", 5);
    cr_assert_str_eq(last_line, "5");
    cr_assert_eq(last_level, LOG_LEVEL_TRACE);
}

Test(log, levels_are_read_by_name)
{
    enum log_level level = LOG_LEVEL_INFO;
    cr_assert_eq(log_parse_level("error", &level), 0);
    cr_assert_eq(level, LOG_LEVEL_ERROR);
    cr_assert_eq(log_parse_level("trace", &level), 0);
    cr_assert_eq(level, LOG_LEVEL_TRACE);
    cr_assert_eq(log_parse_level("loud", &level), -EINVAL);
    cr_assert_eq(level, LOG_LEVEL_TRACE);
}

Test(log, no_foreign_text_forges_a_line_or_moves_the_cursor)
{
    static const struct {
        const char *text, *wanted;
    } rows[] = {
        {"a\nskyvol: b", "a\\x0askyvol: b"},
        {"\r\t\x1b[2J\x7f", "\\x0d\\x09\\x1b[2J\\x7f"},
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b31m"},
        {"Gr\xc3\xbc\xc3\x9f"
         "e \xf0\x9f\x90\xa7",
         "Gr\xc3\xbc\xc3\x9f"
         "e \xf0\x9f\x90\xa7"},
        {"bad \xff\xc3", "bad \\xff\\xc3"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        log_info("%s", rows[i].text);
        cr_assert_str_eq(last_line, rows[i].wanted, "row %zu: %s", i, last_line);
    }
}

Test(log, a_line_is_cut_to_what_one_write_to_a_pipe_takes)
{
    char long_text[9000];
    memset(long_text, '\n', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    int pipe_ends[2];
    cr_assert_eq(pipe(pipe_ends), 0);
    char path[64];
    snprintf(path, sizeof(path), "/tmp/skyvol-test-log.%d", getpid());
    cr_assert_eq(log_open(LOG_TO_FILE, path), 0);
    log_info("%s", long_text);
    struct stat st;
    stat(path, &st);
    unlink(path);
    cr_assert_leq(st.st_size, 4096);
    cr_assert_gt(st.st_size, 4000);
    cr_assert_str_eq(last_line + strlen(last_line) - 3, "...");
    log_info("%.4040s", long_text);
    cr_assert_str_eq(last_line + strlen(last_line) - 3, "...");
}

Test(log, a_file_gets_time_level_and_text_and_is_ours_alone)
{
    char path[64], text[200];
    snprintf(path, sizeof(path), "/tmp/skyvol-test-log.%d", getpid());
    unlink(path);
    cr_assert_eq(log_open(LOG_TO_FILE, path), 0);
    clock_fake_begin(1369353600 * INT64_C(1000000000) + 7000000);
    log_warn("key %s", "a/b");
    clock_fake_end();
    FILE *file = fopen(path, "re");
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    text[size] = '\0';
    fclose(file);
    struct stat st;
    stat(path, &st);
    unlink(path);
    cr_assert_str_eq(text, "2013-05-24T00:00:00.007Z warn  key a/b\n");
    cr_assert_eq(st.st_mode & 0777, 0600);
}

Test(log, a_target_that_cannot_be_opened_leaves_the_old_one)
{
    cr_assert_eq(log_open(LOG_TO_FILE, "/nonexistent/log"), -ENOENT);
    char path[64];
    snprintf(path, sizeof(path), "/tmp/skyvol-test-link.%d", getpid());
    cr_assert_eq(symlink("/tmp/elsewhere", path), 0);
    cr_assert_eq(log_open(LOG_TO_FILE, path), -ELOOP);
    unlink(path);
    log_info("still here");
    cr_assert_eq(heard, 1);
}

Test(log, errno_and_locks_are_as_before)
{
    struct lock leaf;
    lock_init(&leaf, LOCK_LEAF, "leaf");
    lock_take(&leaf);
    errno = EXDEV;
    log_info("under a leaf lock");
    cr_assert_eq(errno, EXDEV);
    lock_drop(&leaf);
    lock_release(&leaf);
}

static void *write_lines(void *argument)
{
    for (int i = 0; i < 500; i++)
        log_info("%s %d", (char *)argument, i);
    return NULL;
}

Test(log, lines_of_many_threads_never_mix)
{
    char path[64];
    snprintf(path, sizeof(path), "/tmp/skyvol-test-log.%d", getpid());
    cr_assert_eq(log_open(LOG_TO_FILE, path), 0);
    pthread_t threads[4];
    char names[4][17] = {"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc", "dddddddddddddddd"};
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, write_lines, names[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    FILE *file = fopen(path, "re");
    unlink(path);
    char line[256], name[20];
    int number, count = 0;
    while (fgets(line, sizeof(line), file)) {
        cr_assert_eq(sscanf(line, "%*s info %16[abcd] %d", name, &number), 2, "%s", line);
        cr_assert(name[0] == name[15]);
        count++;
    }
    fclose(file);
    cr_assert_eq(count, 2000);
}
