/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_imdn.c - who is told of a queued message, and in what words.
 */

#include "cpm_imdn.h"

#include <stdio.h>
#include <stdlib.h>

#include "check_helpers.h"
#include "cpm_aor.h"
#include "cpm_cpim.h"

#define LIT CPM_PL_LIT
#define NOW_MS UINT64_C(1774000000123) /* 2026-03-20T09:46:40.123Z */
#define WEEK_MS UINT64_C(604800000)

#define HEAD                                  \
	"From: Alice <im:alice@example.org>\r\n"  \
	"To: Bob <im:bob@example.org>\r\n"        \
	"NS: imdn <urn:ietf:params:imdn>\r\n"     \
	"imdn.Message-ID: 34jk324j\r\n"           \
	"DateTime: 2026-03-01T10:00:00+01:00\r\n" \
	"imdn.Disposition-Notification: processing, negative-delivery\r\n"
#define TAIL "\r\nContent-Type: text/plain\r\n\r\nhello"

static struct cpm_msg of;
static struct cpm_msg told;
static char buf[CPM_IMDN_BYTES_MAX];

static void body_set(const char *body)
{
	struct cpm_cpim cpim;

	of.body = cpm_pl_str(body);
	of.body_len = of.body.n;
	ck_assert_int_eq(cpm_cpim_parse(of.body, &cpim, NULL), CPM_OK);
	of.dispo = cpim.dispo;
}

static void fresh(void)
{
	memset(&of, 0, sizeof(of));
	of.aor = LIT("sip:bob@example.org");
	of.id = LIT("34jk324j");
	of.from = LIT("\"Alice\" <sip:alice@example.org>");
	of.to = LIT("<tel:+4930123>");
	of.originator = LIT("sip:alice@example.org");
	of.content_type = LIT("Message/CPIM;charset=utf-8");
	of.received_ms = NOW_MS - 60000;
	of.fingerprint = 77;
	body_set(HEAD TAIL);
}

static int write_at(enum cpm_imdn_kind kind, uint64_t now_ms)
{
	struct cpm_imdn_ask ask;

	memset(&ask, 0, sizeof(ask));
	ask.of = &of;
	ask.kind = kind;
	ask.to = of.originator;
	ask.host = LIT("pf.example.org");
	ask.now_ms = now_ms;
	ask.life_ms = WEEK_MS;
	return cpm_imdn_write(&ask, buf, sizeof(buf), &told);
}

static void tell(enum cpm_imdn_kind kind)
{
	ck_assert_int_eq(write_at(kind, NOW_MS), CPM_OK);
}

static bool has(struct cpm_pl a, const char *text)
{
	struct cpm_pl want = cpm_pl_str(text);
	size_t i;

	for(i = 0; i + want.n <= a.n; i++) {
		if(memcmp(a.p + i, want.p, want.n) == 0) {
			return true;
		}
	}
	return false;
}

START_TEST(whole_stored)
{
	struct cpm_cpim cpim;
	char want[2048];

	fresh();
	tell(CPM_IMDN_STORED);
	(void)snprintf(want, sizeof(want),
			"From: <sip:bob@example.org>\r\n"
			"To: <im:alice@example.org>\r\n"
			"NS: imdn <urn:ietf:params:imdn>\r\n"
			"imdn.Message-ID: %.*s\r\n"
			"DateTime: 2026-03-20T09:46:40.123Z\r\n"
			"\r\n"
			"Content-Type: message/imdn+xml\r\n"
			"Content-Disposition: notification\r\n"
			"Content-Length: 369\r\n"
			"\r\n"
			"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n"
			"<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">\r\n"
			"<message-id>34jk324j</message-id>\r\n"
			"<datetime>2026-03-01T09:00:00.000Z</datetime>\r\n"
			"<recipient-uri>sip:bob@example.org</recipient-uri>\r\n"
			"<original-recipient-uri>tel:+4930123</original-recipient-uri>\r\n"
			"<processing-notification><status><stored/></status>"
			"</processing-notification>\r\n"
			"</imdn>\r\n",
			(int)told.id.n, told.id.p);
	ck_pl_eq(told.body, want);
	ck_assert_int_eq(cpm_cpim_parse(told.body, &cpim, NULL), CPM_OK);
	ck_assert(cpim.is_imdn);
	ck_pl_same(cpim.message_id, told.id);
	ck_assert_uint_eq(cpim.dispo, 0);
	ck_assert_uint_eq(cpim.content.n, 369);
}
END_TEST

START_TEST(whole_failed)
{
	fresh();
	tell(CPM_IMDN_FAILED);
	ck_assert(has(told.body,
			"</original-recipient-uri>\r\n<delivery-notification><status>"
			"<failed/></status></delivery-notification>\r\n</imdn>\r\n"));
	ck_assert(!has(told.body, "processing"));
}
END_TEST

