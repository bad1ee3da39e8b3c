/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_notify.c - what a user's clients are told of the queue.
 */

#include "check_helpers.h"
#include "cpm_notify.h"

#include <stdio.h>

#define BOB "sip:bob@example.org"
#define DAY_MS 86400000u
#define SENT_MS UINT64_C(1289690940000) /* Sat, 13 Nov 2010 23:29:00 GMT */

static char out[131072];

static struct cpm_queue_item item_of(const char *id)
{
	struct cpm_queue_item item;

	memset(&item, 0, sizeof(item));
	item.state = CPM_STATE_QUEUED;
	item.msg.id = cpm_pl_str(id);
	item.msg.aor = CPM_PL_LIT(BOB);
	item.msg.from = CPM_PL_LIT("\"Alice\" <sip:alice@example.org>");
	item.msg.to = CPM_PL_LIT("<" BOB ">");
	item.msg.originator = CPM_PL_LIT("sip:alice@example.org");
	item.msg.subject = CPM_PL_LIT("Lunch");
	item.msg.conversation_id = CPM_PL_LIT("conv");
	item.msg.contribution_id = CPM_PL_LIT("contr");
	item.msg.received_ms = SENT_MS;
	item.msg.expires_ms = SENT_MS + DAY_MS;
	item.msg.body_len = 124;
	return item;
}

static struct cpm_queue_stat stat_of(uint64_t queued, uint64_t held)
{
	struct cpm_queue_stat stat;

	memset(&stat, 0, sizeof(stat));
	stat.messages = queued + held;
	stat.queued = queued;
	stat.held = held;
	return stat;
}

static struct cpm_notify notify_of(enum cpm_notify_type type,
		const struct cpm_queue_stat *stat, const struct cpm_queue_item *items,
		size_t count)
{
	struct cpm_notify n;

	memset(&n, 0, sizeof(n));
	n.type = type;
	n.aor = CPM_PL_LIT(BOB);
	n.stat = stat;
	n.items = items;
	n.count = count;
	n.fields = CPM_NOTIFY_ALL;
	n.max_bytes = sizeof(out);
	return n;
}

static struct cpm_pl written(const struct cpm_notify *n, size_t *told)
{
	struct cpm_wr w;

	cpm_wr_init(&w, out, sizeof(out));
	ck_assert_int_eq(cpm_notify_write(n, &w, told), CPM_OK);
	ck_assert(cpm_wr_ok(&w));
	return cpm_wr_pl(&w);
}

static bool has(struct cpm_pl text, const char *part)
{
	size_t n = strlen(part);
	size_t i;

	for(i = 0; i + n <= text.n; i++) {
		if(memcmp(text.p + i, part, n) == 0) {
			return true;
		}
	}
	return false;
}

/* ------------------------------------------------------------ both bodies */

START_TEST(summary)
{
	struct cpm_queue_item item = item_of("Abc123");
	struct cpm_queue_stat stat = stat_of(3, 1);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, &item, 1);
	size_t told = 0;

	ck_pl_eq(written(&n, &told), "Messages-Waiting: yes\r\n"
								 "Message-Account: " BOB "\r\n"
								 "pager-message: 3/1 (0/0)\r\n"
								 "\r\n"
								 "From: \"Alice\" <sip:alice@example.org>\r\n"
								 "To: <" BOB ">\r\n"
								 "Subject: Lunch\r\n"
								 "Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n"
								 "Expires: Sun, 14 Nov 2010 23:29:00 GMT\r\n"
								 "Message-ID: Abc123\r\n"
								 "Content-Length: 124\r\n"
								 "Conversation-ID: conv\r\n"
								 "Contribution-ID: contr\r\n");
	ck_assert_uint_eq(told, 1);
}
END_TEST

