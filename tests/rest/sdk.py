"""The vendor's client against us: each of the 25 operations, its typed errors, both ways to authenticate, and what the
vendor's command line and Terraform provider wait for."""

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

from world import (
    ALGORITHMS,
    ENDPOINT,
    TOKEN,
    WRAPPING_ALGORITHMS,
    World,
    client,
    encoded,
)

HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
WINDOW = timedelta(days=30)


@pytest.fixture(scope="module")
def world():
    return World(client())


@pytest.fixture
def ring(world):
    return world.ring().id


def refused(kind, call, *arguments, **named):
    """Each declared error is typed and carries our message in the API's own form."""
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


def test_a_ring_is_made_seen_listed_and_deleted(world):
    made = world.ring("ring-1", description="the first")
    assert (made.display_name, made.description, made.state) == ("ring-1", "the first", "active")
    near(made.created_at, now())
    assert world.api.get_key_ring(**world.place, key_ring_id=made.id) == made
    assert made in world.api.list_key_rings(**world.place).key_rings
    assert world.api.delete_key_ring(**world.place, key_ring_id=made.id) is None
    refused(NotFoundException, world.api.get_key_ring, **world.place, key_ring_id=made.id)
    refused(NotFoundException, world.api.delete_key_ring, **world.place, key_ring_id=made.id)
    assert made.id not in [ring.id for ring in world.api.list_key_rings(**world.place).key_rings]


def test_a_ring_without_a_description_has_none(world):
    for more in ({}, {"description": ""}):
        made = world.ring("plain", **more)
        assert made.description is None
        assert world.api.get_key_ring(**world.place, key_ring_id=made.id).description is None


def test_names_need_not_be_unique(world, ring):
    assert world.ring("same").id != world.ring("same").id
    assert world.key(ring, name="same").id != world.key(ring, name="same").id


def test_a_ring_with_a_key_cannot_be_deleted(world, ring):
    key = world.key(ring)
    refused(BadRequestException, world.api.delete_key_ring, **world.place, key_ring_id=ring)
    world.api.delete_key(**world.of(key))
    # A key whose deletion is scheduled counts as well.
    refused(BadRequestException, world.api.delete_key_ring, **world.place, key_ring_id=ring)


# --- keys


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_of_each_algorithm_is_echoed_exactly(world, ring, algorithm):
    """Terraform calls a reply inconsistent that differs from what was asked in any of these."""
    made = world.key(ring, algorithm, name="K_1-" + algorithm, description="for ü", access_scope="SNA")
    for seen in (made, world.get_key(made)):
        assert seen.display_name == "K_1-" + algorithm
        assert seen.description == "for ü"
        assert seen.algorithm == algorithm
        assert seen.protection == "software"
        assert seen.access_scope == "SNA"
        assert seen.import_only is False
        assert (seen.state, seen.key_ring_id, seen.deletion_date) == ("active", ring, None)
    (version,) = world.api.list_versions(**world.of(made)).versions
    assert (version.number, version.state, version.disabled, version.destroy_date) == (1, "active", False, None)
    assert version.key_id == made.id and version.key_ring_id == ring
    asymmetric = algorithm.startswith(("rsa", "ecdsa"))
    assert (version.public_key is not None) == asymmetric
    if asymmetric:
        assert version.public_key.startswith("-----BEGIN PUBLIC KEY-----")


def test_what_is_left_out_has_its_default(world, ring):
    made = world.key(ring)
    assert (made.access_scope, made.import_only, made.description) == ("PUBLIC", False, None)


def test_an_import_only_key_waits_for_its_first_version(world, ring):
    made = world.key(ring, import_only=True)
    assert (made.import_only, made.state) == (True, "no_version")
    assert world.api.list_versions(**world.of(made)).versions == []
    refused(ForbiddenException, world.api.rotate_key, **world.of(made))


