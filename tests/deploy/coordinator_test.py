#!/usr/bin/env python3
"""What the chart and the systemd unit configure, against the coordinator itself.

usage: coordinator_test.py COORDINATOR
"""
import os
import sys
import tempfile
import unittest

import support

COORDINATOR = sys.argv.pop(1)
support.need(yaml="Debian's python3-yaml", jsonschema="Debian's python3-jsonschema",
             kubernetes="Debian's python3-kubernetes")
support.need_program(COORDINATOR)
support.need_renderer()
import yaml  # noqa: E402

import cluster  # noqa: E402
import kubernetes_types  # noqa: E402
import manifests  # noqa: E402

FLAGS = support.flags_of(COORDINATOR)
# Flags that the chart gives by itself ...
OWN = {"listen", "admin_listen", "admin_insecure", "drain_grace", "tls_dir", "insecure", "tokens"}
# ... and those that make no sense in its pod: no folder to write to, files by tls_dir, questions.
NOT_IN_A_POD = {"tls_cert", "tls_key", "tls_client_ca", "dump_dir", "port_file", "config", "print_config",
                "check_config", "help", "version"}
UNIT_CONFIG = support.read(support.ROOT, "deploy", "systemd", "coordinator.yaml")


def configurations():
    """The chart's configuration file under each values file."""
    for files in support.values_files():
        texts = manifests.template(*files, helm=False)
        yield from cluster.configuration(kubernetes_types.load_all(texts["configmap.yaml"])).values()


class CoordinatorTest(unittest.TestCase):
    def test_its_help_is_understood(self):
        self.assertIn("listen", FLAGS)
        self.assertGreater(len(FLAGS), 20)

    def test_every_key_of_a_configuration_is_a_flag(self):
        for text in [*configurations(), UNIT_CONFIG]:
            self.assertEqual(set(yaml.safe_load(text)) - set(FLAGS), set())

    def test_every_argument_in_the_pod_and_in_the_unit_is_a_flag(self):
        unit = support.read(support.ROOT, "deploy", "systemd", "syncnorm-coordinator.service")
        command, = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
        stateful, = kubernetes_types.load_all(manifests.template(helm=False)["statefulset.yaml"])
        arguments = stateful["spec"]["template"]["spec"]["containers"][0]["args"]
        for argument in [*command.split()[1:], *arguments]:
            self.assertIn(argument.lstrip("-").split("=")[0], FLAGS)

    def test_the_charts_schema_knows_every_flag(self):
        offered = set(manifests.schema()["properties"]["config"]["properties"])
        # A new flag goes into values.schema.json, or into one of the two sets above.
        self.assertEqual(offered, set(FLAGS) - OWN - NOT_IN_A_POD)

    def test_what_the_chart_says_of_defaults_is_true(self):
        self.assertEqual(FLAGS["drain_grace"], "10s")
        self.assertEqual(sum(int(FLAGS[flag]) for flag in ("max_open_bytes", "max_kept_bytes", "max_handover_bytes")),
                         400 << 20)
        self.assertEqual(FLAGS["round_timeout"], "1m")
        self.assertEqual(FLAGS["max_streams"], "4096")

    def test_it_takes_every_configuration(self):
        with tempfile.TemporaryDirectory() as folder:
            support.make_certificates(folder)
            for text in [*configurations(), UNIT_CONFIG]:
                with self.subTest(text):
                    config = yaml.safe_load(text)
                    # The files, which are elsewhere here.
                    moved = [f"--tls_dir={folder}"] if "tls_dir" in config else []
                    moved += [f"--tokens={os.path.join(folder, 'tokens')}"] if "tokens" in config else []
                    moved += [f"--dump_dir={folder}"] if "dump_dir" in config else []
                    status, output = support.check_config(COORDINATOR, text, *moved)
                    self.assertEqual(status, 0, output)

    def test_it_would_refuse_a_wrong_one(self):
        status, output = support.check_config(COORDINATOR, "listen: 127.0.0.1:0\nround_timout: 60s\n")
        self.assertNotEqual(status, 0)
        self.assertIn("round_timout", output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
