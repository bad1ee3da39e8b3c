/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_object.c - objects of the Message Storage Server, and where they
 * are put.
 */

#include "check_helpers.h"

#include "cpm_object.h"

#define CPIM                                  \
	"From: <sip:alice@example.org>\r\n"       \
	"To: <sip:bob@example.org>\r\n"           \
	"DateTime: 2010-11-13T23:30:00+00:00\r\n" \
	"Subject: from inside\r\n\r\n"            \
	"Content-Type: text/plain\r\n\r\nHello \xc3\xa4\r\n"

static char out[400000];
static char want[20000];

static struct cpm_msg message(void)
{
	return (struct cpm_msg){
			.id = CPM_PL_LIT("m-1@example.org"),
			.aor = CPM_PL_LIT("sip:bob@example.org"),
			.from = CPM_PL_LIT("\"Alice\" <sip:alice@example.org>"),
			.to = CPM_PL_LIT("<sip:bob@example.org>"),
			.subject = CPM_PL_LIT("hi"),
			.content_type = CPM_PL_LIT("message/cpim"),
			.conversation_id = CPM_PL_LIT("conv-1"),
			.contribution_id = CPM_PL_LIT("contrib-1"),
			.originator = CPM_PL_LIT("sip:alice@example.org"),
			.headers =
					CPM_PL_LIT("Subject: hi\r\n"
							   "Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n"
							   "P-Asserted-Identity: <tel:+4412>, <sip:a@b>\r\n"
							   "P-Asserted-Service: urn:x\r\n"
							   "InReplyTo-Contribution-ID: contrib-0\r\n"),
			.aside = CPM_PL_LIT("a: *;+one\r\n"
								"Referred-By: <sip:carol@example.org>\r\n"
								"Accept-Contact: *;+two\r\n"),
			.body = CPM_PL_LIT(CPIM),
			.received_ms = 1289700000000,
			.fingerprint = UINT64_C(0x0123456789abcdef),
	};
}

static struct cpm_pl build(const struct cpm_msg *m)
{
	struct cpm_wr w;

	ck_assert_uint_le(cpm_object_max(m), sizeof(out));
	cpm_wr_init(&w, out, cpm_object_max(m));
	ck_assert_int_eq(cpm_object_build(m, &w), CPM_OK);
	return cpm_wr_pl(&w);
}

/* Up to the empty line; *body_r: behind it. Every line is a header's. */
static struct cpm_pl head(struct cpm_pl object, struct cpm_pl *body_r)
{
	struct cpm_pl rest = object;

	for(;;) {
		struct cpm_pl line = cpm_pl_cut(&rest, '\n');
		ck_assert(rest.p != NULL);
		ck_assert_uint_le(line.n, CPM_OBJECT_LINE_MAX + 1);
		ck_assert(line.n > 0 && line.p[line.n - 1] == '\r');
		ck_assert_uint_eq(cpm_pl_ctl(line), line.n - 1);
		if(line.n == 1)
			break;
		ck_assert(line.p[0] == ' ' || cpm_pl_chr(line, ':') < line.n);
	}
	*body_r = rest;
	return cpm_pl(object.p, object.n - rest.n - 2);
}

static bool has(struct cpm_pl block, const char *text)
{
	struct cpm_pl t = cpm_pl_str(text);

	for(size_t i = 0; i + t.n <= block.n; i++)
		if(memcmp(block.p + i, t.p, t.n) == 0)
			return true;
	return false;
}

