// A call's checks and look-ups take 10 to 20 microseconds in Python, more than a small layer. What they find depends on
// the sizes, strides and dtypes of the tensors and on the other arguments only, so a call whose arguments match those
// of an earlier one goes straight to its kernel. Matching costs about a microsecond.
#include "replays.hpp"

#include <algorithm>
#include <memory>
#include <optional>

#include "torch_calls.hpp"

namespace cvperf {
namespace {

constexpr int kMaxDims = 4;
constexpr std::size_t kMaxArguments = 24;
constexpr std::size_t kMaxEntries = 64;  // sizes of the input that one layer meets; the longest unused goes first

struct Layout {
  dlpack::DataType dtype;
  std::int32_t ndim;
  std::int64_t sizes[2 * kMaxDims];  // the shape, then the strides

  explicit Layout(const dlpack::Tensor& tensor) : dtype(tensor.dtype), ndim(tensor.ndim), sizes{} {
    std::copy_n(tensor.shape, ndim, sizes);
    std::copy_n(tensor.strides, ndim, sizes + kMaxDims);
  }
  bool matches(const dlpack::Tensor& tensor) const {
    return tensor.ndim == ndim && tensor.dtype == dtype && std::equal(sizes, sizes + ndim, tensor.shape) &&
           std::equal(sizes + kMaxDims, sizes + kMaxDims + ndim, tensor.strides);
  }
};

// What one argument was: a tensor of this layout, or this value.
struct Argument {
  std::optional<Layout> layout;
  py::object value;
};

// Where the kernel's addresses come from: an argument, a tensor that is kept, or nothing.
struct Source {
  int argument = -1;
  py::object kept;
};

struct Entry {
  Isa isa;
  std::vector<Argument> arguments;
  std::vector<Source> sources;
  std::shared_ptr<const Call> call;
  py::tuple shape, strides;
  py::object dtype;
};

// Values that cannot change behind our back.
bool is_constant(const TorchCalls& torch, PyObject* value) {
  if (PyTuple_Check(value)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); ++i)
      if (!PyLong_CheckExact(PyTuple_GET_ITEM(value, i))) return false;
    return true;
  }
  return value == Py_None || PyBool_Check(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value) ||
         PyUnicode_CheckExact(value) || torch.is_dtype(value);
}

bool equal(PyObject* one, PyObject* other) {
  if (one == other) return true;
  if (Py_TYPE(one) != Py_TYPE(other)) return false;  // 1, 1.0 and True are equal, yet not all are allowed
  const int same = PyObject_RichCompareBool(one, other, Py_EQ);
  if (same < 0) PyErr_Clear();
  return same == 1;
}

// The arguments of a call as the kernel sees them; not `usable` where a tensor needs more than its kernel.
struct Seen {
  const py::args& arguments;
  dlpack::Tensor tensors[kMaxArguments];
  bool is_tensor[kMaxArguments];
  bool usable;

  Seen(const TorchCalls& torch, const py::args& given) : arguments(given), usable(given.size() <= kMaxArguments) {
    const bool recording = usable && torch.recording();
    for (std::size_t i = 0; usable && i < given.size(); ++i) {
      PyObject* const argument = PyTuple_GET_ITEM(given.ptr(), static_cast<Py_ssize_t>(i));
      is_tensor[i] = torch.is_tensor(argument);
      if (!is_tensor[i]) continue;
      dlpack::Tensor& tensor = tensors[i];
      usable = torch.read(argument, recording, tensor) && tensor.device_type == dlpack::kCpu && tensor.ndim <= kMaxDims;
    }
  }
  bool match(const Entry& entry) const {
    if (entry.arguments.size() != arguments.size()) return false;
    for (std::size_t i = 0; i < entry.arguments.size(); ++i) {
      const Argument& known = entry.arguments[i];
      if (known.layout.has_value() != is_tensor[i]) return false;
      if (is_tensor[i] ? !known.layout->matches(tensors[i])
                       : !equal(PyTuple_GET_ITEM(arguments.ptr(), static_cast<Py_ssize_t>(i)), known.value.ptr()))
        return false;
    }
    return true;
  }
};

