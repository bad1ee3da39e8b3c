/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_queue.h"

#include "cpm_queue_lua.h"
#include "cpm_wr.h"

static const struct
{
	const char *name;
	const char *text;
} scripts[CPM_SCRIPT_COUNT_] = {
		[CPM_SCRIPT_PUT] = {"put", cpm_lua_put},
		[CPM_SCRIPT_LEASE] = {"lease", cpm_lua_lease},
		[CPM_SCRIPT_RENEW] = {"renew", cpm_lua_renew},
		[CPM_SCRIPT_SETTLE] = {"settle", cpm_lua_settle},
		[CPM_SCRIPT_RELEASE] = {"release", cpm_lua_release},
		[CPM_SCRIPT_CLAIM] = {"claim", cpm_lua_claim},
		[CPM_SCRIPT_STAT] = {"stat", cpm_lua_stat},
		[CPM_SCRIPT_LIST] = {"list", cpm_lua_list},
		[CPM_SCRIPT_GET] = {"get", cpm_lua_get},
		[CPM_SCRIPT_EXTEND] = {"extend", cpm_lua_extend},
		[CPM_SCRIPT_TURN] = {"turn", cpm_lua_turn},
		[CPM_SCRIPT_DISCARD] = {"discard", cpm_lua_discard},
		[CPM_SCRIPT_PURGE] = {"purge", cpm_lua_purge},
		[CPM_SCRIPT_REPORTED] = {"reported", cpm_lua_reported},
		[CPM_SCRIPT_JOBS] = {"jobs", cpm_lua_jobs},
		[CPM_SCRIPT_TAKE] = {"take", cpm_lua_take},
		[CPM_SCRIPT_JOB] = {"job", cpm_lua_job},
		[CPM_SCRIPT_JOB_LEASE] = {"job_lease", cpm_lua_job_lease},
		[CPM_SCRIPT_SUBS] = {"subs", cpm_lua_subs},
		[CPM_SCRIPT_CONTACTS] = {"contacts", cpm_lua_contacts},
		[CPM_SCRIPT_FLUSH] = {"flush", cpm_lua_flush},
};

const char *cpm_script_name(enum cpm_script s)
{
	return scripts[s].name;
}

const char *cpm_script_text(enum cpm_script s)
{
	return scripts[s].text;
}

unsigned cpm_queue_shard(struct cpm_pl aor)
{
	return (unsigned)(cpm_hash64(CPM_HASH_INIT, aor) % CPM_QUEUE_SHARDS);
}

static const struct
{
	const char *name;
	bool of_user;
} key_kinds[CPM_KEY_COUNT_] = {
		[CPM_KEY_Q] = {"q", true},
		[CPM_KEY_M] = {"m", true},
		[CPM_KEY_LOCK] = {"l", true},
		[CPM_KEY_USERS] = {"users", false},
		[CPM_KEY_WAKE] = {"wake", false},
		[CPM_KEY_DEAD] = {"dead", false},
		[CPM_KEY_EXPIRED] = {"expired", false},
		[CPM_KEY_SUM] = {"sum", false},
		[CPM_KEY_JOBS] = {"jobs", false},
		[CPM_KEY_JOB] = {"job", false},
		[CPM_KEY_TOMB] = {"d", true},
};

static int keys_build(struct cpm_queue_keys *k, struct cpm_pl prefix,
		unsigned shard, struct cpm_pl aor, struct cpm_pl id)
{
	struct cpm_wr w;
	size_t i;
	size_t from;

	if(prefix.n == 0 || prefix.n > CPM_QUEUE_PREFIX_MAX || aor.n > CPM_AOR_MAX
			|| id.n > CPM_MSG_ID_MAX || shard >= CPM_QUEUE_SHARDS) {
		return CPM_ELIMIT;
	}
	cpm_wr_init(&w, k->buf, sizeof(k->buf));
	k->count = id.n > 0 ? CPM_KEY_COUNT_ : CPM_KEY_TOMB;
	for(i = 0; i < k->count; i++) {
		from = w.n;
		cpm_wr_pl_put(&w, prefix);
		cpm_wr_str(&w, ":{");
		cpm_wr_u64(&w, shard);
		cpm_wr_str(&w, "}:");
		cpm_wr_str(&w, key_kinds[i].name);
		if(key_kinds[i].of_user) {
			cpm_wr_chr(&w, ':');
			cpm_wr_pl_put(&w, aor);
		}
		if(i == CPM_KEY_TOMB) {
			cpm_wr_chr(&w, ':');
			cpm_wr_pl_put(&w, id);
		}
		if(!cpm_wr_ok(&w)) {
			return CPM_ELIMIT;
		}
		k->key[i] = cpm_pl(k->buf + from, w.n - from);
	}
	return CPM_OK;
}

