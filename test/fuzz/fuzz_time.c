/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_time.c - a date that is read, written and read again is the same.
 */

#include <stdlib.h>

#include "cpm_time.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static void check_sip(uint64_t sec)
{
	char buf[29];
	struct cpm_wr w;
	uint64_t again;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_time_put_sip(&w, sec);
	must(w.n == sizeof(buf));
	must(cpm_time_parse_sip(cpm_wr_pl(&w), &again) == CPM_OK);
	must(again == sec);
}

static void check_rfc3339(uint64_t ms)
{
	char buf[24];
	struct cpm_wr w;
	uint64_t again;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_time_put_rfc3339(&w, ms);
	must(w.n == sizeof(buf));
	must(cpm_time_parse_rfc3339(cpm_wr_pl(&w), &again) == CPM_OK);
	must(again == ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	uint64_t v;

	if(cpm_time_parse_sip(in, &v) == CPM_OK) {
		check_sip(v);
		check_rfc3339(v * 1000);
	}
	if(cpm_time_parse_rfc3339(in, &v) == CPM_OK) {
		check_rfc3339(v);
		check_sip(v / 1000);
	}
	if(size == sizeof(v)) {
		char buf[64];
		struct cpm_wr w;

		/* any number at all has a date, clamped or not */
		memcpy(&v, data, sizeof(v));
		cpm_wr_init(&w, buf, sizeof(buf));
		cpm_time_put_sip(&w, v);
		cpm_time_put_rfc3339(&w, v);
		must(w.n == 29 + 24);
	}
	return 0;
}
