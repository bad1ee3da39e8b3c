/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_redis.h - one blocking Redis connection with honest failures.
 *
 * runs in:  any process, one connection each; not thread-safe
 * owns:     a socket and a hiredis reader
 * never:    includes Kamailio; logs; re-sends a command on its own
 *
 * Two failures are kept apart. CPM_EDOWN: the command never left, nothing was
 * written. CPM_EUNSURE: it left and no answer came, it was executed or not;
 * only an idempotent command may be given again.
 *
 * A connection that the server closed while it was idle is noticed before a
 * command is sent, and made anew, so that it costs no error. After a failed
 * connect or a time-out the breaker is open for IO_REDIS_REST_MS: every
 * call is CPM_EDOWN at once, so that a SIP worker never waits twice for a
 * server that does not answer; the first call after that is the probe.
 *
 * A call takes at most connect_timeout_ms, when it has to connect, plus
 * cmd_timeout_ms. (A host name is resolved by libc in a time of its own.)
 */

#ifndef IO_REDIS_H
#define IO_REDIS_H

#include "../core/cpm_base.h"
#include "../core/cpm_queue.h"

#define IO_REDIS_REST_MS 500
#define IO_REDIS_ARGS_MAX 64

struct redisReply; /* hiredis/hiredis.h, for ring 1 only */

struct io_redis_conf
{
	char name[64];
	char addr[256];		 /* host or address; default 127.0.0.1 */
	unsigned port;		 /* default 6379 */
	char unix_path[108]; /* wins over addr and port */
	char user[128];		 /* ACL user; needs pass */
	char pass[256];
	unsigned db;
	unsigned connect_timeout_ms;
	unsigned cmd_timeout_ms;
};

/* A server string as ndb_redis takes it: "name=..;addr=..;port=..;db=..;
 * user=..;pass=..;unix=..", spaces around parts allowed, ';' at the end too.
 * Sets defaults first; leaves the time-outs alone.
 * CPM_OK; CPM_EPROTO: "unknown-key", "no-value", "bad-port", "bad-db",
 * "user-without-pass", "repeated-key"; CPM_ELIMIT: "too-long". */
int io_redis_conf_parse(
		struct cpm_pl s, struct io_redis_conf *conf_r, struct cpm_diag *diag);

struct io_redis;

/* Does not connect yet. NULL: no memory. conf is copied. */
struct io_redis *io_redis_new(const struct io_redis_conf *conf);
void io_redis_free(struct io_redis **r);

/* Why the last call failed, one line without user data; never NULL. */
const char *io_redis_error(const struct io_redis *r);

/* One command. *reply_r is to be freed by io_redis_reply_free, and set only
 * with CPM_OK.
 * CPM_OK; CPM_EDOWN; CPM_EUNSURE; CPM_EPROTO: the server answered with an
 * error (its text: io_redis_error), the command was not executed;
 * CPM_EDOWN also for LOADING, MASTERDOWN, READONLY, OOM, NOREPLICAS, MISCONF,
 * CLUSTERDOWN, BUSY, NOAUTH and WRONGPASS: alive, but cannot take the write;
 * nothing was written. */
int io_redis_command(struct io_redis *r, size_t argc, const struct cpm_pl *argv,
		struct redisReply **reply_r);

/* A script, by EVALSHA. All are loaded when it connects, in the round trip of
 * AUTH and SELECT, and one again when the server has forgotten it (NOSCRIPT:
 * was not executed, so giving it again is safe). Results as io_redis_command;
 * an error out of a script means "not executed" because no script of ours
 * fails after its first write, and Redis looks at OOM, READONLY, MISCONF and
 * NOREPLICAS only before a script's first write. */
int io_redis_eval(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count, struct redisReply **reply_r);

/* The same in two halves, to have many on their way at once: first any
 * number of _add, then as many _get, in order. After a failed _add or _get
 * the rest is lost: call no more _get. Results as above. */
int io_redis_eval_add(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count);
int io_redis_command_add(
		struct io_redis *r, size_t argc, const struct cpm_pl *argv);
int io_redis_get(struct io_redis *r, struct redisReply **reply_r);

void io_redis_reply_free(struct redisReply **reply);

#endif
