/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_sip.h"

#include "pf_outcome.h"
#include "pf_str.h"

#include "../../core/dprint.h"
#include "../../core/mem/mem.h"
#include "../../core/parser/contact/parse_contact.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/parser/parse_content.h"
#include "../../core/parser/parse_cseq.h"
#include "../../core/parser/parse_from.h"
#include "../../core/parser/parse_to.h"
#include "../../core/route.h"

/* From or To as it came, less its parameters: "Alice" <sip:alice@...>, or
 * the bare address. */
static struct cpm_pl name_addr(const struct to_body *b)
{
	const char *end = b->uri.s + b->uri.len;

	if(b->uri.s == NULL || b->uri.len <= 0) {
		return CPM_PL_NULL;
	}
	if(b->body.s != NULL && b->uri.s > b->body.s && b->uri.s[-1] == '<'
			&& end < b->body.s + b->body.len && *end == '>') {
		return cpm_pl(b->body.s, (size_t)(end + 1 - b->body.s));
	}
	return pf_pl(b->uri);
}

/* Values that lists show, and that accepting asks for. The first counts. */
static void value_note(struct cpm_accept_in *in, const struct hdr_field *h)
{
	const struct
	{
		const char *name;
		const char *compact;
		struct cpm_pl *to;
	} wanted[] = {
			{"Subject", "s", &in->subject},
			{"Content-Type", "c", &in->content_type},
			{"Content-Encoding", "e", &in->content_encoding},
			{"Date", "", &in->date},
			{"Expires", "", &in->expires},
			{"Conversation-ID", "", &in->conversation_id},
			{"Contribution-ID", "", &in->contribution_id},
	};
	size_t i;

	for(i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if(wanted[i].to->n == 0
				&& (pf_is_named(h, wanted[i].name)
						|| pf_is_named(h, wanted[i].compact))) {
			*wanted[i].to = cpm_pl_trim(pf_pl(h->body));
			return;
		}
	}
}

/* One header with its CRLF, whatever ended it. A line that ends in a bare LF
 * gets its CR, or two lines would be read as one by a strict client. */
static size_t line_copy(char *to, const struct hdr_field *h)
{
	size_t len = (size_t)h->len;

	for(; len > 0 && (h->name.s[len - 1] == '\r' || h->name.s[len - 1] == '\n');
			len--)
		;
	memcpy(to, h->name.s, len);
	memcpy(to + len, "\r\n", 2);
	return len + 2;
}

/* Kept lines, as they came, and behind them those that are put aside. */
static int headers_gather(struct pf_sip *s, struct sip_msg *msg)
{
	static const struct cpm_pl asserted = {"P-Asserted-Service: ", 20};
	struct cpm_pl service = pf_note_get(PF_NOTE_SERVICE);
	struct hdr_field *h;
	size_t n = 0;
	size_t kept;
	size_t cap = asserted.n + service.n + 2;

	for(h = msg->headers; h != NULL; h = h->next) {
		cap += (size_t)h->len + 2;
	}
	s->headers = pkg_malloc(cap);
	if(s->headers == NULL) {
		PKG_MEM_ERROR;
		return CPM_ENOMEM;
	}
	for(h = msg->headers; h != NULL; h = h->next) {
		value_note(&s->in, h);
		if(!cpm_msg_header_kept(pf_pl(h->name))
				|| (service.n > 0 && pf_is_named(h, "P-Asserted-Service"))
				|| pf_facts_is_forged(&s->facts, h)) {
			continue;
		}
		n += line_copy(s->headers + n, h);
	}
	/* what cpm_authorize() asserted is in the request only once it is sent */
	if(service.n > 0) {
		memcpy(s->headers + n, asserted.p, asserted.n);
		memcpy(s->headers + n + asserted.n, service.p, service.n);
		memcpy(s->headers + n + asserted.n + service.n, "\r\n", 2);
		n += asserted.n + service.n + 2;
	}
	s->in.headers = cpm_pl(s->headers, n);
	kept = n;
	for(h = msg->headers; h != NULL; h = h->next) {
		if(cpm_msg_header_aside(pf_pl(h->name))) {
			n += line_copy(s->headers + n, h);
		}
	}
	s->in.aside = cpm_pl(s->headers + kept, n - kept);
	return CPM_OK;
}

/* What the recipient's rules for single clients will ask at delivery. */
static void facts_take(struct pf_sip *s, struct sip_msg *msg)
{
	struct cpm_pl sender = pf_note_get(PF_NOTE_SENDER);

	if(sender.n > 0) {
		pf_facts_originator(&s->facts, sender);
	} else {
		pf_facts_sender(&s->facts, msg);
	}
	s->in.originator = s->facts.m.originator;
	s->in.anonymous = s->facts.m.anonymous;
	s->in.large = s->facts.m.kind == CPM_KIND_LARGE;
	s->in.trusted_peer = s->facts.trusted_peer;
	s->in.privacy = s->facts.withheld ? CPM_PL_LIT("id") : CPM_PL_NULL;
	s->in.deferred = pf_note_route_get().deferred;
}

int pf_sip_init(struct pf_sip *s, struct sip_msg *msg, const char **why_r)
{
	struct to_body *from, *to;
	struct cpm_pl target;

	memset(s, 0, sizeof(*s));
	if(parse_headers(msg, HDR_EOH_F, 0) < 0 || msg->from == NULL
			|| msg->to == NULL || msg->callid == NULL || msg->cseq == NULL
			|| parse_from_header(msg) < 0 || parse_to_header(msg) < 0) {
		*why_r = "bad-headers";
		return CPM_EPROTO;
	}
	if(pf_facts_read(&s->facts, msg, why_r) != CPM_OK) {
		return CPM_EPROTO;
	}
	facts_take(s, msg);
	from = get_from(msg);
	to = get_to(msg);
	s->in.request_uri = pf_note_recipient(msg);
	if(pf_facts_aor(s->in.request_uri, s->target, &target) == CPM_OK) {
		s->in.request_uri = target;
	}
	s->in.from = name_addr(from);
	s->in.to = name_addr(to);
	s->in.from_tag = pf_pl(from->tag_value);
	s->in.call_id = cpm_pl_trim(pf_pl(msg->callid->body));
	s->in.cseq = pf_pl(get_cseq(msg)->number);
	if(s->in.from.n == 0 || s->in.to.n == 0) {
		*why_r = "bad-headers";
		return CPM_EPROTO;
	}
	if(pf_facts_body(msg, &s->in.body) != CPM_OK) {
		*why_r = "bad-body";
		return CPM_EPROTO;
	}
	return headers_gather(s, msg);
}

void pf_sip_fini(struct pf_sip *s)
{
	if(s->headers != NULL) {
		pkg_free(s->headers);
		s->headers = NULL;
	}
}
