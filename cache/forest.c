#include "cache/forest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/observed.h"
#include "cache/server.h"

/* A directory, by its key, where something changed here. */
struct touch {
    UT_hash_handle hh;
    uint64_t within; /* when its name, or one in it, was touched last */
    uint64_t whole;  /* ... so that what was below is of no moment */
    char key[];
};

/* A LIST that is under way. */
struct ask {
    struct list link;
    const char *prefix, *after;
    int keys;
    uint64_t number; /* they are numbered as they come */
};

struct forest {
    struct cache *cache;
    /* All under the lock of names. */
    struct swath *swaths[FOREST_SWATHS];
    struct list asks;
    size_t ask_count;
    uint64_t asked; /* the number of the last one */
    struct touch *touches;
    uint64_t sequence;  /* grows with each touch */
    uint64_t cleared;   /* what was asked for before this is worth nothing */
    uint64_t first_id;  /* inodes with smaller ids were there when the oldest swath was asked for */
    int64_t until_ms;   /* the last of the swaths is of use */
    int keys;           /* of the next one */
    unsigned pause;     /* so many who would ask do not */
    unsigned pause_max; /* and so many after the last failure */
};

/* ---- Touches. ---- */

static void forget_touches_locked(struct forest *forest)
{
    struct touch *touch, *next;

    HASH_ITER (hh, forest->touches, touch, next) {
        HASH_DEL(forest->touches, touch);
        free(touch);
    }
}

void forest_clear_locked(struct cache *cache)
{
    struct forest *forest = cache->forest;

    forest->cleared = ++forest->sequence;
    forest->until_ms = 0;
    forget_touches_locked(forest);
}

static struct touch *touch_locked(struct forest *forest, const char *key)
{
    size_t length = strlen(key);
    struct touch *touch;

    HASH_FIND(hh, forest->touches, key, length, touch);
    if (touch)
        return touch;
    touch = xcalloc(1, sizeof *touch + length + 1);
    memcpy(touch->key, key, length + 1);
    HASH_ADD_KEYPTR(hh, forest->touches, touch->key, length, touch);
    return touch;
}

/* Nobody will look at what was touched. */
static bool is_idle_locked(const struct forest *forest)
{
    return !forest->ask_count && clock_ms() >= forest->until_ms;
}

/* Of a directory that was there before all swaths only its marker was written, or something below it. */
void forest_touched_locked(const struct inode *parent, const char *name)
{
    struct forest *forest = parent->cache->forest;
    BUF_SCOPED key = BUF_INIT;

    if (is_idle_locked(forest))
        forget_touches_locked(forest);
    if (is_idle_locked(forest) || names_key_locked(parent, &key) < 0)
        return;
    const struct inode *inode = names_find_locked(&forest->cache->names, parent, name);
    touch_locked(forest, key.bytes)->within = ++forest->sequence;
    if (!inode || inode->type == S_IFDIR) {
        buf_printf(&key, "%s/", name);
        struct touch *touch = touch_locked(forest, key.bytes);
        touch->within = forest->sequence;
        if (!inode || inode->id >= forest->first_id)
            touch->whole = forest->sequence;
    }
    if (HASH_COUNT(forest->touches) > FOREST_TOUCHES)
        forest_clear_locked(forest->cache);
}

static const struct touch *find_touch_locked(const struct forest *forest, const char *key, size_t length)
{
    struct touch *touch;
    HASH_FIND(hh, forest->touches, key, length, touch);
    return touch;
}

/* Since the swath was asked for. */
static bool is_touched_locked(const struct forest *forest, const struct swath *swath, const char *key)
{
    size_t length = strlen(key);
    const struct touch *touch = find_touch_locked(forest, key, length);

    if (touch && touch->within > swath->sequence)
        return true;
    for (; length; length--) {
        if (key[length - 1] != '/')
            continue;
        touch = find_touch_locked(forest, key, length);
        if (touch && touch->whole > swath->sequence)
            return true;
    }
    return false;
}

/* ---- Who walks. ---- */

