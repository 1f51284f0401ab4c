/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "sim.h"

static const char *const fault_names[] = {
#define X(name) #name,
    SIM_FAULT_LIST(X)
#undef X
};

const char *sim_fault_name(enum sim_fault fault)
{
    return fault_names[fault];
}

bool sim_faults_parse(const char *names, uint32_t *mask)
{
    *mask = 0;
    while (*names != '\0') {
        size_t len = strcspn(names, ",");
        unsigned found = SIM_FAULT_COUNT;
        for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
            if (strlen(fault_names[i]) == len && strncmp(fault_names[i], names, len) == 0)
                found = i;
        if (found == SIM_FAULT_COUNT)
            return false;
        *mask |= 1u << found;
        names += len;
        names += *names == ',';
    }
    return true;
}

static void add(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add(char *text, size_t size, const char *format, ...)
{
    size_t at = strlen(text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text + at, size - at, format, arguments);
    va_end(arguments);
}

void sim_options_print(const struct sim_options *options, char *text, size_t size)
{
    const char *mark = " --without ";

    text[0] = '\0';
    add(text, size, "--seed %" PRIu64, options->seed);
    if (options->operations != SIM_OPERATIONS)
        add(text, size, " --operations %" PRIu64, options->operations);
    if (options->faults != SIM_FAULTS_ALL)
        add(text, size, " --faults %" PRIu64, options->faults);
    if (options->keys != SIM_KEYS)
        add(text, size, " --keys %" PRIu64, options->keys);
    if (options->workers != SIM_CLIENT_FIBERS)
        add(text, size, " --workers %" PRIu64, options->workers);
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        if ((options->without >> i & 1) == 0)
            continue;
        add(text, size, "%s%s", mark, fault_names[i]);
        mark = ",";
    }
    if (options->planted != PLANTED_none)
        add(text, size, " --planted %s", planted_name(options->planted));
}
