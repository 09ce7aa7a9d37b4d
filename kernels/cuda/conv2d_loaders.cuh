// What the main loop (mainloop.cuh) loads for a convolution: pixels that windows gather, filters, taps.
//
// Nothing is unfolded in memory. A thread has one column of VECTOR numbers of every tile and a few of its rows: where a
// row's window begins, and the row and column of that pixel, stay in registers; the column's tap and channel are walked
// along K. A pixel outside the image is a copy of zeros (cp.async's own), about 8 integer operations for each copy.
#pragma once
#include "divide.cuh"
#include "mainloop.cuh"

namespace gpu {

/// A gather: row r of the product is a window over an image [images, height, width, pitch], channels last.
struct Gather {
  int rows, rows_h, rows_w;  // of the product: images * rows_h * rows_w
  int step_h, step_w;        // pixels from a row's window to the next one's
  int first_h, first_w;      // where the first window begins; may lie outside
  int height, width, pitch;
  int taps_h, taps_w;  // of the window
  int tap_h, tap_w;    // pixels from tap to tap, also negative
  int run, channels;   // K from tap to tap, and how much of it are channels
};

/// Copy VECTOR numbers to a tile without waiting.
template <class T, int VECTOR>
__device__ __forceinline__ void copy_vector(unsigned char* to, const T* from, bool valid) {
  copy_async<VECTOR* static_cast<int>(sizeof(T))>(to, from, valid);
}

/// How THREADS threads share a tile of rows of ROW numbers: a column of VECTOR each, and every PASS-th row.
template <class T, int VECTOR, int ROW, int THREADS>
struct Share {
  static constexpr int ROW_BYTES = ROW * static_cast<int>(sizeof(T)), COLUMNS = ROW / VECTOR, PASS = THREADS / COLUMNS;
  static_assert(THREADS % COLUMNS == 0 && PASS % 8 == 0, "a thread's rows must be turned alike");

  int row, column;  // its first row; its first number of every row
  int target;       // byte of them in the tile

  __device__ __forceinline__ Share() : row(threadIdx.x / COLUMNS), column(threadIdx.x % COLUMNS * VECTOR) {
    const int byte = column * static_cast<int>(sizeof(T));
    target = swizzled<ROW_BYTES>(row, byte / 16) + byte % 16;
  }
};

/// Rows of windows, [ROWS][BK]: K runs over taps and, within a tap, over channels.
template <class T, int VECTOR, int ROWS, int BK, int THREADS>
struct Windows : Share<T, VECTOR, BK, THREADS> {
  using S = Share<T, VECTOR, BK, THREADS>;
  static constexpr int EACH = ROWS / S::PASS;
  static_assert(ROWS % S::PASS == 0, "every thread has as many rows");

  const T* image;
  int at[EACH];  // the window's first pixel, counted in VECTORs: 32 bits reach through 16 GiB
  int top[EACH], left[EACH];
  Gather gather;
  int channel, tap_h, tap_w;
  unsigned fill;  // 8 bits: four times the number that stands for zero

  __device__ __forceinline__ Windows(const T* image, const Gather& gather, int first_row, int first_step, int fill)
      : image(image), gather(gather), fill(0x01010101u * (fill & 255)) {
    const Divisor across(gather.rows_w), down(gather.rows_h);
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
      const int r = first_row + this->row + i * S::PASS;
      int x, y;
      const int which = down.divide(across.divide(min(r, gather.rows - 1), x), y);
      top[i] = y * gather.step_h + gather.first_h;
      left[i] = x * gather.step_w + gather.first_w;
      at[i] = ((which * gather.height + top[i]) * gather.width + left[i]) * (gather.pitch / VECTOR);
      if (r >= gather.rows) top[i] = -(1 << 30);  // outside, whatever the tap
    }
    this->gather.pitch /= VECTOR;
    const int k = first_step * BK + this->column, tap = k / gather.run;
    channel = k - tap * gather.run;
    tap_h = tap / gather.taps_w;
    tap_w = tap - tap_h * gather.taps_w;
  }

