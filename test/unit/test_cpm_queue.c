/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_queue.c - key names, scripts and state names.
 *
 * Names are in every operator's Redis: what these cases pin down may only
 * change together with a way to move the queues.
 */

#include "cpm_queue.h"

#include <stdio.h>

#include "check_helpers.h"

#define LIT CPM_PL_LIT

/* ---- keys ---- */

START_TEST(names)
{
	static const char *const want[CPM_KEY_COUNT_] = {
			[CPM_KEY_Q] = "cpm:{48}:q:sip:bob@example.org",
			[CPM_KEY_M] = "cpm:{48}:m:sip:bob@example.org",
			[CPM_KEY_LOCK] = "cpm:{48}:l:sip:bob@example.org",
			[CPM_KEY_USERS] = "cpm:{48}:users",
			[CPM_KEY_WAKE] = "cpm:{48}:wake",
			[CPM_KEY_DEAD] = "cpm:{48}:dead",
			[CPM_KEY_EXPIRED] = "cpm:{48}:expired",
			[CPM_KEY_SUM] = "cpm:{48}:sum",
			[CPM_KEY_JOBS] = "cpm:{48}:jobs",
			[CPM_KEY_JOB] = "cpm:{48}:job",
			[CPM_KEY_TOMB] = "cpm:{48}:d:sip:bob@example.org:i:1",
	};
	struct cpm_queue_keys k;

	ck_assert_int_eq(cpm_queue_keys_init(&k, LIT("cpm"),
							 LIT("sip:bob@example.org"), LIT("i:1")),
			CPM_OK);
	ck_assert_uint_eq(k.count, CPM_KEY_COUNT_);
	for(size_t i = 0; i < k.count; i++)
		ck_pl_eq(k.key[i], want[i]);
}
END_TEST

START_TEST(names_without_id)
{
	struct cpm_queue_keys k;

	ck_assert_int_eq(cpm_queue_keys_init(&k, LIT("x"),
							 LIT("sip:bob@example.org"), CPM_PL_NULL),
			CPM_OK);
	ck_assert_uint_eq(k.count, CPM_KEY_TOMB);
	ck_pl_eq(k.key[CPM_KEY_Q], "x:{48}:q:sip:bob@example.org");
	ck_pl_eq(k.key[CPM_KEY_SUM], "x:{48}:sum");
}
END_TEST

START_TEST(names_of_shard)
{
	struct cpm_queue_keys k;

	ck_assert_int_eq(cpm_queue_keys_shard(&k, LIT("cpm"), 0), CPM_OK);
	ck_pl_eq(k.key[CPM_KEY_WAKE], "cpm:{0}:wake");
	ck_assert_int_eq(cpm_queue_keys_shard(&k, LIT("cpm"), 63), CPM_OK);
	ck_pl_eq(k.key[CPM_KEY_EXPIRED], "cpm:{63}:expired");
	ck_pl_eq(k.key[CPM_KEY_JOBS], "cpm:{63}:jobs");
	ck_pl_eq(k.key[CPM_KEY_JOB], "cpm:{63}:job");
	ck_assert_int_eq(
			cpm_queue_keys_shard(&k, LIT("cpm"), CPM_QUEUE_SHARDS), CPM_ELIMIT);
	ck_assert_int_eq(cpm_queue_keys_shard(&k, CPM_PL_NULL, 0), CPM_ELIMIT);
}
END_TEST

/* What Redis Cluster hashes: between the first '{' and the next '}'. */
static struct cpm_pl hash_tag(struct cpm_pl key)
{
	struct cpm_pl rest = key;

	(void)cpm_pl_cut(&rest, '{');
	ck_assert_ptr_nonnull(rest.p);
	return cpm_pl_cut(&rest, '}');
}

static void ck_one_slot(const struct cpm_queue_keys *k)
{
	for(size_t i = 0; i < k->count; i++) {
		ck_assert_uint_gt(hash_tag(k->key[i]).n, 0);
		ck_pl_same(hash_tag(k->key[i]), hash_tag(k->key[0]));
	}
}

