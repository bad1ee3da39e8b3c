-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- contacts: who is registered, as a registrar elsewhere tells it, and our
-- subscription to that. What is stored: cpm_reginfo.h. Its keys are its own:
--
-- KEYS  1 index of the shard (kq), 2 contacts of the user (km), 3 the user's
--       queue (klock)
-- ARGV  3 what:
--
-- get     returns {expires in ms, record}...
-- want    4 for how long whatever the queue is, in ms, 5 whether one more
--         subscription may be: 1 or 0
--         returns {subscription: 0 none, 1 there is one, 2 new, 3 none, for
--         there may be no more; something is queued; how many contacts}
-- take    4 ms to wait for an answer and its NOTIFY, 5 how long to stay with
--         an empty queue, 6 ms before the first try again, 7 Call-ID and 8 tag
--         for a new dialog
--         returns {} or {S subscribe, R refresh or U unsubscribe, Call-ID, our
--         tag, their tag, CSeq, target, routes}
-- answer  4 Call-ID, 5 CSeq, 6 k keep, n anew, r retry or x rest, 7 in ms (0:
--         as often as it has failed), 8 ms before the first try again
-- notify  4 Call-ID, 5 our tag, 6 their tag, 7 CSeq, 8 version or -1: no
--         document, 9 full, 10 active, 11 expires in ms, 12 and 13 as answer's
--         6 and 7, 14 ms before the first try again, 15 how long to stay with
--         an empty queue, 16 target, 17 routes, 18... contacts
--         returns {status, something is queued, new, refreshed, removed}; 0:
--         no such dialog; 1 taken; 2 out of order; 3 nothing new
-- apply   4 whose (-: whose order has been looked at), 5 CSeq, 6 version, 7
--         full, 8... contacts; returns as notify
-- forget  returns as notify
-- due     4 limit, 5 claim_ms; of the shard: keys 2 and 3 are not used
--         returns {ms until the next, how many there are, users...}
--
-- A contact is "<key> <a active or t terminated> <ms> <signature> <1: a new
-- binding, by its event> \n<record>".

local kqueue = klock
local what = ARGV[3]
local MOST = 16 -- CPM_REG_USER_CONTACTS
local LONGEST = 3600000 -- between two tries

local function queued()
	return call('EXISTS', klock)
end

-- ------------------------------------------------------------- the dialog

local function dialog_get()
	local s, at, till, refresh, cseq, rcseq, ver, tries, idle, keep, callid,
		ltag, rtag, target, routes = string.match(call('HGET', km, 'd') or '',
			'^(%u) (%d+) (%d+) (%d+) (%d+) (-?%d+) (-?%d+) (%d+) (%d+) (%d+)\n'
			.. '(%S+) (%S+) (%S+)\n([^\n]*)\n([^\n]*)$')
	return s and {s = s, at = tonumber(at), till = tonumber(till),
		refresh = tonumber(refresh), cseq = tonumber(cseq),
		rcseq = tonumber(rcseq), ver = tonumber(ver), tries = tonumber(tries),
		idle = tonumber(idle), keep = tonumber(keep), callid = callid,
		ltag = ltag, rtag = rtag, target = target, routes = routes} or nil
end

local function dialog_put(d)
	call('HSET', km, 'd', d.s .. ' ' .. int(d.at) .. ' ' .. int(d.till) .. ' '
		.. int(d.refresh) .. ' ' .. int(d.cseq) .. ' ' .. int(d.rcseq) .. ' '
		.. int(d.ver) .. ' ' .. int(d.tries) .. ' ' .. int(d.idle) .. ' '
		.. int(d.keep) .. '\n' .. d.callid .. ' ' .. d.ltag .. ' ' .. d.rtag
		.. '\n' .. d.target .. '\n' .. d.routes)
	call('ZADD', kq, int(d.at), aor)
end

local function dialog_drop()
	call('HDEL', km, 'd')
	call('ZREM', kq, aor)
end

-- No dialog; when to begin one (W), or when to think of it again (X)
local function without(d, s, at)
	d.s, d.at, d.till, d.refresh = s, at, 0, 0
	d.cseq, d.rcseq, d.ver = 0, -1, -1
	d.callid, d.ltag, d.rtag, d.target, d.routes = '-', '-', '-', '', ''
end

local function backoff(d, first_ms)
	local ms = math.min(first_ms * 2 ^ math.min(d.tries, 20), LONGEST)
	d.tries = d.tries + 1
	return ms
end

local function is_wanted(d)
	return queued() == 1 or d.keep > now
end

-- What a refusal, an end or a silence has to follow
local function plan(d, op, ms, first_ms)
	if op == 'x' then
		without(d, 'X', now + ms)
	elseif op == 'n' and d.tries == 0 then
		d.tries = 1
		without(d, 'W', now)
	else
		local after = backoff(d, first_ms)
		without(d, 'W', now + (ms > 0 and ms or after))
	end
end

-- ------------------------------------------------------------ the contacts

