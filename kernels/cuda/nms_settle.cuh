// Settling a chunk of boxes in one block; nms.cu has the idea.
#pragma once
#include "nms.cuh"

namespace gpu {

struct Sizes {
  int count;      // boxes of an image
  int pitch;      // count, rounded up
  int chunk;      // boxes settled at a time: a multiple of a block's threads, and at most MOST_CHUNK
  int chunks;     // of an image
  int limit;      // boxes wanted; no more are kept
  int padded_to;  // entries of an image's answer that have to be written, the last ones with -1
};

struct Answer {
  long long* indices;  // [max(limit, padded_to)]
  long long* count;    // [1]

  __device__ __forceinline__ Answer(long long* all_indices, long long* counts, const Sizes& sizes, int image)
      : indices(all_indices + static_cast<long long>(image) * max(sizes.limit, sizes.padded_to)),
        count(counts + image) {}
};

// Whether this block is the last of `blocks` to come here; all that the others wrote is then visible.
__device__ __forceinline__ bool last_to_arrive(int* arrivals, int blocks) {
  SHARED(int, last, [1]);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last[0] = atomicAdd(arrivals, 1) == blocks - 1;
    if (last[0]) arrivals[0] = 0;  // for the next launch
    __threadfence();
  }
  __syncthreads();
  return last[0] != 0;
}

// The boxes of THREADS that stay, 32 a word, given whether each could (`free`: it exists, and nothing before these
// THREADS suppresses it), and the words of each: earlier[w] of the warps before its own, beside[] of its own. Returns
// the word of this warp; `stays` has all.
template <int THREADS>
__device__ __forceinline__ unsigned fixed_point(bool free, const unsigned (&earlier)[THREADS / 32], unsigned beside,
                                                unsigned (&stays)[2][THREADS / 32], int& where) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned bits = __ballot_sync(EVERY_LANE, free);
  where = 0;
  if (lane == 0) stays[0][warp] = bits;
  __syncthreads();
  bool changed = true;
  for (int round = 0; changed && round <= THREADS / 32; ++round) {  // after k rounds the first k warps are right
    unsigned hits = 0;
#pragma unroll
    for (int w = 0; w < THREADS / 32; ++w) hits |= earlier[w] & stays[where][w];
    const bool possible = free && hits == 0;
    const unsigned before = bits;
    unsigned last = ~bits;
    for (int step = 0; bits != last && step <= 32; ++step) {  // after k steps the first k boxes are
      last = bits;
      bits = __ballot_sync(EVERY_LANE, possible && (beside & last) == 0);
    }
    where ^= 1;
    if (lane == 0) stays[where][warp] = bits;
    changed = __syncthreads_or(bits != before) != 0;
  }
  return bits;
}

// Settles chunk `number` of an image, after the chunks before it. words: [chunk / 32, pitch], of nms_overlaps.
template <int THREADS>
__device__ void settle(const Space& space, const unsigned* words, const Sizes& sizes, int number,
                       const Answer& answer) {
  constexpr int WARPS = THREADS / 32;
  SHARED(unsigned, stays, [2][WARPS]);
  SHARED(unsigned, settled, [MOST_CHUNK / 32]);  // of this chunk
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int total = space.ends[number];
  for (int offset = 0; offset < sizes.chunk; offset += THREADS) {
    const int begin = number * sizes.chunk + offset, i = begin + threadIdx.x;
    if (begin >= sizes.count || total >= sizes.limit) break;
    const bool exists = i < sizes.count;
    const unsigned* const column = words + i;
    const long long pitch = sizes.pitch, own = offset / 32;
    unsigned hits = 0;
    if (exists) {
#pragma unroll 8
      for (int row = 0; row < own; ++row) hits |= column[row * pitch] & settled[row];
    }
    unsigned earlier[WARPS];
#pragma unroll
    for (int w = 0; w < WARPS; ++w) earlier[w] = exists && w < warp ? column[(own + w) * pitch] : 0;
    const unsigned beside = exists ? column[(own + warp) * pitch] : 0;
    const bool free = exists && space.removed[i] == 0 && hits == 0;
    int where;
    const unsigned bits = fixed_point<THREADS>(free, earlier, beside, stays, where);

    const unsigned word = lane < WARPS ? stays[where][lane] : 0;
    if (warp == 0 && lane < WARPS) settled[own + lane] = word;
    const int place =
        total + __reduce_add_sync(EVERY_LANE, lane < warp ? __popc(word) : 0) + __popc(bits & ((1u << lane) - 1));
    if ((bits >> lane & 1) != 0 && place < sizes.limit) {
      space.kept[place] = i;
      answer.indices[place] = space.index[i];
    }
    total = min(total + __reduce_add_sync(EVERY_LANE, __popc(word)), sizes.limit);
    __syncthreads();
  }
  if (threadIdx.x == 0) space.ends[number + 1] = total;
  if (number == sizes.chunks - 1) {
    if (threadIdx.x == 0) answer.count[0] = total;
    for (int place = total + threadIdx.x; place < sizes.padded_to; place += THREADS) answer.indices[place] = -1;
  }
}

}  // namespace gpu