START_TEST(history)
{
	struct cpm_queue_item item = item_of("Abc123");
	struct cpm_queue_stat stat = stat_of(3, 1);
	struct cpm_notify n = notify_of(CPM_NOTIFY_HISTORY, &stat, &item, 1);
	size_t told = 0;

	item.state = CPM_STATE_HELD;
	ck_pl_eq(written(&n, &told),
			"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
			"<history-list xmlns=\"urn:oma:xml:im:history-list\""
			" xmlns:cpm=\"urn:cpm-pf:notify:1\" cpm:messages=\"4\""
			" cpm:new=\"3\" cpm:old=\"1\">\n"
			"<history cpm:conversation-id=\"conv\""
			" cpm:contribution-id=\"contr\" cpm:state=\"held\">"
			"<size>124</size>"
			"<expiry>2010-11-14T23:29:00.000Z</expiry>"
			"<subject>Lunch</subject>"
			"<date>2010-11-13T23:29:00.000Z</date>"
			"<history-reference>Abc123</history-reference>"
			"<pager><time-stamp>2010-11-13T23:29:00.000Z</time-stamp>"
			"<from>sip:alice@example.org</from><to>" BOB "</to></pager>"
			"</history>\n"
			"</history-list>\n");
	ck_assert_uint_eq(told, 1);
}
END_TEST

START_TEST(nothing_queued)
{
	struct cpm_queue_stat stat = stat_of(0, 0);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, NULL, 0);

	ck_pl_eq(written(&n, NULL), "Messages-Waiting: no\r\n"
								"Message-Account: " BOB "\r\n"
								"pager-message: 0/0 (0/0)\r\n");
	n.type = CPM_NOTIFY_HISTORY;
	ck_assert(has(written(&n, NULL), "cpm:messages=\"0\""));
	ck_assert(!has(written(&n, NULL), "<history>"));
}
END_TEST

START_TEST(what_is_new)
{
	struct cpm_queue_stat stat = stat_of(1, 2);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, NULL, 0);

	stat.leased = 3;
	stat.dead = 4;
	stat.messages += 7;
	ck_assert(has(written(&n, NULL), "pager-message: 8/2 (0/0)"));
	stat = stat_of(0, 2);
	ck_assert(has(written(&n, NULL), "Messages-Waiting: yes\r\n"));
	ck_assert(has(written(&n, NULL), "pager-message: 0/2 (0/0)"));
}
END_TEST

START_TEST(names)
{
	enum cpm_notify_type type = CPM_NOTIFY_SUMMARY;
	size_t i;

	for(i = CPM_NOTIFY_SUMMARY; i <= CPM_NOTIFY_HISTORY; i++) {
		ck_assert_int_eq(
				cpm_notify_event_parse(
						cpm_pl_str(cpm_notify_event((enum cpm_notify_type)i)),
						&type),
				CPM_OK);
		ck_assert_uint_eq(type, i);
	}
	ck_assert_str_eq(cpm_notify_content_type(CPM_NOTIFY_SUMMARY),
			"application/simple-message-summary");
	ck_assert_str_eq(cpm_notify_content_type(CPM_NOTIFY_HISTORY),
			"application/vnd.oma.im.deferred-list+xml");
	ck_assert_int_eq(
			cpm_notify_event_parse(CPM_PL_LIT("Message-Summary"), &type),
			CPM_EPROTO);
	ck_assert_int_eq(cpm_notify_event_parse(CPM_PL_NULL, &type), CPM_EPROTO);
	ck_assert_uint_eq(type, CPM_NOTIFY_HISTORY);
}
END_TEST

/* ----------------------------------------------------------------- fields */

static const struct
{
	const char *list;
	unsigned fields;
} lists[] = {
		{"", CPM_NOTIFY_ALL},
		{"  ", CPM_NOTIFY_ALL},
		{"id", CPM_NOTIFY_ID},
		{"from", CPM_NOTIFY_ID | CPM_NOTIFY_FROM},
		{" From , SIZE ", CPM_NOTIFY_ID | CPM_NOTIFY_FROM | CPM_NOTIFY_SIZE},
		{"to,subject,date", CPM_NOTIFY_ID | CPM_NOTIFY_TO | CPM_NOTIFY_SUBJECT
									| CPM_NOTIFY_DATE},
		{"conversation", CPM_NOTIFY_ID | CPM_NOTIFY_CONVERSATION},
		{"from,to,subject,date,size,id,conversation", CPM_NOTIFY_ALL},
		{"body", CPM_NOTIFY_ID},
		{",", CPM_NOTIFY_ID},
		{"from to", CPM_NOTIFY_ID},
		{"fromm,", CPM_NOTIFY_ID},
};

START_TEST(fields)
{
	ck_assert_uint_eq(
			cpm_notify_fields(cpm_pl_str(lists[_i].list)), lists[_i].fields);
}
END_TEST

