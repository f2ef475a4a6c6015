"""The package beside others in one process."""
import subprocess
import sys

import pytest

import syncnorm
import syncnorm._core


def python(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_syncnorm_needs_no_torch():
    assert python("import sys, syncnorm; print('torch' in sys.modules)") == "False\n"


def test_nothing_but_the_modules_entry_is_visible():
    listing = subprocess.run(["nm", "-D", "--defined-only", syncnorm._core.__file__],
                             capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in listing.splitlines()] == ["PyInit__core"]


def test_torch_is_not_linked():
    listing = subprocess.run(["ldd", syncnorm._core.__file__], capture_output=True, text=True,
                             check=True).stdout
    assert "libtorch" not in listing and "libc10" not in listing


USE_SYNCNORM = """
import syncnorm
group = syncnorm.init(rank=0, world_size=1)
"""
# A server and a call of it, with bytes.
USE_GRPC = """
import grpc
from concurrent import futures
class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])
server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Echo()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
def call():
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return channel.unary_unary("/a/b")(b"abc", timeout=20)
"""
USE_BOTH = """
for _ in range(3):
    assert call() == b"cba"
    assert group.sum("a", [1.5]) == [1.5]
server.stop(None).wait()
syncnorm.shutdown()
print(grpc.__version__)
"""


@pytest.mark.parametrize("first,second", [(USE_SYNCNORM, USE_GRPC), (USE_GRPC, USE_SYNCNORM)],
                         ids=["syncnorm first", "grpcio first"])
@pytest.mark.parametrize("torch", ["", "import torch\n"], ids=["without torch", "with torch"])
def test_grpcio_and_syncnorm_in_one_process(first, second, torch):
    pytest.importorskip("grpc", reason="grpcio is not installed")
    print("grpcio", python(torch + first + second + USE_BOTH))


@pytest.mark.parametrize("order", ["google.protobuf.message, syncnorm", "syncnorm, google.protobuf.message"])
def test_protobuf_and_syncnorm_in_one_process(order):
    pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    python(f"import {order}\n" + USE_SYNCNORM + """
from google.protobuf import timestamp_pb2
stamp = timestamp_pb2.Timestamp(seconds=5)
assert timestamp_pb2.Timestamp.FromString(stamp.SerializeToString()).seconds == 5
assert group.sum("a", [1.5]) == [1.5]
""")


# As grpcio's health package does, with a file that is not ours byte for byte; then a call of the
# coordinator in this process with its messages.
USE_HEALTH = """
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
file = descriptor_pb2.FileDescriptorProto(
    name="grpc/health/v1/health.proto", package="grpc.health.v1", syntax="proto3")
request = file.message_type.add(name="HealthCheckRequest")
request.field.add(name="service", number=1, type=9, label=1)
response = file.message_type.add(name="HealthCheckResponse")
response.enum_type.add(name="ServingStatus").value.add(name="UNKNOWN", number=0)
response.enum_type[0].value.add(name="SERVING", number=1)
response.field.add(name="status", number=1, type=14, label=1,
                   type_name=".grpc.health.v1.HealthCheckResponse.ServingStatus")
file.service.add(name="Health").method.add(name="Check",
                                           input_type=".grpc.health.v1.HealthCheckRequest",
                                           output_type=".grpc.health.v1.HealthCheckResponse")
pool = descriptor_pool.Default()
pool.AddSerializedFile(file.SerializeToString())
# protobuf 4.22 and later have the first only, Debian's the second.
message_class = getattr(message_factory, "GetMessageClass",
                        getattr(message_factory.MessageFactory(pool), "GetPrototype", None))
messages = [message_class(pool.FindMessageTypeByName("grpc.health.v1." + name))
            for name in ("HealthCheckRequest", "HealthCheckResponse")]
"""
ASK_HEALTH = """
with grpc.insecure_channel(group.address) as channel:
    check = channel.unary_unary("/grpc.health.v1.Health/Check",
                                request_serializer=messages[0].SerializeToString,
                                response_deserializer=messages[1].FromString)
    assert check(messages[0](service="liveness"), timeout=20).status == 1
assert group.sum("a", [1.5]) == [1.5]
syncnorm.shutdown()
"""


@pytest.mark.parametrize("first,second", [(USE_SYNCNORM, USE_HEALTH), (USE_HEALTH, USE_SYNCNORM)],
                         ids=["syncnorm first", "health first"])
def test_a_health_package_and_a_coordinator_in_one_process(first, second):
    pytest.importorskip("grpc", reason="grpcio is not installed")
    pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    python(first + second + ASK_HEALTH)


@pytest.mark.parametrize("module,path", [
    (None, "operations: this build of syncnorm is one without CUDA"),
    ("raise ImportError('libcudart.so.0: no such file')",
     "operations: syncnorm._cuda cannot be loaded: libcudart.so.0: no such file")])
def test_without_the_module_for_cuda_all_else_works(module, path, tmp_path):
    if module is not None:
        (tmp_path / "_cuda.py").write_text(module)
    hidden = "" if module is not None else "sys.modules['syncnorm._cuda'] = None"
    assert python(f"""
import sys, syncnorm
syncnorm.__path__.insert(0, {str(tmp_path)!r})
{hidden}
import syncnorm.torch, torch
print(syncnorm.torch.cuda_path())
assert syncnorm.torch.SyncBatchNorm(2)(torch.eye(2)).shape == (2, 2)
""") == path + "\n"
