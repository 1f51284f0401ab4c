/* SPDX-License-Identifier: Apache-2.0 */
/* Many blobs: listings in order, and directories in both directions. */
#ifndef CLI_TREE_H
#define CLI_TREE_H

#include "cli/cli.h"

#define TREE_DEPTH 16u

struct listing_item {
    struct shoal_key key;
    struct shoal_version version;
    uint64_t size, created_s;
    bool named;
    char *name; /* "@HEX" when it has none */
};

struct listing {
    struct listing_item *items; /* by name */
    size_t count, room;
};

/* @keys: those without a name too. Return: false with shoal_message(). */
bool listing_take(struct shoal *shoal, const char *pool, const char *prefix, bool keys,
                  struct listing *listing);
void listing_free(struct listing *listing);

/*
 * Small files travel side by side, TREE_DEPTH at a time; large ones one by one as streams. Return:
 * an exit status; what failed is said, and does not stop the others.
 */
/* Every file below @directory as like->name/RELATIVE, or RELATIVE when it has no name. */
int tree_put(struct shoal *shoal, const struct shoal_request *like, const char *directory, bool json,
             bool quiet);
/* Every blob whose name begins with like->name/, or every named one, into @directory. */
int tree_get(struct shoal *shoal, const struct shoal_request *like, const char *directory, bool json,
             bool quiet);

#endif
