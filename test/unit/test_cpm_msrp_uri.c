/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_msrp_uri.c - MSRP URIs and paths, as stacks really write them.
 */

#include <stdio.h>

#include "check_helpers.h"
#include "cpm_msrp_uri.h"

static int parse(const char *text, struct cpm_msrp_uri *u, const char **why)
{
	struct cpm_diag diag = {NULL, 0};
	char *in = guard_dup(text, strlen(text));
	int rc = cpm_msrp_uri_parse(cpm_pl(in, strlen(text)), u, &diag);

	if(rc == CPM_OK) /* again, for slices that outlive this call */
		rc = cpm_msrp_uri_parse(cpm_pl_str(text), u, NULL);
	else
		ck_assert_uint_le(diag.at, strlen(text));
	if(why)
		*why = diag.why;
	guard_free(in, strlen(text));
	return rc;
}

/* ---- good ones ---- */

static const struct
{
	const char *text, *user, *host;
	unsigned port;
	const char *id, *transport, *params;
	bool is_secure, is_ipv6;
} good[] = {
		{"msrp://atlanta.example.com:7654/jshA7weztas;tcp", "",
				"atlanta.example.com", 7654, "jshA7weztas", "tcp", "", false,
				false},
		{"MSRPS://alice@intra.example.com;tcp", "alice", "intra.example.com", 0,
				"", "tcp", "", true, false},
		{"msrp://[2001:db8::1]:2855/s;tcp", "", "2001:db8::1", 2855, "s", "tcp",
				"", false, true},
		{"msrp://[::ffff:192.0.2.1]/s;tcp", "", "::ffff:192.0.2.1", 0, "s",
				"tcp", "", false, true},
		{"msrp://192.0.2.7:65535/a/b=/+c==;tcp;x=1;y", "", "192.0.2.7", 65535,
				"a/b=/+c==", "tcp", ";x=1;y", false, false},
		{"msrp://u:p@x@h:1/a@b:c%20;sctp", "u:p@x", "h", 1, "a@b:c%20", "sctp",
				"", false, false},
		{"msrp://h:1/;tcp", "", "h", 1, "", "tcp", "", false, false},
};

START_TEST(good_uri)
{
	struct cpm_msrp_uri u;

	ck_assert_int_eq(parse(good[_i].text, &u, NULL), CPM_OK);
	ck_pl_eq(u.text, good[_i].text);
	ck_pl_eq(u.user, good[_i].user);
	ck_pl_eq(u.host, good[_i].host);
	ck_assert_uint_eq(u.port, good[_i].port);
	ck_pl_eq(u.session_id, good[_i].id);
	ck_pl_eq(u.transport, good[_i].transport);
	ck_pl_eq(u.params, good[_i].params);
	ck_assert(u.is_secure == good[_i].is_secure);
	ck_assert(u.is_ipv6 == good[_i].is_ipv6);
}
END_TEST

static int trip(struct cpm_pl in, struct cpm_wr *w)
{
	struct cpm_msrp_uri u;
	int rc = cpm_msrp_uri_parse(in, &u, NULL);

	if(rc == CPM_OK)
		cpm_msrp_uri_put(w, &u);
	return rc;
}

START_TEST(printed)
{
	round_trip(trip, cpm_pl_str(good[_i].text), CPM_PL_NULL);
}
END_TEST

/* ---- bad ones ---- */

