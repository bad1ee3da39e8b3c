/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_cpim.h"
#include "cpm_deliver_int.h"
#include "cpm_wr.h"

/* ------------------------------------------------------------- settling */

static struct cpm_pl item_id(const struct cpm_push_item *it)
{
	return cpm_pl(it->id, it->id_len);
}

static void items_drop(struct cpm_push *p, const bool *drop)
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

/* What ports are told of it. */
static void tell_item(const struct cpm_deliver *d, const struct cpm_dlv_env *e,
		const struct cpm_push_item *it, enum cpm_deliver_event event,
		const char *why)
{
	struct cpm_deliver_info info;

	memset(&info, 0, sizeof(info));
	info.event = event;
	info.aor = cpm_dlv_aor(d);
	info.id = item_id(it);
	info.attempt = it->attempt;
	info.code = it->code;
	info.why = why;
	info.received_ms = it->received_ms;
	info.mode = CPM_MODE_SESSION;
	e->ports->event(e->ports->ctx, &info);
}

static void tell_settled(const struct cpm_deliver *d,
		const struct cpm_dlv_env *e, const struct cpm_push_item *it,
		enum cpm_settle_how how)
{
	if(how == CPM_SETTLE_DELIVERED) {
		tell_item(d, e, it, CPM_DELIVER_DELIVERED, "delivered");
	} else if(how == CPM_SETTLE_DEAD) {
		tell_item(d, e, it, CPM_DELIVER_DEAD, "attempts-used-up");
	} else if(how == CPM_SETTLE_RETRY) {
		tell_item(d, e, it, CPM_DELIVER_RETRY, "not-taken");
	}
}

/* Of one that was not taken; d->attempt is that of another message. */
static uint64_t item_retry_ms(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, const struct cpm_push_item *it,
		bool *worn_out_r)
{
	unsigned attempt = d->attempt;
	uint64_t ms;

	d->attempt = it->attempt;
	*worn_out_r = cpm_dlv_is_worn_out(d, e);
	ms = cpm_dlv_retry_ms(d, e);
	d->attempt = attempt;
	return ms;
}

/* error: 16 bytes, for as long as *s. */
static void settle_fill(struct cpm_deliver *d, const struct cpm_dlv_env *e,
		const struct cpm_push_item *it, char *error, struct cpm_settle *s)
{
	struct cpm_wr w;
	bool worn_out;

	memset(s, 0, sizeof(*s));
	s->aor = cpm_dlv_aor(d);
	s->token = cpm_dlv_token(d);
	s->id = item_id(it);
	s->dedup_ms = e->conf->dedup_ms;
	s->how = it->state == CPM_PUSH_TAKEN ? CPM_SETTLE_DELIVERED
										 : CPM_SETTLE_UNSENT;
	if(it->state == CPM_PUSH_NOT_TAKEN) {
		cpm_wr_init(&w, error, 16);
		if(it->code > 0) {
			cpm_wr_u64(&w, it->code);
		} else {
			cpm_wr_str(&w, "session-lost");
		}
		s->error = cpm_wr_pl(&w);
		s->fail_class = it->fail_class;
		s->retry_in_ms = item_retry_ms(d, e, it, &worn_out);
		s->how = worn_out ? CPM_SETTLE_DEAD : CPM_SETTLE_RETRY;
	}
}

/* Tells the store what became of them, as far as that is known, until it has
 * answered for each. true: it has. */
static bool settle_known(struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	struct cpm_push *p = d->push;
	struct cpm_settle s[CPM_PUSH_WINDOW];
	char errors[CPM_PUSH_WINDOW][16];
	size_t of[CPM_PUSH_WINDOW];
	int rcs[CPM_PUSH_WINDOW] = {0};
	bool drop[CPM_PUSH_WINDOW] = {false};
	uint64_t again_ms = 0;
	size_t i, n = 0;
	int rc;

	for(i = 0; i < p->count; i++) {
		if(p->item[i].state != CPM_PUSH_SENT) {
			of[n] = i;
			settle_fill(d, e, &p->item[i], errors[n], &s[n]);
			n++;
		}
	}
	if(n == 0) {
		return true;
	}
	rc = e->ports->queue_settle_many(e->ports->ctx, s, n, rcs);
	for(i = 0; i < n; i++) {
		struct cpm_push_item *it = &p->item[of[i]];
		int one = rc == CPM_OK ? rcs[i] : rc;

		if(one == CPM_OK || (one == CPM_ENOENT && it->unsure)) {
			tell_settled(d, e, it, s[i].how);
			drop[of[i]] = true;
		} else if(one == CPM_ENOENT) {
			tell_item(d, e, it, CPM_DELIVER_LOST, "lease-lost");
			drop[of[i]] = true;
		} else {
			/* some of a pipeline may have been executed, whatever it says */
			it->unsure = true;
			again_ms = one == CPM_EPROTO && again_ms != CPM_DLV_STORE_RETRY_MS
							   ? e->conf->lease_ms
							   : CPM_DLV_STORE_RETRY_MS;
		}
	}
	items_drop(p, drop);
	p->store_at_ms = again_ms > 0 ? e->now_ms + again_ms : 0;
	return again_ms == 0;
}

