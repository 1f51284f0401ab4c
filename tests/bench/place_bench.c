/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move-least: shards that move when a node joins or leaves, against the least that must, at 6, 24,
 * 96 and 1,000 nodes; a line for each and one for the worst of all. Of the same tables,
 * fullest-target: the fullest target against the fullest of the best placement that the spread
 * rules allow. What the least and the best are: place/measure.h. These repeat to the shard; what
 * stands as noise is how far the worst case lies from the median one. The cases of a number of
 * nodes: nodes of about the same weight and of 1 : 2, with targets of 1 : 2 in each; 4 and 32
 * targets a node; a node that joins, or each of three that leave; ec 4+2 in 65,536 partitions.
 *
 * table-1000: the table of 1,000 nodes with 32 targets each, 65,536 x 12, drawn and balanced from
 * nothing. table-1000-join, table-1000-leave: the same after a node has joined or left, from the
 * former table, with the list of fixes that goes into the map: what the one that changes the map
 * does. The others apply the fixes in place of balancing. table-1000-rows and so on: likewise with
 * the nodes in 50 racks and 5 rows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "bench.h"
#include "place/measure.h"

enum { WIDTH = 6, BITS = PLACE_BITS_DEFAULT, CASES_MAX = 128 };

struct sample {
    double value, baseline;
};

struct samples {
    struct sample list[CASES_MAX];
    unsigned count;
};

static int compare_samples(const void *left, const void *right)
{
    const struct sample *a = left;
    const struct sample *b = right;
    const double x = a->value * b->baseline;
    const double y = b->value * a->baseline;

    return x < y ? -1 : x > y;
}

static void note(struct samples *samples, double value, double baseline)
{
    CHECK(samples->count < CASES_MAX);
    samples->list[samples->count++] = (struct sample){value, baseline};
}

static void print_worst(struct samples *samples, const char *name, const char *unit)
{
    qsort(samples->list, samples->count, sizeof(samples->list[0]), compare_samples);
    const struct sample *worst = &samples->list[samples->count - 1];
    const struct sample *median = &samples->list[samples->count / 2];
    bench_print(&(struct bench_figure){
        .name = name,
        .unit = unit,
        .value = worst->value,
        .baseline = worst->baseline,
        .noise = worst->value / worst->baseline / (median->value / median->baseline) - 1,
        .goal = 1.10,
    });
}

/* From one set of targets to the next, as the cluster goes. */
static struct place_table step(const struct cluster *was, const struct place_table *before,
                               const struct cluster *is, struct samples *moves,
                               struct samples *fullest)
{
    struct place_table after = table_balanced(is, before, BITS, WIDTH);
    const struct movement m = table_movement(was, before, is, &after);

    note(moves, m.moved, m.least);
    note(fullest, table_fullest(is, &after), 1);
    return after;
}

static void run_case(unsigned nodes, unsigned per_node, unsigned unequal, struct samples *moves,
                     struct samples *fullest)
{
    const unsigned leavers[] = {0, nodes / 2, nodes - 1};
    struct cluster was = cluster_new(nodes + 1, per_node, unequal);
    struct cluster is = cluster_copy(&was);

    cluster_set_node(&was, nodes, false);
    struct place_table before = table_balanced(&was, NULL, BITS, WIDTH);
    note(fullest, table_fullest(&was, &before), 1);
    struct place_table after = step(&was, &before, &is, moves, fullest);
    table_free(&after);
    for (size_t i = 0; i < ARRAY_LEN(leavers); i++) {
        memcpy(is.targets, was.targets, was.count * sizeof(*was.targets));
        cluster_set_node(&is, leavers[i], false);
        after = step(&was, &before, &is, moves, fullest);
        table_free(&after);
    }
    table_free(&before);
    cluster_free(&was);
    cluster_free(&is);
}

static void bench_moves(void)
{
    static const unsigned sizes[] = {6, 24, 96, 1000};
    static struct samples all_moves, all_fullest;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct samples moves = {0};
        struct samples fullest = {0};
        for (unsigned per_node = 4; per_node <= 32; per_node += 28) {
            for (unsigned unequal = 0; unequal <= 4; unequal += 4)
                run_case(sizes[i], per_node, unequal, &moves, &fullest);
        }
        for (unsigned j = 0; j < moves.count; j++)
            note(&all_moves, moves.list[j].value, moves.list[j].baseline);
        for (unsigned j = 0; j < fullest.count; j++)
            note(&all_fullest, fullest.list[j].value, fullest.list[j].baseline);
        char name[32];
        snprintf(name, sizeof(name), "move-least-%u", sizes[i]);
        print_worst(&moves, name, "shards");
        snprintf(name, sizeof(name), "fullest-target-%u", sizes[i]);
        print_worst(&fullest, name, "x its share");
    }
    print_worst(&all_moves, "move-least", "shards");
    print_worst(&all_fullest, "fullest-target", "x its share");
}

