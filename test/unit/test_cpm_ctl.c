/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_ctl.c - what delivery workers and the MSRP worker tell each other.
 */

#include "cpm_ctl.h"

#include "check_helpers.h"

#define URI "msrp://192.0.2.1:2855/key;tcp"
#define SHA1 "sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB"
#define X16 "0123456789abcdef"
#define X64 X16 X16 X16 X16

static const struct
{
	struct cpm_ctl m;
	const char *why; /* NULL: it can be said */
	int rc;
} rows[] = {
#define L(s) CPM_PL_LIT(s)
		{{.kind = CPM_CTL_PREPARE, .session = 1, .a = L(URI)}, NULL, CPM_OK},
		{{.kind = CPM_CTL_PREPARE,
				 .session = UINT64_MAX,
				 .flags = CPM_CTL_TLS,
				 .a = L(URI)},
				NULL, CPM_OK},
		{{.kind = CPM_CTL_START,
				 .session = 1,
				 .flags = 15,
				 .size = 1,
				 .a = L(URI " " URI " " URI),
				 .b = L(SHA1)},
				NULL, CPM_OK},
		{{.kind = CPM_CTL_START, .session = 1, .a = L(URI)}, NULL, CPM_OK},
		{{.kind = CPM_CTL_SEND,
				 .session = 1,
				 .handle = 1,
				 .size = 2,
				 .a = L("mess1"),
				 .b = L("text/plain;charset=utf-8"),
				 .data = L("ab")},
				NULL, CPM_OK},
		{{.kind = CPM_CTL_SEND,
				 .session = 1,
				 .handle = UINT32_MAX,
				 .size = UINT64_C(1) << 61,
				 .a = L("mess1"),
				 .b = L("a/b")},
				NULL, CPM_OK},
		{{.kind = CPM_CTL_DATA_MORE,
				 .session = 1,
				 .handle = 1,
				 .offset = 2,
				 .data = L("x")},
				NULL, CPM_OK},
		{{.kind = CPM_CTL_CLOSE, .session = 1}, NULL, CPM_OK},
		{{.kind = CPM_CTL_HELLO,
				 .session = 9,
				 .code = 1,
				 .a = L("tls:192.0.2.1:1\n[::1]:2"),
				 .b = L(SHA1)},
				NULL, CPM_OK},
		{{.kind = CPM_CTL_HELLO, .session = 9, .code = 1}, NULL, CPM_OK},
		{{.kind = CPM_CTL_UP, .session = 1}, NULL, CPM_OK},
		{{.kind = CPM_CTL_DONE, .session = 1, .handle = 1}, NULL, CPM_OK},
		{{.kind = CPM_CTL_FAILED,
				 .session = 1,
				 .handle = 1,
				 .code = 413,
				 .a = L("refused")},
				NULL, CPM_OK},
		{{.kind = CPM_CTL_DOWN, .session = 1, .a = L("peer-closed")}, NULL,
				CPM_OK},
		/* numbers */
		{{.kind = 0, .session = 1}, "bad-kind", CPM_EPROTO},
		{{.kind = 6, .session = 1}, "bad-kind", CPM_EPROTO},
		{{.kind = 255, .session = 1}, "bad-kind", CPM_EPROTO},
		{{.kind = CPM_CTL_CLOSE}, "bad-session", CPM_EPROTO},
		{{.kind = CPM_CTL_CLOSE, .session = 1, .flags = 1}, "bad-flags",
				CPM_EPROTO},
		{{.kind = CPM_CTL_START, .session = 1, .flags = 16, .a = L(URI)},
				"bad-flags", CPM_EPROTO},
		{{.kind = CPM_CTL_CLOSE, .session = 1, .handle = 1}, "bad-handle",
				CPM_EPROTO},
		{{.kind = CPM_CTL_DONE, .session = 1}, "bad-handle", CPM_EPROTO},
		{{.kind = CPM_CTL_UP, .session = 1, .code = 200}, "bad-code",
				CPM_EPROTO},
		{{.kind = CPM_CTL_DOWN, .session = 1, .code = 1000, .a = L("x")},
				"bad-code", CPM_EPROTO},
		{{.kind = CPM_CTL_HELLO, .session = 1}, "bad-code", CPM_EPROTO},
		{{.kind = CPM_CTL_UP, .session = 1, .size = 1}, "bad-size", CPM_EPROTO},
		{{.kind = CPM_CTL_SEND,
				 .session = 1,
				 .handle = 1,
				 .a = L("mess1"),
				 .b = L("a/b")},
				"bad-size", CPM_EPROTO},
		{{.kind = CPM_CTL_SEND,
				 .session = 1,
				 .handle = 1,
				 .size = (UINT64_C(1) << 61) + 1,
				 .a = L("mess1"),
				 .b = L("a/b")},
				"bad-size", CPM_EPROTO},
		{{.kind = CPM_CTL_SEND,
				 .session = 1,
				 .handle = 1,
				 .size = 1,
				 .a = L("mess1"),
				 .b = L("a/b"),
				 .data = L("ab")},
				"bad-size", CPM_EPROTO},
		{{.kind = CPM_CTL_UP, .session = 1, .offset = 1}, "bad-offset",
				CPM_EPROTO},
		{{.kind = CPM_CTL_DATA_MORE,
				 .session = 1,
				 .handle = 1,
				 .offset = UINT64_MAX,
				 .data = L("x")},
				"bad-offset", CPM_EPROTO},
		{{.kind = CPM_CTL_DATA_MORE, .session = 1, .handle = 1}, "no-data",
				CPM_EPROTO},
		/* texts */
		{{.kind = CPM_CTL_PREPARE, .session = 1}, "bad-uri", CPM_EPROTO},
		{{.kind = CPM_CTL_PREPARE,
				 .session = 1,
				 .a = L("msrp://192.0.2.1:2855;tcp")},
				"bad-uri", CPM_EPROTO},
		{{.kind = CPM_CTL_PREPARE, .session = 1, .a = L(URI " " URI)},
				"bad-uri", CPM_EPROTO},
		{{.kind = CPM_CTL_START, .session = 1}, "bad-path", CPM_EPROTO},
		{{.kind = CPM_CTL_START, .session = 1, .a = L(URI "\r\nX: y")},
				"bad-path", CPM_EPROTO},
		{{.kind = CPM_CTL_START,
				 .session = 1,
				 .a = L(URI " " URI " " URI " " URI " " URI " " URI " " URI
							" " URI " " URI)},
				"bad-path", CPM_EPROTO},
		{{.kind = CPM_CTL_START, .session = 1, .a = L(URI), .b = L("sha-1 4A")},
				"bad-fingerprint", CPM_EPROTO},
		{{.kind = CPM_CTL_SEND,
				 .session = 1,
				 .handle = 1,
				 .size = 1,
				 .a = L("no"),
				 .b = L("a/b")},
				"bad-message-id", CPM_EPROTO},
		{{.kind = CPM_CTL_SEND,
				 .session = 1,
				 .handle = 1,
				 .size = 1,
				 .a = L("mess1"),
				 .b = L("a/b\r\nX: y")},
				"bad-content-type", CPM_EPROTO},
		{{.kind = CPM_CTL_SEND,
				 .session = 1,
				 .handle = 1,
				 .size = 1,
				 .a = L("mess1")},
				"bad-content-type", CPM_EPROTO},
		{{.kind = CPM_CTL_DOWN, .session = 1}, "bad-why", CPM_EPROTO},
		{{.kind = CPM_CTL_DOWN, .session = 1, .a = L("Not a word")}, "bad-why",
				CPM_EPROTO},
		{{.kind = CPM_CTL_DOWN, .session = 1, .a = L(X64 "x")}, "bad-why",
				CPM_EPROTO},
		{{.kind = CPM_CTL_HELLO, .session = 1, .code = 1, .a = L("a b")},
				"bad-listen", CPM_EPROTO},
		{{.kind = CPM_CTL_UP, .session = 1, .a = L("x")}, "not-used",
				CPM_EPROTO},
		{{.kind = CPM_CTL_UP, .session = 1, .b = L("x")}, "not-used",
				CPM_EPROTO},
		{{.kind = CPM_CTL_UP, .session = 1, .c = L("x")}, "not-used",
				CPM_EPROTO},
		{{.kind = CPM_CTL_UP, .session = 1, .data = L("x")}, "not-used",
				CPM_EPROTO},
#undef L
};

