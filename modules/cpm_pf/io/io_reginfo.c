/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_reginfo.c - reads a registration document, by libxml2.
 *
 * runs in:  a SIP worker; any process
 *
 * Events of the parser (SAX) and no tree, in chunks, as io_actions.c has it. The
 * text that is kept is never longer than the document and its parameters'
 * punctuation, so one allocation holds all.
 */

#include "io_reginfo.h"

#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <stdlib.h>

/* Bytes at a time: a document that is refused is looked at no further. */
#define CHUNK 8192
#define GRUU_NS "urn:ietf:params:xml:ns:gruuinfo"

struct io_reginfo
{
	struct cpm_reginfo doc;
	struct cpm_reg_registration registrations[CPM_REGINFO_REGISTRATIONS_MAX];
	struct cpm_reg_contact contacts[CPM_REGINFO_CONTACTS_MAX];
	size_t contact_count;
	struct cpm_wr text;
	char bytes[];
};

/* Where the parser is. */
enum place
{
	IN_NOTHING,
	IN_REGINFO,
	IN_REGISTRATION,
	IN_CONTACT,
	IN_URI,
	IN_PARAM,
};

struct reader
{
	xmlParserCtxtPtr parser;
	struct io_reginfo *r;
	size_t size;
	unsigned depth;
	unsigned skipped; /* depth inside an element of others; 0: outside */
	enum place place;
	char word[CPM_REGINFO_PARAMS_MAX]; /* text of a uri or an unknown-param */
	struct cpm_wr w;
	char name[128]; /* of that unknown-param */
	size_t name_n;
	char params[CPM_REGINFO_PARAMS_MAX]; /* of that contact */
	struct cpm_wr params_w;
	int rc;
	struct cpm_diag diag;
};

struct attribute
{
	const xmlChar *name, *prefix, *ns, *value, *end;
};

static void note(struct reader *rd, int rc, const char *why)
{
	long at = xmlByteConsumed(rd->parser);

	if(rd->rc != CPM_OK) {
		return;
	}
	rd->rc = rc;
	rd->diag = (struct cpm_diag){
			why, at < 0 || (size_t)at > rd->size ? rd->size : (size_t)at};
}

static void refuse(struct reader *rd, int rc, const char *why)
{
	note(rd, rc, why);
	xmlStopParser(rd->parser);
}

static struct cpm_pl pl(const xmlChar *s)
{
	return cpm_pl_str((const char *)s);
}

/* Without the substitution of entities, which is never asked for here, the
 * parser leaves an ampersand in an attribute as "&#38;". Out of room, which
 * cannot be, it is empty. */
static struct cpm_pl keep(struct reader *rd, struct cpm_pl a, bool attribute)
{
	struct cpm_wr *w = &rd->r->text;
	size_t from = w->n;

	for(size_t i = 0; i < a.n;) {
		bool amp = attribute
				   && cpm_pl_starts(cpm_pl_from(a, i), CPM_PL_LIT("&#38;"));

		cpm_wr_chr(w, a.p[i]);
		i += amp ? 5 : 1;
	}
	if(!cpm_wr_ok(w)) {
		w->n = from;
		return CPM_PL_NULL;
	}
	return cpm_pl(w->buf + from, w->n - from);
}

/* found[i]: the value of names[i], which end with NULL; p NULL: absent. */
static void find(const xmlChar **attributes, int count,
		const char *const names[], struct cpm_pl found[])
{
	for(size_t k = 0; names[k] != NULL; k++) {
		found[k] = CPM_PL_NULL;
	}
	for(int i = 0; i < count; i++, attributes += 5) {
		const struct attribute at = {attributes[0], attributes[1],
				attributes[2], attributes[3], attributes[4]};

		for(size_t k = 0; at.ns == NULL && names[k] != NULL; k++) {
			if(cpm_pl_eq(pl(at.name), cpm_pl_str(names[k]))) {
				found[k] = cpm_pl(
						(const char *)at.value, (size_t)(at.end - at.value));
			}
		}
	}
}

