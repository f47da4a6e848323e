"""The vendor's client (`stackit-kms`), configured for the running daemon.

The Rust suite starts the daemon and sets the environment variables that this file reads; see `sdk.rs`.
"""

import base64
import os
from dataclasses import dataclass
from uuid import UUID

from stackit.core.configuration import Configuration
from stackit.kms import (
    CreateKeyPayload,
    CreateKeyRingPayload,
    CreateWrappingKeyPayload,
    DecryptPayload,
    DefaultApi,
    EncryptPayload,
    ImportKeyPayload,
    SignPayload,
    VerifyPayload,
)

ENDPOINT = os.environ["KMS_ENDPOINT"]
TOKEN = os.environ["KMS_TOKEN"]
PROJECT = os.environ["KMS_PROJECT"]
REGION = "eu01"

PURPOSES = {
    "aes": "symmetric_encrypt_decrypt",
    "rsa": "asymmetric_encrypt_decrypt",
    "hmac": "message_authentication_code",
    "ecdsa": "asymmetric_sign_verify",
}
ALGORITHMS = [
    "aes_256_gcm",
    "rsa_2048_oaep_sha256",
    "rsa_3072_oaep_sha256",
    "rsa_4096_oaep_sha256",
    "rsa_4096_oaep_sha512",
    "hmac_sha256",
    "hmac_sha384",
    "hmac_sha512",
    "ecdsa_p256_sha256",
    "ecdsa_p384_sha384",
    "ecdsa_p521_sha512",
]
WRAPPING_ALGORITHMS = [
    "rsa_2048_oaep_sha256",
    "rsa_3072_oaep_sha256",
    "rsa_4096_oaep_sha256",
    "rsa_4096_oaep_sha512",
]
WRAPPING_ALGORITHMS += [name + "_aes_256_key_wrap" for name in WRAPPING_ALGORITHMS]


def client(**configuration):
    """The vendor's client; by default with the administrator's token."""
    configuration = configuration or {"service_account_token": TOKEN}
    endpoint = configuration.pop("custom_endpoint", ENDPOINT)
    return DefaultApi(Configuration(custom_endpoint=endpoint, **configuration))


def purpose(algorithm):
    return PURPOSES[algorithm.split("_")[0]]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


@dataclass
class KmsClient:
    """A client that fills in the project, region and key ids of every call."""

    api: DefaultApi

    @property
    def project(self):
        return {"project_id": PROJECT, "region_id": REGION}

    def ring(self, name="ring", **more):
        payload = CreateKeyRingPayload(displayName=name, **more)
        return self.api.create_key_ring(**self.project, create_key_ring_payload=payload)

    def key(self, ring: UUID, algorithm="aes_256_gcm", name="key", **more):
        payload = CreateKeyPayload(
            displayName=name, protection="software", purpose=purpose(algorithm), algorithm=algorithm, **more
        )
        return self.api.create_key(**self.project, key_ring_id=ring, create_key_payload=payload)

    def wrapping_key(self, ring: UUID, algorithm, purpose, name="wrap", **more):
        payload = CreateWrappingKeyPayload(
            displayName=name, protection="software", purpose=purpose, algorithm=algorithm, **more
        )
        return self.api.create_wrapping_key(**self.project, key_ring_id=ring, create_wrapping_key_payload=payload)

    def ids(self, resource):
        """The ids of a key, or of a version's key, as arguments of a call."""
        key = getattr(resource, "key_id", None) or resource.id
        return {**self.project, "key_ring_id": resource.key_ring_id, "key_id": key}

    def get_key(self, key):
        return self.api.get_key(**self.ids(key))

    def get_version(self, key, number=1):
        return self.api.get_version(**self.ids(key), version_number=number)

    def encrypt(self, key, data: bytes, number=1) -> bytes:
        payload = EncryptPayload(data=encoded(data))
        return decoded(self.api.encrypt(**self.ids(key), version_number=number, encrypt_payload=payload).data)

    def decrypt(self, key, data: bytes, number=1) -> bytes:
        payload = DecryptPayload(data=encoded(data))
        return decoded(self.api.decrypt(**self.ids(key), version_number=number, decrypt_payload=payload).data)

    def sign(self, key, data: bytes, number=1) -> bytes:
        signed = self.api.sign(
            **self.ids(key), version_number=number, sign_payload=SignPayload(data=encoded(data))
        )
        assert decoded(signed.data) == data, "the response contains the input"
        return decoded(signed.signature)

    def verify(self, key, data: bytes, signature: bytes, number=1) -> bool:
        payload = VerifyPayload(data=encoded(data), signature=encoded(signature))
        return self.api.verify(**self.ids(key), version_number=number, verify_payload=payload).valid

    def import_version(self, key, wrapping_key, wrapped: bytes):
        payload = ImportKeyPayload(wrappingKeyId=wrapping_key.id, wrappedKey=encoded(wrapped))
        return self.api.import_key(**self.ids(key), import_key_payload=payload)
