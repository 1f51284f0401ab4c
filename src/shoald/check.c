/* SPDX-License-Identifier: Apache-2.0 */
/* shoald --check-config: what would keep a node from starting, all of it at once. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "net/net.h"
#include "shoald/shoald.h"

#define EXPIRES_SOON_S (INT64_C(14) * 86400)

struct check {
    const struct shoald_config *config;
    FILE *out;
    unsigned problems;
};

static void problem(struct check *check, const char *format, ...) PRINTF_LIKE(2, 3);
static void problem(struct check *check, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("problem: ", check->out);
    vfprintf(check->out, format, arguments);
    fputc('\n', check->out);
    va_end(arguments);
    check->problems++;
}

static void check_addresses(struct check *check)
{
    const struct shoald_config *config = check->config;
    const struct {
        const char *name, *text;
    } addresses[] = {{"listen.data", config->data},
                     {"listen.replication", config->replication},
                     {"listen.management", config->management},
                     {"listen.authority", config->authority_address},
                     {"authority", config->authority}};
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        if (addresses[i].text == NULL)
            continue;
        if (!net_address_is_valid(addresses[i].text))
            problem(check, "%s is '%s': an address looks like 10.0.0.1:7400 or [::1]:7400",
                    addresses[i].name, addresses[i].text);
        for (size_t j = 0; j < i; j++)
            if (addresses[j].text != NULL && strcmp(addresses[i].text, addresses[j].text) == 0)
                problem(check, "%s and %s are both %s: each needs its own", addresses[j].name,
                        addresses[i].name, addresses[i].text);
    }
}

static void check_device(struct check *check, const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0)
        problem(check, "%s: %s; 'shoal format' makes one", path, strerror(errno));
    else if (!S_ISREG(about.st_mode) && !S_ISBLK(about.st_mode))
        problem(check, "%s is neither a file nor a block device", path);
    else if (access(path, R_OK | W_OK) != 0)
        problem(check, "%s: %s", path, strerror(errno));
}

static void check_devices(struct check *check)
{
    const struct value_list *devices = &check->config->devices;
    for (size_t i = 0; i < devices->count; i++) {
        check_device(check, devices->items[i]);
        for (size_t j = 0; j < i; j++)
            if (strcmp(devices->items[i], devices->items[j]) == 0)
                problem(check, "%s is listed twice", devices->items[i]);
    }
    const char *directory = check->config->directory;
    struct stat about;
    if (stat(directory, &about) == 0 &&
        (!S_ISDIR(about.st_mode) || access(directory, W_OK | X_OK) != 0))
        problem(check, "directory %s cannot be written to", directory);
}

static void check_certificate(struct check *check)
{
    const struct shoald_config *config = check->config;
    struct net_cert_info info;
    char why[512];
    if (net_cert_check(config->certificate, config->key, config->ca, &info, why, sizeof why) != 0) {
        problem(check, "%s", why);
        return;
    }
    if (info.identity.role != NET_ROLE_NODE || strcmp(info.identity.name, config->name) != 0)
        problem(check, "%s is of the %s '%s', and this is the node '%s'", config->certificate,
                net_role_name(info.identity.role), info.identity.name, config->name);
    if (config->cluster != NULL && strcmp(info.identity.cluster, config->cluster) != 0)
        problem(check, "%s is of cluster %s, and this is of %s", config->certificate,
                info.identity.cluster, config->cluster);
    int64_t left_s = info.valid_until_s - (int64_t)time(NULL);
    if (left_s < EXPIRES_SOON_S)
        fprintf(check->out, "note: %s expires in %lld hours: 'shoal cert renew'\n",
                config->certificate, (long long)left_s / 3600);
}

static void check_etcd(struct check *check)
{
    const struct shoald_config *config = check->config;
    const char *const files[] = {config->etcd_ca, config->etcd_certificate, config->etcd_key};
    unsigned given = 0;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        given += files[i] != NULL;
        if (files[i] != NULL && access(files[i], R_OK) != 0)
            problem(check, "%s: %s", files[i], strerror(errno));
    }
    if (given != 0 && given != ARRAY_LEN(files))
        problem(check, "etcd.ca, etcd.cert and etcd.key are given all three or not at all");
    if (config->etcd_endpoints.count > 0 && config->authority != NULL)
        problem(check, "there is an authority, and etcd.endpoints to elect one: which is it?");
}

unsigned shoald_check(const struct shoald_config *config, FILE *out)
{
    struct check check = {.config = config, .out = out};
    struct shoald_plan plan;
    struct value_error why;
    if (shoald_plan(config, &plan, &why) != 0)
        problem(&check, "%s", why.text);
    check_addresses(&check);
    check_devices(&check);
    check_etcd(&check);
    check_certificate(&check);
    if (check.problems == 0)
        fprintf(out, "ok: node %s, %zu device%s on %u reactor%s, %s data plane\n", config->name,
                config->devices.count, config->devices.count == 1 ? "" : "s", plan.workers,
                plan.workers == 1 ? "" : "s", config->data_plane);
    return check.problems;
}
