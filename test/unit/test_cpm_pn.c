/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_pn.c - how a client can be woken, as it says itself and as it is
 * stored.
 */

#include "check_helpers.h"
#include "cpm_pn.h"

#define L(s) CPM_PL_LIT(s)

static const struct
{
	const char *uri;
	int rc;
	const char *provider, *param, *prid;
} uris[] = {
		{"sip:bob@192.0.2.7;pn-provider=apns;pn-param=TEAM.app;pn-prid=00fc",
				CPM_OK, "apns", "TEAM.app", "00fc"},
		{"sip:bob@192.0.2.7:5060;transport=tcp;PN-PRID=a;ob;Pn-Provider=fcm",
				CPM_OK, "fcm", "", "a"},
		{"sip:192.0.2.7;pn-provider=fcm;pn-prid=x", CPM_OK, "fcm", "", "x"},
		{"sip:b@[2001:db8::7];pn-provider=fcm;pn-prid=x?h=;pn-prid=y", CPM_OK,
				"fcm", "", "x"},
		/* parameters of the user are none of the URI */
		{"sip:+1;pn-prid=no;pn-provider=no@192.0.2.7", CPM_ENOENT, "", "", ""},
		{"sip:b@h;pn-provider=webpush;pn-param=BEZ;"
		 "pn-prid=https%3A%2F%2Fpush.example.net%2Fx%3Fy%3D1",
				CPM_OK, "webpush", "BEZ", "https://push.example.net/x?y=1"},
		{"sip:bob@192.0.2.7", CPM_ENOENT, "", "", ""},
		{"sip:bob@192.0.2.7;pn-provider", CPM_ENOENT, "", "", ""},
		{"sip:bob@192.0.2.7;pn-provider=apns", CPM_ENOENT, "", "", ""},
		{"sip:bob@192.0.2.7;pn-prid=00fc", CPM_ENOENT, "", "", ""},
		{"sip:b@h;pn-provider=apns;pn-prid=", CPM_ENOENT, "", "", ""},
		{"", CPM_ENOENT, "", "", ""},
		{"sip:b@h;pn-provider=apns;pn-prid=a;pn-prid=b", CPM_EPROTO, "", "",
				""},
		{"sip:b@h;pn-provider=apns;pn-prid=a%0d%0aX", CPM_EPROTO, "", "", ""},
		{"sip:b@h;pn-provider=apns;pn-prid=a%20b", CPM_EPROTO, "", "", ""},
		{"sip:b@h;pn-provider=apns;pn-prid=a%00", CPM_EPROTO, "", "", ""},
		{"sip:b@h;pn-provider=apns;pn-prid=%ff", CPM_EPROTO, "", "", ""},
		{"sip:b@h;pn-provider=apns;pn-prid=a%4", CPM_EPROTO, "", "", ""},
		{"sip:b@h;pn-provider=apns;pn-prid=%zz", CPM_EPROTO, "", "", ""},
};

START_TEST(uri)
{
	struct cpm_pl in = cpm_pl_str(uris[_i].uri);
	char *copy = guard_dup(in.p, in.n);
	char buf[CPM_PN_TEXT_MAX];
	struct cpm_pn pn = {CPM_PL_NULL, CPM_PL_NULL, CPM_PL_NULL};

	ck_assert_int_eq(cpm_pn_of_uri(cpm_pl(copy, in.n), buf, sizeof(buf), &pn),
			uris[_i].rc);
	guard_free(copy, in.n);
	ck_pl_eq(pn.provider, uris[_i].provider);
	ck_pl_eq(pn.param, uris[_i].param);
	ck_pl_eq(pn.prid, uris[_i].prid);
}
END_TEST

START_TEST(long_value)
{
	char text[CPM_PN_VALUE_MAX + 100];
	char buf[CPM_PN_TEXT_MAX];
	struct cpm_pn pn;
	struct cpm_wr w;
	int extra;
	size_t i;

	for(extra = 0; extra < 2; extra++) {
		cpm_wr_init(&w, text, sizeof(text));
		cpm_wr_str(&w, "sip:b@h;pn-provider=apns;pn-prid=");
		for(i = 0; i < CPM_PN_VALUE_MAX + (size_t)extra; i++) {
			cpm_wr_chr(&w, 'x');
		}
		ck_assert_int_eq(cpm_pn_of_uri(cpm_wr_pl(&w), buf, sizeof(buf), &pn),
				extra ? CPM_ELIMIT : CPM_OK);
	}
}
END_TEST

