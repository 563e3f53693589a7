#include "cache/catalog.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/log.h"
#include "cache/catalog_head.h"
#include "cache/facts.h"

#define MIB ((uint64_t)1 << 20)

/* ---- A place of its own. ---- */

struct stage {
    char root[64], path[80];
    struct catalog_config config;
    struct catalog *catalog;
};

static struct stage stage;

static void begin(void)
{
    strcpy(stage.root, "/tmp/skyvol-catalog.XXXXXX");
    cr_assert_not_null(mkdtemp(stage.root));
    snprintf(stage.path, sizeof stage.path, "%s/catalog", stage.root);
    stage.config =
        (struct catalog_config){.path = stage.path, .source = "http://host/bucket/p", .boot = "boot"};
}

static void end(void)
{
    char *command;

    catalog_free(stage.catalog);
    command = xprintf("rm -rf %s", stage.root);
    cr_assert_eq(system(command), 0);
    free(command);
}

TestSuite(catalog, .init = begin, .fini = end);

static void open_it(void)
{
    BUF_SCOPED why = BUF_INIT;

    stage.catalog = catalog_new(&stage.config, &why);
    cr_assert_not_null(stage.catalog, "%s", why.bytes);
}

static void close_it(void)
{
    catalog_free(stage.catalog);
    stage.catalog = NULL;
}

static void open_again(void)
{
    close_it();
    open_it();
}

static void put(uint64_t directory, const char *name, const char *text)
{
    catalog_put(stage.catalog, directory, name, text, strlen(text));
}

/* "facts"; "ENOENT", "ENODATA". */
static void assert_find(uint64_t directory, const char *name, const char *expected)
{
    BUF_SCOPED facts = BUF_INIT;
    int rc = catalog_find(stage.catalog, directory, name, &facts);
    const char *found = rc == -ENOENT ? "ENOENT" : rc == -ENODATA ? "ENODATA" : facts.bytes;

    cr_assert_str_eq(found, expected, "%s", name);
}

static bool add_name(void *context, const char *name, const void *facts, size_t length)
{
    buf_printf(context, "%s=%.*s ", name, (int)length, (const char *)facts);
    return true;
}

static void assert_walk(uint64_t directory, const char *expected)
{
    BUF_SCOPED all = BUF_INIT;
    int rc = catalog_walk(stage.catalog, directory, add_name, &all);

    if (rc == -ENODATA) {
        buf_reset(&all);
        buf_add_string(&all, "ENODATA");
    }
    cr_assert_str_eq(all.bytes, expected);
}

/* ---- What was put is found. ---- */

Test(catalog, what_was_put_is_found_at_once_and_after_it_was_written_and_after_it_was_opened_again)
{
    open_it();
    put(1, "a", "A");
    put(2, "a", "B");
    for (int i = 0; i < 3; i++) {
        assert_find(1, "a", "A");
        assert_find(2, "a", "B");
        assert_find(1, "b", "ENODATA");
        if (i == 0)
            catalog_settle(stage.catalog);
        else
            open_again();
    }
}

Test(catalog, the_last_that_was_said_of_a_name_counts)
{
    open_it();
    for (int written = 0; written < 3; written++) {
        put(1, "a", "A");
        if (written > 0)
            catalog_settle(stage.catalog);
        put(1, "a", "longer facts");
        assert_find(1, "a", "longer facts");
        if (written > 1)
            catalog_settle(stage.catalog);
        assert_find(1, "a", "longer facts");
        catalog_remove(stage.catalog, 1, "a");
        assert_find(1, "a", "ENODATA");
        catalog_settle(stage.catalog);
        assert_find(1, "a", "ENODATA");
    }
}

Test(catalog, while_a_directory_was_listed_whole_a_name_that_is_not_there_does_not_exist)
{
    open_it();
    put(1, "a", "A");
    catalog_set_listed(stage.catalog, 1, 77);
    for (int i = 0; i < 3; i++) {
        assert_find(1, "b", "ENOENT");
        assert_find(1, "a", "A");
        assert_find(2, "b", "ENODATA");
        cr_assert_eq(catalog_listed(stage.catalog, 1), 77);
        assert_walk(1, "a=A ");
        assert_walk(2, "ENODATA");
        if (i == 0)
            catalog_settle(stage.catalog);
        else
            open_again();
    }
    catalog_remove(stage.catalog, 1, "a");
    assert_find(1, "a", "ENOENT");
    assert_walk(1, "");
    catalog_set_listed(stage.catalog, 1, 0);
    for (int i = 0; i < 3; i++) {
        assert_find(1, "a", "ENODATA");
        cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
        assert_walk(1, "ENODATA");
        if (i == 0)
            catalog_settle(stage.catalog);
        else
            open_again();
    }
}

