/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_jobs.c - jobs for other servers: left with a message or alone,
 * leased, done, tried again, given up.
 */

#include "io_jobs.h"

#include "queue_helper.h"

#define NOBODY CPM_PL_NULL
#define ALICE LIT("sip:alice@example.org")
#define STORE CPM_JOB_STORE
#define STORED CPM_JOB_STORED
#define FAILED CPM_JOB_FAILED
#define PUSH CPM_JOB_PUSH

static struct cpm_job jobs[IO_JOBS_LEASE_MAX];
static size_t jobs_n;

/* ------------------------------------------------------------------ helpers */

static unsigned shards[CPM_QUEUE_SHARDS];

static const unsigned *all_shards(void)
{
	for(unsigned i = 0; i < CPM_QUEUE_SHARDS; i++)
		shards[i] = i;
	return shards;
}

/* The ids that were leased, one letter each, by their time. */
static const char *lease_jobs(const char *token, unsigned kinds, size_t limit)
{
	static char text[IO_JOBS_LEASE_MAX + 1];
	unsigned shard = cpm_queue_shard(BOB);

	jobs_n = 99;
	ck_assert_int_eq(io_jobs_lease(q, &shard, 1, kinds, cpm_pl_str(token),
							 LEASE_MS, limit, jobs, &jobs_n),
			CPM_OK);
	for(size_t i = 0; i < jobs_n; i++) {
		ck_assert_uint_ne(jobs[i].kind & kinds, 0);
		ck_assert_int_eq((int)jobs[i].state, CPM_JOB_LEASED);
		text[i] = jobs[i].id.p[0];
	}
	text[jobs_n] = '\0';
	return text;
}

static int put_job(unsigned kinds, const char *id, const char *blob)
{
	return io_jobs_put(q, kinds, BOB, cpm_pl_str(id), cpm_pl_str(blob), 0, 0);
}

static int settle_job(enum cpm_job_kind kind, const char *token, const char *id,
		enum cpm_job_how how, uint64_t retry_in_ms)
{
	return io_jobs_settle(q, kind, BOB, cpm_pl_str(id), cpm_pl_str(token), how,
			retry_in_ms, LIT("imap NO"));
}

static int renew_job(const char *token, const char *id)
{
	return io_jobs_renew(
			q, STORE, BOB, cpm_pl_str(id), cpm_pl_str(token), LEASE_MS);
}

/* As the operator sees it; the number of jobs that there are. */
static size_t see(struct cpm_job *first)
{
	static struct cpm_job seen[500];
	unsigned shard = 0;
	size_t n = 0;

	ck_assert_int_eq(
			io_queue_jobs(q, &shard, 0, NOBODY, 500, seen, &n), CPM_OK);
	ck_assert_uint_eq(shard, CPM_QUEUE_SHARDS);
	if(n > 0)
		*first = seen[0];
	return n;
}

static void ck_no_jobs(void)
{
	ck_assert_int_eq(integer(qask("EXISTS %s %s", key(CPM_KEY_JOBS, BOBS),
							 key(CPM_KEY_JOB, BOBS))),
			0);
}

static int64_t job_count(void)
{
	return integer(qask("ZCARD %s", key(CPM_KEY_JOBS, BOBS)));
}

/* "<kinds>" of those that are there, sorted by time and name */
static const char *kinds_seen(void)
{
	static char text[64];
	static struct cpm_job seen[60];
	unsigned shard = 0;
	size_t n = 0;

	ck_assert_int_eq(io_queue_jobs(q, &shard, 0, NOBODY, 60, seen, &n), CPM_OK);
	for(size_t i = 0; i < n; i++)
		text[i] = cpm_job_letter(seen[i].kind);
	text[n] = '\0';
	return text;
}

/* -------------------------------------------------------------- one job's life */

START_TEST(life)
{
	static const enum cpm_job_kind kinds[] = {
			STORE, CPM_JOB_INTERWORK, STORED, FAILED, PUSH};
	enum cpm_job_kind kind = kinds[_i];
	struct cpm_job seen;

	begin();
	ck_assert_str_eq(lease_jobs("t", CPM_JOB_ALL, 9), "");
	ck_assert_int_eq(put_job(kind, "a", "line\nline"), CPM_OK);
	ck_assert_int_eq(put_job(kind, "a", "other"), CPM_EEXIST);
	ck_assert_uint_eq(see(&seen), 1);
	ck_assert_int_eq((int)seen.kind, (int)kind);
	ck_assert_int_eq((int)seen.state, CPM_JOB_WAITING);
	ck_assert_uint_eq(seen.due_ms, T0);
	ck_assert_uint_eq(seen.blob.n, 0);
	/* not for who does other things */
	ck_assert_str_eq(lease_jobs("t", CPM_JOB_ALL & ~(unsigned)kind, 9), "");
	ck_assert_str_eq(lease_jobs("t", kind, 9), "a");
	ck_pl_eq(jobs[0].blob, "line\nline");
	ck_pl_eq(jobs[0].name, BOBS " a");
	ck_pl_same(jobs[0].aor, BOB);
	ck_pl_eq(jobs[0].id, "a");
	ck_assert_uint_eq(jobs[0].attempts, 1);
	ck_assert_uint_eq(jobs[0].due_ms, T0 + LEASE_MS);
	ck_assert_str_eq(lease_jobs("t", kind, 9), "");
	ck_assert_uint_eq(see(&seen), 1);
	ck_assert_int_eq((int)seen.state, CPM_JOB_LEASED);
	ck_assert_uint_eq(seen.due_ms, T0 + LEASE_MS);
	/* tried again */
	ck_assert_int_eq(settle_job(kind, "u", "a", CPM_JOB_RETRY, 5), CPM_ENOENT);
	ck_assert_int_eq(settle_job(kind, "t", "a", CPM_JOB_RETRY, 5), CPM_OK);
	ck_assert_int_eq(settle_job(kind, "t", "a", CPM_JOB_RETRY, 5), CPM_ENOENT);
	ck_assert_uint_eq(see(&seen), 1);
	ck_assert_int_eq((int)seen.state, CPM_JOB_WAITING);
	ck_pl_eq(seen.last_error, "imap NO");
	ck_assert_uint_eq(seen.due_ms, T0 + 5);
	ck_assert_str_eq(lease_jobs("t", kind, 9), "");
	io_queue_set_now(q, T0 + 5);
	ck_assert_str_eq(lease_jobs("t", kind, 9), "a");
	ck_assert_uint_eq(jobs[0].attempts, 2);
	ck_pl_eq(jobs[0].last_error, "imap NO");
	ck_pl_eq(jobs[0].blob, "line\nline");
	/* given up: to be seen, and to be tried again */
	ck_assert_int_eq(
			settle_job(kind, "u", "a", CPM_JOB_GIVE_UP, 0), CPM_ENOENT);
	ck_assert_int_eq(settle_job(kind, "t", "a", CPM_JOB_GIVE_UP, 0), CPM_OK);
	ck_assert_int_eq(
			settle_job(kind, "t", "a", CPM_JOB_GIVE_UP, 0), CPM_ENOENT);
	io_queue_set_now(q, T0 + 1000 * LEASE_MS);
	ck_assert_str_eq(lease_jobs("t", kind, 9), "");
	ck_assert_uint_eq(see(&seen), 1);
	ck_assert_int_eq((int)seen.state, CPM_JOB_DEAD);
	ck_pl_eq(seen.last_error, "imap NO");
	ck_assert_uint_eq(seen.attempts, 2);
	ck_assert_int_eq(put_job(kind, "a", "other"), CPM_EEXIST);
	ck_assert_int_eq(io_jobs_requeue(q, kind, BOB, LIT("a")), CPM_OK);
	ck_assert_int_eq(io_jobs_requeue(q, kind, BOB, LIT("a")), CPM_OK);
	ck_assert_str_eq(lease_jobs("t", kind, 9), "a");
	ck_assert_uint_eq(jobs[0].attempts, 1);
	ck_assert_int_eq(io_jobs_requeue(q, kind, BOB, LIT("a")), CPM_EEXIST);
	/* done */
	ck_assert_int_eq(settle_job(kind, "u", "a", CPM_JOB_DONE, 0), CPM_ENOENT);
	ck_assert_int_eq(settle_job(kind, "t", "a", CPM_JOB_DONE, 0), CPM_OK);
	ck_assert_int_eq(settle_job(kind, "t", "a", CPM_JOB_DONE, 0), CPM_ENOENT);
	ck_assert_int_eq(io_jobs_requeue(q, kind, BOB, LIT("a")), CPM_ENOENT);
	ck_assert_int_eq(io_jobs_drop(q, kind, BOB, LIT("a")), CPM_ENOENT);
	ck_no_jobs();
	end();
}
END_TEST

