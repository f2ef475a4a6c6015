"""What the tests of deploy/ share: where things are, and how a test that cannot run says so."""
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KUBERNETES = os.path.join(ROOT, "deploy", "kubernetes")
VALUES = os.path.join(ROOT, "tests", "deploy", "values")
SKIPPED = 77
sys.path.insert(0, os.path.join(ROOT, "tools", "chart"))


def skip(why):
    print(f"SKIP: {why}")
    sys.exit(SKIPPED)


def need(**modules):
    """Ends the test unless these Python modules are there: need(yaml="Debian's python3-yaml")."""
    for module, where in modules.items():
        if importlib.util.find_spec(module) is None:
            skip(f"no Python module {module}: {where}")


def need_renderer():
    import manifests
    try:
        manifests.template(helm=False)
    except manifests.Missing as missing:
        skip(str(missing))


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def values_files():
    """The values that the chart is tried with: its own, and each file in values/."""
    return [()] + [(os.path.join(VALUES, name),) for name in sorted(os.listdir(VALUES))]


def need_program(path):
    """Ends the test unless the build has made this program."""
    if not os.access(path, os.X_OK):
        skip(f"{path} is not built")


def flags_of(program):
    """{flag: its default} as `program --help` lists them."""
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^  --(\w+)  \((.*)\)$", text, flags=re.MULTILINE))


def make_certificates(folder):
    """tls.crt, tls.key, ca.crt and tokens, such as a coordinator reads; one certificate is its own authority."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=coordinator", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", os.path.join(folder, "tls.key"), "-out", os.path.join(folder, "tls.crt")],
                   check=True, capture_output=True)
    shutil.copy(os.path.join(folder, "tls.crt"), os.path.join(folder, "ca.crt"))
    with open(os.path.join(folder, "tokens"), "w", encoding="utf-8") as file:
        file.write(f"sha256:{hashlib.sha256(b'token').hexdigest()} worker *\n")


def check_config(program, text, *arguments):
    """What `--check_config` says of a configuration file of this text: exit status, output."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([program, f"--config={file.name}", "--check_config", *arguments],
                              capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout + done.stderr
