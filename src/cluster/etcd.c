/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etcd's door for real: requests of fibers, carried out by a thread of its own, over the JSON
 * gateway of whichever member answers.
 *
 * The thread runs all transfers at once, each on a connection of its own while it lasts (HTTP/1.1
 * has no other way), so that a watch or a member that hangs holds up nobody. It stays with a member
 * until that fails, then goes on to the next; a request is tried until its deadline. A frozen
 * member takes connections and answers nothing, so every try has a time limit, and a watch, which
 * has a long one, ends when another request finds its member silent.
 */
#include <curl/curl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "cluster/cluster.h"
#include "cluster/etcd.h"
#include "core/fiber.h"
#include "core/mailbox.h"
#include "core/reactor.h"
#include "shoal/error.h"

#define TRY_MS 1500
#define QUICK_TRY_MS 600 /* where to ask again does no harm, and a leader's office may end meanwhile */
#define CALL_MS 4000
#define PAUSE_MS 100
#define IDLE_MS 60000
#define LINE_MAX_BYTES (64u << 10)

/* The largest map in base64, and what stands around it. */
#define ANSWER_MAX_BYTES (CLUSTER_MAP_ENCODED_MAX / 3 * 4 + (64u << 10))

struct etcd_client;

/*
 * struct call - One request, on the stack of the fiber that waits for it.
 * @understand: reads an answer of status 200
 * @lines: a stream, of which @on_line sees each line until it says that it has had enough
 * @unsure: an earlier try may have reached a member
 * @try_ms: for how long one member is waited for
 */
struct call {
    struct etcd_client *client;
    struct list_node node;
    struct mail mail;
    struct completion done;
    const char *path;
    char *body;
    int (*understand)(struct call *call);
    void *arg;
    bool watch, changed, unsure;
    unsigned try_ms;
    int result;
    /* the thread's */
    CURL *easy;
    unsigned endpoint;
    uint64_t limit_ms, deadline_ms, not_before_ms;
    char *text;
    size_t len, room;
    char problem[CURL_ERROR_SIZE];
};

struct endpoint {
    char *url;
    bool failing;
};

