#include "cache/ledger.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 255
#define PLACE_MAX      (sizeof(uint64_t) + NAME_MAX_BYTES + 1)

/* ---- The table. ---- */

void ledger_init(struct ledger *ledger)
{
    *ledger = (struct ledger){.next_id = 1};
    list_init(&ledger->dumped);
    list_init(&ledger->undumped);
}

void ledger_release(struct ledger *ledger)
{
    struct account *account, *after;
    HASH_CLEAR(by_place, ledger->places);
    HASH_ITER (by_id, ledger->accounts, account, after) {
        HASH_DELETE(by_id, ledger->accounts, account);
        account_free(account);
    }
    free(ledger->source);
    *ledger = (struct ledger){0};
}

struct account *ledger_find(const struct ledger *ledger, uint64_t id)
{
    struct account *account = NULL;
    if (id && id < ledger->next_id) /* 0 is the root, or nobody; the others were never used */
        HASH_FIND(by_id, ledger->accounts, &id, sizeof id, account);
    return account;
}

/* The key of by_place: {parent's id, name}, and NUL. */
static size_t print_place(uint64_t parent, const char *name, char out[PLACE_MAX])
{
    size_t length = strlen(name);
    assert(length <= NAME_MAX_BYTES);
    memcpy(out, &parent, sizeof parent);
    memcpy(out + sizeof parent, name, length + 1);
    return sizeof parent + length;
}

static struct account *find_place(const struct ledger *ledger, uint64_t parent, const char *name)
{
    struct account *account;
    char place[PLACE_MAX];
    size_t length = print_place(parent, name, place);
    HASH_FIND(by_place, ledger->places, place, length, account);
    return account;
}

/* ---- Dumps. ---- */

static void dump_one(struct ledger *ledger, struct account *account)
{
    account->round = ledger->round;
    list_remove(&account->turn);
    list_append(&ledger->dumped, &account->turn);
    account_dump(account, ledger->each, ledger->context);
}

/* The account as it stood when the dump began, and before it the directories that it stands in. Whatever would have changed
 * one of them since, its place too, has dumped it before. */
static void dump_with_parents(struct ledger *ledger, struct account *account)
{
    while (account->round != ledger->round) {
        struct account *top = account;
        while (top->parent && top->parent->round != ledger->round)
            top = top->parent;
        dump_one(ledger, top);
    }
}

static void note_change(struct ledger *ledger, struct account *account)
{
    if (ledger->each && account)
        dump_with_parents(ledger, account);
}

void ledger_dump_begin(struct ledger *ledger, ledger_each *each, void *context)
{
    assert(!ledger->each && list_empty(&ledger->undumped));
    list_splice(&ledger->undumped, &ledger->dumped);
    ledger->round++;
    ledger->each = each;
    ledger->context = context;
    struct record heading = {.type = RECORD_HEADING,
                             .format = RECORD_FORMAT,
                             .source = ledger->source,
                             .next_id = ledger->next_id};
    each(context, &heading);
}

bool ledger_dump_more(struct ledger *ledger, size_t bytes)
{
    size_t done = 0;
    assert(ledger->each);
    while (!list_empty(&ledger->undumped) && done < bytes) {
        struct account *account = container_of(ledger->undumped.next, struct account, turn);
        done += account->bytes; /* those above it come on top: few, and each only once */
        dump_with_parents(ledger, account);
    }
    if (!list_empty(&ledger->undumped))
        return true;
    ledger_dump_end(ledger);
    return false;
}

void ledger_dump_end(struct ledger *ledger)
{
    list_splice(&ledger->dumped, &ledger->undumped);
    ledger->each = NULL;
}

void ledger_dump(struct ledger *ledger, ledger_each *each, void *context)
{
    ledger_dump_begin(ledger, each, context);
    while (ledger_dump_more(ledger, SIZE_MAX))
        ;
}

/* ---- Places. ---- */

static void free_account(struct ledger *ledger, struct account *account)
{
    assert(!account->name && !account->children);
    HASH_DELETE(by_id, ledger->accounts, account);
    list_remove(&account->turn);
    ledger->bytes -= account->bytes;
    account_free(account);
}

/* Nothing stands under its name any more. The directory itself stays. */
static void leave_place(struct ledger *ledger, struct account *account)
{
    if (!account->name)
        return;
    HASH_DELETE(by_place, ledger->places, account);
    free(account->place);
    account->place = account->name = NULL;
    if (account->parent)
        account->parent->children--;
    account->parent = NULL;
}

