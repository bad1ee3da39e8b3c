/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/* A flush that is asked for anywhere reaches every node, once. */

#include "queue_helper.h"

#define NONE CPM_PL_NULL

/* What a node's next claim says of bob: a mode; CPM_FLUSH_NONE; -1: it is not
 * given him. */
static int claimed(const char *node)
{
	unsigned shard = cpm_queue_shard(BOB);
	struct cpm_claimed users[8];
	uint64_t left;
	size_t n = 0;

	ck_assert_int_eq(io_queue_claim(q, cpm_pl_str(node), &shard, 1, 30000, 8,
							 users, &n, &left),
			CPM_OK);
	ck_assert_uint_le(n, 1);
	if(n == 0)
		return -1;
	ck_pl_eq(users[0].aor, BOBS);
	return (int)users[0].flush;
}

static void flushed(enum cpm_flush mode, const char *node)
{
	ck_assert_int_eq(io_queue_flush(q, BOB, mode, cpm_pl_str(node)), CPM_OK);
}

static uint64_t wakes_at(void)
{
	return (uint64_t)number(
			qask("ZSCORE %s %s", key(CPM_KEY_WAKE, BOBS), BOBS));
}

START_TEST(modes)
{
	static const struct
	{
		const char *word;
		int mode;
	} all[] = {{"", CPM_FLUSH_AUTO}, {"auto", CPM_FLUSH_AUTO},
			{"push", CPM_FLUSH_PUSH}, {"notify", CPM_FLUSH_NOTIFY},
			{"Push", -1}, {"pushy", -1}, {"p", -1}, {"auto ", -1}};
	enum cpm_flush mode;

	for(size_t i = 0; i < FU_N(all); i++) {
		mode = CPM_FLUSH_NONE;
		int rc = cpm_flush_parse(cpm_pl_str(all[i].word), &mode);
		ck_assert_int_eq(rc, all[i].mode < 0 ? CPM_EPROTO : CPM_OK);
		ck_assert_int_eq((int)mode, all[i].mode < 0 ? 0 : all[i].mode);
	}
}
END_TEST

START_TEST(nothing_queued)
{
	begin();
	ck_assert_int_eq(io_queue_flush(q, BOB, CPM_FLUSH_PUSH, NONE), CPM_ENOENT);
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 1000, 0, 0), CPM_PUT_QUEUED);
	io_queue_set_now(q, T0 + 1000);
	/* what has expired is nothing, and is taken out */
	ck_assert_int_eq(io_queue_flush(q, BOB, CPM_FLUSH_PUSH, NONE), CPM_ENOENT);
	ck_assert_uint_eq(count(), 0);
	end();
}
END_TEST

START_TEST(all_nodes_get_it_once)
{
	static const enum cpm_flush all[] = {
			CPM_FLUSH_AUTO, CPM_FLUSH_PUSH, CPM_FLUSH_NOTIFY};

	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(claimed("n0"), -1);
	for(size_t i = 0; i < FU_N(all); i++) {
		uint64_t at = T0 + 10000 * i;
		io_queue_set_now(q, at);
		flushed(all[i], "");
		ck_assert_int_eq(claimed("n1"), (int)all[i]);
		ck_assert_int_eq(claimed("n1"), -1);
		/* that one had no client: its look is over before the other's */
		ck_assert_int_eq(io_queue_release(q, BOB, NONE, NONE, 3600000), CPM_OK);
		ck_assert_int_eq(claimed("n1"), -1);
		io_queue_set_now(q, at + 1001);
		ck_assert_int_eq(claimed("n2"), (int)all[i]);
		ck_assert_int_eq(claimed("n2"), -1);
		ck_assert_int_eq(claimed("n"), (int)all[i]);
		/* it ends: whoever comes first plans the next look */
		io_queue_set_now(q, at + 2500);
		ck_assert_int_eq(claimed("n2"), CPM_FLUSH_NONE);
		ck_assert_int_eq(claimed("n1"), -1);
		ck_assert_int_eq(io_queue_release(q, BOB, NONE, NONE, 3600000), CPM_OK);
		ck_assert_uint_eq(wakes_at(), at + 2500 + 3600000);
	}
	end();
}
END_TEST

START_TEST(the_node_that_asks_looks_by_itself)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	flushed(CPM_FLUSH_PUSH, "n1");
	ck_assert_int_eq(claimed("n1"), -1);
	ck_assert_int_eq(claimed("n2"), CPM_FLUSH_PUSH);
	/* asked for again is another flush */
	flushed(CPM_FLUSH_NOTIFY, "");
	ck_assert_int_eq(claimed("n1"), CPM_FLUSH_NOTIFY);
	ck_assert_int_eq(claimed("n2"), CPM_FLUSH_NOTIFY);
	end();
}
END_TEST

