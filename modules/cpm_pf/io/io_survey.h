/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_survey.h - what an operator should know of the Redis that holds queued
 * messages: may it forget some?
 *
 * runs in:  anything; a pure function over the facts of io_redis_survey
 * owns:     nothing
 */

#ifndef IO_SURVEY_H
#define IO_SURVEY_H

#include "io_redis.h"

#define IO_SURVEY_WARNINGS_MAX 3

struct io_survey_warning
{
	const char *word; /* stable: "may-evict", "no-persistence",
						 "snapshots-only", "fsync-never", "node-down" */
	const char *text; /* for a human */
};

/* The warnings about one server; what could not be learned is none. Returns
 * how many. */
size_t io_survey_warnings(const struct io_redis_server *server,
		struct io_survey_warning warnings_r[IO_SURVEY_WARNINGS_MAX]);

#endif
