/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin_int.h - what the files of admin_api share.
 *
 * runs in:  admin_api.c, admin_list.c, admin_act.c only
 * owns:     see admin_api.h
 */

#ifndef ADMIN_INT_H
#define ADMIN_INT_H

#include <jansson.h>

#include "../core/cpm_aor.h"
#include "../core/cpm_wr.h"
#include "admin_api.h"
#include "admin_url.h"

#define ADMIN_CURSOR_MAX (CPM_AOR_MAX + CPM_MSG_ID_MAX + 64)

enum admin_param
{
	P_LIMIT,
	P_CURSOR,
	P_PREFIX,
	P_OLDER_THAN,
	P_STATE,
	P_INCLUDE,
	P_COUNT_
};

/* A request, read. */
struct admin_call
{
	struct admin_api *api;
	const struct admin_request *rq;
	struct admin_answer *an;
	struct cpm_pl user; /* {user} and {id} of the path */
	struct cpm_pl id;
	enum cpm_job_kind kind;
	struct cpm_pl param[P_COUNT_];
	bool given[P_COUNT_];
	char text[16384]; /* what was unescaped */
	struct cpm_wr text_wr;
};

/* Answers. CPM_OK; CPM_ENOMEM. */
int admin_ok(struct admin_call *c, json_t *v); /* takes the reference */
int admin_no_content(struct admin_call *c);
int admin_problem(struct admin_call *c, unsigned status, const char *fmt, ...)
		__attribute__((format(printf, 3, 4)));

/* Of a result of io_queue that is not CPM_OK. */
int admin_queue_problem(struct admin_call *c, int rc);

/* Says once that the store is gone, and once that it is back. */
void admin_redis_is(struct admin_api *api, bool up);

/* Handlers: CPM_OK, c->an is filled; CPM_ENOMEM. */
int admin_get_queues(struct admin_call *c);
int admin_get_messages(struct admin_call *c);
int admin_get_dead(struct admin_call *c);
int admin_get_jobs(struct admin_call *c);

int admin_delete_message(struct admin_call *c);
int admin_delete_messages(struct admin_call *c);
int admin_post_flush(struct admin_call *c);
int admin_post_requeue(struct admin_call *c);
int admin_post_job_requeue(struct admin_call *c);
int admin_delete_job(struct admin_call *c);

#endif