static void ck_all_differ(const struct cpm_queue_keys *k)
{
	for(size_t i = 0; i < k->count; i++)
		for(size_t j = 0; j < i; j++)
			ck_assert(!cpm_pl_eq(k->key[i], k->key[j]));
}

START_TEST(one_slot)
{
	static const char *const aors[] = {"sip:bob@example.org", "tel:+1555",
			"sip:users@h", "sip:a%7Bb%7D@example.org",
			"tel:7;phone-context=example.org", "sip:q@[2001:db8::1]"};
	static const char *const ids[] = {"1", "{0}", "}{", "a:b", "~", "users"};
	struct cpm_queue_keys k;

	for(size_t i = 0; i < FU_N(aors); i++)
		for(size_t j = 0; j < FU_N(ids); j++) {
			ck_assert_int_eq(cpm_queue_keys_init(&k, LIT("cpm"),
									 cpm_pl_str(aors[i]), cpm_pl_str(ids[j])),
					CPM_OK);
			ck_one_slot(&k);
			ck_all_differ(&k);
		}
	ck_assert_int_eq(cpm_queue_keys_shard(&k, LIT("cpm"), 7), CPM_OK);
	ck_one_slot(&k);
}
END_TEST

static char prefix[CPM_QUEUE_PREFIX_MAX + 1];
static char aor[CPM_AOR_MAX + 1];
static char id[CPM_MSG_ID_MAX + 1];

START_TEST(longest)
{
	struct
	{
		struct cpm_queue_keys k;
		char behind[64];
	} s;
	struct cpm_pl p, a, i;

	memset(prefix, 'p', sizeof(prefix));
	memset(aor, 'a', sizeof(aor));
	memset(id, 'i', sizeof(id));
	memset(&s, 0x55, sizeof(s));
	p = cpm_pl(prefix, CPM_QUEUE_PREFIX_MAX);
	a = cpm_pl(aor, CPM_AOR_MAX);
	i = cpm_pl(id, CPM_MSG_ID_MAX);
	/* every length of aor near the end: some shard has two digits */
	for(size_t less = 0; less < 32; less++) {
		a.n = CPM_AOR_MAX - less;
		ck_assert_int_eq(cpm_queue_keys_init(&s.k, p, a, i), CPM_OK);
		ck_assert_uint_eq(s.k.key[CPM_KEY_TOMB].n,
				strlen(":{}:d::") + (cpm_queue_shard(a) < 10 ? 1 : 2) + p.n
						+ a.n + i.n);
		ck_all_differ(&s.k);
		for(size_t j = 0; j < s.k.count; j++)
			ck_assert(
					fu_pl_inside(s.k.key[j], cpm_pl(s.k.buf, sizeof(s.k.buf))));
		for(size_t j = 0; j < sizeof(s.behind); j++)
			ck_assert_int_eq(s.behind[j], 0x55);
	}
}
END_TEST

START_TEST(bounds)
{
	struct cpm_queue_keys k;
	struct cpm_pl p = cpm_pl(prefix, CPM_QUEUE_PREFIX_MAX);
	struct cpm_pl a = cpm_pl(aor, CPM_AOR_MAX);
	struct cpm_pl i = cpm_pl(id, CPM_MSG_ID_MAX);

	memset(prefix, 'p', sizeof(prefix));
	memset(aor, 'a', sizeof(aor));
	memset(id, 'i', sizeof(id));
	ck_assert_int_eq(cpm_queue_keys_init(&k, p, a, i), CPM_OK);
	p.n++;
	ck_assert_int_eq(cpm_queue_keys_init(&k, p, a, i), CPM_ELIMIT);
	p.n = 0;
	ck_assert_int_eq(cpm_queue_keys_init(&k, p, a, i), CPM_ELIMIT);
	p.n = 1;
	a.n++;
	ck_assert_int_eq(cpm_queue_keys_init(&k, p, a, i), CPM_ELIMIT);
	a.n = 0;
	ck_assert_int_eq(cpm_queue_keys_init(&k, p, a, i), CPM_ELIMIT);
	a.n = 1;
	i.n++;
	ck_assert_int_eq(cpm_queue_keys_init(&k, p, a, i), CPM_ELIMIT);
}
END_TEST

