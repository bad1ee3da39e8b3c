/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_msrp_sess_tx.c - one MSRP session: what goes out, and time.
 */

#include "msrp_side.h"

/* ---- sending ---- */

START_TEST(one_chunk)
{
	struct side *p;

	reset_conf();
	p = begin();
	queue(p, "m001", 5, true, PLAIN);
	out(p);
	told("[SEND 1-5/5]5$");
	ck_assert(!cpm_msrp_sess_at_rest(&p->s));
	answer(p, 0, "200 OK");
	told("{done m001}");
	ck_assert(cpm_msrp_sess_at_rest(&p->s));
	side_close(p);
}
END_TEST

START_TEST(window)
{
	struct side *p;

	reset_conf();
	p = begin();
	queue(p, "m001", 9000, true, PLAIN);
	out(p);
	/* as many as there are slots for unanswered ones */
	told("[SEND 1-2048/9000]2048+[SEND 2049-4096/9000]2048+"
		 "[SEND 4097-6144/9000]2048+");
	answer(p, 1, "200");
	told("[SEND 6145-8192/9000]2048+");
	answer(p, 0, "200");
	told("[SEND 8193-9000/9000]808$");
	answer(p, 4, "200");
	answer(p, 3, "200");
	told("");
	answer(p, 2, "200");
	told("{done m001}");
	side_close(p);
}
END_TEST

START_TEST(long_chunk)
{
	struct side *p;

	reset_conf();
	conf.chunk_size = 20000;
	p = begin();
	queue(p, "m001", 30000, true, PLAIN);
	flush(p, 4000);
	ck_assert(cpm_pl_starts(
			cpm_wr_pl(&log_wr), CPM_PL_LIT("[SEND 1-*/30000]38")));
	log_wr.n = 0;
	/* an answer does not wait for the chunk's end */
	p->keeps_out = true;
	say(p, SEND("t1") RANGE("1-0/0") END("t1") "$\r\n");
	/* but for room: what is in the buffer goes first, and nothing else */
	told("");
	flush(p, SIZE_MAX);
	ck_assert_uint_eq(cpm_msrp_sess_out(&p->s).n, 0);
	p->keeps_out = false;
	say(p, "");
	ck_assert_ptr_nonnull(strstr(log_buf, "+{empty}[200 t1][SEND "));
	ck_assert_ptr_nonnull(strstr(log_buf, "-*/30000]"));
	ck_assert_uint_eq(p->tids_n, 2);
	answer(p, 0, "200");
	answer(p, 1, "200");
	ck_assert_ptr_nonnull(strstr(log_buf, "{done m001}"));
	side_close(p);
}
END_TEST

START_TEST(paused)
{
	struct side *p;

	reset_conf();
	conf.chunk_size = 20000;
	p = begin();
	queue(p, "m001", 30000, true, PLAIN);
	ck_assert(!cpm_msrp_parser_idle(&p->out) || p->tids_n == 0);
	cpm_msrp_sess_pause(&p->s);
	flush(p, cpm_msrp_sess_out(&p->s).n);
	/* what was there before ends where a frame ends */
	ck_assert(cpm_msrp_parser_idle(&p->out));
	side_close(p);
}
END_TEST

START_TEST(pulled)
{
	struct side *p;
	uint32_t h;

	reset_conf();
	p = begin();
	h = queue(p, "m001", 3000, false, PLAIN);
	told("{want 0+2048}");
	ck_assert_int_eq(
			cpm_msrp_sess_put(&p->s, h, cpm_pl(text_of, 3001), 0), CPM_EPROTO);
	ck_assert_int_eq(
			cpm_msrp_sess_put(&p->s, h + 1, cpm_pl(text_of, 1), 0), CPM_ENOENT);
	/* less than was asked for makes a shorter chunk */
	ck_assert_int_eq(cpm_msrp_sess_put(&p->s, h, cpm_pl(text_of, 100), 0), 100);
	pull(p);
	told("{want 100+2048}");
	ck_assert_int_eq(
			cpm_msrp_sess_put(&p->s, h, cpm_pl(text_of, 2900), 0), 2900);
	pull(p);
	out(p);
	told("[SEND 1-100/3000]100+[SEND 101-2148/3000]2048+"
		 "[SEND 2149-3000/3000]852$");
	answer(p, 0, "200");
	answer(p, 1, "200");
	answer(p, 2, "200");
	told("{done m001}");
	ck_assert_int_eq(
			cpm_msrp_sess_put(&p->s, h, cpm_pl(text_of, 1), 0), CPM_ENOENT);
	side_close(p);
}
END_TEST