Test(catalog, a_walk_gives_names_in_the_order_of_their_bytes_what_waits_over_what_is_written)
{
    open_it();
    put(1, "b", "old");
    put(1, "d", "D");
    put(1, "f", "F");
    put(1, "z", "Z");
    put(2, "a", "other");
    catalog_set_listed(stage.catalog, 1, 77);
    catalog_settle(stage.catalog);
    put(1, "a", "A");
    put(1, "b", "new");
    put(1, "\xff", "last");
    put(1, "e", "E");
    put(1, "dd", "DD");
    catalog_remove(stage.catalog, 1, "f");
    for (int i = 0; i < 2; i++) {
        assert_walk(1, "a=A b=new d=D dd=DD e=E z=Z \xff=last ");
        catalog_settle(stage.catalog);
    }
}

static bool end_at_once(void *context, const char *name, const void *facts, size_t length)
{
    (void)name, (void)facts, (void)length;
    ++*(int *)context;
    return false;
}

Test(catalog, a_walk_ends_when_it_is_told_to)
{
    int seen = 0;

    open_it();
    put(1, "a", "A");
    put(1, "b", "B");
    catalog_set_listed(stage.catalog, 1, 77);
    for (int i = 1; i <= 2; i++) {
        cr_assert_eq(catalog_walk(stage.catalog, 1, end_at_once, &seen), 0);
        cr_assert_eq(seen, i);
        catalog_settle(stage.catalog);
    }
}

/* ---- Below. ---- */

static void put_directory(uint64_t directory, const char *name, uint64_t id)
{
    struct facts facts = {.type = S_IFDIR, .directory = id};
    BUF_SCOPED bytes = BUF_INIT;

    cr_assert_eq(facts_write(&facts, directory, name, &bytes), 0);
    catalog_put(stage.catalog, directory, name, bytes.bytes, bytes.length);
}

Test(catalog, what_is_removed_below_goes_wherever_it_stood_and_what_is_put_after_stays)
{
    open_it();
    for (int written = 0; written < 4; written++) {
        uint64_t top = catalog_new_directory(stage.catalog), sub = catalog_new_directory(stage.catalog),
                 deep = catalog_new_directory(stage.catalog), moved = catalog_new_directory(stage.catalog);
        put(top, "a", "A");
        put_directory(top, "sub", sub);
        put_directory(top, "moved", moved);
        put(moved, "x", "X");
        if (written & 1)
            catalog_settle(stage.catalog);
        put_directory(sub, "deep", deep);
        put(deep, "b", "B");
        catalog_set_listed(stage.catalog, top, 5);
        catalog_set_listed(stage.catalog, deep, 5);
        if (written & 2)
            catalog_settle(stage.catalog);
        put_directory(1, "elsewhere", moved);
        catalog_remove(stage.catalog, top, "moved");
        catalog_remove_below(stage.catalog, top);
        put(top, "c", "C");
        for (int i = 0; i < 2; i++) {
            assert_find(top, "a", "ENODATA");
            assert_find(top, "c", "C");
            cr_assert_eq(catalog_listed(stage.catalog, top), 0);
            catalog_settle(stage.catalog);
        }
        assert_find(deep, "b", "ENODATA");
        cr_assert_eq(catalog_listed(stage.catalog, deep), 0);
        assert_find(moved, "x", "X");
    }
}

Test(catalog, numbers_of_directories_are_never_given_twice)
{
    uint64_t last = CATALOG_ROOT;

    open_it();
    for (int i = 0; i < 3; i++) {
        uint64_t id = catalog_new_directory(stage.catalog);
        cr_assert_gt(id, last);
        last = id;
        if (i)
            open_again();
    }
    cr_assert_neq(catalog_new_directory(NULL), catalog_new_directory(NULL));
}

