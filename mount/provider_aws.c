/* AWS: a role that machines take on by an instance profile. "auto": role, policy and profile are made for the pool. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "mount/adapter.h"
#include "mount/aws.h"
#include "mount/words.h"

#define POLICY_NAME   "skyvol-volumes"
#define POLICY_MAX    10240 /* of all inline policies of a role */
#define POOL_LETTERS  30
#define CONSISTENT_MS 60000 /* until what was made is seen everywhere */
#define CONFLICT_MS   20000
#define LOOK_MS       1000
#define SETTLE_S      5

static const struct provider_name settings[] = {{"instance_profile_arn", PROVIDER_TEXT},
                                                {"region", PROVIDER_TEXT},
                                                {"profile", PROVIDER_TEXT},
                                                {"api_url", PROVIDER_TEXT},
                                                {NULL, PROVIDER_TEXT}};

static bool is_auto(const struct provider_job *job)
{
    const char *arn = adapter_text(job, "instance_profile_arn");
    return arn && strcmp(arn, "auto") == 0;
}

static bool is_profile_arn(const char *arn)
{
    const char *rest = strstr(arn, ":iam::");
    return strncmp(arn, "arn:aws", 7) == 0 && rest && strspn(rest + 6, "0123456789") == 12 &&
           strncmp(rest + 18, ":instance-profile/", 18) == 0 && rest[36];
}

static int check(const struct provider_job *job, struct buf *why)
{
    const char *arn = adapter_text(job, "instance_profile_arn");
    int rc = adapter_check_buckets(job, false, why);
    if (!arn || !*arn || is_auto(job) || is_profile_arn(arn))
        return rc;
    words_next(why);
    buf_printf(why,
               "%s: instance_profile_arn is \"auto\", or as arn:aws:iam::123456789012:instance-profile/NAME, "
               "got '%s' (a role's ARN is "
               "another thing)",
               provider_setting(job->settings, "instance_profile_arn")->where, arn);
    return -EINVAL;
}

/* ---- Regions. ---- */

static int find_region(const struct provider_job *job, const struct state_thing *role, const char *bucket,
                       char **ret_region, struct buf *why)
{
    STRING_SCOPED *name = xprintf("region.%s", bucket);
    const char *known = state_fact(role, name);
    if (known) {
        *ret_region = xstrdup(known);
        return 0;
    }
    return aws_bucket_region(job, aws_region(job), bucket, ret_region, why);
}

/* Into `facts`; all buckets that cannot be found are named. */
static int find_regions(const struct provider_job *job, struct json *facts, struct buf *why)
{
    int first = 0;
    for (size_t i = 0; i < job->volume_count && first != -EINTR; i++) {
        const char *bucket = job->volumes[i]->bucket;
        STRING_SCOPED *region = NULL;
        BUF_SCOPED words = BUF_INIT;
        int rc =
            adapter_is_first(job, i) ? aws_bucket_region(job, aws_region(job), bucket, &region, &words) : 0;
        if (region) {
            STRING_SCOPED *name = xprintf("region.%s", bucket);
            json_set_string(facts, name, region);
        }
        if (rc == 0)
            continue;
        words_next(why);
        buf_printf(why, "%s: %s", job->volumes[i]->where, words.bytes);
        first = first ? first : rc;
    }
    return first;
}

/* ---- Making. ---- */

/* One use of the account. */
struct session {
    const struct provider_job *job;
    struct aws *aws;
    struct state *state;
    char *account;
    const char *name; /* of role and profile */
};

static void end(struct session *session)
{
    state_close(session->state);
    aws_free(session->aws);
    free(session->account);
}

static int ask_account(struct session *session, struct buf *why)
{
    struct store_fields fields = {0};
    struct aws_answer answer;
    int rc = aws_call(session->aws, AWS_STS, "GetCallerIdentity", &fields, &answer, why);
    const char *account =
        rc == 0 && answer.result ? xml_child_text(answer.xml, answer.result, "Account") : "";
    if (rc == 0 && (!*account || strspn(account, "0123456789") != strlen(account))) {
        buf_add_string(why, "STS does not tell whose keys these are");
        rc = -EBADMSG;
    }
    if (rc == 0)
        session->account = xstrdup(account);
    aws_answer_release(&answer);
    store_fields_release(&fields);
    return rc;
}

static int check_account(const struct session *session, struct buf *why)
{
    const char *known = state_fact(state_at(session->state, 0), "account");
    if (!known || strcmp(known, session->account) == 0)
        return 0;
    buf_printf(why,
               "%s remembers what was made in account %s, and these keys are of account %s; use the others, "
               "or another --state",
               state_path(session->state), known, session->account);
    return -EACCES;
}

