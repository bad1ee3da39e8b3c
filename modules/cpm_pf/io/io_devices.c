/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_devices.h"

#include "io_queue_int.h"

#define DONE " done"

struct names
{
	struct cpm_queue_keys k;
	struct cpm_pl pn;  /* the hash */
	struct cpm_pl job; /* field of the push job */
	char pn_text[CPM_QUEUE_PREFIX_MAX + CPM_AOR_MAX + 16];
	char job_text[CPM_AOR_MAX + 8];
};

static int names_of(struct io_queue *q, struct names *n, struct cpm_pl aor)
{
	struct cpm_wr w;
	int rc = ioq_keys_of(q, &n->k, aor, CPM_PL_NULL);

	if(rc != CPM_OK) {
		return rc;
	}
	cpm_wr_init(&w, n->pn_text, sizeof(n->pn_text));
	cpm_wr_pl_put(&w, ioq_prefix_of(q));
	cpm_wr_str(&w, ":{");
	cpm_wr_u64(&w, cpm_queue_shard(aor));
	cpm_wr_str(&w, "}:pn:");
	cpm_wr_pl_put(&w, aor);
	n->pn = cpm_wr_pl(&w);
	cpm_wr_init(&w, n->job_text, sizeof(n->job_text));
	cpm_wr_chr(&w, cpm_job_letter(CPM_JOB_PUSH));
	cpm_wr_chr(&w, ' ');
	cpm_wr_pl_put(&w, aor);
	cpm_wr_str(&w, " " CPM_JOB_OF_USER);
	n->job = cpm_wr_pl(&w);
	return CPM_OK;
}

/* One command of a pipeline. */
static int add(struct io_queue *q, const char *verb, struct cpm_pl key,
		struct cpm_pl a, struct cpm_pl b)
{
	struct cpm_pl argv[4] = {cpm_pl_str(verb), key, a, b};

	return io_redis_command_add(q->redis,
			b.p != NULL	  ? 4
			: a.p != NULL ? 3
						  : 2,
			argv);
}

static int add_expire(struct io_queue *q, struct cpm_pl key, uint64_t ttl_ms)
{
	char digits[24];
	struct cpm_wr w;

	cpm_wr_init(&w, digits, sizeof(digits));
	cpm_wr_u64(&w, ttl_ms);
	return add(q, "PEXPIRE", key, cpm_wr_pl(&w), CPM_PL_NULL);
}

/* ------------------------------------------------------------------- read */

static void stale_add(struct io_devices *d, struct cpm_pl field)
{
	if(d->stale_count < IO_DEVICES_STALE_MAX) {
		d->stale[d->stale_count++] = field;
	}
}

/* Among those that were seen later; of one client only the last counts. */
static void device_insert(struct io_devices *d, struct cpm_pl *fields,
		const struct cpm_pn_device *one, struct cpm_pl field)
{
	size_t at, i;

	for(i = 0; i < d->count; i++) {
		if(cpm_pn_same_client(&d->v[i], one)) {
			if(d->v[i].seen_ms >= one->seen_ms) {
				stale_add(d, field);
				return;
			}
			stale_add(d, fields[i]);
			d->count--;
			memmove(&d->v[i], &d->v[i + 1], (d->count - i) * sizeof(d->v[0]));
			memmove(&fields[i], &fields[i + 1],
					(d->count - i) * sizeof(fields[0]));
			break;
		}
	}
	if(d->count == CPM_PN_DEVICES_MAX) {
		if(d->v[d->count - 1].seen_ms >= one->seen_ms) {
			stale_add(d, field);
			return;
		}
		stale_add(d, fields[--d->count]);
	}
	for(at = 0; at < d->count && d->v[at].seen_ms >= one->seen_ms; at++)
		;
	memmove(&d->v[at + 1], &d->v[at], (d->count - at) * sizeof(d->v[0]));
	memmove(&fields[at + 1], &fields[at], (d->count - at) * sizeof(fields[0]));
	d->v[at] = *one;
	fields[at] = field;
	d->count++;
}

static void hash_read(const redisReply *r, uint64_t now_ms, uint64_t ttl_ms,
		struct io_devices *d)
{
	struct cpm_pl fields[CPM_PN_DEVICES_MAX];
	struct cpm_pn_device one;
	struct cpm_pl field;
	size_t i;

	for(i = 0; i + 1 < ioq_rep_count(r); i += 2) {
		field = ioq_rep_pl(ioq_rep_at(r, i));
		if(cpm_pl_eq(field, CPM_PL_LIT(DONE))) {
			d->done = true;
		} else if(cpm_pn_device_parse(
						  field, ioq_rep_pl(ioq_rep_at(r, i + 1)), &one)
						  != CPM_OK
				  || (one.seen_ms < now_ms && now_ms - one.seen_ms >= ttl_ms)) {
			stale_add(d, field);
		} else {
			device_insert(d, fields, &one, field);
		}
	}
}

/* "<attempts> <token> <error>...", where the token of a dead one is "!" */
static enum io_devices_job job_read(struct cpm_pl record)
{
	if(record.p == NULL) {
		return IO_DEVICES_NO_JOB;
	}
	(void)cpm_pl_cut(&record, ' ');
	return cpm_pl_eq(cpm_pl_cut(&record, ' '), CPM_PL_LIT("!"))
				   ? IO_DEVICES_DEAD_JOB
				   : IO_DEVICES_JOB;
}

