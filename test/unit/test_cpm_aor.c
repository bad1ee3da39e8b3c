/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_aor.c - the canonical address of record.
 */

#include "check_helpers.h"
#include "cpm_aor.h"

#include <stdio.h>

/* Canonicalises a guarded copy of uri into a guarded buffer. */
static int canon(struct cpm_pl uri, char *out, struct cpm_pl *aor_r,
		struct cpm_diag *diag)
{
	char *in = guard_dup(uri.p, uri.n);
	char *buf = guard_dup(out, CPM_AOR_MAX);
	struct cpm_pl aor = CPM_PL_LIT("untouched");
	int rc = cpm_aor_canon(cpm_pl(in, uri.n), buf, CPM_AOR_MAX, &aor, diag);

	if(rc == CPM_OK) {
		ck_assert_ptr_eq(aor.p, buf);
		memcpy(out, aor.p, aor.n);
		*aor_r = cpm_pl(out, aor.n);
	} else
		ck_pl_eq(aor, "untouched");
	guard_free(in, uri.n);
	guard_free(buf, CPM_AOR_MAX);
	return rc;
}

static int trip(struct cpm_pl in, struct cpm_wr *w)
{
	char out[CPM_AOR_MAX];
	struct cpm_pl aor;
	int rc = canon(in, out, &aor, NULL);

	if(rc == CPM_OK)
		cpm_wr_pl_put(w, aor);
	return rc;
}

/* ---- accepted ---- */

static const struct
{
	const char *uri, *aor;
} good[] = {
		{"sip:bob@example.org", "sip:bob@example.org"},
		{"SIP:bob@EXAMPLE.org", "sip:bob@example.org"},
		{"sips:bob@example.org", "sip:bob@example.org"},
		{"im:bob@example.org", "sip:bob@example.org"},
		{"Pres:bob@example.org", "sip:bob@example.org"},
		{"sip:bob@example.org:5060;transport=tcp?X=y", "sip:bob@example.org"},
		{"sip:bob@example.org:0", "sip:bob@example.org"},
		{"sip:bob@example.org:65535", "sip:bob@example.org"},
		{"sip:bob@example.org?Subject=a:b", "sip:bob@example.org"},
		{"sip:bob@example.org;lr;x=[::1]:5", "sip:bob@example.org"},
		{"sip:bob@example.org.", "sip:bob@example.org"},
		{"sip:bob@example.org.:5060", "sip:bob@example.org"},
		{"sip:Bob@example.org", "sip:Bob@example.org"},
		{"sip:bob:secret@example.org", "sip:bob@example.org"},
		{"sip:bob:@example.org", "sip:bob@example.org"},
		{"sip:bob:a:b%40@example.org", "sip:bob@example.org"},
		{"sip:%62ob@example.org", "sip:bob@example.org"},
		{"sip:%42%4f%4F@example.org", "sip:BOO@example.org"},
		{"sip:%2b1555@example.org", "sip:+1555@example.org"},
		{"sip:a%26b%3Bc@example.org", "sip:a&b;c@example.org"},
		{"sip:a%3fb%2Fc@example.org", "sip:a?b/c@example.org"},
		{"sip:a%40b@example.org", "sip:a%40b@example.org"},
		{"sip:a%3ab@example.org", "sip:a%3Ab@example.org"},
		{"sip:a%3Ab@example.org", "sip:a%3Ab@example.org"},
		{"sip:a%7bb%7d@example.org", "sip:a%7Bb%7D@example.org"},
		{"sip:a%00b@example.org", "sip:a%00b@example.org"},
		{"sip:a%20b@example.org", "sip:a%20b@example.org"},
		{"sip:a%25%36%32@example.org", "sip:a%2562@example.org"},
		{"sip:%c3%a9@example.org", "sip:%C3%A9@example.org"},
		{"sip:*31%2312@example.org", "sip:*31%2312@example.org"},
		{"sip:-_.!~*'()&=+$,;?/@h", "sip:-_.!~*'()&=+$,;?/@h"},
		{"sip:+1;phone-context=x@example.org;user=phone",
				"sip:+1;phone-context=x@example.org"},
		{"sip:bob@192.0.2.7:5070", "sip:bob@192.0.2.7"},
		{"sip:bob@[2001:DB8::1]", "sip:bob@[2001:db8::1]"},
		{"sip:bob@[::ffff:192.0.2.7]:5060;x", "sip:bob@[::ffff:192.0.2.7]"},
		{"sip:bob@a-b_c.d", "sip:bob@a-b_c.d"},
		{"sip:bob@localhost", "sip:bob@localhost"},
		{"tel:+15551234567", "tel:+15551234567"},
		{"TEL:+1-(555).123-4567", "tel:+15551234567"},
		{"tel:+1555;ext=12;isub=4", "tel:+1555"},
		{"tel:+1555;phone-context=example.org", "tel:+1555"},
		{"tel:7042", "tel:7042"},
		{"tel:70-42;ext=1", "tel:7042"},
		{"tel:*21#A1d", "tel:*21#a1d"},
		{"tel:7042;Phone-Context=Example.ORG",
				"tel:7042;phone-context=example.org"},
		{"tel:7042;ext=5;phone-context=example.org.;x",
				"tel:7042;phone-context=example.org"},
		{"tel:7042;phone-context=+1-555", "tel:7042;phone-context=+1555"},
		{"tel:7042;phone-context=a-b.c", "tel:7042;phone-context=a-b.c"},
};

