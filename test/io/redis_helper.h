/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * redis_helper.h - a private redis-server for a test.
 *
 * runs in:  test programs, one thread
 * owns:     the server's process and its directory below TMPDIR
 *
 * Whatever goes wrong in here fails the test. The server dies with the process
 * that started it, so that a test that was aborted leaves none behind.
 */

#ifndef REDIS_HELPER_H
#define REDIS_HELPER_H

#include <stdbool.h>
#include <sys/types.h>

#define REDIS_HELPER_ARGS_MAX 32

struct redis_helper
{
	pid_t pid;	   /* 0: does not run */
	unsigned port; /* on 127.0.0.1 */
	char dir[96];
	char unix_path[108];
	char conf_path[108]; /* a sentinel's; else empty */
	char bus_port[8];	 /* a cluster node's; else empty */
	const char *args[REDIS_HELPER_ARGS_MAX + 1];
};

/* args: more options for redis-server ("--requirepass", "x", ...), ending in
 * NULL, or NULL; the strings must stay. Returns when it answers. */
void redis_start(struct redis_helper *h, const char *const *args);

/* A sentinel that watches the master on that port, as "cpm": one vote is
 * enough, and a server that does not answer for down_after_ms is down.
 * lines: more lines of its configuration, or NULL. */
void redis_start_sentinel(struct redis_helper *h, unsigned master_port,
		unsigned down_after_ms, const char *lines);

/* Nodes of one cluster: the first `masters` share all slots evenly, and those
 * behind them, up to count, are replicas of one each, in order. Returns when
 * all agree. args: as redis_start, for each node. */
void redis_start_cluster(struct redis_helper *nodes, size_t masters,
		size_t count, const char *const *args);

/* A command over a connection of its own, in printf's manner as hiredis has
 * it; the answer as text, also if it is an error. text may be NULL: then an
 * error fails the test. */
void redis_do(const struct redis_helper *h, char *text, size_t cap,
		const char *fmt, ...);

/* The same, where no answer fails no test: a server whose role changes closes
 * connections. Whether there was one, and no error. */
bool redis_try(const struct redis_helper *h, char *text, size_t cap,
		const char *fmt, ...);

/* Waits until the answer to a command has this text in it, e.g.
 * "master_link_status:up". */
void redis_await(
		const struct redis_helper *h, const char *command, const char *line);

/* Waits until the replica has what the master has, and the master knows; it
 * is the only one. */
void redis_await_replica(
		const struct redis_helper *master, const struct redis_helper *replica);

/* Stops it and removes its directory. */
void redis_stop(struct redis_helper *h);

/* SIGKILL, as by a power cut; the directory stays. */
void redis_kill(struct redis_helper *h);

/* Once more, on the same port and directory: with "--appendonly", "yes" among
 * the args it has what it had. Returns when it answers. */
void redis_again(struct redis_helper *h);

/* The kernel accepts connections and bytes, but nobody answers. */
void redis_pause(struct redis_helper *h);
void redis_resume(struct redis_helper *h);

/* A port of 127.0.0.1 that nobody listens on now. */
unsigned redis_free_port(void);

#endif
