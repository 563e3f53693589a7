/* clock: the time, which tests can drive.
 *
 * Monotonic milliseconds serve deadlines and ages; wall nanoseconds serve timestamps and signatures.
 * Threads: all calls from any thread. Between clock_fake_begin() and clock_fake_end() time stands still until
 * clock_fake_advance(), which also wakes every waiter whose deadline has passed (see waiter.h).
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER INT64_MAX /* a deadline that does not come */

int64_t clock_ms(void);
int64_t clock_wall_ns(void);

void clock_fake_begin(int64_t wall_ns);
void clock_fake_advance(int64_t ms);
void clock_fake_end(void);
bool clock_is_fake(void);
/* One call after each clock_fake_begin(), _advance() and _end(); waiter.c registers itself. At most 4. */
void clock_fake_listen(void (*heard)(void));

/* "20130524T000000Z" (17 bytes with NUL). */
void clock_amz_date(int64_t wall_ns, char out[17]);
/* RFC 7231 date ("Fri, 24 May 2013 00:00:00 GMT") or ISO 8601 with optional fraction to wall ns; -EINVAL.
 * A year that 64 bits of nanoseconds do not hold (after 2262) becomes INT64_MAX. */
int clock_parse_http(const char *text, int64_t *ret_wall_ns);
int clock_parse_iso(const char *text, int64_t *ret_wall_ns);

#endif
