/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_prefs.h - preferences of a user and policies of the provider.
 *
 * runs in:  anything; pure functions
 * owns:     nothing
 *
 * Rows of SQL (tables cpm_user, cpm_rule, cpm_policy) are compiled, each with
 * its own diagnosis, into one flat block per user, that can lie in shared
 * memory and be read in place: no pointer is stored in it.
 *
 *     struct cpm_prefs_head, rules (struct cpm_rule_flat, by priority), texts
 */

#ifndef CPM_PREFS_H
#define CPM_PREFS_H

#include "cpm_base.h"
#include "cpm_caps.h"
#include "cpm_wr.h"

#define CPM_RULES_MAX 256 /* of one user */
#define CPM_PATTERN_MAX 256
#define CPM_CLASS_MAX 64 /* service_class */

/* Names of capabilities in deliver_max_size: msg, largemsg, deferred, session,
 * session.group, filetransfer, systemmsg, sip-im, pager-large. */

enum cpm_when_offline
{
	CPM_OFFLINE_DEFER,
	CPM_OFFLINE_STORE,
	CPM_OFFLINE_REJECT,
	CPM_OFFLINE_INTERWORK,
	CPM_OFFLINE_DISCARD,
};

enum cpm_queue_mode
{
	CPM_QUEUE_PUSH,
	CPM_QUEUE_NOTIFY,
};

enum cpm_on_expiry
{
	CPM_EXPIRY_DELETE,
	CPM_EXPIRY_STORE,
};

enum cpm_action
{
	CPM_ACTION_DELIVER,
	CPM_ACTION_REJECT,
	CPM_ACTION_INTERWORK,
	CPM_ACTION_STORE,
	CPM_ACTION_QUEUE, /* check back with the user */
	CPM_ACTION_DEFER,
};

enum cpm_kind
{
	CPM_KIND_ANY,
	CPM_KIND_PAGER,
	CPM_KIND_LARGE,
};

enum cpm_originator
{
	CPM_ORIG_ANY,		/* empty */
	CPM_ORIG_EXACT,		/* sip:alice@example.org: a canonical AoR */
	CPM_ORIG_DOMAIN,	/* *@example.org */
	CPM_ORIG_PREFIX,	/* tel:+44* or sip:a* */
	CPM_ORIG_ANONYMOUS, /* anonymous: whoever hides who it is */
};

/* One rule, compiled. All conditions must hold; an empty one holds always. */
struct cpm_rule
{
	int64_t id; /* of the row, for logs */
	int32_t priority;
	enum cpm_originator orig_kind;
	struct cpm_pl originator; /* without the '*' */
	struct cpm_pl type;		  /* "text/plain", lower case; "text/": text/ *;
								 empty: any */
	enum cpm_kind kind;
	uint64_t min_size;	   /* bytes; 0: none */
	uint64_t max_size;	   /* 0: none */
	struct cpm_pl device;  /* +sip.instance or pub-gruu; empty: any, and then
							 the rule speaks of the message */
	uint64_t valid_from_s; /* 1970; 0: none */
	uint64_t valid_until_s;
	enum cpm_action action;
};

/* A row of cpm_rule as text; NULL or "" where the column is empty. */
struct cpm_rule_row
{
	int64_t id;
	int64_t priority;
	const char *originator;
	const char *content_type;
	const char *message_kind;
	int64_t min_size;
	int64_t max_size;
	const char *device;
	int64_t valid_from; /* unix time; 0: none */
	int64_t valid_until;
	const char *action;
};

/* scratch: room for the texts of the rule (3 * CPM_PATTERN_MAX is enough);
 * the rule's slices point there.
 * CPM_OK; CPM_EPROTO and diag->why names the column: "originator",
 * "content_type", "message_kind", "min_size", "max_size", "device",
 * "valid_from", "valid_until", "action", "priority"; CPM_ENOMEM:
 * "small-buffer". diag may be NULL. */
int cpm_rule_compile(const struct cpm_rule_row *row, char *scratch, size_t cap,
		struct cpm_rule *rule_r, struct cpm_diag *diag);

/* A row of cpm_user as text. */
struct cpm_user_row
{
	bool enabled;
	const char *service_class;
	const char *when_offline; /* "": defer */
	const char *queue_mode;	  /* "": push */
	const char *on_expiry;	  /* "": delete */
	bool record_copy;
};

