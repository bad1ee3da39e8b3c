/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_msrp_sess.c - one MSRP session: what comes in, and hostile peers.
 */

#include "msrp_side.h"

/* In a trickle what went out stands behind all events: which of the two
 * comes first depends on the cut. */
static char sent_buf[65536];
static struct cpm_wr sent_wr;

static void *split_open(struct cpm_wr *log)
{
	struct side *p = side_new(log);

	cpm_wr_init(&sent_wr, sent_buf, sizeof(sent_buf));
	p->sent = &sent_wr;
	return p;
}

static void split_close(void *arg)
{
	struct side *p = arg;

	cpm_wr_pl_put(p->log, cpm_wr_pl(p->sent));
	side_close(p);
}

static const struct trickle side = {split_open, side_feed, split_close};

/* ---- receiving, however it is cut ---- */

static const struct
{
	const char *in, *want;
} scripts[] = {
		/* the empty SEND that binds */
		{SEND("t1") RANGE("1-0/0") END("t1") "$\r\n", "{empty}"
													  "[200 t1]"},
		{SEND("t1") ID("m1") END("t1") "$\r\n", "{empty}"
												"[200 t1]"},
		{SEND("t1") TYPE BODY("") END("t1") "$\r\n", "{empty}"
													 "[200 t1]"},
		/* one chunk */
		{CHUNK("t1", "m1", "1-5/5", "hello", "$"),
				"{begin m1 text/plain 5}hello{complete 5}"
				"[200 t1]"},
		{SEND("t1") ID("m1") TYPE BODY("hello") END("t1") "$\r\n",
				"{begin m1 text/plain}hello{complete 5}"
				"[200 t1]"},
		/* a total that is too long by a CRLF, as in RFC 4975, 4 */
		{CHUNK("t1", "m1", "1-7/7", "hello", "$"),
				"{begin m1 text/plain 7}hello{complete 5}"
				"[200 t1]"},
		/* chunks in order, out of order, twice, overlapping */
		{CHUNK("t1", "m1", "1-*/8", "abcd", "+")
						CHUNK("t2", "m1", "5-8/8", "efgh", "$"),
				"{begin m1 text/plain 8}abcdefgh{complete 8}"
				"[200 t1][200 t2]"},
		{CHUNK("t2", "m1", "5-8/8", "efgh", "$")
						CHUNK("t1", "m1", "1-4/8", "abcd", "+"),
				"{begin m1 text/plain 8}@4efgh@0abcd{complete 8}"
				"[200 t2][200 t1]"},
		{CHUNK("t1", "m1", "3-6/8", "cdef", "+")
						CHUNK("t2", "m1", "1-8/8", "ABCDEFGH", "$"),
				"{begin m1 text/plain 8}@2cdef@0AB@6GH{complete 8}"
				"[200 t1][200 t2]"},
		{CHUNK("t1", "m1", "1-*/*", "ab", "+") CHUNK("t2", "m1", "1-*/*", "ab",
				 "+") CHUNK("t3", "m1", "3-*/3", "c", "$"),
				"{begin m1 text/plain}abc{complete 3}"
				"[200 t1][200 t2][200 t3]"},
		/* two messages interleaved */
		{CHUNK("t1", "m1", "1-*/4", "ab", "+") CHUNK("t2", "m2", "1-2/2", "xy",
				 "$") CHUNK("t3", "m1", "3-4/4", "cd", "$"),
				"{begin m1 text/plain 4}ab{begin m2 text/plain 2}xy{complete "
				"2}cd{complete 4}"
				"[200 t1][200 t2][200 t3]"},
		/* the last chunk is empty */
		{CHUNK("t1", "m1", "1-*/*", "ab", "+") SEND("t2") ID("m1")
						RANGE("3-2/2") END("t2") "$\r\n",
				"{begin m1 text/plain}ab{complete 2}"
				"[200 t1][200 t2]"},
		/* interrupted for good */
		{CHUNK("t1", "m1", "1-*/9", "ab", "#"),
				"{begin m1 text/plain 9}ab{aborted 0 aborted-by-peer}"
				"[200 t1]"},
		{CHUNK("t1", "m1", "1-*/9", "ab", "+") SEND("t2") ID("m1")
						RANGE("3-*/9") END("t2") "#\r\n",
				"{begin m1 text/plain 9}ab{aborted 0 aborted-by-peer}"
				"[200 t1][200 t2]"},
		/* a late copy of a chunk starts nothing */
		{CHUNK("t1", "m1", "1-2/4", "ab", "+") CHUNK("t2", "m1", "3-4/4", "cd",
				 "$") CHUNK("t3", "m1", "3-4/4", "cd", "$"),
				"{begin m1 text/plain 4}abcd{complete 4}"
				"[200 t1][200 t2][200 t3]"},
		/* reports */
		{SEND("t1") ID("m1") "Success-Report: yes\r\n" RANGE("1-2/2")
						TYPE BODY("ab") END("t1") "$\r\n",
				"{begin m1 text/plain 2}ab{complete 2}"
				"[200 t1][REPORT 1-2/2 200]$"},
		{SEND("t1") ID(
				 "m1") "Success-Report: yes\r\nFailure-Report: no\r\n" TYPE
						BODY("ab") END("t1") "$\r\n",
				"{begin m1 text/plain}ab{complete 2}"
				"[REPORT 1-2/2 200]$"},
		{SEND("t1") ID("m1") "Failure-Report: partial\r\n" TYPE BODY("ab")
						END("t1") "$\r\n",
				"{begin m1 text/plain}ab{complete 2}"
				""},
		/* refused */
		{SEND("t1") ID("m1") "Content-Type: image/png\r\n" BODY("ab")
						END("t1") "$\r\n",
				"[415 t1]"},
		{SEND("t1") ID("m1") "Failure-Report: partial\r\n"
							 "Content-Type: image/png\r\n" BODY("ab")
									 END("t1") "$\r\n",
				"[415 t1]"},
		{SEND("t1") ID("m1") "Failure-Report: no\r\n"
							 "Content-Type: image/png\r\n" BODY("ab")
									 END("t1") "$\r\n",
				""},
		{SEND("t1") ID("m1") "Content-Type: Message/CPIM; x=y\r\n" BODY("ab")
						END("t1") "$\r\n",
				"{begin m1 Message/CPIM; x=y}ab{complete 2}"
				"[200 t1]"},
		{SEND("t1") ID("m1") BODY("ab") END("t1") "$\r\n", "[400 t1]"},
		{SEND("t1") TYPE BODY("ab") END("t1") "$\r\n", "[400 t1]"},
		{CHUNK("t1", "m1", "1-x/y", "ab", "$"), "[400 t1]"},
		{CHUNK("t1", "m1", "1-*/1001", "ab", "+")
						CHUNK("t2", "m1", "3-*/1001", "ab", "+"),
				"[413 t1][413 t2]"},
		{CHUNK("t1", "m1", "2305843009213693952-*/*", "ab", "+"), "[413 t1]"},

		{CHUNK("t1", "m1", "1-2/4", "ab", "+")
						CHUNK("t2", "m1", "3-4/5", "cd", "$"),
				"{begin m1 text/plain 4}ab{aborted 400 total-changed}"
				"[200 t1][400 t2]"},
		{CHUNK("t1", "m1", "3-4/*", "cd", "+")
						CHUNK("t2", "m1", "1-2/*", "ab", "$"),
				"{begin m1 text/plain}@2cd@0ab{aborted 400 beyond-total}"
				"[200 t1][400 t2]"},
		/* too many at once: SLOTS */
		{CHUNK("t1", "m1", "1-*/*", "a", "+") CHUNK("t2", "m2", "1-*/*", "b",
				 "+") CHUNK("t3", "m3", "1-*/*", "c", "+") SEND("t4") ID("m4")
						TYPE BODY("d") END("t4") "$\r\n",
				"{begin m1 text/plain}a{begin m2 text/plain}b{begin m3 "
				"text/plain}c"
				"[200 t1][200 t2][200 t3][413 t4]"},
		/* not for us */
		{"MSRP t1 SEND\r\nTo-Path: msrp://b:2/other;tcp\r\nFrom-Path: " PEER
		 "\r\n" ID("m1") TYPE BODY("ab") END("t1") "$\r\n",
				"[481 t1]"},
		{"MSRP t1 SEND\r\nTo-Path: " OWN
		 "\r\nFrom-Path: msrp://mallory:1/s;tcp\r\n" ID("m1") TYPE BODY("ab")
						END("t1") "$\r\n",
				"[481 t1]"},
		{"MSRP t1 SEND\r\nTo-Path: " OWN " msrp://c:3/u;tcp\r\nFrom-Path: " PEER
		 "\r\n" ID("m1") TYPE BODY("ab") END("t1") "$\r\n",
				"[481 t1]"},
		/* other methods */
		{"MSRP t1 NICKNAME\r\n" PATHS END("t1") "$\r\n", "[501 t1]"},
		{"MSRP t1 AUTH\r\n" PATHS END("t1") "$\r\n", "[501 t1]"},
		/* nothing answers these */
		{"MSRP t1 REPORT\r\n" PATHS ID("m1") RANGE(
				 "1-2/2") "Status: 000 200 OK\r\n" END("t1") "$\r\n",
				""},
		{"MSRP t1 200 OK\r\n" PATHS END("t1") "$\r\n", ""},
		/* no more of this connection */
		{"HELO\r\n", "!bad-start"},
};

