#include <ctype.h>
#include <string.h>

#include "mount/plan.h"
#include "mount/shell.h"

/* What every script begins with. It says one line for each thing done, on stdout, and why it ends on stderr. */
static const char prelude[] = "set -eu\n"
                              "export LC_ALL=C\n"
                              "say() { printf 'skyvol: %s\\n' \"$*\"; }\n"
                              "fail() { printf 'skyvol: %s\\n' \"$*\" >&2; exit 1; }\n";

/* mv -T is everywhere where there is GNU or busybox; without it ln -n does it in two steps, onto what is known to be a link or nothing. */
static const char linking[] =
    "\n"
    "# link PLACE TARGET: PLACE is a symlink to TARGET afterwards, all at once.\n"
    "link() {\n"
    "    if [ -L \"$1\" ]; then\n"
    "        if [ \"$(readlink \"$1\")\" = \"$2\" ]; then say \"$1 -> $2 (it was there)\"; return 0; fi\n"
    "    elif [ -d \"$1\" ]; then\n"
    "        rmdir \"$1\" 2>/dev/null || fail \"$1 is a directory that is not empty: move it away and run "
    "this again\"\n"
    "    elif [ -e \"$1\" ]; then\n"
    "        fail \"$1 is there already, and is no link: move it away and run this again\"\n"
    "    fi\n"
    "    mkdir -p \"$(dirname \"$1\")\"\n"
    "    [ ! -L \"$1.skyvol-new\" ] || rm -f \"$1.skyvol-new\"\n"
    "    ln -s \"$2\" \"$1.skyvol-new\"\n"
    "    if ! mv -fT \"$1.skyvol-new\" \"$1\" 2>/dev/null; then\n"
    "        rm -f \"$1.skyvol-new\"\n"
    "        ln -sfn \"$2\" \"$1\"\n"
    "    fi\n"
    "    say \"$1 -> $2\"\n"
    "}\n"
    "# make_prefix DIR PLACE: what PLACE is to lead to is a directory afterwards.\n"
    "make_prefix() { mkdir -p \"$1\" || fail \"$1, which $2 leads to, is no directory and cannot be made: "
    "look at "
    "the volume's prefix\"; }\n"
    "# look_for_prefix DIR PLACE: the same where nothing can be made.\n"
    "look_for_prefix() {\n"
    "    if [ -d \"$1\" ]; then return 0; fi\n"
    "    [ ! -e \"$1\" ] || fail \"$1, which $2 leads to, is no directory: look at the volume's prefix\"\n"
    "    say \"$1 is not there yet: $2 dangles until it is\"\n"
    "}\n";

static const char mounting[] =
    "\n"
    "# is_mounted SOURCE DIR OPTIONS: so it is already. What else is mounted there ends this.\n"
    "is_mounted() {\n"
    "    mountpoint -q \"$2\" 2>/dev/null || return 1\n"
    "    if [ \"$(cat \"${2%/*}/.mounted/${2##*/}\" 2>/dev/null)\" = \"$1 $3\" ] && skyvol status \"$2\" "
    ">/dev/null 2>&1; then return 0; fi\n"
    "    fail \"$2 is mounted, but not as this wants it (endpoint, keys, mode ...), or its daemon hangs: "
    "unmount it and run this again\"\n"
    "}\n"
    "# mount_bucket SOURCE DIR OPTIONS: DIR shows the bucket afterwards, and answers.\n"
    "mount_bucket() {\n"
    "    if is_mounted \"$@\"; then say \"$1 at $2 (it was there)\"; return 0; fi\n"
    "    mkdir -p \"$2\" 2>/dev/null || :\n"
    "    mkdir -p \"${2%/*}/.mounted\"\n"
    "    printf '%s\\n' \"$1 $3\" > \"${2%/*}/.mounted/${2##*/}\"\n"
    "    skyvol mount -o \"$3\" -- \"$1\" \"$2\" || fail \"$1 could not be mounted at $2: the lines above "
    "say why\"\n"
    "    say \"$1 at $2\"\n"
    "}\n"
    "# bind_read_only FROM TO: where the host can; else TO is not there, and that is said.\n"
    "bind_read_only() {\n"
    "    # shellcheck disable=SC3013 # -ef is in dash, busybox and bash\n"
    "    if mountpoint -q \"$2\" 2>/dev/null && [ \"$1\" -ef \"$2\" ]; then return 0; fi\n"
    "    umount \"$2\" 2>/dev/null || : # of another directory, or of a daemon that is gone\n"
    "    mkdir -p \"$2\"\n"
    "    if mount --bind \"$1\" \"$2\" 2>/dev/null && mount -o remount,ro,bind \"$2\" 2>/dev/null; then "
    "return 0; fi\n"
    "    umount \"$2\" 2>/dev/null || :\n"
    "    rmdir \"$2\" 2>/dev/null || :\n"
    "    return 1\n"
    "}\n";

