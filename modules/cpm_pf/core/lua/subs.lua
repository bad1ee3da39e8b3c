-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- subs: a user's subscriptions to the state of the queue. What is stored:
-- cpm_subs.h. Its keys are its own, and so have other names here:
--
-- KEYS  1 index of the shard, 2 subscriptions of the user
-- ARGV  3 what:
--
-- put     4 tag, 5 initial 1 or 0, 6 CSeq, 7 expires in ms (0: ends), 8 how
--         many a user may have, 9 dialog, 10 way, 11 record (initial only)
--         returns {status, expires in ms}: 1 written, or is there; 0 there is
--         no such dialog; 2 an older request than the last
-- take    4 hash of the state now, 5 claim_ms, 6 "<node>.<boot>" of the caller
--         returns {tag, cseq, owed, expires in ms, dialog, way, record}...:
--         who is owed something, has expired, or knows another state. For
--         claim_ms, or until it settles, or until its node starts again, the
--         caller is the one who tells them
-- settle  4 tag, 5 cseq, 6 t taken, k kept, g gone
--         returns 1; 2: take again, the state has changed meanwhile; 0:
--         nothing is known of it (any more)
-- ways    returns the way of each that is told of changes
-- due     4 limit, 5 claim_ms; of the shard: key 2 is not used
--         returns {ms until the next, users...}; none: -1

local what = ARGV[3]

local function parse(v)
	local exp, cseq, owed, hash, rcseq, born, held, by, dialog, way, record =
		string.match(v or '',
			'^(%d+) (%d+) (%u) (%x+) (%d+) (%d+) (%d+) (%S+)\n'
			.. '([^\n]*)\n([^\n]*)\n(.*)$')
	return exp and {exp = tonumber(exp), cseq = tonumber(cseq), owed = owed,
		hash = hash, rcseq = tonumber(rcseq), born = tonumber(born),
		held = tonumber(held), by = by,
		dialog = dialog, way = way, record = record}
end

local function ending(d)
	return d.owed == 'X' or d.owed == 'T' or d.owed == 'D'
end

local function write(tag, d)
	call('HSET', km, tag, int(d.exp) .. ' ' .. int(d.cseq) .. ' ' .. d.owed
		.. ' ' .. d.hash .. ' ' .. int(d.rcseq) .. ' ' .. int(d.born)
		.. ' ' .. int(d.held) .. ' ' .. d.by .. '\n' .. d.dialog .. '\n' .. d.way .. '\n' .. d.record)
end

