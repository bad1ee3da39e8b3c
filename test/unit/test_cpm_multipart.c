/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_multipart.c - multipart bodies: boundaries, delimiters, parts.
 */

#include "check_helpers.h"
#include "cpm_multipart.h"

#define MIXED "multipart/mixed;boundary=b"

static const char two_parts[] = "preamble\r\n"
								"--b\r\n"
								"Content-Type: application/sdp\r\n"
								"\r\n"
								"v=0\r\n"
								"\r\n"
								"--b  \t\r\n"
								"content-type:text/plain;\r\n"
								"\tcharset=\"a;b\"\r\n"
								"X-Other: 1\r\n"
								" folded\r\n"
								"CONTENT-DISPOSITION :  render \r\n"
								"Content-Transfer-Encoding: Binary\r\n"
								"Content-Encoding: identity\r\n"
								"\r\n"
								"--not\r\n"
								" --b\r\n"
								"--b--\r\n"
								"--b\r\nepilogue";

/* As text: one line for each part, and the word that it ends with. */
static struct cpm_pl describe(const char *type, struct cpm_pl body)
{
	static char buf[8192];
	struct cpm_wr w;
	struct cpm_multipart m;
	struct cpm_multipart_part p;
	struct cpm_diag diag = {"", 0};
	int rc = cpm_multipart_init(&m, cpm_pl_str(type), body, &diag);

	cpm_wr_init(&w, buf, sizeof(buf));
	while(rc == CPM_OK) {
		rc = cpm_multipart_next(&m, &p, &diag);
		if(rc == CPM_OK) {
			ck_assert(fu_pl_inside(p.headers, body));
			ck_assert(fu_pl_inside(p.body, body));
			cpm_wr_chr(&w, '[');
			cpm_wr_pl_put(&w, p.content_type);
			cpm_wr_chr(&w, '|');
			cpm_wr_pl_put(&w, p.body);
			cpm_wr_chr(&w, ']');
		}
	}
	ck_assert_uint_le(diag.at, body.n);
	cpm_wr_str(&w, rc == CPM_ENOENT ? "." : diag.why);
	ck_assert(rc == CPM_ENOENT || diag.why[0] != '\0');
	ck_assert(cpm_wr_ok(&w));
	return cpm_wr_pl(&w);
}

static struct cpm_pl describe_str(const char *type, const char *body)
{
	return describe(type, cpm_pl_str(body));
}

START_TEST(parts)
{
	struct cpm_multipart m;
	struct cpm_multipart_part p;
	struct cpm_diag diag = {"untouched", 7};
	struct cpm_pl v;

	ck_assert_int_eq(cpm_multipart_init(&m, cpm_pl_str(MIXED),
							 cpm_pl_str(two_parts), &diag),
			CPM_OK);
	ck_assert_int_eq(cpm_multipart_next(&m, &p, &diag), CPM_OK);
	ck_pl_eq(p.headers, "Content-Type: application/sdp\r\n");
	ck_pl_eq(p.content_type, "application/sdp");
	ck_assert_ptr_null(p.content_disposition.p);
	ck_assert_ptr_null(p.content_transfer_encoding.p);
	ck_assert_ptr_null(p.content_encoding.p);
	ck_pl_eq(p.body, "v=0\r\n");

	ck_assert_int_eq(cpm_multipart_next(&m, &p, &diag), CPM_OK);
	ck_pl_eq(p.content_type, "text/plain;\r\n\tcharset=\"a;b\"");
	ck_assert_int_eq(
			cpm_multipart_param(p.content_type, "CharSet", &v), CPM_OK);
	ck_pl_eq(v, "a;b");
	ck_pl_eq(p.content_disposition, "render");
	ck_pl_eq(p.content_transfer_encoding, "Binary");
	ck_pl_eq(p.content_encoding, "identity");
	ck_pl_eq(p.body, "--not\r\n --b");

	ck_assert_int_eq(cpm_multipart_next(&m, &p, &diag), CPM_ENOENT);
	ck_assert_int_eq(cpm_multipart_next(&m, &p, &diag), CPM_ENOENT);
	ck_assert_str_eq(diag.why, "untouched");
	ck_assert_uint_eq(m.parts, 2);
}
END_TEST

