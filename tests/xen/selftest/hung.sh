# SPDX-License-Identifier: MIT
# A guest that never ends.
# limit: 200
# must say: not ok hung: the guest ends

truncate -s 8M /tmp/h.img
check "the daemon starts" start_daemon
guest h1 "$(disk /tmp/h.img)" "do=stay"
check "xl create" create h1 || return
check "the guest ends" wait_until 5 gone h1