/* All that nothing is known of goes back, as if it had not been leased. */
static void items_back(struct cpm_push *p)
{
	size_t i;

	for(i = 0; i < p->count; i++) {
		if(p->item[i].state == CPM_PUSH_SENT) {
			p->item[i].state = CPM_PUSH_BACK;
		}
	}
}

/* ------------------------------------------------------------ the session */

static void session_end(struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	d->push = NULL; /* its memory may go with it */
	e->ports->session_end(e->ports->ctx);
}

/* Waits for events, until what comes first by time. */
static enum cpm_dlv_next session_wait(struct cpm_deliver *d)
{
	const struct cpm_push *p = d->push;
	uint64_t at_ms = p->over ? p->store_at_ms : p->extend_at_ms;

	if(p->store_at_ms != 0 && p->store_at_ms < at_ms) {
		at_ms = p->store_at_ms;
	}
	if(d->state == CPM_DELIVER_INVITING && p->until_ms < at_ms) {
		at_ms = p->until_ms;
	}
	return cpm_dlv_wait_until(d, d->state, at_ms);
}

/* Nothing more goes into the session. It ends when the store knows all that
 * it does not know yet: until then nothing else remembers it. */
static enum cpm_dlv_next over_look(
		struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	struct cpm_push *p = d->push;
	bool again = p->over_again;
	uint64_t wake_in_ms = p->wake_in_ms;

	if(!settle_known(d, e)) {
		return session_wait(d);
	}
	session_end(d, e);
	/* what was not taken is not forced again: the token stays the same */
	return again ? CPM_DLV_LEASE : cpm_dlv_finish(d, e, wake_in_ms);
}

/* again: look at the whole queue, at once: other senders' messages, and what
 * was passed over or is due later. Else nothing before wake_in_ms. */
static enum cpm_dlv_next over(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, bool again, uint64_t wake_in_ms)
{
	items_back(d->push);
	d->push->over = true;
	d->push->over_again = again;
	d->push->wake_in_ms = wake_in_ms;
	d->again_in_session = false; /* d->again stays */
	return over_look(d, e);
}

/* The same, and one of them waits for its retry. */
static enum cpm_dlv_next over_retry(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, size_t at, enum cpm_fail_class fail_class,
		unsigned code)
{
	struct cpm_push_item *it = &d->push->item[at];
	bool worn_out;

	if(at >= d->push->count) {
		return over(d, e, false, e->conf->retry_ms[0]);
	}
	it->state = CPM_PUSH_NOT_TAKEN;
	it->fail_class = fail_class;
	it->code = code;
	return over(d, e, fail_class == CPM_FAIL_MESSAGE,
			item_retry_ms(d, e, it, &worn_out));
}

int cpm_push_invite(struct cpm_deliver *d, const struct cpm_dlv_env *e,
		const struct cpm_contact *contact, const struct cpm_msg *msg)
{
	struct cpm_push *p = e->ports->session_new(e->ports->ctx);
	int rc;

	if(p == NULL) {
		return CPM_ENOMEM;
	}
	d->push = p;
	p->profile = contact->session;
	p->is_cpim = cpm_ctype_is(msg->content_type, "message/cpim");
	if(msg->originator.n > 0) {
		memcpy(p->originator, msg->originator.p, msg->originator.n);
	}
	p->originator_len = msg->originator.n;
	rc = e->ports->session_invite(e->ports->ctx, contact, msg);
	if(rc != CPM_OK) {
		session_end(d, e);
		return rc;
	}
	p->until_ms = e->now_ms + e->conf->invite_ms;
	p->extend_at_ms = e->now_ms + e->conf->lease_ms / 3;
	p->lost_at_ms = e->now_ms + e->conf->lease_ms;
	cpm_dlv_tell(d, e, CPM_DELIVER_SENT, "invited");
	d->state = CPM_DELIVER_INVITING;
	(void)session_wait(d);
	return CPM_OK;
}

