/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_queue_take.c - a user's own retrieval, which takes messages whatever
 * their state and gives them back as they were; and the newest of a queue.
 */

#include "queue_helper.h"

#define NOBODY CPM_PL_NULL

/* ------------------------------------------------------------------ helpers */

static struct cpm_taken taken[CPM_LEASE_MAX];
static size_t taken_n;
static uint64_t busy_ms;

static int take_full(const char *token, const char *letters, bool all,
		uint64_t after, size_t max_messages, uint64_t max_bytes)
{
	struct cpm_pl ids[CPM_LEASE_MAX];
	struct cpm_take ask = {.aor = BOB,
			.token = cpm_pl_str(token),
			.lease_ms = LEASE_MS,
			.ids = ids,
			.count = strlen(letters),
			.all = all,
			.after = after,
			.max_messages = max_messages,
			.max_bytes = max_bytes};

	for(size_t i = 0; i < ask.count; i++)
		ids[i] = cpm_pl(letters + i, 1);
	taken_n = 99;
	busy_ms = 0;
	return io_queue_take(q, &ask, taken, &taken_n, &busy_ms);
}

/* What became of each: its letter, or g gone, b busy, l later in upper case. */
static const char *take(const char *token, const char *letters)
{
	static char text[CPM_LEASE_MAX + 1];

	ck_assert_int_eq(
			take_full(token, letters, false, 0, 0, UINT64_MAX / 2), CPM_OK);
	for(size_t i = 0; i < taken_n; i++)
		text[i] = taken[i].what == CPM_TAKEN_OK		? taken[i].msg.id.p[0]
				  : taken[i].what == CPM_TAKEN_GONE ? 'G'
				  : taken[i].what == CPM_TAKEN_BUSY ? 'B'
													: 'L';
	text[taken_n] = '\0';
	return text;
}

static const char *taken_ids(void)
{
	static char text[CPM_LEASE_MAX + 1];

	for(size_t i = 0; i < taken_n; i++) {
		ck_assert_int_eq((int)taken[i].what, CPM_TAKEN_OK);
		text[i] = taken[i].msg.id.p[0];
	}
	text[taken_n] = '\0';
	return text;
}

static int64_t bob_n(enum cpm_queue_key k, const char *command)
{
	return integer(qask("%s %s", command, key(k, BOBS)));
}

static struct cpm_queue_item item_get(const char *id)
{
	static char error[128];
	struct cpm_queue_item item;

	ck_assert_int_eq(
			io_queue_get(q, BOB, cpm_pl_str(id), false, &item), CPM_OK);
	cpm_pl_cstr(item.last_error, error, sizeof(error));
	item.last_error = cpm_pl_str(error);
	return item;
}

static void put_letters(const char *letters)
{
	for(const char *p = letters; *p != '\0'; p++) {
		const char id[] = {*p, '\0'};
		ck_assert_int_eq(put(id, "x"), CPM_PUT_QUEUED);
	}
}

static int turn(const char *id, enum cpm_state to, const char *token)
{
	return io_queue_turn(q, BOB, cpm_pl_str(id), to, cpm_pl_str(token));
}

/* As the store keeps it; "" where there is none. */
static const char *record_of(const char *id, char *text, size_t cap)
{
	char field[32];
	struct cpm_pl argv[3] = {
			LIT("HGET"), cpm_pl_str(key(CPM_KEY_M, BOBS)), NOBODY};
	struct redisReply *r = NULL;

	(void)snprintf(field, sizeof(field), " s%s", id);
	argv[2] = cpm_pl_str(field);
	ck_assert_int_eq(io_redis_command(raw, 3, argv, &r), CPM_OK);
	(void)snprintf(
			text, cap, "%s", r->type == REDIS_REPLY_STRING ? r->str : "");
	io_redis_reply_free(&r);
	return text;
}

/* Message a in every state that a message may be in. */
static const char *const befores[] = {"new", "retry-u", "retry-m", "deferred",
		"held", "dead", "held-after-failure", "lapsed"};

