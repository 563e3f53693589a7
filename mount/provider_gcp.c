/* Google Cloud: an HMAC key of a service account, made for the pool; teardown makes it INACTIVE, then deletes it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mount/adapter.h"
#include "mount/google.h"
#include "mount/key.h"
#include "mount/reach.h"
#include "mount/words.h"

#define KIND      "hmac-key"
#define SERVICE   "https://storage.googleapis.com"
#define VARIABLE  "STORAGE_EMULATOR_HOST"
#define API_PATH  "/storage/v1/projects/"
#define REGION    "auto"
#define KEYS_MAX  10 /* that a service account may have */
#define PAGES_MAX 100

static const struct provider_name settings[] = {{"project", PROVIDER_TEXT},
                                                {"service_account", PROVIDER_TEXT},
                                                {"credentials", PROVIDER_TEXT},
                                                {"api_url", PROVIDER_TEXT},
                                                {NULL, PROVIDER_TEXT}};

/* One use of the account that keys are made for. */
struct session {
    const struct provider_job *job;
    struct google google;
    struct api *api;
    const char *project, *email; /* encoded when they go into a path */
    size_t listed;
};

static int check(const struct provider_job *job, struct buf *why)
{
    return adapter_check_buckets(job, true, why);
}

/* "localhost:4443" counts as http://localhost:4443, as Google's clients read it. Malloc'ed. */
static char *address_of(const struct provider_job *job, const char **ret_where)
{
    const char *text = adapter_address(job, VARIABLE, SERVICE, ret_where);
    return strstr(text, "://") ? xstrdup(text) : xprintf("http://%s", text);
}

static void end(struct session *session)
{
    google_release(&session->google);
    api_free(session->api);
}

static int begin(const struct provider_job *job, struct session *session, struct buf *why)
{
    *session = (struct session){.job = job};
    struct api_config config = {.name = "Google Cloud Storage", .waiter = job->waiter};
    STRING_SCOPED *url = address_of(job, &config.where);
    config.url = url;
    int rc = api_new(&config, &session->api, why);
    return rc < 0 ? rc : google_sign_in(job, &session->google, why);
}

/* ---- Whose keys. ---- */

static const char *find_project(const struct session *session)
{
    const char *said = adapter_text(session->job, "project");
    if (!said || !*said)
        said = getenv("GOOGLE_CLOUD_PROJECT");
    if (!said || !*said)
        said = getenv("GCLOUD_PROJECT");
    return said && *said ? said : session->google.project;
}

static const char *find_email(const struct session *session)
{
    const char *said = adapter_text(session->job, "service_account");
    if (said && *said)
        return said;
    said = session->google.email;
    return said && strstr(said, ".gserviceaccount.com") ? said : NULL;
}

static int find_account(struct session *session, struct buf *why)
{
    session->project = find_project(session);
    session->email = find_email(session);
    if (!session->project || !*session->project) {
        words_next(why);
        buf_add_string(
            why, "gcp: the project is not known: set project in [providers.gcp], or GOOGLE_CLOUD_PROJECT");
    }
    if (!session->email) {
        words_next(why);
        buf_printf(why,
                   "gcp: the service account that the key is to be of is not known (signed in by %s): set "
                   "service_account in "
                   "[providers.gcp], such as PROJECT_NUMBER-compute@developer.gserviceaccount.com",
                   session->google.source);
    }
    return session->project && *session->project && session->email ? 0 : -EINVAL;
}

/* What is there already is of the account that the state tells. */
static void recall_account(struct session *session, const struct state_thing *thing)
{
    session->project = state_fact(thing, "project");
    session->email = state_fact(thing, "email");
}

/* ---- The service of keys. ---- */

static int send(struct session *session, struct api_request *request, struct api_answer *ret_answer,
                struct buf *why)
{
    request->headers[0] = (struct api_header){"Authorization", "Bearer ", session->google.token};
    int rc = api_send(session->api, request, ret_answer, why);
    if (rc == -EACCES)
        buf_printf(why, "; %s needs the role roles/storage.hmacKeyAdmin in project %s",
                   session->google.email ? session->google.email : session->google.source, session->project);
    return rc;
}

static void add_base(const struct session *session, struct buf *path)
{
    buf_add_string(path, API_PATH);
    buf_add_encoded(path, session->project, strlen(session->project), false);
    buf_add_string(path, "/hmacKeys");
}

static void add_email(const struct session *session, struct buf *path)
{
    buf_add_string(path, "?serviceAccountEmail=");
    buf_add_encoded(path, session->email, strlen(session->email), false);
}

static int refuse_answer(const char *what, struct buf *why)
{
    buf_printf(why, "Google Cloud Storage answers with %s", what);
    return -EBADMSG;
}