/* ---- After another process. ---- */

static void die_noted(int signal)
{
    (void)signal;
    catalog_dying();
    _exit(99);
}

/* In a child, which ends as a kill would: nothing is closed. 0, or 99: it died, and said so. */
static int run_child(void (*what)(void))
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    int status;

    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
            signal(deadly[i], die_noted);
        alarm(60);
        freopen("/dev/null", "w", stderr);
        what();
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status), "signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void fill_and_vanish(void)
{
    open_it();
    put(1, "a", "A");
    catalog_set_listed(stage.catalog, 1, 77);
    catalog_settle(stage.catalog);
    put(1, "b", "B"); /* it may be lost */
}

Test(catalog, after_a_kill_names_are_known_and_no_directory_counts_as_listed)
{
    cr_assert_eq(run_child(fill_and_vanish), 0);
    open_it();
    assert_find(1, "a", "A");
    assert_find(1, "c", "ENODATA");
    cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
    assert_walk(1, "ENODATA");
    catalog_remove(stage.catalog, 1, "b");
    catalog_set_listed(stage.catalog, 1, 78);
    open_again();
    cr_assert_eq(catalog_listed(stage.catalog, 1), 78);
    assert_walk(1, "a=A ");
}

static uint64_t last_directory;

static void take_directories(void)
{
    open_it();
    for (int i = 0; i < 1000; i++)
        last_directory = catalog_new_directory(stage.catalog);
}

Test(catalog, after_a_kill_no_number_of_a_directory_is_given_again)
{
    open_it();
    for (int i = 0; i < 1000; i++)
        last_directory = catalog_new_directory(stage.catalog);
    close_it();
    cr_assert_eq(run_child(take_directories), 0);
    open_it();
    cr_assert_gt(catalog_new_directory(stage.catalog), last_directory + 1000);
}

Test(catalog, after_a_power_cut_nothing_is_known)
{
    const char *boots[][2] = {{"boot", "other"}, {"boot", NULL}, {NULL, "boot"}, {NULL, NULL}, {"", ""}};

    for (size_t i = 0; i < sizeof boots / sizeof *boots; i++) {
        stage.config.boot = boots[i][0];
        cr_assert_eq(run_child(fill_and_vanish), 0);
        stage.config.boot = boots[i][1];
        open_it();
        assert_find(1, "a", "ENODATA");
        close_it();
    }
}

Test(catalog, what_was_closed_is_known_in_any_boot)
{
    const char *boots[] = {"boot", "other", NULL, "third"};

    open_it();
    put(1, "a", "A");
    catalog_set_listed(stage.catalog, 1, 77);
    for (int i = 0; i < 4; i++) {
        stage.config.boot = boots[i];
        open_again();
        assert_walk(1, "a=A ");
    }
}

Test(catalog, of_another_source_nothing_is_known_and_none_of_it_is_left)
{
    open_it();
    put(1, "a", "A");
    close_it();
    stage.config.source = "http://host/bucket/q";
    open_it();
    assert_find(1, "a", "ENODATA");
    close_it();
    stage.config.source = "http://host/bucket/p";
    open_it();
    assert_find(1, "a", "ENODATA");
}

static void fill_and_close(void)
{
    char name[32], text[200];

    open_it();
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "name-%d", i);
        put(1 + (uint64_t)(i % 3), name, text);
    }
    for (uint64_t i = 1; i <= 3; i++)
        catalog_set_listed(stage.catalog, i, 77);
    close_it();
}

static char *make_path(const char *what)
{
    return xprintf("%s%s", stage.path, what);
}

static bool exists(const char *what)
{
    STRING_SCOPED *path = make_path(what);
    return access(path, F_OK) == 0;
}

static void overwrite(const char *what, off_t offset, const void *bytes, size_t length)
{
    STRING_SCOPED *path = make_path(what);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pwrite(fd, bytes, length, offset), (ssize_t)length);
    close(fd);
}

static off_t size_of(const char *what)
{
    STRING_SCOPED *path = make_path(what);
    struct stat st;
    return stat(path, &st) < 0 ? -1 : st.st_size;
}

static void cut(const char *what, off_t length)
{
    STRING_SCOPED *path = make_path(what);
    cr_assert_eq(truncate(path, length), 0);
}

