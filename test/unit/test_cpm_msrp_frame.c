/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_msrp_frame.c - MSRP on the wire. The files rfc497x-* have the
 * shape of the examples in those sections.
 */

#include <stdio.h>
#include <stdlib.h>

#include "check_helpers.h"
#include "cpm_msrp_frame.h"

#define TO "To-Path: msrp://b:2/t;tcp\r\n"
#define FROM "From-Path: msrp://a:1/s;tcp\r\n"
#define SEND "MSRP tid1 SEND\r\n" TO FROM
#define TEXT "Content-Type: text/plain\r\n\r\n"
#define END "-------tid1$\r\n"

/* ---- a parser that tells what it has read ---- */

struct teller
{
	struct cpm_msrp_parser parser;
	char *buf;
	struct cpm_wr *log;
	bool in_body;
	int rc;
};

static void tell_pl(struct cpm_wr *w, const char *name, struct cpm_pl a)
{
	if(a.n == 0)
		return;
	cpm_wr_chr(w, ' ');
	cpm_wr_str(w, name);
	cpm_wr_chr(w, '=');
	cpm_wr_pl_put(w, a);
}

static void tell_head(struct cpm_wr *w, const struct cpm_msrp_head *h)
{
	cpm_wr_str(w, "[");
	cpm_wr_pl_put(w, h->method_name);
	cpm_wr_chr(w, '/');
	cpm_wr_u64(w, h->method);
	cpm_wr_chr(w, '/');
	cpm_wr_u64(w, h->code);
	tell_pl(w, "comment", h->comment);
	tell_pl(w, "tid", h->tid);
	tell_pl(w, "id", h->message_id);
	tell_pl(w, "type", h->content_type);
	tell_pl(w, "dispo", h->content_disposition);
	tell_pl(w, "cid", h->content_id);
	tell_pl(w, "use", h->use_path);
	tell_pl(w, "expires", h->expires);
	if(h->has_range) {
		cpm_wr_str(w, " range=");
		cpm_msrp_byte_range_put(w, &h->range);
	}
	if(h->success_report)
		cpm_wr_str(w, " success");
	if(h->failure_report)
		cpm_wr_str(w,
				h->failure_report == CPM_MSRP_FR_NO ? " fr=no" : " fr=partial");
	if(h->has_status) {
		cpm_wr_str(w, " status=");
		cpm_wr_u64(w, h->status_namespace);
		cpm_wr_chr(w, ',');
		cpm_wr_u64(w, h->status_code);
	}
	if(h->bad)
		tell_pl(w, "bad", cpm_pl_str(h->bad));
	if(h->has_body)
		cpm_wr_str(w, " body");
	cpm_wr_str(w, "]");
}

static void *teller_open(struct cpm_wr *log)
{
	struct teller *t = calloc(1, sizeof(*t));

	ck_assert_ptr_nonnull(t);
	t->buf = guard_dup("", 0);
	/* the page before the guard is ours */
	t->buf -= 1024;
	t->log = log;
	cpm_msrp_parser_init(&t->parser, t->buf, 1024, 4000);
	return t;
}

static void teller_feed(void *arg, struct cpm_pl in)
{
	struct teller *t = arg;
	struct cpm_msrp_item item;

	while(t->rc == CPM_OK) {
		ptrdiff_t n = cpm_msrp_parser_next(&t->parser, in, &item);

		if(n < 0) {
			t->rc = (int)n;
			cpm_wr_str(t->log, "!");
			cpm_wr_str(t->log, cpm_rc_name(t->rc));
			cpm_wr_chr(t->log, ' ');
			cpm_wr_str(t->log, t->parser.diag.why);
			/* a long line is refused where a piece of it ends */
			if(strstr(t->parser.diag.why, "too-l") == NULL) {
				cpm_wr_chr(t->log, '@');
				cpm_wr_u64(t->log, t->parser.diag.at);
			}
			ck_assert_int_eq(
					cpm_msrp_parser_next(&t->parser, in, &item), t->rc);
			return;
		}
		ck_assert_uint_le((size_t)n, in.n);
		in = cpm_pl(in.p + n, in.n - (size_t)n);
		switch(item.kind) {
			case CPM_MSRP_HEAD:
				tell_head(t->log, &t->parser.head);
				break;
			case CPM_MSRP_BODY:
				ck_assert_uint_gt(item.bytes.n, 0);
				cpm_wr_pl_put(t->log, item.bytes);
				break;
			case CPM_MSRP_TAIL:
				cpm_wr_chr(t->log, '<');
				cpm_wr_chr(t->log, item.flag);
				cpm_wr_chr(t->log, '>');
				ck_assert(cpm_msrp_parser_idle(&t->parser));
				break;
			default:
				ck_assert_uint_eq(in.n, 0);
				return;
		}
	}
}

