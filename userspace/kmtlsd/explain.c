/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain.c - see explain.h. The stages of a connection, in the order in which it meets them:
 * connect() in the pod it comes from, the identities of both ends, the SYN at the pod it goes to,
 * authorization there. A stage that another node decides is said to be so.
 */
#include "explain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "explain_parts.h"
#include "json.h"
#include "match.h"
#include "reason.h"

#define ENCRYPTED "encrypted"
#define PLAINTEXT "plaintext"
#define REFUSED "refused"

#define OUTBOUND KMTLS_EXPLAIN_OUTBOUND
#define INBOUND KMTLS_EXPLAIN_INBOUND
#define IDENTITY KMTLS_EXPLAIN_IDENTITY
#define AUTHORIZATION KMTLS_EXPLAIN_AUTHORIZATION

#define SEES_REFUSED "ECONNREFUSED"
#define SEES_RESET "connected, then ECONNRESET"

static void step_applies(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
			 enum kmtls_decision_rule rule)
{
	kmtls_explain_step(run, stage, kmtls_explain_rule_name(rule), "applies", "%s",
			   kmtls_explain_rule_text(rule));
}

static void decide_rule(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
			const struct kmtls_decision *decision, const char *result, const char *sees)
{
	kmtls_explain_decide(run, stage, kmtls_explain_rule_name(decision->rule), result,
			     decision->verdict == KMTLS_VERDICT_REFUSE ? decision->reason
								       : KMTLS_REASON_NONE,
			     sees, "%s", kmtls_explain_rule_text(decision->rule));
}

/* What a refused handshake is to the application that connects. */
static const char *seen(const struct kmtls_explain_run *run)
{
	return run->source.here && run->source.pod.value.flags & KMTLS_POD_CONNECT_AT_ONCE
		       ? SEES_RESET
		       : SEES_REFUSED;
}

/* ---- inbound ---- */

/* Does an application listen there, and on which device? */
static void look_at_listener(struct kmtls_explain_run *run, const struct kmtls_endpoint *local,
			     bool listening)
{
	const struct kmtls_explain_view *view = run->view;

	if (!local->port) {
		kmtls_explain_step(run, INBOUND, "listener", "needs-port", "asked without a port");
		return;
	}
	if (!listening) {
		kmtls_explain_step(run, INBOUND, "listener", "no",
				   "no application listens on the port");
		return;
	}
	run->listener = view->listener_look(view->context, run->destination.pod.netns, local,
					    run->listener_text);
	kmtls_explain_step(run, INBOUND, "listener", "yes",
			   "an application listens on the port%s%s",
			   run->listener == 1 ? ", bound to "
			   : run->listener    ? ", "
					      : "",
			   run->listener ? run->listener_text : "");
}

/* The daemon cannot give a connection to it. */
static bool cannot_be_reached(struct kmtls_explain_run *run, const char *sees)
{
	if (run->listener != -ENODEV)
		return false;
	kmtls_explain_decide(run, INBOUND, "listener-device", REFUSED, KMTLS_REASON_LISTENER_DEVICE,
			     sees, "the application's listener is %s", run->listener_text);
	return true;
}

/* The SYN at the destination's pod; *ret_facts as far as they were looked up. */
static struct kmtls_decision inbound(struct kmtls_explain_run *run,
				     struct kmtls_inbound_facts *ret_facts)
{
	struct kmtls_explain_party *to = &run->destination, *from = &run->source;
	const struct kmtls_explain_view *view = run->view;
	struct kmtls_endpoint local = { .address = to->address, .port = run->question->port };
	struct kmtls_inbound_facts facts = { .pod_known = to->pod.known };
	struct kmtls_peer_value value = {};
	bool v4 = kmtls_address_is_v4(&to->address);

