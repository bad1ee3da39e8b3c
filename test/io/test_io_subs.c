/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_subs.c - subscriptions in Redis: who is owed what, and until when.
 */

#include "queue_helper.h"

#include "io_subs.h"

#define HOUR_MS UINT64_C(3600000)
#define CLAIM_MS 65000
#define NODE LIT("a1.b1")

static struct cpm_subs_due due[CPM_SUBS_TAKE_MAX];
static size_t due_n;
static char record_buf[CPM_SUBS_RECORD_MAX];
static struct cpm_pl record;
static uint64_t left_ms;

static void start(void)
{
	struct cpm_subs_record r = {LIT("message-summary;id=7"),
			LIT("sip:bob@example.org"), LIT("sip:bob@example.org"),
			LIT("<sip:192.0.2.9;lr>")};
	struct cpm_wr w;

	begin();
	io_queue_set_now(q, T0);
	io_queue_set_now(q2, T0);
	cpm_wr_init(&w, record_buf, sizeof(record_buf));
	ck_assert_int_eq(cpm_subs_record_put(&r, &w), CPM_OK);
	record = cpm_wr_pl(&w);
}

static void at(uint64_t ms)
{
	io_queue_set_now(q, T0 + ms);
	io_queue_set_now(q2, T0 + ms);
}

static int put_as(const char *tag, bool initial, uint32_t cseq,
		uint64_t expires_ms, const char *dialog, const char *way)
{
	struct io_subs_put p = {.aor = BOB,
			.tag = cpm_pl_str(tag),
			.initial = initial,
			.cseq = cseq,
			.expires_ms = expires_ms,
			.dialog = cpm_pl_str(dialog),
			.way = cpm_pl_str(way),
			.record = initial ? record : CPM_PL_NULL};

	left_ms = 77;
	return io_subs_put(q, &p, &left_ms);
}

static int subscribe(const char *tag, uint64_t expires_ms)
{
	return put_as(tag, true, 1, expires_ms, "call tag-a 7",
			"sip:bob@192.0.2.1 - udp:192.0.2.2:5060");
}

static int refresh(const char *tag, uint32_t cseq, uint64_t expires_ms)
{
	return put_as(tag, false, cseq, expires_ms, "call tag-a 7",
			"sip:bob@192.0.2.3 sip:192.0.2.4:99 -");
}

static size_t take_as(struct io_queue *by, struct cpm_pl node, uint64_t hash)
{
	due_n = 99;
	ck_assert_int_eq(
			io_subs_take(by, BOB, hash, CLAIM_MS, node, due, &due_n), CPM_OK);
	return due_n;
}

static size_t take(uint64_t hash)
{
	return take_as(q, NODE, hash);
}

static int settle(const char *tag, uint32_t cseq, enum cpm_subs_answer a)
{
	return io_subs_settle(q, BOB, cpm_pl_str(tag), cseq, a);
}

static bool exists(void)
{
	bool there[2];
	struct cpm_pl users[2] = {LIT("sip:nobody@example.org"), BOB};

	ck_assert_int_eq(io_subs_exist(q, users, 2, there), CPM_OK);
	ck_assert(!there[0]);
	return there[1];
}

static void ck_gone(void)
{
	ck_assert_int_eq(integer(qask("DBSIZE")), 0);
}

/* Users of bob's shard whose time has come. */
static size_t look(uint64_t *next_ms_r)
{
	struct cpm_pl users[IO_SUBS_DUE_MAX];
	unsigned shard = cpm_queue_shard(BOB);
	size_t n = 0;

	ck_assert_int_eq(io_subs_due(q, &shard, 1, CLAIM_MS, IO_SUBS_DUE_MAX, users,
							 &n, next_ms_r),
			CPM_OK);
	if(n > 0)
		ck_pl_eq(users[0], BOBS);
	return n;
}

