/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_pn.c - RFC 8599, section 14:
 *
 *     uri-parameter   =/ pn-provider / pn-param / pn-prid ...
 *     pn-provider      = "pn-provider" [EQUAL pvalue]
 *     pn-param         = "pn-param" EQUAL pvalue
 *     pn-prid          = "pn-prid" EQUAL pvalue
 */

#include "cpm_pn.h"

#define HEAD "cpm-push 1 "

static bool is_visible(struct cpm_pl a)
{
	size_t i;

	for(i = 0; i < a.n; i++) {
		if(a.p[i] <= 0x20 || a.p[i] >= 0x7f) {
			return false;
		}
	}
	return true;
}

static bool value_ok(struct cpm_pl a, bool may_be_empty)
{
	return (a.n > 0 || may_be_empty) && a.n <= CPM_PN_VALUE_MAX
		   && is_visible(a);
}

/* ---------------------------------------------------------------- contact */

/* CPM_OK and *v_r, in w. */
static int decode(struct cpm_wr *w, struct cpm_pl in, struct cpm_pl *v_r)
{
	size_t from = w->n;
	struct cpm_pl v;
	size_t i;

	for(i = 0; i < in.n; i++) {
		int hi = -1;
		int lo = -1;

		if(in.p[i] == '%') {
			if(in.n - i > 2) {
				hi = cpm_hex_value(in.p[i + 1]);
				lo = cpm_hex_value(in.p[i + 2]);
			}
			if(hi < 0 || lo < 0) {
				return CPM_EPROTO;
			}
			cpm_wr_chr(w, (char)(hi * 16 + lo));
			i += 2;
		} else {
			cpm_wr_chr(w, in.p[i]);
		}
	}
	if(w->n - from > CPM_PN_VALUE_MAX || !cpm_wr_ok(w)) {
		return CPM_ELIMIT;
	}
	v = cpm_pl(w->buf + from, w->n - from);
	if(!is_visible(v)) {
		return CPM_EPROTO;
	}
	*v_r = v;
	return CPM_OK;
}

/* What is behind the first ';' that is none of the user's, up to the headers.
 * '@' stands in no parameter (RFC 3261, 25.1). */
static struct cpm_pl params_of(struct cpm_pl uri)
{
	size_t at = cpm_pl_chr(uri, '@');

	if(at < uri.n) {
		uri = cpm_pl_from(uri, at + 1);
	}
	uri.n = cpm_pl_chr(uri, '?');
	(void)cpm_pl_cut(&uri, ';');
	return uri;
}

int cpm_pn_of_uri(struct cpm_pl uri, char *buf, size_t cap, struct cpm_pn *pn_r)
{
	struct cpm_pl v[3] = {CPM_PL_NULL, CPM_PL_NULL, CPM_PL_NULL};
	static const char *const names[] = {"pn-provider", "pn-param", "pn-prid"};
	struct cpm_pl params = params_of(uri);
	struct cpm_wr w;
	size_t i;
	int rc;

	cpm_wr_init(&w, buf, cap);
	while(params.p != NULL) {
		struct cpm_pl value = cpm_pl_cut(&params, ';');
		struct cpm_pl name = cpm_pl_cut(&value, '=');

		for(i = 0; i < 3; i++) {
			if(!cpm_pl_ieq(name, cpm_pl_str(names[i]))) {
				continue;
			}
			if(v[i].p != NULL) {
				return CPM_EPROTO;
			}
			rc = decode(&w, value, &v[i]);
			if(rc != CPM_OK) {
				return rc;
			}
		}
	}
	if(v[0].n == 0 || v[2].n == 0) {
		return CPM_ENOENT;
	}
	pn_r->provider = v[0];
	pn_r->param = v[1];
	pn_r->prid = v[2];
	return CPM_OK;
}

struct cpm_pl cpm_pn_instance(struct cpm_pl instance)
{
	if(instance.n >= 2 && instance.p[0] == '<'
			&& instance.p[instance.n - 1] == '>') {
		instance = cpm_pl(instance.p + 1, instance.n - 2);
	}
	if(instance.n > CPM_PN_INSTANCE_MAX || !is_visible(instance)
			|| cpm_pl_eq(instance, CPM_PL_LIT("-"))) {
		return CPM_PL_NULL;
	}
	return instance;
}

/* ---------------------------------------------------------------- devices */

bool cpm_pn_eq(const struct cpm_pn *a, const struct cpm_pn *b)
{
	return cpm_pl_eq(a->provider, b->provider) && cpm_pl_eq(a->param, b->param)
		   && cpm_pl_eq(a->prid, b->prid);
}

/* No value has a space. */
static uint64_t target_hash(uint64_t h, const struct cpm_pn *pn)
{
	h = cpm_hash64(h, pn->provider);
	h = cpm_hash64(h, CPM_PL_LIT(" "));
	h = cpm_hash64(h, pn->param);
	h = cpm_hash64(h, CPM_PL_LIT(" "));
	return cpm_hash64(h, pn->prid);
}

uint64_t cpm_pn_hash(const struct cpm_pn_device *d)
{
	uint64_t h = cpm_hash64(CPM_HASH_INIT, d->instance);

	return target_hash(cpm_hash64(h, CPM_PL_LIT(" ")), &d->pn);
}

