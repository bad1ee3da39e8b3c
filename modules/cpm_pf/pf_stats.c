/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_stats.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../core/counters.h"
#include "../../core/dprint.h"

struct cpm_stats *pf_stats;
int pf_stats_fd = -1;

/* Kamailio's statistics ask a function without arguments: one for each. */
#define PF_STAT_FUNC(name, kind, help)                                 \
	static counter_val_t stat_##name(void)                             \
	{                                                                  \
		return (counter_val_t)cpm_stat_get(pf_stats, CPM_STAT_##name); \
	}
CPM_STATS_LIST(PF_STAT_FUNC)

static stat_export_t exports_of_stats[] = {
#define PF_STAT_EXPORT(name, kind, help) \
	{#name, STAT_IS_FUNC, (stat_var **)stat_##name},
		CPM_STATS_LIST(PF_STAT_EXPORT){0, 0, 0}};

int pf_stats_init(void)
{
	void *page;

	pf_stats_fd = memfd_create("cpm_pf_stats", MFD_CLOEXEC);
	if(pf_stats_fd < 0
			|| ftruncate(pf_stats_fd, sizeof(struct cpm_stats)) < 0) {
		LM_ERR("stats: no shared memory: %s\n", strerror(errno));
		return -1;
	}
	page = mmap(NULL, sizeof(struct cpm_stats), PROT_READ | PROT_WRITE,
			MAP_SHARED, pf_stats_fd, 0);
	if(page == MAP_FAILED) {
		LM_ERR("stats: no shared memory: %s\n", strerror(errno));
		return -1;
	}
	pf_stats = page;
	pf_stats->magic = CPM_STATS_MAGIC;
	pf_stats->count = CPM_STATS_COUNT_;
	if(register_module_stats("cpm_pf", exports_of_stats) != 0) {
		LM_ERR("stats: the statistics could not be registered\n");
		return -1;
	}
	return 0;
}
