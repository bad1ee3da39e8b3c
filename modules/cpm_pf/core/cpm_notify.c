/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_notify.h"

#include "cpm_time.h"

/* RFC 3323, 4.1 */
#define ANONYMOUS "sip:anonymous@anonymous.invalid"
#define HISTORY_NS "urn:oma:xml:im:history-list"
#define OWN_NS "urn:cpm-pf:notify:1"
#define HISTORY_END "</history-list>\n"

/* What a message is still told by when all of it has no room. */
#define FEW_FIELDS (CPM_NOTIFY_ID | CPM_NOTIFY_DATE | CPM_NOTIFY_SIZE)

/* ---------------------------------------------------------------- names */

static const struct
{
	const char *event, *content_type;
} types[] = {
		[CPM_NOTIFY_SUMMARY] = {"message-summary",
				"application/simple-message-summary"},
		[CPM_NOTIFY_HISTORY] = {"deferred-messages",
				"application/vnd.oma.im.deferred-list+xml"},
};
#define TYPES (sizeof(types) / sizeof(types[0]))

const char *cpm_notify_event(enum cpm_notify_type type)
{
	return types[type].event;
}

const char *cpm_notify_content_type(enum cpm_notify_type type)
{
	return types[type].content_type;
}

int cpm_notify_event_parse(struct cpm_pl event, enum cpm_notify_type *type_r)
{
	size_t i;

	for(i = 0; i < TYPES; i++) {
		/* RFC 6665, 8.2.1: event types are compared byte by byte */
		if(cpm_pl_eq(event, cpm_pl_str(types[i].event))) {
			*type_r = (enum cpm_notify_type)i;
			return CPM_OK;
		}
	}
	return CPM_EPROTO;
}

unsigned cpm_notify_fields(struct cpm_pl list)
{
	static const struct
	{
		const char *name;
		unsigned field;
	} names[] = {
			{"from", CPM_NOTIFY_FROM},
			{"to", CPM_NOTIFY_TO},
			{"subject", CPM_NOTIFY_SUBJECT},
			{"date", CPM_NOTIFY_DATE},
			{"size", CPM_NOTIFY_SIZE},
			{"id", CPM_NOTIFY_ID},
			{"conversation", CPM_NOTIFY_CONVERSATION},
	};
	struct cpm_pl rest = cpm_pl_trim(list);
	struct cpm_pl word;
	unsigned fields = CPM_NOTIFY_ID;
	size_t i;

	if(rest.n == 0) {
		return CPM_NOTIFY_ALL;
	}
	while(rest.p != NULL) {
		word = cpm_pl_trim(cpm_pl_cut(&rest, ','));
		for(i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			if(cpm_pl_ieq(word, cpm_pl_str(names[i].name))) {
				fields |= names[i].field;
			}
		}
	}
	return fields;
}

/* ----------------------------------------------------------------- text */

/* The character at the start of a (RFC 3629, 4), and its bytes; 0: those are
 * no UTF-8. */
static size_t utf8_read(struct cpm_pl a, uint32_t *c_r)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char first = (unsigned char)a.p[0];
	size_t n = first < 0x80	  ? 1
			   : first < 0xc0 ? 0
			   : first < 0xe0 ? 2
			   : first < 0xf0 ? 3
			   : first < 0xf8 ? 4
							  : 0;
	uint32_t c = n == 1 ? first : first & (0x7fu >> n);
	size_t i;

	if(n == 0 || n > a.n) {
		return 0;
	}
	for(i = 1; i < n; i++) {
		if(((unsigned char)a.p[i] & 0xc0) != 0x80) {
			return 0;
		}
		c = c << 6 | ((unsigned char)a.p[i] & 0x3f);
	}
	if(c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
		return 0;
	}
	*c_r = c;
	return n;
}

/* What is no text for one line: controls, line and paragraph separators, what
 * turns the direction of all that follows, what is no character (and not
 * allowed in XML). A space stands in its place. */