def test_lists_are_empty_and_never_null(world, ring):
    assert world.api.list_keys(**world.place, key_ring_id=ring).keys == []
    assert world.api.list_wrapping_keys(**world.place, key_ring_id=ring).wrapping_keys == []


def test_a_key_is_rotated_and_old_versions_stay(world, ring):
    key = world.key(ring)
    old = world.encrypt(key, b"under one")
    for number in (2, 3):
        version = world.api.rotate_key(**world.of(key))
        assert (version.number, version.state, version.disabled) == (number, "active", False)
    assert [v.number for v in world.api.list_versions(**world.of(key)).versions] == [1, 2, 3]
    assert world.decrypt(key, old, 1) == b"under one"
    assert world.decrypt(key, world.encrypt(key, b"under three", 3), 3) == b"under three"
    # Ciphertext belongs to the version that made it.
    with pytest.raises(BadRequestException):
        world.decrypt(key, old, 2)


def test_a_deleted_key_is_seen_but_not_used_until_it_is_restored(world, ring):
    key = world.key(ring)
    secret = world.encrypt(key, b"kept")
    assert world.api.delete_key(**world.of(key)) is None
    gone = world.get_key(key)
    assert gone.state == "deleted"
    near(gone.deletion_date, now() + WINDOW)
    assert [v.number for v in world.api.list_versions(**world.of(key)).versions] == [1]
    assert key.id in [k.id for k in world.api.list_keys(**world.place, key_ring_id=ring).keys]
    refused(BadRequestException, world.api.delete_key, **world.of(key))
    refused(ConflictException, world.decrypt, key, secret)
    refused(ConflictException, world.api.rotate_key, **world.of(key))
    refused(ConflictException, world.api.disable_version, **world.of(key), version_number=1)
    assert world.api.restore_key(**world.of(key)) is None
    back = world.get_key(key)
    assert (back.state, back.deletion_date) == ("active", None)
    assert world.decrypt(key, secret) == b"kept"
    refused(ConflictException, world.api.restore_key, **world.of(key))


# --- versions


def test_waiters_see_each_state_on_the_very_next_call(world, ring):
    """The vendor's waiters poll at once, and end with an error on a state that they do not expect."""
    key = world.key(ring)
    at = {**world.of(key), "version_number": 1}
    assert world.api.disable_version(**at) is None
    seen = world.get_version(key)
    assert (seen.state, seen.disabled) == ("disabled", True)
    assert world.get_key(key).state == "not_available"
    assert world.api.disable_version(**at) is None, "twice is once"
    assert world.api.enable_version(**at) is None
    seen = world.get_version(key)
    assert (seen.state, seen.disabled) == ("active", False)
    assert world.api.enable_version(**at) is None, "twice is once"
    assert world.get_key(key).state == "active"


def test_a_disabled_version_is_not_used(world, ring):
    key = world.key(ring)
    secret = world.encrypt(key, b"x")
    world.api.disable_version(**world.of(key), version_number=1)
    refused(ConflictException, world.encrypt, key, b"x")
    refused(ConflictException, world.decrypt, key, secret)
    world.api.enable_version(**world.of(key), version_number=1)
    assert world.decrypt(key, secret) == b"x"


@pytest.mark.parametrize("disabled", [False, True])
def test_a_destroyed_version_comes_back_as_it_was(world, ring, disabled):
    key = world.key(ring)
    at = {**world.of(key), "version_number": 1}
    secret = world.encrypt(key, b"x")
    if disabled:
        world.api.disable_version(**at)
    assert world.api.destroy_version(**at) is None
    seen = world.get_version(key)
    assert (seen.state, seen.disabled) == ("destroyed", disabled)
    near(seen.destroy_date, now() + WINDOW)
    refused(ConflictException, world.decrypt, key, secret)
    for call in (world.api.enable_version, world.api.disable_version, world.api.destroy_version):
        refused(ConflictException, call, **at)
    assert world.api.restore_version(**at) is None
    seen = world.get_version(key)
    assert (seen.state, seen.disabled, seen.destroy_date) == ("disabled" if disabled else "active", disabled, None)
    refused(ConflictException, world.api.restore_version, **at)
    if not disabled:
        assert world.decrypt(key, secret) == b"x"


