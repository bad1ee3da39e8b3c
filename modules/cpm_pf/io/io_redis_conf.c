/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_redis_conf.c - server strings, see io_redis.h.
 */

#include "io_redis.h"

#include <stdio.h>

#define DEFAULT_PORT 6379
#define DEFAULT_SENTINEL_PORT 26379

/* One string while it is read. */
struct reading
{
	struct io_redis_conf conf;
	unsigned seen; /* a bit for each row of keys that was given */
	bool cluster;
	bool tls;
	const char *why;
};

enum kind
{
	KIND_TEXT,
	KIND_NUMBER,
	KIND_BOOL,
	KIND_SENTINEL,
};

struct conf_key
{
	const char *name;
	enum kind kind;
	size_t offset; /* in struct reading */
	size_t size;   /* of a text */
	unsigned min;  /* of a number */
	unsigned max;
	const char *why; /* what a wrong value is called */
};

#define CONF_AT(field) offsetof(struct reading, conf.field)
#define CONF_TEXT(name, field)                                          \
	{                                                                   \
		name, KIND_TEXT, CONF_AT(field),                                \
				sizeof(((struct io_redis_conf *)NULL)->field), 0, 0, "" \
	}

enum
{
	KEY_ADDR,
	KEY_PORT,
	KEY_UNIX,
	KEY_SENTINEL,
	KEY_GROUP,
	KEY_SENTINEL_USER,
	KEY_SENTINEL_PASS,
};

static const struct conf_key conf_keys[] = {
		[KEY_ADDR] = CONF_TEXT("addr", addr),
		[KEY_PORT] = {"port", KIND_NUMBER, CONF_AT(port), 0, 1, 65535,
				"bad-port"},
		[KEY_UNIX] = CONF_TEXT("unix", unix_path),
		[KEY_SENTINEL] = {"sentinel", KIND_SENTINEL, 0, 0, 0, 0,
				"bad-sentinel"},
		[KEY_GROUP] = CONF_TEXT("sentinel_group", sentinel_group),
		[KEY_SENTINEL_USER] = CONF_TEXT("sentinel_user", sentinel_user),
		[KEY_SENTINEL_PASS] = CONF_TEXT("sentinel_pass", sentinel_pass),
		CONF_TEXT("name", name),
		CONF_TEXT("user", user),
		CONF_TEXT("pass", pass),
		{"db", KIND_NUMBER, CONF_AT(db), 0, 0, INT32_MAX, "bad-db"},
		{"cluster", KIND_BOOL, offsetof(struct reading, cluster), 0, 0, 1,
				"bad-cluster"},
		{"tls", KIND_BOOL, offsetof(struct reading, tls), 0, 0, 1, "bad-tls"},
};

#define CONF_KEYS (sizeof(conf_keys) / sizeof(conf_keys[0]))

static bool was_seen(const struct reading *rd, unsigned key)
{
	return (rd->seen & (1u << key)) != 0;
}

/* "host", "host:port", "[v6]", "[v6]:port" */
static int read_addr(
		struct cpm_pl v, unsigned default_port, struct io_redis_addr *addr_r)
{
	struct cpm_pl host = v, port = CPM_PL_NULL;
	uint64_t number = default_port;
	bool has_port = false;

	if(v.n > 0 && v.p[0] == '[') {
		size_t end = cpm_pl_chr(v, ']');
		if(end == v.n)
			return CPM_EPROTO;
		host = cpm_pl(v.p + 1, end - 1);
		port = cpm_pl_from(v, end + 1);
		has_port = port.n > 0;
		if(has_port && port.p[0] != ':')
			return CPM_EPROTO;
		port = cpm_pl_from(port, 1);
	} else if(cpm_pl_chr(v, ':') < v.n) {
		port = v;
		host = cpm_pl_cut(&port, ':');
		has_port = true;
	}
	if(host.n == 0 || memchr(host.p, '\0', host.n) != NULL
			|| (has_port
					&& (cpm_pl_u64(port, 65535, &number) != CPM_OK
							|| number == 0)))
		return CPM_EPROTO;
	if(host.n >= sizeof(addr_r->host))
		return CPM_ELIMIT;
	memset(addr_r, 0, sizeof(*addr_r));
	cpm_pl_cstr(host, addr_r->host, sizeof(addr_r->host));
	addr_r->port = (unsigned)number;
	return CPM_OK;
}

