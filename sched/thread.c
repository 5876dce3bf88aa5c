#if defined(__linux__)
#define _GNU_SOURCE /* sched_getaffinity, pthread_setname_np */
#endif

#include "thread.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <pthread/qos.h>
#endif

#if defined(__linux__)
/* As wide as kernels are built at most (NR_CPUS): the system refuses a set that is narrower than its own. */
typedef struct processor_set {
    cpu_set_t part[8192 / CPU_SETSIZE];
} processor_set;
#endif

uint32_t kiln__processors(void) {
#if defined(__linux__)
    processor_set set;
    if (sched_getaffinity(0, sizeof set, set.part) == 0 && CPU_COUNT_S(sizeof set, set.part) > 0)
        return (uint32_t)CPU_COUNT_S(sizeof set, set.part);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > UINT16_MAX ? UINT16_MAX : (uint32_t)n;
}

/* ---- starting --------------------------------------------------------------------------------------- */

/* Systems want a least size, and some whole pages. */
static int set_stack(pthread_attr_t *attr, size_t stack) {
    const long asked = sysconf(_SC_PAGESIZE), least = sysconf(_SC_THREAD_STACK_MIN);
    const size_t page = asked > 0 ? (size_t)asked : 4096;
    if (least > 0 && stack < (size_t)least)
        stack = (size_t)least;
    if (stack > SIZE_MAX - page)
        return ENOMEM;
    return pthread_attr_setstacksize(attr, (stack + page - 1) / page * page);
}

int kiln__thread_start(pthread_t *out, size_t stack, void *(*main)(void *), void *arg) {
    pthread_attr_t attr;
    sigset_t all, before;
    int refused = pthread_attr_init(&attr);
    if (refused != 0)
        return refused;
    if (stack > 0)
        refused = set_stack(&attr, stack);
    sigfillset(&all);
    if (refused == 0)
        refused = pthread_sigmask(SIG_SETMASK, &all, &before); /* threads begin with their maker's mask */
    if (refused == 0) {
        refused = pthread_create(out, &attr, main, arg);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attr);
    return refused;
}

/* ---- settling --------------------------------------------------------------------------------------- */

/* Workers are numbered from 1 in names, as in everything else. */
static void set_name(const char *name, uint32_t index) {
#if defined(__linux__)
    char text[16]; /* what the kernel keeps */
    char number[12];
    int digits = snprintf(number, sizeof number, "-%u", (unsigned)index + 1);
    snprintf(text, sizeof text, "%.*s%s", (int)sizeof text - 1 - digits, name, number);
    pthread_setname_np(pthread_self(), text);
#elif defined(__APPLE__)
    char text[64];
    snprintf(text, sizeof text, "%.48s-%u", name, (unsigned)index + 1);
    pthread_setname_np(text);
#else
    (void)name;
    (void)index;
#endif
}

bool kiln__thread_has_affinity(void) {
#if defined(__linux__)
    return true;
#else
    return false;
#endif
}

int kiln__thread_processor(void) {
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

void kiln__thread_move_away(int processor) {
#if defined(__linux__)
    processor_set all, others;
    if (processor < 0 || (size_t)processor >= 8 * sizeof all ||
        sched_getaffinity(0, sizeof all, all.part) != 0)
        return;
    others = all;
    CPU_CLR_S((size_t)processor, sizeof others, others.part);
    if (CPU_COUNT_S(sizeof others, others.part) == 0 || sched_setaffinity(0, sizeof others, others.part) != 0)
        return;
    (void)sched_setaffinity(0, sizeof all, all.part); /* what it was a moment ago */
#else
    (void)processor;
#endif
}

static int set_affinity(uint32_t processor) {
#if defined(__linux__)
    processor_set set;
    if (processor >= 8 * sizeof set)
        return EINVAL;
    CPU_ZERO_S(sizeof set, set.part);
    CPU_SET_S(processor, sizeof set, set.part);
    return sched_setaffinity(0, sizeof set, set.part) == 0 ? 0 : errno; /* 0: of the calling thread */
#else
    (void)processor;
    return ENOTSUP;
#endif
}

static int set_realtime(void) {
    struct sched_param param = {.sched_priority = sched_get_priority_min(SCHED_FIFO)};
    return pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
}

static int set_priority(kiln_priority priority) {
    if (priority == KILN_PRIORITY_NORMAL)
        return 0;
    if (priority == KILN_PRIORITY_REALTIME)
        return set_realtime();
    const bool low = priority == KILN_PRIORITY_LOW;
#if defined(__linux__)
    /* On Linux a nice value belongs to a thread, and counts among those that share time. */
    const id_t self = (id_t)syscall(SYS_gettid);
    const int now = getpriority(PRIO_PROCESS, self),
              wanted = low ? (now > 10 ? now : 10) : (now < -10 ? now : -10);
    int refused =
        pthread_setschedparam(pthread_self(), SCHED_OTHER, &(struct sched_param){.sched_priority = 0});
    if (refused != 0)
        return refused;
    return setpriority(PRIO_PROCESS, self, wanted) == 0 ? 0 : errno;
#elif defined(__APPLE__)
    return pthread_set_qos_class_self_np(low ? QOS_CLASS_UTILITY : QOS_CLASS_USER_INTERACTIVE, 0);
#else
    (void)low;
    return ENOTSUP;
#endif
}

int kiln__thread_settle(const kiln_cpu_pool_options *options, uint32_t index, char *text, size_t size) {
    set_name(options->name != NULL ? options->name : "kiln", index);
    if (options->n_affinity > 0) {
        const uint32_t processor = options->affinity[index % options->n_affinity];
        int refused = set_affinity(processor);
        if (refused != 0) {
            snprintf(text, size, "worker %u was refused processor %u (is it one of this process's?)",
                     (unsigned)index + 1, (unsigned)processor);
            return refused;
        }
    }
    int refused = set_priority(options->priority);
    if (refused != 0)
        snprintf(text, size, "worker %u was refused priority '%s' (that may want privileges)",
                 (unsigned)index + 1,
                 (const char *[]){"normal", "low", "high", "realtime"}[options->priority]);
    return refused;
}
