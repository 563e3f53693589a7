#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mount/place.h"

static char root[] = "/tmp/skyvol-place.XXXXXX";
static struct buf why = BUF_INIT;

static void begin(void)
{
    cr_assert_not_null(mkdtemp(root));
}

static void end(void)
{
    STRING_SCOPED *command = xprintf("rm -rf %s", root);
    cr_assert_eq(system(command), 0);
    buf_release(&why);
}

TestSuite(place, .init = begin, .fini = end);

Test(place, an_empty_directory_is_usable)
{
    cr_assert_eq(place_prepare(root, false, &why), 0, "%s", why.bytes);
}

Test(place, a_missing_one_is_refused_with_mkdir)
{
    STRING_SCOPED *path = xprintf("%s/none", root);
    cr_assert_eq(place_prepare(path, false, &why), -ENOENT);
    cr_assert_not_null(strstr(why.bytes, "mkdir -p"));
}

Test(place, a_file_is_refused)
{
    STRING_SCOPED *path = xprintf("%s/file", root);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    cr_assert_eq(place_prepare(path, false, &why), -ENOTDIR);
}

Test(place, a_full_one_is_refused_unless_told)
{
    STRING_SCOPED *path = xprintf("%s/file", root);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    cr_assert_eq(place_prepare(root, false, &why), -ENOTEMPTY);
    cr_assert_not_null(strstr(why.bytes, "nonempty"));
    cr_assert_eq(place_prepare(root, true, &why), 0);
}

Test(place, a_mount_point_is_busy_and_named)
{
    cr_assert_eq(place_prepare("/proc", false, &why), -EBUSY);
    cr_assert_not_null(strstr(why.bytes, "proc"));
}

Test(place, paths_are_made_absolute_and_links_followed)
{
    STRING_SCOPED *link = xprintf("%s/link", root);
    STRING_SCOPED *target = xprintf("%s/dir", root);
    cr_assert_eq(mkdir(target, 0700), 0);
    cr_assert_eq(symlink(target, link), 0);
    STRING_SCOPED *path = NULL;
    cr_assert_eq(place_resolve(link, &path, &why), 0);
    cr_assert_str_eq(path, target);
    cr_assert_eq(place_resolve("", &path, &why), -EINVAL);
}
