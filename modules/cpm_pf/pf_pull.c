/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_pull.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/cpm_sdp.h"
#include "core/cpm_wr.h"
#include "io/io_actions.h"
#include "pf_conf.h"
#include "pf_facts.h"
#include "pf_hint.h"
#include "pf_media.h"
#include "pf_owner.h"
#include "pf_stats.h"
#include "pf_str.h"
#include "pf_tm.h"

#include "../../core/data_lump_rpl.h"
#include "../../core/dprint.h"
#include "../../core/ip_addr.h"
#include "../../core/mem/mem.h"
#include "../../core/mem/shm_mem.h"
#include "../../core/parser/contact/parse_contact.h"
#include "../../core/parser/parse_from.h"
#include "../../core/parser/parse_rr.h"
#include "../../core/parser/parse_to.h"
#include "../../core/socket_info.h"
#include "../tm/tm_load.h"

#define CALLS_MAX 64   /* of one delivery worker, that were not fetched yet */
#define TEXT_MAX 65000 /* bytes of one text of a call */
/* what a delivery worker has for its answer, before tm gives one */
#define ANSWER_MS (PF_PULL_WAIT_MS + 3000)
#define RECEIVED_MAX 96 /* of a SIP URI of an address */

/* The texts of a call, in this order. */
enum text
{
	TEXT_AOR,
	TEXT_CALL_ID,
	TEXT_LOCAL,
	TEXT_REMOTE,
	TEXT_REMOTE_TAG,
	TEXT_CONTACT,
	TEXT_ROUTES,
	TEXT_RECEIVED,
	TEXT_SOCKET,
	TEXT_SDP,
	TEXT_COUNT_
};

/* A call on its way: the texts, then of each item its action and its id with
 * the length before it, a byte each. */
struct parcel
{
	size_t bytes;
	unsigned hash_index, label;
	bool listed, has_default;
	enum cpm_action_kind dflt;
	size_t items;
	uint16_t len[TEXT_COUNT_];
	unsigned char data[];
};

static _Atomic(struct parcel *) *places; /* [worker][CALLS_MAX] */
static struct tm_binds tmb;
static char pull_buf[CPM_AOR_MAX];
static struct cpm_pl pull_aor; /* empty: there is no pulling */

int pf_pull_init(void)
{
	struct cpm_pl uri = cpm_pl_str(pf_params.pull_uri);
	size_t bytes = sizeof(*places) * pf_conf.delivery_workers * CALLS_MAX;

	if(uri.n == 0 || !pf_media_is_on()) {
		return 0; /* what is fetched is fetched by MSRP */
	}
	if(cpm_aor_canon(uri, pull_buf, sizeof(pull_buf), &pull_aor, NULL)
			!= CPM_OK) {
		LM_ERR("parameter pull_uri: \"%.*s\"; it takes a SIP URI\n", (int)uri.n,
				uri.p);
		return -1;
	}
	if(load_tm_api(&tmb) < 0) {
		LM_ERR("pull: tm is not loaded\n");
		return -1;
	}
	places = shm_malloc(bytes);
	if(places == NULL) {
		SHM_MEM_ERROR;
		return -1;
	}
	memset((void *)places, 0, bytes);
	return 0;
}

/* ------------------------------------------------------------ SIP worker */

static void header_reply(struct sip_msg *msg, const char *line, int n)
{
	if(n > 0 && add_lump_rpl(msg, (char *)line, n, LUMP_RPL_HDR) == NULL) {
		LM_ERR("pull: no memory for a header\n");
	}
}

/* why: a stable word, or NULL. */
static int warning_put(char *line, size_t cap, const char *why)
{
	int n = why == NULL ? 0
						: snprintf(line, cap, "Warning: 399 %.*s \"%s\"\r\n",
								(int)pf_conf.accept.call_id_host.n,
								pf_conf.accept.call_id_host.p, why);

	return n > 0 && (size_t)n < cap ? n : 0;
}

static int refuse(
		struct sip_msg *msg, unsigned code, const char *reason, const char *why)
{
	char line[256];

