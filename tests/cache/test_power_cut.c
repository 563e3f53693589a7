/* The power goes in the middle of a story, at every call of the disk; the next process, after a reboot, finds what was flushed and
 * any of what was not. What must stand in the bucket when it has sent all that it found:
 *
 *      of each name, one of its states from the last that was flushed (or sent by fsync) to the last that had begun;
 *      of a file whose contents ride in the log exactly that, of a larger one also a mixture of those states, page by page, as on any
 *      file system: never a byte that none of them has there;
 *      of each file that stood all that time, under whatever name, one name at least.
 *
 * One story each is tried, always the same one (threads still take their turns as they like). SKYVOL_SEED tells another, SKYVOL_CUT
 * one cut of it; SKYVOL_TELL=1 says each step.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "tests/support/ledger_text.h"
#include "tests/support/power_disk.h"
#include "tests/support/tree.h"

#define NAMES             4
#define STEPS             24
#define SIZE_MAX_OF_STORY ((size_t)200 << 10)
#define RIDES             ((size_t)32 << 10)

struct state { /* of one name, after one step */
    long step;
    unsigned node; /* which file; 0: none */
    bool link;     /* it is a symlink, and the bytes are its target */
    size_t size;
    char *bytes;
};

struct place {
    const char *path;
    struct state *states;
    size_t count;
    atomic_long sent; /* the step that the last fsync of it made sure of */
};

struct known { /* at one moment */
    long flushed, begun, sent[NAMES];
};

struct story {
    bool sync;           /* durability=sync: close, unlink and rename are in the bucket when they return */
    bool renames, links; /* such steps are among them */
    struct room room;
    struct power_disk *power;
    unsigned seed, random, nodes;
    struct place places[NAMES];
    atomic_long begun, flushed;
    /* The cut. */
    long cut_at;
    atomic_long calls;
    atomic_bool cutting; /* from now on calls may fail */
    atomic_bool cut;
    struct power_disk *found;
    struct known known;
};

static unsigned choose(struct story *story, unsigned count)
{
    story->random = story->random * 1103515245u + 12345u;
    return (story->random >> 16) % count;
}

/* ---- The model. ---- */

static struct state *now(struct place *place)
{
    return &place->states[place->count - 1];
}

static struct state *add_state(struct place *place, long step, unsigned node)
{
    place->states = xrealloc(place->states, (place->count + 1) * sizeof place->states[0]);
    struct state *state = &place->states[place->count++];
    *state = (struct state){.step = step, .node = node, .bytes = xcalloc(1, SIZE_MAX_OF_STORY)};
    return state;
}

/* As it was before, to be changed. */
static struct state *next_state(struct place *place, long step)
{
    struct state *state = add_state(place, step, 0), *before = &place->states[place->count - 2];
    state->node = before->node;
    state->size = before->size;
    memcpy(state->bytes, before->bytes, SIZE_MAX_OF_STORY);
    return state;
}

static void resize(struct state *state, size_t size)
{
    if (size < state->size)
        memset(state->bytes + size, 0, state->size - size);
    state->size = size;
}

/* ---- Steps. ---- */

static long begin_step(struct story *story)
{
    return atomic_load(&story->begun) + 1;
}

/* From here on it may be found. */
static void tell_step(struct story *story, long step)
{
    atomic_store(&story->begun, step);
}

static void end_step(struct story *story, const char *what, int rc)
{
    if (getenv("SKYVOL_TELL"))
        fprintf(stderr, "   after step %ld, %s: %d\n", atomic_load(&story->begun), what, rc);
    if (rc < 0 && !atomic_load(&story->cutting))
        cr_assert_eq(rc, 0, "seed %u: %s: %d", story->seed, what, rc);
}

static struct handle *open_it(struct story *story, struct place *place)
{
    struct handle *handle = NULL;
    if (!now(place)->node) {
        long step = begin_step(story);
        add_state(place, step, ++story->nodes);
        tell_step(story, step);
        end_step(story, "create", tree_write(&story->room, place->path, ""));
    }
    int rc = tree_open(&story->room, place->path, O_RDWR, &handle);
    end_step(story, "open", rc);
    return rc == 0 ? handle : NULL;
}