START_TEST(script)
{
	struct cpm_pl log;

	reset_conf();
	log = trickle(&side, cpm_pl_str(scripts[_i].in));
	ck_pl_eq(log, scripts[_i].want);
	fu_free(&log);
}
END_TEST

/* How much of the good part is handed out depends on the cut. */
START_TEST(beyond)
{
	struct side *p;

	reset_conf();
	p = begin();
	say(p, CHUNK("t1", "m1", "1-2/9", "abc", "+"));
	told("[400 t1]");
	say(p, SEND("t2") ID("m2") RANGE("3-*/4") TYPE "\r\nab");
	told("{begin m2 text/plain 4}@2ab");
	say(p, "c");
	told("{aborted 400 beyond-total}[400 t2]");
	say(p, "d\r\n" END("t2") "$\r\n");
	told("");
	side_close(p);
}
END_TEST

START_TEST(too_large)
{
	struct side *p;

	reset_conf();
	conf.max_message = 10;
	p = begin();
	say(p, SEND("t1") ID("m1") RANGE("1-*/*") TYPE "\r\n0123456");
	told("{begin m1 text/plain}0123456");
	/* told at once, that the peer may stop; once, and never heard again */
	say(p, "7890");
	told("{aborted 413 too-large}[413 t1]");
	say(p, "more of it\r\n" END("t1") "+\r\n");
	told("");
	say(p, CHUNK("t2", "m1", "22-*/*", "x", "$"));
	told("[413 t2]");
	side_close(p);
}
END_TEST

