/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin_guard.h"

#include <netinet/in.h>
#include <string.h>

#include "../core/cpm_base.h"

#define PROBES 8

static void key_of(const struct sockaddr *addr, unsigned char key[16])
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	memset(key, 0, 16);
	if(addr != NULL && addr->sa_family == AF_INET) {
		memcpy(&v4, addr, sizeof(v4));
		memcpy(key + 12, &v4.sin_addr, 4);
	} else if(addr != NULL && addr->sa_family == AF_INET6) {
		memcpy(&v6, addr, sizeof(v6));
		memcpy(key, &v6.sin6_addr,
				IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) ? 16 : 8);
	}
}

/* What is in a bucket by now. */
static uint64_t filled(const struct admin_guard *g, size_t i, uint64_t now_ms)
{
	uint64_t full = (uint64_t)g->rate * 1000 * ADMIN_GUARD_BURST_S;
	uint64_t ms = now_ms - g->slot[i].at_ms;

	if(g->slot[i].at_ms == 0 || ms >= 1000 * ADMIN_GUARD_BURST_S)
		return full;
	uint64_t v = g->slot[i].left_k + ms * g->rate;
	return v < full ? v : full;
}

static size_t slot_of(
		struct admin_guard *g, const struct sockaddr *addr, uint64_t now_ms)
{
	unsigned char key[16];
	key_of(addr, key);
	uint64_t h = cpm_hash64(CPM_HASH_INIT, cpm_pl((const char *)key, 16));
	size_t best = 0;
	uint64_t most = 0;

	for(size_t n = 0; n < PROBES; n++) {
		size_t i = (size_t)(h + n) % ADMIN_GUARD_SLOTS;
		if(g->slot[i].at_ms != 0 && memcmp(g->slot[i].key, key, 16) == 0) {
			g->slot[i].left_k = filled(g, i, now_ms);
			g->slot[i].at_ms = now_ms;
			return i;
		}
		uint64_t v = filled(g, i, now_ms) + (g->slot[i].at_ms == 0 ? 1 : 0);
		if(n == 0 || v > most) {
			best = i;
			most = v;
		}
	}
	memcpy(g->slot[best].key, key, 16);
	g->slot[best].at_ms = 0;
	g->slot[best].left_k = filled(g, best, now_ms);
	g->slot[best].at_ms = now_ms;
	return best;
}

bool admin_guard_take(struct admin_guard *g, const struct sockaddr *addr,
		unsigned cost, uint64_t now_ms)
{
	if(g->rate == 0)
		return true;
	size_t i = slot_of(g, addr, now_ms);
	if(g->slot[i].left_k < (uint64_t)cost * 1000)
		return false;
	g->slot[i].left_k -= (uint64_t)cost * 1000;
	return true;
}

void admin_guard_charge(struct admin_guard *g, const struct sockaddr *addr,
		unsigned cost, uint64_t now_ms)
{
	if(g->rate == 0)
		return;
	size_t i = slot_of(g, addr, now_ms);
	uint64_t k = (uint64_t)cost * 1000;
	g->slot[i].left_k -= k < g->slot[i].left_k ? k : g->slot[i].left_k;
}
