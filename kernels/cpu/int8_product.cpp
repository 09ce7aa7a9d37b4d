// The exact INT8 product behind int8_gemm and conv2d_int8.
//
// b is packed once into panels of 16 columns (int8_gemm.hpp). The output is cut into tasks, blocks of rows by
// runs of panels; a task brings its block of a into scratch that stays in L2, then walks the panels four (VNNI) at a
// time: the register tiles (int8_tile_*.hpp: the instruction set's own form) of all its rows read them from L2, so
// that b comes from memory once a task, in order, which the processor's own prefetching follows. Sums start from what
// zero points take off, so that int32 outputs are stored from the registers, and with VNNI bytes of a plain rescaling
// as well; others are finished (int8_epilogue.hpp) while they are in L1. Only a very long K is cut, the sums of a task
// then wait in scratch. With few rows (a linear layer on one image) everything but reading b is negligible, and K is
// not cut. Blocking after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.
//
// Integer sums are the same in any order, so tasks may be cut and scheduled freely.
#include "int8_product.hpp"

#include "buffer.hpp"
#include "int8_epilogue.hpp"
#include "int8_tile.hpp"
#include "thread_index.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kTileWidth = kTilePanels * static_cast<int>(kPanelColumns);
constexpr std::int64_t kSplitPanels = 32;            // in a task whose sums wait in scratch
constexpr std::int64_t kFetchedOutput = 512 * 1024;  // elements of 4 bytes: the second-level caches of two cores
constexpr std::int64_t kShortK = 64;
static_assert(kTileWidth <= kMaxTileColumns, "Columns must hold a tile");

std::int64_t ceil_div(std::int64_t x, std::int64_t y) { return (x + y - 1) / y; }

// How a product is cut into tasks, and what scratch a task needs.
struct Plan {
  bool split;                          // K is cut: sums wait in scratch
  std::int64_t block_quads;            // of K at a time
  std::int64_t a_stride;               // of rows in scratch, in elements
  std::int64_t tile_rows, row_blocks;  // of the output; blocks that they are cut into
  std::int64_t panels, runs;
  std::int64_t most_panels;             // in a task
  std::int64_t a_bytes, scratch_bytes;  // for each thread
  int threads;

  explicit Plan(const Int8Product& p) {
    const std::int64_t quads = int8_quads(p.k);
    // Blocks of even size, not a full one and a remnant.
    const std::int64_t blocks = p.m <= kTileRows ? 1 : ceil_div(quads, kBlockQuads);
    block_quads = blocks ? ceil_div(quads, blocks) : 0;
    split = blocks > 1;
    constexpr std::int64_t size = sizeof(AElement);
    a_stride = (ceil_div(block_quads * 4 * size, 64) | 1) * 64 / size;  // an odd number of cache lines
    cut(p);
    const std::int64_t rows = ceil_div(tile_rows, row_blocks) * kTileRows;
    most_panels = ceil_div(panels, runs);
    a_bytes = ceil_div((rows * a_stride + kOvershoot) * size, 64) * 64;
    const std::int64_t sums = (split ? rows * most_panels : kTileRows * kTilePanels) * kPanelColumns;
    scratch_bytes = ceil_div(a_bytes + sums * 4, 4096) * 4096;
  }

  // A task's time, in products of a register tile for each quad of K: its tiles, bringing in a, bringing in b.
  static std::int64_t cost(std::int64_t tile_rows, std::int64_t panels) {
    return tile_rows * (kTileRows * panels + kTileRows / 4) + 4 * panels;
  }

