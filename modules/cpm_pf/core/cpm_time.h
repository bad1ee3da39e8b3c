/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_time.h - dates of SIP and JSON, without libc's clock or time zones.
 *
 * runs in:  anything; pure functions
 */

#ifndef CPM_TIME_H
#define CPM_TIME_H

#include "cpm_base.h"
#include "cpm_wr.h"

/* "Sat, 13 Nov 2010 23:29:00 GMT" (RFC 3261, 20.17), also without the comma's
 * space or with one-digit days. Seconds since 1970; years 1970..9999. The day
 * of the week need not be the right one; a leap second is the one before it.
 * CPM_OK; CPM_EPROTO. */
int cpm_time_parse_sip(struct cpm_pl a, uint64_t *sec_r);

/* Writes the same form, always 29 bytes; past the year 9999 its last second. */
void cpm_time_put_sip(struct cpm_wr *w, uint64_t sec);

/* "2010-11-13T23:29:00.123Z" (RFC 3339). */
void cpm_time_put_rfc3339(struct cpm_wr *w, uint64_t ms);

/* "2010-11-13T23:29:00[.frac](Z|+hh:mm|-hh:mm)", as in CPIM DateTime.
 * In UTC within 1970..9999; what is finer than a millisecond is dropped.
 * CPM_OK; CPM_EPROTO. */
int cpm_time_parse_rfc3339(struct cpm_pl a, uint64_t *ms_r);

#endif