int io_devices_get(struct io_queue *q, struct cpm_pl aor, uint64_t now_ms,
		uint64_t ttl_ms, struct io_devices *devices_r)
{
	struct io_devices d = {.count = 0};
	struct names n;
	uint64_t exists;
	int rc = names_of(q, &n, aor);

	if(rc != CPM_OK) {
		return rc;
	}
	ioq_begin(q);
	rc = add(q, "HGETALL", n.pn, CPM_PL_NULL, CPM_PL_NULL);
	if(rc == CPM_OK) {
		rc = add(q, "HGET", n.k.key[CPM_KEY_JOB], n.job, CPM_PL_NULL);
	}
	if(rc == CPM_OK) {
		rc = add(q, "EXISTS", n.k.key[CPM_KEY_Q], CPM_PL_NULL, CPM_PL_NULL);
	}
	if(rc == CPM_OK) {
		rc = ioq_gather(q, 3);
	}
	if(rc != CPM_OK) {
		return rc;
	}
	if(!ioq_rep_u64(ioq_rep_at(q->reply, 2), &exists)) {
		return ioq_bad_reply(q);
	}
	hash_read(ioq_rep_at(q->reply, 0), now_ms, ttl_ms, &d);
	d.job = job_read(ioq_rep_pl(ioq_rep_at(q->reply, 1)));
	d.queued = exists > 0;
	*devices_r = d;
	return CPM_OK;
}

/* ------------------------------------------------------------------ write */

static struct cpm_pl field_of(const struct cpm_pn_device *d, char *buf)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, CPM_PN_FIELD_MAX);
	cpm_pn_field_put(&w, d);
	return cpm_wr_pl(&w);
}

/* Whether a field is one of these clients'. */
static bool is_field_of(
		struct cpm_pl field, const struct cpm_pn_device *d, size_t count)
{
	char buf[CPM_PN_FIELD_MAX];
	size_t i;

	for(i = 0; i < count; i++) {
		if(cpm_pl_eq(field, field_of(&d[i], buf))) {
			return true;
		}
	}
	return false;
}

/* The commands, counted; the slices of known are read while they are good.
 * What is new comes first: whoever is killed here leaves too much. */
static int put_add(struct io_queue *q, struct cpm_pl key,
		const struct io_devices *known, const struct cpm_pn_device *now,
		size_t count, const struct cpm_pn_device *gone, size_t gone_count,
		size_t *n)
{
	char field[CPM_PN_FIELD_MAX];
	char other[CPM_PN_FIELD_MAX];
	char value[CPM_PN_TEXT_MAX];
	struct cpm_pl f;
	struct cpm_wr w;
	size_t i, j;
	int rc = CPM_OK;

	for(i = 0; rc == CPM_OK && i < count; i++) {
		f = field_of(&now[i], field);
		cpm_wr_init(&w, value, sizeof(value));
		cpm_pn_value_put(&w, &now[i]);
		rc = add(q, "HSET", key, f, cpm_wr_pl(&w));
		(*n)++;
		for(j = 0; rc == CPM_OK && j < known->count; j++) {
			if(cpm_pn_same_client(&known->v[j], &now[i])
					&& !cpm_pl_eq(field_of(&known->v[j], other), f)) {
				rc = add(q, "HDEL", key, field_of(&known->v[j], other),
						CPM_PL_NULL);
				(*n)++;
			}
		}
	}
	for(i = 0; rc == CPM_OK && i < known->stale_count; i++) {
		if(!is_field_of(known->stale[i], now, count)) {
			rc = add(q, "HDEL", key, known->stale[i], CPM_PL_NULL);
			(*n)++;
		}
	}
	for(i = 0; rc == CPM_OK && i < gone_count; i++, (*n)++) {
		rc = add(q, "HDEL", key, field_of(&gone[i], field), CPM_PL_NULL);
	}
	return rc;
}

int io_devices_put(struct io_queue *q, struct cpm_pl aor,
		const struct io_devices *known, const struct cpm_pn_device *now,
		size_t count, const struct cpm_pn_device *gone, size_t gone_count,
		uint64_t ttl_ms)
{
	struct names names;
	size_t n = 0;
	int rc = names_of(q, &names, aor);

	/* known lies in the last reply, which ioq_gather gives back */
	if(rc == CPM_OK) {
		rc = put_add(q, names.pn, known, now, count, gone, gone_count, &n);
	}
	if(rc == CPM_OK) {
		rc = add_expire(q, names.pn, ttl_ms);
	}
	return rc == CPM_OK ? ioq_gather(q, n + 1) : rc;
}

int io_devices_drop(
		struct io_queue *q, struct cpm_pl aor, const struct cpm_pn_device *d)
{
	char field[CPM_PN_FIELD_MAX];
	struct names n;
	int rc = names_of(q, &n, aor);

	if(rc == CPM_OK) {
		rc = add(q, "HDEL", n.pn, field_of(d, field), CPM_PL_NULL);
	}
	return rc == CPM_OK ? ioq_gather(q, 1) : rc;
}

int io_devices_done(
		struct io_queue *q, struct cpm_pl aor, bool done, uint64_t ttl_ms)
{
	struct names n;
	int rc = names_of(q, &n, aor);

	if(rc == CPM_OK) {
		rc = done ? add(q, "HSET", n.pn, CPM_PL_LIT(DONE), CPM_PL_LIT("1"))
				  : add(q, "HDEL", n.pn, CPM_PL_LIT(DONE), CPM_PL_NULL);
	}
	if(rc == CPM_OK) {
		rc = add_expire(q, n.pn, ttl_ms);
	}
	return rc == CPM_OK ? ioq_gather(q, 2) : rc;
}
