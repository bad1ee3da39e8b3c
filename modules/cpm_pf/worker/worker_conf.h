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
 *     admin_cert=/etc/... admin_key=...  PEM files; the key may be in the
 *                                        first; without them no TLS
 *     admin_tls=auto                     none: tokens may go unencrypted over
 *                                        a network
 *     admin_rate=500                     requests a second of one address;
 *                                        0: no bound; up to 1000000
 *     admin_time=30                      s of one request and its answer, in
 *                                        all; 1..3600
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
 *     node=1a2b3c4d                      hexadecimal, of this node alone; one
 *                                        by chance if it is not given
 *     job_retry_intervals=5,30,120,600,3600   s, 1 to 16 of them
 *     job_max_attempts=20                1..1000
 *     store_url=imaps://host[:port]      or imap://; without it no courier
 *                                        stores anything
 *     store_folder=Default/{originator}  see core/cpm_object.h
 *     store_login=user                   service: as store_credentials says;
 *                                        user: the same, acting for the user
 *                                        (SASL PLAIN, RFC 4616); or a login
 *                                        name of {user} and {login}
 *     store_tls=auto                     of imap://: STARTTLS where it is
 *                                        offered, and no password in the
 *                                        clear but to this host; required;
 *                                        none
 *     store_ca=/etc/...                  PEM file; the system's by default
 *     store_credentials=/etc/...         lines "user NAME", "password WORD";
 *                                        else the environment's CPM_STORE_USER
 *                                        and CPM_STORE_PASSWORD
 *     store_timeout=30                   s of one deposit in all; 1..300
 *     push_url=https://host/path         or http://; without it no courier
 *                                        pushes anything
 *     push_format=pap                    or json, see core/cpm_pap.h
 *     push_ca=/etc/...                   PEM file; the system's by default
 *     push_timeout=10                    s of one push; 1..300
 *     push_credentials=/etc/...          a line "user:password" or "Bearer
 *                                        ..."; else the environment's
 *                                        CPM_PUSH_CREDENTIALS
 *     push_source=sip:pf@example.org     who the gateway is told to be asked by
 *     push_retry_intervals=60,300,1800,7200,21600   s, 1 to 16 of them
 *     push_max=10                        pushes to a user that does not come
 *     push_data_ttl=2592000              s that a client is remembered
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
#include "../core/cpm_object.h"
#include "../core/cpm_pap.h"
#include "../core/cpm_queue.h"
#include "../io/io_redis.h"

#define WORKER_CONF_BYTES_MAX 65536
#define WORKER_LISTENS_MAX 8
#define WORKER_CONTROLS_MAX 16
#define WORKER_RETRY_MAX 16

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
	char admin_cert[1024]; /* empty: none */
	char admin_key[1024];
	bool admin_plain; /* admin_tls is none */
	int admin_rate;
	int admin_time; /* s */
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
	char node[32]; /* empty: not given */
	uint64_t job_retry_ms[WORKER_RETRY_MAX];
	size_t job_retries;
	int job_max_attempts;
	char store_url[512]; /* empty: none, as below */
	char store_folder[CPM_OBJECT_TEMPLATE_MAX + 1];
	char store_login[256];
	char store_tls[16];
	char store_ca[1024];
	char store_credentials[1024];
	int store_timeout;					/* s */
	char push_url[CPM_PAP_URL_MAX + 1]; /* empty: none */
	enum cpm_pap_format push_format;
	char push_ca[1024];
	int push_timeout; /* s */
	char push_credentials[1024];
	char push_source[512];
	uint64_t push_retry_ms[CPM_PAP_INTERVALS_MAX];
	size_t push_retries;
	int push_max;
	uint64_t push_data_ttl_ms;
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
