/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_msg.c - a message as it is queued: codec, headers, fingerprint.
 *
 * msg-v1-*.hex are blobs as version 1 writes them. They are in queues: when
 * a case on them fails, the code is wrong, never the file.
 */

#include "check_helpers.h"
#include "cpm_aor.h"
#include "cpm_cpim.h"
#include "cpm_msg.h"

#define FULL_BODY "Hello \0\xff"

static char big[CPM_MSG_BODY_MAX + 1];
static char out[CPM_MSG_BODY_MAX + 100000];

static struct cpm_msg full(void)
{
	return (struct cpm_msg){
			.id = CPM_PL_LIT("m-1@example.org"),
			.aor = CPM_PL_LIT("sip:bob@example.org"),
			.call_id = CPM_PL_LIT("call-1"),
			.from = CPM_PL_LIT("\"Alice\" <sip:alice@example.org>"),
			.to = CPM_PL_LIT("<sip:bob@example.org>"),
			.subject = CPM_PL_LIT("hi"),
			.content_type = CPM_PL_LIT("text/plain;charset=UTF-8"),
			.conversation_id = CPM_PL_LIT("conv-1"),
			.contribution_id = CPM_PL_LIT("contrib-1"),
			.headers = CPM_PL_LIT("Subject: hi\r\n"
								  "Content-Type: text/plain;charset=UTF-8\r\n"),
			.body = CPM_PL_LIT(FULL_BODY),
			.received_ms = 1289690940123,
			.expires_ms = 1289777340123,
			.fingerprint = UINT64_C(0x0123456789abcdef),
			.flags = CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE,
			.dispo = CPM_DISPO_PROCESSING | CPM_DISPO_DISPLAY,
			.body_len = sizeof(FULL_BODY) - 1,
	};
}

static struct cpm_msg least(void)
{
	return (struct cpm_msg){.id = CPM_PL_LIT("x"), .aor = CPM_PL_LIT("tel:+1")};
}

static void same(const struct cpm_msg *a, const struct cpm_msg *b)
{
	ck_pl_same(a->id, b->id);
	ck_pl_same(a->aor, b->aor);
	ck_pl_same(a->call_id, b->call_id);
	ck_pl_same(a->from, b->from);
	ck_pl_same(a->to, b->to);
	ck_pl_same(a->subject, b->subject);
	ck_pl_same(a->content_type, b->content_type);
	ck_pl_same(a->conversation_id, b->conversation_id);
	ck_pl_same(a->contribution_id, b->contribution_id);
	ck_pl_same(a->headers, b->headers);
	ck_pl_same(a->aside, b->aside);
	ck_pl_same(a->body, b->body);
	ck_assert_uint_eq(a->received_ms, b->received_ms);
	ck_assert_uint_eq(a->expires_ms, b->expires_ms);
	ck_assert_uint_eq(a->fingerprint, b->fingerprint);
	ck_assert_uint_eq(a->flags, b->flags);
	ck_assert_uint_eq(a->dispo, b->dispo);
	ck_assert_uint_eq(a->body_len, b->body_len);
}

static struct cpm_pl encode(const struct cpm_msg *m)
{
	struct cpm_wr w;

	cpm_wr_init(&w, out, sizeof(out));
	ck_assert_int_eq(cpm_msg_encode(m, &w, NULL), CPM_OK);
	ck_assert_uint_eq(w.n, cpm_msg_encoded_len(m));
	return cpm_wr_pl(&w);
}

/* ---- the format ---- */

static const struct
{
	const char *file;
	struct cpm_msg (*msg)(void);
} golden[] = {
		{"msg-v1-full.hex", full},
		{"msg-v1-least.hex", least},
};

static struct cpm_pl golden_blob(int i)
{
	struct cpm_pl hex = fu_slurp(golden[i].file);
	struct cpm_pl blob = fu_unhex(hex);

	fu_free(&hex);
	return blob;
}

START_TEST(writes_v1)
{
	struct cpm_pl blob = golden_blob(_i);
	struct cpm_msg m = golden[_i].msg();

	ck_pl_same(encode(&m), blob);
	fu_free(&blob);
}
END_TEST

