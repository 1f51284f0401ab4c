/* SPDX-License-Identifier: Apache-2.0 */
/* client.yaml: where a cluster is, and who we are there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/file.h"
#include "client/client_private.h"

#define FIELD(member) offsetof(struct client_file, member)

static const struct value_spec specs[] = {
    {"cluster", VALUE_STRING, FIELD(cluster), NULL, 0, 64, NULL, "The cluster's id."},
    {"nodes", VALUE_LIST, FIELD(nodes), NULL, 1, 256, NULL,
     "Addresses of storage nodes (data plane), asked in turn for the cluster's map."},
    {"authority", VALUE_STRING, FIELD(authority), NULL, 0, 4095, NULL,
     "Address of the authority, for administrators; where one is elected, those of some nodes that "
     "may be it, with commas between."},
    {"data_plane", VALUE_STRING, FIELD(data_plane), "tls", 0, 0, "tls|plain",
     "Whether payload is encrypted."},
    {"tls.ca", VALUE_STRING, FIELD(ca), NULL, 1, 0, NULL, "Certificate of the cluster's authority."},
    {"tls.certificate", VALUE_STRING, FIELD(certificate), NULL, 1, 0, NULL, "Our certificate."},
    {"tls.key", VALUE_STRING, FIELD(key), NULL, 1, 0, NULL, "Its private key."},
    {"tls.renewal", VALUE_STRING, FIELD(renewal), NULL, 0, 63, NULL,
     "HOST:PORT of 'shoal cluster admit', which 'shoal cert renew' asks."},
    {"admin.certificate", VALUE_STRING, FIELD(admin_certificate), NULL, 0, 0, NULL,
     "An administrator's certificate, for changing the cluster."},
    {"admin.key", VALUE_STRING, FIELD(admin_key), NULL, 0, 0, NULL, "Its private key."},
};
static const struct config_table table = {"client.yaml", specs, ARRAY_LEN(specs)};

int client_file_note(char *path, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int len;
    if (state != NULL && state[0] == '/')
        len = snprintf(path, size, "%s/shoal/last", state);
    else if (home != NULL && home[0] == '/')
        len = snprintf(path, size, "%s/.local/state/shoal/last", home);
    else
        len = snprintf(path, size, "/tmp/shoal-%u/last", (unsigned)getuid());
    return len < 0 || (size_t)len >= size ? SHOAL_E_TOO_LARGE : 0;
}

int client_file_last(char *path, size_t size)
{
    char note[4096];
    char *text;
    size_t len;
    if (client_file_note(note, sizeof note) != 0 || file_read(note, 4096, &text, &len) != 0)
        return SHOAL_E_NOT_FOUND;
    text[strcspn(text, "\n")] = 0;
    int written = snprintf(path, size, "%s", text);
    free(text);
    return written <= 0 || (size_t)written >= size ? SHOAL_E_NOT_FOUND : 0;
}

/* Paths in the file are relative to the file, so that a directory may be moved whole. */
static int make_absolute(char **path, const char *file)
{
    const char *slash = strrchr(file, '/');
    if (*path == NULL || (*path)[0] == '/')
        return 0;
    char *full;
    if (slash == NULL)
        return 0;
    if (asprintf(&full, "%.*s/%s", (int)(slash - file), file, *path) < 0)
        return SHOAL_E_NO_MEMORY;
    free(*path);
    *path = full;
    return 0;
}

static int choose(const char *path, char *chosen, size_t size, struct value_error *why)
{
    const char *environment = getenv("SHOAL_CONFIG");
    if (path == NULL && environment != NULL && environment[0] != 0)
        path = environment;
    if (path != NULL) {
        snprintf(chosen, size, "%s", path);
        return 0;
    }
    char last[3072];
    if (client_file_last(last, sizeof last) != 0) {
        snprintf(why->text, sizeof why->text,
                 "no cluster is known here: start one with 'shoal up', or name its client.yaml with "
                 "--config or SHOAL_CONFIG");
        return SHOAL_E_NOT_FOUND;
    }
    snprintf(chosen, size, "%s/client.yaml", last);
    if (access(chosen, R_OK) != 0) {
        snprintf(why->text, sizeof why->text,
                 "the cluster started last, in %.200s, is gone (%s): start one with 'shoal up', or "
                 "name another with --config", last, strerror(errno));
        return SHOAL_E_NOT_FOUND;
    }
    return 0;
}

int client_file_load(const char *path, struct client_file *file, struct value_error *why)
{
    char chosen[4096];
    why->text[0] = 0;
    int rc = choose(path, chosen, sizeof chosen, why);
    if (rc != 0)
        return rc;
    rc = config_load(&table, file, chosen, why);
    if (rc != 0)
        return rc;
    char **const paths[] = {&file->ca, &file->certificate, &file->key, &file->admin_certificate,
                            &file->admin_key};
    for (size_t i = 0; i < ARRAY_LEN(paths) && rc == 0; i++)
        rc = make_absolute(paths[i], chosen);
    if (rc != 0)
        client_file_free(file);
    return rc;
}

void client_file_reference(FILE *out)
{
    config_reference(&table, out);
}

void client_file_free(struct client_file *file)
{
    config_free(&table, file);
}

int client_file_write(const char *path, const struct client_file *file)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return SHOAL_E_NO_MEMORY;
    config_write(&table, file, out);
    int rc = fclose(out) == 0 ? file_write_atomic(path, text, len, 0600) : SHOAL_E_NO_MEMORY;
    free(text);
    return rc;
}

/* As it stands in the file: paths stay relative. */
static const struct value_spec *find_entry(const char *name)
{
    size_t at = 0;
    while (strcmp(specs[at].name, name) != 0)
        at++;
    return &specs[at];
}

int client_file_add_node(const char *path, const char *address)
{
    struct client_file file;
    struct value_error why;
    int rc = config_load(&table, &file, path, &why);
    if (rc != 0)
        return rc;
    bool known = false;
    for (size_t i = 0; i < file.nodes.count; i++)
        known = known || strcmp(file.nodes.items[i], address) == 0;
    if (!known) {
        rc = value_set(find_entry("nodes"), &file, address, &why);
        if (rc == 0)
            rc = client_file_write(path, &file);
    }
    client_file_free(&file);
    return rc;
}

int client_file_remove_node(const char *path, const char *address)
{
    struct client_file file;
    struct value_error why;
    int rc = config_load(&table, &file, path, &why);
    if (rc != 0)
        return rc;
    size_t at = 0;
    while (at < file.nodes.count && strcmp(file.nodes.items[at], address) != 0)
        at++;
    if (at < file.nodes.count && file.nodes.count > 1) {
        free(file.nodes.items[at]);
        for (file.nodes.count--; at < file.nodes.count; at++)
            file.nodes.items[at] = file.nodes.items[at + 1];
        rc = client_file_write(path, &file);
    }
    client_file_free(&file);
    return rc;
}

int client_file_set_authority(const char *path, const char *addresses)
{
    struct client_file file;
    struct value_error why;
    int rc = config_load(&table, &file, path, &why);
    if (rc != 0)
        return rc;
    rc = value_set(find_entry("authority"), &file, addresses, &why);
    if (rc == 0)
        rc = client_file_write(path, &file);
    client_file_free(&file);
    return rc;
}
