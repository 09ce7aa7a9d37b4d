// What the bindings ask of torch, through its Python functions and DLPack's C interface: no libtorch is linked.
#pragma once
#include "bindings.hpp"
#include "dlpack.hpp"

namespace cvperf {

class TorchCalls {
 public:
  // Null where this torch lacks something that is needed: then `missing` says what.
  static const TorchCalls* get();
  static const std::string& missing();

  // Whether nothing around the call (a mode, a trace, a transform, a profiler) needs torch's dispatcher.
  bool plain_surroundings() const;
  // Whether gradients are recorded.
  bool recording() const;
  bool is_dtype(PyObject* object) const { return Py_TYPE(object) == dtype_; }
  // Whether it is exactly a torch.Tensor or a torch.nn.Parameter. `is_any_tensor`: or of a class derived from one.
  bool is_tensor(PyObject* object) const { return Py_TYPE(object) == tensor_ || Py_TYPE(object) == parameter_; }
  bool is_any_tensor(PyObject* object) const { return PyType_IsSubtype(Py_TYPE(object), tensor_); }
  // Describe a tensor that kernels can read as it is. False if they cannot: it has no memory of its own (fake, sparse,
  // wrapped by a transform), is of a quantised type, negated lazily, or its gradient is to be recorded.
  bool read(PyObject* tensor, bool recording, dlpack::Tensor& out) const;
  // Where the elements of a tensor are that is known to be plain.
  void* address(const py::object& tensor) const;

  py::object empty_strided(const py::tuple& shape, const py::tuple& strides, const py::object& dtype) const;
  int num_threads() const;

 private:
  TorchCalls();
  PyTypeObject *tensor_, *parameter_, *dtype_;
  const dlpack::ExchangeApi* exchange_;
  py::object include_set_, function_stack_, profiling_, grad_enabled_, forward_ad_, num_threads_, empty_strided_;
  py::object raw_repr_, requires_grad_, is_neg_, current_level_, dtype_names_;
  unsigned long long harmless_keys_;
};

}  // namespace cvperf
