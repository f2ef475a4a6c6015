// FreeBy: deletes what a C library made, in a std::unique_ptr:
//
//   std::unique_ptr<BIO, FreeBy<&BIO_free_all>> bio(BIO_new(BIO_s_mem()));
#pragma once

namespace syncnorm {

template <auto kFree>
struct FreeBy {
  template <typename T>
  void operator()(T* thing) const {
    kFree(thing);
  }
};

}  // namespace syncnorm
