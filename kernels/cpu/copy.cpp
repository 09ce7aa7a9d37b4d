// Any order of dimensions to any other, with a change of element type: permutations, repeated and strided views, casts.
//
// Idea: the output is cut into tiles of two dimensions: the one in which the input lies without gaps, and the one in
// which the output does. Where they are the same, a tile is rows that are copied; where not, it is transposed, in
// registers, and two to four rows (the channels of an image, the groups of a channel shuffle) are interleaved. All else
// goes element by element. Elements are moved as bits. A cast is a pass of its own over a tile in L1, so there is one
// of each pair of types and not one of each way to move them.
//
// Roofline: the bytes read and written over the bandwidth of where they lie.
#include "copy.hpp"

#include "bit_lanes.hpp"
#include "byte_lanes.hpp"
#include "channel_runs.hpp"
#include "copy_bytes.hpp"
#include "interleave.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr std::int64_t kTile = 2048;          // elements of a tile, at most
constexpr std::int64_t kTransposed = 16;      // its rows where it is transposed: a cache line of the output
constexpr std::int64_t kInterleavedRows = 4;  // that interleave.hpp takes, at most

// --- a tile ------------------------------------------------------------------------------------

// Where the elements of a tile lie, in elements.
struct Steps {
  std::int64_t row, column;
};

using Move = void (*)(const char* from, Steps read, std::int64_t rows, std::int64_t columns, char* to, Steps write);
using Convert = void (*)(const char* from, std::int64_t count, char* to);

// False where no pair of rows and steps is one that interleave.hpp has.
template <class T>
bool interleave(const T* from, Steps read, std::int64_t rows, std::int64_t columns, T* to, Steps write) {
  if (write.column == rows) {
    if (rows == 2) return join_rows<2>(from, read.row, columns, to), true;
    if (rows == 3) return join_rows<3>(from, read.row, columns, to), true;
    if (rows == 4) return join_rows<4>(from, read.row, columns, to), true;
  }
  if (read.row == columns) {
    if (columns == 2) return part_rows<2>(from, rows, to, write.column), true;
    if (columns == 3) return part_rows<3>(from, rows, to, write.column), true;
    if (columns == 4) return part_rows<4>(from, rows, to, write.column), true;
  }
  return false;
}

template <class T>
void move_tile(const char* from_bytes, Steps read, std::int64_t rows, std::int64_t columns, char* to_bytes,
               Steps write) {
  const T* const from = reinterpret_cast<const T*>(from_bytes);
  T* const to = reinterpret_cast<T*>(to_bytes);
  constexpr std::int64_t size = sizeof(T);
  if (read.column == 1 && write.column == 1) {
    for (std::int64_t r = 0; r < rows; ++r)
      copy_bytes(from_bytes + r * read.row * size, columns * size, to_bytes + r * write.row * size);
  } else if (read.column == 1 && write.row == 1) {
    if (!interleave(from, read, rows, columns, to, write))
      transpose_block<false>(from, read.row, rows, columns, to, write.column);
  } else {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c)
        to[r * write.row + c * write.column] = from[r * read.row + c * read.column];
  }
}

Move move_of(std::int64_t bytes) {
  return bytes == 1   ? move_tile<Bits8>
         : bytes == 2 ? move_tile<Bits16>
         : bytes == 4 ? move_tile<float>
                      : move_tile<double>;
}

// --- casts -------------------------------------------------------------------------------------

template <class T>
CVPERF_INLINE Vec<float> load_number(const T* from, std::int64_t left) {
  if constexpr (sizeof(T) > 1) {
    return load_left(from, left);
  } else {
    const bool whole = left >= kLanes<float>;
    return __builtin_convertvector(whole ? widened(from) : widened_partial(from, static_cast<int>(left)), Vec<float>);
  }
}

template <class T>
CVPERF_INLINE void store_number(T* to, Vec<float> v, std::int64_t left) {
  const bool whole = left >= kLanes<float>;
  if constexpr (sizeof(T) > 1) {
    if (whole)
      store(to, v);
    else
      store_partial(to, v, static_cast<int>(left));
  } else {
    const Vec<std::int32_t> integer = __builtin_convertvector(v, Vec<std::int32_t>);
    const Bytes<T> bytes = narrowed<T>(kSigned<T> ? (integer << 24) >> 24 : integer & 0xff);
    __builtin_memcpy(to, &bytes, whole ? sizeof bytes : static_cast<std::size_t>(left));
  }
}

template <class From, class To>
void convert_run(const char* from, std::int64_t count, char* to) {
  for (std::int64_t i = 0; i < count; i += kLanes<float>) {
    const Vec<float> v = load_number(reinterpret_cast<const From*>(from) + i, count - i);
    store_number(reinterpret_cast<To*>(to) + i, v, count - i);
  }
}

template <class F>
CVPERF_INLINE auto with_number(DType dtype, F f) {
  if (dtype == DType::i8) return f(std::int8_t{});
  if (dtype == DType::u8) return f(std::uint8_t{});
  return with_float(dtype, f);
}

Convert convert_of(DType from, DType to) {
  return with_number(from, [&](auto read) {
    return with_number(to, [&](auto write) -> Convert { return convert_run<decltype(read), decltype(write)>; });
  });
}

// What a tile goes through.
struct Passes {
  Move gather, spread;
  Convert convert;  // null: there is none, and `spread` is all
  std::int64_t from_size, to_size;
};