/* A note of a format that is not known yet, whole and right. */
Test(catalog, of_another_format_nothing_is_known)
{
    struct {
        uint32_t crc, format;
    } * head;
    char bytes[4096];

    fill_and_close();
    STRING_SCOPED *path = make_path("/head");
    int fd = open(path, O_RDONLY);
    size_t length = (size_t)read(fd, bytes, sizeof bytes);
    close(fd);
    head = (void *)(bytes + 8);
    head->format = htole32(CATALOG_FORMAT + 1);
    head->crc = htole32(crc32c(0, bytes + 12, length - 12));
    overwrite("/head", 0, bytes, length);
    open_it();
    assert_find(1, "name-0", "ENODATA");
    cr_assert_not(exists(".damaged"));
}

Test(catalog, a_damaged_one_is_moved_aside_and_a_new_one_is_made)
{
    static const char garbage[100] = "garbage";

    for (int i = 0; i < 6; i++) {
        fill_and_close();
        if (i == 0)
            overwrite("/head", 0, garbage, sizeof garbage);
        else if (i == 1)
            cut("/head", 20);
        else if (i == 2)
            cut("/data.mdb", size_of("/data.mdb") / 2);
        else if (i == 3)
            cut("/data.mdb", 0);
        else if (i == 4)
            overwrite("/data.mdb", 16, garbage, sizeof garbage);
        else
            overwrite("/head", 40, garbage, 1);
        open_it();
        assert_find(1, "name-0", "ENODATA");
        put(1, "a", "A");
        open_again();
        assert_find(1, "a", "A");
        cr_assert(exists(".damaged/lock.mdb"), "%d", i);
        close_it();
        STRING_SCOPED *command = xprintf("rm -r %s", stage.path);
        cr_assert_eq(system(command), 0);
    }
}

/* ---- Death inside. ---- */

static bool die_here(void *context, const char *name, const void *facts, size_t length)
{
    (void)context, (void)name, (void)facts, (void)length;
    raise(SIGBUS);
    return true;
}

static void die_inside(void)
{
    open_it();
    catalog_walk(stage.catalog, 1, die_here, NULL);
}

static void die_outside(void)
{
    open_it();
    catalog_listed(stage.catalog, 1);
    catalog_settle(stage.catalog);
    raise(SIGBUS);
}

Test(catalog, who_dies_inside_leaves_a_mark_and_the_next_one_begins_afresh)
{
    fill_and_close();
    cr_assert_eq(run_child(die_outside), 99);
    cr_assert_not(exists(".mark"));
    open_it();
    catalog_set_listed(stage.catalog, 1, 5);
    close_it();
    cr_assert_eq(run_child(die_inside), 99);
    cr_assert(exists(".mark"));
    open_it();
    cr_assert_not(exists(".mark"));
    assert_find(1, "name-0", "ENODATA");
    put(1, "a", "A");
    open_again();
    assert_find(1, "a", "A");
}

static bool touch_all(void *context, const char *name, const void *facts, size_t length)
{
    *(uint32_t *)context += crc32c(0, facts, length) + (uint32_t)*name;
    return true;
}

static void use_all(void)
{
    BUF_SCOPED why = BUF_INIT;
    uint32_t sum = 0;
    char name[32];

    stage.catalog = catalog_new(&stage.config, &why);
    if (!stage.catalog)
        _exit(1);
    for (uint64_t i = 1; i <= 3; i++)
        catalog_walk(stage.catalog, i, touch_all, &sum);
    for (int i = 0; i < 5000; i += 7) {
        BUF_SCOPED facts = BUF_INIT;
        snprintf(name, sizeof name, "name-%d", i);
        catalog_find(stage.catalog, 1 + (uint64_t)(i % 3), name, &facts);
        catalog_put(stage.catalog, 1 + (uint64_t)(i % 3), name, "new", 3);
    }
    catalog_settle(stage.catalog);
    catalog_remove_below(stage.catalog, 2);
    catalog_settle(stage.catalog);
    catalog_free(stage.catalog);
}

/* Whatever stands in the file: it is used, bypassed, moved aside, or the process dies and the next one begins afresh. */
static void assert_survived(unsigned seed)
{
    int rc = run_child(use_all);

    cr_assert(rc == 0 || rc == 99, "seed %u", seed);
    if (rc == 99) {
        cr_assert(exists(".mark"), "seed %u", seed);
        open_it();
        assert_find(1, "name-0", "ENODATA");
        close_it();
    }
    cr_assert_eq(run_child(use_all), 0, "seed %u", seed);
}

