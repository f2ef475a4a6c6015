#!/usr/bin/env python3
"""The Helm chart: what it renders to under several values, and what values it refuses."""
import copy
import json
import os
import unittest

import support

support.need(kubernetes="Debian's python3-kubernetes", yaml="Debian's python3-yaml",
             jsonschema="Debian's python3-jsonschema")
support.need_renderer()
import jsonschema  # noqa: E402
import yaml  # noqa: E402

import cluster  # noqa: E402
import kubernetes_types  # noqa: E402
import manifests  # noqa: E402

DEFAULTS = yaml.safe_load(support.read(manifests.CHART, "values.yaml"))
EVERYTHING = yaml.safe_load(support.read(support.VALUES, "everything.yaml"))


def render(values):
    return manifests.template_with(values, helm=False)


def objects(texts):
    return [document for name, text in texts.items() if name != "NOTES.txt"
            for document in kubernetes_types.load_all(text)]


def leaves(values, path=()):
    """Paths of what stands at the end of maps; an empty map is an end too."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, path + (key,))
        else:
            yield path + (key,)


def inner(values, path):
    for key in path:
        values = values[key]
    return values


def named_in(values):
    return {values["tls"]["existingSecret"], values["tokens"]["existingSecret"], values["test"]["clientSecret"]}


class ChartTest(unittest.TestCase):
    def test_under_all_values_the_objects_are_well_formed_and_fit_each_other(self):
        for files in support.values_files():
            with self.subTest(files):
                found = objects(manifests.template(*files, helm=False, release="prod", namespace="training"))
                self.assertEqual(cluster.check(found, named_in(manifests.merged(*files))), [])

    def test_a_release_name_of_any_length_makes_names_that_a_cluster_takes(self):
        # 53: the longest that helm takes.
        for release in ("a", "syncnorm", "x" * 53, "x" * 39 + "-" + "y" * 13):
            found = objects(manifests.template(helm=False, release=release))
            self.assertEqual(cluster.check(found, named_in(DEFAULTS)), [])
            for document in found:
                self.assertLessEqual(len(document["metadata"]["name"]), 63)

    def test_every_template_renders_to_something_under_some_values(self):
        rendered = set()
        for files in support.values_files():
            rendered |= set(manifests.template(*files, helm=False))
        there = {os.path.relpath(os.path.join(folder, name), os.path.join(manifests.CHART, "templates"))
                 for folder, _, names in os.walk(os.path.join(manifests.CHART, "templates"))
                 for name in names if not name.endswith(".tpl")}
        self.assertEqual(rendered, there)

    def test_everything_yaml_sets_every_value(self):
        unset = [path for path in leaves(DEFAULTS)
                 # The other ends of an alternative; least.yaml and no_tokens.yaml have them.
                 if path not in [("tls", "insecure"), ("image", "tag"), ("networkPolicy", "enabled"),
                                 ("podDisruptionBudget", "enabled")]
                 and path not in list(leaves(EVERYTHING)) and not any(
                     other[:len(path)] == path for other in leaves(EVERYTHING))]
        self.assertEqual(unset, [])

    def test_every_value_has_an_effect(self):
        whole = render(EVERYTHING)
        for path in leaves(EVERYTHING):
            with self.subTest(".".join(path)):
                without = copy.deepcopy(EVERYTHING)
                del inner(without, path[:-1])[path[-1]]
                self.assertNotEqual(render(without), whole)
        for values in ({"image": {"tag": "2"}}, {"networkPolicy": {"enabled": False}},
                       {"podDisruptionBudget": {"enabled": False}}):
            self.assertNotEqual(render(values), render({}))

    def test_a_large_number_stays_one(self):
        self.assertIn("max_open_bytes: 268435456", render(EVERYTHING)["configmap.yaml"])

    def test_a_change_of_the_configuration_makes_a_new_pod_and_a_new_version_of_the_chart_does_not(self):
        def pod(values):
            return objects({"a": render(values)["statefulset.yaml"]})[0]["spec"]["template"]
        self.assertNotEqual(pod({}), pod({"config": {"max_groups": 5}}))
        self.assertEqual(pod({}), pod({"podDisruptionBudget": {"maxUnavailable": 0}}))
        self.assertNotIn("helm.sh/chart", pod({})["metadata"]["labels"])

    def test_processors_may_be_a_number_as_set_makes_it(self):
        self.assertEqual(render({"resources": {"cpu": 2}}), render({"resources": {"cpu": "2"}}))

    def test_tls_has_to_be_given_or_given_up(self):
        with self.assertRaisesRegex(manifests.ChartError, "tls.existingSecret is empty.*tls.insecure=true"):
            render({"tls": {"existingSecret": ""}})
        with self.assertRaisesRegex(manifests.ChartError, "exclude each other"):
            render({"tls": {"insecure": True}})

    def test_the_notes_warn_of_plaintext(self):
        insecure = {"tls": {"existingSecret": "", "insecure": True}}
        self.assertIn("PLAINTEXT", render(insecure)["NOTES.txt"])
        self.assertNotIn("PLAINTEXT", render({})["NOTES.txt"])


class SchemaTest(unittest.TestCase):
    def test_it_is_a_schema(self):
        jsonschema.Draft7Validator.check_schema(manifests.schema())

    def test_it_has_no_value_that_the_chart_does_not_have(self):
        def properties(schema, path=()):
            for key, inside in schema.get("properties", {}).items():
                yield path + (key,)
                yield from properties(inside, path + (key,))
        for path in properties(manifests.schema()):
            # Flags of the coordinator (coordinator_test.py), and helm's own.
            if path[0] in ("config", "global"):
                continue
            with self.subTest(".".join(path)):
                inner(DEFAULTS, path)

    def test_it_refuses_naming_the_value(self):
        for path, value in [
                ("replicas", 2), ("image", "syncnorm"), ("image.tag", 1.0), ("image.repository", ""),
                ("image.repository", "registry/name:tag"), ("image.digest", "0123"),
                ("image.pullPolicy", "Sometimes"), ("imagePullSecrets", "a"),
                ("imagePullSecrets", [{"nam": "a"}]), ("tls.insecure", "yes"), ("tls.secret", "a"),
                ("tls.existingSecret", "A B"), ("tokens.key", "a/b"), ("listenHost", "0.0.0.0:7070"),
                ("listenHost", "coordinator"), ("drainGraceSeconds", "10s"), ("drainGraceSeconds", -1),
                ("drainGraceSeconds", 1.5), ("config.listen", "0.0.0.0:1"), ("config.tls_dir", "/x"),
                ("config.log_level", "loud"), ("config.max_groups", "1024"), ("config.max_groups", 0),
                ("config.round_timeout", "60"), ("config.round_timeout", 60), ("config.round_timout", "60s"),
                ("config.replace_duplicates", "true"), ("resources.cpu", True), ("resources.cpu", "2 cores"), ("resources.memory", "1GB"),
                ("resources.requests", {}), ("service.annotations", {"a": 1}),
                ("podDisruptionBudget.maxUnavailable", 2), ("podDisruptionBudget.minAvailable", 1),
                ("networkPolicy.workers", []), ("networkPolicy.workers", [{}]),
                ("networkPolicy.workers", [{"podselector": {}}]), ("metrics.serviceMonitor.enabled", "true"),
                ("metrics.serviceMonitor.interval", "15"), ("metrics.rules", {}), ("test.clientSecret", 1),
                ("podLabels", {"a": True}), ("tolerations", {}), ("priorityClassName", "A")]:
            with self.subTest(f"{path}={json.dumps(value)}"):
                values = {}
                place = values
                *above, last = path.split(".")
                for key in above:
                    place = place.setdefault(key, {})
                place[last] = value
                with self.assertRaises(manifests.ChartError) as refused:
                    render(values)
                # A key that is not known is named by the map that does not know it.
                self.assertTrue(any(f"{name}:" in str(refused.exception) or f"'{last}'" in str(refused.exception)
                                    for name in (path, path + ".0", path + ".a")), refused.exception)


if __name__ == "__main__":
    unittest.main(verbosity=2)
