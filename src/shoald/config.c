/* SPDX-License-Identifier: Apache-2.0 */
/* node.yaml: the table of its entries. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/file.h"
#include "shoald/shoald.h"

#define FIELD(member) offsetof(struct shoald_config, member)

static const struct value_spec specs[] = {
    {"name", VALUE_STRING, FIELD(name), NULL, 1, 63, NULL, "The node's name in the cluster's map."},
    {"cluster", VALUE_STRING, FIELD(cluster), NULL, 0, 64, NULL, "The cluster's id."},
    {"directory", VALUE_STRING, FIELD(directory), NULL, 1, 0, NULL,
     "Where the node keeps its map, its pid and its lock."},
    {"devices", VALUE_LIST, FIELD(devices), NULL, 1, 32, NULL,
     "Files or block devices, formatted with 'shoal format'; each is one target."},
    {"listen.data", VALUE_STRING, FIELD(data), NULL, 1, 63, NULL, "HOST:PORT for clients."},
    {"listen.replication", VALUE_STRING, FIELD(replication), NULL, 1, 63, NULL,
     "HOST:PORT for other nodes."},
    {"listen.management", VALUE_STRING, FIELD(management), NULL, 0, 63, NULL,
     "HOST:PORT for metrics; none: no metrics page."},
    {"listen.authority", VALUE_STRING, FIELD(authority_address), NULL, 0, 63, NULL,
     "HOST:PORT for nodes and administrators while this node is the elected authority."},
    {"authority", VALUE_STRING, FIELD(authority), NULL, 0, 63, NULL,
     "HOST:PORT of the cluster's authority; none when it is elected through etcd."},
    {"etcd.endpoints", VALUE_LIST, FIELD(etcd_endpoints), NULL, 0, 9, NULL,
     "https://HOST:PORT of each member of etcd; http:// without etcd.ca."},
    {"etcd.prefix", VALUE_STRING, FIELD(etcd_prefix), NULL, 0, 100, NULL,
     "Of the cluster's keys in etcd."},
    {"etcd.ca", VALUE_STRING, FIELD(etcd_ca), NULL, 0, 0, NULL, "Who issued etcd's certificates."},
    {"etcd.cert", VALUE_STRING, FIELD(etcd_certificate), NULL, 0, 0, NULL,
     "The certificate that etcd's members know this node by."},
    {"etcd.key", VALUE_STRING, FIELD(etcd_key), NULL, 0, 0, NULL, "Its private key."},
    {"data_plane", VALUE_STRING, FIELD(data_plane), "tls", 0, 0, "tls|plain",
     "Whether payload between clients and nodes is encrypted."},
    {"tls.ca", VALUE_STRING, FIELD(ca), NULL, 1, 0, NULL, "Certificate of the cluster's authority."},
    {"tls.certificate", VALUE_STRING, FIELD(certificate), NULL, 1, 0, NULL, "The node's own."},
    {"tls.key", VALUE_STRING, FIELD(key), NULL, 1, 0, NULL, "Its private key."},
    {"tls.renewal", VALUE_STRING, FIELD(renewal), NULL, 0, 63, NULL,
     "HOST:PORT of 'shoal cluster admit', which 'shoal cert renew' asks."},
    {"memory", VALUE_SIZE, FIELD(memory), "128M", 32u << 20, 0, NULL,
     "Buffers for payload under way, for each reactor, taken at start."},
    {"index_objects", VALUE_U64, FIELD(index_objects), "0", 0, 0, NULL,
     "Objects that the index of each device has room for; 0: as many as the device could hold."},
    {"reactors", VALUE_U64, FIELD(reactors), "0", 0, NODE_TARGETS_MAX, NULL,
     "Threads that serve, each for its share of the devices; 0: one a device, at most the cores."},
    {"cpus", VALUE_STRING, FIELD(cpus), NULL, 0, 255, NULL,
     "CPUs for the reactors, like 2-33, each pinned to its own; none: wherever the kernel likes."},
    {"spin", VALUE_DURATION, FIELD(spin_ns), "0", 0, UINT64_C(1000000000), NULL,
     "Keep polling this long after the last work before sleeping; 0 where cores are shared."},
    {"scrub_rate", VALUE_SIZE, FIELD(scrub_rate), "32M", 0, 0, NULL,
     "Bytes a second at which stored data is checked in the background."},
    {"scrub_pause", VALUE_DURATION, FIELD(scrub_pause_ns), "10m", 0, 0, NULL,
     "How long a device rests between two passes of that check."},
    {"catch_up_rate", VALUE_SIZE, FIELD(catch_up_rate), "256M", 0, 0, NULL,
     "While clients are served: bytes a second that a device is rebuilt with, and that it reads for "
     "others to be rebuilt. Without clients it goes as fast as it can."},
    {"log_level", VALUE_STRING, FIELD(log_level), "info", 0, 0, "error|warn|info|debug",
     "How much is logged to stderr."},
};
static const struct config_table table = {"node.yaml", specs, ARRAY_LEN(specs)};

static const char *missing_authority(const struct shoald_config *config)
{
    if (config->etcd_endpoints.count == 0)
        return config->authority == NULL ? "authority" : NULL;
    return config->etcd_prefix == NULL         ? "etcd.prefix"
           : config->authority_address == NULL ? "listen.authority"
                                               : NULL;
}

int shoald_config_load(const char *path, struct shoald_config *config, struct value_error *why)
{
    why->text[0] = 0;
    int rc = config_load(&table, config, path, why);
    const char *missing = rc == 0 ? missing_authority(config) : NULL;
    if (missing == NULL)
        return rc;
    snprintf(why->text, sizeof why->text, "%.300s: '%s' is missing", path, missing);
    shoald_config_free(config);
    return SHOAL_E_CONFIG;
}

int shoald_config_defaults(struct shoald_config *config)
{
    return value_set_defaults(specs, ARRAY_LEN(specs), config);
}

void shoald_config_reference(FILE *out)
{
    config_reference(&table, out);
}

void shoald_config_free(struct shoald_config *config)
{
    config_free(&table, config);
}

int shoald_config_write(const char *path, const struct shoald_config *config)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return SHOAL_E_NO_MEMORY;
    config_write(&table, config, out);
    int rc = fclose(out) == 0 ? file_write_atomic(path, text, len, 0600) : SHOAL_E_NO_MEMORY;
    free(text);
    return rc;
}
