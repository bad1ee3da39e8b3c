/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_sentinel.h - connecting to the master that Sentinel names.
 *
 * runs in:  any process; for the files behind io_redis.h only
 * owns:     nothing; a connection to a sentinel lasts for one question
 */

#ifndef IO_SENTINEL_H
#define IO_SENTINEL_H

#include "io_conn.h"

struct io_sentinel
{
	const struct io_redis_conf *conf; /* borrowed */
	size_t first;					  /* the one that answered last */
};

/* Makes c, whose how.master is set, a connection to the master, unless it is
 * an idle one already. All sentinels together take connect_timeout_ms, those
 * left sharing evenly what is left of it; with them, connecting and verifying
 * takes at most 2 connect_timeout_ms + cmd_timeout_ms. A master that another
 * sentinel named just before is not tried twice.
 * CPM_OK; CPM_EDOWN: c->error says why the last try failed, and c's breaker is
 * open. */
int io_sentinel_ready(struct io_sentinel *s, struct io_conn *c);

/* Whether an error of c says that somebody else may be the master by now. A
 * master that lost its replicas (NOREPLICAS) may have lost its office, or just
 * its replicas: that is looked at every IO_REDIS_REST_MS. */
bool io_sentinel_doubts(const struct io_conn *c, struct cpm_pl error);

#endif
