#include "dot.h"
#include "plan.h"
#include "regions.h"

#include <string.h>

/* Text inside a quoted DOT string. Names come from files, so everything that could end the string goes. */
static void put_text(FILE *file, const char *text) {
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fputc('\\', file);
        fputc(c < 0x20 || c == 0x7f ? ' ' : c, file);
    }
}

/* What a node makes: "f32 [n_tokens, 64]" of its first output. */
static void put_output(FILE *file, const kiln_graph *g, const kiln__node *n) {
    char shape[KILN__SHAPE_SIZE];
    uint32_t id = n->n_out > 0 ? kiln__node_out(g, n)[0] : 0;
    if (id == 0)
        return;
    const kiln_desc *desc = kiln__desc_of(g, &g->tensors.items[id]);
    fputs("\\n", file);
    put_text(file, kiln_dtype_get(desc->dtype)->name);
    fputc(' ', file);
    put_text(file, kiln__shape_text(g, desc, shape));
}

static bool is_matrix(const char *op) {
    return strncmp(op, "matmul", 6) == 0;
}

static void put_region(FILE *file, const kiln_plan *plan, uint32_t r) {
    const kiln__schedule *s = &plan->schedule;
    const kiln_graph *g = plan->program;
    fprintf(file, "  subgraph cluster_%u {\n    label=\"region %u\"; style=\"rounded\"; color=\"#b0b0b0\";\n",
            r, r);
    for (uint32_t i = s->region_first[r]; i < s->region_first[r + 1]; i++) {
        uint32_t node = s->order[i];
        const kiln__node *n = &g->nodes.items[node];
        char label[KILN__LABEL_SIZE];
        fprintf(file, "    n%u [label=\"", node);
        put_text(file, n->op->name);
        fputs("\\n", file);
        put_text(file, kiln__node_label(g, node, label));
        put_output(file, g, n);
        fprintf(file, "\"%s];\n", is_matrix(n->op->name) ? ", fillcolor=\"#dbe9ff\"" : "");
    }
    fputs("  }\n", file);
}

/* The barrier after region r, and why it is there; pale when one thread computes on both sides of it. */
static void put_barrier(FILE *file, const kiln_plan *plan, uint32_t r, bool pale) {
    const kiln__schedule *s = &plan->schedule;
    const kiln__barrier *b = &s->barriers[r];
    char from[KILN__LABEL_SIZE], to[KILN__LABEL_SIZE];
    fprintf(file, "  b%u [shape=box, style=filled, fillcolor=\"%s\", fontcolor=%s, height=0.2, label=\"", r,
            pale ? "#f2d7d5" : "#c0392b", pale ? "black" : "white");
    fprintf(file, "barrier %u: %s", r, kiln__barrier_cause_names[b->cause]);
    if (b->hazard != KILN__NO_HAZARD) {
        const kiln__hazard *h = &plan->hazards.items[b->hazard];
        const kiln__access *a = &plan->hazards.list.items[h->to_access];
        fprintf(file, ", %s ", kiln__hazard_kind_names[h->kind]);
        put_text(file, kiln__node_label(plan->program, h->from, from));
        fputs(" \xe2\x86\x92 ", file);
        put_text(file, kiln__node_label(plan->program, h->to, to));
        if (a->storage != 0 && plan->program->storages.items[a->storage].name != 0) {
            fputs(" on ", file);
            put_text(file, kiln__text(plan->program, plan->program->storages.items[a->storage].name));
        }
    }
    fputs("\"];\n", file);
}

/* Invisible edges keep a barrier's bar between the boxes of the two regions. */
static void put_barrier_edges(FILE *file, const kiln_plan *plan, uint32_t r) {
    const kiln__schedule *s = &plan->schedule;
    for (uint32_t i = s->region_first[r]; i < s->region_first[r + 1]; i++)
        fprintf(file, "  n%u -> b%u [style=invis, weight=10];\n", s->order[i], r);
    for (uint32_t i = s->region_first[r + 1]; i < s->region_first[r + 2]; i++)
        fprintf(file, "  b%u -> n%u [style=invis, weight=10];\n", r, s->order[i]);
}

/* Regions and the barriers after them, from top to bottom, those of a serial run in its frame. No edges:
 * readers may put a node into the frame in which it is first named, so all frames come before the first
 * edge. */
static void put_regions(FILE *file, const kiln_plan *plan, const kiln_session *session) {
    const kiln__schedule *s = &plan->schedule;
    uint32_t last = 0; /* of the serial run that r is in */
    bool inside = false;
    for (uint32_t r = 0; r < s->n_regions; r++) {
        const kiln__region_info info =
            session != NULL ? kiln__session_region(session, r) : (kiln__region_info){.shared = true};
        if (info.serial_regions > 0) {
            char text[48];
            inside = true;
            last = r + info.serial_regions - 1;
            fprintf(file,
                    "  subgraph cluster_serial_%u {\n  label=\"%s\"; style=\"rounded,dashed\"; "
                    "color=\"#2e7d32\";\n",
                    r, serial_run_text(info.serial_records, text));
        }
        put_region(file, plan, r);
        bool ends = inside && r == last;
        if (ends)
            fputs("  }\n", file);
        inside = inside && !ends;
        if (r < s->n_barriers)
            put_barrier(file, plan, r, inside);
    }
}

void dot_write(FILE *file, const kiln_plan *plan, const kiln_session *session) {
    const kiln__schedule *s = &plan->schedule;
    const kiln__hazards *h = &plan->hazards;
    fprintf(file,
            "digraph plan {\n"
            "  label=\"%u ops in %u regions; %u barriers kept, %u avoided\"; labelloc=t; "
            "fontname=\"sans-serif\";\n"
            "  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\", "
            "fontsize=10];\n"
            "  edge [color=\"#606060\"];\n  rankdir=TB; newrank=true;\n",
            s->n_nodes, s->n_regions, s->n_barriers, s->barriers_avoided);
    put_regions(file, plan, session);
    for (uint32_t r = 0; r < s->n_barriers; r++)
        put_barrier_edges(file, plan, r);
    for (size_t i = 0; i < h->count; i++)
        fprintf(file, "  n%u -> n%u%s;\n", h->items[i].from, h->items[i].to,
                h->items[i].kind == KILN__RAW ? "" : " [style=dashed, color=\"#a0a0a0\"]");
    fputs("}\n", file);
}
