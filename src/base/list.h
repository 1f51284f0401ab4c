/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one list: doubly linked, circular, intrusive. The node lives in the object; container_of()
 * or list_entry() leads back to it. A node that is in no list points at itself, so
 * list_linked() can be asked after list_node_init() or list_remove(). Nothing allocates.
 *
 *   list_for_each(&queue, struct request, node, request) { ... }
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct list_node {
    struct list_node *next;
    struct list_node *prev;
};

struct list {
    struct list_node head;
};

/* clang-format off */
#define LIST_INIT(list) {{&(list).head, &(list).head}}
/* clang-format on */

static inline void list_init(struct list *list)
{
    list->head.next = &list->head;
    list->head.prev = &list->head;
}

static inline void list_node_init(struct list_node *node)
{
    node->next = node;
    node->prev = node;
}

static inline bool list_empty(const struct list *list)
{
    return list->head.next == &list->head;
}

static inline bool list_linked(const struct list_node *node)
{
    return node->next != node;
}

static inline void list_insert_before(struct list_node *at, struct list_node *node)
{
    node->next = at;
    node->prev = at->prev;
    at->prev->next = node;
    at->prev = node;
}

static inline void list_push_back(struct list *list, struct list_node *node)
{
    list_insert_before(&list->head, node);
}

static inline void list_push_front(struct list *list, struct list_node *node)
{
    list_insert_before(list->head.next, node);
}

/* Out of whatever list it is in; harmless for a node that is in none. */
static inline void list_remove(struct list_node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_node_init(node);
}

static inline struct list_node *list_first(struct list *list)
{
    return list_empty(list) ? NULL : list->head.next;
}

static inline struct list_node *list_last(struct list *list)
{
    return list_empty(list) ? NULL : list->head.prev;
}

static inline struct list_node *list_pop_front(struct list *list)
{
    struct list_node *node = list_first(list);
    if (node != NULL)
        list_remove(node);
    return node;
}

/* Moves all of @from, in order, to the end of @into. */
static inline void list_splice_back(struct list *into, struct list *from)
{
    if (list_empty(from))
        return;
    from->head.next->prev = into->head.prev;
    into->head.prev->next = from->head.next;
    from->head.prev->next = &into->head;
    into->head.prev = from->head.prev;
    list_init(from);
}

static inline size_t list_count(const struct list *list)
{
    size_t count = 0;
    for (const struct list_node *node = list->head.next; node != &list->head; node = node->next)
        count++;
    return count;
}

#define list_entry(node, type, member) container_of(node, type, member)

/* The body may remove the current object, and no other; break and continue do what they say. */
#define list_for_each(list, type, member, object)                                                  \
    for (type *object = list_entry((list)->head.next, type, member),                               \
              *next_##object = list_entry((object)->member.next, type, member);                    \
         &(object)->member != &(list)->head; (object) = next_##object,                             \
              next_##object = list_entry(next_##object->member.next, type, member))

#endif