static int add_sentinel(struct reading *rd, struct cpm_pl value)
{
	struct io_redis_conf *conf = &rd->conf;

	if(conf->server_count == IO_REDIS_SERVERS_MAX) {
		rd->why = "too-many-sentinels";
		return CPM_ELIMIT;
	}
	int rc = read_addr(
			value, DEFAULT_SENTINEL_PORT, &conf->server[conf->server_count]);
	if(rc == CPM_ELIMIT)
		rd->why = "too-long";
	if(rc == CPM_OK)
		conf->server_count++;
	return rc;
}

/* One "key=value". */
static int read_part(struct cpm_pl part, struct reading *rd)
{
	struct cpm_pl value = part;
	struct cpm_pl key = cpm_pl_trim(cpm_pl_cut(&value, '='));
	uint64_t number;
	unsigned i;

	value = cpm_pl_trim(value);
	for(i = 0; i < CONF_KEYS; i++) {
		if(cpm_pl_eq(key, cpm_pl_str(conf_keys[i].name)))
			break;
	}
	rd->why = "unknown-key";
	if(i == CONF_KEYS)
		return CPM_EPROTO;
	rd->why = "no-value";
	if(value.n == 0)
		return CPM_EPROTO;
	rd->why = "repeated-key";
	if(was_seen(rd, i) && conf_keys[i].kind != KIND_SENTINEL)
		return CPM_EPROTO;
	rd->seen |= 1u << i;

	char *field = (char *)rd + conf_keys[i].offset;
	rd->why = conf_keys[i].why;
	if(conf_keys[i].kind == KIND_SENTINEL)
		return add_sentinel(rd, value);
	if(conf_keys[i].kind == KIND_TEXT) {
		rd->why = "too-long";
		if(value.n >= conf_keys[i].size)
			return CPM_ELIMIT;
		cpm_pl_cstr(value, field, conf_keys[i].size);
		return CPM_OK;
	}
	if(cpm_pl_u64(value, conf_keys[i].max, &number) != CPM_OK
			|| number < conf_keys[i].min)
		return CPM_EPROTO;
	if(conf_keys[i].kind == KIND_BOOL) {
		*(bool *)field = number == 1;
		return CPM_OK;
	}
	unsigned n = (unsigned)number;
	memcpy(field, &n, sizeof(n));
	return CPM_OK;
}

/* What contradicts itself, as a word; NULL: nothing. */
static const char *contradiction(const struct reading *rd)
{
	const struct io_redis_conf *conf = &rd->conf;
	bool sentinel = was_seen(rd, KEY_SENTINEL);
	const struct
	{
		bool is;
		const char *why;
	} rows[] = {
			{rd->tls, "tls-not-available"},
			{rd->cluster
							&& (sentinel || was_seen(rd, KEY_GROUP)
									|| was_seen(rd, KEY_SENTINEL_USER)
									|| was_seen(rd, KEY_SENTINEL_PASS)),
					"sentinel-and-cluster"},
			{rd->cluster && conf->unix_path[0] != '\0', "cluster-with-unix"},
			{rd->cluster && conf->db != 0, "cluster-with-db"},
			{sentinel && !was_seen(rd, KEY_GROUP), "sentinel-without-group"},
			{!sentinel
							&& (was_seen(rd, KEY_GROUP)
									|| was_seen(rd, KEY_SENTINEL_USER)
									|| was_seen(rd, KEY_SENTINEL_PASS)),
					"no-sentinel"},
			{sentinel
							&& (was_seen(rd, KEY_ADDR) || was_seen(rd, KEY_PORT)
									|| was_seen(rd, KEY_UNIX)),
					"sentinel-with-addr"},
			/* AUTH with a user and no password would be refused each time */
			{conf->user[0] != '\0' && conf->pass[0] == '\0',
					"user-without-pass"},
			{conf->sentinel_user[0] != '\0' && conf->sentinel_pass[0] == '\0',
					"user-without-pass"},
	};

	for(size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if(rows[i].is)
			return rows[i].why;
	}
	return NULL;
}