START_TEST(reads_v1)
{
	struct cpm_pl blob = golden_blob(_i);
	char *p = guard_dup(blob.p, blob.n);
	struct cpm_msg want = golden[_i].msg(), m;

	ck_assert_int_eq(cpm_msg_decode(cpm_pl(p, blob.n), &m, NULL), CPM_OK);
	same(&m, &want);
	ck_assert(fu_pl_inside(m.id, cpm_pl(p, blob.n)));
	guard_free(p, blob.n);
	fu_free(&blob);
}
END_TEST

static int trip(struct cpm_pl in, struct cpm_wr *w)
{
	struct cpm_msg m;
	int rc = cpm_msg_decode(in, &m, NULL);

	return rc == CPM_OK ? cpm_msg_encode(&m, w, NULL) : rc;
}

START_TEST(round_trips)
{
	struct cpm_pl blob = golden_blob(_i);

	round_trip(trip, blob, blob);
	fu_free(&blob);
}
END_TEST

static size_t env_end_of(struct cpm_pl blob)
{
	return (size_t)(unsigned char)blob.p[6] << 8 | (unsigned char)blob.p[7];
}

/* Of all prefixes only the one without any of the body, and the whole. */
static void check_prefix(struct cpm_pl prefix, void *arg)
{
	const struct cpm_pl *whole = arg;
	size_t env_end = env_end_of(*whole);
	struct cpm_msg m = {.flags = 77};
	struct cpm_diag diag = {"", 0};
	int rc = cpm_msg_decode(prefix, &m, &diag);

	if(prefix.n == env_end || prefix.n == whole->n) {
		ck_assert_int_eq(rc, CPM_OK);
		ck_assert_uint_eq(m.body_len, whole->n - env_end);
		ck_assert_uint_eq(m.body.n, prefix.n - env_end);
		return;
	}
	ck_assert_int_eq(rc, CPM_EPROTO);
	ck_assert_str_eq(diag.why, "truncated");
	ck_assert_uint_eq(m.flags, 77);
}

START_TEST(cut_blob)
{
	struct cpm_pl blob = golden_blob(_i);

	guard_prefixes(blob, check_prefix, &blob);
	fu_free(&blob);
}
END_TEST

/* ---- blobs that are not quite right ---- */

struct build
{
	struct cpm_wr w;
	char buf[4096];
};

static void build_open(struct build *b)
{
	cpm_wr_init(&b->w, b->buf, sizeof(b->buf));
	cpm_wr_str(&b->w, "CM");
	cpm_wr_u8(&b->w, CPM_MSG_VERSION);
	for(size_t i = 3; i < CPM_MSG_FIXED; i++)
		cpm_wr_u8(&b->w, 0);
}

static void build_field(struct build *b, unsigned tag, const char *value)
{
	cpm_wr_u8(&b->w, tag);
	cpm_wr_be32(&b->w, (uint32_t)strlen(value));
	cpm_wr_str(&b->w, value);
}

static void set_be32(struct build *b, size_t at, uint32_t v)
{
	struct cpm_wr w;

	cpm_wr_init(&w, b->buf + at, 4);
	cpm_wr_be32(&w, v);
}

/* Closes the envelope here, adds the body, decodes a guarded copy. */
static int build_decode(struct build *b, const char *body, const char **why)
{
	static struct cpm_msg m;
	struct cpm_diag diag = {"", 0};
	char *p;
	int rc;

	set_be32(b, 4, (uint32_t)b->w.n);
	set_be32(b, 8, (uint32_t)strlen(body));
	cpm_wr_str(&b->w, body);
	ck_assert(cpm_wr_ok(&b->w));
	p = guard_dup(b->buf, b->w.n);
	rc = cpm_msg_decode(cpm_pl(p, b->w.n), &m, &diag);
	guard_free(p, b->w.n);
	*why = diag.why;
	return rc;
}

static void build_good(struct build *b)
{
	build_open(b);
	build_field(b, 1, "m1");
	build_field(b, 2, "sip:b@h");
}