/* Forgotten directories that nothing stands in any more. */
static void free_forgotten(struct ledger *ledger, struct account *account)
{
    while (account && account->forgotten && account->children == 0) {
        struct account *parent = account->parent;
        note_change(ledger, account);
        leave_place(ledger, account);
        free_account(ledger, account);
        account = parent;
    }
}

static void enter_place(struct ledger *ledger, struct account *account, struct account *parent,
                        const char *name)
{
    char place[PLACE_MAX];
    size_t length = print_place(parent ? parent->id : 0, name, place);
    account->place = xmalloc(length + 1);
    memcpy(account->place, place, length + 1);
    account->name = account->place + sizeof(uint64_t);
    account->parent = parent;
    if (parent)
        parent->children++;
    HASH_ADD_KEYPTR(by_place, ledger->places, account->place, length, account);
}

static void lose_name(struct ledger *ledger, struct account *account)
{
    struct account *parent = account->parent;
    leave_place(ledger, account);
    account_give_up(account);
    free_forgotten(ledger, parent);
}

static struct account *add_account(struct ledger *ledger, const struct record *record)
{
    struct account *account = account_new(record->id, record->kind, record->target);
    account->round = ledger->round; /* no dump under way knows it */
    account->forgotten = record->forgotten;
    HASH_ADD(by_id, ledger->accounts, id, sizeof account->id, account);
    list_append(&ledger->dumped, &account->turn);
    if (ledger->next_id <= record->id)
        ledger->next_id = record->id + 1;
    return account;
}

static bool has_text(const char *text)
{
    return text && *text;
}

/* ---- What fits. ---- */

static int refuse(struct buf *why, const char *words)
{
    buf_add_string(why, words);
    return -EBADMSG;
}

