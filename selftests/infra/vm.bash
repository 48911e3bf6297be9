# shellcheck shell=bash disable=SC2034,SC2153 # status is run's, ROOT lib.sh's
# SPDX-License-Identifier: Apache-2.0
#
# Tests of vmtest/vm, most of them in real guests. Sourced by run.

VM=$ROOT/vmtest/vm

fact_is() {
	local value
	value=$(sed -n "s,^$1=,,p" stdout)
	[[ $value == "$2" ]] || fail "$1 is '$value', not '$2'"
}

vm_facts() {
	# shellcheck disable=SC2016,SC1003 # as they are
	local kernel=$1 version name begin arguments=('two words' "it's \"quoted\"" $'new\nline' '' '$(touch x) `id` * \\' -c --)
	version=$("$ROOT/vmtest/kernels" "$kernel" | cut -d ' ' -f 2)
	mkdir 'a directory'
	cd 'a directory' || fail "no directory"
	begin=$(date +%s)
	cp "$HERE/guest-facts" .
	run env -u V -u CI KMTLS_CACHE="$(cache_dir)" TERM=dumb KMTLS_TEST=$'a b\nc' SECRET=x O="$PWD" \
		"$VM" -k "$kernel" -t 120 --strict-dmesg -- ./guest-facts "${arguments[@]}"
	expect_status 37
	fact_is kernel "$version"
	fact_is uid 0
	fact_is cpus 2
	fact_is directory "$PWD"
	fact_is stdin 0
	fact_is arguments "$(printf 'argument=%s.\n' "${arguments[@]}" | base64 -w0)"
	fact_is env_O "$PWD"
	fact_is env_CI unset
	fact_is env_TERM dumb
	fact_is env_SECRET unset
	grep -A 1 -x 'env_KMTLS_TEST=a b' stdout | grep -qx c || fail "KMTLS_TEST is not what it was"
	local now clock
	now=$(date +%s) clock=$(sed -n 's/^clock=//p' stdout)
	((begin - 2 <= clock && clock <= now + 1)) || fail "the guest's clock said $clock, but it was $begin to $now"
	fact_is fs_/ overlayfs
	fact_is fs_/tmp tmpfs
	fact_is fs_/run tmpfs
	fact_is fs_/dev/shm tmpfs
	fact_is fs_/sys/fs/bpf bpf_fs
	fact_is fs_/sys/fs/cgroup cgroup2fs
	fact_is fs_/sys/kernel/tracing tracefs
	fact_is fs_/dev/pts devpts
	fact_is controllers "cpu memory pids"
	for name in loopback tls tls_loaded aes_ni veth wireguard bridge dummy netem nftables nat netns bpf_pin cgroup \
		write_usr random open_files open_stdout_again; do
		fact_is "$name" yes
	done
	[[ ! -e /usr/guest-was-here ]] || fail "the guest wrote to the host's /usr"
	[[ $(<stderr) == "this goes to stderr" ]] || fail "stderr has: $(<stderr)"
}

vm_panic() {
	run "$VM" -k "$1" -t 120 -- sh -c 'echo before; echo c >/proc/sysrq-trigger; echo after'
	expect_status 125
	expect_in stdout before
	expect_not_in stdout after
	expect_in stderr "Kernel panic - not syncing"
	expect_in stderr "the guest died before it told the command's exit status"
}

vm_reboot() {
	run "$VM" -t 120 -- sh -c 'echo b >/proc/sysrq-trigger; sleep 100'
	expect_status 125
	expect_in stderr "the guest died before it told the command's exit status"
}

vm_timeout() {
	local begin=$SECONDS
	run "$VM" -t 30 -- sh -c 'echo begun; sleep 1000'
	expect_status 124
	expect_in stdout begun
	expect_in stderr "time is up: the guest was killed after 30 s"
	((SECONDS - begin < 45)) || fail "it took $((SECONDS - begin)) s"
}

