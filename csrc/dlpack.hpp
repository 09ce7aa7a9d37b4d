// The part of DLPack's C interface that is used here: how a tensor describes itself, and the table of functions that a
// framework hangs on its tensor type as `__dlpack_c_exchange_api__`. It is a stable ABI
// (https://dmlc.github.io/dlpack), so tensors can be read without linking the framework.
#pragma once
#include <cstdint>

namespace cvperf::dlpack {

struct Version {
  std::uint32_t major, minor;
};

struct DataType {
  std::uint8_t code, bits;  // code: 0 signed, 1 unsigned, 2 float, 4 bfloat
  std::uint16_t lanes;
  bool operator==(const DataType& other) const {
    return code == other.code && bits == other.bits && lanes == other.lanes;
  }
};

constexpr std::int32_t kCpu = 1;

struct Tensor {
  void* data;
  std::int32_t device_type, device_id;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;    // [ndim], the framework's own
  std::int64_t* strides;  // [ndim] in elements, likewise
  std::uint64_t byte_offset;

  void* address() const { return static_cast<char*>(data) + byte_offset; }
};

// Unused functions of the table are named, not typed.
struct ExchangeApi {
  Version version;
  const void* previous;
  const void* allocator;
  const void* managed_from_object;
  const void* managed_to_object;
  int (*tensor_from_object)(void* object, Tensor* out);  // 0, or -1 with a Python error set
  const void* current_work_stream;
};

}  // namespace cvperf::dlpack
