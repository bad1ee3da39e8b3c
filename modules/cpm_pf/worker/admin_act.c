/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "../io/io_clock.h"
#include "../io/io_jobs.h"
#include "admin_int.h"

/* A message that the operator discards is not queued again by its sender's
 * late retransmission. */
#define DEDUP_MS 300000

#define PURGE_BATCH 500
#define PURGE_MS 5000 /* then others have their turn */

/* The members of a body that may be empty, each a string. CPM_OK and no
 * status: go on. */
static int body_get(struct admin_call *c, const char *name, char *buf,
		size_t cap, struct cpm_pl *value_r)
{
	struct cpm_pl type = c->rq->content_type;
	struct cpm_pl media = cpm_pl_trim(cpm_pl_cut(&type, ';'));
	json_error_t error;
	const char *key;
	json_t *v;
	int rc = CPM_OK;

	*value_r = CPM_PL_NULL;
	if(media.n > 0 ? !cpm_pl_ieq(media, CPM_PL_LIT("application/json"))
				   : c->rq->body.n > 0)
		return admin_problem(c, 415, "Content-Type: application/json");
	if(c->rq->body.n == 0)
		return CPM_OK;
	json_t *o = json_loadb(
			c->rq->body.p, c->rq->body.n, JSON_REJECT_DUPLICATES, &error);
	if(o == NULL)
		return admin_problem(c, 400, "not JSON, at byte %d", error.position);
	if(!json_is_object(o))
		rc = admin_problem(c, 400, "the body is to be an object");
	json_object_foreach(o, key, v)
	{
		if(c->an->status != 0)
			break;
		if(name == NULL || strcmp(key, name) != 0)
			rc = admin_problem(c, 400, "a member that is not known here");
		else if(!json_is_string(v) || json_string_length(v) >= cap)
			rc = admin_problem(c, 400, "%s: a short string", name);
		else {
			memcpy(buf, json_string_value(v), json_string_length(v));
			*value_r = cpm_pl(buf, json_string_length(v));
		}
	}
	json_decref(o);
	return rc;
}

/* There is nothing to say. */
static int body_none(struct admin_call *c)
{
	struct cpm_pl value;

	return body_get(c, NULL, NULL, 0, &value);
}

static int done(struct admin_call *c, int rc, const char *busy)
{
	if(rc == CPM_EEXIST) {
		admin_redis_is(c->api, true);
		return admin_problem(c, 409, "%s", busy);
	}
	if(rc != CPM_OK)
		return admin_queue_problem(c, rc);
	admin_redis_is(c->api, true);
	return admin_no_content(c);
}

int admin_delete_message(struct admin_call *c)
{
	return done(c,
			io_queue_discard(
					c->api->queue, c->user, c->id, DEDUP_MS, CPM_JOB_NONE),
			"");
}

int admin_delete_messages(struct admin_call *c)
{
	uint64_t upto = 0, removed = 0, n = 0;
	uint64_t end_ms = io_clock_mono_ms() + PURGE_MS;
	int rc;

	do {
		n = 0;
		rc = io_queue_purge(c->api->queue, c->user, PURGE_BATCH, &upto, &n);
		removed += n;
	} while(rc == CPM_OK && upto != 0 && io_clock_mono_ms() < end_ms);
	if(rc != CPM_OK)
		return admin_queue_problem(c, rc);
	admin_redis_is(c->api, true);
	if(upto != 0) {
		c->an->retry_after_s = 1;
		return admin_problem(c, 503,
				"%llu are removed, and there are more: ask again",
				(unsigned long long)removed);
	}
	return admin_ok(c, json_pack("{s:I}", "removed", (json_int_t)removed));
}

int admin_post_flush(struct admin_call *c)
{
	enum cpm_flush mode;
	struct cpm_pl word;
	char buf[16];
	int rc = body_get(c, "mode", buf, sizeof(buf), &word);

	if(rc != CPM_OK || c->an->status != 0)
		return rc;
	if(cpm_flush_parse(word, &mode) != CPM_OK)
		return admin_problem(c, 400, "mode: auto, push or notify");
	rc = io_queue_flush(c->api->queue, c->user, mode, CPM_PL_NULL);
	if(rc == CPM_ELIMIT) {
		admin_redis_is(c->api, true);
		c->an->retry_after_s = 3;
		return admin_problem(c, 503, "too many flushes at a time");
	}
	if(rc != CPM_OK)
		return admin_queue_problem(c, rc);
	admin_redis_is(c->api, true);
	static const char *const names[] = {"auto", "push", "notify"};
	rc = admin_ok(c, json_pack("{s:s}", "mode",
							 names[mode == CPM_FLUSH_PUSH		? 1
									 : mode == CPM_FLUSH_NOTIFY ? 2
																: 0]));
	c->an->status = 202;
	return rc;
}

int admin_post_requeue(struct admin_call *c)
{
	int rc = body_none(c);

	if(rc != CPM_OK || c->an->status != 0)
		return rc;
	return done(c,
			io_queue_turn(c->api->queue, c->user, c->id, CPM_STATE_QUEUED,
					CPM_PL_NULL),
			"it is on its way to a client");
}

int admin_post_job_requeue(struct admin_call *c)
{
	int rc = body_none(c);

	if(rc != CPM_OK || c->an->status != 0)
		return rc;
	return done(c, io_jobs_requeue(c->api->queue, c->kind, c->user, c->id),
			"it is being done just now");
}

int admin_delete_job(struct admin_call *c)
{
	return done(c, io_jobs_drop(c->api->queue, c->kind, c->user, c->id), "");
}
