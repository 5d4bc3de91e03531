/* A wall clock that a test moves: preloaded into real programs, which then see the time of a simulated month.
 *
 * The file that HEADROOM_SOAK_CLOCK names says which moment here is which there, in nanoseconds, and how much slower the
 * clock runs there. Only the wall clock is moved: durations are measured by CLOCK_MONOTONIC, as ever. A wait until a
 * moment of the wall clock takes as long as it seems. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct setting {
    int64_t here, there, slower;
};
static const volatile struct {
    int64_t current; /* which of the two settings holds: the other one is written meanwhile */
    struct setting settings[2];
} *page;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("HEADROOM_SOAK_CLOCK");
    int descriptor = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (descriptor < 0)
        return;
    void *mapped = mmap(0, 4096, PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapped != MAP_FAILED)
        page = mapped;
    close(descriptor);
}

static int64_t nanoseconds(const struct timespec *at)
{
    return at->tv_sec * INT64_C(1000000000) + at->tv_nsec;
}

static struct timespec moment(int64_t nanoseconds)
{
    return (struct timespec){.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
}

static int64_t there(int64_t here)
{
    struct setting now = page->settings[page->current];
    return now.there + (here - now.here) / now.slower;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, at);
    if (!status && page && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *at = moment(there(nanoseconds(at)));
    return status;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *at, int base)
{
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, at) ? base : 0;
}

/* A moment on the kernel's clock. One of CLOCK_MONOTONIC, which counts from the machine's start, stays as it is. */
static struct timespec due(const struct timespec *at)
{
    struct timespec now;
    if (!page || at->tv_sec < 500000000 || syscall(SYS_clock_gettime, CLOCK_REALTIME, &now))
        return *at;
    int64_t here = nanoseconds(&now);
    return moment(here + nanoseconds(at) - there(here));
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict at)
{
    static int (*real)(sem_t *, const struct timespec *);
    struct timespec moved = due(at);
    if (!real)
        real = dlsym(RTLD_NEXT, "sem_timedwait");
    return real(semaphore, &moved);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict at)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec moved = due(at);
    if (!real)
        real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real)
        real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return real(condition, mutex, &moved);
}
