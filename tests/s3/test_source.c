/* Sources that ask somebody: each against a server that says what it is asked, and answers only what is asked as it should be. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "s3/credentials.h"
#include "tests/support/wire.h"

#define STEPS_MAX 8

/* One request that must come next. */
struct step {
    const char *line;    /* "GET /x HTTP/1.1" */
    const char *wants;   /* must stand in head or body; NULL: nothing */
    const char *refuses; /* must not; NULL: nothing */
    int status;
    const char *answer;
};

struct server {
    struct wire *wire;
    struct step steps[STEPS_MAX];
    int at;
    char wrong[4096]; /* the first request that was not the next step */
};

static char home[64];

static void begin(void)
{
    static const char *const variables[] = {"AWS_ACCESS_KEY_ID",
                                            "AWS_SECRET_ACCESS_KEY",
                                            "AWS_SESSION_TOKEN",
                                            "AWS_PROFILE",
                                            "AWS_DEFAULT_PROFILE",
                                            "AWS_SHARED_CREDENTIALS_FILE",
                                            "AWS_CONFIG_FILE",
                                            "AWS_REGION",
                                            "AWS_DEFAULT_REGION",
                                            "AWS_ROLE_ARN",
                                            "AWS_WEB_IDENTITY_TOKEN_FILE",
                                            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                                            "AWS_ENDPOINT_URL_STS",
                                            "AWS_ENDPOINT_URL_SSO"};
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
        unsetenv(variables[i]);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1); /* nobody here is asked through a proxy */
    strcpy(home, "/tmp/skyvol-source-XXXXXX");
    cr_assert(mkdtemp(home));
    setenv("HOME", home, 1);
    STRING_SCOPED *aws = xprintf("mkdir -p -m 700 %s/.aws/sso/cache", home);
    cr_assert_eq(system(aws), 0);
}

static void end(void)
{
    STRING_SCOPED *command = xprintf("rm -rf %s", home);
    cr_assert_eq(system(command), 0);
}

TestSuite(source, .init = begin, .fini = end);

static char *write_file(const char *name, mode_t mode, const char *text)
{
    char *path = xprintf("%s/%s", home, name);
    FILE *file = fopen(path, "w");
    cr_assert(file);
    fputs(text, file);
    fclose(file);
    cr_assert_eq(chmod(path, mode), 0);
    return path;
}

static void put_config(const char *text)
{
    free(write_file(".aws/config", 0600, text));
}

static bool is_next(const struct step *step, const char *head, const char *body)
{
    size_t length = step->line ? strlen(step->line) : 0;
    return step->line && strncmp(head, step->line, length) == 0 && head[length] == '\r' &&
           (!step->wants || strcasestr(head, step->wants) || strstr(body, step->wants)) &&
           (!step->refuses || !strcasestr(head, step->refuses));
}

static void serve(struct wire_connection *connection)
{
    struct server *server = connection->context;
    BUF_SCOPED head = BUF_INIT, body = BUF_INIT, answer = BUF_INIT;
    while (wire_read(connection, &head, &body)) {
        const struct step *step = &server->steps[server->at];
        buf_reset(&answer);
        if (!is_next(step, head.bytes, body.bytes)) {
            if (!server->wrong[0])
                snprintf(server->wrong, sizeof server->wrong, "%s%s", head.bytes, body.bytes);
            wire_write(connection, "HTTP/1.1 418 No\r\nContent-Length: 0\r\n\r\n");
            continue;
        }
        server->at++;
        buf_printf(&answer, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s", step->status,
                   strlen(step->answer), step->answer);
        wire_write(connection, answer.bytes);
    }
}

static void begin_server(struct server *server)
{
    server->wire = wire_start(serve, server);
}

static char *name_url(const struct server *server, const char *path)
{
    return xprintf("http://127.0.0.1:%d%s", wire_port(server->wire), path);
}

static void set_url(const char *variable, const struct server *server, const char *path)
{
    STRING_SCOPED *url = name_url(server, path);
    setenv(variable, url, 1);
}