	header_reply(msg, line, warning_put(line, sizeof(line), why));
	if(code == 415) {
		header_reply(msg,
				"Accept: application/sdp, multipart/mixed, " CPM_ACTIONS_TYPE
				"\r\n",
				(int)sizeof("Accept: application/sdp, multipart/"
							"mixed, " CPM_ACTIONS_TYPE "\r\n")
						- 1);
	}
	if(code == 503 || code == 486) {
		header_reply(msg, "Retry-After: 5\r\n", 16);
	}
	LM_INFO("pull: refused code=%u why=%s\n", code, why != NULL ? why : "-");
	pf_stat(CPM_STAT_pulls_refused);
	if(tmb.t_reply(msg, code, (char *)reason) < 0) {
		LM_NOTICE("pull: no reply could be sent, or it was cancelled\n");
	}
	return 1;
}

/* An extension that the client cannot do without: we know none (RFC 3261,
 * 8.2.2.3). */
static bool has_require(struct sip_msg *msg, char *line, size_t cap)
{
	struct hdr_field *h;
	int n;

	for(h = msg->headers; h != NULL; h = h->next) {
		if(pf_is_named(h, "Require") && h->body.len > 0) {
			n = snprintf(
					line, cap, "Unsupported: %.*s\r\n", h->body.len, h->body.s);
			line[n > 0 && (size_t)n < cap ? n : 0] = '\0';
			return true;
		}
	}
	return false;
}

static struct cpm_pl contact_of(struct sip_msg *msg)
{
	contact_body_t *c;

	if(msg->contact == NULL || parse_contact(msg->contact) < 0) {
		return CPM_PL_NULL;
	}
	c = msg->contact->parsed;
	return c->star || c->contacts == NULL ? CPM_PL_NULL
										  : pf_pl(c->contacts->uri);
}

/* Whether an offer is one of a session in which we can send. 0, or 488. */
static unsigned offer_check(
		struct cpm_pl text, const char **why_r, struct cpm_diag *diag)
{
	struct cpm_sdp sdp;
	int rc = cpm_sdp_parse(text, &sdp, diag);

	*why_r = diag->why;
	if(rc != CPM_OK) {
		return 488;
	}
	*why_r = sdp.refused;
	if(sdp.refused != NULL) {
		return 488;
	}
	*why_r = "direction";
	return (sdp.msrp.dir & CPM_SDP_RECVONLY) != 0 ? 0 : 488;
}

struct reading
{
	struct cpm_pl text[TEXT_COUNT_];
	struct io_actions *actions;
	char received[RECEIVED_MAX];
	char local[CPM_AOR_MAX + 512];
	char remote[CPM_AOR_MAX + 512];
	char aor[CPM_AOR_MAX];
	str routes; /* pkg memory */
};

static struct cpm_pl bracketed(struct cpm_pl uri, char *buf, size_t cap)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, cap);
	cpm_wr_chr(&w, '<');
	cpm_wr_pl_put(&w, uri);
	cpm_wr_chr(&w, '>');
	return cpm_wr_ok(&w) ? cpm_wr_pl(&w) : CPM_PL_NULL;
}

static struct cpm_pl received_of(struct sip_msg *msg, char *buf, size_t cap)
{
	char *ip = ip_addr2strz(&msg->rcv.src_ip);
	bool six = msg->rcv.src_ip.af == AF_INET6;
	int n = snprintf(buf, cap, "sip:%s%s%s:%u%s", six ? "[" : "", ip,
			six ? "]" : "", msg->rcv.src_port,
			msg->rcv.proto == PROTO_TCP	  ? ";transport=tcp"
			: msg->rcv.proto == PROTO_TLS ? ";transport=tls"
										  : "");

	return n > 0 && (size_t)n < cap ? cpm_pl(buf, (size_t)n) : CPM_PL_NULL;
}

/* Who asks, and about whose queue. 0, or the code of a refusal. */
static unsigned owner_check(
		struct sip_msg *msg, struct reading *r, const char **why_r)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl to;
	int rc = pf_owner(msg, r->aor, &r->text[TEXT_AOR], why_r);

	if(rc == CPM_EPROTO) {
		return 400;
	}
	*why_r = "not-the-owner";
	if(rc != CPM_OK) {
		return 403;
	}
	/* whoever it is addressed to: the function itself, or the own queue */
	if(pf_facts_aor(pf_pl(get_to(msg)->uri), buf, &to) != CPM_OK
			|| (!cpm_pl_eq(to, pull_aor)
					&& !cpm_pl_eq(to, r->text[TEXT_AOR]))) {
		return 403;
	}
	return 0;
}

