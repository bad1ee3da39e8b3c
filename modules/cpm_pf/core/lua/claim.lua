-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- claim: users of this shard whose time to look has come.
--
-- ARGV 1 is not used, 3 limit, 4 claim_ms: whoever claims has that long;
--      5 the node that claims
-- returns {messages to report as expired, users...}; a user whose queue is to
--         be flushed as "<aor> <mode>"
--
-- A flush is for all nodes (flush.lua): each gets it once, and the user stays
-- there for the others until it is over.

local limit, node = tonumber(ARGV[3]), ARGV[5]
local out = {call('LLEN', kexpired)}
-- two are the sums; more may be flushes, and those that this node has had are
-- to hide none that it has not
local fields = call('HLEN', ksum)
local users = call('ZRANGEBYSCORE', kwake, '-inf', int(now), 'LIMIT', 0,
	limit > 0 and limit + math.max(fields - 2, 0) or 0)
if #users > 0 then
	write_anyway()
end
for _, user in ipairs(users) do
	if #out > limit then
		break
	end
	local field = 'f' .. user
	local flush = fields > 2 and call('HGET', ksum, field)
	local mode, till, nodes = string.match(flush or '', '^(%a) (%d+) (%S*)$')
	if flush and not (till and tonumber(till) > now) then
		call('HDEL', ksum, field)
		mode = nil
	end
	if not mode then
		call('ZADD', kwake, int(now + tonumber(ARGV[4])), user)
		out[#out + 1] = user
	elseif not string.find(',' .. nodes, ',' .. node .. ',', 1, true) then
		if #nodes < 1024 then
			call('HSET', ksum, field, flush .. node .. ',')
		end
		out[#out + 1] = user .. ' ' .. mode
	end
end
return out
