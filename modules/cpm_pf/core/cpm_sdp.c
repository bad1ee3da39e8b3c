/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_sdp.c - the SDP of an MSRP session: read, judged and written.
 *
 * runs in:  anything; pure functions; one pass, no allocation
 *
 *     sdp     = "v=0" EOL *line *( "m=" media EOL *line )
 *     line    = ALPHA "=" value EOL
 *     media   = token SP port [ "/" number ] SP proto 1*( SP fmt )
 *     attr    = "a=" name [ ":" value ]
 *     EOL     = CRLF / LF / end of input
 *
 * A level (the session, or one m= line) gathers what its lines say. When it
 * ends, a medium is judged; the first that can be an MSRP session is kept.
 */

#include "cpm_sdp.h"

#define PORT_MAX 65535
#define ADDRESS_MAX 255
#define FIELD_MAX 64 /* bytes of a number in o= */

/* What the lines of one level say. */
struct level
{
	struct cpm_sdp_msrp msrp; /* without index, port, tls */
	bool conn_given, size_given;
	const char *bad; /* the first word of refused that fits; NULL: none */
};

struct parse
{
	struct cpm_pl in;
	size_t pos;
	unsigned lines;
	bool in_media;
	struct level session, media;
	struct cpm_sdp sdp;
	struct cpm_diag diag;
};

static int set_diag(struct cpm_diag *diag, int rc, const char *why, size_t at)
{
	if(diag) {
		diag->why = why;
		diag->at = at;
	}
	return rc;
}

static int fail(struct parse *p, int rc, const char *why, size_t at)
{
	return set_diag(&p->diag, rc, why, at);
}

/* ---------------------------------------------------------------- words */

struct word
{
	const char *name;
	int value;
};

static const struct word dirs[] = {
		{"sendrecv", CPM_SDP_SENDRECV},
		{"sendonly", CPM_SDP_SENDONLY},
		{"recvonly", CPM_SDP_RECVONLY},
		{"inactive", CPM_SDP_INACTIVE},
		{NULL, -1},
};

static const struct word setups[] = {
		{"active", CPM_SDP_SETUP_ACTIVE},
		{"passive", CPM_SDP_SETUP_PASSIVE},
		{"actpass", CPM_SDP_SETUP_ACTPASS},
		{"holdconn", CPM_SDP_SETUP_HOLDCONN},
		{NULL, -1},
};

static const struct word conns[] = {
		{"new", CPM_SDP_CONN_NEW},
		{"existing", CPM_SDP_CONN_EXISTING},
		{NULL, -1},
};

static const struct word protos[] = {
		{"TCP/MSRP", false},
		{"TCP/TLS/MSRP", true},
		{NULL, -1},
};

/* -1: none of the table. */
static int word_value(const struct word *table, struct cpm_pl name)
{
	while(table->name && !cpm_pl_ieq(name, cpm_pl_str(table->name)))
		table++;
	return table->value;
}

/* NULL: has no name in the table. */
static const char *word_name(const struct word *table, int value)
{
	while(table->name && table->value != value)
		table++;
	return table->name;
}

/* The next word; any number of spaces stands between words. Empty: the end. */
static struct cpm_pl next_word(struct cpm_pl *rest)
{
	struct cpm_pl a = cpm_pl_trim(*rest);
	size_t n = 0;

	while(n < a.n && a.p[n] != ' ' && a.p[n] != '\t')
		n++;
	*rest = cpm_pl_from(a, n);
	return cpm_pl(a.p, n);
}

static bool is_visible(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(a.p[i] <= ' ' || a.p[i] >= 0x7f)
			return false;
	return a.n > 0;
}

static bool is_digits(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(a.p[i] < '0' || a.p[i] > '9')
			return false;
	return a.n > 0 && a.n <= FIELD_MAX;
}

/* -------------------------------------------------------- values of a= */

