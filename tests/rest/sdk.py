"""The vendor's client against the daemon: each of the 25 operations, its typed errors, both authentication methods, and
the states that the vendor's command line and Terraform provider wait for."""

import os
from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from stackit.kms import CreateKeyPayload, CreateKeyRingPayload, EncryptPayload
from stackit.kms.exceptions import (
    ApiException,
    BadRequestException,
    ConflictException,
    ForbiddenException,
    NotFoundException,
    UnauthorizedException,
)
from stackit.kms.models.http_error import HttpError

from kms_client import (
    ALGORITHMS,
    ENDPOINT,
    TOKEN,
    WRAPPING_ALGORITHMS,
    KmsClient,
    client,
    encoded,
)

HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
WINDOW = timedelta(days=30)


@pytest.fixture(scope="module")
def kms():
    return KmsClient(client())


@pytest.fixture
def ring(kms):
    return kms.ring().id


def refused(kind, call, *arguments, **named):
    """Asserts that a call fails with this typed error, with a message in the API's format; returns the message."""
    with pytest.raises(kind) as raised:
        call(*arguments, **named)
    assert type(raised.value) is kind
    assert isinstance(raised.value.data, HttpError), raised.value
    assert len(raised.value.data.message.split()) > 2, raised.value
    return raised.value.data.message


def near(time: datetime, expected: datetime):
    assert abs(time - expected) < timedelta(minutes=2), (time, expected)


def now():
    return datetime.now(timezone.utc)


# --- rings


def test_a_ring_is_created_read_listed_and_deleted(kms):
    created = kms.ring("ring-1", description="the first")
    assert (created.display_name, created.description, created.state) == ("ring-1", "the first", "active")
    near(created.created_at, now())
    assert kms.api.get_key_ring(**kms.project, key_ring_id=created.id) == created
    assert created in kms.api.list_key_rings(**kms.project).key_rings
    assert kms.api.delete_key_ring(**kms.project, key_ring_id=created.id) is None
    refused(NotFoundException, kms.api.get_key_ring, **kms.project, key_ring_id=created.id)
    refused(NotFoundException, kms.api.delete_key_ring, **kms.project, key_ring_id=created.id)
    assert created.id not in [ring.id for ring in kms.api.list_key_rings(**kms.project).key_rings]


def test_a_ring_without_a_description_has_none(kms):
    for more in ({}, {"description": ""}):
        created = kms.ring("plain", **more)
        assert created.description is None
        assert kms.api.get_key_ring(**kms.project, key_ring_id=created.id).description is None


def test_names_need_not_be_unique(kms, ring):
    assert kms.ring("same").id != kms.ring("same").id
    assert kms.key(ring, name="same").id != kms.key(ring, name="same").id


def test_a_ring_with_a_key_cannot_be_deleted(kms, ring):
    key = kms.key(ring)
    refused(BadRequestException, kms.api.delete_key_ring, **kms.project, key_ring_id=ring)
    kms.api.delete_key(**kms.ids(key))
    # A key whose deletion is scheduled counts as well.
    refused(BadRequestException, kms.api.delete_key_ring, **kms.project, key_ring_id=ring)


# --- keys


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_of_each_algorithm_is_returned_as_requested(kms, ring, algorithm):
    """Terraform reports an inconsistent result if a response differs from the request in any of these fields."""
    created = kms.key(ring, algorithm, name="K_1-" + algorithm, description="for ü", access_scope="SNA")
    for seen in (created, kms.get_key(created)):
        assert seen.display_name == "K_1-" + algorithm
        assert seen.description == "for ü"
        assert seen.algorithm == algorithm
        assert seen.protection == "software"
        assert seen.access_scope == "SNA"
        assert seen.import_only is False
        assert (seen.state, seen.key_ring_id, seen.deletion_date) == ("active", ring, None)
    (version,) = kms.api.list_versions(**kms.ids(created)).versions
    assert (version.number, version.state, version.disabled, version.destroy_date) == (1, "active", False, None)
    assert version.key_id == created.id and version.key_ring_id == ring
    asymmetric = algorithm.startswith(("rsa", "ecdsa"))
    assert (version.public_key is not None) == asymmetric
    if asymmetric:
        assert version.public_key.startswith("-----BEGIN PUBLIC KEY-----")


