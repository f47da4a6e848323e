"""Import of key material (bring your own key): material wrapped by `cryptography` and by the openssl program, with all
eight wrapping algorithms, for every key algorithm. An invalid import is rejected with a message and changes nothing."""

import hashlib
import hmac
import os
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from stackit.kms import ImportKeyPayload
from stackit.kms.exceptions import BadRequestException, ConflictException, NotFoundException

from kms_client import ALGORITHMS, WRAPPING_ALGORITHMS, KmsClient, client

HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
CURVES = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}


@pytest.fixture(scope="module")
def kms():
    return KmsClient(client())


@pytest.fixture(scope="module")
def ring(kms):
    return kms.ring("imported-keys").id


@pytest.fixture(scope="module")
def wrapping(kms, ring):
    """One wrapping key for each algorithm and purpose, created on first use, because RSA-4096 keys take long."""
    created = {}

    def get(algorithm, purpose):
        if (algorithm, purpose) not in created:
            created[algorithm, purpose] = kms.wrapping_key(ring, algorithm, purpose)
        return created[algorithm, purpose]

    return get


@pytest.fixture(scope="module")
def rsa_keys():
    return {bits: rsa.generate_private_key(65537, bits) for bits in (2048, 3072, 4096)}


def pkcs8(key):
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def material(algorithm, rsa_keys):
    """New material: the bytes to be wrapped, and the private key of an asymmetric algorithm."""
    kind, *parameters = algorithm.split("_")
    if kind == "aes":
        return os.urandom(32), None
    if kind == "hmac":
        return os.urandom(int(parameters[0][3:]) // 8), None
    key = rsa_keys[int(parameters[0])] if kind == "rsa" else ec.generate_private_key(CURVES[parameters[0]]())
    return pkcs8(key), key


def purpose_for(algorithm):
    return "wrap_symmetric_key" if algorithm.startswith(("aes", "hmac")) else "wrap_asymmetric_key"


def oaep(algorithm):
    digest = HASHES["512" if "sha512" in algorithm else "256"]
    return padding.OAEP(mgf=padding.MGF1(digest()), algorithm=digest(), label=None)


def wrap(wrapping_key, material, pad=True):
    """Wraps with `cryptography`: RSA-OAEP, or an AES key under RSA-OAEP and AES key wrap (RFC 5649 or 3394) with it."""
    public = load_pem_public_key(wrapping_key.public_key.encode())
    if not wrapping_key.algorithm.endswith("_aes_256_key_wrap"):
        return public.encrypt(material, oaep(wrapping_key.algorithm))
    aes_key = os.urandom(32)
    with_padding = keywrap.aes_key_wrap_with_padding if pad else keywrap.aes_key_wrap
    return public.encrypt(aes_key, oaep(wrapping_key.algorithm)) + with_padding(aes_key, material)


def capacity(wrapping_algorithm):
    """The maximum length of the material: OAEP limits it without an AES key."""
    if wrapping_algorithm.endswith("_aes_256_key_wrap"):
        return 1 << 16
    digest = 64 if "sha512" in wrapping_algorithm else 32
    return int(wrapping_algorithm.split("_")[1]) // 8 - 2 * digest - 2


def check_use(kms, key, algorithm, plain, private, number):
    """Asserts that the version contains exactly the material that was wrapped."""
    kind = algorithm.split("_")[0]
    digest = HASHES.get(algorithm[-3:])
    if kind == "aes":
        sealed = kms.encrypt(key, b"data", number)
        header, nonce, rest = sealed[:5], sealed[5:17], sealed[17:]
        assert header == b"\x01" + number.to_bytes(4, "big")
        assert AESGCM(plain).decrypt(nonce, rest, header) == b"data"
    elif kind == "hmac":
        expected = hmac.new(plain, b"data", getattr(hashlib, "sha" + algorithm[-3:])).digest()
        assert kms.sign(key, b"data", number) == expected
    elif kind == "rsa":
        public = private.public_key()
        assert kms.get_version(key, number).public_key == pem(public)
        assert kms.decrypt(key, public.encrypt(b"data", oaep(algorithm)), number) == b"data"
    else:
        public = private.public_key()
        assert kms.get_version(key, number).public_key == pem(public)
        public.verify(kms.sign(key, b"data", number), b"data", ec.ECDSA(digest()))


def pem(public):
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("import_only", [True, False])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("wrapped_by", WRAPPING_ALGORITHMS)
def test_wrapped_material_is_imported_unchanged(kms, ring, wrapping, rsa_keys, wrapped_by, algorithm, import_only):
    plain, private = material(algorithm, rsa_keys)
    wrapping_key = wrapping(wrapped_by, purpose_for(algorithm))
    if len(plain) > capacity(wrapped_by):
        assert algorithm.startswith(("rsa", "ecdsa")), "only private keys are too long for OAEP"
        return
    if not import_only and algorithm.startswith("rsa_4096"):
        return  # Generating RSA-4096 keys only to import a second version would take minutes in all.
    key = kms.key(ring, algorithm, import_only=import_only)
    version = kms.import_version(key, wrapping_key, wrap(wrapping_key, plain))
    number = 1 if import_only else 2
    assert (version.number, version.state, version.disabled) == (number, "active", False)
    assert kms.get_key(key).state == "active"
    check_use(kms, key, algorithm, plain, private, number)


@pytest.mark.parametrize("algorithm", ["aes_256_gcm", "hmac_sha384", "hmac_sha512"])
def test_key_wrap_without_padding_is_accepted(kms, ring, wrapping, rsa_keys, algorithm):
    plain, _ = material(algorithm, rsa_keys)
    wrapping_key = wrapping("rsa_2048_oaep_sha256_aes_256_key_wrap", "wrap_symmetric_key")
    key = kms.key(ring, algorithm, import_only=True)
    assert kms.import_version(key, wrapping_key, wrap(wrapping_key, plain, pad=False)).number == 1
    check_use(kms, key, algorithm, plain, None, 1)


def openssl(*arguments, data=None):
    ran = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True)
    return ran.stdout


