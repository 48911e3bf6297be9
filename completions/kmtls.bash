# SPDX-License-Identifier: Apache-2.0
# bash completion for kmtls(8). Names of pods and prefixes of peers come from the daemon, if it
# answers.

_kmtls_list()
{
	local field=$1 verb=$2 action=${3:-list}

	kmtls --json "$verb" "$action" 2>/dev/null | sed -n "s/^ *\"$field\": \"\(.*\)\",*\$/\1/p"
}

# Names of counters that are not zero: what there are events of.
_kmtls_reasons()
{
	kmtls --json status 2>/dev/null | sed -n '/"counters": {/,/}/s/^ *"\([a-z-]*\)": [0-9].*/\1/p'
}

# The words after global options, without options: verb, action, operand.
_kmtls_words()
{
	local i

	words_=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--socket | --program | --netns | --cgroup | --id | --port | --connect | --accel | --namespace | --trust-domain | --bpf-dir | --pod | --peer | --state | --flow | -f | --reason | --interval | -n | --backend)
			((i++))
			;;
		-*) ;;
		*) words_+=("${COMP_WORDS[i]}") ;;
		esac
	done
}

_kmtls()
{
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local -a words_
	local choices=""

	COMPREPLY=()
	case $previous in
	--netns | --socket | --program | -f)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		return
		;;
	--cgroup | --bpf-dir)
		mapfile -t COMPREPLY < <(compgen -d -- "$current")
		return
		;;
	--id | --port | --peer | --flow | --namespace | --trust-domain | --interval | -n | --backend)
		return
		;;
	--pod)
		mapfile -t COMPREPLY < <(compgen -W "$(_kmtls_list name pod)" -- "$current")
		return
		;;
	--state)
		mapfile -t COMPREPLY < <(compgen -W "handshake confirmed established closing" -- "$current")
		return
		;;
	--reason)
		mapfile -t COMPREPLY < <(compgen -W "$(_kmtls_reasons)" -- "$current")
		return
		;;
	--connect)
		mapfile -t COMPREPLY < <(compgen -W "held at-once" -- "$current")
		return
		;;
	--accel)
		mapfile -t COMPREPLY < <(compgen -W "off on auto" -- "$current")
		return
		;;
	esac
	_kmtls_words
	case "${words_[*]:0:2}" in
	"") choices="pod peer authz policy apply explain flows top monitor udp status check identity metrics settings dump upgrade log hash --socket --json --version --help" ;;
	pod) choices="add del list --help" ;;
	peer) choices="add del load list --help" ;;
	authz) choices="add del list default test --help" ;;
	"authz add")
		case ${#words_[@]} in
		2) choices="allow deny dry-run --json --help" ;;
		*) choices="any namespace: trust-domain: spiffe:// --port --json --help" ;;
		esac
		;;
	"authz del") choices="any namespace: trust-domain: spiffe:// --port --json --help" ;;
	"authz default") choices="allow deny --json --help" ;;
	policy) choices="show set unset dry-run --help" ;;
	"policy show") choices="$(_kmtls_list name pod) --port --json --help" ;;
	"policy set" | "policy dry-run")
		case ${#words_[@]} in
		2) choices="off permissive strict" ;;
		*) choices="--namespace --pod --port --inbound --outbound" ;;
		esac
		[[ ${words_[1]} == set ]] && choices+=" --now"
		choices+=" --json --help"
		;;
	"policy unset") choices="--namespace --pod --port --inbound --outbound --now --json --help" ;;
	"pod add") choices="--netns --cgroup --id --connect --accel --json --help" ;;
	"peer add") choices="--id --namespace --trust-domain --bypass --port --json --help" ;;
	"peer load")
		choices="--replace --dry-run --diff --bpf-dir --json --help"
		[[ $current == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$current")
		[[ $current == -* ]] || return
		;;
	"pod del") choices="$(_kmtls_list name pod) --json --help" ;;
	"peer del") choices="$(_kmtls_list prefix peer) --json --help" ;;
	flows) choices="--pod --peer --id --port --state -w --watch --interval --json --help" ;;
	top) choices="--pod -n --once --interval --json --help" ;;
	monitor) choices="--pod --reason --json --help" ;;
	check) choices="--bpf-dir --json --help" ;;
	identity) choices="renew ca --json --help" ;;
	"identity renew") choices="$(_kmtls_list name pod) --json --help" ;;
	"identity ca")
		choices="--backend --key --json --help"
		[[ ${#words_[@]} == 2 ]] && choices="show $choices"
		;;
	metrics) choices="--json --help" ;;
	settings) choices="get set --help" ;;
	"settings get" | "settings set")
		choices="--json --help"
		[[ ${#words_[@]} == 2 ]] && choices="$(_kmtls_list name settings get) $choices"
		;;
	dump)
		choices="--json --help"
		[[ $current == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$current")
		[[ $current == -* ]] || return
		;;
	apply*) choices="-f --diff --dry-run --prune --bpf-dir --json --help" ;;
	explain*)
		choices="--udp --flow --json --help"
		case ${#words_[@]} in
		1 | 2) choices="$(_kmtls_list name pod) $choices" ;;
		esac
		;;
	udp) choices="--pod --peer -w --watch --interval --json --help" ;;
	log) choices="error warning info debug --json --help" ;;
	upgrade) choices="--program --json --help" ;;
	hash*) choices="--json --help" ;;
	*) choices="--json --help" ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
}

complete -F _kmtls kmtls
