/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_invite.c - what the INVITE of a session says of its message.
 */

#include "cpm_invite.h"

#include <stdio.h>
#include <stdlib.h>

#include "check_helpers.h"
#include "cpm_caps.h"

#define LIT CPM_PL_LIT

static struct cpm_msg msg;
static struct cpm_invite inv;
static char text[4096];

static void fresh(enum cpm_session profile)
{
	memset(&msg, 0, sizeof(msg));
	msg.aor = LIT("sip:bob@example.org");
	msg.id = LIT("id-1");
	msg.call_id = LIT("0123456789abcdef-17@pf.example.org");
	msg.from = LIT("\"Alice\" <sip:alice@example.org>");
	msg.originator = LIT("sip:alice@example.org");
	msg.conversation_id = LIT("conv-1");
	msg.contribution_id = LIT("contr-1");
	memset(&inv, 0, sizeof(inv));
	inv.msg = &msg;
	inv.profile = profile;
	inv.caps = CPM_CAP_DEFERRED | CPM_CAP_LARGEMSG;
	inv.contact = LIT("sip:cpm@192.0.2.1:5060");
	inv.home = LIT("example.org");
	inv.called_party = true;
}

static void build(void)
{
	struct cpm_wr w;

	cpm_wr_init(&w, text, sizeof(text) - 1);
	ck_assert_int_eq(cpm_invite_headers(&inv, &w), CPM_OK);
	text[w.n] = '\0';
	/* lines, each whole */
	ck_assert_int_eq(strncmp(text + w.n - 2, "\r\n", 2), 0);
	ck_assert_ptr_null(strstr(text, "\r\n\r\n"));
}

/* How often a line is there. */
static int lines(const char *line)
{
	char whole[512];
	const char *at = text;
	int n = 0;

	(void)snprintf(whole, sizeof(whole), "%s\r\n", line);
	while((at = strstr(at, whole)) != NULL) {
		n += at == text || at[-1] == '\n';
		at++;
	}
	return n;
}

START_TEST(standalone)
{
	char from[CPM_INVITE_FROM_MAX];

	fresh(CPM_SESSION_STANDALONE);
	build();
	ck_assert_int_eq(strncmp(text, "Max-Forwards: 70\r\n", 18), 0);
	ck_pl_eq(cpm_invite_from(&inv, from), "\"Alice\" <sip:alice@example.org>");
	ck_assert_int_eq(lines("Contact: <sip:cpm@192.0.2.1:5060>"), 1);
	ck_assert_int_eq(lines("P-Called-Party-ID: <sip:bob@example.org>"), 1);
	ck_assert_int_eq(lines("P-Asserted-Identity: <sip:alice@example.org>"), 1);
	ck_assert_int_eq(lines("P-Asserted-Service: "
						   "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.deferred"),
			1);
	ck_assert_int_eq(
			lines("Accept-Contact: *;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-"
				  "service.ims.icsi.oma.cpm.deferred\""),
			1);
	ck_assert_int_eq(lines("Conversation-ID: conv-1"), 1);
	ck_assert_int_eq(lines("Contribution-ID: contr-1"), 1);
	ck_assert_ptr_null(strstr(text, "Referred-By"));
}
END_TEST

START_TEST(large_only)
{
	fresh(CPM_SESSION_STANDALONE);
	inv.caps = CPM_CAP_LARGEMSG;
	inv.called_party = false;
	build();
	ck_assert_int_eq(lines("P-Asserted-Service: "
						   "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.largemsg"),
			1);
	ck_assert_ptr_null(strstr(text, "deferred"));
	ck_assert_ptr_null(strstr(text, "P-Called-Party-ID"));
}
END_TEST

START_TEST(chat)
{
	char from[CPM_INVITE_FROM_MAX];

	fresh(CPM_SESSION_CHAT);
	msg.headers = LIT("P-Asserted-Identity: <sip:alice@example.org>\r\n"
					  "Subject: hello\r\n");
	build();
	ck_pl_eq(cpm_invite_from(&inv, from), "<sip:rcse-standfw@example.org>");
	ck_assert_int_eq(
			lines("P-Asserted-Identity: <sip:rcse-standfw@example.org>"), 1);
	/* one asserted identity, and the sender only in Referred-By */
	ck_assert_ptr_null(
			strstr(text, "P-Asserted-Identity: <sip:alice@example.org>"));
	ck_assert_int_eq(lines("Referred-By: <sip:alice@example.org>"), 1);
	ck_assert_int_eq(lines("Accept-Contact: *;+g.oma.sip-im"), 1);
	ck_assert_int_eq(lines("Subject: hello"), 1);
	ck_assert_ptr_null(strstr(text, "icsi-ref"));
}
END_TEST

