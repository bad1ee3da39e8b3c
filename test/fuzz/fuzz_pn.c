/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_pn.c - what a Contact says of push can be stored and read again, and a
 * job that is read is written as it was.
 */

#include <stdlib.h>

#include "cpm_pap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static void contact(struct cpm_pl in)
{
	char buf[CPM_PN_TEXT_MAX], field[CPM_PN_FIELD_MAX], value[CPM_PN_TEXT_MAX];
	struct cpm_pn_device d = {.seen_ms = in.n}, again;
	struct cpm_wr f, v;

	if(cpm_pn_of_uri(in, buf, sizeof(buf), &d.pn) != CPM_OK)
		return;
	d.instance = cpm_pn_instance(in);
	cpm_wr_init(&f, field, sizeof(field));
	cpm_wr_init(&v, value, sizeof(value));
	cpm_pn_field_put(&f, &d);
	cpm_pn_value_put(&v, &d);
	must(cpm_wr_ok(&f) && cpm_wr_ok(&v));
	must(cpm_pn_device_parse(cpm_wr_pl(&f), cpm_wr_pl(&v), &again) == CPM_OK);
	must(cpm_pl_eq(again.instance, d.instance));
	must(cpm_pn_eq(&again.pn, &d.pn) && again.seen_ms == d.seen_ms);
}

static void job(struct cpm_pl in)
{
	static char text[CPM_PN_JOB_MAX], twice[CPM_PN_JOB_MAX];
	static struct cpm_pn_job j;
	struct cpm_wr w, v;

	if(cpm_pn_job_decode(in, &j) != CPM_OK)
		return;
	cpm_wr_init(&w, text, sizeof(text));
	must(cpm_pn_job_encode(&j, &w) == CPM_OK);
	must(cpm_pn_job_decode(cpm_wr_pl(&w), &j) == CPM_OK);
	cpm_wr_init(&v, twice, sizeof(twice));
	must(cpm_pn_job_encode(&j, &v) == CPM_OK);
	must(cpm_pl_eq(cpm_wr_pl(&w), cpm_wr_pl(&v)));
}

/* Whatever somebody writes: the entities are two, and the JSON is one line. */
static void push(struct cpm_pl in)
{
	static char body[CPM_PAP_BODY_MAX];
	struct cpm_pap p = {.push_id = CPM_PL_LIT("1"),
			.host = CPM_PL_LIT("ppg"),
			.aor = CPM_PL_LIT("sip:bob@example.org"),
			.subject = in,
			.from = in,
			.fields = CPM_NOTIFY_ALL,
			.total = 1};
	struct cpm_pl all, line;
	struct cpm_wr w;
	size_t delimiters = 0, i;

	cpm_wr_init(&w, body, sizeof(body));
	must(cpm_pap_body(&p, CPM_PAP_XML, &w) == CPM_OK);
	for(all = cpm_wr_pl(&w); all.n > 0;) {
		line = cpm_pl_cut(&all, '\n');
		delimiters += cpm_pl_starts(line, CPM_PL_LIT("--"));
	}
	must(delimiters == 3);
	w.n = 0;
	must(cpm_pap_body(&p, CPM_PAP_JSON, &w) == CPM_OK);
	all = cpm_wr_pl(&w);
	for(i = 0; i < all.n; i++)
		must((unsigned char)all.p[i] >= 0x20 && all.p[i] != 0x7f);
	must(all.p[all.n - 1] == '}');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_pl host;

	contact(in);
	job(in);
	push(in);
	if(cpm_pap_url(in, &host) == CPM_OK)
		must(host.n > 0 && host.n <= CPM_PAP_HOST_MAX);
	return 0;
}
