// INT8 matrix product: int8 or uint8 a times packed int8 b, exact in int32, finished in the same pass.
//
// b is packed once into panels of 16 columns (int8_gemm.hpp). The output is cut into tasks, blocks of rows by
// runs of panels; a task widens its block of a into scratch that stays in L2, then walks the panels: for
// each, it multiplies all its row tiles (int8_tile_*.hpp: the instruction set's own form) while the panel is
// in L1, and finishes each tile (int8_epilogue.hpp) while its accumulators are. Long K is cut into blocks,
// the accumulators of a task then wait in scratch. With few rows (a linear layer on one image) everything
// but reading b once is negligible: K is not cut, and each panel is read from memory in order.
// Blocking after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.
//
// Integer sums are the same in any order, so tasks may be cut and scheduled freely.
#include "int8_gemm.hpp"

#include "buffer.hpp"
#include "int8_epilogue.hpp"
#if defined(__AVX512VNNI__) || defined(CVPERF_EMULATE_VNNI)
#include "int8_tile_vnni.hpp"
#else
#include "int8_tile_madd.hpp"
#endif

#if defined(_OPENMP)
extern "C" int omp_get_thread_num();
#endif

namespace cvperf {
namespace CVPERF_ISA {
namespace {

constexpr int kTileWidth = kTilePanels * static_cast<int>(kPanelColumns);
static_assert(kTileWidth <= kMaxTileColumns, "Columns must hold a tile");

int thread_index() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

std::int64_t ceil_div(std::int64_t x, std::int64_t y) { return (x + y - 1) / y; }

// How a call is cut into tasks, and what scratch a task needs.
struct Plan {
  bool split;                // K is cut: accumulators wait in scratch
  std::int64_t block_quads;  // of K at a time
  std::int64_t a_stride;     // of the widened rows, in elements
  std::int64_t block_rows, row_blocks;
  std::int64_t run_panels, runs;        // panels in a task; tasks side by side
  std::int64_t a_bytes, scratch_bytes;  // for each thread