# --- use


def test_aes_takes_any_bytes_up_to_its_limit(world, ring):
    key = world.key(ring)
    for data in (b"", b"\0", bytes(range(256)), b"z" * 65536):
        assert world.decrypt(key, world.encrypt(key, data)) == data
    assert world.encrypt(key, b"same") != world.encrypt(key, b"same")
    refused(BadRequestException, world.encrypt, key, b"z" * 65537)
    secret = bytearray(world.encrypt(key, b"whole"))
    for place in range(len(secret)):
        secret[place] ^= 1
        refused(BadRequestException, world.decrypt, key, bytes(secret))
        secret[place] ^= 1
    refused(BadRequestException, world.decrypt, key, b"")
    refused(BadRequestException, world.sign, key, b"x")


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name.startswith("rsa")])
def test_rsa_decrypts_what_is_encrypted_offline(world, ring, algorithm):
    key = world.key(ring, algorithm)
    digest = HASHES[algorithm[-3:]]
    public = load_pem_public_key(world.get_version(key).public_key.encode())
    assert public.key_size == int(algorithm.split("_")[1]) and public.public_numbers().e == 65537
    oaep = padding.OAEP(mgf=padding.MGF1(digest()), algorithm=digest(), label=None)
    assert world.decrypt(key, public.encrypt(b"offline", oaep)) == b"offline"
    longest = public.key_size // 8 - 2 * digest.digest_size - 2
    for data in (b"", b"m" * longest):
        assert world.decrypt(key, world.encrypt(key, data)) == data
    refused(BadRequestException, world.encrypt, key, b"m" * (longest + 1))
    refused(BadRequestException, world.decrypt, key, b"m" * (public.key_size // 8))
    refused(BadRequestException, world.decrypt, key, b"m")
    refused(BadRequestException, world.verify, key, b"x", b"y")


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name.startswith("hmac")])
def test_hmac_signs_and_verifies(world, ring, algorithm):
    key = world.key(ring, algorithm)
    tag = world.sign(key, b"message")
    assert len(tag) == int(algorithm[-3:]) // 8 and tag == world.sign(key, b"message")
    assert world.verify(key, b"message", tag) is True
    for data, signature in ((b"Message", tag), (b"message", tag[:-1]), (b"message", b""), (b"message", tag + b"\0")):
        assert world.verify(key, data, signature) is False
    assert world.verify(key, b"", world.sign(key, b"")) is True
    refused(BadRequestException, world.encrypt, key, b"x")


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name.startswith("ecdsa")])
def test_ecdsa_signatures_hold_offline(world, ring, algorithm):
    key = world.key(ring, algorithm)
    digest = HASHES[algorithm[-3:]]()
    public = load_pem_public_key(world.get_version(key).public_key.encode())
    assert public.curve.name == "secp" + algorithm.split("_")[1][1:] + "r1"
    signature = world.sign(key, b"message")
    public.verify(signature, b"message", ec.ECDSA(digest))
    assert world.verify(key, b"message", signature) is True
    assert world.verify(key, b"Message", signature) is False
    assert world.verify(key, b"message", b"no signature") is False
    refused(BadRequestException, world.decrypt, key, b"x")


# --- wrapping keys