static int read_page(const struct json *answer, struct leftover_keys *keys, struct buf *why)
{
    const struct json *items = json_get(answer, "items");
    if (!json_holds_names(answer) || (items && !json_holds_items(items)))
        return refuse_answer("no list of HMAC keys", why);
    for (size_t i = 0; i < json_count(items); i++) {
        const char *id = json_get_string(json_at(items, i), "accessId");
        const char *state = json_get_string(json_at(items, i), "state");
        if (!id || !*id)
            return refuse_answer("an HMAC key without accessId", why);
        if (!state || strcmp(state, "DELETED") != 0)
            leftover_add(keys, id, json_get_string(json_at(items, i), "timeCreated"));
    }
    return 0;
}

static int list_keys(void *context, struct leftover_keys *ret_keys, int64_t *ret_now_ns, struct buf *why)
{
    struct session *session = context;
    STRING_SCOPED *token = NULL;
    int rc = 0;
    for (int page = 0; rc == 0 && (page == 0 || token); page++) {
        struct api_answer answer;
        BUF_SCOPED path = BUF_INIT;
        if (page == PAGES_MAX)
            return refuse_answer("more pages of HMAC keys than can be", why);
        add_base(session, &path);
        add_email(session, &path);
        if (token) {
            buf_add_string(&path, "&pageToken=");
            buf_add_encoded(&path, token, strlen(token), false);
        }
        struct api_request request = {.method = "GET", .path = path.bytes};
        rc = send(session, &request, &answer, why);
        if (rc == 0)
            rc = read_page(answer.json, ret_keys, why);
        const char *next = json_get_string(answer.json, "nextPageToken");
        free(token);
        token = next && *next ? xstrdup(next) : NULL;
        *ret_now_ns = answer.date_ns;
        api_answer_release(&answer);
    }
    session->listed = ret_keys->count;
    return rc;
}

static int make_key(void *context, char **ret_id, struct secret **ret_secret, struct json *facts,
                    bool *ret_unknown, struct buf *why)
{
    struct session *session = context;
    struct api_answer answer;
    BUF_SCOPED path = BUF_INIT;
    (void)facts;
    add_base(session, &path);
    add_email(session, &path);
    struct api_request request = {.method = "POST", .path = path.bytes, .once = true};
    int rc = send(session, &request, &answer, why);
    *ret_unknown = rc < 0 && answer.unknown;
    if (rc < 0 && !*ret_unknown && session->listed >= KEYS_MAX)
        buf_printf(why,
                   "; %s has %zu HMAC keys, and a service account may have %d: delete one that nobody uses "
                   "(gcloud storage hmac list), or "
                   "take another service_account",
                   session->email, session->listed, KEYS_MAX);
    const char *id = json_get_string(json_get(answer.json, "metadata"), "accessId");
    const char *secret = json_get_string(answer.json, "secret");
    if (rc == 0 && id && *id && secret && *secret) {
        *ret_id = xstrdup(id);
        *ret_secret = secret_new(secret, strlen(secret));
    } else if (rc == 0) {
        rc = refuse_answer("no HMAC key to the request for one", why);
        *ret_unknown = true;
    }
    api_answer_release(&answer);
    return rc;
}

static int change_key(struct session *session, const char *method, const char *id, const char *body,
                      struct buf *why)
{
    struct api_answer answer;
    BUF_SCOPED path = BUF_INIT;
    add_base(session, &path);
    buf_add_char(&path, '/');
    buf_add_encoded(&path, id, strlen(id), false);
    struct api_request request = {.method = method, .path = path.bytes, .body = body, .accept = 404};
    request.content_type = body ? "application/json" : NULL;
    int rc = send(session, &request, &answer, why);
    int status = answer.status;
    api_answer_release(&answer);
    return rc < 0 ? rc : status == 404 ? -ENOENT : 0;
}

static int remove_key(void *context, const char *id, struct buf *why)
{
    int rc = change_key(context, "PUT", id, "{\"state\":\"INACTIVE\"}", why);
    if (rc == 0)
        rc = change_key(context, "DELETE", id, NULL, why);
    return rc == -ENOENT ? 0 : rc;
}

static int pause_session(void *context, int64_t ms)
{
    return api_pause(((struct session *)context)->api, ms);
}

static void tell_job(void *context, const char *what, const char *kind, const char *id)
{
    adapter_tell(((struct session *)context)->job, what, kind, id);
}

static struct key_service service_of(struct session *session)
{
    return (struct key_service){.kind = KIND,
                                .list = list_keys,
                                .make = make_key,
                                .remove = remove_key,
                                .pause = pause_session,
                                .tell = tell_job,
                                .context = session};
}

/* ---- The buckets. ---- */