-- By key, without those whose time is over
local function contacts_get()
	local found, n = {}, 0
	local flat = call('HGETALL', km)
	for i = 1, #flat, 2 do
		if string.sub(flat[i], 1, 1) == 'c' then
			local exp, sig, record = string.match(flat[i + 1],
				'^(%d+) (%x+)\n(.+)$')
			if exp and tonumber(exp) > now then
				found[flat[i]] = {exp = tonumber(exp), sig = sig,
					record = record}
				n = n + 1
			elseif what ~= 'get' and what ~= 'want' then
				call('HDEL', km, flat[i])
			end
		end
	end
	return found, n
end

local function soonest(found)
	local first
	for key, c in pairs(found) do
		if not first or c.exp < found[first].exp
			or c.exp == found[first].exp and key < first then
			first = key
		end
	end
	return first
end

-- The list of ARGV from i on. full: what is not in it is gone.
local function contacts_apply(i, full)
	local found, n = contacts_get()
	local listed, new, refreshed, removed = {}, 0, 0, 0
	for j = i, #ARGV do
		local key, op, ms, sig, created, record = string.match(ARGV[j],
			'^(%x+) ([at]) (%d+) (%x+) ([01])\n(.+)$')
		key = key and 'c' .. key
		local old = found[key]
		if op == 'a' and tonumber(ms) > 0 then
			local exp = now + tonumber(ms)
			if not old then
				new, n = new + 1, n + 1
			elseif old.sig ~= sig then
				new = new + (created == '1' and 1 or 0)
				refreshed = refreshed + (created == '1' and 0 or 1)
			elseif math.abs(exp - old.exp) > 10000 then
				refreshed = refreshed + 1
			end
			found[key] = {exp = exp, sig = sig, record = record}
			listed[key] = true
			call('HSET', km, key, int(exp) .. ' ' .. sig .. '\n' .. record)
		elseif op and old then
			call('HDEL', km, key)
			found[key] = nil
			n, removed = n - 1, removed + 1
		end
	end
	for key, _ in pairs(full and found or {}) do
		if not listed[key] then
			call('HDEL', km, key)
			found[key] = nil
			n, removed = n - 1, removed + 1
		end
	end
	while n > MOST do
		local key = soonest(found)
		call('HDEL', km, key)
		found[key] = nil
		n = n - 1
	end
	return new, refreshed, removed, found
end

-- Nothing lies here for longer than it can be of use.
local function expire(d, found)
	local last = d and math.max(d.at, d.till, d.keep) or now
	for _, c in pairs(found or contacts_get()) do
		last = math.max(last, c.exp)
	end
	call('PEXPIRE', km, int(last - now + LONGEST))
end

-- Whether a document of this version is news to who knows the last; and
-- whether one between them is missing
local function is_news(ver, last, full)
	if full then
		return last < 0 or ver > last or ver == 0, false
	end
	return ver > last, last < 0 or ver ~= last + 1
end

-- ---------------------------------------------------------------- the verbs