/* ---- shards ---- */

START_TEST(shards_golden)
{
	/* FNV-1a of 64 bits, modulo 64, worked out by another program */
	ck_assert_uint_eq(cpm_queue_shard(LIT("sip:bob@example.org")), 48);
	ck_assert_uint_eq(cpm_queue_shard(LIT("sip:alice@example.org")), 47);
	ck_assert_uint_eq(cpm_queue_shard(LIT("tel:+15551234")), 33);
}
END_TEST

START_TEST(shards_even)
{
	unsigned count[CPM_QUEUE_SHARDS] = {0};
	char text[64];

	for(int i = 0; i < 64000; i++) {
		(void)snprintf(text, sizeof(text), "sip:user%d@example.org", i);
		count[cpm_queue_shard(cpm_pl_str(text))]++;
	}
	for(size_t i = 0; i < CPM_QUEUE_SHARDS; i++) {
		ck_assert_uint_gt(count[i], 800);
		ck_assert_uint_lt(count[i], 1200);
	}
}
END_TEST

/* ---- scripts ---- */

static const char *const script_names[CPM_SCRIPT_COUNT_] = {
		[CPM_SCRIPT_PUT] = "put",
		[CPM_SCRIPT_LEASE] = "lease",
		[CPM_SCRIPT_RENEW] = "renew",
		[CPM_SCRIPT_SETTLE] = "settle",
		[CPM_SCRIPT_RELEASE] = "release",
		[CPM_SCRIPT_CLAIM] = "claim",
		[CPM_SCRIPT_STAT] = "stat",
		[CPM_SCRIPT_LIST] = "list",
		[CPM_SCRIPT_GET] = "get",
		[CPM_SCRIPT_EXTEND] = "extend",
		[CPM_SCRIPT_TURN] = "turn",
		[CPM_SCRIPT_DISCARD] = "discard",
		[CPM_SCRIPT_PURGE] = "purge",
		[CPM_SCRIPT_REPORTED] = "reported",
		[CPM_SCRIPT_JOBS] = "jobs",
		[CPM_SCRIPT_TAKE] = "take",
		[CPM_SCRIPT_JOB] = "job",
		[CPM_SCRIPT_JOB_LEASE] = "job_lease",
		[CPM_SCRIPT_SUBS] = "subs",
		[CPM_SCRIPT_CONTACTS] = "contacts",
		[CPM_SCRIPT_FLUSH] = "flush",
};

static void ck_script_has(const char *text, const char *file)
{
	struct cpm_pl lua =
			fu_slurp_in(TEST_DATA_DIR "/../../modules/cpm_pf/core/lua", file);
	struct cpm_pl rest = lua;
	const char *at = text;

	/* line by line, in order; comments and indentation are left out */
	while(rest.p != NULL) {
		struct cpm_pl line = cpm_pl_trim(cpm_pl_cut(&rest, '\n'));
		char want[256];

		if(line.n == 0 || cpm_pl_starts(line, LIT("--")))
			continue;
		ck_assert_uint_lt(line.n, sizeof(want));
		at = strstr(at, cpm_pl_cstr(line, want, sizeof(want)));
		ck_assert_msg(at != NULL, "%s: a line is missing: %s", file, want);
		at += line.n;
	}
	fu_free(&lua);
}

START_TEST(scripts_whole)
{
	enum cpm_script s = (enum cpm_script)_i;
	char file[32];

	ck_assert_str_eq(cpm_script_name(s), script_names[_i]);
	(void)snprintf(file, sizeof(file), "%s.lua", script_names[_i]);
	ck_script_has(cpm_script_text(s), "common.lua");
	ck_script_has(cpm_script_text(s), file);
}
END_TEST

