/* A disk and a clock with faults, for one process: preloaded (LD_PRELOAD), it stands between the process and libc.

   It counts what is written below one folder, and makes the k-th of these calls fail, or the k-th and all behind it.
   Nothing fails before `faults_arm`. Files are known by /proc/self/fd, so it is for Linux. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITES, SYNCS, CHANGES };
/* WRITES: what needs room on the disk. SYNCS: fsync and its like. CHANGES: what else a read-only disk refuses. */

static char folder[4096];
static size_t folder_length;
static char mode;           /* 'w': one write fails; 'f': from then on all do; 's': one sync; 'r': everything */
static long fatal, counted[3];
static int error_number, trace = -1;
static long shift_seconds, shift_later, shift_from;

/* Begin to count what happens below `path`, and fail there; see `mode`. `log`: a descriptor that is told of each. */
void faults_arm(const char *path, char how, long number, int error, int log) {
    snprintf(folder, sizeof folder, "%s/", path);
    folder_length = strlen(folder);
    mode = how, fatal = number, error_number = error, trace = log;
    counted[WRITES] = counted[SYNCS] = counted[CHANGES] = 0;
}

/* The disk is well again. Returns how many writes there were, or with `syncs` how many syncs. */
long faults_disarm(int syncs) {
    folder_length = 0;
    return counted[syncs ? SYNCS : WRITES];
}

/* Set the clock `seconds` forward (or back), once `number` writes have been counted, or, with 0, now. */
void faults_shift(long seconds, long number) {
    if (number > 0)
        shift_later = seconds, shift_from = number;
    else
        shift_seconds = seconds;
}

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int is_below(int at, const char *path) {
    char whole[8192], base[4096] = "";
    if (!folder_length || !path) return 0;
    if (path[0] == '/') return strncmp(path, folder, folder_length) == 0;
    if (at == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
    }
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return strncmp(whole, folder, folder_length) == 0;
}

/* Count one call. Returns 0: let it pass; 1: it fails, errno is set; -1: the first to fail of a disk that fills up. */
static int fails(enum kind kind, const char *what, const char *path) {
    long number = __atomic_add_fetch(&counted[kind], 1, __ATOMIC_SEQ_CST);
    if (kind == WRITES && shift_from && number >= shift_from) shift_seconds = shift_later;
    if (trace >= 0 && kind != CHANGES) {
        static __typeof__(write) *real;
        if (!real) real = (__typeof__(write) *)dlsym(RTLD_NEXT, "write");
        char line[8192];
        const char *inside = strlen(path) > folder_length ? path + folder_length : "";
        int length = snprintf(line, sizeof line, "%s %ld %s %s\n", kind == SYNCS ? "s" : "w", number, what, inside);
        if (real(trace, line, (size_t)length) < 0) abort();
    }
    int hit = mode == 'r' || (mode == 'w' && kind == WRITES && number == fatal) ||
              (mode == 'f' && kind == WRITES && number >= fatal) || (mode == 's' && kind == SYNCS && number == fatal);
    if (!hit) return 0;
    errno = error_number;
    return mode == 'f' && number == fatal ? -1 : 1;
}

static int fd_fails(enum kind kind, const char *what, int fd) {
    if (!folder_length) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int before = errno;
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, folder_length) == 0 ? fails(kind, what, path) : 0;
}

static int path_fails(enum kind kind, const char *what, int at, const char *path) {
    return is_below(at, path) ? fails(kind, what, path) : 0;
}

