"""Bring your own key: material wrapped by `cryptography` and by the openssl program, under all eight wrapping
algorithms, for every kind of key; and what is wrong with an upload is told, and nothing of it stays."""

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

from world import ALGORITHMS, WRAPPING_ALGORITHMS, World, client

HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
CURVES = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}


@pytest.fixture(scope="module")
def world():
    return World(client())


@pytest.fixture(scope="module")
def ring(world):
    return world.ring("own-keys").id


@pytest.fixture(scope="module")
def wrapping(world, ring):
    """One wrapping key for each algorithm and purpose, made when first asked for: RSA-4096 takes its time."""
    made = {}

    def of(algorithm, purpose):
        if (algorithm, purpose) not in made:
            made[algorithm, purpose] = world.wrapping_key(ring, algorithm, purpose)
        return made[algorithm, purpose]

    return of


@pytest.fixture(scope="module")
def rsa_keys():
    return {bits: rsa.generate_private_key(65537, bits) for bits in (2048, 3072, 4096)}


def pkcs8(key):
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def material(algorithm, rsa_keys):
    """Fresh material: the bytes to be wrapped, and the private key if it is one."""
    kind, *words = algorithm.split("_")
    if kind == "aes":
        return os.urandom(32), None
    if kind == "hmac":
        return os.urandom(int(words[0][3:]) // 8), None
    key = rsa_keys[int(words[0])] if kind == "rsa" else ec.generate_private_key(CURVES[words[0]]())
    return pkcs8(key), key


def purpose_for(algorithm):
    return "wrap_symmetric_key" if algorithm.startswith(("aes", "hmac")) else "wrap_asymmetric_key"


def oaep(algorithm):
    digest = HASHES["512" if "sha512" in algorithm else "256"]
    return padding.OAEP(mgf=padding.MGF1(digest()), algorithm=digest(), label=None)


def wrap(wrapping_key, material, pad=True):
    """What `cryptography` makes of it: RSA-OAEP alone, or an AES key under it and key wrap (RFC 5649 or 3394) after."""
    public = load_pem_public_key(wrapping_key.public_key.encode())
    if not wrapping_key.algorithm.endswith("_aes_256_key_wrap"):
        return public.encrypt(material, oaep(wrapping_key.algorithm))
    between = os.urandom(32)
    with_padding = keywrap.aes_key_wrap_with_padding if pad else keywrap.aes_key_wrap
    return public.encrypt(between, oaep(wrapping_key.algorithm)) + with_padding(between, material)


def capacity(wrapping_algorithm):
    """How many bytes fit under OAEP."""
    if wrapping_algorithm.endswith("_aes_256_key_wrap"):
        return 1 << 16
    digest = 64 if "sha512" in wrapping_algorithm else 32
    return int(wrapping_algorithm.split("_")[1]) // 8 - 2 * digest - 2


def check_use(world, key, algorithm, plain, private, number):
    """The version holds exactly the material that was wrapped."""
    kind = algorithm.split("_")[0]
    digest = HASHES.get(algorithm[-3:])
    if kind == "aes":
        sealed = world.encrypt(key, b"data", number)
        head, nonce, rest = sealed[:5], sealed[5:17], sealed[17:]
        assert head == b"\x01" + number.to_bytes(4, "big")
        assert AESGCM(plain).decrypt(nonce, rest, head) == b"data"
    elif kind == "hmac":
        expected = hmac.new(plain, b"data", getattr(hashlib, "sha" + algorithm[-3:])).digest()
        assert world.sign(key, b"data", number) == expected
    elif kind == "rsa":
        public = private.public_key()
        assert world.get_version(key, number).public_key == pem(public)
        assert world.decrypt(key, public.encrypt(b"data", oaep(algorithm)), number) == b"data"
    else:
        public = private.public_key()
        assert world.get_version(key, number).public_key == pem(public)
        public.verify(world.sign(key, b"data", number), b"data", ec.ECDSA(digest()))


def pem(public):
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("import_only", [True, False])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("wrapped_by", WRAPPING_ALGORITHMS)
def test_own_material_comes_in_whole(world, ring, wrapping, rsa_keys, wrapped_by, algorithm, import_only):
    plain, private = material(algorithm, rsa_keys)
    wrapping_key = wrapping(wrapped_by, purpose_for(algorithm))
    if len(plain) > capacity(wrapped_by):
        assert algorithm.startswith(("rsa", "ecdsa")), "only private keys are too long for OAEP"
        return
    if not import_only and algorithm.startswith("rsa_4096"):
        return  # Making an RSA-4096 key only to import into it would cost minutes, over all wrapping algorithms.
    key = world.key(ring, algorithm, import_only=import_only)
    version = world.imported(key, wrapping_key, wrap(wrapping_key, plain))
    number = 1 if import_only else 2
    assert (version.number, version.state, version.disabled) == (number, "active", False)
    assert world.get_key(key).state == "active"
    check_use(world, key, algorithm, plain, private, number)


@pytest.mark.parametrize("algorithm", ["aes_256_gcm", "hmac_sha384", "hmac_sha512"])
def test_key_wrap_without_padding_is_taken_too(world, ring, wrapping, rsa_keys, algorithm):
    plain, _ = material(algorithm, rsa_keys)
    wrapping_key = wrapping("rsa_2048_oaep_sha256_aes_256_key_wrap", "wrap_symmetric_key")
    key = world.key(ring, algorithm, import_only=True)
    assert world.imported(key, wrapping_key, wrap(wrapping_key, plain, pad=False)).number == 1
    check_use(world, key, algorithm, plain, None, 1)


def openssl(*arguments, data=None):
    ran = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True)
    return ran.stdout


