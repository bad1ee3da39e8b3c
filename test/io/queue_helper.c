/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "queue_helper.h"

#include <stdarg.h>

struct redis_helper server;
struct io_queue *q;
struct io_queue *q2;  /* another connection to the same queue */
struct io_redis *raw; /* looks at the keys themselves */

void begin(void)
{
	struct io_redis_conf conf = {.addr = "127.0.0.1",
			.connect_timeout_ms = 10000,
			.cmd_timeout_ms = 10000};

	redis_start(&server, NULL);
	conf.port = server.port;
	q = io_queue_new(&conf, LIT("t"));
	q2 = io_queue_new(&conf, LIT("t"));
	raw = io_redis_new(&conf);
	ck_assert_ptr_nonnull(q);
	ck_assert_ptr_nonnull(q2);
	ck_assert_ptr_nonnull(raw);
	io_queue_set_now(q, T0);
}

void end(void)
{
	io_queue_free(&q);
	io_queue_free(&q2);
	io_redis_free(&raw);
	ck_assert_ptr_null(q);
	redis_stop(&server);
}

/* The next message that left its queue, which is reported with that. *m is
 * borrowed from q. CPM_ENOENT: there is none. */
int expired_next(unsigned shard, struct cpm_msg *m)
{
	struct cpm_left left;
	size_t n = 0;
	int rc = io_queue_left(q, shard, LIT("r"), 1, 1000, &left, &n);

	if(rc != CPM_OK)
		return rc;
	if(n == 0)
		return CPM_ENOENT;
	ck_assert_int_eq(
			io_queue_left_done(q2, left.aor, left.id, LIT("r"), CPM_JOB_NONE),
			CPM_OK);
	*m = left.msg;
	return left.readable ? CPM_OK : CPM_EPROTO;
}

/* Of one shard. */
int claim_one(unsigned shard, uint64_t claim_ms, size_t limit,
		struct cpm_pl *users, size_t *n)
{
	struct cpm_claimed claimed[IO_QUEUE_PAGE_MAX];
	uint64_t left = 0;
	int rc = io_queue_claim(
			q, LIT("n1"), &shard, 1, claim_ms, limit, claimed, n, &left);

	for(size_t i = 0; rc == CPM_OK && i < *n; i++)
		users[i] = claimed[i].aor;
	return rc;
}

/* ------------------------------------------------------------ raw commands */

/* Words of a line; the reply is the caller's. */
struct redisReply *qask(const char *fmt, ...)
{
	static char line[2048];
	struct cpm_pl argv[16], rest;
	struct redisReply *reply = NULL;
	size_t argc = 0;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	rest = cpm_pl_str(line);
	while(rest.p != NULL) {
		ck_assert_uint_lt(argc, FU_N(argv));
		argv[argc++] = cpm_pl_cut(&rest, ' ');
	}
	ck_assert_msg(io_redis_command(raw, argc, argv, &reply) == CPM_OK, "%s: %s",
			line, io_redis_error(raw));
	return reply;
}


int64_t integer(struct redisReply *reply)
{
	int64_t v = reply->integer;

	ck_assert_int_eq(reply->type, REDIS_REPLY_INTEGER);
	io_redis_reply_free(&reply);
	return v;
}

/* A number that Redis keeps as text; -1: there is none. */
int64_t number(struct redisReply *reply)
{
	int64_t v = -1;

	if(reply->type != REDIS_REPLY_NIL) {
		ck_assert_int_eq(reply->type, REDIS_REPLY_STRING);
		/* digits, no exponent and no fraction: what Lua writes is read again
		 * by people and by other programs */
		ck_assert_uint_eq(strspn(reply->str, "0123456789"), reply->len);
		v = strtoll(reply->str, NULL, 10);
	}
	io_redis_reply_free(&reply);
	return v;
}