	facts.listening = !local.port || view->is_listening(view->context, to->pod.netns, &local);
	facts.daemon = view->has_acceptor(view->context, to->pod.netns,
					  v4 ? KMTLS_ACCEPTOR_INBOUND4 : KMTLS_ACCEPTOR_INBOUND6);
	if (facts.pod_known)
		facts.mode = kmtls_explain_mode(run, INBOUND, &to->pod);
	if (facts.pod_known && facts.mode != KMTLS_MODE_OFF) {
		facts.peer = kmtls_explain_peer(run, INBOUND, &from->address, &value);
		look_at_listener(run, &local, facts.listening);
		if (!facts.daemon)
			kmtls_explain_step(run, INBOUND, "daemon", "no",
					   "the daemon's listener is not there");
	}
	if (!*from->id && facts.peer == KMTLS_PEER_MESHED && value.match == KMTLS_MATCH_EXACT &&
	    view->name(view->context, value.identity, from->id) < 0)
		*from->id = '\0';
	*ret_facts = facts;
	return kmtls_decide_inbound(&facts);
}

/* Left to the kernel: it refuses where nobody listens. */
static void passed(struct kmtls_explain_run *run, const struct kmtls_decision *decision,
		   const struct kmtls_inbound_facts *facts)
{
	if (facts->listening)
		decide_rule(run, INBOUND, decision, PLAINTEXT, "");
	else
		kmtls_explain_decide(run, INBOUND, "no-listener", REFUSED, KMTLS_REASON_NONE,
				     SEES_REFUSED,
				     "left alone, and no application listens on the port");
}

/* Plaintext, or what nobody here knows to be anything else, arrives. */
static void arrive_plain(struct kmtls_explain_run *run, const struct kmtls_decision *decision,
			 const struct kmtls_inbound_facts *facts)
{
	switch (decision->verdict) {
	case KMTLS_VERDICT_REFUSE:
		decide_rule(run, INBOUND, decision, REFUSED, SEES_REFUSED);
		break;
	case KMTLS_VERDICT_PASS:
		passed(run, decision, facts);
		break;
	case KMTLS_VERDICT_SNIFF:
		if (!cannot_be_reached(run, SEES_RESET))
			decide_rule(run, INBOUND, decision, PLAINTEXT, "");
		break;
	case KMTLS_VERDICT_TURN:
		kmtls_explain_decide(run, INBOUND, kmtls_explain_rule_name(decision->rule), REFUSED,
				     KMTLS_REASON_NOT_MESH, SEES_RESET,
				     "%s: only mutual TLS of this mesh is taken, and nothing says "
				     "that the source speaks it",
				     kmtls_explain_rule_text(decision->rule));
		break;
	}
}

/* ---- identities, authorization ---- */

/* The server's side of the handshake. false: refused. */
static bool identify(struct kmtls_explain_run *run)
{
	const struct kmtls_explain_party *to = &run->destination;

	if (!to->pod.has_svid) {
		kmtls_explain_decide(run, IDENTITY, "svid", REFUSED, KMTLS_REASON_NO_IDENTITY,
				     seen(run), "%s has no valid SVID", to->pod.name);
		return false;
	}
	kmtls_explain_step(run, IDENTITY, "svid", "yes", "%s is %s", to->pod.name, to->id);
	if (!run->source.here)
		return true;
	if (!kmtls_match_holds(run->promise.match, run->promised, to->id)) {
		kmtls_explain_decide(
			run, IDENTITY, "promise", REFUSED, KMTLS_REASON_WRONG_PEER, seen(run),
			"the peers map promises %s, and the server is another", run->expected);
		return false;
	}
	kmtls_explain_step(run, IDENTITY, "promise", "yes",
			   "the server is whom the peers map promises");
	return true;
}

