#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount/state.h"

static char directory[] = "/tmp/skyvol-state.XXXXXX";
static char path[64];

static void begin(void)
{
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/a/b/state", directory);
}

static void end(void)
{
    STRING_SCOPED *command = xprintf("chmod -R u+w %s; rm -r %s", directory, directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(state, .init = begin, .fini = end);

static struct state *open_state(void)
{
    struct state *state = NULL;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(state_open(path, "gcp", "train", &state, &why), 0, "%s", why.bytes);
    return state;
}

static struct state *look(void)
{
    struct state *state = NULL;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(state_look(path, "gcp", &state, &why), 0, "%s", why.bytes);
    return state;
}

static struct state_thing *intend(struct state *state, const char *kind)
{
    struct state_thing *thing = NULL;
    struct json *facts = json_object_new();
    BUF_SCOPED why = BUF_INIT;
    json_set_string(facts, "email", "a@b");
    cr_assert_eq(state_intend(state, kind, &facts, &thing, &why), 0, "%s", why.bytes);
    cr_assert_null(facts);
    return thing;
}

Test(state, an_intent_is_on_the_disk_before_anything_else_happens)
{
    struct state *state = open_state();
    cr_assert_eq(access(path, F_OK), -1);
    struct state_thing *thing = intend(state, "hmac-key");
    struct state *seen = look();
    cr_assert_eq(state_count(seen), 1);
    cr_assert_not(state_at(seen, 0)->made);
    cr_assert_str_eq(state_fact(state_at(seen, 0), "email"), "a@b");
    state_close(seen);
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(state_made(state, thing, "GOOG1E", "secret/+=", &why), 0);
    seen = look();
    cr_assert(state_find(seen, "hmac-key")->made);
    cr_assert_str_eq(state_find(seen, "hmac-key")->id, "GOOG1E");
    cr_assert_str_eq(secret_reveal(state_find(seen, "hmac-key")->secret), "secret/+=");
    state_close(seen);
    state_close(state);
}

Test(state, the_file_is_ours_alone_and_goes_with_the_last_thing)
{
    struct stat file;
    struct state *state = open_state();
    BUF_SCOPED why = BUF_INIT;
    umask(0);
    struct state_thing *thing = intend(state, "role");
    cr_assert_eq(stat(path, &file), 0);
    cr_assert_eq(file.st_mode & 0777, 0600);
    cr_assert_eq(state_forget(state, thing, &why), 0);
    cr_assert_eq(access(path, F_OK), -1);
    state_close(state);
    STRING_SCOPED *lock = xprintf("%s.lock", path);
    cr_assert_eq(access(lock, F_OK), -1);
}

Test(state, a_second_one_is_refused_while_it_is_open_and_reads_all_the_same)
{
    struct state *state = open_state(), *other = NULL;
    BUF_SCOPED why = BUF_INIT;
    intend(state, "role");
    cr_assert_eq(state_open(path, "gcp", "train", &other, &why), -EBUSY);
    cr_assert_not_null(strstr(why.bytes, "another skyvol"));
    struct state *seen = look();
    cr_assert_eq(state_count(seen), 1);
    state_close(seen);
    state_close(state);
    state = open_state();
    cr_assert_eq(state_count(state), 1);
    state_close(state);
}

Test(state, one_that_is_killed_holds_no_lock_and_loses_nothing)
{
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        struct state *state = open_state();
        intend(state, "role");
        raise(SIGKILL);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    struct state *state = open_state();
    cr_assert_eq(state_count(state), 1);
    state_close(state);
}

Test(state, what_cannot_be_remembered_is_not_begun)
{
    struct state *state = open_state();
    struct state_thing *thing = NULL;
    STRING_SCOPED *fresh = xprintf("%s.new", path);
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(mkdir(fresh, 0700), 0); /* in the way of the temporary file */
    cr_assert_lt(state_intend(state, "role", NULL, &thing, &why), 0);
    cr_assert_not_null(strstr(why.bytes, path));
    cr_assert_null(thing);
    cr_assert_eq(state_count(state), 0);
    cr_assert_eq(rmdir(fresh), 0);
    intend(state, "role");
    state_close(state);
}

Test(state, a_temporary_file_of_one_that_was_killed_does_not_stay)
{
    struct state *state = open_state();
    STRING_SCOPED *fresh = xprintf("%s.new", path);
    state_close(state);
    int fd = open(fresh, O_WRONLY | O_CREAT, 0666);
    cr_assert(fd >= 0);
    close(fd);
    state = open_state();
    cr_assert_eq(access(fresh, F_OK), -1);
    intend(state, "role");
    state_close(state);
}

Test(state, an_id_that_is_no_word_is_refused)
{
    struct state *state = open_state();
    struct state_thing *thing = intend(state, "role");
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(state_made(state, thing, "a b", NULL, &why), -EBADMSG);
    cr_assert_eq(state_made(state, thing, "", NULL, &why), -EBADMSG);
    cr_assert_eq(state_made(state, thing, "a", "b\n", &why), -EBADMSG);
    cr_assert_not(thing->made);
    state_close(state);
}

Test(state, of_another_provider_is_refused_and_nothing_is_nothing)
{
    struct state *state = NULL;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(state_look(path, "gcp", &state, &why), -ENOENT);
    state = open_state();
    intend(state, "role");
    state_close(state);
    cr_assert_eq(state_look(path, "aws", &state, &why), -EXDEV);
    cr_assert_not_null(strstr(why.bytes, "gcp"));
}