/* Whether a message may go into this session: where the SIP headers name the
 * sender, all must be the same one's; where CPIM does, anybody's may. */
static bool joins(const struct cpm_push *p, const struct cpm_msg *msg)
{
	if(p->profile != CPM_SESSION_CHAT && p->is_cpim
			&& cpm_ctype_is(msg->content_type, "message/cpim")) {
		return true;
	}
	return msg->originator.n > 0
		   && cpm_pl_eq(
				   msg->originator, cpm_pl(p->originator, p->originator_len));
}

static bool is_full(const struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	const struct cpm_push *p = d->push;
	size_t window = d->one_by_one ? 1 : e->conf->session_window;

	return p->count >= (window < CPM_PUSH_WINDOW ? window : CPM_PUSH_WINDOW)
		   || (p->count > 0 && p->bytes >= e->conf->session_window_bytes);
}

/* Whether the session has had all that it is to have. */
static bool is_used_up(const struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	unsigned max = d->one_by_one ? 1 : e->conf->session_max_messages;

	return max > 0 && d->push->given >= max;
}

/* Into the session. Result of the port. */
static int give(struct cpm_deliver *d, const struct cpm_dlv_env *e,
		const struct cpm_msg *msg, unsigned attempt, uint64_t seq)
{
	struct cpm_push *p = d->push;
	struct cpm_push_item *it = &p->item[p->count];
	int rc = e->ports->session_send(e->ports->ctx, p->handle + 1, msg);

	if(rc != CPM_OK) {
		return rc;
	}
	p->handle++;
	memset(it, 0, sizeof(*it));
	it->state = CPM_PUSH_SENT;
	it->handle = p->handle;
	it->seq = seq;
	it->attempt = attempt;
	it->received_ms = msg->received_ms;
	it->bytes = msg->body_len;
	memcpy(it->id, msg->id.p, msg->id.n);
	it->id_len = msg->id.n;
	p->bytes += it->bytes;
	p->count++;
	p->given++;
	p->last_seq = seq;
	return CPM_OK;
}

enum fill
{
	FILL_GO_ON,
	FILL_ENOUGH,
	FILL_LOST /* the session does not take anything any more */
};

/* As many messages as there is room for, leased in one go. What is lent of a
 * lease is good only until the store is asked again: what is not for this
 * session, or not now, goes back when all have been looked at. */
static enum fill fill_some(struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	struct cpm_push *p = d->push;
	struct cpm_lease leases[CPM_PUSH_WINDOW];
	struct cpm_settle back[CPM_PUSH_WINDOW];
	int rcs[CPM_PUSH_WINDOW];
	char ids[CPM_PUSH_WINDOW][CPM_MSG_ID_MAX];
	size_t window = d->one_by_one ? 1 : e->conf->session_window;
	unsigned max = d->one_by_one ? 1 : e->conf->session_max_messages;
	struct cpm_lease_ask ask = {cpm_dlv_aor(d), cpm_dlv_token(d),
			e->conf->lease_ms, d->force,
			e->now_ms > d->since_ms ? e->now_ms - d->since_ms : 0, 0,
			e->conf->session_window_bytes > p->bytes
					? e->conf->session_window_bytes - p->bytes
					: 0,
			p->last_seq};
	enum fill fill = FILL_GO_ON;
	size_t count = 0, n = 0;
	size_t i;
	int rc;

	ask.max_messages =
			(window < CPM_PUSH_WINDOW ? window : CPM_PUSH_WINDOW) - p->count;
	if(max > 0 && max - p->given < ask.max_messages) {
		ask.max_messages = max - p->given;
	}
	memset(leases, 0, sizeof(leases));
	rc = e->ports->queue_lease_many(e->ports->ctx, &ask, leases, &count);
	if(rc == CPM_EPROTO) {
		p->draining = true; /* it will say so again */
		return FILL_ENOUGH;
	}
	if(rc != CPM_OK) {
		p->store_at_ms = e->now_ms + CPM_DLV_STORE_RETRY_MS;
		return FILL_ENOUGH;
	}
	if(count == 0) {
		p->draining = true;
		return FILL_ENOUGH;
	}
	for(i = 0; i < count; i++) {
		struct cpm_lease *l = &leases[i];
		bool goes = fill == FILL_GO_ON;

		if(goes && !joins(p, &l->msg)) {
			p->draining = p->closed = true;
			fill = FILL_ENOUGH;
			goes = false;
		}
		if(goes) {
			rc = e->ports->session_takes(
					e->ports->ctx, cpm_dlv_aor(d), &l->msg);
			if(rc < 0) {
				/* cannot be told now: nothing passes it */
				p->draining = p->closed = true;
				fill = FILL_ENOUGH;
			} else if(rc == 0) {
				/* another client's, perhaps: it is looked at when this one
				 * is done */
				p->last_seq = l->seq;
			}
			goes = rc > 0;
		}
		if(goes) {
			rc = give(d, e, &l->msg, l->attempt, l->seq);
			goes = rc == CPM_OK;
			if(!goes) {
				p->blocked = rc == CPM_EAGAIN;
				fill = p->blocked ? FILL_ENOUGH : FILL_LOST;
			}
		}
		if(!goes) {
			memset(&back[n], 0, sizeof(back[n]));
			back[n].aor = cpm_dlv_aor(d);
			back[n].token = cpm_dlv_token(d);
			memcpy(ids[n], l->msg.id.p, l->msg.id.n);
			back[n].id = cpm_pl(ids[n], l->msg.id.n);
			back[n].how = CPM_SETTLE_UNSENT;
			n++;
		}
	}
	if(n > 0) {
		(void)e->ports->queue_settle_many(e->ports->ctx, back, n, rcs);
	}
	return fill;
}

