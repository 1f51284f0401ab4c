/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raw thing that calls and gets are measured against: a process behind a socket that answers 64
 * bytes with a payload, or a payload with 64 bytes, and does nothing else.
 */
#ifndef BENCH_RAW_SOCKET_H
#define BENCH_RAW_SOCKET_H

#include <stdint.h>
#include <sys/types.h>

#define RAW_REQUEST_BYTES 64u
#define RAW_PAYLOAD_MAX (16u << 20)

/* Starts the process, which dies with its parent. Returns the port, in network order. */
uint16_t raw_socket_start(pid_t *pid);
int raw_socket_connect(uint16_t port);

/* 64 bytes there, @len bytes back. */
void raw_socket_get(int fd, uint8_t *memory, uint32_t len);

/* @len bytes there, 64 bytes back. */
void raw_socket_put(int fd, const uint8_t *memory, uint32_t len);

/* The two ends of a loopback connection. */
void raw_socket_pair(int ends[2]);

#endif
