#include "tma.hpp"

#include <algorithm>

namespace emulator {

// Dimensions are listed from the fastest. The driver's own encoding is secret; this is what a GPU makes of it.
struct TensorFields {
  std::uint32_t magic;
  std::uint8_t im2col, rank, element_bytes, span;  // span of the swizzle in bytes; 16 for none
  std::uint64_t address;
  std::uint32_t dims[5];
  std::uint16_t box[5];            // im2col: channels, pixels
  std::int8_t lower[2], upper[2];  // im2col, across and down: where windows begin, beyond the image's corners
  std::uint8_t steps[5];           // im2col: from one window to the next
  std::uint64_t strides[4];        // bytes, from the second dimension on
};
static_assert(sizeof(TensorFields) == 88);
constexpr std::uint32_t kTensorMagic = 0x50414d54;  // "TMAP"

// 16 bytes of shared memory, of which the first `bytes` after `skip` are in global memory and the others are zero.
struct Piece {
  char* shared;
  char* global;
  int skip, bytes;
};

class TensorCopy {
 public:
  TensorCopy(const gpu::TensorMap& map, const void* shared, bool im2col, int rank, const char* what, Place place)
      : shared_(static_cast<char*>(const_cast<void*>(shared))) {
    std::memcpy(&map_, map.opaque, sizeof map_);
    if (map_.magic != kTensorMagic) fail(std::string(what) + ": this is no tensor map", place);
    if (map_.rank != rank || map_.im2col != im2col) {
      fail(std::string(what) + ": the map is of " + std::to_string(map_.rank) + " dimensions" +
               (map_.im2col ? ", im2col" : ""),
           place);
    }
    // A tile begins where the pattern of its swizzle does.
    const unsigned alignment = map_.span == 16 ? 128 : 8 * map_.span;
    if ((shared_ - block.arena) % alignment) {
      fail(std::string(what) + ": a tile of this swizzle lies at a multiple of " + std::to_string(alignment) + " bytes",
           place);
    }
    check_in_shared_memory(shared_, bytes(), what, place);
  }

  std::size_t row_bytes() const { return std::size_t(map_.box[0]) * map_.element_bytes; }
  std::size_t bytes() const {
    std::size_t product = row_bytes();
    for (int d = 1; d < (map_.im2col ? 2 : map_.rank); ++d) product *= map_.box[d];
    return product;
  }

  // Of the tile that begins at these coordinates, which may lie outside.
  void tile(const int (&first)[5]) {
    std::size_t rows = bytes() / row_bytes();
    for (std::size_t row = 0; row < rows; ++row) {
      int at[5] = {first[0]};
      std::size_t rest = row;
      for (int d = 1; d < map_.rank; ++d) {
        at[d] = first[d] + static_cast<int>(rest % map_.box[d]);
        rest /= map_.box[d];
      }
      add_row(row, at);
    }
  }

  // Of the pixels that tap (right, down) of the window meets, from the window that begins at pixel (w, h) of image n.
  void pixels(int c, int w, int h, int n, int right, int down) {
    const int last_w = static_cast<int>(map_.dims[1]) - 1 + map_.upper[0];
    const int last_h = static_cast<int>(map_.dims[2]) - 1 + map_.upper[1];
    for (int row = 0; row < map_.box[1]; ++row) {
      add_row(row, {c, w + right, h + down, n, 0});
      w += map_.steps[1];
      if (w <= last_w) continue;
      w = map_.lower[0];
      h += map_.steps[2];
      if (h <= last_h) continue;
      h = map_.lower[1];
      ++n;
    }
  }

  const std::vector<Piece>& pieces() const { return pieces_; }

 private:
  void add_row(std::size_t row, const int (&at)[5]) {
    char* global = reinterpret_cast<char*>(map_.address);
    bool inside = true;
    for (int d = 1; d < map_.rank; ++d) {
      inside &= at[d] >= 0 && at[d] < static_cast<long>(map_.dims[d]);
      global += at[d] * static_cast<std::ptrdiff_t>(map_.strides[d - 1]);
    }
    const long first = static_cast<long>(at[0]) * map_.element_bytes, size = long(map_.dims[0]) * map_.element_bytes;
    for (std::size_t b = 0; b < row_bytes(); b += 16) {
      const long from = first + static_cast<long>(b), begin = std::max(from, 0l), end = std::min(from + 16, size);
      const unsigned target = swizzled(shared_ - block.arena + row * row_bytes() + b, map_.span);
      Piece piece{block.arena + target, nullptr, 0, 0};
      if (inside && begin < end) piece = {piece.shared, global + begin, int(begin - from), int(end - begin)};
      pieces_.push_back(piece);
    }
  }

