#include "cache/unflushed.h"

#include <assert.h>
#include <stdlib.h>

#include "base/buf.h"

void unflushed_init(struct unflushed *unflushed)
{
    *unflushed = (struct unflushed){0};
    list_init(&unflushed->due);
    list_init(&unflushed->riding);
}

static void drop_entry(struct unflushed *unflushed, struct unflushed_file *entry)
{
    unflushed->due_bytes -= entry->due_bytes;
    list_remove(&entry->link);
    HASH_DELETE(by_file, unflushed->files, entry);
    if (entry->retired)
        disk_close(entry->file);
    free(entry);
}

void unflushed_release(struct unflushed *unflushed)
{
    struct unflushed_file *entry, *after;
    HASH_ITER (by_file, unflushed->files, entry, after) {
        assert(!entry->busy);
        drop_entry(unflushed, entry);
    }
}

static struct unflushed_file *find_or_add(struct unflushed *unflushed, struct disk_file *file)
{
    struct unflushed_file *entry;
    HASH_FIND(by_file, unflushed->files, &file, sizeof file, entry);
    if (entry)
        return entry;
    entry = xcalloc(1, sizeof *entry);
    entry->file = file;
    list_init(&entry->link);
    HASH_ADD(by_file, unflushed->files, file, sizeof entry->file, entry);
    return entry;
}

/* What is due stays due: its flush serves what rides as well. */
static void raise_need(struct unflushed *unflushed, struct unflushed_file *entry, enum unflushed_need need)
{
    if (entry->need >= need)
        return;
    entry->need = need;
    if (entry->busy)
        return;
    list_remove(&entry->link);
    list_append(need == NEED_DUE ? &unflushed->due : &unflushed->riding, &entry->link);
    entry->round = unflushed->rounds[need];
}

void unflushed_note(struct unflushed *unflushed, struct disk_file *file, uint64_t bytes, bool rides)
{
    struct unflushed_file *entry = find_or_add(unflushed, file);
    assert(!entry->retired);
    if (rides) {
        unflushed->riding_files += entry->need == NEED_NOTHING;
        unflushed->riding_bytes += bytes;
    } else {
        entry->due_bytes += bytes;
        unflushed->due_bytes += bytes;
    }
    raise_need(unflushed, entry, rides ? NEED_RIDING : NEED_DUE);
}

void unflushed_begin(struct unflushed *unflushed, enum unflushed_need need, struct list *to)
{
    assert(list_empty(to));
    list_splice(to, need == NEED_DUE ? &unflushed->due : &unflushed->riding);
    unflushed->rounds[need]++;
}

void unflushed_put_back(struct unflushed *unflushed, struct list *files)
{
    struct list *link;
    while ((link = list_pop(files))) {
        struct unflushed_file *entry = container_of(link, struct unflushed_file, link);
        enum unflushed_need need = entry->need;
        entry->need = NEED_NOTHING;
        raise_need(unflushed, entry, need);
    }
}

struct unflushed_file *unflushed_take(struct list *files)
{
    struct list *link = list_pop(files);
    if (!link)
        return NULL;
    struct unflushed_file *entry = container_of(link, struct unflushed_file, link);
    entry->busy = true;
    entry->taken = entry->need;
    entry->taken_bytes = entry->due_bytes;
    entry->need = NEED_NOTHING;
    entry->due_bytes = 0;
    return entry;
}

void unflushed_done(struct unflushed *unflushed, struct unflushed_file *entry, bool flushed)
{
    enum unflushed_need need = entry->need;
    uint64_t bytes = entry->taken_bytes;
    entry->busy = false;
    if (flushed) {
        unflushed->due_bytes -= bytes;
    } else {
        entry->due_bytes += bytes;
        need = need > entry->taken ? need : entry->taken;
    }
    entry->need = NEED_NOTHING;
    if (need == NEED_NOTHING || entry->unwanted)
        drop_entry(unflushed, entry);
    else
        raise_need(unflushed, entry, need);
}

void unflushed_retire(struct unflushed *unflushed, struct disk_file **file, bool wanted)
{
    struct unflushed_file *entry;
    HASH_FIND(by_file, unflushed->files, file, sizeof *file, entry);
    if (!entry) {
        disk_close(*file);
    } else {
        entry->retired = true;
        entry->unwanted = !wanted;
        if (!wanted && !entry->busy && entry->round == unflushed->rounds[entry->need])
            drop_entry(unflushed, entry);
    }
    *file = NULL;
}
