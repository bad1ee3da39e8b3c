/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_actions.c - the body of a pulling client's INVITE, what may go to
 * an XML parser, and the results.
 */

#include "check_helpers.h"
#include "cpm_actions.h"
#include "cpm_msg.h"

#define MIXED "multipart/mixed;boundary=b"
#define SDP "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n"
#define LIST "--b\r\nContent-Type: " CPM_ACTIONS_TYPE "\r\n\r\n<x/>\r\n"
#define END "--b--\r\n"

START_TEST(names)
{
	static const char *const words[] = {
			"retrieve", "interwork", "discard", "store", "keep"};
	enum cpm_action_kind kind;

	for(size_t i = 0; i < FU_N(words); i++) {
		ck_assert(cpm_action_of_name(cpm_pl_str(words[i]), &kind));
		ck_assert_str_eq(cpm_action_name(kind), words[i]);
		ck_assert_uint_eq(kind, i);
	}
	ck_assert_uint_eq(kind, CPM_ACT_KEEP);
	ck_assert(!cpm_action_of_name(CPM_PL_LIT("Retrieve"), &kind));
	ck_assert(!cpm_action_of_name(CPM_PL_LIT("keep "), &kind));
	ck_assert(!cpm_action_of_name(CPM_PL_LIT("kee"), &kind));
	ck_assert(!cpm_action_of_name(CPM_PL_NULL, &kind));
	ck_assert_uint_eq(kind, CPM_ACT_KEEP);
	ck_assert_str_eq(cpm_action_name((enum cpm_action_kind)5), "?");
	ck_assert_str_eq(cpm_result_status_name(CPM_RESULT_OK), "ok");
	ck_assert_str_eq(cpm_result_status_name(CPM_RESULT_GONE), "gone");
	ck_assert_str_eq(cpm_result_status_name(CPM_RESULT_FAILED), "failed");
	ck_assert_str_eq(cpm_result_status_name((enum cpm_result_status)3), "?");
}
END_TEST

START_TEST(rest)
{
	struct cpm_actions a = {.listed = true, .dflt = CPM_ACT_KEEP};

	ck_assert(!cpm_actions_rest(&a));
	a.has_default = true;
	ck_assert(!cpm_actions_rest(&a));
	a.dflt = CPM_ACT_RETRIEVE;
	ck_assert(cpm_actions_rest(&a));
	a = (struct cpm_actions){.listed = false};
	ck_assert(cpm_actions_rest(&a));
}
END_TEST

