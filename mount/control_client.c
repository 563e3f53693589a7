#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "mount/claim.h"
#include "mount/control.h"

#define ANSWER_MAX ((size_t)16 << 20)

static bool peer_is_friend(int socket, uid_t owner, pid_t *ret_pid)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return false;
    *ret_pid = peer.pid;
    return peer.uid == 0 || peer.uid == geteuid() || peer.uid == owner;
}

/* Does not block: the queue of a daemon that is stopped may be full. */
static int try_connect(const char *path, uid_t owner, int *ret_socket, pid_t *ret_pid)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENOENT;
    strcpy(address.sun_path, path);
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0)
        return -errno;
    int rc = connect(made, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    if (rc == 0 && !peer_is_friend(made, owner, ret_pid))
        rc = -EACCES;
    if (rc < 0) {
        close(made);
        return rc;
    }
    *ret_socket = made;
    return 0;
}

static int connect_to(const char *mount_point, uid_t owner, int *ret_socket, pid_t *ret_pid)
{
    char *paths[CLAIM_PLACES];
    int rc = -ENOENT;
    claim_find_sockets(mount_point, owner, paths);
    for (int place = 0; place < CLAIM_PLACES; place++) {
        if (paths[place] && (rc == -ENOENT || rc == -ECONNREFUSED))
            rc = try_connect(paths[place], owner, ret_socket, ret_pid);
        free(paths[place]);
    }
    return rc;
}

int control_connect(const char *mount_point, uid_t owner, int *ret_socket, pid_t *ret_pid)
{
    int rc = connect_to(mount_point, owner, ret_socket, ret_pid);
    if ((rc == -ENOENT || rc == -ECONNREFUSED) && owner != geteuid())
        rc = connect_to(mount_point, geteuid(), ret_socket, ret_pid);
    return rc;
}

int control_connect_at(const char *path, int *ret_socket, pid_t *ret_pid)
{
    return try_connect(path, geteuid(), ret_socket, ret_pid);
}

static int print_request(const char *request, const char *path, struct buf *line)
{
    if (path && !utf8_valid(path)) /* json would write another name in its place */
        return -EILSEQ;
    if (path) {
        struct json *object = json_object_new();
        json_set_string(object, request, path);
        json_print(object, line, false);
        json_free(object);
    } else {
        buf_add_string(line, request);
    }
    buf_add_char(line, '\n');
    return 0;
}

int control_send(int socket, const char *request, const char *path)
{
    BUF_SCOPED line = BUF_INIT;
    int rc = print_request(request, path, &line);
    if (rc < 0)
        return rc;
    ssize_t sent = send(socket, line.bytes, line.length, MSG_NOSIGNAL);
    return sent < 0 ? -errno : (size_t)sent == line.length ? 0 : -EPIPE;
}

/* Waits until something can be read, an end included. */
static int await_readable(int socket, int64_t deadline_ms)
{
    for (;;) {
        int64_t left = deadline_ms - clock_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        struct pollfd watched = {socket, POLLIN, 0};
        int ready = poll(&watched, 1, left > INT32_MAX ? INT32_MAX : (int)left);
        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return -errno;
    }
}

/* Takes no byte behind the line's end: it belongs to the next answer. */
static int read_line(int socket, int64_t deadline_ms, struct buf *line)
{
    while (line->length < ANSWER_MAX) {
        char bytes[16384];
        int rc = await_readable(socket, deadline_ms);
        if (rc < 0)
            return rc;
        ssize_t seen = recv(socket, bytes, sizeof(bytes), MSG_PEEK);
        if (seen < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (seen <= 0)
            return -EPIPE;
        char *end = memchr(bytes, '\n', (size_t)seen);
        ssize_t taken = recv(socket, bytes, end ? (size_t)(end - bytes) + 1 : (size_t)seen, 0);
        if (taken > 0)
            buf_add(line, bytes, (size_t)taken);
        if (end)
            return 0;
    }
    return -EBADMSG;
}

int control_receive(int socket, int64_t timeout_ms, struct json **ret_answer)
{
    BUF_SCOPED line = BUF_INIT;
    int rc = read_line(socket, clock_ms() + timeout_ms, &line);
    if (rc == 0 && json_parse(line.bytes, line.length, ret_answer, NULL) < 0)
        rc = -EBADMSG;
    return rc;
}

static int check_answer(struct json **answer, struct buf *why)
{
    const char *error = json_get_string(*answer, "error");
    if (!error)
        return 0;
    buf_add_string(why, error);
    json_free(*answer);
    *answer = NULL;
    return -EPROTO;
}

int control_ask(const char *mount_point, uid_t owner, const char *request, const char *path,
                int64_t timeout_ms, struct json **ret_answer, struct buf *why)
{
    int socket;
    pid_t pid;
    struct json *answer = NULL;
    int rc = control_connect(mount_point, owner, &socket, &pid);
    if (rc < 0)
        return rc;
    rc = control_send(socket, request, path);
    if (rc == 0)
        rc = control_receive(socket, timeout_ms, &answer);
    close(socket);
    if (rc == 0)
        rc = check_answer(&answer, why);
    if (rc == 0)
        *ret_answer = answer;
    return rc;
}

int control_await(int socket, int64_t timeout_ms)
{
    return await_readable(socket, clock_ms() + timeout_ms);
}

int control_await_end(int socket, int64_t timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;
    int rc;
    while ((rc = await_readable(socket, deadline)) == 0) {
        char bytes[1024];
        ssize_t got = recv(socket, bytes, sizeof(bytes), 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return 0;
    }
    return rc;
}
