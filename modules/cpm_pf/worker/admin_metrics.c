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

static void metric(FILE *f, const char *name, bool is_counter, const char *help,
		uint64_t v)
{
	const char *suffix = is_counter ? "_total" : "";

	(void)fprintf(f,
			"# HELP cpm_pf_%s%s %s\n# TYPE cpm_pf_%s%s %s\n"
			"cpm_pf_%s%s %" PRIu64 "\n",
			name, suffix, help, name, suffix, is_counter ? "counter" : "gauge",
			name, suffix, v);
}

int admin_metrics(const struct cpm_stats *stats,
		const struct io_queue_totals *totals, char **text_r, size_t *len_r)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if(f == NULL)
		return CPM_ENOMEM;
	for(unsigned i = 0; stats != NULL && i < CPM_STATS_COUNT_; i++) {
		/* what this process finds out itself is fresher */
		if(i != CPM_STAT_redis_up)
			metric(f, cpm_stat_infos[i].name, cpm_stat_infos[i].kind == 'C',
					cpm_stat_infos[i].help,
					cpm_stat_get(stats, (enum cpm_stat)i));
	}
	metric(f, "redis_up", false, "1 if Redis answers the admin worker",
			totals != NULL ? 1 : 0);
	if(totals != NULL) {
		metric(f, "queue_users", false, "Users with a queue", totals->users);
		metric(f, "queue_messages", false, "Messages in all queues",
				totals->messages);
		metric(f, "queue_bytes", false, "Bytes of the messages in all queues",
				totals->bytes);
		metric(f, "queue_dead", false,
				"Messages in all queues that were given up", totals->dead);
		metric(f, "jobs", false, "Jobs that wait to be done elsewhere",
				totals->jobs);
	}
	bool bad = ferror(f) != 0;
	if(fclose(f) != 0 || bad) {
		free(text);
		return CPM_ENOMEM;
	}
	*text_r = text;
	*len_r = len;
	return CPM_OK;
}