static const char installing[] =
    "\n"
    "if ! command -v skyvol >/dev/null 2>&1; then\n"
    "    dir=$(mktemp -d)\n"
    "    trap 'rm -rf \"$dir\"' EXIT\n"
    "    case $package in\n"
    "    https://*)\n"
    "        if command -v curl >/dev/null 2>&1; then curl -fsSL --proto =https -o \"$dir/package\" -- "
    "\"$package\"\n"
    "        elif command -v wget >/dev/null 2>&1; then wget -q -O \"$dir/package\" -- \"$package\"\n"
    "        else fail \"neither curl nor wget is here to fetch $package: install one of them\"; fi ;;\n"
    "    *) cp -- \"$package\" \"$dir/package\" ;;\n"
    "    esac\n"
    "    sum=$(sha256sum \"$dir/package\" | cut -d ' ' -f 1)\n"
    "    [ \"$sum\" = \"$sha256\" ] || fail \"$package has the SHA-256 $sum, not $sha256: it is not "
    "installed\"\n"
    "    case $package in\n"
    "    *.deb)\n"
    "        mv \"$dir/package\" \"$dir/skyvol.deb\"\n"
    "        chmod 755 \"$dir\"\n"
    "        apt-get install -y --no-install-recommends \"$dir/skyvol.deb\" </dev/null >/dev/null ||\n"
    "            fail \"$package could not be installed: run apt-get update and see the lines above\" ;;\n"
    "    *)\n"
    "        mkdir -p /usr/local/bin\n"
    "        cp \"$dir/package\" /usr/local/bin/skyvol.new\n"
    "        chmod 755 /usr/local/bin/skyvol.new\n"
    "        mv -f /usr/local/bin/skyvol.new /usr/local/bin/skyvol ;;\n"
    "    esac\n"
    "    rm -rf \"$dir\"\n"
    "    trap - EXIT\n"
    "    command -v skyvol >/dev/null 2>&1 || fail \"skyvol is still not on PATH after $package was "
    "installed\"\n"
    "    say \"installed skyvol from $package\"\n"
    "fi\n";

static const char not_installing[] = "\n"
                                     "command -v skyvol >/dev/null 2>&1 ||\n"
                                     "    fail 'skyvol is not installed here: install it, or make the plan "
                                     "with --package PATH|URL --sha256 HASH'\n";

static void call(struct buf *out, const char *name, const char *first, const char *second, const char *third)
{
    buf_printf(out, "%s ", name);
    shell_quote(out, first);
    buf_add_char(out, ' ');
    shell_quote(out, second);
    if (third) {
        buf_add_char(out, ' ');
        shell_quote(out, third);
    }
    buf_add_char(out, '\n');
}

/* Said when the script runs: notes may hold anything, so they are quoted too. */
static void write_notes(const struct plan *plan, struct buf *out)
{
    for (size_t i = 0; plan->notes && plan->notes[i]; i++) {
        buf_add_string(out, "say ");
        shell_quote(out, plan->notes[i]);
        buf_add_char(out, '\n');
    }
}