static bool is_name(const char *name)
{
    return strlen(name) <= NAME_MAX_BYTES && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static int admit_parent(const struct ledger *ledger, const struct record *record, struct buf *why)
{
    int depth = 0;
    const struct account *parent = ledger_find(ledger, record->parent);
    if (record->parent == 0)
        return 0;
    if (!parent)
        return refuse(why, "a directory that has no account");
    if (parent->kind != S_IFDIR || !parent->name)
        return refuse(why, "a place in what is no directory, or has no name");
    for (; parent; parent = parent->parent, depth++)
        if (parent->id == record->id)
            return refuse(why, "a directory below itself");
    return depth > LEDGER_DEPTH_MAX ? refuse(why, "directories too deep") : 0;
}

static int admit_place(const struct ledger *ledger, const struct record *record, struct buf *why)
{
    const struct account *there;
    int rc = is_name(record->name) ? admit_parent(ledger, record, why) : refuse(why, "no name of a file");
    if (rc < 0)
        return rc;
    there = find_place(ledger, record->parent, record->name);
    uint64_t taken = there && there->id != record->id ? there->id : 0;
    if (taken != record->replaced)
        return refuse(why, taken ? "a place that is taken" : "a place taken from who is not there");
    if (taken && there->children)
        return refuse(why, "a directory replaced that is not empty");
    return 0;
}

static int admit_node(const struct ledger *ledger, const struct account *account, const struct record *record,
                      struct buf *why)
{
    if (record->id == 0 || record->id == UINT64_MAX || !account_kind_known(record->kind) ||
        (account && account->kind != record->kind))
        return refuse(why, "an id or a type that cannot be");
    if (has_text(record->target) && !account_target_fits(record->kind, record->target))
        return refuse(why, "a target of what is no symlink, or numbers of no device");
    if (record->forgotten && (account || record->kind != S_IFDIR || !has_text(record->name)))
        return refuse(why, "a forgotten account that is no new directory");
    if (has_text(record->name))
        return admit_place(ledger, record, why);
    if (record->replaced || (account && account->children))
        return refuse(why, "no name, but others depend on it");
    return 0;
}

static int admit_birth(const struct ledger *ledger, const struct account *account,
                       const struct record *record, struct buf *why)
{
    const struct account unborn = {.kind = record->kind};
    if (account || !has_text(record->name))
        return refuse(why, "a birth of what is there, or without a name");
    if (record->kind == S_IFLNK && !has_text(record->target))
        return refuse(why, "a symlink without a target");
    int rc = admit_node(ledger, NULL, record, why);
    if (rc == 0 && record->type == RECORD_BIRTH_EXCLUSIVE && record->kind == S_IFDIR)
        return refuse(why, "an exclusive one that is no file");
    if (rc == 0 && record->size > OBJECT_BYTES_MAX)
        return refuse(why, "a size over 5 TiB");
    /* Its mode is one of its type. */
    struct record attributes = {.type = RECORD_ATTRIBUTES, .attributes = record->attributes};
    return rc < 0 ? rc : account_admits(&unborn, &attributes, why);
}

static int admit(const struct ledger *ledger, const struct record *record, struct buf *why)
{
    const struct account *account = ledger_find(ledger, record->id);
    if (record->type == RECORD_HEADING || record->type == RECORD_BOOT || record->type == RECORD_MARK)
        return 0;
    if (record->type == RECORD_NODE)
        return admit_node(ledger, account, record, why);
    if (record_is_birth(record))
        return admit_birth(ledger, account, record, why);
    if (!account)
        return refuse(why, "it has no account");
    if (account->forgotten)
        return refuse(why, "it was forgotten");
    return account_admits(account, record, why);
}

int ledger_admits(const struct ledger *ledger, const struct record *record, struct buf *why)
{
    BUF_SCOPED words = BUF_INIT;
    int rc = admit(ledger, record, &words);
    if (rc < 0 && rc != -E2BIG)
        buf_printf(why, "%s of file %" PRIu64 ": %s", record_type_name(record->type), record->id,
                   words.bytes);
    return rc;
}

/* ---- Records. ---- */

static void set_heading(struct ledger *ledger, const struct record *record)
{
    free(ledger->source);
    ledger->source = xstrdup(record->source ? record->source : "");
    if (ledger->next_id < record->next_id)
        ledger->next_id = record->next_id;
}

static void set_place(struct ledger *ledger, struct account *account, const struct record *record)
{
    struct account *parent = ledger_find(ledger, record->parent), *old = account->parent;
    struct account *replaced = ledger_find(ledger, record->replaced);
    account->forgotten = account->forgotten && record->forgotten;
    if (!has_text(record->name)) {
        lose_name(ledger, account);
        return;
    }
    if (account->name && old == parent && strcmp(account->name, record->name) == 0)
        return;
    /* In the new place before the old directory is looked at: it may be the same one, or above. */
    if (replaced) {
        size_t before = replaced->bytes;
        note_change(ledger, replaced);
        leave_place(ledger, replaced);
        account_give_up(replaced);
        replaced->bytes = account_bytes(replaced);
        ledger->bytes += replaced->bytes - before;
    }
    leave_place(ledger, account);
    enter_place(ledger, account, parent, record->name);
    account->exclusive = false;
    free_forgotten(ledger, old);
}

static void forget(struct ledger *ledger, struct account *account)
{
    struct account *parent = account->parent;
    if (account->children) {
        account_clear(account);
        account->forgotten = true;
        return;
    }
    leave_place(ledger, account);
    free_account(ledger, account);
    free_forgotten(ledger, parent);
}

/* NULL: it is gone. */
static struct account *apply(struct ledger *ledger, struct account *account, const struct record *record)
{
    if (record->type == RECORD_FORGET) {
        bool stays = account->children;
        forget(ledger, account);
        return stays ? account : NULL;
    }
    if (!account)
        account = add_account(ledger, record);
    if (record->type == RECORD_NODE || record_is_birth(record))
        set_place(ledger, account, record);
    account_apply(account, record);
    return account;
}

int ledger_apply(struct ledger *ledger, const struct record *record, struct buf *why)
{
    int rc = ledger_admits(ledger, record, why);
    if (rc < 0)
        return rc;
    if (record->type == RECORD_HEADING)
        set_heading(ledger, record);
    if (record->type == RECORD_HEADING || record->type == RECORD_BOOT || record->type == RECORD_MARK)
        return 0;
    struct account *account = ledger_find(ledger, record->id);
    note_change(ledger, account);
    account = apply(ledger, account, record);
    if (account) {
        ledger->bytes -= account->bytes;
        account->bytes = account_bytes(account);
        ledger->bytes += account->bytes;
    }
    return 0;
}

/* ---- Checks. ---- */

void ledger_check(const struct ledger *ledger)
{
    size_t children = 0, stood = 0, named = 0, turns = 0;
    uint64_t bytes = 0;
    for (struct account *at = ledger->accounts; at; at = at->by_id.next) {
        account_check(at);
        assert(at->id > 0 && at->id < ledger->next_id);
        assert(ledger_find(ledger, at->id) == at);
        assert(!at->name || find_place(ledger, at->parent ? at->parent->id : 0, at->name) == at);
        children += at->children;
        stood += at->parent != NULL;
        named += at->name != NULL;
        bytes += at->bytes;
    }
    list_for_each (at, &ledger->dumped)
        turns++;
    list_for_each (at, &ledger->undumped)
        turns++;
    assert(children == stood && bytes == ledger->bytes);
    assert(named == HASH_CNT(by_place, ledger->places));
    assert(turns == HASH_CNT(by_id, ledger->accounts));
}