/* A key made up inside a script is not in the slot that the cluster checked. */
START_TEST(scripts_keys_declared)
{
	static const char *const keys[] = {"kq", "km", "klock", "kusers", "kwake",
			"kdead", "kexpired", "ksum", "kjobs", "kjob", "ktomb"};
	const char *at = cpm_script_text((enum cpm_script)_i);

	while((at = strstr(at, "call('")) != NULL) {
		struct cpm_pl key;
		bool known;

		at += strlen("call('");
		/* behind the command's name */
		key.p = strchr(at, '\'') + 1;
		known = cpm_pl_starts(cpm_pl_str(at), LIT("TIME'"));
		key.p += strspn(key.p, ", ");
		key.n = strcspn(key.p, ",) ");
		for(size_t i = 0; i < FU_N(keys); i++)
			known = known || cpm_pl_eq(key, cpm_pl_str(keys[i]));
		ck_assert_msg(
				known, "%s: an undeclared key in: %.60s", script_names[_i], at);
	}
	ck_assert_ptr_null(
			strstr(at = cpm_script_text((enum cpm_script)_i), "pcall"));
	ck_assert_ptr_null(strstr(at, "redis.call("));
}
END_TEST

/* ---- senders ---- */

START_TEST(sender_tags)
{
	char buf[CPM_SENDER_TAG_LEN], other[CPM_SENDER_TAG_LEN];
	struct cpm_pl a, b;

	ck_pl_eq(cpm_queue_sender_tag(CPM_PL_NULL, buf), "-");
	/* the upper half of FNV-1a of 64 bits, worked out by another program: it
	 * is in every entry of the queues */
	a = cpm_queue_sender_tag(LIT("sip:alice@example.org"), buf);
	ck_pl_eq(a, "b3399726");
	b = cpm_queue_sender_tag(LIT("sip:alice@example.org"), other);
	ck_pl_same(a, b);
	b = cpm_queue_sender_tag(LIT("sip:alicf@example.org"), other);
	ck_assert_uint_eq(b.n, 8);
	ck_assert(!cpm_pl_eq(a, b));
	for(size_t i = 0; i < b.n; i++)
		ck_assert_ptr_nonnull(strchr("0123456789abcdef", b.p[i]));
}
END_TEST

/* ---- states ---- */

START_TEST(states)
{
	static const struct
	{
		enum cpm_state state;
		const char *name;
	} rows[] = {{CPM_STATE_QUEUED, "queued"}, {CPM_STATE_LEASED, "leased"},
			{CPM_STATE_HELD, "held"}, {CPM_STATE_DEAD, "dead"}};
	enum cpm_state s = CPM_STATE_HELD;

	for(size_t i = 0; i < FU_N(rows); i++) {
		ck_assert_str_eq(cpm_state_name(rows[i].state), rows[i].name);
		ck_assert_int_eq(cpm_state_parse(cpm_pl_str(rows[i].name), &s), CPM_OK);
		ck_assert_int_eq((int)s, (int)rows[i].state);
	}
}
END_TEST

START_TEST(states_unknown)
{
	static const char *const bad[] = {
			"", "Queued", "queue", "queuedx", "Q", " dead"};
	enum cpm_state s = CPM_STATE_HELD;

	for(size_t i = 0; i < FU_N(bad); i++)
		ck_assert_int_eq(cpm_state_parse(cpm_pl_str(bad[i]), &s), CPM_EPROTO);
	ck_assert_int_eq((int)s, CPM_STATE_HELD);
	ck_assert_str_eq(cpm_state_name((enum cpm_state)'Z'), "?");
	ck_assert_str_eq(cpm_state_name((enum cpm_state)0), "?");
}
END_TEST

/* ---- jobs ---- */