START_TEST(lease_ends)
{
	begin();
	ck_assert_int_eq(put_job(STORE, "a", "x"), CPM_OK);
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "a");
	io_queue_set_now(q, T0 + LEASE_MS - 1);
	ck_assert_str_eq(lease_jobs("u", STORE, 9), "");
	ck_assert_int_eq(renew_job("u", "a"), CPM_ENOENT);
	ck_assert_int_eq(renew_job("t", "a"), CPM_OK);
	io_queue_set_now(q, T0 + 2 * LEASE_MS - 2);
	ck_assert_str_eq(lease_jobs("u", STORE, 9), "");
	io_queue_set_now(q, T0 + 2 * LEASE_MS - 1);
	switch(_i) {
		case 0: /* nobody took it since: it is done, that counts */
			ck_assert_int_eq(settle_job(STORE, "t", "a", CPM_JOB_DONE, 0), 0);
			ck_no_jobs();
			break;
		case 1:
			ck_assert_int_eq(renew_job("t", "a"), CPM_OK);
			ck_assert_str_eq(lease_jobs("u", STORE, 9), "");
			break;
		case 2:
			ck_assert_str_eq(lease_jobs("u", STORE, 9), "a");
			ck_assert_uint_eq(jobs[0].attempts, 2);
			ck_assert_int_eq(renew_job("t", "a"), CPM_ENOENT);
			ck_assert_int_eq(
					settle_job(STORE, "t", "a", CPM_JOB_DONE, 0), CPM_ENOENT);
			ck_assert_int_eq(
					settle_job(STORE, "u", "a", CPM_JOB_DONE, 0), CPM_OK);
			break;
		case 3: /* its own token takes it again, as another attempt */
			ck_assert_str_eq(lease_jobs("t", STORE, 9), "a");
			ck_assert_uint_eq(jobs[0].attempts, 2);
			break;
		case 4: /* an operator was quicker */
			ck_assert_int_eq(io_jobs_requeue(q, STORE, BOB, LIT("a")), CPM_OK);
			ck_assert_int_eq(
					settle_job(STORE, "t", "a", CPM_JOB_DONE, 0), CPM_ENOENT);
			break;
		case 5:
			ck_assert_int_eq(io_jobs_drop(q, STORE, BOB, LIT("a")), CPM_OK);
			ck_assert_int_eq(
					settle_job(STORE, "t", "a", CPM_JOB_RETRY, 0), CPM_ENOENT);
			ck_no_jobs();
			break;
	}
	end();
}
END_TEST

/* Errors come from other servers. */
START_TEST(errors)
{
	static char longer[200];
	struct cpm_job seen;

	begin();
	memset(longer, 'e', sizeof(longer));
	longer[0] = '\n';
	longer[1] = '\0';
	ck_assert_int_eq(put_job(STORE, "a", "blob"), CPM_OK);
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "a");
	ck_assert_int_eq(io_jobs_settle(q, STORE, BOB, LIT("a"), LIT("t"),
							 CPM_JOB_RETRY, 0, cpm_pl(longer, sizeof(longer))),
			CPM_OK);
	ck_assert_uint_eq(see(&seen), 1);
	ck_assert_uint_eq(seen.last_error.n, CPM_QUEUE_ERROR_MAX);
	ck_assert_uint_eq(cpm_pl_ctl(seen.last_error), CPM_QUEUE_ERROR_MAX);
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "a");
	ck_pl_eq(jobs[0].blob, "blob");
	end();
}
END_TEST

START_TEST(refused)
{
	static char big[CPM_MSG_ID_MAX + 1];
	static const char *const tokens[] = {
			"", "-", "!", "+t", "a b", "a\n", "\xc3\xa4"};
	unsigned bad_shard = CPM_QUEUE_SHARDS, shard = 0;

	begin();
	memset(big, 'i', sizeof(big));
	for(size_t i = 0; i < FU_N(tokens); i++) {
		ck_assert_int_eq(io_jobs_lease(q, &shard, 1, STORE,
								 cpm_pl_str(tokens[i]), 1, 1, jobs, &jobs_n),
				CPM_EPROTO);
		ck_assert_int_eq(renew_job(tokens[i], "a"), CPM_EPROTO);
		ck_assert_int_eq(
				settle_job(STORE, tokens[i], "a", CPM_JOB_DONE, 0), CPM_EPROTO);
	}
	ck_assert_int_eq(io_jobs_lease(q, &shard, 1, STORE, cpm_pl(big, 65), 1, 1,
							 jobs, &jobs_n),
			CPM_EPROTO);
	ck_assert_int_eq(
			io_jobs_lease(q, &shard, 1, STORE, LIT("t"), 1, 0, jobs, &jobs_n),
			CPM_EPROTO);
	ck_assert_int_eq(io_jobs_lease(q, &shard, 1, STORE, LIT("t"), 1,
							 IO_JOBS_LEASE_MAX + 1, jobs, &jobs_n),
			CPM_EPROTO);
	ck_assert_int_eq(
			io_jobs_lease(q, &shard, 1, 0, LIT("t"), 1, 1, jobs, &jobs_n),
			CPM_EPROTO);
	ck_assert_int_eq(io_jobs_lease(q, &shard, 1, CPM_JOB_ALL + 1, LIT("t"), 1,
							 1, jobs, &jobs_n),
			CPM_EPROTO);
	ck_assert_int_eq(io_jobs_lease(q, &bad_shard, 1, STORE, LIT("t"), 1, 1,
							 jobs, &jobs_n),
			CPM_EPROTO);
	ck_assert_int_eq(io_jobs_lease(q, all_shards(), CPM_QUEUE_SHARDS + 1, STORE,
							 LIT("t"), 1, 1, jobs, &jobs_n),
			CPM_EPROTO);
	ck_assert_int_eq(
			io_jobs_lease(q, &shard, 0, STORE, LIT("t"), 1, 1, jobs, &jobs_n),
			CPM_OK);
	ck_assert_uint_eq(jobs_n, 0);
	ck_assert_int_eq(put_job(0, "a", "x"), CPM_EPROTO);
	ck_assert_int_eq(put_job(32, "a", "x"), CPM_EPROTO);
	ck_assert_int_eq(put_job(STORE, "", "x"), CPM_EPROTO);
	ck_assert_int_eq(put_job(STORE, "a b", "x"), CPM_EPROTO);
	ck_assert_int_eq(
			io_jobs_put(q, STORE, BOB, cpm_pl(big, sizeof(big)), NOBODY, 0, 0),
			CPM_EPROTO);
	ck_assert_int_eq(
			io_jobs_put(q, STORE, LIT("sip:b b"), LIT("a"), NOBODY, 0, 0),
			CPM_EPROTO);
	ck_assert_int_eq(
			io_jobs_put(q, STORE, NOBODY, LIT("a"), NOBODY, 0, 0), CPM_EPROTO);
	ck_assert_int_eq(
			io_jobs_drop(q, (enum cpm_job_kind)3, BOB, LIT("a")), CPM_EPROTO);
	ck_assert_int_eq(io_jobs_replace(q, CPM_JOB_NONE, BOB, LIT("a"), NOBODY, 0),
			CPM_EPROTO);
	ck_assert_int_eq(integer(qask("DBSIZE")), 0);
	end();
}
END_TEST