-- All of the user's, by tag; what cannot be read, as {}
local function all()
	local found = {}
	local flat = call('HGETALL', km)
	for i = 1, #flat, 2 do
		found[#found + 1] = {tag = flat[i], d = parse(flat[i + 1])}
	end
	return found
end

-- When next to look at them: when who tells them has had the time for it, or
-- at once; those that are owed nothing, when they expire.
local function index()
	local at, last
	for _, f in ipairs(all()) do
		if f.d then
			local t = f.d.owed == 'I' and f.d.exp or math.max(f.d.held, now)
			at = (not at or t < at) and t or at
			last = (not last or f.d.exp > last) and f.d.exp or last
		end
	end
	if at then
		call('ZADD', kq, int(at), aor)
		call('PEXPIRE', km, int(math.max(last - now, 0) + 3600000))
	else
		call('DEL', km)
		call('ZREM', kq, aor)
	end
end

if what == 'put' then
	local tag, initial, rcseq = ARGV[4], ARGV[5] == '1', tonumber(ARGV[6])
	local left, max = tonumber(ARGV[7]), tonumber(ARGV[8])
	local d = parse(call('HGET', km, tag))
	if d and d.dialog ~= ARGV[9] or not d and not initial then
		return {0, 0}
	end
	if d and initial then
		-- it has come before
		return {1, int(math.max(d.exp - now, 0))}
	end
	if d and (ending(d) or d.exp <= now) then
		return {0, 0}
	end
	if d and rcseq < d.rcseq then
		return {2, 0}
	end
	if d and rcseq == d.rcseq then
		return {1, int(d.exp - now)}
	end
	local drop, forget
	if not d then
		local live, over = 0, 0
		for _, f in ipairs(all()) do
			if not f.d then
				forget = forget or f
			elseif ending(f.d) or f.d.exp <= now then
				over = over + 1
				forget = (not forget or forget.d and f.d.born < forget.d.born)
					and f or forget
			else
				live = live + 1
				drop = (not drop or f.d.born < drop.d.born) and f or drop
			end
		end
		drop = live >= max and drop or nil
		forget = over + (drop and 1 or 0) >= max and forget or nil
		d = {cseq = 0, hash = '0', born = now, by = '-', dialog = ARGV[9],
			record = ARGV[11]}
	end
	d.exp, d.rcseq, d.way = now + left, rcseq, ARGV[10]
	d.owed = left > 0 and 'N' or 'X'
	-- an answer to what is on its way now is none to what is owed from here on
	d.cseq, d.held = d.cseq + 1, 0
	write(tag, d)
	if forget then
		call('HDEL', km, forget.tag)
	end
	if drop then
		drop.d.owed, drop.d.held = 'D', 0
		drop.d.cseq = drop.d.cseq + 1
		write(drop.tag, drop.d)
	end
	index()
	return {1, int(left)}
end

if what == 'take' then
	local hash, claim_ms, by = ARGV[4], tonumber(ARGV[5]), ARGV[6]
	local node = string.match(by, '^%x+%.')
	local out, bad = {}, {}
	for _, f in ipairs(all()) do
		local d, changed = f.d, false
		if not d then
			bad[#bad + 1] = f.tag
		else
			if d.by ~= by and node and string.find(d.by, node, 1, true) == 1 then
				d.held = 0 -- who waited for an answer is no more
			end
			if d.exp <= now and not ending(d) then
				d.owed, d.held, changed = 'T', 0, true
			elseif d.owed == 'I' and d.hash ~= hash then
				d.owed, d.held = 'N', 0
			end
			if d.owed == 'N' and d.held > now and d.hash ~= hash then
				-- it is being told of another state: of this one after that
				d.owed, changed = 'A', true
			elseif d.owed ~= 'I' and d.held <= now then
				d.owed = d.owed == 'A' and 'N' or d.owed
				d.cseq, d.hash, d.held = d.cseq + 1, hash, now + claim_ms
				d.by = by
				out[#out + 1] = {f.tag, int(d.cseq), d.owed,
					int(math.max(d.exp - now, 0)), d.dialog, d.way, d.record}
				changed = true
			end
			if changed then
				write(f.tag, d)
			end
		end
	end
	for _, tag in ipairs(bad) do
		call('HDEL', km, tag)
	end
	index()
	return out
end

if what == 'ways' then
	local out = {}
	for _, f in ipairs(all()) do
		if f.d and not ending(f.d) and f.d.exp > now then
			out[#out + 1] = f.d.way
		end
	end
	return out
end

if what == 'settle' then
	local tag, how = ARGV[4], ARGV[6]
	local d = parse(call('HGET', km, tag))
	if not d or d.cseq ~= tonumber(ARGV[5]) then
		return 0
	end
	local again = d.owed == 'A'
	write_anyway()
	if how == 'g' or ending(d) then
		call('HDEL', km, tag)
		again = false
	else
		d.owed, d.held = again and 'N' or 'I', 0
		-- who could not be told knows nothing of this state
		d.hash = how == 'k' and '0' or d.hash
		write(tag, d)
	end
	index()
	return again and 2 or 1
end

local users = call('ZRANGEBYSCORE', kq, '-inf', int(now), 'LIMIT', 0, ARGV[4])
if #users > 0 then
	call('ZREM', kq, ' ')
end
for _, user in ipairs(users) do
	call('ZADD', kq, int(now + tonumber(ARGV[5])), user)
end
local first = call('ZRANGE', kq, 0, 0, 'WITHSCORES')
local out = {first[2] and int(math.max(tonumber(first[2]) - now, 0)) or '-1'}
for i, user in ipairs(users) do
	out[i + 1] = user
end
return out
