#include "tests/support/play.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/ledger_text.h"

#define LARGE ((uint64_t)100 << 10)

void play_init(struct play *play, unsigned seed)
{
    *play = (struct play){.random = seed * 2654435761u + 1};
    atomic_init(&play->appended, 0);
    atomic_init(&play->acked, 0);
}

void play_release(struct play *play)
{
    free(play->sums);
    free(play->writes);
}

unsigned play_random(struct play *play, unsigned limit)
{
    play->random = play->random * 1664525u + 1013904223u;
    return (play->random >> 8) % limit;
}

/* ---- What is expected. ---- */

static void keep_sum(struct play *play, size_t records, uint32_t sum)
{
    if (records >= play->sum_room) {
        play->sum_room = (records + 1) * 2;
        play->sums = xrealloc(play->sums, play->sum_room * sizeof play->sums[0]);
    }
    play->sums[records] = sum;
}

static uint32_t sum_now(struct journal *journal)
{
    LOCK_SCOPED(journal_lock(journal));
    return ledger_sum(journal_ledger_locked(journal));
}

static void keep_write(struct play *play, const struct record *record, unsigned seed)
{
    if (play->write_count == play->write_room) {
        play->write_room = play->write_room ? play->write_room * 2 : 64;
        play->writes = xrealloc(play->writes, play->write_room * sizeof play->writes[0]);
    }
    struct play_write *write = &play->writes[play->write_count++];
    *write = (struct play_write){.record = atomic_load(&play->appended) + 1,
                                 .id = record->id,
                                 .start = record->start,
                                 .end = record->end,
                                 .seed = seed};
    snprintf(write->local, sizeof write->local, "%s", record->local);
}

static char byte_of(unsigned seed, uint64_t at)
{
    return (char)(1 + (seed * 131 + at * 7 + at / 251) % 255);
}

/* ---- Changes. ---- */

static int append(struct play *play, const struct record *record, struct disk_file *file)
{
    int rc = journal_append(play->journal, record, file);
    if (rc < 0) {
        play->rc = play->rc ? play->rc : rc;
        return rc;
    }
    size_t appended = atomic_load(&play->appended) + 1;
    keep_sum(play, appended, sum_now(play->journal));
    atomic_store(&play->appended, appended);
    return 0;
}

static struct account *account_of(struct play *play, const struct play_file *file)
{
    LOCK_SCOPED(journal_lock(play->journal));
    return ledger_find(journal_ledger_locked(play->journal), file->id);
}

static void drop_local(struct play *play, struct play_file *file)
{
    if (file->local)
        journal_retire(play->journal, &file->local, file->local_name);
    file->local_name[0] = 0;
}

static void name_of(struct play *play, const struct play_file *file, char out[16])
{
    snprintf(out, 16, "f%d", (int)(file - play->files));
}

static void give_birth(struct play *play, struct play_file *file)
{
    char name[16];
    name_of(play, file, name);
    uint64_t id = journal_new_id(play->journal);
    struct record record = {.type = RECORD_BIRTH,
                            .id = id,
                            .name = name,
                            .kind = S_IFREG,
                            .attributes = {.mode = S_IFREG | 0644, .mtime_ns = (int64_t)id},
                            .attribute_version = 1,
                            .content_version = 1};
    if (append(play, &record, NULL) == 0)
        *file = (struct play_file){.id = id, .named = true};
}

static int make_local(struct play *play, uint64_t bytes, struct disk_file **ret_file, char *ret_name)
{
    int rc = slabs_claim(play->slabs, bytes, ret_file, ret_name);
    if (rc != -EFBIG)
        return rc;
    snprintf(ret_name, ACCOUNT_LOCAL_MAX, "l%u", play->next_local++);
    return disk_open(play->disk, ret_name, DISK_CREATE, ret_file);
}

static int copy_dirty(const struct account *account, struct disk_file *from, struct disk_file *to)
{
    int rc = 0;
    for (size_t i = 0; i < account->dirty.count && rc == 0; i++) {
        struct extent range = account->dirty.all[i];
        size_t length = range.end - range.start;
        char *bytes = xcalloc(1, length);
        ssize_t got = disk_read(from, bytes, length, range.start);
        rc = got < 0 ? (int)got : disk_write(to, bytes, length, range.start);
        free(bytes);
    }
    return rc;
}

