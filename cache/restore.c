#include "cache/restore.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/aftermath.h"
#include "cache/content.h"
#include "cache/observed.h"
#include "cache/recording.h"
#include "cache/resuming.h"
#include "cache/slab.h"
#include "cache/veil.h"

#define LOCAL_NAME_LENGTH 16 /* hex digits */

/* ---- One file. ---- */

static void damage_locked(struct inode *inode, const struct account *account, int rc)
{
    inode->holds++; /* for good: what is left of it is not what was written */
    inode->damaged = true;
    inode->parked_rc = -ENODATA; /* no further try will mend it */
    snprintf(
        inode->parked_why, sizeof inode->parked_why,
        "ENODATA: its local file %s cannot be opened (%s): what was written is lost unless that comes back",
        account->local, err_name(rc));
    log_error("%s: %s", inode->name, inode->parked_why);
}

static void open_local_locked(struct inode *inode, const struct account *account)
{
    if (!account->dirty.count)
        return;
    int rc = disk_open(inode->cache->config.disk, account->local, 0, &inode->local);
    if (rc < 0) {
        damage_locked(inode, account, rc);
        return;
    }
    snprintf(inode->local_name, sizeof inode->local_name, "%s", account->local);
    extents_copy(&inode->present, &account->dirty);
    extents_copy(&inode->dirty, &account->dirty);
    content_count_dirty_locked(inode);
}

static void fill_remote_locked(struct inode *inode, const struct account *account)
{
    struct remote *remote = &inode->remote;
    remote->exists = account->key != NULL;
    remote->key = account->key ? xstrdup(account->key) : NULL;
    remote->identity = account->identity;
    store_fields_copy(&remote->meta, &account->meta);
    store_fields_copy(&remote->headers, &account->headers);
    remote->headers_known = account->headers_known;
    remote->content_version = account->remote_content_version;
    remote->attribute_version = account->remote_attribute_version;
}

static void fill_wanted_locked(struct inode *inode, const struct account *account)
{
    const struct cache_config *config = &inode->cache->config;
    struct wanted *wanted = &inode->wanted;
    wanted->attributes = account->attributes;
    wanted->attributes.number = inode->number;
    wanted->attributes.nlink = 1;
    if (inode->type == S_IFDIR && !account->attributes.mode) {
        observed_default_directory_locked(inode);
    } else if (!account->attributes.mode) {
        wanted->attributes.mode = inode->type | (config->file_mode & 07777);
        wanted->attributes.uid = config->uid;
        wanted->attributes.gid = config->gid;
    }
    wanted->content_version = account->content_version;
    wanted->attribute_version = account->attribute_version;
    wanted->mtime_explicit = account->mtime_explicit;
    wanted->xattrs = account->xattrs ? xstrdup(account->xattrs) : NULL;
    inode->whole_replacement = account->whole_replacement;
    inode->exclusive = account->exclusive;
    inode->base_size = inode->type == S_IFREG ? account->base_size : 0;
    wanted->attributes.device = account_device(account);
    if (inode->type == S_IFLNK && account->content_version != account->remote_content_version)
        names_set_target_locked(inode, account->target);
    inode->attributes_known = true;
}

/* Should it turn out that it arrived: what was changed after it was read is not said, so all that is dirty counts as such. */
static void fill_maybe_locked(struct inode *inode, const struct account_trying *trying)
{
    inode_set_maybe_locked(inode, trying->key, trying->skyvol_id);
    if (inode->wanted.attribute_version < trying->attribute_version)
        inode->wanted.attribute_version = trying->attribute_version;
    inode->maybe_size = trying->size;
    inode->maybe_content_version = trying->content_version;
    inode->maybe_attribute_version = trying->attribute_version;
    inode->maybe_inherited = true;
    inode->upload_floor = UINT64_MAX;
    if (trying->content_version == inode->wanted.content_version)
        return;
    inode->upload_floor = inode->base_size;
    extents_copy(&inode->unread, &inode->dirty);
}

static void fill_locked(struct inode *inode, const struct account *account)
{
    const struct account_trying *trying = account->trying;
    fill_wanted_locked(inode, account);
    fill_remote_locked(inode, account);
    if (account->name)
        open_local_locked(inode, account);
    if (trying)
        fill_maybe_locked(inode, trying);
    if (account->upload)
        resuming_set_locked(inode, account->upload);
    inode->recorded = true;
}

/* ---- Places. ---- */

