#include "bench/gpu/protocol.h"

namespace syncnorm::bench::gpu {
namespace {

bool ReadDType(const std::string& name, DType* dtype) {
  if (name == "f32") *dtype = DType::kF32;
  if (name == "f64") *dtype = DType::kF64;
  if (name == "f16") *dtype = DType::kF16;
  if (name == "bf16") *dtype = DType::kBF16;
  return name == "f32" || name == "f64" || name == "f16" || name == "bf16";
}

}  // namespace

kernels::Grid Case::grid() const {
  if (power_norm || channels_last) return {n * height * width, channels, 1};
  return {n, channels, height * width};
}

std::variant<Case, std::string> ParseCase(const std::string& line) {
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return "not a JSON object: " + line;
  Case c;
  try {
    const std::string norm = json.at("norm");
    if (norm != "BatchNorm" && norm != "PowerNorm") return "no norm '" + norm + "'";
    c.power_norm = norm == "PowerNorm";
    const std::string dtype = json.at("dtype");
    if (!ReadDType(dtype, &c.dtype)) return "no dtype '" + dtype + "'";
    c.channels_last = json.at("channels_last");
    c.n = json.at("n");
    c.channels = json.at("channels");
    c.height = json.at("height");
    c.width = json.at("width");
    c.groups = json.at("groups");
    c.repetitions = json.at("repetitions");
  } catch (const nlohmann::json::exception& e) {
    return std::string(e.what());
  }
  // What is measured has to have something in it, and to be addressable: 2^40 is beyond any device.
  for (int64_t size : {c.n, c.channels, c.height, c.width, c.groups, int64_t{c.repetitions}}) {
    if (size < 1 || size > (int64_t{1} << 20)) return "a size that is not in 1 to 2^20: " + line;
  }
  if (c.n * c.channels > (int64_t{1} << 40) / (c.height * c.width)) {
    return "more than 2^40 elements: " + line;
  }
  if (c.channels % c.groups != 0) return "groups do not divide the channels: " + line;
  return c;
}

}  // namespace syncnorm::bench::gpu