/* All steps were taken, and nothing else was asked. */
static void end_server(struct server *server)
{
    int steps = 0;
    while (steps < STEPS_MAX && server->steps[steps].line)
        steps++;
    wire_free(server->wire);
    cr_expect_str_eq(server->wrong, "");
    cr_expect_eq(server->at, steps, "%d of %d", server->at, steps);
}

static const char *role_arn, *profile, *credentials_file; /* options */

static int look(struct buf *out, struct buf *source)
{
    struct credentials *credentials = credentials_new(&(struct credentials_config){
        .role_arn = role_arn, .profile = profile, .credentials_file = credentials_file});
    struct keys *keys = NULL;
    int rc = credentials_get(credentials, &keys, out);
    if (rc == 0)
        buf_printf(out, "%s %s %s %s", keys->access_key, secret_reveal(keys->secret_key),
                   keys->session_token ? secret_reveal(keys->session_token) : "-",
                   keys->expires_ns == INT64_MAX ? "never" : "ends");
    credentials_describe(credentials, source);
    keys_unref(keys);
    credentials_unref(credentials);
    return rc;
}

static void expect_keys(const char *want, const char *want_source)
{
    BUF_SCOPED out = BUF_INIT, source = BUF_INIT;
    cr_expect_eq(look(&out, &source), 0);
    cr_expect_str_eq(out.bytes, want);
    cr_expect_not_null(strstr(source.bytes, want_source), "%s", source.bytes);
}

static void expect_refusal(int rc, const char *words)
{
    BUF_SCOPED out = BUF_INIT, source = BUF_INIT;
    cr_expect_eq(look(&out, &source), rc, "%s", out.bytes);
    cr_expect_not_null(strstr(out.bytes, words), "%s", out.bytes);
    cr_expect_null(strstr(out.bytes, "SECRET"), "%s", out.bytes);
}

#define KEYS_JSON                                                                                            \
    "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"SECRET\",\"Token\":\"T\","            \
    "\"Expiration\":\"2200-01-01T00:00:00Z\"}"
#define STS_KEYS                                                                                             \
    "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>SECRET</SecretAccessKey><SessionToken>T</"    \
    "SessionToken>"                                                                                          \
    "<Expiration>2200-01-01T00:00:00Z</Expiration></Credentials>"
#define ROLES "/latest/meta-data/iam/security-credentials/"

/* ---- The instance. ---- */

