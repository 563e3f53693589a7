#include "mount/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "mount/monitor.h"
#include "mount/words.h"

size_t daemon_read_word(int channel, struct buf *word)
{
    for (;;) {
        char bytes[4096];
        ssize_t got = read(channel, bytes, sizeof(bytes));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return word->length;
        buf_add(word, bytes, (size_t)got);
    }
}

int daemon_write_word(int channel, char kind, const char *words)
{
    BUF_SCOPED message = BUF_INIT;
    buf_add_char(&message, kind);
    buf_add_string(&message, words);
    return write(channel, message.bytes, message.length) < 0 ? -errno : 0;
}

void daemon_follow(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) /* it was gone before the line above */
        _exit(1);
}

void daemon_outlive(void)
{
    prctl(PR_SET_PDEATHSIG, 0);
}

void daemon_detach(void)
{
    if (chdir("/") < 0)
        log_warn("chdir /: %s; the directory where it was started stays in use", err_name(errno));
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing < 0)
        return;
    for (int fd = 0; fd < 3; fd++)
        dup2(nothing, fd);
    if (nothing > 2)
        close(nothing);
}

static _Noreturn void wait_for_word(int channel)
{
    BUF_SCOPED word = BUF_INIT;
    if (daemon_read_word(channel, &word) > 0)
        words_complain(word.bytes + 1);
    else
        words_say("the daemon was ended before it was ready; try again with -f to see why");
    _exit(word.bytes[0] == DAEMON_READY ? 0 : 1);
}

int daemon_start(struct daemon *daemon, const struct settings *settings)
{
    *daemon = (struct daemon){.channel = -1};
    if (settings->foreground)
        return 0;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fflush(NULL);
    pid_t command = getpid();
    pid_t child = fork();
    if (child < 0) {
        int rc = -errno;
        close(ends[0]);
        close(ends[1]);
        return rc;
    }
    if (child > 0) {
        close(ends[1]);
        wait_for_word(ends[0]);
    }
    close(ends[0]);
    setsid();
    daemon_follow(command);
    monitor_run(ends[1], settings, daemon);
    return 0;
}

static int tell(struct daemon *daemon, char kind, const char *words)
{
    if (daemon->channel < 0) {
        words_complain(words);
        return 0;
    }
    int rc = daemon_write_word(daemon->channel, kind, words);
    close(daemon->channel);
    daemon->channel = -1;
    return rc;
}

int daemon_ready(struct daemon *daemon, const char *words)
{
    bool background = daemon->channel >= 0;
    if (background)
        daemon_outlive();
    int rc = tell(daemon, DAEMON_READY, words);
    if (background)
        daemon_detach();
    return rc;
}

void daemon_failed(struct daemon *daemon, const char *words)
{
    tell(daemon, DAEMON_FAILED, words);
}

pid_t daemon_monitor(const struct daemon *daemon)
{
    return daemon->monitor && getppid() == daemon->monitor ? daemon->monitor : 0;
}
