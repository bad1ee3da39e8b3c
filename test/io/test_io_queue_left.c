/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_queue_left.c - what the sweep and the operator see of all users:
 * messages that left without delivery, jobs, dead letters, claims.
 */

#include "queue_helper.h"

#define NOBODY CPM_PL_NULL
#define HOLD_MS 30000

static struct cpm_left left[8];
static size_t left_n;

/* The ids, one letter each. */
static const char *take(const char *token, size_t limit)
{
	static char text[sizeof(left) / sizeof(left[0]) + 1];

	left_n = 0;
	ck_assert_int_eq(io_queue_left(q, cpm_queue_shard(BOB), cpm_pl_str(token),
							 limit, HOLD_MS, left, &left_n),
			CPM_OK);
	for(size_t i = 0; i < left_n; i++)
		text[i] = left[i].id.p[0];
	text[left_n] = '\0';
	return text;
}

static int done(const char *token, const char *id, unsigned job)
{
	return io_queue_left_done(q, BOB, cpm_pl_str(id), cpm_pl_str(token), job);
}

/* Messages of these ids that have expired. */
static void expire(const char *letters)
{
	for(const char *p = letters; *p != '\0'; p++)
		ck_assert_int_eq(
				put_full(BOB, cpm_pl(p, 1), cpm_pl(p, 1), T0 + 1, 0, 0),
				CPM_PUT_QUEUED);
	io_queue_set_now(q, T0 + 1);
	ck_assert_int_eq(release("", ""), CPM_OK);
}

static int64_t job_count(void)
{
	int64_t n = integer(qask("ZCARD %s", key(CPM_KEY_JOBS, BOBS)));

	ck_assert_int_eq(n, integer(qask("HLEN %s", key(CPM_KEY_JOB, BOBS))));
	return n;
}

static int64_t waiting(void)
{
	return integer(qask("LLEN %s", key(CPM_KEY_EXPIRED, BOBS)));
}

/* --------------------------------------------------------------------- left */

START_TEST(left_stays)
{
	begin();
	ck_assert_str_eq(take("t1", 8), "");
	ck_assert_int_eq(done("t1", "a", CPM_JOB_NONE), CPM_ENOENT);
	expire("abc");
	ck_assert_str_eq(take("t1", 2), "ab");
	ck_assert_int_eq((int)left[0].why, CPM_LEFT_EXPIRED);
	ck_assert(left[0].readable);
	ck_pl_same(left[0].aor, BOB);
	ck_pl_eq(left[0].msg.body, "a");
	/* at least once: the answer was lost */
	ck_assert_str_eq(take("t1", 8), "abc");
	ck_assert_int_eq(waiting(), 3);
	/* oldest first, each once */
	ck_assert_int_eq(done("t1", "b", CPM_JOB_NONE), CPM_ENOENT);
	ck_assert_int_eq(done("t1", "a", CPM_JOB_NONE), CPM_OK);
	ck_assert_int_eq(done("t1", "a", CPM_JOB_NONE), CPM_ENOENT);
	ck_assert_int_eq(done("t1", "b", CPM_JOB_STORE), CPM_OK);
	ck_assert_int_eq(done("t1", "b", CPM_JOB_STORE), CPM_ENOENT);
	ck_assert_int_eq(job_count(), 1);
	ck_assert_str_eq(take("t1", 8), "c");
	ck_assert_int_eq(done("t1", "c", CPM_JOB_NONE), CPM_OK);
	ck_assert_str_eq(take("t1", 8), "");
	ck_assert_int_eq(waiting(), 0);
	tell("DEL %s %s", key(CPM_KEY_JOBS, BOBS), key(CPM_KEY_JOB, BOBS));
	ck_nothing_left();
	ck_assert_int_eq(io_queue_left(q, cpm_queue_shard(BOB), LIT("t"), 0, 1,
							 left, &left_n),
			CPM_EPROTO);
	end();
}
END_TEST

