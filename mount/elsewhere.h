/* elsewhere: the cache directories of this user that do not stand in the default place, so that what one of them holds unsent is found
 * without knowing its path.
 *
 *      BASE/.elsewhere/           the user's own, 0700; not his alone: nothing is noted there, or read
 *        `- HASH -> /ssd/cache    a symlink that is only read, never followed; HASH of the path
 *
 * An entry that is no such link is passed over. What a path leads to is for who looks at it to judge.
 * Threads, processes: any, side by side; noted and forgotten under the lock of the cache directory (home.h).
 */
#ifndef MOUNT_ELSEWHERE_H
#define MOUNT_ELSEWHERE_H

/* `path`: absolute, without links. 0 also when it stands there already; -errno. */
int elsewhere_note(const char *base, const char *path);
void elsewhere_forget(const char *base, const char *path);
/* The entry may be forgotten meanwhile. */
void elsewhere_each(const char *base, void (*each)(void *context, const char *path), void *context);

#endif
