/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_facts.h"

#include "core/cpm_cpim.h"
#include "core/cpm_wr.h"
#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_str.h"

#include "../../core/dprint.h"
#include "../../core/parser/digest/digest.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/parser/parse_content.h"
#include "../../core/parser/parse_from.h"
#include "../../core/parser/parse_ppi_pai.h"
#include "../../core/parser/parse_to.h"
#include "../../core/route.h"

/* RFC 3428, 8: what is larger is large mode. */
#define PAGER_MAX 1300

/* -------------------------------------------------------------- addresses */

int pf_facts_aor(struct cpm_pl uri, char *buf, struct cpm_pl *aor_r)
{
	char mapped[CPM_AOR_MAX + 160];
	struct cpm_pl aor;
	struct cpm_wr w;
	int rc = cpm_aor_canon(uri, buf, CPM_AOR_MAX, &aor, NULL);
	size_t i;

	if(rc == CPM_OK && cpm_pl_starts(aor, CPM_PL_LIT("tel:+"))
			&& pf_conf.domain_count > 0) {
		cpm_wr_init(&w, mapped, sizeof(mapped));
		cpm_wr_str(&w, "sip:");
		cpm_wr_pl_put(&w, cpm_pl_from(aor, 4));
		cpm_wr_chr(&w, '@');
		cpm_wr_pl_put(&w, pf_conf.domains[0]);
		rc = cpm_aor_canon(cpm_wr_pl(&w), buf, CPM_AOR_MAX, &aor, NULL);
	}
	if(rc == CPM_OK && pf_conf.fold_case && aor.p != buf) {
		memmove(buf, aor.p, aor.n);
		aor.p = buf;
	}
	for(i = 0; rc == CPM_OK && pf_conf.fold_case && i < aor.n; i++) {
		/* but the two digits of an escape, which are upper case */
		if(buf[i] == '%') {
			i += 2;
		} else if(buf[i] >= 'A' && buf[i] <= 'Z') {
			buf[i] = (char)(buf[i] + 32);
		}
	}
	if(rc == CPM_OK) {
		*aor_r = aor;
	}
	return rc;
}

bool pf_facts_is_home(struct cpm_pl aor)
{
	struct cpm_pl host = cpm_aor_host(aor);
	size_t i;

	for(i = 0; i < pf_conf.domain_count; i++) {
		if(cpm_pl_eq(host, pf_conf.domains[i])) {
			return true;
		}
	}
	return pf_conf.domain_count == 0 || host.n == 0;
}

struct cpm_pl pf_facts_target(struct sip_msg *msg)
{
	if(get_route_type() != FAILURE_ROUTE && msg->new_uri.s != NULL
			&& msg->new_uri.len > 0) {
		return pf_pl(msg->new_uri);
	}
	return pf_pl(msg->first_line.u.request.uri);
}

/* The URI of a name-addr or addr-spec, without parameters of the header. */
static struct cpm_pl uri_of(struct cpm_pl value)
{
	size_t open = cpm_pl_chr(value, '<');
	struct cpm_pl rest;

	if(open < value.n) {
		rest = cpm_pl_from(value, open + 1);
		return cpm_pl_cut(&rest, '>');
	}
	rest = value;
	return cpm_pl_trim(cpm_pl_cut(&rest, ';'));
}

/* ---------------------------------------------------------------- headers */

bool pf_facts_is_forged(const struct pf_facts *f, const struct hdr_field *h)
{
	return !f->trusted_peer
		   && (pf_is_named(h, "P-Asserted-Identity")
				   || pf_is_named(h, "Remote-Party-ID")
				   || pf_is_named(h, "P-Asserted-Service")
				   || pf_is_named(h, "P-Served-User"));
}

/* P-Served-User (RFC 5502): <aor>;sescase=orig|term;regstate=reg|unreg */
static void served_user(struct pf_facts *f, struct cpm_pl value)
{
	struct cpm_pl rest = cpm_pl_from(value, cpm_pl_chr(value, '>'));
	struct cpm_pl part;

	(void)pf_facts_aor(uri_of(value), f->served_buf, &f->served);
	if(rest.n == 0) {
		rest = value;
	}
	(void)cpm_pl_cut(&rest, ';');
	while(rest.p != NULL) {
		part = cpm_pl_trim(cpm_pl_cut(&rest, ';'));
		if(cpm_pl_ieq(part, CPM_PL_LIT("sescase=orig"))) {
			f->session_case = PF_CASE_ORIG;
		} else if(cpm_pl_ieq(part, CPM_PL_LIT("sescase=term"))) {
			f->session_case = PF_CASE_TERM;
		}
	}
}

/* "orig" among the parameters of our own Route URI (3GPP TS 24.229): the
 * topmost Route is ours when it is there. */
