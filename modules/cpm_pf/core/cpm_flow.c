/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_flow.h"

#include "cpm_cpim.h"
#include "cpm_time.h"
#include "cpm_wr.h"

/* ---------------------------------------------------------- accept */

#define RETRY_AFTER_S 5

/* What the sender is told, and what the script sees. */
struct answer
{
	int rc;
	unsigned code;
	const char *reason;
	const char *why;
};

static const struct answer ans_empty = {-1, 400, "Empty Message", "empty-body"};
static const struct answer ans_no_type = {
		-1, 400, "Missing Content-Type", "no-content-type"};
static const struct answer ans_large = {
		-1, 413, "Message Too Large", "too-large"};
static const struct answer ans_headers = {
		-1, 413, "Message Headers Too Large", "headers-too-large"};
static const struct answer ans_no_aor = {
		-1, 400, "Not An Address Of Record", "not-an-aor"};
static const struct answer ans_not_home = {-1, 404, "Not Found", "not-home"};
static const struct answer ans_cpim = {
		-1, 400, "Malformed CPIM", "malformed-cpim"};
static const struct answer ans_expires = {
		-1, 400, "Malformed Expires", "bad-expires"};
static const struct answer ans_expired = {
		-1, 480, "Temporarily Unavailable", "expired"};
static const struct answer ans_down = {
		-2, 503, "Service Unavailable", "store-down"};
static const struct answer ans_unsure = {
		-2, 503, "Service Unavailable", "store-unsure"};
static const struct answer ans_error = {
		-2, 503, "Service Unavailable", "store-error"};
static const struct answer ans_memory = {
		-2, 503, "Service Unavailable", "no-memory"};

static const struct answer ans_put[] = {
		[CPM_PUT_QUEUED] = {1, 0, "Accepted", "queued"},
		[CPM_PUT_DUPLICATE] = {2, 0, "Accepted", "duplicate"},
		[CPM_PUT_GONE] = {2, 0, "Accepted", "delivered-already"},
		[CPM_PUT_CONFLICT] = {-2, 503, "Service Unavailable", "id-conflict"},
		[CPM_PUT_FULL_MESSAGES] = {-1, 480, "Temporarily Unavailable",
				"quota-messages"},
		[CPM_PUT_FULL_BYTES] = {-1, 480, "Temporarily Unavailable",
				"quota-bytes"},
};

static int outcome(struct cpm_outcome *out, const struct answer *a)
{
	out->rc = a->rc;
	out->code = a->code;
	out->reason = a->reason;
	out->why = a->why;
	out->retry_after_s = a->code == 503 ? RETRY_AFTER_S : 0;
	return out->rc;
}

static bool is_home(const struct cpm_accept_conf *conf, struct cpm_pl aor)
{
	struct cpm_pl host = cpm_aor_host(aor);
	size_t i;

	if(conf->domain_count == 0 || host.n == 0) {
		return true;
	}
	for(i = 0; i < conf->domain_count; i++) {
		if(cpm_pl_eq(host, conf->domains[i])) {
			return true;
		}
	}
	return false;
}

/* An id for a message that brought none, or none that can be used: what makes
 * the request of the sender unique (RFC 3261, 8.1.1), so that its
 * retransmission gets the same. */
static void id_derive(const struct cpm_accept_in *in, struct cpm_outcome *out)
{
	/* no header holds a NUL: CSeq 1 with tag 23 is not CSeq 12 with tag 3 */
	struct cpm_pl end = cpm_pl("", 1);
	struct cpm_wr w;
	uint64_t h1, h2;

	h1 = cpm_hash64(CPM_HASH_INIT, in->call_id);
	h2 = cpm_hash64(cpm_hash64(h1, end), in->cseq);
	h2 = cpm_hash64(cpm_hash64(h2, end), in->from_tag);
	cpm_wr_init(&w, out->id, sizeof(out->id));
	cpm_wr_str(&w, "cpm-");
	cpm_wr_hex64(&w, h1);
	cpm_wr_hex64(&w, h2);
	out->id_len = w.n;
}

