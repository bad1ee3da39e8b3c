/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_flow.h"

#include "cpm_cpim.h"
#include "cpm_imdn.h"
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
		[CPM_PUT_FULL_SENDER] = {-1, 480, "Temporarily Unavailable",
				"quota-sender"},
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
	if(cpm_imdn_is_one(&cpim)
			|| cpm_ctype_is(in->content_type, "message/imdn+xml")) {
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
	if(in->trusted_peer && in->aside.n > 0) {
		m->flags |= CPM_MSG_F_REFERRED;
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
	return in->headers.n + in->aside.n + in->body.n + in->from.n + in->to.n
		   + in->subject.n + in->content_type.n + in->conversation_id.n
		   + in->contribution_id.n + in->originator.n + CPM_MSG_INNER_TYPE_MAX
		   + 2048;
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
	put.max_per_sender = conf->queue_max_per_sender;
	put.drop_oldest = conf->drop_oldest;
	/* noted only where it is asked for: it costs memory for each message */
	put.sender = conf->queue_max_per_sender > 0 ? m->originator : CPM_PL_NULL;
	put.check_in_ms = conf->check_in_ms;
	put.deferred = deferred;
	if(conf->imdn && cpm_imdn_due(m, CPM_IMDN_STORED)) {
		put.jobs |= CPM_JOB_STORED;
	}
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
	m.aside = in->aside;
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
	out->dropped = res.dropped;
	outcome(out, &ans_put[res.status]);
	if(out->code == 0) {
		out->code = conf->queued_code;
		if(out->code == 200) {
			out->reason = "OK";
		}
	}
	return out->rc;
}
