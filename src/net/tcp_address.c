/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/tcp.h"
#include "shoal/error.h"

static int port_parse(const char *text, uint16_t *port)
{
    if (text[0] < '0' || text[0] > '9' || strlen(text) > 5)
        return SHOAL_E_INVALID;
    char *end = NULL;
    unsigned long number = strtoul(text, &end, 10);
    if (*end != '\0' || number > UINT16_MAX)
        return SHOAL_E_INVALID;
    *port = (uint16_t)number;
    return 0;
}

/* Numbers only: looking a name up would block the reactor. */
int tcp_address_parse(const char *text, struct sockaddr_storage *address, socklen_t *len)
{
    char host[NET_ADDRESS_MAX];
    snprintf(host, sizeof host, "%s", text);
    char *colon = strrchr(host, ':');
    uint16_t port = 0;
    if (colon == NULL || port_parse(colon + 1, &port) != 0)
        return SHOAL_E_INVALID;
    *colon = '\0';
    memset(address, 0, sizeof *address);
    size_t host_len = strlen(host);
    if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
        host[host_len - 1] = '\0';
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        *len = sizeof *six;
        return inet_pton(AF_INET6, host + 1, &six->sin6_addr) == 1 ? 0 : SHOAL_E_INVALID;
    }
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    *len = sizeof *four;
    return inet_pton(AF_INET, host, &four->sin_addr) == 1 ? 0 : SHOAL_E_INVALID;
}

bool net_address_is_valid(const char *text)
{
    struct sockaddr_storage address;
    socklen_t len;
    return strlen(text) < NET_ADDRESS_MAX && tcp_address_parse(text, &address, &len) == 0;
}

void tcp_address_format(const struct sockaddr_storage *address, char *text, size_t room)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        snprintf(text, room, "[%s]:%u", host, ntohs(six->sin6_port));
    } else {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        snprintf(text, room, "%s:%u", host, ntohs(four->sin_port));
    }
}

bool tcp_address_is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;
    return ntohl(four->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}
