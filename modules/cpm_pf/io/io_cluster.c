/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_cluster.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

#include "io_clock.h"

/* Of the time for asking around, the next one gets this part: one that does
 * not answer must leave some for others. */
#define SHARE 3

static struct io_conn *conn_new(
		const struct io_cluster *cl, const struct io_redis_addr *addr)
{
	struct io_conn *c = malloc(sizeof(*c));

	if(c == NULL)
		return NULL;
	io_conn_init(c, &cl->how);
	c->addr = *addr;
	return c;
}

static void conn_free(struct io_conn **c)
{
	if(*c != NULL)
		io_conn_fini(*c);
	free(*c);
	*c = NULL;
}

struct io_cluster *io_cluster_new(
		const struct io_redis_conf *conf, const struct io_conn_how *how)
{
	struct io_cluster *cl = calloc(1, sizeof(*cl));

	if(cl == NULL)
		return NULL;
	cl->conf = conf;
	cl->how = *how;
	cl->map = malloc(sizeof(*cl->map));
	if(cl->map == NULL) {
		free(cl);
		return NULL;
	}
	io_slots_init(cl->map);
	return cl;
}

void io_cluster_free(struct io_cluster **cl)
{
	if(*cl == NULL)
		return;
	for(size_t i = 0; i < IO_SLOTS_NODES_MAX; i++)
		conn_free(&(*cl)->conn[i]);
	free((*cl)->map);
	free(*cl);
	*cl = NULL;
}

void io_cluster_doubt(struct io_cluster *cl)
{
	cl->stale = true;
}

static struct io_conn *node_conn(struct io_cluster *cl, size_t i)
{
	if(cl->conn[i] == NULL)
		cl->conn[i] = conn_new(cl, &cl->map->node[i]);
	return cl->conn[i];
}

/* ------------------------------------------------------------ asking around */

/* First those that are connected, then those that do not rest, then seeds. */
struct walk
{
	size_t step;
	bool seeds;			  /* seeds too */
	struct io_conn *seed; /* to one that is no node of the map */
	uint64_t until_ms;
};

static void walk_end(struct walk *w)
{
	conn_free(&w->seed);
}

static bool is_node(const struct io_cluster *cl, const struct io_redis_addr *a)
{
	for(size_t i = 0; i < cl->map->node_count; i++) {
		if(io_slots_addr_same(&cl->map->node[i], a))
			return true;
	}
	return false;
}

static struct io_conn *walk_candidate(struct io_cluster *cl, struct walk *w)
{
	size_t nodes = cl->map->node_count;

	while(w->step < 2 * nodes) {
		size_t i = (cl->next + w->step) % nodes;
		bool open_only = w->step < nodes;
		w->step++;
		if(open_only) {
			if(cl->conn[i] != NULL && io_conn_is_idle(cl->conn[i]))
				return cl->conn[i];
			continue;
		}
		struct io_conn *c = node_conn(cl, i);
		if(c != NULL && !io_conn_is_idle(c) && !io_conn_is_resting(c))
			return c;
	}
	while(w->seeds && w->step < 2 * nodes + cl->conf->server_count) {
		const struct io_redis_addr *seed =
				&cl->conf->server[w->step - 2 * nodes];
		w->step++;
		conn_free(&w->seed);
		if(is_node(cl, seed))
			continue;
		w->seed = conn_new(cl, seed);
		if(w->seed != NULL)
			return w->seed;
	}
	return NULL;
}

/* The next one that is ready, and until when it may be waited for; NULL:
 * there is no other, or no time. */
static struct io_conn *walk_next(
		struct io_cluster *cl, struct walk *w, uint64_t *until_r)
{
	for(;;) {
		uint64_t now = io_clock_mono_ms();
		if(now >= w->until_ms)
			return NULL;
		*until_r = now + (w->until_ms - now + SHARE - 1) / SHARE;
		struct io_conn *c = walk_candidate(cl, w);
		if(c == NULL)
			return NULL;
		if(io_conn_ready(c, *until_r) == CPM_OK)
			return c;
		(void)snprintf(cl->error, sizeof(cl->error), "%.60s:%u: %.80s",
				c->addr.host, c->addr.port, c->error);
	}
}

/* ------------------------------------------------------------------ the map */

