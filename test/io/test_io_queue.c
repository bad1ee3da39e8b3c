/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_queue.c - the queue's scripts in a real Redis: a delivery's way.
 *
 * What users, operators and the sweep do: test_io_queue_more.c; what left
 * without delivery, jobs and dead letters: test_io_queue_left.c; any life at
 * all, and two who race: test_io_queue_life.c.
 */

#include "queue_helper.h"

/* -------------------------------------------------------------- a whole life */

START_TEST(life)
{
	begin();
	ck_assert_int_eq(io_queue_ping(q), CPM_OK);
	ck_assert_uint_eq(count(), 0);
	ck_assert_int_eq(lease("t1", CPM_LEASE_ALL), CPM_LEASE_EMPTY);
	ck_assert_int_eq(list(0, 10, 0), CPM_ENOENT);
	ck_assert_int_eq(put("a", "one"), CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.messages, 1);
	ck_assert_int_eq(put("b", "two"), CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.messages, 2);
	ck_assert_uint_eq(count(), 2);
	ck_assert_uint_eq(stat_res.oldest_ms, T0);
	ck_assert_uint_eq(stat_res.newest_ms, T0 + 1); /* one a millisecond */

	ck_leased("t1", "a", 1);
	ck_pl_eq(lease_res.msg.body, "one");
	ck_assert_uint_eq(count(), 2);
	ck_assert_uint_eq(stat_res.leased, 1);
	ck_assert_int_eq(delivered("t1", "a"), CPM_OK);
	ck_leased("t1", "b", 1);
	ck_assert_int_eq(retry("t1", "b", 'r', 5000), CPM_OK);
	ck_assert_int_eq(release("t1", ""), CPM_OK);
	ck_assert_int_eq(lease("t2", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	ck_assert_uint_eq(lease_res.wait_ms, 5000);
	io_queue_set_now(q, T0 + 5000);
	ck_leased("t2", "b", 2);
	ck_assert_int_eq(delivered("t2", "b"), CPM_OK);
	ck_assert_int_eq(lease("t2", CPM_LEASE_WHEN_DUE), CPM_LEASE_EMPTY);
	ck_assert_int_eq(release("t2", ""), CPM_OK);
	ck_assert_uint_eq(count(), 0);
	ck_nothing_left();
	end();
}
END_TEST

START_TEST(fifo)
{
	char id[16];

	begin();
	for(int i = 0; i < 200; i++) {
		(void)snprintf(id, sizeof(id), "m%d", i);
		/* a clock that goes back does not reorder */
		io_queue_set_now(q, T0 + (uint64_t)(i % 7 == 0 ? 0 : i * 10));
		ck_assert_int_eq(put(id, id), CPM_PUT_QUEUED);
	}
	io_queue_set_now(q, T0 + 100000);
	for(int i = 0; i < 200; i++) {
		(void)snprintf(id, sizeof(id), "m%d", i);
		ck_leased("t", id, 1);
		ck_assert_int_eq(delivered("t", id), CPM_OK);
	}
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_nothing_left();
	end();
}
END_TEST

START_TEST(idempotent)
{
	uint64_t bytes;

	begin();
	ck_assert_int_eq(put("a", "one"), CPM_PUT_QUEUED);
	bytes = put_res.bytes;
	ck_assert_int_eq(put("a", "one"), CPM_PUT_DUPLICATE);
	ck_assert_uint_eq(put_res.messages, 1);
	ck_assert_uint_eq(put_res.bytes, bytes);
	ck_assert_int_eq(put("a", "other"), CPM_PUT_CONFLICT);
	ck_assert_uint_eq(count(), 1);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(put("a", "one"), CPM_PUT_DUPLICATE);
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	/* twice settled is counted once */
	ck_assert_int_eq(delivered("t", "a"), CPM_ENOENT);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_nothing_left();
	/* the retransmission that was on its way */
	ck_assert_int_eq(put("a", "one"), CPM_PUT_GONE);
	ck_assert_int_eq(put("a", "other"), CPM_PUT_CONFLICT);
	ck_nothing_left();
	/* another user's message of that id is another message */
	ck_assert_int_eq(put_full(LIT("sip:carol@example.org"), LIT("a"),
							 LIT("one"), 0, 0, 0),
			CPM_PUT_QUEUED);
	tell("DEL %s", key(CPM_KEY_Q, "sip:carol@example.org"));
	/* after a time it is a new one */
	tell("DEL t:{48}:d:sip:bob@example.org:a");
	ck_assert_int_eq(put("a", "one"), CPM_PUT_QUEUED);
	end();
}
END_TEST

START_TEST(dedup_ends)
{
	struct cpm_settle s = {.aor = BOB, .id = LIT("a"), .token = LIT("t")};

	begin();
	ck_assert_int_eq(put("a", "one"), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	s.dedup_ms = _i == 0 ? 0 : 50;
	ck_assert_int_eq(io_queue_settle(q, &s), CPM_OK);
	usleep(100000);
	ck_assert_int_eq(put("a", "one"), CPM_PUT_QUEUED);
	end();
}
END_TEST

START_TEST(quotas)
{
	size_t size;

	begin();
	size = blob_of(BOB, LIT("a"), LIT("12345"), 0).n;
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("12345"), 0, 2, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("12345"), 0, 2, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(put_full(BOB, LIT("c"), LIT("12345"), 0, 2, 0),
			CPM_PUT_FULL_MESSAGES);
	ck_assert_uint_eq(put_res.messages, 2);
	ck_assert_uint_eq(put_res.bytes, 2 * size);
	/* a retransmission is no new message: it fits always */
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("12345"), 0, 2, 1), CPM_PUT_DUPLICATE);
	ck_assert_int_eq(put_full(BOB, LIT("c"), LIT("12345"), 0, 0, 3 * size - 1),
			CPM_PUT_FULL_BYTES);
	ck_assert_int_eq(put_full(BOB, LIT("c"), LIT("12345"), 0, 3, 3 * size),
			CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.bytes, 3 * size);
	ck_assert_uint_eq(count(), 3);
	ck_assert_uint_eq(stat_res.bytes, 3 * size);
	/* what was delivered makes room */
	ck_leased("t", "a", 1);
	ck_assert_int_eq(put_full(BOB, LIT("d"), LIT("12345"), 0, 3, 0),
			CPM_PUT_FULL_MESSAGES);
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_int_eq(
			put_full(BOB, LIT("d"), LIT("12345"), 0, 3, 0), CPM_PUT_QUEUED);
	end();
}
END_TEST

START_TEST(quota_of_one_too_large)
{
	begin();
	ck_assert_int_eq(put_full(BOB, LIT("a"), LIT("12345"), 0, 0, 10),
			CPM_PUT_FULL_BYTES);
	ck_assert_uint_eq(count(), 0);
	ck_assert_int_eq(integer(qask("DBSIZE")), 0);
	end();
}
END_TEST

START_TEST(quota_after_expiry)
{
	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 100, 1, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("x"), 0, 1, 0), CPM_PUT_FULL_MESSAGES);
	io_queue_set_now(q, T0 + 100);
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("x"), 0, 1, 0), CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.messages, 1);
	end();
}
END_TEST

/* ------------------------------------------------------------------ leases */

START_TEST(busy)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_leased("t1", "a", 1);
	ck_assert_int_eq(lease("t2", CPM_LEASE_ALL), CPM_LEASE_BUSY);
	ck_assert_uint_gt(lease_res.wait_ms, LEASE_MS / 2);
	ck_assert_uint_le(lease_res.wait_ms, LEASE_MS);
	/* who does not hold the lock cannot give it back, nor settle */
	ck_assert_int_eq(release("t2", ""), CPM_OK);
	ck_assert_int_eq(release("t2", "a"), CPM_OK);
	ck_assert_int_eq(release("", ""), CPM_OK);
	ck_assert_int_eq(delivered("t2", "a"), CPM_ENOENT);
	ck_assert_int_eq(retry("t2", "a", 'u', 1), CPM_ENOENT);
	ck_assert_int_eq(delivered("t1", "b"), CPM_ENOENT);
	ck_assert_int_eq(delivered("t1", "nothing"), CPM_ENOENT);
	ck_assert_int_eq(lease("t2", CPM_LEASE_ALL), CPM_LEASE_BUSY);
	/* the answer to t1's lease was lost: it gets the same once more, and that
	 * is no new attempt */
	ck_leased("t1", "a", 1);
	ck_assert_int_eq(delivered("t1", "a"), CPM_OK);
	ck_assert_int_eq(lease("t2", CPM_LEASE_ALL), CPM_LEASE_BUSY);
	ck_assert_int_eq(release("t1", ""), CPM_OK);
	ck_leased("t2", "b", 1);
	end();
}
END_TEST