START_TEST(left_taken_over)
{
	uint64_t at = T0 + 1;

	begin();
	expire("abc");
	ck_assert_str_eq(take("t1", 8), "abc");
	ck_assert_str_eq(take("t2", 8), "");
	ck_assert_int_eq(done("t2", "a", CPM_JOB_NONE), CPM_ENOENT);
	ck_assert_int_eq(done("t1", "a", CPM_JOB_NONE), CPM_OK);
	/* it died: another has them after the time, and not before */
	io_queue_set_now(q, at + HOLD_MS - 1);
	ck_assert_str_eq(take("t2", 8), "");
	io_queue_set_now(q, at + HOLD_MS);
	ck_assert_str_eq(take("t2", 8), "bc");
	/* it did not die, it was late: it changes nothing */
	ck_assert_str_eq(take("t1", 8), "");
	ck_assert_int_eq(done("t1", "b", CPM_JOB_STORE), CPM_ENOENT);
	ck_assert_int_eq(waiting(), 2);
	ck_assert_int_eq(job_count(), 0);
	ck_assert_int_eq(done("t2", "b", CPM_JOB_NONE), CPM_OK);
	/* a further take holds them for longer */
	io_queue_set_now(q, at + 2 * HOLD_MS - 1);
	ck_assert_str_eq(take("t2", 8), "c");
	io_queue_set_now(q, at + 2 * HOLD_MS);
	ck_assert_str_eq(take("t1", 8), "");
	io_queue_set_now(q, at + 3 * HOLD_MS - 1);
	/* late, and nobody took them: it is reported, that counts */
	ck_assert_int_eq(done("t2", "c", CPM_JOB_NONE), CPM_OK);
	ck_assert_int_eq(waiting(), 0);
	end();
}
END_TEST

/* What nobody can read does not stand in the way of the others. */
START_TEST(left_damaged)
{
	static const char *const rows[] = {"LPUSH %expired garbage",
			"LPUSH %expired", "RPUSH %expired garbage", "HSET %sum ru garbage"};

	begin();
	expire("a");
	if(_i == 3)
		ck_assert_str_eq(take("t1", 8), "a");
	damage(rows[_i]);
	io_queue_set_now(q, T0 + HOLD_MS * 2);
	ck_assert_str_eq(take("t2", 8), "a");
	ck_assert_int_eq(done("t2", "a", CPM_JOB_NONE), CPM_OK);
	ck_assert_str_eq(take("t2", 8), "");
	ck_assert_int_eq(waiting(), 0);
	end();
}
END_TEST

START_TEST(left_unreadable)
{
	begin();
	ck_assert_int_eq(
			put_full(BOB, LIT("a"), LIT("x"), T0 + 1, 0, 0), CPM_PUT_QUEUED);
	damage("HSET %m a garbage");
	expire("b");
	ck_assert_str_eq(take("t", 8), "ab");
	ck_assert(!left[0].readable);
	ck_assert(left[1].readable);
	ck_assert_int_eq(done("t", "a", CPM_JOB_NONE), CPM_OK);
	ck_assert_int_eq(done("t", "b", CPM_JOB_NONE), CPM_OK);
	end();
}
END_TEST

/* A job that cannot be written does not cost the message. */
START_TEST(left_no_job)
{
	begin();
	expire("a");
	damage(_i == 0 ? "SET %job x" : "SET %jobs x");
	ck_assert_str_eq(take("t", 8), "a");
	ck_assert_int_eq(done("t", "a", CPM_JOB_STORE), CPM_EPROTO);
	ck_assert_int_eq(waiting(), 1);
	tell("DEL %s", key(_i == 0 ? CPM_KEY_JOB : CPM_KEY_JOBS, BOBS));
	ck_assert_int_eq(done("t", "a", CPM_JOB_STORE), CPM_OK);
	ck_assert_int_eq(job_count(), 1);
	ck_assert_int_eq(waiting(), 0);
	end();
}
END_TEST

