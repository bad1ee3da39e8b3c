/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_deliver_int.h"

#include "cpm_wr.h"

#define UNSEND_RETRY_MS 5000
#define LEASES_MAX 32 /* in one go: others wait for this process */

static const struct
{
	unsigned from, to;
	enum cpm_fail_class fail_class;
} fail_classes[] = {
		/* it will not take this message; another one, perhaps */
		{400, 400, CPM_FAIL_MESSAGE},
		{406, 406, CPM_FAIL_MESSAGE},
		{413, 413, CPM_FAIL_MESSAGE},
		{415, 416, CPM_FAIL_MESSAGE},
		{420, 421, CPM_FAIL_MESSAGE},
		{488, 488, CPM_FAIL_MESSAGE},
		{493, 493, CPM_FAIL_MESSAGE},
		{513, 513, CPM_FAIL_MESSAGE},
		{606, 606, CPM_FAIL_MESSAGE},
		/* nobody there, or not able to say anything sensible */
		{0, 399, CPM_FAIL_UNREACHABLE},
		{404, 404, CPM_FAIL_UNREACHABLE},
		{408, 408, CPM_FAIL_UNREACHABLE},
		{410, 410, CPM_FAIL_UNREACHABLE},
		{430, 430, CPM_FAIL_UNREACHABLE},
		{480, 481, CPM_FAIL_UNREACHABLE},
		{500, 500, CPM_FAIL_UNREACHABLE},
		{502, 504, CPM_FAIL_UNREACHABLE},
		{604, 604, CPM_FAIL_UNREACHABLE},
		/* there, and unwilling (486, 603) or not able (405, 501) */
		{0, 699, CPM_FAIL_REFUSED},
};

enum cpm_fail_class cpm_fail_classify(unsigned code)
{
	size_t i;

	for(i = 0; i < sizeof(fail_classes) / sizeof(fail_classes[0]); i++) {
		if(code >= fail_classes[i].from && code <= fail_classes[i].to) {
			return fail_classes[i].fail_class;
		}
	}
	return CPM_FAIL_UNREACHABLE;
}

static int contact_rank(const struct cpm_contact *c)
{
	return c->q < 0 ? 1000 : c->q;
}

/* Whether a is to be tried before b. */
static bool contact_before(
		const struct cpm_contact *a, const struct cpm_contact *b)
{
	if((a->session != CPM_SESSION_NONE) != (b->session != CPM_SESSION_NONE)) {
		return a->session != CPM_SESSION_NONE;
	}
	if(a->takes_message != b->takes_message) {
		return a->takes_message;
	}
	if(contact_rank(a) != contact_rank(b)) {
		return contact_rank(a) > contact_rank(b);
	}
	return a->last_modified_s > b->last_modified_s;
}

void cpm_contacts_order(struct cpm_contact *contacts, size_t count)
{
	struct cpm_contact c;
	size_t i, j;

	for(i = 1; i < count; i++) {
		c = contacts[i];
		for(j = i; j > 0 && contact_before(&c, &contacts[j - 1]); j--) {
			contacts[j] = contacts[j - 1];
		}
		contacts[j] = c;
	}
}

struct cpm_pl cpm_dlv_aor(const struct cpm_deliver *d)
{
	return cpm_pl(d->aor, d->aor_len);
}

struct cpm_pl cpm_dlv_token(const struct cpm_deliver *d)
{
	return cpm_pl(d->token, d->token_len);
}

struct cpm_pl cpm_dlv_id(const struct cpm_deliver *d)
{
	return cpm_pl(d->id, d->id_len);
}

void cpm_dlv_tell(const struct cpm_deliver *d, const struct cpm_dlv_env *e,
		enum cpm_deliver_event event, const char *why)
{
	struct cpm_deliver_info info;

	memset(&info, 0, sizeof(info));
	info.event = event;
	info.aor = cpm_dlv_aor(d);
	info.id = cpm_dlv_id(d);
	info.attempt = d->attempt;
	info.code = d->fail_code;
	info.why = why;
	info.received_ms = d->received_ms;
	info.mode = d->push != NULL ? CPM_MODE_SESSION : CPM_MODE_MESSAGE;
	e->ports->event(e->ports->ctx, &info);
}