static void route_orig(struct pf_facts *f, struct cpm_pl value)
{
	struct cpm_pl uri = uri_of(value);
	struct cpm_pl part;

	(void)cpm_pl_cut(&uri, ';');
	while(uri.p != NULL && f->session_case == PF_CASE_NONE) {
		part = cpm_pl_trim(cpm_pl_cut(&uri, ';'));
		if(cpm_pl_ieq(part, CPM_PL_LIT("orig"))
				|| cpm_pl_istarts(part, CPM_PL_LIT("orig="))) {
			f->session_case = PF_CASE_ORIG;
		}
	}
}

/* The first URN of CPM in a list. */
static void preferred(struct pf_facts *f, struct cpm_pl value)
{
	struct cpm_pl item;
	struct cpm_wr w;

	while(value.p != NULL && f->preferred_service.n == 0) {
		item = cpm_pl_trim(cpm_pl_cut(&value, ','));
		if(cpm_caps_urns(item) == 0) {
			continue;
		}
		cpm_wr_init(&w, f->service_buf, sizeof(f->service_buf));
		cpm_wr_pl_put(&w, item);
		if(cpm_wr_ok(&w)) {
			f->preferred_service = cpm_wr_pl(&w);
		}
	}
}

/* The next of several values in one header: a comma inside quotes is none. */
static struct cpm_pl item_cut(struct cpm_pl *rest)
{
	struct cpm_pl item = *rest;
	bool quoted = false;
	size_t i;

	for(i = 0; i < item.n; i++) {
		if(item.p[i] == '\\' && quoted) {
			i++;
		} else if(item.p[i] == '"') {
			quoted = !quoted;
		} else if(item.p[i] == ',' && !quoted) {
			*rest = cpm_pl(item.p + i + 1, item.n - i - 1);
			return cpm_pl(item.p, i);
		}
	}
	*rest = CPM_PL_NULL;
	return item;
}

static void header_read(
		struct pf_facts *f, const struct hdr_field *h, bool *route_seen)
{
	struct cpm_pl value = cpm_pl_trim(pf_pl(h->body));
	struct cpm_pl item;
	struct cpm_caps caps;

	if(pf_is_named(h, "Accept-Contact") || pf_is_named(h, "a")) {
		while(value.p != NULL) {
			item = item_cut(&value);
			cpm_caps_parse(cpm_pl_from(item, cpm_pl_chr(item, ';')), &caps);
			f->services |= caps.set;
		}
	} else if(pf_is_named(h, "P-Preferred-Service")) {
		f->services |= cpm_caps_urns(value);
		preferred(f, value);
	} else if(pf_is_named(h, "P-Asserted-Service")) {
		f->has_asserted_service = true;
		if(f->trusted_peer) {
			f->services |= cpm_caps_urns(value);
		}
	} else if(pf_is_named(h, "P-Called-Party-ID")) {
		f->has_called_party_id = true;
	} else if(pf_is_named(h, "Conversation-ID")) {
		f->has_conversation_id = value.n > 0;
	} else if(pf_is_named(h, "Contribution-ID")) {
		f->has_contribution_id = value.n > 0;
	} else if(pf_is_named(h, "Privacy")) {
		f->withheld = f->withheld || cpm_privacy_withholds(value);
	} else if(f->trusted_peer && pf_is_named(h, "P-Served-User")) {
		served_user(f, value);
	} else if(f->trusted_peer && pf_is_named(h, "Route") && !*route_seen) {
		*route_seen = true;
		route_orig(f, value);
	}
}

/* RFC 3261, 8.1.1.3; RFC 3323, 4.1.1.3 */
static bool from_is_anonymous(struct sip_msg *msg)
{
	struct cpm_pl uri = pf_pl(get_from(msg)->uri);
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor;

	return cpm_aor_canon(uri, buf, sizeof(buf), &aor, NULL) != CPM_OK
		   || cpm_pl_eq(cpm_aor_host(aor), CPM_PL_LIT("anonymous.invalid"))
		   || cpm_pl_ieq(cpm_aor_user(aor), CPM_PL_LIT("anonymous"));
}

int pf_facts_body(struct sip_msg *msg, struct cpm_pl *body_r)
{
	char *body = get_body(msg);
	size_t have;

	if(body == NULL) {
		return CPM_EPROTO;
	}
	have = (size_t)(msg->buf + msg->len - body);
	if(msg->content_length != NULL) {
		if(get_content_length(msg) < 0
				|| (size_t)get_content_length(msg) > have) {
			return CPM_EPROTO;
		}
		have = (size_t)get_content_length(msg);
	}
	*body_r = cpm_pl(body, have);
	return CPM_OK;
}

static int body_read(struct pf_facts *f, struct sip_msg *msg)
{
	struct cpm_cpim cpim;
	struct cpm_pl body;
	bool encoded = false;
	struct hdr_field *h;

	if(pf_facts_body(msg, &body) != CPM_OK) {
		return CPM_EPROTO;
	}
	for(h = msg->headers; h != NULL; h = h->next) {
		if(pf_is_named(h, "Content-Encoding") || pf_is_named(h, "e")) {
			encoded = true;
		}
	}
	if(msg->content_type != NULL) {
		f->m.type = cpm_pl_trim(pf_pl(msg->content_type->body));
	}
	f->m.size = body.n;
	f->m.kind = (f->services & CPM_CAP_LARGEMSG) != 0 || body.n > PAGER_MAX
						? CPM_KIND_LARGE
						: CPM_KIND_PAGER;
	if(!encoded && cpm_ctype_is(f->m.type, "message/cpim")
			&& cpm_cpim_parse(body, &cpim, NULL) == CPM_OK) {
		f->m.inner_type = cpim.content_type;
	}
	return CPM_OK;
}

