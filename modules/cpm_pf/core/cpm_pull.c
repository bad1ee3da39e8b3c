/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_pull.h"

#define STORE_RETRY_MS 500
#define STEPS_MAX 64 /* in one go: others wait for this process */
#define NOT_LISTED SIZE_MAX
#define REFUSALS_MAX 20 /* with the time between them, ten seconds */

struct env
{
	const struct cpm_pull_ports *ports;
	const struct cpm_pull_conf *conf;
	uint64_t now_ms;
};

static struct cpm_pl pull_aor(const struct cpm_pull *p)
{
	return cpm_pl(p->aor, p->aor_len);
}

static struct cpm_pl pull_token(const struct cpm_pull *p)
{
	return cpm_pl(p->token, p->token_len);
}

static struct cpm_pl item_id(const struct cpm_pull_item *it)
{
	return cpm_pl(it->id, it->id_len);
}

static void result_set(struct cpm_pull *p, size_t index,
		enum cpm_result_status status, const char *reason)
{
	if(index != NOT_LISTED) {
		p->results[index].status = status;
		p->results[index].reason = reason;
	}
}

static void store_later(struct cpm_pull *p, const struct env *e)
{
	p->store_at_ms = e->now_ms + STORE_RETRY_MS;
}

/* ------------------------------------------------------------- settling */

static void items_drop(struct cpm_pull *p, const bool *drop)
{
	size_t i, n = 0;

	for(i = 0; i < p->count; i++) {
		if(drop[i]) {
			p->bytes -= p->item[i].bytes;
		} else {
			if(n != i) {
				p->item[n] = p->item[i];
			}
			n++;
		}
	}
	p->count = n;
}

static void settled(struct cpm_pull *p, const struct env *e,
		const struct cpm_pull_item *it, int rc)
{
	if(it->state != CPM_PULL_TAKEN) {
		return;
	}
	if(rc == CPM_OK || it->unsure) {
		result_set(p, it->index, CPM_RESULT_OK, "");
		p->retrieved++;
		e->ports->done(
				e->ports->ctx, pull_aor(p), item_id(it), CPM_ACT_RETRIEVE);
	} else {
		/* the client has it, and somebody else may bring it again */
		result_set(p, it->index, CPM_RESULT_FAILED, "lease-lost");
	}
}

/* Tells the store what became of them, as far as that is known. true: it has
 * answered for each. */
static bool settle_known(struct cpm_pull *p, const struct env *e)
{
	struct cpm_settle s[CPM_PULL_WINDOW];
	int rcs[CPM_PULL_WINDOW] = {0};
	bool drop[CPM_PULL_WINDOW] = {false};
	size_t of[CPM_PULL_WINDOW];
	size_t i, n = 0;
	bool all = true;
	int rc;

	for(i = 0; i < p->count; i++) {
		if(p->item[i].state != CPM_PULL_SENT) {
			memset(&s[n], 0, sizeof(s[n]));
			s[n].aor = pull_aor(p);
			s[n].token = pull_token(p);
			s[n].id = item_id(&p->item[i]);
			s[n].how = p->item[i].state == CPM_PULL_TAKEN ? CPM_SETTLE_DELIVERED
														  : CPM_SETTLE_UNSENT;
			s[n].dedup_ms = e->conf->dedup_ms;
			of[n++] = i;
		}
	}
	if(n == 0) {
		return true;
	}
	rc = e->ports->queue_settle_many(e->ports->ctx, s, n, rcs);
	for(i = 0; i < n; i++) {
		struct cpm_pull_item *it = &p->item[of[i]];
		int one = rc == CPM_OK ? rcs[i] : rc;

		if(one == CPM_OK || one == CPM_ENOENT) {
			settled(p, e, it, one);
			drop[of[i]] = true;
		} else if(one == CPM_EPROTO && ++it->refusals >= REFUSALS_MAX) {
			/* it says so again and again: the lease runs out by itself, and
			 * what the client has may come once more */
			if(it->state == CPM_PULL_TAKEN) {
				result_set(p, it->index, CPM_RESULT_FAILED, "store-refused");
			}
			drop[of[i]] = true;
		} else {
			/* some of a pipeline may have been executed, whatever it says */
			it->unsure = true;
			all = false;
		}
	}
	items_drop(p, drop);
	if(!all) {
		store_later(p, e);
	}
	return all;
}