Test(catalog, garbage_in_its_pages_ends_in_a_fresh_one_at_worst, .timeout = 200)
{
    unsigned seed = (unsigned)clock_wall_ns();
    char garbage[4096];

    printf("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 30; round++) {
        STRING_SCOPED *command = xprintf("rm -rf %s", stage.path);
        cr_assert_eq(system(command), 0);
        cr_assert_eq(run_child(fill_and_close), 0);
        off_t pages = size_of("/data.mdb") / 4096;
        for (int i = 0; i <= rand() % 8; i++) {
            off_t page = rand() % 4 ? rand() % pages : rand() % 2;
            size_t length = rand() % 2 ? 1 + (size_t)rand() % 8 : sizeof garbage;
            for (size_t j = 0; j < length; j++)
                garbage[j] = (char)(rand() % 3 ? rand() : 0);
            off_t at = page * 4096 + rand() % (off_t)(sizeof garbage - length + 1);
            overwrite("/data.mdb", at, garbage, length);
        }
        assert_survived(seed);
    }
}

static void cut_and_walk(void)
{
    uint32_t sum = 0;

    open_it();
    cut("/data.mdb", 8192);
    catalog_walk(stage.catalog, 1, touch_all, &sum);
}

Test(catalog, pages_that_the_disk_cannot_give_leave_a_mark)
{
    fill_and_close();
    cr_assert_eq(run_child(cut_and_walk), 99);
    cr_assert(exists(".mark"));
    open_it();
    assert_find(1, "name-0", "ENODATA");
}

/* ---- Bypassed. ---- */

static char heard[4096];
static int lines;

static void hear_line(void *context, enum log_level level, const char *line)
{
    (void)context;
    if (level > LOG_LEVEL_WARN)
        return;
    lines++;
    snprintf(heard, sizeof heard, "%s", line);
}

static bool is_reported_bypassed(void)
{
    struct json *json = json_object_new();
    bool bypassed = false;

    catalog_report(stage.catalog, json);
    cr_assert(json_get_bool(json, "bypassed", &bypassed));
    json_free(json);
    return bypassed;
}

static int64_t report(const char *name)
{
    struct json *json = json_object_new();
    int64_t value = -1;

    catalog_report(stage.catalog, json);
    cr_assert(json_get_integer(json, name, &value));
    json_free(json);
    return value;
}

static void assert_bypassed(void)
{
    put(1, "later", "L");
    catalog_settle(stage.catalog);
    assert_find(1, "later", "ENODATA");
    assert_find(1, "name-0", "ENODATA");
    assert_walk(1, "ENODATA");
    cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
    cr_assert(is_reported_bypassed());
    cr_assert_eq(report("waiting"), 0);
    cr_assert_eq(lines, 1, "%s", heard);
}

Test(catalog, where_a_page_is_found_damaged_it_is_bypassed_and_the_next_one_moves_it_aside)
{
    static const char zeros[4096];

    fill_and_close();
    open_it();
    for (off_t at = 8192; at < size_of("/data.mdb"); at += 4096)
        overwrite("/data.mdb", at, zeros, sizeof zeros);
    log_tap(hear_line, NULL);
    assert_find(1, "name-0", "ENODATA");
    assert_bypassed();
    log_tap(NULL, NULL);
    open_again();
    cr_assert(exists(".damaged/data.mdb"));
    put(1, "a", "A");
    assert_find(1, "a", "A");
}

Test(catalog, where_the_disk_takes_no_more_it_is_bypassed_and_the_next_one_uses_what_stands)
{
    struct rlimit before, limit;
    char name[32];

    fill_and_close();
    open_it();
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = (rlim_t)size_of("/data.mdb");
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    log_tap(hear_line, NULL);
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "more-%d", i);
        put(4, name, "facts that take some room, since all names are new");
    }
    catalog_settle(stage.catalog);
    assert_bypassed();
    log_tap(NULL, NULL);
    setrlimit(RLIMIT_FSIZE, &before);
    open_again();
    cr_assert_not(is_reported_bypassed());
    cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
    BUF_SCOPED facts = BUF_INIT;
    cr_assert_eq(catalog_find(stage.catalog, 1, "name-0", &facts), 0);
}

