/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_stats.h - the shared page of counters.
 *
 * runs in:  every process; made before any fork
 * owns:     a memfd, so that cpm_pf_worker can map it after exec
 */

#ifndef PF_STATS_H
#define PF_STATS_H

#include "core/cpm_stats.h"

extern struct cpm_stats *pf_stats;
extern int pf_stats_fd;

/* Makes the page and registers the statistics group. 0, or -1 logged. */
int pf_stats_init(void);

static inline void pf_stat(enum cpm_stat i)
{
	cpm_stat_add(pf_stats, i, 1);
}

#endif
