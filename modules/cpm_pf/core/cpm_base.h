/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_base.h - slices, results and the few helpers that all of ring 0 uses.
 *
 * runs in:  anything; pure functions
 * owns:     nothing; a slice borrows, copy the bytes to keep them
 * never:    allocates, logs, reads a clock
 */

#ifndef CPM_BASE_H
#define CPM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* One list of results for the whole project. Parsers return the number of
 * bytes consumed (>= 0) or one of these. Out parameters (_r) stay untouched
 * when a function fails. */
enum cpm_rc
{
	CPM_OK = 0,
	CPM_EAGAIN = -1, /* not yet: more input, or later */
	CPM_EPROTO = -2, /* the peer broke its protocol, or the input its grammar */
	CPM_ELIMIT = -3, /* a bound of ours would be exceeded */
	CPM_ENOMEM = -4, /* no memory, or the caller's buffer is too small */
	CPM_ENOENT = -5, /* there is no such thing */
	CPM_EEXIST = -6, /* it is there already */
	CPM_EDOWN = -7,	 /* the store cannot be reached; nothing was written */
	CPM_EUNSURE = -8, /* sent, but the answer was lost: written, or not */
};

/* "OK", "EAGAIN", ...; "?" for a number that is none of the list. */
const char *cpm_rc_name(int rc);

/* A borrowed run of bytes: pointer and length. p may be NULL when n is 0. */
struct cpm_pl
{
	const char *p;
	size_t n;
};

/* What was wrong, as a stable word ("no-user"), and where (byte offset). The
 * word is the same in log, counter, RPC, HTTP and test. */
struct cpm_diag
{
	const char *why;
	size_t at;
};

#define CPM_PL_LIT(s) ((struct cpm_pl){(s), sizeof(s) - 1})
#define CPM_PL_NULL ((struct cpm_pl){NULL, 0})

static inline struct cpm_pl cpm_pl(const char *p, size_t n)
{
	return (struct cpm_pl){p, n};
}

/* From a NUL-terminated string; NULL gives the empty slice. */
struct cpm_pl cpm_pl_str(const char *s);

bool cpm_pl_eq(struct cpm_pl a, struct cpm_pl b);  /* byte by byte */
bool cpm_pl_ieq(struct cpm_pl a, struct cpm_pl b); /* ASCII, without case */
int cpm_pl_cmp(struct cpm_pl a, struct cpm_pl b);  /* as memcmp, then length */
bool cpm_pl_starts(struct cpm_pl a, struct cpm_pl prefix);
bool cpm_pl_istarts(struct cpm_pl a, struct cpm_pl prefix);

/* Without the SP, HT, CR and LF at either end. */
struct cpm_pl cpm_pl_trim(struct cpm_pl a);

/* The bytes of a from offset i on; empty when i is past the end. */
struct cpm_pl cpm_pl_from(struct cpm_pl a, size_t i);

/* Offset of the first c, or a.n. */
size_t cpm_pl_chr(struct cpm_pl a, char c);

/* Offset of the first control character but HT, which no header, no line of
 * SDP and no MSRP header may hold; or a.n. */
size_t cpm_pl_ctl(struct cpm_pl a);

/* Of a hexadecimal digit in either case; -1: it is none. */
int cpm_hex_value(char c);

/* Cuts *rest at the first c: returns what is before it, and moves *rest
 * behind it. With no c: returns all, and *rest becomes empty with p NULL. */
struct cpm_pl cpm_pl_cut(struct cpm_pl *rest, char c);

/* Decimal digits only, the whole slice, at most max.
 * CPM_OK; CPM_EPROTO: empty or not a number; CPM_ELIMIT: larger than max. */
int cpm_pl_u64(struct cpm_pl a, uint64_t max, uint64_t *v_r);

/* Copies into a NUL-terminated buffer, cut at cap - 1 bytes. Returns dst. */
char *cpm_pl_cstr(struct cpm_pl a, char *dst, size_t cap);

/* FNV-1a, 64 bits; seed with CPM_HASH_INIT, chain for several slices. Not
 * for adversaries: used where a collision costs nothing but speed. */
#define CPM_HASH_INIT UINT64_C(0xcbf29ce484222325)
uint64_t cpm_hash64(uint64_t seed, struct cpm_pl a);

#endif
