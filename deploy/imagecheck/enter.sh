#!/bin/sh
# enter.sh ROOT UID GID COMMAND...: runs a command in an image's file system as docker-compose.yml
# does: root locked, no rights, and nothing where the data set could be.
# Called in a mount and a PID namespace of its own, which end with the command.
set -eu
root=$1 uid=$2 gid=$3
shift 3
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o nosuid,noexec,mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/data"
mount -t tmpfs -o nosuid,nodev,noexec,mode=1777 tmpfs "$root/dev/shm"
touch "$root/data/fer2013"
mount --bind "$root/dev/null" "$root/data/fer2013"
mount -o remount,bind,ro "$root/data/fer2013"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs \
    unshare --root="$root" --wd=/ --setgid="$gid" --setuid="$uid" "$@"
