#include "base/crc.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#if defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

/* Tables for eight bytes at a step ("slicing by 8"): table[k][b] is byte b followed by k zero bytes. */
static uint32_t table32[8][256];
static uint64_t table64[8][256];
static bool has_instruction;

#define POLYNOMIAL_32C    UINT32_C(0x82F63B78)
#define POLYNOMIAL_64NVME UINT64_C(0x9A6C9329AC4BC9B5)

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

static void fill_tables(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        uint64_t long_crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL_32C : 0);
            long_crc = (long_crc >> 1) ^ (long_crc & 1 ? POLYNOMIAL_64NVME : 0);
        }
        table32[0][byte] = crc;
        table64[0][byte] = long_crc;
    }
    for (int k = 1; k < 8; k++) {
        for (int byte = 0; byte < 256; byte++) {
            table32[k][byte] = (table32[k - 1][byte] >> 8) ^ table32[0][table32[k - 1][byte] & 255];
            table64[k][byte] = (table64[k - 1][byte] >> 8) ^ table64[0][table64[k - 1][byte] & 255];
        }
    }
    has_instruction = find_instruction();
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

uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t length)
{
    prepare();
    const unsigned char *at = bytes;
    crc = ~crc;
    for (; length >= 8; at += 8, length -= 8) {
        uint64_t value = load_little(at) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= table32[7 - k][(value >> (8 * k)) & 255];
    }
    for (; length; at++, length--)
        crc = (crc >> 8) ^ table32[0][(crc ^ *at) & 255];
    return ~crc;
}

uint64_t crc64nvme(uint64_t crc, const void *bytes, size_t length)
{
    prepare();
    const unsigned char *at = bytes;
    crc = ~crc;
    for (; length >= 8; at += 8, length -= 8) {
        uint64_t value = load_little(at) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= table64[7 - k][(value >> (8 * k)) & 255];
    }
    for (; length; at++, length--)
        crc = (crc >> 8) ^ table64[0][(crc ^ *at) & 255];
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t run_instruction(uint32_t crc, const unsigned char *at,
                                                                  size_t length)
{
    uint64_t value = ~crc;
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
