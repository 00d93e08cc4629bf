#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["cryptography>=3.4.8"]
# ///
# SPDX-License-Identifier: 0BSD
"""Coinbase (CDP) JWTs in one file that you can read before you trust it.

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

In a shell:
    export CDP_KEY_FILE=cdp_api_key.json
    python cdp_jwt.py GET /api/v3/brokerage/accounts
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn, Union

MISSING = ""  # what keeps the command from signing, if anything does
try:
    import cryptography

    if [int(part) for part in cryptography.__version__.split(".")[:2]] < [3, 4]:
        raise ImportError(f"found {cryptography.__version__}")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    ECDSA_SHA256 = ec.ECDSA(SHA256())
except ImportError as error:
    MISSING = (
        f"cryptography >= 3.4.8 is needed ({error}); pip install cryptography,"
        " apt install python3-cryptography or dnf install python3-cryptography"
    )
    if __name__ != "__main__":  # the command still answers --help and --version
        raise ImportError(MISSING) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    PrivateKey = Union[ec.EllipticCurvePrivateKey, Ed25519PrivateKey]

__version__ = "0.1.0"
__all__ = (
    "ApiKey", "CdpError", "InvalidKeyError", "InvalidRequestError", "build_rest_jwt",
    "build_ws_jwt", "format_jwt_uri", "main", "ws_message",
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


_show_warning: Callable[[str], None] | None = None  # set by main() while it runs


def _warn(message: str) -> None:
    if _show_warning:
        return _show_warning(message)
    import logging  # not above: its import takes longer than a token

    return logging.getLogger(__name__).warning("%s", message)


# ---------------------------------------------------------- 3. keys: text -> parsed key
#
# These functions raise freely, with key text in their frames. The public ones that call
# them let no error out but through `_without_frames`.


def _without_frames(error: InvalidKeyError, source: str) -> InvalidKeyError:
    """Cut off an error's frames and causes, and say whence the key came."""
    error.__cause__ = error.__context__ = None
    error.args = (f"{source}: {error}" if source else str(error),)
    return error.with_traceback(None)


P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def _whole_key(octets: bytes, sizes: Sequence[int]) -> PrivateKey | None:
    """Return the key in `octets` if it is whole and one of these sizes.

    It is whole when the key derived from its own 32 secret octets, written out in the
    same form, gives every octet back. Nothing is parsed: `cryptography` itself loads
    damaged keys (up to 44) and other curves, and not the same ones in each version.
    """
    if len(octets) not in sizes:
        return None
    der, raw = serialization.Encoding.DER, serialization.Encoding.Raw
    form = serialization.PrivateFormat
    start, encoding, private_form = {
        121: (7, der, form.TraditionalOpenSSL),  # P-256: SEC1 (RFC 5915)
        138: (36, der, form.PKCS8),  # the same in PKCS8 (RFC 5208)
        48: (16, der, form.PKCS8),  # Ed25519: PKCS8 (RFC 8410)
        64: (0, raw, form.Raw),  # seed and public key, as the portal writes it
        32: (0, raw, form.Raw),  # seed alone, which always gives itself back
    }[len(octets)]
    secret = octets[start : start + 32]
    key: PrivateKey
    if len(octets) > 64:
        scalar = int.from_bytes(secret, "big")
        if not 0 < scalar < P256_ORDER:  # up to 42, some of these would pass
            return None
        key = ec.derive_private_key(scalar, ec.SECP256R1())
    else:
        key = Ed25519PrivateKey.from_private_bytes(secret)
    written = key.private_bytes(encoding, private_form, serialization.NoEncryption())
    if len(octets) == 64:
        written += key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    return key if written == octets else None


def _strict_base64(text: str) -> bytes:
    """Decode base64 (RFC 4648, section 4); b"" if one character is out of place."""
    try:
        octets = base64.b64decode(text)
    except ValueError:
        return b""
    return octets if base64.b64encode(octets).decode() == text else b""


