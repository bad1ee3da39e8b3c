/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_actions.c - reads a client's list of queue actions, by libxml2.
 *
 * runs in:  a SIP worker; any process
 *
 * Events of the parser (SAX) and no tree. The push parser, because it takes
 * the handlers and their state when it is made, and can be left at any chunk.
 */

#include "io_actions.h"

#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <stdlib.h>

#include "../core/cpm_msg.h"

/* One allocation: items, then their hashes, then the bytes of their ids. */
struct io_actions
{
	struct cpm_actions list;
	size_t cap;
	uint64_t *hashes;
	char *text;
	size_t text_n;
	struct cpm_action_item items[];
};

/* Bytes at a time. A document that is refused is looked at no further than
 * that: the parser itself goes on after an error, and that is slow. */
#define CHUNK 8192

/* What the callbacks share. */
struct reader
{
	xmlParserCtxtPtr parser;
	struct io_actions *a;
	size_t size; /* of the document */
	unsigned depth;
	int rc; /* of what was refused first; CPM_OK: nothing yet */
	struct cpm_diag diag;
};

/* What the parser hands over: bytes, five pointers each. */
struct attribute
{
	const xmlChar *name, *prefix, *ns, *value, *end;
};

static size_t offset(const struct reader *rd)
{
	long at = xmlByteConsumed(rd->parser);

	return at < 0 || (size_t)at > rd->size ? rd->size : (size_t)at;
}

/* The first one counts. */
static void note(struct reader *rd, int rc, const char *why)
{
	if(rd->rc != CPM_OK)
		return;
	rd->rc = rc;
	rd->diag = (struct cpm_diag){why, offset(rd)};
}

/* After it the parser calls nobody any more. Always false. */
static bool refuse(struct reader *rd, int rc, const char *why)
{
	note(rd, rc, why);
	xmlStopParser(rd->parser);
	return false;
}

static struct cpm_pl pl(const xmlChar *s)
{
	return cpm_pl_str((const char *)s);
}

static bool is_ours(const xmlChar *ns)
{
	return cpm_pl_eq(pl(ns), CPM_PL_LIT(CPM_ACTIONS_NS));
}

static struct cpm_pl value_of(const struct attribute *at)
{
	return cpm_pl((const char *)at->value, (size_t)(at->end - at->value));
}

/* The attribute of this name among count; NULL: absent. Refuses what is none
 * of the names, which end with NULL; one of another namespace is passed over.
 * found[i] is the attribute names[i], NULL: absent. */
static bool find_attributes(struct reader *rd, const xmlChar **attributes,
		int count, const char *const names[], struct cpm_pl found[])
{
	for(int i = 0; i < count; i++, attributes += 5) {
		const struct attribute at = {attributes[0], attributes[1],
				attributes[2], attributes[3], attributes[4]};
		size_t k = 0;

		if(at.ns && !is_ours(at.ns))
			continue;
		while(names[k] && !cpm_pl_eq(pl(at.name), cpm_pl_str(names[k])))
			k++;
		if(!names[k] || at.ns || at.prefix)
			return refuse(rd, CPM_EPROTO, "unknown-attribute");
		found[k] = value_of(&at);
	}
	return true;
}

/* Copies an id. Without the substitution of entities, which is never asked
 * for here, the parser leaves an ampersand as "&#38;". */
static struct cpm_pl copy_id(struct io_actions *a, struct cpm_pl id)
{
	char *p = a->text + a->text_n;
	size_t n = 0;

	for(size_t i = 0; i < id.n; n++) {
		bool amp = cpm_pl_starts(cpm_pl_from(id, i), CPM_PL_LIT("&#38;"));

		p[n] = id.p[i];
		i += amp ? 5 : 1;
	}
	a->text_n += n;
	return cpm_pl(p, n);
}

static bool is_listed(const struct io_actions *a, struct cpm_pl id, uint64_t h)
{
	for(size_t i = 0; i < a->list.count; i++)
		if(a->hashes[i] == h && cpm_pl_eq(a->items[i].id, id))
			return true;
	return false;
}

static bool start_message(
		struct reader *rd, const xmlChar **attributes, int count)
{
	static const char *const names[] = {"id", "action", NULL};
	struct cpm_pl found[2] = {CPM_PL_NULL, CPM_PL_NULL};
	struct io_actions *a = rd->a;
	struct cpm_action_item item;
	uint64_t h;

	if(!find_attributes(rd, attributes, count, names, found))
		return false;
	if(!found[0].p)
		return refuse(rd, CPM_EPROTO, "no-id");
	if(!found[1].p)
		return refuse(rd, CPM_EPROTO, "no-action");
	if(a->list.count == a->cap)
		return refuse(rd, CPM_ELIMIT, "too-many-items");
	item.id = copy_id(a, found[0]);
	if(!cpm_msg_id_ok(item.id))
		return refuse(rd, CPM_EPROTO, "bad-id");
	if(!cpm_action_of_name(found[1], &item.action))
		return refuse(rd, CPM_EPROTO, "unknown-action");
	h = cpm_hash64(CPM_HASH_INIT, item.id);
	if(is_listed(a, item.id, h))
		return refuse(rd, CPM_EPROTO, "duplicate-id");
	a->hashes[a->list.count] = h;
	a->items[a->list.count++] = item;
	return true;
}

