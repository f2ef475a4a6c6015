// _core.connect, Options and Group.
#include <pybind11/functional.h>
#include <pybind11/stl.h>
#include <syncnorm/embedded.h>

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "python/src/blocking.h"
#include "python/src/errors.h"
#include "python/src/group.h"
#include "python/src/lent.h"

namespace syncnorm::python {
namespace {

namespace py = ::pybind11;

// A policy by its name.
template <typename Policy>
Policy PolicyNamed(const std::string& option, const std::string& name,
                   std::initializer_list<Policy> policies) {
  std::string names;
  for (const Policy policy : policies) {
    if (Name(policy) == name) return policy;
    absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(Name(policy)));
  }
  RaiseIfError(absl::InvalidArgumentError(
      absl::StrCat(option, " is \"", name, "\", expected one of ", names)));
  return *policies.begin();  // not reached
}

// What Python gives is told by Python's rules: an exception is the caller's, not the round's.
absl::StatusOr<std::string> CallState(const py::function& state) {
  const py::gil_scoped_acquire gil;
  return std::string(py::bytes(state()));
}

std::shared_ptr<GroupHolder> Connect(GroupOptions options,
                                     const std::optional<EmbeddedOptions>& embedded,
                                     const std::function<void(std::string)>& on_listening) {
  if (embedded.has_value()) {
    const auto start = EmbeddedCoordinator(*embedded);
    options.coordinator_factory = [start, on_listening](const std::string& address) {
      auto coordinator = start(address);
      if (coordinator.ok() && on_listening) on_listening((*coordinator)->address());
      return coordinator;
    };
  }
  return std::make_shared<GroupHolder>(
      ValueOrRaise(Blocking([&] { return Group::Connect(std::move(options)); })));
}

py::tuple AtBoundary(const GroupHolder& holder, const std::optional<py::function>& state) {
  const std::shared_ptr<Group> group = ValueOrRaise(holder.Open());
  std::function<absl::StatusOr<std::string>()> call;
  if (state.has_value()) call = [&state] { return CallState(*state); };
  const Boundary boundary = ValueOrRaise(Blocking([&] { return group->AtBoundary(call); }));
  return py::make_tuple(boundary.epoch, boundary.members, boundary.admitted);
}

// The sum of every member's values.
std::vector<double> Sum(GroupHolder* holder, const std::string& name, uint64_t step,
                        const std::vector<double>& values) {
  Moments moments = Moments::Sums(1, static_cast<int64_t>(values.size()), Precision::kF64);
  moments.count = 1;
  moments.values = values;
  const Moments sum = ValueOrRaise(Blocking([&] {
    return holder->ReduceNow({name, Direction::kNone, step, std::nullopt}, moments);
  }));
  return sum.values;
}

template <absl::Duration GroupOptions::*Member>
double Seconds(const GroupOptions& options) {
  return absl::ToDoubleSeconds(options.*Member);
}
template <absl::Duration GroupOptions::*Member>
void SetSeconds(GroupOptions* options, double seconds) {
  options->*Member = absl::Seconds(seconds);
}

void BindOptions(py::module_* module) {
  py::class_<EmbeddedOptions>(*module, "EmbeddedOptions")
      .def(py::init<>())
      .def_readwrite("cert_file", &EmbeddedOptions::cert_file)
      .def_readwrite("key_file", &EmbeddedOptions::key_file)
      .def_readwrite("client_ca_file", &EmbeddedOptions::client_ca_file)
      .def_readwrite("tokens_file", &EmbeddedOptions::tokens_file)
      .def_readwrite("insecure", &EmbeddedOptions::insecure);
  py::class_<TlsOptions>(*module, "TlsOptions")
      .def_readwrite("ca_file", &TlsOptions::ca_file)
      .def_readwrite("cert_file", &TlsOptions::cert_file)
      .def_readwrite("key_file", &TlsOptions::key_file)
      .def_readwrite("server_name", &TlsOptions::server_name);
  py::class_<GroupOptions>(*module, "Options")
      .def(py::init<const GroupOptions&>())
      .def_readwrite("address", &GroupOptions::address)
      .def_readwrite("group", &GroupOptions::group)
      .def_readwrite("rank", &GroupOptions::rank)
      .def_readwrite("world_size", &GroupOptions::world_size)
      .def_readwrite("host", &GroupOptions::host)
      .def_readwrite("job", &GroupOptions::job)
      .def_readwrite("tls", &GroupOptions::tls)
      .def_readwrite("token", &GroupOptions::token)
      .def_readwrite("token_file", &GroupOptions::token_file)
      .def_readwrite("insecure", &GroupOptions::insecure)
      .def_property("connect_timeout", &Seconds<&GroupOptions::connect_timeout>,
                    &SetSeconds<&GroupOptions::connect_timeout>)
      .def_property("round_timeout", &Seconds<&GroupOptions::round_timeout>,
                    &SetSeconds<&GroupOptions::round_timeout>)
      .def_property(
          "on_loss", [](const GroupOptions& o) { return std::string(Name(o.on_loss)); },
          [](GroupOptions* o, const std::string& name) {
            o->on_loss =
                PolicyNamed("on_loss", name, {OnLoss::kFail, OnLoss::kShrink, OnLoss::kFinish});
          })
      .def_property(
          "non_finite", [](const GroupOptions& o) { return std::string(Name(o.non_finite)); },
          [](GroupOptions* o, const std::string& name) {
            o->non_finite = PolicyNamed(
                "non_finite", name, {NonFinite::kFail, NonFinite::kPropagate, NonFinite::kDrop});
          });
  module->def("read_environment", [] { return ValueOrRaise(GroupOptions::ReadEnvironment()); });
}

}  // namespace