struct etcd_client {
    struct reactor *reactor;
    struct fiber_group running;
    char *ca, *certificate, *key;
    struct endpoint *endpoints;
    unsigned endpoints_count;
    pthread_t thread;
    pthread_mutex_t lock;
    struct list fresh; /* under the lock, as are the next two */
    bool stop, unwatch;
    CURLM *multi;
    struct curl_slist *headers;
    struct list calls;
    unsigned current;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the thread: ends ---- */

static void finish(struct call *call, int result)
{
    list_remove(&call->node);
    free(call->text);
    call->result = result;
    mailbox_post(call->client->reactor, &call->mail);
}

static void end_try(struct call *call)
{
    curl_multi_remove_handle(call->client->multi, call->easy);
    curl_easy_cleanup(call->easy);
    call->easy = NULL;
    call->len = 0;
}

static void again(struct call *call)
{
    if (call->easy != NULL)
        end_try(call);
    call->not_before_ms = now_ms() + PAUSE_MS;
    if (call->watch || call->not_before_ms >= call->deadline_ms)
        finish(call, call->unsure || call->watch ? SHOAL_E_TIMEOUT : SHOAL_E_CONNECTION);
}

/* Of the member that has this index; UINT_MAX: of all. */
static void end_watches(struct etcd_client *client, unsigned index)
{
    list_for_each(&client->calls, struct call, node, call)
        if (call->watch && (index == UINT_MAX || (call->easy != NULL && call->endpoint == index)))
            call->deadline_ms = 0;
}

/* Others go on to the next member; watches of this one would not notice by themselves. */
static void endpoint_failed(struct etcd_client *client, unsigned index, const char *why)
{
    struct endpoint *endpoint = &client->endpoints[index];
    if (!endpoint->failing)
        LOG_WARN("etcd member %s: %s", endpoint->url, why);
    endpoint->failing = true;
    if (client->current != index)
        return;
    client->current = (index + 1) % client->endpoints_count;
    end_watches(client, index);
}

static void endpoint_answered(struct etcd_client *client, unsigned index)
{
    struct endpoint *endpoint = &client->endpoints[index];
    if (endpoint->failing)
        LOG_INFO("etcd member %s answers again", endpoint->url);
    endpoint->failing = false;
}

/* etcd itself says no. What gRPC calls unavailable or too late may be better at another member. */
static void refused(struct call *call)
{
    enum { ARGUMENT = 3, NO_KEY = 5, DENIED = 7, EXHAUSTED = 8, PRECONDITION = 9, RANGE = 11,
           UNAUTHENTICATED = 16 };
    char message[256];
    int code = etcd_error_parse(call->text == NULL ? "" : call->text, call->len, message,
                                sizeof message);
    int result = code == ARGUMENT || code == RANGE      ? SHOAL_E_INVALID
                 : code == NO_KEY                       ? SHOAL_E_NOT_FOUND
                 : code == PRECONDITION                 ? SHOAL_E_EXISTS
                 : code == EXHAUSTED                    ? SHOAL_E_TOO_LARGE
                 : code == DENIED || code == UNAUTHENTICATED ? SHOAL_E_DENIED
                                                        : 0;
    if (result == 0) {
        call->unsure = true;
        endpoint_failed(call->client, call->endpoint, message);
        again(call);
        return;
    }
    if (result != SHOAL_E_NOT_FOUND && result != SHOAL_E_EXISTS)
        LOG_ERROR("etcd refuses %s: %s", call->path, message);
    end_try(call);
    finish(call, result == SHOAL_E_NOT_FOUND || result == SHOAL_E_EXISTS || !call->unsure
                     ? result : SHOAL_E_TIMEOUT);
}

static void transferred(struct call *call, CURLcode code)
{
    struct etcd_client *client = call->client;
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (call->watch && call->changed) {
        end_try(call);
        finish(call, 0);
    } else if (code == CURLE_OK && status == 200 && !call->watch) {
        int result = call->understand(call);
        if (result == SHOAL_E_INVALID) {
            call->unsure = true;
            endpoint_failed(client, call->endpoint, "an answer that is not etcd's");
            again(call);
            return;
        }
        endpoint_answered(client, call->endpoint);
        end_try(call);
        finish(call, result);
    } else if (code == CURLE_OK && status != 200) {
        refused(call);
    } else {
        const char *why = call->problem[0] != 0 ? call->problem : curl_easy_strerror(code);
        /* What was never connected was never asked. */
        call->unsure |= code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST &&
                        code != CURLE_PEER_FAILED_VERIFICATION && code != CURLE_SSL_CERTPROBLEM;
        if (!call->watch || (code != CURLE_OPERATION_TIMEDOUT && code != CURLE_OK))
            endpoint_failed(client, call->endpoint, why);
        again(call);
    }
}

/* ---- the thread: tries ---- */

static bool scan_lines(struct call *call)
{
    size_t from = 0;
    for (size_t i = 0; i < call->len && !call->changed; i++) {
        if (call->text[i] != '\n')
            continue;
        if (etcd_watch_parse(call->text + from, i - from, &call->changed) != 0)
            return false;
        from = i + 1;
    }
    memmove(call->text, call->text + from, call->len - from);
    call->len -= from;
    return call->len < LINE_MAX_BYTES && !call->changed;
}

static size_t on_bytes(char *data, size_t one, size_t count, void *arg)
{
    struct call *call = arg;
    size_t len = one * count, need = call->len + len;
    if (need > ANSWER_MAX_BYTES)
        return 0;
    if (need > call->room) {
        size_t room = need * 2;
        char *text = realloc(call->text, room);
        if (text == NULL)
            return 0;
        call->text = text;
        call->room = room;
    }
    memcpy(call->text + call->len, data, len);
    call->len = need;
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    return call->watch && status == 200 && !scan_lines(call) ? 0 : len;
}

static bool set_up(struct call *call, const char *url, long limit_ms)
{
    const struct etcd_client *client = call->client;
    CURL *easy = call->easy;
    bool failed = false;
#define SET(option, value) failed |= curl_easy_setopt(easy, option, value) != CURLE_OK
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, client->ca != NULL ? "https" : "http");
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTPHEADER, client->headers);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(call->body));
    SET(CURLOPT_POSTFIELDS, call->body);
    SET(CURLOPT_TIMEOUT_MS, limit_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)TRY_MS);
    SET(CURLOPT_WRITEFUNCTION, on_bytes);
    SET(CURLOPT_WRITEDATA, call);
    SET(CURLOPT_PRIVATE, call);
    SET(CURLOPT_ERRORBUFFER, call->problem);
    if (client->ca != NULL) {
        SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        SET(CURLOPT_CAINFO, client->ca);
        SET(CURLOPT_CAPATH, NULL);
        SET(CURLOPT_SSLCERT, client->certificate);
        SET(CURLOPT_SSLKEY, client->key);
    }
