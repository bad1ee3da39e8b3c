/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_route.h"

#include "core/cpm_wr.h"
#include "pf_conf.h"
#include "pf_deposit.h"
#include "pf_facts.h"
#include "pf_outcome.h"
#include "pf_prefs.h"
#include "pf_sip.h"
#include "pf_stats.h"
#include "pf_str.h"
#include "pf_usrloc.h"

#include "../../core/data_lump.h"
#include "../../core/dprint.h"
#include "../../core/dset.h"
#include "../../core/mem/mem.h"
#include "../../core/mod_fix.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/parser/parse_rr.h"
#include "../../core/route.h"
#include "../tm/tm_load.h"

static struct tm_binds tmb;
static struct pf_prefs_buf prefs_buf;

int pf_route_init(void)
{
	if(load_tm_api(&tmb) < 0) {
		LM_ERR("tm: not loaded; loadmodule \"tm.so\" must come before "
			   "cpm_pf.so\n");
		return -1;
	}
	return 0;
}

static int set(struct sip_msg *msg, int rc, unsigned code, const char *reason,
		const char *why)
{
	return pf_outcome_set(pf_outcome_new(msg), rc, code, reason, why);
}

static int cannot_tell(struct sip_msg *msg, const char *why)
{
	pf_stat(CPM_STAT_undecided);
	return set(msg, -2, 503, "Service Unavailable", why);
}

static bool is_message(struct sip_msg *msg, const char *function)
{
	if(msg->first_line.type == SIP_REQUEST
			&& msg->first_line.u.request.method_value == METHOD_MESSAGE) {
		return true;
	}
	LM_ERR("route: %s() is for MESSAGE requests\n", function);
	set(msg, -1, 405, "Method Not Allowed", "not-a-message");
	return false;
}

/* What a decision refuses: the outcome for the sender. */
static int refuse(struct sip_msg *msg, int rc, const struct cpm_decision *d,
		const struct cpm_policy *policy)
{
	struct pf_outcome *out = pf_outcome_new(msg);

	out->verdict = d->verdict;
	out->warning = d->warning;
	out->warning_text = d->warning_text;
	if(d->wants_accept) {
		memcpy(out->accept, policy->accept_types, sizeof(out->accept));
	}
	/* who is discarded must not be told from who is queued */
	return pf_outcome_set(out, rc,
			d->verdict == CPM_VERDICT_DISCARD ? pf_conf.accept.queued_code
											  : d->code,
			d->reason, d->why);
}

/* ----------------------------------------------------- header manipulation */

/* What is to become of the request's headers are lumps in msg->add_rm; tm keeps
 * those of the request route with the transaction, and every failure route gets
 * a copy of them. So what was done for a client must be told from the rest, to
 * be taken back when the next that gets the request is the ISF. It has this
 * type, which is copied with the lump, and which no header has. */
#define TYPE_ANY HDR_OTHER_T
#define TYPE_CLIENT HDR_EOH_T

static int header_add(struct sip_msg *msg, const char *name,
		struct cpm_pl value, hdr_types_t type)
{
	size_t cap = strlen(name) + value.n + 4;
	char *line = pkg_malloc(cap);
	struct lump *anchor;
	struct cpm_wr w;

	anchor = anchor_lump(msg, (int)(msg->unparsed - msg->buf), 0, type);
	if(line == NULL || anchor == NULL) {
		if(line != NULL) {
			pkg_free(line);
		}
		PKG_MEM_ERROR;
		return -1;
	}
	cpm_wr_init(&w, line, cap);
	cpm_wr_str(&w, name);
	cpm_wr_str(&w, ": ");
	cpm_wr_pl_put(&w, value);
	cpm_wr_str(&w, "\r\n");
	if(insert_new_lump_before(anchor, line, (int)w.n, type) == NULL) {
		pkg_free(line);
		PKG_MEM_ERROR;
		return -1;
	}
	return 0;
}

