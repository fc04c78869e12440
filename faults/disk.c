/* Preloaded into a server: what its disk does, as the first byte of the file $FAULTS_DISK says. The second one says who met it.
   's': fsync takes half a second, a write a twentieth; 'f': no space is left for a write; 'b': fsync and writes fail with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char nothing[2] = "--";
static volatile char *said = nothing;

__attribute__((constructor)) static void look(void)
{
    const char *path = getenv("FAULTS_DISK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, 2, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page != MAP_FAILED)
        said = page;
}

static int is_file(int fd)
{
    struct stat about;
    int before = errno, found = fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
    errno = before;
    return found;
}

static int fails(int fd, int writing)
{
    char now = said[0];
    if (now == '-' || !is_file(fd))
        return 0;
    if (now == 's' || now == 'b' || writing)
        said[1] = '!';
    if (now == 's')
        usleep(writing ? 50000 : 500000);
    errno = now == 'f' ? ENOSPC : EIO;
    return now == 'b' || (now == 'f' && writing);
}

#define DISK(type, name, writing, parameters, arguments)                \
    type name parameters                                                \
    {                                                                   \
        static type (*real) parameters;                                 \
        if (!real)                                                      \
            real = (type (*) parameters)dlsym(RTLD_NEXT, #name);        \
        return fails(fd, writing) ? -1 : real arguments;                \
    }

DISK(int, fsync, 0, (int fd), (fd))
DISK(int, fdatasync, 0, (int fd), (fd))
DISK(ssize_t, write, 1, (int fd, const void *data, size_t size), (fd, data, size))
DISK(ssize_t, writev, 1, (int fd, const struct iovec *parts, int count), (fd, parts, count))
DISK(ssize_t, pwrite, 1, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
DISK(ssize_t, pwrite64, 1, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
DISK(ssize_t, pwritev, 1, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at))
DISK(ssize_t, pwritev64, 1, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at))
