# SPDX-License-Identifier: MIT
# Prints C sources without comments and without the contents of string and
# character literals, "FILE:LINE: " before each line that is not empty, so that
# the check scripts can search for code alone.
#
# usage: awk -f strip-comments.awk FILE...
FNR == 1 { in_comment = 0 }
{
    out = ""
    n = length($0)
    for (i = 1; i <= n; i++) {
        c = substr($0, i, 1)
        two = substr($0, i, 2)
        if (in_comment) {
            if (two == "*/") {
                in_comment = 0
                i++
            }
        } else if (two == "/*") {
            in_comment = 1
            out = out " "
            i++
        } else if (two == "//") {
            break
        } else if (c == "\"" || c == "'") {
            i = skip_literal($0, i, n, c)
            out = out c c
        } else {
            out = out c
        }
    }
    if (out ~ /[^ \t]/)
        print FILENAME ":" FNR ": " out
}

# The index of the quote that ends the literal which begins at @i, or the end
# of the line.
function skip_literal(line, i, n, quote,    c)
{
    for (i++; i <= n; i++) {
        c = substr(line, i, 1)
        if (c == "\\")
            i++
        else if (c == quote)
            return i
    }
    return n
}
