/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_actions.c - what a pulling client asks to be done with its queued
 * messages, and what it is told became of each.
 *
 * runs in:  anything; pure functions; no allocation
 */

#include "cpm_actions.h"

#include "cpm_cpim.h"
#include "cpm_msg.h"
#include "cpm_multipart.h"

static int fail(struct cpm_diag *diag, int rc, const char *why, size_t at)
{
	if(diag)
		*diag = (struct cpm_diag){why, at};
	return rc;
}

/* ---- names ---- */

static const char *const action_names[] = {
		[CPM_ACT_RETRIEVE] = "retrieve",
		[CPM_ACT_INTERWORK] = "interwork",
		[CPM_ACT_DISCARD] = "discard",
		[CPM_ACT_STORE] = "store",
		[CPM_ACT_KEEP] = "keep",
};
#define ACTIONS_N (sizeof(action_names) / sizeof(action_names[0]))

const char *cpm_action_name(enum cpm_action_kind kind)
{
	return (size_t)kind < ACTIONS_N ? action_names[kind] : "?";
}

bool cpm_action_of_name(struct cpm_pl name, enum cpm_action_kind *kind_r)
{
	for(size_t i = 0; i < ACTIONS_N; i++) {
		if(cpm_pl_eq(name, cpm_pl_str(action_names[i]))) {
			*kind_r = (enum cpm_action_kind)i;
			return true;
		}
	}
	return false;
}

const char *cpm_result_status_name(enum cpm_result_status status)
{
	static const char *const names[] = {
			[CPM_RESULT_OK] = "ok",
			[CPM_RESULT_GONE] = "gone",
			[CPM_RESULT_FAILED] = "failed",
	};

	return (size_t)status < sizeof(names) / sizeof(names[0]) ? names[status]
															 : "?";
}

bool cpm_actions_rest(const struct cpm_actions *a)
{
	return !a->listed || (a->has_default && a->dflt == CPM_ACT_RETRIEVE);
}

/* ---- the body of the INVITE ---- */

