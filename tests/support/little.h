/* little: a running little S3 (little_s3.py) for one test program: strict, and misbehaving on command.
 *
 * It listens on a free port of 127.0.0.1, has one bucket in memory, and dies with the thread that started it. What it
 * can be told to do is in `tests/support/little_s3.py --help`. SKYVOL_SOURCE names the tree (ctest sets it).
 */
#ifndef TESTS_SUPPORT_LITTLE_H
#define TESTS_SUPPORT_LITTLE_H

#include "base/buf.h"

#define LITTLE_BUCKET     "little-bucket"
#define LITTLE_ACCESS_KEY "little-access"
#define LITTLE_SECRET_KEY "little-secret/+="

struct little;

/* options: more words of its command line, NULL at the end; may be NULL. 0, or -errno and words in `why`. */
int little_start(const char *const *options, struct little **ret_little, struct buf *why);
void little_free(struct little *little);
const char *little_endpoint(const struct little *little); /* "http://127.0.0.1:41234" */
/* POST /_control/NAME when json is given, else GET; the answer's JSON is appended to `out` (may be NULL). 0; -EINVAL: it
 * refused, its words are in `out`; -EIO. */
int little_control(struct little *little, const char *name, const char *json, struct buf *out);

#endif
