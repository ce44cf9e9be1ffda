"""The work of mover jobs, in bash: between an object of the store and a file of the cluster. No I/O here.

A node needs bash, coreutils and curl; perl and openssl are used where they are. Presigned URLs are read from a file
that only the user may read, and curl reads them from a pipe, so that they are in no argument list, no log and no job
script. Parts are moved in parallel, each one again if that fails; a job that is started again goes on with the parts
that are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.files.remote.commands.beside import REPLACE

if TYPE_CHECKING:
    from flamecrest.server.transfer.direct.parts import PartPlan

TRIES: Final = 6  # of each part, with pauses of 1, 2, 4 … seconds

# Reads `length` bytes of standard input from `start` on, once: they go to standard output and their MD5 to the file
# `$md5`, or the MD5 to standard output if there is none.
_READ_ONCE: Final = """
    use strict;
    use Digest::MD5;
    my ($start, $left, $md5) = @ARGV;
    my ($sum, $data, $count) = Digest::MD5->new;
    fcntl STDOUT, 1031, 1048576 if defined $md5; # a larger pipe (F_SETPIPE_SZ): fewer switches of processes
    defined sysseek STDIN, $start, 0 or exit 2;
    while ($left > 0) {
        $count = sysread STDIN, $data, $left < 65536 ? $left : 65536 or exit 2;
        $left -= $count;
        $sum->add($data);
        for (my $sent = 0; defined $md5 && $sent < $count;) {
            $sent += syswrite(STDOUT, $data, $count - $sent, $sent) || exit 3;
        }
    }
    open STDOUT, ">", $md5 or exit 4 if defined $md5;
    print $sum->hexdigest or exit 4;
    close STDOUT or exit 4;
"""

# Writes standard input, which must have `length` bytes, to the place `start` of the file that is standard output, while
# it comes. Its MD5 goes to standard error. Exit status 3: it cannot be written.
_KEEP: Final = """
    use strict;
    use Digest::MD5;
    my ($start, $left) = @ARGV;
    my ($sum, $data, $count) = Digest::MD5->new;
    $SIG{XFSZ} = "IGNORE";
    fcntl STDIN, 1031, 1048576; # F_SETPIPE_SZ
    defined sysseek STDOUT, $start, 0 or exit 3;
    while ($count = sysread STDIN, $data, 65536) {
        ($left -= $count) >= 0 or exit 2;
        $sum->add($data);
        for (my $sent = 0; $sent < $count;) {
            $sent += syswrite(STDOUT, $data, $count - $sent, $sent) || exit 3;
        }
    }
    $left == 0 or exit 2;
    print STDERR $sum->hexdigest;