/* false: refused. */
static bool authorize(struct kmtls_explain_run *run)
{
	const struct kmtls_explain_view *view = run->view;
	struct kmtls_authorization_verdict verdict;
	char why[KMTLS_AUTHORIZATION_WHY];

	if (!*run->source.id) {
		kmtls_explain_step(run, AUTHORIZATION, "authorization", "unknown",
				   "who the source is, is known when it has proved it");
		return true;
	}
	if (!run->question->port)
		kmtls_explain_step(run, AUTHORIZATION, "authorization-port", "needs-port",
				   "rules of a port are left out");
	view->authorize(view->context, run->source.id, run->destination.id, run->question->port,
			&verdict, why);
	if (!verdict.allowed) {
		kmtls_explain_decide(run, AUTHORIZATION, "authorization", REFUSED,
				     KMTLS_REASON_DENIED, seen(run), "%s", why);
		return false;
	}
	kmtls_explain_step(run, AUTHORIZATION, "authorization", "applies", "%s%s", why,
			   verdict.would_deny ? "; a dry-run rule would deny it" : "");
	return true;
}

/* A ClientHello of this mesh arrives at a pod of this node. */
static void arrive_meshed(struct kmtls_explain_run *run, const struct kmtls_decision *decision,
			  const struct kmtls_inbound_facts *facts)
{
	if (decision->verdict == KMTLS_VERDICT_REFUSE) {
		decide_rule(run, INBOUND, decision, REFUSED, seen(run));
	} else if (decision->verdict == KMTLS_VERDICT_PASS && facts->listening) {
		kmtls_explain_decide(run, INBOUND, kmtls_explain_rule_name(decision->rule), REFUSED,
				     KMTLS_REASON_NOT_MESH, seen(run),
				     "%s: an application that does not speak it gets mutual TLS",
				     kmtls_explain_rule_text(decision->rule));
	} else if (decision->verdict == KMTLS_VERDICT_PASS) {
		passed(run, decision, facts);
	} else {
		step_applies(run, INBOUND, decision->rule);
		if (identify(run) && authorize(run) && !cannot_be_reached(run, seen(run)))
			kmtls_explain_decide(run, run->source.here ? OUTBOUND : INBOUND,
					     "mesh-peer", ENCRYPTED, KMTLS_REASON_NONE, "",
					     "mutual TLS, both ends as above");
	}
}

/* ---- outbound ---- */

/* false: there is none that anybody could keep. */
static bool take_promise(struct kmtls_explain_run *run, const struct kmtls_peer_value *value)
{
	const struct kmtls_explain_view *view = run->view;
	const char *rule;

	run->promise = *value;
	if (view->name(view->context, value->identity, run->promised) < 0 ||
	    kmtls_match_check(value->match, run->promised, strlen(run->promised), &rule) < 0)
		return false;
	snprintf(run->expected, sizeof(run->expected), "%s %s", kmtls_match_name(value->match),
		 run->promised);
	return true;
}

/* connect() has been turned to the daemon. */
static void turned(struct kmtls_explain_run *run, const struct kmtls_peer_value *value)
{
	const struct kmtls_explain_party *from = &run->source;
	bool v4 = kmtls_address_is_v4(&run->destination.address);
	struct kmtls_inbound_facts facts;
	struct kmtls_decision decision;

	step_applies(run, OUTBOUND, KMTLS_RULE_MESH_PEER);
	if (!run->view->has_acceptor(run->view->context, from->pod.netns,
				     v4 ? KMTLS_ACCEPTOR_TURNED4 : KMTLS_ACCEPTOR_TURNED6)) {
		kmtls_explain_decide(run, OUTBOUND, "no-daemon", REFUSED, KMTLS_REASON_NO_DAEMON,
				     SEES_REFUSED, "the daemon's listener is not there");
		return;
	}
	if (!take_promise(run, value)) {
		kmtls_explain_decide(run, IDENTITY, "promise", REFUSED, KMTLS_REASON_NO_PROMISE,
				     seen(run),
				     "the names map has no text for the identity, or one "
				     "that is not of its kind");
		return;
	}
	if (!from->pod.has_svid) {
		kmtls_explain_decide(run, IDENTITY, "svid", REFUSED, KMTLS_REASON_NO_IDENTITY,
				     seen(run), "%s has no valid SVID", from->pod.name);
		return;
	}
	kmtls_explain_step(run, IDENTITY, "svid", "yes", "%s is %s", from->pod.name, from->id);
	if (run->destination.here) {
		decision = inbound(run, &facts);
		arrive_meshed(run, &decision, &facts);
		return;
	}
	kmtls_explain_step(run, AUTHORIZATION, "authorization", "elsewhere",
			   "decided by the daemon of the destination's node");
	kmtls_explain_decide(run, OUTBOUND, "mesh-peer", ENCRYPTED, KMTLS_REASON_NONE, "",
			     "mutual TLS, if the server proves to be whom the peers map promises");
}