/* Octets of "AB:CD:...", 0: it is no such thing. */
static size_t hex_octets(struct cpm_pl hex)
{
	size_t octets = (hex.n + 1) / 3;

	if(hex.n % 3 != 2 || octets > CPM_SDP_DIGEST_MAX)
		return 0;
	for(size_t i = 0; i < hex.n; i++)
		if(i % 3 == 2 ? hex.p[i] != ':' : cpm_hex_value(hex.p[i]) < 0)
			return 0;
	return octets;
}

static void take_fingerprint(struct level *l, struct cpm_pl value)
{
	struct cpm_pl hash = next_word(&value);
	struct cpm_pl hex = next_word(&value);

	if(hash.n == 0 || hex_octets(hex) == 0 || cpm_pl_trim(value).n > 0) {
		l->bad = "bad-fingerprint";
		return;
	}
	if(l->msrp.fingerprints_n < CPM_SDP_FINGERPRINTS_MAX)
		l->msrp.fingerprints[l->msrp.fingerprints_n++] =
				(struct cpm_sdp_fingerprint){hash, hex};
}

/* How far a URI is judged here: its scheme. */
static bool is_msrp_uri(struct cpm_pl a)
{
	return is_visible(a)
		   && (cpm_pl_istarts(a, CPM_PL_LIT("msrp://"))
				   || cpm_pl_istarts(a, CPM_PL_LIT("msrps://")));
}

static void take_path(struct level *l, struct cpm_pl value)
{
	struct cpm_sdp_msrp *m = &l->msrp;
	struct cpm_pl uri;

	if(m->path.p)
		return;
	m->path = cpm_pl_trim(value);
	while((uri = next_word(&value)).n > 0) {
		if(m->uris_n == CPM_SDP_PATH_MAX || !is_msrp_uri(uri)) {
			l->bad = "bad-path";
			return;
		}
		m->uris[m->uris_n++] = uri;
	}
}

static void take_setup(struct level *l, struct cpm_pl value)
{
	int setup = word_value(setups, value);

	if(l->msrp.setup != CPM_SDP_SETUP_NONE)
		return;
	if(setup < 0)
		l->bad = "bad-setup";
	else
		l->msrp.setup = (enum cpm_sdp_setup)setup;
}

static void take_conn(struct level *l, struct cpm_pl value)
{
	int conn = word_value(conns, value);

	if(l->msrp.conn != CPM_SDP_CONN_NONE)
		return;
	if(conn < 0)
		l->bad = "bad-connection";
	else
		l->msrp.conn = (enum cpm_sdp_conn)conn;
}

static void take_max_size(struct level *l, struct cpm_pl value)
{
	uint64_t size;
	int rc = cpm_pl_u64(value, CPM_SDP_SIZE_MAX, &size);

	if(l->size_given)
		return;
	if(rc == CPM_EPROTO)
		l->bad = "bad-max-size";
	else
		l->msrp.max_size = rc == CPM_OK ? size : CPM_SDP_SIZE_MAX;
	l->size_given = true;
}

static void take_dir(struct level *l, int dir)
{
	if(l->msrp.dir_given)
		return;
	l->msrp.dir = (enum cpm_sdp_dir)dir;
	l->msrp.dir_given = true;
}

static void take_types(struct cpm_pl *slot, struct cpm_pl value)
{
	if(!slot->p)
		*slot = value;
}

/* A property attribute, "a=name". */
static void take_flag(struct level *l, struct cpm_pl name)
{
	int dir = word_value(dirs, name);

	if(dir >= 0)
		take_dir(l, dir);
}

static void take_attr(struct level *l, struct cpm_pl value)
{
	struct cpm_pl name = cpm_pl_trim(cpm_pl_cut(&value, ':'));
	const char *bad = l->bad;

	if(!value.p) {
		take_flag(l, name);
		return;
	}
	/* an empty value still has a p: it was given */
	value = cpm_pl_trim(value);
	if(cpm_pl_ieq(name, CPM_PL_LIT("path")))
		take_path(l, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("accept-types")))
		take_types(&l->msrp.accept_types, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("accept-wrapped-types")))
		take_types(&l->msrp.accept_wrapped_types, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("max-size")))
		take_max_size(l, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("setup")))
		take_setup(l, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("connection")))
		take_conn(l, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("fingerprint")))
		take_fingerprint(l, value);
	if(bad)
		l->bad = bad;
}

