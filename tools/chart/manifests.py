#!/usr/bin/env python3
"""Renders the Helm chart, and writes the plain manifests beside it, which are what it renders to.

  manifests.py render [-f VALUES]... [--release NAME] [--namespace NAME]
  manifests.py write        deploy/kubernetes/*.yaml anew, after a change of the chart

Rendered by `helm` where one is on the PATH; otherwise by render.go beside this file, which needs
Debian's golang-go, golang-github-masterminds-sprig-dev and golang-k8s-sigs-yaml-dev.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
CHART = os.path.join(TOP, "deploy", "kubernetes", "chart")
PLAIN = os.path.join(TOP, "deploy", "kubernetes")
GO_PATH = "/usr/share/gocode"
GO_PACKAGES = {"github.com/Masterminds/sprig": "golang-github-masterminds-sprig-dev",
               "sigs.k8s.io/yaml": "golang-k8s-sigs-yaml-dev"}

# What is true of a release of helm's, and not of a file that somebody applies: who manages it, and
# what makes a pod anew when the ConfigMap changes.
ONLY_IN_A_RELEASE = ("app.kubernetes.io/managed-by", "helm.sh/chart", "checksum/config")
# The templates that are not plain manifests.
NOT_PLAIN = ("NOTES.txt", "tests/health.yaml")
# Those that render to nothing by default, and the values with which they do.
OPTIONAL = {"servicemonitor.yaml": {"metrics": {"serviceMonitor": {"enabled": True}}}}


class ChartError(Exception):
    """The chart does not render: the renderer's own words."""


class Missing(Exception):
    """What it takes to render is not there."""


def _run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise ChartError(done.stderr.strip() or f"{command[0]}: exit status {done.returncode}")
    return done.stdout


def _renderer():
    """Path of render.go's program, built if it is not newer than its source."""
    program = os.environ.get("SYNCNORM_CHART_RENDERER") or os.path.join(TOP, "build", "chart", "render")
    source = os.path.join(HERE, "render.go")
    if os.path.exists(program) and os.path.getmtime(program) > os.path.getmtime(source):
        return program
    lacking = [] if shutil.which("go") else ["golang-go"]
    lacking += [package for folder, package in GO_PACKAGES.items()
                if not os.path.isdir(os.path.join(GO_PATH, "src", folder))]
    if lacking:
        raise Missing(f"rendering the chart takes helm, or Debian's {', '.join(lacking)}")
    folder = os.path.dirname(program)
    os.makedirs(folder, exist_ok=True)
    # With the packages as Debian lays them: nothing is downloaded.
    environment = dict(os.environ, GO111MODULE="off", GOPATH=GO_PATH, GOFLAGS="", GOTOOLCHAIN="local",
                       GOCACHE=os.path.join(folder, "go-cache"))
    # Renamed into place: two of these may run at once.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = os.path.join(scratch, "render")
        _run(["go", "build", "-o", built, source], env=environment)
        os.replace(built, program)
    return program


def merged(*files):
    """The values that the templates get: values.yaml, and these files over it."""
    return json.loads(_run([_renderer(), "values", CHART, *files]))


def schema():
    with open(os.path.join(CHART, "values.schema.json"), encoding="utf-8") as file:
        return json.load(file)


def check_values(*files):
    """ChartError, with the value's path, for what values.schema.json does not allow."""
    try:
        import jsonschema  # here: only this needs it
    except ImportError:
        raise Missing("checking values takes helm, or Debian's python3-jsonschema") from None
    found = sorted(jsonschema.Draft7Validator(schema()).iter_errors(merged(*files)), key=str)
    if found:
        raise ChartError("; ".join(
            f"{'.'.join(map(str, error.absolute_path)) or 'values'}: {error.message}" for error in found))


def template(*files, release="syncnorm", namespace="default", helm=None):
    """The text of each template that renders to something, by its name below templates/.

    helm: whether to use it; None: if it is there.
    """
    program = shutil.which("helm")
    if program and helm is not False:
        values = [word for file in files for word in ("-f", file)]
        text = _run([program, "template", release, CHART, "--namespace", namespace, *values])
    else:
        if helm:
            raise Missing("no helm on the PATH")
        check_values(*files)
        text = _run([_renderer(), "template", CHART, release, namespace, *files])
    parts = re.split(r"^---\n# Source: \S+?/templates/(\S+)\n", text, flags=re.MULTILINE)
    return {name: body for name, body in zip(parts[1::2], parts[2::2])}


def template_with(values, **options):
    """template() with one values file of these."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)  # JSON is YAML
        file.flush()
        return template(file.name, **options)


def plain(name, text):
    """A rendered template as a manifest for kubectl and kustomize."""
    lines = [line for line in text.rstrip("\n").split("\n")
             if not line.strip().startswith(tuple(f"{key}:" for key in ONLY_IN_A_RELEASE))]
    head = f"# Written by tools/chart/manifests.py from chart/templates/{name}: change it there.\n"
    return head + "\n".join(lines) + "\n"


def plain_manifests(**options):
    """All of them, text by name of the file."""
    texts = template(**options)
    for name, values in OPTIONAL.items():
        texts[name] = template_with(values, **options)[name]
    return {name: plain(name, text) for name, text in texts.items() if name not in NOT_PLAIN}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    render = commands.add_parser("render")
    render.add_argument("-f", dest="files", metavar="VALUES", action="append", default=[])
    render.add_argument("--release", default="syncnorm")
    render.add_argument("--namespace", default="default")
    commands.add_parser("write")
    arguments = parser.parse_args()
    try:
        if arguments.command == "render":
            for name, text in template(*arguments.files, release=arguments.release,
                                       namespace=arguments.namespace).items():
                print(f"---\n# Source: {name}\n{text}", end="")
        else:
            for name, text in plain_manifests(helm=False).items():
                with open(os.path.join(PLAIN, name), "w", encoding="utf-8") as file:
                    file.write(text)
    except (ChartError, Missing) as error:
        sys.exit(f"manifests.py: {error}")


if __name__ == "__main__":
    main()
