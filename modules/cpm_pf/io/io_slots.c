/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_slots.h"

#include <hiredis/hiredis.h>

/* Half a byte at a time: keys are short, and a table of 16 is easy to trust. */
uint16_t io_slots_crc16(struct cpm_pl a)
{
	static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084,
			0x50a5, 0x60c6, 0x70e7, 0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c,
			0xd1ad, 0xe1ce, 0xf1ef};
	unsigned crc = 0;

	for(size_t i = 0; i < a.n; i++) {
		unsigned byte = (unsigned char)a.p[i];
		crc = (crc << 4 & 0xffff) ^ table[(crc >> 12) ^ (byte >> 4)];
		crc = (crc << 4 & 0xffff) ^ table[(crc >> 12) ^ (byte & 15)];
	}
	return (uint16_t)crc;
}

unsigned io_slots_of(struct cpm_pl key)
{
	struct cpm_pl tag = cpm_pl_from(key, cpm_pl_chr(key, '{'));

	if(tag.n > 0) {
		tag = cpm_pl_from(tag, 1);
		size_t end = cpm_pl_chr(tag, '}');
		if(end > 0 && end < tag.n)
			key = cpm_pl(tag.p, end);
	}
	return io_slots_crc16(key) % IO_SLOTS;
}

void io_slots_init(struct io_slots *s)
{
	s->node_count = 0;
	for(size_t i = 0; i < IO_SLOTS; i++)
		s->owner[i] = IO_SLOTS_NONE;
}

bool io_slots_addr_same(
		const struct io_redis_addr *a, const struct io_redis_addr *b)
{
	return a->port == b->port && strcmp(a->host, b->host) == 0;
}

uint16_t io_slots_add(struct io_slots *s, const struct io_redis_addr *addr)
{
	uint16_t i;

	for(i = 0; i < s->node_count; i++) {
		if(io_slots_addr_same(&s->node[i], addr))
			return i;
	}
	if(s->node_count == IO_SLOTS_NODES_MAX)
		return IO_SLOTS_NONE;
	s->node[s->node_count++] = *addr;
	return i;
}

/* "?" stands for a host name that is not known to the node either. */
static int addr_set(struct cpm_pl host, uint64_t port, const char *asked_host,
		struct io_redis_addr *addr_r)
{
	if(host.n == 0)
		host = cpm_pl_str(asked_host);
	if(host.n == 0 || cpm_pl_eq(host, CPM_PL_LIT("?"))
			|| memchr(host.p, '\0', host.n) != NULL || port == 0
			|| port > 65535)
		return CPM_EPROTO;
	if(host.n >= sizeof(addr_r->host))
		return CPM_ELIMIT;
	memset(addr_r, 0, sizeof(*addr_r));
	cpm_pl_cstr(host, addr_r->host, sizeof(addr_r->host));
	addr_r->port = (unsigned)port;
	return CPM_OK;
}

static bool number_of(const redisReply *r, uint64_t max, uint64_t *v_r)
{
	if(r == NULL || r->type != REDIS_REPLY_INTEGER || r->integer < 0
			|| (uint64_t)r->integer > max)
		return false;
	*v_r = (uint64_t)r->integer;
	return true;
}

static int node_parse(const redisReply *r, const char *asked_host,
		struct io_redis_addr *addr_r)
{
	struct cpm_pl host = CPM_PL_NULL;
	uint64_t port;

	if(r == NULL || r->type != REDIS_REPLY_ARRAY || r->elements < 2
			|| r->element[0] == NULL || !number_of(r->element[1], 65535, &port))
		return CPM_EPROTO;
	if(r->element[0]->type == REDIS_REPLY_STRING)
		host = cpm_pl(r->element[0]->str, (size_t)r->element[0]->len);
	else if(r->element[0]->type != REDIS_REPLY_NIL)
		return CPM_EPROTO;
	return addr_set(host, port, asked_host, addr_r);
}

static int range_parse(
		const redisReply *r, const char *asked_host, struct io_slots *s)
{
	struct io_redis_addr addr;
	uint64_t first, last;

	if(r == NULL || r->type != REDIS_REPLY_ARRAY || r->elements < 3
			|| !number_of(r->element[0], IO_SLOTS - 1, &first)
			|| !number_of(r->element[1], IO_SLOTS - 1, &last) || first > last)
		return CPM_EPROTO;
	int rc = node_parse(r->element[2], asked_host, &addr);
	if(rc != CPM_OK)
		return rc;
	uint16_t node = io_slots_add(s, &addr);
	if(node == IO_SLOTS_NONE)
		return CPM_ELIMIT;
	for(uint64_t i = first; i <= last; i++) {
		if(s->owner[i] != IO_SLOTS_NONE)
			return CPM_EPROTO;
		s->owner[i] = node;
	}
	return CPM_OK;
}

int io_slots_parse(const struct redisReply *reply, const char *asked_host,
		struct io_slots *s_r)
{
	io_slots_init(s_r);
	if(reply->type != REDIS_REPLY_ARRAY || reply->elements == 0
			|| reply->elements > IO_SLOTS)
		return CPM_EPROTO;
	for(size_t i = 0; i < reply->elements; i++) {
		int rc = range_parse(reply->element[i], asked_host, s_r);
		if(rc != CPM_OK)
			return rc;
	}
	return CPM_OK;
}

enum io_slots_word io_slots_word(struct cpm_pl error, const char *asked_host,
		unsigned *slot_r, struct io_redis_addr *addr_r)
{
	struct cpm_pl rest = error;
	struct cpm_pl word = cpm_pl_cut(&rest, ' ');
	struct cpm_pl slot_text = cpm_pl_cut(&rest, ' ');
	struct cpm_pl host = cpm_pl_cut(&rest, ' ');
	struct io_redis_addr addr;
	uint64_t slot, port;
	size_t colon = host.n;
	bool moved = cpm_pl_eq(word, CPM_PL_LIT("MOVED"));

	if(cpm_pl_eq(word, CPM_PL_LIT("TRYAGAIN")))
		return IO_SLOTS_AGAIN;
	if(cpm_pl_eq(word, CPM_PL_LIT("CLUSTERDOWN")))
		return IO_SLOTS_DOWN;
	if(!moved && !cpm_pl_eq(word, CPM_PL_LIT("ASK")))
		return IO_SLOTS_ANSWER;
	while(colon > 0 && host.p[colon - 1] != ':')
		colon--;
	if(colon == 0 || cpm_pl_u64(slot_text, IO_SLOTS - 1, &slot) != CPM_OK
			|| cpm_pl_u64(cpm_pl_from(host, colon), 65535, &port) != CPM_OK
			|| addr_set(cpm_pl(host.p, colon - 1), port, asked_host, &addr)
					   != CPM_OK)
		return IO_SLOTS_BAD;
	*slot_r = (unsigned)slot;
	*addr_r = addr;
	return moved ? IO_SLOTS_MOVED : IO_SLOTS_ASK;
}
