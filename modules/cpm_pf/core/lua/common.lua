-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- Put before every script of the queue. What the keys are: cpm_queue.h.
--
-- KEYS  1 q, 2 m, 3 lock, 4 users, 5 wake, 6 dead, 7 expired, 8 sum,
--       9 jobs, 10 job, 11 tombstone (only where the script speaks of one
--       message)
-- ARGV  1 aor, 2 now (0: this server's clock), 3... the script's own

local kq, km, klock, kusers, kwake, kdead, kexpired, ksum, kjobs, kjob, ktomb =
	KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8],
	KEYS[9], KEYS[10], KEYS[11]
local aor = ARGV[1]
local now = tonumber(ARGV[2])
local call = redis.call

if now == 0 then
	local t = call('TIME')
	now = t[1] * 1000 + math.floor(t[2] / 1000)
end

-- The due time of what waits for an event and not for a time: year 9999.
local FAR = 253402300799000

-- Lua writes large numbers as 1.7e+12: Redis must see digits.
local function int(n)
	return string.format('%.0f', n)
end

-- "<seq> <expires> <sender> <id>" of the list
local function entry_parse(e)
	local seq, exp, sender, id = string.match(e, '^(%d+) (%d+) (%S+) (.+)$')
	return tonumber(seq), tonumber(exp), id, sender
end

-- Of the newest entry that can be read; 0: there is none.
local function newest_seq()
	for back = 1, call('LLEN', kq) do
		local seq = entry_parse(call('LINDEX', kq, -back))
		if seq then
			return seq
		end
	end
	return 0
end

-- A queue as short as this is added up when it is asked, and needs no field
-- for its sum: most queues are short, and there are many of them.
local FEW = 4

-- Bytes of the queue and the soonest expiry in it (0: none). The latter may
-- be too early after a removal, never too late.
local function meta_get()
	local v = call('HGET', km, ' b')
	local bytes, soonest = 0, 0
	if v then
		local b, s = string.match(v, '^(%d+) (%d+)$')
		if b then
			return tonumber(b), tonumber(s)
		end
	end
	for _, e in ipairs(call('LRANGE', kq, 0, -1)) do
		local _, exp, id = entry_parse(e)
		if exp then
			bytes = bytes + call('HSTRLEN', km, id)
			if exp > 0 and (soonest == 0 or exp < soonest) then
				soonest = exp
			end
		end
	end
	return bytes, soonest
end

-- n: messages in the queue now
local function meta_set(n, bytes, soonest)
	if n > FEW then
		call('HSET', km, ' b', int(bytes) .. ' ' .. int(soonest))
	else
		call('HDEL', km, ' b')
	end
end

-- State of a message. A lease whose deadline passed returns by itself; a
-- state that cannot be read is that of a new message. A small letter: its user
-- took it by a retrieval, and until that ends it is leased; from is what it
-- was, and will be again.
local function state_parse(v)
	local s, attempts, due, deadline, token, class, err =
		string.match(v or '', '^([QLHDqhd]) (%d+) (%d+) (%d+) (%S+) (%S) (.*)$')
	if not s then
		return {s = 'Q', attempts = 0, due = 0, deadline = 0, token = '-',
			class = '-', err = ''}
	end
	local st = {s = s, attempts = tonumber(attempts), due = tonumber(due),
		deadline = tonumber(deadline), token = token, class = class,
		err = err}
	st.leased = s == 'L' -- perhaps no longer
	if s == 'q' or s == 'h' or s == 'd' then
		st.from = string.upper(s)
	end
	if st.leased or st.from then
		st.s = st.deadline > now and 'L' or st.from or 'Q'
	end
	return st
end

-- For whoever looks: 0 where no time is planned.
local function due_of(st)
	return int(st.due == FAR and 0 or st.due)
end

local function state_get(id)
	return state_parse(call('HGET', km, ' s' .. id))
end

