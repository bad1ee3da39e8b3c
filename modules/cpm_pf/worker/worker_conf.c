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

static int parse_addr(struct cpm_pl v, int port_min,
		struct sockaddr_storage *addr_r, socklen_t *len_r)
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
			|| set_number(
					   cpm_pl_from(v, colon), (uint64_t)port_min, 65535, &port)
					   != CPM_OK)
		return CPM_EPROTO;
	host.n = colon - 1;
	bool bracket = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
	if(bracket)
		host = cpm_pl(host.p + 1, host.n - 2);
	if(set_text(host, text, sizeof(text)) != CPM_OK)
		return CPM_EPROTO;

	memset(addr_r, 0, sizeof(*addr_r));
	if(!bracket && inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		v4.sin_port = htons((uint16_t)port);
		memcpy(addr_r, &v4, sizeof(v4));
		*len_r = sizeof(v4);
	} else if(bracket && inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
		v6.sin6_port = htons((uint16_t)port);
		memcpy(addr_r, &v6, sizeof(v6));
		*len_r = sizeof(v6);
	} else
		return CPM_EPROTO;
	return CPM_OK;
}

static int set_listen(struct worker_conf *conf, struct cpm_pl v)
{
	int rc = parse_addr(v, 1, &conf->listen, &conf->listen_len);

	if(rc != CPM_OK)
		return rc;
	return set_text(v, conf->listen_text, sizeof(conf->listen_text));
}

static int set_msrp_listen(struct worker_conf *conf, struct cpm_pl v)
{
	struct worker_listen *l = &conf->msrp_listen[conf->msrp_listens];
	struct cpm_pl addr = v;

	if(conf->msrp_listens == WORKER_LISTENS_MAX)
		return CPM_ELIMIT;
	l->tls = cpm_pl_starts(v, CPM_PL_LIT("tls:"));
	if(l->tls)
		addr = cpm_pl_from(v, 4);
	int rc = parse_addr(addr, 0, &l->addr, &l->addr_len);
	if(rc == CPM_OK)
		rc = set_text(v, l->text, sizeof(l->text));
	if(rc == CPM_OK)
		conf->msrp_listens++;
	return rc;
}

static int set_msrp_cert(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->msrp_cert, sizeof(conf->msrp_cert));
}

static int set_msrp_key(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->msrp_key, sizeof(conf->msrp_key));
}

static int set_max_connections(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 1000000, &conf->msrp_max_connections);
}

static int set_max_memory(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 16, 65536, &conf->msrp_max_memory);
}

static int set_max_unbound(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 1000000, &conf->msrp_max_unbound);
}

static int set_bind_time(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 3600, &conf->msrp_bind_time);
}

static int set_connect_time(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 3600, &conf->msrp_connect_time);
}

static int set_answer_time(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 3600, &conf->msrp_answer_time);
}

static int set_idle_time(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 86400, &conf->session_idle_time);
}

static int set_session_time(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 86400, &conf->msrp_session_time);
}

static int set_chunk_size(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 256, 16777216, &conf->msrp_chunk_size);
}

static int set_control_fd(struct worker_conf *conf, struct cpm_pl v)
{
	int fd = 0;

	if(conf->controls == WORKER_CONTROLS_MAX
			|| set_number(v, 3, 65535, &fd) != CPM_OK)
		return CPM_EPROTO;
	for(size_t i = 0; i < conf->controls; i++)
		if(conf->control_fd[i] == fd)
			return CPM_EEXIST;
	conf->control_fd[conf->controls++] = fd;
	return CPM_OK;
}

static int set_node(struct worker_conf *conf, struct cpm_pl v)
{
	for(size_t i = 0; i < v.n; i++)
		if(cpm_hex_value(v.p[i]) < 0)
			return CPM_EPROTO;
	return set_text(v, conf->node, 17);
}

static int set_job_retry(struct worker_conf *conf, struct cpm_pl v)
{
	size_t n = 0;
	int s = 0;

	while(v.p != NULL) {
		if(n == WORKER_RETRY_MAX
				|| set_number(cpm_pl_trim(cpm_pl_cut(&v, ',')), 1, 86400, &s)
						   != CPM_OK)
			return CPM_EPROTO;
		conf->job_retry_ms[n++] = (uint64_t)s * 1000;
	}
	conf->job_retries = n;
	return n > 0 ? CPM_OK : CPM_EPROTO;
}