/* What stands in a part, as far as it can be read at all. */
static int readable(const struct cpm_multipart_part *part, const char **why_r)
{
	static const char *const plain[] = {"7bit", "8bit", "binary"};
	struct cpm_pl how = part->content_transfer_encoding;
	bool is_plain = !how.p;

	for(size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		is_plain = is_plain || cpm_pl_ieq(how, cpm_pl_str(plain[i]));
	if(!is_plain) {
		*why_r = "transfer-encoding";
		return CPM_EPROTO;
	}
	how = part->content_encoding;
	if(how.p && !cpm_pl_ieq(how, CPM_PL_LIT("identity"))) {
		*why_r = "content-encoding";
		return CPM_EPROTO;
	}
	return CPM_OK;
}

/* RFC 3261, 20.11: an SDP is a session unless it says another thing. */
static bool is_session(struct cpm_pl disposition)
{
	struct cpm_pl params = disposition;
	struct cpm_pl type = cpm_pl_trim(cpm_pl_cut(&params, ';'));

	return !disposition.p || cpm_pl_ieq(type, CPM_PL_LIT("session"));
}

/* RFC 3261, 20.11: without the parameter it is required. */
static bool is_optional(struct cpm_pl disposition)
{
	struct cpm_pl handling;

	return cpm_multipart_param(disposition, "handling", &handling) == CPM_OK
		   && cpm_pl_ieq(handling, CPM_PL_LIT("optional"));
}

/* One part into its place. */
static int take_part(const struct cpm_multipart_part *part, struct cpm_pl *sdp,
		struct cpm_pl *xml, const char **why_r)
{
	struct cpm_pl *slot = NULL;
	const char *twice = NULL;
	int rc;

	if(cpm_ctype_is(part->content_type, "application/sdp")
			&& is_session(part->content_disposition)) {
		slot = sdp;
		twice = "two-sdps";
	} else if(cpm_ctype_is(part->content_type, CPM_ACTIONS_TYPE)) {
		slot = xml;
		twice = "two-lists";
	}
	if(!slot) {
		*why_r = "unknown-part";
		return is_optional(part->content_disposition) ? CPM_OK : CPM_EPROTO;
	}
	if(slot->p) {
		*why_r = twice;
		return CPM_EPROTO;
	}
	rc = readable(part, why_r);
	if(rc == CPM_OK)
		*slot = part->body;
	return rc;
}

static int take_parts(struct cpm_pl content_type, struct cpm_pl body,
		struct cpm_pl *sdp, struct cpm_pl *xml, struct cpm_diag *diag)
{
	struct cpm_multipart_part part;
	struct cpm_multipart m;
	const char *why = NULL;
	int rc = cpm_multipart_init(&m, content_type, body, diag);

	while(rc == CPM_OK) {
		size_t at = m.pos;

		rc = cpm_multipart_next(&m, &part, diag);
		if(rc == CPM_OK && take_part(&part, sdp, xml, &why) != CPM_OK)
			return fail(diag, CPM_EPROTO, why, at);
	}
	if(rc != CPM_ENOENT)
		return rc;
	return sdp->p ? CPM_OK : fail(diag, CPM_EPROTO, "no-sdp", body.n);
}

int cpm_actions_body(struct cpm_pl content_type, struct cpm_pl body,
		struct cpm_pl *sdp_r, struct cpm_pl *xml_r, struct cpm_diag *diag)
{
	struct cpm_pl sdp = CPM_PL_NULL, xml = CPM_PL_NULL;
	int rc = CPM_OK;

	if(body.n == 0)
		return fail(diag, CPM_EPROTO, "no-body", 0);
	if(cpm_ctype_is(content_type, "application/sdp"))
		sdp = body;
	else if(cpm_ctype_is(content_type, "multipart/mixed")
			|| cpm_ctype_is(content_type, "multipart/related"))
		rc = take_parts(content_type, body, &sdp, &xml, diag);
	else
		return fail(diag, CPM_EPROTO, "content-type", 0);
	if(rc != CPM_OK)
		return rc;
	*sdp_r = sdp;
	*xml_r = xml;
	return CPM_OK;
}

unsigned cpm_actions_status(int rc, const char *why)
{
	static const char *const types[] = {"content-type", "unknown-part",
			"transfer-encoding", "content-encoding", "encoding"};

	if(rc == CPM_ENOMEM)
		return 500;
	if(rc == CPM_ELIMIT)
		return 413;
	for(size_t i = 0; why && i < sizeof(types) / sizeof(types[0]); i++)
		if(strcmp(why, types[i]) == 0)
			return 415;
	return 400;
}

/* ---- before a parser sees it ---- */

/* Bytes of the UTF-8 character at a.p[i] (RFC 3629, 4); 0: it is none. */
static size_t utf8_len(struct cpm_pl a, size_t i)
{
	const unsigned char *p = (const unsigned char *)a.p + i;
	unsigned low = 0x80, high = 0xbf;
	size_t n;

	if(p[0] < 0x80)
		return 1;
	if(p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if(n > a.n - i)
		return 0;
	/* no longer form than needed, no surrogate, nothing over U+10FFFF */
	if(p[0] == 0xe0 || p[0] == 0xf0)
		low = p[0] == 0xe0 ? 0xa0 : 0x90;
	if(p[0] == 0xed || p[0] == 0xf4)
		high = p[0] == 0xed ? 0x9f : 0x8f;
	if(p[1] < low || p[1] > high)
		return 0;
	for(size_t k = 2; k < n; k++)
		if(p[k] < 0x80 || p[k] > 0xbf)
			return 0;
	return n;
}

/* Offset of the first such string from i on; a.n: there is none. */
static size_t find(struct cpm_pl a, size_t i, const char *what)
{
	while(i < a.n && !cpm_pl_starts(cpm_pl_from(a, i), cpm_pl_str(what)))
		i++;
	return i;
}

/* Whether the XML declaration, if there is one, names no encoding but UTF-8.
 * The document's first bytes are those of xml. */
static bool declares_utf8(struct cpm_pl xml)
{
	struct cpm_pl decl = xml, value;
	char quote;

	if(!cpm_pl_starts(xml, CPM_PL_LIT("<?xml")))
		return true;
	decl.n = find(decl, 0, "?>");
	if(find(decl, 0, "encoding") == decl.n)
		return true;
	value = cpm_pl_trim(cpm_pl_from(decl, find(decl, 0, "encoding") + 8));
	if(value.n == 0 || value.p[0] != '=')
		return false;
	value = cpm_pl_trim(cpm_pl_from(value, 1));
	if(value.n == 0 || (value.p[0] != '"' && value.p[0] != '\''))
		return false;
	quote = value.p[0];
	value = cpm_pl_from(value, 1);
	return cpm_pl_ieq(cpm_pl_cut(&value, quote), CPM_PL_LIT("UTF-8"));
}

/* Encoding and bytes. */
static int scan_bytes(struct cpm_pl xml, struct cpm_diag *diag)
{
	for(size_t i = 0, n; i < xml.n; i += n) {
		char c = xml.p[i];

		n = utf8_len(xml, i);
		if(n == 0)
			return fail(diag, CPM_EPROTO, "encoding", i);
		if(c != '\t' && c != '\n' && c != '\r' && (unsigned char)c < ' ')
			return fail(diag, CPM_EPROTO, "bad-byte", i);
	}
	return CPM_OK;
}

/* A "<" can stand in no attribute, so no tag goes over one. */
static int scan_tags(struct cpm_pl xml, struct cpm_diag *diag)
{
	size_t tag = 0;

	for(size_t i = 0; i < xml.n; i++) {
		struct cpm_pl rest = cpm_pl(xml.p + i, xml.n - i);

		if(rest.p[0] == '<') {
			tag = i;
			if(cpm_pl_starts(rest, CPM_PL_LIT("<!DOCTYPE"))
					|| cpm_pl_starts(rest, CPM_PL_LIT("<!ENTITY")))
				return fail(diag, CPM_EPROTO, "dtd", i);
		}
		if(i - tag >= CPM_ACTIONS_TAG_MAX)
			return fail(diag, CPM_ELIMIT, "tag-too-long", tag);
	}
	return CPM_OK;
}

int cpm_actions_scan(struct cpm_pl xml, struct cpm_diag *diag)
{
	struct cpm_pl text = xml;
	int rc;

	if(xml.n == 0)
		return fail(diag, CPM_EPROTO, "no-xml", 0);
	if(xml.n > CPM_ACTIONS_BYTES_MAX)
		return fail(diag, CPM_ELIMIT, "too-long", CPM_ACTIONS_BYTES_MAX);
	rc = scan_bytes(xml, diag);
	if(rc == CPM_OK)
		rc = scan_tags(xml, diag);
	if(rc != CPM_OK)
		return rc;
	if(cpm_pl_starts(text, CPM_PL_LIT("\xef\xbb\xbf"))) /* a byte order mark */
		text = cpm_pl_from(text, 3);
	if(!declares_utf8(text))
		return fail(diag, CPM_EPROTO, "encoding", 0);
	return CPM_OK;
}

/* ---- the results ---- */

#define RESULTS_BEGIN                              \
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" \
	"<queue-results xmlns=\"" CPM_RESULTS_NS "\">\n"
#define RESULTS_END "</queue-results>\n"
#define RESULT_ID "  <result id=\""
#define RESULT_ACTION "\" action=\""
#define RESULT_STATUS "\" status=\""
#define RESULT_REASON "\" reason=\""
#define RESULT_END "\"/>\n"
/* the longest that one byte becomes, "&quot;", and the longest words */
#define ESCAPED_MAX 6
#define RESULT_MAX                                                     \
	(sizeof(RESULT_ID RESULT_ACTION "interwork" RESULT_STATUS          \
									"failed" RESULT_REASON RESULT_END) \
			+ ESCAPED_MAX * ((size_t)CPM_MSG_ID_MAX + CPM_RESULTS_REASON_MAX))

static void put_escaped(struct cpm_wr *w, struct cpm_pl a, size_t max)
{
	for(size_t i = 0; i < a.n && i < max; i++) {
		char c = a.p[i];

		if(c == '&')
			cpm_wr_str(w, "&amp;");
		else if(c == '<')
			cpm_wr_str(w, "&lt;");
		else if(c == '>')
			cpm_wr_str(w, "&gt;");
		else if(c == '"')
			cpm_wr_str(w, "&quot;");
		else
			cpm_wr_chr(w, c >= ' ' && c <= '~' ? c : '?');
	}
}

void cpm_results_begin(struct cpm_wr *w)
{
	cpm_wr_str(w, RESULTS_BEGIN);
}

void cpm_results_item(struct cpm_wr *w, struct cpm_pl id,
		enum cpm_action_kind action, enum cpm_result_status status,
		const char *reason)
{
	cpm_wr_str(w, RESULT_ID);
	put_escaped(w, id, CPM_MSG_ID_MAX);
	cpm_wr_str(w, RESULT_ACTION);
	cpm_wr_str(w, cpm_action_name(action));
	cpm_wr_str(w, RESULT_STATUS);
	cpm_wr_str(w, cpm_result_status_name(status));
	if(reason && reason[0]) {
		cpm_wr_str(w, RESULT_REASON);
		put_escaped(w, cpm_pl_str(reason), CPM_RESULTS_REASON_MAX);
	}
	cpm_wr_str(w, RESULT_END);
}

void cpm_results_end(struct cpm_wr *w)
{
	cpm_wr_str(w, RESULTS_END);
}

size_t cpm_results_max(size_t count)
{
	return sizeof(RESULTS_BEGIN RESULTS_END) + count * RESULT_MAX;
}
