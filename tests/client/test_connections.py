"""What a client brings along to the wire: keys, certificates, transports; and what becomes of it after a fork."""

import asyncio
import datetime
import ipaddress
import logging
import os
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from protocol_server import Server, Turn
from stn_client import AsyncClient, Client, ConnectionFailed, NotAllowed

Call = Callable[..., Any]

IMAGES = np.random.default_rng(1).integers(0, 256, (25, 28, 28), np.uint8)
KEY = "a-very-secret-key"


def test_the_key_and_other_headers_go_with_every_request(server: Server, call: Call) -> None:
    call(server.url, "classify", IMAGES, api_key=KEY, headers={"X-Team": "digits"})
    assert len(server.seen) == 4
    for seen in server.seen:
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.headers["x-team"] == "digits"


def test_the_key_may_lie_in_the_environment(server: Server, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STN_API_KEY", KEY)
    call(server.url, "classify", IMAGES[:5])
    assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {KEY}"}


def test_user_and_password_in_the_url_are_sent_and_not_shown(server: Server, call: Call) -> None:
    server.turns = [Turn(hang_up=True)] * 2
    with pytest.raises(ConnectionFailed) as raised:
        call(server.url.replace("http://", "http://me:word@"), "classify", IMAGES[:5], retries=1)
    assert "word" not in str(raised.value)
    assert server.seen[0].headers["authorization"].startswith("Basic ")


def test_the_key_is_in_no_log_and_no_error(server: Server, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.turns = [Turn(401, b"not with that key")]
    with pytest.raises(NotAllowed, match="not with that key") as raised:
        call(server.url, "classify", IMAGES[:5], api_key=KEY)
    assert KEY not in caplog.text
    assert KEY not in "".join(traceback.format_exception(raised.value))


# --- certificates and transports -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate of its own for 127.0.0.1."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + made.public_bytes(pem))
    return file


@pytest.fixture
def secure(server: Server, certificate: Path) -> str:
    """The URL of the server, which speaks TLS and wants to know who asks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server.url.replace("http://", "https://")


def test_certificates_of_both_sides_are_checked(secure: str, certificate: Path, call: Call) -> None:
    known = ssl.create_default_context(cafile=str(certificate))
    known.load_cert_chain(certificate)
    assert len(call(secure, "classify", IMAGES, verify=known).label) == 25
    with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
        call(secure, "classify", IMAGES, retries=0)
    nobody = ssl.create_default_context(cafile=str(certificate))
    with pytest.raises(ConnectionFailed):
        call(secure, "classify", IMAGES, verify=nobody, retries=0)


def test_a_transport_of_the_callers_own_carries_the_requests(server: Server) -> None:
    carried = []

    class Counting(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            carried.append(request.url.path)
            return super().handle_request(request)

    with Client(server.url, transport=Counting()) as client:
        client.classify(IMAGES[:5])
    assert carried == ["/v2", "/v2/models/classify/infer"]


# --- forks -----------------------------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], bool]) -> bool:
    """What ``work`` comes to in a forked process."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # nothing of the tests may go on here, whatever happens
        try:
            os.write(writing, b"yes" if work() else b"no")
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    said = os.read(reading, 9)
    os.close(reading)
    os.waitpid(pid, 0)
    return said == b"yes"


def test_a_forked_process_has_connections_of_its_own(server: Server) -> None:
    with Client(server.url) as client:
        expected = client.classify(IMAGES).label

        def again() -> bool:
            return all(np.array_equal(client.classify(IMAGES).label, expected) for _ in range(3))

        before = {seen.connection for seen in server.seen}
        assert in_a_child(again)
        of_child = {seen.connection for seen in server.seen[4:]}
        assert of_child
        assert not of_child & before
        seen_so_far = len(server.seen)
        assert again()  # and the parent goes on with its own
        assert not {seen.connection for seen in server.seen[seen_so_far:]} & of_child


def test_many_forked_processes_do_not_mix_their_answers(server: Server) -> None:
    with Client(server.url) as client:
        client.classify(IMAGES[:10])
        results = []
        for start in range(0, 15, 5):
            part = IMAGES[start : start + 10]
            results.append(in_a_child(lambda part=part: np.array_equal(client.classify(part).label, part[:, 0, 0])))
        assert results == [True] * 3


def test_an_async_client_that_was_not_used_yet_may_be_used_after_a_fork(server: Server) -> None:
    client = AsyncClient(server.url)

    async def run() -> bool:
        async with client:
            return np.array_equal((await client.classify(IMAGES)).label, IMAGES[:, 0, 0])

    assert in_a_child(lambda: asyncio.run(run()))
    assert asyncio.run(run())