static int set_job_attempts(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 1000, &conf->job_max_attempts);
}

/* No login in it: it would stand in logs. */
static int set_store_url(struct worker_conf *conf, struct cpm_pl v)
{
	struct cpm_pl host =
			cpm_pl_starts(v, CPM_PL_LIT("imaps://"))  ? cpm_pl_from(v, 8)
			: cpm_pl_starts(v, CPM_PL_LIT("imap://")) ? cpm_pl_from(v, 7)
													  : CPM_PL_NULL;

	for(size_t i = 0; i < host.n; i++)
		if(host.p[i] <= ' ' || host.p[i] > '~'
				|| strchr("/@?#;\"\\", host.p[i]) != NULL)
			return CPM_EPROTO;
	return host.n == 0 ? CPM_EPROTO
					   : set_text(v, conf->store_url, sizeof(conf->store_url));
}

static int set_store_folder(struct worker_conf *conf, struct cpm_pl v)
{
	int rc = cpm_object_template_check(v, NULL);

	if(rc != CPM_OK)
		return rc;
	return set_text(v, conf->store_folder, sizeof(conf->store_folder));
}

static int set_store_login(struct worker_conf *conf, struct cpm_pl v)
{
	if(!cpm_pl_eq(v, CPM_PL_LIT("service")) && !cpm_pl_eq(v, CPM_PL_LIT("user"))
			&& !cpm_object_template_has(v, "user"))
		return CPM_EPROTO;
	return set_text(v, conf->store_login, sizeof(conf->store_login));
}

static int set_store_tls(struct worker_conf *conf, struct cpm_pl v)
{
	if(!cpm_pl_eq(v, CPM_PL_LIT("auto"))
			&& !cpm_pl_eq(v, CPM_PL_LIT("required"))
			&& !cpm_pl_eq(v, CPM_PL_LIT("none")))
		return CPM_EPROTO;
	return set_text(v, conf->store_tls, sizeof(conf->store_tls));
}

static int set_store_ca(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->store_ca, sizeof(conf->store_ca));
}

static int set_store_credentials(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(
			v, conf->store_credentials, sizeof(conf->store_credentials));
}

static int set_store_timeout(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 300, &conf->store_timeout);
}

static int set_push_url(struct worker_conf *conf, struct cpm_pl v)
{
	struct cpm_pl host;
	int rc = cpm_pap_url(v, &host);

	if(rc != CPM_OK)
		return rc;
	return set_text(v, conf->push_url, sizeof(conf->push_url));
}

static int set_push_format(struct worker_conf *conf, struct cpm_pl v)
{
	if(cpm_pl_eq(v, CPM_PL_LIT("pap")))
		conf->push_format = CPM_PAP_XML;
	else if(cpm_pl_eq(v, CPM_PL_LIT("json")))
		conf->push_format = CPM_PAP_JSON;
	else
		return CPM_EPROTO;
	return CPM_OK;
}

static int set_push_ca(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->push_ca, sizeof(conf->push_ca));
}

static int set_push_timeout(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 300, &conf->push_timeout);
}

static int set_push_credentials(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->push_credentials, sizeof(conf->push_credentials));
}

static int set_push_source(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->push_source, sizeof(conf->push_source));
}

static int set_push_retry(struct worker_conf *conf, struct cpm_pl v)
{
	return cpm_pap_intervals(v, conf->push_retry_ms, &conf->push_retries);
}

static int set_push_max(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 1000, &conf->push_max);
}

static int set_push_data_ttl(struct worker_conf *conf, struct cpm_pl v)
{
	int s = 0;
	int rc = set_number(v, 60, 31536000, &s);

	if(rc == CPM_OK)
		conf->push_data_ttl_ms = (uint64_t)s * 1000;
	return rc;
}

static int set_token_file(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->token_file, sizeof(conf->token_file));
}

static int set_admin_cert(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->admin_cert, sizeof(conf->admin_cert));
}

