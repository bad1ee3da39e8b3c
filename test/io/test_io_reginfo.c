/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_reginfo.c - documents of registrars, read.
 */

#include <stdio.h>
#include <stdlib.h>

#include "check_helpers.h"
#include "io_reginfo.h"

#define LIT CPM_PL_LIT
#define HEAD \
	"<reginfo xmlns=\"" CPM_REGINFO_NS "\" version=\"3\" state=\"full\">"
#define REG \
	"<registration aor=\"sip:bob@example.org\" id=\"r\" state=\"active\">"
#define CONTACT "<contact id=\"c\" state=\"active\" event=\"registered\">"
#define TAIL "</registration></reginfo>"

static struct io_reginfo *parsed;
static struct cpm_diag diag;

static int parse(const char *xml)
{
	size_t n = strlen(xml);
	char *in = guard_dup(xml, n);
	int rc;

	diag = (struct cpm_diag){NULL, 0};
	parsed = NULL;
	rc = io_reginfo_parse(cpm_pl(in, n), &parsed, &diag);
	guard_free(in, n); /* nothing borrows from it */
	return rc;
}

START_TEST(everything)
{
	const struct cpm_reginfo *i;
	const struct cpm_reg_contact *c;

	ck_assert_int_eq(
			parse("<?xml version=\"1.0\"?>\n" HEAD REG
				  "<contact id=\"1\" state=\"active\" event=\"created\" "
				  "expires=\"3600\" q=\"0.8\" callid=\"a&amp;b@c\" cseq=\"7\" "
				  "path=\"&lt;sip:edge;lr&gt;\" received=\"sip:192.0.2.9:7\" "
				  "user_agent=\"x\" duration-registered=\"9\">\n"
				  "<uri> sip:bob@192.0.2.1;x=&amp;1 </uri>"
				  "<display-name>Bob</display-name>"
				  "<unknown-param name=\"+sip.instance\">"
				  "\"&lt;urn:uuid:1&gt;\"</unknown-param>"
				  "<unknown-param name=\"+g.oma.sip-im\"/>"
				  "<unknown-param name=\"+bad;x\">y</unknown-param>"
				  "<o:other xmlns:o=\"urn:x\"><o:uri>no</o:uri></o:other>"
				  "<g:pub-gruu xmlns:g=\"urn:ietf:params:xml:ns:gruuinfo\" "
				  "uri=\"sip:bob@example.org;gr=urn:uuid:1\"/>"
				  "</contact>"
				  "<contact id=\"2\" state=\"terminated\" event=\"expired\" "
				  "expires=\"-5\"><uri>sip:bob@192.0.2.2</uri></contact>"
				  "</registration>"
				  "<registration aor=\"tel:+44\" id=\"t\" state=\"init\"/>"
				  "</reginfo>"),
			CPM_OK);
	i = io_reginfo_get(parsed);
	ck_assert_uint_eq(i->version, 3);
	ck_assert(i->full);
	ck_assert_uint_eq(i->count, 2);
	ck_pl_eq(i->registrations[0].aor, "sip:bob@example.org");
	ck_assert_int_eq((int)i->registrations[0].state, CPM_REG_ACTIVE);
	ck_assert_uint_eq(i->registrations[0].count, 2);
	ck_pl_eq(i->registrations[1].aor, "tel:+44");
	ck_assert_int_eq((int)i->registrations[1].state, CPM_REG_INIT);
	ck_assert_uint_eq(i->registrations[1].count, 0);
	c = &i->registrations[0].contacts[0];
	ck_pl_eq(c->uri, "sip:bob@192.0.2.1;x=&1");
	ck_pl_eq(c->call_id, "a&b@c");
	ck_assert_uint_eq(c->cseq, 7);
	ck_assert_int_eq(c->q, 800);
	ck_assert(c->has_expires);
	ck_assert_uint_eq(c->expires_s, 3600);
	ck_assert_int_eq((int)c->event, CPM_REG_EV_CREATED);
	ck_pl_eq(c->path, "<sip:edge;lr>");
	ck_pl_eq(c->received, "sip:192.0.2.9:7");
	ck_pl_eq(c->user_agent, "x");
	ck_pl_eq(c->params, "+sip.instance=\"<urn:uuid:1>\";+g.oma.sip-im;"
						"pub-gruu=\"sip:bob@example.org;gr=urn:uuid:1\"");
	c++;
	ck_assert_int_eq((int)c->state, CPM_REG_TERMINATED);
	ck_assert(c->has_expires);
	ck_assert_uint_eq(c->expires_s, 0);
	ck_assert_int_eq(c->q, -1);
	ck_pl_eq(c->params, "");
	io_reginfo_free(&parsed);
	ck_assert_ptr_eq(parsed, NULL);
}
END_TEST

