/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_queue_more.c - several messages in one lease, shares and overflow,
 * and what the user or the operator does to a queue.
 */

#include "queue_helper.h"

#define NOBODY CPM_PL_NULL

/* ------------------------------------------------------------------ helpers */

static struct cpm_lease leases[CPM_LEASE_MAX];
static size_t leases_n;

static int lease_many(const char *token, size_t max_messages,
		uint64_t max_bytes, uint64_t after)
{
	struct cpm_lease_ask ask = {.aor = BOB,
			.token = cpm_pl_str(token),
			.lease_ms = LEASE_MS,
			.force = CPM_LEASE_WHEN_DUE,
			.max_messages = max_messages,
			.max_bytes = max_bytes,
			.after = after};
	int rc;

	leases_n = 99;
	rc = io_queue_lease_many(q, &ask, leases, &leases_n);
	return rc == CPM_OK ? (int)leases[0].status : rc;
}

/* The ids that were leased, one letter each. */
static const char *leased_ids(void)
{
	static char text[CPM_LEASE_MAX + 1];

	ck_assert_uint_le(leases_n, CPM_LEASE_MAX);
	for(size_t i = 0; i < leases_n; i++) {
		ck_assert_int_eq((int)leases[i].status, CPM_LEASE_OK);
		text[i] = leases[i].msg.id.p[0];
	}
	text[leases_n] = '\0';
	return text;
}

static void put_letters(const char *letters)
{
	for(const char *p = letters; *p != '\0'; p++) {
		const char id[] = {*p, '\0'};
		ck_assert_int_eq(put(id, "x"), CPM_PUT_QUEUED);
	}
}

/* All ids of the queue that can be seen, in order. */
static const char *ids(char state)
{
	static char text[IO_QUEUE_PAGE_MAX + 1];
	int rc = list(0, IO_QUEUE_PAGE_MAX, state);

	ck_assert(rc == CPM_OK || rc == CPM_ENOENT);
	for(size_t i = 0; i < items_n; i++)
		text[i] = items[i].msg.id.p[0];
	text[items_n] = '\0';
	return text;
}

static int turn(const char *id, enum cpm_state to, const char *token)
{
	return io_queue_turn(q, BOB, cpm_pl_str(id), to, cpm_pl_str(token));
}

static int discard(const char *id)
{
	return io_queue_discard(q, BOB, cpm_pl_str(id), DEDUP_MS, CPM_JOB_NONE);
}

/* lost is one character for each id: "-" it is held, "x" it is lost. */
static const char *extend(const char *token, const char *letters)
{
	static char text[CPM_LEASE_MAX + 1];
	struct cpm_pl list_[CPM_LEASE_MAX];
	bool lost[CPM_LEASE_MAX];
	size_t n = strlen(letters);

	for(size_t i = 0; i < n; i++)
		list_[i] = cpm_pl(letters + i, 1);
	ck_assert_int_eq(io_queue_extend(q, BOB, cpm_pl_str(token), LEASE_MS, list_,
							 n, lost),
			CPM_OK);
	for(size_t i = 0; i < n; i++)
		text[i] = lost[i] ? 'x' : '-';
	text[n] = '\0';
	return text;
}

static int dead_letter(const char *token, const char *id)
{
	return settle_full(BOB, token, id, CPM_SETTLE_DEAD, 'm', 0);
}

static int64_t bob_n(enum cpm_queue_key k, const char *command)
{
	return integer(qask("%s %s", command, key(k, BOBS)));
}

/* The sums say what the queue holds. */
static void ck_sums(uint64_t messages, uint64_t bytes)
{
	ck_assert_int_eq(number(qask("HGET %s n", key(CPM_KEY_SUM, BOBS))),
			(int64_t)messages);
	ck_assert_int_eq(
			number(qask("HGET %s b", key(CPM_KEY_SUM, BOBS))), (int64_t)bytes);
	ck_assert_uint_eq(count(), messages);
	if(messages > 0)
		ck_assert_uint_eq(stat_res.bytes, bytes);
}

static size_t size_of_one(void)
{
	return blob_of(BOB, LIT("a"), LIT("x"), 0).n;
}

static int64_t woken(void)
{
	return number(qask("ZSCORE %s " BOBS, key(CPM_KEY_WAKE, BOBS)));
}

/* --------------------------------------------------- several in one lease */