vm_never_boots() {
	run env KMTLS_BOOT_SECONDS=1 "$VM" -t 120 -- true
	expect_status 125
	expect_in stderr "did not start the command within 1 s"
}

vm_no_image() {
	head -c 65536 /dev/zero >image
	run "$VM" -k "$PWD/image" -- true
	expect_status 2
	expect_in stderr "is no bootable kernel image"
}

vm_image_by_path() {
	local image
	image=$("$ROOT/vmtest/kernels" 6.1)
	run "$VM" -k "${image#* * }" -t 120 -- uname -r
	expect_status 0
	expect_in stdout 6.1.
}

# --out is written by the guest under the host's path; what lies beside it is not.
vm_out() {
	mkdir 'out, dir'
	echo host >'out, dir/from-host'
	run "$VM" -t 120 --out 'out, dir' -- sh -c \
		'cp "out, dir/from-host" "out, dir/from-guest" && head -c 3000000 /dev/zero >"out, dir/big" && echo x >beside'
	expect_status 0
	[[ $(<'out, dir/from-guest') == host ]] || fail "from-guest holds: $(<'out, dir/from-guest')"
	[[ $(stat -c %s 'out, dir/big') == 3000000 ]] || fail "big has not all its bytes"
	[[ ! -e beside ]] || fail "the guest wrote outside of --out"
}

# Much output arrives whole; stdout and stderr keep their order if they are one file.
vm_output() {
	local status=0
	# shellcheck disable=SC2016 # for the guest
	"$VM" -t 90 -- bash -c 'seq 1 200000; for i in 1 2 3; do echo out $i; echo err $i >&2; done' >both 2>&1 || status=$?
	((status == 0)) || fail "exit status $status: $(tail -n 5 both)"
	{
		seq 1 200000
		printf '%s\n' 'out 1' 'err 1' 'out 2' 'err 2' 'out 3' 'err 3'
	} | cmp - both || fail "the output is not what was printed"
}

vm_output_closed() {
	local lines
	lines=$("$VM" -t 120 -- seq 1 100000 2>stderr | head -n 1)
	[[ $lines == 1 ]] || fail "got '$lines'; stderr: $(<stderr)"
}

# qemu_of DIR: QEMU processes whose run directory is below DIR.
qemu_of() {
	pgrep -f "qemu-system-x86_64.*$1/kmtls-vm" || true
}

# vm_ended SIGNAL STATUS: a signal ends the guest and leaves nothing behind.
vm_ended() {
	local pid tries=0
	mkdir tmp
	status=0
	env --default-signal=INT TMPDIR="$PWD/tmp" "$VM" -t 120 -- sh -c 'echo begun; sleep 1000' >stdout 2>stderr &
	pid=$!
	until grep -q begun stdout; do
		((tries++ < 900)) || fail "the guest did not begin: $(<stderr)"
		sleep 0.1
	done
	[[ $(qemu_of "$PWD/tmp") ]] || fail "no QEMU to be seen"
	kill "-$1" "$pid"
	wait "$pid" || status=$?
	expect_status "$2"
	sleep 0.5
	[[ ! $(qemu_of "$PWD/tmp") ]] || fail "QEMU still runs"
	[[ $1 == KILL || ! $(ls tmp) ]] || fail "left behind: $(ls tmp)"
}

vm_two_at_once() {
	local pids=() kernel
	for kernel in 6.12 7.2; do
		"$VM" -k "$kernel" -c 1 -t 120 -- uname -r >"$kernel.out" 2>"$kernel.err" &
		pids+=($!)
	done
	wait "${pids[0]}" || fail "6.12: $(<6.12.err)"
	wait "${pids[1]}" || fail "7.2: $(<7.2.err)"
	expect_in 6.12.out 6.12.
	expect_in 7.2.out 7.2.
}

vm_icount() {
	run "$VM" --icount -t 120 -- nproc
	expect_status 0
	[[ $(<stdout) == 1 ]] || fail "$(<stdout) CPUs"
	run "$VM" --icount --accel kvm -- true
	expect_status 2
	expect_in stderr "--icount needs TCG"
}