static int begin(const struct provider_job *job, struct session *session, struct buf *why)
{
    *session = (struct session){.job = job};
    int rc = aws_new(job, &session->aws, why);
    if (rc == 0)
        rc = ask_account(session, why);
    if (rc == 0)
        rc = adapter_open(job, &session->state, why);
    return rc == 0 ? check_account(session, why) : rc;
}

/* "skyvol-train-3f2a90c1": a name that nothing else has, so that what bears it is ours whatever became of the replies. */
static char *make_name(const char *pool)
{
    uint8_t chance[4];
    BUF_SCOPED name = BUF_INIT;
    buf_add_string(&name, "skyvol-");
    for (size_t i = 0; pool && pool[i] && i < POOL_LETTERS; i++) {
        bool plain = (pool[i] >= 'a' && pool[i] <= 'z') || (pool[i] >= 'A' && pool[i] <= 'Z') ||
                     (pool[i] >= '0' && pool[i] <= '9');
        buf_add_char(&name, plain ? pool[i] : '-');
    }
    digest_random(chance, sizeof(chance));
    buf_add_char(&name, '-');
    buf_add_hex(&name, chance, sizeof(chance));
    return buf_take(&name);
}

/* An action on the role (and, where it is said, the profile) of this session. */
static int act(struct session *session, const char *action, bool role, bool profile,
               struct store_fields *more, struct buf *why)
{
    struct store_fields fields = {0};
    struct aws_answer answer;
    if (role)
        store_fields_set(&fields, "RoleName", session->name);
    if (profile)
        store_fields_set(&fields, "InstanceProfileName", session->name);
    for (size_t i = 0; more && i < more->count; i++)
        store_fields_set(&fields, more->all[i].name, more->all[i].value);
    int rc = aws_call(session->aws, AWS_IAM, action, &fields, &answer, why);
    aws_answer_release(&answer);
    store_fields_release(&fields);
    return rc;
}

/* The same again while IAM does not see what it made a moment ago. */
static int act_when_seen(struct session *session, const char *action, bool profile, struct store_fields *more,
                         struct buf *why)
{
    int64_t deadline = clock_ms() + CONSISTENT_MS;
    for (;;) {
        BUF_SCOPED words = BUF_INIT;
        int rc = act(session, action, true, profile, more, &words);
        if (rc == -ENOENT && clock_ms() + LOOK_MS < deadline && (rc = aws_pause(session->aws, LOOK_MS)) == 0)
            continue;
        buf_add_string(why, words.bytes);
        return rc;
    }
}

static struct json *facts_of(const struct session *session)
{
    struct json *facts = json_object_new();
    json_set_string(facts, "account", session->account);
    json_set_string(facts, "name", session->name);
    json_set_integer(facts, "since", clock_wall_ns() / 1000000000);
    return facts;
}

/* The thing of a kind is in the state, as an intent at least. */
static int ensure_thing(struct session *session, const char *kind, struct state_thing **ret_thing,
                        struct buf *why)
{
    *ret_thing = state_find(session->state, kind);
    if (*ret_thing)
        return 0;
    struct json *facts = facts_of(session);
    return state_intend(session->state, kind, &facts, ret_thing, why);
}

static int finish_thing(struct session *session, struct state_thing *thing, bool made, struct buf *why)
{
    adapter_tell(session->job, made ? "made" : "kept", thing->kind, session->name);
    return thing->made ? 0 : state_made(session->state, thing, session->name, NULL, why);
}

/* Role and profile: made, if they are not there. */
static int ensure_one(struct session *session, const char *kind, const char *look, const char *create,
                      struct store_fields *more, struct buf *why)
{
    struct state_thing *thing;
    bool role = strcmp(kind, "role") == 0, made = false;
    int rc = ensure_thing(session, kind, &thing, why);
    if (rc < 0)
        return rc;
    if (thing->made) {
        BUF_SCOPED words = BUF_INIT;
        rc = act(session, look, role, !role, NULL, &words);
        if (rc < 0 && rc != -ENOENT)
            buf_add_string(why, words.bytes);
    } else {
        rc = -ENOENT;
    }
    if (rc == -ENOENT) {
        BUF_SCOPED words = BUF_INIT;
        rc = act(session, create, role, !role, more, &words);
        made = rc == 0;
        if (rc == -EEXIST) /* by a try whose reply was lost */
            rc = 0;
        buf_add_string(why, rc < 0 ? words.bytes : "");
    }
    return rc < 0 ? rc : finish_thing(session, thing, made, why);
}

