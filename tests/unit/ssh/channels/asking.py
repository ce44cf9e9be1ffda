"""Runs the agent's program as a local process, without SSH."""

import subprocess
from typing import Any

from flamecrest.server.ssh.channels.agent import GREETING, PROGRAM, Question, read_answer
from flamecrest.server.ssh.errors import StatError


def raw_answers(asked: bytes) -> list[bytes]:
    """The raw answers to raw questions; the program must end with status 0."""
    done = subprocess.run(["perl", "-e", PROGRAM], input=asked, capture_output=True, check=True, timeout=20)
    assert done.stderr == b""
    greeting = f"{GREETING}\n".encode()
    assert done.stdout.startswith(greeting)
    found, at = [], len(greeting)
    while at < len(done.stdout):
        end = at + 4 + int.from_bytes(done.stdout[at : at + 4])
        assert end <= len(done.stdout)
        found.append(done.stdout[at + 4 : end])
        at = end
    return found


def answers(*questions: Question[Any]) -> list[Any]:
    """The result of each question: the value, None if it is left to SFTP, or the StatError."""
    found: list[Any] = []
    for question, answer in zip(questions, raw_answers(b"".join(one.text for one in questions)), strict=True):
        try:
            found.append(read_answer(question, answer))
        except StatError as error:
            found.append(error)
    return found