/* Nothing is done to a header that is removed already, by whomever. */
static int header_remove(
		struct sip_msg *msg, const struct hdr_field *h, hdr_types_t type)
{
	int offset = (int)(h->name.s - msg->buf);
	const struct lump *l;

	for(l = msg->add_rm; l != NULL; l = l->next) {
		if(l->op == LUMP_DEL && l->u.offset == offset && l->len >= h->len) {
			return 0;
		}
	}
	return del_lump(msg, offset, h->len, type) != NULL ? 0 : -1;
}

/* Whether a header has been added for clients. */
static bool is_client_header(const struct lump *l)
{
	return l->op == LUMP_ADD && l->type == TYPE_CLIENT && l->len > 0;
}

static bool has_client_header(const struct sip_msg *msg)
{
	const struct lump *l, *r;

	for(l = msg->add_rm; l != NULL; l = l->next) {
		for(r = l->before; r != NULL; r = r->before) {
			if(is_client_header(r)) {
				return true;
			}
		}
	}
	return false;
}

/* Takes back what was done for clients, and nothing else.
 *
 * In a failure route the lumps lie in the one block of shared memory that is
 * tm's copy of the request for this run of the route (fake_req() in tm's
 * t_reply.c): nobody else sees them, the transaction's own are as they were,
 * and tm frees the block as a whole. In the request route they are pkg memory
 * of the request's. So as to hold for both, a lump only loses its effect where
 * it is; it stays in its list, and who frees it still does. */
static void client_headers_undo(struct sip_msg *msg)
{
	struct lump *l, *r;

	for(l = msg->add_rm; l != NULL; l = l->next) {
		if(l->op == LUMP_DEL && l->type == TYPE_CLIENT) {
			l->op = LUMP_NOP;
			l->len = 0;
		}
		for(r = l->before; r != NULL; r = r->before) {
			if(is_client_header(r)) {
				r->len = 0;
			}
		}
	}
}

/* ---------------------------------------------------------- cpm_authorize */

/* RFC 6050: what the client prefers and we asserted takes its place. */
static int service_assert(struct sip_msg *msg, const struct pf_facts *f)
{
	struct hdr_field *h;

	for(h = msg->headers; h != NULL; h = h->next) {
		if((pf_is_named(h, "P-Preferred-Service") || pf_facts_is_forged(f, h))
				&& header_remove(msg, h, TYPE_ANY) < 0) {
			return -1;
		}
	}
	if(f->preferred_service.n == 0
			|| (f->has_asserted_service && f->trusted_peer)) {
		return 0;
	}
	if(header_add(msg, "P-Asserted-Service", f->preferred_service, TYPE_ANY)
			< 0) {
		return -1;
	}
	return pf_note_set(PF_NOTE_SERVICE, f->preferred_service);
}

int pf_route_ki_authorize(struct sip_msg *msg)
{
	struct cpm_sender_facts s;
	struct cpm_decision d;
	struct cpm_policy policy = cpm_policy_default();
	struct cpm_prefs prefs;
	struct cpm_diag diag = {"database-down", 0};
	struct pf_facts f;
	const char *why = "bad-headers";

	if(!is_message(msg, "cpm_authorize")) {
		return -1;
	}
	if(pf_facts_read(&f, msg, &why) != CPM_OK) {
		return set(msg, -1, 400, "Bad Request", why);
	}
	pf_facts_sender(&f, msg);
	memset(&s, 0, sizeof(s));
	memset(&prefs, 0, sizeof(prefs));
	s.identified = f.m.originator.n > 0;
	s.home = s.identified && pf_facts_is_home(pf_facts_user(&f));
	s.feature_tag = f.services != 0;
	s.tag_required = pf_params.require_feature_tag != 0;
	s.has_conversation_id = f.has_conversation_id;
	s.has_contribution_id = f.has_contribution_id;
	if(s.home
			&& pf_prefs_get(
					   pf_facts_user(&f), &prefs_buf, &prefs, &policy, &diag)
					   != CPM_OK) {
		return cannot_tell(msg, diag.why);
	}
	cpm_decide_sender(&s, &prefs, &policy, &f.m, &d);
	LM_DBG("route: authorize %s sender=%.*s\n", d.why, (int)f.m.originator.n,
			f.m.originator.p);
	if(d.verdict != CPM_VERDICT_DELIVER) {
		pf_stat(CPM_STAT_unauthorised);
		return refuse(msg, -1, &d, &policy);
	}
	if(service_assert(msg, &f) < 0
			|| pf_note_set(PF_NOTE_SENDER, f.m.originator) < 0) {
		return cannot_tell(msg, "no-memory");
	}
	return set(msg, 1, 0, "", d.why);
}