static void start_reginfo(struct reader *rd, const xmlChar *name,
		const xmlChar *ns, const xmlChar **attributes, int count)
{
	static const char *const names[] = {"version", "state", NULL};
	struct cpm_pl found[2];
	uint64_t version;

	if(!cpm_pl_eq(pl(name), CPM_PL_LIT("reginfo"))) {
		refuse(rd, CPM_EPROTO, "bad-root");
		return;
	}
	if(!cpm_pl_eq(pl(ns), CPM_PL_LIT(CPM_REGINFO_NS))) {
		refuse(rd, CPM_EPROTO, "namespace");
		return;
	}
	find(attributes, count, names, found);
	if(cpm_pl_u64(found[0], UINT32_MAX, &version) != CPM_OK) {
		refuse(rd, CPM_EPROTO, "bad-version");
		return;
	}
	rd->r->doc.version = (uint32_t)version;
	rd->r->doc.full = cpm_pl_eq(found[1], CPM_PL_LIT("full"));
	if(!rd->r->doc.full && !cpm_pl_eq(found[1], CPM_PL_LIT("partial"))) {
		refuse(rd, CPM_EPROTO, "bad-state");
		return;
	}
	rd->place = IN_REGINFO;
}

static void start_registration(
		struct reader *rd, const xmlChar **attributes, int count)
{
	static const char *const names[] = {"aor", "state", NULL};
	struct io_reginfo *r = rd->r;
	struct cpm_reg_registration *reg = &r->registrations[r->doc.count];
	struct cpm_pl found[2];

	find(attributes, count, names, found);
	if(r->doc.count == CPM_REGINFO_REGISTRATIONS_MAX) {
		refuse(rd, CPM_ELIMIT, "too-many-registrations");
	} else if(found[0].n == 0) {
		refuse(rd, CPM_EPROTO, "no-aor");
	} else if(cpm_reg_registration_state(found[1], &reg->state) != CPM_OK) {
		refuse(rd, CPM_EPROTO, "bad-state");
	} else {
		reg->aor = keep(rd, found[0], true);
		reg->contacts = &r->contacts[r->contact_count];
		reg->count = 0;
		r->doc.count++;
		rd->place = IN_REGISTRATION;
	}
}

static void start_contact(
		struct reader *rd, const xmlChar **attributes, int count)
{
	static const char *const names[] = {"state", "event", "expires", "q",
			"callid", "cseq", "path", "received", "user_agent", NULL};
	struct io_reginfo *r = rd->r;
	struct cpm_reg_contact *c = &r->contacts[r->contact_count];
	struct cpm_pl found[9];
	uint64_t v;
	int rc;

	find(attributes, count, names, found);
	if(r->contact_count == CPM_REGINFO_CONTACTS_MAX) {
		refuse(rd, CPM_ELIMIT, "too-many-contacts");
		return;
	}
	memset(c, 0, sizeof(*c));
	if(cpm_reg_contact_state(found[0], &c->state) != CPM_OK) {
		refuse(rd, CPM_EPROTO, "bad-state");
		return;
	}
	c->event = cpm_reg_event_of(found[1]);
	/* a registrar that counts down may be past it */
	if(found[2].n > 0 && found[2].p[0] == '-') {
		c->has_expires = true;
	} else if(found[2].p != NULL) {
		rc = cpm_pl_u64(found[2], CPM_REGINFO_EXPIRES_MAX_S, &v);
		if(rc == CPM_EPROTO) {
			refuse(rd, CPM_EPROTO, "bad-expires");
			return;
		}
		c->has_expires = true;
		c->expires_s = rc == CPM_OK ? (uint32_t)v : CPM_REGINFO_EXPIRES_MAX_S;
	}
	c->q = cpm_reg_q(found[3]);
	c->call_id = keep(rd, found[4], true);
	c->cseq = cpm_pl_u64(found[5], UINT32_MAX, &v) == CPM_OK ? (uint32_t)v : 0;
	c->path = keep(rd, found[6], true);
	c->received = keep(rd, found[7], true);
	c->user_agent = keep(rd, found[8], true);
	cpm_wr_init(&rd->params_w, rd->params, sizeof(rd->params));
	rd->place = IN_CONTACT;
}

/* Too many of them are too long: then the later ones are left out. */
static void param_add(struct reader *rd, struct cpm_pl name, struct cpm_pl v)
{
	size_t n = rd->params_w.n;

	(void)cpm_reg_param_put(&rd->params_w, name, v);
	if(!cpm_wr_ok(&rd->params_w)) {
		rd->params_w.n = n;
	}
}

