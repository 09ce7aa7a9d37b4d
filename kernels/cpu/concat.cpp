// Parts side by side: rows of the output are a row of each part, one after the other.
//
// Idea: the output is written from end to end in pieces of equal size, whatever the rows and parts that a piece cuts,
// so that one long row is shared out as well as many short ones. Rows of a few dozen channels are copied by vectors in
// line.
//
// Roofline: the bytes read and written over the bandwidth of where they lie.
#include "concat.hpp"

#include "copy_bytes.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kPieceBytes = 1 << 15;
constexpr std::int64_t kAloneBytes = 1 << 17;  // fewer than these take longer to share out than to copy

// Bytes [begin, end) of the output, whose rows are of `row` bytes.
void copy_range(const ConcatArgs& args, std::int64_t row, std::int64_t begin, std::int64_t end) {
  char* const output = static_cast<char*>(args.output);
  std::int64_t skipped = begin % row;
  for (std::int64_t r = begin / row; begin < end; ++r) {
    for (std::int64_t k = 0; k < args.count && begin < end; ++k) {
      const ConcatPart& part = args.parts[k];
      if (skipped >= part.bytes) {
        skipped -= part.bytes;
        continue;
      }
      const std::int64_t there = part.bytes - skipped, bytes = there < end - begin ? there : end - begin;
      copy_bytes(static_cast<const char*>(part.from) + r * part.pitch + skipped, bytes, output + begin);
      begin += bytes;
      skipped = 0;
    }
  }
}

}  // namespace

void concat(const ConcatArgs& args) {
  std::int64_t row = 0;
  for (std::int64_t k = 0; k < args.count; ++k) row += args.parts[k].bytes;
  const std::int64_t bytes = row * args.rows, pieces = (bytes + kPieceBytes - 1) / kPieceBytes;
  const int threads = bytes < kAloneBytes ? 1 : args.num_threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    const std::int64_t begin = piece * kPieceBytes, end = begin + kPieceBytes;
    copy_range(args, row, begin, end < bytes ? end : bytes);
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
