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
import zipfile
from collections.abc import Callable, Iterator

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
        # An OSError says of some of its attributes that they are not there.
        yield from texts_in([getattr(each, name, None) for name in attributes])
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
        assert (
            message
            == f"this key is damaged: its secret part is too small or too large for P-256{AGAIN}"
        )


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
ONLY_PARAMETERS = f"this is only the parameters of a key{AGAIN}"
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
        ("{}", f"names: 0, secrets: 0; {EXPECTED_ONE}"),
        ({"id": NAME, "privateKey": SEC1, "secret": PORTAL}, f"names: 1, secrets: 2; {EXPECTED_ONE}"),
        ({"id": NAME, "publicKey": "MFkw"}, f"names: 1, secrets: 0; {EXPECTED_ONE}"),
        ({"privateKey": SEC1}, f"names: 0, secrets: 1; {EXPECTED_ONE}"),
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
    " or use ApiKey(name, secret), or COINBASE_API_KEY and COINBASE_API_SECRET"
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
# Signatures are those of published vectors, in the form of JWS; other programs verify them.


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


def unpadded(text: str) -> bytes:
    """Decode base64url as the RFCs print it."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_base64url_has_the_alphabet_of_rfc_7515_and_no_padding():
    """Section 2, bit by bit, for each number of octets."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for size in range(64):
        octets = bytes((size * 37 + 251 * i) % 256 for i in range(size))
        bits = "".join(f"{octet:08b}" for octet in octets)
        bits += "0" * (-len(bits) % 6)
        sextets = [int(bits[i : i + 6], 2) for i in range(0, len(bits), 6)]
        expected = "".join(alphabet[sextet] for sextet in sextets)
        assert cdp_jwt._base64url(octets).decode() == expected


def test_signature_of_p256_has_r_and_s_in_32_octets_each():
    """RFC 7518, section 3.4: whatever their length, with their first bit set or not."""
    numbers = [top << 8 * size for size in range(32) for top in (0x01, 0x7F, 0x80)]
    for r, s in itertools.product(numbers, numbers):
        signature = cdp_jwt._raw_signature(utils.encode_dss_signature(r, s))
        assert signature == r.to_bytes(32, "big") + s.to_bytes(32, "big")


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


@pytest.mark.parametrize(("message", "r", "s"), RFC_6979)
def test_signature_of_p256_is_rfc_6979_a_2_5(vectors, monkeypatch, message, r, s):
    """From the key's text on, where `cryptography` can do without a random number."""
    der = utils.encode_dss_signature(int(r, 16), int(s, 16))
    assert cdp_jwt._raw_signature(der).hex().upper() == r + s
    vectors("RFC 6979 A.2.5")
    key = cdp_jwt.ApiKey(NAME, pem(RFC_6979_KEY))
    try:
        scheme = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        RFC_6979_KEY.sign(message, scheme)
    except (TypeError, UnsupportedAlgorithm):
        pytest.skip("deterministic ECDSA needs cryptography >= 43 on OpenSSL >= 3.2")
    monkeypatch.setattr(cdp_jwt, "ECDSA_SHA256", scheme)
    assert key._sign(message).hex().upper() == r + s