/* ---------------------------------------------------------------- with messages */

START_TEST(left_by_put)
{
	struct cpm_put p = {.aor = BOB,
			.id = LIT("a"),
			.check_in_ms = 5000,
			.jobs = STORE | STORED};

	begin();
	p.blob = blob_of(BOB, p.id, LIT("x"), 0);
	ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_OK);
	ck_assert_int_eq((int)put_res.status, CPM_PUT_QUEUED);
	ck_assert_str_eq(kinds_seen(), "qs");
	ck_assert_str_eq(lease_jobs("t", STORE | STORED, 9), "aa");
	ck_pl_same(jobs[0].blob, p.blob);
	ck_assert_int_eq(settle_job(STORE, "t", "a", CPM_JOB_DONE, 0), CPM_OK);
	/* not again with a retransmission, a conflict or a refusal */
	ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_OK);
	ck_assert_int_eq((int)put_res.status, CPM_PUT_DUPLICATE);
	p.blob = blob_of(BOB, p.id, LIT("other"), 0);
	ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_OK);
	ck_assert_int_eq((int)put_res.status, CPM_PUT_CONFLICT);
	p.id = LIT("b");
	p.max_messages = 1;
	p.blob = blob_of(BOB, p.id, LIT("x"), 0);
	ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_OK);
	ck_assert_int_eq((int)put_res.status, CPM_PUT_FULL_MESSAGES);
	ck_assert_str_eq(kinds_seen(), "q");
	end();
}
END_TEST

/* The queue has forgotten the one that had this id, its job is still there. */
START_TEST(left_by_another)
{
	struct cpm_put p = {
			.aor = BOB, .id = LIT("a"), .check_in_ms = 5000, .jobs = STORE};

	begin();
	ck_assert_int_eq(io_jobs_put(q, STORE, BOB, p.id,
							 blob_of(BOB, p.id, LIT("x"), 0), 0, 0),
			CPM_OK);
	p.blob = blob_of(BOB, p.id, LIT("other"), 0);
	ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_OK);
	ck_assert_int_eq((int)put_res.status, CPM_PUT_CONFLICT);
	/* the same message has it already */
	p.blob = blob_of(BOB, p.id, LIT("x"), 0);
	ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_OK);
	ck_assert_int_eq((int)put_res.status, CPM_PUT_QUEUED);
	ck_assert_uint_eq(put_res.messages, 1);
	ck_assert_str_eq(kinds_seen(), "s");
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "a");
	end();
}
END_TEST

START_TEST(left_by_settle)
{
	struct cpm_settle s = {.aor = BOB,
			.id = LIT("a"),
			.token = LIT("t"),
			.how = CPM_SETTLE_DEAD,
			.fail_class = CPM_FAIL_MESSAGE,
			.error = LIT("415"),
			.dedup_ms = DEDUP_MS,
			.jobs = FAILED | STORE};
	static const enum cpm_settle_how others[] = {CPM_SETTLE_DELIVERED,
			CPM_SETTLE_RETRY, CPM_SETTLE_DEFER, CPM_SETTLE_UNSENT};

	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_settle(q, &s), CPM_ENOENT);
	ck_assert_int_eq(job_count(), 0);
	ck_leased("t", "a", 1);
	if(_i < (int)FU_N(others)) {
		s.how = others[_i];
		ck_assert_int_eq(io_queue_settle(q, &s), CPM_OK);
		ck_assert_int_eq(job_count(), 0);
	} else {
		ck_assert_int_eq(io_queue_settle(q, &s), CPM_OK);
		ck_assert_int_eq(io_queue_settle(q, &s), CPM_ENOENT);
		ck_assert_str_eq(kinds_seen(), "fs");
		/* the message stays, dead; and the job has a copy of its own */
		ck_assert_uint_eq(count(), 1);
		ck_assert_uint_eq(stat_res.dead, 1);
		ck_assert_int_eq(io_queue_discard(q, BOB, LIT("a"), 1, 0), CPM_OK);
		ck_assert_str_eq(lease_jobs("t", FAILED, 9), "a");
		ck_pl_same(jobs[0].blob, blob_of(BOB, LIT("a"), LIT("x"), 0));
	}
	end();
}
END_TEST

START_TEST(left_by_discard_and_expiry)
{
	struct cpm_left left[2];
	size_t n = 0;

	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("x"), T0 + 1, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(io_queue_discard(q, BOB, LIT("a"), DEDUP_MS,
							 CPM_JOB_INTERWORK | STORED),
			CPM_OK);
	ck_assert_str_eq(kinds_seen(), "iq");
	io_queue_set_now(q, T0 + 1);
	ck_assert_int_eq(release("", ""), CPM_OK);
	ck_assert_int_eq(
			io_queue_left(q, cpm_queue_shard(BOB), LIT("r"), 2, 1000, left, &n),
			CPM_OK);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(
			io_queue_left_done(q, BOB, LIT("b"), LIT("other"), CPM_JOB_ALL),
			CPM_ENOENT);
	ck_assert_int_eq(
			io_queue_left_done(q, BOB, LIT("b"), LIT("r"), STORE | FAILED),
			CPM_OK);
	ck_assert_str_eq(kinds_seen(), "iqfs");
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "b");
	ck_pl_same(jobs[0].blob, blob_of(BOB, LIT("b"), LIT("x"), T0 + 1));
	end();
}
END_TEST

