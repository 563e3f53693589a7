#include "cache/lmdb.h"

#include <assert.h>
#include <errno.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"

/* A reader of the pool: its slot in the lock file and its cursor are made once. */
struct lmdb_read {
    struct lmdb *lmdb;
    atomic_bool taken;
    MDB_txn *txn; /* NULL until first used; else reset */
    MDB_cursor *cursor;
};

struct lmdb {
    /* Set at birth. */
    MDB_env *env;
    MDB_dbi dbi;
    const char *mark;
    struct lmdb_read reads[LMDB_READS_MAX];
    /* The writer's. */
    MDB_txn *txn;
    MDB_cursor *cursor;
    char last[LMDB_KEY_MAX]; /* no key is behind it */
    size_t last_length;
};

static _Thread_local const char *inside;

const char *lmdb_inside(void)
{
    return inside;
}

/* ---- Errors. ---- */

static int translate(int rc)
{
    static const struct {
        int lmdb, rc;
    } table[] = {
        {MDB_KEYEXIST, -EEXIST},
        {MDB_NOTFOUND, -ENOENT},
        {MDB_PAGE_NOTFOUND, -EBADMSG},
        {MDB_CORRUPTED, -EBADMSG},
        {MDB_PANIC, -EIO},
        {MDB_VERSION_MISMATCH, -EBADMSG},
        {MDB_INVALID, -EBADMSG},
        {MDB_MAP_FULL, -ENOBUFS},
        {MDB_READERS_FULL, -EAGAIN},
        {MDB_TXN_FULL, -ENOBUFS},
        {MDB_CURSOR_FULL, -EBADMSG},
        {MDB_PAGE_FULL, -EBADMSG},
        {MDB_MAP_RESIZED, -EBADMSG},
        {MDB_INCOMPATIBLE, -EBADMSG},
        {MDB_BAD_RSLOT, -EAGAIN},
        {MDB_BAD_TXN, -EIO},
        {MDB_BAD_VALSIZE, -ENAMETOOLONG},
        {MDB_BAD_DBI, -EBADMSG},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].lmdb == rc)
            return table[i].rc;
    return rc < 0 ? -EIO : -rc;
}

/* LMDB aborts after it: the mark makes the next start begin afresh. */
static void tell_assertion(MDB_env *env, const char *text)
{
    (void)env;
    log_error("catalog: LMDB: %s: the file is damaged", text);
}

/* ---- Opening. ---- */

static int open_table(struct lmdb *lmdb)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(lmdb->env, NULL, 0, &txn);

    if (rc)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &lmdb->dbi);
    if (rc)
        mdb_txn_abort(txn);
    else
        rc = mdb_txn_commit(txn);
    return rc;
}

static int open_environment(struct lmdb *lmdb, const char *directory, uint64_t bytes_max)
{
    int rc = mdb_env_create(&lmdb->env);

    if (rc)
        return rc;
    mdb_env_set_assert(lmdb->env, tell_assertion);
    rc = mdb_env_set_mapsize(lmdb->env, bytes_max);
    if (!rc)
        rc = mdb_env_set_maxreaders(lmdb->env, LMDB_READS_MAX + 1);
    if (!rc)
        rc = mdb_env_open(lmdb->env, directory, MDB_NOSYNC | MDB_NOTLS, 0600);
    return rc ? rc : open_table(lmdb);
}

int lmdb_open(const char *directory, uint64_t bytes_max, const char *mark, struct lmdb **ret_lmdb)
{
    struct lmdb *lmdb = xcalloc(1, sizeof *lmdb);

    lmdb->mark = mark;
    for (int i = 0; i < LMDB_READS_MAX; i++)
        lmdb->reads[i].lmdb = lmdb;
    inside = mark;
    int rc = open_environment(lmdb, directory, bytes_max);
    inside = NULL;
    if (rc) {
        lmdb_close(lmdb);
        return translate(rc);
    }
    *ret_lmdb = lmdb;
    return 0;
}

