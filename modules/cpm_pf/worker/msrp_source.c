/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "msrp_int.h"

#include <netinet/in.h>
#include <stdlib.h>

/* ---- who has named no session ---- */

/* An IPv6 address counts by its network: a host has a whole one. */
static void source_key(const struct sockaddr *addr, unsigned char key[16])
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	memset(key, 0, 16);
	if(addr->sa_family == AF_INET) {
		memcpy(&v4, addr, sizeof(v4));
		memcpy(key, &v4.sin_addr, 4);
		key[15] = 4;
	} else if(addr->sa_family == AF_INET6) {
		memcpy(&v6, addr, sizeof(v6));
		memcpy(key, &v6.sin6_addr, 8);
		key[15] = 6;
	}
}

struct msrp_source *msrp_source_get(struct msrp *m, const struct sockaddr *addr)
{
	unsigned char key[16];
	struct msrp_source *src;

	source_key(addr, key);
	size_t slot =
			cpm_hash64(m->hash_seed, cpm_pl((const char *)key, sizeof(key)))
			% (sizeof(m->sources) / sizeof(m->sources[0]));
	for(src = LIST_FIRST(&m->sources[slot]); src != NULL;
			src = LIST_NEXT(src, link)) {
		if(memcmp(src->addr, key, sizeof(key)) == 0)
			return src;
	}
	src = calloc(1, sizeof(*src));
	if(src == NULL)
		return NULL;
	memcpy(src->addr, key, sizeof(key));
	LIST_INSERT_HEAD(&m->sources[slot], src, link);
	return src;
}

void msrp_source_forget(struct msrp_source *src)
{
	if(src->n > 0)
		return;
	LIST_REMOVE(src, link);
	free(src);
}

void msrp_source_leave(struct msrp_conn *c)
{
	if(c->source == NULL)
		return;
	c->source->n--;
	msrp_source_forget(c->source);
	c->source = NULL;
}
