/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_cluster.c - a real Cluster: slots that move, nodes that die, and
 * nodes that lie.
 */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client_helper.h"
#include "io_clock.h"
#include "io_slots.h"

#define LIT CPM_PL_LIT
#define MASTERS 3
#define NODES_MAX 6

static struct redis_helper node[NODES_MAX];
static size_t node_count;

/* ------------------------------------------------------------------ helpers */

static void start(size_t count, const char *const *args)
{
	node_count = count;
	redis_start_cluster(node, MASTERS, count, args);
}

static void stop(struct io_redis *r)
{
	io_redis_free(&r);
	for(size_t i = 0; i < node_count; i++)
		redis_stop(&node[i]);
}

static struct io_redis *cluster_client(
		size_t seeds, unsigned connect_ms, unsigned cmd_ms)
{
	struct io_redis_conf conf = {.connect_timeout_ms = connect_ms,
			.cmd_timeout_ms = cmd_ms,
			.wait_replicas = 1,
			.wait_ms = 300};
	char text[64];

	for(size_t i = 0; i < seeds; i++) {
		(void)snprintf(text, sizeof(text), "cluster=1;addr=127.0.0.1;port=%u",
				node[i].port);
		ck_assert_int_eq((i == 0 ? io_redis_conf_parse : io_redis_conf_add)(
								 cpm_pl_str(text), &conf, NULL),
				CPM_OK);
	}
	struct io_redis *r = io_redis_new(&conf);
	ck_assert_ptr_nonnull(r);
	return r;
}

static struct io_redis *patient_client(void)
{
	return cluster_client(1, PATIENT_MS, PATIENT_MS);
}

static size_t owner_at_start(unsigned slot)
{
	for(size_t i = 0; i < MASTERS; i++) {
		if(slot < IO_SLOTS * (i + 1) / MASTERS)
			return i;
	}
	return 0;
}

/* The n-th key of a node: "k<number>". */
static void key_of(size_t owner, unsigned n, char *key, size_t cap)
{
	for(unsigned i = 0;; i++) {
		(void)snprintf(key, cap, "k%u", i);
		if(owner_at_start(io_slots_of(cpm_pl_str(key))) == owner && n-- == 0)
			return;
	}
}

/* A user whose queue is with that node. */
static void user_of(size_t owner, char *aor, size_t cap)
{
	struct cpm_queue_keys k;

	for(unsigned i = 0;; i++) {
		(void)snprintf(aor, cap, "sip:u%u@example.org", i);
		ck_assert_int_eq(
				cpm_queue_keys_init(&k, LIT("t"), cpm_pl_str(aor), CPM_PL_NULL),
				CPM_OK);
		if(owner_at_start(io_slots_of(k.key[0])) == owner)
			return;
	}
}

static unsigned user_slot(const char *aor)
{
	struct cpm_queue_keys k;

	ck_assert_int_eq(
			cpm_queue_keys_init(&k, LIT("t"), cpm_pl_str(aor), CPM_PL_NULL),
			CPM_OK);
	return io_slots_of(k.key[0]);
}

static int askf(struct io_redis *r, const char *word, const char *key,
		const char *more, char *text, size_t cap)
{
	char line[256];

	(void)snprintf(line, sizeof(line), "%s %s%s", word, key, more);
	return ask(r, line, text, cap);
}

#define ck_key(r, word, key, more, want)                                 \
	do {                                                                 \
		char got_[256];                                                  \
		ck_rc((r), askf((r), (word), (key), (more), got_, sizeof(got_)), \
				CPM_OK);                                                 \
		ck_assert_str_eq(got_, (want));                                  \
	} while(0)