START_TEST(instance)
{
	ck_pl_eq(cpm_pn_instance(L("<urn:uuid:1>")), "urn:uuid:1");
	ck_pl_eq(cpm_pn_instance(L("urn:uuid:1")), "urn:uuid:1");
	ck_pl_eq(cpm_pn_instance(L("<>")), "");
	ck_pl_eq(cpm_pn_instance(L("-")), "");
	ck_pl_eq(cpm_pn_instance(L("<a b>")), "");
	ck_pl_eq(cpm_pn_instance(L("<a\nb>")), "");
	ck_pl_eq(cpm_pn_instance(CPM_PL_NULL), "");
}
END_TEST

static const struct cpm_pn_device devices[] = {
		{L("urn:uuid:1"), {L("apns"), L("app"), L("aa")}, 1289690940123},
		{CPM_PL_NULL, {L("fcm"), CPM_PL_NULL, L("-")}, 0},
		{L("urn:uuid:2"), {L("webpush"), L("-"), L("https://x/?=%")}, 1},
};

START_TEST(device)
{
	const struct cpm_pn_device *d = &devices[_i];
	char field[CPM_PN_FIELD_MAX];
	char value[CPM_PN_TEXT_MAX];
	struct cpm_pn_device got;
	struct cpm_wr f, v;

	cpm_wr_init(&f, field, sizeof(field));
	cpm_wr_init(&v, value, sizeof(value));
	cpm_pn_field_put(&f, d);
	cpm_pn_value_put(&v, d);
	ck_assert(cpm_wr_ok(&f) && cpm_wr_ok(&v));
	ck_assert_int_eq(
			cpm_pn_device_parse(cpm_wr_pl(&f), cpm_wr_pl(&v), &got), CPM_OK);
	ck_pl_same(got.instance, d->instance);
	ck_assert(cpm_pn_eq(&got.pn, &d->pn));
	ck_assert_uint_eq(got.seen_ms, d->seen_ms);
	ck_assert_uint_eq(cpm_pn_hash(&got), cpm_pn_hash(d));
}
END_TEST

static const struct
{
	const char *field, *value;
} bad_devices[] = {
		{"", "1 a =b c"},
		{"i 0123456789abcde", "1 a =b c"},
		{"i", "1 a =b c"},
		{"i 0123456789abcdef", ""},
		{"i 0123456789abcdef", "x a =b c"},
		{"i 0123456789abcdef", "1 a b c"},
		{"i 0123456789abcdef", "1 a =b"},
		{"i 0123456789abcdef", "1 a =b "},
		{"i 0123456789abcdef", "1  =b c"},
		{"i 0123456789abcdef", "1 a =b c d"},
		{"i 0123456789abcdef", "1 a =b c\n"},
};

START_TEST(bad_device)
{
	struct cpm_pn_device got;

	ck_assert_int_eq(cpm_pn_device_parse(cpm_pl_str(bad_devices[_i].field),
							 cpm_pl_str(bad_devices[_i].value), &got),
			CPM_EPROTO);
}
END_TEST

START_TEST(other_target)
{
	char a[CPM_PN_FIELD_MAX], b[CPM_PN_FIELD_MAX];
	struct cpm_pn_device d = devices[0];
	struct cpm_wr wa, wb;

	cpm_wr_init(&wa, a, sizeof(a));
	cpm_pn_field_put(&wa, &d);
	ck_assert(cpm_pn_same_client(&d, &devices[0]));
	d.pn.prid = L("bb");
	cpm_wr_init(&wb, b, sizeof(b));
	cpm_pn_field_put(&wb, &d);
	ck_assert(!cpm_pl_eq(cpm_wr_pl(&wa), cpm_wr_pl(&wb)));
	ck_assert_uint_ne(cpm_pn_hash(&d), cpm_pn_hash(&devices[0]));
	ck_assert(cpm_pn_same_client(&d, &devices[0]));
	/* without an instance a client is its target */
	d.instance = CPM_PL_NULL;
	ck_assert(!cpm_pn_same_client(&d, &devices[0]));
	d.pn = devices[0].pn;
	ck_assert(cpm_pn_same_client(&d, &devices[0]));
	/* a client that cannot be woken is no other's equal */
	memset(&d, 0, sizeof(d));
	ck_assert(!cpm_pn_same_client(&d, &d));
}
END_TEST