if what == 'get' then
	local out = {}
	for _, c in pairs((contacts_get())) do
		out[#out + 1] = int(c.exp - now)
		out[#out + 1] = c.record
	end
	return out
end

if what == 'want' then
	local keep_ms, may = tonumber(ARGV[4]), ARGV[5] == '1'
	local _, n = contacts_get()
	local d, q = dialog_get(), queued()
	local status = d and 1 or 0
	if not d and (q == 1 or keep_ms > 0) then
		status = may and 2 or 3
		if may then
			d = {tries = 0, idle = 0, keep = 0}
			without(d, 'W', now)
		end
	end
	if not d then
		return {status, q, n}
	end
	local changed = status == 2
	if keep_ms > 0 and now + keep_ms > d.keep + 1000 then
		d.keep, changed = now + keep_ms, true
	end
	if d.s == 'E' and is_wanted(d) then
		without(d, 'W', now)
		status, changed = 2, true
	elseif d.s == 'W' and d.at > now and keep_ms > 0 then
		-- the registrar has just spoken: it is there
		d.at, d.tries, status, changed = now, 0, 2, true
	elseif d.idle > 0 and is_wanted(d) then
		d.idle, changed = 0, true
	end
	if changed then
		dialog_put(d)
		expire(d)
	end
	return {status, q, n}
end

if what == 'take' then
	local wait_ms, linger_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
	local first_ms = tonumber(ARGV[6])
	local d, op = dialog_get(), nil
	if not d then
		dialog_drop()
		return {}
	end
	if d.at > now then
		dialog_put(d)
		return {}
	end
	if d.s == 'E' or (d.s == 'X' or d.s == 'W') and not is_wanted(d) then
		dialog_drop()
		return {}
	end
	if d.s == 'P' then
		-- no NOTIFY came, which makes the subscription (RFC 6665, 4.1.2.4)
		without(d, 'W', now + backoff(d, first_ms))
	elseif d.s == 'R' or d.s == 'A' and d.till <= now then
		plan(d, 'n', 0, first_ms)
	elseif d.s == 'A' then
		if is_wanted(d) then
			d.idle = 0
		elseif d.idle == 0 then
			d.idle = now
		end
		if d.idle > 0 and d.idle + linger_ms <= now then
			op, d.s, d.cseq, d.at = 'U', 'E', d.cseq + 1, now + wait_ms
		elseif d.refresh <= now then
			op, d.s, d.cseq, d.at = 'R', 'R', d.cseq + 1, now + wait_ms
		else
			d.at = math.min(d.refresh, d.till, now + linger_ms)
		end
	end
	if d.s == 'X' then
		without(d, 'W', now)
	end
	if d.s == 'W' and d.at <= now then
		without(d, 'P', now + wait_ms)
		op, d.callid, d.ltag, d.cseq = 'S', ARGV[7], ARGV[8], 1
	end
	dialog_put(d)
	expire(d)
	return op and {op, d.callid, d.ltag, d.rtag, int(d.cseq), d.target,
		d.routes} or {}
end

if what == 'answer' then
	local op, ms = ARGV[6], tonumber(ARGV[7])
	local d = dialog_get()
	if not d or d.callid ~= ARGV[4] or d.cseq ~= tonumber(ARGV[5]) then
		return 0
	end
	if op == 'k' then
		return 1 -- its NOTIFY says the rest
	end
	if d.s == 'E' then
		dialog_drop()
		return 1
	end
	if op == 'r' and d.rtag ~= '-' and d.till > now + 1000 then
		-- RFC 6665, 4.1.2.2: it is still what it was
		local after = backoff(d, tonumber(ARGV[8]))
		d.s, d.refresh = 'A', now + (ms > 0 and ms or after)
		d.at = math.min(d.refresh, d.till)
	else
		plan(d, op, ms, tonumber(ARGV[8]))
	end
	dialog_put(d)
	expire(d)
	return 1
end

if what == 'notify' then
	local d = dialog_get()
	local cseq, ver, full = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1'
	local left, linger_ms = tonumber(ARGV[11]), tonumber(ARGV[15])
	if not d or d.callid ~= ARGV[4] or d.ltag ~= ARGV[5]
		or d.rtag ~= '-' and d.rtag ~= ARGV[6] then
		return {0, 0, 0, 0, 0}
	end
	if cseq <= d.rcseq then
		return {cseq < d.rcseq and 2 or 3, 0, 0, 0, 0}
	end
	local status, new, refreshed, removed, found, gap = 3, 0, 0, 0, nil, false
	if ver >= 0 then
		local news
		news, gap = is_news(ver, d.ver, full)
		if news then
			status, d.ver = 1, ver
			new, refreshed, removed, found = contacts_apply(18, full)
		end
		gap = news and gap
	end
	d.rtag, d.rcseq, d.target, d.routes = ARGV[6], cseq, ARGV[16], ARGV[17]
	if ARGV[10] ~= '1' then
		if d.s == 'E' or not is_wanted(d) then
			dialog_drop()
			d = nil
		else
			plan(d, ARGV[12], tonumber(ARGV[13]), tonumber(ARGV[14]))
		end
	elseif d.s ~= 'E' then
		d.s, d.tries, d.till = 'A', 0, now + left
		d.refresh = gap and now
			or now + (left > 1200000 and left - 600000 or left / 2)
		d.at = math.min(d.refresh, now + linger_ms)
	end
	if d then
		dialog_put(d)
	end
	expire(d, found)
	return {status, queued(), new, refreshed, removed}
end

if what == 'apply' then
	local whose, cseq, ver = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
	local full = ARGV[7] == '1'
	if whose ~= '-' then
		local was, wcseq, wver = string.match(call('HGET', km, 'f') or '',
			'^(%x+) (%d+) (%d+)$')
		if was == whose and (cseq <= tonumber(wcseq)
			or not is_news(ver, tonumber(wver), full)) then
			return {3, queued(), 0, 0, 0}
		end
		call('HSET', km, 'f', whose .. ' ' .. int(cseq) .. ' ' .. int(ver))
	end
	local new, refreshed, removed, found = contacts_apply(8, full)
	expire(dialog_get(), found)
	return {1, queued(), new, refreshed, removed}
end

if what == 'forget' then
	local d, removed = dialog_get(), 0
	for key, _ in pairs((contacts_get())) do
		removed = removed + call('HDEL', km, key)
	end
	if d and d.keep > 0 then
		d.keep = 0
		dialog_put(d)
	end
	return {1, queued(), 0, 0, removed}
end

local users = call('ZRANGEBYSCORE', kq, '-inf', int(now), 'LIMIT', 0, ARGV[4])
for _, user in ipairs(users) do
	call('ZADD', kq, int(now + tonumber(ARGV[5])), user)
end
local first = call('ZRANGE', kq, 0, 0, 'WITHSCORES')
local out = {first[2] and int(math.max(tonumber(first[2]) - now, 0)) or '-1',
	call('ZCARD', kq)}
for i, user in ipairs(users) do
	out[i + 2] = user
end
return out
