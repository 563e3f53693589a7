/* command: what is typed: `skyvol NAME ...`. One table; each command's --help comes from it.
 *
 * Exit status: 0 done; 1 it failed (a message on stderr says what, why and what to do); 2 the words were wrong.
 */
#ifndef MOUNT_COMMAND_H
#define MOUNT_COMMAND_H

#include "base/json.h"
#include "mount/place.h"
#include "mount/target.h"

int command_main(int count, char **words);

/* The commands; words[0] is the command's own name. */
int command_mount(int count, char **words);
int command_umount(int count, char **words);
int command_status(int count, char **words);
int command_flush(int count, char **words);
int command_discard(int count, char **words);
int command_refresh(int count, char **words);
int command_upload(int count, char **words);
int command_download(int count, char **words);
int command_ls(int count, char **words);
int command_exists(int count, char **words);
int command_rm(int count, char **words);
int command_check(int count, char **words);
int command_whoami(int count, char **words);
int command_plan(int count, char **words);
int command_up(int count, char **words);
int command_down(int count, char **words);
int command_prepare(int count, char **words);
int command_teardown(int count, char **words);

/* A connection to the daemon of the target; -errno, and it has been said why and what to do. */
int command_connect(const struct target *target, int *ret_socket, pid_t *ret_pid);

/* One question to the daemon of a TARGET_DAEMON. -errno, and it has been said why and what to do; -ENOENT: there is no such file. */
int command_ask(const struct target *target, const char *request, const char *path, int64_t timeout_ms,
                struct json **ret_answer);
/* The unsent files that are refused, or all that an answer lists, a line each on stderr: why, and what can be done. */
void command_name_unsent(const struct json *answer, bool all);
/* Where the bytes of an unsent file are kept, for people; empty: in no file of their own. */
void command_print_place(const struct json *file, struct buf *ret_place);
/* A whole number of an answer; 0: it is not there. */
long long command_number(const struct json *object, const char *name);
/* Prints "skyvol NAME: message" and what to type next; returns 2. */
int command_usage(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