static void id_set(struct cpm_outcome *out, const struct cpm_accept_in *in,
		struct cpm_pl message_id)
{
	if(!cpm_msg_id_ok(message_id)) {
		id_derive(in, out);
		return;
	}
	memcpy(out->id, message_id.p, message_id.n);
	out->id_len = message_id.n;
}

/* Two different messages may not bear one id: an id that is taken by another
 * message gets this one's fingerprint at its end. Again the same for a
 * retransmission. */
static void id_distinguish(struct cpm_outcome *out, uint64_t fingerprint)
{
	struct cpm_wr w;
	size_t keep = out->id_len < CPM_MSG_ID_MAX - 17 ? out->id_len
													: CPM_MSG_ID_MAX - 17;

	cpm_wr_init(&w, out->id + keep, sizeof(out->id) - keep);
	cpm_wr_chr(&w, '~');
	cpm_wr_hex64(&w, fingerprint);
	out->id_len = keep + w.n;
}

/* Validity (RFC 3428, 7): Expires, counted from Date where there is one; our
 * own upper limit applies. A Date of the future, or so old that it can only
 * be a wrong clock, counts as now. */
static const struct answer *expiry_set(const struct cpm_accept_conf *conf,
		const struct cpm_accept_in *in, uint64_t now_ms, struct cpm_msg *m)
{
	uint64_t life_s = conf->default_expires_s;
	uint64_t max_ms = now_ms + conf->max_expires_s * 1000;
	uint64_t base_ms = now_ms;
	uint64_t date_s;
	int rc;

	if(in->expires.n > 0) {
		/* RFC 3261, 20.19: up to 2**32 - 1; more is just as long */
		rc = cpm_pl_u64(cpm_pl_trim(in->expires), UINT32_MAX, &life_s);
		if(rc == CPM_ELIMIT) {
			life_s = UINT32_MAX;
		} else if(rc != CPM_OK) {
			return &ans_expires;
		}
		m->flags |= CPM_MSG_F_EXPIRES;
		if(cpm_time_parse_sip(in->date, &date_s) == CPM_OK
				&& date_s * 1000 < now_ms
				&& now_ms - date_s * 1000 < conf->max_expires_s * 1000) {
			base_ms = date_s * 1000;
		}
	}
	if(in->date.n > 0) {
		m->flags |= CPM_MSG_F_DATE;
	}
	m->expires_ms = base_ms + life_s * 1000;
	if(m->expires_ms > max_ms) {
		m->expires_ms = max_ms;
	}
	return m->expires_ms <= now_ms ? &ans_expired : NULL;
}

/* What can be wrong with the request itself, in the order in which it is
 * said. Fills out->aor, out->id and the flags of m. */
static const struct answer *message_check(const struct cpm_accept_conf *conf,
		const struct cpm_accept_in *in, uint64_t now_ms,
		struct cpm_outcome *out, struct cpm_msg *m)
{
	struct cpm_cpim cpim;
	struct cpm_pl aor;

