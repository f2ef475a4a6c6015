#!/usr/bin/env python3
"""The plain manifests and the examples: that they are what the chart renders to, fit each other, and
say what the rest of the tree says."""
import os
import re
import unittest

import support

support.need(kubernetes="Debian's python3-kubernetes", yaml="Debian's python3-yaml",
             jsonschema="Debian's python3-jsonschema")
support.need_renderer()
import yaml  # noqa: E402

import cluster  # noqa: E402
import kubernetes_types  # noqa: E402
import manifests  # noqa: E402

EXAMPLES = os.path.join(support.KUBERNETES, "examples")
PLAIN = sorted(name for name in os.listdir(support.KUBERNETES)
               if name.endswith(".yaml") and name != "kustomization.yaml")
README = support.read(support.KUBERNETES, "README.md")
# The secrets that the commands of README.md make, and the files in each.
SECRETS = {name: set(re.findall(r"--from-file=\S*/([^/\s]+)", rest)) for name, rest in
           re.findall(r"create secret generic (\S+)((?:[^\n]*\\\n)*[^\n]*)", README)}


def plain_objects():
    return [document for name in PLAIN
            for document in kubernetes_types.load_all(support.read(support.KUBERNETES, name))]


def example(name):
    return kubernetes_types.load_all(support.read(EXAMPLES, name))


def without_release(value):
    """An object without what only a release of helm's has."""
    if isinstance(value, dict):
        return {key: without_release(inside) for key, inside in value.items()
                if key not in ("helm.sh/chart", "app.kubernetes.io/managed-by", "checksum/config")}
    return value


def variables(container):
    return {variable["name"]: variable.get("value") for variable in container["env"]}


class PlainTest(unittest.TestCase):
    def test_they_are_what_the_chart_renders_to(self):
        rendered = {name: text for name, text in manifests.template(helm=False).items()
                    if name not in ("NOTES.txt", "tests/health.yaml")}
        rendered["servicemonitor.yaml"] = manifests.template_with(
            {"metrics": {"serviceMonitor": {"enabled": True}}}, helm=False)["servicemonitor.yaml"]
        self.assertEqual(PLAIN, sorted(rendered), "run tools/chart/manifests.py write")
        for name, text in rendered.items():
            with self.subTest(name):
                self.assertEqual(kubernetes_types.load_all(support.read(support.KUBERNETES, name)),
                                 [without_release(document) for document in kubernetes_types.load_all(text)],
                                 "run tools/chart/manifests.py write")

    def test_their_comments_are_the_charts_too(self):
        for name, text in manifests.plain_manifests(helm=False).items():
            self.assertEqual(support.read(support.KUBERNETES, name), text, "run tools/chart/manifests.py write")

    def test_they_fit_each_other_and_the_secrets_that_the_readme_makes(self):
        self.assertEqual(cluster.check(plain_objects(), SECRETS), [])

    def test_the_kustomization_lists_them(self):
        kustomization = yaml.safe_load(support.read(support.KUBERNETES, "kustomization.yaml"))
        self.assertEqual(set(kustomization), {"apiVersion", "kind", "resources"})
        # Without the one that needs an operator.
        self.assertEqual(sorted(kustomization["resources"]), [name for name in PLAIN if name != "servicemonitor.yaml"])

    def test_the_versions_are_the_projects(self):
        version = re.search(r"project\(syncnorm VERSION (\S+)", support.read(support.ROOT, "CMakeLists.txt")).group(1)
        chart = yaml.safe_load(support.read(manifests.CHART, "Chart.yaml"))
        self.assertEqual((chart["version"], chart["appVersion"]), (version, version))
        texts = [support.read(support.KUBERNETES, "statefulset.yaml"), support.read(EXAMPLES, "training-job.yaml")]
        for text in texts:
            self.assertEqual(re.findall(r"image: syncnorm-\w+:(\S+)", text), [version])


