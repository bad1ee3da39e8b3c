/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_object.c - whatever a record holds, its object has headers of our names
 * only, no line over 998 bytes, no control character, and the body behind them
 * as it was; it is known again; its folder has the levels of the template.
 *
 * The input is the fields, divided by 0xfe.
 */

#include <stdlib.h>

#include "cpm_object.h"

#define INPUT_MAX 16384

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static const char *const names[] = {"From", "To", "Date", "Subject",
		"P-Asserted-Service", "Conversation-ID", "Contribution-ID",
		"InReplyTo-Contribution-ID", "Accept-Contact", "IMDN-Message-ID",
		"Message-Direction", "X-CPM-Fingerprint", "MIME-Version",
		"Content-Type", "Content-Encoding", "Content-Transfer-Encoding"};

static bool is_ours(struct cpm_pl name)
{
	for(size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if(cpm_pl_eq(name, cpm_pl_str(names[i])))
			return true;
	return false;
}

static void check_object(struct cpm_pl object, const struct cpm_msg *m)
{
	struct cpm_pl rest = object;
	bool base64 = false;

	for(;;) {
		struct cpm_pl line = cpm_pl_cut(&rest, '\n');
		must(rest.p != NULL && line.n > 0 && line.p[line.n - 1] == '\r');
		must(line.n - 1 <= CPM_OBJECT_LINE_MAX);
		must(cpm_pl_ctl(line) == line.n - 1);
		if(line.n == 1)
			break;
		must(line.p[0] == ' '
				|| is_ours(cpm_pl(line.p, cpm_pl_chr(line, ':'))));
		base64 = base64
				 || cpm_pl_starts(
						 line, CPM_PL_LIT("Content-Transfer-Encoding: base64"));
	}
	if(!base64) {
		must(rest.n >= m->body.n);
		must(cpm_pl_eq(cpm_pl_from(rest, rest.n - m->body.n), m->body));
	}
	must(cpm_object_is(object, m));
}

static void check_folder(const struct cpm_msg *m, char delim)
{
	char buf[CPM_OBJECT_FOLDER_MAX];
	struct cpm_wr w;
	size_t levels = 0;

	cpm_wr_init(&w, buf, sizeof(buf));
	must(cpm_object_folder(CPM_PL_LIT("A/{conversation}/{contribution}/{user}"),
				 m, delim, &w)
			== CPM_OK);
	for(size_t i = 0; i < w.n; i++) {
		levels += buf[i] == delim;
		must(buf[i] >= ' ' && buf[i] <= '~');
		must(strchr("*%\"\\", buf[i]) == NULL);
	}
	must(levels == 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char out[4 * INPUT_MAX + 16384];
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_msg m;
	struct cpm_wr w;

	if(size < 2 || size > INPUT_MAX)
		return 0;
	memset(&m, 0, sizeof(m));
	m.flags = data[0];
	m.fingerprint = data[1];
	m.received_ms = 1289700000000;
	in = cpm_pl_from(in, 2);
	m.from = cpm_pl_cut(&in, '\xfe');
	m.to = cpm_pl_cut(&in, '\xfe');
	m.subject = cpm_pl_cut(&in, '\xfe');
	m.content_type = cpm_pl_cut(&in, '\xfe');
	m.conversation_id = cpm_pl_cut(&in, '\xfe');
	m.contribution_id = cpm_pl_cut(&in, '\xfe');
	m.headers = cpm_pl_cut(&in, '\xfe');
	m.aside = cpm_pl_cut(&in, '\xfe');
	m.body = in;
	m.id = CPM_PL_LIT("id-1");
	m.aor = CPM_PL_LIT("sip:bob@example.org");
	m.originator = CPM_PL_LIT("sip:alice@example.org");
	cpm_wr_init(&w, out, cpm_object_max(&m));
	must(cpm_object_max(&m) <= sizeof(out));
	must(cpm_object_build(&m, &w) == CPM_OK);
	check_object(cpm_wr_pl(&w), &m);
	check_folder(&m, '/');
	check_folder(&m, '.');
	must(cpm_object_template_check(m.subject, NULL) <= 0);
	return 0;
}