MENDS: Final = (  # what editors, shells and .env files do to a pasted value
    ("[\ufeff\u200b-\u200d\u2060]", "", "invisible characters removed"),
    (r"(\\{1,8}r)?\\{1,8}n|\\{1,8}r", "\n", r"escaped line breaks (\n) made real"),
    (r"\A(\\{0,8}[\"'`“”‘’])+|(\\{0,8}[\"'`“”‘’])+\Z", "", "quotes removed"),
)


def _mended(value: object, what: str) -> tuple[str, list[str]]:
    """Return the text of a key's name or secret, and what was mended in it."""
    repairs = []
    text = value.strip() if isinstance(value, str) else ""
    for pattern, cure, repair in MENDS:
        before, text = text, re.sub(pattern, cure, text).strip()
        if text != before:
            repairs.append(f"{what}: {repair}")
    if not text:
        found = "empty" if isinstance(value, str) else type(value).__name__
        raise InvalidKeyError(f"the key's {what} is {found}, not text; is it set?")
    return text, repairs


PEM: Final = r"-----BEGIN ([A-Z0-9 ]+)-----([^-]*)-----END \1-----"  # RFC 7468


def _unwrap_pem(text: str, repairs: list[str]) -> bytes:
    """Return what the block of the only key holds, b"" if there is no such block."""
    blocks = [] if text.startswith("{") else list(re.finditer(PEM, text))
    keys = [block for block in blocks if block[1] != "EC PARAMETERS"]
    if len(keys) != 1:
        return b""
    body = "".join(keys[0][2].split())
    octets = _strict_base64(body)
    label = "EC PRIVATE KEY" if len(octets) == 121 else "PRIVATE KEY"
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    if keys[0][0] != f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----":
        repairs.append("secret: line breaks, spaces or label of the PEM put right")
    if len(blocks) > 1:
        repairs.append("secret: EC PARAMETERS left out")
    if re.sub(PEM, "", text).strip():
        repairs.append("secret: text around the PEM left out")
    return octets


# What people paste instead of a secret: a pattern, what it is, what to do. The pattern
# is sought in the text, followed by what its base64 holds, in hex, and its size.
PASTE: Final = "paste the private key, `privateKey` in the key file"
AGAIN: Final = "copy it again from the key file, or create a new key"
CREATE: Final = "create a CDP API key in the portal"
GIVE_PATH: Final = "give it with --key-file, CDP_KEY_FILE or ApiKey.from_file"
KINDS: Final = "Coinbase takes ECDSA P-256 or Ed25519"
ENDS: Final = "-----BEGIN [A-Z ]+-----.*-----END [A-Z ]+-----"
MISTAKES: Final = (
    (r"BEGIN [A-Z0-9 ]*PUBLIC|\A(sk-)?(ssh|ecdsa)-", "a public key", PASTE),
    (r"BEGIN [A-Z0-9 ]*CERTIFICATE", "a certificate", PASTE),
    (r"BEGIN OPENSSH", "an OpenSSH key", PASTE),
    (r"BEGIN ENC|Proc-Type:", "an encrypted PEM", "decrypt it with openssl pkey"),
    (r"(?s)(BEGIN [A-Z ]*PRIVATE KEY-.*){2}", "several keys", "leave the right one"),
    (r"BEGIN RSA|06092a864886f70d0101", "a RSA key", KINDS),
    (r"BEGIN DSA|06072a8648ce380401", "a DSA key", KINDS),  # identifiers in DER
    ("06052b81040022", "a P-384 key", KINDS),
    ("06052b81040023", "a P-521 key", KINDS),
    ("06052b8104000a", "a secp256k1 key", KINDS),
    ("06092b2403030208", "a brainpool key", KINDS),
    ("06032b656e", "a X25519 key", KINDS),
    ("06032b656f", "a X448 key", KINDS),
    ("06032b6571", "a Ed448 key", KINDS),
    ("06072a8648ce3d0101", "a key with explicit curve parameters", KINDS),
    (r"\A[{\[]\s*[\"'}]", "a whole JSON key file", GIVE_PATH),
    (r"(?i)\byour[ _-]|[{<][^}>]{0,60}[}>]|\.\.\.|…|\Ax+\s", "a placeholder", PASTE),
    (rf"(?s)\A(?!.*{ENDS}).*-----", "a PEM that is cut off", AGAIN),
    (r"(?s)---.*\n0 octets", "a PEM whose inside is not base64", AGAIN),
    (r"---|\n(48|121) octets", "a key that is damaged or in a rare form", AGAIN),
    (r"\n64 octets", "a damaged Ed25519 key, or a Coinbase Exchange secret", AGAIN),
    (r"\n(44|91) octets", "a public key", PASTE),
    (r"\n138 octets", "a CDP wallet secret, which signs no API calls", PASTE),
    (r"(?i)\Aorganizations/|\A[0-9a-f]{8}-[0-9a-f-]{27}\s", "a key's name", PASTE),
    (r"\A[A-Za-z0-9]{32}\s", "the secret of a legacy (HMAC) API key", CREATE),
    (r"\A(~|\.\.?|[A-Za-z]:)?[/\\][^+=]*\n|\.[a-z0-9]{2,4}\n", "a path", GIVE_PATH),
    ("", "neither PEM nor base64 of 64 bytes", PASTE),
)


