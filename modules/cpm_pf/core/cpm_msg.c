/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msg.c - a message as it is queued, and its versioned codec.
 *
 * runs in:  anything; pure functions
 *
 *     blob     = "CM" version flags env_end body_len received_ms expires_ms
 *                fingerprint envelope body
 *     envelope = *( tag length *OCTET )
 *
 * Sizes and byte order: cpm_msg.h.
 */

#include "cpm_msg.h"
#include "cpm_aor.h"
#include "cpm_time.h"

#define FIELD_HEAD 5 /* tag and length */
#define EXPIRES_MAX UINT32_MAX

/* Numbers are for ever: they are in queues. A field that is given up leaves
 * its number unused. */
enum tag
{
	TAG_ID = 1,
	TAG_AOR = 2,
	TAG_CALL_ID = 3,
	TAG_FROM = 4,
	TAG_TO = 5,
	TAG_SUBJECT = 6,
	TAG_CONTENT_TYPE = 7,
	TAG_CONVERSATION_ID = 8,
	TAG_CONTRIBUTION_ID = 9,
	TAG_HEADERS = 10,
	TAG_DISPO = 11, /* one byte */
	TAG_ORIGINATOR = 12,
	TAG_INNER_TYPE = 13,
	TAG_ASIDE = 14,
	TAG_END_,
};

struct field
{
	enum tag tag;
	size_t offset; /* of a struct cpm_pl in struct cpm_msg */
	size_t max;
};

#define FIELD(tag, member, max)                      \
	{                                                \
		tag, offsetof(struct cpm_msg, member), (max) \
	}

static const struct field fields[] = {
		FIELD(TAG_ID, id, CPM_MSG_ID_MAX),
		FIELD(TAG_AOR, aor, CPM_AOR_MAX),
		FIELD(TAG_CALL_ID, call_id, CPM_MSG_HEADERS_MAX),
		FIELD(TAG_FROM, from, CPM_MSG_HEADERS_MAX),
		FIELD(TAG_TO, to, CPM_MSG_HEADERS_MAX),
		FIELD(TAG_SUBJECT, subject, CPM_MSG_HEADERS_MAX),
		FIELD(TAG_CONTENT_TYPE, content_type, CPM_MSG_HEADERS_MAX),
		FIELD(TAG_CONVERSATION_ID, conversation_id, CPM_MSG_HEADERS_MAX),
		FIELD(TAG_CONTRIBUTION_ID, contribution_id, CPM_MSG_HEADERS_MAX),
		FIELD(TAG_HEADERS, headers, CPM_MSG_HEADERS_MAX),
		FIELD(TAG_ORIGINATOR, originator, CPM_AOR_MAX),
		FIELD(TAG_INNER_TYPE, inner_type, CPM_MSG_HEADERS_MAX),
		FIELD(TAG_ASIDE, aside, CPM_MSG_HEADERS_MAX),
};

#define FIELDS_N (sizeof(fields) / sizeof(fields[0]))

static int fail(struct cpm_diag *diag, int rc, const char *why, size_t at)
{
	if(diag) {
		diag->why = why;
		diag->at = at;
	}
	return rc;
}

static struct cpm_pl field_get(const struct cpm_msg *m, const struct field *f)
{
	struct cpm_pl value;

	memcpy(&value, (const char *)m + f->offset, sizeof(value));
	return value;
}

static void field_set(
		struct cpm_msg *m, const struct field *f, struct cpm_pl value)
{
	memcpy((char *)m + f->offset, &value, sizeof(value));
}

bool cpm_msg_id_ok(struct cpm_pl id)
{
	if(id.n == 0 || id.n > CPM_MSG_ID_MAX)
		return false;
	for(size_t i = 0; i < id.n; i++)
		if(id.p[i] < 0x21 || id.p[i] > 0x7e)
			return false;
	return true;
}

/* ---- encode ---- */

static void put_field(struct cpm_wr *w, enum tag tag, struct cpm_pl value)
{
	if(value.n == 0)
		return;
	cpm_wr_u8(w, tag);
	cpm_wr_be32(w, (uint32_t)value.n);
	cpm_wr_pl_put(w, value);
}

static void put_envelope(struct cpm_wr *w, const struct cpm_msg *m)
{
	char dispo = (char)(unsigned char)m->dispo;

	for(size_t i = 0; i < FIELDS_N; i++)
		put_field(w, fields[i].tag, field_get(m, &fields[i]));
	put_field(w, TAG_DISPO, cpm_pl(&dispo, m->dispo ? 1 : 0));
}

