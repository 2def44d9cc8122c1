# SPDX-License-Identifier: MIT
# dom0's kernel complains while the scenario goes well.
# must say: not ok kernel-bug: dom0's kernel log is clean

echo "BUG: this one is deliberate" >/dev/kmsg
ok "nothing else is wrong"
