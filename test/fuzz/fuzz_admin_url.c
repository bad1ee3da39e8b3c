/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_admin_url.c - what anybody may write into a request of the admin
 * endpoint: path, names, cursor, Host, Origin.
 *
 * Holds that a path means one thing: what matched is, written as it was cut,
 * the path again; what was unescaped and escaped again is unescaped the same;
 * a cursor is what is made of it; no host but this one is loopback.
 */

#include <stdlib.h>

#include "cpm_wr.h"
#include "worker/admin_url.h"

#define SIZE_MAX_ 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if(!ok)
		abort();
}

static bool is_within(struct cpm_pl a, struct cpm_pl whole)
{
	return a.n == 0 || (a.p >= whole.p && a.p + a.n <= whole.p + whole.n);
}

/* As a client may write it that escapes everything. */
static void escape(struct cpm_wr *w, struct cpm_pl a)
{
	static const char digits[] = "0123456789abcdef";

	for(size_t i = 0; i < a.n; i++) {
		unsigned char c = (unsigned char)a.p[i];
		cpm_wr_chr(w, '%');
		cpm_wr_chr(w, digits[c >> 4]);
		cpm_wr_chr(w, digits[c & 15]);
	}
}

static void names(struct cpm_pl in)
{
	static char once[SIZE_MAX_], again[3 * SIZE_MAX_], back[SIZE_MAX_];
	struct cpm_pl name, same;
	struct cpm_wr w, we, wb;

	cpm_wr_init(&w, once, sizeof(once));
	int rc = admin_url_unescape(in, &w, &name);
	must(rc == CPM_OK || rc == CPM_EPROTO || rc == CPM_ENOMEM);
	if(rc != CPM_OK)
		return;
	must(name.n <= in.n);
	must(name.n == 0 || memchr(name.p, 0, name.n) == NULL);
	if(cpm_pl_chr(in, '%') == in.n)
		must(cpm_pl_eq(name, in));
	cpm_wr_init(&we, again, sizeof(again));
	escape(&we, name);
	cpm_wr_init(&wb, back, sizeof(back));
	must(admin_url_unescape(cpm_wr_pl(&we), &wb, &same) == CPM_OK);
	must(cpm_pl_eq(same, name));
	/* no room is said to be none, whatever the end of it holds */
	if(name.n > 1) {
		cpm_wr_init(&wb, back, name.n - 1);
		must(admin_url_unescape(in, &wb, &same) == CPM_ENOMEM);
	}
}

static const char *const patterns[] = {
		"/v1/queues",
		"/v1/queues/{user}",
		"/v1/queues/{user}/flush",
		"/v1/queues/{user}/messages",
		"/v1/queues/{user}/messages/{id}",
		"/v1/queues/{user}/messages/{id}/requeue",
		"/v1/jobs/{kind}/{user}/{id}/requeue",
};

static void path(struct cpm_pl in)
{
	static char text[SIZE_MAX_ + 64];
	unsigned matched = 0;

	for(size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		struct admin_url_vars v = {CPM_PL_NULL, CPM_PL_NULL, CPM_PL_NULL};
		struct cpm_pl rest = cpm_pl_str(patterns[i]);
		struct cpm_wr w;
		if(!admin_url_match(patterns[i], in, &v))
			continue;
		matched++;
		must(is_within(v.user, in) && is_within(v.id, in)
				&& is_within(v.kind, in));
		cpm_wr_init(&w, text, sizeof(text));
		while(rest.p != NULL) {
			struct cpm_pl part = cpm_pl_cut(&rest, '/');
			struct cpm_pl was = cpm_pl_eq(part, CPM_PL_LIT("{user}"))	? v.user
								: cpm_pl_eq(part, CPM_PL_LIT("{id}"))	? v.id
								: cpm_pl_eq(part, CPM_PL_LIT("{kind}")) ? v.kind
																		: part;
			must(was.n > 0 || part.n == 0);
			must(cpm_pl_chr(was, '/') == was.n);
			cpm_wr_pl_put(&w, was);
			if(rest.p != NULL)
				cpm_wr_chr(&w, '/');
		}
		must(cpm_wr_ok(&w) && cpm_pl_eq(cpm_wr_pl(&w), in));
	}
	must(matched <= 1);
}

static void cursor(struct cpm_pl in)
{
	static char plain[SIZE_MAX_], text[2 * SIZE_MAX_];
	struct cpm_pl out;
	struct cpm_wr w;

	if(admin_base64url_get(in, plain, sizeof(plain), &out) == CPM_OK) {
		/* one spelling only */
		cpm_wr_init(&w, text, sizeof(text));
		admin_base64url_put(&w, out);
		must(cpm_wr_ok(&w) && cpm_pl_eq(cpm_wr_pl(&w), in));
	}
	cpm_wr_init(&w, text, sizeof(text));
	admin_base64url_put(&w, in);
	must(cpm_wr_ok(&w) && w.n <= ADMIN_BASE64_LEN(in.n));
	must(admin_base64url_get(cpm_wr_pl(&w), plain, sizeof(plain), &out)
			== CPM_OK);
	must(cpm_pl_eq(out, in));
}

static void site(struct cpm_pl in)
{
	struct cpm_pl origin = in;
	struct cpm_pl host = cpm_pl_cut(&origin, '\n');

	if(admin_host_is_loopback(host)) {
		must(cpm_pl_istarts(host, CPM_PL_LIT("localhost"))
				|| cpm_pl_starts(host, CPM_PL_LIT("127."))
				|| cpm_pl_starts(host, CPM_PL_LIT("[::1]")));
		for(size_t i = 0; i < host.n; i++)
			must(host.p[i] > ' ' && host.p[i] != '@' && host.p[i] != '/');
	}
	if(admin_origin_is(origin, host))
		must(host.n > 0 && origin.n >= host.n + 7
				&& cpm_pl_ieq(cpm_pl_from(origin, origin.n - host.n), host));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);

	if(size > SIZE_MAX_)
		return 0;
	names(in);
	path(in);
	cursor(in);
	site(in);
	return 0;
}
