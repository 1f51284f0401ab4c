/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one simulation is made from: everything that decides how it goes, and nothing else.
 */
#ifndef SHOAL_TESTS_SIM_OPTIONS_H
#define SHOAL_TESTS_SIM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/planted.h"

#define SIM_KEYS 24u
#define SIM_OPERATIONS 600u
#define SIM_FAULTS_ALL UINT32_MAX

/* Kinds of faults; faults.c has what they do, and how often each comes. */
#define SIM_FAULT_LIST(X)                                                                          \
    X(crash)                                                                                       \
    X(crash_all)                                                                                   \
    X(authority)                                                                                   \
    X(cut)                                                                                         \
    X(partition)                                                                                   \
    X(net)                                                                                         \
    X(slow)                                                                                        \
    X(rot)                                                                                         \
    X(misplace)                                                                                    \
    X(eio)                                                                                         \
    X(slow_drive)                                                                                  \
    X(stuck)                                                                                       \
    X(clock)                                                                                       \
    X(tight)                                                                                       \
    X(silence)                                                                                     \
    X(join)                                                                                        \
    X(drain)                                                                                       \
    X(weigh)                                                                                       \
    X(absence)

enum sim_fault {
#define X(name) SIM_FAULT_##name,
    SIM_FAULT_LIST(X)
#undef X
        SIM_FAULT_COUNT
};

/*
 * struct sim_options - One run.
 * @without: bits of enum sim_fault that do not happen
 * @faults: no more than so many
 * @keys: of each pool, at most SIM_KEYS
 * @silence: in a run without operations: deaths are known by silence alone
 * @workers: operations that a client has under way at once
 */
struct sim_options {
    uint64_t seed;
    uint64_t operations;
    uint64_t faults;
    uint64_t keys;
    uint64_t workers;
    uint32_t without;
    bool silence;
    enum planted planted;
    bool verbose;
};

/* The command that repeats it, without scripts/sim's own options. */
void sim_options_print(const struct sim_options *options, char *text, size_t size);
const char *sim_fault_name(enum sim_fault fault);
/* "cut,net" into bits; false when one is no fault. */
bool sim_faults_parse(const char *names, uint32_t *mask);

#endif
