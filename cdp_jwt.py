#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["cryptography>=3.4.8"]
# ///
# SPDX-License-Identifier: 0BSD
"""Coinbase (CDP) JWTs and calls in one file that you can read before you trust it.

Copy it into a project under any name; it needs Python >= 3.9 and `cryptography`, and
nothing else. Its sections stand in the order in which your key travels, and each uses
only the sections above it: one reading from top to bottom audits it.

Where your private key goes: from its text into `cryptography`, which signs with it. The
text comes from a file, standard input, the environment or your own call, never from the
command line, and is not kept. No message, log, repr or pickle shows its text, nor does
any variable of this module in the traceback of an error. Making a token opens no
connection.

In a program:
    import cdp_jwt
    key = cdp_jwt.ApiKey.from_file("cdp_api_key.json")
    token = key.rest_jwt("GET", "/api/v3/brokerage/accounts")

    accounts = cdp_jwt.Client(key).get("/api/v3/brokerage/accounts").json()

In a shell:
    export CDP_KEY_FILE=cdp_api_key.json
    python cdp_jwt.py GET /api/v3/brokerage/accounts            # prints a token
    python cdp_jwt.py GET /api/v3/brokerage/accounts --call     # makes the call
    python cdp_jwt.py check                                     # is all well?
"""

# ---------------------------------------------------------- 1. imports

from __future__ import annotations

import base64
import codecs
import contextlib
import io
import json
import os
import re
import stat
import sys
import time
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Union, cast

try:
    import cryptography

    if (
        int(cryptography.__version__.partition(".")[0]) < 35
        and cryptography.__version__ != "3.4.8"  # the last one before 35
    ):
        raise ImportError(f"found {cryptography.__version__}")
    from cryptography.exceptions import (
        InternalError,
        InvalidSignature,
        UnsupportedAlgorithm,
    )
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256
except (ImportError, AttributeError, ValueError) as error:
    install = (
        f"cryptography >= 3.4.8 is needed ({error}); pip install cryptography,"
        " apt install python3-cryptography or dnf install python3-cryptography"
    )
    if __name__ == "__main__":
        program = os.path.basename(sys.argv[0]).partition(".")[0]
        raise SystemExit(f"{program}: error: {install}") from None
    raise ImportError(install) from error

if TYPE_CHECKING:
    import logging
    import socket
    import ssl
    from collections.abc import (
        Callable,
        Generator,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from datetime import datetime
    from email.message import Message
    from http.client import HTTPMessage, HTTPResponse
    from typing import Any, Optional, Protocol, TextIO, TypeVar
    from urllib.request import OpenerDirector, Request

    class HookHeaders(Protocol):
        def __setitem__(self, name: str, value: str, /) -> None: ...

    class HookRequest(Protocol):
        """What `ApiKey` reads and sets in a request of requests or httpx."""

        @property
        def method(self) -> str | None: ...
        @property
        def url(self) -> object: ...
        @property
        def headers(self) -> HookHeaders: ...

    PrivateKey = Union[ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey]
    PublicKey = Union[ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey]
    Params = Optional[Mapping[str, object]]  # of a query
    AnyRequest = TypeVar("AnyRequest", bound=HookRequest)
    AnyKey = TypeVar("AnyKey", bound="ApiKey")
    AnyFunction = TypeVar("AnyFunction", bound=Callable[..., object])

__version__ = "0.2.0"
__all__ = (
    "ApiError", "ApiKey", "CdpError", "Client", "Inspection", "InvalidKeyError",
    "InvalidRequestError", "Response", "TransportError", "build_rest_jwt",
    "build_ws_jwt", "format_jwt_uri", "inspect_jwt", "main", "ws_message",
)  # fmt: skip

# ---------------------------------------------------------- 2. constants and errors

DEFAULT_HOST: Final = "api.coinbase.com"
LIFETIME: Final = 120  # seconds; Coinbase accepts no token that lives longer
# Coinbase allows no leeway on nbf: one second ahead of its clock is a 401
# (coinbase-advanced-py#19). Dated back, a token looks a few seconds old: that is fine.
BACKDATE: Final = 5  # seconds
ECDSA_SHA256: Final = ec.ECDSA(SHA256())


class CdpError(Exception):
    """Base of all errors that this module raises on purpose."""


class InvalidKeyError(CdpError, ValueError):
    """The API key cannot be used; says what was found, and what to do."""


class InvalidRequestError(CdpError, ValueError):
    """A method, URL, path, host or parameter that would be misread or refused."""


class TransportError(CdpError, OSError):
    """There is no answer, or none of use; says why, and what to do.

    `outcome_unknown` is True if the request changes something and may have been carried
    out all the same.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class ApiError(CdpError):
    """An answer outside 200-299: `status`, `headers`, up to 64 KiB of the `body`.

    `hints` name its possible causes, the likeliest first. `outcome_unknown` is as in
    TransportError: it is True only after a 5xx to a request that changes something.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        headers: Message | None = None,
        body: bytes = b"",
        hints: tuple[str, ...] = (),
        outcome_unknown: bool = False,
    ) -> None:
        from email.message import Message  # not above: it is slow to import

        super().__init__(message)
        self.status = status
        self.headers = Message() if headers is None else headers
        self.body = body
        self.hints = hints
        self.outcome_unknown = outcome_unknown


def _logger() -> logging.Logger:
    """Return this module's logger."""
    import logging  # not above: its import takes longer than many tokens

    return logging.getLogger(__name__)


def _exact_text(value: object) -> str | None:
    """Return text from outside as an exact `str`; None if it is not text.

    A subclass may be shown, compared and hashed as another text than the one it holds;
    an `Enum` that is a `str` does so from Python 3.11 on.
    """
    try:
        # Not str.__str__, which calls the subclass's __len__ on PyPy.
        return "".join([cast("str", value)])
    except TypeError:  # it is not text
        return None


def _escaped(text: str) -> str:
    """Return text from outside as one line without control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


MAX_SHOWN: Final = 300  # characters of a text from outside in a message
MAX_SEARCHED: Final = 4096  # characters of such a text that a pattern may run over


def _shown(text: str) -> str:
    """Return a text of a server as a message shows it: short, and without a token."""
    # A server may send back the token that it was sent. All begin with {" in base64.
    masked = re.sub(r"eyJ[\w.-]{20,}", "...", text[:MAX_SEARCHED])
    return _escaped(masked)[:MAX_SHOWN]


def _members(value: object) -> dict[str, object]:
    """Return the members of a JSON object, and none of anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


# What to do about a key that cannot be used.
PASTE: Final = "paste the private key, `privateKey` in the key file"
GIVE_NAME: Final = "give the key's name, `name` or `id` in the key file"
GIVE_PATH: Final = "give it with --key-file, CDP_KEY_FILE or ApiKey.from_file"
AGAIN: Final = "copy it again from the key file, or create a new key"
CREATE: Final = "create a CDP API key in the portal"
KINDS: Final = "Coinbase takes ECDSA P-256 or Ed25519"


def _drops_frames(function: AnyFunction) -> AnyFunction:
    """Decorate a public function that may be given key text, rightly or by mistake.

    Error reporters (pytest, sentry-sdk, rich) show the variables of each function that
    an error has passed through. Here it loses its traceback, and `call` its arguments.
    """

    @wraps(function)
    def call(*arguments: object, **options: object) -> object:
        try:
            return function(*arguments, **options)
        except BaseException as error:  # Ctrl-C as well
            error.__cause__ = None
            error.__context__ = None
            failure = error.with_traceback(None)
        del arguments, options
        try:
            raise failure
        finally:
            del failure  # or the error and this frame would keep each other

    return cast("AnyFunction", call)


@contextlib.contextmanager
def _only_key_errors() -> Generator[None, None, None]:
    """Put an InvalidKeyError in place of any other, whose text may hold key text."""
    try:
        yield
    except CdpError:
        raise
    except BaseException as error:
        kind = type(error).__name__
        if isinstance(error, Exception) or kind == "PanicException":  # one of Rust's
            advice = "are all arguments as documented?"
            raise InvalidKeyError(f"an unexpected {kind}; {advice}") from None
        raise


# ---------------------------------------------------------- 3. keys: text -> parsed key

MAX_KEY_FILE: Final = 64 * 1024  # bytes
MAX_KEY_TEXT: Final = 8 * 1024  # characters of a name or secret; a key has about 250
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class _Layout(NamedTuple):
    """The octets of a key that are the same in all keys of its form."""

    label: str  # of the PEM lines that are usual around it; "" if there are none
    head: bytes  # followed by the secret part, 32 octets
    middle: bytes  # followed by the public part
    public_size: int  # octets: 64 in ECDSA P-256, 32 or 0 in Ed25519
    tail: bytes = b""

    @property
    def is_p256(self) -> bool:
        return self.public_size == 64

    @property
    def is_proven(self) -> bool:  # by its public part
        return self.public_size != 0

    def parts_of(self, octets: bytes) -> tuple[bytes, bytes] | None:
        """Return secret and public part, if all other octets are those of the form."""
        secret_start = len(self.head)
        secret = octets[secret_start : secret_start + 32]
        public_start = secret_start + 32 + len(self.middle)
        public = octets[public_start : public_start + self.public_size]
        form = self.head + secret + self.middle + public + self.tail
        is_whole = len(secret) == 32 and len(public) == self.public_size
        return (secret, public) if is_whole and form == octets else None


SEC1: Final = _Layout(  # RFC 5915, ECDSA P-256
    "EC PRIVATE KEY",
    bytes.fromhex("30770201010420"),
    bytes.fromhex("a00a06082a8648ce3d030107a14403420004"),
    64,
)
PKCS8: Final = _Layout(  # RFC 5208, ECDSA P-256
    "PRIVATE KEY",
    bytes.fromhex(
        "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420"
    ),
    bytes.fromhex("a14403420004"),
    64,
)
PKCS8_OF_JAVA: Final = _Layout(  # BouncyCastle's names the curve a second time
    "PRIVATE KEY",
    bytes.fromhex(
        "308193020100301306072a8648ce3d020106082a8648ce3d030107047930770201010420"
    ),
    bytes.fromhex("a00a06082a8648ce3d030107a14403420004"),
    64,
)
PKCS8_OF_WINDOWS: Final = _Layout(  # has the key's usage behind it
    "PRIVATE KEY",
    bytes.fromhex(
        "308196020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420"
    ),
    bytes.fromhex("a14403420004"),
    64,
    bytes.fromhex("a00d300b0603551d0f310403020080"),
)
PKCS8_ED25519: Final = _Layout(  # RFC 8410, without a public part
    "PRIVATE KEY", bytes.fromhex("302e020100300506032b657004220420"), b"", 0
)
PORTAL: Final = _Layout("", b"", b"", 32)  # Ed25519 seed and public key
SEED: Final = _Layout("", b"", b"", 0)  # Ed25519 seed alone, without a public part

IN_PEM: Final = (SEC1, PKCS8, PKCS8_OF_JAVA, PKCS8_OF_WINDOWS, PKCS8_ED25519)
# A bare PKCS8 is not among these: it is what a CDP wallet secret looks like.
BARE: Final = (PORTAL, SEED, SEC1, PKCS8_OF_JAVA, PKCS8_OF_WINDOWS, PKCS8_ED25519)


class _FoundKey(NamedTuple):
    """A private key, and the octets and the form in which it was found."""

    private_key: PrivateKey
    octets: bytes
    layout: _Layout

    def __repr__(self) -> str:
        return f"_FoundKey(label={self.layout.label!r})"


def _find_key(octets: bytes, layouts: Iterable[_Layout]) -> _FoundKey | None:
    """Return the key that `octets` are, in one of the layouts, or None.

    Octets are compared and not parsed: `cryptography` up to 44 loads damaged keys, and
    which ones depends on the version. The public part, if any, proves the secret.
    """
    for layout in layouts:
        parts = layout.parts_of(octets)
        if parts and layout.is_p256:
            return _FoundKey(_p256_key(*parts), octets, layout)
        if parts:
            return _FoundKey(_ed25519_key(*parts), octets, layout)
    return None


def _refused_by_openssl(error: Exception) -> InvalidKeyError:
    """Say that OpenSSL will not use a key; its error's type depends on the version."""
    return InvalidKeyError(
        f"this OpenSSL refuses the key ({type(error).__name__}); is FIPS on? See"
        " OPENSSL_CONF, and use ECDSA P-256 where Ed25519 is refused"
    )