/* ---------------------------------------------------------------- the end */

static void wait_for(struct cpm_pull *p)
{
	uint64_t at_ms = p->extend_at_ms;

	if(p->state == CPM_PULL_FINISHED) {
		p->at_ms = 0;
		return;
	}
	if(p->state == CPM_PULL_CLOSING) {
		at_ms = p->store_at_ms;
	} else if(p->store_at_ms != 0 && p->store_at_ms < at_ms) {
		at_ms = p->store_at_ms;
	}
	if((p->state == CPM_PULL_ANSWERED || p->state == CPM_PULL_ENDING)
			&& p->until_ms < at_ms) {
		at_ms = p->until_ms;
	}
	p->at_ms = at_ms;
}

/* The store is to know what the client took, however long that takes: else the
 * client would get it again. What goes back comes back by itself in the end. */
static void closing_look(struct cpm_pull *p, const struct env *e)
{
	bool drop[CPM_PULL_WINDOW] = {false};
	size_t i;

	if(!settle_known(p, e)) {
		for(i = 0; i < p->count; i++) {
			drop[i] = p->item[i].state != CPM_PULL_TAKEN
					  && e->now_ms >= p->lost_at_ms;
		}
		items_drop(p, drop);
		if(p->count > 0) {
			return;
		}
	}
	if(p->locked) {
		(void)e->ports->queue_release(
				e->ports->ctx, pull_aor(p), pull_token(p));
	}
	p->state = CPM_PULL_FINISHED;
}

static void close_session(struct cpm_pull *p, const struct env *e)
{
	size_t i;

	for(i = 0; i < p->count; i++) {
		if(p->item[i].state == CPM_PULL_SENT) {
			p->item[i].state = CPM_PULL_BACK;
		}
	}
	p->state = CPM_PULL_CLOSING;
	e->ports->end(e->ports->ctx);
	closing_look(p, e);
}

/* ----------------------------------------------------------------- actions */

enum step
{
	STEP_ON,
	STEP_WAIT, /* for the store, for room, or for acknowledgements */
	STEP_LOST, /* the session does not take anything any more */
};

static size_t room(const struct cpm_pull *p, const struct env *e)
{
	size_t window = e->conf->window < CPM_PULL_WINDOW ? e->conf->window
													  : CPM_PULL_WINDOW;

	if(p->count >= window
			|| (p->count > 0 && p->bytes >= e->conf->window_bytes)) {
		return 0;
	}
	return window - p->count;
}

static uint64_t room_bytes(const struct cpm_pull *p, const struct env *e)
{
	return e->conf->window_bytes > p->bytes ? e->conf->window_bytes - p->bytes
											: 1;
}

/* One that has been leased, into the session: result of the port. */
static int give(struct cpm_pull *p, const struct env *e,
		const struct cpm_msg *msg, size_t index)
{
	struct cpm_pull_item *it = &p->item[p->count];
	int rc = e->ports->send(e->ports->ctx, p->handle + 1, msg);

	if(rc != CPM_OK) {
		return rc;
	}
	memset(it, 0, sizeof(*it));
	it->handle = ++p->handle;
	it->index = index;
	it->bytes = msg->body_len;
	memcpy(it->id, msg->id.p, msg->id.n);
	it->id_len = msg->id.n;
	p->bytes += it->bytes;
	p->count++;
	return CPM_OK;
}

/* Of those that were leased, what is not to be sent, or not now. What is lent
 * of a lease is good only until the store is asked again. */
struct backs
{
	struct cpm_settle s[CPM_PULL_WINDOW];
	char ids[CPM_PULL_WINDOW][CPM_MSG_ID_MAX];
	size_t n;
};

static void back_note(
		struct cpm_pull *p, struct backs *b, const struct cpm_msg *msg)
{
	struct cpm_settle *s = &b->s[b->n];

	memset(s, 0, sizeof(*s));
	memcpy(b->ids[b->n], msg->id.p, msg->id.n);
	s->id = cpm_pl(b->ids[b->n], msg->id.n);
	s->aor = pull_aor(p);
	s->token = pull_token(p);
	s->how = CPM_SETTLE_UNSENT;
	b->n++;
}