static int ensure_role(struct session *session, struct buf *why)
{
    struct store_fields more = {0};
    BUF_SCOPED trust = BUF_INIT;
    aws_trust(aws_partition(aws_region(session->job)), &trust);
    store_fields_set(&more, "AssumeRolePolicyDocument", trust.bytes);
    store_fields_set(&more, "Description",
                     "Volumes of a pool; made by skyvol prepare, deleted by skyvol teardown");
    store_fields_set(&more, "Tags.member.1.Key", "skyvol-pool");
    store_fields_set(&more, "Tags.member.1.Value", session->name);
    int rc = ensure_one(session, "role", "GetRole", "CreateRole", &more, why);
    store_fields_release(&more);
    return rc;
}

/* Always sent: the volumes may be others than the last time. */
static int ensure_policy(struct session *session, const char *document, struct buf *why)
{
    struct state_thing *thing;
    struct store_fields more = {0};
    int rc = ensure_thing(session, "policy", &thing, why);
    if (rc < 0)
        return rc;
    bool fresh = !thing->made;
    store_fields_set(&more, "PolicyName", POLICY_NAME);
    store_fields_set(&more, "PolicyDocument", document);
    rc = act_when_seen(session, "PutRolePolicy", false, &more, why);
    store_fields_release(&more);
    return rc < 0 ? rc : finish_thing(session, thing, fresh, why);
}

/* 1: the profile has the role; 0: not (yet). */
static int look_at_profile(struct session *session, struct buf *why)
{
    struct store_fields fields = {0};
    struct aws_answer answer;
    BUF_SCOPED words = BUF_INIT;
    store_fields_set(&fields, "InstanceProfileName", session->name);
    int rc = aws_call(session->aws, AWS_IAM, "GetInstanceProfile", &fields, &answer, &words);
    const struct xml_node *profile =
        rc == 0 && answer.result ? xml_child(answer.result, "InstanceProfile") : NULL;
    const struct xml_node *roles = profile ? xml_child(profile, "Roles") : NULL;
    const struct xml_node *role = roles ? xml_first(roles) : NULL;
    int has = role && strcmp(xml_child_text(answer.xml, role, "RoleName"), session->name) == 0;
    aws_answer_release(&answer);
    store_fields_release(&fields);
    if (rc == 0 || rc == -ENOENT)
        return has;
    buf_add_string(why, words.bytes);
    return rc;
}

static int await_profile(struct session *session, struct buf *why)
{
    int64_t deadline = clock_ms() + CONSISTENT_MS;
    for (;;) {
        int rc = look_at_profile(session, why);
        if (rc)
            return rc < 0 ? rc : 0;
        if (clock_ms() + LOOK_MS >= deadline) {
            buf_printf(
                why,
                "IAM does not show instance profile %s with its role after %d s; run skyvol prepare again",
                session->name, CONSISTENT_MS / 1000);
            return -ETIMEDOUT;
        }
        rc = aws_pause(session->aws, LOOK_MS);
        if (rc < 0)
            return rc;
    }
}

static int ensure_membership(struct session *session, struct buf *why)
{
    struct state_thing *thing;
    int rc = ensure_thing(session, "membership", &thing, why);
    if (rc < 0)
        return rc;
    int has = look_at_profile(session, why);
    if (has < 0)
        return has;
    if (!has) {
        BUF_SCOPED words = BUF_INIT;
        rc = act_when_seen(session, "AddRoleToInstanceProfile", true, NULL, &words);
        if (rc == -EDQUOT ||
            rc == -EEXIST) /* it has one: ours, by a try whose reply was lost, or await_profile() tells */
            rc = 0;
        if (rc < 0)
            buf_add_string(why, words.bytes);
    }
    return rc < 0 ? rc : finish_thing(session, thing, !has, why);
}

/* The regions go with the role, whose intent is the first that is written. */
static int begin_role(struct session *session, const struct json *regions, struct buf *why)
{
    struct state_thing *thing = state_find(session->state, "role");
    STRING_SCOPED *fresh = thing ? NULL : make_name(session->job->pool);
    session->name = thing ? state_fact(thing, "name") : fresh;
    if (!session->name) {
        buf_printf(why, "%s tells of a role without a name; delete it in the console, and then the file",
                   state_path(session->state));
        return -EBADMSG;
    }
    int rc = ensure_thing(session, "role", &thing, why);
    if (rc < 0)
        return rc;
    struct json *facts = json_clone(thing->facts);
    for (size_t i = 0; i < session->job->volume_count; i++) {
        STRING_SCOPED *name = xprintf("region.%s", session->job->volumes[i]->bucket);
        json_set_string(facts, name, json_get_string(regions, name));
    }
    json_free(thing->facts);
    thing->facts = facts;
    session->name = state_fact(thing, "name");
    return state_save(session->state, why);
}

