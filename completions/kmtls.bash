# SPDX-License-Identifier: Apache-2.0
# bash completion for kmtls(8). Names of pods and prefixes of peers come from the daemon, if it
# answers.

_kmtls_list()
{
	local field=$1 verb=$2

	kmtls --json "$verb" list 2>/dev/null | sed -n "s/^ *\"$field\": \"\(.*\)\",*\$/\1/p"
}

# The words after global options, without options: verb, action, operand.
_kmtls_words()
{
	local i

	words_=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--socket | --program | --netns | --cgroup | --id | --port | --connect | --namespace | --trust-domain | --bpf-dir | --pod | --peer | --flow | -f)
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
	--id | --port | --peer | --flow | --namespace | --trust-domain)
		return
		;;
	--pod)
		mapfile -t COMPREPLY < <(compgen -W "$(_kmtls_list name pod)" -- "$current")
		return
		;;
	--connect)
		mapfile -t COMPREPLY < <(compgen -W "held at-once" -- "$current")
		return
		;;
	esac
	_kmtls_words
	case "${words_[*]:0:2}" in
	"") choices="pod peer authz apply explain flows udp status upgrade log hash --socket --json --version --help" ;;
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
	"pod add") choices="--netns --cgroup --id --connect --json --help" ;;
	"peer add") choices="--id --namespace --trust-domain --bypass --port --json --help" ;;
	"peer load")
		choices="--replace --dry-run --diff --bpf-dir --json --help"
		[[ $current == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$current")
		[[ $current == -* ]] || return
		;;
	"pod del") choices="$(_kmtls_list name pod) --json --help" ;;
	"peer del") choices="$(_kmtls_list prefix peer) --json --help" ;;
	apply*) choices="-f --diff --dry-run --prune --bpf-dir --json --help" ;;
	explain*)
		choices="--udp --flow --json --help"
		case ${#words_[@]} in
		1 | 2) choices="$(_kmtls_list name pod) $choices" ;;
		esac
		;;
	udp) choices="--pod --peer -w --json --help" ;;
	log) choices="error warning info debug --json --help" ;;
	upgrade) choices="--program --json --help" ;;
	hash*) choices="--json --help" ;;
	*) choices="--json --help" ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
}

complete -F _kmtls kmtls
