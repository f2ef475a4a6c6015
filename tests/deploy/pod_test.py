#!/usr/bin/env python3
"""The pods of the manifests, with what a kubelet would give them and no more: their user, no
capabilities, a read-only root, the mounts with their modes, arguments, variables, and probes; with
secrets made as README.md says.  Their network is one namespace, in which the Services' names lead to
the loopback interface.

usage: pod_test.py COORDINATOR CTL TRAINER
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import support

sys.path.insert(0, os.path.join(support.ROOT, "tests", "e2e"))
import harness  # noqa: E402

PROGRAMS = dict(zip(("syncnorm-coordinator", "syncnormctl", "syncnorm-trainer"), sys.argv[1:4]))
del sys.argv[1:4]
for program in PROGRAMS.values():
    support.need_program(program)
if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "--net", "true"], check=False).returncode:
    support.skip("pods take root, and namespaces")
support.need(kubernetes="Debian's python3-kubernetes", yaml="Debian's python3-yaml",
             jsonschema="Debian's python3-jsonschema")
support.need_renderer()
import cluster  # noqa: E402
import kubernetes_types  # noqa: E402
import manifests  # noqa: E402

README = support.read(support.KUBERNETES, "README.md")
NAMESPACE = "training"

# What becomes of a container: arguments are its /etc, its user, and the command.
ENTER = """
set -e
etc=$1 user=$2
shift 2
ip link set lo up
mount --bind "$etc" /etc
mount -o remount,bind,ro /etc
mount -t tmpfs -o ro tmpfs /tmp
mount -o remount,bind,ro /
exec setpriv --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs -- "$@"
"""


class Node:
    """What pods run on: a folder, and from the first pod on a network."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.count = 0
        self.network = []  # the words that lead into it
        self.secrets = self.make_secrets()
        self.maps = {}

    def make_secrets(self):
        """{secret: {key: bytes}}, by README.md's own commands."""
        command, = re.findall(r"^syncnormctl (certs .*)$", README, flags=re.MULTILINE)
        subprocess.run([PROGRAMS["syncnormctl"], *command.replace("$namespace", NAMESPACE).split()], cwd=self.scratch,
                       check=True, capture_output=True, text=True)
        secrets = {}
        for name, rest in re.findall(r"create secret generic (\S+)((?:[^\n]*\\\n)*[^\n]*)", README):
            secrets[name] = {}
            for path in re.findall(r"--from-file=(\S+)", rest):
                with open(os.path.join(self.scratch, path), "rb") as file:
                    secrets[name][os.path.basename(path)] = file.read()
        return secrets

    def _write(self, folder, files, mode, group):
        os.makedirs(folder)
        for name, content in files.items():
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(content)
            os.chown(path, 0, group)
            os.chmod(path, mode)

    def _files(self, volume):
        """{name in the folder: bytes}, mode"""
        if "configMap" in volume:
            data = self.maps[volume["configMap"]["name"]]
            return {name: text.encode() for name, text in data.items()}, 0o644
        if "secret" in volume:
            source = volume["secret"]
            secret = self.secrets[source["secretName"]]
            return {item["path"]: secret[item["key"]] for item in source["items"]}, source["defaultMode"]
        source = volume["projected"]
        files = {}
        for part in source["sources"]:
            files.update(self.secrets[part["secret"]["name"]])
        return files, source["defaultMode"]

    def start(self, name, spec, program, arguments=None, environment=None, index=None):
        """A pod's first container as a harness.Process."""
        container = spec["containers"][0]
        self.count += 1
        etc = os.path.join(self.scratch, f"etc-{self.count}")
        shutil.copytree("/etc", etc, symlinks=True)
        os.chmod(etc, 0o755)
        with open(os.path.join(etc, "hosts"), "w", encoding="utf-8") as file:
            file.write(f"127.0.0.1 localhost\n127.0.0.1 syncnorm-coordinator syncnorm-coordinator.{NAMESPACE}.svc\n")
        image = os.path.join(etc, "image")
        os.mkdir(image)
        shutil.copy(program, image)
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            files, mode = self._files(volumes[mount["name"]])
            assert mount["mountPath"].startswith("/etc/") and mount["readOnly"], mount
            self._write(etc + mount["mountPath"][4:], files, mode, spec["securityContext"]["fsGroup"])
        variables = dict(environment or {}, PATH="/usr/bin:/bin")
        for variable in container.get("env", []):
            if "value" in variable:
                variables[variable["name"]] = variable["value"]
            elif "job-completion-index" in variable["valueFrom"]["fieldRef"]["fieldPath"]:
                variables[variable["name"]] = str(index)
            else:
                variables[variable["name"]] = "c0ffee00-uid-of-the-job"
        command = ["/etc/image/" + os.path.basename(program), *(container.get("args", []) if arguments is None else arguments)]
        enter = [*self.network, "unshare", "--mount", *([] if self.network else ["--net"]), "--propagation", "private", "--",
                 "sh", "-c", ENTER, "sh", etc, str(spec["securityContext"]["runAsUser"])]
        process = harness.Process(name, ["env", "-i", *(f"{key}={value}" for key, value in variables.items()),
                                         *enter, *command], self.scratch)
        if not self.network:
            self.network = ["nsenter", f"--net=/proc/{process.pid}/ns/net"]
        return process

    def get(self, probe, ports):
        """What a probe's httpGet answers: its status, or 0 for none."""
        url = f"http://127.0.0.1:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        script = ("import sys, urllib.error, urllib.request\n"
                  "try: print(urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).status)\n"
                  "except urllib.error.HTTPError as error: print(error.code)\n"
                  "except OSError: print(0)\n")
        done = subprocess.run([*self.network, sys.executable, "-c", script, url, str(probe.get("timeoutSeconds", 1))],
                              capture_output=True, text=True, check=True, timeout=60)
        return int(done.stdout)