  // The cut into blocks of rows and runs of panels that is done first; a few tasks for each thread even out
  // threads that are held up, but cost a small product more than they save.
  void cut(const Int8Product& p) {
    tile_rows = ceil_div(p.m, kTileRows);
    panels = int8_panels(p.n);
    const std::int64_t block = kBlockBytes / (a_stride * static_cast<std::int64_t>(sizeof(AElement)) * kTileRows);
    const std::int64_t least_blocks = ceil_div(tile_rows, block < 4 ? 4 : block);
    const std::int64_t least_runs = split ? ceil_div(panels, kSplitPanels) : 1;
    // Few rows take the time of bringing b in, which is that of about four rows.
    const double work = double(p.m < 4 ? 4 : p.m) * double(p.k + 16) * double(p.n) * double(p.groups);
    threads = work < 2 * kWorkOfThread ? 1 : p.num_threads;
    const std::int64_t wanted = threads == 1 ? 1 : work < 64 * kWorkOfThread * threads ? threads : 4 * threads;
    const std::int64_t each = ceil_div(wanted, p.groups);  // tasks in a group
    std::int64_t best = -1;
    for (std::int64_t columns = 1; columns == 1 || columns < 2 * each; columns *= 2) {
      const std::int64_t side = columns > least_runs ? columns : least_runs;
      const std::int64_t least = ceil_div(each, side) > least_blocks ? ceil_div(each, side) : least_blocks;
      // A few blocks more may come out even among the threads.
      for (std::int64_t down = least; down < least + (threads < 8 ? threads : 8); ++down) {
        const std::int64_t height = ceil_div(tile_rows, down), width = ceil_div(panels, side);
        const std::int64_t blocks = ceil_div(tile_rows, height), sides = ceil_div(panels, width);
        const std::int64_t time = ceil_div(blocks * sides * p.groups, threads) * cost(height, width);
        if (best >= 0 && time >= best) continue;
        best = time;
        row_blocks = blocks;
        runs = sides;
      }
    }
    if (threads > tasks(p)) threads = static_cast<int>(tasks(p));
  }

  std::int64_t tasks(const Int8Product& p) const { return p.groups * row_blocks * runs; }
};

// All the rows of a task by the columns of a tile, for one block of K.
struct Block {
  std::int64_t m0, rows;
  int panels;
  std::int64_t quads;
  bool first, last;  // the sums start here; the sums are complete
  const std::int8_t* b;
  std::int32_t* sums;
  std::int64_t sums_stride;
};

// Where a tile of complete sums may be stored as it is, or null: finish() has something to do.
std::int32_t* finished(const Int8Product& p, std::int64_t m0, int width, const Columns& columns) {
  const Int8Finish& f = p.finish;
  const bool plain = f.out_dtype == DType::i32 && columns.count == width && !(f.zero_a && f.zero_a_per_row);
  return plain ? static_cast<std::int32_t*>(f.out) + m0 * p.groups * p.n + columns.first : nullptr;
}

void run_panels(const Int8Product& p, const Plan& plan, const Block& block, const Rows& a, const Columns& columns) {
  const int width = block.panels * static_cast<int>(kPanelColumns);
  Tile tile{};
  tile.a_stride = a.stride;
  tile.b = block.b;
  tile.panel_stride = int8_quads(p.k) * kQuadBytes;
  tile.quads = block.quads;
  const std::int64_t pitch = p.groups * p.n;
  // Stores to an output that the caches cannot hold would wait for its lines.
  const bool wide = p.finish.out_dtype == DType::i32 || p.finish.out_dtype == DType::f32;
  const bool fetch = block.last && wide && p.m * pitch > kFetchedOutput;
  if (block.last && columns.count == width) tile.quantise = quantised(p, columns);  // whole panels
  std::uint8_t* const bytes = tile.quantise.out;
  const std::uint8_t* const residual = tile.quantise.residual;
  // Tiles of even height, not full ones and a remnant.
  const std::int64_t tiles = ceil_div(block.rows, kTileRows);
  for (std::int64_t t = 0; t < tiles; ++t) {
    const std::int64_t r = block.rows * t / tiles;
    const int height = static_cast<int>(block.rows * (t + 1) / tiles - r);
    std::int32_t* const sums = plan.split ? block.sums + r * block.sums_stride : block.sums;
    std::int32_t* const direct = block.last ? finished(p, block.m0 + r, width, columns) : nullptr;
    tile.a = a.data + r * a.stride;
    tile.init = block.first ? reinterpret_cast<const std::int32_t*>(columns.start) : sums;
    tile.init_stride = block.first ? 0 : block.sums_stride;
    tile.out = direct ? direct : sums;
    tile.out_stride = direct ? pitch : block.sums_stride;
    tile.target =
        fetch ? static_cast<const std::int32_t*>(p.finish.out) + (block.m0 + r) * pitch + columns.first : nullptr;
    tile.target_stride = pitch;
    if (bytes) tile.quantise.out = bytes + (block.m0 + r) * pitch;
    if (residual) tile.quantise.residual = residual + (block.m0 + r) * pitch;
    compute(height, block.panels, tile);
    if (block.last && !direct && !bytes) finish(p, block.m0 + r, height, columns, sums, block.sums_stride);
  }
}