  __device__ __forceinline__ void operator()(unsigned char* tile, int) {
    const int down = tap_h * gather.tap_h, across = tap_w * gather.tap_w;
    const int offset = (down * gather.width + across) * gather.pitch + channel / VECTOR;
    const bool is_term = tap_h < gather.taps_h && channel < gather.channels;
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
      const bool valid = is_term && static_cast<unsigned>(top[i] + down) < static_cast<unsigned>(gather.height) &&
                         static_cast<unsigned>(left[i] + across) < static_cast<unsigned>(gather.width);
      unsigned char* to = tile + this->target + i * S::PASS * S::ROW_BYTES;
      if (sizeof(T) == 1 && fill && !valid) {
#pragma unroll
        for (int word = 0; word < VECTOR; word += 4) *reinterpret_cast<unsigned*>(to + word) = fill;
      } else {
        copy_vector<T, VECTOR>(to, image + static_cast<long long>(at[i] + offset) * VECTOR, valid);
      }
    }
    channel += BK;
    if (channel >= gather.run) {
      const int taps = gather.run >= BK ? 1 : channel / gather.run;
      channel -= taps * gather.run;
      tap_w += taps;
      while (tap_w >= gather.taps_w) {
        tap_w -= gather.taps_w;
        ++tap_h;
      }
    }
  }
};

/// Rows of a matrix[rows, K] as Rows of mainloop.cuh, in copies of VECTOR numbers.
template <class T, int VECTOR, int ROWS, int BK, int THREADS>
struct Filters : Share<T, VECTOR, BK, THREADS> {
  using S = Share<T, VECTOR, BK, THREADS>;
  static_assert(ROWS % S::PASS == 0, "every thread has as many rows");

  const T* at;
  long long pass;
  int left, k;

  __device__ __forceinline__ Filters(const T* matrix, int pitch, int first_row, int rows, int k)
      : at(matrix + static_cast<long long>(first_row + this->row) * pitch + this->column),
        pass(static_cast<long long>(S::PASS) * pitch),
        left(rows - first_row - this->row),
        k(k - this->column) {}

  __device__ __forceinline__ void operator()(unsigned char* tile, int step) const {
    const bool is_term = step * BK < k;
#pragma unroll
    for (int i = 0; i < ROWS / S::PASS; ++i)
      copy_vector<T, VECTOR>(tile + this->target + i * S::PASS * S::ROW_BYTES, at + step * BK + i * pass,
                             is_term && i * S::PASS < left);
  }
};

/// Taps of filters, [BK][COLUMNS]: rows of the tile are filters of a tap (then of the next), columns its channels.
template <class T, int VECTOR, int COLUMNS, int BK, int THREADS>
struct TapsOfFilters : Share<T, VECTOR, COLUMNS, THREADS> {
  using S = Share<T, VECTOR, COLUMNS, THREADS>;
  static_assert(BK % S::PASS == 0, "every thread has as many rows");

  const T* at;               // this thread's number of the window's first tap, in its first filter
  const T* from;             // and of this step's tap and filter
  long long pass;            // numbers from one of its rows to the next
  int left;                  // filters from its first row in this step on; below 1 if its column is none
  int filters, run, taps_w;  // of a tap; K from tap to tap; taps of a line
  int line, beside, step;    // numbers from tap to tap, and from step to step
  int done, tap_h, tap_w;    // K of the tap before this step

  /// `weight` is at the window's first tap and the group's first filter, a filter has `pitch` numbers.
  __device__ __forceinline__ TapsOfFilters(const T* weight, int pitch, int line, int beside, int filters, int run,
                                           int taps_w, int first_column, int columns, int first_step)
      : pass(static_cast<long long>(S::PASS) * pitch),
        filters(first_column + this->column < columns ? filters - this->row : 0),
        run(run),
        taps_w(taps_w),
        line(line),
        beside(beside),
        step(BK * pitch) {
    at = weight + static_cast<long long>(this->row) * pitch + first_column + this->column;
    const int tap = first_step * BK / run;
    done = first_step * BK - tap * run;
    tap_h = tap / taps_w;
    tap_w = tap - tap_h * taps_w;
    left = this->filters - done;
    from = at + tap_h * line + tap_w * beside + static_cast<long long>(done / BK) * step;
  }

