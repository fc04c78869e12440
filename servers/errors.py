"""The two ways in which a server is not there."""

from __future__ import annotations


class ServerMissing(Exception):
    """This machine has no such server and no way to get one; the text says what to install. A test may be skipped for it."""


class ServerFailed(Exception):
    """The server is there and does not work; the text holds the end of its log. Nothing may be skipped for it."""
