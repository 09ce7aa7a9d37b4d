// The end of a matrix product or convolution: from sums to the output, in one store.
//
//   value = (sum - zero[row] * sums_b[column]) * scale_a[row] * scale_b[column]     8-bit factors only
//   value = activation(value + bias[column] + residual[row, column])
//   out[row, column] = value rounded once to its type, 8-bit types as round(value / scale_out) + zero_out, saturated
//
// What is absent is null and costs a branch that the whole block takes alike. Everything after the sums is float32, but
// with int32 out: exact sums, with a zero point and an int32 bias.
//
// Fill in an Epilogue<Sum> (Sum int or float) by name and hand it to Product::finish (mainloop.cuh), or call `columns`
// and `store` from another main loop: V is 4 where `narrow()`, else 8, and the V columns begin at a multiple of V.
// Stores are of 16 bytes a thread (8-bit outputs: 8), side by side, wherever alignment and edges allow.
#pragma once
#include "activation.cuh"
#include "vector.cuh"

namespace gpu {

/// Types of outputs; numbers that the host sends (cvperf/backends/cuda/epilogue.py has the same).
enum Type { INT32, FLOAT32, FLOAT16, BFLOAT16, INT8, UINT8 };

/// One number for all rows (columns), or one for each.
template <class T>
struct Factor {
  const T* values = nullptr;
  int step = 0;  // 0 for one number, 1 for one each

  __device__ __forceinline__ T at(int index, T absent) const { return values ? values[index * step] : absent; }
};

template <class Sum>
struct Epilogue {
  void* out;  // [M, N]
  int type;   // of out and residual
  int M, N;
  long long stride;  // elements between rows of out and residual

  const void* bias = nullptr;  // [N]
  int bias_type = FLOAT32;     // or FLOAT16, BFLOAT16; with int32 out INT32
  const void* residual = nullptr;
  int activation = NONE;

  // 8-bit factors.
  const int* sums_b = nullptr;  // [N] of b's values over K; null without a zero point
  Factor<int> zero_a = {};
  Factor<float> scale_a = {}, scale_b = {};
  int zero = 0;        // beside zero_a, for all rows
  float scale = 1.0f;  // beside scale_a and scale_b, for all

  // 8-bit outputs.
  float inverse_scale = 1.0f;
  int zero_out = 0;
  float scale_residual = 1.0f;
  int zero_residual = 0;

  /// What a thread keeps of its columns.
  template <int V>
  struct Columns {
    float scale[V], bias[V];  // with int32 out the bits of its bias
    int sums[V];
  };

  __device__ __forceinline__ bool narrow() const { return type == INT32 || type == FLOAT32; }

  template <int V>
  __device__ __forceinline__ Columns<V> columns(int column) const {
    Columns<V> kept;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int at = column + v;
      const bool inside = at < N;
      kept.scale[v] = inside ? scale * scale_b.at(at, 1.0f) : 0.0f;
      kept.bias[v] = inside ? bias_at(at) : 0.0f;
      kept.sums[v] = inside && sums_b ? sums_b[at] : 0;
    }
    return kept;
  }

  /// ANY: of any type, else 4 are of 32 bits and 8 of fewer.
  template <int V, bool ANY = V == 8>
  __device__ __forceinline__ void store(int row, int column, const Columns<V>& kept, const Sum (&sums)[V]) const {
    if (row >= M || column >= N) return;
    const long long at = row * stride + column;
    const int inside = N - column;
    float values[V];
    if constexpr (is_int(Sum{})) {
      const int off = zero + zero_a.at(row, 0);
      int exact[V];
#pragma unroll
      for (int v = 0; v < V; ++v) exact[v] = sums[v] - off * kept.sums[v];
      if constexpr (V == 4) {
        if (type == INT32) {
#pragma unroll
          for (int v = 0; v < V; ++v) exact[v] += __float_as_int(kept.bias[v]);
          return gpu::store<V>(static_cast<int*>(out) + at, exact, inside);
        }
      }
      const float its_scale = scale_a.at(row, 1.0f);
#pragma unroll
      for (int v = 0; v < V; ++v) values[v] = static_cast<float>(exact[v]) * its_scale * kept.scale[v];
    } else {
#pragma unroll
      for (int v = 0; v < V; ++v) values[v] = sums[v];
    }
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] += kept.bias[v];
    if (residual) {
      if constexpr (!ANY) {
        add<V, float>(values, at, inside);
      } else {
        switch (type) {
          case FLOAT32:
            if constexpr (V == 4) add<V, float>(values, at, inside);
            break;
          case FLOAT16:
            add<V, __half>(values, at, inside);
            break;
          case BFLOAT16:
            add<V, __nv_bfloat16>(values, at, inside);
            break;
          case INT8:
            add<V, signed char>(values, at, inside);
            break;
          default:
            add<V, unsigned char>(values, at, inside);
        }
      }
    }
    activate(activation, values);
    if constexpr (!ANY) {
      round<V, float>(values, at, inside);
    } else {
      switch (type) {
        case FLOAT32:
          if constexpr (V == 4) round<V, float>(values, at, inside);
          return;
        case FLOAT16:
          return round<V, __half>(values, at, inside);
        case BFLOAT16:
          return round<V, __nv_bfloat16>(values, at, inside);
        case INT8:
          return round<V, signed char>(values, at, inside);
        default:
          return round<V, unsigned char>(values, at, inside);
      }
    }
  }

 private:
  __device__ __forceinline__ static constexpr bool is_int(int) { return true; }
  __device__ __forceinline__ static constexpr bool is_int(float) { return false; }

  __device__ __forceinline__ float bias_at(int column) const {
    if (!bias) return 0.0f;
    if (type == INT32) return __int_as_float(static_cast<const int*>(bias)[column]);
    switch (bias_type) {
      case FLOAT32:
        return static_cast<const float*>(bias)[column];
      case FLOAT16:
        return to_float(static_cast<const __half*>(bias)[column]);
      case BFLOAT16:
        return to_float(static_cast<const __nv_bfloat16*>(bias)[column]);
      default:
        return 0.0f;
    }
  }

  /// Add the residual.
  template <int V, class T>
  __device__ __forceinline__ void add(float (&values)[V], long long at, int inside) const {
    T more[V];
    load<V>(more, static_cast<const T*>(residual) + at, inside);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if constexpr (sizeof(T) == 1)
        values[v] += static_cast<float>(static_cast<int>(more[v]) - zero_residual) * scale_residual;
      else
        values[v] += to_float(more[v]);
    }
  }

  /// Round to T and store.
  template <int V, class T>
  __device__ __forceinline__ void round(const float (&values)[V], long long at, int inside) const {
    T rounded[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if constexpr (sizeof(T) == 1)
        rounded[v] = requantise<T>(values[v], inverse_scale, zero_out);
      else
        rounded[v] = from_float<T>(values[v]);
    }
    gpu::store<V>(static_cast<T*>(out) + at, rounded, inside);
  }
};

}  // namespace gpu
