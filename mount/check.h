/* check: does a volume work? Its endpoint is reached, one key is listed, and where it is writable a probe object is written and removed.
 *
 *      ok     what works                    warn   what will cost later (no lifecycle rule for abandoned uploads)
 *      fail   what does not, with its remedy
 */
#ifndef MOUNT_CHECK_H
#define MOUNT_CHECK_H

#include "mount/plan.h"

enum check_grade { CHECK_OK, CHECK_WARN, CHECK_FAIL };

/* Each finding about the bucket of a mount, as it is found. */
typedef void check_tell(void *context, const struct plan_mount *mount, enum check_grade grade,
                        const char *words);

/* One mount of a plan: each prefix of `reads` is listed, below each of `writes` (NULL: nothing is written) an object is written and removed;
 * NULL at the end of both. 0: nothing failed; else -EIO. */
int check_mount(const struct plan_mount *mount, const char *const *reads, const char *const *writes,
                check_tell *tell, void *context);

#endif