class Replays {
 public:
  // The output of a call like one before; None if there was none.
  py::object again(const py::args& arguments) {
    const TorchCalls* const torch = TorchCalls::get();
    if (entries_.empty() || !torch || !torch->plain_surroundings()) return py::none();
    const Seen seen(*torch, arguments);
    if (!seen.usable) return py::none();
    const Isa isa = active_isa();
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const std::shared_ptr<const Entry>& entry) {
      return entry->isa == isa && seen.match(*entry);
    });
    if (found == entries_.end()) return py::none();
    std::rotate(entries_.begin(), found, found + 1);
    return run(*torch, entries_.front(), seen);
  }

  // Let later calls with such arguments go to the kernel. read: what it reads, in its order: arguments, tensors that
  // are to be kept, or None. A call is not remembered if it read a copy of an argument, or if one of them can change.
  void remember(const py::tuple& arguments, std::shared_ptr<const Call> call, const py::tuple& read,
                const py::object& output) {
    const TorchCalls* const torch = TorchCalls::get();
    if (!torch || !torch->plain_surroundings()) return;
    const py::args given(arguments);
    const Seen seen(*torch, given);
    if (!seen.usable || read.size() != call->reads()) return;
    auto entry = std::make_shared<Entry>();
    entry->isa = active_isa();
    for (std::size_t i = 0; i < given.size(); ++i) {
      const py::object argument = given[i];
      if (seen.is_tensor[i]) {
        if (!is_among(argument, read)) return;
        entry->arguments.push_back({Layout(seen.tensors[i]), py::object()});
      } else {
        if (!is_constant(*torch, argument.ptr())) return;
        entry->arguments.push_back({std::nullopt, argument});
      }
    }
    for (const py::handle& source : read) entry->sources.push_back(source_of(source, given));
    entry->call = std::move(call);
    entry->shape = py::tuple(output.attr("shape"));
    entry->strides = py::tuple(output.attr("stride")());
    entry->dtype = output.attr("dtype");
    if (entries_.size() == kMaxEntries) entries_.pop_back();
    entries_.insert(entries_.begin(), std::move(entry));
  }

 private:
  static bool is_among(const py::object& argument, const py::tuple& read) {
    for (const py::handle& source : read)
      if (source.is(argument)) return true;
    return false;
  }
  static Source source_of(const py::handle& source, const py::args& arguments) {
    Source result;
    if (source.is_none()) return result;
    for (std::size_t i = 0; i < arguments.size(); ++i)
      if (source.is(arguments[i])) result.argument = static_cast<int>(i);
    if (result.argument < 0) result.kept = py::reinterpret_borrow<py::object>(source);
    return result;
  }
  // The entry is held by value: another thread may push it out while the kernel runs.
  static py::object run(const TorchCalls& torch, std::shared_ptr<const Entry> entry, const Seen& seen) {
    void* read[kMaxArguments] = {};
    for (std::size_t i = 0; i < entry->sources.size(); ++i) {
      const Source& source = entry->sources[i];
      if (source.argument >= 0)
        read[i] = seen.tensors[source.argument].address();
      else if (source.kept)
        read[i] = torch.address(source.kept);  // asked again: sharing a tensor with another process moves its memory
    }
    const py::object output = torch.empty_strided(entry->shape, entry->strides, entry->dtype);
    void* const written = torch.address(output);
    const int num_threads = torch.num_threads();
    const py::gil_scoped_release release;
    entry->call->run(read, written, num_threads);
    return output;
  }

  std::vector<std::shared_ptr<const Entry>> entries_;  // the latest used first
};

}  // namespace

void bind_replays(py::module_& m) {
  py::classh<Call>(m, "Call", "A kernel's call for tensors of known layout: all of it but the addresses.")
      .def(
          "__call__",
          [](const Call& call, const std::vector<Pointer>& read, Pointer output, int num_threads) {
            if (read.size() != call.reads()) throw py::value_error("wrong number of addresses");
            std::vector<void*> addresses;
            for (const Pointer address : read) addresses.push_back(as<void>(address));
            const py::gil_scoped_release release;
            call.run(addresses.data(), as<void>(output), num_threads);
          },
          py::arg("read"), py::arg("output"), py::arg("num_threads"));
  py::class_<Replays>(m, "Replays", "Calls of one op that were checked before.")
      .def(py::init())
      .def("again", &Replays::again, "The output of a call with such arguments, or None if none is remembered.")
      .def("remember", &Replays::remember, py::arg("arguments"), py::arg("call"), py::arg("read"), py::arg("output"));
}

}  // namespace cvperf
