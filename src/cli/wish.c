/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the authority for a change. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"
#include "core/fiber.h"
#include "core/reactor.h"

#define WISH_TIMEOUT_NS UINT64_C(60000000000)
#define ELECTION_MS 20000u /* how long to look for who is elected */
#define LOOK_MS 500u

struct asking {
    struct client *client;
    const char *text;
    char *answer;
    char elsewhere[CLUSTER_ADDRESS_MAX]; /* where the last one asked says that the authority is */
    int rc;
};

/* Return: true when the answer is the authority's, or none will come. */
static bool ask_at(struct asking *asking, const char *address)
{
    uint64_t deadline_ns = reactor_now_ns(reactor_self()) + WISH_TIMEOUT_NS;
    free(asking->answer);
    asking->answer = NULL;
    asking->elsewhere[0] = 0;
    asking->rc = client_admin(asking->client, address, asking->text, deadline_ns, &asking->answer);
    if (asking->rc == SHOAL_E_CONNECTION)
        return false;
    json_t *json = asking->rc == 0 ? json_loads(asking->answer, 0, NULL) : NULL;
    const char *elsewhere = json_string_value(json_object_get(json, "authority"));
    if (elsewhere != NULL)
        snprintf(asking->elsewhere, sizeof asking->elsewhere, "%s", elsewhere);
    json_decref(json);
    return elsewhere == NULL;
}

/* Each in turn, and whom it names. */
static bool ask_each(struct asking *asking, const char *addresses)
{
    char address[CLUSTER_ADDRESS_MAX];
    while (*addresses != 0) {
        size_t len = strcspn(addresses, ", ");
        if (len > 0 && len < sizeof address) {
            memcpy(address, addresses, len);
            address[len] = 0;
            if (ask_at(asking, address))
                return true;
            memcpy(address, asking->elsewhere, sizeof address);
            if (address[0] != 0 && ask_at(asking, address))
                return true;
        }
        addresses += len + (addresses[len] != 0);
    }
    return false;
}

int cli_ask_authority(struct client *client, const char *addresses, const char *wish, char **answer)
{
    struct asking asking = {.client = client, .text = wish, .rc = SHOAL_E_CONFIG};
    bool elected = strchr(addresses, ',') != NULL;
    unsigned left_ms = elected ? ELECTION_MS : 0;
    for (; !ask_each(&asking, addresses) && left_ms > 0; left_ms -= LOOK_MS)
        fiber_sleep(LOOK_MS * UINT64_C(1000000));
    *answer = asking.answer;
    return asking.rc;
}

struct wish_step {
    struct shoal *shoal;
    const char *text;
    char *answer;
    int rc;
};

static void wish_fiber(void *arg)
{
    struct wish_step *step = arg;
    step->rc = cli_ask_authority(shoal_client(step->shoal), shoal_file(step->shoal)->authority,
                                 step->text, &step->answer);
}

static bool granted(json_t *answer, const char *text)
{
    if (answer == NULL) {
        cli_fail("the authority's answer is no JSON: %.80s", text);
        return false;
    }
    if (json_is_true(json_object_get(answer, "ok")))
        return true;
    const char *message = json_string_value(json_object_get(answer, "message"));
    const char *error = json_string_value(json_object_get(answer, "error"));
    cli_fail("%s", message != NULL ? message : error != NULL ? error : "the authority refused");
    return false;
}

static bool ask(const char *config, json_t *wish, const char *hint, json_t **answer)
{
    struct shoal *shoal;
    *answer = NULL;
    char *text = json_dumps(wish, JSON_COMPACT);
    json_decref(wish);
    if (text == NULL || shoal_open_as(config, NULL, true, &shoal) != 0) {
        free(text);
        cli_fail_shoal();
        return false;
    }
    if (shoal_file(shoal)->authority == NULL) {
        cli_fail("client.yaml names no authority");
        shoal_close(shoal);
        free(text);
        return false;
    }
    struct wish_step step = {.shoal = shoal, .text = text};
    int rc = shoal_run_fiber(shoal, wish_fiber, &step);
    rc = rc == 0 ? step.rc : rc;
    free(text);
    if (rc != 0) {
        cli_fail("the authority at %s does not answer (%s)%s", shoal_file(shoal)->authority,
                 shoal_error_text(rc), hint);
        shoal_close(shoal);
        return false;
    }
    shoal_close(shoal);
    *answer = json_loads(step.answer, 0, NULL);
    bool ok = granted(*answer, step.answer);
    free(step.answer);
    if (!ok && *answer != NULL) {
        json_decref(*answer);
        *answer = NULL;
    }
    return ok;
}

bool cli_wish(const char *config, json_t *wish, json_t **answer)
{
    return ask(config, wish, ": 'shoal up' starts its supervisor anew, and leaves running nodes as "
                             "they are", answer);
}

bool cli_ask(const struct cli_credentials *who, const char *address, json_t *wish, json_t **answer)
{
    char directory[] = "/tmp/shoal-ask-XXXXXX", path[sizeof directory + 16], *seed;
    *answer = NULL;
    if (mkdtemp(directory) == NULL || (seed = strdup(address)) == NULL) {
        json_decref(wish);
        cli_fail("cannot make a directory in /tmp");
        return false;
    }
    /* Nothing secret: the paths of files. */
    struct client_file file = {
        .nodes = {&seed, 1}, .authority = seed, .data_plane = (char[]){"tls"},
        .ca = (char *)(uintptr_t)who->ca,
        .certificate = (char *)(uintptr_t)who->certificate, .key = (char *)(uintptr_t)who->key,
        .admin_certificate = (char *)(uintptr_t)who->certificate,
        .admin_key = (char *)(uintptr_t)who->key};
    snprintf(path, sizeof path, "%s/client.yaml", directory);
    int rc = client_file_write(path, &file);
    if (rc != 0) {
        json_decref(wish);
        cli_fail("cannot write %s: %s", path, shoal_error_text(rc));
    }
    bool ok = rc == 0 && ask(path, wish, ": does 'shoal cluster admit' run there?", answer);
    cli_remove_work(directory);
    free(seed);
    return ok;
}
