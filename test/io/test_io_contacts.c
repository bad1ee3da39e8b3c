/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_contacts.c - contacts of other registrars in Redis, and the life of
 * a subscription to them.
 */

#include "queue_helper.h"

#include "io_contacts.h"

#define MINUTE_MS UINT64_C(60000)
#define FIRST_MS 1000
#define WAIT_MS 40000
#define LINGER_MS 300000

static struct io_contacts_order order;
static struct io_contacts_change change;
static struct io_contacts_wanted wanted;
static struct io_contact contacts[CPM_REG_USER_CONTACTS];
static size_t contacts_n;
/* The dialog that the last order made: slices are lent only until a call. */
static char call_id[64], tag[64];

static void start(void)
{
	begin();
	io_queue_set_now(q, T0);
}

static void at(uint64_t ms)
{
	io_queue_set_now(q, T0 + ms);
}

static int take_as(const char *id)
{
	struct io_contacts_take t = {BOB, WAIT_MS, LINGER_MS, FIRST_MS,
			cpm_pl_str(id), cpm_pl_str("cpmr-1")};
	int rc = io_contacts_take(q, &t, &order);

	if(rc == CPM_OK) {
		cpm_pl_cstr(order.call_id, call_id, sizeof(call_id));
		cpm_pl_cstr(order.local_tag, tag, sizeof(tag));
	}
	return rc;
}

static int answer(unsigned code, uint32_t cseq, uint32_t retry_after_s)
{
	return io_contacts_answer(q, BOB, cpm_pl_str(call_id), cseq,
			cpm_reg_answer(code, cseq > 1, retry_after_s), FIRST_MS);
}

static void wish(bool new)
{
	ck_assert_int_eq(io_contacts_want(q, BOB, 0, true, &wanted), CPM_OK);
	ck_assert_int_eq(
			(int)wanted.sub, new ? IO_CONTACTS_NEW : IO_CONTACTS_THERE);
}

