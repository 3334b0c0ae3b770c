#!/usr/bin/env python3
"""Verifies an evidence pack of Atoll without any of Atoll's code, so that the format is what is trusted.

usage: verify.py PACK|DIR --trust roots.pem [--json]
exit 0 valid, 1 not valid (the first break: file, line, reason), 2 usage
Needs Python 3.9 and the package `cryptography` (or PyNaCl) for Ed25519; everything else is the standard library.
"""
import argparse
import base64
import hashlib
import io
import json
import os
import re
import stat
import sys
from datetime import datetime

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    def ed25519(raw, message, signature):
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
            return True
        except (InvalidSignature, ValueError):
            return False
except ImportError:
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    def ed25519(raw, message, signature):
        try:
            VerifyKey(raw).verify(message, signature)
            return True
        except (BadSignatureError, ValueError):
            return False


class Invalid(Exception):
    def __init__(self, file, line, reason):
        super().__init__(f"{file}{f' line {line}' if line else ''}: {reason}")
        self.file, self.line, self.reason = file, line, reason


# ---- JSON: strict reading, canonical writing (RFC 8785) ----

SAFE = 2**53 - 1


def no_duplicates(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands there twice")
    return members


def refuse_constant(name):
    raise ValueError(f"{name} is no JSON")


def integer(text):
    value = int(text)
    if abs(value) > SAFE:
        raise ValueError(f"{text} is beyond what is exact")
    return value


def parse(data, depth=64):
    value = json.loads(
        data.decode("utf-8"),
        object_pairs_hook=no_duplicates,
        parse_constant=refuse_constant,
        parse_int=integer,
    )
    if nesting(value) > depth:
        raise ValueError("nested too deeply")
    return value


def nesting(value):
    """How deep arrays and objects lie in each other, without recursion."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        if isinstance(item, (dict, list)):
            deepest = max(deepest, level)
            waiting.extend((x, level + 1) for x in (item.values() if isinstance(item, dict) else item))
    return deepest


def number(value):
    if isinstance(value, int):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("a number that is not finite")
    if value == 0:
        return "0"
    sign, value = ("-", -value) if value < 0 else ("", value)
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + ("" if fraction == "0" else fraction)
    point = len(whole) + int(exponent or "0")
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    k, n = len(digits), point
    if k <= n <= 21:
        return sign + digits + "0" * (n - k)
    if 0 < n <= 21:
        return sign + digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return sign + "0." + "0" * -n + digits
    e = n - 1
    return f"{sign}{digits[0]}{'.' + digits[1:] if k > 1 else ''}e{'+' if e > 0 else '-'}{abs(e)}"


ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
SPECIAL = re.compile(r'["\\\x00-\x1f]')


def string(text):
    text.encode("utf-8")  # refuses lone surrogates
    return '"' + SPECIAL.sub(lambda m: ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04x}", text) + '"'


def canonical(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, str):
        return string(value)
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    keys = sorted(value, key=lambda k: k.encode("utf-16-be"))
    return "{" + ",".join(f"{string(k)}:{canonical(value[k])}" for k in keys) + "}"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def closed(value, names):
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    if set(value) != set(names):
        raise ValueError(f"members differ: {sorted(set(value) ^ set(names))}")
    return value


HASH = re.compile(r"sha256:[0-9a-f]{64}\Z")
SESSION = re.compile(r"ses_[0-9a-f]{32}\Z")
KEY = re.compile(r"ed25519:[0-9a-f]{16}\Z")
SIG = re.compile(r"[0-9a-f]{128}\Z")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


def match(form, value, name):
    if not isinstance(value, str) or not form.match(value):
        raise ValueError(f"{name} is malformed")
    return value


def a_hash(value, name):
    return match(HASH, value, name)


def hash_or(word, value, name):
    return value if value == word else a_hash(value, name)


def count(value, name, least=0):
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= SAFE:
        raise ValueError(f"{name} is no number from {least}")
    return value


def a_list(value, name):
    if not isinstance(value, list):
        raise ValueError(f"{name} is no array")
    return value


# ---- keys ----

P = 2**255 - 19
ROLES = "policy ceiling approver override registrar ledger issuer guardian peer".split()
LOW_ORDER_Y = {
    0,
    1,
    P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
}


def sound_point(raw):
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    return y < P and y not in LOW_ORDER_Y


class Key:
    def __init__(self, role, raw):
        if len(raw) != 32 or not sound_point(raw):
            raise ValueError("not a sound Ed25519 key")
        self.role, self.raw = role, raw
        self.id = "ed25519:" + hashlib.sha256(raw).hexdigest()[:16]

    def verify(self, message, sig):
        signature = bytes.fromhex(sig)
        return sound_point(signature[:32]) and ed25519(self.raw, message, signature)


SPKI = bytes.fromhex("302a300506032b6570032100")


def read_roots(path):
    keys, role, block = {}, None, None
    with open(path, encoding="utf-8") as file:
        for line in file.read().split("\n"):
            line = line.rstrip()
            if block is not None:
                if line != "-----END PUBLIC KEY-----":
                    block.append(line)
                    continue
                der = base64.b64decode("".join(block), validate=True)
                if role is None or not der.startswith(SPKI):
                    raise ValueError("a key without a role, or no Ed25519 key")
                key = Key(role, der[len(SPKI) :])
                if key.id in keys:
                    raise ValueError(f"key {key.id} stands there twice")
                keys[key.id], role, block = key, None, None
            elif line == "-----BEGIN PUBLIC KEY-----":
                block = []
            elif line.startswith("role:"):
                role = line[5:].strip()
                if role not in ROLES:
                    raise ValueError(f"`{role}` is no role")
            elif line and not line.startswith("#"):
                raise ValueError(f"unexpected line `{line}`")
    return keys


# ---- the tree (RFC 6962) ----


def node_leaf(node_hash):
    return hashlib.sha256(b"\0" + bytes.fromhex(node_hash[7:])).digest()


def inner(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    def __init__(self):
        self.size, self.stack = 0, []

    def append(self, node_hash):
        value, n = node_leaf(node_hash), self.size
        while n % 2 == 1:
            value, n = inner(self.stack.pop(), value), n // 2
        self.stack.append(value)
        self.size += 1

    def root(self):
        if not self.stack:
            return sha256(b"")
        value = self.stack[-1]
        for left in reversed(self.stack[:-1]):
            value = inner(left, value)
        return "sha256:" + value.hex()


def included(node_hash, index, size, path, root):
    """RFC 9162, 2.1.3.2."""
    if index >= size:
        return False
    fn, sn, value = index, size - 1, node_leaf(node_hash)
    for step in path:
        if sn == 0:
            return False
        sibling = bytes.fromhex(step[7:])
        if fn % 2 == 1 or fn == sn:
            value = inner(sibling, value)
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn // 2, sn // 2
        else:
            value = inner(value, sibling)
        fn, sn = fn // 2, sn // 2
    return sn == 0 and "sha256:" + value.hex() == root


# ---- the files of a pack ----

PATHS = re.compile(
    r"(manifest\.(json|sig)|checkpoints\.jsonl|nodes/ses_[0-9a-f]{32}\.jsonl|proofs/[0-9a-f]{64}\.json"
    r"|trust/(events\.jsonl|snapshot\.json)|(policies|schemas|bundles)/[0-9a-f]{64}\.json"
    r"|replay/(inputs\.jsonl|run\.sh))\Z"
)
BLOCK = 512


class Part:
    """A stretch of a file, read as a stream."""

    def __init__(self, path, opened, begin, size):
        self.path, self.opened, self.begin, self.size = path, opened, begin, size

    def read(self):
        return b"".join(self.chunks())

    def chunks(self):
        at, end = self.begin, self.begin + self.size
        while at < end:
            self.opened.seek(at)
            data = self.opened.read(min(1 << 16, end - at))
            if not data:
                raise Invalid(self.path, 0, "ends early")
            at += len(data)
            yield data

    def at(self, begin, size):
        self.opened.seek(self.begin + begin)
        return self.opened.read(size)

    def lines(self):
        held, n = b"", 0
        for chunk in self.chunks():
            *whole, held = (held + chunk).split(b"\n")
            for line in whole:
                n += 1
                yield n, line
        if held:
            raise Invalid(self.path, n + 1, "the line does not end")


def header_of(path, size):
    header = bytearray(BLOCK)
    header[0 : len(path)] = path.encode("ascii")
    header[100:136] = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size
    header[136:156] = b"00000000000\0" + b" " * 8
    header[156:157] = b"0"
    header[257:265] = b"ustar\x0000"
    header[329:345] = b"0000000\0" * 2
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def read_tar(path):
    opened = open(path, "rb")
    total = opened.seek(0, io.SEEK_END)
    files, at, last = {}, 0, ""

    def take(begin, length):
        opened.seek(begin)
        return opened.read(length)

    while True:
        header = take(at, BLOCK)
        if len(header) < BLOCK:
            raise Invalid(last, 0, "the tar ends without two zero blocks")
        if header == bytes(BLOCK):
            break
        name = header[:100].rstrip(b"\0").decode("latin-1")
        if not PATHS.match(name):
            raise Invalid(last, 0, f"`{name}` has no place in a pack")
        if not re.fullmatch(rb"[0-7]{11}\0", header[124:136]):
            raise Invalid(last, 0, f"the size of `{name}` is malformed")
        size = int(header[124:135], 8)
        if header != header_of(name, size):
            raise Invalid(last, 0, f"the header of `{name}` is not the one that a pack has")
        if name <= last:
            raise Invalid(last, 0, f"`{name}` is out of order or there twice")
        last, begin = name, at + BLOCK
        padding = -size % BLOCK
        if begin + size + padding > total:
            raise Invalid(name, 0, "is longer than the tar")
        if take(begin + size, padding) != bytes(padding):
            raise Invalid(name, 0, "bytes follow its end")
        files[name] = Part(name, opened, begin, size)
        at = begin + size + padding
    if take(at, 2 * BLOCK) != bytes(2 * BLOCK) or total != at + 2 * BLOCK:
        raise Invalid(last, 0, "a pack ends with two zero blocks and nothing else")
    return files


def read_folder(root):
    files = {}
    for folder, _, names in os.walk(root):
        for name in names:
            full = os.path.join(folder, name)
            path = os.path.relpath(full, root)
            if not stat.S_ISREG(os.lstat(full).st_mode):
                raise Invalid(path, 0, "is not a plain file")
            if not PATHS.match(path):
                raise Invalid(path, 0, "has no place in a pack")
            files[path] = Part(path, open(full, "rb"), 0, os.lstat(full).st_size)
    return files


def exact(part, line, data):
    """The value of bytes that are its canonical form and nothing else."""
    try:
        value = parse(data)
        if canonical(value).encode("utf-8") != data:
            raise ValueError("is not in canonical form")
        return value
    except (ValueError, RecursionError) as error:
        raise Invalid(part, line, str(error)) from error


# ---- nodes ----

NODE = "type kind session_id lamport prev_hash parents issued_at key_id body sig".split()
RECEIPT = (
    "type receipt_id decision_id effect_id call_id principal delegator tool effect_class source verdict reason_code "
    "rule_id status args_hash output_hash policy_hash ceiling_hash overlay_hash gates_hash facts_hash expires_at usage"
).split()
USAGE = (
    "calls tokens_in tokens_out cost_microusd bytes_in bytes_out duration_ms gas gas_limit gas_schedule peak_pages"
).split()
VERDICTS = {
    "PERMITTED": "ALLOW",
    "SUCCEEDED": "ALLOW",
    "FAILED": "ALLOW",
    "UNKNOWN": "ALLOW",
    "DENIED": "DENY",
    "ESCALATED": "ESCALATE",
}


def read_receipt(body):
    closed(body, RECEIPT)
    if body["type"] != "atoll.dev/receipt/v1":
        raise ValueError("is no receipt")
    if VERDICTS.get(body["status"]) != body["verdict"]:
        raise ValueError("status does not go with verdict")
    for name in USAGE:
        count(closed(body["usage"], USAGE)[name], name)
    for name in RECEIPT:
        if name.endswith("_hash"):
            hash_or("", body[name], name)
    return body


def read_node(value):
    closed(value, NODE)
    if value["type"] != "atoll.dev/node/v1":
        raise ValueError("is no node")
    if value["kind"] not in ("INTENT", "EFFECT", "ATTESTATION", "TRUST_EVENT", "CHECKPOINT"):
        raise ValueError("kind is unknown")
    match(SESSION, value["session_id"], "session_id")
    lamport = count(value["lamport"], "lamport", 1)
    previous = hash_or("genesis", value["prev_hash"], "prev_hash")
    if (previous == "genesis") != (lamport == 1):
        raise ValueError("genesis belongs to lamport 1")
    parents = [a_hash(p, "parents") for p in a_list(value["parents"], "parents")]
    if sorted(set(parents)) != parents:
        raise ValueError("parents are not sorted, each once")
    match(TIME, value["issued_at"], "issued_at")
    datetime.strptime(value["issued_at"], "%Y-%m-%dT%H:%M:%S.%fZ")
    match(KEY, value["key_id"], "key_id")
    match(SIG, value["sig"], "sig")
    if not isinstance(value["body"], dict):
        raise ValueError("body is no object")
    return value


# ---- the trust registry, and who speaks in a guardian's log ----

ROTATION = "atoll.dev/key-rotation/v1"
ACTS = {
    ROTATION: ["old", "key"],
    "atoll.dev/key-revocation/v1": ["key", "reason", "honoured"],
    "atoll.dev/role-grant/v1": ["role", "key"],
    "atoll.dev/role-revocation/v1": ["role", "key"],
    "atoll.dev/policy-revocation/v1": ["bundleId", "version", "layer", "reason"],
    "atoll.dev/unfreeze/v1": ["freeze", "reason"],
}
SCOPE = re.compile(r"(all|gs/[a-z0-9.-]+|pod/[A-Za-z0-9-]+)\Z")


def text(value, name, most=500):
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{name} is no text of {most} characters")
    return value


def a_key(value):
    closed(value, ["key_id", "public_key"])
    if not re.match(r"[0-9a-f]{64}\Z", str(value["public_key"])):
        raise ValueError("public_key is malformed")
    key = Key("guardian", bytes.fromhex(value["public_key"]))
    if key.id != value["key_id"]:
        raise ValueError("key_id is not the key's")
    return key


def read_act(value, kind):
    closed(value, ["type", "at", "key_id", "sig", *ACTS[kind]])
    if value["type"] != kind:
        raise ValueError(f"is no {kind}")
    match(TIME, value["at"], "at")
    match(KEY, value["key_id"], "key_id")
    match(SIG, value["sig"], "sig")
    if "reason" in ACTS[kind]:
        text(value["reason"], "reason")
    return value


def signed_by(key, value):
    unsigned = {name: member for name, member in value.items() if name != "sig"}
    return key.verify(canonical(unsigned).encode("utf-8"), value["sig"])


def successor(body, old):
    """The key that a hand-over names, if the old key has signed it."""
    closed(body, ["type", "event", "rotation"])
    act = read_act(body["rotation"], ROTATION)
    if body["type"] != "atoll.dev/trust-event/v1" or act["old"] != old.id or act["key_id"] != old.id:
        raise ValueError("is another key's hand-over")
    if not signed_by(old, act):
        raise ValueError("the old key has not signed the hand-over")
    return a_key(act["key"])


class Record:
    def __init__(self, key, role, begins, after=None, pod=None):
        self.key, self.role, self.begins, self.after, self.pod = key, role, begins, after, pod
        self.until, self.end, self.honoured = None, "", ""


class Registry:
    """Keys by the reader's roots, and by the events that a registrar among them signed."""

    def __init__(self, roots):
        self.roots = set(roots)
        self.keys = {id: Record(key, key.role, 0) for id, key in roots.items()}
        self.pods, self.freezes, self.hashes = {}, set(), []
        self.session, self.head, self.published = None, "genesis", []

    def key(self, role, id):
        found = self.keys.get(id)
        if found is None or found.role != role or found.until is not None:
            raise ValueError(f"{id} has no say in this as {role}")
        return found.key

    def act(self, body, member, kind, role):
        closed(body, ["type", "event", member])
        value = read_act(body[member], kind)
        if not signed_by(self.key(role(value), value["key_id"]), value):
            raise ValueError(f"the signature in {member} does not verify")
        return value

    def root(self, value):
        if value["key_id"] not in self.roots:
            raise ValueError(f"{value['key_id']} is no trust root")
        return value

    def known(self, id, revoking=False):
        found = self.keys.get(id)
        if found is None or found.end and not (revoking and found.end == "rotated"):
            raise ValueError(f"{id} is unknown, or closed")
        return found

    def admit(self, key, role, after=None, pod=None):
        if key.id in self.keys:
            raise ValueError(f"{key.id} has a role already")
        self.keys[key.id] = Record(key, role, len(self.hashes) + 1, after, pod)

    def close(self, id, end, honoured=""):
        found = self.known(id, end == "revoked")
        found.until = found.until or len(self.hashes) + 1
        found.end, found.honoured = end, honoured

    def apply(self, value, data):
        read_node(value)
        if value["kind"] != "TRUST_EVENT":
            raise ValueError("the registry holds trust events only")
        if self.session not in (None, value["session_id"]):
            raise ValueError("the event is of another chain")
        if (value["lamport"], value["prev_hash"]) != (len(self.hashes) + 1, self.head):
            raise ValueError(f"event {len(self.hashes) + 1} after {self.head} was expected")
        if not signed_by(self.key("registrar", value["key_id"]), value):
            raise ValueError("the signature does not verify")
        if value["body"].get("type") != "atoll.dev/trust-event/v1":
            raise ValueError("is no trust event")
        node_hash = sha256(data)
        self.perform(value["body"], node_hash)
        self.session, self.head = value["session_id"], node_hash
        self.hashes.append(node_hash)

    def perform(self, body, node_hash):
        event, at = body.get("event"), len(self.hashes) + 1
        if event == "KEY_PUBLISH":
            closed(body, ["type", "event", "key", "pod_uid", "service_account", "image", "bundle_hash"])
            pod = text(body["pod_uid"], "pod_uid", 200)
            text(body["service_account"], "service_account", 300)
            text(body["image"], "image")
            a_hash(body["bundle_hash"], "bundle_hash")
            if pod in self.pods:
                raise ValueError(f"pod {pod} has published its key already")
            key = a_key(body["key"])
            self.admit(key, "guardian", pod=pod)
            self.pods[pod] = key.id
            self.line(pod, key, at)
        elif event == "KEY_ROTATE":
            act = self.act(body, "rotation", ROTATION, lambda a: self.known(a["key_id"]).role)
            if act["old"] != act["key_id"]:
                raise ValueError("only the old key can name its successor")
            old, key = self.known(act["old"]), a_key(act["key"])
            self.admit(key, old.role, act["old"], old.pod)
            self.close(act["old"], "rotated")
            line = self.ended(act["old"], at, "rotated", "")
            if old.pod is not None:
                self.pods[old.pod] = key.id
            self.line(line["pod_uid"] if line else "", key, at)
        elif event == "KEY_REVOKE" and "revocation" in body:
            kind = "atoll.dev/key-revocation/v1"
            act = self.root(self.act(body, "revocation", kind, lambda a: self.known(a["key"], True).role))
            self.revoke(act["key"], hash_or("", act["honoured"], "honoured"), at)
        elif event == "KEY_REVOKE":
            closed(body, ["type", "event", "key", "honoured", "reason", "at"])
            if self.known(body["key"], True).role != "guardian":
                raise ValueError("the registrar revokes guardians' keys and no others")
            text(body["reason"], "reason")
            match(TIME, body["at"], "at")
            self.revoke(body["key"], hash_or("", body["honoured"], "honoured"), at)
        elif event == "ROLE_GRANT":
            act = self.root(self.act(body, "grant", "atoll.dev/role-grant/v1", lambda a: a["role"]))
            if act["role"] not in ROLES:
                raise ValueError("is no role")
            self.admit(a_key(act["key"]), act["role"])
        elif event == "ROLE_REVOKE":
            kind = "atoll.dev/role-revocation/v1"
            act = self.root(self.act(body, "revocation", kind, lambda a: a["role"]))
            if self.known(act["key"]).role != act["role"]:
                raise ValueError(f"{act['key']} does not have this role")
            self.close(act["key"], "revoked")
        elif event == "POLICY_REVOKE":
            kind = "atoll.dev/policy-revocation/v1"
            act = self.act(body, "revocation", kind, lambda a: "ceiling" if a["layer"] == "P0" else "policy")
            if act["layer"] not in ("P0", "P1"):
                raise ValueError("layer is malformed")
            text(act["bundleId"], "bundleId")
            count(act["version"], "version", 1)
        elif event == "FREEZE":
            closed(body, ["type", "event", "scope", "reason", "by", "at"])
            match(SCOPE, text(body["scope"], "scope", 300), "scope")
            text(body["reason"], "reason")
            text(body["by"], "by")
            match(TIME, body["at"], "at")
            self.freezes.add(node_hash)
        elif event == "UNFREEZE":
            act = self.act(body, "unfreeze", "atoll.dev/unfreeze/v1", lambda a: "approver")
            if a_hash(act["freeze"], "freeze") not in self.freezes:
                raise ValueError("names no freeze that is in force")
            self.freezes.remove(act["freeze"])
        else:
            raise ValueError("does not belong into the registry")

    def revoke(self, id, honoured, at):
        self.close(id, "revoked", honoured)
        self.ended(id, at, "revoked", honoured)

    # What the snapshot lists.
    def line(self, pod, key, at):
        names = {"pod_uid": pod, "key_id": key.id, "public_key": key.raw.hex(), "from": at}
        self.published.append({**names, "until": 0, "end": "", "honoured": ""})

    def ended(self, id, at, end, honoured):
        for line in self.published:
            if line["key_id"] == id:
                line.update(until=line["until"] or at, end=end, honoured=honoured)
                return line
        return None

    def snapshot(self):
        value = {
            "type": "atoll.dev/trust-snapshot/v1",
            "height": len(self.hashes),
            "head": self.head,
            "guardians": self.published,
        }
        return canonical(value).encode("utf-8")

    # What a guardian's log is held against.
    def guardian(self, id):
        found = self.keys.get(id)
        return found if found is not None and found.role == "guardian" else None

    def follows(self, old, key):
        found = self.keys.get(key.id)
        if found is not None:
            return found.role == "guardian" and found.after == old.id
        return old.id not in self.keys or old.id in self.roots

    def head_fault(self, head, id):
        if not self.hashes:
            return ""
        height, found = head["height"], self.keys.get(id)
        if height > len(self.hashes) or height and self.hashes[height - 1] != head["hash"]:
            return "the checkpoint names another registry"
        if found is not None and found.until is not None and height >= found.until:
            return "the checkpoint knows that its key was closed"
        if found is not None and found.after is not None and height < found.begins:
            return "the checkpoint's key had not been published where it stands"
        return ""


class Succession:
    """Which key speaks in a log: one at a time, each named by the one before."""

    def __init__(self, registry):
        self.registry, self.current, self.next = registry, None, None
        self.former, self.past, self.waiting, self.height = {}, set(), {}, 0

    def key_of(self, node, node_hash):
        self.settle()
        id = node["key_id"]
        if self.current is None:
            found = self.registry.guardian(id)
            if found is None or found.after is not None:
                raise ValueError(f"key {id} is not trusted for this")
            self.current = found.key
        if id != self.current.id:
            raise ValueError(f"key {id} is not the key in force")
        self.honour(id, node, node_hash)
        if node["kind"] == "TRUST_EVENT" and node["body"].get("event") == "KEY_ROTATE":
            key = successor(node["body"], self.current)
            if key.id == id or key.id in self.former or not self.registry.follows(self.current, key):
                raise ValueError(f"{key.id} may not follow")
            self.next = key
        return self.current

    def settle(self):
        if self.next is not None:
            self.former[self.current.id] = self.current
            self.current, self.next = self.next, None

    def honour(self, id, node, node_hash):
        found = self.registry.keys.get(id)
        if found is None or found.end != "revoked":
            return
        if found.honoured == "" or id in self.past:
            raise ValueError(f"{id} was revoked")
        if node_hash == found.honoured and node["kind"] == "CHECKPOINT":
            self.past.add(id)
            self.waiting.pop(id, None)
        else:
            self.waiting.setdefault(id, node)

    def checkpoint(self, head, id):
        said = self.registry.head_fault(head, id)
        if said == "" and self.registry.hashes and head["height"] < self.height:
            said = "the checkpoint names an older registry than the one before"
        if said:
            raise ValueError(said)
        self.height = head["height"]


class Graph:
    def __init__(self, registry, whole):
        self.registry, self.whole, self.succession = registry, whole, Succession(registry)
        # In a pack of some sessions: the key of each node, found beforehand in the order of the proofs.
        self.found = None
        self.heads, self.tree, self.seen = {}, Tree(), set()
        self.condensed, self.open, self.checkpoints = {}, {}, {}
        self.moved, self.last_checkpoint, self.only_checkpoints = set(), "genesis", True
        # Hashes of the arguments of calls to models.
        self.model_calls = set()

    def chain(self, session, lamport, previous):
        head = self.heads.get(session, (0, "genesis"))
        if lamport != head[0] + 1:
            raise ValueError(f"lamport {head[0] + 1} was expected, found {lamport}")
        if previous != head[1]:
            raise ValueError("prev_hash is not the hash of the node before")

    def take(self, session, lamport, node_hash):
        self.heads[session] = (lamport, node_hash)
        self.tree.append(node_hash)
        self.seen.add(node_hash)
        self.moved.add(session)

    def link(self, session, value):
        closed(value, ["type", "node_hash", "prev_hash", "lamport"])
        node_hash = a_hash(value["node_hash"], "node_hash")
        previous = hash_or("genesis", value["prev_hash"], "prev_hash")
        self.chain(session, count(value["lamport"], "lamport", 1), previous)
        self.condensed[node_hash] = self.tree.size
        self.take(session, value["lamport"], node_hash)
        self.only_checkpoints = False
        return node_hash

    def node(self, session, value, data):
        read_node(value)
        if value["session_id"] != session:
            raise ValueError("is a node of another session")
        self.chain(session, value["lamport"], value["prev_hash"])
        key = self.key_of(value, sha256(data)) if self.found is None else self.found.get(sha256(data))
        if not isinstance(key, Key):
            raise ValueError(key or "no key for this node")
        unsigned = {name: member for name, member in value.items() if name != "sig"}
        if not key.verify(canonical(unsigned).encode("utf-8"), value["sig"]):
            raise ValueError("the signature does not verify")
        if self.whole and not self.seen.issuperset(value["parents"]):
            raise ValueError("a parent is unknown")
        node_hash = sha256(data)
        self.body(value, node_hash)
        if str(value["body"].get("tool", "")).startswith("model:"):
            self.model_calls.add(value["body"].get("args_hash"))
        self.take(session, value["lamport"], node_hash)
        self.only_checkpoints = value["kind"] == "CHECKPOINT"
        if self.only_checkpoints:
            self.last_checkpoint = node_hash
            self.moved.clear()
        return node_hash

    def key_of(self, value, node_hash):
        ledger = self.registry.keys.get(value["key_id"])
        if value["kind"] == "CHECKPOINT" and ledger is not None and ledger.role == "ledger":
            return ledger.key
        return self.succession.key_of(value, node_hash)

    def body(self, value, node_hash):
        kind, body = value["kind"], value["body"]
        if kind == "INTENT":
            if read_receipt(body)["status"] != "PERMITTED":
                raise ValueError("an INTENT's receipt is PERMITTED")
            self.open[node_hash] = (value["session_id"], body["effect_id"])
        elif kind == "EFFECT":
            if read_receipt(body)["status"] not in ("SUCCEEDED", "FAILED", "UNKNOWN"):
                raise ValueError("an EFFECT's receipt states an outcome")
            for parent in value["parents"]:
                if self.open.get(parent) == (value["session_id"], body["effect_id"]):
                    del self.open[parent]
                    return
            if not any(parent in self.condensed for parent in value["parents"]):
                raise ValueError("no open INTENT of this effect is among the parents")
        elif kind == "ATTESTATION" and body.get("type") == "atoll.dev/receipt/v1":
            if read_receipt(body)["status"] not in ("DENIED", "ESCALATED", "PERMITTED"):
                raise ValueError("an ATTESTATION's receipt states a verdict")
        elif kind == "CHECKPOINT":
            self.checkpoint(value, node_hash)

    def checkpoint(self, value, node_hash):
        body = closed(value["body"], ["type", "tree_size", "root_hash", "prev_checkpoint", "trust_head"])
        if body["type"] != "atoll.dev/checkpoint/v1":
            raise ValueError("is no checkpoint")
        size, root = count(body["tree_size"], "tree_size"), a_hash(body["root_hash"], "root_hash")
        previous = hash_or("genesis", body["prev_checkpoint"], "prev_checkpoint")
        trust = closed(body["trust_head"], ["height", "hash"])
        if (count(trust["height"], "height") == 0) != (hash_or("genesis", trust["hash"], "hash") == "genesis"):
            raise ValueError("genesis belongs to height 0")
        self.succession.checkpoint(trust, value["key_id"])
        self.checkpoints[node_hash] = (size, root)
        if not self.whole:
            return
        if size != self.tree.size or root != self.tree.root():
            raise ValueError("is not the root of the nodes before")
        if previous != self.last_checkpoint:
            raise ValueError("prev_checkpoint is not the checkpoint before")
        if self.only_checkpoints:
            raise ValueError("nothing was added since the checkpoint before")
        heads = sorted(self.heads[s][1] for s in self.moved if s != value["session_id"])
        if heads != value["parents"]:
            raise ValueError("parents are not the heads of the other sessions that moved")


# ---- the pack ----

RUN_SH = b"""#!/bin/sh
# Decides every recorded call again: sh replay/run.sh PACK
exec atoll replay "$1"
"""


def proof_path(node_hash):
    return f"proofs/{node_hash[7:]}.json"


class Pack:
    def __init__(self, files, keys):
        self.files, self.keys = files, keys
        self.readers = {}

    def need(self, path):
        if path not in self.files:
            raise Invalid(path, 0, "is missing")
        return self.files[path]

    def sessions(self):
        return sorted(path[6:-6] for path in self.files if path.startswith("nodes/"))

    def verify(self):
        manifest, sig = self.manifest()
        self.registry = self.trust()
        self.signer(sig, False)
        self.entries(manifest)
        orders = self.orders(manifest)
        whole = not orders or any(line["order"] for line in orders)
        self.graph = Graph(self.registry, whole)
        if whole:
            self.verify_whole(manifest, orders)
        else:
            self.graph.found = self.keys_by_place()
            self.verify_sessions(manifest, orders)
        for node in self.graph.succession.waiting.values():
            path = f"nodes/{node['session_id']}.jsonl"
            raise Invalid(path, node["lamport"], f"{node['key_id']} was revoked, and nothing honours this node")
        self.signer(sig, True)
        self.documents()
        return {
            "nodes": self.graph.tree.size,
            "condensed": len(self.graph.condensed),
            "checkpoints": len(self.graph.checkpoints),
            "tree_size": manifest["tree_size"],
            "root_hash": manifest["root_hash"],
        }

    def manifest(self):
        data = self.need("manifest.json").read()
        sig = exact("manifest.sig", 0, self.need("manifest.sig").read())
        manifest = exact("manifest.json", 0, data)
        try:
            closed(sig, ["type", "manifest_hash", "key_id", "sig"])
            if sig["type"] != "atoll.dev/manifest-sig/v1":
                raise ValueError("is no signature of a manifest")
            match(SIG, sig["sig"], "sig")
        except ValueError as error:
            raise Invalid("manifest.sig", 0, str(error)) from error
        if sig["manifest_hash"] != sha256(data):
            raise Invalid("manifest.json", 0, "is not the manifest that was signed")
        try:
            names = ["type", "sessions", "entries", "tree_size", "root_hash", "trust_root_ids", "spec"]
            closed(manifest, names)
            if manifest["type"] != "atoll.dev/evidence/v1" or manifest["spec"] != "atoll.dev/evidence-spec/1":
                raise ValueError("is of another type")
            count(manifest["tree_size"], "tree_size")
            a_hash(manifest["root_hash"], "root_hash")
            for session in a_list(manifest["sessions"], "sessions"):
                match(SESSION, session, "sessions")
            for key_id in a_list(manifest["trust_root_ids"], "trust_root_ids"):
                match(KEY, key_id, "trust_root_ids")
            for entry in a_list(manifest["entries"], "entries"):
                closed(entry, ["path", "sha256", "size"])
                if not isinstance(entry["path"], str) or len(entry["path"]) > 100:
                    raise ValueError("a path is malformed")
                a_hash(entry["sha256"], "sha256")
                count(entry["size"], "size")
        except ValueError as error:
            raise Invalid("manifest.json", 0, str(error)) from error
        return manifest, sig

    def signer(self, sig, after):
        """The manifest's key: of the roots or the registry; else, after the nodes, the one that the log has come to."""
        id = sig["key_id"]
        found = self.registry.keys.get(id)
        if found is not None and found.role == "guardian" and found.end == "revoked":
            raise Invalid("manifest.sig", 0, "is by a key that was revoked")
        key = found.key if found is not None and (id in self.keys or found.role == "guardian") else None
        if after:
            succession = self.graph.succession
            succession.settle()
            if id in succession.former:
                raise Invalid("manifest.sig", 0, "is by a key that has handed over")
            if key is None and succession.current is not None and succession.current.id == id:
                key = succession.current
            if key is None:
                raise Invalid("manifest.sig", 0, "is by a key that is not trusted here")
        if key is not None and not signed_by(key, sig):
            raise Invalid("manifest.sig", 0, "the signature does not verify")

    def trust(self):
        registry = Registry(self.keys)
        events, snapshot = "trust/events.jsonl", "trust/snapshot.json"
        if events not in self.files:
            if snapshot in self.files:
                raise Invalid(snapshot, 0, "is there without the events it is of")
            return registry
        for n, data in self.files[events].lines():
            value = exact(events, n, data)
            try:
                registry.apply(value, data)
            except (ValueError, KeyError, TypeError) as error:
                raise Invalid(events, n, str(error)) from error
        if self.need(snapshot).read() != registry.snapshot():
            raise Invalid(snapshot, 0, "is not what the events end in")
        return registry

    def keys_by_place(self):
        """In a pack of some sessions the order of writing is in the proofs."""
        places, nodes, found = {}, [], {}
        for path, part in self.files.items():
            if path.startswith("proofs/"):
                value = exact(path, 0, part.read())
                try:
                    places[a_hash(value["node_hash"], "node_hash")] = count(value["index"], "index")
                except (ValueError, KeyError, TypeError) as error:
                    raise Invalid(path, 0, str(error)) from error
        for path, part in self.files.items():
            if path.startswith("nodes/"):
                for n, data in part.lines():
                    value = exact(path, n, data)
                    if isinstance(value, dict) and value.get("type") == "atoll.dev/condensed/v1":
                        continue
                    try:
                        nodes.append((places.get(sha256(data), SAFE), sha256(data), read_node(value)))
                    except ValueError as error:
                        raise Invalid(path, n, str(error)) from error
        for _, node_hash, value in sorted(nodes, key=lambda item: item[0]):
            try:
                found[node_hash] = self.graph.key_of(value, node_hash)
            except ValueError as error:
                found[node_hash] = str(error)
        return found

    def entries(self, manifest):
        last = ""
        for entry in manifest["entries"]:
            path = entry["path"]
            if path <= last:
                raise Invalid("manifest.json", 0, f"`{path}` is out of order or there twice")
            last = path
            part = self.need(path)
            if part.size != entry["size"]:
                raise Invalid(path, 0, "has another size than the manifest lists")
            state = hashlib.sha256()
            for chunk in part.chunks():
                state.update(chunk)
            if "sha256:" + state.hexdigest() != entry["sha256"]:
                raise Invalid(path, 0, "is not what the manifest lists")
        listed = {entry["path"] for entry in manifest["entries"]}
        for path in self.files:
            if (path in ("manifest.json", "manifest.sig")) == (path in listed):
                raise Invalid(path, 0, "is not in the manifest, or lists itself")

    def orders(self, manifest):
        if "checkpoints.jsonl" not in self.files and manifest["tree_size"] == 0:
            return []
        lines = []
        for n, data in self.need("checkpoints.jsonl").lines():
            value = exact("checkpoints.jsonl", n, data)
            try:
                closed(value, ["type", "checkpoint", "order", "tree_size", "root_hash"])
                if value["type"] != "atoll.dev/checkpoint-line/v1":
                    raise ValueError("is of another type")
                hash_or("", value["checkpoint"], "checkpoint")
                count(value["tree_size"], "tree_size")
                a_hash(value["root_hash"], "root_hash")
                for run in a_list(value["order"], "order"):
                    if len(a_list(run, "order")) != 2:
                        raise ValueError("order is malformed")
                    match(SESSION, run[0], "order")
                    count(run[1], "order", 1)
            except ValueError as error:
                raise Invalid("checkpoints.jsonl", n, str(error)) from error
            lines.append(value)
        return lines

    def reader(self, session):
        path = f"nodes/{session}.jsonl"
        if path not in self.readers:
            lines = self.need(path).lines()
            self.readers[path] = [lines, next(lines, None)]
        return path, self.readers[path]

    def step(self, session):
        path, reader = self.reader(session)
        if reader[1] is None:
            raise Invalid(path, 0, "has fewer nodes than the order says")
        n, data = reader[1]
        reader[1] = next(reader[0], None)
        value = exact(path, n, data)
        try:
            if isinstance(value, dict) and value.get("type") == "atoll.dev/condensed/v1":
                return self.graph.link(session, value)
            return self.graph.node(session, value, data)
        except ValueError as error:
            raise Invalid(path, n, str(error)) from error

    def verify_whole(self, manifest, orders):
        graph = self.graph
        for i, line in enumerate(orders):
            last = None
            for session, length in line["order"]:
                for _ in range(length):
                    last = self.step(session)
            ends = line["checkpoint"]
            if (i != len(orders) - 1) if ends == "" else (ends != last or last not in graph.checkpoints):
                raise Invalid("checkpoints.jsonl", i + 1, "does not end with the checkpoint that it names")
            if (line["tree_size"], line["root_hash"]) != (graph.tree.size, graph.tree.root()):
                raise Invalid("checkpoints.jsonl", i + 1, "is not the tree of the nodes")
        for session in self.sessions():
            path, reader = self.reader(session)
            if reader[1] is not None:
                raise Invalid(path, reader[1][0], "has nodes that the order does not name")
        if (manifest["tree_size"], manifest["root_hash"]) != (graph.tree.size, graph.tree.root()):
            raise Invalid("manifest.json", 0, "is not the tree of the nodes")
        if manifest["sessions"] != self.sessions():
            raise Invalid("manifest.json", 0, "sessions are not those whose nodes are there")
        for path in sorted(self.files):
            if path.startswith("proofs/"):
                proof = self.proof(path)
                if graph.condensed.get(proof["node_hash"]) != proof["index"]:
                    raise Invalid(path, 0, "no condensed node is at its index")
        for node_hash in graph.condensed:
            self.need(proof_path(node_hash))

    def verify_sessions(self, manifest, orders):
        seen = []
        for session in self.sessions():
            while self.reader(session)[1][1] is not None:
                seen.append(self.step(session))
        anchor = orders[0]
        known = self.graph.checkpoints.get(anchor["checkpoint"])
        if len(orders) != 1 or known is None:
            raise Invalid("checkpoints.jsonl", 1, "does not name one checkpoint of the pack")
        for said in (anchor, manifest):
            if (said["tree_size"], said["root_hash"]) != known:
                raise Invalid("checkpoints.jsonl", 1, "is not the checkpoint's tree")
        proved = set()
        for path in sorted(self.files):
            if path.startswith("proofs/"):
                proof = self.proof(path)
                if proof["checkpoint"] != anchor["checkpoint"]:
                    raise Invalid(path, 0, "is not for the pack's checkpoint")
                proved.add(proof["node_hash"])
        wanted = set(seen) - {anchor["checkpoint"]}
        for node_hash in wanted ^ proved:
            raise Invalid(proof_path(node_hash), 0, "is missing, or proves a node that is not in the pack")
        for session in manifest["sessions"]:
            self.need(f"nodes/{session}.jsonl")

    def proof(self, path):
        value = exact(path, 0, self.files[path].read())
        try:
            closed(value, ["type", "node_hash", "index", "checkpoint", "path"])
            if value["type"] != "atoll.dev/inclusion/v1":
                raise ValueError("is of another type")
            a_hash(value["node_hash"], "node_hash")
            count(value["index"], "index")
            for step in a_list(value["path"], "path"):
                a_hash(step, "path")
            if proof_path(value["node_hash"]) != path:
                raise ValueError("is named for another node")
            known = self.graph.checkpoints.get(a_hash(value["checkpoint"], "checkpoint"))
            if known is None:
                raise ValueError("names a checkpoint that is not in the pack")
            if not included(value["node_hash"], value["index"], known[0], value["path"], known[1]):
                raise ValueError("the proof does not lead to the checkpoint's root")
        except ValueError as error:
            raise Invalid(path, 0, str(error)) from error
        return value

    def documents(self):
        for path, part in self.files.items():
            named = re.match(r"(policies|schemas|bundles)/([0-9a-f]{64})\.json\Z", path)
            if named:
                data = part.read()
                exact(path, 0, data)
                if sha256(data) != "sha256:" + named[2]:
                    raise Invalid(path, 0, "its content has another hash than its name")
            elif path == "replay/run.sh" and part.read() != RUN_SH:
                raise Invalid(path, 0, "is not the script that packs have")
            elif path == "replay/inputs.jsonl":
                self.inputs(path, part)

    def inputs(self, path, part):
        """Each input against its hash; a model call's arguments with the messages that they name in its list."""
        named = set()
        for n, data in part.lines():
            if b'{"$input":"sha256:' in data:
                named.update(self.input(path, n, data)[2])
        # Where each message lies; None: redacted.
        places, at = {}, 0
        for n, data in part.lines():
            id, value, messages = self.input(path, n, data)
            if id in named:
                if id in places:
                    raise Invalid(path, n, f"the message {id} is there twice")
                places[id] = None if value["redacted"] else (at, len(data))
            at += len(data) + 1
            for message in messages:
                if message not in places:
                    raise Invalid(path, n, f"names the message {message}, which is not before it")
            if messages and not value["redacted"] and all(places[m] for m in messages):
                whole = dict(value["value"])
                whole[message_list(whole)] = [parse(part.at(*places[m]), 70)["value"] for m in messages]
                if sha256(canonical(whole).encode("utf-8")) != id:
                    raise Invalid(path, n, "hash is not the hash of the value with its messages")

    def input(self, path, n, data):
        """Its hash, the record, and the messages that it names: none where the value is whole."""
        try:
            value = parse(data, 70)
            if canonical(value).encode("utf-8") != data:
                raise ValueError("is not in canonical form")
            closed(value, ["type", "hash", "redacted", "value"])
            if value["type"] != "atoll.dev/input/v1" or not isinstance(value["redacted"], bool):
                raise ValueError("is no input")
            id, redacted = a_hash(value["hash"], "hash"), value["redacted"]
            if not redacted and sha256(canonical(value["value"]).encode("utf-8")) == id:
                return id, value, []
            messages = named_messages(value["value"])
            if redacted:
                return id, value, messages if id in self.graph.model_calls else []
            if not messages:
                raise ValueError("hash is not the hash of the value")
            return id, value, messages
        except (ValueError, RecursionError) as error:
            raise Invalid(path, n, str(error)) from error


def message_list(value):
    """The member of a model call's arguments that holds its messages: a list of nothing but objects."""
    if isinstance(value, dict):
        for name in ("messages", "input"):
            items = value.get(name)
            if isinstance(items, list) and items and all(isinstance(item, dict) for item in items):
                return name
    return None


def named_messages(value):
    name = message_list(value)
    hashes = [item["$input"] if list(item) == ["$input"] else None for item in value[name]] if name else []
    return hashes if all(isinstance(h, str) and HASH.match(h) for h in hashes) else []


def main():
    arguments = argparse.ArgumentParser(description="Verifies an evidence pack.")
    arguments.add_argument("pack")
    arguments.add_argument("--trust", required=True)
    arguments.add_argument("--json", action="store_true")
    chosen = arguments.parse_args()
    try:
        keys = read_roots(chosen.trust)
    except (OSError, ValueError) as error:
        print(f"{chosen.trust}: {error}", file=sys.stderr)
        return 2
    try:
        files = read_folder(chosen.pack) if os.path.isdir(chosen.pack) else read_tar(chosen.pack)
        report = Pack(files, keys).verify()
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    except Invalid as error:
        if chosen.json:
            print(json.dumps({"valid": False, "file": error.file, "line": error.line, "reason": error.reason}))
        else:
            print(f"INVALID {chosen.pack}\n  {error}")
        return 1
    if chosen.json:
        print(json.dumps({"valid": True, **report}))
    else:
        print(f"VALID {chosen.pack}\n  {report['nodes']} nodes, root {report['root_hash']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
