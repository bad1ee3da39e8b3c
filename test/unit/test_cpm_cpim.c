/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_cpim.c - Message/CPIM as clients really send it.
 */

#include "check_helpers.h"
#include "cpm_cpim.h"

#define HEAD "From: <sip:a@h>\r\n"
#define IMDN "NS: imdn <urn:ietf:params:imdn>\r\n"
#define TEXT "\r\nContent-Type: text/plain\r\n\r\nhi"

/* All slices lie in the input, and the content is its end. */
static void check_slices(const struct cpm_cpim *c, struct cpm_pl in)
{
	const struct cpm_pl all[] = {c->from, c->to, c->datetime, c->subject,
			c->message_id, c->content_type, c->content_transfer_encoding,
			c->content_disposition, c->content};

	for(size_t i = 0; i < FU_N(all); i++)
		ck_assert(fu_pl_inside(all[i], in));
	ck_assert_ptr_eq(c->content.p + c->content.n, in.p + in.n);
}

/* Parses a guarded copy, which *in_r then is; guard_free it. */
static int parse(struct cpm_pl text, struct cpm_pl *in_r, struct cpm_cpim *c,
		struct cpm_diag *diag)
{
	char *in = guard_dup(text.p, text.n);
	struct cpm_cpim before;
	int rc;

	memset(c, 0x5a, sizeof(*c));
	before = *c;
	*in_r = cpm_pl(in, text.n);
	rc = cpm_cpim_parse(*in_r, c, diag);
	if(rc == CPM_OK)
		check_slices(c, *in_r);
	else
		ck_assert_mem_eq(c, &before, sizeof(before));
	return rc;
}

static void drop(struct cpm_pl in)
{
	char *end = NULL;

	memcpy(&end, &in.p, sizeof(end));
	guard_free(end, in.n);
}

/* ---- whole files ---- */

static const struct
{
	const char *file, *from, *to, *datetime, *subject, *message_id;
	unsigned dispo;
	const char *content_type, *cte, *disposition, *content_start;
	size_t content_len;
	bool is_imdn;
} files[] = {
		{"rfc3862-3.4-namespaces.cpim", "Alice <im:alice@example.org>",
				"Bob <im:bob@example.org>", "2026-03-01T10:00:00+01:00",
				"two of them", "", 0, "text/plain; charset=utf-8", "", "",
				"Hello Bob,\r\n\r\ntwo", 26, false},
		{"rfc5438-7.1.1-request.cpim", "Alice <im:alice@example.org>",
				"Bob <im:bob@example.org>", "2026-03-01T09:00:00Z", "",
				"34jk324j", CPM_DISPO_POSITIVE | CPM_DISPO_DISPLAY,
				"text/plain", "", "", "Hello World", 11, false},
		{"rfc5438-7.2.1-notification.cpim", "Bob <im:bob@example.org>",
				"Alice <im:alice@example.org>", "", "", "d834jied93rf", 0,
				"message/imdn+xml", "", "notification", "<?xml", 206, true},
		{"cpim-client-anonymous-base64.cpim",
				"<sip:anonymous@anonymous.invalid>",
				"<sip:anonymous@anonymous.invalid>", "2026-03-01T09:00:00.000Z",
				"", "MsgJ6sd8f", CPM_DISPO_POSITIVE | CPM_DISPO_DISPLAY,
				"text/plain;charset=UTF-8", "base64", "", "SGVsbG8=", 8, false},
};

static void check_file(const struct cpm_cpim *c, int i)
{
	ck_pl_eq(c->from, files[i].from);
	ck_pl_eq(c->to, files[i].to);
	ck_pl_eq(c->datetime, files[i].datetime);
	ck_pl_eq(c->subject, files[i].subject);
	ck_pl_eq(c->message_id, files[i].message_id);
	ck_assert_uint_eq(c->dispo, files[i].dispo);
	ck_pl_eq(c->content_type, files[i].content_type);
	ck_pl_eq(c->content_transfer_encoding, files[i].cte);
	ck_pl_eq(c->content_disposition, files[i].disposition);
	ck_assert(c->is_imdn == files[i].is_imdn);
}

