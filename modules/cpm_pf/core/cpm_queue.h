/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_queue.h - the queue in Redis: key names, scripts as data, result shapes.
 *
 * runs in:  anything; pure data and functions
 * owns:     nothing
 * never:    talks to Redis (io_queue does, with what is defined here)
 *
 * All that belongs to one user lives in one of CPM_QUEUE_SHARDS shards, and a
 * shard is one Redis Cluster slot, because its number is the keys' hash tag.
 * So a user's queue and the index that lists it change in one atomic script,
 * on one server and on a cluster alike.
 *
 *   <prefix>:{k}:q:<aor>       LIST  "<seq> <expires_ms> <sender> <id>", in
 *                                    order of arrival; seq grows, about the
 *                                    arrival in ms; expires_ms 0: never;
 *                                    sender: a hash of it, -: unknown
 *   <prefix>:{k}:m:<aor>       HASH  <id>     the blob (cpm_msg.h)
 *                                    " b"     "<bytes> <soonest expiry>", of
 *                                    a queue that is not very short
 *                                    " s<id>" state, only once it is not new:
 *                                    "<S> <attempts> <due> <deadline> <token>
 *                                    <class> <error>"
 *   <prefix>:{k}:l:<aor>       STRING token of the one delivery under way,
 *                                    gone by itself at its deadline
 *   <prefix>:{k}:d:<aor>:<id>  STRING fingerprint of a message that was
 *                                    removed: its late retransmission is known
 *   <prefix>:{k}:users         ZSET  users with a queue, by name
 *   <prefix>:{k}:wake          ZSET  the same users by when next to look: the
 *                                    soonest of retry, lease end, expiry, check
 *   <prefix>:{k}:dead          ZSET  "<aor> <id>" by name
 *   <prefix>:{k}:expired       LIST  "<aor>\n<why>\n<id>\n<blob>" taken out, to
 *                                    be reported
 *   <prefix>:{k}:sum           HASH  n, b: messages and bytes of the shard;
 *                                    j<kind>: its jobs of that kind;
 *                                    rt, ru: who reports the expired, till when;
 *                                    f<aor>: a flush, see lua/flush.lua
 *   <prefix>:{k}:jobs          ZSET  "<kind> <aor> <id>" by when it is due:
 *                                    of a leased one, when its lease ends; of
 *                                    a dead one, the year 9999
 *   <prefix>:{k}:job           HASH  the same -> "<attempts> <token> <error>",
 *                                    a line feed, and the blob; token -: not
 *                                    leased, !: dead, +<token>: leased, and
 *                                    it got another blob meanwhile
 *                                    " n<node>" the boot of that node that
 *                                    holds leases, " c<kinds>" where a long
 *                                    search for such jobs goes on
 *
 * State S: Q queued, L leased, H held, D dead; q, h, d: taken by its user's own
 * retrieval, and Q, H, D again when that ends. A lease whose deadline passed
 * reads as what it was before. Times are ms of Redis' own clock, the one clock
 * that all nodes share, but expires_ms, which is the sender's.
 */

#ifndef CPM_QUEUE_H
#define CPM_QUEUE_H

#include "cpm_aor.h"
#include "cpm_base.h"
#include "cpm_msg.h"

#define CPM_QUEUE_SHARDS 64
#define CPM_QUEUE_PREFIX_MAX 32
#define CPM_QUEUE_TOKEN_MAX 64
#define CPM_QUEUE_ERROR_MAX 64

enum cpm_script
{
	CPM_SCRIPT_PUT,
	CPM_SCRIPT_LEASE,
	CPM_SCRIPT_RENEW,
	CPM_SCRIPT_SETTLE,
	CPM_SCRIPT_RELEASE,
	CPM_SCRIPT_CLAIM,
	CPM_SCRIPT_STAT,
	CPM_SCRIPT_LIST,
	CPM_SCRIPT_GET,
	CPM_SCRIPT_EXTEND,
	CPM_SCRIPT_TURN,
	CPM_SCRIPT_DISCARD,
	CPM_SCRIPT_PURGE,
	CPM_SCRIPT_REPORTED,
	CPM_SCRIPT_JOBS,
	CPM_SCRIPT_TAKE,
	CPM_SCRIPT_JOB,
	CPM_SCRIPT_JOB_LEASE,
	CPM_SCRIPT_SUBS,	 /* cpm_subs.h */
	CPM_SCRIPT_CONTACTS, /* cpm_reginfo.h */
	CPM_SCRIPT_FLUSH,
	CPM_SCRIPT_COUNT_
};