START_TEST(whole)
{
	struct cpm_msg m = message();

	ck_pl_eq(build(&m), "From: <tel:+4412>\r\n"
						"To: <sip:bob@example.org>\r\n"
						"Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n"
						"Subject: hi\r\n"
						"P-Asserted-Service: urn:x\r\n"
						"Conversation-ID: conv-1\r\n"
						"Contribution-ID: contrib-1\r\n"
						"InReplyTo-Contribution-ID: contrib-0\r\n"
						"Accept-Contact: *;+one\r\n"
						"Accept-Contact: *;+two\r\n"
						"IMDN-Message-ID: m-1@example.org\r\n"
						"Message-Direction: received\r\n"
						"X-CPM-Fingerprint: 0123456789abcdef\r\n"
						"MIME-Version: 1.0\r\n"
						"Content-Type: message/cpim\r\n"
						"Content-Transfer-Encoding: 8bit\r\n"
						"\r\n" CPIM);
	ck_assert_uint_eq(cpm_object_date(&m), 1289690940000);
}
END_TEST

START_TEST(senders)
{
	struct cpm_msg m = message();
	struct cpm_pl body;

	m.flags = CPM_MSG_F_REFERRED;
	ck_assert(has(head(build(&m), &body), "From: <sip:carol@example.org>\r\n"));
	m.flags |= CPM_MSG_F_WITHHELD;
	ck_assert(has(head(build(&m), &body),
			"From: <sip:anonymous@anonymous.invalid>\r\n"));
	ck_assert(!has(head(build(&m), &body), "4412"));
	m.flags = CPM_MSG_F_ANONYMOUS;
	ck_assert(!has(head(build(&m), &body), "carol"));
	m.flags = CPM_MSG_F_REFERRED;
	m.headers = m.aside = CPM_PL_NULL;
	ck_assert(has(head(build(&m), &body),
			"From: \"Alice\" <sip:alice@example.org>\r\n"));
	m.from = CPM_PL_LIT("sip:alice@example.org;x=y");
	ck_assert(has(
			head(build(&m), &body), "From: <sip:alice@example.org;x=y>\r\n"));
}
END_TEST

START_TEST(dates)
{
	struct cpm_msg m = message();
	struct cpm_pl body;

	m.headers = CPM_PL_NULL;
	ck_assert_uint_eq(cpm_object_date(&m), 1289691000000);
	ck_assert(has(
			head(build(&m), &body), "Date: Sat, 13 Nov 2010 23:30:00 GMT\r\n"));
	m.content_type = CPM_PL_LIT("text/plain");
	ck_assert_uint_eq(cpm_object_date(&m), m.received_ms);
	m.headers = CPM_PL_LIT("Date: Sat, 13 Nov 2090 23:29:00 GMT\r\n");
	ck_assert_uint_eq(cpm_object_date(&m), m.received_ms);
}
END_TEST

/* A value of a stored record may hold anything, whoever put it there. */
START_TEST(injected)
{
	struct cpm_msg m = message();
	struct cpm_pl body;

	m.subject = CPM_PL_LIT("x\r\nBcc: eve@example.org\r\n\r\nbody \0\x01 y");
	m.conversation_id = CPM_PL_LIT("c\nX-Evil: 1");
	m.contribution_id = CPM_PL_LIT("\r\n\r\n");
	m.from = CPM_PL_LIT("<sip:a@b>\r\n\r\nHello");
	m.content_type = CPM_PL_LIT("message/cpim;\r\n x=y");
	m.headers = m.aside = CPM_PL_NULL;
	struct cpm_pl h = head(build(&m), &body);
	ck_assert(has(h, "Subject: x Bcc: eve@example.org body y\r\n"));
	ck_assert(has(h, "Conversation-ID: c X-Evil: 1\r\n"));
	ck_assert(!has(h, "Contribution-ID:"));
	ck_assert(has(h, "From: <sip:a@b> Hello\r\n"));
	ck_assert(has(h, "Content-Type: message/cpim; x=y\r\n"));
	ck_pl_eq(body, CPIM);
}
END_TEST

