#include "mount/hyperstack.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "mount/api.h"
#include "mount/words.h"

#define KIND      "access-key"
#define PROVIDER  "hyperstack"
#define PATH      "/object-storage/access-keys"
#define PAGE_SIZE 100
#define PAGES_MAX 100

/* One use of the account. */
struct session {
    const struct hyperstack *account;
    struct api *api;
};

void hyperstack_key_release(struct hyperstack_key *key)
{
    free(key->id);
    free(key->access_key);
    secret_unref(key->secret_key);
    *key = (struct hyperstack_key){0};
}

static const char *region_of(const struct hyperstack *account)
{
    return account->region ? account->region : HYPERSTACK_REGION;
}

/* Whose keys the file remembers, without telling the API key. */
static char *name_account(const struct hyperstack *account)
{
    uint8_t hash[SHA256_BYTES];
    BUF_SCOPED out = BUF_INIT;
    digest_sha256(secret_reveal(account->api_key), secret_length(account->api_key), hash);
    buf_add_hex(&out, hash, 8);
    return buf_take(&out);
}

static int send(struct session *session, struct api_request *request, struct api_answer *ret_answer,
                struct buf *why)
{
    request->headers[0] = (struct api_header){"api_key", "", session->account->api_key};
    int rc = api_send(session->api, request, ret_answer, why);
    if (rc == -EACCES)
        buf_add_string(why, "; look at the API key (HYPERSTACK_API_KEY)");
    return rc;
}

/* ---- The service of keys. ---- */

static int refuse_answer(const char *what, struct buf *why)
{
    buf_printf(why, "Hyperstack answers with %s", what);
    return -EBADMSG;
}

/* Pages that are left are in *ret_pages. */
static int read_page(const struct json *answer, struct leftover_keys *keys, int64_t *ret_pages,
                     struct buf *why)
{
    const struct json *list = json_get(answer, "access_keys");
    if (!json_holds_items(list))
        return refuse_answer("no list of access keys", why);
    for (size_t i = 0; i < json_count(list); i++) {
        int64_t id;
        if (!json_get_integer(json_at(list, i), "id", &id) || id < 0)
            return refuse_answer("an access key without an id", why);
        STRING_SCOPED *text = xprintf("%lld", (long long)id);
        leftover_add(keys, text, json_get_string(json_at(list, i), "created_at"));
    }
    if (!json_get_integer(json_get(answer, "meta"), "total_pages", ret_pages))
        *ret_pages = 1;
    return 0;
}

static int list_keys(void *context, struct leftover_keys *ret_keys, int64_t *ret_now_ns, struct buf *why)
{
    int64_t pages = 1;
    int rc = 0;
    for (int64_t page = 1; page <= pages && rc == 0; page++) {
        struct api_answer answer;
        STRING_SCOPED *path = xprintf(PATH "?page=%lld&page_size=%d", (long long)page, PAGE_SIZE);
        struct api_request request = {.method = "GET", .path = path};
        rc = page > PAGES_MAX ? refuse_answer("more pages of access keys than can be", why)
                              : send(context, &request, &answer, why);
        if (page > PAGES_MAX)
            break;
        if (rc == 0)
            rc = read_page(answer.json, ret_keys, &pages, why);
        *ret_now_ns = answer.date_ns;
        api_answer_release(&answer);
    }
    return rc;
}

static int make_key(void *context, char **ret_id, struct secret **ret_secret, struct json *facts,
                    bool *ret_unknown, struct buf *why)
{
    struct session *session = context;
    struct api_answer answer;
    BUF_SCOPED body = BUF_INIT;
    struct json *json = json_object_new();
    json_set_string(json, "region", region_of(session->account));
    json_print(json, &body, false);
    json_free(json);
    struct api_request request = {
        .method = "POST", .path = PATH, .content_type = "application/json", .body = body.bytes, .once = true};
    int rc = send(session, &request, &answer, why);
    *ret_unknown = rc < 0 && answer.unknown;
    if (rc == 0) {
        int64_t id = -1;
        const char *access = json_get_string(answer.json, "access_key"),
                   *secret = json_get_string(answer.json, "secret_key");
        json_get_integer(answer.json, "id", &id);
        if (id < 0 || !access || !*access || !secret || !*secret) {
            rc = refuse_answer("no access key to the request for one", why);
            *ret_unknown = true;
        } else {
            *ret_id = xprintf("%lld", (long long)id);
            *ret_secret = secret_new(secret, strlen(secret));
            json_set_string(facts, "access_key", access);
        }
    }
    api_answer_release(&answer);
    return rc;
}

