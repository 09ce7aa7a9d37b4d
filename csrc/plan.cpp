// A model as a list of native calls that are run one after the other, the interpreter's lock released.
#include <algorithm>
#include <chrono>
#include <memory>

#include "replays.hpp"

namespace cvperf {
namespace {

// Where a call finds a tensor: so many bytes behind a base. Base 0 is address 0, for what is fixed (by its address) and
// what is absent; base 1 the arena; from 2 on the tensors that every run is given.
using Place = std::pair<std::size_t, Pointer>;

class Plan {
 public:
  void add(std::shared_ptr<const Call> call, std::vector<Place> read, const Place& output) {
    if (read.size() != call->reads()) throw py::value_error("wrong number of tensors to read");
    for (const Place& place : read) bases_ = std::max(bases_, place.first + 1);
    bases_ = std::max(bases_, output.first + 1);
    most_read_ = std::max(most_read_, read.size());
    steps_.push_back({std::move(call), std::move(read), output});
  }
  std::size_t size() const { return steps_.size(); }

  void run(std::size_t first, std::size_t last, const std::vector<Pointer>& bases, int num_threads) const {
    check(last, bases);
    const py::gil_scoped_release release;
    std::vector<void*> read(most_read_);
    for (std::size_t i = first; i < last; ++i) step(steps_[i], bases, read.data(), num_threads);
  }

  // The same, and how long each call took.
  std::vector<double> seconds(std::size_t first, std::size_t last, const std::vector<Pointer>& bases,
                              int num_threads) const {
    check(last, bases);
    const py::gil_scoped_release release;
    using Clock = std::chrono::steady_clock;
    std::vector<void*> read(most_read_);
    std::vector<double> found;
    for (std::size_t i = first; i < last; ++i) {
      const Clock::time_point start = Clock::now();
      step(steps_[i], bases, read.data(), num_threads);
      found.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    return found;
  }

 private:
  struct Step {
    std::shared_ptr<const Call> call;
    std::vector<Place> read;
    Place output;
  };

  void check(std::size_t last, const std::vector<Pointer>& bases) const {
    if (bases.size() < bases_ || last > steps_.size()) throw py::value_error("fewer addresses or calls than asked for");
  }
  static void step(const Step& one, const std::vector<Pointer>& bases, void** read, int num_threads) {
    for (std::size_t i = 0; i < one.read.size(); ++i) read[i] = at(one.read[i], bases);
    one.call->run(read, at(one.output, bases), num_threads);
  }
  static void* at(const Place& place, const std::vector<Pointer>& bases) {
    return as<void>(bases[place.first] + place.second);
  }

  std::vector<Step> steps_;
  std::size_t bases_ = 0, most_read_ = 0;
};

}  // namespace

void bind_plan(py::module_& m) {
  py::class_<Plan>(m, "Plan", "Native calls that are run one after the other.")
      .def(py::init())
      .def("add", &Plan::add, py::arg("call"), py::arg("read"), py::arg("output"),
           "Places are (base, bytes behind it): base 0 is address 0, 1 the arena, others what each run is given.")
      .def("__len__", &Plan::size)
      .def("run", &Plan::run, py::arg("first"), py::arg("last"), py::arg("bases"), py::arg("num_threads"))
      .def("seconds", &Plan::seconds, py::arg("first"), py::arg("last"), py::arg("bases"), py::arg("num_threads"),
           "Runs the calls, and says how long each took.");
}

}  // namespace cvperf