START_TEST(accepted)
{
	round_trip(trip, cpm_pl_str(good[_i].uri), cpm_pl_str(good[_i].aor));
}
END_TEST

/* ---- refused ---- */

static const struct
{
	const char *uri, *why;
	size_t at;
} bad[] = {
		{"", "bad-scheme", 0},
		{"bob", "bad-scheme", 0},
		{"bob@example.org", "bad-scheme", 0},
		{":bob@example.org", "bad-scheme", 0},
		{"http://example.org", "bad-scheme", 0},
		{"mailto:bob@example.org", "bad-scheme", 0},
		{" sip:bob@example.org", "bad-scheme", 0},
		{"<sip:bob@example.org>", "bad-scheme", 0},
		{"sipx:bob@example.org", "bad-scheme", 0},

		{"sip:", "no-user", 4},
		{"sip:example.org", "no-user", 4},
		{"sip:@example.org", "no-user", 4},
		{"sip::pw@example.org", "no-user", 4},

		{"sip:b b@example.org", "bad-user", 5},
		{"sip:\"bob\"@example.org", "bad-user", 4},
		{"sip:b{b@example.org", "bad-user", 5},
		{"sip:b}b@example.org", "bad-user", 5},
		{"sip:b<b@example.org", "bad-user", 5},
		{"sip:b>b@example.org", "bad-user", 5},
		{"sip:b\tb@example.org", "bad-user", 5},
		{"sip:b\x7f@example.org", "bad-user", 5},
		{"sip:b\xc3\xa9@example.org", "bad-user", 5},
		{"sip:b#b@example.org", "bad-user", 5},
		{"sip:b[b@example.org", "bad-user", 5},
		{"sip:b%@example.org", "bad-user", 5},
		{"sip:b%4@example.org", "bad-user", 5},
		{"sip:b%4g@example.org", "bad-user", 5},
		{"sip:b%g4@example.org", "bad-user", 5},
		{"sip:bob:p w@example.org", "bad-user", 9},
		{"sip:bob:p<w@example.org", "bad-user", 9},

		{"sip:bob@", "no-host", 8},
		{"sip:bob@:5060", "no-host", 8},
		{"sip:bob@;lr", "no-host", 8},
		{"sip:bob@?x=y", "no-host", 8},

		{"sip:bob@.", "bad-host", 8},
		{"sip:bob@a..b", "bad-host", 8},
		{"sip:bob@.a", "bad-host", 8},
		{"sip:bob@a..", "bad-host", 8},
		{"sip:bob@-a.b", "bad-host", 8},
		{"sip:bob@a-.b", "bad-host", 8},
		{"sip:bob@a b", "bad-host", 8},
		{"sip:bob@a\x80", "bad-host", 8},
		{"sip:bob@a%62", "bad-host", 8},
		{"sip:bob@a@b", "bad-host", 8},
		{"sip:bob@a{b}", "bad-host", 8},
		{"sip:bob@[2001:db8::1", "bad-host", 8},
		{"sip:bob@[]", "bad-host", 8},
		{"sip:bob@[", "bad-host", 8},
		{"sip:bob@[1:2]", "bad-host", 8},
		{"sip:bob@[::g]", "bad-host", 8},
		{"sip:bob@[::1%25eth0]", "bad-host", 8},
		{"sip:bob@[0000:0000:0000:0000:0000:0000:192.168.192.168:0]",
				"bad-host", 8},
		{"sip:bob@[::1]x", "bad-host", 13},
		{"sip:bob@a:", "bad-host", 9},
		{"sip:bob@a:x", "bad-host", 9},
		{"sip:bob@a:65536", "bad-host", 9},
		{"sip:bob@a:50:60", "bad-host", 9},
		{"sip:bob@a;x=\"y\"", "bad-host", 12},
		{"sip:bob@a;x=<sip:c@d>", "bad-host", 12},
		{"sip:bob@a;x=c@d", "bad-host", 13},
		{"sip:bob@a?x= y", "bad-host", 12},
		{"sip:bob@a;\x01", "bad-host", 10},

		{"tel:", "bad-number", 4},
		{"tel:+", "bad-number", 5},
		{"tel:-", "bad-number", 4},
		{"tel:+-", "bad-number", 5},
		{"tel:+1555a", "bad-number", 9},
		{"tel:+1#", "bad-number", 6},
		{"tel:1+2", "bad-number", 5},
		{"tel:g", "bad-number", 4},
		{"tel:+1 555", "bad-number", 6},
		{"tel:+1555@example.org", "bad-number", 9},
		{"tel:;phone-context=x", "bad-number", 4},
		{"tel:+1;x=\"", "bad-number", 9},
		{"tel:1;phone-context", "bad-number", 6},
		{"tel:1;phone-context=", "bad-number", 20},
		{"tel:1;phone-context=+", "bad-number", 21},
		{"tel:1;phone-context=+a", "bad-number", 21},
		{"tel:1;phone-context=a..b", "bad-number", 20},
		{"tel:1;phone-context=a;phone-context=a", "bad-number", 22},
};

