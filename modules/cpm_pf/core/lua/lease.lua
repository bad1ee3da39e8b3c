-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- lease: the oldest message that may be sent, and the user's delivery lock.
--
-- ARGV 3 token, 4 lease_ms, 5 force: 0 when due, 1 also what waits because
--      its client could not be reached, 2 all; 6 age: a deferred message is
--      forced only if it was queued more than so many ms ago, that is, before
--      what forces it happened
-- returns {'ok', attempt, blob} | {'empty'} | {'none'} | {'wait', ms}
--         | {'busy', ms}
--
-- Order is first in, first out: a message that waits for its retry makes all
-- behind it wait, unless only that message was refused (class m) or deferred (class d).

local token, lease_ms, force = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local forced_before = now - tonumber(ARGV[6])

if call('LLEN', kq) == 0 then
	return {'empty'}
end
local holder = call('GET', klock)
if holder and holder ~= token then
	return {'busy', math.max(call('PTTL', klock), 1)}
end
write_anyway()
reap()
if drop_if_empty() then
	return {'empty'}
end

local at, wait = 0, 0
while true do
	local part = call('LRANGE', kq, at, at + 63)
	for _, e in ipairs(part) do
		local seq, exp, id = entry_parse(e)
		local st = state_get(id)
		-- leased by this very token: the answer was lost, it is given again
		local ours = st.leased and st.token == token
		-- nothing is forced twice by the same delivery
		local forced = st.token ~= '!' .. token
			and (force == 2 or (force == 1 and st.class == 'u'))
			and (st.class ~= 'd' or seq <= forced_before)
		local open = ours or (st.s == 'Q' and (exp == 0 or exp > now))
		if st.s == 'L' and not ours then
			-- the lock is free, and yet this one is out: its holder lost the
			-- answer to its lease, or Redis the lock. It keeps its place
			return {'wait', int(math.max(st.deadline - now, 1))}
		end
		if open and not ours and st.due > now and not forced then
			if wait == 0 or st.due - now < wait then
				wait = st.due - now
			end
			if st.class ~= 'm' and st.class ~= 'd' then
				return {'wait', int(wait)}
			end
			open = false
		end
		if open then
			local blob = call('HGET', km, id)
			st.s = 'L'
			if not ours then
				st.attempts = st.attempts + 1
			end
			st.deadline = now + lease_ms
			st.token = token
			state_set(id, st)
			call('SET', klock, token, 'PX', lease_ms)
			-- whoever is alive looks again after this lease's end
			call('ZADD', kwake, int(now + lease_ms + 1000), aor)
			return {'ok', st.attempts, blob}
		end
	end
	if #part < 64 then
		break
	end
	at = at + 64
end
if wait > 0 then
	return {'wait', int(wait)}
end
return {'none'}