Test(catalog, where_none_can_be_made_it_is_said_why)
{
    BUF_SCOPED why = BUF_INIT;

    overwrite("", 0, "a file", 6);
    cr_assert_null(catalog_new(&stage.config, &why));
    cr_assert_not_null(strstr(why.bytes, stage.path));
    cr_assert_not_null(strstr(why.bytes, "Not a directory"), "%s", why.bytes);
    unlink(stage.path);
    cr_assert_eq(symlink(stage.root, stage.path), 0);
    buf_reset(&why);
    cr_assert_null(catalog_new(&stage.config, &why));
    cr_assert_gt(why.length, 0);
    unlink(stage.path);
    cr_assert_eq(mkdir(stage.path, 0777), 0);
    chmod(stage.path, 0777);
    buf_reset(&why);
    cr_assert_null(catalog_new(&stage.config, &why));
    cr_assert_gt(why.length, 0);
}

Test(catalog, nobody_else_can_read_it)
{
    struct stat st;

    open_it();
    const char *all[] = {"", "/data.mdb", "/lock.mdb", "/head"};
    for (int i = 0; i < 4; i++) {
        STRING_SCOPED *path = make_path(all[i]);
        cr_assert_eq(stat(path, &st), 0);
        cr_assert_eq(st.st_mode & 0777, i ? 0600 : 0700, "%s", path);
    }
}

/* ---- Room. ---- */

#define FULL_NAMES 300

static void fill_directory(uint64_t directory, int64_t listed)
{
    WAITER_SCOPED(waiter);
    char name[32], text[100];

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    for (int i = 0; i < FULL_NAMES; i++) {
        snprintf(name, sizeof name, "%d", i);
        put(directory, name, text);
    }
    catalog_set_listed(stage.catalog, directory, listed);
    cr_assert_eq(catalog_wait_room(stage.catalog, &waiter), 0);
}

static bool count_name(void *context, const char *name, const void *facts, size_t length)
{
    (void)name, (void)facts, (void)length;
    ++*(int *)context;
    return true;
}

/* True: it is listed, and whole. */
static bool is_whole(uint64_t directory)
{
    int count = 0;

    if (!catalog_listed(stage.catalog, directory)) {
        cr_assert_eq(catalog_walk(stage.catalog, directory, count_name, &count), -ENODATA);
        return false;
    }
    cr_assert_eq(catalog_walk(stage.catalog, directory, count_name, &count), 0);
    cr_assert_eq(count, FULL_NAMES);
    return true;
}

Test(catalog, when_it_is_nearly_full_whole_directories_go_those_first_that_were_listed_longest_ago)
{
    stage.config.bytes_max = 4 * MIB;
    open_it();
    fill_directory(CATALOG_ROOT, 1);
    for (uint64_t i = 2; i < 400; i++) {
        fill_directory(i, (int64_t)i);
        if (i % 10 == 0)
            catalog_settle(stage.catalog);
        cr_assert_leq(report("bytes"), (int64_t)(4 * MIB));
    }
    catalog_settle(stage.catalog);
    cr_assert_not(is_reported_bypassed());
    cr_assert_leq(size_of("/data.mdb"), (off_t)(4 * MIB));
    cr_assert_not(is_whole(CATALOG_ROOT));
    cr_assert(is_whole(399) && is_whole(390));
    bool whole = false;
    for (uint64_t i = 2; i < 400; i++) {
        cr_assert(!whole || is_whole(i), "%" PRIu64, i);
        whole = is_whole(i);
        assert_find(i, "0x", whole ? "ENOENT" : "ENODATA");
    }
    open_again();
    cr_assert(is_whole(399));
}

Test(catalog, directories_that_were_never_listed_go_last_and_go)
{
    stage.config.bytes_max = 4 * MIB;
    open_it();
    for (uint64_t i = 1; i < 20; i++)
        fill_directory(i, 0);
    for (uint64_t i = 100; i < 300; i++)
        fill_directory(i, (int64_t)i);
    catalog_settle(stage.catalog);
    BUF_SCOPED facts = BUF_INIT;
    cr_assert_eq(catalog_find(stage.catalog, 1, "0", &facts), 0);
    for (uint64_t i = 1000; i < 1300; i++)
        fill_directory(i, 0);
    catalog_settle(stage.catalog);
    cr_assert_not(is_reported_bypassed());
    cr_assert_not(is_whole(299));
}