/* All of the request that counts. 0, or the code of a refusal and why. */
static unsigned request_read(struct sip_msg *msg, struct reading *r,
		const char **why_r, struct cpm_diag *diag)
{
	struct cpm_pl body = CPM_PL_NULL;
	unsigned code;
	int rc;

	code = owner_check(msg, r, why_r);
	if(code != 0) {
		return code;
	}
	r->text[TEXT_CONTACT] = contact_of(msg);
	*why_r = "no-contact";
	if(r->text[TEXT_CONTACT].n == 0) {
		return 400;
	}
	*why_r = "bad-content-length";
	if(pf_facts_body(msg, &body) != CPM_OK) {
		return 400;
	}
	/* an offer in the 2xx would be ours to make: no client asks for that */
	*why_r = "no-offer";
	if(body.n == 0) {
		return 488;
	}
	rc = io_actions_of_body(msg->content_type != NULL
									? pf_pl(msg->content_type->body)
									: CPM_PL_NULL,
			body, &r->text[TEXT_SDP], &r->actions, diag);
	*why_r = diag->why;
	if(rc != CPM_OK) {
		return cpm_actions_status(rc, diag->why);
	}
	code = offer_check(r->text[TEXT_SDP], why_r, diag);
	if(code != 0) {
		return code;
	}
	*why_r = "bad-route";
	if(msg->record_route != NULL
			&& print_rr_body(msg->record_route, &r->routes, 0, NULL) < 0) {
		r->routes.s = NULL;
		return 400;
	}
	r->text[TEXT_ROUTES] = pf_pl(r->routes);
	r->text[TEXT_CALL_ID] = pf_pl(msg->callid->body);
	r->text[TEXT_LOCAL] =
			bracketed(pf_pl(get_to(msg)->uri), r->local, sizeof(r->local));
	r->text[TEXT_REMOTE] =
			bracketed(pf_pl(get_from(msg)->uri), r->remote, sizeof(r->remote));
	r->text[TEXT_REMOTE_TAG] = pf_pl(get_from(msg)->tag_value);
	r->text[TEXT_RECEIVED] = received_of(msg, r->received, sizeof(r->received));
	r->text[TEXT_SOCKET] = pf_pl(msg->rcv.bind_address->sock_str);
	*why_r = "bad-headers";
	return r->text[TEXT_LOCAL].n == 0 || r->text[TEXT_REMOTE].n == 0
						   || r->text[TEXT_REMOTE_TAG].n == 0
						   || r->text[TEXT_RECEIVED].n == 0
				   ? 400
				   : 0;
}

static struct parcel *parcel_make(const struct reading *r)
{
	const struct cpm_actions *a = io_actions_get(r->actions);
	struct parcel *p;
	size_t bytes = sizeof(*p);
	unsigned char *at;
	size_t i;

	for(i = 0; i < TEXT_COUNT_; i++) {
		if(r->text[i].n > TEXT_MAX) {
			return NULL;
		}
		bytes += r->text[i].n;
	}
	for(i = 0; i < a->count; i++) {
		bytes += 2 + a->items[i].id.n;
	}
	p = shm_malloc(bytes);
	if(p == NULL) {
		SHM_MEM_ERROR;
		return NULL;
	}
	memset(p, 0, sizeof(*p));
	p->bytes = bytes;
	p->listed = a->listed;
	p->has_default = a->has_default;
	p->dflt = a->dflt;
	p->items = a->count;
	at = p->data;
	for(i = 0; i < TEXT_COUNT_; i++) {
		p->len[i] = (uint16_t)r->text[i].n;
		if(r->text[i].n > 0) {
			memcpy(at, r->text[i].p, r->text[i].n);
		}
		at += r->text[i].n;
	}
	for(i = 0; i < a->count; i++) {
		*at++ = (unsigned char)a->items[i].action;
		*at++ = (unsigned char)a->items[i].id.n;
		memcpy(at, a->items[i].id.p, a->items[i].id.n);
		at += a->items[i].id.n;
	}
	return p;
}

/* Into a free place, for the delivery worker. Once it is there the parcel is
 * somebody else's. */
static bool parcel_post(unsigned worker, struct parcel *p)
{
	struct parcel *none;
	size_t i;

	for(i = 0; i < CALLS_MAX; i++) {
		none = NULL;
		if(atomic_compare_exchange_strong(
				   &places[worker * CALLS_MAX + i], &none, p)) {
			pf_hint_dialog(worker, PF_HINT_CALL, 0);
			return true;
		}
	}
	return false;
}