  __device__ __forceinline__ void operator()(unsigned char* tile, int) {
#pragma unroll
    for (int i = 0; i < BK / S::PASS; ++i)
      copy_vector<T, VECTOR>(tile + this->target + i * S::PASS * S::ROW_BYTES, from + i * pass, i * S::PASS < left);
    from += step;
    left -= BK;
    done += BK;
    if (done == run) {
      done = 0;
      left = filters;
      if (++tap_w == taps_w) {
        tap_w = 0;
        ++tap_h;
      }
      from = at + tap_h * line + tap_w * beside;
    }
  }
};

/// Pixels of a gradient, [BK][COLUMNS]: rows of the tile are pixels, columns filters.
template <class T, int VECTOR, int COLUMNS, int BK, int THREADS>
struct Pixels : Share<T, VECTOR, COLUMNS, THREADS> {
  using S = Share<T, VECTOR, COLUMNS, THREADS>;
  static_assert(BK % S::PASS == 0, "every thread has as many rows");

  const T* at;
  int pixels, pitch;
  bool is_column;

  __device__ __forceinline__ Pixels(const T* grad, int pitch, int pixels, int first_column, int columns)
      : pixels(pixels - this->row), pitch(pitch) {
    at = grad + static_cast<long long>(this->row) * pitch + first_column + this->column;
    is_column = first_column + this->column < columns;
  }

  __device__ __forceinline__ void operator()(unsigned char* tile, int step) const {
    const T* from = at + static_cast<long long>(step) * BK * pitch;
#pragma unroll
    for (int i = 0; i < BK / S::PASS; ++i)
      copy_vector<T, VECTOR>(tile + this->target + i * S::PASS * S::ROW_BYTES,
                             from + static_cast<long long>(i * S::PASS) * pitch,
                             is_column && step * BK + i * S::PASS < pixels);
  }
};

/// What those pixels were computed from, [BK][COLUMNS]: rows are windows, columns the channels of all their taps.
template <class T, int VECTOR, int COLUMNS, int BK, int THREADS>
struct WindowsOfPixels : Share<T, VECTOR, COLUMNS, THREADS> {
  using S = Share<T, VECTOR, COLUMNS, THREADS>;
  static_assert(BK % S::PASS == 0, "every thread has as many rows");

  const T* image;
  Gather gather;
  Divisor across, down;
  int top, left;  // of this thread's tap in the first window
  bool is_column;

  __device__ __forceinline__ WindowsOfPixels(const T* image, const Gather& gather, int first_column)
      : gather(gather), across(gather.rows_w), down(gather.rows_h) {
    const int k = first_column + this->column, tap = k / gather.channels;
    const int tap_h = tap / gather.taps_w, tap_w = tap - tap_h * gather.taps_w;
    is_column = tap_h < gather.taps_h;
    top = gather.first_h + tap_h * gather.tap_h;
    left = gather.first_w + tap_w * gather.tap_w;
    this->image = image + (k - tap * gather.channels);
  }

  __device__ __forceinline__ void operator()(unsigned char* tile, int step) const {
#pragma unroll
    for (int i = 0; i < BK / S::PASS; ++i) {
      const int r = step * BK + this->row + i * S::PASS;
      int x, y;
      const int which = down.divide(across.divide(r, x), y);
      x = x * gather.step_w + left;
      y = y * gather.step_h + top;
      const bool valid = is_column && r < gather.rows &&
                         static_cast<unsigned>(x) < static_cast<unsigned>(gather.width) &&
                         static_cast<unsigned>(y) < static_cast<unsigned>(gather.height);
      const long long line = static_cast<long long>(which) * gather.height + y;
      copy_vector<T, VECTOR>(tile + this->target + i * S::PASS * S::ROW_BYTES,
                             image + (line * gather.width + x) * gather.pitch, valid);
    }
  }
};

}  // namespace gpu
