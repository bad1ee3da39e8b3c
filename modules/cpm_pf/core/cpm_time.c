/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_time.c - dates of SIP and JSON, without libc's clock or time zones.
 *
 * runs in:  anything; pure functions
 *
 *     SIP-date  = wkday "," SP 1*2DIGIT SP month SP 4DIGIT SP time SP "GMT"
 *     time      = 2DIGIT ":" 2DIGIT ":" 2DIGIT
 *
 *     date-time = 4DIGIT "-" 2DIGIT "-" 2DIGIT "T" time [ "." 1*DIGIT ] zone
 *     zone      = "Z" / ( "+" / "-" ) 2DIGIT ":" 2DIGIT
 *
 * Days are counted in years that begin on 1 March, so that the leap day is
 * the last of its year and no month table is needed.
 */

#include "cpm_time.h"

#define DAY_SEC 86400u
#define ERA_DAYS 146097u   /* of 400 years */
#define EPOCH_DAYS 719468u /* from 1 March of year 0 to 1 January 1970 */
#define SEC_MAX UINT64_C(253402300799) /* 9999-12-31T23:59:59Z */

struct civil
{
	unsigned year, month, day; /* month and day from 1 */
	unsigned hour, min, sec;
};

static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
		"Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/* from 1 January 1970, a Thursday */