def _p256_key(secret: bytes, public: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the key of the scalar `secret`, if `public` is its point, x and y."""
    scalar = int.from_bytes(secret, "big")
    if not 0 < scalar < P256_ORDER:  # cryptography up to 42 lets some others pass
        damage = "its secret part is too small or too large for P-256"
        raise InvalidKeyError(f"this key is damaged: {damage}; {AGAIN}")
    try:
        key = ec.derive_private_key(scalar, ec.SECP256R1())
    except Exception as error:
        raise _refused_by_openssl(error) from None
    point = key.public_key().public_numbers()
    if public != point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"):
        damage = "its public part is not that of its secret"
        raise InvalidKeyError(f"this key is damaged: {damage}; {AGAIN}")
    return key


def _ed25519_key(seed: bytes, public: bytes) -> ed25519.Ed25519PrivateKey:
    """Return the key of `seed`, if `public` is its public key or is left out."""
    try:
        key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    except Exception as error:
        raise _refused_by_openssl(error) from None
    if public and public != _raw_public(key.public_key()):
        raise InvalidKeyError(
            "this is a damaged Ed25519 key (its second half is not the public key of"
            f" its first), or a Coinbase Exchange secret; {AGAIN}"
        )
    return key


def _raw_public(public_key: ed25519.Ed25519PublicKey) -> bytes:
    if hasattr(public_key, "public_bytes_raw"):  # from cryptography 40 on
        return public_key.public_bytes_raw()
    from cryptography.hazmat.primitives import serialization  # slow to import

    raw = serialization.Encoding.Raw
    return public_key.public_bytes(raw, serialization.PublicFormat.Raw)


def _base64(text: str) -> bytes:
    """Decode base64 in either alphabet (RFC 4648, sections 4 and 5), padded or not.

    White space is skipped. Returns b"" if any other character is out of place.
    """
    digits = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    padded = digits + "=" * (-len(digits) % 4)
    with contextlib.suppress(ValueError):
        octets = base64.b64decode(padded)
        if base64.b64encode(octets).decode() == padded:  # b64decode skips strange ones
            return octets
    return b""


def _is_mixed(text: str) -> bool:
    """Tell whether a text has letters of both cases and digits, as base64 has."""
    has_both_cases = text != text.lower() and text != text.upper()
    return has_both_cases and any(digit in text for digit in "0123456789")


HIDDEN: Final = "(looks like a key, and is not shown)"


def _looks_like_key(text: str, shortest: int = 32) -> bool:
    """Tell whether a text may be a secret, and so must not be shown.

    `shortest` is the least number of letters and digits in a row that make it look so.
    """
    joined = "".join(text.split())
    if "-----" in text or len(joined) > MAX_SEARCHED:  # too long to be searched
        return True
    size = len(_base64(text))  # of Ed25519 keys 32, 64 and 48 (PKCS8), else P-256's
    if size in (32, 48, 64, 121, 138) and _is_mixed(text):
        return True
    # A run of `shortest` is base64 or a legacy secret; with a / in it, one of 40, as
    # paths have shorter ones. One of 64 may be hex, which has letters of one case.
    run_of_base64 = f"[A-Za-z0-9+/]{{40,}}|[A-Za-z0-9+]{{{shortest},}}"
    runs = re.findall(run_of_base64, joined)
    return any(_is_mixed(run) or len(run) == 64 for run in runs)


# What editors, shells, CI systems and secret stores do to a key, and how it is mended.

INVISIBLE: Final = "\ufeff\u200b\u200c\u200d\u2060"
QUOTES: Final = "\"'`“”‘’«»"
NAME_FIELDS: Final = ("id", "name", "apiKeyName", "accessKey")
SECRET_FIELDS: Final = ("privateKey", "secret", "privatePemKey")


def _without_invisible(text: str) -> str:
    return re.sub(f"[{INVISIBLE}]", "", text)


def _without_field(text: str) -> str:
    field, colon, value = text.partition(":")
    is_field = field.strip(QUOTES + " ") in (*NAME_FIELDS, *SECRET_FIELDS)
    return value if colon and is_field else text


def _with_line_breaks(text: str) -> str:
    r"""Put line breaks where \n is written, or a backslash at the end of a line."""
    while r"\\" in text:  # escaped again with each layer of JSON or shell
        text = text.replace(r"\\", "\\")
    text = re.sub(r"\\r\\n|\\n|\\r", "\n", text)
    text = re.sub(r"\\\r?\n", "\n", text)  # a backslash before a real line break
    if "-----" in text:  # PowerShell's way; elsewhere a backquote is a quote
        text = text.replace("`r", "").replace("`n", "\n")
    return text.replace(r"\/", "/")  # as PHP writes it in JSON


def _without_percents(text: str) -> str:
    """Decode what was encoded for a URL."""
    codes = ("%0a", "%2b", "%2f", "%3d")  # a line break, and what base64 has
    if not any(code in text.lower() for code in codes):
        return text
    from urllib.parse import unquote, unquote_plus

    is_form = "BEGIN+" in text  # + for a space
    return unquote_plus(text) if is_form else unquote(text)


def _without_quotes(text: str) -> str:
    return text.strip(QUOTES + "\\,; \t\r\n")


REPAIRS: Final = (
    (_without_invisible, "invisible characters removed"),
    (_without_field, "the name of its field removed"),
    (_without_percents, "percent-encoding decoded"),
    (_with_line_breaks, r"escaped line breaks (\n) made real"),
    (_without_quotes, "quotes removed"),
)


def _key_text(value: object, what: str) -> str:
    """Return a key's name or secret as an exact text."""
    text = _exact_text(value)
    if text is None:
        found = type(value).__name__
        raise InvalidKeyError(f"the key's {what} is {found}, not text; is it set?")
    if len(text) > MAX_KEY_TEXT:
        found = f"{len(text)} characters, and a key has about 250"
        raise InvalidKeyError(f"the key's {what} has {found}; {AGAIN}")
    return text.strip()


def _mended(text: str, what: str, repairs: list[str]) -> str:
    """Return a name or secret as it is meant; add what was mended to `repairs`."""
    for mend, repair in REPAIRS:
        mended = mend(text).strip()
        if mended != text:
            repairs.append(f"{what}: {repair}")
        text = mended
    if not text:
        raise InvalidKeyError(f"the key's {what} is empty; is it set?")
    return text


def _decoded(octets: bytes) -> str:
    """Decode a text as editors write it; PowerShell's `>` writes UTF-16 with a mark."""
    is_utf_16 = octets.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return octets.decode("utf-16" if is_utf_16 else "utf-8-sig")


# What a name, a secret and a key file may be instead, and how each is called.

UNFILLED: Final = (
    "undefined", "null", "none", "nil", "nan", "changeme", "[object object]",
)  # fmt: skip
REFERENCES: Final = ("arn:", "@Microsoft.KeyVault(", "$")
KEY_NAME: Final = re.compile(  # the portal's form, or a UUID
    "organizations/[^/]+/apiKeys/[^/]+"
    "|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
UNKNOWN_NAME: Final = (
    "the key's name is neither organizations/.../apiKeys/... nor a UUID"
)
PEM_LABELS: Final = {  # of what is no key that can be used
    "PUBLIC KEY": f"a public key; {PASTE}",
    "RSA PUBLIC KEY": f"a public key; {PASTE}",
    "CERTIFICATE": f"a certificate; {PASTE}",
    "CERTIFICATE REQUEST": f"a certificate request; {PASTE}",
    "OPENSSH PRIVATE KEY": f"an OpenSSH key; {PASTE}",
    "ENCRYPTED PRIVATE KEY": "an encrypted key; decrypt it with openssl pkey",
    "EC PARAMETERS": f"only the parameters of a key; {AGAIN}",
}
FIRST_LINE: Final = (
    "only the first line of a key; quote it, in one line with \\n for each line break,"
    " or use a key file"
)
OPENSSL: Final = (
    "openssl ec -in OLD -conv_form uncompressed -param_enc named_curve -out NEW"
)
DAMAGED: Final = (
    "a key that is cut off, damaged or in an unusual form; copy it again from the key"
    f" file, or make its form the usual one: {OPENSSL}"
)
CURVES: Final = {"secp384r1": "P-384", "secp521r1": "P-521"}


def _unfilled(text: str) -> str:
    """Say what stands in place of a value that nobody has filled in; "" if nothing."""
    lower = text.lower()
    is_variable = text.startswith("%") and text.endswith("%")
    if text.startswith(REFERENCES) or "://" in text or is_variable:
        return "a reference that nothing has resolved; give the value itself"
    has_braces = ("{" in text and "}" in text) or ("<" in text and ">" in text)
    words = ("your ", "your_", "your-", "org_id", "key_id", "...", "…")
    has_words = any(word in lower for word in words)
    is_blank = not text.strip("xX*")
    if lower in UNFILLED or has_braces or has_words or is_blank:
        return "a placeholder; put the value there, from the key file"
    return ""


def _kind(octets: bytes) -> str:
    """Name what `cryptography` finds in octets that have no known layout, or ""."""
    # Slow to import, and needed only for a refusal.
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    # NotImplementedError is of rare X.509; `python -W error` raises each Warning.
    refusals = (
        ValueError,
        UnsupportedAlgorithm,
        InternalError,
        NotImplementedError,
        Warning,
    )
    try:
        return _kind_of_private(serialization.load_der_private_key(octets, None))
    except TypeError:  # it asks for a password
        return PEM_LABELS["ENCRYPTED PRIVATE KEY"]
    except refusals:
        pass
    try:
        serialization.load_der_public_key(octets)
        return PEM_LABELS["PUBLIC KEY"]
    except refusals:
        pass
    try:
        x509.load_der_x509_certificate(octets)
        return PEM_LABELS["CERTIFICATE"]
    except refusals:
        return ""


def _kind_of_private(key: object) -> str:
    from cryptography.hazmat.primitives.asymmetric import dsa, ed448, rsa, x448, x25519

    if isinstance(key, ec.EllipticCurvePrivateKey):
        curve = key.curve.name
        if curve == "secp256r1":
            return f"a P-256 key in an unusual form; make it the usual one: {OPENSSL}"
        if curve.startswith("brainpool"):
            return f"a brainpool key; {KINDS}"
        return f"a {CURVES.get(curve, curve)} key; {KINDS}"
    kinds = (
        (rsa.RSAPrivateKey, "an RSA key"),
        (dsa.DSAPrivateKey, "a DSA key"),
        (x25519.X25519PrivateKey, "an X25519 key"),
        (x448.X448PrivateKey, "an X448 key"),
        (ed448.Ed448PrivateKey, "an Ed448 key"),
    )
    for kind, name in kinds:
        if isinstance(key, kind):
            return f"{name}; {KINDS}"
    return f"a key in an unusual form; {AGAIN}"


class _KeyText(NamedTuple):
    """A key as a file or the environment holds it, and what to know of its source."""

    name: object  # neither is checked yet
    secret: object
    allowed_ips: tuple[str, ...] = ()
    source: str = ""
    warnings: tuple[str, ...] = ()  # of the file

    def __repr__(self) -> str:
        return f"_KeyText(source={self.source!r})"


def _parse_json(text: str, name: object) -> _KeyText:
    """Return what is in a key file's JSON.

    If a `name` is given and the file has any, it must be one of these.
    """
    if text.startswith("["):
        raise InvalidKeyError(f"this is JSON, but an array; {PASTE}")
    try:
        fields = _members(json.loads(text, strict=False))
    except (ValueError, RecursionError):
        raise InvalidKeyError(f"this is damaged JSON; {AGAIN}") from None
    if "passphrase" in fields:
        raise InvalidKeyError(f"this is a Coinbase Exchange key; {CREATE}")
    if "kty" in fields:
        raise InvalidKeyError(f"this is a JWK (RFC 7517), not a key file; {CREATE}")
    names = [fields[field] for field in NAME_FIELDS if fields.get(field)]
    secrets = [fields[field] for field in SECRET_FIELDS if fields.get(field)]
    if len(secrets) != 1 or (name is None and not names):
        raise InvalidKeyError(
            f"names: {len(names)}, secrets: {len(secrets)}; expected one of"
            f" {', '.join(NAME_FIELDS)} and one of {', '.join(SECRET_FIELDS)}"
        )
    if name is not None and names and _exact_text(name) not in names:
        raise InvalidKeyError(
            "the name in the key file is not the name given; leave out the one given"
        )
    # A `name` beside an `id` may be its nickname: a full name is best, then the `id`.
    full = [each for each in names if "/apiKeys/" in str(each)]
    best = name if name is not None else (full or names)[0]
    allowed = fields.get("allowedIps")
    listed = cast("list[object]", allowed) if isinstance(allowed, list) else []
    return _KeyText(best, secrets[0], tuple(str(each) for each in listed))


# A secret: PEM or base64, perhaps within base64 or within a key file's JSON.

PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----([^-]*)-----END \1-----")
BEGIN_LINE: Final = re.compile("-----BEGIN ([A-Z0-9 ]+)-----")


def _parse_secret(value: object, name: str, repairs: list[str]) -> _FoundKey:
    """Return the private key in one of the texts that `ApiKey` lists."""
    given = _unwrapped(_key_text(value, "secret"), name, repairs)
    text = _mended(given, "secret", repairs)
    if text != given:  # in quotes, base64 or JSON was not seen as such above
        text = _mended(_unwrapped(text, name, repairs), "secret", repairs)
    if "-----" in text or "PRIVATE KEY" in text:
        found = _key_in_pem(text)
    else:
        found = _bare_key(text)
    if text != _usual_form(found):
        repairs.append(
            "secret: line breaks, spaces, padding, BEGIN and END lines put right"
        )
    return found


def _unwrapped(text: str, name: str, repairs: list[str]) -> str:
    """Take a secret out of base64 (CI variables) or JSON (secret stores)."""
    if text.startswith("-----"):
        return text
    inner = ""
    with contextlib.suppress(ValueError):  # a key's own octets are no text
        inner = _decoded(_base64(text))
    if "-----" in inner or inner.lstrip().startswith("{") or _base64(inner):
        repairs.append("secret: decoded from base64")
        return _unwrapped(_key_text(inner, "secret"), name, repairs)
    if text.startswith(("{", "[")) and '"' in text:
        repairs.append("secret: taken out of a key file's JSON")
        return _key_text(_parse_json(text, name).secret, "secret")
    return text


def _key_in_pem(text: str) -> _FoundKey:
    """Return the one private key between BEGIN and END lines in a text."""
    keys = [block for block in PEM.findall(text) if block[0].endswith("PRIVATE KEY")]
    if len(keys) != 1:
        raise InvalidKeyError(f"this is {_mistake_in_pem(text, len(keys))}")
    label, body = keys[0]
    for candidate in (body, _without_eaten_breaks(body.strip())):
        if found := _find_key(_base64(candidate), IN_PEM):
            return found
    mistake = _unfilled(body.strip()) or PEM_LABELS.get(label) or _kind(_base64(body))
    raise InvalidKeyError(f"this is {mistake or DAMAGED}")


def _without_eaten_breaks(body: str) -> str:
    r"""Remove what is left of \n and \r\n where a shell has eaten the backslashes.

    Then an n stands in front of each line of 64 characters, and behind the last one.
    """
    for rest in ("rn", "n"):
        width = 64 + len(rest)
        lines = [body[i : i + width] for i in range(len(rest), len(body), width)]
        is_eaten = body.startswith(rest) and all(line.endswith(rest) for line in lines)
        if is_eaten:
            return "".join(line.removesuffix(rest) for line in lines)
    return body


def _mistake_in_pem(text: str, key_count: int) -> str:
    """Say why there is not one whole PEM block of a private key in a text."""
    labels = BEGIN_LINE.findall(text)
    if key_count > 1:
        return "several keys; keep only the right one"
    if "Proc-Type:" in text:  # RFC 1421
        return PEM_LABELS["ENCRYPTED PRIVATE KEY"]
    if labels and labels[-1] in PEM_LABELS:
        return PEM_LABELS[labels[-1]]
    if labels and not labels[-1].endswith("PRIVATE KEY"):
        return f"PEM of another kind; {PASTE}"
    if len(text) < 50:
        return _unfilled(text) or FIRST_LINE
    if text.count("PRIVATE KEY") > 1:
        return (
            "a key whose BEGIN and END lines differ, or have not five dashes on each"
            f" side; {AGAIN}"
        )
    if "-----BEGIN " in text:
        return f"a key without its line -----END ... PRIVATE KEY-----; {AGAIN}"
    return f"a key without its line -----BEGIN ... PRIVATE KEY-----; {AGAIN}"


def _bare_key(text: str) -> _FoundKey:
    """Return the key in base64 without BEGIN and END lines."""
    octets = _base64(text)
    found = _find_key(octets, BARE)
    # Where nothing proves a key, its base64 must be exact.
    is_exact = "".join(text.split()) == base64.b64encode(octets).decode()
    if found and (found.layout.is_proven or is_exact):
        return found
    raise InvalidKeyError(f"this is {_mistake_in_bare(text, octets)}")


def _mistake_in_bare(text: str, octets: bytes) -> str:
    """Say what a secret is that is neither PEM nor the base64 of a key."""
    starts_like_path = text.startswith(("/", "~", "./", "../")) or text[1:2] == ":"
    ends_like_path = text.endswith((".json", ".pem", ".key", ".txt", ".env"))
    if text.startswith("organizations/") or KEY_NAME.fullmatch(text):
        return f"a key's name; {PASTE}"
    if mistake := _unfilled(text):
        return mistake
    if text.startswith(("ssh-", "ecdsa-")):
        return PEM_LABELS["PUBLIC KEY"]
    if (starts_like_path or ends_like_path) and not _looks_like_key(text):
        return f"a path; {GIVE_PATH}"
    if _find_key(octets, [PKCS8]):
        return f"a CDP wallet secret, which signs no API calls; {PASTE}"
    if mistake := _kind(octets):
        return mistake
    if octets.startswith(b"\x30"):  # the SEQUENCE that DER begins with
        return DAMAGED
    if len(text) == 32 and text.isalnum():
        return f"the secret of a legacy (HMAC) API key; {CREATE}"
    return f"neither PEM nor base64 of 64 bytes (or 32, with its =); {PASTE}"


def _usual_form(found: _FoundKey) -> str:
    """Return a key's text as it is usually handed out."""
    body, label = base64.b64encode(found.octets).decode(), found.layout.label
    if not label:
        return body
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


NOT_IN_NAME: Final = re.compile("[^A-Za-z0-9/._:@+~-]")


def _parse_name(value: object, secret: object, repairs: list[str]) -> str:
    """Return the key's name; `secret` tells whether the two are swapped."""
    name = _mended(_key_text(value, "name"), "name", repairs)
    if mistake := _unfilled(name):
        raise InvalidKeyError(f"the key's name is {mistake}")
    if "PUBLIC KEY" in name:
        raise InvalidKeyError(f"the name is a public key; {GIVE_NAME}")
    # `organizations/...` with ids without dashes looks like base64, too.
    if _looks_like_key(name) and not name.startswith("organizations/"):
        beside = _exact_text(secret) or ""
        is_swapped = "organizations/" in beside or KEY_NAME.fullmatch(beside.strip())
        advice = "name and secret are swapped" if is_swapped else GIVE_NAME
        raise InvalidKeyError(f"the name looks like a key: {advice}")
    if wrong := NOT_IN_NAME.search(name):
        found = f"{wrong[0]!a} at position {wrong.start() + 1}"
        raise InvalidKeyError(f"the key's name has {found}; {GIVE_NAME}")
    if len(name) >= 300:
        raise InvalidKeyError(f"the key's name has {len(name)} characters; {GIVE_NAME}")
    return name


class _ParsedKey(NamedTuple):
    name: str
    private_key: PrivateKey
    repairs: tuple[str, ...]
    warnings: tuple[str, ...]
    allowed_ips: tuple[str, ...]


@_only_key_errors()
def _parse_key(name: object, secret: object, allowed_ips: object) -> _ParsedKey:
    repairs: list[str] = []
    warnings: list[str] = []
    good_name = _parse_name(name, secret, repairs)
    found = _parse_secret(secret, good_name, repairs)
    if not KEY_NAME.fullmatch(good_name):
        warnings.append(UNKNOWN_NAME)
    if not found.layout.is_proven:
        warnings.append(
            "the secret is a bare seed, without its public part: nothing can prove that"
            " it is whole"
        )
    is_one = isinstance(allowed_ips, str)
    addresses = [allowed_ips] if is_one else cast("Iterable[object]", allowed_ips)
    return _ParsedKey(
        good_name,
        found.private_key,
        tuple(repairs),
        tuple(warnings),
        tuple(_exact_text(each) or str(each) for each in addresses),
    )


# Where a key comes from: a file, or the environment.

READ_ONLY: Final = 1  # os.ST_RDONLY, which PyPy lacks
PAIRS: Final = (  # the variables of Coinbase's SDKs, for a key's name and its secret
    ("COINBASE_API_KEY", "COINBASE_API_SECRET"),
    ("CDP_API_KEY_ID", "CDP_API_KEY_SECRET"),
    ("CDP_API_KEY_NAME", "CDP_API_KEY_SECRET"),
)
NAME_VARIABLES: Final = ("CDP_API_KEY_ID", "CDP_API_KEY_NAME", "COINBASE_API_KEY")
OTHER_VARIABLES: Final = (  # of other tools
    "CDP_API_KEY_PRIVATE_KEY", "CDP_PRIVATE_KEY", "COINBASE_PRIVATE_KEY",
    "COINBASE_API_KEY_NAME", "COINBASE_API_PRIVATE_KEY", "KEY_NAME", "KEY_SECRET",
)  # fmt: skip
NOT_TEXT: Final = "not text (UTF-8, or UTF-16 with its mark); expected JSON or PEM"
ENV_LINE: Final = re.compile(r"(?:export |set )?[A-Za-z_][A-Za-z0-9_]* ?= ?[^=\s]")
YAML_LINE: Final = re.compile(r"""[A-Za-z"'-][A-Za-z0-9_"' -]*:(?:\s|$)""")


@contextlib.contextmanager
def _prefixing_errors(source: str) -> Generator[None, None, None]:
    """Put where the key came from in front of what is wrong with it."""
    try:
        yield
    except InvalidKeyError as error:
        raise InvalidKeyError(f"{source}: {error}") from None


def _read(path: str, limit: int) -> bytes:
    """Return up to `limit` octets of a file; of standard input, if `path` is "-"."""
    try:
        if path == "-":
            return sys.stdin.buffer.read(limit)
        with open(os.path.expanduser(path), "rb") as file:
            return file.read(limit)
    except (ValueError, AttributeError):  # closed, a NUL in the path, no standard input
        raise OSError(0, "closed, or not a path") from None


@_only_key_errors()
def _read_key_file(path: object, name: object, fallback_name: str = "") -> _KeyText:
    """Read a key file; `fallback_name` is only for one that is not JSON."""
    place = _path_text(path)
    is_there = os.path.exists(os.path.expanduser(place))
    is_shown = is_there or not _looks_like_key(place, shortest=20)
    shown = place if is_shown else "the key file (its path looks like a key)"
    source = "standard input" if place == "-" else _escaped(shown[:MAX_SHOWN])
    with _prefixing_errors(source):
        try:
            text = _key_file_text(_read(place, MAX_KEY_FILE + 1))
            warnings = () if place == "-" else _mode_warnings(place)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InvalidKeyError(f"cannot be read: {reason}") from None
        if text.startswith(("{", "[")):
            found = _parse_json(text, name)
        elif name is None and not fallback_name:
            raise InvalidKeyError(
                "not JSON, so give the key's name, too (--key-name, or CDP_API_KEY_ID"
                " beside CDP_KEY_FILE)"
            )
        else:
            found = _KeyText(fallback_name if name is None else name, text)
    return found._replace(source=source, warnings=warnings)


def _path_text(path: object) -> str:
    """Return the path of a key file, unless it is a key in the wrong place."""
    if isinstance(path, (bytes, os.PathLike)):
        path = os.fsdecode(cast("bytes | os.PathLike[str]", path))
    text = _exact_text(path)
    if not text:
        found = "empty" if text == "" else f"{type(path).__name__}, not text"
        raise InvalidKeyError(f"the key file's path is {found}; give the file's path")
    is_secret = text.endswith("=") and len(_base64(text)) in (32, 64)
    if is_secret or "-----" in text or text.lstrip().startswith("{"):
        raise InvalidKeyError(
            "this is the text of a key, where the path of a key file is expected; give"
            " the path, or use ApiKey(name, secret), or COINBASE_API_KEY and"
            " COINBASE_API_SECRET"
        )
    return text


def _key_file_text(content: bytes) -> str:
    """Return the text of a key file, if it may be JSON or a secret."""
    if len(content) > MAX_KEY_FILE:
        raise InvalidKeyError("over 64 KiB; expected the JSON or PEM of one key")
    try:
        text = _decoded(content).strip()
    except ValueError:
        raise InvalidKeyError(_kind_of_binary(content)) from None
    if "\0" in text:  # UTF-16 without its mark
        raise InvalidKeyError(NOT_TEXT)
    if not text:
        raise InvalidKeyError("empty; expected the JSON or PEM of one key")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line not in ("", "---") and line[:1] != "#"]
    first = lines[0][:MAX_SEARCHED] if lines else ""
    if ENV_LINE.match(first):
        raise InvalidKeyError(
            "lines of NAME=value (.env); load them into the environment, by `uv run"
            " --env-file FILE` or `set -a; . FILE`, and give no key file"
        )
    if YAML_LINE.match(first) and "\n-----BEGIN" not in text:
        raise InvalidKeyError("YAML; expected the portal's JSON, or the PEM of one key")
    return text


def _kind_of_binary(content: bytes) -> str:
    if content[:1] != b"\x30":  # the SEQUENCE that each of these begins with
        return NOT_TEXT
    if b"\x02\x01\x03" in content[:8]:  # version 3 (RFC 7292, section 4)
        return "PKCS12; take its key: openssl pkcs12 -nodes -nocerts -in OLD -out NEW"
    return "DER, not text; make it PEM: openssl pkey -inform DER -in OLD -out NEW"


def _mode_warnings(place: str) -> tuple[str, ...]:
    """Say what others may do with a key file, where that can be changed."""
    path = os.path.expanduser(place)
    if sys.platform == "win32" or not os.path.isfile(path):
        return ()
    mode = os.stat(path).st_mode
    verbs = [verb for bits, verb in ((0o044, "read"), (0o022, "change")) if mode & bits]
    if not verbs or os.statvfs(path).f_flag & READ_ONLY:
        return ()
    can = f"group or others can {' and '.join(verbs)} this key"
    return (f"{_escaped(place)}: {can}; chmod 600 it",)


def _variable(environ: Mapping[str, str | None], name: str) -> str:
    """Return the text of a variable; "" if it is not set, or has quotes alone."""
    value = environ.get(name)
    text = _exact_text(value)
    if value is not None and text is None:
        raise InvalidKeyError(f"{name} is {type(value).__name__}, not text")
    text = (text or "").strip()
    return text if text.strip(QUOTES) else ""


def _key_file_variable(environ: Mapping[str, str | None]) -> str:
    """Return the path in CDP_KEY_FILE; cmd and Docker leave the quotes around it."""
    return _variable(environ, "CDP_KEY_FILE").strip(QUOTES + " ")


@_only_key_errors()
def _read_environment(environ: Mapping[str, str | None]) -> _KeyText:
    """Return the key of CDP_KEY_FILE, or of the first pair that is complete."""
    path = _key_file_variable(environ)
    if path:
        names = [_variable(environ, variable) for variable in NAME_VARIABLES]
        return _read_key_file(path, None, next(filter(None, names), ""))
    for pair in PAIRS:
        name = _variable(environ, pair[0])
        secret = _variable(environ, pair[1])
        if name and secret:
            return _KeyText(name, secret, source=" and ".join(pair))
    variables = [variable for pair in PAIRS for variable in pair]
    alone = [variable for variable in variables if _variable(environ, variable)]
    found = f"{alone[0]} is set alone" if alone else "no API key"
    others = [variable for variable in OTHER_VARIABLES if environ.get(variable)]
    unread = f" ({', '.join(others)}: set, but not read)" if others else ""
    expected = ", or ".join(" and ".join(pair) for pair in PAIRS)
    raise InvalidKeyError(
        f"{found}{unread}; set CDP_KEY_FILE (or give --key-file), or {expected}"
    )


# ---------------------------------------------------------- 4. signing: octets -> JWS


def _base64url(octets: bytes) -> bytes:
    """RFC 7515, section 2: the URL-safe alphabet, no padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def _raw_signature(der: bytes) -> bytes:
    """RFC 7518, section 3.4: r and s in 32 octets each, not the DER that OpenSSL gives.

    That is (X.690, section 8) 30 and the size of the rest; 02, the size of r, r; and
    02, the size of s, s. Either has no leading zeros, but one if its first bit is set.
    (`decode_dss_signature` would add a tenth to the time that signing takes.)
    """
    r_size = der[3]
    r = der[4 : 4 + r_size]
    s = der[4 + r_size + 2 :]
    return r.lstrip(b"\0").rjust(32, b"\0") + s.lstrip(b"\0").rjust(32, b"\0")


def _signer(private_key: PrivateKey) -> tuple[str, Callable[[bytes], bytes]]:
    """Return `alg` and the function that signs by it: the two must agree."""
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return "EdDSA", private_key.sign  # RFC 8037, section 3.1
    sign = private_key.sign
    return "ES256", lambda message: _raw_signature(sign(message, ECDSA_SHA256))


def _jws(header: str, claims: str, sign: Callable[[bytes], bytes]) -> str:
    """RFC 7515, section 7.1: the compact serialization."""
    signing_input = _base64url(header.encode()) + b"." + _base64url(claims.encode())
    try:
        signature = sign(signing_input)
    except Exception as error:
        raise _refused_by_openssl(error) from None
    return (signing_input + b"." + _base64url(signature)).decode()


# ---------------------------------------------------------- 5. tokens: request -> JWT

SAFE_METHODS: Final = ("GET", "HEAD")  # RFC 9110, section 9.2.1
METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
CHANNELS: Final = (
    "candles", "futures_balance_summary", "heartbeats", "level2", "market_trades",
    "status", "ticker", "ticker_batch", "user",
)  # fmt: skip
NEED_KEY: Final = ("user", "futures_balance_summary")
PLACEHOLDER: Final = re.compile("[{}<>]")
ENCODED_PLACEHOLDER: Final = re.compile("%7[BbDd]|%3[CcEe]")  # as requests sends it
NOT_IN_PATH: Final = re.compile(r"[^!-~]|[#\\]")  # clients drop #, make / of \
NOT_IN_HOST: Final = re.compile("[^A-Za-z0-9.:-]")
NOT_IN_PRODUCT: Final = re.compile("[^A-Za-z0-9_.-]")
HOST_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST: Final = re.compile(rf"((?:{HOST_LABEL}\.)*{HOST_LABEL})(?::([1-9][0-9]{{0,4}}))?")
URL: Final = re.compile("([A-Za-z]+)://([^/?#]*)(.*)", re.DOTALL)


class _Target(NamedTuple):
    """What a request is for, each part exactly as it will be sent."""

    method: str
    host: str
    path: str  # with its query

    @property
    def uri(self) -> str:
        return f"{self.method} {self.host}{self.path.partition('?')[0]}"


def _text(value: object, what: str) -> str:
    """Return an argument as an exact text."""
    text = _exact_text(value)
    if text is None:
        raise InvalidRequestError(f"the {what} is {type(value).__name__}, not text")
    return text


def _refuse(pattern: re.Pattern[str], text: str, what: str, advice: str) -> None:
    """Raise an error that shows what first does not belong in a text."""
    if not text:
        raise InvalidRequestError(f"the {what} is empty")
    if wrong := pattern.search(text):
        place = f"{wrong[0]!a} at position {wrong.start() + 1}"
        raise InvalidRequestError(f"the {what} has {place}; {advice}")


def _checked_method(method: str) -> str:
    if method.isascii() and method.upper() in METHODS:
        return method.upper()
    # Only a short word is shown: all else may be a secret in the wrong place.
    is_word = method.isascii() and method.isalpha() and len(method) < 10
    shown = f" {method}" if is_word else ""
    expected = ", ".join(METHODS)
    raise InvalidRequestError(f"unknown method{shown}; expected one of {expected}")


def _checked_host(host: str) -> str:
    """Return `name` or `name:port` as Coinbase reads it: lower case, without :443."""
    _refuse(NOT_IN_HOST, host, "host", "expected name or name:port")
    match = HOST.fullmatch(host.lower())
    if not match or len(match[1]) > 253 or int(match[2] or "0") > 65535:
        raise InvalidRequestError("the host is malformed; expected name or name:port")
    return match[1] if match[2] == "443" else match[0]


def _checked_path(path: str) -> str:
    """Return a path with its query, if clients send it as it stands."""
    is_secret = path.endswith("=") and len(_base64(path)) in (32, 64)
    if is_secret or "-----" in path:  # one Ed25519 secret in 64 begins with a slash
        raise InvalidRequestError("the path looks like a key; give the path of a URL")
    if re.match(r"[A-Za-z]:[/\\]", path):
        raise InvalidRequestError(
            "the path is one of Windows, as Git Bash makes of /api/...; give the whole"
            " https URL, or set MSYS_NO_PATHCONV=1"
        )
    advice = "it looks like a placeholder; put the value there"
    _refuse(PLACEHOLDER, path, "path", advice)
    _refuse(NOT_IN_PATH, path, "path", "remove or encode it")
    if not path.startswith("/") or path.startswith("//"):
        raise InvalidRequestError("the path does not begin with exactly one /")
    without_query = path.partition("?")[0]
    _refuse(ENCODED_PLACEHOLDER, without_query, "path", advice)
    segments = without_query.lower().replace("%2e", ".").split("/")
    if "." in segments or ".." in segments:
        raise InvalidRequestError("the path has a segment . or ..; resolve it")
    return path


def _target(method: str, url_or_path: str, host: str) -> _Target:
    """Return method, host and path with query, each exactly as it will be sent."""
    method = _checked_method(_text(method, "method"))
    path = _text(url_or_path, "path")
    url = URL.match(path)
    if not url:
        return _Target(method, _checked_host(_text(host, "host")), _checked_path(path))
    scheme, url_host, path = url.groups()
    if scheme.lower() in ("wss", "ws"):
        raise InvalidRequestError(
            "a WebSocket's token is for no path; make it by `ws`, ws_jwt or ws_message"
        )
    if scheme.lower() != "https":
        raise InvalidRequestError("not an https URL; others could read the token")
    if not path.startswith("/"):  # browsers and HTTP libraries add it, too
        path = f"/{path}"
    return _Target(method, _checked_host(url_host), _checked_path(path))


KEY_HOSTS: Final = (  # where tokens of CDP keys are taken
    DEFAULT_HOST, "api.cdp.coinbase.com", "api.developer.coinbase.com",
    "api-sandbox.coinbase.com",
)  # fmt: skip
ROOTS: Final = ("/api/v3/brokerage", "/v2")  # of DEFAULT_HOST


def _is_of_coinbase(host: str) -> bool:
    return f".{host.partition(':')[0]}".endswith(".coinbase.com")


def _doubts(host: str, path: str) -> list[str]:
    """Say what is known to fail in a request, though a token can be made for it."""
    doubts: list[str] = []
    name, path = host.partition(":")[0], path.partition("?")[0]
    if _is_of_coinbase(host) and name not in KEY_HOSTS:
        doubts.append(f"{name} takes no requests that are signed with CDP keys")
    if "." not in name and name != "localhost":
        doubts.append(f"the host {name} is no host of Coinbase's")
    if host == DEFAULT_HOST and not any(f"{path}/".startswith(f"{r}/") for r in ROOTS):
        doubts.append(f"the path is under neither {' nor '.join(ROOTS)}: {path:.100}")
    if "//" in path:
        doubts.append(f"the path has an empty segment; is an id missing? {path:.100}")
    return doubts


@_drops_frames
def format_jwt_uri(method: str, path: str, host: str = DEFAULT_HOST) -> str:
    """Return the `uri` claim: "GET api.coinbase.com/api/v3/brokerage/accounts".

    Arguments and errors are those of `ApiKey.rest_jwt`; a query is left out.
    """
    return _target(method, path, host).uri


def _claim(uri: str) -> str:
    """Return the `uri` claim as it stands in the claims set, behind the others."""
    return f',"uri":{json.dumps(uri)}'


def _uri_claim(method: str, url_or_path: str, host: str) -> str:
    return _claim(_target(method, url_or_path, host).uri)


# Requests recur, and to make a claim takes a fifth of the time of a signature. Only for
# arguments of type `str`: a text of a subclass may claim to be equal to another one.
_remembered_claim = lru_cache(_uri_claim)


def _epoch_seconds(value: object) -> int | None:
    """Return `value` if it is an int of epoch seconds, up to the year 5138, or None.

    Beyond that it is surely milliseconds.
    """
    return value if type(value) is int and 0 <= value < 10**11 else None


def _start(not_before: int | datetime | None) -> int:
    """Return the epoch seconds at which a token's validity begins."""
    now = int(time.time())
    if not_before is None:
        return now - BACKDATE
    from datetime import datetime  # not above: few tokens need it

    if isinstance(not_before, datetime) and not_before.utcoffset() is not None:
        not_before = int(not_before.timestamp())
    seconds = _epoch_seconds(not_before)
    if seconds is None:
        raise InvalidRequestError(
            "not_before is neither an int of epoch seconds nor an aware datetime"
        )
    if seconds + LIFETIME <= now:
        raise InvalidRequestError("not_before: such a token would have expired already")
    return seconds


class ApiKey:
    """A CDP API key, parsed and proven. It cannot be changed and is never pickled.

    `algorithm` is "ES256" (ECDSA P-256, RFC 7518) or "EdDSA" (Ed25519, RFC 8037);
    `repairs` says what was mended in the texts of name and secret, `warnings` what will
    perhaps not work; `allowed_ips`, the key file's IP allow-list, explains refusals.
    """

    __slots__ = ("_name_json", "_private_key", "_public_key", "_sign", "algorithm",
                 "allowed_ips", "name", "repairs", "warnings")  # fmt: skip

    @_drops_frames
    def __init__(self, name: str, secret: str, allowed_ips: Iterable[str] = ()) -> None:
        """Parse a key's name and secret; InvalidKeyError says why they are none.

        The secret is PEM, "EC PRIVATE KEY" (SEC1) or "PRIVATE KEY" (PKCS8), with line
        breaks that are real, escaped or lost; or base64 of 64 bytes (Ed25519 seed and
        public key), of 32 (the seed alone) or of 121 (SEC1 without its PEM lines); or
        base64 of a PEM or a key file, or the key file's JSON.
        """
        parsed = _parse_key(name, secret, allowed_ips)
        self._private_key = parsed.private_key
        self._public_key: PublicKey = parsed.private_key.public_key()
        self.algorithm, self._sign = _signer(self._private_key)
        self.name = parsed.name
        self.repairs = parsed.repairs
        self.warnings = parsed.warnings
        self.allowed_ips = parsed.allowed_ips
        self._name_json = json.dumps(parsed.name)

    @classmethod
    @_drops_frames
    def from_file(
        cls: type[AnyKey], path: str | os.PathLike[str], name: str | None = None
    ) -> AnyKey:
        """Read a key file: JSON, or a secret by itself whose `name` is given.

        `-` is standard input. A file that group or others can read or change gets a
        warning, one that cannot be read, or holds no key, an InvalidKeyError.
        """
        return _load(cls, _read_key_file(path, name))

    @classmethod
    @_drops_frames
    def from_env(
        cls: type[AnyKey], environ: Mapping[str, str | None] | None = None
    ) -> AnyKey:
        """Read the key of `environ` (os.environ): CDP_KEY_FILE, else COINBASE_API_KEY
        and COINBASE_API_SECRET, or CDP_API_KEY_ID (or _NAME) and CDP_API_KEY_SECRET.

        The first pair that is complete counts; InvalidKeyError says if there is none.
        """
        variables = os.environ if environ is None else environ
        return _load(cls, _read_environment(variables))

    @_drops_frames
    def rest_jwt(
        self,
        method: str,
        url_or_path: str,
        *,
        host: str = DEFAULT_HOST,
        not_before: int | datetime | None = None,
    ) -> str:
        """Return a token for one REST request, valid for two minutes.

        `method` is GET, POST, PUT, DELETE, PATCH or HEAD, in any case; `url_or_path` a
        path, with or without query, or an https URL with a host of its own; `host`
        `name` or `name:port`. The two minutes begin at `not_before`, in epoch seconds
        or as an aware datetime, by default 5 s ago. InvalidRequestError says what is
        wrong with an argument.
        """
        are_exact = type(method) is type(url_or_path) is type(host) is str
        claim_of = _remembered_claim if are_exact else _uri_claim
        return self._issue(claim_of(method, url_or_path, host), _start(not_before))

    @_drops_frames
    def ws_jwt(self, *, not_before: int | datetime | None = None) -> str:
        """Return a token for one WebSocket message; `not_before` as in `rest_jwt`."""
        return self._issue("", _start(not_before))

    def _issue(self, uri_claim: str, nbf: int) -> str:
        """Return the token with this claim, "" for none, that is valid from `nbf`."""
        alg = self.algorithm
        name = self._name_json
        nonce = os.urandom(32).hex()
        exp = nbf + LIFETIME
        # Written as text: json.dumps would take a quarter of a signature's time.
        header = f'{{"alg":"{alg}","typ":"JWT","kid":{name},"nonce":"{nonce}"}}'
        claims = f'{{"sub":{name},"iss":"cdp","nbf":{nbf},"exp":{exp}{uri_claim}}}'
        return _jws(header, claims, self._sign)

    @_drops_frames
    def __call__(self, request: AnyRequest) -> AnyRequest:
        """Sign one request of requests or httpx: `requests.get(url, auth=key)`.

        Raises InvalidRequestError if the URL is not https:, or cannot be signed.
        """
        url = _exact_text(request.url) or str(request.url)  # httpx has a class for it
        method = "" if request.method is None else request.method
        token = self.rest_jwt(method, url.partition("#")[0])
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    def __repr__(self) -> str:
        if not hasattr(self, "algorithm"):
            return "ApiKey(...)"  # in a traceback of __init__
        return f"ApiKey(name={self.name!r}, algorithm={self.algorithm!r})"

    def __setattr__(self, attribute: str, value: object) -> None:
        if hasattr(self, attribute):  # each is set once, by __init__
            raise AttributeError("an ApiKey cannot be changed; make a new one")
        object.__setattr__(self, attribute, value)

    def __delattr__(self, attribute: str) -> NoReturn:
        raise AttributeError("an ApiKey cannot be changed; make a new one")

    def __copy__(self: AnyKey) -> AnyKey:
        return self  # it cannot change

    def __deepcopy__(self: AnyKey, memo: object) -> AnyKey:
        return self

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("an ApiKey is not pickled: its private key stays here")


def _parsed_into(kind: type[AnyKey], text: _KeyText) -> AnyKey:
    """Return the key of a file or of the environment, as an ApiKey or a subclass."""
    with _prefixing_errors(text.source):
        return kind(cast("str", text.name), cast("str", text.secret), text.allowed_ips)


def _load(kind: type[AnyKey], text: _KeyText) -> AnyKey:
    """Return that key, and log what others may do with its file."""
    key = _parsed_into(kind, text)
    warnings = text.warnings
    del text  # a handler of the log might show the variables of this function
    for warning in warnings:
        _logger().warning("%s", warning)
    return key


def _checked_key(key: object) -> ApiKey | None:
    if key is None or isinstance(key, ApiKey):
        return key
    raise InvalidRequestError(
        f"key is {type(key).__name__}; expected an ApiKey: see ApiKey.from_file"
    )


@_drops_frames
def ws_message(
    channel: str,
    product_ids: Iterable[str] | None = (),
    *,
    key: ApiKey | None = None,
    type: str = "subscribe",
) -> str:
    """Return a WebSocket message as JSON text, with a token if there is a `key`.

    The channels "user" and "futures_balance_summary" need one; the others, heartbeats,
    candles, status, ticker, ticker_batch, level2 and market_trades, take one for higher
    limits. `product_ids` are such as ["BTC-USD"]; `type` is "subscribe" or
    "unsubscribe". InvalidRequestError says what is wrong with an argument.
    """
    message: dict[str, object] = {"type": _text(type, "type")}
    if message["type"] not in ("subscribe", "unsubscribe"):
        raise InvalidRequestError("type is neither 'subscribe' nor 'unsubscribe'")
    message["channel"] = _checked_channel(_text(channel, "channel"))
    message["product_ids"] = _product_ids(product_ids)
    signing_key = _checked_key(key)
    if signing_key:
        message["jwt"] = signing_key.ws_jwt()
    elif message["channel"] in NEED_KEY:
        raise InvalidRequestError(f"the channel {message['channel']} needs a key")
    return json.dumps(message)


def _checked_channel(channel: str) -> str:
    if channel in CHANNELS:
        return channel
    raise InvalidRequestError(f"unknown channel; expected one of {', '.join(CHANNELS)}")


def _product_ids(products: object) -> list[str]:
    if products is None:
        return []
    if isinstance(products, (str, bytes)) or not hasattr(products, "__iter__"):
        found = type(products).__name__
        raise InvalidRequestError(f"product_ids is {found}; expected a list of texts")
    texts = [_text(each, "product") for each in cast("Iterable[object]", products)]
    for text in texts:
        _refuse(NOT_IN_PRODUCT, text, "product", "expected one such as BTC-USD")
    return texts


# Drop-in for coinbase.jwt_generator of Coinbase's SDK. Its callers hand over the key's
# text for each token, so the last few keys are remembered, by a hash, and parsed once.
_remembered: dict[bytes, ApiKey] = {}


def _remembered_key(name: str, secret: str) -> ApiKey:
    import hashlib  # not above: the command does without it

    exact_name, exact_secret = _exact_text(name), _exact_text(secret)
    if exact_name is None or exact_secret is None:
        return ApiKey(name, secret)  # which says what is wrong
    text = f"{len(exact_name)} {exact_name} {exact_secret}"
    octets = text.encode("utf-8", "surrogatepass")
    try:
        digest = hashlib.sha256(octets, usedforsecurity=False).digest()
    except ValueError:  # this OpenSSL refuses it
        return ApiKey(exact_name, exact_secret)
    key = _remembered.get(digest)
    if key is None:
        key = ApiKey(exact_name, exact_secret)
        if len(_remembered) >= 8:
            _remembered.clear()
        _remembered[digest] = key
    return key


@lru_cache  # its callers repeat the same uri
def _given_uri_claim(uri: str) -> str:
    """Return the claim of a `uri` that the caller made, if it is the right one."""
    method, _, rest = uri.partition(" ")
    is_path_or_url = rest.startswith("/") or URL.match(rest)  # refused, with `right`
    url = rest if is_path_or_url else f"https://{rest}"
    right = _target(method, url, DEFAULT_HOST).uri
    if uri != right:
        use = "what format_jwt_uri returns" if _looks_like_key(right) else repr(right)
        raise InvalidRequestError(f"Coinbase answers this uri with a 401; use {use}")
    return _claim(right)


@_drops_frames
def build_ws_jwt(key_var: str, secret_var: str) -> str:
    """Return a token for one WebSocket message; arguments and errors as in `ApiKey`."""
    return _remembered_key(key_var, secret_var).ws_jwt()


@_drops_frames
def build_rest_jwt(uri: str, key_var: str, secret_var: str) -> str:
    """Return a token for one REST request; `uri` is what `format_jwt_uri` returns.

    InvalidRequestError shows the right uri; InvalidKeyError is as in `ApiKey`.
    """
    uri_claim = _given_uri_claim(_text(uri, "uri"))
    return _remembered_key(key_var, secret_var)._issue(uri_claim, _start(None))


# ---------------------------------------------------------- 6. reasons: JWT -> problems


class Inspection(NamedTuple):
    """What is in a token, and what is to be said about it.

    `problems` are what the documentation forbids or what is known to be refused;
    `notes` are what it does not mention, or what other clients do in practice.
    """

    header: dict[str, object]
    claims: dict[str, object]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    seconds_left: int | None  # until `exp`; negative when that is past, None without it


class _Verdict(NamedTuple):
    inspection: Inspection
    is_signed: bool | None  # by the key that was given; None without one


class _Findings:
    """The problems and notes of a token, in the order in which they are found."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []


class _Jwt(NamedTuple):
    """The parts of a token, as far as they can be read."""

    header: dict[str, object]
    claims: dict[str, object]
    signature: bytes
    signing_input: bytes


# What a token's text says.

# A header begins with `{"`, or with `{` and white space: in base64, with "ey" or "ew".
JWT_IN_TEXT: Final = re.compile(
    r"(?<![\w+/-])e[wy][\w+/-]{8,}=*(\.[\w=+/-]*)+", re.ASCII
)
MAX_TOKEN_TEXT: Final = 64 * 1024  # characters


def _token_in(text: str) -> str:
    """Return the token in a header, a line for a shell, a curl command or JSON."""
    text = text.strip().strip(QUOTES + INVISIBLE + "()<>[],;*| \t\r\n").strip()
    if not text:
        raise InvalidRequestError("the token is empty")
    if len(text) > MAX_TOKEN_TEXT:
        raise InvalidRequestError("the token is over 64 KiB; give it alone")
    words = text.split()
    is_header = words[0].lower() in ("authorization:", "bearer")
    token = words[-1] if is_header and len(words) < 4 else text
    # A token by itself is taken whole, so that what is wrong in it is seen.
    is_wrapped = any(character in " \t\r\n\"'=:" for character in token)
    match = JWT_IN_TEXT.search(text) if is_wrapped else None
    return match[0] if match else token


def _read_jwt(token: str, findings: _Findings) -> _Jwt:
    """RFC 7515, section 7.1: the parts of the compact serialization."""
    header, claims, signature = [*token.split("."), "", ""][:3]
    return _Jwt(
        _json_object(header, "header", findings),
        _json_object(claims, "claims set", findings),
        _octets(signature, "signature", findings),
        token.rpartition(".")[0].encode("ascii", "replace"),
    )


def _octets(text: str, what: str, findings: _Findings) -> bytes:
    """Decode base64url (RFC 7515, section 2), if need be with what is wrong in it."""
    wrong = re.search("[^A-Za-z0-9_-]", text)
    if wrong:
        findings.problems.append(
            f"the {what} has {wrong[0]!a}; expected base64url, without padding"
        )
    try:
        octets = base64.b64decode(text.replace("-", "+").replace("_", "/") + "==")
    except ValueError:
        findings.problems.append(f"the {what} is not base64url")
        return b""
    if not wrong and _base64url(octets).decode() != text:
        findings.problems.append(
            f"the last character of the {what} has bits that belong to no octet and are"
            " not 0"
        )
    return octets


def _refuse_constant(name: str) -> NoReturn:
    """Keep json.loads from taking NaN and Infinity, which are not JSON."""
    raise ValueError(name)


def _json_object(text: str, what: str, findings: _Findings) -> dict[str, object]:
    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) < len(pairs):
            findings.problems.append(f"the {what} has a member twice")
        return dict(pairs)

    octets = _octets(text, what, findings)
    value: object = None
    if octets.count(b"[") + octets.count(b"{") < 50:  # more could exhaust the stack
        with contextlib.suppress(ValueError):
            value = json.loads(
                octets.decode(),
                object_pairs_hook=members,
                parse_constant=_refuse_constant,
            )
    if not _members(value):
        findings.problems.append(f"the {what} is no JSON object, or an empty one")
    return _members(value)


# What its members are worth.

AUDIENCES: Final = ("cdp_service", "public_websocket_api", "retail_rest_api_proxy")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _shown_value(value: object) -> str:
    """Return how a value begins, or nothing of it if it may be a key."""
    text = ascii(value)
    return HIDDEN if _looks_like_key(text) else text[:30]


def _unlike(name: str, members: Mapping[str, object], expected: str) -> str:
    value = _shown_value(members[name]) if name in members else "missing"
    return f"{name} is {value}; expected {expected}"


def _check_header(
    header: dict[str, object], key: ApiKey | None, findings: _Findings
) -> None:
    algorithms = (key.algorithm,) if key else ("ES256", "EdDSA")
    if header.get("alg") not in algorithms:
        findings.problems.append(_unlike("alg", header, " or ".join(algorithms)))
    if not _is_text(header.get("nonce")):
        findings.problems.append(_unlike("nonce", header, "text"))
    for name, source in (("crit", "RFC 7515"), ("b64", "RFC 7797")):
        if name in header:
            findings.problems.append(
                f"the header has {name} ({source}); Coinbase documents no extension"
            )
    if header.get("typ", "JWT") != "JWT":
        findings.notes.append(_unlike("typ", header, "'JWT'"))


def _check_names(
    kid: object, claims: dict[str, object], key: ApiKey | None, findings: _Findings
) -> None:
    sub = claims.get("sub")
    if not _is_text(sub) and claims:
        findings.problems.append(_unlike("sub", claims, "text"))
    if kid and sub and kid != sub:
        findings.problems.append("kid and sub differ; both are the key's name")
    _check_name("kid", kid, findings)
    if sub != kid:
        _check_name("sub", sub, findings)
    if key and kid and kid != key.name:
        findings.problems.append("kid is not the name of the key at hand")


def _check_name(what: str, value: object, findings: _Findings) -> None:
    """Hold a kid or sub to the rules for the name of an `ApiKey`."""
    if not isinstance(value, str) or not value:
        return
    try:
        name = _parse_name(value, "", [])
    except InvalidKeyError as error:
        findings.problems.append(f"{what}: {error}")
        return
    if name != value:
        findings.problems.append(
            f"{what} has quotes, white space or escapes that are no part of the name"
        )
    elif not KEY_NAME.fullmatch(name):
        findings.notes.append(UNKNOWN_NAME)


def _check_issuer(claims: dict[str, object], findings: _Findings) -> None:
    issuer = claims.get("iss")
    if issuer == "coinbase-cloud":
        findings.notes.append(
            "iss is 'coinbase-cloud', as ccxt writes it and the documentation had it"
            " until 2024; expected 'cdp'"
        )
    elif issuer != "cdp":
        findings.problems.append(_unlike("iss", claims, "'cdp'"))
    if "aud" not in claims:
        return
    audience = claims["aud"]
    values = (
        cast("list[object]", audience) if isinstance(audience, list) else [audience]
    )
    if audience is None or all(value in AUDIENCES for value in values):
        findings.notes.append(
            f"aud is {json.dumps(audience)}, as cdp-sdk or ccxt write it; the"
            " documentation has none"
        )
    else:
        findings.problems.append(_unlike("aud", claims, "none"))


def _check_times(claims: dict[str, object], now: float, findings: _Findings) -> None:
    expected = "expected an integer: epoch seconds"
    for name in ("nbf", "exp"):
        value = claims.get(name)
        if name not in claims:
            findings.problems.append(f"{name} is missing; {expected}")
        elif type(value) is not int:
            findings.problems.append(
                f"{name} is {_shown_value(value)}, not an integer; {expected}"
            )
        elif _epoch_seconds(value) is None:
            limit = ", since 1970" if value < 0 else ", not milliseconds"
            shown = _shown_value(value)
            findings.problems.append(f"{name} is {shown}; {expected}{limit}")
    nbf = _epoch_seconds(claims.get("nbf"))
    exp = _epoch_seconds(claims.get("exp"))
    if nbf is not None and nbf > now:
        ahead = int(nbf - now)
        findings.problems.append(
            f"not valid yet: nbf is {ahead} s ahead; is it for later, or was its clock"
            " ahead?"
        )
    if exp is not None and exp <= now:
        findings.problems.append(f"expired {int(now - exp)} s ago")
    if nbf is not None and exp is not None and not 0 < exp - nbf <= LIFETIME:
        findings.problems.append(
            f"exp is {exp - nbf} s after nbf; expected 1 to {LIFETIME}"
        )


# What it is for.


def _check_uris(claims: dict[str, object], findings: _Findings) -> None:
    if "uri" not in claims and "uris" not in claims:
        findings.notes.append("without uri, this is a token for a WebSocket")
    if "uri" in claims:
        _check_uri("uri", claims["uri"], findings)
    if "uris" not in claims:
        return
    findings.notes.append(
        "uris is what cdp-sdk and ccxt write; Advanced Trade's documentation has uri"
    )
    uris = claims["uris"]
    if not isinstance(uris, list) or not uris:
        findings.problems.append(_unlike("uris", claims, "a list of texts"))
        return
    for position, uri in enumerate(cast("list[object]", uris)):
        _check_uri(f"uris[{position}]", uri, findings)


def _check_uri(name: str, uri: object, findings: _Findings) -> None:
    """Hold a uri to what `rest_jwt` would write in its place."""
    if not isinstance(uri, str):
        findings.problems.append(f"{name} is {type(uri).__name__}, not text")
        return
    method, _, address = uri.partition(" ")
    mistakes = _uri_mistakes(method, address)
    if mistakes:
        findings.problems += [f"{name} {mistake}" for mistake in mistakes]
        return
    try:
        target = _target(method, f"https://{address}", DEFAULT_HOST)
    except InvalidRequestError as error:
        findings.problems.append(f"{name}: {error}")
        return
    if uri != target.uri:
        findings.problems.append(f"{name} is not as Coinbase reads it: {target.uri}")
    doubts = _doubts(target.host, target.path)
    findings.problems += [f"{name}: {doubt}" for doubt in doubts]
    if not doubts and not _is_of_coinbase(target.host):
        findings.notes.append(
            f"{name}: {target.host} is no host of Coinbase's; a gateway?"
        )


def _uri_mistakes(method: str, address: str) -> list[str]:
    if not address:
        return ["has no method: expected `GET api.coinbase.com/...`"]
    mistakes: list[str] = []
    if method != method.upper():
        mistakes.append("has its method in lower case")
    if URL.match(address):
        mistakes.append("has a scheme; it starts with the host")
    if address.startswith("/"):
        mistakes.append("has no host before its path")
    if "?" in address:
        mistakes.append("has a query; it ends with the path")
    if "#" in address:
        mistakes.append("has a fragment; it ends with the path")
    return mistakes


# Who signed it.


def _is_signed_by(key: ApiKey, jwt: _Jwt) -> bool:
    """Verify the signature with the key's public part, whatever `alg` says."""
    if len(jwt.signature) != 64:
        return False
    public_key = key._public_key
    try:
        if isinstance(public_key, ed25519.Ed25519PublicKey):
            public_key.verify(jwt.signature, jwt.signing_input)
        else:
            r = int.from_bytes(jwt.signature[:32], "big")
            s = int.from_bytes(jwt.signature[32:], "big")
            der = encode_dss_signature(r, s)
            public_key.verify(der, jwt.signing_input, ECDSA_SHA256)
    except InvalidSignature:
        return False
    return True


def _check_signature(jwt: _Jwt, key: ApiKey | None, findings: _Findings) -> bool | None:
    """Return whether the key signed this; None if no key is given."""
    size = len(jwt.signature)
    is_signed = _is_signed_by(key, jwt) if key else None
    if size != 64:
        is_der = [*jwt.signature[:3]] == [0x30, size - 2, 0x02]  # SEQUENCE of INTEGER
        kind = "is DER" if is_der else f"has {size} bytes"
        findings.problems.append(
            f"the signature {kind}; expected r and s, 32 bytes each"
        )
    elif key and not is_signed:
        findings.problems.append(f"not signed by the key {key.name}")
    return is_signed


def _checked_now(now: object) -> float:
    if isinstance(now, (int, float)) and abs(now) < 10**11:  # False for NaN
        return now
    raise InvalidRequestError("now is not a time in epoch seconds, as time.time() is")


@_drops_frames
def inspect_jwt(
    token: str, *, key: ApiKey | None = None, now: float | None = None
) -> Inspection:
    """Say what is in a JWT, of this module or another, and what is wrong with it.

    Args:
        token: alone or in a header line, a curl command, `export JWT='...'`, JSON.
        key: verifies the signature.
        now: epoch seconds; by default the clock's.

    Raises:
        InvalidRequestError: `token` is not text, or empty; `now` is no such time.
    """
    now = time.time() if now is None else _checked_now(now)
    text = _token_in(_text(token, "token"))
    return _inspect(text, _checked_key(key), now).inspection


def _inspect(text: str, key: ApiKey | None, now: float) -> _Verdict:
    findings = _Findings()
    parts = text.count(".") + 1
    counted = f"{parts} part{'' if parts == 1 else 's'}, expected 3"
    if parts != 3:
        findings.problems.append(f"{counted}: header.claims.signature")
    jwt = _read_jwt(text, findings)
    if parts == 1 or not (jwt.header or jwt.claims):
        unread = "neither header nor claims set can be read"
        reason = f"no JWT: {unread if parts == 3 else counted}"
        return _Verdict(Inspection(jwt.header, jwt.claims, (reason,), (), None), None)
    is_signed = _check_jwt(jwt, key, now, findings)
    exp = _epoch_seconds(jwt.claims.get("exp"))
    left = None if exp is None else int(exp - now)
    problems, notes = tuple(findings.problems), tuple(findings.notes)
    inspection = Inspection(jwt.header, jwt.claims, problems, notes, left)
    return _Verdict(inspection, is_signed)


def _check_jwt(
    jwt: _Jwt, key: ApiKey | None, now: float, findings: _Findings
) -> bool | None:
    """Check all members; of a part that cannot be read, none is called missing."""
    kid = jwt.header.get("kid")
    if jwt.header:
        _check_header(jwt.header, key, findings)
        if not _is_text(kid):
            findings.problems.append(_unlike("kid", jwt.header, "text"))
    _check_names(kid, jwt.claims, key, findings)
    if jwt.claims:
        _check_issuer(jwt.claims, findings)
        _check_times(jwt.claims, now, findings)
        _check_uris(jwt.claims, findings)
    return _check_signature(jwt, key, findings)


# What an answer says.


def _header_text(headers: Message, name: str) -> str:
    """Return a header's value, cut to what patterns may run over; "" without one."""
    return str(headers.get(name, ""))[:MAX_SEARCHED]


def _http_date(text: str) -> float | None:
    """Return the epoch seconds of an HTTP date (RFC 9110, section 5.6.7)."""
    from email.utils import mktime_tz, parsedate_tz

    try:
        date = parsedate_tz(text)
        return float(mktime_tz(date)) if date else None
    except (IndexError, ValueError, OverflowError):
        return None


def _hints(
    target: _Target, key: ApiKey | None, answer: Response, *, is_skewed: bool
) -> Iterator[str]:
    """Say what a refusal's evidence shows; what it does not show is called possible.

    The `answer` is what a Client (in the next section) has received.
    """
    status = answer.status
    doubts = _doubts(target.host, target.path)
    if status in (401, 403, 404):
        yield from doubts
    if is_skewed:
        yield "by the server's clock this token was not valid; set this machine's clock"
    if status == 401 and not key:
        yield "no token was sent, as no key was given"
    if status == 401 and key:
        yield from key.warnings
    if status in (401, 403) and b"required scopes" in answer.body:
        yield "the key lacks a permission for this; `check` lists those that it has"
    elif status in (401, 403) and key:
        if key.allowed_ips:
            listed = _shown(", ".join(key.allowed_ips))
            yield f"possible: this machine's IP address is not one it allows: {listed}"
        if not (doubts or is_skewed or key.warnings):
            date = _http_date(_header_text(answer.headers, "Date"))
            yield _last_resort(target, key, date is not None)
    if status == 429:
        yield _rate_limit(answer.headers)


def _rate_limit(headers: Message) -> str:
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
    told = [f"{name} {headers[name]}" for name in names if name in headers]
    used_up = "the rate limit is used up"
    return f"{used_up}: {_shown(', '.join(told))}" if told else used_up


def _last_resort(target: _Target, key: ApiKey, is_clock_compared: bool) -> str:
    """Name what remains possible, and what a token like the refused one rules out."""
    url = f"https://{target.host}{target.path}"
    jwt = _read_jwt(key.rest_jwt(target.method, url), _Findings())
    checks = {
        "signature verified here": _is_signed_by(key, jwt),
        "clock compared": is_clock_compared,
        "uri equal to the request": jwt.claims["uri"] == target.uri,
    }
    passed = ", ".join(check for check, is_passed in checks.items() if is_passed)
    return (
        "possible: the key was deleted, or lacks a permission (other causes are ruled"
        f" out: {passed})"
    )


# ---------------------------------------------------------- 7. calls: JWT -> response
#
# A request passes through phases: lookup, connect, tunnel (through a proxy), TLS, send
# and read. Each says for itself what went wrong in it, by the type or the code of an
# error and never by its text, which may be the server's.

MAX_HEAD: Final = 64 * 1024  # octets of status line, headers and chunk sizes
MAX_ERROR_BODY: Final = 64 * 1024  # octets
MAX_IDLE: Final = 30.0  # seconds; after that a proxy may have dropped the connection
MAX_AHEAD: Final = 86400  # seconds; no server gets a token for next week
LEAST_TIMEOUT: Final = 0.001  # seconds
TRY_AGAIN: Final = "try again"
UNKNOWN_OUTCOME: Final = (
    "it may have been carried out and was not sent again: look for it first, an order"
    " by its client_order_id"
)


class Response:
    """An answer: `status` (int), `headers` (names in any case) and `body` (bytes)."""

    def __init__(
        self, status: int, headers: Message, body: bytes, *, method: str = "GET"
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self._method = method
        self._unread = ""  # why the body of an error could not be read, if it could not

    def json(self) -> Any:
        """Return the body as JSON; raise TransportError if it is something else."""
        try:
            return json.loads(self.body.decode("utf-8-sig"))  # RFC 8259, section 8.1
        except (ValueError, RecursionError):
            pass  # raised below, where no cause that quotes the body hangs on it
        raise TransportError(
            f"this answer (HTTP {self.status}) is not JSON; see body",
            outcome_unknown=self._method not in SAFE_METHODS,
        )

    # Tools that watch urllib ask for the status and the headers in its own way.

    def getcode(self) -> int:
        return self.status

    def info(self) -> Message:
        return self.headers

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


class _CallError(Exception):
    """Why there is no answer of use, and what may help; it never leaves a Client."""

    def __init__(self, reason: str, *remedies: str, is_lasting: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedies = remedies
        self.is_lasting = is_lasting  # would it fail again?
        self.was_sent = False  # had a part of the request been sent?


def _network_failure(error: Exception) -> _CallError:
    """Say what can happen to a connection in any phase."""
    import socket
    import ssl

    if isinstance(error, (TimeoutError, socket.timeout)):  # two types before 3.10
        reason = "it took longer than the timeout"
        return _CallError(reason, TRY_AGAIN, "raise the timeout")
    if isinstance(error, ConnectionRefusedError):
        advice = "check host, firewall, HTTPS_PROXY"
        return _CallError("it refused the connection", advice)
    closed = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
    if isinstance(error, (*closed, RuntimeError)):  # the last one is PyPy's
        return _CallError("it closed the connection", TRY_AGAIN)
    if isinstance(error, ssl.SSLError):
        return _CallError("TLS failed", "is it a server for TLS 1.2 or later?")
    return _CallError("the connection failed", "check network, host and proxy")


def _left(deadline: float) -> float:
    """Return the seconds until `deadline`, a time of the monotonic clock."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _set_timeout(sock: socket.socket, deadline: float) -> None:
    try:
        sock.settimeout(_left(deadline))
    except OSError as error:
        raise _network_failure(error) from None


def _send(sock: socket.socket, octets: bytes) -> None:
    try:
        sock.sendall(octets)
    except (OSError, RuntimeError) as error:  # PyPy's ssl raises the latter
        raise _network_failure(error) from None


# Lookup: the proxy, if there is one, and the addresses.

PROXY: Final = re.compile(  # [http://][user:password@]host[:port][/]
    r"(?:http://)?(?:([^/]*)@)?(\[[0-9a-f:.]+\]|[^\s/@:\[\]]+)(?::([0-9]{1,5}))?/?",
    re.IGNORECASE,
)


class _Proxy(NamedTuple):
    name: str
    port: int
    authorization: str  # the value of Proxy-Authorization; "" without a password


def _proxy_for(host: str) -> _Proxy | None:
    """Return the proxy of HTTPS_PROXY or the system, unless NO_PROXY names the host."""
    import urllib.request

    url = urllib.request.getproxies().get("https")
    if not url or urllib.request.proxy_bypass(host):
        return None
    try:
        return _parse_proxy(url)
    except ValueError:
        raise _CallError(  # without a word of it, as it may hold a password
            "the proxy for https (HTTPS_PROXY) cannot be used",
            "expected http://host:port",
            is_lasting=True,
        ) from None


def _parse_proxy(url: str) -> _Proxy:
    from urllib.parse import unquote

    match = PROXY.fullmatch(url)
    if not match or int(match[3] or "80") > 65535:
        raise ValueError
    name = match[2].strip("[]").encode("idna").decode()  # fails as the lookup would
    authorization = ""
    if match[1]:
        user, _, password = match[1].partition(":")
        credentials = f"{unquote(user)}:{unquote(password)}".encode()
        authorization = f"Basic {base64.b64encode(credentials).decode()}"
    return _Proxy(name, int(match[3] or 80), authorization)


def _look_up(name: str, port: int) -> list[str]:
    """Return the addresses of a name. Nothing can interrupt the operating system."""
    import socket

    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        found = []
    except OSError as error:
        raise _network_failure(error) from None
    if not found:
        raise _CallError("its name was not found", "check host, DNS and HTTPS_PROXY")
    return [str(each[4][0]) for each in found]


# Connect.


def _connect(name: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address that answers; all of them share the time left."""
    import socket

    addresses = _look_up(name, port)
    while True:
        share = 1 / len(addresses)
        address = addresses.pop(0)
        try:
            connected = socket.create_connection(
                (address, port), share * _left(deadline)
            )
        except OSError as error:
            if not addresses:
                raise _network_failure(error) from None
            continue
        with contextlib.suppress(OSError):  # the server may have closed it already
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return connected


# Reading an answer, of a server or of a proxy.


class _TooLongError(Exception):
    """An answer goes on beyond its limit."""


class _Octets(io.RawIOBase):
    """What a socket receives until a deadline, up to so many octets.

    It stands in for the socket of http.client.HTTPResponse. A socket's timeout is for
    each read alone; HTTPResponse has no limit: from Python 3.11 on it reads a chunk
    that is announced with -1 octets without end.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._allowed = MAX_HEAD
        self.has_ended = False  # has the server closed the connection?

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # collections.abc.Buffer, from 3.12 on
        self._sock.settimeout(_left(self._deadline))
        count = self._sock.recv_into(buffer)
        _left(self._deadline)  # raises an error if this took too long
        self.has_ended = count == 0
        self._allowed -= count
        if self._allowed < 0:
            raise _TooLongError
        return count

    def allow_body(self, size: int) -> None:
        self._allowed = size + MAX_HEAD  # for chunk sizes and a trailer

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the stream that HTTPResponse asks a socket for."""
        return _Lines(self)


class _Lines(io.BufferedReader):
    """A stream that refuses what http.client would misread in a line.

    Its parser of headers takes a bare CR for an end; and of a status line that is cut
    off, the status may not be believed: an order would be sent again for half a 429.
    """

    def readline(self, size: int | None = None) -> bytes:
        line = super().readline(size)
        if b"\r" in line.removesuffix(b"\n").removesuffix(b"\r"):
            raise ValueError("a bare CR")
        is_at_limit = len(line) == size  # http.client says that it is too long
        if line and not line.endswith(b"\n") and not is_at_limit:
            raise ValueError("a line that is cut off")
        return line


def _answer_of(octets: _Octets, method: str) -> HTTPResponse:
    """Return an answer of which nothing is read yet; it is closed by `with`."""
    import http.client

    return http.client.HTTPResponse(cast("socket.socket", octets), method=method)


def _read_failure(error: Exception, octets: _Octets) -> _CallError:
    """Say what is wrong with an answer, by the type of http.client's error."""
    import http.client

    if isinstance(error, (OSError, RuntimeError)):
        return _network_failure(error)
    if isinstance(error, http.client.IncompleteRead) and octets.has_ended:
        return _network_failure(ConnectionResetError())
    return _not_http()


def _not_http() -> _CallError:
    return _CallError("its answer is not HTTP", "check host and proxy")


def _read_errors() -> tuple[type[Exception], ...]:
    import http.client

    # PyPy's ssl raises a RuntimeError where others raise an OSError.
    failures = (OSError, RuntimeError, ValueError, http.client.HTTPException)
    return (*failures, _TooLongError)


def _begin(answer: HTTPResponse, octets: _Octets) -> None:
    """Read status and headers; skip interim answers (RFC 9110, section 15.2)."""
    try:
        answer.begin()
        while 102 <= answer.status <= 199:  # http.client skips 100 alone
            answer.headers = cast("HTTPMessage", None)  # else begin() would do nothing
            answer.begin()
    except _read_errors() as error:
        raise _read_failure(error, octets) from None


# Tunnel: the way through a proxy.

PROXY_SCHEMES: Final = {  # of Proxy-Authenticate, for which a password does not suffice
    "ntlm": "NTLM",
    "negotiate": "Negotiate (Kerberos or NTLM)",
    "kerberos": "Kerberos",
}


def _through_proxy(host: str, proxy: _Proxy, deadline: float) -> socket.socket:
    """Return a connection to a host that a proxy has made."""
    try:
        sock = _connect(proxy.name, proxy.port, deadline)
        try:
            answer = _tunnel(sock, host, proxy, deadline)
        except BaseException:  # Ctrl-C as well
            sock.close()
            raise
    except _CallError as failure:
        failure.reason = f"the proxy {proxy.name}: {failure.reason}"
        raise
    if 200 <= answer.status <= 299:
        return sock
    sock.close()
    raise _proxy_refusal(answer, has_password=bool(proxy.authorization))


def _tunnel(
    sock: socket.socket, host: str, proxy: _Proxy, deadline: float
) -> HTTPResponse:
    """Ask a proxy to connect to a host (RFC 9110, section 9.3.6)."""
    place = host if ":" in host else f"{host}:443"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    _set_timeout(sock, deadline)
    _send(sock, "\r\n".join([*lines, "", ""]).encode())
    octets = _Octets(sock, deadline)
    with _answer_of(octets, "CONNECT") as answer:
        _begin(answer, octets)
    return answer


def _proxy_refusal(answer: HTTPResponse, *, has_password: bool) -> _CallError:
    status = answer.status
    if status in (502, 503, 504):
        return _CallError(f"the proxy answered HTTP {status}", TRY_AGAIN)
    if status != 407:
        reason = f"the proxy refused to connect (HTTP {status})"
        return _CallError(reason, "check HTTPS_PROXY and NO_PROXY", is_lasting=True)
    schemes = _schemes(answer.headers.get_all("Proxy-Authenticate", []))
    if schemes and "basic" not in schemes:
        name = PROXY_SCHEMES.get(schemes[0], schemes[0])
        reason = f"the proxy asks for {_shown(name)}, which this file cannot do"
        advice = "go through a local proxy that can, such as px or cntlm"
        return _CallError(reason, advice, is_lasting=True)
    if has_password:
        reason = "the proxy refused these credentials"
        return _CallError(reason, "check those in HTTPS_PROXY", is_lasting=True)
    reason = "the proxy asks for a password"
    return _CallError(reason, "put it in HTTPS_PROXY", is_lasting=True)


def _schemes(offers: list[str]) -> list[str]:
    """Return the schemes of Proxy-Authenticate (RFC 9110, section 11.6.1)."""
    offered = ", ".join(offers)[:MAX_SEARCHED]
    challenges = re.sub('"[^"]*"', "", offered).split(",")  # realm="..." may say all
    words = [challenge.split()[0] for challenge in challenges if challenge.strip()]
    return [word.lower() for word in words if "=" not in word]  # else a parameter


# TLS.

UNKNOWN_CA: Final = (2, 18, 19, 20, 21)  # these are OpenSSL's X509_V_ERR_... numbers
NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
OTHER_HOST: Final = (62, 64)
STRICT_ONLY: Final = range(80, 95)  # from Python 3.13 on, RFC 5280 is enforced


def _start_tls(
    sock: socket.socket, context: ssl.SSLContext, name: str, deadline: float
) -> ssl.SSLSocket:
    import ssl

    _set_timeout(sock, deadline)
    try:
        return context.wrap_socket(sock, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        raise _certificate_failure(error.verify_code) from None
    except OSError as error:
        raise _network_failure(error) from None


def _certificate_failure(code: int) -> _CallError:
    reason = "its certificate was refused"
    advice = "check host and proxy"
    if code == EXPIRED:
        reason = "its certificate has expired"
        advice = "check the clock"
    elif code == NOT_YET_VALID:
        reason = "its certificate is not valid yet"
        advice = "check the clock"
    elif code in OTHER_HOST:
        reason = "its certificate is for another host"
    elif code in UNKNOWN_CA:
        reason = "its certificate is of an unknown CA"
        missing = _missing_authorities()
        reason += f" ({missing})" if missing else ""
        advice = "for a private CA set SSL_CERT_FILE or ssl_context"
    elif code in STRICT_ONLY:
        reason = "its CA breaks RFC 5280: Python >= 3.13 refuses it"
        advice = "reissue the CA"
    return _CallError(reason, advice, is_lasting=True)


def _missing_authorities() -> str:
    """Name the variable that says where the CAs are, if nothing is there."""
    file = os.environ.get("SSL_CERT_FILE")
    if file is not None and not os.path.exists(file):
        return f"SSL_CERT_FILE does not exist: {_shown(file)}"
    folders = os.environ.get("SSL_CERT_DIR")
    if folders is not None and not any(
        os.path.exists(folder) for folder in folders.split(os.pathsep)
    ):
        return f"SSL_CERT_DIR does not exist: {_shown(folders)}"
    return ""


# Send and read.


def _request_octets(request: Request) -> bytes:
    """RFC 9112, section 3. Method, path and host have been checked for line breaks."""
    lines = [f"{request.get_method()} {request.selector} HTTP/1.1"]
    lines.append(f"Host: {request.host}")
    for name, value in request.header_items():  # tools that watch urllib add some
        lines.append("".join(f"{name}: {value}".splitlines()))
    head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    return head + cast("bytes", request.data or b"")


SWITCHING_PROTOCOLS: Final = 101  # to one that was not asked for


class _Answer(NamedTuple):
    response: Response
    is_connection_usable: bool  # for the next request


def _receive(
    octets: _Octets, answer: HTTPResponse, method: str, max_body: int
) -> _Answer:
    """Read a whole answer; an error keeps its status, whatever follows that."""
    from email.message import Message

    response = Response(0, Message(), b"", method=method)
    try:
        _begin(answer, octets)
        response.headers = answer.headers
        _check_head(answer, octets)
        is_error = answer.status >= 300
        limit = MAX_ERROR_BODY if is_error else max_body
        body = _body(answer, octets, limit)
        if len(body) > limit and not is_error:
            raise _oversized()
    except _CallError as failure:
        status = cast("object", answer.status)  # a word, while it has not been read
        if not isinstance(status, int) or status < 300:
            raise
        response.status = status
        response._unread = failure.reason
        return _Answer(response, is_connection_usable=False)
    response.status = answer.status
    response.body = body[:limit]
    is_usable = answer.isclosed() and not answer.will_close
    return _Answer(response, is_connection_usable=is_usable)


def _check_head(answer: HTTPResponse, octets: _Octets) -> None:
    """Refuse a head that http.client would silently cut short.

    It takes the end of the connection for the end of the headers, and drops all behind
    a line that is no header (cpython#81274): headers.get_payload() returns that.
    """
    if octets.has_ended:  # a complete head is read before the connection ends
        raise _network_failure(ConnectionResetError())
    headers = answer.headers
    lengths = {each.strip() for each in headers.get_all("Content-Length", [])}
    is_number = all(re.fullmatch("[0-9]{1,18}", each) for each in lengths)
    codings = {each.lower() for each in headers.get_all("Transfer-Encoding", [])}
    is_whole = not (headers.defects or headers.get_payload() or headers.get_unixfrom())
    is_framed = len(lengths) <= 1 and is_number and codings <= {"chunked"}
    if not is_whole or not is_framed or answer.status == SWITCHING_PROTOCOLS:
        raise _not_http()


def _body(answer: HTTPResponse, octets: _Octets, limit: int) -> bytes:
    """Read a body, up to one octet more than its limit."""
    octets.allow_body(limit)
    body = bytearray()  # in pieces: 3.9 would set aside all that is asked for
    try:
        while len(body) <= limit:
            piece = answer.read(min(65536, limit + 1 - len(body)))
            if not piece:
                break
            body += piece
    except _TooLongError:
        raise _oversized() from None
    except _read_errors() as error:
        raise _read_failure(error, octets) from None
    if len(body) <= limit and answer.length:  # http.client says nothing of a cut body
        raise _network_failure(ConnectionResetError())
    codings = answer.headers.get_all("Content-Encoding", [])
    if body and any(each.strip().lower() not in ("", "identity") for each in codings):
        reason = "its answer is compressed, which was not asked for"
        raise _CallError(reason, "check host and proxy")
    return bytes(body)


def _oversized() -> _CallError:
    return _CallError("its answer is over max_body", "raise max_body")


class _Idle(NamedTuple):
    since: float  # epoch seconds; the monotonic clock stands still in suspend
    sock: ssl.SSLSocket


class _Connections:
    """The connections of a Client, and what passes over them.

    Idle ones are kept by process, as a fork's child must not use its parent's, and by
    host. Threads share the lists: what one has taken out of a list is its own.
    """

    def __init__(self, context: ssl.SSLContext, max_body: int) -> None:
        self._context = context
        self._max_body = max_body
        self._idle: dict[tuple[int, str], list[_Idle]] = {}

    def exchange(self, request: Request) -> Response:
        """Send a request and read the whole answer; urllib's opener calls this."""
        deadline = time.monotonic() + (request.timeout or 0)
        host = request.host
        method = request.get_method()
        sock = self._take(host) or self._open(host, deadline)
        was_sent = False
        answer = None
        try:
            _set_timeout(sock, deadline)
            was_sent = True
            _send(sock, _request_octets(request))
            octets = _Octets(sock, deadline)
            with _answer_of(octets, method) as stream:
                answer = _receive(octets, stream, method, self._max_body)
            return answer.response
        except _CallError as failure:
            failure.was_sent = was_sent
            raise
        except KeyboardInterrupt as interrupt:
            if was_sent and method not in SAFE_METHODS:
                interrupt.args = (UNKNOWN_OUTCOME,)
            raise
        finally:
            if answer and answer.is_connection_usable:
                self._put(host, sock)
            else:
                sock.close()

    def _open(self, host: str, deadline: float) -> ssl.SSLSocket:
        name, _, port = host.partition(":")
        proxy = _proxy_for(host)
        if proxy:
            sock = _through_proxy(host, proxy, deadline)
        else:
            sock = _connect(name, int(port or 443), deadline)
        try:
            return _start_tls(sock, self._context, name, deadline)
        except BaseException:  # Ctrl-C as well
            sock.close()
            raise

    def _take(self, host: str) -> ssl.SSLSocket | None:
        """Return the connection used last, if it is open and silent."""
        import ssl

        self._prune()
        idle = self._idle.get((os.getpid(), host), [])
        while last := _pop(idle):
            try:
                last.sock.settimeout(0)
                last.sock.recv(1)  # b"", if the server has closed it
            except ssl.SSLWantReadError:
                return last.sock
            except OSError:
                pass
            last.sock.close()
        return None

    def _put(self, host: str, sock: ssl.SSLSocket) -> None:
        self._prune()
        idle = self._idle.setdefault((os.getpid(), host), [])
        idle.append(_Idle(time.time(), sock))

    def _prune(self) -> None:
        for idle in [*self._idle.values()]:
            _close_unusable(idle)

    def close(self) -> None:
        for idle in [*self._idle.values()]:
            while last := _pop(idle):
                last.sock.close()


def _pop(idle: list[_Idle]) -> _Idle | None:
    try:
        return idle.pop()
    except IndexError:  # there is none, or another thread has just taken the last one
        return None


def _close_unusable(idle: list[_Idle]) -> None:
    """Close what is too old, and what the server has closed or written to."""
    now = time.time()
    found = [*idle]  # a copy, as other threads take items out meanwhile
    ended = _readable(found)
    for each in found:
        is_fresh = 0 <= now - each.since < MAX_IDLE  # the clock may have been set back
        if is_fresh and each.sock not in ended:
            continue
        try:
            idle.remove(each)
        except ValueError:  # another thread has taken it
            continue
        each.sock.close()


def _readable(idle: list[_Idle]) -> list[ssl.SSLSocket]:
    """Return the connections on which the server has sent something, or its end."""
    import select

    socks = [each.sock for each in idle]
    if not socks:
        return []
    try:
        return select.select(socks, [], [], 0)[0]
    except (OSError, ValueError):  # another thread closed one, or its number is high
        return []


def _opener(exchange: Callable[[Request], Response]) -> OpenerDirector:
    """Return an opener of urllib that follows no redirect, and speaks https: alone.

    What other code installs into urllib cannot change it; tools that watch urllib see
    its calls.
    """
    import urllib.request

    class Handler(urllib.request.BaseHandler):
        def https_open(self, request: Request) -> Response:
            return exchange(request)

    opener = urllib.request.OpenerDirector()
    opener.add_handler(Handler())
    return opener


# Arguments -> request.


def _with_query(url_or_path: str, params: Params) -> str:
    from urllib.parse import quote, urlencode

    url_or_path = _text(url_or_path, "path")
    if not params:
        return url_or_path
    if not hasattr(params, "items"):
        found = type(params).__name__
        raise InvalidRequestError(f"params is {found}; expected a dict")
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        exact_name = _text(name, "name of a parameter")
        is_list = isinstance(value, (list, tuple))
        values = cast("list[object]", value) if is_list else [value]
        pairs += [
            (exact_name, _value_text(each)) for each in values if each is not None
        ]
    if not pairs:
        return url_or_path
    query = urlencode(pairs, quote_via=quote, errors="surrogatepass")
    separator = "&" if "?" in url_or_path else "?"
    return f"{url_or_path}{separator}{query}"


def _shown_url(url: str) -> str:
    """Return a URL for the log, without a query that looks like a key."""
    from urllib.parse import unquote

    place, _, query = url.partition("?")
    return f"{place}?..." if _looks_like_key(unquote(query)) else url


def _value_text(value: object) -> str:
    """Return the value of a parameter as it stands in a query."""
    text = _exact_text(value)
    if text is not None:
        return text
    if isinstance(value, bool):
        return "true" if value else "false"
    with contextlib.suppress(ValueError):  # of a number of too many digits
        if isinstance(value, int):
            return int.__repr__(value)
        if isinstance(value, float) and abs(value) < float("inf"):
            return float.__repr__(value)
    from decimal import Decimal  # not above: it is slow to import

    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    found = type(value).__name__
    raise InvalidRequestError(
        f"a value in params is {found}; expected text or a number"
    )


def _json_body(value: object, method: str) -> bytes | None:
    if value is not None and method in SAFE_METHODS:
        raise InvalidRequestError(f"{method} takes no body; use params")
    if value is None:
        return None
    if isinstance(value, bytes):
        return memoryview(value).tobytes()  # of a subclass, the octets that it holds
    if isinstance(value, str):
        raise InvalidRequestError(
            "json is text, which would be encoded twice; pass the object, or bytes"
        )
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        pass  # raised below, where no cause hangs on it
    try:
        problem = _not_json(value, "")
    except RecursionError:
        problem = "a part that contains itself, or that is nested too deeply"
    raise InvalidRequestError(f"the body has {problem or 'a number JSON has not'}")


def _not_json(value: object, place: str) -> str:
    """Say which part of a value cannot be JSON, and where; "" if there is none."""
    parts: list[tuple[str, object]] = []
    if isinstance(value, dict):
        for name, each in cast("dict[object, object]", value).items():
            shown = _exact_text(name)
            if shown is None and not isinstance(name, (int, float, type(None))):
                return f"a name that is {type(name).__name__}{_at(place)}: use str()"
            parts.append((f"{place}.{shown or name}".lstrip("."), each))
    elif isinstance(value, (list, tuple)):
        items = cast("list[object]", value)
        parts = [(f"{place}[{number}]", each) for number, each in enumerate(items)]
    elif isinstance(value, float):
        return "" if abs(value) < float("inf") else f"{float(value)}{_at(place)}"
    elif not isinstance(value, (str, int, type(None))):
        return f"{type(value).__name__}{_at(place)}: use str()"
    problems = (_not_json(each, inner) for inner, each in parts)
    return next(filter(None, problems), "")


def _at(place: str) -> str:
    return f" at {_shown(place)}" if place else ""


# Answer -> error.


class _FailedAttempt(NamedTuple):
    """What a try that did not succeed is called, and whether another is allowed."""

    error: TransportError | ApiError
    may_try_again: bool
    wait: float | None = None  # seconds, if the server tells how long


def _unanswered(target: _Target, failure: _CallError) -> _FailedAttempt:
    is_unknown = failure.was_sent and target.method not in SAFE_METHODS
    remedies = failure.remedies
    if is_unknown:  # trying again could place a second order
        remedies = tuple(each for each in remedies if each != TRY_AGAIN)
    parts = [f"{target.host}: {failure.reason}", ", or ".join(remedies)]
    if is_unknown:
        parts.append(UNKNOWN_OUTCOME)
    message = "; ".join(filter(None, parts))
    error = TransportError(message, outcome_unknown=is_unknown)
    return _FailedAttempt(error, not is_unknown and not failure.is_lasting)


def _refused(
    target: _Target, response: Response, hints: Iterable[str], deadline: float
) -> _FailedAttempt:
    """Return what became of a request whose answer has a status outside 200-299."""
    status = response.status
    is_safe = target.method in SAFE_METHODS
    is_unknown = status >= 500 and not is_safe
    may_try_again = status == 429 or (is_safe and status in (500, 502, 503, 504))
    wait = _retry_after(response)
    parts = [f"HTTP {status}: {_server_message(response)}"]
    if is_unknown:
        parts.append(UNKNOWN_OUTCOME)
    if response._unread and status // 100 == 4:
        parts.append("it was not carried out")
    if may_try_again and wait and time.monotonic() + wait > deadline:
        parts.append(f"try again in {wait:.0f} s")
    error = ApiError(
        "; ".join(parts),
        status=status,
        headers=response.headers,
        body=response.body,
        hints=tuple(hints),
        outcome_unknown=is_unknown,
    )
    return _FailedAttempt(error, may_try_again, wait)


def _server_message(response: Response) -> str:
    """Return what a server says of an error, as it is shown."""
    if response._unread:
        return response._unread
    if response.status // 100 == 3:
        host = _host_of(_header_text(response.headers, "Location"))
        return f"a redirect to {_shown(host) or 'the same host'}, not followed"
    return _shown(_message_in(response.body).strip()) or "no message"


def _host_of(url: str) -> str:
    """Return the host of a URL; "" for a path, or what is no URL."""
    from urllib.parse import urlsplit

    with contextlib.suppress(ValueError):
        return urlsplit(url).netloc.rpartition("@")[2]
    return ""


def _message_in(body: bytes) -> str:
    """Return the message in an error's JSON, or else the whole body."""
    text = body.decode("utf-8", "replace")
    try:
        fields = _members(json.loads(text))
    except (ValueError, RecursionError):
        return text
    errors = fields.get("errors")
    first = cast("list[object]", errors)[:1] if isinstance(errors, list) else []
    for inner in (*first, fields.get("error")):
        fields = {**_members(inner), **fields}  # the outer ones prevail
    for name in ("message", "error_details", "error", "errorMessage", "id"):
        if fields.get(name):
            return str(fields[name])
    return text


def _retry_after(response: Response) -> float | None:
    """Return the seconds of `Retry-After` (RFC 9110, section 10.2.3), if given."""
    text = _header_text(response.headers, "Retry-After")
    if re.fullmatch("[0-9]{1,6}", text):
        return float(text)
    date = _http_date(text)
    return None if date is None else max(0.0, date - time.time())


def _seconds_ahead(response: Response, nbf: int | None) -> int | None:
    """Return how far a server's clock is ahead, if that explains its 401."""
    server = _http_date(_header_text(response.headers, "Date"))
    if response.status != 401 or nbf is None or server is None:
        return None
    if nbf <= server < nbf + LIFETIME:
        return None
    return int(server - time.time())


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if not isinstance(value, (int, float)) or not least <= value < most:
        raise InvalidRequestError(
            f"{name} is not a number from {least:g} to {most:g}; correct it"
        )


def _checked_context(given: object) -> ssl.SSLContext:
    """Return a context that verifies the server, by TLS 1.2 at least."""
    import ssl

    if given is not None and not isinstance(given, ssl.SSLContext):
        found = type(given).__name__
        raise InvalidRequestError(f"ssl_context is {found}; expected an ssl.SSLContext")
    try:
        context = given or ssl.create_default_context()
    except OSError as error:
        reason = error.strerror or type(error).__name__  # PyPy has no text for some
        raise TransportError(
            f"TLS cannot be set up: {reason}; check SSLKEYLOGFILE and SSL_CERT_FILE"
        ) from None
    if context.verify_mode != ssl.CERT_REQUIRED or not context.check_hostname:
        raise InvalidRequestError("ssl_context does not verify the server; it must")
    # Python 3.9's default allows less.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    return context


# Pages.


def _refuse_cursor(path: str) -> None:
    from urllib.parse import parse_qsl

    query = parse_qsl(path.partition("?")[2], keep_blank_values=True)
    if "cursor" in dict(query):
        raise InvalidRequestError("the path has a cursor; give it in params")


def _cursor(page: dict[str, object]) -> str:
    """Return the cursor of the next page; "" if there is none."""
    cursor = page.get("cursor")
    return str(cursor) if cursor and type(cursor) in (str, int) else ""


def _path_on_host(next_uri: object) -> str:
    try:
        return _checked_path(_text(next_uri, "next_uri"))
    except InvalidRequestError:
        pass
    raise TransportError("next_uri is not a path on the same host")


class Client:
    """Authenticated calls over connections that are kept; threads may share one.

    Args:
        key: signs each request; None for public endpoints.
        host: where paths go; a URL goes to its own host.
        timeout: seconds for a whole call: connecting, sending, waiting, trying again;
            only the lookup of the name, by the operating system, is not interrupted.
        retries: how often a call is tried again: GET and HEAD after connection errors,
            429, 500, 502, 503 and 504; others after 429, or if nothing was sent. (A 401
            that the clock explains is signed again once, in any case.)
        max_body: bytes of an answer, at most.
        ssl_context: for a private CA; else the system's CAs, or those of SSL_CERT_FILE.
            It must verify the server; its minimum is raised to TLS 1.2.
    """

    @_drops_frames
    def __init__(
        self,
        key: ApiKey | None = None,
        *,
        host: str = DEFAULT_HOST,
        timeout: float = 10.0,
        retries: int = 2,
        max_body: int = 32 * 2**20,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        from importlib import import_module

        # What most calls import: a fork must not find another thread importing it.
        for name in ("encodings.idna", "logging", "urllib.request"):
            import_module(name)
        self._key = _checked_key(key)
        self._host = _checked_host(_text(host, "host"))
        _check_number("timeout", timeout, LEAST_TIMEOUT, 1e6)
        _check_number("retries", retries, 0, 1e6)
        _check_number("max_body", max_body, 0, 2**40)
        self._timeout = timeout
        self._retries = retries
        self._clock_offsets: dict[str, int] = {}  # seconds ahead, learned from a 401
        context = _checked_context(ssl_context)
        self._connections = _Connections(context, int(max_body))
        self._opener = _opener(self._connections.exchange)

    @_drops_frames
    def request(
        self,
        method: str,
        url_or_path: str,
        *,
        params: Params = None,
        json: object = None,
    ) -> Response:
        """Sign and send a request; return the answer if its status is 200-299.

        Args:
            method: as in `ApiKey.rest_jwt`.
            url_or_path: as there.
            params: for the query; a list repeats its name, None is left out.
            json: the body; bytes are JSON already. GET and HEAD have none.

        Raises:
            ApiError: another status. TransportError: no answer, or none of use.
            InvalidRequestError: an argument is wrong; nothing was sent.
        """
        target = _target(method, _with_query(url_or_path, params), self._host)
        body = _json_body(json, target.method)
        return self._deliver(target, body, time.monotonic() + self._timeout)

    @_drops_frames
    def get(self, url_or_path: str, *, params: Params = None) -> Response:
        """GET; arguments and errors as in `request`."""
        return self.request("GET", url_or_path, params=params)

    @_drops_frames
    def head(self, url_or_path: str, *, params: Params = None) -> Response:
        """HEAD; arguments and errors as in `request`."""
        return self.request("HEAD", url_or_path, params=params)

    @_drops_frames
    def post(
        self, url_or_path: str, *, params: Params = None, json: object = None
    ) -> Response:
        """POST; arguments and errors as in `request`."""
        return self.request("POST", url_or_path, params=params, json=json)

    @_drops_frames
    def put(
        self, url_or_path: str, *, params: Params = None, json: object = None
    ) -> Response:
        """PUT; arguments and errors as in `request`."""
        return self.request("PUT", url_or_path, params=params, json=json)

    @_drops_frames
    def patch(
        self, url_or_path: str, *, params: Params = None, json: object = None
    ) -> Response:
        """PATCH; arguments and errors as in `request`."""
        return self.request("PATCH", url_or_path, params=params, json=json)

    @_drops_frames
    def delete(
        self, url_or_path: str, *, params: Params = None, json: object = None
    ) -> Response:
        """DELETE; arguments and errors as in `request`."""
        return self.request("DELETE", url_or_path, params=params, json=json)

    def _deliver(
        self, target: _Target, body: bytes | None, deadline: float
    ) -> Response:
        """Try until there is an answer, or no use in trying again."""
        tries = 0
        was_signed_again = False
        while True:
            try:
                response, nbf = self._send(target, body, deadline)
            except _CallError as failure:
                failed = _unanswered(target, failure)
            else:
                if response.status < 300:
                    return response
                ahead = _seconds_ahead(response, nbf)
                if ahead is not None and ahead < MAX_AHEAD and not was_signed_again:
                    self._adopt_clock(target.host, ahead)
                    was_signed_again = True
                    continue
                is_skewed = ahead is not None
                hints = _hints(target, self._key, response, is_skewed=is_skewed)
                failed = _refused(target, response, hints, deadline)
            wait = 0.25 * 2 ** min(tries, 8) if failed.wait is None else failed.wait
            is_too_late = time.monotonic() + wait > deadline
            if not failed.may_try_again or tries >= self._retries or is_too_late:
                raise failed.error
            tries += 1
            _logger().debug("%s; trying again in %g s", failed.error, wait)
            time.sleep(wait)

    def _send(
        self, target: _Target, body: bytes | None, deadline: float
    ) -> tuple[Response, int | None]:
        """Send a request once; return the answer, and the nbf of its token."""
        import urllib.request

        method, host, path = target
        url = f"https://{host}{path}"
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"cdp_jwt/{__version__}",
        }
        size = len(body or b"")
        if method not in SAFE_METHODS:
            headers["Content-Length"] = str(size)
        if body is not None:
            headers["Content-Type"] = "application/json"
        nbf = None
        signed = "no token"
        if self._key:
            nbf = int(time.time()) + self._clock_offsets.get(host, 0) - BACKDATE
            token = self._key._issue(_claim(target.uri), nbf)
            headers["Authorization"] = f"Bearer {token}"
            signed = "Authorization: Bearer ..."
        shown = _shown_url(url)
        _logger().debug("%s %s with %s, %d bytes", method, shown, signed, size)
        request = urllib.request.Request(url, body, headers, method=method)
        timeout = deadline - time.monotonic()
        response: Response = self._opener.open(request, timeout=timeout)
        _logger().debug("HTTP %d, %d bytes", response.status, len(response.body))
        return response, nbf

    def _adopt_clock(self, host: str, ahead: int) -> None:
        """Date the tokens for a host by its clock from now on."""
        self._clock_offsets[host] = ahead
        difference = f"{-ahead:+d} s from the server's"
        _logger().warning("%s", f"this clock is {difference}; the server's is used")

    @_drops_frames
    def pages(self, path: str, params: Params = None) -> Iterator[Response]:
        """Return the pages of a list, by `cursor` or `next_uri`, one at a time.

        The message of an error in between says where to go on: a cursor is one of the
        `params`, and refused in the path.
        """
        _refuse_cursor(_target("GET", path, self._host).path)
        _with_query(path, params)  # which says what is wrong with them
        return self._pages(path, dict(params or {}))

    def _pages(self, path: str, query: dict[str, object]) -> Iterator[Response]:
        host = _target("GET", path, self._host).host
        place = ""  # of the page, if it is not the first
        seen: set[int] = set()  # hashes, as a cursor may be long
        while True:
            try:
                response = self.get(path, params=query)
                page = _members(response.json())
            except BaseException as error:  # Ctrl-C as well
                del path, query  # as an error shows this function's variables
                if place and isinstance(error, CdpError):
                    error.args = (f"{error}; to go on: {_escaped(place[:MAX_SHOWN])}",)
                raise
            yield response
            next_uri = _members(page.get("pagination")).get("next_uri")
            cursor = "" if page.get("has_next") is False else _cursor(page)
            if next_uri:
                place = _path_on_host(next_uri)
                path = f"https://{host}{place}"
                query = {}
            elif cursor:
                place = f"cursor={cursor}"
                query["cursor"] = cursor
            else:
                place = ""
            if not place or hash(place) in seen:
                break
            seen.add(hash(place))
        if place or page.get("has_next") is True:
            _logger().warning("the list has no new cursor, and may be incomplete")

    def close(self) -> None:
        """Close the connections that are not in use; the next call opens new ones."""
        self._connections.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_connections"):  # __init__ may have refused an argument
            self.close()


# ---------------------------------------------------------- 8. command line
#
# Standard output carries data alone; what is for a person goes to standard error. A
# word of the command line may be a secret in the wrong place: it is shown again only if
# it looks like an option, a method or a command.


# Where data and messages go.


def _is_terminal(stream: TextIO | None) -> bool:
    if stream is None or stream.closed or not stream.isatty():
        return False
    if sys.platform == "win32":  # where NUL says that it is one, but has no size
        try:
            os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            return False
    return True


def _is_file(stream: TextIO) -> bool:
    with contextlib.suppress(OSError, ValueError):  # it may be of no descriptor
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    return False


def _is_one_place(first: TextIO, second: TextIO | None) -> bool:
    with contextlib.suppress(OSError, ValueError):
        if second is not None:
            return os.path.sameopenfile(first.fileno(), second.fileno())
    return False


def _encoding(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "ascii"


def _printable(text: str, stream: TextIO | None) -> str:
    """Return text as one line that a stream can encode, without control characters."""
    encoding = _encoding(stream)
    return _escaped(text).encode(encoding, "backslashreplace").decode(encoding)


class _Console:
    """The two streams: data on standard output, what a person is told on the other."""

    def __init__(self, program: str, is_verbose: bool) -> None:
        self._program = program
        self._is_verbose = is_verbose
        self._counter = ""  # what stands in the last line of the terminal
        self._is_line_open = False  # did the data end without a line break?
        self.consequence = ""  # what has been done, if the output is lost on the way

    def write(self, octets: bytes) -> None:
        """Write data unchanged; to a terminal, with control characters escaped."""
        if _is_terminal(sys.stdout):
            text = octets.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
            lines = text.removesuffix("\n").split("\n") if text else []
            for line in lines:
                cells = [_printable(cell, sys.stdout) for cell in line.split("\t")]
                print("\t".join(cells))
            sys.stdout.flush()
        else:
            self._write_octets(octets)

    def write_line(self, text: str) -> None:
        r"""Write a line; it ends in \n on Windows, too, as a shell keeps the \r."""
        line = _printable(text, sys.stdout)
        if _is_terminal(sys.stdout):
            print(line, flush=True)
        else:
            self._write_octets(f"{line}\n".encode(_encoding(sys.stdout)))

    def _write_octets(self, octets: bytes) -> None:
        sys.stdout.flush()
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is None:  # a program has put a stream of text in its place
            print(octets.decode("utf-8", "backslashreplace"), end="")
        else:
            buffer.write(octets)
            buffer.flush()
        self._is_line_open = octets != b"" and not octets.endswith(b"\n")

    def read(self, path: str, what: str, limit: int = -1) -> bytes:
        """Return up to `limit` octets of a file, or of standard input (-)."""
        if path == "-":
            self.tell_wait(what)
        return _read(path, limit)

    def tell_wait(self, what: str) -> None:
        """Say what standard input is waited for, if a person has to type it."""
        if _is_terminal(sys.stdin):
            end = "Ctrl-Z and Enter" if sys.platform == "win32" else "Ctrl-D"
            self.tell("hint", f"type or paste {what}, then {end} on a line of its own")

    def tell(self, kind: str, message: str) -> None:
        """Tell the user something: an error, a warning, a hint, or a note."""
        if kind != "note" or self._is_verbose:
            self.tell_line(f"{self._program}: {kind}: {message}")

    def tell_line(self, line: str) -> None:
        self.erase_count()
        # Through a pipe, the data may have come to the same terminal.
        if self._is_line_open and (
            _is_terminal(sys.stderr) or _is_one_place(sys.stdout, sys.stderr)
        ):
            self._write_error("\n")
        self._is_line_open = False
        self._write_error(f"{_printable(line, sys.stderr)}\n")

    def count(self, pages: int) -> None:
        """Show a number of pages, where it cannot stand among the data.

        Through a pipe, these may reach the same terminal: then nothing is shown.
        """
        if _is_terminal(sys.stderr) and _is_file(sys.stdout):
            self.erase_count()
            self._counter = "1 page" if pages == 1 else f"{pages} pages"
            self._write_error(self._counter)

    def erase_count(self) -> None:
        if self._counter:
            blank = " " * len(self._counter)
            self._write_error(f"\r{blank}\r")
            self._counter = ""

    @staticmethod
    def _write_error(text: str) -> None:
        # A closed standard error, or a full disk, must not stop a call half-way.
        if sys.stderr is not None:  # print would take standard output instead
            with contextlib.suppress(OSError, ValueError):
                print(text, end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _listening(
    tell: Callable[[str, str], None], is_verbose: bool
) -> Generator[None, None, None]:
    """Pass on what calls of this thread log; what others log is not the command's."""
    import logging
    import threading

    this_thread = threading.get_ident()
    logger = _logger()
    level = logger.level
    has_no_other = not logger.hasHandlers()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            is_warning = record.levelno >= logging.WARNING
            if record.thread == this_thread:
                tell("warning" if is_warning else "note", record.getMessage())
            elif is_warning and has_no_other and logging.lastResort:
                logging.lastResort.handle(record)  # which this handler silences

    listener = Listener()
    if is_verbose:
        logger.setLevel(logging.DEBUG)
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


# How it is called.

# The commands, as messages call them. METHOD PATH with and without --call, and ws with
# and without a CHANNEL, differ in the options that they take.
PRINT: Final = "METHOD PATH"
CALL: Final = "--call"
WS: Final = "ws"
MESSAGE: Final = "ws CHANNEL"
DECODE: Final = "decode"
CHECK: Final = "check"
EVERY: Final = (PRINT, CALL, WS, MESSAGE, DECODE, CHECK)

SYNOPSIS: Final = """\
usage: {0} METHOD PATH [--export | --header | --call]
       {0} ws [CHANNEL [PRODUCT ...]] | decode [TOKEN] | check
Print a token for one Coinbase request, or send it; --help says more.
"""
KEY_SOURCES: Final = """\
Without --key-file the key comes from CDP_KEY_FILE, COINBASE_API_KEY and
COINBASE_API_SECRET, or CDP_API_KEY_ID (or _NAME) and CDP_API_KEY_SECRET.
"""
SESSION: Final = """\
  $ export CDP_KEY_FILE=cdp_api_key.json
  $ {0} GET /api/v3/brokerage/accounts --call --paginate
"""
USAGES: Final = {  # of each command
    PRINT: """\
usage: {0} METHOD PATH [OPTION ...]
Print a token for one request. METHOD is GET, POST, PUT, PATCH, DELETE or HEAD;
PATH may be a whole https URL.
""",
    CALL: """\
usage: {0} METHOD PATH --call [OPTION ...]
Send the request and print the answer's body. PATH may be a whole https URL.
""",
    WS: """\
usage: {0} ws [OPTION ...]
       {0} ws CHANNEL [PRODUCT ...] [OPTION ...]
Print a token for one WebSocket message or, with a CHANNEL, a whole subscribe
message with one; `ws CHANNEL --help` has its options.
""",
    MESSAGE: """\
usage: {0} ws CHANNEL [PRODUCT ...] [OPTION ...]
Print a subscribe message with a token of its own; PRODUCT is one such as
BTC-USD, CHANNEL one of candles, futures_balance_summary, heartbeats, level2,
market_trades, status, ticker, ticker_batch and user.
""",
    DECODE: """\
usage: {0} decode [TOKEN | -] [OPTION ...]
Say what is in a JWT, of any program, and what is wrong with it. TOKEN may stand
in a header, a curl command or a message; - and nothing read standard input.
""",
    CHECK: """\
usage: {0} check [OPTION ...]
Say whether key, clock, network and permissions are right; change nothing.
""",
}


class _Option(NamedTuple):
    name: str
    value: str  # what follows it; "" if nothing does
    commands: tuple[str, ...]  # that it goes with
    help: str  # "" if that of another option names it


OPTIONS: Final = (
    _Option("--export", "", (PRINT, WS), "print export JWT='...', for a shell"),
    _Option("--header", "", (PRINT, WS), "print a whole header, for curl -H @-"),
    _Option(
        "--not-before", "TIME", (PRINT, WS),
        "when it begins: +SECONDS or 2026-11-22T15:00:00Z",
    ),
    _Option("--call", "", (PRINT, CALL), "send the request, print the answer's body"),
    _Option("--data", "JSON", (CALL,), "the body; @FILE and - (stdin) read it"),
    _Option("--param", "NAME=VALUE", (CALL,), "for the query; may be repeated"),
    _Option("--paginate", "", (CALL,), "follow a list to its end, one page a line"),
    _Option("--include", "", (CALL,), "print status and headers, too"),
    _Option("--no-auth", "", (CALL,), "send no token, for public endpoints"),
    _Option("--timeout", "SECONDS", (CALL, CHECK), "for each call as a whole (10)"),
    _Option(
        "--host", "HOST", (PRINT, CALL, CHECK),
        "name or name:port instead of api.coinbase.com",
    ),
    _Option("--offline", "", (CHECK,), "check without the network"),
    _Option(
        "--key-file", "FILE", EVERY,
        "the portal's, or PEM with --key-name; - is stdin",
    ),
    _Option(
        "--key-name", "NAME", EVERY,
        "the key's name, where the file holds the secret alone",
    ),
    _Option("--verbose", "", EVERY, "say what is sent and why it waits, but no token"),
    _Option("--help", "", EVERY, "of a command: ws --help, GET --help; --version"),
    _Option("--version", "", EVERY, ""),
)  # fmt: skip
NAMED: Final = {option.name: option for option in OPTIONS}
SHORT: Final = {"-h": "--help", "-V": "--version"}


class _UsageError(CdpError):
    """The command line cannot be understood."""


# What the command line asks for.


class _CommandLine(NamedTuple):
    words: list[str]  # what is no option
    options: dict[str, str]  # by name; "" for one that takes no value
    params: list[str]  # the values of --param

    @property
    def command(self) -> str:
        """The command that is called, one of EVERY; "" if there is none such."""
        first = self.words[0] if self.words else ""
        if first == WS:
            return MESSAGE if len(self.words) > 1 else WS
        if first in (DECODE, CHECK):
            return first
        if first.upper() in METHODS:
            return CALL if "--call" in self.options else PRINT
        return ""


def _parse_arguments(arguments: Sequence[str]) -> _CommandLine:
    line = _CommandLine([], {}, [])
    rest = [*arguments]
    while rest:
        argument = rest.pop(0)
        if argument == "--":  # all that follows are words
            line.words.extend(rest)
            break
        if argument.startswith(("–", "—")):
            raise _UsageError("an option begins with two plain dashes: --")
        if argument == "-" or not argument.startswith("-"):
            line.words.append(argument)
            continue
        name, equals, value = argument.partition("=")
        option = NAMED.get(SHORT.get(name, name))
        if option is None:
            raise _UsageError(_unknown_option(name))
        if equals and not option.value:
            raise _UsageError(f"{name} takes no value")
        if option.value and not equals:
            if not rest or rest[0] in NAMED:
                raise _UsageError(f"{name} needs {option.value}")
            value = rest.pop(0)
        line.options[option.name] = value
        if option.name == "--param":
            line.params.append(value)
    return line


def _unknown_option(name: str) -> str:
    """Say which option was perhaps meant; show `name` only if it is a word."""
    from difflib import get_close_matches

    word = name.replace("_", "-")
    if not re.fullmatch("--?[a-z-]{1,20}", word, re.IGNORECASE):
        return "unknown option"  # perhaps a secret
    start = f"--{word.strip('-').lower()}"
    longer = [each for each in NAMED if each.startswith(start)]
    meant = longer or get_close_matches(start, NAMED, 1, 0.75)
    if meant:
        return f"unknown option {name}; did you mean {meant[0]}?"
    # Without a digit, and in lower case, it is no secret.
    return f"unknown option {name}" if name.islower() else "unknown option"


def _unknown_command(word: str) -> str:
    from difflib import get_close_matches

    if word.startswith("/") or URL.match(word):
        return "a METHOD is missing before PATH, such as GET"
    if JWT_IN_TEXT.fullmatch(word):
        return "a command is missing; `decode TOKEN` says what is in a token"
    known = (WS, DECODE, CHECK, "--help", "--version")
    meant = get_close_matches(word.lower(), known, 1)
    if meant:  # a short word that is close to a command is no secret
        shown = f" {word}" if len(word) < 10 and word.isalpha() else ""
        return f"unknown command{shown}; did you mean {meant[0]}?"
    try:
        return _checked_method(word)  # raises an error, as `word` is no method
    except InvalidRequestError as error:
        return str(error)


def _decode_text(words: list[str]) -> str:
    """Return what decode is given; without any, it is standard input."""
    return " ".join(words[1:]) or "-"


def _check_usage(line: _CommandLine) -> None:
    """Refuse what is no command, and options that would have no effect."""
    command = line.command
    if not line.words:
        raise _UsageError("a command is missing")
    if not command:
        raise _UsageError(_unknown_command(line.words[0]))
    if command in (PRINT, CALL) and len(line.words) != 2:
        needs = "needs a" if len(line.words) < 2 else "takes one"
        raise _UsageError(f"{line.words[0].upper()} {needs} PATH")
    if command == CHECK and len(line.words) > 1:
        raise _UsageError("check takes no argument")
    text = _decode_text(line.words)  # perhaps a header or curl command without quotes
    if command == DECODE and len(line.words) > 2 and not JWT_IN_TEXT.search(text):
        raise _UsageError("decode takes one TOKEN")
    for name in line.options:
        if command not in NAMED[name].commands:
            needs_call = command == PRINT and CALL in NAMED[name].commands
            fault = "needs --call" if needs_call else f"does not go with {command}"
            raise _UsageError(f"{name} {fault}")
    _check_combinations(line)


def _check_combinations(line: _CommandLine) -> None:
    options, method = line.options, line.words[0].upper()
    if "--export" in options and "--header" in options:
        raise _UsageError("--export and --header exclude each other")
    if "--paginate" in options and (method != "GET" or "--data" in options):
        raise _UsageError("--paginate goes with GET, and without --data")
    if "--data" in options and method in SAFE_METHODS:
        raise _UsageError(f"--param, not --data, for {method}")
    if "--key-name" in options and not _key_path(options):
        raise _UsageError("--key-name goes with --key-file or CDP_KEY_FILE")
    inputs = [_key_path(options), options.get("--data", "").removeprefix("@")]
    if line.command == DECODE:
        inputs.append(_decode_text(line.words))
    if inputs.count("-") > 1:
        raise _UsageError("only one of key file, data and token can be standard input")


def _help(command: str) -> str:
    """Return the help of one command, or of all if it is ""."""
    lines: list[str] = []
    for option in OPTIONS:
        indent = "    " if not command and option.commands == (CALL,) else "  "
        usage = f"{indent}{option.name} {option.value}"
        if option.help and (not command or command in option.commands):
            lines.append(f"{usage:24}{option.help}\n")
    if command:
        return "".join((USAGES[command], *lines))
    return "".join((SYNOPSIS, *lines, KEY_SOURCES, SESSION))


# The values of options. What is wrong with them is found before anything is done.


def _key_path(options: Mapping[str, str]) -> str | None:
    """Return the path of the key file, if the key is to come from one."""
    return options.get("--key-file", _key_file_variable(os.environ) or None)


def _option_key_text(options: Mapping[str, str], console: _Console) -> _KeyText:
    if _key_path(options) == "-":
        console.tell_wait("a key file")
    if "--key-file" in options or "--key-name" in options:
        return _read_key_file(_key_path(options), options.get("--key-name"))
    return _read_environment(os.environ)


def _option_key(options: Mapping[str, str], console: _Console) -> ApiKey:
    key_text = _option_key_text(options, console)
    for warning in key_text.warnings:
        console.tell("warning", warning)
    return _parsed_into(ApiKey, key_text)


def _option_timeout(options: Mapping[str, str]) -> float:
    try:
        seconds = float(options.get("--timeout", "10"))
    except ValueError:
        seconds = 0.0
    if not seconds >= LEAST_TIMEOUT:  # which NaN is not
        raise _UsageError(f"--timeout takes seconds above 0, from {LEAST_TIMEOUT} on")
    if seconds >= 1e6:
        raise _UsageError("--timeout takes seconds below 1000000")
    return seconds


def _option_time(text: str) -> int:
    """Return the epoch seconds of --not-before."""
    from datetime import datetime

    value: object = None
    with contextlib.suppress(ValueError):
        if text.startswith("+"):
            value = int(time.time()) + int(text)
        else:
            moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
            if moment.utcoffset() is not None:
                value = int(moment.timestamp())
    seconds = _epoch_seconds(value)
    if seconds is None:
        raise _UsageError("--not-before takes +SECONDS or 2026-11-22T15:00:00Z")
    return _start(seconds)


def _option_data(text: str, console: _Console) -> bytes:
    """Return --data as UTF-8, if it is JSON; it is not rewritten."""
    is_file = text == "-" or text.startswith("@")
    problem = "is not JSON"
    try:
        octets = (
            console.read(text.removeprefix("@"), "JSON") if is_file else text.encode()
        )
        body = _decoded(octets)
        json.loads(body, parse_constant=_refuse_constant)
        return body.encode()
    except OSError as error:
        raise CdpError(f"--data cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        if os.path.isfile(text):
            problem = "is a file's name; put @ before it"
    raise InvalidRequestError(f"--data {problem}; nothing was sent")


def _option_query(params: list[str]) -> dict[str, list[str]]:
    query: dict[str, list[str]] = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not equals:
            raise _UsageError("--param takes NAME=VALUE")
        query.setdefault(name, []).append(value)
    return query


# The commands.


def _print_token(line: _CommandLine, console: _Console) -> None:
    options, words = line.options, line.words
    host = options.get("--host", DEFAULT_HOST)
    not_before = None
    if "--not-before" in options:
        not_before = _option_time(options["--not-before"])
    # What is wrong with the request is said before a key is asked for.
    if line.command == PRINT:
        _target(words[0], words[1], host)
    if line.command == MESSAGE:
        _checked_channel(words[1])
        _product_ids(words[2:])
    key = _option_key(options, console)
    if line.command == PRINT:
        text = key.rest_jwt(words[0], words[1], host=host, not_before=not_before)
    elif line.command == MESSAGE:
        text = ws_message(words[1], words[2:], key=key)
    else:
        text = key.ws_jwt(not_before=not_before)
    if "--export" in options:
        text = f"export JWT='{text}'"  # a token has no quotes
    elif "--header" in options:
        text = f"Authorization: Bearer {text}"
    console.write_line(text)
    if line.command == PRINT and _is_terminal(sys.stdout):
        console.tell(
            "hint", "this is a token for the request; --call sends the request"
        )


def _call(line: _CommandLine, console: _Console) -> None:
    options, words = line.options, line.words
    query = _option_query(line.params)
    timeout = _option_timeout(options)
    host = _checked_host(options.get("--host", DEFAULT_HOST))
    target = _target(words[0], words[1], host)
    data = _option_data(options["--data"], console) if "--data" in options else None
    key = None if "--no-auth" in options else _option_key(options, console)
    is_verbose = "--verbose" in options
    client = Client(key, host=host, timeout=timeout)
    deadline = time.monotonic() + timeout
    with _listening(console.tell, is_verbose), client:
        try:
            if "--paginate" in options:
                for number, page in enumerate(client.pages(words[1], query), 1):
                    _print_answer(page, options, console)
                    console.count(number)
            else:
                answer = client.request(words[0], words[1], params=query, json=data)
                if target.method not in SAFE_METHODS:
                    console.consequence = "; the call was carried out"
                _print_answer(answer, options, console)
        except ApiError as error:
            _print_answer(error, options, console)
            if key and error.status in (401, 403):
                error.hints = _explained(error, client, target, deadline)
            raise


def _print_answer(
    answer: Response | ApiError, options: Mapping[str, str], console: _Console
) -> None:
    if "--include" in options:
        console.write_line(f"HTTP/1.1 {answer.status}")
        for name, value in answer.headers.items():
            console.write_line(f"{name}: {value}")
        console.write_line("")
    if "--paginate" in options:
        # JSON's strings hold no line breaks, so that those of a page can go.
        console.write(b"".join(answer.body.splitlines()) + b"\n")
    else:
        console.write(answer.body)


PERMISSIONS: Final = "/api/v3/brokerage/key_permissions"


def _explained(
    error: ApiError, client: Client, target: _Target, deadline: float
) -> tuple[str, ...]:
    """Return the hints of a refusal, or the permission that the key proves to lack."""
    permission = _needed_permission(target)
    if permission:
        with contextlib.suppress(CdpError):
            permissions = _Target("GET", target.host, PERMISSIONS)
            granted = client._deliver(permissions, None, deadline)
            if _members(granted.json()).get(permission) is False:
                return (
                    f"the key is valid, but may not do this: its {permission} is false",
                )
    return (*error.hints, "`check` tests key, clock, network and permissions")


def _needed_permission(target: _Target) -> str:
    """Return what a key must be allowed for a request, apart from reading."""
    if target.method in SAFE_METHODS:
        return ""
    if "/orders" in target.path:
        return "can_trade"
    transfers = ("/transactions", "/move_funds", "/transfer")
    if any(word in target.path for word in transfers):
        return "can_transfer"
    return ""


IS_KEY: Final = "this is a private key, not a token; it is not shown"


def _decode(line: _CommandLine, console: _Console) -> int:
    """Report on a token; its signature is not shown."""
    text = _decode_text(line.words)
    if text == "-":
        text = _read_token(console)
    now = time.time()  # not before the program in front of a pipe has made a token
    if "PRIVATE KEY" in text or any(f'"{field}"' in text for field in SECRET_FIELDS):
        raise CdpError(IS_KEY)
    try:
        inspection = inspect_jwt(text, now=now)
    except InvalidRequestError as error:  # of what was read, not of how it was called
        raise CdpError(str(error)) from None
    # A key file, or a JWK, in base64. (`d` is a JWK's private part.)
    if {*SECRET_FIELDS, "d"} & {*inspection.header, *inspection.claims}:
        raise CdpError(IS_KEY)
    key, signed = None, ""
    if inspection.header or inspection.claims:
        key, signed = _verifying_key(inspection, line.options, console)
    if key:
        inspection, is_signed = _inspect(_token_in(text), key, now)
        signed = f"by {key.name}" if is_signed else ""
        notes = dict.fromkeys((*inspection.notes, *key.warnings))  # each of them once
        inspection = inspection._replace(notes=tuple(notes))
    for each in _decode_lines(inspection, signed, now):
        console.write_line(each)
    return 1 if inspection.problems else 0


def _read_token(console: _Console) -> str:
    try:
        return _decoded(console.read("-", "a token", MAX_TOKEN_TEXT + 1))
    except OSError as error:
        raise CdpError(f"TOKEN: {error.strerror}") from None
    except ValueError:
        raise CdpError("TOKEN: not text (UTF-8, or UTF-16 with its mark)") from None


def _verifying_key(
    inspection: Inspection, options: Mapping[str, str], console: _Console
) -> tuple[ApiKey | None, str]:
    """Return the key that a token should be signed by, or why there is none."""
    try:
        key = _option_key(options, console)
    except InvalidKeyError as error:
        if "--key-file" in options:
            raise
        return None, f"not verified: {error}"
    if "--key-file" in options or key.name == inspection.header.get("kid"):
        return key, ""
    return None, f"not verified: its kid is not {key.name}, the key at hand"


def _decode_lines(inspection: Inspection, signed: str, now: float) -> Iterator[str]:
    from datetime import datetime, timedelta, timezone

    if inspection.header:
        yield f"header   {_shown_members(inspection.header)}"
    if inspection.claims:
        yield f"claims   {_shown_members(inspection.claims)}"
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    for name in ("nbf", "exp"):
        seconds = _epoch_seconds(inspection.claims.get(name))
        if seconds is not None:  # utcfromtimestamp fails where time_t has 32 bits
            moment = epoch + timedelta(seconds=seconds)
            yield f"{name}      {moment}, {int(seconds - now):+d} s from now"
    if signed:
        yield f"signed   {signed}"
    yield from (f"problem  {problem}" for problem in inspection.problems)
    yield from (f"note     {note}" for note in inspection.notes)
    if not inspection.problems:
        yield f"ok       no problem found, {inspection.seconds_left} s left"


def _shown_members(members: dict[str, object]) -> str:
    """Return header or claims as JSON, without a key that got into the wrong place."""
    shown = cast("dict[str, object]", _without_keys(members))
    for name in members.keys() & {"nonce", "uri", "uris"}:  # which may look like one
        shown[name] = members[name]
    return json.dumps(shown)


def _without_keys(value: object) -> object:
    """Return a JSON value in which no text, at any depth, looks like a key."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return {_without_keys(name): _without_keys(members[name]) for name in members}
    if isinstance(value, list):
        return [_without_keys(each) for each in cast("list[object]", value)]
    text = _exact_text(value) or ""
    if _looks_like_key(text) and not text.startswith("organizations/"):
        return HIDDEN
    return value


# The steps of `check`.


class _Report:
    """One line for each step, and the first cause of a failure last."""

    def __init__(self, console: _Console) -> None:
        self._console = console
        self._first: dict[str, str] = {}  # what each state was first given for

    def add(self, state: str, text: str) -> None:
        """Report a step, whose state is "ok", "warn" or "fail"."""
        self._first.setdefault(state, text)
        self._console.write_line(f"{state:5} {text}")

    def hear(self, kind: str, message: str) -> None:
        """Take what calls tell on the way: their warnings are steps, too."""
        if kind == "warning":
            self.add("warn", message)
        else:
            self._console.tell(kind, message)

    def conclude(self) -> int:
        first = self._first.get("fail") or self._first.get("warn")
        self._console.write_line(f"First: {first}" if first else "All is well.")
        return 1 if "fail" in self._first else 0


def _check(line: _CommandLine, console: _Console) -> int:
    timeout = _option_timeout(line.options)
    host = _checked_host(line.options.get("--host", DEFAULT_HOST))
    report, key = _Report(console), None
    with _listening(report.hear, "--verbose" in line.options):
        try:
            key = _check_key(line.options, console, report)
        except InvalidKeyError as error:
            report.add("fail", f"key: {error}")
        if "--offline" not in line.options:
            try:
                _check_surroundings(host, report)
                with Client(key, host=host, timeout=timeout) as client:
                    _check_answers(client, host, key, report)
            except (InvalidRequestError, TransportError, ApiError) as error:
                report.add("fail", f"network: {error}")
    return report.conclude()


def _check_key(
    options: Mapping[str, str], console: _Console, report: _Report
) -> ApiKey:
    from cryptography.hazmat.backends.openssl.backend import backend

    python, openssl = sys.version.split()[0], backend.openssl_version_text()
    crypto = f"cryptography {cryptography.__version__}"
    report.add("ok", f"Python {python}, {crypto}, {openssl}")
    key_text = _option_key_text(options, console)
    for warning in key_text.warnings:
        report.add("warn", warning)
    key = _parsed_into(ApiKey, key_text)
    curve = "ECDSA P-256" if key.algorithm == "ES256" else "Ed25519"
    source = f"{key_text.source}{_mode(_key_path(options))}"
    report.add("ok", f"key {key.name} from {source}: {curve} ({key.algorithm})")
    for repair in key.repairs:
        report.add("ok", f"mended, {repair}")
    for warning in key.warnings:
        report.add("warn", warning)
    problems = inspect_jwt(key.rest_jwt("GET", PERMISSIONS), key=key).problems
    if problems:
        report.add("fail", "; ".join(problems))
    else:
        report.add("ok", "it signs and verifies")
    return key


def _mode(path: str | None) -> str:
    """Return the mode of a key file, where there are modes."""
    if path and path != "-" and sys.platform != "win32":
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(os.stat(os.path.expanduser(path)).st_mode)
            return f" (mode {mode:o})"
    return ""


def _check_surroundings(host: str, report: _Report) -> None:
    """Report what decides where a call goes, and whom it trusts."""
    import socket
    import urllib.request

    proxy = urllib.request.getproxies().get("https", "")
    if urllib.request.proxy_bypass(host):
        proxy = ""
    masked = re.sub(r"(?s)\A(\w+://)?.*@", r"\1***@", proxy)  # the password
    variables = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    paths = [os.environ[each] for each in variables if os.environ.get(each)]
    authorities = " and ".join(paths) or "the system"
    report.add("ok", f"proxy: {masked or 'none'}; CAs: {authorities}")
    if missing := _missing_authorities():
        report.add("warn", missing)
    if os.environ.get("SSLKEYLOGFILE") and not sys.flags.ignore_environment:
        report.add(
            "warn",
            "SSLKEYLOGFILE is set: its readers can read what is sent; unset it",
        )
    if not proxy:
        name = host.partition(":")[0]
        with contextlib.suppress(OSError):  # the call says what is wrong
            entries = socket.getaddrinfo(name, 443)
            addresses = sorted({str(entry[4][0]) for entry in entries})
            report.add("ok", f"{name} is {', '.join(addresses[:4])}")


def _check_answers(
    client: Client, host: str, key: ApiKey | None, report: _Report
) -> None:
    started = time.time()
    try:
        answer: Response | ApiError = client.get("/api/v3/brokerage/time")
    except ApiError as error:
        answer = error
    middle = (started + time.time()) / 2
    state = "ok" if answer.status < 300 else "warn"
    report.add(state, f"{host} answers over TLS: HTTP {answer.status}")
    _check_clock(answer, middle, report)
    if key:
        _check_permissions(client, report)


def _check_clock(answer: Response | ApiError, middle: float, report: _Report) -> None:
    """Compare the clock with the server's, in milliseconds where it gives them."""
    millis = re.search(rb'"epochMillis"\s*:\s*"?([0-9]{10,16})', answer.body[:4096])
    date = _http_date(_header_text(answer.headers, "Date"))
    server = int(millis[1]) / 1000 if millis else date
    if server is None:
        report.add("warn", "clock: the server's answer has no date")
        return
    ahead = middle - server  # of this machine's clock
    digits = 3 if millis else 0
    clock = f"clock: {ahead:+.{digits}f} s from the server's"
    # Outside of this, nbf is ahead of the server's time, or exp is past.
    if not BACKDATE - LIFETIME < ahead < BACKDATE:
        report.add("fail", f"{clock}; set this machine's clock")
    elif ahead <= -30:  # that much shorter is the life of each token
        report.add("warn", clock)
    else:
        report.add("ok", clock)


def _check_permissions(client: Client, report: _Report) -> None:
    try:
        granted = _members(client.get(PERMISSIONS).json())
    except ApiError as error:
        report.add("fail", "; ".join((f"permissions: {error}", *error.hints)))
        return
    names = ("can_view", "can_trade", "can_transfer")
    allowed = ", ".join(name for name in names if granted.get(name)) or "nothing"
    portfolio = _shown(str(granted.get("portfolio_type", "?")))
    state = "ok" if granted.get("can_view") else "warn"
    report.add(state, f"the key is accepted; it may: {allowed} ({portfolio})")


# The program.


def _run(arguments: Sequence[str], program: str, console: _Console) -> int:
    if sys.stdout is None or sys.stdout.closed:
        raise CdpError("standard output is closed")
    line = _parse_arguments(arguments)
    if "--help" in line.options:
        for each in _help(line.command).format(program).splitlines():
            console.write_line(each)
        return 0
    if "--version" in line.options:
        console.write_line(f"cdp_jwt {__version__}")
        return 0
    _check_usage(line)
    if line.command == DECODE:
        return _decode(line, console)
    if line.command == CHECK:
        return _check(line, console)
    if line.command == CALL:
        _call(line, console)
    else:
        _print_token(line, console)
    return 0


def _lost_output(error: OSError, console: _Console) -> int:
    """Return the code for a standard output that cannot be written."""
    import errno

    # At exit Python would flush it again, and complain (documentation of `signal`).
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    is_windows_pipe = sys.platform == "win32" and error.errno == errno.EINVAL
    if isinstance(error, BrokenPipeError) or is_windows_pipe:
        return 141
    reason = f"standard output cannot be written: {error.strerror}"
    console.tell("error", f"{reason}{console.consequence}")
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 (it failed), 2 (called wrongly: nothing was done),
    130 (Ctrl-C) or 141 (a closed pipe).
    """
    arguments = sys.argv[1:] if argv is None else argv
    file = os.path.basename(sys.argv[0])
    name, extension = os.path.splitext(file)
    program = f"python {file}" if extension == ".py" else name
    console = _Console(name, "--verbose" in arguments)
    try:
        code = _run(arguments, program, console)
        sys.stdout.flush()
        return code
    except (_UsageError, InvalidRequestError) as error:
        if isinstance(error, _UsageError):
            for each in SYNOPSIS.format(program).splitlines():
                console.tell_line(each)
        console.tell("error", str(error))
        return 2
    except CdpError as error:
        console.tell("error", str(error))
        for hint in error.hints if isinstance(error, ApiError) else ():
            console.tell("hint", hint)
        return 1
    except KeyboardInterrupt as error:
        # By Ctrl-C; a call that may have been carried out adds that.
        reason = "; ".join(["interrupted", *map(str, error.args)])
        console.tell("error", f"{reason}{console.consequence}")
        return 130
    except OSError as error:  # each other stream and file has an error of its own
        return _lost_output(error, console)
    finally:
        console.erase_count()


if __name__ == "__main__":
    raise SystemExit(main())

# ---------------------------------------------------------- 9. licence
#
# BSD Zero Clause License (0BSD). Permission to use, copy, modify, and/or distribute
# this software for any purpose with or without fee is hereby granted.
#
# THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD
# TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN
# NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR
# CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR
# PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION,
# ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
