-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- put: one message into a queue, once.
--
-- KEYS 9 the message's tombstone
-- ARGV 3 id, 4 blob, 5 expires_ms, 6 max_messages, 7 max_bytes, 8 check_in_ms,
--      9 1: deferred, for the next client that registers
-- returns {status, messages, bytes}; status: queued, duplicate, gone,
--         conflict, full-messages, full-bytes

local id, blob, exp = ARGV[3], ARGV[4], tonumber(ARGV[5])
local max_messages, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local fingerprint = blob_fingerprint(blob)

local bytes, soonest = reap()
local n = call('LLEN', kq)

local old = call('HGET', km, id)
if old then
	if blob_fingerprint(old) == fingerprint then
		return {'duplicate', n, bytes}
	end
	return {'conflict', n, bytes}
end
local tomb = call('GET', ktomb)
if tomb then
	drop_if_empty()
	if tomb == fingerprint then
		return {'gone', n, bytes}
	end
	return {'conflict', n, bytes}
end

if max_messages > 0 and n >= max_messages then
	return {'full-messages', n, bytes}
end
if max_bytes > 0 and bytes + #blob > max_bytes then
	drop_if_empty()
	return {'full-bytes', n, bytes}
end

local seq = now
local last = call('LINDEX', kq, -1)
if last then
	local last_seq = entry_parse(last)
	if last_seq >= seq then
		seq = last_seq + 1
	end
end

bytes = bytes + #blob
if exp > 0 and (soonest == 0 or exp < soonest) then
	soonest = exp
end
local at = now + tonumber(ARGV[8])
if exp > 0 and exp < at then
	at = exp
end
local planned = call('ZSCORE', kwake, aor)

-- what is of the whole shard first: should one of these fail, this user has
-- no message that nobody would ever look at
if n == 0 then
	call('ZADD', kusers, 0, aor)
end
if not planned or at < tonumber(planned) then
	call('ZADD', kwake, int(at), aor)
end
call('HINCRBY', ksum, 'n', 1)
call('HINCRBY', ksum, 'b', #blob)
call('RPUSH', kq, int(seq) .. ' ' .. int(exp) .. ' ' .. id)
call('HSET', km, id, blob)
if ARGV[9] == '1' then
	state_set(id, {s = 'Q', attempts = 0, due = FAR, deadline = 0,
		token = '-', class = 'd', err = ''})
end
meta_set(bytes, soonest)
return {'queued', n + 1, bytes}
