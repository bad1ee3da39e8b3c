/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_subscribe.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/cpm_wr.h"
#include "io/io_clock.h"
#include "io/io_subs.h"
#include "pf_conf.h"
#include "pf_facts.h"
#include "pf_hint.h"
#include "pf_notify.h"
#include "pf_owner.h"
#include "pf_prefs.h"
#include "pf_presence.h"
#include "pf_stats.h"
#include "pf_store.h"
#include "pf_str.h"
#include "pf_tm.h"
#include "pf_uac.h"

#include "../../core/data_lump_rpl.h"
#include "../../core/dprint.h"
#include "../../core/ip_addr.h"
#include "../../core/mem/mem.h"
#include "../../core/parser/contact/parse_contact.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/parser/parse_cseq.h"
#include "../../core/parser/parse_from.h"
#include "../../core/parser/parse_rr.h"
#include "../../core/parser/parse_to.h"
#include "../../core/parser/parse_uri.h"
#include "../../core/parser/parse_via.h"
#include "../../core/socket_info.h"
#include "../tm/tm_load.h"

#define RETRY_AFTER_S 5
#define BODY_MAX 65536
/* What a NOTIFY has beside its body, with addresses of a usual length. */
#define REQUEST_REST 600

static struct tm_binds tmb;

int pf_subscribe_init(void)
{
	if(load_tm_api(&tmb) < 0) {
		LM_ERR("subscribe: tm is not loaded\n");
		return -1;
	}
	return 0;
}

/* ================================================== SUBSCRIBE, SIP worker */

/* What a request is answered with. */
struct answer
{
	unsigned code;
	const char *reason;
	const char *why; /* for the log */
	char headers[512];
	struct cpm_wr w;
	struct cpm_pl tag; /* of the dialog that a 200 makes; else empty */
};

static int refuse(
		struct answer *a, unsigned code, const char *reason, const char *why)
{
	a->code = code;
	a->reason = reason;
	a->why = why;
	return -1;
}

/* The transaction, made by the script or now. 1; 0: a retransmission, which tm
 * has answered as before; -1 logged. */
static int transaction(struct sip_msg *msg)
{
	struct cell *t = tmb.t_gett();
	int rc;

	if(t != NULL && t != T_UNDEFINED) {
		return 1;
	}
	rc = tmb.t_newtran(msg);
	if(rc < 0) {
		LM_ERR("subscribe: no transaction\n");
	}
	return rc > 0 ? 1 : rc;
}

static void answer_send(struct sip_msg *msg, struct answer *a)
{
	struct cpm_pl headers = cpm_wr_pl(&a->w);
	struct cell *t = tmb.t_gett();
	int rc;

	if(!cpm_wr_ok(&a->w)) {
		headers.n = 0;
	}
	if(a->tag.n > 0 && t != NULL && t != T_UNDEFINED) {
		rc = pf_tm_reply(t, a->code, a->reason, headers, CPM_PL_NULL, a->tag);
		if(rc != CPM_OK) {
			(void)tmb.t_release(msg);
			rc = -1;
		}
	} else {
		if(headers.n > 0
				&& add_lump_rpl(
						   msg, (char *)headers.p, (int)headers.n, LUMP_RPL_HDR)
						   == NULL) {
			LM_ERR("subscribe: headers could not be added\n");
		}
		rc = tmb.t_reply(msg, a->code, (char *)a->reason);
	}
	if(rc < 0) {
		LM_NOTICE("subscribe: no reply could be sent, or it was cancelled\n");
	}
}

/* ------------------------------------------------------------- what it is */

/* Parameters may differ: the canonical forms decide. */
static bool is_uri_of_ours(struct cpm_pl uri, const char *ours)
{
	char a_buf[CPM_AOR_MAX], b_buf[CPM_AOR_MAX];
	struct cpm_pl a, b;

	return ours[0] != '\0'
		   && cpm_aor_canon(uri, a_buf, sizeof(a_buf), &a, NULL) == CPM_OK
		   && cpm_aor_canon(cpm_pl_str(ours), b_buf, sizeof(b_buf), &b, NULL)
					  == CPM_OK
		   && cpm_pl_ieq(a, b);
}

/* The one header of this type; false: there are several. */
static bool only(const struct sip_msg *msg, const struct hdr_field *first)
{
	const struct hdr_field *h;

	for(h = msg->headers; h != NULL; h = h->next) {
		if(h != first && h->type == first->type) {
			return false;
		}
	}
	return true;
}

static struct cpm_pl value_of(const struct hdr_field *h)
{
	return h != NULL ? cpm_pl_trim(pf_pl(h->body)) : CPM_PL_NULL;
}

/* ------------------------------------------------------------ what it says */