static void before(const char *what)
{
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	if(strcmp(what, "new") != 0 && strcmp(what, "held") != 0) {
		ck_leased("old", "a", 1);
		if(strcmp(what, "deferred") == 0)
			ck_assert_int_eq(
					settle_full(BOB, "old", "a", CPM_SETTLE_DEFER, 'd', 0),
					CPM_OK);
		else if(strcmp(what, "dead") == 0)
			ck_assert_int_eq(
					settle_full(BOB, "old", "a", CPM_SETTLE_DEAD, 'm', 0),
					CPM_OK);
		else if(strcmp(what, "lapsed") != 0)
			ck_assert_int_eq(retry("old", "a", what[6] == 'm' ? 'm' : 'u',
									 10 * LEASE_MS),
					CPM_OK);
		if(strcmp(what, "lapsed") == 0) {
			lock_expire();
			io_queue_set_now(q, T0 + LEASE_MS);
		}
		ck_assert_int_eq(release("old", ""), CPM_OK);
	}
	if(what[0] == 'h')
		ck_assert_int_eq(turn("a", CPM_STATE_HELD, ""), CPM_OK);
}

/* How a retrieval ends that did not come about. */
static const char *const ends[] = {
		"release", "unsent", "retry", "defer", "deadline", "renewed"};

static void end_of(const char *what)
{
	bool found = true;
	struct cpm_pl a = LIT("a");

	if(strcmp(what, "release") == 0)
		ck_assert_int_eq(release("me", "a"), CPM_OK);
	else if(strcmp(what, "deadline") == 0 || strcmp(what, "renewed") == 0) {
		if(what[0] == 'r') {
			ck_assert_int_eq(
					io_queue_renew(q, BOB, LIT("me"), a, LEASE_MS, &lease_res),
					CPM_OK);
			ck_assert_int_eq(
					io_queue_extend(q, BOB, LIT("me"), LEASE_MS, &a, 1, &found),
					CPM_OK);
			ck_assert(!found);
		}
		lock_expire();
		io_queue_set_now(q, T0 + 3 * LEASE_MS);
	} else
		ck_assert_int_eq(settle_full(BOB, "me", "a",
								 what[0] == 'u'	  ? CPM_SETTLE_UNSENT
								 : what[0] == 'r' ? CPM_SETTLE_RETRY
												  : CPM_SETTLE_DEFER,
								 'u', 5),
				CPM_OK);
}

/* -------------------------------------------------------------------- cases */