/* Nobody took the message that the session was for: the next client. What
 * else was in it goes back; its own lease stays, and the next client takes it
 * up again. */
static enum cpm_dlv_next client_failed(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, unsigned code, struct cpm_lease *lease)
{
	bool first[CPM_PUSH_WINDOW] = {true};

	if(d->push->count > 0) {
		items_drop(d->push, first);
	}
	items_back(d->push);
	(void)settle_known(d, e); /* else the leases tell, or this token again */
	session_end(d, e);
	cpm_dlv_failed(d, code);
	return cpm_dlv_next_client(d, e, lease);
}

static bool may_fill(const struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	return !d->push->draining && !d->push->blocked && !is_full(d, e);
}

/* As many as go into it; then waits for what becomes of them, or ends. */
static enum cpm_dlv_next go_on(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, struct cpm_lease *lease)
{
	static const struct cpm_session_event down = {CPM_SESSION_DOWN, 0, 0};
	struct cpm_push *p = d->push;
	enum fill fill = FILL_GO_ON;
	unsigned n = 0;

	d->state = CPM_DELIVER_SESSION;
	p->store_at_ms = 0;
	while(fill == FILL_GO_ON && may_fill(d, e) && n++ < 2 * CPM_PUSH_WINDOW) {
		if(is_used_up(d, e)) {
			p->draining = p->closed = true;
			break;
		}
		fill = fill_some(d, e);
	}
	if(fill == FILL_LOST) {
		return cpm_push_events(d, e, &down, 1, lease);
	}
	if(p->draining && p->count == 0) {
		return over(d, e, true, 0);
	}
	if(fill == FILL_GO_ON && may_fill(d, e)) {
		/* others wait for this process */
		return cpm_dlv_wait_until(d, CPM_DELIVER_SESSION, e->now_ms + 1);
	}
	return session_wait(d);
}

/* --------------------------------------------------------------- events */

/* What a client says of the INVITE that is about sessions, and not about this
 * message or its being there: by MESSAGE it may well take it. */
static bool is_no_session(unsigned code)
{
	static const unsigned codes[] = {400, 403, 404, 405, 406, 415, 416, 420,
			421, 488, 493, 501, 505, 513, 606};
	size_t i;

	for(i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		if(codes[i] == code) {
			return true;
		}
	}
	return false;
}

/* MESSAGE to the contact that was invited counts as not tried. */
static void message_allow(struct cpm_deliver *d)
{
	size_t i;

	for(i = 0; i < d->tried_count; i++) {
		if(d->tried[i] == d->inviting_hash) {
			d->tried[i] = d->tried[--d->tried_count];
			return;
		}
	}
}

enum cpm_dlv_next cpm_push_invited(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, unsigned code, struct cpm_lease *lease)
{
	int rc;