struct subscribe
{
	char aor_buf[CPM_AOR_MAX];
	struct cpm_pl aor;
	struct cpm_subs_event event;
	struct cpm_pl event_value;
	uint32_t expires_s;
	uint32_t cseq;
	struct cpm_pl call_id, remote_tag;
	struct cpm_pl contact;
	struct cpm_pl socket;
	char received_buf[96];
	struct cpm_pl received;
	bool by_address; /* all that says whose it is (pf_owner_how) */
	char tag_buf[CPM_SUBS_TAG_MAX];
};

/* RFC 6665, 7.2.1: which are there */
static void allow_events_put(struct answer *a)
{
	cpm_wr_str(&a->w, "Allow-Events: ");
	cpm_wr_str(&a->w, cpm_notify_event(pf_conf.notify_type));
	cpm_wr_str(&a->w, "\r\n");
}

static int event_read(
		struct subscribe *s, const struct sip_msg *msg, struct answer *a)
{
	if(msg->event != NULL && !only(msg, msg->event)) {
		return refuse(a, 400, "Bad Request", "two-events");
	}
	s->event_value = value_of(msg->event);
	if(cpm_subs_event_parse(s->event_value, &s->event) != CPM_OK
			|| !cpm_pl_ieq(s->event.package,
					cpm_pl_str(cpm_notify_event(pf_conf.notify_type)))) {
		allow_events_put(a);
		return refuse(a, 489, "Bad Event", "bad-event");
	}
	return 0;
}

/* RFC 6665, 4.2.1.1 and 4.2.1.2; RFC 3261, 8.2.2.3 */
static int terms_read(
		struct subscribe *s, const struct sip_msg *msg, struct answer *a)
{
	struct cpm_pl type =
			cpm_pl_str(cpm_notify_content_type(pf_conf.notify_type));
	const struct hdr_field *h;
	bool any = false, accepts = false;
	int rc;

	for(h = msg->headers; h != NULL; h = h->next) {
		if(h->type == HDR_ACCEPT_T) {
			any = true;
			accepts = accepts || cpm_subs_accepts(value_of(h), type);
		} else if(h->type == HDR_REQUIRE_T && value_of(h).n > 0) {
			if(value_of(h).n < 200
					&& cpm_pl_ctl(value_of(h)) == value_of(h).n) {
				cpm_wr_str(&a->w, "Unsupported: ");
				cpm_wr_pl_put(&a->w, value_of(h));
				cpm_wr_str(&a->w, "\r\n");
			}
			return refuse(a, 420, "Bad Extension", "extension-required");
		}
	}
	if(any && !accepts) {
		cpm_wr_str(&a->w, "Accept: ");
		cpm_wr_pl_put(&a->w, type);
		cpm_wr_str(&a->w, "\r\n");
		return refuse(a, 406, "Not Acceptable", "not-accepted");
	}
	if(msg->expires != NULL && !only(msg, msg->expires)) {
		return refuse(a, 400, "Bad Request", "two-expires");
	}
	rc = cpm_subs_expires(value_of(msg->expires),
			(uint32_t)pf_params.subscribe_max_expires, &s->expires_s);
	if(rc == CPM_ELIMIT) {
		cpm_wr_str(&a->w, "Min-Expires: ");
		cpm_wr_u64(&a->w, CPM_SUBS_MIN_S);
		cpm_wr_str(&a->w, "\r\n");
		return refuse(a, 423, "Interval Too Brief", "interval-too-brief");
	}
	return rc == CPM_OK ? 0 : refuse(a, 400, "Bad Expires", "bad-expires");
}

/* Whether what is sent to this URI goes to the host that the request has come
 * from. */
static bool is_source(struct sip_msg *msg, struct cpm_pl uri)
{
	struct sip_uri u;
	struct ip_addr *ip;
	str host;

	if(uri.n == 0 || parse_uri((char *)uri.p, (int)uri.n, &u) < 0
			|| u.maddr_val.len > 0) {
		return false;
	}
	host = u.host;
	ip = str2ip(&host);
	if(ip == NULL) {
		ip = str2ip6(&host);
	}
	return ip != NULL && ip_addr_cmp(ip, &msg->rcv.src_ip);
}

/* Where its requests go if no proxy has written itself into the route: to the
 * Contact, but where that is another host than the request has come from, there
 * is a NAT, or a name that need not be asked for. */
static void received_of(struct subscribe *s, struct sip_msg *msg)
{
	struct receive_info *rcv = &msg->rcv;
	struct cpm_wr w;

	s->received = CPM_PL_NULL;
	if(msg->record_route != NULL
			|| (!s->by_address
					&& ((msg->via1 != NULL && msg->via1->next != NULL)
							|| msg->h_via2 != NULL))
			|| is_source(msg, s->contact)) {
		return;
	}
	cpm_wr_init(&w, s->received_buf, sizeof(s->received_buf));
	cpm_wr_str(&w, rcv->src_ip.af == AF_INET6 ? "sip:[" : "sip:");
	cpm_wr_str(&w, ip_addr2a(&rcv->src_ip));
	cpm_wr_str(&w, rcv->src_ip.af == AF_INET6 ? "]:" : ":");
	cpm_wr_u64(&w, rcv->src_port);
	cpm_wr_str(&w, rcv->proto == PROTO_TCP	 ? ";transport=tcp"
				   : rcv->proto == PROTO_TLS ? ";transport=tls"
											 : "");
	if(cpm_wr_ok(&w)) {
		s->received = cpm_wr_pl(&w);
	}
}