Test(catalog, a_listing_that_began_before_its_names_were_evicted_is_not_whole)
{
    stage.config.bytes_max = 4 * MIB;
    open_it();
    for (int many = 0; many < 2; many++) {
        fill_directory(1, 1);
        catalog_settle(stage.catalog);
        int64_t began = clock_wall_ns();
        for (uint64_t i = 2; i < (many ? 1500 : 200); i++)
            fill_directory(i, (int64_t)i);
        catalog_settle(stage.catalog);
        cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
        catalog_set_listed(stage.catalog, 1, began);
        cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
        began = clock_wall_ns() + 1;
        fill_directory(1, began);
        cr_assert(is_whole(1));
    }
}

Test(catalog, a_walk_that_lasts_does_not_end_it_when_the_map_is_full)
{
    stage.config.bytes_max = 4 * MIB;
    open_it();
    fill_directory(1, INT64_MAX);
    catalog_settle(stage.catalog);
    for (uint64_t i = 2; i < 30; i++)
        fill_directory(i, (int64_t)i);
    cr_assert(is_whole(1));
}

Test(catalog, a_map_that_is_larger_than_allowed_begins_anew)
{
    open_it();
    for (uint64_t i = 1; i < 100; i++)
        fill_directory(i, 1);
    close_it();
    stage.config.bytes_max = MIB;
    open_it();
    assert_find(1, "0", "ENODATA");
    fill_directory(1, 1);
    catalog_settle(stage.catalog);
    cr_assert(is_whole(1));
}

Test(catalog, those_who_put_much_wait_and_can_be_interrupted)
{
    WAITER_SCOPED(waiter);
    char name[32], text[FACTS_BYTES_MAX];
    int rc = 0;

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    open_it();
    for (int i = 0; rc == 0 && i < 100000; i++) {
        snprintf(name, sizeof name, "%d", rand());
        put(1, name, text);
        rc = catalog_wait_room(stage.catalog, NULL);
    }
    cr_assert_eq(rc, -EAGAIN);
    waiter_interrupt(&waiter);
    rc = catalog_wait_room(stage.catalog, &waiter);
    cr_assert(rc == -EINTR || rc == 0); /* 0: it was written meanwhile */
    WAITER_SCOPED(patient);
    cr_assert_eq(catalog_wait_room(stage.catalog, &patient), 0);
    cr_assert_leq(report("waiting"), (int64_t)CATALOG_WAITING_MAX);
}

/* ---- The writer. ---- */

static struct timespec when_written(void)
{
    STRING_SCOPED *path = make_path("/data.mdb");
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    return st.st_mtim;
}

Test(catalog, what_has_not_changed_is_not_written_again)
{
    open_it();
    put(1, "a", "A");
    put(1, "b", "B");
    catalog_set_listed(stage.catalog, 1, 77);
    catalog_settle(stage.catalog);
    struct timespec before = when_written();
    usleep(20000); /* the kernel's clock of files ticks */
    put(1, "a", "A");
    put(1, "b", "B");
    catalog_remove(stage.catalog, 1, "c");
    catalog_set_listed(stage.catalog, 1, 77);
    catalog_settle(stage.catalog);
    struct timespec after = when_written();
    cr_assert(before.tv_sec == after.tv_sec && before.tv_nsec == after.tv_nsec);
    put(1, "b", "C");
    catalog_settle(stage.catalog);
    after = when_written();
    cr_assert(before.tv_sec != after.tv_sec || before.tv_nsec != after.tv_nsec);
}

Test(catalog, what_was_put_is_written_soon_without_being_asked_for)
{
    open_it();
    put(1, "a", "A");
    cr_assert_gt(report("waiting"), 0);
    int64_t until_ms = clock_ms() + 30000;
    while (report("waiting") > 0 && clock_ms() < until_ms)
        usleep(1000);
    cr_assert_eq(report("waiting"), 0);
    cr_assert_eq(report("entries"), 1);
    assert_find(1, "a", "A");
}

