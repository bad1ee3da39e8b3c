-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- claim: users of this shard whose time to look has come.
--
-- ARGV 1 is not used, 3 limit, 4 claim_ms: whoever claims has that long
-- returns {messages to report as expired, users...}

local out = {call('LLEN', kexpired)}
local users = call('ZRANGEBYSCORE', kwake, '-inf', int(now), 'LIMIT', 0,
	ARGV[3])
if #users > 0 then
	write_anyway()
end
for i, user in ipairs(users) do
	call('ZADD', kwake, int(now + tonumber(ARGV[4])), user)
	out[i + 1] = user
end
return out
