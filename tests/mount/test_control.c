#include <criterion/criterion.h>
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mount/control.h"

static char root[] = "/tmp/skyvol-control.XXXXXX";
static char *path;
static struct control *control;
static sem_t go_on;

static struct json *answer_echo(void *context, const char *said, struct waiter *waiter)
{
    (void)waiter;
    struct json *answer = json_object_new();
    json_set_string(answer, "context", context);
    json_set_string(answer, "path", said);
    return answer;
}

static struct json *answer_slowly(void *context, const char *said, struct waiter *waiter)
{
    sem_wait(&go_on);
    return answer_echo(context, said, waiter);
}

/* As long as somebody waits for it. */
static struct json *answer_patiently(void *context, const char *said, struct waiter *waiter)
{
    while (!waiter_interrupted(waiter))
        usleep(1000);
    sem_post(&go_on);
    return answer_echo(context, said, waiter);
}

static const struct control_request requests[] = {{"status", CONTROL_INLINE, answer_echo},
                                                  {"slow", CONTROL_SLOW, answer_slowly},
                                                  {"patient", CONTROL_SLOW, answer_patiently},
                                                  {"stay", CONTROL_STAYS, answer_echo}};

static void begin(void)
{
    BUF_SCOPED why = BUF_INIT;
    cr_assert_not_null(mkdtemp(root));
    path = xprintf("%s/x.sock", root);
    sem_init(&go_on, 0, 0);
    struct control_config config = {path, requests, 4, (void *)(uintptr_t) "c"};
    cr_assert_eq(control_new(&config, &control, &why), 0, "%s", why.bytes);
    cr_assert_eq(control_serve(control), 0);
}

static void end(void)
{
    control_free(control);
    cr_assert(access(path, F_OK) < 0);
    rmdir(root);
    free(path);
}

TestSuite(control, .init = begin, .fini = end);

static int knock(void)
{
    int made;
    pid_t pid;
    cr_assert_eq(control_connect_at(path, &made, &pid), 0);
    cr_assert_eq(pid, getpid());
    return made;
}

static struct json *hear(int from)
{
    struct json *answer = NULL;
    cr_assert_eq(control_receive(from, 5000, &answer), 0);
    return answer;
}

static void expect(int from, const char *name, const char *wanted)
{
    struct json *answer = hear(from);
    const char *said = json_get_string(answer, name);
    cr_assert(said ? wanted && strcmp(said, wanted) == 0 : !wanted, "%s: %s", name, said ? said : "null");
    json_free(answer);
}

Test(control, a_word_has_no_path_and_an_object_has_one_whatever_bytes_it_has)
{
    static const char *const paths[] = {NULL,         "",        "a/b", "\"}\n{\"status\": \"x\"}\n",
                                        "\x01\x1b\\", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        int to = knock();
        cr_assert_eq(control_send(to, "status", paths[i]), 0);
        expect(to, "path", paths[i]);
        cr_assert_eq(control_await_end(to, 5000), 0);
        close(to);
    }
}

Test(control, a_path_as_long_as_paths_are_fits_and_one_without_end_does_not)
{
    char longest[4096];
    memset(longest, 1, sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    int to = knock();
    cr_assert_eq(control_send(to, "status", longest), 0);
    expect(to, "path", longest);
    close(to);
    to = knock();
    for (int i = 0; i < 100; i++)
        send(to, longest, sizeof longest, MSG_NOSIGNAL | MSG_DONTWAIT);
    cr_assert_eq(control_await_end(to, 3000), 0);
    close(to);
}

Test(control, what_is_no_utf8_is_not_sent_as_another_name)
{
    int to = knock();
    cr_assert_eq(control_send(to, "status", "a\xff"), -EILSEQ);
    close(to);
}

Test(control, what_is_unknown_is_answered)
{
    static const char *const lines[] = {"future", "", "{\"status\": 5}", "{\"future\": \"x\"}", "{", "[]"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        int to = knock();
        cr_assert_eq(control_send(to, lines[i], NULL), 0);
        expect(to, "error", "unknown request");
        close(to);
    }
}

Test(control, what_is_slow_holds_up_nobody)
{
    int slow = knock(), second = knock(), quick = knock();
    cr_assert_eq(control_send(slow, "slow", "a"), 0);
    cr_assert_eq(control_send(second, "slow", "b"), 0);
    cr_assert_eq(control_send(quick, "status", "c"), 0);
    expect(quick, "path", "c");
    struct json *answer = NULL;
    cr_assert_eq(control_receive(slow, 100, &answer), -ETIMEDOUT);
    sem_post(&go_on);
    sem_post(&go_on);
    expect(slow, "path", "a");
    expect(second, "path", "b");
    close(slow);
    close(second);
    close(quick);
}

Test(control, who_left_while_it_was_slow_is_no_harm)
{
    int slow = knock();
    cr_assert_eq(control_send(slow, "slow", "a"), 0);
    usleep(50000);
    close(slow);
    sem_post(&go_on);
    int to = knock();
    cr_assert_eq(control_send(to, "status", NULL), 0);
    expect(to, "path", NULL);
    close(to);
}

static void await_interrupt(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    cr_assert_eq(sem_timedwait(&go_on, &until), 0, "nobody interrupted it");
}

Test(control, what_is_slow_is_interrupted_when_who_asked_has_gone)
{
    for (int i = 0; i < 2 * CONTROL_CONNECTIONS; i++) { /* and its place is free again */
        int slow = knock();
        cr_assert_eq(control_send(slow, "patient", "a"), 0);
        close(slow);
        await_interrupt();
    }
}

Test(control, what_is_slow_is_interrupted_and_answered_at_the_end)
{
    int slow = knock();
    cr_assert_eq(control_send(slow, "patient", "a"), 0);
    usleep(50000);
    control_finish(control, NULL);
    await_interrupt();
    expect(slow, "path", "a");
    close(slow);
}

Test(control, those_who_stay_hear_all_lines_and_the_last_one)
{
    int stays = knock();
    cr_assert_eq(control_send(stays, "stay", NULL), 0);
    expect(stays, "context", "c");
    for (int i = 0; i < 3; i++) {
        struct json *line = json_object_new();
        json_set_integer(line, "n", i);
        control_tell(control, line);
        json_free(line);
    }
    for (int i = 0; i < 3; i++) {
        int64_t n = -1;
        struct json *line = hear(stays);
        json_get_integer(line, "n", &n);
        json_free(line);
        cr_assert_eq(n, i);
    }
    struct json *last = json_object_new();
    json_set_string(last, "last", "words");
    control_finish(control, last);
    json_free(last);
    expect(stays, "last", "words");
    struct json *none = NULL;
    cr_assert_eq(control_receive(stays, 100, &none), -ETIMEDOUT, "it ends with control_free");
    control_free(control);
    control = NULL;
    cr_assert_eq(control_await_end(stays, 1000), 0);
    close(stays);
}
