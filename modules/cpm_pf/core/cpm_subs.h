/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_subs.h - subscriptions to the state of a queue (RFC 6665): what a
 * SUBSCRIBE asks for, and how a subscription is stored.
 *
 * runs in:  anything; pure functions
 * owns:     nothing; slices borrow
 *
 * The keys are in their user's shard, as those of the queue (cpm_queue.h):
 *
 *   <prefix>:{k}:s:<aor>   HASH  our tag of the dialog ->
 *                                "<expires> <cseq> <S> <hash> <rcseq> <born>
 *                                <held> <by>", and lines: dialog, way,
 *                                record
 *   <prefix>:{k}:subs      ZSET  users with subscriptions, by when next to
 *                                look: something is owed, or expires
 *
 * Times are ms of Redis' clock. cseq: of our last NOTIFY; S: what is owed, enum
 * cpm_subs_owed (or A: N, and the state has changed again while it is being
 * told); hash: of the state that was last sent; rcseq: CSeq of the last
 * SUBSCRIBE; held: until when somebody waits for the answer to a NOTIFY; by: on
 * which node, and start of it; dialog: "<Call-ID> <remote tag> <id of the
 * event>"; way: "<remote target> <received> <socket>", which a refresh may
 * change; record: cpm_subs_record, which stays.
 */

#ifndef CPM_SUBS_H
#define CPM_SUBS_H

#include "cpm_base.h"
#include "cpm_queue.h"
#include "cpm_wr.h"

#define CPM_SUBS_PER_USER 8 /* one more, and the oldest goes */
#define CPM_SUBS_TAKE_MAX (2 * CPM_SUBS_PER_USER)
#define CPM_SUBS_MIN_S 60 /* RFC 6665, 4.2.1.1: shorter is 423 */
#define CPM_SUBS_DEFAULT_S 3600
#define CPM_SUBS_TAG_MAX 48
#define CPM_SUBS_TAG_HEAD "cpms-"

/* Bounds of what a peer sends; more is refused. */
#define CPM_SUBS_ID_MAX 128		/* of an Event's id */
#define CPM_SUBS_EVENT_MAX 512	/* an Event header's value */
#define CPM_SUBS_CALLID_MAX 256 /* also a remote tag */
#define CPM_SUBS_URI_MAX 512
#define CPM_SUBS_ROUTES_MAX 2048
#define CPM_SUBS_RECORD_MAX \
	(CPM_SUBS_EVENT_MAX + 2 * CPM_SUBS_URI_MAX + CPM_SUBS_ROUTES_MAX + 64)

/* ------------------------------------------------------------ SUBSCRIBE */

/*  Event = event-type *( SEMI event-param )      (RFC 6665, 8.4)
 *  event-param = generic-param / ( "id" EQUAL token ) */
struct cpm_subs_event
{
	struct cpm_pl package; /* with its templates: "presence.winfo" */
	struct cpm_pl id;	   /* empty: none */
};

/* value: of the header. CPM_OK; CPM_EPROTO: none; CPM_ELIMIT: too long. */
int cpm_subs_event_parse(struct cpm_pl value, struct cpm_subs_event *e_r);

/* Whether an Accept header's value has a range that holds type ("a/b"), and
 * none that says q=0 of exactly that. */
bool cpm_subs_accepts(struct cpm_pl value, struct cpm_pl type);

/* The duration for an Expires header's value; a null slice (p NULL): there is
 * none. Larger than max_s becomes max_s, however large.
 * CPM_OK: 0, or CPM_SUBS_MIN_S.. ; CPM_ELIMIT: too short, say 423; CPM_EPROTO:
 * not a number. */
int cpm_subs_expires(struct cpm_pl value, uint32_t max_s, uint32_t *s_r);

/* Our tag of the dialog that an initial SUBSCRIBE makes: the same wherever and
 * whenever a retransmission of it arrives, and another for each SUBSCRIBE.
 * buf: CPM_SUBS_TAG_MAX. */
struct cpm_pl cpm_subs_tag(struct cpm_pl aor, struct cpm_pl call_id,
		struct cpm_pl remote_tag, struct cpm_pl cseq, char *buf);

