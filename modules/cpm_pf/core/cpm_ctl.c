/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_ctl.c - what delivery workers and the MSRP worker tell each other.
 *
 * runs in:  anything; pure functions; no allocation
 */

#include "cpm_ctl.h"

#include "cpm_msrp_frame.h"
#include "cpm_msrp_uri.h"

#define FLAGS_ALL \
	(CPM_CTL_TLS | CPM_CTL_CONNECT | CPM_CTL_REPORTS | CPM_CTL_SESSMATCH)

/* What a kind makes use of. */
enum use
{
	CODE = 1,
	HANDLE = 2,
	SIZE = 4,
	OFFSET = 8,
	B = 16,
	DATA = 32,
};

/* How a is to be read. */
enum form
{
	NOTHING,
	OWN_URI,
	PEER_PATH,
	MESSAGE_ID,
	LISTEN,
	WHY,
};

static const struct kind
{
	enum cpm_ctl_kind kind;
	const char *name;
	unsigned flags;
	unsigned uses;
	enum form a;
} kinds[] = {
		{CPM_CTL_PREPARE, "PREPARE", CPM_CTL_TLS, 0, OWN_URI},
		{CPM_CTL_START, "START", FLAGS_ALL, SIZE | B, PEER_PATH},
		{CPM_CTL_SEND, "SEND", 0, HANDLE | SIZE | B | DATA, MESSAGE_ID},
		{CPM_CTL_DATA_MORE, "DATA", 0, HANDLE | OFFSET | DATA, NOTHING},
		{CPM_CTL_CLOSE, "CLOSE", 0, 0, NOTHING},
		{CPM_CTL_HELLO, "HELLO", 0, CODE | B, LISTEN},
		{CPM_CTL_UP, "UP", 0, 0, NOTHING},
		{CPM_CTL_DONE, "DONE", 0, HANDLE, NOTHING},
		{CPM_CTL_FAILED, "FAILED", 0, HANDLE | CODE, WHY},
		{CPM_CTL_DOWN, "DOWN", 0, CODE, WHY},
};