#undef SET
    return !failed;
}

static void start_try(struct call *call, uint64_t now)
{
    struct etcd_client *client = call->client;
    uint64_t left = call->deadline_ms - now;
    long limit = (long)(call->watch ? left : MIN(left, (uint64_t)call->try_ms));
    char url[512];
    call->endpoint = client->current;
    call->problem[0] = 0;
    int len = snprintf(url, sizeof url, "%s%s", client->endpoints[call->endpoint].url, call->path);
    call->easy = curl_easy_init();
    if (call->easy == NULL || len >= (int)sizeof url || !set_up(call, url, limit) ||
        curl_multi_add_handle(client->multi, call->easy) != CURLM_OK) {
        curl_easy_cleanup(call->easy);
        call->easy = NULL;
        finish(call, call->unsure ? SHOAL_E_TIMEOUT : SHOAL_E_NO_MEMORY);
    }
}

/* Starts what is due. Return: until when there is nothing to do but transfers. */
static uint64_t look_after(struct etcd_client *client, bool stop)
{
    uint64_t now = now_ms(), next = now + IDLE_MS;
    list_for_each(&client->calls, struct call, node, call) {
        if (stop || now >= call->deadline_ms) {
            if (call->easy != NULL)
                end_try(call);
            finish(call, stop ? SHOAL_E_SHUTDOWN : SHOAL_E_TIMEOUT);
        } else if (call->easy == NULL && now >= call->not_before_ms) {
            start_try(call, now);
        } else if (call->easy == NULL) {
            next = MIN(next, call->not_before_ms);
        }
    }
    return next;
}

static bool take_fresh(struct etcd_client *client)
{
    uint64_t now = now_ms();
    pthread_mutex_lock(&client->lock);
    bool stop = client->stop;
    list_for_each(&client->fresh, struct call, node, call)
        call->deadline_ms = now + call->limit_ms;
    list_splice_back(&client->calls, &client->fresh);
    if (client->unwatch)
        end_watches(client, UINT_MAX);
    client->unwatch = false;
    pthread_mutex_unlock(&client->lock);
    return stop;
}

static void *client_thread(void *arg)
{
    struct etcd_client *client = arg;
    log_set_component("etcd");
    for (;;) {
        bool stop = take_fresh(client);
        uint64_t next = look_after(client, stop);
        if (stop)
            return NULL;
        int running = 0, left;
        curl_multi_perform(client->multi, &running);
        const CURLMsg *message;
        while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
            char *call = NULL;
            CURLcode code = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
            transferred((struct call *)(void *)call, code);
            next = 0;
        }
        uint64_t now = now_ms();
        if (next > now)
            curl_multi_poll(client->multi, NULL, 0, (int)(next - now), NULL);
    }
}

/* ---- fibers ---- */

static void delivered(struct mail *mail)
{
    struct call *call = container_of(mail, struct call, mail);
    completion_signal(&call->done, call->result);
}

