# SPDX-License-Identifier: MIT
# A scenario that does not end.
# limit: 5
# must say: not ok stuck: it did not end in 5 s

sleep 1000
