/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_str.h - between Kamailio's str and our slices. Nothing is copied.
 *
 * runs in:  any process
 * owns:     nothing
 */

#ifndef PF_STR_H
#define PF_STR_H

#include "core/cpm_base.h"

#include "../../core/parser/hf.h"
#include "../../core/str.h"

/* A str without text is the empty slice. */
static inline struct cpm_pl pf_pl(str s)
{
	return s.s != NULL && s.len > 0 ? cpm_pl(s.s, (size_t)s.len) : CPM_PL_NULL;
}

/* Lengths of ours are bounded far below INT_MAX. */
static inline str pf_str(struct cpm_pl a)
{
	str s = {(char *)a.p, (int)a.n};

	return s;
}

/* Whether a header has this name, in any case (RFC 3261, 7.3.1). */
static inline bool pf_is_named(const struct hdr_field *h, const char *name)
{
	return cpm_pl_ieq(pf_pl(h->name), cpm_pl_str(name));
}

#endif
