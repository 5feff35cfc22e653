"""Ownership tokens: who was given which fresh certificate, and until when it may be claimed.

The registry holds a hash of each token, so that its file gives nobody the right to a certificate.
"""

from __future__ import annotations

import hashlib
import secrets
import time

_BYTES = 384  # 512 characters


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Ownership:
    """The tokens of one registry (rules `provisioning-token`, `provisioning-unclaimed`)."""

    def __init__(self, registry, settings, clock=time.time):
        """`settings.token_life`: seconds; `clock`: seconds since 1970."""
        self._db = registry.db
        self._settings = settings
        self._clock = clock

    def issue(self, certificate_id: str, claim_id: str) -> str:
        """A new token for a fresh certificate, for whoever connects with the claim."""
        token = secrets.token_urlsafe(_BYTES)
        self._db.execute(
            "INSERT INTO ownership_tokens VALUES (?,?,?,?)",
            (_hash(token), certificate_id, claim_id, self._clock()),
        )
        return token

    def certificate(self, token: str, claim_id: str) -> str | None:
        """The id of the certificate that this token stands for; None when it is unknown, used,
        too old, or another claim's (rule `provisioning-token-claim`)."""
        row = self._db.execute(
            "SELECT certificate, claim, issued FROM ownership_tokens WHERE hash = ?",
            (_hash(token),),
        ).fetchone()
        if row is None or row[1] != claim_id or self._clock() - row[2] >= self._life:
            return None
        return row[0]

    def use(self, token: str) -> None:
        """The token has done its work."""
        self._db.execute("DELETE FROM ownership_tokens WHERE hash = ?", (_hash(token),))

    @property
    def _life(self) -> float:
        return self._settings.token_life

    def sweep(self) -> list[str]:
        """Remove the certificates that nobody claimed in time; returns their ids."""
        oldest = self._clock() - self._life
        rows = self._db.execute(
            "SELECT certificate FROM ownership_tokens WHERE issued <= ?", (oldest,)
        ).fetchall()
        gone = []
        for (ident,) in rows:
            # One that an operator has activated by hand stays; its token goes.
            done = self._db.execute(
                "DELETE FROM certificates WHERE id = ? AND status = 'PENDING_ACTIVATION'", (ident,)
            )
            if done.rowcount:
                gone.append(ident)
        if rows:
            self._db.execute("DELETE FROM ownership_tokens WHERE issued <= ?", (oldest,))
        return gone
