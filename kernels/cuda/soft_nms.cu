// Soft-NMS in one block: select the highest score, scale all others, and again.
//
// Idea: each step needs the whole of the step before, so the device's width is no help and what counts is a step's
// latency. A thread scales the scores of its own boxes, which no other thread reads, and keeps its highest; the block's
// highest is found by five exchanges in each warp, one barrier, and five exchanges in every warp, so that all know the
// next winner. Scores below the least one become -1 and are not looked at again. The products are those of the eager
// algorithm in its order; linear ones are the CPU kernel's, bit for bit (compiled without fused multiply-adds).
//
// Prediction for an H100 (not yet run on hardware): 20 exchanges of 25 cycles, the barrier, the winner's corners and a
// division are some 900 cycles in a chain: 0.5 us a step at up to 1,024 boxes, 0.5 ms for 1,000 boxes.
//
// Source: Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017.
#include "device.cuh"

namespace gpu {

struct Best {
  float score;  // -1: none
  int index;

  // Ties go to the lower index.
  __device__ __forceinline__ void take(float other_score, int other_index) {
    if (other_score > score || (other_score == score && other_index < index)) {
      score = other_score;
      index = other_index;
    }
  }
  __device__ __forceinline__ void take_warps() {
    for (int step = 16; step > 0; step /= 2) {
      take(__shfl_xor_sync(0xFFFFFFFFu, score, step), __shfl_xor_sync(0xFFFFFFFFu, index, step));
    }
  }
};

template <class T>
__device__ __forceinline__ float4 load_corners(const T* p) {
  return make_float4(to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3]));
}

// What a score is multiplied by, given the box's corners and the winner's.
template <bool GAUSSIAN>
__device__ __forceinline__ float decay(float4 box, float4 winner, float threshold, float sigma) {
  const float width = fmaxf(fminf(box.z, winner.z) - fmaxf(box.x, winner.x), 0.0f);
  const float height = fmaxf(fminf(box.w, winner.w) - fmaxf(box.y, winner.y), 0.0f);
  const float inter = width * height;
  const float area = (box.z - box.x) * (box.w - box.y), its_area = (winner.z - winner.x) * (winner.w - winner.y);
  const float overlap = inter / (area + its_area - inter);
  if (!(overlap > threshold && overlap > 0.0f)) return 1.0f;  // NaN as well
  return GAUSSIAN ? expf(-(overlap * overlap) / sigma) : 1.0f - overlap;
}

}  // namespace gpu

// indices[limit], selected[limit]: boxes and scores as they are selected; selections[1]: how many. current[count]:
// scratch. least: a score below it is gone; 0 or more. limit: 1 to count.
template <class T, bool GAUSSIAN, int THREADS>
__global__ void __launch_bounds__(THREADS)
    soft_nms(const T* __restrict__ boxes, const T* __restrict__ scores, float* current, long long* indices, T* selected,
             long long* selections, int count, int limit, float threshold, float sigma, float least) {
  constexpr int WARPS = THREADS / 32;
  SHARED(gpu::Best, of_warps, [2][WARPS]);
  const int lane = threadIdx.x % 32, nobody = 0x7FFFFFFF;
  gpu::Best best{-1.0f, nobody};
  for (int i = threadIdx.x; i < count; i += THREADS) {
    const float score = gpu::to_float(scores[i]);
    current[i] = score >= least ? score : -1.0f;  // NaN is gone as well
    best.take(current[i], i);
  }
  int number = 0;
  for (;; ++number) {
    best.take_warps();
    gpu::Best* const all = of_warps[number & 1];  // last read two steps ago, before the barrier of the last step
    if (lane == 0) all[threadIdx.x / 32] = best;
    __syncthreads();
    best = lane < WARPS ? all[lane] : gpu::Best{-1.0f, nobody};
    best.take_warps();
    if (best.score < 0.0f || number == limit) break;
    const int chosen = best.index;
    if (threadIdx.x == 0) {
      indices[number] = chosen;
      selected[number] = gpu::from_float<T>(best.score);
    }
    const float4 winner = gpu::load_corners(boxes + 4 * chosen);
    best = gpu::Best{-1.0f, nobody};
    for (int i = threadIdx.x; i < count; i += THREADS) {
      float score = current[i];
      if (score < 0.0f) continue;
      score *= gpu::decay<GAUSSIAN>(gpu::load_corners(boxes + 4 * i), winner, threshold, sigma);
      current[i] = score = score >= least && i != chosen ? score : -1.0f;
      best.take(score, i);
    }
  }
  if (threadIdx.x == 0) selections[0] = number;
}
