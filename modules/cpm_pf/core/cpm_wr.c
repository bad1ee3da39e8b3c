/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_wr.c - a bounded writer: appends to a caller's buffer, never past it.
 *
 * runs in:  anything; pure functions
 */

#include "cpm_wr.h"

void cpm_wr_init(struct cpm_wr *w, char *buf, size_t cap)
{
	w->buf = buf;
	w->cap = cap;
	w->n = 0;
}

bool cpm_wr_ok(const struct cpm_wr *w)
{
	return w->n <= w->cap;
}

struct cpm_pl cpm_wr_pl(const struct cpm_wr *w)
{
	return cpm_pl(w->buf, cpm_wr_ok(w) ? w->n : w->cap);
}

void cpm_wr_pl_put(struct cpm_wr *w, struct cpm_pl a)
{
	size_t room = w->cap > w->n ? w->cap - w->n : 0;
	size_t n = a.n < room ? a.n : room;

	/* what fits is written, as snprintf does: cpm_wr_pl has no holes */
	if(n)
		memcpy(w->buf + w->n, a.p, n);
	/* a count that wrapped round would look like success */
	w->n = a.n > SIZE_MAX - w->n ? SIZE_MAX : w->n + a.n;
}

void cpm_wr_str(struct cpm_wr *w, const char *s)
{
	cpm_wr_pl_put(w, cpm_pl_str(s));
}

void cpm_wr_chr(struct cpm_wr *w, char c)
{
	cpm_wr_pl_put(w, cpm_pl(&c, 1));
}

void cpm_wr_u64(struct cpm_wr *w, uint64_t v)
{
	char digits[20]; /* of 2^64 - 1 */
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + v % 10);
		v /= 10;
	} while(v);
	cpm_wr_pl_put(w, cpm_pl(digits + i, sizeof(digits) - i));
}

void cpm_wr_hex64(struct cpm_wr *w, uint64_t v)
{
	char digits[16];

	for(size_t i = sizeof(digits); i-- > 0; v >>= 4)
		digits[i] = "0123456789abcdef"[v & 15];
	cpm_wr_pl_put(w, cpm_pl(digits, sizeof(digits)));
}

static void put_be(struct cpm_wr *w, uint64_t v, size_t size)
{
	char b[8];

	for(size_t i = size; i-- > 0; v >>= 8)
		b[i] = (char)(unsigned char)(v & 0xff);
	cpm_wr_pl_put(w, cpm_pl(b, size));
}

void cpm_wr_u8(struct cpm_wr *w, unsigned v)
{
	put_be(w, v, 1);
}

void cpm_wr_be32(struct cpm_wr *w, uint32_t v)
{
	put_be(w, v, 4);
}

void cpm_wr_be64(struct cpm_wr *w, uint64_t v)
{
	put_be(w, v, 8);
}