@pytest.mark.parametrize("wrapped_by", WRAPPING_ALGORITHMS)
def test_openssl_is_a_wrapping_side(world, ring, wrapping, tmp_path, wrapped_by):
    plain, between = os.urandom(32), os.urandom(32)
    wrapping_key = wrapping(wrapped_by, "wrap_symmetric_key")
    public = tmp_path / "public.pem"
    public.write_text(wrapping_key.public_key)
    by_aes = wrapped_by.endswith("_aes_256_key_wrap")
    digest = "sha512" if "sha512" in wrapped_by else "sha256"
    options = ["rsa_padding_mode:oaep", f"rsa_oaep_md:{digest}", f"rsa_mgf1_md:{digest}"]
    words = [word for option in options for word in ("-pkeyopt", option)]
    wrapped = openssl(
        "pkeyutl", "-encrypt", "-pubin", "-inkey", str(public), *words, data=between if by_aes else plain
    )
    if by_aes:
        # RFC 3394 with its own initial value; the program knows key wrap as a cipher.
        wrapped += openssl(
            "enc", "-id-aes256-wrap", "-K", between.hex(), "-iv", "A6" * 8, "-e", data=plain
        )
    key = world.key(ring, import_only=True)
    assert world.imported(key, wrapping_key, wrapped).number == 1
    check_use(world, key, "aes_256_gcm", plain, None, 1)


# --- what is wrong with an upload


def refused_whole(world, key, kind, call, *arguments, **named):
    """The upload is refused with a sentence, and the key is as before."""
    before = (world.get_key(key), world.api.list_versions(**world.of(key)).versions)
    with pytest.raises(kind) as raised:
        call(*arguments, **named)
    assert type(raised.value) is kind
    assert len(raised.value.data.message.split()) > 2
    assert (world.get_key(key), world.api.list_versions(**world.of(key)).versions) == before
    return raised.value.data.message


@pytest.mark.parametrize("wrapped_by", ["rsa_2048_oaep_sha256", "rsa_2048_oaep_sha256_aes_256_key_wrap"])
@pytest.mark.parametrize("length", [0, 1, 16, 24, 31, 33, 64])
def test_material_of_another_length_is_refused(world, ring, wrapping, wrapped_by, length):
    wrapping_key = wrapping(wrapped_by, "wrap_symmetric_key")
    key = world.key(ring, import_only=True)
    if length == 0 and wrapped_by.endswith("_aes_256_key_wrap"):
        return  # Key wrap has no form for nothing.
    refused_whole(
        world, key, BadRequestException, world.imported, key, wrapping_key, wrap(wrapping_key, bytes(length))
    )


@pytest.mark.parametrize("wrapped_by", WRAPPING_ALGORITHMS)
def test_what_does_not_unwrap_is_refused(world, ring, wrapping, wrapped_by):
    wrapping_key = wrapping(wrapped_by, "wrap_symmetric_key")
    key = world.key(ring, import_only=True)
    good = wrap(wrapping_key, os.urandom(32))
    size = int(wrapped_by.split("_")[1]) // 8
    broken = [b"", b"\0", good[:-1], good[1:], good + b"\0", good[:size - 1], bytes(len(good)), b"\xff" * len(good)]
    broken += [bytes([good[0] ^ 1]) + good[1:], good[:-1] + bytes([good[-1] ^ 1]), good + bytes(8), os.urandom(5000)]
    if wrapped_by.endswith("_aes_256_key_wrap"):
        broken += [good[:size], good[:size + 8], good[:size + 16], good[:-8]]
    for wrapped in broken:
        refused_whole(world, key, BadRequestException, world.imported, key, wrapping_key, wrapped)
    sha1 = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=HASHES["256"](), label=None)
    public = load_pem_public_key(wrapping_key.public_key.encode())
    tail = good[size:]
    refused_whole(
        world, key, BadRequestException, world.imported, key, wrapping_key, public.encrypt(bytes(32), sha1) + tail
    )
    assert world.imported(key, wrapping_key, good).number == 1, "the good one still comes in"


