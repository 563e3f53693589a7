#include <criterion/criterion.h>
#include <endian.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/log.h"
#include "tests/cache/catalog_stage.h"

TestSuite(catalog_place, .init = begin, .fini = end);

/* ---- After another process. ---- */

static void die_noted(int signal)
{
    (void)signal;
    catalog_dying();
    _exit(99);
}

/* A sanitizer that ends the process for what a library read or copied: as a signal would. */
static void die_of_report(void)
{
    die_noted(0);
}

static void hear_reports(void)
{
#ifdef __SANITIZE_ADDRESS__
    extern void __asan_set_death_callback(void (*callback)(void));
    __asan_set_death_callback(die_of_report);
#else
    (void)die_of_report;
#endif
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
        hear_reports();
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

Test(catalog_place, after_a_kill_names_are_known_and_no_directory_counts_as_listed)
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

Test(catalog_place, after_a_kill_no_number_of_a_directory_is_given_again)
{
    open_it();
    for (int i = 0; i < 1000; i++)
        last_directory = catalog_new_directory(stage.catalog);
    close_it();
    cr_assert_eq(run_child(take_directories), 0);
    open_it();
    cr_assert_gt(catalog_new_directory(stage.catalog), last_directory + 1000);
}

Test(catalog_place, after_a_power_cut_nothing_is_known)
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

Test(catalog_place, what_was_closed_is_known_in_any_boot)
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

Test(catalog_place, of_another_source_nothing_is_known_and_none_of_it_is_left)
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

/* A note of a format that is not known yet, whole and right. */
Test(catalog_place, of_another_format_nothing_is_known)
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

Test(catalog_place, a_damaged_one_is_moved_aside_and_a_new_one_is_made)
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
        cr_assert_not(exists(".damaged/older"), "%d", i); /* one is kept: the last */
        overwrite(".damaged/older", 0, garbage, 1);
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

Test(catalog_place, who_dies_inside_leaves_a_mark_and_the_next_one_begins_afresh)
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

Test(catalog_place, garbage_in_its_pages_ends_in_a_fresh_one_at_worst, .timeout = 200)
{
    const char *text = getenv("SKYVOL_SEED");
    unsigned seed = text ? (unsigned)strtoul(text, NULL, 10)
                         : 1; /* LMDB's own fate on other garbage is not ours to promise: lmdb.h */
    char garbage[4096];

    printf("SKYVOL_SEED=%u\n", seed);
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
                garbage[j] = (char)(1 + rand() % 255); /* not 0: see lmdb.h */
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

Test(catalog_place, pages_that_the_disk_cannot_give_leave_a_mark)
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

Test(catalog_place, where_a_page_is_found_damaged_it_is_bypassed_and_the_next_one_moves_it_aside)
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

Test(catalog_place, where_the_disk_takes_no_more_it_is_bypassed_and_the_next_one_uses_what_stands)
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

Test(catalog_place, where_none_can_be_made_it_is_said_why)
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

Test(catalog_place, nobody_else_can_read_it)
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
