/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_sdp.c - descriptions as clients write them, descriptions that
 * nobody should write, and what follows from an offer and its answer.
 */

#include <stdio.h>

#include "check_helpers.h"
#include "cpm_sdp.h"

#define V "v=0\r\n"
#define M "m=message 2855 TCP/MSRP *\r\n"
#define PATH "a=path:msrp://192.0.2.1:2855/x;tcp\r\n"

static struct cpm_sdp parse_ok(struct cpm_pl in)
{
	struct cpm_sdp sdp;
	struct cpm_diag diag = {.why = ""};

	ck_assert_msg(cpm_sdp_parse(in, &sdp, &diag) == CPM_OK, "%s at %zu",
			diag.why, diag.at);
	return sdp;
}

static struct cpm_sdp parse_str(const char *text)
{
	return parse_ok(cpm_pl_str(text));
}

/* ---- whole descriptions ---- */

START_TEST(rfc_example)
{
	struct cpm_pl in = fu_slurp("sdp-rfc4975-14.1-offer.sdp");
	struct cpm_sdp sdp = parse_ok(in);

	ck_assert_ptr_null(sdp.refused);
	ck_pl_eq(sdp.sess_id, "2890844557");
	ck_pl_eq(sdp.sess_version, "2890844559");
	ck_pl_eq(sdp.origin_address, "alicepc.example.com");
	ck_assert_uint_eq(sdp.lines_n, 1);
	ck_pl_eq(sdp.lines[0].media, "message");
	ck_pl_eq(sdp.lines[0].proto, "TCP/MSRP");
	ck_pl_eq(sdp.lines[0].fmts, "*");
	ck_assert_uint_eq(sdp.msrp.index, 0);
	ck_assert_uint_eq(sdp.msrp.port, 7394);
	ck_assert(!sdp.msrp.tls);
	ck_pl_eq(sdp.msrp.address, "alicepc.example.com");
	ck_assert_uint_eq(sdp.msrp.uris_n, 1);
	ck_pl_eq(
			sdp.msrp.uris[0], "msrp://alicepc.example.com:7394/2s93i93idj;tcp");
	ck_pl_same(sdp.msrp.path, sdp.msrp.uris[0]);
	ck_pl_eq(sdp.msrp.accept_types, "message/cpim text/plain text/html");
	ck_assert_ptr_null(sdp.msrp.accept_wrapped_types.p);
	ck_assert_int_eq(sdp.msrp.dir, CPM_SDP_SENDRECV);
	ck_assert(!sdp.msrp.dir_given);
	ck_assert_int_eq(sdp.msrp.setup, CPM_SDP_SETUP_NONE);
	ck_assert_int_eq(sdp.msrp.conn, CPM_SDP_CONN_NONE);
	ck_assert_uint_eq(sdp.msrp.max_size, 0);
	ck_assert_uint_eq(sdp.msrp.fingerprints_n, 0);
	fu_free(&in);
}
END_TEST

START_TEST(chat_client)
{
	struct cpm_pl in = fu_slurp("sdp-answer-chat-client.sdp");
	struct cpm_sdp sdp = parse_ok(in);

	ck_assert_ptr_null(sdp.refused);
	ck_assert_int_eq(sdp.msrp.setup, CPM_SDP_SETUP_ACTIVE);
	ck_assert_int_eq(sdp.msrp.dir, CPM_SDP_RECVONLY);
	ck_assert(sdp.msrp.dir_given);
	ck_assert_uint_eq(sdp.msrp.port, 9);
	ck_pl_eq(sdp.msrp.accept_wrapped_types, "text/plain message/imdn+xml");
	fu_free(&in);
}
END_TEST

START_TEST(relay_and_tls)
{
	static const unsigned char digest[32] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55,
			0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00,
			0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb,
			0xcc, 0xdd, 0xee, 0xff};
	unsigned char other[32];
	struct cpm_pl in = fu_slurp("sdp-answer-standalone-relay.sdp");
	struct cpm_sdp sdp = parse_ok(in);
	struct cpm_pl sha256 = CPM_PL_LIT("sha-256");

	ck_assert_ptr_null(sdp.refused);
	ck_assert(sdp.msrp.tls);
	ck_pl_eq(sdp.msrp.address, "2001:db8::7");
	ck_assert_uint_eq(sdp.msrp.uris_n, 2);
	ck_pl_eq(sdp.msrp.uris[0], "msrps://relay.example.org:2855/r1;tcp");
	ck_pl_eq(sdp.msrp.uris[1], "msrps://[2001:db8::7]:2855/d=/7;tcp");
	ck_assert_uint_eq(sdp.msrp.max_size, 10485760);
	ck_assert_uint_eq(sdp.msrp.fingerprints_n, 1);
	ck_pl_eq(sdp.msrp.fingerprints[0].hash, "SHA-256");
	ck_assert(cpm_sdp_fingerprint_is(&sdp.msrp, sha256, digest, 32));
	ck_assert(!cpm_sdp_fingerprint_is(&sdp.msrp, sha256, digest, 31));
	ck_assert(!cpm_sdp_fingerprint_is(&sdp.msrp, sha256, digest, 0));
	ck_assert(!cpm_sdp_fingerprint_is(
			&sdp.msrp, CPM_PL_LIT("sha-1"), digest, 32));
	for(size_t i = 0; i < 32; i++) {
		memcpy(other, digest, 32);
		other[i] ^= 1;
		ck_assert(!cpm_sdp_fingerprint_is(&sdp.msrp, sha256, other, 32));
	}
	fu_free(&in);
}
END_TEST