START_TEST(comes_back)
{
	const char *was = befores[_i / (int)FU_N(ends)];
	const char *how = ends[_i % (int)FU_N(ends)];
	struct cpm_queue_item old, now;
	int64_t dead;

	begin();
	before(was);
	old = item_get("a");
	dead = bob_n(CPM_KEY_DEAD, "ZCARD");
	ck_assert_int_eq(dead, old.state == CPM_STATE_DEAD);
	ck_assert_str_eq(take("me", "a"), "a");
	ck_assert_uint_eq(taken[0].attempt, old.attempts + 1);
	ck_pl_eq(taken[0].msg.body, "x");
	ck_assert_int_eq((int)item_get("a").state, CPM_STATE_LEASED);
	ck_assert_uint_eq(count(), 1);
	ck_assert_uint_eq(stat_res.leased, 1);
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), dead);
	end_of(how);
	now = item_get("a");
	ck_assert_int_eq((int)now.state, (int)old.state);
	ck_assert_uint_eq(now.attempts, old.attempts);
	ck_assert_uint_eq(now.next_attempt_ms, old.next_attempt_ms);
	ck_pl_same(now.last_error, old.last_error);
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), dead);
	ck_assert_uint_eq(count(), 1);
	ck_assert_uint_eq(stat_res.held, old.state == CPM_STATE_HELD);
	ck_assert_uint_eq(stat_res.dead, old.state == CPM_STATE_DEAD);
	/* a delivery treats it as before: what was held or dead is not sent */
	(void)release("me", "");
	if(old.state != CPM_STATE_QUEUED)
		ck_assert_int_eq(lease("d", CPM_LEASE_ALL), CPM_LEASE_NONE);
	else if(strcmp(was, "new") == 0 || strcmp(was, "lapsed") == 0)
		ck_leased("d", "a", old.attempts + 1);
	else {
		ck_assert_int_eq(lease("d", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
		ck_assert_int_eq(lease("d", CPM_LEASE_ALL), CPM_LEASE_OK);
		ck_assert_uint_eq(lease_res.attempt, old.attempts + 1);
	}
	end();
}
END_TEST

START_TEST(leaves)
{
	const char *was = befores[_i / 4];

	begin();
	before(was);
	ck_assert_str_eq(take("me", "a"), "a");
	switch(_i % 4) {
		case 0:
			ck_assert_int_eq(delivered("me", "a"), CPM_OK);
			ck_assert_int_eq(delivered("me", "a"), CPM_ENOENT);
			break;
		case 1: /* late, but nobody took it since */
			io_queue_set_now(q, T0 + 3 * LEASE_MS);
			ck_assert_int_eq(delivered("me", "a"), CPM_OK);
			break;
		case 2:
			ck_assert_int_eq(
					io_queue_discard(q, BOB, LIT("a"), DEDUP_MS, 0), CPM_OK);
			ck_assert_int_eq(delivered("me", "a"), CPM_ENOENT);
			break;
		case 3: {
			uint64_t upto = 0, removed = 0;

			ck_assert_int_eq(
					io_queue_purge(q, BOB, 10, &upto, &removed), CPM_OK);
			ck_assert_uint_eq(removed, 1);
			ck_assert_int_eq(delivered("me", "a"), CPM_ENOENT);
			break;
		}
	}
	ck_assert_int_eq(release("me", ""), CPM_OK);
	ck_assert_uint_eq(count(), 0);
	ck_nothing_left();
	if(_i % 4 < 3)
		ck_assert_int_eq(put("a", "x"), CPM_PUT_GONE);
	end();
}
END_TEST

/* The user's word about what he has taken. */
START_TEST(decided)
{
	const char *was = befores[_i / 3];

	begin();
	before(was);
	ck_assert_str_eq(take("me", "a"), "a");
	ck_assert_int_eq(turn("a", CPM_STATE_HELD, ""), CPM_EEXIST);
	switch(_i % 3) {
		case 0:
			ck_assert_int_eq(turn("a", CPM_STATE_HELD, "me"), CPM_OK);
			ck_assert_int_eq((int)item_get("a").state, CPM_STATE_HELD);
			break;
		case 1:
			ck_assert_int_eq(turn("a", CPM_STATE_QUEUED, "me"), CPM_OK);
			ck_assert_int_eq((int)item_get("a").state, CPM_STATE_QUEUED);
			ck_assert_uint_eq(item_get("a").attempts, 0);
			break;
		case 2:
			ck_assert_int_eq(
					settle_full(BOB, "me", "a", CPM_SETTLE_DEAD, 'm', 0),
					CPM_OK);
			ck_assert_int_eq((int)item_get("a").state, CPM_STATE_DEAD);
			break;
	}
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), _i % 3 == 2);
	ck_assert_int_eq(
			settle_full(BOB, "me", "a", CPM_SETTLE_UNSENT, 0, 0), CPM_ENOENT);
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), _i % 3 == 2);
	end();
}
END_TEST

