# SPDX-License-Identifier: MIT
# limit: 120
# What a page costs when it is mapped, copied, or read through a mapping that
# stays, by pages per call: bench/grant-batch, dom0 granting to itself.  Under
# XEN_MODE=icount a nanosecond is an instruction.

mkfifo /tmp/stay
grant-batch share 0 <>/tmp/stay >/tmp/refs 2>/tmp/share.err &
granter=$!
all_refs() {
    [ "$(wc -l 2>/dev/null </tmp/refs)" = 256 ]
}
check "dom0 grants 256 pages to itself" wait_until 10 all_refs
grant-batch map 0 40 </tmp/refs >/tmp/grants 2>/tmp/map.err
check "each way was measured" [ $? = 0 ]
cat /tmp/share.err /tmp/map.err
send_file /tmp/grants grants
kill $granter
wait $granter 2>/dev/null
