/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_pulling.h"

#include <stdlib.h>

#include "core/cpm_time.h"
#include "core/cpm_wr.h"
#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_event.h"
#include "pf_session.h"
#include "pf_stats.h"
#include "pf_store.h"

#include "../../core/dprint.h"

#define UP_MS 32000 /* as long as an ACK may take */
#define RESULTS_HEAD 1024

struct pf_pulling
{
	struct pf_session *session; /* NULL: it has ended */
	struct pf_call *call;
	struct cpm_pull pull;
	unsigned done; /* of the queue, whatever it was */
	struct cpm_pull_result results[];
};

/* ----------------------------------------------------------------- ports */

static int port_take(void *ctx, const struct cpm_take *ask,
		struct cpm_taken *taken_r, size_t *count_r, uint64_t *busy_ms_r)
{
	int rc = io_queue_take(pf_store(), ask, taken_r, count_r, busy_ms_r);

	/* that another delivery is under way is no failure of the store's */
	return rc == CPM_EAGAIN ? rc : pf_store_note("take", rc);
}

static int port_extend(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, const struct cpm_pl *ids, size_t count, bool *lost_r)
{
	return pf_store_note("extend", io_queue_extend(pf_store(), aor, token,
										   lease_ms, ids, count, lost_r));
}

static int port_settle_many(
		void *ctx, const struct cpm_settle *settles, size_t count, int *rcs_r)
{
	return pf_store_note(
			"settle", io_queue_settle_many(pf_store(), settles, count, rcs_r));
}

static int port_discard(void *ctx, struct cpm_pl aor, struct cpm_pl id,
		uint64_t dedup_ms, unsigned jobs)
{
	return pf_store_note(
			"discard", io_queue_discard(pf_store(), aor, id, dedup_ms, jobs));
}

static int port_hold(void *ctx, struct cpm_pl aor, struct cpm_pl id)
{
	const struct pf_pulling *g = ctx;
	int rc = io_queue_turn(pf_store(), aor, id, CPM_STATE_HELD,
			cpm_pl(g->pull.token, g->pull.token_len));

	return rc == CPM_EEXIST ? rc : pf_store_note("turn", rc);
}

static int port_release(void *ctx, struct cpm_pl aor, struct cpm_pl token)
{
	return pf_store_note(
			"release", io_queue_release(pf_store(), aor, token, CPM_PL_NULL,
							   pf_conf.deliver.check_max_ms));
}

static bool port_accepts(void *ctx, const struct cpm_msg *msg)
{
	struct pf_pulling *g = ctx;

	return g->session != NULL && pf_session_accepts(g->session, msg);
}

static int port_send(void *ctx, uint32_t handle, const struct cpm_msg *msg)
{
	struct pf_pulling *g = ctx;

	return g->session != NULL ? pf_session_send(g->session, handle, msg)
							  : CPM_EDOWN;
}

/* Alone where the client takes that, else inside a CPIM: many a client says
 * that it takes CPIM with anything in it, and nothing else. */
static int results_head(
		struct pf_pulling *g, struct cpm_wr *w, struct cpm_pl *type_r)
{
	struct cpm_pl cpim = CPM_PL_LIT("message/cpim");
	struct cpm_pl results = CPM_PL_LIT(CPM_RESULTS_TYPE);

	*type_r = results;
	if(pf_session_takes_type(g->session, results, CPM_PL_NULL)) {
		return CPM_OK;
	}
	if(!pf_session_takes_type(g->session, cpim, results)) {
		return CPM_ENOENT;
	}
	*type_r = cpim;
	cpm_wr_str(w, "From: <");
	cpm_wr_str(w, pf_params.pull_uri);
	cpm_wr_str(w, ">\r\nTo: <");
	cpm_wr_pl_put(w, g->call->aor);
	cpm_wr_str(w, ">\r\nDateTime: ");
	cpm_time_put_rfc3339(w, io_clock_wall_ms());
	cpm_wr_str(w, "\r\n\r\nContent-Type: " CPM_RESULTS_TYPE "\r\n\r\n");
	return CPM_OK;
}