START_TEST(long_values)
{
	struct cpm_msg m = message();
	struct cpm_pl body;
	static char text[5000];

	memset(text, 'w', sizeof(text));
	for(size_t i = 50; i < sizeof(text); i += 50)
		text[i] = ' ';
	m.subject = cpm_pl(text, sizeof(text));
	m.conversation_id = cpm_pl(text + 51, 49);
	ck_assert_uint_gt(head(build(&m), &body).n, sizeof(text));
	/* one word: folded behind a separator, else cut */
	memset(text, 'w', sizeof(text));
	text[900] = ';';
	m.subject = CPM_PL_LIT("s");
	m.contribution_id = cpm_pl(text, sizeof(text));
	ck_assert(has(head(build(&m), &body), ";\r\n w"));
}
END_TEST

static const struct
{
	const char *in;
	const char *out;
} subjects[] = {
		{"plain", "Subject: plain\r\n"},
		{"Gr\xc3\xbc\xc3\x9f", "Subject: =?UTF-8?B?R3LDvMOf?=\r\n"},
		{"no \xff utf-8", "Subject: =?UTF-8?B?bm8gPyB1dGYtOA==?=\r\n"},
		{"=?UTF-8?Q?x?=", "Subject: =?UTF-8?B?PT9VVEYtOD9RP3g/PQ==?=\r\n"},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xc3\xa4z",
				"Subject: =?UTF-8?B?"
				"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=?="
				"\r\n =?UTF-8?B?w6R6?=\r\n"},
};

START_TEST(subject)
{
	struct cpm_msg m = message();
	struct cpm_pl body;

	m.subject = cpm_pl_str(subjects[_i].in);
	ck_assert(has(head(build(&m), &body), subjects[_i].out));
	ck_pl_eq(body, CPIM);
}
END_TEST

START_TEST(wrapped)
{
	struct cpm_msg m = message();
	struct cpm_pl body;

	m.content_type = CPM_PL_LIT("text/plain;charset=UTF-8");
	m.headers = CPM_PL_LIT("e: gzip\r\nContent-Disposition: render\r\n"
						   "X: y\r\nContent-Type: z\r\n");
	m.body = CPM_PL_LIT("the body");
	struct cpm_pl h = head(build(&m), &body);
	ck_assert(has(h, "Content-Type: message/cpim\r\n"));
	ck_assert(has(h, "Content-Transfer-Encoding: 8bit\r\n"));
	ck_pl_eq(body, "From: \"Alice\" <sip:alice@example.org>\r\n"
				   "To: <sip:bob@example.org>\r\n"
				   "DateTime: 2010-11-14T02:00:00.000Z\r\n"
				   "NS: imdn <urn:ietf:params:imdn>\r\n"
				   "imdn.Message-ID: m-1@example.org\r\n"
				   "\r\n"
				   "Content-Type: text/plain;charset=UTF-8\r\n"
				   "Content-Encoding: gzip\r\n"
				   "Content-Disposition: render\r\n"
				   "\r\n"
				   "the body");
	m.flags = CPM_MSG_F_WITHHELD;
	(void)head(build(&m), &body);
	ck_assert(cpm_pl_starts(
			body, CPM_PL_LIT("From: <sip:anonymous@anonymous.invalid>\r\n")));
}
END_TEST

static const struct
{
	struct cpm_pl in;
	const char *encoding;
	const char *out; /* NULL: as it is */
} bodies[] = {
		{CPM_PL_LIT("ascii\r\n"),
				"MIME-Version: 1.0\r\nContent-Type: "
				"message/cpim\r\n",
				NULL},
		{CPM_PL_LIT("no end"), "MIME-Version", NULL},
		{CPM_PL_LIT("\xe4"), "Encoding: 8bit\r\n", NULL},
		{CPM_PL_LIT("a\0b"), "Encoding: base64\r\n", "YQBi\r\n"},
		{CPM_PL_LIT("a\nb"), "Encoding: base64\r\n", "YQpi\r\n"},
		{CPM_PL_LIT("a\rb."), "Encoding: base64\r\n", "YQ1iLg==\r\n"},
		{CPM_PL_LIT("a\r"), "Encoding: base64\r\n", "YQ0=\r\n"},
		{CPM_PL_LIT("1234567890123456789012345678901234567890123456789012345"
					"\n"),
				"Encoding: base64\r\n",
				"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMz"
				"Q1Njc4OTAxMjM0NQo=\r\n"},
		{CPM_PL_LIT("12345678901234567890123456789012345678901234567890123456"
					"\n"),
				"Encoding: base64\r\n",
				"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMz"
				"Q1Njc4OTAxMjM0NTYK\r\n"},
};

