#include "cache/facts.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/crc.h"

#define PLACE 7, "name"
#define HEX   "d41d8cd98f00b204e9800998ecf8427e"

/* ---- Equal, as far as it is kept. ---- */

static bool are_fields_equal(const struct store_fields *one, const struct store_fields *other)
{
    bool equal = one->count == other->count;

    for (size_t i = 0; equal && i < one->count; i++)
        equal = strcmp(one->all[i].name, other->all[i].name) == 0 &&
                strcmp(one->all[i].value, other->all[i].value) == 0;
    return equal;
}

static bool are_equal(const struct facts *one, const struct facts *other)
{
    if (one->type != other->type || one->attributes_known != other->attributes_known ||
        one->number != other->number || one->directory != other->directory || one->exists != other->exists)
        return false;
    const struct store_object *mine = &one->seen, *yours = &other->seen;
    return !one->exists || (mine->size == yours->size && mine->modified_ns == yours->modified_ns &&
                            strcmp(mine->etag, yours->etag) == 0 && mine->meta_known == yours->meta_known &&
                            are_fields_equal(&mine->meta, &yours->meta));
}

static size_t assert_round_trip(const struct facts *facts)
{
    BUF_SCOPED bytes = BUF_INIT;
    struct facts found;
    uint32_t type = 1;
    uint64_t number = 1;

    buf_add_string(&bytes, "before");
    cr_assert_eq(facts_write(facts, PLACE, &bytes), 0);
    cr_assert_eq(memcmp(bytes.bytes, "before", 6), 0);
    size_t length = bytes.length - 6;
    cr_assert_eq(facts_read(bytes.bytes + 6, length, PLACE, &found), 0);
    cr_assert(are_equal(facts, &found));
    cr_assert_null(found.seen.key);
    cr_assert_eq(facts_glance(bytes.bytes + 6, length, &type, &number), 0);
    cr_assert(type == facts->type && number == facts->number);
    cr_assert_eq(facts_glance_directory(bytes.bytes + 6, length), facts->directory);
    facts_release(&found);
    return length;
}

/* ---- Samples. ---- */

static struct facts foreign(void)
{
    struct facts facts = {.type = S_IFREG,
                          .attributes_known = true,
                          .exists = true,
                          .seen = {.size = UINT64_C(5) << 40, .modified_ns = INT64_C(1790000000123000000)}};
    strcpy(facts.seen.etag, "\"" HEX "\"");
    return facts;
}

static struct facts ours(void)
{
    struct facts facts = foreign();

    facts.seen.meta_known = true;
    store_fields_add(&facts.seen.meta, "mode", "33188");
    store_fields_add(&facts.seen.meta, "uid", "1000");
    store_fields_add(&facts.seen.meta, "gid", "1000");
    store_fields_add(&facts.seen.meta, "mtime", "1790000000.123456789");
    store_fields_add(&facts.seen.meta, "ctime", "1790000000.987654321");
    store_fields_add(&facts.seen.meta, "skyvol-id", "0123456789abcdef0123456789abcdef");
    return facts;
}

static const char *const etags[] = {
    "",
    "\"\"",
    "\"" HEX "\"",
    "\"" HEX "-1\"",
    "\"" HEX "-10000\"",
    "\"" HEX "-9999999999999999999\"",
    "\"" HEX "-18446744073709551616\"",
    "\"" HEX "-0\"",
    "\"" HEX "-01\"",
    "\"" HEX "-\"",
    "\"" HEX "-1x\"",
    "\"" HEX "-1\"\"",
    "\"" HEX,
    "\"" HEX "\"\"",
    HEX,
    "\"D41D8CD98F00B204E9800998ECF8427E\"",
    "\"d41d8cd98f00b204e9800998ecf8427\"",
    "\"g41d8cd98f00b204e9800998ecf8427e\"",
    "W/\"" HEX "\"",
    "\xff\xfe",
};

static const char *const values[] = {
    "",
    "0",
    "00",
    "01",
    "-1",
    "1.5",
    "33188",
    "9999999999999999999",
    "18446744073709551615",
    "18446744073709551616",
    "1700000000",
    "1700000000.",
    "1700000000.1",
    "1700000000.123456789",
    "1700000000.000000000",
    "1700000000.1234567890",
    "01700000000.123456789",
    "-1700000000.123456789",
    ".123456789",
    "0.000000001",
    "9999999999999999999.999999999",
    "0123456789abcdef0123456789abcdef",
    "0123456789ABCDEF0123456789abcdef",
    "0123456789abcdef0123456789abcdef0",
    "\xc3\xa9\x01\x7f\xff",
};

static const char *const names[] = {"mode", "uid",   "gid", "mtime", "ctime", "skyvol-id",  "xattr",
                                    "rdev", "atime", "",    "other", "Mode",  "s3cmd-attrs"};

#define COUNT(all) (sizeof(all) / sizeof *(all))

