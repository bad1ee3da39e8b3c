-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- extend: hold what one delivery has leased for longer, without reading it.
--
-- ARGV 3 token, 4 lease_ms, 5... ids
-- returns the ids that are no longer its own
--
-- The lock is taken again where it ran out and nobody else has it.

local token, lease_ms = ARGV[3], tonumber(ARGV[4])
local lost = {}
local holder = call('GET', klock)
if holder and holder ~= token then
	for i = 5, #ARGV do
		lost[#lost + 1] = ARGV[i]
	end
	return lost
end
write_anyway()
local kept = 0
for i = 5, #ARGV do
	local raw = call('HGET', km, ' s' .. ARGV[i])
	local st = raw and state_parse(raw)
	if st and st.token == token then
		st.s = 'L'
		st.deadline = now + lease_ms
		state_set(ARGV[i], st)
		kept = kept + 1
	else
		lost[#lost + 1] = ARGV[i]
	end
end
if kept > 0 or holder then
	call('SET', klock, token, 'PX', lease_ms)
	-- all of them may have been discarded: an empty queue is in no index
	if call('LLEN', kq) > 0 then
		call('ZADD', kwake, int(now + lease_ms + 1000), aor)
	end
end
return lost