START_TEST(envelope)
{
	char id[64], line[512];
	char *blob;
	struct cpm_msg back;
	struct cpm_wr w;

	fresh();
	tell(CPM_IMDN_STORED);
	ck_pl_eq(told.aor, "sip:alice@example.org");
	ck_pl_eq(told.from, "<sip:bob@example.org>");
	ck_pl_eq(told.to, "<sip:alice@example.org>");
	ck_pl_eq(told.originator, "sip:bob@example.org");
	ck_pl_eq(told.content_type, "message/cpim");
	ck_pl_eq(told.inner_type, "message/imdn+xml");
	ck_assert_uint_eq(told.flags, CPM_MSG_F_IMDN);
	ck_assert_uint_eq(told.expires_ms, NOW_MS + WEEK_MS);
	cpm_pl_cstr(told.id, id, sizeof(id));
	ck_assert_int_eq(strncmp(id, "cpm-imdn-", 9), 0);
	(void)snprintf(line, sizeof(line), "imdn-%s@pf.example.org", id + 9);
	ck_pl_eq(told.call_id, line);
	(void)snprintf(line, sizeof(line),
			"P-Asserted-Identity: <sip:bob@example.org>\r\n"
			"P-Asserted-Service: "
			"urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg\r\n"
			"Conversation-ID: cpm-c-%s\r\n"
			"Contribution-ID: cpm-t-%s\r\n"
			"Content-Type: message/cpim\r\n",
			id + 9, id + 9);
	ck_pl_eq(told.headers, line);
	ck_assert(cpm_msg_header_has(&told, "Contribution-ID"));

	/* it can be queued, and is still what it was */
	blob = malloc(cpm_msg_encoded_len(&told));
	cpm_wr_init(&w, blob, cpm_msg_encoded_len(&told));
	ck_assert_int_eq(cpm_msg_encode(&told, &w, NULL), CPM_OK);
	ck_assert_int_eq(cpm_msg_decode(cpm_wr_pl(&w), &back, NULL), CPM_OK);
	ck_pl_same(back.body, told.body);
	ck_pl_same(back.conversation_id, told.conversation_id);
	ck_assert(!cpm_imdn_due(&back, CPM_IMDN_STORED));
	ck_assert(!cpm_imdn_due(&back, CPM_IMDN_FAILED));
	free(blob);
}
END_TEST

/* -------------------------------------------------------- who is not told */

static void no_processing(void)
{
	body_set("From: <sip:alice@example.org>\r\nimdn.Message-ID: 1\r\n"
			 "imdn.Disposition-Notification: negative-delivery, "
			 "display\r\n" TAIL);
	of.dispo |= CPM_DISPO_POSITIVE;
}

static void is_imdn(void)
{
	of.flags |= CPM_MSG_F_IMDN;
}

static void inner_type_imdn(void)
{
	body_set(HEAD "\r\nContent-Type: Message/IMDN+xml\r\n\r\n<imdn/>");
}

static void bare_imdn(void)
{
	of.content_type = LIT("message/imdn+xml");
}

static void inner_disposition(void)
{
	body_set(HEAD "\r\nContent-Type: application/x\r\n"
				  "Content-Disposition: Notification ; handling=optional\r\n"
				  "\r\nx");
}

static void withheld(void)
{
	of.flags |= CPM_MSG_F_WITHHELD;
}

static void anonymous(void)
{
	of.flags |= CPM_MSG_F_ANONYMOUS;
}

static void anonymous_host(void)
{
	of.originator = LIT("sip:anonymous@anonymous.invalid");
}

static void nobody(void)
{
	of.originator = CPM_PL_NULL;
}

static void oneself(void)
{
	of.originator = of.aor;
}

static void no_message_id(void)
{
	body_set("From: <sip:alice@example.org>\r\n"
			 "imdn.Disposition-Notification: processing\r\n" TAIL);
}

static void long_message_id(void)
{
	static char text[512];
	char id[CPM_MSG_ID_MAX + 2];

	memset(id, 'x', sizeof(id));
	id[sizeof(id) - 1] = '\0';
	(void)snprintf(text, sizeof(text),
			"From: <sip:alice@example.org>\r\nimdn.Message-ID: %s\r\n"
			"imdn.Disposition-Notification: processing\r\n" TAIL,
			id);
	body_set(text);
}

static void no_body(void)
{
	of.body = CPM_PL_NULL;
}

static void plain_text(void)
{
	of.content_type = LIT("text/plain");
}