/* What was written where it stood stands here as well. */
static void keep_move(struct play *play, uint64_t id, const char *from, const char *to)
{
    for (size_t i = 0, count = play->write_count; i < count; i++) {
        struct play_write write = play->writes[i];
        if (write.id != id || strcmp(write.local, from) != 0)
            continue;
        struct record again = {.id = id, .start = write.start, .end = write.end, .local = to};
        keep_write(play, &again, write.seed);
        play->writes[play->write_count - 1].record = write.record;
    }
}

/* As say_remote_in() of the cache, with another place. */
static int tell_move(struct play *play, const struct account *account, struct disk_file *file,
                     const char *name)
{
    STRING_SCOPED *key = account->key ? xstrdup(account->key) : NULL; /* the account's own goes meanwhile */
    struct extents dirty = {0};
    struct record record = {.type = RECORD_RESTATED,
                            .id = account->id,
                            .size = account->attributes.size,
                            .content_version = account->content_version,
                            .local = name,
                            .dirty = &dirty,
                            .key = key,
                            .identity = account->identity,
                            .remote_content_version = account->remote_content_version,
                            .remote_attribute_version = account->remote_attribute_version};
    extents_copy(&dirty, &account->dirty);
    int rc = append(play, &record, file);
    extents_release(&dirty);
    return rc;
}

static int move_local(struct play *play, struct play_file *file, uint64_t bytes)
{
    const struct account *account = account_of(play, file);
    struct disk_file *to;
    char name[ACCOUNT_LOCAL_MAX];
    int rc = make_local(play, bytes, &to, name);
    if (rc < 0)
        return rc;
    keep_move(play, file->id, file->local_name, name);
    rc = copy_dirty(account, file->local, to);
    if (rc == 0)
        rc = tell_move(play, account, to, name);
    journal_retire(play->journal, rc == 0 ? &file->local : &to, rc == 0 ? file->local_name : name);
    if (rc < 0)
        return rc;
    file->local = to;
    memcpy(file->local_name, name, sizeof name);
    return 0;
}

static int open_local(struct play *play, struct play_file *file, uint64_t end)
{
    if (!file->local)
        return make_local(play, end, &file->local, file->local_name);
    return slab_room(play->slabs, file->local) < end ? move_local(play, file, end) : 0;
}

static void write_some(struct play *play, struct play_file *file)
{
    struct account *account = account_of(play, file);
    uint64_t limit = account->attributes.size <= RECORD_RIDE_MAX && play_random(play, 2) ? 5000 : LARGE;
    uint64_t start = play_random(play, (unsigned)limit), end = start + 1 + play_random(play, 3000);
    uint64_t size = end > account->attributes.size ? end : account->attributes.size;
    unsigned seed = play_random(play, 10000);
    char bytes[3001];
    int rc = open_local(play, file, end);
    for (uint64_t at = start; at < end; at++)
        bytes[at - start] = byte_of(seed, at);
    struct record record = {.type = RECORD_WRITE,
                            .id = file->id,
                            .start = start,
                            .end = end,
                            .size = size,
                            .content_version = account->content_version + 1,
                            .local = file->local_name,
                            .bytes = size <= RECORD_RIDE_MAX ? bytes : NULL};
    keep_write(play, &record, seed); /* some of it may be found, whatever fails from here on */
    if (rc == 0)
        rc = disk_write(file->local, bytes, end - start, start);
    if (rc == 0)
        rc = append(play, &record, file->local);
    if (rc < 0) {
        play->writes[play->write_count - 1].record = SIZE_MAX;
        play->rc = play->rc ? play->rc : rc;
    }
}

static void cut(struct play *play, struct play_file *file)
{
    struct account *account = account_of(play, file);
    struct record record = {.type = RECORD_SIZE,
                            .id = file->id,
                            .size = play_random(play, (unsigned)LARGE),
                            .content_version = account->content_version + 1};
    append(play, &record, NULL);
}

/* All of it is in the bucket now. */
static void confirm(struct play *play, struct play_file *file)
{
    struct account *account = account_of(play, file);
    struct record record = {.type = RECORD_REMOTE,
                            .id = file->id,
                            .size = account->attributes.size,
                            .content_version = account->content_version,
                            .remote_content_version = account->content_version,
                            .remote_attribute_version = account->attribute_version,
                            .key = "key"};
    snprintf(record.identity.etag, sizeof record.identity.etag, "\"%" PRIu64 "\"", account->content_version);
    if (append(play, &record, NULL) == 0)
        drop_local(play, file);
}

