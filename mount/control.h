/* control: one AF_UNIX socket per mount, by which the commands speak to its daemon. Each request and each answer is one line.
 *
 *      "status\n"            or, with a path below the mount:  {"status": "a/b"}\n      an answer is one JSON object;
 *      "umount\n"  "yield\n"  {"flush": "a/b"}\n  {"await": "a/b"}\n  {"discard": "a/b"}\n                 {"error": "..."}: what was not done and why
 *
 *      command --"status"--> daemon --{...}--> command                                                             end
 *      command --"umount"--> daemon --{"stop_timeout_ms": N}--> command unmounts ... --{"lingering": ...}--> ...
 *                                              ... --{"ended": true, "unsent": [...]}--> the daemon lets all go, then: end
 *
 *      a connection:  FREE -> READING -----------------> ANSWERING -> FREE
 *                                |                           |  ^
 *                                `-- SLOW --> WORKING -------'  '-- STAYS --> WAITING (as long as the mount) -> FREE
 *
 * A command unmounts only when its "umount" has been acknowledged, so that the last words find it. A request has one
 * deadline from its connection to the end of its answer (one that is WORKING ends by itself); nobody holds up the others. What one
 * side does not know it says or passes over: a new command speaks to an old daemon, and the reverse. Both sides check the peer: the
 * daemon speaks to its own user and root, a command to its own user, root and the owner of the mount.
 * Threads: the server has one thread for all connections (at most CONTROL_CONNECTIONS) and one for each request that is SLOW.
 */
#ifndef MOUNT_CONTROL_H
#define MOUNT_CONTROL_H

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/waiter.h"

#define CONTROL_CONNECTIONS 16
#define CONTROL_TIMEOUT_MS  5000 /* of a whole request */

/* The error of a request whose path names nothing. */
#define CONTROL_NO_FILE "there is no such file"
#define CONTROL_ENDS    "the daemon ends" /* to "await": another one may go on */

struct control;

enum control_kind {
    CONTROL_INLINE, /* answered on the server's thread: at once */
    CONTROL_SLOW,   /* may wait, on a thread of its own */
    CONTROL_STAYS,  /* inline, and who asked hears what control_tell and control_finish say */
};

struct control_request {
    const char *name;
    enum control_kind kind;
    /* path: NULL when none was said. waiter: of a SLOW one; interrupted when the command goes, and when the mount ends. */
    struct json *(*answer)(void *context, const char *path, struct waiter *waiter);
};

struct control_config {
    const char *socket_path; /* of a claim: nobody else may bind there */
    const struct control_request *requests;
    size_t request_count;
    void *context;
};

/* The socket is there and takes connections; they are answered from control_serve on. */
int control_new(const struct control_config *config, struct control **ret_control, struct buf *why);
int control_serve(struct control *control);
/* One more line for all who stay, now or after what they are being answered. Any thread. */
void control_tell(struct control *control, const struct json *line);
/* The mount ends: what was asked is answered, the socket is removed, `last` goes to those who stay, whose connections end with
 * control_free. NULL: nothing is sent. A second call does nothing. Waits for what is SLOW, which has been interrupted. */
void control_finish(struct control *control, const struct json *last);
/* Last of all: the end of the connections tells the commands that everything has been let go. */
void control_free(struct control *control);

/* The commands' side (control_client.c). A connection to a daemon of `owner` or of ourselves, and its pid; -ENOENT and
 * -ECONNREFUSED: nobody is there, -EACCES: another user's, -EAGAIN: too many wait for it already. */
int control_connect(const char *mount_point, uid_t owner, int *ret_socket, pid_t *ret_pid);
/* The same for the socket at `path`, in a directory of our own. */
int control_connect_at(const char *path, int *ret_socket, pid_t *ret_pid);
/* path NULL: without one. -EILSEQ: the path is not UTF-8, so no file has it. */
int control_send(int socket, const char *request, const char *path);
/* One line of JSON; 0, -EPIPE when the daemon ended without it, -ETIMEDOUT, -EBADMSG. */
int control_receive(int socket, int64_t timeout_ms, struct json **ret_answer);
/* 0: something can be read, an end included; -ETIMEDOUT. */
int control_await(int socket, int64_t timeout_ms);
/* Both at once, on a connection of its own. -EPROTO: the daemon's "error" is in `why`, else as above. */
int control_ask(const char *mount_point, uid_t owner, const char *request, const char *path,
                int64_t timeout_ms, struct json **ret_answer, struct buf *why);
/* Until the daemon has closed: 0, -ETIMEDOUT. */
int control_await_end(int socket, int64_t timeout_ms);

#endif
