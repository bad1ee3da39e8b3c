-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- job_lease: a shard's jobs of some kinds that are due, to whoever does them.
--
-- ARGV 1 is not used, 3 token, 4 kinds (letters), 5 limit, 6 lease_ms, 7 at
--      most so many bytes (the first counts whatever its size), 8 1: only say
--      how many there are, up to limit
-- returns {name, due, state, "<attempts> <token> <error>", blob...}, or a
--         number
--
-- What a leased job's score is: when its lease ends. So who dies with a job
-- gives it back by that, and nobody need look for it.

local token, kinds, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local lease_ms, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local count_only = ARGV[8] == '1'

-- Jobs that are looked at in one call, and leases of an earlier boot.
local LOOK, ORPHANS = 500, 100

-- most shards have none
if call('ZCARD', kjobs) == 0 then
	return count_only and 0 or {}
end
call('HLEN', kjob) -- fails now if it would later

-- "<attempts> <token> <error>", and the blob
local function record_parse(name)
	return string.match(call('HGET', kjob, name) or '',
		'^(%d+) (%S+) ([^\n]*)\n(.*)$')
end

-- Once after a start of this node: what it held before is due now. The note of
-- its boot says that it holds leases at all, and how far this has come.
local node, boot = string.match(token, '^(%x+)%.(%x+)%.')
local note = node and call('HGET', kjob, ' n' .. node)
local note_boot, note_at = string.match(note or '', '^(%x+) ?(%d*)$')
if note and (note_boot ~= boot or note_at ~= '') then
	write_anyway()
	local at = note_boot == boot and tonumber(note_at) or now
	local part = call('ZRANGEBYSCORE', kjobs, int(at), '(' .. int(FAR),
		'WITHSCORES', 'LIMIT', 0, ORPHANS)
	local freed = false
	for i = 1, #part, 2 do
		local attempts, held, err, blob = record_parse(part[i])
		if held and is_orphan(string.gsub(held, '^%+', ''), token) then
			call('HSET', kjob, part[i], attempts .. ' - ' .. err .. '\n' .. blob)
			call('ZADD', kjobs, int(now), part[i])
			freed = true
		end
	end
	if #part == ORPHANS * 2 then
		-- what was freed is no longer among those of that time
		local last = tonumber(part[#part])
		note = boot .. ' ' .. int((last > at or freed) and last or last + 1)
	else
		note = boot
	end
	call('HSET', kjob, ' n' .. node, note)
end

-- Jobs of other kinds may be many, and may be nobody's: a search that did not
-- come to the end of what is due goes on there at the next call.
local cursor = ' c' .. kinds
local start = tonumber(call('HGET', kjob, cursor) or '0') or 0
local found, at, ended = {}, start, false
while #found < limit and at - start < LOOK and not ended do
	local part = call('ZRANGE', kjobs, int(at), int(at + 63), 'WITHSCORES')
	for i = 1, #part, 2 do
		if tonumber(part[i + 1]) > now or #found >= limit then
			ended = tonumber(part[i + 1]) > now
			break
		end
		at = at + 1
		if string.find(kinds, string.sub(part[i], 1, 1), 1, true)
			and string.sub(part[i], 2, 2) == ' ' then
			found[#found + 1] = part[i]
		end
	end
	ended = ended or #part < 128
end

local function cursor_set(v)
	if v == 0 and start > 0 then
		call('HDEL', kjob, cursor)
	elseif v ~= start then
		call('HSET', kjob, cursor, int(v))
	end
end

if #found == 0 then
	local go_on = ended and 0 or at
	if go_on ~= start then
		write_anyway()
		cursor_set(go_on)
	end
	return count_only and 0 or {}
end
if count_only then
	return #found
end

write_anyway()
local out, bytes, moved = {}, 0, 0
for _, name in ipairs(found) do
	local attempts, _, err, blob = record_parse(name)
	local known = attempts and string.match(name, '^%a [^ ]+ .')
	if known and moved > 0 and bytes + #blob > max_bytes then
		ended = false
		break
	end
	moved = moved + 1
	if not known then
		-- of no use to anybody, and in nobody's way
		job_remove(name)
	else
		-- before the first: none may be leased and not be noted
		if node and not note then
			call('HSET', kjob, ' n' .. node, boot)
			note = boot
		end
		bytes = bytes + #blob
		local head = int(math.min(tonumber(attempts) + 1, 999999)) .. ' '
			.. token .. ' ' .. err
		call('HSET', kjob, name, head .. '\n' .. blob)
		call('ZADD', kjobs, int(now + lease_ms), name)
		out[#out + 1] = name
		out[#out + 1] = int(now + lease_ms)
		out[#out + 1] = 'L'
		out[#out + 1] = head
		out[#out + 1] = blob
	end
end
-- those that were leased are no longer before those that were passed
cursor_set(ended and 0 or start)
return out