#define BODIES 31
START_TEST(bodies)
{
	static const struct
	{
		const char *type, *body;
		const char *sdp, *xml; /* NULL: none */
		const char *why;	   /* NULL: it is taken */
		unsigned status;
	} rows[] = {
			{"Application/SDP ;x=y", "v=0", "v=0", NULL, NULL, 0},
			{MIXED, SDP LIST END, "v=0", "<x/>", NULL, 0},
			{MIXED, LIST SDP END, "v=0", "<x/>", NULL, 0},
			{MIXED, SDP END, "v=0", NULL, NULL, 0},
			{"multipart/related;type=\"application/sdp\";boundary=b",
					SDP LIST END, "v=0", "<x/>", NULL, 0},
			/* an empty list part is a list, and no good one */
			{MIXED, SDP "--b\nContent-Type: " CPM_ACTIONS_TYPE "\n\n" END,
					"v=0", "", NULL, 0},
			{MIXED,
					"--b\nContent-Type: APPLICATION/SDP\n"
					"Content-Disposition: Session;handling=required\n"
					"Content-Transfer-Encoding: 7BIT\n"
					"Content-Encoding: Identity\n\nv=0\n" END,
					"v=0", NULL, NULL, 0},
			{MIXED,
					SDP "--b\nContent-Type: " CPM_ACTIONS_TYPE
						";charset=utf-8\nContent-Transfer-Encoding: binary\n"
						"Content-Disposition: render;handling=optional\n\n"
						"<y/>\n" END,
					"v=0", "<y/>", NULL, 0},
			{MIXED,
					SDP "--b\nContent-Type: text/plain\n"
						"Content-Transfer-Encoding: base64\n"
						"Content-Disposition: x;handling=Optional\n\nq\n" END,
					"v=0", NULL, NULL, 0},
			{MIXED,
					SDP "--b\nContent-Type: application/sdp\n"
						"Content-Disposition: early-session;handling=optional"
						"\n\nv=1\n" END,
					"v=0", NULL, NULL, 0},
			{MIXED, "", NULL, NULL, "no-body", 400},
			{"application/sdp", "", NULL, NULL, "no-body", 400},
			{"", "v=0", NULL, NULL, "content-type", 415},
			{"text/plain", "v=0", NULL, NULL, "content-type", 415},
			{"multipart/alternative;boundary=b", SDP END, NULL, NULL,
					"content-type", 415},
			{CPM_ACTIONS_TYPE, "<x/>", NULL, NULL, "content-type", 415},
			{"multipart/mixed", SDP END, NULL, NULL, "no-boundary", 400},
			{"multipart/mixed;boundary=\"", SDP END, NULL, NULL, "bad-boundary",
					400},
			{MIXED, LIST END, NULL, NULL, "no-sdp", 400},
			{MIXED, SDP LIST, NULL, NULL, "truncated", 400},
			{MIXED, SDP SDP END, NULL, NULL, "two-sdps", 400},
			{MIXED, SDP LIST LIST END, NULL, NULL, "two-lists", 400},
			{MIXED, SDP "--b\n\nhello\n" END, NULL, NULL, "unknown-part", 415},
			{MIXED,
					SDP "--b\nContent-Type: text/plain\nContent-Disposition: "
						"x;handling=required\n\nq\n" END,
					NULL, NULL, "unknown-part", 415},
			{MIXED,
					SDP "--b\nContent-Type: text/plain\nContent-Disposition: "
						"x;handling=optional;handling=required\n\nq\n" END,
					NULL, NULL, "unknown-part", 415},
			{MIXED,
					SDP "--b\nContent-Type: application/sdp\n"
						"Content-Disposition: early-session\n\nv=1\n" END,
					NULL, NULL, "unknown-part", 415},
			/* a multipart inside is not entered */
			{MIXED,
					"--b\nContent-Type: multipart/mixed;boundary=c\n\n--c\n"
					"Content-Type: application/sdp\n\nv=0\n--c--\n" END,
					NULL, NULL, "unknown-part", 415},
			{MIXED,
					"--b\nContent-Type: application/sdp\n"
					"Content-Transfer-Encoding: base64\n\ndj0w\n" END,
					NULL, NULL, "transfer-encoding", 415},
			{MIXED,
					SDP "--b\nContent-Type: " CPM_ACTIONS_TYPE
						"\nContent-Transfer-Encoding: quoted-printable\n\n"
						"<x/>\n" END,
					NULL, NULL, "transfer-encoding", 415},
			{MIXED,
					SDP "--b\nContent-Type: " CPM_ACTIONS_TYPE
						"\nContent-Transfer-Encoding:\n\n<x/>\n" END,
					NULL, NULL, "transfer-encoding", 415},
			{MIXED,
					SDP "--b\nContent-Type: " CPM_ACTIONS_TYPE
						"\nContent-Encoding: gzip\n\n<x/>\n" END,
					NULL, NULL, "content-encoding", 415},
	};
	_Static_assert(FU_N(rows) == BODIES, "rows");
	struct cpm_pl sdp = CPM_PL_LIT("-"), xml = CPM_PL_LIT("-");
	struct cpm_diag diag = {NULL, 0};
	int rc;

	rc = cpm_actions_body(cpm_pl_str(rows[_i].type), cpm_pl_str(rows[_i].body),
			&sdp, &xml, &diag);
	if(rows[_i].why) {
		ck_assert_int_eq(rc, CPM_EPROTO);
		ck_assert_str_eq(diag.why, rows[_i].why);
		ck_assert_uint_eq(cpm_actions_status(rc, diag.why), rows[_i].status);
		ck_pl_eq(sdp, "-");
		ck_pl_eq(xml, "-");
		return;
	}
	ck_assert_int_eq(rc, CPM_OK);
	ck_pl_eq(sdp, rows[_i].sdp);
	ck_assert((xml.p != NULL) == (rows[_i].xml != NULL));
	ck_pl_eq(xml, rows[_i].xml);
}
END_TEST

START_TEST(statuses)
{
	ck_assert_uint_eq(cpm_actions_status(CPM_ELIMIT, "too-many-parts"), 413);
	ck_assert_uint_eq(cpm_actions_status(CPM_ENOMEM, "no-memory"), 500);
	ck_assert_uint_eq(cpm_actions_status(CPM_EPROTO, "encoding"), 415);
	ck_assert_uint_eq(cpm_actions_status(CPM_EPROTO, "bad-xml"), 400);
	ck_assert_uint_eq(cpm_actions_status(CPM_EPROTO, NULL), 400);
}
END_TEST

