/* A real mount over a cache whose slowness is scripted. The daemon is this process; the programs that use the mount are
 * forked, because a process that waits for itself cannot be told from one that hangs. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_cache.h"
#include "fs/session.h"

static char directory[] = "/tmp/skyvol-test-XXXXXX";
static struct fs *fs;
static pthread_t runner;
static atomic_bool ready, ended;
static int run_rc;

static void hear_ready(void *context)
{
    (void)context;
    ready = true;
}

static void *run(void *context)
{
    (void)context;
    run_rc = fs_run(fs, hear_ready, NULL);
    ended = true;
    return NULL;
}

static bool await(atomic_bool *what)
{
    for (int i = 0; i < 20000 && !*what; i++)
        usleep(1000);
    return *what;
}

static void begin(void)
{
    if (access("/dev/fuse", R_OK | W_OK) != 0)
        cr_skip_test("no /dev/fuse here");
    fake_begin();
    cr_assert_not_null(mkdtemp(directory));
    BUF_SCOPED why = BUF_INIT;
    struct fs_config config = {.mount_point = directory, .source = "bucket:prefix,with comma"};
    int rc = fs_new(&config, &fs, &why);
    if (rc == -EPERM || rc == -ENODEV) {
        rmdir(directory);
        cr_skip_test("may not mount here");
    }
    cr_assert_eq(rc, 0, "%s", why.bytes);
    fs_attach(fs, (struct cache *)&fake);
    pthread_create(&runner, NULL, run, NULL);
    cr_assert(await(&ready));
}

static void end(void)
{
    if (fs)
        fs_stop(fs);
    cr_expect(await(&ended), "fs_run does not return");
    pthread_join(runner, NULL);
    fs_free(fs);
    cr_expect_eq(rmdir(directory), 0, "still mounted");
    cr_expect_eq(fake_references(), 0);
    cr_expect_eq(fake.open, 0);
    fake_end();
}

TestSuite(mountpoint, .init = begin, .fini = end);

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

/* A user of the mount. It must not hold the connection: it would wait for itself when this process is gone. */
static pid_t fork_user(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        close(fuse_session_fd(fs->session));
        signal(SIGINT, SIG_DFL);
    }
    return pid;
}

/* A process that looks a name up; it exits with the errno. */
static pid_t fork_lookup(const char *name)
{
    pid_t pid = fork_user();
    if (pid == 0) {
        struct stat at;
        _exit(stat(path_of(name), &at) == 0 ? 0 : errno);
    }
    return pid;
}

static pid_t fork_read(const char *name, off_t offset)
{
    pid_t pid = fork_user();
    if (pid == 0) {
        char bytes[10];
        int fd = open(path_of(name), O_RDONLY);
        _exit(fd >= 0 && pread(fd, bytes, sizeof bytes, offset) == sizeof bytes ? 0 : errno);
    }
    return pid;
}

/* The exit code, or 1000 + the signal; -1: it does not end. */
static int end_of(pid_t pid)
{
    int status;
    for (int i = 0; i < 20000; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
        usleep(1000);
    }
    return -1;
}

static void await_waiting(size_t count)
{
    for (int i = 0; i < 20000 && fake_waiting() != count; i++)
        usleep(1000);
    cr_assert_eq(fake_waiting(), count);
}

Test(mountpoint, lookups_in_one_directory_hang_side_by_side)
{
    pid_t pids[16];
    char name[32];
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "hang%d", i);
        pids[i] = fork_lookup(name);
    }
    await_waiting(16);
    kill(pids[7], SIGINT);
    cr_expect_eq(end_of(pids[7]), 1000 + SIGINT);
    await_waiting(15);
    fake_release(true);
    for (int i = 0; i < 16; i++)
        if (i != 7)
            cr_expect_eq(end_of(pids[i]), 0);
}

Test(mountpoint, a_read_is_served_while_200_lookups_hang_and_all_of_them_end_by_sigint)
{
    pid_t pids[200];
    char name[32];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "hang%d", i);
        pids[i] = fork_lookup(name);
    }
    await_waiting(REQUESTS_THREADS);
    cr_expect_eq(end_of(fork_read("file", 0)), 0);
    for (int i = 0; i < 200; i++)
        kill(pids[i], SIGINT);
    for (int i = 0; i < 200; i++)
        cr_expect_eq(end_of(pids[i]), 1000 + SIGINT);
    await_waiting(0);
}

Test(mountpoint, a_read_that_hangs_ends_by_sigkill)
{
    pid_t pid = fork_read("file", FAKE_SLOW_OFFSET);
    for (int i = 0; i < 20000 && fake_waiting() == 0; i++)
        usleep(1000);
    kill(pid, SIGKILL);
    cr_expect_eq(end_of(pid), 1000 + SIGKILL);
}

Test(mountpoint, stopping_with_open_files_and_hanging_requests_unmounts)
{
    int fd = open(path_of("file"), O_RDONLY);
    cr_expect_geq(fd, 0);
    pid_t hanging = fork_lookup("hang1");
    await_waiting(1);
    fs_stop(fs);
    cr_expect(await(&ended));
    cr_expect_eq(run_rc, 0);
    cr_expect_neq(end_of(hanging), -1);
    char byte;
    cr_expect_eq(pread(fd, &byte, 1, 1 << 20), -1);
    close(fd);
}

