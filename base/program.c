#include "base/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define LOOK_US 2000 /* between looks for its end */

extern char **environ;

static int start(const char *const *words, int output, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    int rc = -posix_spawnp(ret_pid, words[0], &actions, &attributes, (char *const *)words, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static int read_output(int fd, int64_t deadline_ms, char *room, size_t size, size_t *ret_length)
{
    size_t length = 0;
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_ms();
        int ready = left_ms > 0 ? poll(&poll_fd, 1, (int)left_ms) : 0;
        if (ready == 0)
            return -ETIMEDOUT;
        ssize_t some = ready < 0 ? -1 : read(fd, room + length, size - length);
        if (some < 0 && errno == EINTR)
            continue;
        if (some < 0)
            return -errno;
        length += (size_t)some;
        if (length == size)
            return -EFBIG;
        if (some == 0) {
            room[length] = 0;
            *ret_length = length;
            return 0;
        }
    }
}

/* It has closed its output, which is not its end. */
static int await_end(pid_t pid, int64_t deadline_ms, int *ret_status)
{
    int rc = 0;
    while (waitpid(pid, ret_status, WNOHANG) == 0) {
        if (clock_ms() >= deadline_ms) {
            kill(-pid, SIGKILL);
            rc = -ETIMEDOUT;
        }
        usleep(LOOK_US);
    }
    return rc;
}

int program_run(const char *const *words, int64_t timeout_ms, char *room, size_t size, size_t *ret_length,
                int *ret_status)
{
    int ends[2];
    pid_t pid;
    int64_t deadline_ms = clock_ms() + timeout_ms;
    *ret_status = 0;
    *ret_length = 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int rc = start(words, ends[1], &pid);
    close(ends[1]);
    if (rc == 0) {
        rc = read_output(ends[0], deadline_ms, room, size, ret_length);
        if (rc < 0)
            kill(-pid, SIGKILL);
        int end_rc = await_end(pid, deadline_ms, ret_status);
        rc = rc < 0 ? rc : end_rc;
    }
    close(ends[0]);
    return rc;
}