#define LINE_ENDS_N 9
START_TEST(line_ends)
{
	static const struct
	{
		const char *body, *want;
	} rows[] = {
			{"--b\nContent-Type: a/b\n\nx\n--b--\n", "[a/b|x]."},
			{"--b\nContent-Type: a/b\n\nx\r\n--b--", "[a/b|x]."},
			{"--b\r\nContent-Type: a/b\n\r\nx\n\n--b\n\ny\n--b--",
					"[a/b|x\n][|y]."},
			/* nothing but the line end that closes the headers */
			{"--b\r\n\r\n--b--", "[|]."},
			{"--b\r\n\r\n\r\n--b--", "[|]."},
			{"--b\r\n\r\n\r\n\r\n--b--", "[|\r\n]."},
			{"--b\r\nContent-Type: a/b\r\n\r\n--b--", "[a/b|]."},
			/* a CR alone ends no line */
			{"--b\r\n\r\nx\r--b--\r\n--b--", "[|x\r--b--]."},
			{"--b\r\n\r\nx\r\r\n--b--\t ", "[|x\r]."},
	};
	_Static_assert(FU_N(rows) == LINE_ENDS_N, "rows");

	ck_pl_eq(describe_str(MIXED, rows[_i].body), rows[_i].want);
}
END_TEST

#define BOUNDARIES_N 26
START_TEST(boundaries)
{
	static const struct
	{
		const char *type, *body, *want;
	} rows[] = {
			{"Multipart/Related; x=\";boundary=c\"; BOUNDARY = \"b\" ",
					"--b\n\nx\n--b--", "[|x]."},
			{"multipart/x;boundary=\"a b\";y", "--a b\n\nx\n--a b--", "[|x]."},
			{"multipart/x;boundary==_a?", "--=_a?\n\nx\n--=_a?--", "[|x]."},
			{"multipart/x;\r\n\tboundary=b", "--b\n\nx\n--b--", "[|x]."},
			{"multipart/x;boundary=--", "----\n\nx\n------", "[|x]."},
			{"multipart/x;boundary=0123456789012345678901234567890123456789"
			 "012345678901234567890123456789",
					"--0123456789012345678901234567890123456789"
					"012345678901234567890123456789\n\nx\n"
					"--0123456789012345678901234567890123456789"
					"012345678901234567890123456789--",
					"[|x]."},
			{"multipart/x;boundary=0123456789012345678901234567890123456789"
			 "0123456789012345678901234567890",
					"", "bad-boundary"},
			{"multipart/x;boundary=", "", "bad-boundary"},
			{"multipart/x;boundary", "", "bad-boundary"},
			{"multipart/x;boundary=\"\"", "", "bad-boundary"},
			{"multipart/x;boundary=\"b", "", "bad-boundary"},
			{"multipart/x;boundary=\"b\\", "", "bad-boundary"},
			{"multipart/x;boundary=\"b\"c", "", "bad-boundary"},
			{"multipart/x;boundary=b\"c", "", "bad-boundary"},
			{"multipart/x;boundary=\"b \"", "", "bad-boundary"},
			{"multipart/x;boundary=\"b\\c\"", "", "bad-boundary"},
			{"multipart/x;boundary=b*", "", "bad-boundary"},
			{"multipart/x;boundary=\xc3\xa4", "", "bad-boundary"},
			{"multipart/x;boundary=b;boundary=b", "", "bad-boundary"},
			{"multipart/x;y=\"z;boundary=b", "", "bad-boundary"},
			{"multipart/x", "", "no-boundary"},
			{"multipart/x;", "", "no-boundary"},
			{"multipart/x;xboundary=b;boundary-=c", "", "no-boundary"},
			{"text/plain;boundary=b", "", "not-multipart"},
			{"multipart;boundary=b", "", "not-multipart"},
			{"", "", "not-multipart"},
	};
	_Static_assert(FU_N(rows) == BOUNDARIES_N, "rows");

	ck_pl_eq(describe_str(rows[_i].type, rows[_i].body), rows[_i].want);
}
END_TEST