START_TEST(a_new_subscription_is_owed_the_state)
{
	uint64_t next;

	start();
	ck_assert(!exists());
	ck_assert_int_eq(subscribe("t1", HOUR_MS), CPM_OK);
	ck_assert_uint_eq(left_ms, HOUR_MS);
	ck_assert(exists());
	ck_assert_uint_eq(look(&next), 1);
	ck_assert_uint_eq(take(1), 1);
	ck_pl_eq(due[0].tag, "t1");
	ck_assert_int_eq(due[0].owed, CPM_SUBS_STATE);
	ck_assert_uint_eq(due[0].left_ms, HOUR_MS);
	ck_pl_eq(due[0].call_id, "call");
	ck_pl_eq(due[0].remote_tag, "tag-a");
	ck_pl_eq(due[0].target, "sip:bob@192.0.2.1");
	ck_assert_uint_eq(due[0].received.n, 0);
	ck_pl_eq(due[0].socket, "udp:192.0.2.2:5060");
	ck_pl_eq(due[0].record.event, "message-summary;id=7");
	ck_pl_eq(due[0].record.routes, "<sip:192.0.2.9;lr>");
	end();
}
END_TEST

START_TEST(what_is_being_told_is_taken_by_nobody_else)
{
	uint32_t cseq;

	start();
	subscribe("t1", HOUR_MS);
	ck_assert_uint_eq(take(1), 1);
	cseq = due[0].cseq;
	ck_assert_uint_eq(take(1), 0);
	ck_assert_uint_eq(take_as(q2, LIT("a2.b9"), 1), 0);
	ck_assert_int_eq(settle("t1", cseq, CPM_SUBS_TAKEN), CPM_OK);
	ck_assert_uint_eq(take(1), 0);
	ck_assert_uint_eq(take(2), 1);
	ck_assert_uint_gt(due[0].cseq, cseq);
	end();
}
END_TEST

START_TEST(a_change_while_it_is_told_is_told_after_it)
{
	uint32_t cseq;

	start();
	subscribe("t1", HOUR_MS);
	ck_assert_uint_eq(take(1), 1);
	cseq = due[0].cseq;
	ck_assert_uint_eq(take(2), 0);
	ck_assert_int_eq(settle("t1", cseq, CPM_SUBS_TAKEN), CPM_EAGAIN);
	ck_assert_uint_eq(take(2), 1);
	ck_assert_int_eq(settle("t1", due[0].cseq, CPM_SUBS_TAKEN), CPM_OK);
	ck_assert_uint_eq(take(2), 0);
	end();
}
END_TEST

START_TEST(who_dies_with_it_is_followed_by_the_next)
{
	uint64_t next;

	start();
	subscribe("t1", HOUR_MS);
	ck_assert_uint_eq(look(&next), 1);
	ck_assert_uint_eq(take(1), 1);
	ck_assert_uint_eq(look(&next), 0);
	ck_assert_uint_eq(next, CLAIM_MS);
	/* another node waits until the claim is over */
	at(CLAIM_MS - 1);
	ck_assert_uint_eq(take_as(q2, LIT("a2.b9"), 1), 0);
	/* the same node, started again, does not */
	ck_assert_uint_eq(take_as(q2, LIT("a1.b2"), 1), 1);
	at(2 * CLAIM_MS);
	ck_assert_uint_eq(look(&next), 1);
	ck_assert_uint_eq(take_as(q2, LIT("a2.b9"), 1), 1);
	end();
}
END_TEST

START_TEST(a_refresh_is_owed_the_state_by_its_new_way)
{
	uint32_t cseq;

	start();
	subscribe("t1", HOUR_MS);
	take(1);
	cseq = due[0].cseq;
	/* while the first NOTIFY has no answer */
	at(1000);
	ck_assert_int_eq(refresh("t1", 2, 2 * HOUR_MS), CPM_OK);
	ck_assert_uint_eq(left_ms, 2 * HOUR_MS);
	ck_assert_uint_eq(take(1), 1);
	ck_assert_uint_gt(due[0].cseq, cseq);
	ck_pl_eq(due[0].target, "sip:bob@192.0.2.3");
	ck_pl_eq(due[0].received, "sip:192.0.2.4:99");
	ck_assert_uint_eq(due[0].socket.n, 0);
	ck_pl_eq(due[0].record.event, "message-summary;id=7");
	/* the answer to the first is none to the second, whatever it is */
	ck_assert_int_eq(settle("t1", cseq, CPM_SUBS_GONE), CPM_ENOENT);
	ck_assert(exists());
	ck_assert_int_eq(settle("t1", due[0].cseq, CPM_SUBS_TAKEN), CPM_OK);
	end();
}
END_TEST

