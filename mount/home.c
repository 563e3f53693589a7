#include "mount/home.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "cache/cache.h"
#include "mount/elsewhere.h"
#include "mount/option.h"
#include "mount/words.h"

#define MEMO      "mount.json"
#define STATE     "state"
#define MEMO_SIZE ((size_t)1 << 16)

static void hash_field(struct buf *all, const char *text)
{
    buf_add(all, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void add_machine_id(struct buf *all)
{
    char id[64] = "";
    int file = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        ssize_t got = read(file, id, sizeof(id) - 1);
        id[got > 0 ? strcspn(id, "\n") : 0] = '\0';
        close(file);
    }
    hash_field(all, id);
}

char *home_base(void)
{
    if (geteuid() == 0)
        return xstrdup("/var/lib/skyvol");
    const char *state = getenv("XDG_STATE_HOME");
    if (state && state[0] == '/')
        return xprintf("%s/skyvol", state);
    const char *own = getenv("HOME");
    return own && own[0] == '/' ? xprintf("%s/.local/state/skyvol", own) : NULL;
}

static char *default_path(const struct settings *settings)
{
    BUF_SCOPED all = BUF_INIT;
    add_machine_id(&all);
    hash_field(&all, settings->endpoint);
    hash_field(&all, settings->bucket);
    hash_field(&all, settings->prefix);
    hash_field(&all, settings->mount_point);
    uint8_t hash[SHA256_BYTES];
    digest_sha256(all.bytes, all.length, hash);
    BUF_SCOPED name = BUF_INIT;
    buf_add_hex(&name, hash, 12);
    STRING_SCOPED *base = home_base();
    return base ? xprintf("%s/%s", base, name.bytes) : NULL;
}

static char *path_of(const struct settings *settings)
{
    return settings->cache_dir ? xstrdup(settings->cache_dir) : default_path(settings);
}

static char *source_of(const struct settings *settings)
{
    return xprintf("%s %s %s", settings->endpoint ? settings->endpoint : "aws", settings->bucket,
                   settings->prefix ? settings->prefix : "");
}

/* ---- The lock. ---- */

static pid_t read_pid(int file)
{
    char text[32] = "";
    return pread(file, text, sizeof(text) - 1, 0) > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

static int take_lock(struct home *home, struct buf *why)
{
    STRING_SCOPED *path = xprintf("%s/lock", home->path);
    home->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (home->lock < 0) {
        int rc = -errno;
        buf_printf(why, "%s: %s; give another directory with -o cache_dir=DIR", path, err_text(rc));
        return rc;
    }
    if (flock(home->lock, LOCK_EX | LOCK_NB) < 0) {
        buf_printf(why,
                   "%s is in use by another skyvol (pid %d); give each mount its own with -o cache_dir=DIR",
                   home->path, (int)read_pid(home->lock));
        return -EBUSY;
    }
    char pid[32];
    int length = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(home->lock, 0) < 0 || pwrite(home->lock, pid, (size_t)length, 0) != length)
        return -errno;
    return 0;
}

/* ---- mount.json. ---- */

static void add_option(void *context, const char *name, const char *value)
{
    json_set_string(context, name, value);
}

static int write_memo(const struct settings *settings, struct disk *disk)
{
    struct json *object = json_object_new(), *options = json_object_new();
    BUF_SCOPED text = BUF_INIT;
    json_set_string(object, "bucket", settings->bucket);
    json_set_string(object, "prefix", settings->prefix);
    json_set_string(object, "source", settings->source);
    json_set_string(object, "mount_point", settings->mount_point);
    option_each(settings, add_option, options);
    json_set(object, "options", &options);
    json_print(object, &text, true);
    json_free(object);
    struct disk_file *file = NULL;
    disk->ops->remove(disk, MEMO ".new");
    int rc = disk_open(disk, MEMO ".new", DISK_CREATE | DISK_EXCLUSIVE, &file);
    if (rc == 0)
        rc = disk_write(file, text.bytes, text.length, 0);
    if (rc == 0)
        rc = disk_flush(file);
    disk_close(file);
    if (rc == 0)
        rc = disk->ops->rename(disk, MEMO ".new", MEMO);
    return rc == 0 ? disk->ops->flush_names(disk) : rc;
}

static int read_memo(const char *path, struct json **ret_memo, struct buf *why)
{
    struct disk *disk = NULL;
    struct disk_file *file = NULL;
    STRING_SCOPED *bytes = xmalloc(MEMO_SIZE);
    ssize_t got = access(path, F_OK) < 0 ? -errno : disk_open_directory(path, &disk);
    if (got == 0)
        got = disk_open(disk, MEMO, DISK_READ_ONLY, &file);
    if (got == 0)
        got = disk_read(file, bytes, MEMO_SIZE, 0);
    disk_close(file);
    disk_free(disk);
    if (got < 0)
        buf_printf(why, "%s: no cache directory of skyvol (" MEMO ": %s)", path, err_text((int)got));
    return got < 0 ? (int)got : json_parse(bytes, (size_t)got, ret_memo, why);
}

static int recall_option(struct settings *settings, const struct json *options, const char *name)
{
    BUF_SCOPED why = BUF_INIT;
    const char *value = json_get_string(options, name);
    return value ? option_set(settings, name, value, MEMO, &why) : 0;
}

struct recalling {
    struct settings *settings;
    const struct json *options;
};

/* What another version wrote, and is not understood here, stays at its default. */
static void recall_each(void *context, const char *name, const char *value)
{
    struct recalling *recalling = context;
    (void)value;
    recall_option(recalling->settings, recalling->options, name);
}

int home_recall(const char *path, struct settings *ret_settings, struct buf *why)
{
    static const char *const texts[] = {"endpoint",  "region", "profile", "credentials_file",
                                        "ca_bundle", "proxy",  "log",     "config"};
    struct json *memo = NULL;
    *ret_settings = (struct settings){0};
    option_defaults(ret_settings);
    int rc = read_memo(path, &memo, why);
    if (rc < 0)
        return rc;
    const struct json *options = json_get(memo, "options");
    const char *bucket = json_get_string(memo, "bucket"), *prefix = json_get_string(memo, "prefix");
    const char *source = json_get_string(memo, "source"), *place = json_get_string(memo, "mount_point");
    if (bucket && source && place && options) {
        struct settings defaults = *ret_settings;
        struct recalling recalling = {ret_settings, options};
        option_each(&defaults, recall_each, &recalling);
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
            recall_option(ret_settings, options, texts[i]);
        ret_settings->bucket = xstrdup(bucket);
        ret_settings->prefix = xstrdup(prefix ? prefix : "");
        ret_settings->source = xstrdup(source);
        ret_settings->mount_point = xstrdup(place);
        free(ret_settings->cache_dir);
        ret_settings->cache_dir = xstrdup(path);
    } else {
        buf_printf(why, "%s/" MEMO " does not say what is mounted", path);
        rc = -EBADMSG;
    }
    json_free(memo);
    return rc;
}

/* ---- What waits in a home. ---- */

static void count_unsent(void *context, const struct cache_unsent *unsent)
{
    (void)unsent;
    ++*(size_t *)context;
}

static int look_at_state(struct disk *home, cache_unsent_each *each, void *context, char **ret_source,
                         struct buf *why)
{
    struct disk *state = NULL;
    int rc = home->ops->subdisk(home, STATE, &state);
    *ret_source = NULL;
    if (rc == 0)
        rc = cache_look(state, each, context, ret_source, why);
    disk_free(state);
    return rc;
}

bool home_held(const char *path, pid_t *ret_pid)
{
    STRING_SCOPED *name = xprintf("%s/lock", path);
    int file = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    bool held = file >= 0 && flock(file, LOCK_EX | LOCK_NB) < 0;
    if (ret_pid)
        *ret_pid = held ? read_pid(file) : 0;
    if (file >= 0)
        close(file);
    return held;
}

static int look(const char *path, cache_unsent_each *each, void *context, char **ret_source, struct buf *why)
{
    STRING_SCOPED *state = xprintf("%s/" STATE, path);
    struct disk *disk = NULL;
    *ret_source = NULL;
    if (home_held(path, NULL))
        return -EBUSY;
    int rc = access(state, F_OK) < 0 ? -errno : disk_open_directory(path, &disk);
    if (rc == 0)
        rc = look_at_state(disk, each, context, ret_source, why);
    disk_free(disk);
    return rc;
}

int home_look(const char *path, size_t *ret_unsent, char **ret_source, struct buf *why)
{
    *ret_unsent = 0;
    return look(path, count_unsent, ret_unsent, ret_source, why);
}

int home_look_each(const char *path, cache_unsent_each *each, void *context, struct buf *why)
{
    STRING_SCOPED *source = NULL;
    return look(path, each, context, &source, why);
}

static bool is_same_source(const char *path, const char *source)
{
    struct settings settings;
    BUF_SCOPED why = BUF_INIT;
    bool same = false;
    if (home_recall(path, &settings, &why) == 0) {
        STRING_SCOPED *other = source_of(&settings);
        same = strcmp(other, source) == 0;
    }
    settings_release(&settings);
    return same;
}

char *home_door(const char *path)
{
    STRING_SCOPED *whole = realpath(path, NULL);
    return xprintf("cache_dir %s", whole ? whole : path); /* no mount point begins so */
}

bool home_holder(const struct settings *settings, char **ret_mount_point, char **ret_door)
{
    STRING_SCOPED *path = path_of(settings);
    STRING_SCOPED *source = source_of(settings);
    struct settings holder;
    BUF_SCOPED why = BUF_INIT;
    bool found = false;
    if (!path || !home_held(path, NULL))
        return false;
    if (home_recall(path, &holder, &why) == 0) {
        STRING_SCOPED *other = source_of(&holder);
        found = strcmp(other, source) == 0;
    }
    if (found) {
        *ret_mount_point = xstrdup(holder.mount_point);
        *ret_door = home_door(path);
    }
    settings_release(&holder);
    return found;
}

/* ---- Elsewhere. ---- */

void home_each_default(void (*each)(void *context, const char *path), void *context)
{
    STRING_SCOPED *base = home_base();
    DIR *directory = base ? opendir(base) : NULL;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        STRING_SCOPED *path = xprintf("%s/%s", base, entry->d_name);
        if (entry->d_name[0] != '.')
            each(context, path);
    }
    if (directory)
        closedir(directory);
}