static const char *phrase_of(unsigned code)
{
	switch(code) {
		case 400:
			return "Bad Request";
		case 403:
			return "Forbidden";
		case 413:
			return "Request Entity Too Large";
		case 415:
			return "Unsupported Media Type";
		case 488:
			return "Not Acceptable Here";
		default:
			return "Server Internal Error";
	}
}

/* As tm's LOCK_REPLIES, which it takes again in this process: nobody else
 * answers meanwhile. */
static void replies_lock(struct cell *t)
{
	lock(&t->reply_mutex);
	atomic_set(&t->reply_locker_pid, my_pid());
}

static void replies_unlock(struct cell *t)
{
	atomic_set(&t->reply_locker_pid, 0);
	unlock(&t->reply_mutex);
}

/* t_suspend looks whether there is a final answer, and then starts the timer of
 * a branch. A CANCEL in another process, between the two, ends the transaction:
 * the timer would go on, of what is freed. CPM_OK; CPM_ENOENT: it has been
 * cancelled; CPM_ENOMEM. */
static int suspend(struct sip_msg *msg, struct parcel *p)
{
	struct cell *t = tmb.t_gett();
	int rc = CPM_ENOENT;

	replies_lock(t);
	if(t->uas.status < 200 && (t->flags & T_CANCELED) == 0) {
		rc = tmb.set_fr(msg, ANSWER_MS, ANSWER_MS) < 0
							 || tmb.t_suspend(msg, &p->hash_index, &p->label)
										!= 0
					 ? CPM_ENOMEM
					 : CPM_OK;
	}
	replies_unlock(t);
	return rc;
}

static int call_take(struct sip_msg *msg)
{
	struct cpm_diag diag = {"", 0};
	const char *why = "";
	struct reading r;
	struct parcel *p = NULL;
	unsigned code;
	int rc;

	memset(&r, 0, sizeof(r));
	code = request_read(msg, &r, &why, &diag);
	if(code == 0) {
		p = parcel_make(&r);
	}
	if(code != 0) {
		refuse(msg, code, phrase_of(code), why);
	} else {
		rc = p == NULL ? CPM_ENOMEM : suspend(msg, p);
		if(rc == CPM_OK) {
			unsigned hash_index = p->hash_index, label = p->label;

			if(parcel_post(pf_hint_worker_of(r.text[TEXT_AOR]), p)) {
				p = NULL; /* it is somebody else's now */
			} else {
				(void)tmb.t_cancel_suspend(hash_index, label);
				refuse(msg, 503, "Service Unavailable", "too-many-calls");
			}
		} else if(rc == CPM_ENOMEM) {
			refuse(msg, 503, "Service Unavailable", "no-memory");
		} else {
			(void)tmb.t_release(msg); /* it was cancelled, and has its 487 */
		}
		if(p != NULL) {
			shm_free(p);
		}
	}
	if(r.routes.s != NULL) {
		pkg_free(r.routes.s);
	}
	io_actions_free(&r.actions);
	return 1;
}

/* What the function can do, for OPTIONS (RFC 3261, 11.2). */
static int options_reply(struct sip_msg *msg)
{
	static const char lines[] =
			"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE\r\n"
			"Accept: application/sdp, multipart/mixed, " CPM_ACTIONS_TYPE
			"\r\n";

	header_reply(msg, lines, (int)sizeof(lines) - 1);
	if(tmb.t_reply(msg, 200, "OK") < 0) {
		LM_NOTICE("pull: no reply could be sent, or it was cancelled\n");
	}
	return 1;
}

static bool is_for_us(struct sip_msg *msg)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor;

	return pull_aor.n > 0
		   && (msg->first_line.u.request.method_value
					  & (METHOD_INVITE | METHOD_OPTIONS))
					  != 0
		   && cpm_aor_canon(pf_pl(*GET_RURI(msg)), buf, sizeof(buf), &aor, NULL)
					  == CPM_OK
		   && cpm_pl_eq(aor, pull_aor);
}