local function state_set(id, st)
	local s = st.s == 'L' and st.from and string.lower(st.from) or st.s
	call('HSET', km, ' s' .. id, s .. ' ' .. int(st.attempts) .. ' '
		.. int(st.due) .. ' ' .. int(st.deadline) .. ' ' .. st.token .. ' '
		.. st.class .. ' ' .. st.err)
end

-- In the index of the dead, that is: also while it is taken from there.
local function is_dead(st)
	return st.s == 'D' or st.from == 'D'
end

-- A token is "<node>.<boot>.<rest>": what another boot of this very node holds
-- is held by nobody, and its lease need not run out first.
local function is_orphan(held, token)
	local node, boot = string.match(token, '^(%x+)%.(%x+)%.')
	local its_node, its_boot = string.match(held, '^(%x+)%.(%x+)%.')
	return its_node and its_node == node and its_boot ~= boot
end

-- Of the blob's fixed part (cpm_msg.h)
local function blob_fingerprint(blob)
	return string.sub(blob, 29, 36)
end

local function blob_envelope(blob)
	local a, b, c, d = string.byte(blob, 5, 8)
	if not d then
		return blob -- none of ours: whoever decodes it will say so
	end
	return string.sub(blob, 1, ((a * 256 + b) * 256 + c) * 256 + d)
end

-- A Redis that is full refuses a script's first write, if that takes memory,
-- and none after it. What empties queues, or leads to it, must go on then: it
-- begins with a write that changes nothing and takes none.
local function write_anyway()
	call('HDEL', km, ' ')
end

-- Nearly always the first entry: what is removed is the oldest.
local function entry_find(id)
	local at = 0
	while true do
		local part = call('LRANGE', kq, at, at + 63)
		for _, e in ipairs(part) do
			local _, _, eid = entry_parse(e)
			if eid == id then
				return e
			end
		end
		if #part < 64 then
			return nil
		end
		at = at + 64
	end
end

-- (Sums are lowered by 0 - n: Lua's -n is "-0" for nothing, and Redis takes
-- that for no number.)
--
-- Takes one message out. Bytes are the caller's to account for.
local function message_remove(entry, id, st)
	call('LREM', kq, 1, entry)
	call('HDEL', km, id, ' s' .. id)
	if is_dead(st) then
		call('ZREM', kdead, aor .. ' ' .. id)
	end
end

-- The same with the sums, for one message at a time.
local function message_take(entry, id, st)
	local bytes, soonest = meta_get()
	local size = call('HSTRLEN', km, id)
	message_remove(entry, id, st)
	call('HINCRBY', ksum, 'n', -1)
	call('HINCRBY', ksum, 'b', 0 - size)
	meta_set(call('LLEN', kq), bytes - size, soonest)
end

-- What left the queue without being delivered, to be reported and perhaps
-- stored; why is a letter: e it expired, o it made room for a newer one.
local function report(why, id, blob)
	call('RPUSH', kexpired, aor .. '\n' .. why .. '\n' .. id .. '\n' .. blob)
end

-- Takes out what has expired, at most some hundreds at once, into the list
-- of the expired; a message that is on its way to a client is left alone
-- until that ends. Returns the queue's bytes and soonest expiry.
local function reap()
	local bytes, soonest = meta_get()
	if soonest == 0 or soonest > now then
		return bytes, soonest
	end
	local gone, gone_bytes = 0, 0
	soonest = 0
	for _, e in ipairs(call('LRANGE', kq, 0, -1)) do
		local _, exp, id = entry_parse(e)
		-- an entry that cannot be read, or has lost its blob, is left to
		-- whoever looks at it: an error from here, after the first write,
		-- would leave the sums wrong
		if exp and exp > 0 then
			local st, blob
			if exp <= now and gone < 256 then
				st = state_get(id)
				blob = st.s ~= 'L' and call('HGET', km, id)
			end
			if blob then
				gone = gone + 1
				gone_bytes = gone_bytes + #blob
				report('e', id, blob)
				message_remove(e, id, st)
			else
				if st and st.s == 'L' then
					exp = st.deadline
				end
				if soonest == 0 or exp < soonest then
					soonest = exp
				end
			end
		end
	end
	if gone > 0 then
		bytes = bytes - gone_bytes
		call('HINCRBY', ksum, 'n', 0 - gone)
		call('HINCRBY', ksum, 'b', int(0 - gone_bytes))
	end
	meta_set(call('LLEN', kq), bytes, soonest)
	return bytes, soonest