static void teller_close(void *arg)
{
	struct teller *t = arg;

	guard_free(t->buf + 1024, 0);
	free(t);
}

static const struct trickle teller = {teller_open, teller_feed, teller_close};

/* ---- whole frames, split at every byte ---- */

static const struct
{
	const char *in, *want;
} frames[] = {
		{SEND END, "[SEND/1/0 tid=tid1]<$>"},
		{SEND TEXT "hello\r\n" END,
				"[SEND/1/0 tid=tid1 type=text/plain body]hello<$>"},
		/* bodies that look like their end */
		{SEND TEXT "a\r\n-------tid\r\n-------tid1\r\n-------tid1$x"
				   "\r\n-------tid2$\r\n\r\n\r\n" END,
				"[SEND/1/0 tid=tid1 type=text/plain body]a\r\n-------tid\r\n"
				"-------tid1\r\n-------tid1$x\r\n-------tid2$\r\n\r\n<$>"},
		{SEND TEXT "-------tid1$ \r\n-------tid1$\r\r\n-------tid1%\r\n"
				   "\r\r\n" END,
				"[SEND/1/0 tid=tid1 type=text/plain body]-------tid1$ \r\n"
				"-------tid1$\r\r\n-------tid1%\r\n\r<$>"},
		{SEND TEXT "\r\n-------tid1x$\r\n------tid1$\r\n--------tid1$\r\n" END,
				"[SEND/1/0 tid=tid1 type=text/plain body]\r\n-------tid1x$\r\n"
				"------tid1$\r\n--------tid1$<$>"},
		{SEND TEXT "\r\n" END, "[SEND/1/0 tid=tid1 type=text/plain body]<$>"},
		{SEND TEXT END, "[SEND/1/0 tid=tid1 type=text/plain body]<$>"},
		{SEND TEXT "a\r\n-------tid1+\r\n",
				"[SEND/1/0 tid=tid1 type=text/plain body]a<+>"},
		{SEND "-------tid1#\r\n", "[SEND/1/0 tid=tid1]<#>"},
		/* CRLFs between frames */
		{"\r\n\r\n" SEND END "\r\n" SEND END,
				"[SEND/1/0 tid=tid1]<$>[SEND/1/0 tid=tid1]<$>"},
		/* responses */
		{"MSRP tid1 200\r\n" TO FROM END, "[200/0/200 tid=tid1]<$>"},
		{"MSRP tid1 413 Stop sending\r\n" END,
				"[413/0/413 comment=Stop sending tid=tid1]<$>"},
		{"MSRP tid1 200 \r\n" END, "[200/0/200 tid=tid1]<$>"},
		/* methods */
		{"MSRP tid1 NICKNAME\r\n" TO FROM END, "[NICKNAME/4/0 tid=tid1]<$>"},
		{"MSRP tid1 FROB\r\n" TO FROM END, "[FROB/5/0 tid=tid1]<$>"},
		/* headers */
		{SEND "X-Other: 1\r\nbyte-range:1-*/*\r\nMessage-Id:  m1 \r\n"
			  "Content-ID: <x@y>\r\nContent-Disposition: render\r\n" END,
				"[SEND/1/0 tid=tid1 id=m1 dispo=render cid=<x@y> "
				"range=1-*/*]<$>"},
		{SEND "Failure-Report: partial\r\nSuccess-Report: yes\r\n" END,
				"[SEND/1/0 tid=tid1 success fr=partial]<$>"},
		{SEND "Failure-Report: no\r\nSuccess-Report: no\r\n" END,
				"[SEND/1/0 tid=tid1 fr=no]<$>"},
		{SEND "Status: 000 413 Stop it\r\n" END,
				"[SEND/1/0 tid=tid1 status=0,413]<$>"},
		/* values that are answered 400 */
		{SEND "Message-ID: a b\r\n" END,
				"[SEND/1/0 tid=tid1 id=a b bad=bad-message-id]<$>"},
		{SEND "Byte-Range: 1-x/3\r\n" END,
				"[SEND/1/0 tid=tid1 bad=bad-byte-range]<$>"},
		{SEND "Byte-Range: 1-99999999999999999999999/*\r\n" END,
				"[SEND/1/0 tid=tid1 bad=range-too-large]<$>"},
		{SEND "Status: 0 200\r\n" END, "[SEND/1/0 tid=tid1 bad=bad-status]<$>"},
		{SEND "Success-Report: maybe\r\n" END,
				"[SEND/1/0 tid=tid1 bad=bad-success-report]<$>"},
		{SEND "Failure-Report:\r\n" END,
				"[SEND/1/0 tid=tid1 bad=bad-failure-report]<$>"},
		{SEND "Message-ID: m1\r\nMESSAGE-ID: m2\r\n" END,
				"[SEND/1/0 tid=tid1 id=m1 bad=duplicate-header]<$>"},
		{SEND TO END, "[SEND/1/0 tid=tid1 bad=duplicate-header]<$>"},
		/* what ends the connection */
		{"GET / HTTP/1.1\r\n", "!EPROTO bad-start@16"},
		{"MSRP\r\n", "!EPROTO bad-start@6"},
		{"MSRP  SEND\r\n", "!EPROTO bad-tid@12"},
		{"MSRP -x SEND\r\n", "!EPROTO bad-tid@14"},
		{"MSRP tid1 send\r\n", "!EPROTO bad-method@16"},
		{"MSRP tid1 SEND x\r\n", "!EPROTO bad-method@18"},
		{"MSRP tid1\r\n", "!EPROTO bad-method@11"},
		{"MSRP tid1 20\r\n", "!EPROTO bad-code@14"},
		{"MSRP tid1 2000\r\n", "!EPROTO bad-code@16"},
		{"MSRP tid1 SEND\n", "!EPROTO bad-line@15"},
		{"MSRP tid1 SEND\r\nX: a\rb\r\n", "!EPROTO bad-byte@24"},
		{"MSRP tid1 SEND\r\nX: \x01\r\n", "!EPROTO bad-byte@22"},
		{"MSRP tid1 SEND\r\nfrob\r\n", "!EPROTO no-colon@22"},
		{"MSRP tid1 SEND\r\n X: 1\r\n", "!EPROTO bad-name@23"},
		{"MSRP tid1 SEND\r\n-------tid2$\r\n", "!EPROTO no-colon@30"},
		{"MSRP tid1 SEND\r\n" TO END, "!EPROTO no-path@57"},
		{"MSRP tid1 SEND\r\n" FROM TEXT, "!EPROTO no-path@73"},
		{"MSRP tid1 SEND\r\n" FROM "To-Path: sip:x\r\n" END,
				"!EPROTO bad-path@75"},
};

