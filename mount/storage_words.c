#include "mount/storage_words.h"

#include <stdlib.h>
#include <string.h>

#include "mount/command.h"
#include "mount/configuration.h"
#include "mount/pool_words.h"
#include "mount/words.h"
#include "s3/credentials.h"

const char storage_words_help[] = "The service: --storage NAME [-c FILE] takes [storage.NAME] of "
                                  "./skyward.toml (or FILE); else --preset s3|gcs|r2|wasabi|\n"
                                  "backblaze|hyperstack|minio, --endpoint URL, --region R, --account-id A, "
                                  "--path-style, --profile P, --no-sign-request; without\n"
                                  "any of them AWS, or what AWS_ENDPOINT_URL and ~/.aws/config say. Keys "
                                  "come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,\n"
                                  "a profile, or the configuration, never from the command line.\n";

static const char *const secrets[] = {"--access-key", "--secret-key", "--session-token", "--api-key",
                                      "--key-id",     "--app-key",    "--password"};

static int set(struct storage_words *said, const char *command, const char *field, const char *value)
{
    BUF_SCOPED why = BUF_INIT;
    said->said = true;
    if (storage_set(&said->storage, field, value, NULL, &why) == 0)
        return 1;
    command_usage(command, "%s", why.bytes);
    return 2;
}

static bool is_secret(const char *word)
{
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        if (strncmp(word, secrets[i], strlen(secrets[i])) == 0)
            return true;
    return false;
}

int storage_words_take(struct storage_words *said, const char *command, int count, char **words, int *at)
{
    static const char *const fields[][2] = {{"--preset", "preset"},
                                            {"--endpoint", "endpoint"},
                                            {"--region", "region"},
                                            {"--account-id", "account_id"},
                                            {"--profile", "profile"}};
    int status = 0;
    if (is_secret(words[*at])) {
        command_usage(command, "keys are seen by everybody on a command line: set AWS_ACCESS_KEY_ID and "
                               "AWS_SECRET_ACCESS_KEY, use "
                               "--profile, or a [storage.NAME] of the configuration");
        return 2;
    }
    if (strcmp(words[*at], "--path-style") == 0)
        return set(said, command, "path_style", "yes");
    if (strcmp(words[*at], "--no-sign-request") == 0)
        return set(said, command, "no_sign_request", "yes");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *value = words_value(command, fields[i][0], count, words, at, &status);
        if (value)
            return set(said, command, fields[i][1], value);
        if (status)
            return 2;
    }
    const char *value = words_value(command, "--storage", count, words, at, &status);
    if (value)
        said->named = value;
    if (!value && !status && (value = words_value(command, "-c", count, words, at, &status)))
        said->file = value;
    return status ? 2 : value != NULL;
}

/* Nothing was said of the service: what the field's own variables and files say, else AWS. */
static void take_defaults(struct storage *storage)
{
    struct credentials_config config = {.profile = storage->profile};
    struct credentials *credentials = credentials_new(&config);
    if (!storage->region)
        storage->region = credentials_setting(credentials, "region");
    if (!storage->endpoint && !storage->preset)
        storage->endpoint = credentials_setting(credentials, "endpoint_url");
    credentials_unref(credentials);
    BUF_SCOPED why = BUF_INIT;
    if (!storage->endpoint && !storage->preset)
        storage_set(storage, "preset", "s3", NULL, &why);
}

int storage_words_finish(struct storage_words *said)
{
    BUF_SCOPED why = BUF_INIT;
    if (said->named && said->said) {
        words_say("--storage %s and other words of a service contradict each other: one of them",
                  said->named);
        return 2;
    }
    int rc;
    if (said->named) {
        rc = configuration_storage(said->file, said->named, &said->storage, &why);
    } else {
        take_defaults(&said->storage);
        rc = storage_finish(&said->storage, &why);
    }
    words_complain(why.bytes);
    return rc < 0;
}

void storage_words_release(struct storage_words *said)
{
    storage_release(&said->storage);
}
