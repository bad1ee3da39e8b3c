/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_ulname.h"

#include "cpm_wr.h"

int cpm_ulname_from_aor(struct cpm_pl aor, bool use_domain, char *buf,
		size_t cap, struct cpm_pl *name_r)
{
	struct cpm_pl user = cpm_aor_user(aor);
	struct cpm_pl host = cpm_aor_host(aor);
	struct cpm_wr w;
	size_t i;

	if(host.n == 0) {
		return CPM_ENOENT;
	}
	cpm_wr_init(&w, buf, cap);
	for(i = 0; i < user.n; i++) {
		if(user.p[i] == '%' && i + 2 < user.n
				&& cpm_hex_value(user.p[i + 1]) >= 0
				&& cpm_hex_value(user.p[i + 2]) >= 0) {
			cpm_wr_chr(&w, (char)(cpm_hex_value(user.p[i + 1]) * 16
								   + cpm_hex_value(user.p[i + 2])));
			i += 2;
		} else {
			cpm_wr_chr(&w, user.p[i]);
		}
	}
	if(use_domain) {
		cpm_wr_chr(&w, '@');
		cpm_wr_pl_put(&w, host);
	}
	if(!cpm_wr_ok(&w)) {
		return CPM_ENOMEM;
	}
	*name_r = cpm_wr_pl(&w);
	return CPM_OK;
}

/* What may stand in a user part unescaped (RFC 3261, 25.1: unreserved and
 * user-unreserved). */
static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
		   || (c >= '0' && c <= '9')
		   || (c != '\0' && strchr("-_.!~*'()&=+$,;?/", c) != NULL);
}

int cpm_ulname_to_aor(struct cpm_pl name, bool use_domain, struct cpm_pl domain,
		char *buf, size_t cap, struct cpm_pl *aor_r)
{
	static const char digits[] = "0123456789ABCDEF";
	char uri[3 * CPM_AOR_MAX + 8];
	struct cpm_pl user = name;
	struct cpm_wr w;
	size_t i, at;

	if(use_domain) {
		/* the last '@': one in the user part has lost its escape */
		for(at = name.n; at > 0 && name.p[at - 1] != '@'; at--)
			;
		user = cpm_pl(name.p, at > 0 ? at - 1 : name.n);
		domain = at > 0 ? cpm_pl_from(name, at) : CPM_PL_NULL;
	}
	cpm_wr_init(&w, uri, sizeof(uri));
	cpm_wr_str(&w, "sip:");
	for(i = 0; i < user.n; i++) {
		if(is_plain(user.p[i])) {
			cpm_wr_chr(&w, user.p[i]);
		} else {
			cpm_wr_chr(&w, '%');
			cpm_wr_chr(&w, digits[((unsigned char)user.p[i]) >> 4]);
			cpm_wr_chr(&w, digits[((unsigned char)user.p[i]) & 15]);
		}
	}
	cpm_wr_chr(&w, '@');
	cpm_wr_pl_put(&w, domain);
	if(!cpm_wr_ok(&w)) {
		return CPM_ELIMIT;
	}
	return cpm_aor_canon(cpm_wr_pl(&w), buf, cap, aor_r, NULL);
}
