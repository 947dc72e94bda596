"""Content credentials, read back by C2PA's own reader, with certificates made here."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from datagen.attachments import newest_attachment, read_attachment
from datagen.cli import main
from datagen.credentials import (
    COMPOSITE_MEDIA,
    CREDENTIALS,
    JSON,
    PNG,
    TRAINED_MEDIA,
    check,
    load_signing_key,
    sign,
)
from datagen.errors import InputError
from datagen.images import encode_png, is_marked_synthetic
from datagen.settings import load_settings
from tests.published import Home, open_home, publish


@dataclass(frozen=True)
class Certificates:
    key: Path
    chain: Path
    root: bytes


def certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Of the authority itself if subject and issuer are one."""
    is_root = subject == issuer
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(usage(is_root), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if not is_root:
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usages, critical=False)
    return builder.sign(signer, hashes.SHA256())


def named(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def usage(is_root: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_root,
        crl_sign=is_root,
        encipher_only=False,
        decipher_only=False,
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("Root", "Root", root_key, root_key)
    leaf = certificate("Signer", "Root", key, root_key)
    pem = serialization.Encoding.PEM
    (folder / "chain.pem").write_bytes(leaf.public_bytes(pem) + root.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificates(folder / "key.pem", folder / "chain.pem", root.public_bytes(pem))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("credentials") / "home"
    publish(load_settings({}, home=folder))
    with open_home(folder) as opened:
        yield opened


def picture() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (28, 28, 1), dtype=np.uint8)
    return encode_png(pixels, text={"datagen": "synthetic", "datagen-attempt": "0" * 64})


def test_a_signed_image_is_valid_and_trusted_by_who_trusts_the_root(
    certificates: Certificates,
) -> None:
    key = load_signing_key(certificates.key, certificates.chain)
    sidecar = sign(picture(), media_type=PNG, title="a.png", origin={"dataset": "a"}, key=key)
    found = check(picture(), sidecar, media_type=PNG, trust_anchors=certificates.root)
    assert (found.is_valid, found.is_trusted, found.problems) == (True, True, ())
    assert found.digital_source_type == TRAINED_MEDIA
    assert found.origin == {"dataset": "a"}
    stranger = check(picture(), sidecar, media_type=PNG)
    assert (stranger.is_valid, stranger.is_trusted) == (True, False)
    assert len(sidecar) < 20_000, "a thumbnail came along"


def test_a_picture_with_real_parts_is_said_to_be_a_composite(certificates: Certificates) -> None:
    key = load_signing_key(certificates.key, certificates.chain)
    origin = {"dataset": "a", "real_parts": True}
    sidecar = sign(picture(), media_type=PNG, title="a.png", origin=origin, key=key)
    found = check(picture(), sidecar, media_type=PNG)
    assert found.digital_source_type == COMPOSITE_MEDIA


def test_a_changed_image_is_told(certificates: Certificates) -> None:
    key = load_signing_key(certificates.key, certificates.chain)
    sidecar = sign(picture(), media_type=PNG, title="a.png", origin={}, key=key)
    changed = bytearray(picture())
    changed[-30] ^= 1
    found = check(bytes(changed), sidecar, media_type=PNG, trust_anchors=certificates.root)
    assert not found.is_valid
    assert "assertion.dataHash.mismatch" in found.problems


def test_a_changed_sidecar_is_told(certificates: Certificates) -> None:
    key = load_signing_key(certificates.key, certificates.chain)
    sidecar = sign(picture(), media_type=PNG, title="a.png", origin={"n": "good"}, key=key)
    changed = sidecar.replace(b"good", b"evil")
    assert changed != sidecar
    assert not check(picture(), changed, media_type=PNG).is_valid
    assert not check(picture(), sidecar[:100], media_type=PNG).is_valid


def test_a_version_is_signed_by_its_manifest_and_its_bytes_stay(
    home: Home, certificates: Certificates, tmp_path: Path
) -> None:
    before = (home.folder() / "manifest.json").read_bytes()
    arguments = ["credentials", "small", "--home", str(home.settings.home), "--json"]
    arguments += ["--key", str(certificates.key), "--cert", str(certificates.chain)]
    arguments += ["--out", str(tmp_path / "out"), "--images"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == 100
    assert (home.folder() / "manifest.json").read_bytes() == before
    attached = newest_attachment(home.catalog, home.version("small"), kind=CREDENTIALS)
    assert attached is not None
    sidecar = read_attachment(home.store, attached)
    found = check(before, sidecar, media_type=JSON, trust_anchors=certificates.root)
    assert found.is_trusted
    assert found.origin["digest"] == home.version("small").digest
    assert not check(before + b" ", sidecar, media_type=JSON).is_valid
    assert (tmp_path / "out" / "manifest.json.c2pa").read_bytes() == sidecar
    images = sorted((tmp_path / "out").rglob("*.png"))
    assert len(images) == 100
    beside = images[17].with_name(images[17].name + ".c2pa").read_bytes()
    one = check(images[17].read_bytes(), beside, media_type=PNG)
    assert one.is_valid
    assert is_marked_synthetic(images[17].read_bytes())
    assert one.origin["key"] == images[17].stem
    assert not check(images[18].read_bytes(), beside, media_type=PNG).is_valid


def test_images_are_written_as_the_policy_of_pulls_allows(
    home: Home, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAGEN_PULL_POLICY", "approved")
    arguments = ["credentials", "small", "--home", str(home.settings.home)]
    arguments += ["--key", str(certificates.key), "--cert", str(certificates.chain)]
    arguments += ["--out", str(tmp_path / "out"), "--images"]
    refused = CliRunner().invoke(main, [*arguments, "--use", "tests"])
    assert refused.exit_code == 7, refused.output
    assert "small@1 is a draft" in refused.output
    assert not (tmp_path / "out").exists()


def test_images_without_a_folder_are_refused(certificates: Certificates) -> None:
    arguments = ["credentials", "small", "--images", "--key", str(certificates.key)]
    done = CliRunner().invoke(main, [*arguments, "--cert", str(certificates.chain)])
    assert done.exit_code == 2
    assert "--out DIR" in done.output


def test_a_key_of_another_certificate_is_refused(
    certificates: Certificates, tmp_path: Path
) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "other.pem").write_bytes(other)
    with pytest.raises(InputError, match=r"other\.pem"):
        load_signing_key(tmp_path / "other.pem", certificates.chain)
    with pytest.raises(InputError, match="private key in PEM"):
        load_signing_key(certificates.chain, certificates.chain)


def test_the_mark_of_a_synthetic_image_is_found_and_only_there() -> None:
    pixels = np.zeros((8, 8, 1), np.uint8)
    marked = encode_png(pixels, text={"other": "x", "datagen": "synthetic"})
    assert is_marked_synthetic(marked)
    for unmarked in (
        encode_png(pixels),
        encode_png(pixels, text={"comment": "datagen synthetic"}),
        b"datagen\0synthetic",
        marked[:40],
        b"",
    ):
        assert not is_marked_synthetic(unmarked)
