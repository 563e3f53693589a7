#include "mount/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "mount/dying.h"
#include "mount/logging.h"
#include "mount/place.h"

#define LOOK_MS  1000 /* how often a daemon that says nothing is looked at */
#define DYING_MS 200

enum state { STARTING, WATCHING, RESTING };

struct monitor {
    const struct settings *settings;
    enum state state;
    int command; /* -1: it has been told */
    int signals; /* signalfd */
    sigset_t usual;
    pid_t daemon;
    int word; /* the daemon's channel; -1: heard */
    bool stopping;
    bool logs;
    int64_t log_before;             /* how long the log's file was */
    int64_t starts[MONITOR_STARTS]; /* again; a ring */
    size_t next_start;
    int64_t due_ms; /* RESTING: when it is started again */
};

int64_t monitor_next(const int64_t starts[MONITOR_STARTS], int64_t now_ms, int64_t delay_ms)
{
    int64_t oldest = starts[0];
    for (size_t i = 1; i < MONITOR_STARTS; i++)
        oldest = starts[i] < oldest ? starts[i] : oldest;
    int64_t free_ms = oldest ? oldest + MONITOR_WINDOW_MS : 0;
    return now_ms + delay_ms > free_ms ? now_ms + delay_ms : free_ms;
}

static void __attribute__((format(printf, 3, 4)))
say(struct monitor *monitor, enum log_level level, const char *format, ...)
{
    BUF_SCOPED why = BUF_INIT, text = BUF_INIT;
    va_list list;
    if (!monitor->logs)
        logging_open(monitor->settings, &why);
    monitor->logs = true;
    va_start(list, format);
    buf_vprintf(&text, format, list);
    va_end(list);
    log_line(level, "monitor of %s: %s", monitor->settings->mount_point, text.bytes);
}

/* ---- Starting. ---- */

static void fill_signals(sigset_t *set)
{
    static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR2};
    sigemptyset(set);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaddset(set, numbers[i]);
}

static void become_daemon(struct monitor *monitor, int channel, pid_t parent, struct daemon *daemon)
{
    close(monitor->signals);
    if (monitor->command >= 0)
        close(monitor->command);
    sigprocmask(SIG_SETMASK, &monitor->usual, NULL);
    daemon_follow(parent);
    prctl(PR_SET_NAME, "skyvol");
    *daemon = (struct daemon){.channel = channel, .monitor = parent, .again = monitor->command < 0};
}

/* 0: in the monitor; 1: in the daemon. */
static int start(struct monitor *monitor, struct daemon *daemon)
{
    int ends[2];
    pid_t self = getpid();
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        become_daemon(monitor, ends[1], self, daemon);
        return 1;
    }
    int rc = child < 0 ? -errno : 0;
    close(ends[1]);
    if (rc < 0) {
        close(ends[0]);
        return rc;
    }
    monitor->state = STARTING;
    monitor->daemon = child;
    monitor->word = ends[0];
    return 0;
}

/* ---- The word. ---- */

/* The command goes once it has heard, and may do so: it is not followed any more. One that has gone before wants no mount. */
static void tell_command(struct monitor *monitor, char kind, const char *words)
{
    if (kind == DAEMON_READY)
        daemon_outlive();
    if (daemon_write_word(monitor->command, kind, words) < 0 && kind == DAEMON_READY) {
        monitor->stopping = true;
        kill(monitor->daemon, SIGTERM);
    }
    close(monitor->command);
    monitor->command = -1;
    if (kind == DAEMON_READY)
        daemon_detach();
}

/* True: it said something. */
static bool hear_word(struct monitor *monitor)
{
    BUF_SCOPED word = BUF_INIT;
    if (monitor->word < 0)
        return false;
    daemon_read_word(monitor->word, &word);
    close(monitor->word);
    monitor->word = -1;
    if (word.length == 0)
        return false;
    bool ready = word.bytes[0] == DAEMON_READY;
    if (ready)
        monitor->state = WATCHING;
    if (monitor->command >= 0)
        tell_command(monitor, word.bytes[0], word.bytes + 1);
    else if (ready)
        say(monitor, LOG_LEVEL_WARN, "it is mounted again (pid %d)", (int)monitor->daemon);
    else
        say(monitor, LOG_LEVEL_ERROR, "it cannot be mounted again: %s", word.bytes + 1);
    return true;
}

/* ---- The end of a daemon. ---- */

static bool is_dead(const struct monitor *monitor)
{
    struct place_mount mount;
    bool dead = place_look(monitor->settings->mount_point, &mount) == PLACE_DEAD;
    place_mount_release(&mount);
    return dead;
}

static _Noreturn void end_before_ready(struct monitor *monitor, int status)
{
    BUF_SCOPED words = BUF_INIT, end = BUF_INIT;
    logging_end(monitor->settings, monitor->log_before, &end);
    if (WIFSIGNALED(status))
        buf_printf(&words, "the daemon was killed by signal %d before it was ready; ", WTERMSIG(status));
    else
        buf_printf(&words, "the daemon ended with %d before it was ready; ", WEXITSTATUS(status));
    if (end.length)
        buf_printf(&words, "the end of %s:%s", monitor->settings->log_target, end.bytes);
    else
        buf_add_string(&words, "see its log, or try again with -f to see why");
    daemon_write_word(monitor->command, DAEMON_FAILED, words.bytes);
    _exit(1);
}