#define REFUSALS_N 27
START_TEST(refusals)
{
	static const struct
	{
		const char *body, *want;
	} rows[] = {
			{"", "no-part"},
			{"v=0\r\n", "no-part"},
			{"x--b\r\n\r\n--b--", "no-part"},
			{"--b--\r\n", "no-part"},
			{"--b", "truncated"},
			{"--b\r\n", "truncated"},
			{"--b\r\nContent-Type: a/b", "truncated"},
			{"--b\r\nContent-Type: a/b\r\n", "truncated"},
			{"--b\r\nContent-Type: a/b\r\n\r\n", "truncated"},
			{"--b\r\n\r\nx\r\n--b-", "bad-delimiter"},
			{"--b\r\n\r\nx\r\n--b\r\n", "[|x]truncated"},
			{"--b\r\n\r\nx\r\n--b", "truncated"},
			{"--b\r\n\r\nx\r\n--B--", "truncated"},
			/* readers differ on these */
			{"--bc\r\n--b\r\n\r\nx\r\n--b--", "bad-delimiter"},
			{"--b\r\n--bc\r\n\r\nx\r\n--b--", "bad-delimiter"},
			{"--b\r\n\r\nx\r\n--bc\r\n--b--", "bad-delimiter"},
			{"--b\r\n\r\nx\r\n--b--c\r\n--b--", "bad-delimiter"},
			{"--b\r\nContent-Type: a/b\r\n--b--", "no-separator"},
			{"--b\r\n--b\r\n\r\n--b--", "no-separator"},
			{"--b\r\nContent-Type\r\n\r\n--b--", "bad-header"},
			{"--b\r\n: a/b\r\n\r\n--b--", "bad-header"},
			{"--b\r\nContent Type: a/b\r\n\r\n--b--", "bad-header"},
			{"--b\r\n Content-Type: a/b\r\n\r\n--b--", "bad-header"},
			{"--b\r\nX: \x01\r\n\r\n--b--", "bad-byte"},
			{"--b\r\nX: a\rb\r\n\r\n--b--", "bad-byte"},
			{"--b\r\nContent-Type: a/b\r\ncontent-type: a/c\r\n\r\n--b--",
					"repeated-header"},
			{"--b\r\nContent-Transfer-Encoding:\r\n"
			 "Content-Transfer-Encoding: 8bit\r\n\r\n--b--",
					"repeated-header"},
	};
	_Static_assert(FU_N(rows) == REFUSALS_N, "rows");

	ck_pl_eq(describe_str(MIXED, rows[_i].body), rows[_i].want);
}
END_TEST

START_TEST(nul)
{
	ck_pl_eq(describe(MIXED, CPM_PL_LIT("--b\r\nX: a\0b\r\n\r\n\r\n--b--")),
			"bad-byte");
	ck_pl_same(describe(MIXED, CPM_PL_LIT("--b\r\n\r\na\0b\r\n--b--")),
			CPM_PL_LIT("[|a\0b]."));
	ck_assert_int_eq(cpm_multipart_init(&(struct cpm_multipart){.parts = 0},
							 CPM_PL_LIT("multipart/mixed;boundary=b\0"),
							 CPM_PL_NULL, NULL),
			CPM_EPROTO);
}
END_TEST

START_TEST(too_many)
{
	char buf[512];
	struct cpm_wr w;
	struct cpm_multipart m;
	struct cpm_multipart_part p;
	struct cpm_diag diag = {NULL, 0};

	for(unsigned n = CPM_MULTIPART_PARTS_MAX; n <= CPM_MULTIPART_PARTS_MAX + 1;
			n++) {
		cpm_wr_init(&w, buf, sizeof(buf));
		for(unsigned i = 0; i < n; i++)
			cpm_wr_str(&w, "--b\r\n\r\nx\r\n");
		cpm_wr_str(&w, "--b--\r\n");
		ck_assert_int_eq(
				cpm_multipart_init(&m, cpm_pl_str(MIXED), cpm_wr_pl(&w), &diag),
				CPM_OK);
		for(unsigned i = 0; i < CPM_MULTIPART_PARTS_MAX; i++)
			ck_assert_int_eq(cpm_multipart_next(&m, &p, &diag), CPM_OK);
		ck_assert_int_eq(cpm_multipart_next(&m, &p, &diag),
				n > CPM_MULTIPART_PARTS_MAX ? CPM_ELIMIT : CPM_ENOENT);
	}
	ck_assert_str_eq(diag.why, "too-many-parts");
	ck_assert_int_eq(cpm_multipart_next(&m, &p, &diag), CPM_ELIMIT);
}
END_TEST

