#include "tests/support/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "s3/credentials.h"

struct script script = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Keeps a request; the answer to it. */
static const char *take_ask(const struct buf *head, const struct buf *body)
{
    const char *answer = NULL;
    pthread_mutex_lock(&script.mutex);
    int number = script.asked++;
    if (number < ASKS_MAX) {
        script.asks[number] = xstrndup(head->bytes, head->length);
        script.bodies[number] = xstrndup(body->bytes, body->length);
    }
    for (int i = 0; i <= number && i < 16 && script.answers[i]; i++)
        answer = script.answers[i];
    pthread_mutex_unlock(&script.mutex);
    if (script.on_ask)
        script.on_ask(number);
    return answer;
}

static void serve_answers(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    while (wire_read(connection, &head, &body)) {
        const char *answer = take_ask(&head, &body);
        if (!strcmp(answer, LOST))
            return;
        if (!strcmp(answer, HANG)) {
            wire_await_close(connection);
            return;
        }
        if (!strncmp(answer, CUT, strlen(CUT))) {
            wire_write(connection, answer + strlen(CUT));
            return;
        }
        bool last =
            strstr(answer, "Connection: close") != NULL; /* before it is heard, and the answer freed */
        wire_write(connection, answer);
        if (last)
            return;
    }
}

void script_open(const struct store_config *more)
{
    struct store_config config = more ? *more : (struct store_config){0};
    struct keys *keys = keys_new("KEY", "secret", NULL, INT64_MAX);
    struct credentials_config who = {.explicit_keys = keys};
    BUF_SCOPED why = BUF_INIT;

    script.wire = wire_start(script.serve ? script.serve : serve_answers, NULL);
    snprintf(script.endpoint, sizeof(script.endpoint), "http://127.0.0.1:%d", wire_port(script.wire));
    if (config.endpoint)
        config.proxy = script.endpoint; /* whatever the host, it is asked here */
    else
        config.endpoint = script.endpoint;
    config.bucket = "bucket";
    struct credentials *own = config.credentials ? NULL : credentials_new(&who);
    if (own)
        config.credentials = own;
    if (store_s3_new(&config, &script.store, &why) < 0) {
        fprintf(stderr, "script: no store: %s\n", why.bytes);
        abort();
    }
    credentials_unref(own);
    keys_unref(keys);
}

void script_set_up(void)
{
    waiter_init(&script.waiter);
}

void script_forget(void)
{
    for (int i = 0; i < ASKS_MAX; i++) {
        free(script.asks[i]);
        free(script.bodies[i]);
        script.asks[i] = script.bodies[i] = NULL;
    }
    script.asked = 0;
}

void script_tear_down(void)
{
    store_free(script.store);
    wire_free(script.wire);
    waiter_release(&script.waiter);
    script_forget();
}

bool script_has(int number, const char *text)
{
    pthread_mutex_lock(&script.mutex);
    bool has = number < script.asked && strcasestr(script.asks[number], text);
    pthread_mutex_unlock(&script.mutex);
    return has;
}

int script_asked(void)
{
    pthread_mutex_lock(&script.mutex);
    int count = script.asked;
    pthread_mutex_unlock(&script.mutex);
    return count;
}