static void write_it(struct story *story, struct place *place, struct handle *handle, size_t offset,
                     size_t size)
{
    long step = begin_step(story);
    struct state *state = next_state(place, step);
    unsigned seed = (unsigned)step + 1;
    for (size_t i = 0; i < size; i++)
        state->bytes[offset + i] = room_byte(seed, offset + i);
    state->size = offset + size > state->size ? offset + size : state->size;
    tell_step(story, step);
    end_step(story, "write", room_write(&story->room, handle, offset, size, seed));
}

static void cut_it(struct story *story, struct place *place, struct handle *handle, size_t size)
{
    long step = begin_step(story);
    resize(next_state(place, step), size);
    tell_step(story, step);
    end_step(story, "truncate", room_truncate(&story->room, handle, size));
}

static size_t choose_bytes(struct story *story)
{
    static const size_t sizes[] = {1, 100, 4096, 5000, 20000, 60000, 100000};
    return sizes[choose(story, sizeof sizes / sizeof sizes[0])];
}

static void change_it(struct story *story, struct place *place, struct handle *handle)
{
    size_t size = now(place)->size, some = choose_bytes(story), at = 0;
    switch (choose(story, 4)) {
    case 0: /* anew, in pieces */
        cut_it(story, place, handle, 0);
        for (unsigned i = 0; i < 3; i++, at += some)
            if (at + some <= SIZE_MAX_OF_STORY)
                write_it(story, place, handle, at, some);
        break;
    case 1:
        cut_it(story, place, handle, choose(story, (unsigned)size + 5000) % SIZE_MAX_OF_STORY);
        break;
    case 2: /* at its end */
        if (size + some <= SIZE_MAX_OF_STORY)
            write_it(story, place, handle, size, some);
        break;
    default: /* within */
        at = choose(story, (unsigned)size + 3000);
        if (at + some <= SIZE_MAX_OF_STORY)
            write_it(story, place, handle, at, some);
    }
}

static void change(struct story *story, struct place *place)
{
    struct handle *handle = now(place)->link ? NULL : open_it(story, place);
    if (!handle)
        return;
    for (unsigned i = choose(story, 3); i < 3; i++)
        change_it(story, place, handle);
    long step = atomic_load(&story->begun);
    if (choose(story, 3) == 0 && !atomic_load(&story->cutting)) { /* after the cut nobody answers it */
        int rc = room_fsync(&story->room, handle);
        end_step(story, "fsync", rc);
        if (rc == 0)
            atomic_store(&place->sent, step);
    }
    int rc = room_close(&story->room, handle);
    end_step(story, "close", rc);
    if (rc == 0 && story->sync)
        atomic_store(&place->sent, step);
}

static void remove_it(struct story *story, struct place *place)
{
    if (!now(place)->node)
        return;
    long step = begin_step(story);
    add_state(place, step, 0);
    tell_step(story, step);
    int rc = tree_unlink(&story->room, place->path);
    end_step(story, "unlink", rc);
    if (rc == 0 && story->sync)
        atomic_store(&place->sent, step);
}

static void link_it(struct story *story, struct place *place)
{
    remove_it(story, place);
    long step = begin_step(story);
    struct state *made = add_state(place, step, ++story->nodes);
    made->link = true;
    made->size = (size_t)snprintf(made->bytes, SIZE_MAX_OF_STORY, "../to/%ld", step);
    tell_step(story, step);
    int rc = tree_symlink(&story->room, place->path, made->bytes);
    end_step(story, "symlink", rc);
    if (rc == 0 && story->sync)
        atomic_store(&place->sent, step);
}

static void rename_it(struct story *story, struct place *from, struct place *to)
{
    if (!now(from)->node || from == to)
        return;
    long step = begin_step(story);
    struct state *moved = add_state(to, step, now(from)->node);
    moved->size = now(from)->size;
    moved->link = now(from)->link;
    memcpy(moved->bytes, now(from)->bytes, SIZE_MAX_OF_STORY);
    add_state(from, step, 0);
    tell_step(story, step);
    int rc = tree_rename(&story->room, from->path, to->path, 0);
    end_step(story, "rename", rc);
    if (rc == 0 && story->sync) {
        atomic_store(&from->sent, step);
        atomic_store(&to->sent, step);
    }
}

static void flush(struct story *story)
{
    long step = atomic_load(&story->begun);
    if (journal_flush(story->room.cache->journal, &story->room.waiter) == 0)
        atomic_store(&story->flushed, step);
}