START_TEST(ids_are_made)
{
	fresh(CPM_SESSION_STANDALONE);
	msg.conversation_id = CPM_PL_NULL;
	msg.contribution_id = CPM_PL_NULL;
	build();
	/* the same at every attempt, without our host */
	ck_assert_int_eq(lines("Conversation-ID: 0123456789abcdef-17"), 1);
	ck_assert_int_eq(lines("Contribution-ID: 0123456789abcdef-17"), 1);
}
END_TEST

START_TEST(kept_lines)
{
	fresh(CPM_SESSION_STANDALONE);
	msg.headers =
			LIT("Subject: a long\r\n one\r\nContent-Type: message/cpim\r\n"
				"X-Own: 1\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\n"
				"P-Asserted-Identity: <sip:alice@example.org>\r\n"
				"InReplyTo-Contribution-ID: contr-0");
	build();
	ck_assert_int_eq(lines("Subject: a long\r\n one"), 1);
	ck_assert_int_eq(lines("InReplyTo-Contribution-ID: contr-0"), 1);
	/* what is of the body, or nobody knows, is not the INVITE's */
	ck_assert_ptr_null(strstr(text, "Content-Type"));
	ck_assert_ptr_null(strstr(text, "X-Own"));
	/* the sender's own, not twice */
	ck_assert_int_eq(lines("P-Asserted-Identity: <sip:alice@example.org>"), 1);
}
END_TEST

/* Who withheld the identity is not named, but inside the trust domain. */
START_TEST(withheld)
{
	static const enum cpm_session profiles[] = {
			CPM_SESSION_STANDALONE, CPM_SESSION_CHAT};

	fresh(profiles[_i % 2]);
	msg.from = LIT("\"Anonymous\" <sip:anonymous@anonymous.invalid>");
	msg.flags = _i < 4 ? CPM_MSG_F_WITHHELD : CPM_MSG_F_ANONYMOUS;
	msg.headers = LIT("Privacy: id\r\n"
					  "P-Asserted-Identity: <sip:alice@example.org>\r\n"
					  "History-Info: <sip:alice@example.org>\r\n");
	inv.trusted = (_i / 2) % 2 == 1;
	build();
	if(!inv.trusted) {
		ck_assert_ptr_null(strstr(text, "alice"));
	}
	if(inv.profile == CPM_SESSION_CHAT) {
		ck_assert_int_eq(
				lines(inv.trusted ? "Referred-By: <sip:alice@example.org>"
								  : "Referred-By: "
									"<sip:anonymous@anonymous.invalid>"),
				1);
	}
	ck_assert_int_eq(lines("Privacy: id"), 1);
}
END_TEST

START_TEST(no_room)
{
	char *buf;
	struct cpm_wr w;
	size_t full;

	fresh(CPM_SESSION_CHAT);
	build();
	full = strlen(text);
	for(size_t cap = 0; cap < full; cap++) {
		buf = malloc(cap > 0 ? cap : 1);
		ck_assert_ptr_nonnull(buf);
		cpm_wr_init(&w, buf, cap);
		ck_assert_int_eq(cpm_invite_headers(&inv, &w), CPM_ENOMEM);
		free(buf);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_invite");

	fu_case(s, "standalone: the sender in From, cpm.deferred", standalone);
	fu_case(s, "a client of large messages only is asked for that", large_only);
	fu_case(s, "chat: the sender in Referred-By", chat);
	fu_case(s, "Conversation-ID and Contribution-ID are always there",
			ids_are_made);
	fu_case(s, "of the message's headers those that are the message's",
			kept_lines);
	fu_table(s, "a withheld identity stays inside the trust domain", withheld,
			8);
	fu_case(s, "a buffer that is too small is told of", no_room);
	return fu_run(s);
}
