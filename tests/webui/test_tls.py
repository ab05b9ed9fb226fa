"""TLS by flags: a real certificate, a real browser, and certificates that are none."""

from __future__ import annotations

import datetime
import ssl
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.sync_api import Browser, expect

from tests.daemon.harness import RealDaemon

from .conftest import MakeViewer
from .test_command import run


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost and 127.0.0.1, and its key."""
    return made_pair(tmp_path, "one")


def made_pair(place: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    files = place / f"{name}.crt", place / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(pem)
    (place / f"{name}.locked").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"phrase"))
    )
    return files


def test_over_tls_the_cookie_is_secure_and_of_this_host_alone(
    make_viewer: MakeViewer, daemon: RealDaemon, pair: tuple[Path, Path], browser: Browser
) -> None:
    flags = ["--host", "localhost", "--tls-cert", str(pair[0]), "--tls-key", str(pair[1])]
    viewer = make_viewer({"one": daemon.data_dir}, *flags).start()
    assert viewer.link.startswith(f"https://localhost:{viewer.port}/login/")
    with browser.new_context(ignore_https_errors=True) as context:
        page = context.new_page()
        page.goto(viewer.link)
        expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
        [cookie] = context.cookies()
        assert cookie["name"].startswith("__Host-agentd-") and cookie["secure"] is True
        assert cookie["httpOnly"] is True and cookie["sameSite"] == "Strict" and cookie["path"] == "/"
    trusting = ssl.create_default_context(cafile=str(pair[0]))
    with urllib.request.urlopen(f"https://localhost:{viewer.port}/healthz", context=trusting, timeout=60) as answer:
        assert answer.status == 200
    assert viewer.stop() == 0


def test_a_certificate_that_is_none_is_named_and_nobody_is_asked_for_a_passphrase(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    certificate, key = map(str, pair)
    other = str(made_pair(tmp_path, "other")[1])
    for flags in (
        ["--tls-cert", certificate],
        ["--tls-cert", key, "--tls-key", key],
        ["--tls-cert", certificate, "--tls-key", other],
        ["--tls-cert", certificate, "--tls-key", str(tmp_path / "one.locked")],
    ):
        found = run(tmp_path, *flags)
        assert found.returncode == 2, flags
        assert f"tls_cert {flags[1]}: with the key in" in found.stderr and "PEM" in found.stderr
    nothing = run(tmp_path, "--tls-cert", "nothing.crt")
    assert nothing.returncode == 2 and "tls_cert nothing.crt: No such file" in nothing.stderr
    missing = run(tmp_path, "--tls-cert", certificate, "--tls-key", "nothing.key")
    assert missing.returncode == 2 and "tls_key nothing.key: No such file" in missing.stderr


def test_a_certificate_and_its_key_may_be_one_file(
    make_viewer: MakeViewer, daemon: RealDaemon, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair[0].read_bytes() + pair[1].read_bytes())
    viewer = make_viewer({"one": daemon.data_dir}, "--tls-cert", str(both)).start()
    assert viewer.link.startswith("https://127.0.0.1:")
