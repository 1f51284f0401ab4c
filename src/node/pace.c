/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is rebuilt gives way to clients. While a node has clients, the bytes that it fetches, and those that
 * others fetch from it, come at the configured rate, evenly; without any they come as fast as they can.
 * Each node sees to its own clients, however many learners there are and wherever they run. And a part of the
 * DMA memory is all that pieces under way may have, for a put that finds none is refused.
 */
#include "base/check.h"
#include "base/macros.h"
#include "node/node_private.h"
#include "shoal/error.h"

#define CLIENT_NS (100 * NODE_MS) /* for so long after its last request a client is there */
#define WAITING_MAX 32u           /* of the fibers of member requests, which prepares need too */
#define BUFFERS_SHARE 8u          /* of the DMA memory */

void pace_init(struct node *node)
{
    fiber_queue_init(&node->pace.buffer_free);
    node->pace.buffers_max = dma_bytes_free(node->config.arena) / BUFFERS_SHARE;
}

void pace_note_client(struct node *node)
{
    node->pace.client_ns = node_now(node);
}

static bool has_clients(const struct node *node)
{
    return node->pace.client_ns != 0 && node_now(node) - node->pace.client_ns < CLIENT_NS;
}

void pace_give_way(struct node *node, uint64_t bytes)
{
    struct pace *pace = &node->pace;
    if (bytes == 0 || !has_clients(node))
        return;
    uint64_t begin = MAX(pace->due_ns, node_now(node));
    pace->due_ns = begin + bytes * NODE_S / node->config.catch_up_bytes_per_s;
    while (node_now(node) < begin && has_clients(node) && !node->stopping)
        node_pause(node, MIN(begin - node_now(node), CLIENT_NS));
    if (!has_clients(node))
        pace->due_ns = 0;
}

int pace_admit_fetch(struct node *node, uint64_t bytes)
{
    if (bytes > 0 && node->pace.waiting == WAITING_MAX)
        return SHOAL_E_BUSY;
    node->pace.waiting++;
    pace_give_way(node, bytes);
    node->pace.waiting--;
    return 0;
}

void *pace_buffer_get(struct node *node, size_t size_bytes)
{
    struct pace *pace = &node->pace;
    while (pace->buffers_bytes >= pace->buffers_max)
        fiber_queue_wait(&pace->buffer_free);
    void *buffer = dma_get(node->config.arena, size_bytes);
    if (buffer != NULL)
        pace->buffers_bytes += dma_size(node->config.arena, buffer);
    /* There may be room for another still; and who found no buffer must not keep those behind it. */
    fiber_queue_wake_one(&pace->buffer_free);
    return buffer;
}

void pace_buffer_put(struct node *node, void *buffer)
{
    struct pace *pace = &node->pace;
    uint64_t size = dma_size(node->config.arena, buffer);
    CHECK(pace->buffers_bytes >= size);
    pace->buffers_bytes -= size;
    dma_put(node->config.arena, buffer);
    fiber_queue_wake_one(&pace->buffer_free);
}
