#include "tests/support/minio.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#define READY_TIMEOUT_S 60

struct minio {
    char *program;
    char *directory; /* data, certs and log */
    char *ca;        /* NULL: no TLS */
    char endpoint[64];
    int port, console_port;
    pid_t pid; /* 0: down */
};

static char *find_on_path(void)
{
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t length = strcspn(path, ":");
        char *program = xprintf("%.*s/minio", (int)length, path);
        if (!access(program, X_OK))
            return program;
        free(program);
        path += length + (path[length] == ':');
    }
    return NULL;
}

static char *find_program(struct buf *why)
{
    const char *named = getenv("SKYVOL_MINIO"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *program;

    if (named && *named) {
        if (!access(named, X_OK))
            return xstrdup(named);
        buf_printf(why, "SKYVOL_MINIO=%s is no program. Install minio there, or unset SKYVOL_MINIO", named);
        return NULL;
    }
    program = find_on_path();
    if (program)
        return program;
    program = cache && *cache ? xprintf("%s/skyvol/minio/minio", cache)
                              : xprintf("%s/.cache/skyvol/minio/minio", home ? home : "");
    if (!access(program, X_OK))
        return program;
    buf_printf(why,
               "no minio in $SKYVOL_MINIO, on PATH or at %s. Install it: go install "
               "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c, or run ./test, which does",
               program);
    free(program);
    return NULL;
}

static int find_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = -1;

    if (fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)) &&
        !getsockname(fd, (struct sockaddr *)&address, &length))
        port = ntohs(address.sin_port);
    close(fd);
    return port;
}

/* True: the health page says 200, or a TLS server says that it is one. */
static bool is_ready(const struct minio *minio)
{
    static const char ask[] = "GET /minio/health/cluster HTTP/1.0\r\nHost: localhost\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)minio->port)};
    struct timeval patience = {.tv_sec = 2};
    char answer[64] = "";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ready;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ready = !connect(fd, (struct sockaddr *)&address, sizeof(address)) &&
            send(fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) > 0 &&
            recv(fd, answer, sizeof(answer) - 1, 0) > 12 &&
            !strncmp(answer + 8, minio->ca ? " 400" : " 200", 4); /* TLS: "HTTP request to an HTTPS server" */
    close(fd);
    return ready;
}

/* Allocates nothing: criterion's thread may hold the allocator at the moment of the fork. */
static _Noreturn void run_child(const char *program, const char *const *words, int log, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    dup2(log, 1);
    dup2(log, 2);
    execv(program, (char *const *)(uintptr_t)words);
    _exit(127);
}

static pid_t start_child(const struct minio *minio)
{
    char address[32], console[32];
    STRING_SCOPED *data = xprintf("%s/data", minio->directory);
    STRING_SCOPED *certs = xprintf("%s/certs", minio->directory);
    STRING_SCOPED *log_path = xprintf("%s/log", minio->directory);
    const char *words[] = {"minio", "server",      data,  "--address", address, "--console-address",
                           console, "--certs-dir", certs, NULL};
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pid_t parent = getpid();

    snprintf(address, sizeof(address), "127.0.0.1:%d", minio->port);
    snprintf(console, sizeof(console), "127.0.0.1:%d", minio->console_port);
    setenv("MINIO_ROOT_USER", MINIO_ACCESS_KEY, 1);
    setenv("MINIO_ROOT_PASSWORD", MINIO_SECRET_KEY, 1);
    setenv("MINIO_BROWSER", "off", 1);
    setenv("MINIO_UPDATE", "off", 1);
    pid_t child = fork();
    if (child == 0)
        run_child(minio->program, words, log, parent);
    int rc = -errno;
    close(log);
    return child < 0 ? rc : child;
}