START_TEST(fields_are_left_out)
{
	static const struct
	{
		unsigned field;
		const char *summary, *history;
	} of[] = {
			{CPM_NOTIFY_FROM, "From:", "<from>"},
			{CPM_NOTIFY_TO, "To:", "<to>"},
			{CPM_NOTIFY_SUBJECT, "Subject:", "<subject>"},
			{CPM_NOTIFY_DATE, "Date:", "<date>"},
			{CPM_NOTIFY_DATE, "Expires:", "<expiry>"},
			{CPM_NOTIFY_DATE, "Date:", "<time-stamp>"},
			{CPM_NOTIFY_SIZE, "Content-Length:", "<size>"},
			{CPM_NOTIFY_CONVERSATION,
					"Conversation-ID:", "cpm:conversation-id="},
			{CPM_NOTIFY_CONVERSATION,
					"Contribution-ID:", "cpm:contribution-id="},
			{CPM_NOTIFY_ID, "Message-ID: x", ">x</history-reference>"},
	};
	struct cpm_queue_item item = item_of("x");
	struct cpm_queue_stat stat = stat_of(1, 0);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, &item, 1);
	size_t i;

	for(n.fields = 0; n.fields <= CPM_NOTIFY_ALL; n.fields++) {
		for(i = 0; i < FU_N(of); i++) {
			bool there = ((n.fields | CPM_NOTIFY_ID) & of[i].field) != 0;

			n.type = CPM_NOTIFY_SUMMARY;
			ck_assert_int_eq(has(written(&n, NULL), of[i].summary), there);
			n.type = CPM_NOTIFY_HISTORY;
			ck_assert_int_eq(has(written(&n, NULL), of[i].history), there);
		}
	}
}
END_TEST

/* ---------------------------------------------------------------- privacy */

START_TEST(withheld)
{
	static const unsigned flags[] = {CPM_MSG_F_WITHHELD, CPM_MSG_F_ANONYMOUS,
			CPM_MSG_F_WITHHELD | CPM_MSG_F_ANONYMOUS};
	struct cpm_queue_item item = item_of("x");
	struct cpm_queue_stat stat = stat_of(1, 0);
	struct cpm_notify n =
			notify_of((enum cpm_notify_type)(_i % 2), &stat, &item, 1);
	struct cpm_pl body;
	char from[1024];

	item.msg.flags = flags[_i / 2];
	item.msg.conversation_id = CPM_PL_LIT("x@alice.example.org");
	item.msg.contribution_id = CPM_PL_LIT("y@alice.example.org");
	body = written(&n, NULL);
	ck_assert(!has(body, "alice") && !has(body, "Alice"));
	ck_assert(has(body, "sip:anonymous@anonymous.invalid"));
	/* nor where From is too long to be told */
	memset(from, 'a', sizeof(from));
	item.msg.from = cpm_pl(from, sizeof(from));
	body = written(&n, NULL);
	ck_assert(!has(body, "alice") && !has(body, "aaaa"));
}
END_TEST

/* ---------------------------------------------------------------- hostile */

static const struct
{
	const char *subject, *line, *xml;
} texts[] = {
		{"plain", "plain", "plain"},
		{"  two  words\t", "two words", "two words"},
		{"a\r\nb", "a b", "a b"},
		{"a\r\n\r\nMessages-Waiting: no", "a Messages-Waiting: no",
				"a Messages-Waiting: no"},
		{"a\x01\x1b[2J\x7f"
		 "b",
				"a [2J b", "a [2J b"},
		{"<script>&\"'</script>", "<script>&\"'</script>",
				"&lt;script&gt;&amp;&quot;'&lt;/script&gt;"},
		{"]]>", "]]>", "]]&gt;"},
		{"caf\xc3\xa9", "caf\xc3\xa9", "caf\xc3\xa9"},
		{"caf\xe9!", "caf?!", "caf?!"},
		{"\xff\xfe", "??", "??"},
		{"\xc0\xaf\xe0\x80\xaf", "?????", "?????"}, /* overlong */
		{"\xed\xa0\x80", "???", "???"},				/* a surrogate */
		{"\xf4\x90\x80\x80", "????", "????"},		/* past the last */
		{"a\xef\xbf\xbf\xef\xbf\xbe"
		 "b",
				"a b", "a b"}, /* no characters */
		{"a\xe2\x80\xa8\xe2\x80\xa9\xc2\x85"
		 "b",
				"a b", "a b"}, /* ends of lines */
		{"a\xe2\x80\xae\xe2\x81\xa6"
		 "b",
				"a b", "a b"},		 /* directions */
		{"a\xe2\x82", "a??", "a??"}, /* cut short */
		{"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
};

START_TEST(hostile_text)
{
	struct cpm_queue_item item = item_of("x");
	struct cpm_queue_stat stat = stat_of(1, 0);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, &item, 1);
	char want[256];

	item.msg.subject = cpm_pl_str(texts[_i].subject);
	snprintf(want, sizeof(want), "\r\nSubject: %s\r\n", texts[_i].line);
	ck_assert_msg(has(written(&n, NULL), want), "%s", out);
	n.type = CPM_NOTIFY_HISTORY;
	snprintf(want, sizeof(want), "<subject>%s</subject>", texts[_i].xml);
	ck_assert_msg(has(written(&n, NULL), want), "%s", out);
}
END_TEST

