-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- purge: a batch of one user's messages goes, whatever their state.
--
-- ARGV 3 at most so many, 4 only up to this seq (0: up to the newest of now)
-- returns {removed, seq to go on with (0: done)}
--
-- In batches, so that Redis answers others meanwhile; up to what was there at
-- the first of them, so that a queue that is being filled ends it too.

local limit, upto = tonumber(ARGV[3]), tonumber(ARGV[4])
if call('LLEN', kq) == 0 then
	return {0, '0'}
end
if upto == 0 then
	upto = newest_seq()
end
if upto == 0 then
	upto = FAR -- nothing that can be read
end
write_anyway()
local part = call('LRANGE', kq, 0, limit - 1)
local bytes, soonest = meta_get()
local gone, gone_bytes, left = 0, 0, false
for _, e in ipairs(part) do
	local seq, _, id = entry_parse(e)
	if not seq then
		-- of no use to anybody, and in nobody's sum but the count
		call('LREM', kq, 1, e)
		gone = gone + 1
	elseif seq <= upto then
		gone = gone + 1
		gone_bytes = gone_bytes + call('HSTRLEN', km, id)
		message_remove(e, id, state_get(id))
	else
		left = true
	end
end
call('HINCRBY', ksum, 'n', 0 - gone)
call('HINCRBY', ksum, 'b', int(0 - gone_bytes))
meta_set(call('LLEN', kq), math.max(bytes - gone_bytes, 0), soonest)
if drop_if_empty() or left or #part < limit then
	return {gone, '0'}
end
return {gone, int(upto)}