START_TEST(by_id)
{
	char one[128], two[128];

	begin();
	put_letters("abcde");
	ck_assert_int_eq(turn("d", CPM_STATE_HELD, ""), CPM_OK);
	ck_assert_str_eq(take("me", "dxba"), "dGba");
	ck_assert_uint_eq(taken[1].seq, 0);
	ck_assert_uint_gt(taken[0].seq, taken[2].seq);
	ck_pl_eq(taken[3].msg.from, "<sip:alice@example.org>");
	/* the answer was lost; and a further retrieval of the same */
	(void)record_of("d", one, sizeof(one));
	ck_assert_str_eq(take("me", "dxbad"), "dGbad");
	ck_assert_str_eq(one, record_of("d", two, sizeof(two)));
	ck_assert_uint_eq(taken[0].attempt, 1);
	ck_assert_str_eq(take("me", "c"), "c");
	/* another user's client, and a delivery, wait for the lock */
	ck_assert_int_eq(take_full("you", "e", false, 0, 0, 9999), CPM_EAGAIN);
	ck_assert_uint_gt(busy_ms, 0);
	ck_assert_uint_le(busy_ms, LEASE_MS);
	ck_assert_uint_eq(taken_n, 99);
	ck_assert_int_eq(lease("you", CPM_LEASE_ALL), CPM_LEASE_BUSY);
	/* Redis lost the lock: what is out is not given twice */
	lock_expire();
	ck_assert_str_eq(take("you", "ae"), "Be");
	ck_assert_int_eq(delivered("you", "a"), CPM_ENOENT);
	ck_assert_int_eq(delivered("me", "a"), CPM_OK);
	end();
}
END_TEST

START_TEST(bounds)
{
	const size_t size = blob_of(BOB, LIT("a"), LIT("x"), 0).n;
	struct cpm_take many = {
			.aor = BOB, .token = LIT("t"), .count = CPM_LEASE_MAX + 1};
	struct cpm_pl ids[CPM_LEASE_MAX];

	begin();
	put_letters("abcde");
	ck_assert_int_eq(
			io_queue_take(q, &many, taken, &taken_n, &busy_ms), CPM_EPROTO);
	many.all = true;
	ck_assert_int_eq(
			io_queue_take(q, &many, taken, &taken_n, &busy_ms), CPM_EPROTO);
	/* the first whatever its size; exactly full is not over */
	ck_assert_int_eq(take_full("t", "cxab", false, 0, 0, 1), CPM_OK);
	ck_assert_int_eq((int)taken[0].what, CPM_TAKEN_OK);
	ck_assert_int_eq((int)taken[1].what, CPM_TAKEN_GONE);
	ck_assert_int_eq((int)taken[2].what, CPM_TAKEN_LATER);
	ck_assert_int_eq((int)taken[3].what, CPM_TAKEN_LATER);
	ck_assert_int_eq((int)item_get("a").state, CPM_STATE_QUEUED);
	ck_assert_int_eq(take_full("t", "abx", false, 0, 0, 2 * size), CPM_OK);
	ck_assert_int_eq((int)taken[1].what, CPM_TAKEN_OK);
	ck_assert_int_eq(take_full("t", "abxde", false, 0, 2, 9999), CPM_OK);
	ck_assert_int_eq((int)taken[2].what, CPM_TAKEN_GONE);
	ck_assert_int_eq((int)taken[3].what, CPM_TAKEN_LATER);
	/* a whole call's worth, from a queue of that length */
	many.all = false;
	many.count = CPM_LEASE_MAX;
	many.ids = ids;
	many.lease_ms = LEASE_MS;
	many.max_bytes = 1000000;
	for(size_t i = 0; i < CPM_LEASE_MAX; i++)
		ids[i] = LIT("e");
	ck_assert_int_eq(
			io_queue_take(q, &many, taken, &taken_n, &busy_ms), CPM_OK);
	ck_assert_uint_eq(taken_n, CPM_LEASE_MAX);
	ck_pl_eq(taken[CPM_LEASE_MAX - 1].msg.id, "e");
	end();
}
END_TEST