int pf_route_authorize(struct sip_msg *msg, char *unused1, char *unused2)
{
	return pf_route_ki_authorize(msg);
}

/* ---------------------------------------------------------- interworking */

/* Next hop is the ISF; the request goes there as it came, whatever a client was
 * to see of it that has been tried before. */
static int isf_set(struct sip_msg *msg)
{
	char buf[600];
	str uri = {pf_params.isf_uri, (int)strlen(pf_params.isf_uri)};
	struct cpm_wr w;
	str path;

	client_headers_undo(msg);
	clear_branches();
	/* that takes the Request-URI for used up, and it is the only branch */
	ruri_mark_new();
	reset_path_vector(msg);
	reset_instance(msg);
	reset_ruid(msg);
	reset_ua(msg);
	reset_force_socket(msg);
	if(pf_conf.isf_rewrite) {
		reset_dst_uri(msg);
		return rewrite_uri(msg, &uri) < 0 ? -1 : 0;
	}
	/* the recipient stays in the Request-URI, whatever the script or a
	 * delivery that failed has put there */
	if(get_route_type() == FAILURE_ROUTE
			&& rewrite_uri(msg, &msg->first_line.u.request.uri) < 0) {
		return -1;
	}
	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_chr(&w, '<');
	cpm_wr_str(&w, pf_params.isf_uri);
	cpm_wr_chr(&w, '>');
	path = pf_str(cpm_wr_pl(&w));
	if(!cpm_wr_ok(&w) || set_path_vector(msg, &path) < 0
			|| set_dst_uri(msg, &uri) < 0) {
		return -1;
	}
	return 0;
}

int pf_route_ki_interwork(struct sip_msg *msg)
{
	if(pf_params.isf_uri[0] == '\0') {
		return set(msg, -1, 480, "Temporarily Unavailable", "no-isf");
	}
	if(isf_set(msg) < 0) {
		return set(msg, -1, 503, "Service Unavailable", "no-memory");
	}
	return set(msg, 1, 0, "", "interwork");
}

int pf_route_interwork(struct sip_msg *msg, char *unused1, char *unused2)
{
	return pf_route_ki_interwork(msg);
}

/* --------------------------------------------------- cpm_route_recipient */

/* Clients that a failed delivery of this very request has tried. */
static bool was_tried(struct sip_msg *msg, struct cpm_pl uri)
{
	struct cell *t = get_route_type() == FAILURE_ROUTE ? tmb.t_gett() : NULL;
	int i;

	if(t == NULL || t == T_UNDEFINED) {
		return false;
	}
	for(i = 0; i < t->nr_of_outgoings; i++) {
		if(cpm_pl_eq(pf_pl(t->uac[i].uri), uri)) {
			return true;
		}
	}
	return false;
}

static void clients_of(struct sip_msg *msg, const struct pf_contact *contacts,
		size_t count, struct cpm_client *clients)
{
	size_t i;

	for(i = 0; i < count; i++) {
		pf_usrloc_client(&contacts[i], &clients[i]);
		clients[i].failed = was_tried(msg, contacts[i].c.uri);
	}
}

/* The way to a client, as registrar's lookup() sets it: its Path, else where
 * its REGISTER came from. dst_r is empty where the Contact itself is. */