/* Name for logs and the Lua text (arguments and replies: head of each file
 * in core/lua). NUL-terminated. */
const char *cpm_script_name(enum cpm_script s);
const char *cpm_script_text(enum cpm_script s);

/* Keys of one user, in the order in which every script takes them. */
enum cpm_queue_key
{
	CPM_KEY_Q,
	CPM_KEY_M,
	CPM_KEY_LOCK,
	CPM_KEY_USERS,
	CPM_KEY_WAKE,
	CPM_KEY_DEAD,
	CPM_KEY_EXPIRED,
	CPM_KEY_SUM,
	CPM_KEY_JOBS,
	CPM_KEY_JOB,
	CPM_KEY_TOMB, /* of one message; only where an id is given */
	CPM_KEY_COUNT_
};

struct cpm_queue_keys
{
	struct cpm_pl key[CPM_KEY_COUNT_];
	size_t count; /* 10, or 11 with an id */
	char buf[CPM_KEY_COUNT_ * (CPM_QUEUE_PREFIX_MAX + CPM_AOR_MAX + 24)
			 + CPM_MSG_ID_MAX];
};

unsigned cpm_queue_shard(struct cpm_pl aor);

/* id may be empty. CPM_OK; CPM_ELIMIT: prefix, aor or id over its bound. The
 * struct must not be moved afterwards (key points into buf). */
int cpm_queue_keys_init(struct cpm_queue_keys *k, struct cpm_pl prefix,
		struct cpm_pl aor, struct cpm_pl id);

/* The same for a script or command that speaks of a shard and of no user: of
 * the keys, USERS, WAKE, DEAD, EXPIRED, SUM, JOBS and JOB are good. CPM_OK; CPM_ELIMIT:
 * prefix or shard over its bound. */
int cpm_queue_keys_shard(
		struct cpm_queue_keys *k, struct cpm_pl prefix, unsigned shard);

/* ------------------------------------------------------------- put */

enum cpm_put_status
{
	CPM_PUT_QUEUED,		   /* written */
	CPM_PUT_DUPLICATE,	   /* the very same message is in the queue */
	CPM_PUT_GONE,		   /* the very same message was delivered lately */
	CPM_PUT_CONFLICT,	   /* another message has this id: choose another */
	CPM_PUT_FULL_MESSAGES, /* quota; nothing written */
	CPM_PUT_FULL_BYTES,
	CPM_PUT_FULL_SENDER, /* this sender's share of it */
};

struct cpm_put
{
	struct cpm_pl aor;
	struct cpm_pl id;
	struct cpm_pl blob;
	struct cpm_pl sender;	 /* canonical AoR; empty: unknown, or anonymous */
	uint64_t expires_ms;	 /* 0: never */
	uint64_t max_messages;	 /* 0: no quota */
	uint64_t max_bytes;		 /* 0: no quota */
	uint64_t max_per_sender; /* 0: no share */
	bool drop_oldest;		 /* when full, the oldest make room */
	uint64_t check_in_ms; /* look at this queue again then, whatever happens */
	bool deferred; /* not for the clients of now: for the next that registers */
	unsigned jobs; /* set of enum cpm_job_kind: left with it, if it is QUEUED */
};

struct cpm_put_result
{
	enum cpm_put_status status;
	uint64_t messages; /* in the queue after it */
	uint64_t bytes;
	uint64_t dropped; /* that made room for it */
};

/* What stands for a sender in the queue, for its share: 8 hexadecimal digits,
 * or "-" for an empty one. Two senders may have the same, once in four
 * billions. buf: CPM_SENDER_TAG_LEN bytes. */
#define CPM_SENDER_TAG_LEN 16
struct cpm_pl cpm_queue_sender_tag(struct cpm_pl sender, char *buf);

/* ----------------------------------------------------------- lease */

/* A delivery's token: visible ASCII, at most CPM_QUEUE_TOKEN_MAX, of this
 * delivery alone. Where it is "<node>.<boot>.<rest>", the first two in
 * hexadecimal, a node that starts again need not wait for the leases that it
 * had when it was killed: another boot of the same node holds nothing. */

#define CPM_LEASE_MAX 32 /* messages in one call */