START_TEST(body_forms)
{
	struct cpm_msg m = message();
	struct cpm_pl body;

	m.body = bodies[_i].in;
	ck_assert(has(head(build(&m), &body), bodies[_i].encoding));
	if(bodies[_i].out != NULL)
		ck_pl_eq(body, bodies[_i].out);
	else
		ck_pl_same(body, bodies[_i].in);
}
END_TEST

START_TEST(long_line)
{
	struct cpm_msg m = message();
	static char text[3000];
	struct cpm_pl body;

	memset(text, 'x', sizeof(text));
	m.body = cpm_pl(text, sizeof(text));
	ck_assert(has(
			head(build(&m), &body), "Content-Transfer-Encoding: binary\r\n"));
	ck_pl_same(body, m.body);
}
END_TEST

START_TEST(small)
{
	struct cpm_msg m = message();
	size_t n = build(&m).n;
	struct cpm_wr w;

	for(size_t cap = 0; cap < n; cap++) {
		cpm_wr_init(&w, out, cap);
		ck_assert_int_eq(cpm_object_build(&m, &w), CPM_ENOMEM);
	}
}
END_TEST

START_TEST(known)
{
	struct cpm_msg m = message();
	struct cpm_pl body;
	struct cpm_pl h = head(build(&m), &body);

	memcpy(want, h.p, h.n);
	h.p = want;
	ck_assert(cpm_object_is(h, &m));
	m.id = CPM_PL_LIT("m-1");
	ck_assert(!cpm_object_is(h, &m));
	m = message();
	m.fingerprint++;
	ck_assert(!cpm_object_is(h, &m));
	ck_assert(!cpm_object_is(CPM_PL_NULL, &m));
}
END_TEST

/* Whoever has the object could try senders until one has its fingerprint. */
START_TEST(withheld_known)
{
	static const unsigned flags[] = {CPM_MSG_F_WITHHELD, CPM_MSG_F_ANONYMOUS};
	struct cpm_msg m = message();
	struct cpm_pl body, h;

	for(size_t i = 0; i < 2; i++) {
		m = message();
		m.flags = flags[i];
		h = head(build(&m), &body);
		ck_assert(!has(h, "0123456789abcdef"));
		memcpy(want, h.p, h.n);
		h.p = want;
		m.from = CPM_PL_LIT("<sip:guess@example.org>");
		m.fingerprint = cpm_msg_fingerprint(&m);
		ck_pl_same(head(build(&m), &body), h);
		ck_assert(cpm_object_is(h, &m));
		m.body.n--;
		ck_assert(!cpm_object_is(h, &m));
	}
}
END_TEST

/* The Subject of an object may be that of the CPIM, and be nearly all of it. */
START_TEST(subject_inside)
{
	static char cpim[60000];
	struct cpm_msg m = message();
	struct cpm_pl body;
	struct cpm_wr w;

	cpm_wr_init(&w, cpim, sizeof(cpim));
	cpm_wr_str(&w, "From: <sip:alice@example.org>\r\nSubject: ");
	while(w.n < 59000)
		cpm_wr_str(&w, "\xc3\xa4");
	cpm_wr_str(&w, "\r\n\r\nContent-Type: text/plain\r\n\r\nx");
	ck_assert(cpm_wr_ok(&w));
	m.subject = CPM_PL_NULL;
	m.body = cpm_wr_pl(&w);
	ck_assert(has(head(build(&m), &body), "Subject: =?UTF-8?B?"));
	ck_assert(cpm_pl_eq(body, m.body));
}
END_TEST