static bool is_fresh_locked(const struct inode *directory)
{
    return directory->walked_ms && directory->walked_ms + FOREST_WALK_MS > clock_ms();
}

/* It is asked for, as something of its parent. */
static void note_locked(struct inode *directory)
{
    struct inode *parent = directory->parent;

    if (!is_fresh_locked(parent)) {
        parent->walked = false;
        parent->walked_id = directory->id;
    }
    parent->walked = parent->walked || parent->walked_id != directory->id;
    parent->walked_id = directory->id;
    parent->walked_ms = clock_ms();
}

static bool is_walked_locked(const struct inode *directory)
{
    return directory->walked && is_fresh_locked(directory);
}

/* The highest directory that is walked; NULL: nothing tells that any is. */
static struct inode *find_walked_locked(struct inode *directory)
{
    struct inode *parent = directory->parent, *above = parent->parent, *found = NULL;

    if (is_walked_locked(parent))
        found = parent;
    else if (above && is_walked_locked(above))
        found = above;
    while (found && found->parent && is_walked_locked(found->parent))
        found = found->parent;
    return found;
}

/* ---- Swaths. ---- */

static void set_failed_locked(struct forest *forest)
{
    unsigned twice = forest->pause_max ? forest->pause_max * 2 : FOREST_PAUSE;
    forest->pause_max = forest->pause = twice < FOREST_PAUSE_MAX ? twice : FOREST_PAUSE_MAX;
}

static bool is_useful_locked(const struct forest *forest, const struct swath *swath)
{
    return swath->sequence >= forest->cleared && swath->until_ms > clock_ms();
}

/* By the answers that it gave. `ends`: there will be no more; else it has failed when it was looked at in vain instead. */
static void judge_locked(struct forest *forest, struct swath *swath, bool ends)
{
    bool fails = swath->used <= 1;

    if (fails && !swath->failed && (ends || swath->vain >= FOREST_WORTH)) {
        swath->failed = true;
        set_failed_locked(forest);
    }
    if (!fails && ends)
        forest->pause_max = 0;
}

static void judge_all_locked(struct forest *forest)
{
    for (size_t i = 0; i < FOREST_SWATHS; i++)
        if (forest->swaths[i])
            judge_locked(forest, forest->swaths[i], false);
}

static const struct swath *find_newest_locked(const struct forest *forest)
{
    const struct swath *newest = NULL;

    for (size_t i = 0; i < FOREST_SWATHS; i++)
        if (forest->swaths[i] && (!newest || forest->swaths[i]->asked_ms >= newest->asked_ms))
            newest = forest->swaths[i];
    return newest;
}

/* Nobody will look at it any more. The newest one tells for a while how many keys to ask for. */
static bool is_spent_locked(const struct forest *forest, const struct swath *swath)
{
    bool counts = swath == find_newest_locked(forest) && swath->until_ms + FOREST_WALK_MS >= clock_ms();
    return !is_useful_locked(forest, swath) && !counts;
}

/* Swaths that have left their places, to be released when the lock has been dropped. */
struct gone {
    struct swath *all[FOREST_SWATHS];
    size_t count;
};

static void leave_locked(struct forest *forest, size_t place, struct gone *gone)
{
    gone->all[gone->count++] = forest->swaths[place];
    forest->swaths[place] = NULL;
}

static void leave_spent_locked(struct forest *forest, struct gone *gone)
{
    for (size_t i = 0; i < FOREST_SWATHS; i++)
        if (forest->swaths[i] && is_spent_locked(forest, forest->swaths[i])) {
            judge_locked(forest, forest->swaths[i], true);
            leave_locked(forest, i, gone);
        }
}

/* No lock is held. */
static void release_gone(struct gone *gone)
{
    while (gone->count)
        swath_unref(gone->all[--gone->count]);
}