int pf_pull_request(struct sip_msg *msg)
{
	char line[256];
	int rc;

	if(!is_for_us(msg)) {
		return -1;
	}
	if(parse_headers(msg, HDR_EOH_F, 0) < 0 || msg->to == NULL
			|| parse_to_header(msg) < 0 || parse_from_header(msg) < 0
			|| msg->callid == NULL) {
		LM_NOTICE("pull: a request that cannot be read\n");
		return -1;
	}
	if(get_to(msg)->tag_value.len > 0) {
		return -1; /* in a dialog that is none of ours */
	}
	rc = tmb.t_newtran(msg);
	if(rc == 0) {
		return 1; /* a retransmission: tm has answered as before, or will */
	}
	if(rc < 0) {
		LM_ERR("pull: no transaction\n");
		return 1;
	}
	if(msg->first_line.u.request.method_value == METHOD_OPTIONS) {
		return options_reply(msg);
	}
	if(has_require(msg, line, sizeof(line))) {
		header_reply(msg, line, (int)strlen(line));
		return refuse(msg, 420, "Bad Extension", NULL);
	}
	return call_take(msg);
}

/* ------------------------------------------------------- delivery worker */

static struct pf_call *call_of(const struct parcel *p)
{
	size_t list = p->items * sizeof(struct cpm_action_item);
	size_t bytes = p->bytes - sizeof(*p);
	struct pf_call *c = malloc(sizeof(*c) + list + bytes);
	struct cpm_action_item *items;
	struct cpm_pl text[TEXT_COUNT_];
	const char *at;
	size_t i;

	if(c == NULL) {
		LM_ERR("pull: no memory\n");
		return NULL;
	}
	memset(c, 0, sizeof(*c));
	items = (struct cpm_action_item *)(void *)(c + 1);
	at = memcpy((char *)items + list, p->data, bytes);
	for(i = 0; i < TEXT_COUNT_; i++) {
		text[i] = cpm_pl(at, p->len[i]);
		at += p->len[i];
	}
	for(i = 0; i < p->items; i++) {
		items[i].action = (enum cpm_action_kind)(unsigned char)*at++;
		items[i].id.n = (unsigned char)*at++;
		items[i].id.p = at;
		at += items[i].id.n;
	}
	c->hash_index = p->hash_index;
	c->label = p->label;
	c->aor = text[TEXT_AOR];
	c->call_id = text[TEXT_CALL_ID];
	c->local = text[TEXT_LOCAL];
	c->remote = text[TEXT_REMOTE];
	c->remote_tag = text[TEXT_REMOTE_TAG];
	c->contact = text[TEXT_CONTACT];
	c->routes = text[TEXT_ROUTES];
	c->received = text[TEXT_RECEIVED];
	c->socket = text[TEXT_SOCKET];
	c->sdp = text[TEXT_SDP];
	c->actions.listed = p->listed;
	c->actions.has_default = p->has_default;
	c->actions.dflt = p->dflt;
	c->actions.items = items;
	c->actions.count = p->items;
	return c;
}

struct pf_call *pf_pull_next(unsigned worker)
{
	struct parcel *p;
	static size_t turn;
	struct pf_call *c;
	size_t i;

	/* each place has its turn, however many come */
	for(i = 0; places != NULL && i < CALLS_MAX; i++) {
		turn = (turn + 1) % CALLS_MAX;
		p = atomic_exchange(&places[worker * CALLS_MAX + turn], NULL);
		if(p != NULL) {
			c = call_of(p);
			shm_free(p); /* without memory its transaction ends by timer */
			if(c != NULL) {
				return c;
			}
		}
	}
	return NULL;
}

int pf_pull_reply(const struct pf_call *call, unsigned code, const char *reason,
		const char *why, struct cpm_pl headers, struct cpm_pl body,
		struct cpm_pl tag)
{
	struct cell *t = NULL;
	struct cpm_wr w;
	char buf[2048], line[256];
	int rc;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_pl_put(&w, headers);
	cpm_wr_pl_put(
			&w, cpm_pl(line, (size_t)warning_put(line, sizeof(line), why)));
	if(code == 486 || code == 503) {
		cpm_wr_str(&w, "Retry-After: 5\r\n");
	}
	if(!cpm_wr_ok(&w)) {
		return CPM_ENOMEM;
	}
	if(tmb.t_lookup_ident(&t, call->hash_index, call->label) < 0) {
		return CPM_ENOENT;
	}
	rc = pf_tm_reply(t, code, reason, cpm_wr_pl(&w), body, tag);
	tmb.unref_cell(t);
	(void)tmb.t_sett(NULL, T_BR_UNDEFINED);
	if(rc == CPM_OK && code >= 300) {
		LM_INFO("pull: refused aor=%.*s code=%u why=%s\n", (int)call->aor.n,
				call->aor.p, code, why != NULL ? why : "-");
		pf_stat(CPM_STAT_pulls_refused);
	}
	return rc;
}
