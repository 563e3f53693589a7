/* command: what is typed: `skyvol NAME ...`. One table; each command's --help comes from it.
 *
 * Exit status: 0 done; 1 it failed (a message on stderr says what, why and what to do); 2 the words were wrong.
 */
#ifndef MOUNT_COMMAND_H
#define MOUNT_COMMAND_H

#include "mount/place.h"

int command_main(int count, char **words);

/* The commands; words[0] is the command's own name. */
int command_mount(int count, char **words);
int command_umount(int count, char **words);
int command_status(int count, char **words);

/* A connection to the daemon of what place_look found at `path`; -errno, and it has been said why and what to do. */
int command_connect(const char *path, const struct place_mount *mount, int *ret_socket, pid_t *ret_pid);

/* Prints "skyvol NAME: message" and what to type next; returns 2. */
int command_usage(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
