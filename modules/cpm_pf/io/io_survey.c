/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_survey.h"

#include <string.h>

size_t io_survey_warnings(const struct io_redis_server *server,
		struct io_survey_warning warnings_r[IO_SURVEY_WARNINGS_MAX])
{
	size_t n = 0;

	if(server->down) {
		warnings_r[n].word = "node-down";
		warnings_r[n++].text = "this node of the cluster does not answer: the "
							   "users of its slots get 503 until it does";
		return n;
	}
	/* also without a limit: whoever sets one later would lose messages */
	if(server->maxmemory_policy[0] != '\0'
			&& strcmp(server->maxmemory_policy, "noeviction") != 0) {
		warnings_r[n].word = "may-evict";
		warnings_r[n++].text =
				"maxmemory-policy is not noeviction: Redis may throw queued "
				"messages away when its memory is full";
	}
	if(server->aof_enabled == 0 && server->rdb_enabled == 0) {
		warnings_r[n].word = "no-persistence";
		warnings_r[n++].text = "neither appendonly nor save is set: a restart "
							   "of Redis loses every queued message";
	} else if(server->aof_enabled == 0 && server->rdb_enabled == 1) {
		warnings_r[n].word = "snapshots-only";
		warnings_r[n++].text = "appendonly is off: a crash of Redis loses the "
							   "messages since its last snapshot";
	}
	if(server->aof_enabled == 1 && strcmp(server->appendfsync, "no") == 0) {
		warnings_r[n].word = "fsync-never";
		warnings_r[n++].text = "appendfsync is no: a crash of the machine "
							   "loses what it had not written yet";
	}
	return n;
}