static size_t envelope_len(const struct cpm_msg *m)
{
	struct cpm_wr count;

	cpm_wr_init(&count, NULL, 0);
	put_envelope(&count, m);
	return count.n;
}

size_t cpm_msg_encoded_len(const struct cpm_msg *m)
{
	return CPM_MSG_FIXED + envelope_len(m) + m->body.n;
}

static int check_encodable(const struct cpm_msg *m, struct cpm_diag *diag)
{
	if(m->id.n > CPM_MSG_ID_MAX)
		return fail(diag, CPM_ELIMIT, "id-too-long", 0);
	if(!cpm_msg_id_ok(m->id))
		return fail(diag, CPM_EPROTO, "bad-id", 0);
	if(m->aor.n == 0 || m->aor.n > CPM_AOR_MAX || m->dispo > 0xff
			|| m->flags > 0xff)
		return fail(diag, CPM_EPROTO, "bad-field", 0);
	for(size_t i = 0; i < FIELDS_N; i++)
		if(field_get(m, &fields[i]).n > fields[i].max)
			return fail(diag, CPM_ELIMIT, "headers-too-long", 0);
	if(m->body.n > CPM_MSG_BODY_MAX)
		return fail(diag, CPM_ELIMIT, "body-too-long", 0);
	return CPM_OK;
}

int cpm_msg_encode(
		const struct cpm_msg *m, struct cpm_wr *w, struct cpm_diag *diag)
{
	int rc = check_encodable(m, diag);

	if(rc != CPM_OK)
		return rc;
	cpm_wr_str(w, "CM");
	cpm_wr_u8(w, CPM_MSG_VERSION);
	cpm_wr_u8(w, m->flags);
	cpm_wr_be32(w, (uint32_t)(CPM_MSG_FIXED + envelope_len(m)));
	cpm_wr_be32(w, (uint32_t)m->body.n);
	cpm_wr_be64(w, m->received_ms);
	cpm_wr_be64(w, m->expires_ms);
	cpm_wr_be64(w, m->fingerprint);
	put_envelope(w, m);
	cpm_wr_pl_put(w, m->body);
	if(!cpm_wr_ok(w))
		return fail(diag, CPM_ENOMEM, "small-buffer", 0);
	return CPM_OK;
}

/* ---- decode ---- */

/* size <= 8 bytes at offset at, which the caller knows to be there */
static uint64_t get_be(struct cpm_pl a, size_t at, size_t size)
{
	uint64_t v = 0;

	for(size_t i = 0; i < size; i++)
		v = v << 8 | (unsigned char)a.p[at + i];
	return v;
}

static int decode_fixed(struct cpm_pl blob, struct cpm_msg *m, size_t *env_end,
		struct cpm_diag *diag)
{
	if(blob.n < CPM_MSG_FIXED)
		return fail(diag, CPM_EPROTO, "truncated", blob.n);
	if(!cpm_pl_starts(blob, CPM_PL_LIT("CM")))
		return fail(diag, CPM_EPROTO, "bad-magic", 0);
	if(get_be(blob, 2, 1) != CPM_MSG_VERSION)
		return fail(diag, CPM_EPROTO, "bad-version", 2);
	m->flags = (unsigned)get_be(blob, 3, 1);
	*env_end = (size_t)get_be(blob, 4, 4);
	m->body_len = (size_t)get_be(blob, 8, 4);
	m->received_ms = get_be(blob, 12, 8);
	m->expires_ms = get_be(blob, 20, 8);
	m->fingerprint = get_be(blob, 28, 8);
	if(m->body_len > CPM_MSG_BODY_MAX)
		return fail(diag, CPM_EPROTO, "bad-field", 8);
	if(*env_end < CPM_MSG_FIXED || *env_end > blob.n)
		return fail(diag, CPM_EPROTO, "truncated", 4);
	return CPM_OK;
}

/* Whether the value fits the tag; those not known are passed over. */
static bool take_field(struct cpm_msg *m, unsigned tag, struct cpm_pl value)
{
	if(tag == TAG_DISPO) {
		if(value.n != 1)
			return false;
		m->dispo = (unsigned char)value.p[0];
		return true;
	}
	for(size_t i = 0; i < FIELDS_N; i++)
		if(fields[i].tag == tag) {
			field_set(m, &fields[i], value);
			return value.n <= fields[i].max;
		}
	return true;
}

static int decode_envelope(struct cpm_pl blob, size_t env_end,
		struct cpm_msg *m, struct cpm_diag *diag)
{
	unsigned seen = 0;
	size_t at = CPM_MSG_FIXED;

