#!/bin/bash
# SPDX-License-Identifier: MIT
# Bad input is named exactly, with status 2; failures have status 1; every
# command explains itself.
. "$(dirname "$0")/lib.sh"

# status | words | what stderr must say
while IFS='|' read -r want words text; do
    case $want in '' | \#*) continue ;; esac
    want=${want// /}
    text=${text# }
    eval "set -- $words"
    "$freehold" "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ "$got" = "$want" ] && grep -qF -- "$text" "$work/err"
    claim $? "freehold $words: status $want, '$text'"
    [ "$got" = "$want" ] || { echo "  status was $got"; cat "$work/err"; }
    [ ! -s "$work/out" ]
    claim $? "freehold $words: stdout is empty"
done <<'TABLE'
2 |                                  | usage: freehold COMMAND
2 | nope                             | there is no command 'nope'
2 | help nope                        | there is no command 'nope'
2 | hv                               | usage: freehold hv VERB
2 | hv nope                          | there is no verb 'nope'
2 | hv start --nope                  | there is no option '--nope'
2 | hv start -z                      | there is no option '-z'
2 | hv start extra                   | 'extra' is one argument too many
2 | hv start --uid-base=x            | --uid-base: 'x' is not a whole number from 1
2 | hv start --uid-base              | --uid-base needs a value
2 | hv start --foreground=1          | --foreground takes no value
2 | hv destroy                       | it takes DOMAIN
2 | exec -d 1                        | something is missing
2 | exec -- true                     | which domain?
2 | serve --polling=maybe            | 'maybe' is not one of its values; on or off
2 | serve --workers=0                | '0' is neither per-guest nor a number
2 | serve --hypervisor kvm           | auto, local or xen
2 | serve --max-order 5              | '5' is not a whole number from 0 to 4
2 | attach                           | it takes DOMID TARGET
2 | attach 1                         | it takes DOMID TARGET
2 | attach x disk.img                | 'x' is not a domain id
2 | attach 40000 disk.img            | '40000' is not a domain id; a number from 0 to 32751
2 | attach 1 mem:12q                 | '12q' is not a size
2 | attach 1 null:                   | '' is not a size
2 | attach 1 a b                     | 'b' is one argument too many
2 | attach 1 a --grants=both         | auto, copy or map
2 | detach 1                         | it takes DOMID VDEV
2 | list --order 1                   | there is no option '--order'
2 | stats 1 2                        | '2' is one argument too many
1 | stats --run-dir "$work"          | no local hypervisor runs in
2 | run a b                          | 'b' is one argument too many
2 | run --rw                         | --rw is for an IMAGE of yours
2 | run --seconds=0                  | '0' is not a number of seconds from 1
2 | --worker                         | for `freehold serve` only
2 | bench extra                      | 'extra' is one argument too many
2 | bench --guests 0                 | '0' is not a whole number from 1
2 | bench --store x                  | 'x' is none of mem, null, file:PATH
2 | bench --bs 513                   | 513
1 | hv status --run-dir "$work"      | no local hypervisor runs in
1 | hv stop --run-dir "$work"        | no local hypervisor runs in
1 | exec --run-dir "$work" -d 1 -- true | no local hypervisor runs in
1 | serve --run-dir "$work" --hypervisor local | start one with `freehold hv start`
1 | list --run-dir "$work"           | start one with `freehold serve`
1 | attach 1 mem:1m --run-dir "$work" | start one with `freehold serve`
1 | list --run-dir /nonexistent/a/b  | start one with `freehold serve`
1 | hv start --run-dir /nonexistent/a/b | cannot make run directory
1 | list --run-dir /etc/passwd       | is not a directory of yours
1 | run /nonexistent/disk.img        | /nonexistent/disk.img: No such file
1 | run /dev/null                    | is neither a file nor a block device
TABLE

for words in "" hv "hv start" "hv stop" "hv status" "hv create" "hv destroy" \
    exec serve attach detach list status run bench; do
    # shellcheck disable=SC2086 # several words
    "$freehold" $words --help >"$work/out" 2>"$work/err"
    [ $? = 0 ] && grep -q '^usage: freehold' "$work/out" && [ ! -s "$work/err" ]
    claim $? "freehold $words --help"
    [ "$(awk 'length > 80' "$work/out" | wc -l)" = 0 ]
    claim $? "freehold $words --help fits into 80 columns"
done
for words in hv serve "hv start"; do
    # shellcheck disable=SC2086
    "$freehold" help $words | grep -q '^usage: freehold'
    claim $? "freehold help $words"
done
"$freehold" --version | grep -Eq '^freehold [0-9.]+$'
claim $? "freehold --version"

finish
