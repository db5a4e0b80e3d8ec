/* A file layer between a process and its C library: it counts, kills, fails and records file operations.

   Loaded by LD_PRELOAD. Only what changes files below CRASH_ROOT is an operation; each has a number, from 1.
   The settings are read from the environment by shim_restart(), which a forked child calls for itself:

     CRASH_ROOT    the folder looked at; nothing is done without it
     CRASH_ACK     a file whose writes are recorded, never counted and never failed
     CRASH_TRACE   where each operation is appended, see record()
     CRASH_AT      the number of the operation that something happens to
     CRASH_ACTION  "kill": SIGKILL just before it; "tear": half of the write is done, then SIGKILL;
                   "fail": it returns CRASH_ERRNO; "short": half of the write is done and said so, the next
                   ones fail
     CRASH_KINDS   the kinds that "fail" and "short" apply to, separated by spaces; the first such operation
                   from CRASH_AT on fails
     CRASH_STICKY  all such operations from there on fail, until shim_heal() is called
     CRASH_NOSYNC  fsync is recorded and not done: a kill loses nothing that the kernel has

   Everything goes to the kernel by syscall(), so nothing here depends on what else is preloaded. Writes through
   mmap are not seen (SQLite's -shm, which it rebuilds), nor are descriptors that were duplicated. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096
#define AT_ONCE 65536

enum verdict { GO, FAIL, HALF };

static struct { int handle, ack; char *path; } files[FILES];
static char root[4096], ack[4096], action[16], kinds[256];
static int trace = -1, failure, sticky, nosync, healed, handles;
static long count, at;

/* -- settings */

static void text(char *into, size_t size, const char *name)
{
    const char *value = getenv(name);
    snprintf(into, size, "%s", value ? value : "");
}

static long number(const char *name)
{
    const char *value = getenv(name);
    return value ? atol(value) : 0;
}

__attribute__((constructor)) void shim_restart(void)
{
    char path[4096];
    text(root, sizeof root, "CRASH_ROOT");
    text(ack, sizeof ack, "CRASH_ACK");
    text(action, sizeof action, "CRASH_ACTION");
    text(kinds, sizeof kinds, "CRASH_KINDS");
    text(path, sizeof path, "CRASH_TRACE");
    at = number("CRASH_AT");
    failure = number("CRASH_ERRNO");
    sticky = number("CRASH_STICKY");
    nosync = number("CRASH_NOSYNC");
    count = healed = handles = 0;
    trace = -1;
    if (path[0]) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        trace = fcntl(fd, F_DUPFD_CLOEXEC, 900);
        syscall(SYS_close, fd);
    }
}

void shim_heal(void) { healed = 1; }

long shim_count(void) { return count; }

/* -- paths and descriptors */

static int below(const char *path)
{
    size_t length = strlen(root);
    return length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

/* The absolute path, not resolved further: the tests use no symbolic links. */
static void absolute(char *into, size_t size, int folder, const char *path)
{
    char base[2048] = "", link[64];
    if (path[0] == '/') {
        snprintf(into, size, "%s", path);
        return;
    }
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) base[0] = 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        base[length > 0 ? length : 0] = 0;
    }
    snprintf(into, size, "%s/%s", base, path);
}

static void forget(int fd)
{
    if (fd < 0 || fd >= FILES || !files[fd].handle) return;
    free(files[fd].path);
    files[fd].handle = 0;
}

static int tracked(int fd) { return fd >= 0 && fd < FILES && files[fd].handle; }

/* -- what is recorded, and what happens */