static bool start_root(struct reader *rd, const xmlChar *name,
		const xmlChar *ns, const xmlChar **attributes, int count)
{
	static const char *const names[] = {"default", NULL};
	struct cpm_pl found[1] = {CPM_PL_NULL};
	struct cpm_actions *list = &rd->a->list;

	if(!cpm_pl_eq(pl(name), CPM_PL_LIT("queue-actions")))
		return refuse(rd, CPM_EPROTO, "bad-root");
	if(!is_ours(ns))
		return refuse(rd, CPM_EPROTO, "namespace");
	if(!find_attributes(rd, attributes, count, names, found))
		return false;
	if(!found[0].p)
		return true;
	if(!cpm_action_of_name(found[0], &list->dflt)
			|| (list->dflt != CPM_ACT_KEEP && list->dflt != CPM_ACT_RETRIEVE))
		return refuse(rd, CPM_EPROTO, "bad-default");
	list->has_default = true;
	return true;
}

static void on_start(void *user, const xmlChar *name, const xmlChar *prefix,
		const xmlChar *ns, int ns_count, const xmlChar **namespaces, int count,
		int defaulted, const xmlChar **attributes)
{
	struct reader *rd = user;

	(void)prefix;
	(void)ns_count;
	(void)namespaces;
	(void)defaulted; /* there is no DTD that could */
	if(rd->rc != CPM_OK)
		return;
	if(rd->depth++ == 0)
		(void)start_root(rd, name, ns, attributes, count);
	else if(!is_ours(ns))
		(void)refuse(rd, CPM_EPROTO, "foreign-element");
	else if(rd->depth > 2 || !cpm_pl_eq(pl(name), CPM_PL_LIT("message")))
		(void)refuse(rd, CPM_EPROTO, "unknown-element");
	else
		(void)start_message(rd, attributes, count);
}

static void on_end(void *user, const xmlChar *name, const xmlChar *prefix,
		const xmlChar *ns)
{
	struct reader *rd = user;

	(void)name;
	(void)prefix;
	(void)ns;
	rd->depth--;
}

static void on_text(void *user, const xmlChar *text, int n)
{
	struct cpm_pl a = cpm_pl((const char *)text, n > 0 ? (size_t)n : 0);

	if(cpm_pl_trim(a).n > 0)
		(void)refuse(user, CPM_EPROTO, "text");
}

#if LIBXML_VERSION >= 21200
typedef const xmlError *parser_error;
#else
typedef xmlErrorPtr parser_error;
#endif

/* In place of the process' own handler, which would print. It may be called
 * from anywhere inside the parser, which therefore is not stopped here: that
 * is its own business when the error is a fatal one. */
static void on_error(void *user, parser_error error)
{
	struct reader *rd = user;

	if(!error || error->level < XML_ERR_ERROR)
		return;
	if(error->code == XML_ERR_NO_MEMORY)
		note(rd, CPM_ENOMEM, "no-memory");
	else
		note(rd, CPM_EPROTO, "bad-xml");
}

/* Room for what such a document can hold at most. */
static struct io_actions *new_list(struct cpm_pl xml)
{
	struct io_actions *a;
	size_t cap = 0;

	for(size_t i = 0; i < xml.n && cap < CPM_ACTIONS_MAX; i++)
		cap += xml.p[i] == '<';
	a = malloc(sizeof(*a) + cap * (sizeof(a->items[0]) + sizeof(a->hashes[0]))
			   + xml.n);
	if(!a)
		return NULL;
	*a = (struct io_actions){.cap = cap,
			.hashes = (uint64_t *)(void *)(a->items + cap),
			.list = {.listed = true, .dflt = CPM_ACT_KEEP, .items = a->items}};
	a->text = (char *)(a->hashes + cap);
	return a;
}

static void read_list(struct reader *rd, struct cpm_pl xml)
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
	if(!rd->parser) {
		rd->rc = CPM_ENOMEM;
		rd->diag = (struct cpm_diag){"no-memory", 0};
		return;
	}
	(void)xmlCtxtUseOptions(rd->parser, XML_PARSE_NONET);
	for(size_t at = 0, n; at < xml.n && rd->rc == CPM_OK; at += n) {
		n = xml.n - at < CHUNK ? xml.n - at : CHUNK;
		(void)xmlParseChunk(rd->parser, xml.p + at, (int)n, at + n == xml.n);
	}
	if(!rd->parser->wellFormed || !rd->parser->nsWellFormed)
		note(rd, CPM_EPROTO, "bad-xml");
	xmlFreeParserCtxt(rd->parser);
}

int io_actions_parse(
		struct cpm_pl xml, struct io_actions **a_r, struct cpm_diag *diag)
{
	struct reader rd = {.size = xml.n, .diag = {"no-memory", 0}};
	int rc = cpm_actions_scan(xml, diag);

	if(rc != CPM_OK)
		return rc;
	rd.a = new_list(xml);
	if(rd.a)
		read_list(&rd, xml);
	else
		rd.rc = CPM_ENOMEM;
	if(rd.rc != CPM_OK) {
		io_actions_free(&rd.a);
		if(diag)
			*diag = rd.diag;
		return rd.rc;
	}
	*a_r = rd.a;
	return CPM_OK;
}

const struct cpm_actions *io_actions_get(const struct io_actions *a)
{
	static const struct cpm_actions all = {.dflt = CPM_ACT_RETRIEVE};

	return a ? &a->list : &all;
}

void io_actions_free(struct io_actions **a)
{
	free(*a);
	*a = NULL;
}

int io_actions_of_body(struct cpm_pl content_type, struct cpm_pl body,
		struct cpm_pl *sdp_r, struct io_actions **a_r, struct cpm_diag *diag)
{
	struct io_actions *a = NULL;
	struct cpm_pl sdp, xml;
	int rc = cpm_actions_body(content_type, body, &sdp, &xml, diag);

	if(rc == CPM_OK && xml.p)
		rc = io_actions_parse(xml, &a, diag);
	if(rc != CPM_OK)
		return rc;
	*sdp_r = sdp;
	*a_r = a;
	return CPM_OK;
}