static int set_admin_key(struct worker_conf *conf, struct cpm_pl v)
{
	return set_text(v, conf->admin_key, sizeof(conf->admin_key));
}

static int set_admin_tls(struct worker_conf *conf, struct cpm_pl v)
{
	conf->admin_plain = cpm_pl_eq(v, CPM_PL_LIT("none"));
	return conf->admin_plain || cpm_pl_eq(v, CPM_PL_LIT("auto")) ? CPM_OK
																 : CPM_EPROTO;
}

static int set_admin_rate(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 0, 1000000, &conf->admin_rate);
}

static int set_admin_time(struct worker_conf *conf, struct cpm_pl v)
{
	return set_number(v, 1, 3600, &conf->admin_time);
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
				"..;sentinel_group=..;sentinel=..;cluster=1, each once but "
				"sentinel"},
		{"redis_connect_timeout_ms", set_connect_timeout,
				"a number from 1 to 60000"},
		{"redis_cmd_timeout_ms", set_cmd_timeout, "a number from 1 to 60000"},
		{"key_prefix", set_prefix, "1 to 32 letters, digits, - _ . and :"},
		{"admin_listen", set_listen,
				"address:port or [v6 address]:port, no host name"},
		{"admin_token_file", set_token_file, "the path of a file"},
		{"admin_cert", set_admin_cert, "the path of a file"},
		{"admin_key", set_admin_key, "the path of a file"},
		{"admin_tls", set_admin_tls, "auto or none"},
		{"admin_rate", set_admin_rate, "a number from 0 to 1000000"},
		{"admin_time", set_admin_time, "seconds, from 1 to 3600"},
		{"admin_bodies", set_bodies, "0 or 1"},
		{"msrp_listen", set_msrp_listen,
				"[tls:]address:port or [tls:][v6 address]:port, no host name, "
				"up to 8 times"},
		{"msrp_cert", set_msrp_cert, "the path of a file"},
		{"msrp_key", set_msrp_key, "the path of a file"},
		{"msrp_max_connections", set_max_connections,
				"a number from 1 to 1000000"},
		{"msrp_max_memory", set_max_memory, "MiB, a number from 16 to 65536"},
		{"msrp_max_unbound", set_max_unbound, "a number from 1 to 1000000"},
		{"msrp_bind_time", set_bind_time, "seconds, from 1 to 3600"},
		{"msrp_connect_time", set_connect_time, "seconds, from 1 to 3600"},
		{"msrp_answer_time", set_answer_time, "seconds, from 1 to 3600"},
		{"session_idle_time", set_idle_time, "seconds, from 1 to 86400"},
		{"msrp_session_time", set_session_time, "seconds, from 1 to 86400"},
		{"msrp_chunk_size", set_chunk_size, "bytes, from 256 to 16777216"},
		{"control_fd", set_control_fd,
				"the number of an open descriptor above 2, up to 16 times, "
				"each once"},
		{"node", set_node, "1 to 16 hexadecimal digits"},
		{"job_retry_intervals", set_job_retry,
				"1 to 16 numbers of seconds from 1 to 86400, with commas"},
		{"job_max_attempts", set_job_attempts, "a number from 1 to 1000"},
		{"store_url", set_store_url,
				"imap://host[:port] or imaps://host[:port], without a login"},
		{"store_folder", set_store_folder,
				"levels by /, in which {user}, {originator}, {conversation}, "
				"{contribution} and {date} may stand"},
		{"store_login", set_store_login,
				"user, service, or a login name with {user} in it"},
		{"store_tls", set_store_tls, "auto, required or none"},
		{"store_ca", set_store_ca, "the path of a file"},
		{"store_credentials", set_store_credentials, "the path of a file"},
		{"store_timeout", set_store_timeout, "seconds, from 1 to 300"},
		{"push_url", set_push_url,
				"an http:// or https:// URL with a host, without a login"},
		{"push_format", set_push_format, "pap or json"},
		{"push_ca", set_push_ca, "the path of a file"},
		{"push_timeout", set_push_timeout, "seconds, from 1 to 300"},
		{"push_credentials", set_push_credentials, "the path of a file"},
		{"push_source", set_push_source, "a SIP URI"},
		{"push_retry_intervals", set_push_retry,
				"1 to 16 numbers of seconds from 1 to 86400, with commas"},
		{"push_max", set_push_max, "a number from 1 to 1000"},
		{"push_data_ttl", set_push_data_ttl, "seconds, from 60 to 31536000"},
		{"log", set_log, "stderr or syslog"},
		{"stats_fd", set_stats_fd, "the number of an open descriptor above 2"},
		{"parent_pid", set_parent_pid, "the number of a process"},
};

