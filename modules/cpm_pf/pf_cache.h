/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_cache.h - values by key in shared memory, bounded, each with an age.
 *
 * runs in:  any process; made before any fork
 * owns:     its tables and entries (shm); callers get copies
 * never:    holds a lock after a call, or two at once
 *
 * Full, it gives up what was not asked for since the last look (CLOCK). An
 * entry that is too old is not thrown away: it is stale, and what that means
 * is up to the caller.
 */

#ifndef PF_CACHE_H
#define PF_CACHE_H

#include "core/cpm_base.h"

struct pf_cache;

enum pf_cache_state
{
	PF_CACHE_NONE,
	PF_CACHE_STALE, /* older than the ttl, or marked since */
	PF_CACHE_FRESH,
};

/* Of a moment before the value is fetched elsewhere. If the key is marked
 * stale in between, what was fetched may be older than the mark, and is
 * stored as stale. */
struct pf_cache_ticket
{
	unsigned all;
	unsigned one;
};

struct pf_cache_value
{
	unsigned kind; /* the caller's */
	struct cpm_pl bytes;
};

/* At most entries_max entries (> 0) and bytes_max bytes of shared memory, the
 * table itself excepted, which has 32 bytes for each entry. NULL: no shared memory. */
struct pf_cache *pf_cache_new(unsigned entries_max, size_t bytes_max);

/* Copies the value into buf (value_r->bytes), unless the result is NONE. A
 * value that is larger than buf counts as not there. */
enum pf_cache_state pf_cache_get(struct pf_cache *c, struct cpm_pl key,
		uint64_t now_ms, uint64_t ttl_ms, char *buf, size_t cap,
		struct pf_cache_value *value_r, struct pf_cache_ticket *ticket_r);

/* Replaces what was there. CPM_OK; CPM_ELIMIT: too large for this cache;
 * CPM_ENOMEM: no shared memory. What was there is then gone, too. */
int pf_cache_put(struct pf_cache *c, struct cpm_pl key,
		const struct pf_cache_value *value, uint64_t now_ms,
		const struct pf_cache_ticket *ticket);

/* Marks one entry, or all. O(1). */
void pf_cache_stale(struct pf_cache *c, struct cpm_pl key);
void pf_cache_stale_all(struct pf_cache *c);

#endif
