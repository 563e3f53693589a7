#include "cache/birth.h"

#include <inttypes.h>

#include "base/log.h"

static size_t count_landed(const struct upload *upload, uint64_t *ret_bytes)
{
    size_t landed = 0;
    *ret_bytes = 0;
    for (size_t i = 0; i < upload->part_count; i++) {
        const struct part *part = &upload->parts[i];
        bool there = part->state == PART_LANDED && part->size > 0;
        landed += there;
        *ret_bytes += there && !part_copied(&upload->plan, i) ? part->size : 0;
    }
    return landed;
}

enum store_ability birth_served(const struct upload *upload)
{
    const struct cache *cache = upload->uploader->cache;
    struct store_abilities abilities;
    store_abilities(cache->config.store, &abilities);
    lock_take(&upload->inode->lock);
    bool large = upload->inode->wanted.attributes.size > cache->config.copy_bytes_max;
    lock_drop(&upload->inode->lock);
    enum store_ability copies = large ? abilities.part_copy : ABILITY_YES;
    if (copies == ABILITY_NO || abilities.conditional_put == ABILITY_NO)
        return ABILITY_NO;
    return copies == ABILITY_YES && abilities.conditional_put == ABILITY_YES ? ABILITY_YES : ABILITY_UNKNOWN;
}

const char *birth_key(struct upload *upload)
{
    uint64_t bytes;
    if (upload->lost || upload->moves || count_landed(upload, &bytes) == 0)
        return NULL;
    if (birth_served(upload) == ABILITY_NO)
        return NULL;
    LOCK_SCOPED(&upload->inode->lock);
    return upload_fits_locked(upload) ? upload->key : NULL;
}

void birth_give_up(struct upload *upload, const char *why)
{
    uint64_t bytes;
    if (upload->copying || count_landed(upload, &bytes) == 0 || bytes == 0)
        return;
    log_info("%s: %s: %" PRIu64 " bytes that landed there go again, under the name that the file has now",
             upload->key, why, bytes);
    uploader_count_sent(upload->uploader, 0, 0, bytes);
}

void birth_leave(struct upload *upload, const char *why)
{
    birth_give_up(upload, why);
    upload_start_over(upload);
}
