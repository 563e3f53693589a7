#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/attr.h"

static const struct attr_defaults defaults = {1000, 1001, 0644, 0755};

static struct attributes read_object(const char *key, const char *mode, const char *uid, const char *mtime)
{
    struct store_object object = {
        .key = (char *)(uintptr_t)key, .size = 5, .modified_ns = INT64_C(1600000000000000000)};
    struct attributes attributes;

    if (mode)
        store_fields_add(&object.meta, "mode", mode);
    if (uid)
        store_fields_add(&object.meta, "uid", uid);
    if (mtime)
        store_fields_add(&object.meta, "mtime", mtime);
    attr_from_object(&object, &defaults, &attributes);
    store_fields_release(&object.meta);
    return attributes;
}

Test(attr, times_in_all_their_forms)
{
    static const struct {
        const char *text;
        int64_t ns;
        int rc;
    } rows[] = {
        {"0", 0, 0},
        {"1700000000", INT64_C(1700000000000000000), 0},
        {"1700000000.5", INT64_C(1700000000500000000), 0},
        {"1700000000.123456789", INT64_C(1700000000123456789), 0},
        {"1700000000.1234567891234", INT64_C(1700000000123456789), 0},
        {"1700000000.", INT64_C(1700000000000000000), 0},
        {"-1.5", INT64_C(-1500000000), 0},
        {"", 0, -EINVAL},
        {"-", 0, -EINVAL},
        {".5", 0, -EINVAL},
        {"1e9", 0, -EINVAL},
        {" 1", 0, -EINVAL},
        {"99999999999999999999", 0, -EINVAL},
        {"2023-11-14T22:13:20Z", 0, -EINVAL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t ns = 0;
        cr_assert_eq(attr_parse_time(rows[i].text, &ns), rows[i].rc, "%s", rows[i].text);
        if (rows[i].rc == 0)
            cr_assert_eq(ns, rows[i].ns, "%s", rows[i].text);
    }
}

Test(attr, a_printed_time_reads_back)
{
    static const int64_t rows[] = {0,
                                   1,
                                   -1,
                                   999999999,
                                   INT64_C(1700000000123456789),
                                   INT64_C(-1500000000),
                                   INT64_C(1700000000000000000)};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[32];
        int64_t ns;
        attr_print_time(rows[i], text);
        cr_assert_eq(attr_parse_time(text, &ns), 0, "%s", text);
        cr_assert_eq(ns, rows[i], "%s", text);
    }
}