enum cpm_dlv_next cpm_dlv_wait_until(
		struct cpm_deliver *d, enum cpm_deliver_state state, uint64_t at_ms)
{
	d->state = state;
	d->at_ms = at_ms;
	return CPM_DLV_WAIT;
}

/* A look that something asked for is one of its own: it has not passed over
 * any message yet. */
void cpm_dlv_token_renew(struct cpm_deliver *d)
{
	struct cpm_wr w;

	cpm_wr_init(
			&w, d->token + d->token_given, sizeof(d->token) - d->token_given);
	cpm_wr_chr(&w, '.');
	cpm_wr_u64(&w, ++d->round);
	d->token_len = d->token_given + w.n;
}

/* Ends the delivery, unless something happened meanwhile. A lock that cannot
 * be given back runs out by itself. unsent_id: was leased, and nothing was
 * sent; may be empty. */
static enum cpm_dlv_next finish_unsent(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, struct cpm_pl unsent_id,
		uint64_t wake_in_ms)
{
	(void)e->ports->queue_release(e->ports->ctx, cpm_dlv_aor(d),
			d->locked ? cpm_dlv_token(d) : CPM_PL_NULL, unsent_id, wake_in_ms);
	d->locked = false;
	if(d->again) {
		d->again = false;
		d->force = d->again_force;
		d->since_ms = d->again_since_ms;
		cpm_dlv_token_renew(d);
		return CPM_DLV_LEASE;
	}
	return cpm_dlv_wait_until(d, CPM_DELIVER_FINISHED, 0);
}

enum cpm_dlv_next cpm_dlv_finish(
		struct cpm_deliver *d, const struct cpm_dlv_env *e, uint64_t wake_in_ms)
{
	return finish_unsent(d, e, CPM_PL_NULL, wake_in_ms);
}

/* The store refuses, or answers what nobody understands. It will do so again:
 * this is no reason to ask twice a second for ever. What it may have leased
 * returns when the lease ends. */
static enum cpm_dlv_next finish_refused(
		struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	d->locked = true;
	return cpm_dlv_finish(d, e, e->conf->lease_ms);
}

/* Whether there is any way to bring a message to this contact. */
static bool is_way(const struct cpm_dlv_env *e, const struct cpm_contact *c)
{
	return c->takes_message
		   || (c->session != CPM_SESSION_NONE && e->ports->session_new != NULL);
}

static void remember(struct cpm_deliver *d, const struct cpm_lease *lease)
{
	memcpy(d->id, lease->msg.id.p, lease->msg.id.n);
	d->id_len = lease->msg.id.n;
	d->attempt = lease->attempt;
	d->received_ms = lease->msg.received_ms;
	d->seq = lease->seq;
}

static enum cpm_dlv_next step_lease(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, struct cpm_lease *lease)
{
	struct cpm_contact contacts[CPM_CONTACTS_MAX];
	size_t count = 0;
	size_t i;
	bool somebody = false;
	int rc;

