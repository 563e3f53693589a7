#include "base/crc.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

/* Tables for eight bytes at a step ("slicing by 8"): table[k][b] is byte b followed by k zero bytes. */
static uint32_t table32[8][256];       /* of CRC32C */
static uint32_t table32_plain[8][256]; /* of CRC32 */
static uint64_t table64[8][256];
static uint32_t
    skip_table[4][256]; /* skip_table[k][b]: byte k of a register, moved forward by LANE_BYTES zero bytes */
static bool has_instruction;
static bool has_multiply; /* without carries: x86 only so far */

#define POLYNOMIAL_32     UINT32_C(0xEDB88320)
#define POLYNOMIAL_32C    UINT32_C(0x82F63B78)
#define POLYNOMIAL_64NVME UINT64_C(0x9A6C9329AC4BC9B5)
/* The instruction answers after three cycles, and can begin one in each: three lanes side by side. */
#define LANE_BYTES ((size_t)4096)

static bool find_instruction(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("sse4.2");
#elif defined(__aarch64__)
    return getauxval(AT_HWCAP) & HWCAP_CRC32;
#else
    return false;
#endif
}

/* x^n modulo a polynomial; `one` stands for x^0: bit 63 or 31, as in all reflected CRCs. */
static uint64_t raise_x(unsigned n, uint64_t polynomial, uint64_t one)
{
    uint64_t value = one;
    while (n--)
        value = (value >> 1) ^ (value & 1 ? polynomial : 0);
    return value;
}

/* Multipliers that move 128 bits forward by 512 and by 128 bits. A product of two reflected words comes out multiplied by
 * x, hence the -1: the earlier word moves by D + 64 - 1, the later one by D - 1. A remainder of 32 bits stands in the upper half of its
 * word, where bit 63 is x^0, too. */
struct moves {
    uint64_t by_512[2], by_128[2];
};

static struct moves moves64, moves32;

static void fill_moves(struct moves *moves, uint64_t polynomial, int bits)
{
    uint64_t one = UINT64_C(1) << (bits - 1);
    for (int i = 0; i < 2; i++) {
        unsigned more = i ? 0 : 64;
        moves->by_512[i] = raise_x(512 + more - 1, polynomial, one) << (64 - bits);
        moves->by_128[i] = raise_x(128 + more - 1, polynomial, one) << (64 - bits);
    }
}

/* The register after LANE_BYTES zero bytes; it is linear, so four bytes of it are moved each by itself. */
static void fill_skip_table(void)
{
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            uint32_t crc = byte << (8 * k);
            for (size_t i = 0; i < LANE_BYTES; i++)
                crc = (crc >> 8) ^ table32[0][crc & 255];
            skip_table[k][byte] = crc;
        }
    }
}

static void fill_tables(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t crc = byte, plain_crc = byte;
        uint64_t long_crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL_32C : 0);
            plain_crc = (plain_crc >> 1) ^ (plain_crc & 1 ? POLYNOMIAL_32 : 0);
            long_crc = (long_crc >> 1) ^ (long_crc & 1 ? POLYNOMIAL_64NVME : 0);
        }
        table32[0][byte] = crc;
        table32_plain[0][byte] = plain_crc;
        table64[0][byte] = long_crc;
    }
    for (int k = 1; k < 8; k++) {
        for (int byte = 0; byte < 256; byte++) {
            table32[k][byte] = (table32[k - 1][byte] >> 8) ^ table32[0][table32[k - 1][byte] & 255];
            table32_plain[k][byte] =
                (table32_plain[k - 1][byte] >> 8) ^ table32_plain[0][table32_plain[k - 1][byte] & 255];
            table64[k][byte] = (table64[k - 1][byte] >> 8) ^ table64[0][table64[k - 1][byte] & 255];
        }
    }
    fill_moves(&moves64, POLYNOMIAL_64NVME, 64);
    fill_moves(&moves32, POLYNOMIAL_32, 32);
    fill_skip_table();
    has_instruction = find_instruction();
#if defined(__x86_64__)
    has_multiply = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

