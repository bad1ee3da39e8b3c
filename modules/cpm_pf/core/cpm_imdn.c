/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_imdn.c - disposition notifications (RFC 5438) of an intermediary.
 *
 * runs in:  anything; pure functions
 *
 *     <imdn xmlns="urn:ietf:params:xml:ns:imdn">
 *       message-id datetime recipient-uri original-recipient-uri
 *       ( processing-notification / delivery-notification )
 *     </imdn>
 *
 * The schema has recipient-uri and original-recipient-uri together or not at
 * all. datetime is when the message was sent, not the notification.
 */

#include "cpm_imdn.h"

#include "cpm_aor.h"
#include "cpm_cpim.h"
#include "cpm_time.h"
#include "cpm_wr.h"

#define SERVICE "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg"
#define TAG "urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg"
#define ADDRESS_MAX 512 /* of an address that is repeated from the message */

const char *cpm_imdn_kind_name(enum cpm_imdn_kind kind)
{
	return kind == CPM_IMDN_STORED ? "stored" : "failed";
}

bool cpm_imdn_is_one(const struct cpm_cpim *cpim)
{
	struct cpm_pl rest = cpim->content_disposition;
	struct cpm_pl type = cpm_pl_trim(cpm_pl_cut(&rest, ';'));

	return cpim->is_imdn || cpm_pl_ieq(type, CPM_PL_LIT("notification"));
}

/* What stands on the envelope: most messages need no look inside. */
static bool may_be_told(const struct cpm_msg *m, enum cpm_imdn_kind kind)
{
	unsigned asked =
			kind == CPM_IMDN_STORED ? CPM_DISPO_PROCESSING : CPM_DISPO_NEGATIVE;
	unsigned hidden = CPM_MSG_F_IMDN | CPM_MSG_F_WITHHELD | CPM_MSG_F_ANONYMOUS;

	return (m->dispo & asked) != 0 && (m->flags & hidden) == 0
		   && m->originator.n > 0 && !cpm_pl_eq(m->originator, m->aor)
		   && !cpm_pl_eq(cpm_aor_host(m->originator),
				   CPM_PL_LIT("anonymous.invalid"));
}

static bool due(const struct cpm_msg *m, enum cpm_imdn_kind kind,
		struct cpm_cpim *cpim_r)
{
	return may_be_told(m, kind) && cpm_ctype_is(m->content_type, "message/cpim")
		   && cpm_cpim_parse(m->body, cpim_r, NULL) == CPM_OK
		   && !cpm_imdn_is_one(cpim_r)
		   /* the sender could not tell what it is about */
		   && cpm_msg_id_ok(cpim_r->message_id);
}

bool cpm_imdn_due(const struct cpm_msg *m, enum cpm_imdn_kind kind)
{
	struct cpm_cpim cpim;

	return due(m, kind, &cpim);
}

/* ----------------------------------------------------------------- texts */

/* Only visible ASCII is ever given to it. */
static void put_xml(struct cpm_wr *w, struct cpm_pl a)
{
	size_t i;

	for(i = 0; i < a.n; i++) {
		switch(a.p[i]) {
			case '&':
				cpm_wr_str(w, "&amp;");
				break;
			case '<':
				cpm_wr_str(w, "&lt;");
				break;
			case '>':
				cpm_wr_str(w, "&gt;");
				break;
			case '"':
				cpm_wr_str(w, "&quot;");
				break;
			case '\'':
				cpm_wr_str(w, "&apos;");
				break;
			default:
				cpm_wr_chr(w, a.p[i]);
				break;
		}
	}
}

static void put_element(struct cpm_wr *w, const char *name, struct cpm_pl value)
{
	cpm_wr_chr(w, '<');
	cpm_wr_str(w, name);
	cpm_wr_chr(w, '>');
	put_xml(w, value);
	cpm_wr_str(w, "</");
	cpm_wr_str(w, name);
	cpm_wr_str(w, ">\r\n");
}

