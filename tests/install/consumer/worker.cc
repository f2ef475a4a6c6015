// Links the client and nothing else of syncnorm.
#include <syncnorm/batch_norm.h>
#include <syncnorm/failure.h>
#include <syncnorm/group.h>
#include <syncnorm/moments.h>
#include <syncnorm/power_norm.h>
#include <syncnorm/reducer.h>
#include <syncnorm/round_key.h>
#include <syncnorm/tensor.h>

#include <cstdio>

int main() {
  syncnorm::GroupOptions options;
  options.rank = 1;  // of a world of 0
  options.address = "localhost:1";
  const absl::Status status = syncnorm::Group::Connect(options).status();
  std::puts(status.ToString().c_str());
  return absl::IsInvalidArgument(status) ? 0 : 1;
}