/* One line, "number kind handle offset length result TAB path TAB other", then `length` bytes of data. */
static void record(long n, const char *kind, int handle, off_t offset, const void *data, size_t length,
                   long result, const char *path, const char *other)
{
    int before = errno;
    char line[9000];
    if (trace < 0) return;
    int size = snprintf(line, sizeof line, "%ld %s %d %ld %zu %ld\t%s\t%s\n", n, kind, handle, (long)offset,
                        length, result, path, other);
    struct iovec parts[2] = {{line, size}, {(void *)data, length}};
    syscall(SYS_writev, trace, parts, length ? 2 : 1);
    errno = before;
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

static int listed(const char *kind)
{
    const char *found = strstr(kinds, kind);
    size_t length = strlen(kind);
    return found && (found == kinds || found[-1] == ' ') && (!found[length] || found[length] == ' ');
}

/* Counts an operation, and says what is to become of it. */
static enum verdict gate(const char *kind, const char *path)
{
    count++;
    if (!at || count < at) return GO;
    if (count == at && !strcmp(action, "kill")) {
        record(count, kind, 0, 0, NULL, 0, -EINTR, path, "");
        die();
    }
    if (!strcmp(action, "tear")) return HALF; /* the first write from there on */
    int fails = !strcmp(action, "fail"), shortened = !strcmp(action, "short");
    if (healed || !(fails || shortened) || !listed(kind)) return GO;
    if (shortened) {
        strcpy(action, "fail");
        return HALF;
    }
    healed = !sticky;
    record(count, kind, 0, 0, NULL, 0, -failure, path, "");
    errno = failure;
    return FAIL;
}

static ssize_t put(int fd, const void *data, size_t length, off_t offset)
{
    if (offset < 0) return syscall(SYS_write, fd, data, length);
    return syscall(SYS_pwrite64, fd, data, length, offset);
}

static ssize_t change(int fd, const void *data, size_t length, off_t offset)
{
    if (!tracked(fd)) return put(fd, data, length, offset);
    off_t where = offset;
    if (where < 0) {
        int append = fcntl(fd, F_GETFL) & O_APPEND;
        where = syscall(SYS_lseek, fd, 0, append ? SEEK_END : SEEK_CUR);
    }
    if (files[fd].ack) {
        ssize_t done = put(fd, data, length, offset);
        record(0, "ack", files[fd].handle, where, data, length, done, files[fd].path, "");
        return done;
    }
    enum verdict verdict = gate("write", files[fd].path);
    if (verdict == FAIL) return -1;
    int tear = verdict == HALF && !strcmp(action, "tear");
    size_t some = verdict == HALF ? (length + tear) / 2 : length;
    if (!some) some = length;
    ssize_t done = put(fd, data, some, offset);
    if (done >= 0) record(count, "write", files[fd].handle, where, data, done, done, files[fd].path, "");
    if (tear) die();
    return done;
}

/* An operation on a name: asks the gate, does it, records it. */
#define NAMED(kind, path, other, call)                                    \
    do {                                                                  \
        if (gate(kind, path) == FAIL) return -1;                          \
        long result = (call);                                             \
        if (result == 0) record(count, kind, 0, 0, NULL, 0, 0, path, other); \
        return result;                                                    \
    } while (0)

/* -- opening and closing */

static int opened(int folder, const char *name, int flags, mode_t mode)
{
    char path[4096];
    struct stat there;
    absolute(path, sizeof path, folder, name);
    if (!below(path)) {
        int fd = syscall(SYS_openat, folder, name, flags, mode);
        forget(fd);
        return fd;
    }
    int acknowledges = !strcmp(path, ack);
    int exists = !syscall(SYS_newfstatat, folder, name, &there, 0);
    int creates = (flags & O_CREAT) && !exists, empties = exists && (flags & O_TRUNC) && there.st_size;
    if (!acknowledges && (creates || empties) && gate(creates ? "create" : "truncate", path) == FAIL) return -1;
    int fd = syscall(SYS_openat, folder, name, flags, mode);
    forget(fd);
    if (fd < 0 || fd >= FILES) return fd;
    files[fd].handle = ++handles;
    files[fd].ack = acknowledges;
    files[fd].path = strdup(path);
    long n = !acknowledges && (creates || empties) ? count : 0;
    record(n, creates ? "create" : empties ? "empty" : "open", handles, 0, NULL, 0, fd, path, "");
    return fd;
}

#define OPEN(name)                                    \
    int name(const char *path, int flags, ...)        \
    {                                                 \
        va_list more;                                 \
        va_start(more, flags);                        \
        mode_t mode = va_arg(more, mode_t);           \
        va_end(more);                                 \
        return opened(AT_FDCWD, path, flags, mode);   \
    }
#define OPENAT(name)                                             \
    int name(int folder, const char *path, int flags, ...)       \
    {                                                            \
        va_list more;                                            \
        va_start(more, flags);                                   \
        mode_t mode = va_arg(more, mode_t);                      \
        va_end(more);                                            \
        return opened(folder, path, flags, mode);                \
    }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd)
{
    forget(fd);
    return syscall(SYS_close, fd);
}