/* --- what is written into files: a disk that fills up takes the first half of the last write */

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(write);
    int hit = fd_fails(WRITES, "write", fd);
    if (hit < 0 && size > 1) return next(fd, data, size / 2);
    return hit ? -1 : next(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    NEXT(pwrite);
    int hit = fd_fails(WRITES, "pwrite", fd);
    if (hit < 0 && size > 1) return next(fd, data, size / 2, offset);
    return hit ? -1 : next(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    NEXT(writev);
    return fd_fails(WRITES, "writev", fd) ? -1 : next(fd, parts, count);
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    NEXT(copy_file_range);
    return fd_fails(WRITES, "copy", out) ? -1 : next(in, from, out, to, size, flags);
}

ssize_t sendfile64(int out, int in, off64_t *from, size_t size) {
    NEXT(sendfile64);
    return fd_fails(WRITES, "copy", out) ? -1 : next(out, in, from, size);
}

int ioctl(int fd, unsigned long request, ...) {
    NEXT(ioctl);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (request == FICLONE && fd_fails(WRITES, "clone", fd)) return -1;
    return next(fd, request, argument);
}

int ftruncate(int fd, off_t size) {
    NEXT(ftruncate);
    struct stat now;
    int grows = fstat(fd, &now) == 0 && size > now.st_size;
    return fd_fails(grows ? WRITES : CHANGES, "ftruncate", fd) ? -1 : next(fd, size);
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int fallocate(int fd, int how, off_t offset, off_t size) {
    NEXT(fallocate);
    enum kind kind = how & FALLOC_FL_PUNCH_HOLE ? CHANGES : WRITES;
    return fd_fails(kind, "fallocate", fd) ? -1 : next(fd, how, offset, size);
}

/* --- syncs */

int fsync(int fd) {
    NEXT(fsync);
    return fd_fails(SYNCS, "fsync", fd) ? -1 : next(fd);
}

int fdatasync(int fd) {
    NEXT(fdatasync);
    return fd_fails(SYNCS, "fdatasync", fd) ? -1 : next(fd);
}

/* --- names */

static int open_fails(int at, const char *path, int flags) {
    if (!(flags & (O_WRONLY | O_RDWR | O_CREAT)) || !is_below(at, path)) return 0;
    struct stat now;
    int before = errno, is_new = (flags & O_CREAT) && fstatat(at, path, &now, 0) != 0;
    errno = before;
    return fails(is_new ? WRITES : CHANGES, "create", path);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t rights = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return open_fails(AT_FDCWD, path, flags) ? -1 : next(path, flags, rights); \
    }
#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        NEXT(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t rights = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return open_fails(at, path, flags) ? -1 : next(at, path, flags, rights); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *how) { \
        NEXT(name); \
        int flags = how[0] == 'r' ? (strchr(how, '+') ? O_RDWR : O_RDONLY) : O_WRONLY | O_CREAT; \
        return open_fails(AT_FDCWD, path, flags) ? NULL : next(path, how); \
    }
FOPEN(fopen)
FOPEN(fopen64)

int rename(const char *from, const char *to) {
    NEXT(rename);
    return path_fails(WRITES, "rename", AT_FDCWD, to) ? -1 : next(from, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    NEXT(renameat);
    return path_fails(WRITES, "rename", to_at, to) ? -1 : next(from_at, from, to_at, to);
}

int link(const char *from, const char *to) {
    NEXT(link);
    return path_fails(WRITES, "link", AT_FDCWD, to) ? -1 : next(from, to);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    NEXT(linkat);
    return path_fails(WRITES, "link", to_at, to) ? -1 : next(from_at, from, to_at, to, flags);
}

int symlink(const char *target, const char *path) {
    NEXT(symlink);
    return path_fails(WRITES, "symlink", AT_FDCWD, path) ? -1 : next(target, path);
}

int symlinkat(const char *target, int at, const char *path) {
    NEXT(symlinkat);
    return path_fails(WRITES, "symlink", at, path) ? -1 : next(target, at, path);
}

static int mkdir_fails(int at, const char *path) {
    struct stat now;
    return fstatat(at, path, &now, 0) != 0 && path_fails(WRITES, "mkdir", at, path);
}

int mkdir(const char *path, mode_t rights) {
    NEXT(mkdir);
    return mkdir_fails(AT_FDCWD, path) ? -1 : next(path, rights);
}

int mkdirat(int at, const char *path, mode_t rights) {
    NEXT(mkdirat);
    return mkdir_fails(at, path) ? -1 : next(at, path, rights);
}

int unlink(const char *path) {
    NEXT(unlink);
    return path_fails(CHANGES, "unlink", AT_FDCWD, path) ? -1 : next(path);
}

int unlinkat(int at, const char *path, int flags) {
    NEXT(unlinkat);
    return path_fails(CHANGES, "unlink", at, path) ? -1 : next(at, path, flags);
}

int rmdir(const char *path) {
    NEXT(rmdir);
    return path_fails(CHANGES, "rmdir", AT_FDCWD, path) ? -1 : next(path);
}

int chmod(const char *path, mode_t rights) {
    NEXT(chmod);
    return path_fails(CHANGES, "chmod", AT_FDCWD, path) ? -1 : next(path, rights);
}

int fchmod(int fd, mode_t rights) {
    NEXT(fchmod);
    return fd_fails(CHANGES, "chmod", fd) ? -1 : next(fd, rights);
}

int fchmodat(int at, const char *path, mode_t rights, int flags) {
    NEXT(fchmodat);
    return path_fails(CHANGES, "chmod", at, path) ? -1 : next(at, path, rights, flags);
}

int utimensat(int at, const char *path, const struct timespec times[2], int flags) {
    NEXT(utimensat);
    return path_fails(CHANGES, "utime", at, path) ? -1 : next(at, path, times, flags);
}

int access(const char *path, int how) {
    NEXT(access);
    if ((how & W_OK) && path_fails(CHANGES, "access", AT_FDCWD, path)) return -1;
    return next(path, how);
}

/* --- the clock */

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT(clock_gettime);
    int result = next(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift_seconds;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    NEXT(gettimeofday);
    int result = next(now, zone);
    if (result == 0) now->tv_sec += shift_seconds;
    return result;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
