/* SPDX-License-Identifier: Apache-2.0 */
#include "base/macros.h"
#include "place/place.h"
#include "place/tree.h"
#include "shoal/error.h"

int place_check(struct place_verdict *verdict, const struct place_target *targets, size_t count,
                unsigned k, unsigned m)
{
    struct tree tree;
    int error;

    *verdict = (struct place_verdict){0};
    if (k < 1 || m >= PLACE_WIDTH_MAX || k > PLACE_WIDTH_MAX - m)
        return SHOAL_E_INVALID;
    error = tree_create(&tree, targets, count, k + m);
    if (error != 0)
        return error;

    verdict->targets = tree.targets.count;
    verdict->nodes = tree.nodes.count;
    verdict->domains = tree.domains.count;
    verdict->zones = tree.zones.count;
    for (uint32_t i = 0; i < tree.nodes.count; i++)
        verdict->most_on_a_node = MAX(verdict->most_on_a_node, (unsigned)tree.nodes.items[i].most);
    for (uint32_t i = 0; i < tree.domains.count; i++)
        verdict->most_in_a_domain = MAX(verdict->most_in_a_domain, (unsigned)tree.domains.items[i].most);
    for (uint32_t i = 0; i < tree.zones.count; i++)
        verdict->most_in_a_zone = MAX(verdict->most_in_a_zone, (unsigned)tree.zones.items[i].most);
    verdict->survives_a_node = verdict->most_on_a_node <= m;
    verdict->survives_a_domain = verdict->most_in_a_domain <= m;
    verdict->survives_a_zone = verdict->most_in_a_zone <= m;
    tree_destroy(&tree);
    return verdict->targets < k + m ? SHOAL_E_UNAVAILABLE : 0;
}
