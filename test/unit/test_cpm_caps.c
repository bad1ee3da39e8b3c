/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_caps.c - what a client or a request says of CPM.
 */

#include "check_helpers.h"
#include "cpm_caps.h"

#include <stdio.h>

#define ICSI "urn:urn-7:3gpp-service.ims.icsi.oma.cpm."
#define ESC "urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm."

/* Parses a guarded copy; the slices of the result point into text. */
static struct cpm_caps parse(struct cpm_pl text)
{
	char *copy = guard_dup(text.p, text.n);
	struct cpm_caps caps, guarded;

	cpm_caps_parse(text, &caps);
	cpm_caps_parse(cpm_pl(copy, text.n), &guarded);
	ck_assert_uint_eq(guarded.set, caps.set);
	ck_pl_same(guarded.instance, caps.instance);
	ck_pl_same(guarded.pub_gruu, caps.pub_gruu);
	ck_assert(fu_pl_inside(guarded.instance, cpm_pl(copy, text.n)));
	ck_assert(fu_pl_inside(guarded.pub_gruu, cpm_pl(copy, text.n)));
	guard_free(copy, text.n);
	return caps;
}

/* ---------------------------------------------------------------- tags */

static const struct
{
	const char *params;
	unsigned set;
	bool any_tag;
} tags[] = {
		{"", 0, false},
		{";", 0, false},
		{";;;", 0, false},
		{";expires=3600;q=0.5;methods=\"MESSAGE\"", 0, false},
		{";+g.3gpp.icsi-ref=\"" ESC "msg\"", CPM_CAP_MSG, true},
		{";+g.3gpp.icsi-ref=\"" ESC "msg\";require;explicit", CPM_CAP_MSG,
				true},
		{";+G.3GPP.ICSI-REF=\"URN%3aURN-7%3a3GPP-SERVICE.IMS.ICSI.OMA.CPM."
		 "MSG\"",
				CPM_CAP_MSG, true},
		/* the escapes of one URN in part only, or of more than is needed */
		{";+g.3gpp.icsi-ref=\"urn%3Aurn-7:3gpp-service.ims.icsi.oma.cpm.msg\"",
				CPM_CAP_MSG, true},
		{";+g.3gpp.icsi-ref=\"" ICSI "msg\"", CPM_CAP_MSG, true},
		{";+g.3gpp.icsi-ref=\"urn%3Aurn%2D7%3A3gpp%2dservice%2Eims.icsi.oma."
		 "cpm.%6Dsg\"",
				CPM_CAP_MSG, true},
		{";+g.3gpp.icsi-ref=\"urn\\:urn-7\\:3gpp-service.ims.icsi.oma.cpm."
		 "msg\"",
				CPM_CAP_MSG, true},
		/* several in one, with spaces, and several parameters */
		{";+g.3gpp.icsi-ref=\"" ESC "msg," ESC "largemsg," ESC "deferred\"",
				CPM_CAP_MSG | CPM_CAP_LARGEMSG | CPM_CAP_DEFERRED, true},
		{";+g.3gpp.icsi-ref=\" " ESC "msg ,\r\n\t" ESC "session\"",
				CPM_CAP_MSG | CPM_CAP_SESSION, true},
		{";+g.3gpp.icsi-ref=\"," ESC "msg,,\"", CPM_CAP_MSG, true},
		{";+g.3gpp.icsi-ref=\"" ESC "msg\";+g.3gpp.icsi-ref=\"" ESC
		 "filetransfer\"",
				CPM_CAP_MSG | CPM_CAP_FILETRANSFER, true},
		{";+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel," ESC
		 "systemmsg\"",
				CPM_CAP_SYSTEMMSG, true},
		/* whole items only */
		{";+g.3gpp.icsi-ref=\"" ESC "session\"", CPM_CAP_SESSION, true},
		{";+g.3gpp.icsi-ref=\"" ESC "session.group\"", CPM_CAP_SESSION_GROUP,
				true},
		{";+g.3gpp.icsi-ref=\"" ESC "session.\"", 0, true},
		{";+g.3gpp.icsi-ref=\"" ESC "msgx\"", 0, true},
		{";+g.3gpp.icsi-ref=\"" ESC "\"", 0, true},
		{";+g.3gpp.icsi-ref=\"" ESC "msg%00\"", 0, true},
		{";+g.3gpp.icsi-ref=\"" ESC "ms%6\"", 0, true},
		{";+g.3gpp.icsi-ref=\"" ESC "msg" ESC "msg" ESC "msg\"", 0, true},
		{";+g.3gpp.icsi-ref=\"!" ESC "msg\"", 0, true},
		{";+g.3gpp.icsi-ref=\"x" ESC "msg\"", 0, true},
		{";+g.3gpp.icsi-refs=\"" ESC "msg\"", 0, true},
		{";g.3gpp.icsi-ref=\"" ESC "msg\"", 0, false},
		/* without quotes */
		{";+g.3gpp.icsi-ref=" ESC "msg", CPM_CAP_MSG, true},
		{";+g.3gpp.icsi-ref=" ESC "msg," ESC "largemsg;x",
				CPM_CAP_MSG | CPM_CAP_LARGEMSG, true},
		/* tags of their own */
		{";+g.oma.sip-im", CPM_CAP_SIP_IM, true},
		{";+G.OMA.SIP-IM", CPM_CAP_SIP_IM, true},
		{";+g.oma.sip-im=\"TRUE\"", CPM_CAP_SIP_IM, true},
		{";+g.oma.sip-im=\"FALSE\"", 0, true},
		{";+g.oma.sip-im=\"\"", CPM_CAP_SIP_IM, true},
		{";+g.oma.sip-im.large-message", 0, true},
		{";g.oma.sip-im", 0, false},
		{";+g.gsma.rcs.cpm.pager-large;+g.oma.sip-im",
				CPM_CAP_PAGER_LARGE | CPM_CAP_SIP_IM, true},
		/* space wherever the grammar has it */
		{" ;\r\n +g.oma.sip-im \t;\r\n\t+g.3gpp.icsi-ref = \"" ESC "msg\" ",
				CPM_CAP_SIP_IM | CPM_CAP_MSG, true},
		/* the first ';' is not asked for */
		{"+g.oma.sip-im", CPM_CAP_SIP_IM, true},
		/* what is quoted is not looked into */
		{";x=\";+g.oma.sip-im\"", 0, false},
		{";x=\"a\\\";+g.oma.sip-im\"", 0, false},
		{";x=\"a\\\\\";+g.oma.sip-im", CPM_CAP_SIP_IM, true},
		{";x=\"=\";+g.oma.sip-im", CPM_CAP_SIP_IM, true},
		/* a client's mistake takes that parameter alone */
		{";+g.3gpp.icsi-ref=\"" ESC "msg;+g.oma.sip-im", CPM_CAP_SIP_IM, true},
		{";x=\"abc;+g.oma.sip-im;y=\"d\"", CPM_CAP_SIP_IM, true},
		{";+g.oma.sip-im;x=\"", CPM_CAP_SIP_IM, true},
		{";+g.oma.sip-im;x=\"\\", CPM_CAP_SIP_IM, true},
		{";+g.3gpp.icsi-ref=\"" ESC "msg\"x;+g.oma.sip-im", CPM_CAP_SIP_IM,
				true},
		{";+g.3gpp.icsi-ref=x\"" ESC "msg\";+g.oma.sip-im", CPM_CAP_SIP_IM,
				true},
		{";=;=x;\"\";+g.oma.sip-im", CPM_CAP_SIP_IM, true},
		{";+", 0, false},
		{";+=x", 0, false},
		{";+sip.instance=\"<x", 0, false},
		{";+g.3gpp.icsi-ref", 0, true},
		{";+g.3gpp.icsi-ref=", 0, true},
		{";+unknown", 0, true},
};