def _diagnose(secret: str, octets: bytes) -> str:
    """Say what a refused secret is and what to do, without a byte of it."""
    evidence = f"{secret}\n{octets.hex()}\n{len(octets)} octets"
    what, remedy = next(row[1:] for row in MISTAKES if re.search(row[0], evidence))
    return f"this is {what}; {remedy}"


def _parse_secret(value: object) -> tuple[PrivateKey, list[str]]:
    """Return the private key in one of the texts that `ApiKey` lists, and repairs."""
    secret, repairs = _mended(value, "secret")
    if "-----" in secret:
        octets, sizes = _unwrap_pem(secret, repairs), (121, 138, 48)
    else:
        # A bare 138 is what a CDP wallet secret looks like.
        octets, sizes = _strict_base64("".join(secret.split())), (121, 64, 32)
        if len(secret.split()) > 1:
            repairs.append("secret: white space removed")
        if len(octets) == 121:
            repairs.append("secret: BEGIN and END lines added")
        if len(octets) == 32:
            repairs.append("secret: a bare seed, taken as it is: nothing can prove it")
    try:
        key = _whole_key(octets, sizes)
    except UnsupportedAlgorithm:
        raise InvalidKeyError("this OpenSSL has no Ed25519; use a P-256 key") from None
    if key is None:
        raise InvalidKeyError(_diagnose(secret, octets))
    return key, repairs


def _parse_name(value: object) -> tuple[str, list[str]]:
    name, repairs = _mended(value, "name")
    if re.search(r"-----|\A[A-Za-z0-9+/=\s]{40,}\Z", name):
        raise InvalidKeyError("the name looks like a key: name and secret are swapped")
    if re.search(r"(?i)[{<]|\byour[ _-]|.{300}", name) or not name.isprintable():
        raise InvalidKeyError(f"the key's name is a placeholder or damaged; {AGAIN}")
    return name, repairs


NAME_FIELDS: Final = ("id", "name", "apiKeyName", "accessKey")
SECRET_FIELDS: Final = ("privateKey", "secret", "privatePemKey")


def _read_key_file(path: str) -> str:
    mode = 0
    try:
        if path == "-":
            content = sys.stdin.buffer.read(MAX_KEY_FILE + 1)
        else:
            with open(os.path.expanduser(path), "rb") as file:
                content = file.read(MAX_KEY_FILE + 1)
                mode = os.fstat(file.fileno()).st_mode
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidKeyError("not UTF-8 text; expected JSON or PEM") from None
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "closed, or not a path"
        raise InvalidKeyError(f"cannot be read: {reason}") from None
    if len(content) > MAX_KEY_FILE or not text.strip():
        found = "empty" if not text.strip() else "over 64 KiB"
        raise InvalidKeyError(f"{found}; expected the JSON or PEM of one key")
    if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o044:
        _warn(f"{path}: group or others can read this key file; chmod 600 it")
    return text