START_TEST(the_same_request_again_changes_nothing)
{
	start();
	subscribe("t1", HOUR_MS);
	take(1);
	settle("t1", due[0].cseq, CPM_SUBS_TAKEN);
	at(5000);
	ck_assert_int_eq(subscribe("t1", HOUR_MS), CPM_OK);
	ck_assert_uint_eq(left_ms, HOUR_MS - 5000);
	ck_assert_int_eq(refresh("t1", 1, HOUR_MS), CPM_OK);
	ck_assert_uint_eq(take(1), 0);
	ck_assert_int_eq(refresh("t1", 5, HOUR_MS), CPM_OK);
	ck_assert_int_eq(refresh("t1", 4, HOUR_MS), CPM_EEXIST);
	end();
}
END_TEST

START_TEST(what_is_not_there_is_not_refreshed)
{
	start();
	ck_assert_int_eq(refresh("t1", 2, HOUR_MS), CPM_ENOENT);
	subscribe("t1", HOUR_MS);
	ck_assert_int_eq(
			put_as("t1", false, 2, HOUR_MS, "call other 7", "sip:x - -"),
			CPM_ENOENT);
	ck_assert_int_eq(
			put_as("t1", false, 2, 0, "call tag-a -", "sip:x - -"), CPM_ENOENT);
	at(HOUR_MS);
	ck_assert_int_eq(refresh("t1", 2, HOUR_MS), CPM_ENOENT);
	end();
}
END_TEST

START_TEST(its_end_is_told_and_then_nothing_is_left)
{
	uint64_t next;

	start();
	subscribe("t1", HOUR_MS);
	take(1);
	settle("t1", due[0].cseq, CPM_SUBS_TAKEN);
	ck_assert_int_eq(refresh("t1", 2, 0), CPM_OK);
	ck_assert_int_eq(refresh("t1", 3, HOUR_MS), CPM_ENOENT);
	ck_assert_uint_eq(take(1), 1);
	ck_assert_int_eq(due[0].owed, CPM_SUBS_ENDED);
	ck_assert_int_eq(settle("t1", due[0].cseq, CPM_SUBS_KEPT), CPM_OK);
	ck_assert(!exists());
	ck_assert_uint_eq(look(&next), 0);
	ck_assert_uint_eq(next, UINT64_MAX);
	ck_gone();
	end();
}
END_TEST

START_TEST(a_fetch_is_the_state_and_the_end)
{
	start();
	ck_assert_int_eq(subscribe("t1", 0), CPM_OK);
	ck_assert_uint_eq(left_ms, 0);
	ck_assert_uint_eq(take(1), 1);
	ck_assert_int_eq(due[0].owed, CPM_SUBS_ENDED);
	settle("t1", due[0].cseq, CPM_SUBS_TAKEN);
	ck_gone();
	end();
}
END_TEST

START_TEST(its_time_is_found_when_it_is_over)
{
	uint64_t next;

	start();
	subscribe("t1", HOUR_MS);
	take(1);
	settle("t1", due[0].cseq, CPM_SUBS_TAKEN);
	ck_assert_uint_eq(look(&next), 0);
	ck_assert_uint_eq(next, HOUR_MS);
	at(HOUR_MS - 1);
	ck_assert_uint_eq(look(&next), 0);
	ck_assert_uint_eq(next, 1);
	at(HOUR_MS);
	ck_assert_uint_eq(look(&next), 1);
	/* for a while it is nobody else's */
	ck_assert_uint_eq(look(&next), 0);
	ck_assert_uint_eq(take(1), 1);
	ck_assert_int_eq(due[0].owed, CPM_SUBS_TIMEOUT);
	ck_assert_uint_eq(due[0].left_ms, 0);
	settle("t1", due[0].cseq, CPM_SUBS_KEPT);
	ck_gone();
	end();
}
END_TEST