  explicit Plan(const Int8GemmArgs& args) {
    const std::int64_t quads = int8_quads(args.k), panels = int8_panels(args.n);
    // Blocks of even size, not a full one and a remnant.
    const std::int64_t blocks = args.m <= 2 * kTileRows ? 1 : ceil_div(quads, kBlockQuads);
    block_quads = blocks ? ceil_div(quads, blocks) : 0;
    split = blocks > 1;
    a_stride = ceil_div(block_quads * 4, 32) * 32 + 32;  // an odd number of cache lines apart

    row_blocks = ceil_div(args.m, kBlockRows);
    // Dynamic scheduling evens out threads if there are a few tasks for each; tiny calls want few.
    const double work = double(args.m) * double(args.k) * double(args.n);
    const std::int64_t wanted = args.num_threads == 1 ? 1 : work < 4e6 ? args.num_threads : 4 * args.num_threads;
    runs = split ? ceil_div(panels, 32) : 1;
    if (row_blocks * runs < wanted && args.m > 64 * args.num_threads) row_blocks = ceil_div(wanted, runs);
    block_rows = ceil_div(ceil_div(args.m, row_blocks), kTileRows) * kTileRows;
    row_blocks = ceil_div(args.m, block_rows);
    if (row_blocks * runs < wanted) runs = ceil_div(wanted, row_blocks);
    run_panels = ceil_div(ceil_div(panels, runs), kTilePanels) * kTilePanels;
    runs = ceil_div(panels, run_panels);

    const std::int64_t rows = block_rows < args.m ? block_rows : args.m;
    a_bytes = ceil_div(rows * a_stride * static_cast<std::int64_t>(sizeof(AElement)), 64) * 64;
    const std::int64_t acc_bytes = (split ? rows * run_panels : kTileRows * kTilePanels) * kPanelColumns * 4;
    scratch_bytes = ceil_div(a_bytes + acc_bytes, 4096) * 4096;
  }
};

void widen_rows(const Int8GemmArgs& args, std::int64_t m0, std::int64_t rows, std::int64_t k0, std::int64_t count,
                AElement* out, std::int64_t out_stride) {
  const std::int64_t offset = m0 * args.a_stride + k0;
  if (args.a_dtype == DType::u8)
    widen_a(static_cast<const std::uint8_t*>(args.a) + offset, args.a_stride, rows, count, out, out_stride);
  else
    widen_a(static_cast<const std::int8_t*>(args.a) + offset, args.a_stride, rows, count, out, out_stride);
}

// All the rows of a task by the columns of a tile, for one block of K.
struct Block {
  std::int64_t m0, rows, panel;
  int panels;
  std::int64_t quads;
  bool add, last;  // to what the blocks before left in acc; the sums are complete
  std::int32_t* acc;
  std::int64_t acc_stride;
};

void run_panels(const Int8GemmArgs& args, const Plan& plan, const Block& block, const AElement* a, const std::int8_t* b,
                const Columns& columns) {
  const int shift = args.a_dtype == DType::i8 ? kShift : 0;
  const std::int64_t panel_stride = int8_quads(args.k) * kQuadBytes;
  for (std::int64_t r = 0; r < block.rows; r += kTileRows) {
    const int height = block.rows - r < kTileRows ? static_cast<int>(block.rows - r) : kTileRows;
    std::int32_t* acc = plan.split ? block.acc + r * block.acc_stride : block.acc;
    compute(height, block.panels, block.add, a + r * plan.a_stride, plan.a_stride, b, panel_stride, block.quads, acc,
            block.acc_stride);
    if (block.last)
      finish(args, block.m0 + r, height, block.panel * kPanelColumns, columns, shift, acc, block.acc_stride);
  }
}

// Rows m0 .. m0 + rows, panels p0 .. p1 of the output.
void run_task(const Int8GemmArgs& args, const Plan& plan, std::int64_t m0, std::int64_t rows, std::int64_t p0,
              std::int64_t p1, char* scratch) {
  const std::int64_t quads = int8_quads(args.k), panel_stride = quads * kQuadBytes;
  AElement* a = reinterpret_cast<AElement*>(scratch);
  std::int32_t* acc = reinterpret_cast<std::int32_t*>(scratch + plan.a_bytes);
  const std::int64_t acc_stride = plan.split ? plan.run_panels * kPanelColumns : kTileWidth;
  Columns columns;

  std::int64_t q0 = 0;
  do {
    const std::int64_t count = plan.block_quads < quads - q0 ? plan.block_quads : quads - q0;
    const bool last = q0 + count == quads;
    const std::int64_t k_left = args.k - q0 * 4;
    widen_rows(args, m0, rows, q0 * 4, k_left < count * 4 ? k_left : count * 4, a, plan.a_stride);
    for (std::int64_t p = p0; p < p1; p += kTilePanels) {
      const int panels = p1 - p < kTilePanels ? static_cast<int>(p1 - p) : kTilePanels;
      const std::int8_t* b = reinterpret_cast<const std::int8_t*>(args.packed) + p * panel_stride + q0 * kQuadBytes;
      if (last) load_columns(args, p * kPanelColumns, panels * kPanelColumns, columns);
      Block block{m0, rows, p, panels, count, q0 > 0, last, acc, acc_stride};
      if (plan.split) block.acc += (p - p0) * kPanelColumns;
      run_panels(args, plan, block, a, b, columns);
    }
    q0 += count;
  } while (q0 < quads);
}

}  // namespace

void int8_gemm(const Int8GemmArgs& args) {
  if (args.m == 0 || args.n == 0) return;
  const Plan plan(args);
  const std::int64_t tasks = plan.row_blocks * plan.runs, panels = int8_panels(args.n);
  const int threads = tasks < args.num_threads ? static_cast<int>(tasks) : args.num_threads;
  const bool parallel = threads > 1 && double(args.m) * double(args.k + 16) * double(args.n) > 1e5;
  Buffer<char> scratch(static_cast<std::size_t>(plan.scratch_bytes) * static_cast<std::size_t>(parallel ? threads : 1));
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (parallel)
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t m0 = task / plan.runs * plan.block_rows, p0 = task % plan.runs * plan.run_panels;
    const std::int64_t rows = args.m - m0 < plan.block_rows ? args.m - m0 : plan.block_rows;
    const std::int64_t p1 = p0 + plan.run_panels < panels ? p0 + plan.run_panels : panels;
    run_task(args, plan, m0, rows, p0, p1, scratch.data() + thread_index() * plan.scratch_bytes);
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
