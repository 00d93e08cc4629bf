# SPDX-License-Identifier: 0BSD
"""The specification of cdp_jwt, in the module's order; `make test` runs it.

Tokens are checked by two independent verifiers (PyJWT and joserfc), keys are made and
compared with `cryptography`, and published vectors are cited where they are used. No test
sends anything to another machine than this one.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import concurrent.futures
import contextlib
import copy
import dataclasses
import datetime
import decimal
import difflib
import email.message
import email.utils
import enum
import errno
import functools
import gc
import hashlib
import http.client
import http.server
import inspect
import io
import itertools
import json
import logging
import multiprocessing
import os
import pathlib
import pickle
import random
import re
import runpy
import secrets
import select
import shlex
import shutil
import signal
import socket
import socketserver
import ssl
import stat
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import traceback
import types
import unittest.mock
import urllib.parse
import urllib.request
import warnings
import xml.etree.ElementTree
import zipfile
from collections.abc import Callable, Iterator
from math import inf
from multiprocessing.pool import ThreadPool

import cryptography_vectors
import httpx
import joserfc.jwk
import joserfc.jws
import joserfc.jwt
import jwt
import pytest
import requests
import trustme
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import PrivateFormat, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_jwt

HERE = pathlib.Path(__file__).resolve().parent
MODULE = pathlib.Path(cdp_jwt.__file__).resolve()
VECTORS = pathlib.Path(cryptography_vectors.__file__).parent / "asymmetric"
NAME = "organizations/d5a7e9c1-0000-4000-8000-3a1b5c7d9e0f/apiKeys/1b2c3d4e-0000-4000-8000-a0b1c2d3e4f5"
UUID = "1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9"
Encoding = serialization.Encoding
ACCOUNTS = "/api/v3/brokerage/accounts"
ORDERS = "/api/v3/brokerage/orders"
TIME = "/api/v3/brokerage/time"
NOW = 1_800_000_000


# ------------------------------------------------- what a machine may lack, by name

has_shell = os.name == "posix" and shutil.which("sh")
is_cpython = sys.implementation.name == "cpython"
needs_modes = pytest.mark.skipif(os.name != "posix", reason="needs file modes")
needs_shell = pytest.mark.skipif(not has_shell, reason="needs a POSIX shell")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_cpython = pytest.mark.skipif(not is_cpython, reason="is about CPython's own ways")


# --------------------------------------------------------------------- the domain
#
# Keys, texts of callers, and the two verifiers that each token is shown to.


def pem(private_key, form=PrivateFormat.TraditionalOpenSSL) -> str:
    unencrypted = serialization.NoEncryption()
    return private_key.private_bytes(Encoding.PEM, form, unencrypted).decode()


def pkcs8(private_key) -> str:
    return pem(private_key, PrivateFormat.PKCS8)


def body(pem_text: str) -> str:
    """The base64 between BEGIN and END, without line breaks."""
    return "".join(line for line in pem_text.splitlines() if "-----" not in line)


def raw(private_key) -> bytes:
    unencrypted = serialization.NoEncryption()
    return private_key.private_bytes(Encoding.Raw, PrivateFormat.Raw, unencrypted)


def code_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def portal(private_key) -> str:
    """An Ed25519 secret as the portal hands it out: base64 of seed and public key."""
    public = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(raw(private_key) + public).decode()


def public_pem(private_key) -> str:
    form = PublicFormat.SubjectPublicKeyInfo
    return private_key.public_key().public_bytes(Encoding.PEM, form).decode()


def short(value: object) -> str:
    """What of a row of a table names its test."""
    return str(value)[:40]


# Throwaway keys, the same in each run.
P256 = ec.derive_private_key(int.from_bytes(b"cdp_jwt" * 4, "big"), ec.SECP256R1())
OTHER_P256 = ec.derive_private_key(0xC0FFEE << 200, ec.SECP256R1())
ED_SEED = hashlib.sha256(b"cdp_jwt").digest()
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(ED_SEED)
SEC1 = pem(P256)
PKCS8 = pkcs8(P256)
PORTAL = portal(ED25519)
BARE_SEED = base64.b64encode(ED_SEED).decode()
PRIVATE_KEYS = {"ES256": P256, "EdDSA": ED25519}
SECRETS = {"ES256": SEC1, "EdDSA": PORTAL}


def key_of(algorithm: str = "ES256") -> cdp_jwt.ApiKey:
    return cdp_jwt.ApiKey(NAME, SECRETS[algorithm])


@pytest.fixture(params=["ES256", "EdDSA"])
def algorithm(request) -> str:
    return request.param


@pytest.fixture
def private_key(algorithm):
    return PRIVATE_KEYS[algorithm]


@pytest.fixture
def key(algorithm) -> cdp_jwt.ApiKey:
    return key_of(algorithm)


# What of a developer's environment would change a test; PYTHONIOENCODING is tox's.
FOREIGN_VARIABLES = re.compile(
    "(?i)(CDP|COINBASE)_.*|(HTTPS|NO)_PROXY|SSL_CERT_(FILE|DIR)|SSLKEYLOGFILE|PYTHONIOENCODING"
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for variable in filter(FOREIGN_VARIABLES.fullmatch, list(os.environ)):
        monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "argv", ["cdp_jwt.py"])


@pytest.fixture(autouse=True)
def closed_clients(monkeypatch):
    original = cdp_jwt.Client.__init__
    with contextlib.ExitStack() as clients:

        @functools.wraps(original)
        def remember(self, *arguments, **options):
            original(self, *arguments, **options)
            clients.callback(self.close)

        monkeypatch.setattr(cdp_jwt.Client, "__init__", remember)
        yield


@pytest.fixture(autouse=True)
def this_machine_alone(monkeypatch):
    connect = socket.socket.connect

    def checked(sock: socket.socket, address) -> None:
        assert address[0] in ("127.0.0.1", "::1", "localhost")
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", checked)


def test_no_test_connects_to_another_machine():
    """Those of other programs are kept at home by what they are given."""
    with socket.socket() as sock, pytest.raises(AssertionError):
        sock.connect(("192.0.2.1", 443))


def write_private(path: pathlib.Path, content: object) -> pathlib.Path:
    """Write octets, a text, or JSON, to a file that its owner alone can read."""
    text = content if isinstance(content, (bytes, str)) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


@pytest.fixture
def key_file(tmp_path) -> pathlib.Path:
    """The portal's key file of today."""
    fields = {"id": NAME, "privateKey": SEC1}
    return write_private(tmp_path / "cdp_api_key.json", fields)


@pytest.fixture
def frozen(monkeypatch) -> int:
    monkeypatch.setattr(time, "time", lambda: NOW + 0.9)
    return NOW


@pytest.fixture
def stdin(monkeypatch) -> Callable[[str], None]:
    def feed(text: str) -> None:
        octets = io.BytesIO(text.encode())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(octets, encoding="utf-8"))

    return feed


Result = collections.namedtuple("Result", "code out err")


@pytest.fixture
def run(capsys) -> Callable[..., Result]:
    """The command as a function."""
    return lambda *words: Result(cdp_jwt.main(list(words)), *capsys.readouterr())


# Not strict, as Coinbase's `nonce` is no registered header parameter.
JOSERFC = joserfc.jws.JWSRegistry(algorithms=SECRETS, strict_check_header=False)


def verified(token: str, private_key) -> dict:
    """Check a token with PyJWT and joserfc; return its header and claims as one dict."""
    is_ed25519 = isinstance(private_key, ed25519.Ed25519PrivateKey)
    algorithm, kind = ("EdDSA", "OKP") if is_ed25519 else ("ES256", "EC")
    # The times are tested by themselves: a token may be one for a later window.
    untimed = {"verify_exp": False, "verify_nbf": False}
    claims = jwt.decode(token, private_key.public_key(), [algorithm], options=untimed)
    jwk = joserfc.jwk.import_key(public_pem(private_key), kind)
    seen = joserfc.jwt.decode(token, jwk, registry=JOSERFC)
    assert seen.claims == claims
    assert seen.header == jwt.get_unverified_header(token)
    return {**seen.header, **claims}


def segments(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "==") for part in token.split(".")]


# A text that is shown, compared and hashed as another one than it holds.
LIES = dict.fromkeys(("__str__", "__repr__", "__format__"), lambda *_: "/lie")
LIES |= {"__eq__": lambda *_: True, "__hash__": lambda _: 7}
Lying = type("Lying", (str,), LIES)
# A text none of whose own methods may be called, but those that each `object` has.
OWN_METHODS = vars(str).keys() - vars(object).keys() | {"__str__", "__format__"}
Raising = type("Raising", (str,), dict.fromkeys(OWN_METHODS))  # `None()` raises


def member(text: str) -> str:
    """A member of an Enum that is a str: from Python 3.11 on it formats as its name."""
    return enum.Enum("Endpoint", {"X": text}, type=str).X


CALLERS = {"Enum": member, "a lying subclass": Lying, "a raising subclass": Raising}
NO_TEXTS = [None, b"/x", 7, 1.5, True, ["/x"], {"x": 1}, ..., unittest.mock.Mock(spec=str)]  # fmt: skip


# Texts at random. `make fuzz` sets how many examples of each property there are.


def examples(few: int) -> settings:
    count = int(os.environ.get("HYPOTHESIS_EXAMPLES", few))
    checks = list(HealthCheck)
    return settings(max_examples=count, deadline=None, suppress_health_check=checks)


JSON_SCALARS = st.none() | st.booleans() | st.integers() | st.floats()
JSON_SCALARS |= st.text(max_size=9)
JSON_LISTS = st.lists(JSON_SCALARS | st.lists(JSON_SCALARS, max_size=1), max_size=2)
JSON_OBJECTS = st.dictionaries(st.text(max_size=4), JSON_SCALARS, max_size=2)
JSON_VALUES = JSON_SCALARS | JSON_LISTS | JSON_OBJECTS
PIECES = ["\\n", *'\n\r"= /{A\0', "-----", "\ufeff", "\x1b[2J", ""]


@st.composite
def mutations(draw, texts: list[str]) -> str:
    """One of the texts, up to three times cut, patched, doubled or turned round."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.sampled_from([0, 1, 1, 2, 4, 8, 64]))
        piece = text[start:end]
        pieces = [piece * 2, piece[::-1], piece.swapcase(), piece + text[:9]]
        paste = draw(st.text(max_size=3) | st.sampled_from([*PIECES, *pieces]))
        text = text[:start] + paste + text[end:]
    return text


def flipped(text: str, at: int) -> str:
    """The text with one character of its base64 exchanged."""
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


# ------------------------------------------------- the search for leaked secrets
#
# An error holds nothing of a secret, whoever shows it, and in whichever way. Nothing is
# exempt from the search but the functions of this file that made the call.


def windows(text: str) -> set[str]:
    return {text[i : i + 12] for i in range(len(text) - 11)}


@functools.cache
def fragments(secret: str) -> set[str]:
    """Each run of 12 characters of a secret's base64, and of its octets in hex."""
    text = re.sub(r"-----[A-Z0-9 ]+-----", "|", secret.replace(NAME, "|"))
    found = set()
    for run in re.findall("[A-Za-z0-9+/=_-]{16,}", re.sub(r"\\+[rn]|\s", "", text)):
        found |= windows(run)
        with contextlib.suppress(ValueError):
            digits = run.replace("-", "+").replace("_", "/").rstrip("=")
            octets = base64.b64decode(digits + "=" * (-len(digits) % 4))
            found |= windows(octets.hex())
            found |= fragments(octets.decode())
    return {each for each in found if not re.search("PRIVATE|BEGIN|END|---", each)}


def leaks(text: str, secret: str) -> list[str]:
    return sorted(fragments(secret) & windows(text))


def texts_in(value: object, depth: int = 4) -> Iterator[str]:
    """What can be read out of a variable."""
    yield repr(value)
    inner = ()
    if isinstance(value, str):
        yield str.__str__(value)
    elif isinstance(value, (bytes, bytearray)):
        yield value.hex()
    elif isinstance(value, int):
        yield f"{value:x}"
    elif isinstance(value, collections.abc.Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set)):
        inner = value
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType)):
        inner = list(vars(value).values())
    for each in inner if depth else ():
        yield from texts_in(each, depth - 1)


def reported(error: BaseException | None) -> Iterator[str]:
    """What error reporters show: the error, and each variable on its way."""
    if error is None:
        return
    attributes = [name for name in dir(error) if not name.startswith("__")]
    yield str(error)
    # An OSError says of some of its attributes that they are not there.
    yield from texts_in([getattr(error, name, None) for name in attributes])
    yield from texts_in(vars(error))  # with its notes
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    is_ours = [frame.f_globals is globals() for frame in frames]
    callers = [*is_ours, False].index(False)
    for frame in frames[callers:]:
        yield from texts_in(dict(frame.f_locals))
    yield from reported(error.__cause__)
    if error.__context__ is not error.__cause__:
        yield from reported(error.__context__)


def assert_secret_free(error: BaseException, secret: str) -> None:
    for text in reported(error):
        assert not leaks(text, secret), text
    assert error.__cause__ is None
    assert error.__context__ is None


def refused(call: Callable, secret: str = "", kind=cdp_jwt.InvalidKeyError) -> str:
    """The message of the error that `call` raises, found free of `secret`."""
    with pytest.raises(kind) as caught:
        call()
    assert_secret_free(caught.value, secret)
    return str(caught.value)


def refused_key(secret: object, name: object = NAME) -> str:
    return refused(lambda: cdp_jwt.ApiKey(name, secret), f"{secret}|{name}")


HIDING_PLACES = [  # what a function does with a secret before its error
    "error.args = ('x', [secret[20:40]]); del secret",
    "error.__notes__ = [secret]; del secret",
    "error.__cause__ = KeyError(secret); del secret",
    "error.__context__ = KeyError(secret); del secret",
    "pass",
    "box = [{'x': {7: (secret,)}}]; del secret",
    "box = error; box.x = secret; del secret",
    "secret = b64decode(secret)[3:]",
    "secret = int(b64decode(secret).hex(), 16)",
    "box = iter([secret]); del secret; (lambda text: float('x'))(next(box))",
]


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_search_for_leaks_finds_a_secret_in_each_hiding_place(place):
    """In a function that is not this file's, as those of the module are not."""
    before, after = "error = errors[0]", "del error; raise errors.pop()"
    module = {"b64decode": base64.b64decode}
    exec(f"def call(errors, secret): {before}; {place}; {after}", module)
    with pytest.raises(ValueError) as caught:
        module["call"]([ValueError()], PORTAL)
    assert any(leaks(text, PORTAL) for text in reported(caught.value))


# --------------------------------------------------------------------- 2. errors
#
# Errors are of one family, can be caught as Python's own, and hold no key text.


def test_errors_share_a_base_and_are_builtin_errors_too():
    base = cdp_jwt.CdpError
    assert cdp_jwt.InvalidKeyError.__bases__ == (base, ValueError)
    assert cdp_jwt.InvalidRequestError.__bases__ == (base, ValueError)
    assert cdp_jwt.TransportError.__bases__ == (base, OSError)
    assert cdp_jwt.ApiError.__bases__ == (base,)


def test_errors_of_calls_have_all_attributes_and_can_be_pickled():
    error = cdp_jwt.ApiError("HTTP 400: no")
    assert (error.status, error.body, error.hints) == (0, b"", ())
    assert (error.headers.items(), error.headers["Date"]) == ([], None)
    assert error.outcome_unknown is cdp_jwt.TransportError("x").outcome_unknown is False
    given = {"status": 500, "body": b"z", "hints": ("y",), "outcome_unknown": True}
    copied = pickle.loads(pickle.dumps(cdp_jwt.ApiError("x", **given)))
    assert (str(copied), vars(copied)) == ("x", {**vars(copied), **given})
    unknown = cdp_jwt.TransportError("x", outcome_unknown=True)
    copied = pickle.loads(pickle.dumps(unknown))
    assert (str(copied), copied.outcome_unknown) == ("x", True)


PanicException = type("PanicException", (BaseException,), {})  # of Rust, pyo3's
# As of frameworks: no Exception, and not made without arguments.
Cancelled = type("Cancelled", (BaseException,), {"__init__": lambda self, reason: None})
UNFORESEEN = [MemoryError, RecursionError, TypeError, KeyError, OSError, PanicException]
INTERRUPTIONS = [KeyboardInterrupt(), SystemExit(3), Cancelled("late")]


def raising(error: BaseException) -> Iterator[str]:
    """An argument of a caller that raises when it is looked at."""
    raise error
    yield


def test_error_that_nobody_foresaw_is_an_invalid_key_error(algorithm):
    """Its own words are not shown: they may be those of the key."""
    secret = SECRETS[algorithm]
    for kind in UNFORESEEN:
        make = functools.partial(cdp_jwt.ApiKey, NAME, secret, raising(kind(secret)))
        expected = f"an unexpected {kind.__name__}; are all arguments as documented?"
        assert refused(make, secret) == expected
        place = unittest.mock.Mock(os.PathLike)
        place.__fspath__ = unittest.mock.Mock(side_effect=kind(secret))
        read = functools.partial(cdp_jwt.ApiKey.from_file, place)
        assert refused(read, secret) == expected


@pytest.mark.parametrize("interruption", INTERRUPTIONS, ids=repr)
def test_interruption_goes_on_as_it_is_but_without_key_text(interruption, algorithm):
    secret = SECRETS[algorithm]
    interruption.__context__ = KeyError(secret)
    with pytest.raises(type(interruption)) as caught:
        cdp_jwt.ApiKey(NAME, secret, raising(interruption))
    assert caught.value is interruption
    assert_secret_free(interruption, secret)


ARGUMENTS = {"name": NAME, "secret": PORTAL, "key_var": NAME, "secret_var": PORTAL, "method": "GET",
             "uri": "GET api.coinbase.com/x", "channel": "user", "token": "x", "path": "/x",
             "url_or_path": "/x", "request": None}  # fmt: skip
TAKE_ARGUMENTS = [
    cdp_jwt.ApiKey, cdp_jwt.ApiKey.from_file, cdp_jwt.ApiKey.from_env, cdp_jwt.ApiKey.rest_jwt,
    cdp_jwt.ApiKey.ws_jwt, cdp_jwt.format_jwt_uri, cdp_jwt.ws_message, cdp_jwt.build_ws_jwt,
    cdp_jwt.build_rest_jwt, cdp_jwt.inspect_jwt, cdp_jwt.Client, cdp_jwt.Client.request,
    cdp_jwt.Client.get, cdp_jwt.Client.head, cdp_jwt.Client.post, cdp_jwt.Client.put,
    cdp_jwt.Client.patch, cdp_jwt.Client.delete, cdp_jwt.Client.pages,
]  # fmt: skip


@pytest.mark.parametrize("function", TAKE_ARGUMENTS, ids=lambda each: each.__qualname__)
def test_key_text_as_any_argument_is_in_no_frame_and_no_log(
    function, algorithm, monkeypatch, caplog
):
    """Whether it is refused, fits no parameter, or the call fails without a network."""
    caplog.set_level(logging.DEBUG, "cdp_jwt")
    no_network = unittest.mock.Mock(side_effect=socket.gaierror(-2, "unknown"))
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    secret = SECRETS[algorithm]
    parameters = [*inspect.signature(function).parameters, "of no such name"]
    needed = {each: ARGUMENTS[each] for each in parameters if each in ARGUMENTS}
    if parameters[0] == "self":
        is_key = "ApiKey" in function.__qualname__
        needed["self"] = key_of() if is_key else cdp_jwt.Client(key_of(), retries=0)
    for parameter in parameters[parameters[0] == "self" :]:
        errors = 0
        for text in (secret, [secret], {"x": secret}, {secret: "x"}):
            try:
                list(function(**{**needed, parameter: text}))
            except Exception as error:
                assert_secret_free(error, secret)
                errors += 1
        assert errors, parameter
    assert not leaks(urllib.parse.unquote(caplog.text), secret)


@needs_modes
def test_handler_of_the_modules_log_sees_no_key_text(key_file, monkeypatch):
    """Not even one that records the variables of its callers."""
    seen = []

    def record_variables(_) -> None:
        for frame, _ in traceback.walk_stack(None):
            if frame.f_globals is vars(cdp_jwt):
                seen.extend(texts_in(dict(frame.f_locals)))

    monkeypatch.setattr(logging.getLogger("cdp_jwt"), "filters", [record_variables])
    key_file.chmod(0o644)
    cdp_jwt.ApiKey.from_file(key_file)
    assert seen
    assert not leaks("".join(seen), SEC1)


# ----------------------------------------------------------------------- 3. keys
#
# Every form of a key that is seen in the wild is accepted, and what was mended is said;
# everything else is refused with its name and a remedy; no error holds key text.

# The forms of a key, as the tools that write them lay them out.


def lines_of(text: str, width: int) -> str:
    return "\n".join(text[i : i + width] for i in range(0, len(text), width))


def as_pem(octets: bytes, label: str = "PRIVATE KEY") -> str:
    lines = lines_of(base64.b64encode(octets).decode(), 64)
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


# ECDSA P-256 by RFC 5915 (SEC1) and 5208, in hex: scalar, point, curve and kind.
D = f"{P256.private_numbers().private_value:064x}"
UNCOMPRESSED = PublicFormat.UncompressedPoint
POINT = P256.public_key().public_bytes(Encoding.X962, UNCOMPRESSED).hex()
P256_ID = "06082a8648ce3d030107"
EC_ID = f"301306072a8648ce3d0201{P256_ID}"
WINDOWS_USAGE = "a00d300b0603551d0f310403020080"


def from_hex(digits: str, label: str = "PRIVATE KEY") -> str:
    return as_pem(bytes.fromhex(digits), label)


def loaded(text: str):
    return serialization.load_pem_private_key(text.encode(), None)


PEMS = {  # two as BouncyCastle's getEncoded() and .NET's ExportPkcs8PrivateKey() write
    "SEC1": SEC1,
    "PKCS8": PKCS8,
    "BouncyCastle": from_hex(f"308193020100{EC_ID}047930770201010420{D}a00a{P256_ID}a144034200{POINT}"),
    "Windows": from_hex(f"308196020100{EC_ID}046d306b0201010420{D}a144034200{POINT}{WINDOWS_USAGE}"),
    "Ed25519": pkcs8(ED25519),
}  # fmt: skip
BARE = {"portal": PORTAL, "seed": BARE_SEED}
BARE |= {f"{form} without PEM lines": body(text) for form, text in PEMS.items()}
del BARE["PKCS8 without PEM lines"]  # that is what a CDP wallet secret looks like
FORMS = {**PEMS, **BARE}
UNPROVEN_FORMS = ("seed", "Ed25519", "Ed25519 without PEM lines")
PROVEN_BARE = {form: BARE[form] for form in BARE.keys() - UNPROVEN_FORMS}


# A key is proven by its public part.


@pytest.mark.parametrize("form", ["portal", "SEC1", "PKCS8", "BouncyCastle", "Windows"])
def test_no_key_with_a_flipped_bit_is_accepted(form):
    """Each bit of each octet. In a seed alone they would make another key."""
    text = FORMS[form]
    octets = base64.b64decode(body(text))
    accepted = []
    for bit in range(8 * len(octets)):
        damaged = int.from_bytes(octets, "little") ^ 1 << bit
        code = base64.b64encode(damaged.to_bytes(len(octets), "little")).decode()
        secret = text.replace("\n", "").replace(body(text), code)
        with contextlib.suppress(cdp_jwt.InvalidKeyError):
            cdp_jwt.ApiKey(NAME, secret)
            accepted.append(bit)
    assert accepted == []


def test_no_key_with_an_octet_too_many_or_too_few_is_accepted():
    for form in FORMS.keys() - {"seed"}:
        octets = base64.b64decode(body(FORMS[form]))
        for changed in (octets + b"\0", b"\0" + octets, octets[:-1], octets[1:]):
            code = base64.b64encode(changed).decode()
            refused_key(FORMS[form].replace("\n", "").replace(body(FORMS[form]), code))


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BEYOND = "this key is damaged: its secret part is too small or too large for P-256"


@pytest.mark.parametrize("scalar", [0, 1, ORDER - 1, ORDER, ORDER + 1])
def test_p256_scalar_is_from_1_to_below_the_order(scalar):
    """`cryptography` up to 42 derives a key even from order + 1, whose DER agrees."""
    private_key = ec.derive_private_key(scalar % ORDER or 1, ec.SECP256R1())
    digits = base64.b64decode(body(pem(private_key))).hex()
    secret = from_hex(digits[:14] + f"{scalar:064x}" + digits[78:], "EC PRIVATE KEY")
    if scalar in (1, ORDER - 1):
        assert cdp_jwt.ApiKey(NAME, secret).algorithm == "ES256"
    else:
        assert refused_key(secret) == BEYOND + AGAIN


def test_ed25519_public_key_is_the_same_on_every_cryptography():
    """Up to 39 there is no public_bytes_raw; both ways give the octets of the key."""
    public_key = ED25519.public_key()
    older = types.SimpleNamespace(public_bytes=public_key.public_bytes)
    octets = base64.b64decode(PORTAL)[32:]
    assert cdp_jwt._raw_public(older) == cdp_jwt._raw_public(public_key) == octets


def vector(name: str) -> str:
    return (VECTORS / name).read_text(encoding="utf-8")


def test_every_key_file_of_cryptographys_vectors_is_taken_rightly_or_refused():
    accepted = refusals = 0
    for path in VECTORS.rglob("*"):
        if path.suffix not in (".pem", ".key", ".pub"):
            continue
        text = path.read_text(encoding="utf-8")
        try:
            key = cdp_jwt.ApiKey(NAME, text)
        except cdp_jwt.InvalidKeyError as error:
            assert_secret_free(error, text)
            assert "unexpected" not in str(error), path
            refusals += 1
        else:
            verified(key.ws_jwt(), loaded(text))
            accepted += 1
    assert accepted == 6
    assert refusals >= 145


@pytest.mark.parametrize("kind", [UnsupportedAlgorithm, ValueError, InternalError])
def test_openssl_that_refuses_is_named(monkeypatch, kind, algorithm):
    """Which error `cryptography` raises under FIPS depends on its version."""
    message = (
        f"this OpenSSL refuses the key ({kind.__name__}); is FIPS on? See"
        " OPENSSL_CONF, and use ECDSA P-256 where Ed25519 is refused"
    )
    refusing = unittest.mock.Mock(side_effect=kind("Unknown OpenSSL error", []))
    refusing.from_private_bytes = refusing
    secret = SECRETS[algorithm]
    key = key_of(algorithm)
    object.__setattr__(key, "_sign", refusing)
    monkeypatch.setattr(cdp_jwt.ec, "derive_private_key", refusing)
    monkeypatch.setattr(cdp_jwt.ed25519, "Ed25519PrivateKey", refusing)
    assert refused_key(secret) == message
    assert refused(key.ws_jwt, secret) == message


# What editors, shells, CI systems and secret stores do to a key, and what is mended.

TIDY = "secret: line breaks, spaces, padding, BEGIN and END lines put right"
ESCAPED = r"secret: escaped line breaks (\n) made real"
QUOTED = "secret: quotes removed"
INVISIBLE = "secret: invisible characters removed"
FIELD = "secret: the name of its field removed"
PERCENT = "secret: percent-encoding decoded"
ENCODED = "secret: decoded from base64"
IN_JSON = "secret: taken out of a key file's JSON"
SEED = "the secret is a bare seed, without its public part: nothing can prove that it is whole"

WRAPPINGS = {  # of a key, or of its name
    ("{}", "\n\n{}\n "): set(),
    ('"{}"', "`{}`", "“{}”", "‘{}’", "«{}»", '{}"', '{}",', "{};"): {QUOTED},
    (r'"{}"\n',): {QUOTED, ESCAPED},
    ("\ufeff{}", "{}\u200b", "{}\u200c", "\u200d{}", "\u2060{}"): {INVISIBLE},
    (r"{}\n", r"{}\r\n"): {ESCAPED},
    ('"privateKey": "{}",', "'secret': '{}'", 'id: "{}"'): {FIELD, QUOTED},
}
LINE_BREAKS = {  # what becomes of those of a PEM
    (r"\n", r"\r\n", r"\r", r"\\n", "\\\n", "\\\r\n", "`n", "`r`n"): {ESCAPED},
    ("\r\n", "\r", "\n\n", "\n    ", "\n\u00a0", " ", "", "n", "rn"): {TIDY},
    ("\\n\n",): {ESCAPED, TIDY},
    ("\u200b\n",): {INVISIBLE},
    ("%0A",): {PERCENT},
    ("%0d%0a",): {PERCENT, TIDY},
}
EC_PARAMETERS = from_hex(P256_ID, "EC PARAMETERS")
EXTRA = {"publicKey": public_pem(P256), "label": r"DOMAIN\user", "enabled": True}


def one_line(pem: str) -> str:
    return pem.strip().replace("\n", r"\n")


def as_key_file(key: str) -> str:
    fields = {"id": NAME, "nickname": "ß", "secret": key, **EXTRA}
    return json.dumps(fields, ensure_ascii=False)


