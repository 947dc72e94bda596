"""Content credentials (C2PA): signed statements that images and data sets are synthetic.

Sidecars: the images and the version stay as they are. Called by commands/credentials.py. A sidecar
holds the sha256 of the file that it speaks for, so that a changed file is told. c2pa is imported
here alone, inside the functions that need it. Source: C2PA technical specification 2.2, sections
18.9 (c2pa.created) and 11.4 (external manifests); IPTC digital source types.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen import __version__
from datagen.attachments import Kind, attach
from datagen.errors import InputError
from datagen.formats.staging import staged_folder
from datagen.versions import MANIFEST, OpenVersion, manifest_bytes

if TYPE_CHECKING:
    import c2pa

    from datagen.catalog.catalog import Catalog
    from datagen.store import Store

TRAINED_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE_MEDIA = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
ASSERTION = "org.datagen.origin"
SUFFIX = ".c2pa"
CREDENTIALS: Kind = "credentials"
PNG, JSON = "image/png", "application/json"
_MAX_PEM_BYTES = 1 << 20
_MAX_SIDECAR_BYTES = 1 << 24


@dataclass(frozen=True)
class SigningKey:
    """key and chain in PEM; the chain begins with the signer's certificate. algorithm: such as
    ES256."""

    key: bytes
    chain: bytes
    algorithm: str


@dataclass(frozen=True)
class CredentialCheck:
    """is_valid: the signature holds and the file is the one that was signed. is_trusted: its chain
    ends in one of the trust anchors given. problems: C2PA's codes of what is wrong."""

    is_valid: bool
    is_trusted: bool
    problems: tuple[str, ...]
    origin: Mapping[str, Any]
    digital_source_type: str | None


def load_signing_key(key: Path, certificate: Path) -> SigningKey:
    """Raises InputError if the files are no PEM, do not belong together, or cannot sign."""
    _need_c2pa()
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    texts = {path: _read_bounded(path, _MAX_PEM_BYTES) for path in (key, certificate)}
    try:
        private = serialization.load_pem_private_key(texts[key], password=None)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"key {key}: not an unencrypted private key in PEM ({error}); `openssl pkcs8 -topk8 "
            "-nocrypt` writes one"
        ) from None
    try:
        leaf = x509.load_pem_x509_certificates(texts[certificate])[0]
    except ValueError as error:
        raise InputError(f"certificate {certificate}: not certificates in PEM ({error})") from None
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    der = serialization.Encoding.DER
    if leaf.public_key().public_bytes(der, spki) != private.public_key().public_bytes(der, spki):
        raise InputError(
            f"certificate {certificate}: its first certificate is not of key {key}; expected the "
            "signer's certificate first, then its issuers"
        )
    return SigningKey(texts[key], texts[certificate], _algorithm_of(private, key))


def _algorithm_of(private: object, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ec.EllipticCurvePrivateKey):
        found = {256: "ES256", 384: "ES384", 521: "ES512"}.get(private.curve.key_size)
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        found = "ED25519"
    else:
        found = "PS256" if isinstance(private, rsa.RSAPrivateKey) else None
    if found is None:
        raise InputError(
            f"key {path}: C2PA signs with P-256, P-384, P-521, Ed25519 or RSA keys; make one of "
            "those"
        )
    return found


def sign(
    data: bytes, *, media_type: str, title: str, origin: Mapping[str, Any], key: SigningKey
) -> bytes:
    """The sidecar of `data`. origin: what our own assertion says beside "created by a trained
    model"; with real_parts, that a model painted a part. Raises InputError if the certificates are
    not fit for signing."""
    import c2pa

    source_type = COMPOSITE_MEDIA if origin.get("real_parts") else TRAINED_MEDIA

    statement = {
        "claim_generator_info": [{"name": "datagen", "version": __version__}],
        "title": title,
        "format": media_type,
        "assertions": [
            {
                "label": "c2pa.actions",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": source_type}]},
            },
            {"label": ASSERTION, "data": dict(origin)},
        ],
    }
    info = c2pa.C2paSignerInfo(
        alg=getattr(c2pa.C2paSigningAlg, key.algorithm),
        sign_cert=key.chain,
        private_key=key.key,
        ta_url=None,
    )
    # A thumbnail would put the image, in its tens of kilobytes, beside the image.
    context = _context({"builder": {"thumbnail": {"enabled": False}}})
    try:
        builder = c2pa.Builder.from_json(json.dumps(statement), context)
        builder.set_no_embed()
        signer = c2pa.Signer.from_info(info)
        return bytes(builder.sign(signer, media_type, io.BytesIO(data), io.BytesIO()))
    except c2pa.C2paError as error:
        raise InputError(
            f"{title}: cannot be signed ({error}); C2PA wants a certificate for digital signatures "
            "(key usage) and e-mail or document signing (extended key usage), with its issuers"
        ) from None


