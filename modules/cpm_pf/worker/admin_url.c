/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin_url.h"

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
