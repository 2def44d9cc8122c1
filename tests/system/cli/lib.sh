# SPDX-License-Identifier: MIT
# Shared by the tests of the freehold command.  $1 of each test is the build's
# freehold.  A test prints a line per claim and exits 1 if one did not hold.

freehold=$1
unset LD_LIBRARY_PATH # meson sets it: nobody else does
status=0
work=$(mktemp -d "${TMPDIR:-/tmp}/freehold-test.XXXXXX")
chmod 711 "$work" # domains pass through it to their sockets
# Everything that the test starts carries this, and so do its children.
export FREEHOLD_TEST_TOKEN="token-$$-${work##*.}"

claim()
{
    if [ "$1" = 0 ]; then
        echo "ok: $2"
    else
        echo "FAILED: $2"
        status=1
    fi
}

# skip REASON: for what cannot be tried here.
skip()
{
    echo "skipped: $1"
    exit 77
}

# The pids of all processes that carry our token, but for this shell's own.
our_processes()
{
    local dir pid

    for dir in /proc/[0-9]*; do
        pid=${dir#/proc/}
        [ "$pid" != $$ ] && [ "$pid" != "${BASHPID:-$$}" ] || continue
        grep -qzFx "FREEHOLD_TEST_TOKEN=$FREEHOLD_TEST_TOKEN" \
            "$dir/environ" 2>/dev/null || continue
        case $(cat "$dir/comm" 2>/dev/null) in
        '' | bash | sh | timeout | tr | grep | cat | script) ;;
        *) echo "$pid $(ps -o args= -p "$pid")" ;;
        esac
    done
}

# nothing_left DIR...: no process of ours, and nothing in the directories.
nothing_left()
{
    local left dir tries

    for tries in 1 2 3 4 5; do
        left=$(our_processes)
        [ -n "$left" ] || break
        sleep 0.2
    done
    for dir; do
        left="$left$(find "$dir" -mindepth 1 2>/dev/null | head -5)"
    done
    [ -z "$left" ] || { echo "left behind: $left"; return 1; }
}

finish()
{
    rm -rf "$work"
    exit $status
}
