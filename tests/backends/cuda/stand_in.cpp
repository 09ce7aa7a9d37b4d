// Stands in for CUDA's driver on a machine without one: as much of it as cvperf calls. It keeps a log of the calls,
// knows which thread has a context, and finds functions by their names in the code that it was given.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

namespace {

std::string calls;
bool logging = true;
int status_of_launches = 0;
thread_local void* context = nullptr;
thread_local int capture_mode = 0;  // CU_STREAM_CAPTURE_MODE_GLOBAL

template <class... Values>
void log(const char* format, Values... values) {
  if (!logging) return;
  char line[256];
  std::snprintf(line, sizeof line, format, values...);
  calls += line;
  calls += '\n';
}

template <class T>
T at(const char* data, std::size_t offset) {
  T value;
  std::memcpy(&value, data + offset, sizeof value);
  return value;
}

enum Result { kSuccess = 0, kInvalidValue = 1, kInvalidImage = 200, kInvalidContext = 201, kNotFound = 500 };

}  // namespace

extern "C" {

const char* stand_in_calls() { return calls.c_str(); }
void stand_in_reset(bool logs) {
  calls.clear();
  logging = logs;
  status_of_launches = 0;
  context = nullptr;
}
void stand_in_refuse(int status) { status_of_launches = status; }

int cuInit(unsigned) { return kSuccess; }

int cuLibraryLoadData(void** library, const char* code, void*, void*, unsigned, void*, void*, unsigned) {
  log("load, capture mode %d", capture_mode);
  if (std::memcmp(code, "\177ELF", 4) != 0) return kInvalidImage;
  *library = const_cast<char*>(code);
  return kSuccess;
}

int cuLibraryGetKernel(void** kernel, const char* library, const char* name) {
  log("find %s", name);
  const std::string_view sections(library, at<std::uint64_t>(library, 40));  // up to their table
  const std::size_t found = sections.find(std::string(1, '\0') + name + std::string(1, '\0'));
  if (found == std::string_view::npos) return kNotFound;
  *kernel = const_cast<char*>(library) + found;
  return kSuccess;
}

int cuKernelGetFunction(void** function, void* kernel) {
  if (context == nullptr) return kInvalidContext;
  log("prepare, capture mode %d", capture_mode);
  *function = kernel;
  return kSuccess;
}

int cuKernelSetAttribute(int attribute, int value, void*, int device) {
  log("attribute %d of device %d: %d", attribute, device, value);
  return value > 232448 ? kInvalidValue : kSuccess;
}

int cuDeviceGet(int* device, int index) {
  *device = index;
  return kSuccess;
}

int cuCtxGetCurrent(void** current) {
  *current = context;
  return kSuccess;
}

int cuDevicePrimaryCtxRetain(void** retained, int device) {
  log("retain context of device %d", device);
  *retained = reinterpret_cast<void*>(0x1000 + static_cast<std::uintptr_t>(device));
  return kSuccess;
}

int cuCtxSetCurrent(void* one) {
  log("use context");
  context = one;
  return kSuccess;
}

int cuThreadExchangeStreamCaptureMode(int* mode) {
  std::swap(*mode, capture_mode);
  return kSuccess;
}

int cuGetErrorName(int status, const char** name) {
  *name = status == 701 ? "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" : status == 1 ? "CUDA_ERROR_INVALID_VALUE" : nullptr;
  return *name ? kSuccess : kInvalidValue;
}

int cuGetErrorString(int status, const char** text) {
  *text = status == 701 ? "too many resources requested for launch" : status == 1 ? "invalid argument" : nullptr;
  return *text ? kSuccess : kInvalidValue;
}

int cuLaunchKernel(void*, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, void* stream, void** parameters, void** extra) {
  if (context == nullptr) return kInvalidContext;
  if (logging) {
    log("launch %u,%u,%u of %u,%u,%u with %u bytes on stream %p, parameters %p", grid_x, grid_y, grid_z, block_x,
        block_y, block_z, shared_bytes, stream, static_cast<void*>(parameters));
    std::string hex = "arguments ";
    for (std::size_t i = 0; i < *static_cast<std::size_t*>(extra[3]); ++i) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char*>(extra[1])[i]);
      hex += digits;
    }
    calls += hex + '\n';
  }
  return status_of_launches;
}

// The types are those of cuda.h; enumerations are ints. They tell what they were given in the map itself.
int cuTensorMapEncodeTiled(char* map, int type, std::uint32_t rank, void* address, const std::uint64_t* dims,
                           const std::uint64_t* strides, const std::uint32_t* box, const std::uint32_t* steps,
                           int interleave, int swizzle, int promotion, int fill) {
  if (reinterpret_cast<std::uintptr_t>(map) % 64) return kInvalidValue;
  std::snprintf(map, 128, "tiled %d %u %p: %d %d, %d; box %u %u, steps %u %u; %d %d %d %d", type, rank, address,
                int(dims[0]), int(dims[1]), int(strides[0]), box[0], box[1], steps[0], steps[1], interleave, swizzle,
                promotion, fill);
  return rank == 2 ? kSuccess : kInvalidValue;
}

int cuTensorMapEncodeIm2col(char* map, int type, std::uint32_t rank, void* address, const std::uint64_t* dims,
                            const std::uint64_t* strides, const int* lower, const int* upper, std::uint32_t channels,
                            std::uint32_t pixels, const std::uint32_t* steps, int interleave, int swizzle,
                            int promotion, int fill) {
  if (reinterpret_cast<std::uintptr_t>(map) % 64) return kInvalidValue;
  std::snprintf(map, 128, "im2col %d %u %p: %d %d %d %d, %d; %d %d to %d %d; %u of %u, steps %u %u; %d %d %d %d", type,
                rank, address, int(dims[0]), int(dims[1]), int(dims[2]), int(dims[3]), int(strides[2]), lower[0],
                lower[1], upper[0], upper[1], channels, pixels, steps[1], steps[2], interleave, swizzle, promotion,
                fill);
  return kSuccess;
}

}  // extern "C"