/* What to do about a message that waits for its retry time. */
enum cpm_lease_force
{
	CPM_LEASE_WHEN_DUE,	   /* wait */
	CPM_LEASE_UNREACHABLE, /* take it if its client could not be reached */
	CPM_LEASE_ALL,		   /* take it */
};

enum cpm_lease_status
{
	CPM_LEASE_OK,	 /* a message was leased */
	CPM_LEASE_EMPTY, /* nothing is queued for this user */
	CPM_LEASE_NONE,	 /* nothing that may be sent: held or dead only */
	CPM_LEASE_WAIT,	 /* the first waits for its retry time, in wait_ms */
	CPM_LEASE_BUSY,	 /* another delivery has the lock, for wait_ms more */
};

struct cpm_lease
{
	enum cpm_lease_status status;
	uint64_t wait_ms;
	uint64_t seq;		/* of msg: cursor for more */
	unsigned attempt;	/* 1 at the first delivery */
	struct cpm_msg msg; /* borrowed from the store's reply */
};

/* What to lease: several at once, in order. */
struct cpm_lease_ask
{
	struct cpm_pl aor;
	struct cpm_pl token;
	uint64_t lease_ms;
	enum cpm_lease_force force;
	uint64_t age_ms;
	size_t max_messages; /* 1..CPM_LEASE_MAX */
	uint64_t max_bytes;	 /* of blobs; the first counts whatever its size */
	uint64_t after;		 /* only what came after this seq; 0: all */
};

/* ---------------------------------------------------------- settle */

enum cpm_settle_how
{
	CPM_SETTLE_DELIVERED, /* the client took it: remove */
	CPM_SETTLE_RETRY,	  /* queued again, due in retry_in_ms */
	CPM_SETTLE_DEAD,	  /* give up, keep it visible */
	CPM_SETTLE_DEFER,	  /* no client of now is to have it: no attempt */
	CPM_SETTLE_UNSENT,	  /* nothing was sent: as if it had not been leased */
};

/* Why a delivery failed, which decides who waits for the retry. */
enum cpm_fail_class
{
	CPM_FAIL_UNREACHABLE = 'u', /* nobody there: all wait; a sign of life ends
								   the wait */
	CPM_FAIL_REFUSED = 'r',		/* the client wants nothing now: all wait */
	CPM_FAIL_MESSAGE = 'm',		/* this message only; others pass it */
	CPM_FAIL_DEFERRED = 'd',	/* no failure: it waits for another client;
								   others pass it */
};

struct cpm_settle
{
	struct cpm_pl aor;
	struct cpm_pl id;
	struct cpm_pl token;
	enum cpm_settle_how how;
	enum cpm_fail_class fail_class; /* RETRY and DEAD */
	struct cpm_pl error;			/* stable words, e.g. "486" */
	uint64_t retry_in_ms;
	uint64_t dedup_ms; /* DELIVERED: know retransmissions for so long */
	unsigned jobs;	   /* DEAD: set of enum cpm_job_kind that are left */
};

/* ------------------------------------------------------------ take */

/* What a user's own retrieval leases: messages by id, or all behind a seq,
 * whatever their state; with neither only the delivery lock. */
struct cpm_take
{
	struct cpm_pl aor;
	struct cpm_pl token; /* as of a lease */
	uint64_t lease_ms;
	const struct cpm_pl *ids;
	size_t count; /* of ids, at most CPM_LEASE_MAX */
	bool all;
	uint64_t after;		 /* all: only what came after this seq */
	size_t max_messages; /* all: 1..CPM_LEASE_MAX; ids: 0: as many as ids */
	uint64_t max_bytes;	 /* of blobs; the first counts whatever its size */
};

enum cpm_taken_what
{
	CPM_TAKEN_OK,	 /* leased: msg is filled */
	CPM_TAKEN_GONE,	 /* there is none; or it has expired, or cannot be read */
	CPM_TAKEN_BUSY,	 /* on its way to a client */
	CPM_TAKEN_LATER, /* not leased: over max_messages or max_bytes */
};

struct cpm_taken
{
	enum cpm_taken_what what;
	uint64_t seq;		/* 0: unknown */
	unsigned attempt;	/* this one would be; a retrieval is not counted */
	struct cpm_msg msg; /* borrowed from the store's reply */
};

/* ----------------------------------------------------------- flush */