static int way_of(const struct pf_contact *c, str *path_r, str *dst_r)
{
	*path_r = pf_str(c->c.path);
	*dst_r = pf_str(c->c.received);
	if(path_r->len > 0 && get_path_dst_uri(path_r, dst_r) < 0) {
		LM_WARN("route: bad path contact=%.*s\n", (int)c->c.uri.n, c->c.uri.p);
		return -1;
	}
	return 0;
}

/* The first client is the request's own target, the others are branches. */
static int target_set(struct sip_msg *msg, const struct pf_contact *c)
{
	struct socket_info *sock = pf_usrloc_socket(c->c.socket);
	str uri = pf_str(c->c.uri);
	str instance = pf_str(c->instance);
	str ruid = pf_str(c->ruid);
	str ua = pf_str(c->user_agent);
	str path, dst;

	if(way_of(c, &path, &dst) < 0 || rewrite_uri(msg, &uri) < 0) {
		return -1;
	}
	reset_dst_uri(msg);
	reset_path_vector(msg);
	reset_instance(msg);
	reset_ruid(msg);
	reset_ua(msg);
	reset_force_socket(msg);
	if((path.len > 0 && set_path_vector(msg, &path) < 0)
			|| (dst.len > 0 && set_dst_uri(msg, &dst) < 0)
			|| (instance.len > 0 && set_instance(msg, &instance) < 0)
			|| (ruid.len > 0 && set_ruid(msg, &ruid) < 0)
			|| (ua.len > 0 && set_ua(msg, &ua) < 0)) {
		return -1;
	}
	msg->reg_id = c->reg_id;
	msg->otcpid = c->connection;
	set_ruri_q(c->c.q < 0 ? Q_UNSPECIFIED : c->c.q);
	setbflagsval(0, c->flags);
	if(sock != NULL) {
		set_force_socket(msg, sock);
	}
	return 0;
}

static int branch_add(struct sip_msg *msg, const struct pf_contact *c)
{
	struct socket_info *sock = pf_usrloc_socket(c->c.socket);
	str uri = pf_str(c->c.uri);
	str instance = pf_str(c->instance);
	str ruid = pf_str(c->ruid);
	str ua = pf_str(c->user_agent);
	branch_t *branch;
	str path, dst;

	if(way_of(c, &path, &dst) < 0) {
		return -1;
	}
	branch = ksr_push_branch(msg, &uri, dst.len > 0 ? &dst : NULL,
			path.len > 0 ? &path : NULL, c->c.q < 0 ? Q_UNSPECIFIED : c->c.q,
			c->flags, sock, instance.len > 0 ? &instance : NULL,
			instance.len > 0 ? c->reg_id : 0, &ruid, &ua);
	if(branch == NULL) {
		return -1;
	}
	branch->otcpid = c->connection;
	return 0;
}

/* What cpm_authorize() takes away, where the script has not called it. */
static int forged_remove(struct sip_msg *msg, const struct pf_facts *f)
{
	struct hdr_field *h;

	for(h = msg->headers; h != NULL && pf_note_get(PF_NOTE_SENDER).n == 0;
			h = h->next) {
		if(pf_facts_is_forged(f, h) && header_remove(msg, h, TYPE_ANY) < 0) {
			return -1;
		}
	}
	return 0;
}

/* What the clients are to see, and not to see. In a failure route the request
 * may have all that from the request route; it is done once. */
static int headers_deliver(
		struct sip_msg *msg, const struct pf_facts *f, struct cpm_pl called)
{
	char buf[MAX_URI_SIZE + 2];
	struct hdr_field *h;
	struct cpm_wr w;

	if(pf_params.insert_called_party_id && !f->has_called_party_id
			&& !has_client_header(msg)) {
		cpm_wr_init(&w, buf, sizeof(buf));
		cpm_wr_chr(&w, '<');
		cpm_wr_pl_put(&w, called);
		cpm_wr_chr(&w, '>');
		if(!cpm_wr_ok(&w)
				|| header_add(
						   msg, "P-Called-Party-ID", cpm_wr_pl(&w), TYPE_CLIENT)
						   < 0) {
			return -1;
		}
	}
	for(h = msg->headers; h != NULL; h = h->next) {
		if(!pf_facts_is_forged(f, h) && f->withheld && !pf_params.trust_clients
				&& cpm_msg_header_identity(pf_pl(h->name))
				&& header_remove(msg, h, TYPE_CLIENT) < 0) {
			return -1;
		}
	}
	return forged_remove(msg, f);
}

