"""Where the running backend is, and the vendor's own client (`stackit-kms`) pointed at it.

The suite in Rust starts the backend and says in the environment where it is; see `sdk.rs`.
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
    """The vendor's client; with the owner's token, unless told otherwise."""
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
class World:
    """One client, with the ids that every call wants filled in."""

    api: DefaultApi

    @property
    def place(self):
        return {"project_id": PROJECT, "region_id": REGION}

    def ring(self, name="ring", **more):
        payload = CreateKeyRingPayload(displayName=name, **more)
        return self.api.create_key_ring(**self.place, create_key_ring_payload=payload)

    def key(self, ring: UUID, algorithm="aes_256_gcm", name="key", **more):
        payload = CreateKeyPayload(
            displayName=name, protection="software", purpose=purpose(algorithm), algorithm=algorithm, **more
        )
        return self.api.create_key(**self.place, key_ring_id=ring, create_key_payload=payload)

    def wrapping_key(self, ring: UUID, algorithm, purpose, name="wrap", **more):
        payload = CreateWrappingKeyPayload(
            displayName=name, protection="software", purpose=purpose, algorithm=algorithm, **more
        )
        return self.api.create_wrapping_key(**self.place, key_ring_id=ring, create_wrapping_key_payload=payload)

    def of(self, thing):
        """The ids that name a key; a version's are its key's."""
        key = getattr(thing, "key_id", None) or thing.id
        return {**self.place, "key_ring_id": thing.key_ring_id, "key_id": key}

    def get_key(self, key):
        return self.api.get_key(**self.of(key))

    def get_version(self, key, number=1):
        return self.api.get_version(**self.of(key), version_number=number)

    def encrypt(self, key, data: bytes, number=1) -> bytes:
        payload = EncryptPayload(data=encoded(data))
        return decoded(self.api.encrypt(**self.of(key), version_number=number, encrypt_payload=payload).data)

    def decrypt(self, key, data: bytes, number=1) -> bytes:
        payload = DecryptPayload(data=encoded(data))
        return decoded(self.api.decrypt(**self.of(key), version_number=number, decrypt_payload=payload).data)

    def sign(self, key, data: bytes, number=1) -> bytes:
        signed = self.api.sign(
            **self.of(key), version_number=number, sign_payload=SignPayload(data=encoded(data))
        )
        assert decoded(signed.data) == data, "the input comes back"
        return decoded(signed.signature)

    def verify(self, key, data: bytes, signature: bytes, number=1) -> bool:
        payload = VerifyPayload(data=encoded(data), signature=encoded(signature))
        return self.api.verify(**self.of(key), version_number=number, verify_payload=payload).valid

    def imported(self, key, wrapping_key, wrapped: bytes):
        payload = ImportKeyPayload(wrappingKeyId=wrapping_key.id, wrappedKey=encoded(wrapped))
        return self.api.import_key(**self.of(key), import_key_payload=payload)