/* What a dialog is made of (RFC 3261, 12.1.1). */
static int dialog_read(
		struct subscribe *s, struct sip_msg *msg, struct answer *a)
{
	contact_t *c;
	uint64_t n;

	if(msg->callid == NULL || msg->cseq == NULL || get_cseq(msg) == NULL
			|| cpm_pl_u64(pf_pl(get_cseq(msg)->number), INT32_MAX, &n)
					   != CPM_OK) {
		return refuse(a, 400, "Bad Request", "bad-headers");
	}
	s->cseq = (uint32_t)n;
	s->call_id = value_of(msg->callid);
	s->remote_tag = pf_pl(get_from(msg)->tag_value);
	if(s->call_id.n == 0 || s->remote_tag.n == 0) {
		return refuse(a, 400, "Bad Request", "no-tag");
	}
	if(msg->contact == NULL || !only(msg, msg->contact)
			|| parse_contact(msg->contact) < 0 || msg->contact->parsed == NULL
			|| (c = ((contact_body_t *)msg->contact->parsed)->contacts) == NULL
			|| c->next != NULL) {
		return refuse(a, 400, "Bad Request", "bad-contact");
	}
	s->contact = pf_pl(c->uri);
	if(!cpm_pl_istarts(s->contact, CPM_PL_LIT("sip:"))
			&& !cpm_pl_istarts(s->contact, CPM_PL_LIT("sips:"))) {
		return refuse(a, 400, "Bad Request", "bad-contact");
	}
	/* its client registered without a proxy, and so it asks */
	if(s->by_address && msg->record_route != NULL
			&& (parse_rr(msg->record_route) < 0
					|| !is_source(msg, pf_pl(((rr_t *)msg->record_route->parsed)
													   ->nameaddr.uri)))) {
		return refuse(a, 403, "Forbidden", "route-elsewhere");
	}
	if(msg->rcv.bind_address != NULL) {
		s->socket = pf_pl(msg->rcv.bind_address->sock_str);
	}
	received_of(s, msg);
	return 0;
}

/* --------------------------------------------------------- what is written */

static int texts_put(const struct subscribe *s, struct sip_msg *msg,
		bool initial, struct cpm_wr *dialog, struct cpm_wr *way,
		struct cpm_wr *record)
{
	struct cpm_subs_record r;
	str routes = STR_NULL;
	int rc = cpm_subs_fields_put(s->call_id, s->remote_tag, s->event.id,
			CPM_SUBS_CALLID_MAX, dialog);

	if(rc == CPM_OK) {
		rc = cpm_subs_fields_put(
				s->contact, s->received, s->socket, CPM_SUBS_URI_MAX, way);
	}
	if(rc != CPM_OK || !initial) {
		return rc;
	}
	r.event = s->event_value;
	r.local = pf_pl(get_to(msg)->uri);
	r.remote = pf_pl(get_from(msg)->uri);
	r.routes = CPM_PL_NULL;
	if(msg->record_route != NULL) {
		/* in its order: we are the one who was asked (RFC 3261, 12.1.1) */
		if(print_rr_body(msg->record_route, &routes, 0, NULL) < 0) {
			return CPM_EPROTO;
		}
		r.routes = pf_pl(routes);
	}
	rc = cpm_subs_record_put(&r, record);
	if(routes.s != NULL) {
		pkg_free(routes.s);
	}
	return rc;
}

static int down(struct answer *a)
{
	cpm_wr_str(&a->w, "Retry-After: ");
	cpm_wr_u64(&a->w, RETRY_AFTER_S);
	cpm_wr_str(&a->w, "\r\n");
	return refuse(a, 503, "Service Unavailable", "store-down");
}