/* ---- folders ---- */

static const struct
{
	const char *text;
	int rc;
	const char *why;
} templates[] = {
		{"Default/{originator}", CPM_OK, NULL},
		{"{conversation}/{contribution}", CPM_OK, NULL},
		{"A b/{user}-{date}", CPM_OK, NULL},
		{"Empf\xc3\xa4ngen", CPM_OK, NULL},
		{"", CPM_EPROTO, "empty-level"},
		{"a//b", CPM_EPROTO, "empty-level"},
		{"a/", CPM_EPROTO, "empty-level"},
		{"/a", CPM_EPROTO, "empty-level"},
		{"../a", CPM_EPROTO, "bad-character"},
		{"a/~b", CPM_EPROTO, "bad-character"},
		{"#news", CPM_EPROTO, "bad-character"},
		{"a*", CPM_EPROTO, "bad-character"},
		{"a\x01", CPM_EPROTO, "bad-character"},
		{"a\xff", CPM_EPROTO, "bad-character"},
		{"{nobody}", CPM_EPROTO, "no-such-variable"},
		{"{user", CPM_EPROTO, "no-brace"},
		{"user}", CPM_EPROTO, "no-brace"},
};

START_TEST(template_texts)
{
	struct cpm_diag diag = {NULL, 0};

	ck_assert_int_eq(
			cpm_object_template_check(cpm_pl_str(templates[_i].text), &diag),
			templates[_i].rc);
	if(templates[_i].why != NULL)
		ck_assert_str_eq(diag.why, templates[_i].why);
}
END_TEST

START_TEST(template_has)
{
	ck_assert(cpm_object_template_has(CPM_PL_LIT("a/{user}"), "user"));
	ck_assert(!cpm_object_template_has(CPM_PL_LIT("a/{users}"), "user"));
	ck_assert(!cpm_object_template_has(CPM_PL_LIT("user"), "user"));
}
END_TEST

static const struct
{
	const char *text;
	char delim;
	const char *conversation;
	const char *folder;
} folders[] = {
		{"Default/{originator}", '/', "", "Default/sip:alice@example.org"},
		{"Default/{originator}", '.', "", "Default.sip:alice@example=2Eorg"},
		{"Default/{originator}", '\0', "", "Default-sip:alice@example.org"},
		{"a.b/{user}", '.', "", "a_b.bob@example=2Eorg"},
		{"{user}/{date}", '/', "", "bob@example.org/2010-11-13"},
		{"{conversation}", '/', "", "none"},
		{"{conversation}", '/', "../x", "=2E.=2Fx"},
		{"{conversation}", '/', "~/x", "=7E=2Fx"},
		{"{conversation}", '/', "a*b%c\"d\\e", "a=2Ab=25c=22d=5Ce"},
		{"{conversation}", '/', "a\r\nb\x7f", "a=0D=0Ab=7F"},
		{"{conversation}", '/', "a==", "a=="},
		{"{conversation}", '/', "a=2F", "a=3D2F"},
		{"{conversation}", '/', "a&b", "a&-b"},
		{"{conversation}", '/', "\xc3\xa4\xc3\xb6z", "&AOQA9g-z"},
		{"{conversation}", '/', "\xe5\x8f\xb0\xe5\x8c\x97", "&U,BTFw-"},
		{"{conversation}", '/', "\xf0\x9f\x98\x80", "&2D3eAA-"},
		{"{conversation}", '/', "x\xff", "x=FF"},
		{"{conversation}", '/', "\xed\xa0\x80", "=ED=A0=80"},
		{"{conversation}", '/', "\xc0\xaf", "=C0=AF"},
};