#define X(s)             \
	{                    \
		s, sizeof(s) - 1 \
	}

#define SCANS 42
START_TEST(scans)
{
	static const struct
	{
		struct cpm_pl xml;
		const char *why; /* NULL: to the parser with it */
	} rows[] = {
			{X("<a/>"), NULL},
			{X("no XML at all, which is the parser's to say"), NULL},
			{X("<?xml version=\"1.0\"?><a/>"), NULL},
			{X("<?xml version='1.0' encoding='utf-8'?><a/>"), NULL},
			{X("<?xml version=\"1.0\" encoding = \"UTF-8\" ?><a/>"), NULL},
			{X("\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?><a/>"), NULL},
			{X("<?xml version='1.0'?><a encoding='UTF-16'/>"), NULL},
			{X("<a b='\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"
			   "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf'/>"),
					NULL},
			{X("<!-- DOCTYPE -->\t\r\n<a/>"), NULL},
			{X(""), "no-xml"},
			{X("<?xml version='1.0' encoding='UTF-16'?><a/>"), "encoding"},
			{X("<?xml version='1.0' encoding='ISO-8859-1'?><a/>"), "encoding"},
			{X("<?xml version='1.0' encoding='UTF-7'?><a/>"), "encoding"},
			{X("<?xml version='1.0' encoding='US-ASCII'?><a/>"), "encoding"},
			{X("<?xml version='1.0' encoding=''?><a/>"), "encoding"},
			{X("<?xml version='1.0' encoding='UTF-8 '?><a/>"), "encoding"},
			{X("<?xml version='1.0' encoding?><a/>"), "encoding"},
			{X("<?xml version='1.0' encoding=UTF-8?><a/>"), "encoding"},
			{X("<?xml encoding='UTF-7' <a/>"), "encoding"},
			{X("\xef\xbb\xbf<?xml version='1.0' encoding='UTF-7'?><a/>"),
					"encoding"},
			{X("\xff\xfe<\0a\0/\0>\0"), "encoding"},
			{X("\xfe\xff\0<\0a\0/\0>"), "encoding"},
			{X("\x4c\x6f\xa7\x94\x93"), "encoding"}, /* EBCDIC */
			{X("<a b='\xc0\x80'/>"), "encoding"},
			{X("<a b='\x80'/>"), "encoding"},
			{X("<a b='\xc3'/>"), "encoding"},
			{X("<a b='\xe0\x9f\xbf'/>"), "encoding"},
			{X("<a b='\xed\xa0\x80'/>"), "encoding"},
			{X("<a b='\xf0\x8f\xbf\xbf'/>"), "encoding"},
			{X("<a b='\xf4\x90\x80\x80'/>"), "encoding"},
			{X("<a b='\xf5\x80\x80\x80'/>"), "encoding"},
			{X("<a/>\xc3"), "encoding"},
			{X("<a/>\xe2\x82"), "encoding"},
			{X("<a/>\xf0\x90\x80"), "encoding"},
			{X("<\0a\0/\0>\0"), "bad-byte"},
			{X("\0<\0a\0/\0>"), "bad-byte"},
			{X("<a/>\0"), "bad-byte"},
			{X("<a>\x1b</a>"), "bad-byte"},
			{X("<!DOCTYPE a><a/>"), "dtd"},
			{X("<?xml version='1.0'?>\n<!DOCTYPE a SYSTEM 'file:///x'><a/>"),
					"dtd"},
			{X("<a/><!ENTITY x 'y'>"), "dtd"},
			{X("<!-- <!DOCTYPE a> --><a/>"), "dtd"},
	};
	_Static_assert(FU_N(rows) == SCANS, "rows");
	struct cpm_diag diag = {NULL, 0};
	char *p;
	int rc;

	p = guard_dup(rows[_i].xml.p, rows[_i].xml.n);
	rc = cpm_actions_scan(cpm_pl(p, rows[_i].xml.n), &diag);
	guard_free(p, rows[_i].xml.n);
	ck_assert_int_eq(rc, rows[_i].why ? CPM_EPROTO : CPM_OK);
	ck_assert_uint_le(diag.at, rows[_i].xml.n);
	if(rows[_i].why)
		ck_assert_str_eq(diag.why, rows[_i].why);
}
END_TEST