static void backs_tell(const struct env *e, struct backs *b)
{
	int rcs[CPM_PULL_WINDOW];

	if(b->n > 0) {
		/* what the store does not hear comes back when the lease ends */
		(void)e->ports->queue_settle_many(e->ports->ctx, b->s, b->n, rcs);
	}
}

/* Leases. CPM_OK; else the store is asked again later. */
static int take(struct cpm_pull *p, const struct env *e, struct cpm_take *ask,
		struct cpm_taken *taken, size_t *count_r)
{
	uint64_t busy_ms = 0;
	int rc;

	ask->aor = pull_aor(p);
	ask->token = pull_token(p);
	ask->lease_ms = e->conf->lease_ms;
	*count_r = 0;
	rc = e->ports->queue_take(e->ports->ctx, ask, taken, count_r, &busy_ms);
	if(rc == CPM_OK) {
		p->locked = true;
	} else if(rc != CPM_EPROTO) {
		store_later(p, e);
	}
	return rc;
}

/* A message that was leased goes into the session, or it is noted that it is to
 * go back. */
static enum step give_or_back(struct cpm_pull *p, const struct env *e,
		struct backs *b, const struct cpm_msg *msg, size_t index)
{
	int rc;

	if(!e->ports->accepts(e->ports->ctx, msg)) {
		result_set(p, index, CPM_RESULT_FAILED, "type-not-accepted");
		back_note(p, b, msg);
		return STEP_ON;
	}
	rc = give(p, e, msg, index);
	if(rc == CPM_OK) {
		return STEP_ON;
	}
	back_note(p, b, msg);
	p->blocked = rc == CPM_EAGAIN;
	return p->blocked ? STEP_WAIT : STEP_LOST;
}

/* The items from p->at on that are to be retrieved, as many as there is room
 * for. */
static enum step retrieve_listed(struct cpm_pull *p, const struct env *e)
{
	struct cpm_pl ids[CPM_PULL_WINDOW];
	struct cpm_taken taken[CPM_PULL_WINDOW];
	struct cpm_take ask;
	struct backs b;
	enum step step = STEP_ON;
	size_t max = room(p, e);
	size_t count, i, n = 0;
	int rc;

	if(max == 0) {
		return STEP_WAIT;
	}
	while(n < max && p->at + n < p->actions->count
			&& p->actions->items[p->at + n].action == CPM_ACT_RETRIEVE) {
		ids[n] = p->actions->items[p->at + n].id;
		n++;
	}
	memset(&ask, 0, sizeof(ask));
	ask.ids = ids;
	ask.count = n;
	ask.max_messages = n;
	ask.max_bytes = room_bytes(p, e);
	rc = take(p, e, &ask, taken, &count);
	if(rc == CPM_EPROTO) {
		/* it would say so again */
		for(i = 0; i < n; i++) {
			result_set(p, p->at++, CPM_RESULT_FAILED, "store-refused");
		}
		return STEP_ON;
	}
	if(rc != CPM_OK) {
		return STEP_WAIT;
	}
	b.n = 0;
	for(i = 0; i < count; i++) {
		if(step != STEP_ON || taken[i].what == CPM_TAKEN_LATER) {
			if(step == STEP_ON) {
				step = STEP_WAIT;
			}
			if(taken[i].what == CPM_TAKEN_OK) {
				back_note(p, &b, &taken[i].msg);
			}
			continue;
		}
		if(taken[i].what == CPM_TAKEN_OK) {
			step = give_or_back(p, e, &b, &taken[i].msg, p->at);
		} else if(taken[i].what == CPM_TAKEN_BUSY) {
			result_set(p, p->at, CPM_RESULT_FAILED, "busy");
		} else {
			result_set(p, p->at, CPM_RESULT_GONE, "");
		}
		if(step == STEP_ON) {
			p->at++;
		}
	}
	backs_tell(e, &b);
	if(step == STEP_WAIT && p->count == 0 && !p->blocked) {
		/* nothing is on its way that would bring us here again */
		p->store_at_ms = e->now_ms + 1;
	}
	return step;
}

static bool is_listed(const struct cpm_pull *p, struct cpm_pl id)
{
	size_t i;

	for(i = 0; i < p->actions->count; i++) {
		if(cpm_pl_eq(p->actions->items[i].id, id)) {
			return true;
		}
	}
	return false;
}

