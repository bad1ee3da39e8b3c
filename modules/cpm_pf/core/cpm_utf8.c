/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_utf8.h"

size_t cpm_utf8_len(struct cpm_pl a, size_t i)
{
	const unsigned char *p = (const unsigned char *)a.p + i;
	unsigned char lo = 0x80, hi = 0xbf; /* of the second byte */
	size_t len;

	if(p[0] < 0x80) {
		return p[0] != 0 ? 1 : 0;
	}
	if(p[0] >= 0xc2 && p[0] <= 0xdf) {
		len = 2;
	} else if(p[0] >= 0xe0 && p[0] <= 0xef) {
		len = 3;
	} else if(p[0] >= 0xf0 && p[0] <= 0xf4) {
		len = 4;
	} else {
		return 0;
	}
	/* no overlong forms, no surrogates, nothing above U+10FFFF */
	if(p[0] == 0xe0) {
		lo = 0xa0;
	} else if(p[0] == 0xed) {
		hi = 0x9f;
	} else if(p[0] == 0xf0) {
		lo = 0x90;
	} else if(p[0] == 0xf4) {
		hi = 0x8f;
	}
	if(a.n - i < len || p[1] < lo || p[1] > hi) {
		return 0;
	}
	for(size_t j = 2; j < len; j++) {
		if(p[j] < 0x80 || p[j] > 0xbf) {
			return 0;
		}
	}
	return len;
}

struct cpm_pl cpm_utf8_clean(
		struct cpm_pl a, char *buf, size_t cap, bool *cut_r)
{
	size_t i = 0, n = 0;

	while(i < a.n) {
		size_t len = cpm_utf8_len(a, i);
		unsigned char c = (unsigned char)a.p[i];
		bool plain = len > 1 || (len == 1 && c >= ' ' && c != 0x7f);

		if(n + (plain ? len : 1) > cap) {
			break;
		}
		if(plain) {
			memcpy(buf + n, a.p + i, len);
			n += len;
		} else {
			buf[n++] = '?';
		}
		i += len > 0 ? len : 1;
	}
	if(cut_r != NULL) {
		*cut_r = i < a.n;
	}
	return cpm_pl(buf, n);
}