START_TEST(whole_file)
{
	struct cpm_pl text = fu_slurp(files[_i].file), in;
	struct cpm_cpim c;

	ck_assert_int_eq(parse(text, &in, &c, NULL), CPM_OK);
	check_file(&c, _i);
	ck_assert_uint_eq(c.content.n, files[_i].content_len);
	ck_assert(cpm_pl_starts(c.content, cpm_pl_str(files[_i].content_start)));
	drop(in);
	fu_free(&text);
}
END_TEST

/* the same with every CR taken out */
START_TEST(bare_lf)
{
	struct cpm_pl text = fu_slurp(files[_i].file), in;
	char *lf = malloc(text.n);
	struct cpm_cpim c;
	size_t n = 0;

	for(size_t i = 0; i < text.n; i++)
		if(text.p[i] != '\r')
			lf[n++] = text.p[i];
	ck_assert_int_eq(parse(cpm_pl(lf, n), &in, &c, NULL), CPM_OK);
	check_file(&c, _i);
	drop(in);
	free(lf);
	fu_free(&text);
}
END_TEST

/* A cut one fails until the empty line behind the inner headers is there;
 * from there on only content is missing. */
static void check_prefix(struct cpm_pl prefix, void *arg)
{
	size_t content_at = *(size_t *)arg;
	struct cpm_cpim c;
	struct cpm_diag diag = {NULL, 0};
	int rc = cpm_cpim_parse(prefix, &c, &diag);

	if(prefix.n >= content_at) {
		ck_assert_int_eq(rc, CPM_OK);
		ck_assert_uint_eq(c.content.n, prefix.n - content_at);
		return;
	}
	ck_assert_int_eq(rc, CPM_EPROTO);
	ck_assert_str_eq(diag.why, prefix.n ? "no-separator" : "no-header");
	ck_assert_uint_eq(diag.at, prefix.n);
}

START_TEST(cut_file)
{
	struct cpm_pl text = fu_slurp(files[_i].file);
	size_t content_at = text.n - files[_i].content_len;

	guard_prefixes(text, check_prefix, &content_at);
	fu_free(&text);
}
END_TEST

/* ---- one feature each ---- */

/* field: the one looked at */
enum look
{
	FROM,
	SUBJECT,
	ID,
	DISPO,
	CTYPE,
	CTE,
	CDISP,
	CONTENT,
};