static int reach_buckets(const struct provider_job *job, const struct state_thing *thing, struct buf *why)
{
    const char *where;
    STRING_SCOPED *endpoint = address_of(job, &where);
    struct reach reach = {.endpoint = endpoint, .region = REGION, .path_style = true, .waiter = job->waiter};
    int first = 0;
    reach.keys = keys_new(thing->id, secret_reveal(thing->secret), NULL, INT64_MAX);
    for (size_t i = 0; i < job->volume_count && first != -EINTR; i++) {
        BUF_SCOPED words = BUF_INIT;
        reach.bucket = job->volumes[i]->bucket;
        int rc = adapter_is_first(job, i) ? reach_bucket(&reach, &words) : 0;
        if (rc == 0)
            continue;
        words_next(why);
        buf_add_string(why, words.bytes);
        if (rc == -EACCES)
            buf_printf(
                why, "; give %s the role roles/storage.object%s on it, and roles/storage.legacyBucketReader",
                state_fact(thing, "email"), adapter_writes(job, reach.bucket) ? "User" : "Viewer");
        first = first ? first : rc;
    }
    keys_unref(reach.keys);
    return first;
}

/* ---- The door. ---- */

/* A key that was made before stays what it is: its account is the one that counts. */
static int settle_account(struct session *session, const struct state *state, struct json **ret_facts,
                          struct buf *why)
{
    const struct state_thing *thing = state_find(state, KIND);
    int rc = 0;
    if (thing)
        recall_account(session, thing);
    else
        rc = find_account(session, why);
    if (rc == 0 && (!session->project || !session->email)) {
        buf_printf(why,
                   "%s tells of an HMAC key without its project and email; delete it in the console, and "
                   "then the file",
                   state_path(state));
        rc = -EBADMSG;
    }
    if (rc < 0)
        return rc;
    *ret_facts = json_object_new();
    json_set_string(*ret_facts, "project", session->project);
    json_set_string(*ret_facts, "email", session->email);
    session->project = json_get_string(*ret_facts, "project");
    session->email = json_get_string(*ret_facts, "email");
    return 0;
}

static int prepare(const struct provider_job *job, struct buf *why)
{
    struct session session = {0};
    struct state *state = NULL;
    struct state_thing *thing = NULL;
    struct json *facts = NULL;
    int rc = check(job, why);
    if (rc == 0)
        rc = begin(job, &session, why);
    if (rc == 0)
        rc = adapter_open(job, &state, why);
    if (rc == 0)
        rc = settle_account(&session, state, &facts, why);
    if (rc == 0) {
        struct key_service service = service_of(&session);
        rc = key_ensure(&service, state, facts, &thing, why);
    }
    if (rc == 0)
        rc = reach_buckets(job, thing, why);
    state_close(state);
    end(&session);
    json_free(facts);
    return rc;
}

static int teardown(const struct provider_job *job, struct buf *why)
{
    struct session session = {0};
    struct state *state = NULL;
    struct json *facts = NULL;
    int rc = state_look(job->state_path, job->provider->name, &state, why);
    state_close(state);
    state = NULL;
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    rc = begin(job, &session, why);
    if (rc == 0)
        rc = adapter_open(job, &state, why);
    if (rc == 0 && state_count(state))
        rc = settle_account(&session, state, &facts, why);
    if (rc == 0) {
        struct key_service service = service_of(&session);
        rc = key_remove_all(&service, state, why);
    }
    state_close(state);
    end(&session);
    json_free(facts);
    return rc;
}

static int supply(const struct provider_job *job, struct provision *ret_provision, struct buf *why)
{
    struct state *state = NULL;
    const char *where;
    *ret_provision = (struct provision){0};
    int rc = check(job, why);
    if (rc < 0 || job->explain)
        return rc;
    rc = adapter_look(job, &state, why);
    const struct state_thing *thing = rc == 0 ? state_find(state, KIND) : NULL;
    if (rc == 0 && (!thing || !thing->made || !thing->secret)) {
        buf_printf(why, "gcp: %s remembers no whole HMAC key; run: skyvol prepare", job->state_path);
        rc = -ENOKEY;
    }
    if (rc == 0) {
        ret_provision->supplies = xcalloc(job->volume_count, sizeof(*ret_provision->supplies));
        ret_provision->supply_count = job->volume_count;
    }
    for (size_t i = 0; i < ret_provision->supply_count; i++) {
        struct supply *supply = &ret_provision->supplies[i];
        supply->endpoint = address_of(job, &where);
        supply->region = xstrdup(REGION);
        supply->path_style = true;
        supply->credentials = SUPPLY_KEYS;
        supply->identity = xprintf("gcp/%s", thing->id);
        supply->access_key = xstrdup(thing->id);
        supply->secret_key = secret_ref(thing->secret);
    }
    state_close(state);
    return rc;
}

const struct provider provider_gcp = {
    .name = "gcp",
    .settings = settings,
    .check = check,
    .prepare = prepare,
    .supply = supply,
    .teardown = teardown,
};