def test_private_keys_that_do_not_fit_are_refused(world, ring, wrapping, rsa_keys):
    wrapping_key = wrapping("rsa_2048_oaep_sha256_aes_256_key_wrap", "wrap_asymmetric_key")
    p256 = ec.generate_private_key(ec.SECP256R1())
    good = pkcs8(p256)
    public_half = p256.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    in_pem = p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    sec1 = p256.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    other_curve = pkcs8(ec.generate_private_key(ec.SECP384R1()))
    koblitz = pkcs8(ec.generate_private_key(ec.SECP256K1()))
    for algorithm, wrong in {
        "ecdsa_p256_sha256": [
            other_curve,
            koblitz,
            pkcs8(rsa_keys[2048]),
            public_half,
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
        key = world.key(ring, algorithm, import_only=True)
        for plain in wrong:
            wrapped = wrap(wrapping_key, plain)
            refused_whole(world, key, BadRequestException, world.imported, key, wrapping_key, wrapped)


def test_a_weak_or_inconsistent_rsa_key_is_refused(world, ring, wrapping):
    wrapping_key = wrapping("rsa_2048_oaep_sha256_aes_256_key_wrap", "wrap_asymmetric_key")
    key = world.key(ring, "rsa_2048_oaep_sha256", import_only=True)
    private = rsa.generate_private_key(65537, 2048)
    numbers, good = private.private_numbers(), pkcs8(private)

    def bent(number):
        """One bit of a number inside: the parts no longer fit together."""
        digits = number.to_bytes((number.bit_length() + 7) // 8, "big")
        assert good.count(digits) == 1
        return good.replace(digits, digits[:-1] + bytes([digits[-1] ^ 2]))

    wrong = [bent(number) for number in (numbers.p, numbers.q, numbers.d, numbers.public_numbers.n)]
    wrong.append(pkcs8(rsa.generate_private_key(65537, 1024)))
    for plain in wrong:
        refused_whole(world, key, BadRequestException, world.imported, key, wrapping_key, wrap(wrapping_key, plain))
    # The last number, the coefficient, follows from the others: it is refused, or not used.
    wrapped = wrap(wrapping_key, good[:-1] + bytes([good[-1] ^ 1]))
    try:
        world.imported(key, wrapping_key, wrapped)
    except BadRequestException:
        return
    check_use(world, key, "rsa_2048_oaep_sha256", None, private, 1)


def test_the_wrapping_keys_purpose_must_fit(world, ring, wrapping, rsa_keys):
    for algorithm, purpose in (("aes_256_gcm", "wrap_asymmetric_key"), ("ecdsa_p256_sha256", "wrap_symmetric_key")):
        wrapping_key = wrapping("rsa_2048_oaep_sha256_aes_256_key_wrap", purpose)
        key = world.key(ring, algorithm, import_only=True)
        plain, _ = material(algorithm, rsa_keys)
        refused_whole(world, key, BadRequestException, world.imported, key, wrapping_key, wrap(wrapping_key, plain))


def test_the_wrapping_key_must_be_there_in_the_same_ring(world, ring, wrapping):
    wrapping_key = wrapping("rsa_2048_oaep_sha256", "wrap_symmetric_key")
    wrapped = wrap(wrapping_key, bytes(range(32)))
    elsewhere = world.key(world.ring("elsewhere").id, import_only=True)
    refused_whole(world, elsewhere, NotFoundException, world.imported, elsewhere, wrapping_key, wrapped)
    gone = world.wrapping_key(ring, "rsa_2048_oaep_sha256", "wrap_symmetric_key")
    wrapped = wrap(gone, bytes(range(32)))
    world.api.delete_wrapping_key(**world.place, key_ring_id=ring, wrapping_key_id=gone.id)
    key = world.key(ring, import_only=True)
    with pytest.raises((NotFoundException, ConflictException)):
        world.imported(key, gone, wrapped)


def test_wrapped_keys_must_be_base64(world, ring, wrapping):
    wrapping_key = wrapping("rsa_2048_oaep_sha256", "wrap_symmetric_key")
    key = world.key(ring, import_only=True)
    for text in ("", "not base64", "AAA", "@@@@", "AAAA\n"):
        payload = ImportKeyPayload(wrappingKeyId=wrapping_key.id, wrappedKey=text)
        refused_whole(
            world, key, BadRequestException, world.api.import_key, **world.of(key), import_key_payload=payload
        )


def test_nothing_comes_into_a_deleted_key(world, ring, wrapping):
    wrapping_key = wrapping("rsa_2048_oaep_sha256", "wrap_symmetric_key")
    key = world.key(ring, import_only=True)
    world.api.delete_key(**world.of(key))
    refused_whole(
        world, key, ConflictException, world.imported, key, wrapping_key, wrap(wrapping_key, bytes(range(32)))
    )