/* Takes over call->body. */
static int carry_out(struct etcd_client *client, struct call *call)
{
    if (call->body == NULL)
        return SHOAL_E_NO_MEMORY;
    call->client = client;
    call->mail.deliver = delivered;
    fiber_group_add(&client->running);
    pthread_mutex_lock(&client->lock);
    list_push_back(&client->fresh, &call->node);
    pthread_mutex_unlock(&client->lock);
    curl_multi_wakeup(client->multi);
    int result = (int)completion_wait(&call->done);
    fiber_group_done(&client->running);
    free(call->body);
    return result;
}

struct txn_arg {
    const struct etcd_txn *txn;
    struct etcd_answer *answer;
};

static int understand_txn(struct call *call)
{
    struct txn_arg *arg = call->arg;
    return etcd_txn_parse(call->text, call->len, arg->txn, arg->answer);
}

static int client_txn(void *ctx, const struct etcd_txn *txn, struct etcd_answer *answer)
{
    struct txn_arg arg = {txn, answer};
    struct call call = {.path = "/v3/kv/txn", .body = etcd_txn_json(txn), .limit_ms = CALL_MS,
                        .try_ms = txn->put_key != NULL ? TRY_MS : QUICK_TRY_MS,
                        .understand = understand_txn, .arg = &arg};
    *answer = (struct etcd_answer){0};
    return carry_out(ctx, &call);
}

static char *lease_body(int64_t lease, unsigned ttl_s)
{
    char *body = NULL;
    int len = ttl_s == 0 ? asprintf(&body, "{\"ID\":\"%lld\"}", (long long)lease)
                         : asprintf(&body, "{\"ID\":\"%lld\",\"TTL\":\"%u\"}", (long long)lease, ttl_s);
    return len < 0 ? NULL : body;
}

static int understand_lease(struct call *call)
{
    bool keep_alive = strcmp(call->path, "/v3/lease/keepalive") == 0;
    int64_t lease, ttl_s;
    int error = etcd_lease_parse(call->text, call->len, keep_alive, &lease, &ttl_s);
    if (error == 0 && lease != *(const int64_t *)call->arg)
        error = SHOAL_E_INVALID;
    return error != 0 ? error : ttl_s == 0 ? SHOAL_E_NOT_FOUND : 0;
}

static int client_grant(void *ctx, int64_t lease, unsigned ttl_s)
{
    struct call call = {.path = "/v3/lease/grant", .body = lease_body(lease, ttl_s),
                        .limit_ms = CALL_MS, .try_ms = TRY_MS,
                        .understand = understand_lease, .arg = &lease};
    int result = carry_out(ctx, &call);
    /* An earlier try of ours made it: nobody else draws this number. */
    return result == SHOAL_E_EXISTS ? 0 : result;
}

static int client_keep_alive(void *ctx, int64_t lease)
{
    struct call call = {.path = "/v3/lease/keepalive", .body = lease_body(lease, 0),
                        .limit_ms = CALL_MS, .try_ms = QUICK_TRY_MS,
                        .understand = understand_lease, .arg = &lease};
    return carry_out(ctx, &call);
}

static int understand_nothing(struct call *call)
{
    (void)call;
    return 0;
}

static int client_revoke(void *ctx, int64_t lease)
{
    struct call call = {.path = "/v3/lease/revoke", .body = lease_body(lease, 0),
                        .limit_ms = CALL_MS, .try_ms = TRY_MS,
                        .understand = understand_nothing};
    return carry_out(ctx, &call);
}

static int client_watch(void *ctx, const char *key, int64_t after, uint64_t deadline_ns)
{
    struct etcd_client *client = ctx;
    uint64_t now = reactor_now_ns(client->reactor);
    if (now >= deadline_ns)
        return SHOAL_E_TIMEOUT;
    struct call call = {.path = "/v3/watch", .body = etcd_watch_json(key, after), .watch = true,
                        .limit_ms = (deadline_ns - now) / 1000000 + 1};
    return carry_out(client, &call);
}

static void client_unwatch(void *ctx)
{
    struct etcd_client *client = ctx;
    pthread_mutex_lock(&client->lock);
    client->unwatch = true;
    pthread_mutex_unlock(&client->lock);
    curl_multi_wakeup(client->multi);
}