@pytest.mark.parametrize("wrapped_by", WRAPPING_ALGORITHMS)
def test_material_wrapped_by_openssl_is_imported(kms, ring, wrapping, tmp_path, wrapped_by):
    plain, aes_key = os.urandom(32), os.urandom(32)
    wrapping_key = wrapping(wrapped_by, "wrap_symmetric_key")
    public = tmp_path / "public.pem"
    public.write_text(wrapping_key.public_key)
    by_aes = wrapped_by.endswith("_aes_256_key_wrap")
    digest = "sha512" if "sha512" in wrapped_by else "sha256"
    options = ["rsa_padding_mode:oaep", f"rsa_oaep_md:{digest}", f"rsa_mgf1_md:{digest}"]
    arguments = [argument for option in options for argument in ("-pkeyopt", option)]
    wrapped = openssl(
        "pkeyutl", "-encrypt", "-pubin", "-inkey", str(public), *arguments, data=aes_key if by_aes else plain
    )
    if by_aes:
        # RFC 3394 with its default initial value; openssl has key wrap as a cipher.
        wrapped += openssl(
            "enc", "-id-aes256-wrap", "-K", aes_key.hex(), "-iv", "A6" * 8, "-e", data=plain
        )
    key = kms.key(ring, import_only=True)
    assert kms.import_version(key, wrapping_key, wrapped).number == 1
    check_use(kms, key, "aes_256_gcm", plain, None, 1)


# --- invalid imports


def assert_rejected(kms, key, kind, call, *arguments, **named):
    """Asserts that the import is rejected with a message, and that the key is unchanged; returns the message."""
    before = (kms.get_key(key), kms.api.list_versions(**kms.ids(key)).versions)
    with pytest.raises(kind) as raised:
        call(*arguments, **named)
    assert type(raised.value) is kind
    assert len(raised.value.data.message.split()) > 2
    assert (kms.get_key(key), kms.api.list_versions(**kms.ids(key)).versions) == before
    return raised.value.data.message


