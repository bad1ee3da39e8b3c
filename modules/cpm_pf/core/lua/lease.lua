-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- lease: the oldest messages that may be sent, and the user's delivery lock.
--
-- ARGV 3 token, 4 lease_ms, 5 force: 0 when due, 1 also what waits because
--      its client could not be reached, 2 all; 6 age: a deferred message is
--      forced only if it was queued more than so many ms ago, that is, before
--      what forces it happened; 7 at most so many messages, 8 and so many
--      bytes (the first counts whatever its size); 9 only what came after
--      this seq: the caller has leased what came before
-- returns {'ok', seq, attempt, blob, seq, attempt, blob...} | {'empty'}
--         | {'none'} | {'wait', ms} | {'busy', ms}
--
-- Order is first in, first out: a message that waits for its retry makes all
-- behind it wait, unless only that message was refused (class m) or deferred
-- (class d).

local token, lease_ms, force = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local forced_before = now - tonumber(ARGV[6])
local max_messages, max_bytes = tonumber(ARGV[7]), tonumber(ARGV[8])
local after = tonumber(ARGV[9])

if call('LLEN', kq) == 0 then
	return {'empty'}
end
local holder = call('GET', klock)
if holder and holder ~= token and not is_orphan(holder, token) then
	return {'busy', math.max(call('PTTL', klock), 1)}
end
write_anyway()
reap()
if drop_if_empty() then
	return {'empty'}
end

local out, bytes = {'ok'}, 0
local wait = 0
local at = after > 0 and index_after(after) or 0
local go_on = true
while go_on do
	local part = call('LRANGE', kq, at, at + 63)
	for _, e in ipairs(part) do
		local seq, exp, id = entry_parse(e)
		-- what somebody's hand has broken is passed over: nothing may fail
		-- once the first is leased
		local st = state_get(id or '')
		-- leased by this very token: the answer was lost, it is given again
		local ours = st.leased and st.token == token
		if st.s == 'L' and is_orphan(st.token, token) then
			st.s = st.from or 'Q'
		end
		-- its user took it, and it was nothing to send before that
		local passed = st.s == 'L'
			and (st.from == 'H' or st.from == 'D' or st.from and st.token == token)
		-- nothing is forced twice by the same delivery
		local forced = st.token ~= '!' .. token
			and (force == 2 or (force == 1 and st.class == 'u'))
			and (st.class ~= 'd' or seq <= forced_before)
		local open = id
			and (ours or (st.s == 'Q' and (exp == 0 or exp > now)))
		local blob = nil
		if st.s == 'L' and not ours and not passed then
			-- the lock is free, and yet this one is out: its holder lost the
			-- answer to its lease, or Redis the lock. It keeps its place
			wait = math.max(st.deadline - now, 1)
			go_on = false
			break
		end
		if open and not ours and st.due > now and not forced then
			if wait == 0 or st.due - now < wait then
				wait = st.due - now
			end
			if st.class ~= 'm' and st.class ~= 'd' then
				go_on = false
				break
			end
			open = false
		end
		if open then
			blob = call('HGET', km, id)
			if blob and #out > 1 and bytes + #blob > max_bytes then
				go_on = false
				break
			end
		end
		if blob then
			bytes = bytes + #blob
			st.s, st.from = 'L', nil
			if not ours then
				st.attempts = st.attempts + 1
			end
			st.deadline = now + lease_ms
			st.token = token
			state_set(id, st)
			out[#out + 1] = int(seq)
			out[#out + 1] = st.attempts
			out[#out + 1] = blob
			if #out > max_messages * 3 then
				go_on = false
				break
			end
		end
	end
	if #part < 64 then
		break
	end
	at = at + 64
end
if #out > 1 then
	call('SET', klock, token, 'PX', lease_ms)
	-- whoever is alive looks again after this lease's end
	call('ZADD', kwake, int(now + lease_ms + 1000), aor)
	return out
end
if wait > 0 then
	return {'wait', int(wait)}
end
return {'none'}