def test_signature_of_rfc_7515_a_3_verifies_by_its_key_alone(vectors):
    """RFC 7515, appendix A.3: an ES256 token of someone else, and its private key."""
    token = (
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6"
        "Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXF"
        "CgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    )
    scalar = unpadded("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")
    private_key = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    not_signed = f"not signed by the key {NAME}"
    key = cdp_jwt.ApiKey(NAME, pem(private_key))
    assert not_signed not in cdp_jwt.inspect_jwt(token, key=key).problems
    assert not_signed in cdp_jwt.inspect_jwt(token, key=key_of()).problems
    signature = segments(token)[2]
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    assert cdp_jwt._raw_signature(utils.encode_dss_signature(r, s)) == signature
    vectors("RFC 7515 A.3")


def test_signature_of_ed25519_is_rfc_8037_a_4(vectors):
    """RFC 8037, appendix A.4, octet for octet."""
    seed = unpadded("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    private_key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    key = cdp_jwt.ApiKey(NAME, portal(private_key))
    header = cdp_jwt._base64url(b'{"alg":"EdDSA"}')
    payload = cdp_jwt._base64url(b"Example of Ed25519 signing")
    signature = key._sign(header + b"." + payload)
    assert header == b"eyJhbGciOiJFZERTQSJ9"
    assert cdp_jwt._base64url(signature).decode() == (
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )
    vectors("RFC 8037 A.4")


def test_signature_of_ed25519_is_each_of_the_1024_of_its_authors(vectors):
    """`sign.input` of Bernstein et al.: seed and public key : public : message : sm."""
    lines = vector("Ed25519/sign.input").split()
    assert len(lines) == 1024
    for line in lines:
        seed_and_public, _, message, signed = line.split(":")[:4]
        secret = base64.b64encode(bytes.fromhex(seed_and_public)).decode()
        signature = cdp_jwt.ApiKey(NAME, secret)._sign(bytes.fromhex(message))
        assert signature.hex() == signed[:128]
        vectors("Ed25519 sign.input")


def test_signatures_of_p256_are_those_of_fips_186_3(vectors):
    """SigGen.txt, P-256 with SHA-256: keys from their scalar, signatures from r and s."""
    section = vector("ECDSA/FIPS_186-3/SigGen.txt").split("[P-256,SHA-256]")[1]
    fields = re.findall(r"^(\w+) = (\w+)", section.split("[", 1)[0], re.MULTILINE)
    cases = [dict(fields[i : i + 7]) for i in range(0, len(fields), 7)]
    assert len(cases) == 15
    for case in cases:
        private_key = ec.derive_private_key(int(case["d"], 16), ec.SECP256R1())
        numbers = private_key.public_key().public_numbers()
        assert (numbers.x, numbers.y) == (int(case["Qx"], 16), int(case["Qy"], 16))
        der = utils.encode_dss_signature(int(case["R"], 16), int(case["S"], 16))
        assert cdp_jwt._raw_signature(der).hex() == case["R"] + case["S"]
        verified(cdp_jwt.ApiKey(NAME, pem(private_key)).ws_jwt(), private_key)
        vectors("FIPS 186-3 SigGen")


def test_thousand_tokens_verify_and_have_no_problem(key, private_key):
    """By two libraries. In one of 128, r or s is shorter than 32 octets."""
    nonces = set()
    short = 0
    while len(nonces) < 1000 or not short:
        token = key.rest_jwt("GET", f"/v2/{len(nonces)}")
        seen = verified(token, private_key)
        assert seen["uri"] == f"GET api.coinbase.com/v2/{len(nonces)}"
        assert seen["nonce"] not in nonces
        nonces.add(seen["nonce"])
        assert cdp_jwt.inspect_jwt(token, key=key)[2:4] == ((), ())
        signature = segments(token)[2]
        short += 0 in (signature[0], signature[32])


OTHER_KEYS = {"ES256": OTHER_P256, "EdDSA": ed25519.Ed25519PrivateKey.generate()}


def test_token_does_not_verify_by_another_key_or_with_another_claim(key, private_key):
    """The verifiers used here do refuse: what they accept means something."""
    token = key.ws_jwt()
    header, _, signature = token.split(".")
    for forged, by in (
        (token, OTHER_KEYS[key.algorithm]),
        (f"{header}.{segment(CLAIMS)}.{signature}", private_key),
    ):
        with pytest.raises(jwt.InvalidSignatureError):
            verified(forged, by)


# -------------------------------------------------------------------- 5. tokens
# A token is exactly what Coinbase documents, for the request that was meant, or none is made.

refused_request = functools.partial(refused, kind=cdp_jwt.InvalidRequestError)

# Requests: method, host and path, as they will be sent.

LONG_HOST = ".".join(["a" * 63] * 3 + ["a" * 61])  # the 253 characters that DNS takes
REQUESTS = [  # method, path or URL, host -> uri
    (("GET", ACCOUNTS), "GET api.coinbase.com/api/v3/brokerage/accounts"),
    (("Post", ORDERS), "POST api.coinbase.com/api/v3/brokerage/orders"),
    (("put", "/v2/user"), "PUT api.coinbase.com/v2/user"),
    (("delete", f"/v2/accounts/{UUID}"), f"DELETE api.coinbase.com/v2/accounts/{UUID}"),
    (("patch", "/v2/user"), "PATCH api.coinbase.com/v2/user"),
    (("head", "/"), "HEAD api.coinbase.com/"),
    (("GET", "/v2/user?limit=1&x=/../&y=%7B"), "GET api.coinbase.com/v2/user"),
    (("GET", "/a?b?c"), "GET api.coinbase.com/a"),
    (("GET", "/a?"), "GET api.coinbase.com/a"),
    (("GET", "/v2/x%20y%2Fz"), "GET api.coinbase.com/v2/x%20y%2Fz"),
    (("GET", '/v2/a"b'), 'GET api.coinbase.com/v2/a"b'),
    (("GET", "/a..b/.c/d./..."), "GET api.coinbase.com/a..b/.c/d./..."),
    (("GET", "/a//b:c@d/"), "GET api.coinbase.com/a//b:c@d/"),
    (("GET", "/x?u=https://y"), "GET api.coinbase.com/x"),
    (("GET", "https://api.coinbase.com/x?limit=1"), "GET api.coinbase.com/x"),
    (("GET", "HTTPS://API.Coinbase.com/V2/user"), "GET api.coinbase.com/V2/user"),
    (("GET", "https://api.cdp.coinbase.com:443/x"), "GET api.cdp.coinbase.com/x"),
    (("GET", "https://localhost:8443/x?u=https://y"), "GET localhost:8443/x"),
    (("GET", "https://a.example/x", "b.example"), "GET a.example/x"),
    (("GET", "https://api.coinbase.com"), "GET api.coinbase.com/"),
    (("GET", "https://api.coinbase.com?x=1"), "GET api.coinbase.com/"),
    (("GET", "/x", "API.CDP.Coinbase.com"), "GET api.cdp.coinbase.com/x"),
    (("GET", "/x", "127.0.0.1:8443"), "GET 127.0.0.1:8443/x"),
    (("GET", "/x", "localhost:443"), "GET localhost/x"),
    (("GET", "/x", f"{LONG_HOST}:65535"), f"GET {LONG_HOST}:65535/x"),
]


@pytest.mark.parametrize(("arguments", "uri"), REQUESTS)
def test_uri_is_method_host_and_path_without_query(arguments, uri):
    method, path, *host = arguments
    assert cdp_jwt.format_jwt_uri(*arguments) == uri
    token = key_of().rest_jwt(method, path, **dict(zip(["host"], host)))
    for each in (token, cdp_jwt.build_rest_jwt(uri, NAME, SEC1)):
        assert verified(each, P256)["uri"] == uri


METHODS = "DELETE, GET, HEAD, PATCH, POST, PUT"
UNKNOWN_METHOD = f"expected one of {METHODS}"
BAD_METHODS = {  # what may be a secret is not shown
    f"unknown method FETCH; {UNKNOWN_METHOD}": ["FETCH"],
    f"unknown method; {UNKNOWN_METHOD}": [
        "",
        "GET ",
        "po\u017ft",
        "B4CKUP",
        "abcdefghij",
    ],
}
HTTPS = "not an https URL; others could read the token"
PLACEHOLDER_IN_PATH = "it looks like a placeholder; put the value there"
BAD_PATHS = {  # the message of each; behind a | is what it shows
    "the path is empty": [""],
    "the path does not begin with exactly one /": [
        "accounts", "?x=1", "//evil.example/x", "@evil.example/x", ".evil.example/x",
        "https://api.coinbase.com//x"],
    "the path has a segment . or ..; resolve it": [
        "/a/../b", "/a/..", "/./a", "/a/.?b", "/a/%2e%2E/b", "/a/.%2e", "https://a/../x"],
    HTTPS: ["http://a/x", "HTTP://a/x", "ftp://a/x", "file:///etc/passwd"],
    "the path looks like a key; give the path of a URL": [
        f"/{PORTAL[1:]}", f"/{BARE_SEED[1:]}", f"https://a/{SEC1}"],
    "a WebSocket's token is for no path; make it by `ws`, ws_jwt or ws_message": [
        "wss://advanced-trade-ws.coinbase.com", "WS://a/x"],
    "the path is one of Windows, as Git Bash makes of /api/...; give the whole https URL,"
    " or set MSYS_NO_PATHCONV=1": ["C:/Git/api/v3/brokerage/accounts", "d:\\api"],
    "remove or encode it": [
        "/a| b", "/a|\n", "/a|\r\nX: y", "/a|\x7f", "/|\u00e9", "/|\u0130", "/x?q=|\u20ac",
        "/a|#b", "/a?b|#c", "/a|\\b", "/a?b|\\c"],
    PLACEHOLDER_IN_PATH: [
        "/v2/accounts/|{id}", "/v2/|<id>", "/v2/7?to=|{to}", "/v2/|%7Bid%7D", "/v2/|%3cid%3e"],
}  # fmt: skip
BAD_HOSTS = {
    "the host is empty": [""],
    "the host is malformed; expected name or name:port": [
        "a.example.", "a..b", "-a", "a-.b", "a:", "a:0", "a:65536", "a:1:2", "a:-1",
        f"{LONG_HOST}a", "a" * 64],
    "expected name or name:port": [
        "a| b", "https:|//api.coinbase.com", "a|/b", "me:x|@a", "a|\n", "|[::1]:8443",
        "|\u212aelvin", "api.coinbase.com|\\@evil.example"],
}  # fmt: skip


def refusals(what: str, table: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """The texts of a table with their whole messages, without the mark."""
    for message, texts in table.items():
        for text in texts:
            before, mark, after = text.partition("|")
            wrong = re.match("%..|.|", after, re.DOTALL)[0]
            place = f"the {what} has {wrong!a} at position {len(before) + 1}; "
            yield before + after, f"{place}{message}" if mark else message


BAD_REQUESTS = [
    *(((method, "/x"), message) for method, message in refusals("method", BAD_METHODS)),
    *((("GET", path), message) for path, message in refusals("path", BAD_PATHS)),
    *((("GET", "/x", host), message) for host, message in refusals("host", BAD_HOSTS)),
    *((("GET", f"https://{host}/x"), message)
      for host, message in refusals("host", BAD_HOSTS) if "/" not in host),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD_REQUESTS)
def test_request_that_would_be_misread_is_refused(arguments, message):
    method, path, *host = arguments
    options = dict(zip(["host"], host))
    for call in (key_of().rest_jwt, cdp_jwt.format_jwt_uri):
        request = functools.partial(call, method, path, **options)
        assert refused_request(request) == message


# The moment from which a token is valid.

UTC = datetime.timezone.utc
PLUS_2 = datetime.timezone(datetime.timedelta(hours=2))


def test_not_before_dates_a_token_for_a_later_window(key, private_key, frozen):
    for not_before, nbf in (
        (NOW + 3600, NOW + 3600),
        (NOW - 119, NOW - 119),
        (10**11 - 1, 10**11 - 1),
        (datetime.datetime.fromtimestamp(NOW + 60, UTC), NOW + 60),
        (datetime.datetime.fromtimestamp(NOW + 60.7, PLUS_2), NOW + 60),
    ):
        rest = key.rest_jwt("GET", ACCOUNTS, not_before=not_before)
        for token in (rest, key.ws_jwt(not_before=not_before)):
            claims = verified(token, private_key)
            assert (claims["nbf"], claims["exp"]) == (nbf, nbf + 120)


EXPIRED = "not_before: such a token would have expired already"
NO_TIME = "not_before is neither an int of epoch seconds nor an aware datetime"
EARLIEST = datetime.datetime.min.replace(tzinfo=PLUS_2)
LATEST = datetime.datetime.max.replace(tzinfo=UTC)
NO_MOMENTS = [
    *((early, EXPIRED) for early in (NOW - 120, 0, datetime.datetime(2020, 1, 1, tzinfo=UTC))),
    *((wrong, NO_TIME) for wrong in (-1, 10**11, NOW * 1000, NOW + 0.5, True, "2030-01-01", b"", [],
                                     datetime.datetime(2030, 1, 1), datetime.date(2030, 1, 1),
                                     EARLIEST, LATEST)),
]  # fmt: skip


@pytest.mark.parametrize(("not_before", "message"), NO_MOMENTS)
def test_not_before_that_makes_no_token_is_refused(frozen, not_before, message):
    for token in (key_of().ws_jwt, functools.partial(key_of().rest_jwt, "GET", "/x")):
        call = functools.partial(token, not_before=not_before)
        assert refused_request(call) == message


def test_clock_is_read_once_for_a_token(key, monkeypatch):
    readings = []
    monkeypatch.setattr(time, "time", lambda: readings.append(1) or NOW + len(readings))
    token = json.loads(segments(key.ws_jwt())[1])
    assert len(readings) == 1
    assert token["exp"] - token["nbf"] == 120


# A key: its tokens.


def test_token_is_exactly_what_coinbase_documents(key, private_key, frozen):
    claims = {"sub": NAME, "iss": "cdp", "nbf": frozen - 5, "exp": frozen + 115}
    uri = "GET api.coinbase.com/api/v3/brokerage/accounts"
    rest, websocket = key.rest_jwt("GET", ACCOUNTS), key.ws_jwt()
    for token, expected in ((rest, {**claims, "uri": uri}), (websocket, claims)):
        header = json.loads(segments(token)[0])
        assert re.fullmatch("[0-9a-f]{64}", header.pop("nonce"))
        assert header == {"alg": key.algorithm, "typ": "JWT", "kid": NAME}
        assert json.loads(segments(token)[1]) == expected
        assert len(segments(token)[2]) == 64
        verified(token, private_key)


def hooked(key: cdp_jwt.ApiKey, method: object, url: object) -> str:
    """The token that a key gives a request of an HTTP library."""
    request = types.SimpleNamespace(method=method, url=url, headers={})
    assert key(request) is request
    scheme, token = request.headers.pop("Authorization").split(" ")
    assert (scheme, request.headers) == ("Bearer", {})
    assert (request.method, request.url) == (method, url)
    return token


def test_hook_signs_method_and_url_without_fragment(key, private_key):
    assert not isinstance(key, tuple)  # which they would take for Basic credentials
    url = f"https://api.coinbase.com{ACCOUNTS}"
    for shown in (url, f"{url}?limit=1", f"{url}#top", httpx.URL(f"{url}?a=b#c")):
        token = hooked(key, "get", shown)
        assert verified(token, private_key)["uri"] == f"GET api.coinbase.com{ACCOUNTS}"
    for method, wrong in ((None, url), ("GET", None), ("GET", "/x\n"), ("GET", b"/x")):
        refused_request(functools.partial(hooked, key, method, wrong))


# A key: an object that shows no secret and does not change.


def test_key_shows_its_name_and_algorithm_alone(key):
    shown = f"ApiKey(name={NAME!r}, algorithm={key.algorithm!r})"
    assert repr(key) == str(key) == f"{key}" == shown
    kept = [repr(getattr(key, slot)) for slot in cdp_jwt.ApiKey.__slots__]
    assert not leaks(" ".join([*kept, repr(dir(key))]), SECRETS[key.algorithm])
    assert not hasattr(key, "__dict__")
    # In the traceback of an error in __init__, where it is half built:
    assert repr(cdp_jwt.ApiKey.__new__(cdp_jwt.ApiKey)) == "ApiKey(...)"


def test_key_cannot_be_changed(key):
    for change in (
        lambda: setattr(key, "name", "other"),
        lambda: setattr(key, "new", 1),
        lambda: delattr(key, "name"),
    ):
        with pytest.raises(AttributeError, match=r"cannot be changed|no attribute"):
            change()
    assert key.name == NAME


def test_copy_of_a_key_is_the_key_and_it_is_not_pickled(key):
    """Sessions and settings that hold one are copied."""
    assert copy.copy(key) is key
    assert copy.deepcopy({"auth": [key]})["auth"][0] is key
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled: its private key stays here"):
            pickle.dumps(key, protocol)


def test_key_of_a_subclass_is_of_the_subclass(key_file):
    class Desk(cdp_jwt.ApiKey):
        pass

    assert type(Desk.from_file(key_file)) is Desk
    assert type(Desk.from_env({"CDP_KEY_FILE": str(key_file)})) is Desk


# WebSocket messages

CHANNELS = ("candles", "futures_balance_summary", "heartbeats", "level2", "market_trades",
            "status", "ticker", "ticker_batch", "user")  # fmt: skip


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize("products", [None, (), {"BTC-USD": 1, "ETH-USD": 2}])
def test_websocket_message_has_a_token_if_there_is_a_key(channel, kind, products):
    message = functools.partial(cdp_jwt.ws_message, channel, products, type=kind)
    expected = {"type": kind, "channel": channel, "product_ids": [*(products or ())]}
    key = key_of()
    signed, other = (json.loads(message(key=key)) for _ in range(2))
    assert signed["jwt"] != other["jwt"]
    assert "uri" not in verified(signed.pop("jwt"), P256)
    assert signed == expected
    if channel in ("user", "futures_balance_summary"):
        assert refused_request(message) == f"the channel {channel} needs a key"
    else:
        assert json.loads(message()) == expected


PRODUCT = "expected one such as BTC-USD"
BAD_MESSAGES = [
    *(((channel,), {}, f"unknown channel; expected one of {', '.join(CHANNELS)}")
      for channel in ("", "heartbeat", "l2_data", "USER")),
    *((("ticker", wrong), {}, f"product_ids is {type(wrong).__name__}; expected a list of texts")
      for wrong in ("BTC-USD", Lying("x"), b"BTC-USD", 7)),
    (("ticker", ["BTC-USD", "BTC USD"]), {}, f"the product has ' ' at position 4; {PRODUCT}"),
    (("ticker", ["x\n"]), {}, rf"the product has '\n' at position 2; {PRODUCT}"),
    (("ticker", [""]), {}, "the product is empty"),
    (("ticker",), {"type": "sub"}, "type is neither 'subscribe' nor 'unsubscribe'"),
    (("ticker",), {"key": PORTAL}, "key is str; expected an ApiKey: see ApiKey.from_file"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "options", "message"), BAD_MESSAGES)
def test_websocket_message_that_would_fail_is_refused(arguments, options, message):
    call = functools.partial(cdp_jwt.ws_message, *arguments, **options)
    assert refused_request(call, PORTAL) == message


# The official SDK's jwt_generator


def test_drop_in_runs_a_program_that_was_written_for_the_sdk(key, private_key, frozen):
    """The SDK's documented use, with nothing but the import changed."""
    import cdp_jwt as jwt_generator

    api_key, api_secret = NAME, SECRETS[key.algorithm]
    uri = jwt_generator.format_jwt_uri(method="POST", path=ORDERS)
    by_name = {"key_var": api_key, "secret_var": api_secret}
    claims = {"sub": NAME, "iss": "cdp", "nbf": frozen - 5, "exp": frozen + 115}
    rest = {**claims, "uri": f"POST api.coinbase.com{ORDERS}"}
    for token, expected in (
        (jwt_generator.build_rest_jwt(uri, api_key, api_secret), rest),
        (jwt_generator.build_rest_jwt(uri=uri, **by_name), rest),
        (jwt_generator.build_ws_jwt(api_key, api_secret), claims),
        (jwt_generator.build_ws_jwt(**by_name), claims),
    ):
        assert json.loads(segments(token)[1]) == expected
        verified(token, private_key)


@pytest.mark.parametrize(
    "wrong",
    ["GET api.coinbase.com/v2/user?limit=1", "GET https://api.coinbase.com/v2/user",
     "get api.coinbase.com/v2/user", "GET API.coinbase.com/v2/user", "GET /v2/user",
     "GET api.coinbase.com:443/v2/user"],
)  # fmt: skip
def test_drop_in_shows_the_right_uri_for_a_wrong_one(wrong):
    right = "GET api.coinbase.com/v2/user"
    message = f"Coinbase answers this uri with a 401; use {right!r}"
    assert refused_request(lambda: cdp_jwt.build_rest_jwt(wrong, NAME, SEC1)) == message
    cdp_jwt.build_rest_jwt(right, NAME, SEC1)


def test_drop_in_refuses_what_is_no_uri():
    for uri in ("", "GET", "GET ", "/x", "GET  a/x", "GET a/x y", "GET http://a/x"):
        refused_request(functools.partial(cdp_jwt.build_rest_jwt, uri, NAME, SEC1))


@pytest.fixture
def remembered(monkeypatch) -> dict[bytes, cdp_jwt.ApiKey]:
    """The keys that the drop-in remembers: at first none."""
    monkeypatch.setattr(cdp_jwt, "_remembered", {})
    return cdp_jwt._remembered


def test_drop_in_parses_a_key_once_and_remembers_up_to_eight(monkeypatch, remembered):
    parsed = []
    original = cdp_jwt.ApiKey.__init__

    def count(self, name: str, secret: str) -> None:
        parsed.append(name)
        original(self, name, secret)

    monkeypatch.setattr(cdp_jwt.ApiKey, "__init__", count)
    names = [f"desk{number}" for number in range(8)]
    for name in names * 3:
        rest = cdp_jwt.build_rest_jwt("GET api.coinbase.com/x", name, PORTAL)
        for token in (rest, cdp_jwt.build_ws_jwt(name, PORTAL)):
            assert jwt.get_unverified_header(token)["kid"] == name
    assert parsed == names
    cdp_jwt.build_ws_jwt("ninth", PORTAL)
    assert len(remembered) == 1


def test_drop_in_remembers_keys_by_a_hash_of_their_exact_texts(remembered):
    """A masked repr, or another cut between name and secret, is not the same key."""
    other = ed25519.Ed25519PrivateKey.generate()
    for private_key in (ED25519, other, ED25519):
        token = cdp_jwt.build_ws_jwt(Lying(NAME), Lying(portal(private_key)))
        verified(token, private_key)
    for name, secret in (("a", PORTAL), ("a ", PORTAL), ("a", f" {PORTAL}")):
        cdp_jwt.build_ws_jwt(name, secret)
    assert len(remembered) == 5
    assert {(type(mark), len(mark)) for mark in remembered} == {(bytes, 32)}
    assert not leaks(repr(remembered), PORTAL)


def test_drop_in_signs_where_openssl_refuses_its_hash(monkeypatch, remembered):
    sha256 = unittest.mock.Mock(side_effect=ValueError)
    monkeypatch.setattr(hashlib, "sha256", sha256)
    verified(cdp_jwt.build_ws_jwt(NAME, PORTAL), ED25519)
    assert remembered == {}


@pytest.mark.parametrize("name", [NAME, "\udcff"])
def test_drop_in_remembers_no_key_that_was_refused(remembered, name):
    secret = flipped(PORTAL, 3)
    message = refused(lambda: cdp_jwt.ApiKey(name, secret), PORTAL)
    for _ in range(2):
        assert refused(lambda: cdp_jwt.build_ws_jwt(name, secret), PORTAL) == message
    assert remembered == {}


# Whatever callers give: its exact text counts, or an error says what it is.


@pytest.mark.parametrize("dress", CALLERS.values(), ids=CALLERS)
def test_request_is_the_exact_text_of_the_caller(key, private_key, dress):
    """And is remembered for nobody else, whose text may compare equal to it."""
    host = "api.cdp.coinbase.com"
    uri = f"GET {host}{ACCOUNTS}"
    secret = SECRETS[key.algorithm]
    for text in (dress, str, dress):
        assert cdp_jwt.format_jwt_uri(text("get"), text(ACCOUNTS), text(host)) == uri
        for token in (
            key.rest_jwt(text("get"), text(ACCOUNTS), host=text(host)),
            hooked(key, text("get"), text(f"https://{host}{ACCOUNTS}")),
            cdp_jwt.build_rest_jwt(text(uri), text(NAME), text(secret)),
        ):
            assert verified(token, private_key)["uri"] == uri
        for path in (ACCOUNTS, ORDERS):
            other = verified(key.rest_jwt(text("GET"), text(path)), private_key)
            assert other["uri"] == f"GET api.coinbase.com{path}"
        message = cdp_jwt.ws_message(
            text("status"), [text("BTC")], type=text("subscribe")
        )
        expected = {"type": "subscribe", "channel": "status", "product_ids": ["BTC"]}
        assert json.loads(message) == expected


TEXTS = [  # each argument that is a text, but name and secret
    lambda text: key_of().rest_jwt(text, "/x"),
    lambda text: key_of().rest_jwt("GET", text),
    lambda text: key_of().rest_jwt("GET", "/x", host=text),
    lambda text: cdp_jwt.format_jwt_uri(text, text, text),
    lambda text: cdp_jwt.build_rest_jwt(text, NAME, SEC1),
    cdp_jwt.ws_message,
    lambda text: cdp_jwt.ws_message("ticker", [text]),
    lambda text: cdp_jwt.ws_message("ticker", type=text),
]


@pytest.mark.parametrize("wrong", NO_TEXTS, ids=repr)
def test_what_is_no_text_is_refused(wrong):
    for call in (*TEXTS, cdp_jwt.inspect_jwt):
        message = refused_request(functools.partial(call, wrong))
        assert message.endswith(f" is {type(wrong).__name__}, not text")


@pytest.mark.parametrize("secret", [SEC1, PORTAL, body(SEC1), body(PKCS8)])
def test_secret_in_place_of_any_other_argument_is_not_shown(secret):
    for call in (
        *TEXTS,
        lambda text: key_of().ws_jwt(not_before=text),
        lambda text: hooked(key_of(), text, "https://a/x"),
        lambda text: hooked(key_of(), "GET", f"https://a/{text}\n"),
        lambda text: cdp_jwt.ws_message("ticker", key=text),
        lambda text: cdp_jwt.build_rest_jwt(f"get /{text}", NAME, SEC1),
        lambda text: cdp_jwt.build_rest_jwt(f"GET {text}", NAME, SEC1),
        lambda text: cdp_jwt.build_rest_jwt("GET a b", NAME, text),
    ):
        refused_request(functools.partial(call, secret), secret)


# Threads and forks


def nonces_of(tokens: list[str], private_key) -> set[str]:
    return {verified(token, private_key)["nonce"] for token in tokens}


def test_threads_share_keys_and_no_nonce(key, private_key, remembered):
    """In the drop-in, too: it forgets keys while other threads look one up."""

    def sign(number: int) -> list[str]:
        name = f"desk{number % 20}"
        uri = f"GET api.coinbase.com/{number}"
        rest = key.rest_jwt("GET", f"/{number}")
        by_drop_in = cdp_jwt.build_rest_jwt(uri, name, SECRETS[key.algorithm])
        seen = [verified(token, private_key) for token in (rest, by_drop_in)]
        assert [each["kid"] for each in seen] == [NAME, name]
        assert [each["uri"] for each in seen] == [uri, uri]
        return [each["nonce"] for each in seen]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        nonces = {nonce for pair in pool.map(sign, range(60)) for nonce in pair}
    assert len(nonces) == 120


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
        by_drop_in = cdp_jwt.build_ws_jwt(NAME, SECRETS[key.algorithm])
        return "\n".join([by_drop_in, *(key.ws_jwt() for _ in range(4))])

    tokens = "\n".join([sign(), in_a_child(sign), in_a_child(sign), sign()])
    assert len(nonces_of(tokens.split(), private_key)) == 20


# At random

VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
PATHS = st.text(VISIBLE, max_size=30).map("/".__add__)
HOSTS = st.sampled_from(
    ["api.coinbase.com", "API.Coinbase.com:443", "localhost:8443", "a.example"]
)
URL_PARTS = ["https://", "http://", "HTTPS://", "//", "/", "api.coinbase.com", "evil.example", "@",
             ":443", ":8443", "?", "#", "\\", "..", "%2e", "x", "/v2/user", "\t", "\n", "\u3002", "[::1]"]  # fmt: skip
URLS = st.lists(st.sampled_from(URL_PARTS) | st.text(max_size=2), max_size=8).map(
    "".join
)
ANY = st.one_of(
    st.none(), st.booleans(), st.floats(), st.text(max_size=9), st.binary(max_size=9)
)


@examples(200)
@given(path=PATHS, query=st.none() | st.text(max_size=9))
def test_any_path_is_signed_as_it_stands_or_refused_for_a_reason(path, query):
    whole = path if query is None else f"{path}?{query}"
    try:
        uri = cdp_jwt.format_jwt_uri("GET", whole)
    except cdp_jwt.InvalidRequestError:
        unfit = r"[^!-~]|[#\\{}<>]|%7[bd]|%3[ce]|\A//|/(\.|%2e){1,2}(/|\?|\Z)|-----"
        assert re.search(unfit, whole, re.IGNORECASE)
    else:
        assert uri == "GET api.coinbase.com" + path.partition("?")[0]


@examples(100)
@given(
    channel=ANY | st.sampled_from(["user", "ticker", PORTAL, SEC1]),
    product_ids=ANY | st.lists(ANY | st.sampled_from(["BTC-USD", PORTAL])),
    kind=ANY | st.sampled_from(["subscribe", "unsubscribe"]),
)
def test_any_websocket_message_is_as_it_was_asked_for_or_refused(
    channel, product_ids, kind
):
    try:
        text = cdp_jwt.ws_message(channel, product_ids, key=key_of("EdDSA"), type=kind)
    except cdp_jwt.InvalidRequestError as error:
        assert_secret_free(error, PORTAL + SEC1)
        return
    message = json.loads(text)
    verified(message.pop("jwt"), ED25519)
    products = list(product_ids or ())
    assert message == {"type": kind, "channel": channel, "product_ids": products}


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


def made(
    header: object = HEADER, claims: object = CLAIMS, signature: str = SIGNATURE
) -> str:
    return f"{segment(header)}.{segment(claims)}.{signature}"


def headed(**members) -> str:
    return made({**HEADER, **members})


def claiming(**members) -> str:
    return made(claims={**CLAIMS, **members})


def named(name: str) -> str:
    """A token in which this stands for the key's name."""
    return made({**HEADER, "kid": name}, {**CLAIMS, "sub": name})


def without(members: dict, name: str) -> dict:
    return {key: value for key, value in members.items() if key != name}


# What people have in hand, with TOKEN in it.
AROUND = (
    "TOKEN", " \nTOKEN\n", '"TOKEN"', "Bearer TOKEN", "bearer TOKEN",
    "Authorization: Bearer TOKEN\r\n", "authorization:bearer TOKEN",
    "'Authorization': 'Bearer TOKEN',", "export JWT='TOKEN'", "JWT=TOKEN", "$env:JWT = 'TOKEN'",
    'curl -sS -H "Authorization: Bearer TOKEN" https://api.coinbase.com/v2/user',
    "curl https://api.coinbase.com/v2/user \\\n  --header 'Authorization: Bearer TOKEN'",
    '{"type": "subscribe", "channel": "ticker", "product_ids": ["BTC-USD"], "jwt": "TOKEN"}',
    '{"jwt":"TOKEN"}', "https://a.example/?jwt=TOKEN&x=1",
    "curl --cacert keystore-of-ours.pem -H 'Authorization: Bearer TOKEN'",
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


def nested(count: int) -> str:
    """A token with so many braces and brackets that open in its claims."""
    return claiming(x=[[]] * (count - 2))


ALPHABET = "expected base64url, without padding"
NO_SIGNATURE = f"the signature has 0 bytes; {R_AND_S}"
NO_HEADER = "the header is no JSON object, or an empty one"
NO_CLAIMS = "the claims set is no JSON object, or an empty one"
DIFFER = "kid and sub differ; both are the key's name"
UNFILLED = "the key's name is a placeholder; put the value there, from the key file"
GIVE_NAME = "give the key's name, `name` or `id` in the key file"
AHEAD = "s ahead; is it for later, or was its clock ahead?"
AFTER = "s after nbf; expected 1 to 120"
PROBLEMS = {
    "two parts": (made().rpartition(".")[0], ["2 parts, expected 3: header.claims.signature", NO_SIGNATURE]),
    "four parts": (made() + ".x", ["4 parts, expected 3: header.claims.signature"]),
    "a word": ("hello", ["no JWT: 1 part, expected 3"]),
    "a header alone": (segment(HEADER), ["no JWT: 1 part, expected 3"]),
    "an encrypted one": ("a.b.c.d.e", ["no JWT: 5 parts, expected 3"]),
    "an address": ("api.coinbase.com/v2/user", ["no JWT: neither header nor claims set can be read"]),
    "padding": (made(signature=SIGNATURE + "=="), [f"the signature has '='; {ALPHABET}"]),
    "plain base64": (made(signature="/" * 85 + "w"), [f"the signature has '/'; {ALPHABET}"]),
    "no base64": (made(signature="!" * 86), [f"the signature has '!'; {ALPHABET}", NO_SIGNATURE]),
    "a character too many": (made() + "xyz", ["the signature is not base64url", NO_SIGNATURE]),
    "unused bits": (made(signature=SIGNATURE[:-1] + "B"), ["the last character of the signature has bits that belong to no octet and are not 0"]),
    "DER": (made(signature=segment(utils.encode_dss_signature(1 << 240, 1 << 255))), [f"the signature is DER; {R_AND_S}"]),
    "almost DER": (made(signature=segment(b"\x30" * 70)), [f"the signature has 70 bytes; {R_AND_S}"]),
    "63 octets": (made(signature=segment(b"x" * 63)), [f"the signature has 63 bytes; {R_AND_S}"]),
    "header is cut off": (f"Authorization: Bearer {made(b'{')}", [NO_HEADER]),
    "header is a list": (made([HEADER]), [NO_HEADER]),
    "header is UTF-16": (made(json.dumps(HEADER).encode("utf-16")), [NO_HEADER]),
    "claims are cut off": (made(claims=b"{"), [NO_CLAIMS]),
    "claims are empty": (made(claims={}), [NO_CLAIMS]),
    "NaN": (claiming(x=float("nan")), [NO_CLAIMS]),
    "49 levels": (nested(49), []),
    "50 levels": (nested(50), [NO_CLAIMS]),
    "40,000 levels": (made(claims=b"[" * 40_000), [NO_CLAIMS]),
    "a member twice": (made(json.dumps(HEADER)[:-1].encode() + b', "alg": "ES256"}'), ["the header has a member twice"]),
    "HS256": (headed(alg="HS256"), ["alg is 'HS256'; expected ES256 or EdDSA"]),
    "crit": (headed(crit=["exp"]), ["the header has crit (RFC 7515); Coinbase documents no extension"]),
    "b64": (headed(b64=True), ["the header has b64 (RFC 7797); Coinbase documents no extension"]),
    "kid is not sub": (claiming(sub=UUID), [DIFFER]),
    "placeholder": (named("organizations/{org_id}/apiKeys/{key_id}"), [f"kid: {UNFILLED}"]),
    "undefined sub": (claiming(sub="undefined"), [DIFFER, f"sub: {UNFILLED}"]),
    "reference": (named("$CDP_KEY_NAME"), ["kid: the key's name is a reference that nothing has resolved; give the value itself"]),
    "line break": (named("organizations/a\n/apiKeys/b"), [rf"kid: the key's name has '\n' at position 16; {GIVE_NAME}"]),
    "secret": (named(SEC1), [f"kid: the name looks like a key: {GIVE_NAME}"]),
    "line end": (named(f"{NAME}\n"), ["kid has quotes, white space or escapes that are no part of the name"]),
    "another iss": (claiming(iss="coinbase"), ["iss is 'coinbase'; expected 'cdp'"]),
    "another aud": (claiming(aud=["cdp_service", "x"]), ["aud is ['cdp_service', 'x']; expected none"]),
    "just begun, and short": (timed(0, 1), []),
    "almost over": (timed(-119, 1), []),
    "since 1970": (timed(-NOW, 115), [f"exp is {NOW + 115} {AFTER}"]),
    "until 5138": (timed(10**11 - 1 - NOW, 10**11 - 1 - NOW), [f"not valid yet: nbf is {10**11 - 1 - NOW} {AHEAD}", f"exp is 0 {AFTER}"]),
    "early": (timed(1, 121), [f"not valid yet: nbf is 1 {AHEAD}"]),
    "late": (timed(-120, 0), ["expired 0 s ago"]),
    "no time to live": (timed(60, 60), [f"not valid yet: nbf is 60 {AHEAD}", f"exp is 0 {AFTER}"]),
    "lives too long": (timed(-5, 116), [f"exp is 121 {AFTER}"]),
    "exp before nbf": (timed(0, -1), ["expired 1 s ago", f"exp is -1 {AFTER}"]),
    "uris is text": (claiming(uris=URI), [f"uris is {URI!r:.30}; expected a list of texts"]),
    "uris is empty": (claiming(uris=[]), ["uris is []; expected a list of texts"]),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_problem_of_a_token_is_named(case):
    token, problems = PROBLEMS[case]
    found = cdp_jwt.inspect_jwt(token, now=NOW)
    assert list(found.problems) == problems
    exp = found.claims.get("exp")
    assert found.seconds_left == (exp - NOW if exp else None)


MEMBERS = [("alg", "ES256 or EdDSA"), ("kid", "text"), ("nonce", "text"), ("sub", "text"), ("iss", "'cdp'")]  # fmt: skip


@pytest.mark.parametrize(("member", "expected"), MEMBERS)
def test_member_that_is_missing_or_no_text_is_named(member, expected):
    rest = without(HEADER if member in HEADER else CLAIMS, member)
    wrong = (7, "", None, False, ["ES256"], {"x": "cdp"})
    changed = [(repr(value), {**rest, member: value}) for value in wrong]
    for shown, members in [("missing", rest), *changed]:
        token = made(members) if member in HEADER else made(claims=members)
        first, *more = cdp_jwt.inspect_jwt(token, now=NOW).problems
        assert first == f"{member} is {shown}; expected {expected}"
        assert more in ([], [DIFFER])


INTEGER = "expected an integer: epoch seconds"
NO_TIMES = [
    (str(NOW), f"'1800000000', not an integer; {INTEGER}"),
    (NOW + 0.5, f"1800000000.5, not an integer; {INTEGER}"),
    (True, f"True, not an integer; {INTEGER}"),
    (None, f"None, not an integer; {INTEGER}"),
    (NOW * 1000, f"1800000000000; {INTEGER}, not milliseconds"),
    (10**11, f"100000000000; {INTEGER}, not milliseconds"),
    (-1, f"-1; {INTEGER}, since 1970"),
]


@pytest.mark.parametrize("member", ["nbf", "exp"])
def test_time_of_a_token_that_is_none_is_named(member):
    missing = made(claims=without(CLAIMS, member)), f"missing; {INTEGER}"
    wrong = [(claiming(**{member: value}), problem) for value, problem in NO_TIMES]
    for token, problem in [missing, *wrong]:
        found = cdp_jwt.inspect_jwt(token, now=NOW)
        assert found.problems == (f"{member} is {problem}",)
        assert found.seconds_left == (None if member == "exp" else 115)


ROOTS = ": the path is under neither /api/v3/brokerage nor /v2: "
NO_CDP_KEYS = "takes no requests that are signed with CDP keys"
URIS_OF_TOKENS = {
    7: [" is int, not text"],
    "api.coinbase.com/v2/user": [" has no method: expected `GET api.coinbase.com/...`"],
    "FETCH api.coinbase.com/v2": [f": unknown method FETCH; {UNKNOWN_METHOD}"],
    "get api.coinbase.com/v2": [" has its method in lower case"],
    "GET https://api.coinbase.com/v2": [" has a scheme; it starts with the host"],
    "GET /v2?x": [" has no host before its path", " has a query; it ends with the path"],
    "GET api.coinbase.com/v2#y": [" has a fragment; it ends with the path"],
    "GET API.coinbase.com:443/v2": [" is not as Coinbase reads it: GET api.coinbase.com/v2"],
    "GET api.coinbase.com/v2/a b": [": the path has ' ' at position 6; remove or encode it"],
    "GET api.coinbase.com/v2/{id}": [f": the path has '{{' at position 5; {PLACEHOLDER_IN_PATH}"],
    "GET api.coinbase.com": [" is not as Coinbase reads it: GET api.coinbase.com/", f"{ROOTS}/"],
    "GET api.coinbase.com/brokerage/accounts": [f"{ROOTS}/brokerage/accounts"],
    "GET api.coinbase.com/v22/user": [f"{ROOTS}/v22/user"],
    "GET api.coinbase.com/v2//x": [": the path has an empty segment; is an id missing? /v2//x"],
    "GET undefined/v2/user": [": the host undefined is no host of Coinbase's"],
    "GET api.exchange.coinbase.com/v2": [f": api.exchange.coinbase.com {NO_CDP_KEYS}"],
    "GET www.coinbase.com:8443/v2": [f": www.coinbase.com {NO_CDP_KEYS}"],
    "GET api.coinbase.com/v2": [],
    "GET api.cdp.coinbase.com/platform/v2/evm": [],
    "GET api.developer.coinbase.com/onramp/v1/token": [],
    "GET api-sandbox.coinbase.com/api/v3/brokerage/accounts": [],
}  # fmt: skip


@pytest.mark.parametrize("uri", URIS_OF_TOKENS)
def test_uri_of_a_token_that_is_known_to_fail_is_named(uri):
    """Each of `uris` as well as `uri`."""
    tokens = {"uri": claiming(uri=uri), "uris[1]": claiming(uris=[URI, uri])}
    for name, token in tokens.items():
        found = cdp_jwt.inspect_jwt(token, now=NOW)
        assert list(found.problems) == [name + each for each in URIS_OF_TOKENS[uri]]


# What is no problem: tokens of other clients that are in daily use

UNKNOWN_NAME = "the key's name is neither organizations/.../apiKeys/... nor a UUID"
URIS = "uris is what cdp-sdk and ccxt write; Advanced Trade's documentation has uri"
AUD = "aud is {}, as cdp-sdk or ccxt write it; the documentation has none"
FORMER = "iss is 'coinbase-cloud', as ccxt writes it and the documentation had it until 2024; expected 'cdp'"
GATEWAY = "uri: {} is no host of Coinbase's; a gateway?"
IN_USE = {  # the key, what is in the token besides names and times, the notes
    "coinbase-advanced-py": (P256, {"uri": URI}, []),
    "sieblyio, with iat": (P256, {"iat": NOW - 5, "uri": URI}, []),
    "cdp-sdk": (ED25519, {"aud": None, "uris": ["POST api.cdp.coinbase.com/platform/v2/evm/accounts"]}, [AUD.format("null"), URIS]),
    "ccxt, ES256": (P256, {"iss": "coinbase-cloud", "aud": ["retail_rest_api_proxy"], "uri": URI}, [FORMER, AUD.format('["retail_rest_api_proxy"]')]),
    "ccxt, EdDSA": (ED25519, {"aud": ["cdp_service"], "uris": [URI]}, [AUD.format('["cdp_service"]'), URIS]),
    "a WebSocket's": (P256, {}, ["without uri, this is a token for a WebSocket"]),
    "a WebSocket's of 2024": (P256, {"iss": "coinbase-cloud", "aud": ["public_websocket_api"]}, [FORMER, AUD.format('["public_websocket_api"]'), "without uri, this is a token for a WebSocket"]),
    "a gateway's": (P256, {"uri": "GET localhost:8443/v2"}, [GATEWAY.format("localhost:8443")]),
    "another gateway's": (P256, {"uri": "GET coinbase.com.example/x"}, [GATEWAY.format("coinbase.com.example")]),
    "that of a like name": (P256, {"uri": "GET my-coinbase.com/x"}, [GATEWAY.format("my-coinbase.com")]),
    "a named key's": (P256, {"sub": "my-key", "uri": URI}, [UNKNOWN_NAME]),
    "one without a type": (P256, {"typ": "", "uri": URI}, []),
    "another type": (P256, {"typ": "at+jwt", "uri": URI}, ["typ is 'at+jwt'; expected 'JWT'"]),
}  # fmt: skip


def by_other_client(header: dict, claims: dict, private_key) -> str:
    algorithm = "ES256" if private_key is P256 else "EdDSA"
    times = {"nbf": NOW - 5, "exp": NOW + 115}
    return jwt.encode({**times, **claims}, private_key, algorithm, header)


@pytest.mark.parametrize("client", IN_USE)
def test_token_in_daily_use_has_notes_and_no_problem(client):
    private_key, members, notes = IN_USE[client]
    claims = {"sub": NAME, "iss": "cdp", **without(members, "typ")}
    header = {"kid": claims["sub"], "nonce": NONCE, "typ": members.get("typ", "JWT")}
    key = cdp_jwt.ApiKey(claims["sub"], SEC1 if private_key is P256 else PORTAL)
    token = by_other_client(header, claims, private_key)
    found = cdp_jwt.inspect_jwt(token, key=key, now=NOW)
    assert (found.problems, list(found.notes)) == ((), notes)


def test_words_of_messages_within_a_token_decide_nothing():
    for word in ("not signed by the key x", "no JWT: 1 part", "expired 0 s ago", "; expected",
                 "bare seed", "Verified", "is a placeholder", "Bearer eyJ.eyJ."):  # fmt: skip
        token = made({**HEADER, "nonce": word, word: word}, {**CLAIMS, word: word})
        assert cdp_jwt.inspect_jwt(token, now=NOW)[2:] == ((), (), 115)


# Who signed it


def test_signature_is_verified_with_the_key_at_hand(key):
    dress = {"ES256": pem, "EdDSA": portal}[key.algorithm]
    other = cdp_jwt.ApiKey(NAME, dress(OTHER_KEYS[key.algorithm]))
    renamed = cdp_jwt.ApiKey(UUID, SECRETS[key.algorithm])
    other_algorithm = {"ES256": "EdDSA", "EdDSA": "ES256"}[key.algorithm]
    token = key.rest_jwt("GET", ACCOUNTS)
    header, _, signature = token.split(".")
    claims = json.loads(segments(token)[1])
    forged = f"{header}.{segment({**claims, 'uri': URI.replace('GET', 'POST')})}"
    not_signed = f"not signed by the key {NAME}"
    for inspected, at_hand, problems in (
        (token, key, ()),
        (token, other, (not_signed,)),
        (f"{forged}.{signature}", key, (not_signed,)),
        (f"{forged}.{segment(b'x' * 63)}", key, (f"the signature has 63 bytes; {R_AND_S}",)),
        (token, renamed, ("kid is not the name of the key at hand",)),
        (key_of(other_algorithm).ws_jwt(), key, (f"alg is '{other_algorithm}'; expected {key.algorithm}", not_signed)),
    ):  # fmt: skip
        found = cdp_jwt.inspect_jwt(inspected, key=at_hand, now=claims["nbf"] + 5)
        assert found.problems == problems


# Whatever is given


def test_token_or_time_that_is_none_is_refused():
    no_time = "now is not a time in epoch seconds, as time.time() is"
    for token, now, message in (
        ("", NOW, "the token is empty"),
        (" '\"\n", NOW, "the token is empty"),
        ("x" * 65_537, NOW, "the token is over 64 KiB; give it alone"),
        *((made(), now, no_time) for now in (float("nan"), float("inf"), 1e11, -1e11, "18", b"")),
    ):  # fmt: skip
        inspect = functools.partial(cdp_jwt.inspect_jwt, token, now=now)
        assert refused_request(inspect) == message


@pytest.mark.parametrize("secret", [SEC1, PORTAL, body(SEC1)])
def test_secret_in_place_of_a_token_or_in_it_is_not_shown(secret):
    for token in (secret, f"{secret}.{secret}.{secret}", named(secret)):
        found = cdp_jwt.inspect_jwt(token, now=NOW)
        assert not leaks(" ".join((*found.problems, *found.notes)), secret)
    for options in ({"key": secret}, {"now": secret}):
        inspect = functools.partial(cdp_jwt.inspect_jwt, made(), **options)
        refused(inspect, secret, cdp_jwt.CdpError)


RUNS_IN_TOKENS = ["eyA", "eyAAAAAAAAA=", "ey.", ".", "=", "A", "/", "%2e/", "a.", "a-"]


@pytest.mark.parametrize("run", RUNS_IN_TOKENS)
def test_time_for_a_token_path_or_host_is_linear_in_its_length(run):
    """What is quadratic takes four times as long for twice the length."""

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
    assert long < 3 * short + 0.05


EVIL = {**CLAIMS, "iss": "\x1b[31m"}
TOKENS = [made(), made(signature=DER), key_of().ws_jwt(), key_of("EdDSA").rest_jwt("GET", "/x"),
          made(claims=EVIL), "Bearer " + made(), *(token for token, _ in list(PROBLEMS.values())[:12])]  # fmt: skip


def printable(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def with_members(header: dict, claims: dict, octets: bytes) -> str:
    return made({**HEADER, **header}, {**CLAIMS, **claims}, segment(octets))


@examples(200)
@given(
    token=st.builds(
        with_members,
        st.dictionaries(st.sampled_from([*HEADER, "crit"]), JSON_VALUES),
        st.dictionaries(st.sampled_from([*CLAIMS, "aud", "uris"]), JSON_VALUES),
        st.binary(max_size=70),
    )
    | mutations(TOKENS)
    | st.text(max_size=200),
    key=st.sampled_from([None, key_of("ES256"), key_of("EdDSA")]),
)
def test_any_text_is_inspected_and_what_is_said_is_printable(token, key):
    with contextlib.suppress(cdp_jwt.InvalidRequestError):
        found = cdp_jwt.inspect_jwt(token, key=key, now=NOW)
        assert found.problems or found.header
        assert printable("\n".join((*found.problems, *found.notes)))


# ------------------------------------------------------- a strict Coinbase on loopback
#
# Two servers: a `coinbase` verifies each token as strictly as the real one, and a `wire`
# says whatever octets its script tells it to.


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
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        port = self.client_address[1]
        seen = Seen(self.command, self.path, self.headers, self.body, port)
        self.server.seen.append(seen)
        if self.server.faults:
            return self.server.faults.pop(0)(self)
        if self.server.rate_left <= 0:
            content = {"error": "rate limit exceeded"}
            return self.answer(429, content, {"Retry-After": "1"})
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
        all_headers = {
            "Content-Type": "application/json",
            "x-ratelimit-limit": "30",
            "x-ratelimit-remaining": str(self.server.rate_left),
            "x-ratelimit-reset": "1",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }
        self.send_response(status)
        for name, value in all_headers.items():
            self.send_header(name, value)
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


def status(code: int, content: object = b"", **headers: str):
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
            ("GET", f"{ORDERS}/historical/fills"): (True, self.fills),
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
        options = {"verify_exp": False, "verify_nbf": False}  # by this clock, below
        misfits = (jwt.PyJWTError, TypeError, ValueError, AttributeError)
        for public_key in self.keys.get(header.get("kid"), []):
            with contextlib.suppress(*misfits):
                algorithms = ["ES256", "EdDSA"]
                claims = jwt.decode(token, public_key, algorithms, options=options)
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
            "bad nonce": not re.fullmatch("[0-9a-f]{64}", nonce),
            "repeated nonce": nonce in self.nonces,
            "Host differs": handler.headers["Host"] != self.host,
        }
        self.nonces.add(nonce)
        return next((problem for problem, found in problems.items() if found), None)

    def time(self, handler: Handler) -> None:
        handler.answer(200, {"epochMillis": str(int(self.now() * 1000))})

    def echo(self, handler: Handler) -> None:
        content = {"path": handler.path, "body": handler.body.decode()}
        handler.answer(200, {**content, "type": handler.headers.get("Content-Type")})

    def page(self, handler: Handler, parameter: str) -> tuple[int, str]:
        """The number that is asked for, and the next one; "" at the end."""
        number = int(handler.query.get(parameter) or 0)
        return number, str(number + 1) if number + 1 < self.page_count else ""

    def accounts(self, handler: Handler) -> None:
        number, cursor = self.page(handler, "cursor")
        content = {"accounts": [number], "has_next": bool(cursor), "cursor": cursor}
        handler.answer(200, content)

    def fills(self, handler: Handler) -> None:
        number, cursor = self.page(handler, "cursor")
        handler.answer(200, {"fills": [number], "cursor": cursor})

    def v2_accounts(self, handler: Handler) -> None:
        number, start = self.page(handler, "starting_after")
        next_uri = f"/v2/accounts?limit=1&starting_after={start}" if start else None
        pagination = {"next_uri": next_uri}
        handler.answer(200, {"pagination": pagination, "data": [number]})

    def create_order(self, handler: Handler) -> None:
        if not self.permissions["can_trade"]:
            message = "Missing required scopes"
            content = {"error": "PERMISSION_DENIED", "message": message}
            return handler.answer(403, content)
        order = json.loads(handler.body)
        name = order["client_order_id"]
        if name not in self.orders:
            self.orders[name] = {"order_id": f"order {len(self.orders)}", **order}
            self.executed.append(name)
        placed = {"success": True, "success_response": self.orders[name]}
        return handler.answer(200, placed)

    def list_orders(self, handler: Handler) -> None:
        handler.answer(200, {"orders": list(self.orders.values()), "has_next": False})

    def key_permissions(self, handler: Handler) -> None:
        handler.answer(200, self.permissions)


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
                thread = threading.Thread(target=self.serve, args=[connection])
                thread.daemon = True
                thread.start()

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
    """Carry octets both ways, and keep them as `wire.passed`."""
    while not wire.over.is_set():
        for source in select.select([one, other], [], [], 0.1)[0]:
            octets = source.recv(65536)
            if not octets:
                return
            wire.passed = getattr(wire, "passed", b"") + octets
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
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
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
    """The message of the TransportError of a call."""
    return str(failure(cdp_jwt.TransportError, call, *arguments, **options))


def refusal(call, *arguments, **options) -> str:
    """The message of the InvalidRequestError of a call."""
    return str(failure(cdp_jwt.InvalidRequestError, call, *arguments, **options))


# --------------------------------------------------------------------- 7. calls
#
# A call is sent as it was meant, once, and to its own host alone. Whatever comes back,
# or does not, the call ends in time, keeps to its sizes, and gives the true reason.

UNKNOWN = (
    "it may have been carried out and was not sent again: look for it first, an order"
    " by its client_order_id"
)
NOT_HTTP = "its answer is not HTTP; check host and proxy"
CLOSED = "it closed the connection; try again"
TIMED_OUT = "it took longer than the timeout; try again, or raise the timeout"
COMPRESSED = "its answer is compressed, which was not asked for; check host and proxy"
OVERSIZED = "its answer is over max_body; raise max_body"
CONNECTION_REFUSED = "it refused the connection; check host, firewall, HTTPS_PROXY"
TLS_FAILED = "TLS failed; is it a server for TLS 1.2 or later?"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def once_sent(message: str) -> str:
    """What becomes of it when trying again could place a second order."""
    return f"{re.sub('; try again$|try again, or ', '', message)}; {UNKNOWN}"


def test_client_makes_calls_that_a_strict_server_accepts(coinbase, trust, key):
    client = cdp_jwt.Client(key, host=coinbase.host, ssl_context=trust)
    response = client.get(ACCOUNTS)
    assert (response.status, coinbase.refusals) == (200, [])
    assert response.json() == {"accounts": [0], "has_next": True, "cursor": "1"}
    assert response.headers["content-type"] == "application/json"
    assert repr(response) == f"<Response 200, {len(response.body)} bytes>"


def test_status_of_200_to_299_is_a_response(client, coinbase):
    for code in (200, 201, 202, 204, 206, 299):
        coinbase.faults.append(status(code))
        assert client.get(ACCOUNTS).status == code


def test_response_json_is_its_body_or_a_transport_error(client, coinbase):
    coinbase.faults.append(status(200, b"\xef\xbb\xbf[1]"))  # RFC 8259, section 8.1
    assert client.get(ACCOUNTS).json() == [1]
    for body in (b"", b"{", b"\xff", b"[" * 100_000, b"<html>", b"{'a': 1}"):
        coinbase.faults.append(status(200, body))
        response = client.get(ACCOUNTS)
        assert response.body == body
        message = "this answer (HTTP 200) is not JSON; see body"
        assert transport_error(response.json) == message


# Lookup, connecting, and what can go wrong in any phase


@pytest.mark.parametrize("found", [socket.gaierror(-2, "it timed out"), []])
def test_name_that_is_not_found_is_named(coinbase, trust, monkeypatch, found):
    lookup = unittest.mock.Mock(side_effect=[found])
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    message = "its name was not found; check host, DNS and HTTPS_PROXY"
    found = transport_error(calling(coinbase, trust).post, "/x")
    assert found == f"{coinbase.host}: {message}"


UNCONNECTED = "the connection failed; check network, host and proxy"
SYSTEM_ERRORS = {  # what they say decides nothing
    TimeoutError("Connection refused"): TIMED_OUT,
    socket.timeout("certificate expired"): TIMED_OUT,
    ConnectionRefusedError("timed out"): CONNECTION_REFUSED,
    ConnectionResetError("timed out"): CLOSED,
    BrokenPipeError("try again"): CLOSED,
    ssl.SSLEOFError(8, "Verif"): CLOSED,
    ssl.SSLZeroReturnError(6, "Verif"): CLOSED,
    ssl.SSLError(1, "timed out"): TLS_FAILED,
    OSError(errno.ENETUNREACH, "timed out"): UNCONNECTED,
}
PHASES = {
    "lookup": (socket, "getaddrinfo"),
    "connect": (socket, "create_connection"),
    "TLS": (ssl.SSLContext, "wrap_socket"),
    "send": (ssl.SSLSocket, "sendall"),
    "read": (ssl.SSLSocket, "recv_into"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_connection_that_fails_is_explained_by_type_and_phase(
    wire, trust, monkeypatch, phase
):
    server = wire(saying(OK + b"\r\n"))
    was_sent = phase in ("send", "read")
    for error, message in SYSTEM_ERRORS.items():
        with monkeypatch.context() as patch:
            patch.setattr(*PHASES[phase], unittest.mock.Mock(side_effect=error))
            client = calling(server, trust)
            found = failure(cdp_jwt.TransportError, client.post, "/x")
        shown = once_sent(message) if was_sent else message
        assert str(found) == f"{server.host}: {shown}"
        assert found.outcome_unknown == was_sent


def test_addresses_of_a_name_share_the_time_until_one_answers(
    coinbase, trust, monkeypatch
):
    clock, tried = [100.0], []

    def connect(address: tuple, share: float) -> socket.socket:
        tried.append((address[0], share))
        if address[0] != "::4":
            clock[0] += share if address[0] == "::1" else 0  # the others fail at once
            raise ConnectionRefusedError
        sock = socket.socket()
        sock.connect(coinbase.server_address)
        return sock

    found = [(0, 0, 0, "", (f"::{number}", 0)) for number in (1, 2, 3, 4)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert calling(coinbase, trust, timeout=40).get(ACCOUNTS).status == 200
    assert tried == [("::1", 10), ("::2", 10), ("::3", 15), ("::4", 30)]


# Reading an answer

SILENT = {  # answers without a status, or with headers that cannot be told apart
    "nothing": (b"", CLOSED),
    "half a status line": (b"HTTP/1.1 20", NOT_HTTP),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", NOT_HTTP),
    "endless status line": (b"HTTP/1.1 200 " + b"x" * 70_000, NOT_HTTP),
    "interim answer alone": (b"HTTP/1.1 103 Early Hints\r\n\r\n", CLOSED),
    "other protocol": (b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\n\r\n", NOT_HTTP),
    "too many headers": (OK + b"X: y\r\n" * 200 + b"\r\n", NOT_HTTP),
    "headers beyond 64 KiB": (OK + b"X: %b\r\n" % (b"y" * 900) * 80 + b"\r\n", NOT_HTTP),
    "bare CR in a header": (OK + b"A: b\rc\r\nContent-Length: 9\r\n\r\n{}", NOT_HTTP),
    "bare CR before a length": (OK + b"A: b\rContent-Length: 2\r\n\r\n{}x", NOT_HTTP),
}  # fmt: skip
BROKEN = {  # what follows a status line; http.client reads some (cpython#81274)
    "header without a colon": (b"A: b\r\nX\r\nContent-Length: 9\r\n\r\n{}", NOT_HTTP),
    "header name beyond ASCII": (b"\xe9: b\r\nContent-Length: 9\r\n\r\n{}", NOT_HTTP),
    "space before a colon": (b"A : b\r\nContent-Length: 9\r\n\r\n{}", NOT_HTTP),
    "mail's first line": (b"From me\r\nContent-Length: 2\r\n\r\n{}", NOT_HTTP),
    "mail's last line": (b"Content-Length: 2\r\nFrom me\r\n\r\n{}", NOT_HTTP),
    "folded first": (b" a\r\nContent-Length: 2\r\n\r\n{}", NOT_HTTP),
    "headers cut off": (b"A: b\r\n", CLOSED),
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", NOT_HTTP),
    "length below 0": (b"Content-Length: -2\r\n\r\n{}", NOT_HTTP),
    "other framing": (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", NOT_HTTP),
    "chunk length of letters": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", NOT_HTTP),
    "body cut off": (b"Content-Length: 100\r\n\r\n{}", CLOSED),
    "chunk cut off": (CHUNKED + b"64\r\n{}", CLOSED),
    "chunks without an end": (CHUNKED + b"2\r\n{}\r\n", CLOSED),
    "gzip": (b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\n\x1f", COMPRESSED),
    "two codings": (b"Content-Encoding:\r\nContent-Encoding: br\r\n\r\nx", COMPRESSED),
}  # fmt: skip


@pytest.mark.parametrize("fault", [*SILENT, *BROKEN])
def test_malformed_answer_is_a_transport_error(wire, trust, fault):
    octets, message = SILENT.get(fault) or BROKEN[fault]
    server = wire(saying(octets if fault in SILENT else OK + octets))
    client = calling(server, trust)
    assert transport_error(client.get, "/x") == f"{server.host}: {message}"
    found = transport_error(client.post, "/x", json={})
    assert found == f"{server.host}: {once_sent(message)}"
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", BROKEN)
def test_status_of_an_error_is_kept_whatever_follows_it(wire, trust, fault):
    octets, message = BROKEN[fault]
    reason = message.partition(";")[0]
    for code, method, outcome in (
        (401, "GET", "; it was not carried out"),
        (499, "POST", "; it was not carried out"),
        (500, "GET", ""),
        (503, "POST", f"; {UNKNOWN}"),
    ):
        server = wire(saying(b"HTTP/1.1 %d No\r\n%b" % (code, octets)))
        error = failure(cdp_jwt.ApiError, calling(server, trust).request, method, "/x")
        assert str(error) == f"HTTP {code}: {reason}{outcome}"
        assert (error.status, error.body) == (code, b"")
        assert error.outcome_unknown == (outcome == f"; {UNKNOWN}")


@pytest.mark.parametrize("head", [b"Content-Length:  2 ", b"Content-Encoding: ",
    b"Content-Length: 2\r\nContent-Length: 2", b"Content-Encoding:  Identity "],
)  # fmt: skip
def test_headers_that_say_the_usual_are_accepted_in_any_spelling(wire, trust, head):
    server = wire(saying(OK + head + b"\r\n\r\n{}"))
    assert calling(server, trust).get("/x").json() == {}


def test_answer_without_a_body_is_not_compressed(client, coinbase):
    coinbase.faults += [status(204, b"", Content_Encoding="gzip")] * 2
    assert client.head("/x").status == client.delete("/x").status == 204


@pytest.mark.parametrize("codes", [[103], [102, 103, 100], [199] * 40])
def test_interim_answers_are_skipped(wire, trust, codes):
    """RFC 9110, section 15.2; psf/requests#5190 is about what happens otherwise."""
    head = b"Link: </x>\r\nContent-Length: 5\r\n\r\n"
    interim = b"".join(b"HTTP/1.1 %d Soon\r\n%b" % (code, head) for code in codes)

    def script(wire: Wire, connection: socket.socket) -> None:
        while wire.read_request(connection):
            connection.sendall(interim + OK + b"Content-Length: 2\r\nX: y\r\n\r\n{}")

    server = wire(script)
    client = calling(server, trust)
    for method in ("GET", "POST"):
        response = client.request(method, "/x")
        assert (response.json(), response.headers["X"]) == ({}, "y")
        assert response.headers["Link"] is None
    assert (server.connections, len(server.requests)) == (1, 2)


# Time


def stall_handshake(wire: Wire, connection: socket.socket) -> None:
    wire.over.wait(20)


def read_slowly(wire: Wire, connection: socket.socket) -> None:
    while not wire.over.wait(0.02):
        connection.recv(100_000)  # each record in less than the timeout, not all


stall_headers = dripping(b"")
drip_body = dripping(b"x" * 5000, OK + b"Content-Length: 5000\r\n\r\n")
endless_body = dripping(itertools.repeat(ord("x")), OK + b"\r\n", pause=0.01)
INTERIM = b"HTTP/1.1 102 X\r\n\r\n"
SLOW = {
    "handshake": stall_handshake,
    "sending": read_slowly,
    "answer": stall_headers,
    "interim answers": dripping(itertools.cycle(INTERIM), pause=0.001),
    "status line": dripping(b"HTTP/1.1 200 OK" + b" " * 5000),
    "headers": dripping(OK + b"X: y\r\n" * 900),
    "body": drip_body,
    "chunks": dripping(b"1\r\nx\r\n" * 900, OK + CHUNKED),
    "endless body": endless_body,
}


def test_call_ends_when_its_time_is_over_whatever_takes_so_long(wire, tls, trust):
    def call(slow: str) -> str:
        server = wire(SLOW[slow], None if slow == "handshake" else tls)
        client = calling(server, trust, timeout=0.5, retries=5)
        body = b"x" * (20_000_000 if slow == "sending" else 0)
        message = transport_error(client.post, "/x", json=body)
        return message.removeprefix(f"{server.host}: ").partition(";")[0]

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(SLOW)) as pool:
        found = dict(zip(SLOW, pool.map(call, SLOW)))
    assert found == dict.fromkeys(SLOW, "it took longer than the timeout")
    assert time.monotonic() - started < 15


def test_octets_that_come_too_late_are_not_taken(wire, trust, monkeypatch):
    """Whatever the socket makes of its timeout; a time that is reached is over."""
    clock, original = [100.0], ssl.SSLSocket.recv_into

    def late(sock: ssl.SSLSocket, *arguments) -> int:
        clock[0] += 3
        return original(sock, *arguments)

    monkeypatch.setattr(ssl.SSLSocket, "recv_into", late)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    server = wire(saying(OK + b"Content-Length: 2\r\n\r\n{}"))
    found = transport_error(calling(server, trust, timeout=3).get, "/x")
    assert found == f"{server.host}: {TIMED_OUT}"


# Size

FRAMES = {
    "by its length": lambda body: b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
    "by chunks": lambda body: CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
    "by its end": lambda body: b"\r\n%b" % body,
}


@pytest.mark.parametrize("frame", FRAMES)
def test_body_may_have_max_body_octets(wire, trust, frame):
    full = wire(saying(OK + FRAMES[frame](b"x" * 1000)))
    assert calling(full, trust, max_body=1000).get("/x").body == b"x" * 1000
    over = wire(dripping(b"", OK + FRAMES[frame](b"x" * 1001)))  # and stays open
    client = calling(over, trust, max_body=1000, timeout=15)
    assert transport_error(client.get, "/x") == f"{over.host}: {OVERSIZED}"


def test_body_of_an_error_is_cut_at_64_kib(client, coinbase):
    for size in (65_535, 65_536, 100_000, 1):
        coinbase.faults.append(status(400, b"x" * size))
        error = failure(cdp_jwt.ApiError, client.get, ACCOUNTS)
        assert error.body == b"x" * min(size, 65_536)
    assert len({seen.connection for seen in coinbase.seen}) == 2  # none with a rest


FLOODS = {
    "chunk of -1": b"-1\r\n" + b"x" * 60_000,  # from Python 3.11 on without end
    "chunks of -1": b"-1\r\n" * 20_000,
    "extensions of chunks": b"1;" + b"x" * 60_000 + b"\r\nx\r\n",
    "chunks of one octet": b"1\r\nx\r\n" * 20_000,
    "trailer": b"0\r\n" + b"X: y\r\n" * 20_000,
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize(("code", "limit"), [(200, 1000), (400, 65_536)])
def test_octets_that_are_read_are_counted_with_their_framing(
    wire, trust, monkeypatch, flood, code, limit
):
    """64 KiB are for the framing; and a buffer may hold what is not used."""
    read, original = [], ssl.SSLSocket.recv_into

    def counted(sock: ssl.SSLSocket, *arguments) -> int:
        read.append(original(sock, *arguments))
        return read[-1]

    monkeypatch.setattr(ssl.SSLSocket, "recv_into", counted)
    head = b"HTTP/1.1 %d X\r\n%b" % (code, CHUNKED)
    server = wire(saying(head, *[FLOODS[flood]] * 500))
    client = calling(server, trust, max_body=1000, timeout=15)
    error = failure(cdp_jwt.CdpError, client.get, "/x")
    assert "its answer is" in str(error)
    assert sum(read) <= limit + 65_536 + 65_536


# Proxies


def test_proxy_carries_the_call_and_sees_no_token(coinbase, trust, proxy):
    through = proxy(login="m%C3%A9:p:%40%2F@")
    client = calling(coinbase, trust)
    for _ in range(3):
        assert client.get(ACCOUNTS).status == 200
    client.close()
    assert through.connections == 1
    login = base64.b64encode("mé:p:@/".encode()).decode()
    connect = f"CONNECT {coinbase.host} HTTP/1.1\r\nHost: {coinbase.host}\r\n"
    connect += f"Proxy-Authorization: Basic {login}\r\n\r\n"
    assert through.requests == [connect.encode()]
    for seen in coinbase.seen:
        assert "Proxy-Authorization" not in seen.headers
        assert seen.token.encode() not in through.passed


def test_no_proxy_is_heeded(coinbase, trust, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    client = calling(coinbase, trust)
    message = f"{coinbase.host}: the proxy 127.0.0.1: {CONNECTION_REFUSED}"
    assert transport_error(client.get, ACCOUNTS) == message
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert client.get(ACCOUNTS).status == 200


@pytest.mark.parametrize(
    "url",
    [
        *(f"{kind}://me:s3cret@127.0.0.1:1" for kind in ("socks5", "socks4", "https")),
        *("http:/me:s3cret@127.0.0.1:1", "http://me:s3cret", "s3cret@:/", "http:/"),
        *("http://h:abc", "http://a b:1", "http://127.0.0.1:65536", "http://a..b:1"),
        f"http://me:s3cret@{'x' * 64}:1",
    ],
)
def test_proxy_that_cannot_be_used_is_named_without_its_password(
    coinbase, trust, monkeypatch, waits, url
):
    monkeypatch.setenv("HTTPS_PROXY", url)
    problem = "the proxy for https (HTTPS_PROXY) cannot be used"
    message = f"{coinbase.host}: {problem}; expected http://host:port"
    for method in ("GET", "POST"):
        call = calling(coinbase, trust, retries=5).request
        assert transport_error(call, method, "/x") == message
    assert waits == []  # it is not tried again


PASSWORD = "the proxy asks for a password; put it in HTTPS_PROXY"
CREDENTIALS = "the proxy refused these credentials; check those in HTTPS_PROXY"
NOT_SPOKEN = ("the proxy asks for {}, which this file cannot do; go through a local proxy that"
              " can, such as px or cntlm")  # fmt: skip
NO_TUNNEL = "the proxy refused to connect (HTTP {}); check HTTPS_PROXY and NO_PROXY"
OF_PROXY = "the proxy localhost: "
ASKING = b"HTTP/1.1 407 No\r\nProxy-Authenticate: "
PROXY_REFUSALS = {  # name -> answer, message, tries
    "407": (b"HTTP/1.1 407 No", PASSWORD, 1),
    "407 to a password": (b"HTTP/1.1 407 No", CREDENTIALS, 1),
    "Basic or NTLM": (ASKING + b"NTLM, Basic realm=x", PASSWORD, 1),
    "NTLM": (ASKING + b"NTLM", NOT_SPOKEN.format("NTLM"), 1),
    "Negotiate": (ASKING + b"Negotiate", NOT_SPOKEN.format("Negotiate (Kerberos or NTLM)"), 1),
    "Digest": (ASKING + b'Digest realm="x, Basic y", nonce="Basic"', NOT_SPOKEN.format("digest"), 1),
    "escapes": (ASKING + b"\x1b[2J", NOT_SPOKEN.format(r"\x1b[2j"), 1),
    "403": (b"HTTP/1.1 403 No", NO_TUNNEL.format(403), 1),
    "302": (b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/", NO_TUNNEL.format(302), 1),
    "502": (b"HTTP/1.1 502 Bad", "the proxy answered HTTP 502; try again", 2),
    "503": (b"HTTP/1.1 503 Bad", "the proxy answered HTTP 503; try again", 2),
    "504": (b"HTTP/1.1 504 Bad", "the proxy answered HTTP 504; try again", 2),
    "no HTTP": (b"SSH-2.0", f"{OF_PROXY}{NOT_HTTP}", 2),
    "endless": (OK + b"X: %b\r\n" % (b"y" * 900) * 80, f"{OF_PROXY}{NOT_HTTP}", 2),
    "half an answer": (b"", f"{OF_PROXY}{CLOSED}", 2),
    "closed behind the answer": (b"HTTP/1.1 200 OK", CLOSED, 2),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROXY_REFUSALS)
def test_proxy_that_refuses_is_named(coinbase, trust, proxy, waits, kind):
    """And asked again, even for a POST, where that may help: nothing was sent."""
    answer, message, tries = PROXY_REFUSALS[kind]
    login = "me:s3cret@" if message == CREDENTIALS else ""
    through = proxy(answer and answer + b"\r\n\r\n", login)
    client = calling(coinbase, trust, retries=1)
    error = failure(cdp_jwt.TransportError, client.post, "/echo")
    assert str(error) == f"{coinbase.host}: {message}"
    assert (error.outcome_unknown, through.connections) == (False, tries)
    assert coinbase.seen == []


@pytest.mark.parametrize("script", [
    dripping(b"HTTP/1.1 200 OK" + b" " * 900),
    dripping(b"\r\n", OK, pause=0.1),  # TLS has what is left
])  # fmt: skip
def test_proxy_that_is_slow_shares_the_time(wire, trust, monkeypatch, script):
    monkeypatch.setenv("HTTPS_PROXY", wire(script, None).host)
    client = cdp_jwt.Client(host="a.example", ssl_context=trust, timeout=0.5)
    started = time.monotonic()
    assert transport_error(client.get, "/x").endswith(TIMED_OUT)
    assert time.monotonic() - started < 15


# TLS

UNKNOWN_CA = "its certificate is of an unknown CA; for a private CA set SSL_CERT_FILE or ssl_context"
CERTIFICATE_EXPIRED = "its certificate has expired; check the clock"
NOT_YET_VALID = "its certificate is not valid yet; check the clock"
OTHER_HOST = "its certificate is for another host; check host and proxy"
NOT_STRICT = "its CA breaks RFC 5280: Python >= 3.13 refuses it; reissue the CA"
NOT_VERIFIED = "its certificate was refused; check host and proxy"
LONG_AGO, FAR_AHEAD = datetime.datetime(2001, 1, 1), datetime.datetime(2999, 1, 1)


def up_to_tls_1_1(context: ssl.SSLContext) -> ssl.SSLContext:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def refuse(wire: Wire, connection: socket.socket) -> None:
    wire.requests.append(connection.recv(65536))
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


TLS_FAULTS = {
    "expired": (CERTIFICATE_EXPIRED, lambda ca: server_context(ca, not_before=LONG_AGO, not_after=LONG_AGO)),
    "not valid yet": (NOT_YET_VALID, lambda ca: server_context(ca, not_before=FAR_AHEAD)),
    "other host": (OTHER_HOST, lambda ca: server_context(ca, "other.example")),
    "other CA": (UNKNOWN_CA, lambda _: server_context(trustme.CA())),
    "TLS 1.1": (TLS_FAILED, lambda ca: up_to_tls_1_1(server_context(ca))),
    "plain HTTP": (TLS_FAILED, lambda _: None),
}  # fmt: skip


@pytest.mark.parametrize("fault", TLS_FAULTS)
def test_tls_that_fails_is_named_and_nothing_is_sent(wire, ca, trust, fault):
    message, context_of = TLS_FAULTS[fault]
    server = wire(refuse, context_of(ca))
    found = transport_error(calling(server, trust).post, "/x", json={})
    assert found == f"{server.host}: {message}"
    assert b"Bearer" not in b"".join(server.requests)


@pytest.mark.parametrize(("message", "codes"), [
    (NOT_YET_VALID, [9]),
    (CERTIFICATE_EXPIRED, [10]),
    (UNKNOWN_CA, [2, 18, 19, 20, 21]),
    (OTHER_HOST, [62, 64]),
    (NOT_STRICT, [80, 85, 89, 92, 94]),  # 92: no key usage extension
    (NOT_VERIFIED, [1, 23, 79, 95]),  # 23: revoked
])  # fmt: skip
def test_certificate_is_explained_by_openssls_number(
    wire, trust, monkeypatch, message, codes
):
    """And by nothing that the text says. To try again would change nothing."""
    server = wire(saying(), None)
    for code in codes:
        error = ssl.SSLCertVerificationError(1, "expired, self-signed, mismatch")
        error.verify_code = code
        refuse = unittest.mock.Mock(side_effect=error)
        monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
        found = transport_error(calling(server, trust, retries=5).post, "/x")
        assert found == f"{server.host}: {message}"
        assert refuse.call_count == 1


@pytest.mark.parametrize(("checks_name", "mode"), [(False, 0), (False, 2), (True, 1)])
def test_context_that_does_not_verify_is_refused(trust, checks_name, mode):
    trust.check_hostname = checks_name
    trust.verify_mode = ssl.VerifyMode(mode)
    message = "ssl_context does not verify the server; it must"
    assert refusal(cdp_jwt.Client, ssl_context=trust) == message


def test_context_that_allows_old_tls_is_raised_to_1_2(wire, ca, trust):
    """Python 3.9's own default allows it."""
    server = wire(saying(OK + b"\r\n"), up_to_tls_1_1(server_context(ca)))
    host, _, port = server.host.partition(":")
    try:
        with socket.create_connection((host, int(port))) as plain:
            up_to_tls_1_1(trust).wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLError:
        pytest.skip("this OpenSSL has no TLS 1.1")
    trust.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    message = f"{server.host}: {TLS_FAILED}"
    assert transport_error(calling(server, trust).get, "/x") == message
    assert server.requests == []


def test_ssl_cert_file_is_heeded(coinbase, ca_file, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    assert calling(coinbase, None).get(ACCOUNTS).status == 200


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_authorities_that_do_not_exist_are_named(coinbase, monkeypatch, variable):
    found = f"({variable} does not exist: /\\x1bno.pem)"
    missing = UNKNOWN_CA.replace(";", f" {found};")
    for path, message in (("/\x1bno.pem", missing), ("/", UNKNOWN_CA)):
        monkeypatch.setenv(variable, path)
        found = transport_error(calling(coinbase, None).get, "/x")
        assert found == f"{coinbase.host}: {message}"


# Sending


def test_client_sends_every_method_with_its_own_headers(client, coinbase):
    for method in ("get", "head", "post", "put", "patch", "delete"):
        assert client.request(method, "/echo?a=1").status == 200
        assert getattr(client, method)("/echo", params={"a": 1}).status == 200
        for seen in coinbase.seen[-2:]:
            assert (seen.method, seen.path) == (method.upper(), "/echo?a=1")
            length = None if method in ("get", "head") else "0"
            assert seen.headers["Content-Length"] == length
            assert seen.headers["Content-Type"] is None
            assert seen.headers["Accept-Encoding"] == "identity"
            assert seen.headers["User-Agent"] == f"cdp_jwt/{cdp_jwt.__version__}"
    assert coinbase.refusals == []
    assert len({seen.token for seen in coinbase.seen}) == len(coinbase.seen) == 12


@pytest.mark.parametrize(
    "body", [{}, {"a": [1, None, "é"]}, [], 0, False, b'{ "a":1}', ["x" * 900_000]]
)
def test_client_sends_json_with_its_content_type(client, body):
    expected = body if isinstance(body, bytes) else json.dumps(body).encode()
    for method in ("post", "put", "patch", "delete"):
        sent = getattr(client, method)("/echo", json=body).json()
        assert sent["type"] == "application/json"
        assert sent["body"].encode() == expected


def test_client_without_a_key_sends_no_token(coinbase, trust):
    client = cdp_jwt.Client(host=coinbase.host, ssl_context=trust)
    assert "epochMillis" in client.get("/api/v3/brokerage/time").json()
    assert coinbase.seen[0].token is None


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308, 399])
def test_redirect_is_never_followed(client, coinbase, wire, code):
    attacker, plain = wire(saying()), wire(saying(), None)
    targets = {
        f"https://{attacker.host}/x": attacker.host,
        f"http://me@{plain.host}/x": plain.host,
        "ftp://\x1bc.example/x": r"\x1bc.example",
        "/echo": "the same host",
    }
    for method, (target, host) in itertools.product(["GET", "POST"], targets.items()):
        coinbase.faults.append(status(code, b"x", Location=target))
        error = failure(cdp_jwt.ApiError, client.request, method, "/echo")
        assert str(error) == f"HTTP {code}: a redirect to {host}, not followed"
    assert (len(coinbase.seen), attacker.connections, plain.connections) == (8, 0, 0)


def test_other_codes_settings_change_nothing(coinbase, trust, monkeypatch, capfd):
    """A global opener, unverified TLS as the default, and a debug level that prints."""
    monkeypatch.setattr(urllib.request, "_opener", thief := unittest.mock.Mock())
    unverified = ssl._create_unverified_context
    monkeypatch.setattr(ssl, "_create_default_https_context", unverified)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    monkeypatch.setattr(socket, "getdefaulttimeout", lambda: 0.001)
    assert calling(coinbase, trust).get(ACCOUNTS).status == 200
    assert (capfd.readouterr(), thief.mock_calls) == (("", ""), [])
    message = f"{coinbase.host}: {UNKNOWN_CA}"
    assert transport_error(calling(coinbase, None).get, ACCOUNTS) == message


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
    assert failure(cdp_jwt.ApiError, client.get, "/nowhere").status == 404
    assert seen == [("POST", 200, 200, ""), ("GET", 404, 404, "")]
    headers = coinbase.seen[0].headers
    assert headers["traceparent"] == "00-1-1-01"
    assert headers["baggage"] == "a=1Host: evil.exampleGET /"
    assert len(coinbase.seen) == 2


# Arguments


@pytest.mark.parametrize("kind", CALLERS)
def test_client_sends_the_true_text_of_each_argument(coinbase, trust, kind):
    true = CALLERS[kind]
    client = calling(coinbase, trust, host=true(coinbase.host))
    params = {true("a"): true("b"), "c": [true("d"), "e"]}
    client.request(true("POST"), true("/echo"), params=params, json={"f": [true("g")]})
    seen = coinbase.seen[0]
    assert (seen.method, seen.path) == ("POST", "/echo?a=b&c=d&c=e")
    assert (json.loads(seen.body), coinbase.refusals) == ({"f": ["g"]}, [])


@pytest.mark.parametrize("value", NO_TEXTS, ids=lambda value: type(value).__name__)
def test_argument_that_is_no_text_is_refused_unsent(client, coinbase, value):
    found = f"is {type(value).__name__}, not text"
    named = types.SimpleNamespace(items=lambda: [(value, "x")])
    assert refusal(cdp_jwt.Client, host=value) == f"the host {found}"
    assert refusal(client.request, value, "/x") == f"the method {found}"
    assert refusal(client.get, value, params={"a": 1}) == f"the path {found}"
    message = refusal(client.get, "/x", params=named)
    assert message == f"the name of a parameter {found}"
    assert coinbase.seen == []


@pytest.mark.parametrize(("params", "query"), [
    ({}, ""),
    ({"a": None, "b": [None]}, ""),
    ({"a": 1, "b": "x y/z&="}, "?a=1&b=x%20y%2Fz%26%3D"),
    ({"product_ids": ["A", "B", None], "c": ("d",)}, "?product_ids=A&product_ids=B&c=d"),
    ({"a": True, "b": False, "c": 1.5}, "?a=true&b=false&c=1.5"),
    ({"a": decimal.Decimal("1E+2"), "b": decimal.Decimal("0.10")}, "?a=100&b=0.10"),
    ({"é": "€", "a": "\udcff"}, "?%C3%A9=%E2%82%AC&a=%ED%B3%BF"),
])  # fmt: skip
def test_parameters_are_sent_as_they_are_meant(client, coinbase, params, query):
    client.get("/echo", params=params)
    client.post("/echo?x=1", params=params)
    assert coinbase.seen[0].path == f"/echo{query}"
    assert coinbase.seen[1].path == f"/echo?x=1{query.replace('?', '&')}"
    assert coinbase.refusals == []


NO_VALUES = [b"abc", {"a": 1}, {1}, range(3), object(), float("nan"), float("-inf"), decimal.Decimal("inf"),
             enum.Enum("Side", ["BUY"]).BUY, unittest.mock.Mock(spec=str),
             pytest.param(10**5000, marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="has its digits"))]  # fmt: skip


@pytest.mark.parametrize("value", NO_VALUES, ids=lambda value: type(value).__name__)
def test_parameter_without_a_text_of_its_own_is_refused(client, coinbase, value):
    message = f"a value in params is {type(value).__name__}; expected text or a number"
    for params in ({"p": value}, {"p": ["a", value]}):
        with pytest.raises(cdp_jwt.InvalidRequestError, match=message):
            client.get("/x", params=params)
    assert coinbase.seen == []


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
TWICE = "json is text, which would be encoded twice; pass the object, or bytes"
REFUSED_CALLS = [
    ("GET", {"json": {}}, "GET takes no body; use params"),
    ("head", {"json": 0}, "HEAD takes no body; use params"),
    ("FETCH", {}, f"unknown method FETCH; expected one of {METHODS}"),
    ("GET", {"params": [("a", 1)]}, "params is list; expected a dict"),
    ("GET", {"params": "a=1"}, "params is str; expected a dict"),
    ("POST", {"json": "{}"}, TWICE),
    ("POST", {"json": ""}, TWICE),
]
NO_JSON_FOR = [
    ({"price": decimal.Decimal(1)}, "Decimal at price: use str()"),
    ({"a": [1, {"b": {2}}]}, "set at a[1].b: use str()"),
    ([b"x"], "bytes at [0]: use str()"),
    (decimal.Decimal(1), "Decimal: use str()"),
    ({"a": float("nan")}, "nan at a"),
    ({"a": (float("-inf"),)}, "-inf at a[0]"),
    ({"a": {(1,): 1}}, "a name that is tuple at a: use str()"),
    ({Lying("a"): {1}}, "set at a: use str()"),
    ({"\x1b" * 400: {1}}, f"set at {(chr(92) + 'x1b') * 75}: use str()"),
    (CIRCLE, "a part that contains itself, or that is nested too deeply"),
]


def test_call_with_a_bad_argument_is_refused_unsent(client, coinbase):
    for method, options, message in REFUSED_CALLS:
        assert refusal(client.request, method, "/x", **options) == message
    assert coinbase.seen == []


def test_body_that_json_has_no_words_for_is_named(client, coinbase):
    for body, problem in NO_JSON_FOR:
        message = f"the body has {problem}"
        assert refusal(client.post, "/x", json=body) == message
    assert coinbase.seen == []


# An answer outside 200-299, and foreign text in it

STATUSES = [
    (400, {"error": "INVALID_ARGUMENT", "code": 3, "message": "bad size"}, "bad size"),
    (400, {"error": "INVALID", "error_details": "details"}, "details"),
    (400, {"error": {"message": "inner"}, "errorMessage": "outer"}, "inner"),
    (400, {"errorMessage": "outer", "id": "x"}, "outer"),
    (401, b"Unauthorized\n", "Unauthorized"),
    (402, {"errors": [{"id": "two_factor", "message": "enter it"}]}, "enter it"),
    (404, {"errors": [{"id": "not_found"}]}, "not_found"),
    (410, [], "[]"),
    (418, {"errors": []}, '{"errors": []}'),
    (422, {"errors": ["text"]}, '{"errors": ["text"]}'),
    (429, {"message": 7}, "7"),
    (500, b"", "no message"),
    (501, b"\xff\xfe", "\ufffd\ufffd"),
    (502, b"x" * 1000, "x" * 300),
    (503, b"null", "null"),
    (504, b"[" * 5000, "[" * 300),
    (520, {"message": "\x1b" * 1000}, r"\x1b" * 75),
    (599, {"message": None, "error": ""}, '{"message": null, "error": ""}'),
]  # fmt: skip


@pytest.mark.parametrize(("code", "content", "message"), STATUSES)
def test_status_outside_200_299_is_an_api_error(
    coinbase, trust, code, content, message
):
    coinbase.faults.append(status(code, content, X_Trace="7"))
    error = failure(cdp_jwt.ApiError, calling(coinbase, trust).get, ACCOUNTS)
    assert (error.status, str(error)) == (code, f"HTTP {code}: {message}")
    assert error.headers["x-trace"] == "7"
    is_octets = isinstance(content, bytes)
    assert error.body == (content if is_octets else json.dumps(content).encode())


def said(status_line: str, body: str = "x", **headers: str) -> bytes:
    """An answer that ends with its connection."""
    lines = [f"HTTP/1.1 {status_line}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


def in_json(code: int, *path: str) -> Callable[[str], bytes]:
    def say(text: str) -> bytes:
        value = functools.reduce(lambda inner, name: {name: inner}, path[::-1], text)
        return said(f"{code} X", json.dumps(value))

    return say


def in_header(code: int, name: str) -> Callable[[str], bytes]:
    return lambda text: said(f"{code} No", **{name: text})


PLACES = {  # where a server, or a proxy, puts a text -> what is said then
    "status line": (lambda text: f"{text}\r\n\r\n".encode(), once_sent(NOT_HTTP)),
    "reason": (lambda text: said(f"400 {text}"), "HTTP 400: x"),
    "body": (lambda text: said("400 No", text), "HTTP 400: {}"),
    "message": (in_json(400, "message"), "HTTP 400: {}"),
    "message of a 500": (in_json(500, "message"), f"HTTP 500: {{}}; {UNKNOWN}"),
    "inner message": (in_json(400, "error", "message"), "HTTP 400: {}"),
    "Date": (in_header(401, "Date"), "HTTP 401: x"),
    "Retry-After": (in_header(429, "Retry_After"), "HTTP 429: x"),
    "rate limit": (in_header(429, "x_ratelimit_reset"), "HTTP 429: x"),
    "Location": (in_header(302, "Location"), "HTTP 302: a redirect to the same host, not followed"),
    "Content-Type": (in_header(400, "Content_Type"), "HTTP 400: x"),
    "Content-Encoding": (in_header(499, "Content_Encoding"), f"HTTP 499: {COMPRESSED[:49]}; it was not carried out"),
    "Content-Length": (in_header(499, "Content_Length"), "HTTP 499: its answer is not HTTP; it was not carried out"),
    "cursor": (in_json(200, "cursor"), "HTTP 400: x; to go on: cursor={}"),
    "next_uri": (in_json(200, "pagination", "next_uri"), "next_uri is not a path on the same host"),
    "proxy's status line": (lambda text: f"{text}\r\n\r\n".encode(), f"{OF_PROXY}{NOT_HTTP}"),
    "proxy's reason": (lambda text: said(f"403 {text}"), NO_TUNNEL.format(403)),
    "proxy's realm": (lambda text: in_header(407, "Proxy_Authenticate")(f'Basic realm="{text}"'), PASSWORD),
}  # fmt: skip
FOREIGN = [UNKNOWN, NOT_HTTP, TIMED_OUT, COMPRESSED, CREDENTIALS, "Verif expired", "Tunnel 407", "200 OK", "NTLM",
           "ERR upstream request timed out", "not signed", "bare seed", "time",
           "busy; try again with order id 7781 (NOT cancelled)"]  # fmt: skip
GROWING = ["eyJ", " eyJ", "\x1b", "[", '{"a":', '"', "1", "//a.", "Sun, "]


@pytest.fixture(params=PLACES)
def place(request, wire, trust, monkeypatch) -> tuple[Callable[[str], object], str]:
    """Where a text is: a call that gets it there, and the message of its error."""
    make, message = PLACES[request.param]
    answers: list[bytes] = []

    def script(wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        connection.sendall(answers.pop(0))

    is_proxys = request.param.startswith("proxy")
    server = wire(script, None) if is_proxys else wire(script)
    if is_proxys:
        monkeypatch.setenv("HTTPS_PROXY", server.host)
    client = calling(server, trust)
    is_page = request.param in ("cursor", "next_uri")

    def call(text: str) -> object:
        answers[:] = [make(text), said("400 No")]
        return list(client.pages("/x")) if is_page else client.post("/x")

    return call, message


def test_foreign_words_decide_nothing_and_are_shown_whole(place):
    call, message = place
    for word in FOREIGN:
        with pytest.raises(cdp_jwt.CdpError) as caught:
            call(word)
        found = re.sub("^localhost:[0-9]+: ", "", str(caught.value))
        assert found == message.format(word)


def seconds_of(call: Callable[[str], object], text: str) -> float:
    """What this thread works on a call; what it waits for is not counted."""
    started = time.thread_time()
    with contextlib.suppress(cdp_jwt.CdpError):
        call(text)
    return time.thread_time() - started


def test_time_grows_as_a_foreign_text_does(place):
    call, _ = place
    for part in GROWING:
        text = (part * 60_000)[:60_000]
        for tries in (1, 3):
            half = min(seconds_of(call, text[:30_000]) for _ in range(tries))
            whole = min(seconds_of(call, text) for _ in range(tries))
            if whole <= 3 * half + 0.02:
                break
        else:
            raise AssertionError(f"{part!r}: {half:.3f} s, twice of it {whole:.3f} s")


# The client


@pytest.mark.parametrize("key", ["key.json", SEC1, b"x", object(), NAME.encode()])
def test_client_refuses_what_is_no_api_key(key):
    found = f"key is {type(key).__name__}"
    message = f"{found}; expected an ApiKey: see ApiKey.from_file"
    call = functools.partial(cdp_jwt.Client, key)
    assert refused(call, SEC1, cdp_jwt.InvalidRequestError) == message


def test_client_takes_options_within_their_bounds(coinbase, trust):
    bounds = [("timeout", 0.001, 1e6), ("retries", 0, 1e6), ("max_body", 0, 2**40)]
    for name, least, most in bounds:
        message = f"{name} is not a number from {least:g} to {most:g}; correct it"
        for value in (least - 0.001, -1, most, float("nan"), float("inf"), "1", None):
            assert refusal(cdp_jwt.Client, **{name: value}) == message
    widest = {"timeout": 999_999.5, "retries": 999_999, "max_body": 2**40 - 1}
    coinbase.faults += [status(200, b"x"), status(200)]
    assert calling(coinbase, trust, **widest).get("/x").body == b"x"
    assert calling(coinbase, trust, retries=0, max_body=0).get("/x").body == b""
    cdp_jwt.Client(timeout=0.001)


def test_client_has_the_signatures_of_its_documentation():
    assert str(inspect.signature(cdp_jwt.Client)) == (
        "(key: 'ApiKey | None' = None, *, host: 'str' = 'api.coinbase.com',"
        " timeout: 'float' = 10.0, retries: 'int' = 2, max_body: 'int' = 33554432,"
        " ssl_context: 'ssl.SSLContext | None' = None) -> 'None'"
    )
    query = "(self, url_or_path: 'str', *, params: 'Params' = None"
    for method in ("get", "head", "post", "put", "patch", "delete"):
        function = getattr(cdp_jwt.Client, method)
        body = "" if method in ("get", "head") else ", json: 'object' = None"
        assert str(inspect.signature(function)) == f"{query}{body}) -> 'Response'"
        assert function.__doc__.startswith(method.upper())


def test_token_is_in_no_message_log_or_repr(client, coinbase, waits, caplog):
    caplog.set_level(logging.DEBUG)
    coinbase.faults += [status(503), status(401), status(400, {"message": "no"})]
    errors = [failure(cdp_jwt.ApiError, client.get, ACCOUNTS) for _ in range(2)]
    shown = "".join([*map(repr, errors), repr(client), caplog.text])
    assert "Bearer ..." in shown
    assert "eyJ" not in shown


# ==== SPLIT: keep this line


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


PROXY_PARTS = ["http", "https", "socks5", "://", ":", "/", "me", "@", "h:1", "[::1]"]
OTHERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
PROXIES = st.lists(st.sampled_from(PROXY_PARTS) | OTHERS, max_size=6).map("".join)


@examples(60)
@given(before=PROXIES, after=PROXIES)
def test_any_proxy_is_an_error_that_does_not_show_its_password(
    nowhere, monkeypatch, before, after
):
    password = "s3cr3ts3cr3t"
    monkeypatch.setenv("HTTPS_PROXY", f"{before}{password}@{after}")
    client = cdp_jwt.Client(host="a.example", retries=0)
    with pytest.raises(cdp_jwt.TransportError) as caught:
        client.get("/x")
    assert password not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert caught.value.__context__ is None


# Connections: kept and shared, and never used for another call's answer


def idle_sockets(client: cdp_jwt.Client) -> list[ssl.SSLSocket]:
    return [each.sock for idle in client._connections._idle.values() for each in idle]


def connections_of(coinbase: Coinbase) -> int:
    return len({seen.connection for seen in coinbase.seen})


def refusal_of(call: Callable[[], object]) -> cdp_jwt.ApiError:
    with pytest.raises(cdp_jwt.ApiError) as caught:
        call()
    return caught.value


def in_turn(*answers: bytes) -> Callable[[Wire, socket.socket], None]:
    """A script: answer one request of a connection after the other, then leave."""

    def script(wire: Wire, connection: socket.socket) -> None:
        for answer in answers:
            wire.read_request(connection)
            connection.sendall(answer)

    return script


EMPTY_OBJECT = OK + b"Content-Length: 2\r\n\r\n{}"


CHUNKED_OBJECT = (
    OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n"
)
ENDS_OF_ANSWERS = {
    "length": ([EMPTY_OBJECT] * 2, 1),
    "length of an error": ([EMPTY_OBJECT.replace(b"200", b"404")] * 2, 1),
    "chunks": ([CHUNKED_OBJECT] * 2, 1),
    "end of the connection": ([OK + b"\r\n{}"], 2),
    "wish to close": ([EMPTY_OBJECT.replace(b"OK", b"OK\r\nConnection: close")] * 2, 2),
    "HTTP/1.0": ([EMPTY_OBJECT.replace(b"HTTP/1.1", b"HTTP/1.0")] * 2, 2),
    "not read": ([b"HTTP/1.1 400 X\r\nContent-Length: 70000\r\n\r\n" + b"x" * 65_537] * 2, 2),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS_OF_ANSWERS)
def test_connection_is_reused_if_the_answer_has_come_to_its_end(wire, trust, end):
    answers, connections = ENDS_OF_ANSWERS[end]
    server = wire(in_turn(*answers))
    client = calling(server, trust)
    for _ in range(2):
        with contextlib.suppress(cdp_jwt.ApiError):
            client.get("/x")
    assert (server.connections, len(server.requests)) == (connections, 2)


def test_connection_that_the_server_closed_meanwhile_is_not_used(wire, trust):
    """Not even a POST notices."""
    server = wire(in_turn(EMPTY_OBJECT))
    client = calling(server, trust)
    for number in (1, 2):
        assert client.post("/x", json={}).status == 200
        select.select(idle_sockets(client), [], [], 9)  # until it has ended
        assert (server.connections, len(server.requests)) == (number, number)


def test_connection_that_is_closed_under_way_is_tried_again_for_get_alone(wire, trust):
    server = wire(in_turn(EMPTY_OBJECT, b""))
    client = calling(server, trust, retries=1)
    assert [client.get("/x").status for _ in range(2)] == [200, 200]
    assert (server.connections, len(server.requests)) == (2, 3)
    found = transport_error(lambda: client.post("/x", json={}))
    assert found == f"{server.host}: it closed the connection; {UNKNOWN}"
    assert (server.connections, len(server.requests)) == (2, 4)


def test_connection_that_cannot_be_tested_is_not_used(client, coinbase, monkeypatch):
    client.get("/echo")
    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLSocket, "recv", unittest.mock.Mock(side_effect=OSError))
        client.get("/echo")
    assert connections_of(coinbase) == 2


def test_idle_connection_is_given_up_after_30_seconds(client, coinbase, monkeypatch):
    """By a clock that runs on in suspend; one that was set back tells no age."""
    original = time.time
    passed = 0.0
    monkeypatch.setattr(time, "time", lambda: original() + passed)
    for seconds, connections in ((0, 1), (29.5, 1), (30.5, 2), (-5, 3)):
        passed += seconds
        client.get("/api/v3/brokerage/time")
        assert connections_of(coinbase) == connections


def test_idle_connections_that_the_server_closed_are_closed(client, coinbase):
    """All of a burst, and not just those before the one that was used last."""
    together = threading.Barrier(4)
    at_the_server: dict[int, ssl.SSLSocket] = {}

    def hold(handler: Handler) -> None:
        at_the_server[handler.client_address[1]] = handler.connection
        together.wait(10)
        handler.answer(200, b"")

    coinbase.faults += [hold] * 4
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(client.get, ["/echo"] * 4))
    *others, last = idle_sockets(client)

    def end_the_others(handler: Handler) -> None:
        for sock in others:
            at_the_server[sock.getsockname()[1]].shutdown(socket.SHUT_RDWR)
            select.select([sock], [], [], 9)
        handler.answer(200, b"")

    coinbase.faults.append(end_the_others)
    client.get("/echo")
    assert coinbase.seen[4].connection == last.getsockname()[1]
    assert [each.fileno() == -1 for each in (*others, last)] == [True] * 3 + [False]


def test_answer_that_nobody_asked_for_is_not_taken_for_the_next(wire, trust):
    unasked = EMPTY_OBJECT.replace(b"{}", b"[]")
    client = calling(wire(in_turn(EMPTY_OBJECT + unasked, EMPTY_OBJECT)), trust)
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


def test_thread_closes_no_connection_that_another_one_took(
    client, coinbase, monkeypatch
):
    """While it looks which of the idle ones have ended."""
    original = select.select

    def take_meanwhile(sockets: list, *_) -> tuple:
        monkeypatch.setattr(select, "select", original)
        time.sleep(0.02)  # so that it is put back at another time, on Windows too
        client.get("/echo")
        return sockets, [], []

    client.get("/echo")
    monkeypatch.setattr(select, "select", take_meanwhile)
    client.get("/echo")
    assert connections_of(coinbase) == 1


@needs_fork
def test_fork_shares_no_connection_and_no_nonce(client, coinbase):
    """Nor does the child's close() end the parent's connection."""

    def call_and_close() -> str:
        path = client.get("/echo").json()["path"]
        client.close()
        return path

    client.get("/echo")
    assert in_a_child(call_and_close) == "/echo"
    client.get("/echo")
    first, second, third = (seen.connection for seen in coinbase.seen)
    assert first == third != second
    assert coinbase.refusals == []


@needs_cpython
@pytest.mark.parametrize("last", ["/echo", "404", "no HTTP", "nobody"])
def test_client_that_is_dropped_leaves_nothing_behind(coinbase, wire, trust, last):
    """No socket, no cycle, no ResourceWarning, without close(), whatever came last.

    An error holds the frames it has passed through.
    """
    url = {
        "404": "/nowhere",
        "no HTTP": f"https://{wire(saying(b'hello')).host}/x",
        "nobody": f"https://{NOWHERE}/x",
    }.get(last, last)
    client = cdp_jwt.Client.__new__(cdp_jwt.Client)
    make = cdp_jwt.Client.__init__.__wrapped__  # no test closes this one
    make(client, key_of(), host=coinbase.host, ssl_context=trust, retries=0)
    client.get("/echo")
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(cdp_jwt.CdpError):
            client.get(url)
        sockets = idle_sockets(client)
        assert [each.fileno() != -1 for each in sockets] == [True]
        assert gc.collect() == 0
        del client
        assert [each.fileno() for each in sockets] == [-1]
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
        uri = cdp_jwt.format_jwt_uri(method, url, host)
    except cdp_jwt.InvalidRequestError:
        uri = None
    try:
        cdp_jwt.Client(THROWAWAY, host=host, retries=0).request(method, url)
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


class Fake:
    """Calls without a network: urllib's opener is made to give these answers."""

    def __init__(self) -> None:
        self.requests: list[urllib.request.Request] = []

    def client(self, *answers: object, key=THROWAWAY, **options) -> cdp_jwt.Client:
        self.answers = iter(answers)
        return cdp_jwt.Client(key, **options)

    def open(self, request: urllib.request.Request, timeout) -> cdp_jwt.Response:
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
def fake(monkeypatch, frozen, waits) -> Fake:
    server = Fake()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(ssl, "create_default_context", lambda: context)
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", server.open)
    return server


# What comes back


class NoTls(ssl.SSLContext):
    """For thousands of calls that try answers; TLS itself is tried elsewhere."""

    def wrap_socket(self, sock: socket.socket, **_) -> socket.socket:
        return sock


class Answering:
    """A server that gives each connection the answer of the moment, then leaves."""

    def __init__(self, wire) -> None:
        self.answers = [b""]
        self.server = wire(self.script, None)
        self.context = NoTls(ssl.PROTOCOL_TLS_CLIENT)

    def script(self, wire: Wire, connection: socket.socket) -> None:
        wire.read_request(connection)
        connection.sendall(self.answers[0])

    def client(self, **options) -> cdp_jwt.Client:
        del self.server.requests[:]
        return calling(self.server, self.context, **options)


@pytest.fixture
def answering(wire, waits, monkeypatch) -> Answering:
    server = Answering(wire)
    monkeypatch.setattr(ssl, "create_default_context", lambda: server.context)
    return server


STATUS_CODES = [200, 201, 204, 302, 304, 400, 401, 403, 404, 429, 500, 503]
STATUS_LINES = [b"HTTP/1.1 %d X" % code for code in STATUS_CODES] + [
    b"HTTP/1.0 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 X",
    b"HTTP/2 200", b"HTTP/1.1 -1 OK", b"HTTP/1.1 2000 OK", b"ICY 200 OK", b"",
]  # fmt: skip
HEADER_NAMES = [
    b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Connection", b"Date",
    b"Retry-After", b"Location", b"Content-Type", b"x-ratelimit-limit",
]  # fmt: skip
HEADER_VALUES = [
    b"0", b"2", b"5", b"-1", b"9" * 20, b"chunked", b"gzip", b"identity", b"close",
    b"keep-alive", b"\x1b[31m", b"\x9b2J", b"\xff", b"\xb2", b"https://evil.example/",
    b"//\x1b[2J/", b"/x", b"Tue, 09 May 1995 06:13:20 GMT",
]  # fmt: skip
ERROR_OBJECTS = [
    {"message": "\x1b]0;title\x07"}, {"errors": [{"message": "\u202eevil\x9b"}]},
    {"error": ["\0"]}, {"errors": {}}, {"errors": [[]]}, {"error_details": 7}, [], None,
    {"message": "Missing required scopes"},
]  # fmt: skip
CONTENTS = [
    b"2\r\n{}\r\n0\r\n\r\n", b"-1\r\n", b"zz\r\n", b"2\r\n{",
    *(json.dumps(each).encode() for each in ERROR_OBJECTS),
]  # fmt: skip


@st.composite
def answers(draw) -> bytes:
    """The octets of an answer: well formed, nearly so, or not at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=80))
    status_line = draw(st.sampled_from(STATUS_LINES))
    names = st.sampled_from(HEADER_NAMES) | st.binary(max_size=5)
    values = st.sampled_from(HEADER_VALUES) | st.binary(max_size=9)
    headers = draw(st.lists(st.tuples(names, values), max_size=4))
    content = draw(st.sampled_from(CONTENTS) | st.binary(max_size=20))
    if draw(st.booleans()):
        headers.append((b"Content-Length", b"%d" % len(content)))
    head = b"".join(b"%s: %s\r\n" % header for header in headers)
    octets = b"%s\r\n%s\r\n%s" % (status_line, head, content)
    if draw(st.integers(0, 4)) == 0:
        return octets[: draw(st.integers(0, len(octets)))]
    return octets


@examples(100)
@given(answer=answers(), method=st.sampled_from(["GET", "HEAD", "POST"]))
def test_any_answer_is_a_response_or_a_cdp_error(answering, answer, method):
    """Neither message nor cause has the token; a POST is sent once."""
    answering.answers = [answer]
    client = answering.client(max_body=1000, retries=1)
    try:
        response = client.request(method, "/x")
        assert 200 <= response.status <= 299
        assert len(response.body) <= 1000
    except cdp_jwt.CdpError as error:
        assert "eyJ" not in f"{error} {error!r} {vars(error)}"
        assert error.__context__ is None
    may_be_sent_again = method != "POST" or b" 429 " in answer or b" 401 " in answer
    assert len(answering.server.requests) <= (3 if may_be_sent_again else 1)


# May it have been carried out, and is it tried again?

NOWHERE = "127.0.0.1:1"  # nobody listens there
NO_BODY = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n"
ENDINGS = {  # answers; tries of GET and HEAD, of others; is the outcome of these unknown?
    "nobody listens": ([None], 3, 3, False),
    "no answer of use": ([b"", b"hello\r\n", OK + b"Content-Length: 2\r\n"], 3, 1, True),
    "refused": ([NO_BODY % code for code in (302, 400, 401, 403, 404, 408, 499)], 1, 1, False),
    "rate limit": ([NO_BODY % 429], 3, 3, False),
    "server error for now": ([NO_BODY % code for code in (500, 502, 503, 504)], 3, 1, True),
    "server error for good": ([NO_BODY % code for code in (501, 505, 520)], 1, 1, True),
}  # fmt: skip


def failed_calls(answering: Answering, kind: str, retries: int) -> Iterator[tuple]:
    for answer, method in itertools.product(ENDINGS[kind][0], cdp_jwt.METHODS):
        answering.answers = [answer]
        host = NOWHERE if answer is None else answering.server.host
        with pytest.raises(cdp_jwt.CdpError) as caught:
            answering.client(host=host, retries=retries).request(method, "/x")
        yield method, answer, caught.value


@pytest.mark.parametrize("kind", ENDINGS)
def test_call_is_tried_again_where_nothing_can_happen_twice(answering, waits, kind):
    """Up to `retries` times, each with a longer wait."""
    _, safe, changing, _ = ENDINGS[kind]
    for method, answer, _ in failed_calls(answering, kind, retries=2):
        tries = safe if method in ("GET", "HEAD") else changing
        sent = len(answering.server.requests)
        assert sent == (0 if answer is None else tries), (method, answer)
        assert waits == [0.25, 0.5][: tries - 1], (method, answer)
        del waits[:]


@pytest.mark.parametrize("kind", ENDINGS)
def test_errors_say_whether_the_outcome_is_unknown(answering, kind):
    """As an attribute, and in words; never of what changes nothing."""
    for method, answer, error in failed_calls(answering, kind, retries=0):
        expected = ENDINGS[kind][3] and method not in ("GET", "HEAD")
        assert error.outcome_unknown is expected, (method, answer)
        assert str(error).endswith(f"; {UNKNOWN}") is expected, (method, answer)


def test_order_is_tried_again_while_nothing_was_sent(
    client, coinbase, waits, monkeypatch
):
    order = {"client_order_id": "1"}
    found = socket.getaddrinfo(*coinbase.server_address, type=socket.SOCK_STREAM)
    outcomes = [OSError("unreachable")] * 4 + [found] * 2  # connecting asks as well
    look_up = unittest.mock.Mock(side_effect=outcomes)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    failed = "the connection failed; check network, host and proxy"
    message = transport_error(lambda: client.post(ORDERS, json=order))
    assert message == f"{coinbase.host}: {failed}"
    assert client.post(ORDERS, json=order).status == 200
    assert coinbase.executed == ["1"]


def test_order_is_never_executed_twice_whatever_breaks_when(answering, waits):
    """The connection is cut after each octet of the answer."""
    order = {"client_order_id": "1", "product_id": "BTC-USD"}
    for octets in range(len(EMPTY_OBJECT)):
        answering.answers = [EMPTY_OBJECT[:octets]]
        with pytest.raises(cdp_jwt.TransportError, match="client_order_id"):
            answering.client(retries=3).post(ORDERS, json=order)
        assert (len(answering.server.requests), waits) == (1, [])


def test_order_is_never_executed_twice_once_a_part_of_it_was_sent(wire, trust, waits):
    server = wire(lambda wire, connection: connection.recv(1000))
    client = calling(server, trust, retries=3)
    order = b'"%s"' % (b"x" * 20_000_000)  # more than a connection holds unread
    found = transport_error(lambda: client.post(ORDERS, json=order))
    assert found == f"{server.host}: it closed the connection; {UNKNOWN}"
    assert (server.connections, waits) == (1, [])


def test_order_is_never_executed_twice_after_a_timeout(wire, trust, waits):
    server = wire(stall_headers)
    client = calling(server, trust, timeout=1, retries=3)
    found = transport_error(lambda: client.post(ORDERS, json={}))
    late = "it took longer than the timeout; raise the timeout"
    assert found == f"{server.host}: {late}; {UNKNOWN}"
    assert (len(server.requests), waits) == (1, [])


def test_order_of_unknown_outcome_is_not_to_be_tried_again_later(fake):
    client = fake.client(answered(503, b"busy", Retry_After="99"))
    found = str(refusal_of(lambda: client.post(ORDERS)))
    assert found == f"HTTP 503: busy; {UNKNOWN}"


def test_order_that_was_carried_out_is_none_to_repeat_for_its_answer(client, coinbase):
    """A program that tries again where no outcome is unknown must not do so here."""
    for method, unknown in (("GET", False), ("HEAD", False), ("POST", True)):
        coinbase.faults.append(status(200, b"OK"))
        with pytest.raises(cdp_jwt.TransportError) as caught:
            client.request(method, "/x").json()
        assert caught.value.outcome_unknown is unknown


@pytest.mark.parametrize(
    ("method", "when", "words", "kept"),
    [
        ("POST", "sending", (UNKNOWN,), 0),
        ("POST", "sent", (UNKNOWN,), 0),
        ("GET", "sent", (), 0),
        ("POST", "connected", (), 0),
        ("POST", "waiting", (), 1),  # for the next try, as the first was refused
    ],
)
def test_interrupt_says_whether_the_outcome_is_unknown(
    client, coinbase, trust, monkeypatch, method, when, words, kept
):
    target = {
        "sending": (ssl.SSLSocket, "sendall"),
        "sent": (cdp_jwt._Octets, "readinto"),
        "connected": (trust, "wrap_socket"),
        "waiting": (time, "sleep"),
    }[when]
    monkeypatch.setattr(*target, unittest.mock.Mock(side_effect=KeyboardInterrupt))
    coinbase.faults.append(status(429))
    with pytest.raises(KeyboardInterrupt) as caught:
        client.request(method, "/x")
    assert (caught.value.args, len(idle_sockets(client))) == (words, kept)


def test_log_handler_that_fails_is_no_reason_to_send_again(
    client, coinbase, caplog, monkeypatch
):
    def fail(record: logging.LogRecord) -> None:
        if record.getMessage().startswith("HTTP 200"):
            raise OSError("disk full")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(caplog.handler, "emit", fail)
    with pytest.raises(OSError, match="disk full"):
        client.get("/echo")
    assert len(coinbase.seen) == 1


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
FAR = "Fri, 31 Dec 99999 23:59:59 GMT"
ODD = ["-1", "nan", "1e3", "", "soon", "\u0663", "9999999", FAR]


@pytest.fixture
def new_york(monkeypatch) -> Iterator[None]:
    """Local time, where it can be set."""
    set_zone = getattr(time, "tzset", lambda: None)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        set_zone()
        yield
    set_zone()


@pytest.mark.parametrize("value", [*SOON, *LATE, *ODD])
def test_retry_after_is_heeded_within_the_timeout(fake, waits, new_york, value):
    """Of what is neither a number of seconds nor a date, nothing is made."""
    client = fake.client(answered(429, b"slow down", Retry_After=value), b"")
    if value in LATE:
        found = str(refusal_of(lambda: client.post("/x")))
        assert found == f"HTTP 429: slow down; try again in {LATE[value]} s"
        assert waits == []
    else:
        assert client.post("/x").status == 200
        assert waits == [pytest.approx(SOON.get(value, 0.25), abs=1e-4)]


@examples(100)
@given(
    header=st.sampled_from(["Retry-After", "Date"]),
    value=st.text(max_size=9) | mutations([*SOON, *LATE, *ODD]),
    code=st.sampled_from([401, 429, 503]),
)
def test_any_retry_after_or_date_is_a_wait_within_the_timeout(
    fake, waits, header, value, code
):
    del waits[:]
    client = fake.client(answered(code, **{header: value}), b"")
    with contextlib.suppress(cdp_jwt.ApiError):
        assert client.get("/x").status == 200
    assert [0 <= wait <= 10 for wait in waits] in ([], [True])


def test_wait_doubles_with_each_try_up_to_64_s(fake, waits):
    """However many tries there were before."""
    at_once, slow = answered(429, Retry_After="0"), answered(429, b"slow down")
    client = fake.client(*[at_once] * 1100, slow, retries=5000, timeout=60)
    assert str(refusal_of(lambda: client.get("/x"))) == "HTTP 429: slow down"
    client = fake.client(*[slow] * 11, retries=10, timeout=600)
    refusal_of(lambda: client.get("/x"))
    assert waits == [0] * 1100 + [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 64]


@pytest.mark.parametrize("place", [(socket, "getaddrinfo"), (time, "sleep")])
def test_no_try_is_begun_after_the_time_of_the_call(
    client, coinbase, monkeypatch, place
):
    """Looking up a name, or a wait in suspend, may take longer than is left."""
    original = getattr(*place)
    now = time.monotonic

    def take_long(*arguments, **options):
        monkeypatch.setattr(time, "monotonic", lambda: now() + 100)
        return original(*arguments, **options)

    monkeypatch.setattr(*place, take_long)
    coinbase.faults.append(status(429))
    with pytest.raises(cdp_jwt.TransportError) as caught:
        client.post("/echo")
    late = "it took longer than the timeout; try again, or raise the timeout"
    assert str(caught.value) == f"{coinbase.host}: {late}"
    assert caught.value.outcome_unknown is False
    assert len(coinbase.seen) == (place == (time, "sleep"))


def test_call_shares_the_deadline_of_the_one_before(client, coinbase):
    """As the one that asks for a key's permissions does."""
    assert (
        client._deliver(
            cdp_jwt._Target("GET", client._host, ACCOUNTS), None, time.monotonic() + 5
        ).status
        == 200
    )
    late = "it took longer than the timeout"
    assert late in transport_error(
        lambda: client._deliver(
            cdp_jwt._Target("GET", client._host, "/x"), None, time.monotonic()
        )
    )
    assert len(coinbase.seen) == 1


# The clock


def http_date(moment: int) -> str:
    return email.utils.formatdate(moment, usegmt=True)


CLOCKS = [  # status, the server's time less NOW (it is NOW + 0.9 here), signed again?
    (401, -(10**6), 1), (401, -6, 1), (401, -5, 0), (401, 114, 0), (401, 115, 1),
    (401, 86_400, 1), (401, 86_401, 0), (403, 115, 0),
]  # fmt: skip


@pytest.mark.parametrize(("code", "ahead", "again"), CLOCKS)
def test_401_is_signed_again_if_its_date_is_outside_of_the_token(
    fake, caplog, code, ahead, again
):
    """Not a day ahead: who passes for the server could keep a token for next week."""
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


# Hints: what the evidence shows


def hints_of(client: cdp_jwt.Client, url: str = ACCOUNTS) -> list[str]:
    return [*refusal_of(lambda: client.get(url)).hints]


POSSIBLE = "possible: the key was deleted, or lacks a permission (other causes are ruled out: signature verified here, clock compared, uri equal to the request)"
UNCOMPARED = POSSIBLE.replace("clock compared, ", "")
TRY_CHECK = "`check` tests key, clock, network and permissions"
UNKNOWN_PATH = "the path is under neither /api/v3/brokerage nor /v2: "
WRONG_CLOCK = "by the server's clock this token was not valid; set this machine's clock"
LACKS_PERMISSION = (
    "the key lacks a permission for this; `check` lists those that it has"
)
USED_UP = "the rate limit is used up"
RATES_SAID = (
    f"{USED_UP}: x-ratelimit-limit 30, x-ratelimit-remaining 0, x-ratelimit-reset 1"
)
REFUSAL = b"Unauthorized"
SCOPES = {"message": "Missing required scopes"}
IN_TIME, TOO_LATE = http_date(NOW), http_date(NOW + 10**6)
RATE_HEADERS = {
    "x_ratelimit_limit": 30,
    "x_ratelimit_remaining": 0,
    "x_ratelimit_reset": 1,
}
LONG_TEXT = "\x1b[2J" + "9" * 999
REFUSALS = [
    (answered(401, REFUSAL, Date=IN_TIME), [POSSIBLE]),
    (answered(403, REFUSAL, Date=IN_TIME), [POSSIBLE]),
    (answered(403, REFUSAL, Date=TOO_LATE), [POSSIBLE]),
    (answered(401, REFUSAL, Date=TOO_LATE), [WRONG_CLOCK]),
    (answered(401, REFUSAL, Date="soon"), [UNCOMPARED]),
    (answered(401, REFUSAL), [UNCOMPARED]),
    (answered(401, SCOPES), [LACKS_PERMISSION]),
    (answered(403, SCOPES), [LACKS_PERMISSION]),
    (answered(404, SCOPES), []),
    (answered(429), [USED_UP]),
    (answered(429, **RATE_HEADERS), [RATES_SAID]),
    (answered(429, x_ratelimit_reset=LONG_TEXT), [f"{USED_UP}: x-ratelimit-reset \\x1b[2J{'9' * 275}"]),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "hints"), REFUSALS)
def test_hints_say_what_the_answer_shows(fake, answer, hints):
    """And no more of a server's text than fits into a line."""
    assert hints_of(fake.client(answer, retries=0)) == hints


OTHER_ADDRESS = "possible: this machine's IP address is not one it allows: 203.0.113.7"
DOUBTED = {
    "none": (None, ["no token was sent, as no key was given"]),
    "name": (("my-key", SEC1), [UNKNOWN_NAME]),
    "bare seed": ((UUID, BARE_SEED), [SEED]),
    "allow list": ((UUID, SEC1, ["203.0.113.7"]), [OTHER_ADDRESS, POSSIBLE]),
}


@pytest.mark.parametrize("what", DOUBTED)
def test_hints_name_what_the_key_is_doubted_for(fake, what):
    arguments, hints = DOUBTED[what]
    key = cdp_jwt.ApiKey(*arguments) if arguments else None
    assert hints_of(fake.client(answered(401, REFUSAL, Date=IN_TIME), key=key)) == hints


EMPTY_SEGMENT = "the path has an empty segment; is an id missing? "
HOSTS_AND_PATHS = [
    (404, "api.coinbase.com/api/v3/accounts", [f"{UNKNOWN_PATH}/api/v3/accounts"]),
    (401, "api.coinbase.com/api/v3/accounts", [f"{UNKNOWN_PATH}/api/v3/accounts"]),
    (400, "api.coinbase.com/api/v3/accounts", []),
    (404, "api.coinbase.com/v2//x?a=1", [f"{EMPTY_SEGMENT}/v2//x"]),
    (401, "api.coinbase.com/v2", [POSSIBLE]),
    (401, "api.exchange.coinbase.com/x", [f"api.exchange.coinbase.com {NO_CDP_KEYS}"]),
    (403, "www.coinbase.com/", [f"www.coinbase.com {NO_CDP_KEYS}"]),
    (401, "undefined/x", ["the host undefined is no host of Coinbase's"]),
    (401, "a.example:8443/x", [POSSIBLE]),
]


@pytest.mark.parametrize(("code", "place", "hints"), HOSTS_AND_PATHS)
def test_hints_name_host_and_path_first(fake, code, place, hints):
    client = fake.client(answered(code, REFUSAL, Date=IN_TIME))
    assert hints_of(client, f"https://{place}") == hints


# Pages


def test_pages_follow_each_kind_of_list_to_its_end(client, coinbase):
    fills = "/api/v3/brokerage/orders/historical/fills"
    lists = {ACCOUNTS: "accounts", fills: "fills", "/v2/accounts": "data"}
    for path, field in lists.items():
        assert [page.json()[field] for page in client.pages(path)] == [[0], [1], [2]]
    assert len(coinbase.seen) == 9
    assert coinbase.refusals == []


def test_pages_of_a_url_stay_at_its_host_and_take_next_uri_as_it_is(fake):
    client = fake.client({"pagination": {"next_uri": "/v2?a=1"}}, {"cursor": "2"}, {})
    assert len([*client.pages("https://a.example/x", {"limit": 1})]) == 3
    paths = ["/x?limit=1", "/v2?a=1", "/v2?a=1&cursor=2"]
    assert [each.full_url for each in fake.requests] == [
        f"https://a.example{path}" for path in paths
    ]


def test_pages_keep_the_other_parameters(client, coinbase):
    list(client.pages(ACCOUNTS, {"limit": 1, "product_ids": ["A", "B"]}))
    paths = [seen.path for seen in coinbase.seen]
    start = f"{ACCOUNTS}?limit=1&product_ids=A&product_ids=B"
    assert paths == [start, f"{start}&cursor=1", f"{start}&cursor=2"]


def test_pages_refuse_a_cursor_in_the_path(fake):
    """There it would stay, beside that of each next page."""
    client = fake.client({})
    for query in ("cursor=1", "limit=1&cursor=", "%63ursor=1&limit=1"):
        for path in (f"/x?{query}", f"https://a.example/x?{query}"):
            with pytest.raises(cdp_jwt.InvalidRequestError) as caught:
                next(client.pages(path))
            assert str(caught.value) == "the path has a cursor; give it in params"
    assert len([*client.pages("/x?a_cursor=1&x=cursor")]) == 1


LISTS = [  # the pages of a list, and whether some may be missing
    ([{"cursor": "a", "has_next": True}] * 2, True),
    ([{"cursor": "a"}, {"cursor": "b"}, {"cursor": "a"}], True),
    ([{"pagination": {"next_uri": "/x?a=1"}}] * 2, True),
    ([{"cursor": "", "has_next": True}], True),
    ([{"has_next": True}], True),
    ([{"cursor": "a", "has_next": False}], False),
    ([{"cursor": None}], False),
    ([{"cursor": ["a"]}], False),
    ([[]], False),
    ([7], False),
    ([{"pagination": None}], False),
    ([{"pagination": {"next_uri": ""}}], False),
]


@pytest.mark.parametrize(("contents", "is_incomplete"), LISTS)
def test_pages_end_at_a_repeated_or_missing_cursor(
    fake, caplog, contents, is_incomplete
):
    pages = fake.client(*contents).pages("/x")
    assert [page.json() for page in pages] == contents
    warning = "the list has no new cursor, and may be incomplete"
    assert caplog.messages == [warning] * is_incomplete


def test_pages_refuse_to_go_to_another_host(fake):
    for place in ("https://evil.example/x", "//evil.example/x", "x", 7, "/a b"):
        pages = fake.client({"pagination": {"next_uri": place}}).pages("/x")
        next(pages)
        assert (
            transport_error(pages.__next__) == "next_uri is not a path on the same host"
        )


@examples(50)
@given(
    target=URLS | PATHS | JSON_VALUES | st.just(ACCOUNTS),
    cursor=JSON_VALUES | st.text(max_size=9),
)
def test_any_page_leads_to_the_same_host_or_nowhere(fake, target, cursor):
    del fake.requests[:]
    page = {"pagination": {"next_uri": target}, "cursor": cursor}
    client = fake.client(page, {}, host="a.example")
    with contextlib.suppress(cdp_jwt.CdpError):
        assert 1 <= len(list(client.pages("/x"))) <= 2
    for request in fake.requests:
        path = request.selector.partition("?")[0]
        assert request.host == "a.example"
        assert path in ("/x", str(target).partition("?")[0])


PLACES_TO_GO_ON = [  # the server's text: escaped, and no longer than 300 characters
    ({"cursor": "\x1b[2J\nhint: x"}, r"cursor=\x1b[2J\nhint: x"),
    ({"cursor": "x" * 60_000}, f"cursor={'x' * 293}"),
    ({"cursor": 7}, "cursor=7"),
    ({"pagination": {"next_uri": "/v2/x?a=1"}}, "/v2/x?a=1"),
]


@pytest.mark.parametrize(("page", "place"), PLACES_TO_GO_ON)
def test_page_that_fails_says_where_to_go_on(fake, page, place):
    pages = fake.client({"cursor": "1"}, page, answered(400, b"broken")).pages("/x")
    assert [next(pages).status for _ in range(2)] == [200, 200]
    found = str(refusal_of(lambda: next(pages)))
    assert found == f"HTTP 400: broken; to go on: {place}"


def test_page_that_is_not_utf_8_is_refused(fake):
    """Line breaks are taken out of a page of the command, and could not be of this."""
    for encoding in ("utf-16", "utf-16-le", "utf-32", "latin-1"):
        page = '{"a": "é\u010a"}'.encode(encoding, "replace")
        found = transport_error(fake.client(page).pages("/x").__next__)
        assert found == "this answer (HTTP 200) is not JSON; see body"


@needs_cpython
def test_pages_remember_neither_pages_nor_cursors(fake):
    """Python itself remembers the last 128 URLs."""
    import tracemalloc

    client = fake.client()
    fake.answers = ({"cursor": f"{number}{'x' * 20_000}"} for number in range(240))
    held = []
    tracemalloc.start()
    for _ in itertools.islice(client.pages("/x"), 239):
        del fake.requests[:]
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[-1] - held[139] < 1_000_000


# The auth hook of requests and httpx


def test_hook_signs_each_request_of_requests_and_httpx(coinbase, ca_file, trust):
    url = f"https://{coinbase.host}/echo?a=x"
    with requests.Session() as session, httpx.Client(verify=trust) as client:
        session.auth = client.auth = key_of()
        for method in ("GET", "POST"):
            assert session.request(method, url, verify=ca_file).status_code == 200
            assert client.request(method, url).status_code == 200

    async def call() -> int:
        async with httpx.AsyncClient(auth=key_of("EdDSA"), verify=trust) as client:
            return (await client.get(url)).status_code

    assert asyncio.run(call()) == 200
    assert (len(coinbase.seen), coinbase.refusals) == (5, [])


def test_hook_refuses_plain_http():
    for call in (requests.get, httpx.get):
        with pytest.raises(cdp_jwt.InvalidRequestError, match="not an https URL"):
            call("http://127.0.0.1:1/x", auth=key_of())


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


def call_to(server: Coinbase, method="GET", path=ACCOUNTS) -> list[str]:
    """A command that sends a request to the server."""
    return [method, path, "--call", "--host", server.host]


@pytest.fixture
def piped(monkeypatch) -> Callable[..., tuple[int, bytes, str]]:
    """The command between pipes, as on Windows, where lines of text end in CR LF."""

    def call(*words: str, stdin: bytes = b"", encoding: str = "utf-8"):
        streams = {name: io.BytesIO() for name in ("stdout", "stderr")}
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            for name, stream in streams.items():
                wrapper = io.TextIOWrapper(stream, encoding, newline="\r\n")
                patch.setattr(sys, name, wrapper)
            code = cdp_jwt.main(list(words))
            sys.stdout.flush()
            sys.stderr.flush()
            out, err = (stream.getvalue() for stream in streams.values())
        return code, out, err.decode(encoding).replace("\r\n", "\n")

    return call


@pytest.fixture
def copied(tmp_path) -> pathlib.Path:
    """The file alone, under another name, in a directory with an awkward name."""
    folder = tmp_path / "a folder, ключ"
    folder.mkdir()
    return pathlib.Path(shutil.copy(MODULE, folder / "signer.py"))


def process(command: list[object], **options) -> subprocess.CompletedProcess:
    environment = {"PATH": os.environ["PATH"], **options.pop("env", {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    words = [str(word) for word in command]
    return subprocess.run(
        words, check=False, env=environment, text=True, timeout=60, **options
    )


@pytest.fixture
def program(monkeypatch, capsys) -> Callable[..., Result]:
    """The file run as a program within this process, so that its lines are counted."""

    def call(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", [str(MODULE), *words])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(MODULE), run_name="__main__")
        return Result(end.value.code, *capsys.readouterr())

    return call


# Where data and messages go

EVIL_BODY = b'\x1b[2J\x1b]0;owned\x07\x9b3A{\r\n\t"\xc3\xa9": \xff\r}'


@pytest.mark.parametrize("body", [b'{"a":\n  1.0}\n\n', b"", EVIL_BODY])
def test_body_goes_through_a_pipe_to_the_octet(piped, online, body):
    online.faults += [status(200, body)] * 2
    assert piped(*call_to(online)) == (0, body, "")
    with contextlib.redirect_stdout(io.StringIO()) as out:  # which takes text alone
        cdp_jwt.main(call_to(online))
    assert out.getvalue() == body.decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("body", ["Unauthorized", "Unauthorized\n", ""])
def test_error_after_a_body_starts_on_a_line_of_its_own(
    piped, online, tmp_path, monkeypatch, body
):
    """In the mail of cron, where both streams are one; apart, neither is changed."""
    online.faults += [status(400, body.encode())] * 3
    error = f"cdp_jwt: error: HTTP 400: {body.strip() or 'no message'}\n"
    assert piped(*call_to(online)) == (1, body.encode(), error)
    mail = tmp_path / "mail"
    with open(mail, "w") as out, open(mail, "a") as err, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        cdp_jwt.main(call_to(online))
    line_break = "\n" if body == "Unauthorized" else ""
    assert mail.read_text() == f"{body}{line_break}{error}"
    monkeypatch.setattr(sys, "stderr", None)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cdp_jwt.main(call_to(online)) == 1
    assert out.getvalue() == body


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "cp932", "ascii"])
def test_console_of_any_encoding_gets_escaped_text(piped, online, frozen, encoding):
    token = made(claims={**CLAIMS, "iss": "☃\x1b"})
    code, out, err = piped("decode", token, encoding=encoding)
    assert (code, err) == (1, "")
    assert rb"problem  iss is '\u2603\x1b'; expected 'cdp'" in out
    online.faults.append(status(400, {"message": "☃\x1b"}))
    code, out, err = piped(*call_to(online), encoding=encoding)
    assert (code, err) == (1, "cdp_jwt: error: HTTP 400: \\u2603\\x1b\n")


@needs_modes
def test_warning_of_a_key_does_not_stop_a_command(run, with_key, monkeypatch):
    with_key.chmod(0o644)
    warning = f"{with_key}: group or others can read this key; chmod 600 it"
    result = run("ws")
    assert (result.code, result.err) == (0, f"cdp_jwt: warning: {warning}\n")
    monkeypatch.setattr(sys, "stderr", None)  # closed: not among the data instead
    assert verified(run("ws").out.strip(), P256)


def test_command_leaves_warnings_of_other_threads_to_their_log(
    run, online, caplog, monkeypatch
):
    """The server is one of this process: it logs in a thread of its own."""

    def warn(handler: Handler) -> None:
        logging.getLogger("cdp_jwt").warning("of another thread")
        handler.answer(200, {})

    logger = logging.getLogger("cdp_jwt")
    with caplog.at_level(logging.DEBUG, "cdp_jwt"):
        assert run(*call_to(online)).err == ""
    before = (logger.level, [*logger.handlers])
    online.faults += [warn, warn]
    result = run(*call_to(online), "--verbose")
    assert "of another thread" in caplog.text
    assert "cdp_jwt: note: HTTP 200, 2 bytes\n" in result.err
    assert "of another thread" not in result.err
    assert (logger.level, [*logger.handlers]) == before
    monkeypatch.setattr(logger, "propagate", False)  # as where no log is set up
    assert run(*call_to(online)).err == "of another thread\n"


# A terminal: what its screen shows, not what was sent to it

needs_terminal = pytest.mark.skipif(
    not hasattr(os, "openpty") or not shutil.which("sh"), reason="needs a terminal"
)


class Screen:
    """A terminal of 80 columns and 24 lines: what it shows, and all it has shown."""

    def __init__(self, typed: str = "") -> None:
        import pyte

        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self._typed = typed  # once it is waited for
        self._master, self.end = os.openpty()
        self.seen: list[list[str]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # Linux: EIO once the other end is closed
            while octets := os.read(self._master, 65536):
                # In pieces, so that nothing is shown and erased unseen.
                for piece in re.split(rb"(?=[\r\n\x1b])", octets):
                    self._stream.feed(piece)
                    self.seen.append(self.lines)
                if self._typed and self.has_shown("Ctrl-D"):
                    os.write(self._master, self._typed.encode())
                    self._typed = ""

    def close(self) -> None:
        os.close(self.end)
        self._reader.join()
        os.close(self._master)

    @property
    def lines(self) -> list[str]:
        """The lines up to the last that is not empty."""
        shown = "\n".join(line.rstrip() for line in self.screen.display)
        return shown.rstrip("\n").split("\n")

    def has_shown(self, text: str) -> bool:
        return any(text in line for lines in self.seen for line in lines)


@pytest.fixture
def terminal(monkeypatch) -> Callable[..., tuple[int, Screen]]:
    """The command in a terminal; `out` is where its standard output goes instead."""

    def show(*words: str, out=None, encoding="utf-8", typed=""):
        screen = Screen(typed)
        with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
            stack.callback(screen.close)
            for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
                end = os.dup(screen.end)
                stream = stack.enter_context(open(end, mode, encoding=encoding))
                patch.setattr(sys, name, stream)
            patch.setattr(sys, "stdout", out or sys.stdout)
            code = cdp_jwt.main(list(words))
        return code, screen

    return show


@needs_terminal
def test_terminal_shows_a_hint_below_a_token(terminal, with_key):
    _, shown = terminal("GET", ACCOUNTS)
    *token, last = shown.lines
    assert verified("".join(token), P256)
    hint = "this is a token for the request; --call sends the request"
    assert last == f"cdp_jwt: hint: {hint}"
    _, shown = terminal("ws")
    assert not shown.has_shown("hint")


@needs_terminal
@pytest.mark.parametrize(("encoding", "letter"), [("utf-8", "é"), ("ascii", r"\xe9")])
def test_terminal_is_not_moved_by_a_body(terminal, online, encoding, letter):
    online.faults += [status(200, EVIL_BODY), status(200, b"")]
    _, shown = terminal(*call_to(online), encoding=encoding)
    first = r"\x1b[2J\x1b]0;owned\x07\x9b3A{"
    assert shown.lines == [first, rf'        "{letter}": \xff\r}}']
    assert (shown.screen.title, shown.screen.cursor.x) == ("", 0)
    _, shown = terminal(*call_to(online))
    assert (shown.lines, shown.screen.cursor.y) == ([""], 0)


@needs_terminal
def test_terminal_is_not_moved_by_the_name_of_a_file(terminal, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/tmp/\x1b[2J\x07.py"])
    code, shown = terminal("GET")
    assert code == 2
    assert shown.lines == [
        r"usage: python \x1b[2J\x07.py METHOD PATH [--export | --header | --call]",
        r"       python \x1b[2J\x07.py ws [CHANNEL [PRODUCT ...]] | decode [TOKEN] | check",
        "Print a token for one Coinbase request, or send it; --help says more.",
        r"\x1b[2J\x07: error: GET needs a PATH",
    ]
    path = write_private(tmp_path / "evil\x1b[2J\n.json", "{")
    code, shown = terminal("ws", "--key-file", str(path))
    assert r"evil\x1b[2J\n.json: this is damaged JSON" in "".join(shown.lines)


@needs_terminal
def test_terminal_is_told_what_is_waited_for(terminal):
    for command, what in (
        ("decode", "a token"),
        ("decode -", "a token"),
        ("POST /x --call --data -", "JSON"),
        ("ws --key-file -", "a key file"),
    ):
        _, shown = terminal(*command.split(), typed="{\n\x04")
        line = f"type or paste {what}, then Ctrl-D on a line of its own"
        assert shown.lines[0] == f"cdp_jwt: hint: {line}"
    _, shown = terminal("POST", "/x", "--call", "--data", "@missing.json")
    assert not shown.has_shown("hint")


def answer_page_2(server: Coinbase, respond: Callable[[Handler], None]) -> None:
    """Of a list of nine pages that are counted from 0."""

    def page(handler: Handler) -> None:
        is_asked = handler.query.get("cursor") == "2"
        return respond(handler) if is_asked else server.accounts(handler)

    server.page_count = 9
    server.routes["GET", ACCOUNTS] = (True, page)


@needs_terminal
def test_count_of_pages_is_shown_beside_a_file_and_erased(terminal, online, tmp_path):
    with open(tmp_path / "pages", "w+") as file:
        code, shown = terminal(*call_to(online), "--paginate", out=file)
        file.seek(0)
        documents = [json.loads(line)["accounts"] for line in file]
    counts = [lines for lines, _ in itertools.groupby(shown.seen) if lines != [""]]
    assert counts == [["1 page"], ["2 pages"], ["3 pages"]]
    assert (code, shown.lines, shown.screen.cursor.x) == (0, [""], 0)
    assert documents == [[0], [1], [2]]


@needs_terminal
def test_count_of_pages_is_erased_before_a_message(terminal, online, tmp_path):
    answer_page_2(online, status(400, {"message": "broken"}))
    with open(tmp_path / "pages", "w") as file:
        _, shown = terminal(*call_to(online), "--paginate", out=file)
    assert shown.has_shown("2 pages")
    assert shown.lines == ["cdp_jwt: error: HTTP 400: broken; to go on: cursor=2"]


@needs_terminal
def test_count_of_pages_is_never_among_the_data(terminal, online, copied):
    """A pipe may lead to the same terminal, which nobody can know."""
    words = [*call_to(online), "--paginate"]
    _, direct = terminal(*words)
    script = f'"{sys.executable}" signer.py {" ".join(words)} | head -3'
    piped = Screen()
    streams = {"stdin": piped.end, "stdout": piped.end, "stderr": piped.end}
    process(["sh", "-c", script], cwd=copied.parent, env=os.environ, **streams)
    piped.close()
    for shown in direct, piped:
        pages = [json.loads(line)["accounts"] for line in shown.lines]
        assert pages == [[0], [1], [2]]
        assert not shown.has_shown("page")
    _, beside_a_stream_of_text = terminal(*words, out=io.StringIO())
    assert beside_a_stream_of_text.seen == []


def test_windows_nul_is_no_terminal(run, with_key, monkeypatch):
    """It says that it is one, but has no size."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("GET", ACCOUNTS).err.startswith("cdp_jwt: hint: ")
    monkeypatch.setattr(sys, "platform", "win32")
    assert run("GET", ACCOUNTS).err == ""


# Help

HELP = [  # what it is asked of, options that it shows, and some that it does not
    ([], set(cdp_jwt.NAMED) - {"--version"}, set()),
    (["frob"], set(cdp_jwt.NAMED) - {"--version"}, set()),
    (["GET", "/x"], {"--export", "--header", "--not-before", "--host", "--call"}, {"--data", "--offline"}),
    (["post"], {"--export"}, {"--data"}),
    (["POST", "--call"], {"--data", "--param", "--paginate", "--timeout"}, {"--export", "--not-before"}),
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
    assert "\n    --data JSON         the body" in text  # below --call
    assert "--version" in text
    *channels, last = cdp_jwt.CHANNELS
    of_channel = " ".join(run("ws", "user", "--help").out.split())
    assert f"{', '.join(channels)} and {last}." in of_channel
    assert run("--version") == Result(0, f"cdp_jwt {cdp_jwt.__version__}\n", "")


# Words and options that are wrong: how it is called is shown, and exit code 2


def misused(message: str) -> Result:
    """What a wrong command line is answered with: how to call it, and what is wrong."""
    usage = cdp_jwt.SYNOPSIS.format("python cdp_jwt.py")
    return Result(2, "", f"{usage}cdp_jwt: error: {message}\n")


CANARY = "c4n4ryc4n4ryc4n4ry"
EXPECTED_METHODS = "expected one of DELETE, GET, HEAD, PATCH, POST, PUT"
MISSPELT = [
    ([], "a command is missing"),
    (["GTE", "/x"], f"unknown method GTE; {EXPECTED_METHODS}"),
    (["G3T", "/x"], f"unknown method; {EXPECTED_METHODS}"),
    ([CANARY], f"unknown method; {EXPECTED_METHODS}"),
    (["chekc"], "unknown command chekc; did you mean check?"),
    (["dec0de", "x"], "unknown command; did you mean decode?"),
    (["help"], "unknown command help; did you mean --help?"),
    (["/x"], "a METHOD is missing before PATH, such as GET"),
    (["https://api.coinbase.com/x"], "a METHOD is missing before PATH, such as GET"),
    ([made()], "a command is missing; `decode TOKEN` says what is in a token"),
    (["post", "--call"], "POST needs a PATH"),
    (["GET", "/x", PORTAL], "GET takes one PATH"),
    (["check", "x"], "check takes no argument"),
    (["decode", "a", "b"], "decode takes one TOKEN"),
    (["GET", "/x", "--key"], "unknown option --key; did you mean --key-file?"),
    (["GET", "/x", "-k"], "unknown option -k; did you mean --key-file?"),
    (["GET", "/x", "--Call"], "unknown option --Call; did you mean --call?"),
    (["GET", "/x", "--exprot"], "unknown option --exprot; did you mean --export?"),
    (["GET", "/x", "--key_file"], "unknown option --key_file; did you mean --key-file?"),
    (["GET", "/x", "--frob"], "unknown option --frob"),
    (["GET", "/x", f"--frob={CANARY}"], "unknown option --frob"),
    (["GET", "/x", "-QwErTyUiOp"], "unknown option"),
    (["GET", "/x", f"--{'a' * 21}"], "unknown option"),
    (["GET", "/x", f"--{CANARY}"], "unknown option"),
    ([*SEC1.splitlines()[:2], "/x"], "unknown option"),
    (["GET", "/x", "–call"], "an option begins with two plain dashes: --"),
    (["GET", "/x", "--host"], "--host needs HOST"),
    (["GET", "/x", "--host", "--call"], "--host needs HOST"),
    (["GET", "/x", f"--export={CANARY}"], "--export takes no value"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), MISSPELT)
def test_misspelt_command_is_refused_with_what_was_meant(run, with_key, words, message):
    assert run(*words) == misused(message)


def test_installed_command_speaks_under_its_own_name(run, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/cdp-jwt"])
    error = run("GET").err
    assert error.startswith("usage: cdp-jwt METHOD PATH ")
    assert error.endswith("\ncdp-jwt: error: GET needs a PATH\n")


CALL_DATA = ["--call", "--data", "{}"]
ONE_INPUT = "only one of key file, data and token can be standard input"
PAGINATE = "--paginate goes with GET, and without --data"
WHEN = "--not-before takes +SECONDS or 2026-11-22T15:00:00Z"
COMBINATIONS = [
    *[(["GET", "/x", name], f"{name} needs --call") for name in ("--paginate", "--include", "--no-auth")],
    (["GET", "/x", "--timeout", "1"], "--timeout needs --call"),
    (["POST", "/x", "--data", "{}"], "--data needs --call"),
    *[(["GET", "/x", "--call", name], f"{name} does not go with --call") for name in ("--export", "--header")],
    (["GET", "/x", "--call", "--not-before", "+5"], "--not-before does not go with --call"),
    (["GET", "/x", "--offline"], "--offline does not go with METHOD PATH"),
    (["ws", "--host", "a.example"], "--host does not go with ws"),
    (["ws", "user", "--header"], "--header does not go with ws CHANNEL"),
    (["decode", "a", "--export"], "--export does not go with decode"),
    (["check", "--data", "{}"], "--data does not go with check"),
    (["GET", "/x", "--export", "--header"], "--export and --header exclude each other"),
    (["GET", "/x", *CALL_DATA], "--param, not --data, for GET"),
    (["POST", "/x", "--call", "--paginate"], PAGINATE),
    (["GET", "/x", "--paginate", *CALL_DATA], PAGINATE),
    (["ws", "--key-name", NAME], "--key-name goes with --key-file or CDP_KEY_FILE"),
    (["check", "--offline", "--key-name", NAME], "--key-name goes with --key-file or CDP_KEY_FILE"),
    (["POST", "/x", "--call", "--data", "-", "--key-file", "-"], ONE_INPUT),
    (["POST", "/x", "--call", "--data", "@-", "--key-file", "-"], ONE_INPUT),
    (["decode", "--key-file", "-"], ONE_INPUT),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), COMBINATIONS)
def test_options_that_do_not_go_together_are_refused(run, words, message):
    assert run(*words) == misused(message)


# Values that are wrong: exit code 2 before anything is done

NO_JSON = "--data is not JSON; nothing was sent"
NO_HOST = "the host has '/' at position 2; expected name or name:port"
NO_PATH = "the path does not begin with exactly one /"
WRONG_VALUES = [
    *[(["GET", "/x", "--not-before", text], WHEN) for text in (CANARY, "-5", "+x", "2026-11-22T15:00:00")],
    *[(["GET", "/x", "--call", "--timeout", seconds], "--timeout takes seconds above 0, from 0.001 on")
      for seconds in ("0", "-1", "nan", "10s", "", CANARY)],
    *[(["check", "--timeout", seconds], "--timeout takes seconds below 1000000") for seconds in ("inf", "1000000")],
    (["GET", "/x", "--call", "--param", CANARY], "--param takes NAME=VALUE"),
    *[(["GET", *words], NO_PATH) for words in (["x"], ["x", "--call"], ["x", "--header"], ["--", "--call"])],
    (["GET", "http://api.coinbase.com/x", "--call"], "not an https URL; others could read the token"),
    (["GET", "/x", "--host", ""], "the host is empty"),
    (["GET", "/x", "--call", "--host", "a/b"], NO_HOST),
    (["check", "--host", "a/b"], NO_HOST),
    (["ws", "tickers"], f"unknown channel; expected one of {', '.join(cdp_jwt.CHANNELS)}"),
    *[(["POST", "/x", "--call", "--data", data], NO_JSON)
      for data in ("{", "a=b", "", "[" * 100_000, '{"price": NaN}', "[-Infinity]", "@not-text.json")],
    (["POST", "/x", "--call", "--data", "order.json"], "--data is a file's name; put @ before it; nothing was sent"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), WRONG_VALUES)
def test_wrong_value_is_refused_before_a_key_is_asked_for(
    run, tmp_path, monkeypatch, words, message
):
    """Neither is there a key, nor anything to connect to."""
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


# Tokens


@pytest.mark.parametrize(
    ("words", "uri"),
    [
        (["GET", f"{ACCOUNTS}?limit=1"], f"GET api.coinbase.com{ACCOUNTS}"),
        (["post", "https://localhost/x/y?z=1"], "POST localhost/x/y"),
        (["GET", "/x", "--host", "LOCALHOST:8443"], "GET localhost:8443/x"),
        (["--host=localhost", "--", "GET", "/x"], "GET localhost/x"),
        (["ws"], None),
    ],
)
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


@pytest.mark.parametrize("products", [[], ["BTC-USD", "ETH-USD"]])
def test_websocket_message_is_printed_whole(piped, with_key, products):
    _, out, _ = piped("ws", "ticker", *products)
    assert out.endswith(b"}\n")
    message = json.loads(out)
    assert "uri" not in verified(message.pop("jwt"), P256)
    members = {"type": "subscribe", "channel": "ticker", "product_ids": products}
    assert message == members


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
def test_token_begins_at_the_time_that_is_given(run, with_key, frozen, text, nbf):
    for words in (["GET", ACCOUNTS], ["ws"]):
        claims = verified(run(*words, "--not-before", text).out.strip(), P256)
        assert (claims["nbf"], claims["exp"]) == (nbf, nbf + 120)


def test_token_whose_time_is_over_is_refused(run, with_key, frozen):
    error = "cdp_jwt: error: not_before: such a token would have expired already\n"
    words = ["GET", ACCOUNTS, "--not-before", "2027-01-15T07:57:00Z"]
    assert run(*words) == Result(2, "", error)


def test_key_comes_from_an_option_before_the_environment(
    run, key_file, tmp_path, stdin, monkeypatch
):
    def signer(*words: str) -> str:
        token = run("ws", *words).out.strip()
        is_p256 = jwt.get_unverified_header(token)["alg"] == "ES256"
        return verified(token, P256 if is_p256 else ED25519)["kid"]

    pem_file = str(write_private(tmp_path / "key.pem", PORTAL))
    for variable, value in ADVANCED.items():
        monkeypatch.setenv(variable, value)
    assert signer() == NAME
    assert signer("--key-file", pem_file, "--key-name", UUID) == UUID
    stdin(PORTAL)
    assert signer("--key-file=-", f"--key-name={UUID}") == UUID
    monkeypatch.setenv("CDP_KEY_FILE", pem_file)
    assert signer("--key-name", UUID) == UUID
    assert signer("--key-file", str(key_file)) == NAME


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
    for seen in online.seen:
        assert seen.body == text.encode()
        assert seen.headers["Content-Type"] == "application/json"
    assert len(online.seen) == 3


def test_call_sends_parameters_behind_those_of_the_path(run, online):
    params = ["limit=1", "id=A", "id=B=", "x="]
    words = [word for param in params for word in ("--param", param)]
    result = run("GET", f"https://{online.host}/echo?a=1", "--call", *words)
    assert json.loads(result.out)["path"] == "/echo?a=1&limit=1&id=A&id=B%3D&x="


def test_call_includes_status_and_headers(run, online):
    online.faults.append(status(200, b"{}", X_Evil="\x1b[31m\xe9"))
    lines = run(*call_to(online), "--include").out.splitlines()
    assert (lines[0], lines[-2:]) == ("HTTP/1.1 200", ["", "{}"])
    assert set(lines) >= {"Content-Type: application/json", "X-Evil: \\x1b[31mé"}


def test_call_without_a_token_needs_no_key(run, online, monkeypatch):
    monkeypatch.delenv("CDP_KEY_FILE")
    words = call_to(online, "GET", "/api/v3/brokerage/time")
    assert "epochMillis" in json.loads(run(*words, "--no-auth").out)
    assert online.seen[0].token is None


def test_call_is_verbose_without_the_token(run, online, waits):
    online.faults.append(status(503, b"later"))
    result = run(*call_to(online), "--verbose")
    sent = f"cdp_jwt: note: GET https://{online.host}{ACCOUNTS} with Authorization: Bearer ..., 0 bytes"
    assert result.err.splitlines() == [
        sent,
        "cdp_jwt: note: HTTP 503, 5 bytes",
        "cdp_jwt: note: HTTP 503: later; trying again in 0.25 s",
        sent,
        f"cdp_jwt: note: HTTP 200, {len(result.out)} bytes",
    ]
    assert all(seen.token[:30] not in result.err for seen in online.seen)


def test_call_ends_within_its_timeout(run, with_key, ca_file, wire, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    host = wire(stall_headers).host  # for 20 s
    started = time.monotonic()
    result = run("GET", "/x", "--call", "--timeout", "0.2", "--host", host)
    assert time.monotonic() - started < 10  # the timeout's default
    message = "it took longer than the timeout; try again, or raise the timeout"
    assert result == Result(1, "", f"cdp_jwt: error: {host}: {message}\n")


def test_pages_are_printed_one_a_line_up_to_a_failure(run, online):
    first = b'{"accounts": [0],\r\n "has_next": true,\n "cursor": "1"}'
    online.faults.append(status(200, first))
    answer_page_2(online, status(400, b"broken"))
    result = run(*call_to(online), "--paginate")
    *pages, last = result.out.splitlines()
    assert [json.loads(line)["accounts"] for line in pages] == [[0], [1]]
    error = "cdp_jwt: error: HTTP 400: broken; to go on: cursor=2\n"
    assert (result.code, last, result.err) == (1, "broken", error)
    online.routes["GET", ACCOUNTS] = (True, online.accounts)
    result = run(*call_to(online), "--paginate", "--param", "cursor=2")
    assert json.loads(result.out.splitlines()[0])["accounts"] == [2]


def test_next_page_that_is_no_path_is_the_servers_fault(run, online):
    """The command line was right, and something was done: not code 2."""
    link = {"pagination": {"next_uri": "/v2/a b"}}
    online.faults.append(status(200, link))
    result = run(*call_to(online), "--paginate")
    assert (result.code, json.loads(result.out)) == (1, link)
    assert result.err == "cdp_jwt: error: next_uri is not a path on the same host\n"


@pytest.mark.parametrize(
    ("method", "path", "code", "lacking"),
    [
        ("POST", ORDERS, 401, "can_trade"),
        ("POST", ORDERS, 403, "can_trade"),
        ("POST", ORDERS, 400, ""),
        *[("POST", f"/v2/{word}", 403, "can_transfer") for word in ("transactions", "move_funds", "transfer")],
        ("POST", "/echo", 401, ""),
        ("GET", ORDERS, 401, ""),
    ],
)  # fmt: skip
def test_refused_call_names_a_permission_only_if_it_is_lacking(
    run, online, method, path, code, lacking
):
    """A view-only key that creates an order can get a bare 401."""
    for granted in (False, True, None):
        online.permissions = {"can_trade": granted, "can_transfer": granted}
        online.faults.append(status(code, b"Unauthorized"))
        error, *hints = run(*call_to(online, method, path)).err.splitlines()
        assert error == f"cdp_jwt: error: HTTP {code}: Unauthorized"
        hint = f"the key is valid, but may not do this: its {lacking} is false"
        if lacking and granted is False:
            assert hints == [f"cdp_jwt: hint: {hint}"]
        else:
            assert "its can_" not in "".join(hints)
    # They are asked for only if that can explain anything.
    assert len(online.seen) == (6 if lacking else 3)


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


def test_decode_reads_what_shells_and_the_command_write(piped, with_key, frozen):
    _, message, _ = piped("ws", "user")
    _, header, _ = piped("ws", "--header")
    line = header.decode().replace("\n", "\r\n")
    for octets in (message, header, line.encode("utf-8-sig"), line.encode("utf-16")):
        for words in (["decode"], ["decode", "-"]):
            code, out, err = piped(*words, stdin=octets)
            assert (code, err) == (0, "")
            assert out.splitlines()[-1] == b"ok       no problem found, 114 s left"


def test_decode_finds_a_token_among_words_and_needs_no_key(run, frozen):
    for words in (["Bearer"], ["Authorization:", "Bearer"], ["curl", "--", "-H"]):
        result = run("decode", *words, made())
        assert (result.code, result.err) == (0, "")
        assert f"claims   {json.dumps(CLAIMS)}\n" in result.out
        assert f"signed   not verified: {NO_KEY}\n" in result.out


@pytest.mark.parametrize(
    ("octets", "out", "err"),
    [
        (b"hello", b"problem  no JWT: 1 part, expected 3\n", ""),
        (b"www.coinbase.com", b"problem  no JWT: neither header nor claims set can be read\n", ""),
        (b"", b"", "cdp_jwt: error: the token is empty\n"),
        (b"\xff\x00", b"", "cdp_jwt: error: TOKEN: not text (UTF-8, or UTF-16 with its mark)\n"),
    ],
)  # fmt: skip
def test_decode_of_what_is_no_jwt_ends_with_one_line(piped, with_key, octets, out, err):
    assert piped("decode", stdin=octets) == (1, out, err)


def test_decode_takes_an_octet_that_is_not_utf_8(run, frozen):
    """It is a lone surrogate among the words of the command line."""
    result = run("decode", f"\udcff.{segment(CLAIMS)}.{SIGNATURE}")
    assert result.code == 1
    assert r"the header has '\udcff'; expected base64url" in result.out


def test_decode_shows_the_times_that_are_there(run, frozen):
    """Also those that Windows and systems of 32 bits have no time for."""
    claims = {**without(CLAIMS, "nbf"), "exp": NOW + 40_000_000_000}
    lines = run("decode", made(claims=claims)).out.splitlines()
    exp = "exp      3294-08-03 07:06:40+00:00, +39999999999 s from now"
    assert [exp] == [line for line in lines if re.match("nbf|exp", line)]


def test_decode_says_whether_the_key_at_hand_signed_a_token(run, with_key, frozen):
    def decoded(token: str, *words: str) -> list[str]:
        lines = run("decode", token, *words).out.splitlines()
        return [line for line in lines if re.match(r"signed|problem  (not|kid)", line)]

    for alg in ("ES256", "none", "HS256", "EdDSA"):
        forged = made({**HEADER, "alg": alg})
        assert decoded(forged) == [f"problem  not signed by the key {NAME}"]
    claims = {**CLAIMS, "iss": "not signed"}  # which decides nothing
    token = jwt.encode(claims, P256, "ES256", {"kid": NAME, "nonce": NONCE})
    assert decoded(token) == [f"signed   by {NAME}"]
    # Another one's key is not blamed, unless it is given for this.
    token = cdp_jwt.ApiKey(UUID, SEC1).ws_jwt()
    not_verified = f"signed   not verified: its kid is not {NAME}, the key at hand"
    assert decoded(token) == [not_verified]
    other_name = "problem  kid is not the name of the key at hand"
    assert other_name in decoded(token, "--key-file", str(with_key))


def test_decode_notes_what_the_key_is_doubted_for(run, key_file, frozen):
    seed = base64.b64encode(raw(ED25519)).decode()
    write_private(key_file, {"id": "my-key", "privateKey": seed})
    key = cdp_jwt.ApiKey("my-key", seed)
    result = run("decode", key.rest_jwt("GET", "/v2/user"), "--key-file", str(key_file))
    assert (result.code, result.err) == (0, "")
    assert len(key.warnings) == 2
    assert result.out.splitlines()[4:] == [
        "signed   by my-key",
        *(f"note     {warning}" for warning in key.warnings),
        "ok       no problem found, 114 s left",
    ]


def test_decode_shows_no_private_key(run, stdin):
    """A key file, a JWK and a PEM; or a secret that was taken for the key's name."""
    message = "this is a private key, not a token; it is not shown"
    refusal = Result(1, "", f"cdp_jwt: error: {message}\n")
    key_file = json.dumps({"id": NAME, "privateKey": PORTAL})
    for text in (key_file, json.dumps({"kty": "EC", "d": "x" * 43})):
        assert run("decode", base64.b64encode(text.encode()).decode()) == refusal
    for text in (key_file, SEC1):
        stdin(text)
        assert run("decode") == refusal
    for secret in (SEC1, PORTAL):
        result = run("decode", named(secret))
        assert '"kid": "(looks like a key, and is not shown)"' in result.out
        assert not leaks(result.out + result.err, secret)


# Check


@pytest.fixture
def check(run) -> Callable[..., Result]:
    """The report, with what differs from machine to machine left out."""

    def check(*words: str) -> Result:
        result = run("check", *words)
        out = re.sub(r"(?<=Python )[\d.]+|(?<=cryptography )[\d.]+", "X", result.out)
        out = re.sub(r"OpenSSL .*", "OpenSSL", out)
        out = re.sub(r"localhost is .*", "localhost is ADDRESSES", out)
        out = re.sub(r"[+-]\d+(\.\d+)?(?= s from)", "X", out)
        return Result(result.code, out, result.err)

    return check


def complaints(result: Result) -> list[str]:
    """The steps that are not ok, and the conclusion."""
    return [line for line in result.out.splitlines() if not line.startswith("ok")]


def test_check_finds_a_healthy_set_up_healthy(check, online, with_key, ca_file):
    online.permissions["portfolio_type"] = "DEFAULT"
    result = check("--host", online.host)
    assert result == Result(0, f"""\
ok    Python X, cryptography X, OpenSSL
ok    key {NAME} from {with_key} (mode 600): ECDSA P-256 (ES256)
ok    it signs and verifies
ok    proxy: none; CAs: {ca_file}
ok    localhost is ADDRESSES
ok    {online.host} answers over TLS: HTTP 200
ok    clock: X s from the server's
ok    the key is accepted; it may: can_view, can_trade (DEFAULT)
All is well.
""", "")  # fmt: skip
    assert online.refusals == []
    assert {seen.method for seen in online.seen} == {"GET"}
    assert "note: HTTP 200, " in check("--host", online.host, "--verbose").err


def test_check_offline_opens_nothing(check, monkeypatch):
    for variable, value in ADVANCED.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(socket, "socket", None)
    _, *lines = check("--offline").out.splitlines()
    source = "COINBASE_API_KEY and COINBASE_API_SECRET"
    key = f"ok    key {NAME} from {source}: ECDSA P-256 (ES256)"
    assert lines == [key, "ok    it signs and verifies", "All is well."]


CLOCK = "clock: X s from the server's"


@pytest.mark.parametrize(
    ("ahead", "state"),  # of the server's clock, by so many seconds
    [(0, "ok"), (-3, "ok"), (20, "ok"), (40, "warn"), (105, "warn"), (-8, "fail"), (125, "fail"), (-3600, "fail")],
)  # fmt: skip
def test_check_names_a_clock_that_does_harm(check, online, ahead, state):
    online.clock_ahead = ahead
    result = check("--host", online.host)
    remedy = "; set this machine's clock" if state == "fail" else ""
    assert f"{state:5} {CLOCK}{remedy}\n" in result.out
    if state != "ok":
        assert result.out.splitlines()[-1] == f"First: {CLOCK}{remedy}"
    # What a call warns of is a step, too.
    assert ("warn  this clock is X s " in result.out) == (state == "fail")
    assert (result.code, result.err) == (1 if state == "fail" else 0, "")


def without_time(handler: Handler) -> None:
    handler.send_response_only(200)  # and no Date
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"{}")


MAY_NOTHING = "warn  the key is accepted; it may: nothing (?)"


@pytest.mark.parametrize(
    ("path", "respond", "complaint"),
    [
        (cdp_jwt.PERMISSIONS, status(503, b"later"), "fail  permissions: HTTP 503: later"),
        (cdp_jwt.PERMISSIONS, status(403, b"no"), f"fail  permissions: HTTP 403: no; {POSSIBLE}"),
        (cdp_jwt.PERMISSIONS, status(200, []), MAY_NOTHING),
        (cdp_jwt.PERMISSIONS, status(200, {"can_view": False}), MAY_NOTHING),
        ("/api/v3/brokerage/time", status(404), "warn  HOST answers over TLS: HTTP 404"),
        ("/api/v3/brokerage/time", without_time, "warn  clock: the server's answer has no date"),
    ],
)  # fmt: skip
def test_check_names_an_answer_that_is_wrong(
    check, online, waits, path, respond, complaint
):
    online.routes["GET", path] = (False, respond)
    result = check("--host", online.host)
    complaint = complaint.replace("HOST", online.host)
    assert complaints(result) == [complaint, f"First: {complaint[6:]}"]
    if respond is not without_time:  # the Date is taken
        assert f"ok    {CLOCK}\n" in result.out


def test_check_names_a_problem_of_its_own_token(check, with_key, monkeypatch):
    """As on a machine whose clock is in the year 8307."""
    monkeypatch.setattr(time, "time", lambda: 2e11)
    result = check("--offline")
    problem = "fail  nbf is 199999999995; expected an integer: epoch seconds"
    assert complaints(result)[0].startswith(problem)
    assert result.code == 1


def test_check_goes_on_without_a_key(check, online, key_file):
    key_file.write_text(json.dumps({"id": NAME, "privateKey": public_pem(P256)}))
    result = check("--host", online.host)
    first, last = complaints(result)
    assert first.startswith(f"fail  key: {key_file}: this is a public key; ")
    assert last == f"First: {first[6:]}"
    assert f"ok    {online.host} answers over TLS: HTTP 200\n" in result.out
    assert result.code == 1


@needs_modes
@pytest.mark.parametrize(("mode", "can"), [(0o640, "read"), (0o620, "change")])
def test_check_names_what_was_mended_and_what_is_doubted(check, with_key, mode, can):
    secret = base64.b64encode(raw(ED25519)).decode().replace("=", "%3D")
    write_private(with_key, {"id": "my-key", "privateKey": secret}).chmod(mode)
    key = cdp_jwt.ApiKey("my-key", secret)
    result = check("--offline")
    loose = f"{with_key}: group or others can {can} this key; chmod 600 it"
    warnings = [f"warn  {warning}" for warning in (loose, *key.warnings)]
    assert (result.code, complaints(result)) == (0, [*warnings, f"First: {loose}"])
    lines = result.out.splitlines()
    mended = [line for line in lines if line.startswith("ok    mended, ")]
    assert mended == [f"ok    mended, {key.repairs[0]}"]
    assert f"ok    key my-key from {with_key} (mode {mode:o}): Ed25519 (EdDSA)" in lines


def test_windows_has_no_modes(check, with_key, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with_key.chmod(0o666)
    result = check("--offline")
    assert f"from {with_key}: ECDSA" in result.out
    assert "warn" not in result.out


def test_check_names_what_the_environment_changes(
    check, online, ca_file, tmp_path, monkeypatch
):
    words = ["--host", online.host]
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    result = check(*words)
    assert f"ok    proxy: none; CAs: {ca_file} and {tmp_path}\n" in result.out
    warning = "SSLKEYLOGFILE is set: its readers can read what is sent; unset it"
    assert complaints(result) == [f"warn  {warning}", f"First: {warning}"]
    monkeypatch.setenv("SSLKEYLOGFILE", "/missing/keys")
    monkeypatch.setenv("SSL_CERT_DIR", "/missing")
    reason = "No such file or directory; check SSLKEYLOGFILE and SSL_CERT_FILE"
    fail = f"network: TLS cannot be set up: {reason}"
    missing = "warn  SSL_CERT_DIR does not exist: /missing"
    *warnings, last, first = complaints(check(*words))
    assert warnings == [missing, f"warn  {warning}"]
    assert (last, first) == (f"fail  {fail}", f"First: {fail}")
    monkeypatch.delenv("SSLKEYLOGFILE")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for bypass in ("localhost", online.host):
        monkeypatch.setenv("NO_PROXY", bypass)
        assert "ok    proxy: none; " in check(*words).out


@pytest.mark.parametrize("password", ["s3cret", "p@s3cret", "p/s3cret"])
def test_check_masks_the_proxys_password(check, with_key, monkeypatch, waits, password):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{password}@127.0.0.1:1")
    result = check("--host", "a.example")
    assert "ok    proxy: http://***@127.0.0.1:1; CAs: the system\n" in result.out
    assert "s3cret" not in result.out + result.err
    refusal = "network: a.example: the proxy 127.0.0.1: it refused the connection"
    if password == "s3cret":
        assert complaints(result)[-1].startswith(f"First: {refusal}")


def test_check_names_a_host_that_cannot_be_reached(check, with_key, nowhere):
    result = check("--host", "no.example")
    unknown = "its name was not found; check host, DNS and HTTPS_PROXY"
    fail = f"network: no.example: {unknown}"
    assert complaints(result) == [f"fail  {fail}", f"First: {fail}"]


# How it ends: interrupted, its output lost, its streams closed

CTRL_C = (KeyboardInterrupt, 130)
FULL = (OSError(errno.ENOSPC, "No space left on device"), 1)
LOST = "standard output cannot be written: No space left on device"
DONE = "; the call was carried out"
INTERRUPTED = f"interrupted; {cdp_jwt.UNKNOWN_OUTCOME}"
STOPS = [  # the command, what fails, how and with which code, and the message
    (["ws"], time, "time", *CTRL_C, "interrupted"),
    (["POST", "/echo", "--call"], socket, "create_connection", *CTRL_C, "interrupted"),
    (["GET", "/echo", "--call"], ssl.SSLSocket, "sendall", *CTRL_C, "interrupted"),
    (["POST", "/echo", "--call"], ssl.SSLSocket, "sendall", *CTRL_C, INTERRUPTED),
    (["DELETE", "/echo", "--call"], ssl.SSLSocket, "sendall", *CTRL_C, INTERRUPTED),
    (["GET", "/echo", "--call"], cdp_jwt._Console, "write", *CTRL_C, "interrupted"),
    (["POST", "/echo", "--call"], cdp_jwt._Console, "write", *CTRL_C, f"interrupted{DONE}"),
    (["ws"], cdp_jwt._Console, "write_line", *FULL, LOST),
    (["GET", "/echo", "--call"], cdp_jwt._Console, "write", *FULL, LOST),
    (["POST", "/echo", "--call"], cdp_jwt._Console, "write", *FULL, f"{LOST}{DONE}"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "owner", "name", "error", "code", "message"), STOPS)
def test_interruption_and_lost_output_are_told_with_their_consequence(
    run, online, monkeypatch, words, owner, name, error, code, message
):
    """From the first octet on, and of what changes something."""
    words = [*words, "--host", online.host] if "--call" in words else words
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, unittest.mock.Mock(side_effect=error))
        result = run(*words)
    assert result == Result(code, "", f"cdp_jwt: error: {message}\n")


def test_windows_ends_a_pipe_that_nobody_reads_with_einval(run, with_key, monkeypatch):
    error = OSError(errno.EINVAL, "Invalid argument")
    write_line = unittest.mock.Mock(side_effect=error)
    monkeypatch.setattr(cdp_jwt._Console, "write_line", write_line)
    assert run("ws").code == 1
    monkeypatch.setattr(sys, "platform", "win32")
    assert run("ws") == Result(141, "", "")


@needs_shell
def test_process_ends_quietly_when_its_pipe_is_closed(copied, key_file):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, copied, "ws", "--key-file", key_file]
    result = process(command, stdout=writing)
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_order_whose_answer_is_lost_was_sent_all_the_same(online, copied):
    words = ["POST", "/echo", "--call", "--data", "{}", "--host", online.host]
    with open("/dev/full", "w") as full:
        command = [sys.executable, copied, *words]
        result = process(command, stdout=full, env=dict(os.environ))
    assert result.returncode == 1
    assert result.stderr == f"signer: error: {LOST}{DONE}\n"
    assert len(online.seen) == 1


@needs_shell
@needs_cpython  # PyPy takes whatever has the number of a closed stream for it
def test_process_survives_closed_streams(copied, key_file):
    """The files that it opens take their numbers, and get no message."""
    key_file.chmod(0o644)  # which is warned of
    script = f'"{sys.executable}" signer.py ws --key-file "{key_file}" <&- 2>&-'
    result = process(["sh", "-c", script], cwd=copied.parent)
    assert verified(result.stdout.strip(), P256)


def test_command_whose_output_is_closed_fails(run, with_key, monkeypatch):
    error = "cdp_jwt: error: standard output is closed\n"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        result = run("ws")
    assert result == Result(1, "", error)


def test_process_that_prints_a_token_imports_nothing_slow(copied, key_file):
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


def test_program_without_cryptography_is_an_error_of_one_line(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    message = program("--help").code  # which SystemExit prints, and ends with 1
    assert message.startswith("cdp_jwt: error: cryptography >= 3.4.8 is needed (")


# At random: whatever is given or answered, it ends with a code, moves no terminal, and
# shows no key.


@examples(60)
@given(
    token=st.builds(
        lambda header, claims: made({**HEADER, **header}, {**CLAIMS, **claims}),
        st.dictionaries(st.sampled_from([*HEADER, "\x1b"]), JSON_VALUES),
        st.dictionaries(st.sampled_from([*CLAIMS, "uris", "\x9b"]), JSON_VALUES),
    )
    | mutations(TOKENS)
    | st.text(max_size=30)
)
def test_any_token_is_decoded_without_moving_the_terminal(piped, with_key, token):
    octets = token.encode("utf-8", "surrogateescape")
    code, out, err = piped("decode", stdin=octets)
    assert code in (0, 1)
    assert printable(out.decode())
    assert printable(err)


WORDS = [*cdp_jwt.METHODS, "ws", "check", "decode", "/x", ACCOUNTS, "-", "--", "@-", "@/", "{}",
         "user", "BTC-USD", "a.example", "https://a.example/x", "+5", "0.1", "\x1b[2J", "\udcff",
         SEC1, PORTAL, NAME, made(), *cdp_jwt.NAMED]  # fmt: skip


@examples(100)
@given(
    words=st.lists(st.sampled_from(WORDS) | st.text(max_size=9), max_size=6),
    octets=st.sampled_from([b"", b"{}", b"\xff", SEC1.encode(), PORTAL.encode()]),
)
def test_any_command_ends_with_a_code_and_shows_no_key(
    piped, nowhere, with_key, words, octets
):
    code, out, err = piped(*words, stdin=octets)
    assert code in (0, 1, 2)
    assert printable(err)
    assert printable(out.decode())
    assert not leaks(out.decode() + err, SEC1)
    assert code != 2 or out == b""


@examples(60)
@given(answer=answers())
def test_any_answer_is_called_for_without_moving_the_terminal(
    answering, piped, with_key, answer
):
    """The body is data and comes as it is; all before it, and all messages, are safe."""
    answering.answers = [answer]
    options = ["--call", "--include", "--verbose", "--host", answering.server.host]
    code, out, err = piped("GET", "/x", *options)
    assert code in (0, 1)
    assert printable(err)
    assert "eyJ" not in err
    head, _, _ = out.partition(b"\n\n")
    assert printable(head.decode())


# Why people get a 401: each known cause, and what the user sees of it on standard error


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


def view_only(server: Coinbase, path: pathlib.Path) -> None:
    server.permissions["can_trade"] = False
    server.faults.append(status(401, b"Unauthorized"))


UNAUTHORIZED = {"faults": [status(401, b"Unauthorized")]}
VIEW_ONLY = {"permissions": {"can_trade": False}, **UNAUTHORIZED}
CALL = ["GET", ACCOUNTS, "--call"]
PLACE_ORDER = ["POST", ORDERS, "--call", "--data", '{"client_order_id": "1"}']
REFUSED = "error: HTTP 401: Unauthorized"
SCENARIOS = {  # what the server is like, the key file, the command, what is said
    "query in the path": ({}, {}, ["GET", f"{ACCOUNTS}?limit=1", "--call"], []),
    "newlines escaped": ({}, {"privateKey": SEC1.replace("\n", r"\n")}, CALL, []),
    "clock ahead": ({"clock_ahead": -60}, {}, CALL, [r"warning: this clock is \+(59|60|61) s from the server's; the server's is used"]),
    "public key": ({}, {"privateKey": public_pem(P256)}, CALL, ["error: KEYFILE: this is a public key; .*"]),
    "wallet secret": ({}, {"privateKey": body(pkcs8(P256))}, CALL, ["error: KEYFILE: this is a CDP wallet secret.*"]),
    "altered key": ({}, {"privateKey": flipped(SEC1, 60)}, CALL, ["error: KEYFILE: this key is damaged: .*"]),
    "permission missing": (VIEW_ONLY, {}, PLACE_ORDER, [REFUSED, "hint: the key is valid, but may not do this: its can_trade is false"]),
    "allow-list": (UNAUTHORIZED, {"allowedIps": ["203.0.113.7"]}, CALL, [
        REFUSED, "hint: possible: this machine's IP address is not one it allows: 203.0.113.7",
        "hint: possible: .*", "hint: `check` tests key, clock, network and permissions"]),
    "wrong path": ({}, {}, ["GET", "/api/v3/accounts", "--call"], ["error: HTTP 404: no such path", "hint: the path is under neither .*"]),
}  # fmt: skip


@pytest.mark.parametrize("cause", SCENARIOS)
def test_scenario_names_its_cause(run, by_name, with_key, cause):
    server, fields, words, lines = SCENARIOS[cause]
    vars(by_name).update(copy.deepcopy(server))
    write_private(with_key, {"id": NAME, "privateKey": SEC1, **fields})
    result = run(*words)
    assert result.code == (1 if any("error" in line for line in lines) else 0)
    shown = result.err.splitlines()
    assert len(shown) == len(lines), shown
    for line, pattern in zip(shown, lines):
        line_of_key = line.replace(str(with_key), "KEYFILE")
        assert re.fullmatch(f"cdp_jwt: {pattern}", line_of_key)


# ------------------------------------------------------- the file, copied and imported
#
# The file works under any name, in any package and from a zip file. Neither its import
# nor a token opens, writes or changes anything, whatever surrounds it.

# Does two things, and says on standard error what it sees of Python's audit events, of
# variables that are read, and of changes while it does the second.
WATCHER = """
import os, signal, sys, threading, warnings
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
    logging = sys.modules.get("logging")
    root = logging and logging.getLogger()
    return {
        "directory": os.getcwd(),
        "filters": list(warnings.filters),
        "hooks": (sys.excepthook, sys.displayhook, sys.stdout, sys.stderr),
        "logging": root and (root.level, root.handlers[:]),
        "path": list(sys.path),
        "signals": [*map(signal.getsignal, sorted(signal.valid_signals()))],
        "threads": threading.active_count(),
        "variables": dict(os.environ),
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
    "compile", "exec", "import", "marshal.loads", "object.__setattr__", "os.listdir",
    "os.scandir", "sys._getframe",
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
        "import subprocess; subprocess.run(['true'])": "subprocess.Popen",
        "open('new', 'w').close()": "writes new",
        "os.close(os.open('other', os.O_CREAT))": "writes other",
        "open('new').close()": "reads new",
        "os.environ.get('CDP_KEY_FILE')": "reads the variable CDP_KEY_FILE",
        "dict(os.environ)": "reads all variables",
        "os.environ['X'] = ''": "changes variables",
        "import argparse": "imports argparse",
        "import trustme": "needs trustme",
        "logging.basicConfig()": "changes logging",
        "warnings.simplefilter('error')": "changes filters",
        "signal.signal(signal.SIGINT, signal.SIG_DFL)": "changes signals",
        "sys.excepthook = print": "changes hooks",
        "threading.Timer(0.5, str).start()": "changes threads",
    }
    deeds = "\n".join(forbidden)
    _, seen = watched(tmp_path, deeds, before="import logging", cwd=tmp_path)
    assert set(forbidden.values()) - seen == set()


@needs_cpython
def test_import_changes_nothing_and_reads_neither_file_nor_variable(copied):
    _, seen = watched(copied.parent, "import signer", before="")
    assert seen == set()


@needs_cpython
def test_making_a_token_opens_nothing_and_imports_no_network(copied):
    tokens, seen = watched(copied.parent, MAKE_TOKENS, NAME, SEC1)
    assert seen == set()
    for token in tokens.split():
        assert verified(token, P256)["sub"] == NAME


@needs_cpython
def test_commands_need_nothing_but_cryptography_and_the_standard_library(
    copied, coinbase, key_file, ca_file
):
    commands = [
        f"GET {ACCOUNTS} --call --paginate --host {coinbase.host}",
        f"POST /echo --call --data {{}} --host {coinbase.host}",
        f"check --host {coinbase.host}",
        f"decode {key_of().ws_jwt()}",
        "ws user BTC-USD",
    ]
    deed = "print([signer.main(command.split()) for command in sys.argv])"
    environ = {"CDP_KEY_FILE": str(key_file), "SSL_CERT_FILE": ca_file}
    printed, seen = watched(copied.parent, deed, *commands, env=environ)
    assert printed.endswith("[0, 0, 0, 0, 0]\n")
    assert {each for each in seen if each.startswith("needs ")} == set()


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SURROUNDINGS = {  # flags of Python, variables
    "without HOME": ([], {}),
    "HOME that is not there": ([], {"HOME": "/nonexistent"}),
    "a time zone": ([], {"TZ": "Asia/Kathmandu"}),
    "isolated": (["-I"], {}),
    "optimized, warnings are errors": (["-O", "-W", "error"], {}),
    "C locale, not coerced to UTF-8": ([], C_LOCALE),
    "zip file": ([], {}),
}


@needs_cpython
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_command_makes_a_token_offline_and_writes_nothing_in(
    copied, key_file, surroundings
):
    """The names of folder and key file have spaces, and letters that ASCII lacks."""
    flags, environ = SURROUNDINGS[surroundings]
    place = copied.parent
    if surroundings == "zip file":
        place = copied.with_name("modules.zip")
        with zipfile.ZipFile(place, "w") as archive:
            archive.write(copied, copied.name)
        copied.unlink()
    key = shutil.copy(key_file, copied.with_name("ключ.json"))
    words = ["signer.py", "GET", f"{ACCOUNTS}?limit=1", "--key-file", key]
    token, seen = watched(place, "signer.main()", *words, flags=flags, env=environ)
    [reading] = seen - {"reads the variable CDP_KEY_FILE"}
    assert re.fullmatch(r"reads .*\.json", reading)
    claims = verified(token.strip(), P256)
    assert claims["uri"] == f"GET api.coinbase.com{ACCOUNTS}"


def test_copied_file_speaks_under_its_own_name(copied):
    result = process([sys.executable, copied, "GET", "x"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("signer: error: ")
    result = process([sys.executable, copied])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: python signer.py METHOD PATH")


@pytest.mark.parametrize(
    "environ", [C_LOCALE, {"PYTHONUTF8": "1", "PYTHONIOENCODING": "ascii"}]
)
def test_message_about_a_name_that_is_not_ascii_survives_an_ascii_terminal(
    copied, environ
):
    command = [sys.executable, copied, "ws", "--key-file", "ключ.json"]
    result = process(command, env=environ)
    assert (result.returncode, result.stdout) == (1, "")
    message = r"signer: error: .*\.json: cannot be read: No such file or directory\n"
    assert re.fullmatch(message, result.stderr)


@needs_modes
def test_copied_file_is_a_program(copied):
    """By its first line and its mode; `python3` is found in PATH."""
    result = process(
        [copied, "--version"], env={"PATH": os.path.dirname(sys.executable)}
    )
    assert result.stdout == f"cdp_jwt {cdp_jwt.__version__}\n"


def test_copied_file_is_a_module_of_any_package(copied):
    package = copied.parent / "vendored"
    package.mkdir()
    (package / "__init__.py").touch()
    copied.rename(package / "auth.py")
    program = (
        f"from vendored import auth; key = auth.ApiKey({NAME!r}, {PORTAL!r});"
        "print(auth.__name__, key.ws_jwt())"
    )
    result = process([sys.executable, "-c", program], cwd=copied.parent)
    assert (result.returncode, result.stderr) == (0, "")
    name, token = result.stdout.split()
    assert name == "vendored.auth"
    verified(token, ED25519)


# Children that get these variables are measured by `make cover`.
MEASURED = {
    name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")
}
LACKS = {
    "import of cryptography halted; None in sys.modules": "sys.modules['cryptography'] = None",
    "module 'cryptography' has no attribute '__version__'": "del cryptography.__version__",
    "found 3.3.2": "cryptography.__version__ = '3.3.2'",
    "found 3.0": "cryptography.__version__ = '3.0'",
    "found 2.9.2": "cryptography.__version__ = '2.9.2'",
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


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


CALLED = (
    r"(?:python3? (?:\S*/)?cdp_jwt\.py|u[v] run cdp_jwt\.py"
    r"|pipx run cdp_jwt\.py|(?<!-t )cdp-jwt)"
)


def documented_commands() -> list[str]:
    """Each call of this program in README and docstring, up to a pipe or a comment."""
    texts = re.sub(r"\\\n\s*", "", f"{readme()}\n{cdp_jwt.__doc__}")
    return re.findall(rf"{CALLED} ([^\n|#)`<>]+)", texts)


def test_options_in_the_documents_are_those_of_the_help(run):
    section = readme().partition("\n## On the command line\n")[2].partition("\n## ")[0]
    assert len(options_in(section)) >= 12
    assert options_in(section) <= options_in(run("--help").out)


def test_commands_in_the_documents_are_understood(run, with_key, monkeypatch):
    """Each is called as it stands there, without a network; code 2 were a wrong call."""

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.chdir(with_key.parent)
    session = r"^  \$ (?:export|python) \S+ (.+)"  # in the help
    commands = re.findall(session, run("--help").out, re.MULTILINE)
    commands += documented_commands()
    assert len(commands) >= 15
    for command in commands:
        text = command.replace("...", "x").replace("$ORDER", "{}")
        words = shlex.split(re.sub(r"\$\w+", "/x", text))
        if "--key-file" in words:
            words[words.index("--key-file") + 1] = str(with_key)
        assert run(*words).code in (0, 1), command


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


def readme_tables() -> dict[str, list[list[str]]]:
    """The README's tables, by what stands in their first cell."""
    texts = re.findall(r"(?:^\|.*\n)+", readme(), re.MULTILINE)
    tables = [
        [re.split(r"\s*(?<!\\)\|\s*", line)[1:-1] for line in text.splitlines()]
        for text in texts
    ]
    return {table[0][0]: table for table in tables}


def rows_of(table: str) -> list[list[str]]:
    return readme_tables()[table][2:]


def code_in(text: str) -> list[str]:
    return re.findall("`([^`]+)`", text.replace(r"\|", "|"))


def prose() -> str:
    """The text alone: no blocks, no tables, no lines broken."""
    text = re.sub(r"(?ms)^```.*?^```$|^\|.*?$", "", readme())
    return " ".join(text.split())


class Reader:
    """Follows the README to the letter, in a fresh folder with the file and a key."""

    def __init__(self, folder: pathlib.Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.environ = environ

    def need(self, *tools: str) -> None:
        for tool in tools:
            if not shutil.which(tool, path=self.environ["PATH"]):
                pytest.skip(f"{tool} is not installed here")

    def run(self, *words: object, **environ: str) -> subprocess.CompletedProcess:
        return process([*words], env={**self.environ, **environ}, cwd=self.folder)

    def sh(self, script: str, *before: str, **environ: str) -> str:
        """What the commands of a script print; none may fail or complain."""
        result = self.run(*before, "sh", "-ec", script, **environ)
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout

    def write(self, name: str, text: str) -> pathlib.Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def reader(by_name, ca_file, key_file, tmp_path) -> Reader:
    """Its tools reach a server in the place of api.coinbase.com, and nothing else."""
    if not shutil.which("sh"):
        pytest.skip("needs a POSIX shell")
    folder = tmp_path / "fresh"
    programs = tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name, script in TOOLS.items():
        program = programs / name
        program.write_text(f"#!/bin/sh\n{script.format(sys=sys, folder=folder)}\n")
        program.chmod(0o755)
    shutil.copy(MODULE, folder / "cdp_jwt.py")
    shutil.copy(key_file, folder / "cdp_api_key.json")
    (folder / "order.json").write_text('{"client_order_id": "1"}')
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


TOOLS = {  # what is not there, or is slow: pip is lent by uv, and installs from files
    "python": 'exec "{sys.executable}" "$@"',
    "python3": '[ "$1 $2" = "-m venv" ] && set -- "$@" --without-pip\nexec python "$@"',
    "pip": 'exec uv --quiet pip "$@" --python "${{VIRTUAL_ENV:-{sys.prefix}}}"',
    **dict.fromkeys(("pass", "op", "aws"), 'cat "{folder}/cdp_api_key.json"'),
}


def accounts_with_balances(handler: Handler) -> None:
    page = int(handler.query.get("cursor") or 0)
    more = page + 1 < handler.server.page_count
    balance = {"value": f"{page}.50", "currency": "BTC"}
    account = {"uuid": UUID, "currency": "BTC", "available_balance": balance}
    answer = {"accounts": [account], "has_next": more, "cursor": str(page + 1)}
    handler.answer(200, answer)


def served(server: Coinbase) -> list[str]:
    """The requests that the server got, all with good tokens, no two with the same."""
    assert server.refusals == []
    tokens = [seen.token for seen in server.seen if seen.token]
    assert len(set(tokens)) == len(tokens)
    return [f"{seen.method} {seen.path}" for seen in server.seen]


@pytest.fixture
def here(reader, monkeypatch) -> Callable[..., dict]:
    """Runs a program of the README in this process; returns its names."""
    monkeypatch.chdir(reader.folder)
    for name, value in reader.environ.items():
        monkeypatch.setenv(name, value)

    def run(program: str, **names: object) -> dict:
        names = {"cdp_jwt": cdp_jwt, "__name__": "recipe", **names}
        exec(compile(program, "README.md", "exec"), names)
        return names

    return run


# As a page


def test_readme_is_readable_in_a_terminal():
    text = re.sub(r"(?ms)^```.*?^```$|^\|.*?$|^\[.*?$", "", readme())
    assert [line for line in text.splitlines() if len(line) > 90] == []


def test_readmes_contents_are_its_sections():
    contents = re.findall(r"\[([^]]+)\]\(#(.*?)\)", readme().partition("\n## ")[0])
    sections = re.findall(r"^## (.+)", readme(), re.MULTILINE)
    assert contents == [(each, each.lower().replace(" ", "-")) for each in sections]


def test_readmes_links_are_those_at_its_end():
    targets = re.findall(r"^\[(.+)\]: https://\S+$", readme(), re.MULTILINE)
    assert re.findall(r"\[([A-Z][^]]+)\][.,]", readme()) == targets


def test_readmes_tables_have_all_their_cells():
    for name, (header, line, *rows) in readme_tables().items():
        assert rows, name
        for row in (line, *rows):
            assert (len(row), all(row)) == (len(header), True), row


# Its blocks

TOKEN_PRINTED = r"ey[\w-]+\.ey[\w-]+\.[\w-]{86}\n"
PAGE = r'\{"accounts": \[\{.*\}\].*\}'
PRINTED = {  # what is said behind a command -> what it prints
    "prints a token": TOKEN_PRINTED,
    "makes the call": PAGE,
    "the token, alone": TOKEN_PRINTED,
    "sent by curl": PAGE,
    "sets JWT": "",
    "sends it, prints the answer": PAGE,
    "all pages, each in one line": f"({PAGE}\n){{3}}",
    "needs no key": r'\{"epochMillis": "\d+"\}',
    "a WebSocket token": TOKEN_PRINTED,
    "a whole subscribe message": r'\{"type": "subscribe", "channel": "ticker".*"jwt": .*\}\n',
    "is all well?": r"(.*\n)+All is well\.\n",
}  # fmt: skip
PAGES = [f"GET {ACCOUNTS}", f"GET {ACCOUNTS}?cursor=1", f"GET {ACCOUNTS}?cursor=2"]
TIME = "GET /api/v3/brokerage/time"
CHECKED = [TIME, "GET /api/v3/brokerage/key_permissions"]
SENT = {  # by a block; by any other, nothing
    ("cdp_jwt", 0): PAGES[:1],
    ("cdp_jwt", 1): PAGES[:1],
    ("On the command line", 0): [*PAGES[:1] * 3, *PAGES, f"POST {ORDERS}", TIME, *CHECKED],
    ("In a program", 0): [
        f"GET {ACCOUNTS}?limit=50", f"POST {ORDERS}",
        *(f"GET {ORDERS}/historical/fills{page}" for page in ("", "?cursor=1", "?cursor=2")),
    ],
}  # fmt: skip
BESPOKE = {  # blocks that are no script, or none that succeeds: each has its own test
    ("cdp_jwt", 2),
    ("When a token is refused", 0),
    ("A small bot", 0),
    ("cron, systemd, GitHub Actions and containers", 0),
    ("Restricted machines", 0),
    ("Restricted machines", 1),
}


SCRIPTS = [place for place in readme_blocks() if place not in BESPOKE]


@pytest.mark.parametrize("place", SCRIPTS, ids=str)
def test_readmes_block_runs(reader, by_name, request, place):
    block = readme_blocks()[place]
    reader.need(*re.findall(r"\b(?:curl|jq)\b", block.script))
    if "pip " in block.script:
        reader.need("uv")
        reader.environ.update(request.getfixturevalue("wheels"))
    if "export CDP_KEY_FILE=" in block.script:
        del reader.environ["CDP_KEY_FILE"]
    if block.language == "python":
        for module in re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE):
            pytest.importorskip(module)
        reader.write("recipe.py", block.text)
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


def refuse_to_trade(server: Coinbase) -> None:
    server.permissions["can_trade"] = False
    server.faults.append(status(401, b"Unauthorized"))


def lag(server: Coinbase) -> None:
    server.clock_ahead = -47.312


def test_readmes_refusals_are_what_the_commands_say(reader, by_name):
    claims = {"sub": NAME, "iss": "cdp", "nbf": NOW * 1000, "exp": NOW}
    headers = {"kid": NAME, "nonce": "1"}
    unsigned = jwt.encode(claims, P256, "ES256", headers).rpartition(".")[0]
    der = utils.encode_dss_signature(1 << 255, 1 << 255)
    token = f"{unsigned}.{base64.urlsafe_b64encode(der).decode().rstrip('=')}"
    text = readme_blocks()["When a token is refused", 0].text
    sessions = re.findall(r"^\$ (.*)\n((?:[^$].*\n)+)", text, re.MULTILINE)
    for (typed, told), prepare in zip(sessions, (refuse_to_trade, None, lag)):
        if prepare:
            prepare(by_name)
        result = reader.run("sh", "-c", typed.replace("eyJhbGciOi...", token))
        assert result.returncode == 1
        pattern = re.escape(told).replace(r"\.\.\.", "(?:.|\n)*").replace("312", r"\d+")
        assert re.search(pattern, result.stdout + result.stderr), result
    assert len(sessions) == 3


# Its names and numbers


def test_variables_in_the_readme_are_those_of_the_module():
    text = re.sub(r"(?ms)^```.*?^```$", "", readme())
    named = {*re.findall(r"`(?:[^`]*[ $:])?([A-Z]{2,}_[A-Z_]+)\b", text)}
    assert len(named) >= 9
    assert {name for name in named if name not in source()} == {"PIP_CERT"}


def test_names_in_the_readme_are_those_of_the_module():
    client = cdp_jwt.Client()
    answer = cdp_jwt.Response(200, email.message.Message(), b"")
    inspection = cdp_jwt.inspect_jwt(key_of().ws_jwt())
    owners = (cdp_jwt, key_of(), client, answer, cdp_jwt.ApiError(""), inspection)
    known = {name for owner in owners for name in dir(owner)}
    pattern = r"(?:\b(?:cdp_jwt|ApiKey|key|[cC]lient)|(?<!\S))\.([a-z_]+)\b"
    for code in code_in(prose()):
        for name in {*re.findall(pattern, code)} - {"env", "py"}:
            assert name in known, code
    methods = code_in(re.search("`get`.*? return an answer", prose())[0])
    assert [name for name in methods if not hasattr(client, name)] == []
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
    third, sixth = heads[2], heads[5]
    assert third < found[0] <= found[-1] < sixth
    told = f"shows lines {found[0]} to {found[-1]}, all of them in sections 3 to 5"
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


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> pathlib.Path:
    places = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    for tool in ("make", "uv"):
        if not shutil.which(tool, path=places):
            pytest.skip(f"{tool} is not installed here")
    clone = tmp_path_factory.mktemp("clone")
    for name in ("cdp_jwt.py", "README.md", "pyproject.toml", "Makefile"):
        shutil.copy2(HERE / name, clone)
    return clone


def make_wheelhouse(clone: pathlib.Path, wheels: dict[str, str], *options: str):
    variables = [f"VENV={sys.prefix}", f"HOUSE={clone / 'house'}"]
    is_set_up = ["-o", f"{sys.prefix}/wheels"]
    command = ["make", "wheelhouse", *variables, *is_set_up, *options]
    return process(command, env=wheels, cwd=clone)


@needs_cpython
def test_wheelhouse_installs_without_a_network(reader, clone, wheels):
    assert make_wheelhouse(clone, wheels).returncode == 0
    house = (clone / "wheelhouse").rename(reader.folder / "wheelhouse")
    listed = (house / "requirements.txt").read_text().replace("\\\n", "")
    digests = re.findall(r"--hash=sha256:(\w+)$", listed, re.MULTILINE)
    files = sorted(house.glob("*.whl"))
    assert digests == [hashlib.sha256(each.read_bytes()).hexdigest() for each in files]

    new = reader.folder / "new"
    process([sys.executable, "-m", "venv", "--without-pip", new])
    pip = new / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pip --python "{new}" "$@"\n')
    pip.chmod(0o755)
    places = f"{new / 'bin'}{os.pathsep}{reader.environ['PATH']}"
    own = ("PIP_FIND_LINKS", "PIP_NO_INDEX")  # what the command has to say by itself
    settings = {name: value for name, value in wheels.items() if name not in own}
    block = readme_blocks()["Restricted machines", 0]
    output = reader.sh(block.script, *unplugged(), PATH=places, **settings)
    assert "Successfully installed cdp_jwt-" in output
    assert verified(output.splitlines()[-1], P256)["uri"].startswith("GET ")
    where = "import cdp_jwt, cryptography as c; print(cdp_jwt.__file__, c.__file__)"
    found = reader.run(new / "bin" / "python", "-Ic", where).stdout.split()
    assert [each.startswith(str(new)) for each in found] == [True, True]


def unplugged() -> list[str]:
    """What to put before a command, so that it has no network at all."""
    unshare = ["unshare", "-rn"]
    allowed = shutil.which("unshare") and not process([*unshare, "true"]).returncode
    return unshare if allowed else []


def test_wheelhouse_without_a_wheel_says_so_and_leaves_nothing(clone, wheels):
    result = make_wheelhouse(clone, wheels, "PLATFORM=plan9_mips")
    assert result.returncode != 0
    assert "cryptography" in result.stderr
    assert "linux" in result.stderr or "macosx" in result.stderr
    assert not (clone / "wheelhouse").exists()
    assert not (clone / "house").exists()


def test_wheelhouse_is_for_a_python_that_the_module_runs_on(clone, wheels):
    for version in ("3.8", "2.7", "3", "3.x"):
        result = make_wheelhouse(clone, wheels, f"PY={version}")
        assert result.returncode != 0
        assert f"PY={version}: a Python from 3.9 on is needed" in result.stderr


def test_wheelhouse_for_another_machine_asks_for_its_python_and_platform(clone):
    [command] = re.findall(r"`make wheelhouse (PY=3\.9 .*?)`", readme())
    [tried] = re.findall(r"Tried: (.*?)\. ", prose())
    assert command.partition("PLATFORM=")[2] in code_in(tried)
    known = r"m(any|usl)linux(2014|_\d+_\d+)_(x86_64|aarch64)|win_amd64|macosx_\d+_\d+_arm64"
    for platform in code_in(tried):
        assert re.fullmatch(known, platform)
        options = ("PY=3.9", f"PLATFORM={platform}", "--dry-run")
        result = make_wheelhouse(clone, {}, *options)
        words = result.stdout.replace("\\\n", " ")
        asked = {*re.findall(r"--platform (\S+)", words)}
        assert "--python-version 3.9 " in words
        assert platform in asked
        if "linux" in platform:  # what was built for an older one runs there, too
            assert asked & {
                "manylinux_2_17_x86_64",
                "manylinux_2_17_aarch64",
                "musllinux_1_1_x86_64",
            }


@pytest.mark.parametrize("tools", [["uv"], ["pipx", "uv"]], ids=["uv", "pipx"])
def test_file_runs_without_being_installed(reader, by_name, wheels, tools):
    reader.need(*tools)
    [command] = re.findall(rf"`({tools[0]} run cdp_jwt\.py .*?)`", readme())
    result = reader.run("sh", "-c", command, **wheels)  # they say what they install
    assert (result.returncode, result.stdout[-13:]) == (0, "All is well.\n")
    assert served(by_name) == CHECKED


def test_distributions_cryptography_suffices(reader, by_name):
    [command] = re.findall(r"`(/usr/bin/python3 .*?)`", readme())
    reader.need("/usr/bin/python3")
    probe = "import sys, cryptography; assert sys.version_info >= (3, 9)"
    if reader.run("/usr/bin/python3", "-c", probe).returncode:
        pytest.skip("python3-cryptography for Python >= 3.9 is not installed here")
    assert reader.sh(command).endswith("All is well.\n")
    assert served(by_name) == CHECKED


def test_token_of_a_signer_without_a_network_is_sent_from_elsewhere(reader, by_name):
    reader.need("curl")
    umask, sign, send = readme_blocks()["Restricted machines", 1].script.splitlines()
    reader.sh(f"{umask}; {sign}", HTTPS_PROXY="http://127.0.0.1:1")
    assert stat.S_IMODE((reader.folder / "header.txt").stat().st_mode) == 0o600
    (reader.folder / "cdp_api_key.json").unlink()
    [decode] = re.findall(r"`(python cdp_jwt.py decode - .*?)`", readme())
    told = reader.run("sh", "-c", decode).stdout
    assert re.search(r"^nbf .*, \+59\d s from now$", told, re.MULTILINE)
    assert reader.sh(send) == "Unauthorized"
    assert by_name.refusals.pop() == "not yet valid"
    by_name.nonces.clear()
    by_name.clock_ahead = 610
    assert json.loads(reader.sh(send))["accounts"]
    assert by_name.refusals == []


# In a program, and limits


def test_throwaway_key_of_the_readme_signs():
    [expression] = re.findall(r"`(ApiKey\(.*os\.urandom.*)`", readme())
    key = eval(expression, {"ApiKey": cdp_jwt.ApiKey, "base64": base64, "os": os})
    found = cdp_jwt.inspect_jwt(key.rest_jwt("GET", ACCOUNTS), key=key)
    assert found.problems == ()


def library_calls() -> str:
    """The calls by requests and httpx, as a program."""
    calls = re.findall(r"`((?:requests|httpx)\.get\(.*?\))`", prose())
    assert len(calls) == 2
    lines = [
        "import cdp_jwt, httpx, requests",
        "key = cdp_jwt.ApiKey.from_env()",
        f'url = "https://api.coinbase.com{ACCOUNTS}"',
        *(f"print({call}.json())" for call in calls),
    ]
    return "\n".join(lines) + "\n"


def test_key_signs_calls_of_requests_httpx_and_aiohttp(here, by_name):
    here(library_calls())
    assert served(by_name) == PAGES[:1] * 2
    aiohttp = pytest.importorskip("aiohttp")
    options = re.findall(r"`(allow_redirects=False|headers=\{.*?\})`", prose())
    assert len(options) == 2
    here(
        f"""
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(url, {", ".join(options)}) as answer:
            assert answer.status == 200
asyncio.run(main())
""",
        aiohttp=aiohttp,
        asyncio=asyncio,
        key=key_of(),
        url=f"https://api.coinbase.com{ACCOUNTS}",
    )
    assert served(by_name) == PAGES[:1] * 3


def test_other_libraries_send_a_token_again(here, by_name):
    moved = status(302, Location=f"https://api.coinbase.com{ORDERS}")
    allowed = status(200, {})
    by_name.faults += [moved, allowed, status(503), allowed, moved, allowed]
    here(f"""
import httpx, requests, urllib3
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


def test_token_is_in_the_process_list_where_the_limits_say_so(reader, by_name):
    reader.need("curl")
    if not os.path.isdir("/proc/self"):
        pytest.skip("/proc is not here, where Linux lists processes")
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
    lines = readme_blocks()["On the command line", 0].script.splitlines()
    by_curl = [line for line in lines if re.search("^path|curl|--export", line)]
    reader.sh("\n".join(by_curl))
    assert in_process_list == [False, True]


# Recipes: an order


def place_unanswered(handler: Handler) -> None:
    """The order is placed, and the connection is closed without an answer."""
    order = json.loads(handler.body)
    handler.server.orders[order["client_order_id"]] = {"order_id": "order 0", **order}
    handler.close_connection = True


def leave_unanswered(handler: Handler) -> None:
    handler.close_connection = True


def order_on_second_page(handler: Handler) -> None:
    page = int(handler.query.get("cursor") or 1)
    placed = [*handler.server.orders.values()]
    found = placed if page == 2 else [{"client_order_id": "another"}]
    handler.answer(200, {"orders": found, "has_next": True, "cursor": str(page + 1)})


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
    place = here(readme_blocks()["Place an order, and find it", 0].text)["place"]
    wanted = {"product_id": "BTC-USD", "side": "BUY"}
    client = cdp_jwt.Client(cdp_jwt.ApiKey.from_env())
    try:
        assert place(client, wanted)["order_id"] == "order 0"
        said = ""
    except SystemExit as ended:
        said = ended.code
    assert re.fullmatch(last_words, said)
    assert len(by_name.orders) == (said == "")
    order, *others = served(by_name)
    assert order == f"POST {ORDERS}"
    assert len(others) == searches
    hour_ago = time.gmtime(time.time() - 3600)
    date = urllib.parse.quote(time.strftime("%Y-%m-%dT", hour_ago))
    start = f"GET {history}?product_ids=BTC-USD&start_date={date}"
    assert all(each.startswith(start) for each in others)


# Recipes: WebSockets and a bot

FEEDS = {  # the WebSocket hosts, and what the recipes subscribe to there
    "advanced-trade-ws-user.coinbase.com": {"user": ["BTC-USD"], "heartbeats": []},
    "advanced-trade-ws.coinbase.com": {"ticker": ["BTC-USD", "ETH-USD"], "heartbeats": []},
}  # fmt: skip


class EnoughError(Exception):
    """What the recipe would go on with for ever."""


@pytest.mark.parametrize("constant", ["PRICES", "ORDERS"])
def test_recipe_for_websockets_subscribes_again_with_fresh_tokens(ca, trust, constant):
    """The first connection is lost as soon as it has subscribed."""
    library = pytest.importorskip("websockets.asyncio.server")
    heard: list[list[dict]] = []  # by each connection
    printed: list[str] = []

    async def answer(connection) -> None:
        assert connection.request.headers["Host"] == host
        heard.append([])
        async for text in connection:
            heard[-1].append(json.loads(text))
            await connection.send(f"{len(heard)} {heard[-1][-1]['channel']}")
            if len(heard) == 1 and len(heard[0]) == len(FEEDS[host]):
                connection.transport.abort()  # no closing handshake

    def note(text: str, flush: bool) -> None:
        printed.append(text)
        if len(printed) == 2 * len(FEEDS[host]):
            raise EnoughError

    async def listen() -> None:
        options = {"port": 0, "ssl": server_context(ca, host)}
        async with library.serve(answer, "127.0.0.1", **options) as server:
            address, port = server.sockets[0].getsockname()
            place = {"host": address, "port": port, "ssl": trust}
            names["connect"] = functools.partial(names["connect"], **place)
            await names["listen"](key_of(), names[constant], FEEDS[host])

    names: dict[str, object] = {"print": note}
    exec(readme_blocks()["WebSocket", 0].text, names)
    host = names[constant].removeprefix("wss://")
    with pytest.raises(EnoughError):
        asyncio.run(listen())
    assert printed == [f"{number} {each}" for number in (1, 2) for each in FEEDS[host]]
    nonces = set()
    for message in itertools.chain(*heard):
        assert message["type"] == "subscribe"
        assert message["product_ids"] == FEEDS[host][message["channel"]]
        seen = verified(message["jwt"], P256)
        assert "uri" not in seen
        nonces.add(seen["nonce"])
    assert len(nonces) == len(printed)


def candles(handler: Handler) -> None:
    assert int(handler.query["end"]) - int(handler.query["start"]) == 6 * 3600
    lows = [{"low": "50000.12"}, {"low": "49000.1"}]
    handler.answer(200, {"candles": lows})


def cancel_orders(handler: Handler) -> None:
    known = [each["order_id"] for each in handler.server.orders.values()]
    assert json.loads(handler.body) == {"order_ids": known}
    results = [{"success": True, "order_id": each} for each in known]
    handler.answer(200, {"results": results})


def test_recipe_for_a_bot_goes_on_after_a_lost_answer(
    reader, here, by_name, monkeypatch, capsys
):
    """Up to its last line: the feed is tried by itself."""
    pytest.importorskip("websockets")
    product = "/api/v3/brokerage/products/BTC-USD/candles"
    by_name.routes["GET", product] = (True, candles)
    by_name.routes["POST", f"{ORDERS}/batch_cancel"] = (True, cancel_orders)
    by_name.routes["POST", ORDERS] = (True, place_unanswered)
    headings = {"feed": "WebSocket", "order": "Place an order, and find it"}
    for name, heading in headings.items():
        module = types.ModuleType(name)
        exec(readme_blocks()[heading, 0].text, vars(module))
        monkeypatch.setitem(sys.modules, name, module)
    listened = []

    async def listen(*arguments: object) -> None:
        listened.append(arguments)

    monkeypatch.setattr(sys.modules["feed"], "listen", listen)
    here(readme_blocks()["A small bot", 0].text)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["BTC 0.50", "BTC 1.50", "BTC 2.50"]
    assert lines[3] == "[{'success': True, 'order_id': 'order 0'}]"
    assert lines[4:] == ["[0]", "[1]", "[2]"]
    [order] = by_name.orders.values()
    limit = order["order_configuration"]["limit_limit_gtc"]
    assert limit == {"base_size": "0.001", "limit_price": "44100.09"}
    [(_, url, channels)] = listened
    assert channels == FEEDS[url.removeprefix("wss://")]
    assert served(by_name)


# Recipes: what runs by itself


def service(words: str) -> str:
    """The recipe whose first line, a comment, has these words."""
    block = readme_blocks()["cron, systemd, GitHub Actions and containers", 0]
    [recipe] = [each for each in block.text.split("\n\n") if words in each[:60]]
    return recipe.partition("\n")[2]


def script_of_cron(reader: Reader) -> str:
    setting, entry = service("cron").splitlines()
    command = re.fullmatch(r"(?:[0-9*/,-]+ ){5}([^%]+)", entry)[1]
    return f"export {setting}\n{command}; cat accounts.jsonl"


def script_of_systemd(reader: Reader) -> str:
    unit = configparser.ConfigParser(interpolation=None, delimiters="=")
    unit.read_string(service("systemd"))
    name, place = unit["Service"]["LoadCredential"].split(":")
    assert place.startswith("/")
    (reader.folder / "cdp_api_key.json").rename(reader.folder / name)
    command = unit["Service"]["ExecStart"].replace("\\\n", " ")
    assert command.startswith("/usr/bin/python3 /opt/coinbase/cdp_jwt.py ")
    command = command.replace("/usr/bin/", "").replace("/opt/coinbase/", "")
    return f"export CREDENTIALS_DIRECTORY={reader.folder}\n{command}"


def script_of_actions(reader: Reader) -> str:
    yaml = pytest.importorskip("yaml")
    reader.need("uv")
    [step] = yaml.safe_load(service("Actions"))
    kept = {"CDP_API_KEY_ID": NAME, "CDP_API_KEY_SECRET": SEC1}
    for name, value in step["env"].items():
        secret = re.fullmatch(r"\$\{\{ secrets\.(\w+) \}\}", value)[1]
        reader.environ[name] = kept[secret]
    return step["run"]


def script_of_container(reader: Reader) -> str:
    """What the image is told to run, in the folder that it is given."""
    words = shlex.split(service("container").replace("\\\n", ""))
    image = words.index("my-image")
    given = dict(zip(words[:image], words[1:image]))
    assert words[:3] == ["docker", "run", "--rm"]
    assert (given["--user"], given["--env"]) == ("$(id -u)", "CDP_KEY_FILE")
    assert given["--volume"] == f"$PWD:{given['--workdir']}:ro"
    return f"export CDP_KEY_FILE=cdp_api_key.json\n{shlex.join(words[image + 1 :])}"


@pytest.mark.parametrize(
    "script_of",
    [script_of_cron, script_of_systemd, script_of_actions, script_of_container],
)
def test_recipe_for_what_runs_by_itself(reader, by_name, script_of):
    del reader.environ["CDP_KEY_FILE"]
    script = script_of(reader)
    pages = reader.sh(script, UV_OFFLINE="1").splitlines()
    data = [json.loads(page)["data"] for page in pages]
    assert data == ([[0], [1], [2]] if "--paginate" in script else [[0]])
    assert len(served(by_name)) == len(data)


def test_unit_is_one_that_systemd_accepts(reader):
    reader.need("systemd-analyze", "/usr/bin/python3")
    unit = reader.write("accounts.service", service("systemd"))
    result = reader.run("systemd-analyze", "verify", "--man=no", unit)
    assert (result.returncode, result.stderr) == (0, "")


# Keys


@pytest.mark.parametrize("place", [place for place, _ in rows_of("where the key is")])
def test_key_gets_in_by_the_line_to_type(reader, by_name, request, place):
    key_text = (reader.folder / reader.environ.pop("CDP_KEY_FILE")).read_text()
    write_private(reader.folder / "cdp_api_key.json", key_text)
    write_private(reader.folder / "key.pem", SEC1)
    escaped = SEC1.replace("\n", r"\n")
    reader.write(".env", f'CDP_API_KEY_ID="{NAME}"\nCDP_API_KEY_SECRET="{escaped}"\n')
    lines = code_in(dict(rows_of("where the key is"))[place])
    assert lines
    for line in lines:
        typed = line.replace("organizations/…/apiKeys/…", NAME)
        typed = typed.replace("…", "python cdp_jwt.py check --key-file -")
        if " check" not in typed:
            typed += "\npython cdp_jwt.py check"
        given = {"NAME": NAME}
        if "uv run" in line:
            reader.need("uv")
            given.update(request.getfixturevalue("wheels"))
        forms = (SEC1, code_of(SEC1), code_of(key_text)) if "$SECRET" in line else ("",)
        for secret in forms:
            result = reader.run("sh", "-ec", typed, SECRET=secret, **given)
            assert result.stdout.endswith("All is well.\n"), result
            assert "warn" not in result.stdout
    served(by_name)


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
REST_CLAIMS = {"uri": f"GET api.coinbase.com{ACCOUNTS}", "sub": NAME, "iss": "cdp"}
ROWS_DONE = [  # by each row that is Python: claims of a token, or requests
    [],
    REST_CLAIMS,
    {"sub": NAME, "iss": "cdp"},
    REST_CLAIMS,
    [],
    [f"GET {ACCOUNTS}"],
    [f"GET {ACCOUNTS}?limit=2"],
    [f"POST {ORDERS}"],
    [f"GET {ORDERS}/historical/fills{page}" for page in ("", "?cursor=1", "?cursor=2")],
    ["GET /v2/nothing"],
]
PYTHON_ROWS = ROWS[:4] + ROWS[7:13]
COLUMNS = {
    "ours": [ours for _, ours in PYTHON_ROWS],
    "theirs": [theirs for theirs, _ in PYTHON_ROWS],
    "dropped in": [ROWS[0][1], *(theirs for theirs, _ in ROWS[1:4])],
}


def names_of_rows() -> dict[str, object]:
    """What the lines use that the page does not show."""
    order = {"client_order_id": "1", "product_id": "BTC-USD", "side": "BUY"}
    now = int(time.time())
    return {
        "jwt": jwt, "secrets": secrets, "path": ACCOUNTS, "uri": REST_CLAIMS["uri"],
        "key": key_of(), "key_name": NAME, "key_secret": SEC1, "private_key": P256,
        "request_method": "GET", "request_host": "api.coinbase.com",
        "request_path": ACCOUNTS, "API": "/api/v3/brokerage",
        "jwt_payload": {**REST_CLAIMS, "nbf": now, "exp": now + 120},
        "order": {**order, "order_configuration": {}},
    }  # fmt: skip


def fills_with_ids(handler: Handler) -> None:
    page = int(handler.query.get("cursor") or 0)
    cursor = str(page + 1) if page < 2 else ""
    handler.answer(200, {"fills": [{"trade_id": str(page)}], "cursor": cursor})


@pytest.mark.parametrize("column", COLUMNS)
def test_rows_for_python_do_the_same(here, by_name, column):
    names = {**vars(cdp_jwt), "cdp_jwt": cdp_jwt, **names_of_rows()}
    if column == "theirs":
        write_private(
            pathlib.Path("cdp_api_key.json"), {"name": NAME, "privateKey": SEC1}
        )
        rest = pytest.importorskip("coinbase.rest", reason="`.[bench]` is not there")
        names.update(RESTClient=rest.RESTClient, HTTPError=requests.HTTPError)
    by_name.routes["GET", f"{ORDERS}/historical/fills"] = (True, fills_with_ids)
    for line, done in zip(COLUMNS[column], ROWS_DONE):
        by_name.seen.clear()
        is_handler = line.startswith("except ")
        exec(f"try: client.get('/v2/nothing')\n{line}" if is_handler else line, names)
        token = names.pop("token", names.pop("jwt_token", None))
        if token:
            seen = verified(token, P256)
            assert len(seen["nonce"]) == 64
            assert seen["exp"] - seen["nbf"] == 120
            assert {name: seen[name] for name in REST_CLAIMS if name in seen} == done
        else:
            assert [each.removesuffix("?cursor=") for each in served(by_name)] == done
        assert not is_handler or names["found"] == 404


def test_rows_on_rate_limits_and_websockets_name_what_is_there(here, by_name):
    [[_, rate], [_, message]] = ROWS[-2:]
    answer = cdp_jwt.Client(key_of()).get(ACCOUNTS)
    assert eval(rate, {"answer": answer}) == str(by_name.rate_left)
    text = eval(message.removesuffix("websockets"), {**vars(cdp_jwt), "key": key_of()})
    assert json.loads(text)["channel"] == "user"


@pytest.mark.parametrize("column", [0, 1], ids=["theirs", "ours"])
def test_rows_for_cdpcurl_make_the_same_requests(reader, by_name, column):
    if column == 0:
        reader.need("cdpcurl")
        by_name.faults += [status(200, {})] * 3  # its tokens have uris in place of uri
    del reader.environ["CDP_KEY_FILE"]
    by_name.keys[UUID] = [ED25519.public_key()]
    order = '{"client_order_id": "of the table"}'
    expected = [("GET", ACCOUNTS, ""), ("POST", ORDERS, order), ("GET", ACCOUNTS, "")]
    for row, (method, path, content) in zip(ROWS[4:7], expected):
        url = f"https://api.coinbase.com{path}"
        reader.sh(row[column], URL=url, ORDER=order, ID=UUID, SECRET=PORTAL)
        last = by_name.seen[-1]
        assert (last.method, last.path, last.body.decode()) == (method, path, content)
    assert by_name.refusals == []
    assert jwt.get_unverified_header(last.token)["kid"] == UUID


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
#
# A report and no test: nothing here fails because something is slow. What is compared
# takes turns within one run, so that a busy machine slows it all alike.

LIMITS = {  # ours -> what it is compared with, and their ratio at most (0: any)
    "ApiKey.rest_jwt": {"bare sign": 1.30, "PyJWT": 0.80, "joserfc": 0, "authlib": 0},
    "build_rest_jwt, same key": {"SDK's, same key": 0.60},
    "build_rest_jwt, new keys": {"SDK's, new keys": 1.80},
    "command": {"least process": 1.30, "with the SDK": 0.65, "with PyJWT": 0},
    "warm Client.get": {"SDK's": 0.40, "requests'": 0.50, "httpx's": 0.70},
    "cold --call": {"script with the SDK": 0.65},
    "100,000th token": {"1,000th": 1.10},
    "peak of 1,000 pages": {"of 10": 1.05},
    "peak of 100,000 tokens": {"of 1,000": 0},
    "peak of command": {"of least process": 0, "of with the SDK": 0},
    "tokens by 2 processes": {"by 1 process": 0},
    "tokens by 4 threads": {"by 1 thread": 0},
    "tokens by 8 threads": {"by 1 thread": 0},
}


def report(found: dict[str, float], unit: str = "ms", label: str = "") -> None:
    """Print the rows of which both figures were found."""
    rows = [(ours, *row) for ours in LIMITS for row in LIMITS[ours].items()]
    for ours, other, limit in rows:
        if ours in found and other in found:
            ratio = found[ours] / found[other]
            verdict = f"at most {limit:.2f}" if limit else ""
            verdict += ", over" if limit and ratio > limit else ""
            figures = f"{found[ours]:10.3f} ÷ {found[other]:.3f} {unit}"
            row = f"{label}{ours} ÷ {other}"
            print(f"\n{row:50} {ratio:.2f} {figures:28}{verdict}", end="")


def medians(candidates: dict[str, Callable], rounds: int, times: int = 1) -> dict:
    """The median time of each, in milliseconds, where they take turns.

    A turn is short, so that few are cut in two by what else the machine has to do; it
    has `times` of it where what is meant is the same thing again and again.
    """
    import timeit

    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds + 1):  # the first does not count
        for name, candidate in candidates.items():
            seconds = timeit.timeit(candidate, number=times)
            taken[name].append(seconds / times * 1000)
    return {name: statistics.median(taken[name][1:]) for name in taken}


def parts(algorithm: str) -> tuple[dict, dict]:
    """Header and claims, as a program makes them that gets its JWT from a library."""
    now = int(time.time())
    nonce = secrets.token_hex()
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
    authlib_key = authlib.jose.JsonWebKey.import_key(pkcs8(private_key))
    encode = functools.partial(joserfc.jwt.encode, registry=JOSERFC)
    authlib_encode = authlib.jose.JsonWebToken([algorithm]).encode
    same = (URI, NAME, SECRETS[algorithm])
    candidates = {  # all but the SDK's with the key loaded
        "ApiKey.rest_jwt": lambda: key.rest_jwt("GET", ACCOUNTS),
        "PyJWT": lambda: by_pyjwt(private_key, algorithm),
        "joserfc": lambda: encode(*parts(algorithm), joserfc_key),
        "authlib": lambda: authlib_encode(*parts(algorithm), authlib_key),
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
    if algorithm == "ES256":
        texts = [pem(ec.generate_private_key(ec.SECP256R1())) for _ in range(64)]
    else:
        texts = [portal(ed25519.Ed25519PrivateKey.generate()) for _ in range(64)]
    ours, other = itertools.cycle(texts), itertools.cycle(texts)
    build, build_other = cdp_jwt.build_rest_jwt, sdk.build_rest_jwt
    candidates = {
        "build_rest_jwt, new keys": lambda: build(URI, NAME, next(ours)),
        "SDK's, new keys": lambda: build_other(URI, NAME, next(other)),
    }
    report(medians(candidates, rounds=2000), label=f"{algorithm}: ")


# It imports all of `cryptography` that the module's own imports do.
LEAST_PROCESS = f"""
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
private_key = load_pem_private_key({SEC1!r}.encode(), None)
print(private_key.sign(b"x" * 400, ec.ECDSA(SHA256())).hex())
"""
WITH_SDK = f"""
from coinbase import jwt_generator
print(jwt_generator.build_rest_jwt({URI!r}, {NAME!r}, {SEC1!r}))
"""
WITH_PYJWT = f"""
import jwt, secrets, time
from cryptography.hazmat.primitives.serialization import load_pem_private_key
private_key = load_pem_private_key({SEC1!r}.encode(), None)
now = int(time.time())
claims = dict(sub={NAME!r}, iss="cdp", nbf=now, exp=now + 120, uri={URI!r})
header = dict(kid={NAME!r}, nonce=secrets.token_hex())
print(jwt.encode(claims, private_key, "ES256", header))
"""
CALL_WITH_SDK = f"""
import os, sys
from coinbase.rest import RESTClient
client = RESTClient(key_file=os.environ["CDP_KEY_FILE"], base_url=sys.argv[1])
print(client.get({ACCOUNTS!r}))
"""
MANY_TOKENS = f"""
import cdp_jwt, sys
key = cdp_jwt.ApiKey({NAME!r}, {SEC1!r})
for _ in range(int(sys.argv[1])):
    key.rest_jwt("GET", {ACCOUNTS!r})
"""
# What a process had at its peak, by the kernel (ru_maxrss, in KiB on Linux). It is asked
# by a small parent, as a child's figure starts with what its parent holds.
PEAK = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print("failed" if status else usage.ru_maxrss / 1024, file=sys.stderr)
"""


def serve_canned(bundle: str) -> None:
    """Serve; `bundle` gets as many CAs as a machine has, and the server's own."""
    account = {"uuid": UUID, "currency": "BTC", "available_balance": {"value": "1.5"}}

    def answer(wire: Wire, connection: socket.socket) -> None:
        """Keep the connection, and answer as cheaply as can be; `?pages=` is a list."""
        while True:
            line = wire.read_request(connection).partition(b"\r\n")[0]
            wire.requests.clear()
            numbers = dict(re.findall(rb"(\w+)=(\d+)", line))
            cursor = int(numbers.get(b"cursor", 0)) + 1
            page = {
                "accounts": [account] * (100 if numbers else 3),
                "cursor": str(cursor),
            }
            page["has_next"] = cursor < int(numbers.get(b"pages", 0))
            body = json.dumps(page).encode()
            connection.sendall(OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    ca = trustme.CA()
    usual = pathlib.Path(requests.certs.where()).read_bytes()
    pathlib.Path(bundle).write_bytes(usual + ca.cert_pem.bytes())
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

    def get(client: requests.Session | httpx.Client) -> object:
        headers = {"Authorization": f"Bearer {by_pyjwt(P256)}"}
        return client.get(f"https://{host}{ACCOUNTS}", headers=headers).json()

    with (
        sdk.session,
        requests.Session() as session,
        httpx.Client(verify=trust) as client,
    ):
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
    """The time that they take, and the memory."""
    host, bundle = canned
    environ = {"CDP_KEY_FILE": str(key_file), "SSL_CERT_FILE": bundle}
    run = functools.partial(process, env={**environ, "REQUESTS_CA_BUNDLE": bundle})
    python, command = [sys.executable, "-c"], [sys.executable, MODULE, "GET", ACCOUNTS]
    call = [*command, "--call", "--host", host]
    pages = [*call, "--paginate", "--param"]
    commands = {
        "command": command,
        "least process": [*python, LEAST_PROCESS],
        "with the SDK": [*python, WITH_SDK],
        "with PyJWT": [*python, WITH_PYJWT],
        "cold --call": call,
        "script with the SDK": [*python, CALL_WITH_SDK, host],
    }
    candidates = {name: functools.partial(run, commands[name]) for name in commands}
    for candidate in candidates.values():
        assert candidate().returncode == 0
    report(medians(candidates, rounds=40))
    weighed = {
        "peak of command": command,
        "of least process": commands["least process"],
        "of with the SDK": commands["with the SDK"],
        "peak of 1,000 pages": [*pages, "pages=1000"],
        "of 10": [*pages, "pages=10"],
        "peak of 100,000 tokens": [*python, MANY_TOKENS, 100_000],
        "of 1,000": [*python, MANY_TOKENS, 1000],
    }
    small = [sys.executable, "-ISc", PEAK]
    peaks = {name: float(run([*small, *weighed[name]]).stderr) for name in weighed}
    report(peaks, "MiB")


def make_tokens(count: int) -> None:
    key = key_of()
    for _ in range(count):
        key.rest_jwt("GET", ACCOUNTS)


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

    # Started anew, as a fork would have all of pytest in it.
    spawn = multiprocessing.get_context("spawn")
    threads = concurrent.futures.ThreadPoolExecutor
    processes = functools.partial(
        concurrent.futures.ProcessPoolExecutor, mp_context=spawn
    )
    with contextlib.ExitStack() as pools:

        def share(executor: Callable, count: int) -> Callable[[], list]:
            pool = pools.enter_context(executor(count))
            return lambda: list(pool.map(make_tokens, [8000 // count] * count))

        candidates = {
            "by 1 process": share(processes, 1),
            "tokens by 2 processes": share(processes, 2),
            "by 1 thread": share(threads, 1),
            "tokens by 4 threads": share(threads, 4),
            "tokens by 8 threads": share(threads, 8),
        }
        found = medians(candidates, rounds=10)
    report({name: 8000 / found[name] for name in found}, "/ms")


# ----------------------------------------------------------------- `make mutants`
#
# cosmic-ray makes the mutants and reports on them, as .cosmic-ray.toml says. Each is
# tried in a fork of this process, which has imported all that takes time: by the quick
# tests that run its line, as pytest-cov has learned; the quickest first, until one fails.


def fails(text: str, tests: list[str]) -> bool:
    """Does one of the tests fail on the module with this text, or not end?"""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] not in (0, 5 << 8)  # all pass, or there is none
    try:
        sys.modules["cdp_jwt"] = module = types.ModuleType("cdp_jwt")
        module.__file__ = str(MODULE)
        exec(compile(text, MODULE, "exec"), vars(module))
        os._exit(pytest.main([f"{__file__}::{test}" for test in tests]))
    finally:
        os._exit(1)


def mutants(folder: str, sample: str = "0") -> None:
    """Try the mutants of a session of cosmic-ray, or so many of them, by chance."""
    from xml.etree import ElementTree

    from cosmic_ray import config, mutating, plugins, work_db, work_item
    from coverage import CoverageData

    text = source()
    sections = range(*(text[: text.index(f"- {n}. ")].count("\n") for n in (3, 8)))
    no_defect = config.load_config(".cosmic-ray.toml").sub("filters", "no-defect")
    (learned := CoverageData(f"{folder}/lines")).read()
    lines = learned.contexts_by_lineno(str(MODULE))
    cases = ElementTree.parse(f"{folder}/tests.xml").iter("testcase")
    times = {case.get("name"): float(case.get("time")) for case in cases}
    # A name with "<" has the id of an object, and is another one next time.
    quick = [test for test in times if times[test] < 0.3 and "<" not in test]
    quick.sort(key=times.__getitem__)
    assert not fails(text, quick), "the quick tests fail on the module as it is"

    def attempt(item) -> work_item.WorkResult | None:
        [mutation] = item.mutations
        operator = plugins.get_operator(mutation.operator_name)()
        changed = mutating.mutate_code(text, operator, mutation.occurrence)
        both = text.splitlines(), changed.splitlines()
        diff = [*difflib.unified_diff(*both, n=0, lineterm="")][2:]
        if diff[-1][1:].strip() in no_defect.get(
            mutation.definition_name or "module", ()
        ):
            return None
        line = max(each for each in lines if each <= mutation.start_pos[0])
        running = {re.sub(r"^.*?::|[|]\w+$", "", context) for context in lines[line]}
        tests = [test for test in quick if test in running] or quick
        outcome = "killed" if fails(changed, tests) else "survived"
        return work_item.WorkResult("normal", "", outcome, "\n".join(diff))

    forks = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    with work_db.use_db(f"{folder}/session") as db, forks as pool:
        items = [*db.pending_work_items]
        items = [each for each in items if each.mutations[0].start_pos[0] in sections]
        items = random.sample(items, int(sample) or len(items))
        db.clear()
        db.add_work_items(items)
        for item, result in zip(items, pool.map(attempt, items)):
            if result:
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


def with_server(show: Callable[..., None]) -> None:
    """Show something with a strict Coinbase, a throwaway key and a CA of its own."""
    ca = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        ca_path, key_path = pathlib.Path(folder, "ca.pem"), pathlib.Path(folder, "key")
        ca.cert_pem.write_to_path(str(ca_path))
        write_private(key_path, {"name": NAME, "privateKey": SEC1})
        with serving(Coinbase(server_context(ca))) as server:
            show(server, ca_path, key_path)


PROGRAMS = {  # `python test_cdp_jwt.py NAME`
    "canned": serve_canned,
    "demo": functools.partial(with_server, demo),
    "mutants": mutants,
    "samples": lambda folder: write_samples(pathlib.Path(folder)),
    "serve": functools.partial(with_server, serve),
}
if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
