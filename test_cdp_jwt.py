# SPDX-License-Identifier: 0BSD
"""The specification of cdp_jwt, in the module's order; `make test` runs it.

Tokens are checked by two independent verifiers (PyJWT and joserfc), keys are made and
compared with `cryptography`, and published vectors are cited where they are used. No test
sends anything to another machine than this one.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import base64
import collections
import concurrent.futures
import configparser
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
import importlib.metadata
import importlib.util
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
import traceback
import types
import unittest.mock
import urllib.parse
import urllib.request
import warnings
import weakref
import zipfile
from collections.abc import Callable, Iterator

import cryptography
import cryptography_vectors
import httpx
import joserfc.jwk
import joserfc.jws
import joserfc.jwt
import jwt
import pytest
import requests
import trustme
from cryptography import x509
from cryptography.exceptions import (
    InternalError,
    InvalidSignature,
    UnsupportedAlgorithm,
)
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed448,
    ed25519,
    rsa,
    utils,
    x448,
    x25519,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_jwt

HERE = pathlib.Path(__file__).resolve().parent
MODULE = pathlib.Path(cdp_jwt.__file__).resolve()
VECTORS = pathlib.Path(cryptography_vectors.__file__).parent / "asymmetric"
NAME = "organizations/d5a7e9c1-0000-4000-8000-3a1b5c7d9e0f/apiKeys/1b2c3d4e-0000-4000-8000-a0b1c2d3e4f5"
UUID = "1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9"
ACCOUNTS = "/api/v3/brokerage/accounts"
ORDERS = "/api/v3/brokerage/orders"
NOW = 1_800_000_000


# ------------------------------------------------- what a machine may lack, by name

needs_modes = pytest.mark.skipif(os.name != "posix", reason="needs file modes")
needs_shell = pytest.mark.skipif(
    not (shutil.which("sh") and os.name == "posix"), reason="needs a POSIX shell"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_cpython = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="is about CPython's own ways"
)


# --------------------------------------------------------------------- the domain


def pem(private_key, form=PrivateFormat.TraditionalOpenSSL, encryption=None) -> str:
    encryption = encryption or NoEncryption()
    return private_key.private_bytes(Encoding.PEM, form, encryption).decode()


def pkcs8(private_key) -> str:
    return pem(private_key, PrivateFormat.PKCS8)


def body(pem_text: str) -> str:
    """The base64 between BEGIN and END, without line breaks."""
    return "".join(line for line in pem_text.splitlines() if "-----" not in line)


def raw(private_key) -> bytes:
    return private_key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def raw_public(private_key) -> bytes:
    return private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def code_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def portal(private_key) -> str:
    """An Ed25519 secret as the portal hands it out: base64 of seed and public key."""
    return base64.b64encode(raw(private_key) + raw_public(private_key)).decode()


def public_pem(private_key) -> str:
    form = PublicFormat.SubjectPublicKeyInfo
    return private_key.public_key().public_bytes(Encoding.PEM, form).decode()


# Throwaway keys, the same in each run.
P256 = ec.derive_private_key(int.from_bytes(b"cdp_jwt" * 4, "big"), ec.SECP256R1())
OTHER_P256 = ec.derive_private_key(0xC0FFEE << 200, ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(
    hashlib.sha256(b"cdp_jwt").digest()
)
SEC1 = pem(P256)
PKCS8 = pkcs8(P256)
PORTAL = portal(ED25519)
BARE_SEED = base64.b64encode(raw(ED25519)).decode()
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
    "(CDP|COINBASE)_.*|(HTTPS|NO)_PROXY|SSL_CERT_(FILE|DIR)|SSLKEYLOGFILE"
    "|PYTHONIOENCODING",
    re.IGNORECASE,
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for variable in filter(FOREIGN_VARIABLES.fullmatch, list(os.environ)):
        monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "argv", ["cdp_jwt.py"])


@pytest.fixture(autouse=True)
def closed_clients(monkeypatch):
    """Each client of a test is closed after it."""
    clients, original = [], cdp_jwt.Client.__init__

    @functools.wraps(original)
    def remember(self, *arguments, **options):
        original(self, *arguments, **options)
        clients.append(self)

    monkeypatch.setattr(cdp_jwt.Client, "__init__", remember)
    yield
    for client in clients:
        client.close()


def write_private(path: pathlib.Path, content: object) -> pathlib.Path:
    """Write a text, or JSON, to a file that its owner alone can read."""
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
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
        stream = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", stream)

    return feed


@dataclasses.dataclass
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys) -> Callable[..., Result]:
    """The command as a function."""

    def call(*arguments: str) -> Result:
        code = cdp_jwt.main(list(arguments))
        return Result(code, *capsys.readouterr())

    return call


# Coinbase's `nonce` is no registered header parameter.
JOSERFC = joserfc.jws.JWSRegistry(
    algorithms=["ES256", "EdDSA"], strict_check_header=False
)


def verified(token: str, private_key) -> dict:
    """Check a token with PyJWT and joserfc; return its header and claims as one dict."""
    is_ed25519 = isinstance(private_key, ed25519.Ed25519PrivateKey)
    algorithm, kind = ("EdDSA", "OKP") if is_ed25519 else ("ES256", "EC")
    # The times are tested by themselves: a token may be one for a later window.
    untimed = {"verify_exp": False, "verify_nbf": False}
    public_key = private_key.public_key()
    claims = jwt.decode(token, public_key, [algorithm], options=untimed)
    jwk = joserfc.jwk.import_key(public_pem(private_key), kind)
    seen = joserfc.jwt.decode(token, jwk, registry=JOSERFC)
    assert seen.claims == claims
    assert seen.header == jwt.get_unverified_header(token)
    return {**seen.header, **claims}


def segments(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "==") for part in token.split(".")]


# Texts of callers that are no plain str.


def _lie(*_) -> str:
    return "/lie"


def _raise(*_, **__):
    raise AssertionError("a method of the caller's own text was called")


# A text that is shown, compared and hashed as another one than it holds.
LIES = dict.fromkeys(("__str__", "__repr__", "__format__"), _lie)
LIES |= {"__eq__": lambda *_: True, "__hash__": lambda _: 7}
Lying = type("Lying", (str,), LIES)
# A text none of whose own methods may be called, but those that each `object` has.
OWN_METHODS = vars(str).keys() - vars(object).keys() | {"__str__", "__format__"}
Raising = type("Raising", (str,), dict.fromkeys(OWN_METHODS, _raise))


def member(text: str) -> str:
    """A member of an Enum that is a str: from Python 3.11 on it formats as its name."""
    return enum.Enum("Endpoint", {"X": text}, type=str).X


CALLERS = {"Enum": member, "a lying subclass": Lying, "a raising subclass": Raising}
NO_TEXTS = [
    *[None, b"/x", 7, 1.5, True, ["/x"], {"x": 1}, object()],
    unittest.mock.Mock(spec=str),
]


# Texts at random. `make fuzz` sets how many examples of each property there are.


def examples(few: int) -> settings:
    return settings(
        max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", few)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


JSON_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
)
JSON_VALUES = (
    JSON_SCALARS
    | st.lists(JSON_SCALARS | st.lists(JSON_SCALARS, max_size=1), max_size=2)
    | st.dictionaries(st.text(max_size=4), JSON_SCALARS, max_size=2)
)
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


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error with its causes and contexts, also those that Python does not print."""
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        if error.__context__ is not error.__cause__:
            yield from chain(error.__context__)


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
        inner = [*value, *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = value
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType)):
        inner = list(vars(value).values())
    for each in inner if depth else ():
        yield from texts_in(each, depth - 1)


def reported(error: BaseException) -> Iterator[str]:
    """What error reporters show: the error, and each variable on its way."""
    for each in chain(error):
        attributes = [name for name in dir(each) if not name.startswith("__")]
        yield str(each)
        yield from texts_in([getattr(each, name) for name in attributes])
        yield from texts_in(vars(each))  # with its notes
        summary = traceback.TracebackException.from_exception(each, capture_locals=True)
        frames = [frame for frame, _ in traceback.walk_tb(each.__traceback__)]
        is_ours = [frame.f_globals is globals() for frame in frames]
        callers = [*is_ours, False].index(False)
        for frame, shown in list(zip(frames, summary.stack))[callers:]:
            yield from (shown.locals or {}).values()
            yield from texts_in(dict(frame.f_locals))


def assert_secret_free(error: BaseException, secret: str) -> None:
    for text in reported(error):
        assert not leaks(text, secret), text
    assert error.__cause__ is None
    assert error.__context__ is None


def refused(
    call: Callable[[], object], secret: str = "", kind=cdp_jwt.InvalidKeyError
) -> str:
    """The message of the error that `call` raises, found free of `secret`."""
    with pytest.raises(kind) as caught:
        call()
    assert_secret_free(caught.value, secret)
    return str(caught.value)


def error_with(attribute: str, value: object) -> Exception:
    error = ValueError("x")
    setattr(error, attribute, value)
    return error


def error_after(statements: str) -> Exception:
    """The error of a function that is not this file's, as the module's are not."""
    exec(f"def call(secret): {statements}; raise ValueError", module := {})
    with pytest.raises(ValueError) as caught:
        module["call"](PORTAL)
    return caught.value


HIDING_PLACES = {
    "message": lambda: ValueError(f"cannot load {PORTAL}"),
    "argument": lambda: ValueError("x", [PORTAL[20:40]]),
    "attribute": lambda: json.JSONDecodeError("x", PORTAL, 0),
    "note": lambda: error_with("__notes__", [PORTAL]),
    "cause": lambda: error_with("__cause__", KeyError(PORTAL)),
    "context": lambda: error_with("__context__", KeyError(PORTAL)),
    "variable": lambda: error_after("pass"),
    "container": lambda: error_after("box = [{'x': {7: (secret,)}}]; del secret"),
    "object": lambda: error_after("box = Warning(); box.x = secret; del secret"),
    "octets": lambda: error_after(
        "import base64; secret = base64.b64decode(secret)[3:]"
    ),
    "number": lambda: error_after(
        "import base64; secret = int(base64.b64decode(secret).hex(), 16)"
    ),
    "function called": lambda: error_after(
        "box = iter([secret]); del secret; (lambda text: float('x'))(next(box))"
    ),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_search_for_leaks_finds_a_secret_in_each_hiding_place(place):
    error = HIDING_PLACES[place]()
    assert any(leaks(text, PORTAL) for text in reported(error))


# Secrets of this run. Those of Ed25519 begin with each character of base64: with a / they
# are like a path.
RUN = int(os.environ.get("SECRETS_OF_RUN", secrets.randbits(32)))


@pytest.fixture(scope="session")
def random_keys(vectors) -> list[tuple[str, object]]:
    """Secrets with their private keys; SECRETS_OF_RUN=N makes those of a run again."""
    vectors.notes.append(f"secrets of this run: {RUN}")
    chance = random.Random(RUN)
    found = []
    for number in range(64):
        seed = bytes([number << 2 | chance.getrandbits(2)]) + chance.randbytes(31)
        private_key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        found.append((portal(private_key), private_key))
    for form in (pem, pkcs8) * 4:
        private_key = ec.derive_private_key(chance.getrandbits(255) + 1, ec.SECP256R1())
        found.append((form(private_key), private_key))
    return found


# --------------------------------------------------------------------- 2. errors
#
# Errors are of one family, can be caught as Python's own, and hold no key text.


def test_errors_share_a_base_and_are_builtin_errors_too():
    assert issubclass(cdp_jwt.InvalidKeyError, cdp_jwt.CdpError)
    assert issubclass(cdp_jwt.InvalidKeyError, ValueError)
    assert issubclass(cdp_jwt.InvalidRequestError, cdp_jwt.CdpError)
    assert issubclass(cdp_jwt.InvalidRequestError, ValueError)
    assert issubclass(cdp_jwt.TransportError, cdp_jwt.CdpError)
    assert issubclass(cdp_jwt.TransportError, OSError)
    assert issubclass(cdp_jwt.ApiError, cdp_jwt.CdpError)


def test_errors_of_calls_have_all_attributes_however_they_are_made():
    error = cdp_jwt.ApiError("HTTP 400: no")
    assert (error.status, error.body, error.hints) == (0, b"", ())
    assert (error.headers.items(), error.headers["Date"]) == ([], None)
    assert error.outcome_unknown is cdp_jwt.TransportError("x").outcome_unknown is False


def test_errors_of_calls_can_be_pickled():
    given = {"status": 500, "body": b"z", "hints": ("y",), "outcome_unknown": True}
    copied = pickle.loads(pickle.dumps(cdp_jwt.ApiError("x", **given)))
    assert str(copied) == "x"
    assert {name: getattr(copied, name) for name in given} == given
    original = cdp_jwt.TransportError("x", outcome_unknown=True)
    copied = pickle.loads(pickle.dumps(original))
    assert (str(copied), copied.outcome_unknown) == ("x", True)


def raising(error: BaseException) -> Iterator[str]:
    """An argument of a caller that raises when it is looked at."""
    raise error
    yield


PanicException = type("PanicException", (BaseException,), {})  # of Rust, pyo3's


@pytest.mark.parametrize(
    "kind", [MemoryError, RecursionError, TypeError, KeyError, OSError, PanicException]
)
def test_error_that_nobody_foresaw_is_an_invalid_key_error(kind, algorithm):
    """Its own words are not shown: they may be those of the key."""
    secret = SECRETS[algorithm]
    addresses = raising(kind(secret))
    message = refused(lambda: cdp_jwt.ApiKey(NAME, secret, addresses), secret)
    name = kind.__name__
    assert message == f"an unexpected {name}; are all arguments as documented?"


class Cancelled(BaseException):
    """As of frameworks: no Exception, and not made without arguments."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@pytest.mark.parametrize(
    "interruption", [KeyboardInterrupt(), SystemExit(3), Cancelled("late")], ids=repr
)
def test_interruption_goes_on_as_it_is_but_without_key_text(interruption, algorithm):
    secret = SECRETS[algorithm]
    interruption.__context__ = KeyError(secret)
    with pytest.raises(type(interruption)) as caught:
        cdp_jwt.ApiKey(NAME, secret, raising(interruption))
    assert caught.value is interruption
    assert_secret_free(interruption, secret)


def test_arguments_that_do_not_fit_are_pythons_own_error_without_key_text():
    for call in (
        lambda: cdp_jwt.ApiKey(PORTAL),
        lambda: cdp_jwt.ApiKey(NAME, PORTAL, (), SEC1),
        lambda: cdp_jwt.ApiKey(NAME, PORTAL, secrets=SEC1),
        lambda: cdp_jwt.ApiKey.from_file(PORTAL, NAME, SEC1),
        lambda: cdp_jwt.ApiKey.from_env(PORTAL, SEC1),
    ):
        assert "argument" in refused(call, f"{PORTAL}|{SEC1}", TypeError)


@needs_modes
def test_warnings_go_to_the_modules_logger_which_sees_no_key_text(
    key_file, monkeypatch
):
    """As a handler does that records the variables of its callers."""
    variables = []

    def record_variables(_) -> bool:
        for frame, _ in traceback.walk_stack(None):
            if frame.f_globals is vars(cdp_jwt):
                variables.extend(texts_in(dict(frame.f_locals)))
        return True

    monkeypatch.setattr(logging.getLogger("cdp_jwt"), "filters", [record_variables])
    key_file.chmod(0o644)
    cdp_jwt.ApiKey.from_file(key_file)
    assert variables
    assert not leaks("".join(variables), SEC1)


# ----------------------------------------------------------------------- 3. keys
#
# Every form of a key that is seen in the wild is accepted, and what was mended is said;
# everything else is refused with its name and a remedy; no error holds key text.

# The forms of a key, as the tools that write them lay them out.


def as_pem(octets: bytes, label: str = "PRIVATE KEY") -> str:
    lines = lines_of(base64.b64encode(octets).decode(), 64)
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def lines_of(text: str, width: int) -> str:
    return "\n".join(text[i : i + width] for i in range(0, len(text), width))


def base64_of(length: int) -> str:
    return base64.b64encode(bytes(range(7, 7 + length))).decode()


def scalar_of(private_key) -> bytes:
    return private_key.private_numbers().private_value.to_bytes(32, "big")


def point_of(private_key, form=PublicFormat.UncompressedPoint) -> bytes:
    return private_key.public_key().public_bytes(Encoding.X962, form)


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return bytes([tag]) + size + content


P256_ID = bytes.fromhex("06082a8648ce3d030107")
EC_ID = bytes.fromhex("06072a8648ce3d0201")


def sec1_of(private_key, curve=P256_ID, point: bytes | None = None) -> bytes:
    """RFC 5915; without `curve` as PKCS8 has it, with b"" for `point` without any."""
    point = point_of(private_key) if point is None else point
    parts = [b"\2\1\1", der(4, scalar_of(private_key))]
    parts += [der(0xA0, curve)] if curve else []
    parts += [der(0xA1, der(3, b"\0", point))] if point else []
    return der(0x30, *parts)


def pkcs8_of(inner: bytes, attributes: bytes = b"") -> bytes:
    """RFC 5208, of an ECDSA P-256 key."""
    return der(0x30, b"\2\1\0", der(0x30, EC_ID, P256_ID), der(4, inner), attributes)


WINDOWS_USAGE = bytes.fromhex("a00d300b0603551d0f310403020080")
ED_PEM = pkcs8(ED25519)
# As BouncyCastle's getEncoded() and .NET's ExportPkcs8PrivateKey() on Windows write it.
JAVA = as_pem(pkcs8_of(sec1_of(P256)))
WINDOWS = as_pem(pkcs8_of(sec1_of(P256, b""), WINDOWS_USAGE))

TIDY = "secret: line breaks, spaces, padding, BEGIN and END lines put right"
ESCAPED = r"secret: escaped line breaks (\n) made real"
QUOTED = "secret: quotes removed"
INVISIBLE = "secret: invisible characters removed"
FIELD = "secret: the name of its field removed"
PERCENT = "secret: percent-encoding decoded"
ENCODED = "secret: decoded from base64"
IN_JSON = "secret: taken out of a key file's JSON"
SEED = (
    "the secret is a bare seed, without its public part: nothing can prove that it is"
    " whole"
)
NICKNAME = "the key's name is neither organizations/.../apiKeys/... nor a UUID"

PEMS = {"SEC1": SEC1, "PKCS8": PKCS8, "BouncyCastle": JAVA, "Windows": WINDOWS,
        "Ed25519": ED_PEM}  # fmt: skip
BARE = {"portal": PORTAL, "seed": BARE_SEED}
BARE |= {f"{form} without PEM lines": body(text) for form, text in PEMS.items()}
del BARE["PKCS8 without PEM lines"]  # that is what a CDP wallet secret looks like
FORMS = {**PEMS, **BARE}
UNPROVEN_FORMS = ("seed", "Ed25519", "Ed25519 without PEM lines")


def test_forms_of_other_tools_have_the_sizes_that_were_seen():
    sizes = [len(base64.b64decode(body(text))) for text in PEMS.values()]
    assert sizes == [121, 138, 150, 153, 48]
    assert as_pem(sec1_of(P256), "EC PRIVATE KEY") == SEC1
    assert as_pem(pkcs8_of(sec1_of(P256, b""))) == PKCS8


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


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize("scalar", [0, 1, ORDER - 1, ORDER, ORDER + 1])
def test_p256_scalar_is_from_1_to_below_the_order(scalar):
    """`cryptography` up to 42 derives a key even from order + 1, whose DER agrees."""
    private_key = ec.derive_private_key(scalar % ORDER or 1, ec.SECP256R1())
    octets = sec1_of(private_key)
    octets = octets.replace(scalar_of(private_key), scalar.to_bytes(32, "big"))
    secret = as_pem(octets)
    if scalar in (1, ORDER - 1):
        assert cdp_jwt.ApiKey(NAME, secret).algorithm == "ES256"
    else:
        message = refused(lambda: cdp_jwt.ApiKey(NAME, secret), secret)
        assert message == f"this key is damaged: its secret is no P-256 key{AGAIN}"


def test_ed25519_public_key_is_the_same_on_every_cryptography():
    """Up to 39 there is no public_bytes_raw; both ways give the octets of the key."""

    class Older:
        public_bytes = ED25519.public_key().public_bytes

    assert cdp_jwt._raw_public(Older()) == raw_public(ED25519)
    assert cdp_jwt._raw_public(ED25519.public_key()) == raw_public(ED25519)


VECTOR_FOLDERS = (
    "EC", "Ed25519", "Ed448", "OpenSSH", "PEM_Serialization", "PKCS8",
    "Traditional_OpenSSL_Serialization", "X25519", "X448",
)  # fmt: skip


def vector(name: str) -> str:
    return (VECTORS / name).read_text(encoding="utf-8")


def test_every_key_file_of_cryptographys_vectors_is_accepted_rightly_or_refused(
    vectors,
):
    accepted, refusals = [], 0
    paths = [path for folder in VECTOR_FOLDERS for path in (VECTORS / folder).iterdir()]
    for path in sorted(paths):
        if path.suffix not in (".pem", ".key", ".pub"):
            continue
        text = path.read_text(encoding="utf-8")
        vectors("key files of cryptography's")
        try:
            key = cdp_jwt.ApiKey(NAME, text)
        except cdp_jwt.InvalidKeyError as error:
            assert_secret_free(error, text)
            assert "unexpected" not in str(error)
            refusals += 1
        else:
            verified(key.ws_jwt(), load_pem_private_key(text.encode(), None))
            accepted.append(path.relative_to(VECTORS).as_posix())
    assert accepted == [
        "EC/high-bit-set.pem",
        "Ed25519/ed25519-pkcs8.pem",
        "PEM_Serialization/ec_private_key.pem",
        "PKCS8/ec-consistent-curve.pem",
        "PKCS8/ec_private_key.pem",
        "PKCS8/ecc_private_with_rfc5915_ext.pem",
    ]
    assert refusals >= 136


@pytest.mark.parametrize("kind", [UnsupportedAlgorithm, ValueError, InternalError])
def test_openssl_that_refuses_is_named(monkeypatch, kind):
    """Which error `cryptography` raises under FIPS depends on its version."""
    error = kind("Unknown OpenSSL error", [])
    refusing = unittest.mock.Mock(side_effect=error)
    message = (
        f"this OpenSSL refuses the key ({kind.__name__}); is FIPS on? See"
        " OPENSSL_CONF, and use ECDSA P-256 where Ed25519 is refused"
    )
    for secret in SECRETS.values():
        make = functools.partial(cdp_jwt.ApiKey, NAME, secret)
        key = make()
        object.__setattr__(key, "_sign", refusing)
        with monkeypatch.context() as patch:
            patch.setattr(cdp_jwt.ec, "derive_private_key", refusing)
            patch.setattr(cdp_jwt.ed25519, "Ed25519PrivateKey", refusing)
            refusing.from_private_bytes = refusing
            for call in (
                make,
                key.ws_jwt,
                functools.partial(key.rest_jwt, "GET", "/x"),
            ):
                assert refused(call, secret) == message


# What editors, shells, CI systems and secret stores do to a key.

WRAPPINGS = {  # what stands around a key of any form -> what is said to have been mended
    ("{}", "{}\n", " {}", "\n\n{}\n "): set(),
    ('"{}"', "'{}'", "`{}`", "“{}”", '{}"', "{},", '{}",', "{};"): {QUOTED},
    ("\ufeff{}", "{}\u200b"): {INVISIBLE},
    (r"{}\n", r"{}\r\n"): {ESCAPED},
    ('"privateKey": "{}",', "'secret': '{}'"): {FIELD, QUOTED},
}
EXTRA = {"publicKey": public_pem(P256), "nickname": r"DOMAIN\user", "enabled": True}
STORES = {  # what a CI system or a secret store makes of a key of any form
    "a key file": (lambda key: json.dumps({"id": NAME, "secret": key, **EXTRA}), {IN_JSON}),
    "base64": (code_of, {ENCODED}),
    "base64 in lines": (lambda key: lines_of(code_of(key), 76), {ENCODED}),
    "base64 in quotes": (lambda key: f'"{code_of(key)}"', {ENCODED, QUOTED}),
    "base64 twice": (lambda key: code_of(code_of(key)), {ENCODED}),
    "base64 of UTF-16": (lambda key: base64.b64encode(key.encode("utf-16")).decode(), {ENCODED}),
    "base64 of a key file": (
        lambda key: code_of(f'{{"name": "{NAME}", "nickname": "ß", "secret": {json.dumps(key)}}}'),
        {ENCODED, IN_JSON},
    ),
}  # fmt: skip
LINE_BREAKS = {  # what becomes of the line breaks of a PEM
    (r"\n", r"\r\n", r"\\n", r"\\r\\n", "\\\n", "\\\r\n", "`n", "`r`n"): {ESCAPED},
    ("\r\n", "\r", "\n\n", "\n    ", "\n\t", "\n\u00a0", " ", "", "n", "rn"): {TIDY},
    ("\\n\n",): {ESCAPED, TIDY},
    ("\u200b\n",): {INVISIBLE},
    ("%0A",): {PERCENT},
    ("%0d%0a",): {PERCENT, TIDY},
}
EC_PARAMETERS = (
    "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
)
ATTRIBUTES = "Bag Attributes\n    x: 1\nKey Attributes: <No Attributes>\n"
PEM_CLOTHES = {
    "all of a URL": (lambda pem: urllib.parse.quote(pem, safe=""), {PERCENT}),
    "all of a form": (urllib.parse.quote_plus, {PERCENT}),
    "a JSON string": (json.dumps, {ESCAPED, QUOTED}),
    "a line of JSON": (lambda pem: f' "secret": {json.dumps(pem)},', {FIELD, ESCAPED, QUOTED}),
    "JSON in JSON": (lambda pem: json.dumps(json.dumps(pem)), {ESCAPED, QUOTED}),
    "PHP's JSON": (lambda pem: json.dumps(pem).replace("/", r"\/"), {ESCAPED, QUOTED}),
    "PKCS12's attributes": (lambda pem: ATTRIBUTES + pem, {TIDY}),
    "EC PARAMETERS in front": (lambda pem: EC_PARAMETERS + pem, {TIDY}),
    "all that in one line": (lambda pem: (EC_PARAMETERS + pem).replace("\n", " "), {TIDY}),
    "a certificate in front": (lambda pem: as_pem(b"0" * 300, "CERTIFICATE") + pem, {TIDY}),
    "another label": (lambda pem: pem.replace("PRIVATE KEY", "X PRIVATE KEY"), {TIDY}),
    r"base64 of \n": (lambda pem: code_of(pem.replace("\n", r"\n")), {ENCODED, ESCAPED}),
    "base64 of more text": (lambda pem: code_of(f"# Börse\n{pem}"), {ENCODED, TIDY}),
}  # fmt: skip


BARE_CLOTHES = {
    "two lines": (lambda text: lines_of(text, 40), {TIDY}),
    "spaces inside": (lambda text: f"{text[:9]}  {text[9:]}", {TIDY}),
    r"\n inside": (lambda text: rf"{text[:40]}\n{text[40:]}", {ESCAPED, TIDY}),
}


def broken_by(line_break: str) -> Callable[[str], str]:
    return lambda pem: pem.strip().replace("\n", line_break)


WAYS = {  # on which a key arrives -> what it does to a text, what is mended, of whom
    **{repr(each): (each.format, repairs, FORMS)
       for templates, repairs in WRAPPINGS.items() for each in templates},
    **{f"line breaks as {each!r}": (broken_by(each), repairs, PEMS)
       for breaks, repairs in LINE_BREAKS.items() for each in breaks},
    **{store: (*way, FORMS) for store, way in STORES.items()},
    **{clothes: (*way, PEMS) for clothes, way in PEM_CLOTHES.items()},
    **{clothes: (*way, BARE) for clothes, way in BARE_CLOTHES.items()},
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


LETTERS = {  # of base64, which only a key that is proven gets the benefit of
    "no padding": lambda text: text.rstrip("="),
    "one = of two": lambda text: text.removesuffix("="),
    "URL-safe": lambda text: text.replace("+", "-").replace("/", "_"),
    "percent-encoded": lambda text: urllib.parse.quote(text, safe=""),
    "PHP's JSON": lambda text: text.replace("/", r"\/"),
}


@pytest.mark.parametrize("letters", LETTERS)
def test_letters_of_base64_are_mended_where_the_key_is_proven(letters):
    for form in BARE.keys() - UNPROVEN_FORMS:
        key = cdp_jwt.ApiKey(NAME, LETTERS[letters](BARE[form]))
        verified(key.ws_jwt(), ED25519 if form == "portal" else P256)


def test_letters_of_a_bare_seed_are_taken_as_they_are():
    seed = base64.b64encode(b"\xfb\xff" * 16).decode()
    assert cdp_jwt.ApiKey(NAME, seed).warnings == (SEED,)
    for letters in ("no padding", "URL-safe"):
        text = LETTERS[letters](seed)
        assert refused(functools.partial(cdp_jwt.ApiKey, NAME, text), seed) == NEITHER


# Mistakes: what a secret is instead, and what to do. Keys of other kinds are made where
# they are used: a machine in FIPS mode has not all of them.

TAKES = "; Coinbase takes ECDSA P-256 or Ed25519"
PASTE = "; paste the private key, `privateKey` in the key file"
AGAIN = "; copy it again from the key file, or create a new key"
GIVE_PATH = "; give it with --key-file, CDP_KEY_FILE or ApiKey.from_file"
CREATE = "; create a CDP API key in the portal"
PUBLIC = f"this is a public key{PASTE}"
ENCRYPTED = "this is an encrypted key; decrypt it with openssl pkey"
CERTIFICATE = f"this is a certificate{PASTE}"
REQUEST = f"this is a certificate request{PASTE}"
OPENSSH = f"this is an OpenSSH key{PASTE}"
ONLY_PARAMETERS = f"this is the parameters of a key alone{AGAIN}"
OPENSSL = "openssl ec -in OLD -conv_form uncompressed -param_enc named_curve -out NEW"
CUT_OFF = (
    "this is a key that is cut off, damaged or in an unusual form; copy it again from the"
    f" key file, or make its form the usual one: {OPENSSL}"
)
UNPROVEN = f"this key is damaged: its public part is not that of its secret{AGAIN}"
HALVES = (
    "this is a damaged Ed25519 key (its second half is not the public key of its first),"
    f" or a Coinbase Exchange secret{AGAIN}"
)
NO_END = f"this is a key without its line -----END ... PRIVATE KEY-----{AGAIN}"
NO_BEGIN = f"this is a key without its line -----BEGIN ... PRIVATE KEY-----{AGAIN}"
DASHES = (
    "this is a key whose BEGIN and END lines differ, or have not five dashes on each"
    f" side{AGAIN}"
)
FIRST_LINE = (
    "this is only the first line of a key; quote it, in one line with \\n for each line"
    " break, or use a key file"
)
UNUSUAL = f"this is a P-256 key in an unusual form; make it the usual one: {OPENSSL}"
PLACEHOLDER = "this is a placeholder; put the value there, from the key file"
REFERENCE = "this is a reference that nothing has resolved; give the value itself"
PATH = f"this is a path{GIVE_PATH}"
LEGACY = f"this is the secret of a legacy (HMAC) API key{CREATE}"
NEITHER = f"this is neither PEM nor base64 of 64 bytes (or 32, with its =){PASTE}"
IS_NAME = f"this is a key's name{PASTE}"
WALLET = f"this is a CDP wallet secret, which signs no API calls{PASTE}"
SEVERAL = "this is several keys; keep only the right one"
BAD_JSON = f"this is damaged JSON{AGAIN}"
ARRAY = f"this is JSON, but an array{PASTE}"
OTHER_NAME = "the name in the key file is not the name given; leave out the one given"
JWK = f"this is a JWK (RFC 7517), not a key file{CREATE}"
EMPTY_SECRET = "the key's secret is empty; is it set?"


def on_curve(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve)


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def dsa_key():
    text = vector("Traditional_OpenSSL_Serialization/dsa.2048.pem")
    return load_pem_private_key(text.encode(), None)


USUAL_CURVES = ("secp256r1", "secp384r1", "secp521r1")
OTHER_CURVES = [
    each
    for each in vars(ec).values()
    if str(getattr(each, "name", "")).startswith("sec")
    and each.name not in USUAL_CURVES
]
BRAINPOOLS = (ec.BrainpoolP256R1, ec.BrainpoolP384R1, ec.BrainpoolP512R1)
KINDS = [  # how it is called, and made
    ("an RSA key", rsa_key),
    ("a DSA key", dsa_key),
    ("an X25519 key", x25519.X25519PrivateKey.generate),
    ("an X448 key", x448.X448PrivateKey.generate),
    ("an Ed448 key", ed448.Ed448PrivateKey.generate),
    ("a P-384 key", lambda: on_curve(ec.SECP384R1())),
    ("a P-521 key", lambda: on_curve(ec.SECP521R1())),
    *[("a brainpool key", lambda curve=each: on_curve(curve())) for each in BRAINPOOLS],
    *[(f"a {each.name} key", lambda c=each: on_curve(c())) for each in OTHER_CURVES],
]


def made_here(make: Callable[..., object], *arguments: object) -> object:
    try:
        return make(*arguments)
    except (UnsupportedAlgorithm, ValueError, InternalError) as error:
        pytest.skip(f"this OpenSSL makes none: {type(error).__name__}")


@pytest.mark.parametrize(("kind", "make"), KINDS, ids=[kind for kind, _ in KINDS])
def test_wrong_kind_of_key_is_named_in_every_form(kind, make):
    private_key = made_here(make)
    texts = [pkcs8(private_key)]
    with contextlib.suppress(ValueError):  # X25519 and the like have no other form
        texts.append(pem(private_key))
    for text in texts:
        for secret in (text, text.replace("\n", r"\n"), body(text), code_of(text)):
            message = refused(functools.partial(cdp_jwt.ApiKey, NAME, secret), secret)
            assert message == f"this is {kind}{TAKES}"


@pytest.mark.parametrize("make", [lambda: P256, rsa_key], ids=["P-256", "RSA"])
@pytest.mark.parametrize(
    "form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]
)
def test_encrypted_key_is_named_whatever_its_kind(make, form):
    secret = made_here(pem, make(), form, BestAvailableEncryption(b"password"))
    texts = [secret, secret.replace("\n", r"\n"), code_of(secret)]
    texts += [] if "Proc-Type" in secret else [body(secret)]
    for text in texts:
        assert refused(functools.partial(cdp_jwt.ApiKey, NAME, text), text) == ENCRYPTED


@pytest.mark.filterwarnings("ignore:Diffie-Hellman")
def test_key_of_a_kind_that_has_no_name_here_is_in_an_unusual_form():
    secret = vector("DH/dhkey.pem")  # which some versions of cryptography do not load
    message = f"this is a key in an unusual form{AGAIN}"
    found = refused(lambda: cdp_jwt.ApiKey(NAME, secret), secret)
    assert found in (message, CUT_OFF)


COMPRESSED_POINT = point_of(P256, PublicFormat.CompressedPoint)
HYBRID_POINT = bytes([6 + point_of(P256)[-1] % 2]) + point_of(P256)[1:]
ODD_FORMS = {  # of whole P-256 keys, which OpenSSL makes usual
    "no public part (openssl ec -no_public)": as_pem(sec1_of(P256, point=b""), "EC PRIVATE KEY"),
    "no public part (SunEC, keytool)": as_pem(pkcs8_of(sec1_of(P256, b"", b""))),
    "a compressed point, SEC1": as_pem(sec1_of(P256, point=COMPRESSED_POINT), "EC PRIVATE KEY"),
    "a compressed point, PKCS8": as_pem(pkcs8_of(sec1_of(P256, b"", COMPRESSED_POINT))),
    "a hybrid point": as_pem(sec1_of(P256, point=HYBRID_POINT), "EC PRIVATE KEY"),
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
    assert refused(lambda: cdp_jwt.ApiKey(NAME, secret), secret) == expected
    if shutil.which("openssl"):
        words = OPENSSL.replace("OLD", "/dev/stdin").removesuffix("-out NEW").split()
        mended = subprocess.run(
            words, input=secret, capture_output=True, text=True, check=False
        )
        if mended.returncode == 0:
            cdp_jwt.ApiKey(NAME, mended.stdout)


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    day = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(name, name, P256.public_key(), 7, day, day)
    return builder.sign(P256, hashes.SHA256()).public_bytes(Encoding.DER)


LEGACY_SECRET = "k7mQz2Xw9Lp4Rt8Vb3Nc6Yd1Hs5Jf0Ga"
SEC1_LINES = SEC1.split("\n")
MISTAKES = {
    "public key": (public_pem(P256), PUBLIC),
    "public key without PEM lines": (body(public_pem(ED25519)), PUBLIC),
    "public key of OpenSSH, Ed25519": (vector("OpenSSH/ed25519-nopsw.key.pub"), PUBLIC),
    "public key of OpenSSH, ECDSA": (vector("OpenSSH/ecdsa-nopsw.key.pub"), PUBLIC),
    "public key of RSA": (as_pem(b"0" * 300, "RSA PUBLIC KEY"), PUBLIC),
    "certificate": (as_pem(certificate(), "CERTIFICATE"), CERTIFICATE),
    "certificate, cut off": (f"-----BEGIN CERTIFICATE-----\n{'A' * 40}", CERTIFICATE),
    "certificate without PEM lines": (base64.b64encode(certificate()).decode(), CERTIFICATE),
    "certificate request": (as_pem(b"0" * 300, "CERTIFICATE REQUEST"), REQUEST),
    "OpenSSH key": (vector("OpenSSH/ecdsa-nopsw.key"), OPENSSH),
    "EC PARAMETERS alone": (EC_PARAMETERS, ONLY_PARAMETERS),
    "wallet secret": (body(PKCS8), WALLET),
    "legacy secret": (LEGACY_SECRET, LEGACY),
    "Exchange secret": (base64_of(64), HALVES),
    "key's name": (NAME, IS_NAME),
    "key's name, UUID": (UUID, IS_NAME),
    "JSON key file of another key": (json.dumps({"id": UUID, "privateKey": SEC1}), OTHER_NAME),
    "JSON array": (json.dumps([NAME, SEC1]), ARRAY),
    "JSON, cut off": (json.dumps({"id": NAME, "privateKey": SEC1})[:-9], BAD_JSON),
    "JWK": (json.dumps({"kty": "EC", "crv": "P-256", "d": BARE_SEED}), JWK),
    "two keys": (SEC1 + pem(OTHER_P256), SEVERAL),
    "the first line alone": (SEC1_LINES[0], FIRST_LINE),
    "the first word alone": ("-----BEGIN", FIRST_LINE),
    "no END line": ("\n".join(SEC1_LINES[:-2]), NO_END),
    "no BEGIN line": ("\n".join(SEC1_LINES[1:]), NO_BEGIN),
    "a dash of the BEGIN line lost": (SEC1[1:], DASHES),
    "four dashes": (SEC1.replace("-----", "----"), DASHES),
    "labels that differ": (SEC1.replace("END EC", "END"), DASHES),
    "a line lost": (SEC1.replace(SEC1_LINES[2], ""), CUT_OFF),
    "a character lost": (SEC1[:80] + SEC1[81:], CUT_OFF),
    "a character no base64 has": (SEC1[:80] + "!" + SEC1[81:], CUT_OFF),
    "the secret part altered": (flipped(SEC1, 60), UNPROVEN),
    "SEC1 body altered": (flipped(body(SEC1), 20), UNPROVEN),
    "SEC1 body, its fixed part altered": (flipped(body(SEC1), 60), CUT_OFF),
    "SEC1 body with a character lost": (body(SEC1)[:60] + body(SEC1)[61:], NEITHER),
    "Ed25519 seed altered": (flipped(PORTAL, 10), HALVES),
    "Ed25519 with a character lost": (PORTAL[:30] + PORTAL[31:], NEITHER),
    "words": ("correct horse battery staple", NEITHER),
    "nothing": ("", EMPTY_SECRET),
    "quotes of nothing": ('""', EMPTY_SECRET),
    "over 8 KiB": (SEC1 * 39 + SEC1.strip(), f"the key's secret has 9079 characters, and a key has about 250{AGAIN}"),
    **{text: (text, REFERENCE) for text in (
        "op://vault/coinbase/secret", "arn:aws:secretsmanager:us-east-1:1:secret:coinbase", "$COINBASE_API_SECRET",
        "@Microsoft.KeyVault(SecretUri=vault.azure.net/x)", "${COINBASE_API_SECRET}", "%COINBASE_API_SECRET%",
    )},
    **{text: (text, PATH) for text in (
        "/home/me/cdp_api_key", "cdp_api_key.json", "~/keys/coinbase", "./coinbase", r"C:\new\keys", "my.pem",
    )},
    **{text: (text, PLACEHOLDER) for text in (
        "YOUR_API_SECRET", "{api_secret}", "{{ coinbase_secret }}", "<your secret>", "undefined",
        "null", "None", "nil", "[object Object]", "changeme", "xxxxxxxx", "********", "...", "sk…",
        as_pem(b"").replace("\n\n", "\nYOUR PRIVATE KEY\n"), as_pem(b"").replace("\n\n", "\n...\n"),
    )},
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_named_and_the_remedy_given(mistake):
    secret, message = MISTAKES[mistake]
    environ = {"COINBASE_API_KEY": NAME, "COINBASE_API_SECRET": secret}
    assert refused(lambda: cdp_jwt.ApiKey(NAME, secret)) == message
    assert refused(lambda: cdp_jwt.build_ws_jwt(NAME, secret)) == message
    found = refused(lambda: cdp_jwt.ApiKey.from_env(environ))
    assert found.endswith(SET if message == EMPTY_SECRET else message)


def calls_that_are_wrong(secret: str, folder: pathlib.Path) -> list:
    """What fails whatever the secret is, as something beside it is wrong."""
    path = write_private(folder / "wrong.pem", secret)
    pair = ("COINBASE_API_KEY", "COINBASE_API_SECRET")
    uri = "GET api.coinbase.com/x"
    return [
        lambda: cdp_jwt.ApiKey("", secret),
        lambda: cdp_jwt.ApiKey("a,b", secret),
        lambda: cdp_jwt.ApiKey(secret, NAME),
        lambda: cdp_jwt.ApiKey.from_file(path, "a,b"),
        lambda: cdp_jwt.ApiKey.from_file(secret),
        lambda: cdp_jwt.ApiKey.from_file(f"{folder}/{secret}"),
        lambda: cdp_jwt.ApiKey.from_env({"CDP_KEY_FILE": secret or "x"}),
        lambda: cdp_jwt.ApiKey.from_env({pair[0]: secret, pair[1]: NAME}),
        lambda: cdp_jwt.ApiKey.from_env({pair[0]: 7, pair[1]: secret}),
        lambda: cdp_jwt.build_rest_jwt(uri, "a,b", secret),
        lambda: cdp_jwt.build_ws_jwt(secret, secret),
    ]


NOT_SECRET = (PATH, REFERENCE, IS_NAME, OTHER_NAME)  # what may be shown


@pytest.mark.parametrize(
    "mistake", [each for each in MISTAKES if MISTAKES[each][1] not in NOT_SECRET]
)
def test_key_text_leaks_into_no_message_cause_or_frame(mistake, tmp_path):
    """Whichever way it came."""
    secret = MISTAKES[mistake][0]
    environ = {"COINBASE_API_KEY": NAME, "COINBASE_API_SECRET": secret}
    path = write_private(tmp_path / "key.pem", secret)
    for call in (
        lambda: cdp_jwt.ApiKey(NAME, secret),
        lambda: cdp_jwt.ApiKey.from_file(path, NAME),
        lambda: cdp_jwt.ApiKey.from_env(environ),
        lambda: cdp_jwt.build_rest_jwt("GET api.coinbase.com/x", NAME, secret),
        *calls_that_are_wrong(secret, tmp_path),
    ):
        refused(call, secret)


def test_secrets_of_this_run_sign_and_never_leak(random_keys, tmp_path):
    for secret, private_key in random_keys:
        verified(cdp_jwt.ApiKey(NAME, secret).ws_jwt(), private_key)
        for call in calls_that_are_wrong(secret, tmp_path):
            refused(call, secret)


def test_what_functions_hand_on_shows_no_key_text_in_its_repr():
    """As a debugger or a tracer shows it."""
    shown = []

    def profile(frame, event, value) -> None:
        if event == "return" and frame.f_globals is vars(cdp_jwt):
            shown.append(repr(value) if hasattr(value, "_fields") else "")

    sys.setprofile(profile)
    try:
        cdp_jwt.ApiKey.from_env(ADVANCED)
    finally:
        sys.setprofile(None)
    assert any(shown)
    assert not leaks("".join(shown), SEC1)
    assert repr(base64.b64decode(body(SEC1))) not in "".join(shown)


# Names.


def short(value: object) -> str:
    """What of a row of a table names its test."""
    return str(value)[:40]


TAKE_NAME = "; give the key's name, `name` or `id` in the key file"
NAME_LIKE_KEY = f"the name looks like a key: {TAKE_NAME[2:]}"
SWAPPED = "the name looks like a key: name and secret are swapped"
NAME_UNSET = PLACEHOLDER.replace("this", "the key's name")
NAME_UNRESOLVED = REFERENCE.replace("this", "the key's name")


def has(character: str, position: int) -> str:
    return f"the key's name has {character} at position {position}{TAKE_NAME}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *[(text, NAME_LIKE_KEY) for text in (
            SEC1, PORTAL, BARE_SEED, body(PKCS8), body(SEC1)[:60], PORTAL.rstrip("="), f"{PORTAL},",
            f"secret={BARE_SEED}", BARE_SEED.replace("/", "_").rstrip("="), f"{PORTAL[:40]} {PORTAL[41:]}",
        )],
        (public_pem(P256), f"the name is a public key{TAKE_NAME}"),
        (None, "the key's name is NoneType, not text; is it set?"),
        ("", "the key's name is empty; is it set?"),
        *[(text, NAME_UNSET) for text in (
            "organizations/{org_id}/apiKeys/{key_id}", "organizations/ORG_ID/apiKeys/KEY_ID", "null",
            "organizations/<org>/apiKeys/<key>", "YOUR API KEY", "undefined", "None", "xxxx", "...",
        )],
        *[(text, NAME_UNRESOLVED) for text in ("$KEY", "${KEY}", "%KEY%", "op://a/b/c", "arn:aws:x")],
        (f"COINBASE_API_KEY={NAME}", has("'='", 17)),
        ("organizations/a b", has("' '", 16)),
        ("organizations/a,b", has("','", 16)),
        ("organizations/a\x1b[31m", has(r"'\x1b'", 16)),
        ("organizations/a\nb", has(r"'\n'", 16)),
        ("ключ", has(r"'\u043a'", 1)),
        ('a"b', has("'\"'", 2)),
        ("a.b/" * 75, f"the key's name has 300 characters{TAKE_NAME}"),
        ("n" * 9000, f"the key's name has 9000 characters, and a key has about 250{AGAIN}"),
    ],
    ids=short,
)  # fmt: skip
def test_name_that_is_none_is_refused(name, message):
    secret = f"{name}|{PORTAL}"
    assert refused(lambda: cdp_jwt.ApiKey(name, PORTAL), secret) == message


def test_swapped_is_said_of_what_is_swapped():
    for secret in (SEC1, PORTAL, BARE_SEED):
        for name in (NAME, UUID, f" {NAME}\n"):
            message = refused(functools.partial(cdp_jwt.ApiKey, secret, name), secret)
            assert message == SWAPPED


def test_name_is_mended_as_the_secret_is():
    for templates, repairs in WRAPPINGS.items():
        for template in templates:
            key = cdp_jwt.ApiKey(template.format(NAME), PORTAL)
            assert key.name == NAME
            names = [repair.replace("secret:", "name:", 1) for repair in repairs]
            assert sorted(key.repairs) == sorted(names)


KNOWN_NAMES = [
    *[NAME, UUID, UUID.upper(), "organizations/exampleorg/apiKeys/examplekey"],
    f"organizations/{'a' * 32}/apiKeys/{'b' * 32}",
    f"organizations/{'a1B' * 12}/apiKeys/{'b1C' * 12}",
]
NICKNAMES = [
    *["my-key", f"apiKeys/{UUID}", "n" * 39, UUID.replace("-", "")],
    *[f"{UUID}0", f"{NAME}/x"],
    "a.b/" * 74 + "n.n",  # the longest
]


@pytest.mark.parametrize("name", KNOWN_NAMES + NICKNAMES)
def test_name_of_no_known_form_signs_with_a_warning(name):
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
    environ = {"COINBASE_API_KEY": NAME, "COINBASE_API_SECRET": secret}
    dressed = {variable: dress(value) for variable, value in environ.items()}
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
    for call in (
        lambda: cdp_jwt.ApiKey(wrong, PORTAL),
        lambda: cdp_jwt.ApiKey(NAME, wrong),
        lambda: cdp_jwt.build_ws_jwt(wrong, PORTAL),
        lambda: cdp_jwt.build_ws_jwt(NAME, wrong),
    ):
        found = f"is {type(wrong).__name__}, not text; is it set?"
        assert refused(call, PORTAL).endswith(found)
    environ = {"CDP_KEY_FILE": wrong, **ADVANCED}
    if wrong is not None:
        message = f"CDP_KEY_FILE is {type(wrong).__name__}, not text"
        assert refused(lambda: cdp_jwt.ApiKey.from_env(environ), SEC1) == message
    refused(lambda: cdp_jwt.ApiKey.from_env(wrong))


RUNS = ["\\", '"', "`", "'", "\ufeff", "A", "/", "\n", "-", "{", "[", "<", "%0A", "-----BEGIN A-----",
        "-----END A-----", "BEGIN ", "Proc-Type:", "organizations/", "n", "rn", "=", "x", " ", ":", "a=b\n"]  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_time_for_a_key_is_linear_in_its_length(run, tmp_path):
    """A name, a secret, a path and a file, each up to its limit: 2n to n."""
    path = tmp_path / "key.json"

    def seconds(size: int) -> float:
        text = f"x{run * size}"[: size - 1] + "x"
        path.write_text(text * 8, encoding="utf-8")
        start = time.process_time()
        for call in (
            lambda: cdp_jwt.ApiKey(NAME, text),
            lambda: cdp_jwt.ApiKey(text, PORTAL),
            lambda: cdp_jwt.ApiKey.from_file(text),
            lambda: cdp_jwt.ApiKey.from_file(path, NAME),
            lambda: cdp_jwt.ApiKey.from_env({"CDP_KEY_FILE": text}),
        ):
            with pytest.raises(cdp_jwt.InvalidKeyError):
                call()
        return time.process_time() - start

    seconds(1000)  # what is imported on the way
    limit = cdp_jwt.MAX_KEY_TEXT
    half = min(seconds(limit // 2) for _ in range(5))
    assert min(seconds(limit) for _ in range(5)) < 3 * half + 0.02
    with pytest.raises(cdp_jwt.InvalidKeyError, match="about 250"):
        cdp_jwt.ApiKey(NAME, run * 65536)


# Key files.

JSON_FILES = {
    "portal until 2025": {"name": NAME, "privateKey": SEC1},
    "portal today": {"id": NAME, "privateKey": PORTAL},
    "cdpcurl": {"id": NAME, "secret": PORTAL},
    "apiKeyName": {"apiKeyName": NAME, "privateKey": SEC1},
    "sample SDKs": {"accessKey": NAME, "privatePemKey": SEC1},
    "extra fields": {"id": NAME, "privateKey": PORTAL, **EXTRA},
    "nickname and name": {"id": "my key", "name": NAME, "privateKey": SEC1},
    "name and nickname": {"id": NAME, "name": "my key", "privateKey": SEC1},
    "escaped twice": {"name": NAME, "privateKey": SEC1.replace("\n", r"\n")},
}


@pytest.mark.parametrize("variant", JSON_FILES)
def test_json_key_file_is_read(variant, tmp_path):
    fields = JSON_FILES[variant]
    path = write_private(tmp_path / "key.json", fields)
    key = cdp_jwt.ApiKey.from_file(path)
    private_key = ED25519 if PORTAL in fields.values() else P256
    assert verified(key.ws_jwt(), private_key)["kid"] == NAME


JSON_TEXT = json.dumps({"id": NAME, "privateKey": SEC1}, indent=4)


@pytest.mark.parametrize(
    "content",
    [
        JSON_TEXT.encode("utf-8-sig"),
        JSON_TEXT.replace("\n", "\r\n").encode(),
        JSON_TEXT.replace(r"\n", "\n").encode(),
        JSON_TEXT.encode("utf-16"),
        b"\xfe\xff" + JSON_TEXT.encode("utf-16-be"),
        SEC1.encode("utf-16"),
        f"Key Attributes: <No Attributes>\n{SEC1}".encode(),
    ],
    ids=["mark", "CRLF", "line breaks", "UTF-16", "big end", "PEM", "openssl pkcs12"],
)
def test_key_file_is_read_as_editors_and_powershell_leave_it(content, tmp_path):
    path = write_private(tmp_path / "key.json", "")
    path.write_bytes(content)
    for place in (path, str(path), bytes(path)):
        assert cdp_jwt.ApiKey.from_file(place, NAME).name == NAME


@pytest.mark.parametrize("form", FORMS)
def test_key_file_with_the_secret_alone_takes_its_name_beside(form, tmp_path):
    path = write_private(tmp_path / "key.pem", FORMS[form])
    assert cdp_jwt.ApiKey.from_file(path, NAME).name == NAME
    message = refused(lambda: cdp_jwt.ApiKey.from_file(path), FORMS[form])
    assert message == (
        f"{path}: not JSON, so give the key's name, too (--key-name, or CDP_API_KEY_ID"
        " beside CDP_KEY_FILE)"
    )


def test_key_file_takes_the_name_beside_unless_it_has_another(tmp_path, key_file):
    path = write_private(tmp_path / "key.json", {"privateKey": SEC1})
    assert cdp_jwt.ApiKey.from_file(path, UUID).name == UUID
    assert cdp_jwt.ApiKey.from_file(key_file, NAME).name == NAME
    message = refused(lambda: cdp_jwt.ApiKey.from_file(key_file, UUID), SEC1)
    assert message == f"{key_file}: {OTHER_NAME}"


EXPECTED_ONE = (
    "expected one of id, name, apiKeyName, accessKey and one of privateKey, secret,"
    " privatePemKey"
)
DOTENV = (
    "lines of NAME=value (.env); load them into the environment, by `uv run --env-file"
    " FILE` or `set -a; . FILE`, and give no key file"
)
YAML = "YAML; expected the portal's JSON, or the PEM of one key"
OVER = "over 64 KiB; expected the JSON or PEM of one key"
EMPTY_FILE = "empty; expected the JSON or PEM of one key"
NOT_TEXT = "not text (UTF-8, or UTF-16 with its mark); expected JSON or PEM"
BINARY = "DER, not text; make it PEM: openssl pkey -inform DER -in OLD -out NEW"
PKCS12 = "PKCS12; take its key: openssl pkcs12 -nodes -nocerts -in OLD -out NEW"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", EMPTY_FILE),
        (" \n\n", EMPTY_FILE),
        ("{", BAD_JSON),
        *[('{"a":' * depth, BAD_JSON) for depth in (500, 1495, 12000)],  # 1,495 are too deep on 3.12
        ("[" * 60000, ARRAY),
        ("{}", f"0 names and 0 secrets; {EXPECTED_ONE}"),
        ({"id": NAME, "privateKey": SEC1, "secret": PORTAL}, f"1 names and 2 secrets; {EXPECTED_ONE}"),
        ({"id": NAME, "publicKey": "MFkw"}, f"1 names and 0 secrets; {EXPECTED_ONE}"),
        ({"privateKey": SEC1}, f"0 names and 1 secrets; {EXPECTED_ONE}"),
        ({"secret": base64_of(64), "passphrase": "x"}, f"this is a Coinbase Exchange key{CREATE}"),
        ({"kty": "EC", "d": BARE_SEED}, JWK),
        ({"id": 7, "privateKey": SEC1}, "the key's name is int, not text; is it set?"),
        ({"id": NAME, "privateKey": {"kty": "EC"}}, "the key's secret is dict, not text; is it set?"),
        ({"id": NAME, "privateKey": public_pem(P256)}, PUBLIC),
        (f"COINBASE_API_KEY={NAME}\nCOINBASE_API_SECRET={PORTAL}\n", DOTENV),
        (f'# Coinbase\nexport A="{SEC1}"', DOTENV),
        (f"\n# Coinbase\n\nset A={NAME}\nset B={PORTAL}\n", DOTENV),
        (f"name: {NAME}\nprivateKey: {PORTAL}\n", YAML),
        (f"---\n# Coinbase\nprivateKey: |\n  {SEC1}", YAML),
        (base64.b64decode(body(PKCS8)), BINARY),
        (base64.b64decode(body(ED_PEM)), BINARY),
        (bytes.fromhex("3082035902010330820315") + b"\xff" * 99, PKCS12),
        (b"\xff\xff\0\1", NOT_TEXT),
        (SEC1.encode("utf-16-le"), NOT_TEXT),
    ],
    ids=short,
)  # fmt: skip
def test_key_file_without_a_key_is_refused(content, message, tmp_path):
    path = write_private(tmp_path / "key.json", "")
    content = json.dumps(content) if isinstance(content, dict) else content
    octets = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(octets)
    secret = f"{SEC1}|{PORTAL}|{PKCS8}|{ED_PEM}"
    assert (
        refused(lambda: cdp_jwt.ApiKey.from_file(path), secret) == f"{path}: {message}"
    )


def test_key_file_is_read_up_to_64_kib(key_file):
    key_file.write_text(JSON_TEXT.ljust(65536))
    assert cdp_jwt.ApiKey.from_file(key_file).name == NAME
    key_file.write_text(JSON_TEXT.ljust(65537))
    message = refused(lambda: cdp_jwt.ApiKey.from_file(key_file), SEC1)
    assert message == f"{key_file}: {OVER}"
    if os.path.exists("/dev/zero"):
        message = refused(lambda: cdp_jwt.ApiKey.from_file("/dev/zero"))
        assert message == f"/dev/zero: {OVER}"


def test_key_file_that_cannot_be_read_says_why_under_the_path_as_given(tmp_path):
    is_folder = "Is a directory" if os.name == "posix" else "Permission denied"
    for path, shown, reason in (
        (f"{tmp_path}/key", f"{tmp_path}/key", "No such file or directory"),
        ("run/secrets/cdp_key", "run/secrets/cdp_key", "No such file or directory"),
        (f"{tmp_path}/a\nb\x1b", rf"{tmp_path}/a\nb\x1b", "No such file or directory"),
        (tmp_path, tmp_path, is_folder),
        ("a\0b", r"a\x00b", "closed, or not a path"),
    ):
        message = refused(functools.partial(cdp_jwt.ApiKey.from_file, path))
        assert message == f"{shown}: cannot be read: {reason}"


IS_TEXT = (
    "this is the text of a key, where the path of a key file is expected; give the path,"
    " or use ApiKey(name, secret) or COINBASE_API_KEY and _SECRET"
)
URL_SAFE = base64.urlsafe_b64encode(bytes(range(190, 254))).decode()
HIDDEN = "the key file (its path looks like a key): cannot be read: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[(text, IS_TEXT) for text in (SEC1, PORTAL, BARE_SEED, URL_SAFE, SEC1.replace("\n", r"\n"),
                                       f"{SEC1}\0", JSON_TEXT)],
        *[(text, HIDDEN) for text in (PORTAL.rstrip("="), raw(ED25519).hex(), LEGACY_SECRET, body(SEC1),
                                      URL_SAFE.rstrip("="), f"/tmp/{PORTAL[:60]}", f"x={PORTAL}.json")],
        ("", "the key file's path is empty; give the file's path"),
        (None, "the key file's path is NoneType, not text; give the file's path"),
        (7, "the key file's path is int, not text; give the file's path"),
    ],
    ids=short,
)  # fmt: skip
def test_key_text_in_place_of_a_path_is_not_shown(text, message, tmp_path, monkeypatch):
    """Nor read, even if there is such a file, as there may be by chance."""
    secret = f"{text}|{BARE_SEED}"
    assert refused(lambda: cdp_jwt.ApiKey.from_file(text), secret).startswith(message)
    if text and isinstance(text, str):
        environ = {"CDP_KEY_FILE": text}
        found = refused(lambda: cdp_jwt.ApiKey.from_env(environ), secret)
        assert found.startswith(message)
    if message == IS_TEXT and not set(text) & set("/\0\n"):
        monkeypatch.chdir(tmp_path)
        write_private(tmp_path / text, JSON_TEXT)
        assert refused(lambda: cdp_jwt.ApiKey.from_file(text), secret) == IS_TEXT


def test_key_file_in_the_home_directory_is_found(key_file, monkeypatch):
    monkeypatch.setenv("HOME", str(key_file.parent))
    monkeypatch.setenv("USERPROFILE", str(key_file.parent))
    assert cdp_jwt.ApiKey.from_file("~/cdp_api_key.json").name == NAME
    path = f"~/{LEGACY_SECRET}"  # which is shown, as it is there
    (key_file.parent / LEGACY_SECRET).touch()
    message = refused(lambda: cdp_jwt.ApiKey.from_file(path))
    assert message == f"{path}: {EMPTY_FILE}"


@needs_modes
@pytest.mark.parametrize(
    ("mode", "verbs"),
    [
        *[(0o600, ""), (0o400, ""), (0o611, "")],
        *[(0o640, "read"), (0o604, "read"), (0o620, "change"), (0o602, "change")],
        (0o666, "read and change"),
    ],
)
def test_key_file_that_is_not_its_owners_alone_gets_a_warning(
    key_file, mode, verbs, caplog
):
    key_file.chmod(mode)
    assert cdp_jwt.ApiKey.from_file(key_file).name == NAME
    message = f"{key_file}: group or others can {verbs} this key; chmod 600 it"
    assert caplog.messages == ([message] if verbs else [])


@needs_modes
def test_key_file_whose_mode_cannot_be_changed_gets_no_warning(
    key_file, monkeypatch, caplog
):
    """As in a read-only mount of Docker, Kubernetes or systemd; PyPy has no ST_RDONLY."""
    key_file.chmod(0o644)
    monkeypatch.delattr(os, "ST_RDONLY", raising=False)
    flags = types.SimpleNamespace(f_flag=1)
    monkeypatch.setattr(os, "statvfs", lambda _: flags)
    assert cdp_jwt.ApiKey.from_file(key_file).name == NAME
    assert caplog.messages == []


def test_key_comes_from_standard_input(stdin, monkeypatch):
    stdin(JSON_TEXT)
    assert cdp_jwt.ApiKey.from_file("-").name == NAME
    stdin(SEC1)
    assert cdp_jwt.ApiKey.from_file("-", NAME).algorithm == "ES256"
    stdin("no key at all")
    message = f"standard input: {NEITHER}"
    assert refused(lambda: cdp_jwt.ApiKey.from_file("-", NAME)) == message
    monkeypatch.setattr(sys, "stdin", None)
    message = "standard input: cannot be read: closed, or not a path"
    assert refused(lambda: cdp_jwt.ApiKey.from_file("-")) == message


@needs_modes
def test_key_file_may_be_a_pipe_of_the_shell(caplog):
    """As in `--key-file <(op read ...)`; nobody can change its mode."""
    reading, writing = os.pipe()
    os.write(writing, JSON_TEXT.encode())
    os.close(writing)
    assert cdp_jwt.ApiKey.from_file(f"/dev/fd/{reading}").name == NAME
    os.close(reading)
    assert caplog.messages == []


def test_allowed_ips_of_the_key_file_are_kept(tmp_path):
    allowed = ["203.0.113.7", "2001:db8::/32"]
    fields = {"id": NAME, "privateKey": SEC1, "allowedIps": allowed}
    key = cdp_jwt.ApiKey.from_file(write_private(tmp_path / "key.json", fields))
    assert key.allowed_ips == tuple(allowed)


# Environment.

ADVANCED = {"COINBASE_API_KEY": NAME, "COINBASE_API_SECRET": SEC1}
CDP = {"CDP_API_KEY_ID": NAME, "CDP_API_KEY_SECRET": SEC1}
CDP_NAME = {"CDP_API_KEY_NAME": NAME, "CDP_API_KEY_SECRET": SEC1}
SET = (
    "set CDP_KEY_FILE (or give --key-file), or COINBASE_API_KEY and COINBASE_API_SECRET,"
    " or CDP_API_KEY_ID and CDP_API_KEY_SECRET, or CDP_API_KEY_NAME and CDP_API_KEY_SECRET"
)
FROM_ADVANCED = "COINBASE_API_KEY and COINBASE_API_SECRET"


@pytest.mark.parametrize(
    "environ",
    [
        ADVANCED,
        CDP,
        CDP_NAME,
        {**CDP, "CDP_API_KEY_NAME": UUID},
        {**ADVANCED, "CDP_API_KEY_ID": UUID, "CDP_API_KEY_SECRET": pem(OTHER_P256)},
        {**ADVANCED, "CDP_API_KEY_ID": UUID},
        {**CDP, "COINBASE_API_KEY": " "},
        {**CDP, "COINBASE_API_KEY": '""', "COINBASE_API_SECRET": '""'},
        {**CDP, "COINBASE_API_KEY": UUID},
    ],
)
def test_first_pair_of_variables_that_is_complete_counts(environ, monkeypatch):
    assert cdp_jwt.ApiKey.from_env(environ).name == NAME
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    assert verified(cdp_jwt.ApiKey.from_env().ws_jwt(), P256)["kid"] == NAME


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
        ({"CDP_API_KEY_ID": "x", "KEY_NAME": NAME},
         f"CDP_API_KEY_ID is set alone (KEY_NAME: set, but not read); {SET}"),
        ({**ADVANCED, "COINBASE_API_SECRET": public_pem(P256)}, f"{FROM_ADVANCED}: {PUBLIC}"),
        ({**CDP, **ADVANCED, "COINBASE_API_SECRET": NAME}, f"{FROM_ADVANCED}: {IS_NAME}"),
        ({"CDP_API_KEY_ID": SEC1, "CDP_API_KEY_SECRET": NAME},
         f"CDP_API_KEY_ID and CDP_API_KEY_SECRET: {SWAPPED}"),
    ],
    ids=short,
)  # fmt: skip
def test_environment_without_a_key_is_refused(environ, message):
    assert refused(lambda: cdp_jwt.ApiKey.from_env(environ), SEC1) == message


def test_key_file_of_the_environment_comes_first(key_file):
    for path in (str(key_file), f'"{key_file}"', f"'{key_file}' "):
        environ = {"CDP_KEY_FILE": path, "COINBASE_API_KEY": "half set"}
        assert cdp_jwt.ApiKey.from_env(environ).name == NAME
    missing = {"CDP_KEY_FILE": "missing.json", **ADVANCED}
    message = "missing.json: cannot be read: No such file or directory"
    assert refused(lambda: cdp_jwt.ApiKey.from_env(missing), SEC1) == message


@pytest.mark.parametrize(
    "variable", ["CDP_API_KEY_ID", "CDP_API_KEY_NAME", "COINBASE_API_KEY"]
)
def test_pem_of_the_environment_takes_its_name_from_there(variable, tmp_path, key_file):
    """As Docker, Kubernetes and systemd mount secrets. JSON has a name of its own."""
    path = write_private(tmp_path / "key.pem", SEC1)
    environ = {"CDP_KEY_FILE": str(path), variable: UUID}
    assert cdp_jwt.ApiKey.from_env(environ).name == UUID
    environ["CDP_KEY_FILE"] = str(key_file)
    assert cdp_jwt.ApiKey.from_env(environ).name == NAME


# At random: a key is refused, without key text, or it is the very key that was given.

KEY_NAMES = st.sampled_from([NAME, UUID, "my-key", f" {NAME}\n", f'"{UUID}"', "ключ"])
ALL_FORMS = "|".join([SEC1, PKCS8, PORTAL, ED_PEM])
AT_RANDOM = [
    dress(secret) for dress, _, forms in WAYS.values() for secret in forms.values()
]
JSON_SECRETS = st.sampled_from([SEC1, PORTAL, PKCS8]) | mutations(AT_RANDOM)
MORE_FIELDS = ("name", "apiKeyName", "secret", "allowedIps", "passphrase")
KEY_FILES = st.fixed_dictionaries(
    {"id": KEY_NAMES, "privateKey": JSON_SECRETS},
    optional=dict.fromkeys(MORE_FIELDS, KEY_NAMES | JSON_SECRETS | JSON_VALUES),
)
TEXT_FILES = KEY_FILES.map(json.dumps) | mutations(
    [*map(json.dumps, JSON_FILES.values()), *AT_RANDOM]
)


def assert_refused_or_the_same_key(make: Callable[[], cdp_jwt.ApiKey]) -> None:
    try:
        key = make()
    except cdp_jwt.InvalidKeyError as error:
        assert_secret_free(error, ALL_FORMS)
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
    is_text = isinstance(content, str)
    path = write_private(tmp_path / "key.json", "")
    path.write_bytes(content.encode("utf-8", "replace") if is_text else content)
    assert_refused_or_the_same_key(lambda: cdp_jwt.ApiKey.from_file(path, name))


# In place of a path: a whole secret. A few characters of one look like a file's name.
VARIABLES = {
    **dict.fromkeys([*ADVANCED, *CDP, *CDP_NAME], KEY_NAMES | JSON_SECRETS | st.text(max_size=9)),
    "CDP_KEY_FILE": st.sampled_from(["missing", "", *AT_RANDOM]),
}  # fmt: skip


@examples(100)
@given(environ=st.fixed_dictionaries({}, optional=VARIABLES))
def test_any_environment_is_refused_or_the_same_key(environ):
    assert_refused_or_the_same_key(lambda: cdp_jwt.ApiKey.from_env(environ))


# ------------------------------------------------------------------- 4. signing


class Vectors:
    """Counts what is compared with published vectors; a run's last lines tell it."""

    def __init__(self) -> None:
        self.compared: collections.Counter[str] = collections.Counter()
        self.notes: list[str] = []

    def __call__(self, origin: str) -> None:
        self.compared[origin] += 1

    def pytest_terminal_summary(self, terminalreporter) -> None:
        told = [f"{count} {origin}" for origin, count in self.compared.items()]
        for line in (f"vectors: {', '.join(told)}", *self.notes):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def vectors(pytestconfig) -> Vectors:
    counted = Vectors()
    pytestconfig.pluginmanager.register(counted)
    return counted


KEY_FILES = r"\.(pem|key|pub)$"
VECTOR_FILES = {  # file or folder -> (pattern of an entry, how many there are)
    "Ed25519/sign.input": (r"^[0-9a-f]{128}:[0-9a-f]{64}:[0-9a-f]*:[0-9a-f]{128,}:$", 1024),
    "ECDSA/FIPS_186-3/SigGen.txt": (r"^\[P-256,SHA-256\]$(?:\s+\w+ = \w+){105}\s+\[", 1),
    "ECDSA/RFC6979/evppkey_ecdsa_rfc6979.txt": (r"^DigestSign = SHA256\nKey = P-256_PRIV$", 2),
    "EC": (KEY_FILES, 23),
    "OpenSSH": (KEY_FILES, 30),
    "PKCS8": (KEY_FILES, 52),
    "PEM_Serialization": (KEY_FILES, 12),
    "Traditional_OpenSSL_Serialization": (KEY_FILES, 13),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTOR_FILES)
def test_vector_file_is_there_and_has_not_shrunk(name):
    """Of the folders of key files, `cryptography_vectors` may ship more than these."""
    pattern, count = VECTOR_FILES[name]
    path = VECTORS / name
    folder = path.is_dir()
    text = "\n".join(os.listdir(path)) if folder else vector(name)
    found = len(re.findall(pattern, text, re.MULTILINE))
    assert found >= count if folder else found == count


def test_signature_of_ed25519_is_rfc_8037_a_4(vectors):
    """RFC 8037, appendix A.4, octet for octet."""
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    private_key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    assert cdp_jwt._base64url(b'{"alg":"EdDSA"}') == b"eyJhbGciOiJFZERTQSJ9"
    payload = cdp_jwt._base64url(b"Example of Ed25519 signing")
    key = cdp_jwt.ApiKey(NAME, portal(private_key))
    signature = key._sign(b"eyJhbGciOiJFZERTQSJ9." + payload)
    assert cdp_jwt._base64url(signature).decode() == (
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )
    vectors("RFC 8037 A.4")


RFC_7515_A_3_KEY = ec.EllipticCurvePublicNumbers(
    int.from_bytes(
        base64.urlsafe_b64decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU="), "big"
    ),
    int.from_bytes(
        base64.urlsafe_b64decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0="), "big"
    ),
    ec.SECP256R1(),
)


def test_signature_of_p256_has_the_form_of_rfc_7515_a_3(vectors):
    """RFC 7515, appendix A.3: its r and s, through DER and back, and what they sign."""
    header = cdp_jwt._base64url(b'{"alg":"ES256"}')
    claims = cdp_jwt._base64url(
        b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
    )
    assert header == b"eyJhbGciOiJFUzI1NiJ9"
    raw_signature = base64.urlsafe_b64decode(
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q=="
    )
    r, s = (
        int.from_bytes(half, "big") for half in (raw_signature[:32], raw_signature[32:])
    )
    der = utils.encode_dss_signature(r, s)
    assert cdp_jwt._raw_signature(der) == raw_signature
    RFC_7515_A_3_KEY.public_key().verify(
        der, header + b"." + claims, ec.ECDSA(hashes.SHA256())
    )
    vectors("RFC 7515 A.3")


# RFC 6979, appendix A.2.5: the key, and (message, r, s) for P-256 with SHA-256.
RFC_6979_KEY = ec.derive_private_key(
    0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, ec.SECP256R1()
)
RFC_6979 = [
    (
        b"sample",
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
    ),
    (
        b"test",
        "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
        "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
    ),
]
# With that key, messages whose r or s needs fewer octets than 32: (message, r, s).
SHORT = [
    (b"192", 32, 31),
    (b"281", 31, 32),
    (b"67895", 31, 31),
    (b"95258", 32, 30),
    (b"148885", 30, 32),
]


def deterministic(message: bytes) -> bytes:
    """A DER signature by RFC 6979, or skip where `cryptography` or OpenSSL cannot."""
    try:
        scheme = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        return RFC_6979_KEY.sign(message, scheme)
    except (TypeError, cryptography.exceptions.UnsupportedAlgorithm):
        pytest.skip("deterministic ECDSA needs cryptography >= 43 on OpenSSL >= 3.2")


@pytest.mark.parametrize(("message", "r", "s"), RFC_6979)
def test_signature_of_p256_is_rfc_6979_a_2_5(vectors, message, r, s):
    assert cdp_jwt._raw_signature(deterministic(message)).hex().upper() == r + s
    vectors("RFC 6979 A.2.5")


@pytest.mark.parametrize(("message", "r", "s"), RFC_6979)
def test_der_of_rfc_6979_a_2_5_becomes_r_and_s_on_every_version(message, r, s):
    der = utils.encode_dss_signature(int(r, 16), int(s, 16))
    assert cdp_jwt._raw_signature(der).hex().upper() == r + s


@pytest.mark.parametrize(("message", "r_octets", "s_octets"), SHORT)
def test_short_r_and_s_are_padded(vectors, message, r_octets, s_octets):
    der = deterministic(message)
    numbers = utils.decode_dss_signature(der)
    assert [(number.bit_length() + 7) // 8 for number in numbers] == [
        r_octets,
        s_octets,
    ]
    signature = cdp_jwt._raw_signature(der)
    assert len(signature) == 64
    assert int.from_bytes(signature[:32], "big") == numbers[0]
    assert int.from_bytes(signature[32:], "big") == numbers[1]
    vectors("short r or s")


@pytest.mark.parametrize("octets", range(1, 33))
def test_r_and_s_of_any_length_are_padded(octets):
    r, s = 1 << 8 * octets - 1, 0x7F << 8 * (octets - 1)
    signature = cdp_jwt._raw_signature(utils.encode_dss_signature(r, s))
    assert signature == r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_signature_of_ed25519_is_each_of_the_1024_of_its_authors(vectors):
    """`sign.input` of Bernstein et al.: seed and public key : public : message : sm."""
    lines = vector("Ed25519/sign.input").split()
    assert len(lines) == 1024
    for line in lines:
        seed_and_public, _, message, signed = line.split(":")[:4]
        text = base64.b64encode(bytes.fromhex(seed_and_public)).decode()
        key = cdp_jwt.ApiKey(NAME, text)
        signature = key._sign(bytes.fromhex(message))
        assert signature.hex() == signed[:128]
        vectors("Ed25519 sign.input")


def fips_186_3() -> list[dict[str, str]]:
    """The P-256, SHA-256 cases of SigGen.txt, as lists of `Name = hex`."""
    section = vector("ECDSA/FIPS_186-3/SigGen.txt").split("[P-256,SHA-256]")[1]
    fields = re.findall(r"^(\w+) = (\w+)", section.split("[", 1)[0], re.MULTILINE)
    return [dict(fields[i : i + 7]) for i in range(0, len(fields), 7)]


def test_fips_186_3_vectors_verify_through_the_raw_form(vectors):
    """Keys from their scalar, signatures from r and s; the token's own one as well."""
    cases = fips_186_3()
    assert len(cases) == 15
    for case in cases:
        private_key = ec.derive_private_key(int(case["d"], 16), ec.SECP256R1())
        key = cdp_jwt.ApiKey(NAME, pem(private_key))
        numbers = key._private_key.public_key().public_numbers()
        assert (numbers.x, numbers.y) == (int(case["Qx"], 16), int(case["Qy"], 16))
        der = utils.encode_dss_signature(int(case["R"], 16), int(case["S"], 16))
        assert cdp_jwt._raw_signature(der).hex() == case["R"] + case["S"]
        message = bytes.fromhex(case["Msg"])
        private_key.public_key().verify(der, message, ec.ECDSA(hashes.SHA256()))
        verified(key.ws_jwt(), private_key)
        vectors("FIPS 186-3 SigGen")


def test_rfc_6979_vectors_of_cryptography_are_reproduced(vectors):
    text = vector("ECDSA/RFC6979/evppkey_ecdsa_rfc6979.txt")
    cases = re.findall(
        r"DigestSign = SHA256\nKey = P-256_PRIV\nNonceType = deterministic\n"
        r'Input = "(\w+)"\nOutput = (\w+)',
        text,
    )
    assert len(cases) == 2
    for message, der in cases:
        assert deterministic(message.encode()).hex() == der.lower()
        vectors("RFC 6979 of OpenSSL")


@pytest.mark.parametrize("octets", range(64))
def test_base64url_has_its_alphabet_and_no_padding(octets):
    """RFC 7515, section 2, against a plain definition of the encoding."""
    content = bytes((octets * 37 + 251 * i) % 256 for i in range(octets))
    bits = "".join(f"{octet:08b}" for octet in content)
    bits += "0" * (-len(bits) % 6)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    plain = "".join(alphabet[int(bits[i : i + 6], 2)] for i in range(0, len(bits), 6))
    assert cdp_jwt._base64url(content).decode() == plain


@pytest.mark.parametrize(("algorithm", "count"), [("ES256", 10_000), ("EdDSA", 1_000)])
def test_thousands_of_tokens_verify(private_key, key, count):
    """Among 10,000 ES256 signatures about 78 have an r or s that is short."""
    jwk = joserfc.jwk.import_key(
        public_pem(private_key), "OKP" if count == 1_000 else "EC"
    )
    nonces, short = set(), 0
    for number in range(count):
        token = key.rest_jwt("GET", f"{ACCOUNTS}/{number}")
        claims = jwt.decode(token, private_key.public_key(), [key.algorithm])
        assert claims["uri"] == f"GET api.coinbase.com{ACCOUNTS}/{number}"
        seen = joserfc.jwt.decode(token, jwk, registry=JOSERFC)
        nonces.add(seen.header["nonce"])
        signature = segments(token)[2]
        assert len(signature) == 64
        short += 0 in (signature[0], signature[32])
    assert len(nonces) == count
    assert count == 1_000 or 20 < short < 200


# -------------------------------------------------------------------- 5. tokens


def test_rest_token_is_exactly_what_coinbase_documents(key, private_key, frozen):
    token = key.rest_jwt("GET", ACCOUNTS)
    header, claims, signature = segments(token)
    nonce = json.loads(header)["nonce"]
    assert re.fullmatch("[0-9a-f]{64}", nonce)
    assert json.loads(header) == {
        "alg": key.algorithm,
        "typ": "JWT",
        "kid": NAME,
        "nonce": nonce,
    }
    assert json.loads(claims) == {
        "sub": NAME,
        "iss": "cdp",
        "nbf": frozen - 5,
        "exp": frozen + 115,
        "uri": "GET api.coinbase.com/api/v3/brokerage/accounts",
    }
    assert len(signature) == 64
    verified(token, private_key)


def test_websocket_token_has_no_uri(key, private_key, frozen):
    header, claims, _ = segments(key.ws_jwt())
    assert json.loads(header)["kid"] == NAME
    assert json.loads(claims) == {
        "sub": NAME,
        "iss": "cdp",
        "nbf": frozen - 5,
        "exp": frozen + 115,
    }
    verified(key.ws_jwt(), private_key)


def test_clock_is_read_once_for_a_token(key, monkeypatch):
    readings = []
    monkeypatch.setattr(time, "time", lambda: readings.append(1) or NOW + len(readings))
    token = json.loads(segments(key.ws_jwt())[1])
    assert len(readings) == 1
    assert token["exp"] - token["nbf"] == 120


def test_nonce_is_new_each_time(key):
    nonces = {jwt.get_unverified_header(key.ws_jwt())["nonce"] for _ in range(100)}
    assert len(nonces) == 100


UTC = datetime.timezone.utc
PLUS_2 = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.parametrize(
    ("not_before", "nbf"),
    [
        (NOW + 3600, NOW + 3600),
        (NOW - 119, NOW - 119),
        (10**11 - 1, 10**11 - 1),
        (datetime.datetime.fromtimestamp(NOW + 60, UTC), NOW + 60),
        (datetime.datetime.fromtimestamp(NOW + 60.7, PLUS_2), NOW + 60),
    ],
)
def test_not_before_dates_a_token_for_a_later_window(
    key, private_key, frozen, not_before, nbf
):
    for token in (
        key.rest_jwt("GET", ACCOUNTS, not_before=not_before),
        key.ws_jwt(not_before=not_before),
    ):
        claims = verified(token, private_key)
        assert (claims["nbf"], claims["exp"]) == (nbf, nbf + 120)


@pytest.mark.parametrize(
    ("not_before", "message"),
    [
        (NOW - 120, "not_before: such a token would have expired already"),
        (0, "not_before: such a token would have expired already"),
        (-1, "not_before is neither an int of epoch seconds nor an aware datetime"),
        (10**11, "not_before is neither an int of epoch seconds nor an aware datetime"),
        (datetime.datetime(2020, 1, 1), "not_before is neither an int of epoch seconds nor an aware datetime"),
        (NOW + 0.5, "not_before is neither an int of epoch seconds nor an aware datetime"),
        ("2026-01-01", "not_before is neither an int of epoch seconds nor an aware datetime"),
        (True, "not_before is neither an int of epoch seconds nor an aware datetime"),
        (NOW * 1000, "not_before is neither an int of epoch seconds nor an aware datetime"),
    ],
)  # fmt: skip
def test_not_before_that_makes_no_token_is_refused(key, frozen, not_before, message):
    with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
        key.ws_jwt(not_before=not_before)
    assert str(caught.value) == message


LONG_HOST = ".".join(["a" * 63] * 3 + ["a" * 61])  # the 253 characters that DNS takes
WITH_UUID = "/v2/accounts/2bbf394c-193b-5b2a-9155-3b4732659ede/transactions"
# (method, path or URL, host) -> uri
REQUESTS = [
    (("GET", ACCOUNTS), "GET api.coinbase.com/api/v3/brokerage/accounts"),
    (("get", ACCOUNTS), "GET api.coinbase.com/api/v3/brokerage/accounts"),
    (("Post", ORDERS), "POST api.coinbase.com/api/v3/brokerage/orders"),
    (("put", "/v2/user"), "PUT api.coinbase.com/v2/user"),
    (("delete", WITH_UUID), f"DELETE api.coinbase.com{WITH_UUID}"),
    (("patch", "/v2/user"), "PATCH api.coinbase.com/v2/user"),
    (("head", "/"), "HEAD api.coinbase.com/"),
    (("GET", f"{ACCOUNTS}?limit=1&x=/../#"[:-1]), "GET api.coinbase.com/api/v3/brokerage/accounts"),
    (("GET", f"{ACCOUNTS}?"), "GET api.coinbase.com/api/v3/brokerage/accounts"),
    (("GET", "/a?b?c"), "GET api.coinbase.com/a"),
    (("GET", "/v2/x%20y%2Fz"), "GET api.coinbase.com/v2/x%20y%2Fz"),
    (("GET", '/v2/a"b'), 'GET api.coinbase.com/v2/a"b'),
    (("GET", "/v2/a..b/.c/d./..."), "GET api.coinbase.com/v2/a..b/.c/d./..."),
    (("GET", "/platform/v2/evm"), "GET api.coinbase.com/platform/v2/evm"),
    (("GET", "/a//b/"), "GET api.coinbase.com/a//b/"),
    (("GET", "/a:b@c"), "GET api.coinbase.com/a:b@c"),
    (("GET", f"https://api.coinbase.com{ACCOUNTS}?limit=1"), "GET api.coinbase.com/api/v3/brokerage/accounts"),
    (("GET", "HTTPS://API.Coinbase.com/v2/user"), "GET api.coinbase.com/v2/user"),
    (("GET", "https://api.cdp.coinbase.com:443/x"), "GET api.cdp.coinbase.com/x"),
    (("GET", "https://localhost:8443/x?u=https://y"), "GET localhost:8443/x"),
    (("GET", "/x?u=https://y"), "GET api.coinbase.com/x"),
    (("GET", "/x", "API.CDP.Coinbase.com"), "GET api.cdp.coinbase.com/x"),
    (("GET", "/x", "127.0.0.1:8443"), "GET 127.0.0.1:8443/x"),
    (("GET", "/x", "localhost:443"), "GET localhost/x"),
    (("GET", "/x", f"{LONG_HOST}:65535"), f"GET {LONG_HOST}:65535/x"),
    (("GET", "https://a.example/x", "b.example"), "GET a.example/x"),
    (("GET", "https://api.coinbase.com"), "GET api.coinbase.com/"),
    (("GET", "https://api.coinbase.com?x=1"), "GET api.coinbase.com/"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "uri"), REQUESTS)
def test_uri_is_method_host_and_path_without_query(key, private_key, arguments, uri):
    method, path, *host = arguments
    assert cdp_jwt.format_jwt_uri(*arguments) == uri
    token = (
        key.rest_jwt(method, path, host=host[0]) if host else key.rest_jwt(method, path)
    )
    assert verified(token, private_key)["uri"] == uri
    built = cdp_jwt.build_rest_jwt(uri, NAME, SECRETS[key.algorithm])
    assert verified(built, private_key)["uri"] == uri


METHODS = "DELETE, GET, HEAD, PATCH, POST, PUT"
HTTPS = "not an https URL; others could read the token"
HOST = "the host is malformed; expected name or name:port"
DOTS = "the path has a segment . or ..; resolve it"
PORTAL_PATH = "/" + PORTAL[1:]
LIKE_KEY_PATH = "the path looks like a key; give the path of a URL"
WSS = "a WebSocket's token is for no path; make it by `ws`, ws_jwt or ws_message"
GIT_BASH = (
    "the path is one of Windows, as Git Bash makes of /api/...; give the whole https URL,"
    " or set MSYS_NO_PATHCONV=1"
)
BAD_REQUESTS = [
    (("FETCH", "/x"), f"unknown method FETCH; expected one of {METHODS}"),
    (("CONNECT", "/x"), f"unknown method CONNECT; expected one of {METHODS}"),
    (("", "/x"), f"unknown method; expected one of {METHODS}"),
    (("GET ", "/x"), f"unknown method; expected one of {METHODS}"),
    ((None, "/x"), "the method is NoneType, not text"),
    ((["GET"], "/x"), "the method is list, not text"),
    (("GET", ""), "the path is empty"),
    (("GET", "accounts"), "the path does not begin with exactly one /"),
    (("GET", "?x=1"), "the path does not begin with exactly one /"),
    (("GET", "//evil.example/x"), "the path does not begin with exactly one /"),
    (("GET", "@evil.example/x"), "the path does not begin with exactly one /"),
    (("GET", ".evil.example/x"), "the path does not begin with exactly one /"),
    (("GET", "/a b"), "the path has ' ' at position 3; remove or encode it"),
    (("GET", "/a\n"), r"the path has '\n' at position 3; remove or encode it"),
    (("GET", "/a\r\nX: y"), r"the path has '\r' at position 3; remove or encode it"),
    (("GET", "/a\x7f"), r"the path has '\x7f' at position 3; remove or encode it"),
    (("GET", "/\u00e9"), r"the path has '\xe9' at position 2; remove or encode it"),
    (("GET", "/\u0130"), r"the path has '\u0130' at position 2; remove or encode it"),
    (("GET", "/x?q=\u20ac"), r"the path has '\u20ac' at position 6; remove or encode it"),
    (("GET", "/a#b"), "the path has '#' at position 3; remove or encode it"),
    (("GET", "/a?b#c"), "the path has '#' at position 5; remove or encode it"),
    (("GET", "/a\\b"), r"the path has '\\' at position 3; remove or encode it"),
    (("GET", "/a/../b"), DOTS),
    (("GET", "/a/.."), DOTS),
    (("GET", "/./a"), DOTS),
    (("GET", "/a/.?b"), DOTS),
    (("GET", "/a/%2e%2E/b"), DOTS),
    (("GET", "/a/.%2e"), DOTS),
    (("GET", None), "the path is NoneType, not text"),
    (("GET", b"/x"), "the path is bytes, not text"),
    (("GET", {"path": "/x"}), "the path is dict, not text"),
    (("GET", "http://api.coinbase.com/x"), HTTPS),
    (("GET", "HTTP://api.coinbase.com/x"), HTTPS),
    (("GET", "ftp://api.coinbase.com/x"), HTTPS),
    (("GET", "file:///etc/passwd"), HTTPS),
    (("GET", "https://user:pw@api.coinbase.com/x"), "the host has '@' at position 8; expected name or name:port"),
    (("GET", "wss://advanced-trade-ws.coinbase.com"), WSS),
    (("GET", "/api/v3/brokerage/orders/{order_id}"), "the path has '{' at position 26; it looks like a placeholder; put the value there"),
    (("GET", PORTAL_PATH), LIKE_KEY_PATH),
    (("GET", "/" + BARE_SEED[1:]), LIKE_KEY_PATH),
    (("GET", f"https://api.coinbase.com/{SEC1}"), LIKE_KEY_PATH),
    (("GET", "/v2/accounts/%7Bid%7D"), "the path has '%7B' at position 14; it looks like a placeholder; put the value there"),
    (("po\u017ft", "/x"), f"unknown method; expected one of {METHODS}"),
    (("GET", "/v2/accounts/<id>"), "the path has '<' at position 14; it looks like a placeholder; put the value there"),
    (("GET", "/v2/accounts/7?to={to}"), "the path has '{' at position 19; it looks like a placeholder; put the value there"),
    (("GET", "C:/Program Files/Git/api/v3/brokerage/accounts"), GIT_BASH),
    (("GET", "https://api.coinbase.com#x"), "the path has '#' at position 2; remove or encode it"),
    (("GET", "https://api.coinbase.com//x"), "the path does not begin with exactly one /"),
    (("GET", "https:///x"), "the host is empty"),
    (("GET", "https://api.coinbase.com\\@evil.example/x"), r"the host has '\\' at position 17; expected name or name:port"),
    (("GET", "https://[::1]/x"), "the host has '[' at position 1; expected name or name:port"),
    (("GET", "/x", "[::1]:8443"), "the host has '[' at position 1; expected name or name:port"),
    (("GET", "/x", ""), "the host is empty"),
    (("GET", "/x", "a b"), "the host has ' ' at position 2; expected name or name:port"),
    (("GET", "/x", "https://api.coinbase.com"), "the host has '/' at position 7; expected name or name:port"),
    (("GET", "/x", "a/b"), "the host has '/' at position 2; expected name or name:port"),
    (("GET", "/x", "me@a"), "the host has '@' at position 3; expected name or name:port"),
    (("GET", "/x", "a\n"), r"the host has '\n' at position 2; expected name or name:port"),
    (("GET", "/x", "\u212aelvin"), r"the host has '\u212a' at position 1; expected name or name:port"),
    (("GET", "/x", "a.example."), HOST),
    (("GET", "/x", "a..b"), HOST),
    (("GET", "/x", "-a"), HOST),
    (("GET", "/x", "a:"), HOST),
    (("GET", "/x", "a:0"), HOST),
    (("GET", "/x", "a:65536"), HOST),
    (("GET", "/x", "a:1:2"), HOST),
    (("GET", "/x", "a:-1"), HOST),
    (("GET", "/x", LONG_HOST + "a"), HOST),
    (("GET", "/x", "a" * 64), HOST),
    (("GET", "/x", None), "the host is NoneType, not text"),
    (("GET", "/x", ["a.example"]), "the host is list, not text"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD_REQUESTS)
def test_request_that_would_be_misread_is_refused(key, arguments, message):
    method, path, *host = arguments
    options = {"host": host[0]} if host else {}
    for call in (key.rest_jwt, cdp_jwt.format_jwt_uri):
        with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
            call(method, path, **options)
        assert str(caught.value) == message


@pytest.mark.parametrize("dress", CALLERS.values(), ids=CALLERS)
def test_request_is_the_exact_text_of_the_caller(key, private_key, dress):
    """And is remembered for nobody else, whose text may compare equal to it."""
    uri = f"GET api.cdp.coinbase.com{ACCOUNTS}"
    arguments = dress("GET"), dress(ACCOUNTS)
    host = dress("api.cdp.coinbase.com")
    other = dress(ORDERS)
    for _ in range(2):
        assert cdp_jwt.format_jwt_uri(*arguments, host) == uri
        assert verified(key.rest_jwt(*arguments, host=host), private_key)["uri"] == uri
        plain = key.rest_jwt("GET", ACCOUNTS)
        assert verified(plain, private_key)["uri"] == f"GET api.coinbase.com{ACCOUNTS}"
        assert (
            verified(key.rest_jwt("GET", other), private_key)["uri"]
            == f"GET api.coinbase.com{ORDERS}"
        )
        secret = dress(SECRETS[key.algorithm])
        built = cdp_jwt.build_rest_jwt(dress(uri), dress(NAME), secret)
        assert verified(built, private_key)["uri"] == uri
    message = json.loads(
        cdp_jwt.ws_message(dress("ticker"), [dress("BTC-USD")], type=dress("subscribe"))
    )
    assert message == {
        "type": "subscribe",
        "channel": "ticker",
        "product_ids": ["BTC-USD"],
    }


@pytest.mark.parametrize("wrong", NO_TEXTS, ids=repr)
def test_what_is_no_text_is_no_request(key, wrong):
    for call in (
        lambda: key.rest_jwt(wrong, "/x"),
        lambda: key.rest_jwt("GET", wrong),
        lambda: key.rest_jwt("GET", "/x", host=wrong),
        lambda: cdp_jwt.format_jwt_uri(wrong, "/x"),
        lambda: cdp_jwt.build_rest_jwt(wrong, NAME, SEC1),
        lambda: cdp_jwt.ws_message(wrong),
        lambda: cdp_jwt.ws_message("ticker", [wrong]),
        lambda: cdp_jwt.ws_message("ticker", type=wrong),
    ):
        found = type(wrong).__name__
        assert refused(call, kind=cdp_jwt.InvalidRequestError).endswith(
            f" is {found}, not text"
        )


@pytest.mark.parametrize("secret", [SEC1, PORTAL, body(SEC1), body(PKCS8)])
def test_secret_in_place_of_any_other_argument_is_not_shown(key, secret):
    for call in (
        lambda: key.rest_jwt(secret, "/x"),
        lambda: key.rest_jwt("GET", secret),
        lambda: key.rest_jwt("GET", "/x", host=secret),
        lambda: key.ws_jwt(not_before=secret),
        lambda: cdp_jwt.build_rest_jwt(secret, NAME, SEC1),
        lambda: cdp_jwt.ws_message("user"[:0] + secret, key=key),
        lambda: cdp_jwt.ws_message("ticker", [secret]),
        lambda: cdp_jwt.ws_message("ticker", type=secret),
        lambda: cdp_jwt.ws_message("ticker", key=secret),
        lambda: cdp_jwt.build_rest_jwt("GET a b", NAME, secret),
        lambda: cdp_jwt.build_rest_jwt(f"get /{secret}", NAME, SEC1),
        lambda: cdp_jwt.build_rest_jwt(f"GET {secret}", NAME, SEC1),
        lambda: key(
            types.SimpleNamespace(method="GET", url=f"https://a/{secret}\n", headers={})
        ),
    ):
        refused(call, secret, cdp_jwt.InvalidRequestError)


@examples(500)
@given(
    path=st.from_regex(r"/[!-~]{0,30}", fullmatch=True),
    query=st.none() | st.text(max_size=9),
)
def test_uri_is_the_path_itself_or_an_error(path, query):
    whole = path if query is None else f"{path}?{query}"
    try:
        uri = cdp_jwt.format_jwt_uri("GET", whole)
    except cdp_jwt.InvalidRequestError:
        assert re.search(
            r"\A//|[#\\{}<>]|/\.{1,2}(/|\?|\Z)|/\.?%2e|[^!-~]", whole, re.IGNORECASE
        )
    else:
        assert uri == "GET api.coinbase.com" + path.partition("?")[0]


@examples(300)
@given(method=st.text(max_size=8), url=st.text(max_size=40), host=st.text(max_size=20))
def test_any_text_is_a_request_or_an_invalid_request_error(method, url, host):
    for attempt in (
        (method, url, host),
        ("GET", url, host),
        ("GET", f"https://{url}", host),
    ):
        try:
            uri = cdp_jwt.format_jwt_uri(*attempt)
        except cdp_jwt.InvalidRequestError:
            continue
        assert re.fullmatch(r"[A-Z]+ [a-z0-9.:-]+/[!-~]*", uri)


# ApiKey


def test_key_shows_its_name_and_algorithm_alone(key):
    shown = f"ApiKey(name={NAME!r}, algorithm={key.algorithm!r})"
    assert repr(key) == str(key) == f"{key}" == shown
    secret = SECRETS[key.algorithm]
    kept = [repr(getattr(key, slot)) for slot in cdp_jwt.ApiKey.__slots__]
    assert not leaks(" ".join([*kept, repr(dir(key))]), secret)
    assert not hasattr(key, "__dict__")


def test_traceback_that_shows_variables_can_be_made_of_any_refusal():
    """Error reporters show `self`, which is half-built then."""
    try:
        cdp_jwt.ApiKey(NAME, "no key")
    except cdp_jwt.InvalidKeyError as error:
        traceback.TracebackException.from_exception(error, capture_locals=True)


def test_key_cannot_be_changed(key):
    for attempt in (
        lambda: setattr(key, "name", "other"),
        lambda: setattr(key, "new", 1),
        lambda: delattr(key, "name"),
    ):
        with pytest.raises(AttributeError, match=r"cannot be changed|no attribute"):
            attempt()
    assert key.name == NAME


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_key_is_not_pickled(key, protocol):
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key, protocol)


def test_copy_of_a_key_is_the_key(key):
    """It cannot change; sessions and settings that hold one are copied."""
    assert copy.copy(key) is key
    assert copy.deepcopy({"auth": [key]})["auth"][0] is key


def test_key_is_no_tuple(key):
    """HTTP libraries would take a tuple for Basic credentials, and send it."""
    assert not isinstance(key, tuple)
    with pytest.raises(TypeError):
        iter(key)


def test_key_of_a_subclass_is_of_the_subclass(key_file):
    class Desk(cdp_jwt.ApiKey):
        pass

    assert type(Desk.from_file(key_file)) is Desk
    assert type(Desk.from_env(ADVANCED)) is Desk


# WebSocket messages


def test_websocket_message_holds_a_token_of_its_own(key, private_key):
    tokens = set()
    for kind in ("subscribe", "unsubscribe"):
        text = cdp_jwt.ws_message("level2", ["BTC-USD", "ETH-USD"], key=key, type=kind)
        message = json.loads(text)
        token = message.pop("jwt")
        assert message == {
            "type": kind,
            "channel": "level2",
            "product_ids": ["BTC-USD", "ETH-USD"],
        }
        assert "uri" not in verified(token, private_key)
        tokens.add(token)
    assert len(tokens) == 2


def test_websocket_message_of_market_data_needs_no_key():
    assert json.loads(cdp_jwt.ws_message("heartbeats")) == {
        "type": "subscribe",
        "channel": "heartbeats",
        "product_ids": [],
    }


UNKNOWN_CHANNEL = (
    "unknown channel; expected one of candles, futures_balance_summary, heartbeats,"
    " level2, market_trades, status, ticker, ticker_batch, user"
)


def test_websocket_message_may_be_of_no_product():
    message = json.loads(cdp_jwt.ws_message("heartbeats", None))
    assert message["product_ids"] == []


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("user",), {}, "the channel user needs a key"),
        (
            ("futures_balance_summary",),
            {},
            "the channel futures_balance_summary needs a key",
        ),
        (("ticker",), {"type": "sub"}, "type is neither 'subscribe' nor 'unsubscribe'"),
        (("ticker", "BTC-USD"), {}, "product_ids is str; expected a list of texts"),
        (("ticker", b"BTC-USD"), {}, "product_ids is bytes; expected a list of texts"),
        (("ticker", 7), {}, "product_ids is int; expected a list of texts"),
        (
            ("ticker", ["BTC USD"]),
            {},
            "the product has ' ' at position 4; expected one such as BTC-USD",
        ),
        (("ticker", [""]), {}, "the product is empty"),
        (("ticker", [b"BTC-USD"]), {}, "the product is bytes, not text"),
        (("",), {}, UNKNOWN_CHANNEL),
        (("heartbeat",), {}, UNKNOWN_CHANNEL),
        (("l2_data",), {}, UNKNOWN_CHANNEL),
        (("USER",), {}, UNKNOWN_CHANNEL),
        (("ticker",), {"key": PORTAL}, "key is str; expected an ApiKey"),
    ],
)
def test_websocket_message_that_would_fail_is_refused(arguments, options, message):
    with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
        cdp_jwt.ws_message(*arguments, **options)
    assert str(caught.value) == message


# The official SDK's jwt_generator


def test_drop_in_runs_a_program_that_was_written_for_the_sdk(
    private_key, algorithm, frozen
):
    """The SDK's documented use, with nothing but the import changed."""
    import cdp_jwt as jwt_generator

    api_key, api_secret = NAME, SECRETS[algorithm]
    jwt_uri = jwt_generator.format_jwt_uri("POST", ORDERS)
    rest = jwt_generator.build_rest_jwt(jwt_uri, api_key, api_secret)
    by_keyword = jwt_generator.build_rest_jwt(
        uri=jwt_uri, key_var=api_key, secret_var=api_secret
    )
    ws = jwt_generator.build_ws_jwt(api_key, api_secret)
    ws_by_keyword = jwt_generator.build_ws_jwt(key_var=api_key, secret_var=api_secret)
    times = {"nbf": frozen - 5, "exp": frozen + 115}
    expected = {"sub": NAME, "iss": "cdp", **times}
    for token in (rest, by_keyword):
        assert json.loads(segments(token)[1]) == {**expected, "uri": jwt_uri}
        verified(token, private_key)
    for token in (ws, ws_by_keyword):
        assert json.loads(segments(token)[1]) == expected
        verified(token, private_key)
    assert (
        jwt_generator.format_jwt_uri(method="GET", path="/x")
        == "GET api.coinbase.com/x"
    )


@pytest.mark.parametrize(
    "uri",
    [
        "GET api.coinbase.com/api/v3/brokerage/accounts?limit=1",
        "GET https://api.coinbase.com/api/v3/brokerage/accounts",
        "get api.coinbase.com/api/v3/brokerage/accounts",
        "GET /api/v3/brokerage/accounts",
        "GET API.coinbase.com/api/v3/brokerage/accounts",
        "GET api.coinbase.com:443/api/v3/brokerage/accounts",
    ],
)
def test_drop_in_shows_the_right_uri_for_a_wrong_one(uri):
    with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
        cdp_jwt.build_rest_jwt(uri, NAME, SEC1)
    right = "GET api.coinbase.com/api/v3/brokerage/accounts"
    assert str(caught.value) == f"Coinbase answers this uri with a 401; use {right!r}"
    cdp_jwt.build_rest_jwt(right, NAME, SEC1)


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "",
        "GET",
        "GET ",
        "/x",
        "GET  api.coinbase.com/x",
        "GET a.example/x y",
        "GET http://api.coinbase.com/x",
    ],
)
def test_drop_in_refuses_what_is_no_uri(uri):
    with pytest.raises(cdp_jwt.InvalidRequestError):
        cdp_jwt.build_rest_jwt(uri, NAME, SEC1)


def test_drop_in_remembers_parsed_keys_by_hash_and_not_many(monkeypatch):
    parsed = []
    original = cdp_jwt._parse_secret
    monkeypatch.setattr(
        cdp_jwt, "_parse_secret", lambda *given: parsed.append(1) or original(*given)
    )
    monkeypatch.setattr(cdp_jwt, "_remembered", {})
    for _ in range(3):
        cdp_jwt.build_ws_jwt(NAME, PORTAL)
        cdp_jwt.build_rest_jwt("GET api.coinbase.com/x", NAME, PORTAL)
    assert len(parsed) == 1
    assert verified(cdp_jwt.build_ws_jwt(UUID, PORTAL), ED25519)["kid"] == UUID
    assert len(parsed) == 2
    for number in range(100):
        cdp_jwt.build_ws_jwt(f"key{number}", PORTAL)
    assert len(cdp_jwt._remembered) <= 8
    del parsed[:]
    cdp_jwt._remembered.clear()
    for _ in range(3):
        for number in range(8):
            cdp_jwt.build_ws_jwt(f"desk{number}", PORTAL)
    assert len(parsed) == 8
    cdp_jwt.build_ws_jwt("ninth", PORTAL)
    assert len(cdp_jwt._remembered) == 1
    assert all(type(mark) is bytes and len(mark) == 32 for mark in cdp_jwt._remembered)
    assert not leaks(repr(cdp_jwt._remembered), PORTAL)


def test_drop_in_tells_keys_apart_by_their_exact_texts(monkeypatch):
    """A masked repr, or another cut between name and secret, is not the same key."""
    monkeypatch.setattr(cdp_jwt, "_remembered", {})
    other = ed25519.Ed25519PrivateKey.generate()
    for private_key in (ED25519, other, ED25519):
        token = cdp_jwt.build_ws_jwt(Lying(NAME), Lying(portal(private_key)))
        verified(token, private_key)
    assert len(cdp_jwt._remembered) == 2
    for name, secret in (("a", f"b {PORTAL}"), ("a b", PORTAL), ("a ", f"b{PORTAL}")):
        with contextlib.suppress(cdp_jwt.InvalidKeyError):
            monkeypatch.setattr(cdp_jwt, "ApiKey", lambda *given: given)
            cdp_jwt._remembered_key(name, secret)
    assert len(cdp_jwt._remembered) == 5


def test_drop_in_remembers_no_key_that_was_refused():
    for _ in range(2):
        message = refused(
            lambda: cdp_jwt.build_ws_jwt(NAME, flipped(PORTAL, 3)), PORTAL
        )
        assert message == HALVES


def test_another_key_does_not_verify(key):
    """The verifiers used here do refuse: what they accept means something."""
    other = {"ES256": OTHER_P256, "EdDSA": ed25519.Ed25519PrivateKey.generate()}
    token = key.ws_jwt()
    with pytest.raises(jwt.InvalidSignatureError):
        verified(token, other[key.algorithm])
    signing_input = token.rpartition(".")[0].encode()
    signature = segments(token)[2]
    public_key = PRIVATE_KEYS[key.algorithm].public_key()
    if key.algorithm == "EdDSA":
        public_key.verify(signature, signing_input)
        with pytest.raises(InvalidSignature):
            public_key.verify(signature, signing_input + b"x")


def nonces_of(tokens: list[str], private_key) -> set[str]:
    return {verified(token, private_key)["nonce"] for token in tokens}


def test_threads_share_a_key_and_no_nonce(key, private_key):
    start = threading.Barrier(8)

    def sign(thread: int) -> list[str]:
        start.wait()
        return [key.rest_jwt("GET", f"/{thread}/{number}") for number in range(25)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        tokens = [token for part in pool.map(sign, range(8)) for token in part]
    assert len(nonces_of(tokens, private_key)) == 200
    uris = {json.loads(segments(token)[1])["uri"] for token in tokens}
    assert len(uris) == 200


def test_threads_of_the_drop_in_get_their_own_keys_token():
    """More keys than it remembers, so that it forgets while others look one up."""

    def sign(number: int) -> bool:
        name = f"desk{number % 20}"
        uri = f"GET api.coinbase.com/{number}"
        token = verified(cdp_jwt.build_rest_jwt(uri, name, PORTAL), ED25519)
        return (token["kid"], token["uri"]) == (name, uri)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(sign, range(200)))


def in_a_child(work: Callable[[], str]) -> str:
    """What `work` returns in a forked process."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 3.12 and later warn of threads; the server's
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.close(writing)
    with open(reading, encoding="utf-8") as stream:
        told = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    return told


@needs_fork
def test_fork_after_use_shares_no_nonce(key, private_key):
    """Parent and two children go on from the same state, and draw other nonces."""

    def sign() -> str:
        return "\n".join(key.ws_jwt() for _ in range(10))

    tokens = [sign(), in_a_child(sign), in_a_child(sign), sign()]
    seen = nonces_of("\n".join(tokens).split(), private_key)
    assert len(seen) == 40


@needs_fork
def test_fork_remembers_the_keys_of_the_drop_in_and_shares_no_nonce():
    def sign() -> str:
        return cdp_jwt.build_ws_jwt(NAME, PORTAL)

    assert len(nonces_of([sign(), in_a_child(sign), sign()], ED25519)) == 3


ANY = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9)
)
MOMENTS = st.datetimes(timezones=st.none() | st.timezones() | st.just(PLUS_2))


@examples(100)
@given(not_before=ANY | st.integers() | st.integers(NOW - 200, NOW + 10**9) | MOMENTS)
def test_any_not_before_is_refused_or_dates_the_token(frozen, not_before):
    key = key_of("EdDSA")
    try:
        claims = verified(key.ws_jwt(not_before=not_before), ED25519)
    except cdp_jwt.InvalidRequestError:
        return
    if isinstance(not_before, datetime.datetime):
        not_before = int(not_before.timestamp())
    expected = NOW - 5 if not_before is None else not_before
    assert (claims["nbf"], claims["exp"]) == (expected, expected + 120)


@examples(100)
@given(
    channel=ANY | st.sampled_from(["user", "ticker", PORTAL, SEC1]),
    product_ids=ANY | st.lists(ANY | st.sampled_from(["BTC-USD", PORTAL])),
    kind=ANY | st.sampled_from(["subscribe", "unsubscribe"]),
)
def test_any_websocket_message_is_refused_or_as_it_was_asked_for(
    channel, product_ids, kind
):
    try:
        text = cdp_jwt.ws_message(channel, product_ids, key=key_of("EdDSA"), type=kind)
    except cdp_jwt.InvalidRequestError as error:
        assert_secret_free(error, PORTAL + SEC1)
        return
    message = json.loads(text)
    verified(message.pop("jwt"), ED25519)
    assert message == {
        "type": kind,
        "channel": channel,
        "product_ids": list(product_ids or ()),
    }


HOSTS = st.sampled_from(
    ["api.coinbase.com", "API.Coinbase.com:443", "localhost:8443", "a.example"]
)
URL_PARTS = ["https://", "http://", "HTTPS://", "//", "/", "api.coinbase.com", "evil.example", "@",
             ":443", ":8443", "?", "#", "\\", "..", "%2e", "x", "/v2/user", "\t", "\n", "\u3002", "[::1]"]  # fmt: skip
URLS = st.lists(st.sampled_from(URL_PARTS) | st.text(max_size=2), max_size=8).map(
    "".join
)
PATHS = st.from_regex(r"/[!-~]{0,30}", fullmatch=True)


# ------------------------------------------------------------------- 6. reasons


def segment(content: object) -> str:
    octets = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


NONCE = "ab" * 32
HEADER = {"alg": "ES256", "typ": "JWT", "kid": NAME, "nonce": NONCE}
CLAIMS = {
    "sub": NAME,
    "iss": "cdp",
    "nbf": NOW - 5,
    "exp": NOW + 115,
    "uri": "GET api.coinbase.com/api/v3/brokerage/accounts",
}
SIGNATURE = segment(bytes(range(1, 65)))


def without(members: dict, name: str) -> dict:
    return {key: value for key, value in members.items() if key != name}


def made(
    header: object = HEADER, claims: object = CLAIMS, signature: str = SIGNATURE
) -> str:
    return f"{segment(header)}.{segment(claims)}.{signature}"


DER = segment(utils.encode_dss_signature(1 << 255, (1 << 255) + 1))
NO_HEADER = ["the header is no JSON object, or an empty one"]
NO_CLAIMS = ["the claims set is no JSON object, or an empty one"]
UNUSED_BITS = "has bits that belong to no octet and are not 0"


def for_uri(uri: object) -> str:
    return made(claims={**CLAIMS, "uri": uri})


def named(name: str) -> str:
    """A token in which this stands for the key's name."""
    return made({**HEADER, "kid": name}, {**CLAIMS, "sub": name})


def with_braces(count: int) -> bytes:
    """Claims with 26 braces and brackets that open, and `count` more."""
    more = {"x": functools.reduce(lambda inner, _: [inner], range(23), [])}
    return json.dumps({**CLAIMS, **more, "y": [{}] * count}).encode()


PROBLEMS = {
    "two parts": (made().rpartition(".")[0], ["2 parts, expected 3: header.claims.signature", "the signature has 0 bytes; expected r and s, 32 bytes each"]),
    "four parts": (made() + ".x", ["4 parts, expected 3: header.claims.signature"]),
    "padding": (made(signature=SIGNATURE + "=="), ["the signature has '='; expected base64url, without padding"]),
    "plain alphabet": (made(signature=base64.b64encode(b"\xff" * 64).decode().rstrip("=")), ["the signature has '/'; expected base64url, without padding"]),
    "cut off": (made() + "xyz", ["the signature is not base64url", "the signature has 0 bytes; expected r and s, 32 bytes each"]),
    "no base64": (made(signature="!" * 86), ["the signature has '!'; expected base64url, without padding", "the signature has 0 bytes; expected r and s, 32 bytes each"]),
    "header is a list": (made(header=[]), NO_HEADER),
    "claims are no JSON": (made(claims=b"{"), NO_CLAIMS),
    "member twice": (made(header=json.dumps(HEADER)[:-1].encode() + b', "alg": "ES256"}'), ["the header has a member twice"]),
    "alg none": (made({**HEADER, "alg": "none"}), ["alg is 'none'; expected ES256 or EdDSA"]),
    "HS256": (made({**HEADER, "alg": "HS256"}), ["alg is 'HS256'; expected ES256 or EdDSA"]),
    "alg a number": (made({**HEADER, "alg": 7}), ["alg is 7; expected ES256 or EdDSA"]),
    "kid a number": (made({**HEADER, "kid": 7}), ["kid is 7; expected text", "kid and sub differ; both are the key's name"]),
    "sub a number": (made(claims={**CLAIMS, "sub": 7}), ["sub is 7; expected text", "kid and sub differ; both are the key's name"]),
    "nonce a number": (made({**HEADER, "nonce": 7}), ["nonce is 7; expected text"]),
    "kid empty": (made({**HEADER, "kid": ""}), ["kid is ''; expected text"]),
    "nonce empty": (made({**HEADER, "nonce": ""}), ["nonce is ''; expected text"]),
    "DER": (made(signature=DER), ["the signature is DER; expected r and s, 32 bytes each"]),
    "short DER": (made(signature=segment(utils.encode_dss_signature(1 << 240, 1 << 255))), ["the signature is DER; expected r and s, 32 bytes each"]),
    "like DER": (made(signature=segment(b"\x30" * 70)), ["the signature has 70 bytes; expected r and s, 32 bytes each"]),
    "short signature": (made(signature=segment(b"x" * 63)), ["the signature has 63 bytes; expected r and s, 32 bytes each"]),
    "no signature": (made(signature=""), ["the signature has 0 bytes; expected r and s, 32 bytes each"]),
    "no kid": (made(without(HEADER, "kid")), ["kid is missing; expected text"]),
    "no sub": (made(claims=without(CLAIMS, "sub")), ["sub is missing; expected text"]),
    "kid is not sub": (made(claims={**CLAIMS, "sub": UUID}), ["kid and sub differ; both are the key's name"]),
    "wrong iss": (made(claims={**CLAIMS, "iss": "coinbase"}), ["iss is 'coinbase'; expected 'cdp'"]),
    "no nonce": (made(without(HEADER, "nonce")), ["nonce is missing; expected text"]),
    "no nbf": (made(claims=without(CLAIMS, "nbf")), ["nbf is missing; expected an integer: epoch seconds"]),
    "no exp": (made(claims=without(CLAIMS, "exp")), ["exp is missing; expected an integer: epoch seconds"]),
    "exp as text": (made(claims={**CLAIMS, "exp": str(NOW)}), ["exp is '1800000000', not an integer; expected an integer: epoch seconds"]),
    "nbf a fraction": (made(claims={**CLAIMS, "nbf": NOW - 0.5}), ["nbf is 1799999999.5, not an integer; expected an integer: epoch seconds"]),
    "milliseconds": (made(claims={**CLAIMS, "nbf": NOW * 1000, "exp": NOW * 1000}), ["nbf is 1800000000000; expected an integer: epoch seconds, not milliseconds", "exp is 1800000000000; expected an integer: epoch seconds, not milliseconds"]),
    "nbf long past": (made(claims={**CLAIMS, "nbf": 0}), [f"exp is {NOW + 115} s after nbf; expected 1 to 120"]),
    "nbf negative": (made(claims={**CLAIMS, "nbf": -1}), ["nbf is -1; expected an integer: epoch seconds, since 1970"]),
    "nbf far ahead": (made(claims={**CLAIMS, "nbf": 10**11 - 1, "exp": 10**11}), [f"exp is {10**11}; expected an integer: epoch seconds, not milliseconds", f"not valid yet: nbf is {10**11 - 1 - NOW} s ahead; is it for later, or was its clock ahead?"]),
    "future": (made(claims={**CLAIMS, "nbf": NOW + 60, "exp": NOW + 180}), ["not valid yet: nbf is 60 s ahead; is it for later, or was its clock ahead?"]),
    "past": (made(claims={**CLAIMS, "nbf": NOW - 200, "exp": NOW - 80}), ["expired 80 s ago"]),
    "just past": (made(claims={**CLAIMS, "nbf": NOW - 120, "exp": NOW}), ["expired 0 s ago"]),
    "just begun, and short": (made(claims={**CLAIMS, "nbf": NOW, "exp": NOW + 1}), []),
    "no time to live": (made(claims={**CLAIMS, "nbf": NOW, "exp": NOW}), ["expired 0 s ago", "exp is 0 s after nbf; expected 1 to 120"]),
    "lives too long": (made(claims={**CLAIMS, "exp": NOW + 3595}), ["exp is 3600 s after nbf; expected 1 to 120"]),
    "exp before nbf": (made(claims={**CLAIMS, "nbf": NOW, "exp": NOW - 1}), ["expired 1 s ago", "exp is -1 s after nbf; expected 1 to 120"]),
    "scheme": (made(claims={**CLAIMS, "uri": "GET https://api.coinbase.com/x"}), ["uri has a scheme; it starts with the host"]),
    "query": (made(claims={**CLAIMS, "uri": "GET api.coinbase.com/x?limit=1"}), ["uri has a query; it ends with the path"]),
    "fragment": (made(claims={**CLAIMS, "uri": "GET api.coinbase.com/x#y"}), ["uri has a fragment; it ends with the path"]),
    "lower case": (made(claims={**CLAIMS, "uri": "get api.coinbase.com/x"}), ["uri has its method in lower case"]),
    "no method": (made(claims={**CLAIMS, "uri": "api.coinbase.com/x"}), ["uri has no method: expected `GET api.coinbase.com/...`"]),
    "unknown method": (made(claims={**CLAIMS, "uri": "FETCH api.coinbase.com/x"}), ["uri: unknown method FETCH; expected one of DELETE, GET, HEAD, PATCH, POST, PUT"]),
    "no host": (made(claims={**CLAIMS, "uri": "GET /x"}), ["uri has no host before its path"]),
    "uri a number": (made(claims={**CLAIMS, "uri": 7}), ["uri is int, not text"]),
    "uri with a port of its scheme": (for_uri("GET API.coinbase.com:443/v2/user"), ["uri is not as Coinbase reads it: GET api.coinbase.com/v2/user"]),
    "uri with a space": (made(claims={**CLAIMS, "uri": "GET api.coinbase.com/a b"}), ["uri: the path has ' ' at position 3; remove or encode it"]),
    "uri without a path": (made(claims={**CLAIMS, "uri": "GET api.coinbase.com"}), ["uri is not as Coinbase reads it: GET api.coinbase.com/", "uri: the path is under neither /api/v3/brokerage nor /v2: /"]),
    "NaN": (made(claims=json.dumps(CLAIMS)[:-1].encode() + b', "x": NaN}'), NO_CLAIMS),
    "UTF-16": (made(header=json.dumps(HEADER).encode("utf-16")), NO_HEADER),
    "another aud": (made(claims={**CLAIMS, "aud": ["cdp_service", "x"]}), ["aud is ['cdp_service', 'x']; expected none"]),
    "aud as text": (made(claims={**CLAIMS, "aud": "api"}), ["aud is 'api'; expected none"]),
    "crit": (made({**HEADER, "crit": ["exp"]}), ["the header has crit (RFC 7515); Coinbase documents no extension"]),
    "b64": (made({**HEADER, "b64": True}), ["the header has b64 (RFC 7797); Coinbase documents no extension"]),
    "unused bits of the signature": (made(signature=SIGNATURE[:-1] + "B"), [f"the last character of the signature {UNUSED_BITS}"]),
    "name is a placeholder": (named("organizations/{org_id}/apiKeys/{key_id}"), ["kid: the key's name is a placeholder; put the value there, from the key file"]),
    "name is undefined": (named("undefined"), ["kid: the key's name is a placeholder; put the value there, from the key file"]),
    "name is not resolved": (named("$CDP_KEY_NAME"), ["kid: the key's name is a reference that nothing has resolved; give the value itself"]),
    "name with a line break in it": (named(NAME.replace("/apiKeys", "\n/apiKeys")), [f"kid: the key's name has '\\n' at position {NAME.index('/apiKeys') + 1}; give the key's name, `name` or `id` in the key file"]),
    "name with a line break behind it": (named(f"{NAME}\n"), ["kid has quotes, white space or escapes that are no part of the name"]),
    "name in quotes": (named(f"'{NAME}'"), ["kid has quotes, white space or escapes that are no part of the name"]),
    "name is the secret": (named(SEC1), ["kid: the name looks like a key: give the key's name, `name` or `id` in the key file"]),
    "sub alone is a placeholder": (made(claims={**CLAIMS, "sub": "null"}), ["kid and sub differ; both are the key's name", "sub: the key's name is a placeholder; put the value there, from the key file"]),
    "host that is undefined": (for_uri("GET undefined/api/v3/brokerage/accounts"), ["uri: the host undefined is no host of Coinbase's"]),
    "host of Coinbase Exchange": (for_uri("GET api.exchange.coinbase.com/accounts"), ["uri: api.exchange.coinbase.com takes no requests that are signed with CDP keys"]),
    "host of no API": (for_uri("GET www.coinbase.com/v2/user"), ["uri: www.coinbase.com takes no requests that are signed with CDP keys"]),
    "path without its root": (for_uri("GET api.coinbase.com/accounts"), ["uri: the path is under neither /api/v3/brokerage nor /v2: /accounts"]),
    "path without /api/v3": (for_uri("GET api.coinbase.com/brokerage/accounts"), ["uri: the path is under neither /api/v3/brokerage nor /v2: /brokerage/accounts"]),
    "path like a root": (for_uri("GET api.coinbase.com/v22/user"), ["uri: the path is under neither /api/v3/brokerage nor /v2: /v22/user"]),
    "path with an empty segment": (for_uri("GET api.coinbase.com/v2/accounts//x"), ["uri: the path has an empty segment; is an id missing? /v2/accounts//x"]),
    "path with a placeholder": (for_uri("GET api.coinbase.com/v2/accounts/{id}"), ["uri: the path has '{' at position 14; it looks like a placeholder; put the value there"]),
    "uris is text": (made(claims={**CLAIMS, "uris": CLAIMS["uri"]}), ["uris is 'GET api.coinbase.com/api/v3/b; expected a list of texts"]),
    "uris is empty": (made(claims={**CLAIMS, "uris": []}), ["uris is []; expected a list of texts"]),
    "an item of uris": (made(claims={**CLAIMS, "uris": [CLAIMS["uri"], "get api.coinbase.com/x", 7]}), ["uris[1] has its method in lower case", "uris[2] is int, not text"]),
    "no JWT, a word": ("hello", ["no JWT: 1 part, expected 3"]),
    "no JWT, a UUID": (UUID, ["no JWT: 1 part, expected 3"]),
    "no JWT, a header alone": (segment(HEADER), ["no JWT: 1 part, expected 3"]),
    "no JWT, an address": ("api.coinbase.com/v2/user", ["no JWT: neither header nor claims set can be read"]),
    "no JWT, encrypted": ("a.b.c.d.e", ["no JWT: 5 parts, expected 3"]),
    "as deep as can be": (made(claims=with_braces(23)), []),
    "deeper": (made(claims=with_braces(24)), NO_CLAIMS),
    "nested": (made(claims=b"[" * 40_000), NO_CLAIMS),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_problem_of_a_token_is_named(case):
    token, problems = PROBLEMS[case]
    assert list(cdp_jwt.inspect_jwt(token, now=NOW).problems) == problems


# What people have in hand, with TOKEN in it.
AROUND = (
    "TOKEN", " \nTOKEN\n", '"TOKEN"', "Bearer TOKEN", "bearer TOKEN",
    "Authorization: Bearer TOKEN\r\n", "authorization:bearer TOKEN",
    "'Authorization': 'Bearer TOKEN',", "export JWT='TOKEN'", "JWT=TOKEN", "$env:JWT = 'TOKEN'",
    'curl -sS -H "Authorization: Bearer TOKEN" https://api.coinbase.com/v2/user',
    "curl https://api.coinbase.com/v2/user \\\n  --header 'Authorization: Bearer TOKEN'",
    '{"type": "subscribe", "channel": "ticker", "product_ids": ["BTC-USD"], "jwt": "TOKEN"}',
    '{"jwt":"TOKEN"}', "https://a.example/?jwt=TOKEN&x=1",
)  # fmt: skip


@pytest.mark.parametrize("text", AROUND)
def test_token_is_found_in_what_people_have_in_hand(text):
    found = cdp_jwt.inspect_jwt(text.replace("TOKEN", made()), now=NOW)
    assert found == (HEADER, CLAIMS, (), (), 115)
    found = cdp_jwt.inspect_jwt(text.replace("TOKEN", made(signature=DER)), now=NOW)
    assert found.problems == ("the signature is DER; expected r and s, 32 bytes each",)


UNKNOWN_NAME = "the key's name is neither organizations/.../apiKeys/... nor a UUID"


def by_other_client(header: dict, claims: dict, private_key) -> str:
    algorithm = "ES256" if private_key is P256 else "EdDSA"
    times = {"nbf": NOW - 5, "exp": NOW + 115}
    return jwt.encode({**times, **claims}, private_key, algorithm, header)


NAMES = {"sub": NAME, "iss": "cdp"}
URIS = "uris is what cdp-sdk and ccxt write; Advanced Trade's documentation has uri"
AUD = "aud is {}, as cdp-sdk or ccxt write it; the documentation has none"
FORMER = "iss is 'coinbase-cloud', as ccxt writes it and the documentation had it until 2024; expected 'cdp'"
# Tokens of other clients that are in daily use: the claims besides the times, and the notes.
IN_USE = {
    "coinbase-advanced-py": (P256, {**NAMES, "uri": CLAIMS["uri"]}, []),
    "PyJWT, the documentation's sample": (P256, {**NAMES, "uri": CLAIMS["uri"]}, []),
    "sieblyio, with iat": (P256, {**NAMES, "iat": NOW - 5, "uri": CLAIMS["uri"]}, []),
    "cdp-sdk": (ED25519, {**NAMES, "aud": None, "uris": ["POST api.cdp.coinbase.com/platform/v2/evm/accounts"]}, [AUD.format("null"), URIS]),
    "cdp-sdk for Advanced Trade": (P256, {**NAMES, "aud": None, "uris": [CLAIMS["uri"]]}, [AUD.format("null"), URIS]),
    "ccxt, ES256": (P256, {"sub": NAME, "iss": "coinbase-cloud", "aud": ["retail_rest_api_proxy"], "uri": CLAIMS["uri"]}, [FORMER, AUD.format('["retail_rest_api_proxy"]')]),
    "ccxt, EdDSA": (ED25519, {**NAMES, "aud": ["cdp_service"], "uris": [CLAIMS["uri"]]}, [AUD.format('["cdp_service"]'), URIS]),
    "a WebSocket's": (P256, NAMES, ["without uri, this is a token for a WebSocket"]),
    "a gateway's": (P256, {**NAMES, "uri": "GET localhost:8443/api/v3/brokerage/accounts"}, ["uri: localhost:8443 is no host of Coinbase's; a gateway?"]),
    "the sandbox's": (P256, {**NAMES, "uri": "GET api-sandbox.coinbase.com/api/v3/brokerage/accounts"}, []),
    "a named key's": (P256, {"sub": "my-key", "iss": "cdp", "uri": CLAIMS["uri"]}, [UNKNOWN_NAME]),
}  # fmt: skip


@pytest.mark.parametrize("client", IN_USE)
def test_token_in_daily_use_has_notes_and_no_problem(client):
    private_key, claims, notes = IN_USE[client]
    header = {"kid": claims["sub"], "nonce": NONCE}
    token = by_other_client(header, claims, private_key)
    secret = SEC1 if private_key is P256 else PORTAL
    key = cdp_jwt.ApiKey(claims["sub"], secret)
    found = cdp_jwt.inspect_jwt(token, key=key, now=NOW)
    assert (found.problems, list(found.notes)) == ((), notes)


def test_type_of_a_token_is_a_note():
    found = cdp_jwt.inspect_jwt(made({**HEADER, "typ": "at+jwt"}), now=NOW)
    assert found[2:4] == ((), ("typ is 'at+jwt'; expected 'JWT'",))


@pytest.mark.parametrize("now", [float("nan"), float("inf"), 1e11, "1800000000", b""])
def test_time_that_is_none_is_refused(now):
    with pytest.raises(cdp_jwt.InvalidRequestError, match="now is not a time in epoch"):
        cdp_jwt.inspect_jwt(made(), now=now)


def test_thousand_healthy_tokens_of_random_keys_have_no_problem(algorithm):
    for number in range(500):
        if algorithm == "ES256":
            secret = pem(ec.generate_private_key(ec.SECP256R1()))
        else:
            secret = portal(ed25519.Ed25519PrivateKey.generate())
        key = cdp_jwt.ApiKey(f"organizations/a/apiKeys/{number}", secret)
        token = (
            key.rest_jwt("GET", f"{ACCOUNTS}/{number}?x=1")
            if number % 5
            else key.ws_jwt()
        )
        found = cdp_jwt.inspect_jwt(token, key=key)
        assert (found.problems, key.repairs) == ((), ())
        assert 113 <= found.seconds_left <= 115


def test_signature_is_verified_with_the_key_at_hand(key):
    other = cdp_jwt.ApiKey(NAME, {"ES256": pem(OTHER_P256), "EdDSA": portal(
        ed25519.Ed25519PrivateKey.generate())}[key.algorithm])  # fmt: skip
    token = key.rest_jwt("GET", ACCOUNTS)
    assert cdp_jwt.inspect_jwt(token, key=other).problems == (
        f"not signed by the key {NAME}",
    )
    renamed = cdp_jwt.ApiKey(UUID, SECRETS[key.algorithm])
    found = cdp_jwt.inspect_jwt(token, key=renamed)
    assert found.problems == ("kid is not the name of the key at hand",)
    head, _, signature = token.split(".")
    forged = f"{head}.{segment({**json.loads(segments(token)[1]), 'uri': 'POST a.b/x'})}.{signature}"
    assert cdp_jwt.inspect_jwt(forged, key=key).problems == (
        f"not signed by the key {NAME}",
    )
    unfit = {"ES256": "EdDSA", "EdDSA": "ES256"}[key.algorithm]
    found = cdp_jwt.inspect_jwt(cdp_jwt.ApiKey(NAME, SECRETS[unfit]).ws_jwt(), key=key)
    assert found.problems == (
        f"alg is '{unfit}'; expected {key.algorithm}",
        f"not signed by the key {NAME}",
    )


@examples(500)
@given(
    st.text(max_size=200) | st.binary(max_size=60).map(lambda b: b.decode("latin-1"))
)
def test_any_text_can_be_inspected(text):
    with contextlib.suppress(cdp_jwt.InvalidRequestError):
        found = cdp_jwt.inspect_jwt(text, key=key_of())
        assert found.problems


@examples(500)
@given(
    header=st.dictionaries(st.sampled_from(list(HEADER)), JSON_VALUES),
    claims=st.dictionaries(st.sampled_from([*CLAIMS, "aud", "uris"]), JSON_VALUES),
    signature=st.binary(max_size=70),
)
def test_any_header_and_claims_can_be_inspected(header, claims, signature):
    token = made({**HEADER, **header}, {**CLAIMS, **claims}, segment(signature))
    found = cdp_jwt.inspect_jwt(token, key=key_of(), now=NOW)
    assert all(problem.isprintable() for problem in found.problems)


@pytest.mark.parametrize("token", [None, 7, b"a.b.c", ""])
def test_what_is_no_text_cannot_be_inspected(token):
    with pytest.raises(cdp_jwt.InvalidRequestError, match="the token is"):
        cdp_jwt.inspect_jwt(token)


EVIL = {**CLAIMS, "iss": "\x1b[31m"}


TOKENS = [made(), made(signature=DER), key_of().ws_jwt(), key_of("EdDSA").rest_jwt("GET", "/x"),
          made(claims=EVIL), "Bearer " + made(), *(token for token, _ in list(PROBLEMS.values())[:9])]  # fmt: skip


def printable(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_text_that_moves_a_terminal_is_not_printable():
    assert printable("a\nb, ключ")
    assert not any(
        map(printable, ("\x1b[2J", "\r", "\x07", "\x9b2J", "\u202e", "\x7f"))
    )


@examples(100)
@given(token=mutations(TOKENS), algorithm=st.sampled_from(["ES256", "EdDSA"]))
def test_mutated_token_is_inspected_and_its_problems_are_printable(token, algorithm):
    with contextlib.suppress(cdp_jwt.InvalidRequestError):
        found = cdp_jwt.inspect_jwt(token, key=key_of(algorithm), now=NOW)
        assert printable("\n".join((*found.problems, *found.notes)))


# ------------------------------------------------------- a strict Coinbase on loopback


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

    def handle_method(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        self.server.seen.append(
            Seen(
                self.command, self.path, self.headers, self.body, self.client_address[1]
            )
        )
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault:
            return fault(self)
        if self.server.rate_left <= 0:
            return self.answer(
                429, {"error": "rate limit exceeded"}, {"Retry-After": "1"}
            )
        self.server.rate_left -= 1
        path, _, query = self.path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        route = self.server.routes.get((self.command, path))
        if route is None:
            return self.answer(404, {"error": "NOT_FOUND", "message": "no such path"})
        needs_token, respond = route
        problem = self.server.token_problem(self) if needs_token else None
        if problem:
            self.server.refusals.append(problem)
            return self.answer(401, b"Unauthorized", {"Content-Type": "text/plain"})
        return respond(self)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_method

    def answer(self, status: int, content: object, headers: dict | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "x-ratelimit-limit": "30",
            "x-ratelimit-remaining": str(self.server.rate_left),
            "x-ratelimit-reset": "1",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def date_time_string(self, timestamp=None) -> str:
        return email.utils.formatdate(self.server.now(), usegmt=True)


@dataclasses.dataclass
class Seen:
    method: str
    path: str
    headers: email.message.Message
    body: bytes
    connection: int

    @property
    def token(self) -> str | None:
        return (self.headers["Authorization"] or "").partition("Bearer ")[2] or None


def status(
    code: int, content: object = b"", **headers: str
) -> Callable[[Handler], None]:
    """A fault: this answer instead of the right one."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.answer(code, content, names)


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
        self.page_count = 3
        self.rate_left = 1_000_000  # requests until it answers 429
        self.seen: list[Seen] = []
        self.faults: list[Callable[[Handler], None]] = []
        self.refusals: list[str] = []
        self.nonces: set[str] = set()
        self.orders: dict[str, dict] = {}
        self.executed: list[str] = []
        self.routes = {
            ("GET", "/api/v3/brokerage/time"): (False, self.time),
            ("GET", ACCOUNTS): (True, self.accounts),
            ("GET", "/api/v3/brokerage/orders/historical/fills"): (True, self.fills),
            ("GET", "/v2/accounts"): (True, self.v2_accounts),
            ("POST", ORDERS): (True, self.create_order),
            ("GET", f"{ORDERS}/historical/batch"): (True, self.list_orders),
            ("GET", "/api/v3/brokerage/key_permissions"): (True, self.key_permissions),
        }
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"):
            self.routes[method, "/echo"] = (True, self.echo)

    def get_request(self):
        connection, address = super().get_request()
        connection.settimeout(60)
        wrapped = self.certificate.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        return wrapped, address

    def handle_error(self, request, client_address) -> None:
        pass  # clients of these tests leave early

    def now(self) -> float:
        return time.time() + self.clock_ahead

    def token_problem(self, handler: Handler) -> str | None:
        """Say what is wrong with a request's token, as strictly as Coinbase does."""
        scheme, _, token = handler.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return "no token"
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            return str(error)
        for public_key in self.keys.get(header.get("kid"), []):
            with contextlib.suppress(
                jwt.PyJWTError, TypeError, ValueError, AttributeError
            ):
                checks = {"verify_exp": False, "verify_nbf": False}
                algorithms = ["ES256", "EdDSA"]
                claims = jwt.decode(token, public_key, algorithms, options=checks)
                break
        else:
            return "unknown key or bad signature"
        path = handler.path.partition("?")[0]
        now, nonce = self.now(), header.get("nonce", "")
        problems = {
            "sub is not kid": claims.get("sub") != header["kid"],
            "wrong iss": claims.get("iss") != "cdp",
            "wrong uri": claims.get("uri") != f"{handler.command} {self.host}{path}",
            "not yet valid": claims["nbf"] > now,
            "expired": claims["exp"] <= now,
            "lives too long": claims["exp"] - claims["nbf"] > 120,
            "bad nonce": not re.fullmatch("[0-9a-f]{64}", nonce)
            or nonce in self.nonces,
            "Host differs": handler.headers["Host"] != self.host,
        }
        self.nonces.add(nonce)
        return next((problem for problem, found in problems.items() if found), None)

    def time(self, handler: Handler) -> None:
        handler.answer(200, {"epochMillis": str(int(self.now() * 1000))})

    def echo(self, handler: Handler) -> None:
        content = {"path": handler.path, "body": handler.body.decode()}
        handler.answer(200, {**content, "type": handler.headers.get("Content-Type")})

    def accounts(self, handler: Handler) -> None:
        page = int(handler.query.get("cursor") or 0)
        more = page + 1 < self.page_count
        cursor = str(page + 1) if more else ""
        handler.answer(200, {"accounts": [page], "has_next": more, "cursor": cursor})

    def fills(self, handler: Handler) -> None:
        page = int(handler.query.get("cursor") or 0)
        cursor = str(page + 1) if page + 1 < self.page_count else ""
        handler.answer(200, {"fills": [page], "cursor": cursor})

    def v2_accounts(self, handler: Handler) -> None:
        page = int(handler.query.get("starting_after") or 0)
        following = f"/v2/accounts?limit=1&starting_after={page + 1}"
        more = page + 1 < self.page_count
        pagination = {"next_uri": following if more else None}
        handler.answer(200, {"pagination": pagination, "data": [page]})

    def create_order(self, handler: Handler) -> None:
        if not self.permissions["can_trade"]:
            return handler.answer(
                403,
                {"error": "PERMISSION_DENIED", "message": "Missing required scopes"},
            )
        order = json.loads(handler.body)
        client_order_id = order["client_order_id"]
        if client_order_id not in self.orders:
            self.orders[client_order_id] = {
                "order_id": f"order {len(self.orders)}",
                **order,
            }
            self.executed.append(client_order_id)
        return handler.answer(
            200, {"success": True, "success_response": self.orders[client_order_id]}
        )

    def list_orders(self, handler: Handler) -> None:
        handler.answer(200, {"orders": list(self.orders.values()), "has_next": False})

    def key_permissions(self, handler: Handler) -> None:
        handler.answer(200, self.permissions)


@contextlib.contextmanager
def serving(server: socketserver.BaseServer):
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}
    )
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def server_context(ca: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("localhost",))).configure_cert(context)
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
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@pytest.fixture
def coinbase(tls) -> Iterator[Coinbase]:
    with serving(Coinbase(tls)) as server:
        yield server


@pytest.fixture
def client(coinbase, trust) -> Iterator[cdp_jwt.Client]:
    key = cdp_jwt.ApiKey(NAME, SEC1)
    with cdp_jwt.Client(
        key, host=coinbase.host, ssl_context=trust, timeout=5
    ) as client:
        yield client


class Wire:
    """A server at the level of octets: a script says what becomes of each connection."""

    def __init__(self, script, context: ssl.SSLContext | None) -> None:
        self.script, self.context = script, context
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"localhost:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(
                    target=self.serve, args=[connection], daemon=True
                ).start()

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, ValueError):
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            self.script(self, connection)
        with contextlib.suppress(OSError):
            connection.close()

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

    def drip(
        self, connection: socket.socket, octets: bytes, pause: float = 0.05
    ) -> None:
        for octet in octets:
            if self.over.wait(pause):
                return
            connection.sendall(bytes([octet]))

    def close(self) -> None:
        self.over.set()
        self.listener.close()


@pytest.fixture
def wire(tls) -> Iterator[Callable[..., Wire]]:
    servers: list[Wire] = []

    def start(script, context: ssl.SSLContext | None = tls) -> Wire:
        servers.append(Wire(script, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def saying(*answers: bytes) -> Callable[[Wire, socket.socket], None]:
    """A script: answer the first request with these octets, then leave."""

    def script(wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        for answer in answers:
            connection.sendall(answer)

    return script


def calling(wire: Wire, trust: ssl.SSLContext, **options) -> cdp_jwt.Client:
    defaults = {"timeout": 3, "retries": 0, "host": wire.host, "ssl_context": trust}
    return cdp_jwt.Client(key_of(), **{**defaults, **options})


def repr_of_type(value: object) -> str:
    return type(value).__name__


def transport_error(call: Callable[[], object]) -> str:
    """The message of the TransportError that `call` raises, with nothing behind it."""
    with pytest.raises(cdp_jwt.TransportError) as caught:
        call()
    error = caught.value
    assert "eyJ" not in "".join(
        traceback.format_exception(type(error), error, error.__traceback__)
    )
    return str(error)


# --------------------------------------------------------------------- 7. calls


@pytest.mark.parametrize("algorithm_of_key", ["ES256", "EdDSA"])
def test_client_makes_calls_that_a_strict_server_accepts(
    coinbase, trust, algorithm_of_key
):
    key = key_of(algorithm_of_key)
    with cdp_jwt.Client(key, host=coinbase.host, ssl_context=trust) as client:
        response = client.get(ACCOUNTS, params={"limit": 2, "cursor": None})
    assert (response.status, coinbase.refusals) == (200, [])
    assert response.json() == {"accounts": [0], "has_next": True, "cursor": "1"}
    assert response.headers["content-type"] == "application/json"
    assert repr(response) == f"<Response 200, {len(response.body)} bytes>"
    assert coinbase.seen[0].path == f"{ACCOUNTS}?limit=2"


def test_client_sends_every_method_with_its_own_headers(client, coinbase):
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/echo").status == 200
    for method in ("get", "head", "post", "put", "patch", "delete"):
        response = getattr(client, method)("/echo", params={"a": 1})
        assert response.status == 200
        seen = coinbase.seen[-1]
        assert (seen.method, seen.path) == (method.upper(), "/echo?a=1")
    assert coinbase.refusals == []
    for seen in coinbase.seen:
        assert seen.headers["User-Agent"] == f"cdp_jwt/{cdp_jwt.__version__}"
        assert seen.headers["Accept-Encoding"] == "identity"
        assert "Content-Type" not in seen.headers
        assert seen.headers.get("Content-Length", "0") == "0"
    assert len({seen.token for seen in coinbase.seen}) == len(coinbase.seen)


@pytest.mark.parametrize("body", [{}, {"a": [1, None, "é"]}, [], 0, False])
def test_client_sends_json_with_its_content_type(client, coinbase, body):
    for method in ("post", "put", "patch", "delete"):
        sent = getattr(client, method)("/echo", json=body).json()
        assert (json.loads(sent["body"]), sent["type"]) == (body, "application/json")


def test_methods_have_signatures_that_type_checkers_read():
    query = "(self, url_or_path: 'str', *, params: 'Mapping[str, object] | None' = None"
    for method in ("get", "head", "post", "put", "patch", "delete"):
        function = getattr(cdp_jwt.Client, method)
        json_too = "" if method in ("get", "head") else ", json: 'object' = None"
        assert str(inspect.signature(function)) == f"{query}{json_too}) -> 'Response'"
        assert function.__doc__.startswith(method.upper())
    assert str(inspect.signature(cdp_jwt.Response.json)) == "(self) -> 'Any'"


class Liar(str):
    """A text that is shown, compared and hashed as another one."""

    def __str__(self) -> str:
        return "lie"

    def __format__(self, _: str) -> str:
        return "lie"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


class Word(str, enum.Enum):
    """Formatted as `Word.PRODUCT` from Python 3.11 on."""

    PRODUCT = "BTC-USD"


def test_client_sends_the_true_text_of_each_argument(coinbase, trust):
    client = cdp_jwt.Client(key_of(), host=Liar(coinbase.host), ssl_context=trust)
    client.request(
        Liar("POST"),
        Liar("/echo"),
        params={Liar("a"): Liar("b"), "c": [Word.PRODUCT, Liar("d")]},
        json={Liar("e"): [Liar("f"), Word.PRODUCT]},
    )
    seen = coinbase.seen[0]
    assert (seen.method, seen.path) == ("POST", "/echo?a=b&c=BTC-USD&c=d")
    assert json.loads(seen.body) == {"e": ["f", "BTC-USD"]}
    assert coinbase.refusals == []


def test_client_sends_large_bodies(client, coinbase):
    body = {"text": "x" * 3_000_000}
    assert client.post("/echo", json=body).status == 200
    assert json.loads(coinbase.seen[0].body) == body


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({}, ""),
        ({"a": None}, ""),
        ({"a": 1, "b": "x y/z&="}, "?a=1&b=x%20y%2Fz%26%3D"),
        ({"product_ids": ["A", "B", None]}, "?product_ids=A&product_ids=B"),
        ({"a": True, "c": 1.5}, "?a=true&c=1.5"),
        ({"é": "€"}, "?%C3%A9=%E2%82%AC"),
        ({"a": "\udcff"}, "?a=%ED%B3%BF"),
    ],
)
def test_client_puts_parameters_into_the_query(client, coinbase, params, query):
    client.get("/echo", params=params)
    client.post("/echo?x=1", params=params)
    assert coinbase.seen[0].path == f"/echo{query}"
    assert coinbase.seen[1].path == f"/echo?x=1{query.replace('?', '&')}"
    assert coinbase.refusals == []


@examples(100)
@given(path=st.from_regex(r"/[!-~]{0,30}", fullmatch=True))
def test_signed_path_is_the_sent_path(client, coinbase, path):
    """To the octet, as far as it is a path at all; the server compares it with `uri`."""
    coinbase.routes.clear()
    del coinbase.seen[:]
    with contextlib.suppress(cdp_jwt.InvalidRequestError, cdp_jwt.ApiError):
        client.get(path)
    for seen in coinbase.seen:
        assert seen.path == path
        claims = json.loads(segments(seen.token)[1])
        assert claims["uri"] == f"GET {coinbase.host}{path.partition('?')[0]}"


def test_client_without_a_key_sends_no_token(coinbase, trust):
    client = cdp_jwt.Client(host=coinbase.host, ssl_context=trust)
    assert "epochMillis" in client.get("/api/v3/brokerage/time").json()
    assert coinbase.seen[0].token is None
    with pytest.raises(cdp_jwt.ApiError, match="HTTP 401: Unauthorized"):
        client.get(ACCOUNTS)


def test_client_sends_a_url_to_its_own_host(coinbase, trust):
    client = cdp_jwt.Client(key_of(), host="unused.example", ssl_context=trust)
    assert client.get(f"https://{coinbase.host}{ACCOUNTS}").status == 200


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.request("GET", "/x", json={}), "GET takes no body; use params"),
        (lambda c: c.request("HEAD", "/x", json=0), "HEAD takes no body; use params"),
        (
            lambda c: c.request("FETCH", "/x"),
            f"unknown method FETCH; expected one of {METHODS}",
        ),
        (
            lambda c: c.get(None, params={"a": 1}),
            "the path is NoneType, not text",
        ),
        (lambda c: c.get("http://localhost/x"), HTTPS),
        (lambda c: c.get("ftp://localhost/x"), HTTPS),
        (lambda c: c.get("file:///etc/passwd"), HTTPS),
        (
            lambda c: c.get("/a b"),
            "the path has ' ' at position 3; remove or encode it",
        ),
        (lambda c: c.get("/x", params=[("a", 1)]), "params is list; expected a dict"),
        (
            lambda c: c.get("/x", params={1: 1}),
            "the name of a parameter is int, not text",
        ),
    ],
)
def test_client_refuses_bad_arguments_before_it_sends(client, coinbase, call, message):
    with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
        call(client)
    assert str(caught.value) == message
    assert coinbase.seen == []


DEEP: list = []
DEEP.append(DEEP)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"price": decimal.Decimal(1)}, "the body has Decimal at price: use str()"),
        ({"a": [1, {"b": {2}}]}, "the body has set at a[1].b: use str()"),
        ([b"x"], "the body has bytes at [0]: use str()"),
        (decimal.Decimal(1), "the body has Decimal: use str()"),
        ({"a": float("nan")}, "the body has nan at a"),
        ({"a": (float("-inf"),)}, "the body has -inf at a[0]"),
        ({"a": {(1,): 1}}, "the body has a name that is tuple at a: use str()"),
        ({"\x1b" * 400: {1}}, f"the body has set at {'x1b'.join([chr(92)] * 76)[:300]}: use str()"),
        (DEEP, "the body has a part that contains itself, or that is nested too deeply"),
        ("{}", "json is text, which would be encoded twice; pass the object, or bytes"),
        ("", "json is text, which would be encoded twice; pass the object, or bytes"),
    ],
    ids=repr,
)  # fmt: skip
def test_body_that_json_has_no_words_for_is_named(client, coinbase, body, message):
    with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
        client.post("/x", json=body)
    assert str(caught.value) == message
    assert caught.value.__context__ is None
    assert coinbase.seen == []


@pytest.mark.parametrize("key", ["key.json", SEC1, b"x", object(), NAME.encode()])
def test_client_refuses_what_is_no_api_key(key):
    message = (
        f"key is {type(key).__name__}; expected what ApiKey.from_file(path) returns"
    )
    with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
        cdp_jwt.Client(key)
    assert str(caught.value) == message
    shown = traceback.TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    own = [frame.locals for frame in shown.stack if frame.filename == str(MODULE)]
    assert own
    assert repr(key)[:60] not in repr(own)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": 1e6},
        {"retries": -1},
        {"max_body": -1},
        {"host": "a b"},
        {"host": 5},
    ],
)
def test_client_refuses_bad_options(options):
    with pytest.raises(cdp_jwt.InvalidRequestError):
        cdp_jwt.Client(**options)


def test_client_takes_options_up_to_their_bounds(coinbase, trust):
    options = {"timeout": 999_999.5, "retries": 0, "max_body": 0}
    client = cdp_jwt.Client(host=coinbase.host, ssl_context=trust, **options)
    coinbase.faults.append(status(200, b""))
    assert client.get("/x").body == b""


def test_client_has_the_options_of_its_documentation():
    parameters = inspect.signature(type(cdp_jwt.Client())).parameters.values()
    assert [(each.name, each.default) for each in parameters] == [
        ("key", None),
        ("host", "api.coinbase.com"),
        ("timeout", 10.0),
        ("retries", 2),
        ("max_body", 33_554_432),
        ("ssl_context", None),
    ]
    assert all(each.kind is each.KEYWORD_ONLY for each in [*parameters][1:])


# Nothing leaks


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308, 399])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_redirect_is_never_followed(client, coinbase, tls, wire, code, method):
    def steal(stealing: Wire, connection: socket.socket) -> None:
        stealing.read_request(connection)

    attacker, plain = wire(steal), wire(steal, None)
    targets = {
        f"https://{attacker.host}/x": attacker.host,
        f"http://{plain.host}/x": plain.host,
        "ftp://files.example/x": "files.example",
        "/echo": "the same host",
    }
    for target, named in targets.items():
        coinbase.faults.append(status(code, b"", Location=target))
        with pytest.raises(cdp_jwt.ApiError) as caught:
            client.request(method, "/echo")
        message = f"HTTP {code}: a redirect to {named}, not followed"
        assert str(caught.value) == message
    assert (len(coinbase.seen), attacker.connections, plain.connections) == (4, 0, 0)


def test_other_codes_settings_change_nothing(coinbase, trust, monkeypatch, capfd):
    """A global opener, unverified TLS as the default, and a debug level that prints."""

    class Thief(urllib.request.BaseHandler):
        handler_order = 0

        def https_request(self, request):
            raise AssertionError("an installed opener saw the request")

        https_open = https_request

    monkeypatch.setattr(urllib.request, "_opener", None)
    urllib.request.install_opener(urllib.request.build_opener(Thief()))
    monkeypatch.setattr(
        ssl, "_create_default_https_context", ssl._create_unverified_context
    )
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    monkeypatch.setattr(socket, "getdefaulttimeout", lambda: 0.001)
    with cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust) as client:
        assert client.get(ACCOUNTS).status == 200
    assert capfd.readouterr() == ("", "")
    untrusting = cdp_jwt.Client(key_of(), host=coinbase.host, retries=0)
    assert "unknown CA" in transport_error(lambda: untrusting.get(ACCOUNTS))
    assert len(coinbase.seen) == 1


def test_tools_that_watch_urllib_see_an_answer_of_its_kind(
    client, coinbase, monkeypatch
):
    """As opentelemetry-instrumentation-urllib does; and the answer is still ours."""
    original, seen = urllib.request.OpenerDirector.open, []

    def watched(opener, fullurl, data=None, timeout=None):
        fullurl.add_header("Traceparent", "00-1-1-01")
        fullurl.add_header("Baggage", "a=1\r\nHost: evil.example\r\n\r\nGET /")
        answer = original(opener, fullurl, data=data, timeout=timeout)
        version = str(getattr(answer, "version", ""))
        seen.append((fullurl.get_method(), answer.getcode(), answer.status, version))
        assert answer.headers is answer.info()
        return answer

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", watched)
    assert client.post("/echo", json={}).status == 200
    coinbase.faults.append(status(400))
    with pytest.raises(cdp_jwt.ApiError):
        client.get("/echo")
    assert seen == [("POST", 200, 200, ""), ("GET", 400, 400, "")]
    headers = coinbase.seen[0].headers
    assert headers["traceparent"] == "00-1-1-01"
    assert headers["baggage"] == "a=1Host: evil.exampleGET /"
    assert len(coinbase.seen) == 2


@pytest.mark.parametrize("weakness", ["verify_mode", "check_hostname"])
def test_context_that_does_not_verify_is_refused(trust, weakness):
    trust.check_hostname = False
    if weakness == "verify_mode":
        trust.verify_mode = ssl.CERT_NONE
    with pytest.raises(
        cdp_jwt.InvalidRequestError, match="ssl_context does not verify"
    ):
        cdp_jwt.Client(key_of(), ssl_context=trust)


def test_ssl_cert_file_is_heeded(coinbase, ca_file, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    assert cdp_jwt.Client(key_of(), host=coinbase.host).get(ACCOUNTS).status == 200


def test_token_is_in_no_variable_of_an_errors_frames(client, coinbase, wire, trust):
    """Error reporters show variables."""
    coinbase.faults.append(status(400))
    server = wire(saying(b"no HTTP"))
    for call in (lambda: client.get("/echo"), lambda: calling(server, trust).get("/x")):
        with pytest.raises(cdp_jwt.CdpError) as caught:
            call()
        shown = traceback.TracebackException.from_exception(
            caught.value, capture_locals=True
        )
        assert "eyJ" not in "".join(shown.format())
        assert caught.value.__context__ is None


def test_token_is_in_no_message_log_or_repr(client, coinbase, caplog):
    caplog.set_level(logging.DEBUG)
    coinbase.faults += [status(503), status(401), status(400, {"message": "no"})]
    errors = []
    for _ in range(2):
        with pytest.raises(cdp_jwt.ApiError) as caught:
            client.get(ACCOUNTS)
        errors += [str(caught.value), repr(caught.value), repr(caught.value.args)]
    texts = [*errors, repr(client), caplog.text]
    assert "Bearer ..." in caplog.text
    for seen in coinbase.seen:
        assert all(seen.token[-20:] not in text for text in texts)
        assert all(seen.token[:30] not in text for text in texts)


# It tells the truth about failure

STATUSES = [
    (400, {"error": "INVALID_ARGUMENT", "code": 3, "message": "bad size"}, "bad size"),
    (400, {"error": "INVALID", "error_details": "details"}, "details"),
    (401, b"Unauthorized", "Unauthorized"),
    (401, b"Unauthorized\n", "Unauthorized"),
    (
        402,
        {"errors": [{"id": "two_factor_required", "message": "enter it"}]},
        "enter it",
    ),
    (
        403,
        {"error": "PERMISSION_DENIED", "message": "Missing required scopes"},
        "Missing required scopes",
    ),
    (404, {"errors": [{"id": "not_found"}]}, "not_found"),
    (404, b"<html>not found</html>", "<html>not found</html>"),
    (409, {"error": "conflict"}, "conflict"),
    (410, [], "[]"),
    (418, {"errors": []}, '{"errors": []}'),
    (422, {"errors": ["text"]}, '{"errors": ["text"]}'),
    (429, {"message": 7}, "7"),
    (500, b"", "no message"),
    (501, b"\xff\xfe", "\ufffd\ufffd"),
    (502, b"x" * 1000, "x" * 300),
    (503, b"null", "null"),
    (504, b"[" * 5000, "[" * 300),
    (599, {"message": None, "error": ""}, '{"message": null, "error": ""}'),
]


@pytest.mark.parametrize(("code", "content", "message"), STATUSES)
def test_status_outside_200_299_is_an_api_error(
    coinbase, trust, code, content, message
):
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust, retries=0)
    coinbase.faults.append(status(code, content, X_Trace="7"))
    with pytest.raises(cdp_jwt.ApiError) as caught:
        client.get(ACCOUNTS)
    error = caught.value
    assert (error.status, str(error)) == (code, f"HTTP {code}: {message}")
    assert error.headers["x-trace"] == "7"
    assert error.body == (
        content if isinstance(content, bytes) else json.dumps(content).encode()
    )


def test_body_of_an_api_error_is_bounded(client, coinbase):
    for size in (65_535, 65_536, 100_000, 1):
        coinbase.faults.append(status(400, b"x" * size))
        with pytest.raises(cdp_jwt.ApiError) as caught:
            client.get(ACCOUNTS)
        assert len(caught.value.body) == min(size, 65_536)
    assert len({seen.connection for seen in coinbase.seen}) == 2


GZIP = "its answer is compressed, which was not asked for"
UNREADABLE = {
    "compressed": (b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", GZIP),
    "compressed twice": (b"Content-Encoding: identity\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", GZIP),
    "cut off": (b"Content-Length: 100\r\n\r\n{}", "it closed the connection"),
    "chunk cut off": (b"Transfer-Encoding: chunked\r\n\r\n64\r\n{}", "it closed the connection"),
    "wrong chunk": (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", "its answer is not HTTP"),
}  # fmt: skip


@pytest.mark.parametrize("fault", UNREADABLE)
@pytest.mark.parametrize("code", [401, 404, 500, 501])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_status_is_kept_whatever_the_body_is(wire, trust, fault, code, method):
    octets, reason = UNREADABLE[fault]
    server = wire(saying(b"HTTP/1.1 %d No\r\nX-Trace: 7\r\n" % code + octets))
    with pytest.raises(cdp_jwt.ApiError) as caught:
        calling(server, trust).request(method, "/x")
    error, unknown = caught.value, method == "POST" and code >= 500
    outcome = f"; {UNKNOWN}" if unknown else "; it was not carried out"
    outcome = "" if method == "GET" and code >= 500 else outcome
    assert str(error) == f"HTTP {code}: {reason}{outcome}"
    assert (error.status, error.body, error.headers["X-Trace"]) == (code, b"", "7")
    assert error.outcome_unknown == unknown


def test_compressed_503_is_tried_again_and_empty_coding_is_none(
    client, coinbase, waits
):
    coinbase.faults.append(status(503, b"\x1f\x8b", Content_Encoding="gzip"))
    coinbase.faults.append(status(200, b"{}", Content_Encoding=""))
    assert client.get("/x").json() == {}
    coinbase.faults.append(status(200, b"{}", Content_Encoding=" Identity "))
    assert client.get("/x").json() == {}
    coinbase.faults += [status(204, b"", Content_Encoding="gzip")] * 2
    assert client.head("/x").status == client.delete("/x").status == 204
    assert waits == [0.25]


def test_servers_words_are_kept_to_the_last(client, coinbase):
    said = "order engine busy; try again with order id 7781 (NOT cancelled)"
    coinbase.faults += [status(500, {"message": said})] * 2
    with pytest.raises(cdp_jwt.ApiError) as caught:
        client.post(ORDERS, json={})
    assert str(caught.value) == f"HTTP 500: {said}; {UNKNOWN}"


TOKENLIKE = {"message": "eyJ" * 87_381}
LONG = [
    (TOKENLIKE, '{"message": "...'),
    ({"message": "eyJ" * 20_000}, "..."),
    ({"message": "eyJ." * 15_000}, "..."),
    ({"message": " eyJ" * 15_000}, (" eyJ" * 75)[1:] + " "),
    ({"message": "\x1b" * 10_000}, "\\x1b" * 75),
    (b"eyJ" * 4_000_000, "..."),
    (b"[" * 4_000_000, "[" * 300),
    (b'{"a":' * 1_000_000, ('{"a":' * 60)),
]


@pytest.mark.parametrize(("content", "shown"), LONG, ids=range(len(LONG)))
def test_call_ends_in_time_whatever_the_server_says(client, coinbase, content, shown):
    """No pattern runs over more than 4 KiB of its text."""
    coinbase.faults.append(status(400, content))
    started = time.monotonic()
    with pytest.raises(cdp_jwt.ApiError) as caught:
        client.get("/x")
    assert time.monotonic() - started < 1
    assert str(caught.value) == f"HTTP 400: {shown}"


def test_no_pattern_runs_over_more_than_4_kib_of_a_servers_text(
    client, coinbase, waits, monkeypatch
):
    lengths = []

    class Measuring:
        def __getattr__(self, name: str):
            def measure(*arguments):
                lengths.extend(len(each) for each in arguments[1:])
                return getattr(re, name)(*arguments)

            return measure

    monkeypatch.setattr(cdp_jwt, "re", Measuring())
    for code, headers in ((400, {}), (302, {"Location": "a" * 60_000}),
                          (429, {"Retry_After": "1" * 60_000}), (401, {"Date": "x" * 60_000})):  # fmt: skip
        coinbase.faults.append(status(code, {"message": "x" * 60_000}, **headers))
        with contextlib.suppress(cdp_jwt.ApiError):
            client.get(ACCOUNTS)
    assert max(lengths) == 4096


@pytest.mark.parametrize(
    "header", ["Location", "Retry-After", "Date", "Proxy-Authenticate"]
)
def test_call_ends_in_time_whatever_a_header_says(client, coinbase, waits, header):
    for value in ("a" * 60_000, "//" + "a." * 30_000, "1" * 60_000, "Sun, " * 12_000):
        for code in (301, 401, 429):
            coinbase.faults.append(
                status(code, b"", **{header.replace("-", "_"): value})
            )
            started = time.monotonic()
            with contextlib.suppress(cdp_jwt.ApiError):
                client.get("/x")
            assert time.monotonic() - started < 0.9
            coinbase.faults.clear()


@pytest.mark.parametrize("code", [200, 201, 202, 204, 206, 299])
def test_status_of_200_to_299_is_a_response(client, coinbase, code):
    coinbase.faults.append(status(code, b""))
    assert client.get(ACCOUNTS).status == code


UNKNOWN = (
    "it may have been carried out and was not sent again: look for it first, an order"
    " by its client_order_id"
)
OK = b"HTTP/1.1 200 OK\r\n"
NOT_HTTP = "its answer is not HTTP; check host and proxy"
CLOSED = "it closed the connection; try again"
COMPRESSED = "its answer is compressed, which was not asked for; check host and proxy"
OVERSIZED = "its answer is over max_body; raise max_body"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MALFORMED = {
    "nothing": (b"", CLOSED),
    "half a status line": (b"HTTP/1.1 20", NOT_HTTP),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", NOT_HTTP),
    "HTML alone": (b"<html></html>", NOT_HTTP),
    "status of letters": (b"HTTP/1.1 abc OK\r\n\r\n", NOT_HTTP),
    "status of 9": (b"HTTP/1.1 9 OK\r\n\r\n", NOT_HTTP),
    "status of 1000": (b"HTTP/1.1 1000 OK\r\n\r\n", NOT_HTTP),
    "endless status line": (b"HTTP/1.1 200 " + b"x" * 70_000, NOT_HTTP),
    "endless header": (OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n", NOT_HTTP),
    "too many headers": (OK + b"X: y\r\n" * 200 + b"\r\n", NOT_HTTP),
    "headers beyond 64 KiB": (OK + b"X: %s\r\n" % (b"y" * 900) * 80 + b"\r\n", NOT_HTTP),
    "words of a failed verification": (b"HTTP/1.1 Verif expired\r\n\r\n", NOT_HTTP),
    "words of a proxy": (b"HTTP/1.1 Tunnel 407\r\n\r\n", NOT_HTTP),
    "words of a time-out": (b"ERR upstream request timed out\r\n\r\n", NOT_HTTP),
    "words, many": (b"Verif" * 13_000 + b"\r\n\r\n", NOT_HTTP),
    "interim answer alone": (b"HTTP/1.1 103 Early Hints\r\n\r\n", CLOSED),
    "unknown interim answer alone": (b"HTTP/1.1 199 Well\r\n\r\n", CLOSED),
    "other protocol": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", NOT_HTTP),
    "header without a colon": (OK + b"A: b\r\nX\r\nContent-Length: 9\r\n\r\n{}", NOT_HTTP),
    "bare CR in a header": (OK + b"A: b\rc\r\nContent-Length: 9\r\n\r\n{}", NOT_HTTP),
    "bare CR before a length": (OK + b"A: b\rContent-Length: 2\r\n\r\n{}EXTRA", NOT_HTTP),
    "header name beyond ASCII": (OK + b"\xe9: b\r\nContent-Length: 9\r\n\r\n{}", NOT_HTTP),
    "header without a name": (OK + b": b\r\nContent-Length: 2\r\n\r\n{}", NOT_HTTP),
    "space before a colon": (OK + b"A : b\r\nContent-Length: 9\r\n\r\n{}", NOT_HTTP),
    "mail's first line": (OK + b"From me\r\nContent-Length: 2\r\n\r\n{}", NOT_HTTP),
    "mail's last line": (OK + b"Content-Length: 2\r\nFrom me\r\n\r\n{}", NOT_HTTP),
    "folded first": (OK + b" a\r\nContent-Length: 2\r\n\r\n{}", NOT_HTTP),
    "headers cut off": (OK + b"A: b\r\n", CLOSED),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", NOT_HTTP),
    "lengths in a list": (OK + b"Content-Length: 2, 3\r\n\r\n{} ", NOT_HTTP),
    "length of letters": (OK + b"Content-Length: two\r\n\r\n{}", NOT_HTTP),
    "length below 0": (OK + b"Content-Length: -2\r\n\r\n{}", NOT_HTTP),
    "other coding": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", NOT_HTTP),
    "body cut off": (OK + b"Content-Length: 100\r\n\r\n{}", CLOSED),
    "chunk cut off": (OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{}", CLOSED),
    "chunks without an end": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", CLOSED),
    "chunk length of letters": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", NOT_HTTP),
    "gzip": (OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", COMPRESSED),
    "too large, announced": (OK + b"Content-Length: 99999\r\n\r\n" + b"x" * 99_999, OVERSIZED),
    "too large, chunked": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n" + b"0\r\n\r\n",
        OVERSIZED,
    ),
    "too large, without end": (OK + b"\r\n" + b"x" * 5000, OVERSIZED),
}  # fmt: skip


@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_answer_is_a_transport_error(wire, trust, fault):
    answer, message = MALFORMED[fault]
    server = wire(saying(answer))
    client = calling(server, trust, max_body=1000)
    found = transport_error(lambda: client.get("/x"))
    assert found == f"{server.host}: {message}"
    unknown = transport_error(lambda: client.post("/x", json={}))
    certain = found.replace("; try again", "")  # that could be a second order
    assert unknown == f"{certain}; {UNKNOWN}"
    assert len(server.requests) == 2


def test_length_may_have_spaces_around_it(wire, trust):
    """RFC 9112, section 5."""
    server = wire(saying(OK + b"Content-Length:  2 \r\n\r\n{}"))
    assert calling(server, trust).get("/x").json() == {}


def test_status_of_an_error_outlasts_its_broken_headers(wire, trust):
    """It was not carried out, whatever else the answer says."""
    head = b"HTTP/1.1 401 No\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
    client = calling(wire(saying(head)), trust)
    with pytest.raises(cdp_jwt.ApiError) as caught:
        client.post("/x", json={})
    error = caught.value
    assert (error.status, error.body, error.outcome_unknown) == (401, b"", False)
    assert str(error) == "HTTP 401: its answer is not HTTP; it was not carried out"


@pytest.mark.parametrize(
    ("value", "query"),
    [
        (decimal.Decimal("1E+2"), "p=100"),
        (decimal.Decimal("0.10"), "p=0.10"),
        (1.5, "p=1.5"),
        (True, "p=true"),
        (Lying("x y"), "p=x%20y"),
        (["a", None, 7], "p=a&p=7"),
    ],
)
def test_parameter_is_sent_as_it_is_meant(client, coinbase, value, query):
    client.get("/echo", params={"p": value})
    assert coinbase.seen[-1].path == f"/echo?{query}"


@pytest.mark.parametrize(
    "value", [b"abc", {"a": 1}, {1}, range(3), object(), float("nan"), 10**5000,
              enum.Enum("Side", ["BUY"]).BUY, decimal.Decimal("inf")], ids=repr_of_type
)  # fmt: skip
def test_parameter_without_a_text_of_its_own_is_refused(client, coinbase, value):
    if sys.version_info < (3, 11) and isinstance(value, int):
        pytest.skip("every number has its digits there")
    message = f"a value in params is {type(value).__name__}; expected text or a number"
    with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
        client.get("/echo", params={"p": value})
    assert str(caught.value) == message
    assert coinbase.seen == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b"<html>", b"{'a': 1}"]
)
def test_body_that_is_not_json_is_a_transport_error_when_asked_for(
    client, coinbase, body
):
    coinbase.faults.append(status(200, body))
    response = client.get(ACCOUNTS)
    assert response.body == body
    message = "this answer (HTTP 200) is not JSON; see body"
    assert transport_error(response.json) == message


@pytest.mark.parametrize("codes", [[103], [102, 103, 100], [199] * 40])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_interim_answers_are_skipped(wire, trust, codes, method):
    """RFC 9110, section 15.2; psf/requests#5190 is about what happens otherwise."""
    head = b"Link: </x>\r\nContent-Length: 5\r\n\r\n"
    interim = b"".join(b"HTTP/1.1 %d Soon\r\n%s" % (code, head) for code in codes)
    answer = OK + b"Content-Length: 2\r\nX: y\r\n\r\n{}"

    def script(wire: Wire, connection: socket.socket) -> None:
        for _ in range(2):
            wire.read_request(connection)
            connection.sendall(interim + answer)

    server = wire(script)
    client = calling(server, trust)
    for _ in range(2):
        response = client.request(method, "/x")
        assert (response.json(), response.headers["X"]) == ({}, "y")
        assert response.headers["Link"] is None
    assert (server.connections, len(server.requests)) == (1, 2)


# It ends


def endless_interims(wire: Wire, connection: socket.socket) -> None:
    wire.read_request(connection)
    while not wire.over.wait(0.02):
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")


def stall_handshake(wire: Wire, connection: socket.socket) -> None:
    wire.over.wait(20)


def stall_headers(wire: Wire, connection: socket.socket) -> None:
    wire.read_request(connection)
    wire.over.wait(20)


def drip_status(wire: Wire, connection: socket.socket) -> None:
    wire.read_request(connection)
    wire.drip(connection, b"HTTP/1.1 200 OK" + b" " * 5000)


def drip_headers(wire: Wire, connection: socket.socket) -> None:
    wire.read_request(connection)
    wire.drip(connection, OK + b"X: y\r\n" * 900)


def drip_body(wire: Wire, connection: socket.socket) -> None:
    wire.read_request(connection)
    connection.sendall(OK + b"Content-Length: 5000\r\n\r\n")
    wire.drip(connection, b"x" * 5000)


def drip_chunks(wire: Wire, connection: socket.socket) -> None:
    wire.read_request(connection)
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    wire.drip(connection, b"1\r\nx\r\n" * 900)


def endless_body(wire: Wire, connection: socket.socket) -> None:
    wire.read_request(connection)
    connection.sendall(OK + b"\r\n")
    while not wire.over.wait(0.01):
        connection.sendall(b"x")


def read_slowly(wire: Wire, connection: socket.socket) -> None:
    while not wire.over.wait(0.02):
        connection.recv(100_000)  # each record in less than the timeout, not all


TIMING = [stall_handshake, stall_headers, endless_interims, drip_status, drip_headers, drip_body, drip_chunks,
          endless_body, read_slowly]  # fmt: skip


@pytest.mark.parametrize("fault", TIMING)
def test_call_ends_when_its_time_is_over(wire, tls, trust, fault):
    server = wire(fault, None if fault is stall_handshake else tls)
    client = calling(server, trust, timeout=0.6, retries=5)
    body = b'"%s"' % (b"x" * 30_000_000) if fault is read_slowly else None
    started = time.monotonic()
    message = transport_error(lambda: client.request("POST", "/x", json=body))
    assert time.monotonic() - started < 1.1
    assert f"{server.host}: it took longer than the timeout; " in message
    assert server.connections == 1


def test_endless_body_ends_at_max_body(wire, trust):
    server = wire(endless_body)
    client = calling(server, trust, timeout=5, max_body=10)
    started = time.monotonic()
    message = transport_error(lambda: client.get("/x"))
    assert message == f"{server.host}: {OVERSIZED}"
    assert time.monotonic() - started < 4


CHUNK_FLOODS = {
    "a size of -1": b"-1\r\n",
    "a size of -1, and octets": b"-1\r\n" + b"x" * 60_000,
    "sizes with extensions": b"1;" + b"x" * 60_000 + b"\r\nx\r\n",
    "single octets": b"1\r\nx\r\n" * 20_000,
    "endless trailer": b"0\r\n" + b"X: y\r\n" * 20_000,
}


@pytest.mark.parametrize("flood", CHUNK_FLOODS)
@pytest.mark.parametrize("code", [200, 400])
def test_octets_that_are_read_are_counted_with_their_framing(wire, trust, flood, code):
    """max_body and 64 KiB, and what a buffer holds."""
    sent = []

    def script(wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        connection.sendall(
            b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % code
        )
        octets = CHUNK_FLOODS[flood]
        octets *= 1 + 60_000 // len(octets)
        while sum(sent) < 50_000_000:
            connection.sendall(octets)
            sent.append(len(octets))

    read = []
    original = cdp_jwt._Octets.readinto

    def counted(octets, buffer) -> int:
        count = original(octets, buffer)
        read.append(count)
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cdp_jwt._Octets, "readinto", counted)
        with pytest.raises((cdp_jwt.TransportError, cdp_jwt.ApiError)) as caught:
            calling(wire(script), trust, max_body=1000, timeout=9).get("/x")
    assert "its answer is" in str(caught.value)
    assert sum(read) < 65_536 + 66_000 + 65_536


def test_body_may_have_max_body_octets(coinbase, trust):
    options = {"host": coinbase.host, "ssl_context": trust, "max_body": 1000}
    client = cdp_jwt.Client(**options)
    coinbase.faults += [status(200, b"x" * 1000), status(200, b"x" * 1001)]
    assert client.get("/x").body == b"x" * 1000
    message = transport_error(lambda: client.post("/x"))
    assert OVERSIZED.partition(";")[0] in message


def test_connecting_to_all_addresses_shares_one_timeout(trust, monkeypatch):
    """A name with many addresses, none of which answers."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = full.getsockname()
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(address)
    family = (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [family] * 5)
    client = cdp_jwt.Client(
        key_of(), host="many.example", timeout=0.6, ssl_context=trust
    )
    started = time.monotonic()
    assert "it took longer than the timeout" in transport_error(
        lambda: client.get("/x")
    )
    assert time.monotonic() - started < 1.1
    for each in (full, *fillers):
        each.close()


def test_addresses_are_tried_in_their_order_each_for_its_share(monkeypatch):
    addresses = [(f"127.0.0.{number}", 443) for number in (1, 2, 3)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", each) for each in addresses]
    tried = []

    def refuse(address: tuple, seconds: float) -> None:
        tried.append((address, seconds))
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    with pytest.raises(cdp_jwt._CallError, match="it refused the connection"):
        cdp_jwt._connect("many.example", 443, 130.0)
    assert tried == [(addresses[0], 10), (addresses[1], 15), (addresses[2], 30)]


def test_octets_that_came_too_late_are_none(monkeypatch):
    """Whatever the socket makes of its timeout."""

    class Slow:
        def settimeout(self, seconds: float) -> None:
            assert seconds == 5

        def recv_into(self, buffer: memoryview) -> int:
            monkeypatch.setattr(time, "monotonic", lambda: 106.0)
            return len(buffer)

    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    with pytest.raises(TimeoutError):
        cdp_jwt._Octets(Slow(), 105.0).readinto(bytearray(9))


def test_no_time_that_is_left_is_over(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    with pytest.raises(TimeoutError):
        cdp_jwt._left(100.0)


@pytest.mark.parametrize("family", [socket.AF_INET, 99])
def test_second_address_is_tried(coinbase, trust, monkeypatch, family):
    original = socket.getaddrinfo
    refused = (family, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *a, **k: [refused, *original(*a, **k)]
    )
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust)
    assert client.get(ACCOUNTS).status == 200


# Connecting, TLS and proxies


def test_connection_that_is_refused_is_named(trust):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"localhost:{listener.getsockname()[1]}"
    client = cdp_jwt.Client(key_of(), host=host, ssl_context=trust, retries=0)
    message = transport_error(lambda: client.post("/x"))
    assert (
        message
        == f"{host}: it refused the connection; check host, firewall, HTTPS_PROXY"
    )


@pytest.mark.parametrize("found", [None, []])
def test_name_that_is_unknown_is_named(trust, monkeypatch, found):
    def unknown(*_, **__):
        if found is not None:
            return found
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = cdp_jwt.Client(key_of(), host="no.example", ssl_context=trust, retries=0)
    message = transport_error(lambda: client.get("/x"))
    assert (
        message == "no.example: its name was not found; check host, DNS and HTTPS_PROXY"
    )


def dated_certificate(ca: trustme.CA, **validity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", **validity).configure_cert(context)
    return context


LONG_AGO = datetime.datetime(2001, 1, 1)
UNKNOWN_CA = "its certificate is of an unknown CA; for a private CA set SSL_CERT_FILE or ssl_context"
TLS_FAILED = "TLS failed; is it a server for TLS 1.2 or later?"


def old_tls(ca: trustme.CA) -> ssl.SSLContext:
    context = server_context(ca)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def other_cipher(ca: trustme.CA) -> ssl.SSLContext:
    context = server_context(ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    return context


TLS_FAULTS = {
    "expired": (
        lambda ca: dated_certificate(
            ca, not_before=LONG_AGO, not_after=LONG_AGO + datetime.timedelta(9)
        ),
        "its certificate has expired; check the clock",
    ),
    "not valid yet": (
        lambda ca: dated_certificate(ca, not_before=datetime.datetime(2999, 1, 1)),
        "its certificate is not valid yet; check the clock",
    ),
    "wrong host": (
        lambda ca: server_context(ca, "other.example"),
        "its certificate is for another host; check host and proxy",
    ),
    "another CA": (lambda _: server_context(trustme.CA()), UNKNOWN_CA),
    "self-signed": (lambda _: self_signed(), UNKNOWN_CA),
    "TLS 1.1": (old_tls, TLS_FAILED),
    "no common cipher": (other_cipher, TLS_FAILED),
    "plain HTTP": (lambda _: None, TLS_FAILED),
    "closed at once": (lambda _: None, CLOSED),
}


def self_signed() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime(2020, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(36500))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "server.pem")
        path.write_bytes(certificate.public_bytes(Encoding.PEM) + pem(key).encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
    return context


def leave_at_once(wire: Wire, connection: socket.socket) -> None:
    connection.recv(65536)


def refuse_plainly(wire: Wire, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("fault", TLS_FAULTS)
def test_tls_fault_is_named_and_nothing_is_sent(wire, ca, trust, fault):
    make, message = TLS_FAULTS[fault]
    script = saying(OK + b"Content-Length: 0\r\n\r\n")
    if fault == "plain HTTP":
        script = refuse_plainly
    if fault == "closed at once":
        script = leave_at_once
    server = wire(script, make(ca))
    found = transport_error(lambda: calling(server, trust).post("/x", json={}))
    assert found == f"{server.host}: {message}"
    assert server.requests == []


def test_certificate_that_is_refused_is_not_tried_again(wire, trust):
    server = wire(saying(), server_context(trustme.CA()))
    transport_error(lambda: calling(server, trust, retries=5).get("/x"))
    assert server.connections == 1


NOT_STRICT = "its CA breaks RFC 5280: Python >= 3.13 refuses it; reissue the CA"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (9, "its certificate is not valid yet; check the clock"),
        (10, "its certificate has expired; check the clock"),
        (2, UNKNOWN_CA),
        (18, UNKNOWN_CA),
        (19, UNKNOWN_CA),
        (20, UNKNOWN_CA),
        (21, UNKNOWN_CA),
        (62, "its certificate is for another host; check host and proxy"),
        (64, "its certificate is for another host; check host and proxy"),
        (85, NOT_STRICT),  # Missing Authority Key Identifier
        (89, NOT_STRICT),  # Basic Constraints of CA cert not marked critical
        (92, NOT_STRICT),  # CA cert does not include key usage extension
        (23, "its certificate was refused; check host and proxy"),  # revoked
        (95, "its certificate was refused; check host and proxy"),
    ],
)
def test_certificate_is_explained_by_openssls_number(
    trust, wire, monkeypatch, code, message
):
    """And by nothing that its text says."""
    refusals = []

    def refuse(*_, **__):
        refusals.append(code)
        error = ssl.SSLCertVerificationError(1, "expired, self-signed, mismatch")
        error.verify_code = code
        raise error

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
    server = wire(saying(), None)
    with pytest.raises(cdp_jwt.TransportError) as caught:
        calling(server, trust, retries=5).post("/x")
    assert str(caught.value) == f"{server.host}: {message}"
    assert (caught.value.outcome_unknown, refusals) == (False, [code])


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_authorities_that_do_not_exist_are_named(
    coinbase, monkeypatch, tmp_path, variable
):
    missing = f"{tmp_path}/\x1bno.pem"
    monkeypatch.setenv(variable, missing)
    client = cdp_jwt.Client(key_of(), host=coinbase.host)
    found = f"{variable} does not exist: {tmp_path}/\\x1bno.pem"
    reason, _, advice = UNKNOWN_CA.partition("; ")
    message = f"{coinbase.host}: {reason} ({found}); {advice}"
    assert transport_error(lambda: client.get("/x")) == message
    monkeypatch.setenv(variable, str(tmp_path))
    message = f"{coinbase.host}: {UNKNOWN_CA}"
    assert transport_error(lambda: client.get("/x")) == message


def test_context_that_allows_old_tls_is_raised_to_1_2(wire, ca, trust):
    """Python 3.9's own default allows it."""
    server = wire(saying(OK + b"Content-Length: 0\r\n\r\n"), old_tls(ca))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trust.minimum_version = ssl.TLSVersion.TLSv1
    trust.set_ciphers("ALL:@SECLEVEL=0")
    host, _, port = server.host.partition(":")
    try:
        with socket.create_connection((host, int(port))) as plain:
            trust.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLError:
        pytest.skip("this OpenSSL has no TLS 1.1")
    message = f"{server.host}: {TLS_FAILED}"
    assert transport_error(lambda: calling(server, trust).get("/x")) == message
    assert server.requests == []


@pytest.fixture
def proxy(wire) -> Callable[..., Wire]:
    """A CONNECT proxy on loopback that can refuse, ask for a password, drip and stall."""

    def start(
        answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n", credentials: str = ""
    ) -> Wire:
        def script(wire: Wire, client: socket.socket) -> None:
            request = wire.read_request(client)
            expected = f"Proxy-Authorization: Basic {credentials}\r\n".encode()
            if credentials and expected not in request:
                return client.sendall(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
                )
            if b" 200 " not in answer:
                if answer == b"drip":
                    return wire.drip(client, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 900)
                return client.sendall(answer)
            host, _, port = request.split()[1].decode().partition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(answer)
                pump(client, server, wire)

        return wire(script, None)

    return start


def pump(one: socket.socket, other: socket.socket, wire: Wire) -> None:
    while not wire.over.is_set():
        for source in select.select([one, other], [], [], 0.1)[0]:
            octets = source.recv(65536)
            if not octets:
                return
            wire.passed = getattr(wire, "passed", b"") + octets
            (other if source is one else one).sendall(octets)


def test_proxy_carries_the_call_and_sees_no_token(coinbase, trust, proxy, monkeypatch):
    password = base64.b64encode(b"me:s3cret").decode()
    through = proxy(credentials=password)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret@{through.host}")
    with cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust) as client:
        for _ in range(3):
            assert client.get(ACCOUNTS).status == 200
    assert through.connections == 1
    assert through.requests[0].startswith(f"CONNECT {coinbase.host} HTTP/1".encode())
    for seen in coinbase.seen:
        assert "Proxy-Authorization" not in seen.headers
        assert seen.token.encode() not in through.requests[0] + through.passed


def test_no_proxy_is_heeded(coinbase, trust, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust)
    assert client.get(ACCOUNTS).status == 200


PASSWORD = "the proxy asks for a password; put it in HTTPS_PROXY"
OWN_PROXY = "put a proxy of your own before it that does, such as px or cntlm"
OF_PROXY = "the proxy localhost: "
PROXY_ANSWERS = {
    "407": (b"HTTP/1.1 407 No\r\n\r\n", PASSWORD, 1),
    "407 Basic or NTLM": (b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM, Basic realm=x\r\n\r\n", PASSWORD, 1),
    "407 NTLM": (b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n",
                 f"the proxy asks for NTLM, which is not spoken here; {OWN_PROXY}", 1),
    "407 Negotiate": (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n",
                      f"the proxy asks for Negotiate (Kerberos or NTLM), which is not spoken here; {OWN_PROXY}", 1),
    "403": (b"HTTP/1.1 403 407 Tunnel\r\n\r\n",
            "the proxy refused to connect (HTTP 403); check HTTPS_PROXY and NO_PROXY", 1),
    "302": (b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\n\r\n",
            "the proxy refused to connect (HTTP 302); check HTTPS_PROXY and NO_PROXY", 1),
    "502": (b"HTTP/1.1 502 Bad\r\n\r\n", "the proxy answered HTTP 502; try again", 2),
    "503": (b"HTTP/1.1 503 Bad\r\n\r\n", "the proxy answered HTTP 503; try again", 2),
    "504": (b"HTTP/1.1 504 Bad\r\n\r\n", "the proxy answered HTTP 504; try again", 2),
    "407 of words": (b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="use NTLM, NTLM"\r\n\r\n', PASSWORD, 1),
    "407 Digest": (b'HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm="x", nonce="Basic"\r\n\r\n',
                   f"the proxy asks for digest, which is not spoken here; {OWN_PROXY}", 1),
    "no HTTP": (b"HTTP/1.1 Tunnel 407\r\n\r\n", f"{OF_PROXY}{NOT_HTTP}", 2),
    "endless": (b"HTTP/1.1 200 OK\r\n".replace(b" 200 ", b" 0200 ") + b"X: y\r\n" * 20_000, f"{OF_PROXY}{NOT_HTTP}", 2),
    "drip": (b"drip", f"{OF_PROXY}it took longer than the timeout; try again, or raise the timeout", 1),
    "nothing": (b"", f"{OF_PROXY}{CLOSED}", 2),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROXY_ANSWERS)
def test_proxy_that_refuses_is_named(coinbase, trust, proxy, monkeypatch, kind):
    """And asked again, even for a POST, where that may help: nothing was sent."""
    answer, message, tries = PROXY_ANSWERS[kind]
    through = proxy(answer)
    monkeypatch.setenv("HTTPS_PROXY", through.host)
    monkeypatch.setattr(cdp_jwt.time, "sleep", lambda _: None)
    client = cdp_jwt.Client(
        key_of(), host=coinbase.host, ssl_context=trust, timeout=0.9, retries=1
    )
    started = time.monotonic()
    with pytest.raises(cdp_jwt.TransportError) as caught:
        client.post("/echo")
    assert time.monotonic() - started < 1.4
    assert str(caught.value) == f"{coinbase.host}: {message}"
    assert (caught.value.outcome_unknown, through.connections) == (False, tries)
    assert coinbase.seen == []


def test_proxy_that_refuses_credentials_is_named(coinbase, trust, proxy, monkeypatch):
    through = proxy(credentials="others")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret@{through.host}")
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust)
    message = "the proxy refused these credentials; check those in HTTPS_PROXY"
    assert transport_error(lambda: client.get("/echo")) == f"{coinbase.host}: {message}"
    assert through.connections == 1


def test_proxys_password_is_sent_as_it_is_meant(coinbase, trust, proxy, monkeypatch):
    through = proxy(credentials=base64.b64encode("mé:p:@/".encode()).decode())
    monkeypatch.setenv("HTTPS_PROXY", f"HTTP://m%C3%A9:p:%40%2F@{through.host}/")
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust)
    assert client.get(ACCOUNTS).status == 200


@pytest.mark.parametrize("kind", ["socks5", "socks5h", "socks4", "https"])
def test_proxy_of_a_kind_that_urllib_cannot_speak_to_is_named(
    coinbase, trust, monkeypatch, kind
):
    monkeypatch.setenv("HTTPS_PROXY", f"{kind}://me:s3cret@127.0.0.1:1")
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust)
    problem = (
        "the proxy for https (HTTPS_PROXY) cannot be used; expected http://host:port"
    )
    assert transport_error(lambda: client.get("/echo")) == f"{coinbase.host}: {problem}"


@pytest.mark.parametrize(
    "value",
    [
        "http:/me:s3cret@127.0.0.1:1",
        "http://me:s3cret",
        "http://h:abc",
        "http://a b:1",
        "s3cret@:/",
        "http:/",
        "http://127.0.0.1:99999",
        "http://a..b:1",
        f"http://me:s3cret@{'x' * 64}:1",
    ],
)
def test_proxy_that_is_malformed_is_named_without_its_password(
    coinbase, trust, monkeypatch, value
):
    monkeypatch.setenv("HTTPS_PROXY", value)
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust)
    message = f"{coinbase.host}: the proxy for https (HTTPS_PROXY) cannot be used; expected http://host:port"
    assert transport_error(lambda: client.get("/echo")) == message
    assert transport_error(lambda: client.post("/echo")) == message


def test_proxy_that_is_slow_leaves_the_rest_of_the_time_for_tls(
    trust, wire, monkeypatch
):
    def script(wire: Wire, client: socket.socket) -> None:
        wire.read_request(client)
        wire.over.wait(0.6)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        wire.over.wait(20)

    monkeypatch.setenv("HTTPS_PROXY", wire(script, None).host)
    client = cdp_jwt.Client(key_of(), host="a.example", ssl_context=trust, timeout=0.8)
    started = time.monotonic()
    assert "it took longer than the timeout" in transport_error(
        lambda: client.get("/x")
    )
    assert time.monotonic() - started < 1.2


def test_proxy_that_is_not_there_is_named(coinbase, trust, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust, retries=0)
    assert "refused the connection" in transport_error(lambda: client.get("/echo"))


# Connections


def test_log_handler_that_fails_does_not_lose_the_answer(client, coinbase):
    """It is its owner's affair, not a reason to send again."""

    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("HTTP 200"):
                raise OSError("disk full")

    logger, handler = logging.getLogger("cdp_jwt"), Failing()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with pytest.raises(OSError, match="disk full"):
            client.get("/echo")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert len(coinbase.seen) == 1


def test_connections_are_reused(client, coinbase):
    for _ in range(5):
        client.get(ACCOUNTS)
        client.post("/echo", json={})
        client.request("HEAD", "/echo")
    coinbase.faults.append(status(404))
    with pytest.raises(cdp_jwt.ApiError):
        client.get(ACCOUNTS)
    assert len({seen.connection for seen in coinbase.seen}) == 1


def test_connection_of_chunks_is_reused_and_one_without_length_is_not(wire, trust):
    def script(wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        chunks = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n"
        connection.sendall(OK + chunks)
        wire.read_request(connection)
        connection.sendall(OK + b"\r\n{}")

    server = wire(script)
    client = calling(server, trust)
    assert [client.get("/x").json() for _ in range(4)] == [{}] * 4
    assert (server.connections, len(server.requests)) == (2, 4)


def test_connection_that_the_server_closed_meanwhile_is_not_used(wire, trust):
    """Not even a POST notices: its server had closed the idle connection."""
    server = wire(saying(OK + b"Content-Length: 2\r\n\r\n{}"))
    client = calling(server, trust)
    for number in range(1, 4):
        assert client.post("/x", json={}).status == 200
        time.sleep(0.05)
        assert (server.connections, len(server.requests)) == (number, number)


def test_connection_that_is_closed_under_way_is_tried_again_for_get_alone(wire, trust):
    def script(wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        connection.sendall(OK + b"Content-Length: 2\r\n\r\n{}")
        wire.read_request(connection)  # and leave, the second request unanswered

    server = wire(script)
    client = calling(server, trust, retries=1)
    assert [client.get("/x").status for _ in range(2)] == [200, 200]
    assert (server.connections, len(server.requests)) == (2, 3)
    message = transport_error(lambda: client.post("/x", json={}))
    assert "it closed the connection" in message
    assert "it may have been carried out and was not sent again" in message
    assert len(server.requests) == 4


def test_idle_connection_is_given_up_after_30_seconds(client, coinbase, monkeypatch):
    """By a clock that runs on in suspend; one that was set back tells no age."""
    original, passed = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: original() + sum(passed))
    for seconds, connections in ((0, 1), (29.5, 1), (30.5, 2), (-5, 3)):
        passed.append(seconds)
        client.get("/api/v3/brokerage/time")
        assert len({seen.connection for seen in coinbase.seen}) == connections


def idle_sockets(client: cdp_jwt.Client) -> list[ssl.SSLSocket]:
    return [each.sock for idle in client._connections._idle.values() for each in idle]


@pytest.mark.parametrize("kept", [0, 1])
def test_idle_connections_that_the_server_closed_are_closed(wire, trust, kept):
    """All of a burst, and not just those before the first that can be used."""
    over, together, ports = threading.Event(), threading.Barrier(12), []
    answer = OK + b"Content-Length: 2\r\n\r\n{}"

    def script(wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        if not over.is_set():
            together.wait(10)
        connection.sendall(answer)
        over.wait(10)
        if connection.getpeername()[1] in ports:
            wire.read_request(connection)
            connection.sendall(answer)
            wire.over.wait(10)

    client = calling(wire(script), trust, timeout=9)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: client.get("/x"), range(12)))
    burst = idle_sockets(client)
    assert len(burst) == 12
    ports += [each.getsockname()[1] for each in burst[-kept:] if kept]
    over.set()
    time.sleep(0.3)
    client.get("/x")
    assert len([each for each in burst if each.fileno() != -1]) == kept


@pytest.mark.parametrize("last", ["/echo", "404", "no HTTP", "nobody"])
def test_client_that_is_dropped_frees_its_sockets_at_once(coinbase, wire, trust, last):
    """Without close(), without a garbage collection, without a ResourceWarning.

    Whatever came of its last call: an error holds the frames it has passed through.
    """
    url = {
        "404": "/nowhere",
        "no HTTP": f"https://{wire(saying(b'hello')).host}/x",
        "nobody": "https://127.0.0.1:1/x",
    }.get(last, last)
    gc.collect()
    gc.disable()
    try:
        client = cdp_jwt.Client.__new__(cdp_jwt.Client)
        type(client).__init__.__wrapped__(
            client, key_of(), host=coinbase.host, ssl_context=trust
        )
        client._retries = 0
        client.get("/echo")
        with contextlib.suppress(cdp_jwt.CdpError):
            client.get(url)
        sockets = idle_sockets(client)
        assert [each.fileno() != -1 for each in sockets] == [True]
        del client
        assert [each.fileno() for each in sockets] == [-1]
    finally:
        gc.enable()


def test_call_leaves_nothing_to_the_garbage_collector(client):
    client.get("/echo")
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            client.get("/echo")
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_answer_that_nobody_asked_for_is_not_taken_for_the_next(wire, trust):
    def script(wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        answer = OK + b"Content-Length: 2\r\n\r\n"
        connection.sendall(answer + b"{}" + answer + b"[]")
        wire.read_request(connection)
        connection.sendall(answer + b"{}")

    client = calling(wire(script), trust)
    assert client.get("/x").json() == {}
    assert client.get("/x").json() == {}


def test_threads_share_a_client_without_a_mix_up(client, coinbase):
    def work(thread: int) -> list[bool]:
        results = []
        for number in range(100):
            sent = client.get(f"/echo?thread={thread}&number={number}").json()
            results.append(sent["path"] == f"/echo?thread={thread}&number={number}")
        return results

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = [ok for part in pool.map(work, range(8)) for ok in part]
    assert results == [True] * 800
    assert coinbase.refusals == []
    assert len({seen.connection for seen in coinbase.seen}) <= 8


@needs_fork
def test_fork_shares_no_connection_and_no_nonce(client, coinbase):
    client.get("/echo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 3.12 and later warn of threads; the server's
        child = os.fork()
    if child == 0:
        try:
            client.get("/echo")
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert client.get("/echo").status == 200
    first, second, third = coinbase.seen
    assert first.connection == third.connection != second.connection
    assert coinbase.refusals == []


# Retries


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Waiting takes no time; here is how long it would have taken."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_get_is_tried_again_with_a_token_of_its_own(client, coinbase, waits, code):
    coinbase.faults += [status(code), status(code)]
    assert client.get(ACCOUNTS).status == 200
    assert waits == [0.25, 0.5]
    assert len({seen.token for seen in coinbase.seen}) == 3
    assert coinbase.refusals == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_retries_without_a_wait_are_no_overflow(coinbase, trust, waits, method):
    client = cdp_jwt.Client(
        key_of("EdDSA"), host=coinbase.host, ssl_context=trust, retries=5000, timeout=60
    )
    coinbase.faults += [status(429, b"", Retry_After="0")] * 1100
    coinbase.faults.append(status(429, b"slow down", Retry_After="61"))
    with pytest.raises(cdp_jwt.ApiError) as caught:
        client.request(method, "/x")
    assert str(caught.value) == "HTTP 429: slow down; try again in 61 s"
    assert (len(coinbase.seen), waits) == (1101, [0.0] * 1100)
    coinbase.faults += [status(429, b"", Retry_After="0")] * 1100
    coinbase.faults.append(status(429, b"slow down"))  # the next wait would be 64 s
    with pytest.raises(cdp_jwt.ApiError, match=r"HTTP 429: slow down$"):
        client.request(method, "/x")


def test_call_shares_the_deadline_of_the_one_before(client, coinbase, wire, trust):
    assert client._get_before(time.monotonic() + 5, ACCOUNTS).status == 200
    message = f"{coinbase.host}: it took longer than the timeout"
    for deadline in (time.monotonic(), time.monotonic() - 100):
        found = transport_error(lambda at=deadline: client._get_before(at, ACCOUNTS))
        assert found == f"{message}; try again, or raise the timeout"
    assert len(coinbase.seen) == 1
    client.get(ACCOUNTS)
    order = cdp_jwt._Target("POST", coinbase.host, ORDERS)
    with pytest.raises(cdp_jwt.TransportError) as caught:
        client._deliver(order, b"{}", time.monotonic())
    assert caught.value.outcome_unknown is False  # though the connection was open
    assert len(coinbase.seen) == 2
    stalling = calling(wire(stall_headers), trust, timeout=60)
    started = time.monotonic()
    transport_error(lambda: stalling._get_before(started + 0.3, "/x"))
    assert time.monotonic() - started < 0.8


def test_rate_limit_is_waited_for(client, coinbase, monkeypatch):
    coinbase.rate_left = 0
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        coinbase.rate_left = 1

    monkeypatch.setattr(time, "sleep", wait)
    response = client.post("/echo")
    assert (response.status, waited) == (200, [1.0])
    assert response.headers["x-ratelimit-remaining"] == "0"


def test_tries_are_limited(client, coinbase, waits):
    coinbase.faults += [status(503)] * 9
    with pytest.raises(cdp_jwt.ApiError, match="HTTP 503"):
        client.get(ACCOUNTS)
    assert len(coinbase.seen) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 501])
def test_get_is_not_tried_again_after_other_statuses(client, coinbase, waits, code):
    coinbase.faults.append(status(code))
    with pytest.raises(cdp_jwt.ApiError):
        client.get(ACCOUNTS)
    assert (len(coinbase.seen), waits) == (1, [])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_tried_again_after_429_alone(client, coinbase, waits, method):
    coinbase.faults += [status(429), status(503)]
    with pytest.raises(cdp_jwt.ApiError, match=r"HTTP 503.*may have been carried out"):
        client.request(method, "/echo")
    assert len(coinbase.seen) == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_any_method_is_tried_again_when_nothing_was_sent(
    coinbase, trust, waits, monkeypatch, method
):
    original, failures = socket.getaddrinfo, [OSError("unreachable")] * 2

    def unreliable(*arguments, **options):
        if failures:
            raise failures.pop()
        return original(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", unreliable)
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust)
    assert client.request(method, "/echo").status == 200
    assert len(coinbase.seen) == 1


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", 0.0),
        ("3", 3.0),
        ("003", 3.0),
        ("-1", 0.25),
        ("nan", 0.25),
        ("1e3", 0.25),
        ("inf", 0.25),
        ("", 0.25),
        ("soon", 0.25),
        ("٣", 0.25),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", 0.25),
        ("999999", None),
        ("99999999999", 0.25),
    ],
)
def test_retry_after_is_heeded_within_the_timeout(client, coinbase, waits, value, wait):
    encoded = value.encode().decode("latin-1")
    coinbase.faults.append(status(429, b"slow down", Retry_After=encoded))
    if wait is None:
        with pytest.raises(cdp_jwt.ApiError, match="HTTP 429: slow down"):
            client.get(ACCOUNTS)
        assert waits == []
    else:
        assert client.get(ACCOUNTS).status == 200
        assert waits == [wait]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs tzset")
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_date_without_a_zone_is_utc(monkeypatch, zone):
    """RFC 9110 has one such form, asctime's."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    assert cdp_jwt._http_date("Sun Nov  6 08:49:37 1994") == 784111777
    assert cdp_jwt._http_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
    monkeypatch.undo()
    time.tzset()


def test_retry_after_as_a_date_is_a_wait_until_then(client, coinbase, waits):
    date = email.utils.formatdate(time.time() + 3, usegmt=True)
    coinbase.faults.append(status(503, b"", Retry_After=date))
    client.get(ACCOUNTS)
    assert 1 <= waits[0] <= 3


def test_order_is_never_executed_twice_whatever_breaks_when(wire, tls, trust, waits):
    """Cut the connection after each octet of an order's way, and count what arrived."""
    order = {"client_order_id": "1", "product_id": "BTC-USD"}
    answer = OK + b"Content-Length: 2\r\n\r\n{}"

    def cutting_after(octets: int):
        def script(wire: Wire, connection: socket.socket) -> None:
            wire.read_request(connection)
            connection.sendall(answer[:octets])

        return script

    for octets in range(len(answer)):
        server = wire(cutting_after(octets))
        with pytest.raises(cdp_jwt.TransportError, match="client_order_id"):
            calling(server, trust, retries=3).post(ORDERS, json=order)
        assert (server.connections, len(server.requests)) == (1, 1)


def test_order_is_found_again_by_its_client_order_id(client, coinbase):
    order = {"client_order_id": "abc", "product_id": "BTC-USD"}
    first = client.post(ORDERS, json=order).json()
    assert client.post(ORDERS, json=order).json() == first
    assert coinbase.executed == ["abc"]


NOWHERE = "127.0.0.1:1"  # nobody listens there
UNKNOWN_OUTCOMES = {
    "refused connection": (None, None, False),
    "no answer": ((), cdp_jwt.TransportError, True),
    "no HTTP": ((b"hello\r\n",), cdp_jwt.TransportError, True),
    "cut off": ((OK + b"Content-Length: 9\r\n\r\n",), cdp_jwt.TransportError, True),
    "compressed": ((OK + b"Content-Encoding: gzip\r\n\r\nx",), cdp_jwt.TransportError, True),
    "400": ((b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n",), cdp_jwt.ApiError, False),
    "302": ((b"HTTP/1.1 302 No\r\nContent-Length: 0\r\n\r\n",), cdp_jwt.ApiError, False),
    "500": ((b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",), cdp_jwt.ApiError, True),
    "503": ((b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",), cdp_jwt.ApiError, True),
}  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("case", UNKNOWN_OUTCOMES)
def test_errors_say_whether_the_outcome_is_unknown(wire, trust, method, case):
    answers, kind, unknown = UNKNOWN_OUTCOMES[case]
    if method == "HEAD" and case in ("cut off", "compressed"):
        pytest.skip("the answer to a HEAD has no body")
    host = NOWHERE if answers is None else wire(saying(*answers)).host
    client = cdp_jwt.Client(key_of(), host=host, ssl_context=trust, retries=0)
    with pytest.raises(kind or cdp_jwt.TransportError) as caught:
        client.request(method, "/x")
    is_unknown = unknown and method not in ("GET", "HEAD")
    assert caught.value.outcome_unknown is is_unknown
    assert str(caught.value).endswith(UNKNOWN) == is_unknown


def test_order_that_was_carried_out_is_none_to_repeat_for_its_answer(client, coinbase):
    """A program that tries again where no outcome is unknown must not do so here."""
    for method, unknown in (("GET", False), ("HEAD", False), ("POST", True)):
        coinbase.faults.append(status(200, b"OK"))
        response = client.request(method, "/x")
        with pytest.raises(cdp_jwt.TransportError) as caught:
            response.json()
        assert caught.value.outcome_unknown is unknown


INTERRUPTS = [("POST", "sent", f"({UNKNOWN!r},)"), ("GET", "sent", "()"), ("POST", "connected", "()"),
              ("POST", "waiting", "()")]  # fmt: skip


@pytest.mark.parametrize(("method", "when", "arguments"), INTERRUPTS)
def test_interrupt_says_whether_the_outcome_is_unknown(
    wire, trust, monkeypatch, method, when, arguments
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    script, target = stall_headers, (cdp_jwt._Octets, "readinto")
    if when == "connected":
        target = (trust, "wrap_socket")
    if when == "waiting":  # for the next try, as the first was refused
        script = saying(b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n")
        target = (cdp_jwt.time, "sleep")
    client = calling(wire(script), trust, retries=1)
    monkeypatch.setattr(*target, interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        client.request(method, "/x")
    assert repr(caught.value.args) == arguments
    assert (
        all(each.fileno() == -1 for each in idle_sockets(client)) or when == "waiting"
    )


# Hints


def hints_of(call: Callable[[], object]) -> list[str]:
    with pytest.raises(cdp_jwt.ApiError) as caught:
        call()
    return list(caught.value.hints)


def test_api_error_is_pickled_as_a_pool_of_processes_does(client, coinbase):
    coinbase.faults.append(status(400, {"message": "bad size"}))
    with pytest.raises(cdp_jwt.ApiError) as caught:
        client.get("/echo")
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.status) == ("HTTP 400: bad size", 400)
    assert copied.headers["Content-Type"] == "application/json"
    assert (copied.body, copied.hints) == (b'{"message": "bad size"}', ())


def test_servers_message_moves_no_terminal_and_repeats_no_token(client, coinbase):
    def repeat(handler: Handler) -> None:
        handler.answer(400, {"message": f"\x1b[2J{handler.headers['Authorization']}"})

    coinbase.routes["GET", "/echo"] = (True, repeat)
    with pytest.raises(cdp_jwt.ApiError) as caught:
        client.get("/echo")
    assert str(caught.value) == r"HTTP 400: \x1b[2JBearer ..."


def test_clock_that_one_host_tells_is_not_taken_for_anothers(client, coinbase, tls):
    with serving(Coinbase(tls)) as other:
        other.clock_ahead = 3600
        assert client.get(f"https://{other.host}/echo").status == 200
        other.refusals.clear()
        client.get("/echo")
        client.get(f"https://{other.host}/echo")
        assert other.refusals == coinbase.refusals == []


POSSIBLE = "possible: the key was deleted, or lacks a permission (what else it might be is ruled out: signature verified here, clock compared, uri equal to the request)"
TRY_CHECK = "`check` goes through key, clock, network and permissions"
REFUSAL = b"Unauthorized"
UNKNOWN_PATH = "the path is under neither /api/v3/brokerage nor /v2: "


@pytest.mark.parametrize(
    ("answer", "hints"),
    [
        (status(401, REFUSAL), [POSSIBLE]),
        (status(401, {"message": "Missing required scopes"}), ["the key lacks a permission for this; `check` lists those that it has"]),
        (status(403, {"message": "Missing required scopes"}), ["the key lacks a permission for this; `check` lists those that it has"]),
        (status(403, REFUSAL), [POSSIBLE]),
        (status(404, REFUSAL), []),
        (status(400, REFUSAL), []),
        (status(429, REFUSAL), ["the rate limit is used up: x-ratelimit-limit 30, x-ratelimit-remaining 1000000, x-ratelimit-reset 1"]),
    ],
)  # fmt: skip
def test_hints_say_what_the_evidence_shows(coinbase, trust, answer, hints):
    client = cdp_jwt.Client(key_of(), host=coinbase.host, ssl_context=trust, retries=0)
    coinbase.faults.append(answer)
    assert hints_of(lambda: client.get(ACCOUNTS)) == hints


def test_hints_name_the_allow_list_of_the_key_file(coinbase, trust):
    key = cdp_jwt.ApiKey(NAME, SEC1, ["203.0.113.7"])
    client = cdp_jwt.Client(key, host=coinbase.host, ssl_context=trust)
    coinbase.faults.append(status(401, REFUSAL))
    hint = "possible: this machine's address is none that it allows: 203.0.113.7"
    assert hints_of(lambda: client.get(ACCOUNTS)) == [hint, POSSIBLE]


@pytest.mark.parametrize(
    ("name", "secret", "hints"),
    [
        ("my-key", SEC1, [UNKNOWN_NAME]),
        (UUID, BARE_SEED, [SEED]),
        (UUID, PORTAL, []),
    ],
)  # fmt: skip
def test_hints_name_what_the_key_was_doubted_for(coinbase, trust, name, secret, hints):
    key = cdp_jwt.ApiKey(name, secret)
    client = cdp_jwt.Client(key, host=coinbase.host, ssl_context=trust)
    assert hints_of(lambda: client.get(ACCOUNTS)) == (hints or [POSSIBLE])


def test_hints_name_the_clock_first(client, coinbase):
    """The call was signed again by the server's time, which then ran away once more."""

    def clock_runs_away(handler: Handler) -> None:
        coinbase.clock_ahead += 1000
        handler.answer(401, REFUSAL)

    coinbase.faults += [clock_runs_away] * 2
    first = hints_of(lambda: client.get(ACCOUNTS))[0]
    assert (
        first
        == "by the server's clock this token was not valid; set this machine's clock"
    )


def hints_after(code: int, host: str, path: str, **headers: str) -> list[str]:
    """The rules are about hosts that no test calls: the function by itself."""
    message = email.message.Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    target = cdp_jwt._Target("GET", host, path)
    key = None if code == 404 else key_of()
    answer = cdp_jwt.Response(code, message, b"")
    return list(cdp_jwt._hints(target, key, answer, is_late=False))


EMPTY_SEGMENT = "the path has an empty segment; is an id missing? "
NO_CDP_KEYS = "takes no requests that are signed with CDP keys"


@pytest.mark.parametrize(
    ("code", "host", "path", "hints"),
    [
        (404, "api.coinbase.com", "/api/v3/accounts", [f"{UNKNOWN_PATH}/api/v3/accounts"]),
        (404, "api.coinbase.com", "/v2/user", []),
        (404, "api.coinbase.com", ACCOUNTS, []),
        (404, "api.coinbase.com", "/v2/accounts//x?a=1", [f"{EMPTY_SEGMENT}/v2/accounts//x"]),
        (400, "api.coinbase.com", "/api/v3/accounts", []),
        (401, "api.coinbase.com", "/api/v3/accounts", [f"{UNKNOWN_PATH}/api/v3/accounts"]),
        (401, "api.coinbase.com", "/v2", []),
        (401, "api.exchange.coinbase.com", "/accounts", [f"api.exchange.coinbase.com {NO_CDP_KEYS}"]),
        (401, "api.pro.coinbase.com", "/accounts", [f"api.pro.coinbase.com {NO_CDP_KEYS}"]),
        (401, "www.coinbase.com", "/", [f"www.coinbase.com {NO_CDP_KEYS}"]),
        (401, "undefined", "/x", ["the host undefined is no host of Coinbase's"]),
        (401, "api.cdp.coinbase.com", "/platform/v2/x", []),
        (401, "a.example:8443", "/x", []),
    ],
)  # fmt: skip
def test_hints_name_host_and_path_first(code, host, path, hints):
    date = "Fri, 15 Jan 2027 08:00:00 GMT"
    last = [POSSIBLE] if code == 401 and not hints else []
    assert hints_after(code, host, path, Date=date) == hints + last


def test_hints_claim_nothing_that_was_not_done():
    """Without the server's time, the clock was not compared."""
    for date in ({}, {"Date": "soon"}):
        hint = hints_after(401, "api.coinbase.com", ACCOUNTS, **date)[-1]
        assert hint == POSSIBLE.replace("clock compared, ", "")


def test_hints_show_no_more_than_a_line_of_a_servers_text():
    evil = "\x1b[2J" + "9" * 999
    (hint,) = hints_after(429, "api.coinbase.com", ACCOUNTS, x_ratelimit_limit=evil)
    assert r"x-ratelimit-limit \x1b[2J999" in hint
    assert len(hint) < 400


def test_hints_say_that_no_key_was_given(coinbase, trust):
    client = cdp_jwt.Client(host=coinbase.host, ssl_context=trust)
    assert hints_of(lambda: client.get(ACCOUNTS)) == [
        "no token was sent, as no key was given"
    ]


# Clock


@pytest.mark.parametrize("ahead", [-100_000, -4000, -121, -60, 200, 86_397])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_401_that_the_clock_explains_is_signed_again(
    client, coinbase, caplog, ahead, method
):
    coinbase.clock_ahead = ahead
    for _ in range(3):
        assert client.request(method, "/echo").status == 200
    assert len(coinbase.refusals) == 1
    assert len(coinbase.seen) == 4
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    found = re.fullmatch(
        r"this clock is ([+-]\d+) s from the server's; the server's is used",
        warned[0].message,
    )
    assert abs(int(found[1]) + ahead) <= 2
    assert len(warned) == 1


def test_401_that_the_clock_does_not_explain_is_not_signed_again(client, coinbase):
    for answer in (
        status(401, b"Unauthorized"),
        status(401, b"Unauthorized", Date="no date"),
    ):
        del coinbase.seen[:]
        coinbase.faults.append(answer)
        with pytest.raises(cdp_jwt.ApiError, match="HTTP 401: Unauthorized"):
            client.get("/echo")
        assert len(coinbase.seen) == 1


@pytest.mark.parametrize(
    ("seconds", "explains"), [(-1, True), (0, False), (119, False), (120, True)]
)
def test_401_is_explained_by_a_time_outside_of_its_tokens(
    client, coinbase, seconds, explains
):
    def refuse(handler: Handler) -> None:
        token = handler.headers["Authorization"].partition(" ")[2]
        nbf = json.loads(segments(token)[1])["nbf"]
        handler.server.clock_ahead = nbf + seconds + 0.5 - time.time()
        handler.answer(401, b"Unauthorized")

    coinbase.faults += [refuse, status(401, b"Unauthorized")]
    with pytest.raises(cdp_jwt.ApiError, match="HTTP 401: Unauthorized"):
        client.get("/echo")
    assert len(coinbase.seen) == 1 + explains


def test_401_gets_no_server_a_token_for_a_time_far_ahead(client, coinbase):
    """Who passes for the server once could keep a token for an order next week."""
    coinbase.clock_ahead = 86_403  # a day, and 3 s
    hints = hints_of(lambda: client.post(ORDERS, json={}))
    assert hints[0].startswith("by the server's clock this token was not valid")
    tokens = [json.loads(segments(seen.token)[1]) for seen in coinbase.seen]
    assert len(tokens) == 1  # it would be refused again
    assert all(abs(token["nbf"] - time.time()) < 60 for token in tokens)


def test_first_token_of_a_client_is_by_this_machines_clock(client, coinbase, frozen):
    client.get("/echo")
    assert json.loads(segments(coinbase.seen[0].token)[1])["nbf"] == frozen - 5


def test_401_is_signed_again_once(client, coinbase):

    def clock_runs_away(handler: Handler) -> None:
        coinbase.clock_ahead += 1000
        handler.answer(401, b"Unauthorized")

    coinbase.faults += [clock_runs_away] * 5
    with pytest.raises(cdp_jwt.ApiError, match="HTTP 401"):
        client.get("/echo")
    assert len(coinbase.seen) == 2


# Pages


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (ACCOUNTS, "accounts"),
        ("/api/v3/brokerage/orders/historical/fills", "fills"),
        ("/v2/accounts", "data"),
    ],
)
def test_pages_follow_each_kind_of_list_to_its_end(client, coinbase, path, field):
    assert [page.json()[field] for page in client.pages(path)] == [[0], [1], [2]]
    assert len(coinbase.seen) == 3
    assert coinbase.refusals == []


def test_pages_keep_the_other_parameters(client, coinbase):
    list(client.pages(ACCOUNTS, {"limit": 1, "product_ids": ["A", "B"]}))
    paths = [seen.path for seen in coinbase.seen]
    start = f"{ACCOUNTS}?limit=1&product_ids=A&product_ids=B"
    assert paths == [start, f"{start}&cursor=1", f"{start}&cursor=2"]


@pytest.mark.parametrize("query", ["cursor=1", "limit=1&cursor=", "%63ursor=1&limit=1"])
def test_pages_refuse_a_cursor_in_the_path(client, coinbase, query):
    """There it would stay, beside that of each next page."""
    for path in (f"/x?{query}", f"https://{coinbase.host}/x?{query}"):
        with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
            next(client.pages(path))
        assert str(caught.value) == "the path has a cursor; give it in params"
    assert coinbase.seen == []
    list(client.pages("/echo?a_cursor=1&x=cursor"))
    assert len(coinbase.seen) == 1


def test_pages_of_a_url_stay_at_its_host(coinbase, trust):
    client = cdp_jwt.Client(key_of(), host="unused.example", ssl_context=trust)
    assert len(list(client.pages(f"https://{coinbase.host}/v2/accounts"))) == 3


@pytest.mark.parametrize(
    ("contents", "incomplete"),
    [
        ([{"cursor": "a", "has_next": True}] * 2, True),
        ([{"cursor": "a"}, {"cursor": "b"}, {"cursor": "a"}], True),
        ([{"cursor": "a", "has_next": False}], False),
        ([{"cursor": "", "has_next": True}], True),
        ([{"has_next": True}], True),
        ([{"cursor": None}], False),
        ([[]], False),
        ([7], False),
        ([{"pagination": None}], False),
        ([{"pagination": {"next_uri": ""}}], False),
        ([{"pagination": {"next_uri": "/x?a=1"}}] * 2, True),
    ],
)
def test_pages_end_at_a_repeated_or_missing_cursor(
    client, coinbase, caplog, contents, incomplete
):
    coinbase.faults += [status(200, content) for content in contents]
    assert [page.json() for page in client.pages("/x")] == contents
    warning = "the list has no new cursor, and may be incomplete"
    assert caplog.messages == [warning] * incomplete


@pytest.mark.parametrize(
    "target", ["https://evil.example/x", "//evil.example/x", "x", 7, "/a b"]
)
def test_pages_refuse_to_go_to_another_host(client, coinbase, target):
    coinbase.faults.append(status(200, {"pagination": {"next_uri": target}}))
    message = transport_error(lambda: list(client.pages("/x")))
    assert message == "next_uri is not a path on the same host"


def test_page_that_fails_says_where_to_go_on(client, coinbase):
    coinbase.page_count = 9
    pages = client.pages(ACCOUNTS)
    assert [next(pages).status for _ in range(3)] == [200] * 3
    coinbase.faults.append(status(400, b"broken"))
    with pytest.raises(cdp_jwt.ApiError) as caught:
        next(pages)
    assert str(caught.value) == "HTTP 400: broken; to go on: cursor=3"


def test_page_goes_on_where_the_message_says(client, coinbase):
    """It is the server's text: escaped, and no longer than 300 characters."""
    for answer, place in (
        ({"cursor": "\x1b[2J\nhint: x"}, r"cursor=\x1b[2J\nhint: x"),
        ({"cursor": "x" * 60_000}, f"cursor={'x' * 293}"),
        ({"cursor": 7}, "cursor=7"),
        ({"pagination": {"next_uri": "/v2/x?a=1"}}, "/v2/x?a=1"),
    ):
        coinbase.faults += [status(200, answer), status(400, b"broken")]
        pages = client.pages("/x")
        next(pages)
        with pytest.raises(cdp_jwt.ApiError) as caught:
            next(pages)
        assert str(caught.value) == f"HTTP 400: broken; to go on: {place}"


def test_pages_remember_no_cursors(client, coinbase):
    cursors = [f"{number}{'x' * 20_000}" for number in range(30)]
    coinbase.faults += [status(200, {"cursor": cursor}) for cursor in cursors]
    pages = client.pages("/x")
    for _ in cursors:
        next(pages)
    held = pages.gi_frame.f_locals["seen"]
    assert len(held) == 29  # of the one that was just found, not yet
    assert {type(each) for each in held} == {int}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_page_that_is_not_utf_8_is_refused(client, coinbase, encoding):
    """Line breaks are taken out of a page of the command, and could not be of this."""
    coinbase.faults.append(status(200, '{"a": "é\u010a"}'.encode(encoding, "replace")))
    message = "this answer (HTTP 200) is not JSON; see body"
    assert transport_error(lambda: next(client.pages("/x"))) == message


@needs_cpython
def test_pages_are_held_one_at_a_time(client, coinbase):
    """Over 1,000 pages no more than the last two are ever alive."""
    coinbase.page_count = 1000
    alive: list[weakref.ref] = []
    most = 0
    for page in client.pages("/v2/accounts"):
        alive = [*(each for each in alive if each()), weakref.ref(page)]
        most = max(most, len(alive))
    assert len(coinbase.seen) == 1000
    assert most <= 2


def test_pages_warn_of_a_repeated_cursor(client, coinbase, caplog):
    coinbase.faults += [status(200, {"cursor": "a", "has_next": True})] * 2
    assert len(list(client.pages("/x"))) == 2
    assert caplog.messages == ["the list has no new cursor, and may be incomplete"]


# The auth hook of requests and httpx


class LoopbackAdapter(requests.adapters.HTTPAdapter):
    """Trust the test's CA; requests has no argument for a context."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        super().__init__()

    def init_poolmanager(self, *arguments, **options) -> None:
        super().init_poolmanager(*arguments, ssl_context=self.context, **options)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_hook_signs_each_request_of_requests(coinbase, trust, method):
    with requests.Session() as session:
        session.auth = key_of()
        session.mount("https://", LoopbackAdapter(trust))
        for _ in range(2):
            url = f"https://{coinbase.host}/echo"
            answer = session.request(method, url, params={"a": "x y"})
            assert answer.status_code == 200
    assert coinbase.refusals == []


def test_hook_signs_each_request_of_httpx(coinbase, trust):
    with httpx.Client(auth=key_of("EdDSA"), verify=trust) as client:
        for method in ("GET", "POST"):
            url = f"https://{coinbase.host}/echo"
            assert client.request(method, url, params={"a": "x y"}).status_code == 200

    async def call() -> int:
        async with httpx.AsyncClient(auth=key_of(), verify=trust) as client:
            return (await client.get(f"https://{coinbase.host}{ACCOUNTS}")).status_code

    assert asyncio.run(call()) == 200
    assert coinbase.refusals == []


def test_hook_refuses_plain_http():
    for call in (requests.get, httpx.get):
        with pytest.raises(cdp_jwt.InvalidRequestError, match="not an https URL"):
            call("http://127.0.0.1:1/x", auth=key_of())


def test_module_imports_neither_requests_nor_httpx(copied):
    program = f"import sys; sys.path.insert(0, {str(copied.parent)!r}); import signer; print([m for m in ('requests', 'httpx') if m in sys.modules])"
    assert process([sys.executable, "-c", program]).stdout == "[]\n"


def test_time_that_the_lookup_of_a_name_took_is_counted(coinbase, trust, monkeypatch):
    """It cannot be interrupted, but nothing is begun after it."""
    original, address = socket.getaddrinfo, coinbase.server_address

    def slow(*_, **options):
        time.sleep(0.15)
        return original(*address, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    client = cdp_jwt.Client(
        key_of(), host=coinbase.host, ssl_context=trust, timeout=0.1
    )
    message = "it took longer than the timeout; try again, or raise the timeout"
    assert transport_error(lambda: client.get("/x")) == f"{coinbase.host}: {message}"
    assert coinbase.seen == []


def test_connection_that_cannot_be_tested_is_not_used(client, coinbase, monkeypatch):
    def fail(*_):
        raise OSError

    client.get("/echo")
    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLSocket, "recv", fail)
        client.get("/echo")
    assert len({seen.connection for seen in coinbase.seen}) == 2


def test_client_that_is_closed_under_way_goes_on(client, coinbase):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.get, f"/echo?number={n}") for n in range(100)]
        while not all(call.done() for call in calls):
            client.close()
    for number, call in enumerate(calls):
        assert call.result().json()["path"] == f"/echo?number={number}"
    assert coinbase.refusals == []


def test_event_loop_calls_in_threads_without_a_mix_up(client, coinbase):
    """`asyncio.to_thread`, as programs with an event loop use this module."""

    async def calls() -> list:
        paths = [f"/echo?number={number}" for number in range(60)]
        tokens = [asyncio.to_thread(client._key.ws_jwt) for _ in paths]
        answers = [asyncio.to_thread(client.get, path) for path in paths]
        return [paths, await asyncio.gather(*answers), await asyncio.gather(*tokens)]

    paths, answers, tokens = asyncio.run(calls())
    assert [answer.json()["path"] for answer in answers] == paths
    assert coinbase.refusals == []  # it refuses a nonce that comes twice
    assert len(nonces_of(tokens, P256)) == len(paths)


@needs_fork
def test_fork_that_closes_its_client_leaves_the_parents_connection(client, coinbase):
    def close() -> str:
        client.close()
        return "closed"

    client.get("/echo")
    assert in_a_child(close) == "closed"
    client.get("/echo")
    assert len({seen.connection for seen in coinbase.seen}) == 1


@pytest.mark.parametrize("code", [408, 500, 501, 502, 503, 504, 520])
def test_order_is_not_retried_after_a_server_error(client, coinbase, waits, code):
    """The order may have been executed all the same, as it has been here."""

    def fail_afterwards(handler: Handler) -> None:
        handler.server.executed.append(json.loads(handler.body)["client_order_id"])
        handler.answer(code, b"late", {"Retry-After": "0"})

    coinbase.faults += [fail_afterwards] * 3
    with pytest.raises(cdp_jwt.ApiError, match=f"HTTP {code}: late"):
        client.post(ORDERS, json={"client_order_id": "1"})
    assert (coinbase.executed, waits) == (["1"], [])


@pytest.mark.parametrize(("code", "unknown"), [(400, 0), (499, 0), (500, 1), (501, 1)])
def test_order_is_called_unknown_after_a_server_error_alone(
    client, coinbase, code, unknown
):
    coinbase.faults.append(status(code, b"no"))
    with pytest.raises(cdp_jwt.ApiError) as caught:
        client.post(ORDERS, json={"client_order_id": "1"})
    outcome = f"; {UNKNOWN}" * unknown
    assert str(caught.value) == f"HTTP {code}: no{outcome}"
    assert caught.value.outcome_unknown == bool(unknown)


def test_order_is_not_retried_after_a_timeout(wire, trust, waits):
    server = wire(stall_headers)
    client = calling(server, trust, timeout=1, retries=3)
    message = transport_error(lambda: client.post(ORDERS, json={}))
    assert message.endswith("look for it first, an order by its client_order_id")
    assert (server.connections, len(server.requests), waits) == (1, 1, [])


def test_nonce_is_reused_by_no_retry_page_or_message(client, coinbase, waits):
    """Each attempt, page and message has its own; the server keeps those it has seen."""
    coinbase.faults += [status(503), status(429)]
    client.get("/echo")
    list(client.pages(ACCOUNTS))
    tokens = [seen.token for seen in coinbase.seen]
    for channel in ("user", "level2"):
        text = cdp_jwt.ws_message(channel, ["BTC-USD"], key=key_of())
        tokens.append(json.loads(text)["jwt"])
    assert len(tokens) == 8
    assert len(nonces_of(tokens, P256)) == 8
    assert coinbase.refusals == []


@pytest.fixture
def nowhere(monkeypatch, trust) -> list[tuple[str, int]]:
    """No name is known, and no time passes; here is what was looked up."""
    asked: list[tuple[str, int]] = []

    def unknown(name, port, **_):
        asked.append((name, port))
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(ssl, "create_default_context", lambda: trust)
    return asked


@examples(200)
@given(
    method=st.sampled_from(["GET", "post", "DELETE"]) | st.text(max_size=5),
    host=HOSTS | st.text(max_size=9) | mutations(["api.coinbase.com", "a.example:1"]),
    url=URLS | PATHS | URLS.map("https://api.coinbase.com".__add__),
)
def test_any_url_goes_to_its_own_host_over_https_or_nowhere(nowhere, method, host, url):
    """Where the signed `uri` says, and a strict parser of URLs, there and nowhere else."""
    del nowhere[:]
    try:
        uri = cdp_jwt.format_jwt_uri(method, url, host)
    except cdp_jwt.InvalidRequestError:
        uri = None
    try:
        client = cdp_jwt.Client(key_of("EdDSA"), host=host, retries=0)
        client.request(method, url)
    except cdp_jwt.InvalidRequestError:
        assert nowhere == []
        return
    except cdp_jwt.TransportError:
        pass
    assert uri is not None
    signed = uri.partition(" ")[2].partition("/")[0]
    whole = url if url[:8].lower() == "https://" else f"https://{host}{url}"
    parts = urllib.parse.urlsplit(whole)
    assert parts.scheme == "https"
    assert uri == f"{method.upper()} {signed}{parts.path or '/'}"
    assert nowhere == [(parts.hostname, parts.port or 443)]
    assert signed == f"{parts.hostname}:{parts.port or 443}".removesuffix(":443")


@examples(50)
@given(
    path=PATHS,
    params=st.dictionaries(
        st.text(min_size=1, max_size=4),
        st.text(max_size=5) | st.integers() | st.lists(st.text(max_size=3), min_size=1),
        max_size=3,
    ),
)
def test_any_parameters_arrive_as_they_were_and_leave_the_signed_path(
    client, coinbase, path, params
):
    coinbase.routes.clear()
    del coinbase.seen[:]
    with contextlib.suppress(cdp_jwt.InvalidRequestError, cdp_jwt.ApiError):
        client.get(path.partition("?")[0], params=params)
    for seen in coinbase.seen:
        signed = json.loads(segments(seen.token)[1])["uri"]
        assert signed == f"GET {coinbase.host}{path.partition('?')[0]}"
        sent, _, query = seen.path.partition("?")
        assert sent == path.partition("?")[0]
        expected = {
            name: [*map(str, value)] if isinstance(value, list) else [str(value)]
            for name, value in params.items()
        }
        found = urllib.parse.parse_qs(query, keep_blank_values=True)
        assert found == expected


PROXIES = st.lists(
    st.sampled_from(["http", "https", "socks5", "://", ":", "/", "me", "@", "127.0.0.1:1", "[::1]"])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3),
    max_size=6,
)  # fmt: skip


@examples(100)
@given(before=PROXIES, after=PROXIES)
def test_any_proxy_is_an_error_that_does_not_show_its_password(
    nowhere, monkeypatch, before, after
):
    password = "s3cr3ts3cr3t"
    value = f"{''.join(before)}{password}@{''.join(after)}"
    monkeypatch.setenv("HTTPS_PROXY", value)
    client = cdp_jwt.Client(key_of("EdDSA"), host="a.example", retries=0)
    with pytest.raises(cdp_jwt.TransportError) as caught:
        client.get("/x")
    assert password not in f"{caught.value} {caught.value!r}"
    assert password not in repr(vars(caught.value))
    assert caught.value.__context__ is None


STATUS_LINES = [b"HTTP/1.1 %d %s" % (code, reason) for code in (200, 201, 204, 302, 304, 400, 401, 403, 404, 429, 500, 503)
                for reason in (b"OK", b"")] + [b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Switching",
                b"HTTP/2 200", b"HTTP/1.1 -1 OK", b"HTTP/1.1 2000 OK", b"ICY 200 OK", b""]  # fmt: skip
HEADER_NAMES = [b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Connection", b"Date",
                b"Retry-After", b"Location", b"Content-Type", b"x-ratelimit-limit", b"x-ratelimit-reset"]  # fmt: skip
DATES = [  # written out, as a time_t of 32 bits ends in 2038
    b"Tue, 09 May 1995 06:13:20 GMT",
    b"Fri, 15 Jan 2027 08:00:00 GMT",
    b"Mon, 23 Sep 2058 09:46:40 GMT",
]
HEADER_VALUES = [b"0", b"2", b"5", b"-1", b"9" * 20, b"chunked", b"gzip", b"identity", b"close", b"keep-alive",
                 b"\x1b[31m", b"\x9b2J", b"\xff", b"https://evil.example/", b"//\x1b[2J/", b"/x", b"\xb2", *DATES]  # fmt: skip
ERROR_BODIES = [{"message": "\x1b]0;title\x07"}, {"errors": [{"message": "\u202eevil\x9b"}]}, {"error": ["\x00"]},
                {"errors": {}}, {"errors": [[]]}, {"error_details": 7}, [], None, {"message": "Missing required scopes"}]  # fmt: skip


@st.composite
def answers(draw) -> bytes:
    """The octets of an answer: well formed, nearly so, or not at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=80))
    status_line = draw(st.sampled_from(STATUS_LINES))
    names = st.sampled_from(HEADER_NAMES) | st.binary(max_size=5)
    values = st.sampled_from(HEADER_VALUES) | st.binary(max_size=9)
    headers = draw(st.lists(st.tuples(names, values), max_size=4))
    errors = st.sampled_from(ERROR_BODIES).map(lambda value: json.dumps(value).encode())
    chunks = st.sampled_from([b"2\r\n{}\r\n0\r\n\r\n", b"-1\r\n", b"zz\r\n", b"2\r\n{"])
    content = draw(errors | chunks | st.binary(max_size=20))
    if draw(st.booleans()):
        headers.append((b"Content-Length", b"%d" % len(content)))
    head = b"".join(b"%s: %s\r\n" % header for header in headers)
    octets = b"%s\r\n%s\r\n%s" % (status_line, head, content)
    if draw(st.integers(0, 4)) == 0:
        return octets[: draw(st.integers(0, len(octets)))]
    return octets


class Bare(socket.socket):
    """A connection as `ssl` would wrap it, without the time that its handshake takes."""

    def pending(self) -> int:
        return 0


class NoTls(ssl.SSLContext):
    """For thousands of calls that try answers; TLS itself is tried elsewhere."""

    def wrap_socket(self, sock: socket.socket, **_) -> Bare:
        timeout = sock.gettimeout()
        bare = Bare(sock.family, sock.type, sock.proto, sock.detach())
        bare.settimeout(timeout)
        return bare


class Answering:
    """A server that gives each connection the answer of the moment, then leaves."""

    def __init__(self, wire) -> None:
        self.answers = [b""]
        self.server = wire(self.script, None)
        self.context = NoTls(ssl.PROTOCOL_TLS_CLIENT)

    def client(self, **options) -> cdp_jwt.Client:
        return calling(self.server, self.context, **options)

    def script(self, wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        connection.sendall(answer)


@pytest.fixture
def answering(wire, monkeypatch) -> Answering:
    server = Answering(wire)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(ssl, "create_default_context", lambda: server.context)
    return server


@examples(100)
@given(answer=answers(), method=st.sampled_from(["GET", "HEAD", "POST"]))
def test_any_answer_is_a_response_or_a_cdp_error(answering, answer, method):
    """The message has neither the token nor a cause that has it; a POST is sent once."""
    answering.answers = [answer]
    requests = answering.server.requests
    del requests[:]
    client = answering.client(max_body=1000, retries=1)
    try:
        response = client.request(method, "/x")
        assert 200 <= response.status <= 299
        assert len(response.body) <= 1000
        with contextlib.suppress(cdp_jwt.TransportError):
            response.json()
    except cdp_jwt.CdpError as error:
        assert "eyJ" not in f"{error} {error!r} {vars(error)}"
        assert error.__context__ is None
    again = b" 429 " in answer or b" 401 " in answer
    assert method != "POST" or again or len(requests) == 1
    assert len(requests) <= 3


@examples(50)
@given(
    value=st.sampled_from(DATES)
    | st.integers().map(lambda number: b"%d" % number)
    | st.floats().map(lambda number: str(number).encode())
    | mutations([DATES[1].decode(), "120"]).map(
        lambda t: t.encode("latin-1", "replace")
    )
    | st.binary(max_size=9),
    header=st.sampled_from([b"Retry-After", b"Date"]),
    code=st.sampled_from([401, 429, 503]),
)
def test_any_retry_after_or_date_is_a_wait_within_the_timeout(
    answering, monkeypatch, value, header, code
):
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    value = re.sub(rb"[\r\n]", b"", value)
    answer = b"HTTP/1.1 %d no\r\n%s: %s\r\nConnection: close\r\n\r\n" % (
        code,
        header,
        value,
    )
    answering.answers = [answer, OK + b"Content-Length: 0\r\n\r\n"]
    client = answering.client(retries=1)
    with contextlib.suppress(cdp_jwt.ApiError):
        assert client.get("/x").status == 200
    assert all(0 <= wait <= 3 for wait in waits)
    assert len(waits) <= 1


@examples(50)
@given(
    target=URLS | PATHS | JSON_VALUES | st.just(ACCOUNTS),
    cursor=JSON_VALUES | st.text(max_size=9),
)
def test_any_page_leads_to_the_same_host_or_nowhere(answering, target, cursor):
    page = {"pagination": {"next_uri": target}, "cursor": cursor}
    content = json.dumps(page).encode()
    answer = OK + b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
    answering.answers = [answer, OK + b"Content-Length: 2\r\n\r\n{}"]
    requests = answering.server.requests
    del requests[:]
    client = answering.client()
    try:
        assert 1 <= len(list(client.pages("/x"))) <= 2
    except cdp_jwt.CdpError as error:
        assert "eyJ" not in str(error)
    assert len(requests) <= 2
    for request in requests:
        head = request.decode("latin-1").split("\r\n")
        assert f"Host: {answering.server.host}" in head
        path = head[0].split(" ")[1]
        token = re.search(r"Bearer (\S+)", request.decode("latin-1"))[1]
        signed = json.loads(segments(token)[1])["uri"]
        assert signed == f"GET {answering.server.host}{path.partition('?')[0]}"
        assert path.partition("?")[0] in ("/x", str(target).partition("?")[0])


# -------------------------------------------------------------- 8. command line


@pytest.fixture
def with_key(key_file, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("CDP_KEY_FILE", str(key_file))
    return key_file


def test_command_prints_the_token_alone(run, with_key):
    result = run("GET", f"{ACCOUNTS}?limit=1")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("\n")
    assert result.out.count("\n") == 1
    claims = verified(result.out.strip(), P256)
    assert claims["uri"] == "GET api.coinbase.com/api/v3/brokerage/accounts"


def test_command_takes_a_url_and_a_method_in_any_case(run, with_key):
    result = run("post", "https://api.cdp.coinbase.com/platform/x?y=1")
    assert (
        verified(result.out.strip(), P256)["uri"]
        == "POST api.cdp.coinbase.com/platform/x"
    )
    result = run("GET", "/x", "--host", "LOCALHOST:8443")
    assert verified(result.out.strip(), P256)["uri"] == "GET localhost:8443/x"
    result = run("--host=localhost", "GET", "/x")
    assert verified(result.out.strip(), P256)["uri"] == "GET localhost/x"


def test_command_prints_a_line_for_the_shell(run, with_key):
    result = run("GET", ACCOUNTS, "--export")
    found = re.fullmatch(r"export JWT='([\w.-]+)'\n", result.out)
    assert verified(found[1], P256)


def test_command_prints_a_header_for_curl(run, with_key):
    result = run("GET", ACCOUNTS, "--header")
    found = re.fullmatch(r"Authorization: Bearer ([\w.-]+)\n", result.out)
    assert verified(found[1], P256)


def test_command_makes_websocket_tokens_and_messages(run, with_key):
    assert "uri" not in verified(run("ws").out.strip(), P256)
    assert run("ws", "--header").out.startswith("Authorization: Bearer ey")
    message = json.loads(run("ws", "ticker", "BTC-USD", "ETH-USD").out)
    assert verified(message.pop("jwt"), P256)
    assert message == {
        "type": "subscribe",
        "channel": "ticker",
        "product_ids": ["BTC-USD", "ETH-USD"],
    }
    assert json.loads(run("ws", "user").out)["product_ids"] == []


@pytest.mark.parametrize(
    ("text", "nbf"),
    [
        ("+3600", NOW + 3600),
        ("+0", NOW),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T08:00:00z", NOW),
        ("2027-01-15T10:00:00+02:00", NOW),
        ("2027-01-15 08:01:00.250+00:00", NOW + 60),
    ],
)
def test_command_dates_a_token_for_later(run, with_key, frozen, text, nbf):
    for words in (["GET", ACCOUNTS], ["ws"]):
        claims = verified(run(*words, "--not-before", text).out.strip(), P256)
        assert (claims["nbf"], claims["exp"]) == (nbf, nbf + 120)


def test_command_refuses_a_window_that_is_over(run, with_key, frozen):
    result = run("GET", ACCOUNTS, "--not-before", "2027-01-15T07:57:00Z")
    assert result == Result(
        2, "", "cdp_jwt: error: not_before: such a token would have expired already\n"
    )


def test_command_finds_the_key_where_it_is(run, key_file, tmp_path, stdin, monkeypatch):
    pem_file = write_private(tmp_path / "key.pem", PORTAL)
    assert run("ws", "--key-file", str(key_file)).code == 0
    assert run("ws", "--key-file", str(pem_file), "--key-name", UUID).code == 0
    stdin(key_file.read_text(encoding="utf-8"))
    assert run("ws", "--key-file", "-").code == 0
    stdin(PORTAL)
    assert run("ws", "--key-file=-", f"--key-name={UUID}").code == 0
    monkeypatch.setenv("CDP_KEY_FILE", str(pem_file))
    result = run("ws", "--key-name", UUID)
    assert verified(result.out.strip(), ED25519)["kid"] == UUID
    result = run("ws", "--key-file", str(key_file))
    assert verified(result.out.strip(), P256)["kid"] == NAME
    monkeypatch.delenv("CDP_KEY_FILE")
    for variable, value in ADVANCED.items():
        monkeypatch.setenv(variable, value)
    assert verified(run("ws").out.strip(), P256)["kid"] == NAME


@needs_modes
def test_command_shows_warnings(run, with_key):
    with_key.chmod(0o644)
    result = run("ws")
    assert result.code == 0
    assert result.err == (
        f"cdp_jwt: warning: {with_key}: group or others can read this key; chmod 600 it\n"
    )


def test_command_with_no_arguments_says_how_to_call_it(run):
    result = run()
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("usage: python cdp_jwt.py METHOD PATH ")
    assert len(result.err.splitlines()) <= 4


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_command_help_fits_a_screen_and_ends_with_a_session(run, option):
    result = run(option)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert len(lines) <= 23  # and the prompt
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("  $ python cdp_jwt.py GET ")


@pytest.mark.parametrize(
    ("words", "own", "others"),
    [
        (["GET", "/x"], {"--export", "--header", "--not-before", "--host", "--call"}, {"--data", "--offline"}),
        (["post"], {"--export"}, {"--data"}),
        (["POST", "--call"], {"--data", "--param", "--paginate", "--timeout"}, {"--export", "--not-before"}),
        (["ws"], {"--export", "--not-before"}, {"--host", "--data"}),
        (["ws", "user"], {"--key-file"}, {"--export", "--not-before"}),
        (["decode"], {"--key-file"}, {"--export", "--host", "--data", "--offline"}),
        (["check"], {"--offline", "--host", "--timeout"}, {"--data", "--export"}),
    ],
)  # fmt: skip
def test_command_help_shows_what_belongs_to_a_command(run, words, own, others):
    for order in ([*words, "--help"], ["--help", *words]):
        result = run(*order)
        assert (result.code, result.err) == (0, "")
        lines = result.out.splitlines()
        assert lines[0].startswith("usage: python cdp_jwt.py ")
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        shown = {line.split()[0] for line in lines if line.startswith("  --")}
        assert shown >= own | {"--key-file", "--key-name", "--help"}
        assert not shown & others


def test_command_help_of_nothing_known_is_that_of_all(run):
    assert run("frob", "--help") == run("--help")


def test_channels_in_the_help_are_those_of_the_module(run):
    text = " ".join(run("ws", "user", "--help").out.split())
    *channels, last = cdp_jwt.CHANNELS
    assert f"{', '.join(channels)} and {last}." in text


def test_command_help_names_every_option(run):
    text = run("--help").out
    for name in cdp_jwt.NAMED:
        assert name in text


def test_command_version(run):
    assert run("--version") == Result(0, f"cdp_jwt {cdp_jwt.__version__}\n", "")


def misused(message: str) -> Result:
    """What a wrong command line is answered with: how to call it, and what is wrong."""
    usage = cdp_jwt.SYNOPSIS.format("python cdp_jwt.py")
    return Result(2, "", f"{usage}cdp_jwt: error: {message}\n")


CANARY = "c4n4ryc4n4ryc4n4ry"


EXPECTED_METHODS = "expected one of DELETE, GET, HEAD, PATCH, POST, PUT"
NO_METHOD = "a METHOD is missing before PATH, such as GET"
WHEN = "--not-before takes +SECONDS or 2026-11-22T15:00:00Z"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a command is missing"),
        (["--verbose"], "a command is missing"),
        (["FROB", "/x"], f"unknown method FROB; {EXPECTED_METHODS}"),
        (["GTE", "/x"], f"unknown method GTE; {EXPECTED_METHODS}"),
        (["PTACH", "/x"], f"unknown method PTACH; {EXPECTED_METHODS}"),
        (["G3T", "/x"], f"unknown method; {EXPECTED_METHODS}"),
        ([CANARY], f"unknown method; {EXPECTED_METHODS}"),
        (["chekc"], "unknown command chekc; did you mean check?"),
        (["Decode", "x"], "unknown command Decode; did you mean decode?"),
        (["/x"], NO_METHOD),
        (["https://api.coinbase.com/v2/user", "--call"], NO_METHOD),
        ([made()], "a command is missing; `decode TOKEN` says what is in a token"),
        (["GET"], "GET needs a PATH"),
        (["post", "--call"], "POST needs a PATH"),
        (["GET", "/x", CANARY], "GET takes one PATH"),
        (["GET", "/x", PORTAL], "GET takes one PATH"),
        (["check", "x"], "check takes no word"),
        (["decode", "a", "b"], "decode takes one TOKEN"),
        (["GET", "/x", "--key"], "unknown option --key; did you mean --key-file?"),
        (["GET", "/x", "-k"], "unknown option -k; did you mean --key-file?"),
        (["GET", "/x", "-d", "{}"], "unknown option -d; did you mean --data?"),
        (["GET", "/x", "-H"], "unknown option -H; did you mean --header?"),
        (["GET", "/x", "--Call"], "unknown option --Call; did you mean --call?"),
        (["GET", "/x", "--cal"], "unknown option --cal; did you mean --call?"),
        (["GET", "/x", "--exprot"], "unknown option --exprot; did you mean --export?"),
        (["GET", "/x", "--key_file"], "unknown option --key_file; did you mean --key-file?"),
        (["GET", "/x", "--frob"], "unknown option --frob"),
        (["GET", "/x", "-X", "POST"], "unknown option"),
        (["GET", "/x", "--json", "{}"], "unknown option --json"),
        (["GET", "/x", "–call"], "an option begins with two plain dashes: --"),
        (["help"], "unknown command help; did you mean --help?"),
        (["GET", "/x", "-QwErTyUiOp"], "unknown option"),
        (["GET", "/x", f"--{'a' * 21}"], "unknown option"),
        (["GET", "/x", f"--{CANARY}"], "unknown option"),
        (["GET", "/x", f"-{CANARY}"], "unknown option"),
        (["GET", "/x", f"--frob={CANARY}"], "unknown option --frob"),
        ([*SEC1.splitlines()[:2], "/x"], "unknown option"),
        (["GET", "/x", "--host"], "--host needs HOST"),
        (["GET", "/x", "--host", "--call"], "--host needs HOST"),
        (["GET", "/x", f"--export={CANARY}"], "--export takes no value"),
        (["ws", "user", "--header"], "--header does not go with ws CHANNEL"),
        (["ws", "user", "--not-before", "+1"], "--not-before does not go with ws CHANNEL"),
        (["GET", "/x", "--not-before", CANARY], WHEN),
        (["GET", "/x", "--not-before", "-5"], WHEN),
        (["GET", "/x", "--not-before", "2026-11-22T15:00:00"], WHEN),
    ],
)  # fmt: skip
def test_command_that_is_misspelt_is_refused_with_what_was_meant(
    run, with_key, words, message
):
    assert run(*words) == misused(message)


def test_command_takes_what_follows_two_dashes_for_words(run, with_key):
    assert run("--header", "--", "GET", "/x").code == 0
    assert run("GET", "--", "--call") == Result(
        2, "", "cdp_jwt: error: the path does not begin with exactly one /\n"
    )


def test_command_with_an_empty_key_file_does_not_take_another_key(run, with_key):
    result = run("ws", "--key-file", "")
    assert (result.code, result.out) == (1, "")


def test_command_needs_a_file_for_a_key_name(run):
    message = "--key-name goes with --key-file or CDP_KEY_FILE"
    assert run("ws", "--key-name", NAME) == misused(message)


@pytest.mark.parametrize(
    ("arguments", "message"), [a for a in BAD_REQUESTS if len(a[0]) == 2]
)
def test_command_refuses_the_same_requests(run, with_key, arguments, message):
    method, path = arguments
    if isinstance(path, str) and method in cdp_jwt.METHODS:
        assert run(method, path) == Result(2, "", f"cdp_jwt: error: {message}\n")


@pytest.mark.parametrize("option", ["", "--call", "--header"])
def test_command_refuses_a_request_before_it_asks_for_a_key(run, option):
    """Neither is there a key, nor anything to connect to."""
    for path in ("x", "http://api.coinbase.com/x", "wss://api.coinbase.com/x", "/{id}"):
        result = run("GET", path, *filter(None, [option]))
        assert (result.code, result.out) == (2, "")
        assert result.err.count("\n") == 1
    result = run("GET", "/x", "--host", "https://a.example", *filter(None, [option]))
    assert result.code == 2


def test_command_refuses_a_channel_before_it_asks_for_a_key(run):
    message = f"unknown channel; expected one of {', '.join(cdp_jwt.CHANNELS)}"
    assert run("ws", "tickers") == Result(2, "", f"cdp_jwt: error: {message}\n")


def test_command_fails_without_a_key(run):
    result = run("GET", ACCOUNTS)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"cdp_jwt: error: no API key; {SET}\n"


@needs_modes
def test_command_escapes_control_characters(run, tmp_path):
    path = tmp_path / "evil\x1b[31m\n.json"
    path.write_text("{")
    path.chmod(0o600)
    result = run("ws", "--key-file", str(path))
    assert result.code == 1
    assert r"evil\x1b[31m\n.json: this is damaged JSON" in result.err
    assert result.err.count("\n") == 1


def test_command_is_interrupted_with_130(run, monkeypatch, with_key):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cdp_jwt, "_print_token", interrupt)
    assert run("ws") == Result(130, "", "cdp_jwt: error: interrupted\n")


def test_decode_reports_a_good_token(run, with_key, frozen):
    token = run("GET", ACCOUNTS).out.strip()
    result = run("decode", token)
    header, claims = (json.loads(part) for part in segments(token)[:2])
    assert result.err == ""
    assert result.out.splitlines() == [
        f"header   {json.dumps(header)}",
        f"claims   {json.dumps(claims)}",
        "nbf      2027-01-15 07:59:55+00:00, -5 s from now",
        "exp      2027-01-15 08:01:55+00:00, +114 s from now",
        f"signed   by {NAME}",
        "ok       no problem found, 114 s left",
    ]
    assert result.code == 0
    assert token.rpartition(".")[2] not in result.out


def test_decode_reads_standard_input_and_needs_no_key(run, stdin, frozen):
    for words in (["decode"], ["decode", "-"]):
        stdin(f"Authorization: Bearer {made(claims=EVIL)}\n")
        result = run(*words)
        assert result.code == 1
        assert "signed   not verified: no API key; set CDP_KEY_FILE" in result.out
        assert r"problem  iss is '\x1b[31m'; expected 'cdp'" in result.out
        assert "\x1b" not in result.out


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"id": NAME, "privateKey": SEC1}),
        json.dumps({"kty": "EC", "d": "x" * 43}),
    ],
)
def test_decode_shows_no_private_key(run, text, stdin):
    message = "this is a private key, not a token; it is not shown"
    refusal = Result(1, "", f"cdp_jwt: error: {message}\n")
    assert run("decode", base64.b64encode(text.encode()).decode()) == refusal
    if "privateKey" in text:
        for given in (text, SEC1):
            stdin(given)
            assert run("decode") == refusal


def test_decode_takes_a_word_that_is_no_unicode(run, frozen):
    """An octet of the command line that is not UTF-8 is a lone surrogate in argv."""
    result = run("decode", f"\udcff.{segment(CLAIMS)}.{SIGNATURE}")
    assert result.code == 1
    assert r"the header has '\udcff'; expected base64url" in result.out


def test_decode_does_not_blame_a_key_that_is_another_ones(run, with_key, frozen):
    token = cdp_jwt.ApiKey(UUID, PORTAL).ws_jwt()
    result = run("decode", token)
    assert result.code == 0
    signed = f"not verified: its kid is not {NAME}, the key at hand"
    assert f"signed   {signed}\n" in result.out


def test_decode_blames_the_key_that_did_not_sign(run, with_key, frozen):
    result = run("decode", made())
    assert result.code == 1
    assert f"problem  not signed by the key {NAME}\n" in result.out
    assert "signed   " not in result.out
    for alg in ("none", "HS256", "EdDSA"):
        result = run("decode", made({**HEADER, "alg": alg}))
        assert f"problem  not signed by the key {NAME}\n" in result.out
        assert "signed   " not in result.out


def test_decode_tells_a_signature_from_what_else_is_wrong(run, with_key, frozen):
    """The word "signed" is in this problem, too."""
    header = {"kid": NAME, "nonce": NONCE}
    claims = {**CLAIMS, "iss": "not signed"}
    result = run("decode", by_other_client(header, claims, P256))
    assert f"signed   by {NAME}\n" in result.out
    assert "problem  iss is 'not signed'; expected 'cdp'\n" in result.out


def test_decode_of_what_is_no_jwt_ends_with_one_line(run, with_key):
    line = "problem  no JWT: 1 part, expected 3\n"
    assert run("decode", "hello") == Result(1, line, "")
    line = "problem  no JWT: neither header nor claims set can be read\n"
    assert run("decode", "www.coinbase.com") == Result(1, line, "")


def test_decode_finds_a_token_among_words_without_quotes(run, frozen):
    for words in (["Bearer"], ["Authorization:", "Bearer"], ["curl", "--", "-H"]):
        result = run("decode", *words, made())
        assert (result.code, result.err) == (0, "")
        assert f"claims   {json.dumps(CLAIMS)}\n" in result.out


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("text", [AROUND[0], AROUND[8], AROUND[11], AROUND[13]])
def test_decode_reads_what_shells_write(terminal, frozen, encoding, text):
    octets = f"{text}\r\n".replace("TOKEN", made()).encode(encoding)
    code, out, err = terminal("decode", stdin=octets)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == b"ok       no problem found, 114 s left"


def test_decode_names_what_is_no_text(terminal):
    message = "TOKEN: not text (UTF-8, or UTF-16 with its mark)"
    assert terminal("decode", stdin=b"\xff\x00") == (
        1, b"", f"cdp_jwt: error: {message}\n",
    )  # fmt: skip
    assert terminal("decode") == (1, b"", "cdp_jwt: error: the token is empty\n")


def test_decode_shows_no_key_that_stands_for_its_name(run):
    """Name and secret are swapped by other programs, too."""
    for secret in (SEC1, PORTAL):
        result = run("decode", named(secret))
        assert result.code == 1
        assert '"kid": "(looks like a key, and is not shown)"' in result.out
        assert not leaks(result.out + result.err, secret)


def test_decode_notes_what_the_key_is_doubted_for(run, key_file, frozen):
    write_private(key_file, {"id": "my-key", "privateKey": BARE_SEED})
    token = cdp_jwt.ApiKey("my-key", BARE_SEED).rest_jwt("GET", ACCOUNTS)
    result = run("decode", token, "--key-file", str(key_file))
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[4:] == [
        "signed   by my-key",
        f"note     {UNKNOWN_NAME}",
        f"note     {SEED}",
        "ok       no problem found, 114 s left",
    ]


def test_decode_with_a_broken_key_file_says_so(run, key_file):
    key_file.write_text("{")
    result = run("decode", made(), "--key-file", str(key_file))
    assert (result.code, result.out) == (1, "")
    assert "damaged JSON" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["decode", "a", "--export"], "--export does not go with decode"),
        (
            ["decode", "--key-file", "-"],
            "standard input is one thing: a key file, data or a token",
        ),
        (
            ["decode", "-", "--key-file", "-"],
            "standard input is one thing: a key file, data or a token",
        ),
    ],
)
def test_decode_refuses_what_does_not_go_together(run, words, message):
    assert run(*words) == misused(message)


@pytest.fixture
def online(coinbase, ca_file, with_key, monkeypatch) -> Coinbase:
    """The command's surroundings: a key, a CA, and a server to call."""
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    return coinbase


def test_command_says_that_the_key_is_fine_but_may_not_trade(run, online):
    """A view-only key that creates an order can get a bare 401."""
    online.permissions["can_trade"] = False
    online.faults.append(status(401, REFUSAL))
    result = run("POST", ORDERS, "--call", "--data", "{}", "--host", online.host)
    assert result.code == 1
    assert result.err.splitlines() == [
        "cdp_jwt: error: HTTP 401: Unauthorized",
        "cdp_jwt: hint: the key is valid, but may not do this: its can_trade is false",
    ]


CHECK_ONLINE = """\
ok    Python X, cryptography X, OpenSSL
ok    key {name} from {path} (mode 600): ECDSA P-256 (ES256)
ok    it signs and verifies
ok    proxy: none; CAs: {ca}
ok    localhost is ADDRESSES
ok    {host} answers over TLS: HTTP 200
ok    clock: X s from the server's
ok    the key is accepted; it may: can_view, can_trade (?)
All is well.
"""


def checked(run, *words: str) -> Result:
    """The report, with what differs from machine to machine left out."""
    result = run("check", *words)
    out = re.sub(r"(?<=Python )[\d.]+|(?<=cryptography )[\d.]+", "X", result.out)
    out = re.sub(r"OpenSSL .*", "OpenSSL", out)
    out = re.sub(r"localhost is .*", "localhost is ADDRESSES", out)
    out = re.sub(r"[+-]\d+(\.\d+)?(?= s from)", "X", out)
    return Result(result.code, out, result.err)


def test_check_finds_a_healthy_set_up_healthy(run, online, with_key, ca_file):
    expected = CHECK_ONLINE.format(
        name=NAME, path=with_key, ca=ca_file, host=online.host
    )
    assert checked(run, "--host", online.host) == Result(0, expected, "")
    assert online.refusals == []
    assert {seen.method for seen in online.seen} == {"GET"}


def test_check_offline_asks_nobody(run, with_key, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    result = checked(run, "--offline")
    assert result.code == 0
    assert result.out.splitlines()[-1] == "All is well."
    assert "proxy" not in result.out


def last_lines(result: Result) -> list[str]:
    return [line for line in result.out.splitlines() if not line.startswith("ok")]


@pytest.mark.parametrize("ahead", [-3600, -7, 200])
def test_check_names_the_clock(run, online, ahead):
    online.clock_ahead = ahead
    result = checked(run, "--host", online.host)
    assert (
        last_lines(result)[0]
        == "fail  clock: X s from the server's; set this machine's clock"
    )
    assert (
        last_lines(result)[-1]
        == "First: clock: X s from the server's; set this machine's clock"
    )
    assert result.code == 1


@pytest.mark.parametrize(
    ("ahead", "state"), [(0, "ok"), (2, "ok"), (-2, "ok"), (60, "warn")]
)
def test_check_lets_a_clock_pass_that_does_no_harm(run, online, ahead, state):
    online.clock_ahead = ahead
    result = checked(run, "--host", online.host)
    assert result.code == 0
    assert f"{state:5} clock: X s from the server's\n" in result.out


def test_check_calls_nothing_a_refusal_that_is_none(run, online, waits):
    online.routes["GET", cdp_jwt.PERMISSIONS] = (True, status(503, b"later"))
    result = checked(run, "--host", online.host)
    fail = "permissions: HTTP 503: later"
    assert last_lines(result) == [f"fail  {fail}", f"First: {fail}"]
    online.routes["GET", cdp_jwt.PERMISSIONS] = (True, status(200, []))
    result = checked(run, "--host", online.host)
    assert last_lines(result)[0] == "warn  the key is accepted; it may: nothing (?)"


def test_check_takes_the_date_where_there_is_no_time(run, online):
    del online.routes["GET", "/api/v3/brokerage/time"]
    result = checked(run, "--host", online.host)
    assert "ok    clock: X s from the server's" in result.out
    assert f"warn  {online.host} answers over TLS: HTTP 404" in result.out


def test_check_names_a_key_that_is_refused(run, online):
    online.keys.clear()
    result = checked(run, "--host", online.host)
    fail = f"permissions: HTTP 401: Unauthorized; {POSSIBLE}"
    assert last_lines(result) == [f"fail  {fail}", f"First: {fail}"]


def test_check_names_what_the_key_may_not_do(run, online):
    online.permissions = {"can_view": True, "portfolio_type": "DEFAULT"}
    result = checked(run, "--host", online.host)
    assert "ok    the key is accepted; it may: can_view (DEFAULT)" in result.out
    online.permissions = {"can_view": False}
    result = checked(run, "--host", online.host)
    assert last_lines(result)[0] == "warn  the key is accepted; it may: nothing (?)"


def test_check_goes_on_without_a_key(run, online, key_file):
    key_file.write_text(json.dumps({"id": NAME, "privateKey": public_pem(P256)}))
    result = checked(run, "--host", online.host)
    assert last_lines(result) == [
        f"fail  key: {key_file}: {PUBLIC}",
        f"First: key: {key_file}: {PUBLIC}",
    ]
    assert f"ok    {online.host} answers over TLS: HTTP 200" in result.out


@needs_modes
def test_check_names_what_was_mended_and_what_is_loose(run, with_key):
    with_key.write_text(json.dumps({"id": "my-key", "privateKey": BARE_SEED}))
    with_key.chmod(0o644)
    result = checked(run, "--offline")
    assert last_lines(result) == [
        f"warn  {with_key}: group or others can read this key; chmod 600 it",
        f"warn  {UNKNOWN_NAME}",
        f"warn  {SEED}",
        f"First: {with_key}: group or others can read this key; chmod 600 it",
    ]
    assert result.code == 0


def test_check_names_a_key_file_that_others_can_change(run, with_key):
    with_key.chmod(0o620)
    result = checked(run, "--offline")
    warning = f"{with_key}: group or others can change this key; chmod 600 it"
    assert last_lines(result) == [f"warn  {warning}", f"First: {warning}"]


def test_check_names_what_the_environment_changes(run, online, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    result = checked(run, "--host", online.host)
    paths = f"{os.environ['SSL_CERT_FILE']} and {tmp_path}"
    assert f"ok    proxy: none; CAs: {paths}\n" in result.out
    warning = "SSLKEYLOGFILE is set: its readers can read what is sent; unset it"
    assert last_lines(result) == [f"warn  {warning}", f"First: {warning}"]
    monkeypatch.delenv("SSL_CERT_FILE")
    result = checked(run, "--host", online.host)
    assert f"ok    proxy: none; CAs: {tmp_path}\n" in result.out


@pytest.mark.parametrize(
    "words", [["--host", "https://a.example"], ["--host", ""], ["--timeout", "0"], ["--data", "{}"]]
)  # fmt: skip
def test_check_refuses_a_mistake_in_its_options_before_any_step(run, with_key, words):
    result = run("check", *words)
    assert (result.code, result.out) == (2, "")


def test_check_masks_the_proxys_password_and_names_its_failure(
    run, with_key, monkeypatch
):
    for password in ("s3cret", "p@s3cret", "p/s3cret"):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{password}@127.0.0.1:1")
        result = checked(run, "--host", "a.example")
        assert "s3cret" not in result.out + result.err
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s3cret@127.0.0.1:1")
    result = checked(run, "--host", "a.example")
    assert "ok    proxy: http://***@127.0.0.1:1; CAs: the system" in result.out
    assert last_lines(result)[-1].startswith(
        "First: network: a.example: the proxy 127.0.0.1: it refused the connection"
    )
    assert "s3cret" not in result.out + result.err


def test_check_names_a_name_that_is_unknown(run, with_key, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    fail = (
        "network: no.example: its name was not found; check host, DNS and HTTPS_PROXY"
    )
    result = checked(run, "--host", "no.example")
    assert last_lines(result) == [f"fail  {fail}", f"First: {fail}"]


def test_check_names_tls(run, with_key, wire):
    server = wire(saying(), server_context(trustme.CA()))
    result = checked(run, "--host", server.host)
    assert last_lines(result)[0] == f"fail  network: {server.host}: {UNKNOWN_CA}"


def test_command_calls_and_prints_the_body_as_it_came(run, online):
    online.faults.append(status(200, b'{"a":\n  1.0}\n\n'))
    result = run("GET", ACCOUNTS, "--call", "--host", online.host)
    assert result == Result(0, '{"a":\n  1.0}\n\n', "")
    result = run("get", f"https://{online.host}{ACCOUNTS}?limit=1", "--call")
    assert json.loads(result.out)["accounts"] == [0]
    assert online.refusals == []


def test_command_sends_data_to_the_octet(run, online, tmp_path, stdin):
    text = '{"price": 0.10000000000000000001, "é": 12345678901234567890}'
    path = tmp_path / "order.json"
    path.write_text(text, encoding="utf-8")
    call = ["POST", "/echo", "--call", "--host", online.host]
    for data in (text, f"@{path}"):
        assert run(*call, "--data", data).code == 0
    stdin(text)
    assert run(*call, "--data", "-").code == 0
    assert [seen.body.decode() for seen in online.seen] == [text] * 3
    assert {seen.headers["Content-Type"] for seen in online.seen} == {
        "application/json"
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "--data is not JSON; nothing was sent"),
        ("a=b", "--data is not JSON; nothing was sent"),
        ("", "--data is not JSON; nothing was sent"),
        ("[" * 100_000, "--data is not JSON; nothing was sent"),
        ('{"price": NaN}', "--data is not JSON; nothing was sent"),
        ("[-Infinity]", "--data is not JSON; nothing was sent"),
        ("@not-text.json", "--data is not JSON; nothing was sent"),
        ("order.json", "--data is a file's name; put @ before it; nothing was sent"),
    ],
)
def test_command_checks_data_before_it_sends(
    run, online, tmp_path, monkeypatch, data, message
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("not-text.json").write_bytes(b"\xff{}")
    pathlib.Path("order.json").write_text("{}")
    result = run("POST", "/echo", "--call", "--host", online.host, "--data", data)
    assert result == Result(2, "", f"cdp_jwt: error: {message}\n")
    assert online.seen == []


def test_data_that_cannot_be_read_is_named(run, online):
    words = ["POST", "/echo", "--call", "--data", "@missing.json"]
    message = "--data cannot be read: No such file or directory"
    assert run(*words, "--host", online.host) == Result(
        1, "", f"cdp_jwt: error: {message}\n"
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_data_is_read_as_windows_writes_it(run, online, tmp_path, encoding):
    """Notepad and PowerShell 5.1 put a mark in front, which JSON has not."""
    mark = "\ufeff" if encoding.endswith("e") else ""
    path = tmp_path / "order.json"
    path.write_bytes((mark + '{"é": 1}\r\n').encode(encoding))
    call = ["POST", "/echo", "--call", "--host", online.host]
    assert run(*call, "--data", f"@{path}").code == 0
    assert online.seen[0].body == '{"é": 1}\r\n'.encode()


def test_command_adds_parameters(run, online):
    words = [
        "--param",
        "limit=1",
        "--param",
        "id=A",
        "--param",
        "id=B=",
        "--param",
        "x=",
    ]
    result = run("GET", "/echo?a=1", "--call", "--host", online.host, *words)
    assert json.loads(result.out)["path"] == "/echo?a=1&limit=1&id=A&id=B%3D&x="


def test_command_includes_status_and_headers(run, online):
    online.faults.append(status(200, b"{}", X_Evil="\x1b[31m\xe9"))
    result = run("GET", ACCOUNTS, "--call", "--include", "--host", online.host)
    head, _, body = result.out.partition("\n\n")
    assert body == "{}"
    assert head.startswith("HTTP/1.1 200\n")
    assert "Content-Type: application/json\n" in head
    assert "X-Evil: \\x1b[31mé" in head


def test_command_prints_a_refusals_body_and_its_reason(run, online):
    online.faults.append(status(400, {"message": "bad \x1b size"}))
    result = run("POST", ORDERS, "--call", "--data", "{}", "--host", online.host)
    assert result.code == 1
    assert json.loads(result.out) == {"message": "bad \x1b size"}
    assert result.err == "cdp_jwt: error: HTTP 400: bad \\x1b size\n"


def test_command_pages_one_document_a_line(run, online):
    online.faults.append(
        status(200, b'{"accounts": [0],\r\n "has_next": true,\n "cursor": "1"}')
    )
    result = run("GET", ACCOUNTS, "--call", "--paginate", "--host", online.host)
    pages = [json.loads(line)["accounts"] for line in result.out.splitlines()]
    assert (result.code, pages, result.err) == (0, [[0], [1], [2]], "")


def test_command_keeps_the_pages_before_a_failure(run, online, waits):
    online.page_count = 9
    calls = iter(range(99))

    def third_fails(handler: Handler) -> None:
        if next(calls) in (2, 3, 4):  # the third page, each time that it is tried
            return handler.answer(500, b"broken")
        return online.accounts(handler)

    online.routes["GET", ACCOUNTS] = (True, third_fails)
    words = ["--paginate", "--host", online.host]
    result = run("GET", ACCOUNTS, "--call", *words)
    lines = result.out.splitlines()
    assert [json.loads(line)["accounts"] for line in lines[:2]] == [[0], [1]]
    assert lines[2:] == ["broken"]
    assert result.code == 1
    assert result.err == "cdp_jwt: error: HTTP 500: broken; to go on: cursor=2\n"
    result = run("GET", ACCOUNTS, "--call", *words, "--param", "cursor=2")
    assert json.loads(result.out.splitlines()[0])["accounts"] == [2]


def test_link_that_is_none_is_the_servers_fault(run, online):
    """The command line was right, and something was done: not code 2."""
    link = {"pagination": {"next_uri": "/v2/a b"}}
    online.faults.append(status(200, link))
    result = run("GET", "/v2/x", "--call", "--paginate", "--host", online.host)
    assert (result.code, json.loads(result.out)) == (1, link)
    assert result.err == "cdp_jwt: error: next_uri is not a path on the same host\n"


def test_command_is_verbose_without_the_token(run, online, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    online.faults.append(status(503, b"later"))
    result = run("GET", ACCOUNTS, "--call", "--verbose", "--host", online.host)
    assert result.err.splitlines() == [
        f"cdp_jwt: note: GET https://{online.host}{ACCOUNTS} with Authorization: Bearer ..., 0 bytes",
        "cdp_jwt: note: HTTP 503, 5 bytes",
        "cdp_jwt: note: HTTP 503: later; trying again in 0.25 s",
        f"cdp_jwt: note: GET https://{online.host}{ACCOUNTS} with Authorization: Bearer ..., 0 bytes",
        f"cdp_jwt: note: HTTP 200, {len(result.out)} bytes",
    ]
    assert all(seen.token[:30] not in result.err for seen in online.seen)


def test_command_calls_public_endpoints_without_a_key(run, online, monkeypatch):
    monkeypatch.delenv("CDP_KEY_FILE")
    path = "/api/v3/brokerage/time"
    result = run("GET", path, "--call", "--no-auth", "--host", online.host)
    assert "epochMillis" in json.loads(result.out)
    assert online.seen[0].token is None


def test_command_ends_within_its_timeout(run, with_key, ca_file, wire, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    server = wire(stall_headers)
    started = time.monotonic()
    result = run("GET", "/x", "--call", "--timeout", "0.4", "--host", server.host)
    assert time.monotonic() - started < 1
    message = "it took longer than the timeout; try again, or raise the timeout"
    assert result == Result(1, "", f"cdp_jwt: error: {server.host}: {message}\n")


def test_command_warns_of_the_clock(run, online):
    online.clock_ahead = 1000
    result = run("GET", ACCOUNTS, "--call", "--host", online.host)
    assert result.code == 0
    assert re.fullmatch(
        r"cdp_jwt: warning: this clock is -(998|999|1000|1001) s from the server's;"
        r" the server's is used\n",
        result.err,
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["GET", "/x", "--param", "a=1"], "--param needs --call"),
        (["POST", "/x", "--data", "{}"], "--data needs --call"),
        (["GET", "/x", "--paginate"], "--paginate needs --call"),
        (["GET", "/x", "--include", "--header"], "--include needs --call"),
        (["GET", "/x", "--timeout", "1"], "--timeout needs --call"),
        (["GET", "/x", "--no-auth"], "--no-auth needs --call"),
        (["GET", "/x", "--offline"], "--offline does not go with METHOD PATH"),
        (["GET", "/x", "--call", "--data", "{}"], "--param, not --data, for GET"),
        (["head", "/x", "--call", "--data", "{}"], "--param, not --data, for HEAD"),
        (
            ["GET", "/x", "--export", "--header"],
            "--export and --header exclude each other",
        ),
        (["GET", "/x", "--call", "--param", CANARY], "--param takes NAME=VALUE"),
        (["GET", "/x", "--call", "--export"], "--export does not go with --call"),
        (["GET", "/x", "--call", "--header"], "--header does not go with --call"),
        (
            ["GET", "/x", "--call", "--not-before", "+5"],
            "--not-before does not go with --call",
        ),
        (
            ["POST", "/x", "--call", "--paginate"],
            "--paginate goes with GET, and without --data",
        ),
        (
            ["GET", "/x", "--call", "--paginate", "--data", "1"],
            "--paginate goes with GET, and without --data",
        ),
        (["ws", "--host", "a.example"], "--host does not go with ws"),
        (["ws", "--call"], "--call does not go with ws"),
        (["ws", "user", "--header"], "--header does not go with ws CHANNEL"),
        (
            ["POST", "/x", "--call", "--data", "-", "--key-file", "-"],
            "standard input is one thing: a key file, data or a token",
        ),
    ],
)
def test_command_refuses_options_that_do_not_go_together(run, with_key, words, message):
    assert run(*words) == misused(message)


@pytest.mark.parametrize("command", [["GET", "/x", "--call"], ["check"]])
@pytest.mark.parametrize(
    ("value", "bound"),
    [(each, "above 0") for each in ("0", "-1", "nan", "10s", "", CANARY)]
    + [(each, "below 1000000") for each in ("inf", "1e10", "1000000")],
)
def test_command_refuses_a_timeout_that_is_none(run, online, command, value, bound):
    result = run(*command, "--host", online.host, "--timeout", value)
    assert result == misused(f"--timeout takes seconds {bound}")
    assert online.seen == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_order_whose_answer_cannot_be_written_was_sent_all_the_same(online, copied):
    words = ["POST", "/echo", "--call", "--data", "{}", "--host", online.host]
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, str(copied), *words],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.endswith("No space left on device; the call was carried out\n")
    assert len(online.seen) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("place", ["create_connection", "sendall"])
def test_interrupted_call_says_whether_it_may_have_been_made(
    run, online, monkeypatch, method, place
):
    """From the first octet on, and of what changes something."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    of = socket if place == "create_connection" else ssl.SSLSocket
    monkeypatch.setattr(of, place, interrupt)
    may_be_done = place != "create_connection" and method not in ("GET", "HEAD")
    consequence = f"; {cdp_jwt.UNKNOWN_OUTCOME}" if may_be_done else ""
    message = f"cdp_jwt: error: interrupted{consequence}\n"
    result = run(method, "/echo", "--call", "--host", online.host)
    assert result == Result(130, "", message)


@needs_cpython  # PyPy takes whatever has the number of a closed standard input for it
@needs_shell
def test_data_from_a_closed_standard_input_is_an_error(online, copied):
    script = f'"{sys.executable}" signer.py POST /x --call --data - <&-'
    result = process(["sh", "-c", script], cwd=copied.parent, env=dict(os.environ))
    assert result.returncode == 1
    assert (
        result.stderr == "signer: error: --data cannot be read: closed, or not a path\n"
    )


def test_key_log_that_cannot_be_written_is_named(monkeypatch):
    monkeypatch.setenv("SSLKEYLOGFILE", "/nonexistent/log")
    found = transport_error(cdp_jwt.Client)
    assert found == (
        "TLS cannot be set up: No such file or directory; check SSLKEYLOGFILE and SSL_CERT_FILE"
    )


# In a terminal: what its screen shows, not what was sent to it.

needs_terminal = pytest.mark.skipif(
    not hasattr(os, "openpty") or not shutil.which("sh"), reason="needs a terminal"
)


class Screen:
    """What a terminal of 80 columns and 24 lines shows of a command, and has shown."""

    def __init__(self, script: str, folder: pathlib.Path, typed: str, environ: dict):
        import pyte

        self._screen = pyte.Screen(80, 24)
        self.seen: list[list[str]] = []
        master, terminal = os.openpty()
        child = subprocess.Popen(
            ["sh", "-c", script], stdin=terminal, stdout=terminal, stderr=terminal,
            cwd=folder, env={**os.environ, **environ}, start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        stream = pyte.ByteStream(self._screen)
        with contextlib.suppress(OSError):  # Linux: EIO once the child has gone
            while octets := os.read(master, 65536):
                for octet in octets:  # so that nothing is shown and erased unseen
                    stream.feed(bytes([octet]))
                    if not self.seen or self.seen[-1] != self.lines:
                        self.seen.append(self.lines)
                if typed and "Ctrl-D" in "".join(self.lines):
                    os.write(master, typed.encode())
                    typed = ""
        os.close(master)
        self.code = child.wait()

    @property
    def lines(self) -> list[str]:
        """The lines up to the last that is not empty."""
        shown = "\n".join(line.rstrip() for line in self._screen.display)
        return shown.rstrip("\n").split("\n")

    @property
    def title(self) -> str:
        return self._screen.title

    @property
    def is_at_line_start(self) -> bool:
        return self._screen.cursor.x == 0


@pytest.fixture
def screen(copied, with_key, ca_file) -> Callable[..., Screen]:
    def show(script: str, typed: str = "", **environ: str) -> Screen:
        command = f'"{sys.executable}" signer.py'
        environ = {"SSL_CERT_FILE": ca_file, "LC_ALL": "C.UTF-8", **environ}
        return Screen(script.replace("CMD", command), copied.parent, typed, environ)

    return show


@needs_terminal
def test_terminal_shows_a_hint_below_a_token(screen):
    shown = screen(f"CMD GET {ACCOUNTS}")
    hint = "signer: hint: this is a token for the request; --call sends the request"
    assert verified("".join(shown.lines[:-1]), P256)
    assert shown.lines[-1] == hint
    assert screen("CMD ws").lines[-1] != hint


@needs_terminal
@pytest.mark.parametrize(
    "reader", ["cat", "while read page; do echo $page; done", "head -3"]
)
def test_count_of_pages_is_never_among_the_data(screen, online, reader):
    """A reader prints to the same terminal, which nobody can know of a pipe."""
    pages = (
        f"CMD GET {ACCOUNTS} --call --paginate --host {online.host} | {{ {reader}; }}"
    )
    shown = screen(pages)
    documents = [json.loads(line)["accounts"] for line in shown.lines]
    assert documents == [[0], [1], [2]]
    assert not any("page" in line for lines in shown.seen for line in lines)
    assert shown.is_at_line_start


@needs_terminal
def test_count_of_pages_is_shown_beside_a_file_and_erased(screen, online, copied):
    pages = f"CMD GET {ACCOUNTS} --call --paginate --host {online.host} > pages"
    shown = screen(pages)
    assert {lines[0] for lines in shown.seen} >= {"1 page", "2 pages", "3 pages"}
    assert shown.lines == [""]
    assert shown.is_at_line_start
    written = (copied.parent / "pages").read_text().splitlines()
    assert [json.loads(line)["accounts"] for line in written] == [[0], [1], [2]]
    assert screen(f"{pages} 2>/dev/null").lines == [""]
    shown = screen(f"CMD GET {ACCOUNTS} --call --paginate --host {online.host}")
    assert not any("page" in line for lines in shown.seen for line in lines)


@needs_terminal
def test_count_of_pages_is_erased_before_a_message(screen, online):
    online.page_count = 9

    def third_fails(handler: Handler) -> None:
        if handler.query.get("cursor") == "2":
            return handler.answer(400, {"message": "broken"})
        return online.accounts(handler)

    online.routes["GET", ACCOUNTS] = (True, third_fails)
    shown = screen(f"CMD GET {ACCOUNTS} --call --paginate --host {online.host} > pages")
    assert shown.code == 1
    assert shown.lines == ["signer: error: HTTP 400: broken; to go on: cursor=2"]


EVIL_BODY = b'\x1b[2J\x1b]0;owned\x07\x9b3A{\r\n\t"\xc3\xa9": \xff\r}'


@needs_terminal
def test_terminal_is_not_moved_by_a_body(screen, online):
    call = f"CMD GET {ACCOUNTS} --call --host {online.host}"
    online.faults.append(status(200, EVIL_BODY))
    shown = screen(call)
    first = r"\x1b[2J\x1b]0;owned\x07\x9b3A{"
    assert shown.lines == [first, r'        "é": \xff\r}']
    assert (shown.title, shown.is_at_line_start) == ("", True)
    online.faults.append(status(200, EVIL_BODY))
    shown = screen(call, **C_LOCALE)
    assert shown.lines == [first, r'        "\xe9": \xff\r}']


@needs_shell
def test_pipe_gets_a_body_to_the_octet(online, copied):
    online.faults.append(status(200, EVIL_BODY))
    words = ["GET", ACCOUNTS, "--call", "--host", online.host]
    command = [sys.executable, str(copied), *words]
    assert subprocess.check_output(command, timeout=60) == EVIL_BODY


@needs_terminal
def test_terminal_is_not_moved_by_the_files_own_name(screen, copied):
    name = "\x1b[2J\x07.py"
    shutil.copy(copied, copied.parent / name)
    shown = screen(f'"{sys.executable}" "$NAME" GET', NAME=name)
    assert shown.code == 2
    assert shown.lines == [
        r"usage: python \x1b[2J\x07.py METHOD PATH [--export | --header | --call]",
        r"       python \x1b[2J\x07.py ws [CHANNEL [PRODUCT ...]] | decode [TOKEN] | check",
        "Print a token for one Coinbase request, or send it; --help says more.",
        r"\x1b[2J\x07: error: GET needs a PATH",
    ]


@needs_terminal
@pytest.mark.parametrize(
    ("words", "typed", "what", "code"),
    [
        ("decode", "hello\n\x04", "a token", 1),
        ("decode -", "hello\n\x04", "a token", 1),
        ("POST /x --call --data -", "{\n\x04", "JSON", 2),
        ("ws --key-file -", "{\n\x04", "a key file", 1),
    ],
)
def test_terminal_is_told_what_is_waited_for(screen, words, typed, what, code):
    shown = screen(f"CMD {words}", typed)
    line = f"signer: hint: type or paste {what}, then Ctrl-D on a line of its own"
    assert (shown.lines[0], shown.code) == (line, code)


@needs_shell
@pytest.mark.parametrize("body", [b"Unauthorized", b"Unauthorized\n", b""])
def test_error_after_a_body_starts_on_a_line_of_its_own(online, copied, body):
    """As in the mail of cron, where both streams are one."""
    call = f'"{sys.executable}" signer.py GET /v2/user --call --host {online.host}'
    online.faults += [status(400, body)] * 2
    environ = dict(os.environ)
    result = process(["sh", "-c", f"{call} 2>&1"], cwd=copied.parent, env=environ)
    lines = result.stdout.splitlines()
    error = f"signer: error: HTTP 400: {body.decode().strip() or 'no message'}"
    assert lines == [*body.decode().splitlines(), error]
    result = process(["sh", "-c", call], cwd=copied.parent, env=environ)
    assert (result.stdout, result.stderr) == (body.decode(), f"{error}\n")


# As on Windows


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "cp932", "ascii"])
def test_console_of_any_encoding_gets_escaped_text(
    monkeypatch, online, frozen, encoding
):
    def called(*words: str) -> tuple[int, str, str]:
        streams = [io.BytesIO(), io.BytesIO()]
        with monkeypatch.context() as patch:
            for name, stream in zip(("stdout", "stderr"), streams):
                wrapper = io.TextIOWrapper(stream, encoding, newline="\r\n")
                patch.setattr(sys, name, wrapper)
            code = cdp_jwt.main(list(words))
            sys.stderr.flush()
            out, err = (each.getvalue().decode(encoding) for each in streams)
        return code, out, err

    code, out, err = called("decode", made(claims={**CLAIMS, "iss": "☃\x1b"}))
    assert (code, err) == (1, "")
    assert r"problem  iss is '\u2603\x1b'; expected 'cdp'" in out
    assert "\r" not in out
    online.faults.append(status(400, {"message": "☃"}))
    code, out, err = called("GET", "/x", "--call", "--host", online.host)
    assert (code, err) == (1, "cdp_jwt: error: HTTP 400: \\u2603\r\n")
    for words in (["ws"], ["ws", "--header"], ["ws", "--export"], ["ws", "user"]):
        code, out, err = called(*words)
        assert (code, out.count("\r"), out[-1], err) == (0, 0, "\n", "")


def test_windows_has_no_modes(run, with_key, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with_key.chmod(0o666)
    result = checked(run, "--offline")
    assert f"from {with_key}: ECDSA" in result.out
    assert "warn" not in result.out


def test_windows_ends_a_pipe_that_nobody_reads_with_einval(run, with_key, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(cdp_jwt._Console, "write_line", fail)
    message = "standard output cannot be written: Invalid argument"
    assert run("ws") == Result(1, "", f"cdp_jwt: error: {message}\n")
    monkeypatch.setattr(sys, "platform", "win32")
    assert run("ws") == Result(141, "", "")


def test_windows_nul_is_no_terminal(run, with_key, monkeypatch):
    """It says that it is one, but has no size."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("GET", ACCOUNTS).err.startswith("cdp_jwt: hint: ")
    monkeypatch.setattr(sys, "platform", "win32")
    assert run("GET", ACCOUNTS).err == ""


# What is logged


def test_command_leaves_warnings_of_other_threads_to_their_log(run, online, caplog):
    """The server is one of this process: it logs in a thread of its own."""

    def warn(handler: Handler) -> None:
        logging.getLogger("cdp_jwt").warning("of another thread")
        handler.answer(200, {})

    logger = logging.getLogger("cdp_jwt")
    before = (logger.level, [*logger.handlers])
    online.faults.append(warn)
    result = run("GET", ACCOUNTS, "--call", "--verbose", "--host", online.host)
    assert "of another thread" in caplog.text
    assert "cdp_jwt: note: HTTP 200, 2 bytes\n" in result.err
    assert "of another thread" not in result.err
    assert (logger.level, [*logger.handlers]) == before


def test_command_that_prints_a_token_imports_no_logging(copied, key_file):
    program = (
        "import sys, cryptography.hazmat.primitives.asymmetric.utils, cryptography.exceptions\n"
        "from cryptography.hazmat.primitives.asymmetric import ec, ed25519\n"
        "ec.derive_private_key(1, ec.SECP256R1()); before = set(sys.modules)\n"
        "import signer\n"
        f"assert signer.main(['GET', '/x', '--key-file', {str(key_file)!r}]) == 0\n"
        "slow = {'logging', 'argparse', 'socket', 'ssl', 'difflib', 'getopt'}\n"
        "print(sorted(slow & (set(sys.modules) - before)))\n"
    )
    result = process([sys.executable, "-c", program], cwd=copied.parent)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "[]"


# Why people get a 401: each known cause, and what the user sees of it on standard error.


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


def key_with(path: pathlib.Path, **fields: object) -> None:
    write_private(path, {"id": NAME, "privateKey": SEC1, **fields})


def clock(server: Coinbase, path: pathlib.Path) -> None:
    server.clock_ahead = -60


def view_only(server: Coinbase, path: pathlib.Path) -> None:
    server.permissions["can_trade"] = False
    server.faults.append(status(401, REFUSAL))


def allow_list(server: Coinbase, path: pathlib.Path) -> None:
    key_with(path, allowedIps=["203.0.113.7"])
    server.faults.append(status(401, REFUSAL))


def secret_of(text: str) -> Callable[[Coinbase, pathlib.Path], None]:
    return lambda server, path: key_with(path, privateKey=text)


def nothing(server: Coinbase, path: pathlib.Path) -> None: ...


ERROR, HINT = "cdp_jwt: error: ", "cdp_jwt: hint: "
CALL = ["GET", ACCOUNTS, "--call"]
PLACE_ORDER = ["POST", ORDERS, "--call", "--data", '{"client_order_id": "1"}']
KEY = f"{ERROR}KEYFILE: "
SCENARIOS = {
    "healthy": (nothing, CALL, 0, []),
    "clock ahead": (clock, CALL, 0, [r"cdp_jwt: warning: this clock is \+(59|60|61) s from the server's; the server's is used"]),
    "query in the path": (nothing, ["GET", f"{ACCOUNTS}?limit=1", "--call"], 0, []),
    "newlines lost": (secret_of(SEC1.replace("\n", "")), CALL, 0, []),
    "newlines escaped": (secret_of(SEC1.replace("\n", r"\n")), CALL, 0, []),
    "wrong curve": (secret_of(pem(on_curve(ec.SECP256K1()))), CALL, 1, [f"{KEY}this is a secp256k1 key{TAKES}"]),
    "wrong kind": (secret_of(pkcs8(rsa_key())), CALL, 1, [f"{KEY}this is an RSA key{TAKES}"]),
    "public key": (secret_of(public_pem(P256)), CALL, 1, [f"{KEY}{PUBLIC}"]),
    "placeholder": (secret_of("YOUR PRIVATE KEY"), CALL, 1, [f"{KEY}{PLACEHOLDER}"]),
    "wallet secret": (secret_of(body(PKCS8)), CALL, 1, [f"{KEY}{WALLET}"]),
    "legacy key": (secret_of(LEGACY_SECRET), CALL, 1, [f"{KEY}{re.escape(LEGACY)}"]),
    "altered key": (secret_of(flipped(SEC1, 60)), CALL, 1, [f"{KEY}{UNPROVEN}"]),
    "permission missing": (view_only, PLACE_ORDER, 1, [f"{ERROR}HTTP 401: Unauthorized", f"{HINT}the key is valid, but may not do this: its can_trade is false"]),
    "allow-list": (allow_list, CALL, 1, [f"{ERROR}HTTP 401: Unauthorized", f"{HINT}possible: this machine's address is none that it allows: 203.0.113.7", f"{HINT}{re.escape(POSSIBLE)}", f"{HINT}{TRY_CHECK}"]),
    "wrong path": (nothing, ["GET", "/api/v3/accounts", "--call"], 1, [f"{ERROR}HTTP 404: no such path", f"{HINT}{UNKNOWN_PATH}/api/v3/accounts"]),
}  # fmt: skip


@pytest.mark.parametrize("cause", SCENARIOS)
def test_scenario_names_its_cause(run, by_name, with_key, cause):
    prepare, words, code, lines = SCENARIOS[cause]
    prepare(by_name, with_key)
    result = run(*words)
    assert result.code == code
    shown = result.err.splitlines()
    assert len(shown) == len(lines), shown
    for line, pattern in zip(shown, lines):
        assert re.fullmatch(pattern.replace("KEYFILE", re.escape(str(with_key))), line)


# As its users run it: processes, the file by itself under another name


@pytest.fixture
def copied(tmp_path) -> pathlib.Path:
    """The file alone, under another name, in a directory with an awkward name."""
    folder = tmp_path / "a folder, ключ"
    folder.mkdir()
    return pathlib.Path(shutil.copy(MODULE, folder / "signer.py"))


def process(command: list[object], **options) -> subprocess.CompletedProcess:
    environment = {"PATH": os.environ["PATH"], **options.pop("env", {})}
    return subprocess.run(
        [str(word) for word in command],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


@needs_shell
def test_command_composes_with_the_shell(copied, key_file):
    """$(...), eval and a pipe, as the README shows them."""
    command = f'"{sys.executable}" signer.py GET {ACCOUNTS}'
    script = f"""
        set -e
        token=$({command}); echo "$token"
        eval "$({command} --export)"; echo "$JWT"
        {command} --header | cut -d' ' -f3
    """
    environ = {"CDP_KEY_FILE": str(key_file)}
    result = process(["sh", "-c", script], env=environ, cwd=copied.parent)
    assert (result.returncode, result.stderr) == (0, "")
    tokens = result.stdout.split()
    assert len(set(tokens)) == 3
    for token in tokens:
        assert verified(token, P256)["uri"] == f"GET api.coinbase.com{ACCOUNTS}"


@needs_shell
def test_command_ends_quietly_when_its_pipe_is_closed(copied, key_file):
    command = f'sleep 0.5; "{sys.executable}" signer.py ws'
    script = f'({command}; echo "code $?" >&2) | true'
    environ = {"CDP_KEY_FILE": str(key_file)}
    result = process(["sh", "-c", script], env=environ, cwd=copied.parent)
    assert result.stderr == "code 141\n"


@needs_shell
@pytest.mark.parametrize(
    ("redirection", "out", "err", "code"),
    [
        ("2>&-", "cdp_jwt", "", 0),
        (">&-", "", "signer: error: standard output is closed", 1),
        ("--key-file - <&-", "", "signer: error: ", 1),
    ],
)
def test_command_survives_closed_streams(copied, redirection, out, err, code):
    option = "ws" if "key-file" in redirection else "--version"
    script = f'"{sys.executable}" signer.py {option} {redirection}'
    result = process(["sh", "-c", script], cwd=copied.parent)
    assert result.returncode == code
    assert result.stdout.startswith(out)
    assert result.stderr.startswith(err)
    assert "Traceback" not in result.stderr


@needs_shell
def test_warning_that_cannot_be_shown_is_not_printed_among_data(copied, key_file):
    key_file.chmod(0o644)
    script = f'"{sys.executable}" signer.py ws --key-file "{key_file}" 2>&-'
    result = process(["sh", "-c", script], cwd=copied.parent)
    assert verified(result.stdout.strip(), P256)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_command_says_when_its_output_is_lost(copied, key_file):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, str(copied), "ws", "--key-file", str(key_file)],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    expected = (
        "signer: error: standard output cannot be written: No space left on device\n"
    )
    assert result.stderr == expected


class Program:
    """The file run as a program within this process, so that its lines are counted."""

    def __init__(self, monkeypatch, capsys) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: str) -> Result:
        self.monkeypatch.setattr(sys, "argv", [str(MODULE), *words])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(MODULE), run_name="__main__")
        return Result(end.value.code, *self.capsys.readouterr())


@pytest.fixture
def program(monkeypatch, capsys) -> Program:
    return Program(monkeypatch, capsys)


def test_program_ends_with_the_code_of_its_command(program, with_key):
    assert program("--version") == Result(0, f"cdp_jwt {cdp_jwt.__version__}\n", "")
    assert verified(program("ws").out.strip(), P256)["kid"] == NAME
    assert program("FROB", "/x").code == 2


def test_program_without_cryptography_is_an_error_of_one_line(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    message = program("--help").code  # which SystemExit prints, and ends with 1
    assert message.startswith("cdp_jwt: error: cryptography >= 3.4.8 is needed (")
    with pytest.raises(ImportError, match=r"cryptography >= 3\.4\.8 is needed"):
        runpy.run_path(str(MODULE), run_name="vendored")


@pytest.mark.parametrize("version", ["3.3.2", "2.9"])
def test_module_refuses_an_old_cryptography(monkeypatch, version):
    monkeypatch.setattr(cryptography, "__version__", version)
    with pytest.raises(ImportError, match=f"found {version}"):
        runpy.run_path(str(MODULE), run_name="vendored")


def broken_pipe() -> io.TextIOWrapper:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", encoding="utf-8")


def full_disk() -> io.TextIOWrapper:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    return open("/dev/full", "w", encoding="utf-8")


FULL = "cdp_jwt: error: standard output cannot be written: No space left on device"


@pytest.mark.parametrize(
    ("opened", "words", "code", "message"),
    [
        (lambda: None, ["--version"], 1, "cdp_jwt: error: standard output is closed\n"),
        (broken_pipe, ["--version"], 141, ""),
        (full_disk, ["--version"], 1, f"{FULL}\n"),
        (full_disk, CALL, 1, f"{FULL}\n"),
    ],
    ids=["closed", "a pipe that nobody reads", "a full disk", "a full disk, a call"],
)  # fmt: skip
def test_output_that_cannot_be_written_has_a_code_and_a_reason(
    online, monkeypatch, capsys, opened, words, code, message
):
    stream = opened()
    if words is CALL:
        words = [*CALL, "--host", online.host]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert cdp_jwt.main(words) == code
    assert capsys.readouterr().err == message
    if stream:
        stream.close()


def test_command_blames_no_permission_that_is_there(run, online):
    for path in (ORDERS, "/echo"):
        online.faults.append(status(401, REFUSAL))
        result = run("POST", path, "--call", "--data", "{}", "--host", online.host)
        assert result.err.splitlines()[0] == "cdp_jwt: error: HTTP 401: Unauthorized"
        assert "its can_trade is" not in result.err
    assert len(online.seen) == 3  # the permissions are asked for after an order alone
    online.faults += [status(403, REFUSAL), status(403, REFUSAL)]
    result = run("POST", ORDERS, "--call", "--data", "{}", "--host", online.host)
    assert result.err.splitlines()[1:] == [
        f"cdp_jwt: hint: {POSSIBLE}",
        f"cdp_jwt: hint: {TRY_CHECK}",
    ]


def test_command_names_the_transfer_that_is_not_allowed(run, online):
    online.faults.append(status(403, REFUSAL))
    path = "/v2/accounts/1/transactions"
    result = run("POST", path, "--call", "--data", "{}", "--host", online.host)
    hint = "the key is valid, but may not do this: its can_transfer is false"
    assert result.err.splitlines()[1] == f"cdp_jwt: hint: {hint}"


def test_decode_without_standard_input_says_so(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    message = "TOKEN: closed, or not a path"
    assert run("decode") == Result(1, "", f"cdp_jwt: error: {message}\n")


def test_decode_does_not_read_key_and_token_from_standard_input(run, monkeypatch):
    monkeypatch.setenv("CDP_KEY_FILE", "-")
    message = "standard input is one thing: a key file, data or a token"
    assert run("decode") == misused(message)


def test_decode_shows_the_times_that_are_there(run, frozen):
    result = run("decode", made(claims=without(CLAIMS, "nbf")))
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["exp", "signed", "problem"]


def test_check_takes_the_key_of_the_environment(run, monkeypatch):
    for variable, value in ADVANCED.items():
        monkeypatch.setenv(variable, value)
    result = checked(run, "--offline")
    assert result.code == 0
    assert result.out.splitlines()[1:] == [
        f"ok    key {NAME} from COINBASE_API_KEY and COINBASE_API_SECRET: ECDSA P-256 (ES256)",
        "ok    it signs and verifies",
        "All is well.",
    ]


def test_check_heeds_no_proxy(run, online, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    result = checked(run, "--host", online.host)
    assert result.code == 0
    assert "ok    proxy: none; " in result.out
    monkeypatch.setenv("NO_PROXY", online.host)
    assert "ok    proxy: none; " in checked(run, "--host", online.host).out


def test_check_says_when_the_server_tells_no_time(run, online):
    def answer(handler: Handler) -> None:
        handler.send_response_only(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    online.routes["GET", "/api/v3/brokerage/time"] = (False, answer)
    result = checked(run, "--host", online.host)
    assert last_lines(result)[0] == "warn  clock: the server tells no time"


def test_check_is_not_carried_out_with_what_it_does_not_understand(
    run, online, monkeypatch
):
    timeout = ["check", "--host", online.host, "--timeout", "soon"]
    assert run(*timeout).code == 2
    monkeypatch.delenv("CDP_KEY_FILE")
    assert run("check", "--offline", "--key-name", NAME).code == 2


class Terminal:
    """The command, its two streams kept apart and undecoded."""

    def __init__(self, monkeypatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, *words: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        out, err = io.BytesIO(), io.StringIO()
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, "utf-8"))
            patch.setattr(sys, "stderr", err)
            code = cdp_jwt.main(list(words))
            sys.stdout.flush()
            printed = out.getvalue()
        return code, printed, err.getvalue()


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    return Terminal(monkeypatch)


@examples(100)
@given(
    token=st.builds(
        lambda header, claims: made({**HEADER, **header}, {**CLAIMS, **claims}),
        st.dictionaries(st.sampled_from([*HEADER, "\x1b"]), JSON_VALUES),
        st.dictionaries(st.sampled_from([*CLAIMS, "uris", "\x9b"]), JSON_VALUES),
    )
    | mutations(TOKENS)
    | st.text(max_size=30)
)
def test_any_token_is_decoded_without_moving_the_terminal(terminal, with_key, token):
    octets = token.encode("utf-8", "surrogateescape")
    code, out, err = terminal("decode", stdin=octets)
    assert code in (0, 1)
    assert printable(out.decode())
    assert printable(err)


WORDS = [*cdp_jwt.METHODS, "ws", "check", "decode", "/x", ACCOUNTS, "-", "--", "@-", "@/", "{}",
         "user", "BTC-USD", "a.example", "https://a.example/x", "+5", "0.1", "\x1b[2J", "\udcff",
         SEC1, PORTAL, NAME, made(), *cdp_jwt.NAMED]  # fmt: skip


@examples(200)
@given(
    words=st.lists(st.sampled_from(WORDS) | st.text(max_size=9), max_size=6),
    octets=st.sampled_from([b"", b"{}", b"\xff", SEC1.encode(), PORTAL.encode()]),
)
def test_any_command_ends_with_a_code_and_shows_no_key(
    terminal, nowhere, with_key, words, octets
):
    code, out, err = terminal(*words, stdin=octets)
    assert code in (0, 1, 2)
    assert printable(err)
    assert printable(out.decode())
    assert not leaks(out.decode() + err, SEC1)
    assert code != 2 or out == b""


@examples(60)
@given(answer=answers())
def test_any_answer_is_called_for_without_moving_the_terminal(
    answering, terminal, with_key, answer
):
    """The body is data and comes as it is; all before it, and all messages, are safe."""
    answering.answers = [answer]
    options = ["--call", "--include", "--verbose", "--host", answering.server.host]
    code, out, err = terminal("GET", "/x", *options)
    assert code in (0, 1)
    assert printable(err)
    assert "eyJ" not in err
    head, _, _ = out.partition(b"\n\n")
    assert printable(head.decode())


# ------------------------------------------------------- the file, copied and imported


@pytest.mark.parametrize(
    "flags", [[], ["-I"], ["-O"], ["-W", "error"], ["-X", "utf8=0"]]
)
def test_copied_file_signs_under_another_name(copied, key_file, flags):
    result = process(
        [sys.executable, *flags, copied, "GET", ACCOUNTS, "--key-file", key_file]
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert verified(result.stdout.strip(), P256)["kid"] == NAME


def test_copied_file_speaks_under_its_own_name(copied):
    result = process([sys.executable, copied, "GET", "x"])
    assert result.returncode == 2
    assert result.stderr.startswith("signer: error: ")
    result = process([sys.executable, copied])
    assert result.returncode == 2
    assert result.stderr.startswith("usage: python signer.py METHOD PATH")
    assert result.stdout == ""


def test_copied_file_is_a_module_of_any_package(copied):
    package = copied.parent / "vendored"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(MODULE, package / "auth.py")
    program = (
        "from vendored import auth; import logging, sys;"
        f"key = auth.ApiKey({NAME!r}, {PORTAL!r}); print(key.ws_jwt());"
        "assert auth.__name__ == 'vendored.auth'"
    )
    result = process([sys.executable, "-c", program], cwd=copied.parent)
    assert (result.returncode, result.stderr) == (0, "")
    verified(result.stdout.strip(), ED25519)


WITHOUT_CRYPTOGRAPHY = """
import sys, runpy
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError("No module named 'cryptography'")
sys.meta_path.insert(0, Blocked())
"""


def test_command_without_cryptography_says_how_to_install_it(copied):
    def run_without(*words: str) -> subprocess.CompletedProcess:
        program = f"sys.argv = {['signer.py', *words]!r}"
        return process([
            sys.executable, "-c",
            f"{WITHOUT_CRYPTOGRAPHY}\n{program}\nrunpy.run_path({str(copied)!r}, run_name='__main__')",
        ])  # fmt: skip

    for words in (["GET", ACCOUNTS], ["--help"], []):
        result = run_without(*words)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            "signer: error: cryptography >= 3.4.8 is needed (No module named"
            " 'cryptography'); pip install cryptography, apt install"
            " python3-cryptography or dnf install python3-cryptography\n"
        )


def test_import_without_cryptography_is_an_import_error(copied):
    program = f"{WITHOUT_CRYPTOGRAPHY}\nsys.path.insert(0, {str(copied.parent)!r})\nimport signer"
    result = process([sys.executable, "-c", program])
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        "ImportError: cryptography >= 3.4.8 is "
    )


def test_old_cryptography_is_named(copied):
    program = (
        "import sys, cryptography; cryptography.__version__ = '3.3.2'\n"
        f"sys.path.insert(0, {str(copied.parent)!r})\nimport signer"
    )
    result = process([sys.executable, "-c", program])
    assert "ImportError: cryptography >= 3.4.8 is needed (found 3.3.2)" in result.stderr


NO_SIDE_EFFECTS = """
import sys
{cryptography}
before = set(sys.modules)
forbidden = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn")
def refuse(event, arguments):
    if event.startswith(forbidden):
        raise SystemExit(f"forbidden: {{event}}")
    if event == "open" and armed and isinstance(arguments[1], str) and set("wax+") & set(arguments[1]):
        raise SystemExit(f"forbidden: writes {{arguments[0]}}")
armed = False
sys.addaudithook(refuse)
sys.dont_write_bytecode = True
sys.path.insert(0, {folder!r})
import signer
armed = True
key = signer.ApiKey({name!r}, {secret!r})
print(key.rest_jwt("GET", "/x"))
key.ws_jwt(); signer.build_ws_jwt({name!r}, {secret!r})
new = set(sys.modules) - before
heavy = {{"socket", "ssl", "http", "http.client", "urllib.request", "argparse", "logging"}}
print(sorted(new & heavy))
"""


@needs_cpython
def test_making_a_token_opens_nothing_and_imports_no_network(copied):
    program = NO_SIDE_EFFECTS.format(
        cryptography="import cryptography.exceptions\n"
        "from cryptography.hazmat.primitives import serialization, hashes\n"
        "from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils\n"
        "ec.derive_private_key(1, ec.SECP256R1())",  # up to 41 this imports socket
        folder=str(copied.parent), name=NAME, secret=SEC1,
    )  # fmt: skip
    result = process([sys.executable, "-c", program])
    assert (result.returncode, result.stderr) == (0, "")
    token, imported = result.stdout.splitlines()
    verified(token, P256)
    assert imported == "[]"


IMPORTED_ALONE = """
{imports}
import cryptography.hazmat.backends.openssl.backend  # ECDSA() itself asks for it
import os, signal, sys, threading, warnings
logging = sys.modules.get("logging")
sys.dont_write_bytecode = True
sys.path.insert(0, {folder!r})

class Watched(type(os.environ)):
    def __getitem__(self, name):
        seen.append(f"reads the variable {{name}}")
        return super().__getitem__(name)
    def __iter__(self):
        seen.append("reads all variables")
        return super().__iter__()

def watch(event, arguments):
    if watching:
        path, mode = (*arguments, "", "")[:2]
        if event == "open" and str(path).startswith({folder!r}) and mode in ("r", "rb"):
            event = "opens the module"
        seen.append(event)

def state():
    handlers = [signal.getsignal(each) for each in sorted(signal.valid_signals())]
    root = logging.getLogger() if logging else None
    return {{
        "logging": (root.level, root.handlers[:]) if root else (),
        "modules": sorted(set(sys.modules) - {{"signer"}}),
        "threads": threading.active_count(),
        "filters": list(warnings.filters),
        "path": list(sys.path),
        "hooks": (sys.excepthook, sys.displayhook, sys.stdout, sys.stderr, handlers),
        "directory": os.getcwd(),
    }}

seen, watching = [], True
before = state()
environment = dict(os.environ)
os.environ.__class__ = Watched
sys.addaudithook(watch)
import signer
watching = False
os.environ.__class__ = Watched.__mro__[1]
after = state()
assert dict(os.environ) == environment
for name in before:
    if before[name] != after[name]:
        seen.append(f"changes {{name}}: {{before[name]}} -> {{after[name]}}"[:400])
print("\\n".join(sorted(set(seen))))
"""
# What Python itself does to import a file; NamedTuple compiles its constructor.
IMPORTING = {
    "compile",
    "exec",
    "import",
    "marshal.loads",
    "object.__setattr__",
    "opens the module",
    "os.listdir",
    "os.scandir",
    "sys._getframe",
}


def imports_of_the_file() -> str:
    """Its import statements, but for those that functions make later."""
    nodes = ast.parse(source()).body
    nodes += [node for top in nodes if isinstance(top, ast.Try) for node in top.body]
    kinds = (ast.Import, ast.ImportFrom)
    imports = [ast.unparse(node) for node in nodes if isinstance(node, kinds)]
    # From 3.14 on, the first class of this kind imports what it is made with.
    return "\n".join([*imports, "class Point(NamedTuple):\n    x: int"])


def test_import_opens_nothing_reads_no_variable_and_changes_nothing(copied):
    """Neither file nor socket, environment, logging, thread, signal or global state."""
    program = IMPORTED_ALONE.format(
        imports=imports_of_the_file(), folder=str(copied.parent)
    )
    result = process([sys.executable, "-c", program])
    assert (result.returncode, result.stderr) == (0, "")
    assert set(result.stdout.splitlines()) - IMPORTING == set()


def test_import_takes_from_outside_the_standard_library_cryptography_alone(copied):
    """As Python itself sees it: which files are loaded, and from where."""
    program = (
        f"import sys; sys.path.insert(0, {str(copied.parent)!r})\n"
        "before = {*sys.modules}; import signer\n"
        "print({n.partition('.')[0] for n, m in sys.modules.items() if n not in before"
        " and '-packages' in str(getattr(m, '__file__', None))})"
    )
    result = process([sys.executable, "-c", program])
    loaded = ast.literal_eval(result.stdout)
    # cryptography's own: bindings up to 36, and what calls C code up to 42.
    assert loaded - {"_cffi_backend", "six", "cffi"} == {"cryptography"}


POOL = """
import concurrent.futures, multiprocessing, sys
import signer

def start(path):
    global key
    key = signer.ApiKey.from_file(path)

def sign(number):
    return key.rest_jwt("GET", f"/{number}")

if __name__ == "__main__":
    method, path = sys.argv[1:]
    context = multiprocessing.get_context(method)
    start(path)
    with concurrent.futures.ProcessPoolExecutor(2, context, start, (path,)) as pool:
        tokens = [*pool.map(sign, range(10)), *map(sign, range(10, 20))]
    try:  # after the pool: under Windows, half a start leaves a child behind that reads
        context.Process(target=print, args=(key,)).start()
        refusal = "none, as nothing is copied"
    except TypeError as error:
        refusal = str(error)
    print(refusal, *tokens, sep="\\n")
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_process_that_is_started_anew_reads_its_own_key(copied, key_file, method):
    """The key does not travel to it: that is refused before it is sent."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"needs {method}")
    (copied.parent / "pool.py").write_text(POOL, encoding="utf-8")
    words = [sys.executable, "pool.py", method, key_file]
    result = process(words, cwd=copied.parent)
    assert result.returncode == 0, result.stderr
    refusal, *tokens = result.stdout.splitlines()
    assert refusal == "an ApiKey is not pickled: its private key stays here"
    assert len(nonces_of(tokens, P256)) == len(tokens) == 20


AUDITED = """
import os, sys
sys.dont_write_bytecode = True
FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn",
    "os.spawn", "pty.", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link",
    "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.", "tempfile.",
    "ftplib.", "smtplib.", "urllib.", "http.", "webbrowser.", "ctypes.", "os.putenv")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

def refuse(event, arguments):
    if event.startswith(FORBIDDEN):
        raise SystemExit(f"forbidden: {event} {arguments}")
    by_mode = set("wax+") & set(arguments[1] or "") if event == "open" else None
    if event == "open" and (by_mode if arguments[1] else arguments[2] & WRITING):
        raise SystemExit(f"forbidden: opens {arguments[0]} to write")

place, *sys.argv = sys.argv[1:]
sys.path.insert(0, place)
# Up to 41 its own import of the bindings makes these known; it is not what is tested.
import cryptography.hazmat.primitives.asymmetric.ec
sys.addaudithook(refuse)
import signer
sys.exit(signer.main())
"""
READ_ONLY = """
set -e
mount -o remount,bind,ro /
mount --bind "$PWD" "$PWD"
mount -o remount,bind,ro "$PWD"
cd "$PWD"
if touch written 2>/dev/null || touch /written 2>/dev/null; then exit 99; fi
exec "$@"
"""
NO_NETWORK = ["unshare", "-rn"]
NO_WRITING = ["unshare", "-rm", "sh", "-c", READ_ONLY, "sh"]
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
# What it runs in: (what the command is run by, Python's flags, environment).
SURROUNDINGS = {
    "a plain process without HOME": ([], [], {}),
    "HOME that is not there": ([], [], {"HOME": "/nonexistent"}),
    "isolated, python -I": ([], ["-I"], {}),
    "no site, optimized, -O": ([], ["-O"], {}),
    "C locale": ([], [], {"LC_ALL": "C"}),
    "C locale, not coerced to UTF-8": ([], [], C_LOCALE),
    "a time zone": ([], [], {"TZ": "Asia/Kathmandu"}),
    "network namespace without interfaces": (NO_NETWORK, [], {}),
    "read-only file system": (NO_WRITING, [], {}),
    "isolated on a read-only file system": (NO_WRITING, ["-I"], {}),
}


def allowed(wrapper: list[str], folder: pathlib.Path) -> bool:
    """May this user start a process so?"""
    if not wrapper or not shutil.which(wrapper[0]):
        return not wrapper
    return process([*wrapper, "true"], cwd=folder).returncode == 0


@pytest.mark.parametrize("packed", [False, True], ids=["file", "zip file"])
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_token_is_made_offline_without_writing_in(
    copied, key_file, surroundings, packed
):
    """No socket, process or file written: an audit hook forbids it. The directory's name
    has spaces and letters that ASCII lacks.
    """
    wrapper, flags, environment = SURROUNDINGS[surroundings]
    folder = copied.parent
    if not allowed(wrapper, folder):
        pytest.skip(f"{' '.join(wrapper[:2])} is not allowed here")
    place = folder
    if packed:
        place = folder / "modules.zip"
        with zipfile.ZipFile(place, "w") as archive:
            archive.write(copied, copied.name)
        copied.unlink()
    key = shutil.copy(key_file, folder / "ключ.json")
    words = ["signer.py", "GET", f"{ACCOUNTS}?limit=1", "--key-file", key]
    command = [*wrapper, sys.executable, *flags, "-c", AUDITED, place, *words]
    result = process(command, cwd=folder, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    claims = verified(result.stdout.strip(), P256)
    assert claims["uri"] == f"GET api.coinbase.com{ACCOUNTS}"


@pytest.mark.parametrize("event", ["socket", "subprocess", "write"])
def test_audit_hook_of_these_tests_forbids(copied, key_file, event):
    """What the hook lets pass means something: it stops a module that does such a thing."""
    deed = {
        "socket": "__import__('socket').socket()",
        "subprocess": "__import__('subprocess').run(['true'])",
        "write": "open('written', 'w')",
    }[event]
    copied.write_text(f"def main(): {deed}\n", encoding="utf-8")
    command = [sys.executable, "-c", AUDITED, copied.parent, "signer.py"]
    result = process(command, cwd=copied.parent)
    assert result.returncode == 1
    assert result.stderr.startswith("forbidden: ")


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C"}, C_LOCALE], ids=["C", "bare C"]
)
def test_message_about_a_name_that_is_not_ascii_survives_the_c_locale(
    copied, environment
):
    command = [sys.executable, copied, "ws", "--key-file", "ключ.json"]
    result = process(command, cwd=copied.parent, env=environment)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        r"signer: error: [^\n]*\.json: cannot be read: No such file or directory\n",
        result.stderr,
    )


# ---------------------------------------------------------- the project as a whole


def source() -> str:
    return MODULE.read_text(encoding="utf-8")


def project() -> str:
    return (HERE / "pyproject.toml").read_text(encoding="utf-8")


def test_module_imports_the_standard_library_and_cryptography_alone():
    if not hasattr(sys, "stdlib_module_names"):
        pytest.skip("Python 3.9 does not list its standard library")
    names = set()
    for node in ast.walk(ast.parse(source())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            assert node.level == 0
    foreign = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert foreign == {"cryptography"}


def test_script_metadata_and_pyproject_agree():
    """PEP 723's block is what `uv run` and `pipx run` go by."""
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", source(), re.MULTILINE)[1]
    for field in ("requires-python", "dependencies"):
        line = re.search(rf"^# ({field} = .*)$", block, re.MULTILINE)[1]
        assert re.search(rf"^{re.escape(line)}$", project(), re.MULTILINE), line


def test_version_and_description_come_from_the_module():
    assert 'dynamic = ["version", "description"]' in project()
    assert re.fullmatch(r"\d+\.\d+\.\d+", cdp_jwt.__version__)
    assert cdp_jwt.__doc__.splitlines()[0].startswith(
        "Coinbase (CDP) JWTs and calls in one file"
    )


def test_public_names_are_listed_and_documented():
    for name in cdp_jwt.__all__:
        assert getattr(cdp_jwt, name).__doc__, name
    assert sorted(cdp_jwt.__all__) == list(cdp_jwt.__all__)


def test_no_function_is_longer_than_45_lines():
    for node in ast.walk(ast.parse(source())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 45, node.name


def test_file_mode_makes_the_module_a_command():
    if os.name == "posix":
        assert MODULE.stat().st_mode & stat.S_IXUSR
    assert source().startswith("#!/usr/bin/env python3\n")


def readme() -> str:
    return (HERE / "README.md").read_text(encoding="utf-8")


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


CALLED = r"(?:python3? (?:\S*/)?cdp_jwt\.py|u[v] run cdp_jwt\.py|pipx run cdp_jwt\.py|(?<!-t )cdp-jwt)"


def documented_commands() -> list[str]:
    """Each call of this program in README and docstring, up to a pipe or a comment."""
    texts = re.sub(r"\\\n\s*", "", f"{readme()}\n{cdp_jwt.__doc__}")
    return re.findall(rf"{CALLED} ([^\n|#)`<>]+)", texts)


def test_options_in_the_documents_are_those_of_the_help(run):
    known = options_in(run("--help").out)
    assert known == set(cdp_jwt.NAMED)
    for command in documented_commands():
        assert options_in(command) <= known, command
    section = readme().partition("\n## On the command line\n")[2].partition("\n## ")[0]
    assert len(options_in(section)) >= 12
    assert options_in(section) <= known


def test_commands_in_the_documents_are_understood(program, run, with_key, monkeypatch):
    """Each is called as it stands there, without a network; code 2 were a wrong call."""

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.chdir(with_key.parent)
    commands = documented_commands()
    assert len(commands) >= 15
    help_lines = re.findall(
        r"^  \$ (?:export|python) \S+ ?(.*)", run("--help").out, re.MULTILINE
    )
    for command in [*commands, *filter(None, help_lines)]:
        text = command.replace("...", "x").replace("$ORDER", "{}")
        words = shlex.split(re.sub(r"\$\w+", "/x", text))
        if "--key-file" in words:
            words[words.index("--key-file") + 1] = str(with_key)
        assert run(*words).code in (0, 1), command


def test_least_versions_are_the_same_everywhere():
    """The header's block for `uv run`, pyproject, docstring, README, tools, message."""
    python = re.search(r'^requires-python = ">=([\d.]+)"', project(), re.MULTILINE)[1]
    least = re.search(r'"cryptography>=([\d.]+)"', project())[1]
    assert f"Python >= {python} and `cryptography`" in cdp_jwt.__doc__
    assert f'target-version = "py{python.replace(".", "")}"' in project()
    assert f'pythonVersion = "{python}"' in project()
    assert f"Python ≥ {python} and `cryptography` ≥ {least}" in " ".join(
        readme().split()
    )
    assert f"cryptography >= {least} is needed" in source()
    assert f"crypto{least}" in project()


def test_tools_are_given_no_exceptions_in_the_module():
    """No line of it is excused from type-checkers, linters, scanners or coverage."""
    excused = r"# *(type|pyright|mypy): *ignore|# *noqa|# *nosec|pragma: *no cover"
    assert re.findall(excused, source()) == []
    off = re.findall(r"(?m)^report\w+ = .*|^skips.*|^disable_error_code.*", project())
    assert [line.split()[0] for line in off] == ["reportPrivateUsage"]
    assert re.findall(r'(?m)^"cdp_jwt.py" = ', project()) == []


# ------------------------------------------ README: what it shows, run as it stands


@dataclasses.dataclass
class Block:
    """A fenced block; of a console, `script` is what is typed, `output` the rest."""

    language: str
    text: str = ""

    @property
    def script(self) -> str:
        return "".join(re.findall(r"^[$>] (.*\n)", self.text, re.MULTILINE))

    @property
    def output(self) -> list[str]:
        return re.findall(r"^(?![$>] ).+", self.text, re.MULTILINE)

    @property
    def is_program(self) -> bool:
        """Is it to be run? What `make` does is set up from the network."""
        lines = self.script.splitlines()
        is_make = bool(lines) and all(line.startswith("make ") for line in lines)
        return self.language not in ("", "text", "mermaid") and not is_make


def readme_blocks() -> dict[str, list[Block]]:
    """The README's blocks by the heading that they stand under."""
    found: dict[str, list[Block]] = {}
    heading, block = "", None
    for line in readme().splitlines(keepends=True):
        if line.startswith("```"):
            block = None if block else Block(line[3:].strip())
            if block:
                found.setdefault(heading, []).append(block)
        elif block:
            block.text += line
        elif line.startswith("#"):
            heading = line.strip("# \n")
    return found


def shown(heading: str) -> list[Block]:
    return readme_blocks()[heading]


def rows_of(heading: str) -> list[tuple[str, ...]]:
    """The code of each row of the table under a heading."""
    section = readme().partition(f"# {heading}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `.*", section, re.MULTILINE)
    return [tuple(re.findall("`(.*?)` [|]", row)) for row in rows]


class Reader:
    """Follows the README to the letter, in a fresh directory with the file and a key."""

    def __init__(self, folder: pathlib.Path, environ: dict[str, str]) -> None:
        self.folder, self.environ = folder, environ

    def need(self, *tools: str) -> None:
        for tool in tools:
            if not shutil.which(tool, path=self.environ["PATH"]):
                pytest.skip(f"{tool} is not installed here")

    def run(self, *words: object, **environ: str) -> subprocess.CompletedProcess:
        environ = {**self.environ, **environ}
        return process([*words], env=environ, cwd=self.folder)

    def sh(self, script: str, *before: str, **environ: str) -> str:
        """What the commands of a script print; none may fail or complain."""
        result = self.run(*before, "sh", "-ec", script, **environ)
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout

    def write(self, name: str, text: str) -> pathlib.Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def python(self, program: str) -> str:
        self.write("recipe.py", program)
        return self.sh("python recipe.py")


def accounts_with_balances(handler: Handler) -> None:
    page = int(handler.query.get("cursor") or 0)
    more = page + 1 < handler.server.page_count
    balance = {"value": f"{page}.50", "currency": "BTC"}
    account = {"uuid": UUID, "currency": "BTC", "available_balance": balance}
    answer = {"accounts": [account], "has_next": more, "cursor": str(page + 1)}
    handler.answer(200, answer)


@pytest.fixture
def reader(by_name, ca_file, key_file, tmp_path) -> Reader:
    """Its tools reach a server in the place of api.coinbase.com, and nothing else."""
    folder, programs = tmp_path / "fresh", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    shutil.copy(MODULE, folder / "cdp_jwt.py")
    shutil.copy(key_file, folder / "cdp_api_key.json")
    for name in ("python", "python3"):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        program.chmod(0o755)
    for tool in ("pass", "op", "aws"):  # that print what they keep
        program = programs / tool
        program.write_text(f"#!/bin/sh\ncat '{folder}/cdp_api_key.json'\n")
        program.chmod(0o755)
    by_name.routes["GET", ACCOUNTS] = (True, accounts_with_balances)
    places = [str(programs), os.path.dirname(sys.executable), os.environ["PATH"]]
    certificates = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
    return Reader(
        folder,
        {
            "PATH": os.pathsep.join(places),
            "HOME": str(folder),
            "CDP_KEY_FILE": "cdp_api_key.json",
            "HTTPS_PROXY": os.environ["HTTPS_PROXY"],
            "PYTHONDONTWRITEBYTECODE": "1",
            **dict.fromkeys(certificates, ca_file),
        },
    )


def served(server: Coinbase) -> list[str]:
    """The requests that the server got, all with good tokens, no two with the same."""
    assert server.refusals == []
    tokens = [seen.token for seen in server.seen if seen.token]
    assert len(set(tokens)) == len(tokens)
    return [f"{seen.method} {seen.path}" for seen in server.seen]


def unplugged() -> list[str]:
    """What to put before a command, so that it has no network at all."""
    unshare = ["unshare", "-rn"]
    allowed = shutil.which("unshare") and not process([*unshare, "true"]).returncode
    return unshare if allowed else []


def appear(lines: list[str], output: str) -> None:
    """Do these lines stand in the output in this order? Versions may be others."""
    at = 0
    for line in lines:
        pattern = re.escape(line).replace(r"\.\.\.", ".*")
        pattern = re.sub(r"\d+(\\\.\d+)+", r"[\\d.]+[a-z]?", pattern)
        found = re.compile(f"^{pattern}$", re.MULTILINE).search(output, at)
        assert line == "..." or found, f"{line!r} is not in {output!r}"
        at = found.end() if found else at


def test_readme_is_readable_in_a_terminal():
    prose = re.sub(r"(?ms)^```.*?^```$|^\|.*?$|^\[.*?$", "", readme())
    assert [line for line in prose.splitlines() if len(line) > 90] == []
    assert "Contents: " in "\n".join(readme().splitlines()[:40])


def test_readmes_contents_are_its_sections():
    contents = readme().partition("Contents: ")[2].partition("\n\n")[0]
    contents = contents.replace("\n", " ")
    sections = re.findall(r"^## (.+)", readme(), re.MULTILINE)
    expected = [(each, each.lower().replace(" ", "-")) for each in sections]
    assert re.findall(r"\[(.+?)\]\(#(.+?)\)", contents) == expected


def test_readme_has_one_diagram():
    assert readme().count("```mermaid") == 1


# What a block does that needs no test of its own -> the requests that it sends. It is
# run as it stands, exits with 0 and says nothing on standard error.
SELF_EVIDENT = {
    ("cdp_jwt", 0): [f"GET {ACCOUNTS}"],
    ("cdp_jwt", 1): [f"GET {ACCOUNTS}"],
    ("On the command line", 1): [f"GET {ACCOUNTS}", f"GET {ACCOUNTS}"],
    ("In a program", 0): [
        f"GET {ACCOUNTS}?limit=50", f"POST {ORDERS}",
        *(f"GET {ORDERS}/historical/fills{page}" for page in ("", "?cursor=1", "?cursor=2")),
    ],
    ("requests, httpx, aiohttp", 0): [f"GET {ACCOUNTS}", f"GET {ACCOUNTS}"],
}  # fmt: skip


@pytest.mark.parametrize(("heading", "number"), SELF_EVIDENT)
def test_readmes_block_runs(reader, by_name, request, heading, number):
    block = readme_blocks()[heading][number]
    settings = {}
    if "pip " in block.script:
        settings = request.getfixturevalue("wheels")
    reader.need(*re.findall(r"\b(?:curl|jq|git)\b", block.script))
    if block.language == "python":
        for module in re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE):
            pytest.importorskip(module)
    if block.language == "python":
        assert reader.python(block.text)
    else:
        appear(block.output, reader.sh(block.script, **settings))
    assert served(by_name) == SELF_EVIDENT[heading, number]


def test_readme_has_no_block_that_nobody_runs():
    text = pathlib.Path(__file__).read_text(encoding="utf-8")
    tried = {*re.findall(r'shown\(\n? *"(.*?)"\n? *\)', text)}
    for heading, blocks in readme_blocks().items():
        for number, block in enumerate(blocks):
            is_tried = heading in tried or (heading, number) in SELF_EVIDENT
            assert is_tried or not block.is_program, f"{heading}: {block.text}"


def test_private_key_is_where_the_readme_says():
    found = [
        number
        for number, line in enumerate(source().splitlines(), 1)
        if "private_key" in line
    ]
    lines = source().splitlines()
    [third] = [
        i
        for i, line in enumerate(lines, 1)
        if line.endswith(" 3. keys: text -> parsed key")
    ]
    [sixth] = [i for i, line in enumerate(lines, 1) if " 6. reasons: " in line]
    assert third < found[0] <= found[-1] < sixth
    told = f"shows lines {found[0]} to {found[-1]}, all of them in sections 3 to 5"
    assert told in " ".join(readme().split()), f"README.md has to say: {told}"


# Get it


def module_digest() -> str:
    return hashlib.sha256(MODULE.read_bytes()).hexdigest()


def test_readme_has_the_version_and_the_digest_of_the_module():
    line = f"cdp_jwt {cdp_jwt.__version__}  {module_digest()}"
    advice = f"under `Get it`, README.md has to say:\n{line}\n"
    assert shown("Get it")[0].text == f"{line}\n", advice
    assert f"\n**{cdp_jwt.__version__}**" in readme(), "Changes are of another version"


@pytest.mark.parametrize("tool", ["sha256sum", "python"])
def test_digest_is_what_the_readmes_commands_print(reader, tool):
    reader.need(tool)
    lines = shown("Get it")[1].script.splitlines()
    [command] = [line for line in lines if line.startswith(tool)]
    assert reader.sh(command).split()[0] == module_digest()


def test_git_tells_whether_a_copy_was_changed(reader):
    reader.need("git")
    who = "-c user.name=me -c user.email=me@localhost"
    reader.sh(f"""
        mkdir project clone && mv cdp_jwt.py clone && cd clone && git init -q
        git add cdp_jwt.py && git {who} commit -qm 'this very version'
        cp cdp_jwt.py ../project/signer.py
    """)
    command = shown("Get it")[1].script.splitlines()[-1]
    assert reader.sh(f"cd clone; {command}").endswith("this very version\n")
    reader.sh("echo '# changed' >> project/signer.py")
    assert reader.sh(f"cd clone; {command}") == ""


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


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> pathlib.Path:
    for tool in ("make", "uv"):
        places = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
        if not shutil.which(tool, path=places):
            pytest.skip(f"{tool} is not installed here")
    clone = tmp_path_factory.mktemp("clone")
    for name in ("cdp_jwt.py", "README.md", "pyproject.toml", "Makefile"):
        shutil.copy2(HERE / name, clone)
    return clone


def make_wheelhouse(clone: pathlib.Path, wheels: dict[str, str], *options: str):
    house = f"HOUSE={clone / 'house'}"
    command = ["make", "wheelhouse", f"VENV={sys.prefix}", house, *options]
    return process(command, env=wheels, cwd=clone)


@pytest.fixture(scope="session")
def wheelhouse(wheels, clone) -> pathlib.Path:
    """What `make wheelhouse` makes."""
    result = make_wheelhouse(clone, wheels)
    assert result.returncode == 0, result
    return (clone / "wheelhouse").rename(clone / "made")


def test_wheelhouse_without_a_wheel_says_so_and_leaves_nothing(wheels, clone):
    result = make_wheelhouse(clone, wheels, "PLATFORM=plan9_mips")
    assert result.returncode != 0
    [wheel] = pathlib.Path(sys.prefix, "wheels").glob("cryptography-*")
    name, version, *_, platform = wheel.stem.split("-")
    assert re.search(f"{name}==({version}|)|cffi==", result.stderr), result
    assert platform in result.stderr or "manylinux" in result.stderr, result
    assert not (clone / "wheelhouse").exists()
    assert not (clone / "house").exists()


@pytest.mark.parametrize("version", ["3.8", "2.7", "3", "3.x", "four"])
def test_wheelhouse_is_for_a_python_that_the_module_runs_on(wheels, clone, version):
    result = make_wheelhouse(clone, wheels, f"PY={version}")
    assert result.returncode != 0
    assert f"PY={version}: a Python from 3.9 on is needed" in result.stderr


@needs_cpython
def test_wheelhouse_has_the_module_its_dependencies_and_their_digests(wheelhouse):
    lines = (wheelhouse / "requirements.txt").read_text().replace("\\\n", "")
    listed = dict(re.findall(r"^(\S+) --hash=sha256:(\w+)$", lines, re.MULTILINE))
    assert len(listed) == lines.count("\n")
    found = {
        "==".join(path.name.split("-")[:2]): hashlib.sha256(path.read_bytes())
        for path in wheelhouse.glob("*.whl")
    }
    assert listed == {name: digest.hexdigest() for name, digest in found.items()}
    names = {name.partition("==")[0] for name in listed}
    assert {"cdp_jwt", "cryptography", "cffi"} <= names


@pytest.mark.parametrize(
    ("platform", "asked"),
    [
        ("manylinux2014_x86_64", "manylinux_2_17_x86_64 manylinux_2_5_x86_64 manylinux2014_x86_64"),
        ("manylinux_2_28_aarch64", "manylinux_2_28_aarch64 manylinux_2_17_aarch64 manylinux2014_aarch64"),
        ("musllinux_1_2_x86_64", "musllinux_1_2_x86_64 musllinux_1_1_x86_64"),
        ("win_amd64", "win_amd64"),
        ("macosx_11_0_arm64", "macosx_11_0_arm64"),
    ],
)  # fmt: skip
def test_wheelhouse_for_another_machine_asks_for_its_python_and_platform(
    clone, platform, asked
):
    wanted = shown("Restricted machines")[0].script.split()
    assert wanted == ["make", "wheelhouse", "PY=3.9", "PLATFORM=manylinux2014_x86_64"]
    assert f"`{platform}`" in readme()
    command = [*wanted[:-1], f"PLATFORM={platform}", "--dry-run", "--always-make"]
    result = process(command, cwd=clone)
    commands = result.stdout.replace("\\\n", " ").split()
    platforms = re.findall(r"--platform (\S+)", " ".join(commands))
    assert [each for each in asked.split() if each not in platforms] == []
    assert "--python-version 3.9 --platform " in " ".join(commands)


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> pathlib.Path:
    """The programs of a new virtual environment, whose pip is lent to be quick."""
    folder = tmp_path_factory.mktemp("environment")
    process([sys.executable, "-m", "venv", "--without-pip", folder])
    pip = folder / "bin" / "pip"
    pip.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m pip --python "{folder}" "$@"\n'
    )
    pip.chmod(0o755)
    return folder / "bin"


def assert_installs(
    environment: pathlib.Path,
    reader: Reader,
    script: str,
    *before: str,
    **settings: str,
) -> None:
    """Run lines of the README, the last of which signs with what they installed."""
    places = f"{environment}{os.pathsep}{reader.environ['PATH']}"
    output = reader.sh(script, *before, PATH=places, **settings)
    assert "Successfully installed cdp_jwt-" in output
    assert verified(output.splitlines()[-1], P256)["uri"].startswith("GET ")
    for module in ("cdp_jwt", "cryptography"):
        program = f"import {module}; print({module}.__file__)"
        found = reader.run(environment / "python", "-Ic", program).stdout
        assert found.startswith(str(environment.parent)), found


def test_wheelhouse_installs_without_a_network(reader, environment, wheels, wheelhouse):
    shutil.copytree(wheelhouse, reader.folder / "wheelhouse")
    [_, install, _] = shown("Restricted machines")
    own = re.compile("LINKS|INDEX")  # what the README's command has to say by itself
    settings = {name: value for name, value in wheels.items() if not own.search(name)}
    assert_installs(environment, reader, install.script, *unplugged(), **settings)


def test_pip_installs_the_command(reader, environment, wheels):
    for name in ("README.md", "pyproject.toml"):
        shutil.copy2(HERE / name, reader.folder)
    install = shown("Get it")[2].script.splitlines()[0]
    assert_installs(environment, reader, install, **wheels)
    help_text = reader.sh(f"{environment}/cdp-jwt --help")
    assert help_text.startswith("usage: cdp-jwt METHOD PATH ")


@pytest.mark.parametrize("tools", [["uv"], ["pipx", "uv"]], ids=["uv", "pipx"])
def test_file_runs_without_being_installed(reader, wheels, tools):
    reader.need(*tools)
    lines = shown("Get it")[2].script.splitlines()
    [command] = [line for line in lines if line.startswith(tools[0])]
    result = reader.run("sh", "-c", command, **wheels)
    assert result.returncode == 0, result
    assert (
        verified(result.stdout.strip(), P256)["uri"]
        == f"GET api.coinbase.com{ACCOUNTS}"
    )


# Restricted machines


def test_distributions_cryptography_suffices(reader, by_name):
    [command] = re.findall(r"`(/usr/bin/python3 .*?)`", readme())
    probe = "import sys, cryptography; assert sys.version_info >= (3, 9)"
    if not os.path.exists("/usr/bin/python3"):
        pytest.skip("/usr/bin/python3 is not installed here")
    if reader.run("/usr/bin/python3", "-c", probe).returncode:
        pytest.skip(
            "python3-cryptography, or a Python >= 3.9 of its, is not installed here"
        )
    assert reader.sh(command).endswith("All is well.\n")
    assert len(served(by_name)) == 2


def test_token_of_a_signer_without_a_network_is_sent_from_elsewhere(reader, by_name):
    reader.need("curl")
    umask, sign, send = shown("Restricted machines")[2].script.splitlines()
    reader.sh(f"{umask}; {sign}", HTTPS_PROXY="http://127.0.0.1:1")
    assert stat.S_IMODE((reader.folder / "header.txt").stat().st_mode) == 0o600
    (reader.folder / "cdp_api_key.json").unlink()
    told = reader.run("sh", "-c", "python cdp_jwt.py decode - < header.txt")
    assert re.search(r"^nbf .*, \+59\d s from now$", told.stdout, re.MULTILINE)
    for clock_ahead, problem in ((0, "not yet valid"), (730, "expired")):
        by_name.clock_ahead = clock_ahead
        assert reader.sh(send) == "Unauthorized"
        assert by_name.refusals.pop() == problem
    by_name.nonces.clear()
    by_name.clock_ahead = 610
    assert json.loads(reader.sh(send))["accounts"]
    assert by_name.refusals == []


# In a program, on the command line, and when a token is refused


ACCOUNT_PAGES = [
    f"GET {ACCOUNTS}",
    f"GET {ACCOUNTS}?cursor=1",
    f"GET {ACCOUNTS}?cursor=2",
]
TOKEN_LINE = r"ey[\w.-]+\n"
README_COMMANDS = [  # of each line: what it prints, and what the server sees
    (TOKEN_LINE, []),
    (f"export JWT='{TOKEN_LINE[:-2]}'\n", []),
    (f"Authorization: Bearer {TOKEN_LINE}", []),
    (r'\{"accounts": .*\}', ACCOUNT_PAGES[:1]),
    (r"BTC\t0.50\nBTC\t1.50\nBTC\t2.50\n", ACCOUNT_PAGES),
    (r'\{"success": true, .*\}', [f"POST {ORDERS}"]),
    (r'\{"epochMillis": .*\}', ["GET /api/v3/brokerage/time"]),
    (TOKEN_LINE, []),
    (r'\{"type": "subscribe", "channel": "ticker", .*\}\n', []),
    (r"(.*\n)+All is well\.\n", ["GET /api/v3/brokerage/time", "GET /api/v3/brokerage/key_permissions"]),
]  # fmt: skip


def test_readmes_commands_run(reader, by_name):
    reader.need("jq")
    reader.write("order.json", '{"client_order_id": "1"}')
    script = shown("On the command line")[0].script
    lines = script.replace("|\n", "|").splitlines()
    assert len(lines) == len(README_COMMANDS)
    for line, (output, requests_seen) in zip(lines, README_COMMANDS):
        by_name.seen.clear()
        assert re.fullmatch(output, reader.sh(line)), line
        assert served(by_name) == requests_seen, line


def test_readmes_lines_for_powershell_do_the_same_in_sh(reader, by_name):
    reader.need("curl")
    reader.write("order.json", '{"client_order_id": "1"}')
    lines = shown("On the command line")[2].text
    for pattern, replacement in (
        (r'(?m)^\$env:(\w+) = (".*")$', r"export \1=\2"),
        (r"(?m)^\$env:(\w+) = (.*)$", r'export \1="$(\2)"'),
        (r"\$env:(\w+)", r"${\1}"),
        (r"curl\.exe", "curl"),
    ):
        lines = re.sub(pattern, replacement, lines)
    assert '{"success": true' in reader.sh(lines)
    assert served(by_name) == [f"GET {ACCOUNTS}", f"POST {ORDERS}"]


def test_readmes_refusals_are_what_the_commands_say(reader, by_name, with_key):
    [block] = shown("When a token is refused")
    parts = re.findall(r"(?m)^\$ .*\n(?:[^$].*\n)+", block.text)
    call, decode, check = (Block("console", part) for part in parts)
    view_only(by_name, with_key)
    reader.write("order.json", "{}")
    result = reader.run("sh", "-c", call.script)
    assert result.returncode == 1
    assert "\n".join(call.output) + "\n" == result.stderr
    token = made(claims={**CLAIMS, "nbf": NOW * 1000}, signature=DER)
    result = reader.run("sh", "-c", decode.script.replace("eyJhbGciOi...", token))
    assert result.returncode == 1
    appear(decode.output, result.stdout)
    by_name.clock_ahead = -47.312
    result = reader.run("sh", "-c", check.script)
    assert result.returncode == 1
    appear(check.output, result.stdout)


# Recipes


def test_token_is_in_the_process_list_where_the_limits_say_so(reader, by_name):
    """README, Limits: $(...) shows it, `--header | curl -H @-` does not."""
    reader.need("curl")
    in_process_list = []

    def look(handler: Handler) -> None:
        token = handler.headers["Authorization"].split()[1].encode()
        lists = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                lists.append(path.read_bytes())
        in_process_list.append(any(token in words for words in lists))
        accounts_with_balances(handler)

    by_name.routes["GET", ACCOUNTS] = (True, look)
    script = shown("On the command line")[1].script
    assert reader.sh(script).count('{"accounts": ') == 2
    if not os.path.isdir("/proc/self"):
        pytest.skip("/proc is not here, where Linux lists processes")
    assert in_process_list == [True, False]


def test_sentence_on_aiohttp_is_true(reader, by_name):
    pytest.importorskip("aiohttp")
    options = re.findall(r"`(allow_redirects=False|headers=\{.*\})`", readme())
    assert len(options) == 2
    reader.python(f"""
import asyncio, aiohttp, cdp_jwt
url, key = "https://api.coinbase.com{ACCOUNTS}", cdp_jwt.ApiKey.from_env()
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(url, {", ".join(options)}) as answer:
            await answer.read()
asyncio.run(main())
""")
    assert served(by_name) == [f"GET {ACCOUNTS}"]


def test_other_libraries_send_a_token_again(reader, by_name):
    """README, Limits: so that the recipes follow no redirects."""
    moved = status(302, Location=f"https://api.coinbase.com{ORDERS}")
    allowed = status(200, {})
    by_name.faults += [moved, allowed, status(503), allowed, moved, allowed]
    reader.python(f"""
import cdp_jwt, httpx, requests, urllib3
url, key = "https://api.coinbase.com{ACCOUNTS}", cdp_jwt.ApiKey.from_env()
requests.get(url, auth=key)
with requests.Session() as session:
    retry = urllib3.Retry(1, status_forcelist=[503])
    session.mount("https://", requests.adapters.HTTPAdapter(max_retries=retry))
    session.get(url, auth=key)
httpx.get(url, auth=key, follow_redirects=True)
""")
    tokens = [seen.token for seen in by_name.seen]
    assert tokens[::2] == tokens[1::2]
    assert len(set(tokens)) == 3


def place_unanswered(handler: Handler) -> None:
    """The order is placed, and the connection is closed without an answer."""
    order = json.loads(handler.body)
    handler.server.orders[order["client_order_id"]] = {"order_id": "order 0", **order}
    handler.close_connection = True


def place_and_leave(handler: Handler) -> None:
    """The same as a fault, which comes before the token is looked at."""
    assert handler.server.token_problem(handler) is None
    place_unanswered(handler)


def leave_unanswered(handler: Handler) -> None:
    handler.close_connection = True


def order_on_second_page(handler: Handler) -> None:
    page = int(handler.query.get("cursor") or 1)
    orders = (
        [*handler.server.orders.values()] if page == 2 else [{"client_order_id": "x"}]
    )
    handler.answer(200, {"orders": orders, "has_next": True, "cursor": str(page + 1)})


TOO_SMALL = {"success": False, "error_response": {"error": "TOO_SMALL"}}
ORDER_OUTCOMES = {  # what becomes of requests -> exit code, last line, times it looked
    "placed": ([], 0, ".*'order_id': 'order 0'.*", 0),
    "refused": ([status(200, TOO_SMALL)], 1, "not placed: .*TOO_SMALL.*", 0),
    "not carried out": ([status(400, {"message": "no"})], 1, "not placed: HTTP 400: no", 0),
    "answer lost": ([place_and_leave], 0, ".*'order_id': 'order 0'.*", 2),
    "order lost": ([leave_unanswered], 1, "no order [0-9a-f-]{36} so far; .*", 1),
    "host still down": ([leave_unanswered] * 9, 1, "unknown whether [0-9a-f-]{36} was placed; look for it later: .*", 3),
}  # fmt: skip


PLACE = """
import cdp_jwt, order
wanted = {"product_id": "BTC-USD", "side": "BUY"}
print(order.place(cdp_jwt.Client(cdp_jwt.ApiKey.from_env()), wanted))
"""


@pytest.mark.parametrize("outcome", ORDER_OUTCOMES)
def test_recipe_for_an_order_finds_it_whatever_happens(reader, by_name, outcome):
    faults, code, last_line, searches = ORDER_OUTCOMES[outcome]
    by_name.faults += faults
    if outcome == "answer lost":
        search = (True, order_on_second_page)
        by_name.routes["GET", f"{ORDERS}/historical/batch"] = search
    reader.write("order.py", shown("Place an order, and find it")[0].text)
    reader.write("recipe.py", PLACE)
    result = reader.run("python", "recipe.py")
    assert result.returncode == code
    assert re.fullmatch(last_line, (result.stdout + result.stderr).splitlines()[-1])
    assert "Traceback" not in result.stderr
    assert len(by_name.orders) == (code == 0)
    order, *others = served(by_name)
    assert order == f"POST {ORDERS}"
    assert len(others) == searches
    date = urllib.parse.quote(
        time.strftime("%Y-%m-%dT", time.gmtime(time.time() - 3600))
    )
    for each in others:
        start = f"GET {ORDERS}/historical/batch?product_ids=BTC-USD&start_date={date}"
        assert each.startswith(start)


def test_sentences_on_tests_are_true(monkeypatch):
    [expression] = re.findall(r"`(ApiKey\(.*os\.urandom.*)`", readme())
    key = eval(expression, {"ApiKey": cdp_jwt.ApiKey, "base64": base64, "os": os})
    assert "patch `time.time`" in readme()
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000)
    found = cdp_jwt.inspect_jwt(key.rest_jwt("GET", ACCOUNTS), key=key)
    assert (found.problems, found.claims["nbf"]) == ((), 1_799_999_995)


FEEDS = {  # the WebSocket hosts, and what the recipe subscribes to there
    "advanced-trade-ws-user.coinbase.com": {"user": ["BTC-USD"], "heartbeats": []},
    "advanced-trade-ws.coinbase.com": {
        "ticker": ["BTC-USD", "ETH-USD"],
        "heartbeats": [],
    },
}


class Feed:
    """Both WebSocket hosts: every message is checked, each first connection dropped."""

    def __init__(self, certificate: ssl.SSLContext) -> None:
        # Not the library's threads, two of which would share a TLS connection.
        self.library = pytest.importorskip("websockets.asyncio.server")
        self.lost = pytest.importorskip("websockets.exceptions").ConnectionClosed
        self.certificate, self.ready = certificate, threading.Event()
        self.subscribed: dict[str, list[dict]] = {host: [] for host in FEEDS}
        self.problems: list[str] = []
        self.nonces: set[str] = set()

    async def run(self) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        async with self.library.serve(
            self.serve, "127.0.0.1", 0, ssl=self.certificate
        ) as server:
            self.address = server.sockets[0].getsockname()
            self.ready.set()
            await self.over.wait()

    async def serve(self, connection) -> None:
        host = connection.request.headers["Host"]
        subscriptions: dict[str, list[str]] = {}
        self.subscribed[host].append(subscriptions)
        number = len(self.subscribed[host])
        with contextlib.suppress(self.lost):
            while number > 1 or subscriptions != FEEDS[host]:
                try:
                    seconds = 60 if subscriptions else 5
                    text = await asyncio.wait_for(connection.recv(), seconds)
                    message = json.loads(text)
                    self.check(host, message)
                except (AssertionError, asyncio.TimeoutError) as error:
                    self.problems.append(str(error))
                    return await connection.send('{"type": "error"}')
                subscriptions[message["channel"]] = message["product_ids"]
                answer = {"channel": message["channel"], "connection": number}
                await connection.send(json.dumps(answer))
            connection.transport.abort()  # no closing handshake
        return None

    def check(self, host: str, message: dict) -> None:
        members = {"type", "channel", "product_ids", "jwt"}
        assert message.keys() == members, "no token"
        assert message["type"] == "subscribe"
        assert message["channel"] in FEEDS[host], "a channel of another host"
        seen = verified(message["jwt"], P256)
        assert "uri" not in seen, "a token for a REST request"
        assert seen["nbf"] <= time.time() < seen["exp"], "a token for another time"
        assert seen["nonce"] not in self.nonces, "a token that was used before"
        self.nonces.add(seen["nonce"])


@pytest.fixture
def feed(ca) -> Iterator[Feed]:
    feed = Feed(server_context(ca, *FEEDS))
    thread = threading.Thread(target=lambda: asyncio.run(feed.run()))
    thread.start()
    assert feed.ready.wait(30)
    yield feed
    feed.loop.call_soon_threadsafe(feed.over.set)
    thread.join()


@pytest.mark.parametrize("fault", ["no token", "used before", "REST", "another host"])
def test_feed_refuses_what_coinbase_refuses(feed, trust, fault):
    library = pytest.importorskip("websockets.asyncio.client")
    message = json.loads(cdp_jwt.ws_message("user", ["BTC-USD"], key=key_of()))
    changes = {
        "no token": {"jwt": ...},
        "REST": {"jwt": key_of().rest_jwt("GET", "/x")},
        "another host": {"channel": "ticker"},
    }
    changed = {**message, **changes.get(fault, {})}
    changed = {name: value for name, value in changed.items() if value is not ...}

    async def answer_to_it(sock: socket.socket) -> str:
        url = "wss://advanced-trade-ws-user.coinbase.com"
        options = {"sock": sock, "ssl": trust, "open_timeout": 60}
        async with library.connect(url, **options) as connection:
            if fault == "used before":
                await connection.send(json.dumps(message))
                await connection.recv()
            await connection.send(json.dumps(changed))
            return await connection.recv()

    with socket.create_connection(feed.address) as sock:
        assert json.loads(asyncio.run(answer_to_it(sock))) == {"type": "error"}
    [problem] = feed.problems
    assert fault in problem


@pytest.fixture
def proxy_to_feed(feed, by_name, wire) -> str:
    """A CONNECT proxy to the hosts of WebSocket and REST; its URL."""

    def to_feed(wire: Wire, client: socket.socket) -> None:
        name = wire.read_request(client).split()[1].decode().partition(":443")[0]
        address = feed.address if name in FEEDS else by_name.server_address
        with socket.create_connection(address) as origin:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            pump(client, origin, wire)

    version = pytest.importorskip("websockets").__version__
    if int(version.partition(".")[0]) < 15:
        pytest.skip(f"websockets {version} takes no proxy; 15 does")
    return f"http://{wire(to_feed, None).host}"


def lines_of_program(reader: Reader, program: str, count: int, proxy: str) -> list[str]:
    """Its first lines; it would go on for ever."""
    for block in (*shown("WebSocket"), *shown("Place an order, and find it")):
        reader.write(re.match(r"# (\w+\.py)\n", block.text)[1], block.text)
    command = [sys.executable, reader.write("recipe.py", program)]
    with subprocess.Popen(
        command, cwd=reader.folder, stdout=subprocess.PIPE, text=True,
        env={**reader.environ, "HTTPS_PROXY": proxy},
    ) as child:  # fmt: skip
        watchdog = threading.Timer(30, child.kill)
        watchdog.start()
        lines = [child.stdout.readline() for _ in range(count)]
        watchdog.cancel()
        child.kill()
    return lines


PRICES = """
import asyncio, cdp_jwt, feed
channels = {"ticker": ["BTC-USD", "ETH-USD"], "heartbeats": []}
asyncio.run(feed.listen(cdp_jwt.ApiKey.from_env(), feed.PRICES, channels))
"""


def test_recipe_for_websockets_subscribes_again_with_fresh_tokens(
    reader, feed, proxy_to_feed
):
    lines = lines_of_program(reader, PRICES, 4, proxy_to_feed)
    assert feed.problems == []
    wanted = FEEDS["advanced-trade-ws.coinbase.com"]
    assert feed.subscribed["advanced-trade-ws.coinbase.com"] == [wanted] * 2
    events = [json.loads(line or "{}") for line in lines]
    printed = [(event["connection"], event["channel"]) for event in events]
    assert printed == [(number, each) for number in (1, 2) for each in wanted]


def candles(handler: Handler) -> None:
    assert int(handler.query["end"]) - int(handler.query["start"]) == 6 * 3600
    lows = [{"low": "50000.12"}, {"low": "49000.1"}]
    handler.answer(200, {"candles": lows})


def cancel_orders(handler: Handler) -> None:
    known = [each["order_id"] for each in handler.server.orders.values()]
    assert json.loads(handler.body) == {"order_ids": known}
    handler.answer(
        200, {"results": [{"success": True, "order_id": each} for each in known]}
    )


@pytest.mark.parametrize("is_lost", [False, True], ids=["all well", "answer lost"])
def test_recipe_for_a_bot(reader, by_name, feed, proxy_to_feed, is_lost):
    product = "/api/v3/brokerage/products/BTC-USD/candles"
    by_name.routes["GET", product] = (True, candles)
    by_name.routes["POST", f"{ORDERS}/batch_cancel"] = (True, cancel_orders)
    by_name.routes["POST", ORDERS] = (
        True,
        place_unanswered if is_lost else by_name.create_order,
    )
    program = shown("A small bot")[0].text
    output = lines_of_program(reader, program, 11, proxy_to_feed)
    assert output[:3] == ["BTC 0.50\n", "BTC 1.50\n", "BTC 2.50\n"]
    assert output[3] == "[{'success': True, 'order_id': 'order 0'}]\n"
    assert output[4:7] == ["[0]\n", "[1]\n", "[2]\n"]
    channels = [json.loads(line)["channel"] for line in output[7:]]
    assert channels == ["user", "heartbeats"] * 2
    [order] = by_name.orders.values()
    price = order["order_configuration"]["limit_limit_gtc"]["limit_price"]
    assert price == "44100.09"
    assert feed.problems == []
    assert served(by_name)


def services() -> list[Block]:
    return shown("cron, systemd, GitHub Actions and containers")


V2_PAGES = [
    "GET /v2/accounts",
    "GET /v2/accounts?limit=1&starting_after=1",
    "GET /v2/accounts?limit=1&starting_after=2",
]


def test_recipe_for_cron(reader, by_name):
    del reader.environ["CDP_KEY_FILE"]
    _, setting, entry = services()[0].text.splitlines()
    variable, _, value = setting.partition("=")
    command = re.fullmatch(r"(?:[0-9*/,-]+ ){5}([^%]+)", entry)[1]
    assert reader.sh(command, **{variable: value}) == ""
    pages = (reader.folder / "accounts.jsonl").read_text().splitlines()
    assert [json.loads(page)["data"] for page in pages] == [[0], [1], [2]]
    assert served(by_name) == V2_PAGES


def test_recipe_for_systemd(reader, by_name):
    unit = configparser.ConfigParser(interpolation=None, delimiters="=")
    unit.optionxform = str
    unit.read_string(services()[1].text)
    service = unit["Service"]
    name, source = service["LoadCredential"].split(":")
    assert os.path.isabs(source)
    key_file = reader.folder / reader.environ.pop("CDP_KEY_FILE")
    credentials = reader.folder / "credentials"
    credentials.mkdir()
    key_file.rename(credentials / name).chmod(0o400)
    program, file, *words = shlex.split(service["ExecStart"].replace("\\\n", " "))
    assert (program, file) == ("/usr/bin/python3", "/opt/coinbase/cdp_jwt.py")
    words = [
        word.replace("${CREDENTIALS_DIRECTORY}", str(credentials)) for word in words
    ]
    assert json.loads(reader.sh(shlex.join(["python3", "cdp_jwt.py", *words])))["data"]
    assert served(by_name) == V2_PAGES[:1]


def test_unit_is_one_that_systemd_accepts(reader):
    reader.need("systemd-analyze", "/usr/bin/python3")
    unit = reader.write("accounts.service", services()[1].text)
    result = reader.run("systemd-analyze", "verify", "--man=no", unit)
    assert (result.returncode, result.stderr) == (0, "")


def test_recipe_for_github_actions(reader, by_name):
    yaml = pytest.importorskip("yaml")
    pytest.importorskip("pip")
    (reader.folder / reader.environ.pop("CDP_KEY_FILE")).unlink()
    repository = {"CDP_API_KEY_ID": NAME, "CDP_API_KEY_SECRET": SEC1}
    quiet = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    [step] = yaml.safe_load(services()[2].text)
    environ = {
        name: repository[re.fullmatch(r"\$\{\{ secrets\.(\w+) \}\}", value)[1]]
        for name, value in step["env"].items()
    }
    output = reader.sh(step["run"], PIP_NO_INDEX="1", **quiet, **environ)
    assert "ey" not in output
    assert json.loads((reader.folder / "accounts.json").read_text())["data"]
    assert served(by_name) == V2_PAGES[:1]


def test_recipe_for_a_container(reader, by_name):
    """With a `docker` that notes down what it is told, as a real one is rarely there."""
    docker = reader.folder.parent / "programs" / "docker"
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    docker.write_text(f"#!/bin/sh\nexec python -c '{program}' \"$@\"\n")
    docker.chmod(0o755)
    run, *words = json.loads(reader.sh(services()[3].script))
    parser = argparse.ArgumentParser()
    for flag in ("--rm", "--read-only"):
        parser.add_argument(flag, action="store_true", required=True)
    for option in ("--user", "--volume", "--env"):
        parser.add_argument(option, required=True)
    parser.add_argument("image")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    found = parser.parse_args(words)
    assert (run, found.user) == ("run", str(os.getuid()))
    outside, inside, mode = found.volume.split(":")
    variable, value = found.env.split("=")
    assert (mode, value) == ("ro", inside)
    assert found.words[:2] == ["python", "/cdp_jwt.py"]
    result = reader.run("python", "cdp_jwt.py", *found.words[2:], **{variable: outside})
    assert json.loads(result.stdout)["data"]
    assert served(by_name) == V2_PAGES[:1]


# Where a key comes from


def key_rows() -> list[tuple[str, list[str]]]:
    """Each row: where the key is, and the lines to type."""
    table = readme().partition("### How the key gets in\n")[2].partition("\n### ")[0]
    table = table.replace("\\| …", "\\| python cdp_jwt.py check --key-file -")
    rows = re.findall(r"^\| (?!where|---)(.*?) \| (.*) \|$", table, re.MULTILINE)
    return [
        (what, re.findall("`(.*?)`", line.replace(r"\|", "|"))) for what, line in rows
    ]


@pytest.mark.parametrize("place", [what for what, _ in key_rows()])
def test_key_gets_in_by_the_line_to_type(reader, by_name, request, place):
    key_file = reader.folder / reader.environ.pop("CDP_KEY_FILE")
    write_private(reader.folder / "key.pem", SEC1)
    escaped = SEC1.replace("\n", r"\n")
    reader.write(".env", f'CDP_API_KEY_ID="{NAME}"\nCDP_API_KEY_SECRET="{escaped}"\n')
    [lines] = [lines for what, lines in key_rows() if what == place]
    assert lines
    for line in lines:
        settings = {}
        if line.startswith("uv "):
            reader.need("uv")
            settings = request.getfixturevalue("wheels")
        typed = line.replace("organizations/…/apiKeys/…", NAME)
        if " check" not in line:
            typed += "\npython cdp_jwt.py check"
        for secret in (SEC1, code_of(SEC1), code_of(key_file.read_text())):
            given = {"NAME": NAME, "SECRET": secret, **settings}
            result = reader.run("sh", "-ec", typed, **given)  # uv says what it installs
            assert result.stdout.endswith("All is well.\n"), result
    assert served(by_name)


# Coming from something else: their line, and ours


def made_by(lines: list[str], names: dict[str, object]) -> list[dict]:
    """What the lines make: the uri, and what the tokens say, but for nonce and times."""
    found = []
    for line in lines:
        exec(line, names)
        tokens = [names.pop(name, None) for name in ("token", "jwt_token")]
        for token in filter(None, tokens):
            seen = verified(token, P256)
            assert len(seen.pop("nonce")) == 64
            assert seen.pop("exp") - seen.pop("nbf") in (120, 121)
            found.append(seen)
        found.append({"uri": names.get("uri")})
    return found


TABLE = "jwt_generator, the PyJWT sample of Coinbase's documentation, cdpcurl"
ROWS = {
    "jwt_generator": rows_of(TABLE)[:4],
    "PyJWT": rows_of(TABLE)[4:8],
    "cdpcurl": rows_of(TABLE)[8:],
}


def sdk_results(lines: list[str]) -> list[dict]:
    key = cdp_jwt.ApiKey(NAME, SEC1)
    given = {"path": ACCOUNTS, "key_name": NAME, "key_secret": SEC1}
    return made_by(lines, {**given, "key": key, "cdp_jwt": cdp_jwt})


def test_rows_for_the_sdk_make_the_same_tokens():
    theirs, ours = zip(*ROWS["jwt_generator"])
    expected = sdk_results(ours)
    assert [len(row) for row in expected] == [1, 1, 6, 1, 5, 1]
    dropped_in = [ours[0], *theirs[1:]]
    assert sdk_results(dropped_in) == expected


def test_rows_for_the_sdk_are_its_own():
    pytest.importorskip(
        "coinbase.jwt_generator", reason="`.[bench]` is not installed here"
    )
    theirs, ours = zip(*ROWS["jwt_generator"])
    assert sdk_results(theirs) == sdk_results(ours)


REST_CLIENT = "RESTClient and WSClient"


def client_results(lines: list[str], names: dict[str, object]) -> list[object]:
    """What each line of a column finds."""
    order = {"client_order_id": "1", "product_id": "BTC-USD", "side": "BUY"}
    order["order_configuration"] = {}
    names.update(API="/api/v3/brokerage", order=order)
    found = []
    for line in lines:
        program = (
            f"try: client.get('/v2/nothing')\n{line}" if "except" in line else line
        )
        exec(program, names)
        found.append(names.pop("found", None))
    return found


def fills_with_ids(handler: Handler) -> None:
    page = int(handler.query.get("cursor") or 0)
    cursor = str(page + 1) if page < 2 else ""
    handler.answer(200, {"fills": [{"trade_id": str(page)}], "cursor": cursor})


@pytest.fixture
def client_rows(reader, by_name, monkeypatch) -> list[tuple[str, ...]]:
    """Those rows that are programs: the first six."""
    monkeypatch.chdir(reader.folder)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", reader.environ["SSL_CERT_FILE"])
    by_name.routes["GET", f"{ORDERS}/historical/fills"] = (True, fills_with_ids)
    return rows_of(REST_CLIENT)[:6]


def test_rows_for_the_sdks_client_work(client_rows, by_name):
    _, ours = zip(*client_rows)
    _, accounts, page, order, fills, status = client_results(ours, vars(cdp_jwt).copy())
    assert accounts["accounts"] == page["accounts"]
    assert order["success_response"]["client_order_id"] == "1"
    ids = [fill["trade_id"] for each in fills for fill in each["fills"]]
    assert ids == ["0", "1", "2"]
    assert status == 404
    assert len(served(by_name)) == 7


def test_rows_for_the_sdks_client_are_its_own(client_rows, by_name):
    rest = pytest.importorskip(
        "coinbase.rest", reason="`.[bench]` is not installed here"
    )
    errors = pytest.importorskip("requests.exceptions")
    theirs, ours = zip(*client_rows)
    names = {"RESTClient": rest.RESTClient, "HTTPError": errors.HTTPError}
    assert (
        client_results(theirs, names)[5]
        == client_results(ours, vars(cdp_jwt).copy())[5]
    )
    requests_seen = [line.removesuffix("?cursor=") for line in served(by_name)]
    assert requests_seen[:7] == requests_seen[7:]


def sample_results(lines: list[str]) -> list[dict]:
    given = {
        "key_name": NAME,
        "key_secret": SEC1,
        "private_key_bytes": SEC1.encode(),
        "request_method": "GET",
        "request_host": "api.cdp.coinbase.com",
        "request_path": ACCOUNTS,
        "jwt_payload": {
            "sub": NAME,
            "iss": "cdp",
            "nbf": int(time.time()),
            "exp": int(time.time()) + 120,
            "uri": f"GET api.cdp.coinbase.com{ACCOUNTS}",
        },
    }
    modules = {"cdp_jwt": cdp_jwt, "jwt": jwt, "secrets": secrets}
    return made_by(lines, {**given, **modules, "serialization": serialization})


def test_rows_for_pyjwt_make_the_same_tokens(reader):
    *programs, (their_shell, our_shell) = ROWS["PyJWT"]
    theirs, ours = zip(*programs)
    assert sample_results(theirs) == sample_results(ours)
    assert len(sample_results(ours)) == 4
    [token] = reader.sh(f'{our_shell}\necho "$JWT"').split()
    reader.write("main.py", f"print({token!r})")
    assert reader.sh(f'{their_shell}\necho "$JWT"').split() == [token]
    assert verified(token, P256)["uri"] == f"GET api.coinbase.com{ACCOUNTS}"


CDPCURL_REQUESTS = [f"GET {ACCOUNTS}", f"POST {ORDERS}", f"GET {ACCOUNTS}"]
CDPCURL_ORDER = '{"client_order_id": "of the table"}'


def cdpcurl_requests(reader: Reader, server: Coinbase, side: int) -> list[tuple]:
    seen = []
    for row, request in zip(ROWS["cdpcurl"], CDPCURL_REQUESTS):
        url = f"https://api.coinbase.com{request.split()[1]}"
        environ = {"URL": url, "ORDER": CDPCURL_ORDER, "ID": UUID, "SECRET": PORTAL}
        reader.sh(row[side], **environ)
        last = server.seen[-1]
        seen.append((f"{last.method} {last.path}", last.body.decode()))
    return seen


def test_rows_for_cdpcurl_make_the_requests(reader, by_name):
    del reader.environ["CDP_KEY_FILE"]
    by_name.keys[UUID] = [ED25519.public_key()]
    bodies = ["", CDPCURL_ORDER, ""]
    assert cdpcurl_requests(reader, by_name, 1) == [*zip(CDPCURL_REQUESTS, bodies)]
    assert served(by_name) == CDPCURL_REQUESTS
    assert jwt.get_unverified_header(by_name.seen[-1].token)["kid"] == UUID


def test_rows_for_cdpcurl_are_its_own(reader, by_name):
    reader.need("cdpcurl")
    by_name.faults += [status(200, {})] * 3  # its tokens have uris in place of uri
    bodies = ["", CDPCURL_ORDER, ""]
    assert cdpcurl_requests(reader, by_name, 0) == [*zip(CDPCURL_REQUESTS, bodies)]


# Help that helps


def test_help_fits_24_lines_and_ends_with_a_session_that_runs(reader, by_name):
    del reader.environ["CDP_KEY_FILE"]
    lines = reader.sh("python cdp_jwt.py --help").splitlines()
    assert len(lines) <= 24
    session = [line[4:] for line in lines if line.startswith("  $ ")]
    assert lines[-len(session) :] == [f"  $ {line}" for line in session]
    pages = reader.sh("\n".join(session)).splitlines()
    assert [len(json.loads(page)["accounts"]) for page in pages] == [1, 1, 1]
    assert served(by_name) == ACCOUNT_PAGES


def test_help_fits_80_columns(reader):
    assert max(map(len, reader.sh("python cdp_jwt.py --help").splitlines())) <= 80


@pytest.mark.parametrize(
    "words",
    [
        [CANARY],
        ["GET", ACCOUNTS, f"--secret={CANARY}"],
        ["GET", ACCOUNTS, "--not-before", CANARY],
    ],
)
def test_mistyped_command_is_not_repeated(reader, words):
    result = reader.run("python", "cdp_jwt.py", *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch("usage: (.*\n){3}cdp_jwt: error: .*\n", result.stderr)
    assert CANARY[:6] not in result.stderr


@pytest.mark.parametrize(
    ("words", "environ", "to_change"),
    [
        ("GET /x", {"CDP_KEY_FILE": "other.json"}, "other.json"),
        ("GET /x --key-file secret.pem", {}, "--key-name"),
        (
            "GET /x",
            {"CDP_KEY_FILE": "", "COINBASE_API_KEY": NAME},
            "COINBASE_API_SECRET",
        ),
        ("GET /x --call", {"HTTPS_PROXY": "socks5://127.0.0.1:1"}, "HTTPS_PROXY"),
        ("POST /x --call --data @order.json", {}, "--data"),
    ],
)
def test_message_names_what_to_change(reader, words, environ, to_change):
    write_private(reader.folder / "secret.pem", SEC1)
    result = reader.run("python", "cdp_jwt.py", *words.split(), **environ)
    assert result.returncode in (1, 2)
    assert result.stdout == ""
    assert to_change in result.stderr


# ------------------------------------------------------------- `make lint`: samples


def write_samples(folder: pathlib.Path) -> None:
    """Write the README's Python beside a copy of the module, for type-checkers."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODULE, folder)
    for heading, blocks in readme_blocks().items():
        texts = [block.text for block in blocks if block.language == "python"]
        for number, text in enumerate(texts):
            named = re.match(r"# (\w+\.py)\n", text)
            place = f"{re.sub('[^a-z]+', '_', heading.lower())}_{number}.py"
            (folder / (named[1] if named else place)).write_text(text, encoding="utf-8")


# -------------------------------------------------------------------- `make bench`
#
# A report and no test: nothing here fails because something is slow. What is compared
# takes turns within one run, so that a busy machine slows it all alike.

LIMITS = (  # what is ours, what it is compared with, and their ratio at most
    ("ApiKey.rest_jwt", "bare sign", 1.30),
    ("ApiKey.rest_jwt", "PyJWT, key loaded", 0.80),
    ("ApiKey.rest_jwt", "joserfc, key loaded", None),
    ("ApiKey.rest_jwt", "authlib, key loaded", None),
    ("build_rest_jwt, same key", "SDK's, same key", 0.60),
    ("build_rest_jwt, new keys", "SDK's, new keys", 1.80),
    ("command", "least process", 1.30),
    ("command", "program in the SDK's style", 0.65),
    ("command", "program in PyJWT's style", None),
    ("warm Client.get", "SDK's RESTClient.get", 0.40),
    ("warm Client.get", "requests.Session.get", 0.50),
    ("warm Client.get", "httpx.Client.get", 0.70),
    ("cold --call", "script with the SDK", 0.65),
    ("100,000th token", "1,000th", 1.10),
    ("peak of 1,000 pages", "of 10", 1.05),
    ("peak of 100,000 tokens", "of 1,000", None),
    ("peak of the command", "of the least process", None),
    ("peak of the command", "of the program in the SDK's style", None),
    ("tokens by 2 processes", "by 1 process", None),
    ("tokens by 4 threads", "by 1 thread", None),
    ("tokens by 8 threads", "by 1 thread", None),
)
PEERS = ("coinbase-advanced-py", "PyJWT", "joserfc", "authlib", "requests", "httpx")


def duration(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def mebibytes(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


def each_second(tokens: float) -> str:
    return f"{tokens:,.0f}/s"


class Report:
    """The rows of LIMITS as they are measured; pytest prints them at its end."""

    def __init__(self) -> None:
        self.rows = [("measured", "ours", "other", "ratio", "at most", "")]

    def add(self, medians: dict, show: Callable = duration, label: str = "") -> None:
        for ours, other, limit in LIMITS:
            if ours in medians and other in medians:
                ratio = medians[ours] / medians[other]
                shown = [show(medians[name]) for name in (ours, other)]
                at_most = f"{limit:.2f}" if limit else ""
                verdict = "" if not limit else "ok" if ratio <= limit else "over"
                name = f"{label}{ours} ÷ {other}"
                self.rows.append((name, *shown, f"{ratio:.2f}", at_most, verdict))

    def pytest_terminal_summary(self, terminalreporter) -> None:
        from cryptography.hazmat.backends.openssl.backend import backend

        python = ".".join(map(str, sys.version_info[:3]))
        versions = [f"{name} {importlib.metadata.version(name)}" for name in PEERS]
        terminalreporter.section("medians of one run")
        for line in (
            f"Python {python}, cryptography {cryptography.__version__},"
            f" {backend.openssl_version_text()}, {os.cpu_count()} processors",
            f"{', '.join(versions)}\n",
            *("{:60}{:>11}{:>11}{:>7}{:>9}  {}".format(*row) for row in self.rows),
        ):
            terminalreporter.write_line(line.rstrip(" "))


@pytest.fixture(scope="session")
def report(request) -> Report:
    report = Report()
    request.config.pluginmanager.register(report)
    return report


@pytest.fixture
def medians(benchmark) -> Callable[..., dict[str, float]]:
    """The median time of each candidate, in seconds, where they take turns.

    A turn is short, so that few are cut in two by what else the machine has to do; it
    has `times` of it where what is meant is the same thing again and again.
    """

    def measure(candidates: dict, rounds: int, times: int = 1) -> dict[str, float]:
        turn, count = itertools.cycle(candidates.values()), len(candidates)

        def run(candidate: Callable[[], object]) -> None:
            for _ in range(times):
                candidate()

        benchmark.pedantic(
            run,
            setup=lambda: ((next(turn),), {}),
            rounds=rounds * count,
            warmup_rounds=count,
        )
        data = benchmark.stats.stats.data
        for index, name in enumerate(candidates):
            median = statistics.median(data[index::count]) / times
            benchmark.extra_info[name] = median
        return benchmark.extra_info

    return measure


URI = f"GET api.coinbase.com{ACCOUNTS}"


def parts(algorithm: str) -> tuple[dict, dict]:
    """Header and claims, as a program makes them that gets its JWT from a library."""
    now = int(time.time())
    nonce = secrets.token_hex()
    header = {"alg": algorithm, "typ": "JWT", "kid": NAME, "nonce": nonce}
    times = {"nbf": now, "exp": now + 120}
    return header, {"sub": NAME, "iss": "cdp", **times, "uri": URI}


def by_pyjwt(private_key, algorithm: str = "ES256") -> str:
    header, claims = parts(algorithm)
    return jwt.encode(claims, private_key, algorithm, header)


@pytest.mark.bench
def test_bench_of_tokens(medians, report, algorithm, key, private_key):
    with warnings.catch_warnings(record=True):  # it says that it is deprecated
        import authlib.jose
    from coinbase import jwt_generator

    kind = "EC" if algorithm == "ES256" else "OKP"
    joserfc_key = joserfc.jwk.import_key(pkcs8(private_key), kind)
    authlib_jwt = authlib.jose.JsonWebToken([algorithm])
    authlib_key = authlib.jose.JsonWebKey.import_key(pkcs8(private_key))
    message = key.rest_jwt("GET", ACCOUNTS).rpartition(".")[0].encode()
    how = [ec.ECDSA(hashes.SHA256())] if algorithm == "ES256" else []
    same = (URI, NAME, SECRETS[algorithm])
    candidates = {
        "ApiKey.rest_jwt": lambda: key.rest_jwt("GET", ACCOUNTS),
        "PyJWT, key loaded": lambda: by_pyjwt(private_key, algorithm),
        "joserfc, key loaded": lambda: joserfc.jwt.encode(
            *parts(algorithm), joserfc_key, registry=JOSERFC
        ),
        "authlib, key loaded": lambda: authlib_jwt.encode(
            *parts(algorithm), authlib_key
        ).decode(),
        "build_rest_jwt, same key": lambda: cdp_jwt.build_rest_jwt(*same),
        "SDK's, same key": lambda: jwt_generator.build_rest_jwt(*same),
    }
    for make in candidates.values():
        assert verified(make(), private_key)["uri"] == URI
    candidates["bare sign"] = lambda: private_key.sign(message, *how)
    report.add(medians(candidates, rounds=250, times=20), label=f"{algorithm}: ")


@pytest.mark.bench
def test_bench_of_new_keys(medians, report, algorithm):
    """Many more keys than are remembered, so that each call has to parse its own."""
    from coinbase import jwt_generator

    if algorithm == "ES256":
        texts = [pem(ec.generate_private_key(ec.SECP256R1())) for _ in range(64)]
    else:
        texts = [portal(ed25519.Ed25519PrivateKey.generate()) for _ in range(64)]
    ours, other = itertools.cycle(texts), itertools.cycle(texts)
    build, build_other = cdp_jwt.build_rest_jwt, jwt_generator.build_rest_jwt
    candidates = {
        "build_rest_jwt, new keys": lambda: build(URI, NAME, next(ours)),
        "SDK's, new keys": lambda: build_other(URI, NAME, next(other)),
    }
    report.add(medians(candidates, rounds=2000), label=f"{algorithm}: ")


# These three lines import all of `cryptography` that the module's own imports do.
LEAST_PROCESS = """
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
private_key = load_pem_private_key({secret!r}.encode(), None)
print(private_key.sign(b"x" * 400, ec.ECDSA(SHA256())).hex())
"""
SDK_STYLE = """
from coinbase import jwt_generator
uri = jwt_generator.format_jwt_uri("GET", {path!r})
print(jwt_generator.build_rest_jwt(uri, {name!r}, {secret!r}))
"""
PYJWT_STYLE = """
import secrets, time
import jwt
from cryptography.hazmat.primitives import serialization
private_key = serialization.load_pem_private_key({secret!r}.encode(), password=None)
now = int(time.time())
claims = dict(sub={name!r}, iss="cdp", nbf=now, exp=now + 120, uri={uri!r})
header = dict(kid={name!r}, nonce=secrets.token_hex())
print(jwt.encode(claims, private_key, algorithm="ES256", headers=header))
"""
SDK_CALL = """
from coinbase.rest import RESTClient
client = RESTClient(key_file={key_file!r}, base_url={host!r})
print(client.get({path!r}))
"""


@pytest.fixture
def script(tmp_path) -> Callable[..., list[str]]:
    """Write a program; return the command that runs it."""

    def write(text: str, **fields: str) -> list[str]:
        path = tmp_path / f"program{len(list(tmp_path.iterdir()))}.py"
        fields = {"name": NAME, "secret": SEC1, "path": ACCOUNTS, "uri": URI, **fields}
        path.write_text(text.format(**fields), encoding="utf-8")
        return [sys.executable, str(path)]

    return write


def printed(command: list, **environ: object) -> str:
    result = process(command, env={name: str(environ[name]) for name in environ})
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def commands(script) -> dict[str, list]:
    """Whole processes that make one token."""
    return {
        "command": [sys.executable, MODULE, "GET", ACCOUNTS],
        "least process": script(LEAST_PROCESS),
        "program in the SDK's style": script(SDK_STYLE),
        "program in PyJWT's style": script(PYJWT_STYLE),
    }


@pytest.mark.bench
def test_bench_of_commands(medians, report, commands, key_file):
    run = functools.partial(printed, CDP_KEY_FILE=key_file)
    for name in commands.keys() - {"least process"}:
        assert verified(run(commands[name]).strip(), P256)["uri"] == URI
    candidates = {name: functools.partial(run, commands[name]) for name in commands}
    report.add(medians(candidates, rounds=50))


def answer_of(accounts: int, cursor: str = "") -> bytes:
    account = {"uuid": UUID, "currency": "BTC", "available_balance": {"value": "1.5"}}
    page = {"accounts": [account] * accounts, "cursor": cursor}
    content = json.dumps({**page, "has_next": bool(cursor)}).encode()
    return OK + b"Content-Length: %d\r\n\r\n%s" % (len(content), content)


def answer_canned(wire: Wire, connection: socket.socket) -> None:
    """Keep the connection, and answer as cheaply as can be."""
    always = answer_of(3)
    while True:
        line = wire.read_request(connection).partition(b"\r\n")[0]
        wire.requests.clear()
        pages = re.search(rb"pages=(\d+)", line)
        if pages:  # of 100 accounts, some 10 kB
            cursor = re.search(rb"cursor=(\d+)", line)
            following = int(cursor[1]) + 1 if cursor else 1
            more = following < int(pages[1])
            connection.sendall(answer_of(100, str(following) if more else ""))
        else:
            connection.sendall(always)


def serve_canned(certificate: str, pipe) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    pipe.send(Wire(answer_canned, context).host)
    with contextlib.suppress(EOFError):
        pipe.recv()  # until the other side ends


SPAWN = multiprocessing.get_context("spawn")  # a fork would have all of pytest in it


@pytest.fixture
def canned(ca, tmp_path) -> Iterator[str]:
    """The host of a server in a process of its own."""
    certificate = tmp_path / "server.pem"
    chain = ca.issue_cert("localhost").private_key_and_cert_chain_pem
    chain.write_to_path(str(certificate))
    here, there = SPAWN.Pipe()
    server = SPAWN.Process(target=serve_canned, args=[str(certificate), there])
    server.start()
    there.close()
    yield here.recv()
    here.close()
    server.join()


@pytest.fixture
def bundle(ca_file, tmp_path) -> str:
    """As many CAs as a machine has, and the server's: what each cold call loads."""
    path = tmp_path / "bundle.pem"
    shutil.copy(requests.certs.where(), path)
    with path.open("a") as file:
        file.write(pathlib.Path(ca_file).read_text())
    return str(path)


@pytest.mark.bench
def test_bench_of_warm_calls(medians, report, canned, bundle, trust, monkeypatch):
    from coinbase.rest import RESTClient

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    url = f"https://{canned}{ACCOUNTS}"
    sdk = RESTClient(api_key=NAME, api_secret=SEC1, base_url=canned)
    ours = cdp_jwt.Client(key_of(), host=canned, ssl_context=trust)

    def get(client: requests.Session | httpx.Client) -> object:
        headers = {"Authorization": f"Bearer {by_pyjwt(P256)}"}
        return client.get(url, headers=headers).json()

    with requests.Session() as session, httpx.Client(verify=trust) as client:
        candidates = {
            "warm Client.get": lambda: ours.get(ACCOUNTS).json(),
            "SDK's RESTClient.get": lambda: sdk.get(ACCOUNTS),
            "requests.Session.get": lambda: get(session),
            "httpx.Client.get": lambda: get(client),
        }
        for call in candidates.values():
            assert len(call()["accounts"]) == 3
        report.add(medians(candidates, rounds=500))
    sdk.session.close()


@pytest.mark.bench
def test_bench_of_cold_calls(medians, report, canned, bundle, key_file, script):
    command = [sys.executable, MODULE, "GET", ACCOUNTS, "--call", "--host", canned]
    sdk = script(SDK_CALL, key_file=str(key_file), host=canned)
    environ = {"CDP_KEY_FILE": key_file, "SSL_CERT_FILE": bundle}
    candidates = {
        "cold --call": lambda: printed(command, **environ),
        "script with the SDK": lambda: printed(sdk, REQUESTS_CA_BUNDLE=bundle),
    }
    for call in candidates.values():
        assert call().count(UUID) == 3
    report.add(medians(candidates, rounds=40))


@pytest.mark.bench
def test_bench_of_a_module_that_ages(medians, report):
    """Two copies of the module take turns, one of which has made 99,000 tokens more."""
    candidates = {}
    for name, age in {"1,000th": 500, "100,000th token": 99_500}.items():
        spec = importlib.util.spec_from_file_location(name, MODULE)
        copy_of_it = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(copy_of_it)
        key = copy_of_it.ApiKey(NAME, SEC1)
        candidates[name] = functools.partial(key.rest_jwt, "GET", ACCOUNTS)
        for _ in range(age):
            candidates[name]()
    report.add(medians(candidates, rounds=1000))  # what is meant is in their middle


key_of_worker = functools.lru_cache(maxsize=None)(key_of)  # one for each process


def make_tokens(count: int) -> None:
    key = key_of_worker()
    for _ in range(count):
        key.rest_jwt("GET", ACCOUNTS)


@pytest.mark.bench
def test_bench_of_workers(medians, report):
    with contextlib.ExitStack() as pools:

        def tokens(executor: Callable, count: int, **options) -> Callable[[], list]:
            pool = pools.enter_context(executor(count, **options))
            return lambda: list(pool.map(make_tokens, [2000 // count] * count))

        processes = functools.partial(
            tokens, concurrent.futures.ProcessPoolExecutor, mp_context=SPAWN
        )
        threads = functools.partial(tokens, concurrent.futures.ThreadPoolExecutor)
        candidates = {
            "by 1 process": processes(1),
            "tokens by 2 processes": processes(2),
            "by 1 thread": threads(1),
            "tokens by 4 threads": threads(4),
            "tokens by 8 threads": threads(8),
        }
        found = medians(candidates, rounds=20)
    report.add({name: 2000 / found[name] for name in found}, each_second)


# What a process had at its peak, by the kernel (ru_maxrss, in KiB on Linux). It is asked
# by a small parent, as a child's figure starts with what its parent holds.
PEAK = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss * 1024, file=sys.stderr)
sys.exit(status != 0)
"""
MANY_TOKENS = """
import cdp_jwt
key = cdp_jwt.ApiKey({name!r}, {secret!r})
for _ in range({count}):
    key.rest_jwt("GET", {path!r})
"""


@pytest.mark.bench
def test_bench_of_memory(report, commands, script, canned, ca_file, key_file):
    listing = [*commands["command"][:-1], "--call", "--paginate", "--host", canned]
    candidates = {
        "peak of the command": commands["command"],
        "of the least process": commands["least process"],
        "of the program in the SDK's style": commands["program in the SDK's style"],
        "peak of 1,000 pages": [*listing, f"{ACCOUNTS}?pages=1000"],
        "of 10": [*listing, f"{ACCOUNTS}?pages=10"],
        "peak of 100,000 tokens": script(MANY_TOKENS, count="100_000"),
        "of 1,000": script(MANY_TOKENS, count="1000"),
    }
    environ = {"CDP_KEY_FILE": str(key_file), "SSL_CERT_FILE": ca_file}
    peaks: dict[str, list[int]] = {name: [] for name in candidates}
    for name, command in [*candidates.items()] * 3:
        result = process([sys.executable, "-ISc", PEAK, *command], env=environ)
        assert result.returncode == 0, result.stderr
        peaks[name].append(int(result.stderr))
    report.add({name: statistics.median(peaks[name]) for name in peaks}, mebibytes)


# ----------------------------------------------------------------- `make mutants`
#
# cosmic-ray's mutants, each tried in a process forked from this one, which has imported
# all that takes time. Those tests try it that call the function which it changes and
# take little time, the quickest first; not those that run the file in other processes.

MUTATIONS = (
    "core/(AddNot|ExceptionReplacer|NumberReplacer|RemoveDecorator|ZeroIterationForLoop"
    "|Replace(AndWithOr|OrWithAnd|TrueWithFalse|FalseWithTrue)"
    "|Replace(BreakWithContinue|ContinueWithBreak)"
    "|ReplaceUnaryOperator_Delete_(Not|USub)"
    "|ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Is_IsNot|IsNot_Is|Lt_(LtE|GtE)"
    "|LtE_(Lt|Gt)|Gt_(GtE|LtE)|GtE_(Gt|Lt))"
    "|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Add|Div_Mul|FloorDiv_Mul|Mod_Mul"
    "|Pow_Mul|LShift_RShift|BitAnd_BitOr))"
)
LONGEST_TEST = 0.3  # seconds; what takes longer tries no mutant
LEAST_KILLED = 95  # per cent
WITHOUT_MUTANT = {"copied", "program"}  # fixtures of tests that run the file itself


class Selection:
    """A plugin for pytest: learns what tests take and call, or runs some in this order."""

    def __init__(self, wanted: list[str] | None = None) -> None:
        self.wanted = wanted
        self.durations: dict[str, float] = collections.defaultdict(float)
        self.calls: dict[int, set[str]] = collections.defaultdict(set)
        self.current = ""

    def pytest_collection_modifyitems(self, items: list) -> None:
        order = {test: number for number, test in enumerate(self.wanted or ())}
        if self.wanted is None:
            items[:] = [
                each for each in items if not WITHOUT_MUTANT & {*each.fixturenames}
            ]
        else:
            items[:] = [each for each in items if each.nodeid in order]
            items.sort(key=lambda each: order[each.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.current = nodeid

    def pytest_runtest_logreport(self, report) -> None:
        self.durations[report.nodeid] += report.duration if report.passed else 1e9

    def trace(self, frame, event, argument) -> None:
        """Note which functions of the module a test calls, by their first lines."""
        if frame.f_code.co_filename == str(MODULE):
            self.calls[frame.f_code.co_firstlineno].add(self.current)


def failures_of(text: str, selection: Selection) -> int:
    """Run tests on the module with this text; 0 if none fails."""
    module = types.ModuleType("cdp_jwt")
    module.__file__ = str(MODULE)
    sys.modules["cdp_jwt"] = module
    try:
        exec(compile(text, str(MODULE), "exec"), vars(module))
    except Exception:
        return 1
    options = ["-p", "no:cacheprovider", "-m", "not hypothesis and not bench"]
    options.append("--assert=plain")  # to rewrite them takes longer than the tests
    if selection.wanted is not None:
        options.append("-x")
    return pytest.main([*options, str(HERE / "test_cdp_jwt.py")], [selection])


def in_a_fork(work: Callable[[], int], seconds: int = 120) -> int:
    """The id of a process that does `work`, silently, for so many seconds at most."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        signal.alarm(seconds)
        os._exit(work())
    return child


class QuickTests:
    """The quick ones, in order, and which of them call the function around a line."""

    def __init__(self, text: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "learned.pickle")

            def learn() -> int:
                learning = Selection()
                sys.settrace(learning.trace)
                threading.settrace(learning.trace)
                code = failures_of(text, learning)
                path.write_bytes(pickle.dumps((learning.durations, learning.calls)))
                return code

            os.waitpid(in_a_fork(learn, 1800), 0)
            durations, self.calls = pickle.loads(path.read_bytes())
        quick = [test for test in durations if durations[test] < LONGEST_TEST]
        self.quick = sorted(quick, key=durations.__getitem__)
        unchanged = in_a_fork(lambda: failures_of(text, Selection(self.quick)), 600)
        if not quick or os.waitpid(unchanged, 0)[1]:
            raise SystemExit("the quick tests fail on the module as it is")
        self.functions = [
            range(
                min([node.lineno, *(each.lineno for each in node.decorator_list)]),
                node.end_lineno + 1,
            )
            for top in ast.parse(text).body
            for node in (top.body if isinstance(top, ast.ClassDef) else [top])
            if isinstance(node, ast.FunctionDef)
        ]

    def of(self, line: int) -> list[str]:
        for lines in self.functions:
            if line in lines:
                callers = set().union(*(self.calls.get(each, ()) for each in lines))
                return [test for test in self.quick if test in callers]
        return self.quick  # a constant, which any of them may depend on


def mutations_of(text: str) -> list[tuple[int, str, int]]:
    """Line, operator and occurrence of each mutation of sections 3 to 7."""
    from cosmic_ray import ast as trees
    from cosmic_ray import plugins

    lines, nodes = text.splitlines(), list(trees.ast_nodes(trees.get_ast(text)))
    first, last = (
        next(i for i, line in enumerate(lines) if re.match(rf"# -+ {section}\. ", line))
        for section in (3, 8)
    )
    found = []
    for name in plugins.operator_names():
        if re.fullmatch(MUTATIONS, name):
            positions = plugins.get_operator(name)().mutation_positions
            starts = [start for node in nodes for start, _ in positions(node)]
            found += [(line, name, number) for number, (line, _) in enumerate(starts)]
    return sorted(each for each in found if first < each[0] <= last)


def mutated_text(text: str, operator: str, occurrence: int) -> str:
    from cosmic_ray import mutating, plugins

    return mutating.mutate_code(text, plugins.get_operator(operator)(), occurrence)


# Mutants that no test notices, and that are no defect: a fast way that is not taken (for
# a text without anything to mend; the cache of `uri`), the first or the last of a list of
# one, an octet more read than is needed to see that it is too many, the size of pieces,
# `True` or `False` where any item will do, the port, timeout and debug level that stand
# for none, `>` or `>=` between clocks that never agree to the last bit.


def mutants(step: int) -> None:
    """Try each mutant, or each `step`-th, and show those that no test notices."""
    text, started = source(), time.monotonic()
    tests, waiting, running, survivors = (
        QuickTests(text),
        mutations_of(text)[::step],
        {},
        [],
    )
    count = len(waiting)
    print(f"{count} mutants, {len(tests.quick)} tests", flush=True)
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            line, operator, number = waiting.pop(0)

            def attempt(line=line, operator=operator, number=number) -> int:
                changed = mutated_text(text, operator, number)
                return failures_of(changed, Selection(tests.of(line)))

            running[in_a_fork(attempt)] = line, operator, number
        child, status = os.wait()
        line, operator, number = running.pop(child)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) in (0, 5):  # passed, or none
            survivors.append(line)
            changed = mutated_text(text, operator, number)
            shown = list(
                difflib.unified_diff(text.splitlines(), changed.splitlines(), n=0)
            )
            print(f"{line}: {operator}", *shown[3:], sep="\n  ", flush=True)
    killed, minutes = count - len(survivors), (time.monotonic() - started) / 60
    share = 100 * killed / count
    print(
        f"mutants: {killed} of {count} killed, {share:.1f} %, in {minutes:.0f} minutes"
    )
    raise SystemExit(share < LEAST_KILLED)


# -------------------------------------------------------------------- `make demo`


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
    print(
        "A call to a local server that verifies each token as strictly as Coinbase:\n"
    )
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
    faulty = {
        name: Wire(script, server.certificate) for name, script in scripts.items()
    }
    for name, wire in faulty.items():
        print(f"  {wire.host}  {name}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    for wire in faulty.values():
        wire.close()


def as_program(arguments: list[str]) -> None:
    """`demo`, or serve the strict Coinbase, with a throwaway key and a CA of its own."""
    ca = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        ca_path, key_path = (
            pathlib.Path(folder, "ca.pem"),
            pathlib.Path(folder, "key.json"),
        )
        ca.cert_pem.write_to_path(str(ca_path))
        write_private(key_path, {"name": NAME, "privateKey": SEC1})
        with serving(Coinbase(server_context(ca))) as server:
            (demo if arguments == ["demo"] else serve)(server, ca_path, key_path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["mutants"]:
        mutants(int((*sys.argv[2:], 1)[0]))
    if sys.argv[1:2] == ["samples"]:
        raise SystemExit(write_samples(pathlib.Path(sys.argv[2])))
    as_program(sys.argv[1:])
