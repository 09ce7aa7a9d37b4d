// Calls that move elements: concatenation, ranges, copies between layouts and element types.
#include "concat.hpp"
#include "copy.hpp"
#include "replays.hpp"

#include <algorithm>

namespace cvperf {
namespace {

class ConcatCall final : public Call {
 public:
  ConcatCall(std::int64_t outer, const std::vector<std::int64_t>& parts, std::int64_t element_bytes) : outer_(outer) {
    for (const std::int64_t part : parts) parts_.push_back({nullptr, part * element_bytes, part * element_bytes});
  }
  std::size_t reads() const override { return parts_.size(); }
  void run(void* const* read, void* output, int num_threads) const override {
    std::vector<ConcatPart> parts = parts_;
    for (std::size_t k = 0; k < parts.size(); ++k) parts[k].from = read[k];
    concat({parts.data(), static_cast<std::int64_t>(parts.size()), outer_, output, num_threads});
  }

 private:
  std::vector<ConcatPart> parts_;
  std::int64_t outer_;
};

class SliceCall final : public Call {
 public:
  SliceCall(std::int64_t outer, std::int64_t whole, std::int64_t first, std::int64_t count, std::int64_t element_bytes)
      : outer_(outer), pitch_(whole * element_bytes), ahead_(first * element_bytes), bytes_(count * element_bytes) {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    const ConcatPart part{static_cast<const char*>(read[0]) + ahead_, pitch_, bytes_};
    concat({&part, 1, outer_, output, num_threads});
  }

 private:
  std::int64_t outer_, pitch_, ahead_, bytes_;
};

class CopyCall final : public Call {
 public:
  CopyCall(const CopyArgs& args, std::int64_t first) : args_(args), ahead_(first * size_of(args.input_dtype)) {}
  std::size_t reads() const override { return 1; }
  void run(void* const* read, void* output, int num_threads) const override {
    CopyArgs args = args_;
    args.input = static_cast<const char*>(read[0]) + ahead_;
    args.output = output;
    args.num_threads = num_threads;
    copy(args);
  }

 private:
  CopyArgs args_;
  std::int64_t ahead_;
};

using Dims = std::vector<std::int64_t>;

CopyArgs copy_args(const Dims& shape, const Dims& read, const Dims& write, DType read_dtype, DType write_dtype) {
  if (shape.size() > kCopyDims || read.size() != shape.size() || write.size() != shape.size())
    throw py::value_error("a copy has up to 6 dimensions, with a stride each");
  CopyArgs args{};
  args.input_dtype = read_dtype;
  args.output_dtype = write_dtype;
  args.dims = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), args.shape);
  std::copy(read.begin(), read.end(), args.read);
  std::copy(write.begin(), write.end(), args.write);
  return args;
}

}  // namespace

void bind_copies(py::module_& m) {
  py::classh<ConcatCall, Call>(m, "ConcatCall", "Reads the parts: dense [outer, parts[k]] each.")
      .def(py::init<std::int64_t, const Dims&, std::int64_t>(), py::arg("outer"), py::arg("parts"),
           py::arg("element_bytes"));
  py::classh<SliceCall, Call>(m, "SliceCall", "Reads dense [outer, whole], of which it copies a range.")
      .def(py::init<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>(), py::arg("outer"),
           py::arg("whole"), py::arg("first"), py::arg("count"), py::arg("element_bytes"));
  py::classh<CopyCall, Call>(m, "CopyCall", "Reads a view. Dimensions are by falling write stride; see copy.hpp.")
      .def(py::init([](const Dims& shape, const Dims& read, const Dims& write, DType read_dtype, DType write_dtype,
                       std::int64_t first) {
             return std::make_shared<CopyCall>(copy_args(shape, read, write, read_dtype, write_dtype), first);
           }),
           py::arg("shape"), py::arg("read_strides"), py::arg("write_strides"), py::arg("read_dtype"),
           py::arg("write_dtype"), py::arg("first") = 0);
}

}  // namespace cvperf
