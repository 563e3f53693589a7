#include "mount/elsewhere.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/disk.h"

static char *name_of(const char *path)
{
    uint8_t hash[SHA256_BYTES];
    BUF_SCOPED name = BUF_INIT;
    digest_sha256(path, strlen(path), hash);
    buf_add_hex(&name, hash, 12);
    return buf_take(&name);
}

/* A descriptor; nobody else may write there. */
static int open_entries(const char *base)
{
    STRING_SCOPED *path = xprintf("%s/.elsewhere", base);
    struct stat facts;
    int entries = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (entries < 0)
        return -errno;
    if (fstat(entries, &facts) == 0 && facts.st_uid == geteuid() && !(facts.st_mode & 077))
        return entries;
    close(entries);
    return -EPERM;
}

static int make_entries(const char *base)
{
    STRING_SCOPED *path = xprintf("%s/.elsewhere", base);
    struct disk *disk = NULL;
    int rc = disk_open_directory(path, &disk); /* makes what is missing */
    disk_free(disk);
    return rc < 0 ? rc : open_entries(base);
}

/* What the entry says, into `path` of PATH_MAX bytes. False: it is none of ours. */
static bool read_entry(int entries, const char *name, char *path)
{
    ssize_t length = readlinkat(entries, name, path, PATH_MAX);
    if (length <= 0 || length >= PATH_MAX || path[0] != '/')
        return false;
    path[length] = '\0';
    STRING_SCOPED *own = name_of(path);
    return strcmp(name, own) == 0;
}

int elsewhere_note(const char *base, const char *path)
{
    STRING_SCOPED *name = name_of(path);
    char there[PATH_MAX];
    int entries = make_entries(base), rc = 0;
    if (entries < 0)
        return entries;
    if (!read_entry(entries, name, there)) {
        unlinkat(entries, name, 0);
        rc = symlinkat(path, entries, name) < 0 && errno != EEXIST ? -errno : 0;
        if (rc == 0 && fsync(entries) < 0)
            rc = -errno;
    }
    close(entries);
    return rc;
}

void elsewhere_forget(const char *base, const char *path)
{
    STRING_SCOPED *name = name_of(path);
    int entries = open_entries(base);
    if (entries < 0)
        return;
    unlinkat(entries, name, 0);
    close(entries);
}

void elsewhere_each(const char *base, void (*each)(void *context, const char *path), void *context)
{
    int entries = open_entries(base);
    DIR *directory = entries < 0 ? NULL : fdopendir(entries);
    if (!directory) {
        if (entries >= 0)
            close(entries);
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[PATH_MAX];
        if (entry->d_name[0] != '.' && read_entry(entries, entry->d_name, path))
            each(context, path);
    }
    closedir(directory);
}