/* As umount(8) does; others than root need the helper. */
static int unmount(bool lazily)
{
    char command[300];
    if (geteuid() == 0)
        return umount2(directory, lazily ? MNT_DETACH : 0);
    snprintf(command, sizeof command, "fusermount3 -u %s %s", lazily ? "-z" : "", directory);
    return system(command);
}

Test(mountpoint, umount_by_somebody_ends_the_run)
{
    cr_expect_eq(unmount(false), 0);
    cr_expect(await(&ended));
    cr_expect_eq(run_rc, 0);
}

/* A tmpfs in the place where a FUSE mount was just taken away: the kernel gives it the device number of that one. */
static bool mount_stranger(void)
{
    return geteuid() == 0 && mount("stranger", directory, "tmpfs", 0, NULL) == 0;
}

static bool sees_stranger(void)
{
    char command[300];
    snprintf(command, sizeof command, "grep -q '%s .* - tmpfs stranger' /proc/self/mountinfo", directory);
    return system(command) == 0;
}

Test(mountpoint, what_is_mounted_there_later_is_left_alone)
{
    fs_stop(fs);
    cr_assert(await(&ended));
    if (!mount_stranger())
        return;
    fs_free(fs);
    fs = NULL;
    cr_expect(sees_stranger(), "the mount of somebody else was taken away");
    umount2(directory, MNT_DETACH);
}

Test(mountpoint, another_mount_with_the_same_device_number_is_not_ours)
{
    if (geteuid() != 0)
        return;
    struct fs_config config = {.mount_point = directory, .source = "first"};
    struct mountpoint *mountpoint = NULL;
    BUF_SCOPED why = BUF_INIT;
    int fd;
    fs_stop(fs);
    cr_assert(await(&ended));
    cr_assert_eq(mountpoint_mount(&config, &mountpoint, &fd, &why), 0, "%s", why.bytes);
    cr_expect(mountpoint_mounted(mountpoint));
    umount2(directory, MNT_DETACH);
    close(fd);
    cr_assert(mount_stranger());
    cr_expect_not(mountpoint_mounted(mountpoint));
    mountpoint_unmount(mountpoint);
    cr_expect(sees_stranger());
    mountpoint_free(mountpoint);
    umount2(directory, MNT_DETACH);
}

Test(mountpoint, a_lazy_umount_under_load_ends_when_the_last_file_is_closed)
{
    int fd = open(path_of("file"), O_RDONLY);
    cr_expect_eq(unmount(true), 0);
    usleep(20000);
    cr_expect_not(ended);
    close(fd);
    cr_expect(await(&ended));
    cr_expect_eq(run_rc, 0);
}

Test(mountpoint, a_directory_is_listed_once_and_whole)
{
    DIR *listing = opendir(directory);
    cr_assert_not_null(listing);
    int names = 0, dots = 0;
    struct dirent *line;
    while ((line = readdir(listing))) {
        dots += line->d_name[0] == '.';
        names += line->d_name[0] == 'f';
        cr_expect_neq(line->d_ino, 0);
    }
    closedir(listing);
    cr_expect_eq(names, FAKE_LIST_COUNT);
    cr_expect_eq(dots, 2);
}

Test(mountpoint, what_it_is_stands_in_the_mount_table)
{
    char line[1024], found[1024] = "";
    FILE *file = fopen("/proc/self/mounts", "r");
    while (fgets(line, sizeof line, file))
        if (strstr(line, directory))
            snprintf(found, sizeof found, "%s", line);
    fclose(file);
    cr_expect(strstr(found, "bucket:prefix,with\\040comma"), "%s", found);
    cr_expect(strstr(found, " fuse.skyvol "), "%s", found);
    cr_expect(strstr(found, "nosuid,nodev"), "%s", found);
    cr_expect(strstr(found, "default_permissions"), "%s", found);
}

Test(mountpoint, read_ahead_of_the_device_is_raised)
{
    if (geteuid() != 0)
        return;
    cr_expect_eq(fs->read_ahead_now_kib, 4096);
}

Test(mountpoint, the_kernel_is_told_to_forget)
{
    struct stat at;
    int fd = open(path_of("file"), O_RDONLY);
    char byte;
    cr_expect_eq(stat(path_of("none1"), &at), -1);
    cr_expect_eq(pread(fd, &byte, 1, 0), 1);
    struct cache_notify notify = fs_notify(fs);
    size_t before = fake_asked();
    cr_expect_eq(pread(fd, &byte, 1, 0), 1);
    cr_expect_eq(fake_asked(), before, "the page was in the kernel's cache");
    struct inode *inode = NULL;
    for (inode = fake.inodes; inode && strcmp(inode->name, "file") != 0; inode = inode->next)
        ;
    notify.inode_changed(notify.context, inode->id);
    notify.name_changed(notify.context, FUSE_ROOT_ID, "none1");
    for (int i = 0; i < 10000 && fake_asked() == before; i++) {
        usleep(1000);
        cr_expect_eq(pread(fd, &byte, 1, 0), 1);
    }
    cr_expect_gt(fake_asked(), before);
    close(fd);
}

Test(mountpoint, what_cannot_be_is_refused_with_its_name)
{
    if (geteuid() != 0)
        return; /* the fake's files are root's */
    char file[256];
    snprintf(file, sizeof file, "%s", path_of("file"));
    cr_expect_eq(link(file, path_of("none1")), -1);
    cr_expect_eq(errno, EPERM);
}