START_TEST(all_in_order)
{
	const size_t size = blob_of(BOB, LIT("a"), LIT("x"), 0).n;
	uint64_t after;

	begin();
	put_letters("abcdef");
	ck_assert_int_eq(turn("b", CPM_STATE_HELD, ""), CPM_OK);
	ck_leased("old", "a", 1);
	ck_assert_int_eq(retry("old", "a", 'u', 99999), CPM_OK);
	ck_assert_int_eq(release("old", ""), CPM_OK);
	ck_assert_int_eq(take_full("t", "", true, 0, 2, 99999), CPM_OK);
	ck_assert_str_eq(taken_ids(), "ab");
	after = taken[1].seq;
	ck_assert_int_eq(take_full("t", "", true, after, 9, 2 * size), CPM_OK);
	ck_assert_str_eq(taken_ids(), "cd");
	/* again the same */
	ck_assert_int_eq(take_full("t", "", true, after, 9, 2 * size), CPM_OK);
	ck_assert_str_eq(taken_ids(), "cd");
	after = taken[1].seq;
	/* what cannot be read stands in nobody's way */
	damage("HSET %m e garbage");
	ck_assert_int_eq(take_full("t", "", true, after, 9, 99999), CPM_OK);
	ck_assert_uint_eq(taken_n, 2);
	ck_assert_int_eq((int)taken[0].what, CPM_TAKEN_GONE);
	ck_assert_uint_gt(taken[0].seq, after);
	ck_pl_eq(taken[1].msg.id, "f");
	after = taken[1].seq;
	ck_assert_int_eq(take_full("t", "", true, after, 9, 99999), CPM_OK);
	ck_assert_uint_eq(taken_n, 0);
	/* those that are another's are left out */
	lock_expire();
	ck_assert_int_eq(put("g", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(take_full("u", "", true, 0, 9, 99999), CPM_OK);
	ck_assert_str_eq(taken_ids(), "g");
	end();
}
END_TEST

/* With neither: only the lock, whatever there is. */
START_TEST(lock_only)
{
	begin();
	for(int i = 0; i < 2; i++) {
		ck_assert_int_eq(take_full("t", "", false, 0, 0, 0), CPM_OK);
		ck_assert_uint_eq(taken_n, 0);
		ck_assert_int_eq(take_full("u", "", false, 0, 0, 0), CPM_EAGAIN);
		ck_assert_str_eq(take("t", "z"), "G");
		ck_assert_int_eq(
				put("a", "x"), i == 0 ? CPM_PUT_QUEUED : CPM_PUT_DUPLICATE);
		ck_assert_int_eq(lease("d", CPM_LEASE_ALL), CPM_LEASE_BUSY);
		ck_assert_int_eq(release("t", ""), CPM_OK);
		ck_assert_int_eq(take_full("u", "", false, 0, 0, 0), CPM_OK);
		ck_assert_int_eq(release("u", ""), CPM_OK);
	}
	ck_leased("d", "a", 1);
	end();
}
END_TEST

/* Who dies with it: the queue is looked at after its lease's end; and another
 * boot of the same node need not wait. */
START_TEST(orphans)
{
	begin();
	put_letters("abc");
	ck_assert_int_eq(turn("b", CPM_STATE_HELD, ""), CPM_OK);
	ck_assert_str_eq(take("1a.1.x", "ab"), "ab");
	ck_assert_int_eq(number(qask("ZSCORE %s " BOBS, key(CPM_KEY_WAKE, BOBS))),
			(int64_t)(T0 + LEASE_MS + 1000));
	ck_assert_int_eq(take_full("1a.1.y", "a", false, 0, 0, 9999), CPM_EAGAIN);
	ck_assert_int_eq(take_full("1b.2.y", "a", false, 0, 0, 9999), CPM_EAGAIN);
	switch(_i) {
		case 0:
			ck_assert_str_eq(take("1a.2.z", "ab"), "ab");
			ck_assert_int_eq(release("1a.2.z", "b"), CPM_OK);
			ck_assert_int_eq((int)item_get("b").state, CPM_STATE_HELD);
			break;
		case 1: /* a delivery: not what was held */
			ck_leased("1a.2.z", "a", 1);
			ck_assert_int_eq(delivered("1a.2.z", "a"), CPM_OK);
			ck_leased("1a.2.z", "c", 1);
			ck_assert_int_eq(delivered("1a.2.z", "c"), CPM_OK);
			ck_assert_int_eq(lease("1a.2.z", CPM_LEASE_ALL), CPM_LEASE_NONE);
			io_queue_set_now(q, T0 + LEASE_MS);
			ck_assert_int_eq((int)item_get("b").state, CPM_STATE_HELD);
			ck_assert_int_eq(lease("1a.2.z", CPM_LEASE_ALL), CPM_LEASE_NONE);
			break;
		case 2: /* an orphan of a delivery, by a retrieval */
			ck_assert_str_eq(take("1a.2.z", "b"), "b");
			ck_assert_int_eq(release("1a.2.z", "b"), CPM_OK);
			ck_leased("1a.2.w", "a", 1);
			ck_assert_str_eq(take("1a.3.v", "ab"), "ab");
			ck_assert_int_eq(release("1a.3.v", "a"), CPM_OK);
			ck_assert_int_eq((int)item_get("a").state, CPM_STATE_QUEUED);
			break;
	}
	end();
}
END_TEST

/* A delivery passes over what was nothing to send, and waits for what was. */
START_TEST(delivery_beside)
{
	begin();
	put_letters("abc");
	ck_assert_int_eq(turn("a", CPM_STATE_HELD, ""), CPM_OK);
	ck_assert_str_eq(take("me", _i == 0 ? "a" : "b"), _i == 0 ? "a" : "b");
	lock_expire();
	if(_i == 0) {
		ck_leased("d", "b", 1);
	} else {
		ck_assert_int_eq(lease("d", CPM_LEASE_ALL), CPM_LEASE_WAIT);
		ck_assert_uint_eq(lease_res.wait_ms, LEASE_MS);
		io_queue_set_now(q, T0 + LEASE_MS);
		ck_leased("d", "b", 1);
		ck_assert_int_eq(delivered("me", "b"), CPM_ENOENT);
	}
	end();
}
END_TEST

START_TEST(expiry_between)
{
	struct cpm_msg m;

	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	put_letters("b");
	ck_assert_int_eq(turn("a", CPM_STATE_HELD, ""), CPM_OK);
	if(_i == 0) {
		io_queue_set_now(q, T0 + 100);
		ck_assert_str_eq(take("me", "ab"), "Gb");
		ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_OK);
		ck_pl_eq(m.id, "a");
		end();
		return;
	}
	ck_assert_str_eq(take("me", "a"), "a");
	io_queue_set_now(q, T0 + 100);
	/* the user has it in hand: it is his until that ends */
	ck_assert_uint_eq(count(), 2);
	ck_assert_str_eq(take("me", "ab"), "ab");
	ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_ENOENT);
	if(_i == 1) {
		ck_assert_int_eq(delivered("me", "a"), CPM_OK);
		ck_assert_int_eq(release("me", "b"), CPM_OK);
		ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_ENOENT);
	} else {
		ck_assert_int_eq(release("me", "a"), CPM_OK);
		ck_assert_uint_eq(count(), 1);
		ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_OK);
		ck_pl_eq(m.id, "a");
		ck_assert_int_eq(delivered("me", "a"), CPM_ENOENT);
	}
	end();
}
END_TEST

