# shellcheck shell=sh
# What merge_captions_to_metadata and merge_dd_tags_to_metadata share: the command lines of sd-scripts' programs of these
# names, made of sd-scan, sd-merge and sd-meta. They set kind and extension, and read this.
#
# Where the originals differ: a picture that cannot be read, or has no text beside it, is told and nothing is written; a byte
# order mark does not become part of the text; line breaks in tags become ", ".
# shellcheck disable=SC2154 # kind
set -eu

name=${0##*/} dir='' out='' in='' recursive='' full_path='' debug=''

usage() {
    cat <<EOT
Usage: $name [OPTION]... TRAIN_DATA_DIR OUT_JSON
Put the texts ($kind) beside the pictures of a folder into sd-scripts' metadata.

      --in_json FILE            metadata to start with (default: OUT_JSON, where it is there)
      --caption_extension EXT   ending of the files with the texts (default: $extension)
      --full_path               name entries by the pictures' paths, not by their names without ending
      --recursive               pictures in folders inside the folder too; needs --full_path
      --debug                   tell what is found for each picture
      --help                    print this and exit
EOT
}

wrong() {
    printf '%s: %s\n' "$name" "$1" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --in_json | --caption_extension | --caption_extention)
        [ $# -gt 1 ] || wrong "$1 needs a value"
        option=$1=$2
        shift
        ;;
    *) option=$1 ;;
    esac
    shift
    case $option in
    --in_json=*) in=${option#*=} ;;
    --caption_extension=* | --caption_extention=*) extension=${option#*=} ;;
    --full_path) full_path=1 ;;
    --recursive) recursive=1 ;;
    --debug) debug=--debug ;;
    --help | -h)
        usage
        exit
        ;;
    -*) wrong "unknown option $option" ;;
    *)
        [ -z "$out" ] || wrong 'too many arguments'
        if [ -n "$dir" ]; then out=$option; else dir=$option; fi
        ;;
    esac
done
[ -n "$out" ] || wrong 'a folder and a file to write are needed'
[ -z "$recursive" ] || [ -n "$full_path" ] || wrong '--recursive requires --full_path'
[ -d "$dir" ] || wrong "$dir: no such folder"
if [ -z "$in" ] && [ -f "$out" ]; then in=$out; fi

tmp=$(mktemp -d "${TMPDIR:-/tmp}/merge.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# The pictures as Python's pathlib finds and sorts them: by the parts of their paths, so that "/" comes before all else.
pictures() {
    # shellcheck disable=SC2086
    find -H "$dir" -mindepth 1 $1 \( -name '*.png' -o -name '*.jpg' -o -name '*.jpeg' -o -name '*.webp' -o -name '*.bmp' \
        -o -name '*.PNG' -o -name '*.JPG' -o -name '*.JPEG' -o -name '*.WEBP' -o -name '*.BMP' \) -print0 |
        tr '/' '\001' | LC_ALL=C sort -z | tr '\001' '/'
}
depth='-maxdepth 1'
[ -z "$recursive" ] || depth=''
pictures "$depth" | sd-scan -0 >"$tmp/pictures"

# Their texts, under the names of their entries.
if [ "$kind" = caption ]; then
    set -- --caption-extension "$extension" --tags-extension ''
else
    set -- --caption-extension '' --tags-extension "$extension"
fi
sd-merge --keep-text "--require-${kind}" $debug "$@" <"$tmp/pictures" >"$tmp/texts"
if [ -n "$full_path" ]; then
    key='gsub("/+(\\./+)*"; "/") | ltrimstr("./")'
else
    key='split("/")[-1] | sub("(?<a>.)\\.[^.]*$"; .a)'
fi
jq -c "{path: (.path | $key), caption, tags, metadata_caption, metadata_tags} | with_entries(select(.value != null))" \
    <"$tmp/texts" >"$tmp/new"

# Into what there was.
if [ -n "$in" ]; then sd-meta from --no-resolve "$in" >"$tmp/old"; else : >"$tmp/old"; fi
sd-merge "$tmp/old" "$tmp/new" >"$tmp/all"
sd-meta to -o "$out" <"$tmp/all"
