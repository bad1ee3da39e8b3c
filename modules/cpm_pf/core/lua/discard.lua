-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- discard: one message goes, because its user or the operator says so.
--
-- KEYS 11 the message's tombstone
-- ARGV 3 id, 4 dedup_ms, 5 jobs to leave in its place: letters, or -
-- returns 1 done, 0 there is no such message
--
-- A message that is on its way goes as well: its delivery finds its lease
-- lost, and changes nothing.

local id = ARGV[3]
local blob = call('HGET', km, id)
local entry = blob and entry_find(id)
if not entry then
	return 0
end
local _, exp = entry_parse(entry)
local st = state_get(id)
if exp > 0 and exp <= now and st.s ~= 'L' then
	return 0
end
jobs_check(ARGV[5])
write_anyway()
jobs_put(ARGV[5], id, blob, now)
message_take(entry, id, st)
call('SET', ktomb, blob_fingerprint(blob), 'PX', ARGV[4])
drop_if_empty()
return 1