static int subscription_write(struct subscribe *s, struct sip_msg *msg,
		bool initial, struct answer *a)
{
	static char dialog_buf[2 * CPM_SUBS_CALLID_MAX + CPM_SUBS_ID_MAX + 8];
	static char way_buf[3 * CPM_SUBS_URI_MAX + 8];
	static char record_buf[CPM_SUBS_RECORD_MAX];
	struct cpm_wr dialog, way, record;
	struct io_subs_put put;
	uint64_t left_ms;
	int rc;

	cpm_wr_init(&dialog, dialog_buf, sizeof(dialog_buf));
	cpm_wr_init(&way, way_buf, sizeof(way_buf));
	cpm_wr_init(&record, record_buf, sizeof(record_buf));
	rc = texts_put(s, msg, initial, &dialog, &way, &record);
	if(rc != CPM_OK) {
		return refuse(a, 400, "Bad Request",
				rc == CPM_EPROTO ? "bad-headers" : "too-long");
	}
	memset(&put, 0, sizeof(put));
	put.aor = s->aor;
	put.initial = initial;
	put.tag = initial ? cpm_subs_tag(s->aor, s->call_id, s->remote_tag,
					  pf_pl(get_cseq(msg)->number), s->tag_buf)
					  : pf_pl(get_to(msg)->tag_value);
	put.cseq = s->cseq;
	put.expires_ms = (uint64_t)s->expires_s * 1000;
	put.dialog = cpm_wr_pl(&dialog);
	put.way = cpm_wr_pl(&way);
	put.record = cpm_wr_pl(&record);
	rc = pf_store() == NULL ? CPM_EDOWN
							: pf_store_note("subscribe",
									io_subs_put(pf_store(), &put, &left_ms));
	if(rc == CPM_ENOENT) {
		return refuse(a, 481, "Subscription Does Not Exist", "no-subscription");
	}
	if(rc == CPM_EEXIST) {
		/* RFC 3261, 12.2.2 */
		return refuse(a, 500, "Out Of Order", "out-of-order");
	}
	if(rc != CPM_OK) {
		return down(a);
	}
	a->tag = initial ? put.tag : CPM_PL_NULL;
	cpm_wr_str(&a->w, "Expires: ");
	cpm_wr_u64(&a->w, (left_ms + 999) / 1000);
	cpm_wr_str(&a->w, "\r\nContact: ");
	pf_uac_contact_put(&a->w, s->socket);
	cpm_wr_str(&a->w, "\r\n");
	return refuse(a, 200, "OK", initial ? "subscribed" : "refreshed");
}

/* ------------------------------------------------------------------- all */

/* Somebody of ours, and which one. What is refused says nothing of a queue. */
static int owner_read(
		struct subscribe *s, struct sip_msg *msg, struct answer *a)
{
	static struct pf_prefs_buf buf;
	struct cpm_prefs prefs;
	const char *why = "";
	int rc = pf_owner_how(msg, s->aor_buf, &s->aor, &why, &s->by_address);

	if(rc == CPM_EPROTO) {
		return refuse(a, 400, "Bad Request", why);
	}
	if(rc != CPM_OK) {
		return refuse(a, 403, "Forbidden", "not-the-owner");
	}
	if(pf_prefs_get(s->aor, &buf, &prefs, NULL, NULL) != CPM_OK) {
		return down(a);
	}
	return prefs.known && prefs.enabled
				   ? 0
				   : refuse(a, 403, "Forbidden", "unknown-user");
}

static void handle(
		struct sip_msg *msg, bool initial, struct cpm_pl of, struct answer *a)
{
	struct subscribe s;
	char of_buf[CPM_AOR_MAX];
	struct cpm_pl of_aor;

	memset(&s, 0, sizeof(s));
	if(owner_read(&s, msg, a) < 0) {
		return;
	}
	if(of.n > 0
			&& (pf_facts_aor(of, of_buf, &of_aor) != CPM_OK
					|| !cpm_pl_eq(of_aor, s.aor))) {
		refuse(a, 403, "Forbidden", "not-the-owner");
		return;
	}
	if(event_read(&s, msg, a) < 0 || terms_read(&s, msg, a) < 0
			|| dialog_read(&s, msg, a) < 0) {
		return;
	}
	subscription_write(&s, msg, initial, a);
	if(a->code == 200) {
		pf_stat(CPM_STAT_subscribed);
		LM_INFO("subscribe: %s aor=%.*s expires=%u\n", a->why, (int)s.aor.n,
				s.aor.p, s.expires_s);
	}
	/* after its answer, in which the tag is that NOTIFY needs; a->tag points
	 * into s */
	answer_send(msg, a);
	if(a->code == 200) {
		pf_hint_user(PF_HINT_SUBSCRIBED, s.aor, CPM_LEASE_WHEN_DUE);
	}
	a->code = 0;
}

static int answered(struct sip_msg *msg, bool initial, struct cpm_pl of)
{
	struct answer a;

	if(transaction(msg) != 1) {
		return 1;
	}
	memset(&a, 0, sizeof(a));
	cpm_wr_init(&a.w, a.headers, sizeof(a.headers));
	handle(msg, initial, of, &a);
	if(a.code != 0) {
		LM_INFO("subscribe: refused code=%u why=%s\n", a.code, a.why);
		answer_send(msg, &a);
	}
	return 1;
}