static int remove_key(void *context, const char *id, struct buf *why)
{
    struct api_answer answer;
    BUF_SCOPED path = BUF_INIT;
    buf_add_string(&path, PATH "/");
    buf_add_encoded(&path, id, strlen(id), false);
    struct api_request request = {.method = "DELETE", .path = path.bytes, .accept = 404};
    int rc = send(context, &request, &answer, why);
    api_answer_release(&answer);
    return rc;
}

static int pause_session(void *context, int64_t ms)
{
    return api_pause(((struct session *)context)->api, ms);
}

static void tell_account(void *context, const char *what, const char *kind, const char *id)
{
    const struct hyperstack *account = ((struct session *)context)->account;
    if (account->tell)
        account->tell(account->context, what, kind, id);
}

static struct key_service service_of(struct session *session)
{
    return (struct key_service){.kind = KIND,
                                .list = list_keys,
                                .make = make_key,
                                .remove = remove_key,
                                .pause = pause_session,
                                .tell = tell_account,
                                .context = session};
}

static int begin(struct session *session, const struct hyperstack *account, struct buf *why)
{
    const char *said = getenv(HYPERSTACK_VARIABLE);
    struct api_config config = {
        .name = "Hyperstack", .url = account->url, .where = account->where, .waiter = account->waiter};
    if (!config.url) {
        config.url = said && *said ? said : HYPERSTACK_URL;
        config.where = HYPERSTACK_VARIABLE;
    }
    *session = (struct session){.account = account};
    return api_new(&config, &session->api, why);
}

/* ---- From outside. ---- */

static bool is_of_account(const struct state *state, const char *name)
{
    for (size_t i = 0; i < state_count(state); i++) {
        const char *known = state_fact(state_at(state, i), "account");
        if (!known || strcmp(known, name) != 0)
            return false;
    }
    return true;
}

static int check_account(const struct hyperstack *account, const struct state *state, struct buf *why)
{
    STRING_SCOPED *name = name_account(account);
    if (is_of_account(state, name))
        return 0;
    buf_printf(why,
               "%s remembers keys that were made with another API key: give that one (HYPERSTACK_API_KEY)",
               state_path(state));
    return -EACCES;
}

static void take_key(const struct state_thing *thing, struct hyperstack_key *ret_key)
{
    ret_key->id = xstrdup(thing->id);
    ret_key->access_key = xstrdup(state_fact(thing, "access_key"));
    ret_key->secret_key = secret_ref(thing->secret);
}

static bool is_whole(const struct state_thing *thing)
{
    return thing && thing->made && thing->secret && state_fact(thing, "access_key");
}

/* The state stays open for the caller, also after a failure. */
static int make_in_state(const struct hyperstack *account, struct state **ret_state,
                         struct hyperstack_key *ret_key, struct buf *why)
{
    struct session session;
    struct state_thing *thing = NULL;
    struct json *facts = json_object_new();
    STRING_SCOPED *name = name_account(account);
    json_set_string(facts, "account", name);
    int rc = begin(&session, account, why);
    if (rc == 0)
        rc = state_open(account->state_path, PROVIDER, account->pool, ret_state, why);
    if (rc == 0)
        rc = check_account(account, *ret_state, why);
    if (rc == 0) {
        struct key_service service = service_of(&session);
        state_set_origin(*ret_state, account->origin);
        rc = key_ensure(&service, *ret_state, facts, &thing, why);
    }
    if (rc == 0 && !is_whole(thing)) {
        buf_printf(why, "%s remembers a key without its parts: run skyvol teardown, then prepare",
                   account->state_path);
        rc = -EBADMSG;
    }
    if (rc == 0)
        take_key(thing, ret_key);
    json_free(facts);
    api_free(session.api);
    return rc;
}

int hyperstack_key_make(const struct hyperstack *account, struct hyperstack_key *ret_key, struct buf *why)
{
    struct state *state = NULL;
    int rc = make_in_state(account, &state, ret_key, why);
    state_close(state);
    return rc;
}

/* ---- For one invocation. ---- */

struct hyperstack_lease {
    struct state *state;
    struct secret *api_key;
    char *url, *where;
};

