-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- turn: the user or the operator decides about one message that is not on its
-- way: kept back (held), or queued again (from held, dead, or waiting).
--
-- ARGV 3 id, 4 H or Q, 5 token of the lease that the caller has, or -
-- returns 1 done, 0 there is no such message, 2 it is on its way to a client
--
-- Again changes nothing more. A message keeps its place in the queue.

local id, to, token = ARGV[3], ARGV[4], ARGV[5]
local entry = call('HEXISTS', km, id) == 1 and entry_find(id)
if not entry then
	return 0
end
local _, exp = entry_parse(entry)
local st = state_get(id)
local ours = token ~= '-' and st.token == token
if st.s == 'L' and not ours then
	return 2
end
if exp > 0 and exp <= now and not ours then
	return 0
end
write_anyway()
if is_dead(st) then
	call('ZREM', kdead, aor .. ' ' .. id)
end
if to == 'Q' then
	-- as new, and now
	call('HDEL', km, ' s' .. id)
	call('ZADD', kwake, int(now), aor)
else
	st.s, st.due, st.deadline, st.token = 'H', 0, 0, '-'
	state_set(id, st)
end
soonest_again(id)
return 1