START_TEST(feature_tags)
{
	struct cpm_caps caps = parse(cpm_pl_str(tags[_i].params));

	ck_assert_msg(
			caps.set == tags[_i].set, "%s: %#x", tags[_i].params, caps.set);
	ck_assert_msg(caps.any_tag == tags[_i].any_tag, "%s", tags[_i].params);
	ck_assert_uint_eq(caps.instance.n, 0);
	ck_assert_uint_eq(caps.pub_gruu.n, 0);
}
END_TEST

START_TEST(whole_contact)
{
	struct cpm_caps caps = parse(CPM_PL_LIT(
			";expires=600000;+g.oma.sip-im;+g.3gpp.icsi-ref=\"" ESC "msg," ESC
			"largemsg," ESC "deferred\";+g.gsma.rcs.cpm.pager-large"
			";+sip.instance=\"<urn:gsma:imei:35682004-030123-0>\""
			";pub-gruu=\"sip:bob@example.org;gr=urn:gsma:imei:1\";reg-id=1"));

	ck_assert_uint_eq(caps.set, CPM_CAP_MSG | CPM_CAP_LARGEMSG
										| CPM_CAP_DEFERRED | CPM_CAP_SIP_IM
										| CPM_CAP_PAGER_LARGE);
	ck_pl_eq(caps.instance, "urn:gsma:imei:35682004-030123-0");
	ck_pl_eq(caps.pub_gruu, "sip:bob@example.org;gr=urn:gsma:imei:1");
	ck_assert(caps.any_tag);
}
END_TEST