START_TEST(blank_text_is_none)
{
	struct cpm_queue_item item = item_of("x");
	struct cpm_queue_stat stat = stat_of(1, 0);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, &item, 1);

	item.msg.subject = item.msg.conversation_id = CPM_PL_LIT(" \r\n\x01");
	ck_assert(!has(written(&n, NULL), "Subject"));
	ck_assert(!has(written(&n, NULL), "Conversation-ID"));
	n.type = CPM_NOTIFY_HISTORY;
	ck_assert(!has(written(&n, NULL), "<subject>"));
}
END_TEST

START_TEST(long_text_is_cut_where_a_character_ends)
{
	struct cpm_queue_item item = item_of("x");
	struct cpm_queue_stat stat = stat_of(1, 0);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, &item, 1);
	char long_text[4000];
	size_t i;

	for(i = 0; i + 4 <= sizeof(long_text); i += 4) {
		memcpy(long_text + i, "\xf0\x9f\x98\x80", 4);
	}
	long_text[0] = 'a';
	item.msg.subject = cpm_pl(long_text, 1 + sizeof(long_text) - 4);
	memmove(long_text + 1, long_text + 4, sizeof(long_text) - 4);
	written(&n, NULL);
	/* 1 + 29 * 4 = 117; the next would be 121 */
	ck_assert_uint_eq((size_t)(strchr(strstr(out, "Subject: ") + 9, '\r')
							   - (strstr(out, "Subject: ") + 9)),
			117);
}
END_TEST

START_TEST(long_addresses)
{
	struct cpm_queue_item item = item_of("x");
	struct cpm_queue_stat stat = stat_of(1, 0);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, &item, 1);
	char text[1000];

	memset(text, 'a', sizeof(text));
	item.msg.from = item.msg.to = cpm_pl(text, sizeof(text));
	item.msg.conversation_id = cpm_pl(text, sizeof(text));
	ck_assert(has(written(&n, NULL), "From: <sip:alice@example.org>\r\n"));
	ck_assert(has(written(&n, NULL), "To: <" BOB ">\r\n"));
	ck_assert(!has(written(&n, NULL), "Conversation-ID"));
	n.type = CPM_NOTIFY_HISTORY;
	ck_assert(has(written(&n, NULL), "<from>sip:alice@example.org</from>"));
	item.msg.originator = CPM_PL_NULL;
	ck_assert(!has(written(&n, NULL), "<from>"));
	n.type = CPM_NOTIFY_SUMMARY;
	ck_assert(!has(written(&n, NULL), "From"));
}
END_TEST

static const struct
{
	const char *from, *line, *uri;
} addresses[] = {
		{"<sip:a@b>", "From: <sip:a@b>\r\n", "<from>sip:a@b</from>"},
		{"sip:a@b", "From: <sip:a@b>\r\n", "<from>sip:a@b</from>"},
		{"sip:a@b;x=y", "From: <sip:a@b>\r\n", "<from>sip:a@b</from>"},
		{"\"<x>\\\" <y>\" <sip:a@b;x=y>;z",
				"From: \"<x>\\\" <y>\" <sip:a@b;x=y>;z\r\n",
				"<from>sip:a@b;x=y</from>"},
		{"A <sip:a@b", "From: A <sip:a@b\r\n", "<from>sip:a@b</from>"},
		{"\"unclosed <sip:a@b>", "From: \"unclosed <sip:a@b>\r\n",
				"<from>&quot;unclosed &lt;sip:a@b&gt;</from>"},
};