/* Blocks had not enough: a swath costs one LIST. */
static void reclaim(void *context, size_t bytes)
{
    struct forest *forest = context;
    struct lock *lock = &forest->cache->names.lock;
    struct gone gone = {0};

    (void)bytes;
    lock_take(lock);
    leave_spent_locked(forest, &gone);
    for (size_t i = 0; i < FOREST_SWATHS; i++)
        if (forest->swaths[i])
            leave_locked(forest, i, &gone); /* before its time: it is not judged */
    lock_drop(lock);
    release_gone(&gone);
}

/* A free place, or that of the oldest one, which is judged. */
static size_t make_room_locked(struct forest *forest, struct gone *gone)
{
    size_t oldest = 0;

    leave_spent_locked(forest, gone);
    for (size_t i = 0; i < FOREST_SWATHS; i++) {
        if (!forest->swaths[i] || !is_useful_locked(forest, forest->swaths[i])) {
            oldest = i;
            break;
        }
        if (forest->swaths[i]->asked_ms < forest->swaths[oldest]->asked_ms)
            oldest = i;
    }
    if (forest->swaths[oldest]) {
        judge_locked(forest, forest->swaths[oldest], true);
        leave_locked(forest, oldest, gone);
    }
    return oldest;
}

static void take_in_locked(struct forest *forest, struct swath *swath, struct gone *gone)
{
    const struct cache_config *config = &forest->cache->config;
    int64_t good_ms = swath->asked_ms + config->attr_ttl_ms;

    swath->until_ms = clock_ms() + config->attr_ttl_ms / 2;
    if (swath->until_ms > good_ms)
        swath->until_ms = good_ms;
    forest->swaths[make_room_locked(forest, gone)] = swath;
    if (forest->until_ms < swath->until_ms)
        forest->until_ms = swath->until_ms;
    swath->failed = swath->whole < FOREST_WORTH && !swath->last;
    if (swath->failed)
        set_failed_locked(forest);
}

/* Of those that were asked for then, or later. */
static struct swath *find_locked(const struct forest *forest, const char *key, int64_t since_ms,
                                 bool (*tells)(const struct swath *swath, const char *key))
{
    for (size_t i = 0; i < FOREST_SWATHS; i++) {
        struct swath *swath = forest->swaths[i];
        if (swath && is_useful_locked(forest, swath) && swath->asked_ms >= since_ms && tells(swath, key) &&
            !is_touched_locked(forest, swath, key))
            return swath;
    }
    return NULL;
}

static bool tells_first(const struct swath *swath, const char *key)
{
    return swath_first(swath, key) != NULL;
}

/* ---- Asking. ---- */

/* Of who asks from this key on. */
static int count_keys_locked(struct forest *forest, const char *key)
{
    const struct swath *newest = find_newest_locked(forest);
    int64_t now_ms = clock_ms();

    if (!newest || newest->until_ms + FOREST_WALK_MS < now_ms)
        forest->keys = FOREST_KEYS;
    else if (swath_ends_before(newest, key))
        forest->keys = forest->keys * 2 < STORE_LIST_MAX ? forest->keys * 2 : STORE_LIST_MAX;
    else if (newest->until_ms <= now_ms && strcmp(newest->after, key) < 0)
        forest->keys = forest->keys / 2 > FOREST_KEYS_MIN ? forest->keys / 2 : FOREST_KEYS_MIN;
    return forest->keys;
}

/* The lock of names is not held. No failure of it is anybody's answer. */
static int run_list(struct forest *forest, struct ask *ask, struct store_call *list, struct waiter *waiter)
{
    struct cache *cache = forest->cache;
    BUF_SCOPED words = BUF_INIT;

    *list = server_call(cache, STORE_LIST, NULL);
    list->prefix = ask->prefix;
    list->start_after = ask->after;
    list->max_keys = ask->keys;
    if (list->patience_ms > FOREST_PATIENCE_MS)
        list->patience_ms = FOREST_PATIENCE_MS;
    int rc = list->rc = store_wait(cache->config.store, list, waiter);
    server_count(cache, list);
    if (rc == 0 || rc == -EINTR || rc == -ECANCELED)
        return rc == -ECANCELED ? -EINTR : rc;
    store_error_print(&list->error, rc, &words);
    log_warn("list: LIST %s from %s on: %s: its directories are asked for one by one", ask->prefix,
             ask->after, words.bytes);
    return rc;
}

