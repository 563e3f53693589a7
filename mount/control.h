/* control: one AF_UNIX socket per mount, by which the commands speak to its daemon. Each answer is one line of JSON.
 *
 *      command --"status\n"--> daemon --{...}--> command                                                    end
 *      command --"umount\n"--> daemon --{"stop_timeout_ms": N}--> command unmounts ... --{"unsent": [...]}--> end
 *                                                                                   the daemon lets all go, then: end
 *
 *      a connection:  FREE -> READING --status--> ANSWERING -> FREE
 *                                `-----umount--> ANSWERING -> WAITING (as long as the mount) -> FREE
 *
 * A command unmounts only when its "umount" has been acknowledged, so that the last words find it. A request has one
 * deadline from its connection to the end of its answer; nobody holds up the others. Both sides check the peer: the daemon
 * speaks to its own user and root, a command to its own user, root and the owner of the mount.
 * Threads: the server has one thread for all connections (at most CONTROL_CONNECTIONS).
 */
#ifndef MOUNT_CONTROL_H
#define MOUNT_CONTROL_H

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/json.h"

#define CONTROL_CONNECTIONS 16
#define CONTROL_TIMEOUT_MS  5000 /* of a whole request */

struct control;

struct control_config {
    const char *socket_path; /* of a claim: nobody else may bind there */
    int64_t stop_timeout_ms; /* told to those who unmount */
    /* Answers "status"; called on the server's thread. */
    struct json *(*status)(void *context);
    void *context;
};

/* The socket is there and takes connections; they are answered from control_serve on. */
int control_new(const struct control_config *config, struct control **ret_control, struct buf *why);
int control_serve(struct control *control);
/* The mount ends: what was asked is answered, the socket is removed, `last` goes to those who wait in "umount", whose
 * connections stay until control_free. NULL: nothing is sent. A second call does nothing. */
void control_finish(struct control *control, const struct json *last);
/* Last of all: the end of the connections tells the commands that everything has been let go. */
void control_free(struct control *control);

/* The commands' side (control_client.c). A connection to a daemon of `owner` or of ourselves, and its pid; -ENOENT and
 * -ECONNREFUSED: nobody is there, -EACCES: another user's, -EAGAIN: too many wait for it already. */
int control_connect(const char *mount_point, uid_t owner, int *ret_socket, pid_t *ret_pid);
int control_send(int socket, const char *command);
/* One line of JSON; 0, -EPIPE when the daemon ended without it, -ETIMEDOUT, -EBADMSG. */
int control_receive(int socket, int64_t timeout_ms, struct json **ret_answer);
/* Until the daemon has closed: 0, -ETIMEDOUT. */
int control_await_end(int socket, int64_t timeout_ms);

#endif