START_TEST(in_order)
{
	struct side *p;
	uint32_t h = 0;
	struct cpm_msrp_send m = {.message_id = CPM_PL_LIT("m004"),
			.content_type = CPM_PL_LIT("text/plain"),
			.data = CPM_PL_LIT("x"),
			.size = 1};

	reset_conf();
	p = begin();
	queue(p, "m001", 10, true, PLAIN);
	queue(p, "m002", 20, true, PLAIN);
	queue(p, "m003", 30, true, PLAIN);
	ck_assert_int_eq(cpm_msrp_sess_send(&p->s, &m, 0, &h), CPM_EAGAIN);
	out(p);
	told("[SEND 1-10/10]10$[SEND 1-20/20]20$[SEND 1-30/30]30$");
	answer(p, 1, "200");
	told("{done m002}");
	m.message_id = CPM_PL_LIT("m001");
	ck_assert_int_eq(cpm_msrp_sess_send(&p->s, &m, 0, &h), CPM_EEXIST);
	m.message_id = CPM_PL_LIT("m1");
	ck_assert_int_eq(cpm_msrp_sess_send(&p->s, &m, 0, &h), CPM_EPROTO);
	m.message_id = CPM_PL_LIT("m004");
	m.content_type = CPM_PL_LIT("text/plain\r\nX: y");
	ck_assert_int_eq(cpm_msrp_sess_send(&p->s, &m, 0, &h), CPM_EPROTO);
	m.content_type = CPM_PL_LIT("text/plain");
	m.size = 0;
	ck_assert_int_eq(cpm_msrp_sess_send(&p->s, &m, 0, &h), CPM_EPROTO);
	ck_assert_uint_eq(h, 0);
	side_close(p);
}
END_TEST

START_TEST(waits_for_reports)
{
	struct side *p;

	reset_conf();
	p = begin();
	queue(p, "m001", 3000, true, (struct cpm_msrp_send){.wait_report = true});
	out(p);
	told("[SEND 1-2048/3000 success]2048+[SEND 2049-3000/3000 success]952$");
	/* a relay's 200 says nothing of the endpoint */
	answer(p, 0, "200");
	answer(p, 1, "200");
	report(p, "m001", "2049-3000/3000", "200 OK");
	report(p, "m001", "1-99999/99999", "200 OK");
	report(p, "m002", "1-3000/3000", "200 OK");
	told("");
	report(p, "m001", "1-2048/3000", "200 OK");
	told("{done m001}");
	queue(p, "m003", 10, true, (struct cpm_msrp_send){.wait_report = true});
	out(p);
	report(p, "m003", "1-10/10", "403");
	told("[SEND 1-10/10 success]10${failed 403 reported}");
	side_close(p);
}
END_TEST

START_TEST(no_answer_asked)
{
	struct side *p;

	reset_conf();
	p = begin();
	queue(p, "m001", 5000, true,
			(struct cpm_msrp_send){.failure_report = CPM_MSRP_FR_NO});
	queue(p, "m002", 10, true,
			(struct cpm_msrp_send){.failure_report = CPM_MSRP_FR_PARTIAL,
					.success_report = true});
	out(p);
	told("{done m001}{done m002}[SEND 1-2048/5000 fr=no]2048+"
		 "[SEND 2049-4096/5000 fr=no]2048+[SEND 4097-5000/5000 fr=no]904$"
		 "[SEND 1-10/10 success fr=partial]10$");
	ck_assert(cpm_msrp_sess_at_rest(&p->s));
	side_close(p);
}
END_TEST

static const struct
{
	const char *code, *want;
} refusals[] = {
		{"413 Stop", "{failed 413 refused}"},
		{"415", "{failed 415 refused}"},
		{"400", "{failed 400 refused}"},
		{"501", "{failed 501 refused}"},
		{"481", "{gone 481}{failed 481 session-gone}"},
		{"506", "{gone 506}{failed 506 session-gone}"},
};

START_TEST(refused)
{
	struct side *p;
	struct cpm_msrp_send m = {.message_id = CPM_PL_LIT("m002"),
			.content_type = CPM_PL_LIT("text/plain"),
			.data = CPM_PL_LIT("x"),
			.size = 1};
	uint32_t h;
	bool gone = strstr(refusals[_i].want, "gone") != NULL;

	reset_conf();
	p = begin();
	queue(p, "m001", 50000, true, PLAIN);
	out(p);
	log_wr.n = 0;
	answer(p, 0, refusals[_i].code);
	told(refusals[_i].want);
	ck_assert_int_eq(
			cpm_msrp_sess_send(&p->s, &m, 0, &h), gone ? CPM_EDOWN : CPM_OK);
	side_close(p);
}
END_TEST

START_TEST(refused_in_mid_chunk)
{
	struct side *p;

	reset_conf();
	conf.chunk_size = 50000;
	p = begin();
	queue(p, "m001", 50000, true, PLAIN);
	flush(p, 5000);
	log_wr.n = 0;
	p->keeps_out = true;
	answer(p, 0, "413");
	told("{failed 413 refused}");
	out(p);
	ck_assert_uint_lt(log_wr.n, 20);
	ck_assert_int_eq(log_buf[log_wr.n - 1], '#');
	ck_assert(cpm_msrp_sess_at_rest(&p->s));
	side_close(p);
}
END_TEST

