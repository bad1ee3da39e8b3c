/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_notify.h - what a user's clients are told of the queue: the bodies of a
 * NOTIFY, and which client is to have one.
 *
 * runs in:  anything; pure functions
 * owns:     nothing
 * never:    writes anything of a message's body, or an identity that its
 *           sender withheld
 *
 * message-summary (RFC 3842), application/simple-message-summary:
 *
 *     Messages-Waiting: yes
 *     Message-Account: sip:bob@example.org
 *     pager-message: 3/1 (0/0)
 *     <empty line>
 *     From: "Alice" <sip:alice@example.org>
 *     To: <sip:bob@example.org>
 *     Subject: Lunch
 *     Date: Sat, 13 Nov 2010 23:29:00 GMT
 *     Expires: Sat, 20 Nov 2010 23:29:00 GMT
 *     Message-ID: Abc123
 *     Content-Length: 124
 *     Conversation-ID: ...
 *     Contribution-ID: ...
 *
 * Messages-Waiting is yes while anything is queued. New are those that are
 * queued, under way or given up; old are those that the user said to keep
 * (held). SIP messages have no urgency that the queue knows: it is always 0/0.
 * Disposition notifications count as the messages that they are. Then one
 * block for each message, the newest first. Message-ID is the id in the queue,
 * by which queue actions name the message. Dates are absolute, so that the
 * same queue has the same body whenever it is told.
 *
 * deferred-messages, application/vnd.oma.im.deferred-list+xml:
 *
 *     <history-list xmlns="urn:oma:xml:im:history-list"
 *             xmlns:cpm="urn:cpm-pf:notify:1" cpm:messages="4" cpm:new="3"
 *             cpm:old="1">
 *       <history cpm:conversation-id="..." cpm:contribution-id="..."
 *               cpm:state="held">
 *         <size>124</size>
 *         <expiry>2010-11-20T23:29:00.000Z</expiry>
 *         <subject>Lunch</subject>
 *         <date>2010-11-13T23:29:00.000Z</date>
 *         <history-reference>Abc123</history-reference>
 *         <pager>
 *           <time-stamp>2010-11-13T23:29:00.000Z</time-stamp>
 *           <from>sip:alice@example.org</from>
 *           <to>sip:bob@example.org</to>
 *         </pager>
 *       </history>
 *     </history-list>
 *
 * The format has no place for totals: they are attributes of a namespace of
 * our own, which a reader of the format passes over.
 */

#ifndef CPM_NOTIFY_H
#define CPM_NOTIFY_H

#include "cpm_decide.h"
#include "cpm_queue.h"

enum cpm_notify_type
{
	CPM_NOTIFY_SUMMARY, /* message-summary */
	CPM_NOTIFY_HISTORY, /* deferred-messages */
};

/* "message-summary", "deferred-messages"; and back (CPM_EPROTO). */
const char *cpm_notify_event(enum cpm_notify_type type);
int cpm_notify_event_parse(struct cpm_pl event, enum cpm_notify_type *type_r);

/* "application/simple-message-summary", ... */
const char *cpm_notify_content_type(enum cpm_notify_type type);

/* What is told of each message, by the provider's notify_fields. */
enum cpm_notify_field
{
	CPM_NOTIFY_FROM = 1,
	CPM_NOTIFY_TO = 2,
	CPM_NOTIFY_SUBJECT = 4,
	CPM_NOTIFY_DATE = 8, /* and when it expires */
	CPM_NOTIFY_SIZE = 16,
	CPM_NOTIFY_ID = 32,			  /* always */
	CPM_NOTIFY_CONVERSATION = 64, /* and contribution */
	CPM_NOTIFY_ALL = 127,
};

/* A list "from,to,subject,date,size,id,conversation", with spaces or not.
 * Empty: all. A word that is none of these names nothing. */
unsigned cpm_notify_fields(struct cpm_pl list);

/* At most this much of a Subject, an address, a Conversation-ID or a
 * Contribution-ID, in bytes and before XML's escapes; a Subject is cut where a
 * character ends, an address that is longer is left out. */
#define CPM_NOTIFY_SUBJECT_MAX 120
#define CPM_NOTIFY_ADDRESS_MAX 256
#define CPM_NOTIFY_CONVERSATION_MAX 128

/* Any body without blocks is shorter than this. */
#define CPM_NOTIFY_HEAD_MAX (CPM_AOR_MAX + 256)

struct cpm_notify
{
	enum cpm_notify_type type;
	struct cpm_pl aor;					/* whose queue it is */
	const struct cpm_queue_stat *stat;	/* sums of the whole queue */
	const struct cpm_queue_item *items; /* newest first; perhaps not all */
	size_t count;
	unsigned fields;  /* enum cpm_notify_field, or'ed */
	size_t max_bytes; /* of the body; at least CPM_NOTIFY_HEAD_MAX counts */
};

/* Writes the body. The sums are always there and right; as many blocks as
 * there is room for, left out from the oldest on. A message whose block does
 * not fit is told by id, date and size alone, if that does.
 * *told_r: how many blocks (may be NULL). CPM_OK; CPM_ENOMEM: not even the
 * sums fit into w. */
int cpm_notify_write(
		const struct cpm_notify *n, struct cpm_wr *w, size_t *told_r);

/* Whether a client is to be told of the queue: its connection is not known to
 * be lost, and no rule of the user keeps all messages from this client. Such a
 * rule names the device and, beside the time, nothing else, its action is
 * other than deliver or queue (check back), and no rule before it delivers
 * anything to it. Whether it takes NOTIFY is the caller's to ask. */
bool cpm_client_notified(const struct cpm_prefs *prefs,
		const struct cpm_client *client, uint64_t now_s);

#endif
