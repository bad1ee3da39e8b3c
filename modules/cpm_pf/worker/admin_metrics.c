/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin_metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../io/io_clock.h"
#include "worker.h"

static void head(FILE *f, const char *name, const char *suffix,
		const char *type, const char *help)
{
	(void)fprintf(f, "# HELP cpm_pf_%s%s %s\n# TYPE cpm_pf_%s%s %s\n", name,
			suffix, help, name, suffix, type);
}

static void metric(FILE *f, const char *name, bool is_counter, const char *help,
		uint64_t v)
{
	const char *suffix = is_counter ? "_total" : "";

	head(f, name, suffix, is_counter ? "counter" : "gauge", help);
	(void)fprintf(f, "cpm_pf_%s%s %" PRIu64 "\n", name, suffix, v);
}

static void gauge(FILE *f, const char *name, const char *help, uint64_t v)
{
	metric(f, name, false, help, v);
}

/* A whole number of units, in what unit of them make one of: "0.0025". No
 * digit more than there are, and no rounding that a double would do. */
static void decimal(FILE *f, uint64_t v, uint32_t unit)
{
	uint64_t rest = v % unit;

	(void)fprintf(f, "%" PRIu64, v / unit);
	if(rest > 0)
		(void)fputc('.', f);
	for(; rest > 0; rest %= unit) {
		rest *= 10;
		(void)fputc('0' + (int)(rest / unit), f);
	}
}

/* The count is the sum of the buckets as they were read, so that they fit
 * together whatever is observed meanwhile. */
static void histogram(FILE *f, const struct cpm_hist_info *info,
		const struct cpm_hist_values *values)
{
	uint64_t count = 0;

	head(f, info->name, "", "histogram", info->help);
	for(unsigned i = 0; i <= CPM_HIST_BOUNDS; i++) {
		bool last = i == CPM_HIST_BOUNDS || info->bounds[i] == 0;

		count += atomic_load_explicit(&values->bucket[i], memory_order_relaxed);
		(void)fprintf(f, "cpm_pf_%s_bucket{le=\"", info->name);
		if(last)
			(void)fputs("+Inf", f);
		else
			decimal(f, info->bounds[i], info->unit);
		(void)fprintf(f, "\"} %" PRIu64 "\n", count);
		if(last)
			break;
	}
	(void)fprintf(f, "cpm_pf_%s_sum ", info->name);
	decimal(f, atomic_load_explicit(&values->sum, memory_order_relaxed),
			info->unit);
	(void)fprintf(f, "\ncpm_pf_%s_count %" PRIu64 "\n", info->name, count);
}

static void page_write(FILE *f, const struct cpm_stats *stats)
{
	for(unsigned i = 0; i < CPM_STATS_COUNT_; i++) {
		/* what this process finds out itself is fresher */
		if(i != CPM_STAT_redis_up)
			metric(f, cpm_stat_infos[i].name, cpm_stat_infos[i].kind == 'C',
					cpm_stat_infos[i].help,
					cpm_stat_get(stats, (enum cpm_stat)i));
	}
	for(unsigned i = 0; i < CPM_HISTS_COUNT_; i++)
		histogram(f, &cpm_hist_infos[i], &stats->hist[i]);
}

static void totals_write(FILE *f, const struct io_queue_totals *t)
{
	uint64_t now_ms = io_clock_wall_ms();

	gauge(f, "queue_users", "Users with a queue", t->users);
	gauge(f, "queue_messages", "Messages in all queues", t->messages);
	gauge(f, "queue_bytes", "Bytes of the messages in all queues", t->bytes);
	gauge(f, "queue_dead", "Messages in all queues that were given up",
			t->dead);
	gauge(f, "queue_overdue_users",
			"Users at whose queue nobody looked for a minute after it was due",
			t->overdue);
	head(f, "queue_oldest_seconds", "", "gauge",
			"Age of the oldest queued message, found by and by where there are "
			"many queues; 0: none");
	(void)fputs("cpm_pf_queue_oldest_seconds ", f);
	decimal(f,
			t->oldest_ms > 0 && t->oldest_ms < now_ms ? now_ms - t->oldest_ms
													  : 0,
			1000);
	(void)fputc('\n', f);
	gauge(f, "jobs", "Jobs that wait to be done elsewhere", t->jobs);
	head(f, "jobs_by_kind", "", "gauge", "The same, by what is to be done");
	for(unsigned i = 0; i < CPM_JOB_KINDS; i++)
		(void)fprintf(f, "cpm_pf_jobs_by_kind{kind=\"%s\"} %" PRIu64 "\n",
				cpm_job_kind_name((enum cpm_job_kind)(1u << i)),
				t->jobs_of_kind[i]);
	gauge(f, "jobs_given_up", "Jobs among them that were given up",
			t->jobs_dead);
}

int admin_metrics(const struct cpm_stats *stats,
		const struct io_queue_totals *totals, char **text_r, size_t *len_r)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if(f == NULL)
		return CPM_ENOMEM;
	head(f, "build_info", "", "gauge", "The version of cpm_pf, as a label");
	(void)fputs("cpm_pf_build_info{version=\"" CPM_PF_VERSION "\"} 1\n", f);
	if(stats != NULL)
		page_write(f, stats);
	gauge(f, "redis_up", "1 if Redis answers the admin worker",
			totals != NULL ? 1 : 0);
	if(totals != NULL)
		totals_write(f, totals);
	bool bad = ferror(f) != 0;
	if(fclose(f) != 0 || bad) {
		free(text);
		return CPM_ENOMEM;
	}
	*text_r = text;
	*len_r = len;
	return CPM_OK;
}
