/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_cpim.c - all slices lie inside the input, the content is its end, and
 * what stands before the content decides alone.
 */

#include <stdlib.h>

#include "cpm_cpim.h"

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

static void check_slices(const struct cpm_cpim *c, struct cpm_pl in)
{
	const struct cpm_pl all[] = {c->from, c->to, c->datetime, c->subject,
			c->message_id, c->content_type, c->content_transfer_encoding,
			c->content_disposition};
	struct cpm_pl head = cpm_pl(in.p, in.n - c->content.n);

	must(c->content.n <= in.n);
	must(c->content.p + c->content.n == in.p + in.n);
	for(size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		must(is_inside(all[i], head));
		must(cpm_pl_eq(all[i], cpm_pl_trim(all[i])));
		must(cpm_pl_chr(all[i], '\0') == all[i].n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_cpim c, less;
	struct cpm_diag diag = {NULL, 0};

	if(cpm_cpim_parse(in, &c, &diag) != CPM_OK) {
		must(diag.why != NULL && diag.at <= size);
		return 0;
	}
	check_slices(&c, in);
	must(c.dispo < 16);
	must(c.is_imdn == cpm_ctype_is(c.content_type, "message/imdn+xml"));

	must(cpm_cpim_parse(cpm_pl(in.p, in.n - c.content.n), &less, NULL)
			== CPM_OK);
	must(less.content.n == 0 && cpm_pl_eq(less.from, c.from)
			&& cpm_pl_eq(less.message_id, c.message_id)
			&& less.dispo == c.dispo);
	must(cpm_cpim_parse(cpm_pl(in.p, in.n - c.content.n - 1), &less, NULL)
			== CPM_EPROTO);
	return 0;
}
