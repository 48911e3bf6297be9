# SPDX-License-Identifier: Apache-2.0
"""Certificates for the tests, by python3-cryptography: roots, SVIDs, revocation lists, all in DER."""
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DER = serialization.Encoding.DER


def _now(seconds):
    return datetime.datetime.utcnow() + datetime.timedelta(seconds=seconds)


def _usage(**which):
    names = ("digital_signature content_commitment key_encipherment data_encipherment key_agreement "
             "key_cert_sign crl_sign encipher_only decipher_only").split()
    return x509.KeyUsage(**{name: which.get(name, False) for name in names})


def pkcs8(key):
    return key.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Authority:
    """A root, or an intermediate below issuer."""

    def __init__(self, trust_domain, issuer=None, uri=None, ca=True):
        self.trust_domain = trust_domain
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain} {id(self):x}")])
        self.issuer = issuer or self
        builder = (x509.CertificateBuilder().subject_name(self.name).issuer_name(self.issuer.name)
                   .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(_now(-60)).not_valid_after(_now(86400))
                   .add_extension(x509.BasicConstraints(ca, None), True)
                   .add_extension(_usage(key_cert_sign=ca, crl_sign=ca, digital_signature=not ca), True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
                   .add_extension(x509.SubjectAlternativeName(
                       [x509.UniformResourceIdentifier(uri or f"spiffe://{trust_domain}")]), False))
        self.certificate = builder.sign(self.issuer.key, hashes.SHA256())
        self.der = self.certificate.public_bytes(DER)

    def issue(self, spiffe_id, ttl=3600, begins=-10, key=None):
        """(leaf in DER, key in PKCS#8, serial number in hexadecimal digits as OpenSSL writes it)"""
        key = key or ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        leaf = (x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.name)
                .public_key(key.public_key()).serial_number(serial)
                .not_valid_before(_now(begins)).not_valid_after(_now(ttl))
                .add_extension(x509.BasicConstraints(False, None), True)
                .add_extension(_usage(digital_signature=True), True)
                .add_extension(x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
                .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)]), True)
                .sign(self.key, hashes.SHA256()))
        digits = f"{serial:X}"
        return leaf.public_bytes(DER), pkcs8(key), digits.zfill(len(digits) + len(digits) % 2)

    def crl(self):
        return (x509.CertificateRevocationListBuilder().issuer_name(self.name)
                .last_update(_now(-60)).next_update(_now(3600))
                .sign(self.key, hashes.SHA256()).public_bytes(DER))
