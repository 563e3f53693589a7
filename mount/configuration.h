/* configuration: what ~/.skyward/defaults.toml, ./skyward.toml over it, or -c FILE say of volumes, storages and providers; or what
 * --volume, --provider and --preset say without any file.
 *
 *      [pool] or [pools.NAME] (--pool NAME)   provider, [[...volumes]]; keys of other tools are passed over
 *      [providers.NAME]                       type (NAME when not said), and what its adapter takes (provider.h)
 *      [storage.NAME]                         storage.h
 *
 * Tables merge, arrays and values replace. Unknown keys inside a volume or a storage are errors with file and line; those of a provider's
 * table are other tools', but one that is nearly a name of ours draws a warning.
 * All problems at once: -EINVAL, one line each in `why`; -ENOENT: no file at all, the paths tried are named.
 */
#ifndef MOUNT_CONFIGURATION_H
#define MOUNT_CONFIGURATION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "mount/provider.h"
#include "mount/storage.h"
#include "mount/volume.h"

struct configuration {
    struct volume *volumes;
    size_t volume_count;
    struct storage **storages; /* all that volumes use, inline ones too */
    size_t storage_count;
    char *provider_name; /* as the pool says it, or --provider; NULL: none */
    char *provider_type; /* who that is: what its table says, else the name; NULL: none, or name_only */
    const struct provider *provider; /* his adapter; NULL: none is named, or one that mounts nothing */
    struct provider_settings settings;
    char *pool; /* its name; "pool" for [pool] */
    char *base; /* --base, else /mnt/skyvol */
    char *
        state; /* where what prepare makes is remembered: one file for each pool and provider, 0600; for each set of mounts of --volume */
    char *
        origin; /* the file whose pool it is, without links; NULL: --state says what belongs together, or --volume */
    struct buf warnings; /* a line each: keys in a file that others can read */
};

/* What the command line of up, down, check, plan, prepare and teardown says of it. */
struct configuration_request {
    const char *file, *pool, *provider, *base, *state; /* NULL: not said */
    const char *const *
        volumes; /* each --volume: they stand in the place of the pool's, and no file is read unless it is named */
    size_t volume_count;
    bool
        removes; /* down and teardown: what volumes a file gives, and what is wrong with them, does not matter */
    bool name_only; /* down: nor does what the provider's table says */
};

int configuration_read(const struct configuration_request *request, struct configuration *ret_configuration,
                       struct buf *why);
void configuration_release(struct configuration *configuration);
/* The [storage.NAME] of the files alone, for commands that have no volumes; a copy. Errors as configuration_read(). */
int configuration_storage(const char *file, const char *name, struct storage *ret_storage, struct buf *why);
/* Volumes without a storage of their own; malloc'ed, the volumes are the configuration's. */
const struct volume **configuration_provided(const struct configuration *configuration, size_t *ret_count);

#endif
