#!/usr/bin/env python3
"""Builds the images, as the demo does, and holds what deploy/docker/README.md says of them."""
import json
import shutil
import subprocess

import engine

engine.require()
NAMES = ("coordinator", "trainer", "prometheus")
HARDENED = ("run", "--rm", "--read-only", "--cap-drop=ALL", "--network=none",
            "--security-opt=no-new-privileges")


def inspect(stack, name):
    return json.loads(stack.call("image", "inspect", stack.image(name)))[0]


def call(stack, *arguments):
    return engine.run(*stack.engine, *arguments)


def the_images_build(stack):
    # What ./dev build has just compiled need not be compiled again.
    ccache = shutil.which("ccache")
    stack.build(ccache and subprocess.run([ccache, "--get-config", "cache_dir"], check=True,
                                          capture_output=True, text=True).stdout.strip())
    for name in NAMES:
        print(f"  {name}: {inspect(stack, name)['Size'] / 1e6:.0f} MB")


def nobody_is_root_and_the_user_is_a_number(stack):
    for name in NAMES:
        assert inspect(stack, name)["Config"]["User"] == "65532:65532", name
        status, said = call(stack, *HARDENED, "--entrypoint=id", stack.image(name), "-u")
        assert (status, said.strip()) == (0, "65532"), (name, said)


def the_labels_tell_the_version_of_the_program(stack):
    for name in ("coordinator", "trainer"):
        labels = inspect(stack, name)["Config"]["Labels"]
        for label in ("title", "description", "version", "revision", "base.name"):
            assert labels.get(f"org.opencontainers.image.{label}"), (name, label, labels)
    status, said = call(stack, *HARDENED, stack.image("coordinator"), "--version")
    assert status in (0, 1), said  # Abseil's --version ends with either
    version = inspect(stack, "coordinator")["Config"]["Labels"]["org.opencontainers.image.version"]
    assert said.split()[1].rstrip(",") == version, (said, version)


def process_one_is_the_program_and_ends_by_sigterm(stack):
    for name, program in zip(NAMES, ("syncnorm-coordinator", "syncnorm-train-fashion-mnist",
                                     "prometheus")):
        config = inspect(stack, name)["Config"]
        assert config["Entrypoint"] == [program], config["Entrypoint"]
        assert config.get("StopSignal") in ("SIGTERM", "15"), config.get("StopSignal")


def the_health_check_needs_no_shell(stack):
    image = inspect(stack, "coordinator")
    check = image.get("Healthcheck") or image["Config"].get("Healthcheck")
    assert check and check["Test"][:3] == ["CMD", "syncnormctl", "health"], check


def a_coordinator_without_certificates_says_so_in_one_line(stack):
    status, said = call(stack, *HARDENED, stack.image("coordinator"))
    assert status == 1, said
    lines = said.strip().splitlines()
    assert len(lines) == 1 and "/etc/syncnorm/" in lines[0], said


def images_hold_no_compiler_and_no_sources(stack):
    for name in NAMES:
        status, said = call(stack, *HARDENED, "--entrypoint=sh", stack.image(name), "-c",
                            "command -v g++ cc cmake; ls -d /src /image 2>/dev/null; true")
        assert (status, said) == (0, ""), (name, said)


if __name__ == "__main__":
    engine.main([
        the_images_build,
        nobody_is_root_and_the_user_is_a_number,
        the_labels_tell_the_version_of_the_program,
        process_one_is_the_program_and_ends_by_sigterm,
        the_health_check_needs_no_shell,
        a_coordinator_without_certificates_says_so_in_one_line,
        images_hold_no_compiler_and_no_sources,
    ], engine.make_stack("images"))