  TensorFields map_;
  char* shared_;
  std::vector<Piece> pieces_;
};

// ThreadSanitizer is told that an engine beside the threads made these accesses, after the copy was issued and before
// the barrier's phase ends.
static EMULATOR_RAW void watch_load([[maybe_unused]] const Piece* pieces, [[maybe_unused]] std::size_t count,
                                    [[maybe_unused]] void* issued, [[maybe_unused]] void* phase) {
#if EMULATOR_TSAN
  void* const me = __tsan_get_current_fiber();
  void* const engine = __tsan_create_fiber(0);
  __tsan_switch_to_fiber(engine, 1);
  __tsan_acquire(issued);
  for (std::size_t i = 0; i < count; ++i) {
    __tsan_write_range(pieces[i].shared, 16);
    if (pieces[i].bytes) __tsan_read_range(pieces[i].global, pieces[i].bytes);
  }
  __tsan_release(phase);
  __tsan_switch_to_fiber(me, 1);
  __tsan_destroy_fiber(engine);
#endif
}

static void land(const TensorCopy& copy, const void* barrier, void* issued, const char* what, Place place) {
  Mbarrier& one = mbarrier(barrier, what, place);
  watch_load(copy.pieces().data(), copy.pieces().size(), issued, one.tokens[one.phase % 2]);
  for (const Piece& piece : copy.pieces()) {
    char* const view = asynchronous_view(piece.shared);
    std::memset(view, 0, 16);
    if (piece.bytes) std::memcpy(view + piece.skip, piece.global, piece.bytes);
    std::memcpy(piece.shared, view, 16);
  }
  one.bytes -= static_cast<long>(copy.bytes());
  end_phase_if_complete(one);
}

static void start_load(TensorCopy copy, const void* barrier, const char* what, Place place) {
  void* const issued = new_token();
  release(issued);
  if (!mbarrier(barrier, what, place).fenced) {
    fail(std::string(what) + ": the barrier was made with no fence_barrier_init after it", place);
  }
  if (!block.schedule.late_copies) return land(copy, barrier, issued, what, place);
  block.in_flight.push_back([copy = std::move(copy), barrier, issued, what, place] {
    try {
      if (block.alive == 0) fail(std::string(what) + ": the block ended and had not waited for it", place);
      land(copy, barrier, issued, what, place);
    } catch (...) {
      block.error = std::current_exception();  // whoever runs now has nothing to do with it
    }
  });
}

static void store_pieces(const TensorCopy& copy, const char* what, Place place) {
  for (const Piece& piece : copy.pieces()) {
    check_fenced(piece.shared, 16, what, place);
    if (piece.bytes) std::memcpy(piece.global, piece.shared + piece.skip, piece.bytes);
  }
}

}  // namespace emulator

namespace gpu {

#define EMULATOR_TILES(RANK, PARAMETERS, ...)                                                                \
  void tile_load(void* shared, const TensorMap& map, Barrier* barrier, PARAMETERS, emulator::Place place) {  \
    const emulator::Unwatched emulator;                                                                      \
    emulator::TensorCopy copy(map, shared, false, RANK, "tile_load", place);                                 \
    copy.tile({__VA_ARGS__});                                                                                \
    emulator::start_load(std::move(copy), barrier, "tile_load", place);                                      \
  }                                                                                                          \
  void tile_store(const TensorMap& map, const void* shared, PARAMETERS, emulator::Place place) {             \
    auto copy = [&] {                                                                                        \
      const emulator::Unwatched emulator;                                                                    \
      emulator::TensorCopy its(map, shared, false, RANK, "tile_store", place);                               \
      its.tile({__VA_ARGS__});                                                                               \
      return its;                                                                                            \
    }();                                                                                                     \
    emulator::issue(emulator::block.running->stores,                                                         \
                    [copy = std::move(copy), place] { emulator::store_pieces(copy, "tile_store", place); }); \
  }
#define EMULATOR_COMMA ,
EMULATOR_TILES(2, int c0 EMULATOR_COMMA int c1, c0, c1)
EMULATOR_TILES(3, int c0 EMULATOR_COMMA int c1 EMULATOR_COMMA int c2, c0, c1, c2)
EMULATOR_TILES(4, int c0 EMULATOR_COMMA int c1 EMULATOR_COMMA int c2 EMULATOR_COMMA int c3, c0, c1, c2, c3)
EMULATOR_TILES(5, int c0 EMULATOR_COMMA int c1 EMULATOR_COMMA int c2 EMULATOR_COMMA int c3 EMULATOR_COMMA int c4, c0,
               c1, c2, c3, c4)
#undef EMULATOR_COMMA
#undef EMULATOR_TILES

void im2col_load(void* shared, const TensorMap& map, Barrier* barrier, int c, int w, int h, int n, int right, int down,
                 emulator::Place place) {
  const emulator::Unwatched emulator;
  if (right < 0 || right > 255 || down < 0 || down > 255) {
    emulator::fail("im2col_load: the offsets of a tap are 0 to 255", place);
  }
  emulator::TensorCopy copy(map, shared, true, 4, "im2col_load", place);
  copy.pixels(c, w, h, n, right, down);
  emulator::start_load(std::move(copy), barrier, "im2col_load", place);
}

}  // namespace gpu