START_TEST(refused)
{
	char out[CPM_AOR_MAX];
	struct cpm_pl aor;
	struct cpm_diag diag = {NULL, 0};

	ck_assert_int_eq(
			canon(cpm_pl_str(bad[_i].uri), out, &aor, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, bad[_i].why);
	ck_assert_uint_eq(diag.at, bad[_i].at);
}
END_TEST

START_TEST(no_input)
{
	char out[CPM_AOR_MAX];
	struct cpm_pl aor;

	ck_assert_int_eq(cpm_aor_canon(CPM_PL_NULL, out, sizeof(out), &aor, NULL),
			CPM_EPROTO);
	ck_assert_int_eq(
			canon(cpm_pl("sip:b\0b@a", 9), out, &aor, NULL), CPM_EPROTO);
	ck_assert_int_eq(
			canon(cpm_pl("sip:bob@a\0b", 11), out, &aor, NULL), CPM_EPROTO);
	ck_assert_int_eq(canon(cpm_pl("tel:+1\0", 7), out, &aor, NULL), CPM_EPROTO);
}
END_TEST

/* ---- bounds ---- */

static struct cpm_pl of_length(char *uri, size_t user_len)
{
	memcpy(uri, "sip:", 4);
	memset(uri + 4, 'u', user_len);
	memcpy(uri + 4 + user_len, "@h", 2);
	return cpm_pl(uri, user_len + 6);
}

START_TEST(length)
{
	static char uri[100000];
	char out[CPM_AOR_MAX];
	struct cpm_pl aor = CPM_PL_NULL;
	struct cpm_diag diag;

	ck_assert_int_eq(
			canon(of_length(uri, CPM_AOR_MAX - 6), out, &aor, &diag), CPM_OK);
	ck_assert_uint_eq(aor.n, CPM_AOR_MAX);
	ck_assert_int_eq(canon(of_length(uri, CPM_AOR_MAX - 5), out, &aor, &diag),
			CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-long");
	ck_assert_int_eq(
			canon(of_length(uri, 99990), out, &aor, &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-long");
}
END_TEST

/* every capacity below what is needed, with a guard page behind it */
START_TEST(small_buffer)
{
	static const char all[] = "sip:bob@example.org";
	size_t cap = (size_t)_i;
	char *buf = guard_dup(all, cap);
	struct cpm_pl aor;
	struct cpm_diag diag;

	ck_assert_int_eq(
			cpm_aor_canon(cpm_pl_str(all), buf, cap, &aor, &diag), CPM_ENOMEM);
	ck_assert_str_eq(diag.why, "small-buffer");
	guard_free(buf, cap);
}
END_TEST

START_TEST(label_lengths)
{
	char uri[300], out[CPM_AOR_MAX];
	struct cpm_pl aor;
	struct cpm_diag diag;

	memset(uri, 'a', sizeof(uri));
	memcpy(uri, "sip:b@", 6);
	ck_assert_int_eq(canon(cpm_pl(uri, 6 + 63), out, &aor, NULL), CPM_OK);
	ck_assert_int_eq(canon(cpm_pl(uri, 6 + 64), out, &aor, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, "bad-host");
	for(size_t i = 6 + 50; i < sizeof(uri); i += 51)
		uri[i] = '.';
	/* the user is one byte: the host's own bound comes first */
	ck_assert_int_eq(canon(cpm_pl(uri, 6 + 253), out, &aor, &diag), CPM_ELIMIT);
	ck_assert_int_eq(canon(cpm_pl(uri, 6 + 254), out, &aor, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, "bad-host");
}
END_TEST

/* ---- properties ---- */

static bool is_safe(struct cpm_pl aor)
{
	for(size_t i = 0; i < aor.n; i++)
		if(aor.p[i] <= ' ' || aor.p[i] > '~' || aor.p[i] == '{'
				|| aor.p[i] == '}')
			return false;
	return aor.n > 0 && aor.n <= CPM_AOR_MAX;
}

static void check_prefix(struct cpm_pl prefix, void *arg)
{
	char out[CPM_AOR_MAX], again[CPM_AOR_MAX];
	struct cpm_pl aor, same;

	(void)arg;
	if(canon(prefix, out, &aor, NULL) != CPM_OK)
		return;
	ck_assert(is_safe(aor));
	ck_assert_int_eq(canon(aor, again, &same, NULL), CPM_OK);
	ck_pl_same(same, aor);
}

START_TEST(prefixes_of_good)
{
	guard_prefixes(cpm_pl_str(good[_i].uri), check_prefix, NULL);
}
END_TEST

START_TEST(prefixes_of_bad)
{
	guard_prefixes(cpm_pl_str(bad[_i].uri), check_prefix, NULL);
}
END_TEST

/* Each byte, raw and escaped, in each place. */
START_TEST(every_byte)
{
	static const char *const shapes[] = {"sip:a?b@example.org",
			"sip:ab@exa?ple.org", "sip:ab@h;p=?", "sip:a:?@h", "tel:+1?2",
			"tel:1?2;phone-context=h", "tel:12;phone-context=h?h"};
	char uri[64], esc[4];

	snprintf(esc, sizeof(esc), "%%%02x", (unsigned)_i & 0xff);
	for(size_t i = 0; i < FU_N(shapes); i++) {
		size_t n = strlen(shapes[i]);
		const char *hole = strchr(shapes[i], '?');
		size_t at = (size_t)(hole - shapes[i]);

		memcpy(uri, shapes[i], n);
		uri[at] = (char)_i;
		check_prefix(cpm_pl(uri, n), NULL);
		memcpy(uri + at, esc, 3);
		memcpy(uri + at + 3, hole + 1, n - at - 1);
		check_prefix(cpm_pl(uri, n + 2), NULL);
	}
}
END_TEST

START_TEST(distinct)
{
	static const char *const uris[] = {"sip:bob@example.org",
			"sip:Bob@example.org", "sip:bob@example.com",
			"sip:bob%40example.org@x", "sip:bob%3Ax@example.org",
			"sip:bob;x@example.org", "tel:+1555", "tel:1555",
			"tel:1555;phone-context=+1", "tel:1555;phone-context=a",
			"sip:+1555@example.org"};
	char a[CPM_AOR_MAX], b[CPM_AOR_MAX];
	struct cpm_pl aor, other;

	for(size_t i = 0; i < FU_N(uris); i++)
		for(size_t j = 0; j < i; j++) {
			ck_assert_int_eq(canon(cpm_pl_str(uris[i]), a, &aor, NULL), CPM_OK);
			ck_assert_int_eq(
					canon(cpm_pl_str(uris[j]), b, &other, NULL), CPM_OK);
			ck_assert(!cpm_pl_eq(aor, other));
		}
}
END_TEST

START_TEST(parts)
{
	struct cpm_pl sip = cpm_pl_str("sip:bob@example.org");
	struct cpm_pl v6 = cpm_pl_str("sip:a;b=c@[::1]");
	struct cpm_pl tel = cpm_pl_str("tel:+1555");
	struct cpm_pl local = cpm_pl_str("tel:7;phone-context=a.b");

	ck_pl_eq(cpm_aor_user(sip), "bob");
	ck_pl_eq(cpm_aor_host(sip), "example.org");
	ck_pl_eq(cpm_aor_user(v6), "a;b=c");
	ck_pl_eq(cpm_aor_host(v6), "[::1]");
	ck_pl_eq(cpm_aor_user(tel), "+1555");
	ck_pl_eq(cpm_aor_host(tel), "");
	ck_pl_eq(cpm_aor_user(local), "7;phone-context=a.b");
	ck_pl_eq(cpm_aor_host(local), "");
	ck_pl_eq(cpm_aor_user(CPM_PL_NULL), "");
	ck_pl_eq(cpm_aor_host(CPM_PL_NULL), "");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_aor");

	fu_table(s, "all spellings of an address become one", accepted, FU_N(good));
	fu_table(s, "what is no address is refused, with the place", refused,
			FU_N(bad));
	fu_case(s, "nothing, and a NUL inside, are no address", no_input);
	fu_case(s, "a longer address than the bound is refused", length);
	fu_table(s, "a buffer too small is told so", small_buffer, 19);
	fu_case(s, "labels and hosts keep the bounds of DNS", label_lengths);
	fu_table(s, "a cut address is refused, or canonical and safe",
			prefixes_of_good, FU_N(good));
	fu_table(s, "a cut bad address is refused, or canonical and safe",
			prefixes_of_bad, FU_N(bad));
	fu_table(s, "any byte anywhere is refused, or canonical and safe",
			every_byte, 256);
	fu_case(s, "different addresses stay different", distinct);
	fu_case(s, "user and host are parts of it", parts);
	return fu_run(s);
}