@pytest.mark.parametrize("algorithm", WRAPPING_ALGORITHMS)
@pytest.mark.parametrize("purpose", ["wrap_symmetric_key", "wrap_asymmetric_key"])
def test_a_wrapping_key_has_its_public_half_at_once(world, ring, algorithm, purpose):
    made = world.wrapping_key(ring, algorithm, purpose, name="w", description="d")
    assert (made.algorithm, made.purpose, made.state) == (algorithm, purpose, "active")
    assert (made.display_name, made.description, made.access_scope) == ("w", "d", "PUBLIC")
    assert made.protection == "software" and made.key_ring_id == ring
    assert made.expires_at > now() + timedelta(hours=1)
    public = load_pem_public_key(made.public_key.encode())
    assert public.key_size == int(algorithm.split("_")[1])
    at = {**world.place, "key_ring_id": ring, "wrapping_key_id": made.id}
    assert world.api.get_wrapping_key(**at) == made
    assert world.api.list_wrapping_keys(**world.place, key_ring_id=ring).wrapping_keys == [made]
    assert world.api.delete_wrapping_key(**at) is None
    refused(NotFoundException, world.api.get_wrapping_key, **at)
    refused(NotFoundException, world.api.delete_wrapping_key, **at)


# --- refusals


def test_what_is_not_there_is_not_found(world, ring):
    key, nothing = world.key(ring), uuid4()
    for call in (world.api.get_key_ring, world.api.list_keys, world.api.list_wrapping_keys):
        refused(NotFoundException, call, **world.place, key_ring_id=nothing)
    for call in (world.api.get_key, world.api.delete_key, world.api.restore_key, world.api.rotate_key):
        refused(NotFoundException, call, **world.place, key_ring_id=ring, key_id=nothing)
        refused(NotFoundException, call, **world.place, key_ring_id=nothing, key_id=key.id)
    other = world.ring().id
    refused(NotFoundException, world.api.get_key, **world.place, key_ring_id=other, key_id=key.id)
    for number in (0, -1, 2, 1 << 40, (1 << 63) - 1):
        for call in (
            world.api.get_version,
            world.api.enable_version,
            world.api.disable_version,
            world.api.destroy_version,
            world.api.restore_version,
        ):
            refused(NotFoundException, call, **world.of(key), version_number=number)
        refused(NotFoundException, world.encrypt, key, b"x", number)
    elsewhere = {**world.of(key), "project_id": uuid4()}
    refused(NotFoundException, world.api.get_key, **elsewhere)


def test_another_pair_of_purpose_and_algorithm_is_refused(world, ring):
    payload = CreateKeyPayload(
        displayName="k", protection="software", purpose="asymmetric_sign_verify", algorithm="aes_256_gcm"
    )
    refused(BadRequestException, world.api.create_key, **world.place, key_ring_id=ring, create_key_payload=payload)


@pytest.mark.parametrize("protection", ["", "hsm", "unknown_default_open_api"])
def test_another_protection_is_refused(world, ring, protection):
    payload = CreateKeyPayload(
        displayName="k", protection=protection, purpose="symmetric_encrypt_decrypt", algorithm="aes_256_gcm"
    )
    message = refused(
        BadRequestException, world.api.create_key, **world.place, key_ring_id=ring, create_key_payload=payload
    )
    assert "software" in message


def test_names_and_descriptions_are_checked_to_their_end(world):
    # The client's own check lets a newline pass at the end.
    refused(BadRequestException, world.ring, "ab\n")
    refused(BadRequestException, world.ring, "ring", description="x" * 257)
    assert world.ring("ring", description="ü" * 256).description == "ü" * 256


def test_data_must_be_base64(world, ring):
    key = world.key(ring)
    for data in ("a", "a===", "aGVsbG8", "aGVs bG8=", "aGVs\nbG8=", "-_-_", "aGVsbG9="):
        refused(
            BadRequestException,
            world.api.encrypt,
            **world.of(key),
            version_number=1,
            encrypt_payload=EncryptPayload(data=data),
        )


# --- callers


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "a.b.c"])
def test_nobody_else_is_let_in(monkeypatch, token):
    monkeypatch.delenv("STACKIT_SERVICE_ACCOUNT_TOKEN", raising=False)
    stranger = World(client(service_account_token=token))
    refused(UnauthorizedException, stranger.api.list_key_rings, **stranger.place)
    refused(UnauthorizedException, stranger.ring)