static bool is_owner(struct sip_msg *msg, struct cpm_pl of)
{
	char buf[CPM_AOR_MAX], of_buf[CPM_AOR_MAX];
	struct cpm_pl aor, of_aor;
	const char *why = "";

	return pf_owner(msg, buf, &aor, &why) == CPM_OK
		   && pf_facts_aor(of, of_buf, &of_aor) == CPM_OK
		   && cpm_pl_eq(aor, of_aor);
}

static int in_dialog(struct sip_msg *msg)
{
	switch(msg->first_line.u.request.method_value) {
		case METHOD_SUBSCRIBE:
			return answered(msg, false, CPM_PL_NULL);
		case METHOD_ACK:
			/* of a 481: tm ends its retransmissions */
			(void)tmb.t_newtran(msg);
			return 1;
		default:
			if(transaction(msg) == 1
					&& tmb.t_reply(msg, 481, "Call/Transaction Does Not Exist")
							   < 0) {
				LM_NOTICE("subscribe: no reply could be sent, or it was "
						  "cancelled\n");
			}
			return 1;
	}
}

int pf_subscribe_request(struct sip_msg *msg)
{
	char of_buf[CPM_AOR_MAX];
	struct cpm_subs_event event;
	struct cpm_pl tag, target, of;

	if(msg->first_line.type != SIP_REQUEST
			|| parse_headers(msg, HDR_EOH_F, 0) < 0 || msg->to == NULL
			|| parse_to_header(msg) < 0) {
		return -1;
	}
	tag = pf_pl(get_to(msg)->tag_value);
	if(tag.n > 0) {
		return cpm_subs_tag_is(tag) ? in_dialog(msg) : -1;
	}
	if(msg->first_line.u.request.method_value != METHOD_SUBSCRIBE) {
		return -1;
	}
	target = pf_facts_target(msg);
	if(is_uri_of_ours(target, pf_params.pull_uri)
			|| is_uri_of_ours(target, pf_params.pf_uri)) {
		return answered(msg, true, CPM_PL_NULL);
	}
	/* to a user: other packages are others' to answer for, and other users are
	 * not ours */
	if(pf_facts_aor(target, of_buf, &of) != CPM_OK || !pf_facts_is_home(of)
			|| cpm_subs_event_parse(value_of(msg->event), &event) != CPM_OK
			|| !cpm_pl_ieq(event.package,
					cpm_pl_str(cpm_notify_event(pf_conf.notify_type)))) {
		return -1;
	}
	if(pf_presence_serves() && is_owner(msg, target)) {
		return -1;
	}
	return answered(msg, true, target);
}

/* =================================================== NOTIFY, delivery worker */

#define USERS_MAX 8192 /* beyond it they are found in the index */
#define USERS_TICK 64  /* in one round of the loop */
#define AGAIN_MS 1000  /* after the store did not answer */
#define SOON_MS 1000
/* NOTIFYs to one user that wait for their answers: one who subscribes without
 * end and answers nothing must not have all that the worker has. */
#define OUT_MAX (2 * CPM_SUBS_TAKE_MAX)
#define WARN_MS 10000

#define BUCKETS 4096

/* A user who is to be looked at. */
struct user
{
	struct user *next;	/* in the list */
	struct user *other; /* in its bucket */
	bool known;			/* has subscriptions; else that is to be asked first */
	bool changed; /* its queue has: presence's watchers are told as well */
	uint64_t at_ms;
	size_t aor_len;
	char aor[];
};

/* A NOTIFY that has no answer yet. */
struct told
{
	uint32_t cseq;
	bool over; /* whatever the answer is */
	size_t tag_len, aor_len;
	char tag[CPM_SUBS_TAG_MAX];
	char aor[];
};

static unsigned self;
static struct user *users_first, **users_end = &users_first;
static struct user *buckets[BUCKETS];
static unsigned out[BUCKETS]; /* NOTIFYs without answer, of its users */
static size_t user_count;
static uint64_t soonest_ms = UINT64_MAX; /* of the users, or earlier */
static uint64_t look_at_ms;

static size_t bucket_number(struct cpm_pl aor)
{
	return (cpm_hash64(CPM_HASH_INIT, aor) >> 16) % BUCKETS;
}

static struct user **bucket_of(struct cpm_pl aor)
{
	return &buckets[bucket_number(aor)];
}

static struct cpm_pl user_aor(const struct user *u)
{
	return cpm_pl(u->aor, u->aor_len);
}

static struct user *user_add(struct cpm_pl aor, uint64_t at_ms)
{
	struct user **bucket = bucket_of(aor);
	struct user *u = *bucket;

	if(at_ms < soonest_ms) {
		soonest_ms = at_ms;
	}
	while(u != NULL && !cpm_pl_eq(user_aor(u), aor)) {
		u = u->other;
	}
	if(u != NULL) {
		u->at_ms = at_ms < u->at_ms ? at_ms : u->at_ms;
		return u;
	}
	if(user_count >= USERS_MAX || aor.n == 0 || aor.n > CPM_AOR_MAX) {
		pf_stat(CPM_STAT_hints_lost);
		return NULL;
	}
	u = calloc(1, sizeof(*u) + aor.n);
	if(u == NULL) {
		return NULL;
	}
	u->at_ms = at_ms;
	u->aor_len = aor.n;
	memcpy(u->aor, aor.p, aor.n);
	u->other = *bucket;
	*bucket = u;
	*users_end = u;
	users_end = &u->next;
	user_count++;
	return u;
}

