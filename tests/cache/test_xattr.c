#include "cache/xattr.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>

#include "tests/support/ledger_text.h"

/* "name=value name=value ", bytes that do not print as \xx. */
static char *tell(const struct xattrs *xattrs)
{
    struct buf out = BUF_INIT;
    for (size_t i = 0; i < xattrs->count; i++) {
        buf_printf(&out, "%s=", xattrs->all[i].name);
        for (size_t k = 0; k < xattrs->all[i].length; k++) {
            unsigned char c = (unsigned char)xattrs->all[i].value[k];
            if (c > ' ' && c < 127)
                buf_add_char(&out, (char)c);
            else
                buf_printf(&out, "\\%02x", c);
        }
        buf_add_char(&out, ' ');
    }
    return buf_take(&out);
}

static void check_read(const char *field, const char *expected)
{
    XATTRS_SCOPED xattrs;
    xattrs_read(field, &xattrs);
    STRING_SCOPED *told = tell(&xattrs);
    cr_expect_str_eq(told, expected, "%.60s: '%s'", field ? field : "NULL", told);
}

/* Fields as s3fs 1.90 wrote them. */
Test(xattr, what_s3fs_wrote_is_read)
{
    check_read("%7B%22user.dir%22%3A%22MQ%3D%3D%22%7D", "user.dir=1 ");
    check_read("%7B%22user.%C3%A9%20/%2B~%2A-_.%21%25%22%3A%22Pz4%3D%22%7D", "user.\u00e9 /+~*-_.!%=?> ");
    check_read("%7B%22system.posix_acl_access%22%3A%22AgAAAA%3D%3D%22%2C%22user.a%22%3A%22aGVsbG8%3D%22%7D",
               "system.posix_acl_access=\\02\\00\\00\\00 user.a=hello ");
}

Test(xattr, what_is_written_is_what_s3fs_writes)
{
    XATTRS_SCOPED xattrs = {0};
    cr_assert_eq(xattrs_set(&xattrs, "user.dir", "1", 1, 0), 0);
    STRING_SCOPED *field = xattrs_field(&xattrs);
    cr_assert_str_eq(field, "%7B%22user.dir%22%3A%22MQ%3D%3D%22%7D");
    cr_assert_eq(xattrs_set(&xattrs, "user.a/b", "", 0, 0), 0);
    STRING_SCOPED *more = xattrs_field(&xattrs);
    cr_assert_str_eq(more, "%7B%22user.a/b%22%3A%22%22%2C%22user.dir%22%3A%22MQ%3D%3D%22%7D");
}

