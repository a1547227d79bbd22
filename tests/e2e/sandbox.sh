#!/bin/sh
# First process of a sandbox: sandbox.sh ROOT [SOURCE TARGET]... -- COMMAND...
#
# Runs in mount, PID and UTS namespaces of its own. Makes ROOT read-only, mounts each SOURCE (outside) on TARGET
# (inside), and runs COMMAND there. Ends when COMMAND ends, or when standard input does, that is when the test that
# holds its other end is gone, in whatever way; the kernel then ends all that is left in the PID namespace.
set -eu

root=$1
shift
hostname gateway.example.net
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom; do
	: >"$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
while [ "$1" != -- ]; do
	if [ -d "$1" ]; then mkdir -p "$root$2"; else : >"$root$2"; fi
	mount --bind "$1" "$root$2"
	shift 2
done
shift

# MTAs close every descriptor that they could have at start; as many as services get, then, not a container's million.
ulimit -n 1024
exec 3<&0
chroot "$root" "$@" </dev/null 3<&- &
command=$!
{
	cat <&3 >/dev/null
	kill -KILL "$command"
} 2>/dev/null >&2 &
exec 3<&-
wait "$command"