static void rest(struct monitor *monitor, int64_t delay_ms)
{
    monitor->state = RESTING;
    monitor->due_ms = monitor_next(monitor->starts, clock_ms(), delay_ms);
}

/* It served, and was killed. */
static void hear_death(struct monitor *monitor, int number)
{
    int64_t now = clock_ms();
    say(monitor, LOG_LEVEL_ERROR, "the daemon died: %s (signal %d)", strsignal(number), number);
    if (monitor->stopping || !is_dead(monitor)) {
        say(monitor, LOG_LEVEL_WARN,
            "it is not mounted any more and not started again; the next mount sends what is unsent");
        _exit(1);
    }
    if (monitor_next(monitor->starts, now, MONITOR_SOON_MS) > now + MONITOR_SOON_MS) {
        say(monitor, LOG_LEVEL_ERROR,
            "it died too often and is not started again; what was written is kept: mount it again");
        _exit(1);
    }
    rest(monitor, MONITOR_SOON_MS);
}

/* A daemon that ends by itself is the end of its monitor, but for one that could not be started again. */
static void hear_end(struct monitor *monitor, int status)
{
    bool tried = monitor->state == STARTING;
    hear_word(monitor);
    monitor->daemon = 0;
    bool first = monitor->command >= 0;
    if (first)
        end_before_ready(monitor, status);
    if (WIFSIGNALED(status))
        hear_death(monitor, WTERMSIG(status));
    else if (tried && monitor->starts[0] && !monitor->stopping && is_dead(monitor))
        rest(monitor, MONITOR_LATER_MS);
    else
        _exit(WEXITSTATUS(status));
}

static void reap(struct monitor *monitor)
{
    int status;
    if (monitor->daemon && waitpid(monitor->daemon, &status, WNOHANG) == monitor->daemon)
        hear_end(monitor, status);
}

/* ---- Watching. ---- */

static void hear_signal(struct monitor *monitor)
{
    struct signalfd_siginfo heard;
    if (read(monitor->signals, &heard, sizeof heard) != sizeof heard)
        return;
    int number = (int)heard.ssi_signo;
    if (number == SIGCHLD) {
        reap(monitor);
        return;
    }
    if (number != SIGUSR2)
        monitor->stopping = true;
    if (monitor->daemon)
        kill(monitor->daemon, number);
    else if (monitor->stopping)
        _exit(1);
}

/* A child that is dying and cannot go sends no signal. */
static void look_at_daemon(struct monitor *monitor)
{
    if (monitor->state == RESTING || !monitor->daemon || !dying_is(monitor->daemon))
        return;
    usleep(DYING_MS * 1000); /* most die by themselves */
    if (dying_is(monitor->daemon))
        dying_cut(monitor->settings->mount_point);
    reap(monitor);
}

static int time_left(const struct monitor *monitor)
{
    if (monitor->state != RESTING)
        return LOOK_MS;
    int64_t left = monitor->due_ms - clock_ms();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

/* True in the daemon that was started again. */
static bool start_again(struct monitor *monitor, struct daemon *daemon)
{
    if (!is_dead(monitor)) {
        say(monitor, LOG_LEVEL_WARN, "somebody else has unmounted it, or mounted there");
        _exit(1);
    }
    monitor->starts[monitor->next_start] = clock_ms();
    monitor->next_start = (monitor->next_start + 1) % MONITOR_STARTS;
    int rc = start(monitor, daemon);
    if (rc < 0) {
        say(monitor, LOG_LEVEL_ERROR, "no process can be started: %s", err_name(rc));
        rest(monitor, MONITOR_LATER_MS);
    }
    return rc == 1;
}

/* Returns in a daemon. */
static void watch(struct monitor *monitor, struct daemon *daemon)
{
    for (;;) {
        struct pollfd watched[] = {{monitor->signals, POLLIN, 0}, {monitor->word, POLLIN, 0}};
        int ready = poll(watched, 2, time_left(monitor));
        if (ready < 0 && errno != EINTR)
            _exit(1);
        if (ready == 0)
            look_at_daemon(monitor);
        if (ready > 0 && watched[1].revents)
            hear_word(monitor);
        if (ready > 0 && watched[0].revents)
            hear_signal(monitor);
        if (monitor->state == RESTING && time_left(monitor) == 0 && start_again(monitor, daemon))
            return;
    }
}

void monitor_run(int command, const struct settings *settings, struct daemon *daemon)
{
    struct monitor monitor = {.settings = settings, .command = command, .word = -1};
    sigset_t set;
    monitor.log_before = logging_length(settings);
    fill_signals(&set);
    sigprocmask(SIG_BLOCK, &set, &monitor.usual);
    signal(SIGPIPE, SIG_IGN);
    monitor.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int rc = monitor.signals < 0 ? -errno : start(&monitor, daemon);
    if (rc == 1)
        return;
    if (rc < 0) {
        daemon_write_word(command, DAEMON_FAILED,
                          "no process can be started: out of memory, or too many processes");
        _exit(1);
    }
    prctl(PR_SET_NAME, "skyvol-monitor");
    watch(&monitor, daemon);
}