end

-- A message that came back from its way may have expired meanwhile, and the
-- soonest expiry be the end of its lease: too late.
local function soonest_again(id)
	local bytes, soonest = meta_get()
	local entry = soonest > 0 and entry_find(id)
	if entry then
		local _, exp = entry_parse(entry)
		if exp > 0 and exp < soonest then
			meta_set(call('LLEN', kq), bytes, exp)
		end
	end
end

-- As if it had never been leased.
local function unlease(id, st)
	st.s = st.from or 'Q'
	st.token = '-'
	st.deadline = 0
	if not st.from then
		st.attempts = math.max(st.attempts - 1, 0)
	end
	if st.from == 'Q' and st.attempts == 0 and st.due == 0 then
		call('HDEL', km, ' s' .. id) -- it was new
	else
		state_set(id, st)
	end
	soonest_again(id)
end

-- Look at this queue at `at`, or sooner if something expires sooner.
local function wake_at(at, soonest)
	if soonest > 0 and soonest < at then
		at = soonest
	end
	call('ZADD', kwake, int(at), aor)
end

-- Work that outlives its message: what is to be done with it elsewhere. The
-- member is its name, so that a job is there once; the record is "<attempts>
-- <token> <error>", a line feed, and the message (tokens: cpm_queue.h).
local function job_name(kind, id)
	return kind .. ' ' .. aor .. ' ' .. id
end

-- Nothing may fail after a script's first write: fails now if it would.
-- kinds: letters, or "-" for none
local function jobs_check(kinds)
	if kinds ~= '-' then
		call('ZCARD', kjobs)
		call('HLEN', kjob)
		call('HLEN', ksum)
	end
end

-- Those that are there stay as they are. True: at least one is new.
local function jobs_put(kinds, id, blob, due)
	local new = false
	for kind in string.gmatch(kinds, '%a') do
		local name = job_name(kind, id)
		-- the index first: a record that it does not know would never be done
		call('ZADD', kjobs, 'NX', int(due), name)
		if call('HSETNX', kjob, name, '0 - \n' .. blob) == 1 then
			call('HINCRBY', ksum, 'j' .. kind, 1)
			new = true
		end
	end
	return new
end

-- True: it was there.
local function job_remove(name)
	local known = call('ZREM', kjobs, name) == 1
	if call('HDEL', kjob, name) == 1 then
		call('HINCRBY', ksum, 'j' .. string.sub(name, 1, 1), -1)
		known = true
	end
	-- no job, no lease of one: nothing need be remembered of who holds them
	if known and call('EXISTS', kjobs) == 0 then
		call('DEL', kjob)
	end
	return known
end

-- An empty queue leaves nothing behind, and nothing to tell its user of. True
-- if it was empty.
local function drop_if_empty()
	if call('LLEN', kq) > 0 then
		return false
	end
	local told = job_name('p', '-')
	if call('ZSCORE', kjobs, told) then
		job_remove(told)
	end
	call('DEL', kq, km)
	call('ZREM', kusers, aor)
	call('ZREM', kwake, aor)
	return true
end

-- Index of the first entry with a greater seq, by bisection: seq grows along
-- the list.
local function index_after(seq)
	local lo, hi = 0, call('LLEN', kq)
	while lo < hi do
		local mid = math.floor((lo + hi) / 2)
		if (entry_parse(call('LINDEX', kq, mid)) or 0) > seq then
			hi = mid
		else
			lo = mid + 1
		end
	end
	return lo
end
