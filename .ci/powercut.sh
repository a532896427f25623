#!/usr/bin/env bash
# Power cuts without a simulator, and without stopping the program under test.
#
#   powercut.sh WORK CUTS SECONDS WRITE CHECK
#
# WRITE is a command that keeps a store in @DIR@ and prints one line for each
# promise it has made. It runs on an ext4 whose image lies on an XFS that can
# share blocks between files. Copying the image there takes milliseconds, is
# atomic, and takes what has reached the disk: nothing that only the page cache
# of the ext4 holds, neither written nor mapped. Each copy is one power cut, at
# a random moment.
#
# Then each copy is mounted, which replays the journal as after a real cut, and
# CHECK is run with @DIR@ and @PROMISES@, a file with the promises that had
# been printed before the copy began. It exits 0 when they are kept.
#
# What it cannot show: a disk that loses what it has been told to flush.
#
# Exit 0: all promises of all cuts were kept; 1: some were not; 2: the test
# itself could not run. Needs root, loop devices, xfsprogs, e2fsprogs and
# util-linux.
set -u

if [ $# -ne 5 ]; then
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
work=$(realpath -m "$1") cuts=$2 seconds=$3 write=$4 check=$5
writer=

cannot() {
	echo "cannot: $*"
	exit 2
}

end_writer() {
	[ -n "$writer" ] || return 0
	kill -9 -- "-$writer" 2>/dev/null
	wait "$writer" 2>/dev/null
	writer=
}

clean() {
	end_writer
	local m i
	for m in cut inner outer; do
		for i in 1 2 3 4 5; do
			mountpoint -q "$work/$m" || break
			umount "$work/$m" 2>/dev/null && break
			sleep 0.2
		done
		umount -l "$work/$m" 2>/dev/null
	done
	rm -f "$work/outer.img"
}
trap clean EXIT
trap 'exit 2' INT TERM HUP

elapsed() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.0f", b - a }'; }

mkdir -p "$work/outer" "$work/inner" "$work/cut" || cannot "make $work"
truncate -s 6G "$work/outer.img" || cannot "make an image in $work"
mkfs.xfs -q -f -m reflink=1 "$work/outer.img" || cannot "make an XFS"
mount -o loop "$work/outer.img" "$work/outer" || cannot "mount an XFS through a loop device"
truncate -s 1G "$work/outer/disk.img"
mkfs.ext4 -q -F "$work/outer/disk.img" || cannot "make an ext4"
mount -o loop "$work/outer/disk.img" "$work/inner" || cannot "mount an ext4 through a loop device"
mkdir "$work/inner/store" && sync -f "$work/inner" || cannot "write to the ext4"

begin=$(date +%s.%N)
setsid bash -c "${write//@DIR@/$work/inner/store}" >"$work/promises" 2>"$work/writer.log" &
writer=$!
for _ in $(seq 200); do
	[ "$(wc -l <"$work/promises")" -gt 20 ] && break
	sleep 0.1
done
[ "$(wc -l <"$work/promises")" -gt 20 ] || cannot "the writer promises nothing: $(tail -n 5 "$work/writer.log")"

for i in $(seq "$cuts"); do
	sleep "$(awk -v s="$seconds" -v n="$cuts" -v r=$RANDOM 'BEGIN { print 2 * s / n * r / 32768 }')"
	kill -0 "$writer" 2>/dev/null || cannot "the writer ended: $(tail -n 5 "$work/writer.log")"
	wc -l <"$work/promises" >"$work/promised.$i"
	cp --reflink=always "$work/outer/disk.img" "$work/outer/cut.$i" || cannot "copy the image"
done
end_writer
for _ in $(seq 20); do # what the writer started may take a moment to go
	umount "$work/inner" 2>/dev/null && break
	sleep 0.2
done
wrote=$(elapsed "$begin")

begin=$(date +%s.%N) bad=0
for i in $(seq "$cuts"); do
	head -n "$(cat "$work/promised.$i")" "$work/promises" >"$work/promised"
	if ! mount -o loop "$work/outer/cut.$i" "$work/cut"; then
		echo "cut $i: the file system does not mount"
		bad=$((bad + 1))
		continue
	fi
	command=${check//@DIR@/$work/cut/store}
	if ! said=$(timeout -k 5 60 bash -c "${command//@PROMISES@/$work/promised}" 2>&1); then
		bad=$((bad + 1))
		[ $bad -le 5 ] && echo "cut $i, $(wc -l <"$work/promised") promises: $(tail -n 3 <<<"$said" | cut -c1-300)"
	fi
	for _ in $(seq 20); do
		umount "$work/cut" 2>/dev/null && break
		sleep 0.1
	done
	rm -f "$work/outer/cut.$i"
done
echo "$cuts power cuts, $(wc -l <"$work/promises") promises: $bad bad; writing $wrote s, checking $(elapsed "$begin") s"
[ $bad -eq 0 ]
