"""Identities for devices: a certificate in the registry, a thing, a policy.

These functions write to the cloud's folder directly; they work whether or not the cloud runs, and
one that runs sees the change at the next handshake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tools.cloud import pki
from tools.cloud.registry import Registry


@dataclass(frozen=True)
class Identity:
    """A device's certificate and private key (PEM), and the id that the registry knows it by."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    certificate_id: str


def prepare(state: Path) -> pki.Store:
    """Fill the folder with what a cloud keeps there; what exists is left as it is."""
    store = pki.Store(Path(state))
    with store.lock(), Registry(store.state) as registry:
        store.root()
        store.device_ca()
        store.signer()
        for name in ("operator", "claim"):
            pem = store.client(name).cert_pem
            if registry.principal(_id_of(pem)) is None:
                with registry.transaction():
                    registry.attach_policy(name, registry.add_certificate(pem))
    return store


def _id_of(pem: bytes) -> str:
    return pki.certificate_id(pki.x509.load_pem_x509_certificate(pem))


def register_certificate(
    state: Path,
    pem: bytes,
    thing: str | None = None,
    policy: str = "default",
    status: str = "ACTIVE",
) -> str:
    """Register a certificate that was made elsewhere; returns its id.

    With `thing`, the thing is created and attached. Raises RegistryError for a bad certificate,
    thing name, status or an unknown policy; then nothing is changed.
    """
    with Registry(Path(state)) as registry, registry.transaction():
        ident = registry.add_certificate(pem, status)
        registry.attach_policy(policy, ident)
        if thing is not None:
            registry.add_thing(thing)
            registry.attach_thing(thing, ident)
    return ident


def issue_birth(state: Path, thing: str) -> Identity:
    """Make the identity that a module gets at manufacture: P-256, common name = thing name.

    The certificate is ACTIVE, with the default policy and the thing (created when new) attached.
    """
    store = prepare(state)
    key = pki.make_key()
    certificate = pki.sign_client(store.device_ca(), key.public_key(), thing)
    made = pki.Issuer(certificate, key)
    ident = register_certificate(state, made.cert_pem, thing)
    return Identity(made.cert_pem, made.key_pem, ident)


def give_policy(state: Path, thing: str, document: str) -> None:
    """Give the thing's certificate this policy document in place of the ones that it has.

    Raises PolicyError when the document cannot be evaluated whole, RegistryError for a thing
    without exactly one certificate. A live connection is under the new policy within a second.
    """
    with Registry(Path(state)) as registry, registry.transaction():
        ident = registry.find_certificate(thing)
        for name in registry.principal(ident).policies:
            registry.detach_policy(name, ident)
        registry.put_policy(f"only-{thing}"[:128], document)
        registry.attach_policy(f"only-{thing}"[:128], ident)
