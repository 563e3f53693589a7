#include "base/cgroup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* The number that a file begins with; UINT64_MAX where there is none ("max"), or no file. */
static uint64_t read_number(const char *path)
{
    uint64_t number = UINT64_MAX;
    FILE *file = fopen(path, "re");
    if (!file)
        return UINT64_MAX;
    if (fscanf(file, "%" SCNu64, &number) != 1)
        number = UINT64_MAX;
    fclose(file);
    return number;
}

static uint64_t read_machine(const char *root)
{
    STRING_SCOPED *path = xprintf("%s/proc/meminfo", root);
    uint64_t kib = UINT64_MAX;
    FILE *file = fopen(path, "re");
    char line[256];
    while (file && kib == UINT64_MAX && fgets(line, sizeof(line), file))
        if (sscanf(line, "MemTotal: %" SCNu64, &kib) != 1)
            kib = UINT64_MAX;
    if (file)
        fclose(file);
    return kib < UINT64_MAX / 1024 ? kib * 1024 : UINT64_MAX;
}

/* The smallest limit of this group and of all around it: a limit binds its children. In a container the path may be that
 * of the host and not exist here; then only the top of the mount counts. */
static uint64_t read_groups(const char *mount, const char *group, const char *file)
{
    uint64_t smallest = UINT64_MAX;
    STRING_SCOPED *path = xstrdup(group);
    for (;;) {
        STRING_SCOPED *name = xprintf("%s%s/%s", mount, strcmp(path, "/") == 0 ? "" : path, file);
        uint64_t limit = read_number(name);
        smallest = limit < smallest ? limit : smallest;
        char *slash = strrchr(path, '/');
        if (!slash)
            return smallest;
        *slash = '\0';
    }
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* One line of /proc/self/cgroup: ID:CONTROLLERS:PATH, without controllers for v2. */
static uint64_t read_line(const char *root, char *line)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group)
        return UINT64_MAX;
    *group++ = '\0';
    controllers++;
    if (*controllers == '\0') {
        STRING_SCOPED *mount = xprintf("%s/sys/fs/cgroup", root);
        STRING_SCOPED *hybrid = xprintf("%s/sys/fs/cgroup/unified", root);
        return smaller(
            smaller(read_groups(mount, group, "memory.max"), read_groups(mount, group, "memory.high")),
            read_groups(hybrid, group, "memory.max"));
    }
    for (char *save, *word = strtok_r(controllers, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (strcmp(word, "memory") == 0) {
            STRING_SCOPED *mount = xprintf("%s/sys/fs/cgroup/memory", root);
            return read_groups(mount, group, "memory.limit_in_bytes");
        }
    }
    return UINT64_MAX;
}

uint64_t cgroup_memory_limit(const char *root)
{
    uint64_t limit = read_machine(root);
    STRING_SCOPED *path = xprintf("%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    while (file && getline(&line, &room, file) >= 0)
        limit = smaller(limit, read_line(root, line));
    free(line);
    if (file)
        fclose(file);
    return limit;
}