START_TEST(job)
{
	char text[CPM_PN_JOB_MAX];
	struct cpm_pn_job in = {.fields = 5, .address = true, .count = 3};
	struct cpm_pn_job out;
	struct cpm_wr w;
	size_t i;

	memcpy(in.devices, devices, sizeof(devices));
	cpm_wr_init(&w, text, sizeof(text));
	ck_assert_int_eq(cpm_pn_job_encode(&in, &w), CPM_OK);
	ck_pl_eq(cpm_wr_pl(&w), "cpm-push 1 5\na\nd urn:uuid:1 apns =app aa\n"
							"d - fcm = -\n"
							"d urn:uuid:2 webpush =- https://x/?=%\n");
	ck_assert_int_eq(cpm_pn_job_decode(cpm_wr_pl(&w), &out), CPM_OK);
	ck_assert_uint_eq(out.fields, 5);
	ck_assert(out.address);
	ck_assert_uint_eq(out.count, 3);
	for(i = 0; i < 3; i++) {
		ck_pl_same(out.devices[i].instance, devices[i].instance);
		ck_assert(cpm_pn_eq(&out.devices[i].pn, &devices[i].pn));
	}
	w.cap = 20;
	w.n = 0;
	ck_assert_int_eq(cpm_pn_job_encode(&in, &w), CPM_ENOMEM);
}
END_TEST

START_TEST(largest_job)
{
	static char text[CPM_PN_JOB_MAX];
	static char value[CPM_PN_VALUE_MAX];
	struct cpm_pn_job in = {.fields = UINT32_MAX, .count = CPM_PN_DEVICES_MAX};
	struct cpm_pn_job out;
	struct cpm_wr w;
	size_t i;

	memset(value, 'x', sizeof(value));
	for(i = 0; i < CPM_PN_DEVICES_MAX; i++) {
		in.devices[i].instance = cpm_pl(value, CPM_PN_INSTANCE_MAX);
		in.devices[i].pn.provider = in.devices[i].pn.param =
				in.devices[i].pn.prid = cpm_pl(value, sizeof(value));
	}
	cpm_wr_init(&w, text, sizeof(text));
	ck_assert_int_eq(cpm_pn_job_encode(&in, &w), CPM_OK);
	ck_assert_int_eq(cpm_pn_job_decode(cpm_wr_pl(&w), &out), CPM_OK);
	ck_assert_uint_eq(out.count, CPM_PN_DEVICES_MAX);
}
END_TEST

static const char *const bad_jobs[] = {"", "cpm-push 1", "cpm-push 1 x\n",
		"cpm-push 2 1\na\n", "cpm-push 1 1\nb\n", "cpm-push 1 1\na x\n",
		"cpm-push 1 1\na", "cpm-push 1 1\nd - fcm = x",
		"cpm-push 1 1\nd - fcm x y\n", "cpm-push 1 1\nd\n", "CM\1\1",
		"cpm-push 1 1\nd 1 a = p\nd 2 a = p\nd 3 a = p\nd 4 a = p\n"
		"d 5 a = p\nd 6 a = p\nd 7 a = p\nd 8 a = p\nd 9 a = p\n"
		"d 10 a = p\nd 11 a = p\nd 12 a = p\nd 13 a = p\nd 14 a = p\n"
		"d 15 a = p\nd 16 a = p\nd 17 a = p\n"};

START_TEST(bad_job)
{
	struct cpm_pn_job out;

	ck_assert_int_eq(
			cpm_pn_job_decode(cpm_pl_str(bad_jobs[_i]), &out), CPM_EPROTO);
}
END_TEST

static void job_prefix(struct cpm_pl prefix, void *arg)
{
	struct cpm_pn_job out;

	(void)arg;
	(void)cpm_pn_job_decode(prefix, &out);
}

START_TEST(job_prefixes)
{
	guard_prefixes(L("cpm-push 1 5\na\nd urn:uuid:1 apns =app aa\nd - f = -\n"),
			job_prefix, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_pn");

	fu_table(s, "a Contact says how its client is woken", uri, FU_N(uris));
	fu_case(s, "a value that is too long is none", long_value);
	fu_case(s, "an instance is a word", instance);
	fu_table(s, "a client is stored and read again", device, FU_N(devices));
	fu_table(s, "what is no client is not read", bad_device, FU_N(bad_devices));
	fu_case(s, "a client with another target is the same client", other_target);
	fu_case(s, "a job is stored and read again", job);
	fu_case(s, "the largest job fits", largest_job);
	fu_table(s, "what is no job is not read", bad_job, FU_N(bad_jobs));
	fu_case(s, "a job that is cut off is read no further", job_prefixes);
	return fu_run(s);
}