START_TEST(many_in_order)
{
	begin();
	ck_assert_int_eq(lease_many("t", 4, 100000, 0), CPM_LEASE_EMPTY);
	ck_assert_uint_eq(leases_n, 0);
	put_letters("abcdefg");
	ck_assert_int_eq(lease_many("t", 3, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "abc");
	ck_assert_uint_eq(leases[0].seq, T0);
	ck_assert_uint_eq(leases[2].seq, T0 + 2);
	ck_assert_uint_eq(leases[2].attempt, 1);
	ck_pl_eq(leases[2].msg.body, "x");
	/* another has to wait, the same goes on behind them */
	ck_assert_int_eq(lease_many("t2", 3, 100000, 0), CPM_LEASE_BUSY);
	ck_assert_uint_eq(leases_n, 0);
	ck_assert_int_eq(lease_many("t", 2, 100000, T0 + 2), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "de");
	/* the answer was lost: the same once more, and no new attempt */
	ck_assert_int_eq(lease_many("t", 32, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "abcdefg");
	ck_assert_uint_eq(leases[0].attempt, 1);
	ck_assert_uint_eq(leases[6].attempt, 1);
	ck_assert_int_eq(lease_many("t", 1, 100000, T0 + 6), CPM_LEASE_NONE);
	ck_assert_int_eq(lease_many("t", 1, 100000, T0 + 99), CPM_LEASE_NONE);
	ck_assert_uint_eq(leases_n, 0);
	/* each is settled for itself, in any order */
	ck_assert_int_eq(delivered("t", "c"), CPM_OK);
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_int_eq(retry("t", "b", 'u', 1000), CPM_OK);
	ck_assert_int_eq(delivered("t", "c"), CPM_ENOENT);
	ck_assert_int_eq(release("t", "d"), CPM_OK);
	ck_assert_int_eq(release("t", "e"), CPM_OK);
	ck_sums(5, 5 * size_of_one());
	ck_assert_uint_eq(stat_res.leased, 2);
	ck_assert_uint_eq(stat_res.queued, 3);
	end();
}
END_TEST

START_TEST(many_bytes)
{
	size_t size;

	begin();
	put_letters("abcd");
	size = size_of_one();
	/* the first counts whatever its size; then exactly full */
	ck_assert_int_eq(lease_many("t", 32, 0, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "a");
	ck_assert_int_eq(lease_many("t", 32, 3 * size - 1, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "ab");
	ck_assert_int_eq(lease_many("t", 32, 3 * size, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "abc");
	ck_assert_uint_eq(count(), 4);
	ck_assert_uint_eq(stat_res.leased, 3);
	end();
}
END_TEST

START_TEST(many_bounds)
{
	struct cpm_pl list_[CPM_LEASE_MAX + 1];
	bool lost[CPM_LEASE_MAX + 1] = {false};

	begin();
	put_letters("ab");
	ck_assert_int_eq(lease_many("t", 0, 100000, 0), CPM_EPROTO);
	ck_assert_int_eq(lease_many("t", CPM_LEASE_MAX + 1, 100000, 0), CPM_EPROTO);
	for(size_t i = 0; i <= CPM_LEASE_MAX; i++)
		list_[i] = LIT("a");
	ck_assert_int_eq(io_queue_extend(q, BOB, LIT("t"), LEASE_MS, list_,
							 CPM_LEASE_MAX + 1, lost),
			CPM_EPROTO);
	/* nothing was leased by that */
	ck_assert_uint_eq(count(), 2);
	ck_assert_uint_eq(stat_res.queued, 2);
	ck_assert_int_eq(io_queue_extend(q, BOB, LIT("t"), LEASE_MS, list_,
							 CPM_LEASE_MAX, lost),
			CPM_OK);
	ck_assert(lost[0] && lost[CPM_LEASE_MAX - 1]);
	ck_assert_int_eq(bob_n(CPM_KEY_LOCK, "EXISTS"), 0);
	end();
}
END_TEST

/* Order: what waits stops the batch, but for what others pass. */
START_TEST(many_stop)
{
	begin();
	put_letters("abcde");
	ck_leased("t", "a", 1);
	ck_assert_int_eq(retry("t", "a", 'm', 5000), CPM_OK);
	ck_assert_int_eq(lease_many("t", 2, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "bc");
	ck_assert_int_eq(retry("t", "c", 'u', 3000), CPM_OK);
	ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "b");
	ck_assert_int_eq(delivered("t", "b"), CPM_OK);
	ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_LEASE_WAIT);
	ck_assert_uint_eq(leases[0].wait_ms, 3000);
	/* held and dead ones are passed over */
	ck_assert_int_eq(turn("c", CPM_STATE_HELD, ""), CPM_OK);
	ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "de");
	ck_assert_int_eq(dead_letter("t", "d"), CPM_OK);
	io_queue_set_now(q, T0 + 5000);
	ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "ae");
	ck_assert_uint_eq(leases[0].attempt, 2);
	ck_assert_uint_eq(leases[1].attempt, 1);
	end();
}
END_TEST

START_TEST(many_expired)
{
	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	put_letters("b");
	ck_assert_int_eq(
			put_full(BOB, LIT("c"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	put_letters("d");
	io_queue_set_now(q, T0 + 100);
	ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "bd");
	ck_sums(2, 2 * size_of_one());
	ck_assert_int_eq(bob_n(CPM_KEY_EXPIRED, "LLEN"), 2);
	end();
}
END_TEST

START_TEST(many_lost)
{
	begin();
	put_letters("abc");
	ck_assert_int_eq(lease_many("t1", 3, 100000, 0), CPM_LEASE_OK);
	io_queue_set_now(q, T0 + LEASE_MS);
	lock_expire();
	ck_assert_int_eq(lease_many("t2", 2, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "ab");
	ck_assert_uint_eq(leases[0].attempt, 2);
	/* what nobody took since is the first one's to settle, no other */
	ck_assert_int_eq(delivered("t1", "a"), CPM_ENOENT);
	ck_assert_int_eq(retry("t1", "b", 'r', 5000), CPM_ENOENT);
	ck_assert_str_eq(extend("t1", "abc"), "xxx");
	ck_assert_int_eq(turn("a", CPM_STATE_HELD, "t1"), CPM_EEXIST);
	ck_assert_int_eq(delivered("t1", "c"), CPM_OK);
	ck_assert_str_eq(ids('L'), "ab");
	ck_assert_int_eq(delivered("t2", "a"), CPM_OK);
	ck_assert_int_eq(delivered("t2", "b"), CPM_OK);
	ck_assert_int_eq(release("t2", ""), CPM_OK);
	ck_nothing_left();
	end();
}
END_TEST

START_TEST(settles_many)
{
	struct cpm_settle s[4];
	int rcs[4] = {99, 99, 99, 99};

	begin();
	put_letters("abcd");
	memset(s, 0, sizeof(s));
	for(size_t i = 0; i < 4; i++) {
		s[i].aor = BOB;
		s[i].id = cpm_pl(&"abcd"[i], 1);
		s[i].token = LIT("t");
		s[i].dedup_ms = DEDUP_MS;
	}
	s[1].how = CPM_SETTLE_UNSENT;
	s[2].how = CPM_SETTLE_RETRY;
	s[2].fail_class = CPM_FAIL_REFUSED;
	s[2].retry_in_ms = 700;
	ck_assert_int_eq(lease_many("t", 3, 100000, 0), CPM_LEASE_OK);
	ck_assert_int_eq(io_queue_settle_many(q, s, 4, rcs), CPM_OK);
	ck_assert_int_eq(rcs[0], CPM_OK);
	ck_assert_int_eq(rcs[1], CPM_OK);
	ck_assert_int_eq(rcs[2], CPM_OK);
	ck_assert_int_eq(rcs[3], CPM_ENOENT); /* it was not leased */
	ck_assert_int_eq(io_queue_settle_many(q, s, 4, rcs), CPM_OK);
	for(size_t i = 0; i < 4; i++)
		ck_assert_int_eq(rcs[i], CPM_ENOENT);
	ck_assert_int_eq(io_queue_settle_many(q, s, 0, rcs), CPM_OK);
	ck_assert_str_eq(ids(0), "bcd");
	ck_assert_uint_eq(items[0].attempts, 0);
	ck_assert_uint_eq(items[1].attempts, 1);
	ck_assert_uint_eq(items[1].next_attempt_ms, T0 + 700);
	/* one that cannot be asked for does not leave half a round trip behind */
	s[3].aor = NOBODY;
	ck_assert_int_eq(io_queue_settle_many(q, s, 4, rcs), CPM_EPROTO);
	ck_assert_uint_eq(count(), 3);
	ck_assert_uint_eq(stat_res.queued, 3);
	end();
}
END_TEST

/* ------------------------------------------------------------------- extend */

START_TEST(extends)
{
	begin();
	put_letters("abc");
	ck_assert_str_eq(extend("t", "a"), "x");
	ck_assert_int_eq(bob_n(CPM_KEY_LOCK, "EXISTS"), 0);
	ck_assert_int_eq(lease_many("t", 2, 100000, 0), CPM_LEASE_OK);
	io_queue_set_now(q, T0 + LEASE_MS - 1);
	ck_assert_str_eq(extend("t2", "ab"), "xx");
	ck_assert_str_eq(extend("t", "abcz"), "--xx");
	ck_assert_int_eq(woken(), (int64_t)T0 + 2 * LEASE_MS + 999);
	io_queue_set_now(q, T0 + 2 * LEASE_MS - 2);
	ck_assert_uint_eq(count(), 3);
	ck_assert_uint_eq(stat_res.leased, 2);
	ck_assert_int_eq(lease_many("t2", 2, 100000, 0), CPM_LEASE_BUSY);
	/* too late, but nobody took them: the lock is taken again */
	io_queue_set_now(q, T0 + 9 * LEASE_MS);
	lock_expire();
	ck_assert_str_eq(extend("t", "ab"), "--");
	ck_assert_str_eq(extend("t", "ab"), "--");
	ck_assert_int_eq(lease_many("t2", 2, 100000, 0), CPM_LEASE_BUSY);
	/* attempts are none of its business */
	ck_assert_int_eq(list(0, 9, 'L'), CPM_OK);
	ck_assert_uint_eq(items_n, 2);
	ck_assert_uint_eq(items[0].attempts, 1);
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_str_eq(extend("t", "ab"), "x-");
	ck_assert_int_eq(retry("t", "b", 'm', 10), CPM_OK);
	ck_assert_str_eq(extend("t", "b"), "x");
	ck_assert_uint_eq(count(), 2);
	ck_assert_uint_eq(stat_res.leased, 0);
	/* nothing is on its way, and yet the delivery goes on */
	ck_assert_str_eq(extend("t", ""), "");
	ck_assert_int_eq(lease_many("t2", 2, 100000, 0), CPM_LEASE_BUSY);
	end();
}
END_TEST

START_TEST(extend_keeps_from_expiry)
{
	struct cpm_msg m;

	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	io_queue_set_now(q, T0 + 2 * LEASE_MS);
	ck_assert_uint_eq(count(), 0);
	ck_assert_str_eq(extend("t", "a"), "-");
	ck_assert_uint_eq(count(), 1);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_ENOENT);
	ck_assert_int_eq(retry("t", "a", 'u', 10), CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_OK);
	ck_pl_eq(m.id, "a");
	end();
}
END_TEST

/* --------------------------------------------------------------------- turn */

START_TEST(holds)
{
	begin();
	ck_assert_int_eq(turn("a", CPM_STATE_HELD, ""), CPM_ENOENT);
	put_letters("abc");
	for(int twice = 0; twice < 2; twice++) {
		ck_assert_int_eq(turn("b", CPM_STATE_HELD, ""), CPM_OK);
		ck_assert_uint_eq(count(), 3);
		ck_assert_uint_eq(stat_res.held, 1);
	}
	ck_assert_str_eq(ids('H'), "b");
	ck_assert_uint_eq(items[0].next_attempt_ms, 0);
	ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "ac");
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_int_eq(delivered("t", "c"), CPM_OK);
	ck_assert_int_eq(lease("t", CPM_LEASE_ALL), CPM_LEASE_NONE);
	/* a retransmission is none that is new */
	ck_assert_int_eq(put("b", "x"), CPM_PUT_DUPLICATE);
	io_queue_set_now(q, T0 + 700);
	put_letters("d");
	/* it keeps its place, and goes at once */
	for(int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(turn("b", CPM_STATE_QUEUED, ""), CPM_OK);
	ck_assert_int_eq(woken(), (int64_t)T0 + 700);
	ck_leased("t", "b", 1);
	ck_assert_int_eq(delivered("t", "b"), CPM_OK);
	ck_assert_int_eq(turn("b", CPM_STATE_HELD, ""), CPM_ENOENT);
	ck_assert_int_eq(turn(" sd", CPM_STATE_HELD, ""), CPM_ENOENT);
	ck_assert_int_eq(turn(" b", CPM_STATE_HELD, ""), CPM_ENOENT);
	ck_assert_int_eq(turn("", CPM_STATE_HELD, ""), CPM_ENOENT);
	ck_leased("t", "d", 1);
	ck_assert_int_eq(delivered("t", "d"), CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_nothing_left();
	end();
}
END_TEST

START_TEST(requeues_dead)
{
	begin();
	put_letters("ab");
	ck_leased("t", "a", 1);
	ck_assert_int_eq(dead_letter("t", "a"), CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), 1);
	ck_assert_int_eq(
			turn("a", _i == 0 ? CPM_STATE_QUEUED : CPM_STATE_HELD, ""), CPM_OK);
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), 0);
	ck_assert_uint_eq(count(), 2);
	ck_assert_uint_eq(stat_res.dead, 0);
	ck_assert_uint_eq(stat_res.held, _i == 0 ? 0 : 1);
	if(_i == 1)
		ck_assert_int_eq(turn("a", CPM_STATE_QUEUED, ""), CPM_OK);
	/* as new: attempts are counted from the start */
	ck_leased("t2", "a", 1);
	ck_assert_int_eq(dead_letter("t2", "a"), CPM_OK);
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), 1);
	/* and what is dead is discarded with its index */
	ck_assert_int_eq(discard("a"), CPM_OK);
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), 0);
	ck_sums(1, size_of_one());
	end();
}
END_TEST