def test_omitted_fields_have_defaults(kms, ring):
    created = kms.key(ring)
    assert (created.access_scope, created.import_only, created.description) == ("PUBLIC", False, None)


def test_an_import_only_key_has_no_version_at_first(kms, ring):
    created = kms.key(ring, import_only=True)
    assert (created.import_only, created.state) == (True, "no_version")
    assert kms.api.list_versions(**kms.ids(created)).versions == []
    refused(ForbiddenException, kms.api.rotate_key, **kms.ids(created))


def test_empty_lists_are_not_null(kms, ring):
    assert kms.api.list_keys(**kms.project, key_ring_id=ring).keys == []
    assert kms.api.list_wrapping_keys(**kms.project, key_ring_id=ring).wrapping_keys == []


def test_a_key_is_rotated_and_old_versions_stay_usable(kms, ring):
    key = kms.key(ring)
    old = kms.encrypt(key, b"under one")
    for number in (2, 3):
        version = kms.api.rotate_key(**kms.ids(key))
        assert (version.number, version.state, version.disabled) == (number, "active", False)
    assert [v.number for v in kms.api.list_versions(**kms.ids(key)).versions] == [1, 2, 3]
    assert kms.decrypt(key, old, 1) == b"under one"
    assert kms.decrypt(key, kms.encrypt(key, b"under three", 3), 3) == b"under three"
    # Only the version that encrypted a ciphertext decrypts it.
    with pytest.raises(BadRequestException):
        kms.decrypt(key, old, 2)


def test_a_deleted_key_is_listed_but_not_usable_until_it_is_restored(kms, ring):
    key = kms.key(ring)
    secret = kms.encrypt(key, b"kept")
    assert kms.api.delete_key(**kms.ids(key)) is None
    deleted = kms.get_key(key)
    assert deleted.state == "deleted"
    near(deleted.deletion_date, now() + WINDOW)
    assert [v.number for v in kms.api.list_versions(**kms.ids(key)).versions] == [1]
    assert key.id in [k.id for k in kms.api.list_keys(**kms.project, key_ring_id=ring).keys]
    refused(BadRequestException, kms.api.delete_key, **kms.ids(key))
    refused(ConflictException, kms.decrypt, key, secret)
    refused(ConflictException, kms.api.rotate_key, **kms.ids(key))
    refused(ConflictException, kms.api.disable_version, **kms.ids(key), version_number=1)
    assert kms.api.restore_key(**kms.ids(key)) is None
    restored = kms.get_key(key)
    assert (restored.state, restored.deletion_date) == ("active", None)
    assert kms.decrypt(key, secret) == b"kept"
    refused(ConflictException, kms.api.restore_key, **kms.ids(key))


# --- versions


def test_waiters_see_each_state_on_the_next_call(kms, ring):
    """The vendor's waiters poll at once, and fail on a state that they do not expect."""
    key = kms.key(ring)
    at = {**kms.ids(key), "version_number": 1}
    assert kms.api.disable_version(**at) is None
    seen = kms.get_version(key)
    assert (seen.state, seen.disabled) == ("disabled", True)
    assert kms.get_key(key).state == "not_available"
    assert kms.api.disable_version(**at) is None, "the call is idempotent"
    assert kms.api.enable_version(**at) is None
    seen = kms.get_version(key)
    assert (seen.state, seen.disabled) == ("active", False)
    assert kms.api.enable_version(**at) is None, "the call is idempotent"
    assert kms.get_key(key).state == "active"


def test_a_disabled_version_is_not_usable(kms, ring):
    key = kms.key(ring)
    secret = kms.encrypt(key, b"x")
    kms.api.disable_version(**kms.ids(key), version_number=1)
    refused(ConflictException, kms.encrypt, key, b"x")
    refused(ConflictException, kms.decrypt, key, secret)
    kms.api.enable_version(**kms.ids(key), version_number=1)
    assert kms.decrypt(key, secret) == b"x"


