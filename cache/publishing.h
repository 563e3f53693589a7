/* publishing: files that stay open are published by time, so that logs appear.
 *
 *      quiet for publish_after                                            published
 *      busy for 5 min, or 20 x what its last publication took, if more    published
 *      over PUBLISHING_BYTES_MAX, where parts cannot be copied            never by time: each time it would go up whole
 *
 * Threads: the uploader's.
 */
#ifndef CACHE_PUBLISHING_H
#define CACHE_PUBLISHING_H

#include "cache/uploader.h"

#define PUBLISHING_BUSY_MS   ((int64_t)300000)
#define PUBLISHING_TIMES     20
#define PUBLISHING_BYTES_MAX ((uint64_t)64 << 20)

/* Publishes what is due. When to look again; CLOCK_NEVER: nothing is ever published by time. */
int64_t publishing_ring(struct uploader *uploader);

#endif