static const struct
{
	const char *what;
	void (*make)(void);
} never[] = {
		{"processing was not asked for", no_processing},
		{"it is a notification, by its flag", is_imdn},
		{"it is a notification, by its inner type", inner_type_imdn},
		{"it is a notification without CPIM", bare_imdn},
		{"it is a notification, by its disposition", inner_disposition},
		{"the sender withheld who it is", withheld},
		{"the sender is anonymous", anonymous},
		{"the sender is anonymous by its address", anonymous_host},
		{"the sender is not known", nobody},
		{"the sender is the recipient", oneself},
		{"the message has no id for its sender", no_message_id},
		{"its id is too long", long_message_id},
		{"there is no body to look into", no_body},
		{"it is no CPIM", plain_text},
};

START_TEST(not_told)
{
	char *bytes;

	fresh();
	never[_i].make();
	bytes = guard_dup(of.body.p, of.body.n);
	of.body.p = bytes;
	ck_assert_msg(!cpm_imdn_due(&of, CPM_IMDN_STORED), "%s", never[_i].what);
	told.id = LIT("untouched");
	ck_assert_int_eq(write_at(CPM_IMDN_STORED, NOW_MS), CPM_ENOENT);
	ck_pl_eq(told.id, "untouched");
	guard_free(bytes, of.body.n);
}
END_TEST

START_TEST(each_kind_is_asked_for_by_itself)
{
	fresh();
	of.dispo = CPM_DISPO_PROCESSING;
	ck_assert(cpm_imdn_due(&of, CPM_IMDN_STORED));
	ck_assert(!cpm_imdn_due(&of, CPM_IMDN_FAILED));
	of.dispo = CPM_DISPO_NEGATIVE;
	ck_assert(!cpm_imdn_due(&of, CPM_IMDN_STORED));
	ck_assert(cpm_imdn_due(&of, CPM_IMDN_FAILED));
	of.dispo = CPM_DISPO_POSITIVE | CPM_DISPO_DISPLAY;
	ck_assert(!cpm_imdn_due(&of, CPM_IMDN_STORED));
	ck_assert(!cpm_imdn_due(&of, CPM_IMDN_FAILED));
}
END_TEST

/* ---------------------------------------------------------------- names */

static void copy_id(char *out, size_t cap)
{
	cpm_pl_cstr(told.id, out, cap);
}

START_TEST(a_repeat_is_the_same)
{
	char first[64], call_id[128];
	uint64_t fingerprint;

	fresh();
	tell(CPM_IMDN_STORED);
	copy_id(first, sizeof(first));
	cpm_pl_cstr(told.call_id, call_id, sizeof(call_id));
	fingerprint = told.fingerprint;
	ck_assert_int_eq(write_at(CPM_IMDN_STORED, NOW_MS + 90000), CPM_OK);
	ck_pl_eq(told.id, first);
	ck_pl_eq(told.call_id, call_id);
	ck_assert(told.fingerprint == fingerprint);
}
END_TEST

static void other_kind(enum cpm_imdn_kind *kind)
{
	*kind = CPM_IMDN_FAILED;
}

static void other_id(enum cpm_imdn_kind *kind)
{
	(void)kind;
	of.id = LIT("34jk324k");
}

static void other_recipient(enum cpm_imdn_kind *kind)
{
	(void)kind;
	of.aor = LIT("sip:bob@example.com");
}

static void other_sender(enum cpm_imdn_kind *kind)
{
	(void)kind;
	of.originator = LIT("sip:carol@example.org");
}

static void other_message(enum cpm_imdn_kind *kind)
{
	(void)kind;
	of.fingerprint++;
}

static void (*const others[])(enum cpm_imdn_kind *) = {
		other_kind, other_id, other_recipient, other_sender, other_message};

START_TEST(another_is_another)
{
	enum cpm_imdn_kind kind = CPM_IMDN_STORED;
	char first[64], second[64];

	fresh();
	tell(kind);
	copy_id(first, sizeof(first));
	others[_i](&kind);
	tell(kind);
	copy_id(second, sizeof(second));
	ck_assert_str_ne(first, second);
}
END_TEST

/* ----------------------------------------------------------- odd addresses */

START_TEST(markup_is_escaped)
{
	fresh();
	of.to = LIT("<sip:b&b'<\"@example.org>");
	of.aor = LIT("sip:b&b@example.org");
	body_set("From: <im:alice@example.org>\r\n"
			 "imdn.Message-ID: <a&b>\"'\r\n"
			 "imdn.Disposition-Notification: processing\r\n" TAIL);
	tell(CPM_IMDN_STORED);
	ck_assert(has(
			told.body, "<message-id>&lt;a&amp;b&gt;&quot;&apos;</message-id>"));
	ck_assert(has(told.body,
			"<recipient-uri>sip:b&amp;b@example.org</recipient-uri>"));
	ck_assert(has(told.body, "<original-recipient-uri>sip:b&amp;b&apos;&lt;"
							 "&quot;@example.org</original-recipient-uri>"));
}
END_TEST

