-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- job: what is done to one job, or to the jobs of one name.
--
-- KEYS 11 the tombstone of the message of this id
-- ARGV 3 verb, 4 kind (put: kinds), 5 id, and
--      renew    6 token, 7 lease_ms
--      settle   6 token, 7 done|retry|dead, 8 retry_in_ms, 9 error
--      put      6 blob, 7 dedup_ms (0: none), 8 delay_ms
--      replace  6 blob, 7 not used, 8 delay_ms
--      drop, requeue
-- returns 1 done, 0 there is none (or: the lease is lost), 2 somebody does it
--         just now; put: 1, or 2: it is there or was done with, 3: another
--         message has this id

local verb, kind, id = ARGV[3], ARGV[4], ARGV[5]
local name = job_name(kind, id)

local function record_get()
	local attempts, token, err, blob = string.match(
		call('HGET', kjob, name) or '', '^(%d+) (%S+) ([^\n]*)\n(.*)$')
	return attempts and call('ZSCORE', kjobs, name)
		and {attempts = tonumber(attempts), token = token, err = err,
			blob = blob, due = tonumber(call('ZSCORE', kjobs, name))}
end

-- The record first: it can only be refused before anything is written.
local function record_set(r)
	call('HSET', kjob, name, int(r.attempts) .. ' ' .. r.token .. ' ' .. r.err
		.. '\n' .. r.blob)
	call('ZADD', kjobs, int(r.due), name)
end

local function leased(r)
	return r.token ~= '-' and r.token ~= '!' and r.due > now
end

if verb == 'put' then
	local blob, dedup_ms = ARGV[6], tonumber(ARGV[7])
	jobs_check(kind)
	if dedup_ms > 0 then
		local mine = blob_fingerprint(blob)
		local known = call('GET', ktomb)
		local old = call('HGET', km, id)
		known = known or old and blob_fingerprint(old)
		for letter in string.gmatch(kind, '%a') do
			old = not known and call('HGET', kjob, job_name(letter, id))
			known = known or old and blob_fingerprint(
				string.match(old, '\n(.*)$') or '')
		end
		if known then
			return known == mine and 2 or 3
		end
	end
	local new = jobs_put(kind, id, blob, now + tonumber(ARGV[8]))
	if dedup_ms > 0 then
		call('SET', ktomb, blob_fingerprint(blob), 'PX', ARGV[7])
	end
	return new and 1 or 2
end

jobs_check(kind)
if verb == 'drop' then
	return job_remove(name) and 1 or 0
end

local r = record_get()
if verb == 'replace' then
	if not r then
		jobs_put(kind, id, ARGV[6], now + tonumber(ARGV[8]))
		return 1
	end
	r.blob = ARGV[6]
	if r.token == '!' then
		r.attempts, r.token, r.err = 0, '-', ''
		r.due = now + tonumber(ARGV[8])
	elseif leased(r) and string.sub(r.token, 1, 1) ~= '+' then
		-- who does it does it with the old blob: it is to be done again
		r.token = '+' .. r.token
	elseif not leased(r) then
		r.token = '-' -- whose lease ran out does it with the old blob
	end
	record_set(r)
	return 1
end
if not r then
	return 0
end
if verb == 'requeue' then
	if leased(r) then
		return 2
	end
	write_anyway()
	r.attempts, r.token, r.due = 0, '-', now
	record_set(r)
	return 1
end

-- renew and settle: the token alone decides
local token = ARGV[6]
local changed = r.token == '+' .. token
if r.token ~= token and not changed then
	return 0
end
write_anyway()
if verb == 'renew' then
	call('ZADD', kjobs, int(now + tonumber(ARGV[7])), name)
	return 1
end
local how = ARGV[7]
r.token = '-'
r.err = string.gsub(string.sub(ARGV[9], 1, 64), '%c', ' ')
if how == 'retry' then
	r.due = now + tonumber(ARGV[8])
elseif changed then
	r.attempts, r.err, r.due = 0, '', now
elseif how == 'dead' then
	r.token, r.due = '!', FAR
else
	job_remove(name)
	return 1
end
record_set(r)
return 1
