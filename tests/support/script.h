/* script: a store whose server answers from a script, for tests of what the request machine sends.
 *
 * One at a time, between script_set_up() and script_tear_down(); criterion runs each test in a process of its own. The answers
 * are sent in their order, the last one again and again; what was asked is kept.
 */
#ifndef TESTS_SUPPORT_SCRIPT_H
#define TESTS_SUPPORT_SCRIPT_H

#include <pthread.h>

#include "s3/store.h"
#include "tests/support/wire.h"

#define ASKS_MAX 64
#define LOST     "<lost>" /* reads the request, closes the connection */
#define HANG     "<hang>" /* reads the request, never answers */
#define CUT      "<cut>"  /* the rest is sent, then the connection is closed */
#define ERROR(status, code, more)                                                                            \
    "HTTP/1.1 " status " No\r\nConnection: close\r\n" more "\r\n<Error><Code>" code                          \
    "</Code><Message>no</Message></Error>"

struct script {
    const char *answers[16];
    void (*on_ask)(int number);                        /* before it is answered; 0: the first */
    void (*serve)(struct wire_connection *connection); /* NULL: by the answers */
    struct wire *wire;
    struct store *store;
    struct waiter waiter;
    char endpoint[64];
    pthread_mutex_t mutex; /* over what follows */
    int asked;
    char *asks[ASKS_MAX]; /* heads of the requests, in order */
    char *bodies[ASKS_MAX];
};

extern struct script script;

void script_set_up(void);
void script_tear_down(void);
/* Starts the server and opens the store; `more` NULL: as it is by default. Its endpoint, if any, is asked by way of this server. */
void script_open(const struct store_config *more);
void script_forget(void); /* what was asked so far */
int script_asked(void);
bool script_has(int number, const char *text); /* the head of that request, in any case of letters */

#define expect_ask(number, text)                                                                             \
    cr_expect(script_has(number, text), "ask %d lacks %s:\n%s", number, text,                                \
              script.asks[number] ? script.asks[number] : "")
#define expect_no_ask(number, text)                                                                          \
    cr_expect_not(script_has(number, text), "ask %d has %s:\n%s", number, text,                              \
                  script.asks[number] ? script.asks[number] : "")

#define expect_rc(call, wanted)                                                                              \
    do {                                                                                                     \
        BUF_SCOPED words = BUF_INIT;                                                                         \
        int got = store_wait(script.store, (call), &script.waiter);                                          \
        store_error_print(&(call)->error, got, &words);                                                      \
        cr_assert_eq(got, (wanted), "%d: %s", got, words.bytes);                                             \
    } while (0)

#endif
