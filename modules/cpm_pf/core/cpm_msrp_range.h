/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_range.h - which bytes of a message are there.
 *
 * runs in:  anything; pure functions; no allocation
 * owns:     a fixed number of runs
 *
 * Offsets count from 0, as everywhere inside; on the wire they count from 1.
 */

#ifndef CPM_MSRP_RANGE_H
#define CPM_MSRP_RANGE_H

#include "cpm_base.h"

#define CPM_MSRP_RUNS 12 /* separate runs of one message */

struct cpm_msrp_ranges
{
	uint32_t n;
	struct
	{
		uint64_t from;	  /* first byte */
		uint64_t to;	  /* behind the last one */
	} run[CPM_MSRP_RUNS]; /* in order; neither empty nor touching */
};

/* Adds [from, to). CPM_OK, also when they were there already; CPM_ELIMIT:
 * more than CPM_MSRP_RUNS separate runs, nothing was added. */
int cpm_msrp_ranges_add(struct cpm_msrp_ranges *r, uint64_t from, uint64_t to);

/* The first bytes within [from, to) that are not there: true, and from
 * *from_r up to *to_r; or false: all are there. */
bool cpm_msrp_ranges_gap(const struct cpm_msrp_ranges *r, uint64_t from,
		uint64_t to, uint64_t *from_r, uint64_t *to_r);

/* Whether every byte of [0, to) is there. */
bool cpm_msrp_ranges_full(const struct cpm_msrp_ranges *r, uint64_t to);

/* How many bytes are there; the end of the last of them. */
uint64_t cpm_msrp_ranges_sum(const struct cpm_msrp_ranges *r);
uint64_t cpm_msrp_ranges_end(const struct cpm_msrp_ranges *r);

#endif