	if(cpm_aor_canon(in->request_uri, out->aor, sizeof(out->aor), &aor, NULL)
			!= CPM_OK) {
		return &ans_no_aor;
	}
	if(aor.p != out->aor) {
		memmove(out->aor, aor.p, aor.n);
	}
	out->aor_len = aor.n;
	if(!is_home(conf, cpm_pl(out->aor, out->aor_len))) {
		return &ans_not_home;
	}
	if(in->body.n == 0) {
		return &ans_empty;
	}
	if(in->content_type.n == 0) {
		return &ans_no_type;
	}
	if(in->body.n > conf->message_max_bytes) {
		return &ans_large;
	}
	memset(&cpim, 0, sizeof(cpim));
	/* an encoded body is opaque: it is kept, not looked into */
	if(cpm_ctype_is(in->content_type, "message/cpim")
			&& in->content_encoding.n == 0
			&& cpm_cpim_parse(in->body, &cpim, NULL) != CPM_OK) {
		return &ans_cpim;
	}
	if(cpim.is_imdn || cpm_ctype_is(in->content_type, "message/imdn+xml")) {
		m->flags |= CPM_MSG_F_IMDN;
	}
	if(cpm_privacy_withholds(in->privacy)) {
		m->flags |= CPM_MSG_F_WITHHELD;
	}
	if(in->anonymous) {
		m->flags |= CPM_MSG_F_ANONYMOUS;
	}
	if(in->large) {
		m->flags |= CPM_MSG_F_LARGE;
	}
	m->originator = in->originator;
	m->inner_type = cpim.content_type.n <= CPM_MSG_INNER_TYPE_MAX
							? cpim.content_type
							: CPM_PL_NULL;
	m->dispo = cpim.dispo;
	id_set(out, in, cpim.message_id);
	return expiry_set(conf, in, now_ms, m);
}

/* One Call-ID for every delivery of this message and of no other: a client
 * may tell messages apart by it. */
static void call_id_set(const struct cpm_accept_conf *conf, struct cpm_msg *m,
		char *buf, size_t cap)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, cap);
	cpm_wr_hex64(&w, cpm_hash64(cpm_hash64(CPM_HASH_INIT, m->aor), m->id));
	cpm_wr_chr(&w, '-');
	cpm_wr_hex64(&w, m->received_ms);
	cpm_wr_chr(&w, '@');
	cpm_wr_pl_put(&w, conf->call_id_host);
	m->call_id = cpm_wr_pl(&w);
}

size_t cpm_accept_scratch(const struct cpm_accept_in *in)
{
	/* more than the sum of what is stored: the listed headers twice, the
	 * fields' heads, our id, address and Call-ID */
	return in->headers.n + in->body.n + in->from.n + in->to.n + in->subject.n
		   + in->content_type.n + in->conversation_id.n + in->contribution_id.n
		   + in->originator.n + CPM_MSG_INNER_TYPE_MAX + 2048;
}

static int put_try(const struct cpm_accept_ports *ports,
		const struct cpm_accept_conf *conf, bool deferred, struct cpm_msg *m,
		char *scratch, size_t scratch_cap, struct cpm_put_result *res,
		const struct answer **bad_r)
{
	struct cpm_put put;
	struct cpm_wr w;
	char call_id[320];
	int rc;

	call_id_set(conf, m, call_id, sizeof(call_id));
	cpm_wr_init(&w, scratch, scratch_cap);
	rc = cpm_msg_encode(m, &w, NULL);
	if(rc != CPM_OK) {
		*bad_r = rc == CPM_ENOMEM ? &ans_memory : &ans_headers;
		return rc;
	}
	memset(&put, 0, sizeof(put));
	put.aor = m->aor;
	put.id = m->id;
	put.blob = cpm_wr_pl(&w);
	put.expires_ms = m->expires_ms;
	put.max_messages = conf->queue_max_messages;
	put.max_bytes = conf->queue_max_bytes;
	put.check_in_ms = conf->check_in_ms;
	put.deferred = deferred;
	rc = ports->queue_put(ports->ctx, &put, res);
	if(rc != CPM_OK) {
		*bad_r = rc == CPM_EDOWN	 ? &ans_down
				 : rc == CPM_EUNSURE ? &ans_unsure
									 : &ans_error;
	}
	return rc;
}

int cpm_flow_accept(const struct cpm_accept_ports *ports,
		const struct cpm_accept_conf *conf, const struct cpm_accept_in *in,
		uint64_t now_ms, char *scratch, size_t scratch_cap,
		struct cpm_outcome *out)
{
	struct cpm_put_result res;
	struct cpm_msg m;
	const struct answer *bad;