START_TEST(out_of_memory)
{
	begin();
	put_letters("abcd");
	ck_assert_int_eq(turn("b", CPM_STATE_HELD, ""), CPM_OK);
	tell("CONFIG SET maxmemory 1");
	ck_assert_int_eq(put("z", "x"), CPM_EDOWN);
	ck_assert_str_eq(take("me", "abc"), "abc");
	ck_assert_int_eq(delivered("me", "a"), CPM_OK);
	ck_assert_int_eq(
			settle_full(BOB, "me", "c", CPM_SETTLE_UNSENT, 0, 0), CPM_OK);
	ck_assert_int_eq(release("me", "b"), CPM_OK);
	ck_assert_int_eq((int)item_get("b").state, CPM_STATE_HELD);
	ck_assert_int_eq((int)item_get("c").state, CPM_STATE_QUEUED);
	/* and on an empty queue */
	ck_assert_str_eq(take("me", "bcd"), "bcd");
	for(const char *p = "bcd"; *p != '\0'; p++) {
		const char id[] = {*p, '\0'};
		ck_assert_int_eq(delivered("me", id), CPM_OK);
	}
	ck_assert_int_eq(release("me", ""), CPM_OK);
	ck_assert_str_eq(take("me", "a"), "G");
	ck_assert_int_eq(release("me", ""), CPM_OK);
	ck_nothing_left();
	end();
}
END_TEST