/* An empty queue is nothing to push for. */
START_TEST(push_of_empty)
{
	uint64_t upto = 0, removed = 0;
	struct cpm_job seen;

	begin();
	ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
	ck_assert_int_eq(
			put_full(BOB, LIT("b"), LIT("x"), T0 + 10, 0, 0), CPM_PUT_QUEUED);
	ck_assert_int_eq(put_job(PUSH, CPM_JOB_OF_USER, "{}"), CPM_OK);
	ck_assert_int_eq(put_job(STORE, CPM_JOB_OF_USER, "{}"), CPM_OK);
	ck_assert_int_eq(
			io_jobs_put(q, PUSH, ALICE, LIT("-"), LIT("{}"), 0, 0), CPM_OK);
	if(_i > 3)
		ck_assert_str_eq(lease_jobs("t", PUSH, 9), "-");
	ck_leased("t", "a", 1);
	ck_assert_int_eq(delivered("t", "a"), CPM_OK);
	ck_assert_uint_eq(see(&seen), 3);
	switch(_i % 4) {
		case 0:
			ck_leased("t", "b", 1);
			ck_assert_int_eq(delivered("t", "b"), CPM_OK);
			break;
		case 1:
			ck_assert_int_eq(io_queue_discard(q, BOB, LIT("b"), 1, 0), CPM_OK);
			break;
		case 2:
			ck_assert_int_eq(
					io_queue_purge(q, BOB, 10, &upto, &removed), CPM_OK);
			break;
		case 3:
			io_queue_set_now(q, T0 + 10);
			ck_assert_int_eq(release("", ""), CPM_OK);
			break;
	}
	/* those of others, and other jobs, stay */
	ck_assert_uint_eq(see(&seen), 2);
	ck_assert_int_eq(
			io_jobs_drop(q, PUSH, BOB, LIT(CPM_JOB_OF_USER)), CPM_ENOENT);
	ck_assert_int_eq(settle_job(PUSH, "t", "-", CPM_JOB_DONE, 0), CPM_ENOENT);
	ck_assert_int_eq(io_jobs_drop(q, STORE, BOB, LIT(CPM_JOB_OF_USER)), CPM_OK);
	ck_assert_int_eq(io_jobs_drop(q, PUSH, ALICE, LIT("-")), CPM_OK);
	ck_assert_uint_eq(see(&seen), 0);
	ck_no_jobs();
	end();
}
END_TEST

/* ---------------------------------------------------------- without a message */

START_TEST(put_many_kinds)
{
	begin();
	ck_assert_int_eq(put_job(STORE | STORED, "a", "x"), CPM_OK);
	ck_assert_int_eq(put_job(STORE | STORED, "a", "x"), CPM_EEXIST);
	/* those that are missing are added */
	ck_assert_int_eq(put_job(STORE | FAILED, "a", "x"), CPM_OK);
	ck_assert_str_eq(kinds_seen(), "fqs");
	/* of one kind at most so many */
	ck_assert_int_eq(put_job(STORE, "b", "x"), CPM_OK);
	ck_assert_int_eq(
			io_jobs_put(q, STORE, BOB, LIT("c"), NOBODY, 0, 7), CPM_OK);
	ck_assert_str_eq(lease_jobs("t", STORE, 1), "a");
	ck_assert_str_eq(lease_jobs("t", STORE | FAILED, 1), "a");
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "b");
	io_queue_set_now(q, T0 + 7);
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "c");
	ck_assert_uint_eq(jobs[0].blob.n, 0);
	end();
}
END_TEST

START_TEST(put_once)
{
	static char one[4096], two[4096];
	struct cpm_pl blob = blob_of(BOB, LIT("a"), LIT("x"), 0), other;
	unsigned kinds = STORE | STORED;

	begin();
	blob = cpm_pl(memcpy(one, blob.p, blob.n), blob.n);
	other = blob_of(BOB, LIT("a"), LIT("other"), 0);
	other = cpm_pl(memcpy(two, other.p, other.n), other.n);
	switch(_i) {
		case 0: /* it is there */
			ck_assert_int_eq(
					io_jobs_put(q, kinds, BOB, LIT("a"), blob, 0, 0), CPM_OK);
			break;
		case 1: /* it was done with, by a job */
			ck_assert_int_eq(
					io_jobs_put(q, kinds, BOB, LIT("a"), blob, DEDUP_MS, 0),
					CPM_OK);
			ck_assert_str_eq(lease_jobs("t", kinds, 9), "aa");
			ck_assert_int_eq(
					settle_job(STORE, "t", "a", CPM_JOB_DONE, 0), CPM_OK);
			ck_assert_int_eq(
					settle_job(STORED, "t", "a", CPM_JOB_DONE, 0), CPM_OK);
			/* the queue knows it as well */
			ck_assert_int_eq(put("a", "x"), CPM_PUT_GONE);
			ck_assert_int_eq(put("a", "other"), CPM_PUT_CONFLICT);
			break;
		case 2: /* it was delivered */
			ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
			ck_leased("t", "a", 1);
			ck_assert_int_eq(delivered("t", "a"), CPM_OK);
			break;
		case 3: /* it is in the queue */
			ck_assert_int_eq(put("a", "x"), CPM_PUT_QUEUED);
			break;
		case 4: /* one of the jobs is there */
			ck_assert_int_eq(
					io_jobs_put(q, STORED, BOB, LIT("a"), blob, 0, 0), CPM_OK);
			break;
	}
	int64_t n = job_count();
	ck_assert_int_eq(io_jobs_put(q, kinds, BOB, LIT("a"), blob, DEDUP_MS, 0),
			CPM_EEXIST);
	ck_assert_int_eq(io_jobs_put(q, kinds, BOB, LIT("a"), other, DEDUP_MS, 0),
			CPM_ELIMIT);
	ck_assert_int_eq(job_count(), n);
	/* its memory ends */
	if(_i == 1 || _i == 2) {
		int64_t ttl =
				integer(qask("PTTL t:{%u}:d:" BOBS ":a", cpm_queue_shard(BOB)));

		ck_assert_int_gt(ttl, 0);
		ck_assert_int_le(ttl, DEDUP_MS);
		tell("DEL t:{%u}:d:" BOBS ":a", cpm_queue_shard(BOB));
		ck_assert_int_eq(
				io_jobs_put(q, kinds, BOB, LIT("a"), other, DEDUP_MS, 0),
				CPM_OK);
	}
	end();
}
END_TEST