static bool is_blank(uint32_t c)
{
	return c <= 0x20 || (c >= 0x7f && c <= 0xa0) || (c >= 0x2028 && c <= 0x202e)
		   || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff
		   || (c & 0xfffe) == 0xfffe || (c >= 0xfdd0 && c <= 0xfdef);
}

static void char_put(struct cpm_wr *w, struct cpm_pl c, bool xml)
{
	char only = c.n == 1 ? c.p[0] : '\0';

	if(!xml) {
		cpm_wr_pl_put(w, c);
	} else if(only == '&') {
		cpm_wr_str(w, "&amp;");
	} else if(only == '<') {
		cpm_wr_str(w, "&lt;");
	} else if(only == '>') {
		cpm_wr_str(w, "&gt;");
	} else if(only == '"') {
		cpm_wr_str(w, "&quot;");
	} else {
		cpm_wr_pl_put(w, c);
	}
}

/* A sender's text as one line of valid UTF-8: without blanks at its ends, one
 * space for each run of blanks, "?" for each byte that is no UTF-8; at most
 * max bytes (before XML's escapes), cut where a character ends. false: that
 * leaves nothing. */
static bool text_put(struct cpm_wr *w, struct cpm_pl text, size_t max, bool xml)
{
	bool blank = false;
	size_t used = 0;
	uint32_t c = 0;
	size_t n;
	struct cpm_pl out;

	for(; text.n > 0; text = cpm_pl_from(text, n > 0 ? n : 1)) {
		n = utf8_read(text, &c);
		if(n > 0 && is_blank(c)) {
			blank = used > 0;
			continue;
		}
		out = n > 0 ? cpm_pl(text.p, n) : CPM_PL_LIT("?");
		if(used + blank + out.n > max) {
			break;
		}
		if(blank) {
			cpm_wr_chr(w, ' ');
		}
		char_put(w, out, xml);
		used += blank + out.n;
		blank = false;
	}
	return used > 0;
}

/* The same between what opens and what closes it; nothing at all if the text
 * leaves nothing. */
static void wrapped_put(struct cpm_wr *w, const char *const open[3],
		struct cpm_pl text, size_t max, const char *const close[3], bool xml)
{
	size_t mark = w->n;
	size_t i;

	for(i = 0; i < 3; i++) {
		cpm_wr_str(w, open[i]);
	}
	if(!text_put(w, text, max, xml)) {
		w->n = mark;
		return;
	}
	for(i = 0; i < 3; i++) {
		cpm_wr_str(w, close[i]);
	}
}

/* The URI of a name-addr, or an addr-spec without its header parameters. */
static struct cpm_pl uri_of(struct cpm_pl addr)
{
	bool quoted = false;
	size_t i;

	for(i = 0; i < addr.n; i++) {
		if(quoted && addr.p[i] == '\\') {
			i++;
		} else if(addr.p[i] == '"') {
			quoted = !quoted;
		} else if(!quoted && addr.p[i] == '<') {
			addr = cpm_pl_from(addr, i + 1);
			return cpm_pl_trim(cpm_pl(addr.p, cpm_pl_chr(addr, '>')));
		}
	}
	return cpm_pl_trim(cpm_pl(addr.p, cpm_pl_chr(addr, ';')));
}

/* --------------------------------------------------------------- message */

static bool is_withheld(const struct cpm_msg *m)
{
	return (m->flags & (CPM_MSG_F_WITHHELD | CPM_MSG_F_ANONYMOUS)) != 0;
}

/* Half an address is none: one that is too long is told by what is known to be
 * the sender, or not at all. */
static struct cpm_pl sender_of(const struct cpm_msg *m)
{
	if(is_withheld(m)) {
		return CPM_PL_LIT(ANONYMOUS);
	}
	return m->from.n <= CPM_NOTIFY_ADDRESS_MAX ? m->from : m->originator;
}