	/* memory first: most who register have no queue, and most who have a
	 * queue are not registered */
	rc = e->ports->reach_get(e->ports->ctx, cpm_dlv_aor(d), contacts, &count);
	for(i = 0; rc == CPM_OK && i < count; i++) {
		somebody = somebody || is_way(e, &contacts[i]);
	}
	if(!somebody) {
		return cpm_dlv_finish(d, e, e->conf->check_max_ms);
	}
	rc = e->ports->queue_lease(e->ports->ctx, cpm_dlv_aor(d), cpm_dlv_token(d),
			e->conf->lease_ms, d->force,
			e->now_ms > d->since_ms ? e->now_ms - d->since_ms : 0, lease);
	if(rc == CPM_EPROTO) {
		return finish_refused(d, e);
	}
	if(rc != CPM_OK) {
		d->locked = d->locked || rc == CPM_EUNSURE;
		return cpm_dlv_wait_until(
				d, CPM_DELIVER_LEASING, e->now_ms + CPM_DLV_STORE_RETRY_MS);
	}
	switch(lease->status) {
		case CPM_LEASE_OK:
			d->locked = true;
			remember(d, lease);
			d->tried_count = 0;
			d->fail_class = 0;
			d->fail_code = 0;
			d->unsure = false;
			return CPM_DLV_SEND;
		case CPM_LEASE_WAIT:
			return cpm_dlv_finish(d, e,
					lease->wait_ms < e->conf->check_max_ms
							? lease->wait_ms
							: e->conf->check_max_ms);
		case CPM_LEASE_NONE:
			return cpm_dlv_finish(d, e, e->conf->check_max_ms);
		case CPM_LEASE_EMPTY:
		case CPM_LEASE_BUSY:
			break;
	}
	if(d->locked || d->again) {
		return cpm_dlv_finish(d, e, e->conf->check_max_ms);
	}
	/* nothing there, or somebody else is at it: no second round trip */
	return cpm_dlv_wait_until(d, CPM_DELIVER_FINISHED, 0);
}

static bool was_tried(const struct cpm_deliver *d, uint64_t hash)
{
	size_t i;

	for(i = 0; i < d->tried_count; i++) {
		if(d->tried[i] == hash) {
			return true;
		}
	}
	return false;
}

/* Which of two failures decides: a client that refused this one message may
 * take the next, so it wins; a client that is not there may come back. */
void cpm_dlv_failed(struct cpm_deliver *d, unsigned code)
{
	static const char order[] = "rum";
	char fail_class = (char)cpm_fail_classify(code);

	if(d->fail_class == 0
			|| cpm_pl_chr(CPM_PL_LIT(order), fail_class)
					   > cpm_pl_chr(CPM_PL_LIT(order), d->fail_class)) {
		d->fail_class = fail_class;
		d->fail_code = code;
	}
}

/* Of a contact, tried in one mode. */
static uint64_t mode_hash(uint64_t contact, enum cpm_mode mode)
{
	return mode == CPM_MODE_SESSION ? contact ^ 1 : contact;
}

static void tried_add(struct cpm_deliver *d, uint64_t hash)
{
	if(d->tried_count < sizeof(d->tried) / sizeof(d->tried[0])) {
		d->tried[d->tried_count++] = hash;
	}
}

/* How a contact may be tried next: in a session where it takes sessions, else
 * by MESSAGE. false: in no way (any more). */
static bool mode_of(const struct cpm_deliver *d, const struct cpm_dlv_env *e,
		const struct cpm_contact *c, uint64_t hash, enum cpm_mode *mode_r)
{
	if(c->session != CPM_SESSION_NONE && e->ports->session_new != NULL
			&& !was_tried(d, mode_hash(hash, CPM_MODE_SESSION))) {
		*mode_r = CPM_MODE_SESSION;
		return true;
	}
	*mode_r = CPM_MODE_MESSAGE;
	return c->takes_message && !was_tried(d, hash);
}

/* Whether this client is to have the message: 1, 0, negative. */
static int takes(const struct cpm_deliver *d, const struct cpm_dlv_env *e,
		const struct cpm_contact *c, const struct cpm_msg *msg,
		enum cpm_mode mode)
{
	if(e->ports->client_takes == NULL) {
		return 1;
	}
	return e->ports->client_takes(e->ports->ctx, cpm_dlv_aor(d), c, msg, mode);
}

/* One contact in one mode. true: a request is out. *none_r: there is no
 * session to be had now, which is nobody's failure. */