int pf_facts_read(struct pf_facts *f, struct sip_msg *msg, const char **why_r)
{
	bool route_seen = false;
	struct hdr_field *h;

	memset(f, 0, sizeof(*f));
	if(parse_headers(msg, HDR_EOH_F, 0) < 0 || msg->from == NULL
			|| msg->to == NULL || parse_from_header(msg) < 0
			|| parse_to_header(msg) < 0) {
		*why_r = "bad-headers";
		return CPM_EPROTO;
	}
	f->trusted_peer =
			pf_conf_is_trusted(msg->rcv.src_ip.u.addr, msg->rcv.src_ip.len);
	for(h = msg->headers; h != NULL; h = h->next) {
		header_read(f, h, &route_seen);
	}
	f->m.anonymous = f->withheld || from_is_anonymous(msg);
	f->m.now_s = io_clock_wall_ms() / 1000;
	if(body_read(f, msg) != CPM_OK) {
		*why_r = "bad-body";
		return CPM_EPROTO;
	}
	return CPM_OK;
}

/* --------------------------------------------------------------- identity */

static struct cpm_pl identity_pai(struct pf_facts *f, struct sip_msg *msg)
{
	if(!f->trusted_peer || parse_pai_header(msg) < 0 || msg->pai == NULL
			|| msg->pai->parsed == NULL || get_pai(msg)->num_ids < 1) {
		return CPM_PL_NULL;
	}
	return pf_pl(get_pai(msg)->id[0].uri);
}

/* Digest credentials that the script has checked (auth module). */
static struct cpm_pl identity_auth(struct sip_msg *msg, char *buf, size_t cap)
{
	struct hdr_field *h = NULL;
	auth_body_t *auth;
	struct cpm_wr w;

	if((get_authorized_cred(msg->proxy_auth, &h), h) == NULL
			&& (get_authorized_cred(msg->authorization, &h), h) == NULL) {
		return CPM_PL_NULL;
	}
	auth = h->parsed;
	/* the domain part of a username is the client's own word */
	if(auth->digest.username.domain.len > 0
			&& !cpm_pl_ieq(pf_pl(auth->digest.username.domain),
					pf_pl(auth->digest.realm))) {
		return CPM_PL_NULL;
	}
	cpm_wr_init(&w, buf, cap);
	cpm_wr_str(&w, "sip:");
	cpm_wr_pl_put(&w, pf_pl(auth->digest.username.user));
	cpm_wr_chr(&w, '@');
	cpm_wr_pl_put(&w, pf_pl(auth->digest.realm));
	return cpm_wr_ok(&w) ? cpm_wr_pl(&w) : CPM_PL_NULL;
}

static struct cpm_pl identity_by(enum pf_identity source, struct pf_facts *f,
		struct sip_msg *msg, char *buf, size_t cap)
{
	switch(source) {
		case PF_IDENTITY_PAI:
			return identity_pai(f, msg);
		case PF_IDENTITY_AUTH:
			return identity_auth(msg, buf, cap);
		case PF_IDENTITY_FROM:
			return pf_pl(get_from(msg)->uri);
	}
	return CPM_PL_NULL;
}

struct cpm_pl pf_facts_user(const struct pf_facts *f)
{
	return f->m.originator_user.n > 0 ? f->m.originator_user : f->m.originator;
}

void pf_facts_originator(struct pf_facts *f, struct cpm_pl aor)
{
	struct cpm_pl user;

	f->m.originator = aor;
	f->m.originator_user = CPM_PL_NULL;
	if(pf_facts_aor(aor, f->user_buf, &user) == CPM_OK
			&& !cpm_pl_eq(user, aor)) {
		f->m.originator_user = user;
	}
}

void pf_facts_sender(struct pf_facts *f, struct sip_msg *msg)
{
	char buf[2 * CPM_AOR_MAX];
	struct cpm_pl uri, aor;
	size_t i;

	if(f->session_case == PF_CASE_ORIG && f->served.n > 0) {
		f->source = PF_IDENTITY_PAI;
		f->m.originator = f->served;
		return;
	}
	for(i = 0; i < pf_conf.identity_count; i++) {
		uri = identity_by(pf_conf.identity[i], f, msg, buf, sizeof(buf));
		if(uri.n > 0
				&& cpm_aor_canon(uri, f->originator_buf,
						   sizeof(f->originator_buf), &aor, NULL)
						   == CPM_OK) {
			f->source = pf_conf.identity[i];
			pf_facts_originator(f, aor);
			return;
		}
	}
}
