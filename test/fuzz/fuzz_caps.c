/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_caps.c - all slices lie inside the input and have no quotes or
 * brackets left; case changes nothing; a parameter that means nothing, put in
 * front, changes nothing; what is refused is refused alone.
 */

#include <stdlib.h>

#include "cpm_caps.h"
#include "cpm_wr.h"

#define INPUT_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static bool is_inside(struct cpm_pl a, struct cpm_pl whole)
{
	return a.n == 0
		   || (a.p >= whole.p && a.n <= whole.n
				   && (size_t)(a.p - whole.p) <= whole.n - a.n);
}

static void check_value(struct cpm_pl a, struct cpm_pl in)
{
	must(is_inside(a, in));
	must(cpm_pl_eq(a, cpm_pl_trim(a)));
	must(a.n == 0 || a.p[0] != '"');
}

static bool same(const struct cpm_caps *a, const struct cpm_caps *b)
{
	return a->set == b->set && a->any_tag == b->any_tag
		   && cpm_pl_ieq(a->instance, b->instance)
		   && cpm_pl_ieq(a->pub_gruu, b->pub_gruu);
}

static size_t count(struct cpm_pl a, char c)
{
	size_t n = 0;

	for(size_t i = 0; i < a.n; i++)
		n += a.p[i] == c;
	return n;
}

static void check_upper(struct cpm_pl in, const struct cpm_caps *caps)
{
	char buf[INPUT_MAX];
	struct cpm_caps again;

	for(size_t i = 0; i < in.n; i++)
		buf[i] = in.p[i] >= 'a' && in.p[i] <= 'z' ? (char)(in.p[i] & ~0x20)
												  : in.p[i];
	cpm_caps_parse(cpm_pl(buf, in.n), &again);
	must(same(&again, caps));
}

static void check_more(struct cpm_pl in, const struct cpm_caps *caps)
{
	char buf[INPUT_MAX + 64];
	struct cpm_caps again;
	struct cpm_wr w;

	/* one more in front would push the last one past the bound */
	if(count(in, ';') >= 60)
		return;
	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_str(&w, ";x=\"\\\";+g.oma.sip-im\";");
	cpm_wr_pl_put(&w, in);
	cpm_caps_parse(cpm_wr_pl(&w), &again);
	must(same(&again, caps));

	/* behind an open quote, anything may be a part of the text */
	if(count(in, '"') > 0)
		return;
	cpm_wr_str(&w, ";+g.oma.sip-im;+sip.instance=\"<urn:uuid:f>\"");
	cpm_caps_parse(cpm_wr_pl(&w), &again);
	must(again.set == (caps->set | CPM_CAP_SIP_IM) && again.any_tag);
	must(cpm_pl_eq(again.pub_gruu, caps->pub_gruu));
	must(cpm_pl_eq(again.instance,
			caps->instance.n ? caps->instance : CPM_PL_LIT("urn:uuid:f")));
}

static void check_urns(struct cpm_pl in)
{
	struct cpm_pl rest = in;
	unsigned set = 0;

	if(count(in, ',') >= 64)
		return;
	while(rest.p)
		set |= cpm_caps_urns(cpm_pl_cut(&rest, ','));
	must(cpm_caps_urns(in) == set);
	must((set & (CPM_CAP_SIP_IM | CPM_CAP_PAGER_LARGE)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_caps caps;

	cpm_caps_parse(in, &caps);
	must(caps.set < 512 && (caps.set == 0 || caps.any_tag));
	check_value(caps.instance, in);
	check_value(caps.pub_gruu, in);
	if(size > INPUT_MAX)
		return 0;
	check_upper(in, &caps);
	check_more(in, &caps);
	check_urns(in);
	return 0;
}
