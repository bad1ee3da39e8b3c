-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- flush: what waits of one user is due now, and every node looks at the queue
-- once, wherever its clients are. Held and dead messages stay what they are.
--
-- ARGV 3 mode, one letter; 4 the node that looks by itself, or -
-- returns 1 done, 0 nothing is queued, 2 too many are asked for just now:
--         nothing was changed
--
-- What claim.lua and release.lua read is in the shard's sums: "f<aor>" ->
-- "<mode> <until> <node>,...", the nodes that have looked. It is over after
-- 2.5 s: all nodes look once a second.

local MOST = 256 -- of a shard, at a time
local field = 'f' .. aor

if call('LLEN', kq) == 0 then
	return 0
end
write_anyway()
reap()
if drop_if_empty() then
	return 0
end
if call('HLEN', ksum) >= MOST and call('HEXISTS', ksum, field) == 0 then
	local all = call('HGETALL', ksum)
	for i = 1, #all, 2 do
		local till = string.match(all[i], '^f.') and
			string.match(all[i + 1], '^%a (%d+) ')
		if till and tonumber(till) <= now then
			call('HDEL', ksum, all[i])
		end
	end
	if call('HLEN', ksum) >= MOST then
		return 2
	end
end
call('HSET', ksum, field, ARGV[3] .. ' ' .. int(now + 2500) .. ' '
	.. (ARGV[4] ~= '-' and ARGV[4] .. ',' or ''))
-- bounded as a page of list is: a delivery takes the oldest first
for at = 0, 4992, 64 do
	local part = call('LRANGE', kq, at, at + 63)
	for _, e in ipairs(part) do
		local _, _, id = entry_parse(e)
		local raw = id and call('HGET', km, ' s' .. id)
		local st = raw and state_parse(raw)
		if st and st.s == 'Q' and not st.leased and not st.from
			and st.due > now then
			st.due = now
			state_set(id, st)
		end
	end
	if #part < 64 then
		break
	end
end
call('ZADD', kwake, int(now), aor)
return 1
