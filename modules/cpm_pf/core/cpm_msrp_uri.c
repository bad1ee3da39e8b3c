/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_uri.c - MSRP URIs and paths of them (RFC 4975, 6 and 9).
 *
 * runs in:  anything; pure functions; no allocation
 */

#include "cpm_msrp_uri.h"

#define IPV6_LEN 16

static int fail(struct cpm_diag *diag, int rc, const char *why, size_t at)
{
	if(diag) {
		diag->why = why;
		diag->at = at;
	}
	return rc;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_unreserved(char c)
{
	return is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_'
		   || c == '~';
}

/* ---- IPv6 addresses ---- */

/* d.d.d.d; 4 bytes */
static bool ipv4_read(struct cpm_pl in, uint8_t *out)
{
	for(int i = 0; i < 4; i++) {
		struct cpm_pl part = cpm_pl_cut(&in, '.');
		uint64_t v;

		if(part.n > 3 || cpm_pl_u64(part, 255, &v) != CPM_OK)
			return false;
		if((in.p == NULL) != (i == 3))
			return false;
		out[i] = (uint8_t)v;
	}
	return true;
}

/* One group of up to four hex digits. */
static bool group_read(struct cpm_pl part, uint8_t *out)
{
	unsigned v = 0;

	if(part.n == 0 || part.n > 4)
		return false;
	for(size_t i = 0; i < part.n; i++) {
		int d = cpm_hex_value(part.p[i]);

		if(d < 0)
			return false;
		v = v << 4 | (unsigned)d;
	}
	out[0] = (uint8_t)(v >> 8);
	out[1] = (uint8_t)(v & 0xff);
	return true;
}

/* Groups with single colons between, the last of them perhaps an IPv4
 * address. Returns the number of bytes, or -1. */
static int groups_read(struct cpm_pl in, uint8_t *out)
{
	int n = 0;

	if(in.n == 0)
		return 0;
	while(in.p) {
		struct cpm_pl part = cpm_pl_cut(&in, ':');

		if(!in.p && cpm_pl_chr(part, '.') < part.n) {
			if(n > IPV6_LEN - 4 || !ipv4_read(part, out + n))
				return -1;
			return n + 4;
		}
		if(n > IPV6_LEN - 2 || !group_read(part, out + n))
			return -1;
		n += 2;
	}
	return n;
}

/* RFC 4291, 2.2 */
static bool ipv6_read(struct cpm_pl in, uint8_t *out)
{
	uint8_t tail[IPV6_LEN];
	int head_n, tail_n;

	for(size_t i = 0; i + 1 < in.n; i++) {
		if(in.p[i] != ':' || in.p[i + 1] != ':')
			continue;
		head_n = groups_read(cpm_pl(in.p, i), out);
		/* an IPv4 address can only be the end */
		if(cpm_pl_chr(cpm_pl(in.p, i), '.') < i)
			return false;
		tail_n = groups_read(cpm_pl_from(in, i + 2), tail);
		if(head_n < 0 || tail_n < 0 || head_n + tail_n > IPV6_LEN - 2)
			return false;
		memset(out + head_n, 0, (size_t)(IPV6_LEN - head_n));
		memcpy(out + IPV6_LEN - tail_n, tail, (size_t)tail_n);
		return true;
	}
	return groups_read(in, out) == IPV6_LEN;
}

/* ---- parsing ---- */

/* Visible ASCII that may stand in a user or a session id. */
static bool is_id_char(char c)
{
	return c > ' ' && c < 0x7f && c != ';' && c != '"' && c != '<' && c != '>';
}

static bool is_host(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(!is_unreserved(a.p[i]))
			return false;
	return a.n > 0;
}

static bool is_token(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(a.p[i] <= ' ' || a.p[i] >= 0x7f
				|| memchr("\"(),/:;<=>?@[\\]", a.p[i], 15))
			return false;
	return a.n > 0;
}

/* host [ ":" port ]; at is its offset, for diag */
static int parse_hostport(struct cpm_pl in, size_t at, struct cpm_msrp_uri *u,
		struct cpm_diag *diag)
{
	struct cpm_pl port = CPM_PL_NULL;
	uint8_t address[IPV6_LEN];
	uint64_t v;

	if(in.n > 0 && in.p[0] == '[') {
		size_t close = cpm_pl_chr(in, ']');

		if(close == in.n)
			return fail(diag, CPM_EPROTO, "bad-host", at);
		u->host = cpm_pl(in.p + 1, close - 1);
		u->is_ipv6 = true;
		if(!ipv6_read(u->host, address))
			return fail(diag, CPM_EPROTO, "bad-host", at + 1);
		port = cpm_pl(in.p + close + 1, in.n - close - 1);
		if(port.n > 0 && port.p[0] != ':')
			return fail(diag, CPM_EPROTO, "bad-host", at + close + 1);
		port = port.n ? cpm_pl(port.p + 1, port.n - 1) : CPM_PL_NULL;
	} else {
		port = in;
		u->host = cpm_pl_cut(&port, ':');
		if(u->host.n == 0)
			return fail(diag, CPM_EPROTO, "no-host", at);
		if(!is_host(u->host))
			return fail(diag, CPM_EPROTO, "bad-host", at);
	}
	if(!port.p)
		return CPM_OK;
	if(cpm_pl_u64(port, UINT16_MAX, &v) != CPM_OK || v == 0)
		return fail(diag, CPM_EPROTO, "bad-port", at + (size_t)(port.p - in.p));
	u->port = (uint16_t)v;
	return CPM_OK;
}

/* transport *( ";" token [ "=" token ] ) */
static int parse_params(struct cpm_pl in, size_t at, struct cpm_msrp_uri *u,
		struct cpm_diag *diag)
{
	struct cpm_pl rest = in;

	u->transport = cpm_pl_cut(&rest, ';');
	if(u->transport.n == 0)
		return fail(diag, CPM_EPROTO, "no-transport", at);
	for(size_t i = 0; i < u->transport.n; i++)
		if(!is_alpha(u->transport.p[i]) && !is_digit(u->transport.p[i]))
			return fail(diag, CPM_EPROTO, "no-transport", at + i);
	if(rest.p)
		u->params = cpm_pl(rest.p - 1, rest.n + 1);
	while(rest.p) {
		struct cpm_pl value = cpm_pl_cut(&rest, ';');
		const char *start = value.p;
		struct cpm_pl name = cpm_pl_cut(&value, '=');

		if(!is_token(name) || (value.p && !is_token(value)))
			return fail(
					diag, CPM_EPROTO, "bad-param", at + (size_t)(start - in.p));
	}
	return CPM_OK;
}

static int parse_scheme(struct cpm_pl *in, struct cpm_msrp_uri *u)
{
	if(cpm_pl_istarts(*in, CPM_PL_LIT("msrp://"))) {
		*in = cpm_pl(in->p + 7, in->n - 7);
		return CPM_OK;
	}
	if(cpm_pl_istarts(*in, CPM_PL_LIT("msrps://"))) {
		*in = cpm_pl(in->p + 8, in->n - 8);
		u->is_secure = true;
		return CPM_OK;
	}
	return CPM_EPROTO;
}

/* [ user "@" ] hostport: the last "@" ends the user */
static int parse_authority(struct cpm_pl in, size_t at, struct cpm_msrp_uri *u,
		struct cpm_diag *diag)
{
	for(size_t i = in.n; i-- > 0;)
		if(in.p[i] == '@') {
			u->user = cpm_pl(in.p, i);
			in = cpm_pl(in.p + i + 1, in.n - i - 1);
			at += i + 1;
			break;
		}
	return parse_hostport(in, at, u, diag);
}

int cpm_msrp_uri_parse(
		struct cpm_pl in, struct cpm_msrp_uri *uri_r, struct cpm_diag *diag)
{
	struct cpm_msrp_uri u = {.text = in};
	struct cpm_pl rest = in, authority, id;
	size_t n;
	int rc;

	if(in.n > CPM_MSRP_URI_MAX)
		return fail(diag, CPM_ELIMIT, "uri-too-long", CPM_MSRP_URI_MAX);
	for(size_t i = 0; i < in.n; i++)
		if(in.p[i] <= ' ' || in.p[i] >= 0x7f)
			return fail(diag, CPM_EPROTO, "bad-byte", i);
	if(parse_scheme(&rest, &u) != CPM_OK)
		return fail(diag, CPM_EPROTO, "no-scheme", 0);
	for(n = 0; n < rest.n && rest.p[n] != '/' && rest.p[n] != ';';)
		n++;
	authority = cpm_pl(rest.p, n);
	rc = parse_authority(authority, (size_t)(rest.p - in.p), &u, diag);
	if(rc != CPM_OK)
		return rc;
	rest = cpm_pl(rest.p + n, rest.n - n);
	id = cpm_pl_cut(&rest, ';');
	if(id.n > 0)
		u.session_id = cpm_pl(id.p + 1, id.n - 1);
	for(size_t i = 0; i < u.session_id.n; i++)
		if(!is_id_char(u.session_id.p[i]))
			return fail(diag, CPM_EPROTO, "bad-session-id",
					(size_t)(u.session_id.p + i - in.p));
	if(!rest.p)
		return fail(diag, CPM_EPROTO, "no-transport", in.n);
	rc = parse_params(rest, (size_t)(rest.p - in.p), &u, diag);
	if(rc != CPM_OK)
		return rc;
	*uri_r = u;
	return CPM_OK;
}

void cpm_msrp_uri_put(struct cpm_wr *w, const struct cpm_msrp_uri *u)
{
	cpm_wr_str(w, u->is_secure ? "msrps://" : "msrp://");
	if(u->user.n) {
		cpm_wr_pl_put(w, u->user);
		cpm_wr_chr(w, '@');
	}
	if(u->is_ipv6)
		cpm_wr_chr(w, '[');
	cpm_wr_pl_put(w, u->host);
	if(u->is_ipv6)
		cpm_wr_chr(w, ']');
	if(u->port) {
		cpm_wr_chr(w, ':');
		cpm_wr_u64(w, u->port);
	}
	if(u->session_id.n) {
		cpm_wr_chr(w, '/');
		cpm_wr_pl_put(w, u->session_id);
	}
	cpm_wr_chr(w, ';');
	cpm_wr_pl_put(w, u->transport);
	cpm_wr_pl_put(w, u->params);
}

/* ---- comparing ---- */

/* The next character of an id, with the escape of an unreserved character
 * undone; of other escapes the digits are made upper case. */
static int next_char(struct cpm_pl a, size_t *i)
{
	char c = a.p[*i];
	int high, low;

	if(c == '%' && a.n - *i > 2) {
		high = cpm_hex_value(a.p[*i + 1]);
		low = cpm_hex_value(a.p[*i + 2]);
		if(high >= 0 && low >= 0) {
			int v = high << 4 | low;

			*i += 3;
			return v < 0x7f && is_unreserved((char)v) ? v : 0x100 | v;
		}
	}
	*i += 1;
	return (unsigned char)c;
}

static bool id_eq(struct cpm_pl a, struct cpm_pl b)
{
	size_t i = 0, j = 0;

	while(i < a.n && j < b.n)
		if(next_char(a, &i) != next_char(b, &j))
			return false;
	return i >= a.n && j >= b.n;
}

static bool host_eq(const struct cpm_msrp_uri *a, const struct cpm_msrp_uri *b)
{
	uint8_t x[IPV6_LEN], y[IPV6_LEN];

	if(a->is_ipv6 != b->is_ipv6)
		return false;
	if(a->is_ipv6 && ipv6_read(a->host, x) && ipv6_read(b->host, y))
		return memcmp(x, y, IPV6_LEN) == 0;
	return cpm_pl_ieq(a->host, b->host);
}

bool cpm_msrp_uri_eq(const struct cpm_msrp_uri *a, const struct cpm_msrp_uri *b)
{
	return a->is_secure == b->is_secure && a->port == b->port && host_eq(a, b)
		   && id_eq(a->session_id, b->session_id)
		   && cpm_pl_ieq(a->transport, b->transport);
}

bool cpm_msrp_uri_same_session(
		const struct cpm_msrp_uri *a, const struct cpm_msrp_uri *b)
{
	return a->session_id.n > 0 && id_eq(a->session_id, b->session_id);
}

/* ---- paths ---- */

int cpm_msrp_path_parse(
		struct cpm_pl in, struct cpm_msrp_path *path_r, struct cpm_diag *diag)
{
	struct cpm_pl rest = in;
	struct cpm_diag inner = {NULL, 0};
	size_t n = 0;

	/* two passes, so that path_r stays as it was on failure without a copy
	 * of a thousand bytes */
	for(int pass = 0; pass < 2; pass++) {
		for(n = 0, rest = in; rest.p;) {
			struct cpm_pl text = cpm_pl_cut(&rest, ' ');
			struct cpm_msrp_uri u;
			int rc;

			if(text.n == 0)
				continue;
			if(n == CPM_MSRP_PATH_URIS)
				return fail(diag, CPM_ELIMIT, "too-many-uris",
						(size_t)(text.p - in.p));
			rc = cpm_msrp_uri_parse(text, pass ? &path_r->uri[n] : &u, &inner);
			if(rc != CPM_OK)
				return fail(diag, rc, inner.why,
						(size_t)(text.p - in.p) + inner.at);
			n++;
		}
		if(n == 0)
			return fail(diag, CPM_EPROTO, "no-uri", 0);
	}
	path_r->n = n;
	return CPM_OK;
}

bool cpm_msrp_path_eq(
		const struct cpm_msrp_path *a, const struct cpm_msrp_path *b)
{
	if(a->n != b->n)
		return false;
	for(size_t i = 0; i < a->n; i++)
		if(!cpm_msrp_uri_eq(&a->uri[i], &b->uri[i]))
			return false;
	return true;
}

struct cpm_pl cpm_msrp_path_first(struct cpm_pl path)
{
	path = cpm_pl_trim(path);
	return cpm_pl(path.p, cpm_pl_chr(path, ' '));
}

struct cpm_pl cpm_msrp_path_last(struct cpm_pl path)
{
	size_t i;

	path = cpm_pl_trim(path);
	for(i = path.n; i > 0 && path.p[i - 1] != ' ';)
		i--;
	return path.n ? cpm_pl(path.p + i, path.n - i) : path;
}
