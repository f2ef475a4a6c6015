#!/usr/bin/env python3
"""The check of types finds what a cluster would refuse, or drop in silence."""
import unittest

import support

support.need(kubernetes="Debian's python3-kubernetes", yaml="Debian's python3-yaml")
import kubernetes_types  # noqa: E402

POD = """
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: b}}
spec:
  containers:
    - name: c
      image: d
      ports: [{name: grpc, containerPort: 7070}]
"""


class TypesTest(unittest.TestCase):
    def assert_found(self, before, after, *words):
        self.assertIn(before, POD)
        documents = kubernetes_types.load_all(POD.replace(before, after))
        found = [finding for document in documents for finding in kubernetes_types.check(document)]
        self.assertEqual(len(found), 1, found)
        for word in words:
            self.assertIn(word, found[0])

    def test_a_good_one_passes(self):
        self.assertEqual(kubernetes_types.check(kubernetes_types.load_all(POD)[0]), [])

    def test_a_field_that_does_not_exist(self):
        self.assert_found("image: d", "image: d\n      readOnly: true", "readOnly", "V1Container")

    def test_a_field_one_level_too_high(self):
        self.assert_found("spec:", "spec:\n  image: d", "spec.image", "V1PodSpec")

    def test_a_number_that_is_a_text(self):
        self.assert_found("containerPort: 7070", 'containerPort: "7070"', "containerPort", "int")

    def test_a_text_that_reads_as_a_number(self):
        self.assert_found("app: b", "app: 1", "labels.app", "str")

    def test_a_switch_is_no_number(self):
        self.assert_found("containerPort: 7070", "containerPort: yes", "containerPort", "int")

    def test_what_is_required(self):
        self.assert_found("- name: c\n      image", "- image", "containers[0].name", "required")
        self.assert_found("metadata: {name: a, labels: {app: b}}", "metadata: {labels: {app: b}}", "no name")

    def test_a_value_that_is_not_among_those_allowed(self):
        self.assert_found("image: d", "image: d\n      imagePullPolicy: Sometimes", "Sometimes", "Always")

    def test_names_that_a_cluster_refuses(self):
        self.assert_found("name: grpc", "name: a-much-too-long-name", "port's name")
        self.assert_found("{name: a,", "{name: A_B,", "object's name")
        self.assert_found("app: b", "app: b c", "label's value")

    def test_a_kind_or_version_that_is_not_known(self):
        self.assert_found("kind: Pod", "kind: Pot", "Pot")
        self.assert_found("apiVersion: v1", "apiVersion: v2", "v2")

    def test_null_where_something_was_meant(self):
        self.assert_found("image: d", "image:", "image", "null")

    def test_a_key_that_stands_twice(self):
        with self.assertRaisesRegex(Exception, "stands twice"):
            kubernetes_types.load_all(POD.replace("image: d", "image: d\n      image: e"))

    def test_lists_and_maps(self):
        self.assert_found("ports: [{name: grpc, containerPort: 7070}]", "ports: {grpc: 7070}", "ports", "list")
        self.assert_found("labels: {app: b}", "labels: [app]", "labels", "map")


if __name__ == "__main__":
    unittest.main(verbosity=2)