#define KEYS (sizeof(keys) / sizeof(keys[0]))

static bool may_repeat(size_t key)
{
	return keys[key].set == set_msrp_listen || keys[key].set == set_control_fd;
}

void worker_conf_init(struct worker_conf *conf)
{
	memset(conf, 0, sizeof(*conf));
	conf->stats_fd = -1;
	(void)set_redis(conf, CPM_PL_NULL);
	conf->redis.connect_timeout_ms = 500;
	conf->redis.cmd_timeout_ms = 250;
	(void)set_prefix(conf, CPM_PL_LIT("cpm"));
	(void)set_listen(conf, CPM_PL_LIT("127.0.0.1:8060"));
	conf->admin_rate = 500;
	conf->admin_time = 30;
	conf->msrp_max_connections = 10000;
	conf->msrp_max_memory = 256;
	conf->msrp_max_unbound = 1000;
	conf->msrp_bind_time = 10;
	conf->msrp_connect_time = 30;
	conf->msrp_answer_time = 30;
	conf->session_idle_time = 30;
	conf->msrp_session_time = 3600;
	conf->msrp_chunk_size = 2048;
	(void)set_job_retry(conf, CPM_PL_LIT("5,30,120,600,3600"));
	conf->job_max_attempts = 20;
	(void)set_store_folder(conf, CPM_PL_LIT("Default/{originator}"));
	(void)set_store_login(conf, CPM_PL_LIT("user"));
	(void)set_store_tls(conf, CPM_PL_LIT("auto"));
	conf->store_timeout = 30;
	conf->push_timeout = 10;
	(void)set_push_retry(conf, CPM_PL_LIT("60,300,1800,7200,21600"));
	conf->push_max = 10;
	(void)set_push_data_ttl(conf, CPM_PL_LIT("2592000"));
}

/* Values are not repeated in a message: one of them holds a password. */
static int parse_line(struct cpm_pl line, unsigned number,
		struct worker_conf *conf, uint64_t *seen, char *why, size_t cap)
{
	struct cpm_pl value = line;
	struct cpm_pl key = cpm_pl_trim(cpm_pl_cut(&value, '='));

	for(size_t i = 0; i < KEYS; i++) {
		if(!cpm_pl_eq(key, cpm_pl_str(keys[i].key)))
			continue;
		bool again = (*seen & (UINT64_C(1) << i)) != 0;
		if(again && keys[i].set == set_redis) {
			/* one more seed node of a cluster */
			if(io_redis_conf_add(cpm_pl_trim(value), &conf->redis, NULL)
					== CPM_OK)
				return CPM_OK;
			(void)snprintf(why, cap,
					"line %u: %s is repeated for the seed nodes of a cluster",
					number, keys[i].key);
			return CPM_EPROTO;
		}
		if(again && !may_repeat(i)) {
			(void)snprintf(why, cap, "line %u: %s is given twice", number,
					keys[i].key);
			return CPM_EPROTO;
		}
		*seen |= UINT64_C(1) << i;
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
	unsigned number = 0;
	uint64_t seen = 0;

	while(text.n > 0) {
		struct cpm_pl line = cpm_pl_trim(cpm_pl_cut(&text, '\n'));
		number++;
		if(line.n == 0 || line.p[0] == '#')
			continue;
		int rc = parse_line(line, number, conf, &seen, why, cap);
		if(rc != CPM_OK)
			return rc;
	}
	if(conf->msrp_listens == 0)
		(void)set_msrp_listen(conf, CPM_PL_LIT("127.0.0.1:2855"));
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