START_TEST(replaced)
{
	struct cpm_job seen;
	struct cpm_pl id = LIT(CPM_JOB_OF_USER);

	begin();
	ck_assert_int_eq(io_jobs_replace(q, PUSH, BOB, id, LIT("1"), 50), CPM_OK);
	ck_assert_int_eq(io_jobs_replace(q, PUSH, BOB, id, LIT("2"), 999), CPM_OK);
	ck_assert_uint_eq(see(&seen), 1);
	ck_assert_uint_eq(seen.due_ms, T0 + 50);
	io_queue_set_now(q, T0 + 50);
	ck_assert_str_eq(lease_jobs("t", PUSH, 9), "-");
	ck_pl_eq(jobs[0].blob, "2");
	ck_assert_int_eq(settle_job(PUSH, "t", "-", CPM_JOB_RETRY, 5), CPM_OK);
	ck_assert_int_eq(io_jobs_replace(q, PUSH, BOB, id, LIT("3"), 0), CPM_OK);
	ck_assert_str_eq(lease_jobs("t", PUSH, 9), "");
	io_queue_set_now(q, T0 + 55);
	ck_assert_str_eq(lease_jobs("t", PUSH, 9), "-");
	ck_pl_eq(jobs[0].blob, "3");
	ck_assert_uint_eq(jobs[0].attempts, 2);
	/* while somebody does it with the old one */
	ck_assert_int_eq(io_jobs_replace(q, PUSH, BOB, id, LIT("4"), 0), CPM_OK);
	ck_assert_int_eq(io_jobs_replace(q, PUSH, BOB, id, LIT("5"), 0), CPM_OK);
	ck_assert_uint_eq(see(&seen), 1);
	ck_assert_int_eq((int)seen.state, CPM_JOB_LEASED);
	ck_assert_str_eq(lease_jobs("t", PUSH, 9), "");
	ck_assert_int_eq(io_jobs_renew(q, PUSH, BOB, id, LIT("t"), LEASE_MS), 0);
	ck_assert_int_eq(settle_job(PUSH, "u", "-", CPM_JOB_DONE, 0), CPM_ENOENT);
	switch(_i) {
		case 0:
		case 1:
			ck_assert_int_eq(
					settle_job(PUSH, "t", "-",
							_i == 0 ? CPM_JOB_DONE : CPM_JOB_GIVE_UP, 0),
					CPM_OK);
			ck_assert_str_eq(lease_jobs("t", PUSH, 9), "-");
			ck_assert_uint_eq(jobs[0].attempts, 1);
			break;
		case 2:
			ck_assert_int_eq(
					settle_job(PUSH, "t", "-", CPM_JOB_RETRY, 9), CPM_OK);
			ck_assert_str_eq(lease_jobs("t", PUSH, 9), "");
			io_queue_set_now(q, T0 + 64);
			ck_assert_str_eq(lease_jobs("t", PUSH, 9), "-");
			ck_assert_uint_eq(jobs[0].attempts, 3);
			break;
		case 3: /* it died */
			io_queue_set_now(q, T0 + 2 * LEASE_MS);
			ck_assert_str_eq(lease_jobs("u", PUSH, 9), "-");
			break;
	}
	ck_pl_eq(jobs[0].blob, "5");
	if(_i == 3)
		ck_assert_int_eq(
				settle_job(PUSH, "t", "-", CPM_JOB_DONE, 0), CPM_ENOENT);
	ck_assert_int_eq(
			settle_job(PUSH, _i == 3 ? "u" : "t", "-", CPM_JOB_GIVE_UP, 0),
			CPM_OK);
	/* what was given up was the old one */
	io_queue_set_now(q, T0 + 3 * LEASE_MS);
	ck_assert_int_eq(io_jobs_replace(q, PUSH, BOB, id, LIT("6"), 10), CPM_OK);
	ck_assert_uint_eq(see(&seen), 1);
	ck_assert_int_eq((int)seen.state, CPM_JOB_WAITING);
	ck_assert_uint_eq(seen.last_error.n, 0);
	ck_assert_uint_eq(seen.due_ms, T0 + 3 * LEASE_MS + 10);
	io_queue_set_now(q, T0 + 3 * LEASE_MS + 10);
	ck_assert_str_eq(lease_jobs("t", PUSH, 9), "-");
	ck_assert_uint_eq(jobs[0].attempts, 1);
	/* one that ran out is replaced: who had it did it with the old one */
	io_queue_set_now(q, T0 + 6 * LEASE_MS);
	ck_assert_int_eq(io_jobs_replace(q, PUSH, BOB, id, LIT("7"), 10), CPM_OK);
	ck_assert_int_eq(settle_job(PUSH, "t", "-", CPM_JOB_DONE, 0), CPM_ENOENT);
	ck_assert_str_eq(lease_jobs("t", PUSH, 9), "-");
	ck_pl_eq(jobs[0].blob, "7");
	end();
}
END_TEST

/* ------------------------------------------------------------- who does them */

START_TEST(orphans)
{
	size_t n = _i == 0 ? 3 : 250;
	size_t got = 0, of_other = 0;
	char id[16];

	begin();
	for(size_t i = 0; i < n; i++) {
		(void)snprintf(id, sizeof(id), "m%zu", i);
		ck_assert_int_eq(put_job(STORE, id, "x"), CPM_OK);
	}
	ck_assert_int_eq(put_job(STORED, "w", "x"), CPM_OK);
	ck_assert_str_eq(lease_jobs("1b.1.x", STORED, 1), "w");
	for(size_t i = 0; i < n; i += jobs_n) {
		(void)lease_jobs("1a.1.x", STORE, IO_JOBS_LEASE_MAX);
		ck_assert_uint_gt(jobs_n, 0);
	}
	ck_assert_int_eq(io_jobs_replace(q, STORE, BOB, LIT("m1"), LIT("y"), 0), 0);
	/* its own second process and another node wait */
	ck_assert_str_eq(lease_jobs("1a.1.y", STORE, 9), "");
	ck_assert_str_eq(lease_jobs("1b.7.y", STORE, 9), "");
	/* the next boot does not; some calls may be needed for very many */
	for(int calls = 0; calls < 20; calls++) {
		jobs_n = 99;
		ck_assert_int_eq(io_jobs_lease(q, all_shards(), CPM_QUEUE_SHARDS,
								 STORE | STORED, LIT("1a.2.x"), LEASE_MS,
								 IO_JOBS_LEASE_MAX, jobs, &jobs_n),
				CPM_OK);
		for(size_t i = 0; i < jobs_n; i++) {
			ck_assert_uint_eq(jobs[i].attempts, 2);
			got += jobs[i].kind == STORE;
			of_other += jobs[i].kind == STORED;
		}
	}
	ck_assert_uint_eq(got, n);
	/* 1b.1 of the other node was freed by the other boot 1b.7, and only so */
	ck_assert_uint_eq(of_other, 1);
	ck_assert_int_eq(io_jobs_settle(q, STORE, BOB, LIT("m0"), LIT("1a.1.x"),
							 CPM_JOB_DONE, 0, NOBODY),
			CPM_ENOENT);
	ck_assert_str_eq(lease_jobs("1a.2.z", STORE, 9), "");
	end();
}
END_TEST

/* What nobody does at the moment does not keep the others waiting. */
START_TEST(no_starvation)
{
	size_t got = 0;
	int calls = 0;
	char id[16];
	bool many = _i == 1;

	begin();
	for(int i = 0; i < 1300; i++) {
		(void)snprintf(id, sizeof(id), "s%d", i);
		ck_assert_int_eq(put_job(STORE, id, "x"), CPM_OK);
		if(i % 430 == 429) {
			(void)snprintf(id, sizeof(id), "q%d", i);
			ck_assert_int_eq(put_job(STORED, id, "x"), CPM_OK);
		}
	}
	io_queue_set_now(q, T0 + 1);
	ck_assert_int_eq(put_job(FAILED, "last", "x"), CPM_OK);
	for(; got < 4 && calls < 20; calls++) {
		ck_assert_int_eq(
				io_jobs_lease(q, all_shards(), many ? CPM_QUEUE_SHARDS : 1,
						STORED | FAILED, LIT("1a.1.t"), 10 * LEASE_MS, 64, jobs,
						&jobs_n),
				CPM_OK);
		got += jobs_n;
		/* bob's shard is the 48th: with one, ask for that */
		if(!many) {
			got += strlen(lease_jobs("1a.1.t", STORED | FAILED, 64));
		}
	}
	ck_assert_uint_eq(got, 4);
	/* the others lose nothing by it */
	got = 0;
	for(calls = 0; calls < 60; calls++)
		got += strlen(lease_jobs("1a.1.t", STORE, 64));
	ck_assert_uint_eq(got, 1300);
	end();
}
END_TEST

