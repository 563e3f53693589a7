/* What `status` says of a cache. */
#include "cache/catalog.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "cache/overlay.h"

static void report_uploads(struct cache *cache, struct json *object)
{
    struct uploader_report uploads;
    uploader_report(cache->uploader, &uploads);
    json_set_integer(object, "unsent_files", (int64_t)uploads.unsent_files);
    json_set_integer(object, "unsent_files_max", (int64_t)overlay_limit(cache->overlay));
    json_set_integer(object, "unsent_bytes", (int64_t)uploads.unsent_bytes);
    json_set_integer(object, "oldest_unsent_ms", uploads.oldest_unsent_ms);
    json_set_integer(object, "uploading", (int64_t)uploads.uploading);
    json_set_integer(object, "in_flight_max", (int64_t)uploads.in_flight_max);
    json_set_integer(object, "parked", (int64_t)uploads.parked);
    json_set_integer(object, "conflicts", (int64_t)uploads.conflicts);
    json_set_integer(object, "conflict_copies", (int64_t)atomic_load(&cache->conflict_copies));
    json_set_integer(object, "sent_files", (int64_t)uploads.sent_files);
    json_set_integer(object, "sent_bytes", (int64_t)uploads.sent_bytes);
    json_set_integer(object, "sent_again_bytes", (int64_t)uploads.sent_again_bytes);
    json_set_integer(object, "copied_bytes", (int64_t)uploads.copied_bytes);
}

static void report_blocks(struct cache *cache, struct json *object)
{
    struct blocks_report blocks;
    blocks_report(cache->blocks, &blocks);
    json_set_integer(object, "blocks_present", (int64_t)blocks.present);
    json_set_integer(object, "blocks_fetching", (int64_t)blocks.fetching);
    json_set_integer(object, "block_hits", (int64_t)blocks.hits);
    json_set_integer(object, "block_misses", (int64_t)blocks.misses);
    json_set_integer(object, "blocks_wasted", (int64_t)blocks.wasted);
    json_set_integer(object, "stale_reads", (int64_t)atomic_load(&cache->stale_reads));
}

static void report_names(struct cache *cache, struct json *object)
{
    char example[sizeof cache->names.hidden_example];
    lock_take(&cache->names.lock);
    uint64_t count = cache->names.count, hidden = cache->names.hidden;
    for (size_t i = 0; i < sizeof example; i++)
        example[i] = cache->names.hidden_example[i];
    lock_drop(&cache->names.lock);
    json_set_integer(object, "names", (int64_t)count);
    json_set_integer(object, "hidden_keys", (int64_t)hidden);
    json_set_string(object, "hidden_example", hidden ? example : NULL);
    json_set_integer(object, "heads", (int64_t)atomic_load(&cache->heads));
    json_set_integer(object, "lists", (int64_t)atomic_load(&cache->lists));
}

static void report_journal(struct cache *cache, struct json *object)
{
    struct journal_report journal;
    if (!cache->journal)
        return;
    journal_report(cache->journal, &journal);
    json_set_bool(object, "journal_broken", journal.broken);
    json_set_integer(object, "journal_bytes", (int64_t)journal.log_bytes);
    json_set_integer(object, "journal_files", (int64_t)journal.accounts);
    json_set_integer(object, "journal_checkpoints", (int64_t)journal.checkpoints);
}

static void report_catalog(struct cache *cache, struct json *object)
{
    struct json *catalog = json_object_new();
    catalog_report(cache->catalog, catalog);
    json_set(object, "catalog", &catalog);
}

void cache_report(struct cache *cache, struct json *object)
{
    report_journal(cache, object);
    report_uploads(cache, object);
    report_blocks(cache, object);
    report_names(cache, object);
    report_catalog(cache, object);
}
