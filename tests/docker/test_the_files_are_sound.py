"""The Dockerfile and compose.yaml keep to what a team may expect of them, without an engine to ask."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.docker._compose import DOCKERFILE, FOLDER, TEXT, project, variables
from tests.docker.conftest import SECRETS

ROOT = FOLDER.parent
EXAMPLE = (FOLDER / ".env.example").read_text()
SERVICES = project(**SECRETS)["services"]
A_VERSION = re.compile(r"[\w.-]+(?:/[\w.-]+)+:v?\d+\.\d+[\w.-]*(?:@sha256:[0-9a-f]{64})?")


def tool(name, *arguments):
    """A checker of this environment; gives its exit code and what it says."""
    command = [Path(sys.executable).with_name(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def test_the_dockerfile_passes_its_linter():
    """hadolint, which runs shellcheck over each RUN, has nothing to say."""
    assert tool("hadolint", "docker/Dockerfile") == (0, "")


def test_compose_follows_its_schema():
    """That of the Compose specification."""
    code, said = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker/compose.yaml")
    assert code == 0, said


def test_each_variable_is_told_of():
    """In .env.example: without a value where it must be set, in a comment where it has a default."""
    must = {name for name, how in variables().items() if how == "?"}
    may = {name for name, how in variables().items() if how == "-"}
    assert must | may == set(variables())
    assert set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE)) == must
    assert set(re.findall(r"^#(\w+)=$", EXAMPLE, re.MULTILINE)) == may
    assert not re.findall(r"^#?\w+=.+$", EXAMPLE, re.MULTILINE)


@pytest.mark.parametrize("left_out", sorted(SECRETS))
def test_compose_stops_without_a_secret(left_out):
    """There is no default to forget."""
    with pytest.raises(KeyError, match=left_out):
        project(**{name: value for name, value in SECRETS.items() if name != left_out})


def test_no_secret_is_written_down():
    """Each password and key of the file is a variable or a file of /run/secrets."""
    named = r"\w*(?:PASSWORD|SECRET|[sS]ecretKey|TOKEN)\w*"
    written = re.sub(rf"\$\{{{named}[^}}]*\}}", "VARIABLE", re.sub(r"(^|\s)#.*", "", TEXT))
    values = re.findall(rf"{named}\"?\s*[:=]\s*\"?([^\s\"]+)", written)
    assert len(values) >= 6
    assert not [value for value in values if not value.startswith(("VARIABLE", "/run/secrets/"))]
    assert not re.search(r"://[^/\s]+:[^@/\s]+@", TEXT)
    for service in SERVICES.values():
        said = str(service.get("environment", {})) + str(service.get("command"))
        assert not [secret for secret in SECRETS.values() if secret in said]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_image_is_pinned(name):
    """By its version, or it is built here."""
    image = SERVICES[name]["image"]
    assert ("build" in SERVICES[name] and image.endswith(":local")) or A_VERSION.fullmatch(image)


def test_the_page_names_the_same_images():
    """docs/deployment.md, which also tells what to do with them."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    [base] = re.findall(r"^ARG PYTHON_IMAGE=docker.io/library/(\S+)$", DOCKERFILE, re.MULTILINE)
    images = {service["image"] for service in SERVICES.values() if "build" not in service}
    shown = {image.removeprefix("docker.io/").removeprefix("library/") for image in images}
    assert shown <= set(re.findall(r"^\| `\w+` \| `(\S+)` \|", page, re.MULTILINE))
    assert base in page


def test_the_base_is_pinned_by_its_patch_release():
    """Python's minor version is one that RLDK supports."""
    [base] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/python:3\.1[123]\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_service_is_watched_bounded_and_confined(name):
    """A health check or the reason for none; limits; no new privileges; a policy of restarts that fits."""
    service = SERVICES[name]
    assert ("healthcheck" in service) != ("x-no-healthcheck" in service)
    assert service["restart"] == ("unless-stopped" if "healthcheck" in service else "no")
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    if "build" in service:
        # Compose copies the environment's secrets into the container, and refuses that for a read-only one
        assert service.get("read_only", False) == ("secrets" not in service)
        assert service["cap_drop"] == ["ALL"]


def test_only_mlflow_is_reached_from_outside():
    """On this machine's loopback; its clients see neither the database nor the store."""
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"mlflow": ["127.0.0.1:5000:5000"]}
    within = {name for name, service in SERVICES.items() if "outside" not in service["networks"]}
    assert within == {"postgres", "s3", "bucket"}
    assert SERVICES["demo"]["networks"] == ["outside"]
    assert project(**SECRETS)["networks"]["inside"] == {"internal": True}


def test_who_waits_for_whom():
    """MLflow for a database that answers and a bucket that is made; the demo for MLflow."""
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    assert waits == {
        "postgres": {},
        "s3": {},
        "bucket": {"s3": "service_healthy"},
        "mlflow": {"postgres": "service_healthy", "bucket": "service_completed_successfully"},
        "demo": {"mlflow": "service_healthy"},
    }


def test_what_is_named_is_declared():
    """Volumes, networks, secrets and configs."""
    file = project(**SECRETS)
    for name, service in SERVICES.items():
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert volumes <= set(file["volumes"]), name
        assert set(service["networks"]) <= set(file["networks"])
        assert set(service.get("secrets", [])) <= set(file["secrets"])
        if "build" in service:
            assert re.search(rf"^FROM \S+ AS {service['build']['target']}$", DOCKERFILE, re.MULTILINE)
    assert {secret["environment"] for secret in file["secrets"].values()} == set(SECRETS)


def test_images_run_as_nobody_in_particular():
    """Both final stages set a numeric user, carry labels and no secret."""
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    for target in ("mlflow", "rldk"):
        [stage] = [stage for stage in stages if re.match(rf"base AS {target}\n", stage)]
        assert "USER 10001:10001" in stage
        assert "org.opencontainers.image.licenses" in stage
        assert "HEALTHCHECK NONE" in stage
    assert not re.search(r"(ARG|ENV)\s+\w*(PASSWORD|SECRET|TOKEN|KEY)", DOCKERFILE)


def test_what_the_build_copies_is_in_its_context():
    """.dockerignore lets through what the Dockerfile copies, and nothing else of this repository."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = set()
    for line in re.findall(r"^COPY (?!.*--from)(.*)$", DOCKERFILE, re.MULTILINE):
        copied |= set([word for word in line.split() if not word.startswith("--")][:-1])
    assert copied == let_in
    tracked = subprocess.run(
        ["git", "ls-files", *copied], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode == 0:  # an unpacked sdist has no git
        there = tracked.stdout.split()
        assert all(any(fnmatch(file, f"{one}*") for file in there) for one in copied)
    assert all((ROOT / one).exists() for one in copied)
    assert lines[lines.index("*") :][0] == "*"
    assert "**/.env" in lines


def test_the_packages_of_the_images_are_pinned():
    """What the Dockerfile names to pip has a line in constraints/main.txt, and the extras exist."""
    import tomllib

    pins = dict(
        line.split("==") for line in (ROOT / "constraints/main.txt").read_text().splitlines() if "==" in line
    )
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for names in re.findall(r"^ +pip install ((?:[a-z0-9-]+ ?)+)$", DOCKERFILE, re.MULTILINE):
        assert set(names.split()) <= set(pins), names
    [default] = re.findall(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert set(default.split(",")) <= set(extras)
    assert set(SERVICES["demo"]["build"]["args"]["EXTRAS"].split(",")) <= set(extras)
    assert "trl" not in default
    assert "torch" in pins