START_TEST(turn_waiting)
{
	begin();
	put_letters("ab");
	ck_leased("t", "a", 1);
	ck_assert_int_eq(retry("t", "a", 'u', 50000), CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(lease("t", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	ck_assert_int_eq(turn("a", CPM_STATE_QUEUED, ""), CPM_OK);
	ck_leased("t2", "a", 1);
	end();
}
END_TEST

START_TEST(turn_leased)
{
	begin();
	put_letters("ab");
	ck_leased("t", "a", 1);
	/* on its way it is its holder's alone */
	ck_assert_int_eq(turn("a", CPM_STATE_HELD, ""), CPM_EEXIST);
	ck_assert_int_eq(turn("a", CPM_STATE_QUEUED, "t2"), CPM_EEXIST);
	ck_assert_uint_eq(count(), 2);
	ck_assert_uint_eq(stat_res.leased, 1);
	if(_i == 0) {
		ck_assert_int_eq(turn("a", CPM_STATE_HELD, "t"), CPM_OK);
		ck_assert_int_eq(turn("a", CPM_STATE_HELD, "t"), CPM_OK);
		ck_assert_str_eq(ids('H'), "a");
	} else if(_i == 1) {
		ck_assert_int_eq(turn("a", CPM_STATE_QUEUED, "t"), CPM_OK);
		ck_assert_str_eq(ids('Q'), "ab");
	} else {
		/* its lease ran out, and nobody took it: anybody may */
		io_queue_set_now(q, T0 + LEASE_MS);
		lock_expire();
		ck_assert_int_eq(turn("a", CPM_STATE_HELD, ""), CPM_OK);
		ck_assert_str_eq(ids('H'), "a");
	}
	/* its holder's word, which is late, changes nothing */
	ck_assert_int_eq(delivered("t", "a"), CPM_ENOENT);
	ck_assert_int_eq(retry("t", "a", 'r', 5000), CPM_ENOENT);
	ck_assert_int_eq(dead_letter("t", "a"), CPM_ENOENT);
	ck_assert_str_eq(_i == 2 ? "x" : extend("t", "a"), "x");
	ck_assert_int_eq(
			io_queue_renew(q, BOB, LIT("t"), LIT("a"), LEASE_MS, &lease_res),
			CPM_ENOENT);
	ck_assert_int_eq(release("t", "a"), CPM_OK);
	ck_assert_str_eq(ids('H'), _i == 1 ? "" : "a");
	ck_assert_str_eq(ids('Q'), _i == 1 ? "ab" : "b");
	end();
}
END_TEST

START_TEST(turn_expired)
{
	struct cpm_msg m;

	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	put_letters("c");
	ck_assert_int_eq(turn("b", CPM_STATE_HELD, ""), CPM_OK);
	ck_leased("t", "a", 1);
	io_queue_set_now(q, T0 + 100);
	/* what is kept back expires as well */
	ck_assert_int_eq(turn("b", CPM_STATE_QUEUED, ""), CPM_ENOENT);
	ck_assert_int_eq(discard("b"), CPM_ENOENT);
	ck_assert_uint_eq(count(), 2);
	ck_assert_int_eq(turn("a", CPM_STATE_HELD, "t"), CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_OK);
	ck_pl_eq(m.id, "a");
	ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_OK);
	ck_pl_eq(m.id, "b");
	ck_sums(1, size_of_one());
	end();
}
END_TEST

/* A look without a lock gives nothing back: it was leased nothing. */
START_TEST(release_of_nobody)
{
	begin();
	put_letters("a");
	ck_assert_int_eq(turn("a", CPM_STATE_HELD, ""), CPM_OK);
	ck_assert_int_eq(release("", "a"), CPM_OK);
	ck_assert_str_eq(ids('H'), "a");
	end();
}
END_TEST

/* ------------------------------------------------------- discard and purge */

START_TEST(discards)
{
	begin();
	ck_assert_int_eq(discard("a"), CPM_ENOENT);
	put_letters("abc");
	ck_leased("t", "a", 1);
	ck_assert_int_eq(discard("b"), CPM_OK);
	ck_assert_int_eq(discard("b"), CPM_ENOENT);
	ck_assert_str_eq(ids(0), "ac");
	ck_sums(2, 2 * size_of_one());
	/* on its way it goes as well, and its delivery changes nothing */
	ck_assert_int_eq(discard("a"), CPM_OK);
	ck_assert_int_eq(delivered("t", "a"), CPM_ENOENT);
	ck_assert_int_eq(retry("t", "a", 'u', 5), CPM_ENOENT);
	ck_assert_int_eq(dead_letter("t", "a"), CPM_ENOENT);
	ck_assert_int_eq(release("t", "a"), CPM_OK);
	ck_sums(1, size_of_one());
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), 0);
	/* its retransmission is known, another of that id is told apart */
	ck_assert_int_eq(put("a", "x"), CPM_PUT_GONE);
	ck_assert_int_eq(put("b", "y"), CPM_PUT_CONFLICT);
	ck_assert_int_eq(discard(" sc"), CPM_ENOENT);
	ck_assert_int_eq(discard("c"), CPM_OK);
	ck_nothing_left();
	end();
}
END_TEST

