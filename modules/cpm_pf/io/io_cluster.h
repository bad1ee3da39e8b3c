/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_cluster.h - the nodes of a Redis Cluster: one connection each, opened
 * when it is needed, and the map that says whom to ask.
 *
 * runs in:  any process; for the files behind io_redis.h only
 * owns:     the connections
 * never:    sends a caller's command
 */

#ifndef IO_CLUSTER_H
#define IO_CLUSTER_H

#include "io_conn.h"
#include "io_slots.h"

#define IO_CLUSTER_ANY IO_SLOTS /* a slot that is none: whoever is there */

struct io_cluster
{
	const struct io_redis_conf *conf; /* borrowed */
	struct io_conn_how how;
	struct io_slots *map; /* the seeds only, until one has answered */
	struct io_conn *conn[IO_SLOTS_NODES_MAX]; /* NULL: not used yet */
	bool known;								  /* the map has been read */
	bool stale;								  /* and should be, again */
	uint64_t refresh_at_ms;					  /* not before */
	size_t next;							  /* whom to ask, in turn */
	char error[IO_CONN_ERROR_MAX];
};

/* NULL: no memory. */
struct io_cluster *io_cluster_new(
		const struct io_redis_conf *conf, const struct io_conn_how *how);
void io_cluster_free(struct io_cluster **cl);

/* To be called while nothing is on its way: reads the map if there is none or
 * it is stale, within connect_timeout_ms + cmd_timeout_ms, no more often than
 * every IO_REDIS_REFRESH_MS. Connections to who is no master any more are
 * closed and freed, and in no other call.
 * CPM_OK: there is a map, perhaps an old one; CPM_EDOWN: error tells. */
int io_cluster_begin(struct io_cluster *cl);

/* Whom to ask for a slot, not yet connected; NULL: nobody is known to have it,
 * any node will say so. */
struct io_conn *io_cluster_owner(struct io_cluster *cl, unsigned slot);

/* A connection that is ready, for a slot or IO_CLUSTER_ANY.
 * CPM_OK; CPM_EDOWN: *c_r is whose error tells, or NULL: cl->error does. */
int io_cluster_ready(struct io_cluster *cl, unsigned slot, uint64_t until_ms,
		struct io_conn **c_r);

/* The node of a redirection, not yet connected; NULL: there are too many, or
 * no memory. With MOVED the slot is its own from now on. */
struct io_conn *io_cluster_redirect(struct io_cluster *cl, bool moved,
		unsigned slot, const struct io_redis_addr *addr);

/* The map may be wrong: somebody is down, or redirected. */
void io_cluster_doubt(struct io_cluster *cl);

#endif
