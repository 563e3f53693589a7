/* deferred: a credential as a configuration gives it: the text itself, or where it is found when it is first needed.
 *
 *      "literal"                  { env = "NAME" }      { file = "PATH" }      { command = ["prog", "arg"] }
 *
 * A command prints one line, or the JSON of AWS's credential_process, of which the field that is asked for is taken; it is started
 * without a shell, its stdin is /dev/null, and it has DEFERRED_COMMAND_MS. Resolved each time it is asked: who keeps the answer
 * (credentials.h) asks again when it was refused. Parts of one set of keys are asked for with one deferred_answer: a command that several
 * of them name runs once, because the next run may make other keys.
 * What has a control character is refused: it becomes a line of a file, or of a request.
 *
 * Errors: -ENOKEY: the variable is not set, the file or the answer is empty; -EPERM: the file is open to others; -ETIMEDOUT: the
 * command took too long; else -errno. `why` names the credential, where it was given, and the remedy, never what was read.
 */
#ifndef MOUNT_DEFERRED_H
#define MOUNT_DEFERRED_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/secret.h"

#define DEFERRED_COMMAND_MS 30000
#define DEFERRED_BYTES_MAX  65536

enum deferred_kind { DEFERRED_NONE, DEFERRED_LITERAL, DEFERRED_ENV, DEFERRED_FILE, DEFERRED_COMMAND };

struct deferred {
    enum deferred_kind kind;
    struct secret *literal;
    char *name;   /* of the variable, or the path */
    char **words; /* of the command, NULL at the end */
    char *where;  /* "skyward.toml:12" */
};

void deferred_release(struct deferred *deferred);
void deferred_copy(struct deferred *to, const struct deferred *from);
/* They say the same: equal text, or the same place to look. What stands there is not looked at. */
bool deferred_equal(const struct deferred *a, const struct deferred *b);
/* What a command printed, for the other parts that name the same one. Begins as {0}. */
struct deferred_answer {
    const struct deferred *of; /* borrowed; NULL: nothing yet */
    char *text;
    size_t length;
};

void deferred_answer_release(struct deferred_answer *answer);
/* As deferred_resolve(). */
int deferred_resolve_with(const struct deferred *deferred, const char *field, struct deferred_answer *answer,
                          struct secret **ret_secret, struct buf *why);
/* What that command told beside what was asked, "session_token"; NULL: nothing. */
struct secret *deferred_told(const struct deferred_answer *answer, const struct deferred *deferred,
                             const char *field);
/* That command, as a line `credential_process = LINE`, by which whoever reads it gets the keys again; false: it printed something else, or its
 * words do not stand in such a line or only work in this directory. */
bool deferred_process(const struct deferred_answer *answer, const struct deferred *deferred,
                      struct buf *ret_line);
/* `field`: "access_key", "secret_key", "session_token" or "api_key": what of a JSON answer is meant, and the name in messages. Blocks. */
int deferred_resolve(const struct deferred *deferred, const char *field, struct secret **ret_secret,
                     struct buf *why);

#endif
