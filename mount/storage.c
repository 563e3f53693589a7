#include "mount/storage.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mount/option.h"
#include "mount/words.h"
#include "s3/credentials.h"
#include "s3/store.h"

/* ---- The tables. ---- */

enum field_kind { FIELD_TEXT, FIELD_SWITCH, FIELD_CREDENTIAL };

struct field {
    const char *name;
    enum field_kind kind;
    size_t at, said_at;  /* in struct storage; said_at 0: nothing remembers that it was said */
    const char *only_of; /* the preset that alone takes it; NULL: all */
};

#define AT(field) offsetof(struct storage, field)

static const struct field fields[] = {
    {"endpoint", FIELD_TEXT, AT(endpoint), 0, NULL},
    {"region", FIELD_TEXT, AT(region), 0, NULL},
    {"account_id", FIELD_TEXT, AT(account_id), 0, "r2"},
    {"profile", FIELD_TEXT, AT(profile), 0, NULL},
    {"path_style", FIELD_SWITCH, AT(path_style), AT(path_style_said), NULL},
    {"no_sign_request", FIELD_SWITCH, AT(no_sign_request), 0, NULL},
    {"allow_http", FIELD_SWITCH, AT(allow_http), 0, NULL},
    {"access_key", FIELD_CREDENTIAL, AT(access_key), 0, NULL},
    {"secret_key", FIELD_CREDENTIAL, AT(secret_key), 0, NULL},
    {"session_token", FIELD_CREDENTIAL, AT(session_token), 0, NULL},
    {"key_id", FIELD_CREDENTIAL, AT(access_key), 0, "backblaze"},
    {"app_key", FIELD_CREDENTIAL, AT(secret_key), 0, "backblaze"},
    {"api_key", FIELD_CREDENTIAL, AT(api_key), 0, "hyperstack"},
};

struct preset {
    const char *name;
    const char *endpoint; /* {region} and {account_id} are put in; NULL: it must be given */
    const char *region;   /* when not given; NULL: it must be */
    const char *signs;    /* the region that requests are signed with; NULL: that one */
    bool path_style;
    bool needs_keys;
};

