#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "s3/answer.h"

Test(answer_header, an_object_is_told_by_its_headers)
{
    struct store_object object = {0};
    static const char *const headers[][2] = {
        {"content-length", "10"},
        {"etag", "\"e\""},
        {"last-modified", "Fri, 24 May 2013 00:00:00 GMT"},
        {"content-type", "text/plain"},
        {"content-encoding", "aws-chunked,gzip"},
        {"x-amz-meta-mode", "33188"},
        {"x-amz-meta-name", "=?UTF-8?Q?a_=C3=A4?="},
        {"x-amz-server-side-encryption-aws-kms-key-id", "arn"},
        {"x-amz-storage-class", "STANDARD_IA"},
        {"x-amz-request-id", "R"},
        {"cache-control", "bad\x01value"},
        {"server", "x"},
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++)
        cr_expect_eq(answer_header(&object, headers[i][0], headers[i][1]), 0, "%s", headers[i][0]);
    cr_expect_eq(object.size, 10u);
    cr_expect_str_eq(object.etag, "\"e\"");
    cr_expect_eq(object.modified_ns, 1369353600000000000ll);
    cr_expect_eq(object.meta.count, 2u);
    cr_expect_str_eq(store_fields_get(&object.meta, "name"), "a ä");
    cr_expect_eq(object.headers.count, 4u);
    cr_expect_str_eq(store_fields_get(&object.headers, "content-encoding"), "gzip");
    cr_expect_str_eq(store_fields_get(&object.headers, "x-amz-server-side-encryption-aws-kms-key-id"), "arn");
    store_object_release(&object);
}

Test(answer_header, the_size_of_a_range_is_the_whole_objects_in_any_order)
{
    for (int order = 0; order < 2; order++) {
        struct store_object object = {0};
        if (order)
            answer_header(&object, "content-length", "10");
        cr_expect_eq(answer_header(&object, "content-range", "bytes 0-9/5368709120"), 0);
        if (!order)
            answer_header(&object, "content-length", "10");
        cr_expect_eq(object.size, 5368709120u);
        store_object_release(&object);
    }
}