static int ask_locked(struct forest *forest, struct ask *ask, struct waiter *waiter)
{
    struct names *names = &forest->cache->names;
    int64_t asked_ms = clock_ms(), asked_ns = clock_wall_ns();
    struct swath *swath = NULL;
    struct gone gone = {0};
    struct store_call list;

    if (is_idle_locked(forest)) {
        forget_touches_locked(forest);
        forest->first_id = names->next_id;
    }
    uint64_t sequence = forest->sequence;
    forest->ask_count++;
    ask->number = ++forest->asked;
    list_append(&forest->asks, &ask->link);
    leave_spent_locked(forest, &gone);
    lock_drop(&names->lock);
    release_gone(&gone);
    int rc = run_list(forest, ask, &list, waiter);
    if (rc == 0)
        swath = swath_new(forest->cache->config.memory, &list);
    store_call_release(&list);
    lock_take(&names->lock);
    if (swath) {
        swath->asked_ms = asked_ms;
        swath->asked_ns = asked_ns;
        swath->sequence = sequence;
        take_in_locked(forest, swath, &gone);
    } else if (rc != -EINTR) {
        set_failed_locked(forest);
    }
    forest->ask_count--;
    list_remove(&ask->link);
    gate_open(&names->turn);
    lock_drop(&names->lock);
    release_gone(&gone);
    lock_take(&names->lock);
    return rc == -EINTR ? rc : 0;
}

/* One that is under way, and no later one than `last`, may tell of it. */
static bool may_come_locked(const struct forest *forest, const char *key, uint64_t last)
{
    list_for_each (at, &forest->asks) {
        const struct ask *ask = container_of(at, struct ask, link);
        if (ask->number <= last && strcmp(key, ask->after) > 0 &&
            strncmp(key, ask->prefix, strlen(ask->prefix)) == 0)
            return true;
    }
    return false;
}

/* Below `top`, from the directory on. */
static int ask_below_locked(struct inode *top, struct inode *directory, struct waiter *waiter)
{
    struct names *names = &directory->cache->names;
    struct forest *forest = directory->cache->forest;
    BUF_SCOPED prefix = BUF_INIT;
    BUF_SCOPED key = BUF_INIT;

    if (names_key_locked(top, &prefix) < 0 || names_key_locked(directory, &key) < 0)
        return 0;
    int rc = 0;
    uint64_t last = forest->asked; /* behind those that come after us we might wait for ever */
    bool comes = may_come_locked(forest, key.bytes, last);
    while (rc == 0 && may_come_locked(forest, key.bytes, last))
        rc = gate_wait_locked(&names->turn, &names->lock, waiter, CLOCK_NEVER);
    if (rc < 0 || comes || forest->ask_count == FOREST_SWATHS)
        return rc;
    judge_all_locked(forest);
    if (forest->pause) {
        forest->pause--;
        return 0;
    }
    int keys = count_keys_locked(forest, key.bytes);
    /* '.' is next before "/": "b-1/", where he has been, is passed over, only "b.1/" is told again. */
    key.bytes[key.length - 1] = '.';
    struct ask ask = {.prefix = prefix.bytes, .after = key.bytes, .keys = keys};
    return ask_locked(forest, &ask, waiter);
}

/* It is one that a swath can tell of, and may. */
static bool is_eligible_locked(const struct inode *directory)
{
    return directory->parent && directory->cache->config.attr_ttl_ms > 0;
}

bool forest_tells_locked(const struct inode *directory)
{
    BUF_SCOPED key = BUF_INIT;
    return names_key_locked(directory, &key) == 0 &&
           find_locked(directory->cache->forest, key.bytes, 0, tells_first);
}

