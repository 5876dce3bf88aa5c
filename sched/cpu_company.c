/* Whether kiln_run shares regions that are not worth waking anybody for. One such run is over before a sleeper is up. Where
 * they follow one another closely, as in the decode loop of a small model, a thread that was woken once stays awake from
 * run to run, and saves up to half of the time, or loses some: that depends on the processors' caches and on who else uses
 * them, so it is measured and not estimated. Windows of runs alone and in company are timed by turns. Company is kept
 * where each of its windows was faster than those alone before and behind it (runs may grow longer meanwhile), alone where
 * none was, else what was there before; and after a while they are compared again, ever more rarely while nothing
 * changes. */
#include "cpu_pool.h"

enum {
    WINDOWS = 5,     /* of a comparison: alone, in company, alone, … */
    WINDOW = 12,     /* runs each, of which the first */
    SETTLING = 4,    /* are not timed: who was woken is not up yet */
    HOLD = 512,      /* runs until the next comparison, at first */
    HOLD_MAX = 8192, /* in which a processor may come to be shared, or free */
    CLOSE = 4,       /* runs that have to follow closely, before anybody is woken for the next */
    GAIN = 32        /* company must save a 32nd at least: it costs a processor */
};

_Static_assert(WINDOWS == sizeof((kiln__cpu_habit){0}.ns) / sizeof(int64_t), "a time for each");

static bool comparing(const kiln__cpu_habit *h) {
    return h->window < WINDOWS;
}

bool kiln__cpu_habit_begin(kiln__cpu_habit *h, int64_t spin_ns, bool asleep) {
    if (!comparing(h) && (!h->company || !asleep))
        return h->company;
    h->began = kiln__now_ns();
    if (h->began - h->ended <= spin_ns) {
        h->close += h->close < CLOSE;
    } else { /* who was awake after the last run is asleep */
        h->close = 0;
        /* From the beginning: else short bursts of runs might have company for ever, and never settle. */
        if (comparing(h))
            h->window = h->runs = 0;
    }
    return h->close == CLOSE && (comparing(h) ? h->window % 2 == 1 : h->company);
}

static bool is_faster(const kiln__cpu_habit *h, uint32_t window) {
    const int64_t before = h->ns[window - 1], behind = h->ns[window + 1];
    const int64_t alone = before < behind ? before : behind;
    return h->ns[window] < alone - alone / GAIN;
}

/* All windows have been timed. */
static void settle(kiln__cpu_habit *h) {
    const uint32_t votes = (uint32_t)is_faster(h, 1) + is_faster(h, 3);
    const bool company = votes == 1 ? h->company : votes == 2;
    h->hold = company != h->company || h->hold == 0 ? HOLD : h->hold < HOLD_MAX ? 2 * h->hold : h->hold;
    h->company = company;
}

void kiln__cpu_habit_end(kiln__cpu_habit *h) {
    const uint32_t run = h->runs++;
    if (!comparing(h)) {
        if (h->company)
            h->ended = kiln__now_ns();
        if (h->runs >= h->hold)
            h->window = h->runs = 0;
        return;
    }
    h->ended = kiln__now_ns();
    h->ns[h->window] = run <= SETTLING ? 0 : h->ns[h->window];
    h->ns[h->window] += h->ended - h->began;
    if (h->runs < WINDOW)
        return;
    h->runs = 0;
    if (++h->window == WINDOWS)
        settle(h);
}
