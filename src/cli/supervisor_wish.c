/* SPDX-License-Identifier: Apache-2.0 */
/* What commands ask of a local cluster's supervisor: to start and to end processes. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/process.h"
#include "cli/supervisor.h"
#include "cluster/cluster.h"

#define START_NS UINT64_C(30000000000)
#define STOP_NS UINT64_C(15000000000)

static char *answer_ok(void)
{
    return strdup("{\"ok\": true}");
}

static char *answer_error(int error, const char *format, ...) PRINTF_LIKE(2, 3);
static char *answer_error(int error, const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    json_t *json = json_pack("{s:b, s:s, s:s}", "ok", 0, "error", shoal_error_name(error),
                             "message", message);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}

static char *wish_end(struct watched *watched, int signal)
{
    struct supervisor *supervisor = watched->supervisor;
    uint64_t kill_at = reactor_now_ns(supervisor->reactor) + STOP_NS;
    if (!supervisor_is_alive(watched))
        return answer_error(SHOAL_E_NOT_FOUND, "%s is not running", watched->node->name);
    unsigned before = watched->told;
    supervisor_signal(watched, signal);
    /* The death is published before it is answered, so that what follows sees it. */
    while (watched->told == before) {
        if (signal != SIGKILL && reactor_now_ns(supervisor->reactor) > kill_at) {
            LOG_WARN("%s did not stop in time: killing it", watched->node->name);
            return wish_end(watched, SIGKILL);
        }
        fiber_sleep(SUPERVISOR_LOOK_NS);
    }
    return answer_ok();
}

static char *wish_start(struct watched *watched)
{
    struct supervisor *supervisor = watched->supervisor;
    char words[400];
    if (supervisor_is_alive(watched) || supervisor_adopt(watched))
        return answer_error(SHOAL_E_EXISTS, "%s is running already", watched->node->name);
    /* An earlier death is published first, or it would be taken for that of the new process. */
    while (!supervisor_told_all(watched))
        fiber_sleep(SUPERVISOR_LOOK_NS);
    const struct map_node *node = supervisor_node_in_map(watched);
    uint32_t before = node != NULL ? node->incarnation : 0;
    int rc = supervisor_spawn(watched);
    if (rc != 0)
        return answer_error(rc, "cannot start %s: %s; the supervisor's log says more",
                            watched->node->name, shoal_error_text(rc));
    uint64_t deadline = reactor_now_ns(supervisor->reactor) + START_NS;
    while (reactor_now_ns(supervisor->reactor) < deadline) {
        node = supervisor_node_in_map(watched);
        if (node != NULL && node->up && node->incarnation != before)
            return answer_ok();
        if (!supervisor_is_alive(watched))
            return answer_error(SHOAL_E_SYSTEM, "%s ended at once: %s", watched->node->name,
                                process_last_words(watched->node->log, words, sizeof words));
        fiber_sleep(SUPERVISOR_LOOK_NS);
    }
    return answer_error(SHOAL_E_TIMEOUT, "%s runs but has not joined within %llu s; its log is %s",
                        watched->node->name, (unsigned long long)(START_NS / 1000000000u),
                        watched->node->log);
}

/* The map has it no more: it serves nothing, and nobody is told of its end. */
static char *wish_dismiss(struct watched *watched)
{
    if (!supervisor_node_in_map(watched)->removed)
        return answer_error(SHOAL_E_CONDITION, "%s is a member: remove it first",
                            watched->node->name);
    if (!supervisor_is_alive(watched) && !supervisor_adopt(watched))
        return answer_ok();
    return wish_end(watched, SIGTERM);
}

/* Also one that was laid out since this process began. */
static struct watched *find_in_map(struct supervisor *supervisor, const char *name)
{
    const struct cluster_map *map = authority_map(supervisor->authority);
    if (name == NULL || cluster_map_node_named(map, name) == NULL)
        return NULL;
    struct watched *watched = supervisor_find(supervisor, name);
    if (watched == NULL && strncmp(name, "node-", 5) == 0 &&
        local_load_node(supervisor->local, name)) {
        supervisor_watch_node(supervisor,
                              &supervisor->local->nodes[supervisor->local->nodes_count - 1]);
        watched = supervisor_find(supervisor, name);
    }
    return watched;
}

int supervisor_wish(void *ctx, const char *wish, char **answer)
{
    struct supervisor *supervisor = ctx;
    json_t *json = json_loads(wish, 0, NULL);
    const char *name = json_string_value(json_object_get(json, "wish"));
    const char *node = json_string_value(json_object_get(json, "node"));
    bool stop = name != NULL && strcmp(name, "node_stop") == 0;
    bool end = name != NULL && strcmp(name, "node_kill") == 0;
    bool start = name != NULL && strcmp(name, "node_start") == 0;
    bool dismiss = name != NULL && strcmp(name, "node_dismiss") == 0;
    int rc = 0;
    struct watched *watched = NULL;
    if (!stop && !end && !start && !dismiss)
        rc = SHOAL_E_UNSUPPORTED;
    else if ((watched = find_in_map(supervisor, node)) == NULL)
        *answer = answer_error(SHOAL_E_NOT_FOUND, "there is no node '%s'", node ? node : "");
    else if (dismiss)
        *answer = wish_dismiss(watched);
    else if (supervisor_node_in_map(watched)->removed)
        *answer = answer_error(SHOAL_E_NOT_FOUND, "%s was removed from the cluster", node);
    else
        *answer = start ? wish_start(watched) : wish_end(watched, stop ? SIGTERM : SIGKILL);
    json_decref(json);
    return rc;
}
