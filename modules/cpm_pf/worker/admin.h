/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin.h - the admin worker: lists the queues over HTTP.
 *
 * runs in:  cpm_pf_worker; returns when it is told to stop
 */

#ifndef ADMIN_H
#define ADMIN_H

#include "../core/cpm_stats.h"
#include "worker_conf.h"

/* Until SIGTERM or SIGINT, which are blocked already. stats: NULL: none.
 * Returns the exit status, see main.c. */
int admin_run(const struct worker_conf *conf, const struct cpm_stats *stats);

#endif