static void left_alone(struct kmtls_explain_run *run, const struct kmtls_decision *decision)
{
	struct kmtls_inbound_facts facts;
	struct kmtls_decision arrived;

	if (!run->destination.here || decision->rule == KMTLS_RULE_LOOPBACK ||
	    decision->rule == KMTLS_RULE_OWN_ADDRESS) {
		decide_rule(run, OUTBOUND, decision, PLAINTEXT, "");
		return;
	}
	step_applies(run, OUTBOUND, decision->rule);
	arrived = inbound(run, &facts);
	arrive_plain(run, &arrived, &facts);
}

static void outbound(struct kmtls_explain_run *run)
{
	const struct kmtls_explain_party *from = &run->source;
	const struct kmtls_address *to = &run->destination.address;
	struct kmtls_outbound_facts facts = { .pod_known = from->pod.known, .tcp = true };
	struct kmtls_peer_value value = {};
	struct kmtls_decision decision;

	facts.loopback = kmtls_address_is_loopback(to);
	if (!facts.loopback) {
		kmtls_explain_step(run, OUTBOUND, "loopback", "no", "not a loopback address");
		facts.own = run->view->is_own(run->view->context, from->pod.netns, to);
	}
	if (!facts.loopback && facts.pod_known && !facts.own) {
		kmtls_explain_step(run, OUTBOUND, "own-address", "no", "not an address of %s",
				   from->pod.name);
		facts.mode = kmtls_explain_mode(run, OUTBOUND, &from->pod);
		if (facts.mode != KMTLS_MODE_OFF)
			facts.peer = kmtls_explain_peer(run, OUTBOUND, to, &value);
	}
	decision = kmtls_decide_outbound(&facts);
	if (decision.verdict == KMTLS_VERDICT_REFUSE)
		decide_rule(run, OUTBOUND, &decision, REFUSED, "EPERM");
	else if (decision.verdict == KMTLS_VERDICT_TURN)
		turned(run, &value);
	else
		left_alone(run, &decision);
}

/* From outside this node. */
static void arriving(struct kmtls_explain_run *run)
{
	struct kmtls_inbound_facts facts;
	struct kmtls_decision decision = inbound(run, &facts);
	bool meshed = facts.peer == KMTLS_PEER_MESHED || run->question->source_id;

	if (meshed && decision.verdict != KMTLS_VERDICT_PASS)
		arrive_meshed(run, &decision, &facts);
	else
		arrive_plain(run, &decision, &facts);
}

/* ---- the ends ---- */

static int find_party(struct kmtls_explain_run *run, const char *which, const char *written,
		      struct kmtls_explain_party *ret_party, char *ret_why)
{
	const struct kmtls_explain_view *view = run->view;

	if (view->pod_by_name(view->context, written, &ret_party->pod) == 0) {
		ret_party->here = true;
	} else if (kmtls_address_parse(written, &ret_party->address) < 0) {
		snprintf(ret_why, KMTLS_WHY,
			 "%s: %.128s: neither a pod of this node nor an IP address", which,
			 written);
		return -EINVAL;
	} else if (view->pod_by_address(view->context, &ret_party->address, &ret_party->pod) == 0) {
		ret_party->here = true;
	}
	if (ret_party->here)
		strcpy(ret_party->id, ret_party->pod.id);
	return 0;
}