/* Whether it is in the session already, and its lease so in use. */
static bool is_leased(const struct cpm_pull *p, struct cpm_pl id)
{
	size_t i;

	for(i = 0; i < p->count; i++) {
		if(cpm_pl_eq(item_id(&p->item[i]), id)) {
			return true;
		}
	}
	return false;
}

/* All that was not listed, oldest first. */
static enum step retrieve_all(struct cpm_pull *p, const struct env *e)
{
	struct cpm_taken taken[CPM_PULL_WINDOW];
	struct cpm_take ask;
	struct backs b;
	enum step step = STEP_ON;
	size_t count, i;
	int rc;

	memset(&ask, 0, sizeof(ask));
	ask.all = true;
	ask.after = p->after;
	ask.max_messages = room(p, e);
	ask.max_bytes = room_bytes(p, e);
	if(ask.max_messages == 0) {
		return STEP_WAIT;
	}
	rc = take(p, e, &ask, taken, &count);
	if(rc == CPM_EPROTO) {
		p->all_done = true; /* it would say so again */
		return STEP_ON;
	}
	if(rc != CPM_OK) {
		return STEP_WAIT;
	}
	b.n = 0;
	for(i = 0; i < count; i++) {
		if(taken[i].what != CPM_TAKEN_OK) {
			p->after = step == STEP_ON ? taken[i].seq : p->after;
			continue;
		}
		if(step != STEP_ON || is_listed(p, taken[i].msg.id)) {
			/* what is listed may be on its way still: it stays ours */
			if(!is_leased(p, taken[i].msg.id)) {
				back_note(p, &b, &taken[i].msg);
			}
		} else {
			step = give_or_back(p, e, &b, &taken[i].msg, NOT_LISTED);
		}
		if(step == STEP_ON) {
			p->after = taken[i].seq;
		}
	}
	backs_tell(e, &b);
	p->all_done = count == 0;
	return step;
}

static int perform(struct cpm_pull *p, const struct env *e,
		const struct cpm_action_item *item)
{
	unsigned jobs = item->action == CPM_ACT_STORE		? CPM_JOB_STORE
					: item->action == CPM_ACT_INTERWORK ? CPM_JOB_INTERWORK
														: CPM_JOB_NONE;

	if(item->action == CPM_ACT_KEEP) {
		return e->ports->queue_hold(e->ports->ctx, pull_aor(p), item->id);
	}
	return e->ports->queue_discard(
			e->ports->ctx, pull_aor(p), item->id, e->conf->dedup_ms, jobs);
}

/* What needs nothing of the client. */
static enum step act(struct cpm_pull *p, const struct env *e)
{
	const struct cpm_action_item *item = &p->actions->items[p->at];
	int rc = perform(p, e, item);

	switch(rc) {
		case CPM_OK:
			result_set(p, p->at, CPM_RESULT_OK, "");
			e->ports->done(e->ports->ctx, pull_aor(p), item->id, item->action);
			break;
		case CPM_ENOENT:
			/* if the store was asked and did not answer, it did it then */
			if(p->unsure && item->action != CPM_ACT_KEEP) {
				result_set(p, p->at, CPM_RESULT_OK, "");
				e->ports->done(
						e->ports->ctx, pull_aor(p), item->id, item->action);
			} else {
				result_set(p, p->at, CPM_RESULT_GONE, "");
			}
			break;
		case CPM_EEXIST:
			result_set(p, p->at, CPM_RESULT_FAILED, "busy");
			break;
		case CPM_EPROTO:
			result_set(p, p->at, CPM_RESULT_FAILED, "store-refused");
			break;
		default:
			p->unsure = p->unsure || rc == CPM_EUNSURE;
			store_later(p, e);
			return STEP_WAIT;
	}
	p->unsure = false;
	p->at++;
	return STEP_ON;
}

static enum step step_of(struct cpm_pull *p, const struct env *e)
{
	if(p->at < p->actions->count) {
		return p->actions->items[p->at].action == CPM_ACT_RETRIEVE
					   ? retrieve_listed(p, e)
					   : act(p, e);
	}
	if(cpm_actions_rest(p->actions)) {
		return retrieve_all(p, e);
	}
	p->all_done = true;
	return STEP_ON;
}

