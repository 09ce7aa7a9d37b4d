// A dense tensor by where its channels lie in memory.
#pragma once
#include <cstdint>

namespace cvperf {

// Elements in the order of memory are [outer, channels, inner]: `inner` is 1 for channels-last and for the columns of
// a matrix, and the pixels of a plane for NCHW. One parameter for all is one channel.
struct ChannelView {
  std::int64_t outer, channels, inner;

  std::int64_t elements() const { return outer * channels * inner; }
};

}  // namespace cvperf