static int make_all(struct session *session, const struct json *regions, const char *document,
                    struct buf *why)
{
    int rc = begin_role(session, regions, why);
    if (rc == 0)
        rc = ensure_role(session, why);
    if (rc == 0)
        rc = ensure_policy(session, document, why);
    if (rc == 0)
        rc =
            ensure_one(session, "instance-profile", "GetInstanceProfile", "CreateInstanceProfile", NULL, why);
    if (rc == 0)
        rc = ensure_membership(session, why);
    return rc == 0 ? await_profile(session, why) : rc;
}

static char *arn_of(const struct provider_job *job, const char *account, const char *name)
{
    return xprintf("arn:%s:iam::%s:instance-profile/%s", aws_partition(aws_region(job)), account, name);
}

static int prepare(const struct provider_job *job, struct buf *why)
{
    struct session session = {0};
    BUF_SCOPED document = BUF_INIT;
    struct json *regions = json_object_new();
    int rc = check(job, why);
    if (rc == 0)
        rc = find_regions(job, regions, why);
    aws_policy(job->volumes, job->volume_count, aws_partition(aws_region(job)), &document);
    if (rc == 0 && is_auto(job) && document.length > POLICY_MAX) {
        buf_printf(why, "the policy for these volumes has %zu bytes, and IAM takes %d: use fewer prefixes",
                   document.length, POLICY_MAX);
        rc = -EINVAL;
    }
    if (rc == 0 && is_auto(job)) {
        rc = begin(job, &session, why);
        if (rc == 0)
            rc = make_all(&session, regions, document.bytes, why);
        if (rc == 0) {
            STRING_SCOPED *arn = arn_of(job, session.account, session.name);
            adapter_tell(job, "use", "instance profile", arn);
        }
        end(&session);
    } else if (rc == 0) {
        const char *arn = adapter_text(job, "instance_profile_arn");
        adapter_tell(job, "use", "instance profile",
                     arn && *arn ? arn : "of the machines (instance_profile_arn is not set)");
    }
    json_free(regions);
    return rc;
}

/* ---- Deleting. ---- */

static const struct removal {
    const char *kind, *action;
    bool role, profile;
} removals[] = {
    {"membership", "RemoveRoleFromInstanceProfile", true, true},
    {"instance-profile", "DeleteInstanceProfile", false, true},
    {"policy", "DeleteRolePolicy", true, false},
    {"role", "DeleteRole", true, false},
};

/* Perhaps IAM does not show it yet: its reply was lost a moment ago. */
static bool may_appear(const struct state_thing *thing)
{
    int64_t since = 0, now = clock_wall_ns() / 1000000000;
    return !thing->made && json_get_integer(thing->facts, "since", &since) && now >= since &&
           now - since < SETTLE_S;
}

static int remove_thing(struct session *session, const struct removal *removal,
                        const struct state_thing *thing, struct buf *why)
{
    int64_t deadline = clock_ms() + CONFLICT_MS;
    struct store_fields more = {0};
    int rc;
    if (strcmp(removal->kind, "policy") == 0)
        store_fields_set(&more, "PolicyName", POLICY_NAME);
    for (;;) {
        BUF_SCOPED words = BUF_INIT;
        rc = act(session, removal->action, removal->role, removal->profile, &more, &words);
        bool again =
            (rc == -ENOENT && may_appear(thing)) || (rc == -EBUSY && clock_ms() + LOOK_MS < deadline);
        if (again && aws_pause(session->aws, LOOK_MS) == 0)
            continue;
        if (rc < 0 && rc != -ENOENT)
            buf_add_string(why, words.bytes);
        break;
    }
    store_fields_release(&more);
    return rc;
}