void lmdb_close(struct lmdb *lmdb)
{
    if (!lmdb)
        return;
    assert(!lmdb->txn);
    inside = lmdb->mark;
    for (int i = 0; i < LMDB_READS_MAX; i++) {
        struct lmdb_read *read = &lmdb->reads[i];
        assert(!atomic_load(&read->taken));
        if (read->cursor)
            mdb_cursor_close(read->cursor);
        mdb_txn_abort(read->txn);
    }
    if (lmdb->env)
        mdb_env_close(lmdb->env);
    inside = NULL;
    free(lmdb);
}

int lmdb_flush(struct lmdb *lmdb)
{
    inside = lmdb->mark;
    int rc = mdb_env_sync(lmdb->env, 1);
    inside = NULL;
    return translate(rc);
}

void lmdb_usage(struct lmdb *lmdb, struct lmdb_usage *ret_usage)
{
    MDB_stat stat = {0};

    inside = lmdb->mark;
    mdb_env_stat(lmdb->env, &stat);
    inside = NULL;
    ret_usage->bytes = (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) * stat.ms_psize;
    ret_usage->entries = stat.ms_entries;
}

/* ---- Reading. ---- */

static int renew(struct lmdb_read *read)
{
    if (read->txn)
        return mdb_txn_renew(read->txn);
    int rc = mdb_txn_begin(read->lmdb->env, NULL, MDB_RDONLY, &read->txn);
    if (rc)
        read->txn = NULL;
    return rc;
}

int lmdb_read_begin(struct lmdb *lmdb, struct lmdb_read **ret_read)
{
    struct lmdb_read *read = lmdb->reads;

    while (atomic_exchange(&read->taken, true))
        if (++read == lmdb->reads + LMDB_READS_MAX)
            return -EAGAIN;
    inside = lmdb->mark;
    int rc = renew(read);
    if (rc) {
        inside = NULL;
        atomic_store(&read->taken, false);
        return translate(rc);
    }
    *ret_read = read;
    return 0;
}

void lmdb_read_end(struct lmdb_read *read)
{
    if (!read)
        return;
    mdb_txn_reset(read->txn);
    inside = NULL;
    atomic_store(&read->taken, false);
}

int lmdb_get(struct lmdb_read *read, const void *key, size_t length, struct lmdb_bytes *ret_value)
{
    MDB_val name = {length, (void *)key}, value;
    int rc = mdb_get(read->txn, read->lmdb->dbi, &name, &value);

    if (!rc)
        *ret_value = (struct lmdb_bytes){value.mv_data, value.mv_size};
    return translate(rc);
}

static int move(struct lmdb_read *read, MDB_val *key, MDB_cursor_op op, struct lmdb_bytes *ret_key,
                struct lmdb_bytes *ret_value)
{
    MDB_val value;
    int rc = mdb_cursor_get(read->cursor, key, &value, op);

    if (rc)
        return translate(rc);
    *ret_key = (struct lmdb_bytes){key->mv_data, key->mv_size};
    *ret_value = (struct lmdb_bytes){value.mv_data, value.mv_size};
    return 0;
}

int lmdb_seek(struct lmdb_read *read, const void *key, size_t length, struct lmdb_bytes *ret_key,
              struct lmdb_bytes *ret_value)
{
    MDB_val name = {length, (void *)key};
    int rc = read->cursor ? mdb_cursor_renew(read->txn, read->cursor)
                          : mdb_cursor_open(read->txn, read->lmdb->dbi, &read->cursor);

    return rc ? translate(rc) : move(read, &name, MDB_SET_RANGE, ret_key, ret_value);
}

int lmdb_next(struct lmdb_read *read, struct lmdb_bytes *ret_key, struct lmdb_bytes *ret_value)
{
    MDB_val name;
    return move(read, &name, MDB_NEXT, ret_key, ret_value);
}

/* ---- Writing. ---- */

/* Whoever writes in the order of keys, behind all there are, fills pages to their ends, and nothing is looked for. */
static int find_last(struct lmdb *lmdb)
{
    MDB_val key, value;
    int rc = mdb_cursor_get(lmdb->cursor, &key, &value, MDB_LAST);

    lmdb->last_length = 0;
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc || key.mv_size > sizeof lmdb->last)
        return rc ? rc : MDB_CORRUPTED;
    memcpy(lmdb->last, key.mv_data, key.mv_size);
    lmdb->last_length = key.mv_size;
    return 0;
}

