#include "tests/support/little.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

#define WORDS_MAX 32
#define READY_MS  60000
#define ANSWER_S  60

struct little {
    pid_t pid;
    int port;
    char endpoint[64];
};

static char *find_script(void)
{
    const char *source = getenv("SKYVOL_SOURCE");
    return xprintf("%s/tests/support/little_s3.py", source && *source ? source : ".");
}

static void fill_words(const char *script, const char *const *options, const char **words)
{
    size_t count = 0;
    words[count++] = "python3";
    words[count++] = script;
    words[count++] = "--bucket";
    words[count++] = LITTLE_BUCKET;
    words[count++] = "--access-key";
    words[count++] = LITTLE_ACCESS_KEY;
    words[count++] = "--secret-key";
    words[count++] = LITTLE_SECRET_KEY;
    for (size_t i = 0; options && options[i] && i < WORDS_MAX; i++)
        words[count++] = options[i];
    words[count] = NULL;
}

/* Allocates nothing: criterion's thread may hold the allocator at the moment of the fork. */
static _Noreturn void run_child(const char *const *words, int ready, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    dup2(ready, 1);
    execvp("python3", (char *const *)(uintptr_t)words);
    _exit(127);
}

/* Reads "READY PORT\n". */
static int read_port(int ready)
{
    char line[64] = "";
    size_t length = 0;
    int port = 0;
    while (length + 1 < sizeof(line) && !strchr(line, '\n')) {
        if (poll(&(struct pollfd){.fd = ready, .events = POLLIN}, 1, READY_MS) <= 0)
            break;
        ssize_t got = read(ready, line + length, sizeof(line) - 1 - length);
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    return sscanf(line, "READY %d", &port) == 1 ? port : 0;
}

int little_start(const char *const *options, struct little **ret_little, struct buf *why)
{
    int ends[2];
    pid_t parent = getpid();
    const char *words[WORDS_MAX + 12];
    STRING_SCOPED *script = find_script();
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fill_words(script, options, words);
    struct little *little = xcalloc(1, sizeof(*little));
    little->pid = fork();
    if (little->pid == 0)
        run_child(words, ends[1], parent);
    close(ends[1]);
    little->port = little->pid > 0 ? read_port(ends[0]) : 0;
    close(ends[0]);
    if (!little->port) {
        buf_add_string(why, "the little S3 did not start: python3, or SKYVOL_SOURCE, is missing");
        little_free(little);
        return -ECHILD;
    }
    snprintf(little->endpoint, sizeof(little->endpoint), "http://127.0.0.1:%d", little->port);
    *ret_little = little;
    return 0;
}

void little_free(struct little *little)
{
    if (!little)
        return;
    if (little->pid > 0) {
        kill(little->pid, SIGKILL);
        waitpid(little->pid, NULL, 0);
    }
    free(little);
}

const char *little_endpoint(const struct little *little)
{
    return little->endpoint;
}

static int connect_to(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    struct timeval patience = {.tv_sec = ANSWER_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int exchange(int fd, const struct buf *request, struct buf *answer)
{
    for (size_t sent = 0; sent < request->length;) {
        ssize_t step = send(fd, request->bytes + sent, request->length - sent, MSG_NOSIGNAL);
        if (step < 0)
            return -errno;
        sent += (size_t)step;
    }
    char piece[4096];
    ssize_t got;
    while ((got = recv(fd, piece, sizeof(piece), 0)) > 0)
        buf_add(answer, piece, (size_t)got);
    return got < 0 ? -errno : 0;
}

int little_control(struct little *little, const char *name, const char *json, struct buf *out)
{
    BUF_SCOPED request = BUF_INIT, answer = BUF_INIT;
    buf_printf(
        &request,
        "%s /_control/%s HTTP/1.1\r\nHost: little\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
        json ? "POST" : "GET", name, json ? strlen(json) : 0, json ? json : "");
    int fd = connect_to(little->port);
    if (fd < 0)
        return fd;
    int rc = exchange(fd, &request, &answer);
    close(fd);
    const char *body = strstr(answer.bytes, "\r\n\r\n");
    if (rc < 0 || !body)
        return -EIO;
    if (out)
        buf_add_string(out, body + 4);
    return strncmp(answer.bytes, "HTTP/1.1 200", 12) == 0 ? 0 : -EINVAL;
}