/* Of all threads but this one. */
static long count_switches(void)
{
    long all = 0;
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");

    while ((entry = readdir(tasks))) {
        char path[300], line[200];
        long switches;
        if (atoi(entry->d_name) == 0 || atoi(entry->d_name) == (int)gettid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file))
            if (sscanf(line, "voluntary_ctxt_switches: %ld", &switches) == 1)
                all += switches;
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return all;
}

Test(catalog, who_has_nothing_to_write_sleeps)
{
    open_it();
    put(1, "a", "A");
    catalog_settle(stage.catalog);
    usleep(100000);
    long before = count_switches();
    usleep(300000);
    cr_assert_eq(count_switches(), before);
}

/* ---- Many. ---- */

static uint64_t put_like_ours(uint64_t directory, int count)
{
    WAITER_SCOPED(waiter);
    struct facts facts = {.type = S_IFREG, .attributes_known = true, .exists = true};
    char name[64];

    facts.seen.meta_known = true;
    facts.seen.modified_ns = INT64_C(1790000000123000000);
    store_fields_add(&facts.seen.meta, "mode", "33188");
    store_fields_add(&facts.seen.meta, "uid", "1000");
    store_fields_add(&facts.seen.meta, "gid", "1000");
    store_fields_add(&facts.seen.meta, "mtime", "1790000000.123456789");
    store_fields_add(&facts.seen.meta, "ctime", "1790000000.987654321");
    store_fields_add(&facts.seen.meta, "skyvol-id", "0123456789abcdef0123456789abcdef");
    for (int i = 0; i < count; i++) {
        BUF_SCOPED bytes = BUF_INIT;
        snprintf(name, sizeof name, "model-%08d-of-%08d.safetensors", i, count);
        snprintf(facts.seen.etag, STORE_ETAG_MAX, "\"%032x\"", (unsigned)rand());
        facts.seen.size = (uint64_t)rand();
        cr_assert_eq(facts_write(&facts, directory, name, &bytes), 0);
        catalog_put(stage.catalog, directory, name, bytes.bytes, bytes.length);
        if (i % 100 == 0)
            cr_assert_eq(catalog_wait_room(stage.catalog, &waiter), 0);
    }
    facts_release(&facts);
    return (uint64_t)count;
}

/* A million: bench/catalog. */
Test(catalog, a_name_takes_less_than_350_bytes_of_the_file_however_the_names_came)
{
    uint64_t names = 0;
    int seen = 0;

    open_it();
    for (int round = 0; round < 2; round++) /* the second falls between the names of the first */
        for (uint64_t i = 0; i < 500; i++)
            names += put_like_ours(2 + (i * 7919 + (uint64_t)round * 500) % 1000, 100);
    names += put_like_ours(CATALOG_ROOT, 100000);
    catalog_set_listed(stage.catalog, CATALOG_ROOT, 77);
    catalog_settle(stage.catalog);
    cr_assert_lt((uint64_t)size_of("/data.mdb"), names * 350);
    cr_assert_eq(catalog_walk(stage.catalog, CATALOG_ROOT, count_name, &seen), 0);
    cr_assert_eq(seen, 100000);
}

Test(catalog, a_directory_of_many_names_is_removed_in_many_small_steps)
{
    open_it();
    uint64_t top = catalog_new_directory(stage.catalog), sub = catalog_new_directory(stage.catalog);
    put_like_ours(sub, 20000);
    put_directory(top, "sub", sub);
    put(1, "a", "A");
    catalog_settle(stage.catalog);
    catalog_remove_below(stage.catalog, top);
    catalog_settle(stage.catalog);
    cr_assert_eq(report("entries"), 1);
}

/* ---- None at all. ---- */

Test(catalog, without_one_nothing_is_known_and_what_is_put_is_dropped)
{
    put(1, "a", "A");
    catalog_remove(NULL, 1, "a");
    catalog_remove_below(NULL, 1);
    catalog_set_listed(NULL, 1, 77);
    catalog_settle(NULL);
    cr_assert_eq(catalog_wait_room(NULL, NULL), 0);
    assert_find(1, "a", "ENODATA");
    assert_walk(1, "ENODATA");
    cr_assert_eq(catalog_listed(NULL, 1), 0);
    catalog_dying();
}