	memset(out, 0, sizeof(*out));
	memset(&m, 0, sizeof(m));
	bad = message_check(conf, in, now_ms, out, &m);
	if(bad != NULL) {
		return outcome(out, bad);
	}
	m.aor = cpm_pl(out->aor, out->aor_len);
	m.id = cpm_pl(out->id, out->id_len);
	m.from = in->from;
	m.to = in->to;
	m.subject = in->subject;
	m.content_type = in->content_type;
	m.conversation_id = in->conversation_id;
	m.contribution_id = in->contribution_id;
	m.headers = in->headers;
	m.body = in->body;
	m.body_len = in->body.n;
	m.received_ms = now_ms;
	m.fingerprint = cpm_msg_fingerprint(&m);

	if(put_try(ports, conf, in->deferred, &m, scratch, scratch_cap, &res, &bad)
			!= CPM_OK) {
		return outcome(out, bad);
	}
	if(res.status == CPM_PUT_CONFLICT) {
		id_distinguish(out, m.fingerprint);
		m.id = cpm_pl(out->id, out->id_len);
		if(put_try(ports, conf, in->deferred, &m, scratch, scratch_cap, &res,
				   &bad)
				!= CPM_OK) {
			return outcome(out, bad);
		}
	}
	out->messages = res.messages;
	out->bytes = res.bytes;
	outcome(out, &ans_put[res.status]);
	if(out->code == 0) {
		out->code = conf->queued_code;
		if(out->code == 200) {
			out->reason = "OK";
		}
	}
	return out->rc;
}

/* --------------------------------------------------------- deliver */

#define STORE_RETRY_MS 500
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

/* The three that every step of a delivery needs. */
struct env
{
	const struct cpm_deliver_ports *ports;
	const struct cpm_deliver_conf *conf;
	uint64_t now_ms;
};

static struct cpm_pl d_aor(const struct cpm_deliver *d)
{
	return cpm_pl(d->aor, d->aor_len);
}

static struct cpm_pl d_token(const struct cpm_deliver *d)
{
	return cpm_pl(d->token, d->token_len);
}

static struct cpm_pl d_id(const struct cpm_deliver *d)
{
	return cpm_pl(d->id, d->id_len);
}

static void tell(const struct cpm_deliver *d, const struct env *e,
		enum cpm_deliver_event event, const char *why)
{
	struct cpm_deliver_info info;

	memset(&info, 0, sizeof(info));
	info.event = event;
	info.aor = d_aor(d);
	info.id = d_id(d);
	info.attempt = d->attempt;
	info.code = d->fail_code;
	info.why = why;
	info.received_ms = d->received_ms;
	e->ports->event(e->ports->ctx, &info);
}

/* What a step did: go on, or wait for the world. */
enum next
{
	NEXT_LEASE, /* look for a message */
	NEXT_SEND,	/* the leased message is at hand: try a client */
	NEXT_FAILED,
	NEXT_SETTLE,
	NEXT_WAIT,
};

static enum next wait_until(
		struct cpm_deliver *d, enum cpm_deliver_state state, uint64_t at_ms)
{
	d->state = state;
	d->at_ms = at_ms;
	return NEXT_WAIT;
}

/* A look that something asked for is one of its own: it has not passed over
 * any message yet. */
static void token_renew(struct cpm_deliver *d)
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
static enum next finish_unsent(struct cpm_deliver *d, const struct env *e,
		struct cpm_pl unsent_id, uint64_t wake_in_ms)
{
	(void)e->ports->queue_release(e->ports->ctx, d_aor(d),
			d->locked ? d_token(d) : CPM_PL_NULL, unsent_id, wake_in_ms);
	d->locked = false;
	if(d->again) {
		d->again = false;
		d->force = d->again_force;
		d->since_ms = d->again_since_ms;
		token_renew(d);
		return NEXT_LEASE;
	}
	return wait_until(d, CPM_DELIVER_FINISHED, 0);
}