/* Nothing that status calls flushed may be lost. */
static void look_at_status(struct story *story)
{
    struct cache_backlog backlog;
    long step = atomic_load(&story->begun);
    cache_backlog(story->room.cache, &backlog);
    if (backlog.unflushed_bytes == 0)
        atomic_store(&story->flushed, step);
}

static void take_step(struct story *story)
{
    struct place *place = &story->places[choose(story, NAMES)];
    unsigned kind = choose(story, 12);
    if (kind < 4 && story->links)
        link_it(story, place);
    else if (kind < 7)
        change(story, place);
    else if (kind == 7)
        remove_it(story, place);
    else if (kind == 8 && story->renames)
        rename_it(story, place, &story->places[choose(story, NAMES)]);
    else if (kind == 9)
        flush(story);
    else
        look_at_status(story);
}

/* ---- The cut. ---- */

static void cut_power(void *context, long nth)
{
    struct story *story = context;
    (void)nth; /* counts what was before the story, too */
    if (atomic_fetch_add(&story->calls, 1) + 1 != story->cut_at)
        return;
    atomic_store(&story->cutting, true);
    /* First: what happened in the bucket after the cut, no host that lost its power could have done. */
    for (int i = 0; i < NAMES; i++)
        story->known.sent[i] = atomic_load(&story->places[i].sent);
    story->known.flushed = atomic_load(&story->flushed);
    memory_store_fault(story->room.bucket, &(struct fault){.kind = FAULT_FAIL, .rc = -EIO});
    story->found = power_disk_cut(story->power, story->seed % 3 ? story->seed + (unsigned)story->cut_at : 0);
    story->known.begun = atomic_load(&story->begun);
    atomic_store(&story->cut, true);
}

static void begin_story(struct story *story, const struct story *usual, unsigned seed, long cut_at)
{
    static const char *const paths[NAMES] = {"a", "b", "d/x", "d/y"};
    *story = *usual;
    story->seed = story->random = seed;
    story->cut_at = cut_at;
    story->power = power_disk_new();
    struct room_config config = {.durability = story->sync ? DURABILITY_SYNC : DURABILITY_WRITEBACK,
                                 .commit_ms = seed % 2 ? 1 : 3600000,
                                 .disk = power_disk_disk(story->power),
                                 .boot = "first"};
    room_init(&story->room, &config);
    for (int i = 0; i < NAMES; i++) {
        story->places[i].path = paths[i];
        add_state(&story->places[i], 0, 0);
    }
    end_step(story, "mkdir", tree_mkdir(&story->room, "d"));
    power_disk_watch(story->power, cut_power, story);
}

static void run_story(struct story *story)
{
    size_t unsent;
    for (int i = 0; i < STEPS && !atomic_load(&story->cutting); i++)
        take_step(story);
    /* In short waits: after the cut the bucket fails for good. */
    for (int i = 0; i < 500 && !atomic_load(&story->cutting); i++)
        if (cache_drain(story->room.cache, &story->room.waiter, clock_ms() + 20, &unsent) == 0 && !unsent)
            break;
    if (!atomic_load(&story->cutting))
        flush(story);
    while (atomic_load(&story->cutting) && !atomic_load(&story->cut))
        usleep(100);
}

static void end_story(struct story *story)
{
    room_release(&story->room);
    power_disk_free(story->power);
    if (story->found)
        power_disk_free(story->found);
    for (int i = 0; i < NAMES; i++) {
        for (size_t at = 0; at < story->places[i].count; at++)
            free(story->places[i].states[at].bytes);
        free(story->places[i].states);
    }
}

/* ---- What is found. ---- */

/* Those that may be found: from the last one that was made sure of. */
static size_t first_allowed(const struct story *story, int which)
{
    const struct place *place = &story->places[which];
    long sure =
        story->known.flushed > story->known.sent[which] ? story->known.flushed : story->known.sent[which];
    size_t first = 0;
    for (size_t i = 0; i < place->count && place->states[i].step <= sure; i++)
        first = i;
    return first;
}

static size_t end_allowed(const struct story *story, int which)
{
    const struct place *place = &story->places[which];
    size_t end = 1;
    while (end < place->count && place->states[end].step <= story->known.begun)
        end++;
    return end;
}

