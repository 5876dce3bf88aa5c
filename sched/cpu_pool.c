/* The pool: how threads share the tiles of a region, and how they sleep.
 *
 * Properties
 *   P1  Each tile of each region is computed exactly once, and no tile of a region before the last of the
 *       region in front of it.
 *   P2  A thread may be held up anywhere, for any time, by the system; unless it holds tiles, the others
 *       finish the run without it, and it does no harm when it comes back. Only the next submission of the same
 *       session waits until it has left.
 *   P3  Nobody waits for a sleeper: whoever is awake goes on. Nobody sleeps while there is work that nobody
 *       awake is going to take.
 *   P4  What is not worth sharing costs no atomic read-modify-write, no barrier and no waking, and a run of
 *       which nothing is worth sharing is not even shown to other threads.
 *   P5  Several runs share the threads by turns.
 *   P6  Nobody keeps a processor from those who could use it: no more threads are woken than there are
 *       processors, and one that finds that its processor was taken away while it had nothing to do sleeps.
 *
 * Problem. A token of a language model is some hundred regions of a few to a few hundred µs each. What is
 * paid per region (handing tiles out, knowing that all are done, starting the next) is paid hundreds of times
 * per token, while waking a parked thread takes 15-25 µs and a cache line takes 0.1 µs from core to core.
 *
 * Method
 *   Deciding. Kernels say what a record costs (bytes, operations), kernels/tuning.h what that takes; so a
 *     region has an estimate in ns whenever counts change. A region below share_ns is one unit, computed by
 *     one thread; others are as many units as they have tiles, claimed in portions of claim_ns. Consecutive
 *     regions of one unit are a serial run: one loop over their records (P4). Sleepers are woken only for
 *     work that lasts longer than their waking, and as much before it as that takes (cpu_run.c).
 *   Claiming. One 64-bit word per run holds (region << 32 | next unit). To claim, a thread loads the word,
 *     sees whether units are left, and adds how many it wants. The value that the addition returns, not the
 *     one loaded, says which units of which region they are: always a consistent pair, even if the region,
 *     or the run, has changed in between (P2). The word is replaced only when every unit of its region is done,
 *     hence claimed; a claim that falls before the replacement found nothing, one that falls behind it belongs
 *     to the new region (P1). Threads without units poll another word, `opened`, written after the claim word:
 *     polling the claim word would take its line away from those who claim. Who sees a new region there adds
 *     without looking first; others, and who has just come to the run, only when they see units left. So the claim
 *     word runs past the end by three claims of each thread at most (one for a region that it heard of late), however
 *     often it comes and goes, which must stay below the 2^31 that KILN__CPU_MAX_TILES leaves free.
 *   Finishing. `left` counts units not yet done. Who takes it to 0 has the run for itself: no other thread
 *     computes for it until a new word is published. It calls the observer's hook, computes serial runs,
 *     and publishes the next region with several units, or ends the run.
 *   Starting. kiln_run computes by itself up to the first region worth sharing with somebody who is awake or
 *     worth waking, and only then shows the run to others; where nothing in it is worth waking anybody for,
 *     cpu_company.c says whether somebody shall be awake. kiln_submit shows it at once, as perhaps nobody will
 *     wait.
 *   Sleeping. A thread without work polls for a while (spin_us, as long as a wake-up takes, so never
 *     worse than twice the best choice), then parks; at once, when the clock says that its processor was taken
 *     away between two polls (P6). Publishing hands out wake-up tokens for parked threads. A thread with a
 *     token counts as awake, so that none is signalled twice, and tokens are given up to awake_max. No wake-up
 *     is lost: the publisher writes the claim word, then reads `parked`; the sleeper writes `parked`, then
 *     reads the claim words. All four are sequentially consistent, so at least one sees the other's write. The
 *     sleeper does its part under the lock, which tokens are given under too, up to its wait. A thread beyond
 *     awake_max may sleep in spite of work, since awake_max others are awake and each looks before it sleeps.
 *     The waiting thread is a worker of its own run only, with `caller_parked` in the place of `parked`.
 *   Leaving. `helpers` counts the threads that may look at a run; the pool's enter under the lock while the
 *     run is on the ring of active runs, and leave when its claim word says closed. Submit and release wait
 *     for 0. Who leaves something to take, for good (a wait that times out, a guest) or for another run, wakes another
 *     thread for it: it may have been the only one awake, and the waiting thread may sleep (P3).
 *   Taking turns. A thread that has made KILN__CPU_QUANTUM claims in one run while others are active goes
 *     on to the next on the ring (P5); if it was computing alone, it publishes the next region as a single unit.
 *
 * Alternatives
 *   A barrier after each region (ggml, OpenMP): simple, but every thread must arrive: one that lost its
 *     processor stops all, and regions for one thread cost as much as any. Here only a thread with tiles
 *     counts.
 *   Fixed shares per thread: no claims to pay for, but the slowest thread sets the pace, badly so on an
 *     oversubscribed machine or with unequal cores. Claims of shrinking size are the compromise.
 *   A deque per worker with stealing: better with hundreds of cores; one word per region is enough for
 *     the sizes and core counts meant here, and it is the region order that matters.
 *   A futex per worker: not portable; the condition variable is only touched on the slow path.
 *   A pool per executor: simpler by the ring of runs, but hosts with several models would have several times
 *     as many threads as processors.
 */