START_TEST(many_media)
{
	struct cpm_pl in = fu_slurp("sdp-offer-many-media.sdp");
	struct cpm_sdp sdp = parse_ok(in);

	ck_assert_ptr_null(sdp.refused);
	ck_assert_uint_eq(sdp.lines_n, 5);
	ck_pl_eq(sdp.lines[0].media, "audio");
	ck_pl_eq(sdp.lines[0].fmts, "0 8");
	ck_assert_uint_eq(sdp.lines[0].port, 4000);
	ck_pl_eq(sdp.lines[1].proto, "msrp/tcp");
	ck_assert_uint_eq(sdp.msrp.index, 3);
	ck_assert_uint_eq(sdp.msrp.port, 4004);
	ck_pl_eq(sdp.msrp.address, "198.51.100.5");
	ck_pl_eq(sdp.msrp.path, "msrp://198.51.100.5:4004/file;tcp");
	ck_assert_int_eq(sdp.msrp.dir, CPM_SDP_SENDONLY);
	ck_assert_int_eq(sdp.msrp.setup, CPM_SDP_SETUP_ACTPASS);
	ck_assert_int_eq(sdp.msrp.conn, CPM_SDP_CONN_NEW);
	fu_free(&in);
}
END_TEST

static const char *const files[] = {"sdp-rfc4975-14.1-offer.sdp",
		"sdp-answer-chat-client.sdp", "sdp-answer-standalone-relay.sdp",
		"sdp-offer-many-media.sdp"};

static void inside(struct cpm_pl a, struct cpm_pl in)
{
	ck_assert(fu_pl_inside(a, in));
}

static void all_inside(const struct cpm_sdp *sdp, struct cpm_pl in)
{
	inside(sdp->sess_id, in);
	inside(sdp->sess_version, in);
	inside(sdp->origin_address, in);
	for(unsigned i = 0; i < sdp->lines_n; i++) {
		inside(sdp->lines[i].media, in);
		inside(sdp->lines[i].proto, in);
		inside(sdp->lines[i].fmts, in);
	}
	if(sdp->refused)
		return;
	inside(sdp->msrp.address, in);
	inside(sdp->msrp.path, in);
	inside(sdp->msrp.accept_types, in);
	inside(sdp->msrp.accept_wrapped_types, in);
	for(unsigned i = 0; i < sdp->msrp.uris_n; i++)
		inside(sdp->msrp.uris[i], in);
}

static void any_prefix(struct cpm_pl prefix, void *arg)
{
	struct cpm_sdp sdp;
	struct cpm_diag diag = {.why = NULL};

	(void)arg;
	if(cpm_sdp_parse(prefix, &sdp, &diag) == CPM_OK) {
		all_inside(&sdp, prefix);
	} else {
		ck_assert_ptr_nonnull(diag.why);
		ck_assert_uint_le(diag.at, prefix.n);
	}
}

START_TEST(prefixes)
{
	struct cpm_pl in = fu_slurp(files[_i]);

	guard_prefixes(in, any_prefix, NULL);
	fu_free(&in);
}
END_TEST

/* No byte of a description can be changed so that a slice leaves it. */
START_TEST(flipped)
{
	static const char bytes[] = {0, '\n', '\r', ' ', ':', '=', '/', 'm', '9',
			(char)0x80, (char)0xff};
	struct cpm_pl in = fu_slurp(files[_i]);
	char *copy = guard_dup(in.p, in.n);

	for(size_t i = 0; i < in.n; i++) {
		for(size_t k = 0; k < sizeof(bytes); k++) {
			copy[i] = bytes[k];
			any_prefix(cpm_pl(copy, in.n), NULL);
		}
		copy[i] = in.p[i];
	}
	guard_free(copy, in.n);
	fu_free(&in);
}
END_TEST

/* ---- how tolerant ---- */

START_TEST(levels)
{
	struct cpm_sdp sdp = parse_str(
			V "c=IN IP4 192.0.2.9\r\n"
			  "a=setup:passive\r\na=connection:existing\r\na=recvonly\r\n"
			  "a=fingerprint:sha-1 AB:CD\r\n" M PATH);

	ck_pl_eq(sdp.msrp.address, "192.0.2.9");
	ck_assert_int_eq(sdp.msrp.setup, CPM_SDP_SETUP_PASSIVE);
	ck_assert_int_eq(sdp.msrp.conn, CPM_SDP_CONN_EXISTING);
	ck_assert_int_eq(sdp.msrp.dir, CPM_SDP_RECVONLY);
	ck_assert(sdp.msrp.dir_given);
	ck_assert_uint_eq(sdp.msrp.fingerprints_n, 1);

	sdp = parse_str(V "c=IN IP4 192.0.2.9\na=setup:passive\na=recvonly\n"
					  "a=fingerprint:sha-1 AB:CD\n" M PATH
					  "c=IN IP6 ::1\na=setup:active\na=inactive\n"
					  "a=fingerprint:sha-1 01:02\na=fingerprint:md5 03\n");
	ck_pl_eq(sdp.msrp.address, "::1");
	ck_assert_int_eq(sdp.msrp.setup, CPM_SDP_SETUP_ACTIVE);
	ck_assert_int_eq(sdp.msrp.dir, CPM_SDP_INACTIVE);
	ck_assert_uint_eq(sdp.msrp.fingerprints_n, 2);
	ck_pl_eq(sdp.msrp.fingerprints[0].hex, "01:02");
	ck_pl_eq(sdp.msrp.fingerprints[1].hash, "md5");
}
END_TEST

START_TEST(first_counts)
{
	struct cpm_sdp sdp = parse_str(
			V M PATH "a=path:msrp://evil:1/y;tcp\r\n"
					 "a=accept-types:text/plain\r\na=accept-types:*\r\n"
					 "a=max-size:10\r\na=max-size:20\r\n"
					 "a=setup:active\r\na=setup:passive\r\n"
					 "a=connection:new\r\na=connection:existing\r\n"
					 "a=sendonly\r\na=recvonly\r\n"
					 "o=- 1 2 IN IP4 a\r\no=- 3 4 IN IP4 b\r\n");

	ck_assert_ptr_null(sdp.refused);
	ck_assert_uint_eq(sdp.msrp.uris_n, 1);
	ck_pl_eq(sdp.msrp.uris[0], "msrp://192.0.2.1:2855/x;tcp");
	ck_pl_eq(sdp.msrp.accept_types, "text/plain");
	ck_assert_uint_eq(sdp.msrp.max_size, 10);
	ck_assert_int_eq(sdp.msrp.setup, CPM_SDP_SETUP_ACTIVE);
	ck_assert_int_eq(sdp.msrp.conn, CPM_SDP_CONN_NEW);
	ck_assert_int_eq(sdp.msrp.dir, CPM_SDP_SENDONLY);
	ck_pl_eq(sdp.sess_id, "1");
	ck_pl_eq(sdp.origin_address, "a");
}
END_TEST