Test(source, an_instance_is_asked_for_a_token_its_role_and_the_keys_of_it)
{
    struct server server = {
        .steps = {{"PUT /latest/api/token HTTP/1.1", "ttl-seconds: 21600", NULL, 200, "TOKEN"},
                  {"GET " ROLES " HTTP/1.1", "metadata-token: TOKEN", NULL, 200, "worker"},
                  {"GET " ROLES "worker HTTP/1.1", "metadata-token: TOKEN", NULL, 200, KEYS_JSON}}};
    begin_server(&server);
    unsetenv("AWS_EC2_METADATA_DISABLED");
    set_url("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server, "/");
    expect_keys("A SECRET T ends", "instance role worker");
    end_server(&server);
}

Test(source, an_instance_that_speaks_version_1_only_is_refused_with_words)
{
    struct server server = {.steps = {{"PUT /latest/api/token HTTP/1.1", NULL, NULL, 404, ""}}};
    begin_server(&server);
    unsetenv("AWS_EC2_METADATA_DISABLED");
    set_url("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server, "");
    expect_refusal(-EACCES, "only version 2 is used");
    end_server(&server);
}

Test(source, an_instance_without_a_role_says_what_to_attach)
{
    struct server server = {.steps = {{"PUT /latest/api/token HTTP/1.1", NULL, NULL, 200, "TOKEN"},
                                      {"GET " ROLES " HTTP/1.1", NULL, NULL, 404, ""}}};
    begin_server(&server);
    unsetenv("AWS_EC2_METADATA_DISABLED");
    set_url("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server, "");
    expect_refusal(-ENOKEY, "attach an instance profile");
    end_server(&server);
}

static void serve_nothing(struct wire_connection *connection)
{
    wire_await_close(connection);
}

Test(source, an_instance_that_is_silent_is_told_of_the_hop_limit_soon)
{
    struct server server = {.wire = wire_start(serve_nothing, NULL)};
    int64_t begun_ms = clock_ms();
    unsetenv("AWS_EC2_METADATA_DISABLED");
    set_url("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server, "");
    expect_refusal(-EACCES, "hop limit");
    cr_expect_lt(clock_ms() - begun_ms, 5000);
    wire_free(server.wire);
}

Test(source, keys_come_over_plain_http_from_the_services_own_address_only)
{
    unsetenv("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://10.0.0.1", 1);
    expect_refusal(-EINVAL, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/keys", 1);
    expect_refusal(-EINVAL, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.2.example.com/keys", 1);
    expect_refusal(-EINVAL, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
}

/* ---- The container. ---- */

Test(source, a_container_is_asked_with_the_token_of_its_file)
{
    struct server server = {
        .steps = {{"GET /v2/keys HTTP/1.1", "Authorization: from-file\r\n", NULL, 200, KEYS_JSON}}};
    begin_server(&server);
    set_url("AWS_CONTAINER_CREDENTIALS_FULL_URI", &server, "/v2/keys");
    STRING_SCOPED *path = write_file("token", 0600, "from-file\n");
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "from-variable", 1);
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path, 1);
    expect_keys("A SECRET T ends", "container endpoint");
    end_server(&server);
}

Test(source, no_path_or_password_of_an_address_is_told)
{
    BUF_SCOPED out = BUF_INIT, source = BUF_INIT;
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "https://127.0.0.1:1/v2/SECRET?t=SECRET", 1);
    expect_refusal(-EHOSTUNREACH, "https://127.0.0.1:1: ");
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://u:SECRET@127.0.0.1:1/SECRET", 1);
    expect_refusal(-EINVAL, "http://127.0.0.1:1:");
    struct server server = {.steps = {{"GET /SECRET HTTP/1.1", NULL, NULL, 200, KEYS_JSON}}};
    begin_server(&server);
    set_url("AWS_CONTAINER_CREDENTIALS_FULL_URI", &server, "/SECRET");
    cr_expect_eq(look(&out, &source), 0);
    cr_expect_null(strstr(source.bytes, "SECRET"), "%s", source.bytes);
    end_server(&server);
}

Test(source, a_container_that_refuses_is_not_passed_over)
{
    struct server server = {.steps = {{"GET /v2/keys HTTP/1.1", NULL, "Authorization", 403, "SECRET"}}};
    begin_server(&server);
    set_url("AWS_CONTAINER_CREDENTIALS_FULL_URI", &server, "/v2/keys");
    expect_refusal(-EACCES, "answers 403");
    end_server(&server);
}

/* ---- STS. ---- */

Test(source, a_profiles_role_is_asked_for_with_the_keys_of_another)
{
    struct server server = {.steps = {{"POST / HTTP/1.1", "Credential=BASE/", NULL, 200,
                                       "<AssumeRoleResponse><AssumeRoleResult>" STS_KEYS
                                       "</AssumeRoleResult></AssumeRoleResponse>"},
                                      {"POST / HTTP/1.1", "DurationSeconds=900", NULL, 403,
                                       "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not "
                                       "you</Message></Error></ErrorResponse>"}}};
    begin_server(&server);
    set_url("AWS_ENDPOINT_URL_STS", &server, "");
    put_config("[default]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nexternal_id = x\nregion "
               "= eu-west-1\n"
               "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = SECRET\n");
    expect_keys("A SECRET T ends",
                "role arn:aws:iam::1:role/r by profile default, asked for by profile base");
    put_config(
        "[default]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\nduration_seconds = 900\n"
        "aws_access_key_id = BASE\naws_secret_access_key = SECRET\n");
    expect_refusal(-EACCES, "AccessDenied");
    end_server(&server);
}

Test(source, a_role_that_was_given_is_asked_for_with_the_keys_that_would_have_served)
{
#define ASSUMED "<AssumeRoleResponse><AssumeRoleResult>" STS_KEYS "</AssumeRoleResult></AssumeRoleResponse>"
    struct server server = {
        .steps = {{"POST / HTTP/1.1", "Credential=FILE/", NULL, 200, ASSUMED},
                  {"POST / HTTP/1.1", "Credential=VARIABLE/", NULL, 200, ASSUMED},
                  {"POST / HTTP/1.1", "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fgiven", NULL, 200, ASSUMED}}};
    begin_server(&server);
    set_url("AWS_ENDPOINT_URL_STS", &server, "");
    role_arn = "arn:aws:iam::1:role/given";
    put_config("[default]\n");
    expect_refusal(-ENOKEY, "no keys to ask for it with");
    put_config("[default]\naws_access_key_id = FILE\naws_secret_access_key = SECRET\n");
    expect_keys("A SECRET T ends", "role arn:aws:iam::1:role/given");
    setenv("AWS_ACCESS_KEY_ID", "VARIABLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "SECRET", 1);
    expect_keys("A SECRET T ends", "asked for by environment");
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    put_config("[default]\nrole_arn = arn:aws:iam::1:role/other\nsource_profile = default\n"
               "aws_access_key_id = FILE\naws_secret_access_key = SECRET\n");
    expect_keys("A SECRET T ends", "role arn:aws:iam::1:role/given");
    end_server(&server);
}

/* EKS: the pod's own identity asks for a role of another account. */
Test(source, a_role_that_was_given_is_asked_for_with_a_web_identity)
{
    struct server server = {
        .steps = {{"POST / HTTP/1.1", "WebIdentityToken=jwt", "Authorization", 200,
                   "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>" STS_KEYS
                   "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"},
                  {"POST / HTTP/1.1", "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fgiven", NULL, 200, ASSUMED}}};
    begin_server(&server);
    set_url("AWS_ENDPOINT_URL_STS", &server, "");
    STRING_SCOPED *path = write_file("jwt", 0600, "jwt\n");
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/irsa", 1);
    role_arn = "arn:aws:iam::1:role/given";
    expect_keys("A SECRET T ends", "asked for by web identity");
    end_server(&server);
}

/* As botocore has it: a typing error in a profile's name must not mount with the machine's role. */
Test(source, a_profile_that_is_not_there_is_no_reason_to_ask_the_machine)
{
    struct server server = {.steps = {{"GET /v2/keys HTTP/1.1", NULL, NULL, 200, KEYS_JSON}}};
    begin_server(&server);
    set_url("AWS_CONTAINER_CREDENTIALS_FULL_URI", &server, "/v2/keys");
    put_config("[default]\nregion = eu-west-1\n[profile bare]\nregion = eu-west-1\n");
    setenv("AWS_PROFILE", "mistyped", 1);
    expect_refusal(-ENOKEY, "no keys for profile mistyped");
    STRING_SCOPED *path = write_file("jwt", 0600, "jwt\n");
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/irsa", 1);
    expect_refusal(-ENOKEY, "no keys for profile mistyped");
    unsetenv("AWS_WEB_IDENTITY_TOKEN_FILE");
    setenv("AWS_PROFILE", "bare", 1);
    expect_keys("A SECRET T ends", "container endpoint");
    end_server(&server);
}

/* As botocore has it: a pod's identity is in its variables, and is not who was asked for. */
Test(source, a_profile_or_a_file_that_was_named_goes_before_identities_of_the_environment)
{
    STRING_SCOPED *path = write_file("jwt", 0600, "jwt\n");
    STRING_SCOPED *keys =
        write_file("keys", 0600, "[default]\naws_access_key_id = F\naws_secret_access_key = S\n");
    struct server server = {.steps = {{"POST / HTTP/1.1", "Credential=F/", NULL, 200, ASSUMED}}};
    begin_server(&server);
    set_url("AWS_ENDPOINT_URL_STS", &server, "");
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/irsa", 1);
    setenv("AWS_ACCESS_KEY_ID", "V", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "S", 1);
    put_config("[profile mine]\naws_access_key_id = P\naws_secret_access_key = S\n");
    profile = "mine";
    expect_keys("P S - never", "profile mine");
    profile = NULL;
    credentials_file = keys;
    expect_keys("F S - never", "profile default of");
    role_arn = "arn:aws:iam::1:role/given";
    expect_keys("A SECRET T ends", "asked for by profile default");
    end_server(&server);
}

/* Logins that are no keys (CodeCatalyst) have neither. */
Test(source, a_login_without_account_and_role_is_passed_over)
{
    put_config("[default]\nsso_start_url = https://corp.example\nsso_region = eu-west-1\n"
               "aws_access_key_id = P\naws_secret_access_key = S\n");
    expect_keys("P S - never", "profile default");
    put_config(
        "[default]\nsso_start_url = https://corp.example\nsso_region = eu-west-1\nsso_role_name = r\n");
    expect_refusal(-ENOKEY, "lacks sso_account_id");
}

Test(source, sts_says_whose_keys_they_are)
{
    struct server server = {
        .steps = {{"POST / HTTP/1.1", "Action=GetCallerIdentity&Version=2011-06-15", NULL, 200,
                   "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::12:user/u</Arn>"
                   "<Account>12</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"},
                  {"POST / HTTP/1.1", "Credential=K/", NULL, 403,
                   "<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>"}}};
    struct credentials *credentials = credentials_new(&(struct credentials_config){0});
    struct keys *keys = keys_new("K", "SECRET", NULL, INT64_MAX);
    STRING_SCOPED *account = NULL;
    STRING_SCOPED *arn = NULL;
    BUF_SCOPED why = BUF_INIT;
    begin_server(&server);
    set_url("AWS_ENDPOINT_URL_STS", &server, "");
    cr_assert_eq(credentials_verify(credentials, keys, &account, &arn, &why), 0, "%s", why.bytes);
    cr_expect_str_eq(account, "12");
    cr_expect_str_eq(arn, "arn:aws:iam::12:user/u");
    char *none[2] = {NULL, NULL};
    cr_expect_eq(credentials_verify(credentials, keys, &none[0], &none[1], &why), -EACCES);
    cr_expect_not_null(strstr(why.bytes, "InvalidClientTokenId"));
    cr_expect_null(none[1]);
    keys_unref(keys);
    credentials_unref(credentials);
    end_server(&server);
}

/* A mount has ten seconds to say what is wrong. */
Test(source, an_sts_that_is_silent_is_not_asked_again_and_again)
{
    struct server server = {.wire = wire_start(serve_nothing, NULL)};
    set_url("AWS_ENDPOINT_URL_STS", &server, "");
    put_config("[default]\nrole_arn = r\nsource_profile = a\n[profile a]\naws_access_key_id = "
               "B\naws_secret_access_key = SECRET\n");
    expect_refusal(-ETIMEDOUT, "127.0.0.1");
    cr_expect_eq(wire_connections(server.wire), 1);
    wire_free(server.wire);
}

Test(source, what_is_wrong_with_a_role_is_said)
{
    put_config("[default]\nrole_arn = r\n");
    expect_refusal(-EINVAL, "one of source_profile and credential_source");
    put_config("[default]\nrole_arn = r\nsource_profile = a\nmfa_serial = m\n");
    expect_refusal(-ENOKEY, "second factor");
    put_config("[default]\nrole_arn = r\nsource_profile = a\n[profile a]\nrole_arn = s\nsource_profile = b\n"
               "[profile b]\nrole_arn = t\nsource_profile = a\n");
    expect_refusal(-EINVAL, "circle");
    put_config("[default]\nrole_arn = r\nsource_profile = missing\n");
    expect_refusal(-ENOKEY, "there is no profile missing");
    put_config("[default]\nrole_arn = r\ncredential_source = Moon\n");
    expect_refusal(-EINVAL, "Ec2InstanceMetadata");
    setenv("AWS_ENDPOINT_URL_STS", "http://sts.example.com", 1);
    put_config("[default]\nrole_arn = r\nsource_profile = a\n[profile a]\naws_access_key_id = "
               "B\naws_secret_access_key = SECRET\n");
    expect_refusal(-EINVAL, "https://");
}

Test(source, a_web_identity_is_exchanged_without_a_signature)
{
    struct server server = {
        .steps = {{"POST / HTTP/1.1", "WebIdentityToken=jwt", "Authorization", 200,
                   "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>" STS_KEYS
                   "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"}}};
    begin_server(&server);
    set_url("AWS_ENDPOINT_URL_STS", &server, "");
    STRING_SCOPED *path = write_file("jwt", 0600, "jwt\n");
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
    expect_refusal(-ENOKEY, "AWS_ROLE_ARN");
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/irsa", 1);
    expect_keys("A SECRET T ends", "web identity");
    end_server(&server);
}

/* ---- SSO, processes. ---- */

Test(source, a_login_that_is_cached_is_exchanged_for_the_roles_keys)
{
    struct server server = {
        .steps = {{"GET /federation/credentials?role_name=r%20x&account_id=12 HTTP/1.1",
                   "x-amz-sso_bearer_token: login", NULL, 200,
                   "{\"roleCredentials\":{\"accessKeyId\":\"A\",\"secretAccessKey\":\"SECRET\","
                   "\"sessionToken\":\"T\",\"expiration\":7258118400000}}"}}};
    uint8_t digest[SHA1_BYTES];
    BUF_SCOPED name = BUF_INIT;
    begin_server(&server);
    set_url("AWS_ENDPOINT_URL_SSO", &server, "");
    put_config("[default]\nsso_session = corp\nsso_account_id = 12\nsso_role_name = r x\n"
               "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example\n");
    expect_refusal(-ENOKEY, "aws sso login --profile default");
    digest_sha1("corp", 4, digest);
    buf_add_string(&name, ".aws/sso/cache/");
    for (size_t i = 0; i < sizeof digest; i++)
        buf_printf(&name, "%02x", digest[i]);
    buf_add_string(&name, ".json");
    free(write_file(name.bytes, 0600, "{\"accessToken\":\"login\",\"expiresAt\":\"2001-01-01T00:00:00Z\"}"));
    expect_refusal(-ENOKEY, "aws sso login --profile default");
    free(write_file(name.bytes, 0600, "{\"accessToken\":\"login\",\"expiresAt\":\"2200-01-01T00:00:00Z\"}"));
    expect_keys("A SECRET T ends", "SSO role r x of account 12");
    end_server(&server);
}

Test(source, a_process_is_run_without_a_shell_and_its_json_is_read)
{
    STRING_SCOPED *script = write_file(
        "give keys", 0700,
        "#!/bin/sh\nprintf '{\"Version\":1,\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"SECRET\"}' \"$1\"\n");
    STRING_SCOPED *config = xprintf("[default]\ncredential_process = \"%s\" 'a;b'\n", script);
    put_config(config);
    expect_keys("a;b SECRET - never", "credential_process");
    put_config("[default]\ncredential_process = /bin/false\n");
    expect_refusal(-ENOKEY, "status 1");
    put_config("[default]\ncredential_process = /bin/echo SECRET\n");
    expect_refusal(-EBADMSG, "Version 1");
    put_config("[default]\ncredential_process = /does/not/exist\n");
    expect_refusal(-ENOENT, "/does/not/exist");
    put_config("[default]\ncredential_process = /bin/echo 'open\n");
    expect_refusal(-EINVAL, "cut into words");
}

/* ---- In vain. ---- */

static int give_none_slowly(void *context, struct keys **ret_keys, struct buf *why)
{
    int *count = context;
    (void)ret_keys;
    ++*count;
    clock_fake_advance(2000);
    buf_add_string(why, "nobody is there");
    return -EHOSTUNREACH;
}

Test(source, a_look_that_took_long_and_was_in_vain_is_not_begun_anew_by_each_who_waits)
{
    int count = 0;
    const struct credentials_ask ask = {.keys = give_none_slowly, .context = &count, .words = "the test"};
    clock_fake_begin(1369353600000000000ll);
    struct credentials *credentials = credentials_new(&(struct credentials_config){.ask = &ask});
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < 3; i++) {
            struct keys *keys = NULL;
            BUF_SCOPED why = BUF_INIT;
            cr_expect_eq(credentials_get(credentials, &keys, &why), -EHOSTUNREACH);
            cr_expect_str_eq(why.bytes, "nobody is there");
        }
        cr_expect_eq(count, round);
        clock_fake_advance(2000);
    }
    clock_fake_end();
    credentials_unref(credentials);
}

/* ---- Renewal. ---- */

static int asked;
static bool held; /* who asks for the second time waits */

static int give_keys(void *context, struct keys **ret_keys, struct buf *why)
{
    int count = __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED);
    (void)context, (void)why;
    usleep(100000);
    while (count > 1 && __atomic_load_n(&held, __ATOMIC_RELAXED))
        usleep(1000);
    STRING_SCOPED *name = xprintf("K%d", count);
    *ret_keys = keys_new(name, "SECRET", NULL, clock_wall_ns() + (count == 1 ? 300ll : 3600ll) * 1000000000);
    return 0;
}

static const char *name_now(struct credentials *credentials)
{
    static char name[16];
    struct keys *keys = NULL;
    cr_assert_eq(credentials_get(credentials, &keys, NULL), 0);
    snprintf(name, sizeof name, "%s", keys->access_key);
    keys_unref(keys);
    return name;
}

static void *get_once(void *credentials)
{
    struct keys *keys = NULL;
    if (credentials_get(credentials, &keys, NULL) == 0)
        keys_unref(keys);
    return NULL;
}

Test(source, keys_that_have_ended_are_waited_for_and_asked_for_once)
{
    const struct credentials_ask ask = {.keys = give_keys, .words = "the test"};
    struct credentials *credentials = credentials_new(&(struct credentials_config){.ask = &ask});
    pthread_t other;
    asked = 0;
    clock_fake_begin(1369353600000000000ll);
    cr_expect_str_eq(name_now(credentials), "K1");
    clock_fake_advance(301000);
    cr_assert_eq(pthread_create(&other, NULL, get_once, credentials), 0);
    while (__atomic_load_n(&asked, __ATOMIC_RELAXED) < 2)
        usleep(1000);
    cr_expect_str_eq(name_now(credentials), "K2");
    pthread_join(other, NULL);
    cr_expect_eq(asked, 2, "%d", asked);
    clock_fake_end();
    credentials_unref(credentials);
}

Test(source, keys_that_end_in_minutes_are_renewed_behind_and_nobody_waits)
{
    const struct credentials_ask ask = {.keys = give_keys, .words = "the test"};
    struct credentials *credentials = credentials_new(&(struct credentials_config){.ask = &ask});
    asked = 0;
    clock_fake_begin(1369353600000000000ll);
    cr_expect_str_eq(name_now(credentials), "K1");
    clock_fake_advance(40000); /* who has just been asked is not asked again */
    held = true;
    for (int i = 0; i < 50; i++)
        cr_expect_str_eq(name_now(credentials), "K1");
    __atomic_store_n(&held, false, __ATOMIC_RELAXED);
    for (int i = 0; i < 2000 && strcmp(name_now(credentials), "K2") != 0; i++)
        usleep(5000);
    cr_expect_str_eq(name_now(credentials), "K2");
    cr_expect_eq(asked, 2, "%d", asked);
    clock_fake_end();
    credentials_unref(credentials);
}
