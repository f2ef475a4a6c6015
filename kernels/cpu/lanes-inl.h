// Lanes: one vector of elements, of any dtype, as the numbers that the kernels
// compute with: float for f32, f16 and bf16, double for f64.  Per target; to be
// included inside foreach_target's loop only.
//
// Callers may rely on:
//   * LoadLanes and StoreLanes touch exactly Lanes(d) elements, LoadSome and StoreSome
//     exactly n, none of them needs alignment.  Lanes beyond n are loaded as 0.
//   * Stores round to nearest even.  Highway 1.0.3 truncates to bf16 on every
//     target, and to f16 on those without F16C, so those go another way here.
//   * No lane is ever used that was masked out, whatever it holds.
#if defined(SYNCNORM_KERNELS_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCNORM_KERNELS_CPU_LANES_INL_H_
#undef SYNCNORM_KERNELS_CPU_LANES_INL_H_
#else
#define SYNCNORM_KERNELS_CPU_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "hwy/highway.h"
#include "kernels/half.h"
#include "kernels/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// What an element of type T is computed in.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

// ---- One element -------------------------------------------------------------

inline float LoadOne(const float* p) { return *p; }
inline double LoadOne(const double* p) { return *p; }
inline float LoadOne(const hwy::float16_t* p) { return F32FromF16(p->bits); }
inline float LoadOne(const hwy::bfloat16_t* p) { return F32FromBF16(p->bits); }

// ---- Whole vectors -------------------------------------------------------------

template <class D>
HWY_INLINE hn::Vec<D> LoadLanes(D d, const hn::TFromD<D>* p) {
  return hn::LoadU(d, p);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadLanes(D d, const hwy::bfloat16_t* p) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> half;
  const auto bits = hn::LoadU(half, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

template <class D>
HWY_INLINE hn::Vec<D> LoadLanes(D d, const hwy::float16_t* p) {
#if HWY_TARGET <= HWY_AVX2  // F16C
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<hwy::float16_t, D>(), p));
#else
  HWY_ALIGN float wide[hn::MaxLanes(d)];
  for (size_t i = 0; i < hn::Lanes(d); ++i) wide[i] = LoadOne(p + i);
  return hn::Load(d, wide);
#endif
}

template <class D>
HWY_INLINE void StoreLanes(hn::Vec<D> v, D d, hn::TFromD<D>* p) {
  hn::StoreU(v, d, p);
}

template <class D>
HWY_INLINE void StoreLanes(hn::Vec<D> v, D d, hwy::bfloat16_t* p) {
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint16_t, D> half;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF)));
  // A NaN could round to infinity or zero; it is made quiet instead.
  const auto nan = hn::MaskFromVec(hn::BitCast(du, hn::VecFromMask(d, hn::IsNaN(v))));
  const auto kept = hn::IfThenElse(nan, hn::Or(bits, hn::Set(du, 0x400000)), rounded);
  hn::StoreU(hn::DemoteTo(half, hn::BitCast(di, hn::ShiftRight<16>(kept))), half,
             reinterpret_cast<uint16_t*>(p));
}

template <class D>
HWY_INLINE void StoreLanes(hn::Vec<D> v, D d, hwy::float16_t* p) {
#if HWY_TARGET <= HWY_AVX2  // F16C rounds to nearest even
  const hn::Rebind<hwy::float16_t, D> half;
  hn::StoreU(hn::DemoteTo(half, v), half, p);
#else
  HWY_ALIGN float wide[hn::MaxLanes(d)];
  hn::Store(v, d, wide);
  for (size_t i = 0; i < hn::Lanes(d); ++i) p[i].bits = F16FromDouble(wide[i]);
#endif
}

// ---- The first n lanes ---------------------------------------------------------

// Copies n < lanes elements; the compiler does not see the bound by itself.
template <size_t kLanes, class T>
HWY_INLINE void CopySome(const T* from, size_t n, T* to) {
  if (n < kLanes) std::memcpy(static_cast<void*>(to), from, n * sizeof(T));
}

template <class D, class T>
HWY_INLINE hn::Vec<D> LoadSome(D d, const T* p, size_t n) {
#if HWY_TARGET <= HWY_AVX2  // lanes masked off are not touched in memory
  if constexpr (sizeof(T) >= 4) return hn::MaskedLoad(hn::FirstN(d, n), d, p);
#endif
  HWY_ALIGN T all[hn::MaxLanes(d)] = {};
  CopySome<hn::MaxLanes(d)>(p, n, all);
  return LoadLanes(d, all);
}

template <class D, class T>
HWY_INLINE void StoreSome(hn::Vec<D> v, D d, T* p, size_t n) {
#if HWY_TARGET <= HWY_AVX2
  if constexpr (sizeof(T) >= 4) return hn::BlendedStore(v, hn::FirstN(d, n), d, p);
#endif
  HWY_ALIGN T all[hn::MaxLanes(d)];
  StoreLanes(v, d, all);
  CopySome<hn::MaxLanes(d)>(all, n, p);
}

// ---- Masks -------------------------------------------------------------------

// True where the byte is not 0.
template <class D>
HWY_INLINE hn::Mask<D> LoadValid(D d, const uint8_t* valid) {
  const auto bytes = hn::LoadU(hn::Rebind<uint8_t, D>(), valid);
  const auto words = hn::PromoteTo(hn::Rebind<uint32_t, D>(), bytes);
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    const hn::RebindToUnsigned<D> du;
    return hn::RebindMask(d, hn::Ne(words, hn::Zero(du)));
  } else {
    const hn::RebindToUnsigned<D> du;
    return hn::RebindMask(d, hn::Ne(hn::PromoteTo(du, words), hn::Zero(du)));
  }
}

// The same of the first n bytes; false beyond.
template <class D>
HWY_INLINE hn::Mask<D> LoadSomeValid(D d, const uint8_t* valid, size_t n) {
  HWY_ALIGN uint8_t all[hn::MaxLanes(d)] = {};
  CopySome<hn::MaxLanes(d)>(valid, n, all);
  return LoadValid(d, all);
}

// ---- Parameters of an operation ------------------------------------------------

// One value for all elements of a run.
template <class W>
struct Same {
  W value;
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t) const {
    return hn::Set(d, value);
  }
};

// A value for every column of a tile; aligned, and padded to whole vectors.
template <class W>
struct PerColumn {
  const W* values;
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t j) const {
    return hn::LoadU(d, values + j);
  }
};

// A center is subtracted in two parts.  hi is what the compute type can hold,
// so x - hi is exact for x near it; lo, the rest, is added in double later.
template <class W>
struct Split {
  explicit Split(double center) : hi(static_cast<W>(center)), lo(center - hi) {}
  W hi;
  double lo;
};

// ---- Dispatch on the dtype ------------------------------------------------------

// Calls f with a null pointer to the element type.
template <class F>
HWY_INLINE void WithElement(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kF32:
      return f(static_cast<float*>(nullptr));
    case DType::kF64:
      return f(static_cast<double*>(nullptr));
    case DType::kF16:
      return f(static_cast<hwy::float16_t*>(nullptr));
    case DType::kBF16:
      return f(static_cast<hwy::bfloat16_t*>(nullptr));
  }
}

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // SYNCNORM_KERNELS_CPU_LANES_INL_H_
