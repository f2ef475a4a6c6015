#include <syncnorm/recompute.h>

namespace syncnorm {
namespace {

thread_local int depth = 0;

}  // namespace

RecomputeScope::RecomputeScope() { ++depth; }
RecomputeScope::~RecomputeScope() { --depth; }
bool RecomputeScope::active() { return depth > 0; }

}  // namespace syncnorm