static void put_numbered(int from, int to)
{
	char id[16];

	for(int i = from; i < to; i++) {
		(void)snprintf(id, sizeof(id), "m%d", i);
		ck_assert_int_eq(put(id, "x"), CPM_PUT_QUEUED);
	}
}

START_TEST(purges)
{
	uint64_t upto = 0, removed = 99;

	begin();
	ck_assert_int_eq(io_queue_purge(q, BOB, 10, &upto, &removed), CPM_OK);
	ck_assert_uint_eq(removed, 0);
	ck_assert_uint_eq(upto, 0);
	ck_assert_int_eq(io_queue_purge(q, BOB, 0, &upto, &removed), CPM_EPROTO);
	put_letters("abcdefg");
	ck_leased("t", "a", 1);
	ck_assert_int_eq(dead_letter("t", "a"), CPM_OK);
	ck_leased("t", "b", 1);
	ck_assert_int_eq(turn("c", CPM_STATE_HELD, ""), CPM_OK);
	ck_assert_int_eq(io_queue_purge(q, BOB, 3, &upto, &removed), CPM_OK);
	ck_assert_uint_eq(removed, 3);
	ck_assert_uint_ne(upto, 0);
	ck_assert_str_eq(ids(0), "defg");
	ck_sums(4, 4 * size_of_one());
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), 0);
	ck_assert_int_eq(delivered("t", "b"), CPM_ENOENT);
	/* what comes meanwhile stays; as does a late retransmission: it is new */
	ck_assert_int_eq(put("h", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_purge(q, BOB, 3, &upto, &removed), CPM_OK);
	ck_assert_uint_eq(removed, 3);
	ck_assert_uint_ne(upto, 0);
	ck_assert_int_eq(io_queue_purge(q, BOB, 3, &upto, &removed), CPM_OK);
	ck_assert_uint_eq(removed, 1);
	ck_assert_uint_eq(upto, 0);
	ck_assert_str_eq(ids(0), "hb");
	ck_sums(2, 2 * size_of_one());
	/* a batch that ends exactly with the queue is the last */
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(io_queue_purge(q, BOB, 2, &upto, &removed), CPM_OK);
	ck_assert_uint_eq(removed, 2);
	ck_assert_uint_eq(upto, 0);
	ck_nothing_left();
	end();
}
END_TEST

