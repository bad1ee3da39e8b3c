/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_stats.h"

#include "io/io_clock.h"
#include "pf_store.h"

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

/* Of all queues, as Redis has them: asked at most once a second, by whatever
 * process is asked. What cannot be known is what it was: redis_up tells. */
#define TOTALS_MS 1000

static struct io_queue_totals totals;

static const struct io_queue_totals *totals_now(void)
{
	static uint64_t asked_ms;
	struct io_queue_totals t;
	uint64_t now_ms = io_clock_mono_ms();

	if((asked_ms == 0 || now_ms - asked_ms >= TOTALS_MS)
			&& pf_store() != NULL) {
		asked_ms = now_ms;
		if(io_queue_totals(pf_store(), &t) == CPM_OK) {
			totals = t;
		}
	}
	return &totals;
}

#define PF_TOTALS_LIST(X)       \
	X(queue_users, users)       \
	X(queue_messages, messages) \
	X(queue_bytes, bytes)       \
	X(queue_dead, dead)         \
	X(jobs, jobs)

#define PF_TOTALS_FUNC(name, member)                \
	static counter_val_t stat_##name(void)          \
	{                                               \
		return (counter_val_t)totals_now()->member; \
	}
PF_TOTALS_LIST(PF_TOTALS_FUNC)

static stat_export_t exports_of_stats[] = {
#define PF_TOTALS_EXPORT(name, member) \
	{#name, STAT_IS_FUNC, (stat_var **)stat_##name},
		PF_TOTALS_LIST(PF_TOTALS_EXPORT)
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
