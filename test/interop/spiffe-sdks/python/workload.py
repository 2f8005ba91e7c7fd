"""Workloads written with the Python package `spiffe`. Each verb prints what it sees, one JSON object a line, until it is
told to end. Lies beside the mtls.py of docs/integrations/python.md."""

import json
import platform
import signal
import ssl
import sys
import threading
from http.client import HTTPException, HTTPSConnection
from importlib.metadata import version as version_of

from cryptography.x509 import load_der_x509_certificate
from mtls import Tls, peer_id
from spiffe import JwtSource, JwtSvid, TrustDomain, WorkloadApiClient, X509Source
from spiffe.errors import PySpiffeError

ended = threading.Event()
printing = threading.Lock()


def say(**what):
    with printing:
        print(json.dumps(what), flush=True)


def serial_of(certificate):
    digits = f"{certificate.serial_number:x}"
    return digits.zfill(len(digits) + len(digits) % 2)


def code_of(error):
    """Name of the status, as Go prints it."""
    name = error.__cause__.code().name
    return "".join(word.capitalize() for word in name.split("_"))


def say_state(context):
    svids = [{"id": str(svid.spiffe_id), "serial": serial_of(svid.leaf)} for svid in context.x509_svids]
    bundles = {one.trust_domain.name: len(one.x509_authorities) for one in context.x509_bundle_set.bundles}
    say(svids=svids, bundles=bundles)


def say_jwt_bundles(bundles):
    for bundle in bundles.bundles:
        say(jwtBundle=bundle.trust_domain.name, authorities=len(bundle.jwt_authorities))


def version():
    say(python=platform.python_version(), spiffe=version_of("spiffe"), grpcio=version_of("grpcio"))


def watch():
    """Every stream that there is, on one connection."""

    def fatal(error):
        say(fatal=str(error))
        ended.set()

    with WorkloadApiClient() as client:
        streams = [
            client.stream_x509_contexts(say_state, fatal),
            client.stream_jwt_bundles(say_jwt_bundles, fatal),
        ]
        ended.wait()
        for stream in streams:
            stream.cancel()


def await_identity():
    """Asks again and again until there is an identity."""
    said = ""
    with WorkloadApiClient() as client:
        while not ended.wait(0.02):
            try:
                say_state(client.fetch_x509_context())
                return
            except PySpiffeError as error:
                if code_of(error) != said:
                    said = code_of(error)
                    say(error=said)


def jwt(*audience):
    source = JwtSource()
    svid = source.fetch_svid(audience=set(audience))
    say(id=str(svid.spiffe_id), audience=sorted(svid.audience), token=svid.token)
    source.close()


def validate(trust_domain, *pairs):
    """Pairs of AUDIENCE and TOKEN, each by the bundle alone and by the agent."""
    source = JwtSource()
    bundle = source.get_bundle_for_trust_domain(TrustDomain(trust_domain))
    with WorkloadApiClient() as client:
        for audience, token in zip(pairs[::2], pairs[1::2]):
            try:
                offline = str(JwtSvid.parse_and_validate(token, bundle, {audience}).spiffe_id)
            except PySpiffeError:
                offline = "refused"
            try:
                agent = str(client.validate_jwt_svid(token, audience).spiffe_id)
            except PySpiffeError as error:
                agent = code_of(error)
            say(offline=offline, agent=agent)
    source.close()


def dial(host, port, server):
    """As of the Go program."""
    tls = Tls(X509Source(), ssl.PROTOCOL_TLS_CLIENT)
    said, good = "", 0
    while not ended.wait(0.005):
        try:
            serial, known = greeted(tls, host, int(port), server)
        except (OSError, HTTPException) as error:
            say(failed=repr(error))
            continue
        good += 1
        if serial != said:
            said = serial
            say(serial=serial, knownAs=known)
    say(handshakes=good)


def greeted(tls, host, port, server):
    connection = HTTPSConnection(host, port, context=tls.context, timeout=5)
    try:
        connection.connect()
        if peer_id(connection.sock) != server:
            raise ConnectionError(f"{peer_id(connection.sock)} instead of {server}")
        certificate = connection.sock.getpeercert(binary_form=True)
        connection.request("GET", "/", headers={"Connection": "close"})
        known = connection.getresponse().read().decode().strip()
        return serial_of(load_der_x509_certificate(certificate)), known
    finally:
        connection.close()


verbs = {
    "version": version,
    "watch": watch,
    "await": await_identity,
    "jwt": jwt,
    "validate": validate,
    "dial": dial,
}
signal.signal(signal.SIGTERM, lambda *_: ended.set())
verbs[sys.argv[1]](*sys.argv[2:])
