-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- renew: hold a lease for longer, and read its message again.
--
-- ARGV 3 token, 4 id, 5 lease_ms
-- returns {'ok', attempt, blob} | {'lost'}

local token, id, lease_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])
local holder = call('GET', klock)
local raw = call('HGET', km, ' s' .. id)
if not raw or (holder and holder ~= token) then
	return {'lost'}
end
local st = state_parse(raw)
if st.token ~= token then
	return {'lost'}
end
write_anyway()
st.s = 'L'
st.deadline = now + lease_ms
state_set(id, st)
call('SET', klock, token, 'PX', lease_ms)
call('ZADD', kwake, int(now + lease_ms + 1000), aor)
return {'ok', st.attempts, call('HGET', km, id)}