int cpm_queue_keys_init(struct cpm_queue_keys *k, struct cpm_pl prefix,
		struct cpm_pl aor, struct cpm_pl id)
{
	if(aor.n == 0) {
		return CPM_ELIMIT;
	}
	return keys_build(k, prefix, cpm_queue_shard(aor), aor, id);
}

int cpm_queue_keys_shard(
		struct cpm_queue_keys *k, struct cpm_pl prefix, unsigned shard)
{
	return keys_build(k, prefix, shard, CPM_PL_NULL, CPM_PL_NULL);
}

struct cpm_pl cpm_queue_sender_tag(struct cpm_pl sender, char *buf)
{
	uint64_t h = cpm_hash64(CPM_HASH_INIT, sender);
	struct cpm_wr w;

	if(sender.n == 0) {
		return CPM_PL_LIT("-");
	}
	cpm_wr_init(&w, buf, CPM_SENDER_TAG_LEN);
	cpm_wr_hex64(&w, h);
	return cpm_pl(buf, 8);
}

static const struct
{
	enum cpm_state state;
	const char *name;
} states[] = {
		{CPM_STATE_QUEUED, "queued"},
		{CPM_STATE_LEASED, "leased"},
		{CPM_STATE_HELD, "held"},
		{CPM_STATE_DEAD, "dead"},
};

const char *cpm_state_name(enum cpm_state s)
{
	size_t i;

	for(i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if(states[i].state == s) {
			return states[i].name;
		}
	}
	return "?";
}

/* The letters are in every operator's Redis: they stay as they are. */
static const struct
{
	enum cpm_job_kind kind;
	char letter;
	const char *name;
} job_kinds[CPM_JOB_KINDS] = {
		{CPM_JOB_STORE, 's', "store"},
		{CPM_JOB_INTERWORK, 'i', "interwork"},
		{CPM_JOB_STORED, 'q', "stored"},
		{CPM_JOB_FAILED, 'f', "failed"},
		{CPM_JOB_PUSH, 'p', "push"},
};

const char *cpm_job_kind_name(enum cpm_job_kind kind)
{
	size_t i;

	for(i = 0; i < CPM_JOB_KINDS; i++) {
		if(job_kinds[i].kind == kind) {
			return job_kinds[i].name;
		}
	}
	return "?";
}

char cpm_job_letter(enum cpm_job_kind kind)
{
	size_t i;

	for(i = 0; i < CPM_JOB_KINDS; i++) {
		if(job_kinds[i].kind == kind) {
			return job_kinds[i].letter;
		}
	}
	return '-';
}

enum cpm_job_kind cpm_job_of_letter(char letter)
{
	size_t i;

	for(i = 0; i < CPM_JOB_KINDS; i++) {
		if(job_kinds[i].letter == letter) {
			return job_kinds[i].kind;
		}
	}
	return CPM_JOB_NONE;
}

struct cpm_pl cpm_job_letters(unsigned kinds, char *buf)
{
	size_t i, n = 0;

	for(i = 0; i < CPM_JOB_KINDS; i++) {
		if((kinds & (unsigned)job_kinds[i].kind) != 0) {
			buf[n++] = job_kinds[i].letter;
		}
	}
	return n > 0 ? cpm_pl(buf, n) : CPM_PL_LIT("-");
}

const char *cpm_job_state_name(enum cpm_job_state s)
{
	switch(s) {
		case CPM_JOB_WAITING:
			return "waiting";
		case CPM_JOB_LEASED:
			return "leased";
		case CPM_JOB_DEAD:
			return "dead";
	}
	return "?";
}

int cpm_state_parse(struct cpm_pl name, enum cpm_state *s_r)
{
	size_t i;

	for(i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if(cpm_pl_eq(name, cpm_pl_str(states[i].name))) {
			*s_r = states[i].state;
			return CPM_OK;
		}
	}
	return CPM_EPROTO;
}

int cpm_flush_parse(struct cpm_pl word, enum cpm_flush *flush_r)
{
	if(word.n == 0 || cpm_pl_eq(word, CPM_PL_LIT("auto"))) {
		*flush_r = CPM_FLUSH_AUTO;
	} else if(cpm_pl_eq(word, CPM_PL_LIT("push"))) {
		*flush_r = CPM_FLUSH_PUSH;
	} else if(cpm_pl_eq(word, CPM_PL_LIT("notify"))) {
		*flush_r = CPM_FLUSH_NOTIFY;
	} else {
		return CPM_EPROTO;
	}
	return CPM_OK;
}