def test_a_slash_too_many_does_no_harm(world):
    slashed = World(client(custom_endpoint=ENDPOINT + "/", service_account_token=TOKEN))
    assert slashed.ring("slashed").display_name == "slashed"


def test_the_key_flow_lets_in_whom_it_knows(ring):
    """RFC 7523: an assertion signed by the service account's own key, for an access token that ends by itself."""
    api = client(
        service_account_key_path=os.environ["KMS_KEY_FILE"], custom_token_endpoint=ENDPOINT + "/token"
    )
    account = World(api)
    key = account.key(ring)
    assert account.decrypt(key, account.encrypt(key, b"by key")) == b"by key"
    auth = api.api_client.rest_client.session.auth
    assert auth.access_token.count(".") == 2, "a JWT, whose end the client can read"
    # What the client does when the token is about to end.
    before = auth.access_token
    auth._KeyAuth__refresh_token()
    assert auth.access_token.count(".") == 2 and auth.access_token != before
    assert account.get_key(key).id == key.id
    auth.close()


def test_a_reader_sees_and_does_not_touch(world, ring):
    key = world.key(ring)
    secret = world.encrypt(key, b"x")
    reader = World(client(service_account_token=os.environ["KMS_READER_TOKEN"]))
    assert reader.get_key(key).id == key.id
    assert reader.get_version(key).number == 1
    assert key.id in [k.id for k in reader.api.list_keys(**reader.place, key_ring_id=ring).keys]
    # The specification declares 403 for one operation only; the type of the error is the same for all.
    for call, arguments in (
        (reader.encrypt, (key, b"x")),
        (reader.decrypt, (key, secret)),
        (reader.ring, ()),
        (reader.key, (ring,)),
    ):
        with pytest.raises(ForbiddenException) as raised:
            call(*arguments)
        assert "message" in raised.value.body
    refused(ForbiddenException, reader.api.rotate_key, **reader.of(key))


def test_every_answer_has_a_trace(world):
    answer = world.api.list_key_rings_with_http_info(**world.place)
    assert answer.status_code == 200
    UUID(answer.headers["x-trace-id"])
    with pytest.raises(ApiException) as raised:
        world.api.get_key_ring(**world.place, key_ring_id=uuid4())
    UUID(raised.value.headers["x-trace-id"])


def test_success_codes_are_the_declared_ones(world):
    """The client gives None, silently, for any other."""
    payload = CreateKeyRingPayload(displayName="codes")
    made = world.api.create_key_ring_with_http_info(**world.place, create_key_ring_payload=payload)
    assert made.status_code == 202
    ring = made.data.id
    at = {**world.place, "key_ring_id": ring}
    payload = CreateKeyPayload(
        displayName="k", protection="software", purpose="symmetric_encrypt_decrypt", algorithm="aes_256_gcm"
    )
    made = world.api.create_key_with_http_info(**at, create_key_payload=payload)
    assert made.status_code == 202
    key = {**at, "key_id": made.data.id}
    version = {**key, "version_number": 1}
    for expected, call, arguments in (
        (200, world.api.list_key_rings_with_http_info, world.place),
        (200, world.api.get_key_ring_with_http_info, at),
        (200, world.api.list_keys_with_http_info, at),
        (200, world.api.get_key_with_http_info, key),
        (200, world.api.list_versions_with_http_info, key),
        (200, world.api.get_version_with_http_info, version),
        (202, world.api.rotate_key_with_http_info, key),
        (204, world.api.disable_version_with_http_info, version),
        (204, world.api.enable_version_with_http_info, version),
        (204, world.api.destroy_version_with_http_info, version),
        (204, world.api.restore_version_with_http_info, version),
        (202, world.api.delete_key_with_http_info, key),
        (204, world.api.restore_key_with_http_info, key),
    ):
        assert call(**arguments).status_code == expected, call.__name__
    payload = EncryptPayload(data=encoded(b"x"))
    assert world.api.encrypt_with_http_info(**version, encrypt_payload=payload).status_code == 200
