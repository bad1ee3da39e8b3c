/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_flow.h - the story of a queued message, told once, over ports.
 *
 * runs in:  SIP workers (accept) and delivery workers (deliver)
 * owns:     no resource; a struct cpm_deliver is the caller's
 * never:    waits; every answer from outside comes in by a call
 *
 *   accept   a received MESSAGE becomes a queued message, or a refusal
 *   deliver  one user: lease the oldest, send it to one client, settle by its
 *            answer, the next one, until nothing is left or nobody takes it
 *
 * Ports are functions of ring 2 (or of a test). They report failures by
 * enum cpm_rc. Accepting takes the wall clock, for dates; delivering takes a
 * monotonic one, for deadlines.
 */

#ifndef CPM_FLOW_H
#define CPM_FLOW_H

#include "cpm_base.h"
#include "cpm_msg.h"
#include "cpm_queue.h"

/* ---------------------------------------------------------- accept */

struct cpm_accept_conf
{
	size_t message_max_bytes;
	uint64_t queue_max_messages;
	uint64_t queue_max_bytes;
	uint64_t queue_max_per_sender; /* 0: no share */
	bool drop_oldest;			   /* when full */
	uint64_t default_expires_s;
	uint64_t max_expires_s;
	uint64_t check_in_ms;
	unsigned queued_code;
	bool imdn; /* tell senders that ask for it that their message is queued */
	struct cpm_pl call_id_host;	  /* right side of the Call-IDs that we make */
	const struct cpm_pl *domains; /* home domains, lower case */
	size_t domain_count;		  /* 0: every domain is ours */
};

/* What a SIP worker read from the request. All borrowed; absent: empty. */
struct cpm_accept_in
{
	struct cpm_pl request_uri;
	struct cpm_pl from; /* name-addr or addr-spec, without tag */
	struct cpm_pl to;
	struct cpm_pl from_tag;
	struct cpm_pl call_id;
	struct cpm_pl cseq; /* the number */
	struct cpm_pl subject;
	struct cpm_pl content_type;
	struct cpm_pl content_encoding;
	struct cpm_pl date;
	struct cpm_pl expires;
	struct cpm_pl conversation_id;
	struct cpm_pl contribution_id;
	struct cpm_pl privacy;
	struct cpm_pl originator; /* canonical AoR; may be empty */
	bool anonymous;
	bool large;			   /* large mode */
	bool trusted_peer;	   /* its Referred-By names the sender */
	bool deferred;		   /* the recipient wants it later, or to be asked */
	struct cpm_pl headers; /* the lines to keep */
	struct cpm_pl aside;   /* the lines to put aside */
	struct cpm_pl body;
};

/* What the script sees: $rc, $cpm(code), $cpm(reason), $cpm(why), $cpm(id). */
struct cpm_outcome
{
	int rc;		   /* interfaces: 1 queued, 2 already, -1 refused, -2 down */
	unsigned code; /* SIP */
	const char *reason;		/* SIP reason phrase */
	const char *why;		/* stable word */
	unsigned retry_after_s; /* 0: no Retry-After */
	uint64_t messages;		/* in the queue, when known */
	uint64_t bytes;
	uint64_t dropped; /* that made room for it */
	char aor[CPM_AOR_MAX];
	size_t aor_len;
	char id[CPM_MSG_ID_MAX];
	size_t id_len;
};

struct cpm_accept_ports
{
	void *ctx;
	/* CPM_OK, CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO (the store said no) */
	int (*queue_put)(
			void *ctx, const struct cpm_put *put, struct cpm_put_result *r_r);
};

/* scratch: memory for the blob, at least cpm_accept_scratch(in) bytes.
 * Always fills *out. Returns out->rc. */
size_t cpm_accept_scratch(const struct cpm_accept_in *in);
int cpm_flow_accept(const struct cpm_accept_ports *ports,
		const struct cpm_accept_conf *conf, const struct cpm_accept_in *in,
		uint64_t now_ms, char *scratch, size_t scratch_cap,
		struct cpm_outcome *out);

/* --------------------------------------------------------- deliver */

#define CPM_CONTACTS_MAX 16 /* clients of one user that are considered */
#define CPM_RETRY_MAX 16

/* How a queued message is brought to a client. */
enum cpm_mode
{
	CPM_MODE_MESSAGE, /* pager mode: SIP MESSAGE, one by one */
	CPM_MODE_SESSION, /* INVITE and MSRP, all in one session */
};

/* The kinds of session (wire-facts: two kinds of clients are in the field). */
enum cpm_session
{
	CPM_SESSION_NONE,
	CPM_SESSION_STANDALONE, /* the original sender is in From */
	CPM_SESSION_CHAT,		/* the original sender is in Referred-By: one
							 * sender for each session */
};