class ExamplesTest(unittest.TestCase):
    def test_the_jobs_fit_what_is_there_and_are_as_unprivileged(self):
        for name in ("training-job.yaml", "torchrun-job.yaml"):
            with self.subTest(name):
                self.assertEqual(cluster.check(plain_objects() + example(name), SECRETS), [])

    def jobs(self):
        for name in ("training-job.yaml", "torchrun-job.yaml"):
            job, = cluster.of_kind(example(name), "Job")
            yield job, job["spec"]["template"], job["spec"]["template"]["spec"]["containers"][0]

    def test_the_policy_lets_the_workers_in(self):
        policy, = cluster.of_kind(plain_objects(), "NetworkPolicy")
        peers = policy["spec"]["ingress"][0]["from"]
        for _, template, _ in self.jobs():
            self.assertTrue(any(cluster.selects(template["metadata"]["labels"], peer["podSelector"]["matchLabels"])
                                for peer in peers if set(peer) == {"podSelector"}))

    def test_their_address_is_the_services(self):
        service, = [one for one in cluster.of_kind(plain_objects(), "Service")
                    if one["spec"].get("clusterIP") != "None"]
        address = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
        for _, _, container in self.jobs():
            self.assertEqual(variables(container)["SYNCNORM_ADDR"], address)

    def test_their_variables_are_ones_that_the_library_reads(self):
        sources = support.read(support.ROOT, "client", "environment.cc")
        python = os.path.join(support.ROOT, "python", "syncnorm")
        sources += "".join(support.read(python, name) for name in os.listdir(python) if name.endswith(".py"))
        for job, _, container in self.jobs():
            for name in variables(container):
                if name != "NODE_RANK":  # for the arguments, below
                    self.assertIn(f'"{name}"', sources, job["metadata"]["name"])

    def test_their_files_are_those_of_the_secrets(self):
        for _, template, container in self.jobs():
            files = set().union(*(SECRETS[name] for name in cluster.secrets_of(template["spec"])))
            folder = container["volumeMounts"][0]["mountPath"]
            for name, value in variables(container).items():
                if name.startswith(("SYNCNORM_TLS_", "SYNCNORM_TOKEN_")):
                    self.assertEqual(os.path.dirname(value), folder)
                    self.assertIn(os.path.basename(value), files)

    def test_every_pod_of_a_job_gets_its_rank_and_there_are_as_many_as_it_says(self):
        for job, _, container in self.jobs():
            self.assertEqual(job["spec"]["completionMode"], "Indexed")
            self.assertEqual(job["spec"]["completions"], job["spec"]["parallelism"])
            rank = [one for one in container["env"] if one["name"] in ("RANK", "NODE_RANK")]
            self.assertEqual([one["valueFrom"]["fieldRef"]["fieldPath"] for one in rank],
                             ["metadata.annotations['batch.kubernetes.io/job-completion-index']"])
            said = variables(container).get("WORLD_SIZE") or re.search(
                r"--nnodes=(\d+)", " ".join(container["args"])).group(1)
            self.assertEqual(int(said), job["spec"]["completions"])

    def test_torchruns_rendezvous_is_the_first_pod(self):
        objects = example("torchrun-job.yaml")
        service, = cluster.of_kind(objects, "Service")
        job, = cluster.of_kind(objects, "Job")
        spec = job["spec"]["template"]["spec"]
        self.assertEqual(spec["subdomain"], service["metadata"]["name"])
        self.assertEqual(service["spec"]["clusterIP"], "None")
        arguments = dict(argument.lstrip("-").split("=") for argument in spec["containers"][0]["args"]
                         if argument.startswith("--"))
        self.assertEqual(arguments["master_addr"], f"{job['metadata']['name']}-0.{spec['subdomain']}")
        self.assertEqual(int(arguments["master_port"]), service["spec"]["ports"][0]["port"])
        self.assertEqual(arguments["node_rank"], "$(NODE_RANK)")

    def test_the_demos_arguments_are_flags_of_the_trainer(self):
        source = support.read(support.ROOT, "examples", "fashion_mnist", "main.cc")
        _, _, container = next(iter(self.jobs()))
        for argument in container["args"]:
            name = argument.lstrip("-").split("=")[0]
            self.assertRegex(source, rf"ABSL_FLAG\([^,]+(<[^>]+>)?, {name},", argument)

    def test_cert_manager_makes_the_secrets_that_are_mounted(self):
        objects = example("cert-manager.yaml")
        self.assertEqual([finding for document in objects for finding in cluster.check([document], SECRETS)], [])
        certificates = cluster.of_kind(objects, "Certificate")
        made = {certificate["spec"]["secretName"] for certificate in certificates}
        self.assertEqual(made & set(SECRETS), {"syncnorm-coordinator-tls", "syncnorm-worker-tls"})
        issuers = {issuer["metadata"]["name"]: issuer["spec"] for issuer in cluster.of_kind(objects, "Issuer")}
        for certificate in certificates:
            self.assertIn(certificate["spec"]["issuerRef"]["name"], issuers)
        self.assertIn(issuers["syncnorm"]["ca"]["secretName"], made)

    def test_the_certificates_are_for_the_services_names(self):
        services = cluster.of_kind(plain_objects(), "Service")
        pod, = cluster.of_kind(plain_objects(), "StatefulSet")
        wanted = set()
        for service in services:
            name = service["metadata"]["name"]
            if service["spec"].get("clusterIP") == "None":
                wanted.add(f"{pod['metadata']['name']}-0.{name}")
            else:
                wanted |= {name, f"{name}.NAMESPACE", f"{name}.NAMESPACE.svc"}
        certificate, = [one["spec"] for one in cluster.of_kind(example("cert-manager.yaml"), "Certificate")
                        if one["metadata"]["name"] == "syncnorm-coordinator"]
        self.assertEqual(set(certificate["dnsNames"]), wanted | {"localhost"})
        notes = manifests.template(helm=False, namespace="NAMESPACE")["NOTES.txt"]
        for text in (notes, README):
            command = re.search(r"syncnormctl certs .*--coordinator=(\S+)", text.replace("$namespace", "NAMESPACE"))
            self.assertEqual(set(command.group(1).split(",")), wanted | {"localhost"})

    def test_the_notes_make_the_same_secrets_as_the_readme(self):
        notes = manifests.template(helm=False)["NOTES.txt"]
        self.assertEqual(set(re.findall(r"create secret generic (\S+)", notes)), set(SECRETS))


if __name__ == "__main__":
    unittest.main(verbosity=2)
