#include "mount/control.h"

#include <assert.h>
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
#include "base/err.h"

#define NO_DESCRIPTOR_MS 200
#define REQUEST_MAX      64
#define GRACE_MS         1000 /* for requests that are half said when the mount ends */
#define LAST_WORDS_MS    5000 /* for the last words to all who wait */

enum state { FREE, READING, ANSWERING, WAITING };

struct connection {
    enum state state;
    int socket;
    int64_t deadline_ms;
    char request[REQUEST_MAX];
    size_t length;
    struct buf answer;
    size_t sent;
    enum state after; /* ANSWERING: FREE or WAITING */
};

struct control {
    struct control_config config;
    char *path;
    int listener;
    int stop; /* eventfd */
    bool bound;
    dev_t device; /* of the socket that was bound here */
    ino_t inode;
    pthread_t thread;
    bool running;
    /* The server's thread only; after its end, the caller's of control_finish. */
    struct connection connections[CONTROL_CONNECTIONS];
};

static void set_state(struct connection *connection, enum state state)
{
    static const bool edges[4][4] = {
        [FREE] = {[READING] = true},
        [READING] = {[ANSWERING] = true, [FREE] = true},
        [ANSWERING] = {[WAITING] = true, [FREE] = true},
        [WAITING] = {[FREE] = true},
    };
    assert(edges[connection->state][state]);
    connection->state = state;
    if (state != FREE)
        return;
    close(connection->socket);
    buf_release(&connection->answer);
    *connection = (struct connection){.state = FREE, .socket = -1, .answer = BUF_INIT};
}

static bool peer_is_friend(int socket)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static struct connection *find_free(struct control *control)
{
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
        if (control->connections[i].state == FREE)
            return &control->connections[i];
    return NULL;
}

static void accept_all(struct control *control)
{
    struct connection *free;
    while ((free = find_free(control))) {
        int socket = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (socket < 0) {
            if (errno == EMFILE || errno == ENFILE)
                poll(NULL, 0, NO_DESCRIPTOR_MS); /* it stays readable: do not spin */
            return;
        }
        if (!peer_is_friend(socket)) {
            close(socket);
            continue;
        }
        free->socket = socket;
        free->deadline_ms = clock_ms() + CONTROL_TIMEOUT_MS;
        set_state(free, READING);
    }
}

static void prepare_answer(struct control *control, struct connection *connection)
{
    struct json *answer = NULL;
    connection->after = FREE;
    if (strcmp(connection->request, "status") == 0) {
        answer = control->config.status(control->config.context);
    } else if (strcmp(connection->request, "umount") == 0) {
        answer = json_object_new();
        json_set_integer(answer, "stop_timeout_ms", control->config.stop_timeout_ms);
        connection->after = WAITING;
    } else {
        answer = json_object_new();
        json_set_string(answer, "error", "unknown request");
    }
    json_print(answer, &connection->answer, false);
    buf_add_char(&connection->answer, '\n');
    json_free(answer);
    set_state(connection, ANSWERING);
}

static void read_request(struct control *control, struct connection *connection)
{
    ssize_t got = recv(connection->socket, connection->request + connection->length,
                       REQUEST_MAX - 1 - connection->length, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        connection->length += (size_t)got;
        connection->request[connection->length] = '\0';
        char *end = strchr(connection->request, '\n');
        if (end) {
            *end = '\0';
            prepare_answer(control, connection);
            return;
        }
    }
    if (got <= 0 || connection->length == REQUEST_MAX - 1)
        set_state(connection, FREE);
}

static void send_answer(struct connection *connection)
{
    ssize_t sent = send(connection->socket, connection->answer.bytes + connection->sent,
                        connection->answer.length - connection->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    connection->sent += sent > 0 ? (size_t)sent : 0;
    if (sent < 0)
        set_state(connection, FREE);
    else if (connection->sent == connection->answer.length)
        set_state(connection, connection->after);
}

static void step(struct control *control, struct connection *connection, short events)
{
    if (connection->state == READING && events)
        read_request(control, connection);
    if (connection->state == ANSWERING)
        send_answer(connection);
    else if (connection->state == WAITING && events)
        set_state(connection, FREE); /* the command has gone, or says what it may not */
    if (connection->state != FREE && connection->state != WAITING && clock_ms() >= connection->deadline_ms)
        set_state(connection, FREE);
}

/* Watches the listener only while there is room: others wait in its queue. Returns the time until the next deadline. */
static int fill_watched(struct control *control, struct pollfd *watched)
{
    int64_t next = CLOCK_NEVER;
    watched[0] = (struct pollfd){find_free(control) ? control->listener : -1, POLLIN, 0};
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++) {
        struct connection *connection = &control->connections[i];
        watched[i + 1] = (struct pollfd){connection->state == FREE ? -1 : connection->socket,
                                         connection->state == ANSWERING ? POLLOUT : POLLIN, 0};
        if ((connection->state == READING || connection->state == ANSWERING) &&
            connection->deadline_ms < next)
            next = connection->deadline_ms;
    }
    if (next == CLOCK_NEVER)
        return -1;
    int64_t left = next - clock_ms();
    return left < 0 ? 0 : (int)left + 1;
}