static void forget(struct play *play, struct play_file *file)
{
    struct record record = {.type = RECORD_FORGET, .id = file->id};
    if (append(play, &record, NULL) < 0)
        return;
    drop_local(play, file);
    *file = (struct play_file){0};
}

static void unlink_it(struct play *play, struct play_file *file)
{
    struct record record = {.type = RECORD_NODE, .id = file->id, .kind = S_IFREG};
    if (append(play, &record, NULL) < 0)
        return;
    file->named = false;
    drop_local(play, file);
}

static void rename_over(struct play *play, struct play_file *file, struct play_file *target)
{
    char name[16];
    name_of(play, target, name);
    struct record record = {
        .type = RECORD_NODE, .id = file->id, .name = name, .kind = S_IFREG, .replaced = target->id};
    if (file == target || !file->named || (target->id && !target->named))
        return;
    if (append(play, &record, NULL) < 0)
        return;
    struct record forget = {.type = RECORD_FORGET, .id = target->id};
    drop_local(play, target);
    *target = *file;
    *file = (struct play_file){0};
    if (forget.id)
        append(play, &forget, NULL);
}

static void upload_some(struct play *play, struct play_file *file)
{
    struct account *account = account_of(play, file);
    struct record upload = {.type = RECORD_UPLOAD,
                            .id = file->id,
                            .upload_id = "u",
                            .key = "key",
                            .plan = {.bytes = 1000, .bytes_max = 1000, .equal = true}};
    struct record part = {.type = RECORD_PART,
                          .id = file->id,
                          .index = play_random(play, 20),
                          .size = 1000,
                          .etag = "\"e\"",
                          .content_version = account->content_version};
    struct record end = {.type = RECORD_UPLOAD_END, .id = file->id};
    append(play, !account->upload ? &upload : play_random(play, 4) ? &part : &end, NULL);
}

/* Versions grow with these alone. */
static void set_xattrs(struct play *play, struct play_file *file)
{
    struct account *account = account_of(play, file);
    STRING_SCOPED *xattrs = play_random(play, 4) ? xprintf("%u", play_random(play, 1000)) : xstrdup("");
    struct record record = {.type = RECORD_XATTRS,
                            .id = file->id,
                            .xattrs = xattrs,
                            .attributes.ctime_ns = (int64_t)play_random(play, 1000),
                            .attribute_version = account->attribute_version + 1};
    append(play, &record, NULL);
}

void play_flush(struct play *play)
{
    WAITER_SCOPED(waiter);
    size_t appended = atomic_load(&play->appended);
    int rc = journal_flush(play->journal, &waiter);
    if (rc < 0)
        play->rc = play->rc ? play->rc : rc;
    else
        atomic_store(&play->acked, appended);
}

void play_step(struct play *play)
{
    struct play_file *file = &play->files[play_random(play, PLAY_FILES)];
    unsigned what = play_random(play, 21);
    if (what == 0)
        play_flush(play);
    else if (!file->id)
        give_birth(play, file);
    else if (!file->named || what == 1)
        forget(play, file);
    else if (what < 11)
        write_some(play, file);
    else if (what < 13)
        cut(play, file);
    else if (what < 15)
        confirm(play, file);
    else if (what == 15)
        unlink_it(play, file);
    else if (what < 18)
        rename_over(play, file, &play->files[play_random(play, PLAY_FILES)]);
    else if (what < 20)
        upload_some(play, file);
    else
        set_xattrs(play, file);
}

/* ---- Sessions. ---- */

/* Files as the ledger has them: "f3" is the fourth. */
static void adopt(struct play *play, const struct account *account)
{
    unsigned slot;
    if (!account->name || sscanf(account->name, "f%u", &slot) != 1 || slot >= PLAY_FILES)
        return;
    struct play_file *file = &play->files[slot];
    *file = (struct play_file){.id = account->id, .named = true};
    for (int tries = 0; account->local[0] && !file->local && tries < 2; tries++) /* one may be made to fail */
        disk_open(play->disk, account->local, 0, &file->local);
    if (file->local)
        snprintf(file->local_name, sizeof file->local_name, "%s", account->local);
}

