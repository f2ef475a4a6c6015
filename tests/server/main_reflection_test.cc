// gRPC's reflection service of the real program, asked as any tool does.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/sync_stream.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/strip.h"
#include "tests/server/process.h"

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Stream = grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

// Which services there are: the bytes of the answer, or "" and the call's status.
std::string Services(const std::string& address, grpc::Status* status) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  const grpc::internal::RpcMethod method(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      grpc::internal::RpcMethod::BIDI_STREAMING, channel);
  grpc::ClientContext context;
  const std::unique_ptr<Stream> stream(
      grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
          channel.get(), method, &context));
  const grpc::Slice list_services("\x3a\x01*");  // field 7 of a ServerReflectionRequest, a string
  stream->Write(grpc::ByteBuffer(&list_services, 1));
  stream->WritesDone();
  grpc::ByteBuffer answer;
  grpc::Slice bytes;
  std::string text;
  if (stream->Read(&answer) && answer.DumpToSingleSlice(&bytes).ok()) {
    text.assign(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
  }
  *status = stream->Finish();
  return text;
}

TEST(MainReflectionTest, TellsTheServicesOnlyIfItIsToldTo) {
  for (const bool told : {true, false}) {
    Process process({SYNCNORM_COORDINATOR, "--listen=127.0.0.1:0",
                     told ? "--grpc_reflection" : "--nogrpc_reflection"});
    const std::string line = process.ReadLine();
    grpc::Status status;
    const std::string services =
        Services(std::string(absl::StripPrefix(line, "listening on ")), &status);
    if (told) {
      EXPECT_TRUE(status.ok()) << status.error_message();
      EXPECT_THAT(services,
                  AllOf(HasSubstr("syncnorm.v1.Coordinator"), HasSubstr("syncnorm.v1.Admin")));
    } else {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
      EXPECT_EQ(services, "");
    }
  }
}

}  // namespace
}  // namespace syncnorm::server
