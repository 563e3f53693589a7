#include "mount/state.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/disk.h"
#include "base/err.h"
#include "mount/words.h"

#define VERSION 1

struct state {
    char *path, *name; /* of the file; its last component */
    int directory, lock;
    char *provider, *pool, *origin;
    struct state_thing **things;
    size_t count;
};

static void free_thing(struct state_thing *thing)
{
    if (!thing)
        return;
    free(thing->kind);
    free(thing->id);
    secret_unref(thing->secret);
    json_free(thing->facts);
    free(thing);
}

const char *state_path(const struct state *state)
{
    return state->path;
}

int state_belong(const struct state *state, const char *origin, const char *said, struct buf *why)
{
    if (!origin || !state->origin || !state->count || strcmp(origin, state->origin) == 0)
        return 0;
    words_next(why);
    buf_printf(
        why,
        "%s remembers what was made for %s, and this configuration is %s: give one of them another name "
        "([pools.NAME] and --pool NAME), or say that it is the same: --state %s",
        state->path, state->origin, origin, said);
    return -EXDEV;
}

void state_set_origin(struct state *state, const char *origin)
{
    if (!origin)
        return;
    free(state->origin);
    state->origin = xstrdup(origin);
}

size_t state_count(const struct state *state)
{
    return state->count;
}

struct state_thing *state_at(const struct state *state, size_t index)
{
    return index < state->count ? state->things[index] : NULL;
}

struct state_thing *state_find(const struct state *state, const char *kind)
{
    for (size_t i = 0; i < state->count; i++)
        if (strcmp(state->things[i]->kind, kind) == 0)
            return state->things[i];
    return NULL;
}

const char *state_fact(const struct state_thing *thing, const char *name)
{
    return thing ? json_get_string(thing->facts, name) : NULL;
}

static struct state_thing *add_thing(struct state *state)
{
    state->things = xrealloc(state->things, (state->count + 1) * sizeof(*state->things));
    struct state_thing *thing = xcalloc(1, sizeof(*thing));
    state->things[state->count++] = thing;
    return thing;
}

static void drop_thing(struct state *state, const struct state_thing *thing)
{
    size_t kept = 0;
    for (size_t i = 0; i < state->count; i++)
        if (state->things[i] != thing)
            state->things[kept++] = state->things[i];
    state->count = kept;
}

/* ---- Reading. ---- */

static int refuse(const struct state *state, struct buf *why, const char *what)
{
    buf_printf(
        why,
        "%s is not a state file as skyvol writes it: %s; what it remembers can be removed in the provider's "
        "console, and then the file",
        state->path, what);
    return -EBADMSG;
}

/* Ids go into addresses, names into messages: neither holds what is no plain word. */
static bool is_word(const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return length > 0 && length <= STATE_TEXT_MAX;
}

static int read_thing(struct state *state, const struct json *from, size_t index, struct buf *why)
{
    const char *kind = json_get_string(from, "kind"), *id = json_get_string(from, "id");
    const char *secret = json_get_string(from, "secret"), *wrong = NULL;
    const struct json *facts = json_get(from, "facts");
    bool made = false, told = json_get_bool(from, "made", &made);
    if (!kind || !is_word(kind))
        wrong = "kind";
    else if (!told)
        wrong = "made";
    else if (made ? !id || !is_word(id) : id != NULL)
        wrong = "id";
    else if (json_get(from, "secret") && (!secret || !is_word(secret)))
        wrong = "secret";
    else if (!json_holds_names(facts))
        wrong = "facts";
    if (wrong) {
        STRING_SCOPED *place = xprintf("things[%zu].%s", index, wrong);
        return refuse(state, why, place);
    }
    struct state_thing *thing = add_thing(state);
    thing->kind = xstrdup(kind);
    thing->made = made;
    thing->id = id ? xstrdup(id) : NULL;
    thing->secret = secret ? secret_new(secret, strlen(secret)) : NULL;
    thing->facts = json_clone(facts);
    return 0;
}