START_TEST(unknown_tags)
{
	static const unsigned char tags[] = {0, 15, 31, 32, 63, 64, 127, 128, 255};
	struct build b;
	const char *why;

	build_open(&b);
	for(size_t i = 0; i < FU_N(tags); i++) {
		build_field(&b, tags[i], "later");
		build_field(&b, tags[i], ""); /* and more than once */
	}
	build_field(&b, 1, "m1");
	build_field(&b, 2, "sip:b@h");
	ck_assert_int_eq(build_decode(&b, "body", &why), CPM_OK);
}
END_TEST

START_TEST(double_tag)
{
	struct build b;
	const char *why;

	build_good(&b);
	build_field(&b, (unsigned)_i, "1");
	if(_i > 2)
		build_field(&b, (unsigned)_i, "1");
	ck_assert_int_eq(build_decode(&b, "", &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-field");
}
END_TEST

START_TEST(lacks_field)
{
	struct build b;
	const char *why;

	build_open(&b);
	if(_i > 0)
		build_field(&b, _i == 1 ? 1 : 2, "x");
	if(_i == 3)
		build_field(&b, 1, "");
	ck_assert_int_eq(build_decode(&b, "", &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-field");
}
END_TEST

START_TEST(odd_dispo)
{
	struct build b;
	const char *why;

	build_good(&b);
	build_field(&b, 11, _i ? "12" : "");
	ck_assert_int_eq(build_decode(&b, "", &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-field");
}
END_TEST

START_TEST(bad_id_in_blob)
{
	struct build b;
	const char *why;

	build_open(&b);
	build_field(&b, 2, "sip:b@h");
	build_field(&b, 1, "m 1");
	ck_assert_int_eq(build_decode(&b, "", &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-id");
}
END_TEST

START_TEST(long_field_in_blob)
{
	struct build b;
	const char *why;
	char text[300];

	memset(text, 'a', sizeof(text));
	text[_i == 1 ? CPM_MSG_ID_MAX + 1 : CPM_AOR_MAX + 1] = '\0';
	build_open(&b);
	build_field(&b, 3u - (unsigned)_i, "x");
	build_field(&b, (unsigned)_i, text);
	ck_assert_int_eq(build_decode(&b, "", &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-field");
}
END_TEST

/* value: written over the good blob at offset at, big-endian */
static const struct
{
	size_t at;
	uint32_t value;
	const char *why;
} spoiled[] = {
		{0, 0x434e0100, "bad-magic"},
		{0, 0x00000100, "bad-magic"},
		{0, 0x434d0000, "bad-version"},
		{0, 0x434d0200, "bad-version"},
		{4, 0, "truncated"},
		{4, CPM_MSG_FIXED - 1, "truncated"},
		{4, CPM_MSG_FIXED + 1, "truncated"}, /* in the middle of a head */
		{4, CPM_MSG_FIXED + 6, "truncated"}, /* in the middle of a value */
		{4, CPM_MSG_FIXED, "bad-field"},	 /* no id */
		{4, CPM_MSG_FIXED + 7, "bad-field"}, /* no aor */
		{4, 0xffffffff, "truncated"},
		{8, 0, "truncated"},
		{8, 3, "truncated"},
		{8, 5, "truncated"},
		{8, CPM_MSG_BODY_MAX, "truncated"},
		{8, CPM_MSG_BODY_MAX + 1, "bad-field"},
		{8, 0xffffffff, "bad-field"},
		{CPM_MSG_FIXED + 1, 0xffffffff, "truncated"},
		{CPM_MSG_FIXED + 1, 0xfffffffb, "truncated"}, /* wraps with the head */
		{CPM_MSG_FIXED + 1, 0x7fffffff, "truncated"},
		{CPM_MSG_FIXED + 1, 3, "truncated"},
};

START_TEST(spoiled_blob)
{
	struct build b;
	struct cpm_msg m;
	struct cpm_diag diag = {"", 0};
	const char *why;
	char *p;

	build_good(&b);
	ck_assert_int_eq(build_decode(&b, "body", &why), CPM_OK);
	set_be32(&b, spoiled[_i].at, spoiled[_i].value);
	p = guard_dup(b.buf, b.w.n);
	ck_assert_int_eq(cpm_msg_decode(cpm_pl(p, b.w.n), &m, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, spoiled[_i].why);
	guard_free(p, b.w.n);
}
END_TEST

START_TEST(blob_too_long)
{
	struct build b;
	struct cpm_msg m;
	struct cpm_diag diag = {"", 0};
	const char *why;

	build_good(&b);
	ck_assert_int_eq(build_decode(&b, "body", &why), CPM_OK);
	cpm_wr_chr(&b.w, 'x');
	ck_assert_int_eq(cpm_msg_decode(cpm_wr_pl(&b.w), &m, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, "truncated");
}
END_TEST

/* Every byte of the golden blob set to every value: no crash, and what is
 * still accepted can be written again. */
START_TEST(any_byte_changed)
{
	struct cpm_pl blob = golden_blob(0);
	char *p = guard_dup(blob.p, blob.n);

	for(size_t at = 0; at < blob.n; at++) {
		char before = p[at];
		struct cpm_msg m;
		struct cpm_wr w;

		p[at] = (char)_i;
		if(cpm_msg_decode(cpm_pl(p, blob.n), &m, NULL) == CPM_OK) {
			cpm_wr_init(&w, out, sizeof(out));
			ck_assert_int_eq(cpm_msg_encode(&m, &w, NULL), CPM_OK);
		}
		p[at] = before;
	}
	guard_free(p, blob.n);
	fu_free(&blob);
}
END_TEST

/* ---- bounds of the encoder ---- */

static int try_encode(const struct cpm_msg *m, const char **why)
{
	struct cpm_diag diag = {"", 0};
	struct cpm_wr w;
	int rc;

	cpm_wr_init(&w, out, sizeof(out));
	rc = cpm_msg_encode(m, &w, &diag);
	if(rc != CPM_OK)
		ck_assert_uint_eq(w.n, 0);
	*why = diag.why;
	return rc;
}

static struct cpm_pl big_of(size_t n)
{
	memset(big, 'b', n);
	return cpm_pl(big, n);
}

START_TEST(id_bound)
{
	struct cpm_msg m = least();
	const char *why;

	m.id = big_of(CPM_MSG_ID_MAX);
	ck_assert_int_eq(try_encode(&m, &why), CPM_OK);
	m.id = big_of(CPM_MSG_ID_MAX + 1);
	ck_assert_int_eq(try_encode(&m, &why), CPM_ELIMIT);
	ck_assert_str_eq(why, "id-too-long");
	m.id = CPM_PL_NULL;
	ck_assert_int_eq(try_encode(&m, &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-id");
	m.id = cpm_pl_str("a b");
	ck_assert_int_eq(try_encode(&m, &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-id");
}
END_TEST

START_TEST(aor_bound)
{
	struct cpm_msg m = least();
	const char *why;

	m.aor = big_of(CPM_AOR_MAX);
	ck_assert_int_eq(try_encode(&m, &why), CPM_OK);
	m.aor = big_of(CPM_AOR_MAX + 1);
	ck_assert_int_eq(try_encode(&m, &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-field");
	m.aor = CPM_PL_NULL;
	ck_assert_int_eq(try_encode(&m, &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-field");
}
END_TEST

START_TEST(small_numbers_bound)
{
	struct cpm_msg m = least();
	const char *why;

	m.flags = 256;
	ck_assert_int_eq(try_encode(&m, &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-field");
	m.flags = 255;
	m.dispo = 256;
	ck_assert_int_eq(try_encode(&m, &why), CPM_EPROTO);
	ck_assert_str_eq(why, "bad-field");
	m.dispo = 255;
	ck_assert_int_eq(try_encode(&m, &why), CPM_OK);
}
END_TEST

static struct cpm_pl *text_field(struct cpm_msg *m, int i)
{
	struct cpm_pl *all[] = {&m->call_id, &m->from, &m->to, &m->subject,
			&m->content_type, &m->conversation_id, &m->contribution_id,
			&m->headers, &m->aside};

	return all[i];
}

START_TEST(text_bound)
{
	struct cpm_msg m = least(), back;
	const char *why;

	*text_field(&m, _i) = big_of(CPM_MSG_HEADERS_MAX);
	ck_assert_int_eq(try_encode(&m, &why), CPM_OK);
	ck_assert_int_eq(cpm_msg_decode(encode(&m), &back, NULL), CPM_OK);
	same(&back, &m);
	*text_field(&m, _i) = big_of(CPM_MSG_HEADERS_MAX + 1);
	ck_assert_int_eq(try_encode(&m, &why), CPM_ELIMIT);
	ck_assert_str_eq(why, "headers-too-long");
}
END_TEST

START_TEST(body_bound)
{
	struct cpm_msg m = least(), back;
	const char *why;

	m.body = big_of(CPM_MSG_BODY_MAX);
	m.body_len = m.body.n;
	ck_assert_int_eq(cpm_msg_decode(encode(&m), &back, NULL), CPM_OK);
	same(&back, &m);
	m.body = big_of(CPM_MSG_BODY_MAX + 1);
	ck_assert_int_eq(try_encode(&m, &why), CPM_ELIMIT);
	ck_assert_str_eq(why, "body-too-long");
}
END_TEST

START_TEST(full_writer)
{
	struct cpm_msg m = full();
	size_t need = cpm_msg_encoded_len(&m), cap = need - 1 - (size_t)_i;
	struct cpm_diag diag = {"", 0};
	struct cpm_wr w;
	char *p = guard_dup(big_of(cap).p, cap);

	cpm_wr_init(&w, p, cap);
	ck_assert_int_eq(cpm_msg_encode(&m, &w, &diag), CPM_ENOMEM);
	ck_assert_str_eq(diag.why, "small-buffer");
	ck_assert_uint_eq(w.n, need);
	guard_free(p, cap);
}
END_TEST

/* A blob may be written behind something else, as into a Redis command. */
START_TEST(not_at_start)
{
	struct cpm_msg m = full(), back;
	struct cpm_wr w;

	cpm_wr_init(&w, out, sizeof(out));
	cpm_wr_str(&w, "before");
	ck_assert_int_eq(cpm_msg_encode(&m, &w, NULL), CPM_OK);
	ck_assert_int_eq(
			cpm_msg_decode(cpm_pl_from(cpm_wr_pl(&w), 6), &back, NULL), CPM_OK);
	same(&back, &m);
}
END_TEST

START_TEST(id_chars)
{
	char id[2] = {'a', (char)_i};

	ck_assert(cpm_msg_id_ok(cpm_pl(id, 2)) == (_i > 0x20 && _i < 0x7f));
	ck_assert(cpm_msg_id_ok(cpm_pl(id, 1)));
	ck_assert(!cpm_msg_id_ok(cpm_pl(id, 0)));
	ck_assert(cpm_msg_id_ok(big_of(CPM_MSG_ID_MAX)));
	ck_assert(!cpm_msg_id_ok(big_of(CPM_MSG_ID_MAX + 1)));
}
END_TEST

/* ---- which headers are the message's ---- */

static const char *const kept[] = {"Content-Type", "c", "C", "Content-Encoding",
		"e", "Content-Disposition", "Content-Language", "Content-ID",
		"MIME-Version", "Subject", "s", "Date", "Reply-To", "In-Reply-To",
		"Conversation-ID", "Contribution-ID", "InReplyTo-Contribution-ID",
		"P-Asserted-Identity", "P-Asserted-Service", "Privacy", "Priority",
		"Organization", "Call-Info", "Alert-Info", "Require", "X-Vendor",
		"X-Via", "Viatic", "Vi", "Refer-To", "r", "z", ""};

static const char *const not_kept[] = {"Via", "via", "VIA", "v", "V", "Route",
		"Record-Route", "Path", "Service-Route", "Max-Forwards", "From", "f",
		"To", "t", "Call-ID", "i", "CSeq", "Contact", "m", "Content-Length",
		"l", "Expires", "expires", "P-Called-Party-ID", "Authorization",
		"Proxy-Authorization", "Proxy-Authenticate", "WWW-Authenticate",
		"Proxy-Require", "P-Preferred-Identity", "P-Preferred-Service",
		"P-Served-User", "P-Visited-Network-ID", "P-Access-Network-Info",
		"P-Charging-Vector", "P-Charging-Function-Addresses", "P-Profile-Key",
		"P-User-Database", "Security-Client", "Security-Server",
		"Security-Verify", "Identity", "y", "Identity-Info", "n", "Timestamp",
		"User-Agent", "Server", "Supported", "k", "Allow", "Accept",
		"Accept-Encoding", "Accept-Language", "Accept-Contact", "a",
		"Reject-Contact", "j", "Request-Disposition", "d", "Referred-By", "b",
		"Session-Expires", "x", "Min-SE", "Event", "o", "Hide", "Allow-Events",
		"u", "Feature-Caps", "Max-Breadth", "Via ", " Route"};

START_TEST(is_aside)
{
	static const char *const aside[] = {"Accept-Contact", "A", "b",
			"referred-by ", "j", "Reject-Contact", "Request-Disposition", "d"};
	static const char *const other[] = {"", "Accept", "Subject", "Contact"};

	for(size_t i = 0; i < FU_N(aside); i++) {
		ck_assert(cpm_msg_header_aside(cpm_pl_str(aside[i])));
		ck_assert(!cpm_msg_header_kept(cpm_pl_str(aside[i])));
	}
	for(size_t i = 0; i < FU_N(other); i++)
		ck_assert(!cpm_msg_header_aside(cpm_pl_str(other[i])));
}
END_TEST

START_TEST(is_kept)
{
	ck_assert_msg(cpm_msg_header_kept(cpm_pl_str(kept[_i])), "%s", kept[_i]);
}
END_TEST

START_TEST(is_not_kept)
{
	ck_assert_msg(
			!cpm_msg_header_kept(cpm_pl_str(not_kept[_i])), "%s", not_kept[_i]);
}
END_TEST

/* ---- the fingerprint ---- */

/* They are in queues: the value must not change. */
START_TEST(fingerprint_value)
{
	struct cpm_msg m = full();
	uint64_t want = cpm_hash64(
			CPM_HASH_INIT, CPM_PL_LIT("\"Alice\" <sip:alice@example.org>\0"
									  "text/plain;charset=UTF-8\0" FULL_BODY));

	ck_assert_uint_eq(cpm_msg_fingerprint(&m), want);
	ck_assert_uint_eq(want, UINT64_C(0x2582c33712c23322));
}
END_TEST

START_TEST(fingerprint_of_what)
{
	struct cpm_msg m = full();
	uint64_t before = cpm_msg_fingerprint(&m);

	/* a retransmission of the user's is another transaction */
	m.call_id = cpm_pl_str("other");
	m.received_ms++;
	m.headers = CPM_PL_NULL;
	ck_assert_uint_eq(cpm_msg_fingerprint(&m), before);
	m.body.n--;
	ck_assert_uint_ne(cpm_msg_fingerprint(&m), before);
	m = full();
	m.from.n--;
	ck_assert_uint_ne(cpm_msg_fingerprint(&m), before);
	m = full();
	m.content_type.n--;
	ck_assert_uint_ne(cpm_msg_fingerprint(&m), before);
}
END_TEST

START_TEST(fingerprint_borders)
{
	struct cpm_msg a = least(), b = least();

	a.from = cpm_pl_str("ab");
	a.content_type = cpm_pl_str("c");
	b.from = cpm_pl_str("a");
	b.content_type = cpm_pl_str("bc");
	ck_assert_uint_ne(cpm_msg_fingerprint(&a), cpm_msg_fingerprint(&b));
}
END_TEST

/* ---- the headers of a delivery ---- */

#define T0 UINT64_C(1289690940000) /* Sat, 13 Nov 2010 23:29:00 GMT */
#define DATE "Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n"

static const struct
{
	const char *headers;
	unsigned flags;
	uint64_t expires_ms, now_ms;
	const char *want; /* NULL: it has expired */
} deliveries[] = {
		{"Subject: a\r\n", CPM_MSG_F_DATE, 0, T0, "Subject: a\r\n"},
		{"Subject: a\r\n", 0, 0, T0, "Subject: a\r\n" DATE},
		{"", 0, 0, T0, DATE},
		{"", CPM_MSG_F_DATE, 0, T0, ""},
		{"s: a\r\nX: b\r\n c\r\n", CPM_MSG_F_DATE, 0, T0,
				"s: a\r\nX: b\r\n c\r\n"},
		{"Subject: a", 0, 0, T0, "Subject: a\r\n" DATE},
		{"s: a\r\n", CPM_MSG_F_EXPIRES, T0 + 60000, T0,
				"s: a\r\nExpires: 60\r\n" DATE},
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, T0 + 60000, T0 + 1,
				"Expires: 60\r\n"},
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, T0 + 60000, T0 + 999,
				"Expires: 60\r\n"},
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, T0 + 60000, T0 + 1000,
				"Expires: 59\r\n"},
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, T0 + 60000, T0 + 59999,
				"Expires: 1\r\n"},
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, T0 + 60000, T0 + 60000, NULL},
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, T0 + 60000, T0 + 60001, NULL},
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, 1, UINT64_MAX, NULL},
		/* an expiry of ours is not told */
		{"", CPM_MSG_F_DATE, T0 + 60000, T0, ""},
		{"", CPM_MSG_F_DATE, T0 + 60000, T0 + 60000, NULL},
		/* never: nothing to tell */
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, 0, T0, ""},
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, 0, UINT64_MAX, ""},
		/* delta-seconds have 32 bits */
		{"", CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE, UINT64_MAX, 0,
				"Expires: 4294967295\r\n"},
};

START_TEST(delivery)
{
	struct cpm_msg m = least();
	struct cpm_wr w;
	int rc;

	m.headers = cpm_pl_str(deliveries[_i].headers);
	m.flags = deliveries[_i].flags;
	m.received_ms = T0 + 999;
	m.expires_ms = deliveries[_i].expires_ms;
	cpm_wr_init(&w, out, sizeof(out));
	rc = cpm_msg_delivery_headers(&m, deliveries[_i].now_ms, true, &w);
	if(deliveries[_i].want) {
		ck_assert_int_eq(rc, CPM_OK);
		ck_pl_eq(cpm_wr_pl(&w), deliveries[_i].want);
	} else {
		ck_assert_int_eq(rc, CPM_ENOENT);
		ck_assert_uint_eq(w.n, 0);
	}
}
END_TEST

/* ---- an identity that the sender withheld ---- */

#define PAI "P-Asserted-Identity: <sip:alice@example.org>\r\n"

static const struct
{
	const char *headers;
	unsigned flags;
	bool trusted;
	const char *want;
} withheld[] = {
		{PAI "Subject: a\r\n", 0, false, PAI "Subject: a\r\n"},
		{PAI "Subject: a\r\n", CPM_MSG_F_WITHHELD, true, PAI "Subject: a\r\n"},
		{PAI "Subject: a\r\n", CPM_MSG_F_WITHHELD, false, "Subject: a\r\n"},
		{"Subject: a\r\n" PAI, CPM_MSG_F_WITHHELD, false, "Subject: a\r\n"},
		{PAI, CPM_MSG_F_WITHHELD, false, ""},
		{PAI PAI "X: b\r\n" PAI, CPM_MSG_F_WITHHELD, false, "X: b\r\n"},
		{"p-asserted-identity :\r\n <sip:a@b>,\r\n\t<tel:1>\r\nX: b\r\n",
				CPM_MSG_F_WITHHELD, false, "X: b\r\n"},
		{"Remote-Party-ID: <sip:a@b>\r\nX: b\r\n", CPM_MSG_F_WITHHELD, false,
				"X: b\r\n"},
		{"X: b\r\n P-Asserted-Identity: c\r\n", CPM_MSG_F_WITHHELD, false,
				"X: b\r\n P-Asserted-Identity: c\r\n"},
};

START_TEST(delivery_withheld)
{
	struct cpm_msg m = least();
	struct cpm_wr w;

	m.headers = cpm_pl_str(withheld[_i].headers);
	m.flags = CPM_MSG_F_DATE | withheld[_i].flags;
	cpm_wr_init(&w, out, sizeof(out));
	ck_assert_int_eq(
			cpm_msg_delivery_headers(&m, T0, withheld[_i].trusted, &w), CPM_OK);
	ck_pl_eq(cpm_wr_pl(&w), withheld[_i].want);
}
END_TEST

static const struct
{
	const char *value;
	bool withholds;
} privacies[] = {
		{"id", true},
		{"ID", true},
		{" user ; critical", true},
		{"header;id", true},
		{"session, id", true},
		{"none", false},
		{"id;none", false},
		{"critical", false},
		{"identity", false},
		{"", false},
};

START_TEST(privacy)
{
	ck_assert(cpm_privacy_withholds(cpm_pl_str(privacies[_i].value))
			  == privacies[_i].withholds);
}
END_TEST

START_TEST(delivery_full_writer)
{
	struct cpm_msg m = least();
	struct cpm_wr w;

	m.headers = cpm_pl_str("s: a\r\n");
	cpm_wr_init(&w, out, 6 + strlen(DATE));
	ck_assert_int_eq(cpm_msg_delivery_headers(&m, T0, true, &w), CPM_OK);
	cpm_wr_init(&w, out, 5 + strlen(DATE));
	ck_assert_int_eq(cpm_msg_delivery_headers(&m, T0, true, &w), CPM_ENOMEM);
	ck_assert_uint_eq(w.n, 6 + strlen(DATE));
}
END_TEST

static void add_codec_cases(Suite *s)
{
	fu_table(s, "version 1 is written as ever", writes_v1, FU_N(golden));
	fu_table(s, "version 1 is read as ever", reads_v1, FU_N(golden));
	fu_table(s, "a blob decodes and encodes to itself", round_trips,
			FU_N(golden));
	fu_table(s, "the envelope alone is enough, any other cut is not", cut_blob,
			FU_N(golden));
	fu_case(s, "fields of later versions are passed over", unknown_tags);
	{
		TCase *tc = tcase_create("a field comes once");

		tcase_add_loop_test(tc, double_tag, 1, 12);
		suite_add_tcase(s, tc);
		tc = tcase_create("a field keeps its bound");
		tcase_add_loop_test(tc, long_field_in_blob, 1, 3);
		suite_add_tcase(s, tc);
	}
	fu_table(s, "id and AoR must be there", lacks_field, 4);
	fu_table(s, "dispositions are one byte", odd_dispo, 2);
	fu_case(s, "an id with a space is refused", bad_id_in_blob);
	fu_table(s, "a spoiled number is found", spoiled_blob, FU_N(spoiled));
	fu_case(s, "bytes behind the body are refused", blob_too_long);
	fu_table(s, "any byte may change", any_byte_changed, 256);
	fu_case(s, "an id has its bound and its characters", id_bound);
	fu_case(s, "an AoR must be there and short", aor_bound);
	fu_case(s, "flags and dispositions fit a byte", small_numbers_bound);
	fu_table(s, "each text of the envelope has its bound", text_bound, 9);
	fu_case(s, "a body has its bound", body_bound);
	fu_table(s, "a full writer is told, with the size needed", full_writer,
			sizeof(FULL_BODY) + 40);
	fu_case(s, "offsets count from the blob's own start", not_at_start);
	fu_table(s, "an id is visible ASCII", id_chars, 256);
}

int main(void)
{
	Suite *s = suite_create("cpm_msg");

	add_codec_cases(s);
	fu_case(s, "headers that say whom it was for are put aside", is_aside);
	fu_table(s, "a header of the message is kept", is_kept, FU_N(kept));
	fu_table(s, "a header of hop or transaction is not", is_not_kept,
			FU_N(not_kept));
	fu_case(s, "a fingerprint never changes", fingerprint_value);
	fu_case(s, "the same message sent again has the same fingerprint",
			fingerprint_of_what);
	fu_case(s, "what is hashed has borders", fingerprint_borders);
	fu_table(s, "a delivery tells date and seconds left", delivery,
			FU_N(deliveries));
	fu_table(s, "a withheld identity stays inside the trust domain",
			delivery_withheld, FU_N(withheld));
	fu_table(s, "which Privacy values withhold the identity", privacy,
			FU_N(privacies));
	fu_case(s, "headers that do not fit are told", delivery_full_writer);
	return fu_run(s);
}
