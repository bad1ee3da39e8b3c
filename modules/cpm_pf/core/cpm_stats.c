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
