/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_msrp_uri.c - a path that is read is made of URIs that are equal to
 * themselves, also when they have been printed and read again.
 */

#include <stdlib.h>

#include "cpm_msrp_uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static void check_uri(const struct cpm_msrp_uri *u, struct cpm_pl in)
{
	char out[CPM_MSRP_URI_MAX + 8];
	struct cpm_msrp_uri again;
	struct cpm_wr w;

	must(u->text.n <= CPM_MSRP_URI_MAX && u->text.p >= in.p
			&& u->text.p + u->text.n <= in.p + in.n);
	must(u->host.n > 0 && u->transport.n > 0);
	cpm_wr_init(&w, out, sizeof(out));
	cpm_msrp_uri_put(&w, u);
	must(cpm_wr_ok(&w) && w.n <= u->text.n);
	must(cpm_msrp_uri_parse(cpm_wr_pl(&w), &again, NULL) == CPM_OK);
	must(cpm_msrp_uri_eq(u, &again) && cpm_msrp_uri_eq(&again, u));
	must(cpm_pl_eq(u->params, again.params));
	must(cpm_msrp_uri_same_session(u, &again) == (u->session_id.n > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_msrp_path path;
	struct cpm_diag diag = {NULL, 0};

	if(cpm_msrp_path_parse(in, &path, &diag) != CPM_OK) {
		must(diag.why != NULL && diag.at <= size);
		return 0;
	}
	must(path.n >= 1 && path.n <= CPM_MSRP_PATH_URIS);
	for(size_t i = 0; i < path.n; i++)
		check_uri(&path.uri[i], in);
	for(size_t i = 1; i < path.n; i++)
		must(cpm_msrp_uri_eq(&path.uri[0], &path.uri[i])
				== cpm_msrp_uri_eq(&path.uri[i], &path.uri[0]));
	must(cpm_msrp_path_eq(&path, &path));
	must(path.uri[path.n - 1].text.p == cpm_msrp_path_last(in).p);
	must(path.uri[0].text.p == cpm_msrp_path_first(in).p);
	return 0;
}