START_TEST(too_many_gaps)
{
	struct side *p;
	char text[512], want[2048] = "";
	struct cpm_wr w, x;

	reset_conf();
	p = begin();
	cpm_wr_init(&x, want, sizeof(want) - 1);
	for(unsigned i = 0; i <= CPM_MSRP_RUNS; i++) {
		cpm_wr_init(&w, text, sizeof(text));
		cpm_wr_str(&w, SEND("t1") ID("m1") "Byte-Range: ");
		cpm_wr_u64(&w, i * 2 + 1);
		cpm_wr_str(&w, "-*/*\r\n" TYPE BODY("a") END("t1") "+\r\n");
		side_feed(p, cpm_wr_pl(&w));
		if(i == 0)
			cpm_wr_str(&x, "{begin m1 text/plain}a[200 t1]");
		else if(i < CPM_MSRP_RUNS) {
			put2(&x, "@", i * 2);
			cpm_wr_str(&x, "a[200 t1]");
		}
	}
	cpm_wr_str(&x, "{aborted 413 too-many-gaps}[413 t1]");
	told(want);
	side_close(p);
}
END_TEST

START_TEST(refused_by_caller)
{
	struct side *p;

	reset_conf();
	p = begin();
	p->refuse = 403;
	say(p, CHUNK("t1", "m1", "1-*/9", "ab", "+")
					CHUNK("t2", "m1", "3-*/9", "cd", "+"));
	told("{begin m1 text/plain 9}[403 t1][403 t2]");
	ck_assert_int_eq(cpm_msrp_sess_refuse(&p->s, 1, 403), CPM_ENOENT);
	ck_assert(cpm_msrp_sess_at_rest(&p->s));
	side_close(p);
}
END_TEST