/* ------------------------------------------------------------------- claims */

/* The i-th user of a shard. */
static const char *user_of(unsigned shard, int i)
{
	static char aor[64];

	for(int n = 0; i >= 0; n++) {
		(void)snprintf(aor, sizeof(aor), "sip:u%d@example.org", n);
		if(cpm_queue_shard(cpm_pl_str(aor)) == shard)
			i--;
	}
	return aor;
}

START_TEST(claims_of_shards)
{
	const unsigned shards[] = {3, 63, 9, 0};
	const unsigned bad[] = {3, 64};
	struct cpm_claimed users[4 * 8];
	struct cpm_queue_stat st;
	struct cpm_pl bob = BOB;
	uint64_t waits[4] = {9, 9, 9, 9};
	size_t n = 99;
	char first[64];

	begin();
	ck_assert_int_eq(
			io_queue_claim(q, LIT("n1"), shards, 0, 1000, 8, users, &n, waits),
			CPM_OK);
	ck_assert_uint_eq(n, 0);
	for(int i = 0; i < 3; i++) {
		struct cpm_pl u = cpm_pl_str(user_of(3, i));
		ck_assert_int_eq(
				put_full(u, LIT("a"), LIT("x"), 0, 0, 0), CPM_PUT_QUEUED);
	}
	(void)snprintf(first, sizeof(first), "%s", user_of(9, 0));
	ck_assert_int_eq(put_full(cpm_pl_str(first), LIT("a"), LIT("x"), 0, 0, 0),
			CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(cpm_pl_str(first), LIT("b"), LIT("x"), T0 + 1, 0, 0),
			CPM_PUT_QUEUED);
	io_queue_set_now(q, T0 + 1);
	ck_assert_int_eq(
			io_queue_release(q, cpm_pl_str(first), NOBODY, NOBODY, 10), CPM_OK);
	io_queue_set_now(q, T0 + 5000);
	/* a shard that there is not: nothing was asked, nothing is claimed, and
	 * the next call has its own answer */
	ck_assert_int_eq(
			io_queue_claim(q, LIT("n1"), bad, 2, 1000, 8, users, &n, waits),
			CPM_EPROTO);
	ck_assert_int_eq(io_queue_stats(q, &bob, 1, &st), CPM_OK);
	ck_assert_uint_eq(st.messages, 0);
	ck_assert_int_eq(
			io_queue_claim(q, LIT("n1"), shards, 4, 1000, 2, users, &n, waits),
			CPM_OK);
	ck_assert_uint_eq(n, 3);
	ck_assert_uint_eq(cpm_queue_shard(users[0].aor), 3);
	ck_assert_uint_eq(cpm_queue_shard(users[1].aor), 3);
	ck_pl_eq(users[2].aor, first);
	ck_assert_uint_eq(waits[0], 0);
	ck_assert_uint_eq(waits[2], 1);
	ck_assert_uint_eq(waits[3], 0);
	/* the third of its shard is left for the next */
	ck_assert_int_eq(
			io_queue_claim(q, LIT("n1"), shards, 4, 1000, 2, users, &n, waits),
			CPM_OK);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(
			io_queue_claim(q, LIT("n1"), shards, 4, 1000, 2, users, &n, waits),
			CPM_OK);
	ck_assert_uint_eq(n, 0);
	ck_assert_uint_eq(waits[2], 1);
	end();
}
END_TEST

/* --------------------------------------------------------------------- jobs */

