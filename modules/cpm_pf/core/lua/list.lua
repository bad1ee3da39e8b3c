-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- list: a page of a queue, oldest first, without what has expired, without
-- bodies. Reads only.
--
-- ARGV 3 after (seq), 4 limit, 5 state (Q, L, H, D, or - for any)
-- returns {messages in the queue, next, {seq, state, attempts, due, error,
--         envelope}...}; next: go on after this seq, 0: that was all

local after, limit, want = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local n = call('LLEN', kq)

local lo = index_after(after)
local out, next_seq = {n, '0'}, 0
local scanned = 0
while lo < n do
	local part = call('LRANGE', kq, lo, lo + 63)
	for _, e in ipairs(part) do
		local seq, exp, id = entry_parse(e)
		if #out - 2 >= limit or scanned >= 5000 then
			out[2] = int(next_seq)
			return out
		end
		next_seq = seq or next_seq
		scanned = scanned + 1
		local st = state_get(id or '')
		if exp and (exp == 0 or exp > now or st.s == 'L')
			and (want == '-' or want == st.s) then
			local blob = call('HGET', km, id)
			if blob then
				out[#out + 1] = {int(seq), st.s, st.attempts, due_of(st),
					st.err, blob_envelope(blob)}
			end
		end
	end
	lo = lo + 64
end
return out
