/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_range.c - which bytes of a message are there.
 *
 * runs in:  anything; pure functions; no allocation
 */

#include "cpm_msrp_range.h"

int cpm_msrp_ranges_add(struct cpm_msrp_ranges *r, uint64_t from, uint64_t to)
{
	uint32_t first = 0, last;

	if(from >= to)
		return CPM_OK;
	/* runs first..last - 1 touch the new one and become one with it */
	while(first < r->n && r->run[first].to < from)
		first++;
	last = first;
	while(last < r->n && r->run[last].from <= to)
		last++;
	if(first == last) {
		if(r->n == CPM_MSRP_RUNS)
			return CPM_ELIMIT;
		memmove(&r->run[first + 1], &r->run[first],
				(r->n - first) * sizeof(r->run[0]));
		r->n++;
		r->run[first].from = from;
		r->run[first].to = to;
		return CPM_OK;
	}
	if(r->run[first].from < from)
		from = r->run[first].from;
	if(r->run[last - 1].to > to)
		to = r->run[last - 1].to;
	r->run[first].from = from;
	r->run[first].to = to;
	memmove(&r->run[first + 1], &r->run[last],
			(r->n - last) * sizeof(r->run[0]));
	r->n -= last - first - 1;
	return CPM_OK;
}

bool cpm_msrp_ranges_gap(const struct cpm_msrp_ranges *r, uint64_t from,
		uint64_t to, uint64_t *from_r, uint64_t *to_r)
{
	for(uint32_t i = 0; i < r->n && from < to; i++) {
		if(r->run[i].to <= from)
			continue;
		if(r->run[i].from > from) {
			if(r->run[i].from < to)
				to = r->run[i].from;
			break;
		}
		from = r->run[i].to;
	}
	if(from >= to)
		return false;
	*from_r = from;
	*to_r = to;
	return true;
}

bool cpm_msrp_ranges_full(const struct cpm_msrp_ranges *r, uint64_t to)
{
	uint64_t a, b;

	return !cpm_msrp_ranges_gap(r, 0, to, &a, &b);
}

uint64_t cpm_msrp_ranges_sum(const struct cpm_msrp_ranges *r)
{
	uint64_t sum = 0;

	for(uint32_t i = 0; i < r->n; i++)
		sum += r->run[i].to - r->run[i].from;
	return sum;
}

uint64_t cpm_msrp_ranges_end(const struct cpm_msrp_ranges *r)
{
	return r->n ? r->run[r->n - 1].to : 0;
}
