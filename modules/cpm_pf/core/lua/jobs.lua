-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- jobs: a page of a shard's jobs, by when they are due. Reads only.
--
-- ARGV 1 is not used, 3 and 4: after this score and name ('' : from the
--      start), 5 limit
-- returns {name, due, state, "<attempts> <token> <error>", ...}; state: W it
-- waits, L leased, D dead

-- Names of one score are in the order of their bytes. Lua's own comparison
-- follows the locale that Redis was started with.
local function not_behind(a, b)
	for i = 1, math.min(#a, #b) do
		local x, y = string.byte(a, i), string.byte(b, i)
		if x ~= y then
			return x < y
		end
	end
	return #a <= #b
end

local out, limit = {}, tonumber(ARGV[5])
local skip = 0
while #out < limit * 4 do
	local part = call('ZRANGEBYSCORE', kjobs, ARGV[3], '+inf', 'WITHSCORES',
		'LIMIT', skip, 64)
	for i = 1, #part, 2 do
		local name, score = part[i], part[i + 1]
		local before = ARGV[4] ~= '' and tonumber(score) == tonumber(ARGV[3])
			and not_behind(name, ARGV[4])
		-- a name without a record that can be read fills no place of a page
		local head = not before and #out < limit * 4
			and string.match(name, '^%a [^ ]+ .')
			and string.match(call('HGET', kjob, name) or '',
				'^(%d+ %S+ [^\n]*)\n')
		if head then
			out[#out + 1] = name
			out[#out + 1] = int(tonumber(score))
			local token = string.match(head, '^%d+ (%S+) ')
			out[#out + 1] = token == '!' and 'D'
				or token ~= '-' and tonumber(score) > now and 'L' or 'W'
			out[#out + 1] = head
		end
	end
	if #part < 128 then
		break
	end
	skip = skip + 64
end
return out