static int deliver(struct sip_msg *msg, const struct pf_facts *f,
		const struct cpm_decision *d, const struct pf_contact *contacts)
{
	/* the Request-URI as received (RFC 7315, 4.2.2.2) */
	struct cpm_pl called = pf_pl(msg->first_line.u.request.uri);
	size_t i;
	bool first = true;

	if(headers_deliver(msg, f, called) < 0) {
		return -1;
	}
	clear_branches();
	for(i = 0; i < d->deliver_count; i++) {
		if(first) {
			first = target_set(msg, &contacts[d->deliver_to[i]]) < 0;
		} else if(branch_add(msg, &contacts[d->deliver_to[i]]) < 0) {
			/* the others get it; whoever reads the log knows why not all */
			LM_WARN("route: no branch contact=%.*s (max_branches?)\n",
					(int)contacts[d->deliver_to[i]].c.uri.n,
					contacts[d->deliver_to[i]].c.uri.p);
		}
	}
	return first ? -1 : 0;
}

static int verdict_set(struct sip_msg *msg, const struct pf_facts *f,
		const struct cpm_decision *d, const struct cpm_policy *policy,
		const struct pf_contact *contacts)
{
	int rc = 1;

	switch(d->verdict) {
		case CPM_VERDICT_DELIVER:
			if(deliver(msg, f, d, contacts) < 0) {
				return cannot_tell(msg, "no-branch");
			}
			break;
		case CPM_VERDICT_QUEUE:
			rc = 2;
			break;
		case CPM_VERDICT_STORE:
			rc = 3;
			break;
		case CPM_VERDICT_INTERWORK:
			if(forged_remove(msg, f) < 0) {
				return cannot_tell(msg, "no-memory");
			}
			if(pf_route_ki_interwork(msg) < 0) {
				pf_outcome_get(msg)->verdict = CPM_VERDICT_REJECT;
				return -1;
			}
			rc = 4;
			break;
		case CPM_VERDICT_REJECT:
		case CPM_VERDICT_DISCARD:
		case CPM_VERDICT_NONE:
			pf_stat(CPM_STAT_rejected);
			return refuse(msg, -1, d, policy);
		case CPM_VERDICT_UNKNOWN:
			pf_stat(CPM_STAT_unknown);
			return refuse(msg, -3, d, policy);
	}
	rc = set(msg, rc, 0, "", d->why);
	pf_outcome_get(msg)->verdict = d->verdict;
	return rc;
}

/* Whom the message is for: as the script says, else the served user of a
 * terminating request, else the Request-URI. */
static int recipient_of(struct sip_msg *msg, const struct pf_facts *f,
		struct cpm_pl given, char *buf, struct cpm_pl *aor_r)
{
	if(given.n == 0 && f->session_case == PF_CASE_TERM && f->served.n > 0) {
		given = f->served;
	}
	if(given.n == 0) {
		/* the script may have changed its mind since the last call; in a
		 * failure route the Request-URI is a client's */
		given = get_route_type() == FAILURE_ROUTE ? pf_note_recipient(msg)
												  : pf_facts_target(msg);
	}
	return pf_facts_aor(given, buf, aor_r);
}

/* What cpm_queue() will ask. What is queued is recorded as it comes in, like
 * what is delivered. A record that an earlier call for this request left is
 * there for good. */