#include "cpu_pool.h"
#include "thread.h"

/* ---- waking ----------------------------------------------------------------------------------------- */

static bool claimable(kiln__cpu_run *run) {
    /* Sequentially consistent: the sleeper's half of the handshake described above. */
    uint64_t word = atomic_load_explicit(&run->claim, memory_order_seq_cst);
    return (uint32_t)word < run->steps[word >> 32].units;
}

/* May one more of the pool's threads enter? Under the lock, which they enter under. */
static bool has_room(kiln__cpu_run *run) {
    /* Relaxed: who leaves the run looks at it again before it sleeps. */
    return atomic_load_explicit(&run->helpers, memory_order_relaxed) / KILN__CPU_INSIDE + 1 < run->threads;
}

static bool takeable(kiln__cpu_run *run) {
    return claimable(run) && has_room(run);
}

static bool something_takeable(const kiln_cpu_pool *pool) {
    kiln__cpu_run *run = pool->active;
    if (run == NULL)
        return false;
    do {
        if (takeable(run))
            return true;
        run = run->next;
    } while (run != pool->active);
    return false;
}

/* Under the lock: threads that are neither asleep nor about to be. */
static uint32_t awake(const kiln_cpu_pool *pool) {
    /* Relaxed: only changed under the lock. */
    return pool->present - atomic_load_explicit(&pool->parked, memory_order_relaxed);
}

/* Under the lock: gives up to `n` tokens; returns how many sleepers to signal. */
static uint32_t give_tokens(kiln_cpu_pool *pool, uint32_t n) {
    const uint32_t up = awake(pool), room = up < pool->awake_max ? pool->awake_max - up : 0;
    const uint32_t parked = pool->present - up;
    n = n < parked ? n : parked;
    n = n < room ? n : room;
    if (n > 0)
        pool->waker = kiln__thread_processor();
    atomic_store_explicit(&pool->parked, parked - n, memory_order_relaxed); /* relaxed: under the lock */
    pool->tokens += n;
    return n;
}

/* Without the lock, so that those who wake do not queue for it. */
static void signal_workers(kiln_cpu_pool *pool, uint32_t n) {
    if (n > 2)
        pthread_cond_broadcast(&pool->work); /* one system call; those without a token sleep on */
    else
        while (n-- > 0)
            pthread_cond_signal(&pool->work);
}

/* After the claim word was published: finds up to `n` sleepers to share the region with. */
static void wake(kiln__cpu_run *run, uint32_t n) {
    kiln_cpu_pool *pool = run->pool;
    /* Sequentially consistent: the publisher's half of the handshake, for both kinds of sleepers. */
    bool caller = atomic_load_explicit(&run->caller_parked, memory_order_seq_cst) != 0;
    if (!caller && atomic_load_explicit(&pool->parked, memory_order_seq_cst) == 0)
        return;
    pthread_mutex_lock(&pool->lock);
    /* Relaxed: under the lock. */
    if (atomic_load_explicit(&run->caller_parked, memory_order_relaxed)) {
        atomic_store_explicit(&run->caller_parked, 0, memory_order_relaxed);
        pthread_cond_broadcast(&run->changed);
        n--;
    }
    n = give_tokens(pool, n);
    pthread_mutex_unlock(&pool->lock);
    signal_workers(pool, n);
}

/* Tells those who poll that the claim word is new. */
static void announce(kiln__cpu_run *run, uint32_t r) {
    /* Relaxed: only written here, by one thread after another. */
    uint32_t times = (uint32_t)(atomic_load_explicit(&run->opened, memory_order_relaxed) >> 32) + 1;
    times += times == 0;
    /* Release: who sees it sees the claim word, or a later one. */
    atomic_store_explicit(&run->opened, (uint64_t)times << 32 | r, memory_order_release);
}