static void prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_tables);
}

/* Eight bytes, the first one lowest. */
static uint64_t load_little(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

/* The register itself: not inverted at either end. */
static uint32_t run_table32(uint32_t table[8][256], uint32_t crc, const unsigned char *at, size_t length)
{
    for (; length >= 8; at += 8, length -= 8) {
        uint64_t value = load_little(at) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= table[7 - k][(value >> (8 * k)) & 255];
    }
    for (; length; at++, length--)
        crc = (crc >> 8) ^ table[0][(crc ^ *at) & 255];
    return crc;
}

uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t length)
{
    prepare();
    return ~run_table32(table32, ~crc, bytes, length);
}

static uint64_t run_table64(uint64_t crc, const unsigned char *at, size_t length)
{
    for (; length >= 8; at += 8, length -= 8) {
        uint64_t value = load_little(at) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= table64[7 - k][(value >> (8 * k)) & 255];
    }
    for (; length; at++, length--)
        crc = (crc >> 8) ^ table64[0][(crc ^ *at) & 255];
    return crc;
}

#if defined(__x86_64__)

__attribute__((target("pclmul,sse4.1"))) static inline __m128i move_and_add(__m128i sum, __m128i by,
                                                                            __m128i next)
{
    __m128i early = _mm_clmulepi64_si128(sum, by, 0x00);
    __m128i late = _mm_clmulepi64_si128(sum, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(early, late), next);
}

