/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_utf8.h - bytes of a stranger as text.
 *
 * runs in:  anything; pure functions
 * owns:     nothing
 */

#ifndef CPM_UTF8_H
#define CPM_UTF8_H

#include "cpm_base.h"

/* Bytes of the character at a.p[i] (RFC 3629, 4), i < a.n; 0: there is none,
 * or it is NUL. */
size_t cpm_utf8_len(struct cpm_pl a, size_t i);

/* As much of it as fits into buf, without half a character; what is none, and
 * each control character, is '?'. *cut_r (may be NULL): something is missing. */
struct cpm_pl cpm_utf8_clean(
		struct cpm_pl a, char *buf, size_t cap, bool *cut_r);

#endif
