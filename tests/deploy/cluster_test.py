#!/usr/bin/env python3
"""The checks of a release's objects against each other find one wrong end at a time."""
import copy
import unittest

import support

support.need(kubernetes="Debian's python3-kubernetes", yaml="Debian's python3-yaml",
             jsonschema="Debian's python3-jsonschema")
support.need_renderer()
import cluster  # noqa: E402
import kubernetes_types  # noqa: E402
import manifests  # noqa: E402

SECRETS = {"syncnorm-coordinator-tls", "syncnorm-coordinator-tokens", "syncnorm-worker-tls"}
OBJECTS = [document for name, text in
           manifests.template_with({"metrics": {"serviceMonitor": {"enabled": True},
                                                "rules": "groups: [{name: a, rules: [{alert: b, expr: c}]}]"}},
                                   helm=False).items()
           if name != "NOTES.txt" for document in kubernetes_types.load_all(text)]


class ClusterTest(unittest.TestCase):
    def setUp(self):
        self.objects = copy.deepcopy(OBJECTS)

    def get(self, kind, end=""):
        found = [document for document in cluster.of_kind(self.objects, kind)
                 if document["metadata"]["name"].endswith(end)]
        return found[0]

    def pod(self):
        return self.get("StatefulSet")["spec"]["template"]["spec"]

    def container(self):
        return self.pod()["containers"][0]

    def assert_found(self, *words):
        found = cluster.check(self.objects, SECRETS)
        self.assertEqual(len(found), 1, found)
        for word in words:
            self.assertIn(word, found[0])

    def test_what_the_chart_renders_passes(self):
        self.assertEqual(cluster.check(self.objects, SECRETS), [])

    def test_a_service_that_selects_nothing(self):
        self.get("Service", "headless")["spec"]["selector"]["app.kubernetes.io/component"] = "x"
        self.assert_found("Service syncnorm-coordinator-headless", "0 workloads")

    def test_a_service_port_that_no_container_has(self):
        self.get("Service", "coordinator")["spec"]["ports"][1]["targetPort"] = "metrics"
        self.assert_found("Service syncnorm-coordinator", "metrics")

    def test_a_service_of_the_name_that_makes_a_variable_workers_read(self):
        self.get("Service", "coordinator")["metadata"]["name"] = "syncnorm"
        self.assert_found("SYNCNORM_PORT")

    def test_a_stateful_set_without_its_headless_service(self):
        del self.get("Service", "headless")["spec"]["clusterIP"]
        self.assert_found("StatefulSet", "headless")

    def test_a_selector_that_does_not_fit_its_own_pods(self):
        self.get("StatefulSet")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] = "x"
        self.assert_found("StatefulSet", "its pods' labels")

    def test_a_budget_or_a_policy_for_nobody(self):
        for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
            self.setUp()
            self.get(kind)["spec"][field]["matchLabels"]["app.kubernetes.io/name"] = "x"
            self.assert_found(kind, "0 workloads")

    def test_a_policy_that_lets_everybody_in(self):
        rules = self.get("NetworkPolicy")["spec"]["ingress"]
        rules[0]["from"] = []
        self.assert_found("everybody")
        self.setUp()
        self.get("NetworkPolicy")["spec"]["ingress"][0]["from"][0]["podSelector"] = {}
        self.assert_found("everybody")
        self.setUp()
        del self.get("NetworkPolicy")["spec"]["ingress"][1]["ports"]
        self.assert_found("opens all")

    def test_a_policy_for_a_port_that_is_not_there(self):
        self.get("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] = 7072
        self.assert_found("7072")

    def test_a_monitor_that_finds_nothing_or_too_much(self):
        self.get("ServiceMonitor")["spec"]["endpoints"][0]["port"] = "metrics"
        self.assert_found("ServiceMonitor", "0 Services")
        self.setUp()
        self.get("Service", "headless")["spec"]["ports"].append({"name": "admin", "port": 7071, "targetPort": "admin"})
        self.assert_found("ServiceMonitor", "2 Services")
        self.setUp()
        self.get("ServiceMonitor")["spec"]["endpoints"][0]["targetport"] = 7071
        self.assert_found("ServiceMonitor", "targetport")

    def test_rules_without_an_expression(self):
        del self.get("PrometheusRule")["spec"]["groups"][0]["rules"][0]["expr"]
        self.assert_found("PrometheusRule", "expr")

    def test_a_probe_of_a_port_that_is_not_there(self):
        self.container()["startupProbe"] = {"httpGet": {"port": 8080, "path": "/"}}
        self.assert_found("startupProbe", "8080")

    def test_a_probe_of_another_page(self):
        self.container()["livenessProbe"]["httpGet"]["path"] = "/readyz"
        self.assert_found("livenessProbe", "/healthz")

    def test_mounts_and_volumes_that_miss_each_other(self):
        self.container()["volumeMounts"].append({"name": "x", "mountPath": "/x"})
        self.assert_found("no volume x")
        self.setUp()
        self.pod()["volumes"].append({"name": "x", "emptyDir": {}})
        self.assert_found("x is mounted nowhere")
        self.setUp()
        self.pod()["volumes"][0]["configMap"]["name"] = "x"
        found = cluster.check(self.objects, SECRETS)
        self.assertTrue(any("no ConfigMap x" in finding for finding in found), found)

    def test_a_mount_that_would_not_follow_a_rotation(self):
        self.container()["volumeMounts"][1]["subPath"] = "tls"
        self.assert_found("subPath")

    def test_a_secret_that_nobody_makes(self):
        self.pod()["volumes"][1]["secret"]["secretName"] = "other"
        self.assert_found("the secret other")

    def test_keys_that_everybody_in_the_container_may_read(self):
        self.pod()["volumes"][1]["secret"]["defaultMode"] = 0o444
        self.assert_found("0o444")

    def test_a_configuration_whose_files_are_elsewhere(self):
        data = self.get("ConfigMap")["data"]
        data["coordinator.yaml"] = data["coordinator.yaml"].replace("/etc/syncnorm/tokens/tokens", "/etc/syncnorm/tokens/x")
        found = cluster.check(self.objects, SECRETS)
        self.assertTrue(any("names /etc/syncnorm/tokens/x" in finding for finding in found), found)
        self.assertTrue(any("does not use it" in finding for finding in found), found)

    def test_a_secret_without_the_authority(self):
        del self.pod()["volumes"][1]["secret"]["items"][2]
        self.assert_found("/etc/syncnorm/tls/ca.crt")

    def test_a_configuration_that_listens_elsewhere(self):
        data = self.get("ConfigMap")["data"]
        data["coordinator.yaml"] = data["coordinator.yaml"].replace(":7071", ":7072")
        self.assert_found("admin_listen", "7072")

    def test_a_configuration_that_is_not_mounted(self):
        self.container()["args"] = ["--config=/etc/coordinator.yaml"]
        self.assert_found("--config=/etc/coordinator.yaml")

    def test_a_kill_before_the_end_of_the_drain(self):
        self.pod()["terminationGracePeriodSeconds"] = 10
        self.assert_found("draining takes 10 s")

    def test_every_relaxation_of_a_pod(self):
        relaxations = [
            ("runAsNonRoot", lambda pod: pod["securityContext"].pop("runAsNonRoot")),
            ("numeric user", lambda pod: pod["securityContext"].pop("runAsUser")),
            ("numeric user", lambda pod: pod["securityContext"].update(runAsUser=0)),
            ("seccomp", lambda pod: pod["securityContext"].pop("seccompProfile")),
            ("automountServiceAccountToken", lambda pod: pod.pop("automountServiceAccountToken")),
            ("enableServiceLinks", lambda pod: pod.pop("enableServiceLinks")),
            ("ServiceAccount", lambda pod: pod.update(serviceAccountName="x")),
            ("allowPrivilegeEscalation",
             lambda pod: pod["containers"][0]["securityContext"].pop("allowPrivilegeEscalation")),
            ("readOnlyRootFilesystem",
             lambda pod: pod["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False)),
            ("capabilities", lambda pod: pod["containers"][0]["securityContext"]["capabilities"].update(add=["NET_RAW"])),
            ("requests", lambda pod: pod["containers"][0]["resources"]["requests"].update(cpu="1")),
        ]
        for words, relax in relaxations:
            with self.subTest(words):
                self.setUp()
                relax(self.pod())
                self.assert_found(words)


if __name__ == "__main__":
    unittest.main(verbosity=2)