static const struct kind *kind_find(enum cpm_ctl_kind kind)
{
	for(size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if(kinds[i].kind == kind)
			return &kinds[i];
	return NULL;
}

const char *cpm_ctl_name(enum cpm_ctl_kind kind)
{
	const struct kind *k = kind_find(kind);

	return k ? k->name : "?";
}

/* ---- texts ---- */

/* fingerprint = hash-func SP 2UHEX *(":" 2UHEX) */
size_t cpm_ctl_fingerprint(
		struct cpm_pl in, struct cpm_pl *name_r, uint8_t *octets, size_t cap)
{
	static const struct
	{
		const char *name;
		size_t octets;
	} hashes[] = {{"sha-1", 20}, {"sha-224", 28}, {"sha-256", 32},
			{"sha-384", 48}, {"sha-512", 64}};
	struct cpm_pl rest = in, name = cpm_pl_cut(&rest, ' ');
	size_t n = 0;

	for(size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
		if(cpm_pl_ieq(name, cpm_pl_str(hashes[i].name)))
			n = hashes[i].octets;
	if(n == 0 || n > cap || rest.n != 3 * n - 1)
		return 0;
	for(size_t i = 0; i < n; i++) {
		int high = cpm_hex_value(rest.p[3 * i]);
		int low = cpm_hex_value(rest.p[3 * i + 1]);

		if(high < 0 || low < 0 || (i > 0 && rest.p[3 * i - 1] != ':'))
			return 0;
		octets[i] = (uint8_t)(high << 4 | low);
	}
	*name_r = name;
	return n;
}

static bool is_fingerprint(struct cpm_pl a)
{
	struct cpm_pl name;
	uint8_t octets[64];

	return cpm_ctl_fingerprint(a, &name, octets, sizeof(octets)) > 0;
}

/* Stands in a header line of what we send. */
static bool is_content_type(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if((unsigned char)a.p[i] < ' ' || a.p[i] == 0x7f)
			return false;
	return a.n > 0 && a.n <= CPM_MSRP_LINE_MAX / 2
		   && cpm_pl_eq(a, cpm_pl_trim(a));
}

/* A word as all of the project writes them; it goes to logs. */
static bool is_why(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if((a.p[i] < 'a' || a.p[i] > 'z') && (a.p[i] < '0' || a.p[i] > '9')
				&& a.p[i] != '-')
			return false;
	return a.n > 0 && a.n <= CPM_CTL_WHY;
}

static bool is_listen(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(a.p[i] != '\n' && (a.p[i] <= ' ' || a.p[i] >= 0x7f))
			return false;
	return true;
}

static const char *check_a(enum form form, struct cpm_pl a)
{
	struct cpm_msrp_path path;
	struct cpm_msrp_uri uri;

	switch(form) {
		case NOTHING:
			return a.n > 0 ? "not-used" : NULL;
		case OWN_URI:
			return cpm_msrp_uri_parse(a, &uri, NULL) == CPM_OK
								   && uri.session_id.n > 0
						   ? NULL
						   : "bad-uri";
		case PEER_PATH:
			/* it has to fit into a header line */
			return cpm_msrp_path_parse(a, &path, NULL) == CPM_OK
								   && a.n <= CPM_MSRP_LINE_MAX - 16
						   ? NULL
						   : "bad-path";
		case MESSAGE_ID:
			return cpm_msrp_is_id(a) ? NULL : "bad-message-id";
		case LISTEN:
			return is_listen(a) ? NULL : "bad-listen";
		default:
			return is_why(a) ? NULL : "bad-why";
	}
}

static const char *check_b(const struct cpm_ctl *m, unsigned uses)
{
	if(!(uses & B))
		return m->b.n > 0 ? "not-used" : NULL;
	if(m->kind == CPM_CTL_SEND)
		return is_content_type(m->b) ? NULL : "bad-content-type";
	return m->b.n == 0 || is_fingerprint(m->b) ? NULL : "bad-fingerprint";
}

/* ---- whole messages ---- */

static const char *check_numbers(
		const struct cpm_ctl *m, const struct kind *k, bool *is_limit_r)
{
	*is_limit_r = false;
	if(m->flags & ~k->flags)
		return "bad-flags";
	if(m->session == 0)
		return "bad-session";
	if((m->handle != 0) != ((k->uses & HANDLE) != 0))
		return "bad-handle";
	if(m->code > (k->uses & CODE ? 999u : 0u)
			|| (m->kind == CPM_CTL_HELLO && m->code == 0))
		return "bad-code";
	if(m->size > (k->uses & SIZE ? CPM_MSRP_POS_MAX : 0)
			|| (m->kind == CPM_CTL_SEND && m->size == 0))
		return "bad-size";
	if(m->offset > (k->uses & OFFSET ? CPM_MSRP_POS_MAX : 0))
		return "bad-offset";
	*is_limit_r = true;
	if(m->a.n > CPM_CTL_TEXT || m->b.n > CPM_CTL_TEXT || m->c.n > CPM_CTL_TEXT)
		return "text-too-long";
	if(m->data.n > CPM_CTL_DATA)
		return "data-too-long";
	return NULL;
}

static const char *check_texts(const struct cpm_ctl *m, const struct kind *k)
{
	const char *why = check_a(k->a, m->a);

	if(!why)
		why = check_b(m, k->uses);
	if(!why && (m->c.n > 0 || (m->data.n > 0 && !(k->uses & DATA))))
		why = "not-used";
	if(!why && m->kind == CPM_CTL_DATA_MORE && m->data.n == 0)
		why = "no-data";
	if(!why && m->kind == CPM_CTL_SEND && m->data.n > m->size)
		why = "bad-size";
	return why;
}

static int fail(struct cpm_diag *diag, int rc, const char *why)
{
	if(diag)
		*diag = (struct cpm_diag){why, 0};
	return rc;
}

int cpm_ctl_check(const struct cpm_ctl *m, struct cpm_diag *diag)
{
	const struct kind *k = kind_find(m->kind);
	const char *why;
	bool is_limit;

	if(!k)
		return fail(diag, CPM_EPROTO, "bad-kind");
	why = check_numbers(m, k, &is_limit);
	if(why)
		return fail(diag, is_limit ? CPM_ELIMIT : CPM_EPROTO, why);
	why = check_texts(m, k);
	return why ? fail(diag, CPM_EPROTO, why) : CPM_OK;
}

static void put_be16(struct cpm_wr *w, unsigned v)
{
	cpm_wr_u8(w, v >> 8);
	cpm_wr_u8(w, v & 0xff);
}

static void put_text(struct cpm_wr *w, struct cpm_pl a)
{
	put_be16(w, (unsigned)a.n);
	cpm_wr_pl_put(w, a);
}

int cpm_ctl_put(
		struct cpm_wr *w, const struct cpm_ctl *m, struct cpm_diag *diag)
{
	size_t before = w->n;
	int rc = cpm_ctl_check(m, diag);

	if(rc != CPM_OK)
		return rc;
	cpm_wr_u8(w, CPM_CTL_VERSION);
	cpm_wr_u8(w, (unsigned)m->kind);
	put_be16(w, m->flags);
	put_be16(w, m->code);
	cpm_wr_be64(w, m->session);
	cpm_wr_be32(w, m->handle);
	cpm_wr_be64(w, m->size);
	cpm_wr_be64(w, m->offset);
	put_text(w, m->a);
	put_text(w, m->b);
	put_text(w, m->c);
	cpm_wr_be32(w, (uint32_t)m->data.n);
	cpm_wr_pl_put(w, m->data);
	if(cpm_wr_ok(w))
		return CPM_OK;
	w->n = before;
	return fail(diag, CPM_ENOMEM, "no-room");
}

/* What is left of a datagram; is_short is sticky. */
struct reader
{
	struct cpm_pl rest;
	bool is_short;
};

static struct cpm_pl take(struct reader *r, size_t n)
{
	struct cpm_pl got = cpm_pl(r->rest.p, n);

	if(r->is_short || r->rest.n < n) {
		r->is_short = true;
		return CPM_PL_NULL;
	}
	r->rest = cpm_pl_from(r->rest, n);
	return got;
}

static uint64_t take_be(struct reader *r, size_t n)
{
	struct cpm_pl got = take(r, n);
	uint64_t v = 0;

	for(size_t i = 0; i < got.n; i++)
		v = v << 8 | (unsigned char)got.p[i];
	return v;
}

static struct cpm_pl take_text(struct reader *r, size_t length_bytes)
{
	return take(r, (size_t)take_be(r, length_bytes));
}

int cpm_ctl_get(struct cpm_pl in, struct cpm_ctl *m_r, struct cpm_diag *diag)
{
	struct reader r = {in, false};
	struct cpm_ctl m;
	int rc;

	if(in.n == 0)
		return fail(diag, CPM_EPROTO, "short");
	if(take_be(&r, 1) != CPM_CTL_VERSION)
		return fail(diag, CPM_EPROTO, "bad-version");
	memset(&m, 0, sizeof(m));
	m.kind = (enum cpm_ctl_kind)take_be(&r, 1);
	m.flags = (unsigned)take_be(&r, 2);
	m.code = (unsigned)take_be(&r, 2);
	m.session = take_be(&r, 8);
	m.handle = (uint32_t)take_be(&r, 4);
	m.size = take_be(&r, 8);
	m.offset = take_be(&r, 8);
	m.a = take_text(&r, 2);
	m.b = take_text(&r, 2);
	m.c = take_text(&r, 2);
	m.data = take_text(&r, 4);
	if(r.is_short)
		return fail(diag, CPM_EPROTO, "short");
	if(r.rest.n > 0)
		return fail(diag, CPM_EPROTO, "trailing");
	rc = cpm_ctl_check(&m, diag);
	if(rc == CPM_OK)
		*m_r = m;
	return rc;
}