static void due_at(struct cpm_pl aor, uint64_t at_ms)
{
	struct user *u = user_add(aor, at_ms);

	if(u != NULL) {
		u->known = true;
	}
}

void pf_subscribe_due(struct cpm_pl aor)
{
	due_at(aor, 0);
}

static void changed_at(struct cpm_pl aor, uint64_t at_ms)
{
	struct user *u = user_add(aor, at_ms);

	if(u != NULL) {
		u->changed = true;
	}
}

void pf_subscribe_changed(struct cpm_pl aor)
{
	changed_at(aor, io_clock_mono_ms() + (uint64_t)pf_params.notify_delay_ms);
}

/* The same, by pf_notify, which has waited already. */
static void on_change(struct cpm_pl aor, unsigned whys)
{
	if((whys & ~(unsigned)(PF_NOTIFY_LOOK | PF_NOTIFY_REGISTERED)) != 0) {
		changed_at(aor, 0);
	}
}

/* The users of a round, taken out of the list. */
static size_t users_take(struct user **taken, size_t max, uint64_t now_ms)
{
	struct user **at = &users_first;
	struct user **bucket;
	struct user *u;
	size_t n = 0;

	soonest_ms = UINT64_MAX;
	while((u = *at) != NULL) {
		if(u->at_ms > now_ms || n == max) {
			soonest_ms = u->at_ms < soonest_ms ? u->at_ms : soonest_ms;
			at = &u->next;
			continue;
		}
		*at = u->next;
		if(users_end == &u->next) {
			users_end = at;
		}
		bucket = bucket_of(user_aor(u));
		while(*bucket != u) {
			bucket = &(*bucket)->other;
		}
		*bucket = u->other;
		taken[n++] = u;
		user_count--;
	}
	return n;
}

/* ---------------------------------------------------------------- answers */

static void on_answer(void *owner, unsigned code)
{
	struct told *t = owner;
	struct cpm_pl aor = cpm_pl(t->aor, t->aor_len);
	enum cpm_subs_answer answer =
			t->over ? CPM_SUBS_GONE : cpm_subs_answer_of(code);
	int rc = pf_store_note(
			"subscriber", io_subs_settle(pf_store(), aor,
								  cpm_pl(t->tag, t->tag_len), t->cseq, answer));

	out[bucket_number(aor)]--;
	pf_stat(code < 300 ? CPM_STAT_notified : CPM_STAT_notify_failed);
	if(code >= 300) {
		LM_INFO("subscribe: NOTIFY refused aor=%.*s code=%u subscription=%s\n",
				(int)aor.n, aor.p, code,
				answer == CPM_SUBS_GONE ? "removed" : "kept");
	}
	if(rc == CPM_EAGAIN) {
		due_at(aor, 0);
	}
	free(t);
}

/* ------------------------------------------------------------------- send */

struct state
{
	struct cpm_pl body;
	bool nobody; /* there is no such user any more */
};

static void headers_put(struct cpm_wr *w, const struct cpm_subs_due *d,
		const struct state *state, bool over)
{
	cpm_wr_str(w, "Contact: ");
	pf_uac_contact_put(w, d->socket);
	cpm_wr_str(w, "\r\nEvent: ");
	cpm_wr_pl_put(w, d->record.event);
	cpm_wr_str(w, "\r\nSubscription-State: ");
	if(over) {
		cpm_wr_str(w, state->nobody ? "terminated;reason=noresource"
									: "terminated;reason=deactivated");
	} else {
		cpm_subs_state_put(d, w);
	}
	cpm_wr_str(w, "\r\n");
	if(state->body.n > 0) {
		cpm_wr_str(w, "Content-Type: ");
		cpm_wr_str(w, cpm_notify_content_type(pf_conf.notify_type));
		cpm_wr_str(w, "\r\n");
	}
}

static struct cpm_pl name_addr(struct cpm_pl uri, char *buf, size_t cap)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, cap);
	cpm_wr_chr(&w, '<');
	cpm_wr_pl_put(&w, uri);
	cpm_wr_chr(&w, '>');
	return cpm_wr_pl(&w);
}

