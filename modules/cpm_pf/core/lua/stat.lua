-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- stat: a queue in numbers, without what has expired, and perhaps its newest
-- messages, without bodies. Reads only.
--
-- ARGV 3 at most so many messages, newest first (may be missing: none)
-- returns {messages, bytes, oldest_ms, newest_ms, queued, leased, held, dead,
--         {seq, state, attempts, due, error, envelope}...}

local limit = tonumber(ARGV[3] or '0')

local function recent(out)
	local last, head = call('LLEN', kq) - 1, #out
	-- bounded as a page of list is
	local stop = math.max(last - 5000, -1)
	while last > stop and #out - head < limit do
		local first = math.max(last - 63, stop + 1)
		local part = call('LRANGE', kq, first, last)
		for i = #part, 1, -1 do
			local seq, exp, id = entry_parse(part[i])
			local st = state_get(id or '')
			local blob = exp and (exp == 0 or exp > now or st.s == 'L')
				and #out - head < limit and call('HGET', km, id)
			if blob then
				out[#out + 1] = {int(seq), st.s, st.attempts, due_of(st),
					st.err, blob_envelope(blob)}
			end
		end
		last = first - 1
	end
	return out
end

local n = call('LLEN', kq)
if n == 0 then
	return {0, 0, '0', '0', 0, 0, 0, 0}
end
local bytes, soonest = meta_get()
local oldest = entry_parse(call('LINDEX', kq, 0))
local newest = entry_parse(call('LINDEX', kq, -1))
local fields = call('HLEN', km) - call('HEXISTS', km, ' b')
if fields == n and oldest and newest
	and (soonest == 0 or soonest > now) then
	-- no state, nothing expired: the numbers are there already
	return recent({n, bytes, int(oldest), int(newest), n, 0, 0, 0})
end

local count = {Q = 0, L = 0, H = 0, D = 0}
oldest, newest, n = 0, 0, 0
for _, e in ipairs(call('LRANGE', kq, 0, -1)) do
	local seq, exp, id = entry_parse(e)
	local st = state_get(id or '')
	if exp and (exp == 0 or exp > now or st.s == 'L') then
		count[st.s] = count[st.s] + 1
		n = n + 1
		if oldest == 0 then
			oldest = seq
		end
		newest = seq
	elseif exp then
		bytes = bytes - call('HSTRLEN', km, id)
	end
end
return recent({n, bytes, int(oldest), int(newest), count.Q, count.L, count.H,
	count.D})