static int read_document(struct state *state, const struct json *document, struct buf *why)
{
    int64_t version = 0;
    const char *provider = json_get_string(document, "provider"),
               *program = json_get_string(document, "program");
    const struct json *things = json_get(document, "things");
    if (!program || strcmp(program, "skyvol") != 0)
        return refuse(state, why, "program is not skyvol");
    if (!json_get_integer(document, "version", &version) || version < 1)
        return refuse(state, why, "version is missing");
    if (version > VERSION) {
        buf_printf(why, "%s is of version %lld, which a newer skyvol wrote; use that one", state->path,
                   (long long)version);
        return -EBADMSG;
    }
    if (!provider || !is_word(provider))
        return refuse(state, why, "provider");
    if (strcmp(provider, state->provider) != 0) {
        buf_printf(why, "%s remembers what was made at %s, not at %s; give another file with --state",
                   state->path, provider, state->provider);
        return -EXDEV;
    }
    if (!json_holds_items(things) || json_count(things) > STATE_THINGS_MAX)
        return refuse(state, why, "things");
    const char *origin = json_get_string(document, "origin");
    if (origin && words_have_control(origin))
        return refuse(state, why, "origin");
    state->origin = origin ? xstrdup(origin) : NULL;
    int rc = 0;
    for (size_t i = 0; i < json_count(things) && rc == 0; i++)
        rc = read_thing(state, json_at(things, i), i, why);
    return rc;
}

/* -errno with words; what is opened is a file of ours alone. */
static int open_own(const struct state *state, const char *name, int flags, int *ret_fd, struct buf *why)
{
    struct stat stat;
    int fd = openat(state->directory, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
    if (fd < 0) {
        int rc = -errno;
        if (rc != -ENOENT)
            buf_printf(why, "%s%s: %s", state->path, strcmp(name, state->name) ? ".lock" : "",
                       rc == -ELOOP ? "a symlink is not followed; give another file with --state"
                                    : err_text(rc));
        return rc;
    }
    const char *wrong = NULL;
    if (fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode))
        wrong = "is no regular file";
    else if (stat.st_uid != geteuid())
        wrong = "is another user's";
    else if (stat.st_mode & 077)
        wrong = "is open to others, and may have been read or changed: look at it, then chmod 600";
    if (!wrong) {
        *ret_fd = fd;
        return 0;
    }
    buf_printf(why, "%s%s %s", state->path, strcmp(name, state->name) ? ".lock" : "", wrong);
    close(fd);
    return -EPERM;
}

static int read_bytes(const struct state *state, int fd, struct buf *out, struct buf *why)
{
    char piece[4096];
    ssize_t got;
    while ((got = read(fd, piece, sizeof(piece))) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            buf_printf(why, "%s: %s", state->path, err_text(errno));
            return -EIO;
        }
        buf_add(out, piece, (size_t)got);
        if (out->length > STATE_BYTES_MAX)
            return refuse(state, why, "longer than 1 MiB");
    }
    secret_wipe(piece, sizeof(piece));
    return 0;
}

/* -ENOENT: there is none. */
static int read_file(struct state *state, struct buf *why)
{
    int fd;
    BUF_SCOPED text = BUF_INIT;
    BUF_SCOPED words = BUF_INIT;
    struct json *document = NULL;
    int rc = open_own(state, state->name, O_RDONLY, &fd, why);
    if (rc < 0)
        return rc;
    rc = read_bytes(state, fd, &text, why);
    close(fd);
    if (rc == 0 && json_parse(text.bytes, text.length, &document, &words) < 0)
        rc = refuse(state, why, words.bytes);
    if (rc == 0)
        rc = read_document(state, document, why);
    json_free(document);
    if (text.length)
        secret_wipe(text.bytes, text.length);
    return rc;
}

/* ---- Writing. ---- */