/* The directory of an account, made with all above it where it is not there yet. */
static struct inode *place_directory_locked(struct cache *cache, const struct account *account,
                                            struct aftermath *aftermath)
{
    if (!account)
        return cache->names.root;
    struct inode *parent = place_directory_locked(cache, account->parent, aftermath);
    struct inode *inode = names_find_locked(&cache->names, parent, account->name);
    if (inode)
        return inode;
    uint64_t number = account->attributes.number;
    if (!names_number_free_locked(&cache->names, number))
        number = 0;
    inode = names_make_locked(cache, parent, account->name, S_IFDIR, number, aftermath);
    inode->renamed = inode->number != names_number(parent, account->name);
    inode->account = account->id;
    LOCK_SCOPED(&inode->lock);
    observed_default_directory_locked(inode);
    return inode;
}

static struct inode *place_file_locked(struct cache *cache, const struct account *account,
                                       struct aftermath *aftermath)
{
    struct inode *parent = place_directory_locked(cache, account->parent, aftermath);
    uint64_t number = account->attributes.number;
    if (!names_number_free_locked(&cache->names, number))
        number = 0;
    struct inode *inode = names_make_locked(cache, parent, account->name, account->kind, number, aftermath);
    inode->renamed = inode->number != names_number(parent, account->name);
    return inode;
}

/* No name: its object waits to be deleted. */
static struct inode *make_doomed_locked(struct cache *cache, const struct account *account)
{
    struct inode *inode = inode_new(cache, account->kind, account->attributes.number);
    LOCK_SCOPED(&inode->lock);
    inode->orphan = true;
    inode->delete_at_release = account->key || account->trying;
    return inode;
}

/* How long its contents have waited. Of what was only renamed nobody knows. */
static int64_t age_ms(const struct account *account)
{
    int64_t changed_ns = account->attributes.ctime_ns, now_ns = clock_wall_ns();
    bool changed = account->content_version != account->remote_content_version;
    return changed && changed_ns > 0 && changed_ns < now_ns ? (now_ns - changed_ns) / 1000000 : 0;
}

/* A reference, to be settled when no lock is held. */
static struct inode *restore_locked(struct cache *cache, const struct account *account,
                                    struct aftermath *aftermath)
{
    struct inode *inode = !account->name ? make_doomed_locked(cache, account)
                          : account->kind == S_IFDIR
                              ? inode_ref(place_directory_locked(cache, account, aftermath))
                              : inode_ref(place_file_locked(cache, account, aftermath));
    inode->account = account->id;
    lock_take(&inode->lock);
    fill_locked(inode, account);
    lock_drop(&inode->lock);
    if (inode->delete_at_release)
        names_doom_locked(inode);
    else
        veil_update_locked(inode);
    LOCK_SCOPED(&inode->lock);
    if (inode->displaced && inode->type == S_IFLNK && !inode->target)
        names_set_target_locked(inode, account->target); /* should its object go before it has followed */
    if (!inode->orphan && inode_dirty_locked(inode)) {
        uploader_note_dirty_locked(inode);
        inode->waited_ms = age_ms(account); /* mounted or not */
    }
    return inode;
}

static void settle(struct inode *inode)
{
    if (inode->orphan && inode->delete_at_release)
        names_delete_behind(inode);
    if (inode->orphan && !inode->delete_at_release && !inode->resumed) {
        LOCK_SCOPED(&inode->lock);
        recording_forget_locked(inode);
    } else {
        uploader_publish(inode);
    }
    recording_tidy(inode);
    inode_unref(inode);
}

/* ---- All of them. ---- */

/* Nobody appends yet, so accounts stay what and where they are without the journal's lock. */
static struct account **list_accounts(struct cache *cache, size_t *ret_count)
{
    LOCK_SCOPED(journal_lock(cache->journal));
    struct ledger *ledger = journal_ledger_locked(cache->journal);
    struct account **accounts = xcalloc(HASH_CNT(by_id, ledger->accounts) + 1, sizeof accounts[0]);
    *ret_count = 0;
    for (struct account *at = ledger->accounts; at; at = at->by_id.next)
        accounts[(*ret_count)++] = at;
    return accounts;
}

struct place_account {
    uint64_t id, parent;
    char *name;
    bool empty; /* nothing stands in it: a process died before it said what was to */
};

static void note_place(struct place_account *to, const struct account *account)
{
    *to = (struct place_account){.id = account->id,
                                 .parent = account->parent ? account->parent->id : 0,
                                 .name = xstrdup(account->name ? account->name : ""),
                                 .empty = account->forgotten && !account->children};
}

/* An account that is a place only ends with the last of what is below; one with nothing below would hold its place for ever. So would
 * that of a file which was opened only (account.h). */