static const char wkdays[7][4] = {
		"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};

static bool is_leap(unsigned year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static unsigned month_days(unsigned year, unsigned month)
{
	static const unsigned char days[12] = {
			31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return days[month - 1] + (month == 2 && is_leap(year) ? 1u : 0u);
}

static bool civil_ok(const struct civil *c)
{
	return c->year >= 1970 && c->year <= 9999 && c->month >= 1 && c->month <= 12
		   && c->day >= 1 && c->day <= month_days(c->year, c->month)
		   && c->hour < 24 && c->min < 60 && c->sec <= 60;
}

static uint64_t civil_to_sec(const struct civil *c)
{
	unsigned y = c->month <= 2 ? c->year - 1 : c->year;
	unsigned from_march = (c->month + 9) % 12;
	unsigned year_day = (153 * from_march + 2) / 5 + c->day - 1;
	unsigned days = y * 365 + y / 4 - y / 100 + y / 400 + year_day - EPOCH_DAYS;
	/* a leap second is told as the one before it: Unix time has none, and
	 * the last one of 9999 would be in a year of five digits */
	unsigned sec = c->sec == 60 ? 59 : c->sec;

	return (uint64_t)days * DAY_SEC + c->hour * 3600u + c->min * 60u + sec;
}

static struct civil civil_from_sec(uint64_t sec)
{
	unsigned days = (unsigned)(sec / DAY_SEC) + EPOCH_DAYS;
	unsigned rest = (unsigned)(sec % DAY_SEC);
	unsigned era = days / ERA_DAYS;
	unsigned era_day = days % ERA_DAYS;
	unsigned era_year =
			(era_day - era_day / 1460 + era_day / 36524 - era_day / 146096)
			/ 365;
	unsigned year_day =
			era_day - (365 * era_year + era_year / 4 - era_year / 100);
	unsigned from_march = (5 * year_day + 2) / 153;
	unsigned month = from_march < 10 ? from_march + 3 : from_march - 9;

	return (struct civil){
			.year = era_year + era * 400 + (month <= 2 ? 1u : 0u),
			.month = month,
			.day = year_day - (153 * from_march + 2) / 5 + 1,
			.hour = rest / 3600,
			.min = rest / 60 % 60,
			.sec = rest % 60,
	};
}

/* The takers consume from the front of *in and return false where the input
 * is something else. */
static bool take_chr(struct cpm_pl *in, char c)
{
	if(in->n == 0 || in->p[0] != c)
		return false;
	*in = cpm_pl_from(*in, 1);
	return true;
}

static bool take_ichr(struct cpm_pl *in, char c)
{
	struct cpm_pl one = cpm_pl(&c, 1);

	if(!cpm_pl_istarts(*in, one))
		return false;
	*in = cpm_pl_from(*in, 1);
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* least..most digits; most <= 4, so v cannot overflow */
static bool take_num(struct cpm_pl *in, size_t least, size_t most, unsigned *v)
{
	unsigned sum = 0;
	size_t i = 0;

	for(; i < most && i < in->n && is_digit(in->p[i]); i++)
		sum = sum * 10 + (unsigned)(in->p[i] - '0');
	if(i < least)
		return false;
	*in = cpm_pl_from(*in, i);
	*v = sum;
	return true;
}

/* Index of the three-letter name in front, taken; n when it is none. */
static unsigned take_name(struct cpm_pl *in, const char names[][4], unsigned n)
{
	for(unsigned i = 0; i < n; i++)
		if(cpm_pl_istarts(*in, cpm_pl(names[i], 3))) {
			*in = cpm_pl_from(*in, 3);
			return i;
		}
	return n;
}

static bool take_time(struct cpm_pl *in, struct civil *c)
{
	return take_num(in, 2, 2, &c->hour) && take_chr(in, ':')
		   && take_num(in, 2, 2, &c->min) && take_chr(in, ':')
		   && take_num(in, 2, 2, &c->sec);
}

int cpm_time_parse_sip(struct cpm_pl a, uint64_t *sec_r)
{
	struct civil c;

	/* a wrong day of the week is the sender's slip; the date still counts */
	if(take_name(&a, wkdays, 7) == 7 || !take_chr(&a, ','))
		return CPM_EPROTO;
	(void)take_chr(&a, ' ');
	if(!take_num(&a, 1, 2, &c.day) || !take_chr(&a, ' '))
		return CPM_EPROTO;
	c.month = take_name(&a, months, 12) + 1;
	if(!take_chr(&a, ' ') || !take_num(&a, 4, 4, &c.year) || !take_chr(&a, ' ')
			|| !take_time(&a, &c) || !take_chr(&a, ' '))
		return CPM_EPROTO;
	if(!cpm_pl_ieq(a, CPM_PL_LIT("GMT")) || !civil_ok(&c))
		return CPM_EPROTO;
	*sec_r = civil_to_sec(&c);
	return CPM_OK;
}

/* [ "." 1*DIGIT ]; what is finer than a millisecond is dropped */
static bool take_frac(struct cpm_pl *in, unsigned *ms)
{
	static const unsigned scale[3] = {100, 10, 1};
	size_t i = 0;

	*ms = 0;
	if(!take_chr(in, '.'))
		return true;
	for(; i < in->n && is_digit(in->p[i]); i++)
		if(i < 3)
			*ms += (unsigned)(in->p[i] - '0') * scale[i];
	*in = cpm_pl_from(*in, i);
	return i > 0;
}

/* *east_r: seconds that local time is ahead of UTC */
static bool take_zone(struct cpm_pl *in, int64_t *east_r)
{
	unsigned hour, min;
	bool east;

	*east_r = 0;
	if(take_ichr(in, 'Z'))
		return true;
	east = take_chr(in, '+');
	if(!east && !take_chr(in, '-'))
		return false;
	if(!take_num(in, 2, 2, &hour) || !take_chr(in, ':')
			|| !take_num(in, 2, 2, &min) || hour > 23 || min > 59)
		return false;
	*east_r = (int64_t)(hour * 3600u + min * 60u);
	if(!east)
		*east_r = -*east_r;
	return true;
}

int cpm_time_parse_rfc3339(struct cpm_pl a, uint64_t *ms_r)
{
	struct civil c;
	unsigned ms;
	int64_t sec, east;

	if(!take_num(&a, 4, 4, &c.year) || !take_chr(&a, '-')
			|| !take_num(&a, 2, 2, &c.month) || !take_chr(&a, '-')
			|| !take_num(&a, 2, 2, &c.day) || !take_ichr(&a, 'T')
			|| !take_time(&a, &c) || !take_frac(&a, &ms)
			|| !take_zone(&a, &east))
		return CPM_EPROTO;
	if(a.n != 0 || !civil_ok(&c))
		return CPM_EPROTO;
	sec = (int64_t)civil_to_sec(&c) - east;
	if(sec < 0 || sec > (int64_t)SEC_MAX)
		return CPM_EPROTO;
	*ms_r = (uint64_t)sec * 1000 + ms;
	return CPM_OK;
}

static void put_num(struct cpm_wr *w, unsigned v, size_t width)
{
	char digits[4];

	for(size_t i = width; i-- > 0; v /= 10)
		digits[i] = (char)('0' + v % 10);
	cpm_wr_pl_put(w, cpm_pl(digits, width));
}

static void put_time(struct cpm_wr *w, const struct civil *c)
{
	put_num(w, c->hour, 2);
	cpm_wr_chr(w, ':');
	put_num(w, c->min, 2);
	cpm_wr_chr(w, ':');
	put_num(w, c->sec, 2);
}

void cpm_time_put_sip(struct cpm_wr *w, uint64_t sec)
{
	struct civil c;

	if(sec > SEC_MAX)
		sec = SEC_MAX;
	c = civil_from_sec(sec);
	cpm_wr_str(w, wkdays[sec / DAY_SEC % 7]);
	cpm_wr_str(w, ", ");
	put_num(w, c.day, 2);
	cpm_wr_chr(w, ' ');
	cpm_wr_str(w, months[c.month - 1]);
	cpm_wr_chr(w, ' ');
	put_num(w, c.year, 4);
	cpm_wr_chr(w, ' ');
	put_time(w, &c);
	cpm_wr_str(w, " GMT");
}

void cpm_time_put_rfc3339(struct cpm_wr *w, uint64_t ms)
{
	struct civil c;

	if(ms > SEC_MAX * 1000 + 999)
		ms = SEC_MAX * 1000 + 999;
	c = civil_from_sec(ms / 1000);
	put_num(w, c.year, 4);
	cpm_wr_chr(w, '-');
	put_num(w, c.month, 2);
	cpm_wr_chr(w, '-');
	put_num(w, c.day, 2);
	cpm_wr_chr(w, 'T');
	put_time(w, &c);
	cpm_wr_chr(w, '.');
	put_num(w, (unsigned)(ms % 1000), 3);
	cpm_wr_chr(w, 'Z');
}