START_TEST(job_of_discard)
{
	struct cpm_job jobs[4];
	struct io_queue_totals t;
	unsigned shard = 0;
	size_t n = 0;

	begin();
	ck_assert_int_eq(put("a", "one"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "two"), CPM_PUT_QUEUED);
	ck_leased("t", "a", 1);
	io_queue_set_now(q, T0 + 70);
	ck_assert_int_eq(
			io_queue_discard(q, BOB, LIT("a"), DEDUP_MS, CPM_JOB_STORE),
			CPM_OK);
	ck_assert_int_eq(
			io_queue_discard(q, BOB, LIT("a"), DEDUP_MS, CPM_JOB_STORE),
			CPM_ENOENT);
	ck_assert_int_eq(
			io_queue_discard(q, BOB, LIT("b"), DEDUP_MS, CPM_JOB_NONE), CPM_OK);
	ck_assert_int_eq(job_count(), 1);
	ck_assert_int_eq(io_queue_jobs(q, &shard, 0, NOBODY, 4, jobs, &n), CPM_OK);
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(shard, CPM_QUEUE_SHARDS);
	ck_assert_int_eq((int)jobs[0].kind, CPM_JOB_STORE);
	ck_pl_eq(jobs[0].name, BOBS " a");
	ck_pl_same(jobs[0].aor, BOB);
	ck_pl_eq(jobs[0].id, "a");
	ck_assert_uint_eq(jobs[0].due_ms, T0 + 70);
	ck_assert_uint_eq(jobs[0].attempts, 0);
	ck_assert_uint_eq(jobs[0].last_error.n, 0);
	ck_assert_int_eq(io_queue_totals(q, &t), CPM_OK);
	ck_assert_uint_eq(t.jobs, 1);
	ck_assert_uint_eq(t.messages, 0);
	ck_assert_uint_eq(t.users, 0);
	/* a shard further: nothing more */
	ck_assert_int_eq(io_queue_jobs(q, &shard, 0, NOBODY, 4, jobs, &n), CPM_OK);
	ck_assert_uint_eq(n, 0);
	shard = 0;
	ck_assert_int_eq(
			io_queue_jobs(q, &shard, 0, NOBODY, 0, jobs, &n), CPM_EPROTO);
	end();
}
END_TEST

#define MANY 120

static void put_discarded(int i)
{
	char aor[64];
	struct cpm_pl a = cpm_pl_str(aor);

	/* few users, so that pages end within a shard; few times, so that they
	 * end among jobs of one time. Upper case sorts before lower case. */
	(void)snprintf(aor, sizeof(aor), "%s", user_of((unsigned)(i % 3) * 20, 0));
	a = cpm_pl_str(aor);
	char id[16];
	(void)snprintf(id, sizeof(id), "%c%03d", i % 2 == 0 ? 'J' : 'j', i);
	io_queue_set_now(q, T0 + (uint64_t)(i / 60));
	ck_assert_int_eq(
			put_full(a, cpm_pl_str(id), LIT("x"), 0, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			io_queue_discard(q, a, cpm_pl_str(id), 1, CPM_JOB_STORE), CPM_OK);
}

START_TEST(jobs_paged)
{
	static const size_t limits[] = {1, 2, 7, 64, 100, MANY, 2 * MANY};
	static struct cpm_job jobs[2 * MANY];
	size_t limit = limits[_i / 2], n = 0;
	bool churn = _i % 2 == 1;
	unsigned seen[MANY] = {0}, shard = 0, last_shard = 0;
	uint64_t ms = 0;
	char name[512] = "";

	begin();
	for(int i = 0; i < MANY; i++)
		put_discarded(i);
	for(int pages = 0; shard < CPM_QUEUE_SHARDS; pages++) {
		ck_assert_int_lt(pages, 2 * MANY);
		ck_assert_int_eq(
				io_queue_jobs(q, &shard, ms, cpm_pl_str(name), limit, jobs, &n),
				CPM_OK);
		ck_assert(n == limit || shard == CPM_QUEUE_SHARDS);
		for(size_t i = 0; i < n; i++) {
			unsigned s = cpm_queue_shard(jobs[i].aor);
			ck_assert_uint_ge(s, last_shard);
			last_shard = s;
			seen[number_in(jobs[i].id)]++;
		}
		if(n == 0)
			break;
		ms = jobs[n - 1].due_ms;
		(void)snprintf(name, sizeof(name), "s %.*s", (int)jobs[n - 1].name.n,
				jobs[n - 1].name.p);
		if(churn) {
			/* the job under the cursor is done meanwhile */
			char aor[64];
			struct cpm_pl argv[3] = {LIT("ZREM"), NOBODY, cpm_pl_str(name)};
			struct redisReply *r = NULL;

			cpm_pl_cstr(jobs[n - 1].aor, aor, sizeof(aor));
			argv[1] = cpm_pl_str(key(CPM_KEY_JOBS, aor));
			ck_assert_int_eq(io_redis_command(raw, 3, argv, &r), CPM_OK);
			ck_assert_int_eq(integer(r), 1);
		}
	}
	for(int i = 0; i < MANY; i++)
		ck_assert_msg(seen[i] == 1, "job %d: %u times", i, seen[i]);
	end();
}
END_TEST

/* Broken ones fill no place of a page. */
START_TEST(jobs_damaged)
{
	struct cpm_job jobs[2];
	unsigned shard = 0;
	size_t n = 0;

	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("b", "x"), CPM_PUT_QUEUED);
	tell("ZADD %s 1 garbage", key(CPM_KEY_JOBS, BOBS));
	tell("ZADD %s 2 s", key(CPM_KEY_JOBS, BOBS));
	damage("ZADD %jobs 3 s_" BOBS "_lost");
	ck_assert_int_eq(
			io_queue_discard(q, BOB, LIT("a"), 1, CPM_JOB_STORE), CPM_OK);
	ck_assert_int_eq(
			io_queue_discard(q, BOB, LIT("b"), 1, CPM_JOB_STORE), CPM_OK);
	ck_assert_int_eq(io_queue_jobs(q, &shard, 0, NOBODY, 2, jobs, &n), CPM_OK);
	ck_assert_uint_eq(n, 2);
	ck_pl_eq(jobs[0].id, "a");
	ck_pl_eq(jobs[1].id, "b");
	end();
}
END_TEST

