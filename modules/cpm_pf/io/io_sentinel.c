/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_sentinel.h"

#include <hiredis/hiredis.h>
#include <stdio.h>

#include "io_clock.h"
#include "io_slots.h"

static struct cpm_pl text_of(const redisReply *r)
{
	return r->type == REDIS_REPLY_STRING ? cpm_pl(r->str, (size_t)r->len)
										 : CPM_PL_NULL;
}

/* [host, port] */
static bool addr_of(const redisReply *r, struct io_redis_addr *addr_r)
{
	uint64_t port;

	if(r->type != REDIS_REPLY_ARRAY || r->elements != 2)
		return false;
	struct cpm_pl host = text_of(r->element[0]);
	if(host.n == 0 || host.n >= sizeof(addr_r->host)
			|| memchr(host.p, '\0', host.n) != NULL
			|| cpm_pl_u64(text_of(r->element[1]), 65535, &port) != CPM_OK
			|| port == 0)
		return false;
	memset(addr_r, 0, sizeof(*addr_r));
	cpm_pl_cstr(host, addr_r->host, sizeof(addr_r->host));
	addr_r->port = (unsigned)port;
	return true;
}

/* One sentinel's answer. CPM_OK; CPM_EDOWN: q->error tells. */
static int question(struct io_conn *q, const char *group, uint64_t until_ms,
		struct io_redis_addr *addr_r)
{
	const struct cpm_pl argv[] = {CPM_PL_LIT("SENTINEL"),
			CPM_PL_LIT("get-master-addr-by-name"), cpm_pl_str(group)};
	redisReply *reply = NULL;
	int rc = io_conn_open(q, until_ms);

	if(rc == CPM_OK)
		rc = io_conn_ask(q, 3, argv, until_ms, &reply);
	if(rc != CPM_OK)
		return CPM_EDOWN;
	if(io_reply_error(reply).n > 0) {
		(void)io_conn_error_reply(q, reply);
		rc = CPM_EDOWN;
	} else if(reply->type == REDIS_REPLY_NIL)
		rc = io_conn_fail(q, CPM_EDOWN, "does not know sentinel_group");
	else if(!addr_of(reply, addr_r))
		rc = io_conn_fail(q, CPM_EDOWN, "unreadable answer");
	freeReplyObject(reply);
	return rc;
}

static int ask(const struct io_sentinel *s, size_t which, uint64_t until_ms,
		struct io_redis_addr *addr_r, struct io_conn *c)
{
	const struct io_conn_how how = {
			.user = s->conf->sentinel_user,
			.pass = s->conf->sentinel_pass,
			.connect_timeout_ms = s->conf->connect_timeout_ms,
			.cmd_timeout_ms = s->conf->cmd_timeout_ms,
	};
	struct io_conn q;

	io_conn_init(&q, &how);
	q.addr = s->conf->server[which];
	int rc = question(&q, s->conf->sentinel_group, until_ms, addr_r);
	if(rc != CPM_OK) {
		c->addr = q.addr; /* of whom the error is */
		(void)io_conn_fail(c, rc, "sentinel: %.100s", q.error);
	}
	io_conn_fini(&q);
	return rc;
}

static int find(struct io_sentinel *s, struct io_conn *c)
{
	uint64_t now = io_clock_mono_ms();
	uint64_t until = now + s->conf->connect_timeout_ms;
	uint64_t end =
			until + s->conf->connect_timeout_ms + s->conf->cmd_timeout_ms;
	struct io_redis_addr tried = {"", 0}, addr;

	for(size_t i = 0; i < s->conf->server_count; i++) {
		size_t which = (s->first + i) % s->conf->server_count;
		now = io_clock_mono_ms();
		if(now >= until)
			break;
		uint64_t share = (until - now) / (s->conf->server_count - i);
		if(ask(s, which, now + share, &addr, c) != CPM_OK)
			continue;
		/* a sentinel that was cut off knows the old one, others the new */
		if(io_slots_addr_same(&addr, &tried))
			continue;
		now = io_clock_mono_ms();
		c->addr = addr;
		if(io_conn_open(c, end) == CPM_OK) {
			s->first = which;
			return CPM_OK;
		}
		until += io_clock_mono_ms() - now;
		until = until < end ? until : end;
		tried = addr;
	}
	return CPM_EDOWN;
}

int io_sentinel_ready(struct io_sentinel *s, struct io_conn *c)
{
	if(io_conn_is_idle(c))
		return CPM_OK;
	io_conn_close(c);
	if(io_conn_is_resting(c))
		return CPM_EDOWN;
	if(find(s, c) == CPM_OK)
		return CPM_OK;
	io_conn_rest(c);
	return CPM_EDOWN;
}

bool io_sentinel_doubts(const struct io_conn *c, struct cpm_pl error)
{
	if(io_error_is(error, "NOREPLICAS"))
		return io_clock_mono_ms() - c->opened_ms >= IO_REDIS_REST_MS;
	return io_error_is(error, "READONLY") || io_error_is(error, "MASTERDOWN");
}
