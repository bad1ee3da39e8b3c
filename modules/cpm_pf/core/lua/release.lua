-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- release: the end of a delivery, or of a look that found no client.
--
-- ARGV 3 token ("-": no lock was taken), 4 id that was leased and not sent
--      ("-": none), 5 look again in ms
-- returns the messages left

local token, id, wake_in = ARGV[3], ARGV[4], tonumber(ARGV[5])

write_anyway()
if id ~= '-' and token ~= '-' then
	local raw = call('HGET', km, ' s' .. id)
	local st = raw and state_parse(raw)
	if st and st.token == token then
		unlease(id, st)
	end
end

local holder = call('GET', klock)
if holder == token then
	call('DEL', klock)
	holder = nil
end

if call('LLEN', kq) == 0 then
	drop_if_empty()
	return 0
end
local _, soonest = reap()
if drop_if_empty() then
	return 0
end
if holder then
	-- another delivery goes on: look when its lease would end
	wake_in = math.max(call('PTTL', klock), 0) + 1000
end
-- A retry is due and was not made: its client may be known to another node
-- only. All nodes look once a second: for 2.5 s it stays due, so that each has
-- had its look; the same again later, and the rarer the longer this goes on.
for _, e in ipairs(call('LRANGE', kq, 0, 15)) do
	local _, _, eid = entry_parse(e)
	local st = state_get(eid or '')
	if st.s == 'Q' and st.attempts > 0 and st.due <= now
		and st.class ~= 'm' and st.class ~= 'd' then
		local late = now - math.max(st.due, st.deadline)
		local round, later = 0, 8000
		while later <= late do
			round, later = later, later * 2
		end
		wake_in = math.min(wake_in, late - round < 2500 and 1 or later - late)
		break
	end
end
-- a flush that other nodes are still to look for (flush.lua)
local till = string.match(call('HGET', ksum, 'f' .. aor) or '', '^%a (%d+) ')
if till and tonumber(till) > now then
	wake_in = 1
end
wake_at(now + wake_in, soonest)
return call('LLEN', kq)
