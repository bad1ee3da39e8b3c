/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin_metrics.h - the counters for Prometheus, text format 0.0.4.
 *
 * runs in:  cpm_pf_worker
 *
 * No user is ever in a label: a peer's metrics broke at 169,000 queues.
 */

#ifndef ADMIN_METRICS_H
#define ADMIN_METRICS_H

#include "../core/cpm_base.h"
#include "../core/cpm_stats.h"
#include "../io/io_queue.h"

/* stats: the module's page, or NULL. totals: NULL when Redis is down; then
 * cpm_pf_redis_up is 0 and the queue's gauges are left out, as a 0 would be a
 * lie. *text_r: malloc'ed. CPM_OK; CPM_ENOMEM. */
int admin_metrics(const struct cpm_stats *stats,
		const struct io_queue_totals *totals, char **text_r, size_t *len_r);

#endif