	if(code < 200 || code > 299) {
		session_end(d, e);
		if(is_no_session(code)) {
			message_allow(d);
		}
		/* it is no word about this one message */
		cpm_dlv_failed(d, is_no_session(code) ? 405 : code);
		if(d->fail_code == 405) {
			d->fail_code = code; /* what it said */
		}
		return cpm_dlv_next_client(d, e, lease);
	}
	rc = e->ports->queue_renew(e->ports->ctx, cpm_dlv_aor(d), cpm_dlv_token(d),
			cpm_dlv_id(d), e->conf->lease_ms, lease);
	if(rc != CPM_OK) {
		/* nothing to send, or the store is gone: a session without a message
		 * is of no use */
		session_end(d, e);
		if(rc == CPM_ENOENT) {
			cpm_dlv_tell(d, e, CPM_DELIVER_LOST, "lease-lost");
			return CPM_DLV_LEASE;
		}
		return cpm_dlv_finish(d, e, e->conf->lease_ms);
	}
	d->push->lost_at_ms = e->now_ms + e->conf->lease_ms;
	d->push->extend_at_ms = e->now_ms + e->conf->lease_ms / 3;
	rc = e->ports->session_takes(e->ports->ctx, cpm_dlv_aor(d), &lease->msg);
	if(rc == 0) {
		/* not in a session as this client describes it: by MESSAGE, or to
		 * another client */
		message_allow(d);
		return client_failed(d, e, 415, lease);
	}
	/* its user's wish was known before the INVITE */
	rc = give(d, e, &lease->msg, lease->attempt, d->seq);
	if(rc != CPM_OK) {
		return client_failed(d, e, 0, lease);
	}
	return go_on(d, e, lease);
}

static size_t item_find(const struct cpm_push *p, uint32_t handle)
{
	size_t i;

	for(i = 0; i < p->count && p->item[i].handle != handle; i++)
		;
	return i;
}

/* The client did not take one of them. false: it is of no use for any. */
static bool item_failed(struct cpm_deliver *d, size_t at, unsigned code)
{
	struct cpm_push *p = d->push;
	struct cpm_push_item *it = &p->item[at];

	if(code == 413 || code == 415) {
		/* this one message: others pass it */
		it->state = CPM_PUSH_NOT_TAKEN;
		it->fail_class = CPM_FAIL_MESSAGE;
		it->code = code;
		return true;
	}
	if(p->taken == 0 && cpm_pl_eq(item_id(it), cpm_dlv_id(d))) {
		return false;
	}
	/* some clients take one message in each session: if it is the first of
	 * the next one and is refused again, it is known. What is on its way has
	 * been sent, and may still be taken */
	it->state = CPM_PUSH_BACK;
	d->one_by_one = true;
	p->draining = p->closed = true;
	return true;
}

static size_t first_sent(const struct cpm_push *p)
{
	size_t i;

	for(i = 0; i < p->count && p->item[i].state != CPM_PUSH_SENT; i++)
		;
	return i;
}

/* The session has ended, or the client is of no use. */
static enum cpm_dlv_next ended(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, const struct cpm_session_event *end,
		bool stored, struct cpm_lease *lease)
{
	struct cpm_push *p = d->push;
	size_t at = first_sent(p);

	if(d->state == CPM_DELIVER_INVITING) {
		/* the INVITE's answer never came, and the connection is gone */
		session_end(d, e);
		cpm_dlv_failed(d, end->code);
		return cpm_dlv_next_client(d, e, lease);
	}
	if(end->kind == CPM_SESSION_HANGUP) {
		return over_retry(d, e, at, CPM_FAIL_REFUSED, end->code);
	}
	if(p->taken == 0 && stored && at == 0 && p->count > 0
			&& cpm_pl_eq(item_id(&p->item[0]), cpm_dlv_id(d))) {
		return client_failed(d, e, end->code, lease);
	}
	return over_retry(d, e, at,
			end->kind == CPM_SESSION_DOWN ? CPM_FAIL_UNREACHABLE
										  : cpm_fail_classify(end->code),
			end->code);
}

