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
 *     redis=addr=127.0.0.1;port=6379     a server string, see io_redis.h
 *     redis_connect_timeout_ms=500       1..60000
 *     redis_cmd_timeout_ms=250           1..60000
 *     key_prefix=cpm                     1..32 letters, digits and -_.:
 *     admin_listen=127.0.0.1:8060        address:port, [v6 address]:port
 *     admin_token_file=/etc/...          see admin_auth.h; none by default
 *     admin_bodies=0                     1: bodies may be read
 *     log=stderr                         or syslog
 *     stats_fd=5                         an inherited struct cpm_stats
 *     parent_pid=1234                    ends when this is no more its parent
 *
 * These are the values when a key is not given, but for the last two: then
 * there is no page, and no parent to look for.
 */

#ifndef WORKER_CONF_H
#define WORKER_CONF_H

#include <stdbool.h>
#include <sys/socket.h>

#include "../core/cpm_base.h"
#include "../core/cpm_queue.h"
#include "../io/io_redis.h"

#define WORKER_CONF_BYTES_MAX 65536

struct worker_conf
{
	struct io_redis_conf redis;
	char key_prefix[CPM_QUEUE_PREFIX_MAX + 1];
	struct sockaddr_storage listen;
	socklen_t listen_len;
	char listen_text[64];  /* as it was given */
	char token_file[1024]; /* empty: none */
	bool bodies;
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