static bool somebody_speaks(struct control *control)
{
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
        if (control->connections[i].state == READING || control->connections[i].state == ANSWERING)
            return true;
    return false;
}

/* Who connected before the end is heard, but not for long. */
static void shorten_deadlines(struct control *control)
{
    int64_t last = clock_ms() + GRACE_MS;
    accept_all(control);
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
        if (control->connections[i].deadline_ms > last)
            control->connections[i].deadline_ms = last;
}

static void *serve(void *context)
{
    struct control *control = context;
    struct pollfd watched[CONTROL_CONNECTIONS + 2];
    struct pollfd *stop = &watched[CONTROL_CONNECTIONS + 1];
    bool stopping = false;
    while (!stopping || somebody_speaks(control)) {
        int timeout = fill_watched(control, watched);
        *stop = (struct pollfd){stopping ? -1 : control->stop, POLLIN, 0};
        if (poll(watched, CONTROL_CONNECTIONS + 2, timeout) < 0 && errno != EINTR)
            return NULL;
        for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
            step(control, &control->connections[i], watched[i + 1].revents);
        if (watched[0].revents && !stopping)
            accept_all(control);
        if (stop->revents) {
            stopping = true;
            shorten_deadlines(control);
        }
    }
    return NULL;
}

/* The mode is right from the first moment; what lies there was left by a daemon that was killed. */
static int bind_socket(struct control *control, struct buf *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat facts;
    assert(strlen(control->path) < sizeof(address.sun_path)); /* claim.c makes it */
    strcpy(address.sun_path, control->path);
    unlink(control->path);
    control->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(077);
    bool good =
        control->listener >= 0 && bind(control->listener, (struct sockaddr *)&address, sizeof(address)) == 0;
    int rc = good ? 0 : -errno;
    umask(mask);
    if (rc == 0 && (lstat(control->path, &facts) < 0 || listen(control->listener, CONTROL_CONNECTIONS) < 0))
        rc = -errno;
    if (rc < 0) {
        buf_printf(why, "the control socket %s cannot be made: %s", control->path, err_text(rc));
        return rc;
    }
    control->bound = true;
    control->device = facts.st_dev;
    control->inode = facts.st_ino;
    return 0;
}

int control_new(const struct control_config *config, struct control **ret_control, struct buf *why)
{
    struct control *control = xcalloc(1, sizeof(*control));
    control->config = *config;
    control->path = xstrdup(config->socket_path);
    control->listener = -1;
    control->stop = eventfd(0, EFD_CLOEXEC);
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
        control->connections[i] = (struct connection){.state = FREE, .socket = -1, .answer = BUF_INIT};
    int rc = control->stop < 0 ? -errno : bind_socket(control, why);
    if (rc < 0) {
        control_free(control);
        return rc;
    }
    *ret_control = control;
    return 0;
}

int control_serve(struct control *control)
{
    int rc = -pthread_create(&control->thread, NULL, serve, control);
    control->running = rc == 0;
    return rc;
}

static void remove_socket(struct control *control)
{
    struct stat facts;
    if (control->listener >= 0)
        close(control->listener);
    control->listener = -1;
    if (control->bound && lstat(control->path, &facts) == 0 && facts.st_dev == control->device &&
        facts.st_ino == control->inode)
        unlink(control->path);
    control->bound = false;
}

static void stop_serving(struct control *control)
{
    uint64_t one = 1;
    if (control->running && write(control->stop, &one, sizeof(one)) == sizeof(one))
        pthread_join(control->thread, NULL);
    control->running = false;
    remove_socket(control);
}

static bool send_until(int socket, const struct buf *text, int64_t deadline_ms)
{
    for (size_t sent = 0; sent < text->length;) {
        ssize_t now = send(socket, text->bytes + sent, text->length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (now > 0) {
            sent += (size_t)now;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return false;
        struct pollfd watched = {socket, POLLOUT, 0};
        int64_t left = deadline_ms - clock_ms();
        if (left <= 0 || (poll(&watched, 1, (int)left) < 0 && errno != EINTR))
            return false;
    }
    return true;
}

void control_finish(struct control *control, const struct json *last)
{
    if (!control)
        return;
    stop_serving(control);
    if (!last)
        return;
    BUF_SCOPED text = BUF_INIT;
    json_print(last, &text, false);
    buf_add_char(&text, '\n');
    int64_t deadline = clock_ms() + LAST_WORDS_MS;
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
        if (control->connections[i].state == WAITING &&
            !send_until(control->connections[i].socket, &text, deadline))
            set_state(&control->connections[i], FREE);
}

void control_free(struct control *control)
{
    if (!control)
        return;
    stop_serving(control);
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
        if (control->connections[i].state != FREE)
            set_state(&control->connections[i], FREE);
    if (control->stop >= 0)
        close(control->stop);
    free(control->path);
    free(control);
}
