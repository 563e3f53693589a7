#include "cache/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define BEHIND_THREADS   8
#define BEHIND_QUEUE_MAX 65536

static void set_defaults(struct cache_config *config)
{
    if (config->attr_ttl_ms < 0)
        config->attr_ttl_ms = 0;
    if (config->io_timeout_ms <= 0)
        config->io_timeout_ms = 60000;
    if (!config->file_mode)
        config->file_mode = 0644;
    if (!config->dir_mode)
        config->dir_mode = 0755;
    if (!config->uploads_max)
        config->uploads_max = 16;
    if (!config->part_bytes)
        config->part_bytes = (uint64_t)8 << 20;
    if (!config->copy_bytes_max)
        config->copy_bytes_max = (uint64_t)1 << 30;
}

int cache_new(const struct cache_config *config, struct cache **ret_cache)
{
    size_t length = config->prefix ? strlen(config->prefix) : 0;
    struct cache *cache;

    if (length && (config->prefix[0] == '/' || config->prefix[length - 1] != '/'))
        return -EINVAL;
    if (length > STORE_KEY_MAX / 2)
        return -ENAMETOOLONG;
    cache = xcalloc(1, sizeof(*cache));
    cache->config = *config;
    set_defaults(&cache->config);
    cache->prefix = xstrdup(config->prefix ? config->prefix : "");
    cache->config.prefix = cache->prefix;
    cache->started_ns = clock_wall_ns();
    lock_init(&cache->probing, LOCK_LEAF, "probing");
    gate_init(&cache->probe_ended);
    names_init(cache);
    cache->behind = pool_new("behind", BEHIND_THREADS, BEHIND_QUEUE_MAX);
    cache->blocks = blocks_new(cache);
    cache->uploader = uploader_new(cache);
    *ret_cache = cache;
    return 0;
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    atomic_store(&cache->stopping, true);
    uploader_free(cache->uploader);
    blocks_stop(cache->blocks);
    pool_free(cache->behind);
    names_release(cache);
    blocks_free(cache->blocks);
    names_end(cache);
    gate_release(&cache->probe_ended);
    lock_release(&cache->probing);
    free(cache->prefix);
    free(cache);
}