/* ---------------------------------------------------------------- lines */

/* o=username sess-id sess-version nettype addrtype address */
static int take_origin(struct parse *p, struct cpm_pl value, size_t at)
{
	struct cpm_pl user = next_word(&value);
	struct cpm_pl id = next_word(&value);
	struct cpm_pl version = next_word(&value);
	struct cpm_pl nettype = next_word(&value);
	struct cpm_pl addrtype = next_word(&value);
	struct cpm_pl address = next_word(&value);

	if(user.n == 0 || !is_digits(id) || !is_digits(version) || nettype.n == 0
			|| addrtype.n == 0 || !is_visible(address))
		return fail(p, CPM_EPROTO, "bad-origin", at);
	if(p->sdp.sess_id.n > 0)
		return CPM_OK;
	p->sdp.sess_id = id;
	p->sdp.sess_version = version;
	p->sdp.origin_address = address;
	return CPM_OK;
}

/* c=IN IP4 address [ "/" ttl ] */
static int take_address(struct parse *p, struct cpm_pl value, size_t at)
{
	struct level *l = p->in_media ? &p->media : &p->session;
	struct cpm_pl nettype = next_word(&value);
	struct cpm_pl addrtype = next_word(&value);
	struct cpm_pl rest = next_word(&value);
	struct cpm_pl address = cpm_pl_cut(&rest, '/');

	if(!cpm_pl_ieq(nettype, CPM_PL_LIT("IN"))
			|| !(cpm_pl_ieq(addrtype, CPM_PL_LIT("IP4"))
					|| cpm_pl_ieq(addrtype, CPM_PL_LIT("IP6")))
			|| !is_visible(address) || address.n > ADDRESS_MAX)
		return fail(p, CPM_EPROTO, "bad-address", at);
	if(!l->conn_given)
		l->msrp.address = address;
	l->conn_given = true;
	return CPM_OK;
}

/* Empty, or what the session says where the medium itself says nothing. */
static void inherit(struct level *l, const struct level *session)
{
	struct cpm_sdp_msrp *m = &l->msrp;
	const struct cpm_sdp_msrp *s = &session->msrp;

	if(!l->conn_given)
		m->address = s->address;
	if(!m->dir_given) {
		m->dir_given = s->dir_given;
		m->dir = s->dir_given ? s->dir : CPM_SDP_SENDRECV;
	}
	if(m->setup == CPM_SDP_SETUP_NONE)
		m->setup = s->setup;
	if(m->conn == CPM_SDP_CONN_NONE)
		m->conn = s->conn;
	if(m->fingerprints_n == 0) {
		memcpy(m->fingerprints, s->fingerprints, sizeof(m->fingerprints));
		m->fingerprints_n = s->fingerprints_n;
	}
}

/* A word of refused, or NULL: this medium can be an MSRP session. */
static const char *judge(const struct parse *p, const struct cpm_sdp_line *line)
{
	if(word_value(protos, line->proto) < 0)
		return "proto";
	if(line->port == 0)
		return "port-zero";
	if(p->media.bad)
		return p->media.bad;
	if(p->session.bad)
		return p->session.bad;
	return p->media.msrp.uris_n == 0 ? "no-path" : NULL;
}

/* The lines below an m= line have all been read. */
static void end_media(struct parse *p)
{
	const struct cpm_sdp_line *line = &p->sdp.lines[p->sdp.lines_n - 1];
	struct cpm_sdp_msrp *m = &p->media.msrp;
	const char *why;

	if(!p->sdp.refused || !cpm_pl_ieq(line->media, CPM_PL_LIT("message")))
		return;
	why = judge(p, line);
	if(why) {
		if(strcmp(p->sdp.refused, "no-message") == 0)
			p->sdp.refused = why;
		return;
	}
	inherit(&p->media, &p->session);
	m->index = p->sdp.lines_n - 1;
	m->port = line->port;
	m->tls = word_value(protos, line->proto) == true;
	p->sdp.msrp = *m;
	p->sdp.refused = NULL;
}