static void start_gruu(struct reader *rd, const xmlChar **attributes, int count)
{
	static const char *const names[] = {"uri", NULL};
	struct cpm_pl found[1];

	find(attributes, count, names, found);
	if(found[0].n > 0) {
		param_add(rd, CPM_PL_LIT("pub-gruu"), keep(rd, found[0], true));
	}
}

static void start_param(
		struct reader *rd, const xmlChar **attributes, int count)
{
	static const char *const names[] = {"name", NULL};
	struct cpm_pl found[1];

	find(attributes, count, names, found);
	rd->name_n = found[0].n <= sizeof(rd->name) ? found[0].n : 0;
	if(rd->name_n > 0) {
		memcpy(rd->name, found[0].p, rd->name_n);
	}
	cpm_wr_init(&rd->w, rd->word, sizeof(rd->word));
	rd->place = IN_PARAM;
}

static void on_start(void *user, const xmlChar *name, const xmlChar *prefix,
		const xmlChar *ns, int ns_count, const xmlChar **namespaces, int count,
		int defaulted, const xmlChar **attributes)
{
	struct reader *rd = user;
	bool ours = cpm_pl_eq(pl(ns), CPM_PL_LIT(CPM_REGINFO_NS));

	(void)prefix;
	(void)ns_count;
	(void)namespaces;
	(void)defaulted; /* there is no DTD that could */
	if(rd->rc != CPM_OK) {
		return;
	}
	if(++rd->depth > CPM_REGINFO_DEPTH_MAX) {
		refuse(rd, CPM_ELIMIT, "too-deep");
	} else if(rd->skipped > 0) {
		rd->skipped++;
	} else if(rd->place == IN_NOTHING) {
		start_reginfo(rd, name, ns, attributes, count);
	} else if(rd->place == IN_REGINFO && ours
			  && cpm_pl_eq(pl(name), CPM_PL_LIT("registration"))) {
		start_registration(rd, attributes, count);
	} else if(rd->place == IN_REGISTRATION && ours
			  && cpm_pl_eq(pl(name), CPM_PL_LIT("contact"))) {
		start_contact(rd, attributes, count);
	} else if(rd->place == IN_CONTACT && ours
			  && cpm_pl_eq(pl(name), CPM_PL_LIT("uri"))) {
		cpm_wr_init(&rd->w, rd->word, sizeof(rd->word));
		rd->place = IN_URI;
	} else if(rd->place == IN_CONTACT && ours
			  && cpm_pl_eq(pl(name), CPM_PL_LIT("unknown-param"))) {
		start_param(rd, attributes, count);
	} else {
		if(rd->place == IN_CONTACT && cpm_pl_eq(pl(ns), CPM_PL_LIT(GRUU_NS))
				&& cpm_pl_eq(pl(name), CPM_PL_LIT("pub-gruu"))) {
			start_gruu(rd, attributes, count);
		}
		rd->skipped = 1;
	}
}

static void end_uri(struct reader *rd)
{
	struct cpm_reg_contact *c = &rd->r->contacts[rd->r->contact_count];
	struct cpm_pl uri = cpm_pl_trim(cpm_wr_pl(&rd->w));

	if(!cpm_wr_ok(&rd->w) || uri.n > CPM_REGINFO_URI_MAX) {
		refuse(rd, CPM_ELIMIT, "bad-uri");
	} else if(uri.n == 0 || cpm_pl_ctl(uri) != uri.n
			  || cpm_pl_chr(uri, ' ') != uri.n || cpm_pl_chr(uri, '<') != uri.n
			  || cpm_pl_chr(uri, '>') != uri.n || cpm_pl_chr(uri, '"') != uri.n
			  || cpm_pl_chr(uri, '\t') != uri.n) {
		refuse(rd, CPM_EPROTO, "bad-uri");
	} else {
		c->uri = keep(rd, uri, false);
		rd->place = IN_CONTACT;
	}
}

static void end_contact(struct reader *rd)
{
	struct io_reginfo *r = rd->r;
	struct cpm_reg_contact *c = &r->contacts[r->contact_count];

	if(c->uri.n == 0) {
		refuse(rd, CPM_EPROTO, "no-uri");
		return;
	}
	c->params = keep(rd, cpm_wr_pl(&rd->params_w), false);
	r->contact_count++;
	r->registrations[r->doc.count - 1].count++;
	rd->place = IN_REGISTRATION;
}

