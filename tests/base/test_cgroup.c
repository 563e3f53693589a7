#include "base/cgroup.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"

static char root[64];

static void begin(void)
{
    snprintf(root, sizeof(root), "/tmp/skyvol-test-cgroup.XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static void end(void)
{
    STRING_SCOPED *command = xprintf("rm -r %s", root);
    cr_assert_eq(system(command), 0);
}

TestSuite(cgroup, .init = begin, .fini = end);

static void put_file(const char *path, const char *text)
{
    STRING_SCOPED *full = xprintf("%s/%s", root, path);
    for (char *at = full + strlen(root) + 1; *at; at++) {
        if (*at == '/') {
            *at = '\0';
            mkdir(full, 0700);
            *at = '/';
        }
    }
    FILE *file = fopen(full, "we");
    fputs(text, file);
    fclose(file);
}

Test(cgroup, without_groups_it_is_the_machine)
{
    put_file("proc/meminfo", "MemTotal:        8000 kB\nMemFree: 1 kB\n");
    cr_assert_eq(cgroup_memory_limit(root), 8000 * 1024);
}

Test(cgroup, nothing_to_read_is_no_limit)
{
    cr_assert_eq(cgroup_memory_limit(root), UINT64_MAX);
}

Test(cgroup, v2_takes_the_smallest_up_to_the_top)
{
    put_file("proc/meminfo", "MemTotal: 8000 kB\n");
    put_file("proc/self/cgroup", "0::/a/b\n");
    put_file("sys/fs/cgroup/a/b/memory.max", "max\n");
    cr_assert_eq(cgroup_memory_limit(root), 8000 * 1024);
    put_file("sys/fs/cgroup/a/memory.max", "70000\n");
    cr_assert_eq(cgroup_memory_limit(root), 70000);
    put_file("sys/fs/cgroup/a/b/memory.high", "60000\n");
    cr_assert_eq(cgroup_memory_limit(root), 60000);
}

Test(cgroup, in_a_container_the_top_of_the_mount_counts)
{
    put_file("proc/meminfo", "MemTotal: 8000 kB\n");
    put_file("proc/self/cgroup", "0::/\n");
    put_file("sys/fs/cgroup/memory.max", "50000\n");
    cr_assert_eq(cgroup_memory_limit(root), 50000);
}

Test(cgroup, v1_reads_the_memory_controller_only)
{
    put_file("proc/meminfo", "MemTotal: 8000 kB\n");
    put_file("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/1\n1:name=systemd:/y\n");
    put_file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    cr_assert_eq(cgroup_memory_limit(root), 8000 * 1024);
    put_file("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "40000\n");
    cr_assert_eq(cgroup_memory_limit(root), 40000);
    put_file("sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "30000\n");
    cr_assert_eq(cgroup_memory_limit(root), 30000);
}

Test(cgroup, this_machine_has_some_memory)
{
    cr_assert_gt(cgroup_memory_limit(""), (uint64_t)1 << 20);
}
