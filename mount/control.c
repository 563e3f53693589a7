#include "mount/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/log.h"
#include "mount/place.h"

#define REQUEST_MAX        64
#define REQUEST_TIMEOUT_MS 5000
#define ANSWER_MAX         ((size_t)16 << 20)

struct control {
    struct control_config config;
    char *path;
    int listener;
    int stop; /* eventfd */
    pthread_t thread;
    bool running;
    struct lock lock;
    int waiting[CONTROL_CONNECTIONS]; /* sockets of "umount", -1: free; under lock */
};

static char *socket_path(const char *directory, const char *mount_point)
{
    uint8_t hash[SHA256_BYTES];
    digest_sha256(mount_point, strlen(mount_point), hash);
    BUF_SCOPED name = BUF_INIT;
    buf_add_hex(&name, hash, 10);
    return xprintf("%s/%s.sock", directory, name.bytes);
}

static bool peer_is_friend(int socket)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid() || geteuid() == 0;
}

static int send_all(int socket, const char *bytes, size_t length)
{
    while (length) {
        ssize_t sent = send(socket, bytes, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -errno;
        bytes += sent;
        length -= (size_t)sent;
    }
    return 0;
}

static int send_json(int socket, const struct json *json)
{
    BUF_SCOPED text = BUF_INIT;
    json_print(json, &text, false);
    buf_add_char(&text, '\n');
    return send_all(socket, text.bytes, text.length);
}

/* One line, at most REQUEST_MAX bytes, within REQUEST_TIMEOUT_MS. */
static bool read_request(int socket, char request[REQUEST_MAX])
{
    size_t length = 0;
    while (length < REQUEST_MAX - 1) {
        ssize_t got = recv(socket, request + length, REQUEST_MAX - 1 - length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        length += (size_t)got;
        request[length] = '\0';
        char *end = strchr(request, '\n');
        if (end) {
            *end = '\0';
            return true;
        }
    }
    return false;
}

static bool keep_waiting(struct control *control, int socket)
{
    LOCK_SCOPED(&control->lock);
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++) {
        if (control->waiting[i] < 0) {
            control->waiting[i] = socket;
            return true;
        }
    }
    return false;
}

/* True: the socket stays open. */
static bool answer_request(struct control *control, int socket)
{
    char request[REQUEST_MAX];
    struct timeval limit = {.tv_sec = REQUEST_TIMEOUT_MS / 1000};
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (!peer_is_friend(socket) || !read_request(socket, request))
        return false;
    if (strcmp(request, "umount") == 0)
        return keep_waiting(control, socket);
    struct json *answer = NULL;
    if (strcmp(request, "status") == 0)
        answer = control->config.status(control->config.context);
    else {
        answer = json_object_new();
        json_set_string(answer, "error", "unknown request");
    }
    send_json(socket, answer);
    json_free(answer);
    return false;
}

/* Connections of "umount" whose command has gone are forgotten, so that their places can be used again. */
static void drop_gone(struct control *control)
{
    LOCK_SCOPED(&control->lock);
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++) {
        char byte;
        int socket = control->waiting[i];
        if (socket >= 0 && recv(socket, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0) {
            close(socket);
            control->waiting[i] = -1;
        }
    }
}

static void *serve(void *context)
{
    struct control *control = context;
    struct pollfd watched[2] = {{control->listener, POLLIN, 0}, {control->stop, POLLIN, 0}};
    for (;;) {
        if (poll(watched, 2, -1) < 0 && errno != EINTR)
            return NULL;
        if (watched[1].revents)
            return NULL;
        if (!watched[0].revents)
            continue;
        int socket = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC);
        if (socket < 0)
            continue;
        drop_gone(control);
        if (!answer_request(control, socket))
            close(socket);
    }
}

static int bind_socket(struct control *control, struct buf *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(control->path) >= sizeof(address.sun_path)) {
        buf_printf(why, "the control socket's path is too long: %s", control->path);
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, control->path);
    unlink(control->path);
    control->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (control->listener < 0 || bind(control->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(control->path, 0600) < 0 || listen(control->listener, CONTROL_CONNECTIONS) < 0) {
        int rc = -errno;
        buf_printf(why, "the control socket %s cannot be made: %s", control->path, err_text(rc));
        return rc;
    }
    return 0;
}

