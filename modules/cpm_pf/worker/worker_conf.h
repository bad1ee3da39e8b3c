/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * worker_conf.h - what a worker is told, as lines of key=value.
 *
 * runs in:  cpm_pf_worker, at start
 * owns:     nothing
 *
 *     # a comment
 *     redis=addr=127.0.0.1;port=6379     a server string, see io_redis.h;
 *                                        one for each seed node of a cluster
 *     redis_connect_timeout_ms=500       1..60000
 *     redis_cmd_timeout_ms=250           1..60000
 *     key_prefix=cpm                     1..32 letters, digits and -_.:
 *     admin_listen=127.0.0.1:8060        address:port, [v6 address]:port
 *     admin_token_file=/etc/...          see admin_auth.h; none by default
 *     admin_bodies=0                     1: bodies may be read
 *     msrp_listen=127.0.0.1:2855         [tls:]address:port, up to 8 of them;
 *                                        port 0: the kernel chooses
 *     msrp_cert=/etc/... msrp_key=...    PEM files; the key may be in the
 *                                        first; without them no TLS that
 *                                        others begin
 *     msrp_max_connections=10000         1..1000000
 *     msrp_max_memory=256                MiB, 16..65536
 *     msrp_max_unbound=1000              connections of one address that have
 *                                        named no session; 1..1000000
 *     msrp_bind_time=10                  s until they are closed; 1..3600
 *     msrp_connect_time=30               s until a session is connected
 *     msrp_answer_time=30                s until a chunk is answered
 *     session_idle_time=30               s without a byte; 1..86400
 *     msrp_session_time=3600             s of a session in all; 1..86400
 *     msrp_chunk_size=2048               bytes, 256..16777216
 *     control_fd=7                       a socket of a delivery worker, up to
 *                                        16 of them
 *     log=stderr                         or syslog
 *     stats_fd=5                         an inherited struct cpm_stats
 *     parent_pid=1234                    ends when this is no more its parent
 *
 * These are the values when a key is not given, but for msrp_cert, msrp_key,
 * control_fd, stats_fd and parent_pid: then there is no such thing.
 */

#ifndef WORKER_CONF_H
#define WORKER_CONF_H

#include <stdbool.h>
#include <sys/socket.h>

#include "../core/cpm_base.h"
#include "../core/cpm_queue.h"
#include "../io/io_redis.h"

#define WORKER_CONF_BYTES_MAX 65536
#define WORKER_LISTENS_MAX 8
#define WORKER_CONTROLS_MAX 16

struct worker_listen
{
	struct sockaddr_storage addr;
	socklen_t addr_len;
	bool tls;
	char text[64]; /* as it was given */
};

struct worker_conf
{
	struct io_redis_conf redis;
	char key_prefix[CPM_QUEUE_PREFIX_MAX + 1];
	struct sockaddr_storage listen;
	socklen_t listen_len;
	char listen_text[64];  /* as it was given */
	char token_file[1024]; /* empty: none */
	bool bodies;
	struct worker_listen msrp_listen[WORKER_LISTENS_MAX];
	size_t msrp_listens;
	char msrp_cert[1024]; /* empty: none */
	char msrp_key[1024];
	int msrp_max_connections;
	int msrp_max_memory; /* MiB */
	int msrp_max_unbound;
	int msrp_bind_time; /* s, as the others */
	int msrp_connect_time;
	int msrp_answer_time;
	int session_idle_time;
	int msrp_session_time;
	int msrp_chunk_size;
	int control_fd[WORKER_CONTROLS_MAX];
	size_t controls;
	bool log_syslog;
	int stats_fd;	/* -1: none */
	int parent_pid; /* 0: none */
};

void worker_conf_init(struct worker_conf *conf);

/* CPM_OK; CPM_EPROTO: why tells, in one line, which key, and what it takes.
 * What was read up to there is in *conf. */
int worker_conf_parse(
		struct cpm_pl text, struct worker_conf *conf, char *why, size_t cap);

/* Whether only processes of this host can reach it. */
bool worker_addr_is_loopback(const struct sockaddr *addr);

#endif