/* addr=[2001:db8::1] is what people write who know it from URIs. */
static int addr_unbracket(struct io_redis_conf *conf)
{
	struct io_redis_addr addr;

	if(conf->addr[0] != '[')
		return CPM_OK;
	if(read_addr(cpm_pl_str(conf->addr), 0, &addr) != CPM_OK || addr.port != 0)
		return CPM_EPROTO;
	memcpy(conf->addr, addr.host, sizeof(conf->addr));
	return CPM_OK;
}

static int conf_fail(struct cpm_diag *diag, int rc, const char *why, size_t at)
{
	if(diag != NULL) {
		diag->why = why;
		diag->at = at;
	}
	return rc;
}

/* Everything but what belongs to no string. */
static int read_string(
		struct cpm_pl s, struct reading *rd, struct cpm_diag *diag)
{
	struct io_redis_conf *conf = &rd->conf;
	struct cpm_pl rest = s;

	memset(rd, 0, sizeof(*rd));
	(void)snprintf(conf->addr, sizeof(conf->addr), "127.0.0.1");
	conf->port = DEFAULT_PORT;
	while(rest.n > 0) {
		size_t at = s.n - rest.n;
		struct cpm_pl part = cpm_pl_trim(cpm_pl_cut(&rest, ';'));
		if(part.n == 0)
			continue;
		int rc = read_part(part, rd);
		if(rc != CPM_OK)
			return conf_fail(diag, rc, rd->why, at);
	}
	const char *why = contradiction(rd);
	if(why != NULL)
		return conf_fail(diag, CPM_EPROTO, why, 0);
	if(addr_unbracket(conf) != CPM_OK)
		return conf_fail(diag, CPM_EPROTO, "bad-addr", 0);
	conf->topology = rd->cluster			  ? IO_REDIS_CLUSTER
					 : conf->server_count > 0 ? IO_REDIS_SENTINEL
											  : IO_REDIS_ONE;
	if(rd->cluster) {
		memcpy(conf->server[0].host, conf->addr, sizeof(conf->addr));
		conf->server[0].port = conf->port;
		conf->server_count = 1;
	}
	return CPM_OK;
}

int io_redis_conf_parse(
		struct cpm_pl s, struct io_redis_conf *conf_r, struct cpm_diag *diag)
{
	struct reading rd;
	int rc = read_string(s, &rd, diag);

	if(rc != CPM_OK)
		return rc;
	rd.conf.connect_timeout_ms = conf_r->connect_timeout_ms;
	rd.conf.cmd_timeout_ms = conf_r->cmd_timeout_ms;
	rd.conf.wait_replicas = conf_r->wait_replicas;
	rd.conf.wait_ms = conf_r->wait_ms;
	*conf_r = rd.conf;
	return CPM_OK;
}

int io_redis_conf_add(
		struct cpm_pl s, struct io_redis_conf *conf, struct cpm_diag *diag)
{
	struct reading rd;
	int rc = read_string(s, &rd, diag);

	if(rc != CPM_OK)
		return rc;
	if(conf->topology != IO_REDIS_CLUSTER
			|| rd.conf.topology != IO_REDIS_CLUSTER)
		return conf_fail(diag, CPM_EPROTO, "several-servers", 0);
	if(rd.conf.pass[0] != '\0'
			&& (strcmp(rd.conf.pass, conf->pass) != 0
					|| strcmp(rd.conf.user, conf->user) != 0))
		return conf_fail(diag, CPM_EPROTO, "other-login", 0);
	if(conf->server_count == IO_REDIS_SERVERS_MAX)
		return conf_fail(diag, CPM_ELIMIT, "too-many-seeds", 0);
	conf->server[conf->server_count++] = rd.conf.server[0];
	return CPM_OK;
}