static bool is_visible(struct cpm_pl a)
{
	size_t i;

	for(i = 0; i < a.n; i++) {
		if(a.p[i] < 0x21 || a.p[i] > 0x7e) {
			return false;
		}
	}
	return a.n > 0 && a.n <= ADDRESS_MAX;
}

/* The URI of a name-addr or addr-spec; instead where that has none that can
 * be said again. */
static struct cpm_pl uri_of(struct cpm_pl value, struct cpm_pl instead)
{
	size_t open = cpm_pl_chr(value, '<');
	struct cpm_pl rest = open < value.n ? cpm_pl_from(value, open + 1) : value;
	struct cpm_pl uri = cpm_pl_cut(&rest, open < value.n ? '>' : ';');

	return is_visible(uri) && cpm_pl_chr(uri, ':') < uri.n ? uri : instead;
}

/* When the message was sent, by its own word where that can be read. */
static void put_sent_at(
		struct cpm_wr *w, const struct cpm_msg *of, struct cpm_pl datetime)
{
	uint64_t ms;

	if(cpm_time_parse_rfc3339(datetime, &ms) != CPM_OK) {
		ms = of->received_ms;
	}
	cpm_time_put_rfc3339(w, ms);
}

static void put_body(struct cpm_wr *w, const struct cpm_imdn_ask *ask,
		const struct cpm_cpim *cpim)
{
	const struct cpm_msg *of = ask->of;

	cpm_wr_str(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n"
				  "<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">\r\n");
	put_element(w, "message-id", cpim->message_id);
	cpm_wr_str(w, "<datetime>");
	put_sent_at(w, of, cpim->datetime);
	cpm_wr_str(w, "</datetime>\r\n");
	put_element(w, "recipient-uri", of->aor);
	put_element(w, "original-recipient-uri", uri_of(of->to, of->aor));
	cpm_wr_str(w, ask->kind == CPM_IMDN_STORED
						  ? "<processing-notification><status><stored/>"
							"</status></processing-notification>\r\n"
						  : "<delivery-notification><status><failed/>"
							"</status></delivery-notification>\r\n");
	cpm_wr_str(w, "</imdn>\r\n");
}

static void put_uri_line(struct cpm_wr *w, const char *name, struct cpm_pl uri)
{
	cpm_wr_str(w, name);
	cpm_wr_str(w, ": <");
	cpm_wr_pl_put(w, uri);
	cpm_wr_str(w, ">\r\n");
}

static void put_cpim(struct cpm_wr *w, const struct cpm_imdn_ask *ask,
		const struct cpm_cpim *cpim, struct cpm_pl id)
{
	struct cpm_wr count;

	put_uri_line(w, "From", ask->of->aor);
	/* as the sender calls itself there, which its client will know again */
	put_uri_line(w, "To", uri_of(cpim->from, ask->of->originator));
	cpm_wr_str(w, "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: ");
	cpm_wr_pl_put(w, id);
	cpm_wr_str(w, "\r\nDateTime: ");
	cpm_time_put_rfc3339(w, ask->now_ms);
	cpm_wr_str(w, "\r\n\r\nContent-Type: message/imdn+xml\r\n"
				  "Content-Disposition: notification\r\nContent-Length: ");
	cpm_wr_init(&count, NULL, 0);
	put_body(&count, ask, cpim);
	cpm_wr_u64(w, count.n);
	cpm_wr_str(w, "\r\n\r\n");
	put_body(w, ask, cpim);
}

/* ----------------------------------------------------------- the message */

/* Of this notification and of no other, however often it is written. */
static void names_make(const struct cpm_imdn_ask *ask, uint64_t hash[2])
{
	/* no id and no address holds a NUL */
	struct cpm_pl end = cpm_pl("", 1);
	char number[32];
	struct cpm_wr w;
	uint64_t h;

	cpm_wr_init(&w, number, sizeof(number));
	cpm_wr_hex64(&w, ask->of->fingerprint);
	cpm_wr_str(&w, cpm_imdn_kind_name(ask->kind));
	h = cpm_hash64(CPM_HASH_INIT, cpm_wr_pl(&w));
	h = cpm_hash64(cpm_hash64(h, ask->of->id), end);
	hash[0] = cpm_hash64(cpm_hash64(h, ask->of->aor), end);
	hash[1] = cpm_hash64(hash[0], ask->of->originator);
}

static void put_name(struct cpm_wr *w, const char *head, const uint64_t *hash)
{
	cpm_wr_str(w, head);
	cpm_wr_hex64(w, hash[0]);
	cpm_wr_hex64(w, hash[1]);
}

static struct cpm_pl since(const struct cpm_wr *w, size_t at)
{
	return cpm_pl(w->buf + at, w->n - at);
}

static struct cpm_pl line_value(struct cpm_wr *w, const char *name,
		const char *head, const uint64_t *hash)
{
	struct cpm_pl value;
	size_t at;

	cpm_wr_str(w, name);
	at = w->n;
	put_name(w, head, hash);
	value = since(w, at);
	cpm_wr_str(w, "\r\n");
	return value;
}

/* The lines that a message of its kind has when it comes by SIP. */
static void put_headers(struct cpm_wr *w, const struct cpm_imdn_ask *ask,
		struct cpm_msg *m, const uint64_t *hash)
{
	size_t at = w->n;

	put_uri_line(w, "P-Asserted-Identity", ask->of->aor);
	cpm_wr_str(w, "P-Asserted-Service: " SERVICE "\r\n");
	m->conversation_id = line_value(w, "Conversation-ID: ", "cpm-c-", hash);
	m->contribution_id = line_value(w, "Contribution-ID: ", "cpm-t-", hash);
	cpm_wr_str(w, "Content-Type: message/cpim\r\n");
	m->headers = since(w, at);
}

static struct cpm_pl put_address(struct cpm_wr *w, struct cpm_pl uri)
{
	size_t at = w->n;

	cpm_wr_chr(w, '<');
	cpm_wr_pl_put(w, uri);
	cpm_wr_chr(w, '>');
	return since(w, at);
}

int cpm_imdn_write(const struct cpm_imdn_ask *ask, char *buf, size_t cap,
		struct cpm_msg *m_r)
{
	struct cpm_cpim cpim;
	struct cpm_msg m;
	struct cpm_wr w;
	uint64_t hash[2];
	size_t at;

	if(!due(ask->of, ask->kind, &cpim)) {
		return CPM_ENOENT;
	}
	if(cap < CPM_IMDN_BYTES_MAX) {
		return CPM_ENOMEM;
	}
	memset(&m, 0, sizeof(m));
	cpm_wr_init(&w, buf, cap);
	names_make(ask, hash);
	put_name(&w, "cpm-imdn-", hash);
	m.id = cpm_wr_pl(&w);
	m.aor = ask->to;
	at = w.n;
	put_name(&w, "imdn-", hash);
	cpm_wr_chr(&w, '@');
	cpm_wr_pl_put(&w, ask->host);
	m.call_id = since(&w, at);
	m.from = put_address(&w, ask->of->aor);
	m.originator = cpm_pl(m.from.p + 1, m.from.n - 2);
	m.to = put_address(&w, ask->to);
	put_headers(&w, ask, &m, hash);
	m.aside = CPM_PL_LIT("Accept-Contact: *;+g.3gpp.icsi-ref=\"" TAG "\"\r\n");
	m.content_type = CPM_PL_LIT("message/cpim");
	m.inner_type = CPM_PL_LIT("message/imdn+xml");
	at = w.n;
	put_cpim(&w, ask, &cpim, m.id);
	m.body = since(&w, at);
	m.body_len = m.body.n;
	m.received_ms = ask->now_ms;
	m.expires_ms = ask->now_ms + ask->life_ms;
	/* not of the bytes: written again a minute later it is still the same */
	m.fingerprint = hash[1];
	m.flags = CPM_MSG_F_IMDN;
	if(!cpm_wr_ok(&w)) {
		return CPM_ENOMEM;
	}
	*m_r = m;
	return CPM_OK;
}
