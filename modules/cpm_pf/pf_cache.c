/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_cache.h"

#include <stdatomic.h>

#include "../../core/locking.h"
#include "../../core/mem/shm_mem.h"

/* A bucket has that many places, and no chains: every step is bounded. When the
 * table is full half of them are taken, so that one bucket in three hundred
 * has too few. */
#define WAYS 16
#define LOCKS_MAX 256
/* How many entries may have to go so that one large one comes in. */
#define EVICT_MAX 128

struct entry
{
	uint64_t loaded_ms;
	unsigned all; /* of the ticket */
	unsigned kind;
	size_t key_len;
	size_t value_len;
	bool stale;
	bool asked;	  /* since the hand passed, or ever: what is put in once and
				   never asked for goes first */
	char bytes[]; /* key, value */
};

struct bucket
{
	uint64_t hashes[WAYS];
	struct entry *entries[WAYS];
	unsigned hand;
	unsigned marks; /* pf_cache_stale was called that often */
};

struct pf_cache
{
	gen_lock_set_t *locks;
	size_t lock_count;
	size_t bucket_count;
	size_t entries_max;
	size_t bytes_max;
	_Atomic size_t entries;
	_Atomic size_t bytes;
	atomic_uint marks;	  /* pf_cache_stale_all was called that often */
	_Atomic size_t sweep; /* the bucket that gives up an entry next */
	struct bucket buckets[];
};

struct pf_cache *pf_cache_new(unsigned entries_max, size_t bytes_max)
{
	size_t count = (size_t)entries_max / (WAYS / 2) + 1;
	size_t size;
	struct pf_cache *c;

	size = sizeof(*c) + count * sizeof(c->buckets[0]);
	c = shm_malloc(size);
	if(c == NULL) {
		return NULL;
	}
	memset(c, 0, size);
	c->bucket_count = count;
	c->entries_max = entries_max;
	c->bytes_max = bytes_max;
	c->lock_count = count < LOCKS_MAX ? count : LOCKS_MAX;
	c->locks = lock_set_alloc((int)c->lock_count);
	if(c->locks == NULL || lock_set_init(c->locks) == NULL) {
		if(c->locks != NULL) {
			lock_set_dealloc(c->locks);
		}
		shm_free(c);
		return NULL;
	}
	return c;
}

static size_t entry_bytes(const struct entry *e)
{
	return sizeof(*e) + e->key_len + e->value_len;
}

static int lock_of(const struct pf_cache *c, size_t bucket)
{
	return (int)(bucket % c->lock_count);
}

/* WAYS: not there. */
static unsigned way_of(const struct bucket *b, uint64_t hash, struct cpm_pl key)
{
	unsigned i;

	for(i = 0; i < WAYS; i++) {
		if(b->hashes[i] == hash && b->entries[i] != NULL
				&& cpm_pl_eq(
						cpm_pl(b->entries[i]->bytes, b->entries[i]->key_len),
						key)) {
			break;
		}
	}
	return i;
}

/* The way that is given up next: an empty one, else the first that nobody
 * asked for since the hand passed it. */
static unsigned victim(struct bucket *b)
{
	unsigned i;

	for(i = 0; i < WAYS; i++) {
		if(b->entries[i] == NULL) {
			return i;
		}
	}
	for(;;) {
		i = b->hand;
		b->hand = (b->hand + 1) % WAYS;
		if(!b->entries[i]->asked) {
			return i;
		}
		b->entries[i]->asked = false;
	}
}

/* Takes an entry out; the caller frees it, without the lock. */
static struct entry *take(struct pf_cache *c, struct bucket *b, unsigned way)
{
	struct entry *e = b->entries[way];

	b->entries[way] = NULL;
	if(e != NULL) {
		atomic_fetch_sub(&c->bytes, entry_bytes(e));
		atomic_fetch_sub(&c->entries, 1);
	}
	return e;
}

static void release(struct entry *e)
{
	if(e != NULL) {
		shm_free(e);
	}
}

enum pf_cache_state pf_cache_get(struct pf_cache *c, struct cpm_pl key,
		uint64_t now_ms, uint64_t ttl_ms, char *buf, size_t cap,
		struct pf_cache_value *value_r, struct pf_cache_ticket *ticket_r)
{
	uint64_t hash = cpm_hash64(CPM_HASH_INIT, key);
	size_t at = hash % c->bucket_count;
	struct bucket *b = &c->buckets[at];
	enum pf_cache_state state = PF_CACHE_NONE;
	struct entry *e;
	unsigned way;

