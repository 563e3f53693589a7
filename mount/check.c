#include "mount/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/xml.h"
#include "mount/api.h"
#include "mount/diagnosis.h"
#include "mount/option.h"
#include "mount/rooms.h"
#include "s3/credentials.h"
#include "s3/signed.h"
#include "s3/store.h"

#define PATIENCE_MS 8000

struct check {
    const struct plan_mount *mount;
    struct settings settings;        /* as `skyvol mount` would have them */
    struct credentials *credentials; /* NULL: unsigned */
    struct store *store;
    check_tell *tell;
    void *context;
    struct waiter waiter;
    int rc;
};

static void say(struct check *check, enum check_grade grade, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void say(struct check *check, enum check_grade grade, const char *format, ...)
{
    BUF_SCOPED words = BUF_INIT;
    va_list list;
    va_start(list, format);
    buf_vprintf(&words, format, list);
    va_end(list);
    if (grade == CHECK_FAIL)
        check->rc = -EIO;
    check->tell(check->context, check->mount, grade, words.bytes);
}

static void say_failed(struct check *check, const char *what, int rc, const struct store_error *error)
{
    BUF_SCOPED words = BUF_INIT;
    diagnosis_access(&check->settings, rc, error, &words);
    say(check, CHECK_FAIL, "%s: %s", what, words.bytes);
}

/* ---- Reading, writing. ---- */

static void try_list(struct check *check, const char *prefix)
{
    struct store_call call = {.op = STORE_LIST, .prefix = prefix, .max_keys = 1, .patience_ms = PATIENCE_MS};
    int rc = store_wait(check->store, &call, &check->waiter);
    if (rc < 0)
        say_failed(check, "it cannot be listed", rc, &call.error);
    else
        say(check, CHECK_OK, "listed below '%s'%s", prefix,
            call.object_count ? "" : ": there is nothing yet");
    store_call_release(&call);
}

static void try_write(struct check *check, const char *prefix)
{
    uint8_t random[8];
    BUF_SCOPED key = BUF_INIT;
    digest_random(random, sizeof random);
    buf_printf(&key, "%s.skyvol-check-", prefix);
    buf_add_hex(&key, random, sizeof random);
    struct iovec body = {(char[]){"skyvol check\n"}, 13};
    struct store_call put = {
        .op = STORE_PUT, .key = key.bytes, .from = &body, .from_count = 1, .patience_ms = PATIENCE_MS};
    struct store_call gone = {.op = STORE_DELETE, .key = key.bytes, .patience_ms = PATIENCE_MS};
    int rc = store_wait(check->store, &put, &check->waiter);
    if (rc < 0)
        say_failed(check, "an object cannot be written", rc, &put.error);
    int gone_rc = rc == 0 || put.unknown ? store_wait(check->store, &gone, &check->waiter) : 0;
    if (gone_rc < 0)
        say(check, CHECK_FAIL, "%s cannot be removed again: remove it by hand, and allow s3:DeleteObject",
            key.bytes);
    else if (rc == 0)
        say(check, CHECK_OK, "wrote and removed an object below '%s'", prefix);
    store_call_release(&put);
    store_call_release(&gone);
}

/* ---- Abandoned uploads. ---- */

static bool aborts_uploads(struct xml *xml)
{
    for (const struct xml_node *rule = xml_first(xml_root(xml)); rule; rule = xml_next(rule))
        if (strcmp(xml_name(rule), "Rule") == 0 &&
            strcmp(xml_child_text(xml, rule, "Status"), "Enabled") == 0 &&
            xml_child(rule, "AbortIncompleteMultipartUpload"))
            return true;
    return false;
}

static void judge_lifecycle(struct check *check, const struct api_answer *answer)
{
    struct xml *xml = NULL;
    bool told = answer->status == 200 && answer->text &&
                xml_parse(secret_reveal(answer->text), secret_length(answer->text), &xml) == 0;
    if (told && aborts_uploads(xml))
        say(check, CHECK_OK, "a lifecycle rule aborts uploads that nobody completes");
    else if (told || answer->status == 404)
        say(check, CHECK_WARN,
            "no lifecycle rule aborts uploads that nobody completes: their parts are paid for until `skyvol "
            "rm %s --uploads`",
            check->mount->bucket);
    else
        say(check, CHECK_WARN, "whether a lifecycle rule aborts abandoned uploads cannot be told (status %d)",
            answer->status);
    xml_free(xml);
}

/* "http://host/bucket?lifecycle=", path style: every S3 takes it. */
static void look_at_lifecycle(struct check *check)
{
    const struct plan_mount *mount = check->mount;
    struct api_config config = {.name = "S3",
                                .url = mount->endpoint,
                                .where = "endpoint",
                                .waiter = &check->waiter,
                                .patience_ms = PATIENCE_MS};
    struct store_fields query = {0};
    struct api *api = NULL;
    struct keys *keys = NULL;
    BUF_SCOPED why = BUF_INIT;
    if (!check->credentials || credentials_get(check->credentials, &keys, &why) < 0 ||
        api_new(&config, &api, &why) < 0) {
        say(check, CHECK_WARN, "whether a lifecycle rule aborts abandoned uploads cannot be told: %s",
            why.length ? why.bytes : "requests are not signed");
        keys_unref(keys);
        return;
    }
    const char *host = strstr(api_url(api), "://") + 3;
    STRING_SCOPED *name = xstrndup(host, strcspn(host, "/"));
    STRING_SCOPED *path = xprintf("/%s", mount->bucket);
    STRING_SCOPED *whole = xprintf("%s?lifecycle=", path);
    store_fields_add(&query, "lifecycle", "");
    struct signed_input input = {.method = "GET",
                                 .host = name,
                                 .path = path,
                                 .query = &query,
                                 .service = "s3",
                                 .region = mount->region ? mount->region : "us-east-1",
                                 .keys = keys,
                                 .wall_ns = clock_wall_ns()};
    char **lines = signed_lines(&input);
    struct api_request request = {
        .method = "GET", .path = whole, .lines = lines, .plain = true, .accept = API_ANY};
    struct api_answer answer = {0};
    if (api_send(api, &request, &answer, &why) == 0)
        judge_lifecycle(check, &answer);
    else
        say(check, CHECK_WARN, "whether a lifecycle rule aborts abandoned uploads cannot be told: %s",
            why.bytes);
    api_answer_release(&answer);
    signed_release(lines);
    store_fields_release(&query);
    keys_unref(keys);
    api_free(api);
}

/* ---- One mount. ---- */

static int ask_supply(void *context, struct keys **ret_keys, struct buf *why)
{
    const struct supply *supply = context;
    (void)why;
    *ret_keys = keys_new(supply->access_key, secret_reveal(supply->secret_key),
                         supply->session_token ? secret_reveal(supply->session_token) : NULL, INT64_MAX);
    return 0;
}

static int ask_storage(void *context, struct keys **ret_keys, struct buf *why)
{
    return storage_keys(context, ret_keys, why);
}

static struct credentials *find_credentials(const struct plan_mount *mount, const struct settings *settings)
{
    struct credentials_ask ask = {.words = "the volume's keys"};
    struct credentials_config config = {.profile = settings->profile, .role_arn = settings->role_arn};
    if (settings->no_sign_request)
        return NULL;
    if (mount->storage && storage_has_keys(mount->storage)) {
        ask.keys = ask_storage;
        ask.context = (void *)mount->storage;
    } else if (mount->supply && mount->supply->credentials == SUPPLY_KEYS) {
        ask.keys = ask_supply;
        ask.context = (void *)mount->supply;
    }
    config.ask = ask.keys ? &ask : NULL;
    return credentials_new(&config);
}

/* By the mount's own options: what it needs to be let in (requester_pays, sse, allow_http ...) this needs too. */
static int read_settings(struct check *check, struct buf *why)
{
    struct settings *settings = &check->settings;
    option_defaults(settings);
    int rc = option_from_file(settings, NULL, why);
    if (rc == 0)
        rc = option_from_environment(settings, why);
    if (rc == 0)
        rc = option_parse_list(settings, check->mount->options, why);
    settings->source = xstrdup(check->mount->bucket);
    settings->bucket = xstrdup(check->mount->bucket);
    return rc;
}

static int open_store(struct check *check)
{
    const struct settings *settings = &check->settings;
    BUF_SCOPED why = BUF_INIT;
    int rc = read_settings(check, &why);
    if (rc == 0)
        check->credentials = find_credentials(check->mount, settings);
    struct store_config config = rooms_store_config(settings, check->credentials);
    if (rc == 0)
        rc = store_s3_new(&config, &check->store, &why);
    if (rc < 0)
        say(check, CHECK_FAIL, "%s", why.bytes);
    return rc;
}

int check_mount(const struct plan_mount *mount, const char *const *reads, const char *const *writes,
                check_tell *tell, void *context)
{
    struct check check = {.mount = mount, .tell = tell, .context = context};
    waiter_init(&check.waiter);
    if (open_store(&check) == 0) {
        for (size_t i = 0; reads[i] && check.rc == 0; i++)
            try_list(&check, reads[i]);
        for (size_t i = 0; writes && writes[i] && check.rc == 0; i++)
            try_write(&check, writes[i]);
        if (writes && writes[0] && check.rc == 0)
            look_at_lifecycle(&check);
    }
    store_free(check.store);
    credentials_unref(check.credentials);
    settings_release(&check.settings);
    waiter_release(&check.waiter);
    return check.rc;
}