@pytest.mark.parametrize("wrapped_by", ["rsa_2048_oaep_sha256", "rsa_2048_oaep_sha256_aes_256_key_wrap"])
@pytest.mark.parametrize("length", [0, 1, 16, 24, 31, 33, 64])
def test_material_of_a_wrong_length_is_rejected(kms, ring, wrapping, wrapped_by, length):
    wrapping_key = wrapping(wrapped_by, "wrap_symmetric_key")
    key = kms.key(ring, import_only=True)
    if length == 0 and wrapped_by.endswith("_aes_256_key_wrap"):
        return  # Key wrap cannot wrap empty material.
    assert_rejected(
        kms, key, BadRequestException, kms.import_version, key, wrapping_key, wrap(wrapping_key, bytes(length))
    )


@pytest.mark.parametrize("wrapped_by", WRAPPING_ALGORITHMS)
def test_material_that_does_not_unwrap_is_rejected(kms, ring, wrapping, wrapped_by):
    wrapping_key = wrapping(wrapped_by, "wrap_symmetric_key")
    key = kms.key(ring, import_only=True)
    good = wrap(wrapping_key, os.urandom(32))
    size = int(wrapped_by.split("_")[1]) // 8
    broken = [b"", b"\0", good[:-1], good[1:], good + b"\0", good[:size - 1], bytes(len(good)), b"\xff" * len(good)]
    broken += [bytes([good[0] ^ 1]) + good[1:], good[:-1] + bytes([good[-1] ^ 1]), good + bytes(8), os.urandom(5000)]
    if wrapped_by.endswith("_aes_256_key_wrap"):
        broken += [good[:size], good[:size + 8], good[:size + 16], good[:-8]]
    for wrapped in broken:
        assert_rejected(kms, key, BadRequestException, kms.import_version, key, wrapping_key, wrapped)
    sha1 = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=HASHES["256"](), label=None)
    public = load_pem_public_key(wrapping_key.public_key.encode())
    tail = good[size:]
    assert_rejected(
        kms, key, BadRequestException, kms.import_version, key, wrapping_key, public.encrypt(bytes(32), sha1) + tail
    )
    assert kms.import_version(key, wrapping_key, good).number == 1, "the valid one can still be imported"


def test_private_keys_of_a_wrong_type_or_format_are_rejected(kms, ring, wrapping, rsa_keys):
    wrapping_key = wrapping("rsa_2048_oaep_sha256_aes_256_key_wrap", "wrap_asymmetric_key")
    p256 = ec.generate_private_key(ec.SECP256R1())
    good = pkcs8(p256)
    public_key = p256.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    in_pem = p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    sec1 = p256.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    other_curve = pkcs8(ec.generate_private_key(ec.SECP384R1()))
    koblitz = pkcs8(ec.generate_private_key(ec.SECP256K1()))
    for algorithm, wrong in {
        "ecdsa_p256_sha256": [
            other_curve,
            koblitz,
            pkcs8(rsa_keys[2048]),
            public_key,
            in_pem,
            sec1,
            good[:-1],
            good + b"\0",
            b"\x30\x80",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30" * 4000,
        ],
        "rsa_2048_oaep_sha256": [pkcs8(rsa_keys[3072]), good, pkcs8(rsa_keys[2048])[:-1]],
        "ecdsa_p521_sha512": [good],
    }.items():
        key = kms.key(ring, algorithm, import_only=True)
        for plain in wrong:
            wrapped = wrap(wrapping_key, plain)
            assert_rejected(kms, key, BadRequestException, kms.import_version, key, wrapping_key, wrapped)