KILN__HOT void kiln__cpu_offer(kiln__cpu_run *run, uint32_t r, uint32_t index) {
    const kiln__tape *tape = run->run->tape;
    if (tape->timed & KILN__TIME_PROFILE) {
        kiln__profile_enter(tape->profile, index, (uint32_t)run->number);
        kiln__profile_note(tape->profile, index, KILN__PROFILE_OPEN, r, 0);
    }
    /* Relaxed: the word below orders it. */
    atomic_store_explicit(&run->left, run->steps[r].units, memory_order_relaxed);
    /* Sequentially consistent: as a release, it orders all results so far, `left` and the tape before any
     * claim in the region; beyond that it is the publisher's half of the handshake. */
    atomic_store_explicit(&run->claim, (uint64_t)r << 32, memory_order_seq_cst);
    announce(run, r);
}

void kiln__cpu_close(kiln__cpu_run *run) {
    const uint32_t r = run->run->tape->n_regions;
    atomic_store_explicit(&run->claim, (uint64_t)r << 32, memory_order_relaxed); /* no data goes with it */
    announce(run, r);
}

/* Makes region r claimable and wakes up to `n` threads (0: the publisher itself will come back to it). */
static void publish(kiln__cpu_lane *lane, uint32_t r, uint32_t n) {
    kiln__cpu_run *run = lane->run;
    kiln__cpu_offer(run, r, lane->index);
    if (n > 0)
        wake(run, n);
}

void kiln__cpu_enter(kiln__cpu_run *run, uint32_t region) {
    kiln_cpu_pool *pool = run->pool;
    pthread_mutex_lock(&pool->lock);
    if (pool->active == NULL) {
        run->next = run->prev = pool->active = run;
    } else {
        run->next = pool->active;
        run->prev = pool->active->prev;
        run->prev->next = run->next->prev = run;
    }
    /* Relaxed: a hint for spinning workers; the ring itself is under the lock. */
    atomic_fetch_add_explicit(&pool->n_active, 1, memory_order_relaxed);
    const bool taking_part = run->unshared;
    run->unshared = false;
    kiln__cpu_offer(run, region, 0); /* nobody else uses slot 0 now */
    /* Last, so that no waiting thread finds the run half started; taking it off the ring needs the lock. */
    kiln__cpu_set_phase(run, KILN__CPU_RUNNING);
    /* Sleepers look at the ring under the lock before they sleep, so no handshake is needed. Of a run that this
     * thread computes itself it takes a share; else even a region for one thread wakes one: nobody may ever wait. */
    uint32_t n = give_tokens(pool, taking_part                   ? run->steps[region].wake
                                   : run->steps[region].wake > 0 ? run->steps[region].wake
                                                                 : 1);
    pthread_mutex_unlock(&pool->lock);
    signal_workers(pool, n);
}

/* ---- computing -------------------------------------------------------------------------------------- */

static bool others_active(const kiln_cpu_pool *pool) {
    /* Relaxed: a hint, for fairness only. */
    return atomic_load_explicit(&pool->n_active, memory_order_relaxed) > 1;
}

/* Must the thread go, whatever there is to do? */
static bool has_to_go(const kiln__cpu_lane *lane) {
    /* Relaxed, both: they ask it to go, no data comes with it. */
    switch (lane->role) {
    case KILN__CPU_WORKER:
        return atomic_load_explicit(&lane->pool->stop, memory_order_relaxed);
    case KILN__CPU_GUEST:
        if (atomic_load_explicit(&lane->pool->dismissals, memory_order_relaxed) != lane->dismissals)
            return true;
        break;
    case KILN__CPU_CALLER:
        break;
    }
    return kiln__expired(lane->deadline);
}

/* Must the thread stop here, although it could go on alone? */
static bool leaving(kiln__cpu_lane *lane) {
    if (has_to_go(lane))
        return true;
    if (lane->credit > 0)
        lane->credit--;
    return lane->role != KILN__CPU_CALLER && lane->credit == 0 && others_active(lane->pool);
}

/* Regions to compute alone before looking up. */
static uint32_t stretch(const kiln__cpu_lane *lane) {
    return lane->deadline != KILN__NO_DEADLINE || others_active(lane->pool) ? 1 : KILN__CPU_STRETCH;
}

