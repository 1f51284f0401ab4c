/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/quarantine.h"

#include <stdlib.h>

#include "base/check.h"
#include "shoal/error.h"

int quarantine_init(struct quarantine *quarantine, uint32_t capacity)
{
    *quarantine = (struct quarantine){.capacity = capacity};
    quarantine->entries = calloc(capacity, sizeof *quarantine->entries);
    return quarantine->entries == NULL ? SHOAL_E_NO_MEMORY : 0;
}

void quarantine_free(struct quarantine *quarantine)
{
    free(quarantine->entries);
    *quarantine = (struct quarantine){0};
}

uint32_t quarantine_room(const struct quarantine *quarantine)
{
    return quarantine->capacity - quarantine->count;
}

void quarantine_add(struct quarantine *quarantine, uint64_t block, uint64_t seq)
{
    CHECK(quarantine->count < quarantine->capacity);
    uint32_t at = (quarantine->first + quarantine->count++) % quarantine->capacity;
    quarantine->entries[at] = (struct quarantine_entry){block, seq};
}

uint32_t quarantine_release(struct quarantine *quarantine, struct alloc *alloc, uint64_t barrier)
{
    uint32_t released = 0;
    while (quarantine->count > 0 && quarantine->entries[quarantine->first].seq <= barrier) {
        alloc_give(alloc, quarantine->entries[quarantine->first].block);
        quarantine->first = (quarantine->first + 1) % quarantine->capacity;
        quarantine->count--;
        released++;
    }
    return released;
}