int control_new(const struct control_config *config, struct control **ret_control, struct buf *why)
{
    STRING_SCOPED *directory = place_runtime_directory(getuid());
    if (!directory) {
        buf_printf(why,
                   "there is no place for a control socket; set XDG_RUNTIME_DIR to a directory of yours");
        return -ENOENT;
    }
    struct control *control = xcalloc(1, sizeof(*control));
    control->config = *config;
    control->path = socket_path(directory, config->mount_point);
    control->listener = -1;
    control->stop = eventfd(0, EFD_CLOEXEC);
    lock_init(&control->lock, LOCK_LEAF, "control");
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
        control->waiting[i] = -1;
    int rc = control->stop < 0 ? -errno : bind_socket(control, why);
    if (rc == 0)
        rc = -pthread_create(&control->thread, NULL, serve, control);
    if (rc < 0) {
        control_free(control);
        return rc;
    }
    control->running = true;
    *ret_control = control;
    return 0;
}

static void stop_serving(struct control *control)
{
    if (!control->running)
        return;
    uint64_t one = 1;
    if (write(control->stop, &one, sizeof(one)) == sizeof(one))
        pthread_join(control->thread, NULL);
    control->running = false;
}

void control_finish(struct control *control, const struct json *last)
{
    stop_serving(control);
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++) {
        if (control->waiting[i] < 0)
            continue;
        send_json(control->waiting[i], last);
        close(control->waiting[i]);
        control->waiting[i] = -1;
    }
}

void control_free(struct control *control)
{
    if (!control)
        return;
    stop_serving(control);
    if (control->listener >= 0) {
        close(control->listener);
        unlink(control->path);
    }
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
        if (control->waiting[i] >= 0)
            close(control->waiting[i]);
    if (control->stop >= 0)
        close(control->stop);
    lock_release(&control->lock);
    free(control->path);
    free(control);
}

static int try_connect(uid_t uid, const char *mount_point, int *ret_socket)
{
    STRING_SCOPED *directory = place_runtime_directory(uid);
    if (!directory)
        return -ENOENT;
    STRING_SCOPED *path = socket_path(directory, mount_point);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENOENT;
    strcpy(address.sun_path, path);
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (made < 0)
        return -errno;
    int rc = connect(made, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    if (rc == 0 && !peer_is_friend(made))
        rc = -EPERM;
    if (rc < 0) {
        close(made);
        return rc;
    }
    *ret_socket = made;
    return 0;
}

int control_connect(const char *mount_point, int *ret_socket, struct buf *why)
{
    struct place_mount mount;
    place_find(mount_point, &mount);
    int rc = try_connect(getuid(), mount_point, ret_socket);
    if (rc < 0 && mount.found && mount.owner != getuid())
        rc = try_connect(mount.owner, mount_point, ret_socket);
    if (rc < 0 && !mount.found)
        buf_printf(why, "%s is not mounted", mount_point);
    else if (rc < 0 && strncmp(mount.type, "fuse.skyvol", 11) != 0)
        buf_printf(why, "%s is a mount of %s (%s), not of skyvol", mount_point, mount.source, mount.type);
    else if (rc == -EACCES || rc == -EPERM)
        buf_printf(why, "%s is another user's mount; ask as that user or as root", mount_point);
    else if (rc < 0)
        buf_printf(why, "the daemon of %s does not answer (%s); if it is dead: umount -l %s", mount_point,
                   err_text(rc), mount_point);
    place_mount_release(&mount);
    return rc;
}

int control_send(int socket, const char *command)
{
    STRING_SCOPED *line = xprintf("%s\n", command);
    return send_all(socket, line, strlen(line));
}

int control_receive(int socket, int timeout_ms, struct buf *ret_answer)
{
    int64_t deadline = timeout_ms < 0 ? CLOCK_NEVER : clock_ms() + timeout_ms;
    while (ret_answer->length < ANSWER_MAX) {
        int64_t left = deadline == CLOCK_NEVER ? -1 : deadline - clock_ms();
        struct pollfd watched = {socket, POLLIN, 0};
        if (deadline != CLOCK_NEVER && left <= 0)
            return -ETIMEDOUT;
        int ready = poll(&watched, 1, (int)left);
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready <= 0)
            continue;
        char bytes[16384];
        ssize_t got = recv(socket, bytes, sizeof(bytes), 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got == 0)
            return ret_answer->length ? 0 : -EPIPE;
        if (got > 0)
            buf_add(ret_answer, bytes, (size_t)got);
    }
    return -EFBIG;
}
