"""The commands `flamecrest ca key` and `flamecrest ca sshd`, for the gateway's own SSH certificate authority."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .terminal import fail, load_configuration, print_line, require_server_extra

if TYPE_CHECKING:
    from flamecrest.server.settings import CertificatesSettings, Settings

KeyType = Literal["ed25519", "ecdsa", "rsa"]

authority = typer.Typer(no_args_is_help=True)


@authority.command("key")
def key_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file for the private key; the public key is written beside it.")
    ],
    kind: Annotated[
        Literal["ed25519", "ecdsa", "rsa"], typer.Option("--type", help="The type of the key.")
    ] = "ed25519",
    passphrase: Annotated[
        Path | None, typer.Option("--passphrase-file", metavar="FILE", help="A file with the passphrase of the key.")
    ] = None,
    comment: Annotated[str, typer.Option(help="The comment of the key.")] = "flamecrest",
) -> None:
    """Make a key for the SSH certificate authority.

    \b
    Examples:
      flamecrest ca key /etc/flamecrest/ssh_ca
      flamecrest ca key --passphrase-file /etc/flamecrest/ssh_ca.pass /etc/flamecrest/ssh_ca
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    with require_server_extra():
        from flamecrest.server.ssh.credentials.keys import make_key  # noqa: PLC0415 - not in the base install
    try:
        secret = passphrase.read_text().strip() if passphrase is not None else None
        if secret == "":
            fail(f"{passphrase} is empty")
        typer.echo(make_key(file, kind, secret, comment))
    except FileExistsError as error:
        fail(f"{error.filename} exists, and no file is replaced: give another name")
    except (OSError, UnicodeDecodeError) as error:
        fail(str(error))
    print_line(f"wrote {file} and {file.name}.pub")


@authority.command("sshd")
def sshd_command(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Configuration file. Default: $FLAMECREST_CONFIG, else $YAML_CONFIG_FILE."),
    ] = None,
) -> None:
    """Print the public keys and the lines that the SSH servers of the login nodes need.

    \b
    Examples:
      flamecrest ca sshd gateway.yaml
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    settings = load_configuration(config)
    with require_server_extra():
        from flamecrest.server.errors import GatewayError  # noqa: PLC0415 - not in the base install
        from flamecrest.server.settings import SettingsError  # noqa: PLC0415 - not in the base install
    found = _authorities(settings)
    if not found:
        fail("no ssh_credentials are of type SSHCertificates")
    try:
        for names, source in found:
            typer.echo(f"# --- login nodes of {', '.join(names) or 'all clusters'}\n{asyncio.run(_lines(source))}")
    except GatewayError as error:
        fail(f"{error.public}: {error.detail}" if error.detail else error.public)
    except SettingsError as error:
        fail(str(error))


def _authorities(settings: Settings) -> list[tuple[list[str], CertificatesSettings]]:
    """Each certificate authority of the configuration, with the names of its clusters."""
    from flamecrest.server.settings import CertificatesSettings  # noqa: PLC0415 - not in the base install

    shared = [cluster.name for cluster in settings.clusters if cluster.ssh_credentials is None]
    sources = [(shared, settings.ssh_credentials)]
    sources += [([c.name], c.ssh_credentials) for c in settings.clusters if c.ssh_credentials is not None]
    return [(names, source) for names, source in sources if isinstance(source, CertificatesSettings)]


async def _lines(source: CertificatesSettings) -> str:
    from flamecrest.server.ssh.credentials.keys import sshd_lines  # noqa: PLC0415 - not in the base install
    from flamecrest.server.wiring.credentials import signer  # noqa: PLC0415 - not in the base install

    keys = [await signer(key).public_key() for key in source.signing_keys]
    return sshd_lines(keys, source.source_address, by_account="{user}" in source.principals)
