// Which instruction set runs. The best one that the processor offers is picked when the module loads;
// CVPERF_CPU_ISA or select_isa() can lower it.
#pragma once
#include <string>
#include <vector>

namespace cvperf {

enum class Isa : int { scalar, avx2, avx512, avx512_vnni, avx512_bf16 };

Isa active_isa();
std::string isa_name(Isa isa);
std::vector<std::string> available_isas();  // lowest first
void select_isa(const std::string& name);   // throws std::invalid_argument, naming the choices

}  // namespace cvperf

// `CVPERF_DISPATCHED(Result, function, Args)` in a kernel's header declares the function in the namespace
// of every instruction set, and cvperf::function(args), which calls the active one. AVX512_VNNI adds
// integer dot products only, and AVX512_BF16 those of bfloat16, so just the kernels that use them have a variant.
#if defined(__x86_64__)
#define CVPERF_DISPATCHED_AS(Result, function, Args, vnni) \
  namespace scalar {                                       \
  Result function(const Args&);                            \
  }                                                        \
  namespace avx2 {                                         \
  Result function(const Args&);                            \
  }                                                        \
  namespace avx512 {                                       \
  Result function(const Args&);                            \
  }                                                        \
  namespace avx512_vnni {                                  \
  Result function(const Args&);                            \
  }                                                        \
  inline Result function(const Args& args) {               \
    switch (active_isa()) {                                \
      case Isa::avx512_bf16:                               \
      case Isa::avx512_vnni:                               \
        return vnni::function(args);                       \
      case Isa::avx512:                                    \
        return avx512::function(args);                     \
      case Isa::avx2:                                      \
        return avx2::function(args);                       \
      default:                                             \
        return scalar::function(args);                     \
    }                                                      \
  }
#else
#define CVPERF_DISPATCHED_AS(Result, function, Args, vnni) \
  namespace scalar {                                       \
  Result function(const Args&);                            \
  }                                                        \
  inline Result function(const Args& args) { return scalar::function(args); }
#endif
#define CVPERF_DISPATCHED(Result, function, Args) CVPERF_DISPATCHED_AS(Result, function, Args, avx512)
#define CVPERF_DISPATCHED_VNNI(Result, function, Args) CVPERF_DISPATCHED_AS(Result, function, Args, avx512_vnni)
