/* cgroup: how much memory this process may take: the machine's, or less where a control group (v1 or v2) says so. */
#ifndef BASE_CGROUP_H
#define BASE_CGROUP_H

#include <stdint.h>

/* The smallest of MemTotal and the limits of our group and of those around it. `root` stands before /proc and /sys: ""
 * on a real machine, a folder in tests. UINT64_MAX when nothing at all can be read. */
uint64_t cgroup_memory_limit(const char *root);

#endif
