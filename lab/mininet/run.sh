#!/bin/sh
# Runs Mininet under Bulkhead: `run.sh PROGRAMS [linear|tree|leaf-spine...]`, PROGRAMS being the folder with bulkheadd
# and bulkhead. Needs root and Debian's mininet.
#
# Mininet cleans up host-wide (it kills by name, deletes every bridge, and removes logs of others): all of this happens in
# namespaces that end with it, with an Open vSwitch of its own.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
programs=$(cd "$1" && pwd)
shift

if [ "${BULKHEAD_MININET_INSIDE:-}" != 1 ]; then
    mkdir -p /run/openvswitch
    exec env BULKHEAD_MININET_INSIDE=1 unshare --mount --net --pid --fork --kill-child --mount-proc "$0" "$programs" "$@"
fi

# What is needed stays in sight where it may lie below the folders that are covered.
mount -t tmpfs tmpfs /mnt
mkdir /mnt/lab /mnt/bin
mount --bind "$here" /mnt/lab
mount --bind "$programs" /mnt/bin
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run/openvswitch
ip link set lo up

export PATH="/mnt/bin:$PATH:/usr/sbin:/sbin" LOGS=/tmp/logs PYTHONPATH=/mnt/lab PYTHONDONTWRITEBYTECODE=1
mkdir "$LOGS"
cd /run/openvswitch
ovsdb-tool create conf.db /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server conf.db --remote=punix:db.sock --pidfile --detach --log-file="$LOGS/ovsdb.log" 2>/dev/null
ovs-vsctl --no-wait init
ovs-vswitchd --pidfile --detach --log-file="$LOGS/vswitchd.log" 2>/dev/null

if [ "${1:-}" = -- ]; then shift; "$@"; else /usr/bin/python3 /mnt/lab/check.py "$@"; fi
