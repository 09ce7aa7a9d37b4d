#include "torch_calls.hpp"

#include <pybind11/gil_safe_call_once.h>

namespace cvperf {
namespace {

py::object call(const py::object& function) {
  PyObject* result = PyObject_CallNoArgs(function.ptr());
  if (!result) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

bool is_true(const py::object& function) { return call(function).ptr() == Py_True; }

const dlpack::ExchangeApi* exchange_of(const py::object& tensor_type) {
  const py::capsule capsule = tensor_type.attr("__dlpack_c_exchange_api__");
  const auto* table =
      static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (!table) throw py::error_already_set();
  if (table->version.major != 1) throw py::import_error("DLPack's C interface is of another major version than 1");
  if (!table->tensor_from_object) throw py::import_error("DLPack's C interface lacks dltensor_from_py_object_no_sync");
  return table;
}

std::string& why_missing() {
  static std::string why;
  return why;
}

}  // namespace

TorchCalls::TorchCalls() {
  const py::module_ torch = py::module_::import("torch"), core = py::module_::import("torch._C");
  const py::object tensor = torch.attr("Tensor"), parameter = torch.attr("nn").attr("Parameter");
  tensor_ = reinterpret_cast<PyTypeObject*>(tensor.ptr());
  parameter_ = reinterpret_cast<PyTypeObject*>(parameter.ptr());
  dtype_ = reinterpret_cast<PyTypeObject*>(py::object(torch.attr("dtype")).ptr());
  exchange_ = exchange_of(tensor);
  include_set_ = core.attr("_dispatch_tls_local_include_set");
  function_stack_ = core.attr("_len_torch_function_stack");
  profiling_ = torch.attr("autograd").attr("_profiler_enabled");
  grad_enabled_ = core.attr("is_grad_enabled");
  forward_ad_ = py::module_::import("torch.autograd.forward_ad");
  num_threads_ = torch.attr("get_num_threads");
  empty_strided_ = torch.attr("empty_strided");
  raw_repr_ = py::str("raw_repr");
  requires_grad_ = tensor.attr("requires_grad");
  is_neg_ = tensor.attr("is_neg");
  current_level_ = py::str("_current_level");
  dtype_names_ = py::make_tuple("dtype");
  const py::object key = core.attr("DispatchKey"), set = core.attr("DispatchKeySet");
  harmless_keys_ = set(key.attr("BackendSelect"))
                       .attr("add")(key.attr("ADInplaceOrView"))
                       .attr("raw_repr")()
                       .cast<unsigned long long>();
  plain_surroundings();  // each is called once, so that what has changed its meaning fails here
  recording();
  num_threads();
}

const TorchCalls* TorchCalls::get() {
  // Not a plain static: imports may let another thread in, which would wait here and keep the interpreter's lock.
  static py::gil_safe_call_once_and_store<const TorchCalls*> calls;
  return calls
      .call_once_and_store_result([]() -> const TorchCalls* {
        try {
          return new TorchCalls;  // never destroyed: the interpreter may be gone before static objects are
        } catch (const py::error_already_set& error) {
          why_missing() = error.what();
        } catch (const py::import_error& error) {
          why_missing() = error.what();
        } catch (const py::cast_error& error) {
          why_missing() = error.what();
        }
        return nullptr;
      })
      .get_stored();
}

const std::string& TorchCalls::missing() {
  get();
  return why_missing();
}

bool TorchCalls::plain_surroundings() const {
  const py::object keys = call(include_set_);
  PyObject* const number = PyObject_CallMethodNoArgs(keys.ptr(), raw_repr_.ptr());
  if (!number) throw py::error_already_set();
  const unsigned long long raw = PyLong_AsUnsignedLongLong(number);
  Py_DECREF(number);
  if (raw & ~harmless_keys_) return false;
  if (PyLong_AsLong(call(function_stack_).ptr()) != 0 || is_true(profiling_)) return false;
  return PyLong_AsLong(py::object(forward_ad_.attr(current_level_)).ptr()) < 0;
}

bool TorchCalls::recording() const { return is_true(grad_enabled_); }

bool TorchCalls::read(PyObject* tensor, bool recording, dlpack::Tensor& out) const {
  if (exchange_->tensor_from_object(tensor, &out) != 0) {
    PyErr_Clear();
    return false;
  }
  if (!out.data)
    for (int i = 0; i <= out.ndim; ++i) {
      if (i == out.ndim) return false;  // elements, but no memory
      if (out.shape[i] == 0) break;
    }
  if (recording) {
    const descrgetfunc get = Py_TYPE(requires_grad_.ptr())->tp_descr_get;
    const auto wanted = py::reinterpret_steal<py::object>(get(requires_grad_.ptr(), tensor, nullptr));
    if (!wanted) throw py::error_already_set();
    if (wanted.ptr() == Py_True) return false;
  }
  const auto negated = py::reinterpret_steal<py::object>(PyObject_CallOneArg(is_neg_.ptr(), tensor));
  if (!negated) throw py::error_already_set();
  return negated.ptr() != Py_True;
}

void* TorchCalls::address(const py::object& tensor) const {
  dlpack::Tensor described;
  if (exchange_->tensor_from_object(tensor.ptr(), &described) != 0) throw py::error_already_set();
  return described.address();
}

py::object TorchCalls::empty_strided(const py::tuple& shape, const py::tuple& strides, const py::object& dtype) const {
  PyObject* const arguments[] = {shape.ptr(), strides.ptr(), dtype.ptr()};
  PyObject* result = PyObject_Vectorcall(empty_strided_.ptr(), arguments, 2, dtype_names_.ptr());
  if (!result) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

int TorchCalls::num_threads() const { return static_cast<int>(PyLong_AsLong(call(num_threads_).ptr())); }

namespace {

// None, numbers, strings and tuples of them cost nothing to pass over; anything else is asked whether it is a tensor.
bool ordinary_argument(const TorchCalls& torch, PyObject* argument, bool recording) {
  dlpack::Tensor ignored;
  if (torch.is_tensor(argument)) return torch.read(argument, recording, ignored);
  if (PyTuple_CheckExact(argument) || PyList_CheckExact(argument)) {
    PyObject** const items = PySequence_Fast_ITEMS(argument);
    const Py_ssize_t count = PySequence_Fast_GET_SIZE(argument);
    if (count == 0 || !torch.is_any_tensor(items[0])) return true;
    for (Py_ssize_t i = 0; i < count; ++i)
      if (!ordinary_argument(torch, items[i], recording)) return false;
    return true;
  }
  return !torch.is_any_tensor(argument);
}

}  // namespace

void bind_torch_calls(py::module_& m) {
  m.def(
      "ordinary",
      [](const py::args& arguments) {
        const TorchCalls* const torch = TorchCalls::get();
        if (!torch || !torch->plain_surroundings()) return false;
        const bool recording = torch->recording();
        for (const py::handle& argument : arguments)
          if (!ordinary_argument(*torch, argument.ptr(), recording)) return false;
        return true;
      },
      "Whether neither the arguments nor the surroundings need torch's dispatcher.");
  m.def("missing_from_torch", &TorchCalls::missing, "What `ordinary` needs and this torch lacks; empty if nothing.");
}

}  // namespace cvperf
