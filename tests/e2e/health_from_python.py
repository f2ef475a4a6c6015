#!/usr/bin/env python3
"""gRPC's health service of a real coordinator with TLS and tokens, asked by Python's grpcio with
messages that protoc made; certificates by syncnormctl certs.

usage: health_from_python.py COORDINATOR SYNCNORMCTL PROTO_DIR
Exit status 77: skipped (says which module is missing).
"""
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import unittest

try:
    import grpc
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-grpcio)")
    sys.exit(77)

COORDINATOR, CTL, PROTO_DIR = None, None, None
OWN = ["", "syncnorm.v1.Coordinator", "readiness", "liveness"]
WAIT = 20  # s


def read(*path):
    with open(os.path.join(*path), "rb") as f:
        return f.read()


class HealthTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        gen = os.path.join(cls.folder.name, "gen")
        os.mkdir(gen)
        subprocess.run(["protoc", "-I", PROTO_DIR, "--python_out", gen,
                        "grpc/health/v1/health.proto"], check=True)
        # By its file: the package grpc is grpcio's.
        path = os.path.join(gen, "grpc", "health", "v1", "health_pb2.py")
        spec = importlib.util.spec_from_file_location("health_pb2", path)
        cls.pb = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(cls.pb)
        cls.certs = os.path.join(cls.folder.name, "certs")
        subprocess.run([CTL, "certs", f"--out={cls.certs}", "--coordinator=coordinator.example"],
                       check=True, stdout=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        own = os.path.join(self.certs, "coordinator")
        self.process = subprocess.Popen(
            [COORDINATOR, "--listen=127.0.0.1:0", f"--tls_dir={own}", f"--tokens={own}/tokens",
             "--log_level=error"], stdout=subprocess.PIPE, text=True)
        address = self.process.stdout.readline().strip().removeprefix("listening on ")
        worker = os.path.join(self.certs, "worker")
        credentials = grpc.ssl_channel_credentials(
            read(worker, "ca.crt"), read(worker, "tls.key"), read(worker, "tls.crt"))
        # The name that it was given, though it is reached by another one.
        self.channel = grpc.secure_channel(
            address, credentials,
            options=[("grpc.ssl_target_name_override", "coordinator.example")])

    def tearDown(self):
        self.channel.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def call(self, kind, method):
        return getattr(self.channel, kind)(
            f"/grpc.health.v1.Health/{method}",
            request_serializer=self.pb.HealthCheckRequest.SerializeToString,
            response_deserializer=self.pb.HealthCheckResponse.FromString)

    def check(self, service):
        request = self.pb.HealthCheckRequest(service=service)
        return self.call("unary_unary", "Check")(request, timeout=WAIT).status

    def watch(self, service):
        request = self.pb.HealthCheckRequest(service=service)
        return self.call("unary_stream", "Watch")(request, timeout=WAIT)

    def test_each_service_serves_without_a_token(self):
        for service in OWN:
            self.assertEqual(self.check(service), self.pb.HealthCheckResponse.SERVING, service)

    def test_a_service_that_is_not_there(self):
        with self.assertRaises(grpc.RpcError) as raised:
            self.check("nobody")
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)
        watch = self.watch("nobody")
        self.assertEqual(next(watch).status, self.pb.HealthCheckResponse.SERVICE_UNKNOWN)
        watch.cancel()

    def test_watch_is_told_of_the_drain_and_ends(self):
        watches = {service: self.watch(service) for service in OWN}
        for service, watch in watches.items():
            self.assertEqual(next(watch).status, self.pb.HealthCheckResponse.SERVING, service)
        self.process.send_signal(signal.SIGTERM)
        for service, watch in watches.items():
            left = [response.status for response in watch]
            told = [] if service == "liveness" else [self.pb.HealthCheckResponse.NOT_SERVING]
            self.assertEqual(left, told, service)
            self.assertEqual(watch.code(), grpc.StatusCode.OK, service)
        self.assertEqual(self.process.wait(WAIT), 0)


if __name__ == "__main__":
    COORDINATOR, CTL, PROTO_DIR = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1])