/* ---- Round trips. ---- */

Test(facts, each_etag_comes_back_as_it_was)
{
    for (size_t i = 0; i < COUNT(etags); i++) {
        struct facts facts = foreign();
        strcpy(facts.seen.etag, etags[i]);
        assert_round_trip(&facts);
    }
    struct facts longest = foreign();
    memset(longest.seen.etag, 'x', STORE_ETAG_MAX - 1);
    assert_round_trip(&longest);
}

Test(facts, each_value_under_each_name_comes_back_as_it_was)
{
    for (size_t i = 0; i < COUNT(names); i++)
        for (size_t j = 0; j < COUNT(values); j++) {
            struct facts facts = foreign();
            store_fields_add(&facts.seen.meta, names[i], values[j]);
            store_fields_add(&facts.seen.meta, names[i], "again");
            assert_round_trip(&facts);
            facts_release(&facts);
        }
}

Test(facts, each_type_and_number_comes_back_as_it_was)
{
    static const uint32_t types[] = {0, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    static const uint64_t numbers[] = {0,         1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_C(1) << 63,
                                       UINT64_MAX};

    for (size_t i = 0; i < COUNT(types); i++)
        for (size_t j = 0; j < COUNT(numbers); j++)
            for (int flags = 0; flags < 8; flags++) {
                struct facts facts = {.type = types[i],
                                      .number = numbers[j],
                                      .directory = numbers[COUNT(numbers) - 1 - j],
                                      .attributes_known = flags & 1,
                                      .exists = flags & 2,
                                      .seen = {.size = numbers[j],
                                               .modified_ns = (int64_t)(numbers[j] * (flags & 1 ? 1 : -1)),
                                               .meta_known = flags & 4}};
                if (!facts.exists)
                    facts.seen = (struct store_object){0};
                assert_round_trip(&facts);
            }
}

static void draw_text(char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        text[i] = rand() % 4 ? "0123456789abcdef.-"[rand() % 18] : (char)(1 + rand() % 255);
    text[length] = 0;
}

static void draw(struct facts *facts)
{
    char name[65], value[257];

    *facts = (struct facts){.type = (uint32_t)(rand() % 16) << 12,
                            .attributes_known = rand() % 2,
                            .number = (uint64_t)rand() * (uint64_t)(rand() % 2) << rand() % 33,
                            .directory = (uint64_t)rand() * (uint64_t)(rand() % 2) << rand() % 33,
                            .exists = rand() % 4};
    if (!facts->exists)
        return;
    facts->seen.size = (uint64_t)rand() << rand() % 33;
    facts->seen.modified_ns = (int64_t)((uint64_t)rand() << rand() % 33) * (rand() % 2 ? 1 : -1);
    facts->seen.meta_known = rand() % 2;
    draw_text(facts->seen.etag, (size_t)(rand() % STORE_ETAG_MAX));
    for (int i = rand() % 8; i > 0; i--) {
        draw_text(name, (size_t)(rand() % 64));
        draw_text(value, (size_t)(rand() % 256));
        store_fields_add(&facts->seen.meta, rand() % 2 ? names[(size_t)rand() % COUNT(names)] : name,
                         rand() % 3 ? value : values[(size_t)rand() % COUNT(values)]);
    }
}

Test(facts, whatever_is_written_is_read_back)
{
    const char *text = getenv("SKYVOL_SEED");
    unsigned seed = text ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);

    printf("SKYVOL_SEED=%u\n", seed);
    srand(seed);
    for (int i = 0; i < 20000; i++) {
        struct facts facts;
        draw(&facts);
        assert_round_trip(&facts);
        facts_release(&facts);
    }
}

/* ---- Sizes. ---- */

Test(facts, they_are_small)
{
    struct facts theirs = foreign(), mine = ours();

    cr_assert_leq(assert_round_trip(&theirs), 40);
    cr_assert_leq(assert_round_trip(&mine), 110);
    facts_release(&mine);
}

Test(facts, metadata_of_two_kilobytes_are_kept_and_more_than_eight_are_refused)
{
    char value[FACTS_BYTES_MAX + 1];
    struct facts facts = foreign();
    BUF_SCOPED bytes = BUF_INIT;

    memset(value, 'x', sizeof value);
    value[2048] = 0;
    store_fields_add(&facts.seen.meta, "xattr", value);
    assert_round_trip(&facts);
    value[2048] = 'x';
    value[FACTS_BYTES_MAX] = 0;
    store_fields_set(&facts.seen.meta, "xattr", value);
    buf_add_string(&bytes, "before");
    cr_assert_eq(facts_write(&facts, PLACE, &bytes), -EMSGSIZE);
    cr_assert_str_eq(bytes.bytes, "before");
    cr_assert_eq(bytes.length, 6);
    facts_release(&facts);
}

/* ---- Others. ---- */