/* A registered client. Borrowed from the port until its next reach_get. */
struct cpm_contact
{
	struct cpm_pl uri;
	struct cpm_pl received;	  /* where its REGISTER came from; may be empty */
	struct cpm_pl path;		  /* Path header value; may be empty */
	struct cpm_pl socket;	  /* ours that it registered on; may be empty */
	int q;					  /* 0..1000; -1: none given, as 1000 */
	bool takes_message;		  /* its methods allow MESSAGE, or it gave none */
	enum cpm_session session; /* it takes; needs INVITE among its methods */
	uint64_t last_modified_s;
	unsigned index; /* the caller's own: stays with the contact */
};

struct cpm_deliver_conf
{
	uint64_t lease_ms;
	uint64_t retry_ms[CPM_RETRY_MAX]; /* the last one repeats */
	size_t retry_count;				  /* at least 1 */
	unsigned max_attempts;
	uint64_t dedup_ms;
	uint64_t check_max_ms; /* without any event, look again after this */

	size_t session_window;		   /* messages on their way at once, at least 1,
									* at most CPM_PUSH_WINDOW */
	uint64_t session_window_bytes; /* and bytes of them */
	unsigned session_max_messages; /* in one session; 0: all */
	uint64_t invite_ms;			   /* a session that is not there by then */
};

enum cpm_deliver_event
{
	CPM_DELIVER_SENT,
	CPM_DELIVER_DELIVERED,
	CPM_DELIVER_RETRY,
	CPM_DELIVER_DEAD,
	CPM_DELIVER_LOST,	  /* somebody else has the message now */
	CPM_DELIVER_DEFERRED, /* for none of the clients of now */
};

/* What a port is told, for log, statistics and event routes. */
struct cpm_deliver_info
{
	enum cpm_deliver_event event;
	struct cpm_pl aor;
	struct cpm_pl id;
	unsigned attempt;
	unsigned code; /* SIP answer; 0: none */
	const char *why;
	enum cpm_mode mode;
	uint64_t received_ms; /* of the message, wall clock */
};

struct cpm_deliver_ports
{
	void *ctx;
	/* fills at most CPM_CONTACTS_MAX; CPM_OK, also with none */
	int (*reach_get)(void *ctx, struct cpm_pl aor, struct cpm_contact *contacts,
			size_t *count_r);
	/* Whether this client is to have this message: preferences, capabilities
	 * and policy (cpm_client_takes). 1 yes, 0 no, CPM_EDOWN: cannot be told
	 * now. NULL: every client. contact is one of the last reach_get. */
	int (*client_takes)(void *ctx, struct cpm_pl aor,
			const struct cpm_contact *contact, const struct cpm_msg *msg,
			enum cpm_mode mode);
	/* CPM_OK (see status), CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO */
	int (*queue_lease)(void *ctx, struct cpm_pl aor, struct cpm_pl token,
			uint64_t lease_ms, enum cpm_lease_force force, uint64_t age_ms,
			struct cpm_lease *lease_r);
	/* holds the lease for longer and reads its message again. CPM_OK;
	 * CPM_ENOENT: the lease is lost; EDOWN.. */
	int (*queue_renew)(void *ctx, struct cpm_pl aor, struct cpm_pl token,
			struct cpm_pl id, uint64_t lease_ms, struct cpm_lease *lease_r);
	/* CPM_OK; CPM_ENOENT: lost, nothing changed; EDOWN, EUNSURE: again later */
	int (*queue_settle)(void *ctx, const struct cpm_settle *settle);
	/* end of a delivery: give the lock back, look again in wake_in_ms */
	int (*queue_release)(void *ctx, struct cpm_pl aor, struct cpm_pl token,
			struct cpm_pl unsent_id, uint64_t wake_in_ms);
	/* CPM_OK: an answer will come by cpm_deliver_answer; else it could not
	 * be sent */
	int (*send_message)(void *ctx, const struct cpm_contact *contact,
			const struct cpm_msg *msg, unsigned attempt);
	void (*event)(void *ctx, const struct cpm_deliver_info *info);

	/* ---- sessions; all of them, or session_new NULL: no sessions */

	/* Memory for one, zeroed, as long as the delivery lives; NULL: there is
	 * none, or sessions are not possible now. */
	struct cpm_push *(*session_new)(void *ctx);
	/* INVITE. CPM_OK: cpm_deliver_invited will tell. contact is one of the
	 * last reach_get; msg is the first message, for its sender. */
	int (*session_invite)(void *ctx, const struct cpm_contact *contact,
			const struct cpm_msg *msg);
	/* Whether the client of the session is to have this one too: preferences,
	 * and what it said in its answer. As client_takes. */
	int (*session_takes)(
			void *ctx, struct cpm_pl aor, const struct cpm_msg *msg);
	/* Into the session. CPM_OK: cpm_deliver_session_event will tell;
	 * CPM_EAGAIN: no room now, CPM_SESSION_ROOM will tell; else: the session
	 * is lost. */
	int (*session_send)(void *ctx, uint32_t handle, const struct cpm_msg *msg);
	/* The end: BYE (or CANCEL), and its connection. Nothing more is told. */
	void (*session_end)(void *ctx);
	int (*queue_lease_many)(void *ctx, const struct cpm_lease_ask *ask,
			struct cpm_lease *leases_r, size_t *count_r);
	int (*queue_extend)(void *ctx, struct cpm_pl aor, struct cpm_pl token,
			uint64_t lease_ms, const struct cpm_pl *ids, size_t count,
			bool *lost_r);
	int (*queue_settle_many)(void *ctx, const struct cpm_settle *settles,
			size_t count, int *rcs_r);
};