static bool try_contact(struct cpm_deliver *d, const struct cpm_dlv_env *e,
		const struct cpm_contact *c, const struct cpm_lease *lease,
		uint64_t hash, enum cpm_mode mode, bool *none_r)
{
	int rc;

	tried_add(d, mode_hash(hash, mode));
	if(mode == CPM_MODE_SESSION) {
		d->inviting_hash = hash;
		rc = cpm_push_invite(d, e, c, &lease->msg);
		if(rc == CPM_OK) {
			/* one way is enough, unless it turns out that it is none */
			tried_add(d, hash);
			return true;
		}
		if(rc == CPM_ENOMEM) {
			*none_r = true;
		} else {
			cpm_dlv_failed(d, 0);
		}
		return false;
	}
	if(e->ports->send_message(e->ports->ctx, c, &lease->msg, lease->attempt)
			== CPM_OK) {
		cpm_dlv_tell(d, e, CPM_DELIVER_SENT, "sent");
		/* an answer may never come: then the lease's end is the answer */
		(void)cpm_dlv_wait_until(
				d, CPM_DELIVER_WAITING, e->now_ms + e->conf->lease_ms);
		return true;
	}
	cpm_dlv_failed(d, 0);
	return false;
}

static enum cpm_dlv_next step_send(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, const struct cpm_lease *lease)
{
	struct cpm_contact contacts[CPM_CONTACTS_MAX];
	size_t count = 0;
	size_t i;
	uint64_t hash;
	enum cpm_mode mode;
	bool unfit = false;
	bool none = false;
	int yes;

	if(e->ports->reach_get(e->ports->ctx, cpm_dlv_aor(d), contacts, &count)
			!= CPM_OK) {
		count = 0;
	}
	cpm_contacts_order(contacts, count);
	for(i = 0; i < count; i++) {
		/* the lowest bit tells the mode */
		hash = cpm_hash64(CPM_HASH_INIT, contacts[i].uri) & ~UINT64_C(1);
		/* the session, and where there can be none, MESSAGE */
		while(mode_of(d, e, &contacts[i], hash, &mode)) {
			yes = takes(d, e, &contacts[i], &lease->msg, mode);
			if(yes < 0 && d->fail_class == 0) {
				/* cannot be judged now, and nobody was sent anything */
				return finish_unsent(d, e, cpm_dlv_id(d), UNSEND_RETRY_MS);
			}
			if(yes < 0) {
				/* what was sent was an attempt: it counts, or it has no end */
				return CPM_DLV_FAILED;
			}
			if(yes == 0) {
				unfit = true;
				tried_add(d, mode_hash(hash, mode));
				continue;
			}
			if(try_contact(d, e, &contacts[i], lease, hash, mode, &none)) {
				return CPM_DLV_WAIT;
			}
		}
	}
	if(none && d->fail_class == 0) {
		return finish_unsent(d, e, cpm_dlv_id(d), UNSEND_RETRY_MS);
	}
	if(unfit && d->fail_class == 0) {
		/* every client is one that its user keeps this message from, for now:
		 * that is no failure */
		d->fail_class = CPM_FAIL_DEFERRED;
		d->how = CPM_SETTLE_DEFER;
		return CPM_DLV_SETTLE;
	}
	return CPM_DLV_FAILED;
}

/* Attempts that refreshes of a registration brought on before their time do
 * not wear a message out: a client that registers every minute and answers
 * nothing would end it in minutes instead of hours. */
bool cpm_dlv_is_worn_out(
		const struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	return d->attempt >= e->conf->max_attempts
		   && d->force != CPM_LEASE_UNREACHABLE;
}

static enum cpm_dlv_next step_failed(
		struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	if(d->fail_class == 0) {
		/* the client went away before anything was sent: no attempt was made */
		return finish_unsent(d, e, cpm_dlv_id(d), e->conf->check_max_ms);
	}
	d->how = cpm_dlv_is_worn_out(d, e) ? CPM_SETTLE_DEAD : CPM_SETTLE_RETRY;
	return CPM_DLV_SETTLE;
}

uint64_t cpm_dlv_retry_ms(
		const struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	size_t i = d->attempt > 0 ? d->attempt - 1 : 0;

	if(i >= e->conf->retry_count) {
		i = e->conf->retry_count - 1;
	}
	return e->conf->retry_ms[i];
}

