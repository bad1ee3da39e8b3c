/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin_api.h - what the admin endpoint answers, without HTTP's bytes.
 *
 * runs in:  cpm_pf_worker, one thread
 * owns:     the scratch arrays of a page; the queue is the caller's
 */

#ifndef ADMIN_API_H
#define ADMIN_API_H

#include <stdbool.h>

#include "../core/cpm_base.h"
#include "../core/cpm_stats.h"
#include "../io/io_queue.h"
#include "admin_auth.h"
#include "worker_log.h"

struct admin_api
{
	struct io_queue *queue;
	const struct cpm_stats *stats; /* NULL: none */
	bool bodies;				   /* may be read */

	/* private */
	bool redis_down;
	struct worker_log_limit redis_log;
	struct cpm_pl *users;
	struct cpm_queue_stat *queues;
	struct cpm_queue_item *items;
	struct cpm_job *jobs;
	bool *found;
};

/* As it came: nothing is unescaped yet. */
struct admin_request
{
	struct cpm_pl method;
	struct cpm_pl path;
	struct cpm_pl query; /* behind the '?', or empty */
	struct cpm_pl content_type;
	struct cpm_pl body;
	enum admin_right right; /* what this client may do */
	bool is_near;			/* asks from this host */
};

/* A list of which more is to come than the answer's body. */
struct admin_list;

struct admin_answer
{
	unsigned status;
	const char *type; /* Content-Type */
	char *body;		  /* malloc'ed; NULL: none */
	size_t body_len;
	struct admin_list *list; /* NULL: the body is whole */
	char allow[64];			 /* 405: the value of Allow; else empty */
	unsigned retry_after_s;	 /* 0: none */
};

/* CPM_OK; CPM_ENOMEM. */
int admin_api_init(struct admin_api *api);
void admin_api_fini(struct admin_api *api);

/* CPM_OK: *an is filled, free its body and its list; CPM_ENOMEM. */
int admin_api_answer(struct admin_api *api, const struct admin_request *rq,
		struct admin_answer *an);

/* The next piece of a list, malloc'ed; *last_r: the last one. CPM_OK; else as
 * io_queue: the answer cannot be completed. */
int admin_list_more(struct admin_api *api, struct admin_list *l, char **text_r,
		size_t *len_r, bool *last_r);
void admin_list_free(struct admin_list **l);

/* An error page (RFC 9457). detail: what is wrong, for a human. */
int admin_api_problem(
		struct admin_answer *an, unsigned status, const char *detail);

#endif