static int begin_media(struct parse *p, struct cpm_pl value, size_t at)
{
	struct cpm_sdp_line line = {.media = next_word(&value)};
	struct cpm_pl count = next_word(&value);
	struct cpm_pl number = cpm_pl_cut(&count, '/');
	uint64_t port;

	line.proto = next_word(&value);
	line.fmts = cpm_pl_trim(value);
	if(!is_visible(line.media) || !is_visible(line.proto) || line.fmts.n == 0
			|| (count.p && !is_digits(count))
			|| cpm_pl_u64(number, PORT_MAX, &port) != CPM_OK)
		return fail(p, CPM_EPROTO, "bad-media", at);
	if(p->in_media)
		end_media(p);
	if(p->sdp.lines_n == CPM_SDP_MEDIA_MAX)
		return fail(p, CPM_ELIMIT, "too-many-media", at);
	line.port = (unsigned)port;
	p->sdp.lines[p->sdp.lines_n++] = line;
	p->media = (struct level){.bad = NULL};
	p->in_media = true;
	return CPM_OK;
}

/* The next line without its end. */
static int next_line(struct parse *p, struct cpm_pl *line_r)
{
	struct cpm_pl rest = cpm_pl_from(p->in, p->pos);
	size_t n = cpm_pl_chr(rest, '\n');
	struct cpm_pl line = cpm_pl(rest.p, n);
	size_t bad;

	if(n < rest.n && n > 0 && line.p[n - 1] == '\r')
		line.n--;
	bad = cpm_pl_ctl(line);
	if(bad < line.n)
		return fail(p, CPM_EPROTO, "bad-byte", p->pos + bad);
	if(line.n > CPM_SDP_LINE_MAX)
		return fail(p, CPM_ELIMIT, "line-too-long", p->pos);
	if(++p->lines > CPM_SDP_LINES_MAX)
		return fail(p, CPM_ELIMIT, "too-many-lines", p->pos);
	p->pos += n < rest.n ? n + 1 : n;
	*line_r = line;
	return CPM_OK;
}

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int take_line(struct parse *p, struct cpm_pl line, size_t at)
{
	struct cpm_pl value = cpm_pl_from(line, 2);

	if(line.n < 2 || line.p[1] != '=' || !is_alpha(line.p[0]))
		return fail(p, CPM_EPROTO, "bad-line", at);
	switch(line.p[0]) {
		case 'o':
			return take_origin(p, value, at);
		case 'c':
			return take_address(p, value, at);
		case 'm':
			return begin_media(p, value, at);
		case 'a':
			take_attr(p->in_media ? &p->media : &p->session, value);
			return CPM_OK;
		default:
			return CPM_OK;
	}
}

static int parse_lines(struct parse *p)
{
	bool version = false;

	while(p->pos < p->in.n) {
		size_t at = p->pos;
		struct cpm_pl line;
		int rc = next_line(p, &line);

		if(rc != CPM_OK)
			return rc;
		if(line.n == 0)
			continue;
		if(!version && !cpm_pl_eq(cpm_pl_trim(line), CPM_PL_LIT("v=0")))
			return fail(p, CPM_EPROTO, "no-version", at);
		version = true;
		rc = take_line(p, line, at);
		if(rc != CPM_OK)
			return rc;
	}
	if(!version)
		return fail(p, CPM_EPROTO, "no-version", p->pos);
	if(!p->in_media)
		return fail(p, CPM_EPROTO, "no-media", p->pos);
	end_media(p);
	return CPM_OK;
}

int cpm_sdp_parse(
		struct cpm_pl in, struct cpm_sdp *sdp_r, struct cpm_diag *diag)
{
	struct parse p = {.in = in, .sdp = {.refused = "no-message"}};
	int rc;