/* ---- table-1000 ---- */

struct thousand {
    struct cluster was, is;
    struct place_table hashed, updated, table, changed;
    struct place_fix *fixes;
    size_t room;
};

static double run_build(void *context)
{
    struct thousand *t = context;
    const uint64_t start = bench_cpu_ns();

    CHECK(place_table_build(&t->hashed, table_rows(&t->hashed),
                            place_table_bytes(BITS, t->hashed.widths), t->was.targets,
                            t->was.count, BITS, t->hashed.widths) == 0);
    CHECK(place_table_balance(&t->table, &t->hashed, NULL, t->was.targets, t->was.count) == 0);
    return (double)(bench_cpu_ns() - start) / 1e9;
}

static double run_change(void *context)
{
    struct thousand *t = context;
    const uint64_t start = bench_cpu_ns();

    memcpy(table_rows(&t->updated), table_rows(&t->hashed),
           place_table_bytes(BITS, t->hashed.widths));
    CHECK(place_table_update(&t->updated, t->was.targets, t->was.count, t->is.targets,
                             t->is.count) == 0);
    CHECK(place_table_balance(&t->changed, &t->updated, &t->table, t->is.targets, t->is.count) ==
          0);
    CHECK(place_fixes(&t->updated, &t->changed, t->fixes, t->room) <= t->room);
    return (double)(bench_cpu_ns() - start) / 1e9;
}

static void print_time(const char *name, double (*run)(void *context), struct thousand *t,
                       double goal, unsigned pairs)
{
    const struct bench_pairs p = bench_pairs(&(struct bench_side){run, t}, NULL, pairs);

    bench_print(&(struct bench_figure){
        .name = name, .unit = "s", .value = p.ours, .noise = p.noise, .goal = goal});
}

/* Ten racks of twenty nodes in each row. */
static void enter_rows(struct cluster *c)
{
    for (size_t i = 0; i < c->count; i++) {
        const uint32_t rack = MIN(c->targets[i].node / 20, 49u);
        c->targets[i].domain = 1 + rack;
        c->targets[i].zone = 1 + rack / 10;
    }
}

struct table_names {
    const char *build, *join, *leave;
};

static void bench_table(const struct table_names *names, bool rows)
{
    struct thousand t = {
        .was = cluster_new(1001, 32, 4),
        .hashed = table_empty(BITS, PLACE_WIDTH_MAX),
        .updated = table_empty(BITS, PLACE_WIDTH_MAX),
        .table = table_empty(BITS, PLACE_WIDTH_MAX),
        .changed = table_empty(BITS, PLACE_WIDTH_MAX),
        .room = (size_t)PLACE_WIDTH_MAX << BITS,
    };

    t.fixes = calloc(t.room, sizeof(*t.fixes));
    CHECK(t.fixes != NULL);
    if (rows)
        enter_rows(&t.was);
    cluster_set_node(&t.was, 1000, false);
    t.is = cluster_copy(&t.was);
    print_time(names->build, run_build, &t, 1, 3);
    cluster_set_node(&t.is, 1000, true);
    print_time(names->join, run_change, &t, 0.1, 15);
    memcpy(t.is.targets, t.was.targets, t.was.count * sizeof(*t.was.targets));
    cluster_set_node(&t.is, 500, false);
    print_time(names->leave, run_change, &t, 0.1, 15);
    free(t.fixes);
    cluster_free(&t.was);
    cluster_free(&t.is);
    table_free(&t.hashed);
    table_free(&t.updated);
    table_free(&t.table);
    table_free(&t.changed);
}

int main(int argc, char **argv)
{
    bench_start(argc, argv, "Place shards: what moves, how even they lie, how long it takes.");
    bench_moves();
    bench_table(&(struct table_names){"table-1000", "table-1000-join", "table-1000-leave"}, false);
    bench_table(&(struct table_names){"table-1000-rows", "table-1000-rows-join",
                                      "table-1000-rows-leave"},
                true);
    return 0;
}
