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
#include "base/list.h"
#include "base/lock.h"
#include "base/pool.h"

#define NO_DESCRIPTOR_MS 200
#define REQUEST_MAX      ((size_t)32 << 10) /* PATH_MAX, each byte escaped as \\u00XX */
#define GRACE_MS         1000               /* for requests that are half said when the mount ends */
#define LAST_WORDS_MS    5000               /* for the last words to all who wait */

enum state { FREE, READING, WORKING, ANSWERING, WAITING };

struct connection {
    enum state state;
    int socket;
    int64_t deadline_ms;
    struct buf request;
    struct buf answer;
    size_t sent;
    enum state after;  /* ANSWERING: FREE or WAITING */
    struct work *work; /* WORKING */
    bool gone;         /* WORKING: nobody waits for the answer any more */
};

/* What is SLOW, on its way to another thread and back. */
struct work {
    struct job job;
    struct list link; /* in control->done */
    struct control *control;
    struct connection *connection; /* WORKING until the answer is here */
    const struct control_request *request;
    char *path;
    struct waiter waiter;
    struct json *answer;
};

struct control {
    struct control_config config;
    char *path;
    int listener;
    int wake; /* eventfd: look at what is under the lock */
    bool bound;
    dev_t device; /* of the socket that was bound here */
    ino_t inode;
    pthread_t thread;
    bool running;
    struct pool *slow;

    struct lock lock;
    /* Under lock. */
    bool stopping;
    struct list done;   /* of struct work */
    struct buf telling; /* whole lines for those who stay */

    /* The server's thread only; after its end, the caller's of control_finish. */
    struct connection connections[CONTROL_CONNECTIONS];
};

#define NO_CONNECTION                                                                                        \
    (struct connection)                                                                                      \
    {                                                                                                        \
        .state = FREE, .socket = -1, .request = BUF_INIT, .answer = BUF_INIT                                 \
    }