@pytest.mark.parametrize("disabled", [False, True])
def test_a_destroyed_version_is_restored_to_its_former_state(kms, ring, disabled):
    key = kms.key(ring)
    at = {**kms.ids(key), "version_number": 1}
    secret = kms.encrypt(key, b"x")
    if disabled:
        kms.api.disable_version(**at)
    assert kms.api.destroy_version(**at) is None
    seen = kms.get_version(key)
    assert (seen.state, seen.disabled) == ("destroyed", disabled)
    near(seen.destroy_date, now() + WINDOW)
    refused(ConflictException, kms.decrypt, key, secret)
    for call in (kms.api.enable_version, kms.api.disable_version, kms.api.destroy_version):
        refused(ConflictException, call, **at)
    assert kms.api.restore_version(**at) is None
    seen = kms.get_version(key)
    assert (seen.state, seen.disabled, seen.destroy_date) == ("disabled" if disabled else "active", disabled, None)
    refused(ConflictException, kms.api.restore_version, **at)
    if not disabled:
        assert kms.decrypt(key, secret) == b"x"


# --- cryptographic operations


def test_aes_encrypts_any_bytes_up_to_its_limit(kms, ring):
    key = kms.key(ring)
    for data in (b"", b"\0", bytes(range(256)), b"z" * 65536):
        assert kms.decrypt(key, kms.encrypt(key, data)) == data
    assert kms.encrypt(key, b"same") != kms.encrypt(key, b"same")
    refused(BadRequestException, kms.encrypt, key, b"z" * 65537)
    secret = bytearray(kms.encrypt(key, b"whole"))
    for index in range(len(secret)):
        secret[index] ^= 1
        refused(BadRequestException, kms.decrypt, key, bytes(secret))
        secret[index] ^= 1
    refused(BadRequestException, kms.decrypt, key, b"")
    refused(BadRequestException, kms.sign, key, b"x")


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name.startswith("rsa")])
def test_rsa_decrypts_what_the_public_key_encrypted(kms, ring, algorithm):
    key = kms.key(ring, algorithm)
    digest = HASHES[algorithm[-3:]]
    public = load_pem_public_key(kms.get_version(key).public_key.encode())
    assert public.key_size == int(algorithm.split("_")[1]) and public.public_numbers().e == 65537
    oaep = padding.OAEP(mgf=padding.MGF1(digest()), algorithm=digest(), label=None)
    assert kms.decrypt(key, public.encrypt(b"offline", oaep)) == b"offline"
    longest = public.key_size // 8 - 2 * digest.digest_size - 2
    for data in (b"", b"m" * longest):
        assert kms.decrypt(key, kms.encrypt(key, data)) == data
    refused(BadRequestException, kms.encrypt, key, b"m" * (longest + 1))
    refused(BadRequestException, kms.decrypt, key, b"m" * (public.key_size // 8))
    refused(BadRequestException, kms.decrypt, key, b"m")
    refused(BadRequestException, kms.verify, key, b"x", b"y")


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name.startswith("hmac")])
def test_hmac_signs_and_verifies(kms, ring, algorithm):
    key = kms.key(ring, algorithm)
    tag = kms.sign(key, b"message")
    assert len(tag) == int(algorithm[-3:]) // 8 and tag == kms.sign(key, b"message")
    assert kms.verify(key, b"message", tag) is True
    for data, signature in ((b"Message", tag), (b"message", tag[:-1]), (b"message", b""), (b"message", tag + b"\0")):
        assert kms.verify(key, data, signature) is False
    assert kms.verify(key, b"", kms.sign(key, b"")) is True
    refused(BadRequestException, kms.encrypt, key, b"x")


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name.startswith("ecdsa")])
def test_ecdsa_signatures_verify_with_the_public_key(kms, ring, algorithm):
    key = kms.key(ring, algorithm)
    digest = HASHES[algorithm[-3:]]()
    public = load_pem_public_key(kms.get_version(key).public_key.encode())
    assert public.curve.name == "secp" + algorithm.split("_")[1][1:] + "r1"
    signature = kms.sign(key, b"message")
    public.verify(signature, b"message", ec.ECDSA(digest))
    assert kms.verify(key, b"message", signature) is True
    assert kms.verify(key, b"Message", signature) is False
    assert kms.verify(key, b"message", b"no signature") is False
    refused(BadRequestException, kms.decrypt, key, b"x")


# --- wrapping keys