static int port_send_results(void *ctx, uint32_t handle,
		const struct cpm_actions *actions,
		const struct cpm_pull_result *results)
{
	struct pf_pulling *g = ctx;
	size_t cap = RESULTS_HEAD + cpm_results_max(actions->count);
	char *buf = malloc(cap);
	struct cpm_msg msg;
	struct cpm_wr w;
	size_t i;
	int rc;

	if(buf == NULL || g->session == NULL) {
		free(buf);
		return CPM_EDOWN;
	}
	memset(&msg, 0, sizeof(msg));
	cpm_wr_init(&w, buf, cap);
	rc = results_head(g, &w, &msg.content_type);
	cpm_results_begin(&w);
	for(i = 0; i < actions->count; i++) {
		cpm_results_item(&w, actions->items[i].id, actions->items[i].action,
				results[i].status, results[i].reason);
	}
	cpm_results_end(&w);
	msg.id = CPM_PL_LIT("cpm-queue-results");
	msg.body = cpm_wr_pl(&w);
	msg.body_len = msg.body.n;
	if(rc == CPM_OK) {
		rc = cpm_wr_ok(&w) ? pf_session_send(g->session, handle, &msg)
						   : CPM_EPROTO;
	}
	free(buf);
	return rc;
}

static void port_end(void *ctx)
{
	struct pf_pulling *g = ctx;

	if(g->session != NULL) {
		pf_session_end(&g->session);
		pf_event(PF_EVENT_SESSION_END, g->call->aor, CPM_PL_NULL, 0,
				"session-end");
	}
}

static void port_done(void *ctx, struct cpm_pl aor, struct cpm_pl id,
		enum cpm_action_kind action)
{
	struct pf_pulling *g = ctx;

	g->done++;
	switch(action) {
		case CPM_ACT_RETRIEVE:
			pf_stat(CPM_STAT_retrieved);
			pf_event(PF_EVENT_DELIVERED, aor, id, 200, "retrieved");
			break;
		case CPM_ACT_DISCARD:
			pf_stat(CPM_STAT_discarded);
			break;
		case CPM_ACT_KEEP:
			pf_stat(CPM_STAT_held);
			break;
		case CPM_ACT_STORE:
			pf_stat(CPM_STAT_store_jobs);
			break;
		case CPM_ACT_INTERWORK:
			break;
	}
	LM_INFO("pull: %s aor=%.*s id=%.*s\n", cpm_action_name(action), (int)aor.n,
			aor.p, (int)id.n, id.p);
}

static struct cpm_pull_ports ports_of(struct pf_pulling *g)
{
	struct cpm_pull_ports ports = {
			.ctx = g,
			.queue_take = port_take,
			.queue_extend = port_extend,
			.queue_settle_many = port_settle_many,
			.queue_discard = port_discard,
			.queue_hold = port_hold,
			.queue_release = port_release,
			.accepts = port_accepts,
			.send = port_send,
			.send_results = port_send_results,
			.end = port_end,
			.done = port_done,
	};

	return ports;
}

static struct cpm_pull_conf conf(void)
{
	struct cpm_pull_conf c = {
			.lease_ms = pf_conf.deliver.lease_ms,
			.dedup_ms = pf_conf.deliver.dedup_ms,
			.window = pf_conf.deliver.session_window,
			.window_bytes = pf_conf.deliver.session_window_bytes,
			.up_ms = UP_MS,
			.end_ms = 1000 * (uint64_t)pf_params.pull_bye_time,
	};

	return c;
}

/* ------------------------------------------------------------------ calls */

void pf_pulling_refuse(struct pf_call *call, unsigned code, const char *reason,
		const char *why)
{
	(void)pf_pull_reply(
			call, code, reason, why, CPM_PL_NULL, CPM_PL_NULL, CPM_PL_NULL);
	free(call);
}

