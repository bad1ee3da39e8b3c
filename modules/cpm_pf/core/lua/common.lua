-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- Put before every script of the queue. What the keys are: cpm_queue.h.
--
-- KEYS  1 q, 2 m, 3 lock, 4 users, 5 wake, 6 dead, 7 expired, 8 sum,
--       9 tombstone (only where the script speaks of one message)
-- ARGV  1 aor, 2 now (0: this server's clock), 3... the script's own

local kq, km, klock, kusers, kwake, kdead, kexpired, ksum, ktomb =
	KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8],
	KEYS[9]
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

-- "<seq> <expires> <id>" of the list
local function entry_parse(e)
	local seq, exp, id = string.match(e, '^(%d+) (%d+) (.+)$')
	return tonumber(seq), tonumber(exp), id
end

-- Bytes of the queue and the soonest expiry in it (0: none). The latter may
-- be too early after a removal, never too late.
local function meta_get()
	local v = call('HGET', km, ' b')
	if not v then
		return 0, 0
	end
	local bytes, soonest = string.match(v, '^(%d+) (%d+)$')
	return tonumber(bytes), tonumber(soonest)
end

local function meta_set(bytes, soonest)
	call('HSET', km, ' b', int(bytes) .. ' ' .. int(soonest))
end

-- State of a message. A lease whose deadline passed returns by itself.
local function state_parse(v)
	if not v then
		return {s = 'Q', attempts = 0, due = 0, deadline = 0, token = '-',
			class = '-', err = ''}
	end
	local s, attempts, due, deadline, token, class, err =
		string.match(v, '^(%a) (%d+) (%d+) (%d+) (%S+) (%S) (.*)$')
	local st = {s = s, attempts = tonumber(attempts), due = tonumber(due),
		deadline = tonumber(deadline), token = token, class = class,
		err = err}
	st.leased = s == 'L' -- perhaps no longer
	if s == 'L' and st.deadline <= now then
		st.s = 'Q'
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
	call('HSET', km, ' s' .. id, st.s .. ' ' .. int(st.attempts) .. ' '
		.. int(st.due) .. ' ' .. int(st.deadline) .. ' ' .. st.token .. ' '
		.. st.class .. ' ' .. st.err)
end

-- Of the blob's fixed part (cpm_msg.h)
local function blob_fingerprint(blob)
	return string.sub(blob, 29, 36)
end

local function blob_envelope(blob)
	local a, b, c, d = string.byte(blob, 5, 8)
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

-- Takes one message out. Bytes are the caller's to account for.
local function message_remove(entry, id, st)
	call('LREM', kq, 1, entry)
	call('HDEL', km, id, ' s' .. id)
	if st.s == 'D' then
		call('ZREM', kdead, aor .. ' ' .. id)
	end
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
				call('RPUSH', kexpired, aor .. '\n' .. blob)
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
		call('HINCRBY', ksum, 'n', -gone)
		call('HINCRBY', ksum, 'b', int(-gone_bytes))
	end
	meta_set(bytes, soonest)
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
			meta_set(bytes, exp)
		end
	end
end

-- Look at this queue at `at`, or sooner if something expires sooner.
local function wake_at(at, soonest)
	if soonest > 0 and soonest < at then
		at = soonest
	end
	call('ZADD', kwake, int(at), aor)
end

-- An empty queue leaves nothing behind. True if it was empty.
local function drop_if_empty()
	if call('LLEN', kq) > 0 then
		return false
	end
	call('DEL', kq, km)
	call('ZREM', kusers, aor)
	call('ZREM', kwake, aor)
	return true
end
