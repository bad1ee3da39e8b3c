/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_wr.h - a bounded writer: appends to a caller's buffer, never past it.
 *
 * runs in:  anything; pure functions
 * owns:     nothing; the buffer is the caller's
 *
 * Overflow is sticky: write everything, then look once. After an overflow n
 * counts on, so that n is the size that would have been needed.
 */

#ifndef CPM_WR_H
#define CPM_WR_H

#include "cpm_base.h"

struct cpm_wr
{
	char *buf;
	size_t cap;
	size_t n; /* bytes written, or wanted */
};

void cpm_wr_init(struct cpm_wr *w, char *buf, size_t cap);
bool cpm_wr_ok(const struct cpm_wr *w);			 /* nothing was cut */
struct cpm_pl cpm_wr_pl(const struct cpm_wr *w); /* what was written */

void cpm_wr_pl_put(struct cpm_wr *w, struct cpm_pl a);
void cpm_wr_str(struct cpm_wr *w, const char *s);
void cpm_wr_chr(struct cpm_wr *w, char c);
void cpm_wr_u64(struct cpm_wr *w, uint64_t v);	 /* decimal */
void cpm_wr_hex64(struct cpm_wr *w, uint64_t v); /* 16 lower-case digits */

/* Big-endian binary. */
void cpm_wr_u8(struct cpm_wr *w, unsigned v);
void cpm_wr_be32(struct cpm_wr *w, uint32_t v);
void cpm_wr_be64(struct cpm_wr *w, uint64_t v);

#endif
