/* SPDX-License-Identifier: Apache-2.0 */
/* Which authority this node asks: one at an address, or whom etcd's members elect, maybe itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/macros.h"
#include "shoald/shoald.h"

#define MAP_FILE_MAX (64u << 20)

struct shoald_authority {
    const struct shoald_config *config;
    struct node *const *node;
    uint64_t saved_epoch;
    struct authority_remote *remote;
    struct etcd_client *client;
    struct authority_etcd *etcd;
};

/* ---- what an elected one must know ---- */

/* Also of the time before the node has read its map. */
static uint64_t known_epoch(void *ctx)
{
    const struct shoald_authority *a = ctx;
    const struct cluster_map *map = *a->node == NULL ? NULL : node_map(*a->node);
    return map == NULL ? a->saved_epoch : MAX(map->epoch, a->saved_epoch);
}

static int read_saved_epoch(struct shoald_authority *a)
{
    char path[4096], *bytes;
    size_t len;
    struct cluster_map *map;
    snprintf(path, sizeof path, "%s/map", a->config->directory);
    int rc = file_read(path, MAP_FILE_MAX, &bytes, &len);
    if (rc == SHOAL_E_NOT_FOUND)
        return 0;
    if (rc == 0) {
        rc = cluster_map_decode(bytes, len, &map);
        free(bytes);
    }
    if (rc == 0) {
        a->saved_epoch = map->epoch;
        cluster_map_free(map);
    } else {
        LOG_ERROR("cannot read %s: %s", path, shoal_error_text(rc));
    }
    return rc;
}

static const char *mark_path(const struct shoald_authority *a, char *path, size_t size)
{
    snprintf(path, size, "%s/etcd-mark", a->config->directory);
    return path;
}

static int mark_load(void *ctx, uint64_t *mark)
{
    char path[4096], *text;
    size_t len;
    int rc = file_read(mark_path(ctx, path, sizeof path), 64, &text, &len);
    if (rc != 0)
        return rc;
    text[strcspn(text, "\n")] = 0;
    rc = value_parse_u64(text, mark) == 0 ? 0 : SHOAL_E_CORRUPT;
    if (rc != 0)
        LOG_ERROR("%s is damaged: it should hold one number", path);
    free(text);
    return rc;
}

static int mark_save(void *ctx, uint64_t mark)
{
    char path[4096], text[32];
    int len = snprintf(text, sizeof text, "%llu\n", (unsigned long long)mark);
    return file_write_atomic(mark_path(ctx, path, sizeof path), text, (size_t)len, 0600);
}

static uint64_t heard(void *ctx, uint32_t node)
{
    const struct shoald_authority *a = ctx;
    return *a->node == NULL ? 0 : node_heard_ns(*a->node, node);
}

/* ---- open and close ---- */

static int open_elected(struct shoald_authority *a, struct reactor *reactor, struct net *net)
{
    const struct shoald_config *config = a->config;
    struct etcd_config etcd = {.endpoints = (const char *const *)config->etcd_endpoints.items,
                               .endpoints_count = (unsigned)config->etcd_endpoints.count,
                               .ca = config->etcd_ca, .certificate = config->etcd_certificate,
                               .key = config->etcd_key};
    struct authority_etcd_config elected = {
        .reactor = reactor, .net = net, .name = config->name,
        .address = config->authority_address, .prefix = config->etcd_prefix,
        .known_epoch = known_epoch, .mark_load = mark_load, .mark_save = mark_save, .ctx = a,
        .heard = heard};
    int rc = read_saved_epoch(a);
    if (rc == 0)
        rc = etcd_client_create(reactor, &etcd, &a->client);
    if (rc != 0)
        return rc;
    elected.etcd = etcd_client_door(a->client);
    rc = authority_etcd_create(&elected, &a->etcd);
    if (rc != 0)
        LOG_ERROR("cannot listen on %s (listen.authority): %s", config->authority_address,
                  shoal_error_text(rc));
    return rc;
}

int shoald_authority_open(const struct shoald_config *config, struct reactor *reactor,
                          struct net *net, struct node *const *node, struct shoald_authority **out)
{
    struct shoald_authority *a = calloc(1, sizeof *a);
    if (a == NULL)
        return SHOAL_E_NO_MEMORY;
    a->config = config;
    a->node = node;
    int rc = config->etcd_endpoints.count > 0
                 ? open_elected(a, reactor, net)
                 : authority_remote_create(reactor, net, config->authority, &a->remote);
    if (rc != 0) {
        shoald_authority_close(a);
        return rc;
    }
    *out = a;
    return 0;
}

struct authority_door shoald_authority_door(struct shoald_authority *a)
{
    return a->etcd != NULL ? authority_etcd_door(a->etcd) : authority_remote_door(a->remote);
}

void shoald_authority_close(struct shoald_authority *a)
{
    if (a == NULL)
        return;
    if (a->etcd != NULL) {
        authority_etcd_stop(a->etcd);
        authority_etcd_destroy(a->etcd);
    }
    if (a->client != NULL) {
        etcd_client_stop(a->client);
        etcd_client_destroy(a->client);
    }
    if (a->remote != NULL)
        authority_remote_destroy(a->remote);
    free(a);
}
