/* crc: CRC32C (Castagnoli), CRC64NVME and CRC32 (zlib's), as S3 takes them in x-amz-checksum-*.
 *
 * crc32c uses SSE4.2 (three lanes side by side: 18 GB/s, one lane 8) or the ARMv8 instruction where the processor has it, else a
 * table; all are tested equal.
 * crc64nvme and crc32_ieee (a name that is not zlib's: libraries of ours call that) multiply without carries (PCLMULQDQ) on x86, else they use a table (a tenth of the speed).
 * Check values of "123456789": CRC32C 0xE3069283, CRC64NVME 0xAE8B14860A799888, CRC32 0xCBF43926 (s3-and-providers, section 5).
 * Use: start with 0 and feed pieces in order; the value is final after each call. Values of pieces that were summed side by side are
 * joined, in their order, without their bytes.
 */
#ifndef BASE_CRC_H
#define BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *bytes, size_t length);
uint64_t crc64nvme(uint64_t crc, const void *bytes, size_t length);
uint32_t crc32_ieee(uint32_t crc, const void *bytes, size_t length);
/* Of `first` with `second`, a piece of so many bytes, behind it. */
uint32_t crc32_ieee_join(uint32_t first, uint32_t second, uint64_t second_length);
uint32_t crc32c_join(uint32_t first, uint32_t second, uint64_t second_length);
uint64_t crc64nvme_join(uint64_t first, uint64_t second, uint64_t second_length);
/* The table form, for the test that holds both against each other. */
uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t length);

#endif