START_TEST(frame)
{
	struct cpm_pl log = trickle(&teller, cpm_pl_str(frames[_i].in));

	ck_pl_eq(log, frames[_i].want);
	fu_free(&log);
}
END_TEST

/* ---- whole files ---- */

static const struct
{
	const char *file, *want;
} files[] = {
		{"rfc4975-4-send.msrp",
				"[SEND/1/0 tid=a786hjs2 id=87652491 type=text/plain "
				"range=1-25/25 body]Bob, will you be there?<$>"},
		{"rfc4975-4-response.msrp", "[200/0/200 comment=OK tid=a786hjs2]<$>"},
		{"rfc4975-5.1-chunks.msrp",
				"[SEND/1/0 tid=dkei38sd id=4564dpWd type=text/plain "
				"range=1-*/8 body]abcd<+>"
				"[SEND/1/0 tid=dkei38ia id=4564dpWd type=text/plain "
				"range=5-8/8 body]EFGH<$>"},
		{"rfc4975-7.1.1-abort.msrp",
				"[SEND/1/0 tid=8jk3ls0q id=12339sdqwer type=text/plain "
				"range=1-*/4000 body]the beginning of what<#>"},
		{"rfc4975-7.1.2-report.msrp",
				"[REPORT/2/0 tid=dkei38sd id=12339sdqwer range=1-106/106 "
				"status=0,200]<$>"},
		{"rfc4975-11.1-html.msrp",
				"[SEND/1/0 tid=d93kswow id=12339sdqwer type=text/html "
				"range=1-101/101 success fr=no body]<html><body>\r\n"
				"<p>Seen in section 11.1:\r\n"
				"<a href=\"http://www.example.com/a\">it</a></p>\r\n"
				"</body></html><$>"},
		{"rfc4976-5.1-auth.msrp", "[AUTH/3/0 tid=49fh]<$>"},
		{"rfc4976-5.1-auth-ok.msrp",
				"[200/0/200 comment=OK tid=49fi use="
				"msrps://intra.example.com:9000/jui787s2f;tcp "
				"msrps://extra.example.com:9000/jui787s2f;tcp "
				"expires=900]<$>"},
};

