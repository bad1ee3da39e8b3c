/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_subs.c - what a SUBSCRIBE's headers say lies inside them and is
 * bounded; what is stored of a dialog is read as it was written; two summaries
 * are one, with one line that says whether something waits.
 */

#include <stdlib.h>

#include "cpm_subs.h"

#define INPUT_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static void check_headers(struct cpm_pl in)
{
	struct cpm_subs_event e;
	uint32_t s = 0;

	if(cpm_subs_event_parse(in, &e) == CPM_OK) {
		must(e.package.n > 0 && e.package.p >= in.p
				&& e.package.p + e.package.n <= in.p + in.n);
		must(e.id.n <= CPM_SUBS_ID_MAX);
		must(cpm_pl_ctl(e.package) == e.package.n);
	}
	(void)cpm_subs_accepts(in, CPM_PL_LIT("a/b"));
	if(cpm_subs_expires(in, 1800, &s) == CPM_OK)
		must(s == 0 || (s >= CPM_SUBS_MIN_S && s <= 1800));
}

/* Four texts, by lines. */
static void check_record(struct cpm_pl in)
{
	static char buf[CPM_SUBS_RECORD_MAX];
	struct cpm_subs_record a, b;
	struct cpm_wr w;
	int rc;

	a.event = cpm_pl_cut(&in, '\n');
	a.local = cpm_pl_cut(&in, '\n');
	a.remote = cpm_pl_cut(&in, '\n');
	a.routes = in;
	cpm_wr_init(&w, buf, sizeof(buf));
	rc = cpm_subs_record_put(&a, &w);
	if(rc != CPM_OK) {
		must(rc == CPM_EPROTO || rc == CPM_ELIMIT);
		return;
	}
	must(cpm_subs_record_read(cpm_wr_pl(&w), &b) == CPM_OK);
	must(cpm_pl_eq(a.event, b.event) && cpm_pl_eq(a.local, b.local)
			&& cpm_pl_eq(a.remote, b.remote) && cpm_pl_eq(a.routes, b.routes));
}

static void check_fields(struct cpm_pl in)
{
	static char buf[3 * CPM_SUBS_CALLID_MAX + 8];
	struct cpm_pl a = cpm_pl_cut(&in, '\n');
	struct cpm_pl b = cpm_pl_cut(&in, '\n');
	struct cpm_pl c = in;
	struct cpm_pl x, y, z;
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	if(cpm_subs_fields_put(a, b, c, CPM_SUBS_CALLID_MAX, &w) != CPM_OK)
		return;
	/* "-" is nothing */
	if(cpm_subs_fields_read(cpm_wr_pl(&w), &x, &y, &z) != CPM_OK) {
		must(cpm_pl_eq(a, CPM_PL_LIT("-")));
		return;
	}
	must(cpm_pl_eq(a, x));
	must(cpm_pl_eq(b, y) || cpm_pl_eq(b, CPM_PL_LIT("-")));
	must(cpm_pl_eq(c, z) || cpm_pl_eq(c, CPM_PL_LIT("-")));
}

static void check_merge(struct cpm_pl in)
{
	static char buf[2 * INPUT_MAX + 256];
	struct cpm_pl ours = CPM_PL_LIT("Messages-Waiting: no\r\n"
									"Message-Account: sip:b@x\r\n"
									"pager-message: 0/0 (0/0)\r\n");
	struct cpm_pl rest, line;
	struct cpm_wr w;
	size_t n = 0;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_subs_summary_merge(ours, in, &w);
	must(cpm_wr_ok(&w));
	rest = cpm_wr_pl(&w);
	must(cpm_pl_starts(rest, CPM_PL_LIT("Messages-Waiting: ")));
	while(rest.n > 0) {
		line = cpm_pl_cut(&rest, '\n');
		must(line.n > 1 && line.p[line.n - 1] == '\r');
		must(cpm_pl_ctl(cpm_pl(line.p, line.n - 1)) == line.n - 1);
		if(cpm_pl_istarts(line, CPM_PL_LIT("Messages-Waiting")))
			n++;
	}
	must(n >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);

	if(size > INPUT_MAX)
		return 0;
	check_headers(in);
	check_record(in);
	check_fields(in);
	check_merge(in);
	return 0;
}