void cast_tile(const Passes& passes, const char* from, Steps read, std::int64_t rows, std::int64_t columns, char* to,
               Steps write) {
  alignas(64) char gathered[kTile * sizeof(float)], converted[kTile * sizeof(float)];
  if (read.column != 1) {
    passes.gather(from, read, rows, columns, gathered, {columns, 1});
    from = gathered;
    read = {columns, 1};
  }
  const bool direct = write.column == 1;
  char* const target = direct ? to : converted;
  const std::int64_t pitch = (direct ? write.row : columns) * passes.to_size;
  for (std::int64_t r = 0; r < rows; ++r)
    passes.convert(from + r * read.row * passes.from_size, columns, target + r * pitch);
  if (!direct) passes.spread(converted, {columns, 1}, rows, columns, to, write);
}

// --- the tiles of a copy -----------------------------------------------------------------------

// A dimension cut into pieces of `piece`.
struct Axis {
  std::int64_t size = 1, read = 0, write = 0, piece = 1;

  std::int64_t pieces() const { return (size + piece - 1) / piece; }
};

struct Tiling {
  Axis axes[kCopyDims];  // the slowest first
  int rows, columns;     // which of them a tile has
  std::int64_t tiles = 1;
};

Tiling tiling_of(const CopyArgs& args) {
  Tiling tiling;
  // At least two, so that every tile has rows and columns; those ahead are of size 1.
  const int ahead = kCopyDims - args.dims;
  for (int i = 0; i < args.dims; ++i) tiling.axes[ahead + i] = {args.shape[i], args.read[i], args.write[i], 1};
  constexpr int last = kCopyDims - 1;
  int near = last;  // where the input has no gaps
  for (int i = 0; i < last && tiling.axes[last].read != 1; ++i)
    if (tiling.axes[i].read == 1 && tiling.axes[i].size > 1) near = i;
  tiling.columns = near;
  tiling.rows = near == last ? last - 1 : last;
  Axis &rows = tiling.axes[tiling.rows], &columns = tiling.axes[tiling.columns];
  if (near == last) {
    columns.piece = columns.size < kTile ? columns.size : kTile;
    rows.piece = kTile / columns.piece;
  } else if (columns.size <= kInterleavedRows) {
    columns.piece = columns.size;
    rows.piece = kTile / kInterleavedRows;
  } else {
    rows.piece = rows.size <= kInterleavedRows ? rows.size : kTransposed;
    columns.piece = kTile / (rows.piece < kInterleavedRows ? kInterleavedRows : rows.piece);
  }
  for (const Axis& axis : tiling.axes) tiling.tiles *= axis.pieces();
  return tiling;
}

// Tiles one after the other.
class Walk {
 public:
  Walk(const Tiling& tiling, std::int64_t tile) : tiling_(tiling) {
    for (int i = kCopyDims - 1; i >= 0; --i) {
      const std::int64_t pieces = tiling.axes[i].pieces();
      index_[i] = tile % pieces;
      tile /= pieces;
      move(i, index_[i]);
    }
  }
  void next() {
    for (int i = kCopyDims - 1; i >= 0; --i) {
      if (++index_[i] < tiling_.axes[i].pieces()) return move(i, 1);
      move(i, 1 - index_[i]);
      index_[i] = 0;
    }
  }
  std::int64_t read() const { return read_; }
  std::int64_t write() const { return write_; }
  // Of the piece of an axis that the tile has.
  std::int64_t length(int axis) const {
    const Axis& cut = tiling_.axes[axis];
    const std::int64_t left = cut.size - index_[axis] * cut.piece;
    return left < cut.piece ? left : cut.piece;
  }

 private:
  void move(int axis, std::int64_t pieces) {
    read_ += pieces * tiling_.axes[axis].piece * tiling_.axes[axis].read;
    write_ += pieces * tiling_.axes[axis].piece * tiling_.axes[axis].write;
  }

  const Tiling& tiling_;
  std::int64_t index_[kCopyDims], read_ = 0, write_ = 0;
};

}  // namespace

void copy(const CopyArgs& args) {
  std::int64_t elements = 1;
  for (int i = 0; i < args.dims; ++i) elements *= args.shape[i];
  if (elements == 0) return;
  const Tiling tiling = tiling_of(args);
  const std::int64_t from_size = size_of(args.input_dtype), to_size = size_of(args.output_dtype);
  const Passes passes{move_of(from_size), move_of(to_size),
                      args.input_dtype == args.output_dtype ? nullptr : convert_of(args.input_dtype, args.output_dtype),
                      from_size, to_size};
  const Axis &rows = tiling.axes[tiling.rows], &columns = tiling.axes[tiling.columns];
  const Steps read{rows.read, columns.read}, write{rows.write, columns.write};
  const std::int64_t threads = elements < kAloneElements ? 1 : args.num_threads;
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static) if (threads > 1)
  for (std::int64_t thread = 0; thread < threads; ++thread) {
    const std::int64_t first = tiling.tiles * thread / threads, end = tiling.tiles * (thread + 1) / threads;
    Walk walk(tiling, first);
    for (std::int64_t tile = first; tile < end; ++tile, walk.next()) {
      const char* const from = static_cast<const char*>(args.input) + walk.read() * from_size;
      char* const to = static_cast<char*>(args.output) + walk.write() * to_size;
      const std::int64_t height = walk.length(tiling.rows), width = walk.length(tiling.columns);
      if (passes.convert)
        cast_tile(passes, from, read, height, width, to, write);
      else
        passes.spread(from, read, height, width, to, write);
    }
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
