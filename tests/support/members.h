// The members of a group as the tests of the norms want them: any number, each
// with a Reducer, all running the same body at once.  Made of an InProcessGroup,
// or of whatever else can run one.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/reducer.h>

#include <functional>
#include <utility>

#include "tests/support/in_process_group.h"

namespace syncnorm::testing {

struct Members {
  using Body = std::function<void(int rank, Reducer* reducer)>;

  Members(InProcessGroup* group)  // NOLINT: the group is its members
      : count(group->world_size()), run([group](const Body& body) { group->Run(body); }) {}
  Members(int count, std::function<void(const Body& body)> run)
      : count(count), run(std::move(run)) {}

  int count;
  std::function<void(const Body& body)> run;  // returns when all have
};

}  // namespace syncnorm::testing
