-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- reported: a shard's expired messages, to whoever reports them.
--
-- ARGV 3 token; 4 take: 5 limit, 6 hold_ms (1 is not used)
--               4 done: 1 aor and 5 id of the oldest, 6 jobs to leave: letters,
--               or -
-- take returns entries "<aor>\n<why>\n<id>\n<blob>", oldest first: they stay
-- until they are done, and are nobody else's until hold_ms have passed, so
-- that none is lost when the process dies that reports them.
-- done returns 1, or 0: another has them now, or it was done already.

local token = ARGV[3]
if call('LLEN', kexpired) == 0 then
	return ARGV[4] == 'take' and {} or 0
end
if ARGV[4] == 'done' then
	jobs_check(ARGV[6])
end
write_anyway()
local holder, until_ms = call('HGET', ksum, 'rt'), call('HGET', ksum, 'ru')
if holder and holder ~= token and (tonumber(until_ms) or 0) > now then
	return ARGV[4] == 'take' and {} or 0
end
if ARGV[4] == 'take' then
	call('HSET', ksum, 'rt', token, 'ru', int(now + tonumber(ARGV[6])))
	local out = {}
	for _, e in ipairs(call('LRANGE', kexpired, 0, tonumber(ARGV[5]) - 1)) do
		if string.match(e, '^[^\n]+\n%a\n[^\n]+\n') then
			out[#out + 1] = e
		else
			-- of no use to anybody, and those behind it must not wait for it
			call('LREM', kexpired, 1, e)
		end
	end
	return out
end
local first = call('LINDEX', kexpired, 0)
local who, id, blob = string.match(first, '^([^\n]*)\n%a\n([^\n]*)\n(.*)$')
if who ~= aor or id ~= ARGV[5] then
	return 0
end
jobs_put(ARGV[6], id, blob, now)
call('LPOP', kexpired)
return 1
