/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_queue_totals.c - all queues in a few numbers, against a real Redis.
 */

#include "io_jobs.h"
#include "queue_helper.h"

static struct io_queue_totals totals(void)
{
	struct io_queue_totals t;

	ck_assert_int_eq(io_queue_totals(q, &t), CPM_OK);
	return t;
}

/* The index of a kind in jobs_of_kind. */
static unsigned at(enum cpm_job_kind kind)
{
	unsigned i = 0;

	while((1u << i) != (unsigned)kind)
		i++;
	return i;
}

START_TEST(nothing)
{
	struct io_queue_totals t;

	begin();
	t = totals();
	ck_assert_uint_eq(t.users + t.messages + t.bytes + t.dead + t.jobs
							  + t.jobs_dead + t.overdue + t.oldest_ms,
			0);
	end();
}
END_TEST

START_TEST(jobs_by_kind)
{
	static const struct cpm_pl blob =
			CPM_PL_LIT("a blob of forty bytes, or a bit "
					   "more");
	unsigned shard = cpm_queue_shard(BOB);
	struct io_queue_totals t;
	struct cpm_job job;
	size_t n;

	begin();
	for(int again = 0; again < 2; again++) /* what is there is not counted */
		ck_assert_int_eq(
				io_jobs_put(q, CPM_JOB_STORE | CPM_JOB_STORED | CPM_JOB_PUSH,
						BOB, LIT("a"), blob, 0, 0),
				again == 0 ? CPM_OK : CPM_EEXIST);
	ck_assert_int_eq(io_jobs_put(q, CPM_JOB_STORE, LIT("sip:ann@example.org"),
							 LIT("a"), blob, 0, 0),
			CPM_OK);
	t = totals();
	ck_assert_uint_eq(t.jobs, 4);
	ck_assert_uint_eq(t.jobs_of_kind[at(CPM_JOB_STORE)], 2);
	ck_assert_uint_eq(t.jobs_of_kind[at(CPM_JOB_STORED)], 1);
	ck_assert_uint_eq(t.jobs_of_kind[at(CPM_JOB_PUSH)], 1);
	ck_assert_uint_eq(t.jobs_of_kind[at(CPM_JOB_INTERWORK)], 0);
	ck_assert_uint_eq(t.jobs_dead, 0);
	/* given up: counted as what it is, and as dead */
	ck_assert_int_eq(io_jobs_lease(q, &shard, 1, CPM_JOB_STORE, LIT("t"),
							 LEASE_MS, 1, &job, &n),
			CPM_OK);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(io_jobs_settle(q, CPM_JOB_STORE, BOB, LIT("a"), LIT("t"),
							 CPM_JOB_GIVE_UP, 0, LIT("no")),
			CPM_OK);
	t = totals();
	ck_assert_uint_eq(t.jobs_of_kind[at(CPM_JOB_STORE)], 2);
	ck_assert_uint_eq(t.jobs_dead, 1);
	/* removed in any of the ways, and twice */
	for(int again = 0; again < 2; again++) {
		(void)io_jobs_drop(q, CPM_JOB_STORE, BOB, LIT("a"));
		(void)io_jobs_drop(q, CPM_JOB_STORED, BOB, LIT("a"));
		(void)io_jobs_drop(q, CPM_JOB_PUSH, BOB, LIT("a"));
	}
	shard = cpm_queue_shard(LIT("sip:ann@example.org"));
	ck_assert_int_eq(io_jobs_lease(q, &shard, 1, CPM_JOB_ALL, LIT("t"),
							 LEASE_MS, 1, &job, &n),
			CPM_OK);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(
			io_jobs_settle(q, CPM_JOB_STORE, LIT("sip:ann@example.org"),
					LIT("a"), LIT("t"), CPM_JOB_DONE, 0, CPM_PL_NULL),
			CPM_OK);
	t = totals();
	ck_assert_uint_eq(t.jobs, 0);
	for(unsigned i = 0; i < CPM_JOB_KINDS; i++)
		ck_assert_uint_eq(t.jobs_of_kind[i], 0);
	end();
}
END_TEST

