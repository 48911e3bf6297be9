# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# The network of scripts/testbed: links, addresses and kernel settings. Sourced by it, never run; it
# has NAMESPACES, PODS, NODE, ADDRESS4 and ADDRESS6 by then.

# links: all links, one 'ip' batch. The near end is named after what is at its far end.
links() {
	local name
	echo "link add br0 netns kt-wire type bridge forward_delay 0 mcast_snooping 0"
	for name in n1 n2 x; do
		echo "link add eth0 netns kt-$name type veth peer name $name netns kt-wire"
	done
	for name in "${PODS[@]}"; do
		echo "link add eth0 netns kt-$name type veth peer name pod-$name netns kt-n${NODE[$name]}"
	done
}

# addresses NAMESPACE: what is inside it, as an 'ip' batch.
addresses() {
	local name=$1 pod far
	echo "link set lo up"
	case $name in
	wire)
		echo "link set br0 up"
		printf 'link set %s master br0 up\n' n1 n2 x
		;;
	n1 | n2)
		far=$((3 - ${name#n}))
		echo "addr add ${ADDRESS4[$name]}/24 dev eth0"
		echo "addr add ${ADDRESS6[$name]}/64 dev eth0 nodad"
		echo "link set eth0 up"
		echo "route add 10.89.$far.0/24 via 10.89.0.$far"
		echo "route add fd89:$far::/64 via fd89::$far"
		for pod in "${PODS[@]}"; do
			[[ n${NODE[$pod]} == "$name" ]] || continue
			echo "addr add 169.254.0.1/32 dev pod-$pod"
			echo "addr add fe80::1/64 dev pod-$pod nodad"
			echo "link set pod-$pod up"
			echo "route add ${ADDRESS4[$pod]}/32 dev pod-$pod"
			[[ ! ${ADDRESS6[$pod]:-} ]] || echo "route add ${ADDRESS6[$pod]}/128 dev pod-$pod"
		done
		;;
	x)
		echo "addr add ${ADDRESS4[x]}/24 dev eth0"
		echo "addr add ${ADDRESS6[x]}/64 dev eth0 nodad"
		echo "link set eth0 up"
		printf 'route add 10.89.%s.0/24 via 10.89.0.%s\nroute add fd89:%s::/64 via fd89::%s\n' 1 1 1 1 2 2 2 2
		;;
	*)
		echo "addr add ${ADDRESS4[$name]}/32 dev eth0"
		[[ ! ${ADDRESS6[$name]:-} ]] || echo "addr add ${ADDRESS6[$name]}/128 dev eth0 nodad"
		echo "link set eth0 up"
		echo "route add 169.254.0.1 dev eth0 scope link src ${ADDRESS4[$name]}"
		echo "route add default via 169.254.0.1 dev eth0 src ${ADDRESS4[$name]}"
		[[ ! ${ADDRESS6[$name]:-} ]] || echo "route add default via fe80::1 dev eth0 src ${ADDRESS6[$name]}"
		;;
	esac
}

# Kernel settings of a namespace, before it has any link: no duplicate address detection, so that
# addresses work at once, and neighbours that are not there are noticed soon.
# shellcheck disable=SC2016 # $1 is the inner shell's
settings='cd /proc/sys/net
echo 0 >ipv6/conf/all/accept_dad; echo 0 >ipv6/conf/default/accept_dad
echo 0 >ipv6/conf/default/router_solicitations
case $1 in
n1 | n2) echo 1 >ipv4/ip_forward; echo 1 >ipv6/conf/all/forwarding ;;
d) echo 1 >ipv6/conf/all/disable_ipv6; echo 1 >ipv6/conf/default/disable_ipv6 ;;
esac'

build_network() {
	local name
	for name in "${NAMESPACES[@]}"; do
		ip netns add "kt-$name" || die "cannot make the network namespace kt-$name"
		nsenter --net="/run/netns/kt-$name" bash -euc "$settings" - "$name" ||
			die "cannot set up the network namespace kt-$name"
	done
	ip -batch - <<<"$(links)" || die "cannot make the links"
	for name in "${NAMESPACES[@]}"; do
		ip -n "kt-$name" -batch - <<<"$(addresses "$name")" || die "cannot set up the addresses of kt-$name"
	done
}