/* Region r is done, and this thread has the run for itself: on to the next region to share, or to the end. */
KILN__HOT static void advance(kiln__cpu_lane *lane, uint32_t r) {
    kiln__cpu_run *run = lane->run;
    while (kiln__cpu_region_end(run, r)) {
        r++;
        if (run->steps[r].units > 1) {
            publish(lane, r, run->steps[r].wake);
            return;
        }
        if (leaving(lane)) {
            publish(lane, r, 0); /* it comes back to it, or hands over what it leaves */
            return;
        }
        if (run->steps[r].wake > 0)
            wake(run, run->steps[r].wake);
        r = kiln__cpu_alone(run, &run->slots[lane->index], r, stretch(lane));
    }
}

/* How many units to claim when `n` are left: shrinking shares, so that threads end together, but not so small that
 * claiming costs more than computing. */
static uint32_t share(uint32_t n, uint32_t threads, const kiln__cpu_step *step) {
    uint32_t want = n / (4 * threads);
    return want < step->grain ? step->grain : want > step->most ? step->most : want;
}

KILN__HOT bool kiln__cpu_take(kiln__cpu_lane *lane, uint32_t *region, bool *done) {
    kiln__cpu_run *run = lane->run;
    /* Acquire: the claim word is as new as this. */
    const uint64_t opened = atomic_load_explicit(&run->opened, memory_order_acquire);
    if (opened == lane->emptied)
        return false;
    uint64_t word = opened << 32;
    /* Relaxed: only to see whether to try; what counts is what the addition returns. */
    if (opened == lane->tried || lane->tried == 0)
        word = atomic_load_explicit(&run->claim, memory_order_relaxed);
    uint32_t n = run->steps[word >> 32].units, first = (uint32_t)word;
    lane->tried = lane->emptied = opened;
    if (first >= n)
        return false;
    const bool skip = kiln__cpu_cancelled(run);
    const uint32_t want = skip ? KILN__CPU_DRAIN : share(n - first, run->threads, &run->steps[word >> 32]);
    /* Acquire: what the publisher wrote, and through it all results of the regions before. Additions by
     * others in between do not break that: they continue the publisher's release sequence. */
    word = atomic_fetch_add_explicit(&run->claim, want, memory_order_acquire);
    uint32_t r = (uint32_t)(word >> 32);
    n = run->steps[r].units;
    first = (uint32_t)word;
    if (first >= n)
        return false;
    lane->emptied = n - first <= want ? opened : 0;
    if (lane->credit > 0)
        lane->credit--;

    const uint32_t count = n - first < want ? n - first : want;
    kiln__cpu_slot *slot = &run->slots[lane->index];
    if (skip)
        kiln__cpu_add_trouble(run, KILN__CPU_SKIPPED);
    else if (n == 1)
        r = kiln__cpu_alone(run, slot, r, stretch(lane));
    else
        kiln__cpu_tiles(run, slot, r, first, first + count);
    /* Release: orders this thread's results and reports before the end of the region. Acquire: for the last
     * one, those of all the others. */
    *done = n == 1 || atomic_fetch_sub_explicit(&run->left, count, memory_order_acq_rel) == count;
    *region = r;
    return true;
}

/* Claims and computes, and goes on with the run when it has it for itself. */
KILN__HOT static bool claim(kiln__cpu_lane *lane) {
    uint32_t r;
    bool done;
    if (!kiln__cpu_take(lane, &r, &done))
        return false;
    if (done)
        advance(lane, r);
    lane->idle_since = lane->looked = 0;
    lane->worked = true;
    return true;
}

/* One turn of a loop without work. False: it has lasted spin_ns, or the processor was taken away meanwhile, so somebody
 * else needs it more. */
static bool spin(kiln__cpu_lane *lane, uint32_t *polls) {
    kiln__pause();
    if (++*polls % KILN__CPU_POLLS != 0)
        return true;
    if (*polls % 4096 == 0) { /* a long spin by request: let those with tiles run, */
        sched_yield();
        lane->emptied = 0; /* and look whether somebody published, and was held up before it said so */
    }
    const int64_t now = kiln__now_ns(), before = lane->looked;
    lane->looked = now;
    if (lane->idle_since == 0)
        lane->idle_since = now;
    if (now - lane->idle_since < lane->pool->spin_ns && (before == 0 || now - before < KILN__CPU_LOST_NS))
        return true;
    sched_yield(); /* if somebody with tiles waits for this processor, that may save the sleep */
    return false;
}

/* ---- workers and guests ----------------------------------------------------------------------------- */