#define CPM_DELIVER_TOKEN_MAX (CPM_QUEUE_TOKEN_MAX - 12)

enum cpm_deliver_state
{
	CPM_DELIVER_IDLE,
	CPM_DELIVER_LEASING,  /* the store did not answer; again at at_ms */
	CPM_DELIVER_RENEWING, /* the same, before the next client is tried */
	CPM_DELIVER_WAITING,  /* a request is out */
	CPM_DELIVER_SETTLING, /* the outcome is known, the store is not told yet */
	CPM_DELIVER_INVITING, /* an INVITE is out */
	CPM_DELIVER_SESSION,  /* in a session */
	CPM_DELIVER_FINISHED,
};

/* One delivery to one user. Zero it, then cpm_deliver_start. */
struct cpm_deliver
{
	enum cpm_deliver_state state;
	uint64_t at_ms; /* when cpm_deliver_tick wants to be called; 0: not */

	/* private */
	char aor[CPM_AOR_MAX];
	size_t aor_len;
	char token[CPM_QUEUE_TOKEN_MAX];
	size_t token_len;
	size_t token_given; /* of it, what cpm_deliver_start got */
	unsigned round;		/* looks that something asked for meanwhile */
	char id[CPM_MSG_ID_MAX];
	size_t id_len;
	enum cpm_lease_force force;
	uint64_t since_ms; /* when what forces it happened */
	unsigned attempt;
	uint64_t received_ms;
	/* hashes of contacts and modes, this message */
	uint64_t tried[2 * CPM_CONTACTS_MAX];
	size_t tried_count;
	char fail_class; /* enum cpm_fail_class that decides; 0: no failure yet */
	unsigned fail_code;
	enum cpm_settle_how how;
	bool unsure;			/* a settle was sent and its answer lost */
	bool locked;			/* the user's lock may be ours */
	uint64_t seq;			/* of the leased message */
	struct cpm_push *push;	/* its session; NULL: none */
	uint64_t inviting_hash; /* of the contact that is invited */
	bool again_in_session;	/* look at once: the message may join it */
	bool one_by_one;		/* this client takes one message in a session */
	bool again;				/* something happened meanwhile: look once more */
	enum cpm_lease_force again_force;
	uint64_t again_since_ms;
};

/* Classifies a final answer to a delivery. 2xx must not be asked. */
enum cpm_fail_class cpm_fail_classify(unsigned code);

/* Orders contacts by whom to try first: takes MESSAGE, q, most recent. */
void cpm_contacts_order(struct cpm_contact *contacts, size_t count);

/* since_ms: when what forces the delivery happened, now or before: what was
 * deferred after that is not forced. aor and token are copied; token at most CPM_DELIVER_TOKEN_MAX bytes. Calls ports; afterwards look at d->state. */
void cpm_deliver_start(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, struct cpm_pl aor,
		struct cpm_pl token, enum cpm_lease_force force, uint64_t since_ms,
		uint64_t now_ms);

/* A trigger for a user whose delivery is under way. */
void cpm_deliver_again(
		struct cpm_deliver *d, enum cpm_lease_force force, uint64_t since_ms);

/* The final answer to what was sent (408: none came). */
void cpm_deliver_answer(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, unsigned code, uint64_t now_ms);

/* The final answer to the INVITE: 2xx, and the session is there; 408: none
 * came. */
void cpm_deliver_invited(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, unsigned code, uint64_t now_ms);

enum cpm_session_event_kind
{
	CPM_SESSION_DONE,	/* handle: the client took it */
	CPM_SESSION_FAILED, /* handle, code (as of SIP: RFC 4975, 10): it did not */
	CPM_SESSION_DOWN,	/* the connection is lost, or never came; code */
	CPM_SESSION_HANGUP, /* the client's BYE */
	CPM_SESSION_ROOM,	/* session_send may be tried again */
};

struct cpm_session_event
{
	enum cpm_session_event_kind kind;
	uint32_t handle;
	unsigned code;
};

/* What happened in the session, in order, any number at once. */
void cpm_deliver_session_event(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf,
		const struct cpm_session_event *events, size_t count, uint64_t now_ms);

/* at_ms has come. */
void cpm_deliver_tick(struct cpm_deliver *d,
		const struct cpm_deliver_ports *ports,
		const struct cpm_deliver_conf *conf, uint64_t now_ms);

#endif
