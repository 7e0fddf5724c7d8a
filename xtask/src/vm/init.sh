#!/bin/busybox sh
# Process 1 of a test machine: runs the suites that lie in /vm/suites and powers off. The kernel
# has the first serial line to itself; this script and the suites have the second, and what
# xtask/src/vm/console.rs reads of it begins with "@vm ".

export PATH=/usr/local/bin:/bin
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS1 2>&1

say() {
    echo "@vm $*"
}

# Powers off on every way out: a process 1 that ends is a kernel panic.
over() {
    say over
    sync
    # Until the serial line has sent what it holds.
    sleep 1
    poweroff -f
}
trap over EXIT

/bin/busybox mount -t proc proc /proc
# It asks /proc where it lies itself.
/bin/busybox --install -s /bin
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
say up "$(uname -r)"

# A machine whose xtask is gone must end too.
(sleep "$(cat /vm/limit_seconds)" && echo && say overdue && sleep 1 && poweroff -f) &

while read -r module; do
    insmod "/vm/modules/$module.ko" || say broken "module $module was refused"
done </vm/modules/order
ip link set lo up || say broken "no loopback"

# A skipped test is as bad as a failed one: these machines are here for nothing else.
export REQUIRE_KERNEL=1 PORTCULLIS_SKIP_LOG=/tmp/skipped RUST_BACKTRACE=1
: >/tmp/skipped

set --
while read -r argument; do
    set -- "$@" "$argument"
done </vm/arguments

for suite in /vm/suites/*; do
    name=${suite##*/}
    say begin "$name"
    "$suite" --test-threads=1 --color=never "$@"
    status=$?
    # One that died may have left a line unfinished.
    echo
    say end "$name" "$status"
done

while read -r skip; do
    say skipped "$skip"
done </tmp/skipped