static void forget_place(struct cache *cache, const struct place_account *at)
{
    struct record place = {
        .type = RECORD_NODE, .id = at->id, .parent = at->parent, .name = at->name, .kind = S_IFDIR};
    struct record forget = {.type = RECORD_FORGET, .id = at->id};
    if (!journal_knows(cache->journal, at->id))
        return; /* it went with the last that stood in it */
    int rc = at->empty ? journal_append(cache->journal, &place, NULL) : 0;
    if (rc == 0)
        rc = journal_append(cache->journal, &forget, NULL);
    if (rc < 0)
        log_warn("journal: FORGET of %s: %s", at->name, err_name(rc));
}

static void restore_accounts(struct cache *cache, struct account **accounts, size_t count)
{
    struct inode **inodes = xcalloc(count + 1, sizeof inodes[0]);
    struct place_account *places = xcalloc(count + 1, sizeof places[0]);
    size_t files = 0, known = 0;
    {
        AFTERMATH_SCOPED(aftermath, cache);
        LOCK_SCOPED(&cache->names.lock);
        for (size_t i = 0; i < count; i++) {
            bool sent = accounts[i]->kind == S_IFDIR && !account_unsent(accounts[i], cache->prefix);
            if (!sent && accounts[i]->told)
                inodes[files++] = restore_locked(cache, accounts[i], &aftermath);
            else if (!accounts[i]->forgotten || !accounts[i]->children)
                note_place(&places[known++], accounts[i]);
        }
    }
    for (size_t i = 0; i < known; i++) {
        forget_place(cache, &places[i]);
        free(places[i].name);
    }
    for (size_t i = 0; i < files; i++)
        settle(inodes[i]);
    free(inodes);
    free(places);
}

/* ---- Local files. ---- */

struct local_names {
    char (*all)[SLAB_NAME_MAX]; /* sorted: the files that accounts name, or a slot of which they do */
    size_t count;
    char **strays; /* what nobody needs: of no account, or of one that has nothing unsent in it */
    size_t stray_count;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The file of the disk that a local name speaks of. */
static bool parse_local(const char *name, char ret_file[SLAB_NAME_MAX])
{
    if (slab_parse(name, ret_file))
        return true;
    if (strlen(name) != LOCAL_NAME_LENGTH || strspn(name, "0123456789abcdef") != LOCAL_NAME_LENGTH)
        return false;
    snprintf(ret_file, SLAB_NAME_MAX, "%s", name);
    return true;
}

static void note_locals(struct local_names *locals, struct account **accounts, size_t count)
{
    locals->all = xcalloc(count + 1, sizeof locals->all[0]);
    for (size_t i = 0; i < count; i++)
        if (accounts[i]->dirty.count && parse_local(accounts[i]->local, locals->all[locals->count]))
            locals->count++;
    qsort(locals->all, locals->count, sizeof locals->all[0], compare_names);
}

static int note_stray(void *context, const char *name)
{
    struct local_names *locals = context;
    char file[SLAB_NAME_MAX];
    if (!parse_local(name, file) ||
        bsearch(file, locals->all, locals->count, sizeof locals->all[0], compare_names))
        return 0;
    locals->strays = xrealloc(locals->strays, (locals->stray_count + 1) * sizeof locals->strays[0]);
    locals->strays[locals->stray_count++] = xstrdup(name);
    return 0;
}

static void clear_strays(struct cache *cache, struct local_names *locals)
{
    struct disk *disk = cache->config.disk;
    struct journal_report report;
    journal_report(cache->journal, &report);
    int rc = disk->ops->list(disk, note_stray, locals);
    if (report.fresh && locals->stray_count) {
        uint64_t offset;
        STRING_SCOPED *path = slab_path(disk, locals->strays[0], &offset);
        log_error("%zu local files, %s first, have no journal that says what they are: kept; save what you "
                  "need of them, then remove them",
                  locals->stray_count, path);
    }
    for (size_t i = 0; i < locals->stray_count; i++) {
        if (!report.fresh)
            disk->ops->remove(disk, locals->strays[i]);
        free(locals->strays[i]);
    }
    if (rc < 0)
        log_warn("local files of earlier runs: %s", err_name(rc));
    free(locals->strays);
    free(locals->all);
}

void restore_all(struct cache *cache)
{
    struct local_names locals = {0};
    size_t count;
    struct account **accounts = list_accounts(cache, &count);
    note_locals(&locals, accounts, count);
    clear_strays(cache, &locals);
    restore_accounts(cache, accounts, count);
    free(accounts);
}
