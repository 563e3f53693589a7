#include "tests/support/memory_record.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/support/memory_bucket.h"

const char *memory_call_key(const struct store_call *call)
{
    const char *key = call->key;
    if (call->op == STORE_LIST || call->op == STORE_LIST_UPLOADS)
        key = call->prefix;
    else if (call->op == STORE_DELETE_MANY)
        key = call->key_count ? call->keys[0] : NULL;
    return key ? key : "";
}

bool memory_call_matches(const struct store_call *call, enum store_op op, const char *key)
{
    return (!op || op == call->op) && (!key || strcmp(key, memory_call_key(call)) == 0);
}

static char *copy_text(const char *text)
{
    return text ? xstrdup(text) : NULL;
}

size_t memory_record_add(struct memory_record *record, const struct store_call *call)
{
    struct memory_store_entry *entry = xcalloc(1, sizeof(*entry));
    *entry = (struct memory_store_entry){
        .op = call->op,
        .key = xstrdup(memory_call_key(call)),
        .source_key = copy_text(call->source_key),
        .if_match = copy_text(call->if_match),
        .source_if_match = copy_text(call->source_if_match),
        .upload_id = copy_text(call->upload_id),
        .if_absent = call->if_absent,
        .replace_meta = call->replace_meta,
        .part_number = call->part_number,
        .offset = call->offset,
        .length = call->length,
        .count = call->op == STORE_DELETE_MANY ? call->key_count : call->part_count,
        .started_ms = clock_ms(),
    };
    if (call->op == STORE_PUT || call->op == STORE_PART)
        entry->length = memory_body_length(call->from, call->from_count);
    if (call->meta)
        store_fields_copy(&entry->meta, call->meta);
    if (call->headers)
        store_fields_copy(&entry->headers, call->headers);
    record->all = xrealloc(record->all, (record->count + 1) * sizeof(*record->all));
    record->all[record->count] = entry;
    return record->count++;
}

void memory_record_clear(struct memory_record *record)
{
    for (size_t i = 0; i < record->count; i++) {
        struct memory_store_entry *entry = record->all[i];
        free(entry->key);
        free(entry->source_key);
        free(entry->if_match);
        free(entry->source_if_match);
        free(entry->upload_id);
        store_fields_release(&entry->meta);
        store_fields_release(&entry->headers);
        free(entry);
    }
    free(record->all);
    *record = (struct memory_record){.cleared = record->cleared + 1};
}

static void print_entry(const struct memory_store_entry *entry, struct buf *out)
{
    buf_printf(out, "%s ", store_op_name(entry->op));
    if (entry->source_key)
        buf_printf(out, "%s -> ", entry->source_key);
    buf_add_string(out, entry->key);
    if (entry->part_number)
        buf_printf(out, " #%d", entry->part_number);
    if (entry->op == STORE_GET || entry->op == STORE_PART_COPY)
        buf_printf(out, " %llu+%llu", (unsigned long long)entry->offset, (unsigned long long)entry->length);
    if (entry->op == STORE_PUT || entry->op == STORE_PART)
        buf_printf(out, " %llu", (unsigned long long)entry->length);
    if (entry->op == STORE_DELETE_MANY || entry->op == STORE_COMPLETE)
        buf_printf(out, " (%zu)", entry->count);
    buf_add_char(out, '\n');
}

void memory_record_print(const struct memory_record *record, struct buf *out)
{
    for (size_t i = 0; i < record->count; i++)
        print_entry(record->all[i], out);
}

size_t memory_record_find(const struct memory_record *record, enum store_op op, const char *key)
{
    size_t found = 0;
    for (size_t i = 0; i < record->count; i++)
        if ((!op || op == record->all[i]->op) && (!key || strcmp(key, record->all[i]->key) == 0))
            found++;
    return found;
}