int lmdb_write_begin(struct lmdb *lmdb)
{
    assert(!lmdb->txn);
    inside = lmdb->mark;
    int rc = mdb_txn_begin(lmdb->env, NULL, 0, &lmdb->txn);
    if (rc) {
        inside = NULL;
        lmdb->txn = NULL;
        return translate(rc);
    }
    rc = mdb_cursor_open(lmdb->txn, lmdb->dbi, &lmdb->cursor);
    if (!rc)
        rc = find_last(lmdb);
    if (rc)
        lmdb_write_abort(lmdb);
    return translate(rc);
}

static bool is_behind_last(const struct lmdb *lmdb, const void *key, size_t length)
{
    size_t common = length < lmdb->last_length ? length : lmdb->last_length;
    int order = memcmp(key, lmdb->last, common);

    return order > 0 || (order == 0 && length > lmdb->last_length);
}

static int append(struct lmdb *lmdb, MDB_val *key, MDB_val *value)
{
    int rc = mdb_cursor_put(lmdb->cursor, key, value, MDB_APPEND);

    if (!rc) {
        memcpy(lmdb->last, key->mv_data, key->mv_size);
        lmdb->last_length = key->mv_size;
    }
    return translate(rc);
}

int lmdb_write_put(struct lmdb *lmdb, const void *key, size_t length, const struct lmdb_bytes *value)
{
    MDB_val name = {length, (void *)key}, wanted = {value->length, (void *)value->bytes}, old;

    assert(length && length <= LMDB_KEY_MAX);
    if (is_behind_last(lmdb, key, length))
        return append(lmdb, &name, &wanted);
    int rc = mdb_cursor_get(lmdb->cursor, &name, &old, MDB_SET);
    if (!rc && old.mv_size == wanted.mv_size && memcmp(old.mv_data, wanted.mv_data, wanted.mv_size) == 0)
        return 0;
    if (rc && rc != MDB_NOTFOUND)
        return translate(rc);
    return translate(mdb_cursor_put(lmdb->cursor, &name, &wanted, rc ? 0 : MDB_CURRENT));
}

int lmdb_write_delete(struct lmdb *lmdb, const void *key, size_t length)
{
    MDB_val name = {length, (void *)key};
    int rc = mdb_cursor_get(lmdb->cursor, &name, NULL, MDB_SET);

    if (!rc)
        rc = mdb_cursor_del(lmdb->cursor, 0);
    return rc == MDB_NOTFOUND ? 0 : translate(rc);
}

int lmdb_write_first(struct lmdb *lmdb, const void *prefix, size_t length, struct lmdb_bytes *ret_key,
                     struct lmdb_bytes *ret_value)
{
    MDB_val key = {length, (void *)prefix}, value;
    int rc = mdb_cursor_get(lmdb->cursor, &key, &value, MDB_SET_RANGE);

    if (rc)
        return translate(rc);
    if (key.mv_size < length || memcmp(key.mv_data, prefix, length) != 0)
        return -ENOENT;
    *ret_key = (struct lmdb_bytes){key.mv_data, key.mv_size};
    *ret_value = (struct lmdb_bytes){value.mv_data, value.mv_size};
    return 0;
}

int lmdb_write_delete_here(struct lmdb *lmdb)
{
    return translate(mdb_cursor_del(lmdb->cursor, 0));
}

int lmdb_write_commit(struct lmdb *lmdb)
{
    mdb_cursor_close(lmdb->cursor);
    int rc = mdb_txn_commit(lmdb->txn);
    lmdb->txn = NULL;
    lmdb->cursor = NULL;
    inside = NULL;
    return translate(rc);
}

void lmdb_write_abort(struct lmdb *lmdb)
{
    if (lmdb->cursor)
        mdb_cursor_close(lmdb->cursor);
    mdb_txn_abort(lmdb->txn);
    lmdb->txn = NULL;
    lmdb->cursor = NULL;
    inside = NULL;
}