void home_each_elsewhere(void (*each)(void *context, const char *path), void *context)
{
    STRING_SCOPED *base = home_base();
    if (base)
        elsewhere_each(base, each, context);
}

static bool stands_in(const char *path, const char *base)
{
    STRING_SCOPED *whole = realpath(base, NULL);
    size_t length = whole ? strlen(whole) : 0;
    return whole && strncmp(path, whole, length) == 0 && path[length] == '/' &&
           !strchr(path + length + 1, '/');
}

/* It can be used without, so a failure is no more than a line in the log. */
static void note_elsewhere(struct home *home)
{
    STRING_SCOPED *base = home_base();
    STRING_SCOPED *path = realpath(home->path, NULL);
    if (!base || !path || stands_in(path, base))
        return;
    int rc = elsewhere_note(base, path);
    if (rc < 0)
        log_warn(
            "%s cannot be noted in %s (%s): skyvol status --all will not find what waits there once it is "
            "unmounted",
            path, base, err_text(rc));
    home->noted = xstrdup(path);
}

static void forget_elsewhere(const char *path)
{
    STRING_SCOPED *base = home_base();
    if (base)
        elsewhere_forget(base, path);
}

/* Who opens it meanwhile finds the lock taken, and notes it again once he has it. */
void home_forget(const char *path)
{
    STRING_SCOPED *name = xprintf("%s/lock", path);
    STRING_SCOPED *source = NULL;
    BUF_SCOPED why = BUF_INIT;
    struct disk *disk = NULL;
    size_t unsent = 0;
    int lock = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    int rc = lock < 0 ? -errno : 0;
    if (rc == 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
        rc = disk_open_directory(path, &disk);
    if (disk)
        rc = look_at_state(disk, count_unsent, &unsent, &source, &why);
    if (rc == -ENOENT || rc == -ENOTDIR || (disk && rc == 0 && unsent == 0))
        forget_elsewhere(path);
    disk_free(disk);
    if (lock >= 0)
        close(lock);
}

/* ---- Others of the same source. ---- */

struct sibling_look {
    const struct home *home;
    struct buf *warnings;
};

static void warn_of_sibling(void *context, const char *path)
{
    const struct sibling_look *look = context;
    const struct home *home = look->home;
    size_t unsent;
    STRING_SCOPED *source = NULL;
    BUF_SCOPED why = BUF_INIT;
    if (strcmp(path, home->path) == 0 || (home->noted && strcmp(path, home->noted) == 0) ||
        !is_same_source(path, home->source) || home_look(path, &unsent, &source, &why) < 0 || !unsent)
        return;
    words_next(look->warnings);
    buf_printf(look->warnings,
               "%zu unsent changes of this very source wait in %s; send them with: skyvol flush %s", unsent,
               path, path);
}

static void look_at_siblings(const struct home *home, struct buf *warnings)
{
    struct sibling_look look = {home, warnings};
    home_each_default(warn_of_sibling, &look);
    home_each_elsewhere(warn_of_sibling, &look);
}

/* ---- Opening. ---- */

static int remove_name(void *context, const char *name)
{
    struct disk *disk = context;
    return disk->ops->remove(disk, name);
}

static int refuse_source(const struct home *home, size_t unsent, const char *source, struct buf *why)
{
    buf_printf(
        why,
        "%s holds %zu unsent changes of another source (%s): mount that one again with this cache_dir, or "
        "`skyvol flush %s`, or give this mount another cache_dir",
        home->path, unsent, source, home->path);
    return -EXDEV;
}

/* It is of this source, or becomes so where nothing would be lost. */
static int settle_source(struct home *home, struct disk *whole, struct buf *why)
{
    size_t unsent = 0;
    STRING_SCOPED *source = NULL;
    BUF_SCOPED words = BUF_INIT;
    int rc = look_at_state(whole, count_unsent, &unsent, &source, &words);
    if (rc < 0)
        buf_printf(
            why, "%s/" STATE ": %s; nothing was changed there; give another directory with -o cache_dir=DIR",
            home->path, words.length ? words.bytes : err_text(rc));
    else if (source && strcmp(source, home->source) != 0)
        rc = unsent ? refuse_source(home, unsent, source, why)
                    : home->disk->ops->list(home->disk, remove_name, home->disk);
    return rc;
}

static int open_state(struct home *home, const struct settings *settings, struct disk *whole, struct buf *why)
{
    int rc = whole->ops->subdisk(whole, STATE, &home->disk);
    if (rc < 0) {
        buf_printf(why, "%s/" STATE ": %s; give another directory with -o cache_dir=DIR", home->path,
                   err_text(rc));
        return rc;
    }
    rc = settle_source(home, whole, why);
    if (rc < 0)
        return rc;
    rc = write_memo(settings, whole);
    if (rc < 0)
        buf_printf(why, "%s/" MEMO ": %s; give another directory with -o cache_dir=DIR", home->path,
                   err_text(rc));
    return rc;
}

static int open_whole(struct home *home, struct disk **ret_whole, struct buf *why)
{
    int rc = disk_open_directory(home->path, ret_whole); /* makes it, and refuses what is not ours */
    if (rc < 0)
        buf_printf(why,
                   "the cache directory %s cannot be used: %s; give a directory of yours on a local disk "
                   "with -o cache_dir=DIR",
                   home->path, rc == -EREMOTE ? "it is on a network file system" : err_text(rc));
    return rc;
}

int home_open(const struct settings *settings, struct home *ret_home, struct buf *why, struct buf *warnings)
{
    struct home home = {.lock = -1};
    struct disk *whole = NULL;
    home.path = path_of(settings);
    if (!home.path) {
        buf_printf(why, "there is no HOME to keep unsent data in; give a directory with -o cache_dir=DIR");
        return -ENOENT;
    }
    home.source = source_of(settings);
    int rc = open_whole(&home, &whole, why);
    if (rc == 0)
        rc = take_lock(&home, why);
    if (rc == 0)
        note_elsewhere(&home);
    if (rc == 0)
        rc = open_state(&home, settings, whole, why);
    disk_free(whole);
    if (rc < 0) {
        home_close(&home);
        return rc;
    }
    look_at_siblings(&home, warnings);
    *ret_home = home;
    return 0;
}

void home_close(struct home *home)
{
    disk_free(home->disk);
    if (home->noted && home->clean)
        forget_elsewhere(home->noted);
    if (home->lock >= 0)
        close(home->lock);
    free(home->path);
    free(home->noted);
    free(home->source);
    *home = (struct home){.lock = -1};
}
