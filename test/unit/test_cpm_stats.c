/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_stats.c - the list of counters, and what holds its page together.
 */

#include "cpm_stats.h"

#include "check_helpers.h"

static struct cpm_stats page;

START_TEST(infos)
{
	const struct cpm_stat_info *info = &cpm_stat_infos[_i];

	ck_assert_ptr_nonnull(info->name);
	ck_assert(info->kind == 'C' || info->kind == 'G');
	ck_assert_uint_gt(strlen(info->help), 0);
	/* Prometheus: [a-z_]+ here, no newline or backslash in HELP */
	ck_assert_uint_eq(strspn(info->name, "abcdefghijklmnopqrstuvwxyz_"),
			strlen(info->name));
	ck_assert_ptr_null(strpbrk(info->help, "\n\\"));
	for(int i = 0; i < _i; i++)
		ck_assert_str_ne(info->name, cpm_stat_infos[i].name);
}
END_TEST

/* A worker of another version maps the page by index. */
START_TEST(order)
{
	ck_assert_str_eq(cpm_stat_infos[CPM_STAT_received].name, "received");
	ck_assert_int_eq(CPM_STAT_received, 0);
	ck_assert_int_eq(CPM_STAT_queued, 1);
	ck_assert_int_eq(CPM_STAT_delivered_message, 5);
	ck_assert_int_eq(CPM_STAT_expired, 7);
	ck_assert_int_eq(CPM_STAT_redis_up, 11);
	ck_assert_int_eq(CPM_STAT_worker_restarts, 13);
	ck_assert_int_eq(cpm_stat_infos[CPM_STAT_redis_up].kind, 'G');
}
END_TEST

START_TEST(counting)
{
	enum cpm_stat i = (enum cpm_stat)_i;

	memset(&page, 0, sizeof(page));
	cpm_stat_add(&page, i, 2);
	cpm_stat_add(&page, i, UINT64_C(1) << 40);
	for(unsigned j = 0; j < CPM_STATS_COUNT_; j++)
		ck_assert_uint_eq(cpm_stat_get(&page, (enum cpm_stat)j),
				j == (unsigned)_i ? (UINT64_C(1) << 40) + 2 : 0);
	cpm_stat_set(&page, i, 1);
	ck_assert_uint_eq(cpm_stat_get(&page, i), 1);
	ck_assert_uint_eq(page.magic, 0);
	ck_assert_uint_eq(page.count, 0);
}
END_TEST

START_TEST(lock_free)
{
	/* a lock of one process would not hold in another */
	ck_assert(atomic_is_lock_free(&page.v[0]));
	ck_assert_uint_eq(
			sizeof(page), 8 + sizeof(uint64_t) * (size_t)CPM_STATS_COUNT_
								  + sizeof(uint64_t) * (CPM_HIST_BOUNDS + 2)
											* (size_t)CPM_HISTS_COUNT_);
}
END_TEST

START_TEST(hist_infos)
{
	const struct cpm_hist_info *info = &cpm_hist_infos[_i];
	unsigned n = 0;

	ck_assert_uint_eq(strspn(info->name, "abcdefghijklmnopqrstuvwxyz_"),
			strlen(info->name));
	ck_assert_uint_gt(strlen(info->help), 0);
	ck_assert_ptr_null(strpbrk(info->help, "\n\\"));
	ck_assert_uint_gt(info->unit, 0);
	while(info->bounds[n] > 0) {
		n++;
		ck_assert(
				info->bounds[n] == 0 || info->bounds[n] > info->bounds[n - 1]);
	}
	ck_assert_uint_gt(n, 0);
	ck_assert_uint_le(n, CPM_HIST_BOUNDS);
}
END_TEST

START_TEST(hist_counting)
{
	enum cpm_hist h = (enum cpm_hist)_i;
	const uint32_t *bounds = cpm_hist_infos[_i].bounds;
	unsigned n = 0;

	memset(&page, 0, sizeof(page));
	for(; bounds[n] > 0; n++) {
		cpm_hist_observe(&page, h, bounds[n]);
		ck_assert_uint_eq(page.hist[h].bucket[n], n == 0 ? 1 : 2);
		cpm_hist_observe(&page, h, (uint64_t)bounds[n] + 1);
		ck_assert_uint_eq(page.hist[h].bucket[n + 1], 1);
	}
	memset(&page, 0, sizeof(page));
	cpm_hist_observe(&page, h, 0);
	cpm_hist_observe(&page, h, UINT64_C(1) << 40);
	ck_assert_uint_eq(page.hist[h].bucket[0], 1);
	ck_assert_uint_eq(page.hist[h].bucket[n], 1);
	ck_assert_uint_eq(page.hist[h].sum, UINT64_C(1) << 40);
	for(unsigned j = 0; j < CPM_STATS_COUNT_; j++)
		ck_assert_uint_eq(cpm_stat_get(&page, (enum cpm_stat)j), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_stats");

	fu_table(s, "a counter has a name of its own, a kind and a help", infos,
			CPM_STATS_COUNT_);
	fu_case(s, "counters are only ever appended", order);
	fu_table(s, "a counter counts itself and no other", counting,
			CPM_STATS_COUNT_);
	fu_case(s, "the page can be shared between processes", lock_free);
	fu_table(s, "a histogram has a name, a unit and growing bounds", hist_infos,
			CPM_HISTS_COUNT_);
	fu_table(s, "a value on a bound is in its bucket, one above in the next",
			hist_counting, CPM_HISTS_COUNT_);
	return fu_run(s);
}