START_TEST(sizes)
{
	static char buf[CPM_ACTIONS_BYTES_MAX + 1];
	struct cpm_diag diag = {NULL, 0};

	memset(buf, '<', sizeof(buf));
	ck_assert_int_eq(
			cpm_actions_scan(cpm_pl(buf, sizeof(buf) - 1), &diag), CPM_OK);
	ck_assert_int_eq(
			cpm_actions_scan(cpm_pl(buf, sizeof(buf)), &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-long");

	memset(buf, '>', sizeof(buf));
	for(size_t at = 0; at < 2; at++) {
		buf[0] = at == 0 ? '<' : ' ';
		buf[at] = '<';
		ck_assert_int_eq(
				cpm_actions_scan(cpm_pl(buf, at + CPM_ACTIONS_TAG_MAX), &diag),
				CPM_OK);
		ck_assert_int_eq(
				cpm_actions_scan(
						cpm_pl(buf, at + CPM_ACTIONS_TAG_MAX + 1), &diag),
				CPM_ELIMIT);
		ck_assert_str_eq(diag.why, "tag-too-long");
		ck_assert_uint_eq(diag.at, at);
	}
	buf[CPM_ACTIONS_TAG_MAX] = '<';
	ck_assert_int_eq(
			cpm_actions_scan(cpm_pl(buf, CPM_ACTIONS_TAG_MAX + 1), &diag),
			CPM_OK);
}
END_TEST

START_TEST(results)
{
	char buf[2048];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_results_begin(&w);
	cpm_results_item(
			&w, CPM_PL_LIT("m1"), CPM_ACT_RETRIEVE, CPM_RESULT_OK, NULL);
	cpm_results_item(&w, CPM_PL_LIT("a<b>&\"c'"), CPM_ACT_STORE,
			CPM_RESULT_FAILED, "store-is-off");
	cpm_results_item(
			&w, CPM_PL_LIT("\x01\xc3\x7f "), CPM_ACT_KEEP, CPM_RESULT_GONE, "");
	cpm_results_end(&w);
	ck_pl_eq(cpm_wr_pl(&w),
			"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
			"<queue-results xmlns=\"urn:cpm-pf:queue-results:1\">\n"
			"  <result id=\"m1\" action=\"retrieve\" status=\"ok\"/>\n"
			"  <result id=\"a&lt;b&gt;&amp;&quot;c'\" action=\"store\""
			" status=\"failed\" reason=\"store-is-off\"/>\n"
			"  <result id=\"??? \" action=\"keep\" status=\"gone\"/>\n"
			"</queue-results>\n");
}
END_TEST

/* the longest of everything, and longer */
START_TEST(room)
{
	size_t count = (size_t)_i;
	size_t cap = cpm_results_max(count);
	char id[CPM_MSG_ID_MAX + 9], reason[CPM_RESULTS_REASON_MAX + 9];
	char *buf = malloc(cap);
	struct cpm_wr w;

	ck_assert_ptr_nonnull(buf);
	memset(id, '"', sizeof(id));
	memset(reason, '"', sizeof(reason));
	reason[sizeof(reason) - 1] = '\0';
	cpm_wr_init(&w, buf, cap);
	cpm_results_begin(&w);
	for(size_t i = 0; i < count; i++)
		cpm_results_item(&w, cpm_pl(id, sizeof(id)), CPM_ACT_INTERWORK,
				CPM_RESULT_FAILED, reason);
	cpm_results_end(&w);
	ck_assert(cpm_wr_ok(&w));
	ck_assert_uint_ge(
			w.n, count * 6 * (CPM_MSG_ID_MAX + CPM_RESULTS_REASON_MAX));
	free(buf);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_actions");

	fu_case(s, "actions and statuses have exact words", names);
	fu_case(s, "messages that are not listed are left alone, unless asked for",
			rest);
	fu_table(s, "an INVITE has an SDP, and perhaps a list beside it", bodies,
			BODIES);
	fu_case(s, "a refusal has its SIP status", statuses);
	fu_table(s, "a parser gets UTF-8 without a DTD", scans, SCANS);
	fu_case(s, "a document and its tags have bounds", sizes);
	fu_case(s, "results are escaped", results);
	fu_table(s, "the room for results is enough", room, 3);
	return fu_run(s);
}
