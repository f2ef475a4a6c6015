#include "bench/gpu/serve.h"

#include <iostream>
#include <string>
#include <variant>

namespace syncnorm::bench::gpu {

int Serve(const std::function<nlohmann::json(const Case& c, const Device& device)>& measure) {
  try {
    nlohmann::json greeting;
    const Device device = Open(&greeting);
    std::cout << greeting.dump() << std::endl;
    if (greeting.contains("no_device")) return kNoDevice;
    for (std::string line; std::getline(std::cin, line);) {
      const std::variant<Case, std::string> parsed = ParseCase(line);
      if (const auto* wrong = std::get_if<std::string>(&parsed)) {
        std::cout << nlohmann::json{{"error", *wrong}}.dump() << std::endl;
        continue;
      }
      std::cout << measure(std::get<Case>(parsed), device).dump() << std::endl;
    }
    return 0;
  } catch (const CudaError& e) {
    std::cout << nlohmann::json{{"error", e.what()}}.dump() << std::endl;
    return 1;
  }
}

}  // namespace syncnorm::bench::gpu