START_TEST(folder)
{
	struct cpm_msg m = message();
	char buf[CPM_OBJECT_FOLDER_MAX];
	struct cpm_wr w;

	m.conversation_id = cpm_pl_str(folders[_i].conversation);
	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_object_folder(cpm_pl_str(folders[_i].text), &m,
							 folders[_i].delim, &w),
			CPM_OK);
	ck_pl_eq(cpm_wr_pl(&w), folders[_i].folder);
}
END_TEST

START_TEST(long_folder)
{
	struct cpm_msg m = message();
	char a[200], b[200], text[2000];
	struct cpm_wr wa, wb;

	memset(text, 'c', sizeof(text));
	m.conversation_id = cpm_pl(text, 300);
	cpm_wr_init(&wa, a, sizeof(a));
	ck_assert_int_eq(
			cpm_object_folder(CPM_PL_LIT("{conversation}"), &m, '/', &wa),
			CPM_OK);
	m.conversation_id = cpm_pl(text, 301);
	cpm_wr_init(&wb, b, sizeof(b));
	ck_assert_int_eq(
			cpm_object_folder(CPM_PL_LIT("{conversation}"), &m, '/', &wb),
			CPM_OK);
	ck_assert_uint_le(wa.n, 80);
	ck_assert(!cpm_pl_eq(cpm_wr_pl(&wa), cpm_wr_pl(&wb)));
}
END_TEST

START_TEST(anonymous_folder)
{
	struct cpm_msg m = message();
	char buf[200];
	struct cpm_wr w;

	m.flags = CPM_MSG_F_WITHHELD;
	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(
			cpm_object_folder(CPM_PL_LIT("D/{originator}"), &m, '/', &w),
			CPM_OK);
	ck_pl_eq(cpm_wr_pl(&w), "D/anonymous");
}
END_TEST

static const struct
{
	const char *text;
	const char *aor;
	int rc;
	const char *login;
} logins[] = {
		{"{user}*{login}", "sip:bob@example.org", CPM_OK,
				"bob@example.org*store"},
		{"{user}", "tel:+4412", CPM_OK, "+4412"},
		{"{user}*{login}", "sip:eve*store@example.org", CPM_EPROTO, ""},
		{"{user}%{login}", "sip:eve%40@example.org", CPM_EPROTO, ""},
		{"{user}*{login}", "sip:e ve@example.org", CPM_EPROTO, ""},
};

START_TEST(login)
{
	char buf[100];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(
			cpm_object_login(cpm_pl_str(logins[_i].text),
					cpm_pl_str(logins[_i].aor), CPM_PL_LIT("store"), &w),
			logins[_i].rc);
	if(logins[_i].rc == CPM_OK)
		ck_pl_eq(cpm_wr_pl(&w), logins[_i].login);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_object");

	fu_case(s, "an object has the headers in their order, and the CPIM", whole);
	fu_case(s, "the sender is who is known best, or anonymous", senders);
	fu_case(s, "the date is the message's own, unless it is absurd", dates);
	fu_case(s, "no value adds a header or ends the headers", injected);
	fu_case(s, "no line is too long", long_values);
	fu_table(s, "a subject is readable by any client", subject, FU_N(subjects));
	fu_case(s, "what came without CPIM is wrapped in one", wrapped);
	fu_table(s, "a body comes back as it was", body_forms, FU_N(bodies));
	fu_case(s, "a long line is not broken", long_line);
	fu_case(s, "a buffer that is too small is told of", small);
	fu_case(s, "an object is known by its id and its fingerprint", known);
	fu_case(s, "no fingerprint tells who withheld his name", withheld_known);
	fu_case(s, "a subject as long as the body", subject_inside);
	fu_table(s, "templates are checked", template_texts, FU_N(templates));
	fu_case(s, "a template is asked for its variables", template_has);
	fu_table(s, "a folder's name stays in its level", folder, FU_N(folders));
	fu_case(s, "long values stay apart", long_folder);
	fu_case(s, "an anonymous sender has no folder of its own",
			anonymous_folder);
	fu_table(s, "no user logs in as another", login, FU_N(logins));
	return fu_run(s);
}