/* -- streams: FAISS writes with fopen and fwrite, whose own writes nothing can come between */

static ssize_t stream_write(void *cookie, const char *data, size_t length)
{
    ssize_t done = change((int)(long)cookie, data, length, -1);
    return done < 0 ? 0 : done;
}

static int stream_close(void *cookie) { return close((int)(long)cookie); }

static FILE *stream(const char *name, const char *mode, const char *real)
{
    char path[4096];
    absolute(path, sizeof path, AT_FDCWD, name);
    if (!below(path) || mode[0] == 'r' || strchr(mode, '+')) {
        FILE *(*open)(const char *, const char *) = dlsym(RTLD_NEXT, real);
        return open(name, mode);
    }
    int fd = opened(AT_FDCWD, name, O_WRONLY | O_CREAT | (mode[0] == 'w' ? O_TRUNC : O_APPEND), 0666);
    cookie_io_functions_t calls = {.write = stream_write, .close = stream_close};
    return fd < 0 ? NULL : fopencookie((void *)(long)fd, mode, calls);
}

FILE *fopen(const char *path, const char *mode) { return stream(path, mode, "fopen"); }
FILE *fopen64(const char *path, const char *mode) { return stream(path, mode, "fopen64"); }

/* -- writing */

ssize_t write(int fd, const void *data, size_t length) { return change(fd, data, length, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return change(fd, data, length, at); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) { return change(fd, data, length, at); }

static ssize_t gathered(int fd, const struct iovec *parts, int many, off_t offset)
{
    size_t length = 0;
    for (int i = 0; i < many; i++) length += parts[i].iov_len;
    char *data = malloc(length + 1), *end = data;
    for (int i = 0; i < many; i++) end = mempcpy(end, parts[i].iov_base, parts[i].iov_len);
    ssize_t done = change(fd, data, length, offset);
    free(data);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int many) { return gathered(fd, parts, many, -1); }
ssize_t pwritev(int fd, const struct iovec *parts, int many, off_t at) { return gathered(fd, parts, many, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int many, off_t at) { return gathered(fd, parts, many, at); }
ssize_t pwritev2(int fd, const struct iovec *p, int many, off_t at, int flags) { return gathered(fd, p, many, at); }
ssize_t pwritev64v2(int fd, const struct iovec *p, int many, off_t at, int flags) { return gathered(fd, p, many, at); }

/* In pieces that are read first, so that what is written is known; fewer bytes than asked for is a right answer. */
static ssize_t copied(int from, off_t *from_at, int to, off_t *to_at, size_t length)
{
    char data[AT_ONCE];
    if (length > AT_ONCE) length = AT_ONCE;
    ssize_t some = from_at ? syscall(SYS_pread64, from, data, length, *from_at)
                           : syscall(SYS_read, from, data, length);
    if (some <= 0) return some;
    ssize_t done = change(to, data, some, to_at ? *to_at : -1);
    if (done < 0) return done;
    if (!from_at) syscall(SYS_lseek, from, done - some, SEEK_CUR);
    if (from_at) *from_at += done;
    if (to_at) *to_at += done;
    return done;
}

ssize_t sendfile(int to, int from, off_t *at, size_t length)
{
    return tracked(to) ? copied(from, at, to, NULL, length) : syscall(SYS_sendfile, to, from, at, length);
}
ssize_t sendfile64(int to, int from, off_t *at, size_t length) { return sendfile(to, from, at, length); }

ssize_t copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t length, unsigned flags)
{
    if (tracked(to)) return copied(from, from_at, to, to_at, length);
    return syscall(SYS_copy_file_range, from, from_at, to, to_at, length, flags);
}

/* -- sizes */

static off_t size_of(int fd)
{
    struct stat there;
    return fstat(fd, &there) ? 0 : there.st_size;
}

static int resized(int fd, off_t size)
{
    if (!tracked(fd)) return syscall(SYS_ftruncate, fd, size);
    if (gate(size > size_of(fd) ? "grow" : "truncate", files[fd].path) == FAIL) return -1;
    int result = syscall(SYS_ftruncate, fd, size);
    if (!result) record(count, "resize", files[fd].handle, size, NULL, 0, 0, files[fd].path, "");
    return result;
}

int ftruncate(int fd, off_t size) { return resized(fd, size); }
int ftruncate64(int fd, off_t size) { return resized(fd, size); }

int truncate(const char *path, off_t size)
{
    int fd = opened(AT_FDCWD, path, O_WRONLY, 0);
    if (fd < 0) return -1;
    int result = resized(fd, size), before = errno;
    close(fd);
    errno = before;
    return result;
}
int truncate64(const char *path, off_t size) { return truncate(path, size); }

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (!tracked(fd)) return syscall(SYS_fallocate, fd, mode, offset, length);
    if (mode) {
        errno = EOPNOTSUPP; /* punching holes is not modelled; callers have to live without it anyway */
        return -1;
    }
    return offset + length > size_of(fd) ? resized(fd, offset + length) : 0;
}
int fallocate64(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) { return fallocate(fd, 0, offset, length) ? errno : 0; }
int posix_fallocate64(int fd, off_t offset, off_t length) { return posix_fallocate(fd, offset, length); }