static const struct preset presets[] = {
    {"s3", "https://s3.{region}.amazonaws.com", "us-east-1", NULL, false, false},
    {"gcs", "https://storage.googleapis.com", "auto", NULL, false, true},
    {"r2", "https://{account_id}.r2.cloudflarestorage.com", "auto", NULL, false, true},
    {"wasabi", "https://s3.{region}.wasabisys.com", "us-east-1", NULL, false, true},
    {"backblaze", "https://s3.{region}.backblazeb2.com", NULL, NULL, false, true},
    {"hyperstack", "https://ca1.obj.nexgencloud.io", "CANADA-1", "us-east-1", true, false},
    {"minio", NULL, "us-east-1", NULL, true, false},
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const struct preset *find_preset(const char *name)
{
    for (size_t i = 0; i < COUNT(presets); i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i];
    return NULL;
}

static const struct field *find_field(const char *name)
{
    for (size_t i = 0; i < COUNT(fields); i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

/* ---- What was said. ---- */

void storage_release(struct storage *storage)
{
    free(storage->name);
    free(storage->where);
    for (size_t i = 0; i < COUNT(fields); i++) {
        char *place = (char *)storage + fields[i].at;
        if (fields[i].kind == FIELD_TEXT)
            free_string((char **)place);
        else if (fields[i].kind == FIELD_CREDENTIAL)
            deferred_release((struct deferred *)place);
    }
    *storage = (struct storage){0};
}

static void begin_words(const char *where, struct buf *why)
{
    words_next(why);
    if (where)
        buf_printf(why, "%s: ", where);
}

static int refuse_field(const char *name, const char *where, struct buf *why)
{
    const char *names[COUNT(fields) + 1];
    for (size_t i = 0; i < COUNT(fields); i++)
        names[i] = fields[i].name;
    names[COUNT(fields)] = "preset";
    const char *nearest = option_nearest(name, names, COUNT(fields) + 1);
    begin_words(where, why);
    buf_printf(why, "a storage has no '%s'", name);
    if (nearest)
        buf_printf(why, "; did you mean '%s'?", nearest);
    return -EINVAL;
}

static int set_preset(struct storage *storage, const char *value, const char *where, struct buf *why)
{
    storage->preset = find_preset(value);
    if (storage->preset)
        return 0;
    begin_words(where, why);
    buf_printf(why, "there is no preset '%s'; they are", value);
    for (size_t i = 0; i < COUNT(presets); i++)
        buf_printf(why, "%s %s", i ? "," : "", presets[i].name);
    return -EINVAL;
}

static int set_switch(struct storage *storage, const struct field *field, const char *value,
                      const char *where, struct buf *why)
{
    bool yes = strcmp(value, "yes") == 0 || strcmp(value, "true") == 0;
    if (!yes && strcmp(value, "no") != 0 && strcmp(value, "false") != 0) {
        begin_words(where, why);
        buf_printf(why, "%s must be true or false, got '%s'", field->name, value);
        return -EINVAL;
    }
    *(bool *)((char *)storage + field->at) = yes;
    if (field->said_at)
        *(bool *)((char *)storage + field->said_at) = true;
    return 0;
}

int storage_set(struct storage *storage, const char *name, const char *value, const char *where,
                struct buf *why)
{
    if (strcmp(name, "preset") == 0)
        return set_preset(storage, value, where, why);
    const struct field *field = find_field(name);
    if (!field)
        return refuse_field(name, where, why);
    if (field->kind == FIELD_SWITCH)
        return set_switch(storage, field, value, where, why);
    if (field->kind == FIELD_CREDENTIAL) {
        begin_words(where, why);
        buf_printf(why, "%s is a credential: it is given in a file or by { env = \"NAME\" }, never here",
                   name);
        return -EINVAL;
    }
    if (!*value || words_have_control(value)) {
        begin_words(where, why);
        buf_printf(why, "%s %s", name, *value ? "has a control character" : "is empty");
        return -EINVAL;
    }
    char **place = (char **)((char *)storage + field->at);
    free(*place);
    *place = xstrdup(value);
    return 0;
}

int storage_set_credential(struct storage *storage, const char *name, struct deferred *credential,
                           struct buf *why)
{
    const struct field *field = find_field(name);
    if (!field)
        return refuse_field(name, credential->where, why);
    if (field->kind != FIELD_CREDENTIAL) {
        begin_words(credential->where, why);
        buf_printf(why, "%s is no credential: it is plain text", name);
        return -EINVAL;
    }
    struct deferred *place = (struct deferred *)((char *)storage + field->at);
    deferred_release(place);
    *place = *credential;
    *credential = (struct deferred){0};
    return 0;
}

bool storage_is_credential(const char *name)
{
    const struct field *field = find_field(name);
    return field && field->kind == FIELD_CREDENTIAL;
}

/* ---- All is said. ---- */

static void complain(const struct storage *storage, struct buf *why, const char *words)
{
    begin_words(storage->where, why);
    if (storage->name)
        buf_printf(why, "storage '%s': ", storage->name);
    buf_add_string(why, words);
}

/* The template with its {names} filled in. */
static char *fill(const struct storage *storage, const char *template)
{
    BUF_SCOPED out = BUF_INIT;
    while (*template) {
        const char *value = NULL;
        if (strncmp(template, "{region}", 8) == 0)
            value = storage->region;
        else if (strncmp(template, "{account_id}", 12) == 0)
            value = storage->account_id;
        if (value) {
            buf_add_string(&out, value);
            template = strchr(template, '}') + 1;
        } else {
            buf_add_char(&out, *template ++);
        }
    }
    return buf_take(&out);
}

/* What becomes part of a host's name. */
static bool is_label(const char *text)
{
    size_t good = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
    return good > 0 && good <= 63 && !text[good];
}

static void check_fields(const struct storage *storage, struct buf *why)
{
    const struct preset *preset = storage->preset;
    for (size_t i = 0; i < COUNT(fields); i++) {
        const struct field *field = &fields[i];
        bool twin = strcmp(field->name, "key_id") == 0 || strcmp(field->name, "app_key") == 0;
        const void *place = (const char *)storage + field->at;
        bool said = field->kind == FIELD_TEXT ? *(char *const *)place != NULL
                    : field->kind == FIELD_CREDENTIAL
                        ? ((const struct deferred *)place)->kind != DEFERRED_NONE
                        : false;
        if (!said || !field->only_of || twin || (preset && strcmp(preset->name, field->only_of) == 0))
            continue;
        STRING_SCOPED *words = xprintf("%s belongs to preset %s", field->name, field->only_of);
        complain(storage, why, words);
    }
}

static void check_keys(const struct storage *storage, struct buf *why)
{
    bool access = storage->access_key.kind != DEFERRED_NONE,
         secret = storage->secret_key.kind != DEFERRED_NONE;
    bool token = storage->session_token.kind != DEFERRED_NONE;
    if (access != secret)
        complain(storage, why,
                 access ? "access_key is given without secret_key"
                        : "secret_key is given without access_key");
    if (token && !access)
        complain(storage, why, "session_token is given without access_key");
    if (access && (storage->profile || storage->no_sign_request))
        complain(storage, why,
                 storage->profile ? "access_key and profile contradict each other: one of them"
                                  : "access_key and no_sign_request contradict each other: one of them");
    if (storage->preset && storage->preset->needs_keys && !access && !storage->profile &&
        !storage->no_sign_request) {
        STRING_SCOPED *words =
            xprintf("preset %s needs access_key and secret_key (or profile)", storage->preset->name);
        complain(storage, why, words);
    }
}

static void check_endpoint(struct storage *storage, struct buf *why)
{
    const struct preset *preset = storage->preset;
    if (!storage->region && preset && preset->region)
        storage->region = xstrdup(preset->region);
    if (!storage->region && preset) {
        STRING_SCOPED *words = xprintf("preset %s needs region", preset->name);
        complain(storage, why, words);
        return;
    }
    if (storage->region && !is_label(storage->region))
        complain(storage, why, "region has a character that none has");
    if (!storage->endpoint && preset && preset->endpoint) {
        bool wants_account = strstr(preset->endpoint, "{account_id}");
        if (wants_account && !storage->account_id)
            complain(storage, why, "preset r2 needs account_id");
        else if (wants_account && !is_label(storage->account_id))
            complain(storage, why, "account_id has a character that none has");
        else
            storage->endpoint = fill(storage, preset->endpoint);
    } else if (!storage->endpoint) {
        complain(storage, why, preset ? "preset minio needs endpoint" : "it needs endpoint, or a preset");
    }
    if (preset && preset->signs) {
        free(storage->region);
        storage->region = xstrdup(preset->signs);
    }
}

int storage_finish(struct storage *storage, struct buf *why)
{
    size_t before = why->length;
    check_fields(storage, why);
    check_keys(storage, why);
    check_endpoint(storage, why);
    if (!storage->path_style_said && storage->preset)
        storage->path_style = storage->preset->path_style;
    return why->length > before ? -EINVAL : 0;
}

/* ---- Use. ---- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool storage_equal(const struct storage *a, const struct storage *b)
{
    return a == b ||
           (same_text(a->endpoint, b->endpoint) && same_text(a->region, b->region) &&
            same_text(a->profile, b->profile) && a->path_style == b->path_style &&
            a->no_sign_request == b->no_sign_request && a->allow_http == b->allow_http &&
            deferred_equal(&a->access_key, &b->access_key) &&
            deferred_equal(&a->secret_key, &b->secret_key) &&
            deferred_equal(&a->session_token, &b->session_token) && deferred_equal(&a->api_key, &b->api_key));
}

bool storage_makes_keys(const struct storage *storage)
{
    return storage->preset && strcmp(storage->preset->name, "hyperstack") == 0 &&
           storage->access_key.kind == DEFERRED_NONE && !storage->profile && !storage->no_sign_request;
}

bool storage_has_keys(const struct storage *storage)
{
    return storage->access_key.kind != DEFERRED_NONE;
}

int storage_keys(const struct storage *storage, struct keys **ret_keys, struct buf *why)
{
    BUF_SCOPED line = BUF_INIT;
    return storage_keys_again(storage, ret_keys, &line, why);
}

int storage_keys_again(const struct storage *storage, struct keys **ret_keys, struct buf *ret_line,
                       struct buf *why)
{
    struct secret *access = NULL, *secret = NULL, *token = NULL;
    struct deferred_answer answer = {0};
    bool one = deferred_equal(&storage->access_key, &storage->secret_key);
    int rc = deferred_resolve_with(&storage->access_key, "access_key", &answer, &access, why);
    /* What is wrong with either is said; what is wrong with one command, once. */
    int secret_rc = rc == 0 || !one
                        ? deferred_resolve_with(&storage->secret_key, "secret_key", &answer, &secret, why)
                        : rc;
    rc = rc < 0 ? rc : secret_rc;
    if (rc == 0 && storage->session_token.kind != DEFERRED_NONE)
        rc = deferred_resolve_with(&storage->session_token, "session_token", &answer, &token, why);
    else if (rc == 0 && one)
        token = deferred_told(&answer, &storage->access_key, "session_token");
    bool whole = storage->session_token.kind == DEFERRED_NONE ||
                 deferred_equal(&storage->session_token, &storage->access_key);
    if (rc == 0 && one && whole && !deferred_process(&answer, &storage->access_key, ret_line))
        buf_reset(ret_line);
    if (rc == 0)
        *ret_keys = keys_new(secret_reveal(access), secret_reveal(secret),
                             token ? secret_reveal(token) : NULL, INT64_MAX);
    secret_unref(access);
    secret_unref(secret);
    secret_unref(token);
    deferred_answer_release(&answer);
    return rc;
}

/* A copy of the credentials alone, for who asks again after the storage has gone. */
static int ask_keys(void *context, struct keys **ret_keys, struct buf *why)
{
    return storage_keys(context, ret_keys, why);
}

static void release_copy(void *context)
{
    storage_release(context);
    free(context);
}

static struct credentials *make_credentials(const struct storage *storage)
{
    struct credentials_config config = {.profile = storage->profile};
    struct credentials_ask ask = {
        .keys = ask_keys, .release = release_copy, .words = "the keys of the storage"};
    if (storage->no_sign_request)
        return NULL;
    if (storage_has_keys(storage)) {
        struct storage *copy = xcalloc(1, sizeof *copy);
        deferred_copy(&copy->access_key, &storage->access_key);
        deferred_copy(&copy->secret_key, &storage->secret_key);
        deferred_copy(&copy->session_token, &storage->session_token);
        ask.context = copy;
        config.ask = &ask;
    }
    return credentials_new(&config);
}

int storage_open(const struct storage *storage, const char *bucket, struct store **ret_store, struct buf *why)
{
    struct credentials *credentials = make_credentials(storage);
    struct store_config config = {.endpoint = storage->endpoint,
                                  .bucket = bucket,
                                  .region = storage->region,
                                  .style = storage->path_style ? STYLE_PATH : STYLE_AUTO,
                                  .allow_http = storage->allow_http,
                                  .credentials = credentials};
    int rc = store_s3_new(&config, ret_store, why);
    credentials_unref(credentials);
    return rc;
}