# Which accelerator a run takes is told without a guest, and without a command.
vm_which() {
	run "$VM" --which --accel tcg
	expect_status 0
	[[ $(<stdout) == tcg ]] || fail "says '$(<stdout)'"
	run "$VM" --which --icount
	expect_status 0
	[[ $(<stdout) == tcg ]] || fail "says '$(<stdout)' with --icount"
}

# The backtrace that sysrq l prints stands for a warning.
vm_complaint() {
	run "$VM" -t 120 -- sh -c 'echo l >/proc/sysrq-trigger; exit 3'
	expect_status 3
	expect_in stderr "the guest's kernel (6.12."
	expect_in stderr "Call Trace:"
	run env KMTLS_STRICT_DMESG=1 "$VM" -t 120 -- sh -c 'echo l >/proc/sysrq-trigger; exit 3'
	expect_status 125
	expect_in stderr "--strict-dmesg"
}

vm_command_missing() {
	run "$VM" -t 120 -- /nowhere/at-all
	expect_status 127
	expect_in stderr "/nowhere/at-all"
}

# wrong_usage TEXT ARGUMENT...: exit status 2 and a message with TEXT.
wrong_usage() {
	local text=$1
	shift
	run "$VM" "$@"
	expect_status 2
	expect_in stderr "$text"
}

# vm_bad_qemu SCRIPT TEXT: a QEMU that behaves like the script.
vm_bad_qemu() {
	printf '#!/bin/sh\n%s\n' "$1" >qemu
	chmod +x qemu
	run env KMTLS_QEMU="$PWD/qemu" "$VM" --accel tcg -- true
	expect_status 125
	expect_in stderr "$2"
}

vm_no_qemu() {
	run env KMTLS_QEMU=no-such-qemu "$VM" -- true
	expect_status 125
	expect_in stderr "no-such-qemu is missing: run scripts/setup --test"
}

check "vm: no command" wrong_usage "no command given" -k 6.12
check "vm: unknown option" wrong_usage "unknown option --nonsense" --nonsense -- true
check "vm: option without its value" wrong_usage "option -t needs a value" -t
check "vm: a time that is no number" wrong_usage "'soon' is no positive number" -t soon -- true
check "vm: no CPUs" wrong_usage "'0' is no positive number" -c 0 -- true
check "vm: unknown kernel" wrong_usage "'5.10' is none of" -k 5.10 -- true
check "vm: unknown accelerator" wrong_usage "'xen' is none of" --accel xen -- true
check "vm: --out that is not there" wrong_usage "is no directory" --out /nowhere -- true
check "vm: an image that is none" vm_no_image
check "vm: no QEMU" vm_no_qemu
check "vm: a QEMU that is too old" vm_bad_qemu 'echo QEMU emulator version 5.2.0' "run scripts/setup --test"
# shellcheck disable=SC2016 # for the stand-in
check "vm: a QEMU that fails" vm_bad_qemu \
	'[ "$1" = --version ] && echo version 10.0 || { echo no way >&2; exit 1; }' "qemu: no way"
for kernel in 6.1 6.12 7.2; do
	check "vm: what a guest has, kernel $kernel" vm_facts "$kernel"
	check "vm: a panic, kernel $kernel" vm_panic "$kernel"
done
check "vm: a kernel by its path" vm_image_by_path
check "vm: a reset" vm_reboot
check "vm: time is up" vm_timeout
check "vm: a guest that never boots" vm_never_boots
check "vm: a command that is not there" vm_command_missing
check "vm: --out" vm_out
check "vm: much output, in order" vm_output
check "vm: a reader that goes away" vm_output_closed
check "vm: interrupted (INT)" vm_ended INT 130
check "vm: interrupted (TERM)" vm_ended TERM 143
check "vm: killed" vm_ended KILL 137
check "vm: two guests at once" vm_two_at_once
check "vm: --icount" vm_icount
check "vm: --which" vm_which
check "vm: complaints of the kernel" vm_complaint
