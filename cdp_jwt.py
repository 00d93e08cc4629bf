#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["cryptography>=3.4.8"]
# ///
# SPDX-License-Identifier: 0BSD
"""Coinbase (CDP) JWTs and calls in one file that you can read before you trust it.

Copy it into a project under any name; it needs Python >= 3.9 and `cryptography`, and
nothing else. Its sections stand in the order in which your key travels, and each calls
only what stands above it: one reading from top to bottom audits it.

Where your private key goes: from its text into `cryptography`, which signs with it. The
text comes from a file, standard input, the environment or your own call, never from the
command line, and is not kept. No message, log, repr or pickle holds a byte of it, and
making a token opens no connection.

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

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import stat
import sys
import time
from binascii import b2a_base64
from functools import lru_cache, partial, partialmethod
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Union, cast

missing = ""  # what keeps the command from signing, if anything does
try:
    import cryptography

    if [int(part) for part in cryptography.__version__.split(".")[:2]] < [3, 4]:
        raise ImportError(f"found {cryptography.__version__}")
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    ECDSA_SHA256 = ec.ECDSA(SHA256())
except ImportError as error:
    missing = (
        f"cryptography >= 3.4.8 is needed ({error}); pip install cryptography,"
        " apt install python3-cryptography or dnf install python3-cryptography"
    )
    if __name__ != "__main__":  # the command still answers --help and --version
        raise ImportError(missing) from error

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from email.message import Message
    from http.client import HTTPResponse, HTTPSConnection
    from typing import Protocol
    from urllib.request import Request

    class HookRequest(Protocol):
        method: str | None
        url: object
        headers: dict[str, str]

    PrivateKey = Union[ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey]

__version__ = "0.1.0"
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
MAX_KEY_FILE: Final = 64 * 1024  # bytes


class CdpError(Exception):
    """Base of all errors that this module raises on purpose."""


class InvalidKeyError(CdpError, ValueError):
    """The API key cannot be used; says what was found, and what to do."""


class InvalidRequestError(CdpError, ValueError):
    """A method, URL, path, host or parameter that would be misread or refused."""


class TransportError(CdpError, OSError):
    """There is no answer, or none of use; says why, and what to do."""

    unsent = False  # did it fail before the first byte of the request was sent?
    lasting = False  # would trying again be in vain?


class ApiError(CdpError):
    """An answer outside 200-299: `status`, `headers`, up to 64 KiB of the `body`.

    `hints` are what the evidence at hand says of its cause, the likeliest first.
    """

    status: int
    headers: Message
    body: bytes
    hints: tuple[str, ...]


_listener: Callable[[str, str], None] | None = None  # set by main() while it runs


def _tell(kind: str, message: str) -> None:
    """Pass a message to the command, if it runs, or else to who listens to the log."""
    if _listener:
        return _listener(kind, message)
    import logging  # not above: its import takes longer than a token

    level = logging.WARNING if kind == "warning" else logging.DEBUG
    return logging.getLogger(__name__).log(level, "%s", message)


def _escaped(text: str) -> str:
    """Return text from outside as one line that moves no terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _members(value: object) -> dict[str, object]:
    """Return the members of a JSON object, and none of anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _first_match(table: Iterable[tuple[str, str, str]], evidence: str) -> str:
    """Return "what it is; what to do" from the first row whose pattern is found."""
    rows = (row[1:] for row in table if re.search(row[0], evidence))
    return "; ".join(next(rows))


# ---------------------------------------------------------- 3. keys: text -> parsed key
#
# These functions raise freely, with key text in their frames. The public ones that call
# them let no error out but through `_without_frames`.


def _without_frames(error: InvalidKeyError, source: str = "") -> InvalidKeyError:
    """Cut off an error's frames and causes, and say whence the key came."""
    error.__cause__ = error.__context__ = None
    error.args = (f"{source}: {error}" if source else str(error),)
    return error.with_traceback(None)


P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
FORMS: Final = {  # size: its octets in hex, in groups the secret and the public part
    # ECDSA P-256, SEC1 (RFC 5915), and the same in PKCS8 (RFC 5208)
    121: "30770201010420(.{64})a00a06082a8648ce3d030107a14403420004(.{128})",
    138: "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b020101"
    "0420(.{64})a14403420004(.{128})",
    48: "302e020100300506032b657004220420(.{64})()",  # Ed25519: PKCS8 (RFC 8410)
    64: "(.{64})(.{64})",  # seed and public key, as the portal writes it
    32: "(.{64})()",  # seed alone, which nothing can prove
}


def _whole_key(octets: bytes) -> PrivateKey | None:
    """Return the key that `octets`, in one of the FORMS, hold, if it is whole.

    It is whole when its fixed octets are in place, and its public part, if its form has
    one, is that of the key derived from its secret part. Nothing is parsed, as
    `cryptography` loads damaged keys (up to 44), and not the same in each version.
    """
    found = re.fullmatch(FORMS[len(octets)], octets.hex())
    if not found:
        return None
    secret, public = (bytes.fromhex(part) for part in found.groups())
    if len(public) == 64:
        scalar = int.from_bytes(secret, "big")
        if not 0 < scalar < P256_ORDER:  # cryptography up to 42 lets some others pass
            return None
        p256_key = ec.derive_private_key(scalar, ec.SECP256R1())
        point = p256_key.public_key().public_numbers()
        return p256_key if f"{point.x:064x}{point.y:064x}" == public.hex() else None
    try:
        key = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    except UnsupportedAlgorithm:
        raise InvalidKeyError("this OpenSSL has no Ed25519; use a P-256 key") from None
    return key if public in (b"", _raw_public(key.public_key())) else None


def _raw_public(public_key: ed25519.Ed25519PublicKey) -> bytes:
    if hasattr(public_key, "public_bytes_raw"):  # from cryptography 40 on
        return public_key.public_bytes_raw()
    from cryptography.hazmat.primitives import serialization  # slow to import

    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    return public_key.public_bytes(*raw)


def _strict_base64(text: str) -> bytes:
    """Decode base64 (RFC 4648, section 4); b"" if one character is out of place."""
    with contextlib.suppress(ValueError):
        octets = base64.b64decode(text)
        if base64.b64encode(octets).decode() == text:
            return octets
    return b""


MENDS: Final = (  # what editors, shells and .env files do to a pasted value
    ("[\ufeff\u200b-\u200d\u2060]", "", "invisible characters removed"),
    (r"(\\{1,8}r)?\\{1,8}n|\\{1,8}r", "\n", r"escaped line breaks (\n) made real"),
    (r"\A(\\{0,8}[\"'`“”‘’])+|(\\{0,8}[\"'`“”‘’])+\Z", "", "quotes removed"),
)


def _mended(value: object, what: str, repairs: list[str]) -> str:
    """Return the text of a key's name or secret; add what was mended to `repairs`."""
    text = value.strip() if isinstance(value, str) else ""
    is_plain = text.isascii() and not {*text} & {*"\\\"'`"}
    for pattern, cure, repair in () if is_plain else MENDS:
        before, text = text, re.sub(pattern, cure, text).strip()
        if text != before:
            repairs.append(f"{what}: {repair}")
    if not text:
        found = "empty" if isinstance(value, str) else type(value).__name__
        raise InvalidKeyError(f"the key's {what} is {found}, not text; is it set?")
    return text


# RFC 7468; OpenSSL writes EC PARAMETERS in front of a key.
PEM: Final = r"-----BEGIN (?!EC PARAM)([A-Z0-9 ]+)-----([^-]*)-----END \1-----"


def _tidy(body: str, size: int) -> str:
    """Return the base64 of so many octets in the form in which a key is handed out."""
    if size in (64, 32):
        return body
    label = "EC PRIVATE KEY" if size == 121 else "PRIVATE KEY"
    lines = re.findall(".{1,64}", body)
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