enum cpm_dlv_next cpm_push_events(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, const struct cpm_session_event *events,
		size_t count, struct cpm_lease *lease)
{
	struct cpm_push *p = d->push;
	const struct cpm_session_event *end = NULL;
	bool stored;
	size_t i, at;

	if(p->over) {
		return CPM_DLV_WAIT;
	}
	/* first what was taken, whatever came after it */
	for(i = 0; i < count; i++) {
		at = item_find(p, events[i].handle);
		if(events[i].kind == CPM_SESSION_DONE && at < p->count
				&& p->item[at].state == CPM_PUSH_SENT) {
			p->item[at].state = CPM_PUSH_TAKEN;
			p->taken++;
		}
		p->blocked = p->blocked && events[i].kind != CPM_SESSION_ROOM;
	}
	for(i = 0; i < count && end == NULL; i++) {
		at = item_find(p, events[i].handle);
		if(events[i].kind == CPM_SESSION_DOWN
				|| events[i].kind == CPM_SESSION_HANGUP
				|| (events[i].kind == CPM_SESSION_FAILED && at < p->count
						&& p->item[at].state == CPM_PUSH_SENT
						&& !item_failed(d, at, events[i].code))) {
			end = &events[i];
		}
	}
	stored = settle_known(d, e);
	if(end != NULL) {
		return ended(d, e, end, stored, lease);
	}
	/* while the store does not answer, what it gives is not looked at: it may
	 * be what was taken */
	return d->state == CPM_DELIVER_INVITING || !stored ? session_wait(d)
													   : go_on(d, e, lease);
}

/* Holds the leases. false: they are lost. */
static bool extend(struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	struct cpm_push *p = d->push;
	struct cpm_pl ids[CPM_PUSH_WINDOW];
	bool lost[CPM_PUSH_WINDOW] = {false};
	size_t i, n = 0;
	int rc;

	if(d->state == CPM_DELIVER_INVITING) {
		ids[n++] = cpm_dlv_id(d);
	}
	for(i = 0; i < p->count; i++) {
		ids[n++] = item_id(&p->item[i]);
	}
	rc = e->ports->queue_extend(e->ports->ctx, cpm_dlv_aor(d), cpm_dlv_token(d),
			e->conf->lease_ms, ids, n, lost);
	if(rc != CPM_OK) {
		p->extend_at_ms = e->now_ms + CPM_DLV_STORE_RETRY_MS;
		return e->now_ms < p->lost_at_ms;
	}
	p->extend_at_ms = e->now_ms + e->conf->lease_ms / 3;
	p->lost_at_ms = e->now_ms + e->conf->lease_ms;
	if(d->state == CPM_DELIVER_INVITING) {
		if(lost[0]) {
			cpm_dlv_tell(d, e, CPM_DELIVER_LOST, "lease-lost");
		}
		return !lost[0];
	}
	/* what became somebody else's is of no interest here */
	for(i = 0; i < p->count; i++) {
		if(lost[i] && p->item[i].state == CPM_PUSH_SENT) {
			tell_item(d, e, &p->item[i], CPM_DELIVER_LOST, "lease-lost");
		} else {
			lost[i] = false;
		}
	}
	items_drop(p, lost);
	return true;
}

/* Others may have them by now: to send on would be to send twice. What the
 * client took is told to the store nonetheless. */
static enum cpm_dlv_next leases_lost(
		struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	struct cpm_push *p = d->push;
	bool drop[CPM_PUSH_WINDOW] = {false};
	size_t i;

	for(i = 0; i < p->count; i++) {
		drop[i] = p->item[i].state == CPM_PUSH_SENT;
	}
	items_drop(p, drop);
	d->state = CPM_DELIVER_SESSION;
	return over(d, e, false, e->conf->lease_ms);
}

enum cpm_dlv_next cpm_push_tick(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, struct cpm_lease *lease)
{
	struct cpm_push *p = d->push;
	bool inviting = d->state == CPM_DELIVER_INVITING;

	if(p->over) {
		return over_look(d, e);
	}
	if(inviting && e->now_ms >= p->until_ms) {
		return cpm_push_invited(d, e, 408, lease);
	}
	if(e->now_ms >= p->extend_at_ms && !extend(d, e)) {
		return leases_lost(d, e);
	}
	if(inviting) {
		return session_wait(d);
	}
	if(d->again_in_session) {
		/* something was queued: it may join. Only that is done with by it:
		 * what forces a delivery has a look of its own afterwards */
		d->again_in_session = false;
		d->again = d->again && d->again_force != CPM_LEASE_WHEN_DUE;
		p->draining = p->closed;
	}
	/* where nothing is on its way, there is room */
	p->blocked = p->blocked && p->count > 0;
	return cpm_push_events(d, e, NULL, 0, lease);
}
