/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_devices.c - what is remembered of a user's clients when they are
 * not registered.
 */

#include "io_devices.h"
#include "io_jobs.h"
#include "queue_helper.h"

#define TTL_MS UINT64_C(2592000000)
#define PN "t:{%u}:pn:" BOBS

static struct io_devices d;

static void get_at(uint64_t now_ms)
{
	ck_assert_int_eq(io_devices_get(q, BOB, now_ms, TTL_MS, &d), CPM_OK);
}

static struct cpm_pn_device device(
		const char *instance, const char *prid, uint64_t seen_ms)
{
	return (struct cpm_pn_device){cpm_pl_str(instance),
			{LIT("apns"), LIT("app"), cpm_pl_str(prid)}, seen_ms};
}

static void put_one(const char *instance, const char *prid, uint64_t seen_ms)
{
	struct cpm_pn_device one = device(instance, prid, seen_ms);

	get_at(seen_ms);
	ck_assert_int_eq(
			io_devices_put(q, BOB, &d, &one, 1, NULL, 0, TTL_MS), CPM_OK);
}

static const char *pn_key(void)
{
	static char text[64];

	(void)snprintf(text, sizeof(text), PN, cpm_queue_shard(BOB));
	return text;
}

START_TEST(nothing)
{
	begin();
	get_at(T0);
	ck_assert_uint_eq(d.count, 0);
	ck_assert(!d.done && !d.queued);
	ck_assert_int_eq(d.job, IO_DEVICES_NO_JOB);
	end();
}
END_TEST

START_TEST(remembered)
{
	begin();
	put_one("urn:uuid:1", "aa", T0);
	put_one("urn:uuid:2", "bb", T0 + 1);
	put_one("", "cc", T0 + 2);
	get_at(T0 + 3);
	ck_assert_uint_eq(d.count, 3);
	ck_pl_eq(d.v[0].pn.prid, "cc");
	ck_pl_eq(d.v[0].instance, "");
	ck_pl_eq(d.v[1].pn.prid, "bb");
	ck_pl_eq(d.v[2].instance, "urn:uuid:1");
	ck_pl_eq(d.v[2].pn.provider, "apns");
	ck_pl_eq(d.v[2].pn.param, "app");
	ck_assert_uint_eq(d.v[2].seen_ms, T0);
	ck_assert_int_gt(integer(qask("PTTL %s", pn_key())), 2591000000);
	end();
}
END_TEST

START_TEST(replaced)
{
	begin();
	put_one("urn:uuid:1", "aa", T0);
	put_one("urn:uuid:1", "bb", T0 + 1);
	ck_assert_int_eq(integer(qask("HLEN %s", pn_key())), 1);
	get_at(T0 + 2);
	ck_assert_uint_eq(d.count, 1);
	ck_pl_eq(d.v[0].pn.prid, "bb");
	/* seen again */
	put_one("urn:uuid:1", "bb", T0 + 5);
	get_at(T0 + 6);
	ck_assert_uint_eq(d.count, 1);
	ck_assert_uint_eq(d.v[0].seen_ms, T0 + 5);
	end();
}
END_TEST

START_TEST(gone)
{
	struct cpm_pn_device old = device("urn:uuid:1", "aa", 0);

	begin();
	put_one("urn:uuid:1", "aa", T0);
	put_one("urn:uuid:1", "bb", T0 + 1);
	/* the answer about the old target comes late */
	ck_assert_int_eq(io_devices_drop(q, BOB, &old), CPM_OK);
	get_at(T0 + 2);
	ck_assert_uint_eq(d.count, 1);
	old = device("urn:uuid:1", "bb", 0);
	ck_assert_int_eq(io_devices_drop(q, BOB, &old), CPM_OK);
	get_at(T0 + 2);
	ck_assert_uint_eq(d.count, 0);
	end();
}
END_TEST

START_TEST(withdrawn)
{
	struct cpm_pn_device one = device("urn:uuid:1", "aa", 0);

	begin();
	put_one("urn:uuid:1", "aa", T0);
	put_one("urn:uuid:2", "bb", T0);
	get_at(T0);
	ck_assert_int_eq(
			io_devices_put(q, BOB, &d, NULL, 0, &one, 1, TTL_MS), CPM_OK);
	get_at(T0);
	ck_assert_uint_eq(d.count, 1);
	ck_pl_eq(d.v[0].pn.prid, "bb");
	end();
}
END_TEST