int forest_ask_locked(struct inode *directory, struct waiter *waiter)
{
    if (!is_eligible_locked(directory) || !waiter)
        return 0;
    struct inode *top = find_walked_locked(directory);
    return ask_below_locked(top ? top : directory->parent, directory, waiter);
}

/* ---- What it tells. ---- */

/* Who asks for one beside another is given what he will ask for next. */
static int find_or_ask_locked(struct inode *directory, int64_t since_ms, struct waiter *waiter,
                              bool (*tells)(const struct swath *swath, const char *key),
                              struct swath **ret_swath)
{
    struct forest *forest = directory->cache->forest;
    BUF_SCOPED key = BUF_INIT;
    int rc = 0;

    *ret_swath = NULL;
    if (!is_eligible_locked(directory) || names_key_locked(directory, &key) < 0)
        return 0;
    note_locked(directory);
    *ret_swath = find_locked(forest, key.bytes, since_ms, tells);
    /* Of one that is not where it would be, another LIST would tell no more. */
    bool asks = !*ret_swath && waiter && !find_locked(forest, key.bytes, since_ms, swath_lacks);
    struct inode *top = asks ? find_walked_locked(directory) : NULL;
    if (top) {
        rc = ask_below_locked(top, directory, waiter);
        *ret_swath = rc == 0 ? find_locked(forest, key.bytes, since_ms, tells) : NULL;
    }
    return rc;
}

int forest_list_locked(struct inode *directory, int64_t since_ms, struct waiter *waiter,
                       struct swath **ret_swath)
{
    int rc = find_or_ask_locked(directory, since_ms, waiter, swath_holds, ret_swath);

    if (*ret_swath)
        swath_ref(*ret_swath)->used++;
    return rc;
}

/* The marker's metadata are needed, unless it is the known one. False: it has to be asked for. */
static bool read_marker_locked(struct inode *directory, const struct store_object *marker,
                               struct observed *ret_observed)
{
    struct identity identity;

    ret_observed->object = marker;
    if (marker->meta_known || directory->cache->config.list_attributes_only)
        return true;
    server_identity(marker, &identity);
    LOCK_SCOPED(&directory->lock);
    return directory->attributes_known && directory->remote.exists &&
           identity_equal(&identity, &directory->remote.identity);
}

int forest_look_locked(struct inode *directory, struct waiter *waiter, struct aftermath *aftermath)
{
    struct cache *cache = directory->cache;
    struct swath *swath;
    BUF_SCOPED key = BUF_INIT;
    int rc = find_or_ask_locked(directory, 0, waiter, tells_first, &swath);

    if (rc < 0 || !swath || names_key_locked(directory, &key) < 0)
        return rc;
    const struct store_object *first = swath_first(swath, key.bytes);
    if (!first)
        return 0; /* it was renamed, or what it stands in, while the server was asked */
    struct observed observed = {.type = S_IFDIR, .attributes_known = true, .started_ms = swath->asked_ms};
    bool marker = strcmp(first->key, key.bytes) == 0;
    if (names_doomed_locked(&cache->names, first) || /* it may be bare */
        (marker && !read_marker_locked(directory, first, &observed))) {
        swath->vain += waiter != NULL; /* else who wants those of many asks for them at once anyway */
        return 0;
    }
    swath->used++;
    observed_apply_locked(cache, directory->parent, directory->name, &observed, aftermath);
    return 1;
}

/* ---- Birth and end. ---- */

struct forest *forest_new(struct cache *cache)
{
    struct forest *forest = xcalloc(1, sizeof *forest);

    forest->cache = cache;
    forest->keys = FOREST_KEYS;
    list_init(&forest->asks);
    memory_add_reclaimer(cache->config.memory, reclaim, forest);
    return forest;
}

void forest_stop(struct forest *forest)
{
    memory_remove_reclaimer(forest->cache->config.memory, forest);
}

void forest_free(struct forest *forest)
{
    if (!forest)
        return;
    for (size_t i = 0; i < FOREST_SWATHS; i++)
        swath_unref(forest->swaths[i]);
    forget_touches_locked(forest);
    free(forest);
}
