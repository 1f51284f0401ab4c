/* SPDX-License-Identifier: Apache-2.0 */
#include "base/planted.h"

#include <string.h>

static const struct {
    const char *name, *what;
} bugs[] = {
    {"none", "nothing is wrong on purpose"},
#define X(name, what) {#name, what},
    PLANTED_LIST(X)
#undef X
};

#ifdef SHOAL_PLANTED
enum planted planted_bug;
#endif

const char *planted_name(enum planted bug)
{
    return bugs[bug].name;
}

const char *planted_what(enum planted bug)
{
    return bugs[bug].what;
}

enum planted planted_find(const char *name)
{
    enum planted bug = PLANTED_none;

    while (bug < PLANTED_COUNT && strcmp(bugs[bug].name, name) != 0)
        bug++;
    return bug;
}

bool planted_plant(enum planted bug)
{
#ifdef SHOAL_PLANTED
    planted_bug = bug;
    return true;
#else
    return bug == PLANTED_none;
#endif
}