def _parse_key_file(text: str, name: str | None) -> tuple[str, str, list[str]]:
    """Return name, secret and IP allow-list, from JSON or from a secret by itself."""
    if not text.lstrip().startswith("{"):
        if name is None:
            raise InvalidKeyError(
                "not JSON, so the key's name is needed too: --key-name, or the argument"
                " `name` of ApiKey.from_file"
            )
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
    return best, secrets[0], allowed if isinstance(allowed, list) else []


def _load_key_file(path: str, name: str | None) -> tuple[str, str, list[str], str]:
    """Return name, secret, IP allow-list, and what errors call the file."""
    # A path that names nothing may be a key's text in the wrong place: it is not shown.
    is_path = re.fullmatch(r"(?!-)[^\n]*\.\w{2,4}", path) or os.path.exists(path)
    shown = path if is_path else "standard input" if path == "-" else "the key file"
    try:
        return (*_parse_key_file(_read_key_file(path), name), shown)
    except InvalidKeyError as error:
        raise _without_frames(error, shown) from None


def _load_environment(environ: Mapping[str, str]) -> tuple[str, str, list[str], str]:
    """Return the same from the variables that are set."""
    if environ.get("CDP_KEY_FILE"):
        return _load_key_file(environ["CDP_KEY_FILE"], None)
    pairs = {}
    for secret, *names in (
        ("COINBASE_API_SECRET", "COINBASE_API_KEY"),
        ("CDP_API_KEY_SECRET", "CDP_API_KEY_ID", "CDP_API_KEY_NAME"),
    ):
        given = [name for name in names if environ.get(name, "").strip()]
        if len({environ[name] for name in given}) > 1:
            raise InvalidKeyError(f"{' and '.join(given)} differ; unset one")
        if bool(given) != bool(environ.get(secret, "").strip()):
            missing = secret if given else " or ".join(names)
            there = given[0] if given else secret
            raise InvalidKeyError(f"{there} is set but {missing} is not; set both")
        if given:
            pairs[f"{given[0]} and {secret}"] = environ[given[0]], environ[secret]
    if not pairs:
        raise InvalidKeyError(
            "no API key; set CDP_KEY_FILE (or give --key-file), or COINBASE_API_KEY and"
            " COINBASE_API_SECRET, or CDP_API_KEY_ID and CDP_API_KEY_SECRET"
        )
    plain = [[_mended(text, "")[0] for text in pair] for pair in pairs.values()]
    if plain[0] != plain[-1]:
        raise InvalidKeyError(f"{' differ from '.join(pairs)}; unset one pair")
    variables, (name, secret) = pairs.popitem()
    return name, secret, [], variables


# ---------------------------------------------------------- 4. signing: octets -> JWS


