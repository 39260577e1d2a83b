# Fills a manual page from the program's option table:
#     bin/sd-x --dump-options | awk -f man/options.awk - man/sd-x.1
# `.\" @NAME@` becomes the line under NAME, `.\" @SYNOPSIS@` the usage, `.\" @OPTIONS@` the list of options.
BEGIN { FS = "\t" }

# Text for troff: backslashes and hyphens as they are, no line that begins with a dot or quote.
function plain(s) {
    gsub(/\\/, "\\e", s)
    gsub(/-/, "\\-", s)
    if (s ~ /^[.']/)
        s = "\\&" s
    return s
}

function option(name, letter, type, metavar, def, aliases, help,    head, extra) {
    head = ".TP\n"
    if (letter != "-")
        head = head "\\fB\\-" plain(letter) "\\fR, "
    head = head "\\fB\\-\\-" plain(name) "\\fR"
    if (type == "bool" && def == "on")
        head = head ", \\fB\\-\\-no\\-" plain(name) "\\fR"
    if (type != "bool")
        head = head " \\fI" plain(metavar) (type == "words" ? "...": "") "\\fR"
    extra = help
    sub(/^./, toupper(substr(extra, 1, 1)), extra)
    if (type == "list")
        extra = extra "; may be given more than once"
    extra = plain(extra) "."
    if (def != "-")
        extra = extra "\nThe default is \\fB" plain(def) "\\fR."
    if (aliases != "-")
        extra = extra "\nAlso accepted as \\fB\\-\\-" plain(aliases) "\\fR."
    return head "\n" extra "\n"
}

FILENAME == ARGV[1] && $1 == "program" { name = $2; args = $3 == "-" ? "" : " " $3; summary = $4 }
FILENAME == ARGV[1] && $1 == "heading" { options = options ".SS " plain($2) "\n" }
FILENAME == ARGV[1] && $1 == "option" { options = options option($2, $3, $4, $5, $6, $7, $8) }
FILENAME == ARGV[1] { next }

/^\.\\" @NAME@/ { print plain(name) " \\- " plain(tolower(substr(summary, 1, 1)) substr(summary, 2)); next }
/^\.\\" @SYNOPSIS@/ { print ".B " plain(name) "\n[OPTION]..." plain(args); next }
/^\.\\" @OPTIONS@/ { printf "%s", options; next }
{ print }