static enum next finish(
		struct cpm_deliver *d, const struct env *e, uint64_t wake_in_ms)
{
	return finish_unsent(d, e, CPM_PL_NULL, wake_in_ms);
}

/* The store refuses, or answers what nobody understands. It will do so again:
 * this is no reason to ask twice a second for ever. What it may have leased
 * returns when the lease ends. */
static enum next finish_refused(struct cpm_deliver *d, const struct env *e)
{
	d->locked = true;
	return finish(d, e, e->conf->lease_ms);
}

static void remember(struct cpm_deliver *d, const struct cpm_lease *lease)
{
	memcpy(d->id, lease->msg.id.p, lease->msg.id.n);
	d->id_len = lease->msg.id.n;
	d->attempt = lease->attempt;
	d->received_ms = lease->msg.received_ms;
}

static enum next step_lease(
		struct cpm_deliver *d, const struct env *e, struct cpm_lease *lease)
{
	struct cpm_contact contacts[CPM_CONTACTS_MAX];
	size_t count = 0;
	size_t i;
	bool somebody = false;
	int rc;

	/* memory first: most who register have no queue, and most who have a
	 * queue are not registered */
	rc = e->ports->reach_get(e->ports->ctx, d_aor(d), contacts, &count);
	for(i = 0; rc == CPM_OK && i < count; i++) {
		somebody = somebody || contacts[i].takes_message;
	}
	if(!somebody) {
		return finish(d, e, e->conf->check_max_ms);
	}
	rc = e->ports->queue_lease(e->ports->ctx, d_aor(d), d_token(d),
			e->conf->lease_ms, d->force,
			e->now_ms > d->since_ms ? e->now_ms - d->since_ms : 0, lease);
	if(rc == CPM_EPROTO) {
		return finish_refused(d, e);
	}
	if(rc != CPM_OK) {
		d->locked = d->locked || rc == CPM_EUNSURE;
		return wait_until(d, CPM_DELIVER_LEASING, e->now_ms + STORE_RETRY_MS);
	}
	switch(lease->status) {
		case CPM_LEASE_OK:
			d->locked = true;
			remember(d, lease);
			d->tried_count = 0;
			d->fail_class = 0;
			d->fail_code = 0;
			d->unsure = false;
			return NEXT_SEND;
		case CPM_LEASE_WAIT:
			return finish(d, e,
					lease->wait_ms < e->conf->check_max_ms
							? lease->wait_ms
							: e->conf->check_max_ms);
		case CPM_LEASE_NONE:
			return finish(d, e, e->conf->check_max_ms);
		case CPM_LEASE_EMPTY:
		case CPM_LEASE_BUSY:
			break;
	}
	if(d->locked || d->again) {
		return finish(d, e, e->conf->check_max_ms);
	}
	/* nothing there, or somebody else is at it: no second round trip */
	return wait_until(d, CPM_DELIVER_FINISHED, 0);
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
static void failed(struct cpm_deliver *d, unsigned code)
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

static enum next step_send(struct cpm_deliver *d, const struct env *e,
		const struct cpm_lease *lease)
{
	struct cpm_contact contacts[CPM_CONTACTS_MAX];
	size_t count = 0;
	size_t i;
	uint64_t hash;
	bool unfit = false;
	int takes = 1;

	if(e->ports->reach_get(e->ports->ctx, d_aor(d), contacts, &count)
			!= CPM_OK) {
		count = 0;
	}
	cpm_contacts_order(contacts, count);
	for(i = 0; i < count && contacts[i].takes_message; i++) {
		hash = cpm_hash64(CPM_HASH_INIT, contacts[i].uri);
		if(was_tried(d, hash) || d->tried_count == CPM_CONTACTS_MAX) {
			continue;
		}
		if(e->ports->client_takes != NULL) {
			takes = e->ports->client_takes(
					e->ports->ctx, d_aor(d), &contacts[i], &lease->msg);
		}
		if(takes < 0 && d->tried_count == 0) {
			/* cannot be judged now, and nobody was sent anything */
			return finish_unsent(d, e, d_id(d), UNSEND_RETRY_MS);
		}
		if(takes < 0) {
			break; /* what was sent was an attempt: it counts, or it has no end */
		}
		if(takes == 0) {
			unfit = true;
			continue;
		}
		d->tried[d->tried_count++] = hash;
		if(e->ports->send_message(
				   e->ports->ctx, &contacts[i], &lease->msg, lease->attempt)
				== CPM_OK) {
			tell(d, e, CPM_DELIVER_SENT, "sent");
			/* an answer may never come: then the lease's end is the answer */
			return wait_until(
					d, CPM_DELIVER_WAITING, e->now_ms + e->conf->lease_ms);
		}
		failed(d, 0);
	}
	if(unfit && d->tried_count == 0) {
		/* every client is one that its user keeps this message from, for now:
		 * that is no failure */
		d->fail_class = CPM_FAIL_DEFERRED;
		d->how = CPM_SETTLE_DEFER;
		return NEXT_SETTLE;
	}
	return NEXT_FAILED;
}

/* Attempts that refreshes of a registration brought on before their time do
 * not wear a message out: a client that registers every minute and answers
 * nothing would end it in minutes instead of hours. */
static bool is_worn_out(const struct cpm_deliver *d, const struct env *e)
{
	return d->attempt >= e->conf->max_attempts
		   && d->force != CPM_LEASE_UNREACHABLE;
}

static enum next step_failed(struct cpm_deliver *d, const struct env *e)
{
	if(d->fail_class == 0) {
		/* the client went away before anything was sent: no attempt was made */
		return finish_unsent(d, e, d_id(d), e->conf->check_max_ms);
	}
	d->how = is_worn_out(d, e) ? CPM_SETTLE_DEAD : CPM_SETTLE_RETRY;
	return NEXT_SETTLE;
}

static uint64_t retry_ms(const struct cpm_deliver *d, const struct env *e)
{
	size_t i = d->attempt > 0 ? d->attempt - 1 : 0;

	if(i >= e->conf->retry_count) {
		i = e->conf->retry_count - 1;
	}
	return e->conf->retry_ms[i];
}

static int settle(struct cpm_deliver *d, const struct env *e)
{
	struct cpm_settle s;
	struct cpm_wr w;
	char error[16];

	memset(&s, 0, sizeof(s));
	s.aor = d_aor(d);
	s.id = d_id(d);
	s.token = d_token(d);
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
		s.retry_in_ms = retry_ms(d, e);
	}
	return e->ports->queue_settle(e->ports->ctx, &s);
}