START_TEST(file)
{
	struct cpm_pl text = fu_slurp(files[_i].file);
	struct cpm_pl log = trickle(&teller, text);

	ck_pl_eq(log, files[_i].want);
	fu_free(&log);
	fu_free(&text);
}
END_TEST

/* ---- limits ---- */

/* What a parser says of a frame that text begins and n times more goes on. */
static struct cpm_pl flood(const char *text, const char *more, int n)
{
	static char out[16384];
	struct cpm_wr log;
	struct teller *t;

	cpm_wr_init(&log, out, sizeof(out));
	t = teller_open(&log);
	teller_feed(t, cpm_pl_str(text));
	while(n-- > 0 && t->rc == CPM_OK)
		teller_feed(t, cpm_pl_str(more));
	teller_close(t);
	return cpm_wr_pl(&log);
}

START_TEST(limits)
{
	ck_pl_eq(flood("MSRP ", "x", 4000), "!ELIMIT head-too-large");
	ck_pl_eq(flood(SEND "X: ", "x", 4000), "!ELIMIT head-too-large");
	ck_pl_eq(flood(SEND, "X: some header\r\n", 1000), "!ELIMIT head-too-large");
	ck_pl_eq(flood(SEND, "X:\r\n", 1000), "!ELIMIT too-many-headers@324");
	ck_assert(cpm_pl_starts(flood(SEND TEXT, "0123456789", 400),
			CPM_PL_LIT("[SEND/1/0 tid=tid1 type=text/plain body]0123")));
	ck_assert_ptr_nonnull(strstr(
			flood(SEND TEXT, "0123456789", 401).p, "!ELIMIT body-too-large"));
}
END_TEST

START_TEST(long_line)
{
	static char buf[8192], line[4096];
	struct cpm_msrp_parser p;
	struct cpm_msrp_item item;

	memset(line, 'x', sizeof(line));
	cpm_msrp_parser_init(&p, buf, sizeof(buf), 0);
	ck_assert_int_eq(cpm_msrp_parser_next(&p, CPM_PL_LIT(SEND), &item),
			sizeof(SEND) - 1);
	ck_assert_int_eq(
			cpm_msrp_parser_next(&p, cpm_pl(line, sizeof(line)), &item),
			CPM_ELIMIT);
	ck_assert_str_eq(p.diag.why, "line-too-long");
}
END_TEST

/* ---- byte ranges ---- */

static const struct
{
	const char *text;
	int rc;
} ranges[] = {
		{"1-25/25", CPM_OK},
		{"1-*/*", CPM_OK},
		{"1-0/0", CPM_OK},
		{"5-4/8", CPM_OK},
		{"9-*/8", CPM_OK},
		{"2305843009213693952-*/*", CPM_OK},
		{"2305843009213693953-*/*", CPM_ELIMIT},
		{"1-18446744073709551616/*", CPM_ELIMIT},
		{"0-1/1", CPM_EPROTO},
		{"5-3/8", CPM_EPROTO},
		{"1-9/8", CPM_EPROTO},
		{"10-*/8", CPM_EPROTO},
		{"*-1/1", CPM_EPROTO},
		{"1-1", CPM_EPROTO},
		{"1/1", CPM_EPROTO},
		{"-1-1/1", CPM_EPROTO},
		{"1 - 1/1", CPM_EPROTO},
		{"1-1/1/1", CPM_EPROTO},
		{"", CPM_EPROTO},
};

START_TEST(byte_range)
{
	struct cpm_msrp_byte_range r = {7, 7, 7};
	char *text = guard_dup(ranges[_i].text, strlen(ranges[_i].text));
	char out[80];
	struct cpm_wr w;

	ck_assert_int_eq(cpm_msrp_byte_range_parse(
							 cpm_pl(text, strlen(ranges[_i].text)), &r),
			ranges[_i].rc);
	guard_free(text, strlen(ranges[_i].text));
	if(ranges[_i].rc != CPM_OK) {
		ck_assert(r.start == 7 && r.end == 7 && r.total == 7);
		return;
	}
	cpm_wr_init(&w, out, sizeof(out));
	cpm_msrp_byte_range_put(&w, &r);
	ck_pl_eq(cpm_wr_pl(&w), ranges[_i].text);
}
END_TEST

/* ---- building ---- */