/* The next run to work for: the first on the ring with something to take, else the next one to watch. NULL
 * when there is none that has room. The thread counts as its helper. */
static kiln__cpu_run *enter_next(kiln_cpu_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    kiln__cpu_run *run = pool->active, *watch = NULL;
    if (run != NULL) {
        do {
            if (takeable(run))
                break;
            if (watch == NULL && has_room(run))
                watch = run;
            run = run->next;
        } while (run != pool->active);
        run = takeable(run) ? run : watch;
    }
    if (run != NULL) {
        pool->active = run->next;
        /* Relaxed: the run is on the ring, so it has not ended; who ends it takes the lock behind us. */
        atomic_fetch_add_explicit(&run->helpers, KILN__CPU_HELPER, memory_order_relaxed);
    }
    pthread_mutex_unlock(&pool->lock);
    return run;
}

static void leave(kiln__cpu_run *run) {
    /* Release: orders all reads of the run before its reuse or release. */
    atomic_fetch_sub_explicit(&run->helpers, KILN__CPU_HELPER, memory_order_release);
}

/* Works for one run until it ends, another's turn has come, it gave nothing for too long, or the thread has to go.
 * False: it is time to sleep. */
static bool work(kiln__cpu_lane *lane) {
    kiln__cpu_run *run = lane->run;
    uint32_t polls = 0;
    lane->credit = KILN__CPU_QUANTUM;
    lane->tried = lane->emptied = 0;
    for (;;) {
        if (claim(lane)) {
            polls = 0;
            if (has_to_go(lane) || (lane->credit == 0 && others_active(lane->pool))) {
                if (claimable(run)) /* it may have been the only one awake, and may be away for long */
                    wake(run, 1);
                return true;
            }
            continue;
        }
        if (lane->brief)
            return true;
        /* Relaxed: no data goes with "closed". */
        uint64_t opened = atomic_load_explicit(&run->opened, memory_order_relaxed);
        if (run->steps[(uint32_t)opened].units == 0)
            return true;
        if (!spin(lane, &polls))
            return false;
        if (polls >= KILN__CPU_WATCH_POLLS && others_active(lane->pool))
            return true;
        if (lane->role == KILN__CPU_GUEST && has_to_go(lane))
            return true;
    }
}

/* Nothing to work for: polls for it. False: it is time to sleep. */
static bool look_out(kiln__cpu_lane *lane) {
    const kiln_cpu_pool *pool = lane->pool;
    /* Relaxed: a hint; the ring is looked at under the lock. */
    const uint32_t active = atomic_load_explicit(&pool->n_active, memory_order_relaxed);
    for (uint32_t polls = 0; polls < KILN__CPU_WATCH_POLLS || active == 0;) {
        if (!spin(lane, &polls))
            return false;
        if (atomic_load_explicit(&pool->n_active, memory_order_relaxed) != active || has_to_go(lane))
            break;
    }
    return true;
}

/* Sleeps until there is a token, or it has to go. */
static void park(const kiln__cpu_lane *lane) {
    kiln_cpu_pool *pool = lane->pool;
    int waker = -1;
    pthread_mutex_lock(&pool->lock);
    const bool surplus = awake(pool) > pool->awake_max; /* what there is to do, others are awake for */
    /* Sequentially consistent: the sleeper's half of the handshake; the other reads are in claimable. */
    atomic_fetch_add_explicit(&pool->parked, 1, memory_order_seq_cst);
    if (has_to_go(lane) || (!surplus && something_takeable(pool))) {
        atomic_fetch_sub_explicit(&pool->parked, 1, memory_order_relaxed); /* relaxed: under the lock */
    } else {
        while (pool->tokens == 0 && !has_to_go(lane))
            kiln__cond_wait(&pool->work, &pool->lock, lane->deadline);
        if (pool->tokens > 0) {
            pool->tokens--;
            waker = pool->waker;
        } else {
            atomic_fetch_sub_explicit(&pool->parked, 1, memory_order_relaxed); /* relaxed: under the lock */
        }
    }
    pthread_mutex_unlock(&pool->lock);
    /* Systems like to put who is woken beside its waker, who goes on computing: then it had to wait for a time slice, and
     * would again and again. */
    if (waker >= 0 && lane->role == KILN__CPU_WORKER && !pool->placed && waker == kiln__thread_processor())
        kiln__thread_move_away(waker);
}

