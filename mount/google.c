#include "mount/google.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/rsa.h"
#include "mount/adapter.h"

#define TOKEN_URL      "https://oauth2.googleapis.com/token"
#define FILE_BYTES_MAX ((size_t)1 << 20)
#define TOKEN_LIFE_S   3600
#define METADATA_PATH  "/computeMetadata/v1/"
#define METADATA_MS    6000

void google_release(struct google *google)
{
    secret_unref(google->token);
    free(google->email);
    free(google->project);
    free(google->source);
    *google = (struct google){0};
}

/* ---- The assertion. ---- */

static void add_part(const struct json *json, struct buf *out)
{
    BUF_SCOPED text = BUF_INIT;
    json_print(json, &text, false);
    buf_add_base64_url(out, text.bytes, text.length);
}

int google_assertion(const char *email, const char *key_id, const struct secret *private_key,
                     const char *audience, int64_t now_s, struct buf *out, struct buf *why)
{
    BUF_SCOPED signature = BUF_INIT;
    struct json *head = json_object_new(), *claims = json_object_new();
    json_set_string(head, "alg", "RS256");
    json_set_string(head, "typ", "JWT");
    if (key_id)
        json_set_string(head, "kid", key_id);
    json_set_string(claims, "iss", email);
    json_set_string(claims, "scope", GOOGLE_SCOPE);
    json_set_string(claims, "aud", audience);
    json_set_integer(claims, "iat", now_s);
    json_set_integer(claims, "exp", now_s + TOKEN_LIFE_S);
    add_part(head, out);
    buf_add_char(out, '.');
    add_part(claims, out);
    json_free(head);
    json_free(claims);
    int rc = rsa_sign_sha256(private_key, out->bytes, out->length, &signature, why);
    buf_add_char(out, '.');
    buf_add_base64_url(out, signature.bytes, signature.length);
    return rc;
}

/* ---- Tokens. ---- */

static int take_token(const struct api_answer *answer, struct google *google, struct buf *why)
{
    const char *token = json_get_string(answer->json, "access_token"),
               *type = json_get_string(answer->json, "token_type");
    bool plain = token && *token && strpbrk(token, " \r\n\t") == NULL;
    if (!plain || (type && strcasecmp(type, "Bearer") != 0)) {
        buf_printf(why, "%s: the answer to the request for a token has none", google->source);
        return -EBADMSG;
    }
    google->token = secret_new(token, strlen(token));
    return 0;
}

/* `form` is zeroed. */
static int ask_for_token(const struct provider_job *job, const char *token_uri, struct buf *form,
                         struct google *google, struct buf *why)
{
    const char *said = getenv("GOOGLE_OAUTH_TOKEN_URL");
    bool set = said && *said;
    struct api_config config = {
        .name = "Google's OAuth", .url = set ? said : token_uri, .waiter = job->waiter};
    struct api *api = NULL;
    struct api_answer answer = {0};
    config.where = set ? "GOOGLE_OAUTH_TOKEN_URL" : google->source;
    int rc = api_new(&config, &api, why);
    if (rc == 0) {
        struct secret *body = secret_new(form->bytes, form->length);
        struct api_request request = {
            .method = "POST", .path = "", .content_type = "application/x-www-form-urlencoded"};
        request.secret_body = body;
        rc = api_send(api, &request, &answer, why);
        secret_unref(body);
    }
    if (rc == 0)
        rc = take_token(&answer, google, why);
    else if (rc == -EINVAL || rc == -EACCES)
        buf_printf(why,
                   "; the credentials of %s are not accepted: make a new key, or run: gcloud auth "
                   "application-default login",
                   google->source);
    secret_wipe(form->bytes, form->length);
    buf_reset(form);
    api_answer_release(&answer);
    api_free(api);
    return rc;
}

static void add_field(struct buf *form, const char *name, const char *value)
{
    buf_printf(form, "%s%s=", form->length ? "&" : "", name);
    buf_add_encoded(form, value, strlen(value), false);
}

/* ---- Files. ---- */

static int refuse_file(const struct google *google, const char *what, struct buf *why)
{
    buf_printf(why, "%s: %s", google->source, what);
    return -EBADMSG;
}