__attribute__((target("pclmul,sse4.1"))) static inline __m128i load_block(const unsigned char *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* At least 64 bytes, a multiple of 64. Four running sums of 128 bits, each congruent to all that went into it; the last 128
 * bits are left for the table ("Fast CRC Computation Using PCLMULQDQ", Intel 2009, with constants from raise_x()). */
__attribute__((target("pclmul,sse4.1"))) static void run_multiply(const struct moves *moves, uint64_t crc,
                                                                  const unsigned char *at, size_t length,
                                                                  unsigned char rest[16])
{
    const __m128i far = _mm_set_epi64x((int64_t)moves->by_512[1], (int64_t)moves->by_512[0]);
    const __m128i near = _mm_set_epi64x((int64_t)moves->by_128[1], (int64_t)moves->by_128[0]);
    __m128i sums[4];
    for (int i = 0; i < 4; i++)
        sums[i] = load_block(at + 16 * i);
    sums[0] = _mm_xor_si128(sums[0], _mm_set_epi64x(0, (int64_t)crc));
    for (at += 64, length -= 64; length; at += 64, length -= 64)
        for (int i = 0; i < 4; i++)
            sums[i] = move_and_add(sums[i], far, load_block(at + 16 * i));
    for (int i = 1; i < 4; i++)
        sums[i] = move_and_add(sums[i - 1], near, sums[i]);
    _mm_storeu_si128((__m128i *)(void *)rest, sums[3]);
}

#else

static void run_multiply(const struct moves *moves, uint64_t crc, const unsigned char *at, size_t length,
                         unsigned char rest[16])
{
    (void)moves, (void)crc, (void)at, (void)length, (void)rest;
    abort(); /* nobody has the instruction */
}

#endif

uint64_t crc64nvme(uint64_t crc, const void *bytes, size_t length)
{
    prepare();
    const unsigned char *at = bytes;
    size_t fast = has_multiply ? length / 64 * 64 : 0;
    unsigned char rest[16];
    crc = ~crc;
    if (fast) {
        run_multiply(&moves64, crc, at, fast, rest);
        crc = run_table64(0, rest, sizeof(rest));
    }
    return ~run_table64(crc, at + fast, length - fast);
}

uint32_t crc32_ieee(uint32_t crc, const void *bytes, size_t length)
{
    prepare();
    const unsigned char *at = bytes;
    size_t fast = has_multiply ? length / 64 * 64 : 0;
    unsigned char rest[16];
    crc = ~crc;
    if (fast) {
        run_multiply(&moves32, crc, at, fast, rest);
        crc = run_table32(table32_plain, 0, rest, sizeof(rest));
    }
    return ~run_table32(table32_plain, crc, at + fast, length - fast);
}

#if defined(__x86_64__)

static uint32_t skip_lane(uint64_t crc)
{
    return skip_table[0][crc & 255] ^ skip_table[1][(crc >> 8) & 255] ^ skip_table[2][(crc >> 16) & 255] ^
           skip_table[3][(crc >> 24) & 255];
}

/* Three lanes of LANE_BYTES; the register itself. */
__attribute__((target("sse4.2"))) static uint64_t run_lanes(uint64_t crc, const unsigned char *at)
{
    uint64_t second = 0, third = 0;
    for (const unsigned char *end = at + LANE_BYTES; at < end; at += 8) {
        crc = __builtin_ia32_crc32di(crc, load_little(at));
        second = __builtin_ia32_crc32di(second, load_little(at + LANE_BYTES));
        third = __builtin_ia32_crc32di(third, load_little(at + 2 * LANE_BYTES));
    }
    return skip_lane(skip_lane(crc) ^ second) ^ third;
}

__attribute__((target("sse4.2"))) static uint32_t run_instruction(uint32_t crc, const unsigned char *at,
                                                                  size_t length)
{
    uint64_t value = ~crc;
    for (; length >= 3 * LANE_BYTES; at += 3 * LANE_BYTES, length -= 3 * LANE_BYTES)
        value = run_lanes(value, at);
    for (; length >= 8; at += 8, length -= 8)
        value = __builtin_ia32_crc32di(value, load_little(at));
    for (; length; at++, length--)
        value = __builtin_ia32_crc32qi((uint32_t)value, *at);
    return ~(uint32_t)value;
}

#elif defined(__aarch64__)

__attribute__((target("+crc"))) static uint32_t run_instruction(uint32_t crc, const unsigned char *at,
                                                                size_t length)
{
    crc = ~crc;
    for (; length >= 8; at += 8, length -= 8)
        crc = __crc32cd(crc, load_little(at));
    for (; length; at++, length--)
        crc = __crc32cb(crc, *at);
    return ~crc;
}

#else

static uint32_t run_instruction(uint32_t crc, const unsigned char *at, size_t length)
{
    return crc32c_by_table(crc, at, length);
}

#endif

uint32_t crc32c(uint32_t crc, const void *bytes, size_t length)
{
    prepare();
    return has_instruction ? run_instruction(crc, bytes, length) : crc32c_by_table(crc, bytes, length);
}

/* ---- Joined. ---- */

/* A product modulo the polynomial; `one` is the bit that stands for x^0, the highest. */
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t polynomial, uint64_t one)
{
    uint64_t product = 0;
    for (uint64_t bit = one; bit; bit >>= 1) {
        product ^= a & bit ? b : 0;
        b = (b >> 1) ^ (b & 1 ? polynomial : 0);
    }
    return product;
}

/* The first value is moved forward by the bytes of the second: what is inverted at either end cancels out. */
static uint64_t join(uint64_t first, uint64_t second, uint64_t length, uint64_t polynomial, uint64_t one)
{
    uint64_t move = one, square = one >> 8; /* x^8: one byte */
    for (; length; length >>= 1) {
        if (length & 1)
            move = multiply(move, square, polynomial, one);
        square = multiply(square, square, polynomial, one);
    }
    return multiply(first, move, polynomial, one) ^ second;
}

uint32_t crc32_ieee_join(uint32_t first, uint32_t second, uint64_t second_length)
{
    return (uint32_t)join(first, second, second_length, POLYNOMIAL_32, UINT64_C(1) << 31);
}

uint32_t crc32c_join(uint32_t first, uint32_t second, uint64_t second_length)
{
    return (uint32_t)join(first, second, second_length, POLYNOMIAL_32C, UINT64_C(1) << 31);
}

uint64_t crc64nvme_join(uint64_t first, uint64_t second, uint64_t second_length)
{
    return join(first, second, second_length, POLYNOMIAL_64NVME, UINT64_C(1) << 63);
}