@pytest.mark.parametrize("algorithm", WRAPPING_ALGORITHMS)
@pytest.mark.parametrize("purpose", ["wrap_symmetric_key", "wrap_asymmetric_key"])
def test_a_wrapping_key_has_its_public_key_at_once(kms, ring, algorithm, purpose):
    created = kms.wrapping_key(ring, algorithm, purpose, name="w", description="d")
    assert (created.algorithm, created.purpose, created.state) == (algorithm, purpose, "active")
    assert (created.display_name, created.description, created.access_scope) == ("w", "d", "PUBLIC")
    assert created.protection == "software" and created.key_ring_id == ring
    assert created.expires_at > now() + timedelta(hours=1)
    public = load_pem_public_key(created.public_key.encode())
    assert public.key_size == int(algorithm.split("_")[1])
    at = {**kms.project, "key_ring_id": ring, "wrapping_key_id": created.id}
    assert kms.api.get_wrapping_key(**at) == created
    assert kms.api.list_wrapping_keys(**kms.project, key_ring_id=ring).wrapping_keys == [created]
    assert kms.api.delete_wrapping_key(**at) is None
    refused(NotFoundException, kms.api.get_wrapping_key, **at)
    refused(NotFoundException, kms.api.delete_wrapping_key, **at)


# --- errors


def test_unknown_ids_are_not_found(kms, ring):
    key, unknown = kms.key(ring), uuid4()
    for call in (kms.api.get_key_ring, kms.api.list_keys, kms.api.list_wrapping_keys):
        refused(NotFoundException, call, **kms.project, key_ring_id=unknown)
    for call in (kms.api.get_key, kms.api.delete_key, kms.api.restore_key, kms.api.rotate_key):
        refused(NotFoundException, call, **kms.project, key_ring_id=ring, key_id=unknown)
        refused(NotFoundException, call, **kms.project, key_ring_id=unknown, key_id=key.id)
    other = kms.ring().id
    refused(NotFoundException, kms.api.get_key, **kms.project, key_ring_id=other, key_id=key.id)
    for number in (0, -1, 2, 1 << 40, (1 << 63) - 1):
        for call in (
            kms.api.get_version,
            kms.api.enable_version,
            kms.api.disable_version,
            kms.api.destroy_version,
            kms.api.restore_version,
        ):
            refused(NotFoundException, call, **kms.ids(key), version_number=number)
        refused(NotFoundException, kms.encrypt, key, b"x", number)
    other_project = {**kms.ids(key), "project_id": uuid4()}
    refused(NotFoundException, kms.api.get_key, **other_project)


def test_a_purpose_that_does_not_fit_the_algorithm_is_rejected(kms, ring):
    payload = CreateKeyPayload(
        displayName="k", protection="software", purpose="asymmetric_sign_verify", algorithm="aes_256_gcm"
    )
    refused(BadRequestException, kms.api.create_key, **kms.project, key_ring_id=ring, create_key_payload=payload)


@pytest.mark.parametrize("protection", ["", "hsm", "unknown_default_open_api"])
def test_another_protection_level_is_rejected(kms, ring, protection):
    payload = CreateKeyPayload(
        displayName="k", protection=protection, purpose="symmetric_encrypt_decrypt", algorithm="aes_256_gcm"
    )
    message = refused(
        BadRequestException, kms.api.create_key, **kms.project, key_ring_id=ring, create_key_payload=payload
    )
    assert "software" in message


def test_names_and_descriptions_are_checked_completely(kms):
    # The client's own check accepts a trailing newline.
    refused(BadRequestException, kms.ring, "ab\n")
    refused(BadRequestException, kms.ring, "ring", description="x" * 257)
    assert kms.ring("ring", description="ü" * 256).description == "ü" * 256


def test_data_must_be_base64(kms, ring):
    key = kms.key(ring)
    for data in ("a", "a===", "aGVsbG8", "aGVs bG8=", "aGVs\nbG8=", "-_-_", "aGVsbG9="):
        refused(
            BadRequestException,
            kms.api.encrypt,
            **kms.ids(key),
            version_number=1,
            encrypt_payload=EncryptPayload(data=data),
        )


# --- authentication and authorization


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "a.b.c"])
def test_invalid_tokens_are_rejected(monkeypatch, token):
    monkeypatch.delenv("STACKIT_SERVICE_ACCOUNT_TOKEN", raising=False)
    unauthenticated = KmsClient(client(service_account_token=token))
    refused(UnauthorizedException, unauthenticated.api.list_key_rings, **unauthenticated.project)
    refused(UnauthorizedException, unauthenticated.ring)