/* ------------------------------------------------------------- dead letters */

#define DEAD 100

START_TEST(dead_paged)
{
	static const size_t limits[] = {1, 3, 7, 64, DEAD, 2 * DEAD};
	static struct cpm_pl names[2 * DEAD];
	static struct cpm_queue_item found_items[2 * DEAD];
	static bool found[2 * DEAD];
	size_t limit = limits[_i], n = 0;
	unsigned seen[DEAD] = {0}, shard = 0;
	struct cpm_pl after = NOBODY;
	struct io_queue_totals t;
	char copy[512], aor[64], id[16];

	begin();
	for(int i = 0; i < DEAD; i++) {
		(void)snprintf(aor, sizeof(aor), "sip:u%d@example.org", i % 9);
		(void)snprintf(id, sizeof(id), "d%d", i);
		ck_assert_int_eq(
				put_full(cpm_pl_str(aor), cpm_pl_str(id), LIT("body"), 0, 0, 0),
				CPM_PUT_QUEUED);
		ck_assert_int_eq(io_queue_lease(q, cpm_pl_str(aor), LIT("t"), LEASE_MS,
								 CPM_LEASE_ALL, 0, &lease_res),
				CPM_OK);
		ck_pl_eq(lease_res.msg.id, id);
		ck_assert_int_eq(
				settle_full(cpm_pl_str(aor), "t", id, CPM_SETTLE_DEAD, 'm', 0),
				CPM_OK);
	}
	ck_assert_int_eq(io_queue_totals(q, &t), CPM_OK);
	ck_assert_uint_eq(t.dead, DEAD);
	do {
		ck_assert_int_eq(
				io_queue_dead(q, &shard, after, limit, names, &n), CPM_OK);
		ck_assert(n == limit || shard == CPM_QUEUE_SHARDS);
		if(n > 0)
			cpm_pl_cstr(names[n - 1], copy, sizeof(copy));
		ck_assert_int_eq(
				io_queue_items(q, names, n, found_items, found), CPM_OK);
		for(size_t i = 0; i < n; i++) {
			ck_assert(found[i]);
			ck_assert_int_eq((int)found_items[i].state, CPM_STATE_DEAD);
			ck_pl_eq(found_items[i].last_error, "486");
			ck_assert_uint_eq(found_items[i].msg.body.n, 0);
			ck_assert_uint_eq(found_items[i].msg.body_len, 4);
			seen[number_in(found_items[i].msg.id)]++;
		}
		after = cpm_pl_str(copy);
		if(n > 0) {
			/* the one under the cursor is queued again meanwhile */
			struct cpm_pl last = after, user = cpm_pl_cut(&last, ' ');
			ck_assert_int_eq(
					io_queue_turn(q, user, last, CPM_STATE_QUEUED, NOBODY),
					CPM_OK);
		}
	} while(shard < CPM_QUEUE_SHARDS);
	for(int i = 0; i < DEAD; i++)
		ck_assert_msg(seen[i] == 1, "dead letter %d: %u times", i, seen[i]);
	end();
}
END_TEST