START_TEST(address_forms)
{
	struct cpm_queue_item item = item_of("x");
	struct cpm_queue_stat stat = stat_of(1, 0);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, &item, 1);

	item.msg.from = cpm_pl_str(addresses[_i].from);
	ck_assert_msg(has(written(&n, NULL), addresses[_i].line), "%s", out);
	n.type = CPM_NOTIFY_HISTORY;
	ck_assert_msg(has(written(&n, NULL), addresses[_i].uri), "%s", out);
}
END_TEST

/* ------------------------------------------------------------------- size */

START_TEST(the_oldest_are_left_out)
{
	struct cpm_queue_item items[20];
	struct cpm_queue_stat stat = stat_of(500, 0);
	struct cpm_notify n =
			notify_of((enum cpm_notify_type)_i, &stat, items, FU_N(items));
	char ids[FU_N(items)][8];
	struct cpm_pl body;
	size_t told = 0, i;
	char want[32];

	for(i = 0; i < FU_N(items); i++) {
		snprintf(ids[i], sizeof(ids[i]), "<%02u>", (unsigned)i);
		items[i] = item_of(ids[i]);
	}
	for(n.max_bytes = 0; n.max_bytes < 9000; n.max_bytes++) {
		body = written(&n, &told);
		ck_assert_uint_le(body.n, n.max_bytes > CPM_NOTIFY_HEAD_MAX
										  ? n.max_bytes
										  : CPM_NOTIFY_HEAD_MAX);
		ck_assert(has(body, "500"));
		for(i = 0; i < FU_N(items); i += 7) {
			snprintf(want, sizeof(want),
					_i == CPM_NOTIFY_SUMMARY ? "Message-ID: <%02u>\r\n"
											 : ">&lt;%02u&gt;</",
					(unsigned)i);
			ck_assert_int_eq(has(body, want), i < told);
		}
		ck_assert(_i == CPM_NOTIFY_SUMMARY || has(body, "</history-list>\n"));
	}
	ck_assert_uint_eq(told, FU_N(items));
}
END_TEST

START_TEST(what_has_no_room_is_told_by_little)
{
	struct cpm_queue_item item = item_of("x");
	struct cpm_queue_stat stat = stat_of(1, 0);
	struct cpm_notify n = notify_of(CPM_NOTIFY_SUMMARY, &stat, &item, 1);
	char text[120], from[250];
	struct cpm_pl body;
	size_t told = 0;

	memset(text, 's', sizeof(text));
	memset(from, 'f', sizeof(from));
	item.msg.subject = cpm_pl(text, sizeof(text));
	item.msg.from = item.msg.to = cpm_pl(from, sizeof(from));
	n.max_bytes = CPM_NOTIFY_HEAD_MAX;
	body = written(&n, &told);
	ck_assert_uint_eq(told, 1);
	ck_assert(has(body, "Message-ID: x\r\n"));
	ck_assert(has(body, "Content-Length: 124\r\n"));
	ck_assert(!has(body, "Subject") && !has(body, "From"));
	/* what is not to be told is not told then either */
	n.fields = CPM_NOTIFY_FROM;
	body = written(&n, &told);
	ck_assert(!has(body, "Content-Length") && !has(body, "Date"));
}
END_TEST

START_TEST(a_small_buffer)
{
	struct cpm_queue_item items[] = {item_of("1"), item_of("2")};
	struct cpm_queue_stat stat = stat_of(2, 0);
	struct cpm_notify n =
			notify_of((enum cpm_notify_type)_i, &stat, items, FU_N(items));
	size_t whole = written(&n, NULL).n;
	size_t cap;
	char *buf;
	char nothing = '\0';
	struct cpm_wr w;
	int rc, ok = 0;

	for(cap = 0; cap <= whole; cap++) {
		/* it ends at a page that cannot be written */
		char *fill = calloc(1, cap + 1);

		ck_assert_ptr_nonnull(fill);
		buf = guard_dup(cap > 0 ? fill : &nothing, cap);
		cpm_wr_init(&w, buf, cap);
		rc = cpm_notify_write(&n, &w, NULL);
		ck_assert(rc == CPM_OK || rc == CPM_ENOMEM);
		ck_assert(cpm_wr_ok(&w));
		ck_assert(rc == CPM_OK || w.n == 0);
		ok += rc == CPM_OK;
		guard_free(buf, cap);
		free(fill);
	}
	ck_assert_int_gt(ok, 1);
}
END_TEST