static struct cpm_pl recipient_of(const struct cpm_msg *m)
{
	return m->to.n <= CPM_NOTIFY_ADDRESS_MAX ? m->to : m->aor;
}

/* Of whom the sender is these may tell as well, by their right side; and half
 * of one names nothing. */
static struct cpm_pl conversation_of(
		const struct cpm_msg *m, struct cpm_pl conversation)
{
	return is_withheld(m) || conversation.n > CPM_NOTIFY_CONVERSATION_MAX
				   ? CPM_PL_NULL
				   : conversation;
}

/* ------------------------------------------------------- message-summary */

static void line_put(
		struct cpm_wr *w, const char *name, struct cpm_pl value, size_t max)
{
	const char *const open[] = {name, ": ", ""};
	const char *const close[] = {"\r\n", "", ""};

	wrapped_put(w, open, value, max, close, false);
}

/* An addr-spec gets brackets: with parameters behind it, it would be read
 * otherwise (RFC 3261, 20). */
static void address_line_put(
		struct cpm_wr *w, const char *name, struct cpm_pl address)
{
	bool bare = cpm_pl_chr(address, '<') == address.n;
	const char *const open[] = {name, ": ", bare ? "<" : ""};
	const char *const close[] = {bare ? ">" : "", "\r\n", ""};

	wrapped_put(w, open, bare ? uri_of(address) : address,
			CPM_NOTIFY_ADDRESS_MAX, close, false);
}

static void date_line_put(struct cpm_wr *w, const char *name, uint64_t ms)
{
	if(ms > 0) {
		cpm_wr_str(w, name);
		cpm_wr_str(w, ": ");
		cpm_time_put_sip(w, ms / 1000);
		cpm_wr_str(w, "\r\n");
	}
}

static void summary_head(struct cpm_wr *w, const struct cpm_notify *n,
		uint64_t fresh, uint64_t old)
{
	cpm_wr_str(w, n->stat->messages > 0 ? "Messages-Waiting: yes\r\n"
										: "Messages-Waiting: no\r\n");
	line_put(w, "Message-Account", n->aor, CPM_AOR_MAX);
	cpm_wr_str(w, "pager-message: ");
	cpm_wr_u64(w, fresh);
	cpm_wr_chr(w, '/');
	cpm_wr_u64(w, old);
	cpm_wr_str(w, " (0/0)\r\n");
}

static void summary_block(
		struct cpm_wr *w, const struct cpm_queue_item *item, unsigned fields)
{
	const struct cpm_msg *m = &item->msg;

	cpm_wr_str(w, "\r\n");
	if((fields & CPM_NOTIFY_FROM) != 0) {
		address_line_put(w, "From", sender_of(m));
	}
	if((fields & CPM_NOTIFY_TO) != 0) {
		address_line_put(w, "To", recipient_of(m));
	}
	if((fields & CPM_NOTIFY_SUBJECT) != 0) {
		line_put(w, "Subject", m->subject, CPM_NOTIFY_SUBJECT_MAX);
	}
	if((fields & CPM_NOTIFY_DATE) != 0) {
		date_line_put(w, "Date", m->received_ms);
		date_line_put(w, "Expires", m->expires_ms);
	}
	line_put(w, "Message-ID", m->id, CPM_MSG_ID_MAX);
	if((fields & CPM_NOTIFY_SIZE) != 0) {
		cpm_wr_str(w, "Content-Length: ");
		cpm_wr_u64(w, m->body_len);
		cpm_wr_str(w, "\r\n");
	}
	if((fields & CPM_NOTIFY_CONVERSATION) != 0) {
		line_put(w, "Conversation-ID", conversation_of(m, m->conversation_id),
				CPM_NOTIFY_CONVERSATION_MAX);
		line_put(w, "Contribution-ID", conversation_of(m, m->contribution_id),
				CPM_NOTIFY_CONVERSATION_MAX);
	}
}

/* ----------------------------------------------------- deferred-messages */

