// Which instruction set runs. The best one that the processor offers is picked when the module loads;
// CVPERF_CPU_ISA or select_isa() can lower it.
#pragma once
#include <string>
#include <vector>

namespace cvperf {

enum class Isa : int { scalar, avx2, avx_vnni, avx512, avx512_vnni, avx512_bf16 };

Isa active_isa();
std::string isa_name(Isa isa);
std::vector<std::string> available_isas();  // lowest first
void select_isa(const std::string& name);   // throws std::invalid_argument, naming the choices

}  // namespace cvperf

// `CVPERF_DISPATCHED(Result, function, Args)` in a kernel's header declares the function in the namespace
// of every instruction set, and cvperf::function(args), which calls the active one. AVX-VNNI and AVX512_VNNI add
// integer dot products only, and AVX512_BF16 those of bfloat16, so just the kernels that use them have a variant.
// _BYTES names what runs with plain AVX2, an expression in `args`: whether avx2_bytes may (int8_dot.hpp).
#if defined(__x86_64__)
#define CVPERF_DISPATCHED_AS(Result, function, Args, on_avx2, on_avx_vnni, on_avx512_vnni) \
  namespace scalar {                                                                       \
  Result function(const Args&);                                                            \
  }                                                                                        \
  namespace avx2 {                                                                         \
  Result function(const Args&);                                                            \
  }                                                                                        \
  namespace avx2_bytes {                                                                   \
  Result function(const Args&);                                                            \
  }                                                                                        \
  namespace avx_vnni {                                                                     \
  Result function(const Args&);                                                            \
  }                                                                                        \
  namespace avx512 {                                                                       \
  Result function(const Args&);                                                            \
  }                                                                                        \
  namespace avx512_vnni {                                                                  \
  Result function(const Args&);                                                            \
  }                                                                                        \
  inline Result function(const Args& args) {                                               \
    switch (active_isa()) {                                                                \
      case Isa::avx512_bf16:                                                               \
      case Isa::avx512_vnni:                                                               \
        return on_avx512_vnni::function(args);                                             \
      case Isa::avx512:                                                                    \
        return avx512::function(args);                                                     \
      case Isa::avx_vnni:                                                                  \
        return on_avx_vnni::function(args);                                                \
      case Isa::avx2:                                                                      \
        return on_avx2;                                                                    \
      default:                                                                             \
        return scalar::function(args);                                                     \
    }                                                                                      \
  }
#else
#define CVPERF_DISPATCHED_AS(Result, function, Args, on_avx2, on_avx_vnni, on_avx512_vnni) \
  namespace scalar {                                                                       \
  Result function(const Args&);                                                            \
  }                                                                                        \
  inline Result function(const Args& args) { return scalar::function(args); }
#endif
#define CVPERF_DISPATCHED(Result, function, Args) \
  CVPERF_DISPATCHED_AS(Result, function, Args, avx2::function(args), avx2, avx512)
#define CVPERF_DISPATCHED_VNNI(Result, function, Args) \
  CVPERF_DISPATCHED_AS(Result, function, Args, avx2::function(args), avx_vnni, avx512_vnni)
#define CVPERF_DISPATCHED_BYTES(Result, function, Args, fits)                                                        \
  CVPERF_DISPATCHED_AS(Result, function, Args, (fits) ? avx2_bytes::function(args) : avx2::function(args), avx_vnni, \
                       avx512_vnni)