const char *key(enum cpm_queue_key which, const char *aor)
{
	static char names[8][512];
	static unsigned at;
	char *name = names[at++ % 8];
	struct cpm_queue_keys k;

	ck_assert_int_eq(
			cpm_queue_keys_init(&k, LIT("t"), cpm_pl_str(aor), LIT("x")),
			CPM_OK);
	return cpm_pl_cstr(k.key[which], name, sizeof(names[0]));
}

/* The first number in a name: of "m17", or "sip:u017@example.org". */
unsigned number_in(struct cpm_pl name)
{
	unsigned v = 0;
	size_t i = 0;

	while(i < name.n && (name.p[i] < '0' || name.p[i] > '9'))
		i++;
	ck_assert_uint_lt(i, name.n);
	for(; i < name.n && name.p[i] >= '0' && name.p[i] <= '9'; i++)
		v = v * 10 + (unsigned)(name.p[i] - '0');
	return v;
}

/* ---------------------------------------------------------------- messages */

static char blob_buf[BODY_MAX + 2048];

struct cpm_pl blob_of(struct cpm_pl aor, struct cpm_pl id, struct cpm_pl body,
		uint64_t expires_ms)
{
	struct cpm_msg m;
	struct cpm_wr w;

	memset(&m, 0, sizeof(m));
	m.aor = aor;
	m.id = id;
	m.call_id = LIT("call");
	m.from = LIT("<sip:alice@example.org>");
	m.to = LIT("<sip:bob@example.org>");
	m.content_type = LIT("text/plain");
	m.headers = LIT("Content-Type: text/plain\r\n");
	m.body = body;
	m.body_len = body.n;
	m.received_ms = T0;
	m.expires_ms = expires_ms;
	m.fingerprint = cpm_msg_fingerprint(&m);
	cpm_wr_init(&w, blob_buf, sizeof(blob_buf));
	ck_assert_int_eq(cpm_msg_encode(&m, &w, NULL), CPM_OK);
	return cpm_wr_pl(&w);
}

struct cpm_put_result put_res;

int put_full(struct cpm_pl aor, struct cpm_pl id, struct cpm_pl body,
		uint64_t expires_ms, uint64_t max_messages, uint64_t max_bytes)
{
	struct cpm_put put = {.aor = aor,
			.id = id,
			.blob = blob_of(aor, id, body, expires_ms),
			.expires_ms = expires_ms,
			.max_messages = max_messages,
			.max_bytes = max_bytes,
			.check_in_ms = 5000};
	int rc = io_queue_put(q, &put, &put_res);

	return rc == CPM_OK ? (int)put_res.status : rc;
}

int put(const char *id, const char *body)
{
	return put_full(BOB, cpm_pl_str(id), cpm_pl_str(body), 0, 0, 0);
}

struct cpm_lease lease_res;

int lease(const char *token, enum cpm_lease_force force)
{
	int rc = io_queue_lease(
			q, BOB, cpm_pl_str(token), LEASE_MS, force, 0, &lease_res);

	return rc == CPM_OK ? (int)lease_res.status : rc;
}


int settle_full(struct cpm_pl aor, const char *token, const char *id,
		enum cpm_settle_how how, char fail_class, uint64_t retry_in_ms)
{
	struct cpm_settle s = {.aor = aor,
			.id = cpm_pl_str(id),
			.token = cpm_pl_str(token),
			.how = how,
			.fail_class = (enum cpm_fail_class)fail_class,
			.error = LIT("486"),
			.retry_in_ms = retry_in_ms,
			.dedup_ms = DEDUP_MS};

	return io_queue_settle(q, &s);
}

int delivered(const char *token, const char *id)
{
	return settle_full(BOB, token, id, CPM_SETTLE_DELIVERED, 0, 0);
}

int retry(const char *token, const char *id, char fail_class,
		uint64_t retry_in_ms)
{
	return settle_full(
			BOB, token, id, CPM_SETTLE_RETRY, fail_class, retry_in_ms);
}