/* -------------------------------------------------------------- values */

static const struct
{
	const char *params;
	const char *instance;
	const char *pub_gruu;
} values[] = {
		{";+sip.instance=\"<urn:uuid:1>\"", "urn:uuid:1", ""},
		{";+SIP.Instance = \" < urn:uuid:1 > \" ", "urn:uuid:1", ""},
		{";+sip.instance=\"urn:uuid:1\"", "urn:uuid:1", ""},
		{";+sip.instance=<urn:uuid:1>", "urn:uuid:1", ""},
		{";+sip.instance=urn:uuid:1;x", "urn:uuid:1", ""},
		{";+sip.instance=\"<URN:UUID:Ab>\"", "URN:UUID:Ab", ""},
		{";+sip.instance=\"<urn:uuid:1>\";+sip.instance=\"<urn:uuid:2>\"",
				"urn:uuid:1", ""},
		{";+sip.instance=\"\";+sip.instance=\"<urn:uuid:2>\"", "urn:uuid:2",
				""},
		{";+sip.instance=\"<urn:uuid:1\"", "", ""},
		{";+sip.instance=\"urn:uuid:1>\"", "", ""},
		{";+sip.instance=\"<\"", "", ""},
		{";+sip.instance=\"<>\"", "", ""},
		{";+sip.instance=\"<urn:uuid:1>", "", ""},
		{";+sip.instance", "", ""},
		{";sip.instance=\"<urn:uuid:1>\"", "", ""},
		{";pub-gruu=\"sip:a@b;gr=x\"", "", "sip:a@b;gr=x"},
		{";PUB-GRUU=\"sip:a@b;gr=x\";temp-gruu=\"sip:t@b;gr\"", "",
				"sip:a@b;gr=x"},
		{";temp-gruu=\"sip:t@b;gr\"", "", ""},
		{";pub-gruu=sip:a@b;gr=x", "", "sip:a@b"},
		{";pub-gruu=\"sip:\\\"a@b;gr=x\"", "", "sip:\\\"a@b;gr=x"},
};

START_TEST(names_of_clients)
{
	struct cpm_pl text = cpm_pl_str(values[_i].params);
	struct cpm_caps caps = parse(text);

	ck_pl_eq(caps.instance, values[_i].instance);
	ck_pl_eq(caps.pub_gruu, values[_i].pub_gruu);
	ck_assert(fu_pl_inside(caps.instance, text));
	ck_assert(fu_pl_inside(caps.pub_gruu, text));
	ck_assert_uint_eq(caps.set, 0);
}
END_TEST

/* -------------------------------------------------------------- bounds */

/* n times piece, then last; fu_free gives it back */
static struct cpm_pl repeat(const char *piece, size_t n, const char *last)
{
	size_t cap = strlen(piece) * n + strlen(last);
	char *buf = malloc(cap + 1);
	struct cpm_wr w;

	ck_assert_ptr_nonnull(buf);
	cpm_wr_init(&w, buf, cap);
	while(n-- > 0)
		cpm_wr_str(&w, piece);
	cpm_wr_str(&w, last);
	return cpm_wr_pl(&w);
}

START_TEST(many_parameters)
{
	struct cpm_pl text = repeat("x;", 63, "+g.oma.sip-im");

	ck_assert_uint_eq(parse(text).set, CPM_CAP_SIP_IM);
	fu_free(&text);
	text = repeat("x;", 64, "+g.oma.sip-im");
	ck_assert_uint_eq(parse(text).set, 0);
	fu_free(&text);
}
END_TEST

START_TEST(many_items)
{
	struct cpm_pl text = repeat("x,", 63, ICSI "msg");

	ck_assert_uint_eq(cpm_caps_urns(text), CPM_CAP_MSG);
	fu_free(&text);
	text = repeat("x,", 64, ICSI "msg");
	ck_assert_uint_eq(cpm_caps_urns(text), 0);
	fu_free(&text);
}
END_TEST

START_TEST(many_open_quotes)
{
	struct cpm_pl text = repeat(";x=\"\\", 1000000, "");

	ck_assert_uint_eq(parse(text).set, 0);
	fu_free(&text);
}
END_TEST

static void never_more(struct cpm_pl prefix, void *whole)
{
	const struct cpm_caps *all = whole;
	struct cpm_caps caps;

	cpm_caps_parse(prefix, &caps);
	ck_assert_uint_eq(caps.set & ~all->set, 0);
	ck_assert(fu_pl_inside(caps.instance, prefix));
	ck_assert(fu_pl_inside(caps.pub_gruu, prefix));
}