static void set_state(struct connection *connection, enum state state)
{
    static const bool edges[5][5] = {
        [FREE] = {[READING] = true},
        [READING] = {[WORKING] = true, [ANSWERING] = true, [FREE] = true},
        [WORKING] = {[ANSWERING] = true},
        [ANSWERING] = {[WAITING] = true, [FREE] = true},
        [WAITING] = {[ANSWERING] = true, [FREE] = true},
    };
    assert(edges[connection->state][state]);
    connection->state = state;
    if (state != FREE)
        return;
    close(connection->socket);
    buf_release(&connection->request);
    buf_release(&connection->answer);
    *connection = NO_CONNECTION;
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

/* ---- Requests. ---- */

static void wake(struct control *control)
{
    uint64_t one = 1;
    while (write(control->wake, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

static void begin_answer(struct connection *connection, struct json *answer, enum state after)
{
    json_print(answer, &connection->answer, false);
    buf_add_char(&connection->answer, '\n');
    json_free(answer);
    connection->after = after;
    set_state(connection, ANSWERING);
}

static void refuse(struct connection *connection, const char *words)
{
    struct json *answer = json_object_new();
    json_set_string(answer, "error", words);
    begin_answer(connection, answer, FREE);
}

/* On a slow thread. */
static void work(struct job *job)
{
    struct work *work = container_of(job, struct work, job);
    struct control *control = work->control;
    work->answer = work->request->answer(control->config.context, work->path, &work->waiter);
    lock_take(&control->lock);
    list_append(&control->done, &work->link);
    lock_drop(&control->lock);
    wake(control);
}

static void begin_work(struct control *control, struct connection *connection,
                       const struct control_request *request, const char *path)
{
    struct work *made = xcalloc(1, sizeof(*made));
    made->job.run = work;
    made->control = control;
    made->connection = connection;
    made->request = request;
    made->path = path ? xstrdup(path) : NULL;
    list_init(&made->link);
    waiter_init(&made->waiter);
    connection->work = made;
    set_state(connection, WORKING);
    if (pool_post(control->slow, &made->job) < 0)
        abort(); /* each connection has one at most, and there is room for all */
}

/* A bare word, or an object of one name with a path. */
static const struct control_request *find_request(struct control *control, const struct buf *line,
                                                  const struct json *object, const char **ret_path)
{
    for (size_t i = 0; i < control->config.request_count; i++) {
        const struct control_request *request = &control->config.requests[i];
        *ret_path = object ? json_get_string(object, request->name) : NULL;
        if (*ret_path || (!object && strcmp(line->bytes, request->name) == 0))
            return request;
    }
    return NULL;
}

static void take_request(struct control *control, struct connection *connection)
{
    struct json *object = NULL;
    const char *path = NULL;
    if (connection->request.bytes[0] == '{')
        json_parse(connection->request.bytes, connection->request.length, &object, NULL);
    const struct control_request *request = find_request(control, &connection->request, object, &path);
    if (!request)
        refuse(connection, "unknown request");
    else if (request->kind == CONTROL_SLOW)
        begin_work(control, connection, request, path);
    else
        begin_answer(connection, request->answer(control->config.context, path, NULL),
                     request->kind == CONTROL_STAYS ? WAITING : FREE);
    json_free(object);
}

static void read_request(struct control *control, struct connection *connection)
{
    char bytes[4096];
    ssize_t got = recv(connection->socket, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        char *end = memchr(bytes, '\n', (size_t)got);
        buf_add(&connection->request, bytes, end ? (size_t)(end - bytes) : (size_t)got);
        if (end) {
            take_request(control, connection);
            return;
        }
    }
    if (got <= 0 || connection->request.length > REQUEST_MAX)
        set_state(connection, FREE);
}

/* ---- Answers. ---- */

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
    else if (connection->state == WAITING && events)
        set_state(connection, FREE); /* the command has gone, or says what it may not */
    else if (connection->state == WORKING && events && !connection->gone) {
        connection->gone = true; /* as above */
        waiter_interrupt(&connection->work->waiter);
    }
    if (connection->state == ANSWERING)
        send_answer(connection);
    if ((connection->state == READING || connection->state == ANSWERING) &&
        clock_ms() >= connection->deadline_ms)
        set_state(connection, FREE);
}

/* ---- What comes from other threads. ---- */

static void take_done(struct control *control)
{
    for (;;) {
        lock_take(&control->lock);
        struct list *first = list_pop(&control->done);
        lock_drop(&control->lock);
        if (!first)
            return;
        struct work *done = container_of(first, struct work, link);
        done->connection->deadline_ms = clock_ms() + CONTROL_TIMEOUT_MS;
        done->connection->work = NULL;
        done->connection->gone = false;
        begin_answer(done->connection, done->answer, FREE);
        waiter_release(&done->waiter);
        free(done->path);
        free(done);
    }
}

static void take_telling(struct control *control)
{
    BUF_SCOPED lines = BUF_INIT;
    lock_take(&control->lock);
    buf_add(&lines, control->telling.bytes, control->telling.length);
    buf_reset(&control->telling);
    lock_drop(&control->lock);
    for (size_t i = 0; i < CONTROL_CONNECTIONS && lines.length; i++) {
        struct connection *connection = &control->connections[i];
        bool stays =
            connection->state == WAITING || (connection->state == ANSWERING && connection->after == WAITING);
        if (!stays)
            continue;
        buf_add(&connection->answer, lines.bytes, lines.length);
        connection->deadline_ms = clock_ms() + CONTROL_TIMEOUT_MS;
        if (connection->state == WAITING)
            set_state(connection, ANSWERING);
    }
}

void control_tell(struct control *control, const struct json *line)
{
    BUF_SCOPED text = BUF_INIT;
    json_print(line, &text, false);
    buf_add_char(&text, '\n');
    lock_take(&control->lock);
    buf_add(&control->telling, text.bytes, text.length);
    lock_drop(&control->lock);
    wake(control);
}

/* ---- The thread. ---- */

/* Watches the listener only while there is room: others wait in its queue. Returns the time until the next deadline. */
static int fill_watched(struct control *control, struct pollfd *watched)
{
    int64_t next = CLOCK_NEVER;
    watched[0] = (struct pollfd){find_free(control) ? control->listener : -1, POLLIN, 0};
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++) {
        struct connection *connection = &control->connections[i];
        bool idle = connection->state == FREE || connection->gone;
        watched[i + 1] = (struct pollfd){idle ? -1 : connection->socket,
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
        if (control->connections[i].state != FREE && control->connections[i].state != WAITING)
            return true;
    return false;
}

/* Who connected before the end is heard, but not for long. */
static void hurry(struct control *control)
{
    int64_t last = clock_ms() + GRACE_MS;
    accept_all(control);
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++) {
        struct connection *connection = &control->connections[i];
        if (connection->deadline_ms > last)
            connection->deadline_ms = last;
        if (connection->state == WORKING)
            waiter_interrupt(&connection->work->waiter);
    }
}

/* True once, when the end has come. */
static bool hear(struct control *control, bool stopping)
{
    uint64_t count;
    if (read(control->wake, &count, sizeof(count)) < 0)
        return false;
    take_done(control);
    take_telling(control);
    LOCK_SCOPED(&control->lock);
    return control->stopping && !stopping;
}

static void *serve(void *context)
{
    struct control *control = context;
    struct pollfd watched[CONTROL_CONNECTIONS + 2];
    struct pollfd *woken = &watched[CONTROL_CONNECTIONS + 1];
    bool stopping = false;
    while (!stopping || somebody_speaks(control)) {
        int timeout = fill_watched(control, watched);
        *woken = (struct pollfd){control->wake, POLLIN, 0};
        if (poll(watched, CONTROL_CONNECTIONS + 2, timeout) < 0 && errno != EINTR)
            return NULL;
        for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
            step(control, &control->connections[i], watched[i + 1].revents);
        if (watched[0].revents && !stopping)
            accept_all(control);
        if (woken->revents && hear(control, stopping)) {
            stopping = true;
            hurry(control);
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
    control->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lock_init(&control->lock, LOCK_LEAF, "control");
    list_init(&control->done);
    control->telling = (struct buf)BUF_INIT;
    for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
        control->connections[i] = NO_CONNECTION;
    int rc = control->wake < 0 ? -errno : bind_socket(control, why);
    if (rc < 0) {
        control_free(control);
        return rc;
    }
    *ret_control = control;
    return 0;
}

int control_serve(struct control *control)
{
    control->slow = pool_new("control", CONTROL_CONNECTIONS, CONTROL_CONNECTIONS);
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
    lock_take(&control->lock);
    control->stopping = true;
    lock_drop(&control->lock);
    wake(control);
    if (control->running)
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
    if (control->slow)
        pool_free(control->slow);
    if (control->wake >= 0)
        close(control->wake);
    buf_release(&control->telling);
    lock_release(&control->lock);
    free(control->path);
    free(control);
}