static const char *const tolerated[] = {
		"v=0\nm=message 2855 TCP/MSRP *\na=path:msrp://192.0.2.1:2855/x;tcp",
		"v=0\r\n\r\n" M PATH "\r\n\r\n",
		"v=0 \r\nZ=what\r\n" M "k=prompt\r\n" PATH
		"a=\r\na=:\r\na=nobody:knows\r\n",
		V "m=MESSAGE 2855 tcp/msrp * x\r\nA=no\r\na=PATH: "
		  "MSRP://192.0.2.1:2855/x;tcp \r\n",
		V "s=\xc3\xa9\r\n" M PATH "a=setup: Active \r\n",
		V "m=message  2855/1  TCP/MSRP\t*\r\n" PATH,
		V M PATH "a=max-size:99999999999999999999999\r\n",
};

START_TEST(tolerance)
{
	struct cpm_sdp sdp = parse_str(tolerated[_i]);

	ck_assert_msg(sdp.refused == NULL, "%s", sdp.refused);
	ck_assert_uint_eq(sdp.msrp.port, 2855);
	ck_assert_uint_eq(sdp.msrp.uris_n, 1);
	ck_assert(sdp.msrp.max_size == 0 || sdp.msrp.max_size == CPM_SDP_SIZE_MAX);
	guard_prefixes(cpm_pl_str(tolerated[_i]), any_prefix, NULL);
}
END_TEST

/* ---- no MSRP session ---- */

static const struct
{
	const char *text;
	const char *refused;
} refusals[] = {
		{V "m=audio 4000 RTP/AVP 0\r\n" PATH, "no-message"},
		{V "m=message 2855 msrp/tcp *\r\n" PATH, "proto"},
		{V "m=message 2855 TCP/MSRPS *\r\n" PATH, "proto"},
		{V "m=message 0 TCP/MSRP *\r\n" PATH, "port-zero"},
		{V M, "no-path"},
		{V M "a=path\r\n", "no-path"},
		{V M "a=path:\r\n" PATH, "no-path"},
		{V PATH M, "no-path"},
		{V M "a=path:sip:bob@example.org\r\n", "bad-path"},
		{V M "a=path:msrp://a:1/x;tcp http://b\r\n", "bad-path"},
		{V M "a=path:msrp://\xff;tcp\r\n", "bad-path"},
		{V M PATH "a=setup:maybe\r\n", "bad-setup"},
		{V "a=setup:\r\n" M PATH, "bad-setup"},
		{V M PATH "a=connection:old\r\n", "bad-connection"},
		{V M PATH "a=max-size:many\r\n", "bad-max-size"},
		{V M PATH "a=max-size:-1\r\n", "bad-max-size"},
		{V M PATH "a=max-size:99999999999999999999999x\r\n", "bad-max-size"},
		{V M PATH "a=fingerprint:sha-1\r\n", "bad-fingerprint"},
		{V M PATH "a=fingerprint:sha-1 A\r\n", "bad-fingerprint"},
		{V M PATH "a=fingerprint:sha-1 AB:\r\n", "bad-fingerprint"},
		{V M PATH "a=fingerprint:sha-1 AB-CD\r\n", "bad-fingerprint"},
		{V M PATH "a=fingerprint:sha-1 AB:CG\r\n", "bad-fingerprint"},
		{V M PATH "a=fingerprint:sha-1 AB:CD EF\r\n", "bad-fingerprint"},
		/* of several, the first one's word; of two words, the first */
		{V M "m=message 0 TCP/MSRP *\r\n", "no-path"},
		{V M "a=setup:x\r\na=max-size:x\r\n" PATH, "bad-setup"},
};

START_TEST(refused)
{
	struct cpm_sdp sdp = parse_str(refusals[_i].text);

	ck_assert_ptr_nonnull(sdp.refused);
	ck_assert_str_eq(sdp.refused, refusals[_i].refused);
	guard_prefixes(cpm_pl_str(refusals[_i].text), any_prefix, NULL);
}
END_TEST

/* ---- no description ---- */

static const struct
{
	const char *text;
	const char *why;
	size_t at;
} bad[] = {
		{"", "no-version", 0},
		{"\r\n\n", "no-version", 3},
		{"v=1\r\n" M PATH, "no-version", 0},
		{M PATH, "no-version", 0},
		{V, "no-media", 5},
		{V PATH, "no-media", 41},
		{V "hello\r\n" M, "bad-line", 5},
		{V "=\r\n" M, "bad-line", 5},
		{V " a=sendonly\r\n" M, "bad-line", 5},
		{V "1=x\r\n" M, "bad-line", 5},
		{V "s=a\tb\rc\r\n" M, "bad-byte", 10},
		{V "s=a\x01\r\n" M, "bad-byte", 8},
		{V "s=a\x7f\r\n" M, "bad-byte", 8},
		{V "s=a\r", "bad-byte", 8},
		{V "o=\r\n" M, "bad-origin", 5},
		{V "o=- 1 2 IN IP4\r\n" M, "bad-origin", 5},
		{V "o=- one 2 IN IP4 a\r\n" M, "bad-origin", 5},
		{V "o=- 1 -2 IN IP4 a\r\n" M, "bad-origin", 5},
		{V "c=IN IP4\r\n" M, "bad-address", 5},
		{V "c=IN IP5 192.0.2.1\r\n" M, "bad-address", 5},
		{V "c=ATM IP4 192.0.2.1\r\n" M, "bad-address", 5},
		{V "c=IN IP4 /127\r\n" M, "bad-address", 5},
		{V "m=\r\n", "bad-media", 5},
		{V "m=message 2855 TCP/MSRP\r\n", "bad-media", 5},
		{V "m=message x TCP/MSRP *\r\n", "bad-media", 5},
		{V "m=message 65536 TCP/MSRP *\r\n", "bad-media", 5},
		{V "m=message -1 TCP/MSRP *\r\n", "bad-media", 5},
		{V "m=message 1/ TCP/MSRP *\r\n", "bad-media", 5},
		{V "m=message 1/x TCP/MSRP *\r\n", "bad-media", 5},
		{V "m=message 99999999999999999999 TCP/MSRP *\r\n", "bad-media", 5},
};

