"""Loads settings from a file and the environment, and reports all errors at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .access.credentials import credentials_type
from .document import MappingNode, ScalarNode, SequenceNode, TreeNode, read
from .environment import EnvironmentOverride, apply, overrides
from .explain import explain
from .problems import Problem, SettingsError, SourceLocation
from .root import Settings, duplicate_name, first_duplicate
from .shape import ExpectedValue, ShapedDocument

VARIABLES = ("FLAMECREST_CONFIG", "YAML_CONFIG_FILE")
MAX_PROBLEMS = 200
_CLUSTERS = "path:"


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Load the settings of a file and the overrides of the environment. Raises SettingsError with all problems.

    Without `path`, `FLAMECREST_CONFIG` or `YAML_CONFIG_FILE` names the file. Secret files are read here.
    """
    problems: list[Problem] = []
    file = find(path, environ)
    root = _document(file, problems)
    if root is None:
        raise SettingsError(*problems)
    _override(root, overrides(environ), problems)
    settings = _validated(root, problems)
    if settings is None or problems:
        raise SettingsError(*_in_order(problems))
    return settings


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Distinct problems in the order of the files, at most MAX_PROBLEMS."""
    once = sorted(dict.fromkeys(problems), key=lambda problem: (problem.location.file, problem.location.line or 0))
    if len(once) <= MAX_PROBLEMS:
        return once
    return [*once[:MAX_PROBLEMS], Problem(once[-1].location, "", f"{len(once) - MAX_PROBLEMS} more problems")]


def find(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The path of the configuration file: as given, else from the environment."""
    if path is not None:
        return path
    for variable in VARIABLES:
        if environ.get(variable):
            return Path(environ[variable]).expanduser()
    raise SettingsError(
        Problem(
            SourceLocation("flamecrest"),
            "",
            "no configuration file is given",
            f"use --config FILE or set {VARIABLES[0]}=FILE",
        )
    )


def _document(file: Path, problems: list[Problem]) -> MappingNode | None:
    root = read(file, problems)
    if root is None and not problems:
        problems.append(Problem(SourceLocation(str(file)), "", "the file is empty"))
    elif root is not None and not isinstance(root, MappingNode):
        problems.append(Problem(root.location, "", "must be a mapping with keys like `auth:` and `clusters:`"))
    return root if isinstance(root, MappingNode) else None


def _override(root: MappingNode, found: list[EnvironmentOverride], problems: list[Problem]) -> None:
    """Apply the environment: sections first, then older forms are converted, then single keys."""
    wanted = ExpectedValue(None, Settings, variants=(Settings,))
    whole = [override for override in found if len(override.path) == 1]
    for override in whole:
        apply(root, override, wanted, problems)
    for name, child in list(root.entries.items()):
        field = Settings.field_named(name)
        if field == "clusters" and isinstance(child, ScalarNode) and child.text.startswith(_CLUSTERS):
            root.entries[name] = _directory(child, problems)
        elif field == "ssh_credentials" and isinstance(child, MappingNode):
            root.entries[name] = _with_type(child)
    for override in found[len(whole) :]:
        apply(root, override, wanted, problems)


def _directory(leaf: ScalarNode, problems: list[Problem]) -> SequenceNode:
    """The clusters of a directory: one per YAML file, in the order of their names."""
    items = SequenceNode(leaf.location)
    path = Path(leaf.text.removeprefix(_CLUSTERS).strip())
    try:
        names = sorted(
            entry
            for entry in path.expanduser().iterdir()
            if entry.suffix in (".yaml", ".yml") and not entry.name.startswith(".")
        )
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such user"
        problems.append(
            Problem(leaf.location, "clusters", f"{path} cannot be read: {reason}", "path:/etc/flamecrest/clusters")
        )
        return items
    for name in names:
        before = len(problems)
        root = read(name, problems)
        if isinstance(root, MappingNode):
            root.implied = True  # errors show keys as they are in the cluster's own file
            items.entries.append(root)
        elif len(problems) == before:
            problems.append(
                Problem(SourceLocation(str(name)), "", "must contain one cluster: a mapping with `name:`, `ssh:` …")
            )
    return items


def _with_type(branch: MappingNode) -> MappingNode:
    """SSH credentials of FirecREST 2.2 and older, which have no `type`, in their current form."""
    meant = credentials_type(branch.entries)
    if meant is None:
        return branch
    entries: dict[str, TreeNode] = {"type": ScalarNode(meant, meant, branch.location)}
    if meant == "SSHStaticKeys" and "keys" not in branch.entries:
        entries["keys"] = MappingNode(branch.location, branch.entries, implied=True)
    else:
        entries |= branch.entries
    return MappingNode(branch.location, entries)


def _validated(root: MappingNode, problems: list[Problem]) -> Settings | None:
    reading = ShapedDocument(problems, root.location)
    plain = reading.shape(root, ExpectedValue(None, Settings, variants=(Settings,)), (), "")
    same = _same_names(plain, reading)
    problems += same
    try:
        settings = Settings.model_validate(plain)
    except ValidationError as error:
        found = explain(error, reading)
    else:
        for at, rule in enumerate(settings.auth.authorization.rules if settings.auth.authorization else ()):
            rule.found_at(reading, ("auth", "authorization", "rules", at))
        return settings
    problems += [problem for problem in found if problem.message not in {known.message for known in same}]
    return None


def _same_names(plain: Mapping[str, Any], reading: ShapedDocument) -> list[Problem]:
    """Clusters with the same name; checked here, too, because validation checks it only if all else is valid."""
    clusters = plain.get("clusters")
    if not isinstance(clusters, list):
        return []
    named = [
        (at, cluster["name"])
        for at, cluster in enumerate(clusters)
        if isinstance(cluster, dict) and isinstance(cluster.get("name"), str)
    ]
    name = first_duplicate([name for _, name in named])
    if name is None:
        return []
    second = [at for at, other in named if other.lower() == name][1]
    spot, mistake = reading.locations["clusters", second, "name"], duplicate_name(name)
    return [Problem(spot.location, spot.key, mistake.message, mistake.hint)]
