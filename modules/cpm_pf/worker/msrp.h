/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * msrp.h - the MSRP worker: carries MSRP sessions for delivery workers.
 *
 * runs in:  cpm_pf_worker; returns when it is told to stop
 * never:    knows of SIP or of Redis; orders come as core/cpm_ctl.h has them
 */

#ifndef MSRP_H
#define MSRP_H

#include "../core/cpm_stats.h"
#include "worker_conf.h"

/* Until SIGTERM or SIGINT, which are blocked already, or until all control
 * sockets are closed. stats: NULL: none. Returns the exit status, see
 * worker.h. */
int msrp_run(const struct worker_conf *conf, struct cpm_stats *stats);

#endif