/* Nothing that a sender writes gets out of its place. */
START_TEST(property)
{
	static const char alphabet[] =
			"ab <>\"&;:\\\r\n\t\x01\x7f\x80\xc2\xa0\xe2\x80\xa8\xed\xf0\x9f";
	uint64_t seed = cpm_hash64(CPM_HASH_INIT, CPM_PL_LIT("notify"));
	struct cpm_queue_item item;
	struct cpm_queue_stat stat = stat_of(1, 0);
	char texts_of[4][300];
	struct cpm_pl body, line;
	unsigned round, lines, opened;
	size_t i, k;

	for(round = 0; round < 3000; round++) {
		struct cpm_notify n =
				notify_of((enum cpm_notify_type)(round % 2), &stat, &item, 1);

		item = item_of("id");
		for(k = 0; k < 4; k++) {
			for(i = 0; i < sizeof(texts_of[k]); i++) {
				seed = seed * UINT64_C(6364136223846793005) + 1442695040888963;
				texts_of[k][i] =
						alphabet[(seed >> 33) % (sizeof(alphabet) - 1)];
			}
		}
		item.msg.subject = cpm_pl(texts_of[0], (seed >> 40) % 300);
		item.msg.from = cpm_pl(texts_of[1], (seed >> 41) % 300);
		item.msg.to = cpm_pl(texts_of[2], (seed >> 42) % 300);
		item.msg.conversation_id = cpm_pl(texts_of[3], (seed >> 43) % 300);
		body = written(&n, NULL);
		lines = opened = 0;
		for(i = 0; i < body.n; i++) {
			unsigned char c = (unsigned char)body.p[i];

			opened += c == '<';
			ck_assert(c >= ' ' || c == '\r' || c == '\n');
			ck_assert(c != 0x7f);
		}
		while(body.n > 0) {
			line = cpm_pl_cut(&body, '\n');
			lines++;
			ck_assert_uint_lt(line.n, 2000);
			ck_assert(n.type == CPM_NOTIFY_HISTORY
					  || (line.n > 0 && line.p[line.n - 1] == '\r'));
		}
		/* 4 + at most 9 lines; the list has 4 and its tags are ours */
		ck_assert_uint_le(lines, n.type == CPM_NOTIFY_SUMMARY ? 13 : 4);
		ck_assert(n.type == CPM_NOTIFY_SUMMARY || opened <= 23);
	}
}
END_TEST

/* ---------------------------------------------------------------- clients */

#define PHONE "urn:uuid:00000000-0000-1000-8000-000a95a0e128"

struct told_rule
{
	const char *device, *originator;
	enum cpm_action action;
	uint64_t from, until;
};

static const struct
{
	const char *sentence;
	struct told_rule rules[3];
	bool told;
} worlds[] = {
		{"no rules", {{0}}, true},
		{"a device that defers all", {{PHONE, NULL, CPM_ACTION_DEFER, 0, 0}},
				false},
		{"one that rejects all", {{PHONE, NULL, CPM_ACTION_REJECT, 0, 0}},
				false},
		{"one that stores all", {{PHONE, NULL, CPM_ACTION_STORE, 0, 0}}, false},
		{"one that is asked", {{PHONE, NULL, CPM_ACTION_QUEUE, 0, 0}}, true},
		{"one that takes all", {{PHONE, NULL, CPM_ACTION_DELIVER, 0, 0}}, true},
		{"another device", {{"urn:other", NULL, CPM_ACTION_DEFER, 0, 0}}, true},
		{"a rule of the message", {{"", NULL, CPM_ACTION_REJECT, 0, 0}}, true},
		{"some are deferred",
				{{PHONE, "sip:a@example.org", CPM_ACTION_DEFER, 0, 0}}, true},
		{"some are delivered, the rest is not",
				{{PHONE, "sip:a@example.org", CPM_ACTION_DELIVER, 0, 0},
						{PHONE, NULL, CPM_ACTION_DEFER, 0, 0}},
				true},
		{"some are deferred, the rest is too",
				{{PHONE, "sip:a@example.org", CPM_ACTION_DEFER, 0, 0},
						{PHONE, NULL, CPM_ACTION_REJECT, 0, 0}},
				false},
		{"not any more", {{PHONE, NULL, CPM_ACTION_DEFER, 0, 999}}, true},
		{"not yet", {{PHONE, NULL, CPM_ACTION_DEFER, 1001, 0}}, true},
		{"now", {{PHONE, NULL, CPM_ACTION_DEFER, 1000, 1000}}, false},
};