static void on_end(void *user, const xmlChar *name, const xmlChar *prefix,
		const xmlChar *ns)
{
	struct reader *rd = user;

	(void)name;
	(void)prefix;
	(void)ns;
	if(rd->rc != CPM_OK) {
		return;
	}
	rd->depth--;
	if(rd->skipped > 0) {
		rd->skipped--;
	} else if(rd->place == IN_URI) {
		end_uri(rd);
	} else if(rd->place == IN_PARAM) {
		if(cpm_wr_ok(&rd->w)) {
			param_add(rd, cpm_pl(rd->name, rd->name_n), cpm_wr_pl(&rd->w));
		}
		rd->place = IN_CONTACT;
	} else if(rd->place == IN_CONTACT) {
		end_contact(rd);
	} else if(rd->place == IN_REGISTRATION) {
		rd->place = IN_REGINFO;
	}
}

static void on_text(void *user, const xmlChar *text, int n)
{
	struct reader *rd = user;

	if(rd->rc == CPM_OK && rd->skipped == 0 && n > 0
			&& (rd->place == IN_URI || rd->place == IN_PARAM)) {
		cpm_wr_pl_put(&rd->w, cpm_pl((const char *)text, (size_t)n));
	}
}

#if LIBXML_VERSION >= 21200
typedef const xmlError *parser_error;
#else
typedef xmlErrorPtr parser_error;
#endif

/* In place of the process' own handler, which would print. */
static void on_error(void *user, parser_error error)
{
	struct reader *rd = user;

	if(error == NULL || error->level < XML_ERR_ERROR) {
		return;
	}
	if(error->code == XML_ERR_NO_MEMORY) {
		note(rd, CPM_ENOMEM, "no-memory");
	} else {
		note(rd, CPM_EPROTO, "bad-xml");
	}
}

static void read_all(struct reader *rd, struct cpm_pl xml)
{
	xmlSAXHandler sax = {.initialized = XML_SAX2_MAGIC,
			.startElementNs = on_start,
			.endElementNs = on_end,
			.characters = on_text,
			.ignorableWhitespace = on_text,
			.cdataBlock = on_text,
			.serror = on_error};

	xmlInitParser(); /* does nothing where another module did it */
	rd->parser = xmlCreatePushParserCtxt(&sax, rd, NULL, 0, NULL);
	if(rd->parser == NULL) {
		rd->rc = CPM_ENOMEM;
		rd->diag = (struct cpm_diag){"no-memory", 0};
		return;
	}
	(void)xmlCtxtUseOptions(rd->parser, XML_PARSE_NONET);
	for(size_t at = 0, n; at < xml.n && rd->rc == CPM_OK; at += n) {
		n = xml.n - at < CHUNK ? xml.n - at : CHUNK;
		(void)xmlParseChunk(rd->parser, xml.p + at, (int)n, at + n == xml.n);
	}
	if(!rd->parser->wellFormed || !rd->parser->nsWellFormed) {
		note(rd, CPM_EPROTO, "bad-xml");
	}
	xmlFreeParserCtxt(rd->parser);
}

int io_reginfo_parse(
		struct cpm_pl xml, struct io_reginfo **r_r, struct cpm_diag *diag)
{
	struct reader rd = {.size = xml.n, .diag = {"no-memory", 0}};
	/* a parameter gets three characters that the document may not have */
	size_t cap = 2 * xml.n + CPM_REGINFO_CONTACTS_MAX;
	int rc = cpm_reg_scan(xml, diag);

	if(rc != CPM_OK) {
		return rc;
	}
	rd.r = calloc(1, sizeof(*rd.r) + cap);
	if(rd.r != NULL) {
		rd.r->doc.registrations = rd.r->registrations;
		cpm_wr_init(&rd.r->text, rd.r->bytes, cap);
		read_all(&rd, xml);
	} else {
		rd.rc = CPM_ENOMEM;
	}
	if(rd.rc != CPM_OK) {
		io_reginfo_free(&rd.r);
		if(diag != NULL) {
			*diag = rd.diag;
		}
		return rd.rc;
	}
	*r_r = rd.r;
	return CPM_OK;
}

const struct cpm_reginfo *io_reginfo_get(const struct io_reginfo *r)
{
	return &r->doc;
}

void io_reginfo_free(struct io_reginfo **r)
{
	free(*r);
	*r = NULL;
}
