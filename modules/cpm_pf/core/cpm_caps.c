/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_caps.c - what a client or a request says of CPM in its feature tags.
 *
 * runs in:  anything; pure functions; linear in the input
 *
 *     params   = *( ";" [ param ] )
 *     param    = name [ "=" ( quoted / token ) ]
 *     quoted   = DQUOTE *( qdtext / "\" CHAR ) DQUOTE
 *     icsi-ref = item *( "," item ), inside the quotes
 *     item     = URN, any octet of which may be written "%XX"
 *
 * LWS may stand between any two of these.
 */

#include "cpm_caps.h"
#include "cpm_wr.h"

#define PARAMS_MAX 64
#define ITEMS_MAX 64
#define ICSI "urn:urn-7:3gpp-service.ims.icsi.oma.cpm."
#define URN_MAX 80 /* decoded; none of ours is as long */

static const struct cap_row
{
	enum cpm_cap cap;
	const char *name;
	const char *urn; /* NULL: has no ICSI */
	const char *tag; /* NULL: has no feature tag of its own */
} cap_rows[] = {
		{CPM_CAP_MSG, "msg", ICSI "msg", NULL},
		{CPM_CAP_LARGEMSG, "largemsg", ICSI "largemsg", NULL},
		{CPM_CAP_DEFERRED, "deferred", ICSI "deferred", NULL},
		{CPM_CAP_SESSION, "session", ICSI "session", NULL},
		{CPM_CAP_SESSION_GROUP, "session.group", ICSI "session.group", NULL},
		{CPM_CAP_FILETRANSFER, "filetransfer", ICSI "filetransfer", NULL},
		{CPM_CAP_SYSTEMMSG, "systemmsg", ICSI "systemmsg", NULL},
		{CPM_CAP_SIP_IM, "sip-im", NULL, "+g.oma.sip-im"},
		{CPM_CAP_PAGER_LARGE, "pager-large", NULL,
				"+g.gsma.rcs.cpm.pager-large"},
};

#define CAP_ROWS (sizeof(cap_rows) / sizeof(cap_rows[0]))

/* ---------------------------------------------------------------- URNs */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Bytes that one octet of the URN takes in front of a, and that octet. What
 * is no escape stands for itself. */
static size_t take_octet(struct cpm_pl a, char *octet_r)
{
	int hi = a.n >= 3 ? cpm_hex_value(a.p[1]) : -1;
	int lo = a.n >= 3 ? cpm_hex_value(a.p[2]) : -1;

	if(a.p[0] == '%' && hi >= 0 && lo >= 0) {
		*octet_r = (char)(unsigned char)(hi * 16 + lo);
		return 3;
	}
	if(a.p[0] == '\\' && a.n >= 2) {
		*octet_r = a.p[1];
		return 2;
	}
	*octet_r = a.p[0];
	return 1;
}

/* The item as a lower-case URN in buf; empty when it is too long for ours. */
static struct cpm_pl decode_urn(struct cpm_pl item, char *buf, size_t cap)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, cap);
	while(item.n > 0 && cpm_wr_ok(&w)) {
		char octet;
		size_t n = take_octet(item, &octet);

		cpm_wr_chr(&w, lower(octet));
		item = cpm_pl_from(item, n);
	}
	return cpm_wr_ok(&w) ? cpm_wr_pl(&w) : CPM_PL_NULL;
}

static unsigned item_cap(struct cpm_pl item)
{
	char buf[URN_MAX];
	struct cpm_pl urn = decode_urn(cpm_pl_trim(item), buf, sizeof(buf));

	for(size_t i = 0; i < CAP_ROWS; i++)
		if(cap_rows[i].urn && cpm_pl_eq(urn, cpm_pl_str(cap_rows[i].urn)))
			return cap_rows[i].cap;
	return 0;
}

unsigned cpm_caps_urns(struct cpm_pl value)
{
	unsigned set = 0;

	for(size_t i = 0; i < ITEMS_MAX && value.p; i++)
		set |= item_cap(cpm_pl_cut(&value, ','));
	return set;
}