/* The letters are in the names of jobs, in every operator's Redis. */
START_TEST(job_kinds)
{
	static const struct
	{
		enum cpm_job_kind kind;
		char letter;
		const char *name;
	} rows[CPM_JOB_KINDS] = {{CPM_JOB_STORE, 's', "store"},
			{CPM_JOB_INTERWORK, 'i', "interwork"},
			{CPM_JOB_STORED, 'q', "stored"}, {CPM_JOB_FAILED, 'f', "failed"},
			{CPM_JOB_PUSH, 'p', "push"}};
	unsigned all = 0;

	for(size_t i = 0; i < FU_N(rows); i++) {
		ck_assert_uint_eq((unsigned)rows[i].kind, 1u << i);
		ck_assert_int_eq(cpm_job_letter(rows[i].kind), rows[i].letter);
		ck_assert_int_eq(
				(int)cpm_job_of_letter(rows[i].letter), (int)rows[i].kind);
		ck_assert_str_eq(cpm_job_kind_name(rows[i].kind), rows[i].name);
		all |= (unsigned)rows[i].kind;
	}
	ck_assert_uint_eq(all, CPM_JOB_ALL);
}
END_TEST

START_TEST(job_kinds_unknown)
{
	static const unsigned bad[] = {0, 3, 32, 31, 1u << 30};
	static const char letters[] = "-Sxa \0";

	for(size_t i = 0; i < FU_N(bad); i++) {
		ck_assert_int_eq(cpm_job_letter((enum cpm_job_kind)bad[i]), '-');
		ck_assert_str_eq(cpm_job_kind_name((enum cpm_job_kind)bad[i]), "?");
	}
	for(size_t i = 0; i < sizeof(letters); i++)
		ck_assert_int_eq((int)cpm_job_of_letter(letters[i]), CPM_JOB_NONE);
}
END_TEST

START_TEST(job_sets)
{
	char buf[CPM_JOB_KINDS];

	ck_pl_eq(cpm_job_letters(0, buf), "-");
	ck_pl_eq(cpm_job_letters(CPM_JOB_PUSH, buf), "p");
	ck_pl_eq(cpm_job_letters(CPM_JOB_STORED | CPM_JOB_STORE, buf), "sq");
	ck_pl_eq(cpm_job_letters(CPM_JOB_ALL, buf), "siqfp");
	ck_pl_eq(cpm_job_letters(1u << CPM_JOB_KINDS, buf), "-");
	ck_pl_eq(cpm_job_letters(~0u, buf), "siqfp");
}
END_TEST

START_TEST(job_states)
{
	ck_assert_str_eq(cpm_job_state_name(CPM_JOB_WAITING), "waiting");
	ck_assert_str_eq(cpm_job_state_name(CPM_JOB_LEASED), "leased");
	ck_assert_str_eq(cpm_job_state_name(CPM_JOB_DEAD), "dead");
	ck_assert_str_eq(cpm_job_state_name((enum cpm_job_state)9), "?");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_queue");

	fu_case(s, "the keys of a user have the names that operators know", names);
	fu_case(s, "a key of one message is there only with an id",
			names_without_id);
	fu_case(s, "a shard has the keys that belong to no user", names_of_shard);
	fu_case(s, "all keys of a user are one slot, and differ", one_slot);
	fu_case(s, "the longest names fit into the buffer", longest);
	fu_case(s, "one byte too many is refused", bounds);
	fu_case(s, "a user stays in the shard where his queue is", shards_golden);
	fu_case(s, "users spread over the shards", shards_even);
	fu_table(s, "a script is its file behind the common one, line by line",
			scripts_whole, CPM_SCRIPT_COUNT_);
	fu_table(s, "a script touches no key that it was not given",
			scripts_keys_declared, CPM_SCRIPT_COUNT_);
	fu_case(s, "a sender is a word of eight digits, an unknown one a dash",
			sender_tags);
	fu_case(s, "states have names and names have states", states);
	fu_case(s, "what is no state has no name, and no such name a state",
			states_unknown);
	fu_case(s, "kinds of jobs are bits with a letter and a name", job_kinds);
	fu_case(s, "what is no kind of job has neither", job_kinds_unknown);
	fu_case(s, "a set of kinds is its letters, in one order", job_sets);
	fu_case(s, "states of jobs have names", job_states);
	return fu_run(s);
}