static struct pf_pulling *refused(struct pf_pulling **g, unsigned code,
		const char *reason, const char *why)
{
	if(code != 487) {
		(void)pf_pull_reply((*g)->call, code, reason, why, CPM_PL_NULL,
				CPM_PL_NULL, CPM_PL_NULL);
	}
	pf_pulling_free(g);
	return NULL;
}

struct pf_pulling *pf_pulling_start(
		void *owner, struct pf_call *call, struct cpm_pl token)
{
	struct pf_pulling *g =
			calloc(1, sizeof(*g) + call->actions.count * sizeof(g->results[0]));
	struct cpm_pull_conf c = conf();
	struct cpm_pull_ports ports;
	const char *why = "";
	uint64_t now_ms = io_clock_mono_ms();
	unsigned code;
	int rc;

	if(g == NULL) {
		pf_pulling_refuse(call, 503, "Service Unavailable", "no-memory");
		return NULL;
	}
	g->call = call;
	ports = ports_of(g);
	rc = cpm_pull_start(&g->pull, &ports, &c, call->aor, token, &call->actions,
			g->results, now_ms);
	if(rc == CPM_EAGAIN) {
		return refused(&g, 486, "Busy Here", "delivery-under-way");
	}
	if(rc != CPM_OK) {
		return refused(&g, 503, "Service Unavailable", "store-down");
	}
	g->session = pf_session_new(owner);
	code = 503;
	why = "no-session";
	if(g->session != NULL) {
		code = pf_session_accept(g->session, call, &why);
	}
	if(code != 0) {
		if(g->session != NULL) {
			pf_session_end(&g->session);
		}
		cpm_pull_abandon(&g->pull, &ports, &c, now_ms);
		return refused(&g, code,
				code == 488 ? "Not Acceptable Here" : "Service Unavailable",
				why);
	}
	LM_INFO("pull: answered aor=%.*s listed=%u\n", (int)call->aor.n,
			call->aor.p, (unsigned)call->actions.count);
	return g;
}

void pf_pulling_acked(struct pf_pulling *g)
{
	struct cpm_pull_ports ports = ports_of(g);
	struct cpm_pull_conf c = conf();

	cpm_pull_acked(&g->pull, &ports, &c, io_clock_mono_ms());
}

void pf_pulling_up(struct pf_pulling *g)
{
	struct cpm_pull_ports ports = ports_of(g);
	struct cpm_pull_conf c = conf();

	cpm_pull_up(&g->pull, &ports, &c, io_clock_mono_ms());
}

void pf_pulling_events(struct pf_pulling *g,
		const struct cpm_session_event *events, size_t count)
{
	struct cpm_pull_ports ports = ports_of(g);
	struct cpm_pull_conf c = conf();

	cpm_pull_events(&g->pull, &ports, &c, events, count, io_clock_mono_ms());
}

void pf_pulling_hung_up(struct pf_pulling *g)
{
	if(g->session != NULL) {
		pf_session_hung_up(g->session);
	}
}

void pf_pulling_tick(struct pf_pulling *g, uint64_t now_ms)
{
	struct cpm_pull_ports ports = ports_of(g);
	struct cpm_pull_conf c = conf();

	cpm_pull_tick(&g->pull, &ports, &c, now_ms);
}

uint64_t pf_pulling_at_ms(const struct pf_pulling *g)
{
	return g->pull.at_ms;
}

bool pf_pulling_is_blocked(const struct pf_pulling *g)
{
	return g->pull.blocked;
}

bool pf_pulling_is_over(const struct pf_pulling *g)
{
	return g->pull.state == CPM_PULL_FINISHED;
}

bool pf_pulling_has_done(const struct pf_pulling *g)
{
	return g->done > 0;
}

void pf_pulling_free(struct pf_pulling **gp)
{
	struct pf_pulling *g = *gp;

	*gp = NULL;
	if(g->session != NULL) {
		pf_session_end(&g->session);
	}
	free(g->call);
	free(g);
}