const char *cpm_caps_urn(enum cpm_cap cap)
{
	for(size_t i = 0; i < CAP_ROWS; i++)
		if(cap_rows[i].cap == cap)
			return cap_rows[i].urn;
	return NULL;
}

unsigned cpm_caps_named(struct cpm_pl name)
{
	for(size_t i = 0; i < CAP_ROWS; i++)
		if(cpm_pl_ieq(name, cpm_pl_str(cap_rows[i].name)))
			return cap_rows[i].cap;
	return 0;
}

/* ---------------------------------------------------------- parameters */

/* Offset of the quote that closes the one in front of a, or a.n. */
static size_t closing_quote(struct cpm_pl a)
{
	size_t i = 1;

	while(i < a.n && a.p[i] != '"')
		i += a.p[i] == '\\' ? 2 : 1;
	return i < a.n ? i : a.n;
}

/* Length of the parameter in front of a: up to a ';' outside quotes. A quote
 * that is never closed would hide all that follows: then any ';' will do. */
static size_t param_len(struct cpm_pl a)
{
	size_t i = 0;

	while(i < a.n && a.p[i] != ';') {
		if(a.p[i] == '"')
			i += closing_quote(cpm_pl_from(a, i));
		if(i == a.n)
			return cpm_pl_chr(a, ';');
		i++;
	}
	return i;
}

/* Takes the quotes off. False when a quote is not closed, or stands anywhere
 * but around the whole value. */
static bool unquote(struct cpm_pl *value)
{
	struct cpm_pl a = cpm_pl_trim(*value);

	if(a.n > 0 && a.p[0] == '"') {
		if(closing_quote(a) != a.n - 1)
			return false;
		a = cpm_pl_trim(cpm_pl(a.p + 1, a.n - 2));
	} else if(cpm_pl_chr(a, '"') < a.n) {
		return false;
	}
	*value = a;
	return true;
}

/* Takes the angle brackets off; what has only one of them is empty. */
static struct cpm_pl unbracket(struct cpm_pl a)
{
	bool opens = a.n > 0 && a.p[0] == '<';
	bool closes = a.n > 0 && a.p[a.n - 1] == '>';

	if(opens != closes)
		return CPM_PL_NULL;
	return opens ? cpm_pl_trim(cpm_pl(a.p + 1, a.n - 2)) : a;
}

/* RFC 3840, 9: a boolean tag may be given as ="FALSE". */
static unsigned tag_cap(struct cpm_pl name, struct cpm_pl value)
{
	if(cpm_pl_ieq(value, CPM_PL_LIT("FALSE")))
		return 0;
	for(size_t i = 0; i < CAP_ROWS; i++)
		if(cap_rows[i].tag && cpm_pl_ieq(name, cpm_pl_str(cap_rows[i].tag)))
			return cap_rows[i].cap;
	return 0;
}

static void set_once(struct cpm_pl *slot, struct cpm_pl value)
{
	if(slot->n == 0 && value.n > 0)
		*slot = value;
}

static void read_param(struct cpm_pl param, struct cpm_caps *caps)
{
	struct cpm_pl value = param;
	struct cpm_pl name = cpm_pl_trim(cpm_pl_cut(&value, '='));

	if(name.n == 0 || !unquote(&value))
		return;
	if(name.p[0] == '+' && name.n > 1)
		caps->any_tag = true;
	if(cpm_pl_ieq(name, CPM_PL_LIT("+g.3gpp.icsi-ref")))
		caps->set |= cpm_caps_urns(value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("+sip.instance")))
		set_once(&caps->instance, unbracket(value));
	else if(cpm_pl_ieq(name, CPM_PL_LIT("pub-gruu")))
		set_once(&caps->pub_gruu, value);
	else
		caps->set |= tag_cap(name, value);
}

void cpm_caps_parse(struct cpm_pl params, struct cpm_caps *caps_r)
{
	struct cpm_caps caps = {.set = 0};

	for(size_t i = 0; i < PARAMS_MAX && params.n > 0; i++) {
		size_t n = param_len(params);

		read_param(cpm_pl(params.p, n), &caps);
		params = cpm_pl_from(params, n + 1);
	}
	*caps_r = caps;
}