# What people paste instead of a secret: a pattern, what it is, what to do. The pattern
# is sought in the text, followed by what its base64 holds, in hex, and its size.
PASTE: Final = "paste the private key, `privateKey` in the key file"
AGAIN: Final = "copy it again from the key file, or create a new key"
CREATE: Final = "create a CDP API key in the portal"
GIVE_PATH: Final = "give it with --key-file, CDP_KEY_FILE or ApiKey.from_file"
KINDS: Final = "Coinbase takes ECDSA P-256 or Ed25519"
MISTAKES: Final = (
    (r"PUBLIC KEY-|\A(ssh|ecdsa)-|\n(44|91) octets", "a public key", PASTE),
    ("BEGIN [A-Z ]*CERTIFICATE", "a certificate", PASTE),
    ("BEGIN OPENSSH", "an OpenSSH key", PASTE),
    ("BEGIN ENC|Proc-Type:", "an encrypted PEM", "decrypt it with openssl pkey"),
    ("(?s)(BEGIN [A-Z ]*PRIVATE KEY-.*){2}", "several keys", "leave the right one"),
    ("BEGIN RSA|06092a864886f70d0101", "a RSA key", KINDS),  # identifiers in DER
    ("06052b81040022", "a P-384 key", KINDS),
    ("06052b8104000a", "a secp256k1 key", KINDS),
    ("06092b2403030208", "a brainpool key", KINDS),
    ("06032b656e", "a X25519 key", KINDS),
    ("06032b6571", "a Ed448 key", KINDS),
    (r"\A[{\[]\s*[\"'}]", "a whole JSON key file", GIVE_PATH),
    (r"(?i)\byour[ _-]|[{<][^}>]{0,60}[}>]|\.\.\.|…|\Ax+\s", "a placeholder", PASTE),
    (r"---|\n(48|121) octets", "a key cut off, damaged or of a rare kind", AGAIN),
    (r"\n64 octets", "a damaged Ed25519 key, or a Coinbase Exchange secret", AGAIN),
    (r"\n138 octets", "a CDP wallet secret, which signs no API calls", PASTE),
    (r"(?i)\Aorganizations/|\A[0-9a-f]{8}-[0-9a-f-]{27}\s", "a key's name", PASTE),
    (r"\A[A-Za-z0-9]{32}\s", "the secret of a legacy (HMAC) API key", CREATE),
    (r"\A(~|\.\.?|[A-Za-z]:)?[/\\][^+=]*\n|\.[a-z0-9]{2,4}\n", "a path", GIVE_PATH),
    ("", "neither PEM nor base64 of 64 bytes", PASTE),
)


def _parse_secret(value: object, repairs: list[str]) -> PrivateKey:
    """Return the private key in one of the texts that `ApiKey` lists."""
    secret = _mended(value, "secret", repairs)
    blocks = re.findall(PEM, secret)
    is_pem = len(blocks) == 1 and not secret.startswith("{")
    body = "".join((blocks[0][1] if is_pem else secret).split())
    octets = _strict_base64(body)
    # A bare 138 is what a CDP wallet secret looks like.
    sizes = (121, 138, 48) if is_pem else (121, 64, 32)
    if secret != _tidy(body, len(octets)):
        repairs.append("secret: line breaks, spaces, BEGIN and END lines put right")
    if len(octets) == 32:
        repairs.append("secret: a bare seed, taken as it is: nothing can prove it")
    key = _whole_key(octets) if len(octets) in sizes else None
    if key is None:
        evidence = f"{secret}\n{octets.hex()}\n{len(octets)} octets"
        raise InvalidKeyError(f"this is {_first_match(MISTAKES, evidence)}")
    return key


def _parse_name(value: object, repairs: list[str]) -> str:
    name = _mended(value, "name", repairs)
    # A key's own name may be as long without a dash, but begins like no secret.
    if re.search(r"(?s)-----|\A(?!organizations/).*[A-Za-z0-9+/]{40}", name):
        raise InvalidKeyError("the name looks like a key: name and secret are swapped")
    is_placeholder = re.search(r"(?i)[{<]|\byour[ _-]", name)
    if is_placeholder or len(name) >= 300 or not name.isprintable():
        raise InvalidKeyError(f"the key's name is a placeholder or damaged; {AGAIN}")
    return name


NAME_FIELDS: Final = ("id", "name", "apiKeyName", "accessKey")
SECRET_FIELDS: Final = ("privateKey", "secret", "privatePemKey")


def _read(path: str, limit: int = -1) -> bytes:
    """Return up to `limit` octets of a file; of standard input, if `path` is "-"."""
    try:
        if path == "-":
            return sys.stdin.buffer.read(limit)
        with open(os.path.expanduser(path), "rb") as file:
            return file.read(limit)
    except (ValueError, AttributeError):
        raise OSError(0, "closed, or not a path") from None


def _read_key_file(path: str) -> str:
    try:
        content = _read(path, MAX_KEY_FILE + 1)
        if os.name == "posix" and os.path.isfile(path):
            mode, flags = os.stat(path).st_mode, os.statvfs(path).f_flag
            warning = f"{path}: group or others can read this key; chmod 600 it"
            if mode & 0o044 and not flags & os.ST_RDONLY:
                _tell("warning", warning)
        if 0 < len(content) <= MAX_KEY_FILE:
            return content.decode("utf-8-sig")
    except OSError as error:
        raise InvalidKeyError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        pass
    raise InvalidKeyError("not the JSON or PEM of one key, up to 64 KiB of UTF-8 text")


def _parse_key_file(text: str, name: str | None) -> tuple[str, str, list[str]]:
    """Return name, secret and IP allow-list, from JSON or from a secret by itself."""
    if not text.lstrip().startswith("{"):
        if name is None:
            raise InvalidKeyError("not JSON, so give the key's name, too (--key-name)")
        return name, text, []
    try:
        fields = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        raise InvalidKeyError(f"damaged JSON; {AGAIN}") from None
    if "passphrase" in fields:
        raise InvalidKeyError(f"this is a Coinbase Exchange key; {CREATE}")
    names = [fields[field] for field in NAME_FIELDS if fields.get(field)]
    secrets = [fields[field] for field in SECRET_FIELDS if fields.get(field)]
    if len(secrets) != 1 or not (name or names):
        raise InvalidKeyError(
            f"{len(names)} names and {len(secrets)} secrets; expected one of"
            f" {', '.join(NAME_FIELDS)} and one of {', '.join(SECRET_FIELDS)}"
        )
    if name and names and name not in names:
        raise InvalidKeyError("the name in this file is not the name given")
    # Where a file has both fields, the name may be a nickname of the id.
    best = name or max(names, key=lambda each: "/apiKeys/" in str(each))
    allowed = fields.get("allowedIps")
    listed = cast("list[str]", allowed) if isinstance(allowed, list) else []
    return best, secrets[0], listed


PAIRS: Final = (  # the variables of Coinbase's SDKs, for a key's name and its secret
    ("COINBASE_API_KEY", "COINBASE_API_SECRET"),
    ("CDP_API_KEY_ID", "CDP_API_KEY_SECRET"),
    ("CDP_API_KEY_NAME", "CDP_API_KEY_SECRET"),
)