static void assert_refused(const struct buf *bytes, size_t length)
{
    struct facts found;
    uint32_t type;
    uint64_t number;
    char *exact = xmalloc(length + !length); /* so that a sanitizer sees each byte behind it */

    memcpy(exact, bytes->bytes, length);
    cr_assert_eq(facts_read(exact, length, PLACE, &found), -EBADMSG);
    facts_glance(exact, length, &type, &number);
    facts_glance_directory(exact, length);
    free(exact);
}

Test(facts, no_beginning_and_no_flipped_bit_is_taken_for_them)
{
    struct facts all[] = {foreign(), ours(), {.type = S_IFDIR, .number = UINT64_MAX, .directory = 300}};

    for (size_t i = 0; i < COUNT(all); i++) {
        BUF_SCOPED bytes = BUF_INIT;
        cr_assert_eq(facts_write(&all[i], PLACE, &bytes), 0);
        for (size_t length = 0; length < bytes.length; length++)
            assert_refused(&bytes, length);
        for (size_t bit = 0; bit < 8 * bytes.length; bit++) {
            bytes.bytes[bit / 8] ^= (char)(1 << bit % 8);
            assert_refused(&bytes, bytes.length);
            bytes.bytes[bit / 8] ^= (char)(1 << bit % 8);
        }
        buf_add_char(&bytes, 0);
        assert_refused(&bytes, bytes.length);
        facts_release(&all[i]);
    }
}

Test(facts, those_of_another_place_are_none_of_this_one)
{
    BUF_SCOPED bytes = BUF_INIT;
    struct facts facts = foreign(), found;

    cr_assert_eq(facts_write(&facts, PLACE, &bytes), 0);
    cr_assert_eq(facts_read(bytes.bytes, bytes.length, 8, "name", &found), -EBADMSG);
    cr_assert_eq(facts_read(bytes.bytes, bytes.length, 7, "nam", &found), -EBADMSG);
    cr_assert_eq(facts_read(bytes.bytes, bytes.length, 7, "names", &found), -EBADMSG);
}

/* Bytes that somebody made up, with a CRC that is right. */
static void assert_made_up_is_refused(const char *bytes, size_t length)
{
    BUF_SCOPED made = BUF_INIT;
    uint64_t directory = htole64(7);

    buf_add(&made, "\0\0\0\0", 4);
    buf_add(&made, bytes, length);
    uint32_t crc = htole32(crc32c(crc32c(crc32c(0, &directory, 8), "name", 5), bytes, length));
    memcpy(made.bytes, &crc, 4);
    assert_refused(&made, made.length);
}

#define REFUSED(bytes) assert_made_up_is_refused(bytes, sizeof(bytes) - 1)
#define OBJECT         "\x08\x02\x00\x00\x00" /* a file of no bytes, without an ETag */

Test(facts, hostile_bytes_with_a_right_sum_are_refused)
{
    struct facts found;
    BUF_SCOPED longest = BUF_INIT;

    REFUSED("");
    REFUSED("\x08");
    REFUSED("\x10\x00");                                             /* no such type */
    REFUSED("\x08\x80");                                             /* no such flag */
    REFUSED("\x08\x08");                                             /* no number */
    REFUSED("\x08\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02");     /* 65 bits */
    REFUSED("\x08\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"); /* more */
    REFUSED("\x08\x00\x00");                                         /* more than was said */
    REFUSED("\x08\x02\x00\x00\x01");                                 /* an ETag beyond the end */
    REFUSED("\x08\x02\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    REFUSED("\x08\x02\x00\x00\x01\x00"); /* a NUL in it */
    REFUSED("\x08\x22\x00\x00"
            "0123456789abcde");
    REFUSED("\x08\x62\x00\x00"
            "0123456789abcdef"); /* no number of parts */
    REFUSED(OBJECT "\x3f\x01"
                   "1");    /* no such name */
    REFUSED(OBJECT "\x01"); /* no value */
    REFUSED(OBJECT "\x01\x02"
                   "1");
    REFUSED(OBJECT "\x01\x01\x00");
    REFUSED(OBJECT "\x00\xff\x7f");
    REFUSED(OBJECT "\x00\x04name");
    REFUSED(OBJECT "\x41");
    REFUSED(OBJECT "\x81\x01");
    REFUSED(OBJECT "\xc1"
                   "0123456789abcde");
    for (int i = 0; i < 9000; i++)
        buf_add_string(&longest, "\x01\x01x");
    cr_assert_eq(facts_read(longest.bytes, longest.length, PLACE, &found), -EBADMSG);
    assert_made_up_is_refused(longest.bytes, longest.length);
}

Test(facts, an_etag_that_is_too_long_is_refused)
{
    BUF_SCOPED made = BUF_INIT;

    buf_add(&made, "\x08\x02\x00\x00\x80\x01", 6);
    for (int i = 0; i < STORE_ETAG_MAX; i++)
        buf_add_char(&made, 'x');
    assert_made_up_is_refused(made.bytes, made.length);
}
