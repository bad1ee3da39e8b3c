/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_aor.c - a canonical AoR is safe, bounded, and its own canonical form.
 */

#include <stdlib.h>

#include "cpm_aor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static bool is_safe(struct cpm_pl aor)
{
	for(size_t i = 0; i < aor.n; i++)
		if(aor.p[i] <= ' ' || aor.p[i] > '~' || aor.p[i] == '{'
				|| aor.p[i] == '}')
			return false;
	return aor.n > 4 && aor.n <= CPM_AOR_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char first[CPM_AOR_MAX], second[CPM_AOR_MAX];
	struct cpm_pl aor, again, user, host;
	struct cpm_diag diag = {NULL, 0};

	if(cpm_aor_canon(cpm_pl((const char *)data, size), first, sizeof(first),
			   &aor, &diag)
			!= CPM_OK) {
		must(diag.why != NULL && diag.at <= size);
		return 0;
	}
	must(is_safe(aor));
	must(cpm_aor_canon(aor, second, sizeof(second), &again, NULL) == CPM_OK);
	must(cpm_pl_eq(aor, again));
	/* the buffer need not be larger than the result */
	must(cpm_aor_canon(aor, second, aor.n, &again, NULL) == CPM_OK);
	must(cpm_aor_canon(aor, second, aor.n - 1, &again, NULL) == CPM_ENOMEM);

	user = cpm_aor_user(aor);
	host = cpm_aor_host(aor);
	must(user.n > 0);
	must(cpm_pl_starts(aor, CPM_PL_LIT("tel:"))
					? 4 + user.n == aor.n && host.n == 0
					: host.n > 0 && 4 + user.n + 1 + host.n == aor.n);
	return 0;
}