def _base64url(octets: bytes) -> str:
    """RFC 7515, section 2: the URL-safe alphabet, no padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _raw_signature(der: bytes) -> bytes:
    """RFC 7518, section 3.4: r and s in 32 octets each, not the DER that OpenSSL gives.

    In 1 of 128 signatures r or s is shorter, and has to be padded.
    """
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _sign(private_key: PrivateKey, message: bytes) -> bytes:
    if isinstance(private_key, Ed25519PrivateKey):
        return private_key.sign(message)  # RFC 8037, section 3.1
    return _raw_signature(private_key.sign(message, ECDSA_SHA256))


def _jws(header: str, claims: str, private_key: PrivateKey) -> str:
    """RFC 7515, section 7.1: the compact serialization."""
    signing_input = f"{_base64url(header.encode())}.{_base64url(claims.encode())}"
    return f"{signing_input}.{_base64url(_sign(private_key, signing_input.encode()))}"


# ---------------------------------------------------------- 5. tokens: request -> JWT

METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
# One slash, then visible ASCII without # and \, which clients cut off or turn round.
PATH: Final = re.compile(r"/(?!/)[!\"$-\[\]-~]*")
LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST: Final = rf"((?:{LABEL}\.)*{LABEL})(?::([1-9][0-9]{{0,4}}))?"


def _checked_text(value: object, what: str, refused: str) -> str:
    """Return `value` if it is text without a character of the pattern `refused`."""
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
    if host == DEFAULT_HOST:
        return host
    host = _checked_text(host, "host", r"[^A-Za-z0-9.:-]").lower()
    found = re.fullmatch(HOST, host)
    if not found or len(found[1]) > 253 or int(found[2] or 443) > 65535:
        raise InvalidRequestError("the host is malformed; expected name or name:port")
    return found[1] if found[2] == "443" else host


def _checked_path(path: str) -> str:
    """Return a path, with or without a query, that reaches the server as it stands."""
    if not isinstance(path, str) or not PATH.fullmatch(path):
        _checked_text(path, "path", r"[^!-~]|[#\\]")
        raise InvalidRequestError("the path does not begin with exactly one /")
    if "/." in path or "/%2" in path:
        segments = re.sub("(?i)%2e", ".", path.partition("?")[0]).split("/")
        if "." in segments or ".." in segments:
            raise InvalidRequestError("the path has a segment . or ..; resolve it")
    return path


def _request_line(method: str, url_or_path: str, host: str) -> tuple[str, str, str]:
    """Return method, host and path with query, each exactly as it will be sent."""
    upper = method.upper() if isinstance(method, str) else ""
    if upper not in METHODS:
        shown = f" {upper}" if re.fullmatch("[A-Z]{1,9}", upper) else ""
        expected = ", ".join(METHODS)
        raise InvalidRequestError(f"unknown method{shown}; expected one of {expected}")
    path = url_or_path
    if isinstance(path, str) and re.match("[A-Za-z]+://", path):
        scheme, _, rest = path.partition("://")
        if scheme.lower() != "https":
            raise InvalidRequestError("not an https URL; others could read the token")
        host = re.split("[/?#]", rest, maxsplit=1)[0]
        path = rest[len(host) :]
        if "@" in host:
            raise InvalidRequestError("the URL has a user before its host; remove it")
    return upper, _checked_host(host), _checked_path(path)


def format_jwt_uri(method: str, path: str, host: str = DEFAULT_HOST) -> str:
    """Return the `uri` claim: "GET api.coinbase.com/api/v3/brokerage/accounts".

    It holds neither the scheme nor the query. Arguments and errors as in
    `ApiKey.rest_jwt`; with the same name in Coinbase's SDK.
    """
    method, host, path = _request_line(method, path, host)
    return f"{method} {host}{path.partition('?')[0]}"


def _epoch_seconds(not_before: int | datetime, now: int) -> int:
    seconds = not_before
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        from datetime import datetime

        if not isinstance(seconds, datetime) or seconds.utcoffset() is None:
            raise InvalidRequestError(
                "not_before is neither an int (epoch seconds) nor a time with an offset"
            )
        seconds = int(seconds.timestamp())
    if seconds > 10**11:  # the year 5138
        raise InvalidRequestError("not_before is in milliseconds; expected seconds")
    if seconds + LIFETIME <= now:
        raise InvalidRequestError("not_before: such a token would have expired already")
    return seconds


class ApiKey:
    """A CDP API key, parsed and proven. It cannot be changed and is never pickled.

    Attributes:
        name: the key's name, `organizations/.../apiKeys/...` or a UUID.
        algorithm: "ES256" (ECDSA P-256, RFC 7518) or "EdDSA" (Ed25519, RFC 8037).
        repairs: what was mended in the texts of name and secret; () if nothing was.
        allowed_ips: the key file's IP allow-list, kept to explain refusals.
    """

    __slots__ = ("_kid", "_private_key", "algorithm", "allowed_ips", "name", "repairs")
    name: str
    algorithm: str
    repairs: tuple[str, ...]
    allowed_ips: tuple[str, ...]
    _private_key: PrivateKey
    _kid: str  # the name as a JSON string

    def __init__(
        self, name: str, secret: str, allowed_ips: Iterable[str] = (), source: str = ""
    ) -> None:
        """Parse a key's name and its secret, which may be

        - PEM, "EC PRIVATE KEY" (SEC1) or "PRIVATE KEY" (PKCS8), P-256 or Ed25519, with
          line breaks that are real, escaped or lost;
        - base64 of 64 bytes (Ed25519 seed and public key) or of 32 (the seed alone);
        - base64 of 121 bytes (SEC1 without its PEM lines).

        Raises:
            InvalidKeyError: it is another kind of key, damaged, or no key at all;
                `source` is what the message calls the place that it came from.
        """
        try:
            parsed_name, repairs = _parse_name(name)
            private_key, secret_repairs = _parse_secret(secret)
        except InvalidKeyError as error:
            raise _without_frames(error, source) from None
        is_ed25519 = isinstance(private_key, Ed25519PrivateKey)
        values = {
            "name": parsed_name,
            "algorithm": "EdDSA" if is_ed25519 else "ES256",
            "repairs": (*repairs, *secret_repairs),
            "allowed_ips": tuple(map(str, allowed_ips)),
            "_private_key": private_key,
            "_kid": json.dumps(parsed_name),
        }
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], name: str | None = None) -> ApiKey:
        """Read a key file: JSON, or a secret by itself whose `name` is given.

        `-` is standard input. A file that group or others can read gets a warning.

        Raises:
            InvalidKeyError: it cannot be read, or holds no key that can be used.
        """
        try:
            return cls(*_load_key_file(os.fspath(path), name))
        except InvalidKeyError as error:
            raise _without_frames(error, "") from None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> ApiKey:
        """Read the key that `environ` (os.environ) names: CDP_KEY_FILE, else
        COINBASE_API_KEY and COINBASE_API_SECRET, or CDP_API_KEY_ID (or
        CDP_API_KEY_NAME) and CDP_API_KEY_SECRET.

        Raises:
            InvalidKeyError: none is set, a pair is half set, or two differ.
        """
        try:
            return cls(*_load_environment(os.environ if environ is None else environ))
        except InvalidKeyError as error:
            raise _without_frames(error, "") from None

    def rest_jwt(
        self,
        method: str,
        url_or_path: str,
        *,
        host: str = DEFAULT_HOST,
        not_before: int | datetime | None = None,
    ) -> str:
        """Return a token for one REST request, valid for two minutes.

        Args:
            method: GET, POST, PUT, DELETE, PATCH or HEAD, in any case.
            url_or_path: a path, with or without query, or an https URL (its host).
            host: `name` or `name:port`.
            not_before: when the two minutes begin, in epoch seconds or as an aware
                datetime, for a token made in advance; by default 5 s ago.

        Raises:
            InvalidRequestError: the message says what is wrong with an argument.
        """
        return self._issue(format_jwt_uri(method, url_or_path, host), not_before)

    def ws_jwt(self, *, not_before: int | datetime | None = None) -> str:
        """Return a token for one WebSocket message; `not_before` as in `rest_jwt`."""
        return self._issue(None, not_before)

    def _issue(self, uri: str | None, not_before: int | datetime | None) -> str:
        """Make a token; only here are clock and random source read, once each."""
        now, nonce, kid = int(time.time()), os.urandom(32).hex(), self._kid
        nbf = now - BACKDATE if not_before is None else _epoch_seconds(not_before, now)
        request = "" if uri is None else f',"uri":{json.dumps(uri)}'
        times = f'"nbf":{nbf},"exp":{nbf + LIFETIME}'
        return _jws(
            f'{{"alg":"{self.algorithm}","typ":"JWT","kid":{kid},"nonce":"{nonce}"}}',
            f'{{"sub":{kid},"iss":"cdp",{times}{request}}}',
            self._private_key,
        )

    def __repr__(self) -> str:
        name, algorithm = getattr(self, "name", None), getattr(self, "algorithm", None)
        return f"ApiKey(name={name!r}, algorithm={algorithm!r})"

    def __setattr__(self, *_: object) -> NoReturn:
        raise AttributeError("an ApiKey cannot be changed; make a new one")

    __delattr__ = __setattr__

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("an ApiKey is not pickled: its private key stays here")


def ws_message(
    channel: str,
    product_ids: Iterable[str] = (),
    *,
    key: ApiKey | None = None,
    type: str = "subscribe",
) -> str:
    """Return a WebSocket message as JSON text, with a token of its own.

    Args:
        channel: one channel; "user" and "futures_balance_summary" need a key, others
            take one for higher limits.
        product_ids: such as ["BTC-USD"].
        key: the key that signs the token, if there is to be one.
        type: "subscribe" or "unsubscribe".

    Raises:
        InvalidRequestError: the message says what is wrong with an argument.
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


