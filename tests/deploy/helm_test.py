#!/usr/bin/env python3
"""Where there is a helm: it takes the chart, and renders it to what render.go does."""
import shutil
import subprocess
import unittest

import support

if shutil.which("helm") is None:
    support.skip("no helm on the PATH (Debian 12 has none); the chart was rendered by render.go")
support.need(kubernetes="Debian's python3-kubernetes", yaml="Debian's python3-yaml",
             jsonschema="Debian's python3-jsonschema")
support.need_renderer()
import kubernetes_types  # noqa: E402
import manifests  # noqa: E402


class HelmTest(unittest.TestCase):
    def test_lint(self):
        for files in support.values_files():
            values = [word for file in files for word in ("-f", file)]
            done = subprocess.run(["helm", "lint", "--strict", manifests.CHART, *values], capture_output=True,
                                  text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_it_renders_the_same(self):
        for files in support.values_files():
            ours = manifests.template(*files, helm=False, release="prod", namespace="training")
            theirs = manifests.template(*files, helm=True, release="prod", namespace="training")
            ours.pop("NOTES.txt")  # which helm prints at an installation only
            self.assertEqual(set(theirs), set(ours))
            for name, text in ours.items():
                self.assertEqual(kubernetes_types.load_all(theirs[name]), kubernetes_types.load_all(text), name)

    def test_it_refuses_values_by_the_schema(self):
        with self.assertRaisesRegex(manifests.ChartError, "round_timout"):
            manifests.template_with({"config": {"round_timout": "60s"}}, helm=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
