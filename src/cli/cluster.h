/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters of many hosts. One host has the certificate authority's key, and runs `shoal cluster admit`.
 * A node joins with a token: a certificate of the role join, its key and the cluster's authority,
 * below a line that says where to ask. With it the node has its own certificate signed, whose key it
 * made itself, and comes into the map.
 */
#ifndef CLI_CLUSTER_H
#define CLI_CLUSTER_H

#define CLUSTER_TOKEN_HEAD "shoal-token-1 "

int cluster_admit(int argc, char **argv);
int cluster_elect(int argc, char **argv);
int cluster_join(int argc, char **argv);

#endif
