/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_sentinel.c - a master, its replica, and sentinels that are real, or
 * say what a test wants.
 */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client_helper.h"
#include "io_clock.h"

#define AOR "sip:bob@example.org"
#define PUTS_MAX 20000

static struct redis_helper server[2]; /* the first one starts as the master */
static struct redis_helper sentinel[2];
static char replica_of[2][8];

/* A master with a replica that has all of it. */
static void start_pair(void)
{
	static const char *const master[] = {"--repl-diskless-sync", "yes",
			"--repl-diskless-sync-delay", "0", NULL};
	const char *replica[] = {"--replicaof", "127.0.0.1", replica_of[0],
			"--repl-diskless-sync-delay", "0", NULL};

	redis_start(&server[0], master);
	(void)snprintf(replica_of[0], sizeof(replica_of[0]), "%u", server[0].port);
	redis_start(&server[1], replica);
	redis_await_replica(&server[0], &server[1]);
}

/* Two that watch it, and know of each other and of the replica. */
static void start_all(unsigned down_after_ms, const char *lines)
{
	start_pair();
	for(size_t i = 0; i < 2; i++)
		redis_start_sentinel(
				&sentinel[i], server[0].port, down_after_ms, lines);
	if(lines != NULL)
		return; /* it wants a password for that question */
	for(size_t i = 0; i < 2; i++)
		redis_await(&sentinel[i], "INFO sentinel", "slaves=1,sentinels=2");
}

static void stop_all(struct io_redis *r)
{
	io_redis_free(&r);
	for(size_t i = 0; i < 2; i++) {
		if(sentinel[i].pid != 0)
			redis_stop(&sentinel[i]);
		redis_stop(&server[i]);
	}
}

/* ports: of the sentinels, ended by 0. */
static struct io_redis *client_of(const unsigned *ports, const char *more,
		unsigned connect_ms, unsigned cmd_ms)
{
	struct io_redis_conf conf = {.connect_timeout_ms = connect_ms,
			.cmd_timeout_ms = cmd_ms,
			.wait_replicas = 1,
			.wait_ms = 200};
	char text[512];
	size_t n =
			(size_t)snprintf(text, sizeof(text), "sentinel_group=cpm%s", more);

	for(size_t i = 0; ports[i] != 0; i++)
		n += (size_t)snprintf(
				text + n, sizeof(text) - n, ";sentinel=127.0.0.1:%u", ports[i]);
	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(text), &conf, NULL), CPM_OK);
	struct io_redis *r = io_redis_new(&conf);
	ck_assert_ptr_nonnull(r);
	return r;
}

static struct io_redis *client_of_both(unsigned connect_ms, unsigned cmd_ms)
{
	const unsigned ports[] = {sentinel[0].port, sentinel[1].port, 0};

	return client_of(ports, "", connect_ms, cmd_ms);
}

static void rest(void)
{
	usleep((IO_REDIS_REST_MS + 50) * 1000);
}

/* -------------------------------------------------------------------- cases */

START_TEST(finds_the_master)
{
	char text[64];
	unsigned ports[4] = {0};

	start_all(5000, NULL);
	struct io_redis *r = client_of_both(PATIENT_MS, PATIENT_MS);
	ck_answer(r, "SET a 1", "OK");
	redis_do(&server[0], text, sizeof(text), "GET a");
	ck_assert_str_eq(text, "1");
	io_redis_free(&r);

	/* sentinels that are not there, or stall, cost their share of the time */
	redis_pause(&sentinel[0]);
	ports[0] = redis_free_port();
	ports[1] = sentinel[0].port;
	ports[2] = sentinel[1].port;
	r = client_of(ports, "", 1500, 1000);
	uint64_t from = io_clock_mono_ms();
	ck_answer(r, "GET a", "1");
	ck_assert_uint_lt(io_clock_mono_ms() - from, 5000);
	redis_resume(&sentinel[0]);
	io_redis_free(&r);

	ports[2] = 0;
	ports[1] = redis_free_port();
	r = client_of(ports, "", 300, 300);
	ck_fails(r, "GET a", CPM_EDOWN);
	ck_error_has(r, "sentinel: connect");
	stop_all(r);
}
END_TEST