def test_a_weak_or_inconsistent_rsa_key_is_rejected(kms, ring, wrapping):
    wrapping_key = wrapping("rsa_2048_oaep_sha256_aes_256_key_wrap", "wrap_asymmetric_key")
    key = kms.key(ring, "rsa_2048_oaep_sha256", import_only=True)
    private = rsa.generate_private_key(65537, 2048)
    numbers, good = private.private_numbers(), pkcs8(private)

    def with_changed_bit(number):
        """The key with one bit of a number changed, so that the numbers are inconsistent."""
        digits = number.to_bytes((number.bit_length() + 7) // 8, "big")
        assert good.count(digits) == 1
        return good.replace(digits, digits[:-1] + bytes([digits[-1] ^ 2]))

    wrong = [with_changed_bit(number) for number in (numbers.p, numbers.q, numbers.d, numbers.public_numbers.n)]
    wrong.append(pkcs8(rsa.generate_private_key(65537, 1024)))
    for plain in wrong:
        assert_rejected(kms, key, BadRequestException, kms.import_version, key, wrapping_key, wrap(wrapping_key, plain))
    # The last number, the coefficient, follows from the others: a wrong one is rejected, or is not used.
    wrapped = wrap(wrapping_key, good[:-1] + bytes([good[-1] ^ 1]))
    try:
        kms.import_version(key, wrapping_key, wrapped)
    except BadRequestException:
        return
    check_use(kms, key, "rsa_2048_oaep_sha256", None, private, 1)


def test_the_wrapping_keys_purpose_must_fit(kms, ring, wrapping, rsa_keys):
    for algorithm, purpose in (("aes_256_gcm", "wrap_asymmetric_key"), ("ecdsa_p256_sha256", "wrap_symmetric_key")):
        wrapping_key = wrapping("rsa_2048_oaep_sha256_aes_256_key_wrap", purpose)
        key = kms.key(ring, algorithm, import_only=True)
        plain, _ = material(algorithm, rsa_keys)
        assert_rejected(kms, key, BadRequestException, kms.import_version, key, wrapping_key, wrap(wrapping_key, plain))


def test_the_wrapping_key_must_exist_in_the_same_ring(kms, ring, wrapping):
    wrapping_key = wrapping("rsa_2048_oaep_sha256", "wrap_symmetric_key")
    wrapped = wrap(wrapping_key, bytes(range(32)))
    other_ring_key = kms.key(kms.ring("other").id, import_only=True)
    assert_rejected(kms, other_ring_key, NotFoundException, kms.import_version, other_ring_key, wrapping_key, wrapped)
    deleted = kms.wrapping_key(ring, "rsa_2048_oaep_sha256", "wrap_symmetric_key")
    wrapped = wrap(deleted, bytes(range(32)))
    kms.api.delete_wrapping_key(**kms.project, key_ring_id=ring, wrapping_key_id=deleted.id)
    key = kms.key(ring, import_only=True)
    with pytest.raises((NotFoundException, ConflictException)):
        kms.import_version(key, deleted, wrapped)


def test_wrapped_keys_must_be_base64(kms, ring, wrapping):
    wrapping_key = wrapping("rsa_2048_oaep_sha256", "wrap_symmetric_key")
    key = kms.key(ring, import_only=True)
    for text in ("", "not base64", "AAA", "@@@@", "AAAA\n"):
        payload = ImportKeyPayload(wrappingKeyId=wrapping_key.id, wrappedKey=text)
        assert_rejected(
            kms, key, BadRequestException, kms.api.import_key, **kms.ids(key), import_key_payload=payload
        )


def test_a_deleted_key_rejects_imports(kms, ring, wrapping):
    wrapping_key = wrapping("rsa_2048_oaep_sha256", "wrap_symmetric_key")
    key = kms.key(ring, import_only=True)
    kms.api.delete_key(**kms.ids(key))
    assert_rejected(
        kms, key, ConflictException, kms.import_version, key, wrapping_key, wrap(wrapping_key, bytes(range(32)))
    )