START_TEST(over_shards)
{
	unsigned seen[200] = {0}, in_shard[CPM_QUEUE_SHARDS] = {0};
	unsigned max = 0;
	size_t total = 0;
	char aor[64];

	begin();
	/* one user has very many */
	for(int i = 0; i < 200; i++) {
		char id[16];

		(void)snprintf(
				aor, sizeof(aor), "sip:u%d@example.org", i < 100 ? 0 : i);
		(void)snprintf(id, sizeof(id), "j%d", i);
		ck_assert_int_eq(io_jobs_put(q, STORE, cpm_pl_str(aor), cpm_pl_str(id),
								 cpm_pl_str(id), 0, 0),
				CPM_OK);
	}
	for(int calls = 0; calls < 40; calls++) {
		ck_assert_int_eq(io_jobs_lease(q, all_shards(), CPM_QUEUE_SHARDS, STORE,
								 LIT("t"), LEASE_MS, 20, jobs, &jobs_n),
				CPM_OK);
		ck_assert_uint_le(jobs_n, 20);
		ck_assert(jobs_n == 20 || total + jobs_n == 200);
		for(size_t i = 0; i < jobs_n; i++) {
			seen[number_in(jobs[i].id)]++;
			ck_pl_same(jobs[i].blob, jobs[i].id);
			if(calls < 2)
				in_shard[cpm_queue_shard(jobs[i].aor)]++;
		}
		total += jobs_n;
	}
	for(size_t i = 0; i < 200; i++)
		ck_assert_uint_eq(seen[i], 1);
	for(size_t i = 0; i < CPM_QUEUE_SHARDS; i++)
		max = in_shard[i] > max ? in_shard[i] : max;
	ck_assert_uint_le(max, 2);
	end();
}
END_TEST

/* Large ones: one of each shard whatever its size, and no more than that. */
START_TEST(large)
{
	static char blob[3 * 1024 * 1024];

	begin();
	memset(blob, 'b', sizeof(blob));
	for(int i = 0; i < 3; i++) {
		char id[] = {(char)('a' + i), '\0'};

		ck_assert_int_eq(io_jobs_put(q, STORE, BOB, cpm_pl_str(id),
								 cpm_pl(blob, sizeof(blob)), 0, 0),
				CPM_OK);
	}
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "a");
	ck_assert_uint_eq(jobs[0].blob.n, sizeof(blob));
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "b");
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "c");
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "");
	end();
}
END_TEST

START_TEST(old_records)
{
	struct cpm_job seen;
	struct cpm_pl argv[] = {
			LIT("HSET"), NOBODY, LIT("s " BOBS " a"), LIT("0 - \nthe\nblob")};
	struct redisReply *r = NULL;

	begin();
	damage("ZADD %jobs 1700000000000 s_" BOBS "_a");
	argv[1] = cpm_pl_str(key(CPM_KEY_JOB, BOBS));
	ck_assert_int_eq(io_redis_command(raw, 4, argv, &r), CPM_OK);
	io_redis_reply_free(&r);
	ck_assert_uint_eq(see(&seen), 1);
	ck_assert_int_eq((int)seen.state, CPM_JOB_WAITING);
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "a");
	ck_pl_eq(jobs[0].blob, "the\nblob");
	ck_assert_uint_eq(jobs[0].last_error.n, 0);
	ck_assert_int_eq(settle_job(STORE, "t", "a", CPM_JOB_DONE, 0), CPM_OK);
	ck_no_jobs();
	end();
}
END_TEST

START_TEST(out_of_memory)
{
	begin();
	ck_assert_int_eq(put_job(STORE, "a", "x"), CPM_OK);
	ck_assert_int_eq(put_job(STORE, "b", "x"), CPM_OK);
	ck_assert_int_eq(put_job(STORE, "c", "x"), CPM_OK);
	ck_assert_int_eq(put("m", "x"), CPM_PUT_QUEUED);
	ck_leased("1a.1.d", "m", 1);
	tell("CONFIG SET maxmemory 1");
	/* what makes more is refused, as a whole */
	ck_assert_int_eq(put_job(STORE | STORED, "d", "x"), CPM_EDOWN);
	ck_assert_int_eq(
			io_jobs_replace(q, STORE, BOB, LIT("a"), LIT("y"), 0), CPM_EDOWN);
	ck_assert_int_eq(job_count(), 3);
	/* what leads to less is not */
	ck_assert_str_eq(lease_jobs("1a.1.x", STORE, 9), "abc");
	ck_assert_int_eq(renew_job("1a.1.x", "a"), CPM_OK);
	ck_assert_int_eq(settle_job(STORE, "1a.1.x", "a", CPM_JOB_RETRY, 0), 0);
	ck_assert_int_eq(settle_job(STORE, "1a.1.x", "b", CPM_JOB_GIVE_UP, 0), 0);
	ck_assert_int_eq(io_jobs_requeue(q, STORE, BOB, LIT("b")), CPM_OK);
	ck_assert_str_eq(lease_jobs("1a.2.x", STORE, 9), "abc");
	ck_assert_int_eq(settle_job(STORE, "1a.2.x", "a", CPM_JOB_DONE, 0), 0);
	ck_assert_int_eq(io_jobs_drop(q, STORE, BOB, LIT("b")), CPM_OK);
	/* nor the end of a message, with what it leaves */
	struct cpm_settle s = {.aor = BOB,
			.id = LIT("m"),
			.token = LIT("1a.1.d"),
			.how = CPM_SETTLE_DEAD,
			.fail_class = CPM_FAIL_MESSAGE,
			.jobs = STORE | FAILED};
	ck_assert_int_eq(io_queue_settle(q, &s), CPM_OK);
	ck_assert_int_eq(job_count(), 3);
	ck_assert_int_eq(
			io_queue_discard(q, BOB, LIT("m"), 1, CPM_JOB_INTERWORK | STORED),
			CPM_OK);
	ck_assert_int_eq(job_count(), 5);
	ck_assert_uint_eq(count(), 0);
	end();
}
END_TEST

