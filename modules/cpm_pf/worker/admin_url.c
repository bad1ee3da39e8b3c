/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin_url.h"

#include <arpa/inet.h>
#include <netinet/in.h>

int admin_url_unescape(struct cpm_pl in, struct cpm_wr *w, struct cpm_pl *out_r)
{
	size_t from = w->n;

	for(size_t i = 0; i < in.n; i++) {
		int c = (unsigned char)in.p[i];
		if(c == '%') {
			int hi = i + 1 < in.n ? cpm_hex_value(in.p[i + 1]) : -1;
			int lo = i + 2 < in.n ? cpm_hex_value(in.p[i + 2]) : -1;
			if(hi < 0 || lo < 0)
				return CPM_EPROTO;
			c = hi * 16 + lo;
			i += 2;
		}
		if(c == 0)
			return CPM_EPROTO;
		cpm_wr_chr(w, (char)c);
	}
	if(!cpm_wr_ok(w))
		return CPM_ENOMEM;
	*out_r = cpm_pl(w->buf + from, w->n - from);
	return CPM_OK;
}

static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void put(
		struct cpm_wr *w, struct cpm_pl in, const char *alphabet, bool pad)
{
	for(size_t i = 0; i < in.n; i += 3) {
		size_t n = in.n - i < 3 ? in.n - i : 3;
		uint32_t v = 0;
		for(size_t j = 0; j < 3; j++)
			v = v << 8 | (j < n ? (unsigned char)in.p[i + j] : 0);
		for(size_t j = 0; j < 4; j++) {
			if(j <= n)
				cpm_wr_chr(w, alphabet[v >> (18 - 6 * j) & 63]);
			else if(pad)
				cpm_wr_chr(w, '=');
		}
	}
}

void admin_base64_put(struct cpm_wr *w, struct cpm_pl in)
{
	put(w, in, plain, true);
}

void admin_base64url_put(struct cpm_wr *w, struct cpm_pl in)
{
	put(w, in, url, false);
}

int admin_base64url_get(
		struct cpm_pl in, char *buf, size_t cap, struct cpm_pl *out_r)
{
	uint32_t v = 0;
	unsigned bits = 0;
	size_t n = 0;

	for(size_t i = 0; i < in.n; i++) {
		const char *at = memchr(url, in.p[i], sizeof(url) - 1);
		if(at == NULL)
			return CPM_EPROTO;
		v = (v << 6 | (uint32_t)(at - url)) & 0xffffff;
		bits += 6;
		if(bits < 8)
			continue;
		bits -= 8;
		if(n == cap)
			return CPM_ENOMEM;
		buf[n++] = (char)(v >> bits & 0xff);
	}
	/* a lone sixth of a byte, or bits that belong to no byte */
	if(in.n % 4 == 1 || (v & ((1u << bits) - 1)) != 0)
		return CPM_EPROTO;
	*out_r = cpm_pl(buf, n);
	return CPM_OK;
}

bool admin_url_match(
		const char *pattern, struct cpm_pl path, struct admin_url_vars *vars_r)
{
	struct cpm_pl want = cpm_pl_str(pattern);
	struct admin_url_vars vars = {CPM_PL_NULL, CPM_PL_NULL, CPM_PL_NULL};

	while(want.n > 0 && path.n > 0) {
		struct cpm_pl w = cpm_pl_cut(&want, '/');
		struct cpm_pl p = cpm_pl_cut(&path, '/');
		if(cpm_pl_eq(w, CPM_PL_LIT("{user}")) && p.n > 0)
			vars.user = p;
		else if(cpm_pl_eq(w, CPM_PL_LIT("{id}")) && p.n > 0)
			vars.id = p;
		else if(cpm_pl_eq(w, CPM_PL_LIT("{kind}")) && p.n > 0)
			vars.kind = p;
		else if(!cpm_pl_eq(w, p))
			return false;
		/* "/a/" is not "/a" */
		if((want.p == NULL) != (path.p == NULL))
			return false;
	}
	*vars_r = vars;
	return want.n == 0 && path.n == 0;
}

static bool is_port(struct cpm_pl a)
{
	uint64_t v;

	return cpm_pl_u64(a, 65535, &v) == CPM_OK;
}

bool admin_host_is_loopback(struct cpm_pl host)
{
	struct in_addr v4;
	char text[64];

	if(cpm_pl_starts(host, CPM_PL_LIT("[::1]")))
		return host.n == 5
			   || (host.p[5] == ':' && is_port(cpm_pl_from(host, 6)));
	struct cpm_pl port = host;
	host = cpm_pl_cut(&port, ':');
	if(port.p != NULL && !is_port(port))
		return false;
	if(cpm_pl_ieq(host, CPM_PL_LIT("localhost")))
		return true;
	if(host.n == 0 || host.n >= sizeof(text)
			|| memchr(host.p, 0, host.n) != NULL)
		return false;
	return inet_pton(AF_INET, cpm_pl_cstr(host, text, sizeof(text)), &v4) == 1
		   && ntohl(v4.s_addr) >> 24 == 127;
}

bool admin_origin_is(struct cpm_pl origin, struct cpm_pl host)
{
	static const char *const schemes[] = {"http://", "https://"};

	for(size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		struct cpm_pl scheme = cpm_pl_str(schemes[i]);
		if(cpm_pl_istarts(origin, scheme))
			return host.n > 0
				   && cpm_pl_ieq(cpm_pl_from(origin, scheme.n), host);
	}
	return false; /* "null" as well */
}