static struct json *print_thing(const struct state_thing *thing)
{
    struct json *json = json_object_new(), *facts = json_clone(thing->facts);
    json_set_string(json, "kind", thing->kind);
    json_set_bool(json, "made", thing->made);
    if (thing->id)
        json_set_string(json, "id", thing->id);
    if (thing->secret)
        json_set_string(json, "secret", secret_reveal(thing->secret));
    json_set(json, "facts", &facts);
    return json;
}

static void print_document(const struct state *state, struct buf *out)
{
    struct json *document = json_object_new(), *things = json_array_new();
    json_set_integer(document, "version", VERSION);
    json_set_string(document, "program", "skyvol");
    json_set_string(document, "provider", state->provider);
    json_set_string(document, "pool", state->pool);
    if (state->origin)
        json_set_string(document, "origin", state->origin);
    for (size_t i = 0; i < state->count; i++) {
        struct json *thing = print_thing(state->things[i]);
        json_append(things, &thing);
    }
    json_set(document, "things", &things);
    json_print(document, out, true);
    buf_add_char(out, '\n');
    json_free(document);
}

static int write_all(int fd, const struct buf *text)
{
    for (size_t done = 0; done < text->length;) {
        ssize_t put = write(fd, text->bytes + done, text->length - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -EIO;
        done += (size_t)put;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

static int replace_file(const struct state *state, const struct buf *text)
{
    STRING_SCOPED *fresh = xprintf("%s.new", state->name);
    int fd = openat(state->directory, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = write_all(fd, text);
    close(fd);
    if (rc == 0 && renameat(state->directory, fresh, state->directory, state->name) < 0)
        rc = -errno;
    if (rc < 0)
        unlinkat(state->directory, fresh, 0);
    return rc;
}

/* Of one that was killed: the lock is ours. It may hold a secret. */
static void drop_temporary(const struct state *state)
{
    STRING_SCOPED *fresh = xprintf("%s.new", state->name);
    unlinkat(state->directory, fresh, 0);
}

static int remove_file(const struct state *state)
{
    return unlinkat(state->directory, state->name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int state_save(struct state *state, struct buf *why)
{
    BUF_SCOPED text = BUF_INIT;
    print_document(state, &text);
    int rc = text.length > STATE_BYTES_MAX ? -EFBIG
             : state->count                ? replace_file(state, &text)
                                           : remove_file(state);
    if (rc == 0 && fsync(state->directory) < 0)
        rc = -errno;
    secret_wipe(text.bytes, text.length);
    if (rc < 0)
        buf_printf(
            why, "%s cannot be written: %s; it has to remember what is made; give another file with --state",
            state->path, err_text(rc));
    return rc;
}

int state_intend(struct state *state, const char *kind, struct json **facts, struct state_thing **ret_thing,
                 struct buf *why)
{
    struct state_thing *thing = add_thing(state);
    thing->kind = xstrdup(kind);
    thing->facts = facts ? *facts : json_object_new();
    if (facts)
        *facts = NULL;
    int rc = state->count > STATE_THINGS_MAX ? -EFBIG : 0;
    if (rc < 0)
        buf_printf(why, "%s remembers too many things; remove them first: skyvol teardown", state->path);
    else
        rc = state_save(state, why);
    if (rc < 0) {
        drop_thing(state, thing);
        free_thing(thing);
        return rc;
    }
    *ret_thing = thing;
    return 0;
}

int state_intend_again(struct state *state, struct state_thing *thing, struct json **facts, struct buf *why)
{
    json_free(thing->facts);
    thing->facts = *facts;
    *facts = NULL;
    thing->made = false;
    free_string(&thing->id);
    return state_save(state, why);
}

int state_made(struct state *state, struct state_thing *thing, const char *id, const char *secret,
               struct buf *why)
{
    if (!is_word(id) || (secret && !is_word(secret))) {
        buf_printf(why, "the provider told an id or a key that is no plain word");
        return -EBADMSG;
    }
    free(thing->id);
    thing->id = xstrdup(id);
    thing->made = true;
    secret_unref(thing->secret);
    thing->secret = secret ? secret_new(secret, strlen(secret)) : NULL;
    return state_save(state, why);
}

int state_forget(struct state *state, struct state_thing *thing, struct buf *why)
{
    drop_thing(state, thing);
    free_thing(thing);
    return state_save(state, why);
}

/* ---- Opening. ---- */

static int open_directory(struct state *state, bool make, struct buf *why)
{
    STRING_SCOPED *copy = xstrdup(state->path);
    const char *directory = dirname(copy);
    struct disk *made = NULL;
    int rc = 0;
    state->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (state->directory < 0 && errno == ENOENT && make) {
        rc = disk_open_directory(directory, &made); /* 0700, and it lasts */
        disk_free(made);
        if (rc == 0)
            state->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (rc == 0 && state->directory < 0)
        rc = -errno;
    if (rc < 0 && (rc != -ENOENT || make))
        buf_printf(why, "the directory of %s cannot be used: %s; give another file with --state", state->path,
                   err_text(rc));
    return rc;
}

/* The lock file goes with the last thing: who had waited for it looks whether it is still the one that others see. */
static int take_lock(struct state *state, struct buf *why)
{
    STRING_SCOPED *name = xprintf("%s.lock", state->name);
    for (;;) {
        struct stat mine, seen;
        int rc = open_own(state, name, O_RDWR | O_CREAT, &state->lock, why);
        if (rc < 0)
            return rc;
        if (flock(state->lock, LOCK_EX | LOCK_NB) < 0) {
            buf_printf(why, "another skyvol has %s open; wait for it", state->path);
            return -EBUSY;
        }
        if (fstat(state->lock, &mine) == 0 &&
            fstatat(state->directory, name, &seen, AT_SYMLINK_NOFOLLOW) == 0 && mine.st_ino == seen.st_ino &&
            mine.st_dev == seen.st_dev)
            return 0;
        close(state->lock);
        state->lock = -1;
    }
}

static struct state *make_state(const char *path, const char *provider, const char *pool)
{
    struct state *state = xcalloc(1, sizeof(*state));
    STRING_SCOPED *copy = xstrdup(path);
    state->path = xstrdup(path);
    state->name = xstrdup(basename(copy));
    state->provider = xstrdup(provider);
    state->pool = xstrdup(pool ? pool : "");
    state->directory = state->lock = -1;
    return state;
}

int state_open(const char *path, const char *provider, const char *pool, struct state **ret_state,
               struct buf *why)
{
    struct state *state = make_state(path, provider, pool);
    int rc = open_directory(state, true, why);
    if (rc == 0)
        rc = take_lock(state, why);
    if (rc == 0)
        drop_temporary(state);
    if (rc == 0) {
        rc = read_file(state, why);
        if (rc == -ENOENT)
            rc = 0;
    }
    if (rc < 0) {
        if (state->lock >= 0) /* it is not ours to remove */
            close(state->lock);
        state->lock = -1;
        state_close(state);
        return rc;
    }
    *ret_state = state;
    return 0;
}

int state_look(const char *path, const char *provider, struct state **ret_state, struct buf *why)
{
    struct state *state = make_state(path, provider, NULL);
    int rc = open_directory(state, false, why);
    if (rc == 0)
        rc = read_file(state, why);
    if (rc < 0) {
        state_close(state);
        return rc;
    }
    *ret_state = state;
    return 0;
}

void state_close(struct state *state)
{
    if (!state)
        return;
    if (state->lock >= 0 && !state->count) {
        STRING_SCOPED *name = xprintf("%s.lock", state->name);
        unlinkat(state->directory, name, 0);
    }
    if (state->lock >= 0)
        close(state->lock);
    if (state->directory >= 0)
        close(state->directory);
    for (size_t i = 0; i < state->count; i++)
        free_thing(state->things[i]);
    free(state->things);
    free(state->path);
    free(state->name);
    free(state->provider);
    free(state->pool);
    free(state->origin);
    free(state);
}