START_TEST(who_could_not_be_told_is_told_at_the_next_look)
{
	start();
	subscribe("t1", HOUR_MS);
	take(1);
	ck_assert_int_eq(settle("t1", due[0].cseq, CPM_SUBS_KEPT), CPM_OK);
	ck_assert_uint_eq(take(1), 1);
	ck_assert_int_eq(settle("t1", due[0].cseq, CPM_SUBS_GONE), CPM_OK);
	ck_gone();
	end();
}
END_TEST

START_TEST(one_too_many_ends_the_oldest)
{
	uint32_t cseq;
	char tag[8];
	size_t i;

	start();
	for(i = 0; i < CPM_SUBS_PER_USER; i++) {
		at(i);
		(void)snprintf(tag, sizeof(tag), "t%zu", i);
		ck_assert_int_eq(subscribe(tag, HOUR_MS), CPM_OK);
	}
	ck_assert_uint_eq(take(1), CPM_SUBS_PER_USER);
	cseq = due[0].cseq; /* of all of them */
	for(i = 0; i < CPM_SUBS_PER_USER; i++) {
		(void)snprintf(tag, sizeof(tag), "t%zu", i);
		ck_assert_int_eq(settle(tag, cseq, CPM_SUBS_TAKEN), CPM_OK);
	}
	at(100);
	ck_assert_int_eq(subscribe("new", HOUR_MS), CPM_OK);
	ck_assert_uint_eq(take(1), 2);
	for(i = 0; i < 2; i++)
		ck_assert_int_eq(due[i].owed, cpm_pl_eq(due[i].tag, LIT("t0"))
											  ? CPM_SUBS_DROPPED
											  : CPM_SUBS_STATE);
	end();
}
END_TEST

START_TEST(fetches_without_an_answer_do_not_pile_up)
{
	char tag[8];
	size_t i;

	start();
	for(i = 0; i < 100; i++) {
		(void)snprintf(tag, sizeof(tag), "t%zu", i);
		ck_assert_int_eq(subscribe(tag, i % 2 == 0 ? 0 : HOUR_MS), CPM_OK);
		at(i);
	}
	ck_assert_uint_le(take(1), CPM_SUBS_TAKE_MAX);
	ck_assert_uint_ge(due_n, CPM_SUBS_PER_USER);
	end();
}
END_TEST

START_TEST(what_cannot_be_read_is_dropped)
{
	struct cpm_subs_keys k;

	start();
	subscribe("t1", HOUR_MS);
	ck_assert_int_eq(cpm_subs_keys_init(&k, LIT("t"), BOB), CPM_OK);
	ck_assert_int_eq(integer(qask("HSET %.*s bad x also %%",
							 (int)k.key[CPM_SUBS_KEY_SUBS].n,
							 k.key[CPM_SUBS_KEY_SUBS].p)),
			2);
	ck_assert_uint_eq(take(1), 1);
	ck_pl_eq(due[0].tag, "t1");
	ck_assert_int_eq(subscribe("t2", HOUR_MS), CPM_OK);
	end();
}
END_TEST

START_TEST(a_store_that_is_down_says_so)
{
	struct cpm_pl user = BOB;
	uint64_t next;
	unsigned shard = 0;
	size_t n = 0;
	bool there;

	start();
	redis_stop(&server);
	ck_assert_int_eq(subscribe("t1", HOUR_MS), CPM_EDOWN);
	ck_assert_int_eq(
			io_subs_take(q, BOB, 1, CLAIM_MS, NODE, due, &n), CPM_EDOWN);
	ck_assert_int_eq(settle("t1", 1, CPM_SUBS_TAKEN), CPM_EDOWN);
	ck_assert_int_eq(io_subs_exist(q, &user, 1, &there), CPM_EDOWN);
	ck_assert_int_eq(io_subs_due(q, &shard, 1, CLAIM_MS, 1, &user, &n, &next),
			CPM_EDOWN);
	end();
}
END_TEST

