/* shell: text as one word of a POSIX shell. The only place where a value becomes part of a script. Pure. */
#ifndef MOUNT_SHELL_H
#define MOUNT_SHELL_H

#include "base/buf.h"

/* Appends it in single quotes, in which nothing has a meaning but their end: any bytes but NUL come back as they were. */
void shell_quote(struct buf *out, const char *text);

#endif