/* CPM_OK: on_answer will be called. */
static int tell(struct cpm_pl aor, const struct cpm_subs_due *d,
		const struct state *state)
{
	char from[CPM_SUBS_URI_MAX + 2], to[CPM_SUBS_URI_MAX + 2];
	char headers[CPM_SUBS_EVENT_MAX + 1024];
	struct pf_uac_request r;
	struct cpm_subs_event event;
	struct cpm_wr w;
	struct told *t;
	bool over;
	int rc;

	/* after a start with another package: its client is to subscribe anew */
	over = state->nobody
		   || cpm_subs_event_parse(d->record.event, &event) != CPM_OK
		   || !cpm_pl_ieq(event.package,
				   cpm_pl_str(cpm_notify_event(pf_conf.notify_type)));
	if(d->tag.n > CPM_SUBS_TAG_MAX) {
		return CPM_EPROTO;
	}
	t = calloc(1, sizeof(*t) + aor.n);
	if(t == NULL) {
		return CPM_ENOMEM;
	}
	t->cseq = d->cseq;
	t->over = over;
	t->tag_len = d->tag.n;
	memcpy(t->tag, d->tag.p, d->tag.n);
	t->aor_len = aor.n;
	memcpy(t->aor, aor.p, aor.n);
	cpm_wr_init(&w, headers, sizeof(headers));
	headers_put(&w, d, state, over);
	memset(&r, 0, sizeof(r));
	r.method = "NOTIFY";
	r.ruri = d->target;
	r.from = name_addr(d->record.local, from, sizeof(from));
	r.from_tag = d->tag;
	r.to = name_addr(d->record.remote, to, sizeof(to));
	r.to_tag = d->remote_tag;
	r.call_id = d->call_id;
	r.cseq = d->cseq;
	r.headers = cpm_wr_pl(&w);
	r.body = over ? CPM_PL_NULL : state->body;
	r.socket = d->socket;
	r.routes = d->record.routes;
	r.received = d->received;
	rc = cpm_wr_ok(&w) ? pf_uac_send(&r, on_answer, t, NULL) : CPM_EPROTO;
	if(rc != CPM_OK) {
		free(t);
	} else {
		out[bucket_number(aor)]++;
	}
	return rc;
}

/* Dialogs that can never be told anything: what is stored of them is bad. */
struct bad
{
	uint32_t cseq;
	size_t tag_len;
	char tag[CPM_SUBS_TAG_MAX];
};

/* It stays owed, and its claim runs out. Peers can bring that about: the log
 * has it once in a while. */
static void unsent(struct cpm_pl aor, int rc)
{
	static uint64_t warned_at_ms;
	uint64_t now_ms = io_clock_mono_ms();

	pf_stat(CPM_STAT_notify_failed);
	if(warned_at_ms == 0 || now_ms > warned_at_ms + WARN_MS) {
		warned_at_ms = now_ms;
		LM_WARN("subscribe: NOTIFY not sent result=%s aor=%.*s\n",
				cpm_rc_name(rc), (int)aor.n, aor.p);
	}
}

/* Who does not know the state of now is told it. CPM_OK, or what the store
 * said. */
static int serve(struct cpm_pl aor)
{
	static char buf[BODY_MAX];
	static struct cpm_subs_due due[CPM_SUBS_TAKE_MAX];
	struct bad bad[CPM_SUBS_TAKE_MAX];
	struct state state = {CPM_PL_NULL, false};
	struct cpm_wr w;
	size_t max = (size_t)pf_params.notify_max_bytes;
	size_t count = 0, bad_count = 0;
	size_t i;
	int rc;

	/* what is taken and cannot be sent would be claimed for nothing */
	if(!pf_uac_notifies(CPM_SUBS_TAKE_MAX)) {
		return CPM_ELIMIT;
	}
	cpm_wr_init(&w, buf, sizeof(buf));
	rc = pf_notify_body(aor, pf_conf.notify_type,
			max > REQUEST_REST ? max - REQUEST_REST : 0, &w, NULL);
	if(rc == CPM_OK) {
		state.body = cpm_wr_pl(&w);
	} else if(rc == CPM_ENOENT) {
		state.nobody = true;
	} else {
		return rc;
	}
	rc = pf_store_note("subscribers",
			io_subs_take(pf_store(), aor, cpm_hash64(CPM_HASH_INIT, state.body),
					pf_conf.deliver.lease_ms + 5000, cpm_pl_str(pf_conf.node),
					due, &count));
	for(i = 0; rc == CPM_OK && i < count; i++) {
		int sent = tell(aor, &due[i], &state);

		if(sent == CPM_EPROTO && due[i].tag.n <= CPM_SUBS_TAG_MAX) {
			memcpy(bad[bad_count].tag, due[i].tag.p, due[i].tag.n);
			bad[bad_count].tag_len = due[i].tag.n;
			bad[bad_count++].cseq = due[i].cseq;
		}
		if(sent != CPM_OK) {
			unsent(aor, sent);
		}
	}
	/* only now: what is taken is lent until the next call */
	for(i = 0; i < bad_count; i++) {
		(void)pf_store_note(
				"subscriber", io_subs_settle(pf_store(), aor,
									  cpm_pl(bad[i].tag, bad[i].tag_len),
									  bad[i].cseq, CPM_SUBS_GONE));
	}
	return rc;
}