static int settle(struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	struct cpm_settle s;
	struct cpm_wr w;
	char error[16];

	memset(&s, 0, sizeof(s));
	s.aor = cpm_dlv_aor(d);
	s.id = cpm_dlv_id(d);
	s.token = cpm_dlv_token(d);
	s.how = d->how;
	s.fail_class = (enum cpm_fail_class)d->fail_class;
	s.dedup_ms = e->conf->dedup_ms;
	if(d->how != CPM_SETTLE_DELIVERED) {
		cpm_wr_init(&w, error, sizeof(error));
		if(d->fail_code > 0) {
			cpm_wr_u64(&w, d->fail_code);
		} else {
			cpm_wr_str(&w, "not-sent");
		}
		s.error = cpm_wr_pl(&w);
		s.retry_in_ms = cpm_dlv_retry_ms(d, e);
	}
	return e->ports->queue_settle(e->ports->ctx, &s);
}

static enum cpm_dlv_next step_settle(
		struct cpm_deliver *d, const struct cpm_dlv_env *e)
{
	int rc = settle(d, e);

	if(rc != CPM_OK && rc != CPM_ENOENT) {
		/* whatever the store has: to look for the next message now would be
		 * to send this one again */
		d->unsure = d->unsure || rc == CPM_EUNSURE;
		return cpm_dlv_wait_until(d, CPM_DELIVER_SETTLING,
				e->now_ms
						+ (rc == CPM_EPROTO ? e->conf->lease_ms
											: CPM_DLV_STORE_RETRY_MS));
	}
	if(rc == CPM_ENOENT && !d->unsure) {
		/* the next one, but not at once: where every lease is lost, that would
		 * have no end */
		cpm_dlv_tell(d, e, CPM_DELIVER_LOST, "lease-lost");
		return cpm_dlv_wait_until(
				d, CPM_DELIVER_LEASING, e->now_ms + CPM_DLV_STORE_RETRY_MS);
	}
	if(d->how == CPM_SETTLE_DELIVERED) {
		cpm_dlv_tell(d, e, CPM_DELIVER_DELIVERED, "delivered");
		return CPM_DLV_LEASE;
	}
	if(d->how == CPM_SETTLE_DEFER) {
		cpm_dlv_tell(d, e, CPM_DELIVER_DEFERRED, "clients-defer");
		return CPM_DLV_LEASE;
	}
	if(d->how == CPM_SETTLE_DEAD) {
		cpm_dlv_tell(d, e, CPM_DELIVER_DEAD, "attempts-used-up");
	} else {
		cpm_dlv_tell(d, e, CPM_DELIVER_RETRY, "not-taken");
	}
	if(d->fail_class == CPM_FAIL_MESSAGE) {
		return CPM_DLV_LEASE; /* this delivery passes over it from now on */
	}
	return cpm_dlv_finish(d, e, cpm_dlv_retry_ms(d, e));
}

static void drive(struct cpm_deliver *d, const struct cpm_dlv_env *e,
		enum cpm_dlv_next next, struct cpm_lease *lease)
{
	unsigned leases = 0;

	while(next != CPM_DLV_WAIT) {
		switch(next) {
			case CPM_DLV_LEASE:
				next = leases++ < LEASES_MAX
							   ? step_lease(d, e, lease)
							   : cpm_dlv_wait_until(
									   d, CPM_DELIVER_LEASING, e->now_ms + 1);
				break;
			case CPM_DLV_SEND:
				next = step_send(d, e, lease);
				break;
			case CPM_DLV_FAILED:
				next = step_failed(d, e);
				break;
			case CPM_DLV_SETTLE:
				next = step_settle(d, e);
				break;
			case CPM_DLV_WAIT:
				break;
		}
	}
}

void cpm_deliver_start(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, struct cpm_pl aor,
		struct cpm_pl token, enum cpm_lease_force force, uint64_t since_ms,
		uint64_t now_ms)
{
	struct cpm_dlv_env e = {ports, conf, now_ms};
	struct cpm_lease lease;

	memset(d, 0, sizeof(*d));
	if(aor.n > sizeof(d->aor) || token.n > CPM_DELIVER_TOKEN_MAX) {
		d->state = CPM_DELIVER_FINISHED;
		return;
	}
	memcpy(d->aor, aor.p, aor.n);
	d->aor_len = aor.n;
	memcpy(d->token, token.p, token.n);
	d->token_len = token.n;
	d->token_given = token.n;
	d->force = force;
	d->since_ms = since_ms;
	drive(d, &e, CPM_DLV_LEASE, &lease);
}

