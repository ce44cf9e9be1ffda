"""Start and end of the server: socket, headers, signals, exit statuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from flamecrest.cli.main import app
from flamecrest.cli.serve import address, listen

MINIMAL = Path(__file__).parents[1] / "settings" / "minimal.yaml"

PROGRAM = """
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from flamecrest.cli.serve import address, listen
from flamecrest.cli.serving.run import run
from flamecrest.server.settings import load
from tests.unit.cli.served import application, reply

async def handler(scope, receive, send):
    await reply(send, repr(scope["client"][0]).encode())

@asynccontextmanager
async def lifespan(app):
    if sys.argv[2] == "broken":
        raise RuntimeError("the app cannot start")
    yield
    print("left", flush=True)

with listen("127.0.0.1", 0) as listener:
    settings = load(Path(sys.argv[1]), {})
    app = application(handler, trusted_proxies=settings.server.trusted_proxies, lifespan=lifespan)
    started = run(app, listener, settings, lambda: print(address(listener), flush=True),
        lambda: print("reported", flush=True))
print("started" if started else "did not start", flush=True)
"""


@contextmanager
def served(kind: str = "good") -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", PROGRAM, str(MINIMAL), kind]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_shuts_down_gracefully(number: signal.Signals) -> None:
    with served() as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.Client(trust_env=False, verify=False) as client:
            answer = client.get(url, headers={"X-Forwarded-For": "192.0.2.7"})
        assert answer.text == "'192.0.2.7'"  # from a trusted proxy
        assert answer.headers["server"] == "flamecrest"
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == 0
    assert out == "left\nstarted\n"
    assert all(line.startswith('{"ts":') for line in err.splitlines()), err
    assert '"message":"stopped"' in err.splitlines()[-1]  # the last lines of the log are not lost


def test_other_signals_end_nothing() -> None:
    with served() as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):
            process.send_signal(number)
        assert httpx.get(url, trust_env=False, verify=False).status_code == 200
        process.terminate()
        out, err = process.communicate()
    assert process.returncode == 0
    assert out == "reported\nleft\nstarted\n"
    assert "stopped" in err


def ignored_signals(pid: int) -> int:
    """The bit mask of the signals that a process ignores or handles."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return int(lines["SigIgn"], 16) | int(lines["SigCgt"], 16)


def test_signals_during_the_start_end_nothing() -> None:
    argv = [str(Path(sys.executable).with_name("flamecrest")), "serve", "--config", str(MINIMAL), "--port", "0"]
    both = 1 << (signal.SIGUSR1 - 1) | 1 << (signal.SIGHUP - 1)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while ignored_signals(process.pid) & both != both and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGUSR1)  # long before the server's packages are imported
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        while "listens on http://127.0.0.1:" not in (line := process.stderr.readline()):
            assert line, process.wait()
        process.terminate()
        process.communicate()
    assert process.returncode == 0


def test_failing_startup() -> None:
    with served("broken") as process:
        out, err = process.communicate()
    assert out == "did not start\n"
    assert "the app cannot start" in err
    assert process.returncode == 0


def test_a_log_on_a_full_disk_keeps_nobody_from_being_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    serve = ["serve", "--config", str(MINIMAL), "--host", "127.0.0.1", "--port", str(port)]
    argv = [sys.executable, "-c", "from flamecrest.cli.main import main; main()", *serve]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}  # what cannot be written stays until the end
    with Path("/dev/full").open("w") as full, subprocess.Popen(argv, stdout=full, stderr=full, env=buffered) as process:
        try:
            _wait_until_it_lives(port, process)
            process.terminate()
            assert process.wait(timeout=50) == 0
        finally:
            process.kill()


def test_closed_standard_streams() -> None:
    """Sockets do not get their descriptors, and the process ends with status 0."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    argv = [sys.executable, "-c", "from flamecrest.cli.main import main; main()", "serve", "--config", str(MINIMAL)]
    shell = ["sh", "-c", 'exec "$0" "$@" 0<&- 1>&- 2>&-', *argv, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(shell) as process:
        try:
            _wait_until_it_lives(port, process)
            opened = {str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in range(3)}
            assert opened == {os.devnull}
            process.terminate()
            assert process.wait(timeout=50) == 0
        finally:
            process.kill()


def _wait_until_it_lives(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 50
    while True:
        assert process.poll() is None
        assert time.monotonic() < until
        with suppress(httpx.TransportError):
            assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
            return
        time.sleep(0.05)


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", "--config", str(MINIMAL), "--host", "127.0.0.1", "--port", port])
    assert result.exit_code == 1
    assert (
        f"error: port {port} on 127.0.0.1 is already in use: stop that program, or give another port" in result.stderr
    )


@pytest.mark.parametrize(
    ("host", "told"),
    [("203.0.113.1", "cannot listen on 203.0.113.1"), ("no.such.host.invalid", "not an address of this machine")],
)
def test_address_of_another_host(host: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as error:
        listen(host, 0)
    assert error.value.exit_code == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_invalid_port(port: str) -> None:
    result = CliRunner().invoke(app, ["serve", "--config", str(MINIMAL), "--port", port])
    assert result.exit_code == 2
    assert "--port" in result.stderr


def test_url_of_an_address() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert address(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    with listen("::1", 0) as listener:
        assert address(listener) == f"http://[::1]:{listener.getsockname()[1]}"
