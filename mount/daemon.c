#include "mount/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "mount/words.h"

/* The first byte of the child's word. */
enum { WORD_READY = 'R', WORD_FAILED = 'F' };

static ssize_t read_word(int channel, struct buf *word)
{
    for (;;) {
        char bytes[4096];
        ssize_t got = read(channel, bytes, sizeof(bytes));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return (ssize_t)word->length;
        buf_add(word, bytes, (size_t)got);
    }
}

static _Noreturn void wait_for_child(int channel, pid_t child)
{
    BUF_SCOPED word = BUF_INIT;
    if (read_word(channel, &word) > 0) {
        words_complain(word.bytes + 1);
        _exit(word.bytes[0] == WORD_READY ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        words_say("the daemon was killed by signal %d before it was ready; see its log", WTERMSIG(status));
    else
        words_say("the daemon ended before it was ready; try again with -f to see why");
    _exit(1);
}

int daemon_start(struct daemon *daemon, bool foreground)
{
    daemon->channel = -1;
    if (foreground)
        return 0;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fflush(NULL);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        int rc = -errno;
        close(ends[0]);
        close(ends[1]);
        return rc;
    }
    if (child > 0) {
        close(ends[1]);
        wait_for_child(ends[0], child);
    }
    close(ends[0]);
    daemon->channel = ends[1];
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) /* it was gone before the line above */
        _exit(1);
    return 0;
}

static int tell(struct daemon *daemon, char word, const char *words)
{
    if (daemon->channel < 0) {
        words_complain(words);
        return 0;
    }
    BUF_SCOPED message = BUF_INIT;
    buf_add_char(&message, word);
    buf_add_string(&message, words);
    ssize_t sent = write(daemon->channel, message.bytes, message.length);
    int rc = sent < 0 ? -errno : 0;
    close(daemon->channel);
    daemon->channel = -1;
    return rc;
}

int daemon_ready(struct daemon *daemon, const char *words)
{
    bool background = daemon->channel >= 0;
    if (background) {
        prctl(PR_SET_PDEATHSIG, 0); /* once told, the parent ends as it should */
        if (chdir("/") < 0)
            log_warn("chdir /: %s; the directory where it was started stays in use", err_name(errno));
    }
    int rc = tell(daemon, WORD_READY, words);
    int nothing = background ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    if (nothing < 0)
        return rc;
    for (int fd = 0; fd < 3; fd++)
        dup2(nothing, fd);
    if (nothing > 2)
        close(nothing);
    return rc;
}

void daemon_failed(struct daemon *daemon, const char *words)
{
    tell(daemon, WORD_FAILED, words);
}