START_TEST(unknown_group)
{
	unsigned ports[2] = {0};
	struct io_redis_conf conf = {.connect_timeout_ms = 500};
	char text[128];

	start_all(5000, NULL);
	ports[0] = sentinel[0].port;
	(void)snprintf(text, sizeof(text),
			"sentinel_group=other;sentinel=127.0.0.1:%u", ports[0]);
	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(text), &conf, NULL), CPM_OK);
	struct io_redis *r = io_redis_new(&conf);
	ck_fails(r, "GET a", CPM_EDOWN);
	ck_error_has(r, "does not know sentinel_group");
	stop_all(r);
}
END_TEST

START_TEST(sentinel_login)
{
	unsigned ports[2] = {0};

	start_all(5000, "requirepass hush\nuser cpm on >pw ~* &* +@all\n");
	ports[0] = sentinel[0].port;
	struct io_redis *r = client_of(ports, ";sentinel_pass=hush", 5000, 5000);
	ck_answer(r, "PING", "PONG");
	io_redis_free(&r);
	r = client_of(ports, ";sentinel_user=cpm;sentinel_pass=pw", 5000, 5000);
	ck_answer(r, "PING", "PONG");
	io_redis_free(&r);
	r = client_of(ports, ";sentinel_pass=wrong", 5000, 5000);
	ck_fails(r, "PING", CPM_EDOWN);
	ck_error_has(r, "sentinel: auth: server says: WRONGPASS");
	io_redis_free(&r);
	r = client_of(ports, "", 5000, 5000);
	ck_fails(r, "PING", CPM_EDOWN);
	ck_error_has(r, "NOAUTH");
	stop_all(r);
}
END_TEST

enum
{
	ORDERLY, /* SENTINEL failover */
	KILLED,
	STALLED,
};

static bool kept[PUTS_MAX];

/* Puts one message after the other while the master changes; whatever was
 * promised must be with the new one. */
START_TEST(failover)
{
	char id[32], word[32], text[4096];
	int next = 0, good = 0, after = 0;
	uint64_t longest = 0;

	start_all(500, NULL);
	/* the old master, cut off, must not go on promising */
	redis_do(&server[0], NULL, 0, "CONFIG SET min-replicas-to-write 1");
	redis_do(&server[0], NULL, 0, "CONFIG SET min-replicas-max-lag 2");
	struct io_redis *r = client_of_both(500, 250);
	uint64_t deadline = io_clock_mono_ms() + 40000;
	while(after < 50) {
		ck_assert_msg(io_clock_mono_ms() < deadline && next < PUTS_MAX,
				"%d of %d, then no more: %s", good, next, io_redis_error(r));
		(void)snprintf(id, sizeof(id), "id-%d", next);
		uint64_t from = io_clock_mono_ms();
		int rc = put_for(r, AOR, id, true, word, sizeof(word));
		uint64_t took = io_clock_mono_ms() - from;
		longest = took > longest ? took : longest;
		kept[next++] = rc == CPM_OK;
		good += rc == CPM_OK;
		if(next == 50) {
			ck_assert_int_gt(good, 40);
			if(_i == ORDERLY)
				redis_do(&sentinel[0], NULL, 0, "SENTINEL failover cpm");
			else if(_i == KILLED)
				redis_kill(&server[0]);
			else
				redis_pause(&server[0]);
		}
		if(next > 50) {
			if(rc != CPM_OK)
				usleep(5000);
			/* without a replica left nothing is durable, but nobody else can
			 * have answered then */
			(void)snprintf(id, sizeof(id), "after-%d", after);
			if(redis_try(&server[1], text, sizeof(text), "INFO replication")
					&& strstr(text, "role:master") != NULL
					&& put_for(r, AOR, id, _i == ORDERLY, word, sizeof(word))
							   == CPM_OK)
				after++;
		}
	}
	/* what was promised, and what was written afterwards, is in the new one */
	struct io_redis *direct = patient(server[1].port);
	for(int i = 0; i < next; i++) {
		(void)snprintf(id, sizeof(id), "id-%d", i);
		ck_assert_msg(!kept[i] || has_message(direct, AOR, id),
				"%s was promised and is lost", id);
	}
	for(int i = 0; i < after; i++) {
		(void)snprintf(id, sizeof(id), "after-%d", i);
		ck_assert(has_message(direct, AOR, id));
	}
	/* 2c + 2t, wait_ms, and what a slow machine adds */
	ck_assert_uint_lt(longest, 5000);
	if(_i == STALLED) {
		/* it wakes up, and learns that it is none any more */
		redis_resume(&server[0]);
		redis_await(&server[0], "INFO replication", "role:slave");
		ck_rc(r, put_for(r, AOR, "late", false, word, sizeof(word)), CPM_OK);
		ck_assert(has_message(direct, AOR, "late"));
	}
	io_redis_free(&direct);
	stop_all(r);
}
END_TEST