def test_a_trailing_slash_of_the_endpoint_is_explained():
    """The client then requests //v1/, which no path rule of a proxy matches, so it is another path here as well."""
    with_slash = KmsClient(client(custom_endpoint=ENDPOINT + "/", service_account_token=TOKEN))
    with pytest.raises(ApiException) as refused:
        with_slash.ring("slash")
    assert refused.value.status == 404
    assert "remove the slash at the end" in refused.value.body


def test_the_key_flow_authenticates_a_service_account(ring):
    """RFC 7523: an assertion signed with the service account's key, for an access token that expires."""
    api = client(
        service_account_key_path=os.environ["KMS_KEY_FILE"], custom_token_endpoint=ENDPOINT + "/token"
    )
    account = KmsClient(api)
    key = account.key(ring)
    assert account.decrypt(key, account.encrypt(key, b"by key")) == b"by key"
    auth = api.api_client.rest_client.session.auth
    assert auth.access_token.count(".") == 2, "a JWT, whose expiry the client can read"
    # The client calls this when the token is about to expire.
    before = auth.access_token
    auth._KeyAuth__refresh_token()
    assert auth.access_token.count(".") == 2 and auth.access_token != before
    assert account.get_key(key).id == key.id
    auth.close()


def test_a_reader_reads_but_changes_and_uses_nothing(kms, ring):
    key = kms.key(ring)
    secret = kms.encrypt(key, b"x")
    reader = KmsClient(client(service_account_token=os.environ["KMS_READER_TOKEN"]))
    assert reader.get_key(key).id == key.id
    assert reader.get_version(key).number == 1
    assert key.id in [k.id for k in reader.api.list_keys(**reader.project, key_ring_id=ring).keys]
    # The specification declares 403 for one operation only; the error type is the same for all.
    for call, arguments in (
        (reader.encrypt, (key, b"x")),
        (reader.decrypt, (key, secret)),
        (reader.ring, ()),
        (reader.key, (ring,)),
    ):
        with pytest.raises(ForbiddenException) as raised:
            call(*arguments)
        assert "message" in raised.value.body
    refused(ForbiddenException, reader.api.rotate_key, **reader.ids(key))


def test_every_response_has_a_trace_id(kms):
    response = kms.api.list_key_rings_with_http_info(**kms.project)
    assert response.status_code == 200
    UUID(response.headers["x-trace-id"])
    with pytest.raises(ApiException) as raised:
        kms.api.get_key_ring(**kms.project, key_ring_id=uuid4())
    UUID(raised.value.headers["x-trace-id"])


def test_success_codes_are_as_declared(kms):
    """For another success code, the client returns None without an error."""
    payload = CreateKeyRingPayload(displayName="codes")
    created = kms.api.create_key_ring_with_http_info(**kms.project, create_key_ring_payload=payload)
    assert created.status_code == 202
    ring = created.data.id
    at = {**kms.project, "key_ring_id": ring}
    payload = CreateKeyPayload(
        displayName="k", protection="software", purpose="symmetric_encrypt_decrypt", algorithm="aes_256_gcm"
    )
    created = kms.api.create_key_with_http_info(**at, create_key_payload=payload)
    assert created.status_code == 202
    key = {**at, "key_id": created.data.id}
    version = {**key, "version_number": 1}
    for expected, call, arguments in (
        (200, kms.api.list_key_rings_with_http_info, kms.project),
        (200, kms.api.get_key_ring_with_http_info, at),
        (200, kms.api.list_keys_with_http_info, at),
        (200, kms.api.get_key_with_http_info, key),
        (200, kms.api.list_versions_with_http_info, key),
        (200, kms.api.get_version_with_http_info, version),
        (202, kms.api.rotate_key_with_http_info, key),
        (204, kms.api.disable_version_with_http_info, version),
        (204, kms.api.enable_version_with_http_info, version),
        (204, kms.api.destroy_version_with_http_info, version),
        (204, kms.api.restore_version_with_http_info, version),
        (202, kms.api.delete_key_with_http_info, key),
        (204, kms.api.restore_key_with_http_info, key),
    ):
        assert call(**arguments).status_code == expected, call.__name__
    payload = EncryptPayload(data=encoded(b"x"))
    assert kms.api.encrypt_with_http_info(**version, encrypt_payload=payload).status_code == 200