static const struct
{
	const char *to;
	const char *want;
} tos[] = {
		{"sip:bob@example.org;tag=1", "sip:bob@example.org"},
		{"\"B\" <sip:b@x>", "sip:b@x"},
		{"<sip:b\xc3\xa9@x>", "sip:bob@example.org"},
		{"<sip:b b@x>", "sip:bob@example.org"},
		{"<>", "sip:bob@example.org"},
		{"<bob>", "sip:bob@example.org"},
		{"", "sip:bob@example.org"},
};

START_TEST(the_recipient_as_the_sender_called_it)
{
	char want[256];

	fresh();
	of.to = cpm_pl_str(tos[_i].to);
	tell(CPM_IMDN_STORED);
	(void)snprintf(want, sizeof(want),
			"<original-recipient-uri>%s</original-recipient-uri>",
			tos[_i].want);
	ck_assert_msg(has(told.body, want), "%s", tos[_i].to);
}
END_TEST

START_TEST(odd_cpim)
{
	fresh();
	/* no From, no DateTime that can be read */
	body_set("To: <im:bob@example.org>\r\nimdn.Message-ID: 1\r\n"
			 "DateTime: yesterday\r\n"
			 "imdn.Disposition-Notification: processing\r\n" TAIL);
	tell(CPM_IMDN_STORED);
	ck_assert(has(told.body, "\r\nTo: <sip:alice@example.org>\r\n"));
	ck_assert(has(told.body, "<datetime>2026-03-20T09:45:40.123Z</datetime>"));
	/* the address that CPM clients put there when SIP says who it is */
	body_set("From: <sip:anonymous@anonymous.invalid>\r\n"
			 "imdn.Message-ID: 1\r\n"
			 "imdn.Disposition-Notification: processing\r\n" TAIL);
	tell(CPM_IMDN_STORED);
	ck_assert(has(told.body, "\r\nTo: <sip:anonymous@anonymous.invalid>\r\n"));
	ck_pl_eq(told.to, "<sip:alice@example.org>");
}
END_TEST

START_TEST(the_largest_fits)
{
	static char to[700], aor[CPM_AOR_MAX + 1], from[CPM_AOR_MAX + 1];
	static char text[1024], host[1025];
	char id[CPM_MSG_ID_MAX + 1];
	struct cpm_imdn_ask ask;

	fresh();
	memset(to, '"', 514); /* ADDRESS_MAX, and the brackets */
	memcpy(to, "<sip:", 5);
	to[513] = '>';
	memset(aor, '&', sizeof(aor) - 1);
	memcpy(aor, "sip:", 4);
	memset(from, '&', sizeof(from) - 1);
	memcpy(from, "tel:", 4);
	memset(id, '"', sizeof(id) - 1);
	id[sizeof(id) - 1] = '\0';
	memset(host, 'h', sizeof(host) - 1);
	(void)snprintf(text, sizeof(text),
			"imdn.Message-ID: %s\r\nFrom: <im:%0500d>\r\n"
			"imdn.Disposition-Notification: negative-delivery\r\n" TAIL,
			id, 1);
	of.to = cpm_pl_str(to);
	of.aor = cpm_pl_str(aor);
	of.originator = cpm_pl_str(from);
	body_set(text);
	memset(&ask, 0, sizeof(ask));
	ask.of = &of;
	ask.kind = CPM_IMDN_FAILED;
	ask.to = of.originator;
	ask.host = cpm_pl_str(host);
	ask.now_ms = NOW_MS;
	ck_assert_int_eq(cpm_imdn_write(&ask, buf, sizeof(buf), &told), CPM_OK);
	ck_assert(has(told.body, "<original-recipient-uri>sip:&quot;"));
	ck_assert_int_eq(
			cpm_imdn_write(&ask, buf, sizeof(buf) - 1, &told), CPM_ENOMEM);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_imdn");

	fu_case(s, "stored: a CPIM with a processing notification", whole_stored);
	fu_case(s, "failed: a delivery notification", whole_failed);
	fu_case(s, "it is a message that can be queued, and answered by none",
			envelope);
	fu_table(s, "who is not told", not_told, FU_N(never));
	fu_case(s, "each kind is asked for by itself",
			each_kind_is_asked_for_by_itself);
	fu_case(s, "written again it is the same message", a_repeat_is_the_same);
	fu_table(s, "of another message it is another", another_is_another,
			FU_N(others));
	fu_case(s, "markup in names is escaped", markup_is_escaped);
	fu_table(s, "the recipient as the sender called it, if that can be said",
			the_recipient_as_the_sender_called_it, FU_N(tos));
	fu_case(s, "a CPIM without sender or date, or with the usual nobody",
			odd_cpim);
	fu_case(s, "the longest names fit", the_largest_fits);
	return fu_run(s);
}
