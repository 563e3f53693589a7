#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "mount/command.h"
#include "mount/option.h"
#include "mount/pool_words.h"
#include "mount/source.h"
#include "mount/words.h"
#include "s3/credentials.h"
#include "s3/http.h"

/* What is told of the keys that a mount with these options would use. */
struct identity {
    struct keys *keys;
    char *ends, *endpoint, *region; /* NULL: never, not told */
    char *account, *arn;            /* NULL: STS was not asked */
    struct buf source, tried;
};

static void release(struct identity *identity)
{
    keys_unref(identity->keys);
    free(identity->ends);
    free(identity->endpoint);
    free(identity->region);
    free(identity->account);
    free(identity->arn);
    buf_release(&identity->source);
    buf_release(&identity->tried);
}

/* The last four characters tell two keys apart, and are worth nothing. */
static char *shorten(const char *access_key)
{
    size_t length = strlen(access_key);
    return length > 8 ? xprintf("...%s", access_key + length - 4) : xstrdup("...");
}

static char *print_time(int64_t wall_ns)
{
    time_t seconds = (time_t)(wall_ns / 1000000000);
    struct tm parts;
    char text[32];
    if (wall_ns == INT64_MAX || !gmtime_r(&seconds, &parts))
        return NULL;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return xstrdup(text);
}

static int look(const struct settings *settings, bool verify, struct identity *ret_identity, struct buf *why)
{
    struct credentials_config config = {.profile = settings->profile,
                                        .role_arn = settings->role_arn,
                                        .credentials_file = settings->credentials_file};
    struct credentials *credentials = credentials_new(&config);
    int rc = credentials_get(credentials, &ret_identity->keys, why);
    if (rc == 0) {
        credentials_describe(credentials, &ret_identity->source);
        credentials_tried(credentials, &ret_identity->tried);
        ret_identity->ends = print_time(ret_identity->keys->expires_ns);
        STRING_SCOPED *endpoint = settings->endpoint ? xstrdup(settings->endpoint)
                                                     : credentials_setting(credentials, "endpoint_url");
        ret_identity->endpoint = endpoint ? http_url_place(endpoint) : NULL;
        ret_identity->region =
            settings->region ? xstrdup(settings->region) : credentials_setting(credentials, "region");
        if (verify)
            rc = credentials_verify(credentials, ret_identity->keys, &ret_identity->account,
                                    &ret_identity->arn, why);
    }
    credentials_unref(credentials);
    return rc;
}

static void print_json(const struct identity *identity)
{
    struct json *all = json_object_new(), *tried = json_array_new();
    BUF_SCOPED out = BUF_INIT;
    STRING_SCOPED *key = shorten(identity->keys->access_key);
    json_set_string(all, "source", identity->source.bytes);
    json_set_string(all, "access_key", key);
    json_set_bool(all, "session_token", identity->keys->session_token);
    json_set_string(all, "expires", identity->ends);
    json_set_string(all, "endpoint", identity->endpoint);
    json_set_string(all, "region", identity->region);
    json_set_string(all, "account", identity->account);
    json_set_string(all, "arn", identity->arn);
    for (char *at = identity->tried.bytes; at && *at;) {
        char *end = strstr(at, "; ");
        STRING_SCOPED *one = end ? xstrndup(at, (size_t)(end - at)) : xstrdup(at);
        json_append_string(tried, one);
        at = end ? end + 2 : NULL;
    }
    json_set(all, "tried_before", &tried);
    json_print(all, &out, true);
    puts(out.bytes);
    json_free(all);
}

static void print_text(const struct identity *identity)
{
    STRING_SCOPED *key = shorten(identity->keys->access_key);
    words_line(stdout, "keys        %s", identity->source.bytes);
    words_line(stdout, "access key  %s%s", key,
               identity->keys->session_token ? ", with a session token" : "");
    if (identity->keys->expires_ns < clock_wall_ns())
        words_line(stdout, "ended       %s: get new ones from where they come", identity->ends);
    else
        words_line(stdout, "good until  %s", identity->ends ? identity->ends : "they are changed");
    if (identity->endpoint)
        words_line(stdout, "endpoint    %s", identity->endpoint);
    if (identity->region)
        words_line(stdout, "region      %s", identity->region);
    if (identity->arn)
        words_line(stdout, "account     %s, %s", identity->account, identity->arn);
    for (const char *at = identity->tried.bytes; *at;) {
        size_t length = strcspn(at, ";");
        words_line(stdout, "%s%.*s", at == identity->tried.bytes ? "before it   " : "            ",
                   (int)length, at);
        at += length;
        at += strspn(at, "; ");
    }
}

static int tell(const struct settings *settings, bool verify, bool json)
{
    struct identity identity = {.source = BUF_INIT, .tried = BUF_INIT};
    BUF_SCOPED why = BUF_INIT;
    int rc = 0;
    if (settings->no_sign_request) {
        puts(json ? "{\"source\": \"no_sign_request\"}"
                  : "nobody: no_sign_request sends requests without a signature");
    } else if ((rc = look(settings, verify, &identity, &why)) < 0) {
        words_complain(why.bytes);
    } else if (json) {
        print_json(&identity);
    } else {
        print_text(&identity);
    }
    release(&identity);
    return rc < 0;
}

/* What the command line says; `options` as of -o. 0, or the exit status. */
static int read_words(int count, char **words, struct buf *options, struct settings *settings, bool *verify,
                      bool *json)
{
    int status = 0;
    for (int i = 1; i < count && !status; i++) {
        const char *list = words_value("whoami", "-o", count, words, &i, &status);
        if (list)
            buf_printf(options, "%s%s", options->length ? "," : "", list);
        else if (!status && strcmp(words[i], "--json") == 0)
            *json = true;
        else if (!status && strcmp(words[i], "--verify") == 0)
            *verify = true;
        else if (!status && (words[i][0] == '-' || settings->source))
            status = command_usage("whoami", "'%s' is no flag of it", words[i]);
        else if (!status)
            settings->source = xstrdup(words[i]);
    }
    return status;
}

/* As a mount reads them: a later one overwrites an earlier one. */
static int read_settings(struct settings *settings, const char *options, struct buf *why)
{
    int rc = option_from_file(settings, NULL, why);
    if (option_from_environment(settings, why) < 0 || option_parse_list(settings, options, why) < 0)
        rc = -EINVAL;
    if (settings->source && source_parse(settings->source, &settings->bucket, &settings->prefix, why) < 0)
        rc = -EINVAL;
    return rc < 0 || option_check(settings, why) < 0 ? -EINVAL : 0;
}

int command_whoami(int count, char **words)
{
    struct settings settings = {0};
    BUF_SCOPED why = BUF_INIT, options = BUF_INIT;
    bool json = false, verify = false;
    option_defaults(&settings);
    int status = read_words(count, words, &options, &settings, &verify, &json);
    if (status == 0)
        status = read_settings(&settings, options.bytes, &why) < 0;
    words_complain(why.bytes);
    if (status == 0)
        status = tell(&settings, verify, json);
    settings_release(&settings);
    return status;
}
