/* SPDX-License-Identifier: Apache-2.0 */
/* pod_svid.c - see pod_svid.h. */
#include "pod_svid.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "daemon.h"
#include "identity.h"
#include "log.h"
#include "pod.h"
#include "pods.h"
#include "pods_table.h"
#include "rotation.h"
#include "settings.h"
#include "shared.h"
#include "svid_store.h"

static __u32 random_number(void)
{
	__u32 number = 0;

	/* Without it all pods are renewed at the same time, which is no reason to fail. */
	if (RAND_bytes((unsigned char *)&number, sizeof(number)) != 1)
		ERR_clear_error();
	return number;
}

struct kmtls_svid *kmtls_pod_svid(struct kmtls_pod *pod)
{
	struct kmtls_svid *svid;

	pthread_mutex_lock(&pod->svid_lock);
	svid = pod->svid;
	if (svid && svid->not_after > kmtls_clock_now())
		kmtls_svid_get(svid);
	else
		svid = NULL;
	pthread_mutex_unlock(&pod->svid_lock);
	return svid;
}

static bool is_same(const struct kmtls_svid *a, const struct kmtls_svid *b)
{
	return a && b &&
	       X509_cmp(SSL_CTX_get0_certificate(a->client), SSL_CTX_get0_certificate(b->client)) ==
		       0;
}

time_t kmtls_pod_svid_issued(struct kmtls_pod *pod)
{
	time_t issued;

	pthread_mutex_lock(&pod->svid_lock);
	issued = pod->rotation.issued;
	pthread_mutex_unlock(&pod->svid_lock);
	return issued;
}

/* Takes the reference over. */
static void use_svid(struct kmtls_pods *pods, struct kmtls_pod *pod, struct kmtls_svid *svid,
		     time_t issued)
{
	unsigned percent = kmtls_setting_get(pods->daemon, KMTLS_SETTING_RENEW_AT);
	struct kmtls_svid *old;

	pthread_mutex_lock(&pod->svid_lock);
	pod->rotation.issued = issued;
	pod->rotation.due = kmtls_rotation_due(issued, svid->not_after, percent, random_number());
	pod->rotation.warned = pod->rotation.warned && is_same(pod->svid, svid);
	old = pod->svid;
	pod->svid = svid;
	pthread_mutex_unlock(&pod->svid_lock);
	kmtls_svid_put(old);
}

/* Before the SVID is used: a pod's first one is no rotation, nor is the same again, which a source
 * that is given SVIDs has until there is another. The time since when the pod has it. */
static time_t count_success(struct kmtls_pod *pod, const struct kmtls_svid *svid)
{
	time_t issued = time(NULL);

	pthread_mutex_lock(&pod->svid_lock);
	pod->rotation.in_a_row = 0;
	pod->rotation.last_error[0] = '\0';
	if (pod->rotation.issued && is_same(pod->svid, svid))
		issued = pod->rotation.issued;
	else
		pod->rotation.rotations += pod->rotation.issued != 0;
	pthread_mutex_unlock(&pod->svid_lock);
	return issued;
}

static void count_failure(struct kmtls_pods *pods, struct kmtls_pod *pod, const char *why)
{
	struct kmtls_pod_rotation *rotation = &pod->rotation;

	pthread_mutex_lock(&pod->svid_lock);
	rotation->failures++;
	rotation->in_a_row++;
	/* Otherwise it is not the clock that tries again. */
	if (!kmtls_identities_given(pods->daemon->identities))
		rotation->due =
			time(NULL) + kmtls_rotation_retry(rotation->in_a_row, random_number());
	snprintf(rotation->last_error, sizeof(rotation->last_error), "%s", why);
	pthread_mutex_unlock(&pod->svid_lock);
	kmtls_shared_pod_rotation(pods->daemon->shared, pod);
}

static struct kmtls_identity_subject subject_of(const struct kmtls_pod *pod)
{
	return (struct kmtls_identity_subject){ .id = pod->id, .pod = pod->name };
}

/* Whoever gave the SVID has taken it back. One that has expired stays, to be seen. */
static void drop_svid(struct kmtls_pods *pods, struct kmtls_pod *pod)
{
	struct kmtls_svid *old = NULL;

	pthread_mutex_lock(&pod->svid_lock);
	if (pod->svid && pod->svid->not_after > kmtls_clock_now()) {
		old = pod->svid;
		pod->svid = NULL;
		pod->rotation.issued = 0;
	}
	pthread_mutex_unlock(&pod->svid_lock);
	if (!old)
		return;
	kmtls_svid_store_delete(pods->daemon->secrets, pod->id);
	log_warning("svid taken back", "pod=%s id=%s", kmtls_log_quote(pod->name),
		    kmtls_log_quote(pod->id));
	kmtls_svid_put(old);
}