static void same(const struct cpm_ctl *a, const struct cpm_ctl *b)
{
	ck_assert_int_eq(a->kind, b->kind);
	ck_assert_uint_eq(a->flags, b->flags);
	ck_assert_uint_eq(a->code, b->code);
	ck_assert_uint_eq(a->session, b->session);
	ck_assert_uint_eq(a->handle, b->handle);
	ck_assert_uint_eq(a->size, b->size);
	ck_assert_uint_eq(a->offset, b->offset);
	ck_pl_same(a->a, b->a);
	ck_pl_same(a->b, b->b);
	ck_pl_same(a->c, b->c);
	ck_pl_same(a->data, b->data);
}

/* Without asking whether it may be. */
static struct cpm_pl put_blindly(const struct cpm_ctl *m, char *buf, size_t cap)
{
	struct cpm_wr w;
	const struct cpm_pl *texts[] = {&m->a, &m->b, &m->c};

	cpm_wr_init(&w, buf, cap);
	cpm_wr_u8(&w, CPM_CTL_VERSION);
	cpm_wr_u8(&w, (unsigned)m->kind);
	cpm_wr_be32(&w, (uint32_t)m->flags << 16 | m->code);
	cpm_wr_be64(&w, m->session);
	cpm_wr_be32(&w, m->handle);
	cpm_wr_be64(&w, m->size);
	cpm_wr_be64(&w, m->offset);
	for(size_t i = 0; i < FU_N(texts); i++) {
		cpm_wr_u8(&w, (unsigned)(texts[i]->n >> 8));
		cpm_wr_u8(&w, (unsigned)(texts[i]->n & 255));
		cpm_wr_pl_put(&w, *texts[i]);
	}
	cpm_wr_be32(&w, (uint32_t)m->data.n);
	cpm_wr_pl_put(&w, m->data);
	ck_assert(cpm_wr_ok(&w));
	return cpm_wr_pl(&w);
}

