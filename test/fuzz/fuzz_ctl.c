/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_ctl.c - what can be read can be said again, in the same bytes.
 */

#include <stdlib.h>

#include "cpm_ctl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char buf[CPM_CTL_MAX];
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_diag diag = {NULL, 0};
	struct cpm_ctl m;
	struct cpm_wr w;

	if(cpm_ctl_get(in, &m, &diag) != CPM_OK) {
		must(diag.why != NULL);
		return 0;
	}
	must(size <= CPM_CTL_MAX && m.session != 0);
	must(m.a.n <= CPM_CTL_TEXT && m.data.n <= CPM_CTL_DATA);
	must(cpm_ctl_name(m.kind)[0] != '?');
	cpm_wr_init(&w, buf, sizeof(buf));
	must(cpm_ctl_put(&w, &m, NULL) == CPM_OK);
	must(cpm_pl_eq(cpm_wr_pl(&w), in));
	return 0;
}