static enum next step_settle(struct cpm_deliver *d, const struct env *e)
{
	int rc = settle(d, e);

	if(rc != CPM_OK && rc != CPM_ENOENT) {
		/* whatever the store has: to look for the next message now would be
		 * to send this one again */
		d->unsure = d->unsure || rc == CPM_EUNSURE;
		return wait_until(d, CPM_DELIVER_SETTLING,
				e->now_ms
						+ (rc == CPM_EPROTO ? e->conf->lease_ms
											: STORE_RETRY_MS));
	}
	if(rc == CPM_ENOENT && !d->unsure) {
		/* the next one, but not at once: where every lease is lost, that would
		 * have no end */
		tell(d, e, CPM_DELIVER_LOST, "lease-lost");
		return wait_until(d, CPM_DELIVER_LEASING, e->now_ms + STORE_RETRY_MS);
	}
	if(d->how == CPM_SETTLE_DELIVERED) {
		tell(d, e, CPM_DELIVER_DELIVERED, "delivered");
		return NEXT_LEASE;
	}
	if(d->how == CPM_SETTLE_DEFER) {
		tell(d, e, CPM_DELIVER_DEFERRED, "clients-defer");
		return NEXT_LEASE;
	}
	if(d->how == CPM_SETTLE_DEAD) {
		tell(d, e, CPM_DELIVER_DEAD, "attempts-used-up");
	} else {
		tell(d, e, CPM_DELIVER_RETRY, "not-taken");
	}
	if(d->fail_class == CPM_FAIL_MESSAGE) {
		return NEXT_LEASE; /* this delivery passes over it from now on */
	}
	return finish(d, e, retry_ms(d, e));
}

