// The one include of every kernel file: what CUDA C++ lacks a spelling for that nvcc, NVRTC and the emulator all
// accept. With nvcc and NVRTC these are thin wrappers of PTX; with g++ the emulator runs the same source on the CPU.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>

// SHARED(float, tile, [64][17]); - an array in shared memory. DYNAMIC_SHARED(float, tile); - what the launch asked for.
#define SHARED(T, name, dims) __shared__ __align__(128) T name dims
#define DYNAMIC_SHARED(T, name)                                      \
  extern __shared__ __align__(1024) unsigned char dynamic_shared_[]; \
  T* name = reinterpret_cast<T*>(dynamic_shared_)

namespace gpu {

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// d[16, 8] += a[16, K] (rows) * b[K, 8] (columns) by a warp: A of 8 bits, K = 32.
template <class A>
__device__ __forceinline__ void mma(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
template <>
__device__ __forceinline__ void mma<signed char>(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma<unsigned char>(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same with A and B of 16 bits, K = 16.
template <class A>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
template <>
__device__ __forceinline__ void mma<__half>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma<__nv_bfloat16>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four (two) 8x8 matrices of 16 bits: lanes 8i to 8i + 7 name the rows of matrix i, 16 bytes each.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(unsigned (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1},[%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_transposed(unsigned (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1},[%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// Copies 4, 8 or 16 bytes to shared memory without waiting; zeros if not `valid`, and nothing is read then.
template <int BYTES>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
  if constexpr (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0],[%1],%2,%3;" ::"r"(shared_address(shared)), "l"(global), "n"(BYTES),
                 "r"(valid ? BYTES : 0)
                 : "memory");
  }
}
// What has been copied since the last commit is a group.
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// All groups of this thread but the latest N have landed; other threads see them after a barrier.
template <int N>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Barrier `id` (1 to 15) for so many threads of the block, a multiple of 32.
__device__ __forceinline__ void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0,%1;" ::"r"(id), "r"(threads) : "memory");
}

// To the nearest integer (ties to even) within -128 to 127 (0 to 255); 0 for NaN.
__device__ __forceinline__ signed char saturate_int8(float x) {
  int r;
  asm("cvt.rni.sat.s8.f32 %0,%1;" : "=r"(r) : "f"(x));
  return static_cast<signed char>(r);
}
__device__ __forceinline__ unsigned char saturate_uint8(float x) {
  int r;
  asm("cvt.rni.sat.u8.f32 %0,%1;" : "=r"(r) : "f"(x));
  return static_cast<unsigned char>(r);
}

// 16 bytes of global or shared memory at an address that is a multiple of 16.
__device__ __forceinline__ uint4 load16(const void* p) { return *static_cast<const uint4*>(p); }
__device__ __forceinline__ void store16(void* p, uint4 value) { *static_cast<uint4*>(p) = value; }

}  // namespace gpu
#else
#include "../emulator/emulator.hpp"
#endif

namespace gpu {

// Everything is computed in float32; a result is rounded to nearest even.
__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Two numbers of 16 bits in a register, the first in the lower half.
template <class T>
__device__ __forceinline__ float2 unpack(unsigned two);
template <>
__device__ __forceinline__ float2 unpack<__half>(unsigned two) {
  return make_float2(__half2float(__ushort_as_half(static_cast<unsigned short>(two & 0xffff))),
                     __half2float(__ushort_as_half(static_cast<unsigned short>(two >> 16))));
}
template <>
__device__ __forceinline__ float2 unpack<__nv_bfloat16>(unsigned two) {
  return make_float2(__uint_as_float(two << 16), __uint_as_float(two & 0xffff0000u));
}
template <class T>
__device__ __forceinline__ unsigned pack(float first, float second);
template <>
__device__ __forceinline__ unsigned pack<__half>(float first, float second) {
  return __half_as_ushort(__float2half_rn(first)) | static_cast<unsigned>(__half_as_ushort(__float2half_rn(second)))
                                                        << 16;
}
template <>
__device__ __forceinline__ unsigned pack<__nv_bfloat16>(float first, float second) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(first)) |
         static_cast<unsigned>(__bfloat16_as_ushort(__float2bfloat16_rn(second))) << 16;
}

}  // namespace gpu