/* A record of an older version, and one that is broken. */
START_TEST(old_records)
{
	static const struct
	{
		const char *record;
		enum cpm_state state;
		unsigned attempts;
	} rows[] = {{"Q_2_0_0_-_u_486", CPM_STATE_QUEUED, 2},
			{"H_0_0_0_-_-_", CPM_STATE_HELD, 0},
			{"D_12_0_0_-_m_404", CPM_STATE_DEAD, 12},
			{"L_3_0_5_gone_-_", CPM_STATE_QUEUED, 3},
			{"x_0_0_0_-_-_", CPM_STATE_QUEUED, 0},
			{"h_broken", CPM_STATE_QUEUED, 0}};
	char line[128];

	begin();
	put_letters("a");
	(void)snprintf(line, sizeof(line), "HSET %%m _sa %s", rows[_i].record);
	damage(line);
	ck_assert_str_eq(take("me", "a"), "a");
	ck_assert_int_eq((int)item_get("a").state, CPM_STATE_LEASED);
	ck_assert_int_eq(release("me", "a"), CPM_OK);
	ck_assert_int_eq((int)item_get("a").state, (int)rows[_i].state);
	ck_assert_uint_eq(item_get("a").attempts, rows[_i].attempts);
	end();
}
END_TEST

static const char *const wrecks[] = {"SET %q x", "SET %m x", "DEL %m", "DEL %q",
		"HSET %m a garbage", "HSET %m a", "HDEL %m a", "RPUSH %l x",
		"SET %users x", "SET %wake x", "SET %dead x", "SET %sum x",
		"SET %jobs x", "HSET %m _sa h_0_0_0_me_-_", "RPUSH %q garbage"};

START_TEST(wrecked)
{
	struct cpm_queue_stat st;
	int rcs[4];

	begin();
	put_letters("abc");
	damage(wrecks[_i]);
	rcs[0] = take_full("me", "ax", false, 0, 0, 9999);
	rcs[1] = take_full("me", "", true, 0, 9, 9999);
	rcs[2] = io_queue_recent(q, BOB, 9, items, &items_n, &st);
	rcs[3] = release("me", "a");
	for(size_t i = 0; i < FU_N(rcs); i++)
		ck_assert_msg(rcs[i] == CPM_OK || rcs[i] == CPM_ENOENT
							  || rcs[i] == CPM_EPROTO || rcs[i] == CPM_EAGAIN,
				"call %zu: %s", i, cpm_rc_name(rcs[i]));
	ck_assert_int_eq(io_queue_ping(q), CPM_OK);
	end();
}
END_TEST

/* ------------------------------------------------------------- the newest */

