-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- put: one message into a queue, once.
--
-- KEYS 11 the message's tombstone
-- ARGV 3 id, 4 blob, 5 expires_ms, 6 max_messages, 7 max_bytes, 8 check_in_ms,
--      9 1: deferred, for the next client that registers; 10 sender, one
--      word; 11 max_messages of one sender, 12 1: drop the oldest when full,
--      13 jobs to leave with it: letters, or -
-- returns {status, messages, bytes, dropped}; status: queued, duplicate,
--         gone, conflict, full-messages, full-bytes, full-sender

local id, blob, exp = ARGV[3], ARGV[4], tonumber(ARGV[5])
local max_messages, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local sender, max_sender = ARGV[10], tonumber(ARGV[11])
local jobs = ARGV[13]
local fingerprint = blob_fingerprint(blob)

jobs_check(jobs)
local n = call('LLEN', kq)
local bytes, soonest = 0, 0
if n > 0 then
	bytes, soonest = reap()
	n = call('LLEN', kq)

	local old = call('HGET', km, id)
	if old then
		if blob_fingerprint(old) == fingerprint then
			return {'duplicate', n, bytes, 0}
		end
		return {'conflict', n, bytes, 0}
	end
end
local tomb = call('GET', ktomb)
if tomb then
	drop_if_empty()
	if tomb == fingerprint then
		return {'gone', n, bytes, 0}
	end
	return {'conflict', n, bytes, 0}
end

-- A job may outlive its message and all that is remembered of it: this one's
-- would be taken for that one.
for kind in string.gmatch(jobs, '%a') do
	local record = call('HGET', kjob, job_name(kind, id))
	local old = record and string.match(record, '\n(.*)$')
	if old and blob_fingerprint(old) ~= fingerprint then
		drop_if_empty()
		return {'conflict', n, bytes, 0}
	end
end

-- A sender's share is counted only where it may be used up. Its own limit is
-- never made room for: a sender that floods would push out everybody else.
if max_sender > 0 and n >= max_sender then
	local count = 0
	for _, e in ipairs(call('LRANGE', kq, 0, -1)) do
		local _, _, _, by = entry_parse(e)
		if by == sender then
			count = count + 1
		end
	end
	if count >= max_sender then
		return {'full-sender', n, bytes, 0}
	end
end

local function full(messages, size)
	if max_messages > 0 and messages >= max_messages then
		return 'full-messages'
	end
	if max_bytes > 0 and size + #blob > max_bytes then
		return 'full-bytes'
	end
	return nil
end

-- The oldest make room, if that is wanted, but none that is on its way to a
-- client, and none that the user chose to keep. Nothing is dropped before it
-- is known that it is enough.
local drop, dropped = {}, 0
local why = full(n, bytes)
if why and ARGV[12] == '1' and (max_bytes == 0 or #blob <= max_bytes) then
	local messages, size, at = n, bytes, 0
	while why do
		local part = call('LRANGE', kq, at, at + 63)
		for _, e in ipairs(part) do
			local _, _, eid = entry_parse(e)
			local st = eid and state_get(eid)
			local old = st and (st.s == 'Q' or st.s == 'D')
				and call('HGET', km, eid)
			if why and old then
				drop[#drop + 1] = {e, eid, st, old}
				dropped = dropped + #old
				messages, size = messages - 1, size - #old
				why = full(messages, size)
			end
		end
		if #part < 64 then
			break
		end
		at = at + 64
	end
end
if why then
	drop_if_empty()
	return {why, n, bytes, 0}
end

local seq = math.max(now, newest_seq() + 1)

if exp > 0 and (soonest == 0 or exp < soonest) then
	soonest = exp
end
local at = now + tonumber(ARGV[8])
if exp > 0 and exp < at then
	at = exp
end
-- what is of the whole shard first: should one of these fail, this user has
-- no message that nobody would ever look at
if n == 0 then
	call('ZADD', kusers, 0, aor)
end
call('ZADD', kwake, 'LT', int(at), aor)
call('HINCRBY', ksum, 'n', 1 - #drop)
call('HINCRBY', ksum, 'b', int(#blob - dropped))
for _, d in ipairs(drop) do
	report('o', d[2], d[4])
	message_remove(d[1], d[2], d[3])
end
n, bytes = n - #drop + 1, bytes - dropped + #blob
call('RPUSH', kq, int(seq) .. ' ' .. int(exp) .. ' ' .. sender .. ' ' .. id)
call('HSET', km, id, blob)
if ARGV[9] == '1' then
	state_set(id, {s = 'Q', attempts = 0, due = FAR, deadline = 0,
		token = '-', class = 'd', err = ''})
end
jobs_put(jobs, id, blob, now)
-- a queue that was longer may be short now: its sum must not stay behind
if n > FEW or #drop > 0 then
	meta_set(n, bytes, soonest)
end
return {'queued', n, bytes, #drop}
