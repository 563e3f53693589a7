#include "cache/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/catalog.h"
#include "cache/deleter.h"
#include "cache/forest.h"
#include "cache/journal.h"
#include "cache/lookup.h"
#include "cache/overlay.h"
#include "cache/pressure.h"
#include "cache/restore.h"
#include "cache/slab.h"

#define BEHIND_THREADS    8
#define BEHIND_QUEUE_MAX  65536
#define REFRESH_THREADS   4
#define REFRESH_QUEUE_MAX 4096

static void set_defaults(struct cache_config *config)
{
    if (config->attr_ttl_ms < 0)
        config->attr_ttl_ms = 0;
    if (config->negative_ttl_ms < 0)
        config->negative_ttl_ms = config->attr_ttl_ms;
    if (config->io_timeout_ms <= 0)
        config->io_timeout_ms = 60000;
    if (!config->uploads_max)
        config->uploads_max = 16;
    if (!config->part_bytes)
        config->part_bytes = (uint64_t)8 << 20;
    if (!config->copy_bytes_max)
        config->copy_bytes_max = (uint64_t)1 << 30;
    if (!config->copy_step_min)
        config->copy_step_min = (uint64_t)1 << 30; /* what programs copy in that copy by steps, or more */
}

/* A mount that changes nothing leaves what is unsent to the next one that may. */
static void ignore_unsent(void *context, const struct cache_unsent *unsent)
{
    (void)context, (void)unsent;
}

static int look_only(struct cache *cache, struct buf *why)
{
    STRING_SCOPED *source = NULL;
    return cache_look(cache->config.disk, ignore_unsent, NULL, &source, why);
}

static int open_journal(struct cache *cache, struct buf *why)
{
    struct journal_config journal = {.disk = cache->config.disk,
                                     .source = cache->config.source ? cache->config.source : "",
                                     .boot = cache->config.boot,
                                     .commit_ms = cache->config.commit_ms,
                                     .unflushed_max = cache->config.unflushed_max};
    return cache->config.read_only ? look_only(cache, why) : journal_open(&journal, &cache->journal, why);
}

/* Without one all is asked again; nothing is lost. Where nothing changes (immutable) each fact is an answer for ever: what another mount
 * noted may have changed since, so it begins with nothing, and what it notes itself is worth nothing to others. */
static void open_catalog(struct cache *cache)
{
    STRING_SCOPED *source = xprintf("%s%s", cache->config.source ? cache->config.source : "",
                                    cache->config.immutable ? " immutable" : "");
    struct catalog_config catalog = {.path = cache->config.catalog,
                                     .source = source,
                                     .boot = cache->config.boot,
                                     .bytes_max = cache->config.catalog_bytes};
    BUF_SCOPED why = BUF_INIT;

    if (catalog.path)
        cache->catalog = catalog_new(&catalog, &why);
    if (catalog.path && !cache->catalog)
        log_warn("names and attributes are not remembered over mounts: %s", why.bytes);
}

static struct cache *make(const struct cache_config *config)
{
    struct cache *cache = xcalloc(1, sizeof(*cache));
    cache->config = *config;
    atomic_init(&cache->unreached, config->unreached);
    set_defaults(&cache->config);
    cache->prefix = xstrdup(config->prefix ? config->prefix : "");
    cache->config.prefix = cache->prefix;
    cache->slabs = slabs_new(config->disk);
    cache->config.disk = slabs_disk(cache->slabs);
    cache->started_ns = clock_wall_ns();
    atomic_init(&cache->next_local, (uint64_t)cache->started_ns); /* a journal may name one that is lost */
    lock_init(&cache->probing, LOCK_LEAF, "probing");
    gate_init(&cache->probe_ended);
    return cache;
}

static void release(struct cache *cache)
{
    catalog_free(cache->catalog);
    journal_free(cache->journal);
    slabs_free(cache->slabs);
    gate_release(&cache->probe_ended);
    lock_release(&cache->probing);
    free(cache->prefix);
    free(cache);
}

int cache_new(const struct cache_config *config, struct cache **ret_cache, struct buf *why)
{
    size_t length = config->prefix ? strlen(config->prefix) : 0;

    if ((length && (config->prefix[0] == '/' || config->prefix[length - 1] != '/')) ||
        length > STORE_KEY_MAX / 2) {
        buf_printf(why, "the prefix %s cannot be one", config->prefix);
        return -EINVAL;
    }
    struct cache *cache = make(config);
    int rc = open_journal(cache, why);
    if (rc < 0) {
        release(cache);
        return rc;
    }
    open_catalog(cache);
    names_init(cache);
    cache->behind = pool_new("behind", BEHIND_THREADS, BEHIND_QUEUE_MAX);
    cache->refreshing = pool_new("refresh", REFRESH_THREADS, REFRESH_QUEUE_MAX);
    cache->pressure = pressure_new(cache);
    cache->overlay = overlay_new(cache);
    cache->blocks = blocks_new(cache);
    cache->forest = forest_new(cache); /* gives memory back after the blocks */
    cache->uploader = uploader_new(cache);
    cache->deleter = deleter_new(cache);
    if (cache->journal)
        restore_all(cache);
    *ret_cache = cache;
    return 0;
}

void cache_dying(void)
{
    catalog_dying();
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    atomic_store(&cache->stopping, true);
    lookup_stop(cache);
    pool_free(cache->refreshing);
    deleter_stop(cache->deleter);
    uploader_free(cache->uploader);
    cache->uploader = NULL; /* nobody is woken any more */
    deleter_free(cache->deleter);
    blocks_stop(cache->blocks);
    pool_free(cache->behind);
    forest_stop(cache->forest);
    names_release(cache);
    blocks_free(cache->blocks);
    names_end(cache);
    overlay_free(cache->overlay);
    forest_free(cache->forest);
    pressure_free(cache->pressure);
    release(cache);
}
