#include "regions.h"
#include "plan.h"

static const char *time_text(int64_t ns, char buffer[32]) {
    if (ns < 1000000)
        snprintf(buffer, 32, "%.1f us", (double)ns / 1e3);
    else
        snprintf(buffer, 32, "%.1f ms", (double)ns / 1e6);
    return buffer;
}

const char *serial_run_text(uint32_t records, char buffer[48]) {
    snprintf(buffer, 48, "serial run of %u record%s", records, records == 1 ? "" : "s");
    return buffer;
}

static void print_executor(FILE *file, const char *prefix, const kiln_session *s) {
    uint32_t threads = kiln_executor_threads(s->executor);
    fprintf(file, "%sexecutor: %s, %s, %u thread%s", prefix, kiln_executor_name(s->executor),
            kiln_executor_level(s->executor), threads, threads == 1 ? "" : "s");
}

static void print_serial_run(FILE *file, const kiln_session *s, uint32_t first,
                             const kiln__region_info *info) {
    int64_t ns = 0;
    char records[48], time[32];
    for (uint32_t r = first; r < first + info->serial_regions; r++)
        ns = kiln__session_region(s, r).estimate < INT64_MAX - ns ? ns + kiln__session_region(s, r).estimate
                                                                  : INT64_MAX;
    if (info->serial_regions == 1)
        fprintf(file, "  region %u", first);
    else
        fprintf(file, "  regions %u to %u", first, first + info->serial_regions - 1);
    fprintf(file, ": %s, about %s\n", serial_run_text(info->serial_records, records), time_text(ns, time));
}

void print_regions(FILE *file, const kiln_session *s) {
    char time[32];
    print_executor(file, "", s);
    fputc('\n', file);
    for (uint32_t r = 0; r < s->tape.n_regions; r++) {
        const kiln__region_info info = kiln__session_region(s, r);
        if (info.serial_regions > 0)
            print_serial_run(file, s, r, &info);
        if (!info.shared)
            continue;
        fprintf(file, "  region %u: shared, %lld tiles in portions of %u, about %s on one thread", r,
                (long long)info.tiles, info.grain, time_text(info.estimate, time));
        if (info.wakes > 0)
            fprintf(file, ", wakes %u", info.wakes);
        fputc('\n', file);
    }
}

/* What a barrier is for: "raw x -> y", a write and what reads it. */
static void print_cause(FILE *file, const kiln_plan *plan, const kiln__barrier *b) {
    char from[KILN__LABEL_SIZE], to[KILN__LABEL_SIZE];
    if (b->hazard == KILN__NO_HAZARD) {
        fprintf(file, "%s", kiln__barrier_cause_names[b->cause]);
        return;
    }
    const kiln__hazard *h = &plan->hazards.items[b->hazard];
    fprintf(file, "%s %s -> %s", kiln__hazard_kind_names[h->kind],
            kiln__node_label(plan->program, h->from, from), kiln__node_label(plan->program, h->to, to));
}

void print_plan_regions(FILE *file, const kiln_plan *plan, uint32_t first, uint32_t n) {
    const kiln__schedule *s = &plan->schedule;
    for (uint32_t r = first; r < s->n_regions && r - first < n; r++) {
        char ops[64] = "";
        size_t used = 0;
        for (uint32_t i = s->region_first[r]; i < s->region_first[r + 1] && used < sizeof ops - 1; i++)
            used += (size_t)snprintf(ops + used, sizeof ops - used, "%s%s", used == 0 ? "" : ", ",
                                     plan->program->nodes.items[s->order[i]].op->name);
        fprintf(file, "  %4u    %s", r, ops);
        if (r > 0) {
            fprintf(file, "%*s", used < 42 ? (int)(42 - used) : 2, "");
            print_cause(file, plan, &s->barriers[r - 1]);
        }
        fputc('\n', file);
    }
}

void print_regions_summary(FILE *file, const char *prefix, const kiln_session *s) {
    uint32_t shared = 0, runs = 0, longest = 0;
    char records[48];
    for (uint32_t r = 0; r < s->tape.n_regions; r++) {
        const kiln__region_info info = kiln__session_region(s, r);
        shared += info.shared;
        runs += info.serial_regions > 0;
        longest = info.serial_records > longest ? info.serial_records : longest;
    }
    print_executor(file, prefix, s);
    fprintf(file, "; %u region%s shared", shared, shared == 1 ? "" : "s");
    if (runs == 1)
        fprintf(file, ", and a %s", serial_run_text(longest, records));
    else if (runs > 1)
        fprintf(file, ", and %u serial runs, the longest a %s", runs, serial_run_text(longest, records));
    fputc('\n', file);
}