static int await_ready(struct minio *minio, struct buf *why)
{
    const struct timespec moment = {.tv_nsec = 20 * 1000000};
    time_t end = time(NULL) + READY_TIMEOUT_S;

    while (time(NULL) < end) {
        if (is_ready(minio))
            return 0;
        if (waitpid(minio->pid, NULL, WNOHANG) == minio->pid) {
            minio->pid = 0;
            buf_printf(why, "minio ended at once; its log is %s/log", minio->directory);
            return -ECHILD;
        }
        nanosleep(&moment, NULL);
    }
    buf_printf(why, "minio did not answer within %d s", READY_TIMEOUT_S);
    return -ETIMEDOUT;
}

int minio_revive(struct minio *minio, struct buf *why)
{
    pid_t child = start_child(minio);
    if (child < 0) {
        buf_printf(why, "fork: %s", err_text(child));
        return child;
    }
    minio->pid = child;
    return await_ready(minio, why);
}

static int make_directory(struct minio *minio)
{
    const char *base = getenv("TMPDIR");
    char *made = xprintf("%s/skyvol-minio-XXXXXX", base && *base ? base : "/tmp");

    if (!mkdtemp(made)) {
        free(made);
        return -errno;
    }
    minio->directory = made;
    STRING_SCOPED *data = xprintf("%s/data", made);
    STRING_SCOPED *bucket = xprintf("%s/data/" MINIO_BUCKET, made);
    STRING_SCOPED *certs = xprintf("%s/certs", made);
    return mkdir(data, 0700) || mkdir(bucket, 0700) || mkdir(certs, 0700) ? -errno : 0;
}

static int make_certificate(struct minio *minio, struct buf *why)
{
    STRING_SCOPED *command = xprintf(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=minio "
        "-addext subjectAltName=IP:127.0.0.1 -keyout %s/certs/private.key -out %s/certs/public.crt "
        "2>/dev/null",
        minio->directory, minio->directory);
    if (system(command) != 0) {
        buf_add_string(why, "no certificate could be made. Install openssl: apt-get install openssl");
        return -ENOENT;
    }
    minio->ca = xprintf("%s/certs/public.crt", minio->directory);
    return 0;
}

static int start(bool tls, struct minio **ret_minio, struct buf *why)
{
    struct minio *minio = xcalloc(1, sizeof(*minio));
    int rc = -ENOENT;

    minio->program = find_program(why);
    if (!minio->program)
        goto fail;
    rc = make_directory(minio);
    if (rc < 0) {
        buf_printf(why, "no temporary directory: %s", err_text(rc));
        goto fail;
    }
    minio->port = find_free_port();
    minio->console_port = find_free_port();
    snprintf(minio->endpoint, sizeof(minio->endpoint), "http%s://127.0.0.1:%d", tls ? "s" : "", minio->port);
    rc = tls ? make_certificate(minio, why) : 0;
    if (rc == 0)
        rc = minio_revive(minio, why);
    if (rc < 0)
        goto fail;
    *ret_minio = minio;
    return 0;
fail:
    minio_free(minio);
    return rc;
}

int minio_start(struct minio **ret_minio, struct buf *why)
{
    return start(false, ret_minio, why);
}

int minio_start_tls(struct minio **ret_minio, struct buf *why)
{
    return start(true, ret_minio, why);
}

const char *minio_ca(const struct minio *minio)
{
    return minio->ca;
}

const char *minio_endpoint(const struct minio *minio)
{
    return minio->endpoint;
}

void minio_halt(struct minio *minio)
{
    if (minio->pid <= 0)
        return;
    kill(minio->pid, SIGKILL);
    waitpid(minio->pid, NULL, 0);
    minio->pid = 0;
}

void minio_freeze(struct minio *minio)
{
    int status;
    kill(minio->pid, SIGSTOP);
    waitpid(minio->pid, &status, WUNTRACED); /* the signal alone leaves it a moment to answer */
}

void minio_thaw(struct minio *minio)
{
    kill(minio->pid, SIGCONT);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

void minio_free(struct minio *minio)
{
    if (!minio)
        return;
    minio_halt(minio);
    if (minio->directory)
        nftw(minio->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(minio->directory);
    free(minio->ca);
    free(minio->program);
    free(minio);
}
