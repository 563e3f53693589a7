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
#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "mount/words.h"

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
    if (geteuid() == 0)
        return xprintf("/var/lib/skyvol/%s", name.bytes);
    const char *state = getenv("XDG_STATE_HOME");
    if (state && state[0] == '/')
        return xprintf("%s/skyvol/%s", state, name.bytes);
    const char *own = getenv("HOME");
    return own && own[0] == '/' ? xprintf("%s/.local/state/skyvol/%s", own, name.bytes) : NULL;
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
        char holder[32] = "";
        ssize_t got = pread(home->lock, holder, sizeof(holder) - 1, 0);
        holder[got > 0 ? strcspn(holder, "\n") : 0] = '\0';
        buf_printf(why,
                   "%s is in use by another skyvol (pid %s); give each mount its own with -o cache_dir=DIR",
                   home->path, holder[0] ? holder : "unknown");
        return -EBUSY;
    }
    char pid[32];
    int length = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(home->lock, 0) < 0 || pwrite(home->lock, pid, (size_t)length, 0) != length)
        return -errno;
    return 0;
}

static bool directory_has_files(const char *path)
{
    DIR *directory = opendir(path);
    bool found = false;
    for (struct dirent *entry; directory && !found && (entry = readdir(directory));)
        found = entry->d_name[0] != '.';
    if (directory)
        closedir(directory);
    return found;
}

/* A run that was killed had no time to write its list. */
static void name_old_session(const char *path, struct buf *warnings)
{
    STRING_SCOPED *list = xprintf("%s/unsent.json", path);
    words_next(warnings);
    buf_printf(warnings, "an earlier run left unsent files in %s (%s); save what you need, then remove it",
               path,
               access(list, F_OK) == 0 ? "see its unsent.json" : "it was killed: their names are not known");
}

/* Empty sessions of runs that were killed go; those with files are only named. */
static void look_at_old_sessions(const struct home *home, struct buf *warnings)
{
    DIR *directory = opendir(home->path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (strncmp(entry->d_name, "session-", 8) != 0)
            continue;
        STRING_SCOPED *path = xprintf("%s/%s", home->path, entry->d_name);
        if (directory_has_files(path))
            name_old_session(path, warnings);
        else
            rmdir(path);
    }
    if (directory)
        closedir(directory);
}

static int open_session(struct home *home, struct buf *why)
{
    struct disk *whole = NULL;
    int rc = disk_open_directory(home->path, &whole);
    if (rc == 0)
        rc = whole->ops->subdisk(whole, home->session, &home->disk);
    disk_free(whole);
    if (rc < 0)
        buf_printf(why, "%s/%s: %s; give another directory with -o cache_dir=DIR", home->path, home->session,
                   err_text(rc));
    return rc;
}

int home_open(const struct settings *settings, struct home *ret_home, struct buf *why, struct buf *warnings)
{
    struct home home = {.lock = -1};
    home.path = settings->cache_dir ? xstrdup(settings->cache_dir) : default_path(settings);
    if (!home.path) {
        buf_printf(why, "there is no HOME to keep unsent data in; give a directory with -o cache_dir=DIR");
        return -ENOENT;
    }
    home.session = xprintf("session-%d-%lld", (int)getpid(), (long long)(clock_wall_ns() / 1000000));
    struct disk *disk = NULL;
    int rc = disk_open_directory(home.path, &disk); /* makes it, and refuses what is not ours */
    disk_free(disk);
    if (rc < 0)
        buf_printf(why,
                   "the cache directory %s cannot be used: %s; give a directory of yours on a local disk "
                   "with -o cache_dir=DIR",
                   home.path, rc == -EREMOTE ? "it is on a network file system" : err_text(rc));
    else
        rc = take_lock(&home, why);
    if (rc == 0) {
        look_at_old_sessions(&home, warnings);
        rc = open_session(&home, why);
    }
    if (rc < 0) {
        home_close(&home);
        return rc;
    }
    *ret_home = home;
    return 0;
}

void home_close(struct home *home)
{
    disk_free(home->disk);
    if (home->path && home->session) {
        STRING_SCOPED *path = xprintf("%s/%s", home->path, home->session);
        rmdir(path); /* stays when it holds files, and that is wanted */
    }
    if (home->lock >= 0)
        close(home->lock);
    free(home->path);
    free(home->session);
    *home = (struct home){.lock = -1};
}