static const struct
{
	const char *xml;
	int rc;
	const char *why;
} bad[] = {
		{"", CPM_EPROTO, "no-xml"},
		{"x", CPM_EPROTO, "bad-xml"},
		{HEAD, CPM_EPROTO, "bad-xml"},
		{HEAD "<a:b/></reginfo>", CPM_EPROTO, "bad-xml"},
		{HEAD REG CONTACT "<uri>sip:&nbsp;</uri></contact>" TAIL, CPM_EPROTO,
				"bad-xml"},
		{"<!DOCTYPE reginfo SYSTEM \"file:///x\">" HEAD REG TAIL, CPM_EPROTO,
				"doctype"},
		{"<presence xmlns=\"" CPM_REGINFO_NS "\"/>", CPM_EPROTO, "bad-root"},
		{"<reginfo version=\"0\" state=\"full\"/>", CPM_EPROTO, "namespace"},
		{"<reginfo xmlns=\"" CPM_REGINFO_NS "\" state=\"full\"/>", CPM_EPROTO,
				"bad-version"},
		{"<reginfo xmlns=\"" CPM_REGINFO_NS
		 "\" version=\"4294967296\" state=\"full\"/>",
				CPM_EPROTO, "bad-version"},
		{"<reginfo xmlns=\"" CPM_REGINFO_NS "\" version=\"0\" state=\"\"/>",
				CPM_EPROTO, "bad-state"},
		{HEAD "<registration id=\"r\" state=\"active\"/></reginfo>", CPM_EPROTO,
				"no-aor"},
		{HEAD "<registration aor=\"sip:a\" state=\"here\"/></reginfo>",
				CPM_EPROTO, "bad-state"},
		{HEAD REG "<contact state=\"init\"><uri>sip:a</uri></contact>" TAIL,
				CPM_EPROTO, "bad-state"},
		{HEAD REG CONTACT "</contact>" TAIL, CPM_EPROTO, "no-uri"},
		{HEAD REG CONTACT "<uri> </uri></contact>" TAIL, CPM_EPROTO, "bad-uri"},
		{HEAD REG CONTACT "<uri>sip:a&gt;&#13;X: y</uri></contact>" TAIL,
				CPM_EPROTO, "bad-uri"},
		{HEAD REG CONTACT "<uri>sip:a b</uri></contact>" TAIL, CPM_EPROTO,
				"bad-uri"},
		{HEAD REG "<contact state=\"active\" expires=\"x\"><uri>sip:a</uri>"
				  "</contact>" TAIL,
				CPM_EPROTO, "bad-expires"},
};

START_TEST(refused)
{
	ck_assert_int_eq(parse(bad[_i].xml), bad[_i].rc);
	ck_assert_str_eq(diag.why, bad[_i].why);
	ck_assert_ptr_eq(parsed, NULL);
}
END_TEST

/* head, n times each, tail */
static char *many(
		const char *head, const char *each, size_t n, const char *tail)
{
	size_t cap = strlen(head) + n * strlen(each) + strlen(tail) + 1;
	char *text = malloc(cap);
	size_t at = 0;

	ck_assert_ptr_ne(text, NULL);
	at += (size_t)snprintf(text + at, cap - at, "%s", head);
	for(size_t i = 0; i < n; i++) {
		at += (size_t)snprintf(text + at, cap - at, "%s", each);
	}
	(void)snprintf(text + at, cap - at, "%s", tail);
	return text;
}

static const struct
{
	const char *head, *each, *tail;
	size_t most;
	const char *why;
} bounds[] = {
		{HEAD, "<registration aor=\"sip:a\" state=\"init\"/>", "</reginfo>",
				CPM_REGINFO_REGISTRATIONS_MAX, "too-many-registrations"},
		{HEAD REG, CONTACT "<uri>sip:a</uri></contact>", TAIL,
				CPM_REGINFO_CONTACTS_MAX, "too-many-contacts"},
};

START_TEST(bounded)
{
	char *xml = many(
			bounds[_i].head, bounds[_i].each, bounds[_i].most, bounds[_i].tail);

	ck_assert_int_eq(parse(xml), CPM_OK);
	io_reginfo_free(&parsed);
	free(xml);
	xml = many(bounds[_i].head, bounds[_i].each, bounds[_i].most + 1,
			bounds[_i].tail);
	ck_assert_int_eq(parse(xml), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, bounds[_i].why);
	free(xml);
}
END_TEST

START_TEST(depth)
{
	char *xml = many(HEAD, "<a>", CPM_REGINFO_DEPTH_MAX, "");

	ck_assert_int_eq(parse(xml), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-deep");
	free(xml);
}
END_TEST

/* Feature tags beyond the bound are left out, and the others are whole. */
START_TEST(many_params)
{
	char *xml = many(HEAD REG CONTACT "<uri>sip:a</uri>",
			"<unknown-param name=\"+abcdefg\">value</unknown-param>", 200,
			"</contact>" TAIL);
	struct cpm_pl p;

	ck_assert_int_eq(parse(xml), CPM_OK);
	p = io_reginfo_get(parsed)->registrations[0].contacts[0].params;
	ck_assert_uint_le(p.n, CPM_REGINFO_PARAMS_MAX);
	ck_assert_uint_gt(p.n, CPM_REGINFO_PARAMS_MAX - 20);
	ck_assert_int_eq(p.p[p.n - 1], '"');
	io_reginfo_free(&parsed);
	free(xml);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_reginfo");

	fu_case(s, "a whole document is read", everything);
	fu_table(s, "what is none is refused", refused, FU_N(bad));
	fu_table(s, "it is bounded", bounded, FU_N(bounds));
	fu_case(s, "its depth is bounded", depth);
	fu_case(s, "its feature tags are bounded", many_params);
	return fu_run(s);
}