START_TEST(what_waits_is_due)
{
	begin();
	ck_assert_int_eq(put("gone", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("held", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("tired", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("other", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("new", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(lease("t1", CPM_LEASE_ALL), CPM_LEASE_OK);
	ck_assert_int_eq(
			settle_full(BOB, "t1", "gone", CPM_SETTLE_DEAD, 'm', 0), CPM_OK);
	ck_assert_int_eq(release("t1", ""), CPM_OK);
	ck_assert_int_eq(
			io_queue_turn(q, BOB, LIT("held"), CPM_STATE_HELD, NONE), CPM_OK);
	ck_assert_int_eq(lease("t2", CPM_LEASE_ALL), CPM_LEASE_OK);
	ck_pl_eq(lease_res.msg.id, "tired");
	ck_assert_int_eq(
			settle_full(BOB, "t2", "tired", CPM_SETTLE_RETRY, 'r', 3600000),
			CPM_OK);
	ck_assert_int_eq(release("t2", ""), CPM_OK);
	ck_assert_int_eq(lease("t3", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	flushed(CPM_FLUSH_PUSH, "");
	/* in order, with the attempts and the error that it had */
	ck_assert_int_eq(lease("t3", CPM_LEASE_WHEN_DUE), CPM_LEASE_OK);
	ck_pl_eq(lease_res.msg.id, "tired");
	ck_assert_uint_eq(lease_res.attempt, 2);
	/* what is on its way is left alone, and so are the others */
	flushed(CPM_FLUSH_PUSH, "");
	ck_assert_int_eq(list(0, 10, 0), CPM_OK);
	ck_assert_uint_eq(items_n, 5);
	ck_assert_int_eq(items[0].state, CPM_STATE_DEAD);
	ck_assert_int_eq(items[1].state, CPM_STATE_HELD);
	ck_assert_int_eq(items[2].state, CPM_STATE_LEASED);
	/* refused again it waits: one flush is one attempt */
	ck_assert_int_eq(
			settle_full(BOB, "t3", "tired", CPM_SETTLE_RETRY, 'r', 3600000),
			CPM_OK);
	ck_assert_int_eq(release("t3", ""), CPM_OK);
	ck_assert_int_eq(lease("t4", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	end();
}
END_TEST

START_TEST(a_deferred_one_is_due_until_it_is_deferred_again)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(lease("t1", CPM_LEASE_ALL), CPM_LEASE_OK);
	ck_assert_int_eq(
			settle_full(BOB, "t1", "a", CPM_SETTLE_DEFER, 'd', 0), CPM_OK);
	ck_assert_int_eq(release("t1", ""), CPM_OK);
	ck_assert_int_eq(lease("t2", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	flushed(CPM_FLUSH_AUTO, "");
	ck_assert_int_eq(lease("t2", CPM_LEASE_WHEN_DUE), CPM_LEASE_OK);
	ck_assert_int_eq(
			settle_full(BOB, "t2", "a", CPM_SETTLE_DEFER, 'd', 0), CPM_OK);
	ck_assert_int_eq(release("t2", ""), CPM_OK);
	ck_assert_int_eq(lease("t3", CPM_LEASE_WHEN_DUE), CPM_LEASE_WAIT);
	end();
}
END_TEST

/* So many that a shard takes no more; later it does, and forgets the old. */
START_TEST(bounded)
{
	unsigned shard = cpm_queue_shard(BOB);
	size_t done = 0, refused = 0;

	begin();
	for(int i = 0; done + refused < 300; i++) {
		char aor[64];
		(void)snprintf(aor, sizeof(aor), "sip:u%d@example.org", i);
		struct cpm_pl user = cpm_pl_str(aor);
		if(cpm_queue_shard(user) != shard)
			continue;
		ck_assert_int_eq(
				put_full(user, LIT("a"), LIT("x"), 0, 0, 0), CPM_PUT_QUEUED);
		int rc = io_queue_flush(q, user, CPM_FLUSH_PUSH, NONE);
		if(rc == CPM_OK)
			done++;
		else {
			ck_assert_int_eq(rc, CPM_ELIMIT);
			refused++;
		}
	}
	ck_assert_uint_gt(done, 200);
	ck_assert_uint_gt(refused, 0);
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_flush(q, BOB, CPM_FLUSH_PUSH, NONE), CPM_ELIMIT);
	io_queue_set_now(q, T0 + 2500);
	flushed(CPM_FLUSH_PUSH, "");
	ck_assert_int_le(integer(qask("HLEN %s", key(CPM_KEY_SUM, BOBS))), 5);
	end();
}
END_TEST

/* Those that a node has had hide nobody from it. */
START_TEST(nobody_is_hidden)
{
	unsigned shard = cpm_queue_shard(BOB);
	struct cpm_claimed users[8];
	uint64_t left;
	size_t n = 0;

	begin();
	for(int i = 0, made = 0; made < 40; i++) {
		char aor[64];
		(void)snprintf(aor, sizeof(aor), "sip:u%d@example.org", i);
		struct cpm_pl user = cpm_pl_str(aor);
		if(cpm_queue_shard(user) != shard)
			continue;
		made++;
		ck_assert_int_eq(
				put_full(user, LIT("a"), LIT("x"), 0, 0, 0), CPM_PUT_QUEUED);
		ck_assert_int_eq(
				io_queue_flush(q, user, CPM_FLUSH_PUSH, LIT("n1")), CPM_OK);
	}
	io_queue_set_now(q, T0 + 1);
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_release(q, BOB, NONE, NONE, 0), CPM_OK);
	ck_assert_int_eq(
			io_queue_claim(q, LIT("n1"), &shard, 1, 30000, 2, users, &n, &left),
			CPM_OK);
	ck_assert_uint_eq(n, 1);
	ck_pl_eq(users[0].aor, BOBS);
	ck_assert_int_eq(
			io_queue_claim(q, LIT("n2"), &shard, 1, 30000, 2, users, &n, &left),
			CPM_OK);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq((int)users[0].flush, CPM_FLUSH_PUSH);
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_queue_flush");

	fu_case(s, "modes by name", modes);
	fu_case(s, "an empty queue is told apart", nothing_queued);
	fu_case(s, "every node gets it, once", all_nodes_get_it_once);
	fu_case(s, "but the one that looks by itself",
			the_node_that_asks_looks_by_itself);
	fu_case(s, "what waits is due, once", what_waits_is_due);
	fu_case(s, "what is deferred as well",
			a_deferred_one_is_due_until_it_is_deferred_again);
	fu_case(s, "so many at a time, and no more", bounded);
	fu_case(s, "those that a node has had hide nobody from it",
			nobody_is_hidden);
	return fu_run(s);
}
