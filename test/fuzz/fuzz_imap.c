/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_imap.c - a stream of responses is cut the same whatever comes behind
 * it; nothing points outside of it; a prefix of a response is waited for or
 * refused, never taken for another response of the same length.
 */

#include <stdlib.h>

#include "cpm_imap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static void inside(struct cpm_pl a, struct cpm_pl whole)
{
	must(a.n == 0
			|| (a.p >= whole.p && a.n <= whole.n
					&& (size_t)(a.p - whole.p) <= whole.n - a.n));
}

static void check(struct cpm_pl in, const struct cpm_imap_reply *r)
{
	struct cpm_pl lit;
	uint32_t n[4];
	char delim = 'x';

	inside(r->tag, in);
	inside(r->word, in);
	inside(r->code, in);
	inside(r->rest, in);
	if(cpm_imap_literal(r, &lit))
		inside(lit, r->rest);
	must(cpm_imap_search(r, n, 4) <= 4);
	if(cpm_imap_list_delim(r, &delim) == CPM_OK)
		must(delim == '\0' || (delim > ' ' && delim <= '~'));
	(void)cpm_imap_has_code(r, "TRYCREATE");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_imap_reply r, again;

	while(in.n > 0) {
		int n = cpm_imap_next(in, &r);
		if(n <= 0)
			break;
		must((size_t)n <= in.n && n <= CPM_IMAP_REPLY_MAX + 2);
		check(in, &r);
		must(cpm_imap_next(cpm_pl(in.p, (size_t)n), &again) == n);
		must(again.kind == r.kind && cpm_pl_eq(again.rest, r.rest));
		must(cpm_imap_next(cpm_pl(in.p, (size_t)n - 1), &again) < 0);
		in = cpm_pl_from(in, (size_t)n);
	}
	return 0;
}
