# Makes a bash completion from a program's option table:
#     bin/sd-x --dump-options | awk -f completions/bash.awk
BEGIN { FS = "\t" }

$1 == "program" { name = $2 }
$1 == "option" {
    words = words " --" $2
    if ($3 != "-")
        words = words " -" $3
    if ($4 == "bool")
        negations = negations " --no-" $2
    flags = "--" $2 ($3 == "-" ? "" : "|-" $3)
    if ($4 == "choice" || $5 ~ /\|/) {
        choices = $5
        gsub(/\|/, " ", choices)
        gsub(/\[[^]]*\]/, "", choices)
        cases = cases "    " flags ")\n        COMPREPLY=($(compgen -W '" choices "' -- \"$cur\"))\n        return ;;\n"
    } else if ($4 != "bool" && $5 ~ /DIR|FOLDER/) {
        folders = folders (folders == "" ? "" : "|") flags
    } else if ($4 != "bool" && $5 !~ /FILE|PATH/) {
        values = values (values == "" ? "" : "|") flags
    }
}

END {
    f = name
    gsub(/-/, "_", f)
    printf "_%s()\n{\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n", f
    printf "    COMPREPLY=()\n    case $prev in\n%s", cases
    if (folders != "")
        printf "    %s)\n        COMPREPLY=($(compgen -d -- \"$cur\"))\n        return ;;\n", folders
    if (values != "")
        printf "    %s)\n        return ;;\n", values
    printf "    esac\n    case $cur in\n    --no-*)\n        COMPREPLY=($(compgen -W '%s' -- \"$cur\")) ;;\n", substr(negations, 2)
    printf "    -*)\n        COMPREPLY=($(compgen -W '%s' -- \"$cur\")) ;;\n", substr(words, 2)
    printf "    *)\n        COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n    esac\n}\n"
    printf "complete -o filenames -F _%s %s\n", f, name
}