static void write_package(const struct plan_package *package, struct buf *out)
{
    if (!package || !package->source) {
        buf_add_string(out, not_installing);
        return;
    }
    buf_add_string(out, "\npackage=");
    shell_quote(out, package->source);
    buf_add_string(out, "\nsha256=");
    STRING_SCOPED *sum = xstrdup(package->sha256); /* sha256sum prints lower case */
    for (char *at = sum; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    shell_quote(out, sum);
    buf_add_string(out, installing);
}

static void expect_secret(const struct plan_secret *secret, struct buf *out)
{
    buf_add_string(out, "[ -r ");
    shell_quote(out, secret->path);
    buf_add_string(out, " ] || fail ");
    STRING_SCOPED *words =
        xprintf("%s is not here: the plan's `secrets` tell what it holds; write it with mode 0600 first",
                secret->path);
    shell_quote(out, words);
    buf_add_char(out, '\n');
}

static void bring_secret(const struct plan_secret *secret, struct buf *out)
{
    STRING_SCOPED *directory = xstrndup(secret->path, (size_t)(strrchr(secret->path, '/') - secret->path));
    STRING_SCOPED *fresh = xprintf("%s.new", secret->path);
    buf_add_string(out, "mkdir -p ");
    shell_quote(out, directory);
    buf_add_string(out, "\nrm -f ");
    shell_quote(out, fresh);
    buf_add_string(out, "\nprintf %s ");
    shell_quote(out, secret_reveal(secret->content));
    buf_add_string(out, " > ");
    shell_quote(out, fresh);
    buf_add_string(out, "\nmv -f ");
    shell_quote(out, fresh);
    buf_add_char(out, ' ');
    shell_quote(out, secret->path);
    buf_add_char(out, '\n');
}

static void write_secrets(const struct plan *plan, bool whole, struct buf *out)
{
    if (!plan->secret_count)
        return;
    buf_add_char(out, '\n');
    if (whole)
        buf_add_string(out, "set +xv\nmask=$(umask)\numask 077\n");
    for (size_t i = 0; i < plan->secret_count; i++)
        (whole ? bring_secret : expect_secret)(&plan->secrets[i], out);
    if (whole)
        buf_add_string(out, "umask \"$mask\"\n");
}

/* Before the secrets, which are those of the mounts that stand. */
static void write_looks(const struct plan *plan, struct buf *out)
{
    buf_add_char(out, '\n');
    for (size_t i = 0; i < plan->mount_count; i++) {
        buf_add_string(out, "is_mounted ");
        shell_quote(out, plan->mounts[i].bucket);
        buf_add_char(out, ' ');
        shell_quote(out, plan->mounts[i].dir);
        buf_add_char(out, ' ');
        shell_quote(out, plan->mounts[i].options);
        buf_add_string(out, " || :\n");
    }
}

static void write_mounts(const struct plan *plan, struct buf *out)
{
    buf_add_char(out, '\n');
    for (size_t i = 0; i < plan->mount_count; i++)
        call(out, "mount_bucket", plan->mounts[i].bucket, plan->mounts[i].dir, plan->mounts[i].options);
}

/* The directory of a prefix: made where that can be, else told that the link dangles. */
static void write_directory(const struct plan *plan, const struct plan_link *link, struct buf *out)
{
    bool writable = link->mount_index == SIZE_MAX || !plan->mounts[link->mount_index].read_only;
    if (*link->prefix)
        call(out, writable ? "make_prefix" : "look_for_prefix", link->target, link->mount, NULL);
}

static void write_bound_link(const struct plan_link *link, struct buf *out)
{
    STRING_SCOPED *words =
        xprintf("%s: read_only cannot be enforced here: it needs root and bind mounts", link->mount);
    buf_add_string(out, "if bind_read_only ");
    shell_quote(out, link->target);
    buf_add_char(out, ' ');
    shell_quote(out, link->bind);
    buf_add_string(out, "; then ");
    call(out, "link", link->mount, link->bind, NULL);
    buf_add_string(out, "else say ");
    shell_quote(out, words);
    buf_add_string(out, "; ");
    call(out, "link", link->mount, link->target, NULL);
    buf_add_string(out, "fi\n");
}

static void write_links(const struct plan *plan, struct buf *out)
{
    buf_add_char(out, '\n');
    for (size_t i = 0; i < plan->link_count; i++) {
        const struct plan_link *link = &plan->links[i];
        write_directory(plan, link, out);
        if (link->bind)
            write_bound_link(link, out);
        else
            call(out, "link", link->mount, link->target, NULL);
    }
}

static void write_native(const struct plan *plan, struct buf *out)
{
    STRING_SCOPED *words =
        xprintf("%s is no mount point: the volume was not attached to this machine, and what is written "
                "there would be lost with it",
                plan->native_base);
    buf_add_string(out, "\nmountpoint -q ");
    shell_quote(out, plan->native_base);
    buf_add_string(out, " || fail ");
    shell_quote(out, words);
    buf_add_char(out, '\n');
}

static void write_script(const struct plan *plan, const struct plan_package *package, bool whole,
                         struct buf *out)
{
    buf_add_string(out, "#!/bin/sh\n# Written by skyvol " SKYVOL_VERSION
                        ". It may be run again: what is done is left as it is.\n"
                        "# shellcheck disable=SC2016 # what stands in single quotes is meant as it stands\n");
    buf_add_string(out, prelude);
    buf_add_string(out, linking);
    if (plan->mount_count) {
        buf_add_string(out, mounting);
        write_package(package, out);
    }
    if (plan->native_base)
        write_native(plan, out);
    if (plan->notes)
        buf_add_char(out, '\n');
    write_notes(plan, out);
    if (plan->mount_count)
        write_looks(plan, out);
    write_secrets(plan, whole, out);
    if (plan->mount_count)
        write_mounts(plan, out);
    write_links(plan, out);
}

void plan_script(const struct plan *plan, const struct plan_package *package, struct buf *out)
{
    write_script(plan, package, false, out);
}

void plan_script_whole(const struct plan *plan, const struct plan_package *package, struct buf *out)
{
    write_script(plan, package, true, out);
}