	while(at < env_end) {
		unsigned tag, bit;
		size_t len;

		if(env_end - at < FIELD_HEAD)
			return fail(diag, CPM_EPROTO, "truncated", at);
		tag = (unsigned)get_be(blob, at, 1);
		len = (size_t)get_be(blob, at + 1, 4);
		if(len > env_end - at - FIELD_HEAD)
			return fail(diag, CPM_EPROTO, "truncated", at);
		bit = tag >= TAG_ID && tag < TAG_END_ ? 1u << tag : 0;
		if((seen & bit)
				|| !take_field(m, tag, cpm_pl(blob.p + at + FIELD_HEAD, len)))
			return fail(diag, CPM_EPROTO, "bad-field", at);
		seen |= bit;
		at += FIELD_HEAD + len;
	}
	if(m->id.n == 0 || m->aor.n == 0)
		return fail(diag, CPM_EPROTO, "bad-field", env_end);
	if(!cpm_msg_id_ok(m->id))
		return fail(diag, CPM_EPROTO, "bad-id", (size_t)(m->id.p - blob.p));
	return CPM_OK;
}

int cpm_msg_decode(
		struct cpm_pl blob, struct cpm_msg *m_r, struct cpm_diag *diag)
{
	struct cpm_msg m = {.dispo = 0};
	size_t env_end;
	int rc = decode_fixed(blob, &m, &env_end, diag);

	if(rc == CPM_OK)
		rc = decode_envelope(blob, env_end, &m, diag);
	if(rc != CPM_OK)
		return rc;
	if(blob.n > env_end) {
		if(blob.n - env_end != m.body_len)
			return fail(diag, CPM_EPROTO, "truncated", env_end);
		m.body = cpm_pl(blob.p + env_end, m.body_len);
	}
	*m_r = m;
	return CPM_OK;
}

/* ---- what is stored of a request, and what is delivered ---- */

/* Headers that a MESSAGE does not take along into the queue. Everything
 * else is the sender's and stays, also what we have never heard of. */
static const char *const not_kept[] = {
		/* the path it came by */
		"Max-Breadth", "Max-Forwards", "Path", "Record-Route", "Route",
		"Service-Route", "Via", "v",
		/* dialog and transaction: the delivery has its own */
		"CSeq", "Call-ID", "i", "Contact", "m", "Event", "o", "From", "f",
		"Min-SE", "Session-Expires", "x", "Timestamp", "To", "t",
		/* said again for the moment of delivery */
		"Content-Length", "l", "Expires",
		/* credentials, meant for a proxy or server on the first path */
		"Authorization", "Proxy-Authenticate", "Proxy-Authorization",
		"Proxy-Require", "Security-Client", "Security-Server",
		"Security-Verify", "WWW-Authenticate",
		/* signed over From, To, Call-ID and Date of the old request */
		"Identity", "y", "Identity-Info", "n",
		/* one network's facts on the first transaction (RFC 7315, RFC 5502) */
		"P-Access-Network-Info", "P-Called-Party-ID",
		"P-Charging-Function-Addresses", "P-Charging-Vector",
		"P-Preferred-Identity", "P-Preferred-Service", "P-Profile-Key",
		"P-Served-User", "P-User-Database", "P-Visited-Network-ID",
		/* what the sending user agent can do; the delivery is sent by us */
		"Accept", "Accept-Encoding", "Accept-Language", "Allow", "Allow-Events",
		"u", "Feature-Caps", "Server", "Supported", "k", "User-Agent",
		/* whom to reach: the delivery chooses its client itself */
		"Accept-Contact", "a", "Hide", "Referred-By", "b", "Reject-Contact",
		"j", "Request-Disposition", "d"};