START_TEST(not_sdp)
{
	struct cpm_sdp sdp, before;
	struct cpm_diag diag = {.why = ""};

	memset(&sdp, 0x5a, sizeof(sdp));
	memcpy(&before, &sdp, sizeof(sdp));
	ck_assert_int_eq(
			cpm_sdp_parse(cpm_pl_str(bad[_i].text), &sdp, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, bad[_i].why);
	ck_assert_uint_eq(diag.at, bad[_i].at);
	ck_assert_mem_eq(&sdp, &before, sizeof(sdp));
	ck_assert_int_eq(
			cpm_sdp_parse(cpm_pl_str(bad[_i].text), &sdp, NULL), CPM_EPROTO);
	guard_prefixes(cpm_pl_str(bad[_i].text), any_prefix, NULL);
}
END_TEST

START_TEST(nul_byte)
{
	static const char text[] = V "s=a\0b\r\n" M PATH;
	struct cpm_sdp sdp;
	struct cpm_diag diag;

	ck_assert_int_eq(cpm_sdp_parse(cpm_pl(text, sizeof(text) - 1), &sdp, &diag),
			CPM_EPROTO);
	ck_assert_str_eq(diag.why, "bad-byte");
	ck_assert_uint_eq(diag.at, 8);
}
END_TEST

/* ---- bounds ---- */

static char big[4 * CPM_SDP_BYTES_MAX];

/* head, then n times one, then tail */
static struct cpm_pl repeat(
		const char *head, const char *one, unsigned n, const char *tail)
{
	struct cpm_wr w;

	cpm_wr_init(&w, big, sizeof(big));
	cpm_wr_str(&w, head);
	while(n--)
		cpm_wr_str(&w, one);
	cpm_wr_str(&w, tail);
	ck_assert(cpm_wr_ok(&w));
	return cpm_wr_pl(&w);
}

static const struct
{
	const char *head, *one;
	unsigned most; /* this many are fine, one more is not */
	const char *tail, *why;
} bounds[] = {
		{V M PATH, "m=audio 1 RTP/AVP 0\r\n", CPM_SDP_MEDIA_MAX - 1, "",
				"too-many-media"},
		{V M PATH, "a=x\r\n", CPM_SDP_LINES_MAX - 3, "", "too-many-lines"},
		{V M PATH, "\n", CPM_SDP_LINES_MAX - 3, "", "too-many-lines"},
		{V M PATH "s=", "x", CPM_SDP_LINE_MAX - 2, "\r\n", "line-too-long"},
};

START_TEST(bounded)
{
	struct cpm_pl in = repeat(
			bounds[_i].head, bounds[_i].one, bounds[_i].most, bounds[_i].tail);
	struct cpm_sdp sdp = parse_ok(in);
	struct cpm_diag diag;

	ck_assert_ptr_null(sdp.refused);
	in = repeat(bounds[_i].head, bounds[_i].one, bounds[_i].most + 1,
			bounds[_i].tail);
	ck_assert_int_eq(cpm_sdp_parse(in, &sdp, &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, bounds[_i].why);
}
END_TEST

START_TEST(too_long)
{
	struct cpm_pl in =
			repeat(V M PATH, "s=123456789012345678901234567890\r\n", 500, "");
	struct cpm_sdp sdp;
	struct cpm_diag diag;

	ck_assert_uint_gt(in.n, CPM_SDP_BYTES_MAX);
	ck_assert_int_eq(cpm_sdp_parse(in, &sdp, &diag), CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-long");
}
END_TEST

START_TEST(bounded_facts)
{
	struct cpm_sdp sdp = parse_ok(repeat(
			V M "a=path:", "msrp://a:1/x;tcp ", CPM_SDP_PATH_MAX, "\r\n"));

	ck_assert_ptr_null(sdp.refused);
	ck_assert_uint_eq(sdp.msrp.uris_n, CPM_SDP_PATH_MAX);
	sdp = parse_ok(repeat(
			V M "a=path:", "msrp://a:1/x;tcp ", CPM_SDP_PATH_MAX + 1, "\r\n"));
	ck_assert_str_eq(sdp.refused, "bad-path");

	sdp = parse_ok(repeat(V M PATH, "a=fingerprint:sha-1 AB\r\n", 40, ""));
	ck_assert_ptr_null(sdp.refused);
	ck_assert_uint_eq(sdp.msrp.fingerprints_n, CPM_SDP_FINGERPRINTS_MAX);

	sdp = parse_ok(repeat(V M PATH "a=fingerprint:sha-512 AB", ":CD",
			CPM_SDP_DIGEST_MAX - 1, "\r\n"));
	ck_assert_ptr_null(sdp.refused);
	sdp = parse_ok(repeat(V M PATH "a=fingerprint:sha-512 AB", ":CD",
			CPM_SDP_DIGEST_MAX, "\r\n"));
	ck_assert_str_eq(sdp.refused, "bad-fingerprint");

	sdp = parse_ok(repeat(V M PATH "a=accept-types:", "a/b ",
			CPM_SDP_TYPES_MAX - 1, "text/plain\r\n"));
	ck_assert(
			cpm_sdp_accepts(&sdp.msrp, CPM_PL_LIT("text/plain"), CPM_PL_NULL));
	sdp = parse_ok(repeat(V M PATH "a=accept-types:", "a/b ", CPM_SDP_TYPES_MAX,
			"text/plain\r\n"));
	ck_assert(
			!cpm_sdp_accepts(&sdp.msrp, CPM_PL_LIT("text/plain"), CPM_PL_NULL));

	sdp = parse_ok(repeat(V "c=IN IP4 ", "a", 255, "\r\n" M PATH));
	ck_assert_uint_eq(sdp.msrp.address.n, 255);

	sdp = parse_ok(repeat(V "o=- ", "1", 64, " 2 IN IP4 a\r\n" M PATH));
	ck_assert_uint_eq(sdp.sess_id.n, 64);
	ck_assert_int_eq(
			cpm_sdp_parse(repeat(V "o=- ", "1", 65, " 2 IN IP4 a\r\n" M PATH),
					&sdp, NULL),
			CPM_EPROTO);
}
END_TEST

/* ---- types ---- */

static const struct
{
	const char *types, *wrapped_types; /* NULL: no such line */
	const char *type, *wrapped;
	bool ok;
} types[] = {
		{"text/plain", NULL, "text/plain", "", true},
		{"text/plain", NULL, "Text/Plain;charset=UTF-8", "", true},
		{"TEXT/PLAIN", NULL, "text/plain ; x=y", "", true},
		{"text/plain", NULL, "text/plainer", "", false},
		{"text/plain", NULL, "text/html", "", false},
		{"image/png text/plain", NULL, "text/plain", "", true},
		{"image/png  \ttext/plain", NULL, "text/plain", "", true},
		{"text/*", NULL, "text/html", "", true},
		{"text/*", NULL, "textual/html", "", false},
		{"text/*", NULL, "image/png", "", false},
		{"*", NULL, "image/png", "", true},
		{"*/*", NULL, "image/png", "", true},
		{"/*", NULL, "image/png", "", false},
		{"text/plain;charset=utf-8", NULL, "text/plain", "", true},
		{NULL, NULL, "image/png", "", true},
		{"", NULL, "image/png", "", true},
		{"message/cpim", "*", "message/cpim", "text/plain", true},
		{"message/cpim", "text/*", "message/cpim", "text/plain", true},
		{"message/cpim", "text/html", "message/cpim", "text/plain", false},
		{"message/cpim", "text/html", "message/cpim", "", true},
		{"message/cpim text/plain", "text/html", "message/cpim",
				"text/plain;charset=utf-8", true},
		{"message/cpim", NULL, "message/cpim", "text/plain", true},
		{"message/cpim", "", "message/cpim", "text/plain", true},
		/* a type that may only come wrapped */
		{"message/cpim", "text/plain", "text/plain", "", false},
		{"text/plain", "*", "message/cpim", "text/plain", false},
};

START_TEST(accepted)
{
	char text[512];
	struct cpm_sdp sdp;
	struct cpm_wr w;

	cpm_wr_init(&w, text, sizeof(text));
	cpm_wr_str(&w, V M PATH);
	if(types[_i].types) {
		cpm_wr_str(&w, "a=accept-types:");
		cpm_wr_str(&w, types[_i].types);
		cpm_wr_str(&w, "\r\n");
	}
	if(types[_i].wrapped_types) {
		cpm_wr_str(&w, "a=accept-wrapped-types:");
		cpm_wr_str(&w, types[_i].wrapped_types);
		cpm_wr_str(&w, "\r\n");
	}
	sdp = parse_ok(cpm_wr_pl(&w));
	ck_assert_ptr_null(sdp.refused);
	ck_assert_int_eq(cpm_sdp_accepts(&sdp.msrp, cpm_pl_str(types[_i].type),
							 cpm_pl_str(types[_i].wrapped)),
			types[_i].ok);
}
END_TEST

/* ---- who connects ---- */

#define NONE CPM_SDP_SETUP_NONE
#define ACT CPM_SDP_SETUP_ACTIVE
#define PAS CPM_SDP_SETUP_PASSIVE
#define APS CPM_SDP_SETUP_ACTPASS
#define HLD CPM_SDP_SETUP_HOLDCONN
#define OFFERER CPM_SDP_CONNECTS_OFFERER
#define ANSWERER CPM_SDP_CONNECTS_ANSWERER
#define NOBODY CPM_SDP_CONNECTS_NOBODY

static const struct
{
	enum cpm_sdp_setup offer, answer;
	enum cpm_sdp_connects who;
	const char *why; /* NULL: valid */
} setups[] = {
		{NONE, NONE, OFFERER, NULL},
		{NONE, PAS, OFFERER, NULL},
		{NONE, ACT, NOBODY, "setup-conflict"},
		{NONE, APS, NOBODY, "setup-actpass"},
		{NONE, HLD, NOBODY, NULL},
		{ACT, NONE, OFFERER, NULL},
		{ACT, PAS, OFFERER, NULL},
		{ACT, ACT, NOBODY, "setup-conflict"},
		{ACT, APS, NOBODY, "setup-actpass"},
		{ACT, HLD, NOBODY, NULL},
		{PAS, NONE, OFFERER, NULL},
		{PAS, ACT, ANSWERER, NULL},
		{PAS, PAS, NOBODY, "setup-conflict"},
		{PAS, APS, NOBODY, "setup-actpass"},
		{PAS, HLD, NOBODY, NULL},
		{APS, NONE, OFFERER, NULL},
		{APS, ACT, ANSWERER, NULL},
		{APS, PAS, OFFERER, NULL},
		{APS, APS, NOBODY, "setup-actpass"},
		{APS, HLD, NOBODY, NULL},
		{HLD, HLD, NOBODY, NULL},
		{HLD, NONE, NOBODY, "setup-conflict"},
		{HLD, ACT, NOBODY, "setup-conflict"},
		{HLD, PAS, NOBODY, "setup-conflict"},
		{HLD, APS, NOBODY, "setup-actpass"},
};

START_TEST(connector)
{
	enum cpm_sdp_connects who = (enum cpm_sdp_connects)77;
	struct cpm_diag diag = {.why = ""};
	int rc =
			cpm_sdp_connector(setups[_i].offer, setups[_i].answer, &who, &diag);

	if(setups[_i].why) {
		ck_assert_int_eq(rc, CPM_EPROTO);
		ck_assert_str_eq(diag.why, setups[_i].why);
		ck_assert_int_eq((int)who, 77);
	} else {
		ck_assert_int_eq(rc, CPM_OK);
		ck_assert_int_eq(who, setups[_i].who);
	}
}
END_TEST

START_TEST(our_setup_fits)
{
	static const enum cpm_sdp_setup offers[] = {NONE, ACT, PAS, APS, HLD};

	for(size_t i = 0; i < FU_N(offers); i++) {
		for(int active = 0; active < 2; active++) {
			enum cpm_sdp_setup ours = cpm_sdp_answer_setup(offers[i], active);
			enum cpm_sdp_connects who;

			ck_assert_int_eq(
					cpm_sdp_connector(offers[i], ours, &who, NULL), CPM_OK);
			if(offers[i] == APS)
				ck_assert_int_eq(who, active ? ANSWERER : OFFERER);
		}
	}
	ck_assert_int_eq(cpm_sdp_answer_setup(NONE, true), NONE);
}
END_TEST

/* ---- direction ---- */

START_TEST(directions)
{
	enum cpm_sdp_dir s = CPM_SDP_SENDONLY, r = CPM_SDP_RECVONLY;
	enum cpm_sdp_dir both = CPM_SDP_SENDRECV, off = CPM_SDP_INACTIVE;

	ck_assert_int_eq(cpm_sdp_dir_reverse(s), r);
	ck_assert_int_eq(cpm_sdp_dir_reverse(r), s);
	ck_assert_int_eq(cpm_sdp_dir_reverse(both), both);
	ck_assert_int_eq(cpm_sdp_dir_reverse(off), off);
	ck_assert_int_eq(cpm_sdp_answer_dir(s, both), r);
	ck_assert_int_eq(cpm_sdp_answer_dir(r, both), s);
	ck_assert_int_eq(cpm_sdp_answer_dir(both, s), s);
	ck_assert_int_eq(cpm_sdp_answer_dir(both, both), both);
	ck_assert_int_eq(cpm_sdp_answer_dir(s, s), off);
	ck_assert_int_eq(cpm_sdp_answer_dir(off, both), off);
}
END_TEST

/* ---- written ---- */

static const struct cpm_sdp_desc push = {
		.sess_id = 7,
		.sess_version = 1,
		.address = {"192.0.2.1", 9},
		.port = 2855,
		.path = {"msrp://192.0.2.1:2855/x;tcp", 27},
		.accept_types = {"message/cpim", 12},
		.accept_wrapped_types = {"*", 1},
		.dir = CPM_SDP_SENDONLY,
		.setup = CPM_SDP_SETUP_ACTPASS,
};

static struct cpm_pl offer_of(
		const struct cpm_sdp_desc *desc, char *buf, size_t cap)
{
	struct cpm_diag diag = {.why = ""};
	struct cpm_wr w;

	cpm_wr_init(&w, buf, cap);
	ck_assert_msg(cpm_sdp_offer(desc, &w, &diag) == CPM_OK, "%s", diag.why);
	return cpm_wr_pl(&w);
}

START_TEST(push_offer)
{
	char buf[1024];

	ck_pl_eq(offer_of(&push, buf, sizeof(buf)),
			"v=0\r\no=- 7 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n"
			"t=0 0\r\nm=message 2855 TCP/MSRP *\r\na=sendonly\r\n"
			"a=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\n"
			"a=setup:actpass\r\na=path:msrp://192.0.2.1:2855/x;tcp\r\n");
}
END_TEST

START_TEST(whole_offer)
{
	char buf[1024];
	struct cpm_sdp_desc d = push;

	d.tls = true;
	d.address = CPM_PL_LIT("2001:db8::1");
	d.path = CPM_PL_LIT("msrps://r.example.org:1/a;tcp msrps://[::1]:2/b;tcp");
	d.accept_wrapped_types = CPM_PL_NULL;
	d.max_size = 1000;
	d.dir = CPM_SDP_SENDRECV;
	d.setup = CPM_SDP_SETUP_NONE;
	d.conn = CPM_SDP_CONN_NEW;
	d.fingerprint.hash = CPM_PL_LIT("sha-256");
	d.fingerprint.hex = CPM_PL_LIT("AB:CD");
	ck_pl_eq(offer_of(&d, buf, sizeof(buf)),
			"v=0\r\no=- 7 1 IN IP6 2001:db8::1\r\ns=-\r\n"
			"c=IN IP6 2001:db8::1\r\nt=0 0\r\nm=message 2855 TCP/TLS/MSRP *\r\n"
			"a=sendrecv\r\na=accept-types:message/cpim\r\na=max-size:1000\r\n"
			"a=connection:new\r\na=fingerprint:sha-256 AB:CD\r\n"
			"a=path:msrps://r.example.org:1/a;tcp msrps://[::1]:2/b;tcp\r\n");
}
END_TEST

/* What is written is what a reader sees. */
START_TEST(read_back)
{
	char buf[1024];
	struct cpm_sdp_desc d = push;
	struct cpm_sdp sdp;

	for(int dir = 0; dir < 4; dir++) {
		for(int setup = 0; setup < 5; setup++) {
			d.dir = (enum cpm_sdp_dir)dir;
			d.setup = (enum cpm_sdp_setup)setup;
			d.tls = setup & 1;
			sdp = parse_ok(offer_of(&d, buf, sizeof(buf)));
			ck_assert_ptr_null(sdp.refused);
			ck_assert_int_eq((int)sdp.msrp.dir, dir);
			ck_assert_int_eq((int)sdp.msrp.setup, setup);
			ck_assert_int_eq(sdp.msrp.tls, d.tls);
			ck_assert_uint_eq(sdp.msrp.port, d.port);
			ck_pl_same(sdp.msrp.path, d.path);
			ck_pl_same(sdp.msrp.address, d.address);
			ck_pl_same(sdp.msrp.accept_types, d.accept_types);
			ck_pl_eq(sdp.sess_id, "7");
		}
	}
}
END_TEST

static int rebuild(struct cpm_pl in, struct cpm_wr *w)
{
	struct cpm_sdp_desc d = push;
	struct cpm_sdp sdp;
	int rc = cpm_sdp_parse(in, &sdp, NULL);

	if(rc != CPM_OK)
		return rc;
	if(sdp.refused)
		return CPM_EPROTO;
	d.address = sdp.msrp.address;
	d.port = sdp.msrp.port;
	d.tls = sdp.msrp.tls;
	d.path = sdp.msrp.path;
	d.accept_types = sdp.msrp.accept_types;
	d.accept_wrapped_types = sdp.msrp.accept_wrapped_types;
	d.max_size = sdp.msrp.max_size;
	d.dir = sdp.msrp.dir;
	d.setup = sdp.msrp.setup;
	d.conn = sdp.msrp.conn;
	d.fingerprint = sdp.msrp.fingerprints[0];
	return cpm_sdp_offer(&d, w, NULL);
}

START_TEST(round_trips)
{
	struct cpm_pl in = fu_slurp(files[_i]);

	round_trip(rebuild, in, CPM_PL_NULL);
	fu_free(&in);
}
END_TEST

START_TEST(answer_keeps_lines)
{
	struct cpm_pl in = fu_slurp("sdp-offer-many-media.sdp");
	struct cpm_sdp sdp = parse_ok(in), again;
	struct cpm_sdp_desc d = push;
	char buf[2048];
	struct cpm_wr w;

	d.setup = cpm_sdp_answer_setup(sdp.msrp.setup, false);
	d.dir = cpm_sdp_answer_dir(sdp.msrp.dir, CPM_SDP_SENDRECV);
	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_sdp_answer(&d, &sdp, &w, NULL), CPM_OK);
	ck_pl_eq(cpm_wr_pl(&w),
			"v=0\r\no=- 7 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n"
			"t=0 0\r\nm=audio 0 RTP/AVP 0 8\r\nm=message 0 msrp/tcp *\r\n"
			"m=message 0 TCP/MSRP *\r\nm=message 2855 TCP/MSRP *\r\n"
			"a=recvonly\r\na=accept-types:message/cpim\r\n"
			"a=accept-wrapped-types:*\r\na=setup:passive\r\n"
			"a=path:msrp://192.0.2.1:2855/x;tcp\r\n"
			"m=message 0 TCP/MSRP *\r\n");
	again = parse_ok(cpm_wr_pl(&w));
	ck_assert_uint_eq(again.msrp.index, sdp.msrp.index);
	ck_assert_uint_eq(again.lines_n, sdp.lines_n);
	fu_free(&in);
}
END_TEST

START_TEST(no_answer_to_that)
{
	struct cpm_sdp sdp = parse_str(V "m=message 2855 msrp/tcp *\r\n" PATH);
	struct cpm_sdp_desc d = push;
	struct cpm_diag diag;
	char buf[1024];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_sdp_answer(&d, &sdp, &w, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, "proto");
	sdp = parse_str(V M PATH);
	d.tls = true;
	ck_assert_int_eq(cpm_sdp_answer(&d, &sdp, &w, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, "proto");
	ck_assert_uint_eq(w.n, 0);
}
END_TEST

/* Every buffer that is too small is found out, and not overrun. */
START_TEST(small_buffers)
{
	char whole[1024];
	struct cpm_pl text = offer_of(&push, whole, sizeof(whole));
	struct cpm_sdp sdp = parse_ok(text);

	for(size_t cap = 0; cap <= text.n; cap++) {
		char *buf = guard_dup(whole, cap);
		struct cpm_diag diag = {.why = ""};
		struct cpm_wr w;
		int want = cap < text.n ? CPM_ENOMEM : CPM_OK;

		cpm_wr_init(&w, buf, cap);
		ck_assert_int_eq(cpm_sdp_offer(&push, &w, &diag), want);
		ck_assert_str_eq(diag.why, want ? "no-room" : "");
		cpm_wr_init(&w, buf, cap);
		ck_assert_int_eq(cpm_sdp_answer(&push, &sdp, &w, &diag), want);
		guard_free(buf, cap);
	}
}
END_TEST

enum field
{
	ADDRESS,
	PORT,
	URIS,
	TYPES,
	WRAPPED,
	HASH,
	HEX,
};

static const struct
{
	enum field field;
	const char *value;
	const char *why;
} unfit[] = {
		{ADDRESS, "", "bad-address"},
		{ADDRESS, "192.0.2.1\r\na=inactive", "bad-address"},
		{ADDRESS, "192.0.2.1 x", "bad-address"},
		{PORT, "", "bad-port"},
		{URIS, "", "bad-path"},
		{URIS, "msrp://a;tcp\r\na=inactive", "bad-path"},
		{URIS, "msrp://a;tcp  msrp://b;tcp", "bad-path"},
		{URIS, "sip:bob@example.org", "bad-path"},
		{TYPES, "", "bad-types"},
		{TYPES, "text/plain\r\na=inactive", "bad-types"},
		{TYPES, "text/plain\n", "bad-types"},
		{WRAPPED, " *", "bad-types"},
		{WRAPPED, "*\na=inactive", "bad-types"},
		{HASH, "sha 1", "bad-fingerprint"},
		{HEX, "AB:C", "bad-fingerprint"},
		{HEX, "AB\r\n", "bad-fingerprint"},
};

START_TEST(unfit_facts)
{
	struct cpm_sdp_desc d = push;
	struct cpm_pl v = cpm_pl_str(unfit[_i].value);
	struct cpm_diag diag = {.why = ""};
	char buf[1024];
	struct cpm_wr w;

	d.fingerprint.hash = CPM_PL_LIT("sha-1");
	d.fingerprint.hex = CPM_PL_LIT("AB:CD");
	switch(unfit[_i].field) {
		case ADDRESS:
			d.address = v;
			break;
		case PORT:
			d.port = 65536;
			break;
		case URIS:
			d.path = v;
			break;
		case TYPES:
			d.accept_types = v;
			break;
		case WRAPPED:
			d.accept_wrapped_types = v;
			break;
		case HASH:
			d.fingerprint.hash = v;
			break;
		case HEX:
			d.fingerprint.hex = v;
			break;
	}
	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_sdp_offer(&d, &w, &diag), CPM_EPROTO);
	ck_assert_str_eq(diag.why, unfit[_i].why);
	ck_assert_uint_eq(w.n, 0);
}
END_TEST

/* ---- offer and answer ---- */

#define ANSWER(port, proto, rest) \
	V "m=message " port " " proto " *\r\n" PATH rest

static const struct
{
	const char *text;
	const char *why; /* NULL: valid */
	enum cpm_sdp_connects connects;
	enum cpm_sdp_dir dir;
} answers[] = {
		{ANSWER("9", "TCP/MSRP", "a=recvonly\r\na=setup:active\r\n"), NULL,
				ANSWERER, CPM_SDP_SENDONLY},
		{ANSWER("9", "TCP/MSRP", "a=recvonly\r\na=setup:passive\r\n"), NULL,
				OFFERER, CPM_SDP_SENDONLY},
		{ANSWER("9", "TCP/MSRP", "a=recvonly\r\n"), NULL, OFFERER,
				CPM_SDP_SENDONLY},
		{ANSWER("9", "TCP/MSRP", ""), NULL, OFFERER, CPM_SDP_SENDONLY},
		{ANSWER("9", "TCP/MSRP", "a=sendrecv\r\n"), NULL, OFFERER,
				CPM_SDP_SENDONLY},
		{ANSWER("9", "TCP/MSRP", "a=sendonly\r\n"), NULL, OFFERER,
				CPM_SDP_INACTIVE},
		{ANSWER("9", "TCP/MSRP", "a=inactive\r\n"), NULL, OFFERER,
				CPM_SDP_INACTIVE},
		{ANSWER("9", "TCP/MSRP", "a=setup:holdconn\r\n"), NULL, NOBODY,
				CPM_SDP_SENDONLY},
		{ANSWER("9", "TCP/MSRP", "a=setup:actpass\r\n"), "setup-actpass",
				NOBODY, CPM_SDP_INACTIVE},
		{ANSWER("0", "TCP/MSRP", ""), "rejected", NOBODY, CPM_SDP_INACTIVE},
		{ANSWER("0", "msrp/tcp", ""), "rejected", NOBODY, CPM_SDP_INACTIVE},
		{ANSWER("9", "TCP/TLS/MSRP", ""), "proto", NOBODY, CPM_SDP_INACTIVE},
		{ANSWER("9", "msrp/tcp", ""), "proto", NOBODY, CPM_SDP_INACTIVE},
		{V M, "no-path", NOBODY, CPM_SDP_INACTIVE},
		{V M PATH M PATH, "line-count", NOBODY, CPM_SDP_INACTIVE},
		{V "m=audio 1 RTP/AVP 0\r\n", "no-message", NOBODY, CPM_SDP_INACTIVE},
};

START_TEST(agreement)
{
	struct cpm_sdp sdp = parse_str(answers[_i].text);
	struct cpm_diag diag = {.why = ""};
	struct cpm_sdp_agreed agreed, before;
	int rc;

	memset(&agreed, 0x5a, sizeof(agreed));
	memcpy(&before, &agreed, sizeof(agreed));
	rc = cpm_sdp_agree(&push, &sdp, &agreed, &diag);
	if(answers[_i].why) {
		ck_assert_int_eq(rc, CPM_EPROTO);
		ck_assert_str_eq(diag.why, answers[_i].why);
		ck_assert_mem_eq(&agreed, &before, sizeof(agreed));
		return;
	}
	ck_assert_int_eq(rc, CPM_OK);
	ck_assert_int_eq(agreed.connects, answers[_i].connects);
	ck_assert_int_eq(agreed.dir, answers[_i].dir);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_sdp");

	fu_case(s, "the offer of RFC 4975 is read", rfc_example);
	fu_case(s, "a chat client goes active and only receives", chat_client);
	fu_case(s, "a client behind a relay, with TLS, is known by its certificate",
			relay_and_tls);
	fu_case(s, "of many m= lines the first that can be MSRP is taken",
			many_media);
	fu_table(s, "half a description is never read past its end", prefixes,
			FU_N(files));
	fu_table(s, "a changed byte harms nobody", flipped, FU_N(files));
	fu_case(s, "the session speaks where the medium is silent", levels);
	fu_case(s, "of an attribute that comes twice the first counts",
			first_counts);
	fu_table(s, "what clients get wrong is read all the same", tolerance,
			FU_N(tolerated));
	fu_table(s, "a medium that can be no session says why", refused,
			FU_N(refusals));
	fu_table(s, "what is no description is refused", not_sdp, FU_N(bad));
	fu_case(s, "a NUL is refused", nul_byte);
	fu_table(
			s, "all that a peer can repeat has a bound", bounded, FU_N(bounds));
	fu_case(s, "a description has a bound", too_long);
	fu_case(s, "facts have bounds", bounded_facts);
	fu_table(s, "a type is accepted as it is, by a wildcard, or wrapped",
			accepted, FU_N(types));
	fu_table(
			s, "offer and answer decide who connects", connector, FU_N(setups));
	fu_case(s, "our own a=setup fits every offer", our_setup_fits);
	fu_case(s, "an answer never has more direction than the offer", directions);
	fu_case(s, "a push offers what the profile says", push_offer);
	fu_case(s, "an offer can have everything", whole_offer);
	fu_case(s, "what is written is read back", read_back);
	fu_table(s, "descriptions survive a round trip", round_trips, FU_N(files));
	fu_case(s, "an answer keeps the m= lines and refuses the others",
			answer_keeps_lines);
	fu_case(s, "what cannot be MSRP gets no answer", no_answer_to_that);
	fu_case(s, "a small buffer is not overrun", small_buffers);
	fu_table(s, "no fact brings a line of its own", unfit_facts, FU_N(unfit));
	fu_table(s, "an answer is judged by its offer", agreement, FU_N(answers));
	return fu_run(s);
}
