/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "worker_conf.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>

/* Each setter: CPM_OK, or a negative code for "no such value". */

static int set_redis(struct worker_conf *conf, struct cpm_pl v)
{
	return io_redis_conf_parse(v, &conf->redis, NULL);
}

static int set_number(struct cpm_pl v, uint64_t min, uint64_t max, int *n_r)
{
	uint64_t n;

	if(cpm_pl_u64(v, max, &n) != CPM_OK || n < min)
		return CPM_EPROTO;
	*n_r = (int)n;
	return CPM_OK;
}

static int set_timeout(struct cpm_pl v, unsigned *ms_r)
{
	int n = 0;
	int rc = set_number(v, 1, 60000, &n);

	if(rc == CPM_OK)
		*ms_r = (unsigned)n;
	return rc;
}

static int set_connect_timeout(struct worker_conf *conf, struct cpm_pl v)
{
	return set_timeout(v, &conf->redis.connect_timeout_ms);
}

static int set_cmd_timeout(struct worker_conf *conf, struct cpm_pl v)
{
	return set_timeout(v, &conf->redis.cmd_timeout_ms);
}

static int set_text(struct cpm_pl v, char *dst, size_t cap)
{
	if(v.n == 0 || v.n >= cap || memchr(v.p, '\0', v.n) != NULL)
		return CPM_EPROTO;
	cpm_pl_cstr(v, dst, cap);
	return CPM_OK;
}

/* No braces: they would move the hash tag of a cluster. */
static int set_prefix(struct worker_conf *conf, struct cpm_pl v)
{
	static const char punct[] = "-_.:";

	for(size_t i = 0; i < v.n; i++) {
		char c = v.p[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
				  || (c >= '0' && c <= '9')
				  || memchr(punct, c, sizeof(punct) - 1) != NULL;
		if(!ok)
			return CPM_EPROTO;
	}
	return set_text(v, conf->key_prefix, sizeof(conf->key_prefix));
}

static int set_listen(struct worker_conf *conf, struct cpm_pl v)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct cpm_pl host = v;
	size_t colon = v.n;
	char text[64];
	int port = 0;

	while(colon > 0 && v.p[colon - 1] != ':')
		colon--;
	if(colon == 0
			|| set_number(cpm_pl_from(v, colon), 1, 65535, &port) != CPM_OK)
		return CPM_EPROTO;
	host.n = colon - 1;
	bool bracket = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
	if(bracket)
		host = cpm_pl(host.p + 1, host.n - 2);
	if(set_text(host, text, sizeof(text)) != CPM_OK)
		return CPM_EPROTO;

	memset(&conf->listen, 0, sizeof(conf->listen));
	if(!bracket && inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		v4.sin_port = htons((uint16_t)port);
		memcpy(&conf->listen, &v4, sizeof(v4));
		conf->listen_len = sizeof(v4);
	} else if(bracket && inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
		v6.sin6_port = htons((uint16_t)port);
		memcpy(&conf->listen, &v6, sizeof(v6));
		conf->listen_len = sizeof(v6);
	} else
		return CPM_EPROTO;
	return set_text(v, conf->listen_text, sizeof(conf->listen_text));
}

static int set_token_file(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->token_file, sizeof(conf->token_file));
}

static int set_bodies(struct worker_conf *conf, struct cpm_pl v)
{
	int n = 0;
	int rc = set_number(v, 0, 1, &n);

	if(rc == CPM_OK)
		conf->bodies = n == 1;
	return rc;
}

static int set_log(struct worker_conf *conf, struct cpm_pl v)
{
	if(!cpm_pl_eq(v, CPM_PL_LIT("stderr"))
			&& !cpm_pl_eq(v, CPM_PL_LIT("syslog")))
		return CPM_EPROTO;
	conf->log_syslog = v.p[1] == 'y';
	return CPM_OK;
}

static int set_stats_fd(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 3, INT_MAX, &conf->stats_fd);
}

static int set_parent_pid(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, INT_MAX, &conf->parent_pid);
}

static const struct
{
	const char *key;
	int (*set)(struct worker_conf *conf, struct cpm_pl v);
	const char *takes;
} keys[] = {
		{"redis", set_redis,
				"parts of addr=..;port=..;db=..;user=..;pass=..;unix=..;name="
				".., each once"},
		{"redis_connect_timeout_ms", set_connect_timeout,
				"a number from 1 to 60000"},
		{"redis_cmd_timeout_ms", set_cmd_timeout, "a number from 1 to 60000"},
		{"key_prefix", set_prefix, "1 to 32 letters, digits, - _ . and :"},
		{"admin_listen", set_listen,
				"address:port or [v6 address]:port, no host name"},
		{"admin_token_file", set_token_file, "the path of a file"},
		{"admin_bodies", set_bodies, "0 or 1"},
		{"log", set_log, "stderr or syslog"},
		{"stats_fd", set_stats_fd, "the number of an open descriptor above 2"},
		{"parent_pid", set_parent_pid, "the number of a process"},
};

#define KEYS (sizeof(keys) / sizeof(keys[0]))

void worker_conf_init(struct worker_conf *conf)
{
	memset(conf, 0, sizeof(*conf));
	conf->stats_fd = -1;
	(void)set_redis(conf, CPM_PL_NULL);
	conf->redis.connect_timeout_ms = 500;
	conf->redis.cmd_timeout_ms = 250;
	(void)set_prefix(conf, CPM_PL_LIT("cpm"));
	(void)set_listen(conf, CPM_PL_LIT("127.0.0.1:8060"));
}

/* Values are not repeated in a message: one of them holds a password. */
static int parse_line(struct cpm_pl line, unsigned number,
		struct worker_conf *conf, unsigned *seen, char *why, size_t cap)
{
	struct cpm_pl value = line;
	struct cpm_pl key = cpm_pl_trim(cpm_pl_cut(&value, '='));

	for(size_t i = 0; i < KEYS; i++) {
		if(!cpm_pl_eq(key, cpm_pl_str(keys[i].key)))
			continue;
		if((*seen & (1u << i)) != 0) {
			(void)snprintf(why, cap, "line %u: %s is given twice", number,
					keys[i].key);
			return CPM_EPROTO;
		}
		*seen |= 1u << i;
		if(keys[i].set(conf, cpm_pl_trim(value)) == CPM_OK)
			return CPM_OK;
		(void)snprintf(why, cap, "line %u: %s takes %s", number, keys[i].key,
				keys[i].takes);
		return CPM_EPROTO;
	}
	(void)snprintf(why, cap, "line %u: no such key", number);
	return CPM_EPROTO;
}

int worker_conf_parse(
		struct cpm_pl text, struct worker_conf *conf, char *why, size_t cap)
{
	unsigned number = 0, seen = 0;

	while(text.n > 0) {
		struct cpm_pl line = cpm_pl_trim(cpm_pl_cut(&text, '\n'));
		number++;
		if(line.n == 0 || line.p[0] == '#')
			continue;
		int rc = parse_line(line, number, conf, &seen, why, cap);
		if(rc != CPM_OK)
			return rc;
	}
	return CPM_OK;
}

bool worker_addr_is_loopback(const struct sockaddr *addr)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	if(addr->sa_family == AF_INET) {
		memcpy(&v4, addr, sizeof(v4));
		return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
	}
	if(addr->sa_family != AF_INET6)
		return false;
	memcpy(&v6, addr, sizeof(v6));
	return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr)
		   || (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)
				   && v6.sin6_addr.s6_addr[12] == 127);
}