"""

# - perl makes the MD5 of a part without a pipe to another program. Where it is missing, dd and md5sum do the same.
# - `feed` writes a part to standard output, and its MD5 to a file.
# - `end` creates the file with the end of the transfer, unless another process was faster.
# - The file of parts has a line for each part that was moved: its number, its MD5, its entity tag.
# - `each` runs a function for all parts, by several processes at the same time: as few as end after the same number of
#   rounds, so that none is alone at the end. Each takes the next part that none has taken, and no more after one has
#   failed. The first one writes the progress.
# - `why` keeps the first reason why a part has failed, for the one line of the log of errors.
# - curl's own message goes to the log of errors; it contains no URL.
_COMMON: Final = rf"""
set -o pipefail
umask 077
base=$1 size=$2 part=$3 parallel=$4 state=
count=$((size ? (size + part - 1) / part : 1))
id=${{SLURM_JOB_ID:-${{PBS_JOBID:-${{FLAMECREST_JOB_ID:-}}}}}}
id=${{id//[^][A-Za-z0-9._-]/}}
folder=$(mktemp -d) || exit
trap 'rm -rf -- "$folder"' EXIT
options=(-q --silent --show-error --globoff --connect-timeout 20 --speed-limit 1 --speed-time 60)
say() {{ printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${{2//[[:cntrl:]]/ }}" >>"$base.$1"; }}
why() {{ [ -e "$folder/why" ] || printf '%s. ' "${{1%.}}" >"$folder/why"; }}
end() {{
    printf '{{"state": "%s", "at": %s, "etag": "%s", "sha256": "%s"}}' "$1" "$(date +%s)" "$2" "${{3-}}" \
        >"$base.end-$$" &&
        mv -nT -- "$base.end-$$" "$base.end"
    rm -f -- "$base.end-$$" "$base.parts" "$base.urls"
}}
run() {{
    "$@" &
    wait "$!"
}}
span() {{
    start=$((($1 - 1) * part))
    length=$((size - start < part ? size - start : part))
}}
unset PERL5OPT PERL5LIB PERL5DB PERL_UNICODE
! perl -MDigest::MD5 -e 1 2>/dev/null || perl=yes
once() {{ perl -e '{_READ_ONCE}' -- "$start" "$length" "${{@:2}}" <"$1"; }}
content() {{
    dd if="$1" bs=256K iflag=skip_bytes,count_bytes,fullblock skip="$start" count="$length" status=none
}}
binary() {{ printf %b "$(sed 's/../\\x&/g')"; }}
digest() {{
    local found
    found=$(openssl dgst -sha256 -r <"$1" 2>/dev/null) && [[ $found =~ ^[0-9a-f]{{64}} ]] ||
        found=$(sha256sum <"$1") || return
    printf %s "${{found:0:64}}"
}}
sum() {{
    local found
    if [ -n "${{perl-}}" ]; then
        once "$1"
    else
        found=$(content "$1" | md5sum) && printf %s "${{found%% *}}"
    fi
}}
feed() {{
    if [ -n "${{perl-}}" ]; then
        once "$1" "$2"
    else
        sum "$1" >"$2" &
        content "$1" && wait "$!"
    fi
}}
status() {{ sed -n 's,^HTTP/[0-9.]* \([0-9]*\).*,\1,p' "$1" 2>/dev/null | tail -n 1; }}
code() {{ sed -n 's,.*<Code>\([A-Za-z]*\)</Code>.*,\1,p' "$1" 2>/dev/null | head -n 1; }}
progress() {{
    [ "$SECONDS" != "$state" ] || return
    state=$SECONDS
    local new="$base.progress-0000000000000000"
    printf '{{"at": %s, "done": %s, "total": %s, "job_id": "%s"}}' "$(date +%s)" "$1" "$size" "$id" >"$new" &&
        mv -T -- "$new" "$base.progress"
}}
sums=() tags=()
recorded() {{
    local number md5 tag
    [ -f "$base.parts" ] || return 0
    while read -r number md5 tag; do
        [[ $number =~ ^[1-9][0-9]{{0,4}}$ && $md5 =~ ^[0-9a-f]{{32}}$ ]] && sums[number]=$md5 tags[number]=$tag
    done <"$base.parts"
}}
each() {{
    local lane rounds=$(((count + parallel - 1) / parallel)) pid pids=()
    for ((lane = 1; lane <= (count + rounds - 1) / rounds; lane++)); do
        parts "$1" &
        pids+=("$!")
    done
    for pid in "${{pids[@]}}"; do wait "$pid" || return; done
}}
take() {{
    [ ! -e "$folder/taken-$1" ] && (set -C && : >"$folder/taken-$1") 2>/dev/null
}}
parts() {{
    local number moved
    for ((number = 1; number <= count; number++)); do
        [ ! -e "$folder/failed" ] || return
        take "$number" || continue
        "$1" "$number" || {{
            : >"$folder/failed"
            return 1
        }}
        if [ "$lane" = 1 ] && mapfile -t moved <"$base.parts"; then
            progress $((${{#moved[@]}} < count ? ${{#moved[@]}} * part : size))
        fi
    done
    return 0
}}
permanent() {{
    case $(status "$1"):$(code "$2") in
    *:*QuotaExceeded) why 'A quota of the object store is exceeded.' ;;
    403:*) why 'The object store refuses the presigned URL: it has expired, or the access key may not do this.' ;;
    404:*) why 'The object, or its upload, is gone from the object store.' ;;
    400:* | 405:* | 409:* | 411:* | 412:* | 416:*)
        why "The object store refuses a part: HTTP status $(status "$1") $(code "$2")"
        ;;
    *) return 1 ;;
    esac
}}
pause() {{
    [ "$1" -lt {TRIES} ] || return
    sleep $((1 << ($1 - 1)))
}}
"""

# perl writes a part to its place in the file while it comes. Where perl is missing, curl does: dd has moved the offset
# that both share, and it cannot write after the last KiB of the part, whatever the store sends. The MD5 is made
# afterwards then. Neither says why it cannot write; dd does.
# The data is written to the disk while more of it comes, so that the sync at the end is short.
# Arguments: the prefix of the record's files, size, size of a part, parallel parts, the file for the data, the target,
# the mode of a new file in octal digits or nothing, the entity tag and the SHA-256 to verify or nothing.
_FETCH: Final = rf"""{_COMMON}{REPLACE}
data=$5 target=$6 mode=$7 etag=$8 sha256=$9
fail() {{
    kill $(jobs -p) 2>/dev/null
    say err "$(cat "$folder/why" 2>/dev/null)$1"
    [ -e "$base.end" ] || rm -f -- "$data"
    end FAILED ''
    exit 1
}}
{{ read -r get && read -r delete; }} <"$base.urls" || fail 'The file with the presigned URLs is gone.'
[ -f "$data" ] && [ ! -L "$data" ] && [ -O "$data" ] || fail 'The file for the data is gone, or was replaced.'
written() {{
    dd if="$1" of="$data" bs=256K iflag=fullblock,count_bytes count="$length" oflag=seek_bytes seek="$start" \
        conv=notrunc status=none 2>"$folder/$2.dd"
}}
placed() {{
    dd count=0 oflag=seek_bytes seek="$start" conv=notrunc status=none </dev/null || return
    [ "$count" = 1 ] || ulimit -S -f $(((start + length + 1023) / 1024)) -c 0
    received "$1"
}}
kept() {{ exec perl -e '{_KEEP}' -- "$start" "$length" 2>"$folder/$1.md5"; }}
received() {{
    exec curl --config - "${{options[@]}}" --fail --range "$start-$((start + length - 1))" --max-filesize "$length" \
        --dump-header "$folder/$1" 2>"$folder/$1.err"
}}
fetch() {{
    local start length try found codes
    span "$1"
    [ "$length" -gt 0 ] || found=d41d8cd98f00b204e9800998ecf8427e
    if [ -n "${{sums[$1]-}}" ] && [ "$(sum "$data")" = "${{sums[$1]}}" ]; then return; fi
    for ((try = 1; length > 0; try++)); do
        if [ -n "${{perl-}}" ]; then
            printf 'url = "%s"\n' "$get" | received "$1" | kept "$1" 1<>"$data"
            codes=("${{PIPESTATUS[@]}}")
        else
            printf 'url = "%s"\n' "$get" | placed "$1" 1<>"$data"
            codes=("${{PIPESTATUS[@]}}" 0)
        fi
        if [ "${{codes[1]}}${{codes[2]}}" = 00 ] && {{ [ "$(status "$folder/$1")" = 206 ] || [ "$count" = 1 ]; }}; then
            if [ -n "${{perl-}}" ]; then found=$(<"$folder/$1.md5"); else found=$(sum "$data") || return; fi
            break
        elif {{ [ "${{codes[1]}}" = 23 ] || [ "${{codes[2]}}" = 3 ]; }} && ! written /dev/zero "$1"; then
            found=$(<"$folder/$1.dd")
            found=${{found##*: }}
            why "The data cannot be written: ${{found:-the process that writes was ended}}"
            return 1
        fi
        ! permanent "$folder/$1" "" || return 1
        pause "$try" || {{
            why "Part $1 cannot be fetched: $(head -n 1 "$folder/$1.err")"
            return 1
        }}
    done
    printf '%s %s\n' "$1" "$found" >>"$base.parts"
}}
command -v curl >/dev/null || fail 'The node has no curl.'
say log "Job ${{id:-unknown}} fetches the object."
recorded
truncate -s "$size" -- "$data" || fail 'The file for the data cannot be written.'
while sleep 0.3 && kill -0 "$$" 2>/dev/null; do sync -d -- "$data"; done 2>/dev/null &
flushing=$!
each fetch || fail 'The file could not be fetched from the object store; an older file at its place is unchanged.'
{{ kill "$flushing" && wait "$flushing"; }} 2>/dev/null # bash would report it
recorded
if [ -n "$etag" ]; then
    found=$(printf %s "${{sums[@]}}" | binary | md5sum)
    [ "${{found%% *}}-$count" = "$etag" ] || [ "${{sums[1]}}" = "$etag" ] ||
        fail "The data does not have the checksum of the object. Its parts must have the size maxPartSize."
fi
if [ -n "$sha256" ]; then
    found=$(digest "$data") || fail 'The data cannot be read.'
    [ "$found" = "$sha256" ] || fail 'The file does not have the SHA-256 that was given.'
fi
[ "$(stat -c %s -- "$data")" = "$size" ] || fail 'The data does not have the size of the file.'
[ -z "$mode" ] || chmod "$mode" -- "$data" || fail 'The mode of the file cannot be set.'
run sync -- "$data" || fail 'The data cannot be written to the disk.'
[ ! -L "$target" ] || fail 'The path of the target leads to another file now.'
[ -f "$target" ] || [ ! -e "$target" ] || fail 'The target is not a regular file any more.'
found=$(replace "$data" "$target" 2>&1) || fail "The file cannot be put in its place: ${{found##*: }}"
rm -f -- "$data"
say log 'Multipart file upload successfully completed. File was successfully uploaded.'
end COMPLETED "$etag" "$sha256"
printf 'url = "%s"\n' "$delete" |
    curl --config - "${{options[@]}}" --max-time 60 --request DELETE --output /dev/null 2>/dev/null
exit 0
"""

# The MD5 of a part is made of what is sent, and must be the entity tag of the answer. The tags of a store that
# encrypts are no MD5s: it gets the part again with Content-MD5, and the others only with that.
# Arguments: the prefix of the record's files, size, size of a part, parallel parts, the file, its time of change.
_SEND: Final = rf"""{_COMMON}
source=$5 changed=$6
mapfile -t urls <"$base.urls" || exit
ask() {{
    printf 'url = "%s"\n' "$1" | curl --config - "${{options[@]}}" "${{@:2}}"
}}
fail() {{
    kill $(jobs -p) 2>/dev/null
    say err "$(cat "$folder/why" 2>/dev/null)$1"
    [ -e "$base.end" ] || ask "${{urls[1]}}" --max-time 60 --request DELETE --output /dev/null 2>/dev/null
    end FAILED ''
    exit 1
}}
unchanged() {{ [ "$(stat -L -c '%s %Y' -- "$source" 2>/dev/null)" = "$size $changed" ]; }}
send() {{
    local start length try md5= codes tag given=()
    span "$1"
    if [ -n "${{sums[$1]-}}" ] || [ -e "$folder/given" ]; then
        md5=$(sum "$source") || {{
            why 'The file cannot be read.'
            return 1
        }}
        if [ "${{sums[$1]-}}" = "$md5" ]; then return; fi
    fi
    for ((try = 1; ; try++)); do
        unchanged || return 1
        [ -z "$md5" ] || given=(--header "Content-MD5: $(printf %s "$md5" | binary | base64)")
        feed "$source" "$folder/$1.md5" 2>/dev/null |
            curl --config <(printf 'url = "%s"\n' "${{urls[$1 + 2]}}") "${{options[@]}}" --upload-file - \
                --header 'Transfer-Encoding:' --header 'Expect:' --header "Content-Length: $length" "${{given[@]}}" \
                --dump-header "$folder/$1" --output "$folder/$1.body" 2>"$folder/$1.err"
        codes=("${{PIPESTATUS[@]}}")
        if [ "${{codes[0]}}${{codes[1]}}" = 00 ] && [ "$(status "$folder/$1")" = 200 ]; then
            md5=$(<"$folder/$1.md5")
            tag=$(sed -n 's/^[Ee][Tt][Aa][Gg]: *"*\([^"]*\)"*.$/\1/p' "$folder/$1" | tail -n 1)
            [ "$tag" != "$md5" ] && [ "${{#given[@]}}" = 0 ] || break
            : >"$folder/given"
            continue
        fi
        ! permanent "$folder/$1" "$folder/$1.body" || return 1
        [ "${{codes[0]}}" = 0 ] || sum "$source" >/dev/null 2>&1 || {{
            why 'The file cannot be read.'
            return 1
        }}
        pause "$try" || {{
            why "Part $1 cannot be sent: $(head -n 1 "$folder/$1.err") $(code "$folder/$1.body")"
            return 1
        }}
    done
    printf '%s %s %s\n' "$1" "$md5" "$tag" >>"$base.parts"
}}
complete() {{
    local number try
    {{
        printf '<CompleteMultipartUpload>'
        for ((number = 1; number <= count; number++)); do
            printf '<Part><PartNumber>%s</PartNumber><ETag>"%s"</ETag></Part>' "$number" "${{tags[number]}}"
        done
        printf '</CompleteMultipartUpload>'
    }} >"$folder/xml"
    for ((try = 1; ; try++)); do
        ask "${{urls[0]}}" --request POST --header 'Content-Type: application/xml' --header 'Expect:' \
            --data-binary @"$folder/xml" --dump-header "$folder/head" --output "$folder/body" 2>"$folder/err" &&
            grep -q '<CompleteMultipartUploadResult' "$folder/body" && return
        # the answer to a request that succeeded can have been lost
        ask "${{urls[2]}}" --head --output "$folder/found" 2>/dev/null
        [ "$(status "$folder/found")" != 200 ] || return 0
        ! permanent "$folder/head" "$folder/body" || return 1
        pause "$try" || return
    done
}}
command -v curl >/dev/null || fail 'The node has no curl.'
say log "Job ${{id:-unknown}} sends the file to the object store."
digest "$source" >"$folder/sha256" 2>/dev/null &
summing=$!
recorded
each send || {{
    unchanged || fail 'The file was changed while it was read. Start the download again.'
    fail 'The file could not be sent to the object store.'
}}
recorded
wait "$summing" || fail 'The file cannot be read.'
unchanged || fail 'The file was changed while it was read. Start the download again.'
complete || fail 'The object could not be completed.'
say log 'Multipart file upload successfully completed. The file can be downloaded until the URL expires.'
end COMPLETED "$(printf %s "${{sums[@]}}" | binary | md5sum | cut -c 1-32)-$count" "$(<"$folder/sha256")"
exit 0
"""


def fetch_script(
    base: str, plan: PartPlan, parallel: int, data: str, target: str, mode: int | None, etag: str, sha256: str = ""
) -> Script:
    """The script that fetches an object and puts it in place of `target`.

    `base` is the path of the record's files without their suffix; `BASE.urls` has the URL to fetch the object and the
    one to remove it, a line each. The data is written to the file `data`, which exists. `mode` is that of a new target.
    The object must have the entity tag `etag`, and the file the digest `sha256` in hexadecimal digits, unless they are
    empty.
    """
    digits = "" if mode is None else f"{mode:o}"
    return Script(_FETCH, (*_arguments(base, plan, parallel), data, target, digits, etag, sha256))


def send_script(base: str, plan: PartPlan, parallel: int, source: str, mtime: int) -> Script:
    """The script that sends the file `source` in parts and completes the object.

    `BASE.urls` has the URLs that complete, abort and look at the object, and that of each part, a line each. The job
    fails if the file has another size or time of change than given.
    """
    return Script(_SEND, (*_arguments(base, plan, parallel), source, str(mtime)))


def _arguments(base: str, plan: PartPlan, parallel: int) -> tuple[str, ...]:
    return base, str(plan.size), str(plan.part_size), str(parallel)
