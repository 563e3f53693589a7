/* command: what is typed: `skyvol NAME ...`. One table; each command's --help comes from it.
 *
 * Exit status: 0 done; 1 it failed (a message on stderr says what, why and what to do); 2 the words were wrong.
 */
#ifndef MOUNT_COMMAND_H
#define MOUNT_COMMAND_H

int command_main(int count, char **words);

/* The commands; words[0] is the command's own name. */
int command_mount(int count, char **words);
int command_umount(int count, char **words);
int command_status(int count, char **words);

/* Prints "skyvol NAME: message" and what to type next; returns 2. */
int command_usage(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
