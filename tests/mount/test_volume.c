#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "mount/volume.h"

#define BASE "/mnt/skyvol"

static int check_one(const char *mount, const char *prefix, struct buf *out)
{
    struct volume volume;
    struct storage storage = {0};
    volume_init(&volume, "here");
    volume.storage = &storage;
    volume_set(&volume, "bucket", "bucket", out);
    volume_set(&volume, "mount", mount, out);
    volume_set(&volume, "prefix", prefix, out);
    int rc = volumes_check(&volume, 1, BASE, out);
    if (rc == 0)
        buf_printf(out, "%s %s", volume.mount, volume.prefix);
    volume_release(&volume);
    return rc;
}

Test(volume, mounts_and_prefixes_are_normalised)
{
    static const char *const rows[][3] = {
        {"/data", "", "/data "},
        {"//data///x/./y/", "a", "/data/x/y a/"},
        {"/tmp/x", "/a//b/", "/tmp/x a/b/"},
        {"/root/data", "imagenet/train/", "/root/data imagenet/train/"},
        {"/home/u", "", "/home/u "},
        {"/opt/data", "", "/opt/data "},
        {"/mnt/data", "", "/mnt/data "},
        {"/var/data", "", "/var/data "},
        {"/library", "", "/library "},
        {"/usr2", "", "/usr2 "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        BUF_SCOPED out = BUF_INIT;
        cr_expect_eq(check_one(rows[i][0], rows[i][1], &out), 0, "%s", out.bytes);
        cr_expect_str_eq(out.bytes, rows[i][2]);
    }
}

Test(volume, relative_paths_and_system_paths_are_refused_however_they_are_written)
{
    static const char *const rows[][2] = {
        {"data", "mount must be absolute path, got 'data'"},
        {"", "mount must be absolute path, got ''"},
        {"/", "mount cannot be a system path: '/'"},
        {"//", "system path"},
        {"/./", "system path"},
        {"/root", "system path"},
        {"/tmp/", "system path"},
        {"//tmp", "system path"},
        {"/opt", "system path"},
        {"/opt/skyward", "system path"},
        {"/etc", "system path"},
        {"/etc/skyvol", "system path"},
        {"/usr/local/data", "system path"},
        {"/lib64/x", "system path"},
        {"/proc/1", "system path"},
        {"/dev/shm/x", "system path"},
        {"/run/data", "system path"},
        {"/home", "system path"},
        {"/mnt", "system path"},
        {"/mnt/skyvol", "system path"},
        {"/mnt/skyvol/b", "system path"},
        {"/data/../etc", "'..'"},
        {"/..", "'..'"},
        {"/data\n", "control character"},
        {"/\xff", "UTF-8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        BUF_SCOPED out = BUF_INIT;
        cr_expect_eq(check_one(rows[i][0], "", &out), -EINVAL, "'%s'", rows[i][0]);
        cr_expect_not_null(strstr(out.bytes, rows[i][1]), "%s: %s", rows[i][0], out.bytes);
        cr_expect_not_null(strstr(out.bytes, "here: "), "%s", out.bytes);
    }
}

Test(volume, prefixes_that_lead_elsewhere_are_refused)
{
    static const char *const rows[] = {"../x", "a/../b", ".", "a/./b", "a\x01"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        BUF_SCOPED out = BUF_INIT;
        check_one("/data", rows[i], &out);
        cr_expect_not_null(strstr(out.bytes, "prefix"), "%s: %s", rows[i], out.bytes);
    }
}

Test(volume, two_of_one_place_and_one_within_another_are_named_with_both_places)
{
    static const char *const mounts[] = {"/data", "/data/", "/data/in", "/database"};
    struct volume volumes[4];
    BUF_SCOPED out = BUF_INIT;
    for (int i = 0; i < 4; i++) {
        STRING_SCOPED *where = xprintf("line %d", i + 1);
        volume_init(&volumes[i], where);
        volume_set(&volumes[i], "bucket", "bucket", &out);
        volume_set(&volumes[i], "mount", mounts[i], &out);
    }
    cr_expect_eq(volumes_check(volumes, 4, BASE, &out), -EINVAL);
    cr_expect_not_null(strstr(out.bytes, "line 2: mount '/data' is also that of the volume at line 1"), "%s",
                       out.bytes);
    cr_expect_not_null(strstr(out.bytes, "line 3: mount '/data/in' and mount '/data'"), "%s", out.bytes);
    cr_expect_null(strstr(out.bytes, "line 4"), "%s", out.bytes);
    for (int i = 0; i < 4; i++)
        volume_release(&volumes[i]);
}

static int parse(const char *text, struct buf *out)
{
    struct volume volume;
    volume_init(&volume, "--volume 1");
    int rc = volume_parse(&volume, text, out);
    if (rc == 0)
        buf_printf(out, "%s|%s|%s|%s|%s", volume.bucket ? volume.bucket : "",
                   volume.mount ? volume.mount : "", volume.prefix, volume.options,
                   volume.read_only ? "ro" : "rw");
    volume_release(&volume);
    return rc;
}

Test(volume, words_of_the_command_line)
{
    static const char *const rows[][2] = {
        {"bucket=b,mount=/m", "b|/m|||ro"},
        {"bucket=b,mount=/m,prefix=p/,rw", "b|/m|p/||rw"},
        {"bucket=b,mount=/with\\,comma,rw,ro", "b|/with,comma|||ro"},
        {"bucket=b,mount=/m,read_only=no", "b|/m|||rw"},
        {"bucket=b,mount=/m,options=durability=local\\,uid=1", "b|/m||durability=local,uid=1|ro"},
        {"", "||||ro"},
    };
    static const char *const wrong[][2] = {{"bukcet=b", "did you mean 'bucket'"},
                                           {"read_only=maybe", "true or false"},
                                           {"yes", "neither ro, rw nor NAME=VALUE"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        BUF_SCOPED out = BUF_INIT;
        cr_expect_eq(parse(rows[i][0], &out), 0, "%s", out.bytes);
        cr_expect_str_eq(out.bytes, rows[i][1]);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        BUF_SCOPED out = BUF_INIT;
        cr_expect_eq(parse(wrong[i][0], &out), -EINVAL);
        cr_expect_not_null(strstr(out.bytes, wrong[i][1]), "%s", out.bytes);
    }
}