static bool refresh_from(struct io_cluster *cl, struct io_conn *c,
		uint64_t until_ms, struct io_slots *map)
{
	const struct cpm_pl argv[] = {CPM_PL_LIT("CLUSTER"), CPM_PL_LIT("SLOTS")};
	redisReply *reply = NULL;
	bool ok = false;

	if(io_conn_ask(c, 2, argv, until_ms, &reply) != CPM_OK)
		;
	else if(io_reply_error(reply).n > 0)
		(void)io_conn_error_reply(c, reply);
	else {
		ok = io_slots_parse(reply, c->addr.host, map) == CPM_OK;
		if(!ok)
			(void)io_conn_fail(c, 0, "unusable answer to CLUSTER SLOTS");
	}
	if(reply != NULL)
		freeReplyObject(reply);
	if(!ok)
		(void)snprintf(cl->error, sizeof(cl->error), "%.60s:%u: %.80s",
				c->addr.host, c->addr.port, c->error);
	return ok;
}

/* Connections to nodes that are in the new map as well are kept. */
static void adopt(
		struct io_cluster *cl, struct io_slots *map, struct io_conn **seed)
{
	struct io_conn *conn[IO_SLOTS_NODES_MAX] = {NULL};

	for(size_t i = 0; i < map->node_count; i++) {
		for(size_t j = 0; j < cl->map->node_count; j++) {
			if(io_slots_addr_same(&map->node[i], &cl->map->node[j])) {
				conn[i] = cl->conn[j];
				cl->conn[j] = NULL;
			}
		}
		if(conn[i] == NULL && *seed != NULL
				&& io_slots_addr_same(&map->node[i], &(*seed)->addr)) {
			conn[i] = *seed;
			*seed = NULL;
		}
	}
	for(size_t j = 0; j < cl->map->node_count; j++)
		conn_free(&cl->conn[j]);
	memcpy(cl->conn, conn, sizeof(conn));
	free(cl->map);
	cl->map = map;
	cl->known = true;
	cl->stale = false;
}

static void refresh(struct io_cluster *cl)
{
	struct walk w = {.seeds = true,
			.until_ms = io_clock_mono_ms() + cl->conf->connect_timeout_ms
						+ cl->conf->cmd_timeout_ms};
	struct io_slots *map = malloc(sizeof(*map));
	struct io_conn *c;
	uint64_t until;
	bool ok = false;

	if(map == NULL) {
		(void)snprintf(cl->error, sizeof(cl->error), "no memory");
		return;
	}
	cl->next++;
	while(!ok && (c = walk_next(cl, &w, &until)) != NULL)
		ok = refresh_from(cl, c, until, map);
	if(ok)
		adopt(cl, map, &w.seed);
	else
		free(map);
	walk_end(&w);
	cl->refresh_at_ms =
			io_clock_mono_ms() + (ok ? IO_REDIS_REFRESH_MS : IO_REDIS_REST_MS);
}

int io_cluster_begin(struct io_cluster *cl)
{
	if((!cl->known || cl->stale) && io_clock_mono_ms() >= cl->refresh_at_ms)
		refresh(cl);
	return cl->known ? CPM_OK : CPM_EDOWN;
}

/* ------------------------------------------------------------------ routing */

struct io_conn *io_cluster_owner(struct io_cluster *cl, unsigned slot)
{
	if(slot >= IO_SLOTS)
		return NULL;
	if(cl->map->owner[slot] == IO_SLOTS_NONE) {
		cl->stale = true;
		return NULL;
	}
	return node_conn(cl, cl->map->owner[slot]);
}

int io_cluster_ready(struct io_cluster *cl, unsigned slot, uint64_t until_ms,
		struct io_conn **c_r)
{
	struct io_conn *c = io_cluster_owner(cl, slot);
	uint64_t until;

	*c_r = c;
	if(c != NULL) {
		int rc = io_conn_ready(c, until_ms);
		if(rc != CPM_OK)
			cl->stale = true;
		return rc;
	}
	struct walk w = {.until_ms = io_clock_mono_ms()
								 + cl->conf->connect_timeout_ms
								 + cl->conf->cmd_timeout_ms};
	if(until_ms < w.until_ms)
		w.until_ms = until_ms;
	*c_r = walk_next(cl, &w, &until);
	walk_end(&w);
	if(*c_r == NULL)
		cl->stale = true;
	return *c_r != NULL ? CPM_OK : CPM_EDOWN;
}

struct io_conn *io_cluster_redirect(struct io_cluster *cl, bool moved,
		unsigned slot, const struct io_redis_addr *addr)
{
	uint16_t node = io_slots_add(cl->map, addr);

	if(moved)
		cl->stale = true;
	if(node == IO_SLOTS_NONE)
		return NULL;
	if(moved)
		cl->map->owner[slot] = node;
	return node_conn(cl, node);
}