/* -- making durable */

static int synced(int fd, long call)
{
    if (!tracked(fd) || files[fd].ack) return syscall(call, fd);
    if (gate("sync", files[fd].path) == FAIL) return -1;
    int result = nosync ? 0 : syscall(call, fd);
    if (!result) record(count, "sync", files[fd].handle, 0, NULL, 0, 0, files[fd].path, "");
    return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* -- names */

int renameat2(int old_folder, const char *old, int new_folder, const char *new, unsigned flags)
{
    char from[4096], to[4096];
    absolute(from, sizeof from, old_folder, old);
    absolute(to, sizeof to, new_folder, new);
    if (!below(from) && !below(to)) return syscall(SYS_renameat2, old_folder, old, new_folder, new, flags);
    NAMED("rename", from, to, syscall(SYS_renameat2, old_folder, old, new_folder, new, flags));
}
int renameat(int a, const char *old, int b, const char *new) { return renameat2(a, old, b, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int linkat(int old_folder, const char *old, int new_folder, const char *new, int flags)
{
    char from[4096], to[4096];
    absolute(from, sizeof from, old_folder, old);
    absolute(to, sizeof to, new_folder, new);
    if (!below(to)) return syscall(SYS_linkat, old_folder, old, new_folder, new, flags);
    NAMED("link", from, to, syscall(SYS_linkat, old_folder, old, new_folder, new, flags));
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int folder, const char *name, int flags)
{
    char path[4096];
    absolute(path, sizeof path, folder, name);
    /* SQLite deletes a log that may not be there: no change, no operation. */
    if (!below(path) || faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW))
        return syscall(SYS_unlinkat, folder, name, flags);
    NAMED(flags & AT_REMOVEDIR ? "rmdir" : "unlink", path, "", syscall(SYS_unlinkat, folder, name, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode)
{
    char path[4096];
    absolute(path, sizeof path, folder, name);
    if (!below(path) || !faccessat(folder, name, F_OK, 0)) return syscall(SYS_mkdirat, folder, name, mode);
    NAMED("mkdir", path, "", syscall(SYS_mkdirat, folder, name, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
