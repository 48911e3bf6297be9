/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify_error.c - why a handshake failed, as one reason code: our own verdict (verify.c), the
 * peer's alert, or what OpenSSL found wrong. This is where OpenSSL's error queue ends.
 */
#include "verify.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <stdio.h>
#include <string.h>

#define IS_ALERT(reason) ((reason) > SSL_AD_REASON_OFFSET && (reason) <= SSL_AD_REASON_OFFSET + 255)

/* The counterpart of the table at the head of verify.c. */
enum kmtls_reason kmtls_verify_alert_reason(int alert, char *ret_detail)
{
	snprintf(ret_detail, KMTLS_VERIFY_DETAIL, "alert %d (%s)", alert,
		 SSL_alert_desc_string_long(alert));
	switch (alert) {
	case SSL_AD_UNKNOWN_CA:
		return KMTLS_REASON_REFUSED_UNKNOWN_CA;
	case SSL_AD_CERTIFICATE_EXPIRED:
		return KMTLS_REASON_REFUSED_EXPIRED;
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
		return KMTLS_REASON_REFUSED_CERTIFICATE;
	case SSL_AD_ACCESS_DENIED:
		return KMTLS_REASON_REFUSED_DENIED;
	case SSL_AD_UNRECOGNIZED_NAME: /* sent through kernel TLS instead of the ticket */
		return KMTLS_REASON_REFUSED_BY_APPLICATION;
	case SSL_AD_NO_APPLICATION_PROTOCOL:
	case SSL_AD_PROTOCOL_VERSION:
		return KMTLS_REASON_NOT_MESH;
	}
	return KMTLS_REASON_REFUSED_BY_PEER;
}

/* Is the peer's Certificate message what the handshake is at? The client's and the server's. */
static bool is_at_certificate(const SSL *ssl)
{
	OSSL_HANDSHAKE_STATE state = SSL_get_state(ssl);

	return state == TLS_ST_CR_CERT || state == TLS_ST_SR_CERT;
}

/* Before anything is parsed, or while it is. */
static enum kmtls_reason certificate_reason(int reason)
{
	switch (reason) {
	case SSL_R_EXCESSIVE_MESSAGE_SIZE:
		return KMTLS_REASON_CHAIN_TOO_LARGE;
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
	case ERR_R_INTERNAL_ERROR:
	case ERR_R_MALLOC_FAILURE:
		return KMTLS_REASON_NONE; /* not about the message */
	}
	return KMTLS_REASON_SVID_MALFORMED;
}

/* Found by OpenSSL on our side. */
static enum kmtls_reason ssl_reason(const SSL *ssl, int reason)
{
	enum kmtls_reason certificate =
		is_at_certificate(ssl) ? certificate_reason(reason) : KMTLS_REASON_NONE;

	if (certificate)
		return certificate;
	switch (reason) {
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return KMTLS_REASON_HANDSHAKE_RESET;
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return KMTLS_REASON_NO_CERTIFICATE;
	case SSL_R_CALLBACK_FAILED: /* check_client_hello() in tls.c */
	case SSL_R_NO_APPLICATION_PROTOCOL:
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_WRONG_SSL_VERSION:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
		return KMTLS_REASON_NOT_MESH;
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case ERR_R_INTERNAL_ERROR:
		return KMTLS_REASON_HANDSHAKE_FAILED;
	case ERR_R_MALLOC_FAILURE:
		return KMTLS_REASON_NO_RESOURCES;
	}
	/* A cipher is agreed on with the first message of the peer. Before that whatever it
	 * said was not TLS, or not a TLS we know. */
	return SSL_get_current_cipher(ssl) ? KMTLS_REASON_HANDSHAKE_FAILED : KMTLS_REASON_NOT_MESH;
}

/* Empties the queue. The first error of libssl tells most; causes below it come before it. */
static unsigned long drain_queue(void)
{
	unsigned long error, chosen = 0;

	while ((error = ERR_get_error()))
		if (!chosen ||
		    (ERR_GET_LIB(chosen) != ERR_LIB_SSL && ERR_GET_LIB(error) == ERR_LIB_SSL))
			chosen = error;
	return chosen;
}

enum kmtls_reason kmtls_verify_handshake_error(SSL *ssl, const struct kmtls_verify *verify,
					       char *ret_detail)
{
	int saved_errno = errno;
	unsigned long error = drain_queue();
	int reason = ERR_GET_REASON(error);
	const char *text = ERR_reason_error_string(error);

	if (verify && verify->reason) {
		snprintf(ret_detail, KMTLS_VERIFY_DETAIL, "%s", verify->detail);
		return verify->reason;
	}
	if (!error || ERR_SYSTEM_ERROR(error)) {
		/* SSL_ERROR_SYSCALL or SSL_ERROR_ZERO_RETURN: the socket, not the protocol. */
		saved_errno = error ? reason : saved_errno;
		snprintf(ret_detail, KMTLS_VERIFY_DETAIL, "%s",
			 SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN ? "close_notify"
			 : saved_errno && saved_errno != EAGAIN	       ? strerror(saved_errno)
								       : "the connection ended");
		return KMTLS_REASON_HANDSHAKE_RESET;
	}
	if (ERR_GET_LIB(error) == ERR_LIB_SSL && IS_ALERT(reason))
		return kmtls_verify_alert_reason(reason - SSL_AD_REASON_OFFSET, ret_detail);
	snprintf(ret_detail, KMTLS_VERIFY_DETAIL, "%s", text ? text : "unknown OpenSSL error");
	if (ERR_GET_LIB(error) == ERR_LIB_SSL)
		return ssl_reason(ssl, reason);
	return reason == ERR_R_MALLOC_FAILURE ? KMTLS_REASON_NO_RESOURCES
					      : KMTLS_REASON_HANDSHAKE_FAILED;
}