/* Most users have no subscription: that is asked for all of a round at once. */
static void ask(struct user **round, size_t n)
{
	struct cpm_pl aors[USERS_TICK];
	struct user *of[USERS_TICK];
	bool there[USERS_TICK];
	size_t count = 0;
	size_t i;

	for(i = 0; i < n; i++) {
		if(!round[i]->known) {
			of[count] = round[i];
			aors[count++] = user_aor(round[i]);
		}
	}
	if(count == 0) {
		return;
	}
	if(pf_store_note(
			   "subscribers", io_subs_exist(pf_store(), aors, count, there))
			!= CPM_OK) {
		/* on a Cluster one node that is down: each for itself, then */
		memset(there, 1, sizeof(there));
	}
	for(i = 0; i < count; i++) {
		of[i]->known = there[i];
	}
}

/* Users whose time has come, by Redis. */
static void look(uint64_t now_ms)
{
	static struct cpm_pl found[CPM_QUEUE_SHARDS * IO_SUBS_DUE_MAX];
	unsigned shards[CPM_QUEUE_SHARDS];
	uint64_t next_ms = UINT64_MAX;
	size_t shard_count = 0, count = 0;
	unsigned i;
	size_t n;

	for(i = 0; i < CPM_QUEUE_SHARDS; i++) {
		if(pf_hint_worker_of_shard(i) == self) {
			shards[shard_count++] = i;
		}
	}
	look_at_ms = now_ms + PF_SUBSCRIBE_LOOK_MS;
	if(shard_count == 0
			|| pf_store_note("subscriptions",
					   io_subs_due(pf_store(), shards, shard_count,
							   pf_conf.deliver.lease_ms, IO_SUBS_DUE_MAX, found,
							   &count, &next_ms))
					   != CPM_OK) {
		return;
	}
	for(n = 0; n < count; n++) {
		due_at(found[n], 0);
	}
	if(next_ms < PF_SUBSCRIBE_LOOK_MS) {
		look_at_ms = now_ms + (next_ms > 200 ? next_ms : 200);
	}
}

void pf_subscribe_tick(void)
{
	struct user *round[USERS_TICK];
	uint64_t now_ms = io_clock_mono_ms();
	size_t n, i;

	if(now_ms >= look_at_ms) {
		look(now_ms);
	}
	if(now_ms < soonest_ms) {
		return;
	}
	n = users_take(round, USERS_TICK, now_ms);
	ask(round, n);
	for(i = 0; i < n; i++) {
		struct cpm_pl aor = user_aor(round[i]);

		if(round[i]->changed) {
			pf_presence_changed(aor);
		}
		if(round[i]->known
				&& (out[bucket_number(aor)] >= OUT_MAX
						|| serve(aor) != CPM_OK)) {
			due_at(aor, now_ms + AGAIN_MS);
		}
		free(round[i]);
	}
}

bool pf_subscribe_is_pending(void)
{
	return soonest_ms <= io_clock_mono_ms() + SOON_MS;
}

/* Without the parameters, which a client need not write alike. */
static struct cpm_pl address_of(struct cpm_pl uri)
{
	return cpm_pl(uri.p, cpm_pl_chr(uri, ';'));
}

bool pf_subscribe_has(struct cpm_pl aor, struct cpm_pl contact)
{
	static char text[CPM_SUBS_TAKE_MAX][CPM_SUBS_URI_MAX];
	static struct cpm_pl targets[CPM_SUBS_TAKE_MAX];
	static size_t count;
	static char of[CPM_AOR_MAX];
	static size_t of_len;
	static uint64_t read_at_ms;
	uint64_t now_ms = io_clock_mono_ms();
	size_t i;

	if(aor.n > sizeof(of)) {
		return false;
	}
	/* for all clients of a user at once, who are asked for one by one */
	if(!cpm_pl_eq(cpm_pl(of, of_len), aor) || now_ms > read_at_ms + 20) {
		count = 0;
		memcpy(of, aor.p, aor.n);
		of_len = aor.n;
		read_at_ms = now_ms;
		if(pf_store_note("subscribers",
				   io_subs_targets(pf_store(), aor, targets, &count))
				!= CPM_OK) {
			count = 0;
		}
		for(i = 0; i < count; i++) {
			struct cpm_pl a = address_of(targets[i]);

			if(a.n > sizeof(text[0])) {
				a.n = 0;
			}
			targets[i] = cpm_pl(memcpy(text[i], a.p, a.n), a.n);
		}
	}
	for(i = 0; i < count; i++) {
		if(cpm_pl_eq(targets[i], address_of(contact))) {
			return true;
		}
	}
	return false;
}

void pf_subscribe_start(unsigned worker)
{
	self = worker;
	pf_notify_listen(on_change);
}