static const struct
{
	const char *text;
	enum look look;
	const char *want;
	unsigned dispo;
} features[] = {
		/* outer headers */
		{HEAD TEXT, FROM, "<sip:a@h>", 0},
		{"from:<sip:a@h>\r\n" TEXT, FROM, "<sip:a@h>", 0},
		{"From : \t<sip:a@h> \t\r\n" TEXT, FROM, "<sip:a@h>", 0},
		{"From:\r\n" TEXT, FROM, "", 0},
		{"From: a\r\nFrom: b\r\n" TEXT, FROM, "a", 0},
		{"From: J\xc3\xb6rg <sip:a@h>\r\n" TEXT, FROM, "J\xc3\xb6rg <sip:a@h>",
				0},
		{"From: a:b:c\r\n" TEXT, FROM, "a:b:c", 0},
		{"X-Unknown: 1\r\nFrom: a\r\n" TEXT, FROM, "a", 0},
		/* parameters */
		{"Subject:;lang=fr beau\r\n" TEXT, SUBJECT, "beau", 0},
		{"Subject:;lang=fr;x=\"a b;\\\" c\" beau temps\r\n" TEXT, SUBJECT,
				"beau temps", 0},
		{"Subject: ;lang=fr\r\n" TEXT, SUBJECT, ";lang=fr", 0},
		{"Subject:;lang=fr\r\n" TEXT, SUBJECT, "", 0},
		{"Subject:;x=\"a b\r\n" TEXT, SUBJECT, "", 0},
		{"Subject:;x=\"a\\\r\n" TEXT, SUBJECT, "", 0},
		/* namespaces */
		{IMDN "imdn.Message-ID: m1\r\n" TEXT, ID, "m1", 0},
		{"NS: imdn<urn:ietf:params:imdn>\r\nimdn.Message-ID: m1\r\n" TEXT, ID,
				"m1", 0},
		{"NS: x <urn:ietf:params:imdn>\r\nx.Message-ID: m1\r\n" TEXT, ID, "m1",
				0},
		{"NS: x <URN:ietf:params:IMDN>\r\nx.message-id: m1\r\n" TEXT, ID, "m1",
				0},
		{"NS:<urn:ietf:params:imdn>\r\nMessage-ID: m1\r\n" TEXT, ID, "m1", 0},
		{"NS: <urn:ietf:params:imdn>\r\nFrom: a\r\n" TEXT, FROM, "a", 0},
		{"imdn.Message-ID: m1\r\n" TEXT, ID, "m1", 0},
		{"IMDN.Message-ID: m1\r\n" TEXT, ID, "m1", 0},
		{"imdn.Message-ID: m1\r\n" IMDN TEXT, ID, "m1", 0},
		{"NS: imdn <urn:other>\r\nimdn.Message-ID: m1\r\n" TEXT, ID, "", 0},
		{"NS: x <urn:other>\r\nx.Message-ID: m1\r\n" TEXT, ID, "", 0},
		{"NS: x <urn:other>\r\nNS: x <urn:ietf:params:imdn>\r\n"
		 "x.Message-ID: m1\r\n" TEXT,
				ID, "m1", 0},
		{"Message-ID: m1\r\n" TEXT, ID, "", 0},
		{"x.Message-ID: m1\r\n" TEXT, ID, "", 0},
		{"NS: c <urn:ietf:params:cpim-headers:>\r\nc.From: a\r\n" TEXT, FROM,
				"a", 0},
		{"NS: <urn:other>\r\nFrom: a\r\n" TEXT, FROM, "", 0},
		{"From: a\r\nNS: <urn:other>\r\nFrom: b\r\n" TEXT, FROM, "a", 0},
		{"x.From: a\r\n" TEXT, FROM, "", 0},
		{IMDN "imdn.From: a\r\n" TEXT, FROM, "", 0},
		/* what is to be told */
		{IMDN "imdn.Disposition-Notification: positive-delivery\r\n" TEXT,
				DISPO, NULL, CPM_DISPO_POSITIVE},
		{IMDN "imdn.Disposition-Notification: Negative-Delivery,"
			  "PROCESSING ,\tdisplay\r\n" TEXT,
				DISPO, NULL,
				CPM_DISPO_NEGATIVE | CPM_DISPO_PROCESSING | CPM_DISPO_DISPLAY},
		{IMDN "imdn.Disposition-Notification: display;x=y, other\r\n" TEXT,
				DISPO, NULL, CPM_DISPO_DISPLAY},
		{IMDN "imdn.Disposition-Notification: display\r\n"
			  "imdn.Disposition-Notification: processing\r\n" TEXT,
				DISPO, NULL, CPM_DISPO_DISPLAY | CPM_DISPO_PROCESSING},
		{IMDN "imdn.Disposition-Notification: ,displayed, ,\r\n" TEXT, DISPO,
				NULL, 0},
		{IMDN "imdn.Disposition-Notification:\r\n" TEXT, DISPO, NULL, 0},
		/* inner headers */
		{HEAD "\r\nCONTENT-type : text/plain \r\n\r\nhi", CTYPE, "text/plain",
				0},
		{HEAD "\r\nContent-Type: text/plain;\r\n\tcharset=x\r\n  ;y\r\n\r\nhi",
				CTYPE, "text/plain;\r\n\tcharset=x\r\n  ;y", 0},
		{HEAD "\r\nContent-Type:\r\n text/plain\r\n\r\nhi", CTYPE, "text/plain",
				0},
		{HEAD "\r\nX: a\r\n Content-Type: b/c\r\n\r\nhi", CTYPE, "", 0},
		{HEAD "\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\nhi", CTYPE,
				"a/b", 0},
		{HEAD "\r\nContent-Transfer-Encoding: base64\r\n\r\nhi", CTE, "base64",
				0},
		{HEAD "\r\nContent-Disposition: notification\r\n\r\nhi", CDISP,
				"notification", 0},
		/* the content */
		{HEAD TEXT, CONTENT, "hi", 0},
		{HEAD "\r\n\r\nhi", CONTENT, "hi", 0},
		{HEAD "\r\n\r\n", CONTENT, "", 0},
		{HEAD "\n\nhi", CONTENT, "hi", 0},
		{HEAD "\r\nA: b\n\nhi\r\n\r\n\x01", CONTENT, "hi\r\n\r\n\x01", 0},
		{HEAD "\r\n\r\n\r\nhi", CONTENT, "\r\nhi", 0},
};