/* Asks the source: a fresh SVID, or the time of the next try. */
static int renew(struct kmtls_pods *pods, struct kmtls_pod *pod, char *ret_why)
{
	const struct kmtls_identity_subject subject = subject_of(pod);
	struct kmtls_daemon *daemon = pods->daemon;
	/* Before: what comes meanwhile is asked for again. */
	unsigned version = kmtls_identities_version(daemon->identities, &subject);
	struct kmtls_svid *svid;
	time_t issued;
	int err;

	err = kmtls_identities_issue(daemon->identities, &subject, &svid, ret_why);
	if (err != -ENOMEM)
		__atomic_store_n(&pod->rotation.version, version, __ATOMIC_RELAXED);
	if (err == -EKEYREVOKED)
		drop_svid(pods, pod);
	if (err) {
		count_failure(pods, pod, ret_why);
		return err;
	}
	err = kmtls_svid_store_put(daemon->secrets, svid);
	if (err)
		log_warning("svid not kept for the next worker", "pod=%s err=%s",
			    kmtls_log_quote(pod->name), kmtls_log_quote(strerror(-err)));
	issued = count_success(pod, svid);
	use_svid(pods, pod, svid, issued);
	kmtls_shared_pod_rotation(daemon->shared, pod);
	return 0;
}

/* What is not there may come, also an hour later: a pod that waits is enrolled, and refused. */
static int wait_for_first(struct kmtls_pods *pods, struct kmtls_pod *pod, int err, const char *why)
{
	if (!err || !kmtls_identities_given(pods->daemon->identities))
		return err;
	log_warning("no svid yet", "pod=%s id=%s err=%s", kmtls_log_quote(pod->name),
		    kmtls_log_quote(pod->id), kmtls_log_quote(why));
	return 0;
}

int kmtls_pod_svid_first(struct kmtls_pods *pods, struct kmtls_pod *pod, char *ret_why)
{
	struct kmtls_daemon *daemon = pods->daemon;
	struct kmtls_svid *svid;
	time_t issued;

	if (!kmtls_identities_enabled(daemon->identities)) {
		kmtls_svid_store_delete(daemon->secrets, pod->id); /* of a configuration before */
		return 0;
	}
	/* A new keeper may have a new configuration: its source is asked first. */
	if ((!daemon->inherited || daemon->gated) && renew(pods, pod, ret_why) == 0)
		return 0;
	if (kmtls_svid_store_get(daemon->secrets, pod->id, &svid) < 0)
		return wait_for_first(pods, pod,
				      daemon->gated ? -ENOENT : renew(pods, pod, ret_why), ret_why);
	/* Should it be time for a new one, or over: the next tick asks for it. */
	issued = pod->rotation.issued ? pod->rotation.issued : svid->not_before;
	if (daemon->gated) {
		/* The source has failed: what was there goes on, until it has something again. */
		kmtls_svid_put(pod->svid);
		pod->svid = svid;
		pod->rotation.issued = issued;
		return 0;
	}
	use_svid(pods, pod, svid, issued);
	return 0;
}

static bool is_due(struct kmtls_pod *pod)
{
	bool due;

	pthread_mutex_lock(&pod->svid_lock);
	due = pod->rotation.due <= time(NULL);
	pthread_mutex_unlock(&pod->svid_lock);
	return due;
}

static int renew_and_tell(struct kmtls_pods *pods, struct kmtls_pod *pod, char *ret_why)
{
	int err;

	/* A key of 4096 bits takes its time, and there may be a thousand pods. */
	atomic_fetch_add(&pods->daemon->shared->heartbeat, 1);
	pthread_mutex_lock(&pods->renewal);
	err = renew(pods, pod, ret_why);
	pthread_mutex_unlock(&pods->renewal);
	if (err)
		log_error("svid not renewed", "pod=%s id=%s err=%s", kmtls_log_quote(pod->name),
			  kmtls_log_quote(pod->id), kmtls_log_quote(ret_why));
	else
		log_info("svid renewed", "pod=%s id=%s", kmtls_log_quote(pod->name),
			 kmtls_log_quote(pod->id));
	return err;
}

/* Whoever gives SVIDs has had its time. */
static void warn_once(struct kmtls_pod *pod)
{
	bool warn;

	pthread_mutex_lock(&pod->svid_lock);
	warn = pod->svid && !pod->rotation.warned;
	pod->rotation.warned = pod->rotation.warned || warn;
	pthread_mutex_unlock(&pod->svid_lock);
	if (warn)
		log_warning("svid has no successor yet", "pod=%s id=%s", kmtls_log_quote(pod->name),
			    kmtls_log_quote(pod->id));
}

void kmtls_pod_svid_tick(struct kmtls_pods *pods, struct kmtls_pod *pod)
{
	char why[KMTLS_WHY];

	if (!kmtls_identities_enabled(pods->daemon->identities) || !is_due(pod))
		return;
	if (kmtls_identities_given(pods->daemon->identities))
		warn_once(pod);
	else
		renew_and_tell(pods, pod, why);
}

