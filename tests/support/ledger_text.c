#include "tests/support/ledger_text.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/crc.h"

static int by_id(const void *a, const void *b)
{
    const struct account *const *x = a, *const *y = b;
    return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

static void print_fields(const char *name, const struct store_fields *fields, struct buf *out)
{
    for (size_t i = 0; i < fields->count; i++)
        buf_printf(out, " %s.%s=%s", name, fields->all[i].name, fields->all[i].value);
}

static void print_upload(const struct account_upload *upload, struct buf *out)
{
    buf_printf(out, " upload=%s key=%s skyvol=%s plan=%" PRIu64 "/%" PRIu64 "/%d pieces=%zu copying=%d",
               upload->upload_id, upload->key, upload->skyvol_id, upload->plan.bytes, upload->plan.bytes_max,
               upload->plan.equal, upload->plan.piece_count, upload->copying);
    buf_printf(out, " at=%" PRIu64 " mtime=%d/%" PRId64 " base=%s/%" PRIu64, upload->attribute_version,
               upload->mtime_explicit, upload->mtime_ns, upload->base.etag, upload->base.size);
    for (size_t i = 0; i < upload->part_count; i++) {
        const struct account_part *part = &upload->parts[i];
        buf_printf(out, " part%zu=%" PRIu64 "/%" PRIu64 "/%s/%s", i, part->size, part->content_version,
                   part->etag ? part->etag : "", part->checksum ? part->checksum : "");
    }
}

static void print_account(const struct account *account, struct buf *out)
{
    const struct attributes *a = &account->attributes;
    buf_printf(out, "%" PRIu64 " in %" PRIu64 " '%s' kind=%o target=%s children=%zu%s%s", account->id,
               account->parent ? account->parent->id : 0, account->name ? account->name : "", account->kind,
               account->target ? account->target : "", account->children,
               account->forgotten ? " forgotten" : "", account->told ? " told" : "");
    buf_printf(out, " number=%" PRIu64 " mode=%o uid=%u gid=%u size=%" PRIu64, a->number, a->mode, a->uid,
               a->gid, a->size);
    buf_printf(out, " times=%" PRId64 "/%" PRId64 "/%" PRId64 "/%d", a->atime_ns, a->mtime_ns, a->ctime_ns,
               account->mtime_explicit);
    buf_printf(out, " versions=%" PRIu64 "/%" PRIu64 " remote=%" PRIu64 "/%" PRIu64, account->content_version,
               account->attribute_version, account->remote_content_version,
               account->remote_attribute_version);
    buf_printf(out, " base=%" PRIu64 " whole=%d local=%s", account->base_size, account->whole_replacement,
               account->local);
    for (size_t i = 0; i < account->dirty.count; i++)
        buf_printf(out, " [%" PRIu64 ",%" PRIu64 ")", account->dirty.all[i].start, account->dirty.all[i].end);
    buf_printf(out, " key=%s etag=%s modified=%" PRId64 " objectsize=%" PRIu64 " headers=%d",
               account->key ? account->key : "", account->identity.etag, account->identity.modified_ns,
               account->identity.size, account->headers_known);
    print_fields("meta", &account->meta, out);
    print_fields("header", &account->headers, out);
    if (account->xattrs)
        buf_printf(out, " xattrs=%s", account->xattrs);
    if (account->upload)
        print_upload(account->upload, out);
    if (account->trying)
        buf_printf(out, " trying=%s key=%s %" PRIu64 "/%" PRIu64 "/%" PRIu64, account->trying->skyvol_id,
                   account->trying->key, account->trying->size, account->trying->content_version,
                   account->trying->attribute_version);
    buf_add_char(out, '\n');
}

void ledger_text(const struct ledger *ledger, struct buf *out)
{
    size_t count = HASH_CNT(by_id, ledger->accounts), i = 0;
    struct account **all = xcalloc(count, sizeof *all);
    for (struct account *at = ledger->accounts; at; at = at->by_id.next)
        all[i++] = at;
    qsort(all, count, sizeof *all, by_id);
    for (i = 0; i < count; i++)
        print_account(all[i], out);
    free(all);
}

uint32_t ledger_sum(const struct ledger *ledger)
{
    BUF_SCOPED text = BUF_INIT;
    ledger_text(ledger, &text);
    return crc32c(0, text.bytes, text.length);
}
