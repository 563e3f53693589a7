#include "base/crc.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* Published check values; S3's of "hello world" are the base64 of these, big-endian. */
static const struct {
    const char *text;
    uint32_t crc32c;
    uint64_t crc64nvme;
    uint32_t crc32;
} vectors[] = {
    {"", 0, 0, 0},
    {"123456789", 0xE3069283, 0xAE8B14860A799888, 0xCBF43926},
    {"hello world", 0xC99465AA, 0x8D29D5C3F6EA8EBE, 0x0D4A1185},
};

Test(crc, gives_the_published_check_values)
{
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        size_t length = strlen(vectors[i].text);
        cr_assert_eq(crc32c(0, vectors[i].text, length), vectors[i].crc32c, "row %zu", i);
        cr_assert_eq(crc32c_by_table(0, vectors[i].text, length), vectors[i].crc32c, "row %zu", i);
        cr_assert_eq(crc64nvme(0, vectors[i].text, length), vectors[i].crc64nvme, "row %zu", i);
        cr_assert_eq(crc32_ieee(0, vectors[i].text, length), vectors[i].crc32, "row %zu", i);
    }
}

/* RFC 3720, B.4. */
Test(crc, gives_the_iscsi_vectors)
{
    unsigned char bytes[32] = {0};
    cr_assert_eq(crc32c(0, bytes, 32), 0x8A9136AA);
    memset(bytes, 0xff, 32);
    cr_assert_eq(crc32c(0, bytes, 32), 0x62A8AB43);
    for (unsigned char i = 0; i < 32; i++)
        bytes[i] = i;
    cr_assert_eq(crc32c(0, bytes, 32), 0x46DD794E);
}

static uint64_t crc64_by_bits(const unsigned char *bytes, size_t length)
{
    uint64_t crc = ~UINT64_C(0);
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? UINT64_C(0x9A6C9329AC4BC9B5) : 0);
    }
    return ~crc;
}

static uint32_t crc32_by_bits(const unsigned char *bytes, size_t length)
{
    uint32_t crc = ~UINT32_C(0);
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
    }
    return ~crc;
}

Test(crc, all_ways_agree_at_every_length_and_alignment)
{
    unsigned char bytes[1100];
    srandom(1);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)random();
    for (size_t start = 0; start < 16; start++) {
        for (size_t length = 0; length + start < sizeof(bytes); length += 1 + length / 40) {
            cr_assert_eq(crc32c(0, bytes + start, length), crc32c_by_table(0, bytes + start, length));
            cr_assert_eq(crc64nvme(0, bytes + start, length), crc64_by_bits(bytes + start, length));
            cr_assert_eq(crc32_ieee(0, bytes + start, length), crc32_by_bits(bytes + start, length));
        }
    }
}

/* Around the length from which three lanes run, and its multiples. */
Test(crc, lanes_that_run_side_by_side_give_the_value_of_one)
{
    size_t room = 40000;
    unsigned char *bytes = malloc(room);
    srandom(3);
    for (size_t i = 0; i < room; i++)
        bytes[i] = (unsigned char)random();
    for (size_t base = 12288; base < 40000; base += 12288)
        for (size_t length = base - 9; length <= base + 9; length++)
            for (size_t start = 0; start < 3; start++)
                cr_assert_eq(crc32c(0x12345678, bytes + start, length),
                             crc32c_by_table(0x12345678, bytes + start, length), "%zu + %zu", start, length);
    free(bytes);
}

Test(crc, pieces_give_the_value_of_the_whole)
{
    size_t length = 300001;
    unsigned char *bytes = malloc(length);
    srandom(2);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)random();
    uint32_t whole = crc32c(0, bytes, length);
    uint64_t long_whole = crc64nvme(0, bytes, length);
    cr_assert_eq(whole, crc32c_by_table(0, bytes, length));
    for (int round = 0; round < 50; round++) {
        uint32_t crc = 0;
        uint64_t long_crc = 0;
        for (size_t at = 0; at < length;) {
            size_t step = 1 + (size_t)random() % (round % 2 ? 100000 : 20000);
            if (step > length - at)
                step = length - at;
            crc = crc32c(crc, bytes + at, step);
            long_crc = crc64nvme(long_crc, bytes + at, step);
            at += step;
        }
        cr_assert_eq(crc, whole);
        cr_assert_eq(long_crc, long_whole);
    }
    free(bytes);
}

Test(crc, joined_pieces_give_the_value_of_the_whole)
{
    size_t length = 70000;
    unsigned char *bytes = malloc(length);
    srandom(4);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)random();
    for (size_t cut = 0; cut <= length; cut += 1 + cut / 3) {
        uint32_t first = crc32c(0, bytes, cut), second = crc32c(0, bytes + cut, length - cut);
        uint64_t long_first = crc64nvme(0, bytes, cut), long_second = crc64nvme(0, bytes + cut, length - cut);
        cr_assert_eq(crc32_ieee_join(crc32_ieee(0, bytes, cut), crc32_ieee(0, bytes + cut, length - cut),
                                     length - cut),
                     crc32_ieee(0, bytes, length), "%zu", cut);
        cr_assert_eq(crc32c_join(first, second, length - cut), crc32c(0, bytes, length), "%zu", cut);
        cr_assert_eq(crc64nvme_join(long_first, long_second, length - cut), crc64nvme(0, bytes, length),
                     "%zu", cut);
    }
    free(bytes);
}