START_TEST(prefixes)
{
	struct cpm_pl text = CPM_PL_LIT(
			";+g.3gpp.icsi-ref=\"" ESC "session.group," ESC "session," ESC
			"msg\";x=\"\\\"\";+g.oma.sip-im;+sip.instance=\"<urn:uuid:1>\"");
	struct cpm_caps all = parse(text);

	ck_assert_uint_eq(all.set, CPM_CAP_SESSION_GROUP | CPM_CAP_SESSION
									   | CPM_CAP_MSG | CPM_CAP_SIP_IM);
	guard_prefixes(text, never_more, &all);
}
END_TEST

/* ---------------------------------------------------------- plain URNs */

static const struct
{
	const char *value;
	unsigned set;
} urns[] = {
		{"", 0},
		{ICSI "msg", CPM_CAP_MSG},
		{" " ICSI "msg\r\n", CPM_CAP_MSG},
		{ICSI "largemsg, " ICSI "msg", CPM_CAP_MSG | CPM_CAP_LARGEMSG},
		{"URN:URN-7:3GPP-SERVICE.IMS.ICSI.OMA.CPM.DEFERRED", CPM_CAP_DEFERRED},
		{ESC "msg", CPM_CAP_MSG},
		{ICSI "session.group", CPM_CAP_SESSION_GROUP},
		{ICSI "session.groups", 0},
		{ICSI "sip-im", 0},
		{"urn:urn-7:3gpp-service.ims.icsi.mmtel", 0},
		{ICSI "ms", 0},
		{ICSI, 0},
		{"msg", 0},
		{",,,", 0},
		{"%", 0},
		{"\\", 0},
};

START_TEST(plain_urns)
{
	size_t n = strlen(urns[_i].value);
	char *copy = guard_dup(urns[_i].value, n);

	ck_assert_uint_eq(cpm_caps_urns(cpm_pl(copy, n)), urns[_i].set);
	guard_free(copy, n);
}
END_TEST

static const struct
{
	enum cpm_cap cap;
	const char *name;
	const char *urn;
} names[] = {
		{CPM_CAP_MSG, "msg", ICSI "msg"},
		{CPM_CAP_LARGEMSG, "largemsg", ICSI "largemsg"},
		{CPM_CAP_DEFERRED, "deferred", ICSI "deferred"},
		{CPM_CAP_SESSION, "session", ICSI "session"},
		{CPM_CAP_SESSION_GROUP, "session.group", ICSI "session.group"},
		{CPM_CAP_FILETRANSFER, "filetransfer", ICSI "filetransfer"},
		{CPM_CAP_SYSTEMMSG, "systemmsg", ICSI "systemmsg"},
		{CPM_CAP_SIP_IM, "sip-im", NULL},
		{CPM_CAP_PAGER_LARGE, "pager-large", NULL},
};

START_TEST(names_and_urns)
{
	const char *urn = cpm_caps_urn(names[_i].cap);
	char shout[32];

	ck_assert_pstr_eq(urn, names[_i].urn);
	if(urn)
		ck_assert_uint_eq(cpm_caps_urns(cpm_pl_str(urn)), names[_i].cap);
	ck_assert_uint_eq(
			cpm_caps_named(cpm_pl_str(names[_i].name)), names[_i].cap);
	cpm_pl_cstr(cpm_pl_str(names[_i].name), shout, sizeof(shout));
	shout[0] = (char)(shout[0] & ~0x20);
	ck_assert_uint_eq(cpm_caps_named(cpm_pl_str(shout)), names[_i].cap);
}
END_TEST

START_TEST(no_such_capability)
{
	ck_assert_ptr_null(cpm_caps_urn((enum cpm_cap)0));
	ck_assert_ptr_null(cpm_caps_urn((enum cpm_cap)3));
	ck_assert_uint_eq(cpm_caps_named(CPM_PL_NULL), 0);
	ck_assert_uint_eq(cpm_caps_named(CPM_PL_LIT("*")), 0);
	ck_assert_uint_eq(cpm_caps_named(CPM_PL_LIT("ms")), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_caps");

	fu_table(s, "feature tags become capabilities", feature_tags, FU_N(tags));
	fu_case(s, "a whole Contact is read", whole_contact);
	fu_table(s, "a client is known by its instance and its public GRUU",
			names_of_clients, FU_N(values));
	fu_case(s, "no more than 64 parameters are read", many_parameters);
	fu_case(s, "no more than 64 items of a list are read", many_items);
	fu_case(s, "a million open quotes take no time", many_open_quotes);
	fu_case(s, "half of the parameters never claims more than all", prefixes);
	fu_table(s, "plain URNs become capabilities", plain_urns, FU_N(urns));
	fu_table(s, "a capability has a name, and some a URN", names_and_urns,
			FU_N(names));
	fu_case(s, "what is no capability has neither", no_such_capability);
	return fu_run(s);
}