Test(answer_header, nonsense_is_refused)
{
    static const char *const bad[][2] = {
        {"etag", ""},
        {"etag", "\"a\nb\""},
        {"last-modified", "soon"},
        {"content-length", "-1"},
        {"content-length", ""},
        {"content-length", "1 000"},
        {"content-range", "bytes 0-9/*"},
        {"content-range", "bytes"},
        {"content-length", "99999999999999999999"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct store_object object = {0};
        cr_expect_eq(answer_header(&object, bad[i][0], bad[i][1]), -EBADMSG, "%s: %s", bad[i][0], bad[i][1]);
        store_object_release(&object);
    }
}

Test(answer_header, encoded_words_are_read)
{
    static const char *const rows[][2] = {
        {"plain", "plain"},
        {"", ""},
        {"=?UTF-8?B?w6TDtg==?=", "äö"},
        {"=?utf-8?q?=C3=A4_b?=", "ä b"},
        {"=?UTF-8?B?w6Q=?= =?UTF-8?B?w7Y=?=", "äö"},
        {"x =?UTF-8?B?w6Q=?= y", "x ä y"},
        {"=?ISO-8859-1?Q?=E4?=", "ä"},
        {"=?UTF-8?B?AA==?=", "=?UTF-8?B?AA==?="}, /* a NUL */
        {"=?UTF-8?B?!!?=", "=?UTF-8?B?!!?="},
        {"=?UTF-8?Q?=4?=", "=?UTF-8?Q?=4?="},
        {"=?KOI8-R?B?w6Q=?=", "=?KOI8-R?B?w6Q=?="},
        {"=?UTF-8?X?a?=", "=?UTF-8?X?a?="},
        {"=?", "=?"},
        {"=?UTF-8?B?", "=?UTF-8?B?"},
        {"=?UTF-8?B", "=?UTF-8?B"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        BUF_SCOPED out = BUF_INIT;
        answer_meta_decode(rows[i][0], &out);
        cr_expect_str_eq(out.bytes, rows[i][1], "%s", rows[i][0]);
    }
}

static void check_there_and_back(const char *value)
{
    BUF_SCOPED wire = BUF_INIT, back = BUF_INIT;
    answer_meta_encode(value, &wire);
    for (size_t i = 0; i < wire.length; i++)
        cr_expect(wire.bytes[i] >= ' ' && wire.bytes[i] <= '~', "header broken by %s", value);
    answer_meta_decode(wire.bytes, &back);
    cr_expect_str_eq(back.bytes, value);
}

Test(answer_header, every_value_survives_the_wire_and_stays_in_its_header)
{
    for (int a = 1; a < 256; a++)
        for (int b = 1; b < 256; b++)
            check_there_and_back((const char[]){(char)a, (char)b, 0});
    check_there_and_back("a\r\nx-amz-acl: public-read");
    check_there_and_back("=?UTF-8?B?w6Q=?=");
    check_there_and_back(" leading and trailing ");
    check_there_and_back("äöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöü\xff\xfe");
    BUF_SCOPED plain = BUF_INIT;
    answer_meta_encode("1700000000.123456789", &plain);
    cr_expect_str_eq(plain.bytes, "1700000000.123456789", "what other tools read stays readable");
}

Test(answer_header, no_encoded_word_is_longer_than_75)
{
    BUF_SCOPED wire = BUF_INIT;
    answer_meta_encode("ääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääää", &wire);
    char *rest = NULL;
    for (char *word = strtok_r(wire.bytes, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        cr_expect_leq(strlen(word), 75u);
}

Test(answer_header, form_decoding_knows_every_byte)
{
    for (int c = 1; c < 256; c++) {
        STRING_SCOPED *text = xprintf("a%%%02X%%%02xz", c, c);
        BUF_SCOPED out = BUF_INIT;
        cr_assert_eq(answer_url_decode(text, &out), 0);
        cr_expect(out.length == 4 && (unsigned char)out.bytes[1] == c && (unsigned char)out.bytes[2] == c);
    }
    static const char *const bad[] = {"%", "%4", "%g0", "%0g", "a%00b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        BUF_SCOPED out = BUF_INIT;
        cr_expect_eq(answer_url_decode(bad[i], &out), -EBADMSG, "%s", bad[i]);
        cr_expect_eq(out.length, 0u);
    }
}

Test(answer_header, a_checksum_of_the_whole_is_told_and_no_other)
{
    static const struct {
        const char *name, *value;
        enum store_checksum kind;
        uint64_t sum;
    } rows[] = {
        {"x-amz-checksum-crc64nvme", "rosUhgp5mIg=", CHECKSUM_CRC64NVME, 0xAE8B14860A799888},
        {"x-amz-checksum-crc32c", "yZRlqg==", CHECKSUM_CRC32C, 0xC99465AA},
        {"x-amz-checksum-crc32", "DUoRhQ==", CHECKSUM_CRC32, 0x0D4A1185},
        {"x-goog-hash", "crc32c=yZRlqg==,md5=1B2M2Y8AsgTpgAmY7PhCfg==", CHECKSUM_CRC32C, 0xC99465AA},
        {"x-goog-hash", "md5=1B2M2Y8AsgTpgAmY7PhCfg==", CHECKSUM_AUTO, 0},
        {"x-amz-checksum-crc32c", "yZRlqg==-3", CHECKSUM_AUTO, 0},
        {"x-amz-checksum-crc32c", "rosUhgp5mIg=", CHECKSUM_AUTO, 0},
        {"x-amz-checksum-crc32c", "", CHECKSUM_AUTO, 0},
        {"x-amz-checksum-crc64nvme", "rosUhgp5mIg", CHECKSUM_AUTO, 0},
        {"x-amz-checksum-sha1", "rosUhgp5mIg=", CHECKSUM_AUTO, 0},
        {"x-amz-checksum-type", "FULL_OBJECT", CHECKSUM_AUTO, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct store_sum sum = {0};
        answer_sum(&sum, rows[i].name, rows[i].value);
        cr_expect_eq(sum.kind, rows[i].kind, "%zu", i);
        cr_expect_eq(sum.value, rows[i].sum, "%zu", i);
    }
}