static bool is_state(const struct state *state, const struct buf *found)
{
    return state->node && state->size == found->length &&
           (!state->size || memcmp(state->bytes, found->bytes, state->size) == 0);
}

/* Each byte is one that the file had there in one of the states. */
static bool is_mixture(const struct story *story, int which, const struct buf *found)
{
    const struct state *states = story->places[which].states;
    size_t first = first_allowed(story, which), end = end_allowed(story, which), sized = 0;
    for (size_t i = first; i < end; i++)
        sized += states[i].node && states[i].size == found->length;
    for (size_t at = 0; sized && at < found->length; at++) {
        bool some = false;
        for (size_t i = first; i < end && !some; i++)
            some = states[i].node && at < states[i].size && states[i].bytes[at] == found->bytes[at];
        if (!some)
            return false;
    }
    return sized > 0;
}

static bool all_ride(const struct story *story, int which)
{
    const struct state *states = story->places[which].states;
    for (size_t i = first_allowed(story, which); i < end_allowed(story, which); i++)
        if (states[i].size > RIDES)
            return false;
    return true;
}

static void explain(const struct story *story, int which, bool there, const struct buf *found)
{
    const struct place *place = &story->places[which];
    size_t differs = 0;
    fprintf(stderr, "seed %u, cut %ld: p/%s: %s, %zu bytes; sure to %ld (sent %ld), begun %ld\n", story->seed,
            story->cut_at, place->path, there ? "there" : "not there", found->length, story->known.flushed,
            story->known.sent[which], story->known.begun);
    for (size_t i = first_allowed(story, which); i < end_allowed(story, which); i++) {
        const struct state *state = &place->states[i];
        for (differs = 0; differs < state->size && differs < found->length; differs++)
            if (state->bytes[differs] != found->bytes[differs])
                break;
        fprintf(stderr, "   or step %ld: file %u, %zu bytes, differs at %zu\n", state->step, state->node,
                state->size, differs);
    }
}

static bool check_place(struct story *story, int which)
{
    struct place *place = &story->places[which];
    STRING_SCOPED *key = xprintf("p/%s", place->path);
    BUF_SCOPED found = BUF_INIT;
    bool there = memory_store_peek(story->room.bucket, key, NULL, &found), right = false;
    for (size_t i = first_allowed(story, which); i < end_allowed(story, which); i++) {
        const struct state *state = &place->states[i];
        right = right || (there ? is_state(state, &found) : !state->node);
    }
    if (!right && there && !all_ride(story, which))
        right = is_mixture(story, which, &found);
    if (!right)
        explain(story, which, there, &found);
    return right;
}

static unsigned node_at(const struct place *place, long step)
{
    unsigned node = 0;
    for (size_t i = 0; i < place->count && place->states[i].step <= step; i++)
        node = place->states[i].node;
    return node;
}

static bool stands_at(const struct story *story, unsigned node, long step)
{
    for (int i = 0; i < NAMES; i++)
        if (node_at(&story->places[i], step) == node)
            return true;
    return false;
}

static bool is_found(struct story *story, unsigned node)
{
    for (int which = 0; which < NAMES; which++) {
        const struct place *place = &story->places[which];
        STRING_SCOPED *key = xprintf("p/%s", place->path);
        for (size_t i = first_allowed(story, which); i < end_allowed(story, which); i++)
            if (place->states[i].node == node && memory_store_has(story->room.bucket, key))
                return true;
    }
    return false;
}

/* Under one of its names at least. */
static bool check_nodes(struct story *story)
{
    for (unsigned node = 1; node <= story->nodes; node++) {
        bool always = true;
        for (long step = story->known.flushed; step <= story->known.begun && always; step++)
            always = stands_at(story, node, step);
        if (always && !is_found(story, node)) {
            fprintf(stderr, "seed %u, cut %ld: file %u has no name\n", story->seed, story->cut_at, node);
            return false;
        }
    }
    return true;
}

static void tell_unsent(void *context, const struct cache_unsent *unsent)
{
    (void)context;
    fprintf(stderr, "   unsent: %s (%s): %s\n", unsent->path, unsent->key, unsent->why);
}