static void drive(struct cpm_deliver *d, const struct env *e, enum next next,
		struct cpm_lease *lease)
{
	unsigned leases = 0;

	while(next != NEXT_WAIT) {
		switch(next) {
			case NEXT_LEASE:
				next = leases++ < LEASES_MAX
							   ? step_lease(d, e, lease)
							   : wait_until(
									   d, CPM_DELIVER_LEASING, e->now_ms + 1);
				break;
			case NEXT_SEND:
				next = step_send(d, e, lease);
				break;
			case NEXT_FAILED:
				next = step_failed(d, e);
				break;
			case NEXT_SETTLE:
				next = step_settle(d, e);
				break;
			case NEXT_WAIT:
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
	struct env e = {ports, conf, now_ms};
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
	drive(d, &e, NEXT_LEASE, &lease);
}

void cpm_deliver_again(
		struct cpm_deliver *d, enum cpm_lease_force force, uint64_t since_ms)
{
	if(!d->again || force >= d->again_force) {
		d->again_force = force;
		d->again_since_ms = since_ms;
	}
	d->again = true;
}

/* The message is read again before it goes to the next client: between two
 * answers the store's memory of it is gone, and the lease must be ours. */
static enum next next_client(
		struct cpm_deliver *d, const struct env *e, struct cpm_lease *lease)
{
	int rc = e->ports->queue_renew(e->ports->ctx, d_aor(d), d_token(d), d_id(d),
			e->conf->lease_ms, lease);

	if(rc == CPM_OK) {
		return NEXT_SEND;
	}
	if(rc == CPM_ENOENT) {
		tell(d, e, CPM_DELIVER_LOST, "lease-lost");
		return NEXT_LEASE;
	}
	if(rc == CPM_EPROTO) {
		return finish_refused(d, e);
	}
	return wait_until(d, CPM_DELIVER_RENEWING, e->now_ms + STORE_RETRY_MS);
}

void cpm_deliver_answer(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, unsigned code, uint64_t now_ms)
{
	struct env e = {ports, conf, now_ms};
	struct cpm_lease lease;

	if(d->state != CPM_DELIVER_WAITING) {
		return;
	}
	if(code >= 200 && code < 300) {
		d->how = CPM_SETTLE_DELIVERED;
		d->fail_code = code;
		drive(d, &e, NEXT_SETTLE, &lease);
		return;
	}
	failed(d, code);
	drive(d, &e, next_client(d, &e, &lease), &lease);
}

void cpm_deliver_tick(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, uint64_t now_ms)
{
	struct env e = {ports, conf, now_ms};
	struct cpm_lease lease;

	if(d->at_ms == 0 || now_ms < d->at_ms) {
		return;
	}
	d->at_ms = 0;
	switch(d->state) {
		case CPM_DELIVER_LEASING:
			drive(d, &e, NEXT_LEASE, &lease);
			break;
		case CPM_DELIVER_RENEWING:
			drive(d, &e, next_client(d, &e, &lease), &lease);
			break;
		case CPM_DELIVER_SETTLING:
			drive(d, &e, NEXT_SETTLE, &lease);
			break;
		case CPM_DELIVER_WAITING:
			cpm_deliver_answer(d, ports, conf, 408, now_ms);
			break;
		case CPM_DELIVER_IDLE:
		case CPM_DELIVER_FINISHED:
			break;
	}
}