/* A number of INFO, e.g. "errorstat_MOVED:count="; 0 if it is not there. */
static uint64_t info(size_t i, const char *section, const char *name)
{
	char text[32768];

	redis_do(&node[i], text, sizeof(text), "INFO %s", section);
	char *at = strstr(text, name);
	return at != NULL ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* The last step of a migration, or a whole one of an empty slot. */
static void slot_give(unsigned slot, size_t to)
{
	char id[64];

	redis_do(&node[to], id, sizeof(id), "CLUSTER MYID");
	redis_do(&node[to], NULL, 0, "CLUSTER SETSLOT %d NODE %s", (int)slot, id);
	for(size_t i = 0; i < MASTERS; i++) {
		if(i != to)
			redis_do(&node[i], NULL, 0, "CLUSTER SETSLOT %d NODE %s", (int)slot,
					id);
	}
}

static void slot_begin(unsigned slot, size_t from, size_t to)
{
	char id[64];

	redis_do(&node[from], id, sizeof(id), "CLUSTER MYID");
	redis_do(&node[to], NULL, 0, "CLUSTER SETSLOT %d IMPORTING %s", (int)slot,
			id);
	redis_do(&node[to], id, sizeof(id), "CLUSTER MYID");
	redis_do(&node[from], NULL, 0, "CLUSTER SETSLOT %d MIGRATING %s", (int)slot,
			id);
}

static void key_move(const char *key, size_t from, size_t to)
{
	redis_do(&node[from], NULL, 0, "MIGRATE 127.0.0.1 %d %s 0 5000",
			(int)node[to].port, key);
}

/* -------------------------------------------------------------------- cases */

START_TEST(crc)
{
	/* the check value of CRC-16/XMODEM */
	ck_assert_uint_eq(io_slots_crc16(LIT("123456789")), 0x31c3);
	ck_assert_uint_eq(io_slots_crc16(CPM_PL_NULL), 0);
	ck_assert_uint_eq(io_slots_of(LIT("a{b}c")), io_slots_of(LIT("b")));
	ck_assert_uint_eq(io_slots_of(LIT("a{b}{c}")), io_slots_of(LIT("b")));
	ck_assert_uint_eq(io_slots_of(LIT("{{b}}")), io_slots_of(LIT("{b")));
	ck_assert_uint_ne(io_slots_of(LIT("{}b")), io_slots_of(LIT("{}c")));
	ck_assert_uint_ne(io_slots_of(LIT("a{b")), io_slots_of(LIT("b")));
}
END_TEST

START_TEST(slots_as_redis)
{
	static const char *const keys[] = {"a", "foo{bar}zap", "foo{}{bar}",
			"foo{{bar}}zap", "foo{bar}{zap}", "{", "}", "{}", "}{a}", "a{",
			"{user1000}.following", "t:{17}:q:sip:bob@example.org"};
	static const char *const args[] = {"--cluster-enabled", "yes", NULL};
	char text[64], key[64];

	node_count = 1;
	redis_start(&node[0], args);
	for(size_t i = 0; i < FU_N(keys) + 300; i++) {
		if(i < FU_N(keys))
			(void)snprintf(key, sizeof(key), "%s", keys[i]);
		else
			(void)snprintf(key, sizeof(key), "%zu{%zu}", i, i * i);
		redis_do(&node[0], text, sizeof(text), "CLUSTER KEYSLOT %s", key);
		ck_assert_uint_eq(
				io_slots_of(cpm_pl_str(key)), strtoul(text, NULL, 10));
	}
	stop(NULL);
}
END_TEST

START_TEST(all_slots)
{
	char key[32], line[64], want[32], text[64];

	start(MASTERS, NULL);
	struct io_redis *r = patient_client();
	for(int i = 0; i < 500; i++) {
		(void)snprintf(key, sizeof(key), "k%d", i);
		(void)snprintf(want, sizeof(want), "%d", i);
		(void)snprintf(line, sizeof(line), "SET %s %d", key, i);
		ck_answer(r, line, "OK");
		ck_key(r, "GET", key, "", want);
	}
	/* every node has its third or so, and nobody was sent to the wrong one */
	for(size_t i = 0; i < MASTERS; i++) {
		redis_do(&node[i], text, sizeof(text), "DBSIZE");
		ck_assert_uint_gt(strtoul(text, NULL, 10), 100);
		ck_assert_uint_eq(info(i, "errorstats", "errorstat_MOVED:count="), 0);
	}
	/* no key: whoever is there */
	ck_answer(r, "PING", "PONG");
	for(size_t i = 0; i < MASTERS; i++) {
		char aor[64], word[32];
		user_of(i, aor, sizeof(aor));
		ck_rc(r, put_for(r, aor, "id-1", false, word, sizeof(word)), CPM_OK);
		ck_assert_str_eq(word, "queued");
		redis_do(&node[i], NULL, 0, "SCRIPT FLUSH");
		ck_rc(r, put_for(r, aor, "id-1", false, word, sizeof(word)), CPM_OK);
		ck_assert_str_eq(word, "duplicate");
	}
	stop(r);
}
END_TEST

START_TEST(seeds_in_turn)
{
	start(MASTERS, NULL);
	redis_pause(&node[0]);
	/* a seed that stalls, then one that answers */
	struct io_redis *r = cluster_client(2, 900, 900);
	char key[32];
	key_of(1, 0, key, sizeof(key));
	ck_key(r, "INCR", key, "", "1");
	redis_resume(&node[0]);
	stop(r);
}
END_TEST

START_TEST(slot_moved)
{
	char key[32];

	start(MASTERS, NULL);
	struct io_redis *r = patient_client();
	key_of(0, 0, key, sizeof(key));
	ck_key(r, "GET", key, "", "(nil)");
	slot_give(io_slots_of(cpm_pl_str(key)), 2);
	ck_key(r, "INCR", key, "", "1");
	ck_key(r, "INCR", key, "", "2");
	ck_key(r, "INCR", key, "", "3");
	ck_assert_uint_eq(info(0, "errorstats", "errorstat_MOVED:count="), 1);
	redis_do(&node[2], NULL, 0, "GET %s", key);
	stop(r);
}
END_TEST

START_TEST(asked)
{
	char key[32], other[64], text[64];

	start(MASTERS, NULL);
	struct io_redis *r = patient_client();
	key_of(0, 0, key, sizeof(key));
	(void)snprintf(other, sizeof(other), "{%s}other", key);
	unsigned slot = io_slots_of(cpm_pl_str(key));
	ck_key(r, "SET", key, " 1", "OK");
	slot_begin(slot, 0, 1);
	/* what is there still, and what is not */
	ck_key(r, "INCR", key, "", "2");
	ck_key(r, "GET", other, "", "(nil)");
	ck_key(r, "SET", other, " x", "OK");
	ck_assert_uint_eq(info(0, "errorstats", "errorstat_ASK:count="), 2);
	key_move(key, 0, 1);
	ck_key(r, "INCR", key, "", "3");
	ck_assert_uint_eq(info(0, "errorstats", "errorstat_MOVED:count="), 0);
	slot_give(slot, 1);
	ck_key(r, "INCR", key, "", "4");
	ck_key(r, "GET", other, "", "x");
	redis_do(&node[1], text, sizeof(text), "GET %s", key);
	ck_assert_str_eq(text, "4");
	stop(r);
}
END_TEST

/* Ends a migration while somebody waits for it. */
struct migration
{
	unsigned slot;
	size_t from, to;
	bool wait_first;
};

static void *migrate_rest(void *arg)
{
	struct migration *m = arg;
	char text[512];

	/* until the script has been refused at least once */
	if(m->wait_first) {
		uint64_t deadline = io_clock_mono_ms() + 10000;
		while(info(m->from, "errorstats", "errorstat_TRYAGAIN:count=") == 0
				&& io_clock_mono_ms() < deadline)
			usleep(5000);
	}
	for(;;) {
		redisContext *ctx = redisConnect("127.0.0.1", (int)node[m->from].port);
		redisReply *keys =
				redisCommand(ctx, "CLUSTER GETKEYSINSLOT %d 1", (int)m->slot);
		bool more = keys->elements > 0;
		if(more)
			(void)snprintf(text, sizeof(text), "%s", keys->element[0]->str);
		freeReplyObject(keys);
		redisFree(ctx);
		if(!more)
			break;
		key_move(text, m->from, m->to);
	}
	slot_give(m->slot, m->to);
	return NULL;
}

START_TEST(script_in_migration)
{
	struct migration m = {.from = 0, .to = 2, .wait_first = true};
	char aor[64], word[32], text[512];
	pthread_t thread;

	start(MASTERS, NULL);
	struct io_redis *r = cluster_client(1, 2000, 300);
	struct io_redis *waits = patient_client();
	user_of(0, aor, sizeof(aor));
	m.slot = user_slot(aor);
	ck_rc(r, put_for(r, aor, "id-1", false, word, sizeof(word)), CPM_OK);
	slot_begin(m.slot, 0, 2);

	/* some keys of the script exist and others do not: nobody can run it, and
	 * nothing was written */
	uint64_t from = io_clock_mono_ms();
	ck_rc(r, put_for(r, aor, "id-2", false, word, sizeof(word)), CPM_EDOWN);
	ck_error_has(r, "TRYAGAIN");
	ck_assert_uint_lt(io_clock_mono_ms() - from, 5000);
	ck_assert_uint_ge(info(0, "errorstats", "errorstat_TRYAGAIN:count="), 2);
	ck_key(r, "EXISTS", "k1", "", "0");

	/* half moved, TRYAGAIN comes from either side */
	redisContext *ctx = redisConnect("127.0.0.1", (int)node[0].port);
	redisReply *keys =
			redisCommand(ctx, "CLUSTER GETKEYSINSLOT %d 1", (int)m.slot);
	(void)snprintf(text, sizeof(text), "%s", keys->element[0]->str);
	freeReplyObject(keys);
	redisFree(ctx);
	key_move(text, 0, 2);
	ck_rc(r, put_for(r, aor, "id-2", false, word, sizeof(word)), CPM_EDOWN);

	/* who has the time waits until it is over */
	redis_do(&node[0], NULL, 0, "CONFIG RESETSTAT");
	ck_assert_int_eq(pthread_create(&thread, NULL, migrate_rest, &m), 0);
	ck_rc(waits, put_for(waits, aor, "id-2", false, word, sizeof(word)),
			CPM_OK);
	ck_assert_str_eq(word, "queued");
	pthread_join(thread, NULL);
	ck_rc(r, put_for(r, aor, "id-1", false, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "duplicate");
	ck_assert(has_message(r, aor, "id-1") && has_message(r, aor, "id-2"));
	io_redis_free(&waits);
	stop(r);
}
END_TEST

/* Nothing of the queue is there: the source says ASK, the target TRYAGAIN. */
START_TEST(new_queue_in_migration)
{
	struct migration m = {.from = 1, .to = 2};
	char aor[64], word[32];

	start(MASTERS, NULL);
	struct io_redis *r = cluster_client(1, 2000, 300);
	user_of(1, aor, sizeof(aor));
	m.slot = user_slot(aor);
	slot_begin(m.slot, 1, 2);
	ck_rc(r, put_for(r, aor, "id-1", false, word, sizeof(word)), CPM_EDOWN);
	(void)migrate_rest(&m);
	ck_rc(r, put_for(r, aor, "id-1", false, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "queued");
	stop(r);
}
END_TEST

START_TEST(cluster_is_down)
{
	char key[32];

	start(MASTERS, NULL);
	struct io_redis *r = cluster_client(1, 2000, 300);
	key_of(0, 0, key, sizeof(key));
	unsigned slot = io_slots_of(cpm_pl_str(key));
	ck_key(r, "INCR", key, "", "1");
	for(size_t i = 0; i < MASTERS; i++)
		redis_do(&node[i], NULL, 0, "CLUSTER DELSLOTS %d", (int)slot);
	for(size_t i = 0; i < MASTERS; i++)
		redis_await(&node[i], "CLUSTER INFO", "cluster_state:fail");
	uint64_t from = io_clock_mono_ms();
	char text[64];
	ck_rc(r, askf(r, "INCR", key, "", text, sizeof(text)), CPM_EDOWN);
	ck_error_has(r, "CLUSTERDOWN");
	ck_assert_uint_lt(io_clock_mono_ms() - from, 5000);
	redis_do(&node[0], NULL, 0, "CLUSTER ADDSLOTS %d", (int)slot);
	for(size_t i = 0; i < MASTERS; i++)
		redis_await(&node[i], "CLUSTER INFO", "cluster_state:ok");
	ck_key(r, "INCR", key, "", "2");
	stop(r);
}
END_TEST

/* SIGKILL and SIGSTOP of a master that has a replica. */
START_TEST(failover)
{
	static const char *const args[] = {
			"--cluster-require-full-coverage", "no", NULL};
	char dead[32], alive[32], aor[64], word[32], text[64];
	bool durable[200] = {false};
	int ok = 0, next = 0;

	start(MASTERS + 1, args); /* node 3 is the replica of node 0 */
	struct io_redis *r = cluster_client(3, 1000, 300);
	key_of(0, 0, dead, sizeof(dead));
	key_of(1, 0, alive, sizeof(alive));
	user_of(0, aor, sizeof(aor));
	ck_key(r, "SET", dead, " 1", "OK");
	ck_key(r, "SET", alive, " 1", "OK");
	for(; next < 50; next++) {
		(void)snprintf(text, sizeof(text), "id-%d", next);
		durable[next] =
				put_for(r, aor, text, true, word, sizeof(word)) == CPM_OK;
		ok += durable[next];
	}
	ck_assert_int_gt(ok, 0);
	if(_i == 0)
		redis_kill(&node[0]);
	else
		redis_pause(&node[0]);

	int rc = askf(r, "INCR", dead, "", text, sizeof(text));
	ck_assert(rc == CPM_EDOWN || (_i == 1 && rc == CPM_EUNSURE));
	/* the others are none the worse, and it costs them no time-outs */
	uint64_t from = io_clock_mono_ms();
	for(int i = 0; i < 20; i++)
		ck_key(r, "GET", alive, "", "1");
	ck_assert_uint_lt(io_clock_mono_ms() - from, 5000);
	rc = askf(r, "GET", dead, "", text, sizeof(text));
	if(rc != CPM_OK)
		ck_error_has(r, "127.0.0.1:");

	uint64_t deadline = io_clock_mono_ms() + 30000;
	while(askf(r, "GET", dead, "", text, sizeof(text)) != CPM_OK) {
		ck_key(r, "GET", alive, "", "1");
		ck_assert_msg(io_clock_mono_ms() < deadline, "no failover: %s",
				io_redis_error(r));
		usleep(20000);
	}
	/* nothing that was promised is gone */
	for(int i = 0; i < next; i++) {
		(void)snprintf(text, sizeof(text), "id-%d", i);
		ck_assert_msg(
				!durable[i] || has_message(r, aor, text), "%s is lost", text);
	}
	/* and it is the replica that answers */
	redis_do(&node[3], text, sizeof(text), "GET %s", dead);
	ck_assert_int_ne(strncmp(text, "MOVED", 5), 0);
	if(_i == 1)
		redis_resume(&node[0]);
	stop(r);
}
END_TEST

START_TEST(durable)
{
	char with[64], without[64], moved[64], word[32];

	start(MASTERS + 1, NULL);
	struct io_redis *r = patient_client();
	user_of(0, with, sizeof(with));
	user_of(1, without, sizeof(without));
	ck_rc(r, put_for(r, with, "id-1", true, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "queued");
	/* no replica has it: it is there, and nobody promises anything */
	ck_rc(r, put_for(r, without, "id-1", true, word, sizeof(word)),
			CPM_EUNSURE);
	ck_error_has(r, "0 of 1 replicas");
	ck_assert(has_message(r, without, "id-1"));
	/* the slot moved: WAIT goes where the script goes */
	for(unsigned i = 0;; i++) {
		(void)snprintf(moved, sizeof(moved), "sip:v%u@example.org", i);
		if(owner_at_start(user_slot(moved)) == 1
				&& user_slot(moved) != user_slot(without))
			break;
	}
	slot_give(user_slot(moved), 0);
	ck_rc(r, put_for(r, moved, "id-1", true, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "queued");
	/* and where the script was forgotten */
	redis_do(&node[0], NULL, 0, "SCRIPT FLUSH");
	ck_rc(r, put_for(r, with, "id-2", true, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "queued");
	stop(r);
}
END_TEST

/* Many users' statistics, with something in the middle that was moved. */
START_TEST(pipeline)
{
	char key[MASTERS * 64][32], text[64], want[32], line[64];
	uint64_t reads[MASTERS];

	start(MASTERS, NULL);
	struct io_redis *r = patient_client();
	for(unsigned i = 0; i < MASTERS * 64; i++) {
		key_of(i % MASTERS, i / MASTERS, key[i], sizeof(key[i]));
		(void)snprintf(line, sizeof(line), "SET %s %u", key[i], i);
		ck_answer(r, line, "OK");
	}
	for(int round = 0; round < 4; round++) {
		if(round == 1) {
			redis_do(&node[0], NULL, 0, "SCRIPT FLUSH");
			/* two keys of one slot, as a real migration would leave them */
			unsigned slot = io_slots_of(cpm_pl_str(key[90]));
			slot_begin(slot, 0, 1);
			key_move(key[90], 0, 1);
		}
		if(round == 2) {
			slot_give(io_slots_of(cpm_pl_str(key[90])), 1);
			unsigned slot = io_slots_of(cpm_pl_str(key[3]));
			slot_begin(slot, 0, 2);
			key_move(key[3], 0, 2);
			slot_give(slot, 2);
		}
		for(size_t i = 0; i < MASTERS; i++)
			reads[i] = info(i, "stats", "total_reads_processed:");
		for(unsigned i = 0; i < MASTERS * 64; i++) {
			(void)snprintf(line, sizeof(line), "GET %s", key[i]);
			ck_rc(r, add(r, line), CPM_OK);
			if(i % 8 == 0)
				ck_rc(r, stat_add_for(r, "sip:bob@example.org"), CPM_OK);
		}
		for(unsigned i = 0; i < MASTERS * 64; i++) {
			(void)snprintf(want, sizeof(want), "%u", i);
			ck_rc(r, get_text(r, text, sizeof(text)), CPM_OK);
			ck_assert_str_eq(text, want);
			if(i % 8 == 0) {
				ck_rc(r, get_text(r, text, sizeof(text)), CPM_OK);
				ck_assert_int_eq(text[0], '[');
			}
		}
		/* a server reads a whole pipeline in a few reads, not in 64 */
		for(size_t i = 0; i < MASTERS; i++)
			ck_assert_uint_lt(
					info(i, "stats", "total_reads_processed:") - reads[i], 30);
		ck_assert_int_eq(get_text(r, text, sizeof(text)), CPM_EPROTO);
	}
	ck_assert_uint_eq(info(0, "errorstats", "errorstat_ASK:count="), 1);
	ck_assert_uint_le(info(0, "errorstats", "errorstat_MOVED:count="), 2);
	ck_assert_uint_ge(info(0, "errorstats", "errorstat_MOVED:count="), 1);
	stop(r);
}
END_TEST

START_TEST(pipeline_node_down)
{
	char key[MASTERS][32], line[128], text[64];

	start(MASTERS, NULL);
	struct io_redis *r = cluster_client(3, 1000, 300);
	for(size_t i = 0; i < MASTERS; i++) {
		key_of(i, 0, key[i], sizeof(key[i]));
		ck_key(r, "INCR", key[i], "", "1");
	}
	for(size_t i = 0; i < MASTERS; i++) {
		(void)snprintf(line, sizeof(line), "INCR %s", key[i]);
		ck_rc(r, add(r, line), CPM_OK);
	}
	redis_pause(&node[1]);
	ck_rc(r, get_text(r, text, sizeof(text)), CPM_OK);
	ck_assert_str_eq(text, "2");
	ck_rc(r, get_text(r, text, sizeof(text)), CPM_EUNSURE);
	ck_assert_int_eq(get_text(r, text, sizeof(text)), CPM_EPROTO);
	/* nobody gets the answers of the lost pipeline */
	ck_key(r, "GET", key[2], "", "2");
	ck_key(r, "GET", key[0], "", "2");
	(void)snprintf(line, sizeof(line), "INCR %s", key[1]);
	ck_rc(r, add(r, line), CPM_EDOWN);
	redis_resume(&node[1]);
	stop(r);
}
END_TEST

START_TEST(survey)
{
	struct io_redis_server s[8];
	size_t n = 0;

	start(MASTERS + 1, NULL);
	struct io_redis *r = patient_client();
	ck_rc(r, io_redis_survey(r, s, FU_N(s), &n), CPM_OK);
	ck_assert_uint_eq(n, MASTERS);
	for(size_t i = 0; i < n; i++) {
		char want[32];
		(void)snprintf(want, sizeof(want), "127.0.0.1:%u", node[i].port);
		ck_assert_str_eq(s[i].addr, want);
		ck_assert_int_eq(s[i].replicas, i == 0 ? 1 : 0);
		ck_assert_int_eq(s[i].rdb_enabled, 0);
	}
	ck_rc(r, io_redis_survey(r, s, 2, &n), CPM_OK);
	ck_assert_uint_eq(n, 2);
	stop(r);
}
END_TEST

START_TEST(least_rights)
{
	static const char *const args[] = {"--user cpm on >pw " LEAST_RIGHTS, NULL};
	struct io_redis_conf conf = {
			.connect_timeout_ms = PATIENT_MS, .cmd_timeout_ms = 300};
	struct io_redis_server s[MASTERS];
	char text[128], aor[64], word[32];
	size_t n = 0;

	start(MASTERS, args);
	(void)snprintf(text, sizeof(text), "cluster=1;port=%u;user=cpm;pass=pw",
			node[0].port);
	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(text), &conf, NULL), CPM_OK);
	struct io_redis *r = io_redis_new(&conf);
	for(size_t i = 0; i < MASTERS; i++) {
		user_of(i, aor, sizeof(aor));
		ck_rc(r, put_for(r, aor, "id-1", false, word, sizeof(word)), CPM_OK);
	}
	ck_rc(r, io_redis_survey(r, s, MASTERS, &n), CPM_OK);
	ck_assert_uint_eq(n, MASTERS);
	/* ASK is followed too */
	slot_begin(user_slot(aor), 2, 1);
	(void)snprintf(text, sizeof(text), "GET t:{%u}:x",
			cpm_queue_shard(cpm_pl_str(aor)));
	ck_answer(r, text, "(nil)");
	ck_assert_uint_eq(info(2, "errorstats", "errorstat_ASK:count="), 1);
	ck_answer(r, "PING", "PONG");
	stop(r);
}
END_TEST

START_TEST(no_cluster)
{
	node_count = 1;
	redis_start(&node[0], NULL);
	struct io_redis *r = cluster_client(1, 1000, 1000);
	ck_fails(r, "GET a", CPM_EDOWN);
	ck_error_has(r, "cluster support disabled");
	uint64_t from = io_clock_mono_ms();
	for(int i = 0; i < 20; i++)
		ck_fails(r, "PING", CPM_EDOWN);
	ck_assert_uint_lt(io_clock_mono_ms() - from, 1000);
	stop(r);
}
END_TEST

START_TEST(cluster_unannounced)
{
	char key[32];

	start(MASTERS, NULL);
	key_of(1, 0, key, sizeof(key));
	/* a node of a cluster that was given as a server of its own */
	struct io_redis *r = patient(node[0].port);
	char text[64];
	ck_rc(r, askf(r, "GET", key, "", text, sizeof(text)), CPM_EDOWN);
	ck_error_has(r, "MOVED");
	stop(r);
}
END_TEST

/* ----------------------------------------------------------- nodes that lie */

enum
{
	LIE_SLOTS, /* text is the answer to CLUSTER SLOTS */
	LIE_MOVED, /* text is the answer to everything else */
};

/* %1: its own port, as a number */
static size_t liar(struct mock *m, const redisReply *cmd, char *out, size_t cap)
{
	size_t n = mock_handshake(cmd, out, cap);

	if(n > 0)
		return n;
	if(mock_is(cmd, 0, "ASKING"))
		return (size_t)snprintf(out, cap, "+OK\r\n");
	bool slots = mock_is(cmd, 0, "CLUSTER");
	if(slots && atomic_load(&m->mode) == LIE_MOVED)
		return (size_t)snprintf(out, cap,
				"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:%u\r\n", m->port);
	if(!slots && atomic_load(&m->mode) == LIE_SLOTS)
		return (size_t)snprintf(out, cap, "+fine\r\n");
	const char *from = m->text;
	while(*from != '\0' && n + 8 < cap) {
		if(*from == '%') {
			n += (size_t)snprintf(out + n, cap - n, "%u", m->port);
			from++;
		} else
			out[n++] = *from++;
	}
	return n;
}

#define RANGE(a, b, host, port) \
	"*3\r\n:" a "\r\n:" b "\r\n*2\r\n" host ":" port "\r\n"
#define ME "$9\r\n127.0.0.1\r\n"

static const struct
{
	const char *slots;
	bool good;
} lies[] = {
		{"*1\r\n" RANGE("0", "16383", ME, "%"), true},
		/* the one that was asked, in two ways */
		{"*1\r\n" RANGE("0", "16383", "$0\r\n\r\n", "%"), true},
		{"*1\r\n" RANGE("0", "16383", "$-1\r\n", "%"), true},
		/* parts of the slots only: the others go to whoever is there */
		{"*1\r\n" RANGE("1", "1", ME, "%"), true},
		{"*0\r\n", false},
		{"*-1\r\n", false},
		{":1\r\n", false},
		{"$3\r\nabc\r\n", false},
		{"-ERR no\r\n", false},
		{"*1\r\n:5\r\n", false},
		{"*1\r\n*0\r\n", false},
		{"*1\r\n*2\r\n:0\r\n:16383\r\n", false},
		{"*1\r\n" RANGE("0", "16384", ME, "%"), false},
		{"*1\r\n" RANGE("-1", "5", ME, "%"), false},
		{"*1\r\n" RANGE("5", "4", ME, "%"), false},
		{"*1\r\n" RANGE("0", "9223372036854775807", ME, "%"), false},
		{"*2\r\n" RANGE("0", "9", ME, "%") RANGE("9", "16383", ME, "%"), false},
		{"*1\r\n" RANGE("0", "16383", ME, "0"), false},
		{"*1\r\n" RANGE("0", "16383", ME, "65536"), false},
		{"*1\r\n" RANGE("0", "16383", ME, "-5"), false},
		{"*1\r\n" RANGE("0", "16383", "$1\r\n?\r\n", "%"), false},
		{"*1\r\n" RANGE("0", "16383", ":5\r\n", "%"), false},
		{"*1\r\n" RANGE("0", "16383", "*0\r\n", "%"), false},
		{"*1\r\n*3\r\n:0\r\n:16383\r\n$1\r\na\r\n", false},
		{"*1\r\n*3\r\n:0\r\n:16383\r\n*1\r\n$1\r\na\r\n", false},
		{"*1\r\n*3\r\n$1\r\n0\r\n:16383\r\n*2\r\n" ME ":%\r\n", false},
		/* promises of more than anybody has */
		{"*2147483647\r\n", false},
		{"*1000000\r\n*1000000\r\n*1000000\r\n", false},
		{"*16385\r\n", false},
		{"$2000000000\r\nabc", false},
		{"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", false},
		{"HTTP/1.0 400\r\n\r\n", false},
		{"", false},
};

static struct io_redis *client_of(const struct mock *m)
{
	char text[64];
	struct io_redis_conf conf = {
			.connect_timeout_ms = 400, .cmd_timeout_ms = 400};

	(void)snprintf(text, sizeof(text), "cluster=1;port=%u", m->port);
	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(text), &conf, NULL), CPM_OK);
	return io_redis_new(&conf);
}

START_TEST(lying_slots)
{
	struct mock m = {.answer = liar, .text = lies[_i].slots};
	char text[64];

	mock_start(&m);
	struct io_redis *r = client_of(&m);
	uint64_t from = io_clock_mono_ms();
	ck_rc(r, ask(r, "GET a", text, sizeof(text)),
			lies[_i].good ? CPM_OK : CPM_EDOWN);
	ck_assert_uint_lt(io_clock_mono_ms() - from, 5000);
	if(lies[_i].good)
		ck_assert_str_eq(text, "fine");
	else
		ck_error_has(r, "127.0.0.1:");
	io_redis_free(&r);
	mock_stop(&m);
}
END_TEST

START_TEST(too_many_nodes)
{
	static char text[65536];
	struct mock m = {.answer = liar, .text = text};
	size_t n = (size_t)snprintf(text, sizeof(text), "*%d\r\n", 256 + _i);

	for(unsigned i = 0; i < 256 + (unsigned)_i; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n,
				"*3\r\n:%u\r\n:%u\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n", i, i,
				i + 1);
	mock_start(&m);
	struct io_redis *r = client_of(&m);
	/* with one too many there is no map; else nobody has that slot */
	char got[64];
	int rc = ask(r, "GET a", got, sizeof(got));
	ck_assert_int_eq(rc, CPM_EDOWN);
	if(_i == 1)
		ck_error_has(r, "unusable answer");
	else
		ck_error_has(r, "connect");
	io_redis_free(&r);
	mock_stop(&m);
}
END_TEST

static const struct
{
	const char *answer;
	const char *error;
	int commands; /* at most, after the map was read */
} loops[] = {
		{"-MOVED 15495 127.0.0.1:%\r\n", "MOVED", IO_REDIS_HOPS_MAX + 1},
		{"-MOVED 15495 :%\r\n", "MOVED", IO_REDIS_HOPS_MAX + 1},
		{"-ASK 15495 127.0.0.1:%\r\n", "ASK", 2 * IO_REDIS_HOPS_MAX + 1},
		{"-MOVED\r\n", "MOVED", 1},
		{"-MOVED 1\r\n", "MOVED", 1},
		{"-MOVED 99999 127.0.0.1:%\r\n", "MOVED", 1},
		{"-MOVED 1 127.0.0.1\r\n", "MOVED", 1},
		{"-MOVED 1 127.0.0.1:0\r\n", "MOVED", 1},
		{"-MOVED 1 127.0.0.1:65536\r\n", "MOVED", 1},
		{"-ASK x y:z\r\n", "ASK", 1},
		{"-TRYAGAIN later\r\n", "TRYAGAIN", 1000},
		{"-CLUSTERDOWN no\r\n", "CLUSTERDOWN", 1000},
		/* where nobody is */
		{"-MOVED 15495 127.0.0.1:1\r\n", "connect", 1},
		{"-ASK 15495 256.256.256.256:7\r\n", "address", 1},
};

START_TEST(lying_redirections)
{
	struct mock m = {.answer = liar, .text = loops[_i].answer};
	char text[64];

	atomic_init(&m.mode, LIE_MOVED);
	mock_start(&m);
	struct io_redis *r = client_of(&m);
	uint64_t from = io_clock_mono_ms();
	ck_rc(r, ask(r, "SET a b", text, sizeof(text)), CPM_EDOWN);
	ck_error_has(r, loops[_i].error);
	ck_assert_uint_lt(io_clock_mono_ms() - from, 5000);
	/* the scripts, the map and these */
	ck_assert_int_le(atomic_load(&m.commands),
			CPM_SCRIPT_COUNT_ + 1 + loops[_i].commands);
	/* in a pipeline as well */
	io_redis_free(&r);
	r = client_of(&m);
	ck_rc(r, add(r, "SET a b"), CPM_OK);
	ck_rc(r, add(r, "SET a b"), CPM_OK);
	ck_rc(r, get_text(r, text, sizeof(text)), CPM_EDOWN);
	io_redis_free(&r);
	mock_stop(&m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_cluster");

	fu_case(s, "CRC16 and hash tags", crc);
	fu_case(s, "a key's slot is the one that Redis computes", slots_as_redis);
	fu_case(s, "each key is with its node, through one seed", all_slots);
	fu_case(s, "a seed that stalls is no obstacle", seeds_in_turn);
	fu_case(s, "a slot that was moved is followed, once", slot_moved);
	fu_case(s, "keys under migration are found on either side", asked);
	fu_case(s, "a queue under migration is down, and unharmed",
			script_in_migration);
	fu_case(s, "a new queue in a slot under migration", new_queue_in_migration);
	fu_case(s, "a cluster that lost a slot is down", cluster_is_down);
	fu_table(s, "a master dies: its slots only, until its replica takes over",
			failover, 2);
	fu_case(s, "a durable write is on a replica, or unsure", durable);
	fu_case(s, "a pipeline over all nodes, with slots on the move", pipeline);
	fu_case(s, "a node that stalls ends a pipeline", pipeline_node_down);
	fu_case(s, "the facts of each master", survey);
	fu_case(s, "the rights that the manual asks for are enough", least_rights);
	fu_case(s, "cluster=1 for a server that is none", no_cluster);
	fu_case(s, "a node of a cluster without cluster=1", cluster_unannounced);
	fu_table(s, "what a node says of slots is believed within bounds",
			lying_slots, FU_N(lies));
	fu_table(s, "256 nodes and no more", too_many_nodes, 2);
	fu_table(s, "redirections without end, or to nowhere", lying_redirections,
			FU_N(loops));
	return fu_run(s);
}