Test(xattr, hostile_fields_are_data)
{
    static const struct {
        const char *field, *expected;
    } rows[] = {
        {NULL, ""},
        {"", ""},
        {"x", ""},
        {"{}", ""},
        {"%7B%7D", ""},
        {"%7B%22user.a%22%3A%22aGVsbG8%3D%22", ""}, /* cut off */
        {"%7", ""},
        {"%", ""},
        {"%zz", ""},
        {"[\"user.a\"]", ""},
        {"\"user.a\"", ""},
        {"null", ""},
        {"{\"user.a\":\"MQ==\"}", "user.a=1 "}, /* not percent-encoded */
        {"{\"user.a\":5,\"user.b\":null,\"user.c\":{\"user.d\":\"MQ==\"},\"user.e\":\"MQ==\"}", "user.e=1 "},
        {"{\"user.a\":\"not base64!\",\"user.b\":\"MQ\",\"user.c\":\"MQ==\"}", "user.c=1 "},
        {"{\"user.a\":\"MR==\"}", ""}, /* a second spelling of "1" */
        {"{\"user.a\":\"MQ==\",\"user.a\":\"Mg==\"}", "user.a=2 "},
        {"{\"\":\"MQ==\"}", ""},
        {"{\"user.a\\u0000b\":\"MQ==\"}", ""},
        {"{\"user.\xff\":\"MQ==\"}", ""},
        {"%00%7B%22user.a%22%3A%22MQ%3D%3D%22%7D", ""},
        {"{\"user.skyvol.key\":\"MQ==\",\"user.skyvolx\":\"Mg==\"}", "user.skyvolx=2 "},
        {"{\"d\":\"AA==\"}", "d=\\00 "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_read(rows[i].field, rows[i].expected);
}

Test(xattr, huge_and_deep_fields_are_not_read)
{
    BUF_SCOPED huge = BUF_INIT, deep = BUF_INIT, name = BUF_INIT;
    buf_add_string(&huge, "{\"user.a\":\"");
    for (size_t i = 0; i < XATTR_FIELD_MAX; i++)
        buf_add_char(&huge, 'A');
    buf_add_string(&huge, "\"}");
    check_read(huge.bytes, "");
    for (size_t i = 0; i < 60000; i++)
        buf_add_char(&deep, '[');
    check_read(deep.bytes, "");
    buf_add_string(&name, "{\"user.");
    for (size_t i = 0; i < XATTR_NAME_MAX - 4; i++)
        buf_add_char(&name, 'n');
    buf_add_string(&name, "\":\"MQ==\",\"user.b\":\"MQ==\"}");
    check_read(name.bytes, "user.b=1 ");
}

Test(xattr, of_all_bytes_a_field_survives_the_cut_at_each_place)
{
    XATTRS_SCOPED xattrs = {0};
    char value[256];
    for (int i = 0; i < 256; i++)
        value[i] = (char)i;
    cr_assert_eq(xattrs_set(&xattrs, "user.all", value, sizeof value, 0), 0);
    STRING_SCOPED *field = xattrs_field(&xattrs);
    for (size_t length = 0; length < strlen(field); length++) {
        STRING_SCOPED *cut = xstrndup(field, length);
        XATTRS_SCOPED read;
        xattrs_read(cut, &read);
        for (size_t i = 0; i < read.count; i++)
            cr_assert_str_eq(read.all[i].name, "user.all");
    }
}

Test(xattr, create_and_replace_say_what_is_there)
{
    XATTRS_SCOPED xattrs = {0};
    cr_assert_eq(xattrs_set(&xattrs, "user.b", "1", 1, XATTR_REPLACE), -ENODATA);
    cr_assert_eq(xattrs.count, 0);
    cr_assert_eq(xattrs_set(&xattrs, "user.b", "1", 1, XATTR_CREATE), 0);
    cr_assert_eq(xattrs_set(&xattrs, "user.b", "2", 1, XATTR_CREATE), -EEXIST);
    cr_assert_eq(xattrs_set(&xattrs, "user.b", "3", 1, XATTR_REPLACE), 0);
    cr_assert_eq(xattrs_set(&xattrs, "user.a", "4", 1, 0), 0);
    cr_assert_eq(xattrs_set(&xattrs, "user.\xff", "4", 1, 0), -EILSEQ);
    STRING_SCOPED *told = tell(&xattrs);
    cr_assert_str_eq(told, "user.a=4 user.b=3 ");
    cr_assert_eq(xattrs_remove(&xattrs, "user.c"), -ENODATA);
    cr_assert_eq(xattrs_remove(&xattrs, "user.a"), 0);
    cr_assert_null(xattrs_find(&xattrs, "user.a"));
    cr_assert_eq(xattrs_remove(&xattrs, "user.b"), 0);
    STRING_SCOPED *field = xattrs_field(&xattrs);
    cr_assert_str_eq(field, "");
}

Test(xattr, only_those_of_users_are_shown)
{
    cr_expect(xattr_is_shown("user.a") && xattr_is_shown("user.skyvol"));
    cr_expect(!xattr_is_shown("user.skyvol.key") && xattr_is_virtual("user.skyvol.key"));
    cr_expect(!xattr_is_shown("system.posix_acl_access") && !xattr_is_shown("d") && !xattr_is_shown(""));
}

Test(xattr, in_metadata_is_set_kept_or_removed_and_the_rest_stays)
{
    struct store_fields meta = {0};
    store_fields_add(&meta, "colour", "blue");
    xattr_to_meta(NULL, &meta);
    cr_assert_eq(meta.count, 1);
    xattr_to_meta("f", &meta);
    cr_assert_str_eq(store_fields_get(&meta, "xattr"), "f");
    xattr_to_meta(NULL, &meta);
    cr_assert_str_eq(store_fields_get(&meta, "xattr"), "f");
    xattr_to_meta("", &meta);
    cr_assert_null(store_fields_get(&meta, "xattr"));
    cr_assert_str_eq(store_fields_get(&meta, "colour"), "blue");
    store_fields_release(&meta);
}

/* S3 counts names as they are sent and values: 2048 bytes in all. */
Test(xattr, two_kilobytes_of_metadata_are_the_limit)
{
    struct store_fields meta = {0};
    char field[XATTR_META_MAX + 1];
    size_t most = 0;
    memset(field, 'x', sizeof field);
    for (size_t length = 0; length <= XATTR_META_MAX; length++) {
        field[length] = '\0';
        if (xattr_fits(&meta, field))
            most = length;
        field[length] = 'x';
    }
    /* x-amz-meta- 7 times; mode uid gid mtime ctime skyvol-id xattr; and their longest values. */
    cr_assert_eq(most, 2048 - 7 * 11 - (4 + 3 + 3 + 5 + 5 + 9 + 5) - (6 + 10 + 10 + 21 + 21 + 32));
    field[most] = '\0';
    store_fields_add(&meta, "mode", "33188");
    store_fields_add(&meta, "skyvol-id", "0123");
    store_fields_add(&meta, "xattr", "what was there");
    cr_assert(xattr_fits(&meta, field), "our own are counted once");
    store_fields_add(&meta, "colour", "blue");
    cr_assert_not(xattr_fits(&meta, field));
    field[most - 11 - 6 - 4] = '\0';
    cr_assert(xattr_fits(&meta, field));
    store_fields_release(&meta);
}

/* ---- At random. ---- */

static unsigned seed_and_say(void)
{
    const char *given = getenv("SKYVOL_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    fprintf(stderr, "SKYVOL_SEED=%u\n", seed);
    srandom(seed);
    return seed;
}

static void change_at_random(struct xattrs *xattrs)
{
    static const char *const names[] = {"user.a",        "user.b",    "user.\"\\",
                                        "user.\u00e9,:", "user.\x01", "trusted.x"};
    const char *name = names[(size_t)random() % 6];
    char value[64];
    size_t length = (size_t)random() % sizeof value;
    for (size_t i = 0; i < length; i++)
        value[i] = (char)random();
    if (random() % 3 == 0)
        xattrs_remove(xattrs, name);
    else
        cr_assert_eq(xattrs_set(xattrs, name, value, length, 0), 0);
}

Test(xattr, any_set_comes_back_from_its_field)
{
    XATTRS_SCOPED xattrs = {0};
    seed_and_say();
    for (int step = 0; step < 5000; step++) {
        change_at_random(&xattrs);
        STRING_SCOPED *field = xattrs_field(&xattrs);
        XATTRS_SCOPED again;
        xattrs_read(field, &again);
        STRING_SCOPED *told = tell(&xattrs), *told_again = tell(&again);
        cr_assert_str_eq(told, told_again);
    }
}

Test(xattr, of_random_bytes_a_set_is_legal)
{
    seed_and_say();
    for (int round = 0; round < 20000; round++) {
        XATTRS_SCOPED xattrs = {0};
        for (int i = random() % 4; i > 0; i--)
            change_at_random(&xattrs);
        STRING_SCOPED *field = xattrs_field(&xattrs);
        for (int i = 0; i < 1 + round % 3 && *field; i++)
            field[(size_t)random() % strlen(field)] = (char)(1 + random() % 255);
        XATTRS_SCOPED read;
        xattrs_read(field, &read);
        for (size_t i = 0; i < read.count; i++) {
            cr_assert(*read.all[i].name && strlen(read.all[i].name) <= XATTR_NAME_MAX);
            cr_assert(i == 0 || strcmp(read.all[i - 1].name, read.all[i].name) < 0);
        }
    }
}

/* ---- In the journal's ledger. ---- */

static void apply_to(void *context, const struct record *record)
{
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(ledger_apply(context, record, &why), 0, "%s", why.bytes);
    ledger_check(context);
}

static void same_set(const struct ledger *ledger, const struct xattrs *expected)
{
    XATTRS_SCOPED found;
    const struct account *account = ledger_find(ledger, 1);
    xattrs_read(account->xattrs ? account->xattrs : store_fields_get(&account->meta, XATTR_FIELD), &found);
    STRING_SCOPED *told = tell(&found), *wanted = tell(expected);
    cr_assert_str_eq(told, wanted);
}

/* The ledger after each record, as a replay that ends there has it, is the set as it then was: whether it waits, is on its way,
 * or is in the object. */
Test(xattr, every_beginning_of_a_journal_holds_the_set_of_its_last_change)
{
    seed_and_say();
    for (int round = 0; round < 200; round++) {
        struct ledger ledger;
        XATTRS_SCOPED xattrs = {0};
        uint64_t version = 1;
        ledger_init(&ledger);
        apply_to(&ledger, &(struct record){.type = RECORD_BIRTH,
                                           .id = 1,
                                           .name = "f",
                                           .kind = S_IFREG,
                                           .attributes.mode = S_IFREG | 0644,
                                           .attribute_version = 1,
                                           .content_version = 1});
        for (int step = 0; step < 60; step++) {
            struct store_fields meta = {0};
            STRING_SCOPED *field = NULL;
            struct ledger again;
            if (random() % 3) {
                change_at_random(&xattrs);
                field = xattrs_field(&xattrs);
                apply_to(&ledger, &(struct record){.type = RECORD_XATTRS,
                                                   .id = 1,
                                                   .xattrs = field,
                                                   .attribute_version = ++version});
            } else {
                field = xattrs_field(&xattrs);
                xattr_to_meta(field, &meta);
                apply_to(&ledger, &(struct record){.type = random() % 2 ? RECORD_REMOTE : RECORD_RESTATED,
                                                   .id = 1,
                                                   .content_version = 1,
                                                   .key = "k",
                                                   .meta = &meta,
                                                   .remote_content_version = 1,
                                                   .remote_attribute_version = version});
                cr_assert_null(ledger_find(&ledger, 1)->xattrs);
            }
            store_fields_release(&meta);
            same_set(&ledger, &xattrs);
            ledger_init(&again);
            ledger_dump(&ledger, apply_to, &again);
            same_set(&again, &xattrs);
            ledger_release(&again);
        }
        ledger_release(&ledger);
    }
}
