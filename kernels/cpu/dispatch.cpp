#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <cstdlib>
#include <stdexcept>

#include "isa.hpp"

namespace cvperf {
namespace {

const char* const kNames[] = {"scalar", "avx2", "avx_vnni", "avx512", "avx512_vnni", "avx512_bf16"};
constexpr int kIsas = static_cast<int>(sizeof kNames / sizeof *kNames);

#if defined(__x86_64__) && !defined(CVPERF_EMULATE_AVX512)
bool has_avx_vnni() {
  unsigned a, b, c, d;  // __builtin_cpu_supports knows its name from GCC 13 on
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4)) != 0;
}
#endif

// A processor need not offer all that stand before the best it offers: some have AVX-512 and no AVX-VNNI.
bool is_offered(Isa isa) {
#if !defined(__x86_64__)
  return isa == Isa::scalar;
#elif defined(CVPERF_EMULATE_AVX512)
  (void)isa;
  return true;
#else
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
      return avx2;
    case Isa::avx_vnni:
      return avx2 && has_avx_vnni();
    case Isa::avx512:
      return avx512;
    case Isa::avx512_vnni:
      return vnni;
    default:
      return vnni && __builtin_cpu_supports("avx512bf16");
  }
#endif
}

Isa best_isa() {
  int best = kIsas - 1;
  while (!is_offered(static_cast<Isa>(best))) --best;
  return static_cast<Isa>(best);
}

Isa parse(const std::string& name) {
  for (int i = 0; i < kIsas; ++i)
    if (name == kNames[i] && is_offered(static_cast<Isa>(i))) return static_cast<Isa>(i);
  std::string choices;
  for (const std::string& known : available_isas()) choices += (choices.empty() ? "" : ", ") + known;
  throw std::invalid_argument("instruction set '" + name + "' cannot run here; this processor offers: " + choices +
                              " (CVPERF_CPU_ISA takes one of these)");
}

Isa initial_isa() {
  const char* forced = std::getenv("CVPERF_CPU_ISA");
  return forced && *forced ? parse(forced) : best_isa();
}

Isa& active() {
  static Isa isa = initial_isa();
  return isa;
}

}  // namespace

Isa active_isa() { return active(); }

std::string isa_name(Isa isa) { return kNames[static_cast<int>(isa)]; }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (int i = 0; i < kIsas; ++i)
    if (is_offered(static_cast<Isa>(i))) names.emplace_back(kNames[i]);
  return names;
}

void select_isa(const std::string& name) { active() = parse(name); }

}  // namespace cvperf