static const struct etcd_ops client_ops = {
    .txn = client_txn,
    .grant = client_grant,
    .keep_alive = client_keep_alive,
    .revoke = client_revoke,
    .watch = client_watch,
    .unwatch = client_unwatch,
};

struct etcd_door etcd_client_door(struct etcd_client *client)
{
    return (struct etcd_door){&client_ops, client};
}

/* ---- start and end ---- */

static void release(struct etcd_client *client)
{
    for (unsigned i = 0; i < client->endpoints_count; i++)
        free(client->endpoints[i].url);
    free(client->endpoints);
    free(client->ca);
    free(client->certificate);
    free(client->key);
    curl_slist_free_all(client->headers);
    if (client->multi != NULL)
        curl_multi_cleanup(client->multi);
    pthread_mutex_destroy(&client->lock);
    free(client);
    curl_global_cleanup();
}

static int add_endpoint(struct etcd_client *client, const char *text)
{
    const char *scheme = client->ca != NULL ? "https://" : "http://";
    size_t len = strlen(text);
    if (strncmp(text, scheme, strlen(scheme)) != 0 || len > 256) {
        LOG_ERROR("'%s' is no endpoint of etcd: it is to begin with %s", text, scheme);
        return SHOAL_E_CONFIG;
    }
    while (text[len - 1] == '/')
        len--;
    client->endpoints[client->endpoints_count].url = strndup(text, len);
    return client->endpoints[client->endpoints_count++].url == NULL ? SHOAL_E_NO_MEMORY : 0;
}

static char *copy(const char *text)
{
    return text == NULL ? NULL : strdup(text);
}

static int fill(struct etcd_client *client, const struct etcd_config *config)
{
    bool tls = config->ca != NULL;
    if (config->endpoints_count == 0 || (config->certificate != NULL) != tls ||
        (config->key != NULL) != tls) {
        LOG_ERROR("etcd needs endpoints, and ca, certificate and key together");
        return SHOAL_E_CONFIG;
    }
    client->ca = copy(config->ca);
    client->certificate = copy(config->certificate);
    client->key = copy(config->key);
    client->endpoints = calloc(config->endpoints_count, sizeof *client->endpoints);
    client->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (client->headers != NULL)
        curl_slist_append(client->headers, "Expect:");
    client->multi = curl_multi_init();
    if (client->endpoints == NULL || client->headers == NULL || client->multi == NULL ||
        (tls && (client->ca == NULL || client->certificate == NULL || client->key == NULL)))
        return SHOAL_E_NO_MEMORY;
    int error = 0;
    for (unsigned i = 0; i < config->endpoints_count && error == 0; i++)
        error = add_endpoint(client, config->endpoints[i]);
    return error;
}

int etcd_client_create(struct reactor *reactor, const struct etcd_config *config,
                       struct etcd_client **out)
{
    struct etcd_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return SHOAL_E_NO_MEMORY;
    client->reactor = reactor;
    pthread_mutex_init(&client->lock, NULL);
    fiber_group_init(&client->running);
    list_init(&client->fresh);
    list_init(&client->calls);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int error = fill(client, config);
    if (error == 0 && pthread_create(&client->thread, NULL, client_thread, client) != 0)
        error = SHOAL_E_SYSTEM;
    if (error != 0) {
        release(client);
        return error;
    }
    *out = client;
    return 0;
}

void etcd_client_stop(struct etcd_client *client)
{
    pthread_mutex_lock(&client->lock);
    client->stop = true;
    pthread_mutex_unlock(&client->lock);
    curl_multi_wakeup(client->multi);
    pthread_join(client->thread, NULL);
    /* What came after the thread's last look. */
    list_for_each(&client->fresh, struct call, node, call)
        finish(call, SHOAL_E_SHUTDOWN);
    fiber_group_wait(&client->running);
}

void etcd_client_destroy(struct etcd_client *client)
{
    CHECK(list_empty(&client->calls) && list_empty(&client->fresh));
    release(client);
}