/* Broken ones go when they are found, and stand in nobody's way. */
START_TEST(damaged)
{
	begin();
	ck_assert_int_eq(put_job(STORE, "a", "x"), CPM_OK);
	damage("ZADD %jobs 1 s_" BOBS "_lost");
	damage("ZADD %jobs 2 s");
	damage("ZADD %jobs 3 s_garbage");
	damage("ZADD %jobs 4 s_" BOBS "_odd");
	{
		struct cpm_pl argv[] = {LIT("HSET"), cpm_pl_str(key(CPM_KEY_JOB, BOBS)),
				LIT("s " BOBS " odd"), LIT("no record")};
		struct redisReply *r = NULL;

		ck_assert_int_eq(io_redis_command(raw, 4, argv, &r), CPM_OK);
		io_redis_reply_free(&r);
	}
	ck_assert_str_eq(lease_jobs("t", STORE, 9), "a");
	ck_assert_int_eq(settle_job(STORE, "t", "a", CPM_JOB_DONE, 0), CPM_OK);
	/* what has no name of a job is no job: nobody asks for it */
	damage("ZREM %jobs s");
	ck_no_jobs();
	/* nothing is half done */
	for(int i = 0; i < 2; i++) {
		ck_assert_int_eq(put_job(FAILED, "f", "x"), CPM_OK);
		tell("SET %s x", key(i == 0 ? CPM_KEY_JOB : CPM_KEY_JOBS, BOBS));
		unsigned shard = cpm_queue_shard(BOB);
		ck_assert_int_eq(put_job(STORE | STORED, "b", "x"), CPM_EPROTO);
		ck_assert_int_eq(io_jobs_lease(q, &shard, 1, STORE, LIT("t"), 1, 1,
								 jobs, &jobs_n),
				CPM_EPROTO);
		ck_assert_int_eq(io_jobs_lease(q, all_shards(), 64, STORE, LIT("t"), 1,
								 1, jobs, &jobs_n),
				CPM_EPROTO);
		ck_assert_int_eq(io_jobs_drop(q, STORE, BOB, LIT("b")), CPM_EPROTO);
		ck_assert_int_eq(io_jobs_requeue(q, STORE, BOB, LIT("b")), CPM_EPROTO);
		ck_assert_int_eq(io_jobs_replace(q, STORE, BOB, LIT("b"), NOBODY, 0),
				CPM_EPROTO);
		struct cpm_put p = {.aor = BOB,
				.id = LIT("m"),
				.blob = blob_of(BOB, LIT("m"), LIT("x"), 0),
				.check_in_ms = 5000,
				.jobs = STORE};
		ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_EPROTO);
		ck_assert_uint_eq(count(), 0);
		tell("DEL %s", key(i == 0 ? CPM_KEY_JOB : CPM_KEY_JOBS, BOBS));
		/* half of one is left by that: what is there goes with it */
		ck_assert_int_eq(io_jobs_drop(q, FAILED, BOB, LIT("f")), CPM_OK);
		ck_no_jobs();
	}
	end();
}
END_TEST

/* --------------------------------------------------------- any life at all */

#define W_IDS 5
#define W_STEPS 700

/* What ought to be there: by kind and id. */
static struct wjob
{
	bool there, dead, changed;
	char token[4]; /* empty: not leased */
	unsigned attempts, version;
	uint64_t due_ms;
	bool failed; /* has an error */
} model[CPM_JOB_KINDS][W_IDS];

static uint64_t w_now, w_random;
static unsigned w_version;

static unsigned rnd_to(unsigned n)
{
	w_random = w_random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (unsigned)((w_random >> 33) % n);
}

static bool w_leased(const struct wjob *j)
{
	return j->token[0] != '\0' && j->due_ms > w_now;
}

/* Of those that may be leased, the first by time and name; NULL: none. */
static struct wjob *w_first(unsigned kinds, char *letter, char *id)
{
	static const char letters[] = "fipqs"; /* by name */
	struct wjob *best = NULL;

	for(const char *p = letters; *p != '\0'; p++)
		for(int i = 0; i < W_IDS; i++) {
			unsigned kind = cpm_job_of_letter(*p);
			unsigned k = 0;

			while(1u << k != kind)
				k++;
			struct wjob *j = &model[k][i];
			if((kinds & kind) == 0 || !j->there || j->dead || j->due_ms > w_now
					|| (best != NULL && best->due_ms <= j->due_ms))
				continue;
			best = j;
			*letter = *p;
			*id = (char)('a' + i);
		}
	return best;
}

static void w_lease(const char *token)
{
	unsigned kinds = 1 + rnd_to(CPM_JOB_ALL), shard = cpm_queue_shard(BOB);
	struct wjob *due[8];
	uint64_t due_ms[8] = {0};
	char letter[8], id[8], blob[16];
	size_t limit = 1 + rnd_to(8), n = 0;

	while(n < limit && (due[n] = w_first(kinds, &letter[n], &id[n])) != NULL) {
		due_ms[n] = due[n]->due_ms;
		due[n]->due_ms = w_now + LEASE_MS;
		n++;
	}
	ck_assert_int_eq(io_jobs_lease(q, &shard, 1, kinds, cpm_pl_str(token),
							 LEASE_MS, limit, jobs, &jobs_n),
			CPM_OK);
	ck_assert_uint_eq(jobs_n, n);
	for(size_t i = 0; i < n; i++) {
		ck_assert(i == 0 || due_ms[i] >= due_ms[i - 1]);
		ck_assert_int_eq(cpm_job_letter(jobs[i].kind), letter[i]);
		ck_assert_int_eq(jobs[i].id.p[0], id[i]);
		ck_assert_uint_eq(jobs[i].attempts, ++due[i]->attempts);
		(void)snprintf(blob, sizeof(blob), "v%u", due[i]->version);
		ck_pl_eq(jobs[i].blob, blob);
		(void)snprintf(due[i]->token, sizeof(due[i]->token), "%s", token);
		due[i]->changed = false;
	}
}

static void w_settle(struct wjob *j, enum cpm_job_kind kind, struct cpm_pl id,
		bool ours, const char *token)
{
	enum cpm_job_how how = (enum cpm_job_how)rnd_to(3);
	uint64_t in_ms = rnd_to(5000);

	ck_assert_int_eq(io_jobs_settle(q, kind, BOB, id, cpm_pl_str(token), how,
							 in_ms, LIT("e")),
			ours ? CPM_OK : CPM_ENOENT);
	if(!ours)
		return;
	j->token[0] = '\0';
	j->failed = true;
	if(how == CPM_JOB_RETRY)
		j->due_ms = w_now + in_ms;
	else if(j->changed) {
		j->due_ms = w_now;
		j->attempts = 0;
		j->failed = false;
	} else if(how == CPM_JOB_GIVE_UP)
		j->dead = true;
	else
		memset(j, 0, sizeof(*j));
	j->changed = false;
}

static void w_replace(
		struct wjob *j, enum cpm_job_kind kind, struct cpm_pl id, bool put_only)
{
	uint64_t delay_ms = rnd_to(3000);
	char blob[16];

	(void)snprintf(blob, sizeof(blob), "v%u", ++w_version);
	if(put_only)
		ck_assert_int_eq(
				io_jobs_put(q, kind, BOB, id, cpm_pl_str(blob), 0, delay_ms),
				j->there ? CPM_EEXIST : CPM_OK);
	else
		ck_assert_int_eq(
				io_jobs_replace(q, kind, BOB, id, cpm_pl_str(blob), delay_ms),
				CPM_OK);
	if(!j->there || (j->dead && !put_only)) {
		memset(j, 0, sizeof(*j));
		j->there = true;
		j->due_ms = w_now + delay_ms;
	} else if(put_only)
		return;
	else if(w_leased(j))
		j->changed = true;
	else
		j->token[0] = '\0';
	j->version = w_version;
}