int hyperstack_lease_begin(const struct hyperstack *account, struct hyperstack_lease **ret_lease,
                           struct hyperstack_key *ret_key, struct buf *why)
{
    struct hyperstack_lease *lease = xcalloc(1, sizeof(*lease));
    lease->api_key = secret_new(secret_reveal(account->api_key), secret_length(account->api_key));
    lease->url = account->url ? xstrdup(account->url) : NULL;
    lease->where = account->where ? xstrdup(account->where) : NULL;
    int rc = make_in_state(account, &lease->state, ret_key, why);
    if (rc == 0) {
        *ret_lease = lease;
        return 0;
    }
    BUF_SCOPED more =
        BUF_INIT; /* what an intent stands for, if it can be found at this moment; else the next sweep finds it */
    hyperstack_lease_end(lease, &more);
    return rc;
}

int hyperstack_lease_end(struct hyperstack_lease *lease, struct buf *why)
{
    if (!lease)
        return 0;
    WAITER_SCOPED(waiter);
    struct hyperstack account = {
        .url = lease->url, .where = lease->where, .api_key = lease->api_key, .waiter = &waiter};
    struct session session = {0};
    int rc = lease->state && state_count(lease->state) ? begin(&session, &account, why) : 0;
    if (rc == 0 && session.api) {
        struct key_service service = service_of(&session);
        rc = key_remove_all(&service, lease->state, why);
    }
    api_free(session.api);
    state_close(lease->state);
    secret_unref(lease->api_key);
    free(lease->url);
    free(lease->where);
    free(lease);
    return rc;
}

int hyperstack_key_remove(const struct hyperstack *account, struct buf *why)
{
    struct session session;
    struct state *state = NULL;
    int rc = begin(&session, account, why);
    if (rc == 0)
        rc = state_open(account->state_path, PROVIDER, account->pool, &state, why);
    if (rc == 0)
        rc = check_account(account, state, why);
    if (rc == 0) {
        struct key_service service = service_of(&session);
        rc = key_remove_all(&service, state, why);
    }
    state_close(state);
    api_free(session.api);
    return rc;
}

int hyperstack_key_recall(const struct hyperstack *account, struct hyperstack_key *ret_key, struct buf *why)
{
    struct state *state = NULL;
    int rc = state_look(account->state_path, PROVIDER, &state, why);
    if (rc == -ENOENT || (rc == 0 && !is_whole(state_find(state, KIND)))) {
        buf_printf(why, "%s: no access key was prepared for this pool; run: skyvol prepare", PROVIDER);
        rc = -ENOKEY;
    }
    if (rc == 0)
        take_key(state_find(state, KIND), ret_key);
    state_close(state);
    return rc;
}

/* A file that cannot be read, that somebody uses, or that is another account's is left alone. */
static int sweep_one(const struct hyperstack *account, const char *path, struct buf *why)
{
    struct hyperstack one = *account;
    struct state *state = NULL;
    BUF_SCOPED words = BUF_INIT;
    STRING_SCOPED *name = name_account(account);
    if (state_look(path, PROVIDER, &state, &words) < 0)
        return 0;
    bool ours = state_count(state) > 0 && is_of_account(state, name);
    state_close(state);
    if (!ours)
        return 0;
    one.state_path = path;
    buf_reset(&words);
    int rc = hyperstack_key_remove(&one, &words);
    if (rc < 0 && rc != -EBUSY) {
        words_next(why);
        buf_add_string(why, words.bytes);
    }
    return rc == -EBUSY ? 0 : rc;
}

/* A lock without a file: of one that was killed before it had anything to remember. */
static void drop_lock(const struct hyperstack *account, const char *path)
{
    struct state *state = NULL;
    BUF_SCOPED words = BUF_INIT;
    if (access(path, F_OK) < 0 && state_open(path, PROVIDER, account->pool, &state, &words) == 0)
        state_close(state);
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), wanted = strlen(end);
    return length > wanted && strcmp(name + length - wanted, end) == 0;
}

int hyperstack_sweep(const struct hyperstack *account, const char *directory, struct buf *why)
{
    int first = 0;
    DIR *list = opendir(directory);
    if (!list)
        return errno == ENOENT ? 0 : -errno;
    for (struct dirent *entry; (entry = readdir(list));) {
        STRING_SCOPED *path = xprintf("%s/%s", directory, entry->d_name);
        int rc = ends_with(entry->d_name, ".json") ? sweep_one(account, path, why) : 0;
        first = first ? first : rc;
        if (!ends_with(entry->d_name, ".json.lock"))
            continue;
        path[strlen(path) - strlen(".lock")] = '\0';
        drop_lock(account, path);
    }
    closedir(list);
    return first;
}
