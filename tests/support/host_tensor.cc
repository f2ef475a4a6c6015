#include "tests/support/host_tensor.h"

#include <cstring>
#include <utility>

#include "kernels/half.h"

namespace syncnorm::testing {
namespace {

template <typename T>
T Read(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
void Write(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

}  // namespace

std::string Name(Layout layout) {
  switch (layout) {
    case Layout::kContiguous:
      return "contiguous";
    case Layout::kChannelsLast:
      return "channels_last";
    case Layout::kTokens:
      return "tokens";
  }
  return "unknown";
}

HostTensor::HostTensor(DType dtype, std::vector<int64_t> shape, Layout layout)
    : dtype_(dtype), shape_(std::move(shape)), layout_(layout) {
  size_t elements = 1;
  for (int64_t size : shape_) elements *= static_cast<size_t>(size);
  memory_.assign(elements * SizeOf(dtype), std::byte{0xFF});
}

HostTensor::HostTensor(DType dtype, std::vector<int64_t> shape, Layout layout,
                       const Numbers& numbers)
    : HostTensor(dtype, std::move(shape), layout) {
  Store(numbers);
}

Tensor HostTensor::tensor() {
  return layout_ == Layout::kChannelsLast
             ? ChannelsLast(static_cast<void*>(memory_.data()), dtype_, shape_)
             : Contiguous(static_cast<void*>(memory_.data()), dtype_, shape_);
}

ConstTensor HostTensor::tensor() const {
  return layout_ == Layout::kChannelsLast
             ? ChannelsLast(static_cast<const void*>(memory_.data()), dtype_, shape_)
             : Contiguous(static_cast<const void*>(memory_.data()), dtype_, shape_);
}

int64_t HostTensor::channels() const {
  return layout_ == Layout::kTokens ? shape_.back() : shape_[1];
}

int64_t HostTensor::positions() const {
  return static_cast<int64_t>(memory_.size() / SizeOf(dtype_)) / channels();
}

size_t HostTensor::IndexOf(int64_t position, int64_t channel) const {
  if (layout_ != Layout::kContiguous) {
    return static_cast<size_t>(position * channels() + channel);
  }
  const int64_t inner = positions() / shape_[0];
  return static_cast<size_t>((position / inner * channels() + channel) * inner + position % inner);
}

void HostTensor::Store(const Numbers& numbers) {
  for (int64_t p = 0; p < positions(); ++p) {
    for (int64_t c = 0; c < channels(); ++c) {
      const double number = numbers.at(static_cast<size_t>(p * channels() + c));
      std::byte* at = memory_.data() + IndexOf(p, c) * SizeOf(dtype_);
      switch (dtype_) {
        case DType::kF32:
          Write(at, static_cast<float>(number));
          break;
        case DType::kF64:
          Write(at, number);
          break;
        case DType::kF16:
          Write(at, kernels::F16FromDouble(number));
          break;
        case DType::kBF16:
          Write(at, kernels::BF16FromDouble(number));
          break;
      }
    }
  }
}

Numbers HostTensor::Load() const {
  Numbers numbers;
  for (int64_t p = 0; p < positions(); ++p) {
    for (int64_t c = 0; c < channels(); ++c) {
      const std::byte* at = memory_.data() + IndexOf(p, c) * SizeOf(dtype_);
      switch (dtype_) {
        case DType::kF32:
          numbers.push_back(Read<float>(at));
          break;
        case DType::kF64:
          numbers.push_back(Read<double>(at));
          break;
        case DType::kF16:
          numbers.push_back(kernels::F32FromF16(Read<uint16_t>(at)));
          break;
        case DType::kBF16:
          numbers.push_back(kernels::F32FromBF16(Read<uint16_t>(at)));
          break;
      }
    }
  }
  return numbers;
}

double UnitRoundoff(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0x1p-24;
    case DType::kF64:
      return 0x1p-53;
    case DType::kF16:
      return 0x1p-11;
    case DType::kBF16:
      return 0x1p-8;
  }
  return 0;
}

Numbers Normal(std::mt19937_64* random, size_t count, double mean, double deviation) {
  std::normal_distribution<double> normal(mean, deviation);
  Numbers numbers(count);
  for (double& number : numbers) number = normal(*random);
  return numbers;
}

Numbers Concatenate(const std::vector<Numbers>& pieces) {
  Numbers all;
  for (const Numbers& piece : pieces) all.insert(all.end(), piece.begin(), piece.end());
  return all;
}

}  // namespace syncnorm::testing