/* One node that is down is nothing to the users of the others. */
START_TEST(on_a_cluster)
{
	static struct redis_helper node[3];
	static struct cpm_pl users[CPM_QUEUE_SHARDS * 4];
	struct io_redis_conf conf = {
			.connect_timeout_ms = 2000, .cmd_timeout_ms = 2000};
	struct io_subs_put p = {.tag = LIT("t1"),
			.initial = true,
			.cseq = 1,
			.expires_ms = HOUR_MS,
			.dialog = LIT("call tag-a -"),
			.way = LIT("sip:x@192.0.2.1 - -"),
			.record = LIT("e\na\nb\n\n")};
	unsigned shards[CPM_QUEUE_SHARDS];
	struct io_queue *c;
	char name[64];
	uint64_t next = 0;
	size_t n = 0;
	size_t before, i;

	redis_start_cluster(node, 3, 3, NULL);
	(void)snprintf(name, sizeof(name), "cluster=1;addr=127.0.0.1;port=%u",
			node[0].port);
	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(name), &conf, NULL), CPM_OK);
	c = io_queue_new(&conf, LIT("t"));
	for(i = 0; i < 60; i++) {
		(void)snprintf(name, sizeof(name), "sip:u%zu@example.org", i);
		p.aor = cpm_pl_str(name);
		ck_assert_int_eq(io_subs_put(c, &p, &left_ms), CPM_OK);
	}
	for(i = 0; i < CPM_QUEUE_SHARDS; i++)
		shards[i] = (unsigned)i;
	ck_assert_int_eq(
			io_subs_due(c, shards, CPM_QUEUE_SHARDS, 1, 4, users, &n, &next),
			CPM_OK);
	before = n;
	ck_assert_uint_ge(before, 50);
	(void)usleep(5000); /* so long they were this caller's */
	redis_kill(&node[2]);
	ck_assert_int_eq(
			io_subs_due(c, shards, CPM_QUEUE_SHARDS, 1, 4, users, &n, &next),
			CPM_OK);
	ck_assert_uint_gt(n, 0);
	ck_assert_uint_lt(n, before);
	io_queue_free(&c);
	for(i = 0; i < 3; i++)
		redis_stop(&node[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_subs");

	fu_case(s, "a new subscription is owed the state",
			a_new_subscription_is_owed_the_state);
	fu_case(s, "what is being told is taken by nobody else",
			what_is_being_told_is_taken_by_nobody_else);
	fu_case(s, "a change while it is told is told after it",
			a_change_while_it_is_told_is_told_after_it);
	fu_case(s, "who dies with it is followed by the next",
			who_dies_with_it_is_followed_by_the_next);
	fu_case(s, "a refresh is owed the state by its new way",
			a_refresh_is_owed_the_state_by_its_new_way);
	fu_case(s, "the same request again changes nothing",
			the_same_request_again_changes_nothing);
	fu_case(s, "what is not there is not refreshed",
			what_is_not_there_is_not_refreshed);
	fu_case(s, "its end is told and then nothing is left",
			its_end_is_told_and_then_nothing_is_left);
	fu_case(s, "a fetch is the state and the end",
			a_fetch_is_the_state_and_the_end);
	fu_case(s, "its time is found when it is over",
			its_time_is_found_when_it_is_over);
	fu_case(s, "who could not be told is told at the next look",
			who_could_not_be_told_is_told_at_the_next_look);
	fu_case(s, "one too many ends the oldest", one_too_many_ends_the_oldest);
	fu_case(s, "fetches without an answer do not pile up",
			fetches_without_an_answer_do_not_pile_up);
	fu_case(s, "what cannot be read is dropped",
			what_cannot_be_read_is_dropped);
	fu_case(s, "a store that is down says so", a_store_that_is_down_says_so);
	fu_case(s, "on a cluster a node that is down is nothing to the others",
			on_a_cluster);
	return fu_run(s);
}
