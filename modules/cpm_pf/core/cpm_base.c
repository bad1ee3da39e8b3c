/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_base.c - slices, results and the few helpers that all of ring 0 uses.
 *
 * runs in:  anything; pure functions
 */

#include "cpm_base.h"

#define FNV_PRIME UINT64_C(0x100000001b3)

const char *cpm_rc_name(int rc)
{
	static const char *const names[] = {"OK", "EAGAIN", "EPROTO", "ELIMIT",
			"ENOMEM", "ENOENT", "EEXIST", "EDOWN", "EUNSURE"};

	if(rc > CPM_OK || rc < CPM_EUNSURE)
		return "?";
	return names[-rc];
}

struct cpm_pl cpm_pl_str(const char *s)
{
	return s ? cpm_pl(s, strlen(s)) : CPM_PL_NULL;
}

/* Not tolower(): that one follows the locale. */
static unsigned char ascii_lower(char c)
{
	unsigned char u = (unsigned char)c;

	return u >= 'A' && u <= 'Z' ? (unsigned char)(u | 0x20) : u;
}

/* memcmp(NULL, x, 0) is undefined, and an empty slice may have no p. */
static int bytes_cmp(const char *a, const char *b, size_t n)
{
	return n ? memcmp(a, b, n) : 0;
}

static bool bytes_ieq(const char *a, const char *b, size_t n)
{
	for(size_t i = 0; i < n; i++)
		if(ascii_lower(a[i]) != ascii_lower(b[i]))
			return false;
	return true;
}

bool cpm_pl_eq(struct cpm_pl a, struct cpm_pl b)
{
	return a.n == b.n && bytes_cmp(a.p, b.p, a.n) == 0;
}

bool cpm_pl_ieq(struct cpm_pl a, struct cpm_pl b)
{
	return a.n == b.n && bytes_ieq(a.p, b.p, a.n);
}

int cpm_pl_cmp(struct cpm_pl a, struct cpm_pl b)
{
	int d = bytes_cmp(a.p, b.p, a.n < b.n ? a.n : b.n);

	if(d != 0)
		return d;
	return (a.n > b.n) - (a.n < b.n);
}

bool cpm_pl_starts(struct cpm_pl a, struct cpm_pl prefix)
{
	return a.n >= prefix.n && bytes_cmp(a.p, prefix.p, prefix.n) == 0;
}

bool cpm_pl_istarts(struct cpm_pl a, struct cpm_pl prefix)
{
	return a.n >= prefix.n && bytes_ieq(a.p, prefix.p, prefix.n);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct cpm_pl cpm_pl_trim(struct cpm_pl a)
{
	while(a.n > 0 && is_blank(a.p[0])) {
		a.p++;
		a.n--;
	}
	while(a.n > 0 && is_blank(a.p[a.n - 1]))
		a.n--;
	return a;
}

struct cpm_pl cpm_pl_from(struct cpm_pl a, size_t i)
{
	if(i >= a.n)
		return CPM_PL_NULL;
	return cpm_pl(a.p + i, a.n - i);
}

size_t cpm_pl_chr(struct cpm_pl a, char c)
{
	const char *hit = a.n ? memchr(a.p, (unsigned char)c, a.n) : NULL;

	return hit ? (size_t)(hit - a.p) : a.n;
}

size_t cpm_pl_ctl(struct cpm_pl a)
{
	size_t i = 0;

	while(i < a.n && a.p[i] != 0x7f
			&& ((unsigned char)a.p[i] >= ' ' || a.p[i] == '\t')) {
		i++;
	}
	return i;
}

int cpm_hex_value(char c)
{
	if(c >= '0' && c <= '9') {
		return c - '0';
	}
	if(c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct cpm_pl cpm_pl_cut(struct cpm_pl *rest, char c)
{
	struct cpm_pl all = *rest;
	size_t i = cpm_pl_chr(all, c);

	if(i == all.n) {
		*rest = CPM_PL_NULL;
		return all;
	}
	/* p stays set even when nothing follows: "a," has a second, empty item */
	*rest = cpm_pl(all.p + i + 1, all.n - i - 1);
	return cpm_pl(all.p, i);
}

int cpm_pl_u64(struct cpm_pl a, uint64_t max, uint64_t *v_r)
{
	uint64_t v = 0;
	bool over = false;

	if(a.n == 0)
		return CPM_EPROTO;
	/* to the end even when too large already: "99x" is no number at all */
	for(size_t i = 0; i < a.n; i++) {
		unsigned d = (unsigned)((unsigned char)a.p[i]) - '0';

		if(d > 9)
			return CPM_EPROTO;
		if(over || v > (max - (d > max ? max : d)) / 10 || d > max)
			over = true;
		else
			v = v * 10 + d;
	}
	if(over)
		return CPM_ELIMIT;
	*v_r = v;
	return CPM_OK;
}

char *cpm_pl_cstr(struct cpm_pl a, char *dst, size_t cap)
{
	size_t n;

	if(cap == 0)
		return dst;
	n = a.n < cap - 1 ? a.n : cap - 1;
	if(n)
		memcpy(dst, a.p, n);
	dst[n] = '\0';
	return dst;
}

uint64_t cpm_hash64(uint64_t seed, struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++) {
		seed ^= (unsigned char)a.p[i];
		seed *= FNV_PRIME;
	}
	return seed;
}