void cpm_deliver_again(
		struct cpm_deliver *d, enum cpm_lease_force force, uint64_t since_ms)
{
	if(d->state == CPM_DELIVER_SESSION && !d->push->over) {
		d->again_in_session = true;
		d->at_ms = 1; /* at once */
	}
	if(!d->again || force >= d->again_force) {
		d->again_force = force;
		d->again_since_ms = since_ms;
	}
	d->again = true;
}

/* The message is read again before it goes to the next client: between two
 * answers the store's memory of it is gone, and the lease must be ours. */
enum cpm_dlv_next cpm_dlv_next_client(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, struct cpm_lease *lease)
{
	int rc = e->ports->queue_renew(e->ports->ctx, cpm_dlv_aor(d),
			cpm_dlv_token(d), cpm_dlv_id(d), e->conf->lease_ms, lease);

	if(rc == CPM_OK) {
		return CPM_DLV_SEND;
	}
	if(rc == CPM_ENOENT) {
		cpm_dlv_tell(d, e, CPM_DELIVER_LOST, "lease-lost");
		return CPM_DLV_LEASE;
	}
	if(rc == CPM_EPROTO) {
		return finish_refused(d, e);
	}
	return cpm_dlv_wait_until(
			d, CPM_DELIVER_RENEWING, e->now_ms + CPM_DLV_STORE_RETRY_MS);
}

void cpm_deliver_answer(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, unsigned code, uint64_t now_ms)
{
	struct cpm_dlv_env e = {ports, conf, now_ms};
	struct cpm_lease lease;

	if(d->state != CPM_DELIVER_WAITING) {
		return;
	}
	if(code >= 200 && code < 300) {
		d->how = CPM_SETTLE_DELIVERED;
		d->fail_code = code;
		drive(d, &e, CPM_DLV_SETTLE, &lease);
		return;
	}
	cpm_dlv_failed(d, code);
	drive(d, &e, cpm_dlv_next_client(d, &e, &lease), &lease);
}

void cpm_deliver_invited(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, unsigned code, uint64_t now_ms)
{
	struct cpm_dlv_env e = {ports, conf, now_ms};
	struct cpm_lease lease;

	if(d->state == CPM_DELIVER_INVITING) {
		drive(d, &e, cpm_push_invited(d, &e, code, &lease), &lease);
	}
}

void cpm_deliver_session_event(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf,
		const struct cpm_session_event *events, size_t count, uint64_t now_ms)
{
	struct cpm_dlv_env e = {ports, conf, now_ms};
	struct cpm_lease lease;

	if(d->state == CPM_DELIVER_SESSION || d->state == CPM_DELIVER_INVITING) {
		drive(d, &e, cpm_push_events(d, &e, events, count, &lease), &lease);
	}
}

void cpm_deliver_tick(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, uint64_t now_ms)
{
	struct cpm_dlv_env e = {ports, conf, now_ms};
	struct cpm_lease lease;

	if(d->at_ms == 0 || now_ms < d->at_ms) {
		return;
	}
	d->at_ms = 0;
	switch(d->state) {
		case CPM_DELIVER_LEASING:
			drive(d, &e, CPM_DLV_LEASE, &lease);
			break;
		case CPM_DELIVER_RENEWING:
			drive(d, &e, cpm_dlv_next_client(d, &e, &lease), &lease);
			break;
		case CPM_DELIVER_SETTLING:
			drive(d, &e, CPM_DLV_SETTLE, &lease);
			break;
		case CPM_DELIVER_WAITING:
			cpm_deliver_answer(d, ports, conf, 408, now_ms);
			break;
		case CPM_DELIVER_INVITING:
		case CPM_DELIVER_SESSION:
			drive(d, &e, cpm_push_tick(d, &e, &lease), &lease);
			break;
		case CPM_DELIVER_IDLE:
		case CPM_DELIVER_FINISHED:
			break;
	}
}
