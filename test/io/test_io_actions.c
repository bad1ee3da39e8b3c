/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_actions.c - lists of queue actions, read by libxml2, and both
 * schemas, by xmllint.
 */

#include <fcntl.h>
#include <libxml/parser.h>
#include <libxml/xmlIO.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_helpers.h"
#include "cpm_msg.h"
#include "io_actions.h"

#define SCHEMAS TEST_DATA_DIR "/../../modules/cpm_pf/doc/"
#define REQUESTS SCHEMAS "cpm-queue-actions.xsd"
#define RESULTS SCHEMAS "cpm-queue-results.xsd"

#define HEAD "<?xml version='1.0' encoding='UTF-8'?>\n"
#define NS "xmlns='urn:cpm-pf:queue-actions:1'"
#define ROOT "<queue-actions " NS ">"
#define ROOT_D(d) "<queue-actions " NS " default='" d "'>"
#define END "</queue-actions>"
#define KEEP(id) "<message id='" id "' action='keep'/>"
#define ID_32 "0123456789abcdef0123456789ABCDEF"
#define ID_128 ID_32 ID_32 ID_32 ID_32

/* ---- xmllint ---- */

/* Its exit code for a document: 0: valid. */
static int xmllint(const char *schema, struct cpm_pl xml)
{
	FILE *in = tmpfile();
	int status, null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	pid_t pid;

	ck_assert_ptr_nonnull(in);
	ck_assert_int_ge(null, 0);
	ck_assert_uint_eq(fwrite(xml.p, 1, xml.n, in), xml.n);
	ck_assert_int_eq(fflush(in), 0);
	rewind(in);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if(pid == 0) {
		if(dup2(fileno(in), 0) == 0 && dup2(null, 1) == 1 && dup2(null, 2) == 2)
			execlp("xmllint", "xmllint", "--nonet", "--noout", "--schema",
					schema, "-", (char *)NULL);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_msg(WEXITSTATUS(status) != 127, "there is no xmllint");
	ck_assert_msg(WEXITSTATUS(status) != 5, "the schema is wrong: %s", schema);
	close(null);
	(void)fclose(in);
	return WEXITSTATUS(status);
}

/* ---- lists that are taken ---- */

static const struct good
{
	const char *xml;
	const char *want; /* "id=action ..." and what becomes of the others */
} good[] = {
		{ROOT END, ""},
		{"<queue-actions " NS "/>", ""},
		{ROOT_D("keep") END, "default=keep"},
		{ROOT_D("retrieve") END, "default=retrieve rest"},
		{HEAD "\n<!-- c -->\n<queue-actions\n\t" NS "\n default=\"retrieve\" >"
			  "\r\n\t<message id='a' action='retrieve'/>\n"
			  "<!-- c --><message action=\"interwork\" id=\"b\"></message>"
			  "<message id='c' action='discard'><!-- c --></message>"
			  "<message id='d' action='store' ></message ><?p i?>"
			  "<message id='e' action='keep'/>" END "\n<!-- c --> ",
				"a=retrieve b=interwork c=discard d=store e=keep"
				" default=retrieve rest"},
		{"<q:queue-actions xmlns:q='urn:cpm-pf:queue-actions:1'>"
		 "<q:message id='a' action='keep'/>"
		 "<message xmlns='urn:cpm-pf:queue-actions:1' id='b' action='keep'/>"
		 "</q:queue-actions>",
				"a=keep b=keep"},
		/* of others an attribute may annotate */
		{"<queue-actions xml:lang='en' xmlns:f='urn:f' f:default='x' " NS
		 "><message xml:id='x' f:id='z' id='a' action='keep' f:a='y'/>" END,
				"a=keep"},
		{ROOT KEEP("&lt;a&amp;&#38;#38;&#x41;&gt;&apos;&quot;>") END,
				"<a&&#38;A>'\">=keep"},
		{ROOT KEEP("&amp;#38;amp;") KEEP("&amp;") KEEP("#38;") END,
				"&#38;amp;=keep &=keep #38;=keep"},
		{ROOT KEEP(ID_128) END, ID_128 "=keep"},
		{ROOT KEEP("a") KEEP("A") KEEP("aa") END, "a=keep A=keep aa=keep"},
		{"\xef\xbb\xbf" HEAD ROOT KEEP("a") END, "a=keep"},
};

static struct cpm_pl describe(const struct cpm_actions *a)
{
	static char buf[4096];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	for(size_t i = 0; i < a->count; i++) {
		cpm_wr_str(&w, i ? " " : "");
		cpm_wr_pl_put(&w, a->items[i].id);
		cpm_wr_chr(&w, '=');
		cpm_wr_str(&w, cpm_action_name(a->items[i].action));
	}
	if(a->has_default) {
		cpm_wr_str(&w, a->count ? " default=" : "default=");
		cpm_wr_str(&w, cpm_action_name(a->dflt));
	}
	if(cpm_actions_rest(a))
		cpm_wr_str(&w, " rest");
	ck_assert(cpm_wr_ok(&w));
	return cpm_wr_pl(&w);
}

static void check_good(const struct good *row)
{
	struct cpm_diag diag = {"untouched", 0};
	struct io_actions *a = NULL;
	size_t n = strlen(row->xml);
	char *p = guard_dup(row->xml, n);
	int rc = io_actions_parse(cpm_pl(p, n), &a, &diag);

	guard_free(p, n); /* the list has bytes of its own */
	ck_assert_str_eq(diag.why, "untouched");
	ck_assert_int_eq(rc, CPM_OK);
	ck_assert(io_actions_get(a)->listed);
	ck_pl_eq(describe(io_actions_get(a)), row->want);
	io_actions_free(&a);
	ck_assert_ptr_null(a);
	io_actions_free(&a);
}

START_TEST(taken)
{
	check_good(&good[_i]);
	ck_assert_int_eq(xmllint(REQUESTS, cpm_pl_str(good[_i].xml)), 0);
}
END_TEST

START_TEST(blanks)
{
	static const struct good row = {ROOT
			"<message id='a' action='store'> \n<!-- c -->\t</message>" END,
			"a=store"};

	check_good(&row);
	ck_assert_int_eq(xmllint(REQUESTS, cpm_pl_str(row.xml)), 3);
}
END_TEST

/* ---- lists that are refused ---- */

static const struct bad
{
	struct cpm_pl xml;
	const char *why;
	bool ours; /* only we refuse it; for the schema it is valid */
} bad[] = {
#define X(s)             \
	{                    \
		s, sizeof(s) - 1 \
	}
		{X(""), "no-xml", false},
		{X("hello"), "bad-xml", false},
		{X("<"), "bad-xml", false},
		{X("\xef\xbb\xbf"), "bad-xml", false},
		{X(ROOT), "bad-xml", false},
		{X(ROOT KEEP("a")), "bad-xml", false},
		{X(ROOT END "<a/>"), "bad-xml", false},
		{X(ROOT END "text"), "bad-xml", false},
		{X(ROOT END "\xc3\xa4"), "bad-xml", false},
		{X(ROOT "<message id='a' id='b' action='keep'/>" END), "bad-xml",
				false},
		{X(ROOT "<message id='a<' action='keep'/>" END), "bad-xml", false},
		{X(ROOT KEEP("&x;") END), "bad-xml", false},
		{X(ROOT KEEP("&#0;") END), "bad-xml", false},
		{X(ROOT "&x;" END), "bad-xml", false},
		{X(ROOT "<x:message id='a' action='keep'/>" END), "bad-xml", false},
		{X(ROOT "<message x:y='' id='a' action='keep'/>" END), "bad-xml",
				false},
		{X(" " HEAD ROOT END), "bad-xml", false},
		{X("<queue-actions/>"), "namespace", false},
		{X("<queue-actions xmlns='urn:cpm-pf:queue-actions:2'/>"), "namespace",
				false},
		{X("<queue-results xmlns='urn:cpm-pf:queue-results:1'/>"), "bad-root",
				false},
		{X("<message " NS "/>"), "bad-root", false},
		{X("<Queue-actions " NS "/>"), "bad-root", false},
		{X(ROOT ROOT END END), "unknown-element", false},
		{X(ROOT "<Message id='a' action='keep'/>" END), "unknown-element",
				false},
		{X(ROOT "<message id='a' action='keep'>" KEEP("b") "</message>" END),
				"unknown-element", false},
		{X(ROOT "<message xmlns='' id='a' action='keep'/>" END),
				"foreign-element", false},
		{X(ROOT "<message xmlns='urn:f' id='a' action='keep'/>" END),
				"foreign-element", false},
		{X(ROOT "<f:only-if xmlns:f='urn:f'/>" END), "foreign-element", false},
		{X(ROOT "<message id='a' action='discard'><f:only-if xmlns:f='urn:f'/>"
				"</message>" END),
				"foreign-element", false},
		{X(ROOT "<xi:include xmlns:xi='http://www.w3.org/2001/XInclude'"
				" href='file:///etc/hostname' parse='text'/>" END),
				"foreign-element", false},
		{X("<queue-actions x='' " NS "/>"), "unknown-attribute", false},
		{X("<q:queue-actions xmlns:q='urn:cpm-pf:queue-actions:1'"
		   " q:default='keep'/>"),
				"unknown-attribute", false},
		{X(ROOT "<message id='a' action='keep' until='x'/>" END),
				"unknown-attribute", false},
		{X("<q:queue-actions xmlns:q='urn:cpm-pf:queue-actions:1'>"
		   "<q:message q:id='a' action='keep'/></q:queue-actions>"),
				"unknown-attribute", false},
		{X(ROOT "text" END), "text", false},
		{X(ROOT "<![CDATA[x]]>" END), "text", false},
		{X(ROOT "&#65;" END), "text", false},
		{X(ROOT "<message id='a' action='keep'>x</message>" END), "text",
				false},
		{X(ROOT_D("") END), "bad-default", false},
		{X(ROOT_D("discard") END), "bad-default", false},
		{X(ROOT_D("store") END), "bad-default", false},
		{X(ROOT_D("interwork") END), "bad-default", false},
		{X(ROOT_D("Keep") END), "bad-default", false},
		{X(ROOT "<message action='keep'/>" END), "no-id", false},
		{X(ROOT "<message/>" END), "no-id", false},
		{X(ROOT "<message xml:id='a' action='keep'/>" END), "no-id", false},
		{X(ROOT "<message id='a'/>" END), "no-action", false},
		{X(ROOT KEEP("") END), "bad-id", false},
		{X(ROOT KEEP("a b") END), "bad-id", false},
		{X(ROOT KEEP("a\n") END), "bad-id", false},
		{X(ROOT KEEP("\xc3\xa4") END), "bad-id", false},
		{X(ROOT KEEP("&#x80;") END), "bad-id", false},
		{X(ROOT KEEP(ID_128 "x") END), "bad-id", false},
		{X(ROOT "<message id='a' action=''/>" END), "unknown-action", false},
		{X(ROOT "<message id='a' action='delete'/>" END), "unknown-action",
				false},
		{X(ROOT "<message id='a' action='Discard'/>" END), "unknown-action",
				false},
		{X(ROOT "<message id='a' action='discard '/>" END), "unknown-action",
				false},
		{X(ROOT KEEP("a") KEEP("b") KEEP("a") END), "duplicate-id", false},
		{X(ROOT KEEP("a") "<message id='&#97;' action='store'/>" END),
				"duplicate-id", false},
		{X("<!DOCTYPE queue-actions [<!ENTITY a 'aaaa'>"
		   "<!ENTITY b '&a;&a;&a;'>]>" ROOT KEEP("&b;") END),
				"dtd", true},
		{X("<!DOCTYPE queue-actions SYSTEM 'x.dtd'>" ROOT END), "dtd", true},
		{X("<!DOCTYPE queue-actions>" ROOT END), "dtd", true},
		{X("<?xml version='1.0' encoding='ISO-8859-1'?>" ROOT END), "encoding",
				true},
		{X("<?xml version='1.0' encoding='US-ASCII'?>" ROOT END), "encoding",
				true},
		{X("<?xml version='1.0' encoding='no-such'?>" ROOT END), "encoding",
				true},
		{X(ROOT END "\0"), "bad-byte", true}, /* where xmllint ends */
		{X(ROOT "\x01" END), "bad-byte", false},
#undef X
};

static const char *refused(struct cpm_pl xml, int want)
{
	struct cpm_diag diag = {"untouched", 0};
	struct io_actions *a = NULL;
	char *p = guard_dup(xml.p, xml.n);
	int rc = io_actions_parse(cpm_pl(p, xml.n), &a, &diag);

	guard_free(p, xml.n);
	ck_assert_ptr_null(a);
	ck_assert_msg(rc == want, "%s, %s", cpm_rc_name(rc), diag.why);
	ck_assert_uint_le(diag.at, xml.n);
	return diag.why;
}

START_TEST(bad_lists)
{
	struct cpm_pl xml = bad[_i].xml;

	ck_assert_str_eq(refused(xml, CPM_EPROTO), bad[_i].why);
	ck_assert_int_eq(io_actions_parse(xml, &(struct io_actions *){NULL}, NULL),
			CPM_EPROTO);
	if(!bad[_i].ours)
		ck_assert_int_ne(xmllint(REQUESTS, xml), 0);
}
END_TEST

/* so that "for the schema it is valid" is no empty word */
START_TEST(only_ours)
{
	ck_assert_int_eq(
			xmllint(REQUESTS, cpm_pl_str("<!DOCTYPE queue-actions>" ROOT END)),
			0);
	ck_assert_int_eq(xmllint(REQUESTS, cpm_pl_str(ROOT_D("store") END)), 3);
}
END_TEST

START_TEST(utf16)
{
	static const char ascii[] = ROOT KEEP("a") END;
	char wide[2 * sizeof(ascii)];

	for(int mark = 0; mark < 2; mark++) {
		size_t n = 0;

		if(mark) {
			wide[n++] = '\xff';
			wide[n++] = '\xfe';
		}
		for(size_t i = 0; i + 1 < sizeof(ascii); i++) {
			wide[n++] = ascii[i];
			wide[n++] = '\0';
		}
		ck_assert_str_eq(refused(cpm_pl(wide, n), CPM_EPROTO),
				mark ? "encoding" : "bad-byte");
	}
}
END_TEST

/* by which word depends on where; a tag without its end still has a name */
static void not_whole(struct cpm_pl prefix, void *arg)
{
	(void)arg;
	(void)refused(prefix, CPM_EPROTO);
}

START_TEST(cut_off)
{
	static const char whole[] =
			HEAD "<queue-actions default='retrieve' " NS ">" KEEP("a&amp;") END;

	guard_prefixes(cpm_pl(whole, sizeof(whole) - 2), not_whole, NULL);
	check_good(&(struct good){whole, "a&=keep default=retrieve rest"});
}
END_TEST

/* ---- bounds and bombs ---- */

static char big[CPM_ACTIONS_BYTES_MAX * 2];

static struct cpm_pl many(size_t n)
{
	struct cpm_wr w;

	cpm_wr_init(&w, big, sizeof(big));
	cpm_wr_str(&w, ROOT);
	for(size_t i = 0; i < n; i++) {
		cpm_wr_str(&w, "<message id='");
		cpm_wr_u64(&w, i);
		cpm_wr_str(&w, "' action='discard'/>");
	}
	cpm_wr_str(&w, END);
	ck_assert(cpm_wr_ok(&w));
	return cpm_wr_pl(&w);
}

START_TEST(a_thousand)
{
	struct io_actions *a = NULL;

	ck_assert_int_eq(io_actions_parse(many(CPM_ACTIONS_MAX), &a, NULL), CPM_OK);
	ck_assert_uint_eq(io_actions_get(a)->count, CPM_ACTIONS_MAX);
	ck_pl_eq(io_actions_get(a)->items[CPM_ACTIONS_MAX - 1].id, "999");
	io_actions_free(&a);
	ck_assert_int_eq(xmllint(REQUESTS, many(CPM_ACTIONS_MAX)), 0);

	ck_assert_str_eq(
			refused(many(CPM_ACTIONS_MAX + 1), CPM_ELIMIT), "too-many-items");
	ck_assert_int_ne(xmllint(REQUESTS, many(CPM_ACTIONS_MAX + 1)), 0);
	ck_assert_str_eq(refused(many(10000), CPM_ELIMIT), "too-long");
}
END_TEST

/* A document of one thing repeated, to nearly its largest. */
static struct cpm_pl repeated(const char *head, const char *again)
{
	struct cpm_wr w;

	cpm_wr_init(&w, big, sizeof(big));
	cpm_wr_str(&w, head);
	while(w.n + strlen(again) <= CPM_ACTIONS_BYTES_MAX)
		cpm_wr_str(&w, again);
	return cpm_wr_pl(&w);
}

#define BOMBS 13
START_TEST(bombs)
{
	static const struct
	{
		const char *head, *again;
		int rc;
		const char *why;
	} rows[] = {
			{ROOT, "<message id='a' action='keep'>", CPM_EPROTO,
					"unknown-element"},
			{"", "<a>", CPM_EPROTO, "bad-root"},
			{ROOT, "<f xmlns='urn:f'>", CPM_EPROTO, "foreign-element"},
			{"<queue-actions ", "a", CPM_ELIMIT, "tag-too-long"},
			{"<queue-actions " NS " default='", ">", CPM_ELIMIT,
					"tag-too-long"},
			{"<queue-actions " NS " default='", "&amp;", CPM_ELIMIT,
					"tag-too-long"},
			{ROOT, " ", CPM_ELIMIT, "tag-too-long"},
			{ROOT "<!--", " ", CPM_ELIMIT, "tag-too-long"},
			{ROOT "<?", "a", CPM_ELIMIT, "tag-too-long"},
			{ROOT, "<!-- -->", CPM_EPROTO, "bad-xml"},
			{ROOT, "<![CDATA[]]>", CPM_EPROTO, "bad-xml"},
			{ROOT, "<", CPM_EPROTO, "bad-xml"},
			{"", "&a;", CPM_ELIMIT, "tag-too-long"},
	};

	_Static_assert(FU_N(rows) == BOMBS, "rows");

	ck_assert_str_eq(
			refused(repeated(rows[_i].head, rows[_i].again), rows[_i].rc),
			rows[_i].why);
}
END_TEST

/* as many attributes and prefixes as a tag can take, in every tag */
START_TEST(attributes)
{
	struct cpm_wr w;
	struct io_actions *a = NULL;
	size_t tags = 0;

	cpm_wr_init(&w, big, sizeof(big));
	cpm_wr_str(&w, "<queue-actions xmlns:f='urn:f' " NS ">");
	while(w.n + 2 * CPM_ACTIONS_TAG_MAX < CPM_ACTIONS_BYTES_MAX) {
		size_t start = w.n;

		cpm_wr_str(&w, "<message action='keep' id='");
		cpm_wr_u64(&w, tags++);
		cpm_wr_chr(&w, '\'');
		for(uint64_t i = 0; w.n - start < CPM_ACTIONS_TAG_MAX - 40; i++) {
			cpm_wr_str(&w, i % 2 ? " f:a" : " xmlns:p");
			cpm_wr_u64(&w, i);
			cpm_wr_str(&w, "='x'");
		}
		cpm_wr_str(&w, "/>");
	}
	cpm_wr_str(&w, END);
	ck_assert_int_eq(io_actions_parse(cpm_wr_pl(&w), &a, NULL), CPM_OK);
	ck_assert_uint_eq(io_actions_get(a)->count, tags);
	io_actions_free(&a);
}
END_TEST

/* the parser is given chunks: a boundary anywhere changes nothing */
START_TEST(anywhere)
{
	static const char tail[] =
			"<!-- \xc3\xa4\xf0\x9f\x98\x80 --><?p \xc3\xa4?>\r\n"
			"<message xmlns:f='urn:f' f:t='\xe2\x82\xac&#x20ac;\r\n' "
			"id='a&amp;&#38;&#x62;' action='interwork'></message>\r\n" END
			"\r\n";

	for(size_t pad = 0; pad < sizeof(tail) + 40; pad++) {
		struct cpm_wr w;

		cpm_wr_init(&w, big, sizeof(big));
		cpm_wr_str(&w, HEAD "<queue-actions default='retrieve' " NS ">");
		while(w.n + sizeof(tail) + 20 < 8192)
			cpm_wr_str(&w, "<!--x-->");
		for(size_t i = 0; i < pad; i++)
			cpm_wr_chr(&w, ' ');
		cpm_wr_str(&w, tail);
		cpm_wr_chr(&w, '\0');
		check_good(&(struct good){big, "a&&b=interwork default=retrieve rest"});
	}
}
END_TEST

/* ---- what libxml2 shares with others ---- */

static unsigned opened, printed;

static int open_match(const char *name)
{
	(void)name;
	opened++;
	return 0;
}

static void on_generic(void *arg, const char *format, ...)
{
	(void)arg;
	(void)format;
	printed++;
}

static void all_of_them(void)
{
	for(size_t i = 0; i < FU_N(good); i++)
		check_good(&good[i]);
	for(size_t i = 0; i < FU_N(bad); i++)
		ck_assert_str_eq(refused(bad[i].xml, CPM_EPROTO), bad[i].why);
}

/* Another module has turned on what it likes, and has handlers. */
START_TEST(shared_state)
{
	int mark;

	xmlInitParser();
	ck_assert_int_ge(
			xmlRegisterInputCallbacks(open_match, NULL, NULL, NULL), 0);
	xmlSetGenericErrorFunc(&mark, on_generic);
	xmlKeepBlanksDefault(0);
	xmlSubstituteEntitiesDefault(1);
	xmlDoValidityCheckingDefaultValue = 1;
	xmlLoadExtDtdDefaultValue = 1;
	all_of_them();
	ck_assert_uint_eq(opened, 0);
	ck_assert_uint_eq(printed, 0);
	ck_assert(xmlGenericError == on_generic);
	ck_assert_ptr_eq(xmlGenericErrorContext, &mark);
	ck_assert(xmlStructuredError == NULL);
	ck_assert_int_eq(xmlKeepBlanksDefault(0), 0);
	ck_assert_int_eq(xmlSubstituteEntitiesDefault(1), 1);
	ck_assert_int_eq(xmlLoadExtDtdDefaultValue, 1);

	/* and it would have been seen */
	ck_assert_ptr_null(xmlReadMemory("<a", 2, NULL, NULL, 0));
	ck_assert_uint_gt(printed, 0);
	ck_assert_ptr_null(xmlReadFile("no-such-file", NULL, XML_PARSE_NOERROR));
	ck_assert_uint_gt(opened, 0);
}
END_TEST

START_TEST(silence)
{
	FILE *log = tmpfile();
	int out, err;

	ck_assert_ptr_nonnull(log);
	(void)fflush(NULL);
	out = dup(1);
	err = dup(2);
	ck_assert_int_eq(dup2(fileno(log), 1), 1);
	ck_assert_int_eq(dup2(fileno(log), 2), 2);
	all_of_them();
	(void)fflush(NULL);
	ck_assert_int_eq(dup2(out, 1), 1);
	ck_assert_int_eq(dup2(err, 2), 2);
	ck_assert_int_eq(lseek(fileno(log), 0, SEEK_END), 0);
	(void)fclose(log);
}
END_TEST

/* Whether somebody has opened what fd watches. */
static bool was_opened(int fd)
{
	char buf[4096];

	return read(fd, buf, sizeof(buf)) > 0;
}

START_TEST(external_entity)
{
	static const char *const forms[] = {
			"<!DOCTYPE queue-actions [<!ENTITY x SYSTEM 'file://%s'>]>" ROOT
					KEEP("a") "&x;" END,
			"<!DOCTYPE queue-actions SYSTEM 'file://%s'>" ROOT KEEP("&x;") END,
			"<!DOCTYPE queue-actions [<!ENTITY %% x SYSTEM '%s'>%%x;]>" ROOT
					END,
			"<?xml-stylesheet href='file://%s'?>" ROOT KEEP("a") END,
			"<queue-actions xmlns:x='http://www.w3.org/2001/XMLSchema-instance'"
			" x:schemaLocation='urn:cpm-pf:queue-actions:1 %s' " NS "/>",
			"<queue-actions xml:base='file://%s' " NS "/>",
	};
	char path[] = "/tmp/cpm-actions-XXXXXX", xml[1024];
	int file = mkstemp(path), watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	ck_assert_int_ge(file, 0);
	ck_assert_int_ge(watch, 0);
	ck_assert_int_eq(write(file, "secret", 6), 6);
	close(file);
	ck_assert_int_ge(inotify_add_watch(watch, path, IN_OPEN | IN_ACCESS), 0);
	for(size_t i = 0; i < FU_N(forms); i++) {
		struct io_actions *a = NULL;
		int n = snprintf(xml, sizeof(xml), forms[i], path), rc;

		ck_assert(n > 0 && (size_t)n < sizeof(xml));
		rc = io_actions_parse(cpm_pl(xml, (size_t)n), &a, NULL);
		ck_assert_int_eq(rc, i < 3 ? CPM_EPROTO : CPM_OK);
		io_actions_free(&a);
		ck_assert_msg(!was_opened(watch), "it was, by form %zu", i);
	}
	file = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_msg(was_opened(watch), "the watch does not see");
	close(file);
	close(watch);
	ck_assert_int_eq(unlink(path), 0);
}
END_TEST

static bool was_short;

#if LIBXML_VERSION >= 21200
static void on_structured(void *arg, const xmlError *error)
#else
static void on_structured(void *arg, xmlErrorPtr error)
#endif
{
	(void)arg;
	was_short = was_short || error->code == XML_ERR_NO_MEMORY;
}

static long live; /* what libxml2 has */

static void *count_malloc(size_t n)
{
	void *p = ladder_malloc(n);

	live += p != NULL;
	return p;
}

static void *count_realloc(void *old, size_t n)
{
	void *p = ladder_realloc(old, n);

	live += p != NULL && old == NULL;
	return p;
}

static char *count_strdup(const char *s)
{
	char *p = ladder_strdup(s);

	live += p != NULL;
	return p;
}

static void count_free(void *p)
{
	live -= p != NULL;
	ladder_free(p);
}

/* Not ladder_climb: libxml2 gets through without some of what it asks for,
 * and then the list is the whole list; and it tells the process, not its
 * caller, when it had no memory to look at a namespace's URI, and calls the
 * URI a bad one. */
START_TEST(ladder)
{
	static const char xml[] =
			HEAD "<queue-actions xmlns:f='urn:f' f:a='&amp;&lt;' " NS ">"
				 "<!-- c --><?p i?>" KEEP("a&amp;b") KEEP("c") END;
	bool fell = true;
	size_t rung, refusals = 0;

	ck_assert_int_eq(
			xmlMemSetup(count_free, count_malloc, count_realloc, count_strdup),
			0);
	xmlInitParser();
	xmlSetStructuredErrorFunc(NULL, on_structured);
	check_good(&(struct good){xml, "a&b=keep c=keep"});
	for(rung = 1; fell; rung++) {
		struct io_actions *a = NULL;
		struct cpm_diag diag = {NULL, 0};
		long before;
		int rc;

		xmlResetLastError(); /* which is kept for the process */
		before = live;
		was_short = false;
		ladder_arm(rung);
		rc = io_actions_parse(cpm_pl_str(xml), &a, &diag);
		fell = ladder_disarm();
		ck_assert(rc == CPM_OK || fell);
		if(rc == CPM_OK) {
			ck_pl_eq(describe(io_actions_get(a)), "a&b=keep c=keep");
		} else {
			refusals++;
			ck_assert_ptr_null(a);
			ck_assert_str_eq(diag.why, rc == CPM_ENOMEM ? "no-memory"
									   : was_short		? "bad-xml"
														: "");
		}
		io_actions_free(&a);
		xmlResetLastError();
		ck_assert_int_eq(live, before);
	}
	ck_assert_uint_ge(refusals, 10);
}
END_TEST

/* ---- the body of an INVITE ---- */

START_TEST(of_body)
{
	static const char sdp_part[] = "--b\r\nContent-Type: application/sdp"
								   "\r\n\r\nv=0\r\n";
	static const char list_part[] =
			"\r\n--b\r\nContent-Type: " CPM_ACTIONS_TYPE "\r\n\r\n";
	static const struct cpm_pl mixed = CPM_PL_LIT("multipart/mixed;boundary=b");
	struct io_actions *a = NULL;
	struct cpm_pl sdp = CPM_PL_NULL;
	struct cpm_diag diag = {NULL, 0};
	char body[1024];
	int n;

	ck_assert_int_eq(io_actions_of_body(CPM_PL_LIT("application/sdp"),
							 CPM_PL_LIT("v=0"), &sdp, &a, &diag),
			CPM_OK);
	ck_pl_eq(sdp, "v=0");
	ck_assert_ptr_null(a);
	ck_assert(!io_actions_get(a)->listed);
	ck_assert_uint_eq(io_actions_get(a)->count, 0);
	ck_assert(cpm_actions_rest(io_actions_get(a)));

	n = snprintf(body, sizeof(body), "%s%s%s\r\n--b--", sdp_part, list_part,
			ROOT KEEP("a") END);
	ck_assert_int_eq(
			io_actions_of_body(mixed, cpm_pl(body, (size_t)n), &sdp, &a, &diag),
			CPM_OK);
	ck_assert(fu_pl_inside(sdp, cpm_pl(body, (size_t)n)));
	ck_pl_eq(sdp, "v=0\r\n");
	ck_pl_eq(describe(io_actions_get(a)), "a=keep");
	io_actions_free(&a);

	sdp = CPM_PL_NULL;
	n = snprintf(body, sizeof(body), "%s%s%s\r\n--b--", sdp_part, list_part,
			ROOT "<message id='a' action='burn'/>" END);
	ck_assert_int_eq(
			io_actions_of_body(mixed, cpm_pl(body, (size_t)n), &sdp, &a, &diag),
			CPM_EPROTO);
	ck_assert_str_eq(diag.why, "unknown-action");
	/* an empty list part asks for nothing that could be done */
	n = snprintf(body, sizeof(body), "%s%s\r\n--b--", sdp_part, list_part);
	ck_assert_int_eq(
			io_actions_of_body(mixed, cpm_pl(body, (size_t)n), &sdp, &a, &diag),
			CPM_EPROTO);
	ck_assert_str_eq(diag.why, "no-xml");
	ck_assert_int_eq(io_actions_of_body(mixed, cpm_pl(body, (size_t)n - 2),
							 &sdp, &a, NULL),
			CPM_EPROTO);
	ck_assert_ptr_null(a);
	ck_assert_ptr_null(sdp.p);
}
END_TEST

/* ---- results ---- */

START_TEST(valid_results)
{
	static const size_t counts[] = {0, 1, CPM_ACTIONS_MAX};
	static const char *const reasons[] = {NULL, "no-such-message", "<\"&'>"};
	size_t count = counts[_i], cap = cpm_results_max(count);
	char *buf = malloc(cap), id[CPM_MSG_ID_MAX];
	struct cpm_wr w;

	ck_assert_ptr_nonnull(buf);
	cpm_wr_init(&w, buf, cap);
	cpm_results_begin(&w);
	for(size_t i = 0; i < count; i++) {
		/* every byte that an id may have */
		for(size_t k = 0; k < sizeof(id); k++)
			id[k] = (char)('!' + (i + k) % ('~' - '!' + 1));
		cpm_results_item(&w, cpm_pl(id, 1 + (i * 7) % sizeof(id)),
				(enum cpm_action_kind)(i % 5), (enum cpm_result_status)(i % 3),
				reasons[i % 3]);
	}
	cpm_results_end(&w);
	ck_assert(cpm_wr_ok(&w));
	ck_assert_int_eq(xmllint(RESULTS, cpm_wr_pl(&w)), 0);
	free(buf);
}
END_TEST

START_TEST(invalid_results)
{
	static const char *const rows[] = {
			"<queue-results/>",
			"<queue-results xmlns='urn:cpm-pf:queue-results:1'><result id='a'"
			" action='keep'/></queue-results>",
			"<queue-results xmlns='urn:cpm-pf:queue-results:1'><result id='a'"
			" action='keep' status='done'/></queue-results>",
			"<queue-results xmlns='urn:cpm-pf:queue-results:1'><result id='a b'"
			" action='keep' status='ok'/></queue-results>",
	};

	for(size_t i = 0; i < FU_N(rows); i++)
		ck_assert_int_eq(xmllint(RESULTS, cpm_pl_str(rows[i])), 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_actions");

	fu_table(s, "a list is read, and is valid", taken, FU_N(good));
	fu_case(s, "blanks in an empty element are no obstacle, but to the schema",
			blanks);
	fu_table(s, "a list that is wrong is refused, and is not valid", bad_lists,
			FU_N(bad));
	fu_case(s, "the schema refuses what it can, and no more", only_ours);
	fu_case(s, "UTF-16 is refused", utf16);
	fu_case(s, "a list that is cut off anywhere is refused", cut_off);
	fu_case(s, "a thousand messages are enough", a_thousand);
	fu_table(s, "a bomb is refused", bombs, BOMBS);
	fu_case(s, "crowded tags are read", attributes);
	fu_case(s, "wherever a chunk ends, the list is the same", anywhere);
	fu_case(s, "what other modules told libxml2 changes nothing, and stays",
			shared_state);
	fu_case(s, "nothing is printed", silence);
	fu_case(s, "no file is opened", external_entity);
	fu_case(s, "without memory nothing is read and nothing leaks", ladder);
	fu_case(s, "an INVITE has SDP, and perhaps a list", of_body);
	fu_table(s, "results are valid", valid_results, 3);
	fu_case(s, "the schema of results refuses what is none", invalid_results);
	return fu_run(s);
}
