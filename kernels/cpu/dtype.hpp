// Element types as the bindings name them. Half types are carried as raw 16-bit patterns:
// kernels load them as float32, compute there, and round once when they store.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cvperf {

enum class DType : int { f16, bf16, f32, f64, i8, u8, i32 };

// Bytes of an element.
inline __attribute__((always_inline)) std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    default:
      return 1;
  }
}

struct half {
  std::uint16_t bits;
};
struct bfloat16 {
  std::uint16_t bits;
};

}  // namespace cvperf