/* Whether a tag is one of these. */
bool cpm_subs_tag_is(struct cpm_pl tag);

/* ------------------------------------------------------------- stored */

/* Of a dialog what no refresh changes. All without line feeds. */
struct cpm_subs_record
{
	struct cpm_pl event;  /* Event header's value, as the subscriber wrote it */
	struct cpm_pl local;  /* our URI: of the SUBSCRIBE's To */
	struct cpm_pl remote; /* the subscriber's: of its From */
	struct cpm_pl routes; /* Record-Route in its order; may be empty */
};

/* CPM_OK; CPM_EPROTO: a field is empty that may not be, or has a control
 * character; CPM_ELIMIT: longer than its bound. */
int cpm_subs_record_put(const struct cpm_subs_record *r, struct cpm_wr *w);
int cpm_subs_record_read(struct cpm_pl text, struct cpm_subs_record *r_r);

/* Three fields without space, "-" for none: dialog and way. CPM_OK; CPM_EPROTO:
 * a field with a space or a control character, or the first is empty;
 * CPM_ELIMIT. */
int cpm_subs_fields_put(struct cpm_pl a, struct cpm_pl b, struct cpm_pl c,
		size_t max, struct cpm_wr *w);
int cpm_subs_fields_read(struct cpm_pl text, struct cpm_pl *a_r,
		struct cpm_pl *b_r, struct cpm_pl *c_r);

enum cpm_subs_owed
{
	CPM_SUBS_IDLE = 'I',	/* it knows the state of now */
	CPM_SUBS_STATE = 'N',	/* the full state */
	CPM_SUBS_ENDED = 'X',	/* the last NOTIFY: ended by its client */
	CPM_SUBS_TIMEOUT = 'T', /* the same: expired */
	CPM_SUBS_DROPPED = 'D', /* the same: a newer one took its place */
};

/* What comes of the answer to a NOTIFY (RFC 6665, 4.2.2). */
enum cpm_subs_answer
{
	CPM_SUBS_TAKEN, /* 2xx */
	CPM_SUBS_KEPT,	/* it could not be told: again at the next change */
	CPM_SUBS_GONE,	/* the subscriber knows of no such subscription */
};
enum cpm_subs_answer cpm_subs_answer_of(unsigned code);

/* A dialog that is to be sent a NOTIFY. */
struct cpm_subs_due
{
	struct cpm_pl tag; /* ours */
	uint32_t cseq;
	enum cpm_subs_owed owed;
	uint64_t left_ms; /* until it expires */
	struct cpm_pl call_id;
	struct cpm_pl remote_tag;
	struct cpm_pl target;
	struct cpm_pl received; /* may be empty, as the next */
	struct cpm_pl socket;
	struct cpm_subs_record record;
};

/* "active;expires=590", "terminated;reason=timeout"... (RFC 6665, 8.2.3) */
void cpm_subs_state_put(const struct cpm_subs_due *d, struct cpm_wr *w);

/* Two message-summaries of one user as one (RFC 3842): the first, and of the
 * other the lines that count messages of other classes. Something waits if it
 * does in either. w is too small: see cpm_wr_ok. */
void cpm_subs_summary_merge(
		struct cpm_pl ours, struct cpm_pl other, struct cpm_wr *w);

/* --------------------------------------------------------------- keys */

enum cpm_subs_key
{
	CPM_SUBS_KEY_INDEX,
	CPM_SUBS_KEY_SUBS,
	CPM_SUBS_KEY_COUNT_
};

struct cpm_subs_keys
{
	struct cpm_pl key[CPM_SUBS_KEY_COUNT_];
	char buf[CPM_SUBS_KEY_COUNT_ * (CPM_QUEUE_PREFIX_MAX + 24) + CPM_AOR_MAX];
};

/* CPM_OK; CPM_ELIMIT. Not to be moved afterwards. */
int cpm_subs_keys_init(
		struct cpm_subs_keys *k, struct cpm_pl prefix, struct cpm_pl aor);

/* Of a shard: both are its index. */
int cpm_subs_keys_shard(
		struct cpm_subs_keys *k, struct cpm_pl prefix, unsigned shard);

#endif