static int remove_one(struct session *session, const struct removal *removal, struct buf *why)
{
    struct state_thing *thing = state_find(session->state, removal->kind);
    BUF_SCOPED words = BUF_INIT;
    if (!thing)
        return 0;
    session->name = state_fact(thing, "name");
    int rc = session->name ? remove_thing(session, removal, thing, &words) : -EBADMSG;
    if (rc == 0 || rc == -ENOENT) {
        adapter_tell(session->job, rc == 0 ? "deleted" : "gone", thing->kind, session->name);
        return state_forget(session->state, thing, why);
    }
    words_next(why);
    buf_printf(why, "%s %s was not deleted: %s", thing->kind,
               session->name ? session->name : "without a name",
               words.length ? words.bytes : "the state file does not tell its name");
    return rc;
}

static int teardown(const struct provider_job *job, struct buf *why)
{
    struct session session = {0};
    struct state *state = NULL;
    int first = state_look(job->state_path, job->provider->name, &state, why);
    state_close(state);
    if (first < 0)
        return first == -ENOENT ? 0 : first;
    first = begin(job, &session, why);
    bool begun = first == 0;
    for (size_t i = 0; begun && first != -EINTR && i < sizeof(removals) / sizeof(removals[0]); i++) {
        int rc = remove_one(&session, &removals[i], why);
        first = first ? first : rc;
    }
    end(&session);
    return first;
}

/* ---- What a plan needs. ---- */

static void add_notes(const struct provider_job *job, const struct state_thing *role,
                      struct provision *provision)
{
    const char *arn = adapter_text(job, "instance_profile_arn");
    if (!arn || !*arn)
        provision_add(
            &provision->notes,
            "instance_profile_arn is not set: machines need a role of their own that may use the buckets; "
            "\"auto\" in [providers.aws] and skyvol prepare make one");
    else if (!is_auto(job))
        provision_add(&provision->notes, "start machines with the instance profile %s", arn);
    else if (role && state_fact(role, "account") && state_fact(role, "name")) {
        STRING_SCOPED *made = arn_of(job, state_fact(role, "account"), state_fact(role, "name"));
        provision_add(&provision->notes, "start machines with the instance profile %s", made);
    } else {
        provision_add(&provision->notes, "the instance profile is not made yet: run skyvol prepare");
    }
}

static int fill_supply(const struct provider_job *job, const struct state_thing *role, size_t index,
                       struct supply *supply, struct buf *why)
{
    BUF_SCOPED words = BUF_INIT;
    const char *where;
    int rc = find_region(job, role, job->volumes[index]->bucket, &supply->region, &words);
    if (rc < 0) {
        words_next(why);
        buf_printf(why, "%s: %s", job->volumes[index]->where, words.bytes);
        return rc;
    }
    supply->endpoint = aws_s3_endpoint(supply->region, &where);
    supply->credentials = SUPPLY_ROLE;
    supply->identity = xstrdup("role");
    return 0;
}

static void add_calls(const struct provider_job *job, const struct state_thing *role,
                      struct provision *provision)
{
    const char *where;
    STRING_SCOPED *endpoint = aws_s3_endpoint(aws_region(job), &where);
    for (size_t i = 0; i < job->volume_count; i++) {
        STRING_SCOPED *name = xprintf("region.%s", job->volumes[i]->bucket);
        if (adapter_is_first(job, i) && !state_fact(role, name))
            provision_add(&provision->calls,
                          "HEAD %s/%s (and GET ?location, where the answer tells no region)", endpoint,
                          job->volumes[i]->bucket);
    }
}

static int supply(const struct provider_job *job, struct provision *ret_provision, struct buf *why)
{
    struct state *state = NULL;
    *ret_provision = (struct provision){0};
    int rc = check(job, why);
    if (rc < 0)
        return rc;
    rc = is_auto(job) ? state_look(job->state_path, job->provider->name, &state, why) : -ENOENT;
    if (rc < 0 && rc != -ENOENT)
        return rc;
    const struct state_thing *role = state ? state_find(state, "role") : NULL;
    add_calls(job, role, ret_provision);
    rc = 0;
    if (!job->explain) {
        ret_provision->supplies = xcalloc(job->volume_count, sizeof(*ret_provision->supplies));
        ret_provision->supply_count = job->volume_count;
        add_notes(job, role, ret_provision);
    }
    for (size_t i = 0; i < ret_provision->supply_count; i++) {
        int failed = fill_supply(job, role, i, &ret_provision->supplies[i], why);
        rc = rc ? rc : failed;
    }
    state_close(state);
    if (rc < 0)
        provision_release(ret_provision);
    return rc;
}

const struct provider provider_aws = {
    .name = "aws",
    .settings = settings,
    .check = check,
    .prepare = prepare,
    .supply = supply,
    .teardown = teardown,
};