/* ----------------------------------------------------- sentinels to order */

/* Names the server whose port is its mode; 0: nobody; text, if not NULL,
 * instead. */
static size_t names(
		struct mock *m, const redisReply *cmd, char *out, size_t cap)
{
	char port[16];
	int n = atomic_load(&m->mode);

	if(!mock_is(cmd, 0, "SENTINEL"))
		return mock_handshake(cmd, out, cap);
	if(m->text != NULL)
		return (size_t)snprintf(out, cap, "%s", m->text);
	if(n == 0)
		return (size_t)snprintf(out, cap, "*-1\r\n");
	(void)snprintf(port, sizeof(port), "%d", n);
	return (size_t)snprintf(out, cap, "*2\r\n$9\r\n127.0.0.1\r\n$%zu\r\n%s\r\n",
			strlen(port), port);
}

static void mock_named(struct mock *m, unsigned port)
{
	memset(m, 0, sizeof(*m));
	m->answer = names;
	atomic_init(&m->mode, (int)port);
	mock_start(m);
}

START_TEST(named_a_replica)
{
	struct mock one, two;

	start_pair();
	mock_named(&one, server[1].port);
	mock_named(&two, server[1].port);
	const unsigned ports[] = {one.port, two.port, 0};
	struct io_redis *r = client_of(ports, "", 2000, 2000);
	ck_fails(r, "SET a 1", CPM_EDOWN);
	ck_error_has(r, "is no master");
	/* one of them knows better */
	atomic_store(&two.mode, (int)server[0].port);
	rest();
	ck_answer(r, "SET a 1", "OK");
	/* and is asked first from now on */
	int asked = atomic_load(&one.commands);
	redis_do(&server[0], NULL, 0, "CLIENT KILL TYPE normal");
	ck_answer(r, "GET a", "1");
	ck_assert_int_eq(atomic_load(&one.commands), asked);
	io_redis_free(&r);
	mock_stop(&one);
	mock_stop(&two);
	redis_stop(&server[0]);
	redis_stop(&server[1]);
}
END_TEST

START_TEST(readonly)
{
	struct mock m;
	char text[64];

	start_pair();
	mock_named(&m, server[0].port);
	const unsigned ports[] = {m.port, 0};
	struct io_redis *r = client_of(ports, "", 2000, 2000);
	ck_answer(r, "SET a 1", "OK");
	redis_await(&server[1], "GET a", "1");

	/* the offices change, and no connection is closed */
	redis_do(&server[1], NULL, 0, "REPLICAOF NO ONE");
	redis_do(
			&server[0], NULL, 0, "REPLICAOF 127.0.0.1 %d", (int)server[1].port);
	atomic_store(&m.mode, (int)server[1].port);
	ck_fails(r, "SET b 2", CPM_EDOWN);
	ck_error_has(r, "READONLY");
	ck_answer(r, "SET b 2", "OK");
	ck_answer(r, "GET a", "1");
	redis_do(&server[1], text, sizeof(text), "GET b");
	ck_assert_str_eq(text, "2");
	io_redis_free(&r);
	mock_stop(&m);
	redis_stop(&server[0]);
	redis_stop(&server[1]);
}
END_TEST