/* Somebody with something queued, subscribed for. */
static void subscribed(void)
{
	start();
	ck_assert_int_eq(put("m1", "x"), CPM_OK);
	wish(true);
	ck_assert(wanted.queued);
	ck_assert_int_eq(take_as("first"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_SUBSCRIBE);
	ck_pl_eq(order.call_id, "first");
	ck_assert_uint_eq(order.remote_tag.n, 0);
	ck_assert_uint_eq(order.cseq, 1);
}

static struct cpm_reg_contact one(const char *uri, uint32_t expires_s)
{
	return (struct cpm_reg_contact){.state = CPM_REG_ACTIVE,
			.event = CPM_REG_EV_REGISTERED,
			.has_expires = true,
			.expires_s = expires_s,
			.q = -1,
			.uri = cpm_pl_str(uri),
			.call_id = CPM_PL_LIT("id"),
			.cseq = 1};
}

static int notify_with(uint32_t cseq, const char *state, int64_t version,
		bool full, const struct cpm_reg_contact *list, size_t n)
{
	const struct cpm_reg_contact *p[CPM_REG_USER_CONTACTS + 4];
	struct io_contacts_doc doc = {.version = (uint32_t)version,
			.full = full,
			.contacts = p,
			.count = n,
			.default_ms = MINUTE_MS};
	struct io_contacts_notify notify = {.aor = BOB,
			.call_id = cpm_pl_str(call_id),
			.local_tag = cpm_pl_str(tag),
			.remote_tag = LIT("their"),
			.cseq = cseq,
			.target = LIT("sip:registrar"),
			.routes = LIT("<sip:r;lr>"),
			.doc = version < 0 ? NULL : &doc,
			.linger_ms = LINGER_MS,
			.first_ms = FIRST_MS};

	for(size_t i = 0; i < n; i++) {
		p[i] = &list[i];
	}
	ck_assert_int_eq(
			cpm_reg_substate_parse(cpm_pl_str(state), &notify.state), CPM_OK);
	return io_contacts_notify(q, &notify, &change);
}

static int notify(uint32_t cseq, int64_t version, bool full, const char *uri)
{
	struct cpm_reg_contact c = one(uri != NULL ? uri : "sip:x", 600);

	return notify_with(cseq, "active;expires=3600", version, full, &c,
			uri != NULL ? 1 : 0);
}

#define ck_change(created_, refreshed_, removed_)          \
	do {                                                   \
		ck_assert_uint_eq(change.created, (created_));     \
		ck_assert_uint_eq(change.refreshed, (refreshed_)); \
		ck_assert_uint_eq(change.removed, (removed_));     \
	} while(0)

static size_t known(void)
{
	ck_assert_int_eq(io_contacts_get(q, BOB, contacts, &contacts_n), CPM_OK);
	return contacts_n;
}

static size_t due(uint64_t *all, uint64_t *next)
{
	unsigned shard = cpm_queue_shard(BOB);
	struct cpm_pl users[IO_CONTACTS_DUE_MAX];
	size_t n = 0;

	ck_assert_int_eq(
			io_contacts_due(q, &shard, 1, WAIT_MS, 8, users, &n, next, all),
			CPM_OK);
	return n;
}

/* ---- contacts ---- */

START_TEST(full_replaces)
{
	subscribed();
	ck_assert_int_eq(notify(5, 0, true, "sip:a"), CPM_OK);
	ck_change(1, 0, 0);
	ck_assert(change.queued);
	ck_assert_uint_eq(known(), 1);
	ck_pl_eq(contacts[0].c.uri, "sip:a");
	ck_assert_uint_eq(contacts[0].left_ms, 600000);
	ck_assert_int_eq(notify(6, 1, true, "sip:b"), CPM_OK);
	ck_change(1, 0, 1);
	ck_assert_uint_eq(known(), 1);
	ck_pl_eq(contacts[0].c.uri, "sip:b");
	ck_assert_int_eq(notify(7, 2, true, NULL), CPM_OK);
	ck_change(0, 0, 1);
	ck_assert_uint_eq(known(), 0);
	end();
}
END_TEST

START_TEST(partial_adds)
{
	struct cpm_reg_contact gone = one("sip:a", 0);

	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	ck_assert_int_eq(notify(2, 1, false, "sip:b"), CPM_OK);
	ck_change(1, 0, 0);
	ck_assert_uint_eq(known(), 2);
	gone.state = CPM_REG_TERMINATED;
	ck_assert_int_eq(
			notify_with(3, "active;expires=60", 2, false, &gone, 1), CPM_OK);
	ck_change(0, 0, 1);
	ck_assert_uint_eq(known(), 1);
	ck_pl_eq(contacts[0].c.uri, "sip:b");
	end();
}
END_TEST

START_TEST(same_is_no_news)
{
	struct cpm_reg_contact c = one("sip:a", 600);

	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	at(2000);
	c.expires_s = 598;
	ck_assert_int_eq(
			notify_with(2, "active;expires=60", 0, true, &c, 1), CPM_OK);
	ck_change(0, 0, 0);
	/* registered again: the same event, another REGISTER */
	c.cseq = 2;
	ck_assert_int_eq(
			notify_with(3, "active;expires=60", 0, true, &c, 1), CPM_OK);
	ck_change(1, 0, 0);
	c.cseq = 3;
	c.event = CPM_REG_EV_REFRESHED;
	ck_assert_int_eq(
			notify_with(4, "active;expires=60", 0, true, &c, 1), CPM_OK);
	ck_change(0, 1, 0);
	c.expires_s = 700;
	ck_assert_int_eq(
			notify_with(5, "active;expires=60", 0, true, &c, 1), CPM_OK);
	ck_change(0, 1, 0);
	end();
}
END_TEST

START_TEST(time_is_over)
{
	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	at(599999);
	ck_assert_uint_eq(known(), 1);
	at(600000);
	ck_assert_uint_eq(known(), 0);
	ck_assert_int_eq(io_contacts_want(q, BOB, 0, true, &wanted), CPM_OK);
	ck_assert_uint_eq(wanted.contacts, 0);
	/* it is a new one then */
	ck_assert_int_eq(notify(2, 1, false, "sip:a"), CPM_OK);
	ck_change(1, 0, 0);
	end();
}
END_TEST

START_TEST(no_expires)
{
	struct cpm_reg_contact c = one("sip:a", 0);

	subscribed();
	c.has_expires = false;
	ck_assert_int_eq(
			notify_with(1, "active;expires=60", 0, true, &c, 1), CPM_OK);
	ck_assert_uint_eq(known(), 1);
	ck_assert_uint_eq(contacts[0].left_ms, MINUTE_MS);
	end();
}
END_TEST

START_TEST(bounded)
{
	struct cpm_reg_contact c[CPM_REG_USER_CONTACTS + 4];
	char uris[CPM_REG_USER_CONTACTS + 4][24];
	size_t i;

	subscribed();
	for(i = 0; i < CPM_REG_USER_CONTACTS + 4; i++) {
		snprintf(uris[i], sizeof(uris[i]), "sip:%zu", i);
		c[i] = one(uris[i], (uint32_t)(600 + i));
	}
	ck_assert_int_eq(notify_with(1, "active;expires=60", 0, true, c,
							 CPM_REG_USER_CONTACTS + 4),
			CPM_OK);
	ck_assert_uint_eq(known(), CPM_REG_USER_CONTACTS);
	/* more in part: those that end first go */
	ck_assert_int_eq(notify_with(2, "active;expires=60", 1, false,
							 c + CPM_REG_USER_CONTACTS, 4),
			CPM_OK);
	ck_assert_uint_eq(known(), CPM_REG_USER_CONTACTS);
	for(i = 0; i < contacts_n; i++) {
		ck_assert_uint_ge(contacts[i].left_ms, 604000);
	}
	end();
}
END_TEST

/* ---- order ---- */

START_TEST(in_order)
{
	subscribed();
	ck_assert_int_eq(notify(5, 3, true, "sip:a"), CPM_OK);
	/* reordered */
	ck_assert_int_eq(notify(4, 2, true, NULL), CPM_EEXIST);
	/* replayed */
	ck_assert_int_eq(notify(5, 3, true, NULL), CPM_OK);
	ck_assert(change.stale);
	/* an old document in a new request */
	ck_assert_int_eq(notify(6, 3, true, NULL), CPM_OK);
	ck_assert(change.stale);
	ck_assert_int_eq(notify(7, 2, false, "sip:b"), CPM_OK);
	ck_assert(change.stale);
	ck_assert_uint_eq(known(), 1);
	ck_pl_eq(contacts[0].c.uri, "sip:a");
	/* who does not count is believed by the order of requests */
	ck_assert_int_eq(notify(8, 0, true, NULL), CPM_OK);
	ck_assert(!change.stale);
	ck_assert_uint_eq(known(), 0);
	end();
}
END_TEST

START_TEST(gap)
{
	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	at(1);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	ck_assert_int_eq(notify(2, 1, false, "sip:b"), CPM_OK);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	ck_assert_int_eq(notify(3, 3, false, "sip:c"), CPM_OK);
	ck_assert_uint_eq(known(), 3);
	ck_assert_int_eq(take_as("x"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_REFRESH);
	ck_pl_eq(order.call_id, "first");
	ck_pl_eq(order.remote_tag, "their");
	ck_pl_eq(order.target, "sip:registrar");
	ck_pl_eq(order.routes, "<sip:r;lr>");
	ck_assert_uint_eq(order.cseq, 2);
	end();
}
END_TEST

START_TEST(stranger)
{
	subscribed();
	snprintf(tag, sizeof(tag), "cpmr-2");
	ck_assert_int_eq(notify(1, 0, true, "sip:evil"), CPM_ENOENT);
	snprintf(tag, sizeof(tag), "cpmr-1");
	snprintf(call_id, sizeof(call_id), "other");
	ck_assert_int_eq(notify(1, 0, true, "sip:evil"), CPM_ENOENT);
	snprintf(call_id, sizeof(call_id), "-");
	ck_assert_int_eq(notify(1, 0, true, "sip:evil"), CPM_ENOENT);
	ck_assert_uint_eq(known(), 0);
	end();
}
END_TEST

/* ---- the subscription ---- */

START_TEST(not_wanted)
{
	uint64_t all, next;

	start();
	ck_assert_int_eq(io_contacts_want(q, BOB, 0, true, &wanted), CPM_OK);
	ck_assert_int_eq((int)wanted.sub, IO_CONTACTS_NONE);
	ck_assert(!wanted.queued);
	ck_assert_int_eq(put("m1", "x"), CPM_OK);
	ck_assert_int_eq(io_contacts_want(q, BOB, 0, false, &wanted), CPM_OK);
	ck_assert_int_eq((int)wanted.sub, IO_CONTACTS_NO_MORE);
	ck_assert_uint_eq(due(&all, &next), 0);
	ck_assert_uint_eq(all, 0);
	ck_assert(next == UINT64_MAX);
	end();
}
END_TEST

START_TEST(one_order_each)
{
	uint64_t all, next;

	start();
	ck_assert_int_eq(put("m1", "x"), CPM_OK);
	wish(true);
	wish(false);
	ck_assert_uint_eq(due(&all, &next), 1);
	ck_assert_uint_eq(all, 1);
	ck_assert_uint_eq(due(&all, &next), 0);
	ck_assert_int_eq(take_as("first"), CPM_OK);
	ck_assert_int_eq(take_as("second"), CPM_ENOENT);
	end();
}
END_TEST

START_TEST(no_notify)
{
	subscribed();
	ck_assert_int_eq(answer(200, 1, 0), CPM_OK);
	at(WAIT_MS);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	at(WAIT_MS + FIRST_MS);
	ck_assert_int_eq(take_as("second"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_SUBSCRIBE);
	ck_pl_eq(order.call_id, "second");
	/* what the first one's notifier says comes too late */
	snprintf(call_id, sizeof(call_id), "first");
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_ENOENT);
	end();
}
END_TEST

START_TEST(refreshed)
{
	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	/* ten minutes before it ends; LINGER_MS apart it is looked at */
	at(2999999);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	at(3000000);
	ck_assert_int_eq(take_as("x"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_REFRESH);
	ck_assert_uint_eq(order.cseq, 2);
	ck_assert_int_eq(answer(200, 2, 0), CPM_OK);
	ck_assert_int_eq(notify(2, 1, true, "sip:a"), CPM_OK);
	at(3000000 + WAIT_MS);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	/* a short one: at half its time */
	ck_assert_int_eq(
			notify_with(3, "active;expires=100", -1, false, NULL, 0), CPM_OK);
	at(3000000 + WAIT_MS + 50000);
	ck_assert_int_eq(take_as("x"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_REFRESH);
	end();
}
END_TEST

START_TEST(refresh_fails)
{
	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	at(3000000);
	ck_assert_int_eq(take_as("x"), CPM_OK);
	/* 503: it is still what it was, and tried again */
	ck_assert_int_eq(answer(503, 2, 7), CPM_OK);
	at(3006999);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	at(3007000);
	ck_assert_int_eq(take_as("x"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_REFRESH);
	ck_assert_uint_eq(order.cseq, 3);
	/* an answer that comes too late for its request */
	ck_assert_int_eq(answer(481, 2, 0), CPM_ENOENT);
	ck_assert_int_eq(answer(481, 3, 0), CPM_OK);
	at(3007001 + 4 * FIRST_MS);
	ck_assert_int_eq(take_as("second"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_SUBSCRIBE);
	end();
}
END_TEST

START_TEST(backoff)
{
	uint64_t now = 0, wait = FIRST_MS;
	char id[16];

	subscribed();
	for(int i = 0; i < 14; i++) {
		ck_assert_int_eq(answer(503, 1, 0), CPM_OK);
		at(now + wait - 1);
		ck_assert_int_eq(take_as("x"), CPM_ENOENT);
		now += wait;
		at(now);
		snprintf(id, sizeof(id), "id%d", i);
		ck_assert_int_eq(take_as(id), CPM_OK);
		wait = wait * 2 > 3600000 ? 3600000 : wait * 2;
	}
	end();
}
END_TEST

START_TEST(rests)
{
	subscribed();
	ck_assert_int_eq(answer(489, 1, 0), CPM_OK);
	wish(false);
	at(3599999);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	at(3600000);
	ck_assert_int_eq(take_as("second"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_SUBSCRIBE);
	end();
}
END_TEST

START_TEST(terminated)
{
	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	ck_assert_int_eq(
			notify_with(2, "terminated;reason=deactivated", -1, false, NULL, 0),
			CPM_OK);
	ck_assert_int_eq(take_as("second"), CPM_OK);
	ck_pl_eq(order.call_id, "second");
	ck_assert_uint_eq(known(), 1);
	ck_assert_int_eq(notify_with(1, "terminated;reason=probation;retry-after=9",
							 -1, false, NULL, 0),
			CPM_OK);
	at(8999);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	at(9000);
	ck_assert_int_eq(take_as("third"), CPM_OK);
	ck_assert_int_eq(
			notify_with(1, "terminated;reason=rejected", -1, false, NULL, 0),
			CPM_OK);
	at(9000 + 3599999);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	end();
}
END_TEST

START_TEST(lingers)
{
	uint64_t all, next;

	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	ck_leased("t", "m1", 1);
	ck_assert_int_eq(delivered("t", "m1"), CPM_OK);
	at(LINGER_MS);
	ck_assert_uint_eq(due(&all, &next), 1);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	/* empty for as long as it lingers */
	at(2 * LINGER_MS);
	ck_assert_int_eq(take_as("x"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_UNSUBSCRIBE);
	ck_assert_int_eq(answer(200, 2, 0), CPM_OK);
	ck_assert_int_eq(
			notify_with(2, "terminated;reason=timeout", 1, true, NULL, 0),
			CPM_OK);
	ck_assert_uint_eq(due(&all, &next), 0);
	ck_assert_uint_eq(all, 0);
	end();
}
END_TEST

START_TEST(kept)
{
	start();
	/* named by the registrar: with nothing queued as well */
	ck_assert_int_eq(
			io_contacts_want(q, BOB, 10 * MINUTE_MS, true, &wanted), CPM_OK);
	ck_assert_int_eq((int)wanted.sub, IO_CONTACTS_NEW);
	ck_assert_int_eq(take_as("first"), CPM_OK);
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	ck_assert(!change.queued);
	at(5 * MINUTE_MS);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	at(11 * MINUTE_MS);
	ck_assert_int_eq(take_as("x"), CPM_ENOENT);
	at(16 * MINUTE_MS);
	ck_assert_int_eq(take_as("x"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_UNSUBSCRIBE);
	/* wanted again in the middle of that */
	ck_assert_int_eq(put("m1", "x"), CPM_OK);
	wish(true);
	ck_assert_int_eq(take_as("second"), CPM_OK);
	ck_assert_int_eq((int)order.op, IO_CONTACTS_SUBSCRIBE);
	end();
}
END_TEST

START_TEST(forgotten)
{
	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	ck_assert_int_eq(io_contacts_forget(q, BOB, &change), CPM_OK);
	ck_change(0, 0, 1);
	ck_assert(change.queued);
	ck_assert_uint_eq(known(), 0);
	/* and told again it is new */
	ck_assert_int_eq(notify(2, 1, true, "sip:a"), CPM_OK);
	ck_change(1, 0, 0);
	end();
}
END_TEST

/* ---- somebody else's ---- */

START_TEST(foreign)
{
	struct cpm_reg_contact c = one("sip:a", 600);
	const struct cpm_reg_contact *p = &c;
	struct io_contacts_doc doc = {
			.version = 4, .full = true, .contacts = &p, .count = 1};
	struct io_contacts_source source = {17, 5};

	start();
	ck_assert_int_eq(io_contacts_apply(q, BOB, &source, &doc, &change), CPM_OK);
	ck_change(1, 0, 0);
	ck_assert(!change.queued && !change.stale);
	doc.count = 0;
	ck_assert_int_eq(io_contacts_apply(q, BOB, &source, &doc, &change), CPM_OK);
	ck_assert(change.stale);
	source.cseq = 6;
	ck_assert_int_eq(io_contacts_apply(q, BOB, &source, &doc, &change), CPM_OK);
	ck_assert(change.stale);
	ck_assert_uint_eq(known(), 1);
	doc.version = 5;
	source.cseq = 7;
	ck_assert_int_eq(io_contacts_apply(q, BOB, &source, &doc, &change), CPM_OK);
	ck_change(0, 0, 1);
	/* another one begins anew */
	source = (struct io_contacts_source){18, 1};
	doc.version = 0;
	doc.count = 1;
	ck_assert_int_eq(io_contacts_apply(q, BOB, &source, &doc, &change), CPM_OK);
	ck_change(1, 0, 0);
	/* whose order has been looked at */
	doc.count = 0;
	ck_assert_int_eq(io_contacts_apply(q, BOB, NULL, &doc, &change), CPM_OK);
	ck_change(0, 0, 1);
	end();
}
END_TEST

START_TEST(nothing_lies_for_ever)
{
	subscribed();
	ck_assert_int_eq(notify(1, 0, true, "sip:a"), CPM_OK);
	ck_assert_int_gt(integer(qask("PTTL %s:{48}:c:" BOBS, "t")), 0);
	end();
}
END_TEST

START_TEST(address_bound)
{
	char aor[CPM_AOR_MAX + 1];

	start();
	memset(aor, 'x', sizeof(aor));
	ck_assert_int_eq(
			io_contacts_get(q, cpm_pl(aor, sizeof(aor)), contacts, &contacts_n),
			CPM_EPROTO);
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_contacts");

	fu_case(s, "a full document replaces what is known", full_replaces);
	fu_case(s, "a partial one changes what it lists", partial_adds);
	fu_case(s, "the same told again is no news", same_is_no_news);
	fu_case(s, "a contact whose time is over is forgotten", time_is_over);
	fu_case(s, "one without a time has ours", no_expires);
	fu_case(s, "a user has no more than so many", bounded);
	fu_case(s, "what is older changes nothing", in_order);
	fu_case(s, "a gap asks for the full state", gap);
	fu_case(s, "a stranger's dialog is none", stranger);
	fu_case(s, "without a queue nobody is subscribed for", not_wanted);
	fu_case(s, "one sends what is to be sent", one_order_each);
	fu_case(s, "a subscription without NOTIFY is none", no_notify);
	fu_case(s, "it is refreshed before it ends", refreshed);
	fu_case(s, "a refresh that fails is not the end", refresh_fails);
	fu_case(s, "who refuses is asked less and less often", backoff);
	fu_case(s, "who refuses for good is left alone", rests);
	fu_case(s, "the notifier ends it, for its reasons", terminated);
	fu_case(s, "with an empty queue it ends after a while", lingers);
	fu_case(s, "named by the registrar it is kept", kept);
	fu_case(s, "who deregisters is forgotten", forgotten);
	fu_case(s, "what others have subscribed for", foreign);
	fu_case(s, "nothing lies for ever", nothing_lies_for_ever);
	fu_case(s, "an address is bounded", address_bound);
	return fu_run(s);
}
