/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_aor.c - the canonical address of record: one user, one spelling.
 *
 * runs in:  anything; pure functions; one pass over the input
 *
 *     uri      = ( "sip:" / "sips:" / "im:" / "pres:" ) user [ ":" password ]
 *                "@" host [ ":" port ] *( ";" param ) [ "?" headers ]
 *              / "tel:" number *( ";" param )
 *     user     = 1*( unreserved / "%" 2HEXDIG / user-unreserved )
 *     host     = label *( "." label ) [ "." ] / "[" 2*( HEXDIG / ":" / "." ) "]"
 *     number   = "+" 1*( DIGIT / separator )
 *              / 1*( HEXDIG / "*" / "#" / separator )
 *
 * RFC 3261, 19.1.4 does not equate "%2B1" with "+1", as "+" is reserved. We
 * do: a user part has no structure in which a reserved character and its
 * escape could differ, and proxies on the way undo escapes as they like.
 */

#include "cpm_aor.h"
#include "cpm_wr.h"

#define HOST_MAX 253
#define LABEL_MAX 63
#define IPV6_MAX 45

/* One canonicalisation: where the input starts, and what to tell of it. */
struct canon
{
	struct cpm_pl uri;
	struct cpm_wr out;
	struct cpm_diag diag;
};

static int fail(struct canon *c, int rc, const char *why, const char *at)
{
	c->diag.why = why;
	c->diag.at = at ? (size_t)(at - c->uri.p) : 0;
	return rc;
}

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')
		   || (c >= 'A' && c <= 'Z');
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Never strchr(set, c) alone: it finds the NUL that ends the set. */
static bool is_in(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

/* unreserved or user-unreserved: may stand in a user part as it is */
static bool is_user_chr(char c)
{
	return is_alnum(c) || is_in(c, "-_.!~*'()&=+$,;?/");
}

static bool is_separator(char c)
{
	return is_in(c, "-.()");
}

/* The octet that "%XX" at the front of a tells, or -1. */
static int escaped(struct cpm_pl a)
{
	int hi, lo;

	if(a.n < 3 || a.p[0] != '%')
		return -1;
	hi = cpm_hex_value(a.p[1]);
	lo = cpm_hex_value(a.p[2]);
	return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

static void put_escaped(struct cpm_wr *w, int octet)
{
	static const char hex[] = "0123456789ABCDEF";

	cpm_wr_chr(w, '%');
	cpm_wr_chr(w, hex[octet >> 4]);
	cpm_wr_chr(w, hex[octet & 15]);
}

static int put_user(struct canon *c, struct cpm_pl user)
{
	for(size_t i = 0; i < user.n; i++) {
		int octet;

		if(is_user_chr(user.p[i])) {
			cpm_wr_chr(&c->out, user.p[i]);
			continue;
		}
		octet = escaped(cpm_pl_from(user, i));
		if(octet < 0)
			return fail(c, CPM_EPROTO, "bad-user", user.p + i);
		if(octet < 0x80 && is_user_chr((char)octet))
			cpm_wr_chr(&c->out, (char)octet);
		else
			put_escaped(&c->out, octet);
		i += 2;
	}
	return CPM_OK;
}

/* What is dropped is looked at all the same: another parser on the way might
 * see an address in "pw@a@b" or ";x=<...>" that we do not. */
static const char *find_odd_chr(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(a.p[i] <= ' ' || a.p[i] > '~' || is_in(a.p[i], "@<>\"{}\\"))
			return a.p + i;
	return NULL;
}

static int put_userinfo(struct canon *c, struct cpm_pl userinfo)
{
	struct cpm_pl password = userinfo;
	struct cpm_pl user = cpm_pl_cut(&password, ':');
	const char *odd;

	if(user.n == 0)
		return fail(c, CPM_EPROTO, "no-user", userinfo.p);
	odd = find_odd_chr(password);
	if(odd)
		return fail(c, CPM_EPROTO, "bad-user", odd);
	return put_user(c, user);
}

static bool label_ok(struct cpm_pl label)
{
	if(label.n == 0 || label.n > LABEL_MAX || label.p[0] == '-'
			|| label.p[label.n - 1] == '-')
		return false;
	for(size_t i = 0; i < label.n; i++)
		if(!is_alnum(label.p[i]) && !is_in(label.p[i], "-_"))
			return false;
	return true;
}

static bool domain_ok(struct cpm_pl domain)
{
	if(domain.n == 0 || domain.n > HOST_MAX)
		return false;
	/* "a." leaves an empty label behind: the caller took the last dot off */
	while(domain.p)
		if(!label_ok(cpm_pl_cut(&domain, '.')))
			return false;
	return true;
}

static bool ipv6_ok(struct cpm_pl a)
{
	size_t colons = 0;

	if(a.n > IPV6_MAX)
		return false;
	for(size_t i = 0; i < a.n; i++) {
		if(a.p[i] == ':')
			colons++;
		else if(cpm_hex_value(a.p[i]) < 0 && a.p[i] != '.')
			return false;
	}
	return colons >= 2;
}

static void put_lower(struct cpm_wr *w, struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		cpm_wr_chr(w, lower(a.p[i]));
}

static struct cpm_pl less_last_dot(struct cpm_pl domain)
{
	if(domain.n > 0 && domain.p[domain.n - 1] == '.')
		domain.n--;
	return domain;
}

/* Length of the host in front of a; a port, parameters or nothing follow. */
static size_t host_len(struct cpm_pl a)
{
	size_t i = 0;

	if(a.n > 0 && a.p[0] == '[') {
		i = cpm_pl_chr(a, ']');
		return i < a.n ? i + 1 : a.n;
	}
	while(i < a.n && !is_in(a.p[i], ":;?"))
		i++;
	return i;
}

static int put_host(struct canon *c, struct cpm_pl host)
{
	if(host.n == 0)
		return fail(c, CPM_EPROTO, "no-host", host.p);
	if(host.p[0] == '[') {
		if(host.n < 2 || host.p[host.n - 1] != ']'
				|| !ipv6_ok(cpm_pl(host.p + 1, host.n - 2)))
			return fail(c, CPM_EPROTO, "bad-host", host.p);
	} else {
		host = less_last_dot(host);
		if(!domain_ok(host))
			return fail(c, CPM_EPROTO, "bad-host", host.p);
	}
	put_lower(&c->out, host);
	return CPM_OK;
}

/* [ ":" port ] [ ";" ... ] [ "?" ... ], all of it dropped */
static int check_tail(struct canon *c, struct cpm_pl tail)
{
	const char *odd = find_odd_chr(tail);
	uint64_t port;
	size_t n = 1;

	if(odd)
		return fail(c, CPM_EPROTO, "bad-host", odd);
	if(tail.n == 0 || is_in(tail.p[0], ";?"))
		return CPM_OK;
	while(n < tail.n && !is_in(tail.p[n], ";?"))
		n++;
	if(tail.p[0] != ':'
			|| cpm_pl_u64(cpm_pl(tail.p + 1, n - 1), 65535, &port) != CPM_OK)
		return fail(c, CPM_EPROTO, "bad-host", tail.p);
	return CPM_OK;
}

static int canon_sip(struct canon *c, struct cpm_pl rest)
{
	size_t at = cpm_pl_chr(rest, '@');
	struct cpm_pl hostport;
	size_t n;
	int rc;

	if(at == rest.n)
		return fail(c, CPM_EPROTO, "no-user", rest.p);
	cpm_wr_str(&c->out, "sip:");
	rc = put_userinfo(c, cpm_pl(rest.p, at));
	if(rc != CPM_OK)
		return rc;
	cpm_wr_chr(&c->out, '@');
	hostport = cpm_pl(rest.p + at + 1, rest.n - at - 1);
	n = host_len(hostport);
	rc = put_host(c, cpm_pl(hostport.p, n));
	if(rc != CPM_OK)
		return rc;
	return check_tail(c, cpm_pl(hostport.p + n, hostport.n - n));
}

/* The digits of a global number ('+' is out already) or of a local one,
 * without separators; at least one. */
static int put_digits(struct canon *c, struct cpm_pl a, bool global)
{
	size_t digits = 0;

	for(size_t i = 0; i < a.n; i++) {
		char d = a.p[i];

		if(is_separator(d))
			continue;
		if(global ? d < '0' || d > '9'
				  : cpm_hex_value(d) < 0 && !is_in(d, "*#"))
			return fail(c, CPM_EPROTO, "bad-number", a.p + i);
		cpm_wr_chr(&c->out, lower(d));
		digits++;
	}
	if(digits == 0)
		return fail(c, CPM_EPROTO, "bad-number", a.p);
	return CPM_OK;
}

static int put_global(struct canon *c, struct cpm_pl number)
{
	cpm_wr_chr(&c->out, '+');
	return put_digits(c, cpm_pl(number.p + 1, number.n - 1), true);
}

/* A domain, or the leading digits of a global number. */
static int put_context(struct canon *c, struct cpm_pl context)
{
	cpm_wr_str(&c->out, ";phone-context=");
	if(context.n > 0 && context.p[0] == '+')
		return put_global(c, context);
	context = less_last_dot(context);
	if(!domain_ok(context))
		return fail(c, CPM_EPROTO, "bad-number", context.p);
	put_lower(&c->out, context);
	return CPM_OK;
}

/* The number means nothing without its context; a second one would leave
 * it open which of two numbers this is. */
static int find_context(
		struct canon *c, struct cpm_pl params, struct cpm_pl *context)
{
	while(params.p) {
		struct cpm_pl value = cpm_pl_cut(&params, ';');
		struct cpm_pl name = cpm_pl_cut(&value, '=');

		if(!cpm_pl_ieq(name, CPM_PL_LIT("phone-context")))
			continue;
		if(context->p || !value.p)
			return fail(c, CPM_EPROTO, "bad-number", name.p);
		*context = value;
	}
	return CPM_OK;
}

static int canon_tel(struct canon *c, struct cpm_pl rest)
{
	struct cpm_pl params = rest;
	struct cpm_pl number = cpm_pl_cut(&params, ';');
	struct cpm_pl context = CPM_PL_NULL;
	const char *odd = find_odd_chr(params);
	int rc;

	if(odd)
		return fail(c, CPM_EPROTO, "bad-number", odd);
	cpm_wr_str(&c->out, "tel:");
	if(number.n > 0 && number.p[0] == '+')
		return put_global(c, number);
	rc = put_digits(c, number, false);
	if(rc == CPM_OK)
		rc = find_context(c, params, &context);
	if(rc == CPM_OK && context.p)
		rc = put_context(c, context);
	return rc;
}

static int canon_any(struct canon *c)
{
	static const char *const sip_like[] = {"sip", "sips", "im", "pres"};
	struct cpm_pl rest = c->uri;
	struct cpm_pl scheme = cpm_pl_cut(&rest, ':');

	if(!rest.p)
		return fail(c, CPM_EPROTO, "bad-scheme", c->uri.p);
	if(cpm_pl_ieq(scheme, CPM_PL_LIT("tel")))
		return canon_tel(c, rest);
	for(size_t i = 0; i < sizeof(sip_like) / sizeof(sip_like[0]); i++)
		if(cpm_pl_ieq(scheme, cpm_pl_str(sip_like[i])))
			return canon_sip(c, rest);
	return fail(c, CPM_EPROTO, "bad-scheme", c->uri.p);
}

int cpm_aor_canon(struct cpm_pl uri, char *buf, size_t cap,
		struct cpm_pl *aor_r, struct cpm_diag *diag)
{
	struct canon c = {.uri = uri};
	int rc;

	cpm_wr_init(&c.out, buf, cap);
	rc = canon_any(&c);
	if(rc == CPM_OK && c.out.n > CPM_AOR_MAX)
		rc = fail(&c, CPM_ELIMIT, "too-long", uri.p);
	if(rc == CPM_OK && !cpm_wr_ok(&c.out))
		rc = fail(&c, CPM_ENOMEM, "small-buffer", uri.p);
	if(rc == CPM_OK)
		*aor_r = cpm_wr_pl(&c.out);
	else if(diag)
		*diag = c.diag;
	return rc;
}

struct cpm_pl cpm_aor_user(struct cpm_pl aor)
{
	size_t at = cpm_pl_chr(aor, '@');

	/* both schemes are three letters and a colon */
	return cpm_pl_from(cpm_pl(aor.p, at), 4);
}

struct cpm_pl cpm_aor_host(struct cpm_pl aor)
{
	return cpm_pl_from(aor, cpm_pl_chr(aor, '@') + 1);
}
