#include "mount/elsewhere.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

static char root[] = "/tmp/skyvol-elsewhere.XXXXXX";
static char *base, *entries;

static void begin(void)
{
    cr_assert_not_null(mkdtemp(root));
    base = xprintf("%s/state/skyvol", root);
    entries = xprintf("%s/.elsewhere", base);
}

static void end(void)
{
    STRING_SCOPED *command = xprintf("rm -rf %s", root);
    cr_assert_eq(system(command), 0);
    free(base);
    free(entries);
}

TestSuite(elsewhere, .init = begin, .fini = end);

static void add_path(void *context, const char *path)
{
    buf_printf(context, "%s\n", path);
}

static void expect(const char *wanted)
{
    BUF_SCOPED told = BUF_INIT;
    elsewhere_each(base, add_path, &told);
    cr_assert_str_eq(told.bytes, wanted);
}

Test(elsewhere, what_was_noted_is_told_until_it_is_forgotten)
{
    expect("");
    elsewhere_forget(base, "/a");
    cr_assert_eq(elsewhere_note(base, "/a"), 0);
    cr_assert_eq(elsewhere_note(base, "/a"), 0);
    expect("/a\n");
    elsewhere_forget(base, "/b");
    expect("/a\n");
    elsewhere_forget(base, "/a");
    expect("");
}

Test(elsewhere, only_its_owner_may_look_into_it)
{
    struct stat facts;
    cr_assert_eq(elsewhere_note(base, "/a"), 0);
    cr_assert_eq(stat(entries, &facts), 0);
    cr_assert_eq(facts.st_mode & 07777, 0700);
    cr_assert_eq(chmod(entries, 0770), 0);
    expect("");
    cr_assert_lt(elsewhere_note(base, "/b"), 0);
    cr_assert_eq(chmod(entries, 0700), 0);
    expect("/a\n");
}

Test(elsewhere, a_link_in_its_place_is_not_followed)
{
    STRING_SCOPED *other = xprintf("%s/other", root);
    STRING_SCOPED *elsewhere = xprintf("%s/.elsewhere", other);
    cr_assert_eq(elsewhere_note(other, "/a"), 0);
    cr_assert_eq(elsewhere_note(base, "/b"), 0);
    elsewhere_forget(base, "/b");
    cr_assert_eq(rmdir(entries), 0);
    cr_assert_eq(symlink(elsewhere, entries), 0);
    expect("");
    cr_assert_lt(elsewhere_note(base, "/b"), 0);
}

Test(elsewhere, what_is_none_of_its_entries_is_passed_over)
{
    cr_assert_eq(elsewhere_note(base, "/a"), 0);
    int directory = open(entries, O_RDONLY | O_DIRECTORY);
    cr_assert_eq(symlinkat("/etc", directory, "0123456789abcdef01234567"), 0);
    cr_assert_eq(symlinkat("relative", directory, "1"), 0);
    cr_assert_eq(mkdirat(directory, "2", 0700), 0);
    close(openat(directory, "3", O_CREAT | O_WRONLY, 0600));
    close(directory);
    expect("/a\n");
}

Test(elsewhere, an_entry_that_was_spoiled_is_made_anew)
{
    cr_assert_eq(elsewhere_note(base, "/a"), 0);
    DIR *all = opendir(entries);
    struct dirent *entry;
    while ((entry = readdir(all)) && entry->d_name[0] == '.') {
    }
    STRING_SCOPED *name = xprintf("%s/%s", entries, entry->d_name);
    closedir(all);
    cr_assert_eq(unlink(name), 0);
    close(open(name, O_CREAT | O_WRONLY, 0600));
    expect("");
    cr_assert_eq(elsewhere_note(base, "/a"), 0);
    expect("/a\n");
}
