"""The node's key: made here, never leaves the node (mode 0600). EC P-256.

Run as a program for the running agent, which renews without loading the cryptography package: that alone is 10 MiB of resident memory.
`python -I keys.py MESSAGE` needs nothing else of ours, reads nothing, and prints one JSON object: private_key and public_key (PEM) and
proof (base64).
"""

import asyncio
import base64
import hashlib
import json
import sys
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True)
class NewKey:
    """private_key: PEM, PKCS 8. public_key: PEM, SubjectPublicKeyInfo. proof: base64 of the signature over sha256(message)."""

    private_key: str
    public_key: str
    proof: str


def make(message: str) -> NewKey:
    """A new key and the proof that we have it (ECDSA with SHA-256 over the SHA-256 digest of the message)."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signature = key.sign(hashlib.sha256(message.encode()).digest(), ec.ECDSA(hashes.SHA256()))
    return NewKey(private.decode(), public.decode(), base64.b64encode(signature).decode())


async def make_apart(message: str) -> NewKey:
    """The same in a short-lived process. The message is a certificate's serial, no secret. Raises RuntimeError with what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", __file__, message),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    answer, said = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"no key could be made: {said.decode(errors='replace').strip()}")
    return msgspec.json.decode(answer, type=NewKey)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vars(make(sys.argv[1]))))