START_TEST(row)
{
	static char buf[CPM_CTL_MAX], blind[CPM_CTL_MAX];
	const struct cpm_ctl *m = &rows[_i].m;
	struct cpm_diag diag = {NULL, 0};
	struct cpm_ctl got;
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	memset(&got, 0x5a, sizeof(got));
	struct cpm_ctl before = got;
	int rc = cpm_ctl_put(&w, m, &diag);
	struct cpm_pl raw = put_blindly(m, blind, sizeof(blind));

	ck_assert_int_eq(rc, rows[_i].rc);
	if(rc == CPM_OK) {
		ck_pl_same(cpm_wr_pl(&w), raw);
		ck_assert_int_eq(cpm_ctl_get(raw, &got, NULL), CPM_OK);
		same(m, &got);
		ck_assert(fu_pl_inside(got.a, raw) && fu_pl_inside(got.data, raw));
		return;
	}
	ck_assert_str_eq(diag.why, rows[_i].why);
	ck_assert_uint_eq(w.n, 0);
	diag.why = NULL;
	ck_assert_int_eq(cpm_ctl_get(raw, &got, &diag), rc);
	ck_assert_str_eq(diag.why, rows[_i].why);
	ck_assert_mem_eq(&got, &before, sizeof(got));
}
END_TEST

static const struct cpm_ctl full = {.kind = CPM_CTL_SEND,
		.session = 1,
		.handle = 2,
		.size = 10,
		.a = {"mess1", 5},
		.b = {"a/b", 3},
		.data = {"0123456789", 10}};