struct cpm_prefs
{
	bool known; /* false: there is no such user, all else is unset */
	bool enabled;
	enum cpm_when_offline when_offline;
	enum cpm_queue_mode queue_mode;
	enum cpm_on_expiry on_expiry;
	bool record_copy;
	struct cpm_pl service_class;
	size_t rule_count;
	struct cpm_pl block; /* for cpm_prefs_rule */
};

/* CPM_OK; CPM_EPROTO and diag->why names the column. service_class of the
 * result borrows from the row; rule_count 0, block empty. */
int cpm_user_compile(const struct cpm_user_row *row, struct cpm_prefs *prefs_r,
		struct cpm_diag *diag);

/* What a user has of whom there is no row, where no database is configured:
 * known, enabled, defers, pushes. */
struct cpm_prefs cpm_prefs_default(void);

/* The flat block, behind what w holds already. rules are sorted by priority,
 * then id, on the way. CPM_OK; CPM_ELIMIT: more than CPM_RULES_MAX, or a text
 * longer than CPM_PATTERN_MAX or CPM_CLASS_MAX; CPM_ENOMEM: w is full. */
size_t cpm_prefs_encoded_max(const struct cpm_rule *rules, size_t rule_count,
		const struct cpm_prefs *prefs);
int cpm_prefs_encode(const struct cpm_prefs *prefs, struct cpm_rule *rules,
		size_t rule_count, struct cpm_wr *w);

/* Reads a block in place: the slice must be just the block, at any address,
 * and all rules in it are checked. CPM_OK; CPM_EPROTO. */
int cpm_prefs_decode(struct cpm_pl block, struct cpm_prefs *prefs_r);

/* i < rule_count, in the order in which they are tried. CPM_OK; CPM_EPROTO. */
int cpm_prefs_rule(
		const struct cpm_prefs *prefs, size_t i, struct cpm_rule *rule_r);

/* ---------------------------------------------------------- policies */

#define CPM_TYPES_MAX 512

/* The provider's, by service class. 0 and empty: no limit. */
struct cpm_policy
{
	uint64_t max_size;
	bool allow_anonymous;
	bool allow_send;
	bool require_ids; /* Conversation-ID and Contribution-ID are asked for */
	uint64_t queue_max_messages; /* 0: the module's parameter */
	uint64_t queue_max_bytes;
	uint64_t max_expires_s; /* 0: the module's parameter */
	/* column deliver_max_size, "msg=1300,largemsg=1048576,*=8000": how much
	 * a client takes, by its capabilities; a plain number is "*=number" */
	struct
	{
		unsigned cap;	/* one CPM_CAP_*; 0: "*", every client */
		uint64_t bytes; /* 0: no limit */
	} deliver_max[10];
	size_t deliver_max_count;
	char accept_types[CPM_TYPES_MAX]; /* "text/plain, message/cpim, image/ *";
										 "": all */
	char notify_fields[128];
};

/* For a service class without a row: allows all. */
struct cpm_policy cpm_policy_default(void);

/* A row of cpm_policy as text; NULL or "" where the column is empty. */
struct cpm_policy_row
{
	int64_t max_size;
	const char *accept_types;
	bool allow_anonymous;
	bool allow_send;
	bool require_ids;
	int64_t queue_max_messages;
	int64_t queue_max_bytes;
	int64_t max_expires;
	const char *deliver_max_size;
	const char *notify_fields;
};

/* CPM_OK; CPM_EPROTO and diag->why names the column. */
int cpm_policy_compile(const struct cpm_policy_row *row,
		struct cpm_policy *policy_r, struct cpm_diag *diag);

/* How many bytes a client with these capabilities (enum cpm_cap, or'ed) takes
 * by MESSAGE: the largest limit of the capabilities it has; if it has none of
 * those that are listed, that of "*"; UINT64_MAX: no limit. */
uint64_t cpm_policy_client_max(const struct cpm_policy *policy, unsigned caps);

/* Whether a Content-Type is in a list of accepted types (which may have
 * "type/ *" and "* / *"); an empty list takes all, and "* / *" takes even what
 * is no Content-Type. Items that are broken are passed over; parameters, on
 * either side, count for nothing. */
bool cpm_types_accept(struct cpm_pl list, struct cpm_pl content_type);

/* Whether the text is such a list, without parameters and without empty
 * items: CPM_OK, CPM_EPROTO. */
int cpm_types_check(struct cpm_pl list);

#endif