def check(
    data: bytes, sidecar: bytes, *, media_type: str, trust_anchors: bytes | None = None
) -> CredentialCheck:
    """Whether the sidecar speaks for these very bytes. trust_anchors: root certificates, PEM."""
    _need_c2pa()
    import c2pa

    settings: dict[str, Any] = {}
    if trust_anchors is not None:
        settings = {
            "trust": {"trust_anchors": trust_anchors.decode()},
            "verify": {"verify_trust": True},
        }
    try:
        reader = c2pa.Reader(
            media_type, io.BytesIO(data), manifest_data=sidecar, context=_context(settings)
        )
        content = json.loads(reader.json())
        state = str(reader.get_validation_state())
    except c2pa.C2paError as error:
        return CredentialCheck(False, False, (str(error)[:200],), {}, None)
    problems = tuple(str(each["code"]) for each in content.get("validation_status") or ())
    assertions = {
        str(each["label"]): each["data"]
        for each in content["manifests"][content["active_manifest"]]["assertions"]
    }
    labels = [label for label in assertions if label.startswith("c2pa.actions")]
    actions = assertions[labels[0]] if labels else {}
    created = [a for a in actions.get("actions", ()) if a.get("action") == "c2pa.created"]
    return CredentialCheck(
        is_valid=state in ("Valid", "Trusted"),
        is_trusted=state == "Trusted",
        problems=problems,
        origin=assertions.get(ASSERTION, {}),
        digital_source_type=created[0].get("digitalSourceType") if created else None,
    )


def sign_version(
    catalog: Catalog, store: Store, version: OpenVersion, *, key: SigningKey
) -> tuple[bytes, bytes]:
    """manifest.json and its sidecar, which is attached to the version. The manifest names every
    object's sha256, so that this one signature covers all images."""
    data = manifest_bytes(store, version.prefix, sha256=version.row.manifest_sha256)
    sidecar = sign(data, media_type=JSON, title=MANIFEST, origin=_origin(version), key=key)
    found = check(data, sidecar, media_type=JSON)
    attach(
        catalog,
        store,
        version.row,
        kind=CREDENTIALS,
        file_name=MANIFEST + SUFFIX,
        data=sidecar,
        summary={"valid": found.is_valid, "signs": MANIFEST, "algorithm": key.algorithm},
    )
    return data, sidecar


def export_credentials(
    version: OpenVersion,
    signed: tuple[bytes, bytes],
    folder: Path,
    *,
    key: SigningKey,
    with_images: bool,
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes manifest.json and its sidecar; with images also {split}/{class}/{key}.png and theirs.

    Whole or not at all. Raises InputError if `folder` is there, VerifyError if an image changed.
    """
    data, sidecar = signed
    with staged_folder(folder) as partial:
        (partial / MANIFEST).write_bytes(data)
        (partial / (MANIFEST + SUFFIX)).write_bytes(sidecar)
        if with_images:
            for done in _sign_images(version, partial, key=key):
                report(done)


def _sign_images(version: OpenVersion, folder: Path, *, key: SigningKey) -> Iterator[int]:
    for done, sample in enumerate(version.reader.iter_samples(), start=1):
        record = sample.record
        path = folder / record["split"] / record["class_name"] / f"{sample.key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        origin = _origin(version) | {
            name: record[name] for name in ("attempt_key", "class_name", "key")
        }
        sidecar = sign(sample.png, media_type=PNG, title=path.name, origin=origin, key=key)
        path.write_bytes(sample.png)
        path.with_name(path.name + SUFFIX).write_bytes(sidecar)
        yield done


def _origin(version: OpenVersion) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "dataset": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "recipe_digest": manifest.recipe_digest,
        "model": manifest.model,
        **({"real_parts": True} if manifest.has_real_parts else {}),
    }


def _context(settings: Mapping[str, Any]) -> c2pa.Context:
    import c2pa

    builder = c2pa.ContextBuilder()
    if settings:
        builder = builder.with_settings(c2pa.Settings.from_json(json.dumps(settings)))
    return builder.build()


def _need_c2pa() -> None:
    try:
        import c2pa  # noqa: F401
    except ImportError:
        raise InputError(
            "content credentials need c2pa-python, which is not installed; "
            "`pip install 'datagen[c2pa]'`"
        ) from None


def _read_bounded(path: Path, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"file {path}: cannot be read ({error.strerror})") from None
    if len(data) > limit:
        raise InputError(f"file {path}: expected at most {limit} bytes")
    return data