	if(in.n > CPM_SDP_BYTES_MAX)
		return set_diag(diag, CPM_ELIMIT, "too-long", CPM_SDP_BYTES_MAX);
	rc = parse_lines(&p);
	if(rc != CPM_OK)
		return set_diag(diag, rc, p.diag.why, p.diag.at);
	*sdp_r = p.sdp;
	return CPM_OK;
}

/* ------------------------------------------------------------ judgement */

int cpm_sdp_connector(enum cpm_sdp_setup offer, enum cpm_sdp_setup answer,
		enum cpm_sdp_connects *who_r, struct cpm_diag *diag)
{
	bool active = offer == CPM_SDP_SETUP_NONE || offer == CPM_SDP_SETUP_ACTIVE;
	bool open = offer == CPM_SDP_SETUP_ACTPASS;

	if(answer == CPM_SDP_SETUP_ACTPASS)
		return set_diag(diag, CPM_EPROTO, "setup-actpass", 0);
	if(answer == CPM_SDP_SETUP_HOLDCONN) {
		*who_r = CPM_SDP_CONNECTS_NOBODY;
	} else if(offer == CPM_SDP_SETUP_HOLDCONN) {
		return set_diag(diag, CPM_EPROTO, "setup-conflict", 0);
	} else if(answer == CPM_SDP_SETUP_NONE) {
		*who_r = CPM_SDP_CONNECTS_OFFERER;
	} else if(answer == CPM_SDP_SETUP_PASSIVE && (active || open)) {
		*who_r = CPM_SDP_CONNECTS_OFFERER;
	} else if(answer == CPM_SDP_SETUP_ACTIVE && !active) {
		*who_r = CPM_SDP_CONNECTS_ANSWERER;
	} else {
		return set_diag(diag, CPM_EPROTO, "setup-conflict", 0);
	}
	return CPM_OK;
}

enum cpm_sdp_setup cpm_sdp_answer_setup(enum cpm_sdp_setup offer, bool active)
{
	switch(offer) {
		case CPM_SDP_SETUP_ACTIVE:
			return CPM_SDP_SETUP_PASSIVE;
		case CPM_SDP_SETUP_PASSIVE:
			return CPM_SDP_SETUP_ACTIVE;
		case CPM_SDP_SETUP_ACTPASS:
			return active ? CPM_SDP_SETUP_ACTIVE : CPM_SDP_SETUP_PASSIVE;
		default: /* none: no RFC 6135 there; holdconn: so be it */
			return offer;
	}
}

enum cpm_sdp_dir cpm_sdp_dir_reverse(enum cpm_sdp_dir dir)
{
	unsigned bits = (unsigned)dir;

	return (enum cpm_sdp_dir)((bits & 1) << 1 | (bits & 2) >> 1);
}

enum cpm_sdp_dir cpm_sdp_answer_dir(
		enum cpm_sdp_dir offer, enum cpm_sdp_dir want)
{
	return (enum cpm_sdp_dir)(
			(unsigned)cpm_sdp_dir_reverse(offer) & (unsigned)want);
}

/* "type/subtype" without parameters. */
static struct cpm_pl bare_type(struct cpm_pl type)
{
	return cpm_pl_trim(cpm_pl_cut(&type, ';'));
}

/* An asterisk, a whole top-level type, or the type itself. */
static bool type_fits(struct cpm_pl item, struct cpm_pl type)
{
	item = bare_type(item);
	if(cpm_pl_eq(item, CPM_PL_LIT("*")) || cpm_pl_eq(item, CPM_PL_LIT("*/*")))
		return true;
	if(item.n > 2 && item.p[item.n - 1] == '*' && item.p[item.n - 2] == '/')
		return cpm_pl_istarts(type, cpm_pl(item.p, item.n - 1));
	return cpm_pl_ieq(item, type);
}

static bool list_has(struct cpm_pl list, struct cpm_pl type)
{
	for(unsigned i = 0; i < CPM_SDP_TYPES_MAX; i++) {
		struct cpm_pl item = next_word(&list);

		if(item.n == 0)
			break;
		if(type_fits(item, type))
			return true;
	}
	return false;
}

