/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shoal node remove: out of the map, and in a cluster of `shoal up` also the process and its files. Whoever
 * is interrupted in the middle says the same again; a supervisor that starts ends what was removed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/local.h"
#include "cli/node.h"

struct remove {
    struct cli_common common;
    bool delete_files;
};

static const struct option_spec options[] = {
    {{"delete_files", VALUE_BOOL, offsetof(struct remove, delete_files), NULL, 0, 0, NULL,
      "Delete its devices and log; else they are put aside, in DIR/removed."}, 0, NULL},
    CLI_COMMON_OPTIONS(struct remove, common),
};
static const struct options_command command = {
    .name = "shoal node remove", .arguments = "NAME",
    .summary = "Take a node out of the cluster. It is refused while the node holds anything that is "
               "needed: drain it first, and wait until nothing moves. Of a cluster of 'shoal up' its "
               "process is ended as well.",
    .example = "shoal node drain node-3\nshoal status\nshoal node remove node-3",
    .min_arguments = 1, .max_arguments = 1,
    .options = options, .option_count = ARRAY_LEN(options),
};

/* Done before, by one that did not come to its end? */
static bool is_removed(const char *config, const char *name)
{
    json_t *answer, *node;
    bool removed = false;
    size_t i;
    if (!cli_wish(config, json_pack("{s:s}", "wish", "map"), &answer))
        return false;
    json_array_foreach(json_object_get(json_object_get(answer, "map"), "nodes"), i, node)
        if (strcmp(json_string_value(json_object_get(node, "name")), name) == 0)
            removed = json_is_true(json_object_get(node, "removed"));
    json_decref(answer);
    return removed;
}

/* @kept: where its files are now, "" when they are deleted. */
static bool put_aside(const struct remove *remove, const struct local *local,
                      const struct local_node *node, char *kept, size_t size)
{
    char aside[CLI_PATH_MAX], client[CLI_PATH_MAX];
    local_path(local, "client.yaml", client, sizeof client);
    int rc = client_file_remove_node(client, node->config.data);
    if (rc != 0) {
        cli_fail("cannot write %s: %s", client, shoal_error_text(rc));
        return false;
    }
    kept[0] = 0;
    if (remove->delete_files) {
        if (file_remove_tree(node->directory) == 0)
            return true;
        cli_fail("%s is no member any more, but %s cannot be deleted: %s", node->name,
                 node->directory, strerror(errno));
        return false;
    }
    local_path(local, "removed", aside, sizeof aside);
    if (!local_make_directory(aside))
        return false;
    snprintf(kept, size, "%s/removed/%s", local->directory, node->name);
    if (rename(node->directory, kept) == 0)
        return true;
    cli_fail("%s is no member any more, but %s cannot be moved to %s: %s", node->name,
             node->directory, kept, strerror(errno));
    return false;
}

static int report(const struct remove *remove, const char *name, const char *kept)
{
    if (remove->common.json)
        return cli_print_json(json_pack("{s:s, s:s, s:s?}", "node", name, "done", "remove", "files",
                                        kept != NULL && kept[0] != 0 ? kept : NULL));
    if (kept == NULL)
        printf("Removed %s; its process may be ended now, on its host: systemctl disable --now shoal\n",
               name);
    else if (kept[0] == 0)
        printf("Removed %s, ended its process and deleted its files.\n", name);
    else
        printf("Removed %s and ended its process. What it held is with the others; its files are put "
               "aside in %s and can be deleted.\n", name, kept);
    return EXIT_DONE;
}

static int remove_here(const struct remove *remove, const char *directory, const char *name)
{
    char kept[CLI_PATH_MAX + 64];
    struct local *local = local_load(directory);
    struct local_node *node = NULL;
    for (unsigned i = 0; local != NULL && i < local->nodes_count; i++)
        if (strcmp(local->nodes[i].name, name) == 0)
            node = &local->nodes[i];
    bool again = node != NULL && is_removed(remove->common.config, name);
    bool ok = local != NULL && (again || node_wish(remove->common.config, "node_remove", name)) &&
              node != NULL && node_wish(remove->common.config, "node_dismiss", name) &&
              put_aside(remove, local, node, kept, sizeof kept);
    local_free(local);
    return ok ? report(remove, name, kept) : EXIT_FAILED;
}

int node_remove(int argc, char **argv)
{
    struct remove remove;
    struct options_arguments positional;
    char directory[CLI_PATH_MAX - 64];
    int status = cli_parse(&command, argc, argv, &remove, &positional);
    if (status >= 0)
        return status;
    const char *name = positional.values[0];
    if (node_directory(remove.common.config, directory, sizeof directory)) {
        int lock = node_lock(directory);
        status = lock < 0 ? EXIT_FAILED : remove_here(&remove, directory, name);
        if (lock >= 0)
            close(lock);
    } else if (remove.delete_files) {
        status = cli_fail("the nodes of this cluster run on hosts of their own: their files are "
                          "deleted there");
    } else {
        status = node_wish(remove.common.config, "node_remove", name) ? report(&remove, name, NULL)
                                                                       : EXIT_FAILED;
    }
    options_free(&command, &remove);
    return status;
}