static const struct kmtls_address *primary(const struct kmtls_explain_party *party, bool v4)
{
	return v4 ? &party->pod.value.address4 : &party->pod.value.address6;
}

/* Of a pod that was named: the family of the other end, else IPv4 if both have it. */
static int choose_addresses(struct kmtls_explain_run *run, char *ret_why)
{
	struct kmtls_explain_party *ends[] = { &run->source, &run->destination };
	bool v4 = true;

	for (int i = 0; i < 2; i++) {
		const struct kmtls_address *address = &ends[i]->address;

		if (kmtls_address_is_zero(address))
			address = primary(ends[i], true); /* may be zero, which is not IPv4 */
		v4 = v4 && kmtls_address_is_v4(address);
	}
	for (int i = 0; i < 2; i++) {
		if (kmtls_address_is_zero(&ends[i]->address) && ends[i]->here)
			ends[i]->address = *primary(ends[i], v4);
		if (kmtls_address_is_zero(&ends[i]->address) && ends[i]->here) {
			snprintf(ret_why, KMTLS_WHY, "%.128s has no IPv%d address",
				 ends[i]->pod.name, v4 ? 4 : 6);
			return -EINVAL;
		}
	}
	if (kmtls_address_is_v4(&run->source.address) ==
	    kmtls_address_is_v4(&run->destination.address))
		return 0;
	snprintf(ret_why, KMTLS_WHY,
		 "source and destination: one is an IPv4 address, the other an IPv6 address");
	return -EINVAL;
}

static int find_ends(struct kmtls_explain_run *run, char *ret_why)
{
	int err = find_party(run, "source", run->question->source, &run->source, ret_why);

	if (!err)
		err = find_party(run, "destination", run->question->destination, &run->destination,
				 ret_why);
	if (err)
		return err;
	if (!run->source.here && !run->destination.here) {
		snprintf(ret_why, KMTLS_WHY,
			 "neither %.64s nor %.64s is a pod of this node: nothing of it can be seen "
			 "here",
			 run->question->source, run->question->destination);
		return -EINVAL;
	}
	if (run->question->source_id && !run->source.here)
		snprintf(run->source.id, sizeof(run->source.id), "%s", run->question->source_id);
	return choose_addresses(run, ret_why);
}

static json_t *party_json(const struct kmtls_explain_party *party)
{
	char address[KMTLS_ENDPOINT_TEXT];

	kmtls_address_format(&party->address, address, sizeof(address));
	return json_pack("{s:o, s:s, s:o}", "name",
			 kmtls_json_string(party->here ? party->pod.name : ""), "address", address,
			 "id", kmtls_json_string(party->id));
}

int kmtls_explain(const struct kmtls_explain_view *view,
		  const struct kmtls_explain_question *question, json_t **ret_answer, char *ret_why)
{
	struct kmtls_explain_run run = { .view = view, .question = question };
	int err = find_ends(&run, ret_why);
	json_t *answer;

	if (err)
		return err;
	run.steps = json_array();
	if (question->udp)
		kmtls_explain_decide(&run, run.source.here ? OUTBOUND : INBOUND, "udp", PLAINTEXT,
				     KMTLS_REASON_NONE, "",
				     "UDP is never meshed; it passes and is counted (kmtls udp)");
	else if (run.source.here)
		outbound(&run);
	else
		arriving(&run);
	answer = json_pack("{s:o, s:o, s:i, s:s, s:o, s:s, s:s, s:s, s:s, s:o, s:o}", "source",
			   party_json(&run.source), "destination", party_json(&run.destination),
			   "port", question->port, "protocol", question->udp ? "udp" : "tcp",
			   "steps", run.steps, "result", run.result, "decided_by", run.decided_by,
			   "reason", run.reason ? kmtls_reason_name(run.reason) : "", "sees",
			   run.sees, "expected", kmtls_json_string(run.expected), "text",
			   kmtls_json_string(run.text));
	if (!answer)
		return -ENOMEM;
	*ret_answer = answer;
	return 0;
}