START_TEST(aborted)
{
	struct side *p;
	uint32_t h;

	reset_conf();
	p = begin();
	h = queue(p, "m001", 50000, true, PLAIN);
	out(p);
	log_wr.n = 0;
	ck_assert_int_eq(cpm_msrp_sess_abort(&p->s, h, 0), CPM_OK);
	out(p);
	told("[SEND 6145-*/50000]#{failed 0 aborted}");
	ck_assert_int_eq(cpm_msrp_sess_abort(&p->s, h, 0), CPM_ENOENT);
	/* of one that was not begun the peer knows nothing */
	h = queue(p, "m002", 10, false, PLAIN);
	told("{want 0+10}");
	cpm_msrp_sess_abort(&p->s, h, 0);
	out(p);
	told("{failed 0 aborted}");
	/* and the next one is asked for */
	queue(p, "m003", 10, false, PLAIN);
	told("{want 0+10}");
	side_close(p);
}
END_TEST

START_TEST(bind)
{
	struct side *p;

	reset_conf();
	p = begin();
	ck_assert_int_eq(cpm_msrp_sess_bind(&p->s, 0), CPM_OK);
	ck_assert_int_eq(cpm_msrp_sess_bind(&p->s, 0), CPM_EAGAIN);
	out(p);
	told("[SEND 1-0/0]$");
	answer(p, 0, "200 OK");
	told("{bound 200}");
	ck_assert_int_eq(cpm_msrp_sess_bind(&p->s, 0), CPM_OK);
	out(p);
	answer(p, 1, "481");
	told("[SEND 1-0/0]${bound 481}{gone 481}");
	ck_assert_int_eq(cpm_msrp_sess_bind(&p->s, 0), CPM_EDOWN);
	side_close(p);
}
END_TEST

/* ---- time ---- */

START_TEST(no_answer)
{
	struct side *p;

	reset_conf();
	p = begin();
	queue(p, "m001", 10, true, PLAIN);
	/* the time counts from when it has left */
	ck_assert_int_eq(cpm_msrp_sess_deadline(&p->s), CPM_MSRP_NEVER);
	p->now = 5000;
	out(p);
	ck_assert_int_eq(cpm_msrp_sess_deadline(&p->s), 35000);
	cpm_msrp_sess_tick(&p->s, 34999);
	pull(p);
	told("[SEND 1-10/10]10$");
	cpm_msrp_sess_tick(&p->s, 35000);
	pull(p);
	told("{failed 408 no-answer}");
	ck_assert_int_eq(cpm_msrp_sess_deadline(&p->s), CPM_MSRP_NEVER);
	/* too late */
	answer(p, 0, "200");
	told("");
	side_close(p);
}
END_TEST

START_TEST(timers)
{
	struct side *p;

	reset_conf();
	conf.transaction_ms = 0;
	conf.message_ms = 1000;
	conf.idle_ms = 1500;
	conf.total_ms = 5000;
	p = begin();
	queue(p, "m001", 10, true, (struct cpm_msrp_send){.wait_report = true});
	out(p);
	say(p, CHUNK("t1", "in", "1-*/9", "ab", "+"));
	log_wr.n = 0;
	ck_assert_int_eq(cpm_msrp_sess_deadline(&p->s), 1000);
	cpm_msrp_sess_tick(&p->s, 1000);
	pull(p);
	told("{aborted 408 message-timeout}{failed 408 message-timeout}");
	ck_assert_int_eq(cpm_msrp_sess_deadline(&p->s), 1500);
	cpm_msrp_sess_tick(&p->s, 1500);
	pull(p);
	told("{idle}");
	ck_assert_int_eq(cpm_msrp_sess_deadline(&p->s), 5000);
	p->now = 2000;
	/* a chunk of what has timed out is not taken for a new message */
	say(p, CHUNK("t2", "in", "3-*/9", "cd", "+"));
	told("[408 t2]");
	ck_assert_int_eq(cpm_msrp_sess_deadline(&p->s), 3500);
	cpm_msrp_sess_tick(&p->s, 5000);
	pull(p);
	told("{idle}{expired}");
	ck_assert_int_eq(cpm_msrp_sess_deadline(&p->s), CPM_MSRP_NEVER);
	side_close(p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_msrp_sess_tx");

	fu_case(s, "a short message is one chunk", one_chunk);
	fu_case(s, "no more chunks are unanswered than the window has", window);
	fu_case(s, "a long chunk is interrupted for an answer", long_chunk);
	fu_case(s, "a long chunk is interrupted for another session", paused);
	fu_case(s, "a message is asked for piece by piece", pulled);
	fu_case(s, "messages go out in order, bad ones not at all", in_order);
	fu_case(s, "behind a relay only REPORTs count", waits_for_reports);
	fu_case(s, "who asks for no answer waits for none", no_answer_asked);
	fu_table(s, "an error answer ends the message, or the session", refused,
			FU_N(refusals));
	fu_case(s, "an error answer ends the chunk that is open",
			refused_in_mid_chunk);
	fu_case(s, "a message can be given up", aborted);
	fu_case(s, "an empty SEND binds the session", bind);
	fu_case(s, "a chunk without an answer fails its message", no_answer);
	fu_case(s, "messages, quiet and the session have their time", timers);
	return fu_run(s);
}