def _fingerprint(name: object, secret: object) -> bytes:
    import hashlib  # not above: the command does without it

    mark = hashlib.sha256(ascii((name, secret)).encode()).digest()
    if len(_remembered) >= 8 and mark not in _remembered:
        _remembered.clear()
    return mark


def build_ws_jwt(key_var: str, secret_var: str) -> str:
    """Return a token for one WebSocket message, as the SDK's function does.

    `key_var` is the key's name, `secret_var` its secret, in any form that ApiKey takes.
    """
    mark = _fingerprint(key_var, secret_var)
    key = _remembered[mark] = _remembered.get(mark) or ApiKey(key_var, secret_var)
    return key._issue(None, None)


def build_rest_jwt(uri: str, key_var: str, secret_var: str) -> str:
    """Return a token for one REST request; `uri` as `format_jwt_uri` makes it.

    Raises:
        InvalidKeyError, InvalidRequestError: the message says what to change.
    """
    method, _, rest = _checked_text(uri, "uri", r"\n").partition(" ")
    rest = re.sub(r"\A[A-Za-z]+://", "", rest)
    url = f"https://{DEFAULT_HOST if rest.startswith('/') else ''}{rest}"
    right = format_jwt_uri(method, url)
    if uri != right:
        raise InvalidRequestError(f"this uri would earn a 401; use {right!r}")
    mark = _fingerprint(key_var, secret_var)
    key = _remembered[mark] = _remembered.get(mark) or ApiKey(key_var, secret_var)
    return key._issue(uri, None)