static const struct
{
	const char *text;
	int rc;
	const char *why;
} bad[] = {
		{"", CPM_EPROTO, "no-scheme"},
		{"sip:bob@h", CPM_EPROTO, "no-scheme"},
		{"msrp:/h/s;tcp", CPM_EPROTO, "no-scheme"},
		{"msrp:///s;tcp", CPM_EPROTO, "no-host"},
		{"msrp://", CPM_EPROTO, "no-host"},
		{"msrp://u@:1/s;tcp", CPM_EPROTO, "no-host"},
		{"msrp://h_%x/s;tcp", CPM_EPROTO, "bad-host"},
		{"msrp://[::1/s;tcp", CPM_EPROTO, "bad-host"},
		{"msrp://[1:2]/s;tcp", CPM_EPROTO, "bad-host"},
		{"msrp://[1:2:3:4:5:6:7:8:9]/s;tcp", CPM_EPROTO, "bad-host"},
		{"msrp://[1::2::3]/s;tcp", CPM_EPROTO, "bad-host"},
		{"msrp://[::1.2.3.4:5]/s;tcp", CPM_EPROTO, "bad-host"},
		{"msrp://[1.2.3.4::]/s;tcp", CPM_EPROTO, "bad-host"},
		{"msrp://[::1]x/s;tcp", CPM_EPROTO, "bad-host"},
		{"msrp://h:0/s;tcp", CPM_EPROTO, "bad-port"},
		{"msrp://h:/s;tcp", CPM_EPROTO, "bad-port"},
		{"msrp://h:65536/s;tcp", CPM_EPROTO, "bad-port"},
		{"msrp://h:1/s", CPM_EPROTO, "no-transport"},
		{"msrp://h:1/s;", CPM_EPROTO, "no-transport"},
		{"msrp://h:1/s;t-p", CPM_EPROTO, "no-transport"},
		{"msrp://h:1/s;tcp;", CPM_EPROTO, "bad-param"},
		{"msrp://h:1/s;tcp;x=", CPM_EPROTO, "bad-param"},
		{"msrp://h:1/<s>;tcp", CPM_EPROTO, "bad-session-id"},
		{"msrp://h:1/s\r\nX;tcp", CPM_EPROTO, "bad-byte"},
		{"msrp://h:1/s\xc3\xa9;tcp", CPM_EPROTO, "bad-byte"},
};

START_TEST(bad_uri)
{
	struct cpm_msrp_uri u, before;
	const char *why;

	memset(&u, 0x5a, sizeof(u));
	before = u;
	ck_assert_int_eq(parse(bad[_i].text, &u, &why), bad[_i].rc);
	ck_assert_str_eq(why, bad[_i].why);
	ck_assert_mem_eq(&u, &before, sizeof(u));
}
END_TEST

START_TEST(long_uri)
{
	char text[CPM_MSRP_URI_MAX + 2];
	struct cpm_msrp_uri u;
	const char *why;
	int n;

	n = snprintf(
			text, sizeof(text), "msrp://h/%0*d;tcp", CPM_MSRP_URI_MAX - 13, 0);
	ck_assert_int_eq(n, CPM_MSRP_URI_MAX);
	ck_assert_int_eq(parse(text, &u, NULL), CPM_OK);
	snprintf(text, sizeof(text), "msrp://h/%0*d;tcp", CPM_MSRP_URI_MAX - 12, 0);
	ck_assert_int_eq(parse(text, &u, &why), CPM_ELIMIT);
	ck_assert_str_eq(why, "uri-too-long");
}
END_TEST

static void check_prefix(struct cpm_pl prefix, void *arg)
{
	struct cpm_msrp_uri u;

	(void)arg;
	if(cpm_msrp_uri_parse(prefix, &u, NULL) == CPM_OK)
		ck_assert(fu_pl_inside(u.params, prefix)
				  && fu_pl_inside(u.session_id, prefix));
}

START_TEST(cut_uri)
{
	guard_prefixes(cpm_pl_str(good[_i].text), check_prefix, NULL);
}
END_TEST

/* ---- comparing: RFC 4975, 6.1 ---- */

static const struct
{
	const char *a, *b;
	bool is_equal, is_same_session;
} pairs[] = {
		{"msrp://Host.Example.com:8145/asfd34;tcp",
				"MSRP://host.example.COM:8145/asfd34;TCP", true, true},
		{"msrp://u@h:1/s;tcp", "msrp://v@h:1/s;tcp;x=y", true, true},
		{"msrp://h/s;tcp", "msrp://h:2855/s;tcp", false, true},
		{"msrp://h:1/s;tcp", "msrps://h:1/s;tcp", false, true},
		{"msrp://h:1/s;tcp", "msrp://h:1/S;tcp", false, false},
		{"msrp://h:1/s;tcp", "msrp://h:1/s;sctp", false, true},
		{"msrp://h:1/s;tcp", "msrp://h:1;tcp", false, false},
		{"msrp://h:1;tcp", "msrp://h:1;tcp", true, false},
		{"msrp://a:1/s;tcp", "msrp://b:1/s;tcp", false, true},
		{"msrp://h:1/%61%2Fb;tcp", "msrp://h:1/a%2fb;tcp", true, true},
		{"msrp://h:1/a/b;tcp", "msrp://h:1/a%2fb;tcp", false, false},
		{"msrp://h:1/a%;tcp", "msrp://h:1/a%;tcp", true, true},
		{"msrp://[2001:DB8::1]:1/s;tcp",
				"msrp://[2001:db8:0:0:0:0:0:1]:1/s;tcp", true, true},
		{"msrp://[::1.2.3.4]:1/s;tcp", "msrp://[::102:304]:1/s;tcp", true,
				true},
		{"msrp://[::1]:1/s;tcp", "msrp://[1::]:1/s;tcp", false, true},
};

