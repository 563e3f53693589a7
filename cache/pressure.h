/* pressure: writers are slowed down to what goes up before there is too much that did not.
 *
 *      unsent bytes   0 ------------------ 3/4 limit ------------------ limit
 *      a writer       goes on at once      sleeps, the longer the nearer     waits until there is room
 *
 * The limit is dirty_max, or what the disk allows: what is free and what is unsent, less a reserve for others. A write that the disk
 * refuses waits as at the limit. Whoever sleeps makes the files go up that are open, whoever waits everything unsent; a file that is
 * larger than the disk gives back what the bucket has (content_give_back). While bytes go up nobody hears an error; when nothing moves
 * for io_timeout, or nothing is left that could make room, it is -ENOSPC.
 *
 * Threads: pressure_note() with any lock up to an inode's; pressure_wait() and pressure_await_room() without any.
 */
#ifndef CACHE_PRESSURE_H
#define CACHE_PRESSURE_H

#include "base/waiter.h"
#include "cache/cache.h"

struct pressure;

struct pressure *pressure_new(struct cache *cache);
void pressure_free(struct pressure *pressure);
/* So many dirty bytes more, or less. */
void pressure_note(struct pressure *pressure, int64_t bytes);
uint64_t pressure_dirty(const struct pressure *pressure);
/* Before `size` bytes are written. 0, -EAGAIN (no waiter), -EINTR, -ENOSPC. */
int pressure_wait(struct pressure *pressure, size_t size, struct waiter *waiter);
/* Before so many bytes of the disk are reserved: waits while what goes up makes room. 0, -EAGAIN, -EINTR, -ENOSPC: nor will it then. */
int pressure_await_space(struct pressure *pressure, uint64_t bytes, struct waiter *waiter);
/* The disk has little room for so many bytes more. */
bool pressure_is_near(struct pressure *pressure, size_t size);
/* It was given some back. */
void pressure_look_again(struct pressure *pressure);
/* After the disk had no room: 0, try again. -EAGAIN, -EINTR, -ENOSPC. */
int pressure_await_room(struct pressure *pressure, struct waiter *waiter);

#endif