Test(attr, modes_hostile_and_not)
{
    static const struct {
        const char *key, *mode;
        uint32_t expected;
    } rows[] = {
        {"a", "33188", S_IFREG | 0644},
        {"a", "33261", S_IFREG | 0755},
        {"a", "41471", S_IFLNK | 0777},
        {"a", "420", S_IFREG | 0644},
        {"a/", "16832", S_IFDIR | 0700},
        {"a/", NULL, S_IFDIR | 0755},
        {"a", NULL, S_IFREG | 0644},
        {"a", "35309", S_IFREG | 0755}, /* setuid is stripped, */
        {"a", "34285", S_IFREG | 0755},
        {"a", "33700", S_IFREG | 0644}, /* ... setgid, and sticky, */
        {"a/", "17917", S_IFDIR | 02775}, /* but of a directory, where they run nothing */
        {"a/", "17407", S_IFDIR | 01777},
        {"a", "16877", S_IFREG | 0755},   /* no directory without a slash */
        {"a", "24576", S_IFREG | 0000},   /* no device has bytes */
        {"a/", "33188", S_IFDIR | 0644},
        {"a", "100644", S_IFREG | 0644}, /* octal, as rclone writes it */
        {"a", "-1", S_IFREG | 0644},
        {"a", "99999999999999999999", S_IFREG | 0644},
        {"a", "x", S_IFREG | 0644},
        {"a", "", S_IFREG | 0644},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_assert_eq(read_object(rows[i].key, rows[i].mode, NULL, NULL).mode, rows[i].expected, "%s %s",
                     rows[i].key, rows[i].mode ? rows[i].mode : "-");
}

static struct attributes read_empty(const char *key, const char *mode, const char *device)
{
    struct store_object object = {.key = (char *)(uintptr_t)key};
    struct attributes attributes;

    store_fields_add(&object.meta, "mode", mode);
    if (device)
        store_fields_add(&object.meta, "rdev", device);
    attr_from_object(&object, &defaults, &attributes);
    store_fields_release(&object.meta);
    return attributes;
}

Test(attr, empty_objects_are_of_the_kind_that_their_mode_says)
{
    static const struct {
        const char *key, *mode, *device;
        uint32_t expected;
        uint64_t number;
    } rows[] = {
        {"a", "4516", NULL, S_IFIFO | 0644, 0},
        {"a", "49645", NULL, S_IFSOCK | 0755, 0},
        {"a", "8630", "1:3", S_IFCHR | 0666, 0x103},
        {"a", "25008", "8:1", S_IFBLK | 0660, 0x801},
        {"a", "8630", NULL, S_IFCHR | 0666, 0},
        {"a", "4516", "1:3", S_IFIFO | 0644, 0},
        {"a", "25008", "8", S_IFBLK | 0660, 0},
        {"a", "25008", "4096:1", S_IFBLK | 0660, 0},
        {"a", "25008", "8:1:1", S_IFBLK | 0660, 0},
        {"a", "25008", "4095:1048575", S_IFBLK | 0660, 0xffffffff},
        {"a", "25008", "99999999999999999999:1", S_IFBLK | 0660, 0},
        {"a/", "4516", NULL, S_IFDIR | 0644, 0},
        {"a", "16877", NULL, S_IFREG | 0755, 0},
        {"a", "53668", NULL, S_IFREG | 0644, 0},
        {"a", "12708", NULL, S_IFREG | 0644, 0},
        {"a", "8198", "1:3", S_IFCHR | 0006, 0x103},
        {"a", "12036", NULL, S_IFCHR | 0404, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct attributes read = read_empty(rows[i].key, rows[i].mode, rows[i].device);
        cr_assert_eq(read.mode, rows[i].expected, "%s: %o", rows[i].mode, read.mode);
        cr_assert_eq(read.device, rows[i].number, "%s: %lx", rows[i].mode, (unsigned long)read.device);
    }
}

Test(attr, the_numbers_of_a_device_are_written_and_go_with_it)
{
    struct attributes written = {.mode = S_IFBLK | 0600, .device = 0xabcdef12}, read;
    struct store_object object = {.key = (char *)(uintptr_t) "a"};
    attr_to_meta(&written, true, &object.meta);
    cr_assert_str_eq(store_fields_get(&object.meta, "rdev"), "3567:703506");
    attr_from_object(&object, &defaults, &read);
    cr_assert_eq(read.device, written.device);
    written.mode = S_IFREG | 0600;
    attr_to_meta(&written, true, &object.meta);
    cr_assert_null(store_fields_get(&object.meta, "rdev"));
    store_fields_release(&object.meta);
}

Test(attr, only_bits_that_run_nothing_stay_whoever_wrote_them)
{
    static const struct {
        const char *key, *mode;
        uint32_t expected;
    } rows[] = {
        {"a", "35309", S_IFREG | 0755},   {"a", "34285", S_IFREG | 0755},   {"a", "33700", S_IFREG | 0644},
        {"a/", "17917", S_IFDIR | 02775}, {"a/", "17407", S_IFDIR | 01777}, {"a", "33188", S_IFREG | 0644},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct store_object object = {.key = (char *)(uintptr_t)rows[i].key};
        struct attributes attributes;
        store_fields_add(&object.meta, "mode", rows[i].mode);
        store_fields_add(&object.meta, "skyvol-id", "0123456789abcdef0123456789abcdef");
        attr_from_object(&object, &defaults, &attributes);
        cr_expect_eq(attributes.mode, rows[i].expected, "%s %s: %o", rows[i].key, rows[i].mode,
                     attributes.mode);
        store_fields_release(&object.meta);
    }
}

Test(attr, times_that_cannot_be_kept_become_the_nearest_that_can)
{
    static const int64_t rows[] = {INT64_MIN, INT64_MIN + 1, INT64_MAX, INT64_MAX - 1};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t kept = attr_clamp_time(rows[i]), read;
        char text[32];
        attr_print_time(kept, text);
        cr_assert_eq(attr_parse_time(text, &read), 0, "%s", text);
        cr_assert_eq(read, kept);
        cr_assert_eq(kept < 0, rows[i] < 0);
    }
    cr_assert_eq(attr_clamp_time(INT64_C(-1500000000)), INT64_C(-1500000000));
}

Test(attr, what_cannot_be_read_counts_as_missing)
{
    struct attributes attributes = read_object("a", NULL, "4294967295", "soon");
    cr_assert_eq(attributes.uid, 1000, "-1 is nobody's number");
    cr_assert_eq(attributes.mtime_ns, INT64_C(1600000000000000000));
    cr_assert_eq(read_object("a", NULL, "12", NULL).uid, 12);
    cr_assert_eq(attributes.size, 5);
    cr_assert_eq(read_object("a/", NULL, NULL, NULL).size, 4096);
}

Test(attr, metadata_written_read_back_and_leave_others_alone)
{
    struct attributes written = {.mode = S_IFREG | 0640,
                                 .uid = 5,
                                 .gid = 6,
                                 .mtime_ns = INT64_C(1700000000123456789),
                                 .ctime_ns = INT64_C(1700000001000000000)},
                      read;
    struct store_object object = {.key = (char *)(uintptr_t) "a"};
    store_fields_add(&object.meta, "colour", "blue");
    attr_to_meta(&written, true, &object.meta);
    attr_from_object(&object, &defaults, &read);
    cr_assert_eq(read.mode, written.mode);
    cr_assert_eq(read.uid, 5);
    cr_assert_eq(read.gid, 6);
    cr_assert_eq(read.mtime_ns, written.mtime_ns);
    cr_assert_eq(read.ctime_ns, written.ctime_ns);
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "33184");
    cr_assert_str_eq(store_fields_get(&object.meta, "mtime"), "1700000000.123456789");
    cr_assert_str_eq(store_fields_get(&object.meta, "colour"), "blue");
    attr_to_meta(&written, false, &object.meta);
    cr_assert_null(store_fields_get(&object.meta, "mtime"));
    store_fields_release(&object.meta);
}