START_TEST(purge_of_many)
{
	uint64_t upto = 0, removed = 0, all = 0;
	int batches = 0;

	begin();
	put_numbered(0, 20000);
	do {
		ck_assert_int_eq(io_queue_purge(q, BOB, 500, &upto, &removed), CPM_OK);
		ck_assert_uint_le(removed, 500);
		all += removed;
		/* it is being filled meanwhile */
		put_numbered(20000 + batches, 20001 + batches);
		ck_assert_int_lt(++batches, 100);
	} while(upto != 0);
	ck_assert_uint_eq(all, 20000);
	ck_sums((uint64_t)batches,
			(uint64_t)batches * blob_of(BOB, LIT("m20000"), LIT("x"), 0).n);
	ck_assert_int_eq(bob_n(CPM_KEY_M, "HLEN"), batches + 1);
	ck_assert_int_eq(io_queue_purge(q, BOB, 500, &upto, &removed), CPM_OK);
	ck_assert_uint_eq(removed, (uint64_t)batches);
	ck_nothing_left();
	end();
}
END_TEST

/* ------------------------------------------------------ shares and overflow */

static int put_by(const char *sender, const char *id, size_t body_n,
		uint64_t max_messages, uint64_t max_bytes, uint64_t share, bool drop)
{
	static char body[BODY_MAX];
	struct cpm_put p = {.aor = BOB,
			.id = cpm_pl_str(id),
			.sender = cpm_pl_str(sender),
			.max_messages = max_messages,
			.max_bytes = max_bytes,
			.max_per_sender = share,
			.drop_oldest = drop,
			.check_in_ms = 5000};
	int rc;

	memset(body, 'y', sizeof(body));
	p.blob = blob_of(BOB, p.id, cpm_pl(body, body_n), 0);
	rc = io_queue_put(q, &p, &put_res);
	return rc == CPM_OK ? (int)put_res.status : rc;
}

#define ALICE "sip:alice@example.org"
#define CAROL "sip:carol@example.org"

START_TEST(shares)
{
	/* an unknown sender has a share as well: one for all of them */
	const char *who = _i == 0 ? ALICE : "";

	begin();
	ck_assert_int_eq(put_by(who, "a", 1, 9, 0, 2, _i == 1), CPM_PUT_QUEUED);
	ck_assert_int_eq(put_by(CAROL, "b", 1, 9, 0, 2, false), CPM_PUT_QUEUED);
	ck_assert_int_eq(put_by(who, "c", 1, 9, 0, 2, false), CPM_PUT_QUEUED);
	/* whose share is full does not push out others either */
	ck_assert_int_eq(put_by(who, "d", 1, 9, 0, 2, true), CPM_PUT_FULL_SENDER);
	ck_assert_uint_eq(put_res.messages, 3);
	ck_assert_uint_eq(put_res.bytes, 3 * size_of_one());
	ck_assert_uint_eq(put_res.dropped, 0);
	ck_assert_int_eq(put_by(who, "c", 1, 9, 0, 2, false), CPM_PUT_DUPLICATE);
	ck_assert_int_eq(put_by(CAROL, "d", 1, 9, 0, 2, false), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_by(CAROL, "e", 1, 9, 0, 2, false), CPM_PUT_FULL_SENDER);
	ck_assert_int_eq(put_by(CAROL, "e", 1, 9, 0, 3, false), CPM_PUT_QUEUED);
	/* held and leased ones count; what has left does not */
	ck_leased("t", "a", 1);
	ck_assert_int_eq(turn("c", CPM_STATE_HELD, ""), CPM_OK);
	ck_assert_int_eq(put_by(who, "f", 1, 9, 0, 2, false), CPM_PUT_FULL_SENDER);
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_int_eq(put_by(who, "f", 1, 9, 0, 2, false), CPM_PUT_QUEUED);
	ck_assert_str_eq(ids(0), "bcdef");
	ck_sums(5, 5 * size_of_one());
	end();
}
END_TEST

