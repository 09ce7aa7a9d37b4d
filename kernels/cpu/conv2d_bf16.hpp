// Who runs bfloat16 with the processor's own products of pairs: AVX512_BF16, or nobody.
#pragma once
#include "conv2d_problem.hpp"

namespace cvperf {

#if defined(__x86_64__)
namespace avx512_bf16 {
void run_bf16(const ConvProblem& problem);
std::int64_t bf16_packed_bytes(const ConvProblem& problem);
void pack_bf16(const ConvProblem& problem, void* out);
}  // namespace avx512_bf16
using avx512_bf16::bf16_packed_bytes;
using avx512_bf16::pack_bf16;
using avx512_bf16::run_bf16;

inline __attribute__((always_inline)) bool multiplies_bf16(const ConvProblem& p) {
  return p.dtype == DType::bf16 && active_isa() == Isa::avx512_bf16;
}
#else
inline bool multiplies_bf16(const ConvProblem&) { return false; }
inline void run_bf16(const ConvProblem&) {}
inline std::int64_t bf16_packed_bytes(const ConvProblem&) { return 0; }
inline void pack_bf16(const ConvProblem&, void*) {}
#endif

}  // namespace cvperf
