/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_reginfo.h - registration events (RFC 3680): what a document says, what
 * follows for a subscription (RFC 6665), and how both are stored.
 *
 * runs in:  anything; pure functions
 * owns:     nothing; slices borrow
 * never:    reads XML (io_reginfo does)
 *
 * A registrar tells in full or in part who is registered. What becomes of what
 * is known by then is decided where it is stored, in one step, so that two
 * nodes that get two documents agree (lua/contacts.lua):
 *
 *   full     replaces all that is known of a user, unless its version is not
 *            newer. Version 0 always is: some registrars do not count
 *   partial  changes the contacts that it lists. Not newer: passed over; newer
 *            by more than one: taken, and the full state is asked for
 *   a contact that is terminated, or whose time is over, is forgotten
 *
 * Keys of a user, in the user's shard k:
 *
 *   <prefix>:{k}:c:<aor>   HASH  "c<hash of the URI>" -> "<expires> <signature>
 *                                \n<record>": a contact; "d": the dialog of
 *                                our own subscription; "f": the last document
 *                                of somebody else's
 *   <prefix>:{k}:regs      ZSET  users with a subscription of ours, by when
 *                                next to do something for it
 *
 * Times are ms of Redis' clock. signature: hash of Call-ID and CSeq of the
 * contact's REGISTER, by which the same news told twice is told from new news.
 */

#ifndef CPM_REGINFO_H
#define CPM_REGINFO_H

#include "cpm_base.h"
#include "cpm_queue.h"
#include "cpm_wr.h"

#define CPM_REGINFO_NS "urn:ietf:params:xml:ns:reginfo"
#define CPM_REGINFO_TYPE "application/reginfo+xml"

/* Bounds of a document; more is refused, or left out where it says so. */
#define CPM_REGINFO_BYTES_MAX 131072
#define CPM_REGINFO_DEPTH_MAX 16
#define CPM_REGINFO_REGISTRATIONS_MAX 32
#define CPM_REGINFO_CONTACTS_MAX 128 /* of all registrations */
#define CPM_REGINFO_PARAMS_MAX 1024	 /* a contact's feature tags */
#define CPM_REGINFO_URI_MAX 512		 /* also a Path, a Call-ID */
#define CPM_REGINFO_EXPIRES_MAX_S 31536000

#define CPM_REG_USER_CONTACTS 16 /* of one user, the latest to expire */
#define CPM_REG_RECORD_MAX (5 * CPM_REGINFO_URI_MAX + CPM_REGINFO_PARAMS_MAX)
#define CPM_REG_KEY_LEN 16

enum cpm_reg_state
{
	CPM_REG_INIT, /* of a registration: nobody has registered yet */
	CPM_REG_ACTIVE,
	CPM_REG_TERMINATED,
};

/* What brought a contact where it is. */
enum cpm_reg_event
{
	CPM_REG_EV_OTHER, /* none that we know */
	CPM_REG_EV_REGISTERED,
	CPM_REG_EV_CREATED,
	CPM_REG_EV_REFRESHED,
	CPM_REG_EV_SHORTENED,
	CPM_REG_EV_EXPIRED,
	CPM_REG_EV_DEACTIVATED,
	CPM_REG_EV_PROBATION,
	CPM_REG_EV_UNREGISTERED,
	CPM_REG_EV_REJECTED,
};

struct cpm_reg_contact
{
	enum cpm_reg_state state;
	enum cpm_reg_event event;
	bool has_expires;
	uint32_t expires_s;
	int q; /* 0..1000; -1: none */
	uint32_t cseq;
	struct cpm_pl uri;
	struct cpm_pl call_id;	  /* of its REGISTER; may be empty, as all below */
	struct cpm_pl params;	  /* feature tags, as in a Contact, no ';' first */
	struct cpm_pl path;		  /* Kamailio's own attributes: Path, ... */
	struct cpm_pl received;	  /* ... where it registered from, ... */
	struct cpm_pl user_agent; /* ... and its User-Agent */
};

struct cpm_reg_registration
{
	struct cpm_pl aor; /* as written */
	enum cpm_reg_state state;
	const struct cpm_reg_contact *contacts;
	size_t count;
};

struct cpm_reginfo
{
	uint32_t version;
	bool full;
	const struct cpm_reg_registration *registrations;
	size_t count;
};

/* ---- words of a document. CPM_OK; CPM_EPROTO. */