static const char *left_ids(char why)
{
	static char text[64];
	struct cpm_left left[32];
	size_t n = 0;

	ck_assert_int_eq(io_queue_left(q, cpm_queue_shard(BOB), LIT("r"), 32, 1000,
							 left, &n),
			CPM_OK);
	for(size_t i = 0; i < n; i++) {
		ck_pl_same(left[i].aor, BOB);
		ck_assert_int_eq((int)left[i].why, why);
		ck_assert(left[i].readable);
		ck_pl_same(left[i].msg.id, left[i].id);
		text[i] = left[i].id.p[0];
	}
	text[n] = '\0';
	return text;
}

START_TEST(overflows)
{
	begin();
	put_letters("abc");
	ck_assert_int_eq(
			put_by(ALICE, "d", 1, 3, 0, 0, false), CPM_PUT_FULL_MESSAGES);
	ck_assert_int_eq(put_by(ALICE, "d", 1, 3, 0, 0, true), CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.dropped, 1);
	ck_assert_uint_eq(put_res.messages, 3);
	ck_assert_uint_eq(put_res.bytes, 3 * size_of_one());
	ck_assert_str_eq(ids(0), "bcd");
	/* given twice, as after a lost answer, it drops nothing more */
	ck_assert_int_eq(put_by(ALICE, "d", 1, 3, 0, 0, true), CPM_PUT_DUPLICATE);
	ck_assert_str_eq(ids(0), "bcd");
	/* exactly full is not over; one byte less is */
	ck_assert_int_eq(put_by(ALICE, "e", 1, 0, 4 * size_of_one(), 0, true),
			CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.dropped, 0);
	ck_assert_int_eq(put_by(ALICE, "f", 1, 0, 5 * size_of_one() - 1, 0, true),
			CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.dropped, 1);
	ck_assert_str_eq(ids(0), "cdef");
	ck_sums(4, 4 * size_of_one());
	ck_assert_str_eq(left_ids('o'), "ab");
	end();
}
END_TEST

/* What is on its way, or kept, does not make room. */
START_TEST(overflow_spares)
{
	begin();
	put_letters("abcd");
	ck_leased("t", "a", 1);
	ck_assert_int_eq(dead_letter("t", "a"), CPM_OK);
	ck_leased("t", "b", 1);
	ck_assert_int_eq(turn("c", CPM_STATE_HELD, ""), CPM_OK);
	ck_assert_int_eq(put_by(ALICE, "e", 1, 4, 0, 0, true), CPM_PUT_QUEUED);
	ck_assert_str_eq(ids(0), "bcde"); /* the dead went first */
	ck_assert_int_eq(bob_n(CPM_KEY_DEAD, "ZCARD"), 0);
	ck_assert_int_eq(put_by(ALICE, "f", 1, 3, 0, 0, true), CPM_PUT_QUEUED);
	ck_assert_str_eq(ids(0), "bcf");
	ck_assert_int_eq(
			put_by(ALICE, "g", 1, 2, 0, 0, true), CPM_PUT_FULL_MESSAGES);
	/* not enough: nothing is dropped for it */
	ck_assert_str_eq(ids(0), "bcf");
	ck_assert_uint_eq(put_res.dropped, 0);
	ck_assert_int_eq(put_by(ALICE, "g", 400, 0, 3 * size_of_one(), 0, true),
			CPM_PUT_FULL_BYTES);
	ck_assert_str_eq(ids(0), "bcf");
	ck_sums(3, 3 * size_of_one());
	/* nor for one that could never fit */
	ck_assert_int_eq(delivered("t", "b"), CPM_OK);
	ck_assert_int_eq(turn("c", CPM_STATE_QUEUED, ""), CPM_OK);
	ck_assert_int_eq(put_by(ALICE, "g", 400, 0, size_of_one() + 398, 0, true),
			CPM_PUT_FULL_BYTES);
	ck_assert_str_eq(ids(0), "cf");
	ck_assert_int_eq(put_by(ALICE, "g", 400, 0, size_of_one() + 399, 0, true),
			CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.dropped, 2);
	ck_assert_str_eq(ids(0), "g");
	ck_sums(1, size_of_one() + 399);
	end();
}
END_TEST

/* A long queue that becomes a short one by one large message. */
START_TEST(overflow_shrinks)
{
	size_t size = 0;

	begin();
	put_letters("abcdefgh");
	size = 8 * size_of_one();
	ck_assert_int_eq(put_by(ALICE, "i", 8 * size_of_one() - size_of_one() - 50,
							 0, size, 0, true),
			CPM_PUT_QUEUED);
	ck_assert_uint_ge(put_res.dropped, 7);
	size = put_res.bytes;
	ck_sums(put_res.messages, size);
	ck_assert_int_eq(put_by(ALICE, "j", 1, 0, size + size_of_one(), 0, false),
			CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.bytes, size + size_of_one());
	ck_sums(put_res.messages, put_res.bytes);
	end();
}
END_TEST

/* ------------------------------------------------------------------ release */

START_TEST(looks_again)
{
	static const struct
	{
		char fail_class;
		uint64_t late_ms, want_ms;
	} rows[] = {{'u', 0, 1}, {'u', 2499, 1}, {'u', 2500, 5500}, {'u', 8000, 1},
			{'u', 10500, 5500}, {'r', 100000, 28000}, {'u', 3000000, 1096000},
			{'u', 9000000, 3600000}, {'m', 100000, 3600000}};

	begin();
	put_letters("a");
	ck_leased("t", "a", 1);
	ck_assert_int_eq(retry("t", "a", rows[_i].fail_class, 5000), CPM_OK);
	ck_assert_int_eq(
			io_queue_release(q, BOB, LIT("t"), NOBODY, 3600000), CPM_OK);
	/* not due yet: no hurry beyond what was asked for */
	ck_assert_int_eq(woken(), (int64_t)T0 + 3600000);
	io_queue_set_now(q, T0 + 5000 + rows[_i].late_ms);
	ck_assert_int_eq(io_queue_release(q, BOB, NOBODY, NOBODY, 3600000), CPM_OK);
	ck_assert_int_eq(woken(),
			(int64_t)(T0 + 5000 + rows[_i].late_ms + rows[_i].want_ms));
	end();
}
END_TEST

