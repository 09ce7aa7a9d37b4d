// The boxes that touch a tile, in their order: how the backwards of RoI Align and RoI pooling do without atomics.
//
// Idea: the threads of a block look at a box each, and those that touch the tile are moved together by ballots and a
// sum over warps. The order of the boxes stays, whatever runs when, and no list passes memory.
//
// Cost: each tile looks at each box, 45 instructions of a warp for 32 of them (counted in what compiles).
//
// Not yet run on hardware.
#pragma once
#include "device.cuh"

namespace gpu {

// A box that touches the tile: its number and [first, last) rows and columns of bins that do.
struct Hit {
  int box;
  short first_row, last_row, first_column, last_column;
};

struct Slot {
  int place;  // of this thread's hit among those of the block
  int total;  // hits of the block
};

// All threads of the block, up to 256, must call it, and must meet at a barrier before its next call. Hits may be
// written to their places without one: everybody is through with those of the last call.
__device__ __forceinline__ Slot slot_of(bool hit, int (&hits_of_warp)[8]) {
  const int warp = threadIdx.x / 32;
  const unsigned hits = __ballot_sync(0xffffffffu, hit);
  if (threadIdx.x % 32 == 0) hits_of_warp[warp] = __popc(hits);
  __syncthreads();
  Slot slot{__popc(hits & ((1u << threadIdx.x % 32) - 1)), 0};
  for (int w = 0; w < static_cast<int>(blockDim.x) / 32; ++w) {
    slot.place += w < warp ? hits_of_warp[w] : 0;
    slot.total += hits_of_warp[w];
  }
  return slot;
}

}  // namespace gpu