def _find_variables(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the pair of variables that holds the key."""
    given = {name for pair in PAIRS for name in pair if environ.get(name, "").strip()}
    pairs = [pair for pair in PAIRS if given.issuperset(pair)]
    single = given.difference(*pairs)
    if single or not pairs:
        found = f"{min(single)} is set alone" if single else "no API key"
        expected = ", or ".join(" and ".join(pair) for pair in PAIRS)
        raise InvalidKeyError(
            f"{found}; set CDP_KEY_FILE (or give --key-file), or {expected}"
        )
    texts = {name: _mended(environ[name], name, []) for name in given}
    if len({(texts[name], texts[secret]) for name, secret in pairs}) > 1:
        names = ", ".join(sorted(given))
        raise InvalidKeyError(f"{names} disagree; unset those of one key")
    return pairs[0]


# ---------------------------------------------------------- 4. signing: octets -> JWS

URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def _base64url(octets: bytes) -> bytes:
    """RFC 7515, section 2: the URL-safe alphabet, no padding."""
    return b2a_base64(octets).translate(URL_SAFE, b"=\n")


def _raw_signature(der: bytes) -> bytes:
    """RFC 7518, section 3.4: r and s in 32 octets each, not the DER that OpenSSL gives.

    DER drops leading zeros, in 1 of 128 signatures, and sets one before a first bit.
    """
    r_end = 4 + der[3]  # 30 length 02 length r 02 length s (X.690, section 8)
    r, s = der[4:r_end], der[r_end + 2 :]
    return r[-32:].rjust(32, b"\0") + s[-32:].rjust(32, b"\0")


def _signer(private_key: PrivateKey) -> tuple[str, Callable[[bytes], bytes]]:
    """Return `alg` and what signs so, in one place, as they must not differ."""
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return "EdDSA", private_key.sign  # RFC 8037, section 3.1
    sign = private_key.sign
    return "ES256", lambda message: _raw_signature(sign(message, ECDSA_SHA256))


def _jws(header: str, claims: str, sign: Callable[[bytes], bytes]) -> str:
    """RFC 7515, section 7.1: the compact serialization."""
    signing_input = _base64url(header.encode()) + b"." + _base64url(claims.encode())
    signature = _base64url(sign(signing_input))
    return (signing_input + b"." + signature).decode()


# ---------------------------------------------------------- 5. tokens: request -> JWT

SAFE_METHODS: Final = ("GET", "HEAD")  # RFC 9110, section 9.2.1
METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
# One slash, then visible ASCII without # and \, which clients cut off or turn round.
PATH: Final = re.compile(r"/(?!/)[!\"$-\[\]-~]*")
LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST: Final = rf"((?:{LABEL}\.)*{LABEL})(?::([1-9][0-9]{{0,4}}))?"


def _checked_text(value: object, what: str, refused: str = "(?!)") -> str:
    """Return `value` if it is text in which `refused` finds nothing, as (?!) does."""
    if not isinstance(value, str) or not value:
        found = "empty" if value == "" else f"{type(value).__name__}, not text"
        raise InvalidRequestError(f"the {what} is {found}")
    bad = re.search(refused, value)
    if bad:
        place = f"{bad[0]!a} at position {bad.start() + 1}"
        raise InvalidRequestError(f"the {what} has {place}; remove or encode it")
    return value


def _checked_host(host: str) -> str:
    """Return `name` or `name:port` as Coinbase reads it: lower case, without :443."""
    host = _checked_text(host, "host", r"[^A-Za-z0-9.:-]").lower()
    found = re.fullmatch(HOST, host)
    if not found or len(found[1]) > 253 or int(found[2] or 0) > 65535:
        raise InvalidRequestError("the host is malformed; expected name or name:port")
    return found[1] if found[2] == "443" else host


def _request_line(method: str, url_or_path: str, host: str) -> tuple[str, str, str]:
    """Return method, host and path with query, each exactly as it will be sent."""
    if not method or _checked_text(method, "method").upper() not in METHODS:
        # No other word is shown: it may be a secret in the wrong place.
        shown = f" {method}" if re.fullmatch("[A-Za-z]{1,9}", method or "") else ""
        expected = ", ".join(METHODS)
        raise InvalidRequestError(f"unknown method{shown}; expected one of {expected}")
    path = _checked_text(url_or_path, "path")
    url = re.match("([A-Za-z]+)://([^/?#]*)", path)
    if url:
        if url[1].lower() != "https":
            raise InvalidRequestError("not an https URL; others could read the token")
        host, path = url[2], path[url.end() :]
    host = _checked_host(host)
    if not PATH.fullmatch(path):
        _checked_text(path, "path", r"[^!-~]|[#\\]")
        raise InvalidRequestError("the path does not begin with exactly one /")
    if re.match(r"(?i)[^?]*/(\.|%2e){1,2}([/?]|\Z)", path):
        raise InvalidRequestError("the path has a segment . or ..; resolve it")
    return method.upper(), host, path


def format_jwt_uri(method: str, path: str, host: str = DEFAULT_HOST) -> str:
    """Return the `uri` claim: "GET api.coinbase.com/api/v3/brokerage/accounts".

    Arguments and errors are those of `ApiKey.rest_jwt`; a query is left out.
    """
    method, host, path = _request_line(method, path, host)
    return f"{method} {host}{path.partition('?')[0]}"


@lru_cache  # requests recur, and this takes a fifth of a signature's time
def _uri_claim(method: str, url_or_path: str, host: str) -> str:
    return f',"uri":{json.dumps(format_jwt_uri(method, url_or_path, host))}'


def _seconds(value: object) -> int | None:
    """Return epoch seconds up to the year 5138; above that, they are milliseconds."""
    return value if type(value) is int and 0 <= value < 10**11 else None


def _epoch_seconds(not_before: int | datetime, now: int) -> int:
    from datetime import datetime

    if isinstance(not_before, datetime) and not_before.utcoffset() is not None:
        not_before = int(not_before.timestamp())
    if (seconds := _seconds(not_before)) is None:
        raise InvalidRequestError("not_before is no int of seconds or aware datetime")
    if seconds + LIFETIME <= now:
        raise InvalidRequestError("not_before: such a token would have expired already")
    return seconds


class ApiKey:
    """A CDP API key, parsed and proven. It cannot be changed and is never pickled.

    `algorithm` is "ES256" (ECDSA P-256, RFC 7518) or "EdDSA" (Ed25519, RFC 8037);
    `repairs` says what was mended in the texts of name and secret; `allowed_ips`, the
    key file's IP allow-list, is kept to explain refusals.
    """

    __slots__ = ("_claims_start", "_header_start", "_private_key", "_sign",
                 "algorithm", "allowed_ips", "name", "repairs")  # fmt: skip

    def __init__(self, name: str, secret: str, allowed_ips: Iterable[str] = ()) -> None:
        """Parse a key's name and secret; InvalidKeyError says why they are none.

        The secret is PEM, "EC PRIVATE KEY" (SEC1) or "PRIVATE KEY" (PKCS8), with line
        breaks that are real, escaped or lost; or base64 of 64 bytes (Ed25519 seed and
        public key), of 32 (the seed alone) or of 121 (SEC1 without its PEM lines).
        """
        repairs: list[str] = []
        try:
            self.name = _parse_name(name, repairs)
            self._private_key = _parse_secret(secret, repairs)
        except InvalidKeyError as error:
            raise _without_frames(error) from None
        self.algorithm, self._sign = _signer(self._private_key)
        self.repairs = tuple(repairs)
        self.allowed_ips = tuple(map(str, allowed_ips))
        kid = json.dumps(self.name)
        self._header_start = f'{{"alg":"{self.algorithm}","typ":"JWT","kid":{kid}'
        self._claims_start = f'{{"sub":{kid},"iss":"cdp"'

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], name: str | None = None) -> ApiKey:
        """Read a key file: JSON, or a secret by itself whose `name` is given.

        `-` is standard input. A file that group or others can read gets a warning, one
        that cannot be read, or holds no key that can be used, an InvalidKeyError.
        """
        path = os.path.expanduser(os.fsdecode(path or ""))
        try:
            return cls(*_parse_key_file(_read_key_file(path), name))
        except InvalidKeyError as error:
            # What names no file may be a key in the wrong place: it is not shown.
            is_path = os.path.exists(path) or re.fullmatch(r"[^\n]*\.\w{2,4}", path)
            shown = path if is_path else "the key file (--key-file, CDP_KEY_FILE)"
            raise _without_frames(error, shown) from None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> ApiKey:
        """Read the key of `environ` (os.environ): CDP_KEY_FILE, else COINBASE_API_KEY
        and _SECRET, or CDP_API_KEY_ID (or _NAME) and CDP_API_KEY_SECRET.

        Raises InvalidKeyError if none is set, a pair is half set, or two differ.
        """
        environ = os.environ if environ is None else environ
        if environ.get("CDP_KEY_FILE"):
            return cls.from_file(environ["CDP_KEY_FILE"])
        variables: tuple[str, ...] = ()
        try:
            variables = _find_variables(environ)
            return cls(*(environ[name] for name in variables))
        except InvalidKeyError as error:
            raise _without_frames(error, " and ".join(variables)) from None

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
        try:
            uri_claim = _uri_claim(method, url_or_path, host)
        except TypeError:  # not hashable, and so no text: what is it?
            uri_claim = _uri_claim.__wrapped__(method, url_or_path, host)
        return self._issue(uri_claim, not_before)

    def ws_jwt(self, *, not_before: int | datetime | None = None) -> str:
        """Return a token for one WebSocket message; `not_before` as in `rest_jwt`."""
        return self._issue("", not_before)

    def _issue(
        self, uri_claim: str, not_before: int | datetime | None, clock_offset: int = 0
    ) -> str:
        """Make a token; only here are clock and random source read, once each."""
        now, nonce = int(time.time()) + clock_offset, os.urandom(32).hex()
        nbf = now - BACKDATE if not_before is None else _epoch_seconds(not_before, now)
        times = f'"nbf":{nbf},"exp":{nbf + LIFETIME}'
        return _jws(
            f'{self._header_start},"nonce":"{nonce}"}}',
            f"{self._claims_start},{times}{uri_claim}}}",
            self._sign,
        )

    def __call__(self, request: HookRequest) -> HookRequest:
        """Sign one request of requests or httpx: `requests.get(url, auth=key)`.

        Raises InvalidRequestError if the URL is not https:, or cannot be signed.
        """
        url = str(request.url).partition("#")[0]
        token = self.rest_jwt(request.method or "", url)
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    def __repr__(self) -> str:
        name, algorithm = getattr(self, "name", None), getattr(self, "algorithm", None)
        return f"ApiKey(name={name!r}, algorithm={algorithm!r})"

    def __delattr__(self, attribute: str) -> NoReturn:
        raise AttributeError("an ApiKey cannot be changed; make a new one")

    def __setattr__(self, attribute: str, value: object) -> None:
        if hasattr(self, attribute):  # each is set once, by __init__
            delattr(self, attribute)
        object.__setattr__(self, attribute, value)

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("an ApiKey is not pickled: its private key stays here")


def ws_message(
    channel: str,
    product_ids: Iterable[str] = (),
    *,
    key: ApiKey | None = None,
    type: str = "subscribe",
) -> str:
    """Return a WebSocket message as JSON text, with a token if there is a `key`.

    The channels "user" and "futures_balance_summary" need one, others take one for
    higher limits. `product_ids` are such as ["BTC-USD"]; `type` is "subscribe" or
    "unsubscribe". InvalidRequestError says what is wrong with an argument.
    """
    if type not in ("subscribe", "unsubscribe"):
        raise InvalidRequestError("type is neither 'subscribe' nor 'unsubscribe'")
    if isinstance(product_ids, str):
        raise InvalidRequestError("product_ids is a text; expected a list of texts")
    refused = "[^A-Za-z0-9_.-]"
    _checked_text(channel, "channel", refused)
    products = [_checked_text(each, "product", refused) for each in product_ids]
    if key is None and channel in ("user", "futures_balance_summary"):
        raise InvalidRequestError(f"the channel {channel} needs a key")
    message = {"type": type, "channel": channel, "product_ids": products}
    return json.dumps({**message, "jwt": key.ws_jwt()} if key else message)


# Drop-in for coinbase.jwt_generator of Coinbase's SDK. Its callers hand over the key's
# text for each token, so the last few keys are remembered, by a hash, and parsed once.
_remembered: dict[bytes, ApiKey] = {}


def _remembered_key(name: str, secret: str) -> ApiKey:
    import hashlib  # not above: the command does without it

    try:
        mark = hashlib.sha256(ascii((name, secret)).encode()).digest()
        if mark not in _remembered and len(_remembered) >= 8:
            _remembered.clear()
        key = _remembered[mark] = _remembered.get(mark) or ApiKey(name, secret)
        return key
    finally:
        del name, secret  # this frame is in the traceback of a refusal


@lru_cache  # as its callers pass the same ones, too
def _claim_of(uri: str) -> str:
    """Return the claim for a `uri` that the caller made, if it is the right one."""
    method, _, rest = uri.partition(" ")
    url = re.sub(r"\A([A-Za-z]+://)?(?!/)", "https://", rest)
    right = format_jwt_uri(method, url)
    if uri != right:
        raise InvalidRequestError(f"this uri would earn a 401; use {right!r}")
    return _uri_claim(method, url, DEFAULT_HOST)


def build_ws_jwt(key_var: str, secret_var: str) -> str:
    """Return a token for one WebSocket message; arguments and errors as in `ApiKey`."""
    return _remembered_key(key_var, secret_var).ws_jwt()


def build_rest_jwt(uri: str, key_var: str, secret_var: str) -> str:
    """Return a token for one REST request; `uri` is what `format_jwt_uri` returns.

    InvalidRequestError shows the right uri; InvalidKeyError is as in `ApiKey`.
    """
    uri_claim = _claim_of(_checked_text(uri, "uri", r"\n"))
    return _remembered_key(key_var, secret_var)._issue(uri_claim, None)


# ---------------------------------------------------------- 6. reasons: JWT -> problems


class Inspection(NamedTuple):
    """What is in a token; `problems` are what Coinbase would refuse it for."""

    header: dict[str, object]
    claims: dict[str, object]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    seconds_left: int | None  # until `exp`; negative when that is past, None without it


def _octets(text: str, what: str, problems: list[str]) -> bytes:
    """Decode leniently, and say what is not base64url (RFC 7515, section 2)."""
    wrong = re.search("[^A-Za-z0-9_-]", text)
    if wrong:
        found = f"the {what} has {wrong[0]!a}"
        problems.append(f"{found}; expected base64url, without padding")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "==")
    except ValueError:
        problems.append(f"the {what} is not base64url")
        return b""


def _json_object(text: str, what: str, problems: list[str]) -> dict[str, object]:
    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) < len(pairs):
            problems.append(f"the {what} has a member twice")
        return dict(pairs)

    octets, found = _octets(text, what, problems), None
    if octets.count(b"[") + octets.count(b"{") < 50:  # or the stack might end
        with contextlib.suppress(ValueError):
            text = octets.decode()  # UTF-8, and int takes no NaN
            found = json.loads(text, object_pairs_hook=members, parse_constant=int)
    if not _members(found):
        problems.append(f"the {what} is no JSON object, or an empty one")
    return _members(found)


def _member_problems(
    header: dict[str, object], claims: dict[str, object], key: ApiKey | None, now: float
) -> Iterator[str]:
    kid, nonce, sub = header.get("kid"), header.get("nonce"), claims.get("sub")
    nbf, exp = _seconds(claims.get("nbf")), _seconds(claims.get("exp"))
    fitting = (key.algorithm,) if key else ("ES256", "EdDSA")
    epoch = "an integer: epoch seconds, not milliseconds"
    for members, name, fits, expected in (
        (header, "alg", header.get("alg") in fitting, " or ".join(fitting)),
        (header, "nonce", nonce and isinstance(nonce, str), "text"),
        (header, "kid", kid and isinstance(kid, str), "text"),
        (claims, "sub", sub and isinstance(sub, str), "text"),
        (claims, "iss", claims.get("iss") == "cdp", "'cdp'"),
        (claims, "aud", "aud" not in claims, "none"),
        (claims, "nbf", nbf is not None, epoch),
        (claims, "exp", exp is not None, epoch),
    ):
        if not fits:
            found = f"{members[name]!a:.30}" if name in members else "missing"
            yield f"{name} is {found}; expected {expected}"
    if kid and sub and kid != sub:
        yield "kid and sub differ; both are the key's name"
    if key and kid and kid != key.name:
        yield "kid is not the name of the key at hand"
    if nbf is not None and nbf > now:
        ahead = f"nbf is {int(nbf - now)} s ahead"
        yield f"not valid yet: {ahead}; is it for later, or was its clock ahead?"
    if exp is not None and exp <= now:
        yield f"expired {int(now - exp)} s ago"
    if nbf is not None and exp is not None and not 0 < exp - nbf <= LIFETIME:
        yield f"exp is {exp - nbf} s after nbf; expected 1 to {LIFETIME}"


def _uri_problems(uri: object) -> list[str]:
    if not isinstance(uri, str):
        return [f"uri is {type(uri).__name__}, not text"]
    method, separator, rest = uri.partition(" ")
    rules = (
        (not separator, "uri has no method: expected `GET api.coinbase.com/...`"),
        (separator and method != method.upper(), "the method in uri is in lower case"),
        ("://" in rest, "uri has a scheme; it starts with the host"),
        (rest.startswith("/"), "uri has no host before its path"),
        ("?" in rest, "uri has a query; it ends with the path"),
        ("#" in rest, "uri has a fragment; it ends with the path"),
    )
    problems = [problem for is_wrong, problem in rules if is_wrong]
    if problems:
        return problems
    try:
        right = format_jwt_uri(method, f"https://{rest}")
    except InvalidRequestError as error:
        return [f"uri: {error}"]
    return [] if uri == right else [f"uri is not as Coinbase reads it: {right}"]


def _signature_problems(
    signing_input: bytes, signature: bytes, key: ApiKey | None
) -> Iterator[str]:
    if len(signature) != 64:
        is_der = signature.hex().startswith(f"30{len(signature) - 2:02x}02")
        found = "is DER" if is_der else f"has {len(signature)} bytes"
        yield f"the signature {found}; expected r and s, 32 bytes each"
    elif key:  # whatever `alg` says
        public_key = key._private_key.public_key()
        try:
            if isinstance(public_key, ed25519.Ed25519PublicKey):
                public_key.verify(signature, signing_input)
            else:
                halves = (signature[:32], signature[32:])
                der = encode_dss_signature(*(int.from_bytes(h, "big") for h in halves))
                public_key.verify(der, signing_input, ECDSA_SHA256)
        except InvalidSignature:
            yield f"not signed by the key {key.name}"


def inspect_jwt(
    token: str, *, key: ApiKey | None = None, now: float | None = None
) -> Inspection:
    """Say what is in a JWT, of this module or another, and what is wrong with it.

    Args:
        token: with or without `Bearer` or `Authorization: Bearer` in front.
        key: verifies the signature.
        now: epoch seconds; by default the clock's.

    Raises:
        InvalidRequestError: `token` is not text, or empty.
    """
    text = _checked_text(token, "token").strip().strip("\"'")
    text = re.sub(r"(?i)\A(authorization:)?\s*(bearer\s+)?", "", text)
    now = time.time() if now is None else now
    problems: list[str] = []
    parts = text.split(".")
    if len(parts) != 3:
        problems.append(f"{len(parts)} parts; expected 3: header.claims.signature")
    parts += ["", ""]
    header = _json_object(parts[0], "header", problems)
    claims = _json_object(parts[1], "claims", problems)
    signature = _octets(parts[2], "signature", problems)
    problems += _member_problems(header, claims, key, now)
    problems += _uri_problems(claims["uri"]) if "uri" in claims else ()
    signing_input = text.rpartition(".")[0].encode("ascii", "replace")
    problems += _signature_problems(signing_input, signature, key)
    notes: list[str] = []
    if "uris" in claims:
        notes.append("uris instead of uri is for other CDP APIs than Advanced Trade")
    elif "uri" not in claims:
        notes.append("without uri, this is a token for a WebSocket")
    exp = _seconds(claims.get("exp"))
    left = None if exp is None else int(exp - now)
    return Inspection(header, claims, tuple(problems), tuple(notes), left)


# ---------------------------------------------------------- 7. calls: JWT -> response


class Response:
    """An answer: `status` (int), `headers` (names in any case) and `body` (bytes)."""

    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> object:
        """Return the body as JSON; raise TransportError if it is something else."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            pass  # raised below, where no cause that quotes the body hangs on it
        raise TransportError(f"this answer (HTTP {self.status}) is not JSON; see body")

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


def _left(deadline: float) -> float:
    """Return the seconds until `deadline`, a time of the monotonic clock."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(deadline: float, address: tuple[str, int], *_: object) -> socket.socket:
    """Connect; unlike http.client's, all addresses of a name share the time left."""
    import socket

    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    while True:
        share = _left(deadline) / len(found)
        target = (str(found.pop(0)[4][0]), address[1])
        try:
            connected = socket.create_connection(target, share)
        except OSError:
            if not found:
                raise
        else:
            connected.settimeout(_left(deadline))  # for the TLS handshake
            return connected


def _answer(
    deadline: float, ends: list[bool], sock: socket.socket, method: str | None = None
) -> HTTPResponse:
    """Return an answer whose parts, unlike http.client's, share the time left.

    `ends` gets an item when the server has said its last.
    """
    import http.client

    sock.settimeout(_left(deadline))
    answer = http.client.HTTPResponse(sock, method=method)
    stream = answer.fp.raw
    read_into = stream.readinto

    def timed_read_into(buffer: memoryview) -> int | None:
        count = read_into(buffer)
        if not count:
            ends.append(True)
        sock.settimeout(_left(deadline))  # of the next read, or TLS behind a proxy
        return count

    vars(stream)["readinto"] = timed_read_into  # which is what answer.fp calls
    return answer


UNKNOWN_OUTCOME: Final = (
    "; it may have been carried out and was not sent again: look for it first, an order"
    " by its client_order_id"
)
PRIVATE_CA: Final = "for a private CA set SSL_CERT_FILE or ssl_context"
CHECK_PLACE: Final = "check host and proxy"
RFC_5280: Final = "Verif.*(Key Identifier|[Cc]onstraints|[Uu]sage|CA cert|critical)"
FAILURES: Final = (  # pattern of an exception's types and text, what failed, remedy
    ("Verif.*expired", "its certificate has expired", "check the clock"),
    ("Verif.*not yet valid", "its certificate is not valid yet", "check the clock"),
    ("Verif.*mismatch", "its certificate is for another host", CHECK_PLACE),
    (RFC_5280, "its CA breaks RFC 5280: Python >= 3.13 refuses it", "reissue the CA"),
    ("Verif.*(issuer|self.signed)", "its certificate is of an unknown CA", PRIVATE_CA),
    ("Verif", "its certificate was refused", CHECK_PLACE),
    ("InvalidURL", "urllib cannot use this HTTPS_PROXY", "expected http://host:port"),
    ("gaierror", "its name was not found", "check host, DNS and HTTPS_PROXY"),
    ("Tunnel.* 407", "the proxy asks for a password", "put it in HTTPS_PROXY"),
    ("Tunnel", "the proxy refused to connect", "check HTTPS_PROXY and NO_PROXY"),
    ("Refused", "it refused the connection", "check host, firewall, HTTPS_PROXY"),
    ("Compressed", "its answer is compressed, which was not asked for", CHECK_PLACE),
    ("Oversized", "its answer is over max_body", "raise max_body"),
    ("[Tt]ime", "it took longer than the timeout", "try again, or raise the timeout"),
    ("Connection|BrokenPipe|EOF|Incomplete", "it closed the connection", "try again"),
    ("SSL", "TLS failed", "is it a server for TLS 1.2 or later?"),
    ("HTTPException|ValueError", "its answer is not HTTP", CHECK_PLACE),
    ("", "the connection failed", "check network, host and proxy"),
)


def _transport_error(caught: Exception, host: str) -> TransportError:
    evidence = f"{' '.join(each.__name__ for each in type(caught).__mro__)} {caught}"
    error = TransportError(f"{host}: {_first_match(FAILURES, evidence)}")
    error.lasting = bool(re.search("Verif|Tunnel|InvalidURL", evidence))
    return error


def _epoch(text: str | None) -> float | None:
    """Return the epoch seconds of an HTTP date (RFC 9110, section 5.6.7)."""
    from email.utils import mktime_tz, parsedate_tz

    try:
        date = parsedate_tz(text or "")
        return float(mktime_tz(date)) if date else None
    except (IndexError, ValueError, OverflowError):
        return None


KEY_NAME: Final = "organizations/[^/]+/apiKeys/[^/]+|[0-9a-fA-F-]{36}"  # or a UUID


def _hints(
    response: Response, line: tuple[str, str, str], key: ApiKey | None, is_late: bool
) -> Iterator[str]:
    """Say what a refusal's evidence shows; what it does not show is called possible."""
    (_, host, path), status, headers = line, response.status, response.headers
    known_path = re.match(r"/(api/v3/brokerage|v2)(/|\?|\Z)", path)
    if is_late:
        yield "by the server's clock this token was not valid; set this machine's clock"
    if status in (401, 404) and host == DEFAULT_HOST and not known_path:
        yield "the path is under neither /api/v3/brokerage nor /v2"
    if status == 401 and not key:
        yield "no token was sent, as no key was given"
    if status == 401 and key and not re.fullmatch(KEY_NAME, key.name):
        yield "the key's name is neither organizations/.../apiKeys/... nor a UUID"
    if status in (401, 403) and b"required scopes" in response.body:
        yield "the key lacks a permission for this; `check` lists those that it has"
    elif status in (401, 403) and key:
        if key.allowed_ips:
            listed = ", ".join(key.allowed_ips)
            yield f"possible: this machine's address is none that it allows: {listed}"
        yield "possible: the key was deleted, or lacks a permission; try `check`"
    if status == 429:
        names = [f"x-ratelimit-{each}" for each in ("limit", "remaining", "reset")]
        told = ", ".join(f"{name} {headers[name]}" for name in names if name in headers)
        yield f"the rate limit is used up{told and ': '}{told}"


def _api_error(response: Response, hints: Iterable[str]) -> ApiError:
    """Return an error with the server's own message, in whichever shape it has."""
    said: dict[str, object] = {}  # by all objects, however nested; the outer ones win
    body = response.body[: 64 * 1024]
    text = body.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(response.body, object_pairs_hook=said.update)
        fields = ("message", "error_details", "error", "id")
        text = next((str(said[field]) for field in fields if said.get(field)), text)
    if response.status // 100 == 3:
        host = re.match(r"(?:\w+:)?//([\w.:-]+)", response.headers.get("Location", ""))
        text = f"a redirect to {host[1] if host else 'the same host'}, not followed"
    text = re.sub(r"eyJ[\w-]+\.[\w.-]+", "...", text)  # a token that was echoed
    text = _escaped(text[:300].strip()) or "no message"
    error = ApiError(f"HTTP {response.status}: {text}")
    error.status, error.headers = response.status, response.headers
    error.body, error.hints = body, tuple(hints)
    return error


def _wait(response: Response, default: float) -> float:
    """Return the seconds of `Retry-After` (RFC 9110, section 10.2.3)."""
    text = response.headers.get("Retry-After", "")
    if re.fullmatch("[0-9]{1,6}", text):
        return float(text)
    date = _epoch(text)
    return default if date is None else max(0.0, date - time.time())


def _with_query(url_or_path: str, params: Mapping[str, object]) -> str:
    from urllib.parse import quote, urlencode

    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        is_list = isinstance(value, (list, tuple))
        values = cast("list[object]", value) if is_list else [value]
        for each in values:
            if each is not None:
                text = str(each)
                pairs.append((name, text.lower() if isinstance(each, bool) else text))
    query = urlencode(pairs, quote_via=quote, errors="surrogatepass")
    separator = "&" if "?" in str(url_or_path) else "?"
    return f"{url_or_path}{separator}{query}" if query else url_or_path


def _json_body(value: object, method: str) -> bytes | None:
    if value is not None and method in SAFE_METHODS:
        raise InvalidRequestError(f"{method} takes no body; use params")
    if value is None or isinstance(value, bytes):
        return value
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequestError("the body holds what JSON has no word for") from None


MAX_AHEAD: Final = 7 * 86400  # seconds; no server gets a token for next year
MAX_IDLE: Final = 30.0  # seconds; after that a proxy may have dropped the connection


class Client:
    """Authenticated calls over connections that are kept; threads may share one.

    Args:
        key: signs each request; None for public endpoints.
        host: where paths go; a URL goes to its own host.
        timeout: seconds for a whole call: connecting, sending, waiting, trying again;
            only the lookup of the name, by the operating system, is not interrupted.
        retries: how often a call is tried again. GET and HEAD are after connection
            errors, 429, 500, 502, 503 and 504; others after 429, or if nothing was
            sent. (A 401 that the clock explains is signed again once, in any case.)
        max_body: bytes of an answer, at most.
        ssl_context: for a private CA; else the system's CAs, or those of SSL_CERT_FILE.
    """

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
        import ssl
        import urllib.request

        try:
            context = ssl_context or ssl.create_default_context()
        except OSError as error:
            reason = f"{error.strerror}; check SSLKEYLOGFILE and SSL_CERT_FILE"
            raise TransportError(f"TLS cannot be set up: {reason}") from None
        if context.verify_mode != ssl.CERT_REQUIRED or not context.check_hostname:
            raise InvalidRequestError("ssl_context does not verify the server; it must")
        if not 0 < timeout < 1e6 or retries < 0 or max_body < 0:
            raise InvalidRequestError("timeout, retries or max_body is out of range")
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
        self._key, self._host, self._timeout = key, _checked_host(host), timeout
        self._retries, self._max_body, self._context = retries, max_body, context
        self._clock_offsets: dict[str, int] = {}  # seconds ahead, learned from a 401
        # By process, as a fork's child must not use its parent's, and by host.
        self._idle: dict[tuple[int, str], list[tuple[float, HTTPSConnection]]] = {}
        # By hand: it follows no redirect, speaks https: alone, and is no one else's.
        self._opener = urllib.request.OpenerDirector()
        proxies = urllib.request.getproxies()
        if not re.fullmatch("(?i)http://[^/]*/?|[^/]*", proxies.get("https", "")):
            # urllib would quote it, with its password; of this it makes an InvalidURL.
            proxies["https"] = "not http://host:port"
        self._opener.add_handler(urllib.request.ProxyHandler(proxies))
        handler = urllib.request.BaseHandler()
        vars(handler)["https_open"] = self._exchange
        self._opener.add_handler(handler)

    def request(
        self,
        method: str,
        url_or_path: str,
        *,
        params: Mapping[str, object] | None = None,
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
        url_or_path = _with_query(url_or_path, params or {})
        line = _request_line(method, url_or_path, self._host)
        return self._deliver(line, _json_body(json, line[0]))

    def _deliver(self, line: tuple[str, str, str], body: bytes | None) -> Response:
        """Try until there is an answer, or no use in trying again."""
        safe, deadline = line[0] in SAFE_METHODS, time.monotonic() + self._timeout
        tries, clock_was_learned = 0, False
        while True:
            wait = 0.25 * 2**tries  # seconds
            try:
                response, clock_differs = self._send(line, body, deadline)
            except TransportError as error:
                failure: TransportError | ApiError = error
                again = (safe or error.unsent) and not error.lasting
                unknown = not error.unsent
            else:
                if response.status < 300:
                    return response
                if clock_differs and not clock_was_learned:
                    clock_was_learned = True
                    continue
                hints = _hints(response, line, self._key, clock_differs)
                failure, wait = _api_error(response, hints), _wait(response, wait)
                status = response.status
                again = status == 429 or (safe and status in (500, 502, 503, 504))
                unknown = status >= 500
            if unknown and not safe:
                what = str(failure).partition("; try again")[0]
                failure.args = (f"{what}{UNKNOWN_OUTCOME}",)
            too_late = time.monotonic() + wait > deadline
            if not again or tries == self._retries or too_late:
                raise failure.with_traceback(None)  # the token is in those frames
            tries += 1
            _tell("note", f"{failure}; trying again in {wait:g} s")
            time.sleep(wait)

    get, post = partialmethod(request, "GET"), partialmethod(request, "POST")
    put, delete = partialmethod(request, "PUT"), partialmethod(request, "DELETE")

    def _send(
        self, line: tuple[str, str, str], body: bytes | None, deadline: float
    ) -> tuple[Response, bool]:
        """Try once; return the answer, and whether it shows that the clocks differ."""
        import urllib.request

        method, host, path = line
        url, token, signed = f"https://{host}{path}", "", "no token"
        headers = {"Accept": "application/json", "User-Agent": f"cdp_jwt/{__version__}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            offset = self._clock_offsets.get(host, 0)
            token = self._key._issue(_uri_claim(method, path, host), None, offset)
            headers["Authorization"] = f"Bearer {token}"
            signed = "Authorization: Bearer ..."
        _tell("note", f"{method} {url} with {signed}, {len(body or b'')} bytes")
        # urllib chooses the proxy, and calls `_exchange`.
        request = urllib.request.Request(url, body, headers, method=method)
        timeout = deadline - time.monotonic()
        response: Response = self._opener.open(request, timeout=timeout)
        _tell("note", f"HTTP {response.status}, {len(response.body)} bytes")
        return response, self._learn_clock(host, response, token)

    def _exchange(self, request: Request) -> Response:
        """Send a request over a connection, and read the whole answer."""
        import http.client

        deadline = time.monotonic() + (request.timeout or 0)
        headers = dict(request.header_items())
        password = headers.pop("Proxy-authorization", "")  # for the proxy alone
        host = getattr(request, "_tunnel_host", None) or request.host
        unsent, connection, ends = True, None, list[bool]()
        try:
            connection = self._connection(host, request.host)
            vars(connection).update(
                _create_connection=partial(_connect, deadline),
                response_class=partial(_answer, deadline, ends),
            )
            if not connection.sock:
                if host != request.host:
                    options = {"Proxy-Authorization": password} if password else {}
                    connection.set_tunnel(host, headers=options)
                connection.connect()
            connection.sock.settimeout(_left(deadline))
            unsent = False
            method, path = request.get_method(), request.selector
            connection.request(method, path, request.data, headers)
            with connection.getresponse() as answer:
                if ends:  # http.client takes half of the headers for all of them
                    raise ConnectionResetError
                response = self._read(answer)
            if not answer.will_close:
                idle = self._idle.setdefault((os.getpid(), host), [])
                idle.append((time.monotonic(), connection))
            return response
        except (OSError, ValueError, http.client.HTTPException) as error:
            failure = _transport_error(error, host)
            failure.unsent = unsent
        if connection:
            connection.close()
        raise failure

    def _connection(self, host: str, address: str) -> HTTPSConnection:
        """Return the connection used last, if it is fresh and silent, or a new one."""
        import http.client
        import ssl

        with contextlib.suppress(KeyError, IndexError):
            since, connection = self._idle[os.getpid(), host].pop()
            try:
                connection.sock.settimeout(0)
                connection.sock.recv(1)  # b"", if the server has left
            except ssl.SSLWantReadError:
                if time.monotonic() - since < MAX_IDLE:
                    return connection
            except OSError:
                pass
            connection.close()
        connection = http.client.HTTPSConnection(address, context=self._context)
        connection.set_debuglevel(0)  # other code may have set it, to print all
        return connection

    def _read(self, answer: HTTPResponse) -> Response:
        if answer.status < 200:
            raise ValueError("an interim answer")
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ValueError("Compressed")
        body = bytearray()  # in pieces: 3.9 would set aside all that is asked for
        while piece := answer.read(min(65536, self._max_body + 1 - len(body))):
            body += piece
        if len(body) > self._max_body:
            raise ValueError("Oversized")
        if answer.length:  # http.client is silent about a body that ends early
            raise ConnectionError
        return Response(answer.status, answer.headers, bytes(body))

    def _learn_clock(self, host: str, response: Response, token: str) -> bool:
        """After a 401: was the token not valid by the host's time? If so, adopt it."""
        if response.status != 401 or not token:
            return False
        server = _epoch(response.headers.get("Date"))
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        if server is None or claims["nbf"] <= server < claims["exp"]:
            return False
        ahead = int(server - time.time())
        if ahead < MAX_AHEAD:
            self._clock_offsets[host] = ahead
            difference = f"{-ahead:+d} s from the server's"
            _tell("warning", f"this clock is {difference}; the server's is used")
        return True

    def pages(
        self, path: str, params: Mapping[str, object] | None = None
    ) -> Iterator[Response]:
        """Yield the pages of a list, by `cursor` or `next_uri`, one at a time.

        The message of an error in between says where to go on.
        """
        host = _request_line("GET", path, self._host)[1]
        query, seen, place = dict(params or {}), {""}, ""
        while True:
            try:
                response = self.get(path, params=query)
                page = _members(response.json())
            except CdpError as error:
                error.args = (f"{error}; to go on: {place}" if place else str(error),)
                raise
            yield response
            linked = _members(page.get("pagination")).get("next_uri")
            cursor = None if page.get("has_next") is False else page.get("cursor")
            if linked:
                if not PATH.fullmatch(str(linked)):
                    raise TransportError("next_uri is not a path on the same host")
                place, path, query = str(linked), f"https://{host}{linked}", {}
            else:
                place, query["cursor"] = f"cursor={cursor}" if cursor else "", cursor
                # A list that goes on from a cursor in its path would have two.
                path = re.sub(r"[?&]cursor=[^&]*$|(?<=[?&])cursor=[^&]*&", "", path)
            if place in seen:
                break
            seen.add(place)
        if place or page.get("has_next") is True:
            _tell("warning", "the list has no new cursor, and may be incomplete")

    def close(self) -> None:
        """Close the connections that are not in use; the next call opens new ones."""
        for place in [*self._idle]:
            for _, connection in self._idle.pop(place, []):
                connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---------------------------------------------------------- 8. command line
#
# Standard output carries data alone; what is for a person goes to standard error. It
# repeats no unknown word of the command line, which may be a secret gone astray.

SYNOPSIS: Final = """\
usage: {0} METHOD PATH [--export | --header | --call]
       {0} ws [CHANNEL [PRODUCT ...]] | decode [TOKEN] | check
Print a token for one Coinbase request, or send it; --help says more.
"""
HELP: Final = """
PATH may be a whole https URL. `decode` says what is in a token and wrong with
it, `check [--offline]` whether key, clock, network and permissions are right.
  --export, --header  print: export JWT='...', or for curl -H @- a whole header
  --call              send the request and print the answer's body; with it:
    --data JSON         the body; @FILE and - (standard input) read it
    --param NAME=VALUE  a parameter for the query; may be repeated
    --paginate          follow the list to its end, one page of JSON a line
    --include           print status and headers, too
    --timeout SECONDS   for the whole call (10)
    --no-auth           send no token, for public endpoints
  --key-file FILE     the portal's, or PEM with --key-name; - is standard input
  --key-name NAME     the key's name, where the file holds the secret alone
  --host HOST         name or name:port instead of api.coinbase.com
  --not-before TIME   when its validity begins: +SECONDS, 2026-11-22T15:00:00Z
  --verbose, --version, --help
Without --key-file the key comes from CDP_KEY_FILE, COINBASE_API_KEY and
COINBASE_API_SECRET, or CDP_API_KEY_ID and CDP_API_KEY_SECRET.
  $ export CDP_KEY_FILE=cdp_api_key.json
  $ {0} GET /api/v3/brokerage/accounts --call --paginate
"""
FITTING: Final = {  # the options of each kind of command; those with = have a value
    "every command": "key-file= key-name= verbose version help",
    "METHOD PATH without --call": "export header not-before= host=",
    "--call": "call data= param= include paginate timeout= no-auth host=",
    "ws": "export header not-before=",
    "ws CHANNEL": "",
    "decode": "",
    "check": "offline host= timeout=",
}


class _UsageError(CdpError):
    """The command line cannot be understood."""


def _parse_arguments(
    arguments: Sequence[str],
) -> tuple[list[str], dict[str, str], list[str]]:
    """Return words, options (a flag's value is "") and the parameters of --param."""
    import getopt

    forms = {*" ".join(FITTING.values()).split()}
    try:
        found, words = getopt.gnu_getopt([*arguments], "h", forms)
    except getopt.GetoptError as error:
        is_known = {error.opt, f"{error.opt}="} & forms
        raise _UsageError(error.msg if is_known else "unknown option") from None
    whole = {argument.partition("=")[0] for argument in arguments}
    if not whole.issuperset(option for option, _ in found):
        raise _UsageError("unknown option")  # getopt would complete --cal
    params = [text for option, text in found if option == "--param"]
    return words, dict(found), params


def _check_usage(words: list[str], options: Mapping[str, str]) -> None:
    """Refuse what is no command, and options that would have no effect."""
    command, *rest = words or [""]
    if command.upper() in METHODS and len(rest) == 1:
        kind = "--call" if "--call" in options else "METHOD PATH without --call"
    elif command == "ws" and rest:
        kind = "ws CHANNEL"
    elif len(rest) <= {"ws": 0, "decode": 1, "check": 0}.get(command, -1):
        kind = command
    elif command.upper() in METHODS or command in FITTING:
        raise _UsageError("METHOD takes one PATH, decode one TOKEN, check no word")
    else:
        raise _UsageError("unknown command or method")
    fitting = f"{FITTING['every command']} {FITTING[kind]}".replace("=", "").split()
    for option in options:
        if option[2:] not in fitting:
            raise _UsageError(f"{option} does not go with {kind}")
    if "--export" in options and "--header" in options:
        raise _UsageError("--export and --header exclude each other")
    inputs = [_key_path(options), options.get("--data", "").replace("@-", "-")]
    if kind == "decode":
        inputs += rest or ["-"]
    if inputs.count("-") > 1:
        raise _UsageError("standard input is one thing: a key file, data or a token")


def _key_path(options: Mapping[str, str]) -> str | None:
    return options.get("--key-file", os.environ.get("CDP_KEY_FILE") or None)


def _option_key(options: Mapping[str, str]) -> ApiKey:
    path = _key_path(options)
    if path is not None:
        return ApiKey.from_file(path, options.get("--key-name"))
    if "--key-name" in options:
        raise _UsageError("--key-name goes with --key-file or CDP_KEY_FILE")
    return ApiKey.from_env()


def _option_client(options: Mapping[str, str], key: ApiKey | None) -> Client:
    try:
        timeout = float(options.get("--timeout", 10))
    except ValueError:
        raise _UsageError("--timeout takes a number of seconds") from None
    return Client(key, host=options.get("--host", DEFAULT_HOST), timeout=timeout)


def _option_time(text: str) -> int | datetime:
    from datetime import datetime

    moment = None
    with contextlib.suppress(ValueError):
        if text.startswith("+"):
            return int(time.time()) + int(text)
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    if moment is None or moment.utcoffset() is None:
        raise _UsageError("--not-before takes +SECONDS or 2026-11-22T15:00:00Z")
    return moment


def _option_data(text: str) -> bytes:
    """Return the body as it was given, to the byte, if it is JSON."""
    is_file = text == "-" or text.startswith("@")
    try:
        body = _read(text.removeprefix("@")) if is_file else text.encode()
        json.loads(body.decode(), parse_constant=int)  # UTF-8, and int takes no NaN
        return body
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        problem = "is not JSON; nothing was sent"
    raise InvalidRequestError(f"--data {problem}")


def _print_token(words: list[str], options: Mapping[str, str]) -> None:
    command, *rest = words
    key, not_before = _option_key(options), None
    if "--not-before" in options:
        not_before = _option_time(options["--not-before"])
    if command != "ws":
        host = options.get("--host", DEFAULT_HOST)
        text = key.rest_jwt(command, rest[0], host=host, not_before=not_before)
    elif rest:
        text = ws_message(rest[0], rest[1:], key=key)
    else:
        text = key.ws_jwt(not_before=not_before)
    if "--export" in options:
        text = f"export JWT='{text}'"  # a token has no quotes
    elif "--header" in options:
        text = f"Authorization: Bearer {text}"
    print(text)
    if command != "ws" and sys.stdout.isatty():
        _tell("hint", "this is a token for the request; --call sends the request")


def _print_answer(answer: Response | ApiError, options: Mapping[str, str]) -> None:
    if "--include" in options:
        print(f"HTTP/1.1 {answer.status}")
        for name, value in answer.headers.items():
            print(_printable(f"{name}: {value}"))
        print()
    sys.stdout.flush()
    # JSON's strings hold no line breaks, so that those of a page can go.
    page = b"".join(answer.body.splitlines()) + b"\n"
    sys.stdout.buffer.write(page if "--paginate" in options else answer.body)
    sys.stdout.buffer.flush()
    if sys.stdout.isatty() and "--paginate" not in options:
        print()


PERMISSIONS: Final = "/api/v3/brokerage/key_permissions"


def _permission_hints(client: Client, path: str) -> Iterator[str]:
    """After a refused order or transfer: may the key do such a thing at all?"""
    name = "can_trade" if "/orders" in path else "can_transfer"
    if re.search("/orders|/transactions|/move_funds|/transfer", path):
        with contextlib.suppress(CdpError):
            if _members(client.get(PERMISSIONS).json()).get(name) is False:
                yield f"the key is valid, but may not do this: its {name} is false"


def _call(words: list[str], options: Mapping[str, str], params: list[str]) -> None:
    (method, path), paginate = words, "--paginate" in options
    query: dict[str, list[str]] = {}
    for param in params:
        name, separator, value = param.partition("=")
        if not separator:
            raise _UsageError("--param takes NAME=VALUE")
        query.setdefault(name, []).append(value)
    data = _option_data(options["--data"]) if "--data" in options else None
    if paginate and (data is not None or method.upper() != "GET"):
        raise _UsageError("--paginate goes with GET, and without --data")
    key = None if "--no-auth" in options else _option_key(options)
    with _option_client(options, key) as client:
        try:
            if not paginate:
                answer = client.request(method, path, params=query, json=data)
                return _print_answer(answer, options)
            for number, page in enumerate(client.pages(path, query), 1):
                _print_answer(page, options)
                if sys.stderr and sys.stderr.isatty():
                    print(f"{number} pages", end="\r", file=sys.stderr, flush=True)
        except ApiError as error:
            _print_answer(error, options)
            refused = error.status in (401, 403) and key is not None
            if refused and method.upper() not in SAFE_METHODS:
                error.hints = (*_permission_hints(client, path), *error.hints)
            raise
    return None


def _printable(text: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return _escaped(text).encode(encoding, "backslashreplace").decode(encoding)


def _decode(words: list[str], options: Mapping[str, str]) -> int:
    """Report on a token; its signature is not shown."""
    now, text = time.time(), words[0] if words else "-"
    if text == "-":
        try:
            text = _read("-", MAX_KEY_FILE).decode("utf-8", "replace")
        except OSError as error:
            raise InvalidRequestError(f"TOKEN: {error.strerror}") from None
    found = inspect_jwt(text, now=now)
    if {*SECRET_FIELDS, "jwk", "d"} & {*found.header, *found.claims}:
        raise InvalidRequestError("this is a private key, not a token; it is not shown")
    try:
        key = _option_key(options)
        signed = f"not verified: its kid is not {key.name}, the key at hand"
        if "--key-file" in options or key.name == found.header.get("kid"):
            found = inspect_jwt(text, key=key, now=now)
            unsigned = ("the signature", "not signed")
            is_signed = not any(each.startswith(unsigned) for each in found.problems)
            signed = f"by {key.name}" if is_signed else ""
    except InvalidKeyError as error:
        if "--key-file" in options:
            raise
        signed = f"not verified: {error}"
    for line in _decode_lines(found, signed, now):
        print(_printable(line))
    return 1 if found.problems else 0


def _decode_lines(found: Inspection, signed: str, now: float) -> Iterator[str]:
    from datetime import datetime, timezone

    yield f"header   {json.dumps(found.header)}"
    yield f"claims   {json.dumps(found.claims)}"
    for name in ("nbf", "exp"):
        seconds = _seconds(found.claims.get(name))
        if seconds is not None:
            moment = datetime.fromtimestamp(seconds, timezone.utc)
            yield f"{name}      {moment}, {int(seconds - now):+d} s from now"
    if signed:
        yield f"signed   {signed}"
    yield from (f"problem  {problem}" for problem in found.problems)
    yield from (f"note     {note}" for note in found.notes)
    if not found.problems:
        yield f"ok       no problem found, {found.seconds_left} s left"


def _check(options: Mapping[str, str], say: Callable[[str, str], None]) -> int:
    """Print a line for each step: ok, warn or fail, the fact, and the remedy."""
    global _listener
    key, first = None, dict[str, str]()

    def report(kind: str, message: str) -> None:
        if kind in ("ok", "warning", "fail"):
            line = _printable(message)
            first.setdefault(kind, line)
            print(f"{kind[:4]:5} {line}", flush=True)
        else:
            say(kind, message)

    _listener = report  # of these steps, and of what the functions below them tell
    try:
        key = _check_key(options)
    except InvalidKeyError as error:
        _tell("fail", f"key: {error}")
    if "--offline" not in options:
        try:
            _check_network(key, options)
        except (InvalidRequestError, TransportError, ApiError) as error:
            _tell("fail", f"network: {error}")
    advice = first.get("fail") or first.get("warning")
    print(f"First: {advice}" if advice else "All is well.")
    return 1 if "fail" in first else 0


def _check_key(options: Mapping[str, str]) -> ApiKey:
    from cryptography.hazmat.backends.openssl.backend import backend

    python, openssl = sys.version.split()[0], backend.openssl_version_text()
    _tell("ok", f"Python {python}, cryptography {cryptography.__version__}, {openssl}")
    key, source = _option_key(options), _key_path(options) or "the environment"
    curve = "ECDSA P-256" if key.algorithm == "ES256" else "Ed25519"
    with contextlib.suppress(OSError, ValueError):
        mode = os.stat(os.path.expanduser(source)).st_mode
        source += f" (mode {stat.S_IMODE(mode):o})"
    _tell("ok", f"key {key.name} from {source}: {curve} ({key.algorithm})")
    for repair in key.repairs:
        _tell("warning" if "bare seed" in repair else "ok", f"mended, {repair}")
    problems = inspect_jwt(key.rest_jwt("GET", "/"), key=key).problems
    found = "; ".join(problems) or "it signs and verifies"
    _tell("fail" if problems else "ok", found)
    return key


def _check_network(key: ApiKey | None, options: Mapping[str, str]) -> None:
    import socket
    import urllib.request

    host = _checked_host(options.get("--host", DEFAULT_HOST))
    name, proxy = host.partition(":")[0], urllib.request.getproxies().get("https", "")
    if not proxy or urllib.request.proxy_bypass(host):
        proxy = "none"
    proxy = re.sub(r"(?s)\A(\w+://)?.*@", r"\1***@", proxy)
    authorities = os.environ.get("SSL_CERT_FILE", "the system")
    _tell("ok", f"proxy: {proxy}; CAs: {authorities}")
    if proxy == "none":
        with contextlib.suppress(OSError):  # the call says what is wrong
            found = {str(each[4][0]) for each in socket.getaddrinfo(name, 443)}
            _tell("ok", f"{name} is {', '.join(sorted(found)[:4])}")
    with _option_client(options, key) as client:
        started = time.time()
        try:
            answer: Response | ApiError = client.get("/api/v3/brokerage/time")
        except ApiError as error:
            answer = error
        middle = (started + time.time()) / 2
        state = "ok" if answer.status < 300 else "warning"
        _tell(state, f"{host} answers over TLS: HTTP {answer.status}")
        _check_clock(answer, middle)
        if key:
            _check_permissions(client)


def _check_clock(answer: Response | ApiError, middle: float) -> None:
    """Compare the clock with the server's, in milliseconds where it gives them."""
    found = re.search(rb'"epochMillis"\s*:\s*"?([0-9]{10,16})', answer.body)
    server = int(found[1]) / 1000 if found else _epoch(answer.headers.get("Date"))
    if server is None:
        return _tell("warning", "clock: the server tells no time")
    ahead, digits = middle - server, 3 if found else 0
    clock = f"clock: {ahead:+.{digits}f} s from the server's"
    if not BACKDATE - LIFETIME < ahead < BACKDATE:
        return _tell("fail", f"{clock}; set this machine's clock")
    # A clock that is behind shortens the two minutes that a token lives.
    return _tell("ok" if ahead > -30 else "warning", clock)


def _check_permissions(client: Client) -> None:
    try:
        granted = _members(client.get(PERMISSIONS).json())
    except ApiError as error:
        reasons = "; ".join((f"permissions: {error}", *error.hints))
        return _tell("fail", reasons.replace("; try `check`", ""))
    names = ("can_view", "can_trade", "can_transfer")
    allowed = ", ".join(name for name in names if granted.get(name)) or "nothing"
    portfolio = granted.get("portfolio_type", "?")
    state = "ok" if granted.get("can_view") else "warning"
    return _tell(state, f"the key is accepted; it may: {allowed} ({portfolio})")


def _run(arguments: Sequence[str], say: Callable[..., None], command: str) -> int:
    if sys.stdout is None:
        raise CdpError("standard output is closed")
    words, options, params = _parse_arguments(arguments)
    if options.keys() & {"--help", "-h"}:
        print((SYNOPSIS + HELP).format(command), end="")
    elif "--version" in options:
        print(f"cdp_jwt {__version__}")
    else:
        _check_usage(words, options)
        if missing:
            raise CdpError(missing)
        if words[0] == "decode":
            return _decode(words[1:], options)
        if words[0] == "check":
            return _check(options, say)
        if "--call" in options:
            _call(words, options, params)
        else:
            _print_token(words, options)
    return 0


def _say(program: str, verbose: bool, kind: str, message: str) -> None:
    # With standard error closed, print would write to standard output.
    if sys.stderr and (verbose or kind != "note"):
        with contextlib.suppress(OSError):  # a full disk must not stop a call half-way
            print(f"{program}: {kind}: {_printable(message)}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 (failed), 2 (usage), 130 (Ctrl-C) or 141 (pipe)."""
    global _listener
    file = os.path.basename(sys.argv[0])
    program, extension = os.path.splitext(file)
    command = _printable(f"python {file}" if extension == ".py" else program)
    arguments = sys.argv[1:] if argv is None else argv
    called = "; the call may have been carried out" if "--call" in arguments else ""
    say = _listener = partial(_say, program, "--verbose" in arguments)
    try:
        code = _run(arguments, say, command)
        sys.stdout.flush()
        return code
    except CdpError as error:
        if isinstance(error, _UsageError) and sys.stderr:
            print(SYNOPSIS.format(command), end="", file=sys.stderr)
        _tell("error", str(error))
        for hint in error.hints if isinstance(error, ApiError) else ():
            _tell("hint", hint)
        return 2 if isinstance(error, _UsageError) else 1
    except KeyboardInterrupt:
        _tell("error", f"interrupted{called}")
        return 130
    except OSError as error:  # standard output is closed or full
        # At exit Python would flush it again, and complain (documentation of `signal`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141
        _tell("error", f"standard output cannot be written: {error.strerror}{called}")
        return 1
    finally:
        _listener = None


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