START_TEST(looks_again_not_for_new)
{
	begin();
	put_letters("a");
	io_queue_set_now(q, T0 + 100000);
	ck_assert_int_eq(io_queue_release(q, BOB, NOBODY, NOBODY, 3600000), CPM_OK);
	ck_assert_int_eq(woken(), (int64_t)T0 + 3700000);
	end();
}
END_TEST

/* ------------------------------------------------------------------- damage */

static const char *const broken[] = {"RPUSH %q garbage", "LPUSH %q garbage",
		"LPUSH %q", "HDEL %m b", "HSET %m _b garbage", "HSET %m _b",
		"HSET %m _sb garbage", "HSET %m _sb", "HSET %m _sb Z_1_0_0_-_-_",
		"LPUSH %q x_y_z_w"};

/* One entry is broken: the others are delivered, in order, and the operator
 * can list, count, discard and purge them. */
START_TEST(damage_harms_nobody_else)
{
	uint64_t upto = 0, removed = 0;
	const char *p;

	begin();
	put_letters("abcdef");
	damage(broken[_i]);
	for(int i = 0; i < 2; i++) {
		ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_LEASE_OK);
		p = leased_ids();
		ck_assert_msg(strcmp(p, "abcdef") == 0 || strcmp(p, "acdef") == 0,
				"leased: %s", p);
	}
	p = ids(0);
	ck_assert_msg(strcmp(p, "abcdef") == 0 || strcmp(p, "acdef") == 0,
			"listed: %s", p);
	ck_assert_uint_ge(count(), 5);
	ck_assert_str_eq(extend("t", "ac"), "--");
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_int_eq(turn("c", CPM_STATE_HELD, "t"), CPM_OK);
	ck_assert_int_eq(discard("d"), CPM_OK);
	ck_assert_int_eq(put("g", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put_by(ALICE, "h", 1, 2, 0, 0, true),
			CPM_PUT_FULL_MESSAGES); /* c is held, e and f are on their way */
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(io_queue_purge(q, BOB, 2, &upto, &removed), CPM_OK);
	while(upto != 0)
		ck_assert_int_eq(io_queue_purge(q, BOB, 2, &upto, &removed), CPM_OK);
	ck_assert_uint_eq(count(), 0);
	ck_assert_int_eq(bob_n(CPM_KEY_Q, "EXISTS"), 0);
	ck_assert_int_eq(bob_n(CPM_KEY_M, "EXISTS"), 0);
	ck_assert_int_eq(bob_n(CPM_KEY_USERS, "ZCARD"), 0);
	end();
}
END_TEST

/* A message that nobody can read: those before it are delivered. */
START_TEST(damaged_blob_in_batch)
{
	begin();
	put_letters("abcd");
	damage("HSET %m c garbage");
	ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "ab");
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_int_eq(delivered("t", "b"), CPM_OK);
	ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_EPROTO);
	ck_assert_int_eq(discard("c"), CPM_OK);
	ck_assert_int_eq(lease_many("t", 9, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "d");
	end();
}
END_TEST

/* Every new call, whatever is broken: an answer, and no crash. */
static const char *const wrecks[] = {"SET %q x", "SET %m x", "DEL %m", "DEL %q",
		"HSET %m a garbage", "HSET %m a", "HDEL %m a", "SET %l other",
		"SET %users x", "SET %wake x", "SET %dead x", "SET %expired x",
		"SET %sum x", "HSET %sum n x", "HSET %sum b x", "HSET %sum rt x",
		"SET %jobs x", "SET %job x", "HSET %m _sa garbage",
		"HSET %m _sa L_1_0_0_t_-_", "DEL %users", "RPUSH %expired garbage",
		"RPUSH %expired"};

START_TEST(wrecked)
{
	for(int phase = 0; phase < 3; phase++) {
		struct cpm_pl one = LIT("a"), name = LIT(BOBS " a");
		struct cpm_left left[4];
		struct cpm_job jobs[4];
		bool found = false;
		uint64_t upto = 0, v = 0;
		unsigned shard = cpm_queue_shard(BOB), s0 = 0, s1 = 0;
		struct cpm_claimed users[4];
		struct cpm_pl names[4];
		size_t n = 0;
		int rcs[20], rc_n = 0;

		begin();
		ck_assert_int_eq(put_full(BOB, LIT("a"), LIT("x"), T0 + 100, 0, 0),
				CPM_PUT_QUEUED);
		put_letters("bc");
		if(phase == 1)
			ck_leased("t", "a", 1);
		if(phase == 2)
			io_queue_set_now(q, T0 + 200);
		damage(wrecks[_i]);
		rcs[rc_n++] = lease_many("t", 2, 100000, 0) >= 0 ? CPM_OK : CPM_EPROTO;
		rcs[rc_n++] =
				io_queue_extend(q, BOB, LIT("t"), LEASE_MS, &one, 1, &found);
		rcs[rc_n++] = turn("a", CPM_STATE_HELD, "t");
		rcs[rc_n++] = turn("a", CPM_STATE_QUEUED, "");
		rcs[rc_n++] = io_queue_items(q, &name, 1, items, &found);
		rcs[rc_n++] = io_queue_dead(q, &s0, NOBODY, 4, names, &n);
		rcs[rc_n++] = io_queue_jobs(q, &s1, 0, NOBODY, 4, jobs, &n);
		rcs[rc_n++] =
				put_by(ALICE, "g", 1, 2, 0, 1, true) >= 0 ? CPM_OK : CPM_EPROTO;
		rcs[rc_n++] = io_queue_left(q, shard, LIT("r"), 4, 1000, left, &n);
		rcs[rc_n++] =
				io_queue_left_done(q, BOB, LIT("a"), LIT("r"), CPM_JOB_STORE);
		rcs[rc_n++] = io_queue_flush(q, BOB, CPM_FLUSH_AUTO, NOBODY);
		rcs[rc_n++] =
				io_queue_claim(q, LIT("n1"), &shard, 1, 1000, 4, users, &n, &v);
		rcs[rc_n++] =
				io_queue_discard(q, BOB, LIT("b"), DEDUP_MS, CPM_JOB_STORE);
		rcs[rc_n++] = io_queue_purge(q, BOB, 10, &upto, &v);
		for(int i = 0; i < rc_n; i++)
			ck_assert_msg(rcs[i] == CPM_OK || rcs[i] == CPM_ENOENT
								  || rcs[i] == CPM_EEXIST
								  || rcs[i] == CPM_EPROTO,
					"call %d: %s", i, cpm_rc_name(rcs[i]));
		ck_assert_int_eq(io_queue_ping(q), CPM_OK);
		end();
	}
}
END_TEST

