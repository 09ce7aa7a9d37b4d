// Kernels for the tests of the emulator, right ones and wrong ones.
#include "device.cuh"

// Each block reverses 64 numbers through shared memory.
template <bool WAITS>
__global__ void __launch_bounds__(64) reversed(const int* in, int* out) {
  SHARED(int, numbers, [64]);
  const int i = threadIdx.x, first = blockIdx.x * 64;
  numbers[i] = in[first + i];
  if (WAITS) __syncthreads();
  out[first + i] = numbers[63 - i];
}

// Sums of the numbers of neighbouring warps, through two buffers that take turns.
template <bool WAITS>
__global__ void __launch_bounds__(64) pipelined(const int* in, int* out, int steps) {
  SHARED(int, numbers, [2][64]);
  const int i = threadIdx.x;
  int total = 0;
  gpu::copy_async<4>(&numbers[0][i], in + i, true);
  gpu::copy_async_commit();
  for (int step = 0; step < steps; ++step) {
    const bool more = step + 1 < steps;
    gpu::copy_async<4>(&numbers[(step + 1) % 2][i], more ? in + 64 * (step + 1) + i : in, more);
    gpu::copy_async_commit();
    gpu::copy_async_wait<1>();
    __syncthreads();
    total += numbers[step % 2][(i + 32) % 64];
    if (WAITS) __syncthreads();  // before the next copy overwrites what others still read
  }
  out[i] = total;
}

template <int NEWEST>
__global__ void __launch_bounds__(32) copied(const int* in, int* out) {
  SHARED(int, numbers, [32]);
  gpu::copy_async<4>(&numbers[threadIdx.x], in + threadIdx.x, true);
  gpu::copy_async_commit();
  gpu::copy_async_wait<NEWEST>();
  __syncwarp();
  out[threadIdx.x] = numbers[31 - threadIdx.x];
}

__global__ void divergent_barrier(int* out) {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

__global__ void barrier_after_exit(int* out) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void half_a_shuffle(int* out) {
  int value = threadIdx.x;
  if (threadIdx.x % 2) value = __shfl_xor_sync(0xffffffffu, value, 2);
  out[threadIdx.x] = value;
}

__global__ void beside_shared(int* out) {
  SHARED(int, numbers, [64]);
  numbers[threadIdx.x + 1] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = numbers[threadIdx.x];
}

__global__ void beside_global(int* out, int count) { out[threadIdx.x + count - 63] = 1; }

__global__ void uninitialised(int* out) {
  SHARED(int, numbers, [64]);
  if (threadIdx.x < 63) numbers[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = numbers[threadIdx.x];
}

template <bool ATOMIC>
__global__ void counted(int* out) {
  if (ATOMIC) {
    atomicAdd(out, 1);
  } else {
    *out += 1;
  }
}

__global__ void between_lanes(int* out) {
  SHARED(int, numbers, [64]);
  numbers[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = numbers[threadIdx.x ^ 1];  // no __syncwarp
}

// Two halves of a block with barriers of their own.
__global__ void named_barriers(int* out) {
  SHARED(int, numbers, [128]);
  const int half = threadIdx.x / 64;
  numbers[threadIdx.x] = threadIdx.x;
  gpu::barrier_sync(1 + half, 64);
  out[threadIdx.x] = numbers[64 * half + 63 - threadIdx.x % 64];
}

// What lanes tell each other, one answer in each row of out[8, 32].
__global__ void lanes(int* out) {
  const int lane = threadIdx.x;
  const unsigned all = 0xffffffffu;
  out[lane] = __shfl_sync(all, lane, 3, 8);
  out[32 + lane] = __shfl_xor_sync(all, lane, 5);
  out[64 + lane] = __shfl_up_sync(all, lane, 2, 16);
  out[96 + lane] = __shfl_down_sync(all, lane, 3);
  out[128 + lane] = static_cast<int>(__ballot_sync(all, lane % 3 == 0));
  out[160 + lane] = __reduce_add_sync(all, lane) + __reduce_max_sync(all, lane) + __reduce_min_sync(all, lane);
  out[192 + lane] = __any_sync(all, lane == 7) + 2 * __all_sync(all, lane < 32);
  out[224 + lane] =
      __dp4a(0x01ff02fe, 0x03040506, lane) + static_cast<int>(__byte_perm(0x33221100, 0x77665544, 0x0071));
}

// d[16, 8] = a[16, K] b[K, 8] with a in rows and b in columns, both through ldmatrix.
template <class A, class D, int BYTES>
__global__ void product(const A* a, const A* b, D* d) {
  constexpr int K = 32 / BYTES;
  SHARED(uint4, rows, [16 * 2]);
  SHARED(uint4, columns, [8 * 2]);
  const int lane = threadIdx.x;
  rows[lane] = gpu::load16(a + lane * K / 2);
  if (lane < 16) columns[lane] = gpu::load16(b + lane * K / 2);
  __syncwarp();
  unsigned fa[4], fb[2];
  gpu::ldmatrix_x4(fa, &rows[2 * (lane % 16) + lane / 16]);
  gpu::ldmatrix_x2(fb, &columns[2 * (lane % 8) + lane / 8 % 2]);
  D sum[4] = {};
  gpu::mma<A>(sum, fa, fb);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

// The product of fragments [2][32][4], a and b, that come as registers; its own out[32][4].
template <class A, class D>
__global__ void from_registers(const unsigned* in, D* out) {
  const int lane = threadIdx.x;
  unsigned a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = in[4 * lane + i];
  for (int i = 0; i < 2; ++i) b[i] = in[128 + 4 * lane + i];
  D sum[4] = {};
  gpu::mma<A>(sum, a, b);
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = sum[i];
}

// Four 8x8 matrices of 16 bits, as they lie and transposed: out[2][32][4].
__global__ void matrices(const unsigned short* in, unsigned* out) {
  SHARED(uint4, rows, [32]);
  rows[threadIdx.x] = gpu::load16(in + 8 * threadIdx.x);
  __syncwarp();
  unsigned r[4];
  gpu::ldmatrix_x4(r, &rows[threadIdx.x]);
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = r[i];
  gpu::ldmatrix_x4_transposed(r, &rows[threadIdx.x]);
  for (int i = 0; i < 4; ++i) out[128 + 4 * threadIdx.x + i] = r[i];
}

// Conversions there and back: float -> 16 bits and the numbers of a pair.
template <class T>
__global__ void converted(const float* in, unsigned* pairs, float* out, int count) {
  for (int i = threadIdx.x; i < count / 2; i += blockDim.x) {
    pairs[i] = gpu::pack<T>(in[2 * i], in[2 * i + 1]);
    const float2 two = gpu::unpack<T>(pairs[i]);
    out[2 * i] = two.x;
    out[2 * i + 1] = two.y;
  }
}

__global__ void mixed_arguments(int a, long long b, float c, const int* none, int d, long long* out) {
  out[0] = a;
  out[1] = b;
  out[2] = static_cast<long long>(2 * c);
  out[3] = none == nullptr;
  out[4] = d;
}