START_TEST(sessmatch)
{
	struct side *p;

	reset_conf();
	conf.sessmatch = true;
	p = begin();
	say(p, "MSRP t1 SEND\r\nTo-Path: msrp://10.0.0.1:9/t;tcp\r\n"
		   "From-Path: msrp://10.0.0.2:9/z;tcp\r\n" ID("m1") TYPE BODY("ab")
					END("t1") "$\r\n");
	told("{begin m1 text/plain}ab{complete 2}[200 t1]");
	say(p, "MSRP t2 SEND\r\nTo-Path: msrp://b:2/T;tcp\r\n"
		   "From-Path: " PEER "\r\n" END("t2") "$\r\n");
	told("[481 t2]");
	side_close(p);
}
END_TEST

/* ---- two sessions, one connection ---- */

#define OTHER "msrp://b:2/u;tcp"
#define TO_OTHER(tid) \
	"MSRP " tid " SEND\r\nTo-Path: " OTHER "\r\nFrom-Path: " PEER "\r\n"

/* What goes to nobody is answered by whoever has the connection. */
static void share_out(struct side *a, struct side *b, const char *text)
{
	struct cpm_msrp_item item;
	struct cpm_pl in = cpm_pl_str(text);
	struct side *to = NULL;

	for(;;) {
		ptrdiff_t n = cpm_msrp_parser_next(&a->in, in, &item);
		struct cpm_pl session;

		ck_assert_int_ge(n, 0);
		in = cpm_pl_from(in, (size_t)n);
		if(item.kind == CPM_MSRP_NOTHING)
			return;
		if(item.kind == CPM_MSRP_HEAD) {
			session = cpm_msrp_head_session(&a->in.head);
			to = cpm_pl_eq(session, a->s.own.session_id)   ? a
				 : cpm_pl_eq(session, b->s.own.session_id) ? b
														   : NULL;
		}
		if(!to) {
			cpm_wr_str(a->log, item.kind == CPM_MSRP_TAIL ? "(481)" : "");
			continue;
		}
		ck_assert_int_eq(
				cpm_msrp_sess_item(&to->s, &a->in.head, &item, 0), CPM_OK);
		cpm_wr_str(to->log, to == a ? "A" : "B");
		pull(to);
		flush(to, SIZE_MAX);
	}
}

START_TEST(shared_connection)
{
	static const uint8_t seed[16] = {1};
	struct side *a, *b;
	struct cpm_msrp_mem mem;

	reset_conf();
	a = begin();
	b = side_new(a->log);
	mem = b->s.mem;
	ck_assert_int_eq(cpm_msrp_sess_init(&b->s, &conf, &mem, CPM_PL_LIT(OTHER),
							 CPM_PL_LIT(PEER), seed, 0),
			CPM_OK);
	share_out(a, b,
			CHUNK("t1", "m1", "1-*/4", "ab", "+") TO_OTHER("t2") ID("m1")
					TYPE BODY("xyz") END("t2") "$\r\n");
	told("AA{begin m1 text/plain 4}abA[200 t1]"
		 "BB{begin m1 text/plain}xyzB{complete 3}[200 t2]");
	share_out(a, b, CHUNK("t3", "m1", "3-4/4", "cd", "$"));
	told("AAcdA{complete 4}[200 t3]");
	share_out(a, b,
			"MSRP t4 SEND\r\nTo-Path: msrp://b:2/v;tcp\r\nFrom-Path: " PEER
			"\r\n" END("t4") "$\r\n");
	told("(481)");
	side_close(b);
	side_close(a);
}
END_TEST

