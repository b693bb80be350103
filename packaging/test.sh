#!/bin/bash
# Installs the package in a Debian of its own, with its own systemd, and looks whether it does what packages do.
# Needs root, debootstrap and systemd-nspawn; Debian's packages are fetched. `make deb-test`
set -euo pipefail

package=$1
for tool in debootstrap systemd-nspawn; do
    command -v "$tool" >/dev/null || { echo "NOT TESTED: the package: $tool is not installed"; exit 0; }
done
root=$(mktemp -d)
# Its users have to get into their own root.
chmod 755 "$root"
trap 'rm -rf --one-file-system "$root"' EXIT

echo "a Debian in $root"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,adduser,init-system-helpers bookworm "$root" >"$root.log" ||
    { tail -5 "$root.log"; exit 1; }
rm "$root.log"
# Everything of the test is in one folder there.
mkdir "$root/try"
install -m 644 "$package" "$root/try/bulkhead.deb"

cat >"$root/try/inside" <<'END'
#!/bin/bash
# What failed last is the last line of the log.
exec >/try/log 2>&1
trap 'systemctl poweroff' EXIT
set -eux
dpkg -i /try/bulkhead.deb
systemctl is-active bulkheadd
[ "$(systemctl is-enabled bulkhead-vtep)" = disabled ] || false
bulkhead status
echo 'kind: Network
metadata: {name: prod}
spec: {vni: 7, subnets: [10.0.0.0/8]}' | bulkhead apply -f -
systemctl restart bulkheadd
bulkhead get network prod
systemctl kill --signal KILL bulkheadd
timeout 30 bash -c 'until bulkhead get network prod; do sleep 0.2; done'
dpkg -i /try/bulkhead.deb
bulkhead get network prod
bulkhead support-bundle /try/bundle.tar.gz
tar tzf /try/bundle.tar.gz | grep bulkheadd.log
dpkg -r bulkhead
! systemctl is-active bulkheadd
[ -e /var/lib/bulkhead/bulkhead.redb ]
dpkg -P bulkhead
[ ! -e /var/lib/bulkhead ]
touch /try/passed
END
chmod 755 "$root/try/inside"
cat >"$root/etc/systemd/system/inside.service" <<'END'
[Unit]
After=multi-user.target
[Service]
ExecStart=/try/inside
END
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../inside.service "$root/etc/systemd/system/multi-user.target.wants/inside.service"

timeout 180 systemd-nspawn --quiet --directory "$root" --boot --private-network --register=no --keep-unit >/dev/null 2>&1 || true
[ -e "$root/try/passed" ] || { tail -30 "$root/try/log"; echo "the package does not do what it should"; exit 1; }
echo "installed, started, restarted, killed, upgraded, removed and purged"
