"""Certificates for the registry: files looked at before they are used, and what it means when one side refuses the other."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from saga.errors import DefinitionError


def client_settings(ca: Path | None, certificate: Path | None, key: Path | None) -> dict[str, str]:
    """As the registry's client takes them; raises DefinitionError for files that could never work."""
    files = {"ca": ca, "certificate": certificate, "key": key}
    for name, file in files.items():
        if file is not None and not file.is_file():
            raise DefinitionError(f"SAGA_REGISTRY_{name.upper()}: there is no file {file}; correct the path")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        _refuse_other_authorities(context, ca)
    if certificate is not None:
        _refuse_other_pairs(context, certificate, key)
    return {f"ssl.{name}.location": str(file) for name, file in files.items() if file is not None}


def explained(error: BaseException) -> str | None:
    """What a failed exchange says of certificates, and what to set; None where it says nothing of them."""
    refused = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if isinstance(refused, ssl.SSLCertVerificationError):
        return (
            f"is not believed to be who it says ({refused.verify_message}); "
            f"set SAGA_REGISTRY_CA to the certificates of those who vouch for it (PEM), or correct the address"
        )
    if refused is not None and "ALERT" in (refused.reason or ""):
        return (
            f"does not accept our certificate, or wants one ({(refused.reason or '').lower().replace('_', ' ')}); "
            f"set SAGA_REGISTRY_CERTIFICATE and SAGA_REGISTRY_KEY to a pair that it trusts"
        )
    return None


def _refuse_other_authorities(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise DefinitionError(f"SAGA_REGISTRY_CA: {ca} holds no certificate; expected those of the registry (PEM)") from error


def _refuse_other_pairs(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(certificate, key, password="")  # else an encrypted key would ask the terminal
    except ssl.SSLError as error:
        found, why = f"{certificate} and the key in {key or 'it'}", error.reason or "no key, or one with a passphrase"
        raise DefinitionError(
            f"SAGA_REGISTRY_CERTIFICATE: {found} do not make a pair ({why}); expected a certificate and its own key, not "
            f"encrypted (PEM). Set SAGA_REGISTRY_KEY, or put the key into the certificate's file."
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