/* ---- back pressure ---- */

START_TEST(no_room_for_answers)
{
	struct side *p;
	int taken = 0;

	reset_conf();
	p = begin();
	p->keeps_out = true;
	/* what is not taken is not lost: it waits with the caller */
	while(taken < 1000) {
		char text[] = SEND("t1") RANGE("1-0/0") END("t1") "$\r\n";
		ptrdiff_t n = cpm_msrp_sess_recv(
				&p->s, &p->in, cpm_pl(text, sizeof(text) - 1), p->now);

		ck_assert_int_ge(n, 0);
		pull(p);
		if(n == 0)
			break;
		taken++;
	}
	ck_assert_int_gt(taken, 50);
	ck_assert_int_lt(taken, 1000);
	ck_assert_uint_le(cpm_msrp_sess_out(&p->s).n, OUT_CAP);
	/* a tail has been read whose answer found no room */
	log_wr.n = 0;
	p->keeps_out = false;
	flush(p, SIZE_MAX);
	log_wr.n = 0;
	say(p, "");
	told("{empty}[200 t1]");
	say(p, SEND("t2") RANGE("1-0/0") END("t2") "$\r\n");
	told("{empty}[200 t2]");
	side_close(p);
}
END_TEST

/* The longest answer there is fits into the smallest output buffer. */
START_TEST(longest_answer)
{
	static char uri[CPM_MSRP_URI_MAX + 1], from[CPM_MSRP_LINE_MAX],
			in[CPM_MSRP_HEAD_BUF];
	struct cpm_wr w, f;
	struct side *p;

	reset_conf();
	conf.sessmatch = true;
	conf.chunk_size = 1;
	p = begin();
	cpm_wr_init(&w, uri, sizeof(uri));
	cpm_wr_str(&w, "msrp://");
	while(w.n < CPM_MSRP_URI_MAX - 6)
		cpm_wr_chr(&w, 'h');
	cpm_wr_str(&w, "/t;tcp");
	cpm_wr_init(&f, from, sizeof(from) - 15);
	while(f.n + w.n + 1 < f.cap) {
		cpm_wr_pl_put(&f, cpm_wr_pl(&w));
		cpm_wr_chr(&f, ' ');
	}
	cpm_wr_str(&f, "msrp://");
	while(f.n + 6 < f.cap)
		cpm_wr_chr(&f, 'h');
	cpm_wr_str(&f, "/t;tcp");
	cpm_wr_init(&w, in, sizeof(in));
	cpm_wr_str(&w, "MSRP ");
	for(int i = 0; i < CPM_MSRP_ID_MAX; i++)
		cpm_wr_chr(&w, 't');
	cpm_wr_str(&w, " SEND\r\nTo-Path: ");
	cpm_wr_pl_put(&w, cpm_pl(uri, CPM_MSRP_URI_MAX));
	cpm_wr_str(&w, "\r\nFrom-Path: ");
	cpm_wr_pl_put(&w, cpm_wr_pl(&f));
	cpm_wr_str(&w, "\r\nSuccess-Report: yes\r\nMessage-ID: ");
	for(int i = 0; i < CPM_MSRP_ID_MAX; i++)
		cpm_wr_chr(&w, 'm');
	cpm_wr_str(&w, "\r\n" TYPE "\r\nab\r\n-------");
	for(int i = 0; i < CPM_MSRP_ID_MAX; i++)
		cpm_wr_chr(&w, 't');
	cpm_wr_str(&w, "$\r\n");
	ck_assert(cpm_wr_ok(&w));
	p->keeps_out = true;
	side_feed(p, cpm_wr_pl(&w));
	ck_assert_ptr_nonnull(strstr(log_buf, "{complete 2}"));
	ck_assert_uint_gt(cpm_msrp_sess_out(&p->s).n, 3000);
	ck_assert_uint_le(cpm_msrp_sess_out(&p->s).n, CPM_MSRP_OUT_MIN);
	side_close(p);
}
END_TEST