static void w_step(void)
{
	static const char *const tokens[] = {"t1", "t2", "u"};
	unsigned k = rnd_to(CPM_JOB_KINDS), i = rnd_to(W_IDS);
	enum cpm_job_kind kind = (enum cpm_job_kind)(1u << k);
	struct wjob *j = &model[k][i];
	const char *token =
			j->token[0] != '\0' && rnd_to(4) > 0 ? j->token : tokens[rnd_to(3)];
	char name = (char)('a' + i), own[4];
	struct cpm_pl id = cpm_pl(&name, 1);
	bool ours = j->there && strcmp(j->token, token) == 0;

	(void)snprintf(own, sizeof(own), "%s", token);
	switch(rnd_to(16)) {
		case 0:
		case 1:
		case 2:
			w_lease(own);
			break;
		case 3:
		case 4:
		case 5:
		case 6:
			w_settle(j, kind, id, ours, own);
			break;
		case 7:
		case 8:
			w_replace(j, kind, id, rnd_to(2) == 0);
			break;
		case 9:
			w_replace(j, kind, id, true);
			break;
		case 10:
			ck_assert_int_eq(
					io_jobs_renew(q, kind, BOB, id, cpm_pl_str(own), LEASE_MS),
					ours ? CPM_OK : CPM_ENOENT);
			if(ours)
				j->due_ms = w_now + LEASE_MS;
			break;
		case 11:
			ck_assert_int_eq(io_jobs_requeue(q, kind, BOB, id),
					!j->there	  ? CPM_ENOENT
					: w_leased(j) ? CPM_EEXIST
								  : CPM_OK);
			if(j->there && !w_leased(j)) {
				j->dead = j->changed = false;
				j->token[0] = '\0';
				j->attempts = 0;
				j->due_ms = w_now;
			}
			break;
		case 12:
			if(rnd_to(3) > 0)
				break;
			ck_assert_int_eq(io_jobs_drop(q, kind, BOB, id),
					j->there ? CPM_OK : CPM_ENOENT);
			memset(j, 0, sizeof(*j));
			break;
		default:
			w_now += rnd_to(rnd_to(10) == 0 ? 2 * LEASE_MS : 1000);
			io_queue_set_now(q, w_now);
			break;
	}
}

static void ck_model(void)
{
	struct cpm_job seen[CPM_JOB_KINDS * W_IDS + 1];
	size_t n = 0, want = 0;
	unsigned shard = cpm_queue_shard(BOB);

	ck_assert_int_eq(
			io_queue_jobs(q, &shard, 0, NOBODY, FU_N(seen), seen, &n), CPM_OK);
	for(size_t at = 0; at < n; at++) {
		unsigned k = 0;

		while(1u << k != (unsigned)seen[at].kind)
			k++;
		const struct wjob *j = &model[k][seen[at].id.p[0] - 'a'];
		ck_assert(j->there);
		ck_assert_int_eq((int)seen[at].state, j->dead		? CPM_JOB_DEAD
											  : w_leased(j) ? CPM_JOB_LEASED
															: CPM_JOB_WAITING);
		ck_assert_uint_eq(seen[at].attempts, j->attempts);
		ck_pl_eq(seen[at].last_error, j->failed ? "e" : "");
		if(!j->dead)
			ck_assert_uint_eq(seen[at].due_ms, j->due_ms);
	}
	for(unsigned k = 0; k < CPM_JOB_KINDS; k++)
		for(unsigned i = 0; i < W_IDS; i++)
			want += model[k][i].there;
	ck_assert_uint_eq(n, want);
	ck_assert_int_eq(
			integer(qask("HLEN %s", key(CPM_KEY_JOB, BOBS))), (int64_t)want);
	ck_assert_int_eq(job_count(), (int64_t)want);
}

START_TEST(random_life)
{
	begin();
	memset(model, 0, sizeof(model));
	w_random = (uint64_t)_i + 1;
	w_now = T0;
	w_version = 0;
	for(int step = 0; step < W_STEPS; step++) {
		w_step();
		ck_model();
	}
	end();
}
END_TEST

/* ---------------------------------------------------------------- a Cluster */

START_TEST(cluster)
{
	struct redis_helper nodes[2];
	struct io_redis_conf conf = {.topology = IO_REDIS_CLUSTER,
			.server_count = 1,
			.connect_timeout_ms = 2000,
			.cmd_timeout_ms = 10000};
	size_t got = 0;
	char aor[64];

	memset(nodes, 0, sizeof(nodes));
	redis_start_cluster(nodes, 2, 2,
			(const char *const[]){
					"--cluster-require-full-coverage", "no", NULL});
	(void)snprintf(
			conf.server[0].host, sizeof(conf.server[0].host), "127.0.0.1");
	conf.server[0].port = nodes[0].port;
	q = io_queue_new(&conf, LIT("t"));
	ck_assert_ptr_nonnull(q);
	for(int i = 0; i < 40; i++) {
		(void)snprintf(aor, sizeof(aor), "sip:u%d@example.org", i);
		ck_assert_int_eq(io_jobs_put(q, STORE, cpm_pl_str(aor), LIT("a"),
								 LIT("x"), 0, 0),
				CPM_OK);
	}
	ck_assert_int_eq(io_jobs_lease(q, all_shards(), 64, STORE, LIT("t"),
							 LEASE_MS, 15, jobs, &jobs_n),
			CPM_OK);
	ck_assert_uint_eq(jobs_n, 15);
	got = jobs_n;
	/* one is down: the jobs of the other are done */
	redis_kill(&nodes[1]);
	for(int calls = 0; calls < 5; calls++) {
		ck_assert_int_eq(io_jobs_lease(q, all_shards(), 64, STORE, LIT("t"),
								 LEASE_MS, 64, jobs, &jobs_n),
				CPM_OK);
		got += jobs_n;
	}
	ck_assert_uint_gt(got, 15);
	ck_assert_uint_lt(got, 40);
	io_queue_free(&q);
	redis_stop(&nodes[0]);
	redis_stop(&nodes[1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_jobs");

	fu_table(s, "a job is done, tried again, given up, and tried once more",
			life, CPM_JOB_KINDS);
	fu_table(s, "a lease that ends gives its job to the next", lease_ends, 6);
	fu_case(s, "an error is one line, and not a long one", errors);
	fu_case(s, "what is out of bounds is refused before it is written",
			refused);
	fu_case(s, "a message that is queued leaves its jobs, once", left_by_put);
	fu_case(s, "no job is taken for that of another message with its id",
			left_by_another);
	fu_table(s, "a dead letter leaves its jobs, no other end does",
			left_by_settle, 5);
	fu_case(s, "what is discarded or expires leaves its jobs",
			left_by_discard_and_expiry);
	fu_table(s, "an empty queue is nothing to push for", push_of_empty, 8);
	fu_case(s, "several kinds at once, each is there once", put_many_kinds);
	fu_table(s, "a message is stored once, and no other under its id", put_once,
			5);
	fu_table(s, "a job gets something newer to do", replaced, 4);
	fu_table(s, "a node that starts again goes on with its jobs", orphans, 2);
	fu_table(s, "jobs that nobody does keep no others waiting", no_starvation,
			2);
	fu_case(s, "jobs of all shards, each once, none preferred", over_shards);
	fu_case(s, "large jobs come one by one", large);
	fu_case(s, "jobs that an older version left are done", old_records);
	fu_case(s, "a full Redis takes no new jobs and does the old",
			out_of_memory);
	fu_case(s, "broken jobs stand in nobody's way", damaged);
	fu_table(s, "whatever is done: the jobs are those that ought to be",
			random_life, 8);
	fu_case(s, "a node of a cluster is down: the jobs of the others are done",
			cluster);
	return fu_run(s);
}