START_TEST(lease_expires)
{
	struct cpm_lease l;

	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_leased("t1", "a", 1);
	io_queue_set_now(q, T0 + LEASE_MS);
	lock_expire();
	ck_assert_uint_eq(count(), 1);
	ck_assert_uint_eq(stat_res.queued, 1);
	ck_leased("t2", "a", 2);
	/* the one that was too slow changes nothing */
	ck_assert_int_eq(delivered("t1", "a"), CPM_ENOENT);
	ck_assert_int_eq(retry("t1", "a", 'r', 5000), CPM_ENOENT);
	ck_assert_int_eq(
			settle_full(BOB, "t1", "a", CPM_SETTLE_DEAD, 'r', 0), CPM_ENOENT);
	ck_assert_int_eq(io_queue_renew(q, BOB, LIT("t1"), LIT("a"), LEASE_MS, &l),
			CPM_ENOENT);
	ck_assert_int_eq(release("t1", "a"), CPM_OK);
	ck_assert_uint_eq(count(), 1);
	ck_assert_uint_eq(stat_res.leased, 1);
	ck_assert_int_eq(delivered("t2", "a"), CPM_OK);
	ck_assert_uint_eq(count(), 0);
	end();
}
END_TEST

START_TEST(lease_expires_by_clock)
{
	struct cpm_lease l;

	/* the same with Redis' own clock throughout */
	begin();
	io_queue_set_now(q, 0);
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			io_queue_lease(q, BOB, LIT("t1"), 300, CPM_LEASE_WHEN_DUE, 0, &l),
			CPM_OK);
	ck_assert_int_eq((int)l.status, CPM_LEASE_OK);
	ck_assert_int_eq(lease("t2", CPM_LEASE_WHEN_DUE), CPM_LEASE_BUSY);
	ck_assert_uint_le(lease_res.wait_ms, 300);
	usleep(400000);
	ck_leased("t2", "a", 2);
	end();
}
END_TEST

START_TEST(settle_late)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_leased("t1", "a", 1);
	io_queue_set_now(q, T0 + 10 * LEASE_MS);
	lock_expire();
	/* nobody took it meanwhile: the client has it, and must not get it again */
	ck_assert_int_eq(delivered("t1", "a"), CPM_OK);
	ck_assert_int_eq(release("t1", ""), CPM_OK);
	ck_nothing_left();
	end();
}
END_TEST

START_TEST(renewed)
{
	struct cpm_lease l;

	begin();
	ck_assert_int_eq(put("a", "body"), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_renew(q, BOB, LIT("t1"), LIT("a"), LEASE_MS, &l),
			CPM_ENOENT);
	ck_leased("t1", "a", 1);
	io_queue_set_now(q, T0 + LEASE_MS - 1);
	ck_assert_int_eq(io_queue_renew(q, BOB, LIT("t2"), LIT("a"), LEASE_MS, &l),
			CPM_ENOENT);
	ck_assert_int_eq(
			io_queue_renew(q, BOB, LIT("t1"), LIT("a"), LEASE_MS, &l), CPM_OK);
	ck_assert_int_eq((int)l.status, CPM_LEASE_OK);
	ck_assert_uint_eq(l.attempt, 1);
	ck_pl_eq(l.msg.body, "body");
	io_queue_set_now(q, T0 + 2 * LEASE_MS - 2);
	ck_assert_uint_eq(count(), 1);
	ck_assert_uint_eq(stat_res.leased, 1);
	/* too late, but nobody took it */
	io_queue_set_now(q, T0 + 5 * LEASE_MS);
	lock_expire();
	ck_assert_int_eq(
			io_queue_renew(q, BOB, LIT("t1"), LIT("a"), LEASE_MS, &l), CPM_OK);
	ck_assert_int_eq(lease("t2", CPM_LEASE_ALL), CPM_LEASE_BUSY);
	ck_assert_int_eq(delivered("t1", "a"), CPM_OK);
	ck_assert_int_eq(io_queue_renew(q, BOB, LIT("t1"), LIT("a"), LEASE_MS, &l),
			CPM_ENOENT);
	end();
}
END_TEST

START_TEST(unsent_is_none)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_leased("t1", "a", 1);
	ck_assert_int_eq(release("t1", "a"), CPM_OK);
	ck_assert_uint_eq(count(), 1);
	ck_assert_uint_eq(stat_res.queued, 1);
	ck_leased("t2", "a", 1);
	ck_assert_int_eq(retry("t2", "a", 'u', 0), CPM_OK);
	ck_assert_int_eq(release("t2", ""), CPM_OK);
	ck_leased("t3", "a", 2);
	ck_assert_int_eq(release("t3", "a"), CPM_OK);
	ck_leased("t4", "a", 2);
	end();
}
END_TEST

/* The worker whose lease was answered by nobody gave the lock back without
 * knowing of the message. */
START_TEST(orphan_keeps_order)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_leased("t1", "a", 1);
	ck_assert_int_eq(release("t1", ""), CPM_OK);
	io_queue_set_now(q, T0 + 1000);
	ck_assert_int_eq(lease("t2", CPM_LEASE_ALL), CPM_LEASE_WAIT);
	ck_assert_uint_eq(lease_res.wait_ms, LEASE_MS - 1000);
	io_queue_set_now(q, T0 + LEASE_MS);
	ck_leased("t2", "a", 2);
	end();
}
END_TEST

