// Failpoints: places where a test lets a process die.  Each is one line of the
// product:
//
//   SYNCNORM_FAILPOINT("server.after_k_results");
//
// and compiles to nothing, except in the test programs that are built from the same
// sources with SYNCNORM_FAILPOINTS defined (tests/e2e).  There the environment says which
// place, and at which pass of it, the process ends as by kill -9:
//
//   SYNCNORM_FAILPOINT=server.after_k_results:41
//
// Thread-safety: may be passed concurrently.
#pragma once

#ifdef SYNCNORM_FAILPOINTS
namespace syncnorm {
void PassFailpoint(const char* name);  // tests/support/failpoint.cc
}
#define SYNCNORM_FAILPOINT(name) ::syncnorm::PassFailpoint(name)
#else
#define SYNCNORM_FAILPOINT(name) static_cast<void>(0)
#endif
