#include "cache/listed_record.h"

#include <endian.h>
#include <string.h>

#include "base/crc.h"

static uint32_t sum(uint64_t directory, const char *record)
{
    uint64_t id = htole64(directory);
    return crc32c(crc32c(0, &id, sizeof id), record + 4, LISTED_RECORD_BYTES - 4);
}

void listed_record_write(const struct listed_record *record, uint64_t directory,
                         char out[LISTED_RECORD_BYTES])
{
    uint64_t generation = htole64(record->generation), wall_ns = htole64((uint64_t)record->wall_ns);

    memcpy(out + 4, &generation, sizeof generation);
    memcpy(out + 12, &wall_ns, sizeof wall_ns);
    uint32_t crc = htole32(sum(directory, out));
    memcpy(out, &crc, sizeof crc);
}

bool listed_record_read(struct listed_record *ret_record, uint64_t directory, const struct lmdb_bytes *value)
{
    uint64_t generation, wall_ns;
    uint32_t crc;

    if (value->length != LISTED_RECORD_BYTES)
        return false;
    const char *bytes = value->bytes;
    memcpy(&crc, bytes, sizeof crc);
    memcpy(&generation, bytes + 4, sizeof generation);
    memcpy(&wall_ns, bytes + 12, sizeof wall_ns);
    *ret_record = (struct listed_record){le64toh(generation), (int64_t)le64toh(wall_ns)};
    return le32toh(crc) == sum(directory, bytes);
}