WAYS = {  # on which a key arrives -> what it does to a text, what is mended, of whom
    **{repr(each): (each.format, repairs, FORMS)
       for templates, repairs in WRAPPINGS.items() for each in templates},
    **{f"line breaks as {each!r}": (lambda pem, to=each: pem.strip().replace("\n", to), repairs, PEMS)
       for breaks, repairs in LINE_BREAKS.items() for each in breaks},
    "a key file": (as_key_file, {IN_JSON}, FORMS),
    "base64": (code_of, {ENCODED}, FORMS),
    "base64 in lines": (lambda key: lines_of(code_of(key), 76), {ENCODED}, FORMS),
    "base64 in quotes": (lambda key: f'"{code_of(key)}"', {ENCODED, QUOTED}, FORMS),
    "base64 of one line, in quotes": (lambda pem: f'"{code_of(one_line(pem))}"', {ENCODED, QUOTED, ESCAPED}, PEMS),
    "base64 twice": (lambda key: code_of(code_of(key)), {ENCODED}, FORMS),
    "base64 of UTF-16": (lambda key: base64.b64encode(key.encode("utf-16")).decode(), {ENCODED}, FORMS),
    "base64 of a key file": (lambda key: code_of(f"\n{json.dumps({'id': NAME, 'secret': key})}"), {ENCODED, IN_JSON}, FORMS),
    "base64 of more text": (lambda pem: code_of(f"# Börse\n{pem}"), {ENCODED, TIDY}, PEMS),
    "all of a URL": (lambda pem: urllib.parse.quote(pem, safe=""), {PERCENT}, PEMS),
    "all of a form": (urllib.parse.quote_plus, {PERCENT}, PEMS),
    "JSON in JSON": (lambda pem: json.dumps(json.dumps(pem)), {ESCAPED, QUOTED}, PEMS),
    "PHP's JSON": (lambda pem: json.dumps(pem).replace("/", r"\/"), {ESCAPED, QUOTED}, PEMS),
    "EC PARAMETERS in front": (lambda pem: EC_PARAMETERS + pem, {TIDY}, PEMS),
    "a certificate in front": (lambda pem: as_pem(b"0" * 300, "CERTIFICATE") + pem, {TIDY}, PEMS),
    "another label": (lambda pem: pem.replace("PRIVATE KEY", "X PRIVATE KEY"), {TIDY}, PEMS),
    "two lines": (lambda text: lines_of(text, 40), {TIDY}, BARE),
    r"\n inside": (lambda text: rf"{text[:40]}\n{text[40:]}", {ESCAPED, TIDY}, BARE),
    "letters of URLs": (lambda text: text.replace("+", "-").replace("/", "_").rstrip("="), {TIDY}, PROVEN_BARE),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_key_is_accepted_in_every_form_seen_in_the_wild(way):
    dress, repairs, forms = WAYS[way]
    for form, secret in forms.items():
        key = cdp_jwt.ApiKey(NAME, dress(secret))
        always = {TIDY} if "without" in form else set()
        assert set(key.repairs) == repairs | always, form
        assert key.warnings == ((SEED,) if form in UNPROVEN_FORMS else ())
        private_key = ED25519 if form in ("portal", *UNPROVEN_FORMS) else P256
        assert verified(key.rest_jwt("GET", ACCOUNTS), private_key)["kid"] == NAME


# Mistakes: what a secret is instead, and what to do.

TAKES = "; Coinbase takes ECDSA P-256 or Ed25519"
PASTE = "; paste the private key, `privateKey` in the key file"
AGAIN = "; copy it again from the key file, or create a new key"
CREATE = "; create a CDP API key in the portal"
OPENSSL = "openssl ec -in OLD -conv_form uncompressed -param_enc named_curve -out NEW"
CUT_OFF = (
    "this is a key that is cut off, damaged or in an unusual form; copy it again from the"
    f" key file, or make its form the usual one: {OPENSSL}"
)
UNUSUAL = f"this is a P-256 key in an unusual form; make it the usual one: {OPENSSL}"
PLACEHOLDER = "this is a placeholder; put the value there, from the key file"
REFERENCE = "this is a reference that nothing has resolved; give the value itself"
NEITHER = f"this is neither PEM nor base64 of 64 bytes (or 32, with its =){PASTE}"
PUBLIC = f"this is a public key{PASTE}"
IS_NAME = f"this is a key's name{PASTE}"
ARRAY = f"this is JSON, but an array{PASTE}"
OTHER_NAME = "the name in the key file is not the name given; leave out the one given"

KINDS = [  # a vector, or a curve; and how it is called
    ("Traditional_OpenSSL_Serialization/testrsa.pem", "an RSA key"),
    ("Traditional_OpenSSL_Serialization/dsa.2048.pem", "a DSA key"),
    ("X25519/x25519-pkcs8.pem", "an X25519 key"),
    ("X448/x448-pkcs8.pem", "an X448 key"),
    ("Ed448/ed448-pkcs8.pem", "an Ed448 key"),
    (ec.SECP384R1, "a P-384 key"),
    (ec.SECP521R1, "a P-521 key"),
    (ec.SECP256K1, "a secp256k1 key"),
    (ec.BrainpoolP256R1, "a brainpool key"),
]


@pytest.mark.parametrize(("source", "kind"), KINDS, ids=[kind for _, kind in KINDS])
def test_wrong_kind_of_key_is_named_in_every_form(source, kind):
    try:
        if isinstance(source, str):
            text = vector(source)
            loaded(text)
        else:
            text = pem(ec.generate_private_key(source()))
    except (UnsupportedAlgorithm, ValueError, InternalError) as error:
        pytest.skip(f"this OpenSSL has none: {type(error).__name__}")
    escaped, headed = text.replace("\n", r"\n"), EC_PARAMETERS + text
    for secret in (text, escaped, headed, body(text), code_of(text)):
        assert refused_key(secret) == f"this is {kind}{TAKES}"


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_key_that_cryptography_warns_of_is_named_or_called_damaged(action):
    """And not by the warning, which `python -W error` raises; a DH key has no name here."""
    for name in ("DH/dhkey.pem", "DH/dh_key_256.pem", "DH/dhpub.pem"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            message = refused_key(vector(name))
        assert message in (f"this is a key in an unusual form{AGAIN}", PUBLIC, CUT_OFF)


COMPRESSED_POINT = f"{2 + int(POINT, 16) % 2:02x}{POINT[2:66]}"
ODD_FORMS = {  # of whole P-256 keys, which OpenSSL makes usual
    "no public part": from_hex(f"30310201010420{D}a00a{P256_ID}", "EC PRIVATE KEY"),
    "a compressed point": from_hex(f"3067020100{EC_ID}044d304b0201010420{D}a124032200{COMPRESSED_POINT}"),
    "explicit parameters": vector("EC/secp256r1-explicit-seed.pem"),
}  # fmt: skip


@pytest.mark.parametrize("form", ODD_FORMS)
def test_whole_p256_key_in_an_unusual_form_gets_the_line_that_mends_it(form):
    secret = ODD_FORMS[form]
    expected = UNUSUAL
    try:
        serialization.load_der_private_key(base64.b64decode(body(secret)), None)
    except (ValueError, NotImplementedError, UnsupportedAlgorithm):
        expected = CUT_OFF  # an old cryptography cannot tell; the line is in it as well
    assert refused_key(secret) == expected
    if shutil.which("openssl"):
        words = OPENSSL.replace("OLD", "/dev/stdin").removesuffix("-out NEW").split()
        mended = subprocess.run(  # an OpenSSL in FIPS mode mends nothing
            words, input=secret, capture_output=True, text=True, check=False
        )
        if mended.returncode == 0:
            cdp_jwt.ApiKey(NAME, mended.stdout)


LEGACY_SECRET = "k7mQz2Xw9Lp4Rt8Vb3Nc6Yd1Hs5Jf0Ga"
ENCRYPTED = vector("PKCS8/ec_private_key_encrypted.pem")
CERTIFICATE = vector("../x509/cryptography.io.pem")
EXCHANGE_SECRET = base64.b64encode(bytes(range(7, 71))).decode()
SEC1_LINES = SEC1.split("\n")
MISTAKES = {  # the message -> texts
    PUBLIC: [public_pem(P256), body(public_pem(ED25519)), as_pem(b"0" * 300, "RSA PUBLIC KEY"),
             vector("OpenSSH/ed25519-nopsw.key.pub"), vector("OpenSSH/ecdsa-nopsw.key.pub")],
    f"this is a certificate{PASTE}": [CERTIFICATE, EC_PARAMETERS + CERTIFICATE, body(CERTIFICATE)],
    f"this is a certificate request{PASTE}": [vector("../x509/requests/basic_constraints.pem")],
    "this is an encrypted key; decrypt it with openssl pkey": [
        ENCRYPTED, EC_PARAMETERS + ENCRYPTED, body(ENCRYPTED), vector("Traditional_OpenSSL_Serialization/key1.pem")],
    f"this is an OpenSSH key{PASTE}": [vector("OpenSSH/ecdsa-nopsw.key")],
    f"this is only the parameters of a key{AGAIN}": [EC_PARAMETERS],
    f"this is PEM of another kind{PASTE}": [
        as_pem(b"0" * 300, "PGP PRIVATE KEY BLOCK"), EC_PARAMETERS + as_pem(b"0" * 300, "X509 CRL")],
    f"this is a CDP wallet secret, which signs no API calls{PASTE}": [body(PKCS8)],
    f"this is the secret of a legacy (HMAC) API key{CREATE}": [LEGACY_SECRET],
    IS_NAME: [NAME, UUID],
    OTHER_NAME: [json.dumps({"id": UUID, **more, "privateKey": SEC1}) for more in ({}, {"name": "x"})],
    ARRAY: [json.dumps([NAME, SEC1])],
    f"this is a JWK (RFC 7517), not a key file{CREATE}": [
        json.dumps({"kty": "EC", "crv": "P-256", "d": BARE_SEED})],
    "this is several keys; keep only the right one": [SEC1 + pem(OTHER_P256)],
    "this is only the first line of a key; quote it, in one line with \\n for each line break, or use a"
    " key file": [SEC1_LINES[0], SEC1[:49], "-----BEGIN"],
    f"this is a key without its line -----END ... PRIVATE KEY-----{AGAIN}": [
        SEC1[:50], as_pem(b"0" * 300, "X509 CRL") + "\n".join(SEC1_LINES[:-2])],
    f"this is a key without its line -----BEGIN ... PRIVATE KEY-----{AGAIN}": ["\n".join(SEC1_LINES[1:])],
    f"this is a key whose BEGIN and END lines differ, or have not five dashes on each side{AGAIN}": [
        SEC1[1:], SEC1.replace("-----", "----"), SEC1.replace("END EC", "END")],
    CUT_OFF: [SEC1.replace(SEC1_LINES[2], ""), SEC1[:80] + "!" + SEC1[81:], flipped(body(SEC1), 60),
              as_pem(raw(ED25519))],
    f"this key is damaged: its public part is not that of its secret{AGAIN}": [
        flipped(SEC1, 60), flipped(body(SEC1), 20)],
    "this is a damaged Ed25519 key (its second half is not the public key of its first), or a Coinbase"
    f" Exchange secret{AGAIN}": [flipped(PORTAL, 10), EXCHANGE_SECRET],
    NEITHER: [body(SEC1)[:60] + body(SEC1)[61:], f"/{PORTAL[2:]}", "correct horse battery staple yes",
              "correct > horse", "correct { horse", "correct 100%", ("correct horse " * 999)[:8192],
              BARE_SEED.rstrip("="), base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode()],
    "the key's secret is empty; is it set?": ["", '""'],
    f"the key's secret has 8193 characters, and a key has about 250{AGAIN}": ["n" * 8193],
    REFERENCE: ["op://a/b/c", "arn:aws:secretsmanager:x", "@Microsoft.KeyVault(x)", "${API_SECRET}", "%API_SECRET%"],
    "this is a path; give it with --key-file, CDP_KEY_FILE or ApiKey.from_file": [
        "/home/me/cdp_api_key", "cdp_api_key.json", "~/keys/coinbase", "./coinbase", r"C:\new\keys", "my.pem"],
    PLACEHOLDER: [
        "YOUR_API_SECRET", "{api_secret}", "<secret>", "undefined", "null", "None", "nil", "[object Object]",
        "changeme", "xxxxXXXX", "********", "...", "sk…", as_pem(b"").replace("\n\n", "\nYOUR PRIVATE KEY\n")],
}  # fmt: skip


@pytest.mark.parametrize("message", MISTAKES, ids=short)
def test_mistake_is_named_with_its_remedy_and_without_its_text(message):
    for secret in MISTAKES[message]:
        assert refused_key(secret) == message


# Secrets of this run, of which SECRETS_OF_RUN=N makes those of another one again. Of the
# first 64 each begins with another character of base64: with a / it is like a path.
RUN = int(os.environ.get("SECRETS_OF_RUN", secrets.randbits(32)))


def test_secrets_of_this_run_sign_never_leak_and_are_seen_when_swapped(
    tmp_path, capsys
):
    """Not even where the secret is good, and something beside it is wrong."""
    with capsys.disabled():
        print(f"\nSECRETS_OF_RUN={RUN}")
    chance = random.Random(RUN)
    keys = [ec.derive_private_key(chance.getrandbits(255) + 1, ec.SECP256R1())]
    for number in range(64):
        seed = bytes([number << 2 | chance.getrandbits(2)]) + chance.randbytes(31)
        keys.append(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    for private_key in keys:
        secret = pem(private_key) if private_key == keys[0] else portal(private_key)
        verified(cdp_jwt.ApiKey(NAME, secret).ws_jwt(), private_key)
        path = write_private(tmp_path / "key.txt", secret)
        verified(cdp_jwt.ApiKey.from_file(path, NAME).ws_jwt(), private_key)
        swapped = {"COINBASE_API_KEY": secret, "COINBASE_API_SECRET": NAME}
        for name in (f'"{NAME}"', f" {UUID}\n"):
            assert refused_key(name, secret) == SWAPPED
        for call, *arguments in (
            (cdp_jwt.ApiKey, "a,b", secret),
            (cdp_jwt.ApiKey.from_file, path, "a,b"),
            (cdp_jwt.ApiKey.from_file, secret),
            (cdp_jwt.ApiKey.from_file, f"{tmp_path}/{secret}"),
            (cdp_jwt.ApiKey.from_env, {"CDP_KEY_FILE": secret}),
            (cdp_jwt.ApiKey.from_env, swapped),
        ):
            refused(functools.partial(call, *arguments), secret)


def test_what_functions_hand_on_shows_no_key_text_in_its_repr():
    handed_on = []

    def profile(frame, event, value) -> None:
        if event == "return" and hasattr(value, "_fields"):
            handed_on.append(value)

    sys.setprofile(profile)
    cdp_jwt.ApiKey.from_env(ADVANCED)
    sys.setprofile(None)
    shown = "".join(map(repr, handed_on))
    assert shown
    assert not leaks(shown, SEC1)
    assert repr(base64.b64decode(body(SEC1))) not in shown


# Names.

TAKE_NAME = "; give the key's name, `name` or `id` in the key file"
SWAPPED = "the name looks like a key: name and secret are swapped"
WRONG_NAMES = {  # the message -> names
    f"the name looks like a key: {TAKE_NAME[2:]}": [
        SEC1, SEC1_LINES[0], PORTAL, BARE_SEED, body(PKCS8), body(SEC1)[:60], PORTAL.rstrip("="), f"secret={BARE_SEED}",
        BARE_SEED.replace("/", "_").rstrip("="), f"{PORTAL[:30]} {PORTAL[31:60]}", f"{'aB1' * 10}cD",
        *(base64.urlsafe_b64encode((b"\xfb23456789" * 16)[:size]).decode()
          for size in (32, 48, 64, 121, 138))],
    f"the name is a public key{TAKE_NAME}": [public_pem(P256)],
    "the key's name is empty; is it set?": ["", '""'],
    PLACEHOLDER.replace("this", "the key's name"): [
        "organizations/ORG_ID/apiKeys/x", "organizations/x/apiKeys/KEY_ID", "organizations/<x>/apiKeys/<x>",
        "undefined", "null"],
    f"the key's name has 300 characters{TAKE_NAME}": ["a.b/" * 75],
    **{f"the key's name has {shown}{TAKE_NAME}": [name] for name, shown in (
        (f"COINBASE_API_KEY={NAME}", "'=' at position 17"), ("organizations/a b", "' ' at position 16"),
        ("a\x1b[31m", r"'\x1b' at position 2"), ("ключ", r"'\u043a' at position 1"), ('a"b', "'\"' at position 2"),
    )},
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG_NAMES, ids=short)
def test_name_that_no_key_can_have_is_refused(message):
    for name in WRONG_NAMES[message]:
        assert refused_key(PORTAL, name) == message


NICKNAME = "the key's name is neither organizations/.../apiKeys/... nor a UUID"
KNOWN_NAMES = [NAME, UUID, UUID.upper(), f"organizations/{'a1B' * 12}/apiKeys/{'b1C' * 12}"]  # fmt: skip
NICKNAMES = ["my-key", f"apiKeys/{UUID}", UUID.replace("-", ""), f"{NAME}/x", "a.b/" * 74 + "n.n",
             f"{'aB1' * 10}c"]  # fmt: skip


def test_name_is_mended_as_the_secret_is_and_signs_with_a_warning_if_unknown():
    for templates, repairs in WRAPPINGS.items():
        for template in templates:
            key = cdp_jwt.ApiKey(template.format(NAME), PORTAL)
            assert (key.name, key.warnings) == (NAME, ())
            names = [repair.replace("secret:", "name:", 1) for repair in repairs]
            assert sorted(key.repairs) == sorted(names)
            in_json = cdp_jwt.ApiKey(template.format(NAME), as_key_file(PORTAL))
            assert in_json.name == NAME
            for name in ("nano-scalper", "range_bot"):  # like NaN, `n and `r
                assert cdp_jwt.ApiKey(template.format(name), PORTAL).name == name
    for name in KNOWN_NAMES + NICKNAMES:
        key = cdp_jwt.ApiKey(name, PORTAL)
        assert key.warnings == ((NICKNAME,) if name in NICKNAMES else ())
        token = key.ws_jwt()  # which joserfc takes up to 512 octets of header
        claims = jwt.decode(token, ED25519.public_key(), ["EdDSA"])
        assert jwt.get_unverified_header(token)["kid"] == claims["sub"] == name


# Callers of all kinds, and texts of any size.


@pytest.mark.parametrize("dress", CALLERS.values(), ids=CALLERS)
def test_key_is_the_exact_text_of_the_caller(dress, private_key, algorithm, tmp_path):
    secret = SECRETS[algorithm]
    path = write_private(tmp_path / "key.pem", secret)
    dressed = {"COINBASE_API_KEY": dress(NAME), "COINBASE_API_SECRET": dress(secret)}
    for key in (
        cdp_jwt.ApiKey(dress(NAME), dress(secret), dress("203.0.113.7")),
        cdp_jwt.ApiKey(dress(NAME), dress(secret), [dress("203.0.113.7")]),
        cdp_jwt.ApiKey.from_file(dress(path), dress(NAME)),
        cdp_jwt.ApiKey.from_env(dressed),
        cdp_jwt.ApiKey.from_env({**dressed, "CDP_KEY_FILE": dress(path)}),
    ):
        assert type(key.name) is str
        assert verified(key.ws_jwt(), private_key)["kid"] == NAME
        for address in key.allowed_ips:
            assert (type(address), address) == (str, "203.0.113.7")


@pytest.mark.parametrize("wrong", NO_TEXTS, ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_text_is_no_key(wrong):
    kind = type(wrong).__name__
    message = f"the key's {{}} is {kind}, not text; is it set?"
    assert refused_key(PORTAL, wrong) == message.format("name")
    assert refused_key(wrong) == message.format("secret")
    for arguments in ((wrong, PORTAL), (NAME, wrong)):
        refused(functools.partial(cdp_jwt.build_ws_jwt, *arguments), PORTAL)
    if wrong is not None:
        environ = {"CDP_KEY_FILE": wrong, **ADVANCED}
        message = refused(lambda: cdp_jwt.ApiKey.from_env(environ), SEC1)
        assert message == f"CDP_KEY_FILE is {kind}, not text"
    refused(lambda: cdp_jwt.ApiKey.from_env(wrong))


RUNS = ["\\", '"', "`", "'", "\ufeff", "A", "/", "\n", "-", "{", "[", "<", "%0A", "-----BEGIN A-----",
        "-----END A-----", "BEGIN ", "Proc-Type:", "organizations/", "n", "rn", "=", "x", " ", ":",
        "a=b\n"]  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_time_for_a_key_is_linear_in_its_length(run, tmp_path):
    """A name, a secret, a path and a file, each up to its limit: 2n to n."""
    path = tmp_path / "key.json"

    def seconds(size: int) -> float:
        text = f"x{run * size}"[: size - 1] + "x"
        path.write_text(text * 8, encoding="utf-8")
        start = time.process_time()
        for call, *arguments in (
            (cdp_jwt.ApiKey, NAME, text),
            (cdp_jwt.ApiKey, text, PORTAL),
            (cdp_jwt.ApiKey.from_file, text),
            (cdp_jwt.ApiKey.from_file, path, NAME),
        ):
            with pytest.raises(cdp_jwt.InvalidKeyError):
                call(*arguments)
        return time.process_time() - start

    seconds(1000)  # what is imported on the way
    limit = cdp_jwt.MAX_KEY_TEXT
    half, whole = (min(seconds(n) for _ in range(5)) for n in (limit // 2, limit))
    assert whole < 3 * half + 0.02


def test_key_of_a_subclass_is_read_as_one(key_file):
    kind = type("Mine", (cdp_jwt.ApiKey,), {})
    assert type(kind.from_file(key_file)) is kind
    assert type(kind.from_env({"CDP_KEY_FILE": str(key_file)})) is kind


# Key files.

JSON_TEXT = json.dumps({"id": NAME, "privateKey": SEC1}, indent=4)
KEY_FILES = {
    "portal today": {"id": NAME, "privateKey": SEC1, "secret": "", **EXTRA},
    "nickname and name": {"id": "my key", "name": NAME, "privateKey": SEC1},
    "name and nickname": {"id": NAME, "name": "my key", "privateKey": SEC1},
    "mark": JSON_TEXT.encode("utf-8-sig"),
    "line breaks": JSON_TEXT.replace(r"\n", "\n").encode(),
    "UTF-16, big end": b"\xfe\xff" + JSON_TEXT.encode("utf-16-be"),
    "64 KiB": JSON_TEXT.ljust(65536).encode(),
}


@pytest.mark.parametrize("content", KEY_FILES.values(), ids=KEY_FILES)
def test_key_file_is_read_as_portal_editors_and_powershell_leave_it(content, tmp_path):
    path = write_private(tmp_path / "key.json", content)
    for place in (path, str(path), bytes(path)):
        key = cdp_jwt.ApiKey.from_file(place)
        assert verified(key.ws_jwt(), P256)["kid"] == NAME


def test_key_file_without_a_name_takes_the_one_beside(tmp_path, key_file):
    fields = {"privateKey": SEC1, "allowedIps": ["203.0.113.7", "2001:db8::/32"]}
    path = write_private(tmp_path / "key.json", fields)
    key = cdp_jwt.ApiKey.from_file(path, UUID)
    assert (key.name, key.allowed_ips) == (UUID, tuple(fields["allowedIps"]))
    assert cdp_jwt.ApiKey.from_file(key_file, NAME).name == NAME
    write_private(path, {"id": UUID, "name": NAME, **fields})
    of_environment = cdp_jwt.ApiKey.from_env({"CDP_KEY_FILE": str(path)})
    assert of_environment.allowed_ips == key.allowed_ips
    for name, used in ((None, NAME), (UUID, UUID), (NAME, NAME)):
        assert cdp_jwt.ApiKey.from_file(path, name).name == used
    for best, other in ((NAME, f"{NAME}x"), (UUID, "my-key")):
        write_private(path, {"name": other, "id": best, "privateKey": SEC1})
        assert cdp_jwt.ApiKey.from_file(path).name == best
    message = refused(lambda: cdp_jwt.ApiKey.from_file(key_file, UUID), SEC1)
    assert message == f"{key_file}: {OTHER_NAME}"
    for secret in (
        *FORMS.values(),
        f"Key Attributes: <No Attributes>\nissuer=x\n{SEC1}",
    ):
        write_private(path, secret.encode("utf-16" if secret == PORTAL else "utf-8"))
        assert cdp_jwt.ApiKey.from_file(path, NAME).name == NAME
        message = refused(lambda: cdp_jwt.ApiKey.from_file(path), secret)
        assert message == (
            f"{path}: not JSON, so give the key's name, too (--key-name, or"
            " CDP_API_KEY_ID beside CDP_KEY_FILE)"
        )


EXPECTED_ONE = "expected one of id, name, apiKeyName, accessKey and one of privateKey, secret, privatePemKey"
OVER = "over 64 KiB; expected the JSON or PEM of one key"
EMPTY_FILE = "empty; expected the JSON or PEM of one key"
WRONG_FILES = {  # the message -> contents
    EMPTY_FILE: ["", " \n\n"],
    OVER: [JSON_TEXT.ljust(65537)],
    f"this is damaged JSON{AGAIN}": [  # 1,495 are too deep on 3.12
        JSON_TEXT[:-9], '{"a":' * 500, '{"a":' * 1495, '{"a":' * 12000],
    ARRAY: ["[" * 60000],
    f"names: 1, secrets: 2; {EXPECTED_ONE}": [{"id": NAME, "privateKey": SEC1, "secret": PORTAL}],
    f"names: 1, secrets: 0; {EXPECTED_ONE}": [{"id": NAME, "publicKey": "MFkw"}],
    f"names: 0, secrets: 1; {EXPECTED_ONE}": [{"privateKey": SEC1}],
    f"this is a Coinbase Exchange key{CREATE}": [{"secret": EXCHANGE_SECRET, "passphrase": "x"}],
    "the key's secret is dict, not text; is it set?": [{"id": NAME, "privateKey": {"kty": "EC"}}],
    PUBLIC: [{"id": NAME, "privateKey": public_pem(P256)}],
    "lines of NAME=value (.env); load them into the environment, by `uv run --env-file FILE` or"
    " `set -a; . FILE`, and give no key file": [
        f"A={NAME}\nB={PORTAL}\n", f'# Coinbase\n\nexport A="{SEC1}"', f"\nset A={NAME}\nset B={PORTAL}\n"],
    "YAML; expected the portal's JSON, or the PEM of one key": [
        f"name: {NAME}\nprivateKey: {PORTAL}\n", f"---\n# Coinbase\nprivateKey: |\n  {SEC1}"],
    "DER, not text; make it PEM: openssl pkey -inform DER -in OLD -out NEW": [base64.b64decode(body(PKCS8))],
    "PKCS12; take its key: openssl pkcs12 -nodes -nocerts -in OLD -out NEW": [
        bytes.fromhex(version_3) + b"\xff" * 99 for version_3 in ("30820359020103", "3083010000020103")],
    "not text (UTF-8, or UTF-16 with its mark); expected JSON or PEM": [
        b"\xff\xff\0\1", SEC1.encode("utf-16-le")],
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG_FILES, ids=short)
def test_key_file_without_a_key_is_refused(message, tmp_path):
    secret = f"{SEC1}|{PORTAL}|{PKCS8}"
    for content in WRONG_FILES[message]:
        path = write_private(tmp_path / "key.json", content)
        found = refused(functools.partial(cdp_jwt.ApiKey.from_file, path), secret)
        assert found == f"{path}: {message}"


def test_key_file_that_cannot_be_read_says_why_under_the_path_as_given(
    tmp_path, monkeypatch
):
    no_file = "cannot be read: No such file or directory"
    is_posix = os.name == "posix"
    no_name = no_file if is_posix else "cannot be read: Invalid argument"
    is_folder = "Is a directory" if is_posix else "Permission denied"
    endless = [("/dev/zero", "/dev/zero", OVER)] if os.path.exists("/dev/zero") else []
    folder = tmp_path / LEGACY_SECRET  # shown all the same, as it is there
    folder.mkdir()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    for path, shown, reason in (
        ("run/secrets/cdp_key", "run/secrets/cdp_key", no_file),
        (f"{'aB1' * 6}c", f"{'aB1' * 6}c", no_file),
        (f"{tmp_path}/a\nb\x1b", rf"{tmp_path}/a\nb\x1b", no_name),
        (folder, folder, f"cannot be read: {is_folder}"),
        (f"~/{folder.name}", f"~/{folder.name}", f"cannot be read: {is_folder}"),
        ("a\0b", r"a\x00b", "cannot be read: closed, or not a path"),
        *endless,
    ):
        message = refused(functools.partial(cdp_jwt.ApiKey.from_file, path))
        assert message == f"{shown}: {reason}"


IS_TEXT = (
    "this is the text of a key, where the path of a key file is expected; give the path,"
    " or use ApiKey(name, secret), or COINBASE_API_KEY and COINBASE_API_SECRET"
)
URL_SAFE = base64.urlsafe_b64encode(bytes(range(190, 254))).decode()
WRONG_PATHS = {  # how the message begins -> what is given as a path
    IS_TEXT: [SEC1, PORTAL, BARE_SEED, URL_SAFE, SEC1.replace("\n", r"\n"), f"{SEC1}\0", JSON_TEXT],
    "the key file (its path looks like a key): cannot be read: ": [
        PORTAL.rstrip("="), raw(ED25519).hex(), LEGACY_SECRET, body(SEC1), URL_SAFE.rstrip("="),
        f"/tmp/{PORTAL[:60]}", f"x={PORTAL}.json", PORTAL[22:44], f"{'aB1' * 6}cD"],
    "the key file's path is empty; give the file's path": [""],
    "the key file's path is NoneType, not text; give the file's path": [None],
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG_PATHS, ids=short)
def test_key_text_in_place_of_a_path_is_not_shown(message, tmp_path, monkeypatch):
    """Nor read, even if there is such a file, as there may be by chance."""
    monkeypatch.chdir(tmp_path)
    for text in WRONG_PATHS[message]:
        secret = f"{text}|{BARE_SEED}"
        read = functools.partial(cdp_jwt.ApiKey.from_file, text)
        assert refused(read, secret).startswith(message)
        if text:
            environ = {"CDP_KEY_FILE": text}
            found = refused(functools.partial(cdp_jwt.ApiKey.from_env, environ), secret)
            assert found.startswith(message)
        if message == IS_TEXT and not set(text) & set("/\0\n"):
            write_private(tmp_path / text, JSON_TEXT)
            assert refused(read, secret) == IS_TEXT


def test_key_file_in_the_home_directory_is_found(key_file, monkeypatch):
    monkeypatch.setenv("HOME", str(key_file.parent))
    monkeypatch.setenv("USERPROFILE", str(key_file.parent))
    assert cdp_jwt.ApiKey.from_file("~/cdp_api_key.json").name == NAME


@needs_modes
def test_key_file_that_others_can_read_or_change_gets_a_warning(key_file, caplog):
    modes = {0o600: "", 0o611: "", 0o640: "read", 0o604: "read"}
    modes |= {0o620: "change", 0o602: "change", 0o666: "read and change"}
    for mode, verbs in modes.items():
        caplog.clear()
        key_file.chmod(mode)
        assert cdp_jwt.ApiKey.from_file(key_file).name == NAME
        assert cdp_jwt.ApiKey.from_env({"CDP_KEY_FILE": str(key_file)}).name == NAME
        message = f"{key_file}: group or others can {verbs} this key; chmod 600 it"
        assert caplog.messages == ([message] * 2 if verbs else []), oct(mode)


@needs_modes
def test_warning_of_a_key_file_is_one_line_whatever_its_name(key_file, caplog):
    file = key_file.rename(key_file.parent / "a\x1b[2J\nb.json")
    file.chmod(0o644)
    cdp_jwt.ApiKey.from_file(file)
    shown = rf"{file.parent}/a\x1b[2J\nb.json"
    warning = f"{shown}: group or others can read this key; chmod 600 it"
    assert caplog.messages == [warning]


@needs_modes
def test_mode_is_that_of_the_file_behind_a_link_or_in_the_home_directory(
    key_file, tmp_path, monkeypatch, caplog
):
    """As Kubernetes mounts a secret: a link, of which all may do all."""
    monkeypatch.setenv("HOME", str(key_file.parent))
    key_file = key_file.rename(key_file.parent / f"{'aB1' * 6}c.json")
    link = tmp_path / "link.json"
    link.symlink_to(key_file)
    places = (str(link), f"~/{key_file.name}")
    for mode, count in ((0o600, 0), (0o644, 1)):
        key_file.chmod(mode)
        for place in places:
            caplog.clear()
            cdp_jwt.ApiKey.from_file(place)
            message = f"{place}: group or others can read this key; chmod 600 it"
            assert caplog.messages == [message] * count


@contextlib.contextmanager
def written_in_pieces(text: str) -> Iterator[io.TextIOWrapper]:
    """The end of a pipe whose writer takes its time."""

    def write() -> None:
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            for piece in (text[:100], text[100:]):
                pipe.write(piece)
                pipe.flush()
                time.sleep(0.05)

    reading, writing = os.pipe()
    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, encoding="utf-8") as pipe:
        yield pipe
    writer.join()


@needs_modes
def test_key_file_in_a_pipe_or_on_a_read_only_disk_needs_no_mode(
    key_file, monkeypatch, caplog
):
    # A pipe of the shell, as in `--key-file <(op read ...)`; then a read-only mount, as
    # of Docker, Kubernetes and systemd. PyPy has no ST_RDONLY.
    with written_in_pieces(JSON_TEXT) as pipe:
        assert cdp_jwt.ApiKey.from_file(f"/dev/fd/{pipe.fileno()}").name == NAME
    key_file.chmod(0o644)
    monkeypatch.delattr(os, "ST_RDONLY", raising=False)
    monkeypatch.setattr(os, "statvfs", lambda _: types.SimpleNamespace(f_flag=1))
    assert cdp_jwt.ApiKey.from_file(key_file).name == NAME
    assert caplog.messages == []


def test_key_comes_from_standard_input(stdin, monkeypatch):
    with written_in_pieces(JSON_TEXT) as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", pipe)
        assert cdp_jwt.ApiKey.from_file("-").name == NAME
    stdin("")
    message = f"standard input: {EMPTY_FILE}"
    assert refused(lambda: cdp_jwt.ApiKey.from_file("-")) == message
    monkeypatch.setattr(sys, "stdin", None)
    message = "standard input: cannot be read: closed, or not a path"
    assert refused(lambda: cdp_jwt.ApiKey.from_file("-")) == message


# Environment.

ADVANCED = {"COINBASE_API_KEY": NAME, "COINBASE_API_SECRET": SEC1}
CDP = {"CDP_API_KEY_ID": NAME, "CDP_API_KEY_SECRET": SEC1}
CDP_NAME = {"CDP_API_KEY_NAME": NAME, "CDP_API_KEY_SECRET": SEC1}


def test_first_pair_of_variables_that_is_complete_counts(monkeypatch):
    for unset in ("", " ", '""'):
        environ = {**CDP, "COINBASE_API_KEY": unset, "COINBASE_API_SECRET": SEC1}
        environ["CDP_KEY_FILE"] = unset
        assert cdp_jwt.ApiKey.from_env(environ).name == NAME
    assert cdp_jwt.ApiKey.from_env({**CDP, "COINBASE_API_KEY": UUID}).name == NAME
    for variable, value in CDP.items():
        monkeypatch.setenv(variable, value)
    assert verified(cdp_jwt.ApiKey.from_env().ws_jwt(), P256)["kid"] == NAME
    assert refused(lambda: cdp_jwt.ApiKey.from_env({})) == f"no API key; {SET}"


SET = (
    "set CDP_KEY_FILE (or give --key-file), or COINBASE_API_KEY and COINBASE_API_SECRET,"
    " or CDP_API_KEY_ID and CDP_API_KEY_SECRET, or CDP_API_KEY_NAME and CDP_API_KEY_SECRET"
)
UNREAD = (
    "CDP_API_KEY_PRIVATE_KEY, CDP_PRIVATE_KEY, COINBASE_PRIVATE_KEY, COINBASE_API_KEY_NAME,"
    " COINBASE_API_PRIVATE_KEY, KEY_NAME, KEY_SECRET"
)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, f"no API key; {SET}"),
        (None, f"no API key; {SET}"),
        *[({name: "x"}, f"{name} is set alone; {SET}") for name in (*ADVANCED, *CDP, *CDP_NAME)],
        ({"COINBASE_API_KEY": NAME, "CDP_API_KEY_SECRET": SEC1}, f"COINBASE_API_KEY is set alone; {SET}"),
        ({**ADVANCED, "COINBASE_API_KEY": None}, f"COINBASE_API_SECRET is set alone; {SET}"),
        ({**ADVANCED, "COINBASE_API_KEY": b"x"}, "COINBASE_API_KEY is bytes, not text"),
        (dict.fromkeys(UNREAD.split(", "), SEC1), f"no API key ({UNREAD}: set, but not read); {SET}"),
        ({**CDP, **ADVANCED, "COINBASE_API_SECRET": NAME},
         f"COINBASE_API_KEY and COINBASE_API_SECRET: {IS_NAME}"),
    ],
    ids=short,
)  # fmt: skip
def test_environment_without_a_key_is_refused(environ, message):
    assert refused(lambda: cdp_jwt.ApiKey.from_env(environ), SEC1) == message


def test_key_file_of_the_environment_comes_first(key_file):
    for path in (str(key_file), f'"{key_file}"', f"'{key_file}' "):
        environ = {"CDP_KEY_FILE": path, "COINBASE_API_KEY": UUID}
        assert cdp_jwt.ApiKey.from_env(environ).name == NAME
    missing = {"CDP_KEY_FILE": "missing.json", **ADVANCED}
    message = "missing.json: cannot be read: No such file or directory"
    assert refused(lambda: cdp_jwt.ApiKey.from_env(missing), SEC1) == message
    write_private(key_file, SEC1)  # as Docker, Kubernetes and systemd mount secrets
    variables = ["CDP_API_KEY_ID", "CDP_API_KEY_NAME", "COINBASE_API_KEY"]
    while variables:  # the first of them counts
        environ = {"CDP_KEY_FILE": str(key_file), **dict.fromkeys(variables, NAME)}
        environ[variables.pop(0)] = UUID
        assert cdp_jwt.ApiKey.from_env(environ).name == UUID


# At random: a key is refused, without key text, or it is the very key that was given.

KEY_NAMES = st.sampled_from([NAME, UUID, "my-key", f" {NAME}\n", f'"{UUID}"', "ключ"])
AT_RANDOM = [dress(secret) for dress, _, forms in WAYS.values() for secret in forms.values()]  # fmt: skip
TEXT_FILES = mutations([JSON_TEXT, *map(as_key_file, FORMS.values()), *AT_RANDOM])


def assert_refused_or_the_same_key(make: Callable[[], cdp_jwt.ApiKey]) -> None:
    try:
        key = make()
    except cdp_jwt.InvalidKeyError as error:
        assert_secret_free(error, f"{SEC1}|{PKCS8}|{PORTAL}|{pkcs8(ED25519)}")
        assert "unexpected" not in str(error)
        return
    token = key.ws_jwt()
    if SEED in key.warnings:  # any 32 octets are such a key
        assert cdp_jwt.inspect_jwt(token, key=key).problems == ()
    else:
        assert verified(token, PRIVATE_KEYS[key.algorithm])["kid"] == key.name


@examples(300)
@given(name=KEY_NAMES | st.text(max_size=12), secret=mutations(AT_RANDOM) | st.text())
def test_any_name_and_secret_are_refused_or_the_same_key(name, secret):
    assert_refused_or_the_same_key(lambda: cdp_jwt.ApiKey(name, secret))


@examples(100)
@given(content=TEXT_FILES | st.binary(max_size=99), name=st.none() | KEY_NAMES)
def test_any_key_file_is_refused_or_the_same_key(tmp_path, content, name):
    path = write_private(tmp_path / "key.json", content)
    assert_refused_or_the_same_key(lambda: cdp_jwt.ApiKey.from_file(path, name))


# ------------------------------------------------------------------- 4. signing
# Signatures are those of published vectors, in the form of JWS; other programs verify them.


def test_base64url_is_that_of_rfc_7515_appendix_c():
    assert cdp_jwt._base64url(bytes([3, 236, 255, 224, 193])) == b"A-z_4ME"


def test_signature_of_p256_has_r_and_s_in_32_octets_each():
    """RFC 7518, section 3.4: whatever their length, with their first bit set or not."""
    numbers = [top << 8 * size for size in range(32) for top in (0x01, 0x7F, 0x80)]
    for r, s in itertools.product(numbers, numbers):
        signature = cdp_jwt._raw_signature(utils.encode_dss_signature(r, s))
        assert signature == r.to_bytes(32, "big") + s.to_bytes(32, "big")


def p256(scalar: str):
    return ec.derive_private_key(int(scalar, 16), ec.SECP256R1())


# RFC 6979, appendix A.2.5: the key; and of P-256 with SHA-256 r and s for each message.
RFC_6979_KEY = p256("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
RFC_6979 = {
    b"sample": "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
    "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
    b"test": "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367"
    "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
}


def test_signature_of_p256_is_rfc_6979_a_2_5(monkeypatch):
    """From the key's text on, where `cryptography` can do without a random number."""
    try:
        scheme = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        RFC_6979_KEY.sign(b"", scheme)
    except (TypeError, UnsupportedAlgorithm):
        pytest.skip("deterministic ECDSA needs cryptography >= 43 on OpenSSL >= 3.2")
    monkeypatch.setattr(cdp_jwt, "ECDSA_SHA256", scheme)
    key = cdp_jwt.ApiKey(NAME, pem(RFC_6979_KEY))
    for message, signature in RFC_6979.items():
        assert key._sign(message).hex().upper() == signature


def test_signature_of_rfc_7515_a_3_verifies_by_its_key_alone():
    """RFC 7515, appendix A.3: an ES256 token of someone else, and its private key."""
    token = (
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6"
        "Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXF"
        "CgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    )
    scalar = segments("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")[0]
    not_signed = f"not signed by the key {NAME}"
    key = cdp_jwt.ApiKey(NAME, pem(p256(scalar.hex())))
    assert not_signed not in cdp_jwt.inspect_jwt(token, key=key).problems
    assert not_signed in cdp_jwt.inspect_jwt(token, key=key_of()).problems


def test_signature_of_ed25519_is_rfc_8037_a_4():
    """RFC 8037, appendix A.4, the whole JWS."""
    seed = segments("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")[0]
    private_key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    key = cdp_jwt.ApiKey(NAME, portal(private_key))
    jws = cdp_jwt._jws('{"alg":"EdDSA"}', "Example of Ed25519 signing", key._sign)
    assert jws == (
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-"
        "09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )


def test_signature_of_ed25519_is_each_of_the_1024_of_its_authors():
    """`sign.input` of Bernstein et al.: seed and public key : public : message : sm."""
    lines = vector("Ed25519/sign.input").split()
    assert len(lines) == 1024
    for line in lines:
        seed_and_public, _, message, signed = line.split(":")[:4]
        secret = base64.b64encode(bytes.fromhex(seed_and_public)).decode()
        signature = cdp_jwt.ApiKey(NAME, secret)._sign(bytes.fromhex(message))
        assert signature.hex() == signed[:128]


OTHER_KEYS = {"ES256": OTHER_P256, "EdDSA": ed25519.Ed25519PrivateKey.generate()}


def test_token_does_not_verify_by_another_key(key):
    """The verifiers used here do refuse: what they accept means something."""
    with pytest.raises(jwt.InvalidSignatureError):
        verified(key.ws_jwt(), OTHER_KEYS[key.algorithm])


# -------------------------------------------------------------------- 5. tokens
# A token is exactly what Coinbase documents, for the request that was meant, or none is made.


def refused_request(call: Callable[..., object], *arguments, secret="", **options):
    """The message of the InvalidRequestError that this call raises."""
    call = functools.partial(call, *arguments, **options)
    return refused(call, secret, cdp_jwt.InvalidRequestError)


# Requests: method, host and path, as they will be sent.

API = "api.coinbase.com"
LONG_HOST = ".".join(["a" * 63] * 3 + ["a" * 61])  # the 253 characters that DNS takes
KEPT = "!\"$&'()*+,--.09:;=@AZ[]^_`az|~"  # what stands in a path as it is
REQUESTS = [  # path or URL, host -> both in the uri
    (ACCOUNTS, API, "api.coinbase.com/api/v3/brokerage/accounts"),
    ("/v2/user?limit=1&x=/../&y=%7B", API, "api.coinbase.com/v2/user"),
    ("/x?u=https://y", API, "api.coinbase.com/x"),
    ('/v2/x%20y%2Fz"', API, 'api.coinbase.com/v2/x%20y%2Fz"'),
    ("/a..b/.c/d./...//b:c@d/", API, "api.coinbase.com/a..b/.c/d./...//b:c@d/"),
    (f"/{KEPT}?{KEPT}", API, f"api.coinbase.com/{KEPT}"),
    ("HTTPS://API.Coinbase.com/V2/user?limit=1", API, "api.coinbase.com/V2/user"),
    ("https://api.cdp.coinbase.com:443/x", API, "api.cdp.coinbase.com/x"),
    ("https://localhost:8443/x?u=https://y", API, "localhost:8443/x"),
    ("https://api.coinbase.com?x=1", "b.example", "api.coinbase.com/"),
    ("/x", "API.CDP.Coinbase.com:443", "api.cdp.coinbase.com/x"),
    ("/x", f"{LONG_HOST}:65535", f"{LONG_HOST}:65535/x"),
]


@pytest.mark.parametrize(("path", "host", "address"), REQUESTS)
def test_uri_is_method_host_and_path_without_query(path, host, address):
    uri = f"GET {address}"
    assert cdp_jwt.format_jwt_uri("GET", path, host) == uri
    token = key_of().rest_jwt("GET", path, host=host)
    for each in (token, cdp_jwt.build_rest_jwt(uri, NAME, SEC1)):
        assert verified(each, P256)["uri"] == uri


METHODS = "DELETE, GET, HEAD, PATCH, POST, PUT"
UNKNOWN_METHOD = f"expected one of {METHODS}"


def test_method_is_one_of_six_in_any_case():
    """What may be a secret is not shown."""
    for method in ("GET", "Post", "put", "delete", "patch", "head"):
        expected = f"{method.upper()} api.coinbase.com/x"
        assert cdp_jwt.format_jwt_uri(method, "/x") == expected
    for method in ("SUBSCRIBE", "", "GET ", "po\u017ft", "B4CKUP", "abcdefghij"):
        shown = " SUBSCRIBE" if method == "SUBSCRIBE" else ""
        message = f"unknown method{shown}; {UNKNOWN_METHOD}"
        assert refused_request(cdp_jwt.format_jwt_uri, method, "/x") == message, method


FILL_IN = "it looks like a placeholder; put the value there"
BAD_PATHS = {  # the message of each; behind a | is what it shows
    "the path is empty": [""],
    "the path does not begin with exactly one /": [
        "accounts", "?x=1", "//evil.example/x", "@evil.example/x", "https://a//x"],
    "the path has a segment . or ..; resolve it": [
        "/a/../b", "/a/..", "/./a", "/a/.?b", "/a/%2e%2E/b", "https://a/../x"],
    "not an https URL; others could read the token": ["http://a/x", "HTTP://a/x", "file:///x"],
    "the path looks like a key; give the path of a URL": [
        f"/{PORTAL[1:]}", f"/{BARE_SEED[1:]}", f"https://a/{SEC1}"],
    "a WebSocket's token is for no path; make it by `ws`, ws_jwt or ws_message": [
        "wss://advanced-trade-ws.coinbase.com", "WS://a/x"],
    "the path is one of Windows, as Git Bash makes of /api/...; give the whole https URL,"
    " or set MSYS_NO_PATHCONV=1": ["C:/Git/api/v3/brokerage/accounts", "d:\\api"],
    "remove or encode it": [
        "/a| b", "/a|\r\nX: y", "/a|\x7f", "/|\u0130", "/x?q=|\u20ac", "/a|#b", "/a?b|\\c"],
    FILL_IN: ["/v2/accounts/|{id}", "/v2/|<id>", "/v2/7?to=|{to}", "/|%7Bid", "/|%7did", "/|%3cid", "/|%3Eid"],
}  # fmt: skip
BAD_HOSTS = {
    "the host is empty": [""],
    "the host is malformed; expected name or name:port": [
        "a.example.", "a..b", "-a", "a:", "a:0", "a:65536", "a:1:2", f"{LONG_HOST}a", "a" * 64],
    "expected name or name:port": [
        "a| b", "https:|//api.coinbase.com", "me:x|@a", "a|\n", "|[::1]:8443", "|\u212aelvin"],
}  # fmt: skip


def refusals(what: str, table: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """The texts of a table with their whole messages, without the mark."""
    for message, texts in table.items():
        for text in texts:
            before, mark, after = text.partition("|")
            wrong = re.match("%..|.|", after, re.DOTALL)[0]
            place = f"the {what} has {wrong!a} at position {len(before) + 1}; "
            yield before + after, f"{place}{message}" if mark else message


def test_path_or_host_that_would_be_misread_is_refused(key):
    for path, message in refusals("path", BAD_PATHS):
        assert refused_request(key.rest_jwt, "GET", path) == message, path
    for host, message in refusals("host", BAD_HOSTS):
        assert refused_request(key.rest_jwt, "GET", "/x", host=host) == message, host
        url = f"https://{host}/x"
        if "/" not in host:
            assert refused_request(key.rest_jwt, "GET", url) == message, url


PLUS_2 = datetime.timezone(datetime.timedelta(hours=2))


class NoZone(datetime.tzinfo):
    def utcoffset(self, _) -> None:
        """Say nothing: a datetime of this is naive."""


def test_not_before_dates_a_token_for_a_later_window(key, private_key, frozen):
    for not_before, nbf in (
        (NOW + 3600, NOW + 3600),
        (NOW - 119, NOW - 119),
        (10**11 - 1, 10**11 - 1),
        (datetime.datetime.fromtimestamp(NOW + 60.7, PLUS_2), NOW + 60),
    ):
        rest = key.rest_jwt("GET", ACCOUNTS, not_before=not_before)
        for token in (rest, key.ws_jwt(not_before=not_before)):
            claims = verified(token, private_key)
            assert (claims["nbf"], claims["exp"]) == (nbf, nbf + 120)


NO_MOMENTS = {
    "not_before: such a token would have expired already": [
        NOW - 120, 0, datetime.datetime(2020, 1, 1, tzinfo=PLUS_2)],
    "not_before is neither an int of epoch seconds nor an aware datetime": [
        -1, 10**11, NOW + 0.5, True, "2030-01-01", datetime.datetime(2030, 1, 1), datetime.datetime(2030, 1, 1, tzinfo=NoZone()),
        datetime.date(2030, 1, 1), datetime.datetime.max.replace(tzinfo=PLUS_2)],
}  # fmt: skip


@pytest.mark.parametrize("message", NO_MOMENTS)
def test_not_before_that_makes_no_token_is_refused(key, frozen, message):
    for moment in NO_MOMENTS[message]:
        assert refused_request(key.ws_jwt, not_before=moment) == message, moment


# A key: its tokens; and an object that shows no secret and does not change.


def test_token_is_exactly_what_coinbase_documents(key, private_key, monkeypatch):
    with monkeypatch.context() as patch:
        clock = unittest.mock.Mock(side_effect=[NOW + 0.9] * 2)  # one reading for each
        patch.setattr(time, "time", clock)
        rest, websocket = key.rest_jwt("GET", ACCOUNTS), key.ws_jwt()
    uri = "GET api.coinbase.com/api/v3/brokerage/accounts"
    claims = {"sub": NAME, "iss": "cdp", "nbf": NOW - 5, "exp": NOW + 115}
    for token, expected in ((rest, {**claims, "uri": uri}), (websocket, claims)):
        header = json.loads(segments(token)[0])
        assert re.fullmatch("[0-9a-f]{64}", header.pop("nonce"))
        assert header == {"alg": key.algorithm, "typ": "JWT", "kid": NAME}
        assert json.loads(segments(token)[1]) == expected
        verified(token, private_key)


def test_each_token_has_its_own_nonce(key, private_key, frozen):
    """Even if the program seeds Python's random numbers."""
    tokens = []
    for _ in range(4):
        random.seed(1)
        tokens += [key.ws_jwt(), key.rest_jwt("GET", "/x")]
    assert len(nonces_of(tokens, private_key)) == 8


def hooked(key: cdp_jwt.ApiKey, method: object, url: object) -> str:
    """The token that a key gives a request of an HTTP library."""
    headers = {"Authorization": "of an earlier try"}
    request = types.SimpleNamespace(method=method, url=url, headers=headers)
    assert key(request) is request
    scheme, token = request.headers.pop("Authorization").split(" ")
    assert (scheme, request.headers) == ("Bearer", {})
    return token


def test_hook_signs_the_url_without_fragment_or_refuses_it_unshown(key, private_key):
    assert not isinstance(key, tuple)  # which they would take for Basic credentials
    url = f"https://api.coinbase.com{ACCOUNTS}"
    for shown in (url, f"{url}?limit=1", f"{url}#top", httpx.URL(f"{url}?a=b#c")):
        token = hooked(key, "get", shown)
        assert verified(token, private_key)["uri"] == f"GET api.coinbase.com{ACCOUNTS}"
    unknown = f"unknown method; {UNKNOWN_METHOD}"  # requests.Request() has None
    assert refused_request(hooked, key, None, url) == unknown
    for wrong in (None, "/x\n", b"/x", "http://a/x", f"https://a/{PORTAL}\n"):
        refused_request(hooked, key, "GET", wrong, secret=PORTAL)


def test_key_shows_its_name_and_algorithm_alone(key):
    shown = f"ApiKey(name={NAME!r}, algorithm={key.algorithm!r})"
    assert repr(key) == str(key) == f"{key}" == shown
    kept = [repr(getattr(key, slot)) for slot in cdp_jwt.ApiKey.__slots__]
    assert not leaks(" ".join([*kept, repr(dir(key))]), SECRETS[key.algorithm])
    assert not hasattr(key, "__dict__")
    # In the traceback of an error in __init__, where it is half built:
    assert repr(cdp_jwt.ApiKey.__new__(cdp_jwt.ApiKey)) == "ApiKey(...)"


def test_key_cannot_be_changed_or_pickled_and_is_its_own_copy(key):
    for change in (lambda: setattr(key, "name", "x"), lambda: delattr(key, "name")):
        with pytest.raises(AttributeError, match=r"^an ApiKey cannot be changed; make"):
            change()
    assert copy.copy(key) is key
    assert copy.deepcopy({"auth": [key]})["auth"][0] is key
    for held in (key.repairs, key.warnings, key.allowed_ips):
        assert type(held) is tuple
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"^an ApiKey is not pickled: its private"):
            pickle.dumps(key, protocol)


@needs_cpython
def test_text_of_a_key_is_kept_nowhere():
    """Neither by the key nor by what is remembered."""
    private_key = ed25519.Ed25519PrivateKey.generate()
    key = cdp_jwt.ApiKey(NAME, f'"{portal(private_key)}"')
    cdp_jwt.build_ws_jwt(NAME, portal(private_key))
    half = portal(private_key)[:44]
    held = gc.get_referents(key, *gc.get_objects())
    assert not [each for each in held if type(each) is str and half in each[:-1]]


# WebSocket messages

CHANNELS = ("candles", "futures_balance_summary", "heartbeats", "level2", "market_trades",
            "status", "ticker", "ticker_batch", "user")  # fmt: skip


@pytest.mark.parametrize("products", [(), {"BTC-USD": 1, "ETH-USD": 2}])
def test_websocket_message_has_a_token_if_there_is_a_key(key, private_key, products):
    for channel, kind in itertools.product(CHANNELS, ("subscribe", "unsubscribe")):
        message = functools.partial(cdp_jwt.ws_message, channel, type=kind)
        expected = {"type": kind, "channel": channel, "product_ids": [*products]}
        ids = iter(products) if products else None
        signed = json.loads(message(ids, key=key))
        assert "uri" not in verified(signed.pop("jwt"), private_key)
        assert signed == expected
        if channel in ("user", "futures_balance_summary"):
            assert refused_request(message) == f"the channel {channel} needs a key"
        else:
            assert json.loads(message(products)) == expected


BAD_MESSAGES = [
    *(({"channel": channel}, f"unknown channel; expected one of {', '.join(CHANNELS)}")
      for channel in ("", "heartbeat", "l2_data", "USER")),
    *(({"product_ids": wrong}, f"product_ids is {type(wrong).__name__}; expected a list of texts")
      for wrong in ("", "BTC-USD", Lying("x"), b"BTC-USD", 7)),
    ({"product_ids": ["A-B", "x\n"]}, r"the product has '\n' at position 2; expected one such as BTC-USD"),
    ({"product_ids": [""]}, "the product is empty"),
    ({"type": "sub"}, "type is neither 'subscribe' nor 'unsubscribe'"),
    *(({"key": key}, f"key is {type(key).__name__}; expected an ApiKey: see ApiKey.from_file")
      for key in (PORTAL, "", 0)),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD_MESSAGES)
def test_websocket_message_that_would_fail_is_refused(options, message):
    options = {"channel": "ticker", **options}
    assert refused_request(cdp_jwt.ws_message, **options, secret=PORTAL) == message


# The official SDK's jwt_generator


def test_drop_in_takes_arguments_by_the_names_of_the_sdk(frozen):
    uri = cdp_jwt.format_jwt_uri(method="POST", path=ORDERS)
    rest = cdp_jwt.build_rest_jwt(uri=uri, key_var=NAME, secret_var=PORTAL)
    websocket = cdp_jwt.build_ws_jwt(key_var=NAME, secret_var=PORTAL)
    for token, expected in ((rest, uri), (websocket, None)):
        claims = verified(token, ED25519)
        assert (claims["nbf"], claims.get("uri")) == (NOW - 5, expected)


def test_drop_in_shows_the_right_uri_for_a_wrong_one():
    right = "GET api.coinbase.com/v2/user"
    use = "Coinbase answers this uri with a 401; use"
    for wrong in (
        *(f"{right}?limit=1", right.replace(" ", " https://"), "GET /v2/user"),
        *(right.lower(), right.replace("api", "API"), right.replace("/", ":443/", 1)),
    ):
        message = refused_request(cdp_jwt.build_rest_jwt, wrong, NAME, SEC1)
        assert message == f"{use} {right!r}"
    wrong = f"get api.coinbase.com/{body(SEC1)}"
    message = refused_request(cdp_jwt.build_rest_jwt, wrong, NAME, SEC1, secret=SEC1)
    assert message == f"{use} what format_jwt_uri returns"
    for uri in ("", "GET", "GET ", "/x", "GET  a/x", "GET a/x y", "GET http://a/x"):
        refused_request(cdp_jwt.build_rest_jwt, uri, NAME, SEC1)


def test_drop_in_parses_a_key_once_and_remembers_up_to_eight(monkeypatch):
    monkeypatch.setattr(cdp_jwt, "_remembered", {})
    names = [f"desk{number}" for number in range(8)]
    rounds = []
    for _ in range(3):
        tokens = [cdp_jwt.build_ws_jwt(name, PORTAL) for name in names]
        assert [jwt.get_unverified_header(token)["kid"] for token in tokens] == names
        rounds.append([*cdp_jwt._remembered.values()])
    assert rounds == [rounds[0]] * 3
    assert len(rounds[0]) == 8
    cdp_jwt.build_ws_jwt("ninth", PORTAL)
    assert len(cdp_jwt._remembered) == 1


def test_drop_in_remembers_keys_by_a_hash_of_their_exact_texts(monkeypatch):
    """A masked repr, or another cut between name and secret, is not the same key."""
    remembered: dict[bytes, cdp_jwt.ApiKey] = {}
    monkeypatch.setattr(cdp_jwt, "_remembered", remembered)
    other = ed25519.Ed25519PrivateKey.generate()
    for private_key in (ED25519, other, ED25519):
        token = cdp_jwt.build_ws_jwt(Lying(NAME), Lying(portal(private_key)))
        verified(token, private_key)
    for name, secret in (("a", PORTAL), ("a ", PORTAL), ("a", f" {PORTAL}")):
        cdp_jwt.build_ws_jwt(name, secret)
    for name, secret in (("\udcff", PORTAL), (NAME, flipped(PORTAL, 3))):
        refused(functools.partial(cdp_jwt.build_ws_jwt, name, secret), PORTAL)
    assert len(remembered) == 5
    assert {(type(mark), len(mark)) for mark in remembered} == {(bytes, 32)}
    assert not leaks(repr(remembered), PORTAL)


def test_drop_in_signs_where_openssl_refuses_its_hash(monkeypatch):
    monkeypatch.setattr(cdp_jwt, "_remembered", {})
    monkeypatch.setattr(hashlib, "sha256", unittest.mock.Mock(side_effect=ValueError))
    verified(cdp_jwt.build_ws_jwt(NAME, PORTAL), ED25519)
    assert cdp_jwt._remembered == {}


# Whatever callers give: its exact text counts, or an error says what it is.


@pytest.mark.parametrize("dress", CALLERS.values(), ids=CALLERS)
def test_request_is_the_exact_text_of_the_caller(key, private_key, dress):
    """And is remembered for nobody else, whose text may compare equal to it."""
    secret = SECRETS[key.algorithm]
    for text, path in itertools.product((dress, str, dress), (ACCOUNTS, ORDERS)):
        uri = f"GET localhost{path}"
        request = text("get"), text(path)
        assert cdp_jwt.format_jwt_uri(*request, text("localhost")) == uri
        for token in (
            key.rest_jwt(*request, host=text("localhost")),
            hooked(key, text("get"), text(f"https://localhost{path}")),
            cdp_jwt.build_rest_jwt(text(uri), text(NAME), text(secret)),
        ):
            assert verified(token, private_key)["uri"] == uri
    kind = dress("subscribe")
    message = json.loads(cdp_jwt.ws_message(dress("status"), [dress("B")], type=kind))
    assert message == {"type": "subscribe", "channel": "status", "product_ids": ["B"]}


def test_claim_is_remembered_for_no_other_argument_that_compares_equal(key):
    usual = {"method": "GET", "url_or_path": "/a", "host": "a.b"}
    others = {"method": "PUT", "url_or_path": "/b", "host": "c.d"}
    for name, other in others.items():
        for text in (usual[name], other):
            uri = "{method} {host}{url_or_path}".format(**{**usual, name: text})
            token = key.rest_jwt(**{**usual, name: Lying(text)})
            assert json.loads(segments(token)[1])["uri"] == uri


@needs_cpython  # elsewhere a cache has no type of its own
def test_claims_are_remembered_in_bounds(key):
    """A bot's paths have ids: what is kept of them must not grow for ever."""
    for number in range(300):
        key.rest_jwt("GET", f"/{number}")
    kept = [
        each
        for each in gc.get_objects()
        if isinstance(each, functools._lru_cache_wrapper)
    ]
    ours = [each for each in kept if each.__module__ == cdp_jwt.__name__]
    assert ours
    assert all(each.cache_info().maxsize for each in ours)


@pytest.mark.parametrize("wrong", NO_TEXTS, ids=repr)
def test_what_is_no_text_is_refused(wrong):
    for call in (
        lambda text: key_of().rest_jwt(text, "/x"),
        lambda text: key_of().rest_jwt("GET", text),
        lambda text: key_of().rest_jwt("GET", "/x", host=text),
        lambda text: cdp_jwt.build_rest_jwt(text, NAME, SEC1),
        cdp_jwt.ws_message,
        lambda text: cdp_jwt.ws_message("ticker", [text]),
        lambda text: cdp_jwt.ws_message("ticker", type=text),
        cdp_jwt.inspect_jwt,
    ):
        message = refused_request(call, wrong)
        assert message.endswith(f" is {type(wrong).__name__}, not text")


# For the calls below: forks, and URLs at random


def nonces_of(tokens: list[str], private_key) -> set[str]:
    return {verified(token, private_key)["nonce"] for token in tokens}


def in_a_child(work: Callable[[], str]) -> str:
    """What `work` returns in a forked process."""
    reading, writing = multiprocessing.Pipe(duplex=False)
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=lambda: writing.send(work()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 3.12 and later warn of threads; the server's
        child.start()
    writing.close()
    told = reading.recv()
    child.join()
    assert child.exitcode == 0
    return told


VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
PATHS = st.text(VISIBLE, max_size=30).map("/".__add__)
HOSTS = st.sampled_from([API, "API.Coinbase.com:443", "localhost:8443", "a.example"])
URL_PARTS = ["https://", "http://", "HTTPS://", "//", "/", "api.coinbase.com", "evil.example",
             "@", ":443", "?", "#", "\\", "..", "%2e", "x", "/v2/user", "\t", "\u3002", "[::1]"]  # fmt: skip
URL_PART = st.sampled_from(URL_PARTS) | st.text(max_size=2)
URLS = st.lists(URL_PART, max_size=8).map("".join)


# ------------------------------------------------------------------- 6. reasons
# `inspect_jwt` finds a token in any text, names what is wrong with it, and nothing else.

NONCE = "ab" * 32
HEADER = {"alg": "ES256", "typ": "JWT", "kid": NAME, "nonce": NONCE}
URI = "GET api.coinbase.com/api/v3/brokerage/accounts"
CLAIMS = {"sub": NAME, "iss": "cdp", "nbf": NOW - 5, "exp": NOW + 115, "uri": URI}


def segment(content: object) -> str:
    octets = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


SIGNATURE = segment(bytes(range(1, 65)))
DER = segment(utils.encode_dss_signature(1 << 255, (1 << 255) + 1))


def made(header=HEADER, claims=CLAIMS, signature: str = SIGNATURE) -> str:
    return f"{segment(header)}.{segment(claims)}.{signature}"


def claiming(**members) -> str:
    return made(claims={**CLAIMS, **members})


def named(name: str) -> str:
    return made({**HEADER, "kid": name}, {**CLAIMS, "sub": name})


def without(members: dict, name: str) -> dict:
    return {key: value for key, value in members.items() if key != name}


# What people have in hand, with TOKEN in it.
AROUND = (
    "TOKEN", ' \n"TOKEN"\n', "\ufeffTOKEN\u200b", "Bearer TOKEN", "Bearer TOKEN was refused", "authorization:bearer TOKEN",
    "Authorization: Bearer TOKEN\r\n", "'Authorization': 'Bearer TOKEN',",
    "export JWT='TOKEN'", "$env:JWT = 'TOKEN'", "https://a.example/?jwt=TOKEN&x=1",
    '{"type": "subscribe", "channel": "ticker", "product_ids": ["BTC-USD"], "jwt": "TOKEN"}',
    "curl --cacert keystore-of-ours.pem \\\n -H 'Authorization: Bearer TOKEN' https://a",
)  # fmt: skip
R_AND_S = "expected r and s, 32 bytes each"


@pytest.mark.parametrize("text", AROUND)
def test_token_is_found_in_what_people_have_in_hand(text):
    for dress in (str, *CALLERS.values()):
        found = cdp_jwt.inspect_jwt(dress(text.replace("TOKEN", made())), now=NOW)
        assert found == (HEADER, CLAIMS, (), (), 115)
    spaced = made(json.dumps(HEADER, indent=1).encode(), signature=DER)
    found = cdp_jwt.inspect_jwt(text.replace("TOKEN", spaced), now=NOW)
    assert found.problems == (f"the signature is DER; {R_AND_S}",)


# What is known to fail, and what the documentation forbids


def timed(nbf: int, exp: int) -> str:
    return claiming(nbf=NOW + nbf, exp=NOW + exp)


NO_SIGNATURE = f"the signature has 0 bytes; {R_AND_S}"
NO_CLAIMS = "the claims set is no JSON object, or an empty one"
NO_EXTENSION = "Coinbase documents no extension"
DIFFER = "kid and sub differ; both are the key's name"
UNFILLED = "the key's name is a placeholder; put the value there, from the key file"
AFTER = "s after nbf; expected 1 to 120"
TWICE = json.dumps(HEADER).replace("{", '{"alg": "EdDSA", ').encode()
PROBLEMS = {
    "two parts": (made().rpartition(".")[0], ["2 parts, expected 3: header.claims.signature", NO_SIGNATURE]),
    "a header alone": (made().partition(".")[0], ["no JWT: 1 part, expected 3"]),
    "a dot behind it": (f"{made()}.", ["4 parts, expected 3: header.claims.signature"]),
    "an encrypted one": ("a.b.c.d.e", ["no JWT: 5 parts, expected 3"]),
    "an address": ("api.coinbase.com/v2", ["no JWT: neither header nor claims set can be read"]),
    "padding": (made(signature=SIGNATURE + "=="), ["the signature has '='; expected base64url, without padding"]),
    "too many characters": (made() + "xyz", ["the signature is not base64url", NO_SIGNATURE]),
    "unused bits": (made(signature=SIGNATURE[:-1] + "B"),
                    ["the last character of the signature has bits that belong to no octet and are not 0"]),
    "DER": (made(signature=DER), [f"the signature is DER; {R_AND_S}"]),
    "almost DER": (made(signature=segment(b"0" * 70)), [f"the signature has 70 bytes; {R_AND_S}"]),
    "header is cut off": (f"authorization: bearer {made(b'{')}", ["the header is no JSON object, or an empty one"]),
    "claims in UTF-16": (made(claims=json.dumps(CLAIMS).encode("utf-16")), [NO_CLAIMS]),
    "claims are empty": (made(claims={}), [NO_CLAIMS]),
    "NaN": (claiming(x=float("nan")), [NO_CLAIMS]),
    "49 levels": (claiming(x=[[]] * 47), []),
    "50 levels": (claiming(x=[[]] * 48), [NO_CLAIMS]),
    "a member twice": (made(TWICE), ["the header has a member twice"]),
    "crit": (made({**HEADER, "crit": []}), [f"the header has crit (RFC 7515); {NO_EXTENSION}"]),
    "b64": (made({**HEADER, "b64": True}), [f"the header has b64 (RFC 7797); {NO_EXTENSION}"]),
    "placeholder": (named("organizations/{org_id}/apiKeys/{key_id}"), [f"kid: {UNFILLED}"]),
    "undefined sub": (claiming(sub="undefined"), [DIFFER, f"sub: {UNFILLED}"]),
    "secret": (named(SEC1), ["kid: the name looks like a key: give the key's name, `name` or `id` in the key file"]),
    "line end": (named(f"{NAME}\n"), ["kid has quotes, white space or escapes that are no part of the name"]),
    "another aud": (claiming(aud=["cdp_service", 7]), ["aud is ['cdp_service', 7]; expected none"]),
    "empty aud": (claiming(aud=""), ["aud is ''; expected none"]),
    "just begun, and short": (timed(0, 1), []),
    "early": (timed(1, 121), ["not valid yet: nbf is 1 s ahead; is it for later, or was its clock ahead?"]),
    "no time to live": (timed(0, 0), ["expired 0 s ago", f"exp is 0 {AFTER}"]),
    "lives too long": (timed(-5, 116), [f"exp is 121 {AFTER}"]),
    "since 1970": (timed(-NOW, 115), [f"exp is {NOW + 115} {AFTER}"]),
    "uris is text": (claiming(uris=URI), [f"uris is {URI!r:.30}; expected a list of texts"]),
    "uris is empty": (claiming(uris=[]), ["uris is []; expected a list of texts"]),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_problem_of_a_token_is_named(case):
    token, problems = PROBLEMS[case]
    assert list(cdp_jwt.inspect_jwt(token, now=NOW).problems) == problems


MEMBERS = {"alg": "ES256 or EdDSA", "kid": "text", "nonce": "text", "sub": "text", "iss": "'cdp'"}  # fmt: skip


def test_member_that_is_missing_or_no_text_is_named():
    for name, expected in MEMBERS.items():
        rest = without(HEADER if name in HEADER else CLAIMS, name)
        changed = [(repr(x), {**rest, name: x}) for x in (7, "", None, ["ES256"])]
        for shown, members in [("missing", rest), *changed]:
            token = made(members) if name in HEADER else made(claims=members)
            first, *more = cdp_jwt.inspect_jwt(token, now=NOW).problems
            assert first == f"{name} is {shown}; expected {expected}"
            assert more in ([], [DIFFER])


def test_seconds_left_are_those_to_exp_and_negative_after_it():
    for now, exp in ((NOW, NOW - 80), (0, 0)):
        found = cdp_jwt.inspect_jwt(claiming(exp=exp), now=now)
        assert found.seconds_left == exp - now


INTEGER = "expected an integer: epoch seconds"
NO_TIMES = [
    (str(NOW), f"'1800000000', not an integer; {INTEGER}"),
    (NOW + 0.5, f"1800000000.5, not an integer; {INTEGER}"),
    (True, f"True, not an integer; {INTEGER}"),
    (10**11, f"100000000000; {INTEGER}, not milliseconds"),
    (-1, f"-1; {INTEGER}, since 1970"),
]


@pytest.mark.parametrize("member", ["nbf", "exp"])
def test_time_of_a_token_that_is_no_time_is_named(member):
    wrong = [({**CLAIMS, member: value}, problem) for value, problem in NO_TIMES]
    for claims, problem in [(without(CLAIMS, member), f"missing; {INTEGER}"), *wrong]:
        found = cdp_jwt.inspect_jwt(made(claims=claims), now=NOW)
        assert found.problems == (f"{member} is {problem}",)
        assert found.seconds_left == (None if member == "exp" else 115)


ROOTS = ": the path is under neither /api/v3/brokerage nor /v2: "
NO_CDP_KEYS = "takes no requests that are signed with CDP keys"
URIS_OF_TOKENS = {
    7: [" is int, not text"],
    None: [" is NoneType, not text"],
    "": [" has no method: expected `GET api.coinbase.com/...`"],
    "api.coinbase.com/v2/user": [" has no method: expected `GET api.coinbase.com/...`"],
    "get api.coinbase.com/v2": [" has its method in lower case"],
    "GET https://api.coinbase.com/v2": [" has a scheme; it starts with the host"],
    "GET /v2": [" has no host before its path"],
    "GET a/?#": [" has a query; it ends with the path", " has a fragment; it ends with the path"],
    "GET API.coinbase.com:443/v2": [" is not as Coinbase reads it: GET api.coinbase.com/v2"],
    "GET api.coinbase.com/v2/{id}": [f": the path has '{{' at position 5; {FILL_IN}"],
    "GET api.coinbase.com": [" is not as Coinbase reads it: GET api.coinbase.com/", f"{ROOTS}/"],
    "GET api.coinbase.com/v22/user": [f"{ROOTS}/v22/user"],
    "GET api.coinbase.com/v2//x": [": the path has an empty segment; is an id missing? /v2//x"],
    "GET undefined/v2/user": [": the host undefined is no host of Coinbase's"],
    "GET api.exchange.coinbase.com:8443/v2": [f": api.exchange.coinbase.com {NO_CDP_KEYS}"],
    "GET coinbase.com/v2": [f": coinbase.com {NO_CDP_KEYS}"],
    "GET api.coinbase.com/v2": [],
    "GET api.cdp.coinbase.com:8443/platform/v2/evm": [],
    "GET api.developer.coinbase.com/onramp/v1/token": [],
    "GET api-sandbox.coinbase.com/api/v3/brokerage/accounts": [],
}  # fmt: skip


@pytest.mark.parametrize("uri", URIS_OF_TOKENS)
def test_uri_of_a_token_that_is_known_to_fail_is_named(uri):
    tokens = {"uri": claiming(uri=uri), "uris[1]": claiming(uris=[URI, uri])}
    for name, token in tokens.items():
        found = cdp_jwt.inspect_jwt(token, now=NOW)
        assert list(found.problems) == [name + each for each in URIS_OF_TOKENS[uri]]
        assert found.notes == (() if name == "uri" else (URIS,))


# What is no problem: tokens of other clients that are in daily use

UNKNOWN_NAME = "the key's name is neither organizations/.../apiKeys/... nor a UUID"
URIS = "uris is what cdp-sdk and ccxt write; Advanced Trade's documentation has uri"
AUD = "aud is {}, as cdp-sdk or ccxt write it; the documentation has none"
FORMER = "iss is 'coinbase-cloud', as ccxt writes it and the documentation had it until 2024; expected 'cdp'"
FOR_WEBSOCKET = "without uri, this is a token for a WebSocket"
GATEWAY = "uri: {} is no host of Coinbase's; a gateway?"
IN_USE = {  # algorithm, what is in the token besides names and times, the notes
    "coinbase-advanced-py": ("ES256", {"uri": URI}, []),
    "cdp-sdk": ("EdDSA", {"aud": None, "uris": [URI]}, [AUD.format("null"), URIS]),
    "ccxt, ES256": ("ES256", {"iss": "coinbase-cloud", "aud": ["retail_rest_api_proxy"], "uri": URI},
                    [FORMER, AUD.format('["retail_rest_api_proxy"]')]),
    "ccxt, EdDSA": ("EdDSA", {"aud": ["cdp_service"], "uris": [URI]}, [AUD.format('["cdp_service"]'), URIS]),
    "a WebSocket's": ("ES256", {"aud": "public_websocket_api"}, [AUD.format('"public_websocket_api"'), FOR_WEBSOCKET]),
    "a gateway's": ("ES256", {"uri": "GET localhost:8443/v2"}, [GATEWAY.format("localhost:8443")]),
    "that of a like name": ("ES256", {"uri": "GET my-coinbase.com/x"}, [GATEWAY.format("my-coinbase.com")]),
    "a named key's": ("ES256", {"sub": f"{UUID}-old", "uri": URI}, [UNKNOWN_NAME]),
    "other members": ("ES256", {"typ": "", "jti": "not signed", "uri": URI}, []),  # "" for none
    "another type": ("ES256", {"typ": "at+jwt", "uri": URI}, ["typ is 'at+jwt'; expected 'JWT'"]),
}  # fmt: skip


@pytest.mark.parametrize("client", IN_USE)
def test_token_in_daily_use_has_notes_and_no_problem(client):
    algorithm, members, notes = IN_USE[client]
    claims = {**without(CLAIMS, "uri"), **members}
    header = {"kid": claims["sub"], "nonce": NONCE, "typ": claims.pop("typ", "JWT")}
    token = jwt.encode(claims, PRIVATE_KEYS[algorithm], algorithm, header)
    key = cdp_jwt.ApiKey(claims["sub"], SECRETS[algorithm])
    found = cdp_jwt.inspect_jwt(token, key=key, now=NOW)
    assert (found.problems, list(found.notes)) == ((), notes)


def test_words_of_messages_within_a_token_decide_nothing():
    for word in ("not signed by the key x", "no JWT: 1 part", "Bearer eyJ.eyJ."):
        token = made({**HEADER, "nonce": word, word: word}, {**CLAIMS, word: word})
        assert cdp_jwt.inspect_jwt(token, now=NOW)[2:] == ((), (), 115)


def test_signature_is_verified_with_the_key_at_hand(key, frozen):
    dress = {"ES256": pem, "EdDSA": portal}[key.algorithm]
    other = cdp_jwt.ApiKey(NAME, dress(OTHER_KEYS[key.algorithm]))
    renamed = cdp_jwt.ApiKey(UUID, SECRETS[key.algorithm])
    alg = {"ES256": "EdDSA", "EdDSA": "ES256"}[key.algorithm]
    token = key.rest_jwt("GET", ACCOUNTS)
    header, _, signature = token.split(".")
    claims = segment({**CLAIMS, "uri": "GET api.coinbase.com/v2"})
    forged = f"{header}.{claims}.{signature}"
    not_signed = f"not signed by the key {NAME}"
    for inspected, at_hand, problems in (
        (token, key, ()),
        (token, other, (not_signed,)),
        (forged, key, (not_signed,)),
        (token, renamed, ("kid is not the name of the key at hand",)),
        (key_of(alg).ws_jwt(), key, (f"alg is '{alg}'; expected {key.algorithm}", not_signed)),
    ):  # fmt: skip
        assert cdp_jwt.inspect_jwt(inspected, key=at_hand).problems == problems


def test_signature_with_an_octet_too_many_is_signed_by_nobody(run, key_file, frozen):
    """r, NUL, s: by their numbers alone they are the right ones."""
    signing_input, _, signature = key_of().ws_jwt().rpartition(".")
    octets = segments(signature)[0]
    token = f"{signing_input}.{segment(octets[:32] + bytes(1) + octets[32:])}"
    problem = f"the signature has 65 bytes; {R_AND_S}"
    assert cdp_jwt.inspect_jwt(token, key=key_of()).problems == (problem,)
    lines = run("decode", token, "--key-file", str(key_file)).out.splitlines()
    assert lines[4] == f"problem  {problem}"  # behind header, claims, nbf and exp


def test_inspect_jwt_refuses_a_wrong_argument():
    no_time = "now is not a time in epoch seconds, as time.time() is"
    no_key = "expected an ApiKey: see ApiKey.from_file"
    for token, options, message in (
        (" '\"\n", {}, "the token is empty"),
        ("x" * 65_537, {}, "the token is over 64 KiB; give it alone"),
        *((made(), {"key": key}, f"key is {type(key).__name__}; {no_key}") for key in ("text", "", 7)),
        *((made(), {"now": now}, no_time) for now in (float("nan"), float("inf"), -1e11, "18")),
    ):  # fmt: skip
        assert refused_request(cdp_jwt.inspect_jwt, token, **options) == message
    assert cdp_jwt.inspect_jwt("x" * 65_536, now=1e11 - 1).problems


@pytest.mark.parametrize("run", ["eyA", "eyAAAAAA=", "ey.", ".", "=", "%2e/", "a."])
def test_time_for_a_token_path_or_host_is_linear_in_its_length(run):
    def seconds(size: int) -> float:
        text = (run * size)[:size]
        start = time.process_time()  # others may keep the machine busy
        for token in (f"x={text}!", f"{text}.{text}.x"[-size:]):
            cdp_jwt.inspect_jwt(token, now=NOW)
        for path, host in ((f"/{text}\n", "a"), ("/", f"{text}_")):
            with pytest.raises(cdp_jwt.InvalidRequestError):
                cdp_jwt.format_jwt_uri("GET", path, host)
        return time.process_time() - start

    short, long = (min(seconds(size) for _ in range(3)) for size in (16_000, 32_000))
    assert long < 3 * short + 0.05  # what is quadratic takes four times as long


TOKENS = [made(), made(signature=DER), key_of().ws_jwt(), key_of("EdDSA").rest_jwt("GET", "/x"),
          claiming(iss="\x1b[31m"), *(token for token, _ in list(PROBLEMS.values())[:12])]  # fmt: skip


def printable(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@examples(200)
@given(
    st.builds(
        lambda header, claims, octets: made({**HEADER, **header}, {**CLAIMS, **claims}, segment(octets)),
        st.dictionaries(st.sampled_from([*HEADER, "crit"]), JSON_VALUES),
        st.dictionaries(st.sampled_from([*CLAIMS, "aud", "uris"]), JSON_VALUES),
        st.binary(max_size=70),
    ) | mutations(TOKENS) | st.text(max_size=200),
    st.sampled_from([None, key_of("ES256"), key_of("EdDSA")]),
)  # fmt: skip
def test_any_text_is_inspected_and_what_is_said_is_printable(token, key):
    with contextlib.suppress(cdp_jwt.InvalidRequestError):
        found = cdp_jwt.inspect_jwt(token, key=key, now=NOW)
        assert found.problems or found.header
        assert printable("\n".join((*found.problems, *found.notes)))


# ------------------------------------------------------- a strict Coinbase on loopback
#
# Two servers: a `coinbase` verifies each token as strictly as the real one, and a `wire`
# says whatever octets its script tells it to.


Seen = collections.namedtuple("Seen", "method path headers body connection token")


def status(code: int, content: object = b"", **headers: str):
    """A fault: this answer instead of the right one."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.answer(code, content, names)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the documentation says, and lets no token pass that is not exact."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer takes 40 ms
    server: Coinbase

    def setup(self) -> None:
        self.request.do_handshake()  # in the connection's own thread
        super().setup()

    def log_message(self, *_) -> None:
        pass

    def date_time_string(self, timestamp=None) -> str:
        return email.utils.formatdate(self.server.now(), usegmt=True)

    def handle_method(self) -> None:
        server, headers = self.server, self.headers
        self.body = self.rfile.read(int(headers.get("Content-Length", 0)))
        self.token = headers.get("Authorization", "").partition("Bearer ")[2] or None
        called = self.command, self.path, headers, self.body
        server.seen.append(Seen(*called, self.client_address[1], self.token))
        if server.faults:
            return server.faults.pop(0)(self)
        server.rate_left -= 1
        path, _, query = self.path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        nowhere = (False, status(404, {"message": "no such path"}))
        needs_token, respond = server.routes.get((self.command, path), nowhere)
        problem = server.token_problem(self) if needs_token else None
        if problem:
            server.refusals.append(problem)
            respond = status(401, b"Unauthorized", Content_Type="text/plain")
        return respond(self)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_method

    def answer(self, code: int, content: object, headers: dict | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        usual = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        left = {"limit": "30", "remaining": str(self.server.rate_left), "reset": "1"}
        usual |= {f"x-ratelimit-{name}": value for name, value in left.items()}
        self.send_response(code)
        for name, value in {**usual, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Coinbase(http.server.ThreadingHTTPServer):
    """The REST API as far as the tests need it; each token is verified with PyJWT."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, certificate: ssl.SSLContext, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.certificate = certificate
        self.host = f"localhost:{self.server_address[1]}"
        self.keys = {NAME: [P256.public_key(), ED25519.public_key()]}
        self.clock_ahead = 0
        self.permissions = {"can_view": True, "can_trade": True, "can_transfer": False}
        self.rate_left = 1_000_000
        self.seen: list[Seen] = []
        self.faults: list[Callable[[Handler], None]] = []
        self.refusals: list[str] = []
        self.nonces: set[str] = set()
        self.orders: dict[str, dict] = {}
        permissions = (True, lambda handler: handler.answer(200, self.permissions))
        self.routes = {
            ("GET", TIME): (False, self.time),
            ("GET", "/api/v3/brokerage/key_permissions"): permissions,
            ("GET", ACCOUNTS): (True, self.accounts),
            ("GET", "/v2/accounts"): (True, self.accounts),
            ("GET", f"{ORDERS}/historical/fills"): (True, self.accounts),
            ("GET", f"{ORDERS}/historical/batch"): (True, self.list_orders),
            ("POST", ORDERS): (True, self.create_order),
        }
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"):
            self.routes[method, "/echo"] = (True, self.echo)

    def get_request(self):
        connection, address = super().get_request()
        connection.settimeout(60)
        later = {"server_side": True, "do_handshake_on_connect": False}
        return self.certificate.wrap_socket(connection, **later), address

    def handle_error(self, request, client_address) -> None:
        pass  # clients of these tests leave early

    def now(self) -> float:
        return time.time() + self.clock_ahead

    def token_problem(self, handler: Handler) -> str | None:
        """Say what is wrong with a request's token, as strictly as Coinbase does."""
        header, claims = {}, {}
        untimed = {"verify_exp": False, "verify_nbf": False}  # by this clock, below
        with contextlib.suppress(jwt.PyJWTError):
            header = jwt.get_unverified_header(handler.token)
        for public_key in self.keys.get(header.get("kid"), []):
            with contextlib.suppress(jwt.PyJWTError, TypeError, ValueError):
                known = ["ES256", "EdDSA"]
                claims = jwt.decode(handler.token, public_key, known, options=untimed)
        if not claims:
            return "no token of a known key"
        uri = f"{handler.command} {self.host}{handler.path.partition('?')[0]}"
        expected = {"sub": header["kid"], "iss": "cdp", "uri": uri}
        nonce, nbf, exp = header["nonce"], claims["nbf"], claims["exp"]
        is_new = re.fullmatch("[0-9a-f]{64}", nonce) and nonce not in self.nonces
        self.nonces.add(nonce)
        if claims != {**claims, **expected} or handler.headers["Host"] != self.host:
            return f"not for this request: {claims}"
        return None if is_new and nbf <= self.now() < exp <= nbf + 120 else "not now"

    def time(self, handler: Handler) -> None:
        handler.answer(200, {"epochMillis": str(int(self.now() * 1000))})

    def echo(self, handler: Handler) -> None:
        content = {"path": handler.path, "body": handler.body.decode()}
        handler.answer(200, {**content, "type": handler.headers.get("Content-Type")})

    def accounts(self, handler: Handler) -> None:
        """A page of accounts, or of fills, in the ways that the documentation has."""
        query, path = handler.query, handler.path.partition("?")[0]
        number = int(query.get("cursor") or query.get("starting_after") or 0)
        has_next = number < 2
        cursor = str(number + 1) if has_next else ""
        uri = f"{path}?limit=1&starting_after={cursor}" if has_next else None
        content = {"fills": [number], "cursor": cursor}
        if path == ACCOUNTS:
            content = {"accounts": [number], "has_next": has_next, "cursor": cursor}
        elif path == "/v2/accounts":
            content = {"pagination": {"next_uri": uri}, "data": [number]}
        handler.answer(200, content)

    def create_order(self, handler: Handler) -> None:
        if not self.permissions["can_trade"]:
            error = {"error": "PERMISSION_DENIED", "message": "Missing required scopes"}
            return handler.answer(403, error)
        order = json.loads(handler.body)
        placed = {"order_id": f"order {len(self.orders)}", **order}
        placed = self.orders.setdefault(order["client_order_id"], placed)
        return handler.answer(200, {"success": True, "success_response": placed})

    def list_orders(self, handler: Handler) -> None:
        handler.answer(200, {"orders": list(self.orders.values()), "has_next": False})


@contextlib.contextmanager
def serving(server: socketserver.BaseServer):
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def server_context(ca: trustme.CA, *names: str, **validity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("localhost",)), **validity).configure_cert(context)
    return context


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def tls(ca) -> ssl.SSLContext:
    return server_context(ca)


@pytest.fixture(scope="session")
def ca_file(ca, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def trust(ca) -> ssl.SSLContext:
    """It knows the tests' CA alone: to read those of the system takes long."""
    return ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())


@pytest.fixture
def coinbase(tls) -> Iterator[Coinbase]:
    with serving(Coinbase(tls)) as server:
        yield server


@pytest.fixture
def client(coinbase, trust) -> cdp_jwt.Client:
    return calling(coinbase, trust, timeout=5, retries=2)


class Wire:
    """A server at the level of octets: a script says what becomes of each connection."""

    def __init__(self, script, context: ssl.SSLContext | None) -> None:
        self.script, self.context = script, context
        self.requests: list[bytes] = []
        self.connections, self.passed = 0, b""
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"localhost:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # once it is closed
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                call = functools.partial(self.serve, connection)
                threading.Thread(target=call, daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # PyPy's ssl raises a RuntimeError where others raise an OSError.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                self.script(self, connection)

    def read_request(self, connection: socket.socket) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(65536)
            if not part:
                raise OSError("the client left")
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def close(self) -> None:
        self.over.set()
        self.listener.close()


@pytest.fixture
def wire(tls) -> Iterator[Callable[..., Wire]]:
    with contextlib.ExitStack() as servers:

        def start(script, context: ssl.SSLContext | None = tls) -> Wire:
            return servers.enter_context(contextlib.closing(Wire(script, context)))

        yield start


def saying(*answers: bytes) -> Callable[[Wire, socket.socket], None]:
    """A script: answer one request of a connection after the other, then leave."""

    def script(wire: Wire, connection: socket.socket) -> None:
        for answer in answers or [b""]:
            wire.read_request(connection)
            connection.sendall(answer)

    return script


def dripping(octets, start: bytes = b"", pause: float = 0.05):
    """A script: answer with `start` at once, then octet by octet, then not at all."""

    def script(wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        connection.sendall(start)
        for octet in octets:
            if wire.over.wait(pause):
                return
            connection.sendall(bytes([octet]))
        wire.over.wait(20)

    return script


def pump(one: socket.socket, other: socket.socket, wire: Wire) -> None:
    """Carry octets both ways, and keep them."""
    while not wire.over.is_set():
        for source in select.select([one, other], [], [], 0.1)[0]:
            octets = source.recv(65536)
            if not octets:
                return
            wire.passed += octets
            (other if source is one else one).sendall(octets)


@pytest.fixture
def proxy(wire, monkeypatch) -> Callable[..., Wire]:
    """Put a CONNECT proxy into HTTPS_PROXY: it carries the call, or gives an answer."""

    def start(answer: bytes | None = None, login: str = "") -> Wire:
        def script(wire: Wire, client: socket.socket) -> None:
            host, port = wire.read_request(client).split()[1].split(b":")
            if answer is not None:
                return client.sendall(answer)
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 299 OK\r\n\r\n")  # RFC 9110, 9.3.6: any 2xx
                pump(client, server, wire)

        through = wire(script, None)
        monkeypatch.setenv("HTTPS_PROXY", f"http://{login}{through.host}")
        return through

    return start


def calling(server: Wire | Coinbase, trust: ssl.SSLContext, **options):
    defaults = {"timeout": 3, "retries": 0, "host": server.host, "ssl_context": trust}
    return cdp_jwt.Client(key_of(), **{**defaults, **options})


def failure(kind: type[Exception], call, *arguments, **options) -> cdp_jwt.CdpError:
    """The error of a call, with nothing behind it, and without the token."""
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    assert not [text for text in reported(caught.value) if "eyJ" in text]
    assert caught.value.__context__ is None
    return caught.value


def transport_error(call, *arguments, **options) -> str:
    return str(failure(cdp_jwt.TransportError, call, *arguments, **options))


def refusal(call, *arguments, **options) -> str:
    return str(failure(cdp_jwt.InvalidRequestError, call, *arguments, **options))


# --------------------------------------------------------------------- 7. calls
#
# A call is sent as it was meant, once, and to its own host alone. Whatever comes back,
# or does not, the call ends in time, keeps to its sizes, and gives the true reason.

UNKNOWN = (
    "it may have been carried out and was not sent again: look for it first, an order"
    " by its client_order_id"
)
NOT_CARRIED_OUT = "it was not carried out"
NOT_HTTP = "its answer is not HTTP; check host and proxy"
CLOSED = "it closed the connection; try again"
TIMED_OUT = "it took longer than the timeout; try again, or raise the timeout"
COMPRESSED = "its answer is compressed, which was not asked for; check host and proxy"
TLS_FAILED = "TLS failed; is it a server for TLS 1.2 or later?"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def once_sent(message: str) -> str:
    """What becomes of it when trying again could place a second order."""
    return f"{re.sub('; try again$|try again, or ', '', message)}; {UNKNOWN}"


def test_client_makes_calls_that_a_strict_server_accepts(coinbase, trust, key):
    """And, without a key, public ones."""
    options = {"host": coinbase.host, "ssl_context": trust}
    response = cdp_jwt.Client(key, **options).get(ACCOUNTS)
    assert response.json() == {"accounts": [0], "has_next": True, "cursor": "1"}
    assert response.headers["content-type"] == "application/json"
    assert repr(response) == f"<Response 200, {len(response.body)} bytes>"
    public = cdp_jwt.Client(**options).get(TIME)
    assert (public.status, coinbase.refusals, coinbase.seen[1].token) == (200, [], None)


def test_json_of_an_answer_or_a_page_is_utf_8_or_a_transport_error(client, coinbase):
    """A page of the command is written without its line breaks: with no other code."""
    coinbase.faults.append(status(299, b"\xef\xbb\xbf[1]"))  # RFC 8259, section 8.1
    assert client.get(ACCOUNTS).json() == [1]
    for body in (b"", b"\xe9", b"[" * 100_000, "[]".encode("utf-16")):
        coinbase.faults += [status(200, body)] * 2
        response = client.get(ACCOUNTS)
        message = "this answer (HTTP 200) is not JSON; see body"
        assert (transport_error(response.json), response.body) == (message, body)
        assert transport_error(next, client.pages(ACCOUNTS)) == message


def test_answer_without_a_length_that_is_cut_off_is_no_json(wire, trust):
    response = calling(wire(saying(OK + b'\r\n{"a": [1')), trust).get("/x")
    assert response.body == b'{"a": [1'
    assert "is not JSON" in transport_error(response.json)


# Lookup, connecting, and what can go wrong in any phase

SYSTEM_ERRORS = {  # what they say decides nothing
    socket.timeout("certificate expired"): TIMED_OUT,
    ConnectionRefusedError("timed out"): "it refused the connection; check host, firewall, HTTPS_PROXY",
    ConnectionResetError("timed out"): CLOSED,
    ssl.SSLEOFError(8, "Verif"): CLOSED,
    ssl.SSLZeroReturnError(6, "Verif"): CLOSED,
    ssl.SSLError(1, "timed out"): TLS_FAILED,
    OSError("timed out"): "the connection failed; check network, host and proxy",
}  # fmt: skip
PHASES = {
    "lookup": (socket, "getaddrinfo"),
    "connect": (socket, "create_connection"),
    "TLS": (ssl.SSLContext, "wrap_socket"),
    "send": (ssl.SSLSocket, "sendall"),
    "read": (ssl.SSLSocket, "recv_into"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_failure_is_explained_by_its_type_and_phase(wire, trust, phase):
    server = wire(saying(OK + b"\r\n"))
    was_sent = phase in ("send", "read")
    for error, message in SYSTEM_ERRORS.items():
        failing = unittest.mock.Mock(side_effect=error)
        with unittest.mock.patch.object(*PHASES[phase], failing):
            call = calling(server, trust).post
            found = failure(cdp_jwt.TransportError, call, "/x")
        shown = once_sent(message) if was_sent else message
        assert str(found) == f"{server.host}: {shown}"
        assert found.outcome_unknown == was_sent


def test_addresses_share_the_time_and_none_is_named(coinbase, trust, monkeypatch):
    clock, tried = [100.0], []

    def connect(address: tuple, share: float) -> socket.socket:
        tried.append((address[0], share))
        if address[0] != "::4":
            clock[0] += share if address[0] == "::1" else 0  # the others fail at once
            raise OSError if address[0] == "::2" else ConnectionRefusedError
        sock = socket.socket()
        sock.connect(coinbase.server_address)
        return sock

    found = [(0, 0, 0, "", (f"::{number}", 0)) for number in (1, 2, 3, 4)]
    answers = [found, [], socket.gaierror(-2, "timed out")]
    lookup = unittest.mock.Mock(side_effect=answers)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert calling(coinbase, trust, timeout=40).get(ACCOUNTS).status == 200
    assert tried == [("::1", 10), ("::2", 10), ("::3", 15), ("::4", 30)]
    problem = "its name was not found; check host, DNS and HTTPS_PROXY"
    for _ in range(2):
        found = transport_error(calling(coinbase, trust).post, "/x")
        assert found == f"{coinbase.host}: {problem}"


# Reading an answer

SILENT = {  # answers without a status
    "nothing": (b"", CLOSED),
    "half a status line": (b"HTTP/1.1 20", NOT_HTTP),
    "endless status line": (b"HTTP/1.1 401 " + b"x" * 70_000, NOT_HTTP),
    "other protocol": (b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\n\r\n", NOT_HTTP),
}
STOPPED = [b"", b"A: b\r\n", b"Content-Length: 9\r\n\r\n{"]  # and nothing more comes
BROKEN = {  # what follows a status line; some of it http.client accepts (cpython#81274)
    "bare CR before a length": (b"A: b\rContent-Length: 2\r\n\r\n{}x", NOT_HTTP),
    "200 headers": (b"X: y\r\n" * 200 + b"\r\n", NOT_HTTP),
    "line of 70 KB": (b"X: %b\r\n\r\n" % (b"y" * 70_000), NOT_HTTP),
    "header without a colon": (b"A: b\r\nX\r\nContent-Length: 9\r\n\r\n{}", NOT_HTTP),
    "mail's first line": (b"From me\r\nContent-Length: 2\r\n\r\n{}", NOT_HTTP),
    "headers cut off": (b"A: b\r\n", CLOSED),
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", NOT_HTTP),
    "length below 0": (b"Content-Length: -2\r\n\r\n{}", NOT_HTTP),
    "other framing": (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", NOT_HTTP),
    "body cut off": (b"Content-Length: 100\r\n\r\n{}", CLOSED),
    "chunks without an end": (CHUNKED + b"2\r\n{}\r\n", CLOSED),
    "two codings": (b"Content-Encoding:\r\nContent-Encoding: br\r\n\r\nx", COMPRESSED),
}


@pytest.mark.parametrize("fault", [*SILENT, *BROKEN])
def test_malformed_answer_is_a_transport_error(wire, trust, fault):
    octets, message = SILENT.get(fault) or BROKEN[fault]
    last_status = b"HTTP/1.1 299 OK\r\n"
    server = wire(saying(octets if fault in SILENT else last_status + octets))
    call = calling(server, trust).request
    assert transport_error(call, "GET", "/x") == f"{server.host}: {message}"
    assert transport_error(call, "POST", "/x").endswith(once_sent(message))


@pytest.mark.parametrize("fault", [*BROKEN, *STOPPED])
def test_status_of_an_error_is_kept_whatever_follows_it(wire, trust, fault):
    octets, message = BROKEN.get(fault, (fault, TIMED_OUT))
    is_slow = fault in STOPPED
    errors = [(401, "POST", NOT_CARRIED_OUT), (503, "GET", ""), (503, "POST", UNKNOWN)]
    errors.append((300, "GET", ""))
    for code, method, outcome in errors:
        head = b"HTTP/1.1 %d No\r\n%b" % (code, octets)
        server = wire(dripping(b"", head) if is_slow else saying(head))
        call = calling(server, trust, timeout=0.2 if is_slow else 3).request
        error = failure(cdp_jwt.ApiError, call, method, "/x")
        parts = [f"HTTP {code}: {message.partition(';')[0]}", outcome]
        assert str(error) == "; ".join(filter(None, parts))
        assert (error.status, error.body) == (code, b"")
        assert error.outcome_unknown == (outcome == UNKNOWN)


def test_headers_that_say_the_usual_are_accepted(wire, trust, client, coinbase):
    """In any spelling; and what has no body is not compressed."""
    twice = b"Content-Length: 2\r\nContent-Length:  2 "
    chunked = CHUNKED.replace(b"chunked", b"Chunked") + b"2\r\n{}\r\n0"
    for head in (
        twice,
        b"Content-Encoding: ",
        b"Content-Encoding:  Identity ",
        chunked,
    ):
        end = b"\r\n\r\n" if head is chunked else b"\r\n\r\n{}"
        server = wire(saying(OK + head + end))
        assert calling(server, trust).get("/x").json() == {}
    coinbase.faults += [status(204, b"", Content_Encoding="gzip")] * 2
    assert client.head("/x").status == client.delete("/x").status == 204


def test_interim_answers_are_skipped(wire, trust):
    """RFC 9110, section 15.2; psf/requests#5190 is about what happens otherwise."""
    interim = b"HTTP/1.1 %d Soon\r\nLink: </x>\r\nContent-Length: 5\r\n\r\n"
    soon = b"".join(interim % code for code in [103, 102, 100, *[199] * 40])
    server = wire(saying(soon + OK + b"Content-Length: 2\r\n\r\n{}"))
    for method in ("GET", "POST"):
        response = calling(server, trust).request(method, "/x")
        assert (response.json(), response.headers["Link"]) == ({}, None)
    assert len(server.requests) == 2


# Time and size


def read_slowly(wire: Wire, connection: socket.socket) -> None:
    while not wire.over.wait(0.02):
        connection.recv(100_000)  # each record in less than the timeout, not all


stall_headers = dripping(b"")
drip_body = dripping(b"x" * 5000, OK + b"Content-Length: 5000\r\n\r\n")
endless_body = dripping(itertools.repeat(ord("x")), OK + b"\r\n", pause=0.01)
SLOW = {
    "handshake": stall_headers,
    "sending": read_slowly,
    "answer": stall_headers,
    "interim": dripping(itertools.cycle(b"HTTP/1.1 102 X\r\n\r\n"), pause=0.001),
    "status line": dripping(b"HTTP/1.1 200 OK" + b" " * 5000),
    "headers": dripping(OK + b"X: y\r\n" * 900),
    "body": drip_body,
    "endless body": endless_body,
}


def test_call_ends_when_its_time_is_over_whatever_takes_so_long(wire, tls, trust):
    def call(slow: str) -> bool:
        server = wire(SLOW[slow], None if slow == "handshake" else tls)
        client = calling(server, trust, timeout=0.5, retries=5)
        body = b"x" * (20_000_000 if slow == "sending" else 0)
        message = TIMED_OUT if slow == "handshake" else once_sent(TIMED_OUT)
        found = transport_error(client.post, "/x", json=body)
        return (found, server.connections) == (f"{server.host}: {message}", 1)

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(SLOW)) as pool:
        assert dict(zip(SLOW, pool.map(call, SLOW))) == dict.fromkeys(SLOW, True)
    assert time.monotonic() - started < 15


def test_call_ends_at_its_deadline_and_not_behind_it(client, coinbase, monkeypatch):
    """By a clock so large that the seconds of the timeout are lost in it."""
    monkeypatch.setattr(time, "monotonic", lambda: 2.0**60)
    found = transport_error(client.get, ACCOUNTS)
    assert found == f"{coinbase.host}: {TIMED_OUT}"


def test_handshake_has_more_than_the_time_of_one_address(wire, tls, trust, monkeypatch):
    def script(wire: Wire, connection: socket.socket) -> None:
        wire.over.wait(0.5)
        with tls.wrap_socket(connection, server_side=True) as tunnel:
            wire.read_request(tunnel)
            tunnel.sendall(OK + b"Content-Length: 2\r\n\r\n{}")

    server = wire(script, None)
    lookup = socket.getaddrinfo
    many = unittest.mock.Mock(side_effect=lambda *a, **o: lookup(*a, **o) * 20)
    monkeypatch.setattr(socket, "getaddrinfo", many)
    assert calling(server, trust, timeout=4).get("/x").json() == {}


def test_body_may_have_max_body_octets(wire, trust):
    by_length, by_end = b"Content-Length: %d\r\n\r\n%b", b"X: %d\r\n\r\n%b"
    for frame in (by_length, by_end, CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n"):
        full = wire(saying(OK + frame % (1000, b"x" * 1000)))
        assert calling(full, trust, max_body=1e3).get("/x").body == b"x" * 1000
        over = wire(dripping(b"", OK + frame % (1001, b"x" * 1001)))  # and stays open
        found = transport_error(calling(over, trust, max_body=1000).get, "/x")
        assert found == f"{over.host}: its answer is over max_body; raise max_body"
    cut = wire(saying(OK + by_length % (1001, b"x" * 1000)))
    found = transport_error(calling(cut, trust, max_body=1000).get, "/x")
    assert found == f"{cut.host}: {CLOSED}"


def test_head_may_have_64_kib(wire, trust):
    start, end = OK + b"Content-Length: 0\r\n", b"X: %b\r\n\r\n"
    start += b"X: %b\r\n" % (b"x" * 60_000)
    for size, message in ((65_536, None), (65_537, NOT_HTTP)):
        head = start + end % (b"x" * (size - len(start + end) + 2))
        server = wire(saying(head))
        call = calling(server, trust).get
        if message:
            assert transport_error(call, "/x") == f"{server.host}: {message}"
        else:
            assert call("/x").body == b""


def test_body_of_an_error_is_cut_at_64_kib(client, coinbase):
    for size in (65_535, 65_536, 100_000, 1):
        coinbase.faults.append(status(300, b"x" * size))
        error = failure(cdp_jwt.ApiError, client.get, ACCOUNTS)
        assert error.body == b"x" * min(size, 65_536)
    coinbase.faults.append(status(299, b"x" * 100_000))
    assert len(client.get(ACCOUNTS).body) == 100_000
    assert len({seen.connection for seen in coinbase.seen}) == 2  # none with a rest


FLOODS = {
    "chunk of -1": b"-1\r\n" + b"x" * 60_000,  # from Python 3.11 on without end
    "extensions of chunks": b"1;" + b"x" * 60_000 + b"\r\nx\r\n",
    "chunks of one octet": b"1\r\nx\r\n" * 20_000,
    "trailer": b"0\r\n" + b"X: y\r\n" * 20_000,
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("head", [OK, b"HTTP/1.1 400 X\r\n"])
def test_octets_are_counted_with_their_framing(wire, trust, monkeypatch, flood, head):
    """64 KiB each are for a body, its framing, and what a buffer holds unused."""
    read, original = [], ssl.SSLSocket.recv_into

    def counted(sock: ssl.SSLSocket, *arguments) -> int:
        read.append(original(sock, *arguments))
        return read[-1]

    monkeypatch.setattr(ssl.SSLSocket, "recv_into", counted)
    server = wire(saying(head + CHUNKED + FLOODS[flood] * 500))
    client = calling(server, trust, max_body=65_536, timeout=15)
    assert "its answer is" in str(failure(cdp_jwt.CdpError, client.get, "/x"))
    assert sum(read) <= 3 * 65_536


# Proxies and TLS


def test_proxy_carries_the_call_and_sees_no_token(coinbase, trust, proxy, monkeypatch):
    through = proxy(login="m%C3%A9:p+@:%40%2F%2541@")
    client = calling(coinbase, trust)
    for _ in range(2):
        assert client.get(ACCOUNTS).status == 200
    for exempt in ("localhost", coinbase.host):
        monkeypatch.setenv("NO_PROXY", exempt)
        assert calling(coinbase, trust).get(ACCOUNTS).status == 200
    login = base64.b64encode("mé:p+@:@/%41".encode()).decode()
    connect = f"CONNECT {coinbase.host} HTTP/1.1\r\nHost: {coinbase.host}\r\n"
    connect += f"Proxy-Authorization: Basic {login}\r\n\r\n"
    assert through.requests == [connect.encode()]
    for seen in coinbase.seen:
        assert "Proxy-Authorization" not in seen.headers
        assert seen.token.encode() not in through.passed


def test_proxy_that_inspects_tls_sees_no_token_unless_its_ca_is_trusted(
    wire, ca, trust, monkeypatch
):
    def inspect(wire: Wire, client: socket.socket) -> None:
        wire.read_request(client)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with contexts.pop().wrap_socket(client, server_side=True) as tunnel:
            wire.read_request(tunnel)

    contexts = [server_context(ca), server_context(trustme.CA())]
    through = wire(inspect, None)
    monkeypatch.setenv("HTTPS_PROXY", through.host)
    call = calling(through, trust).get
    assert transport_error(call, "/x").endswith(UNKNOWN_CA)
    assert [each[:8] for each in through.requests] == [b"CONNECT "]
    transport_error(call, "/x")
    assert b"Authorization: Bearer ey" in through.requests[-1]


def test_proxy_takes_a_token_in_place_of_a_login(coinbase, trust, proxy):
    through = proxy(login="t%40ken@")
    assert calling(coinbase, trust).get(ACCOUNTS).status == 200
    assert b" Basic %b\r\n" % base64.b64encode(b"t@ken:") in through.requests[0]


UNUSABLE = ["socks5://me:s3cret@h:1", "https://me:s3cret@h:1", "http:/me:s3cret@h:1", "http://me:s3cret", "s3cret@:/",
            "http://h:abc", "http://h:65536", "http://a..b:1", f"http://me:s3cret@{'x' * 64}:1"]  # fmt: skip


@pytest.mark.parametrize("url", UNUSABLE)
def test_proxy_that_cannot_be_used_is_named_unshown(
    coinbase, trust, waits, monkeypatch, url
):
    monkeypatch.setenv("HTTPS_PROXY", url)
    found = transport_error(calling(coinbase, trust, retries=1).post, "/x")
    assert waits == []  # to try again would change nothing
    problem = "the proxy for https (HTTPS_PROXY) cannot be used"
    assert found == f"{coinbase.host}: {problem}; expected http://host:port"


def test_proxy_is_looked_up_with_port_80_if_it_names_none(nowhere, monkeypatch):
    client = cdp_jwt.Client(key_of(), retries=0)
    for end in ("/", ":65535"):
        monkeypatch.setenv("HTTPS_PROXY", f"HTTP://proxy.example{end}")
        found = "the proxy proxy.example: its name was not found"
        assert found in transport_error(client.get, "/x")
    monkeypatch.setenv("HTTPS_PROXY", "http://[FD00::1]")
    transport_error(client.get, "/x")
    assert nowhere == [("proxy.example", 80), ("proxy.example", 65535), ("FD00::1", 80)]


def test_proxy_is_asked_for_port_443_if_the_host_names_none(proxy, trust):
    through = proxy(b"HTTP/1.1 403 No\r\n\r\n")
    transport_error(cdp_jwt.Client(ssl_context=trust).get, "/x")
    place = "api.coinbase.com:443"
    head = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n"
    assert through.requests == [head.encode()]


PASSWORD = "the proxy asks for a password; put it in HTTPS_PROXY"
CREDENTIALS = "the proxy refused these credentials; check those in HTTPS_PROXY"
NOT_SPOKEN = ("the proxy asks for {}, which this file cannot do; go through a local proxy that"
              " can, such as px or cntlm")  # fmt: skip
OF_PROXY = "the proxy localhost: "
ASKING = b"HTTP/1.1 407 No\r\nProxy-Authenticate: "
PROXY_REFUSALS = {  # name -> answer, message, tries
    "407": (b"HTTP/1.1 407 No", PASSWORD, 1),
    "407 to a password": (b"HTTP/1.1 407 No", CREDENTIALS, 1),
    "Basic or NTLM": (ASKING + b"NTLM, Basic realm=x", PASSWORD, 1),
    "Negotiate": (ASKING + b"Negotiate", NOT_SPOKEN.format("Negotiate (Kerberos or NTLM)"), 1),
    "Basic in a line of its own": (ASKING + b"NTLM\r\nProxy-Authenticate: Basic realm=x", PASSWORD, 1),
    "Digest": (ASKING + b'Digest realm="x, Basic y", nonce="Basic"', NOT_SPOKEN.format("digest"), 1),
    "the first of two": (ASKING + b'Digest realm="x", Negotiate', NOT_SPOKEN.format("digest"), 1),
    "escapes": (ASKING + b"\x1b[2J", NOT_SPOKEN.format(r"\x1b[2j"), 1),
    "300": (b"HTTP/1.1 300 No", "the proxy refused to connect (HTTP 300); check HTTPS_PROXY and NO_PROXY", 1),
    "502": (b"HTTP/1.1 502 Bad", "the proxy answered HTTP 502; try again", 2),
    "503": (b"HTTP/1.1 503 Bad", "the proxy answered HTTP 503; try again", 2),
    "504": (b"HTTP/1.1 504 Bad", "the proxy answered HTTP 504; try again", 2),
    "endless": (OK + b"X: %b\r\n" % (b"y" * 900) * 80, f"{OF_PROXY}{NOT_HTTP}", 2),
    "closed behind the answer": (b"HTTP/1.1 200 OK", CLOSED, 2),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROXY_REFUSALS)
def test_proxy_that_refuses_is_named(coinbase, trust, proxy, waits, kind):
    """And asked again, even for a POST, where that may help: nothing was sent."""
    answer, message, tries = PROXY_REFUSALS[kind]
    login = "me:s3cret@" if message == CREDENTIALS else ""
    through = proxy(answer + b"\r\n\r\n", login)
    client = calling(coinbase, trust, retries=1)
    error = failure(cdp_jwt.TransportError, client.post, "/echo")
    assert str(error) == f"{coinbase.host}: {message}"
    assert (error.outcome_unknown, through.connections) == (False, tries)
    assert coinbase.seen == []


def test_proxy_that_is_slow_shares_the_time(wire, trust, monkeypatch):
    server = wire(dripping(b"HTTP/1.1 407 No" + b" " * 20 + b"\r\n\r\n"), None)
    monkeypatch.setenv("HTTPS_PROXY", server.host)
    call = calling(server, trust, timeout=0.5).get
    assert transport_error(call, "/x").endswith(TIMED_OUT)


UNKNOWN_CA = "its certificate is of an unknown CA; for a private CA set SSL_CERT_FILE or ssl_context"
OTHER_HOST = "its certificate is for another host; check host and proxy"
OPENSSLS_NUMBERS = {
    "its certificate is not valid yet; check the clock": [9],
    "its certificate has expired; check the clock": [10],
    UNKNOWN_CA: [2, 18, 19, 20, 21],
    OTHER_HOST: [62, 64],
    "its CA breaks RFC 5280: Python >= 3.13 refuses it; reissue the CA": [80, 92, 94],
    "its certificate was refused; check host and proxy": [1, 23, 79, 95],  # 23: revoked
}


def refuse(wire: Wire, connection: socket.socket) -> None:
    wire.requests.append(connection.recv(65536))
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_tls_that_fails_is_named_and_nothing_is_sent(wire, ca, trust):
    long_ago = datetime.datetime(2001, 1, 1)
    expired = {"not_before": long_ago, "not_after": long_ago}
    for message, context in (
        ("its certificate has expired; check the clock", server_context(ca, **expired)),
        (OTHER_HOST, server_context(ca, "other.example")),
        (UNKNOWN_CA, server_context(trustme.CA())),
        (TLS_FAILED, None),  # plain HTTP
    ):
        server = wire(refuse, context)
        found = transport_error(calling(server, trust).post, "/x", json={})
        assert found == f"{server.host}: {message}"
        assert b"Bearer" not in b"".join(server.requests)


def test_certificate_is_explained_by_openssls_number(wire, trust, monkeypatch):
    """And by nothing that the text says. To try again would change nothing."""
    error = ssl.SSLCertVerificationError(1, "expired, self-signed, mismatch")
    call = calling(wire(saying(), None), trust, retries=5).post
    for message, numbers in OPENSSLS_NUMBERS.items():
        for number in numbers:
            error.verify_code = number
            wrap = unittest.mock.Mock(side_effect=error)
            monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
            assert transport_error(call, "/x").endswith(f": {message}"), number
            assert wrap.call_count == 1


def test_context_that_allows_old_tls_is_raised_to_1_2(trust, monkeypatch):
    """Python 3.9's own default allows it. What allows less is left as it is."""
    oldest, newest = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    given = {ssl.TLSVersion.MINIMUM_SUPPORTED: oldest, oldest: oldest, newest: newest}
    monkeypatch.setattr(ssl, "create_default_context", lambda: trust)
    for minimum, least in given.items():
        for context in (trust, None):
            trust.minimum_version = minimum
            cdp_jwt.Client(ssl_context=context)
            assert trust.minimum_version == least


def test_ssl_cert_file_is_heeded_or_called_missing(coinbase, ca_file, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    assert calling(coinbase, None).get(ACCOUNTS).status == 200
    usable = {"SSL_CERT_FILE": ["/"], "SSL_CERT_DIR": ["/", f"/no{os.pathsep}/"]}
    for variable, places in usable.items():
        monkeypatch.setenv(variable, "/\x1bno.pem")
        message = transport_error(calling(coinbase, None).get, "/x")
        assert f" CA ({variable} does not exist: /\\x1bno.pem); for" in message
        for place in places:
            monkeypatch.setenv(variable, place)
            assert UNKNOWN_CA in transport_error(calling(coinbase, None).get, "/x")


def test_ssl_cert_dir_is_heeded(coinbase, ca_file, tmp_path, monkeypatch):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed here")
    hashed = process(["openssl", "x509", "-noout", "-hash", "-in", ca_file]).stdout
    shutil.copy(ca_file, tmp_path / f"{hashed.strip()}.0")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert calling(coinbase, None).get(ACCOUNTS).status == 200


# Sending


def test_client_sends_every_method_with_its_own_headers(client, coinbase):
    names = ["Content-Length", "Content-Type", "Accept-Encoding", "User-Agent"]
    for method in ("get", "head", "post", "put", "patch", "delete"):
        client.request(method, "/echo?a=1")
        getattr(client, method)("/echo", params={"a": 1})
        length = None if method in ("get", "head") else "0"
        for seen in coinbase.seen[-2:]:
            assert (seen.method, seen.path) == (method.upper(), "/echo?a=1")
            sent = [seen.headers[name] for name in names]
            assert sent == [length, None, "identity", f"cdp_jwt/{cdp_jwt.__version__}"]
    tokens = {seen.token for seen in coinbase.seen}
    assert (len(tokens), coinbase.refusals) == (12, [])


# Octets that say that there are none.
Denied = type("Denied", (bytes,), {
    "__bool__": lambda _: False, "__len__": lambda _: 0, "__bytes__": lambda _: b"7",
})  # fmt: skip


def test_client_sends_json_with_its_content_type(client):
    for body in ({"a": [None, "é"]}, 0, b"", b"[ 1]", Denied(b"[1]"), ["x" * 900_000]):
        expected = body if isinstance(body, bytes) else json.dumps(body).encode()
        for method in ("post", "put", "patch", "delete"):
            sent = getattr(client, method)("/echo", json=body).json()
            assert sent["type"] == "application/json"
            assert sent["body"].encode() == expected


def test_redirect_is_never_followed(client, coinbase, wire):
    attacker, plain = wire(saying()), wire(saying(), None)
    targets = {f"https://{attacker.host}/x": attacker.host, "/echo": "the same host"}
    targets |= {f"http://me@{plain.host}/": plain.host, "ftp://\x1bc/x": r"\x1bc"}
    targets["http://["] = "the same host"  # what is no URL
    calls = [("GET", 300), ("POST", 307), ("GET", 302), ("POST", 399)]
    for (method, code), target in itertools.product(calls, targets):
        coinbase.faults.append(status(code, b"x", Location=target))
        error = failure(cdp_jwt.ApiError, client.request, method, "/echo")
        redirect = f"HTTP {code}: a redirect to {targets[target]}, not followed"
        assert (str(error), error.status) == (redirect, code)
    assert (len(coinbase.seen), attacker.connections, plain.connections) == (20, 0, 0)


def test_other_codes_settings_change_nothing(coinbase, trust, monkeypatch, capfd):
    unverified = ssl._create_unverified_context
    monkeypatch.setattr(urllib.request, "_opener", thief := unittest.mock.Mock())
    monkeypatch.setattr(ssl, "_create_default_https_context", unverified)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    monkeypatch.setenv("HTTP_PROXY", f"http://{NOWHERE}")  # of http alone
    assert calling(coinbase, trust).get(ACCOUNTS).status == 200
    assert transport_error(calling(coinbase, None).get, ACCOUNTS).endswith(UNKNOWN_CA)
    assert (capfd.readouterr(), thief.mock_calls) == (("", ""), [])


def test_tools_that_watch_urllib_see_its_kind_of_answer(client, monkeypatch):
    """As opentelemetry-instrumentation-urllib does; and the answer is still ours."""
    original, seen = urllib.request.OpenerDirector.open, []

    def watched(opener, fullurl, data=None, timeout=None):
        answer = original(opener, fullurl, data=data, timeout=timeout)
        seen.append((fullurl.get_method(), answer.getcode(), answer.status))
        assert answer.headers is answer.info()
        return answer

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", watched)
    assert client.post("/echo", json={}).status == 200
    assert failure(cdp_jwt.ApiError, client.get, "/nowhere").status == 404
    assert seen == [("POST", 200, 200), ("GET", 404, 404)]


def test_log_has_the_query_unless_it_looks_like_a_key(client, coinbase, caplog):
    secret = base64.b64encode((b"\xff23456789" * 16)[:64])  # each 12th letter is a /
    caplog.set_level(logging.DEBUG, "cdp_jwt")
    quoted = urllib.parse.quote(secret, safe="")
    queries = {"a=b": "?a=b", f"a={quoted}": "?...", quoted: "?..."}
    longest = "a=b&" * 1024  # all that is searched
    queries |= {longest: f"?{longest}", f"{longest}a": "?...", longest + quoted: "?..."}
    for query, shown in queries.items():
        caplog.clear()
        client.get(f"/echo?{query}")
        sent = f"GET https://{coinbase.host}/echo{shown} with Authorization: Bearer ..."
        assert caplog.messages[0] == f"{sent}, 0 bytes"


def test_header_that_a_tool_adds_stays_in_its_line(client, coinbase, monkeypatch):
    original = urllib.request.OpenerDirector.open

    def adding(opener, fullurl, **options):
        fullurl.add_header("Baggage", "a=1\r\nHost: evil.example\r\n\r\nGET /")
        return original(opener, fullurl, **options)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", adding)
    client.get("/echo")
    assert coinbase.seen[0].headers["baggage"] == "a=1Host: evil.exampleGET /"


def test_client_sends_the_true_text_of_each_argument(coinbase, trust):
    for true in CALLERS.values():
        client = calling(coinbase, trust, host=true(coinbase.host))
        params, body = {true("a"): true("b"), "c": [true("d"), "e"]}, {"f": [true("g")]}
        client.request(true("POST"), true("/echo"), params=params, json=body)
        seen = coinbase.seen.pop()
        assert (seen.method, seen.path) == ("POST", "/echo?a=b&c=d&c=e")
        assert (json.loads(seen.body), coinbase.refusals) == ({"f": ["g"]}, [])


# Numbers that are shown as something else, as those of enum and NumPy.
ONE = enum.IntEnum("Size", {"ONE": 1}).ONE
SHOWN_ELSE = dict.fromkeys(("__str__", "__repr__", "__format__"), lambda *_: "lie")
Count, Price = type("Count", (int,), SHOWN_ELSE), type("Price", (float,), SHOWN_ELSE)


def test_parameters_are_sent_as_they_are_meant_or_refused(client, coinbase):
    for params, query in (
        ({"a": None, "b": [None]}, ""),
        ({"a": 1, "b": "x y/z&="}, "?a=1&b=x%20y%2Fz%26%3D"),
        ({"ids": ["A", "B", None], "c": ("d",)}, "?ids=A&ids=B&c=d"),
        ({"a": True, "b": False, "c": 1.5}, "?a=true&b=false&c=1.5"),
        ({"a": decimal.Decimal("1E+2"), "b": decimal.Decimal("0.10")}, "?a=100&b=0.10"),
        ({"a": ONE, "b": Price(1.5), "c": [Count(2)]}, "?a=1&b=1.5&c=2"),
        ({"é": "€", "a": "\udcff"}, "?%C3%A9=%E2%82%AC&a=%ED%B3%BF"),
    ):
        assert client.get("/echo", params=params).json()["path"] == f"/echo{query}"
        sent = client.post("/echo?x=1", params=params).json()["path"]
        assert sent == f"/echo?x=1{query.replace('?', '&')}"
    endless = [float("nan"), float("-inf"), decimal.Decimal("inf")]
    if hasattr(sys, "get_int_max_str_digits"):
        endless.append(10**5000)
    for value in (b"x", {"a": 1}, *endless, enum.Enum("Side", ["BUY"]).BUY):
        found = f"a value in params is {type(value).__name__}"
        message = refusal(client.get, "/x", params={"p": ["a", value]})
        assert message == f"{found}; expected text or a number"
    assert (len(coinbase.seen), coinbase.refusals) == (14, [])


@examples(30)
@given(path=st.from_regex(r"/[!-~]{0,30}", fullmatch=True))
def test_signed_path_is_the_sent_path(client, coinbase, path):
    """To the octet, as far as it is a path at all; the server compares it with `uri`."""
    coinbase.routes = {("GET", path.partition("?")[0]): (True, coinbase.echo)}
    with contextlib.suppress(cdp_jwt.InvalidRequestError):
        assert client.get(path).json()["path"] == path
    assert coinbase.refusals == []


CIRCLE: list = []
CIRCLE.append(CIRCLE)
REFUSED_CALLS = [
    ("GET", {"json": {}}, "GET takes no body; use params"),
    ("HEAD", {"json": {}}, "HEAD takes no body; use params"),
    ("GET", {"params": "a=1"}, "params is str; expected a dict"),
    ("GET", {"params": {1: "x"}}, "the name of a parameter is int, not text"),
    ("POST", {"json": ""}, "json is text, which would be encoded twice; pass the object, or bytes"),
    ("POST", {"json": decimal.Decimal(1)}, "the body has Decimal: use str()"),
    ("POST", {"json": {"a": [1, {"b": b"x"}]}}, "the body has bytes at a[1].b: use str()"),
    ("POST", {"json": ({"a": float("-inf")},)}, "the body has -inf at [0].a"),
    ("POST", {"json": {"a": {(1,): 1}}}, "the body has a name that is tuple at a: use str()"),
    ("POST", {"json": {Lying("a"): {1}}}, "the body has set at a: use str()"),
    ("POST", {"json": {"\x1b" * 400: {1}}}, f"the body has set at {(chr(92) + 'x1b') * 75}: use str()"),
    ("POST", {"json": CIRCLE}, "the body has a part that contains itself, or that is nested too deeply"),
]  # fmt: skip


def test_call_with_a_bad_argument_is_refused_unsent(client, coinbase):
    for method, options, message in REFUSED_CALLS:
        assert refusal(client.request, method, "/x", **options) == message
    for value in NO_TEXTS:
        found = f"is {type(value).__name__}, not text"
        assert refusal(cdp_jwt.Client, host=value) == f"the host {found}"
        assert refusal(client.request, value, "/x") == f"the method {found}"
        assert refusal(client.get, value, params={"a": 1}) == f"the path {found}"
    assert coinbase.seen == []


# An answer outside 200-299, and foreign text in it

STATUSES = [
    (400, {"error": "INVALID_ARGUMENT", "code": 3, "message": "bad size"}, "bad size"),
    (400, {"error": "INVALID", "error_details": "details"}, "details"),
    (400, {"error": {"message": "inner"}, "errorMessage": "outer"}, "inner"),
    (400, {"error": {"message": "inner"}, "message": "outer"}, "outer"),
    (402, {"errors": [{"id": "two_factor", "message": "enter it"}]}, "enter it"),
    (404, {"errors": [{"id": "not_found"}, {"message": "second"}]}, "not_found"),
    (404, {"errors": []}, '{"errors": []}'),
    (429, {"message": "", "error": 7}, "7"),
    (500, b"", "no message"),
    (501, b"\xff\xfe", "\ufffd\ufffd"),
    (504, b"[" * 5000, "[" * 300),
    (520, {"message": "\x1b" * 1000}, r"\x1b" * 75),
]


def test_status_outside_200_299_is_an_api_error(coinbase, trust):
    for code, content, message in STATUSES:
        coinbase.faults.append(status(code, content, X_Trace="7"))
        error = failure(cdp_jwt.ApiError, calling(coinbase, trust).get, ACCOUNTS)
        assert (error.status, str(error)) == (code, f"HTTP {code}: {message}")
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        assert (error.headers["x-trace"], error.body) == ("7", body)


PLACES = {  # where a server, or a proxy, puts a text -> what is said then
    "status line": ("TEXT\r\n", once_sent(NOT_HTTP)),
    "reason": ("HTTP/1.1 400 TEXT\r\n\r\nx", "HTTP 400: x"),
    "body": ("HTTP/1.1 400 No\r\n\r\nTEXT", "HTTP 400: {}"),
    "message of a 500": ('HTTP/1.1 500 No\r\n\r\n{"message": JSON}', f"HTTP 500: {{}}; {UNKNOWN}"),
    "Date": ("HTTP/1.1 401 No\r\nDate: TEXT\r\n\r\nx", "HTTP 401: x"),
    "Retry-After": ("HTTP/1.1 429 No\r\nRetry-After: TEXT\r\n\r\nx", "HTTP 429: x"),
    "rate limit": ("HTTP/1.1 429 No\r\nx-ratelimit-reset: TEXT\r\n\r\nx", "HTTP 429: x"),
    "Location": ("HTTP/1.1 302 No\r\nLocation: TEXT\r\n\r\n", "HTTP 302: a redirect to the same host, not followed"),
    "Content-Encoding": ("HTTP/1.1 499 No\r\nContent-Encoding: TEXT\r\n\r\nx", f"HTTP 499: {COMPRESSED[:49]}; {NOT_CARRIED_OUT}"),
    "Content-Length": ("HTTP/1.1 499 No\r\nContent-Length: TEXT\r\n\r\nx", f"HTTP 499: {NOT_HTTP[:22]}; {NOT_CARRIED_OUT}"),
    "cursor": ('HTTP/1.1 200 OK\r\n\r\n{"cursor": JSON}', "HTTP 400: x; to go on: cursor={}"),
    "next_uri": ('HTTP/1.1 200 OK\r\n\r\n{"pagination": {"next_uri": JSON}}', "next_uri is not a path on the same host"),
    "proxy's status line": ("TEXT\r\n\r\n", f"{OF_PROXY}{NOT_HTTP}"),
    "proxy's realm": ('HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="TEXT"\r\n\r\n', PASSWORD),
}  # fmt: skip
FOREIGN = [UNKNOWN, NOT_HTTP, TIMED_OUT, COMPRESSED, CREDENTIALS, "Verif expired", "Tunnel 407", "200 OK", "NTLM",
           "ERR upstream request timed out", "not signed", "bare seed", "time",
           "busy; try again with order id 7781 (NOT cancelled)"]  # fmt: skip
GROWING = ["eyJ", " eyJ", "\x1b", "[", '{"a":', '"', "1", "//a.", "Sun, "]


@pytest.fixture(params=PLACES)
def place(request, wire, trust, monkeypatch) -> tuple[Callable[[str], object], str]:
    """Where a text is: a call that gets it there, and the message of its error."""
    template, message = PLACES[request.param]
    answers: list[str] = []

    def script(wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        connection.sendall(answers.pop(0).encode())

    def call(text: str) -> object:
        answer = template.replace("TEXT", text).replace("JSON", json.dumps(text))
        answers[:] = [answer, "HTTP/1.1 400 No\r\n\r\nx"]
        return list(client.pages("/x")) if "200" in template else client.post("/x")

    is_proxys = request.param.startswith("proxy")
    server = wire(script, None) if is_proxys else wire(script)
    monkeypatch.setenv("HTTPS_PROXY", server.host if is_proxys else "")
    client = calling(server, trust)
    return call, message


def test_foreign_words_decide_nothing_and_are_shown_whole(place):
    call, message = place
    for word in FOREIGN:
        found = str(failure(cdp_jwt.CdpError, call, word))
        assert re.sub("^localhost:[0-9]+: ", "", found) == message.format(word)


@needs_cpython  # elsewhere a compiler comes in between
def test_time_grows_as_a_foreign_text_does(place):
    def seconds_of(text: str) -> float:
        started = time.thread_time()  # of work; what is waited for is not counted
        with contextlib.suppress(cdp_jwt.CdpError):
            place[0](text)
        return time.thread_time() - started

    for part in GROWING:
        text = (part * 60_000)[:60_000]
        half = min(seconds_of(text[:30_000]) for _ in range(2))
        whole = min(seconds_of(text) for _ in range(2))
        assert whole <= 3 * half + 0.02, part


# The client


def test_token_that_the_server_sends_back_is_shown_in_no_part(client, coinbase):
    def echo(handler: Handler) -> None:
        handler.answer(400, {"message": f"bad {handler.headers['Authorization']}!"})

    def echo_in_a_header(handler: Handler) -> None:
        token = handler.headers["Authorization"]
        handler.answer(429, b"", {"x-ratelimit-reset": token, "Retry-After": "99"})

    coinbase.faults += [echo, echo_in_a_header]
    with pytest.raises(cdp_jwt.ApiError) as caught:  # whose headers and body are exact
        client.get("/echo")
    assert str(caught.value) == "HTTP 400: bad Bearer ...!"
    with pytest.raises(cdp_jwt.ApiError) as caught:
        client.get("/echo")
    assert caught.value.hints[0].endswith(", x-ratelimit-reset Bearer ...")


def test_client_refuses_what_is_no_api_key_and_no_verifying_context(trust):
    message = "key is {}; expected an ApiKey: see ApiKey.from_file"
    for key in (SEC1, b"x", object()):
        call = functools.partial(cdp_jwt.Client, key)
        found = refused(call, SEC1, cdp_jwt.InvalidRequestError)
        assert found == message.format(type(key).__name__)
    message = "ssl_context is str; expected an ssl.SSLContext"
    assert refusal(cdp_jwt.Client, ssl_context="x") == message
    optional = ssl.create_default_context()
    optional.verify_mode = ssl.CERT_OPTIONAL
    trust.check_hostname = False
    for context in (optional, trust, ssl._create_unverified_context()):
        message = "ssl_context does not verify the server; it must"
        assert refusal(cdp_jwt.Client, ssl_context=context) == message


def test_client_takes_options_within_their_bounds(coinbase, trust):
    bounds = [("timeout", 0.001, 1e6), ("retries", 0, 1e6), ("max_body", 0, 2**40)]
    for name, least, most in bounds:
        message = f"{name} is not a number from {least:g} to {most:g}; correct it"
        for value in (least - 0.001, most, float("nan"), "1", None):
            assert refusal(cdp_jwt.Client, **{name: value}) == message
    widest = {"timeout": 999_999.5, "retries": 999_999, "max_body": 2**40 - 1}
    coinbase.faults += [status(200, b"x"), status(200)]
    assert calling(coinbase, trust, **widest).get("/x").body == b"x"
    assert calling(coinbase, trust, retries=0, max_body=0).get("/x").body == b""
    cdp_jwt.Client(timeout=0.001)
    parameters = inspect.signature(cdp_jwt.Client).parameters.values()
    defaults = [None, "api.coinbase.com", 10, 2, 2**25, None]
    assert [parameter.default for parameter in parameters] == defaults


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Waiting takes no time; here is how long it would have taken."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def nowhere(monkeypatch, trust, waits) -> list[tuple[str, int]]:
    """No name is known; here is what was looked up."""
    asked: list[tuple[str, int]] = []

    def unknown(name, port, **_):
        asked.append((name, port))
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(ssl, "create_default_context", lambda: trust)
    return asked


def test_host_without_a_port_is_called_at_443(nowhere):
    failure(cdp_jwt.TransportError, cdp_jwt.Client(retries=0).get, "/x")
    assert nowhere == [("api.coinbase.com", 443)]


# Connections: kept and shared, and never used for another call's answer


def idle_sockets(client: cdp_jwt.Client) -> list[ssl.SSLSocket]:
    return [each.sock for idle in client._connections._idle.values() for each in idle]


def connections_of(coinbase: Coinbase) -> int:
    return len({seen.connection for seen in coinbase.seen})


EMPTY_OBJECT = OK + b"Content-Length: 2\r\n\r\n{}"
ENDS_OF_ANSWERS = {  # what a server says, and how many connections two calls take
    "length": (saying(*[EMPTY_OBJECT] * 2), 1),
    "length of an error": (saying(*[EMPTY_OBJECT.replace(b"200", b"404")] * 2), 1),
    "chunks": (saying(*[OK + CHUNKED + b"2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n"] * 2), 1),
    "end of the connection": (saying(OK + b"\r\n{}"), 2),
    "wish to close": (saying(*[EMPTY_OBJECT.replace(b"OK", b"OK\r\nConnection: close")] * 2), 2),
    "HTTP/1.0": (saying(*[EMPTY_OBJECT.replace(b"HTTP/1.1", b"HTTP/1.0")] * 2), 2),
    "an error that is no HTTP": (saying(*[b"HTTP/1.1 400 X\r\nContent-Length: -2\r\n\r\n"] * 2), 2),
    "a rest to come": (dripping(b"", b"HTTP/1.1 400 X\r\nContent-Length: 70000\r\n\r\n" + b"x" * 65_537), 2),
}  # fmt: skip


def test_connection_is_reused_if_the_answer_has_come_to_its_end(wire, trust):
    for end, (script, connections) in ENDS_OF_ANSWERS.items():
        server = wire(script)
        client = calling(server, trust)
        for _ in range(2):
            with contextlib.suppress(cdp_jwt.ApiError):
                client.get("/x")
        assert (server.connections, len(server.requests)) == (connections, 2), end


def test_connection_is_used_for_its_own_host_and_port_alone(wire, trust):
    servers = [wire(saying(*[EMPTY_OBJECT] * 2)) for _ in range(2)]
    client = calling(servers[0], trust)
    for server in servers * 2:
        client.get(f"https://{server.host}/x")
        assert f"Host: {server.host}\r\n".encode() in server.requests[-1]
    counts = [(server.connections, len(server.requests)) for server in servers]
    assert counts == [(1, 2)] * 2


def test_connection_sends_what_is_small_at_once(client):
    client.get("/echo")
    [sock] = idle_sockets(client)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_connection_that_is_closed_under_way_is_tried_again_for_get_alone(wire, trust):
    server = wire(saying(EMPTY_OBJECT, b""))
    client = calling(server, trust, retries=1)
    assert [client.get("/x").status for _ in range(2)] == [200, 200]
    found = transport_error(client.post, "/x", json={})
    assert found == f"{server.host}: {once_sent(CLOSED)}"
    assert (server.connections, len(server.requests)) == (2, 4)


def test_connection_that_cannot_be_tested_is_not_used(client, coinbase, monkeypatch):
    client.get("/echo")
    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLSocket, "recv", unittest.mock.Mock(side_effect=OSError))
        client.get("/echo")
    assert connections_of(coinbase) == 2


@pytest.fixture
def replace_select(monkeypatch) -> Callable[[Callable], None]:
    """Replace it for the module alone: on Windows the server calls it, too, with sets."""
    original = select.select

    def replace(replacement: Callable) -> None:
        def chosen(reading, *others):
            call = replacement if isinstance(reading, list) else original
            return call(reading, *others)

        monkeypatch.setattr(select, "select", chosen)

    return replace


def test_connection_whose_number_select_does_not_take_is_used(
    client, coinbase, replace_select
):
    """As where a process has more than 1,024 files open."""
    refusing = unittest.mock.Mock(side_effect=ValueError("filedescriptor out of range"))
    replace_select(refusing)
    for _ in range(2):
        client.get("/echo")
    assert connections_of(coinbase) == 1
    refusing.assert_called_once_with(unittest.mock.ANY, [], [], 0)


def test_idle_connection_is_given_up_after_30_seconds(client, coinbase, monkeypatch):
    """By a clock that runs on in suspend; one that was set back tells no age."""
    original = time.time
    passed = 0.0
    monkeypatch.setattr(time, "time", lambda: original() + passed)
    for seconds, connections in ((0, 1), (29.5, 1), (30.5, 2), (-5, 3)):
        passed += seconds
        client.get(TIME)
        assert connections_of(coinbase) == connections


def test_idle_connections_that_the_server_closed_are_closed(client, coinbase):
    """And not just those before the one that was used last."""
    at_the_server: list[ssl.SSLSocket] = []

    def call_meanwhile(handler: Handler) -> None:
        at_the_server.append(handler.connection)
        client.get("/echo")
        handler.answer(200, b"")

    def end_the_middle_one(handler: Handler) -> None:
        at_the_server[1].shutdown(socket.SHUT_RDWR)
        select.select([idle[1]], [], [], 9)
        handler.answer(200, b"")

    coinbase.faults += [call_meanwhile] * 2
    client.get("/echo")
    idle = idle_sockets(client)  # the innermost call's first
    coinbase.faults.append(end_the_middle_one)
    client.get("/echo")
    assert [sock.fileno() == -1 for sock in idle] == [False, True, False]


def test_answer_that_nobody_asked_for_is_not_taken_for_the_next(wire, trust):
    unasked = EMPTY_OBJECT.replace(b"{}", b"[]")
    client = calling(wire(saying(EMPTY_OBJECT + unasked, EMPTY_OBJECT)), trust)
    assert [client.get("/x").json() for _ in range(2)] == [{}, {}]


@pytest.mark.parametrize("closing", [False, True])
def test_threads_share_a_client_without_a_mix_up(client, coinbase, closing):
    """Those of an event loop, as all others; even while another one closes it."""
    paths = [f"/echo?number={number}" for number in range(100)]

    async def calls() -> list[cdp_jwt.Response]:
        threads = [asyncio.to_thread(client.get, path) for path in paths]
        pending = asyncio.gather(*threads)
        while closing and not pending.done():
            client.close()
            await asyncio.sleep(0)
        return await pending

    assert [answer.json()["path"] for answer in asyncio.run(calls())] == paths
    assert coinbase.refusals == []  # it refuses a nonce that comes twice


def test_thread_closes_no_connection_of_another(
    client, coinbase, wire, replace_select, monkeypatch
):
    """One that is taken while it looks which of the idle ones have ended."""
    other = wire(saying(EMPTY_OBJECT))
    original = select.select

    def take_meanwhile(sockets: list, *_) -> tuple:
        monkeypatch.setattr(select, "select", original)
        time.sleep(0.02)  # so that it is put back at another time, on Windows too
        client.get("/echo")
        client.get(f"https://{other.host}/x")
        return sockets, [], []

    client.get("/echo")
    replace_select(take_meanwhile)
    client.get("/echo")
    assert connections_of(coinbase) == 1


@needs_fork
def test_fork_shares_no_connection_and_no_nonce(client, coinbase, monkeypatch):
    """Nor does the child's close() end the parent's connection, or its idle time."""
    now = time.time

    def call_and_close() -> str:
        path = client.get("/echo").json()["path"]
        client.close()
        return path

    def call_later() -> str:
        monkeypatch.setattr(time, "time", lambda: now() - 40)  # which is no age
        return call_and_close()

    client.get("/echo")
    for work in (call_and_close, call_later):
        assert in_a_child(work) == "/echo"
        client.get("/echo")
    first, second, third, fourth, fifth = (seen.connection for seen in coinbase.seen)
    assert first == third == fifth
    assert len({first, second, fourth}) == 3
    assert coinbase.refusals == []


IMPORTS_OF_A_CALL = """
import sys, cdp_jwt
client = cdp_jwt.Client(cdp_jwt.ApiKey.from_file(sys.argv[1]), host=sys.argv[2])
before = {*sys.modules}
client.get("/echo", params={"a": "b"})
print({*sys.modules} - before)
"""


@needs_cpython
def test_client_has_imported_what_its_calls_import(coinbase, key_file, ca_file):
    """A fork must not find another thread importing."""
    command = [sys.executable, "-c", IMPORTS_OF_A_CALL, key_file, coinbase.host]
    ran = process(command, cwd=MODULE.parent, env={"SSL_CERT_FILE": ca_file})
    assert (ran.stdout, ran.stderr) == ("set()\n", "")


NOWHERE = "127.0.0.1:1"  # nobody listens there


@needs_cpython
def test_client_that_is_dropped_leaves_nothing_behind(coinbase, wire, trust):
    """No socket, no cycle; whatever came last, as an error holds frames."""
    no_http = f"https://{wire(saying(b'hello')).host}/x"
    make = cdp_jwt.Client.__init__.__wrapped__  # no test closes this one
    for last in ("/echo", "/nowhere", no_http, f"https://{NOWHERE}/x"):
        client = cdp_jwt.Client.__new__(cdp_jwt.Client)
        make(client, key_of(), host=coinbase.host, ssl_context=trust, retries=0)
        client.get("/echo")
        gc.collect()
        gc.disable()
        try:
            with contextlib.suppress(cdp_jwt.CdpError):
                client.get(last)
            (sock,) = idle_sockets(client)
            assert sock.fileno() != -1, last
            assert gc.collect() == 0, last
            del client
            assert sock.fileno() == -1, last
        finally:
            gc.enable()


# Where a call goes

THROWAWAY = key_of("EdDSA")


@examples(100)
@given(
    method=st.sampled_from(["GET", "post", "DELETE"]) | st.text(max_size=5),
    host=HOSTS | st.text(max_size=9) | mutations(["api.coinbase.com", "a.example:1"]),
    url=URLS | PATHS | URLS.map("https://api.coinbase.com".__add__),
)
def test_any_url_goes_to_its_own_host_over_https_or_nowhere(nowhere, method, host, url):
    """Where the signed `uri` says, and a strict parser of URLs."""
    del nowhere[:]
    try:
        cdp_jwt.Client(THROWAWAY, host=host, retries=0).request(method, url)
    except cdp_jwt.InvalidRequestError:
        assert nowhere == []
        return
    except cdp_jwt.TransportError:
        uri = cdp_jwt.format_jwt_uri(method, url, host)
    whole = url if url[:8].lower() == "https://" else f"https://{host}{url}"
    parts = urllib.parse.urlsplit(whole)
    assert parts.scheme == "https"
    name, port = parts.hostname, parts.port or 443
    assert nowhere == [(name, port)]
    signed = f"{name}:{port}".removesuffix(":443")
    assert uri == f"{method.upper()} {signed}{parts.path or '/'}"


class Fake:
    """Calls without a network: urllib's opener is made to give these answers."""

    def __init__(self) -> None:
        self.requests: list[urllib.request.Request] = []

    def client(self, *answers: object, key=THROWAWAY, **options) -> cdp_jwt.Client:
        self.answers = iter(answers)
        return cdp_jwt.Client(key, **options)

    def open(self, request: urllib.request.Request, timeout) -> cdp_jwt.Response:
        request.timeout = timeout
        self.requests.append(request)
        answer = next(self.answers)
        return answer if isinstance(answer, cdp_jwt.Response) else answered(200, answer)

    def claims(self) -> list[dict]:
        tokens = [each.get_header("Authorization")[7:] for each in self.requests]
        return [json.loads(segments(token)[1]) for token in tokens]


def answered(code: int, content: object = b"", **headers: str) -> cdp_jwt.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    message = email.message.Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return cdp_jwt.Response(code, message, body)


@pytest.fixture
def fake(monkeypatch, frozen, waits, trust) -> Fake:
    server = Fake()
    monkeypatch.setattr(ssl, "create_default_context", lambda: trust)
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", server.open)
    return server


# What comes back


@pytest.fixture
def talker(wire) -> Wire:
    """A server whose script changes from call to call."""
    return wire(saying())


ANSWERS = [template for template, _ in PLACES.values()]
ANSWERS += [(OK + CHUNKED + b"2\r\n{}\r\n0\r\n\r\n").decode()]


@examples(100)
@given(
    answer=mutations(ANSWERS),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
)
def test_any_answer_is_a_response_or_a_cdp_error(talker, trust, waits, answer, method):
    """Neither message nor cause has the token; a POST is sent once."""
    talker.requests.clear()
    waits.clear()
    talker.script = saying(answer.encode())
    client = calling(talker, trust, max_body=1000, retries=1)
    try:
        response = client.request(method, "/x")
        assert 200 <= response.status <= 299
        assert len(response.body) <= 1000
    except cdp_jwt.CdpError as error:
        assert "eyJ" not in f"{error} {error!r} {vars(error)}"
        assert error.__context__ is None
    may_be_sent_again = method != "POST" or "429" in answer or "401" in answer
    assert len(talker.requests) <= (3 if may_be_sent_again else 1)
    assert [0 <= wait <= 3 for wait in waits] in ([], [True])


# May it have been carried out, and is it tried again?

NO_BODY = b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n"
ENDINGS = {  # answers; tries of GET and HEAD, of others; is the outcome of these unknown?
    "nobody listens": ([None], 3, 3, False),
    "no answer of use": ([b"", b"hello\r\n", OK + b"Content-Length: 2\r\n"], 3, 1, True),
    "refused": ([NO_BODY % code for code in (302, 400, 401, 403, 404, 408, 499)], 1, 1, False),
    "rate limit": ([NO_BODY % 429], 3, 3, False),
    "server error for now": ([NO_BODY % code for code in (500, 502, 503, 504)], 3, 1, True),
    "server error for good": ([NO_BODY % code for code in (501, 505, 520)], 1, 1, True),
}  # fmt: skip


def test_call_is_tried_again_or_its_outcome_is_said_to_be_unknown(wire, trust, waits):
    """In words and as an attribute; never that of a call which changes nothing."""
    for answers, safe, changing, is_unknown in ENDINGS.values():
        for case in itertools.product(answers, cdp_jwt.METHODS):
            answer, method = case
            is_safe = method in ("GET", "HEAD")
            server = wire(saying(answer))
            host = NOWHERE if answer is None else server.host
            client = calling(server, trust, host=host, retries=2)
            error = failure(cdp_jwt.CdpError, client.request, method, "/x")
            tries = safe if is_safe else changing
            sent = len(server.requests)
            assert sent == (0 if answer is None else tries), case
            assert waits == [0.25, 0.5][: tries - 1], case
            del waits[:]
            expected = is_unknown and not is_safe
            is_said = str(error).endswith(f"; {UNKNOWN}")
            assert (error.outcome_unknown, is_said) == (expected, expected), case


def test_order_is_never_executed_twice_whatever_breaks_when(wire, trust, waits):
    """The connection is cut after each octet of an answer, or of a refusal's status."""
    refused = b"HTTP/1.1 429 Too Many Requests\r\n"
    for answer in (EMPTY_OBJECT, refused):
        for size in range(len(answer)):
            server = wire(saying(answer[:size]))
            client = calling(server, trust, retries=3)
            assert transport_error(client.post, ORDERS, json={}).endswith(UNKNOWN)
            assert (len(server.requests), waits) == (1, [])


def test_order_is_never_executed_twice_once_a_part_of_it_was_sent(wire, trust, waits):
    server = wire(lambda _, connection: connection.recv(1000))
    client = calling(server, trust, retries=3)
    body = b"x" * 20_000_000  # more than a connection holds unread
    found = transport_error(client.post, ORDERS, json=body)
    assert found == f"{server.host}: {once_sent(CLOSED)}"
    assert (server.connections, waits) == (1, [])


def test_order_of_unknown_outcome_is_not_to_be_tried_again_later(fake):
    client = fake.client(answered(503, b"busy", Retry_After="99"))
    found = str(failure(cdp_jwt.ApiError, client.post, ORDERS))
    assert found == f"HTTP 503: busy; {UNKNOWN}"


def test_order_that_was_carried_out_is_none_to_repeat_for_its_answer(client, coinbase):
    """A program that tries again where no outcome is unknown must not do so here."""
    for method, unknown in (("GET", False), ("HEAD", False), ("POST", True)):
        coinbase.faults.append(status(200, b"OK"))
        response = client.request(method, "/x")
        error = failure(cdp_jwt.TransportError, response.json)
        assert error.outcome_unknown is unknown


INTERRUPTS = [  # the last one: for the next try, as the first was refused
    ("POST", ssl.SSLSocket, "sendall", (UNKNOWN,), 0),
    ("POST", cdp_jwt._Octets, "readinto", (UNKNOWN,), 0),
    ("GET", cdp_jwt._Octets, "readinto", (), 0),
    ("POST", cdp_jwt, "_start_tls", (), 0),
    ("POST", time, "sleep", (), 1),
]


def test_interrupt_says_whether_the_outcome_is_unknown(client, coinbase, monkeypatch):
    for method, owner, name, words, kept in INTERRUPTS:
        client.close()
        coinbase.faults[:] = [status(429)] * 9  # some calls are answered late
        interrupt = unittest.mock.Mock(side_effect=KeyboardInterrupt)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as caught:
            patch.setattr(owner, name, interrupt)
            client.request(method, "/x")
        assert (caught.value.args, len(idle_sockets(client))) == (words, kept), name


# Retries: when, with what, for how long


def test_each_try_has_a_token_of_its_own(client, coinbase, waits):
    coinbase.faults += [status(503), status(429)]
    assert client.get("/echo").status == 200
    assert len(nonces_of([seen.token for seen in coinbase.seen], P256)) == 3


SOON = {  # Retry-After -> the wait that follows; the clock is at NOW + 0.9
    "0": 0, "3": 3, "003": 3, "Thu, 01 Jan 1970 00:00:00 GMT": 0,
    "Fri, 15 Jan 2027 08:00:03 GMT": 2.1, "Friday, 15-Jan-27 08:00:03 GMT": 2.1,
    "Fri Jan 15 08:00:03 2027": 2.1,  # asctime's, the one form without a zone: UTC
}  # fmt: skip
LATE = {"11": 11, "999999": 999999, "Fri, 15 Jan 2027 09:00:00 GMT": 3599}
ODD = ["-1", "nan", "", "soon", "\u0663", "9999999", "Fri, 31 Dec 99999 23:59:59 GMT"]


def test_retry_after_is_heeded_within_the_timeout(fake, waits, monkeypatch):
    """Of what is neither a number of seconds nor a date, nothing is made."""
    monkeypatch.delattr(time, "mktime")  # the zone of this machine has no say
    for value in (*SOON, *ODD):
        del waits[:]
        refusals = (answered(code, Retry_After=value) for code in (429, 503))
        client = fake.client(next(refusals), b"", next(refusals), b"")
        assert client.post("/x").status == client.get("/x").status == 200
        assert waits == [pytest.approx(SOON.get(value, 0.25), abs=1e-4)] * 2, value
    for value, seconds in LATE.items():
        del waits[:]
        client = fake.client(answered(429, b"slow down", Retry_After=value))
        found = str(failure(cdp_jwt.ApiError, client.post, "/x"))
        assert found == f"HTTP 429: slow down; try again in {seconds} s"
        assert waits == []


def test_error_whose_body_cannot_be_read_is_tried_again_as_its_headers_say(
    client, coinbase, waits
):
    for code, method in ((503, "GET"), (429, "POST")):
        fault = status(code, b"x", Content_Encoding="br", Retry_After="1")
        coinbase.faults.append(fault)
        assert client.request(method, "/echo").status == 200
    assert waits == [1, 1]


def test_wait_doubles_with_each_try_up_to_64_s(fake, waits):
    at_once, slow = answered(429, Retry_After="0"), answered(429, b"slow down")
    client = fake.client(*[at_once] * 1100, slow, retries=5000, timeout=60)
    assert str(failure(cdp_jwt.ApiError, client.get, "/x")) == "HTTP 429: slow down"
    client = fake.client(*[slow] * 11, retries=10, timeout=600)
    failure(cdp_jwt.ApiError, client.get, "/x")
    assert waits == [0] * 1100 + [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 64]


@pytest.mark.parametrize("place", [(socket, "getaddrinfo"), (time, "sleep")])
def test_no_try_is_begun_too_late(client, coinbase, monkeypatch, place):
    """Looking up a name, or a wait in suspend, may take longer than is left."""
    original = getattr(*place)
    now = time.monotonic

    def take_long(*arguments, **options):
        monkeypatch.setattr(time, "monotonic", lambda: now() + 100)
        return original(*arguments, **options)

    monkeypatch.setattr(*place, take_long)
    coinbase.faults.append(status(429))
    error = failure(cdp_jwt.TransportError, client.post, "/echo")
    assert str(error) == f"{coinbase.host}: {TIMED_OUT}"
    assert (error.outcome_unknown, len(coinbase.seen)) == (False, place[0] is time)


def test_call_shares_the_deadline_of_the_one_before(fake, run, with_key, monkeypatch):
    """As the one that asks for a key's permissions after an order does."""
    monkeypatch.setattr(time, "monotonic", itertools.count(100).__next__)
    fake.answers = iter([answered(403), {"can_trade": False}])
    assert "its can_trade is false" in run("POST", ORDERS, "--call").err
    first, second = fake.requests
    assert second.timeout < first.timeout


# The clock


http_date = functools.partial(email.utils.formatdate, usegmt=True)
CLOCKS = [  # status, the server's time less NOW (it is NOW + 0.9 here), signed again?
    (401, -(10**6), 1), (401, -6, 1), (401, -5, 0), (401, 114, 0), (401, 115, 1),
    (401, 86_400, 1), (401, 86_401, 0), (403, 115, 0),
]  # fmt: skip


def test_401_is_signed_again_if_its_date_is_not_of_the_token(fake, caplog):
    """Not a day ahead: who passes for the server could keep a token for next week."""
    for code, ahead, again in CLOCKS:
        caplog.clear()
        del fake.requests[:]
        client = fake.client(answered(code, Date=http_date(NOW + ahead)), *[b""] * 2)
        with contextlib.suppress(cdp_jwt.ApiError):
            client.post("/x")
            client.get("/x")
        first, *others = [claims["nbf"] for claims in fake.claims()]
        offset = int(ahead - 0.9)
        assert (first, others) == (NOW - 5, [first + offset] * 2 * again)
        told = f"this clock is {-offset:+d} s from the server's; the server's is used"
        assert caplog.messages == [told] * again


def test_401_is_signed_again_once(fake):
    ahead = (answered(401, Date=http_date(NOW + 1000 * n)) for n in range(1, 9))
    assert hints_of(fake.client(*ahead)) == [WRONG_CLOCK]
    assert len(fake.requests) == 2


def test_clock_that_one_host_tells_is_not_taken_for_anothers(fake):
    client = fake.client(answered(401, Date=http_date(NOW + 3600)), b"", b"", b"")
    for url in ("https://a.example/x", "/x", "https://a.example/x"):
        client.get(url)
    ahead = [claims["nbf"] - NOW for claims in fake.claims()]
    assert ahead == [-5, 3594, -5, 3594]


def test_clock_that_was_corrected_meanwhile_is_learned_anew(fake):
    late, right = (answered(401, Date=http_date(NOW + each)) for each in (3600, 0))
    client = fake.client(late, b"", right, b"")
    for _ in range(2):
        client.get("/x")
    assert [claims["nbf"] - NOW for claims in fake.claims()] == [-5, 3594, 3594, -5]


# Hints: what the evidence shows


def hints_of(client: cdp_jwt.Client, url: str = ACCOUNTS) -> list[str]:
    return [*failure(cdp_jwt.ApiError, client.get, url).hints]


POSSIBLE = "possible: the key was deleted, or lacks a permission (other causes are ruled out: signature verified here, clock compared, uri equal to the request)"
WRONG_CLOCK = "by the server's clock this token was not valid; set this machine's clock"
LACKING = "the key lacks a permission for this; `check` lists those that it has"
USED_UP = "the rate limit is used up: x-ratelimit-"
SCOPES = {"message": "Missing required scopes"}
IN_TIME, TOO_LATE = http_date(NOW), http_date(NOW + 10**6)
REFUSALS = [
    (answered(403, Date=TOO_LATE), [POSSIBLE]),
    (answered(401, Date=TOO_LATE), [WRONG_CLOCK]),
    (answered(401, Date="soon"), [POSSIBLE.replace("clock compared, ", "")]),
    (answered(401, SCOPES), [LACKING]),
    (answered(403, SCOPES), [LACKING]),
    (answered(404, SCOPES), []),
    (answered(429), ["the rate limit is used up"]),
    (answered(429, X_RateLimit_Limit=30, x_ratelimit_remaining=0), [f"{USED_UP}limit 30, x-ratelimit-remaining 0"]),
    (answered(429, x_ratelimit_reset="\x1b" + "9" * 999), [f"{USED_UP}reset \\x1b{'9' * 278}"]),
]  # fmt: skip


def test_hints_say_what_the_answer_shows(fake):
    """And no more of a server's text than fits into a line."""
    for answer, hints in REFUSALS:
        assert hints_of(fake.client(answer, retries=0)) == hints


OTHER_ADDRESS = "possible: this machine's IP address is not one it allows: 203.0.113.7"
UNKNOWN_PATH = "the path is under neither /api/v3/brokerage nor /v2: /api/v3/accounts"
DOUBTED = [
    (401, "a.example:8443/x", None, ["no token was sent, as no key was given"]),
    (402, "a.example/x", None, []),
    (401, "a.example:8443/x", ("my-key", SEC1), [UNKNOWN_NAME]),
    (401, "a.example:8443/x", (UUID, BARE_SEED), [SEED]),
    (401, "a.example:8443/x", (UUID, SEC1, ["203.0.113.7"]), [OTHER_ADDRESS, POSSIBLE]),
    (401, "a.example:8443/x", (UUID, SEC1, ["\x1b" * 999]), [OTHER_ADDRESS[:-11] + r"\x1b" * 75, POSSIBLE]),
    (401, "a.example:8443/x", (UUID, SEC1), [POSSIBLE]),
    (404, "api.coinbase.com/api/v3/accounts", (UUID, SEC1), [UNKNOWN_PATH]),
    (400, "api.coinbase.com/api/v3/accounts", (UUID, SEC1), []),
    (401, "a.example:8443/x?next=https://a", (UUID, SEC1), [POSSIBLE]),
    (404, "api.coinbase.com/v2//x?a=1", (UUID, SEC1), ["the path has an empty segment; is an id missing? /v2//x"]),
    (403, "www.coinbase.com/", (UUID, SEC1), [f"www.coinbase.com {NO_CDP_KEYS}"]),
    (401, "www.coinbase.com/", (UUID, SEC1), [f"www.coinbase.com {NO_CDP_KEYS}"]),
]  # fmt: skip


def test_hints_name_what_of_key_host_and_path_is_doubted(fake):
    for code, place, arguments, hints in DOUBTED:
        key = arguments and cdp_jwt.ApiKey(*arguments)
        client = fake.client(answered(code, Date=IN_TIME), key=key)
        assert hints_of(client, f"https://{place}") == hints, place


# Pages


def test_pages_keep_host_and_parameters_and_take_next_uri_as_it_is(fake):
    next_uri = {"pagination": {"next_uri": "/v2?a=1"}}
    first = {"cursor": "1", "has_next": True}
    client = fake.client(first, next_uri, {"cursor": "2"}, {})
    assert len([*client.pages("https://a.example/x", {"b": ["B", "C"]})]) == 4
    paths = ["/x?b=B&b=C", "/x?b=B&b=C&cursor=1", "/v2?a=1", "/v2?a=1&cursor=2"]
    urls = [each.full_url for each in fake.requests]
    assert urls == [f"https://a.example{path}" for path in paths]


def test_pages_leave_the_callers_params_as_they_are(fake):
    client, params = fake.client({"cursor": "2"}, {}), {"limit": 1}
    pages = client.pages("/x", params)
    params["limit"] = 7  # as for the next list
    assert len([*pages]) == 2
    assert params == {"limit": 7}
    paths = [each.selector for each in fake.requests]
    assert paths == ["/x?limit=1", "/x?limit=1&cursor=2"]


def test_pages_begin_with_the_cursor_in_params(fake):
    assert len([*fake.client({"cursor": "2"}, {}).pages("/x", {"cursor": "1"})]) == 2
    paths = [each.selector for each in fake.requests]
    assert paths == ["/x?cursor=1", "/x?cursor=2"]


IN_THE_PATH = "the path has a cursor; give it in params"
REFUSED_PAGES = {  # there a cursor would stay, beside that of each next page
    ("/x?cursor=1",): IN_THE_PATH,
    ("https://a.example/x?limit=1&%63ursor=",): IN_THE_PATH,
    ("/x", "a=1"): "params is str; expected a dict",
    (7,): "the path is int, not text",
}


def test_pages_refuse_bad_arguments_when_they_are_called(fake):
    client = fake.client({})
    for arguments, message in REFUSED_PAGES.items():
        assert refusal(client.pages, *arguments) == message
    assert len([*client.pages("/x?a_cursor=1&x=cursor")]) == 1


LISTS = [  # the pages of a list, and whether some may be missing
    ([{"cursor": "a", "has_next": True}] * 2, True),
    ([{"cursor": "a"}, {"cursor": "b"}, {"cursor": "a"}], True),
    ([{"pagination": {"next_uri": "/x?a=1"}}] * 2, True),
    ([{"cursor": "", "has_next": True}], True),
    ([{"cursor": "a", "has_next": False}], False),
    ([{"cursor": ["a"]}], False),
    ([{"pagination": {"next_uri": ""}}], False),
]


def test_pages_end_at_a_repeated_or_missing_cursor(fake, caplog):
    for contents, is_incomplete in LISTS:
        caplog.clear()
        pages = fake.client(*contents).pages("/x")
        assert [page.json() for page in pages] == contents
        warning = "the list has no new cursor, and may be incomplete"
        assert caplog.messages == [warning] * is_incomplete, contents


def test_pages_refuse_to_go_to_another_host(fake):
    for place in ("https://evil.example/x", "//evil.example/x", "@evil", 7, "/a b"):
        pages = fake.client({"pagination": {"next_uri": place}}).pages("/x")
        assert transport_error(list, pages).startswith("next_uri is not a path")
    assert {each.host for each in fake.requests} == {"api.coinbase.com"}


JSON_CURSOR = code_of('{"id": "7781", "time": 1800000000}')
PLACES_TO_GO_ON = [  # the server's text: escaped, and no longer than 300 characters
    ({"cursor": "\x1b[2J\nhint: x"}, r"cursor=\x1b[2J\nhint: x"),
    ({"cursor": "x" * 60_000}, f"cursor={'x' * 293}"),
    ({"cursor": JSON_CURSOR}, f"cursor={JSON_CURSOR}"),  # like a token, and none
    ({"cursor": 7}, "cursor=7"),
    ({"pagination": {"next_uri": "/v2/x?a=1"}}, "/v2/x?a=1"),
]


def test_page_that_fails_says_where_to_go_on(fake):
    for page, place in PLACES_TO_GO_ON:
        pages = fake.client({"cursor": "1"}, page, answered(400, b"broken")).pages("/x")
        assert [next(pages).status for _ in range(2)] == [200, 200]
        with pytest.raises(cdp_jwt.ApiError) as caught:
            next(pages)
        assert str(caught.value) == f"HTTP 400: broken; to go on: {place}"


def test_pages_remember_neither_pages_nor_cursors(fake):
    client = fake.client(*({"cursor": f"{n}{'x' * 20_000}"} for n in range(9)))
    pages = client.pages("/x")
    assert len([*itertools.islice(pages, 9)]) == 9
    assert len(repr(pages.gi_frame.f_locals)) < 5 * 20_000  # this page and the next


# -------------------------------------------------------------- 8. command line
# What each command prints and where, what a terminal shows, and each exit code.


@pytest.fixture
def with_key(key_file, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("CDP_KEY_FILE", str(key_file))
    return key_file


@pytest.fixture
def online(coinbase, ca_file, with_key, monkeypatch) -> Coinbase:
    """The command's surroundings: a key, a CA, and a server to call."""
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    return coinbase


@pytest.fixture
def by_name(ca, ca_file, wire, with_key, monkeypatch) -> Iterator[Coinbase]:
    """A server in the place of api.coinbase.com, behind a CONNECT proxy on loopback."""

    def script(wire: Wire, client: socket.socket) -> None:
        request = wire.read_request(client)
        assert request.startswith(b"CONNECT api.coinbase.com:443 ")
        with socket.create_connection(server.server_address) as origin:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            pump(client, origin, wire)

    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{wire(script, None).host}")
    with serving(Coinbase(server_context(ca, "api.coinbase.com"))) as server:
        server.host = "api.coinbase.com"
        yield server


def call_to(server: Coinbase, method="GET", path=ACCOUNTS) -> list[str]:
    return [method, path, "--call", "--host", server.host]


@pytest.fixture
def piped(monkeypatch) -> Callable[..., tuple[int, bytes, str]]:
    """The command between pipes, as on Windows, where lines of text end in CR LF."""

    def call(*words: str, stdin: bytes = b"", encoding: str = "utf-8"):
        out, err = io.BytesIO(), io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            for name, stream in ("stdout", out), ("stderr", err):
                wrapper = io.TextIOWrapper(stream, encoding, newline="\r\n")
                patch.setattr(sys, name, wrapper)
            code = cdp_jwt.main(list(words))
            sys.stderr.flush()
            message = err.getvalue().decode(encoding).replace("\r\n", "\n")
            return code, out.getvalue(), message

    return call


@pytest.fixture
def copied(tmp_path) -> pathlib.Path:
    """The file alone, under another name, in a directory with an awkward name."""
    folder = tmp_path / "a folder, ключ"
    folder.mkdir()
    return pathlib.Path(shutil.copy(MODULE, folder / "signer.py"))


# With these variables `make cover` measures children that run the file itself.
MEASURED = {
    name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")
}


def process(command: list[object], **options) -> subprocess.CompletedProcess:
    environment = {"PATH": os.environ["PATH"], **options.pop("env", {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    words = [str(word) for word in command]
    return subprocess.run(
        words, check=False, env=environment, text=True, timeout=60, **options
    )


# Where data and messages go

EVIL_BODY = b'\x1b[2J\x1b]0;owned\x07\x9b3A{\r\n\t"\xc3\xa9": \xff\r}'


def test_body_goes_through_a_pipe_to_the_octet(piped, online):
    body = EVIL_BODY + b"\n\n"
    online.faults.append(status(200, body))
    assert piped(*call_to(online)) == (0, body, "")


@pytest.mark.parametrize(("body", "end"), [("no", "\n"), ("no\n", ""), ("", "")])
def test_body_of_a_refused_call_is_printed_and_its_error_starts_a_new_line(
    piped, online, tmp_path, monkeypatch, body, end
):
    """After a body in the mail of cron, where both streams are one; apart, neither is changed."""
    online.faults += [status(429, body.encode(), Retry_After="11")] * 2
    message = f"{body.strip() or 'no message'}; try again in 11 s"
    error = f"cdp_jwt: error: HTTP 429: {message}\n"
    limits = "x-ratelimit-limit 30, x-ratelimit-remaining 1000000, x-ratelimit-reset 1"
    hint = f"cdp_jwt: hint: the rate limit is used up: {limits}\n"
    assert piped(*call_to(online)) == (1, body.encode(), error + hint)
    path = tmp_path / "mail"
    with open(path, "a") as out, open(path, "a") as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        print("of the program before")
        cdp_jwt.main(call_to(online))
    assert path.read_text() == f"of the program before\n{body}{end}{error}{hint}"


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "ascii"])
def test_console_of_any_encoding_gets_escaped_text(piped, online, frozen, encoding):
    token = claiming(iss="☃\x1b")
    code, out, err = piped("decode", token, encoding=encoding)
    assert (code, err) == (1, "")
    assert rb"problem  iss is '\u2603\x1b'; expected 'cdp'" in out
    # A file's name in the C locale has half of what stands for an octet.
    code, out, err = piped("ws", "--key-file", "☃\udcd1.json", encoding=encoding)
    missing = r"\u2603\udcd1.json: cannot be read: No such file or directory"
    assert (code, out, err) == (1, b"", f"cdp_jwt: error: {missing}\n")


@needs_modes
def test_warning_of_a_key_does_not_stop_a_command(run, with_key):
    with_key.chmod(0o644)
    warning = f"{with_key}: group or others can read this key; chmod 600 it"
    result = run("ws")
    assert (result.code, result.err) == (0, f"cdp_jwt: warning: {warning}\n")


def test_warnings_of_other_threads_go_to_their_log(run, online, caplog, monkeypatch):
    """The server is one of this process: it logs in a thread of its own."""

    def warn(handler: Handler) -> None:
        logger.warning("of another thread")
        handler.answer(200, {})

    logger = logging.getLogger("cdp_jwt")
    caplog.set_level(logging.INFO, "cdp_jwt")
    before = (logger.level, [*logger.handlers])
    online.faults += [warn, warn]
    result = run(*call_to(online), "--verbose")
    assert "of another thread" in caplog.text
    assert "of another thread" not in result.err
    assert (logger.level, [*logger.handlers]) == before
    monkeypatch.setattr(logger, "propagate", False)  # as where no log is set up
    with caplog.at_level(logging.DEBUG, "cdp_jwt"):
        assert run(*call_to(online)).err == "of another thread\n"


# A terminal: what its screen shows, not what was sent to it


@pytest.fixture
def terminal(monkeypatch) -> Callable[..., types.SimpleNamespace]:
    """The command in a terminal: the `lines` of its screen, and all that was `sent`."""
    pyte = pytest.importorskip("pyte")
    if not hasattr(os, "openpty"):
        pytest.skip("needs a terminal")

    def show(*words: str, out=None, encoding="utf-8", typed=""):
        sent = []

        def read() -> None:
            with contextlib.suppress(OSError):  # EIO when the other end is closed
                while octets := os.read(master, 65536):
                    sent.append(octets)

        master, end = os.openpty()
        os.write(master, typed.encode())
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
            for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
                stream = os.fdopen(os.dup(end), mode, encoding=encoding)
                patch.setattr(sys, name, stack.enter_context(stream))
            patch.setattr(sys, "stdout", out or sys.stdout)
            cdp_jwt.main(list(words))
        os.close(end)
        reader.join()
        os.close(master)
        screen = pyte.Screen(80, 24)
        pyte.ByteStream(screen).feed(octets := b"".join(sent))
        text = "\n".join(line.rstrip() for line in screen.display)
        lines = text.rstrip("\n").split("\n")
        return types.SimpleNamespace(screen=screen, lines=lines, sent=octets.decode())

    return show


def test_terminal_shows_a_hint_below_a_token(terminal, with_key):
    shown = terminal("GET", ACCOUNTS)
    *token, last = shown.lines
    assert verified("".join(token), P256)
    hint = "this is a token for the request; --call sends the request"
    assert last == f"cdp_jwt: hint: {hint}"
    assert "hint" not in terminal("ws").sent


@pytest.mark.parametrize(("encoding", "letter"), [("utf-8", "é"), ("ascii", r"\xe9")])
def test_terminal_is_not_moved_by_a_body(terminal, online, encoding, letter):
    online.faults += [status(200, EVIL_BODY), status(200, b"")]
    shown = terminal(*call_to(online), encoding=encoding)
    first = r"\x1b[2J\x1b]0;owned\x07\x9b3A{"
    assert shown.lines == [first, rf'        "{letter}": \xff\r}}']
    assert (shown.screen.title, shown.screen.cursor.x) == ("", 0)
    shown = terminal(*call_to(online))
    assert (shown.lines, shown.screen.cursor.y) == ([""], 0)


def test_terminal_is_not_moved_by_the_name_of_a_file(terminal, tmp_path, monkeypatch):
    """Nor by that of the command, as it was installed."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/cdp-jwt\x1b[2J\x07"])
    first, *_, last = terminal("GET").lines
    usage = r"usage: cdp-jwt\x1b[2J\x07 METHOD PATH [--export | "
    assert first.startswith(usage)
    assert terminal("--help").lines[0].startswith(usage)
    assert last == r"cdp-jwt\x1b[2J\x07: error: GET needs a PATH"
    path = write_private(tmp_path / "evil\x1b[2J\n.json", "{")
    shown = terminal("ws", "--key-file", str(path))
    assert r"evil\x1b[2J\n.json: this is damaged JSON" in "".join(shown.lines)


def test_terminal_is_told_what_is_waited_for(terminal):
    for command, what in (
        ("decode", "a token"),
        ("decode -", "a token"),
        ("POST /x --call --data -", "JSON"),
        ("ws --key-file -", "a key file"),
    ):
        shown = terminal(*command.split(), typed="{\n\x04\x04")  # PyPy asks twice
        line = f"type or paste {what}, then Ctrl-D on a line of its own"
        assert f"cdp_jwt: hint: {line}" in shown.lines
    assert "hint" not in terminal("POST", "/x", "--call", "--data", "@x").sent


def page(number: int) -> Callable[[Handler], None]:
    """Of a list of accounts, with another one behind it."""
    cursor = str(number + 1)
    return status(200, {"accounts": [number], "has_next": True, "cursor": cursor})


def test_count_of_pages_is_shown_beside_a_file_and_erased(terminal, online, tmp_path):
    with open(tmp_path / "pages", "w") as file:
        shown = terminal(*call_to(online), "--paginate", out=file)
        assert re.findall(r"\d+ \w+", shown.sent) == ["1 page", "2 pages", "3 pages"]
        assert (shown.lines, shown.screen.cursor.x) == ([""], 0)
        online.faults += [page(0), page(1), status(400, b"broken")]
        shown = terminal(*call_to(online), "--paginate", out=file)
    assert shown.lines == ["cdp_jwt: error: HTTP 400: broken; to go on: cursor=2"]


def test_count_of_pages_is_never_among_the_data(terminal, online):
    """A pipe may lead to the same terminal, which nobody can know."""
    words = [*call_to(online), "--paginate"]
    shown = terminal(*words)
    assert [json.loads(line)["accounts"] for line in shown.lines] == [[0], [1], [2]]
    assert "page" not in shown.sent
    reading, writing = os.pipe()
    with open(reading), open(writing, "w") as pipe:
        assert terminal(*words, out=pipe).sent == ""
    text = io.StringIO()
    assert terminal(*words, out=text).sent == ""
    assert json.loads(text.getvalue().splitlines()[2])["accounts"] == [2]


# Help

HELP = [  # what it is asked of, options that it shows, and some that it does not
    ([], set(cdp_jwt.NAMED) - {"--version"}, set()),
    (["GET", "/x"], {"--export", "--header", "--not-before", "--host", "--call"}, {"--data", "--offline"}),
    (["post", "--call"], {"--data", "--param", "--paginate", "--timeout"}, {"--export", "--not-before"}),
    (["ws"], {"--export", "--not-before"}, {"--host", "--data"}),
    (["ws", "user"], {"--verbose"}, {"--export", "--not-before"}),
    (["decode"], {"--verbose"}, {"--export", "--host", "--data", "--offline"}),
    (["check"], {"--offline", "--host", "--timeout"}, {"--data", "--export"}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "own", "others"), HELP)
def test_help_shows_on_one_screen_what_belongs_to_a_command(run, words, own, others):
    result = run(*words, "--help")
    assert (result.code, result.err) == (0, "")
    assert run("-h", *words) == result
    lines = result.out.splitlines()
    assert lines[0].startswith("usage: python cdp_jwt.py ")
    assert len(lines) <= 23  # and the prompt
    assert max(map(len, lines)) <= 80
    shown = set(re.findall(r"(?m)^ +(--[\w-]+)", result.out))
    assert shown >= own | {"--key-file", "--key-name", "--help"}
    assert not shown & others


def test_help_ends_with_a_session_and_names_channels_and_version(run):
    text = run("--help").out
    assert text.splitlines()[-1].startswith("  $ python cdp_jwt.py GET ")
    for option in ("--version", "-V"):
        assert run(option) == Result(0, f"cdp_jwt {cdp_jwt.__version__}\n", "")
    *channels, last = cdp_jwt.CHANNELS
    of_channel = " ".join(run("ws", "user", "--help").out.split())
    assert f"{', '.join(channels)} and {last}." in of_channel


# Words and options that are wrong: how it is called is shown, and exit code 2


def misused(message: str) -> Result:
    """What a wrong command line is answered with: how to call it, and what is wrong."""
    usage = cdp_jwt.SYNOPSIS.format("python cdp_jwt.py")
    return Result(2, "", f"{usage}cdp_jwt: error: {message}\n")


CANARY = "c4n4ryc4n4ryc4n4ry"
EXPECTED_METHODS = "expected one of DELETE, GET, HEAD, PATCH, POST, PUT"
ONE_INPUT = "only one of key file, data and token can be standard input"
MISUSES = [
    ([], "a command is missing"),
    (["GTE", "/x"], f"unknown method GTE; {EXPECTED_METHODS}"),
    ([CANARY], f"unknown method; {EXPECTED_METHODS}"),
    (["chekc"], "unknown command chekc; did you mean check?"),
    (["dec0de", "x"], "unknown command; did you mean decode?"),
    (["help"], "unknown command help; did you mean --help?"),
    *[([word], "a METHOD is missing before PATH, such as GET") for word in ("/x", "https://a.example/x")],
    ([made()], "a command is missing; `decode TOKEN` says what is in a token"),
    (["post", "--call"], "POST needs a PATH"),
    (["GET", "/x", PORTAL], "GET takes one PATH"),
    (["check", "x"], "check takes no argument"),
    (["decode", "a", "b"], "decode takes one TOKEN"),
    (["GET", "/x", "-k"], "unknown option -k; did you mean --key-file?"),
    (["GET", "/x", "--Call"], "unknown option --Call; did you mean --call?"),
    (["GET", "/x", "--exprot"], "unknown option --exprot; did you mean --export?"),
    (["GET", "/x", "--key_file"], "unknown option --key_file; did you mean --key-file?"),
    (["GET", "/x", f"--frob={CANARY}"], "unknown option --frob"),
    *[(["GET", "/x", text], "unknown option") for text in ("-QwErTyUiOp", f"--{'a' * 21}", f"--{CANARY}")],
    (["GET", "/x", "–call"], "an option begins with two plain dashes: --"),
    *[(["GET", "/x", "--host", *rest], "--host needs HOST") for rest in ([], ["--call"])],
    (["GET", "/x", f"--export={CANARY}"], "--export takes no value"),
    # Options that do not go together
    *[(["POST", "/x", *words], f"{words[0]} needs --call") for words in (["--no-auth"], ["--data", "{}"])],
    (["GET", "/x", "--call", "--not-before", "+5"], "--not-before does not go with --call"),
    (["ws", "user", "--header"], "--header does not go with ws CHANNEL"),
    (["GET", "/x", "--export", "--header"], "--export and --header exclude each other"),
    (["HEAD", "/x", "--call", "--data", "{}"], "--param, not --data, for HEAD"),
    (["POST", "/x", "--call", "--paginate"], "--paginate goes with GET, and without --data"),
    (["ws", "--key-name", NAME], "--key-name goes with --key-file or CDP_KEY_FILE"),
    (["POST", "/x", "--call", "--data", "@-", "--key-file", "-"], ONE_INPUT),
    (["decode", "--key-file", "-"], ONE_INPUT),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), MISUSES)
def test_misuse_is_refused_with_what_was_meant_and_how_to_call_it(
    run, monkeypatch, words, message
):
    """An empty list is one, too: it does not stand for the words of the process."""
    monkeypatch.setattr(sys, "argv", ["cdp_jwt.py", "--version"])
    assert run(*words) == misused(message)


def test_key_file_of_the_environment_may_be_the_one_standard_input(run, monkeypatch):
    monkeypatch.setenv("CDP_KEY_FILE", "-")
    for words in (["decode"], ["POST", "/x", "--call", "--data", "-"]):
        assert run(*words) == misused(ONE_INPUT)


# Values that are wrong: exit code 2 before anything is done

WHEN = "--not-before takes +SECONDS or 2026-11-22T15:00:00Z"
EXPIRED_WINDOW = "not_before: such a token would have expired already"
NO_HOST = "the host has '/' at position 2; expected name or name:port"
WRONG_VALUES = [
    *[(["GET", "/x", "--not-before", text], WHEN)
      for text in (CANARY, "-5", "+x", "2026-11-22T15:00:00", "+99999999999999")],
    *[([*words, "--not-before", "2020-01-01T00:00:00Z"], EXPIRED_WINDOW) for words in (["GET", "/x"], ["ws"])],
    *[(["GET", "/x", "--call", "--timeout", seconds], "--timeout takes seconds above 0, from 0.001 on")
      for seconds in ("0", "-1", "nan", "10s", "", CANARY)],
    *[(["check", "--timeout", seconds], "--timeout takes seconds below 1000000") for seconds in ("inf", "1000000")],
    (["GET", "/x", "--call", "--param", CANARY], "--param takes NAME=VALUE"),
    *[(["GET", *words], "the path does not begin with exactly one /") for words in (["x"], ["--", "--call"])],
    (["GET", "http://api.coinbase.com/x", "--call"], "not an https URL; others could read the token"),
    (["GET", "/x", "--host", ""], "the host is empty"),
    *[([*words, "--host", "a/b"], NO_HOST) for words in (["GET", "/x", "--call"], ["check"])],
    (["ws", "tickers"], f"unknown channel; expected one of {', '.join(cdp_jwt.CHANNELS)}"),
    (["ws", "ticker", "BTC USD"], "the product has ' ' at position 4; expected one such as BTC-USD"),
    *[(["POST", "/x", "--call", "--data", data], "--data is not JSON; nothing was sent")
      for data in ("{", "a=b", "", "[" * 100_000, '{"price": NaN}', "[-Infinity]", "@not-text.json")],
    (["POST", "/x", "--call", "--data", "order.json"], "--data is a file's name; put @ before it; nothing was sent"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), WRONG_VALUES)
def test_wrong_value_is_refused_at_once(run, tmp_path, monkeypatch, words, message):
    """There is neither a key nor anything to connect to."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("not-text.json").write_bytes(b"\xff{}")
    pathlib.Path("order.json").write_text("{}")
    monkeypatch.setattr(socket, "socket", None)
    error = Result(2, "", f"cdp_jwt: error: {message}\n")
    assert run(*words) in (error, misused(message))


NO_KEY = f"no API key; {SET}"
FAILURES = [
    *[(words, NO_KEY) for words in (["GET", "/x"], ["ws"], ["ws", "user"], ["GET", "/x", "--call"])],
    (["ws", "--key-file", ""], "the key file's path is empty; give the file's path"),
    (["decode", made(), "--key-file", "missing.json"], "missing.json: cannot be read: No such file or directory"),
    (["decode"], "TOKEN: closed, or not a path"),
    (["POST", "/x", "--call", "--data", "-"], "--data cannot be read: closed, or not a path"),
    (["POST", "/x", "--call", "--data", "@missing.json"], "--data cannot be read: No such file or directory"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), FAILURES)
def test_command_whose_key_or_input_is_missing_fails(run, monkeypatch, words, message):
    monkeypatch.setattr(sys, "stdin", None)
    assert run(*words) == Result(1, "", f"cdp_jwt: error: {message}\n")


def test_env_file_is_not_read_by_itself(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"{name}='{value}'\n" for name, value in ADVANCED.items()]
    write_private(tmp_path / ".env", "".join(lines))
    assert run("ws") == Result(1, "", f"cdp_jwt: error: {NO_KEY}\n")


# Tokens

GIVEN_URIS = [
    (["GET", f"{ACCOUNTS}?limit=1"], f"GET api.coinbase.com{ACCOUNTS}"),
    (["post", "https://localhost/x/y?z=1"], "POST localhost/x/y"),
    (["--host=LOCALHOST:8443", "--", "GET", "/x"], "GET localhost:8443/x"),
    (["ws"], None),
]


@pytest.mark.parametrize(("words", "uri"), GIVEN_URIS)
def test_token_is_printed_alone_or_for_a_shell_or_for_curl(piped, with_key, words, uri):
    for option, pattern in (
        ("--verbose", r"([\w.-]+)\n"),  # without \r, which a shell would keep
        ("--export", r"export JWT='([\w.-]+)'\n"),
        ("--header", r"Authorization: Bearer ([\w.-]+)\n"),
    ):
        code, out, err = piped(option, *words)
        assert (code, err) == (0, "")
        token = re.fullmatch(pattern, out.decode())[1]
        assert verified(token, P256).get("uri") == uri


def test_post_without_call_sends_nothing(run, with_key, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    result = run("POST", ORDERS)
    assert verified(result.out.strip(), P256)["uri"] == f"POST {API}{ORDERS}"


def test_websocket_message_is_printed_whole(piped, with_key):
    products = ["BTC-USD", "ETH-USD"]
    _, out, _ = piped("ws", "ticker", *products)
    assert out.endswith(b"}\n")
    message = json.loads(out)
    assert "uri" not in verified(message.pop("jwt"), P256)
    members = {"type": "subscribe", "channel": "ticker", "product_ids": products}
    assert message == members


def test_token_begins_at_the_time_that_is_given(run, with_key, frozen):
    for text, nbf in (
        ("+3600", NOW + 3600),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T10:00:00+02:00", NOW),
        ("2027-01-15 08:01:00.250z", NOW + 60),
    ):
        for words in (["GET", ACCOUNTS], ["ws"]):
            claims = verified(run(*words, "--not-before", text).out.strip(), P256)
            assert (claims["nbf"], claims["exp"]) == (nbf, nbf + 120), text


def test_key_is_that_of_an_option_first(run, with_key, tmp_path, stdin, monkeypatch):
    def signer(*words: str) -> str:
        return verified(run("ws", *words).out.strip(), ED25519)["kid"]

    pem_file = str(write_private(tmp_path / "key.pem", PORTAL))
    other = write_private(tmp_path / "other.json", {"id": UUID, "privateKey": PORTAL})
    assert signer("--key-file", str(other)) == UUID
    assert signer("--key-file", pem_file, "--key-name", UUID) == UUID
    stdin(PORTAL)
    assert signer("--key-file=-", f"--key-name={UUID}") == UUID
    monkeypatch.setenv("CDP_KEY_FILE", pem_file)
    assert signer("--key-name", UUID) == UUID
    # A variable of the shell that is not set does not mean another key.
    assert run("ws", "--key-file", "").err.endswith("; give the file's path\n")


def test_key_is_not_taken_from_the_command_line(run):
    for secret in (SEC1, PORTAL):
        result = run("ws", f"--key-file={secret}", "--key-name", NAME)
        assert result == Result(1, "", f"cdp_jwt: error: {IS_TEXT}\n")


# Calls


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_data_is_sent_to_the_octet_as_utf_8(run, online, tmp_path, stdin, encoding):
    """Notepad and PowerShell 5.1 put a mark in front, which JSON has not."""
    text = '{"price": 0.10000000000000000001, "é": 12345678901234567890}\r\n'
    path = tmp_path / "order.json"
    path.write_bytes(text.encode(encoding))
    stdin(text)
    for data in (text, f"@{path}", "-"):
        assert run(*call_to(online, "POST", "/echo"), "--data", data).code == 0
        seen = online.seen[-1]
        assert seen.body == text.encode()
        assert seen.headers["Content-Type"] == "application/json"


def test_call_sends_parameters_and_without_auth_no_token(run, online, monkeypatch):
    monkeypatch.delenv("CDP_KEY_FILE")
    params = ["limit=1", "id=A", "id=B=", "x="]
    words = [f"--param={param}" for param in params]
    run("GET", f"https://{online.host}/echo?a=1", "--call", "--no-auth", *words)
    [seen] = online.seen
    assert seen.path == "/echo?a=1&limit=1&id=A&id=B%3D&x="
    assert seen.token is None


def test_call_includes_status_and_headers(run, online):
    online.faults.append(status(200, b"{}", X_Evil="\x1b[31m\xe9"))
    lines = run(*call_to(online), "--include").out.splitlines()
    assert (lines[0], lines[-2:]) == ("HTTP/1.1 200", ["", "{}"])
    assert set(lines) >= {"Content-Type: application/json", "X-Evil: \\x1b[31mé"}
    head = b"HTTP/1.1 404 No\r\nA: 1\r\nContent-Length: 2\r\nA: 2\r\n\r\n"
    online.faults.append(lambda handler: handler.wfile.write(head + b"no"))
    shown = "HTTP/1.1 404\nA: 1\nContent-Length: 2\nA: 2\n\nno"
    assert run(*call_to(online), "--include").out == shown


def test_call_is_verbose_on_what_is_sent_and_why_it_waits_without_the_token(
    run, online, waits
):
    online.faults.append(status(503, b"busy"))
    result = run(*call_to(online), "--verbose")
    url = f"https://{online.host}{ACCOUNTS}"
    sent = f"GET {url} with Authorization: Bearer ..., 0 bytes"
    wait = "HTTP 503: busy; trying again in 0.25 s"
    answer = f"HTTP 200, {len(result.out)} bytes"
    notes = [sent, "HTTP 503, 4 bytes", wait, sent, answer]
    assert result.err == "".join(f"cdp_jwt: note: {note}\n" for note in notes)


def test_timeout_of_the_command_is_that_of_each_call(fake, run, with_key, monkeypatch):
    monkeypatch.setattr(time, "monotonic", itertools.count(100).__next__)
    fake.answers = iter([{"cursor": "1"}, {}, {}, {}])
    run("GET", "/x", "--call", "--paginate", "--timeout", "20")
    run("check", "--host", "localhost", "--timeout", "20")
    assert [each.timeout for each in fake.requests] == [19] * 4


def test_pages_are_printed_one_a_line_up_to_a_failure(run, online):
    first = (
        b'{"accounts": [0], "\xe2\x80\xa8": 0,\r\n "has_next": true,\n "cursor": "1"}'
    )
    online.faults += [status(200, first), page(1), status(400, b"broken")]
    result = run(*call_to(online), "--paginate")
    *pages, last, _ = result.out.split("\n")
    assert "\u2028" in pages[0]
    assert [json.loads(line)["accounts"] for line in pages] == [[0], [1]]
    error = "cdp_jwt: error: HTTP 400: broken; to go on: cursor=2\n"
    assert (result.code, last, result.err) == (1, "broken", error)
    result = run(*call_to(online, "get"), "--paginate", "--param", "cursor=2")
    assert json.loads(result.out.splitlines()[0])["accounts"] == [2]


LACKING_PERMISSION = [  # with the permission that a key may lack
    *[("POST", ORDERS, code, "can_trade") for code in (401, 403)],
    ("POST", f"{ORDERS}/batch_cancel", 403, "can_trade"),
    *[("POST", f"/v2/{word}", 403, "can_transfer") for word in ("transactions", "move_funds", "transfer")],
    ("POST", "/echo", 401, ""), ("GET", ORDERS, 401, ""),
]  # fmt: skip


@pytest.mark.parametrize("refused_call", LACKING_PERMISSION)
def test_refused_call_names_a_permission_that_is_lacking(run, online, refused_call):
    """A view-only key that creates an order can get a bare 401."""
    method, path, code, lacking = refused_call
    for granted in ({lacking: False}, {lacking: True}, {}, b"no JSON"):
        online.routes["GET", cdp_jwt.PERMISSIONS] = (True, status(200, granted))
        online.faults.append(status(code, b"Unauthorized"))
        url = f"https://{online.host}{path}"
        error, *_, hint = run(method, url, "--call").err.splitlines()
        assert error == f"cdp_jwt: error: HTTP {code}: Unauthorized"
        expected = "`check` tests key, clock, network and permissions"
        if lacking and granted == {lacking: False}:
            expected = f"the key is valid, but may not do this: its {lacking} is false"
        assert hint == f"cdp_jwt: hint: {expected}"
    # They are asked for only if that can explain anything.
    assert len(online.seen) == (8 if lacking else 4)


# Decode


def test_decode_reports_a_good_token(run, with_key, frozen):
    token = run("GET", ACCOUNTS).out.strip()
    header, claims = (json.loads(part) for part in segments(token)[:2])
    result = run("decode", token)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        f"header   {json.dumps(header)}",
        f"claims   {json.dumps(claims)}",
        "nbf      2027-01-15 07:59:55+00:00, -5 s from now",
        "exp      2027-01-15 08:01:55+00:00, +114 s from now",
        f"signed   by {NAME}",
        "ok       no problem found, 114 s left",
    ]
    # Also a time that Windows and systems of 32 bits do not have, and one that is missing
    far = {**without(CLAIMS, "nbf"), "exp": NOW + 40_000_000_000}
    exp = "exp      3294-08-03 07:06:40+00:00, +39999999999 s from now"
    lines = run("decode", made(claims=far)).out.splitlines()
    assert [exp] == [line for line in lines if re.match("nbf|exp", line)]


def test_decode_reads_what_shells_and_the_command_write(piped, with_key, frozen):
    _, message, _ = piped("ws", "user")
    _, header, _ = piped("ws", "--header")
    line = header.decode().replace("\n", "\r\n")
    for octets in (message, header, line.encode("utf-8-sig"), line.encode("utf-16")):
        for words in (["decode"], ["decode", "-"]):
            code, out, err = piped(*words, stdin=octets)
            assert (code, err) == (0, "")
            assert out.endswith(b"\nok       no problem found, 114 s left\n")


def test_decode_finds_a_token_among_words_and_needs_no_key(run, frozen, monkeypatch):
    result = run("decode", "curl", "--", "-H", "Authorization:", "Bearer", made())
    assert (result.code, result.err) == (0, "")
    assert f"claims   {json.dumps(CLAIMS)}\n" in result.out
    assert f"signed   not verified: {NO_KEY}\n" in result.out
    monkeypatch.setenv("CDP_KEY_FILE", "no.json")
    reason = "no.json: cannot be read: No such file or directory"
    assert f"signed   not verified: {reason}\n" in run("decode", made()).out


def test_decode_waits_for_a_token_that_is_made_meanwhile(run, monkeypatch):
    """As by a program that takes a moment, and whose nbf is then the present second."""
    now = [NOW]

    def read(_) -> bytes:
        now[0] += 9
        return claiming(nbf=now[0], exp=now[0] + 120).encode()

    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(sys, "stdin", unittest.mock.Mock(**{"buffer.read": read}))
    result = run("decode")
    assert (result.code, "+0 s from now" in result.out) == (0, True)


NO_TOKENS = [  # standard input, then what is printed on the two streams
    (b"hello", b"problem  no JWT: 1 part, expected 3\n", ""),
    (b"www.coinbase.com", b"problem  no JWT: neither header nor claims set can be read\n", ""),
    (b"", b"", "cdp_jwt: error: the token is empty\n"),
    (b"\xff\x00", b"", "cdp_jwt: error: TOKEN: not text (UTF-8, or UTF-16 with its mark)\n"),
    (b"x" * 70_000, b"", "cdp_jwt: error: the token is over 64 KiB; give it alone\n"),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "out", "err"), NO_TOKENS)
def test_decode_of_what_is_no_jwt_ends_with_one_line(piped, with_key, octets, out, err):
    assert piped("decode", stdin=octets) == (1, out, err)


def test_decode_reads_no_more_than_a_token_may_have(run, with_key, monkeypatch):
    endless = unittest.mock.Mock(
        **{"buffer.read": lambda size=-1: b"x" * min(size, 99_999)}
    )
    monkeypatch.setattr(sys, "stdin", endless)
    error = "cdp_jwt: error: the token is over 64 KiB; give it alone\n"
    assert run("decode") == Result(1, "", error)


def test_decode_says_whether_the_key_at_hand_signed_a_token(run, with_key, frozen):
    def decoded(token: str, *words: str) -> list[str]:
        lines = run("decode", token, *words).out.splitlines()
        return [
            each for each in lines if re.match("signed|problem  (not|kid|the s)", each)
        ]

    for alg in ("ES256", "none", "HS256", "EdDSA"):
        assert decoded(made({**HEADER, "alg": alg})) == [
            f"problem  not signed by the key {NAME}"
        ]
    claims = {**CLAIMS, "iss": "not signed"}  # which decides nothing
    token = jwt.encode(claims, P256, "ES256", {"kid": NAME, "nonce": NONCE})
    assert decoded(token) == [f"signed   by {NAME}"]
    # Another one's key is not blamed, unless it is given for this.
    token = cdp_jwt.ApiKey(UUID, SEC1).ws_jwt()
    not_verified = f"signed   not verified: its kid is not {NAME}, the key at hand"
    assert decoded(token) == [not_verified]
    other_name = "problem  kid is not the name of the key at hand"
    assert other_name in decoded(token, "--key-file", str(with_key))


def test_decode_notes_what_the_key_is_doubted_for(run, with_key, frozen):
    write_private(with_key, {"id": "my-key", "privateKey": BARE_SEED})
    key = cdp_jwt.ApiKey("my-key", BARE_SEED)
    notes = [f"note     {warning}" for warning in key.warnings]
    result = run("decode", key.rest_jwt("GET", "/v2/user"))
    assert (result.code, result.err) == (0, "")
    signed, *lines, _ = result.out.splitlines()[4:]
    assert (signed, lines, len(lines)) == ("signed   by my-key", notes, 2)


def test_decode_ends_well_with_what_another_client_writes(run, frozen):
    result = run("decode", claiming(iss="coinbase-cloud"))
    assert (result.code, f"note     {FORMER}\n" in result.out) == (0, True)


def test_decode_shows_no_private_key(run, stdin):
    """A key file, a JWK and a PEM; or a secret that was taken for the key's name."""
    message = "this is a private key, not a token; it is not shown"
    refusal = Result(1, "", f"cdp_jwt: error: {message}\n")
    key_file = json.dumps({"id": NAME, "privateKey": PORTAL})
    jwk = json.dumps({"kty": "EC", "d": "x" * 43})
    behind = made(claims={"kty": "EC", "d": "x" * 43})
    for text in (code_of(key_file), code_of(jwk), behind, key_file, SEC1):
        stdin(text)
        assert run("decode") == run("decode", "--", text) == refusal
    hidden = "(looks like a key, and is not shown)"
    for secret in (SEC1, PORTAL):
        places = [named(secret), claiming(x=[{"y": secret}]), claiming(x={secret: 1})]
        places.append(claiming(x=f"{'a b ' * 2100}{secret}"))
        places += [made({**HEADER, name: secret}) for name in ("alg", "typ")]
        places += [claiming(**{name: [secret]}) for name in ("iss", "aud", "nbf")]
        for token in places:
            result = run("decode", token)
            assert hidden in result.out
            assert not leaks(result.out + result.err, secret)


# Check


def steps(result: Result) -> list[str]:
    """The report, with X for by how much clocks differ."""
    return re.sub(r"[+-][\d.]+(?= s from)", "X", result.out).splitlines()


def complaints(result: Result) -> list[str]:
    """The steps that are not ok, and the conclusion."""
    return [line for line in steps(result) if not line.startswith("ok")]


def test_check_finds_a_healthy_set_up_healthy(run, online, with_key, ca_file):
    online.permissions["portfolio_type"] = "D" * 999
    result = run("check", "--host", online.host)
    versions, *lines = steps(result)
    assert re.match(r"ok    Python \d.*, cryptography \d.*, OpenSSL \d", versions)
    localhost = lines.pop(3)
    assert re.match(r"ok    localhost is (127.0.0.1|::1)", localhost)
    mode = " (mode 600)" if os.name == "posix" else ""
    assert lines == [
        f"ok    key {NAME} from {with_key}{mode}: ECDSA P-256 (ES256)",
        "ok    it signs and verifies",
        f"ok    proxy: none; CAs: {ca_file}",
        f"ok    {online.host} answers over TLS: HTTP 200",
        "ok    clock: X s from the server's",
        f"ok    the key is accepted; it may: can_view, can_trade ({'D' * 300})",
        "All is well.",
    ]
    assert (result.code, result.err) == (0, "")
    assert online.refusals == []
    assert {seen.method for seen in online.seen} == {"GET"}
    assert "note: HTTP 200, " in run("check", "--host", online.host, "--verbose").err


def test_check_offline_opens_nothing(run, monkeypatch):
    for variable, value in ADVANCED.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(socket, "socket", None)
    _, *lines = run("check", "--offline").out.splitlines()
    source = "COINBASE_API_KEY and COINBASE_API_SECRET"
    key = f"ok    key {NAME} from {source}: ECDSA P-256 (ES256)"
    assert lines == [key, "ok    it signs and verifies", "All is well."]
    monkeypatch.setattr(time, "time", lambda: 2e11)  # a clock in the year 8307
    problem = "fail  nbf is 199999999995; expected an integer: epoch seconds"
    assert complaints(run("check", "--offline"))[0].startswith(problem)


CLOCK = "clock: X s from the server's"
CLOCKS_AHEAD = {-8: "fail", -3: "ok", 20: "ok", 40: "warn", 112: "warn", 118: "fail"}


@pytest.mark.parametrize("ahead", CLOCKS_AHEAD)
def test_check_names_a_clock_that_does_harm(run, online, ahead):
    online.clock_ahead, state = ahead, CLOCKS_AHEAD[ahead]
    result = run("check", "--host", online.host)
    *lines, last = steps(result)
    step = f"{CLOCK}; set this machine's clock" if state == "fail" else CLOCK
    assert f"{state:5} {step}" in lines
    assert last == ("All is well." if state == "ok" else f"First: {step}")
    # What a call warns of is a step, too.
    assert any("this clock is X" in line for line in lines) == (state == "fail")
    assert (result.code, result.err) == (1 if state == "fail" else 0, "")


def test_check_compares_the_clock_in_the_middle_of_a_slow_call(
    run, online, monkeypatch
):
    original, passed = time.time, [0]
    monkeypatch.setattr(time, "time", lambda: original() + passed[0])

    def answer_late(handler: Handler) -> None:
        passed[0] = 9
        millis = str(int(online.now() * 1000))
        passed[0] = 18
        handler.answer(200, {"epochMillis": millis})

    online.routes["GET", TIME] = (False, answer_late)
    assert complaints(run("check", "--host", online.host)) == ["All is well."]


@pytest.mark.parametrize("ahead", [-5.1, -4.9, 114.9, 115.1])
def test_check_fails_a_clock_with_which_no_token_is_valid(fake, run, with_key, ahead):
    millis = str(int((NOW + 0.9 + ahead) * 1000))
    fake.answers = iter([{"epochMillis": millis}, {"can_view": True}])
    last = steps(run("check", "--host", "localhost"))[-1]
    assert ("set this machine's clock" in last) == (not -5 < ahead < 115)


NO_DATE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
MAY_NOTHING = "warn  the key is accepted; it may: nothing (?)"
WRONG_ANSWERS = [
    (cdp_jwt.PERMISSIONS, status(503, b"later"), "fail  permissions: HTTP 503: later"),
    (cdp_jwt.PERMISSIONS, status(403, b"no"), f"fail  permissions: HTTP 403: no; {POSSIBLE}"),
    (cdp_jwt.PERMISSIONS, status(200, []), MAY_NOTHING),
    (cdp_jwt.PERMISSIONS, status(200, {"can_view": False}), MAY_NOTHING),
    (TIME, status(404), "warn  HOST answers over TLS: HTTP 404"),
    (TIME, lambda handler: handler.wfile.write(NO_DATE), "warn  clock: the server's answer has no date"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "respond", "complaint"), WRONG_ANSWERS)
def test_check_names_a_wrong_answer(run, online, waits, path, respond, complaint):
    online.routes["GET", path] = (False, respond)
    result = run("check", "--host", online.host)
    complaint = complaint.replace("HOST", online.host)
    assert complaints(result) == [complaint, f"First: {complaint[6:]}"]
    assert online.seen[-1].path == cdp_jwt.PERMISSIONS
    # Without a time in its body the Date is taken.
    assert (f"ok    {CLOCK}" in steps(result)) == ("no date" not in complaint)


def test_check_goes_on_without_a_key_to_the_clock(run, with_key, online):
    write_private(with_key, {"id": NAME, "privateKey": public_pem(P256)})
    assert f"ok    {CLOCK}" in steps(run("check", "--host", online.host))
    assert [seen.token for seen in online.seen] == [None]


def test_check_names_the_first_cause_last(run, with_key, nowhere):
    write_private(with_key, {"id": NAME, "privateKey": public_pem(P256)})
    result = run("check", "--host", "no.example")
    key, network, last = complaints(result)
    assert key.startswith(f"fail  key: {with_key}: this is a public key; ")
    unknown = "its name was not found; check host, DNS and HTTPS_PROXY"
    assert network == f"fail  network: no.example: {unknown}"
    assert (result.code, last) == (1, f"First: {key[6:]}")


@needs_modes
def test_check_names_what_was_mended_and_what_is_doubted(run, with_key, monkeypatch):
    secret = BARE_SEED.replace("=", "%3D")
    write_private(with_key, {"id": "my-key", "privateKey": secret}).chmod(0o620)
    key = cdp_jwt.ApiKey("my-key", secret)
    place = f"~/{with_key.name}"
    monkeypatch.setenv("HOME", str(with_key.parent))
    monkeypatch.setenv("CDP_KEY_FILE", place)
    result = run("check", "--offline")
    loose = f"{place}: group or others can change this key; chmod 600 it"
    warnings = [f"warn  {warning}" for warning in (loose, *key.warnings)]
    assert (result.code, complaints(result)) == (0, [*warnings, f"First: {loose}"])
    assert f"ok    mended, {key.repairs[0]}\n" in result.out
    assert f" my-key from {place} (mode 620): Ed25519 (EdDSA)\n" in result.out
    content = {"id": "my-key", "privateKey": LEGACY_SECRET}
    write_private(with_key, content).chmod(0o620)
    warning, error, _ = complaints(run("check", "--offline"))
    assert (warning, error[:11]) == (warnings[0], "fail  key: ")


@needs_cpython
def test_check_names_what_the_environment_changes(run, online, ca_file, monkeypatch):
    for variable in ("SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.setenv(variable, "/missing/x")
    result = run("check", "--host", online.host)
    assert f"ok    proxy: none; CAs: {ca_file} and /missing/x\n" in result.out
    reason = "No such file or directory; check SSLKEYLOGFILE and SSL_CERT_FILE"
    fail = f"network: TLS cannot be set up: {reason}"
    assert complaints(result) == [
        "warn  SSL_CERT_DIR does not exist: /missing/x",
        "warn  SSLKEYLOGFILE is set: its readers can read what is sent; unset it",
        f"fail  {fail}",
        f"First: {fail}",
    ]
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for exempt in ("localhost", online.host):
        monkeypatch.setenv("NO_PROXY", exempt)
        report = run("check", "--host", online.host).out
        assert "ok    proxy: none; " in report
        assert "ok    localhost is " in report


def test_check_masks_the_proxys_password(run, with_key, monkeypatch, waits):
    passwords = ("s3cret", "p@s3cret", "p/s3cret")
    for scheme, password in itertools.product(("http://", ""), passwords):
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}me:{password}@127.0.0.1:1")
        result = run("check", "--host", "localhost")
        assert f"ok    proxy: {scheme}***@127.0.0.1:1; CAs: the system\n" in result.out
        assert "s3cret" not in result.out + result.err
        assert result.code == 1
        assert "localhost is" not in result.out  # that is the proxy's matter


# How it ends: interrupted, its output lost, its streams closed

CTRL_C = (KeyboardInterrupt, 130)
FULL = (OSError(errno.ENOSPC, "No space left on device"), 1)
LOST = "standard output cannot be written: No space left on device"
DONE = "; the call was carried out"
INTERRUPTED = f"interrupted; {cdp_jwt.UNKNOWN_OUTCOME}"
OUTPUT = cdp_jwt._Console
STOPS = [  # the command, what fails, how and with which code, and the message
    (["ws"], time, "time", *CTRL_C, "interrupted"),
    (["POST", "/echo", "--call"], socket, "create_connection", *CTRL_C, "interrupted"),
    (["GET", "/echo", "--call"], ssl.SSLSocket, "sendall", *CTRL_C, "interrupted"),
    (["DELETE", "/echo", "--call"], ssl.SSLSocket, "sendall", *CTRL_C, INTERRUPTED),
    (["POST", "/echo", "--call"], OUTPUT, "write", *CTRL_C, f"interrupted{DONE}"),
    (["GET", "/echo", "--call"], OUTPUT, "write", *FULL, LOST),
    (["POST", "/echo", "--call"], OUTPUT, "write", *FULL, f"{LOST}{DONE}"),
]


@pytest.mark.parametrize("stop", STOPS)
def test_ctrl_c_and_lost_output_say_what_became_of_a_call(
    run, online, monkeypatch, stop
):
    """From the first octet on, and of what changes something."""
    words, owner, name, error, code, message = stop
    options = ["--host", online.host] if "--call" in words else []
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, unittest.mock.Mock(side_effect=error))
        result = run(*words, *options)
    assert result == Result(code, "", f"cdp_jwt: error: {message}\n")


def test_windows_has_neither_modes_nor_sigpipe_and_nul(run, with_key, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with_key.chmod(0o666)
    report = run("check", "--offline").out
    assert f"from {with_key}: ECDSA" in report
    assert "warn" not in report
    # NUL says that it is a terminal, but has no size.
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("GET", ACCOUNTS).err == ""
    # A pipe that nobody reads, and a disk that is full
    closed_pipe = OSError(errno.EINVAL, "Invalid argument")
    lost = Result(1, "", f"cdp_jwt: error: {LOST}\n")
    for error, result in (closed_pipe, Result(141, "", "")), (FULL[0], lost):
        write_line = unittest.mock.Mock(side_effect=error)
        monkeypatch.setattr(cdp_jwt._Console, "write_line", write_line)
        assert run("ws") == result


@needs_shell
def test_process_ends_quietly_when_its_pipe_is_closed(key_file):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, MODULE, "ws", "--key-file", key_file]
    result = process(command, stdout=writing, env=MEASURED)
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


def test_streams_that_are_closed_get_nothing(run, online, with_key, monkeypatch):
    with_key.chmod(0o644)  # which is warned of
    full = unittest.mock.Mock(**{"write.side_effect": FULL[0], "encoding": "utf-8"})
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        assert run(*call_to(online, path=TIME), "--verbose").code == 0
    del online.seen[:]
    online.faults += [status(400, b"refused")] * 2
    (closed := io.StringIO()).close()
    for stream in (None, closed):  # Python itself has None in their place
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            assert run(*call_to(online)) == Result(1, "refused", "")
            patch.undo()
            patch.setattr(sys, "stdout", stream)
            error = "cdp_jwt: error: standard output is closed\n"
            assert run(*call_to(online)) == Result(1, "", error)
    assert len(online.seen) == 2


# At random: whatever is given or answered, it ends with a code, moves no terminal, and
# shows no key.

ANY_TOKEN = mutations(TOKENS) | st.builds(
    made,
    st.dictionaries(st.sampled_from([*HEADER, "\x1b"]), JSON_VALUES).map(HEADER.__or__),
    st.dictionaries(st.sampled_from([*CLAIMS, "\x9b"]), JSON_VALUES).map(CLAIMS.__or__),
)
WORDS = [*cdp_jwt.METHODS, "ws", "check", "decode", "/x", ACCOUNTS, "-", "--", "@-", "@/", "{}", "user",
         "https://a.example/x", "+5", "0.1", "\x1b[2J", "\udcff", SEC1, PORTAL, NAME, made(), *cdp_jwt.NAMED]  # fmt: skip


@examples(100)
@given(
    words=st.just(["decode"])
    | st.lists(st.sampled_from(WORDS) | st.text(max_size=9), max_size=6),
    text=st.sampled_from(["", "{}", "\udcff", SEC1, PORTAL]) | ANY_TOKEN,
)
def test_any_command_ends_and_shows_no_key(piped, nowhere, with_key, words, text):
    octets = text.encode("utf-8", "surrogateescape")
    code, out, err = piped(*words, stdin=octets)
    assert code in (0, 1, 2)
    assert printable(out.decode() + err)
    assert not leaks(out.decode() + err, SEC1)
    assert code != 2 or out == b""


# ------------------------------------------------------- the file, copied and imported
#
# The file works under any name, in any package and from a zip file. Neither its import
# nor a token opens, writes or changes anything, whatever surrounds it.

# Does two things, and says on standard error what it sees of Python's audit events, of
# variables that are read, and of changes while it does the second.
WATCHER = """
import os, sys, warnings
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
ec.derive_private_key(1, ec.SECP256R1())  # up to 41 this imports socket

place, preparation, deed, *sys.argv = sys.argv[1:]
sys.dont_write_bytecode = True
sys.path.insert(0, place)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
HEAVY = {"argparse", "http.client", "logging", "socket", "ssl", "urllib.request"}
OWN = {"cryptography", "_cffi_backend", "cffi", "six"}  # that last up to 42
seen, is_watching = set(), False

class Watched(type(os.environ)):
    def __getitem__(self, name):
        seen.add(f"reads the variable {name}")
        return super().__getitem__(name)
    def __iter__(self):
        seen.add("reads all variables")
        return super().__iter__()

def opening(path, mode, flags):
    if set("wax+") & set(mode) if mode else flags & WRITING:
        return f"writes {path}"
    is_import = str(path).endswith((".py", ".pyc", ".so", ".zip"))
    return "import" if is_import else f"reads {path}"

def watch(event, arguments):
    if is_watching:
        seen.add(opening(*arguments) if event == "open" else event)

def state():
    return {
        "filters": list(warnings.filters),
        "hooks": (sys.excepthook, sys.displayhook, sys.stdout, sys.stderr),
        "path": list(sys.path),
    }

exec(preparation)
modules, before = set(sys.modules), state()
sys.addaudithook(watch)
variables, os.environ.__class__ = os.environ.__class__, Watched
is_watching = True
exec(deed)
is_watching, os.environ.__class__ = False, variables
seen |= {f"changes {name}" for name, value in state().items() if value != before[name]}
for name in set(sys.modules) - modules:
    is_installed = "-packages" in str(getattr(sys.modules[name], "__file__", ""))
    if name in HEAVY | {"cdp_jwt"}:  # which the copy is not called
        seen.add(f"imports {name}")
    if is_installed and name.partition(".")[0] not in OWN:
        seen.add(f"needs {name}")
print(*seen, sep="\\n", file=sys.stderr)
"""
# What Python itself does to run a deed and to import a file.
PYTHONS_OWN = {
    "compile", "exec", "import", "marshal.loads", "object.__getattr__",
    "object.__setattr__", "os.listdir", "os.scandir", "sys._getframe",
    "sys._getframemodulename",
}  # fmt: skip
MAKE_TOKENS = """
key = signer.ApiKey(*sys.argv)
print(key.rest_jwt("GET", "/x"), key.ws_jwt(), signer.build_ws_jwt(*sys.argv))
"""


def watched(place, deed, *words, before="import signer", flags=(), **options):
    """What a deed with the module in `place` prints, and what it does besides."""
    program = [sys.executable, *flags, "-c", WATCHER]
    result = process([*program, place, before, deed, *words], **options)
    assert result.returncode == 0, result.stderr
    return result.stdout, set(result.stderr.splitlines()) - PYTHONS_OWN


@needs_cpython
def test_watcher_sees_what_must_not_be(tmp_path):
    forbidden = {
        "import socket; socket.socket()": "socket.__new__",
        "import subprocess; subprocess.run([sys.executable, '-V'])": "subprocess.Popen",
        "open('new', 'w').close()": "writes new",
        "os.close(os.open('other', os.O_CREAT))": "writes other",
        "open('new').close()": "reads new",
        "os.environ.get('CDP_KEY_FILE')": "reads the variable CDP_KEY_FILE",
        "dict(os.environ)": "reads all variables",
        "warnings.simplefilter('error')": "changes filters",
        "import argparse": "imports argparse",
        "import trustme": "needs trustme",
    }
    _, seen = watched(tmp_path, "\n".join(forbidden), before="", cwd=tmp_path)
    assert set(forbidden.values()) - seen == set()


@needs_cpython
def test_import_and_tokens_open_read_and_change_nothing_and_import_no_network(copied):
    deed = f"import signer\n{MAKE_TOKENS}"
    tokens, seen = watched(copied.parent, deed, NAME, SEC1, before="")
    assert seen == set()
    for token in tokens.split():
        assert verified(token, P256)["sub"] == NAME


@needs_cpython
def test_commands_write_no_file_and_need_nothing_but_cryptography_and_python(
    copied, coinbase, key_file, ca_file
):
    commands = [
        f"GET {ACCOUNTS} --call --paginate --host {coinbase.host}",
        f"check --host {coinbase.host}",
        f"decode {key_of().ws_jwt()}",
        "ws user BTC-USD",
    ]
    deed = "print([signer.main(command.split()) for command in sys.argv])"
    environ = {"CDP_KEY_FILE": str(key_file), "SSL_CERT_FILE": ca_file}
    printed, seen = watched(copied.parent, deed, *commands, env=environ)
    assert printed.endswith("[0, 0, 0, 0]\n")
    assert [each for each in seen if each.startswith(("needs ", "writes "))] == []


SURROUNDINGS = {  # flags of Python, variables
    "a HOME that is not there": ([], {"HOME": "/nonexistent", "TZ": "Asia/Kathmandu"}),
    "isolated, optimized, warnings are errors": (["-I", "-O", "-W", "error"], {}),
    "C locale, not coerced to UTF-8": ([], {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "a package in a zip file": ([], {}),
}  # fmt: skip


@needs_cpython
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_command_makes_a_token_offline_and_writes_nothing_in(
    copied, key_file, surroundings
):
    """The names of folder and key file have spaces, and letters that ASCII lacks."""
    flags, environ = SURROUNDINGS[surroundings]
    place, before = copied.parent, "import signer"
    if "zip" in surroundings:
        place, before = copied.with_name("modules.zip"), "from vendored import signer"
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("vendored/__init__.py", "")
            archive.write(copied, "vendored/signer.py")
        copied.unlink()
    key = shutil.copy(key_file, copied.with_name("ключ.json"))
    words = ["signer.py", "GET", f"{ACCOUNTS}?limit=1", "--key-file", key]
    options = {"before": before, "flags": flags, "env": environ}
    token, seen = watched(place, "signer.main()", *words, **options)
    [reading] = seen - {"reads the variable CDP_KEY_FILE"}
    assert re.fullmatch(r"reads .*\.json", reading)
    assert verified(token.strip(), P256)["uri"] == URI


def test_copied_file_has_its_own_name_in_usage_and_errors(copied):
    result = process([sys.executable, copied])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: python signer.py METHOD PATH ")
    assert result.stderr.endswith("\nsigner: error: a command is missing\n")


@needs_modes
def test_warnings_go_to_a_logger_with_the_name_of_the_import(copied, key_file):
    key_file.chmod(0o644)
    program = (
        "import logging, sys, signer; logging.basicConfig(format='%(name)s')\n"
        "signer.ApiKey.from_file(sys.argv[1])"
    )
    ran = process([sys.executable, "-c", program, key_file], cwd=copied.parent)
    assert (ran.returncode, ran.stderr) == (0, "signer\n")


LACKS = {
    "import of cryptography halted; None in sys.modules": "sys.modules['cryptography'] = None",
    "module 'cryptography' has no attribute '__version__'": "del cryptography.__version__",
    "found 3.3.2": "cryptography.__version__ = '3.3.2'",
}  # fmt: skip
WITHOUT = """
import sys, cryptography
path, lack, *sys.argv = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    code = compile(file.read(), path, "exec")
exec(lack)
try:
    exec(code, {"__name__": "vendored"})
except ImportError as error:
    print(error)
exec(code, {"__name__": "__main__"})
"""


@pytest.mark.parametrize("found", LACKS)
def test_file_that_lacks_cryptography_says_how_to_install_it(found):
    """As an ImportError if imported, in one line if run."""
    words = [MODULE, LACKS[found], "signer.py", "--help"]
    result = process([sys.executable, "-c", WITHOUT, *words], env=MEASURED)
    assert result.returncode == 1
    assert result.stdout == (
        f"cryptography >= 3.4.8 is needed ({found}); pip install cryptography,"
        " apt install python3-cryptography or dnf install python3-cryptography\n"
    )
    assert result.stderr == f"signer: error: {result.stdout}"


# ---------------------------------------------------------- the project as a whole
#
# What several files of the project say is the same in all of them.


def source() -> str:
    return MODULE.read_text(encoding="utf-8")


def project() -> str:
    return (HERE / "pyproject.toml").read_text(encoding="utf-8")


def readme() -> str:
    return (HERE / "README.md").read_text(encoding="utf-8")


def test_public_names_are_listed_and_documented():
    assert sorted(cdp_jwt.__all__) == list(cdp_jwt.__all__)
    for name in cdp_jwt.__all__:
        assert getattr(cdp_jwt, name).__doc__, name


def test_least_versions_are_the_same_everywhere():
    """In the block of PEP 723, which `uv run` goes by, and wherever they are told."""
    python = re.search(r'^requires-python = ">=([\d.]+)"', project(), re.MULTILINE)[1]
    least = re.search(r'"cryptography>=([\d.]+)"', project())[1]
    block = re.search(
        r"^# /// script\n(.*?)^# ///$", source(), re.DOTALL | re.MULTILINE
    )
    assert block[1] == (
        f'# requires-python = ">={python}"\n# dependencies = ["cryptography>={least}"]\n'
    )
    assert f"Python >= {python} and `cryptography`" in cdp_jwt.__doc__
    told = f"Python ≥ {python} and `cryptography` ≥ {least}"
    assert told in " ".join(readme().split())
    assert f"cryptography >= {least} is needed" in source()
    assert f'target-version = "py{python.replace(".", "")}"' in project()
    assert f'pythonVersion = "{python}"' in project()
    assert f"crypto{least}" in project()


def test_options_in_the_documents_are_those_of_the_help(run):
    section = readme().partition("\n## On the command line\n")[2].partition("\n## ")[0]
    option = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
    assert {*option.findall(section)} <= {*option.findall(run("--help").out)}


def test_commands_in_docstring_and_help_work_as_they_stand(run, by_name):
    """Those of the README are run in its own section, below."""
    text = f"{cdp_jwt.__doc__}\n{run('--help').out}"
    commands = re.findall(r"python \S+ ((?:GET|check).*)", text)
    assert len(commands) == 4
    for command in commands:
        assert run(*shlex.split(command, comments=True)).code == 0, command


# ------------------------------------------ README: what it shows, run as it stands
#
# Each block is run as a script in a fresh folder, beside a copy of the file, against the
# strict server. Each row of a table, each name and each number in the text is tried.


@dataclasses.dataclass
class Block:
    language: str
    text: str

    @property
    def script(self) -> str:
        """What is typed in a console; all of anything else."""
        typed = re.findall(r"^[$>] (.*\n)", self.text, re.MULTILINE)
        return "".join(typed) if self.language == "console" else self.text


def readme_blocks() -> dict[tuple[str, int], Block]:
    """The README's blocks, by heading and number below it."""
    found: dict[tuple[str, int], Block] = {}
    parts = re.split(r"^```(\w*)\n(.*?)^```$", readme(), flags=re.MULTILINE | re.DOTALL)
    heading, number = "", 0
    for text, language, content in zip(parts[::3], parts[1::3], parts[2::3]):
        for line in re.findall(r"^#+ (.+)", text, re.MULTILINE):
            heading, number = line, 0
        found[heading, number] = Block(language, content)
        number += 1
    return found


def recipe(heading: str) -> str:
    return readme_blocks()[heading, 0].text


def rows_of(table: str) -> list[list[str]]:
    """The rows of the table of the README whose first cell is this one."""
    header = rf"^\| {re.escape(table)} \|.*\n\|.*\n"
    [text] = re.findall(rf"{header}((?:\|.*\n)+)", readme(), re.MULTILINE)
    return [re.split(r"\s*(?<!\\)\|\s*", line)[1:-1] for line in text.splitlines()]


def code_in(text: str) -> list[str]:
    return re.findall("`([^`]+)`", text.replace(r"\|", "|"))


def prose() -> str:
    """The text alone: no blocks, no tables, no lines broken."""
    text = re.sub(r"(?ms)^```.*?^```$|^\|.*?$", "", readme())
    return " ".join(text.split())


class Reader:
    """Follows the README to the letter, in a fresh folder with the file and a key."""

    def __init__(self, folder: pathlib.Path, environ: dict[str, str]) -> None:
        self.folder, self.environ = folder, environ

    def need(self, *tools: str) -> None:
        for tool in tools:
            if not shutil.which(tool, path=self.environ["PATH"]):
                pytest.skip(f"{tool} is not installed here")

    def run(self, *words: object, **environ: str) -> subprocess.CompletedProcess:
        return process([*words], env={**self.environ, **environ}, cwd=self.folder)

    def sh(self, script: str, **environ: str) -> str:
        """What the commands of a script print; none may fail or complain."""
        result = self.run("sh", "-ec", script, **environ)
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout


TOOLS = {  # what is not there, or is slow: pip is lent by uv, and installs from files
    "python": 'exec "{sys.executable}" "$@"',
    "python3": '[ "$1 $2" = "-m venv" ] && set -- "$@" --without-pip\nexec python "$@"',
    "pip": 'exec uv --quiet pip "$@" --python "${{VIRTUAL_ENV:-{sys.prefix}}}"',
    **dict.fromkeys(("pass", "op", "aws"), 'cat "{folder}/cdp_api_key.json"'),
}


@pytest.fixture
def reader(by_name, ca_file, key_file, tmp_path) -> Reader:
    """Its tools reach a server in the place of api.coinbase.com, and nothing else."""
    if not shutil.which("sh"):
        pytest.skip("needs a POSIX shell")
    folder, programs = tmp_path / "fresh", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name, script in TOOLS.items():
        program = programs / name
        program.write_text(f"#!/bin/sh\n{script.format(sys=sys, folder=folder)}\n")
        program.chmod(0o755)
    shutil.copy(MODULE, folder / "cdp_jwt.py")
    shutil.copy(key_file, folder / "cdp_api_key.json")
    (folder / "order.json").write_text('{"client_order_id": "1"}')
    places = [str(programs), os.path.dirname(sys.executable), os.environ["PATH"]]
    certificates = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
    environ = {
        "PATH": os.pathsep.join(places),
        "HOME": str(folder),
        "CDP_KEY_FILE": "cdp_api_key.json",
        "HTTPS_PROXY": os.environ["HTTPS_PROXY"],
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict.fromkeys(certificates, ca_file),
    }
    return Reader(folder, environ)


def served(server: Coinbase) -> list[str]:
    """The requests that the server got, all with good tokens, no two with the same."""
    assert server.refusals == []
    tokens = [seen.token for seen in server.seen if seen.token]
    assert len(set(tokens)) == len(tokens)
    return [f"{seen.method} {seen.path}" for seen in server.seen]


@pytest.fixture
def here(by_name, with_key, monkeypatch) -> Callable[[str], dict]:
    """Runs a program of the README in this process; returns its names."""
    monkeypatch.chdir(with_key.parent)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.environ["SSL_CERT_FILE"])

    def run(program: str) -> dict:
        names = {"__name__": "recipe"}
        exec(program, names)
        return names

    return run


def test_readmes_contents_are_its_sections_and_its_links_stand_at_its_end():
    contents = re.findall(r"\[([^]]+)\]\(#(.*?)\)", readme().partition("\n## ")[0])
    sections = re.findall(r"^## (.+)", readme(), re.MULTILINE)
    assert contents == [(each, each.lower().replace(" ", "-")) for each in sections]
    targets = re.findall(r"^\[(.+)\]: https://\S+$", readme(), re.MULTILINE)
    assert re.findall(r"\[([A-Z][^]]+)\][.,]", readme()) == targets


# Its blocks, names and numbers

TOKEN_PRINTED = r"ey[\w-]+\.ey[\w-]+\.[\w-]{86}\n"
PAGE = r'\{"accounts": \[\d\].*\}'
PRINTED = {  # what is said behind a command -> what it prints
    "prints a token": TOKEN_PRINTED,
    "makes the call": PAGE,
    "the token, alone": TOKEN_PRINTED,
    "sent by curl": PAGE,
    "sends it, prints the answer": PAGE,
    "all pages, each in one line": f"({PAGE}\n){{3}}",
    "needs no key": r'\{"epochMillis": "\d+"\}',
    "a WebSocket token": TOKEN_PRINTED,
    "a whole subscribe message": r'\{"type": "subscribe", "channel": "ticker".*"jwt": .*\}\n',
    "is all well?": r"(.*\n)+All is well\.\n",
}  # fmt: skip
PAGES = [f"GET {ACCOUNTS}", f"GET {ACCOUNTS}?cursor=1", f"GET {ACCOUNTS}?cursor=2"]
GET_TIME = f"GET {TIME}"
CHECKED = [GET_TIME, "GET /api/v3/brokerage/key_permissions"]
SENT = {  # by a block; by any other, nothing
    ("cdp_jwt", 0): PAGES[:1],
    ("cdp_jwt", 1): PAGES[:1],
    ("On the command line", 0): [*PAGES[:1] * 2, *PAGES, f"POST {ORDERS}", GET_TIME, *CHECKED],
    ("In a program", 0): [
        f"GET {ACCOUNTS}?limit=50", f"POST {ORDERS}",
        *(f"GET {ORDERS}/historical/fills{page}" for page in ("", "?cursor=1", "?cursor=2")),
    ],
}  # fmt: skip
BESPOKE = [  # blocks that are no script, or none that succeeds: each has its own test
    ("cdp_jwt", 2), ("When a token is refused", 0), ("A small bot", 0),
    ("cron, systemd, GitHub Actions and containers", 0),
    ("Restricted machines", 0), ("Restricted machines", 1),
]  # fmt: skip
SCRIPTS = [place for place in readme_blocks() if place not in BESPOKE]


@pytest.mark.parametrize("place", SCRIPTS, ids=str)
def test_readmes_block_runs(reader, by_name, request, place):
    block = readme_blocks()[place]
    reader.need(*re.findall(r"\bcurl\b", block.script))
    if "pip " in block.script:
        reader.need("uv")
        reader.environ.update(request.getfixturevalue("wheels"))
    if "export CDP_KEY_FILE=" in block.script:
        del reader.environ["CDP_KEY_FILE"]
    if block.language == "python":
        for module in re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE):
            pytest.importorskip(module)
        (reader.folder / "recipe.py").write_text(block.text)
        reader.sh("python recipe.py")
    else:
        run_console(reader, block.script)
    assert served(by_name) == SENT.get(place, [])


def run_console(reader: Reader, script: str) -> None:
    """Run each line; compare what it prints with what is said behind it."""
    lines = script.replace("\\\n", "").splitlines()
    printed = reader.sh("".join(f"{line}\nprintf '\\0'\n" for line in lines))
    for line, output in zip(lines, printed.split("\0")):
        _, is_told, what = line.partition(" # ")
        if is_told:
            assert re.fullmatch(PRINTED[what.strip()], output), line


def test_readmes_refusals_are_what_the_commands_say(reader, by_name):
    claims = {"sub": NAME, "iss": "cdp", "nbf": NOW * 1000, "exp": NOW}
    headers = {"kid": NAME, "nonce": "1"}
    unsigned = jwt.encode(claims, P256, "ES256", headers).rpartition(".")[0]
    der = utils.encode_dss_signature(1 << 255, 1 << 255)
    token = f"{unsigned}.{base64.urlsafe_b64encode(der).decode().rstrip('=')}"
    by_name.permissions["can_trade"] = False
    by_name.faults.append(status(401, b"Unauthorized"))
    text = recipe("When a token is refused")
    sessions = re.findall(r"^\$ (.*)\n((?:[^$].*\n)+)", text, re.MULTILINE)
    assert len(sessions) == 3
    for typed, told in sessions:
        by_name.clock_ahead = -47.312 if " check" in typed else 0
        result = reader.run("sh", "-c", typed.replace("eyJhbGciOi...", token))
        assert result.returncode == 1
        pattern = re.escape(told).replace(r"\.\.\.", "(?:.|\n)*").replace("312", r"\d+")
        assert re.search(pattern, result.stdout + result.stderr), result


def test_variables_in_the_readme_are_those_of_the_module():
    text = re.sub(r"(?ms)^```.*?^```$", "", readme())
    named = {*re.findall(r"`(?:[^`]*[ $:])?([A-Z]{2,}_[A-Z_]+)\b", text)}
    assert len(named) >= 9
    assert {name for name in named if name not in source()} == {"PIP_CERT"}


def test_names_in_the_readme_are_those_of_the_module():
    client, key = cdp_jwt.Client(), key_of()
    answer = cdp_jwt.Response(200, email.message.Message(), b"")
    inspection = cdp_jwt.inspect_jwt(key.ws_jwt())
    owners = (cdp_jwt, key, client, answer, cdp_jwt.ApiError(""), inspection)
    known = {name for owner in owners for name in dir(owner)}
    pattern = r"(?:\b(?:cdp_jwt|ApiKey|key|[cC]lient)|(?<!\S))\.([a-z_]+)\b"
    for code in code_in(prose()):
        assert {*re.findall(pattern, code)} - {"env", "py"} <= known, code
    methods = code_in(re.search("`get`.*? return an answer", prose())[0])
    assert {*methods} <= {*dir(client)}
    defaults = inspect.signature(cdp_jwt.Client.__init__).parameters
    for name, value in re.findall(r"`(\w+)=(\d+)`", prose()):
        assert defaults[name].default == int(value), name


def test_errors_in_the_readme_are_those_of_the_module():
    for kind, base, when in rows_of("error"):
        error = getattr(cdp_jwt, kind.strip("`"))("")
        assert isinstance(error, cdp_jwt.CdpError)
        bases = {each.__name__ for each in type(error).__mro__}
        assert {*code_in(base)} <= bases
        for name in code_in(when):
            assert hasattr(error, name), name


def test_exit_codes_are_those_of_the_readme(run):
    """Those of an interruption and of a pipe are tried in the command's section."""
    text = prose().partition("Exit codes: ")[2].partition(". ")[0]
    told = dict(reversed(each.split(", ", 1)) for each in text.split("; "))
    found = {
        "it worked": run("--version").code,
        "it failed, or `decode` or `check` found a problem": run("decode", "x.y").code,
        "it was called wrongly, and nothing was done": run("GET", "/x", "--frob").code,
        "Ctrl-C": 130,
        "the reader of a pipe closed it": 141,
    }
    assert {what: int(code) for what, code in told.items()} == found


def test_private_key_is_where_the_readme_says():
    lines = source().splitlines()
    found = [number for number, line in enumerate(lines, 1) if "private_key" in line]
    heads = [number for number, line in enumerate(lines, 1) if line[:7] == "# -----"]
    assert heads[2] < found[0] <= found[-1] < heads[5]  # sections 3 and 6
    told = f"shows lines {found[0]} to {found[-1]}, all of them in sections 3 to 5 of {len(heads)}"
    assert told in prose(), f"README.md has to say: {told}"


def test_readme_has_the_version_and_the_digest_of_the_module(reader):
    digest = hashlib.sha256(MODULE.read_bytes()).hexdigest()
    line = f"cdp_jwt {cdp_jwt.__version__}  {digest}"
    assert readme_blocks()["cdp_jwt", 2].text == f"{line}\n", f"it has to say:\n{line}"
    assert f"\n**{cdp_jwt.__version__}**" in readme(), "Changes are of another version"
    for command in re.findall(r"`(sha\w+ .*?cdp_jwt\.py)`", readme()):
        if shutil.which(command.split()[0]):
            assert reader.sh(command).split()[0] == digest


def test_commands_in_the_table_of_tests_are_targets_of_make():
    makefile = (HERE / "Makefile").read_text(encoding="utf-8")
    targets = {*re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE)}
    named = {*re.findall(r"`make ([a-z]+)", readme())}
    assert named == targets - {"help", "clean"}
    told = dict(rows_of("command"))
    versions = re.findall(r"cryptography==([\d.]+\d)", project())
    assert re.findall(r"\b[\d.]+\d\b", told["`make matrix`"]) == versions
    examples_told = re.search(r"[\d,]+", told["`make fuzz`"])[0].replace(",", "")
    assert f"HYPOTHESIS_EXAMPLES={examples_told} " in makefile


# Installation


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> dict[str, str]:
    """An environment in which pip and uv install from files and ask no index."""
    kept = pathlib.Path(sys.prefix, "wheels")
    if not [*kept.glob("cryptography-*.whl")]:
        pytest.skip("no wheels to install from: `make test` sets them up, in .venv")
    folder = tmp_path_factory.mktemp("tools")
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_FIND_LINKS": str(kept),
        "PIP_NO_COMPILE": "1",
        "PIP_NO_INDEX": "1",
        "PIPX_HOME": str(folder / "pipx"),
        "UV_CACHE_DIR": str(folder / "uv"),
        "UV_FIND_LINKS": str(kept),
        "UV_OFFLINE": "1",
        "UV_PYTHON": sys.executable,
    }


@pytest.fixture
def make_wheelhouse(tmp_path, wheels) -> Callable[..., subprocess.CompletedProcess]:
    """In a clone, with what is set up here."""
    places = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    for tool in ("make", "uv"):
        if not shutil.which(tool, path=places):
            pytest.skip(f"{tool} is not installed here")
    for name in ("cdp_jwt.py", "README.md", "pyproject.toml", "Makefile"):
        shutil.copy2(HERE / name, tmp_path)
    command = ["make", "wheelhouse", "-o", f"{sys.prefix}/wheels"]
    command += [f"VENV={sys.prefix}", f"HOUSE={tmp_path / 'house'}"]
    return lambda *options: process([*command, *options], env=wheels, cwd=tmp_path)


@needs_cpython
def test_wheelhouse_installs_without_a_network(reader, make_wheelhouse, wheels):
    assert make_wheelhouse().returncode == 0
    (reader.folder.parent / "wheelhouse").rename(reader.folder / "wheelhouse")
    new = reader.folder / "new"
    process([sys.executable, "-m", "venv", "--without-pip", new])
    pip = new / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pip --python "{new}" "$@"\n')
    pip.chmod(0o755)
    environ = {**wheels, "PIP_INDEX_URL": "http://127.0.0.1:1", "PIP_RETRIES": "0"}
    del environ["PIP_FIND_LINKS"], environ["PIP_NO_INDEX"]  # the command has to say so
    environ["PATH"] = f"{new / 'bin'}{os.pathsep}{reader.environ['PATH']}"
    block = readme_blocks()["Restricted machines", 0]
    lines = reader.sh(f"{block.script}command -v cdp-jwt", **environ).splitlines()
    assert verified(lines[-2], P256)["uri"].startswith("GET ")
    assert lines[-1] == str(new / "bin" / "cdp-jwt")


def test_wheelhouse_that_cannot_be_says_why_and_leaves_nothing(
    make_wheelhouse, tmp_path
):
    failures = {"PLATFORM=plan9_mips": "(?s)cryptography.*(linux|macosx)"}
    for option in ("PY=3.8", "PY=3", "PY=3.x"):
        failures[option] = f"{option}: a Python from 3.9 on is needed"
    for option, reason in failures.items():
        result = make_wheelhouse(option)
        assert result.returncode != 0
        assert re.search(reason, result.stderr), option
        assert not {"wheelhouse", "house"} & {*os.listdir(tmp_path)}


def test_wheelhouse_for_another_machine_asks_for_its_wheels(make_wheelhouse):
    [example] = re.findall(r"`make wheelhouse PY=3\.9 PLATFORM=(.*?)`", readme())
    tried = code_in(re.search(r"Tried: (.*?)\. ", prose())[1])
    assert example in tried
    older = {"manylinux_2_17_x86_64", "manylinux_2_17_aarch64", "musllinux_1_1_x86_64"}
    for platform in tried:
        words = make_wheelhouse("PY=3.9", f"PLATFORM={platform}", "--dry-run").stdout
        asked = {*re.findall(r"--platform (\S+)", words)}
        assert "--python-version 3.9 " in words
        assert platform in asked
        # what was built for an older one runs there, too
        assert "linux" not in platform or older & asked


@pytest.mark.parametrize("start", ["uv run", "pipx run", "/usr/bin/python3"])
def test_file_runs_without_being_installed_by(reader, by_name, wheels, start):
    reader.need("uv", start.split()[0])
    probe = "import sys, cryptography; assert sys.version_info >= (3, 9)"
    if "python3" in start and reader.run(start, "-c", probe).returncode:
        pytest.skip("python3-cryptography for Python >= 3.9 is not installed here")
    [command] = re.findall(rf"`({start} cdp_jwt\.py .*?)`", readme())
    result = reader.run("sh", "-c", command, **wheels)  # uv says what it installs
    assert (result.returncode, result.stdout[-13:]) == (0, "All is well.\n")
    assert served(by_name) == CHECKED


def test_token_of_a_signer_without_a_network_is_sent_from_elsewhere(reader, by_name):
    reader.need("curl")
    umask, sign, send = readme_blocks()["Restricted machines", 1].script.splitlines()
    reader.sh(f"{umask}; {sign}", HTTPS_PROXY="http://127.0.0.1:1")
    assert stat.S_IMODE((reader.folder / "header.txt").stat().st_mode) == 0o600
    (reader.folder / "cdp_api_key.json").unlink()
    assert reader.sh(send) == "Unauthorized"
    assert by_name.refusals.pop() == "not now"
    by_name.nonces.clear()
    by_name.clock_ahead = 610
    assert json.loads(reader.sh(send))["accounts"]
    assert by_name.refusals == []


def library_calls() -> str:
    """The calls by requests and httpx, as a program."""
    calls = re.findall(r"`((?:requests|httpx)\.get\(.*?\))`", prose())
    assert len(calls) == 2
    return f"""
import cdp_jwt, httpx, requests
key = cdp_jwt.ApiKey.from_env()
url = "https://api.coinbase.com{ACCOUNTS}"
print({calls[0]}.json())
print({calls[1]}.json())
"""


def test_key_signs_calls_of_requests_and_httpx(here, by_name):
    here(library_calls())
    assert served(by_name) == PAGES[:1] * 2
    moved = status(302, Location=f"https://api.coinbase.com{ORDERS}")
    by_name.faults += [status(200, {}), moved, status(200, {})]
    here(library_calls().replace(", allow_redirects=False", ""))
    by_httpx, first, again = [seen.token for seen in by_name.seen[2:]]
    assert by_httpx != first == again


# Recipes


def place_unanswered(handler: Handler) -> None:
    """The order is placed, and the connection is closed without an answer."""
    order = json.loads(handler.body)
    handler.server.orders[order["client_order_id"]] = {"order_id": "order 0", **order}
    handler.close_connection = True


def leave_unanswered(handler: Handler) -> None:
    handler.close_connection = True


def order_on_second_page(handler: Handler) -> None:
    is_second = handler.query.get("cursor") == "2"
    orders = [*handler.server.orders.values()]
    found = orders if is_second else [{"client_order_id": ""}]
    handler.answer(200, {"orders": found, "has_next": True, "cursor": "2"})


TOO_SMALL = {"success": False, "error_response": {"error": "TOO_SMALL"}}
ORDER_OUTCOMES = {  # what becomes of requests -> what it ends with, times it looked
    "placed": ([], "", 0),
    "refused": ([status(200, TOO_SMALL)], "not placed: .*TOO_SMALL.*", 0),
    "not carried out": ([status(400, {"message": "no"})], "not placed: HTTP 400: no", 0),
    "answer lost": ([], "", 2),
    "order lost": ([leave_unanswered], "no order [0-9a-f-]{36} so far; .*", 1),
    "host still down": ([leave_unanswered] * 9, "unknown whether [0-9a-f-]{36} was placed; .*", 3),
}  # fmt: skip


@pytest.mark.parametrize("outcome", ORDER_OUTCOMES)
def test_recipe_for_an_order_finds_it_whatever_happens(here, by_name, outcome):
    faults, last_words, searches = ORDER_OUTCOMES[outcome]
    by_name.faults += faults
    history = f"{ORDERS}/historical/batch"
    if outcome == "answer lost":
        by_name.routes["POST", ORDERS] = (True, place_unanswered)
        by_name.routes["GET", history] = (True, order_on_second_page)
    place = here(recipe("Place an order, and find it"))["place"]
    said = ""
    try:
        placed = place(cdp_jwt.Client(key_of()), {"product_id": "BTC-USD"})
        assert placed["order_id"] == "order 0"
    except SystemExit as ended:
        said = ended.code
    assert re.fullmatch(last_words, said)
    assert len(by_name.orders) == (said == "")
    order, *others = served(by_name)
    assert order == f"POST {ORDERS}"
    assert len(others) == searches
    date = time.strftime("%Y-%m-%dT", time.gmtime(time.time() - 3600))
    start = f"GET {history}?product_ids=BTC-USD&start_date={date}"
    assert all(each.startswith(start) for each in others)


@needs_shell  # as for the other recipes; asyncio waits for ever under wine
def test_recipe_for_websockets_subscribes_again_with_fresh_tokens(ca, trust):
    """The first connection is lost as soon as it has subscribed."""
    library = pytest.importorskip("websockets.asyncio.server")
    host = "advanced-trade-ws.coinbase.com"
    channels = {"ticker": ["BTC-USD", "ETH-USD"], "heartbeats": []}
    heard: list[dict] = []
    printed: list[str] = []

    async def answer(connection) -> None:
        assert connection.request.headers["Host"] == host
        async for text in connection:
            heard.append(json.loads(text))
            await connection.send(heard[-1]["channel"])
            if len(heard) == 2:
                connection.transport.abort()  # no closing handshake

    def note(text: str, flush: bool) -> None:
        printed.append(text)
        if len(printed) == 4:
            raise EOFError

    async def listen() -> None:
        context = server_context(ca, host)
        async with library.serve(answer, "127.0.0.1", 0, ssl=context) as server:
            address, port = server.sockets[0].getsockname()
            place = {"host": address, "port": port, "ssl": trust}
            names["connect"] = functools.partial(names["connect"], **place)
            await names["listen"](key_of(), names["PRICES"], channels)

    names: dict[str, object] = {"print": note}
    exec(recipe("WebSocket"), names)
    with pytest.raises(EOFError):
        asyncio.run(listen())
    assert printed == [*channels] * 2
    tokens = [verified(message["jwt"], P256) for message in heard]
    assert [message["product_ids"] for message in heard] == [*channels.values()] * 2
    assert len({token["nonce"] for token in tokens}) == 4
    assert not any("uri" in token for token in tokens)


def test_bot_goes_on_after_a_lost_answer(here, by_name, monkeypatch, capsys):
    """Up to its last line: the feed is tried by itself."""
    pytest.importorskip("websockets")
    account = {"currency": "BTC", "available_balance": {"value": "0.50"}}
    answers = {
        ("GET", ACCOUNTS): {"accounts": [account], "has_next": False},
        ("GET", "/api/v3/brokerage/products/BTC-USD/candles"): {
            "candles": [{"low": "50000.12"}, {"low": "49000.1"}]
        },
        ("POST", f"{ORDERS}/batch_cancel"): {"results": "cancelled"},
    }
    for route, answer in answers.items():
        by_name.routes[route] = (True, status(200, answer))
    by_name.routes["POST", ORDERS] = (True, place_unanswered)
    headings = {"feed": "WebSocket", "order": "Place an order, and find it"}
    for name, heading in headings.items():
        module = types.ModuleType(name)
        exec(recipe(heading), vars(module))
        monkeypatch.setitem(sys.modules, name, module)
    listened = []

    async def listen(*arguments: object) -> None:
        listened.append(arguments)

    monkeypatch.setattr(sys.modules["feed"], "listen", listen)
    here(recipe("A small bot"))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["BTC 0.50", "cancelled", "[0]", "[1]", "[2]"]
    assert b'{"order_ids": ["order 0"]}' in [seen.body for seen in by_name.seen]
    times = re.search(r"candles\?start=(\d+)&end=(\d+)&", " ".join(served(by_name)))
    assert int(times[2]) - int(times[1]) == 6 * 3600
    [order] = by_name.orders.values()
    limit = order["order_configuration"]["limit_limit_gtc"]
    assert limit == {"base_size": "0.001", "limit_price": "44100.09"}
    [(_, url, channels)] = listened
    assert url == "wss://advanced-trade-ws-user.coinbase.com"
    assert channels == {"user": ["BTC-USD"], "heartbeats": []}


SERVICES = {  # what of a recipe is run, and how
    "cron": (
        r"(CDP_KEY_FILE=.*)\n(?:[\d*/]+ ){5}([^%\n]+)", r"export \1; \2; cat accounts.jsonl"),
    "systemd": (
        r"LoadCredential=(\S+):/etc/.*\nExecStart=/usr/bin/(python3) /opt/coinbase/(.*)",
        r"mv cdp_api_key.json \1; CREDENTIALS_DIRECTORY=.; \2 \3"),
    "GitHub Actions": (
        r"- run: (.*)\n  env:\n    (\w+): \$\{\{ secrets.\2 }}\n    (\w+): \$\{\{ secrets.\3 }}\n",
        r'export \2="$NAME" \3="$SECRET"; \1'),
    "container": (
        r'docker run .* --volume "\$PWD:(\S+):ro" --workdir \1 +--env (CDP_KEY_FILE) my-image (.*)',
        r"export \2=cdp_api_key.json; \3"),
}  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_recipe_for_what_runs_by_itself(reader, by_name, service):
    del reader.environ["CDP_KEY_FILE"]
    pattern, script = SERVICES[service]
    text = recipe("cron, systemd, GitHub Actions and containers").replace("\\\n", "")
    script = re.search(pattern, text).expand(script)
    if "pip " in script:
        reader.need("uv")
    given = {"NAME": NAME, "SECRET": SEC1, "UV_OFFLINE": "1"}
    pages = reader.sh(script, **given).splitlines()
    data = [json.loads(page)["data"] for page in pages]
    assert data == ([[0], [1], [2]] if "--paginate" in script else [[0]])
    assert len(served(by_name)) == len(data)


# Keys


@pytest.mark.parametrize("place", [place for place, _ in rows_of("where the key is")])
def test_key_gets_in_by_the_line_to_type(reader, by_name, request, place):
    key_text = (reader.folder / reader.environ.pop("CDP_KEY_FILE")).read_text()
    escaped = SEC1.replace("\n", r"\n")
    settings = f'CDP_API_KEY_ID="{NAME}"\nCDP_API_KEY_SECRET="{escaped}"\n'
    files = {"cdp_api_key.json": key_text, "key.pem": SEC1, ".env": settings}
    for name, text in files.items():
        write_private(reader.folder / name, text)
    if "uv run" in dict(rows_of("where the key is"))[place]:
        reader.need("uv")
        reader.environ.update(request.getfixturevalue("wheels"))
    for line in code_in(dict(rows_of("where the key is"))[place]):
        typed = line.replace("organizations/…/apiKeys/…", NAME)
        typed = typed.replace("…", "python cdp_jwt.py check --key-file -")
        if " check" not in typed:
            typed += "\npython cdp_jwt.py check"
        forms = (SEC1, code_of(SEC1), code_of(key_text)) if "$SECRET" in line else ("",)
        for secret in forms:
            result = reader.run("sh", "-ec", typed, SECRET=secret, NAME=NAME)
            assert result.stdout.endswith("All is well.\n"), result
            assert "warn" not in result.stdout
    assert served(by_name)


def test_pairs_of_variables_are_those_of_the_readme():
    text = prose().partition("pairs that is complete: ")[2].partition(". ")[0]
    pairs = [code_in(each) for each in text.split(";")]
    assert len(pairs) == 3
    names = [f"organizations/o/apiKeys/{number}" for number in range(3)]
    environ = {}
    for name, (name_variable, secret_variable) in reversed([*zip(names, pairs)]):
        environ.update({name_variable: name, secret_variable: SEC1})
        assert cdp_jwt.ApiKey.from_env(environ).name == name  # the first one counts


def test_fields_of_a_key_file_are_those_of_the_readme(tmp_path):
    text = dict(rows_of("what"))["key file"].partition(";")[0]
    names, secret_fields = (code_in(part) for part in text.split(", and "))
    assert (len(names), len(secret_fields)) == (4, 3)
    for name, secret in itertools.product(names, secret_fields):
        path = write_private(tmp_path / "key.json", {name: NAME, secret: SEC1})
        assert cdp_jwt.ApiKey.from_file(path).name == NAME


# Coming from something else: their line, and ours

ROWS = [["".join(code_in(cell)) for cell in row] for row in rows_of("there")]
PYTHON_ROWS = ROWS[:4] + ROWS[5:11]
PYTHON_ROWS_DONE = [  # the uri of a token, or requests
    [], [URI], [None], [URI], [], PAGES[:1], [f"GET {ACCOUNTS}?limit=2"], [f"POST {ORDERS}"],
    SENT["In a program", 0][2:], ["GET /v2/nothing"],
]  # fmt: skip
COLUMNS = {
    "ours": [ours for _, ours in PYTHON_ROWS],
    "theirs": [theirs for theirs, _ in PYTHON_ROWS],
    "dropped in": [ROWS[0][1], *(theirs for theirs, _ in ROWS[1:3])],
}


@pytest.mark.parametrize("column", COLUMNS)
def test_rows_for_python_do_the_same(here, by_name, column):
    now = int(time.time())
    claims = {"uri": URI, "sub": NAME, "iss": "cdp", "nbf": now, "exp": now + 120}
    names = {  # what the lines use that the page does not show
        **vars(cdp_jwt), "jwt": jwt, "secrets": secrets, "path": ACCOUNTS, "uri": URI,
        "key": key_of(), "key_name": NAME, "key_secret": SEC1, "private_key": P256,
        "request_method": "GET", "request_host": "api.coinbase.com", "request_path": ACCOUNTS,
        "API": "/api/v3/brokerage", "jwt_payload": claims,
        "order": {"client_order_id": "1", "product_id": "", "side": "", "order_configuration": {}},
    }  # fmt: skip
    if column == "theirs":
        rest = pytest.importorskip("coinbase.rest", reason="`.[bench]` is not there")
        names.update(RESTClient=rest.RESTClient, HTTPError=requests.HTTPError)
        for path in ACCOUNTS, f"{ORDERS}/historical/fills":
            by_name.routes["GET", path] = (True, status(200, {}))
        fields = {"name": NAME, "privateKey": SEC1}  # it knows no other names
        write_private(pathlib.Path("cdp_api_key.json"), fields)
    for line, done in zip(COLUMNS[column], PYTHON_ROWS_DONE):
        by_name.seen.clear()
        is_handler = line.startswith("except ")
        exec(f"try: client.get('/v2/nothing')\n{line}" if is_handler else line, names)
        token = names.pop("token", names.pop("jwt_token", None))
        if token:
            assert [verified(token, P256).get("uri")] == done
        else:
            assert [each.removesuffix("?cursor=") for each in served(by_name)] == done
        assert not is_handler or names["found"] == 404


def test_rows_on_rate_limits_and_websockets_name_what_is_there(here, by_name):
    [[_, rate], [_, message]] = ROWS[-2:]
    answer = cdp_jwt.Client().get(GET_TIME[4:])
    names = {**vars(cdp_jwt), "key": key_of(), "answer": answer}
    assert eval(rate, names) == str(by_name.rate_left)
    text = eval(message.removesuffix("websockets"), names)
    assert json.loads(text)["channel"] == "user"


def test_row_for_cdpcurl_makes_the_call(reader, by_name):
    del reader.environ["CDP_KEY_FILE"]
    reader.sh(ROWS[4][1], URL=f"https://api.coinbase.com{ACCOUNTS}")
    assert served(by_name) == PAGES[:1]


# ------------------------------------------------------------- `make lint`: samples


def write_samples(folder: pathlib.Path) -> None:
    """Write the README's Python beside a copy of the module, for type-checkers."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODULE, folder)
    (folder / "libraries.py").write_text(library_calls(), encoding="utf-8")
    for (heading, number), block in readme_blocks().items():
        if block.language == "python":
            named = re.match(r"# (\w+\.py)\n", block.text)
            place = f"{re.sub('[^a-z]+', '_', heading.lower())}_{number}.py"
            path = folder / (named[1] if named else place)
            path.write_text(block.text, encoding="utf-8")


# -------------------------------------------------------------------- `make bench`
# A report and no test: nothing here fails because something is slow. What is compared
# takes turns within one run, so that a busy machine slows it all alike.

LIMITS = {  # ours -> what it is compared with, and their ratio at most
    "ApiKey.rest_jwt": {"bare sign": 1.30, "PyJWT": 0.80, "joserfc": inf, "authlib": inf},
    "build_rest_jwt, same key": {"SDK's, same key": 0.60},
    "build_rest_jwt, new keys": {"SDK's, new keys": 1.80},
    "command": {"least process": 1.30, "with the SDK": 0.65, "with PyJWT": inf},
    "warm Client.get": {"SDK's": 0.40, "requests'": 0.50, "httpx's": 0.70},
    "cold --call": {"script with the SDK": 0.65},
    "100,000th token": {"1,000th": 1.10},
    "peak of 1,000 pages": {"of 10": 1.05},
    "peak of 100,000 tokens": {"of 1,000": inf},
    "peak of command": {"of least process": inf, "of with the SDK": inf},
    "tokens by 2 processes": {"by 1 process": inf},
    "tokens by 4 threads": {"by 1 thread": inf},
    "tokens by 8 threads": {"by 1 thread": inf},
}  # fmt: skip


def report(found: dict[str, float], unit: str = "ms", label: str = "") -> None:
    """Print the rows of which both figures were found."""
    for ours, others in LIMITS.items():
        for other, limit in others.items():
            if {ours, other} <= found.keys():
                row, ratio = f"{label}{ours} ÷ {other}", found[ours] / found[other]
                figures = f"{found[ours]:10.3f} ÷ {found[other]:.3f} {unit}"
                verdict = f"at most {limit:.2f}{', over' * (ratio > limit)}"
                print(f"\n{row:50} {ratio:.2f} {figures:28}{verdict}", end="")


def medians(candidates: dict[str, Callable], rounds: int, times: int = 1) -> dict:
    """The median time of each, in milliseconds; they take turns, of `times` calls."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds + 1):  # the first does not count
        for name, candidate in candidates.items():
            taken[name].append(timeit.timeit(candidate, number=times) / times * 1000)
    return {name: statistics.median(taken[name][1:]) for name in taken}


def parts(algorithm: str) -> tuple[dict, dict]:
    """Header and claims, as a program makes them that gets its JWT from a library."""
    now, nonce = int(time.time()), secrets.token_hex()
    header = {"alg": algorithm, "typ": "JWT", "kid": NAME, "nonce": nonce}
    return header, {"sub": NAME, "iss": "cdp", "nbf": now, "exp": now + 120, "uri": URI}


def by_pyjwt(private_key, algorithm: str = "ES256") -> str:
    header, claims = parts(algorithm)
    return jwt.encode(claims, private_key, algorithm, header)


@pytest.mark.bench
def test_bench_of_tokens(algorithm, key, private_key):
    with warnings.catch_warnings(record=True):  # it says that it is deprecated
        import authlib.jose
    from coinbase import jwt_generator as sdk

    kind = "EC" if algorithm == "ES256" else "OKP"
    joserfc_key = joserfc.jwk.import_key(pkcs8(private_key), kind)
    encode = functools.partial(joserfc.jwt.encode, registry=JOSERFC)
    authlib_key = authlib.jose.JsonWebKey.import_key(pkcs8(private_key))
    by_authlib = authlib.jose.JsonWebToken([algorithm])
    same = (URI, NAME, SECRETS[algorithm])
    candidates = {  # all but the SDK's with the key loaded
        "ApiKey.rest_jwt": lambda: key.rest_jwt("GET", ACCOUNTS),
        "PyJWT": lambda: by_pyjwt(private_key, algorithm),
        "joserfc": lambda: encode(*parts(algorithm), joserfc_key),
        "authlib": lambda: by_authlib.encode(*parts(algorithm), authlib_key).decode(),
        "build_rest_jwt, same key": lambda: cdp_jwt.build_rest_jwt(*same),
        "SDK's, same key": lambda: sdk.build_rest_jwt(*same),
    }
    for make in candidates.values():
        assert verified(make(), private_key)["uri"] == URI
    message = key.rest_jwt("GET", ACCOUNTS).rpartition(".")[0].encode()
    how = [ec.ECDSA(hashes.SHA256())] if algorithm == "ES256" else []
    candidates["bare sign"] = lambda: private_key.sign(message, *how)
    report(medians(candidates, rounds=250, times=20), label=f"{algorithm}: ")

    # Many more keys than are remembered, so that each call has to parse its own.
    texts = [pem(ec.generate_private_key(ec.SECP256R1())) for _ in range(64)]
    if algorithm == "EdDSA":
        texts = [portal(ed25519.Ed25519PrivateKey.generate()) for _ in range(64)]
    ours, other = itertools.cycle(texts), itertools.cycle(texts)
    candidates = {
        "build_rest_jwt, new keys": lambda: cdp_jwt.build_rest_jwt(URI, NAME, next(ours)),
        "SDK's, new keys": lambda: sdk.build_rest_jwt(URI, NAME, next(other)),
    }  # fmt: skip
    report(medians(candidates, rounds=2000), label=f"{algorithm}: ")


OTHERS = {
    # It imports all of `cryptography` that the module's own imports do.
    "least process": f"""
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
private_key = load_pem_private_key({SEC1!r}.encode(), None)
print(private_key.sign(b"x" * 400, ec.ECDSA(SHA256())).hex())""",
    "with the SDK": f"""
from coinbase import jwt_generator
print(jwt_generator.build_rest_jwt({URI!r}, {NAME!r}, {SEC1!r}))""",
    "with PyJWT": f"""
import jwt, secrets, time
now, nonce = int(time.time()), secrets.token_hex()
claims = dict(sub={NAME!r}, iss="cdp", nbf=now, exp=now + 120, uri={URI!r})
print(jwt.encode(claims, {SEC1!r}, "ES256", dict(kid={NAME!r}, nonce=nonce)))""",
    "script with the SDK": f"""
import os
from coinbase.rest import RESTClient
client = RESTClient(key_file=os.environ["CDP_KEY_FILE"], base_url=os.environ["CALLED"])
print(client.get({ACCOUNTS!r}))""",
}
MANY_TOKENS = f"""
import cdp_jwt, sys
key = cdp_jwt.ApiKey({NAME!r}, {SEC1!r})
for _ in range(int(sys.argv[1])):
    key.rest_jwt("GET", {ACCOUNTS!r})"""
# Linux tells KiB. A child's peak starts with what its parent holds: hence a small one.
PEAK = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print("failed" if status else usage.ru_maxrss / 1024, file=sys.stderr)"""


def serve_canned(bundle: str) -> None:
    """Answer as cheaply as can be; `bundle` gets as many CAs as a machine has, and ours."""
    account = {"uuid": UUID, "currency": "BTC", "available_balance": {"value": "1.5"}}

    def answer(wire: Wire, connection: socket.socket) -> None:
        while True:
            numbers = dict(re.findall(rb"(\w+)=(\d+)", wire.read_request(connection)))
            wire.requests.clear()
            cursor = int(numbers.get(b"cursor", 0)) + 1
            count = 100 if numbers else 3
            page = {"accounts": [account] * count, "cursor": str(cursor)}
            page["has_next"] = cursor < int(numbers.get(b"pages", 0))
            body = json.dumps(page).encode()
            connection.sendall(OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    ca = trustme.CA()
    shutil.copy(requests.certs.where(), bundle)
    ca.cert_pem.write_to_path(bundle, append=True)
    print(Wire(answer, server_context(ca)).host, flush=True)
    threading.Event().wait()


@pytest.fixture
def canned(tmp_path) -> Iterator[tuple[str, str]]:
    """Host and CAs of a server in a process of its own."""
    bundle = str(tmp_path / "bundle.pem")
    command = [sys.executable, __file__, "canned", bundle]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield server.stdout.readline().strip(), bundle
        server.kill()


@pytest.mark.bench
def test_bench_of_warm_calls(canned, monkeypatch):
    from coinbase.rest import RESTClient

    host, bundle = canned
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    trust = ssl.create_default_context(cafile=bundle)
    sdk = RESTClient(api_key=NAME, api_secret=SEC1, base_url=host)
    ours = cdp_jwt.Client(key_of(), host=host, ssl_context=trust)
    session, client = requests.Session(), httpx.Client(verify=trust)

    def get(library: requests.Session | httpx.Client) -> object:
        headers = {"Authorization": f"Bearer {by_pyjwt(P256)}"}
        return library.get(f"https://{host}{ACCOUNTS}", headers=headers).json()

    with sdk.session, session, client:
        candidates = {
            "warm Client.get": lambda: ours.get(ACCOUNTS).json(),
            "SDK's": lambda: sdk.get(ACCOUNTS),
            "requests'": lambda: get(session),
            "httpx's": lambda: get(client),
        }
        for call in candidates.values():
            assert len(call()["accounts"]) == 3
        report(medians(candidates, rounds=500))


@pytest.mark.bench
def test_bench_of_processes(canned, key_file):
    host, bundle = canned
    environ = {"CDP_KEY_FILE": str(key_file), "CALLED": host}
    environ |= {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle}
    run = functools.partial(process, env=environ)
    python, command = [sys.executable, "-c"], [sys.executable, MODULE, "GET", ACCOUNTS]
    call = [*command, "--call", "--host", host]
    commands = {name: [*python, text] for name, text in OTHERS.items()}
    commands |= {"command": command, "cold --call": call}
    candidates = {name: functools.partial(run, commands[name]) for name in commands}
    for candidate in candidates.values():
        assert candidate().returncode == 0
    report(medians(candidates, rounds=40))
    weighed = {
        "peak of command": command,
        "of least process": commands["least process"],
        "of with the SDK": commands["with the SDK"],
        "peak of 1,000 pages": [*call, "--paginate", "--param", "pages=1000"],
        "of 10": [*call, "--paginate", "--param", "pages=10"],
        "peak of 100,000 tokens": [*python, MANY_TOKENS, 100_000],
        "of 1,000": [*python, MANY_TOKENS, 1000],
    }
    small = [sys.executable, "-ISc", PEAK]
    for _ in range(2):  # the first run may compile the module
        peaks = {name: float(run([*small, *weighed[name]]).stderr) for name in weighed}
    report(peaks, "MiB")


def make_tokens(count: int) -> None:
    key = key_of()
    for _ in range(count):
        key.rest_jwt("GET", ACCOUNTS)


def share(pool: concurrent.futures.Executor, count: int) -> Callable[[], list]:
    return lambda: list(pool.map(make_tokens, [8000 // count] * count))


@pytest.mark.bench
def test_bench_of_many_tokens():
    """Of a module that ages: of two copies, one has made 99,000 more. Of workers."""
    candidates = {}
    for name, age in {"1,000th": 500, "100,000th token": 99_500}.items():
        key = runpy.run_path(str(MODULE))["ApiKey"](NAME, SEC1)
        candidates[name] = functools.partial(key.rest_jwt, "GET", ACCOUNTS)
        for _ in range(age):
            candidates[name]()
    report(medians(candidates, rounds=1000))  # what is meant is in their middle

    new = multiprocessing.get_context("spawn")  # a fork would have all of pytest in it
    processes = concurrent.futures.ProcessPoolExecutor
    threads = concurrent.futures.ThreadPoolExecutor
    with processes(1, new) as one, processes(2, new) as two, threads(8) as eight:
        candidates = {
            "by 1 process": share(one, 1),
            "tokens by 2 processes": share(two, 2),
            "by 1 thread": share(eight, 1),  # the others wait
            "tokens by 4 threads": share(eight, 4),
            "tokens by 8 threads": share(eight, 8),
        }
        found = medians(candidates, rounds=10)
    report({name: 8000 / found[name] for name in found}, "/ms")


# ----------------------------------------------------------------- `make mutants`
#
# cosmic-ray makes the mutants and reports on them, as .cosmic-ray.toml says. Each is
# tried in a fork of this process, which has imported all that takes time: by the quick
# tests that run its line, as pytest-cov has learned; the quickest first, until one fails.


class Chosen(list[str]):
    """The names of tests, as a plugin of pytest that runs these, in this order."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {item.name: item for item in items}
        items[:] = [found[name] for name in self if name in found]


def fails(text: str, tests: list[str]) -> bool:
    """Does one of the tests fail on the module with this text, or not end?"""
    if child := os.fork():
        return os.waitpid(child, 0)[1] not in (0, 5 << 8)  # all pass, or there is none
    signal.alarm(600)  # it may be its import that does not end
    try:
        exec(compile(text, MODULE, "exec"), vars(cdp_jwt))
        os._exit(pytest.main([__file__], plugins=[Chosen(tests)]))
    finally:
        os._exit(1)


def mutants(folder: str, sample: str = "0") -> None:
    """Try the mutants of a session of cosmic-ray, or so many of them, by chance."""
    from cosmic_ray import mutating, plugins, work_db, work_item

    text = source()
    sections = range(*(text[: text.index(f"- {n}. ")].count("\n") for n in (3, 8)))
    covered = json.loads(pathlib.Path(folder, "lines.json").read_text())
    contexts = covered["files"][MODULE.name]["contexts"]
    cases = xml.etree.ElementTree.parse(f"{folder}/tests.xml").iter("testcase")
    times = {case.get("name"): float(case.get("time")) for case in cases}
    quick = sorted((test for test in times if times[test] < 2), key=times.get)
    assert not fails(text, quick), "the quick tests fail on the module as it is"

    def attempt(item: work_item.WorkItem) -> work_item.WorkResult:
        [mutation] = item.mutations
        operator = plugins.get_operator(mutation.operator_name)()
        changed = mutating.mutate_code(text, operator, mutation.occurrence)
        line = str(max(n for n in map(int, contexts) if n <= mutation.start_pos[0]))
        tests = [t for t in quick if f"test_cdp_jwt.py::{t}|run" in contexts[line]]
        outcome = "killed" if fails(changed, tests or quick) else "survived"
        diff = difflib.unified_diff(text.splitlines(True), changed.splitlines(True))
        return work_item.WorkResult("normal", "", outcome, "".join(diff))

    with work_db.use_db(f"{folder}/session") as db, ThreadPool() as forks:
        items = [*db.pending_work_items]
        items = [each for each in items if each.mutations[0].start_pos[0] in sections]
        items = random.sample(items, int(sample) or len(items))
        db.clear()
        db.add_work_items(items)
        for item, result in zip(items, forks.imap(attempt, items)):
            db.set_result(item.job_id, result)


# -------------------------------------------------------------------- `make demo`
#
# `python test_cdp_jwt.py serve` goes on serving, to be called by hand.


def demo(server: Coinbase, ca_path: pathlib.Path, key_path: pathlib.Path) -> None:
    """Show the main job without an account: key file, token, verification, call."""

    def shell(*words: str) -> str:
        print(f"$ python {MODULE.name} {' '.join(words)}")
        environ = {"CDP_KEY_FILE": str(key_path), "SSL_CERT_FILE": str(ca_path)}
        result = process([sys.executable, MODULE, *words], env=environ)
        print(result.stdout + result.stderr)
        return result.stdout.strip()

    token = shell("GET", ACCOUNTS)
    header, claims, signature = segments(token)
    print(f"header     {header.decode()}")
    print(f"claims     {claims.decode()}")
    print(f"signature  {len(signature)} octets, r and s")
    verified(token, P256)
    print("verified   by PyJWT and by joserfc, with the public key alone\n")
    print("A call to a local server, which is as strict as Coinbase about tokens:\n")
    shell("GET", ACCOUNTS, "--call", "--paginate", "--host", server.host)
    problems = server.refusals or "none"
    print(f"tokens that the server refused: {problems}")


def serve(server: Coinbase, ca_path: pathlib.Path, key_path: pathlib.Path) -> None:
    """Serve until Ctrl-C, and say how to call; faulty servers stand beside it."""
    print(f"export SSL_CERT_FILE={ca_path} CDP_KEY_FILE={key_path}")
    print(f"python {MODULE.name} GET {ACCOUNTS} --call --host {server.host}")
    print("\nFaulty servers, each for --host:")
    redirect = b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\n\r\n"
    scripts = {
        "closes": saying(),
        "cuts off": saying(OK + b"Content-Length: 100\r\n\r\n{}"),
        "no HTTP": saying(b"hello\r\n"),
        "redirects": saying(redirect),
        "stalls": stall_headers,
        "drips": drip_body,
        "endless": endless_body,
    }
    for name, script in scripts.items():
        print(f"  {Wire(script, server.certificate).host}  {name}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def with_server(show: Callable[..., None]) -> None:
    """Show something with a strict Coinbase, a throwaway key and a CA of its own."""
    ca = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        ca_path, key_path = pathlib.Path(folder, "ca.pem"), pathlib.Path(folder, "key")
        ca.cert_pem.write_to_path(str(ca_path))
        write_private(key_path, {"name": NAME, "privateKey": SEC1})
        with serving(Coinbase(server_context(ca))) as server:
            show(server, ca_path, key_path)


def test_demo_verifies_its_token_and_calls_a_server_that_refuses_none(capsys):
    with_server(demo)
    shown = capsys.readouterr().out
    assert "\nverified   by PyJWT and by joserfc" in shown
    assert len(re.findall(PAGE, shown)) == 3
    assert shown.endswith("\ntokens that the server refused: none\n")


PROGRAMS = {  # `python test_cdp_jwt.py NAME`
    "canned": serve_canned,
    "demo": functools.partial(with_server, demo),
    "mutants": mutants,
    "samples": lambda folder: write_samples(pathlib.Path(folder)),
    "serve": functools.partial(with_server, serve),
}
if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
