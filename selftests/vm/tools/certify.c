/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certify - SVIDs that no daemon would issue: certify ROOT ID FROM TO OUT writes to OUT a fresh
 * key and a certificate for the SPIFFE ID, valid from FROM to TO seconds from now, signed by the
 * key in ROOT (PEM, certificate and key, as the daemon's root_file).
 */
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static bool add(X509 *leaf, X509 *root, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;
	bool good;

	X509V3_set_ctx(&context, root, leaf, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	good = extension && X509_add_ext(leaf, extension, -1);
	X509_EXTENSION_free(extension);
	return good;
}

static X509 *certify(X509 *root, EVP_PKEY *root_key, EVP_PKEY *key, char **argv)
{
	X509 *leaf = X509_new();
	char uri[2200];

	snprintf(uri, sizeof(uri), "critical,URI:%s", argv[2]);
	if (leaf && X509_set_version(leaf, X509_VERSION_3) &&
	    ASN1_INTEGER_set(X509_get_serialNumber(leaf), 4711) &&
	    X509_set_issuer_name(leaf, X509_get_subject_name(root)) &&
	    X509_gmtime_adj(X509_getm_notBefore(leaf), atol(argv[3])) &&
	    X509_gmtime_adj(X509_getm_notAfter(leaf), atol(argv[4])) &&
	    X509_set_pubkey(leaf, key) && add(leaf, root, NID_subject_alt_name, uri) &&
	    add(leaf, root, NID_key_usage, "critical,digitalSignature") &&
	    add(leaf, root, NID_ext_key_usage, "serverAuth,clientAuth") &&
	    add(leaf, root, NID_basic_constraints, "critical,CA:FALSE") &&
	    add(leaf, root, NID_authority_key_identifier, "keyid") &&
	    X509_sign(leaf, root_key, EVP_sha256()))
		return leaf;
	X509_free(leaf);
	return NULL;
}

int main(int argc, char **argv)
{
	EVP_PKEY *root_key = NULL, *key;
	X509 *root = NULL, *leaf = NULL;
	FILE *file;

	if (argc != 6) {
		fprintf(stderr, "usage: certify ROOT ID FROM TO OUT\n");
		return 2;
	}
	file = fopen(argv[1], "r");
	if (file) {
		root = PEM_read_X509(file, NULL, NULL, NULL);
		rewind(file);
		root_key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
		fclose(file);
	}
	key = EVP_EC_gen("P-256");
	if (root && root_key && key)
		leaf = certify(root, root_key, key, argv);
	file = leaf ? fopen(argv[5], "w") : NULL;
	if (!file || !PEM_write_X509(file, leaf) ||
	    !PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) || fclose(file)) {
		fprintf(stderr, "certify: %s was not made\n", argv[5]);
		return 1;
	}
	X509_free(leaf);
	X509_free(root);
	EVP_PKEY_free(key);
	EVP_PKEY_free(root_key);
	return 0;
}
