/* control: one AF_UNIX socket per mount, by which the commands speak to its daemon.
 *
 *      command --"status\n"--> daemon --one JSON document, end--> command
 *      command --"umount\n"--> ... the connection stays until the mount ends --{"unsent": [...]}, end--> command
 *
 * The socket is RUNTIME/HASH.sock, HASH from the mount point. Both sides check the peer: root, or the same user.
 * Threads: the server has one thread of its own, and one per waiting connection (at most CONTROL_CONNECTIONS).
 */
#ifndef MOUNT_CONTROL_H
#define MOUNT_CONTROL_H

#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"

#define CONTROL_CONNECTIONS 8

struct control;

struct control_config {
    const char *mount_point;
    /* Answers "status"; called on the server's thread. */
    struct json *(*status)(void *context);
    void *context;
};

int control_new(const struct control_config *config, struct control **ret_control, struct buf *why);
/* The mount ends: sends `last` to those who wait in "umount", closes and removes the socket. */
void control_finish(struct control *control, const struct json *last);
void control_free(struct control *control);

/* The commands' side. A connection, or -errno with a line in `why`: -ENOENT (no daemon serves this mount point). */
int control_connect(const char *mount_point, int *ret_socket, struct buf *why);
int control_send(int socket, const char *command);
/* Reads until the daemon closes; 0, -EPIPE when it ended without an answer, -ETIMEDOUT. timeout_ms < 0: no limit. */
int control_receive(int socket, int timeout_ms, struct buf *ret_answer);

#endif
