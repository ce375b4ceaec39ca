/* A disk that lacks calls, for one process: what some network mounts answer. Preloaded by tests. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

/* What a call answers instead of its result: an error number from the environment; 0 where it works. */
static int answer(const char *variable) {
    const char *code = getenv(variable);
    return code ? atoi(code) : 0;
}

static int fail(int code) {
    errno = code;
    return -1;
}

static int is_there(int folder, const char *path) {
    return faccessat(folder, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return answer("POOR_DISK_SYNC") ? fail(answer("POOR_DISK_SYNC")) : real(file);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return answer("POOR_DISK_SYNC") ? fail(answer("POOR_DISK_SYNC")) : real(file);
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    return answer("POOR_DISK_REPLACE") && is_there(AT_FDCWD, to) ? fail(answer("POOR_DISK_REPLACE")) : real(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
    static int (*real)(int, const char *, int, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "renameat");
    return answer("POOR_DISK_REPLACE") && is_there(b, to) ? fail(answer("POOR_DISK_REPLACE")) : real(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned int flags) {
    if (flags) return fail(EINVAL);
    return renameat(a, from, b, to);
}

int flock(int file, int operation) {
    static int (*real)(int, int);
    if (!real) real = dlsym(RTLD_NEXT, "flock");
    return answer("POOR_DISK_LOCK") ? fail(answer("POOR_DISK_LOCK")) : real(file, operation);
}

int link(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "link");
    return answer("POOR_DISK_LINK") ? fail(answer("POOR_DISK_LINK")) : real(from, to);
}