bool cpm_pn_same_client(
		const struct cpm_pn_device *a, const struct cpm_pn_device *b)
{
	if(a->instance.n > 0 && b->instance.n > 0) {
		return cpm_pl_eq(a->instance, b->instance);
	}
	return a->pn.prid.n > 0 && cpm_pn_eq(&a->pn, &b->pn);
}

static void instance_put(struct cpm_wr *w, struct cpm_pl instance)
{
	cpm_wr_pl_put(w, instance.n > 0 ? instance : CPM_PL_LIT("-"));
}

static void target_put(struct cpm_wr *w, const struct cpm_pn *pn)
{
	cpm_wr_pl_put(w, pn->provider);
	cpm_wr_str(w, " =");
	cpm_wr_pl_put(w, pn->param);
	cpm_wr_chr(w, ' ');
	cpm_wr_pl_put(w, pn->prid);
}

void cpm_pn_field_put(struct cpm_wr *w, const struct cpm_pn_device *d)
{
	instance_put(w, d->instance);
	cpm_wr_chr(w, ' ');
	cpm_wr_hex64(w, target_hash(CPM_HASH_INIT, &d->pn));
}

void cpm_pn_value_put(struct cpm_wr *w, const struct cpm_pn_device *d)
{
	cpm_wr_u64(w, d->seen_ms);
	cpm_wr_chr(w, ' ');
	target_put(w, &d->pn);
}

/* "<provider> =<param> <prid>" */
static bool target_parse(struct cpm_pl text, struct cpm_pn *pn_r)
{
	struct cpm_pn pn;
	struct cpm_pl param;

	pn.provider = cpm_pl_cut(&text, ' ');
	param = cpm_pl_cut(&text, ' ');
	pn.prid = text;
	if(param.n == 0 || param.p[0] != '=') {
		return false;
	}
	pn.param = cpm_pl_from(param, 1);
	if(!value_ok(pn.provider, false) || !value_ok(pn.param, true)
			|| !value_ok(pn.prid, false)) {
		return false;
	}
	*pn_r = pn;
	return true;
}

static bool instance_parse(struct cpm_pl text, struct cpm_pl *instance_r)
{
	if(cpm_pl_eq(text, CPM_PL_LIT("-"))) {
		*instance_r = CPM_PL_NULL;
		return true;
	}
	if(text.n == 0 || cpm_pn_instance(text).n != text.n) {
		return false;
	}
	*instance_r = text;
	return true;
}

int cpm_pn_device_parse(struct cpm_pl field, struct cpm_pl value,
		struct cpm_pn_device *device_r)
{
	struct cpm_pn_device d;

	if(!instance_parse(cpm_pl_cut(&field, ' '), &d.instance) || field.n != 16
			|| cpm_pl_u64(cpm_pl_cut(&value, ' '), UINT64_MAX, &d.seen_ms)
					   != CPM_OK
			|| !target_parse(value, &d.pn)) {
		return CPM_EPROTO;
	}
	*device_r = d;
	return CPM_OK;
}

/* -------------------------------------------------------------------- job */

int cpm_pn_job_encode(const struct cpm_pn_job *job, struct cpm_wr *w)
{
	size_t i;

	cpm_wr_str(w, HEAD);
	cpm_wr_u64(w, job->fields);
	cpm_wr_chr(w, '\n');
	if(job->address) {
		cpm_wr_str(w, "a\n");
	}
	for(i = 0; i < job->count; i++) {
		cpm_wr_str(w, "d ");
		instance_put(w, job->devices[i].instance);
		cpm_wr_chr(w, ' ');
		target_put(w, &job->devices[i].pn);
		cpm_wr_chr(w, '\n');
	}
	return cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}

static bool job_line(struct cpm_pn_job *job, struct cpm_pl line)
{
	struct cpm_pn_device *d = &job->devices[job->count];
	struct cpm_pl what = cpm_pl_cut(&line, ' ');

	if(cpm_pl_eq(what, CPM_PL_LIT("a")) && line.p == NULL) {
		job->address = true;
		return true;
	}
	if(!cpm_pl_eq(what, CPM_PL_LIT("d")) || job->count == CPM_PN_DEVICES_MAX
			|| !instance_parse(cpm_pl_cut(&line, ' '), &d->instance)
			|| !target_parse(line, &d->pn)) {
		return false;
	}
	d->seen_ms = 0;
	job->count++;
	return true;
}

int cpm_pn_job_decode(struct cpm_pl blob, struct cpm_pn_job *job_r)
{
	struct cpm_pn_job job = {0};
	struct cpm_pl line = cpm_pl_cut(&blob, '\n');
	uint64_t fields;

	if(!cpm_pl_starts(line, CPM_PL_LIT(HEAD))
			|| cpm_pl_u64(
					   cpm_pl_from(line, sizeof(HEAD) - 1), UINT32_MAX, &fields)
					   != CPM_OK) {
		return CPM_EPROTO;
	}
	while(blob.n > 0) {
		line = cpm_pl_cut(&blob, '\n');
		if(blob.p == NULL || !job_line(&job, line)) {
			return CPM_EPROTO;
		}
	}
	job.fields = (unsigned)fields;
	*job_r = job;
	return CPM_OK;
}