/* How a user's queue is to be emptied that somebody asked to be flushed. */
enum cpm_flush
{
	CPM_FLUSH_NONE = 0,		/* nobody asked */
	CPM_FLUSH_AUTO = 'a',	/* by the user's queue_mode */
	CPM_FLUSH_PUSH = 'p',	/* deliver, whatever it is */
	CPM_FLUSH_NOTIFY = 'n', /* notify, whatever it is */
};

/* "auto", "push", "notify"; empty is auto. CPM_EPROTO: none of them. */
int cpm_flush_parse(struct cpm_pl word, enum cpm_flush *flush_r);

/* ------------------------------------------------------------ read */

enum cpm_state
{
	CPM_STATE_QUEUED = 'Q',
	CPM_STATE_LEASED = 'L',
	CPM_STATE_HELD = 'H',
	CPM_STATE_DEAD = 'D',
};

/* A message that has left its queue without being delivered. */
enum cpm_left_why
{
	CPM_LEFT_EXPIRED = 'e',
	CPM_LEFT_OVERFLOW = 'o', /* it made room for a newer one */
};

/* ------------------------------------------------------------ jobs */

/* What outlives a message, or goes beside it: something that another server is
 * to be told. Single bits, so that a set of kinds is their OR. */
enum cpm_job_kind
{
	CPM_JOB_NONE = 0,
	CPM_JOB_STORE = 1,	   /* s: into the Message Storage Server */
	CPM_JOB_INTERWORK = 2, /* i: to the interworking function */
	CPM_JOB_STORED = 4,	   /* q: tell the sender that it is <stored/> */
	CPM_JOB_FAILED = 8,	   /* f: tell the sender that it <failed/> */
	CPM_JOB_PUSH = 16,	   /* p: to the Push Enabler; of a user: id is "-" */
};

#define CPM_JOB_KINDS 5
#define CPM_JOB_ALL ((1u << CPM_JOB_KINDS) - 1)

/* The id of a job that is of a user and of no message. */
#define CPM_JOB_OF_USER "-"

enum cpm_job_state
{
	CPM_JOB_WAITING, /* until due_ms */
	CPM_JOB_LEASED,	 /* somebody does it, until due_ms at the latest */
	CPM_JOB_DEAD,	 /* given up: stays to be seen, and to be queued again */
};

struct cpm_job
{
	enum cpm_job_kind kind;
	enum cpm_job_state state;
	struct cpm_pl name; /* "<aor> <id>" */
	struct cpm_pl aor;
	struct cpm_pl id;
	uint64_t due_ms; /* of a dead one far away: good for a cursor only */
	unsigned attempts;
	struct cpm_pl last_error; /* empty: none */
	struct cpm_pl blob;		  /* empty where jobs are listed */
};

/* What became of a leased job. */
enum cpm_job_how
{
	CPM_JOB_DONE,	 /* removed */
	CPM_JOB_RETRY,	 /* due again in retry_in_ms */
	CPM_JOB_GIVE_UP, /* dead, with its error */
};

/* "store", "interwork", "stored", "failed", "push"; "?" for what is none. */
const char *cpm_job_kind_name(enum cpm_job_kind kind);

/* In names of jobs; '-' for what is none, and CPM_JOB_NONE back. */
char cpm_job_letter(enum cpm_job_kind kind);
enum cpm_job_kind cpm_job_of_letter(char letter);

/* The letters of a set, or "-" for an empty one. buf: CPM_JOB_KINDS bytes. */
struct cpm_pl cpm_job_letters(unsigned kinds, char *buf);

/* "waiting", "leased", "dead". */
const char *cpm_job_state_name(enum cpm_job_state s);

/* ------------------------------------------------------- in words */

/* "queued", "leased", "held", "dead"; and back (CPM_EPROTO). */
const char *cpm_state_name(enum cpm_state s);
int cpm_state_parse(struct cpm_pl name, enum cpm_state *s_r);

/* One user's queue, without what has expired. */
struct cpm_queue_stat
{
	uint64_t messages;
	uint64_t bytes;
	uint64_t oldest_ms;
	uint64_t newest_ms;
	uint64_t queued, leased, held, dead; /* their sum is messages */
};

/* One message of a list. */
struct cpm_queue_item
{
	uint64_t seq; /* cursor: ask for what comes behind it */
	enum cpm_state state;
	unsigned attempts;
	uint64_t next_attempt_ms; /* 0: none is planned by time */
	struct cpm_pl last_error; /* empty: none */
	struct cpm_msg msg;
};

#endif