class PodTest(unittest.TestCase):
    def setUp(self):
        self.processes = []
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.addCleanup(self.end)
        os.chmod(scratch.name, 0o755)
        self.node = Node(scratch.name)
        texts = manifests.template(helm=False, namespace=NAMESPACE)
        objects = [one for name, text in texts.items() if name != "NOTES.txt" for one in kubernetes_types.load_all(text)]
        for document in cluster.of_kind(objects, "ConfigMap"):
            self.node.maps[document["metadata"]["name"]] = document["data"]
        self.pod = cluster.of_kind(objects, "StatefulSet")[0]["spec"]["template"]["spec"]
        self.test_pod = cluster.of_kind(objects, "Pod")[0]["spec"]
        self.job = cluster.of_kind(kubernetes_types.load_all(
            support.read(support.KUBERNETES, "examples", "training-job.yaml")), "Job")[0]["spec"]

    def end(self):
        for process in self.processes:
            process.kill()
            process.process.stdin.close()
            process.reader.join()
            process.process.stdout.close()

    def start(self, *arguments, **options):
        process = self.node.start(*arguments, **options)
        self.processes.append(process)
        return process

    def coordinator(self):
        process = self.start("coordinator", self.pod, PROGRAMS["syncnorm-coordinator"])
        try:
            process.wait_line("listening on ")
        except AssertionError:
            self.fail(support.read(process.log))
        return process

    def workers(self, *more, index=None):
        container = self.job["template"]["spec"]["containers"][0]
        indices = range(self.job["completions"]) if index is None else [index]
        # Fewer steps than it says.
        return [self.start(f"worker-{one}", self.job["template"]["spec"], PROGRAMS["syncnorm-trainer"], index=one,
                           arguments=[*container["args"], "--steps=3", "--test_images=8", "--final_test_images=8", *more])
                for one in indices]

    def test_the_probes_the_helm_test_and_the_end(self):
        coordinator = self.coordinator()
        container, ports = self.pod["containers"][0], cluster.ports_of(self.pod)
        for probe in ("livenessProbe", "readinessProbe"):
            self.assertEqual(self.node.get(container[probe], ports), 200, probe)
        health = self.start("health", self.test_pod, PROGRAMS["syncnormctl"])
        self.assertEqual(health.wait(), 0, support.read(health.log))
        coordinator.process.send_signal(signal.SIGTERM)
        self.assertEqual(coordinator.wait(self.pod["terminationGracePeriodSeconds"]), 0, support.read(coordinator.log))

    def test_the_jobs_workers_train(self):
        self.coordinator()
        workers = self.workers()
        for worker in workers:
            self.assertEqual(worker.wait(120), 0, support.read(worker.log))

    def test_a_worker_with_another_token_is_refused(self):
        self.coordinator()
        self.node.secrets["syncnorm-worker-token"]["token"] = b"0" * 64
        worker, = self.workers(index=0)
        self.assertNotEqual(worker.wait(120), 0)
        self.assertIn("token", support.read(worker.log))

    def test_a_coordinator_whose_keys_it_may_not_read_does_not_start(self):
        for volume in self.pod["volumes"]:
            if "secret" in volume:
                volume["secret"]["defaultMode"] = 0o400
        coordinator = self.start("coordinator", self.pod, PROGRAMS["syncnorm-coordinator"])
        self.assertNotEqual(coordinator.wait(), 0)
        self.assertIn("/etc/syncnorm/", support.read(coordinator.log))


if __name__ == "__main__":
    unittest.main(verbosity=2)