START_TEST(forgotten)
{
	begin();
	put_one("urn:uuid:1", "aa", T0);
	put_one("urn:uuid:2", "bb", T0 + 10);
	get_at(T0 + TTL_MS - 1);
	ck_assert_uint_eq(d.count, 2);
	get_at(T0 + TTL_MS);
	ck_assert_uint_eq(d.count, 1);
	ck_pl_eq(d.v[0].pn.prid, "bb");
	put_one("urn:uuid:2", "bb", T0 + TTL_MS + 20);
	get_at(T0 + TTL_MS + 21);
	ck_assert_uint_eq(d.count, 1); /* it is back */
	ck_assert_int_eq(integer(qask("HLEN %s", pn_key())), 1);
	end();
}
END_TEST

START_TEST(bounded)
{
	char prid[16];
	unsigned i;

	begin();
	for(i = 0; i < 40; i++) {
		(void)snprintf(prid, sizeof(prid), "p%02u", i);
		put_one("", prid, T0 + i);
	}
	ck_assert_int_le(
			integer(qask("HLEN %s", pn_key())), CPM_PN_DEVICES_MAX + 1);
	get_at(T0 + 50);
	ck_assert_uint_eq(d.count, CPM_PN_DEVICES_MAX);
	ck_pl_eq(d.v[0].pn.prid, "p39");
	ck_pl_eq(d.v[15].pn.prid, "p24");
	end();
}
END_TEST

START_TEST(damaged)
{
	begin();
	put_one("urn:uuid:1", "aa", T0);
	tell("HSET %s nonsense here", pn_key());
	tell("HSET %s %s %s", pn_key(), "x", "1");
	get_at(T0);
	ck_assert_uint_eq(d.count, 1);
	put_one("urn:uuid:1", "aa", T0 + 1);
	ck_assert_int_eq(integer(qask("HLEN %s", pn_key())), 1);
	end();
}
END_TEST

START_TEST(beside)
{
	struct cpm_job jobs[1];
	const unsigned shard = cpm_queue_shard(BOB);
	size_t n = 0;

	begin();
	ck_assert_int_eq(put("m1", "hello"), CPM_PUT_QUEUED);
	get_at(T0);
	ck_assert(d.queued);
	ck_assert_int_eq(d.job, IO_DEVICES_NO_JOB);
	ck_assert_int_eq(io_jobs_replace(q, CPM_JOB_PUSH, BOB, LIT(CPM_JOB_OF_USER),
							 LIT("cpm-push 1 0\na\n"), 0),
			CPM_OK);
	get_at(T0);
	ck_assert_int_eq(d.job, IO_DEVICES_JOB);
	ck_assert_int_eq(io_jobs_lease(q, &shard, 1, CPM_JOB_PUSH, LIT("t"), 60000,
							 1, jobs, &n),
			CPM_OK);
	ck_assert_uint_eq(n, 1);
	get_at(T0);
	ck_assert_int_eq(d.job, IO_DEVICES_JOB);
	ck_assert_int_eq(io_jobs_settle(q, CPM_JOB_PUSH, BOB, LIT(CPM_JOB_OF_USER),
							 LIT("t"), CPM_JOB_GIVE_UP, 0, LIT("no")),
			CPM_OK);
	get_at(T0);
	ck_assert_int_eq(d.job, IO_DEVICES_DEAD_JOB);
	ck_assert_int_eq(io_devices_done(q, BOB, true, TTL_MS), CPM_OK);
	get_at(T0);
	ck_assert(d.done);
	ck_assert_uint_eq(d.count, 0);
	ck_assert_int_eq(io_devices_done(q, BOB, false, TTL_MS), CPM_OK);
	get_at(T0);
	ck_assert(!d.done);
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_devices");

	fu_case(s, "of an unknown user nothing is known", nothing);
	fu_case(s, "each client is remembered, the last seen first", remembered);
	fu_case(s, "a client's new target takes the place of the old one",
			replaced);
	fu_case(s, "a target that is gone takes no later one along", gone);
	fu_case(s, "a client that wants no push any more is forgotten", withdrawn);
	fu_case(s, "a client that is not seen for long is forgotten", forgotten);
	fu_case(s, "no more than sixteen clients are kept", bounded);
	fu_case(s, "what cannot be read is passed over, and cleaned up", damaged);
	fu_case(s, "the push job and the queue are seen in the same round trip",
			beside);
	return fu_run(s);
}
