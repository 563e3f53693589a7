/* geesefs: the command line of geesefs, for scripts that call it: the same binary under that name.
 *
 *      geesefs [flags] BUCKET[:PREFIX] DIR
 *
 * ONE table of its flags: what each means here, or that it only tunes what tunes itself here (accepted, named once), or that it asks for
 * what is not there (refused). Path style unless --subdomain, as geesefs does. Its own live mount of the same source (endpoint, bucket,
 * prefix) in that place is found, and is success; one of another endpoint, or whose daemon does not tell, is not. What fails says why on
 * stderr and into --log-file, within 10 seconds, and leaves nothing mounted.
 */
#ifndef MOUNT_GEESEFS_H
#define MOUNT_GEESEFS_H

#include "base/buf.h"
#include "mount/mount_words.h"

int geesefs_main(int count, char **words);

struct geesefs_words {
    struct mount_words mount;
    const char *log_file, *keys_file; /* NULL: not said, or no file */
    bool help, version;
    struct buf tuning; /* flags without a meaning here, "a, b" */
};

/* Pure. -EINVAL with the words in `why`. Release after any outcome. */
int geesefs_read(int count, char **words, struct geesefs_words *ret_said, struct buf *why);
void geesefs_words_release(struct geesefs_words *said);

#endif
