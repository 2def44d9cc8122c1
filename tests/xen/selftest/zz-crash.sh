# SPDX-License-Identifier: MIT
# dom0 crashes: the last one, for nothing comes after it.
# must say: not ok zz-crash: no end of it was reported

echo c >/proc/sysrq-trigger
sleep 60