static int sign_in_account(const struct provider_job *job, const struct json *file, struct google *google,
                           struct buf *why)
{
    const char *key = json_get_string(file, "private_key"), *email = json_get_string(file, "client_email");
    const char *uri = json_get_string(file, "token_uri");
    BUF_SCOPED assertion = BUF_INIT;
    BUF_SCOPED form = BUF_INIT;
    if (!key || !email)
        return refuse_file(google, "a service account's file has private_key and client_email", why);
    struct secret *secret = secret_new(key, strlen(key));
    buf_printf(why, "%s: ", google->source);
    int rc = google_assertion(email, json_get_string(file, "private_key_id"), secret, uri ? uri : TOKEN_URL,
                              clock_wall_ns() / 1000000000, &assertion, why);
    secret_unref(secret);
    if (rc < 0)
        return rc;
    buf_reset(why);
    google->email = xstrdup(email);
    add_field(&form, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    add_field(&form, "assertion", assertion.bytes);
    secret_wipe(assertion.bytes, assertion.length);
    return ask_for_token(job, uri ? uri : TOKEN_URL, &form, google, why);
}

static int sign_in_user(const struct provider_job *job, const struct json *file, struct google *google,
                        struct buf *why)
{
    static const char *const names[] = {"client_id", "client_secret", "refresh_token"};
    const char *uri = json_get_string(file, "token_uri");
    BUF_SCOPED form = BUF_INIT;
    add_field(&form, "grant_type", "refresh_token");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = json_get_string(file, names[i]);
        if (!value)
            return refuse_file(google, "a user's file has client_id, client_secret and refresh_token", why);
        add_field(&form, names[i], value);
    }
    return ask_for_token(job, uri ? uri : TOKEN_URL, &form, google, why);
}

static int read_small(const char *path, struct buf *out, struct buf *why)
{
    char piece[4096];
    ssize_t got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    while (fd >= 0 && out->length <= FILE_BYTES_MAX && (got = read(fd, piece, sizeof(piece))) > 0)
        buf_add(out, piece, (size_t)got);
    int rc = fd < 0 || got < 0 ? -errno : out->length > FILE_BYTES_MAX ? -EFBIG : 0;
    if (fd >= 0)
        close(fd);
    secret_wipe(piece, sizeof(piece));
    if (rc < 0 && rc != -ENOENT)
        buf_printf(why, "%s: %s", path, err_text(rc));
    return rc;
}

/* -ENOENT: there is no such file. */
static int sign_in_file(const struct provider_job *job, const char *path, struct google *google,
                        struct buf *why)
{
    BUF_SCOPED text = BUF_INIT;
    BUF_SCOPED words = BUF_INIT;
    struct json *file = NULL;
    int rc = read_small(path, &text, why);
    if (rc < 0)
        return rc;
    google->source = xstrdup(path);
    const char *type = NULL;
    if (json_parse(text.bytes, text.length, &file, &words) < 0)
        rc = refuse_file(google, words.bytes, why);
    else if (!(type = json_get_string(file, "type")))
        rc = refuse_file(google, "no credentials of Google: it has no type", why);
    else if (strcmp(type, "service_account") == 0)
        rc = sign_in_account(job, file, google, why);
    else if (strcmp(type, "authorized_user") == 0)
        rc = sign_in_user(job, file, google, why);
    else
        rc = refuse_file(google,
                         "only service_account and authorized_user are read; make a service account's key, "
                         "or run: gcloud auth "
                         "application-default login",
                         why);
    const char *project = json_get_string(file, "project_id");
    if (!project)
        project = json_get_string(file, "quota_project_id");
    google->project = project ? xstrdup(project) : NULL;
    json_free(file);
    if (text.length)
        secret_wipe(text.bytes, text.length);
    return rc;
}

static char *default_file(void)
{
    const char *gcloud = getenv("CLOUDSDK_CONFIG"), *home = getenv("HOME");
    if (gcloud && *gcloud)
        return xprintf("%s/application_default_credentials.json", gcloud);
    return home && *home ? xprintf("%s/.config/gcloud/application_default_credentials.json", home) : NULL;
}

static int sign_in_files(const struct provider_job *job, struct google *google, struct buf *why)
{
    const char *told = adapter_text(job, "credentials");
    if (!told || !*told)
        told = getenv("GOOGLE_APPLICATION_CREDENTIALS");
    if (told && *told) {
        int rc = sign_in_file(job, told, google, why);
        if (rc == -ENOENT)
            buf_printf(why, "%s, named by %s, does not exist", told,
                       adapter_text(job, "credentials") ? "credentials of the provider"
                                                        : "GOOGLE_APPLICATION_CREDENTIALS");
        return rc == -ENOENT ? -ENOKEY : rc;
    }
    STRING_SCOPED *path = default_file();
    return path ? sign_in_file(job, path, google, why) : -ENOENT;
}

/* ---- The machine's metadata. ---- */