void kmtls_pod_svid_look(struct kmtls_pods *pods, struct kmtls_pod *pod)
{
	const struct kmtls_identity_subject subject = subject_of(pod);
	struct kmtls_identities *identities = pods->daemon->identities;
	char why[KMTLS_WHY];

	if (kmtls_identities_enabled(identities) &&
	    kmtls_identities_version(identities, &subject) !=
		    __atomic_load_n(&pod->rotation.version, __ATOMIC_RELAXED))
		renew_and_tell(pods, pod, why);
}

/* ---- by hand ---- */

struct renewal {
	struct kmtls_pods *pods;
	const char *name; /* NULL: all */
	unsigned count, renewed;
	int err; /* the first one */
	char why[KMTLS_WHY];
};

static int renew_one(void *context, struct kmtls_pod *pod)
{
	struct renewal *renewal = context;
	char why[KMTLS_WHY];
	int err;

	if (renewal->name && strcmp(renewal->name, pod->name) != 0)
		return 0;
	renewal->count++;
	err = renew_and_tell(renewal->pods, pod, why);
	renewal->renewed += !err;
	if (!err || renewal->err)
		return 0;
	renewal->err = err;
	snprintf(renewal->why, sizeof(renewal->why), "%s", why);
	return 0;
}

int kmtls_pod_svid_renew(struct kmtls_pods *pods, const char *name, unsigned *ret_count,
			 char *ret_why)
{
	struct renewal renewal = { .pods = pods, .name = name };

	kmtls_pods_each(pods, renew_one, &renewal);
	if (name && !renewal.count) {
		snprintf(ret_why, KMTLS_WHY, "pod %.150s: is not enrolled", name);
		return -ENOENT;
	}
	if (renewal.err)
		snprintf(ret_why, KMTLS_WHY, "%s", renewal.why);
	*ret_count = renewal.renewed;
	return renewal.err;
}

/* ---- listing ---- */

static void put_serial(const X509 *leaf, char *buffer, size_t size)
{
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL);
	char *text = number ? BN_bn2hex(number) : NULL;

	if (text)
		snprintf(buffer, size, "%s", text);
	OPENSSL_free(text);
	BN_free(number);
}

static void put_issuer(const X509 *leaf, char *buffer, size_t size)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int length = 0;

	if (bio && X509_NAME_print_ex(bio, X509_get_issuer_name(leaf), 0, XN_FLAG_RFC2253) >= 0)
		length = BIO_read(bio, buffer, (int)size - 1);
	buffer[length > 0 ? length : 0] = '\0';
	BIO_free(bio);
}

struct listing {
	struct kmtls_pods *pods;
	void (*visit)(void *context, const struct kmtls_pod_svid_info *info);
	void *context;
	bool quickly;
};

/* Whose signature it is must be tried. */
static void look_into(const struct listing *listing, const struct kmtls_svid *svid,
		      struct kmtls_pod_svid_info *info)
{
	X509 *leaf = SSL_CTX_get0_certificate(svid->client);

	info->source = kmtls_identities_source(listing->pods->daemon->identities, svid);
	put_serial(leaf, info->serial, sizeof(info->serial));
	put_issuer(leaf, info->issuer, sizeof(info->issuer));
	ERR_clear_error();
}

static int list_one(void *context, struct kmtls_pod *pod)
{
	const struct listing *listing = context;
	struct kmtls_pod_svid_info info = {
		.name = pod->name,
		.id = pod->id,
		.netns_cookie = pod->netns_cookie,
		.source = "",
	};
	const struct kmtls_identity_subject subject = subject_of(pod);
	char why[KMTLS_IDENTITY_WHY] = "";
	struct kmtls_svid *svid;

	info.state_code = kmtls_identities_state(listing->pods->daemon->identities, &subject, why);
	info.state = kmtls_identity_state_name(info.state_code);
	info.why = why;
	/* Also one that has expired: that is what is to be seen. */
	pthread_mutex_lock(&pod->svid_lock);
	svid = pod->svid ? kmtls_svid_get(pod->svid) : NULL;
	info.rotation = pod->rotation;
	pthread_mutex_unlock(&pod->svid_lock);
	if (svid) {
		info.not_before = svid->not_before;
		info.not_after = svid->not_after;
	}
	if (svid && !listing->quickly)
		look_into(listing, svid, &info);
	listing->visit(listing->context, &info);
	kmtls_svid_put(svid);
	return 0;
}

void kmtls_pod_svid_visit(struct kmtls_pods *pods,
			  void (*visit)(void *context, const struct kmtls_pod_svid_info *info),
			  void *context)
{
	struct listing listing = { .pods = pods, .visit = visit, .context = context };

	kmtls_pods_each(pods, list_one, &listing);
}

void kmtls_pod_svid_visit_quickly(struct kmtls_pods *pods,
				  void (*visit)(void *context,
						const struct kmtls_pod_svid_info *info),
				  void *context)
{
	struct listing listing = {
		.pods = pods,
		.visit = visit,
		.context = context,
		.quickly = true,
	};

	kmtls_pods_each(pods, list_one, &listing);
}
