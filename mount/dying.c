#include "mount/dying.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/buf.h"
#include "mount/place.h"

#define EXITING 0x4 /* PF_EXITING of the kernel's task flags */

static void read_facts(pid_t pid, const char *name, char text[4096])
{
    char path[48];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? 0 : read(file, text, 4095);
    if (file >= 0)
        close(file);
    text[got > 0 ? got : 0] = '\0';
}

/* "SigPnd:\t0000000000000100" */
static bool is_pending(const char *text, const char *which, int number)
{
    const char *line = strstr(text, which);
    return line && strtoull(line + strlen(which), NULL, 16) >> (number - 1) & 1;
}

bool dying_is(pid_t pid)
{
    char text[4096];
    unsigned flags;
    if (pid <= 0)
        return false;
    read_facts(pid, "stat", text);
    const char *state =
        strrchr(text, ')'); /* "123 (name) Z ppid group session terminal its-group flags ..." */
    if (!state)
        return false;
    if (state[2] == 'Z' || state[2] == 'X')
        return true;
    if (sscanf(state + 3, "%*d %*d %*d %*d %*d %u", &flags) == 1 && (flags & EXITING))
        return true;
    read_facts(pid, "status", text);
    return is_pending(text, "SigPnd:", SIGKILL) || is_pending(text, "ShdPnd:", SIGKILL);
}

static int abort_connection(unsigned number)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/fs/fuse/connections/%u/abort", number);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return -errno;
    int rc = write(file, "1", 1) == 1 ? 0 : -errno;
    close(file);
    return rc;
}

int dying_cut(const char *path)
{
    struct place_mount mount;
    int rc = place_find(path, &mount);
    bool ours = rc == 0 && mount.found && strcmp(mount.type, "fuse.skyvol") == 0;
    unsigned number = mount.device_minor;
    place_mount_release(&mount);
    if (!ours)
        return rc < 0 ? rc : -ENOENT;
    if (abort_connection(number) == 0)
        return 0;
    /* It cuts first, then finds the mount in use, or takes it away: both will do. */
    if (umount2(path, MNT_FORCE | UMOUNT_NOFOLLOW) == 0 || errno == EBUSY)
        return 0;
    return -errno;
}