static int note_decision(struct cpm_pl aor, const struct cpm_decision *d,
		const struct cpm_prefs *prefs)
{
	struct pf_note_route before = pf_note_route_get();
	struct pf_note_route route = {.aor = aor,
			.deferred = d->deferred,
			.ask = d->verdict == CPM_VERDICT_QUEUE
				   && strcmp(d->why, "user-checks-back") == 0,
			.record = pf_deposit_is_on()
					  && (d->record_copy
							  || (d->verdict == CPM_VERDICT_QUEUE
									  && prefs->record_copy)),
			.recorded = before.recorded && cpm_pl_eq(before.aor, aor)};

	return pf_note_route_set(route);
}

/* The copy of what is delivered now. It does not wait for the delivery: should
 * no client take it and it is queued, there is one record all the same. */
static void record(struct sip_msg *msg)
{
	char aor[CPM_AOR_MAX];
	struct pf_note_route route = pf_note_route_get();

	if(!route.record || route.recorded || pf_deposit_record(msg) != CPM_OK) {
		return;
	}
	/* what is noted is borrowed from the note that is replaced */
	memcpy(aor, route.aor.p, route.aor.n);
	route.aor.p = aor;
	route.recorded = true;
	(void)pf_note_route_set(route);
}

int pf_route_ki_recipient_aor(struct sip_msg *msg, str *aor_text)
{
	struct pf_contact contacts[CPM_CONTACTS_MAX];
	struct cpm_client clients[CPM_CONTACTS_MAX];
	struct cpm_decision d;
	struct cpm_policy policy;
	struct cpm_prefs prefs;
	struct cpm_diag diag = {"database-down", 0};
	struct pf_facts f;
	struct cpm_pl aor, sender;
	char buf[CPM_AOR_MAX];
	const char *why = "bad-headers";
	size_t count = 0;
	int rc;

	if(!is_message(msg, "cpm_route_recipient")) {
		return -1;
	}
	if(pf_facts_read(&f, msg, &why) != CPM_OK) {
		return set(msg, -1, 400, "Bad Request", why);
	}
	if(recipient_of(msg, &f, pf_pl(*aor_text), buf, &aor) != CPM_OK) {
		return set(msg, -1, 400, "Not An Address Of Record", "not-an-aor");
	}
	if(!pf_facts_is_home(aor)) {
		return set(msg, -3, 404, "Not Found", "not-home");
	}
	/* who was authorised here is known better than any header says it */
	sender = pf_note_get(PF_NOTE_SENDER);
	if(sender.n > 0) {
		pf_facts_originator(&f, sender);
	} else {
		pf_facts_sender(&f, msg);
	}
	if(pf_prefs_get(aor, &prefs_buf, &prefs, &policy, &diag) != CPM_OK) {
		return cannot_tell(msg, diag.why);
	}
	if(prefs.known && pf_usrloc_contacts(aor, contacts, &count) != CPM_OK) {
		return cannot_tell(msg, "store-down");
	}
	clients_of(msg, contacts, count, clients);
	cpm_decide_recipient(&prefs, &policy, &f.m, clients, count,
			(unsigned)pf_params.reject_code, &d);
	LM_DBG("route: %s aor=%.*s why=%s clients=%u rule=%lld\n",
			cpm_verdict_name(d.verdict), (int)aor.n, aor.p, d.why,
			(unsigned)count, (long long)d.rule_id);
	if(note_decision(aor, &d, &prefs) < 0) {
		return cannot_tell(msg, "no-memory");
	}
	rc = verdict_set(msg, &f, &d, &policy, contacts);
	if(rc == 1) {
		record(msg);
	}
	return rc;
}

int pf_route_ki_recipient(struct sip_msg *msg)
{
	str none = STR_NULL;

	return pf_route_ki_recipient_aor(msg, &none);
}

int pf_route_recipient(struct sip_msg *msg, char *aor, char *unused)
{
	str text = STR_NULL;

	if(aor != NULL && fixup_get_svalue(msg, (gparam_t *)aor, &text) < 0) {
		LM_ERR("route: cpm_route_recipient(): its argument has no value\n");
		return cannot_tell(msg, "bad-argument");
	}
	return pf_route_ki_recipient_aor(msg, &text);
}