START_TEST(recent)
{
	struct cpm_queue_stat st;

	begin();
	ck_assert_int_eq(
			io_queue_recent(q, BOB, 5, items, &items_n, &st), CPM_ENOENT);
	put_letters("ab");
	ck_assert_int_eq(
			put_full(BOB, LIT("c"), LIT("body"), T0 + 5, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_recent(q, BOB, 2, items, &items_n, &st), CPM_OK);
	ck_assert_uint_eq(items_n, 2);
	ck_pl_eq(items[0].msg.id, "c");
	ck_assert_uint_eq(items[0].msg.body.n, 0);
	ck_assert_uint_eq(items[0].msg.body_len, 4);
	ck_pl_eq(items[1].msg.id, "b");
	ck_assert_uint_gt(items[0].seq, items[1].seq);
	ck_assert_uint_eq(st.messages, 3);
	ck_assert_int_eq(turn("a", CPM_STATE_HELD, ""), CPM_OK);
	io_queue_set_now(q, T0 + 5);
	ck_assert_int_eq(io_queue_recent(q, BOB, 9, items, &items_n, &st), CPM_OK);
	ck_assert_uint_eq(items_n, 2);
	ck_pl_eq(items[0].msg.id, "b");
	ck_assert_int_eq((int)items[1].state, CPM_STATE_HELD);
	ck_assert_uint_eq(st.messages, 2);
	ck_assert_uint_eq(st.held, 1);
	ck_assert_uint_eq(st.newest_ms, items[0].seq);
	ck_assert_int_eq(io_queue_recent(q, BOB, 0, items, &items_n, &st), CPM_OK);
	ck_assert_uint_eq(items_n, 0);
	/* a queue of expired ones only */
	ck_assert_int_eq(delivered("x", "a"), CPM_ENOENT);
	ck_assert_int_eq(io_queue_discard(q, BOB, LIT("a"), 1, 0), CPM_OK);
	ck_assert_int_eq(io_queue_discard(q, BOB, LIT("b"), 1, 0), CPM_OK);
	ck_assert_int_eq(
			io_queue_recent(q, BOB, 9, items, &items_n, &st), CPM_ENOENT);
	end();
}
END_TEST

START_TEST(recent_long)
{
	static const size_t limits[] = {1, 63, 64, 65, 150, 500};
	struct cpm_queue_stat st, want;
	size_t limit = limits[_i];

	begin();
	for(int i = 0; i < 150; i++) {
		char id[16];

		(void)snprintf(id, sizeof(id), "m%d", i);
		ck_assert_int_eq(put(id, "x"), CPM_PUT_QUEUED);
	}
	ck_assert_int_eq(
			io_queue_recent(q, BOB, limit, items, &items_n, &st), CPM_OK);
	ck_assert_uint_eq(items_n, limit < 150 ? limit : 150);
	for(size_t i = 0; i < items_n; i++)
		ck_assert_uint_eq(number_in(items[i].msg.id), 149 - i);
	ck_assert_int_eq(io_queue_stat(q, BOB, &want), CPM_OK);
	ck_assert_mem_eq(&st, &want, sizeof(st));
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_queue_take");

	fu_table(s, "what was taken and not kept is again what it was", comes_back,
			FU_N(befores) * FU_N(ends));
	fu_table(s, "what was taken and kept is gone, whatever it was", leaves,
			FU_N(befores) * 4);
	fu_table(s, "its user decides about what he has taken", decided,
			FU_N(befores) * 3);
	fu_case(s, "by id: taken, gone or on its way; again gives the same", by_id);
	fu_case(s, "a retrieval has bounds in messages and bytes", bounds);
	fu_case(s, "all messages, in order, page by page", all_in_order);
	fu_case(s, "only the lock", lock_only);
	fu_table(s, "a node that starts again gets at what it had taken", orphans,
			3);
	fu_table(s, "a delivery waits for what it would send, and for no more",
			delivery_beside, 2);
	fu_table(s, "expiry before, during and after a retrieval", expiry_between,
			3);
	fu_case(s, "a full Redis is emptied by retrievals", out_of_memory);
	fu_table(s, "states that others wrote are understood", old_records, 6);
	fu_table(s, "whatever is broken: an answer, and no crash", wrecked,
			FU_N(wrecks));
	fu_case(s, "the newest come first, with the sums of all", recent);
	fu_table(s, "the newest of a long queue", recent_long, 6);
	return fu_run(s);
}