/* the bound is on the lines before the empty one, itself included */
START_TEST(long_headers)
{
	static char buf[CPM_MULTIPART_HEADERS_MAX + 64];
	struct cpm_wr w;

	for(size_t n = CPM_MULTIPART_HEADERS_MAX;
			n <= CPM_MULTIPART_HEADERS_MAX + 1; n++) {
		cpm_wr_init(&w, buf, sizeof(buf));
		cpm_wr_str(&w, "--b\r\nX: ");
		for(size_t i = 3 + 4; i < n; i++)
			cpm_wr_chr(&w, 'x');
		cpm_wr_str(&w, "\r\n\r\ny\r\n--b--");
		ck_pl_eq(describe(MIXED, cpm_wr_pl(&w)),
				n > CPM_MULTIPART_HEADERS_MAX ? "headers-too-long" : "[|y].");
	}
}
END_TEST

START_TEST(same_again)
{
	struct cpm_multipart m;
	struct cpm_multipart_part p;
	struct cpm_diag diag = {NULL, 0};

	ck_assert_int_eq(cpm_multipart_init(&m, cpm_pl_str(MIXED),
							 cpm_pl_str("--b\n\nx\n--b\nX\n\n--b--"), &diag),
			CPM_OK);
	ck_assert_int_eq(cpm_multipart_next(&m, &p, &diag), CPM_OK);
	for(int i = 0; i < 3; i++) {
		diag.why = NULL;
		ck_assert_int_eq(cpm_multipart_next(&m, &p, &diag), CPM_EPROTO);
		ck_assert_str_eq(diag.why, "bad-header");
		ck_assert_uint_eq(diag.at, 11);
		ck_pl_eq(p.body, "x");
	}
}
END_TEST

#define PARAMS_N 16
START_TEST(params)
{
	static const struct
	{
		const char *value;
		int rc;
		const char *want;
	} rows[] = {
			{"session; handling=optional", CPM_OK, "optional"},
			{"session;HANDLING=\"optional\"", CPM_OK, "optional"},
			{"session ; x ; handling = optional ; y", CPM_OK, "optional"},
			{"x;a=\"b\\\";handling=no\";handling=yes", CPM_OK, "yes"},
			{"x;handling=", CPM_OK, ""},
			{"x;handling=\"\"", CPM_OK, ""},
			{"x;handling=\"a\\\"b\"", CPM_OK, "a\\\"b"},
			{"", CPM_ENOENT, ""},
			{"handling=optional", CPM_ENOENT, ""},
			{"x;;;", CPM_ENOENT, ""},
			{"x;handling", CPM_EPROTO, ""},
			{"x;handling=a;handling=b", CPM_EPROTO, ""},
			{"x;handling=;handling=", CPM_EPROTO, ""},
			{"x;handling=a;y=\"", CPM_EPROTO, ""},
			{"x;\"handling\"=a", CPM_EPROTO, ""},
			{"x;y=\"a\"b;handling=c", CPM_EPROTO, ""},
	};
	_Static_assert(FU_N(rows) == PARAMS_N, "rows");
	struct cpm_pl v = CPM_PL_LIT("untouched");

	ck_assert_int_eq(
			cpm_multipart_param(cpm_pl_str(rows[_i].value), "handling", &v),
			rows[_i].rc);
	ck_pl_eq(v, rows[_i].rc == CPM_OK ? rows[_i].want : "untouched");
}
END_TEST

/* "." is said of the whole alone: what was cut off is missed */
static void check_prefix(struct cpm_pl prefix, void *arg)
{
	struct cpm_pl said = describe(MIXED, prefix);

	(void)arg;
	if(said.p[said.n - 1] == '.')
		ck_assert_uint_ge(prefix.n,
				(size_t)(strstr(two_parts, "\r\n--b--") - two_parts) + 7);
}

START_TEST(prefixes)
{
	guard_prefixes(cpm_pl_str(two_parts), check_prefix, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_multipart");

	fu_case(s, "parts come with their headers, preamble and epilogue do not",
			parts);
	fu_table(s, "the line end before a delimiter is the delimiter's", line_ends,
			LINE_ENDS_N);
	fu_table(s, "a boundary is quoted or not, and is checked", boundaries,
			BOUNDARIES_N);
	fu_table(s, "what readers could take for other parts is refused", refusals,
			REFUSALS_N);
	fu_case(s, "a NUL may stand in a body only", nul);
	fu_case(s, "eight parts are enough", too_many);
	fu_case(s, "headers have a bound", long_headers);
	fu_case(s, "after a failure it is the same again", same_again);
	fu_table(s, "a parameter is found behind quotes and blanks", params,
			PARAMS_N);
	fu_case(s, "a body that is cut off is missed, and nobody looks behind it",
			prefixes);
	return fu_run(s);
}
