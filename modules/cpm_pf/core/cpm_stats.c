/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_stats.h"

const struct cpm_stat_info cpm_stat_infos[CPM_STATS_COUNT_] = {
#define CPM_STATS_INFO(name, kind, help) {#name, kind, help},
		CPM_STATS_LIST(CPM_STATS_INFO)
#undef CPM_STATS_INFO
};

const struct cpm_hist_info cpm_hist_infos[CPM_HISTS_COUNT_] = {
#define CPM_HISTS_INFO(name, unit, help, ...) \
	{#name, unit, help, {__VA_ARGS__}},
		CPM_HISTS_LIST(CPM_HISTS_INFO)
#undef CPM_HISTS_INFO
};

void cpm_hist_observe(struct cpm_stats *s, enum cpm_hist i, uint64_t value)
{
	const uint32_t *bounds = cpm_hist_infos[i].bounds;
	unsigned b = 0;

	while(b < CPM_HIST_BOUNDS && bounds[b] > 0 && value > bounds[b]) {
		b++;
	}
	atomic_fetch_add_explicit(&s->hist[i].bucket[b], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->hist[i].sum, value, memory_order_relaxed);
}