START_TEST(compared)
{
	struct cpm_msrp_uri a, b;

	ck_assert_int_eq(parse(pairs[_i].a, &a, NULL), CPM_OK);
	ck_assert_int_eq(parse(pairs[_i].b, &b, NULL), CPM_OK);
	ck_assert(cpm_msrp_uri_eq(&a, &b) == pairs[_i].is_equal);
	ck_assert(cpm_msrp_uri_eq(&b, &a) == pairs[_i].is_equal);
	ck_assert(cpm_msrp_uri_same_session(&a, &b) == pairs[_i].is_same_session);
	ck_assert(cpm_msrp_uri_eq(&a, &a) && cpm_msrp_uri_eq(&b, &b));
}
END_TEST

/* ---- paths ---- */

START_TEST(path_of_relays)
{
	const char *text = "msrps://a.example.com:9000/j;tcp  "
					   "msrps://b.example.com:9000/k;tcp msrp://h:7/l;tcp";
	struct cpm_msrp_path p, q;

	ck_assert_int_eq(cpm_msrp_path_parse(cpm_pl_str(text), &p, NULL), CPM_OK);
	ck_assert_uint_eq(p.n, 3);
	ck_pl_eq(p.uri[1].session_id, "k");
	ck_pl_eq(cpm_msrp_path_first(cpm_pl_str(text)),
			"msrps://a.example.com:9000/j;tcp");
	ck_pl_eq(cpm_msrp_path_last(cpm_pl_str(text)), "msrp://h:7/l;tcp");
	q = p;
	ck_assert(cpm_msrp_path_eq(&p, &q));
	q.n = 2;
	ck_assert(!cpm_msrp_path_eq(&p, &q));
}
END_TEST

START_TEST(path_limits)
{
	char text[1024] = "";
	struct cpm_msrp_path p;
	struct cpm_diag diag = {NULL, 0};
	struct cpm_wr w;

	ck_assert_int_eq(
			cpm_msrp_path_parse(CPM_PL_LIT("  "), &p, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, "no-uri");
	ck_assert_int_eq(
			cpm_msrp_path_parse(CPM_PL_LIT("msrp://h:1/s;tcp x"), &p, &diag),
			CPM_EPROTO);
	ck_assert_str_eq(diag.why, "no-scheme");
	ck_assert_uint_eq(diag.at, 17);
	cpm_wr_init(&w, text, sizeof(text));
	for(int i = 0; i < CPM_MSRP_PATH_URIS; i++)
		cpm_wr_str(&w, "msrp://h:1/s;tcp ");
	ck_assert_int_eq(cpm_msrp_path_parse(cpm_wr_pl(&w), &p, NULL), CPM_OK);
	ck_assert_uint_eq(p.n, CPM_MSRP_PATH_URIS);
	cpm_wr_str(&w, "msrp://h:1/s;tcp");
	ck_assert_int_eq(cpm_msrp_path_parse(cpm_wr_pl(&w), &p, &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-many-uris");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_msrp_uri");

	fu_table(s, "a URI is taken apart", good_uri, FU_N(good));
	fu_table(s, "a URI is printed as it was", printed, FU_N(good));
	fu_table(s, "what is no URI is told by a word", bad_uri, FU_N(bad));
	fu_case(s, "a URI may be long, but not longer", long_uri);
	fu_table(s, "a URI is read up to its end only", cut_uri, FU_N(good));
	fu_table(s, "URIs are compared by RFC 4975, 6.1", compared, FU_N(pairs));
	fu_case(s, "a path has relays before the endpoint", path_of_relays);
	fu_case(s, "a path has one to eight URIs", path_limits);
	return fu_run(s);
}