/* All is known: the results, and then it is for the client to hang up. */
static void results_send(struct cpm_pull *p, const struct env *e)
{
	int rc = CPM_ENOENT;

	if(p->actions->listed) {
		rc = e->ports->send_results(
				e->ports->ctx, p->handle + 1, p->actions, p->results);
	}
	if(rc == CPM_OK) {
		p->results_handle = ++p->handle;
		p->state = CPM_PULL_RESULTS;
	} else if(rc == CPM_EAGAIN) {
		store_later(p, e);
	} else if(rc == CPM_ENOENT) {
		p->state = CPM_PULL_ENDING;
		p->until_ms = e->now_ms + e->conf->end_ms;
	} else {
		close_session(p, e);
	}
}

static void go_on(struct cpm_pull *p, const struct env *e)
{
	enum step step = STEP_ON;
	unsigned n = 0;

	if(p->state != CPM_PULL_WORKING || p->store_at_ms != 0) {
		return;
	}
	while(step == STEP_ON && !p->all_done && !p->blocked && n++ < STEPS_MAX) {
		step = step_of(p, e);
	}
	if(step == STEP_LOST) {
		close_session(p, e);
	} else if(p->all_done && p->count == 0) {
		results_send(p, e);
	} else if(step == STEP_ON && !p->all_done && !p->blocked) {
		p->store_at_ms = e->now_ms + 1; /* others wait for this process */
	}
}

/* ------------------------------------------------------------------ calls */

int cpm_pull_start(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, struct cpm_pl aor,
		struct cpm_pl token, const struct cpm_actions *actions,
		struct cpm_pull_result *results, uint64_t now_ms)
{
	struct env e = {ports, conf, now_ms};
	struct cpm_take ask;
	size_t count;
	int rc;

	memset(p, 0, sizeof(*p));
	p->state = CPM_PULL_FINISHED;
	if(aor.n > sizeof(p->aor) || token.n > sizeof(p->token)) {
		return CPM_EPROTO;
	}
	memcpy(p->aor, aor.p, aor.n);
	p->aor_len = aor.n;
	memcpy(p->token, token.p, token.n);
	p->token_len = token.n;
	p->actions = actions;
	p->results = results;
	memset(&ask, 0, sizeof(ask));
	rc = take(p, &e, &ask, NULL, &count);
	p->store_at_ms = 0;
	if(rc != CPM_OK) {
		return rc;
	}
	p->state = CPM_PULL_ANSWERED;
	p->until_ms = now_ms + conf->up_ms;
	p->extend_at_ms = now_ms + conf->lease_ms / 3;
	p->lost_at_ms = now_ms + conf->lease_ms;
	wait_for(p);
	return CPM_OK;
}

static void begin(struct cpm_pull *p, const struct env *e)
{
	if(p->state == CPM_PULL_ANSWERED && p->acked && p->down) {
		close_session(p, e);
	} else if(p->state == CPM_PULL_ANSWERED && p->acked && p->up) {
		p->state = CPM_PULL_WORKING;
		go_on(p, e);
	}
	wait_for(p);
}

void cpm_pull_acked(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, uint64_t now_ms)
{
	struct env e = {ports, conf, now_ms};

	p->acked = true;
	begin(p, &e);
}

void cpm_pull_up(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, uint64_t now_ms)
{
	struct env e = {ports, conf, now_ms};

	p->up = true;
	begin(p, &e);
}

static struct cpm_pull_item *item_find(struct cpm_pull *p, uint32_t handle)
{
	size_t i;

	for(i = 0; i < p->count; i++) {
		if(p->item[i].handle == handle && p->item[i].state == CPM_PULL_SENT) {
			return &p->item[i];
		}
	}
	return NULL;
}

static const char *refusal(unsigned code)
{
	return code == 415	 ? "type-not-accepted"
		   : code == 413 ? "too-large"
						 : "not-taken";
}

