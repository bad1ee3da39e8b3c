/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_msrp_range.c - which bytes of a message are there, against a
 * plain map of bytes.
 */

#include "check_helpers.h"
#include "cpm_msrp_range.h"

#define MAP 64

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 16;
}

static void check_runs(const struct cpm_msrp_ranges *r, const bool map[MAP])
{
	uint64_t sum = 0;

	for(uint32_t i = 0; i < r->n; i++) {
		ck_assert_uint_lt(r->run[i].from, r->run[i].to);
		if(i > 0)
			ck_assert_uint_gt(r->run[i].from, r->run[i - 1].to);
		for(uint64_t at = r->run[i].from; at < r->run[i].to; at++)
			ck_assert(map[at]);
	}
	for(unsigned at = 0; at < MAP; at++)
		sum += map[at];
	ck_assert_uint_eq(cpm_msrp_ranges_sum(r), sum);
}

static void check_gap(const struct cpm_msrp_ranges *r, const bool map[MAP],
		unsigned from, unsigned to)
{
	uint64_t a = 99, b = 99;
	unsigned x = from, y;

	while(x < to && map[x])
		x++;
	for(y = x; y < to && !map[y];)
		y++;
	ck_assert(cpm_msrp_ranges_gap(r, from, to, &a, &b) == (x < to));
	if(x < to) {
		ck_assert_uint_eq(a, x);
		ck_assert_uint_eq(b, y);
	}
}

START_TEST(like_a_map)
{
	struct cpm_msrp_ranges r = {0};
	bool map[MAP] = {false};
	uint32_t seed = (uint32_t)_i;

	for(int turn = 0; turn < 200; turn++) {
		unsigned from = next_random(&seed) % MAP;
		unsigned to = from + next_random(&seed) % (MAP - from + 1) % 7;
		struct cpm_msrp_ranges before = r;
		int rc = cpm_msrp_ranges_add(&r, from, to);

		if(rc == CPM_ELIMIT) {
			ck_assert_uint_eq(before.n, CPM_MSRP_RUNS);
			ck_assert_mem_eq(&r, &before, sizeof(r));
			continue;
		}
		ck_assert_int_eq(rc, CPM_OK);
		for(unsigned at = from; at < to; at++)
			map[at] = true;
		check_runs(&r, map);
		check_gap(&r, map, from, MAP);
		check_gap(&r, map, 0, to);
	}
}
END_TEST

START_TEST(too_many)
{
	struct cpm_msrp_ranges r = {0};

	for(uint64_t i = 0; i < CPM_MSRP_RUNS; i++)
		ck_assert_int_eq(cpm_msrp_ranges_add(&r, i * 2, i * 2 + 1), CPM_OK);
	ck_assert_int_eq(cpm_msrp_ranges_add(&r, 1000, 1001), CPM_ELIMIT);
	ck_assert(!cpm_msrp_ranges_full(&r, 3));
	/* what fills a gap is still taken */
	ck_assert_int_eq(cpm_msrp_ranges_add(&r, 1, 2), CPM_OK);
	ck_assert(cpm_msrp_ranges_full(&r, 3));
	ck_assert_int_eq(cpm_msrp_ranges_add(&r, 1000, 1001), CPM_OK);
	ck_assert_uint_eq(cpm_msrp_ranges_end(&r), 1001);
	ck_assert_int_eq(cpm_msrp_ranges_add(&r, 0, UINT64_MAX), CPM_OK);
	ck_assert_uint_eq(r.n, 1);
}
END_TEST

START_TEST(nothing)
{
	struct cpm_msrp_ranges r = {0};
	uint64_t a, b;

	ck_assert_int_eq(cpm_msrp_ranges_add(&r, 5, 5), CPM_OK);
	ck_assert_uint_eq(r.n, 0);
	ck_assert(cpm_msrp_ranges_full(&r, 0));
	ck_assert(!cpm_msrp_ranges_full(&r, 1));
	ck_assert(!cpm_msrp_ranges_gap(&r, 3, 3, &a, &b));
	ck_assert_uint_eq(cpm_msrp_ranges_end(&r), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_msrp_range");

	fu_table(s, "runs tell the same as a map of bytes", like_a_map, 50);
	fu_case(s, "with all runs in use only gaps are filled", too_many);
	fu_case(s, "no bytes are no run", nothing);
	return fu_run(s);
}