void kiln__cpu_live(kiln__cpu_lane *lane) {
    if (lane->role == KILN__CPU_WORKER)
        park(lane); /* a new pool is asleep */
    while (!has_to_go(lane)) {
        bool stay = true;
        lane->worked = false;
        lane->run = enter_next(lane->pool);
        if (lane->run != NULL) {
            stay = work(lane);
            leave(lane->run);
        } else if (!lane->brief) {
            stay = look_out(lane);
        }
        if (lane->brief && !lane->worked)
            return;
        if (!stay) {
            park(lane);
            lane->idle_since = lane->looked = 0;
        }
    }
}

void kiln__cpu_hand_over(kiln_cpu_pool *pool, uint32_t seat) {
    pthread_mutex_lock(&pool->lock);
    pool->seats[seat] = false;
    pool->present--;
    uint32_t n = something_takeable(pool) ? give_tokens(pool, 1) : 0;
    pthread_mutex_unlock(&pool->lock);
    signal_workers(pool, n);
}

/* ---- the waiting thread ----------------------------------------------------------------------------- */

/* Sleeps until there is something to claim, the run is over, or the deadline. */
static void park_caller(kiln__cpu_run *run, uint64_t serial, int64_t deadline) {
    kiln_cpu_pool *pool = run->pool;
    pthread_mutex_lock(&pool->lock);
    /* Sequentially consistent: the sleeper's half of the handshake. */
    atomic_store_explicit(&run->caller_parked, 1, memory_order_seq_cst);
    if (!claimable(run))
        /* Relaxed: cleared under the lock. */
        while (atomic_load_explicit(&run->caller_parked, memory_order_relaxed) &&
               !kiln__cpu_over(run, serial) && !kiln__expired(deadline))
            kiln__cond_wait(&run->changed, &pool->lock, deadline);
    atomic_store_explicit(&run->caller_parked, 0, memory_order_relaxed); /* relaxed: under the lock */
    pthread_mutex_unlock(&pool->lock);
}

KILN__HOT kiln_status kiln__cpu_help(kiln__cpu_run *run, uint64_t serial, int64_t deadline) {
    kiln__cpu_lane lane = {.pool = run->pool, .run = run, .deadline = deadline};
    uint32_t polls = 0;
    while (!kiln__cpu_over(run, serial)) {
        if (kiln__expired(deadline)) {
            if (claimable(run)) /* it may have been the only one awake */
                wake(run, 1);
            return KILN_ERROR_TIMEOUT;
        }
        if (claim(&lane)) {
            polls = 0;
        } else if (!spin(&lane, &polls)) {
            park_caller(run, serial, deadline);
            lane.idle_since = lane.looked = 0;
            lane.emptied = 0; /* who published may have been held up before it said so */
        }
    }
    return KILN_OK;
}

static bool everybody_sleeps(const kiln_cpu_pool *pool) {
    /* Relaxed: a guess, which at worst costs a thread that has just become free its share of a region. */
    return pool->n_guests == 0 &&
           atomic_load_explicit(&pool->parked, memory_order_relaxed) == pool->n_workers;
}

/* Computes up to the first region that is worth showing to others: to who is awake, or would be woken for it; with
 * `alone`, to the latter only. *first: which. False: that was all. */
KILN__HOT static bool run_before(kiln__cpu_run *run, bool alone, uint32_t *first) {
    uint32_t r = 0;
    while (run->steps[r].units == 1 || (run->steps[r].wake == 0 && (alone || everybody_sleeps(run->pool)))) {
        if (run->steps[r].wake > 0)
            wake(run, run->steps[r].wake);
        r = kiln__cpu_alone(run, &run->slots[0], r, UINT32_MAX);
        if (!kiln__cpu_region_end(run, r))
            return false;
        r++;
    }
    *first = r;
    return true;
}

KILN__HOT void kiln__cpu_run_here(kiln__cpu_run *run, uint64_t serial) {
    const kiln_cpu_pool *pool = run->pool;
    const bool small = run->company > 0 && pool->n_guests == 0;
    bool company = true;
    uint32_t r;
    if (small) {
        const bool asleep = everybody_sleeps(pool);
        company = kiln__cpu_habit_begin(&run->habit, pool->spin_ns, asleep);
        if (company && asleep)
            wake(run, run->company);
    }
    if (run_before(run, !company, &r)) {
        kiln__cpu_enter(run, r);
        (void)kiln__cpu_help(run, serial, KILN__NO_DEADLINE);
    }
    if (small) /* the run is over, but this thread has the caller's place, so nobody else is here */
        kiln__cpu_habit_end(&run->habit);
}
