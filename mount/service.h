/* service: what the control socket answers while rooms are open: those of a mount (session.h), or of a flush without one (cold.h).
 *
 *      status, flush, await, discard, refresh    of the rooms
 *      remount                                   "ro": the kernel refuses writes from here on, what is unsent is published;
 *                                                "rw": it will take them again, refused where no journal is open
 *      yield, umount                             what the owner says
 *
 * Use: embedded in the owner, filled in before control_new(); service_configure() makes it the context of all requests.
 */
#ifndef MOUNT_SERVICE_H
#define MOUNT_SERVICE_H

#include <stdatomic.h>

#include "mount/control.h"
#include "mount/rooms.h"

struct service {
    struct rooms *rooms;   /* with a cache once the socket is served */
    int64_t started_ns;    /* on the wall's clock */
    atomic_bool read_only; /* by the options, or by a remount */
    bool (*mounted)(struct service *service);
    /* Adds what only the owner knows to a whole status. May be NULL. */
    void (*report)(struct service *service, struct json *object);
    /* False: it does not let go. */
    bool (*yield)(struct service *service);
    /* NULL: there is nothing to unmount. */
    struct json *(*umount)(struct service *service);
};

void service_configure(struct service *service, const char *socket_path, struct control_config *ret_config);

#endif