static void is_short(struct cpm_pl prefix, void *arg)
{
	size_t whole = *(const size_t *)arg;
	struct cpm_diag diag = {NULL, 0};
	struct cpm_ctl got;

	if(prefix.n == whole)
		return;
	ck_assert_int_eq(cpm_ctl_get(prefix, &got, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, "short");
}

START_TEST(cut)
{
	char buf[256];
	struct cpm_pl raw = put_blindly(&full, buf, sizeof(buf));
	struct cpm_diag diag;
	struct cpm_ctl got;

	guard_prefixes(raw, is_short, &raw.n);
	buf[raw.n] = 0;
	ck_assert_int_eq(
			cpm_ctl_get(cpm_pl(buf, raw.n + 1), &got, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, "trailing");
	buf[0] = 2;
	ck_assert_int_eq(cpm_ctl_get(raw, &got, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, "bad-version");
}
END_TEST

START_TEST(largest)
{
	static char data[CPM_CTL_DATA + 1], buf[CPM_CTL_MAX];
	struct cpm_ctl m = full, got;
	struct cpm_diag diag;
	struct cpm_wr w;

	memset(data, 'x', sizeof(data));
	m.data = cpm_pl(data, CPM_CTL_DATA);
	m.size = sizeof(data);
	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_ctl_put(&w, &m, NULL), CPM_OK);
	ck_assert_int_eq(cpm_ctl_get(cpm_wr_pl(&w), &got, NULL), CPM_OK);
	same(&m, &got);
	m.data.n++;
	ck_assert_int_eq(cpm_ctl_put(&w, &m, &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "data-too-long");
	m = full;
	m.b = cpm_pl(data, CPM_CTL_TEXT + 1);
	ck_assert_int_eq(cpm_ctl_put(&w, &m, &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "text-too-long");
	/* whatever it holds, it fits */
	ck_assert_uint_le(CPM_CTL_HEAD + 3 * (2 + CPM_CTL_TEXT) + 4 + CPM_CTL_DATA,
			CPM_CTL_MAX);
}
END_TEST

START_TEST(no_room)
{
	char buf[64];
	struct cpm_diag diag;
	struct cpm_wr w;

	cpm_wr_init(&w, buf, 20);
	cpm_wr_chr(&w, 'x');
	ck_assert_int_eq(cpm_ctl_put(&w, &full, &diag), CPM_ENOMEM);
	ck_assert_str_eq(diag.why, "no-room");
	ck_pl_eq(cpm_wr_pl(&w), "x");
}
END_TEST

static const struct
{
	const char *in;
	size_t n;
} prints[] = {
		{SHA1, 20},
		{"SHA-256 " /* 32 octets */
		 "00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:"
		 "10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F",
				32},
		{"", 0},
		{"sha-1", 0},
		{"sha-1 ", 0},
		{"md5 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B", 0},
		{"sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B", 0},
		{SHA1 ":00", 0},
		{"sha-1  4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:A",
				0},
		{"sha-1 4A-AD-B9-B1-3F-82-18-3B-54-02-12-DF-3E-5D-49-6B-19-E5-7C-AB",
				0},
		{"sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AG",
				0},
};

START_TEST(fingerprint)
{
	uint8_t octets[64];
	struct cpm_pl name;
	struct cpm_pl in = cpm_pl_str(prints[_i].in);
	char *p = guard_dup(in.p, in.n);

	ck_assert_uint_eq(
			cpm_ctl_fingerprint(cpm_pl(p, in.n), &name, octets, sizeof(octets)),
			prints[_i].n);
	if(prints[_i].n == 20) {
		ck_pl_eq(name, "sha-1");
		ck_assert_uint_eq(octets[0], 0x4a);
		ck_assert_uint_eq(octets[19], 0xab);
	}
	ck_assert_uint_eq(
			cpm_ctl_fingerprint(cpm_pl(p, in.n), &name, octets, 19), 0);
	guard_free(p, in.n);
}
END_TEST

START_TEST(names)
{
	ck_assert_str_eq(cpm_ctl_name(CPM_CTL_PREPARE), "PREPARE");
	ck_assert_str_eq(cpm_ctl_name(CPM_CTL_DATA_MORE), "DATA");
	ck_assert_str_eq(cpm_ctl_name(CPM_CTL_DOWN), "DOWN");
	ck_assert_str_eq(cpm_ctl_name((enum cpm_ctl_kind)0), "?");
	ck_assert(cpm_ctl_is_order(CPM_CTL_CLOSE));
	ck_assert(!cpm_ctl_is_order(CPM_CTL_HELLO));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_ctl");

	fu_table(s, "a message is what its kind says, on both sides", row,
			FU_N(rows));
	fu_case(s, "a datagram that is cut or too long is none", cut);
	fu_case(s, "the largest message fits into a datagram", largest);
	fu_case(s, "without room nothing is written", no_room);
	fu_table(s, "a fingerprint has the octets of its hash", fingerprint,
			FU_N(prints));
	fu_case(s, "kinds have names", names);
	return fu_run(s);
}
