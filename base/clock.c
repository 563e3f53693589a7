#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define LISTENERS_MAX 4
#define NS_PER_SECOND INT64_C(1000000000)

static atomic_bool fake;
static _Atomic int64_t fake_ms;
static _Atomic int64_t fake_wall_ns;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* Under mutex: */
static void (*listeners[LISTENERS_MAX])(void);
static int listener_count;

static int64_t read_clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

int64_t clock_ms(void)
{
    if (atomic_load_explicit(&fake, memory_order_acquire))
        return atomic_load(&fake_ms);
    return read_clock_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_wall_ns(void)
{
    if (atomic_load_explicit(&fake, memory_order_acquire))
        return atomic_load(&fake_wall_ns);
    return read_clock_ns(CLOCK_REALTIME);
}

bool clock_is_fake(void)
{
    return atomic_load_explicit(&fake, memory_order_acquire);
}

static void tell_listeners(void)
{
    void (*copy[LISTENERS_MAX])(void);
    pthread_mutex_lock(&mutex);
    int count = listener_count;
    memcpy(copy, listeners, sizeof(copy));
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < count; i++)
        copy[i]();
}

void clock_fake_begin(int64_t wall_ns)
{
    /* Continues from the real monotonic time, so that deadlines made before keep their meaning. */
    atomic_store(&fake_ms, read_clock_ns(CLOCK_MONOTONIC) / 1000000);
    atomic_store(&fake_wall_ns, wall_ns);
    atomic_store_explicit(&fake, true, memory_order_release);
    tell_listeners();
}

void clock_fake_advance(int64_t ms)
{
    assert(clock_is_fake() && ms >= 0);
    atomic_fetch_add(&fake_ms, ms);
    atomic_fetch_add(&fake_wall_ns, ms * 1000000);
    tell_listeners();
}

void clock_fake_end(void)
{
    atomic_store_explicit(&fake, false, memory_order_release);
    tell_listeners();
}

void clock_fake_listen(void (*heard)(void))
{
    pthread_mutex_lock(&mutex);
    assert(listener_count < LISTENERS_MAX);
    listeners[listener_count++] = heard;
    pthread_mutex_unlock(&mutex);
}

/* Rounds down, also before 1970. */
static time_t floor_seconds(int64_t wall_ns)
{
    return (time_t)(wall_ns / NS_PER_SECOND - (wall_ns % NS_PER_SECOND < 0));
}

void clock_amz_date(int64_t wall_ns, char out[17])
{
    time_t seconds = floor_seconds(wall_ns);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t size = strftime(out, 17, "%Y%m%dT%H%M%SZ", &tm);
    assert(size == 16); /* int64 nanoseconds end in 2262 */
    (void)size;
}

/* A real date of UTC to ns; -EINVAL for the 30th of February. Years that 64 bits of ns cannot hold become the nearest
 * time that they can: "expires in 9999" is common and means never. */
static int join_time(struct tm *tm, int64_t fraction_ns, int64_t offset_seconds, int64_t *ret_wall_ns)
{
    struct tm asked = *tm;
    if (tm->tm_mon < 0 || tm->tm_mon > 11 || tm->tm_hour < 0 || tm->tm_hour > 23 || tm->tm_min < 0 ||
        tm->tm_min > 59 || tm->tm_sec < 0 || tm->tm_sec > 60)
        return -EINVAL;
    if (tm->tm_sec == 60) /* a leap second is the second before, as POSIX time has none */
        asked.tm_sec = tm->tm_sec = 59;
    int64_t seconds = timegm(tm);
    if (tm->tm_mday != asked.tm_mday || tm->tm_mon != asked.tm_mon || tm->tm_year != asked.tm_year)
        return -EINVAL;
    seconds -= offset_seconds;
    int64_t ns;
    if (__builtin_mul_overflow(seconds, NS_PER_SECOND, &ns) || __builtin_add_overflow(ns, fraction_ns, &ns))
        ns = seconds < 0 ? INT64_MIN : INT64_MAX;
    *ret_wall_ns = ns;
    return 0;
}

static int find_month(const char *name)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++)
        if (strncmp(name, months + i * 3, 3) == 0)
            return i;
    return -1;
}

int clock_parse_http(const char *text, int64_t *ret_wall_ns)
{
    struct tm tm = {0};
    char month[4] = "";
    int end = -1;
    /* The three forms of RFC 7231, 7.1.1.1: IMF-fixdate, RFC 850, asctime. */
    sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &tm.tm_mday, month, &tm.tm_year,
           &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &end);
    if (end < 0) {
        sscanf(text, "%*[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n", &tm.tm_mday, month, &tm.tm_year,
               &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &end);
        tm.tm_year += tm.tm_year < 70 ? 2000 : 1900;
    }
    if (end < 0)
        sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec, &tm.tm_year, &end);
    if (end < 0 || text[end] != '\0')
        return -EINVAL;
    tm.tm_year -= 1900;
    tm.tm_mon = find_month(month);
    return join_time(&tm, 0, 0, ret_wall_ns);
}

/* ".25" to 250000000; digits behind the ninth are dropped. Leaves *text behind the fraction. */
static int64_t parse_fraction(const char **text)
{
    int64_t ns = 0;
    int64_t unit = NS_PER_SECOND / 10;
    for (++*text; **text >= '0' && **text <= '9'; ++*text) {
        ns += (**text - '0') * unit;
        unit /= 10;
    }
    return ns;
}

int clock_parse_iso(const char *text, int64_t *ret_wall_ns)
{
    struct tm tm = {0};
    int end = -1;
    sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
           &tm.tm_sec, &end);
    if (end != 19)
        return -EINVAL;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    text += end;
    int64_t fraction_ns = *text == '.' ? parse_fraction(&text) : 0;
    int hours, minutes;
    char sign[2] = "";
    int64_t offset_seconds = 0;
    end = -1;
    if (sscanf(text, "%1[+-]%2d:%2d%n", sign, &hours, &minutes, &end) == 3 && end == 6 && text[6] == '\0')
        offset_seconds = (sign[0] == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    else if (strcmp(text, "Z") != 0 && strcmp(text, "UTC") != 0) /* the SSO cache writes UTC */
        return -EINVAL;
    return join_time(&tm, fraction_ns, offset_seconds, ret_wall_ns);
}
