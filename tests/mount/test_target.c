#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mount/target.h"

static char root[] = "/tmp/skyvol-target.XXXXXX";

static void begin(void)
{
    cr_assert_not_null(mkdtemp(root));
    cr_assert_eq(chdir(root), 0);
    cr_assert_eq(mkdir("cache", 0700), 0);
    FILE *memo = fopen("cache/mount.json", "w");
    fputs("{\"bucket\": \"b\", \"source\": \"b\", \"mount_point\": \"/nowhere\", \"options\": {}}", memo);
    fclose(memo);
}

static void end(void)
{
    STRING_SCOPED *command = xprintf("rm -rf %s", root);
    cr_assert_eq(system(command), 0);
}

TestSuite(target, .init = begin, .fini = end);

static void expect(const char *text, const char *path, const char *below)
{
    struct target target = TARGET_NONE;
    BUF_SCOPED why = BUF_INIT;
    STRING_SCOPED *whole = xprintf("%s/%s", root, path);
    cr_assert_eq(target_find(text, &target, &why), 0, "%s: %s", text, why.bytes);
    cr_assert_eq(target.kind, TARGET_CACHE);
    cr_assert_str_eq(target.path, whole);
    cr_assert_str_eq(target.below, below);
    target_release(&target);
}

Test(target, a_cache_directory_is_found_by_any_way_to_it)
{
    STRING_SCOPED *absolute = xprintf("%s//cache/", root);
    cr_assert_eq(mkdir("other", 0700), 0);
    cr_assert_eq(symlink("../cache", "other/link"), 0);
    cr_assert_eq(symlink(absolute, "link"), 0);
    expect("cache", "cache", "");
    expect("./other/../cache/.", "cache", "");
    expect("other/link", "cache", "");
    expect("link", "cache", "");
    expect(absolute, "cache", "");
}

Test(target, what_is_nothing_is_refused_with_the_remedy)
{
    struct target target = TARGET_NONE;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(target_find(".", &target, &why), -ENOENT);
    cr_assert_not_null(strstr(why.bytes, "skyvol status --all"));
    buf_reset(&why);
    cr_assert_eq(target_find("none/below", &target, &why), -ENOENT);
    cr_assert_eq(symlink("circle", "circle"), 0);
    cr_assert_eq(target_find("circle", &target, &why), -ELOOP);
}

Test(target, below_it_dots_are_taken_by_their_names)
{
    static const struct {
        const char *path, *below;
    } rows[] = {{"a/b", "a/b"}, {"/a//./b/", "a/b"},   {"a/../b", "b"}, {"a/..", ""},
                {"", ""},       {"..a/...", "..a/..."}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct target target = {.path = xstrdup("/d")};
        BUF_SCOPED why = BUF_INIT;
        cr_assert_eq(target_enter(&target, rows[i].path, &why), 0);
        cr_assert_str_eq(target.below, rows[i].below, "row %zu: %s", i, target.below);
        cr_assert_eq(target_enter(&target, "x/../../../../y", &why), -EINVAL);
        target_release(&target);
    }
}