START_TEST(noreplicas)
{
	struct mock m;

	start_pair();
	mock_named(&m, server[0].port);
	const unsigned ports[] = {m.port, 0};
	struct io_redis *r = client_of(ports, "", 2000, 2000);
	ck_answer(r, "SET a 1", "OK");
	redis_do(&server[0], NULL, 0, "CONFIG SET min-replicas-to-write 5");
	rest();
	/* somebody else may be the master by now: that is asked, but not for
	 * every message */
	int asked = atomic_load(&m.commands);
	for(int i = 0; i < 30; i++)
		ck_fails(r, "SET a 2", CPM_EDOWN);
	ck_error_has(r, "NOREPLICAS");
	ck_assert_int_gt(atomic_load(&m.commands), asked);
	ck_assert_int_lt(atomic_load(&m.commands), asked + 20);
	ck_answer(r, "GET a", "1");
	io_redis_free(&r);
	mock_stop(&m);
	redis_stop(&server[0]);
	redis_stop(&server[1]);
}
END_TEST

START_TEST(lying_sentinels)
{
	static const char *const lies[] = {"*0\r\n", "*1\r\n$1\r\na\r\n", ":1\r\n",
			"+OK\r\n", "-IDONTKNOW who\r\n", "*2\r\n$0\r\n\r\n$1\r\n1\r\n",
			"*2\r\n$1\r\na\r\n$1\r\n0\r\n", "*2\r\n$1\r\na\r\n$5\r\n65536\r\n",
			"*2\r\n$1\r\na\r\n:5\r\n", "*2\r\n$1\r\na\r\n$2\r\nxy\r\n",
			"*2147483647\r\n", "*2\r\n*1\r\n$1\r\na\r\n$1\r\n1\r\n",
			"*2\r\n$9\r\n127.0.0.1\r\n$1\r\n1\r\n", "-\r\n", "garbage\r\n", ""};
	struct mock liar = {.answer = names}, good;

	redis_start(&server[0], NULL);
	mock_start(&liar);
	mock_named(&good, server[0].port);
	const unsigned ports[] = {liar.port, good.port, 0};
	const unsigned alone[] = {liar.port, 0};
	for(size_t i = 0; i < FU_N(lies); i++) {
		liar.text = lies[i];
		struct io_redis *r = client_of(ports, "", 1000, 1000);
		ck_answer(r, "PING", "PONG");
		io_redis_free(&r);
		r = client_of(alone, "", 200, 200);
		uint64_t from = io_clock_mono_ms();
		ck_fails(r, "PING", CPM_EDOWN);
		ck_assert_uint_lt(io_clock_mono_ms() - from, 5000);
		io_redis_free(&r);
	}
	mock_stop(&liar);
	mock_stop(&good);
	redis_stop(&server[0]);
}
END_TEST

START_TEST(survey)
{
	struct io_redis_server s;
	size_t n = 0;
	char want[32];

	start_all(5000, NULL);
	struct io_redis *r = client_of_both(PATIENT_MS, PATIENT_MS);
	ck_rc(r, io_redis_survey(r, &s, 1, &n), CPM_OK);
	ck_assert_uint_eq(n, 1);
	(void)snprintf(want, sizeof(want), "127.0.0.1:%u", server[0].port);
	ck_assert_str_eq(s.addr, want);
	ck_assert_int_eq(s.replicas, 1);
	stop_all(r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_sentinel");

	fu_case(s, "the master is found, whichever sentinel answers",
			finds_the_master);
	fu_case(s, "a group that no sentinel knows", unknown_group);
	fu_case(s, "sentinels that want a password", sentinel_login);
	fu_table(s, "a failover loses nothing that was promised", failover, 3);
	fu_case(s, "who is named and is no master is not used", named_a_replica);
	fu_case(s, "a master that became a replica is left", readonly);
	fu_case(s, "a master without replicas is looked at again, not too often",
			noreplicas);
	fu_case(s, "what sentinels say is believed within bounds", lying_sentinels);
	fu_case(s, "the facts of the master", survey);
	return fu_run(s);
}