static struct cpm_pl looked_at(const struct cpm_cpim *c, enum look look)
{
	switch(look) {
		case FROM:
			return c->from;
		case SUBJECT:
			return c->subject;
		case ID:
			return c->message_id;
		case CTYPE:
			return c->content_type;
		case CTE:
			return c->content_transfer_encoding;
		case CDISP:
			return c->content_disposition;
		case CONTENT:
			return c->content;
		case DISPO:
			break;
	}
	return CPM_PL_NULL;
}

START_TEST(feature)
{
	struct cpm_pl in;
	struct cpm_cpim c;
	struct cpm_diag diag = {"", 0};
	int rc = parse(cpm_pl_str(features[_i].text), &in, &c, &diag);

	ck_assert_msg(rc == CPM_OK, "row %d: %s", _i, diag.why);
	if(features[_i].look == DISPO)
		ck_assert_uint_eq(c.dispo, features[_i].dispo);
	else
		ck_pl_eq(looked_at(&c, features[_i].look), features[_i].want);
	drop(in);
}
END_TEST

static void any_prefix(struct cpm_pl prefix, void *arg)
{
	struct cpm_cpim c;

	(void)arg;
	if(cpm_cpim_parse(prefix, &c, NULL) == CPM_OK)
		check_slices(&c, prefix);
}

START_TEST(cut_feature)
{
	guard_prefixes(cpm_pl_str(features[_i].text), any_prefix, NULL);
}
END_TEST

/* ---- refused ---- */