START_TEST(items_odd)
{
	struct cpm_pl names[5] = {LIT(BOBS " a"), LIT(BOBS " gone"), LIT(BOBS),
			LIT("sip:nobody@example.org a"), LIT(BOBS " b")};
	struct cpm_pl bob = BOB;
	struct cpm_queue_stat st;
	bool found[5] = {false};

	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("x"), T0 + 1, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_items(q, names, 0, items, found), CPM_OK);
	ck_assert_int_eq(io_queue_items(q, names, 5, items, found), CPM_OK);
	ck_assert(found[0] && !found[1] && !found[2] && !found[3] && found[4]);
	ck_pl_eq(items[4].msg.id, "b");
	io_queue_set_now(q, T0 + 1);
	ck_assert_int_eq(io_queue_items(q, names, 5, items, found), CPM_OK);
	ck_assert(found[0] && !found[4]);
	/* one that is broken does not take the others along */
	ck_assert_int_eq(put("c", "x"), CPM_PUT_QUEUED);
	names[1] = LIT(BOBS " c");
	damage("DEL %q");
	ck_assert_int_eq(io_queue_items(q, names, 5, items, found), CPM_OK);
	ck_assert(!found[0] && !found[1]);
	ck_assert_int_eq(put("d", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(put("e", "x"), CPM_PUT_QUEUED);
	names[1] = LIT(BOBS " d");
	names[2] = LIT(BOBS " e");
	damage("HSET %m d x");
	ck_assert_int_eq(io_queue_items(q, names, 5, items, found), CPM_OK);
	ck_assert(!found[1] && found[2]);
	/* nothing of a refused call is in the next one's answer */
	names[4] = LIT(" x");
	ck_assert_int_eq(io_queue_items(q, names, 5, items, found), CPM_EPROTO);
	ck_assert_int_eq(io_queue_stats(q, &bob, 1, &st), CPM_OK);
	ck_assert_uint_eq(st.messages, 2);
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_queue_left");

	fu_case(s, "what left without delivery stays until it is reported",
			left_stays);
	fu_case(s, "who reports and dies is followed by another", left_taken_over);
	fu_table(s, "a broken report does not stop the others", left_damaged, 4);
	fu_case(s, "a message that cannot be read is reported as such",
			left_unreadable);
	fu_table(s, "no job, no end: the message stays", left_no_job, 2);
	fu_case(s, "users of several shards are claimed at once", claims_of_shards);
	fu_case(s, "a job is left in a message's place, once", job_of_discard);
	fu_table(s, "jobs in pages, over all shards, none missed or repeated",
			jobs_paged, 14);
	fu_case(s, "broken jobs fill no place of a page", jobs_damaged);
	fu_table(s, "dead letters in pages, over all users", dead_paged, 6);
	fu_case(s, "what is not there any more is told apart", items_odd);
	return fu_run(s);
}