bool cpm_sdp_accepts(const struct cpm_sdp_msrp *msrp, struct cpm_pl type,
		struct cpm_pl wrapped)
{
	struct cpm_pl inner = bare_type(wrapped);

	if(msrp->accept_types.n > 0
			&& !list_has(msrp->accept_types, bare_type(type)))
		return false;
	return inner.n == 0 || msrp->accept_wrapped_types.n == 0
		   || list_has(msrp->accept_wrapped_types, inner)
		   || list_has(msrp->accept_types, inner);
}

/* hex is known to be well formed. */
static bool hex_is(struct cpm_pl hex, const unsigned char *digest, size_t n)
{
	if(n == 0 || hex_octets(hex) != n)
		return false;
	for(size_t i = 0; i < n; i++)
		if(cpm_hex_value(hex.p[3 * i]) * 16 + cpm_hex_value(hex.p[3 * i + 1])
				!= digest[i])
			return false;
	return true;
}

bool cpm_sdp_fingerprint_is(const struct cpm_sdp_msrp *msrp, struct cpm_pl hash,
		const unsigned char *digest, size_t n)
{
	for(unsigned i = 0; i < msrp->fingerprints_n; i++)
		if(cpm_pl_ieq(msrp->fingerprints[i].hash, hash)
				&& hex_is(msrp->fingerprints[i].hex, digest, n))
			return true;
	return false;
}

/* -------------------------------------------------------------- writing */

static bool path_ok(struct cpm_pl path)
{
	unsigned n = 0;

	do {
		if(++n > CPM_SDP_PATH_MAX || !is_msrp_uri(cpm_pl_cut(&path, ' ')))
			return false;
	} while(path.p);
	return true;
}

static bool types_ok(struct cpm_pl types)
{
	return cpm_pl_ctl(types) == types.n && cpm_pl_eq(types, cpm_pl_trim(types));
}

/* Facts may come from a configuration or a peer: none may bring a line of
 * its own along. NULL: all is well. */
static const char *desc_bad(const struct cpm_sdp_desc *d)
{
	if(!is_visible(d->address) || d->address.n > ADDRESS_MAX)
		return "bad-address";
	if(d->port == 0 || d->port > PORT_MAX)
		return "bad-port";
	if(!path_ok(d->path))
		return "bad-path";
	if(d->accept_types.n == 0 || !types_ok(d->accept_types)
			|| !types_ok(d->accept_wrapped_types))
		return "bad-types";
	if(d->fingerprint.hash.n > 0
			&& (!is_visible(d->fingerprint.hash)
					|| hex_octets(d->fingerprint.hex) == 0))
		return "bad-fingerprint";
	return NULL;
}

static void put_line(struct cpm_wr *w, const char *name, struct cpm_pl value)
{
	cpm_wr_str(w, name);
	cpm_wr_pl_put(w, value);
	cpm_wr_str(w, "\r\n");
}

static void put_address(struct cpm_wr *w, struct cpm_pl address)
{
	bool v6 = cpm_pl_chr(address, ':') < address.n;

	put_line(w, v6 ? "IN IP6 " : "IN IP4 ", address);
}

static void put_session(struct cpm_wr *w, const struct cpm_sdp_desc *d)
{
	cpm_wr_str(w, "v=0\r\no=- ");
	cpm_wr_u64(w, d->sess_id);
	cpm_wr_chr(w, ' ');
	cpm_wr_u64(w, d->sess_version);
	cpm_wr_chr(w, ' ');
	put_address(w, d->address);
	cpm_wr_str(w, "s=-\r\nc=");
	put_address(w, d->address);
	cpm_wr_str(w, "t=0 0\r\n");
}

static void put_word(struct cpm_wr *w, const char *name, const char *word)
{
	if(word)
		put_line(w, name, cpm_pl_str(word));
}