/* The job of a user that is gone with the queue is no more counted either. */
START_TEST(the_job_of_an_empty_queue)
{
	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_jobs_put(q, CPM_JOB_PUSH, BOB, LIT(CPM_JOB_OF_USER),
							 blob_of(BOB, LIT("a"), LIT("x"), 0), 0, 0),
			CPM_OK);
	ck_assert_uint_eq(totals().jobs_of_kind[at(CPM_JOB_PUSH)], 1);
	ck_leased("t", "a", 1);
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_int_eq(release("t", ""), CPM_OK);
	ck_assert_uint_eq(totals().jobs, 0);
	ck_assert_uint_eq(totals().jobs_of_kind[at(CPM_JOB_PUSH)], 0);
	end();
}
END_TEST

START_TEST(overdue)
{
	begin();
	io_queue_set_now(q, T0);
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED); /* looked at in 5 s */
	ck_assert_uint_eq(totals().overdue, 0);
	io_queue_set_now(q, T0 + 3600000 + 120000);
	ck_assert_uint_eq(totals().overdue, 1);
	ck_leased("t", "a", 1);
	ck_assert_uint_eq(totals().overdue, 0);
	end();
}
END_TEST

#define MANY 3000

/* More than one call looks at: found all the same, and gone when it is gone. */
START_TEST(oldest)
{
	const struct cpm_pl first = LIT("sip:u1234@example.org");
	char aor[64];
	uint64_t seen = UINT64_MAX;
	unsigned calls;

	begin();
	io_queue_set_now(q, T0);
	ck_assert_int_eq(
			put_full(first, LIT("a"), LIT("x"), 0, 0, 0), CPM_PUT_QUEUED);
	ck_assert_uint_eq(totals().oldest_ms, T0);
	io_queue_set_now(q, T0 + 5000);
	for(int i = 0; i < MANY; i++) {
		(void)snprintf(aor, sizeof(aor), "sip:u%04d@example.org", i);
		ck_assert_int_eq(put_full(cpm_pl_str(aor), LIT("b"), LIT("x"), 0, 0, 0),
				CPM_PUT_QUEUED);
	}
	for(calls = 0; calls < 8; calls++)
		ck_assert_uint_eq(totals().oldest_ms, T0);
	ck_assert_int_eq(
			io_queue_discard(q, first, LIT("a"), 0, CPM_JOB_NONE), CPM_OK);
	for(calls = 0; calls < 16 && seen != T0 + 5000; calls++)
		seen = totals().oldest_ms;
	ck_assert_uint_eq(seen, T0 + 5000);
	end();
}
END_TEST

/* A shard with more users than one call looks at is walked in pages. */
START_TEST(oldest_of_a_large_shard)
{
	unsigned shard = cpm_queue_shard(BOB);
	char aor[64];
	int found = 0;

	begin();
	for(int i = 0; found < 1500; i++) {
		(void)snprintf(aor, sizeof(aor), "sip:p%06d@example.org", i);
		if(cpm_queue_shard(cpm_pl_str(aor)) != shard)
			continue;
		/* the oldest is the last by name */
		io_queue_set_now(q, T0 + 100000 - (uint64_t)found);
		ck_assert_int_eq(put_full(cpm_pl_str(aor), LIT("b"), LIT("x"), 0, 0, 0),
				CPM_PUT_QUEUED);
		found++;
	}
	ck_assert_uint_eq(totals().oldest_ms, T0 + 100000 - 999);
	ck_assert_uint_eq(totals().oldest_ms, T0 + 100000 - 1499);
	for(int i = 0; i < 4; i++)
		ck_assert_uint_eq(totals().oldest_ms, T0 + 100000 - 1499);
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_queue_totals");

	fu_case(s, "of nothing", nothing);
	fu_case(s, "jobs by kind, and the dead ones", jobs_by_kind);
	fu_case(s, "a user's job goes with the queue", the_job_of_an_empty_queue);
	fu_case(s, "a queue that nobody looks at is overdue", overdue);
	fu_case(s, "the oldest of thousands of queues", oldest);
	fu_case(s, "the oldest of a large shard", oldest_of_a_large_shard);
	return fu_run(s);
}
