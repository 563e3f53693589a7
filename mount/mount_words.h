/* mount_words: what a mount was asked for, whichever command line said it: skyvol mount, mount(8)'s helper, geesefs. */
#ifndef MOUNT_MOUNT_WORDS_H
#define MOUNT_MOUNT_WORDS_H

#include <stdbool.h>

#include "base/buf.h"
#include "mount/settings.h"

struct mount_words {
    const char *source, *directory;
    struct buf options; /* all -o, joined by commas */
    bool foreground;
    bool check_only; /* all but the mounting itself */
};

void mount_words_join(struct mount_words *said, const char *list);
/* command_mount.c. What the options mean here, together with the configuration file and the environment. -EINVAL with a line for each
 * problem; settings_release() after any outcome. */
int mount_words_settings(const struct mount_words *said, struct settings *settings, struct buf *why);
/* Returns when the mount answers, in the daemon when it has ended. What is wrong has been said. 0 or 1. */
int command_mount_said(const struct mount_words *said);
/* The same in a process of its own: the caller goes on afterwards, whatever came of it. */
int command_mount_apart(const struct mount_words *said);

#endif