	ticket_r->all = atomic_load(&c->marks);
	lock_set_get(c->locks, lock_of(c, at));
	ticket_r->one = b->marks;
	way = way_of(b, hash, key);
	if(way < WAYS && b->entries[way]->value_len <= cap) {
		e = b->entries[way];
		e->asked = true;
		value_r->kind = e->kind;
		value_r->bytes = cpm_pl(buf, e->value_len);
		memcpy(buf, e->bytes + e->key_len, e->value_len);
		state = e->stale || e->all != ticket_r->all
								|| now_ms - e->loaded_ms >= ttl_ms
						? PF_CACHE_STALE
						: PF_CACHE_FRESH;
	}
	lock_set_release(c->locks, lock_of(c, at));
	return state;
}

/* One entry of the bucket that is next goes. */
static void give_up_one(struct pf_cache *c)
{
	size_t at = atomic_fetch_add(&c->sweep, 1) % c->bucket_count;
	struct bucket *b = &c->buckets[at];
	struct entry *e = NULL;
	unsigned i;

	lock_set_get(c->locks, lock_of(c, at));
	for(i = 0; i < WAYS && e == NULL; i++) {
		if(b->entries[b->hand] != NULL && !b->entries[b->hand]->asked) {
			e = take(c, b, b->hand);
		} else if(b->entries[b->hand] != NULL) {
			b->entries[b->hand]->asked = false;
		}
		b->hand = (b->hand + 1) % WAYS;
	}
	lock_set_release(c->locks, lock_of(c, at));
	release(e);
}

static bool has_room(struct pf_cache *c, size_t bytes)
{
	return atomic_load(&c->entries) < c->entries_max
		   && atomic_load(&c->bytes) + bytes <= c->bytes_max;
}

static struct entry *entry_new(struct pf_cache *c, struct cpm_pl key,
		const struct pf_cache_value *value, int *rc_r)
{
	size_t need = sizeof(struct entry) + key.n + value->bytes.n;
	struct entry *e;
	int i;

	for(i = 0; i < EVICT_MAX && !has_room(c, need); i++) {
		give_up_one(c);
	}
	if(!has_room(c, need)) {
		*rc_r = CPM_ELIMIT;
		return NULL;
	}
	e = shm_malloc(need);
	if(e == NULL) {
		*rc_r = CPM_ENOMEM;
		return NULL;
	}
	memset(e, 0, sizeof(*e));
	e->kind = value->kind;
	e->key_len = key.n;
	e->value_len = value->bytes.n;
	memcpy(e->bytes, key.p, key.n);
	if(value->bytes.n > 0) {
		memcpy(e->bytes + key.n, value->bytes.p, value->bytes.n);
	}
	*rc_r = CPM_OK;
	return e;
}

int pf_cache_put(struct pf_cache *c, struct cpm_pl key,
		const struct pf_cache_value *value, uint64_t now_ms,
		const struct pf_cache_ticket *ticket)
{
	uint64_t hash = cpm_hash64(CPM_HASH_INIT, key);
	size_t at = hash % c->bucket_count;
	struct bucket *b = &c->buckets[at];
	struct entry *old = NULL;
	struct entry *e;
	unsigned way;
	int rc;

	e = entry_new(c, key, value, &rc);
	lock_set_get(c->locks, lock_of(c, at));
	way = way_of(b, hash, key);
	if(way == WAYS && e != NULL) {
		way = victim(b);
	}
	if(way < WAYS) {
		old = take(c, b, way);
		b->hashes[way] = hash;
		b->entries[way] = e;
	}
	if(e != NULL) {
		e->loaded_ms = now_ms;
		e->all = ticket->all;
		e->stale = b->marks != ticket->one;
		atomic_fetch_add(&c->bytes, entry_bytes(e));
		atomic_fetch_add(&c->entries, 1);
	}
	lock_set_release(c->locks, lock_of(c, at));
	release(old);
	return rc;
}

void pf_cache_stale(struct pf_cache *c, struct cpm_pl key)
{
	uint64_t hash = cpm_hash64(CPM_HASH_INIT, key);
	size_t at = hash % c->bucket_count;
	struct bucket *b = &c->buckets[at];
	unsigned way;

	lock_set_get(c->locks, lock_of(c, at));
	b->marks++;
	way = way_of(b, hash, key);
	if(way < WAYS) {
		b->entries[way]->stale = true;
	}
	lock_set_release(c->locks, lock_of(c, at));
}

void pf_cache_stale_all(struct pf_cache *c)
{
	atomic_fetch_add(&c->marks, 1);
}
