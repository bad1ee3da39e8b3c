/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_slots.h - which node of a Redis Cluster has which slot.
 *
 * runs in:  anything; pure functions over a struct
 * owns:     nothing
 * never:    talks to a server (io_cluster does)
 *
 * As the Redis Cluster specification has it: slot = CRC16(key) mod 16384,
 * CRC16 being XMODEM's (polynomial 0x1021, start 0, nothing reflected). Of a
 * key with "{...}" only what is between the first '{' and the first '}' after
 * it counts, unless that is nothing.
 */

#ifndef IO_SLOTS_H
#define IO_SLOTS_H

#include "io_redis.h"

#define IO_SLOTS 16384
#define IO_SLOTS_NODES_MAX 256
#define IO_SLOTS_NONE UINT16_MAX /* no node has it, as far as is known */

uint16_t io_slots_crc16(struct cpm_pl a);
unsigned io_slots_of(struct cpm_pl key);

struct io_slots
{
	struct io_redis_addr node[IO_SLOTS_NODES_MAX]; /* masters */
	size_t node_count;
	uint16_t owner[IO_SLOTS]; /* index into node, or IO_SLOTS_NONE */
};

void io_slots_init(struct io_slots *s);

bool io_slots_addr_same(
		const struct io_redis_addr *a, const struct io_redis_addr *b);

/* Index of that node, which is put at the end if it is not there;
 * IO_SLOTS_NONE: the table is full. */
uint16_t io_slots_add(struct io_slots *s, const struct io_redis_addr *addr);

/* The answer to CLUSTER SLOTS: [[first, last, [host, port, ...], replica...]
 * ...]. An empty or missing host is the one that was asked. A bad answer is
 * refused as a whole; *s_r is undefined then.
 * CPM_OK; CPM_EPROTO: another shape, numbers out of bounds, a slot twice, or
 * no slot at all; CPM_ELIMIT: more nodes or longer names than we take. */
int io_slots_parse(const struct redisReply *reply, const char *asked_host,
		struct io_slots *s_r);

enum io_slots_word
{
	IO_SLOTS_ANSWER, /* none of the following */
	IO_SLOTS_MOVED,
	IO_SLOTS_ASK,
	IO_SLOTS_AGAIN, /* TRYAGAIN */
	IO_SLOTS_DOWN,	/* CLUSTERDOWN */
	IO_SLOTS_BAD,	/* MOVED or ASK that cannot be followed */
};

/* What an error says of slots: "MOVED 3999 10.0.0.1:6381", host as above, and
 * a v6 address without brackets. *slot_r and *addr_r: with MOVED and ASK. */
enum io_slots_word io_slots_word(struct cpm_pl error, const char *asked_host,
		unsigned *slot_r, struct io_redis_addr *addr_r);

#endif