# ---------------------------------------------------------- 8. command line
#
# Standard output carries data alone; what is for a person goes to standard error. It
# repeats no unknown word of the command line, which may be a secret gone astray.

SYNOPSIS: Final = """\
usage: {0} METHOD PATH [--export | --header]
       {0} ws [CHANNEL [PRODUCT ...]]
Print a token for one request, or for a WebSocket; --help says more.
"""
HELP: Final = """
METHOD is GET, POST, PUT, DELETE, PATCH or HEAD; PATH may be a whole https URL.

  --export           print a line for the shell: export JWT='...'
  --header           print a header for curl -H @-: Authorization: Bearer ...
  --key-file FILE    the portal's key file, or PEM with --key-name; - is standard input
  --key-name NAME    the key's name, where the file holds the secret alone
  --host HOST        name or name:port instead of api.coinbase.com
  --not-before TIME  when the token's two minutes begin: +SECONDS, or a time such as
                     2026-11-22T15:00:00Z
  --version, --help

Without --key-file, the key comes from CDP_KEY_FILE, else from COINBASE_API_KEY and
COINBASE_API_SECRET, or from CDP_API_KEY_ID and CDP_API_KEY_SECRET.

  $ export CDP_KEY_FILE=cdp_api_key.json
  $ URL=https://api.coinbase.com/api/v3/brokerage/accounts
  $ {0} GET $URL --header | curl -H @- $URL
"""
FLAGS: Final = ("export", "header", "help", "version")
VALUED: Final = ("host=", "key-file=", "key-name=", "not-before=")


class _UsageError(CdpError):
    """The command line cannot be understood."""


def _unknown(what: str, word: str, known: Sequence[str]) -> _UsageError:
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "see --help"
    return _UsageError(f"unknown {what}; {hint}")


