# SPDX-License-Identifier: Apache-2.0
"""What functions are for. In the kernel the first group counts whose pattern is found at the beginning of a function's
name, or which has its module; elsewhere the file decides."""
import re

LIBRARIES = {"libssl": "libssl, libcrypto", "libcrypto": "libssl, libcrypto", "kmtlsd": "kmtlsd"}
MODULES = {"tls": "kernel TLS", "aesni_intel": "cryptography", "ghash_clmulni_intel": "cryptography", "bpf": "BPF",
           "veth": "network devices", "bridge": "network devices", "wireguard": "WireGuard"}
PATTERNS = (
    ("BPF", "bpf_|__bpf|__cgroup_bpf|cgroup_bpf|sk_filter|migrate_"),
    ("zeroing of memory", "memset|__memset|clear_page|clear_user|__clear_user"),
    ("copying", "memcpy|__memcpy|memmove|rep_movs|copy_user|_copy_|__copy_user|copy_page|copyout|copyin|skb_copy_bits|__check_object|"
                "check_heap|__virt_addr|check_stack|simple_copy|__skb_datagram_iter|skb_copy_datagram"),
    ("cryptography", "crypto_|aead|skcipher|scatterwalk|gcm|aes|ghash|kernel_fpu|sg_|chacha|poly1305|irq_fpu"),
    ("kernel TLS", "tls_|sk_msg|__sk_msg"),
    ("splice, pipes", ".*splice|.*pipe|iter_to_|sock_spd|vmsplice"),
    ("epoll, poll", "ep_|do_epoll|__x64_sys_epoll|epoll|do_poll|do_sys_poll|__x64_sys_poll|poll_|__pollwait|sock_poll|tcp_poll|"
                    "eventpoll|tcp_stream_memory_free"),
    ("system calls, seccomp", "do_syscall|entry_|syscall_|x64_sys_call|__x64_sys|__sys_|__do_sys|seccomp|__seccomp|__secure_computing|"
                              "populate_seccomp|arch_exit_to|exit_to_user|fdget|__fget|fput|__fdget|fpregs_assert|sockfd_lookup|"
                              "__rseq|rseq|blkcg_maybe|mem_cgroup_handle_over|task_work|rw_verify|fget|__fput"),
    ("memory accounting", "mem_cgroup|.*memcg|try_charge|refill_stock|__refill|consume_stock|obj_cgroup|.*_stock|cgroup_rstat|"
                          "__cgroup_rstat|page_counter|.*objcg|uncharge"),
    ("allocation", "kmem_cache|kmalloc|__kmalloc|kfree|slab|__slab|___slab|alloc_pages|__alloc_pages|free_unref|__free_pages|free_pages|"
                   "get_page_from|__rmqueue|rmqueue|kvfree|kvmalloc|alloc_skb|__alloc_skb|skb_release|kfree_skb|__kfree_skb|"
                   "consume_skb|skb_page_frag|sk_page_frag|page_frag|__page_frag|skb_attempt_defer|build_skb|__build_skb|"
                   "skb_clone$|skb_free|napi_consume|__free_one|put_page|__folio_put|folio|prep_|free_page|free_frozen|__put_page|"
                   "kmalloc_reserve|tcp_stream_alloc|skb_defer|vm_|zone_|policy_|skb_head|alloc_from|put_cpu|get_partial|"
                   "deactivate_|free_to|free_pcppages|__free_slab|shuffle_|setup_object|new_slab|allocate_slab|__unfreeze"),
    ("scheduler", "schedule|__schedule|psi_|update_load|__update_load|update_curr|update_rq|update_cfs|update_min|vruntime|pick_|"
                  "put_prev|set_next|__set_next|enqueue_task|enqueue_entity|__enqueue_entity|dequeue_|__dequeue|try_to_wake|ttwu|"
                  "wakeup_preempt|check_preempt|switch_|__switch|finish_task|place_entity|avg_vruntime|sched_|native_sched|"
                  "record_times|rcu_note|context_switch|cpuacct|__cgroup_account|autoremove|__wake_up|wake_up|default_wake|"
                  "add_wait|remove_wait|prepare_to|finish_wait|resched|__resched|preempt_|save_fpregs|restore_fpregs|update_|"
                  "reweight|attach_|detach_|cpu_|native_load|rb_|__rb_|entity_|hrtick|mm_cid|perf_|__perf|requeue|prev_|propagate|"
                  "select_task|kick_|swake|task_|nohz|tick|__calc_delta|place_|xfd_|enter_lazy|woken|enqueue_|pick|nr_iowait|"
                  "do_idle|cpuidle|idle|default_idle|pv_native|calc_|sum_|rq_|__balance|balance|newidle|load_"),
    ("network devices", "veth|loopback|dev_|__dev|netif|__netif|net_rx|net_tx|napi|__napi|process_backlog|enqueue_to_backlog|"
                        "validate_xmit|skb_network|eth_|qdisc|__qdisc|sch_|pfifo|handle_softirqs|do_softirq|__do_softirq|"
                        "__raise_softirq|raise_softirq|skb_clone_tx|netdev|skb_csum_hwoffload|br_|__skb_flow|xmit"),
    ("TCP/IP", "tcp|__tcp|inet|__inet|ip_|__ip|ipv4|raw_|ipt|nf_|cubic|bictcp|xfrm|__xfrm|dst_|fib_|icmp|secure_tcp|neigh|"
               "__sk_dst|sk_dst|ipv6|ip6|udp|route|rt_"),
    ("time", "ktime|.*timer|read_tsc|clock|hrtimer|__hrtimer|timekeeping|getnst|jiffies|__usecs|__msecs|msecs|usecs|timerqueue"),
    ("sockets, buffers", "sk_|__sk|sock|__sock|skb|__skb|release_sock|lock_sock|import_|iov_iter|iovec|datagram|kernel_send"),
    ("security modules", "security_|apparmor|aa_|tomoyo|selinux|cap_|landlock|bprm|integrity"),
    ("locks, lists, RCU", ".*spin|.*rcu|mutex|__mutex|.*_lock|.*_unlock|__list|__local_bh|local_bh|_raw|down_|up_|call_rcu|list_"),
    ("interrupts, faults", "asm_|irq|__irq|handle_|do_user_addr|exc_|.*fault|common_interrupt|sysvec|error_|apic|lapic|x2apic"),
)
COMPILED = [(group, re.compile(pattern)) for group, pattern in PATTERNS]


def group_of(name, file):
    if file != "kernel":
        for begin, group in LIBRARIES.items():
            if file.startswith(begin):
                return group
        return "applications, libc"
    words = name.split(" ")
    if len(words) > 1:
        return MODULES.get(words[1].strip("[]"), "kernel, other")
    for group, pattern in COMPILED:
        if pattern.match(name):
            return group
    return "kernel, other"
