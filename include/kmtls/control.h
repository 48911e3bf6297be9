/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - the control protocol between kmtls and kmtlsd: JSON lines on a Unix stream
 * socket (0600, peer must be root or the daemon's user). One request, one answer, in order;
 * a client may send further requests on the same connection.
 *
 *   -> {"version":1,"verb":"pod-add","arguments":{...}}
 *   <- {"version":1,"ok":true,"result":{...}}
 *   <- {"version":1,"ok":false,"error":{"errno":"EEXIST","message":"pod a: exists already"}}
 *
 * A line is at most KMTLS_CONTROL_LINE_MAX bytes towards the daemon; unknown verbs, unknown
 * or missing arguments and wrong types are refused by name and change nothing.
 *
 * verbs and arguments:
 *   pod-add    name, netns (path), cgroup (path), id (SPIFFE ID),
 *              optional connect ("held": connect() waits for the peer; "at-once"), accel ("off",
 *              "on", "auto"; without it, as the configuration says)
 *   pod-del    name
 *   pod-list
 *   peer-add   prefix, and one of: id (SPIFFE ID); trust_domain with or without namespace (any
 *              SPIFFE ID of it); bypass:true with ports:[..] (may be empty)
 *   peer-del   prefix
 *   peer-list
 *   authz-add  action (allow, deny, dry-run), source, destination (subject.h), optional port
 *   authz-del  source, destination, optional port
 *   authz-list
 *   authz-default  optional action (allow, deny): sets it; without, shows it
 *   authz-test source, destination (SPIFFE IDs), port
 *   explain    source, destination (a pod's name, or an address), optional port, udp (boolean);
 *              or flow (SLOT.GENERATION) alone
 *   flows      optional pod (name), peer (prefix), id, port, state
 *   top        optional pod (name)
 *   check
 *   monitor    optional pod (name), reason; after the answer, a JSON object on a line for each event,
 *              without end; further requests on that connection are not read
 *   identity-show
 *   identity-renew  optional pod (name)
 *   identity-ca  optional backend (name): its certificate, and where the key is
 *   settings-get  optional name
 *   settings-set  name, value
 *   udp        optional pod (name), peer (prefix)
 *   status
 *   log        level
 */
#ifndef KMTLS_CONTROL_H
#define KMTLS_CONTROL_H

#define KMTLS_CONTROL_VERSION 1
#define KMTLS_CONTROL_LINE_MAX 65536
#define KMTLS_CONTROL_SOCKET "/run/kmtls/control.sock"

#endif