void BindGroup(py::module_* module) {
  BindOptions(module);
  module->def("connect", &Connect, py::arg("options"), py::arg("embedded"),
              py::arg("on_listening"));
  py::class_<GroupHolder, std::shared_ptr<GroupHolder>>(*module, "Group")
      .def_property_readonly("name", &GroupHolder::name)
      .def_property_readonly("rank", &GroupHolder::rank)
      .def_property_readonly("world_size", &GroupHolder::world_size)
      .def_property_readonly("connected", &GroupHolder::connected)
      .def_property_readonly("epoch",
                             [](const GroupHolder& h) { return ValueOrRaise(h.Open())->epoch(); })
      .def_property_readonly("members",
                             [](const GroupHolder& h) { return ValueOrRaise(h.Open())->members(); })
      .def_property_readonly("hosts",
                             [](const GroupHolder& h) { return ValueOrRaise(h.Open())->hosts(); })
      .def_property_readonly(
          "handed_over",
          [](const GroupHolder& h) { return py::bytes(ValueOrRaise(h.Open())->handed_over()); })
      .def("at_boundary", &AtBoundary, py::arg("state"))
      .def("sum", &Sum, py::arg("name"), py::arg("step"), py::arg("values"))
      .def(
          "finish",
          [](const GroupHolder& h, double seconds) {
            const std::shared_ptr<Group> group = ValueOrRaise(h.Open());
            RaiseIfError(Blocking([&] { return group->Finish(absl::Seconds(seconds)); }));
          },
          py::arg("timeout"))
      .def("loaded", &GroupHolder::Loaded, py::arg("layer"))
      .def("set_state_hook", &GroupHolder::SetStateHook, py::arg("layer"), py::arg("before"))
      .def("direct",
           [](std::shared_ptr<GroupHolder> h) { return Lend(GroupHolder::Direct(std::move(h))); })
      .def(
          "set_front", [](GroupHolder* h, const py::capsule& front) { h->SetFront(Borrow(front)); },
          py::arg("front"))
      .def("close", [](GroupHolder* h) { RaiseIfError(Blocking([h] { return h->Close(); })); });
}

}  // namespace syncnorm::python