static void attribute_put(
		struct cpm_wr *w, const char *name, struct cpm_pl value, size_t max)
{
	const char *const open[] = {" cpm:", name, "=\""};
	const char *const close[] = {"\"", "", ""};

	wrapped_put(w, open, value, max, close, true);
}

static void number_attribute_put(
		struct cpm_wr *w, const char *name, uint64_t value)
{
	cpm_wr_str(w, " cpm:");
	cpm_wr_str(w, name);
	cpm_wr_str(w, "=\"");
	cpm_wr_u64(w, value);
	cpm_wr_chr(w, '"');
}

static void tag_put(struct cpm_wr *w, const char *open, const char *name)
{
	cpm_wr_str(w, open);
	cpm_wr_str(w, name);
	cpm_wr_chr(w, '>');
}

static void element_put(
		struct cpm_wr *w, const char *name, struct cpm_pl value, size_t max)
{
	const char *const open[] = {"<", name, ">"};
	const char *const close[] = {"</", name, ">"};

	wrapped_put(w, open, value, max, close, true);
}

static void date_element_put(struct cpm_wr *w, const char *name, uint64_t ms)
{
	if(ms > 0) {
		tag_put(w, "<", name);
		cpm_time_put_rfc3339(w, ms);
		tag_put(w, "</", name);
	}
}

static void history_head(struct cpm_wr *w, const struct cpm_notify *n,
		uint64_t fresh, uint64_t old)
{
	cpm_wr_str(w,
			"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
			"<history-list xmlns=\"" HISTORY_NS "\" xmlns:cpm=\"" OWN_NS "\"");
	number_attribute_put(w, "messages", n->stat->messages);
	number_attribute_put(w, "new", fresh);
	number_attribute_put(w, "old", old);
	cpm_wr_str(w, ">\n");
}

static void pager_put(
		struct cpm_wr *w, const struct cpm_msg *m, unsigned fields)
{
	cpm_wr_str(w, "<pager>");
	if((fields & CPM_NOTIFY_DATE) != 0) {
		date_element_put(w, "time-stamp", m->received_ms);
	}
	if((fields & CPM_NOTIFY_FROM) != 0) {
		element_put(w, "from", uri_of(sender_of(m)), CPM_NOTIFY_ADDRESS_MAX);
	}
	if((fields & CPM_NOTIFY_TO) != 0) {
		element_put(w, "to", uri_of(recipient_of(m)), CPM_NOTIFY_ADDRESS_MAX);
	}
	cpm_wr_str(w, "</pager>");
}

static void history_block(
		struct cpm_wr *w, const struct cpm_queue_item *item, unsigned fields)
{
	const struct cpm_msg *m = &item->msg;

	cpm_wr_str(w, "<history");
	if((fields & CPM_NOTIFY_CONVERSATION) != 0) {
		attribute_put(w, "conversation-id",
				conversation_of(m, m->conversation_id),
				CPM_NOTIFY_CONVERSATION_MAX);
		attribute_put(w, "contribution-id",
				conversation_of(m, m->contribution_id),
				CPM_NOTIFY_CONVERSATION_MAX);
	}
	if(item->state == CPM_STATE_HELD) {
		attribute_put(w, "state", CPM_PL_LIT("held"), 8);
	}
	cpm_wr_chr(w, '>');
	if((fields & CPM_NOTIFY_SIZE) != 0) {
		cpm_wr_str(w, "<size>");
		cpm_wr_u64(w, m->body_len);
		cpm_wr_str(w, "</size>");
	}
	if((fields & CPM_NOTIFY_DATE) != 0) {
		date_element_put(w, "expiry", m->expires_ms);
	}
	if((fields & CPM_NOTIFY_SUBJECT) != 0) {
		element_put(w, "subject", m->subject, CPM_NOTIFY_SUBJECT_MAX);
	}
	if((fields & CPM_NOTIFY_DATE) != 0) {
		date_element_put(w, "date", m->received_ms);
	}
	element_put(w, "history-reference", m->id, CPM_MSG_ID_MAX);
	pager_put(w, m, fields);
	cpm_wr_str(w, "</history>\n");
}