struct disk *play_disk(struct play *play, struct disk *below)
{
    play->slabs = slabs_new(below);
    play->disk = slabs_disk(play->slabs);
    return play->disk;
}

void play_use(struct play *play, struct journal *journal, size_t records)
{
    play->journal = journal;
    play->rc = 0;
    keep_sum(play, records, sum_now(journal));
    atomic_store(&play->appended, records);
    if (atomic_load(&play->acked) > records)
        abort();
    /* Bytes of writes whose records were lost may stand in the files all the same, from here on. */
    for (size_t i = 0; i < play->write_count; i++)
        if (play->writes[i].record > records)
            play->writes[i].record = SIZE_MAX;
    LOCK_SCOPED(journal_lock(journal));
    for (struct account *at = journal_ledger_locked(journal)->accounts; at; at = at->by_id.next)
        adopt(play, at);
}

void play_leave(struct play *play)
{
    for (int i = 0; i < PLAY_FILES; i++) {
        if (play->files[i].local)
            journal_retire(play->journal, &play->files[i].local, NULL);
        play->files[i] = (struct play_file){0};
    }
    journal_free(play->journal);
    slabs_free(play->slabs);
    play->journal = NULL;
    play->slabs = NULL;
}

/* ---- Finding. ---- */

static bool byte_fits(const struct play *play, const struct account *account, uint64_t at, char byte,
                      size_t records)
{
    bool newer = false;
    const struct play_write *last = NULL;
    for (size_t i = 0; i < play->write_count; i++) {
        const struct play_write *write = &play->writes[i];
        if (at < write->start || at >= write->end || write->id != account->id ||
            strcmp(write->local, account->local) != 0)
            continue;
        if (write->record <= records)
            last = write;
        else
            newer = newer || byte_of(write->seed, at) == byte;
    }
    return newer || (last && byte_of(last->seed, at) == byte);
}

static bool range_fits(const struct play *play, struct disk_file *file, const struct account *account,
                       const struct extent *range, size_t records, struct buf *why)
{
    size_t length = range->end - range->start;
    char *bytes = xcalloc(1, length);
    ssize_t got = disk_read(file, bytes, length, range->start);
    size_t i = 0;
    while ((ssize_t)i < got && byte_fits(play, account, range->start + i, bytes[i], records))
        i++;
    if (i < length)
        buf_printf(why, "after %zu records: byte %" PRIu64 " of %s (file %" PRIu64 ") is wrong\n", records,
                   range->start + i, account->local, account->id);
    free(bytes);
    return i == length;
}

static bool file_fits(const struct play *play, struct disk *disk, const struct account *account,
                      size_t records, struct buf *why)
{
    struct disk_file *file;
    bool fits = true;
    if (account->dirty.count == 0)
        return true;
    if (disk_open(disk, account->local, 0, &file) < 0) {
        buf_printf(why, "after %zu records: %s is missing\n", records, account->local);
        return false;
    }
    for (size_t i = 0; i < account->dirty.count && fits; i++)
        fits = range_fits(play, file, account, &account->dirty.all[i], records, why);
    disk_close(file);
    return fits;
}

static size_t find(struct play *play, struct disk *disk, const struct ledger *ledger, size_t least,
                   size_t most, struct buf *why)
{
    uint32_t sum = ledger_sum(ledger);
    for (size_t records = most + 1; records-- > least;) {
        bool fits = play->sums[records] == sum;
        for (struct account *at = ledger->accounts; at && fits; at = at->by_id.next)
            fits = file_fits(play, disk, at, records, why);
        if (fits)
            return records;
    }
    for (size_t records = 0; records < least; records++)
        if (play->sums[records] == sum)
            buf_printf(why, "it is the state after %zu\n", records);
    buf_printf(why, "no state between %zu and %zu records is the one that was found\n", least, most);
    return SIZE_MAX;
}

size_t play_find(struct play *play, struct disk *disk, const struct ledger *ledger, size_t least, size_t most,
                 struct buf *why)
{
    struct slabs *slabs = slabs_new(disk);
    size_t records = find(play, slabs_disk(slabs), ledger, least, most, why);
    slabs_free(slabs);
    return records;
}