bool cpm_msg_header_aside(struct cpm_pl name)
{
	static const char *const names[] = {"Accept-Contact", "a", "Referred-By",
			"b", "Reject-Contact", "j", "Request-Disposition", "d"};

	name = cpm_pl_trim(name);
	for(size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if(cpm_pl_ieq(name, cpm_pl_str(names[i])))
			return true;
	return false;
}

bool cpm_msg_header_kept(struct cpm_pl name)
{
	name = cpm_pl_trim(name);
	for(size_t i = 0; i < sizeof(not_kept) / sizeof(not_kept[0]); i++)
		if(cpm_pl_ieq(name, cpm_pl_str(not_kept[i])))
			return false;
	return true;
}

uint64_t cpm_msg_fingerprint(const struct cpm_msg *m)
{
	/* no header holds a NUL: "ab" + "c" and "a" + "bc" stay two things */
	struct cpm_pl end = cpm_pl("", 1);
	uint64_t h = cpm_hash64(CPM_HASH_INIT, m->from);

	h = cpm_hash64(h, end);
	h = cpm_hash64(h, m->content_type);
	h = cpm_hash64(h, end);
	return cpm_hash64(h, m->body);
}

/* Seconds, rounded up: "0" would say that it has expired. */
static uint64_t seconds_left(uint64_t expires_ms, uint64_t now_ms)
{
	uint64_t left = (expires_ms - now_ms - 1) / 1000 + 1;

	return left < EXPIRES_MAX ? left : EXPIRES_MAX;
}

bool cpm_privacy_withholds(struct cpm_pl value)
{
	bool withheld = false;
	struct cpm_pl item;

	while(value.p != NULL) {
		/* RFC 3323 separates by ';'; ',' is met as well */
		size_t semicolon = cpm_pl_chr(value, ';');
		size_t comma = cpm_pl_chr(value, ',');

		item = cpm_pl_trim(cpm_pl_cut(&value, comma < semicolon ? ',' : ';'));
		if(cpm_pl_ieq(item, CPM_PL_LIT("none")))
			return false;
		withheld = withheld || cpm_pl_ieq(item, CPM_PL_LIT("id"))
				   || cpm_pl_ieq(item, CPM_PL_LIT("user"))
				   || cpm_pl_ieq(item, CPM_PL_LIT("header"));
	}
	return withheld;
}

bool cpm_msg_header_identity(struct cpm_pl name)
{
	static const char *const names[] = {"P-Asserted-Identity",
			"Remote-Party-ID", "P-Preferred-Identity", "Identity",
			"Identity-Info", "Diversion", "History-Info"};
	size_t i;

	for(i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if(cpm_pl_ieq(name, cpm_pl_str(names[i])))
			return true;
	}
	return false;
}

/* One header with the lines that continue it. */
static struct cpm_pl header_cut(struct cpm_pl *rest)
{
	struct cpm_pl all = *rest;
	size_t n = 0;

	do {
		n += cpm_pl_chr(cpm_pl_from(*rest, n), '\n');
		n = n < rest->n ? n + 1 : n;
	} while(n < rest->n && (rest->p[n] == ' ' || rest->p[n] == '\t'));
	*rest = cpm_pl_from(*rest, n);
	return cpm_pl(all.p, n);
}

struct cpm_pl cpm_msg_header_next(struct cpm_pl *rest, struct cpm_pl *name_r)
{
	struct cpm_pl line = header_cut(rest);

	*name_r = cpm_pl_trim(cpm_pl(line.p, cpm_pl_chr(line, ':')));
	return line;
}

bool cpm_msg_header_has(const struct cpm_msg *m, const char *name)
{
	struct cpm_pl rest = m->headers;
	struct cpm_pl found;

	while(rest.n > 0) {
		(void)cpm_msg_header_next(&rest, &found);
		if(cpm_pl_ieq(found, cpm_pl_str(name)))
			return true;
	}
	return false;
}

static void put_kept(struct cpm_wr *w, struct cpm_pl headers, bool withhold)
{
	struct cpm_pl rest = headers;
	struct cpm_pl line;

	while(withhold && rest.n > 0) {
		line = header_cut(&rest);
		if(!cpm_msg_header_identity(
				   cpm_pl_trim(cpm_pl(line.p, cpm_pl_chr(line, ':')))))
			cpm_wr_pl_put(w, line);
	}
	if(!withhold)
		cpm_wr_pl_put(w, headers);
	/* else the line after would become part of the last one */
	if(headers.n > 0 && headers.p[headers.n - 1] != '\n')
		cpm_wr_str(w, "\r\n");
}

int cpm_msg_delivery_headers(const struct cpm_msg *m, uint64_t now_ms,
		bool trusted, struct cpm_wr *w)
{
	if(m->expires_ms != 0 && now_ms >= m->expires_ms)
		return CPM_ENOENT;
	put_kept(w, m->headers, !trusted && (m->flags & CPM_MSG_F_WITHHELD));
	if((m->flags & CPM_MSG_F_EXPIRES) && m->expires_ms != 0) {
		cpm_wr_str(w, "Expires: ");
		cpm_wr_u64(w, seconds_left(m->expires_ms, now_ms));
		cpm_wr_str(w, "\r\n");
	}
	if(!(m->flags & CPM_MSG_F_DATE)) {
		cpm_wr_str(w, "Date: ");
		cpm_time_put_sip(w, m->received_ms / 1000);
		cpm_wr_str(w, "\r\n");
	}
	return cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}