def _parse_arguments(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options (a flag's value is "") and the words."""
    import getopt

    try:
        options, words = getopt.gnu_getopt([*arguments], "h", [*FLAGS, *VALUED])
    except getopt.GetoptError as error:
        known = [f"--{name.rstrip('=')}" for name in (*FLAGS, *VALUED)]
        if f"--{error.opt}" not in known:
            raise _unknown("option", f"--{error.opt}", known) from None
        needs = "takes no value" if error.opt in FLAGS else "needs a value"
        raise _UsageError(f"--{error.opt} {needs}") from None
    return {name.lstrip("-"): value for name, value in options}, words


def _option_key(options: Mapping[str, str]) -> ApiKey:
    path = options.get("key-file", os.environ.get("CDP_KEY_FILE") or None)
    if path is not None:
        return ApiKey.from_file(path, options.get("key-name"))
    if "key-name" in options:
        raise _UsageError("--key-name goes with --key-file or CDP_KEY_FILE")
    return ApiKey.from_env()


def _option_time(options: Mapping[str, str]) -> int | datetime | None:
    text = options.get("not-before")
    if text is None:
        return None
    if re.fullmatch(r"\+[0-9]{1,9}", text):
        return int(time.time()) + int(text)
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    except ValueError:
        moment = datetime.min
    if moment.utcoffset() is None:
        raise _UsageError("--not-before takes +SECONDS or 2026-11-22T15:00:00Z")
    return moment


def _token_line(command: str, rest: list[str], options: Mapping[str, str]) -> str:
    """Return what goes to standard output: a token, bare or wrapped."""
    if command == "ws":
        if rest and {"export", "header", "not-before"} & options.keys():
            raise _UsageError("ws CHANNEL prints a message, not a token")
        if rest:
            return ws_message(rest[0], rest[1:], key=_option_key(options))
        token = _option_key(options).ws_jwt(not_before=_option_time(options))
    else:
        if len(rest) != 1:
            raise _UsageError(f"METHOD takes one PATH; {len(rest)} were given")
        not_before = _option_time(options)
        uri = format_jwt_uri(command, rest[0], options.get("host", DEFAULT_HOST))
        token = _option_key(options)._issue(uri, not_before)
    if "export" in options:
        return f"export JWT='{token}'"  # a token has no quotes
    return f"Authorization: Bearer {token}" if "header" in options else token


def _run(arguments: Sequence[str], program: str) -> int:
    options, words = _parse_arguments(arguments)
    if options.keys() & {"help", "h"}:
        print((SYNOPSIS + HELP).format(program), end="")
    elif "version" in options:
        print(f"cdp_jwt {__version__}")
    elif not words:
        print(SYNOPSIS.format(program), end="", file=sys.stderr)
        return 2
    elif words[0] != "ws" and words[0].upper() not in METHODS:
        raise _unknown("command or method", words[0], ("ws", *METHODS))
    elif {"export", "header"} <= options.keys():
        raise _UsageError("--export and --header exclude each other")
    elif MISSING:
        raise CdpError(MISSING)
    else:
        print(_token_line(words[0], words[1:], options))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 (failed), 2 (usage), 130 (Ctrl-C) or 141 (pipe)."""
    global _show_warning
    file = os.path.basename(sys.argv[0])
    name, extension = os.path.splitext(file)

    def say(kind: str, message: str) -> None:
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
        if sys.stderr:  # else print would use standard output
            print(f"{name}: {kind}: {shown}", file=sys.stderr)

    _show_warning = partial(say, "warning")
    if sys.stdout is None:
        say("error", "standard output is closed")
        return 1
    try:
        arguments = sys.argv[1:] if argv is None else argv
        code = _run(arguments, f"python {file}" if extension == ".py" else name)
        sys.stdout.flush()
        return code
    except CdpError as error:
        say("error", str(error))
        return 2 if isinstance(error, _UsageError) else 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # standard output is closed or full
        # At exit Python would flush it again, and complain (documentation of `signal`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141
        say("error", f"standard output cannot be written: {error.strerror}")
        return 1
    finally:
        _show_warning = None


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