static int ask_metadata(struct api *api, const char *path, bool plain, struct api_answer *ret_answer,
                        struct buf *why)
{
    struct api_request request = {
        .method = "GET", .path = path, .headers = {{"Metadata-Flavor", "Google", NULL}}};
    request.plain = plain;
    request.wanted = "metadata-flavor";
    int rc = api_send(api, &request, ret_answer, why);
    if (rc == 0 && (!ret_answer->wanted || strcmp(ret_answer->wanted, "Google") != 0)) {
        buf_printf(why, "%s is not Google's metadata server: its answer has no Metadata-Flavor: Google",
                   api_url(api));
        rc = -EBADMSG;
    }
    return rc;
}

/* NULL: it does not tell. */
static char *ask_metadata_text(struct api *api, const char *path)
{
    BUF_SCOPED words = BUF_INIT;
    struct api_answer answer;
    char *text = NULL;
    if (ask_metadata(api, path, true, &answer, &words) == 0 && secret_length(answer.text) < 256)
        text = xstrndup(secret_reveal(answer.text), strcspn(secret_reveal(answer.text), "\r\n"));
    api_answer_release(&answer);
    return text;
}

/* -ENOENT: there is no such server here. */
static int sign_in_metadata(const struct provider_job *job, struct google *google, struct buf *why)
{
    const char *host = getenv("GCE_METADATA_HOST"), *where = "GCE_METADATA_HOST";
    BUF_SCOPED words = BUF_INIT;
    struct api *api = NULL;
    struct api_answer answer = {0};
    if (!host || !*host)
        host = getenv(where = "GCE_METADATA_IP");
    if (!host || !*host)
        host = "metadata.google.internal";
    STRING_SCOPED *url = xprintf("http://%s", host);
    struct api_config config = {.name = "the metadata server",
                                .url = url,
                                .where = where,
                                .metadata = true,
                                .patience_ms = METADATA_MS};
    config.waiter = job->waiter;
    int rc = api_new(&config, &api, why);
    if (rc < 0)
        return rc;
    rc = ask_metadata(api, METADATA_PATH "instance/service-accounts/default/token", false, &answer, &words);
    if (rc == -EHOSTUNREACH || rc == -ETIMEDOUT) {
        rc = -ENOENT;
    } else if (rc < 0) {
        buf_add_string(why, words.bytes);
    } else {
        google->source = xstrdup("the metadata server");
        google->email = ask_metadata_text(api, METADATA_PATH "instance/service-accounts/default/email");
        google->project = ask_metadata_text(api, METADATA_PATH "project/project-id");
        rc = take_token(&answer, google, why);
    }
    api_answer_release(&answer);
    api_free(api);
    return rc;
}

/* ---- gcloud. ---- */

static int ask_gcloud(const char *const *words, struct secret **ret_secret, struct buf *why)
{
    char *copy[6] = {0};
    for (size_t i = 0; words[i] && i < 5; i++)
        copy[i] = (char *)(uintptr_t)words[i];
    struct deferred command = {.kind = DEFERRED_COMMAND, .words = copy, .where = copy[0]};
    return deferred_resolve(&command, "access_token", ret_secret, why);
}

static char *ask_gcloud_text(const char *name)
{
    const char *const words[] = {"gcloud", "config", "get-value", name, NULL};
    BUF_SCOPED why = BUF_INIT;
    struct secret *secret = NULL;
    char *text = ask_gcloud(words, &secret, &why) == 0 ? xstrdup(secret_reveal(secret)) : NULL;
    secret_unref(secret);
    return text;
}

static int sign_in_gcloud(struct google *google)
{
    static const char *const words[] = {"gcloud", "auth", "print-access-token", NULL};
    BUF_SCOPED why = BUF_INIT;
    int rc = ask_gcloud(words, &google->token, &why);
    if (rc < 0)
        return rc;
    google->source = xstrdup("gcloud");
    google->email = ask_gcloud_text("account");
    google->project = ask_gcloud_text("project");
    return 0;
}

int google_sign_in(const struct provider_job *job, struct google *ret_google, struct buf *why)
{
    struct google google = {0};
    int rc = sign_in_files(job, &google, why);
    if (rc == -ENOENT)
        rc = sign_in_metadata(job, &google, why);
    if (rc == -ENOENT && sign_in_gcloud(&google) < 0) {
        buf_add_string(why, "gcp: nobody is signed in to Google Cloud: no GOOGLE_APPLICATION_CREDENTIALS, no "
                            "application default credentials, no "
                            "metadata server, no gcloud; run: gcloud auth application-default login, or name "
                            "a service account's key file");
        rc = -ENOKEY;
    } else if (rc == -ENOENT) {
        rc = 0;
    }
    if (rc < 0)
        google_release(&google);
    else
        *ret_google = google;
    return rc;
}