int release(const char *token, const char *unsent)
{
	return io_queue_release(
			q, BOB, cpm_pl_str(token), cpm_pl_str(unsent), 5000);
}

struct cpm_queue_stat stat_res;

uint64_t count(void)
{
	int rc = io_queue_stat(q, BOB, &stat_res);

	if(rc == CPM_ENOENT)
		return 0;
	ck_assert_int_eq(rc, CPM_OK);
	ck_assert_uint_eq(stat_res.messages,
			stat_res.queued + stat_res.leased + stat_res.held + stat_res.dead);
	return stat_res.messages;
}

struct cpm_queue_item items[IO_QUEUE_PAGE_MAX];
size_t items_n;
uint64_t items_next;

int list(uint64_t after, size_t limit, char state)
{
	items_n = 0;
	items_next = 0;
	return io_queue_list(
			q, BOB, after, limit, state, items, &items_n, &items_next);
}

void ck_nothing_left(void)
{
	/* but the totals of the shard, and what is remembered of the delivered */
	struct redisReply *keys = qask("KEYS *");

	for(size_t i = 0; i < keys->elements; i++)
		ck_assert_msg(strstr(keys->element[i]->str, "}:sum") != NULL
							  || strstr(keys->element[i]->str, "}:d:") != NULL,
				"left behind: %s", keys->element[i]->str);
	io_redis_reply_free(&keys);
	ck_assert_int_eq(
			number(qask("HGET %s n", key(CPM_KEY_SUM, "sip:bob@example.org"))),
			0);
	ck_assert_int_eq(
			number(qask("HGET %s b", key(CPM_KEY_SUM, "sip:bob@example.org"))),
			0);
}

/* The lock's own time-out, which is Redis' */
void lock_expire(void)
{
	tell("DEL %s", key(CPM_KEY_LOCK, "sip:bob@example.org"));
}

/* %x is a key's name, _ a space inside a word; a word that is missing at the
 * end is the empty one. */
void damage(const char *text)
{
	static const char *const kinds[CPM_KEY_COUNT_] = {"q", "m", "l", "users",
			"wake", "dead", "expired", "sum", "jobs", "job", "d"};
	struct cpm_pl rest = cpm_pl_str(text), argv[8];
	struct redisReply *reply = NULL;
	char words[8][256];
	size_t argc = 0, want;

	while(rest.p != NULL) {
		struct cpm_pl word = cpm_pl_cut(&rest, ' ');

		cpm_pl_cstr(word, words[argc], sizeof(words[0]));
		for(char *p = words[argc]; *p != '\0'; p++)
			*p = *p == '_' ? ' ' : *p;
		for(unsigned k = 0; word.p[0] == '%' && k < CPM_KEY_COUNT_; k++)
			if(cpm_pl_eq(cpm_pl_from(word, 1), cpm_pl_str(kinds[k])))
				(void)snprintf(words[argc], sizeof(words[0]), "%s",
						key((enum cpm_queue_key)k, "sip:bob@example.org"));
		argv[argc] = cpm_pl_str(words[argc]);
		argc++;
	}
	want = cpm_pl_starts(argv[0], LIT("HSET"))	 ? 4
		   : cpm_pl_starts(argv[0], LIT("DEL"))	 ? 2
		   : cpm_pl_starts(argv[0], LIT("ZADD")) ? 4
												 : 3;
	while(argc < want)
		argv[argc++] = LIT("");
	if(cpm_pl_starts(argv[0], LIT("LPUSH"))
			&& cpm_pl_eq(argv[1],
					cpm_pl_str(key(CPM_KEY_LOCK, "sip:bob@example.org")))) {
		tell("DEL %s", key(CPM_KEY_LOCK, "sip:bob@example.org"));
	}
	ck_assert_msg(io_redis_command(raw, argc, argv, &reply) == CPM_OK, "%s: %s",
			text, io_redis_error(raw));
	io_redis_reply_free(&reply);
}