/* ------------------------------------------------------------------ body */

static void block_put(struct cpm_wr *w, enum cpm_notify_type type,
		const struct cpm_queue_item *item, unsigned fields)
{
	if(type == CPM_NOTIFY_SUMMARY) {
		summary_block(w, item, fields);
	} else {
		history_block(w, item, fields);
	}
}

/* false: there is no room, and w is as it was. */
static bool block_try(struct cpm_wr *w, size_t end, enum cpm_notify_type type,
		const struct cpm_queue_item *item, unsigned fields)
{
	size_t mark = w->n;

	block_put(w, type, item, fields);
	if(w->n > end) {
		w->n = mark;
		return false;
	}
	return true;
}

int cpm_notify_write(
		const struct cpm_notify *n, struct cpm_wr *w, size_t *told_r)
{
	size_t max = n->max_bytes > CPM_NOTIFY_HEAD_MAX ? n->max_bytes
													: CPM_NOTIFY_HEAD_MAX;
	size_t start = w->n;
	size_t tail = n->type == CPM_NOTIFY_HISTORY ? sizeof(HISTORY_END) - 1 : 0;
	uint64_t old = n->stat->held;
	uint64_t fresh = n->stat->messages > old ? n->stat->messages - old : 0;
	size_t end = start + max < w->cap ? start + max : w->cap;
	unsigned fields = n->fields | CPM_NOTIFY_ID;
	size_t i;

	if(n->type == CPM_NOTIFY_SUMMARY) {
		summary_head(w, n, fresh, old);
	} else {
		history_head(w, n, fresh, old);
	}
	if(w->n + tail > w->cap) {
		w->n = start;
		return CPM_ENOMEM;
	}
	for(i = 0; i < n->count; i++) {
		if(w->n + tail > end
				|| (!block_try(w, end - tail, n->type, &n->items[i], fields)
						&& !block_try(w, end - tail, n->type, &n->items[i],
								fields & FEW_FIELDS))) {
			break;
		}
	}
	if(tail > 0) {
		cpm_wr_str(w, HISTORY_END);
	}
	if(told_r != NULL) {
		*told_r = i;
	}
	return CPM_OK;
}

/* --------------------------------------------------------------- clients */

static bool names_client(
		const struct cpm_rule *rule, const struct cpm_client *client)
{
	return rule->device.n > 0
		   && (cpm_pl_ieq(rule->device, client->caps.instance)
				   || cpm_pl_eq(rule->device, client->caps.pub_gruu));
}

static bool is_in_force(const struct cpm_rule *rule, uint64_t now_s)
{
	return now_s >= rule->valid_from_s
		   && (rule->valid_until_s == 0 || now_s <= rule->valid_until_s);
}

static bool speaks_of_all_messages(const struct cpm_rule *rule)
{
	return rule->orig_kind == CPM_ORIG_ANY && rule->type.n == 0
		   && rule->kind == CPM_KIND_ANY && rule->min_size == 0
		   && rule->max_size == 0;
}

bool cpm_client_notified(const struct cpm_prefs *prefs,
		const struct cpm_client *client, uint64_t now_s)
{
	struct cpm_rule rule;
	size_t i;

	if(!prefs->known || !prefs->enabled || !client->connected) {
		return false;
	}
	for(i = 0; i < prefs->rule_count; i++) {
		if(cpm_prefs_rule(prefs, i, &rule) != CPM_OK
				|| !names_client(&rule, client) || !is_in_force(&rule, now_s)) {
			continue;
		}
		if(rule.action == CPM_ACTION_DELIVER
				|| rule.action == CPM_ACTION_QUEUE) {
			return true;
		}
		if(speaks_of_all_messages(&rule)) {
			return false;
		}
	}
	return true;
}