static bool check_keys(struct story *story)
{
    BUF_SCOPED keys = BUF_INIT;
    bool right = true;
    tree_keys(&story->room, &keys);
    for (char *at = strtok(keys.bytes, " "); at; at = strtok(NULL, " ")) {
        bool known = strcmp(at, "p/d/") == 0;
        for (int i = 0; i < NAMES; i++)
            known = known || strcmp(at + 2, story->places[i].path) == 0;
        if (!known)
            fprintf(stderr, "seed %u, cut %ld: %s was made by nobody\n", story->seed, story->cut_at, at);
        right = right && known;
    }
    return right;
}

/* What the journal says at the reboot. */
static void read_journal(struct story *story, struct buf *text)
{
    struct power_disk *copy = power_disk_kill(story->found);
    struct journal_config config = {.disk = power_disk_disk(copy), .source = "", .boot = "second"};
    struct journal *journal;
    BUF_SCOPED why = BUF_INIT;
    if (journal_open(&config, &journal, &why) == 0) {
        lock_take(journal_lock(journal));
        ledger_text(journal_ledger_locked(journal), text);
        lock_drop(journal_lock(journal));
        journal_free(journal);
    }
    power_disk_free(copy);
}

/* By both processes, after what the second one found. */
static void tell_what_was_sent(struct story *story, const struct buf *found)
{
    BUF_SCOPED sent = BUF_INIT;
    memory_store_log_print(story->room.bucket, &sent);
    fprintf(stderr, "%s%s", sent.bytes, found->bytes);
    for (int i = 0; i < NAMES; i++) {
        struct store_object object;
        STRING_SCOPED *key = xprintf("p/%s", story->places[i].path);
        if (memory_store_peek(story->room.bucket, key, &object, NULL)) {
            fprintf(stderr, "%s: %zu %s %s\n", key, (size_t)object.size, object.etag,
                    store_fields_get(&object.meta, "skyvol-id"));
            store_object_release(&object);
        }
    }
}

static bool check_story(struct story *story)
{
    size_t unsent = 0;
    BUF_SCOPED found = BUF_INIT;
    read_journal(story, &found);
    room_reopen_on(&story->room, power_disk_disk(story->found), "second");
    int rc = cache_drain(story->room.cache, &story->room.waiter, clock_ms() + 10000, &unsent);
    bool right = rc == 0 && unsent == 0;
    if (!right) {
        fprintf(stderr, "seed %u, cut %ld: drain: %d, %zu unsent\n", story->seed, story->cut_at, rc, unsent);
        cache_unsent(story->room.cache, tell_unsent, NULL);
    }
    for (int i = 0; i < NAMES; i++)
        right = check_place(story, i) && right;
    right = check_nodes(story) && check_keys(story) && right;
    if (!right)
        tell_what_was_sent(story, &found);
    return right;
}

/* False: the story ended before the cut. */
static bool try_cut(const struct story *usual, unsigned seed, long cut_at, long *ret_wrong)
{
    struct story story;
    begin_story(&story, usual, seed, cut_at);
    run_story(&story);
    bool cut = atomic_load(&story.cut);
    if (cut)
        *ret_wrong += !check_story(&story);
    end_story(&story);
    return cut;
}

static long try_all_cuts(const struct story *usual, unsigned seed)
{
    const char *only = getenv("SKYVOL_CUT");
    long wrong = 0, first = only ? atol(only) : 1;
    for (long nth = first; try_cut(usual, seed, nth, &wrong) && !only && wrong < 5; nth++)
        ;
    return wrong;
}

/* `usual`: seed, and what kind of story. */
static void try_story(const struct story *usual)
{
    const char *given = getenv("SKYVOL_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : usual->seed;
    log_set_level(LOG_LEVEL_ERROR);
    cr_assert_eq(try_all_cuts(usual, seed), 0, "SKYVOL_SEED=%u", seed);
}

Test(power_cut, what_was_flushed_or_sent_is_in_the_bucket_after_it, .timeout = 120)
{
    try_story(&(struct story){.seed = 6});
}

Test(power_cut, in_sync_nothing_that_was_answered_is_undone_by_it, .timeout = 120)
{
    try_story(&(struct story){.seed = 1, .sync = true});
}

Test(power_cut, a_renamed_file_has_one_of_its_names, .timeout = 120)
{
    try_story(&(struct story){.seed = 1, .renames = true});
}

Test(power_cut, a_symlink_is_there_with_its_target_or_not_at_all, .timeout = 120)
{
    try_story(&(struct story){.seed = 2, .renames = true, .links = true});
}
