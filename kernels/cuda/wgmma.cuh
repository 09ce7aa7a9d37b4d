// wgmma on the device; hopper.cuh includes it. The emulator's is kernels/emulator/wgmma.hpp.
#pragma once

namespace gpu {

// Sums that a product has under way must not be moved, nor used by what stands before or after.
template <int N>
__device__ __forceinline__ void keep_in_order(int (&sums)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+r"(sums[i])::"memory");
}
template <int N>
__device__ __forceinline__ void keep_in_order(float (&sums)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

// Before the first product, and after anything else has used the sums.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// All products of this warp but those of the latest N groups are done.
template <int N>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// sums[64, N] = a[64, K] * b[N, K], added to the sums that are there if `accumulate`: of 8 bits with b signed, K = 32;
// of 16 bits, K = 16. a and b are descriptors. Thread t of the warpgroup has rows t / 32 * 16 + t % 32 / 4 and 8 below,
// columns t % 4 * 2 + {0, 1} of every 8: sums[4 * j + 2 * half + e] is column 8 * j + t % 4 * 2 + e.
template <class A, int N>
__device__ __forceinline__ void wgmma(int (&sums)[N / 2], unsigned long long a, unsigned long long b, bool accumulate);
template <class A, int N>
__device__ __forceinline__ void wgmma(float (&sums)[N / 2], unsigned long long a, unsigned long long b,
                                      bool accumulate);

#define GPU_SUMS_64                                        \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define GPU_SUMS_128                                                 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"           \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define GPU_SUMS_192                                                 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"           \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63," \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define GPU_SUMS_256                                                             \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                       \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"             \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"             \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"             \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"             \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"             \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define GPU_4(C, i) C(sums[i]), C(sums[i + 1]), C(sums[i + 2]), C(sums[i + 3])
#define GPU_16(C, i) GPU_4(C, i), GPU_4(C, i + 4), GPU_4(C, i + 8), GPU_4(C, i + 12)
#define GPU_32(C) GPU_16(C, 0), GPU_16(C, 16)
#define GPU_64(C) GPU_32(C), GPU_16(C, 32), GPU_16(C, 48)
#define GPU_96(C) GPU_64(C), GPU_16(C, 64), GPU_16(C, 80)
#define GPU_128(C) GPU_96(C), GPU_16(C, 96), GPU_16(C, 112)
#define GPU_INT(x) "+r"(x)
#define GPU_FLOAT(x) "+f"(x)

#define GPU_WGMMA(TYPE, SUM, N, SHAPE, TYPES, SIGNS, CONSTRAINTS, A, B, P)                                        \
  template <>                                                                                                     \
  __device__ __forceinline__ void wgmma<TYPE, N>(SUM(&sums)[N / 2], unsigned long long a, unsigned long long b,   \
                                                 bool accumulate) {                                               \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p," P                                                             \
                 ",0;\n"                                                                                          \
                 "wgmma.mma_async.sync.aligned." SHAPE "." TYPES " {" GPU_SUMS_##N "}," A "," B ",p" SIGNS ";\n}" \
                 : CONSTRAINTS                                                                                    \
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate))                                              \
                 : "memory");                                                                                     \
  }
#define GPU_WGMMA_8(N, REGISTERS, A, B, P)                                                            \
  GPU_WGMMA(signed char, int, N, "m64n" #N "k32", "s32.s8.s8", "", GPU_##REGISTERS(GPU_INT), A, B, P) \
  GPU_WGMMA(unsigned char, int, N, "m64n" #N "k32", "s32.u8.s8", "", GPU_##REGISTERS(GPU_INT), A, B, P)
#define GPU_WGMMA_16(N, REGISTERS, A, B, P)                                                                    \
  GPU_WGMMA(__half, float, N, "m64n" #N "k16", "f32.f16.f16", ",1,1,0,0", GPU_##REGISTERS(GPU_FLOAT), A, B, P) \
  GPU_WGMMA(__nv_bfloat16, float, N, "m64n" #N "k16", "f32.bf16.bf16", ",1,1,0,0", GPU_##REGISTERS(GPU_FLOAT), A, B, P)
GPU_WGMMA_8(64, 32, "%32", "%33", "%34")
GPU_WGMMA_16(64, 32, "%32", "%33", "%34")
GPU_WGMMA_8(128, 64, "%64", "%65", "%66")
GPU_WGMMA_16(128, 64, "%64", "%65", "%66")
GPU_WGMMA_8(192, 96, "%96", "%97", "%98")
GPU_WGMMA_16(192, 96, "%96", "%97", "%98")
GPU_WGMMA_8(256, 128, "%128", "%129", "%130")
GPU_WGMMA_16(256, 128, "%128", "%129", "%130")

#undef GPU_WGMMA_8
#undef GPU_WGMMA_16
#undef GPU_WGMMA

}  // namespace gpu