// Rows m0 .. m0 + rows, panels p0 .. p1 of a group's output.
void run_task(const Int8Product& p, const Plan& plan, std::int64_t group, std::int64_t m0, std::int64_t rows,
              std::int64_t p0, std::int64_t p1, char* scratch) {
  const std::int64_t quads = int8_quads(p.k), panel_stride = quads * kQuadBytes;
  const std::int8_t* packed = reinterpret_cast<const std::int8_t*>(p.packed) + group * packed_int8_bytes(p.k, p.n);
  std::int32_t* const sums = reinterpret_cast<std::int32_t*>(scratch + plan.a_bytes);
  const std::int64_t stride = plan.split ? plan.most_panels * kPanelColumns : kTileWidth;
  const std::int64_t tiles = ceil_div(p1 - p0, kTilePanels);
  Columns columns;

  std::int64_t q0 = 0;
  do {
    const std::int64_t count = plan.block_quads < quads - q0 ? plan.block_quads : quads - q0;
    const bool last = q0 + count == quads;
    const std::int64_t k_left = p.k - q0 * 4;
    const Rows a = p.load(p.source, group, m0, rows, q0 * 4, k_left < count * 4 ? k_left : count * 4,
                          reinterpret_cast<AElement*>(scratch), plan.a_stride);
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t from = p0 + (p1 - p0) * t / tiles, to = p0 + (p1 - p0) * (t + 1) / tiles;
      const int panels = static_cast<int>(to - from);
      const std::int8_t* b = packed + from * panel_stride + q0 * kQuadBytes;
      if (q0 == 0 || last) load_columns(p, group, from * kPanelColumns, panels * kPanelColumns, columns);
      Block block{m0, rows, panels, count, q0 == 0, last, b, sums, stride};
      if (plan.split) block.sums += (from - p0) * kPanelColumns;
      run_panels(p, plan, block, a, columns);
    }
    q0 += count;
  } while (q0 < quads);
}

}  // namespace

void multiply(const Int8Product& p) {
  if (p.m == 0 || p.n == 0) return;
  const Plan plan(p);
  const std::int64_t tasks = plan.tasks(p), in_group = plan.row_blocks * plan.runs;
  Buffer<char> scratch(static_cast<std::size_t>(plan.scratch_bytes) * static_cast<std::size_t>(plan.threads));
  // Where K is short most of the work is to write the output, and each thread takes its tasks in one run: then it
  // mostly meets lines that it has in its own cache from the call before, or leaves for its part of the next layer.
  const int grain = p.k <= kShortK ? static_cast<int>(ceil_div(tasks, plan.threads)) : 1;
#pragma omp parallel for schedule(dynamic, grain) num_threads(plan.threads) if (plan.threads > 1)
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t block = task % in_group / plan.runs, run = task % plan.runs;
    const std::int64_t m0 = plan.tile_rows * block / plan.row_blocks * kTileRows;
    const std::int64_t m1 = plan.tile_rows * (block + 1) / plan.row_blocks * kTileRows;
    run_task(p, plan, task / in_group, m0, (m1 < p.m ? m1 : p.m) - m0, plan.panels * run / plan.runs,
             plan.panels * (run + 1) / plan.runs, scratch.data() + thread_index() * plan.scratch_bytes);
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
