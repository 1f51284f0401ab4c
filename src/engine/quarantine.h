/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extents that were freed, and must not be written before the durable barrier has passed the record
 * that freed them: until then a crash may bring back what they hold. First in, first out; bounded.
 */
#ifndef ENGINE_QUARANTINE_H
#define ENGINE_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "engine/alloc.h"

struct quarantine {
    struct quarantine_entry {
        uint64_t block, seq;
    } * entries;
    uint32_t first, count, capacity;
};

int quarantine_init(struct quarantine *quarantine, uint32_t capacity) NODISCARD;
void quarantine_free(struct quarantine *quarantine);
uint32_t quarantine_room(const struct quarantine *quarantine);
void quarantine_add(struct quarantine *quarantine, uint64_t block, uint64_t seq);

/* What @barrier has passed goes back to @alloc. Return: how many. */
uint32_t quarantine_release(struct quarantine *quarantine, struct alloc *alloc, uint64_t barrier);

#endif
