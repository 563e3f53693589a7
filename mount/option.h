/* option: ONE table of all mount options: -o, the configuration file, the environment and --help are all read
 * from it.
 *
 *      default  <  configuration file  <  environment SKYVOL_NAME  <  -o name=value        the later one wins
 *
 * Sizes take K M G T (powers of 1024), times take ms s m h d (bare numbers are seconds), switches take yes/no
 * or nothing, paths are made absolute. Options that mount(8) and systemd use for themselves (_netdev, nofail, x-..., noauto, user ...)
 * are passed over. Errors: -EINVAL, with one line per problem in `why` (words.h): what, where it stood, and the nearest
 * name or the allowed values.
 */
#ifndef MOUNT_OPTION_H
#define MOUNT_OPTION_H

#include "base/buf.h"
#include "mount/settings.h"

/* Sets every default. */
void option_defaults(struct settings *settings);
/* "ro,endpoint=http://h:1,x=\,y": a backslash keeps the next character. */
int option_parse_list(struct settings *settings, const char *list, struct buf *why);
int option_set(struct settings *settings, const char *name, const char *value, const char *where,
               struct buf *why);
/* It has a meaning, is passed over, or is refused for what it is. */
bool option_is_known(const char *name);
/* Empty counts as not set. A SKYVOL_NAME that is nearly an option is refused, another is left alone. */
int option_from_environment(struct settings *settings, struct buf *why);
/* The [mount] table of the TOML file `path`; with path NULL: /etc/skyvol.toml and
 * ~/.config/skyvol/config.toml, where they exist. */
int option_from_file(struct settings *settings, const char *path, struct buf *why);
/* After all of the above: refuses what contradicts itself, and brings what an option implies. */
int option_check(struct settings *settings, struct buf *why);
const char *option_durability(const struct settings *settings);
/* Every option that has a value, in the form that option_set() takes. */
void option_each(const struct settings *settings,
                 void (*each)(void *context, const char *name, const char *value), void *context);
void option_help(struct buf *out);
/* The known word nearest to `word` (at most 3 edits away, and less than half of it), or NULL. */
const char *option_nearest(const char *word, const char *const *known, size_t count);
int option_parse_size(const char *text, int64_t *ret_bytes);
int option_parse_time(const char *text, int64_t *ret_ms);

#endif