/* A request with a body is built again from what was read. */
static int rebuild(struct cpm_pl in, struct cpm_wr *w)
{
	static char buf[4096];
	struct cpm_msrp_parser p;
	struct cpm_msrp_item item;
	const struct cpm_msrp_head *h = &p.head;
	struct cpm_msrp_req req = {0};
	char name[16];

	cpm_msrp_parser_init(&p, buf, sizeof(buf), 0);
	while(in.n > 0 || !cpm_msrp_parser_idle(&p)) {
		ptrdiff_t n = cpm_msrp_parser_next(&p, in, &item);

		if(n < 0)
			return (int)n;
		in = cpm_pl_from(in, (size_t)n);
		if(item.kind == CPM_MSRP_NOTHING)
			return CPM_EAGAIN;
		if(item.kind == CPM_MSRP_BODY)
			cpm_wr_pl_put(w, item.bytes);
		else if(item.kind == CPM_MSRP_TAIL)
			cpm_msrp_tail_put(w, req.tid, h->has_body, item.flag);
		if(item.kind != CPM_MSRP_HEAD)
			continue;
		req.method = cpm_pl_cstr(h->method_name, name, sizeof(name));
		req.tid = h->tid;
		req.to_path = h->to_path;
		req.from_path = h->from_path;
		req.message_id = h->message_id;
		req.content_type = h->content_type;
		if(h->has_range)
			req.range = h->range;
		req.success_report = h->success_report;
		req.failure_report = h->failure_report;
		req.status = h->status_code;
		cpm_msrp_req_put(w, &req);
	}
	return CPM_OK;
}

START_TEST(rebuilt)
{
	static const char *const same[] = {"rfc4975-4-send.msrp",
			"rfc4975-5.1-chunks.msrp", "rfc4975-7.1.1-abort.msrp",
			"rfc4975-7.1.2-report.msrp", "rfc4975-11.1-html.msrp",
			"rfc4976-5.1-auth.msrp"};
	struct cpm_pl text = fu_slurp(same[_i]);

	round_trip(rebuild, text, text);
	fu_free(&text);
}
END_TEST

START_TEST(response)
{
	static const char in[] =
			"MSRP tid1 SEND\r\n"
			"To-Path: msrp://b:2/t;tcp msrp://c:3/u;tcp\r\n"
			"From-Path: msrp://r:4/v;tcp msrp://a:1/s;tcp\r\n" END;
	char buf[1024], out[1024];
	struct cpm_msrp_parser p;
	struct cpm_msrp_item item;
	struct cpm_wr w;

	cpm_msrp_parser_init(&p, buf, sizeof(buf), 0);
	cpm_msrp_parser_next(&p, cpm_pl(in, sizeof(in) - 1), &item);
	ck_assert_int_eq(item.kind, CPM_MSRP_HEAD);
	ck_pl_eq(cpm_msrp_head_session(&p.head), "u");
	cpm_wr_init(&w, out, sizeof(out));
	cpm_msrp_response_put(&w, &p.head, 481);
	ck_pl_eq(cpm_wr_pl(&w), "MSRP tid1 481 No such session\r\n"
							"To-Path: msrp://r:4/v;tcp\r\n"
							"From-Path: msrp://b:2/t;tcp\r\n" END);
	cpm_wr_init(&w, out, sizeof(out));
	cpm_msrp_response_put(&w, &p.head, 499);
	ck_assert(cpm_pl_starts(cpm_wr_pl(&w), CPM_PL_LIT("MSRP tid1 499\r\n")));
}
END_TEST

START_TEST(ids)
{
	ck_assert(cpm_msrp_is_id(CPM_PL_LIT("a.-+%=9")));
	ck_assert(cpm_msrp_is_id(CPM_PL_LIT("0123456789abcdef0123456789abcdef")));
	ck_assert(!cpm_msrp_is_id(CPM_PL_LIT("0123456789abcdef0123456789abcdefx")));
	ck_assert(!cpm_msrp_is_id(CPM_PL_LIT("abc")));
	ck_assert(!cpm_msrp_is_id(CPM_PL_LIT(".abcd")));
	ck_assert(!cpm_msrp_is_id(CPM_PL_LIT("ab cd")));
	ck_assert(!cpm_msrp_is_id(CPM_PL_NULL));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_msrp_frame");

	fu_table(
			s, "a frame tells the same however it is cut", frame, FU_N(frames));
	fu_table(s, "examples of the RFCs are read", file, FU_N(files));
	fu_case(s, "a frame's head and body have limits", limits);
	fu_case(s, "a line has a limit of its own", long_line);
	fu_table(s, "a byte range is bounded and fits itself", byte_range,
			FU_N(ranges));
	fu_table(s, "a frame is built as it was read", rebuilt, 6);
	fu_case(s, "a response goes back the way of the request", response);
	fu_case(s, "what goes out as an id keeps to the RFC", ids);
	return fu_run(s);
}