static const struct
{
	const char *text;
	size_t n; /* 0: strlen */
	const char *why;
	size_t at;
} bad[] = {
		{"", 0, "no-header", 0},
		{"\r\n", 0, "no-header", 0},
		{"\r\n\r\nhi", 0, "no-header", 0},
		{"\nFrom: a\n\n\n", 0, "no-header", 0},
		{"From: a", 0, "no-separator", 7},
		{"From: a\r\n", 0, "no-separator", 9},
		{"From: a\r\n\r", 0, "no-separator", 10},
		{"From: a\r\n\r\n", 0, "no-separator", 11},
		{"From: a\r\n\r\nA: b\r\n", 0, "no-separator", 17},
		{"From: a\r\n\r\nA: b\r\n c", 0, "no-separator", 19},
		{"From\r\n\r\n\r\n", 0, "no-colon", 0},
		{"From: a\r\nhello\r\n\r\n\r\n", 0, "no-colon", 9},
		{": a\r\n\r\n\r\n", 0, "no-colon", 0},
		{" : a\r\n\r\n\r\n", 0, "no-colon", 0},
		{"From: a\r\n To: b\r\n\r\n\r\n", 0, "no-colon", 9},
		{"From: a\r\n\tTo: b\r\n\r\n\r\n", 0, "no-colon", 9},
		{"Fr om: a\r\n\r\n\r\n", 0, "no-colon", 0},
		{"Fr\tom: a\r\n\r\n\r\n", 0, "no-colon", 0},
		{"From: a\r\n\r\nhello\r\n\r\n", 0, "no-colon", 11},
		{"From: a\r\n\r\n A: b\r\n\r\n", 0, "no-colon", 11},
		{"From: a\0b\r\n\r\n\r\n", 15, "bad-byte", 7},
		{"Fr\0om: a\r\n\r\n\r\n", 14, "bad-byte", 2},
		{"From: a\x01\r\n\r\n\r\n", 0, "bad-byte", 7},
		{"From: a\x7f\r\n\r\n\r\n", 0, "bad-byte", 7},
		{"From: a\rTo: b\r\n\r\n\r\n", 0, "bad-byte", 7},
		{"From: a\r\r\n\r\n\r\n", 0, "bad-byte", 7},
		{"From: a\r\n\r\nA: \x1b\r\n\r\n", 0, "bad-byte", 14},
		{"From: a\r\n\r\nA: b\r\n \x1b\r\n\r\n", 0, "bad-byte", 18},
		{"NS: imdn\r\n\r\n\r\n", 0, "bad-ns", 0},
		{"From: a\r\nNS:\r\n\r\n\r\n", 0, "bad-ns", 9},
		{"NS: imdn urn:x\r\n\r\n\r\n", 0, "bad-ns", 0},
		{"NS: imdn <urn:x\r\n\r\n\r\n", 0, "bad-ns", 0},
		{"NS: imdn <\r\n\r\n\r\n", 0, "bad-ns", 0},
		{"NS: imdn urn:x>\r\n\r\n\r\n", 0, "bad-ns", 0},
		{"NS: imdn <urn:x> y\r\n\r\n\r\n", 0, "bad-ns", 0},
		{"NS: a b <urn:x>\r\n\r\n\r\n", 0, "bad-ns", 0},
		{"NS: a.b <urn:x>\r\n\r\n\r\n", 0, "bad-ns", 0},
};

static struct cpm_pl bad_text(int i)
{
	return cpm_pl(bad[i].text, bad[i].n ? bad[i].n : strlen(bad[i].text));
}

