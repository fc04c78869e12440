"""A registry that wants to see a certificate, over real TLS: who has the right one gets in, who has not is told what to set."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from saga import assembly
from saga.contracts.registry import Registry
from saga.errors import DefinitionError, RegistryUnavailable
from saga.settings import Settings

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, signed by itself."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, name: str, folder: Path) -> Identity:
        made = cls(folder / f"{name}.pem", folder / f"{name}.key")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-keyout", made.key, "-out", made.certificate, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
        return made

    def both(self) -> Path:
        """Certificate and key in one file."""
        file = self.certificate.with_suffix(".both.pem")
        file.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())
        return file


class Subjects(BaseHTTPRequestHandler):
    """A registry that has one subject."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'["checkout.Checkout-v1"]')

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


class Guarded(ThreadingHTTPServer):
    """Speaks to those alone whose certificate it knows."""

    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secure:
            try:
                secure.do_handshake()
            except ssl.SSLError:
                with suppress(OSError), socket.socket(fileno=secure.detach()) as raw:  # a reset would overtake what it was told
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(4096):
                        pass
                return
            Subjects(secure, client_address, self)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def server(folder: Path) -> Identity:
    return Identity.of("registry", folder)


@pytest.fixture(scope="module")
def stock(folder: Path) -> Identity:
    return Identity.of("stock", folder)


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Identity:
    return Identity.of("stranger", folder)


@pytest.fixture(scope="module")
def address(server: Identity, stock: Identity) -> Iterator[str]:
    """A registry that lets nobody in but the stock."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(stock.certificate)
    with Guarded(("127.0.0.1", 0), Subjects) as listening:
        listening.context = context
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def registry(address: str, **given: Path) -> Registry:
    found = assembly.registry(Settings.load(registry=address, **{f"registry_{name}": file for name, file in given.items()}))
    assert found is not None
    return found


def test_who_has_the_right_certificate_gets_in_wherever_its_key_is(address: str, server: Identity, stock: Identity) -> None:
    apart = registry(address, ca=server.certificate, certificate=stock.certificate, key=stock.key)
    together = registry(address, ca=server.certificate, certificate=stock.both())

    assert apart.subjects("-v1") == together.subjects("-v1") == ["checkout.Checkout-v1"]


def test_who_has_none_or_that_of_somebody_else_is_told_which_settings_to_make(
    address: str, server: Identity, stranger: Identity
) -> None:
    nobody = registry(address, ca=server.certificate)
    somebody_else = registry(address, ca=server.certificate, certificate=stranger.certificate, key=stranger.key)

    for refused in (nobody, somebody_else):
        with pytest.raises(
            RegistryUnavailable, match=r"does not accept our certificate, or wants one .*set SAGA_REGISTRY_CERTIFICATE and"
        ):
            refused.subjects("-v1")


def test_a_registry_that_nobody_vouches_for_is_not_believed(address: str, stock: Identity) -> None:
    by_nobody = registry(address, certificate=stock.certificate, key=stock.key)
    by_others = registry(address, ca=stock.certificate, certificate=stock.certificate, key=stock.key)

    for unbelieved in (by_nobody, by_others):
        with pytest.raises(RegistryUnavailable, match=r"is not believed to be who it says .*set SAGA_REGISTRY_CA to"):
            unbelieved.subjects("-v1")


def test_files_that_could_never_work_are_refused_before_anybody_is_asked(server: Identity, stock: Identity) -> None:
    where, ca = "https://127.0.0.1:1", server.certificate

    with pytest.raises(DefinitionError, match=r"SAGA_REGISTRY_CA: .*holds no certificate"):
        registry(where, ca=stock.key)
    with pytest.raises(DefinitionError, match=r"do not make a pair.*expected a certificate and its own key"):
        registry(where, ca=ca, certificate=stock.certificate, key=server.key)
    with pytest.raises(DefinitionError, match="SAGA_REGISTRY_KEY"):
        registry(where, ca=ca, certificate=stock.certificate)
    with pytest.raises(DefinitionError, match="SAGA_REGISTRY_CERTIFICATE: there is no file nowhere"):
        registry(where, ca=ca, certificate=Path("nowhere"))


def test_a_key_with_a_passphrase_is_refused_and_no_terminal_is_asked(stock: Identity) -> None:
    locked = stock.key.with_suffix(".locked.key")
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", stock.key, "-out", locked],
        check=True,
        capture_output=True,
    )

    with pytest.raises(DefinitionError, match="not encrypted"):
        registry("https://127.0.0.1:1", certificate=stock.certificate, key=locked)
