/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_conn.h - one connection to one Redis server, and the commands for it.
 *
 * runs in:  any process; for the files behind io_redis.h only
 * owns:     a socket and a hiredis reader
 * never:    knows of topologies; gives a command again
 *
 * Deadlines are on the clock of io_clock_mono_ms.
 */

#ifndef IO_CONN_H
#define IO_CONN_H

#include "io_redis.h"

#define IO_CONN_SHA_LEN 40
#define IO_CONN_ERROR_MAX 160

/* ----------------------------------------------------- commands, encoded */

struct io_buf
{
	char *p;
	size_t n;
	size_t cap;
	bool failed; /* no memory: something is lacking */
};

void io_buf_command(struct io_buf *b, size_t argc, const struct cpm_pl *argv);
void io_buf_load(struct io_buf *b, enum cpm_script script);
void io_buf_eval(struct io_buf *b, const char *sha, const struct cpm_pl *keys,
		size_t key_count, const struct cpm_pl *args, size_t arg_count);
void io_buf_reset(struct io_buf *b); /* empties it; a large one is given back */
void io_buf_free(struct io_buf *b);
struct cpm_pl io_buf_pl(const struct io_buf *b);

/* ------------------------------------------------------------ connection */

/* What is done and how long is waited when it connects. Texts are borrowed. */
struct io_conn_how
{
	const char *user; /* empty: none */
	const char *pass; /* empty: no AUTH */
	unsigned db;
	bool scripts; /* load ours */
	bool master;  /* refuse whoever does not call itself a master */
	unsigned connect_timeout_ms;
	unsigned cmd_timeout_ms;
};

struct redisReader;

struct io_conn
{
	struct io_conn_how how;
	struct io_redis_addr addr;
	const char *unix_path; /* not NULL: instead of addr; borrowed */
	int fd;				   /* -1: not connected */
	struct redisReader *reader;
	size_t elements; /* of the answer that is being read */
	size_t owed;	 /* answers that have not been read */
	uint64_t opened_ms;
	uint64_t rest_until_ms; /* breaker: no attempt before */
	char sha[CPM_SCRIPT_COUNT_][IO_CONN_SHA_LEN]; /* while connected */
	char error[IO_CONN_ERROR_MAX];				  /* why the last call failed */

	/* the caller's, for a pipeline */
	struct io_buf out;
	bool loaded[CPM_SCRIPT_COUNT_]; /* SCRIPT LOAD is in out */
	bool used;
	int rc; /* what became of all that has no answer yet */
};

void io_conn_init(struct io_conn *c, const struct io_conn_how *how);
void io_conn_fini(struct io_conn *c);
void io_conn_close(struct io_conn *c);

/* Sets error; returns rc. */
__attribute__((format(printf, 3, 4))) int io_conn_fail(
		struct io_conn *c, int rc, const char *fmt, ...);

/* The breaker: opens it; whether it is open. */
void io_conn_rest(struct io_conn *c);
bool io_conn_is_resting(const struct io_conn *c);

/* Connected, no answer owed, and the server has not closed it meanwhile. */
bool io_conn_is_idle(struct io_conn *c);

/* Connects, whether it rests or not: at most connect_timeout_ms, then
 * cmd_timeout_ms for AUTH, SELECT, ROLE and SCRIPT LOAD in one round trip, and
 * all of it until until_ms. CPM_OK; CPM_EDOWN, and the breaker is open. */
int io_conn_open(struct io_conn *c, uint64_t until_ms);

/* Idle, if need be after connecting. CPM_OK; CPM_EDOWN, at once when it
 * rests; error still says why then. */
int io_conn_ready(struct io_conn *c, uint64_t until_ms);

/* Sends commands that have that many answers.
 * CPM_OK; CPM_EDOWN: not a byte has left; CPM_EUNSURE. On failure the
 * connection is closed. */
int io_conn_send(struct io_conn *c, const struct cpm_pl *parts, size_t count,
		size_t answers, uint64_t deadline_ms);

/* The next answer, also if it is an error. CPM_OK; CPM_EUNSURE, and the
 * connection is closed: an answer that is late must not be taken for the next
 * command's. */
int io_conn_recv(
		struct io_conn *c, uint64_t deadline_ms, struct redisReply **reply_r);

/* One command, where an error is an answer as well. Results as above. */
int io_conn_ask(struct io_conn *c, size_t argc, const struct cpm_pl *argv,
		uint64_t deadline_ms, struct redisReply **reply_r);

/* ---------------------------------------------------------------- answers */

struct cpm_pl io_reply_error(const struct redisReply *r); /* n 0: is none */
bool io_error_is(struct cpm_pl error, const char *word);

/* Sets c->error: "server says: ...", without what it quotes.
 * CPM_EDOWN: the server is alive and did nothing, because it cannot now;
 * CPM_EPROTO: any other error. */
int io_conn_error_reply(struct io_conn *c, const struct redisReply *r);

#endif
