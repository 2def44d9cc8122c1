# SPDX-License-Identifier: MIT
# The rules of event channels and grants that the local hypervisor keeps too
# (tests/xen/rules): the same program, the same assertions.

rules 0 1 >/tmp/rules.out 2>/tmp/rules.err # the libraries complain
status=$?
while read -r line; do
    case $line in
    "ok "*) ok "${line#ok }" ;;
    *) not_ok "${line#not ok }" ;;
    esac
done </tmp/rules.out
check "every rule holds" [ $status = 0 ]