static struct cpm_prefs prefs_of(const struct told_rule *of, struct cpm_wr *w)
{
	struct cpm_prefs prefs = cpm_prefs_default();
	struct cpm_rule rules[3];
	size_t n;

	memset(rules, 0, sizeof(rules));
	for(n = 0; n < FU_N(rules) && of[n].device != NULL; n++) {
		rules[n].id = rules[n].priority = (int32_t)n + 1;
		rules[n].device = cpm_pl_str(of[n].device);
		rules[n].originator = cpm_pl_str(of[n].originator);
		rules[n].orig_kind =
				of[n].originator != NULL ? CPM_ORIG_EXACT : CPM_ORIG_ANY;
		rules[n].action = of[n].action;
		rules[n].valid_from_s = of[n].from;
		rules[n].valid_until_s = of[n].until;
	}
	ck_assert_int_eq(cpm_prefs_encode(&prefs, rules, n, w), CPM_OK);
	ck_assert_int_eq(cpm_prefs_decode(cpm_wr_pl(w), &prefs), CPM_OK);
	return prefs;
}

START_TEST(clients)
{
	static _Alignas(16) char buf[8192];
	struct cpm_client client;
	struct cpm_prefs prefs;
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	prefs = prefs_of(worlds[_i].rules, &w);
	memset(&client, 0, sizeof(client));
	client.connected = true;
	client.caps.instance = CPM_PL_LIT(PHONE);
	ck_assert_msg(cpm_client_notified(&prefs, &client, 1000) == worlds[_i].told,
			"%s", worlds[_i].sentence);
	/* by its public GRUU as well */
	client.caps.pub_gruu = client.caps.instance;
	client.caps.instance = CPM_PL_NULL;
	ck_assert_int_eq(
			cpm_client_notified(&prefs, &client, 1000), worlds[_i].told);
	client.connected = false;
	ck_assert(!cpm_client_notified(&prefs, &client, 1000));
	client.connected = true;
	prefs.enabled = false;
	ck_assert(!cpm_client_notified(&prefs, &client, 1000));
	prefs.enabled = true;
	prefs.known = false;
	ck_assert(!cpm_client_notified(&prefs, &client, 1000));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_notify");

	fu_case(s, "a message-summary has sums and a block for each message",
			summary);
	fu_case(s, "a history-list has sums, and a history for each message",
			history);
	fu_case(s, "an empty queue is told", nothing_queued);
	fu_case(s, "held are old, all others are new, and all are waiting",
			what_is_new);
	fu_case(s, "events are named byte by byte", names);
	fu_table(s, "a list of fields", fields, FU_N(lists));
	fu_case(s, "what is not to be told is not told", fields_are_left_out);
	fu_table(s, "who withheld their identity is nobody", withheld, 6);
	fu_table(s, "a sender's text stays one line, and text", hostile_text,
			FU_N(texts));
	fu_case(s, "a blank text is none", blank_text_is_none);
	fu_case(s, "a long text is cut where a character ends",
			long_text_is_cut_where_a_character_ends);
	fu_case(s, "half an address is none", long_addresses);
	fu_table(s, "addresses in all their forms", address_forms, FU_N(addresses));
	fu_table(s, "what has no room is left out, from the oldest on",
			the_oldest_are_left_out, 2);
	fu_case(s, "a message whose block has no room is told by little",
			what_has_no_room_is_told_by_little);
	fu_table(s, "a small buffer is not overrun", a_small_buffer, 2);
	fu_case(s, "nothing that a sender writes gets out of its place", property);
	fu_table(s, "which clients are told", clients, FU_N(worlds));
	return fu_run(s);
}
