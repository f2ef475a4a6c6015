#!/usr/bin/env python3
"""Where PyPI's kubernetes-validate is installed: everything that is rendered, and the examples, against
the schemas of every Kubernetes from the chart's oldest on."""
import os
import unittest

import support

support.need(kubernetes_validate="pip install kubernetes-validate; the types were checked against "
                                 "those of Debian's python3-kubernetes",
             yaml="Debian's python3-yaml")
support.need_renderer()
import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402

import manifests  # noqa: E402

CUSTOM = ("monitoring.coreos.com/v1", "cert-manager.io/v1")


def documents():
    for files in support.values_files():
        for name, text in manifests.template(*files, helm=False).items():
            if name != "NOTES.txt":
                yield from yaml.safe_load_all(text)
    folder = os.path.join(support.KUBERNETES, "examples")
    for name in os.listdir(folder):
        yield from yaml.safe_load_all(support.read(folder, name))


class ReleasesTest(unittest.TestCase):
    def test_every_release_takes_every_object(self):
        oldest = yaml.safe_load(support.read(manifests.CHART, "Chart.yaml"))["kubeVersion"]
        self.assertEqual(oldest, ">=1.25.0-0")
        folder = os.path.join(os.path.dirname(kubernetes_validate.__file__), "kubernetes-json-schema")
        releases = sorted({name.split("-")[0][1:] for name in os.listdir(folder)},
                          key=lambda release: [int(part) for part in release.split(".")])
        releases = [release for release in releases if int(release.split(".")[1]) >= 25]
        self.assertTrue(releases)
        for release in releases:
            for document in documents():
                if document["apiVersion"] not in CUSTOM:
                    kubernetes_validate.validate(document, release, strict=True)
        print(f"releases {releases[0]} to {releases[-1]}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
