// INT8 matrix product of a matrix in memory (int8_product.cpp has the product).
#include "int8_gemm.hpp"

#include "int8_product.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

template <class T>
void widen_rows(const Int8GemmArgs& args, std::int64_t m0, std::int64_t rows, std::int64_t k0, std::int64_t count,
                AElement* out, std::int64_t stride) {
  const T* from = static_cast<const T*>(args.a) + m0 * args.a_stride + k0;
  for (std::int64_t r = 0; r < rows; ++r) widen(from + r * args.a_stride, count, out + r * stride);
}

Rows load(const void* source, std::int64_t /*group*/, std::int64_t m0, std::int64_t rows, std::int64_t k0,
          std::int64_t count, AElement* scratch, std::int64_t stride) {
  const Int8GemmArgs& args = *static_cast<const Int8GemmArgs*>(source);
  if (args.a_dtype == DType::i8) {
    widen_rows<std::int8_t>(args, m0, rows, k0, count, scratch, stride);
    return {scratch, stride};
  }
#if defined(CVPERF_BYTE_DOT)
  // Bytes as they are. Rows a multiple of 1 KiB apart would fight for the same few lines of L1.
  if (count % 4 == 0 && args.a_stride % 1024 != 0)
    return {static_cast<const std::uint8_t*>(args.a) + m0 * args.a_stride + k0, args.a_stride};
#endif
  widen_rows<std::uint8_t>(args, m0, rows, k0, count, scratch, stride);
  return {scratch, stride};
}

}  // namespace

void int8_gemm(const Int8GemmArgs& args) {
  multiply(
      {args.m, args.k, args.n, 1, load, &args, args.a_dtype == DType::i8, args.packed, args.finish, args.num_threads});
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