/* Returns whether the session is over by it. */
static bool event_note(struct cpm_pull *p, const struct env *e,
		const struct cpm_session_event *ev)
{
	struct cpm_pull_item *it = item_find(p, ev->handle);

	switch(ev->kind) {
		case CPM_SESSION_DONE:
		case CPM_SESSION_FAILED:
			if(p->state == CPM_PULL_RESULTS
					&& ev->handle == p->results_handle) {
				p->state = CPM_PULL_ENDING;
				p->until_ms = e->now_ms + e->conf->end_ms;
			} else if(it != NULL && ev->kind == CPM_SESSION_DONE) {
				it->state = CPM_PULL_TAKEN;
			} else if(it != NULL) {
				it->state = CPM_PULL_BACK;
				result_set(p, it->index, CPM_RESULT_FAILED, refusal(ev->code));
			}
			return false;
		case CPM_SESSION_ROOM:
			p->blocked = false;
			return false;
		case CPM_SESSION_DOWN:
			/* without an ACK there is no BYE to be sent yet: it goes on being
			 * the one session of its user until there is, or until_ms */
			p->down = true;
			return p->state != CPM_PULL_ANSWERED || p->acked;
		case CPM_SESSION_HANGUP:
			break;
	}
	return true;
}

void cpm_pull_events(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf,
		const struct cpm_session_event *events, size_t count, uint64_t now_ms)
{
	struct env e = {ports, conf, now_ms};
	bool over = false;
	size_t i;

	if(p->state == CPM_PULL_CLOSING || p->state == CPM_PULL_FINISHED) {
		return;
	}
	for(i = 0; i < count; i++) {
		over = event_note(p, &e, &events[i]) || over;
	}
	if(over) {
		close_session(p, &e);
	} else if(settle_known(p, &e)) {
		go_on(p, &e);
	}
	wait_for(p);
}

/* Holds the leases and the lock. false: they are lost. */
static bool extend(struct cpm_pull *p, const struct env *e)
{
	struct cpm_pl ids[CPM_PULL_WINDOW];
	bool lost[CPM_PULL_WINDOW] = {false};
	size_t i;
	int rc;

	for(i = 0; i < p->count; i++) {
		ids[i] = item_id(&p->item[i]);
	}
	rc = e->ports->queue_extend(e->ports->ctx, pull_aor(p), pull_token(p),
			e->conf->lease_ms, ids, p->count, lost);
	if(rc != CPM_OK) {
		p->extend_at_ms = e->now_ms + STORE_RETRY_MS;
		return e->now_ms < p->lost_at_ms;
	}
	p->extend_at_ms = e->now_ms + e->conf->lease_ms / 3;
	p->lost_at_ms = e->now_ms + e->conf->lease_ms;
	for(i = 0; i < p->count; i++) {
		if(lost[i] && p->item[i].state == CPM_PULL_SENT) {
			result_set(p, p->item[i].index, CPM_RESULT_FAILED, "lease-lost");
		} else {
			lost[i] = false;
		}
	}
	items_drop(p, lost);
	return true;
}

/* Others may have them by now: to send on would be to send twice. */
static void leases_lost(struct cpm_pull *p, const struct env *e)
{
	bool drop[CPM_PULL_WINDOW] = {false};
	size_t i;

	for(i = 0; i < p->count; i++) {
		drop[i] = p->item[i].state == CPM_PULL_SENT;
	}
	items_drop(p, drop);
	close_session(p, e);
}

void cpm_pull_tick(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, uint64_t now_ms)
{
	struct env e = {ports, conf, now_ms};

	if(p->at_ms == 0 || now_ms < p->at_ms) {
		return;
	}
	if(p->state == CPM_PULL_CLOSING) {
		closing_look(p, &e);
	} else if((p->state == CPM_PULL_ANSWERED || p->state == CPM_PULL_ENDING)
			  && now_ms >= p->until_ms) {
		close_session(p, &e);
	} else if(now_ms >= p->extend_at_ms && !extend(p, &e)) {
		leases_lost(p, &e);
	} else {
		if(p->store_at_ms != 0 && now_ms >= p->store_at_ms) {
			p->store_at_ms = 0;
		}
		/* where nothing is on its way, there is room */
		p->blocked = p->blocked && p->count > 0;
		if(p->store_at_ms == 0 && settle_known(p, &e)) {
			go_on(p, &e);
		}
	}
	wait_for(p);
}

void cpm_pull_abandon(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, uint64_t now_ms)
{
	struct env e = {ports, conf, now_ms};

	if(p->state != CPM_PULL_CLOSING && p->state != CPM_PULL_FINISHED) {
		close_session(p, &e);
		wait_for(p);
	}
}