static void put_types(struct cpm_wr *w, const struct cpm_sdp_desc *d)
{
	put_line(w, "a=accept-types:", d->accept_types);
	if(d->accept_wrapped_types.n > 0)
		put_line(w, "a=accept-wrapped-types:", d->accept_wrapped_types);
	if(d->max_size > 0) {
		cpm_wr_str(w, "a=max-size:");
		cpm_wr_u64(w, d->max_size);
		cpm_wr_str(w, "\r\n");
	}
}

static void put_msrp(struct cpm_wr *w, const struct cpm_sdp_desc *d)
{
	cpm_wr_str(w, "m=message ");
	cpm_wr_u64(w, d->port);
	cpm_wr_chr(w, ' ');
	cpm_wr_str(w, word_name(protos, d->tls));
	cpm_wr_str(w, " *\r\n");
	put_word(w, "a=", word_name(dirs, d->dir));
	put_types(w, d);
	put_word(w, "a=setup:", word_name(setups, d->setup));
	put_word(w, "a=connection:", word_name(conns, d->conn));
	if(d->fingerprint.hash.n > 0) {
		cpm_wr_str(w, "a=fingerprint:");
		cpm_wr_pl_put(w, d->fingerprint.hash);
		put_line(w, " ", d->fingerprint.hex);
	}
	put_line(w, "a=path:", d->path);
}

/* RFC 3264, 6: a refused stream keeps its line, with port 0. */
static void put_refused(struct cpm_wr *w, const struct cpm_sdp_line *line)
{
	cpm_wr_str(w, "m=");
	cpm_wr_pl_put(w, line->media);
	cpm_wr_str(w, " 0 ");
	cpm_wr_pl_put(w, line->proto);
	put_line(w, " ", line->fmts);
}

int cpm_sdp_offer(const struct cpm_sdp_desc *desc, struct cpm_wr *w,
		struct cpm_diag *diag)
{
	const char *bad = desc_bad(desc);

	if(bad)
		return set_diag(diag, CPM_EPROTO, bad, 0);
	put_session(w, desc);
	put_msrp(w, desc);
	if(!cpm_wr_ok(w))
		return set_diag(diag, CPM_ENOMEM, "no-room", w->cap);
	return CPM_OK;
}

int cpm_sdp_answer(const struct cpm_sdp_desc *desc, const struct cpm_sdp *offer,
		struct cpm_wr *w, struct cpm_diag *diag)
{
	const char *bad = offer->refused ? offer->refused : desc_bad(desc);

	if(!bad && desc->tls != offer->msrp.tls)
		bad = "proto";
	if(bad)
		return set_diag(diag, CPM_EPROTO, bad, 0);
	put_session(w, desc);
	for(unsigned i = 0; i < offer->lines_n; i++) {
		if(i == offer->msrp.index)
			put_msrp(w, desc);
		else
			put_refused(w, &offer->lines[i]);
	}
	if(!cpm_wr_ok(w))
		return set_diag(diag, CPM_ENOMEM, "no-room", w->cap);
	return CPM_OK;
}

static const char *answer_bad(
		const struct cpm_sdp_desc *offer, const struct cpm_sdp *answer)
{
	if(answer->lines_n != 1)
		return "line-count";
	if(answer->refused)
		return answer->lines[0].port == 0 ? "rejected" : answer->refused;
	return answer->msrp.tls != offer->tls ? "proto" : NULL;
}

int cpm_sdp_agree(const struct cpm_sdp_desc *offer,
		const struct cpm_sdp *answer, struct cpm_sdp_agreed *agreed_r,
		struct cpm_diag *diag)
{
	struct cpm_sdp_agreed agreed;
	const char *bad = answer_bad(offer, answer);
	int rc;

	if(bad)
		return set_diag(diag, CPM_EPROTO, bad, 0);
	rc = cpm_sdp_connector(
			offer->setup, answer->msrp.setup, &agreed.connects, diag);
	if(rc != CPM_OK)
		return rc;
	agreed.dir = cpm_sdp_answer_dir(answer->msrp.dir, offer->dir);
	*agreed_r = agreed;
	return CPM_OK;
}