START_TEST(forces)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(retry("t", "a", "urm"[_i], 5000), CPM_OK);
	if(_i == 2) {
		/* only this message was refused: the next passes, then all wait */
		ck_leased("t", "b", 1);
		ck_assert_int_eq(retry("t", "b", 'm', 3000), CPM_OK);
		ck_assert_int_eq(lease("t", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
		ck_assert_uint_eq(lease_res.wait_ms, 3000);
	} else {
		ck_assert_int_eq(lease("t", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
		ck_assert_uint_eq(lease_res.wait_ms, 5000);
	}
	ck_assert_int_eq(lease("t", CPM_LEASE_UNREACHABLE),
			_i == 0 ? CPM_LEASE_OK : CPM_LEASE_WAIT);
	if(_i == 2) {
		/* this delivery has had its look at it; the next one takes it */
		ck_assert_int_eq(lease("t", CPM_LEASE_ALL), CPM_LEASE_WAIT);
		ck_assert_int_eq(release("t", ""), CPM_OK);
	}
	ck_assert_int_eq(lease(_i == 2 ? "t2" : "t", CPM_LEASE_ALL), CPM_LEASE_OK);
	ck_pl_eq(lease_res.msg.id, "a");
	ck_assert_uint_eq(lease_res.attempt, 2);
	end();
}
END_TEST

START_TEST(deferred)
{
	struct cpm_put p = {.aor = BOB, .id = LIT("a"), .check_in_ms = 5000};

	begin();
	p.blob = blob_of(BOB, LIT("a"), LIT("x"), 0);
	p.deferred = true;
	ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_OK);
	ck_assert_int_eq((int)put_res.status, CPM_PUT_QUEUED);
	/* its retransmission may come when he wants it at once: it is there */
	p.deferred = false;
	ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_OK);
	ck_assert_int_eq((int)put_res.status, CPM_PUT_DUPLICATE);
	ck_assert_int_eq(lease("t1", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	ck_assert_int_eq(lease("t1", CPM_LEASE_UNREACHABLE), CPM_LEASE_WAIT);
	ck_assert_int_eq(list(0, 10, 0), CPM_OK);
	ck_assert_uint_eq(items[0].next_attempt_ms, 0); /* not the year 9999 */
	ck_assert_int_eq((int)items[0].state, CPM_STATE_QUEUED);
	/* what comes after it passes */
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_leased("t1", "b", 1);
	ck_assert_int_eq(delivered("t1", "b"), CPM_OK);
	/* another client, and that is none for it either: no attempt, and the
	 * same delivery does not look twice */
	ck_assert_int_eq(lease("t1", CPM_LEASE_ALL), CPM_LEASE_OK);
	ck_pl_eq(lease_res.msg.id, "a");
	ck_assert_int_eq(
			settle_full(BOB, "t1", "a", CPM_SETTLE_DEFER, 'd', 0), CPM_OK);
	ck_assert_int_eq(
			settle_full(BOB, "t1", "a", CPM_SETTLE_DEFER, 'd', 0), CPM_ENOENT);
	ck_assert_int_eq(lease("t1", CPM_LEASE_ALL), CPM_LEASE_WAIT);
	ck_assert_int_eq(release("t1", ""), CPM_OK);
	io_queue_set_now(q, T0 + UINT64_C(30) * 86400 * 1000);
	ck_assert_int_eq(lease("t2", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	ck_assert_int_eq(list(0, 10, 0), CPM_OK);
	ck_assert_uint_eq(items[0].attempts, 0);
	ck_assert_int_eq(lease("t2", CPM_LEASE_ALL), CPM_LEASE_OK);
	ck_assert_uint_eq(lease_res.attempt, 1);
	ck_assert_int_eq(delivered("t2", "a"), CPM_OK);
	ck_assert_int_eq(release("t2", ""), CPM_OK);
	ck_nothing_left();
	end();
}
END_TEST

static int put_deferred(const char *id)
{
	struct cpm_pl pl = cpm_pl_str(id);
	struct cpm_put put = {.aor = BOB,
			.id = pl,
			.blob = blob_of(BOB, pl, LIT("x"), 0),
			.check_in_ms = 5000,
			.deferred = true};
	int rc = io_queue_put(q, &put, &put_res);

	return rc == CPM_OK ? (int)put_res.status : rc;
}

static int lease_aged(
		const char *token, enum cpm_lease_force force, uint64_t age_ms)
{
	int rc = io_queue_lease(
			q, BOB, cpm_pl_str(token), LEASE_MS, force, age_ms, &lease_res);

	return rc == CPM_OK ? (int)lease_res.status : rc;
}

START_TEST(deferred_waits)
{
	struct cpm_queue_item item;

	begin();
	ck_assert_int_eq(put_deferred("a"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	/* a refresh does not bring it, and it holds up nobody */
	ck_assert_int_eq(lease("t", CPM_LEASE_UNREACHABLE), CPM_LEASE_OK);
	ck_pl_eq(lease_res.msg.id, "b");
	ck_assert_int_eq(delivered("t", "b"), CPM_OK);
	ck_assert_int_eq(lease("t", CPM_LEASE_UNREACHABLE), CPM_LEASE_WAIT);
	/* and no time is told, for it waits for none */
	ck_assert_int_eq(io_queue_get(q, BOB, LIT("a"), false, &item), CPM_OK);
	ck_assert_int_eq((int)item.state, CPM_STATE_QUEUED);
	ck_assert_uint_eq(item.next_attempt_ms, 0);
	ck_assert_uint_eq(item.attempts, 0);

	/* a client that had registered before the message came does not get it */
	io_queue_set_now(q, T0 + 1000);
	ck_assert_int_eq(lease_aged("t", CPM_LEASE_ALL, 1001), CPM_LEASE_WAIT);
	ck_assert_int_eq(lease_aged("t", CPM_LEASE_ALL, 0), CPM_LEASE_OK);
	ck_pl_eq(lease_res.msg.id, "a");
	ck_assert_uint_eq(lease_res.attempt, 1);
	end();
}
END_TEST

START_TEST(deferred_again)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	io_queue_set_now(q, T0 + 1000);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(
			settle_full(BOB, "t", "a", CPM_SETTLE_DEFER, 'd', 0), CPM_OK);
	/* this delivery passes over it, however it is forced */
	ck_assert_int_eq(lease("t", CPM_LEASE_ALL), CPM_LEASE_OK);
	ck_pl_eq(lease_res.msg.id, "b");
	ck_assert_int_eq(delivered("t", "b"), CPM_OK);
	ck_assert_int_eq(lease("t", CPM_LEASE_ALL), CPM_LEASE_WAIT);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	/* the next one takes it, and it was no attempt */
	ck_assert_int_eq(lease("t2", CPM_LEASE_ALL), CPM_LEASE_OK);
	ck_pl_eq(lease_res.msg.id, "a");
	ck_assert_uint_eq(lease_res.attempt, 1);
	end();
}
END_TEST

START_TEST(due_exactly)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(retry("t", "a", 'r', 5000), CPM_OK);
	ck_assert_int_eq(list(0, 10, 0), CPM_OK);
	ck_assert_uint_eq(items[0].next_attempt_ms, T0 + 5000);
	ck_assert_uint_eq(items[0].attempts, 1);
	ck_pl_eq(items[0].last_error, "486");
	io_queue_set_now(q, T0 + 4999);
	ck_assert_int_eq(lease("t", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	ck_assert_uint_eq(lease_res.wait_ms, 1);
	io_queue_set_now(q, T0 + 5000);
	ck_leased("t", "a", 2);
	end();
}
END_TEST

START_TEST(dead)
{
	struct io_queue_totals t;

	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(
			settle_full(BOB, "t", "a", CPM_SETTLE_DEAD, 'r', 0), CPM_OK);
	ck_assert_int_eq(
			settle_full(BOB, "t", "a", CPM_SETTLE_DEAD, 'r', 0), CPM_ENOENT);
	ck_leased("t", "b", 1);
	ck_assert_int_eq(
			settle_full(BOB, "t", "b", CPM_SETTLE_DEAD, 'm', 0), CPM_OK);
	ck_assert_int_eq(lease("t", CPM_LEASE_ALL), CPM_LEASE_NONE);
	ck_assert_uint_eq(count(), 2);
	ck_assert_uint_eq(stat_res.dead, 2);
	ck_assert_int_eq(io_queue_totals(q, &t), CPM_OK);
	ck_assert_uint_eq(t.dead, 2);
	ck_assert_uint_eq(t.messages, 2);
	ck_assert_uint_eq(t.users, 1);
	ck_assert_int_eq(
			integer(qask("ZCARD %s", key(CPM_KEY_DEAD, "sip:bob@example.org"))),
			2);
	ck_assert_int_eq(list(0, 10, 'D'), CPM_OK);
	ck_assert_uint_eq(items_n, 2);
	end();
}
END_TEST

/* ------------------------------------------------------------------- expiry */

START_TEST(expired_is_unseen)
{
	struct cpm_msg m;
	struct cpm_queue_item item;
	unsigned shard = cpm_queue_shard(BOB);

	begin();
	ck_assert_int_eq(put_full(BOB, LIT("a"), LIT("\0\n\xff"), T0 + 100, 0, 0),
			CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("x"), T0 + 200, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("c", "x"), CPM_PUT_QUEUED);
	io_queue_set_now(q, T0 + 99);
	ck_assert_uint_eq(count(), 3);
	io_queue_set_now(q, T0 + 100);
	/* nobody has swept yet */
	ck_assert_uint_eq(count(), 2);
	ck_assert_uint_eq(stat_res.oldest_ms, T0 + 1);
	ck_assert_int_eq(list(0, 10, 0), CPM_OK);
	ck_assert_uint_eq(items_n, 2);
	ck_pl_eq(items[0].msg.id, "b");
	ck_assert_int_eq(io_queue_get(q, BOB, LIT("a"), true, &item), CPM_ENOENT);
	ck_assert_int_eq(expired_next(shard, &m), CPM_ENOENT);
	io_queue_set_now(q, T0 + 250);
	ck_leased("t", "c", 1);
	/* both are reported, in order, whole, once */
	ck_assert_int_eq(expired_next(shard, &m), CPM_OK);
	ck_pl_eq(m.id, "a");
	ck_pl_same(m.body, LIT("\0\n\xff"));
	ck_assert_int_eq(expired_next(shard, &m), CPM_OK);
	ck_pl_eq(m.id, "b");
	ck_assert_int_eq(expired_next(shard, &m), CPM_ENOENT);
	ck_assert_int_eq(expired_next(CPM_QUEUE_SHARDS, &m), CPM_EPROTO);
	ck_assert_uint_eq(count(), 1);
	end();
}
END_TEST

START_TEST(all_expired)
{
	begin();
	for(int i = 0; i < 5; i++) {
		char id[4] = {'m', (char)('0' + i), '\0'};
		ck_assert_int_eq(
				put_full(BOB, cpm_pl_str(id), LIT("x"), T0 + 100, 0, 0),
				CPM_PUT_QUEUED);
	}
	io_queue_set_now(q, T0 + 100);
	ck_assert_uint_eq(count(), 0);
	if(_i == 0)
		ck_assert_int_eq(lease("t", CPM_LEASE_ALL), CPM_LEASE_EMPTY);
	else
		ck_assert_int_eq(release("", ""), CPM_OK);
	tell("DEL %s", key(CPM_KEY_EXPIRED, "sip:bob@example.org"));
	ck_nothing_left();
	end();
}
END_TEST

START_TEST(expires_in_flight)
{
	struct cpm_msg m;
	unsigned shard = cpm_queue_shard(BOB);

	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 1000, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	io_queue_set_now(q, T0 + 2000);
	/* on its way it counts, and is not taken out */
	ck_assert_uint_eq(count(), 2);
	ck_assert_int_eq(put("c", "x"), CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.messages, 3);
	ck_assert_int_eq(expired_next(shard, &m), CPM_ENOENT);
	if(_i == 0) {
		ck_assert_int_eq(delivered("t", "a"), CPM_OK);
		ck_assert_int_eq(release("t", ""), CPM_OK);
		ck_assert_int_eq(expired_next(shard, &m), CPM_ENOENT);
	} else {
		/* it was not taken: it is out, at the next look and not when the
		 * lease would have ended */
		if(_i == 1)
			ck_assert_int_eq(retry("t", "a", 'u', 5000), CPM_OK);
		if(_i == 2)
			ck_assert_int_eq(
					settle_full(BOB, "t", "a", CPM_SETTLE_DEAD, 'u', 0),
					CPM_OK);
		ck_assert_uint_eq(count(), _i == 3 ? 3 : 2);
		ck_assert_int_eq(release("t", _i == 3 ? "a" : ""), CPM_OK);
		ck_assert_int_eq(expired_next(shard, &m), CPM_OK);
		ck_pl_eq(m.id, "a");
		ck_assert_int_eq(integer(qask("ZCARD %s",
								 key(CPM_KEY_DEAD, "sip:bob@example.org"))),
				0);
	}
	ck_assert_uint_eq(count(), 2);
	ck_leased("t2", "b", 1);
	end();
}
END_TEST

START_TEST(expires_after_lost_lease)
{
	struct cpm_msg m;

	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 1000, 0, 0), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	io_queue_set_now(q, T0 + 2000);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	/* the worker died: taken out when its lease ends, not before */
	io_queue_set_now(q, T0 + LEASE_MS - 1);
	ck_assert_int_eq(put("c", "x"), CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.messages, 3);
	io_queue_set_now(q, T0 + LEASE_MS);
	lock_expire();
	ck_leased("t2", "b", 1);
	ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_OK);
	ck_pl_eq(m.id, "a");
	ck_assert_int_eq(delivered("t", "a"), CPM_ENOENT);
	end();
}
END_TEST

/* --------------------------------------------------------------------- wake */

static int64_t wake(void)
{
	return number(qask("ZSCORE %s sip:bob@example.org",
			key(CPM_KEY_WAKE, "sip:bob@example.org")));
}

static size_t claim(uint64_t claim_ms, size_t limit)
{
	struct cpm_pl users[IO_QUEUE_PAGE_MAX];
	size_t n = 99;

	ck_assert_int_eq(
			claim_one(cpm_queue_shard(BOB), claim_ms, limit, users, &n),
			CPM_OK);
	if(n == 1)
		ck_pl_same(users[0], BOB);
	return n;
}

START_TEST(wakes)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(wake(), (int64_t)T0 + 5000);
	/* a second message does not put it off */
	io_queue_set_now(q, T0 + 1000);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(wake(), (int64_t)T0 + 5000);
	/* one that expires sooner is looked at sooner */
	ck_assert_int_eq(
			put_full(BOB, LIT("c"), LIT("x"), T0 + 3000, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(wake(), (int64_t)T0 + 3000);
	ck_assert_uint_eq(claim(30000, 10), 0);
	io_queue_set_now(q, T0 + 3000);
	ck_assert_uint_eq(claim(30000, 0), 0);
	ck_assert_uint_eq(claim(30000, 10), 1);
	/* it is mine now */
	ck_assert_uint_eq(claim(30000, 10), 0);
	ck_assert_int_eq(wake(), (int64_t)T0 + 33000);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(wake(), (int64_t)T0 + 3000 + LEASE_MS + 1000);
	ck_assert_int_eq(retry("t", "a", 'u', 5000), CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(wake(), (int64_t)T0 + 3000 + 5000);
	/* nobody is registered: a look that takes no lock plans the next */
	ck_assert_int_eq(
			io_queue_release(q, BOB, CPM_PL_NULL, CPM_PL_NULL, 3600000),
			CPM_OK);
	ck_assert_int_eq(wake(), (int64_t)T0 + 3000 + 3600000);
	/* but not while another is at it */
	ck_assert_int_eq(lease("t2", CPM_LEASE_ALL), CPM_LEASE_OK);
	ck_assert_int_eq(
			io_queue_release(q, BOB, CPM_PL_NULL, CPM_PL_NULL, 3600000),
			CPM_OK);
	ck_assert_int_le(wake(), (int64_t)T0 + 3000 + LEASE_MS + 1000);
	end();
}
END_TEST

START_TEST(claims_in_order)
{
	struct cpm_pl users[IO_QUEUE_PAGE_MAX];
	size_t n = 0, found = 0;
	char aor[64], first[64] = "";

	begin();
	/* users of one shard, in whatever order their names are */
	for(int i = 0; found < 20; i++) {
		(void)snprintf(aor, sizeof(aor), "sip:u%d@example.org", i);
		if(cpm_queue_shard(cpm_pl_str(aor)) != 5)
			continue;
		io_queue_set_now(q, T0 + found);
		ck_assert_int_eq(put_full(cpm_pl_str(aor), LIT("a"), LIT("x"), 0, 0, 0),
				CPM_PUT_QUEUED);
		if(found++ == 0)
			memcpy(first, aor, sizeof(first));
	}
	io_queue_set_now(q, T0 + 10000);
	ck_assert_int_eq(claim_one(5, 30000, 7, users, &n), CPM_OK);
	ck_assert_uint_eq(n, 7);
	ck_pl_eq(users[0], first);
	ck_assert_int_eq(claim_one(5, 30000, 100, users, &n), CPM_OK);
	ck_assert_uint_eq(n, 13);
	ck_assert_int_eq(claim_one(5, 30000, 100, users, &n), CPM_OK);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(claim_one(64, 30000, 100, users, &n), CPM_EPROTO);
	end();
}
END_TEST

/* -------------------------------------------------------------------- lists */

START_TEST(pages_whole)
{
	char id[16];
	unsigned seen[100] = {0};
	uint64_t after = 0, pages = 0;

	begin();
	for(int i = 0; i < 100; i++) {
		(void)snprintf(id, sizeof(id), "m%02d", i);
		io_queue_set_now(q, T0 + (uint64_t)(i / 3));
		ck_assert_int_eq(put(id, "x"), CPM_PUT_QUEUED);
	}
	do {
		ck_assert_int_eq(list(after, 7, 0), CPM_OK);
		for(size_t i = 0; i < items_n; i++) {
			ck_assert_uint_gt(items[i].seq, after);
			after = items[i].seq;
			seen[number_in(items[i].msg.id)]++;
			ck_assert_uint_eq(items[i].msg.body.n, 0);
			ck_assert_uint_eq(items[i].msg.body_len, 1);
		}
		if(items_next != 0) {
			ck_assert_uint_eq(items_next, after);
			/* the oldest goes out between two pages, and one comes in */
			ck_assert_int_eq(lease("t", CPM_LEASE_ALL), CPM_LEASE_OK);
			cpm_pl_cstr(lease_res.msg.id, id, sizeof(id));
			ck_assert_int_eq(delivered("t", id), CPM_OK);
		}
		pages++;
	} while(items_next != 0);
	ck_assert_uint_eq(pages, 15);
	for(int i = 0; i < 100; i++)
		ck_assert_uint_eq(seen[i], 1);
	/* the cursor's own message is gone as well: what is behind it stays */
	ck_assert_int_eq(list(after, 7, 0), CPM_OK);
	ck_assert_uint_eq(items_n, 0);
	ck_assert_uint_eq(items_next, 0);
	ck_assert_int_eq(list(UINT64_MAX, 7, 0), CPM_OK);
	ck_assert_uint_eq(items_n, 0);
	end();
}
END_TEST

START_TEST(page_ends_exactly)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(list(0, 1, 0), CPM_OK);
	ck_assert_uint_eq(items_n, 1);
	ck_assert_uint_eq(items_next, items[0].seq);
	ck_assert_int_eq(list(0, 2, 0), CPM_OK);
	ck_assert_uint_eq(items_n, 2);
	ck_assert_uint_eq(items_next, 0);
	ck_assert_int_eq(list(0, 100000, 0), CPM_OK);
	ck_assert_uint_eq(items_n, 2);
	end();
}
END_TEST

START_TEST(list_by_state)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("c", "x"), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(
			settle_full(BOB, "t", "a", CPM_SETTLE_DEAD, 'r', 0), CPM_OK);
	ck_leased("t", "b", 1);
	ck_assert_int_eq(list(0, 10, 'D'), CPM_OK);
	ck_assert_uint_eq(items_n, 1);
	ck_pl_eq(items[0].msg.id, "a");
	ck_assert_int_eq((int)items[0].state, CPM_STATE_DEAD);
	ck_assert_uint_eq(items[0].next_attempt_ms, 0);
	ck_assert_int_eq(list(0, 10, 'L'), CPM_OK);
	ck_assert_uint_eq(items_n, 1);
	ck_pl_eq(items[0].msg.id, "b");
	ck_assert_int_eq(list(0, 10, 'Q'), CPM_OK);
	ck_assert_uint_eq(items_n, 1);
	ck_pl_eq(items[0].msg.id, "c");
	ck_assert_int_eq(list(0, 10, 'H'), CPM_OK);
	ck_assert_uint_eq(items_n, 0);
	ck_assert_uint_eq(items_next, 0);
	ck_assert_int_eq(list(0, 10, 0), CPM_OK);
	ck_assert_uint_eq(items_n, 3);
	end();
}
END_TEST

START_TEST(gets)
{
	struct cpm_queue_item item;

	begin();
	ck_assert_int_eq(io_queue_get(q, BOB, LIT("a"), true, &item), CPM_ENOENT);
	ck_assert_int_eq(put("a", "one"), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_get(q, BOB, LIT("a"), true, &item), CPM_OK);
	ck_pl_eq(item.msg.body, "one");
	ck_assert_uint_eq(item.seq, T0);
	ck_assert_int_eq((int)item.state, CPM_STATE_QUEUED);
	ck_assert_int_eq(io_queue_get(q, BOB, LIT("a"), false, &item), CPM_OK);
	ck_assert_uint_eq(item.msg.body.n, 0);
	ck_assert_uint_eq(item.msg.body_len, 3);
	/* the fields that are no messages are nobody's ids */
	ck_assert_int_eq(io_queue_get(q, BOB, LIT(" b"), true, &item), CPM_ENOENT);
	ck_assert_int_eq(io_queue_get(q, BOB, LIT(" sa"), true, &item), CPM_ENOENT);
	ck_assert_int_eq(io_queue_get(q, BOB, LIT(""), true, &item), CPM_ENOENT);
	ck_assert_int_eq(io_queue_get(q, BOB, LIT("b"), true, &item), CPM_ENOENT);
	ck_assert_int_eq(
			io_queue_get(q, CPM_PL_NULL, LIT("a"), true, &item), CPM_EPROTO);
	end();
}
END_TEST

static void put_user(int i)
{
	char aor[64];

	(void)snprintf(aor, sizeof(aor), "sip:u%03d@example.org", i);
	ck_assert_int_eq(put_full(cpm_pl_str(aor), LIT("a"), LIT("x"), 0, 0, 0),
			CPM_PUT_QUEUED);
}

/* Walks through all pages; seen counts each user of put_user. */
static unsigned users_walk(
		const char *prefix, size_t limit, unsigned *seen, bool churn)
{
	struct cpm_pl users[64];
	struct cpm_queue_stat stats[64];
	struct cpm_pl after = CPM_PL_NULL;
	unsigned shard = 0, total = 0;
	size_t n = 0;

	do {
		ck_assert_int_eq(io_queue_users(q, &shard, after, cpm_pl_str(prefix),
								 limit, users, &n),
				CPM_OK);
		ck_assert_uint_le(n, limit);
		/* the names are still good behind the pipelined numbers */
		ck_assert_int_eq(io_queue_stats(q, users, n, stats), CPM_OK);
		for(size_t i = 0; i < n; i++) {
			ck_assert_uint_eq(stats[i].messages, 1);
			ck_assert(cpm_pl_starts(users[i], cpm_pl_str(prefix)));
			seen[number_in(users[i])]++;
		}
		total += (unsigned)n;
		ck_assert(n == limit || shard == CPM_QUEUE_SHARDS);
		if(n > 0)
			after = users[n - 1];
		if(churn && shard < CPM_QUEUE_SHARDS) {
			/* the user under the cursor goes away, a message comes */
			char gone[64];
			cpm_pl_cstr(after, gone, sizeof(gone));
			tell("ZREM %s %s", key(CPM_KEY_USERS, gone), gone);
		}
	} while(shard < CPM_QUEUE_SHARDS);
	return total;
}

START_TEST(users_paged)
{
	static const size_t limits[] = {1, 2, 7, 64};
	unsigned seen[300];
	struct io_queue_totals t;

	begin();
	for(int i = 0; i < 300; i++)
		put_user(i);
	for(size_t l = 0; l < FU_N(limits); l++) {
		memset(seen, 0, sizeof(seen));
		ck_assert_uint_eq(users_walk("", limits[l], seen, false), 300);
		for(int i = 0; i < 300; i++)
			ck_assert_uint_eq(seen[i], 1);
		memset(seen, 0, sizeof(seen));
		ck_assert_uint_eq(users_walk("sip:u12", limits[l], seen, false), 10);
		for(int i = 120; i < 130; i++)
			ck_assert_uint_eq(seen[i], 1);
		ck_assert_uint_eq(users_walk("sip:u299@", limits[l], seen, false), 1);
		ck_assert_uint_eq(users_walk("tel:", limits[l], seen, false), 0);
		ck_assert_uint_eq(users_walk("z", limits[l], seen, false), 0);
	}
	ck_assert_int_eq(io_queue_totals(q, &t), CPM_OK);
	ck_assert_uint_eq(t.users, 300);
	ck_assert_uint_eq(t.messages, 300);
	ck_assert_uint_eq(t.bytes, 300
									   * blob_of(LIT("sip:u000@example.org"),
											   LIT("a"), LIT("x"), 0)
												 .n);
	memset(seen, 0, sizeof(seen));
	ck_assert_uint_eq(users_walk("", 7, seen, true), 300);
	for(int i = 0; i < 300; i++)
		ck_assert_uint_eq(seen[i], 1);
	end();
}
END_TEST

START_TEST(users_odd)
{
	struct cpm_pl list_[4];
	char long_name[CPM_AOR_MAX + 1];
	unsigned shard = 0;
	size_t n = 99;

	begin();
	ck_assert_int_eq(
			io_queue_users(q, &shard, CPM_PL_NULL, CPM_PL_NULL, 4, list_, &n),
			CPM_OK);
	ck_assert_uint_eq(n, 0);
	ck_assert_uint_eq(shard, CPM_QUEUE_SHARDS);
	ck_assert_int_eq(
			io_queue_users(q, &shard, CPM_PL_NULL, CPM_PL_NULL, 4, list_, &n),
			CPM_OK);
	ck_assert_uint_eq(n, 0);
	memset(long_name, 'x', sizeof(long_name));
	shard = 0;
	ck_assert_int_eq(io_queue_users(q, &shard, cpm_pl(long_name, CPM_AOR_MAX),
							 cpm_pl(long_name, CPM_AOR_MAX), 4, list_, &n),
			CPM_OK);
	shard = 0;
	ck_assert_int_eq(
			io_queue_users(q, &shard, cpm_pl(long_name, CPM_AOR_MAX + 1),
					CPM_PL_NULL, 4, list_, &n),
			CPM_EPROTO);
	/* characters that would mean something in a pattern or a range */
	ck_assert_int_eq(put_full(LIT("sip:*[a-z]?(\\@example.org"), LIT("a"),
							 LIT("x"), 0, 0, 0),
			CPM_PUT_QUEUED);
	shard = 0;
	ck_assert_int_eq(
			io_queue_users(q, &shard, CPM_PL_NULL, LIT("sip:*["), 4, list_, &n),
			CPM_OK);
	ck_assert_uint_eq(n, 1);
	shard = 0;
	ck_assert_int_eq(
			io_queue_users(q, &shard, CPM_PL_NULL, LIT("sip:a"), 4, list_, &n),
			CPM_OK);
	ck_assert_uint_eq(n, 0);
	end();
}
END_TEST

START_TEST(stats_many)
{
	struct cpm_pl users[3] = {
			BOB, LIT("sip:nobody@example.org"), LIT("sip:carol@example.org")};
	struct cpm_queue_stat stats[3];

	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(users[2], LIT("a"), LIT("x"), 0, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_stats(q, users, 3, stats), CPM_OK);
	ck_assert_uint_eq(stats[0].messages, 2);
	ck_assert_uint_eq(stats[1].messages, 0);
	ck_assert_uint_eq(stats[2].messages, 1);
	ck_assert_int_eq(io_queue_stats(q, users, 0, stats), CPM_OK);
	users[1] = CPM_PL_NULL;
	ck_assert_int_eq(io_queue_stats(q, users, 3, stats), CPM_EPROTO);
	end();
}
END_TEST

/* ---------------------------------------------------------- odd characters */

START_TEST(any_body)
{
	char body[BODY_MAX];

	begin();
	for(size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)(unsigned char)(i * 7 + i / 256);
	for(size_t n = 0; n <= sizeof(body); n = n * 2 + 1) {
		ck_assert_int_eq(
				put_full(BOB, LIT("a"), cpm_pl(body, n), T0 + 3600000, 0, 0),
				CPM_PUT_QUEUED);
		ck_leased("t", "a", 1);
		ck_pl_same(lease_res.msg.body, cpm_pl(body, n));
		ck_assert_int_eq(delivered("t", "a"), CPM_OK);
		tell("DEL t:{48}:d:sip:bob@example.org:a");
	}
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_nothing_left();
	end();
}
END_TEST

static const char *const odd_ids[] = {"%d", "%", "^.*$", "[a]", "(a", "a)",
		"a:b", "{0}", "}{", "\"a\"", "\\", "a\\nb", "-", "~", "0", "1e15", "b",
		"sa", "*", "?", "ok", "a%%b", "<a@b>", ",;|"};

START_TEST(odd_id)
{
	const char *id = odd_ids[_i];
	struct cpm_queue_item item;
	struct cpm_lease l;

	begin();
	ck_assert_int_eq(put("first", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put(id, "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put(id, "x"), CPM_PUT_DUPLICATE);
	ck_leased("t", "first", 1);
	ck_assert_int_eq(retry("t", "first", 'm', 5000), CPM_OK);
	ck_leased("t", id, 1);
	ck_assert_int_eq(
			io_queue_renew(q, BOB, LIT("t"), cpm_pl_str(id), LEASE_MS, &l),
			CPM_OK);
	ck_assert_int_eq(retry("t", id, 'u', 10), CPM_OK);
	ck_assert_int_eq(io_queue_get(q, BOB, cpm_pl_str(id), true, &item), CPM_OK);
	ck_pl_eq(item.msg.id, id);
	io_queue_set_now(q, T0 + 10);
	ck_leased("t", id, 2);
	ck_assert_int_eq(
			settle_full(BOB, "t", id, CPM_SETTLE_DEAD, 'u', 0), CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(list(0, 10, 'D'), CPM_OK);
	ck_assert_uint_eq(items_n, 1);
	end();
}
END_TEST

static const char *const odd_aors[] = {"sip:%7Ba%7D@example.org",
		"sip:a%20b@example.org", "sip:(a)*.!~'&=+$,;?/@example.org",
		"tel:+15551234", "tel:7;phone-context=example.org",
		"tel:*21#;phone-context=+1", "sip:b@[2001:db8::1]",
		"sip:%00@example.org", "sip:users@x", "sip:%25d@x"};

START_TEST(odd_aor)
{
	struct cpm_pl aor = cpm_pl_str(odd_aors[_i]), users[2];
	struct cpm_lease l;
	struct cpm_queue_stat st;
	struct cpm_msg m;
	unsigned shard = 0;
	size_t n = 0;

	begin();
	ck_assert_int_eq(
			put_full(aor, LIT("a"), LIT("x"), 0, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(aor, LIT("b"), LIT("x"), T0 + 10, 0, 0), CPM_PUT_QUEUED);
	io_queue_set_now(q, T0 + 10);
	ck_assert_int_eq(
			io_queue_lease(q, aor, LIT("t"), LEASE_MS, CPM_LEASE_ALL, 0, &l),
			CPM_OK);
	ck_pl_same(l.msg.aor, aor);
	ck_assert_int_eq(
			settle_full(aor, "t", "a", CPM_SETTLE_DEAD, 'u', 0), CPM_OK);
	ck_assert_int_eq(
			io_queue_release(q, aor, LIT("t"), CPM_PL_NULL, 0), CPM_OK);
	ck_assert_int_eq(io_queue_stat(q, aor, &st), CPM_OK);
	ck_assert_uint_eq(st.dead, 1);
	ck_assert_int_eq(expired_next(cpm_queue_shard(aor), &m), CPM_OK);
	ck_pl_same(m.aor, aor);
	ck_assert_int_eq(
			io_queue_users(q, &shard, CPM_PL_NULL, aor, 2, users, &n), CPM_OK);
	ck_assert_uint_eq(n, 1);
	ck_pl_same(users[0], aor);
	end();
}
END_TEST

/* Lua's numbers become 1e+15 where nobody looks. */
START_TEST(far_future)
{
	static const uint64_t times[] = {UINT64_C(99999999999999),
			UINT64_C(999999999999999), UINT64_C(1000000000000000),
			UINT64_C(4000000000000000), UINT64_C(9007199254000000)};
	uint64_t now = times[_i];

	begin();
	io_queue_set_now(q, now);
	ck_assert_int_eq(put_full(BOB, LIT("a"), LIT("x"), now + 100000, 0, 0),
			CPM_PUT_QUEUED);
	ck_assert_int_eq(wake(), (int64_t)now + 5000);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(wake(), (int64_t)now + LEASE_MS + 1000);
	ck_assert_int_eq(retry("t", "a", 'r', 3600000), CPM_OK);
	ck_assert_int_eq(list(0, 10, 0), CPM_OK);
	ck_assert_uint_eq(items[0].seq, now);
	ck_assert_uint_eq(items[0].next_attempt_ms, now + 3600000);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_int_eq(wake(), (int64_t)now + 5000);
	ck_assert_uint_eq(claim(30000, 10), 0);
	io_queue_set_now(q, now + 5000);
	ck_assert_uint_eq(claim(30000, 10), 1);
	ck_assert_uint_eq(count(), 1);
	ck_assert_uint_eq(stat_res.newest_ms, now);
	ck_assert_int_eq(lease("t", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	ck_assert_uint_eq(lease_res.wait_ms, 3595000);
	io_queue_set_now(q, now + 100000);
	ck_assert_uint_eq(count(), 0);
	end();
}
END_TEST

START_TEST(bytes_beyond_2_31)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	/* as if three gigabytes were there */
	tell("HSET %s n 1000000 b 3000000000",
			key(CPM_KEY_SUM, "sip:bob@example.org"));
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_int_eq(
			number(qask("HGET %s b", key(CPM_KEY_SUM, "sip:bob@example.org"))),
			INT64_C(3000000000));
	ck_assert_int_eq(
			number(qask("HGET %s n", key(CPM_KEY_SUM, "sip:bob@example.org"))),
			1000000);
	end();
}
END_TEST

/* ------------------------------------------------------------------- damage */

/* Every call, on a queue that somebody's hand has been in: no crash, and no
 * message lost that can still be read. */
static void all_calls(void)
{
	struct cpm_lease l;
	struct cpm_msg m;
	struct cpm_queue_item item;
	struct cpm_queue_stat st;
	struct cpm_pl users[8];
	struct io_queue_totals t;
	unsigned shard = 0, own = cpm_queue_shard(BOB);
	size_t n = 0;
	int rcs[20], rc_n = 0;

	rcs[rc_n++] = io_queue_stat(q, BOB, &st);
	rcs[rc_n++] = list(0, 10, 0);
	rcs[rc_n++] = list(T0, 10, 'Q');
	rcs[rc_n++] = io_queue_get(q, BOB, LIT("a"), true, &item);
	rcs[rc_n++] = io_queue_get(q, BOB, LIT("b"), false, &item);
	rcs[rc_n++] =
			io_queue_users(q, &shard, CPM_PL_NULL, CPM_PL_NULL, 8, users, &n);
	rcs[rc_n++] = io_queue_totals(q, &t);
	rcs[rc_n++] = claim_one(own, 1000, 8, users, &n);
	rcs[rc_n++] = expired_next(own, &m);
	rcs[rc_n++] =
			io_queue_lease(q, BOB, LIT("t"), LEASE_MS, CPM_LEASE_ALL, 0, &l);
	rcs[rc_n++] = io_queue_renew(q, BOB, LIT("t"), LIT("a"), LEASE_MS, &l);
	rcs[rc_n++] = retry("t", "a", 'u', 1000);
	rcs[rc_n++] =
			io_queue_lease(q, BOB, LIT("t"), LEASE_MS, CPM_LEASE_ALL, 0, &l);
	rcs[rc_n++] = delivered("t", "a");
	rcs[rc_n++] = release("t", "b");
	rcs[rc_n++] = put("c", "x") >= 0 ? CPM_OK : CPM_EPROTO;
	for(int i = 0; i < rc_n; i++)
		ck_assert_msg(rcs[i] == CPM_OK || rcs[i] == CPM_ENOENT
							  || rcs[i] == CPM_EPROTO,
				"call %d: %s", i, cpm_rc_name(rcs[i]));
	ck_assert_ptr_nonnull(io_queue_error(q));
}

static const char *const damages[] = {"SET %q x", "SET %m x", "DEL %m",
		"DEL %q", "HDEL %m a", "HDEL %m b", "HSET %m a garbage", "HSET %m a",
		"RPUSH %q garbage", "LPUSH %q garbage", "LPUSH %q", "LPUSH %q 1",
		"LPUSH %q x_y_z", "HSET %m _b garbage", "HSET %m _b", "HDEL %m _b",
		"HSET %m _b -5_-5", "HSET %m _sa garbage", "HSET %m _sa",
		"HSET %m _sa Z_1_0_0_-_-_", "HSET %m _sa L_1_0_0_t_-_",
		"HSET %m _sa Q_9999999999999999999999_0_0_-_u_", "LPUSH %l x",
		"SET %l other", "SET %l", "SET %users x", "SET %wake x", "SET %dead x",
		"SET %expired x", "RPUSH %expired garbage", "RPUSH %expired",
		"SET %sum x", "HSET %sum n x", "HSET %sum b x", "ZADD %wake 0 garbage",
		"ZADD %wake -inf sip:bob@example.org",
		"ZADD %wake inf sip:bob@example.org", "DEL %users", "DEL %wake",
		"LPUSH %q 99999999999999999999_0_a"};

START_TEST(damaged)
{
	/* in every phase of a delivery */
	for(int phase = 0; phase < 4; phase++) {
		begin();
		ck_assert_int_eq(put_full(BOB, LIT("a"), LIT("x"), T0 + 100, 0, 0),
				CPM_PUT_QUEUED);
		ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
		if(phase >= 1)
			ck_leased("t", "a", 1);
		if(phase == 2)
			ck_assert_int_eq(
					settle_full(BOB, "t", "a", CPM_SETTLE_DEAD, 'r', 0),
					CPM_OK);
		if(phase == 3)
			io_queue_set_now(q, T0 + LEASE_MS);
		damage(damages[_i]);
		all_calls();
		io_queue_set_now(q, T0 + 200 + LEASE_MS);
		all_calls();
		end();
	}
}
END_TEST

/* A message that is damaged does not take down the sum of the others, nor
 * does it stop what is expired from going. */
START_TEST(damaged_blob_expires)
{
	struct cpm_msg m;

	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(BOB, LIT("c"), LIT("x"), T0 + 100, 0, 0), CPM_PUT_QUEUED);
	damage("HDEL %m b");
	io_queue_set_now(q, T0 + 100);
	ck_assert_int_eq(put("d", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_OK);
	ck_pl_eq(m.id, "a");
	ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_OK);
	ck_pl_eq(m.id, "c");
	ck_leased("t", "d", 1);
	ck_assert_int_eq(
			number(qask("HGET %s n", key(CPM_KEY_SUM, "sip:bob@example.org"))),
			2); /* b is counted still: it is in the list */
	end();
}
END_TEST

/* A put that is refused because an index is damaged has written nothing: its
 * repetition must not find it queued. */
START_TEST(damaged_index_refuses)
{
	static const char *const rows[] = {
			"SET %users x", "SET %wake x", "SET %sum x"};

	begin();
	damage(rows[_i]);
	ck_assert_int_eq(put("a", "x"), CPM_EPROTO);
	ck_assert_int_eq(put("a", "x"), CPM_EPROTO);
	ck_assert_int_eq(
			integer(qask("LLEN %s", key(CPM_KEY_Q, "sip:bob@example.org"))), 0);
	end();
}
END_TEST

START_TEST(error_is_of_this_call)
{
	struct cpm_queue_stat st;
	struct cpm_pl bob = BOB;

	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), 0, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_stat(q, CPM_PL_NULL, &st), CPM_EPROTO);
	redis_kill(&server);
	ck_assert_int_lt(io_queue_stats(q, &bob, 1, &st), 0);
	ck_assert_str_ne(
			io_queue_error(q), "a script gave an answer of an unknown shape");
	end();
}
END_TEST

/* A full Redis is emptied by delivering what is in it. */
START_TEST(out_of_memory)
{
	static char body[BODY_MAX];
	struct cpm_lease l;
	struct cpm_msg m;
	char id[16];
	int n = 0, rc;

	begin();
	memset(body, 'x', sizeof(body));
	tell("CONFIG SET maxmemory 6mb");
	ck_assert_int_eq(put_full(BOB, LIT("old"), LIT("x"), T0 + 100, 0, 0),
			CPM_PUT_QUEUED);
	do {
		(void)snprintf(id, sizeof(id), "m%d", n++);
		rc = put_full(BOB, cpm_pl_str(id), cpm_pl(body, sizeof(body)), 0, 0, 0);
		ck_assert_int_lt(n, 10000);
	} while(rc == CPM_PUT_QUEUED);
	/* nothing was written: the sender may try again, and is told so */
	ck_assert_int_eq(rc, CPM_EDOWN);
	ck_assert_uint_eq(count(), (uint64_t)n);
	tell("CONFIG SET maxmemory 1000000");
	ck_leased("t", "old", 1);
	ck_assert_int_eq(
			io_queue_renew(q, BOB, LIT("t"), LIT("old"), LEASE_MS, &l), CPM_OK);
	ck_assert_int_eq(retry("t", "old", 'u', 1000), CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	io_queue_set_now(q, T0 + 10000);
	ck_assert_uint_eq(claim(30000, 10), 1);
	/* what has expired goes as well */
	ck_leased("t", "m0", 1);
	ck_assert_int_eq(expired_next(cpm_queue_shard(BOB), &m), CPM_OK);
	ck_assert_int_eq(delivered("t", "m0"), CPM_OK);
	ck_assert_int_eq(put("new", "x"), CPM_EDOWN);
	tell("CONFIG SET maxmemory 6mb");
	for(int i = 1; i < 100; i++) {
		(void)snprintf(id, sizeof(id), "m%d", i);
		ck_leased("t", id, 1);
		ck_assert_int_eq(delivered("t", id), CPM_OK);
	}
	ck_assert_int_eq(put("new", "x"), CPM_PUT_QUEUED);
	end();
}
END_TEST

/* -------------------------------------------------------------------- large */

#define LARGE 20000

START_TEST(large_queue)
{
	struct cpm_queue_item item;
	struct io_queue_totals t;
	struct cpm_msg m;
	uint64_t after = 0;
	size_t seen = 0;
	char id[16];

	begin();
	for(int i = 0; i < LARGE; i++) {
		(void)snprintf(id, sizeof(id), "m%d", i);
		ck_assert_int_eq(put_full(BOB, cpm_pl_str(id), LIT("x"),
								 T0 + 1000000 + (uint64_t)(i % 10), 0, 0),
				CPM_PUT_QUEUED);
	}
	ck_assert_uint_eq(put_res.messages, LARGE);
	for(int i = 0; i < 50; i++) {
		(void)snprintf(id, sizeof(id), "m%d", i);
		ck_leased("t", id, 1);
		ck_assert_int_eq(delivered("t", id), CPM_OK);
	}
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_uint_eq(count(), LARGE - 50);
	/* one that waits alone makes no difference to the others */
	ck_leased("t", "m50", 1);
	ck_assert_int_eq(retry("t", "m50", 'm', 10000), CPM_OK);
	ck_leased("t", "m51", 1);
	ck_assert_int_eq(delivered("t", "m51"), CPM_OK);
	ck_assert_uint_eq(count(), LARGE - 51);
	do {
		ck_assert_int_eq(list(after, IO_QUEUE_PAGE_MAX, 0), CPM_OK);
		seen += items_n;
		after = items_next;
	} while(after != 0);
	ck_assert_uint_eq(seen, LARGE - 51);
	/* a filter that finds nothing scans in bounded steps */
	seen = 0;
	do {
		ck_assert_int_eq(list(after, 10, 'D'), CPM_OK);
		ck_assert_uint_eq(items_n, 0);
		after = items_next;
		seen++;
	} while(after != 0);
	ck_assert_uint_eq(seen, 4);
	(void)snprintf(id, sizeof(id), "m%d", LARGE - 1);
	ck_assert_int_eq(io_queue_get(q, BOB, cpm_pl_str(id), true, &item), CPM_OK);
	/* all expire at once: unseen at once, taken out in steps */
	io_queue_set_now(q, T0 + 2000000);
	ck_assert_uint_eq(count(), 0);
	for(int i = 0; i < LARGE / 256 + 2; i++)
		ck_assert_int_eq(
				io_queue_release(q, BOB, LIT("t"), CPM_PL_NULL, 5000), CPM_OK);
	ck_assert_int_eq(io_queue_totals(q, &t), CPM_OK);
	ck_assert_uint_eq(t.messages, 0);
	ck_assert_uint_eq(t.users, 0);
	for(seen = 0; expired_next(cpm_queue_shard(BOB), &m) == CPM_OK;)
		seen++;
	ck_assert_uint_eq(seen, LARGE - 51);
	ck_nothing_left();
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_queue");

	fu_case(s, "a queue's whole life leaves nothing behind", life);
	fu_case(s, "first in, first out, whatever the clock does", fifo);
	fu_case(s, "a message is queued once, and known after its delivery",
			idempotent);
	fu_table(s, "a delivered message is forgotten after its time", dedup_ends,
			2);
	fu_case(s, "quotas hold exactly", quotas);
	fu_case(s, "a message over the quota by itself leaves nothing behind",
			quota_of_one_too_large);
	fu_case(s, "what has expired makes room", quota_after_expiry);
	fu_case(s, "one delivery at a time", busy);
	fu_case(s, "a lease that ran out returns by itself", lease_expires);
	fu_case(s, "it does so by Redis' clock", lease_expires_by_clock);
	fu_case(s, "a late settle counts if nobody took the message", settle_late);
	fu_case(s, "a lease is renewed by its holder alone", renewed);
	fu_case(s, "what was not sent is no attempt", unsent_is_none);
	fu_case(s, "a message that is leased by nobody is not passed by the next",
			orphan_keeps_order);
	fu_table(s, "who waits for a retry, and what ends it", forces, 3);
	fu_case(s, "a deferred message waits for a client that registers later",
			deferred_waits);
	fu_case(s, "what no client of now is to have is no attempt",
			deferred_again);
	fu_case(s, "a deferred message waits for another client, and is passed",
			deferred);
	fu_case(s, "a retry is due exactly then", due_exactly);
	fu_case(s, "the dead are seen, counted and left alone", dead);
	fu_case(s, "what has expired is neither seen nor sent, and reported once",
			expired_is_unseen);
	fu_table(s, "a queue that expired leaves nothing behind", all_expired, 2);
	fu_table(s, "what expires in flight is dealt with when it comes back",
			expires_in_flight, 4);
	fu_case(s, "what expires in the hands of a dead worker is taken out",
			expires_after_lost_lease);
	fu_case(s, "the next look is planned", wakes);
	fu_case(s, "whoever waits longest is claimed first", claims_in_order);
	fu_case(s, "pages miss nothing and repeat nothing", pages_whole);
	fu_case(s, "a page that ends with the list is the last", page_ends_exactly);
	fu_case(s, "a list by state", list_by_state);
	fu_case(s, "one message, with and without its body", gets);
	fu_case(s, "users in pages, over all shards, by prefix", users_paged);
	fu_case(s, "odd cursors and prefixes", users_odd);
	fu_case(s, "numbers of many users in one round trip", stats_many);
	fu_case(s, "any bytes are a body", any_body);
	fu_table(s, "any visible characters are an id", odd_id, FU_N(odd_ids));
	fu_table(s, "any canonical address is a user", odd_aor, FU_N(odd_aors));
	fu_table(s, "large numbers stay whole", far_future, 5);
	fu_case(s, "sums beyond 2^31", bytes_beyond_2_31);
	fu_table(s, "damage is an error and no crash", damaged, FU_N(damages));
	fu_case(s, "a lost blob does not stop the others from expiring",
			damaged_blob_expires);
	fu_table(s, "a put that a damaged index refuses wrote nothing",
			damaged_index_refuses, 3);
	fu_case(s, "an error tells of the call that failed", error_is_of_this_call);
	fu_case(s, "a full Redis is emptied by delivering", out_of_memory);
	fu_case(s, "twenty thousand messages of one user", large_queue);
	return fu_run(s);
}
