#include <cstdlib>
#include <stdexcept>

#include "isa.hpp"

namespace cvperf {
namespace {

const char* const kNames[] = {"scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16"};

Isa best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#if defined(CVPERF_EMULATE_AVX512)
  return Isa::avx512_bf16;
#endif
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (vnni && __builtin_cpu_supports("avx512bf16")) return Isa::avx512_bf16;
  if (vnni) return Isa::avx512_vnni;
  if (avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::scalar;
}

Isa parse(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i)
    if (name == kNames[i]) return static_cast<Isa>(i);
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

std::vector<std::string> available_isas() { return {kNames, kNames + static_cast<int>(best_isa()) + 1}; }

void select_isa(const std::string& name) { active() = parse(name); }

}  // namespace cvperf
