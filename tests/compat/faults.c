/* Makes writes and syncs of a process fail, as a disk would: preloaded into a node by test_s3_faults.py.
 *
 * The file that FAULTS names says what fails now, one fault a line: the call (write or sync), part of the file's path
 * (and `!`, and a part that it does not have), and what happens: an error's number, or `short` for writes that write a
 * part of what they are given.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE = 0, SHORT = -1 };

/* What happens to a call on a path. */
static int fault(const char *call, const char *path) {
    const char *name = getenv("FAULTS");
    if (!name) return NONE;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NONE;
    char text[1024];
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) return NONE;
    text[length] = 0;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        char what[16], part[256], outcome[16];
        if (sscanf(line, "%15s %255s %15s", what, part, outcome) != 3) continue;
        char *without = strchr(part, '!');
        if (without) *without++ = 0;
        if (strcmp(what, call) || !strstr(path, part) || (without && strstr(path, without))) continue;
        return strcmp(outcome, "short") ? atoi(outcome) : SHORT;
    }
    return NONE;
}

static int fault_of(const char *call, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || path[0] != '/') return NONE;
    path[length] = 0;
    return fault(call, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(outcome) do { errno = (outcome); return -1; } while (0)

static size_t part_of(size_t count) { return count > 1 ? count / 2 : count; }

ssize_t write(int fd, const void *bytes, size_t count) {
    int outcome = fault_of("write", fd);
    if (outcome > 0) FAIL(outcome);
    return REAL(write)(fd, bytes, outcome == SHORT ? part_of(count) : count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    int outcome = fault_of("write", fd);
    if (outcome > 0) FAIL(outcome);
    return REAL(pwrite64)(fd, bytes, outcome == SHORT ? part_of(count) : count, at);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    int outcome = fault_of("write", fd);
    if (outcome > 0) FAIL(outcome);
    return REAL(writev)(fd, pieces, outcome == SHORT ? 1 : count);
}

int fsync(int fd) {
    int outcome = fault_of("sync", fd);
    if (outcome > 0) FAIL(outcome);
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    int outcome = fault_of("sync", fd);
    if (outcome > 0) FAIL(outcome);
    return REAL(fdatasync)(fd);
}
