"""The examples, in short form."""
import os
import re
import subprocess
import sys

import pytest

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "python")


def run(script, out, *arguments):
    done = subprocess.run([sys.executable, os.path.join(EXAMPLES, script), f"--out={out}", *arguments],
                          capture_output=True, text=True, timeout=200)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_resnet(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    text = run("resnet.py", tmp_path, "--workers=2", "--batch=4", "--steps=3", "--width=2",
               "--test-images=250")
    apart = {name: float(re.search(rf"^{name} .* (\S+)$", text, re.M)[1]) for name in ("local", "sync")}
    assert apart["sync"] < 1e-10 < 1e-3 < apart["local"], text
    assert (tmp_path / "resnet.png").stat().st_size > 10000


def test_chars(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    text = run("chars.py", tmp_path, "--workers=2", "--batch=4", "--steps=6", "--warmup=2",
               "--length=24")
    norms, warmup = 5, 2
    # Forward and backward of each norm in warm-up; what came late after it depends on the machine.
    assert re.search(rf"^sync .* {2 * norms * warmup} \(\d+ ms\) +\d+ \(", text, re.M), text
    assert re.search(r"^layer .* 0 \(0 ms\) +0 \(0 ms\)", text, re.M), text
    assert (tmp_path / "chars.png").stat().st_size > 10000