/* A full Redis is emptied, by whatever empties it. */
START_TEST(out_of_memory)
{
	static char body[BODY_MAX];
	struct cpm_left left[4];
	uint64_t upto = 0, removed = 0;
	size_t left_n = 0;
	char id[16];
	int n = 0, rc;

	begin();
	memset(body, 'x', sizeof(body));
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	io_queue_set_now(q, T0 + 100);
	put_letters("bcdefgh");
	ck_assert_int_eq(bob_n(CPM_KEY_EXPIRED, "LLEN"), 1);
	tell("CONFIG SET maxmemory 6mb");
	do {
		(void)snprintf(id, sizeof(id), "m%d", n++);
		rc = put_full(BOB, cpm_pl_str(id), cpm_pl(body, sizeof(body)), 0, 0, 0);
		ck_assert_int_lt(n, 10000);
	} while(rc == CPM_PUT_QUEUED);
	ck_assert_int_eq(rc, CPM_EDOWN);
	tell("CONFIG SET maxmemory 1000000");
	ck_assert_uint_eq(count(), (uint64_t)n - 1 + 7);
	/* the oldest are not dropped for what then cannot be written */
	ck_assert_int_eq(put_by(ALICE, "z", 1, 3, 0, 0, true), CPM_EDOWN);
	ck_assert_uint_eq(count(), (uint64_t)n - 1 + 7);
	ck_assert_int_eq(lease_many("t", 3, 100000, 0), CPM_LEASE_OK);
	ck_assert_str_eq(leased_ids(), "bcd");
	ck_assert_str_eq(extend("t", "bcd"), "---");
	ck_assert_int_eq(turn("b", CPM_STATE_HELD, "t"), CPM_OK);
	ck_assert_int_eq(turn("b", CPM_STATE_QUEUED, ""), CPM_OK);
	ck_assert_int_eq(discard("c"), CPM_OK);
	ck_assert_int_eq(
			io_queue_discard(q, BOB, LIT("d"), DEDUP_MS, CPM_JOB_STORE),
			CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(io_queue_left(q, cpm_queue_shard(BOB), LIT("r"), 4, 1000,
							 left, &left_n),
			CPM_OK);
	ck_assert_uint_eq(left_n, 1);
	ck_assert_int_eq(
			io_queue_left_done(q, BOB, LIT("a"), LIT("r"), CPM_JOB_STORE),
			CPM_OK);
	ck_assert_int_eq(bob_n(CPM_KEY_JOBS, "ZCARD"), 2);
	ck_assert_int_eq(bob_n(CPM_KEY_JOB, "HLEN"), 2);
	ck_assert_int_eq(put("new", "x"), CPM_EDOWN);
	do {
		ck_assert_int_eq(io_queue_purge(q, BOB, 100, &upto, &removed), CPM_OK);
	} while(upto != 0);
	ck_assert_uint_eq(count(), 0);
	tell("CONFIG SET maxmemory 6mb");
	ck_assert_int_eq(put("new", "x"), CPM_PUT_QUEUED);
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_queue_more");

	fu_case(s, "several are leased at once, in order, and settled one by one",
			many_in_order);
	fu_case(s, "a lease of several ends with its bytes", many_bytes);
	fu_case(s, "none, or more than a call may hold, is refused", many_bounds);
	fu_case(s, "a lease of several keeps the order that one has", many_stop);
	fu_case(s, "a lease of several has nothing that expired", many_expired);
	fu_case(s, "several that were lost are another's", many_lost);
	fu_case(s, "several are settled in one round trip", settles_many);
	fu_case(s, "leases are extended by their holder alone", extends);
	fu_case(s, "what is extended does not expire on its way",
			extend_keeps_from_expiry);
	fu_case(s, "what the user keeps is not sent, until it is queued again",
			holds);
	fu_table(s, "a dead letter is queued again as new, or kept", requeues_dead,
			2);
	fu_case(s, "what waits for its retry is sent at once when asked for",
			turn_waiting);
	fu_table(s, "what is on its way is its holder's to turn", turn_leased, 3);
	fu_case(s, "what has expired is nobody's to turn or discard", turn_expired);
	fu_case(s, "a look that took no lock gives nothing back",
			release_of_nobody);
	fu_case(s, "a discarded message is gone, also on its way", discards);
	fu_case(s, "a purge takes what was there when it began", purges);
	fu_case(s, "twenty thousand are purged while more come", purge_of_many);
	fu_table(s, "a sender has his share and no more", shares, 2);
	fu_case(s, "the oldest make room, and are reported", overflows);
	fu_case(s, "what is on its way or kept makes no room", overflow_spares);
	fu_case(s, "a queue that overflow made short has the right sum",
			overflow_shrinks);
	fu_table(s, "a retry that was not made is looked at soon, then more rarely",
			looks_again, 9);
	fu_case(s, "a message that was not tried yet is in no such hurry",
			looks_again_not_for_new);
	fu_table(s, "one broken entry harms no other message",
			damage_harms_nobody_else, FU_N(broken));
	fu_case(s, "a message that cannot be read leaves those before it alone",
			damaged_blob_in_batch);
	fu_table(s, "damage is an answer and no crash", wrecked, FU_N(wrecks));
	fu_case(s, "a full Redis is emptied by turning, discarding and purging",
			out_of_memory);
	return fu_run(s);
}