int cpm_reg_registration_state(struct cpm_pl word, enum cpm_reg_state *s_r);
int cpm_reg_contact_state(struct cpm_pl word, enum cpm_reg_state *s_r);
enum cpm_reg_event cpm_reg_event_of(struct cpm_pl word);
/* "0.7", "1", "0.123"; -1: no such number */
int cpm_reg_q(struct cpm_pl word);

/* What an XML parser need not see: CPM_OK; CPM_EPROTO "no-xml", "bad-byte",
 * "doctype", "encoding"; CPM_ELIMIT "too-long". */
int cpm_reg_scan(struct cpm_pl xml, struct cpm_diag *diag);

/* Appends one unknown-param to a contact's feature tags: name, or name="value".
 * What could be taken for something else in a Contact is left out (false). */
bool cpm_reg_param_put(struct cpm_wr *w, struct cpm_pl name, struct cpm_pl v);

/* The value of a feature tag or parameter, without its quotes; p NULL: it is
 * not there. */
struct cpm_pl cpm_reg_param(struct cpm_pl params, struct cpm_pl name);

/* Whether a contact that gave these parameters takes a method; it does where
 * it gave none. */
bool cpm_reg_takes(struct cpm_pl params, struct cpm_pl method);

/* ---- stored */

/* Of a URI, CPM_REG_KEY_LEN hexadecimal digits in buf. */
struct cpm_pl cpm_reg_key(struct cpm_pl uri, char *buf);
uint64_t cpm_reg_signature(const struct cpm_reg_contact *c);

/* One line of text for each field. CPM_OK; CPM_EPROTO: there is no URI, or a
 * control character; CPM_ELIMIT. */
int cpm_reg_record_put(const struct cpm_reg_contact *c, struct cpm_wr *w);
/* State is active, event other, and there is no expires: those are not in it.
 * CPM_OK; CPM_EPROTO. */
int cpm_reg_record_read(struct cpm_pl text, struct cpm_reg_contact *c_r);

/* ---- the subscription (RFC 6665, 4.1) */

enum cpm_reg_next
{
	CPM_REG_NEXT_KEEP,	/* it goes on */
	CPM_REG_NEXT_ANEW,	/* subscribe anew, at once */
	CPM_REG_NEXT_RETRY, /* later: after_s, 0: as the module thinks */
	CPM_REG_NEXT_REST,	/* not for long */
};

struct cpm_reg_plan
{
	enum cpm_reg_next next;
	uint32_t after_s;
};

#define CPM_REG_REST_S 3600

/* What follows from the final answer to a SUBSCRIBE. in_dialog: it was a
 * refresh. retry_after_s: of that header; 0: there was none. */
struct cpm_reg_plan cpm_reg_answer(
		unsigned code, bool in_dialog, uint32_t retry_after_s);

struct cpm_reg_substate
{
	bool active; /* or pending; else terminated */
	bool has_expires;
	uint32_t expires_s;		  /* bounded to CPM_REGINFO_EXPIRES_MAX_S */
	struct cpm_reg_plan plan; /* of one that is terminated */
};

/* Subscription-State (RFC 6665, 8.2.3). CPM_OK; CPM_EPROTO. */
int cpm_reg_substate_parse(struct cpm_pl value, struct cpm_reg_substate *s_r);

/* Our tag of a dialog, of 16 random bytes in buf (CPM_REG_TAG_MAX). */
#define CPM_REG_TAG_HEAD "cpmr-"
#define CPM_REG_TAG_MAX 48
struct cpm_pl cpm_reg_tag(const unsigned char *random, char *buf);
bool cpm_reg_tag_is(struct cpm_pl tag);

/* --------------------------------------------------------------- keys */

enum cpm_reg_key_of
{
	CPM_REG_KEY_INDEX,
	CPM_REG_KEY_CONTACTS,
	CPM_REG_KEY_QUEUE,
	CPM_REG_KEY_COUNT_
};

struct cpm_reg_keys
{
	struct cpm_pl key[CPM_REG_KEY_COUNT_];
	char buf[CPM_REG_KEY_COUNT_ * (CPM_QUEUE_PREFIX_MAX + CPM_AOR_MAX + 24)];
};

/* CPM_OK; CPM_ELIMIT. Not to be moved afterwards. */
int cpm_reg_keys_init(
		struct cpm_reg_keys *k, struct cpm_pl prefix, struct cpm_pl aor);

/* Of a shard: all are its index. */
int cpm_reg_keys_shard(
		struct cpm_reg_keys *k, struct cpm_pl prefix, unsigned shard);

#endif