START_TEST(refused)
{
	struct cpm_pl in;
	struct cpm_cpim c;
	struct cpm_diag diag = {"", 0};

	ck_assert_int_eq(parse(bad_text(_i), &in, &c, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, bad[_i].why);
	ck_assert_uint_eq(diag.at, bad[_i].at);
	drop(in);
}
END_TEST

START_TEST(cut_refused)
{
	guard_prefixes(bad_text(_i), any_prefix, NULL);
}
END_TEST

/* ---- bounds ---- */

/* outer and inner header lines, the last inner ones folded */
static int with_lines(size_t outer, size_t inner, struct cpm_diag *diag)
{
	static char buf[16384];
	struct cpm_wr w;
	struct cpm_cpim c;
	struct cpm_pl in;
	int rc;

	cpm_wr_init(&w, buf, sizeof(buf));
	for(size_t i = 0; i < outer; i++)
		cpm_wr_str(&w, "A: b\r\n");
	cpm_wr_str(&w, "\r\n");
	for(size_t i = 0; i < inner; i++)
		cpm_wr_str(&w, i ? " c\r\n" : "C: d\r\n");
	cpm_wr_str(&w, "\r\n");
	ck_assert(cpm_wr_ok(&w));
	rc = parse(cpm_wr_pl(&w), &in, &c, diag);
	drop(in);
	return rc;
}

START_TEST(header_count)
{
	struct cpm_diag diag = {"", 0};
	size_t max = CPM_CPIM_HEADERS_MAX;

	ck_assert_int_eq(with_lines(max, 0, &diag), CPM_OK);
	ck_assert_int_eq(with_lines(1, max - 1, &diag), CPM_OK);
	ck_assert_int_eq(with_lines(max + 1, 0, &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-many-headers");
	ck_assert_uint_eq(diag.at, max * strlen("A: b\r\n"));
	diag.why = "";
	ck_assert_int_eq(with_lines(1, max, &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-many-headers");
}
END_TEST

static int with_ns(size_t count, bool distinct, struct cpm_diag *diag)
{
	char buf[1024];
	struct cpm_wr w;
	struct cpm_cpim c;
	struct cpm_pl in;
	int rc;

	cpm_wr_init(&w, buf, sizeof(buf));
	for(size_t i = 0; i < count; i++) {
		cpm_wr_str(&w, "NS: n");
		cpm_wr_u64(&w, distinct ? i : 0);
		cpm_wr_str(&w, " <urn:x>\r\n");
	}
	cpm_wr_str(&w, "\r\n\r\n");
	ck_assert(cpm_wr_ok(&w));
	rc = parse(cpm_wr_pl(&w), &in, &c, diag);
	drop(in);
	return rc;
}

START_TEST(ns_count)
{
	struct cpm_diag diag = {"", 0};

	ck_assert_int_eq(with_ns(CPM_CPIM_NS_MAX, true, &diag), CPM_OK);
	ck_assert_int_eq(with_ns(CPM_CPIM_NS_MAX + 1, true, &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-many-ns");
	ck_assert_int_eq(with_ns(CPM_CPIM_NS_MAX + 1, false, &diag), CPM_OK);
}
END_TEST

/* ---- Content-Type ---- */

static const struct
{
	const char *value, *type;
	bool is;
} types[] = {
		{"message/cpim", "message/cpim", true},
		{"Message/CPIM", "message/cpim", true},
		{" message/cpim\t", "message/cpim", true},
		{"Message/CPIM; charset=x", "message/cpim", true},
		{"message/cpim;x=y;z", "message/cpim", true},
		{"message / cpim ;", "message/cpim", true},
		{"message/\r\n cpim", "message/cpim", true},
		{"message/cpimx", "message/cpim", false},
		{"message/cpi", "message/cpim", false},
		{"message/cpim x", "message/cpim", false},
		{"message/cpim/x", "message/cpim", false},
		{"xmessage/cpim", "message/cpim", false},
		{"message", "message/cpim", false},
		{"message/", "message/cpim", false},
		{"/cpim", "message/cpim", false},
		{"x;message/cpim", "message/cpim", false},
		{"", "message/cpim", false},
		{NULL, "message/cpim", false},
		{"message/imdn+xml", "message/imdn+xml", true},
};

START_TEST(ctype)
{
	ck_assert(cpm_ctype_is(cpm_pl_str(types[_i].value), types[_i].type)
			  == types[_i].is);
}
END_TEST

START_TEST(imdn_by_type)
{
	struct cpm_pl in;
	struct cpm_cpim c;

	ck_assert_int_eq(parse(cpm_pl_str(HEAD "\r\nContent-Type: Message/IMDN+xml;"
										   "\r\n charset=x\r\n\r\n"),
							 &in, &c, NULL),
			CPM_OK);
	ck_assert(c.is_imdn);
	drop(in);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_cpim");

	fu_table(
			s, "a message as clients send it is read", whole_file, FU_N(files));
	fu_table(s, "a bare LF ends a line as well", bare_lf, FU_N(files));
	fu_table(s, "a cut message has no separator, until only content lacks",
			cut_file, FU_N(files));
	fu_table(s, "headers vary and are understood", feature, FU_N(features));
	fu_table(
			s, "a cut one stays inside its bytes", cut_feature, FU_N(features));
	fu_table(
			s, "what is broken is refused, with the place", refused, FU_N(bad));
	fu_table(s, "a cut broken one stays inside its bytes", cut_refused,
			FU_N(bad));
	fu_case(s, "one header line too many is refused", header_count);
	fu_case(s, "one namespace too many is refused", ns_count);
	fu_table(s, "a content type is compared without its dress", ctype,
			FU_N(types));
	fu_case(s, "an IMDN is known by its type", imdn_by_type);
	return fu_run(s);
}