/* ---- the end, and the hostile ---- */

START_TEST(connection_lost)
{
	struct side *p;

	reset_conf();
	p = begin();
	queue(p, "m001", 5000, true, PLAIN);
	out(p);
	say(p, CHUNK("t1", "m1", "1-*/9", "ab", "+"));
	log_wr.n = 0;
	cpm_msrp_sess_close(&p->s);
	pull(p);
	told("{aborted 0 closed}{failed 0 closed}");
	ck_assert(cpm_msrp_sess_at_rest(&p->s));
	side_close(p);
}
END_TEST

START_TEST(strays)
{
	struct side *p;

	reset_conf();
	p = begin();
	for(int i = 0; i < CPM_MSRP_STRAYS; i++) {
		if(i % 2)
			report(p, "what", "1-2/2", "200 OK");
		else
			say(p, "MSRP nobody 200 OK\r\n" PATHS "-------nobody$\r\n");
		ck_assert_int_eq(p->rc, CPM_OK);
	}
	told("");
	report(p, "what", "1-2/2", "200 OK");
	told("!too-many-strays");
	ck_assert_int_eq(p->rc, CPM_ELIMIT);
	side_close(p);
}
END_TEST

START_TEST(bad_init)
{
	static const uint8_t seed[16];
	static char buf[CPM_MSRP_OUT_MIN];
	struct cpm_msrp_tx tx[1];
	struct cpm_msrp_trans win[1];
	struct cpm_msrp_rx rx[1];
	struct cpm_msrp_mem mem = {buf, sizeof(buf), tx, win, rx, 1, 1, 1};
	struct cpm_msrp_sess s;

	reset_conf();
#define init(own, peer) \
	cpm_msrp_sess_init( \
			&s, &conf, &mem, CPM_PL_LIT(own), CPM_PL_LIT(peer), seed, 0)
	ck_assert_int_eq(init(OWN, PEER), CPM_OK);
	ck_assert_int_eq(init("msrp://h;tcp", PEER), CPM_EPROTO);
	ck_assert_str_eq(s.diag.why, "bad-own-uri");
	ck_assert_int_eq(init(OWN, "sip:x"), CPM_EPROTO);
	ck_assert_str_eq(s.diag.why, "bad-peer-path");
	mem.out_cap--;
	ck_assert_int_eq(init(OWN, PEER), CPM_ENOMEM);
	ck_assert_str_eq(s.diag.why, "out-too-small");
	mem.out_cap++;
	mem.rx_n = 0;
	ck_assert_int_eq(init(OWN, PEER), CPM_ENOMEM);
	ck_assert_str_eq(s.diag.why, "no-slots");
#undef init
}
END_TEST

START_TEST(small)
{
	ck_assert_uint_le(sizeof(struct cpm_msrp_sess), 4096);
	ck_assert_uint_le(sizeof(struct cpm_msrp_tx), 512);
	ck_assert_uint_le(sizeof(struct cpm_msrp_rx), 512);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_msrp_sess");

	fu_table(s, "what comes in is heard and answered however it is cut", script,
			FU_N(scripts));
	fu_case(s, "a chunk cannot be longer than it says", beyond);
	fu_case(s, "a message that grows too large is stopped at once", too_large);
	fu_case(s, "a message in too many pieces is stopped", too_many_gaps);
	fu_case(s, "the caller can refuse a message", refused_by_caller);
	fu_case(s, "behind a middle box the session id decides", sessmatch);
	fu_case(s, "sessions that share a connection are told apart",
			shared_connection);
	fu_case(s, "without room for answers nothing more is taken",
			no_room_for_answers);
	fu_case(s, "the longest answer fits the smallest buffer", longest_answer);
	fu_case(s, "a lost connection ends every message", connection_lost);
	fu_case(s, "a flood of reports and responses ends the connection", strays);
	fu_case(s, "a session is not made of bad parts", bad_init);
	fu_case(s, "ten thousand sessions have room", small);
	return fu_run(s);
}
